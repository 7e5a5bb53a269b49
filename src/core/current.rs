//! What this thread is running, and what a task can ask about itself.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::head::{Execution, Head, Host};
use crate::queue::Job;
use crate::sync::{self, Ordering};

sync::thread_local! {
    /// Of which bulkhead, by serial number, this thread is the worker of which index: for its whole life. It has no
    /// destructor, so it can be asked in those of other thread-local values.
    static WORKER_OF: Cell<(u64, usize)> = Cell::new((NOBODY, 0));

    /// Of which bulkhead this thread, which is no worker, holds a place while user code runs.
    static HOLDING: Cell<u64> = Cell::new(NOBODY);

    /// The call whose turn it is on this thread, a worker. It stays borrowed during the turn.
    static TURN: RefCell<Option<Arc<dyn Job>>> = RefCell::new(None);

    /// The calls that run on top of that, or in a caller's own thread. Without a destructor, as above.
    static ON_TOP: OnTop = OnTop::default();

    /// The bulkhead of the innermost visit, or of the last: so that a call which follows another has nothing to count.
    static HOST: RefCell<Option<(u64, Weak<dyn Host>)>> = RefCell::new(None);
}

/// Calls of which each is waited for by the one before it.
#[derive(Default)]
struct OnTop {
    /// The last, if its caller runs it; apart, since most have no other beneath.
    visit: Cell<Visit>,
    /// All others. It has memory only while there are some, so it needs no destructor.
    others: RefCell<ManuallyDrop<Vec<Other>>>,
}

/// A call that its caller runs: in this seat of this bulkhead. `serial` is `NOBODY` if there is none.
#[derive(Clone, Copy, Default)]
struct Visit {
    serial: u64,
    seat: usize,
}

enum Other {
    Visit(Visit),
    /// A worker runs it for itself.
    Helped(Arc<dyn Job>),
}

impl OnTop {
    fn push(&self, other: Other) {
        self.others.borrow_mut().push(other);
    }

    fn pop(&self) {
        let mut others = self.others.borrow_mut();
        let last = others.pop();
        if others.is_empty() {
            **others = Vec::new();
        }
        drop(others);
        drop(last);
    }

    /// The first answer, from the innermost outwards.
    fn find_map<R>(
        &self,
        of_visit: impl Fn(Visit) -> Option<R>,
        of_helped: impl Fn(&Arc<dyn Job>) -> Option<R>,
    ) -> Option<R> {
        of_visit(self.visit.get()).or_else(|| {
            let others = self.others.borrow();
            others.iter().rev().find_map(|other| match other {
                Other::Visit(visit) => of_visit(*visit),
                Other::Helped(job) => of_helped(job),
            })
        })
    }
}

impl Visit {
    fn as_execution(self) -> Option<Arc<dyn Execution>> {
        if self.serial == NOBODY {
            return None;
        }
        let host = HOST.try_with(|host| match &*host.borrow() {
            Some((of, host)) if *of == self.serial => host.upgrade(),
            _ => None,
        });
        let host = host.ok()??;
        let head = Head::of_running(host.innermost(self.seat)?);
        Some(Arc::new(Visiting { head, host }))
    }
}

/// A call that runs in its caller's thread, for the task that asks.
struct Visiting {
    head: Head,
    host: Arc<dyn Host>,
}

impl Execution for Visiting {
    fn head(&self) -> &Head {
        &self.head
    }

    fn host(&self) -> &dyn Host {
        &*self.host
    }
}

/// Gives a call its turn on this thread, a worker. As [`Job::take_turn`].
pub(crate) fn give_turn(
    job: Arc<dyn Job>,
    worker: usize,
    just_now: Option<Instant>,
) -> Option<Instant> {
    TURN.with(|turn| {
        *turn.borrow_mut() = Some(job);
        let just_now = match &*turn.borrow() {
            Some(job) => job.take_turn(worker, just_now),
            None => None,
        };
        let over = turn.borrow_mut().take();
        drop(over);
        just_now
    })
}

/// Runs `body`, which runs `job`, on top of the call that this thread is running. `body` must not panic.
pub(crate) fn while_helping<R>(job: Arc<dyn Job>, body: impl FnOnce() -> R) -> R {
    while_last(Visit::default(), || {
        ON_TOP.with(|on_top| on_top.push(Other::Helped(job)));
        let value = body();
        ON_TOP.with(OnTop::pop);
        value
    })
}

/// Runs `body`, which runs a call of the bulkhead `serial` in its seat `seat` and in its caller's thread. `body` must not
/// panic.
#[inline(always)]
pub(crate) fn while_visiting<H: Host + 'static, R>(
    serial: u64,
    host: &Arc<H>,
    seat: usize,
    body: impl FnOnce() -> R,
) -> R {
    let before = HOST.try_with(|known| {
        let mut known = known.borrow_mut();
        if matches!(&*known, Some((known, _)) if *known == serial) {
            return None;
        }
        let host = Arc::downgrade(host) as Weak<dyn Host>;
        known.replace((serial, host))
    });
    let value = while_last(Visit { serial, seat }, body);
    if let Ok(Some(before)) = before {
        end_of_visit(before);
    }
    value
}

/// The bulkhead of a visit that is over stays known for the next one, which is most likely to the same. Only if a visit
/// around this one needs it, what was known `before` comes back.
#[cold]
fn end_of_visit(before: (u64, Weak<dyn Host>)) {
    if visited_seat(before.0).is_some() {
        let _ = HOST.try_with(|known| known.replace(Some(before)));
    }
}

/// Runs `body` with this as the last visit, or without one.
#[inline(always)]
fn while_last<R>(visit: Visit, body: impl FnOnce() -> R) -> R {
    let before = ON_TOP.with(|on_top| on_top.visit.replace(visit));
    if before.serial != NOBODY {
        ON_TOP.with(|on_top| on_top.push(Other::Visit(before)));
    }
    let value = body();
    if before.serial != NOBODY {
        ON_TOP.with(OnTop::pop);
    }
    ON_TOP.with(|on_top| on_top.visit.set(before));
    value
}

/// In which seat of the bulkhead `serial` this thread runs a call of its own.
#[inline]
pub(crate) fn visited_seat(serial: u64) -> Option<usize> {
    let of_visit = |visit: Visit| (visit.serial == serial).then_some(visit.seat);
    ON_TOP.with(|on_top| on_top.find_map(of_visit, |_| None))
}

/// A call that is being dropped, or whose outcome is out, does not run.
fn running(job: &Arc<dyn Job>) -> Option<Arc<dyn Execution>> {
    job.is_running().then(|| Arc::clone(job).as_execution())
}

/// The innermost call that runs on this thread.
fn innermost() -> Option<Arc<dyn Execution>> {
    let on_top = ON_TOP.with(|on_top| on_top.find_map(Visit::as_execution, running));
    let in_turn = || TURN.try_with(|turn| turn.borrow().as_ref().and_then(running));
    on_top.or_else(|| in_turn().ok()?)
}

/// No bulkhead has this serial number.
const NOBODY: u64 = 0;

/// Nor this one: places of more than one bulkhead are held, and so perhaps of the one that asks.
const SEVERAL: u64 = u64::MAX;

/// Identifies a bulkhead among all that this process will ever have.
pub(crate) fn next_serial() -> u64 {
    // Not from `sync`: it only tells bulkheads apart, and loom has no statics.
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(NOBODY);
    LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
}

/// Makes this thread the worker `index` of the bulkhead `serial`.
pub(crate) fn sit_down(serial: u64, index: usize) {
    WORKER_OF.with(|worker| worker.set((serial, index)));
}

/// This thread, as seen from one bulkhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThisThread {
    /// It may wait for anything.
    Outsider,
    /// Its worker of that index.
    Worker(usize),
    /// Runs one of its calls, as that call's caller.
    Visitor,
    /// Neither of these, but about to submit a call, whose place it holds while user code runs: to wait for the
    /// bulkhead would be to wait for itself.
    Holding,
}

/// What this thread is to the bulkhead `serial`.
pub(crate) fn this_thread(serial: u64) -> ThisThread {
    let (of, index) = WORKER_OF.with(Cell::get);
    if of == serial {
        return ThisThread::Worker(index);
    }
    if visited_seat(serial).is_some() {
        return ThisThread::Visitor;
    }
    match HOLDING.with(Cell::get) {
        held if held == serial || held == SEVERAL => ThisThread::Holding,
        _ => ThisThread::Outsider,
    }
}

/// Runs user code in a thread that holds a place of the bulkhead `serial`. `body` must not panic.
pub(crate) fn while_holding_a_place<R>(serial: u64, body: impl FnOnce() -> R) -> R {
    let before = HOLDING.with(Cell::get);
    let held = if before == NOBODY || before == serial {
        serial
    } else {
        SEVERAL
    };
    HOLDING.with(|holding| holding.set(held));
    let value = body();
    HOLDING.with(|holding| holding.set(before));
    value
}

/// The call that this thread is running, asked from inside its task; `None` on any other thread. Of calls inside each
/// other in one thread it is the innermost, with its own limit.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("export"))?;
/// let result = bulkhead.execute_with_timeout(Duration::from_secs(5), || {
///     for row in 0..1_000 {
///         if bulkman::current().is_some_and(|call| call.is_cancelled()) {
///             return Err(format!("stopped at row {row}"));
///         }
///     }
///     Ok("done")
/// });
/// assert_eq!(result.value(), Some(&"done"));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use]
pub fn current() -> Option<CurrentExecution> {
    innermost().map(|call| CurrentExecution { call })
}

/// The name of the bulkhead whose task this thread runs, looked up when it is written.
pub(crate) struct ThisBulkhead;

impl fmt::Display for ThisBulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            current()
                .as_ref()
                .map_or("", CurrentExecution::bulkhead_name),
        )
    }
}

/// A running task's view of its own call, from [`current`].
///
/// It can be cloned and sent to threads that the task starts itself.
#[derive(Clone)]
pub struct CurrentExecution {
    call: Arc<dyn Execution>,
}

impl CurrentExecution {
    /// Whether nobody wants the result any more: the handle's `cancel` was called while the task was
    /// already running, or the caller's time limit is over, whether or not a caller waits at that moment.
    /// The task decides what to do about it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // ORDERING: Acquire, so that a task which sees the flag also sees what its caller did before.
        self.call.head().cancel_requested.load(Ordering::Acquire)
            || self.remaining() == Some(Duration::ZERO)
    }

    /// Whether the bulkhead takes no new calls any more. The task may go on; its outcome is delivered.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.call.host().is_closed()
    }

    /// When the caller stops waiting; `None`: it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.call.head().deadline()
    }

    /// How long the caller goes on waiting; zero once that is over, `None`: for ever. A good timeout for
    /// what the task calls itself.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        Some(
            self.deadline()?
                .saturating_duration_since(self.call.host().now()),
        )
    }

    /// The id that the call's result will carry.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.call.head().execution_id
    }

    /// The name of the bulkhead that runs the task.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        self.call.host().name()
    }

    /// What the caller named with [`Call::operation`](crate::Call::operation).
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.call.head().operation.as_deref()
    }
}

impl fmt::Debug for CurrentExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentExecution")
            .field("bulkhead_name", &self.bulkhead_name())
            .field("execution_id", &self.execution_id())
            .field("operation", &self.operation())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

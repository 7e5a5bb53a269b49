//! Which calls this thread runs, of which bulkhead it is a worker, and of which it holds a place.
//!
//! A thread can run several calls inside each other, of which each waits for the next:
//!
//! | call | kept in | read by |
//! |---|---|---|
//! | a worker's own, taken from the queue | `WORKER_JOB` | the task, through [`innermost`] |
//! | on top of it, since the worker waits for it | `CALLS`, as `Frame::Nested` | the same |
//! | in its caller's thread | `CALLS`, as `Frame::InCaller` | the same, and [`slot_of_this_thread`] |
//! | of a guard | the same, with the guard's number | the same |
//!
//! Calls of closures end in the reverse of the order in which they began. A guard is dropped at any time: before a guard that
//! is younger, and after the closure in which it was acquired. So a closure's call that ends is the innermost one without a
//! guard's number, and a guard's call is found by its number. A guard that one task of a worker leaves to the next, in a
//! thread-local say, is older than that next task: its call lies below the worker's own.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::call_data::{BulkheadView, CallData, CallView, FromOuterCall};
use super::job::Job;
use super::running_slot::SlotData;
use crate::sync;

sync::thread_local! {
    /// The bulkhead, by serial number, and the index of this thread among its workers: for the thread's whole life, unless it
    /// leaves a bulkhead that goes on. It has no destructor, so that it can be asked in the destructors of other thread-local
    /// values.
    static WORKER_OF: Cell<(u64, usize)> = Cell::new((NO_BULKHEAD, 0));

    /// The bulkhead of which this thread holds a permit while user code runs, and is no worker.
    static HOLDS_PERMIT_OF: Cell<u64> = Cell::new(NO_BULKHEAD);

    /// The call that this thread, a worker, has taken from the queue. It stays borrowed while the call runs.
    static WORKER_JOB: RefCell<Option<Arc<dyn Job>>> = RefCell::new(None);

    /// The calls on top of that, or in a caller's own thread. Without a destructor, as above.
    static CALLS: CallStack = CallStack::default();

    /// The bulkheads of the calls in their caller's thread.
    static BULKHEADS: RefCell<Bulkheads> = RefCell::new(Bulkheads::default());
}

/// A bulkhead, by serial number.
type Known = (u64, Weak<dyn BulkheadView>);

#[derive(Default)]
struct Bulkheads {
    /// The one of the last call that has begun: a call that follows another of the same bulkhead then counts no reference.
    last: Option<Known>,
    /// Others that may still have calls here, for the sake of guards.
    others: Vec<Known>,
}

impl Bulkheads {
    /// Makes the bulkhead of a call the last one. Gives the one that was, if it is another.
    #[inline(always)]
    fn begin<B: BulkheadView + 'static>(
        &mut self,
        serial: u64,
        bulkhead: &Arc<B>,
    ) -> Option<Known> {
        if matches!(&self.last, Some((known, _)) if *known == serial) {
            return None;
        }
        let bulkhead = Arc::downgrade(bulkhead) as Weak<dyn BulkheadView>;
        self.last.replace((serial, bulkhead))
    }

    fn find(&self, serial: u64) -> Option<Arc<dyn BulkheadView>> {
        let mut all = self.last.iter().chain(&self.others);
        let (_, bulkhead) = all.find(|(known, _)| *known == serial)?;
        bulkhead.upgrade()
    }

    /// A guard's call is over, and `innermost` is the bulkhead of the innermost call now: it takes the place of the last one,
    /// so that nothing is kept of a bulkhead whose calls have all ended.
    #[cold]
    fn end(&mut self, innermost: u64) {
        let is_it = |(serial, _): &Known| *serial == innermost;
        if !self.last.as_ref().is_some_and(is_it) {
            if let Some(place) = self.others.iter().position(is_it) {
                let innermost = self.others.swap_remove(place);
                let last = self.last.replace(innermost);
                return self.keep(last);
            }
        }
        self.keep(None);
    }

    /// Keeps a bulkhead that is not the last any more as long as this thread has calls of it.
    fn keep(&mut self, bulkhead: Option<Known>) {
        let has_calls = |(serial, _): &Known| slot_of_this_thread(*serial).is_some();
        let is_new = |(serial, _): &Known| self.others.iter().all(|(known, _)| known != serial);
        let new = bulkhead.filter(|bulkhead| has_calls(bulkhead) && is_new(bulkhead));
        self.others.extend(new);
        self.others.retain(has_calls);
        if self.others.is_empty() {
            self.others = Vec::new();
        }
    }
}

/// Calls of which each is waited for by the one before it.
#[derive(Default)]
struct CallStack {
    /// The innermost, if its caller runs it. Apart, since most have no other beneath.
    top: Cell<CallerFrame>,
    /// All others. It has memory only while there are some, so it needs no destructor.
    others: RefCell<ManuallyDrop<Vec<Frame>>>,
    /// How many of the others are nested.
    nested: Cell<usize>,
    /// The thread is a worker, so it may run a call that is not in here.
    is_worker: Cell<bool>,
    /// What the calls inherit that the task of that call makes. `None` once the call is over, as above.
    from_worker_job: RefCell<ManuallyDrop<Option<FromOuterCall>>>,
    /// How many calls of guards there are. Without any, the innermost call is the last that has begun.
    guards: Cell<usize>,
    last_guard: Cell<u64>,
    /// The last guard that was there before the worker took its call from the queue.
    guards_before_job: Cell<u64>,
}

/// A call that its caller runs, in this slot of this bulkhead. `serial` is `NO_BULKHEAD` if there is none.
#[derive(Clone, Copy, Default)]
struct CallerFrame {
    serial: u64,
    slot: usize,
    /// The number of the guard, which no other of this thread has, or `NO_GUARD`.
    guard: u64,
}

const NO_GUARD: u64 = 0;

enum Frame {
    InCaller(CallerFrame),
    /// A worker runs it instead of waiting for it.
    Nested(NestedJob),
}

struct NestedJob {
    job: Arc<dyn Job>,
    /// What the calls inherit that its task makes; from the first of them on.
    for_calls: RefCell<Option<FromOuterCall>>,
}

impl Drop for NestedJob {
    /// The call is over.
    fn drop(&mut self) {
        if let Some(for_calls) = self.for_calls.get_mut() {
            for_calls.end();
        }
    }
}

/// A call that is being dropped, or whose outcome is out, does not run.
fn running(job: &Arc<dyn Job>) -> Option<Arc<dyn CallView>> {
    job.is_running().then(|| Arc::clone(job).as_call())
}

/// What the calls inherit that the task of `job` makes, made for the first of them.
fn for_calls_of(job: &Arc<dyn Job>, made: &mut Option<FromOuterCall>) -> Option<FromOuterCall> {
    let call = running(job)?;
    let for_calls = made.get_or_insert_with(|| call.hand_down());
    Some(Arc::clone(for_calls))
}

impl CallStack {
    fn push(&self, frame: Frame) {
        self.others.borrow_mut().push(frame);
    }

    /// Makes a call the innermost one; or none, for a frame of another kind to be pushed.
    #[inline(always)]
    fn begin(&self, frame: CallerFrame) -> CallerFrame {
        let before = self.top.replace(frame);
        if before.serial != NO_BULKHEAD {
            self.push(Frame::InCaller(before));
        }
        before
    }

    /// Removes the innermost call of this guard; with `NO_GUARD`, that of a closure.
    fn remove(&self, guard: u64) {
        let top = self.top.get();
        let mut others = self.others.borrow_mut();
        let mut removed = None;
        if top.serial != NO_BULKHEAD && top.guard == guard {
            self.top.set(CallerFrame::default());
        } else if let Some(place) = others.iter().rposition(|frame| frame.guard() == guard) {
            removed = Some(others.remove(place));
        }
        if self.top.get().serial == NO_BULKHEAD {
            if let Some(Frame::InCaller(frame)) = others.last() {
                self.top.set(*frame);
                others.pop();
            }
        }
        if others.is_empty() {
            **others = Vec::new();
        }
        drop(others);
        drop(removed);
    }

    /// How many calls of the bulkhead `serial` there are, the innermost left out.
    fn count_others(&self, serial: u64) -> usize {
        let others = self.others.borrow();
        let of = |frame: &&Frame| matches!(frame, Frame::InCaller(frame) if frame.serial == serial);
        others.iter().rev().filter(of).count()
    }

    /// The first answer, from the innermost outwards.
    fn find_map<R>(
        &self,
        in_caller: impl Fn(CallerFrame) -> Option<R>,
        nested: impl Fn(&NestedJob) -> Option<R>,
    ) -> Option<R> {
        in_caller(self.top.get()).or_else(|| {
            let others = self.others.borrow();
            others.iter().rev().find_map(|frame| match frame {
                Frame::InCaller(frame) => in_caller(*frame),
                Frame::Nested(job) => nested(job),
            })
        })
    }

    /// The same with the worker's own call, which lies on top of the guards that an earlier one has left behind.
    fn find_with_worker_job<R>(
        &self,
        in_caller: impl Fn(CallerFrame) -> Option<R>,
        nested: impl Fn(&NestedJob) -> Option<R>,
        from_queue: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        let left_behind = self.guards_before_job.get();
        let is_below = |frame: CallerFrame| (NO_GUARD + 1..=left_behind).contains(&frame.guard);
        let above = |frame| {
            if is_below(frame) {
                None
            } else {
                in_caller(frame)
            }
        };
        self.find_map(above, nested)
            .or_else(from_queue)
            .or_else(|| self.find_map(in_caller, |_| None))
    }
}

impl Frame {
    fn guard(&self) -> u64 {
        match self {
            Self::InCaller(frame) => frame.guard,
            Self::Nested(_) => NO_GUARD,
        }
    }
}

impl CallerFrame {
    fn as_call(self) -> Option<Arc<dyn CallView>> {
        if self.serial == NO_BULKHEAD {
            return None;
        }
        let bulkhead = BULKHEADS.try_with(|known| known.borrow().find(self.serial));
        let bulkhead = bulkhead.ok()??;
        let data = CallData::of_running(bulkhead.innermost(self.slot)?);
        Some(Arc::new(CallInCaller { data, bulkhead }))
    }
}

/// A call that runs in its caller's thread, for the task that asks.
struct CallInCaller {
    data: CallData,
    bulkhead: Arc<dyn BulkheadView>,
}

impl CallView for CallInCaller {
    fn data(&self) -> &CallData {
        &self.data
    }

    fn bulkhead(&self) -> &dyn BulkheadView {
        &*self.bulkhead
    }
}

/// Runs a call from the queue on this thread, a worker. As [`Job::run`].
pub(crate) fn run_job(
    job: Arc<dyn Job>,
    slot: SlotData<'_>,
    just_now: Option<Instant>,
) -> Option<Instant> {
    CALLS.with(|calls| calls.guards_before_job.set(calls.last_guard.get()));
    WORKER_JOB.with(|current| {
        *current.borrow_mut() = Some(job);
        let just_now = match &*current.borrow() {
            Some(job) => job.run(slot, just_now),
            None => None,
        };
        if CALLS.with(|calls| calls.from_worker_job.borrow().is_some()) {
            end_made_calls();
        }
        let over = current.borrow_mut().take();
        drop(over);
        just_now
    })
}

/// The call from the queue, which is over, has made calls.
#[cold]
fn end_made_calls() {
    let over = CALLS.with(|calls| calls.from_worker_job.borrow_mut().take());
    over.into_iter().for_each(|for_calls| for_calls.end());
}

/// Runs `body`, which runs `job`, on top of the call that this thread is running. `body` must not panic.
pub(crate) fn run_nested<R>(job: Arc<dyn Job>, body: impl FnOnce() -> R) -> R {
    CALLS.with(|calls| {
        calls.begin(CallerFrame::default());
        calls.nested.set(calls.nested.get() + 1);
        calls.push(Frame::Nested(NestedJob {
            job,
            for_calls: RefCell::default(),
        }));
    });
    let value = body();
    CALLS.with(|calls| {
        calls.nested.set(calls.nested.get() - 1);
        calls.remove(NO_GUARD);
    });
    value
}

/// How many calls this thread, a worker, runs on top of the one that it has taken from the queue.
pub(crate) fn nested_calls_of_this_thread() -> usize {
    CALLS.with(|calls| calls.nested.get())
}

/// Runs `body`, which runs a call of the bulkhead `serial` in its slot `slot` and in its caller's thread. `body` must not
/// panic.
#[inline(always)]
pub(crate) fn run_for_caller<B: BulkheadView + 'static, R>(
    serial: u64,
    bulkhead: &Arc<B>,
    slot: usize,
    body: impl FnOnce() -> R,
) -> R {
    let known = BULKHEADS.try_with(|known| known.borrow_mut().begin(serial, bulkhead));
    let frame = CallerFrame {
        serial,
        slot,
        guard: NO_GUARD,
    };
    let before = CALLS.with(|calls| calls.begin(frame));
    let value = body();
    CALLS.with(|calls| {
        if before.serial == NO_BULKHEAD && calls.guards.get() == 0 {
            // There was no call beneath, and there is none above.
            calls.top.set(CallerFrame::default());
        } else {
            calls.remove(NO_GUARD);
        }
    });
    if let Ok(Some(known)) = known {
        restore_bulkhead(known);
    }
    value
}

/// The bulkhead of a call that is over stays known for the next call, which is most likely one of the same. Only if a call
/// around this one needs it, the bulkhead that was known `before` comes back.
///
/// The other is kept, if it has calls: guards that have ended meanwhile may have changed which one was the last.
#[cold]
fn restore_bulkhead(before: Known) {
    let is_needed = slot_of_this_thread(before.0).is_some();
    let _ = BULKHEADS.try_with(|known| {
        let known = &mut *known.borrow_mut();
        let last = if is_needed {
            known.last.replace(before)
        } else {
            None
        };
        known.keep(last);
    });
}

/// Makes the call of a guard the innermost one, until [`end_guard`] gets the number that is returned.
#[must_use]
pub(crate) fn begin_guard<B: BulkheadView + 'static>(
    serial: u64,
    bulkhead: &Arc<B>,
    slot: usize,
) -> u64 {
    let _ = BULKHEADS.try_with(|known| {
        let known = &mut *known.borrow_mut();
        if let Some(before) = known.begin(serial, bulkhead) {
            known.keep(Some(before));
        }
    });
    CALLS.with(|calls| {
        let guard = calls.last_guard.get() + 1;
        calls.last_guard.set(guard);
        calls.guards.set(calls.guards.get() + 1);
        calls.begin(CallerFrame {
            serial,
            slot,
            guard,
        });
        guard
    })
}

/// The call of this guard is over. Other calls of this thread may have begun before it or after it.
pub(crate) fn end_guard(guard: u64) {
    let innermost = CALLS.with(|calls| {
        calls.remove(guard);
        calls.guards.set(calls.guards.get() - 1);
        calls.top.get().serial
    });
    let _ = BULKHEADS.try_with(|known| {
        let known = &mut *known.borrow_mut();
        if !known.others.is_empty() {
            known.end(innermost);
        }
    });
}

/// The calls of a bulkhead that this thread has besides the one that is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherCalls {
    None,
    /// All began before it, and end after it.
    Outer,
    /// Guards are among this thread's calls, which begin and end in any order.
    Some,
}

/// What calls of the bulkhead `serial` this thread has besides the one that is about to end, and that `was_nested` when it
/// began.
#[inline]
pub(crate) fn other_calls(serial: u64, was_nested: bool) -> OtherCalls {
    CALLS.with(|calls| {
        let has_guards = calls.guards.get() > 0;
        if !was_nested && !has_guards {
            return OtherCalls::None;
        }
        let is_innermost = calls.top.get().serial == serial;
        match calls.count_others(serial) + usize::from(is_innermost) {
            0 | 1 => OtherCalls::None,
            _ if has_guards => OtherCalls::Some,
            _ => OtherCalls::Outer,
        }
    })
}

/// The slot of the bulkhead `serial` in which this thread runs a call of its own.
#[inline]
pub(crate) fn slot_of_this_thread(serial: u64) -> Option<usize> {
    let in_caller = |frame: CallerFrame| (frame.serial == serial).then_some(frame.slot);
    CALLS.with(|calls| calls.find_map(in_caller, |_| None))
}

/// The innermost call that runs on this thread. A thread without a call only looks at two words.
#[inline]
pub(super) fn innermost() -> Option<Arc<dyn CallView>> {
    if may_have_a_call() {
        find_innermost()
    } else {
        None
    }
}

/// Whether this thread runs a call, or is a worker, which may run one.
#[inline]
pub(crate) fn may_have_a_call() -> bool {
    // A nested call is on a worker.
    CALLS.with(|calls| calls.is_worker.get() || calls.top.get().serial != NO_BULKHEAD)
}

fn find_innermost() -> Option<Arc<dyn CallView>> {
    let nested = |nested: &NestedJob| running(&nested.job);
    let from_queue = || {
        let own = WORKER_JOB.try_with(|job| job.borrow().as_ref().and_then(running));
        own.ok()?
    };
    CALLS.with(|calls| calls.find_with_worker_job(CallerFrame::as_call, nested, from_queue))
}

/// What a call inherits that this thread makes now. A thread without a call only looks at two words.
#[inline(always)]
pub(super) fn inherited_from_this_thread() -> Option<FromOuterCall> {
    if may_have_a_call() {
        inherited_from_innermost()
    } else {
        None
    }
}

#[cold]
fn inherited_from_innermost() -> Option<FromOuterCall> {
    let in_caller = |frame: CallerFrame| {
        let call = frame.as_call()?;
        Some(call.hand_down_in_caller())
    };
    CALLS.with(|calls| {
        let nested = |nested: &NestedJob| {
            for_calls_of(&nested.job, &mut nested.for_calls.borrow_mut()).map(Some)
        };
        let from_queue = |job: &RefCell<Option<Arc<dyn Job>>>| {
            let mut made = calls.from_worker_job.borrow_mut();
            for_calls_of(job.borrow().as_ref()?, &mut made)
        };
        let from_queue = || WORKER_JOB.try_with(from_queue).ok()?.map(Some);
        calls.find_with_worker_job(in_caller, nested, from_queue)?
    })
}

/// No bulkhead has this serial number.
const NO_BULKHEAD: u64 = 0;

/// Nor this one: the thread holds permits of more than one bulkhead, and so perhaps of the one that asks.
const SEVERAL: u64 = u64::MAX;

/// Identifies a bulkhead, or a ledger, among all that this process will ever have.
pub(crate) fn next_serial() -> u64 {
    // Not from `sync`: it only tells bulkheads apart, and loom has no statics.
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(NO_BULKHEAD);
    LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
}

/// Makes this thread the worker `index` of the bulkhead `serial`.
pub(crate) fn become_worker(serial: u64, index: usize) {
    WORKER_OF.with(|worker| worker.set((serial, index)));
    CALLS.with(|calls| calls.is_worker.set(true));
}

/// This thread, a worker, is none from here on: its index will be another's. In the destructors of its thread-local values it
/// is as any other thread.
pub(crate) fn be_worker_no_more() {
    WORKER_OF.with(|worker| worker.set((NO_BULKHEAD, 0)));
    CALLS.with(|calls| calls.is_worker.set(false));
}

/// The bulkhead, by serial number, of which this thread is a worker, and which one it is.
pub(crate) fn this_worker() -> Option<(u64, usize)> {
    let worker = WORKER_OF.with(Cell::get);
    (worker.0 != NO_BULKHEAD).then_some(worker)
}

/// This thread, as one bulkhead sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThisThread {
    /// It may wait for anything.
    Outsider,
    /// The bulkhead's worker of that index.
    Worker(usize),
    /// It runs one of the bulkhead's calls, as that call's caller.
    InCall,
    /// It is about to submit a call, and holds its permit while user code runs: to wait for the bulkhead would be to wait
    /// for itself.
    HoldsPermit,
}

/// What this thread is to the bulkhead `serial`.
pub(super) fn this_thread(serial: u64) -> ThisThread {
    let (of, index) = WORKER_OF.with(Cell::get);
    if of == serial {
        return ThisThread::Worker(index);
    }
    if slot_of_this_thread(serial).is_some() {
        return ThisThread::InCall;
    }
    match HOLDS_PERMIT_OF.with(Cell::get) {
        held if held == serial || held == SEVERAL => ThisThread::HoldsPermit,
        _ => ThisThread::Outsider,
    }
}

/// Runs user code in a thread that holds a permit of the bulkhead `serial`. `body` must not panic.
pub(crate) fn while_holding_permit<R>(serial: u64, body: impl FnOnce() -> R) -> R {
    let before = HOLDS_PERMIT_OF.with(Cell::get);
    let held = if before == NO_BULKHEAD || before == serial {
        serial
    } else {
        SEVERAL
    };
    HOLDS_PERMIT_OF.with(|holding| holding.set(held));
    let value = body();
    HOLDS_PERMIT_OF.with(|holding| holding.set(before));
    value
}

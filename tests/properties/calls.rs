//! The calls that scripts make: their tasks leave traces, and each call has a fate.

use std::fmt::Debug;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bulkman::{
    BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadStats, ExecutionHandle,
    ShutdownReport,
};

use crate::script::{End, Kind, QUICK, Shutdown, Task, Way};
use crate::support::Gate;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Ended(End),
    Full,
    ShutDown,
    QueueTimeout,
    Timeout { started: bool },
    Cancelled { by_shutdown: bool },
}

impl Fate {
    pub fn of<T, E: Debug>(result: &Result<T, BulkheadError<E>>) -> Self {
        let Err(error) = result else {
            return Self::Ended(End::Succeed);
        };
        let fate = match *error {
            BulkheadError::Failed(_) => Self::Ended(End::Fail),
            BulkheadError::Panicked(_) => Self::Ended(End::Panic),
            BulkheadError::Full { .. } => Self::Full,
            BulkheadError::ShutDown { .. } => Self::ShutDown,
            BulkheadError::QueueTimeout { .. } => Self::QueueTimeout,
            BulkheadError::Timeout { started, .. } => Self::Timeout { started },
            BulkheadError::Cancelled { by_shutdown, .. } => Self::Cancelled { by_shutdown },
            _ => panic!("a new error: {error:?}"),
        };
        assert_eq!(error.never_started(), !fate.started(), "{error:?}");
        fate
    }

    pub fn started(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Timeout { started: true })
    }

    /// Where the ledger counts a call that comes to this end.
    pub fn column(self) -> usize {
        match self {
            Self::Ended(end) => end as usize,
            Self::Full => 3,
            Self::ShutDown => 4,
            Self::QueueTimeout | Self::Timeout { .. } => 5,
            Self::Cancelled { .. } => 6,
        }
    }
}

/// How many calls came to which end.
pub type Counts = [u64; 7];

pub fn counts(stats: &BulkheadStats) -> Counts {
    [
        stats.successful_executions,
        stats.failed_executions,
        stats.panicked_executions,
        stats.rejected_full,
        stats.rejected_shut_down,
        stats.timed_out_executions,
        stats.cancelled_executions,
    ]
}

pub fn ran(counts: &Counts) -> u64 {
    counts[..3].iter().sum()
}

/// Counts itself for as long as it lives: there is one in each closure and one in each value.
#[derive(Debug)]
pub struct Token(Arc<AtomicUsize>);

impl Token {
    pub fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A task's own error.
#[derive(Debug)]
pub struct Fault;

/// One unit of time on a clock that stands still.
pub const UNIT: Duration = Duration::from_secs(1);

/// A call, from its submission to the end of the case.
pub struct Call {
    pub task: Task,
    pub gate: Gate,
    pub runs: Arc<AtomicUsize>,
    /// Whether the task could read at its end that it was to stop.
    pub asked_to_stop: Arc<AtomicBool>,
    pub handle: Option<ExecutionHandle<Token, Fault>>,
    /// `None` if nobody has looked.
    pub fate: Option<Fate>,
}

impl Call {
    pub fn handle(&mut self) -> ExecutionHandle<Token, Fault> {
        self.handle.take().expect("it is held")
    }

    pub fn cancel(&self) -> bool {
        self.handle.as_ref().expect("it is held").cancel()
    }

    pub fn wait(&mut self) -> Fate {
        let fate = Fate::of(&self.handle().wait().result);
        *self.fate.insert(fate)
    }

    pub fn wait_timeout(&mut self, limit: Duration) -> Option<Fate> {
        match self.handle().wait_timeout(limit) {
            Ok(result) => self.fate = Some(Fate::of(&result.result)),
            Err(handle) => self.handle = Some(handle),
        }
        self.fate
    }

    pub fn poll(&mut self) -> Option<Fate> {
        let mut handle = self.handle();
        match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => self.fate = Some(Fate::of(&result.result)),
            Poll::Pending => self.handle = Some(handle),
        }
        self.fate
    }
}

type Body = Box<dyn FnOnce() -> Result<Token, Fault> + Send>;

/// The same with workers that start on demand, and leave almost at once.
pub fn workers(config: BulkheadConfig, on_demand: bool) -> BulkheadConfig {
    if on_demand {
        config.idle_timeout(Duration::from_micros(100))
    } else {
        config
    }
}

/// A bulkhead, and the traces of its tasks. Clones are the same site.
#[derive(Clone)]
pub struct Site {
    pub bulkhead: Arc<Bulkhead>,
    pub unit: Duration,
    /// Closures and values that live.
    pub closures: Arc<AtomicUsize>,
    pub values: Arc<AtomicUsize>,
    /// Tasks that are under way and do not wait for a call of their own.
    pub busy: Arc<AtomicUsize>,
    /// The largest N that there has been.
    most_workers: Arc<AtomicUsize>,
    inner: Arc<Mutex<Vec<Call>>>,
}

impl Site {
    pub fn new(bulkhead: Bulkhead, unit: Duration) -> Self {
        Self {
            most_workers: Arc::new(AtomicUsize::new(bulkhead.max_concurrent_calls())),
            bulkhead: Arc::new(bulkhead),
            unit,
            closures: Arc::default(),
            values: Arc::default(),
            busy: Arc::default(),
            inner: Arc::default(),
        }
    }

    /// Calls that were made by tasks.
    pub fn inner(&self) -> MutexGuard<'_, Vec<Call>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn resize(&self, n: usize, q: usize) -> Result<(), BuildError> {
        self.most_workers.fetch_max(n, SeqCst);
        self.bulkhead.resize(n, q)
    }

    fn enter(&self) {
        let busy = self.busy.fetch_add(1, SeqCst) + 1;
        let n = self.most_workers.load(SeqCst);
        assert!(busy <= n, "{busy} tasks at the same time");
    }

    fn leave(&self) {
        self.busy.fetch_sub(1, SeqCst);
    }

    /// A task's body, and the call that it is to become.
    fn prepare(&self, task: Task) -> (Body, Call) {
        let call = Call {
            task,
            gate: Gate::new(),
            runs: Arc::default(),
            asked_to_stop: Arc::default(),
            handle: None,
            fate: None,
        };
        let (site, token, gate) = (self.clone(), Token::new(&self.closures), call.gate.clone());
        let (runs, asked_to_stop) = (Arc::clone(&call.runs), Arc::clone(&call.asked_to_stop));
        let body = move || {
            let _token = token;
            runs.fetch_add(1, SeqCst);
            site.enter();
            site.perform(task, &gate);
            let asked = bulkman::current().expect("inside a task").is_cancelled();
            asked_to_stop.store(asked, SeqCst);
            site.leave();
            match task.1 {
                End::Succeed => Ok(Token::new(&site.values)),
                End::Fail => Err(Fault),
                // Without the panic hook's output.
                End::Panic => resume_unwind(Box::new("planned")),
            }
        };
        (Box::new(body), call)
    }

    fn perform(&self, Task(kind, end): Task, gate: &Gate) {
        match kind {
            Kind::Gated => gate.pass(),
            Kind::Nested(0) => {}
            Kind::Nested(depth) => {
                // A worker does not wait for a place of its own bulkhead.
                let mut call = self.submit_patiently(Task(Kind::Nested(depth - 1), end));
                self.leave();
                call.wait();
                self.enter();
                self.inner().push(call);
            }
        }
    }

    pub fn submit(&self, way: Way, task: Task) -> Call {
        let (body, mut call) = self.prepare(task);
        match way {
            Way::Execute => call.handle = Some(self.bulkhead.execute(body)),
            Way::TryExecute => match self.bulkhead.try_execute(body) {
                Ok(handle) => call.handle = Some(handle),
                Err(rejected) => {
                    let error = BulkheadError::<Fault>::from(rejected.reason);
                    call.fate = Some(Fate::of(&Err::<Token, _>(error)));
                }
            },
            Way::Call(queue_timeout, timeout) => {
                let mut settings = self.bulkhead.call().wait_for_capacity(Duration::ZERO);
                if let Some(limit) = queue_timeout {
                    settings = settings.queue_timeout(limit * self.unit);
                }
                if let Some(limit) = timeout {
                    settings = settings.timeout(limit * self.unit);
                }
                call.handle = Some(settings.execute(body));
            }
        }
        call
    }

    /// Submits, and waits for a place for as long as it takes.
    pub fn submit_patiently(&self, task: Task) -> Call {
        let (body, mut call) = self.prepare(task);
        let patient = self.bulkhead.call().wait_for_capacity(Duration::MAX);
        call.handle = Some(patient.execute(body));
        call
    }

    pub fn run(&self, end: End) -> Call {
        let (body, mut call) = self.prepare(Task(QUICK, end));
        let handle = self.bulkhead.run(move || body().expect("no fault"));
        call.fate = Some(Fate::of(&handle.wait().result));
        call
    }

    pub fn shut_down(&self, how: Shutdown) -> ShutdownReport {
        match how {
            Shutdown::Now => self.bulkhead.shutdown_now(),
            Shutdown::AtItsLimit => self.bulkhead.shutdown_timeout(Duration::ZERO),
            Shutdown::WithinItsLimit => self.bulkhead.shutdown_timeout(Duration::MAX),
            Shutdown::Unlimited => self.bulkhead.shutdown(),
        }
    }
}

//! Random sequences of calls against random bulkheads: one caller against a model, several against the invariants.
//!
//! `PROPTEST_CASES` sets the number of cases. A case that fails is kept in `properties.proptest-regressions`
//! beside this file and played again first in each later run.

mod support;

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{
    Bulkhead, BulkheadError, BulkheadEvent, BulkheadState, BulkheadStats, CancelOnDrop,
    CircuitBreakerConfig, CircuitState, ExecutionHandle, ExecutionResult, ManualClock,
    RejectReason, ShutdownReport,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::{Gate, PATIENCE, assert_balanced, config};

// ---- how the cases are run

fn settings(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => default.cases,
            None => cases,
        },
        // The default looks for a `lib.rs` above the source file, and there is none above a test.
        failure_persistence: default.failure_persistence.map(|_| {
            Box::new(FileFailurePersistence::WithSource("proptest-regressions")) as Box<_>
        }),
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    }
}

/// Set by the first case that waits in vain: while it is made smaller, the others wait less long.
static HUNG: AtomicBool = AtomicBool::new(false);

fn patience() -> Duration {
    if HUNG.load(Ordering::Relaxed) {
        Duration::from_secs(2)
    } else {
        PATIENCE
    }
}

/// Runs a case on a thread of its own, so that one that hangs fails as well.
fn watched(case: impl FnOnce() + Send + 'static) {
    let (done, ends) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        case();
    });
    // More than any single wait that has a limit: that one tells more.
    match ends.recv_timeout(patience() + Duration::from_secs(5)) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            HUNG.store(true, Ordering::Relaxed);
            panic!("the case hangs");
        }
        _ => {
            if let Err(payload) = thread.join() {
                resume_unwind(payload);
            }
        }
    }
}

/// Waits until `actual` gives what is expected.
fn settle_at<V: PartialEq + Debug>(expected: &V, step: &str, mut actual: impl FnMut() -> V) {
    let deadline = Instant::now() + patience();
    let mut looks = 0;
    loop {
        let found = actual();
        if found == *expected {
            return;
        }
        if Instant::now() > deadline {
            HUNG.store(true, Ordering::Relaxed);
            assert_eq!(found, *expected, "after {step}: found and expected");
        }
        looks += 1;
        if looks < 100 {
            thread::yield_now();
        } else {
            thread::park_timeout(Duration::from_micros(100));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

proptest! {
    #![proptest_config(settings(3000))]

    #[test]
    fn one_caller_sees_what_the_model_says(plan in plan(), steps in script(40)) {
        watched(move || sequential(&plan, &steps));
    }
}

proptest! {
    #![proptest_config(settings(3000))]

    #[test]
    #[ignore = "takes long and is still being hardened: cargo test --test properties -- --ignored"]
    fn several_callers_find_every_call_accounted_for(
        plan in plan(),
        manual in any::<bool>(),
        listening in any::<bool>(),
        resets in prop::bool::weighted(0.2),
        scripts in prop::collection::vec(script(25), 1..=3),
    ) {
        watched(move || concurrent(&plan, Mode { manual, listening, resets }, scripts));
    }
}

// ---- what is generated

#[derive(Clone, Debug)]
struct Plan {
    n: usize,
    q: usize,
    queue_timeout: Option<u32>,
    execution_timeout: Option<u32>,
    /// Failure and success threshold, isolation.
    breaker: Option<(usize, usize, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Succeed,
    Fail,
    Panic,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Quick(End),
    /// Ends when a later step opens its gate.
    Gated(End),
    /// Executes on its own bulkhead and waits, so many levels deep; the innermost is a quick one.
    Nested(u32, End),
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Execute,
    Run,
    TryExecute,
    TryRun,
    /// With an operation, and ready to wait for a place for no time at all.
    Call,
}

#[derive(Clone, Copy, Debug)]
struct Submission {
    way: Way,
    task: Task,
    queue_timeout: Option<u32>,
    timeout: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Now,
    TimeoutShort,
    TimeoutLong,
    Unlimited,
}

/// Numbers choose among what there is to choose from at that moment.
#[derive(Clone, Debug)]
enum Step {
    Submit(Submission),
    SubmitAndWait(Submission),
    /// Submits and cancels at once, so many times, which leaves as many empty entries in the queue.
    Churn(u32),
    /// The caller waits for a place. One that is alone gets it by a cancel, an opened gate or a shutdown.
    WaitForCapacity(Task, usize, bool),
    Open(usize),
    Cancel(usize),
    Wait(usize),
    WaitBriefly(usize, bool),
    /// Another thread waits while the gate is opened.
    WaitElsewhere(usize),
    Poll(usize),
    Guard(usize),
    Drop(usize),
    Advance(u32),
    Stats,
    Reset,
    ResetCircuit,
    ShutDown(Ending),
}

fn plan() -> impl Strategy<Value = Plan> {
    let breaker = (1_usize..=3, 1_usize..=2, 1_u32..=3);
    (
        1_usize..=3,
        0_usize..=4,
        prop::option::of(1_u32..=4),
        prop::option::of(1_u32..=6),
        prop::option::of(breaker),
    )
        .prop_map(|(n, q, queue_timeout, execution_timeout, breaker)| Plan {
            n,
            q,
            queue_timeout,
            execution_timeout,
            breaker,
        })
}

fn task() -> impl Strategy<Value = Task> {
    let end = || {
        prop_oneof![
            3 => Just(End::Succeed),
            2 => Just(End::Fail),
            1 => Just(End::Panic),
        ]
    };
    prop_oneof![
        3 => end().prop_map(Task::Quick),
        4 => end().prop_map(Task::Gated),
        2 => (1_u32..=3, end()).prop_map(|(depth, end)| Task::Nested(depth, end)),
    ]
}

fn submission() -> impl Strategy<Value = Submission> {
    let way = prop_oneof![
        4 => Just(Way::Execute),
        1 => Just(Way::Run),
        1 => Just(Way::TryExecute),
        1 => Just(Way::TryRun),
        2 => Just(Way::Call),
    ];
    let limit = || prop::option::weighted(0.2, 0_u32..=4);
    (way, task(), limit(), limit()).prop_map(|(way, task, queue_timeout, timeout)| Submission {
        way,
        task,
        queue_timeout,
        timeout,
    })
}

fn script(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let which = || 0_usize..8;
    let ending = prop_oneof![
        Just(Ending::Now),
        Just(Ending::TimeoutShort),
        Just(Ending::TimeoutLong),
        Just(Ending::Unlimited),
    ];
    let step = prop_oneof![
        24 => submission().prop_map(Step::Submit),
        8 => submission().prop_map(Step::SubmitAndWait),
        3 => (1_u32..=16).prop_map(Step::Churn),
        4 => (task(), which(), prop::bool::weighted(0.1))
            .prop_map(|(task, which, ends)| Step::WaitForCapacity(task, which, ends)),
        12 => which().prop_map(Step::Open),
        7 => which().prop_map(Step::Cancel),
        5 => which().prop_map(Step::Wait),
        5 => (which(), any::<bool>()).prop_map(|(which, until)| Step::WaitBriefly(which, until)),
        4 => which().prop_map(Step::WaitElsewhere),
        6 => which().prop_map(Step::Poll),
        3 => which().prop_map(Step::Guard),
        6 => which().prop_map(Step::Drop),
        6 => (1_u32..=4).prop_map(Step::Advance),
        2 => Just(Step::Stats),
        2 => Just(Step::Reset),
        2 => Just(Step::ResetCircuit),
        2 => ending.prop_map(Step::ShutDown),
    ];
    prop::collection::vec(step, 1..=longest)
}

impl Plan {
    fn config(&self, unit: Duration) -> bulkman::BulkheadConfig {
        let mut config = config(self.n, self.q);
        if let Some(limit) = self.queue_timeout {
            config = config.queue_timeout(limit * unit);
        }
        if let Some(limit) = self.execution_timeout {
            config = config.execution_timeout(limit * unit);
        }
        if let Some((failures, successes, isolation)) = self.breaker {
            config = config.circuit_breaker(
                CircuitBreakerConfig::default()
                    .failure_threshold(failures)
                    .success_threshold(successes)
                    .isolation_duration(isolation * unit),
            );
        }
        config
    }
}

impl Submission {
    fn plain(task: Task) -> Self {
        Self {
            way: Way::Execute,
            task,
            queue_timeout: None,
            timeout: None,
        }
    }

    /// What is submitted by `run` has no error of its own.
    fn task(&self) -> Task {
        let succeed = |end| match end {
            End::Fail => End::Succeed,
            end => end,
        };
        match (self.way, self.task) {
            (Way::Run | Way::TryRun, Task::Quick(end)) => Task::Quick(succeed(end)),
            (Way::Run | Way::TryRun, Task::Gated(end)) => Task::Gated(succeed(end)),
            (_, task) => task,
        }
    }
}

impl Task {
    /// How the task itself ends; a nested one, whatever became of the inner calls, with a success.
    fn end(self) -> End {
        match self {
            Self::Quick(end) | Self::Gated(end) => end,
            Self::Nested(..) => End::Succeed,
        }
    }

    fn inner(self) -> Option<Self> {
        match self {
            Self::Nested(0 | 1, end) => Some(Self::Quick(end)),
            Self::Nested(depth, end) => Some(Self::Nested(depth - 1, end)),
            _ => None,
        }
    }
}

// ---- what happens to a call

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Ended(End),
    Full,
    CircuitOpen,
    ShutDown,
    QueueTimeout,
    Timeout { started: bool },
    Cancelled { by_shutdown: bool },
}

impl From<End> for Fate {
    fn from(end: End) -> Self {
        Self::Ended(end)
    }
}

impl From<&RejectReason> for Fate {
    fn from(reason: &RejectReason) -> Self {
        match reason {
            RejectReason::Full { .. } => Self::Full,
            RejectReason::CircuitOpen { .. } => Self::CircuitOpen,
            RejectReason::ShutDown { .. } => Self::ShutDown,
            other => panic!("a new reason: {other}"),
        }
    }
}

impl Fate {
    fn started(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Timeout { started: true })
    }
}

/// What a caller gets.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    fate: Fate,
    queued: Duration,
    ran: Duration,
}

fn seen<E: Debug>(result: ExecutionResult<Token, E>) -> Seen {
    assert_eq!(&*result.bulkhead_name, "test");
    let fate = match &result.result {
        Ok(_) => Fate::Ended(End::Succeed),
        Err(error) => {
            let fate = match error {
                BulkheadError::Failed(_) => Fate::Ended(End::Fail),
                BulkheadError::Panicked(_) => Fate::Ended(End::Panic),
                BulkheadError::Full { .. } => Fate::Full,
                BulkheadError::CircuitOpen { .. } => Fate::CircuitOpen,
                BulkheadError::ShutDown { .. } => Fate::ShutDown,
                BulkheadError::QueueTimeout { .. } => Fate::QueueTimeout,
                BulkheadError::Timeout { started, .. } => Fate::Timeout { started: *started },
                BulkheadError::Cancelled { by_shutdown, .. } => Fate::Cancelled {
                    by_shutdown: *by_shutdown,
                },
                other => panic!("a new error: {other:?}"),
            };
            assert_eq!(error.never_started(), !fate.started(), "{error:?}");
            fate
        }
    };
    Seen {
        fate,
        queued: result.queued_time,
        ran: result.execution_time,
    }
}

/// Both handles, of both kinds of call.
trait Held: Send {
    fn wait(self: Box<Self>) -> Seen;
    fn wait_timeout(self: Box<Self>, limit: Duration) -> Result<Seen, Box<dyn Held>>;
    fn wait_deadline(self: Box<Self>, until: Instant) -> Result<Seen, Box<dyn Held>>;
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Seen>;
    fn cancel(&self) -> bool;
    fn is_finished(&self) -> bool;
    fn id(&self) -> String;
    /// From one kind of handle to the other.
    fn turn(self: Box<Self>) -> Box<dyn Held>;
}

macro_rules! held {
    ($handle:ident, $turn:ident) => {
        impl<E: Debug + Send + 'static> Held for $handle<Token, E> {
            fn wait(self: Box<Self>) -> Seen {
                seen((*self).wait())
            }
            fn wait_timeout(self: Box<Self>, limit: Duration) -> Result<Seen, Box<dyn Held>> {
                let waited = (*self).wait_timeout(limit);
                waited.map(seen).map_err(|handle| Box::new(handle) as _)
            }
            fn wait_deadline(self: Box<Self>, until: Instant) -> Result<Seen, Box<dyn Held>> {
                let waited = (*self).wait_deadline(until);
                waited.map(seen).map_err(|handle| Box::new(handle) as _)
            }
            fn poll(&mut self, context: &mut Context<'_>) -> Poll<Seen> {
                Future::poll(Pin::new(self), context).map(seen)
            }
            fn cancel(&self) -> bool {
                self.cancel()
            }
            fn is_finished(&self) -> bool {
                self.is_finished()
            }
            fn id(&self) -> String {
                self.execution_id().to_string()
            }
            fn turn(self: Box<Self>) -> Box<dyn Held> {
                Box::new((*self).$turn())
            }
        }
    };
}

held!(ExecutionHandle, cancel_on_drop);
held!(CancelOnDrop, into_handle);

// ---- the tasks

/// Counts itself for as long as it lives.
#[derive(Debug)]
struct Token(Arc<AtomicUsize>);

impl Token {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Fault;

/// What one task leaves behind.
#[derive(Debug, Default)]
struct Record {
    runs: AtomicUsize,
    /// Whether it could read at its end that it was to stop.
    asked_to_stop: AtomicBool,
}

impl Record {
    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// An inner call and what its task saw of it.
#[derive(Debug)]
struct Inner {
    task: Task,
    record: Arc<Record>,
    fate: Fate,
}

/// What all tasks of a case share.
#[derive(Default)]
struct Traces {
    closures: Arc<AtomicUsize>,
    values: Arc<AtomicUsize>,
    inner: Mutex<Vec<Inner>>,
    /// Tasks that are under way and do not wait for a call of their own.
    busy: AtomicUsize,
    most_busy: AtomicUsize,
}

impl Traces {
    fn enter(&self) {
        let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_busy.fetch_max(busy, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Body {
    task: Task,
    gate: Gate,
    record: Arc<Record>,
    traces: Arc<Traces>,
    bulkhead: Arc<Bulkhead>,
    token: Token,
}

impl Body {
    fn new(task: Task, gate: &Gate, traces: &Arc<Traces>, bulkhead: &Arc<Bulkhead>) -> Self {
        Self {
            task,
            gate: gate.clone(),
            record: Arc::default(),
            traces: Arc::clone(traces),
            bulkhead: Arc::clone(bulkhead),
            token: Token::new(&traces.closures),
        }
    }

    fn run(self) -> Result<Token, Fault> {
        let Self {
            task,
            gate,
            record,
            traces,
            bulkhead,
            token: _token,
        } = self;
        record.runs.fetch_add(1, Ordering::SeqCst);
        traces.enter();
        if let Task::Gated(_) = task {
            gate.pass();
        }
        if let Some(inner) = task.inner() {
            let body = Self::new(inner, &gate, &traces, &bulkhead);
            let record = Arc::clone(&body.record);
            // A worker does not wait for a place of its own bulkhead.
            let call = bulkhead.call().wait_for_capacity(Duration::MAX);
            let handle = call.execute(move || body.run());
            traces.leave();
            let fate = seen(handle.wait()).fate;
            traces.enter();
            lock(&traces.inner).push(Inner {
                task: inner,
                record,
                fate,
            });
        }
        let asked = bulkman::current().expect("inside a task").is_cancelled();
        record.asked_to_stop.store(asked, Ordering::SeqCst);
        traces.leave();
        match task.end() {
            End::Succeed => Ok(Token::new(&traces.values)),
            End::Fail => Err(Fault),
            // Without the panic hook's output.
            End::Panic => resume_unwind(Box::new("planned")),
        }
    }
}

/// Submits, in whichever way.
fn submit(
    bulkhead: &Bulkhead,
    submission: &Submission,
    unit: Duration,
    body: Body,
) -> Result<Box<dyn Held>, Fate> {
    fn boxed<H: Held + 'static>(handle: H) -> Box<dyn Held> {
        Box::new(handle)
    }
    let infallible = |result: Result<Token, Fault>| result.expect("it cannot fail");
    let alive = Arc::clone(&body.traces.closures);
    let mut call = bulkhead.call();
    let mut plain = true;
    if let Some(limit) = submission.queue_timeout {
        call = call.queue_timeout(limit * unit);
        plain = false;
    }
    if let Some(limit) = submission.timeout {
        call = call.timeout(limit * unit);
        plain = false;
    }
    match submission.way {
        Way::Execute if plain => Ok(boxed(bulkhead.execute(move || body.run()))),
        Way::Execute => Ok(boxed(call.execute(move || body.run()))),
        Way::Run if plain => Ok(boxed(bulkhead.run(move || infallible(body.run())))),
        Way::Run => Ok(boxed(call.run(move || infallible(body.run())))),
        Way::Call => {
            let call = call.operation("named").wait_for_capacity(Duration::ZERO);
            Ok(boxed(call.execute(move || body.run())))
        }
        Way::TryExecute => {
            let task = move || body.run();
            let submitted = if plain {
                bulkhead.try_execute(task)
            } else {
                call.try_execute(task)
            };
            submitted.map(boxed).map_err(|rejected| {
                assert!(alive.load(Ordering::SeqCst) > 0, "the closure comes back");
                Fate::from(&rejected.reason)
            })
        }
        Way::TryRun => {
            let task = move || infallible(body.run());
            let submitted = if plain {
                bulkhead.try_run(task)
            } else {
                call.try_run(task)
            };
            submitted.map(boxed).map_err(|rejected| {
                assert!(alive.load(Ordering::SeqCst) > 0, "the closure comes back");
                Fate::from(&rejected.reason)
            })
        }
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// ---- one caller, and the model

/// What one unit of time is on a clock that stands still.
const UNIT: Duration = Duration::from_secs(1);

/// Everything that can be seen from outside once it is quiet.
#[derive(Clone, Debug, PartialEq)]
struct View {
    numbers: Numbers,
    queued: usize,
    active: usize,
    in_flight: usize,
    abandoned: usize,
    started: u64,
    submitted: u64,
    capacity: usize,
    state: BulkheadState,
    circuit: Option<CircuitState>,
    closures: usize,
    values: usize,
    calls: Vec<CallView>,
    inner: Vec<Fate>,
}

/// What a reset sets to zero.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers {
    succeeded: u64,
    failed: u64,
    panicked: u64,
    full: u64,
    circuit_open: u64,
    shut_down: u64,
    timed_out: u64,
    cancelled: u64,
    waits: u64,
    longest_wait: Duration,
    runs: u64,
    longest_run: Duration,
}

impl Numbers {
    fn of(stats: &BulkheadStats) -> Self {
        Self {
            succeeded: stats.successful_executions,
            failed: stats.failed_executions,
            panicked: stats.panicked_executions,
            full: stats.rejected_full,
            circuit_open: stats.rejected_circuit_open,
            shut_down: stats.rejected_shut_down,
            timed_out: stats.timed_out_executions,
            cancelled: stats.cancelled_executions,
            waits: stats.queue_wait.count(),
            longest_wait: stats.queue_wait.max(),
            runs: stats.run_time.count(),
            longest_run: stats.run_time.max(),
        }
    }

    fn add(&mut self, fate: Fate) {
        *match fate {
            Fate::Ended(End::Succeed) => &mut self.succeeded,
            Fate::Ended(End::Fail) => &mut self.failed,
            Fate::Ended(End::Panic) => &mut self.panicked,
            Fate::Full => &mut self.full,
            Fate::CircuitOpen => &mut self.circuit_open,
            Fate::ShutDown => &mut self.shut_down,
            Fate::QueueTimeout | Fate::Timeout { .. } => &mut self.timed_out,
            Fate::Cancelled { .. } => &mut self.cancelled,
        } += 1;
    }

    fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.panicked
    }

    fn never_started(&self) -> u64 {
        self.full + self.circuit_open + self.shut_down + self.timed_out + self.cancelled
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct CallView {
    runs: usize,
    wakes: usize,
    asked_to_stop: bool,
    /// As long as there is a handle.
    finished: Option<bool>,
}

enum ModelCircuit {
    Closed { failures: usize },
    Open { until: Duration },
    HalfOpen { probes: usize, successes: usize },
}

struct ModelBreaker {
    failure_threshold: usize,
    success_threshold: usize,
    isolation: Duration,
    circuit: ModelCircuit,
    /// Grows with each change; an outcome counts only in the time in which its call was let in.
    era: u64,
}

impl ModelBreaker {
    fn change(&mut self, circuit: ModelCircuit) {
        self.circuit = circuit;
        self.era += 1;
    }

    fn admit(&mut self, now: Duration) -> Option<u64> {
        match &mut self.circuit {
            ModelCircuit::Closed { .. } => {}
            ModelCircuit::Open { until } if *until <= now => {
                self.change(ModelCircuit::HalfOpen {
                    probes: 1,
                    successes: 0,
                });
            }
            ModelCircuit::Open { .. } => return None,
            ModelCircuit::HalfOpen { probes, .. } => {
                if *probes == self.success_threshold {
                    return None;
                }
                *probes += 1;
            }
        }
        Some(self.era)
    }

    fn settle(&mut self, era: u64, verdict: Option<End>, now: Duration) {
        if era != self.era {
            return;
        }
        let open = ModelCircuit::Open {
            until: now + self.isolation,
        };
        if let ModelCircuit::HalfOpen { probes, .. } = &mut self.circuit {
            *probes -= 1;
        }
        match (&mut self.circuit, verdict) {
            (_, None) | (ModelCircuit::Open { .. }, _) => {}
            (ModelCircuit::Closed { failures }, Some(End::Succeed)) => *failures = 0,
            (ModelCircuit::Closed { failures }, Some(_)) => {
                *failures += 1;
                if *failures == self.failure_threshold {
                    self.change(open);
                }
            }
            (ModelCircuit::HalfOpen { successes, .. }, Some(End::Succeed)) => {
                *successes += 1;
                if *successes == self.success_threshold {
                    self.change(ModelCircuit::Closed { failures: 0 });
                }
            }
            (ModelCircuit::HalfOpen { .. }, Some(_)) => self.change(open),
        }
    }
}

enum Stage {
    Queued,
    Running { since: Duration },
    Done(Seen),
}

struct ModelCall {
    task: Task,
    admitted_at: Duration,
    queue_deadline: Option<Duration>,
    deadline: Option<Duration>,
    era: Option<u64>,
    stage: Stage,
    held: bool,
    guarded: bool,
    polled: bool,
    cancel_requested: bool,
    view: CallView,
}

impl ModelCall {
    fn is_over_limit(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The limit that keeps it from starting now.
    fn too_late(&self, now: Duration) -> Option<Fate> {
        let queue_deadline = self.queue_deadline.unwrap_or(Duration::MAX);
        let deadline = self.deadline.unwrap_or(Duration::MAX);
        if now < queue_deadline.min(deadline) {
            None
        } else if queue_deadline <= deadline {
            Some(Fate::QueueTimeout)
        } else {
            Some(Fate::Timeout { started: false })
        }
    }

    fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued)
    }

    fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }
}

/// A bulkhead in which nothing happens at the same time.
///
/// A step leaves either the queue empty or all workers at gates. So at most one worker has anything to do,
/// the one whose gate was opened or that takes what was submitted, and the order of events is known.
struct Model {
    plan: Plan,
    now: Duration,
    closed: bool,
    breaker: Option<ModelBreaker>,
    calls: Vec<ModelCall>,
    queue: VecDeque<usize>,
    running: Vec<usize>,
    /// Inner calls under way; none once it is quiet.
    nested: usize,
    inner: Vec<Fate>,
    numbers: Numbers,
}

impl Model {
    fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            now: Duration::ZERO,
            closed: false,
            breaker: plan
                .breaker
                .map(|(failures, successes, isolation)| ModelBreaker {
                    failure_threshold: failures,
                    success_threshold: successes,
                    isolation: isolation * UNIT,
                    circuit: ModelCircuit::Closed { failures: 0 },
                    era: 0,
                }),
            calls: Vec::new(),
            queue: VecDeque::new(),
            running: Vec::new(),
            nested: 0,
            inner: Vec::new(),
            numbers: Numbers::default(),
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + self.running.len() + self.nested
    }

    fn is_full(&self) -> bool {
        self.in_flight() == self.plan.n + self.plan.q
    }

    fn admit(&mut self) -> Result<Option<u64>, Fate> {
        let refused = if self.closed {
            Fate::ShutDown
        } else if self.is_full() {
            Fate::Full
        } else {
            match &mut self.breaker {
                None => return Ok(None),
                Some(breaker) => match breaker.admit(self.now) {
                    Some(era) => return Ok(Some(era)),
                    None => Fate::CircuitOpen,
                },
            }
        };
        self.numbers.add(refused);
        Err(refused)
    }

    fn verdict(&mut self, era: Option<u64>, verdict: Option<End>) {
        if let (Some(breaker), Some(era)) = (&mut self.breaker, era) {
            breaker.settle(era, verdict, self.now);
        }
    }

    fn submit(&mut self, submission: &Submission) -> usize {
        let index = self.calls.len();
        let admitted = self.admit();
        let limit = |own: Option<u32>, default: Option<u32>| {
            own.or(default).map(|limit| self.now + limit * UNIT)
        };
        self.calls.push(ModelCall {
            task: submission.task(),
            admitted_at: self.now,
            queue_deadline: limit(submission.queue_timeout, self.plan.queue_timeout),
            deadline: limit(submission.timeout, self.plan.execution_timeout),
            era: admitted.unwrap_or(None),
            stage: match admitted {
                Ok(_) => Stage::Queued,
                Err(fate) => Stage::Done(Seen {
                    fate,
                    queued: Duration::ZERO,
                    ran: Duration::ZERO,
                }),
            },
            held: admitted.is_ok() || !matches!(submission.way, Way::TryExecute | Way::TryRun),
            guarded: false,
            polled: false,
            cancel_requested: false,
            view: CallView {
                runs: 0,
                wakes: 0,
                asked_to_stop: false,
                finished: None,
            },
        });
        if admitted.is_ok() {
            self.queue.push_back(index);
            self.work();
        }
        index
    }

    /// The workers take what they can.
    fn work(&mut self) {
        while self.running.len() < self.plan.n {
            let Some(index) = self.queue.pop_front() else {
                break;
            };
            if let Some(fate) = self.calls[index].too_late(self.now) {
                self.leave(index, fate);
                continue;
            }
            let call = &mut self.calls[index];
            call.stage = Stage::Running { since: self.now };
            call.view.runs += 1;
            let waited = self.now - call.admitted_at;
            let task = call.task;
            self.numbers.waits += 1;
            self.numbers.longest_wait = self.numbers.longest_wait.max(waited);
            self.running.push(index);
            if let Some(inner) = task.inner() {
                self.nest(inner);
            }
            if !matches!(task, Task::Gated(_)) {
                self.finish(index);
            }
        }
    }

    /// An inner call, from its submission to its end: nobody is in its way.
    fn nest(&mut self, task: Task) {
        let fate = match self.admit() {
            Err(fate) => fate,
            Ok(era) => {
                self.nested += 1;
                self.numbers.waits += 1;
                if let Some(inner) = task.inner() {
                    self.nest(inner);
                }
                self.verdict(era, Some(task.end()));
                self.numbers.runs += 1;
                self.numbers.add(task.end().into());
                self.nested -= 1;
                task.end().into()
            }
        };
        self.inner.push(fate);
    }

    /// A running task comes to its end.
    fn finish(&mut self, index: usize) {
        self.running.retain(|running| *running != index);
        let call = &mut self.calls[index];
        let Stage::Running { since } = call.stage else {
            panic!("it does not run");
        };
        call.view.asked_to_stop = call.cancel_requested || call.is_over_limit(self.now);
        let (end, era) = (call.task.end(), call.era);
        let ran = self.now - since;
        let outcome = Seen {
            fate: end.into(),
            queued: since - call.admitted_at,
            ran,
        };
        self.numbers.runs += 1;
        self.numbers.longest_run = self.numbers.longest_run.max(ran);
        self.numbers.add(end.into());
        self.verdict(era, Some(end));
        self.done(index, outcome);
    }

    /// A call that has left the queue comes to its end.
    fn leave(&mut self, index: usize, fate: Fate) {
        self.queue.retain(|queued| *queued != index);
        self.numbers.add(fate);
        let call = &self.calls[index];
        let outcome = Seen {
            fate,
            queued: self.now - call.admitted_at,
            ran: Duration::ZERO,
        };
        self.verdict(call.era, None);
        self.done(index, outcome);
    }

    fn done(&mut self, index: usize, outcome: Seen) {
        let call = &mut self.calls[index];
        call.stage = Stage::Done(outcome);
        call.view.wakes += usize::from(std::mem::take(&mut call.polled));
    }

    fn open(&mut self, index: usize) {
        self.finish(index);
        self.work();
    }

    fn cancel(&mut self, index: usize) -> bool {
        let is_queued = self.calls[index].is_queued();
        if is_queued {
            self.leave(index, Fate::Cancelled { by_shutdown: false });
        } else {
            self.calls[index].cancel_requested = true;
        }
        is_queued
    }

    /// What a look at the outcome finds, which takes the handle if it finds something.
    fn look(&mut self, index: usize) -> Option<Seen> {
        let now = self.now;
        if self.calls[index].is_queued() {
            if let Some(fate) = self.calls[index].too_late(now) {
                self.leave(index, fate);
            }
        }
        let call = &mut self.calls[index];
        let found = match &call.stage {
            Stage::Done(outcome) => Some(outcome.clone()),
            Stage::Running { since } if call.is_over_limit(now) => {
                call.cancel_requested = true;
                Some(Seen {
                    fate: Fate::Timeout { started: true },
                    queued: *since - call.admitted_at,
                    ran: now - *since,
                })
            }
            _ => None,
        };
        if found.is_some() {
            call.held = false;
            call.polled = false;
        }
        found
    }

    fn drop_handle(&mut self, index: usize) {
        if self.calls[index].guarded {
            self.cancel(index);
        }
        let call = &mut self.calls[index];
        call.held = false;
        call.polled = false;
    }

    fn discard(&mut self) -> u64 {
        self.closed = true;
        let queued = Vec::from(std::mem::take(&mut self.queue));
        for index in &queued {
            self.leave(*index, Fate::Cancelled { by_shutdown: true });
        }
        queued.len() as u64
    }

    fn held(&self, wanted: impl Fn(&ModelCall) -> bool) -> Vec<usize> {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| call.held && wanted(call))
            .map(|(index, _)| index)
            .collect()
    }

    fn view(&self) -> View {
        let (queued, active) = (self.queue.len(), self.running.len());
        let in_flight = self.in_flight();
        let circuit = self.breaker.as_ref().map(|breaker| match breaker.circuit {
            ModelCircuit::Closed { .. } => CircuitState::Closed,
            ModelCircuit::Open { .. } => CircuitState::Open,
            ModelCircuit::HalfOpen { .. } => CircuitState::HalfOpen,
        });
        let finished = self.numbers.finished();
        View {
            numbers: self.numbers.clone(),
            queued,
            active,
            in_flight,
            abandoned: self
                .running
                .iter()
                .filter(|index| !self.calls[**index].held)
                .count(),
            started: finished + active as u64,
            submitted: finished + self.numbers.never_started() + in_flight as u64,
            capacity: if self.closed {
                0
            } else {
                self.plan.n + self.plan.q - in_flight
            },
            state: match circuit {
                _ if self.closed => BulkheadState::ShutDown,
                Some(CircuitState::Open) => BulkheadState::Isolated,
                Some(CircuitState::HalfOpen) => BulkheadState::Degraded,
                _ => BulkheadState::Healthy,
            },
            circuit,
            closures: in_flight,
            values: self
                .held(|call| {
                    matches!(&call.stage, Stage::Done(seen) if seen.fate == End::Succeed.into())
                })
                .len(),
            calls: self
                .calls
                .iter()
                .map(|call| CallView {
                    finished: call
.held
.then_some(matches!(call.stage, Stage::Done(_))),
                    ..call.view
                })
                .collect(),
            inner: self.inner.clone(),
        }
    }
}

struct RealCall {
    handle: Option<Box<dyn Held>>,
    id: Option<String>,
    gate: Gate,
    record: Arc<Record>,
    wakes: Arc<Wakes>,
}

/// The bulkhead under test beside its model.
struct System {
    calls: Vec<RealCall>,
    traces: Arc<Traces>,
    clock: ManualClock,
    bulkhead: Arc<Bulkhead>,
    model: Model,
}

impl Drop for System {
    fn drop(&mut self) {
        // Before anything in here is dropped: the bulkhead waits for the tasks at the gates.
        for call in &self.calls {
            call.gate.open();
        }
        if thread::panicking() {
            // What has gone wrong may keep a worker: do not wait for it.
            self.bulkhead.shutdown_now();
        }
    }
}

impl System {
    fn new(plan: &Plan) -> Self {
        let clock = ManualClock::new();
        let builder = Bulkhead::builder(plan.config(UNIT)).clock(clock.clone());
        Self {
            calls: Vec::new(),
            traces: Arc::default(),
            clock,
            bulkhead: Arc::new(builder.build().expect("a valid configuration")),
            model: Model::new(plan),
        }
    }

    fn view(&self) -> View {
        let stats = self.bulkhead.stats();
        assert_balanced(&stats);
        let size = |number: u64| usize::try_from(number).expect("a small number");
        View {
            numbers: Numbers::of(&stats),
            queued: size(stats.queued_tasks),
            active: size(stats.active_tasks),
            in_flight: size(stats.in_flight),
            abandoned: size(stats.abandoned_tasks),
            started: stats.total_executions,
            submitted: stats.submitted_executions,
            capacity: self.bulkhead.available_capacity(),
            state: stats.state,
            circuit: stats.circuit_state,
            closures: self.traces.closures.load(Ordering::SeqCst),
            values: self.traces.values.load(Ordering::SeqCst),
            calls: self
                .calls
                .iter()
                .map(|call| CallView {
                    runs: call.record.runs(),
                    wakes: call.wakes.0.load(Ordering::SeqCst),
                    asked_to_stop: call.record.asked_to_stop.load(Ordering::SeqCst),
                    finished: call.handle.as_ref().map(|handle| handle.is_finished()),
                })
                .collect(),
            inner: lock(&self.traces.inner).iter().map(|i| i.fate).collect(),
        }
    }

    /// For what is true when the step returns.
    fn assert_exact(&self, step: &str) {
        assert_eq!(
            self.view(),
            self.model.view(),
            "right after {step}: found and expected"
        );
    }

    /// For what the workers still have to do.
    fn settle(&self, step: &str) {
        settle_at(&self.model.view(), step, || self.view());
    }

    fn body(&self, task: Task) -> (Body, RealCall) {
        let gate = Gate::new();
        let body = Body::new(task, &gate, &self.traces, &self.bulkhead);
        let call = RealCall {
            handle: None,
            id: None,
            gate,
            record: Arc::clone(&body.record),
            wakes: Arc::default(),
        };
        (body, call)
    }

    /// Enters a call that was submitted to the bulkhead, and submits it to the model.
    fn enter(
        &mut self,
        mut call: RealCall,
        submission: &Submission,
        submitted: Result<Box<dyn Held>, Fate>,
    ) -> usize {
        let index = self.model.submit(submission);
        match submitted {
            Ok(handle) => {
                call.id = Some(handle.id());
                call.handle = Some(handle);
            }
            Err(fate) => match &self.model.calls[index].stage {
                Stage::Done(expected) if expected.fate == fate => {}
                _ => panic!("refused as {fate:?}"),
            },
        }
        self.calls.push(call);
        index
    }

    fn submit(&mut self, submission: &Submission) -> usize {
        let (body, call) = self.body(submission.task());
        let submitted = submit(&self.bulkhead, submission, UNIT, body);
        self.enter(call, submission, submitted)
    }

    fn handle(&mut self, index: usize) -> Box<dyn Held> {
        self.calls[index].handle.take().expect("it is held")
    }

    fn open(&mut self, index: usize) {
        self.calls[index].gate.open();
        self.model.open(index);
    }

    fn step(&mut self, step: &Step) {
        let name = format!("{step:?}");
        let choose = |from: &[usize], which: usize| match from.len() {
            0 => None,
            len => Some(from[which % len]),
        };
        let any_held = self.model.held(|_| true);
        match step {
            Step::Submit(submission) => {
                self.submit(submission);
            }
            Step::SubmitAndWait(submission) => {
                let index = self.submit(submission);
                let is_held = self.model.calls[index].held;
                match is_held.then(|| self.model.look(index)).flatten() {
                    Some(expected) => {
                        assert_eq!(self.handle(index).wait(), expected, "after {name}");
                        // Beyond its own limit a caller does not wait for the drop of the task.
                        let mut model = self.model.view();
                        let mut found = self.view();
                        if matches!(expected.fate, Fate::QueueTimeout | Fate::Timeout { .. }) {
                            model.closures = 0;
                            found.closures = 0;
                        }
                        assert_eq!(found, model, "right after {name}: found and expected");
                    }
                    None if is_held => {}
                    None => self.assert_exact(&name),
                }
            }
            Step::Churn(times) => {
                for _ in 0..*times {
                    let index = self.submit(&Submission::plain(Task::Quick(End::Succeed)));
                    if self.model.calls[index].is_queued() {
                        assert!(self.handle(index).cancel(), "{name}");
                        self.model.cancel(index);
                    } else {
                        drop(self.handle(index));
                    }
                    self.model.drop_handle(index);
                    self.settle(&name);
                }
            }
            Step::WaitForCapacity(task, which, ends) => {
                self.wait_for_capacity(*task, *which, *ends);
            }
            Step::Open(which) => {
                if let Some(index) = choose(&self.model.running, *which) {
                    self.open(index);
                }
            }
            Step::Cancel(which) => {
                if let Some(index) = choose(&any_held, *which) {
                    let expected = self.model.cancel(index);
                    let handle = self.calls[index].handle.as_ref();
                    assert_eq!(handle.expect("it is held").cancel(), expected, "{name}");
                    self.assert_exact(&name);
                }
            }
            Step::Wait(which) => {
                // One that would not end without another thread is left alone.
                if let Some(index) = choose(&any_held, *which) {
                    if let Some(expected) = self.model.look(index) {
                        assert_eq!(self.handle(index).wait(), expected, "after {name}");
                        self.assert_exact(&name);
                    }
                }
            }
            Step::WaitBriefly(which, until) => {
                if let Some(index) = choose(&any_held, *which) {
                    let expected = self.model.look(index);
                    self.model.calls[index].polled = false;
                    let handle = self.handle(index);
                    let waited = if *until {
                        handle.wait_deadline(self.clock.now())
                    } else {
                        handle.wait_timeout(Duration::ZERO)
                    };
                    match waited {
                        Ok(found) => assert_eq!(Some(found), expected, "after {name}"),
                        Err(handle) => {
                            assert_eq!(expected, None, "after {name}");
                            self.calls[index].handle = Some(handle);
                        }
                    }
                    self.assert_exact(&name);
                }
            }
            Step::WaitElsewhere(which) => {
                let now = self.model.now;
                let in_time = self
                    .model
                    .held(|call| call.is_running() && !call.is_over_limit(now));
                if let Some(index) = choose(&in_time, *which) {
                    // Takes back a waker, which would be woken or not.
                    self.step(&Step::WaitBriefly(
                        any_held
                            .iter()
                            .position(|i| *i == index)
                            .expect("it is held"),
                        false,
                    ));
                    let handle = self.handle(index);
                    let waiter = thread::spawn(move || handle.wait());
                    self.open(index);
                    let expected = self.model.look(index);
                    let found = waiter.join().expect("a wait does not panic");
                    assert_eq!(Some(found), expected, "after {name}");
                }
            }
            Step::Poll(which) => {
                if let Some(index) = choose(&any_held, *which) {
                    let expected = self.model.look(index);
                    let call = &mut self.calls[index];
                    let waker = Waker::from(Arc::clone(&call.wakes));
                    let handle = call.handle.as_mut().expect("it is held");
                    match handle.poll(&mut Context::from_waker(&waker)) {
                        Poll::Ready(found) => {
                            assert_eq!(Some(found), expected, "after {name}");
                            call.handle = None;
                        }
                        Poll::Pending => {
                            assert_eq!(expected, None, "after {name}");
                            self.model.calls[index].polled = true;
                        }
                    }
                    self.assert_exact(&name);
                }
            }
            Step::Guard(which) => {
                if let Some(index) = choose(&any_held, *which) {
                    let handle = self.handle(index).turn();
                    self.calls[index].handle = Some(handle);
                    self.model.calls[index].guarded ^= true;
                    self.assert_exact(&name);
                }
            }
            Step::Drop(which) => {
                if let Some(index) = choose(&any_held, *which) {
                    drop(self.handle(index));
                    self.model.drop_handle(index);
                    self.assert_exact(&name);
                }
            }
            Step::Advance(units) => {
                self.clock.advance(*units * UNIT);
                self.model.now += *units * UNIT;
            }
            // As after each step.
            Step::Stats => {}
            Step::Reset => {
                self.bulkhead.reset_stats();
                self.model.numbers = Numbers::default();
                self.assert_exact(&name);
            }
            Step::ResetCircuit => {
                if let (Some(breaker), Some(model)) =
                    (self.bulkhead.circuit_breaker(), &mut self.model.breaker)
                {
                    breaker.reset();
                    model.change(ModelCircuit::Closed { failures: 0 });
                    self.assert_exact(&name);
                }
            }
            Step::ShutDown(ending) => {
                self.shut_down(*ending);
                self.assert_exact(&name);
            }
        }
        self.settle(&name);
    }

    fn wait_for_capacity(&mut self, task: Task, which: usize, ends: bool) {
        let submission = Submission::plain(task);
        let (body, call) = self.body(task);
        let bulkhead = Arc::clone(&self.bulkhead);
        let submit = move || {
            let call = bulkhead.call().wait_for_capacity(Duration::MAX);
            Box::new(call.execute(move || body.run())) as Box<dyn Held>
        };
        if self.model.closed || !self.model.is_full() {
            let handle = submit();
            self.enter(call, &submission, Ok(handle));
            return;
        }
        // Whether it already waits or is yet to come, it finds the place that is given back now. No worker
        // has anything to do meanwhile, so the model knows what it finds.
        let cancellable = self.model.held(ModelCall::is_queued);
        let waiter = thread::spawn(submit);
        if ends || (cancellable.is_empty() && self.model.plan.q > 0) {
            self.shut_down(Ending::Now);
        } else if cancellable.is_empty() {
            let index = self.model.running[which % self.model.running.len()];
            self.open(index);
        } else {
            let index = cancellable[which % cancellable.len()];
            assert!(self.model.cancel(index));
            let handle = self.calls[index].handle.as_ref();
            assert!(handle.expect("it is held").cancel());
        }
        let handle = waiter.join().expect("submitting does not panic");
        self.enter(call, &submission, Ok(handle));
    }

    fn shut_down(&mut self, ending: Ending) {
        match ending {
            Ending::Now | Ending::TimeoutShort => {
                let report = match ending {
                    Ending::Now => self.bulkhead.shutdown_now(),
                    _ => self.bulkhead.shutdown_timeout(Duration::ZERO),
                };
                let cancelled = self.model.discard();
                assert_eq!((report.finished, report.cancelled), (0, cancelled));
                let mut found: Vec<_> = report
                    .still_running
                    .iter()
                    .map(|running| (running.execution_id.to_string(), running.running_for))
                    .collect();
                let mut expected: Vec<_> = self
                    .model
                    .running
                    .iter()
                    .map(|index| match self.model.calls[*index].stage {
                        Stage::Running { since } => {
                            let id = self.calls[*index].id.clone();
                            (id.expect("it was admitted"), self.model.now - since)
                        }
                        _ => panic!("it runs"),
                    })
                    .collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "still running");
            }
            Ending::TimeoutLong | Ending::Unlimited => {
                let bulkhead = Arc::clone(&self.bulkhead);
                let shutdown = thread::spawn(move || match ending {
                    Ending::Unlimited => bulkhead.shutdown(),
                    _ => bulkhead.shutdown_timeout(Duration::MAX),
                });
                let was_closed = std::mem::replace(&mut self.model.closed, true);
                settle_at(&BulkheadState::ShutDown, "a shutdown", || {
                    self.bulkhead.state()
                });
                let before = self.model.numbers.finished();
                while let Some(index) = self.model.running.first() {
                    self.open(*index);
                    self.settle("a gate opened in a shutdown");
                }
                let report = shutdown.join().expect("a shutdown does not panic");
                let finished = self.model.numbers.finished() - before;
                if was_closed {
                    // It may have begun after the first gates.
                    assert!(report.finished <= finished);
                } else {
                    assert_eq!(report.finished, finished);
                }
                assert!(report.is_clean(), "{report:?}");
            }
        }
    }
}

fn sequential(plan: &Plan, steps: &[Step]) {
    let mut system = System::new(plan);
    for step in steps {
        system.step(step);
    }
    // Everything comes to its end.
    while let Some(index) = system.model.running.first() {
        system.open(*index);
        system.settle("the last gates");
    }
    for index in system.model.held(|_| true) {
        let expected = system.model.look(index);
        assert_eq!(Some(system.handle(index).wait()), expected, "in the end");
    }
    system.assert_exact("the end");
    let report = system.bulkhead.shutdown();
    system.model.closed = true;
    assert_eq!((report.finished, report.is_clean()), (0, true));
    // With the workers gone, nothing can come later.
    system.assert_exact("the workers have ended");
    let view = system.view();
    assert_eq!((view.in_flight, view.closures, view.values), (0, 0, 0));
    assert_eq!(
        Arc::strong_count(&system.bulkhead),
        1,
        "no task is left to hold it"
    );
}

// ---- several callers, and the invariants

#[derive(Clone, Copy, Debug)]
struct Mode {
    /// A clock that the steps move, or the system's.
    manual: bool,
    listening: bool,
    /// Whether the steps that reset the numbers do so.
    resets: bool,
}

/// What the listener was told.
#[derive(Default)]
struct Told {
    refused: Vec<Fate>,
    started: HashMap<String, usize>,
    ended: HashMap<String, Vec<Fate>>,
}

impl Told {
    fn hear(&mut self, event: &BulkheadEvent<'_>) {
        let (call, fate) = match event {
            BulkheadEvent::Rejected { reason, .. } => {
                self.refused.push(Fate::from(*reason));
                return;
            }
            BulkheadEvent::Started { call, .. } => {
                *self
                    .started
                    .entry(call.execution_id.to_string())
                    .or_default() += 1;
                return;
            }
            BulkheadEvent::Finished { call, outcome, .. } => {
                let end = match outcome {
                    bulkman::FinishedOutcome::Succeeded => End::Succeed,
                    bulkman::FinishedOutcome::Failed => End::Fail,
                    bulkman::FinishedOutcome::Panicked => End::Panic,
                    other => panic!("a new outcome: {other:?}"),
                };
                (call, Fate::Ended(end))
            }
            // By whichever limit: the ledger does not tell them apart either.
            BulkheadEvent::Expired { call, .. } => (call, Fate::QueueTimeout),
            BulkheadEvent::Cancelled { call, .. } => (call, Fate::Cancelled { by_shutdown: false }),
            _ => return,
        };
        let id = call.execution_id.to_string();
        self.ended.entry(id).or_default().push(fate);
    }

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::default();
        let ended = self.ended.values().flatten();
        for fate in self.refused.iter().chain(ended) {
            numbers.add(*fate);
        }
        numbers
    }
}

/// What several callers share.
struct Arena {
    bulkhead: Arc<Bulkhead>,
    traces: Arc<Traces>,
    clock: ManualClock,
    mode: Mode,
    unit: Duration,
    told: Arc<Mutex<Told>>,
    reports: Mutex<Vec<ShutdownReport>>,
}

/// A call whose handle is gone.
struct Past {
    task: Task,
    id: Option<String>,
    record: Arc<Record>,
    /// `None`: nobody has looked.
    fate: Option<Fate>,
}

struct Present {
    task: Task,
    gate: Gate,
    record: Arc<Record>,
    id: String,
    handle: Box<dyn Held>,
}

/// One caller. What it does that may take another's help it does with its own gates open, so that nobody
/// waits in a circle.
struct Caller<'a> {
    present: Vec<Present>,
    past: Vec<Past>,
    /// Of calls that still have a handle and of others.
    gates: Vec<Gate>,
    before: Option<BulkheadStats>,
    arena: &'a Arena,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.open_all();
        if thread::panicking() {
            self.arena.bulkhead.shutdown_now();
        }
    }
}

impl Caller<'_> {
    fn open_all(&mut self) {
        for gate in self.gates.drain(..) {
            gate.open();
        }
    }

    fn body(&mut self, task: Task) -> (Body, Gate, Arc<Record>) {
        let gate = Gate::new();
        self.gates.push(gate.clone());
        let body = Body::new(task, &gate, &self.arena.traces, &self.arena.bulkhead);
        let record = Arc::clone(&body.record);
        (body, gate, record)
    }

    fn submit(&mut self, submission: &Submission) {
        let task = submission.task();
        let (body, gate, record) = self.body(task);
        match submit(&self.arena.bulkhead, submission, self.arena.unit, body) {
            Ok(handle) => self.keep(task, gate, record, handle),
            Err(fate) => self.past.push(Past {
                task,
                id: None,
                record,
                fate: Some(fate),
            }),
        }
    }

    fn keep(&mut self, task: Task, gate: Gate, record: Arc<Record>, handle: Box<dyn Held>) {
        self.present.push(Present {
            task,
            gate,
            record,
            id: handle.id(),
            handle,
        });
    }

    fn choose(&mut self, which: usize) -> Option<usize> {
        let len = self.present.len();
        (len > 0).then(|| which % len)
    }

    /// The end of a handle: `wait` gives it back, or what it found.
    fn end(
        &mut self,
        index: usize,
        wait: impl FnOnce(Box<dyn Held>) -> Result<Option<Seen>, Box<dyn Held>>,
    ) {
        let Present {
            task,
            gate,
            record,
            id,
            handle,
        } = self.present.swap_remove(index);
        match wait(handle) {
            Ok(seen) => self.past.push(Past {
                task,
                id: Some(id),
                record,
                fate: seen.map(|seen| seen.fate),
            }),
            Err(handle) => {
                assert_eq!(handle.id(), id);
                self.keep(task, gate, record, handle);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let arena = self.arena;
        let bulkhead = &arena.bulkhead;
        match step {
            Step::Submit(submission) => self.submit(submission),
            Step::SubmitAndWait(submission) => {
                self.open_all();
                let before = self.present.len();
                self.submit(submission);
                self.open_all();
                if self.present.len() > before {
                    self.end(before, |handle| Ok(Some(handle.wait())));
                }
            }
            Step::Churn(times) => {
                for _ in 0..*times {
                    self.submit(&Submission::plain(Task::Quick(End::Succeed)));
                    let newest = self.present.len() - 1;
                    self.end(newest, |handle| {
                        handle.cancel();
                        Ok(None)
                    });
                }
            }
            Step::WaitForCapacity(task, _, _) => {
                self.open_all();
                let (body, gate, record) = self.body(*task);
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                let handle = call.execute(move || body.run());
                self.keep(*task, gate, record, Box::new(handle));
            }
            Step::Open(which) => {
                if let Some(index) = self.choose(*which) {
                    self.present[index].gate.open();
                }
            }
            Step::Cancel(which) => {
                if let Some(index) = self.choose(*which) {
                    let cancelled = self.present[index].handle.cancel();
                    if cancelled {
                        assert!(self.present[index].handle.is_finished());
                        assert!(!self.present[index].handle.cancel(), "only once");
                        self.end(index, |handle| {
                            let seen = handle.wait();
                            assert_eq!(seen.fate, Fate::Cancelled { by_shutdown: false });
                            Ok(Some(seen))
                        });
                    }
                }
            }
            Step::Wait(which) | Step::WaitElsewhere(which) => {
                self.open_all();
                if let Some(index) = self.choose(*which) {
                    self.end(index, |handle| Ok(Some(handle.wait())));
                }
            }
            Step::WaitBriefly(which, until) => {
                // On the manual clock any longer wait lasts until somebody moves it.
                let limit = if arena.mode.manual {
                    Duration::ZERO
                } else {
                    arena.unit
                };
                if let Some(index) = self.choose(*which) {
                    self.end(index, |handle| {
                        let waited = if *until && !arena.mode.manual {
                            handle.wait_deadline(Instant::now() + limit)
                        } else {
                            handle.wait_timeout(limit)
                        };
                        waited.map(Some)
                    });
                }
            }
            Step::Poll(which) => {
                if let Some(index) = self.choose(*which) {
                    self.end(index, |mut handle| {
                        match handle.poll(&mut Context::from_waker(Waker::noop())) {
                            Poll::Ready(seen) => Ok(Some(seen)),
                            Poll::Pending => Err(handle),
                        }
                    });
                }
            }
            Step::Guard(which) => {
                if let Some(index) = self.choose(*which) {
                    self.end(index, |handle| Err(handle.turn()));
                }
            }
            Step::Drop(which) => {
                if let Some(index) = self.choose(*which) {
                    self.end(index, |handle| {
                        drop(handle);
                        Ok(None)
                    });
                }
            }
            // No matter in the other mode.
            Step::Advance(units) => arena.clock.advance(*units * arena.unit),
            Step::Stats => {}
            Step::Reset => {
                if arena.mode.resets {
                    bulkhead.reset_stats();
                }
            }
            Step::ResetCircuit => {
                if let Some(breaker) = bulkhead.circuit_breaker() {
                    breaker.reset();
                }
            }
            Step::ShutDown(ending) => {
                let report = match ending {
                    Ending::Now => bulkhead.shutdown_now(),
                    Ending::TimeoutShort => bulkhead.shutdown_timeout(Duration::from_micros(100)),
                    Ending::TimeoutLong => {
                        self.open_all();
                        bulkhead.shutdown_timeout(Duration::MAX)
                    }
                    Ending::Unlimited => {
                        self.open_all();
                        bulkhead.shutdown()
                    }
                };
                lock(&arena.reports).push(report);
            }
        }
        self.look();
    }

    /// A snapshot balances, and without resets no number is less than it was.
    fn look(&mut self) {
        let stats = self.arena.bulkhead.stats();
        assert_balanced(&stats);
        assert!(
            self.arena.traces.most_busy.load(Ordering::SeqCst) as u64 <= stats.max_concurrent_calls
        );
        if self.arena.mode.resets {
            return;
        }
        if let Some(before) = &self.before {
            for (before, now) in growing(before).into_iter().zip(growing(&stats)) {
                assert!(before <= now, "a number went back: {before} to {now}");
            }
        }
        self.before = Some(stats);
    }
}

fn growing(stats: &BulkheadStats) -> [u64; 11] {
    let numbers = Numbers::of(stats);
    [
        stats.submitted_executions,
        stats.total_executions,
        numbers.succeeded,
        numbers.failed,
        numbers.panicked,
        numbers.full,
        numbers.circuit_open,
        numbers.shut_down,
        numbers.timed_out,
        numbers.cancelled,
        numbers.runs,
    ]
}

fn concurrent(plan: &Plan, mode: Mode, scripts: Vec<Vec<Step>>) {
    let unit = if mode.manual {
        UNIT
    } else {
        Duration::from_micros(100)
    };
    let told = Arc::new(Mutex::new(Told::default()));
    let clock = ManualClock::new();
    let mut builder = Bulkhead::builder(plan.config(unit));
    if mode.manual {
        builder = builder.clock(clock.clone());
    }
    if mode.listening {
        let told = Arc::clone(&told);
        builder = builder.listener(move |event: &BulkheadEvent<'_>| lock(&told).hear(event));
    }
    let arena = Arena {
        bulkhead: Arc::new(builder.build().expect("a valid configuration")),
        traces: Arc::default(),
        clock,
        mode,
        unit,
        told,
        reports: Mutex::default(),
    };
    let past = thread::scope(|scope| {
        let callers: Vec<_> = scripts
            .into_iter()
            .map(|script| {
                let arena = &arena;
                scope.spawn(move || {
                    let mut caller = Caller {
                        present: Vec::new(),
                        past: Vec::new(),
                        gates: Vec::new(),
                        before: None,
                        arena,
                    };
                    for step in &script {
                        caller.step(step);
                    }
                    caller.open_all();
                    while !caller.present.is_empty() {
                        caller.end(0, |handle| Ok(Some(handle.wait())));
                    }
                    std::mem::take(&mut caller.past)
                })
            })
            .collect();
        let mut past = Vec::new();
        for caller in callers {
            match caller.join() {
                Ok(calls) => past.extend(calls),
                Err(payload) => resume_unwind(payload),
            }
        }
        past
    });
    arena.verify(plan, past);
}

impl Arena {
    fn verify(self, plan: &Plan, mut past: Vec<Past>) {
        // Detached calls come to their end without anybody who waits. Whatever it is, a place given back comes
        // before the drop of a task that never started.
        let alone = || {
            let stats = self.bulkhead.stats();
            assert_balanced(&stats);
            (
                stats.in_flight,
                stats.abandoned_tasks,
                self.traces.closures.load(Ordering::SeqCst),
                self.traces.values.load(Ordering::SeqCst),
                Arc::strong_count(&self.bulkhead),
            )
        };
        settle_at(&(0, 0, 0, 0, 1), "the last call", alone);
        past.extend(lock(&self.traces.inner).drain(..).map(|inner| Past {
            task: inner.task,
            id: None,
            record: inner.record,
            fate: Some(inner.fate),
        }));
        let stats = self.bulkhead.stats();
        for call in &past {
            let runs = call.record.runs();
            match call.fate {
                Some(fate) => {
                    assert_eq!(runs, usize::from(fate.started()), "{fate:?}");
                    if let Fate::Ended(end) = fate {
                        assert_eq!(end, call.task.end());
                    }
                }
                None => assert!(runs <= 1),
            }
        }
        let numbers = Numbers::of(&stats);
        if !self.mode.resets {
            compare(&past, &numbers, &stats);
            if self.mode.listening {
                self.compare_events(&past, &numbers);
            }
        }
        let by_shutdown = past
            .iter()
            .filter(|call| {
                matches!(
                    call.fate,
                    None | Some(Fate::Cancelled { by_shutdown: true })
                )
            })
            .count() as u64;
        let reports = lock(&self.reports);
        for report in &*reports {
            assert!(report.cancelled <= by_shutdown, "{report:?}");
            // Each worker may just have given back a place whose call is still on it.
            assert!(
                report.still_running.len() <= 2 * plan.n + plan.q,
                "{report:?}"
            );
        }
        if reports.is_empty() {
            self.is_whole(plan);
        } else {
            assert_eq!(self.bulkhead.available_capacity(), 0);
            assert_eq!(self.bulkhead.state(), BulkheadState::ShutDown);
        }
        let most = self.traces.most_busy.load(Ordering::SeqCst);
        assert!(most <= plan.n, "{most} tasks at the same time");
    }

    /// Whatever happened before, N + Q calls fit, N of them run, and one more is refused.
    fn is_whole(&self, plan: &Plan) {
        if let Some(breaker) = self.bulkhead.circuit_breaker() {
            breaker.reset();
        }
        let capacity = plan.n + plan.q;
        assert_eq!(self.bulkhead.available_capacity(), capacity);
        let gate = Gate::new();
        let _opener = support::OpenOnDrop(gate.clone());
        let handles: Vec<_> = (0..capacity)
            .map(|_| {
                let gate = gate.clone();
                // The configured limits may be shorter than it takes.
                let call = self.bulkhead.call().queue_timeout(Duration::MAX);
                let call = call.timeout(Duration::MAX);
                call.try_run(move || gate.pass()).expect("a place")
            })
            .collect();
        gate.wait_for_arrivals(plan.n);
        let refused = self.bulkhead.try_run(|| ()).expect_err("no place");
        assert!(refused.reason.is_full());
        gate.open();
        for handle in handles {
            assert!(handle.wait().is_success());
        }
        settle_at(&capacity, "the last round", || {
            self.bulkhead.available_capacity()
        });
    }

    fn compare_events(&self, past: &[Past], numbers: &Numbers) {
        let counted = Numbers {
            waits: 0,
            longest_wait: Duration::ZERO,
            runs: 0,
            longest_run: Duration::ZERO,
            ..numbers.clone()
        };
        // A worker tells of a call that came too late after it has given the place back.
        settle_at(&counted, "the last event", || lock(&self.told).numbers());
        let told = lock(&self.told);
        for (id, fates) in &told.ended {
            assert_eq!(fates.len(), 1, "a call ended more than once: {fates:?}");
            let started = told.started.get(id).copied().unwrap_or(0);
            assert_eq!(started, usize::from(fates[0].started()), "{fates:?}");
        }
        assert_eq!(told.started.len() as u64, numbers.waits);
        for call in past {
            let ended = call.id.as_ref().and_then(|id| told.ended.get(id));
            if let (Some(fate), Some(ended)) = (call.fate, ended) {
                let expected = match fate {
                    Fate::Timeout { started: true } => call.task.end().into(),
                    Fate::Timeout { started: false } => Fate::QueueTimeout,
                    Fate::Cancelled { .. } => Fate::Cancelled { by_shutdown: false },
                    fate => fate,
                };
                assert_eq!(ended[0], expected, "heard and seen");
            }
        }
    }
}

/// What the callers saw against what was counted. Of a call that nobody looked at, only whether it ran is known.
fn compare(past: &[Past], numbers: &Numbers, stats: &BulkheadStats) {
    let mut known = Numbers::default();
    let mut unknown = 0;
    for call in past {
        if call.record.runs() > 0 {
            known.add(call.task.end().into());
        } else if let Some(fate) = call.fate {
            known.add(fate);
        } else {
            unknown += 1;
        }
    }
    assert_eq!(
        (known.succeeded, known.failed, known.panicked),
        (numbers.succeeded, numbers.failed, numbers.panicked),
        "tasks that ran, and those counted"
    );
    assert_eq!(known.finished(), stats.total_executions);
    assert_eq!(
        (numbers.waits, numbers.runs),
        (known.finished(), known.finished())
    );
    assert_eq!(stats.submitted_executions, past.len() as u64);
    assert_eq!(known.never_started() + unknown, numbers.never_started());
    for (known, counted) in [
        (known.full, numbers.full),
        (known.circuit_open, numbers.circuit_open),
        (known.shut_down, numbers.shut_down),
        (known.timed_out, numbers.timed_out),
        (known.cancelled, numbers.cancelled),
    ] {
        assert!(known <= counted && counted <= known + unknown);
    }
}

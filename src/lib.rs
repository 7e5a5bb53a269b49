//! A synchronous thread-pool **bulkhead**: fixed workers behind a bounded queue, so that one slow
//! dependency can take its own few threads and nothing else.
//!
//! ```
//! use bulkman::{Bulkhead, BulkheadConfig};
//! use std::time::Duration;
//!
//! let database = Bulkhead::new(
//!     BulkheadConfig::new("database")
//!         .max_concurrent_calls(4)
//!         .max_queue_size(16)
//!         .queue_timeout(Duration::from_millis(500)),
//! )?;
//!
//! // `execute` never blocks; `wait` waits for the outcome.
//! let rows = database.execute(|| query("select 1")).wait().into_result()?; // or `.result()?`
//! assert_eq!(rows, 1);
//! # fn query(_: &str) -> Result<usize, std::io::Error> { Ok(1) }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I submit a call?
//!
//! | I want to | use |
//! |---|---|
//! | run something that may fail | [`Bulkhead::execute`] |
//! | run something that cannot | [`Bulkhead::run`] |
//! | have my closure back if it is refused | [`Bulkhead::try_execute`] |
//! | wait at the longest so long, for queue and run together | [`Bulkhead::execute_with_timeout`] |
//! | wait for a place instead of being refused | [`Call::wait_for_capacity`] |
//! | give one call its own limits, name or idea of failure | [`Bulkhead::call`] |
//! | have a function that always goes through the bulkhead | [`Bulkhead::wrap`], with a name and limits [`Call::wrap`] |
//! | call a function for each item of a list or an endless input, so many at a time | [`Bulkhead::execute_map`] |
//! | take rows or chunks while the task is still producing them | [`Bulkhead::execute_stream`] |
//! | hold a slot for code that fits into no closure | [`SemaphoreBulkhead::acquire`], which gives a [`SemaphoreGuard`] |
//! | leave open which kind of bulkhead it is | [`CommonBulkhead`], or an [`AnyBulkhead`] |
//!
//! # What do I get?
//!
//! An [`ExecutionHandle`]: [`wait`](ExecutionHandle::wait) for it, wait with a limit,
//! [`cancel`](ExecutionHandle::cancel) it, `.await` it, or drop it and let the task run. Somebody else than the one who waits
//! takes a [`cancel_handle`](ExecutionHandle::cancel_handle), which cancels from anywhere, and
//! [`on_finish`](ExecutionHandle::on_finish) calls back at the end of a call. Of many handles, [`as_completed`] and a
//! [`HandleSet`] give the results as they come; [`wait_any`] and [`wait_all`] wait for handles of different types. A handle
//! yields an
//! [`ExecutionResult`] with the value or a [`BulkheadError`], an id, and the times in the queue and in the
//! task. There is exactly one outcome, whatever happens:
//!
//! | what happens | error | did the task start? | counts against the circuit |
//! |---|---|---|---|
//! | all N + Q places are taken | [`Full`](BulkheadError::Full) | no | no |
//! | the circuit is open, or opens while the call is queued | [`CircuitOpen`](BulkheadError::CircuitOpen) | no | no |
//! | the bulkhead is shut down | [`ShutDown`](BulkheadError::ShutDown) | no | no |
//! | it waited too long for a worker | [`QueueTimeout`](BulkheadError::QueueTimeout) | no | no |
//! | it was cancelled in the queue | [`Cancelled`](BulkheadError::Cancelled) | no | no |
//! | a task waited for it, with too many calls nested already | [`TooDeep`](BulkheadError::TooDeep) | no | no |
//! | there was no worker, and the system refused one ([`idle_timeout`](BulkheadConfig::idle_timeout) only) | [`NoThread`](BulkheadError::NoThread) | no | no |
//! | the caller's limit passed | [`Timeout`](BulkheadError::Timeout) | its `started` says | yes, if it started: at that moment, and what the task returns later does not |
//! | the task panicked | [`Panicked`](BulkheadError::Panicked) | yes | yes |
//! | the task returned `Err` | [`Failed`](BulkheadError::Failed) | yes | yes, unless [`failure_if`](Call::failure_if) or [`classify`](Call::classify) says otherwise |
//! | the same, because its handle cancelled it | [`Failed`](BulkheadError::Failed) | yes | no |
//!
//! For `?` there are [`result`](ExecutionHandle::result) and [`flatten`](ExecutionResult::flatten); a
//! [table](BulkheadError#in-a-function-that-returns-another-error) says which of them fits `anyhow`, boxed errors and enums.
//!
//! # How do I choose N, Q and the limits?
//!
//! * **N** ([`max_concurrent_calls`](BulkheadConfig::max_concurrent_calls)): calls a second at the peak, times the
//!   seconds that a call takes, and some room. 50 calls a second of 40 ms keep two workers busy: take four. Never more than
//!   the dependency serves at a time, such as the size of its connection pool. For CPU-bound work: the number of cores.
//! * **Q** ([`max_queue_size`](BulkheadConfig::max_queue_size)): how many calls a short burst brings beyond N. The last
//!   call in a full queue waits Q ÷ N times the run time. Q = 0 refuses at once.
//! * **The client's own timeout**, inside the task, ends the work and gives the worker back. Nothing else can.
//! * **The caller's limit** ([`execution_timeout`](BulkheadConfig::execution_timeout),
//!   [`timeout`](Call::timeout)) ends the waiting. Make it longer than the client's timeout: else tasks run on
//!   after their callers have left.
//! * **The queue timeout** ([`queue_timeout`](BulkheadConfig::queue_timeout)) keeps work from starting for which no caller
//!   will wait. Make it the caller's limit less the client's timeout: a task that starts can then still finish in time.
//!
//! A caller that waits 1 s, a client with 700 ms, a queue timeout of 300 ms: they fit. Where limits differ from call to
//! call, let the client take [`CurrentExecution::remaining`] as its timeout.
//!
//! # Do I need threads for it?
//!
//! Where the client has timeouts of its own that can be relied on, or the work is short, a [`SemaphoreBulkhead`] does: it
//! runs calls in their callers' threads, at most N at a time. They cost a fraction, and may borrow. But a task that
//! hangs then takes its caller with it.
//!
//! # What if a call fails, or takes too long?
//!
//! The module [`policy`] has what goes around a call: retry, one deadline for everything below, fallback, rate limit,
//! hedge, and [`Pipeline`](policy::Pipeline), which puts them together in an order that makes sense.
//!
//! # What can a task know about itself?
//!
//! [`current()`](current()): whether it is cancelled, its deadline, its id, the operation's name. A call that a task makes
//! inherits the nearer deadline and the cancel, unless it is [`detached`](Call::detached).
//! A [`ContextVar`] holds a request id or a tenant: every bulkhead carries its value from the caller to the worker, by itself.
//! A [`ContextPropagator`] does so for what belongs to another crate.
//!
//! # Does a trace go on in the worker?
//!
//! Yes, by itself, with the feature of the crate that makes it:
//!
//! | | feature `tracing` | feature `opentelemetry` |
//! |---|---|---|
//! | goes along to the worker | the caller's span, and its subscriber, even one that is set for that thread alone | the caller's `Context`: span, baggage, values |
//! | is made for each call | a span `bulkhead_call` under the caller's | nothing |
//! | is made for each call through a [policy] | a span around those of its attempts | nothing |
//! | is told | at level debug: a call that is refused, a caller that leaves at its limit, an attempt after which another follows | nothing |
//!
//! After each task the worker has its own span and context again. The same holds for `wrap`, [`policy`], maps, streams, and calls
//! that tasks make. Calls of a [`SemaphoreBulkhead`] stay in their callers' threads, so they only have their spans.
//!
//! The span has the target `bulkman` and the level info. It begins with the admission of a call and ends before the outcome
//! can be seen, so the time in the queue is in it. Its fields:
//!
//! | field | |
//! |---|---|
//! | `bulkhead`, `operation`, `execution_id` | as in the [result](ExecutionResult) |
//! | `queued_seconds` | how long the call had waited, once it starts or is given up |
//! | `outcome` | a [`CallOutcome`] in words, at the end |
//! | `otel.status_code` | `ERROR` at the end of a call that neither succeeded nor was cancelled; exporters mark the span by it |
//!
//! A call through a [`Pipeline`](policy::Pipeline) is one span, and its attempts' spans are below it. A
//! [`Retry`](policy::Retry), a [`Hedge`](policy::Hedge) and a [`Fallback`](policy::Fallback) that are used alone have one too:
//!
//! | span | fields, besides `outcome` and `otel.status_code` |
//! |---|---|
//! | `pipeline_call` | `pipeline`, `operation`, `attempts`, `decided_by`, `elapsed_seconds`; where it is so also `retry_stop`, `fell_back_from`, `hedged` and `hedges_won` |
//! | `retry_call` | `retry`, `attempts`; `retry_stop` if it gave up |
//! | `hedge_call` | `bulkhead`, `hedged`, `second_won` |
//! | `fallback_call` | `fallback`, `fell_back` |
//!
//! They are named as in the [result](policy::PipelineResult). A call that the fallback has answered is a success. A span of
//! `tracing` stays open as long as one below it: where an attempt runs on after its caller has left, `elapsed_seconds` is what
//! the caller has waited.
//!
//! A [detached](Call::detached) call of a task begins a trace of its own, which follows from the task's. To switch spans off,
//! filter the target, or tell one bulkhead with `BulkheadBuilder::call_spans`, or a pipeline or another policy with its own
//! `call_spans`; the caller's span then still goes along.
//! `BulkheadBuilder::propagate_trace` switches everything off. A propagator of your own that carries spans is no longer needed.
//!
//! A call's span costs 0.4 µs in the caller's thread and 0.8 µs on a worker, a feature that nobody listens to some 10 to 20 ns
//! (`cargo bench --all-features --bench telemetry -- --quick`).
//!
//! OpenTelemetry gets spans through the crate `tracing-opentelemetry`, which makes them from those of `tracing`. That is why the
//! feature `opentelemetry` makes none: with both features each call would have two. A service that makes its spans with
//! OpenTelemetry alone has them under its caller's, since the `Context` is there.
//!
//! # What can I see?
//!
//! [`Bulkhead::stats`]: exact numbers that balance in every snapshot. A [`BulkheadListener`] is told of
//! each event. [`Bulkhead::state`] says how the bulkhead is doing, [`CircuitBreaker::stats`] how its circuit is.
//! [`Bulkhead::health`] answers a readiness probe, by [thresholds](HealthThresholds) that you set, with reasons in words.
//! With the feature `config` the numbers serialise, durations in seconds.
//! A [`Pipeline`](policy::Pipeline) has [stats](policy::Pipeline::stats) of its own: what callers got after all attempts.
//! The module [`export`] has them for Prometheus, for the `metrics` crate and for OpenTelemetry.
//!
//! The crate writes to [`log`](https://docs.rs/log). A single call has lines at the level trace only:
//!
//! | target | level | line |
//! |---|---|---|
//! | `bulkman` | error | a panic in user code that belongs to no call: a listener, a hook, a drop; the thread for limits of awaited calls could not start |
//! | `bulkman` | warn | a bulkhead is full and refuses calls; it has refused so many calls for this and that reason, at most every five seconds; the system refuses it a worker thread; a dependency has chaos in its settings |
//! | `bulkman` | info | a bulkhead that was full has room again; its limits have changed |
//! | `bulkman` | debug | a bulkhead is shutting down, cancels what is queued, is shut down |
//! | `bulkman` | trace | a call is admitted, refused, started, finished, cancelled, and so on |
//! | `bulkman::circuit` | warn | a circuit opens; its storage fails, or cannot hold it; the storage's clock is far from this host's |
//! | `bulkman::circuit` | info | a circuit closes or goes half-open; its storage is back, or holds it again |
//! | `bulkman::circuit` | error | a setting of the environment is ignored (feature `postgres`) |
//! | `bulkman::circuit` | debug | a connection to PostgreSQL has ended (feature `postgres`) |
//!
//! A line has its facts as key-values too, for a logger that writes them: `bulkhead` or `circuit`, `execution_id`,
//! `operation`, `rejected_full` and so on. A listener that panics has one line, not one for each of its panics.
//!
//! # What if I have many dependencies?
//!
//! [`Dependencies`] has them by name, each with the bulkhead and the limits that suit its [kind](DependencyKind): a
//! database, an API, a cache. Limits can be set for all, for a kind, for a dependency, for an operation and for a call;
//! [`Dependencies::explain`] shows which of them decides. A timeout can follow how long calls take: [`AdaptiveTimeout`],
//! which is experimental. With the feature `config` all of it comes from a file and the
//! environment, see the module `settings`.
//!
//! A call of a dependency makes one attempt. [`Dependencies::pipeline`] adds the retries, the rate limit and the hedge that its
//! settings name, and for drills the [chaos](ChaosOverrides).
//!
//! A [`BulkheadRegistry`], on which it stands, has bulkheads by name without such knowledge: made in one place, looked up in
//! others, watched and shut down together.
//!
//! # Can limits change while it works?
//!
//! | what | by |
//! |---|---|
//! | N and Q | [`Bulkhead::resize`], [`SemaphoreBulkhead::resize`] |
//! | the queue timeout and the caller's limit | [`Bulkhead::set_queue_timeout`], [`Bulkhead::set_execution_timeout`] |
//! | from where on it counts as unhealthy | [`Bulkhead::set_health_thresholds`], [`SemaphoreBulkhead::set_health_thresholds`] |
//! | the rules of the circuit | [`Bulkhead::set_circuit_breaker`], [`CircuitBreaker::set_config`] |
//! | all of it for all dependencies, from a file that was loaded anew | [`Dependencies::apply_config`], and `apply` with the feature `config` |
//! | how many threads there are, by the work that there is | [`BulkheadConfig::idle_timeout`] |
//!
//! Calls that have been admitted stay admitted, and no call is lost.
//!
//! # Can processes share a circuit?
//!
//! Yes: give the bulkheads a [`CircuitStorage`]. Every process that has a circuit of that name honours it: one process finds
//! out that the dependency is down, and all stop calling.
//!
//! | storage | for |
//! |---|---|
//! | `PostgresStorage`, feature `postgres` | a fleet, Python services among it: the table is that of [resilient-circuit](https://pypi.org/project/resilient-circuit/), on which Python's bulkman stands |
//! | [`MemoryStorage`] | a single process |
//! | [your own](CircuitStorage#implementing-one) | a small trait: two operations, and a field |
//!
//! * **No call ever waits for the storage.** One thread for each storage does all I/O. It writes an own change at once, and
//!   asks for news of all its circuits [once a second](CircuitSync::with_refresh_interval).
//! * **The first process that opens a circuit wins.** A live open circuit is not overwritten, and it ends for all at the same
//!   moment. Only an operator undoes it, for everybody: [`reset`](CircuitBreaker::reset), or
//!   [`force_open`](CircuitBreaker::force_open), which holds until a reset.
//! * **While the storage is down**, circuits go on with what each process knows, at full speed, and one warning is logged. After a
//!   failover that has lost the last writes, the process that opened a circuit [stores it
//!   again](CircuitStorage#rows-that-go-back-in-time-or-away).
//! * **Clocks may be wrong.** A process times its own isolation by its monotonic clock, and [caps](CircuitStorage#clocks) an end
//!   that a peer has stored.
//!
//! PgBouncer in transaction mode, several hosts and standbys are fine. `PostgresStorage` says how, and has the environment
//! variables, TLS and Python's side.
//!
//! # How does it end?
//!
//! | I want to | use |
//! |---|---|
//! | run what is queued and wait for it | [`Bulkhead::shutdown`], or drop the bulkhead |
//! | the same within a limit, and cancel what is left | [`Bulkhead::shutdown_timeout`] |
//! | cancel what is queued, and not wait | [`Bulkhead::shutdown_now`] |
//! | run what is queued, and not wait | [`Bulkhead::close`], and later perhaps [`Bulkhead::wait_closed`] |
//! | wait until there is nothing to do, and go on | [`Bulkhead::wait_idle`] |
//!
//! A [`ShutdownReport`] says what was finished, what cancelled and what still runs.
//!
//! When `main` returns, the process ends, and with it every thread, wherever its task is. A bulkhead that `main` owns is
//! dropped before that, so its work is done. A bulkhead in a `static` is never dropped:
//! [shut it down in `main`](Bulkhead#at-the-end-of-the-process).
//!
//! # Is there code to copy?
//!
//! The [`recipes`]: an async service, tracing, a client with a timeout, an HTTP answer with `Retry-After`, retries, anyhow.
//!
//! # I come from somewhere else
//!
//! | from | |
//! |---|---|
//! | Python's bulkman | [`from_python`]: the same names, and what behaves differently |
//! | threadpool, rayon, tokio's `spawn_blocking` | [`from_thread_pools`] |
//!
//! # What surprises people?
//!
//! | | |
//! |---|---|
//! | `drop(bulkhead.run(job))` on a full bulkhead | drops the job: the refusal is in the handle. [`try_run`](Bulkhead::try_run) gives it back, [`wait_for_capacity`](Call::wait_for_capacity) waits for a place. |
//! | two reasons to refuse a call | shut down comes first, then the open circuit, then full. A call that is refused as full uses up no probe. |
//! | the circuit opens while calls are queued | they end as `CircuitOpen` at once and never start ([`refuse_queued_when_open`](CircuitBreakerConfig::refuse_queued_when_open)). Those that run go on. |
//! | a second [`cancel`](ExecutionHandle::cancel) | returns `false` and changes nothing. |
//! | a bulkhead that nobody uses yet | has its N threads already, and keeps them: they start with it, unless they have an [`idle_timeout`](BulkheadConfig::idle_timeout). |
//! | [`reset_stats`](Bulkhead::reset_stats) while calls run | they count as submitted anew, and their ends count. The circuit does not change. |
//! | after a shutdown | it is [`ShutDown`](BulkheadState::ShutDown) for good, whatever its circuit says: unhealthy, without capacity. Its numbers can still be read. |
//! | a task that panics | its text is in [`Panic::message`] and in the log of the panic hook, not in the error's own text, which services send to clients. |
//!
//! # Which Cargo features are there?
//!
//! None is on by default, and each is there because of the crates that it needs.
//!
//! | feature | for | crates |
//! |---|---|---|
//! | `tracing` | [traces](#does-a-trace-go-on-in-the-worker): the caller's span on the worker, a span for each call, also through a pipeline | tracing |
//! | `opentelemetry` | the caller's `Context` on the worker; `export::OpenTelemetryInstruments` | opentelemetry |
//! | `metrics` | `export::MetricsPublisher` | metrics |
//! | `config`, `yaml` | settings from files and the environment | serde, toml, saphyr-parser |
//! | `postgres` | circuits that a fleet shares | tokio-postgres |
//!
//! # When is it not what I want?
//!
//! * For async I/O: tasks occupy a thread while they run. Limit futures with a semaphore instead.
//! * For work that must be killed at a deadline: a thread cannot be. The caller gets away in time, the task
//!   runs on and keeps its worker. Give the client inside it a timeout of its own
//!   ([`CurrentExecution::remaining`] is a good one).
//! * For work of less than a microsecond, where handing it to another thread costs more than doing it: take a
//!   [`SemaphoreBulkhead`].
//! * For splitting one computation over all cores: that is a work-stealing pool's job.

mod adaptive;
mod circuit;
mod clock;
mod config;
mod context;
mod core;
mod dependency;
mod error;
mod event;
pub mod export;
#[cfg(any(doc, doctest))]
#[doc = include_str!("guide/from_python.md")]
pub mod from_python {}
#[cfg(any(doc, doctest))]
#[doc = include_str!("guide/from_thread_pools.md")]
pub mod from_thread_pools {}
#[cfg(any(bulkman_loom, bulkman_shuttle))]
#[doc(hidden)]
#[allow(
    missing_docs,
    missing_debug_implementations,
    reason = "for the model tests alone"
)]
pub mod model;
mod panic;
pub mod policy;
#[cfg(any(doc, doctest))]
#[doc = include_str!("guide/recipes.md")]
pub mod recipes {}
mod registry;
mod result;
mod semaphore;
#[cfg(feature = "config")]
pub mod settings;
mod stats;
mod sync;
mod text;
mod thread_pool;

pub use adaptive::{
    AdaptiveTimeout, AdaptiveTimeoutConfig, AdaptiveTimeoutRule, AdaptiveTimeoutStats,
};
pub use circuit::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerConfig, CircuitChange,
    CircuitChangeReason, CircuitError, CircuitMode, CircuitOpen, CircuitPermit, CircuitRecord,
    CircuitState, CircuitStats, CircuitStorage, CircuitSync, CircuitWindow, ClockSkew,
    IsolationBackoff, MemoryStorage, StorageError, StoredCircuit, Verdict, WriteGuard,
    WriteOutcome,
};
#[cfg(feature = "postgres")]
pub use circuit::{PostgresStorage, PostgresStorageBuilder};
pub use clock::{Clock, ManualClock};
pub use config::BulkheadConfig;
pub use context::{
    CapturedContext, ContextGuard, ContextPropagator, ContextSnapshot, ContextVar, propagate,
};
pub use core::{
    BulkheadBuilder, Call, CancelReason, ClassifyWith, CurrentExecution, EveryError,
    FailureClassifier, FailureIf, RunningTask, SemaphoreKind, ShutdownReport, ThreadPoolKind,
    current,
};
pub use dependency::{
    AdaptiveTimeoutSetting, BulkheadKind, ChaosOverrides, CircuitBreakerOverrides, ConfigLevel,
    Decided, Dependencies, DependenciesBuilder, DependencyCall, DependencyChange, DependencyConfig,
    DependencyDefaults, DependencyError, DependencyKind, DependencyOverrides, DependencyPipeline,
    DependencyPipelineBuilder, Explanation, HealthOverrides, HedgeOverrides, OperationOverrides,
    RateLimitOverrides, RetryOverrides, TimeoutSetting, UnknownKind,
};
pub use error::{BuildError, BulkheadError, RejectReason, Rejected};
pub use event::{BulkheadEvent, BulkheadListener, CallInfo, FinishedOutcome};
pub use panic::Panic;
pub use registry::{
    AnyBulkhead, BulkheadRegistry, CommonBulkhead, RegistryError, RegistryHealth, UnknownBulkhead,
};
pub use result::{CallOutcome, CallSummary, ExecutionResult};
pub use semaphore::{SemaphoreBulkhead, SemaphoreBulkheadBuilder, SemaphoreCall, SemaphoreGuard};
pub use stats::{
    BulkheadHealth, BulkheadState, BulkheadStats, Distribution, HealthReason, HealthThresholds,
};
pub use thread_pool::{
    AsCompleted, Bulkhead, CancelHandle, CancelOnDrop, ExecuteMap, ExecutionHandle,
    ExecutionStream, HandleSet, StreamResults, StreamSendError, StreamSink, Waitable, as_completed,
    wait_all, wait_all_timeout, wait_any, wait_any_timeout,
};
pub use uuid::Uuid;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the compiler refuses, each beside a twin that differs in the wrong piece only.
///
/// Tasks are sent to another thread:
/// ```
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let shared = std::sync::Arc::new(1);
/// bulkhead.run(move || *shared).wait();
/// ```
/// ```compile_fail,E0277
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let shared = std::rc::Rc::new(1);
/// bulkhead.run(move || *shared).wait();
/// ```
///
/// Values come back from there:
/// ```
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// bulkhead.run(|| std::sync::Arc::new(1)).wait();
/// ```
/// ```compile_fail,E0277
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// bulkhead.run(|| std::rc::Rc::new(1)).wait();
/// ```
///
/// A task may outlive its caller, so it borrows nothing:
/// ```
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let text = String::from("owned");
/// bulkhead.run(move || text.len()).wait();
/// ```
/// ```compile_fail,E0373
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let text = String::from("owned");
/// bulkhead.run(|| text.len()).wait();
/// ```
///
/// But not where they run in their caller's thread, from which they may borrow:
/// ```
/// # use std::rc::Rc;
/// # let bulkhead = bulkman::SemaphoreBulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let text = Rc::new(String::from("borrowed"));
/// let same = bulkhead.run(|| Rc::clone(&text)).into_result().unwrap();
/// assert!(Rc::ptr_eq(&text, &same));
/// ```
///
/// So it is with pipelines:
/// ```
/// # use std::sync::Arc;
/// # use bulkman::{BulkheadConfig, SemaphoreBulkhead, policy::Pipeline};
/// let bulkhead = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("doc")).unwrap());
/// let pipeline = Pipeline::builder("doc").bulkhead(&bulkhead).build().unwrap();
/// let text = String::from("borrowed");
/// drop(pipeline.execute(|| Ok::<_, String>(text.len())));
/// ```
/// ```compile_fail,E0373
/// # use std::sync::Arc;
/// # use bulkman::{BulkheadConfig, Bulkhead, policy::Pipeline};
/// let bulkhead = Arc::new(Bulkhead::new(BulkheadConfig::new("doc")).unwrap());
/// let pipeline = Pipeline::builder("doc").bulkhead(&bulkhead).build().unwrap();
/// let text = String::from("borrowed");
/// drop(pipeline.execute(|| Ok::<_, String>(text.len())));
/// ```
///
/// A retry knows what to do with an error, or is told:
/// ```
/// # use bulkman::policy::Retry;
/// let retry = Retry::new(3).retry_if(|_: &std::num::ParseIntError| true);
/// assert!(retry.call(|| "7".parse::<u8>()).is_ok());
/// ```
/// ```compile_fail,E0277
/// # use bulkman::policy::Retry;
/// let retry = Retry::new(3);
/// assert!(retry.call(|| "7".parse::<u8>()).is_ok());
/// ```
///
/// One outcome, once:
/// ```
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let handle = bulkhead.run(|| 1);
/// handle.cancel();
/// handle.wait();
/// ```
/// ```compile_fail,E0382
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let handle = bulkhead.run(|| 1);
/// handle.wait();
/// handle.wait();
/// ```
///
/// A call that is dropped is dropped on purpose:
/// ```
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// #[deny(unused_must_use)]
/// drop(bulkhead.run(|| 1));
/// ```
/// ```compile_fail
/// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// #[deny(unused_must_use)]
/// bulkhead.run(|| 1);
/// ```
#[cfg(doctest)]
struct Refused;

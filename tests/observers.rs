//! Listeners, context propagators, worker hooks and wrapped functions.

mod support;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadBuilder, BulkheadError, BulkheadEvent, BulkheadListener, CapturedContext,
    ContextPropagator, ExecutionHandle, FinishedOutcome, ManualClock,
};
use support::{Gate, OpenOnDrop, assert_balanced, bulkhead, config, eventually, occupy, wait};

const SECOND: Duration = Duration::from_secs(1);

// ---- listeners

/// Writes down what it hears, in words.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl BulkheadListener for Journal {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        let line = match event {
            BulkheadEvent::Rejected {
                reason, operation, ..
            } => {
                let why = if reason.is_full() {
                    "full"
                } else if reason.is_circuit_open() {
                    "circuit open"
                } else {
                    "shut down"
                };
                format!("rejected {why} {}", operation.unwrap_or("-"))
            }
            BulkheadEvent::Started { call, .. } => {
                assert_eq!(call.bulkhead, "test");
                format!("started {}", call.operation.unwrap_or("-"))
            }
            BulkheadEvent::Finished { call, outcome, .. } => {
                format!("{outcome:?} {}", call.operation.unwrap_or("-"))
            }
            BulkheadEvent::Expired {
                call, queued_time, ..
            } => format!("expired {} {queued_time:?}", call.operation.unwrap_or("-")),
            BulkheadEvent::Cancelled {
                call, queued_time, ..
            } => format!(
                "cancelled {} {queued_time:?}",
                call.operation.unwrap_or("-")
            ),
            BulkheadEvent::CircuitChanged { change, .. } => {
                format!("circuit {} to {}", change.from, change.to)
            }
            BulkheadEvent::ShuttingDown { bulkhead, .. } => format!("shutting down {bulkhead}"),
            other => panic!("unheard of: {other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Journal {
    /// What was heard since the last time.
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn journaled(n: usize, q: usize) -> (Bulkhead, Journal, ManualClock) {
    let (journal, clock) = (Journal::default(), ManualClock::new());
    let config = config(n, q).circuit_breaker(Default::default());
    let built = Bulkhead::builder(config)
        .clock(clock.clone())
        .listener(journal.clone())
        .build();
    (built.unwrap(), journal, clock)
}

#[test]
fn a_listener_hears_of_each_kind_of_event_before_its_outcome_can_be_seen() {
    let (bulkhead, journal, clock) = journaled(1, 1);
    let named = |name: &'static str| bulkhead.call().operation(name);

    assert!(wait(named("a").run(|| ())).is_success());
    assert_eq!(journal.read(), ["started a", "Succeeded a"]);
    assert!(
        wait(named("b").execute(|| Err::<(), _>(())))
            .error()
            .is_some()
    );
    assert_eq!(journal.read(), ["started b", "Failed b"]);
    let result: bulkman::ExecutionResult<(), _> = wait(named("c").run(|| panic!("c")));
    assert!(result.error().is_some());
    assert_eq!(journal.read(), ["started c", "Panicked c"]);

    let busy = occupy(&bulkhead, 1);
    assert_eq!(journal.read(), ["started -"]);
    let queued = named("d").run(|| ());
    assert!(wait(named("e").run(|| ())).error().is_some());
    assert!(named("f").try_execute(|| Ok::<_, ()>(())).is_err());
    assert_eq!(journal.read(), ["rejected full e", "rejected full f"]);
    clock.advance(2 * SECOND);
    assert!(queued.cancel());
    assert_eq!(journal.read(), ["cancelled d 2s"]);
    let queued = named("g").queue_timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(queued.wait().error().is_some());
    assert_eq!(journal.read(), ["expired g 1s"]);
    busy.finish();
    assert_eq!(journal.read(), ["Succeeded -"]);

    bulkhead.circuit_breaker().unwrap().trip();
    assert!(wait(named("h").run(|| ())).error().is_some());
    assert_eq!(
        journal.read(),
        ["circuit closed to open", "rejected circuit open h"]
    );
    let _ = bulkhead.shutdown();
    let _ = bulkhead.shutdown();
    assert!(wait(bulkhead.run(|| ())).error().is_some());
    assert_eq!(
        journal.read(),
        ["shutting down test", "rejected shut down -"]
    );
}

#[test]
fn a_listener_hears_what_a_shutdown_cancels() {
    let (bulkhead, journal, _clock) = journaled(1, 2);
    let busy = occupy(&bulkhead, 1);
    let queued = [
        bulkhead.call().operation("x").run(|| ()),
        bulkhead.call().operation("y").run(|| ()),
    ];
    let _ = journal.read();
    let _ = bulkhead.shutdown_now();
    assert_eq!(
        journal.read(),
        ["shutting down test", "cancelled x 0ns", "cancelled y 0ns"]
    );
    drop(queued);
    busy.finish();
}

#[test]
fn events_carry_the_calls_id_and_times_and_come_in_the_thread_of_the_happening() {
    #[derive(Debug, PartialEq)]
    struct Heard {
        thread: ThreadId,
        id: String,
        times: (Duration, Option<Duration>),
    }

    let heard = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1))
        .clock(clock.clone())
        .listener({
            let heard = Arc::clone(&heard);
            move |event: &BulkheadEvent<'_>| {
                let (id, times) = match event {
                    BulkheadEvent::Started {
                        call, queued_time, ..
                    } => (call.execution_id.to_string(), (*queued_time, None)),
                    BulkheadEvent::Finished {
                        call,
                        outcome,
                        queued_time,
                        execution_time,
                        ..
                    } => {
                        assert_eq!(*outcome, FinishedOutcome::Succeeded);
                        let times = (*queued_time, Some(*execution_time));
                        (call.execution_id.to_string(), times)
                    }
                    _ => return,
                };
                let thread = thread::current().id();
                heard.lock().unwrap().push(Heard { thread, id, times });
            }
        })
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    let moves = clock.clone();
    let handle = bulkhead.run(move || {
        moves.advance(3 * SECOND);
        thread::current().id()
    });
    clock.advance(2 * SECOND);
    busy.finish();
    let id = handle.execution_id().to_string();
    let thread = handle.wait().into_result().unwrap();
    let heard = heard.lock().unwrap();
    let times = [(2 * SECOND, None), (2 * SECOND, Some(3 * SECOND))];
    let ours: Vec<_> = heard.iter().filter(|h| h.id == id).collect();
    assert_eq!(ours.len(), 2);
    for (ours, times) in ours.into_iter().zip(times) {
        assert_eq!((ours.thread, ours.times), (thread, times));
    }
}

#[test]
fn all_listeners_are_told_in_order_and_one_that_panics_does_not_keep_the_others_from_it() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = |number: u32| {
        let told = Arc::clone(&told);
        move |_: &BulkheadEvent<'_>| {
            told.lock().unwrap().push(number);
            assert_ne!(number, 2, "a listener that panics");
        }
    };
    let bulkhead = Bulkhead::builder(config(2, 2))
        .listener(listener(1))
        .listener(listener(2))
        .listener(listener(3))
        .build()
        .unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(*told.lock().unwrap(), [1, 2, 3, 1, 2, 3]);
    let busy = occupy(&bulkhead, 2);
    assert!(bulkhead.run(|| ()).cancel());
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 4);
    assert!(bulkhead.shutdown().is_clean());
    assert!(wait(bulkhead.run(|| ())).error().is_some());
    assert_balanced(&bulkhead.stats());
}

#[test]
fn a_listener_may_use_the_bulkhead() {
    let slot: Arc<std::sync::OnceLock<Arc<Bulkhead>>> = Arc::default();
    let heard = Arc::new(AtomicUsize::new(0));
    let bulkhead = Bulkhead::builder(config(1, 1))
        .listener({
            let (slot, heard) = (Arc::clone(&slot), Arc::clone(&heard));
            move |event: &BulkheadEvent<'_>| {
                let Some(bulkhead) = slot.get() else { return };
                assert_balanced(&bulkhead.stats());
                if matches!(event, BulkheadEvent::Finished { .. })
                    && heard.fetch_add(1, Ordering::SeqCst) == 0
                {
                    // The finished call still has its place, the other one is free.
                    drop(bulkhead.run(|| ()));
                }
            }
        })
        .build()
        .unwrap();
    let bulkhead = slot.get_or_init(|| Arc::new(bulkhead));
    assert!(wait(bulkhead.run(|| ())).is_success());
    eventually("both have finished", || heard.load(Ordering::SeqCst) == 2);
    let _ = bulkhead.shutdown();
    assert_eq!(bulkhead.stats().successful_executions, 2);
}

// ---- propagators

thread_local! {
    static REQUEST: Cell<u32> = const { Cell::new(0) };
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Carries `REQUEST`, and writes into the worker's `LOG` what it does.
struct Request(&'static str);

struct Restore(&'static str, u32);

impl Drop for Restore {
    fn drop(&mut self) {
        REQUEST.set(self.1);
        LOG.with_borrow_mut(|log| log.push(format!("detach {}", self.0)));
    }
}

impl ContextPropagator for Request {
    fn capture(&self) -> CapturedContext {
        let (name, id) = (self.0, REQUEST.get());
        CapturedContext::new(move || -> Box<dyn Any> {
            LOG.with_borrow_mut(|log| log.push(format!("attach {name}")));
            Box::new(Restore(name, REQUEST.replace(id)))
        })
    }
}

fn log_of(bulkhead: &Bulkhead) -> Vec<String> {
    wait(bulkhead.run(|| LOG.take())).into_result().unwrap()
}

#[test]
fn a_context_goes_from_the_caller_to_the_worker_and_not_further() {
    let bulkhead = Bulkhead::builder(config(1, 4))
        .context_propagator(Request("a"))
        .build()
        .unwrap();
    for id in [7, 8] {
        REQUEST.set(id);
        let handle = bulkhead.run(|| REQUEST.get());
        REQUEST.set(99);
        assert_eq!(wait(handle).value(), Some(&id), "as it was when submitted");
    }
    // A thread that has no request leaves the worker as it was before all of them.
    let handle = thread::scope(|scope| scope.spawn(|| bulkhead.run(|| REQUEST.get())).join());
    assert_eq!(wait(handle.unwrap()).value(), Some(&0));
}

#[test]
fn contexts_attach_in_order_and_detach_in_reverse_after_a_panic_too() {
    let bulkhead = Bulkhead::builder(config(1, 4))
        .context_propagator(Request("a"))
        .context_propagator(Request("b"))
        .build()
        .unwrap();
    let round = ["attach a", "attach b", "detach b", "detach a"];
    assert!(wait(bulkhead.run(|| ())).is_success());
    let seen = log_of(&bulkhead);
    assert_eq!(seen[..4], round);
    let _ = log_of(&bulkhead);
    let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("in between")));
    assert!(result.error().is_some());
    let seen = log_of(&bulkhead);
    assert_eq!(seen[2..6], round);
}

#[test]
fn a_nested_call_has_its_callers_context_and_gives_the_outer_one_back() {
    let bulkhead = Arc::new(
        Bulkhead::builder(config(1, 1))
            .context_propagator(Request("a"))
            .build()
            .unwrap(),
    );
    REQUEST.set(5);
    let inner = Arc::clone(&bulkhead);
    let handle = bulkhead.run(move || {
        let before = REQUEST.replace(6);
        let nested = inner.run(|| REQUEST.get()).wait();
        (before, nested.into_result().unwrap(), REQUEST.get())
    });
    assert_eq!(wait(handle).value(), Some(&(5, 6, 6)));
    REQUEST.set(0);
    assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&0));
}

#[test]
fn a_context_of_a_call_that_never_starts_is_dropped_unused() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    struct Holds(Arc<()>);
    impl ContextPropagator for Holds {
        fn capture(&self) -> CapturedContext {
            let held = Arc::clone(&self.0);
            CapturedContext::new(move || -> Box<dyn Any> { Box::new(held) })
        }
    }
    let bulkhead = Bulkhead::builder(config(1, 1))
        .context_propagator(Holds(held))
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    assert_eq!(
        Arc::strong_count(&token),
        3,
        "its own and the running call's"
    );
    let queued = bulkhead.run(|| ());
    assert_eq!(Arc::strong_count(&token), 4);
    assert!(queued.cancel());
    assert_eq!(Arc::strong_count(&token), 3);
    drop(queued);
    busy.finish();
    assert_eq!(Arc::strong_count(&token), 2);
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(Arc::strong_count(&token), 2);
}

/// Panics in one of its three steps.
#[derive(Clone, Copy, PartialEq)]
enum PanicsIn {
    Capture,
    Attach,
    Detach,
}

struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        panic!("in detach");
    }
}

impl ContextPropagator for PanicsIn {
    fn capture(&self) -> CapturedContext {
        let step = *self;
        assert!(step != Self::Capture, "in capture");
        CapturedContext::new(move || -> Box<dyn Any> {
            assert!(step != Self::Attach, "in attach");
            Box::new(PanicOnDrop)
        })
    }
}

#[test]
fn a_propagator_that_panics_in_any_step_disturbs_neither_the_task_nor_the_others() {
    for step in [PanicsIn::Capture, PanicsIn::Attach, PanicsIn::Detach] {
        let bulkhead = Bulkhead::builder(config(2, 2))
            .context_propagator(Request("before"))
            .context_propagator(step)
            .context_propagator(Request("after"))
            .build()
            .unwrap();
        REQUEST.set(3);
        for _ in 0..5 {
            assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&3));
        }
        let busy = occupy(&bulkhead, 2);
        busy.finish();
        assert_eq!(bulkhead.available_capacity(), 4);
        assert_eq!(bulkhead.stats().successful_executions, 7);
    }
}

// ---- worker hooks

fn with_hooks(
    builder: BulkheadBuilder,
    started: &Arc<Mutex<Vec<usize>>>,
    stopped: &Arc<Mutex<Vec<usize>>>,
) -> BulkheadBuilder {
    let (started, stopped) = (Arc::clone(started), Arc::clone(stopped));
    builder
        .on_worker_start(move |index| started.lock().unwrap().push(index))
        .on_worker_stop(move |index| stopped.lock().unwrap().push(index))
}

fn sorted(indices: &Mutex<Vec<usize>>) -> Vec<usize> {
    let mut indices = indices.lock().unwrap().clone();
    indices.sort_unstable();
    indices
}

#[test]
fn hooks_run_once_on_each_worker_with_its_index() {
    let (started, stopped) = (Arc::default(), Arc::default());
    let builder = Bulkhead::builder(config(3, 3));
    let bulkhead = with_hooks(builder, &started, &stopped).build().unwrap();
    let busy = occupy(&bulkhead, 3);
    assert_eq!(sorted(&started), [0, 1, 2], "before the first task");
    assert_eq!(sorted(&stopped), [0; 0]);
    busy.finish();
    drop(bulkhead);
    assert_eq!(sorted(&started), [0, 1, 2]);
    assert_eq!(sorted(&stopped), [0, 1, 2]);
}

#[test]
fn hooks_run_on_the_workers_thread_and_share_its_thread_local_values() {
    thread_local!(static CONNECTION: RefCell<Option<String>> = const { RefCell::new(None) });

    let closed = Arc::new(Mutex::new(Vec::new()));
    let bulkhead = Bulkhead::builder(config(1, 1))
        .on_worker_start(|index| CONNECTION.set(Some(format!("connection {index}"))))
        .on_worker_stop({
            let closed = Arc::clone(&closed);
            move |_| closed.lock().unwrap().push(CONNECTION.take())
        })
        .build()
        .unwrap();
    let seen = wait(bulkhead.run(|| CONNECTION.with_borrow(Clone::clone)));
    assert_eq!(seen.value(), Some(&Some("connection 0".to_owned())));
    drop(bulkhead);
    assert_eq!(*closed.lock().unwrap(), [Some("connection 0".to_owned())]);
}

#[test]
fn hooks_that_panic_cost_no_worker_and_do_not_keep_the_others_from_running() {
    let (started, stopped) = (Arc::default(), Arc::default());
    let builder = Bulkhead::builder(config(2, 2))
        .on_worker_start(|_| panic!("a start hook that panics"))
        .on_worker_stop(|_| panic!("a stop hook that panics"));
    let bulkhead = with_hooks(builder, &started, &stopped).build().unwrap();
    occupy(&bulkhead, 2).finish();
    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(sorted(&started), [0, 1]);
    assert_eq!(sorted(&stopped), [0, 1]);
}

// ---- wrapped functions

#[test]
fn a_wrapped_function_takes_a_tuple_and_gives_each_callers_result() {
    let bulkhead = bulkhead(2, 8);
    let divide = bulkhead.wrap(|(a, b): (i32, i32)| a.checked_div(b).ok_or("division by zero"));
    assert_eq!(divide((42, 6)).value(), Some(&7));
    assert!(matches!(
        divide((1, 0)).error(),
        Some(BulkheadError::Failed("division by zero"))
    ));
    assert_eq!(bulkhead.stats().submitted_executions, 2);
}

#[test]
fn a_wrapped_function_is_shared_by_many_threads() {
    let bulkhead = bulkhead(2, 8);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let square = bulkhead.wrap(move |n: usize| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(n * n)
    });
    thread::scope(|scope| {
        for t in 0..4 {
            let own = square.clone();
            let shared = &square;
            scope.spawn(move || {
                for n in 0..100 {
                    let n = n + t;
                    assert_eq!(own(n).value(), Some(&(n * n)));
                    assert_eq!(shared(n).value(), Some(&(n * n)));
                }
            });
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), 800);
}

#[test]
fn a_wrapped_function_that_panics_can_be_called_again() {
    let bulkhead = bulkhead(1, 1);
    let picky = bulkhead.wrap(|n: u32| {
        assert!(n < 10, "too much");
        Ok::<_, ()>(n)
    });
    assert!(matches!(
        picky(10).error(),
        Some(BulkheadError::Panicked(_))
    ));
    assert_eq!(picky(9).value(), Some(&9));
}

#[test]
fn a_wrapped_function_outlives_its_bulkhead_and_says_so() {
    let bulkhead = bulkhead(1, 1);
    let wrapped = bulkhead.wrap(|()| Ok::<_, ()>(1));
    drop(bulkhead);
    assert!(matches!(
        wrapped(()).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

// ---- operations

#[test]
fn a_task_can_read_its_operation_and_its_bulkheads_name() {
    let bulkhead = bulkhead(1, 1);
    let read = || {
        let call = bulkman::current().expect("in a task");
        (
            call.operation().map(str::to_owned),
            call.bulkhead_name().to_owned(),
        )
    };
    let test = || "test".to_owned();
    assert_eq!(wait(bulkhead.run(read)).value(), Some(&(None, test())));
    let fixed = bulkhead.call().operation("get_user").run(read);
    assert_eq!(
        wait(fixed).value(),
        Some(&(Some("get_user".to_owned()), test()))
    );
    let made_up = bulkhead.call().operation(format!("get_{}", 7)).run(read);
    assert_eq!(
        wait(made_up).value(),
        Some(&(Some("get_7".to_owned()), test()))
    );
}

// ---- what comes between two calls of a busy worker

const HOUR: Duration = Duration::from_secs(3600);

/// A waker that moves the clock.
struct Advances(ManualClock);

impl Wake for Advances {
    fn wake(self: Arc<Self>) {
        self.0.advance(HOUR);
    }
}

/// A value that moves the clock when it is dropped.
struct AdvancesOnDrop(ManualClock);

impl Drop for AdvancesOnDrop {
    fn drop(&mut self) {
        self.0.advance(HOUR);
    }
}

/// A context that moves the clock when its task is over.
struct AdvancesAfterTask(ManualClock);

impl ContextPropagator for AdvancesAfterTask {
    fn capture(&self) -> CapturedContext {
        let clock = self.0.clone();
        CapturedContext::new(|| -> Box<dyn Any> { Box::new(AdvancesOnDrop(clock)) })
    }
}

/// Between two calls of a busy worker runs user code that takes an hour: the second has waited for it.
fn next_call_waits_for(
    build: impl FnOnce(BulkheadBuilder, &ManualClock) -> BulkheadBuilder,
    end_of_first: impl FnOnce(ExecutionHandle<Option<AdvancesOnDrop>, Infallible>, &ManualClock),
    value: impl FnOnce(&ManualClock) -> Option<AdvancesOnDrop> + Send + 'static,
) {
    let clock = ManualClock::new();
    let builder = Bulkhead::builder(config(1, 1)).clock(clock.clone());
    let bulkhead = build(builder, &clock).build().unwrap();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let first = {
        let (gate, clock) = (gate.clone(), clock.clone());
        bulkhead.run(move || {
            gate.pass();
            value(&clock)
        })
    };
    gate.wait_for_arrivals(1);
    let second = bulkhead.run(|| ());
    end_of_first(first, &clock);
    gate.open();
    // Not `wait`, which has a limit by this very clock.
    eventually("the second ended", || second.is_finished());
    assert_eq!(second.wait().queued_time, HOUR);
}

#[test]
fn a_call_has_waited_for_the_listeners_of_the_one_before() {
    let listening = |builder: BulkheadBuilder, clock: &ManualClock| {
        let (clock, ended) = (clock.clone(), AtomicBool::new(false));
        builder.listener(move |event: &BulkheadEvent<'_>| {
            let first_end = matches!(event, BulkheadEvent::Finished { .. })
                && !ended.swap(true, Ordering::Relaxed);
            if first_end {
                clock.advance(HOUR);
            }
        })
    };
    // Held until the second has ended.
    let mut held = None;
    next_call_waits_for(listening, |first, _| held = Some(first), |_| None);
}

#[test]
fn a_call_has_waited_for_the_contexts_of_the_one_before() {
    let mut held = None;
    next_call_waits_for(
        |builder, clock| builder.context_propagator(AdvancesAfterTask(clock.clone())),
        |first, _| held = Some(first),
        |_| None,
    );
}

#[test]
fn a_call_has_waited_for_the_drop_of_the_result_before() {
    next_call_waits_for(
        |builder, _| builder,
        |first, _| drop(first),
        |clock| Some(AdvancesOnDrop(clock.clone())),
    );
}

#[test]
fn a_call_has_waited_for_the_waker_of_the_one_before() {
    let mut held = None;
    next_call_waits_for(
        |builder, _| builder,
        |mut first, clock| {
            let waker = Arc::new(Advances(clock.clone())).into();
            assert!(
                Pin::new(&mut first)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            held = Some(first);
        },
        |_| None,
    );
}

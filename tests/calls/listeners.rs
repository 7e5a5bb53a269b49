//! Listeners hear every event in time and in the right thread. They may use the bulkhead, and may panic.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadEvent, BulkheadListener, CircuitBreakerConfig, ContextVar, FinishedOutcome,
    ManualClock, SemaphoreBulkhead, propagate,
};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, assert_balanced, at_a_gate, config, eventually, occupy,
    wait,
};

/// Writes down what it hears, in words.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl BulkheadListener for Journal {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        let line = match event {
            BulkheadEvent::Admitted { call, .. } => {
                format!("admitted {}", call.operation.unwrap_or("-"))
            }
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
            BulkheadEvent::Abandoned {
                call, running_for, ..
            } => format!(
                "abandoned {} {running_for:?}",
                call.operation.unwrap_or("-")
            ),
            BulkheadEvent::SaturationBegan { bulkhead, .. } => format!("{bulkhead} is full"),
            BulkheadEvent::SaturationEnded {
                lasted, rejected, ..
            } => format!("room again after {lasted:?} and {rejected} calls"),
            BulkheadEvent::ShuttingDown { bulkhead, .. } => format!("shutting down {bulkhead}"),
            BulkheadEvent::CancellingQueue { queued, .. } => format!("cancelling {queued}"),
            BulkheadEvent::ShutDown { bulkhead, .. } => format!("shut down {bulkhead}"),
            other => format!("unheard of: {other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Journal {
    /// The lines since the last time.
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
    assert_eq!(journal.read(), ["admitted a", "started a", "Succeeded a"]);
    assert!(
        wait(named("b").execute(|| Err::<(), _>(())))
            .error()
            .is_some()
    );
    assert_eq!(journal.read(), ["admitted b", "started b", "Failed b"]);
    let result: bulkman::ExecutionResult<(), _> = wait(named("c").run(|| panic!("c")));
    assert!(result.error().is_some());
    assert_eq!(journal.read(), ["admitted c", "started c", "Panicked c"]);

    let busy = occupy(&bulkhead, 1);
    assert_eq!(journal.read(), ["admitted -", "started -"]);
    let queued = named("d").run(|| ());
    assert!(wait(named("e").run(|| ())).error().is_some());
    assert!(named("f").try_execute(|| Ok::<_, ()>(())).is_err());
    assert_eq!(
        journal.read(),
        [
            "admitted d",
            "test is full",
            "rejected full e",
            "rejected full f"
        ]
    );
    clock.advance(2 * SECOND);
    assert!(queued.cancel());
    assert_eq!(
        journal.read(),
        ["room again after 2s and 2 calls", "cancelled d 2s"]
    );
    let queued = named("g").queue_timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(queued.wait().error().is_some());
    assert_eq!(journal.read(), ["admitted g", "expired g 1s"]);
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
        [
            "shutting down test",
            "shut down test",
            "rejected shut down -"
        ]
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
        [
            "shutting down test",
            "cancelling 2",
            "cancelled x 0ns",
            "cancelled y 0ns"
        ]
    );
    drop(queued);
    busy.finish();
    assert_eq!(journal.read(), ["Succeeded -", "shut down test"]);
}

#[test]
fn a_listener_hears_of_callers_that_leave_running_tasks() {
    let (bulkhead, journal, clock) = journaled(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    // Its listeners hear of the start before it comes to the gate, and perhaps after its handle says so.
    opener.0.wait_for_arrivals(1);
    clock.advance(2 * SECOND);
    let _ = journal.read();
    drop(handle);
    assert_eq!(journal.read(), ["abandoned - 2s"]);
    drop(opener);
    assert!(bulkhead.wait_idle(PATIENCE));
    let _ = journal.read();

    // Its caller leaves while it is queued: it is nobody's from the start.
    let busy = occupy(&bulkhead, 1);
    drop(bulkhead.call().operation("a").run(|| ()));
    busy.finish();
    assert!(bulkhead.wait_idle(PATIENCE));
    assert_eq!(
        journal.read(),
        [
            "admitted -",
            "started -",
            "admitted a",
            "Succeeded -",
            "started a",
            "Succeeded a"
        ]
    );
}

#[test]
fn a_caller_that_leaves_at_its_limit_abandons_the_task_first() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 0))
        .clock(clock.clone())
        .on_event(move |event| {
            let line = match event {
                BulkheadEvent::Abandoned { .. } => "abandoned",
                BulkheadEvent::CallerTimedOut { .. } => "timed out",
                _ => return,
            };
            ear.lock().unwrap().push(line);
        })
        .build()
        .unwrap();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = bulkhead.call().timeout(SECOND).run(move || gate.pass());
    eventually("it runs", || handle.is_started());
    clock.advance(SECOND);
    assert!(wait(handle).error().is_some());
    assert_eq!(*heard.lock().unwrap(), ["abandoned", "timed out"]);
    drop(opener);
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
    assert_eq!(*told.lock().unwrap(), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
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

#[test]
fn a_closure_needs_no_types_and_hears_what_a_listener_hears() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let bulkhead = Bulkhead::builder(config(1, 1))
        .on_event(move |event| {
            if matches!(event, BulkheadEvent::Finished { .. }) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[test]
fn one_listener_is_shared_by_several_bulkheads() {
    let journal = Arc::new(Journal::default());
    let dynamic: Arc<dyn BulkheadListener> = Arc::clone(&journal) as _;
    let one = Bulkhead::builder(config(1, 1))
        .listener(Arc::clone(&journal))
        .build()
        .unwrap();
    let other = SemaphoreBulkhead::builder(config(1, 1))
        .listener(dynamic)
        .build()
        .unwrap();
    assert!(wait(one.call().operation("a").run(|| ())).is_success());
    assert!(other.call().operation("b").run(|| ()).is_success());
    assert_eq!(
        journal.read(),
        [
            "admitted a",
            "started a",
            "Succeeded a",
            "admitted b",
            "started b",
            "Succeeded b"
        ]
    );
}

static REQUEST: ContextVar<u32> = ContextVar::new();

thread_local! {
    static TRACE: Cell<u32> = const { Cell::new(0) };
}

/// The request and the trace, as each event finds them.
type Seen = Arc<Mutex<Vec<(&'static str, Option<u32>, u32)>>>;

fn with_contexts(seen: &Seen) -> Bulkhead {
    let seen = Arc::clone(seen);
    let circuit = CircuitBreakerConfig::default().failure_threshold(1);
    Bulkhead::builder(config(1, 2).circuit_breaker(circuit))
        .context_propagator(propagate(|| TRACE.get(), |trace| TRACE.set(trace)))
        .on_event(move |event| {
            let what = match event {
                BulkheadEvent::Started { .. } => "started",
                BulkheadEvent::Finished { .. } => "finished",
                BulkheadEvent::Rejected { .. } => "rejected",
                BulkheadEvent::RefusedInQueue { .. } => "refused in queue",
                BulkheadEvent::CircuitChanged { .. } => "circuit changed",
                _ => return,
            };
            let line = (what, REQUEST.get(), TRACE.get());
            seen.lock().unwrap().push(line);
        })
        .build()
        .unwrap()
}

/// Makes a call of the request and the trace `number`.
fn of_request<R>(number: u32, body: impl FnOnce() -> R) -> R {
    REQUEST.with(number, || {
        TRACE.set(number);
        let value = body();
        TRACE.set(0);
        value
    })
}

#[test]
fn a_listener_hears_of_a_call_inside_the_calls_own_context() {
    let seen = Seen::default();
    let bulkhead = with_contexts(&seen);
    for number in [7, 8] {
        let handle = of_request(number, || bulkhead.run(|| ()));
        assert!(wait(handle).is_success());
    }
    let panics = of_request(9, || bulkhead.run::<(), _>(|| panic!("in between")));
    assert!(wait(panics).error().is_some());
    let opened = seen.lock().unwrap().pop();
    assert_eq!(
        opened,
        Some(("circuit changed", None, 0)),
        "no request's business"
    );
    let refused = of_request(10, || bulkhead.run(|| ()));
    assert!(wait(refused).error().is_some());
    let around = |number| ["started", "finished"].map(|what| (what, Some(number), number));
    let expected: Vec<_> = [7, 8, 9]
        .into_iter()
        .flat_map(around)
        .chain([("rejected", Some(10), 10)])
        .collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn a_call_that_opens_the_circuit_does_not_lend_its_context_to_those_that_it_ends() {
    let seen = Seen::default();
    let bulkhead = with_contexts(&seen);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let fails = of_request(1, || {
        bulkhead.execute(move || {
            gate.pass();
            Err::<(), _>(())
        })
    });
    let queued = of_request(2, || bulkhead.run(|| ()));
    drop(opener);
    assert!(wait(fails).error().is_some());
    assert!(wait(queued).error().is_some_and(|e| e.is_circuit_open()));
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&("refused in queue", None, 0)), "{seen:?}");
}

//! The numbers: exact after every outcome, balanced in every snapshot.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadError, BulkheadState, BulkheadStats, CircuitBreakerConfig, CircuitState,
    Distribution, ManualClock,
};
use support::{Gate, OpenOnDrop, assert_balanced, bulkhead, config, eventually, occupy, wait};

const SECOND: Duration = Duration::from_secs(1);

fn with_clock(n: usize, q: usize) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let config = config(n, q).circuit_breaker(CircuitBreakerConfig::default());
    let built = Bulkhead::builder(config).clock(clock.clone()).build();
    (built.unwrap(), clock)
}

/// One of every outcome, and some of them twice.
fn every_outcome(bulkhead: &Bulkhead, clock: &ManualClock) {
    for _ in 0..3 {
        assert!(wait(bulkhead.run(|| ())).is_success());
    }
    for _ in 0..2 {
        let failed = wait(bulkhead.execute(|| Err::<(), _>(())));
        assert!(matches!(failed.error(), Some(BulkheadError::Failed(()))));
    }
    let panicked: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("one")));
    assert!(matches!(panicked.error(), Some(BulkheadError::Panicked(_))));
    assert!(wait(bulkhead.run(|| ())).is_success());

    // Two busy workers, two calls queued, two refused.
    let busy = occupy(bulkhead, 2);
    let cancelled = bulkhead.run(|| ());
    let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
    for _ in 0..2 {
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
    }
    assert!(cancelled.cancel());
    let out_of_time = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(matches!(
        expired.wait().error(),
        Some(BulkheadError::QueueTimeout { .. })
    ));
    assert!(matches!(
        out_of_time.wait().error(),
        Some(BulkheadError::Timeout { started: false, .. })
    ));
    busy.finish();

    bulkhead.circuit_breaker().unwrap().trip();
    assert!(matches!(
        wait(bulkhead.run(|| ())).error(),
        Some(BulkheadError::CircuitOpen { .. })
    ));
    bulkhead.circuit_breaker().unwrap().reset();
}

#[test]
fn a_new_bulkhead_starts_at_zero() {
    let stats = bulkhead(3, 4).stats();
    assert_balanced(&stats);
    assert_eq!(&*stats.name, "test");
    assert_eq!((stats.max_concurrent_calls, stats.max_queue_size), (3, 4));
    assert_eq!((stats.submitted_executions, stats.in_flight), (0, 0));
    assert!(!stats.circuit_breaker_enabled);
    assert_eq!(stats.circuit_state, None);
    assert_eq!((stats.queue_wait.count(), stats.run_time.count()), (0, 0));
}

#[test]
fn every_outcome_has_its_own_number() {
    let (bulkhead, clock) = with_clock(2, 2);
    every_outcome(&bulkhead, &clock);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.successful_executions, 6);
    assert_eq!(stats.failed_executions, 2);
    assert_eq!(stats.panicked_executions, 1);
    assert_eq!(stats.total_executions, 9);
    assert_eq!(stats.cancelled_executions, 1);
    assert_eq!(stats.timed_out_executions, 2);
    assert_eq!(stats.rejected_full, 2);
    assert_eq!(stats.rejected_circuit_open, 1);
    assert_eq!(stats.rejected_shut_down, 0);
    assert_eq!(stats.rejected_executions, 3);
    assert_eq!(stats.submitted_executions, 15);
    assert_eq!((stats.queued_tasks, stats.active_tasks), (0, 0));
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0));
    assert!(stats.circuit_breaker_enabled);
    assert_eq!(stats.circuit_state, Some(CircuitState::Closed));
    assert_eq!(stats.queue_wait.count(), 9, "of calls that started");
    assert_eq!(stats.run_time.count(), 9);

    let _ = bulkhead.shutdown();
    assert!(!wait(bulkhead.run(|| ())).is_success());
    let after = bulkhead.stats();
    assert_balanced(&after);
    assert_eq!(after.rejected_shut_down, 1);
    assert_eq!(after.submitted_executions, 16);
    assert_eq!(
        after.successful_executions, 6,
        "numbers outlive the workers"
    );
}

#[test]
fn calls_in_flight_are_queued_or_active() {
    let bulkhead = bulkhead(2, 3);
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..3).map(|_| bulkhead.run(|| ())).collect();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 3));
    assert_eq!((stats.in_flight, stats.total_executions), (5, 2));
    assert_eq!(stats.submitted_executions, 5);
    assert!(queued[0].cancel());
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 2));
    busy.finish();
}

#[test]
fn a_call_that_its_waiter_runs_itself_has_started_and_is_not_active() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let inner = Arc::clone(&bulkhead);
    let outer = bulkhead.run(move || {
        let within = Arc::clone(&inner);
        inner.run(move || within.stats()).wait()
    });
    let stats = wait(outer).into_result().unwrap().into_result().unwrap();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 1));
    assert_eq!(stats.total_executions, 2);
    let after = bulkhead.stats();
    assert_eq!((after.in_flight, after.total_executions), (0, 2));
    // And then no more: who only waits has not started.
    let busy = occupy(&bulkhead, 1);
    let waiting = bulkhead.run(|| ());
    assert_eq!(bulkhead.stats().total_executions, 3);
    busy.finish();
    assert!(wait(waiting).is_success());
}

#[test]
fn the_sum_in_one_line() {
    let (bulkhead, clock) = with_clock(2, 2);
    every_outcome(&bulkhead, &clock);
    let text = "bulkhead `test` is healthy: 15 submitted = 3 rejected + 1 cancelled + 2 timed out + 6 successful \
                + 2 failed + 1 panicked + 0 queued + 0 active";
    assert_eq!(bulkhead.stats().to_string(), text);
    for (state, text) in [
        (BulkheadState::Degraded, "degraded"),
        (BulkheadState::Isolated, "isolated"),
        (BulkheadState::ShutDown, "shut down"),
    ] {
        assert_eq!(state.to_string(), text);
    }
}

#[test]
fn who_has_seen_an_outcome_finds_it_counted() {
    let bulkhead = bulkhead(2, 8);
    for i in 1..=2_000 {
        assert!(bulkhead.run(|| ()).wait().is_success());
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, i);
        assert_eq!(stats.submitted_executions, i);
        assert_eq!(stats.in_flight, 0);
    }
}

#[test]
fn who_was_refused_finds_it_counted() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    for i in 1..=1_000 {
        assert!(bulkhead.try_execute(|| Ok::<_, ()>(())).is_err());
        let stats = bulkhead.stats();
        assert_eq!((stats.rejected_full, stats.in_flight), (i, 1));
    }
    busy.finish();
}

// ---- under load

/// Every counter that may only grow.
fn growing(stats: &BulkheadStats) -> [u64; 12] {
    [
        stats.submitted_executions,
        stats.total_executions,
        stats.successful_executions,
        stats.failed_executions,
        stats.panicked_executions,
        stats.rejected_executions,
        stats.rejected_full,
        stats.rejected_circuit_open,
        stats.rejected_shut_down,
        stats.timed_out_executions,
        stats.cancelled_executions,
        stats.successful_executions + stats.failed_executions + stats.panicked_executions,
    ]
}

fn assert_never_goes_back(before: &BulkheadStats, after: &BulkheadStats) {
    for (before, after) in growing(before).into_iter().zip(growing(after)) {
        assert!(before <= after, "a counter went back: {before} to {after}");
    }
}

/// How many tasks have started can be neither more than were let in nor less than have ended.
fn assert_started_fits(stats: &BulkheadStats) {
    let ended = stats.successful_executions + stats.failed_executions + stats.panicked_executions;
    let never_started =
        stats.rejected_executions + stats.cancelled_executions + stats.timed_out_executions;
    assert!(
        stats.total_executions >= ended + stats.active_tasks,
        "{stats:?}"
    );
    assert!(
        stats.total_executions + never_started <= stats.submitted_executions,
        "more have started than were submitted: {stats:?}"
    );
}

/// Ends the watchers, also when the test fails, so that their scope can end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one submitter did, by outcome.
#[derive(Default, Debug, PartialEq)]
struct Counted {
    submitted: u64,
    succeeded: u64,
    failed: u64,
    panicked: u64,
    refused: u64,
    expired: u64,
    cancelled: u64,
}

impl Counted {
    fn add<T, E>(&mut self, result: &bulkman::ExecutionResult<T, E>) {
        self.submitted += 1;
        match result.error() {
            None => self.succeeded += 1,
            Some(BulkheadError::Failed(_)) => self.failed += 1,
            Some(BulkheadError::Panicked(_)) => self.panicked += 1,
            Some(error) if error.is_rejected() => self.refused += 1,
            Some(BulkheadError::QueueTimeout { .. }) => self.expired += 1,
            Some(BulkheadError::Cancelled { .. }) => self.cancelled += 1,
            Some(_) => unreachable!("nobody sets a limit of another kind"),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            submitted: self.submitted + other.submitted,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            panicked: self.panicked + other.panicked,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// A mixed workload; each call is waited for or cancelled, so that its outcome is known.
fn submit_many(bulkhead: &Arc<Bulkhead>, calls: u64, seed: u64) -> Counted {
    let mut counted = Counted::default();
    let mut waiting = Vec::new();
    for i in 0..calls {
        // Some spread, the same in every run.
        let kind = (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 16;
        let handle = match kind {
            0 => bulkhead.execute(|| Err(())),
            // Without the panic hook's output, of which there would be thousands of lines.
            1 => bulkhead.execute(|| std::panic::resume_unwind(Box::new("quiet"))),
            2 => bulkhead
                .call()
                .queue_timeout(Duration::from_nanos(1))
                .execute(|| Ok(())),
            3 => bulkhead
                .call()
                .queue_timeout(Duration::from_micros(20))
                .execute(|| Ok(())),
            4 => {
                let handle = bulkhead.execute(|| Ok(()));
                handle.cancel();
                handle
            }
            5 => bulkhead.execute(|| {
                thread::yield_now();
                Ok(())
            }),
            _ => bulkhead.execute(|| Ok(())),
        };
        waiting.push(handle);
        if waiting.len() == 6 || kind == 7 {
            for handle in waiting.drain(..) {
                counted.add(&wait(handle));
            }
        }
    }
    for handle in waiting {
        counted.add(&wait(handle));
    }
    counted
}

#[test]
fn every_snapshot_balances_under_full_load_and_the_end_is_exact() {
    const CALLS: u64 = 10_000;

    let bulkhead = Arc::new(bulkhead(2, 6));
    let over = AtomicBool::new(false);
    let counted = thread::scope(|scope| {
        let ending = Over(&over);
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut before = bulkhead.stats();
                    let mut snapshots = 0_u64;
                    while !over.load(Ordering::Relaxed) {
                        let stats = bulkhead.stats();
                        assert_balanced(&stats);
                        assert_started_fits(&stats);
                        assert_never_goes_back(&before, &stats);
                        before = stats;
                        snapshots += 1;
                    }
                    snapshots
                })
            })
            .collect();
        let submitters: Vec<_> = (0..3)
            .map(|seed| {
                let bulkhead = &bulkhead;
                scope.spawn(move || submit_many(bulkhead, CALLS, seed))
            })
            .collect();
        let counted = submitters
            .into_iter()
            .map(|submitter| submitter.join().unwrap())
            .fold(Counted::default(), Counted::plus);
        drop(ending);
        for watcher in watchers {
            assert!(watcher.join().unwrap() > 0);
        }
        counted
    });
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(counted.submitted, 3 * CALLS);
    let seen = Counted {
        submitted: stats.submitted_executions,
        succeeded: stats.successful_executions,
        failed: stats.failed_executions,
        panicked: stats.panicked_executions,
        refused: stats.rejected_executions,
        expired: stats.timed_out_executions,
        cancelled: stats.cancelled_executions,
    };
    assert_eq!(seen, counted);
    assert_eq!(stats.in_flight, 0);
}

#[test]
fn every_snapshot_balances_while_tasks_nest_and_handles_are_dropped() {
    let bulkhead = Arc::new(bulkhead(2, 20));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = bulkhead.stats();
                while !over.load(Ordering::Relaxed) {
                    let stats = bulkhead.stats();
                    assert_balanced(&stats);
                    assert_never_goes_back(&before, &stats);
                    before = stats;
                }
            });
        }
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for i in 0..4_000 {
                        let inner = Arc::clone(&bulkhead);
                        let handle = bulkhead.run(move || {
                            for _ in 0..3 {
                                // Refused or run; both are outcomes.
                                let _ = inner.run(|| ()).wait();
                            }
                        });
                        if i % 3 == 0 {
                            drop(handle);
                        } else {
                            let _ = wait(handle);
                        }
                    }
                })
            })
            .collect();
        for submitter in submitters {
            submitter.join().unwrap();
        }
        drop(ending);
    });
    eventually("all is over", || bulkhead.stats().in_flight == 0);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_started_fits(&stats);
    assert_eq!(stats.abandoned_tasks, 0);
    assert_eq!(stats.total_executions, stats.successful_executions);
}

#[test]
fn no_snapshot_shows_more_started_than_submitted_while_tasks_nest() {
    let bulkhead = Arc::new(bulkhead(1, 20));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert_started_fits(&bulkhead.stats());
                    }
                })
            })
            .collect();
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            for _ in 0..200_000 {
                assert!(inner.run(|| ()).wait().is_success());
            }
        });
        assert!(wait(outer).is_success());
        drop(ending);
        for watcher in watchers {
            watcher.join().unwrap();
        }
    });
}

// ---- reset

#[test]
fn a_reset_starts_all_counters_anew() {
    let (bulkhead, clock) = with_clock(2, 2);
    every_outcome(&bulkhead, &clock);
    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(growing(&stats), [0; 12]);
    assert_eq!((stats.queue_wait.count(), stats.run_time.count()), (0, 0));
    assert_eq!(stats.run_time.max(), Duration::ZERO);
    every_outcome(&bulkhead, &clock);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.submitted_executions, 15);
    assert_eq!(stats.total_executions, 9);
    assert_eq!(stats.run_time.count(), 9);
    let _ = bulkhead.shutdown();
    assert!(!wait(bulkhead.run(|| ())).is_success());
    bulkhead.reset_stats();
    assert_eq!(growing(&bulkhead.stats()), [0; 12]);
}

#[test]
fn a_reset_forgets_the_longest_time() {
    let (bulkhead, clock) = with_clock(1, 1);
    for longest in [10, 1] {
        let clock = clock.clone();
        let task = move || clock.advance(longest * SECOND);
        assert!(wait(bulkhead.run(task)).is_success());
        assert_eq!(bulkhead.stats().run_time.max(), longest * SECOND);
        bulkhead.reset_stats();
    }
}

#[test]
fn calls_in_flight_at_a_reset_count_as_submitted_again() {
    let bulkhead = bulkhead(2, 3);
    assert!(wait(bulkhead.run(|| ())).is_success());
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..3).map(|_| bulkhead.run(|| ())).collect();
    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (5, 5));
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 3));
    assert_eq!(stats.total_executions, 2, "the running ones");
    assert_eq!(stats.successful_executions, 0);
    busy.finish();
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (5, 0));
    assert_eq!(stats.successful_executions, 5);
    assert_eq!(stats.total_executions, 5);
}

#[test]
fn resets_under_load_leave_every_snapshot_balanced() {
    let bulkhead = Arc::new(bulkhead(2, 6));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                bulkhead.reset_stats();
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let stats = bulkhead.stats();
                assert_balanced(&stats);
                assert!(stats.run_time.mean() <= stats.run_time.max());
            }
        });
        let submitters: Vec<_> = (0..2)
            .map(|seed| {
                let bulkhead = &bulkhead;
                scope.spawn(move || submit_many(bulkhead, 5_000, seed))
            })
            .collect();
        for submitter in submitters {
            submitter.join().unwrap();
        }
        drop(ending);
    });
    bulkhead.reset_stats();
    assert_eq!(growing(&bulkhead.stats()), [0; 12]);
}

// ---- distributions

fn assert_consistent(times: &Distribution) {
    assert!(times.mean() <= times.max());
    let quantiles = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0].map(|q| times.quantile(q));
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    assert!(quantiles.iter().all(|q| *q <= times.max()));
}

#[test]
fn run_times_and_queue_waits_are_recorded() {
    let (bulkhead, clock) = with_clock(1, 1);
    for millis in 1..=100 {
        let clock = clock.clone();
        let result = bulkhead
            .run(move || clock.advance(Duration::from_millis(millis)))
            .wait();
        assert_eq!(result.execution_time, Duration::from_millis(millis));
        assert_eq!(result.queued_time, Duration::ZERO);
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.run_time.count(), 100);
    assert_eq!(stats.run_time.max(), Duration::from_millis(100));
    assert_eq!(stats.run_time.mean(), Duration::from_micros(50_500));
    let median = stats.run_time.quantile(0.5);
    assert!(median >= Duration::from_millis(50) && median <= Duration::from_micros(56_250));
    assert_consistent(&stats.run_time);
    assert_eq!(stats.queue_wait.count(), 100);
    assert_eq!(stats.queue_wait.max(), Duration::ZERO);

    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    clock.advance(3 * SECOND);
    busy.gate.open();
    assert_eq!(queued.wait().queued_time, 3 * SECOND);
    let stats = bulkhead.stats();
    assert_eq!(stats.queue_wait.max(), 3 * SECOND);
    assert_consistent(&stats.queue_wait);
}

#[test]
fn calls_that_never_start_are_in_no_distribution() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    assert!(bulkhead.run(|| ()).cancel());
    busy.finish();
    let stats = bulkhead.stats();
    assert_eq!(stats.queue_wait.count(), 1);
    assert_eq!(stats.run_time.count(), 1);
}

// ---- abandoned

#[test]
fn a_running_task_without_a_handle_is_abandoned_until_it_ends() {
    let bulkhead = bulkhead(2, 2);
    let busy = occupy(&bulkhead, 2);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
    let gate = busy.gate.clone();
    drop(busy.handles);
    // The gate's opener is still held.
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.abandoned_tasks, stats.active_tasks), (2, 2));
    gate.open();
    eventually("both end", || bulkhead.stats().abandoned_tasks == 0);
    eventually("both are counted", || {
        bulkhead.stats().successful_executions == 2
    });
    let wanted = occupy(&bulkhead, 2);
    assert_eq!(
        bulkhead.stats().abandoned_tasks,
        0,
        "those who run now are waited for"
    );
    wanted.finish();
}

#[test]
fn a_queued_task_without_a_handle_is_abandoned_once_it_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    drop(bulkhead.run(move || at_gate.pass()));
    assert_eq!(
        bulkhead.stats().abandoned_tasks,
        0,
        "nothing runs for nobody"
    );
    busy.finish();
    gate.wait_for_arrivals(1);
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    gate.open();
    eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
}

#[test]
fn a_task_whose_caller_ran_out_of_time_is_abandoned_until_it_ends() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_clock(1, 1);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead.call().timeout(SECOND).run(move || at_gate.pass());
        gate.wait_for_arrivals(1);
        clock.advance(SECOND);
        let result = if awaited {
            let mut handle = handle;
            let mut context = Context::from_waker(Waker::noop());
            match std::future::Future::poll(std::pin::Pin::new(&mut handle), &mut context) {
                std::task::Poll::Ready(result) => result,
                std::task::Poll::Pending => panic!("the limit has passed"),
            }
        } else {
            handle.wait()
        };
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ));
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.abandoned_tasks, stats.active_tasks), (1, 1));
        assert_eq!(stats.timed_out_executions, 0, "it has started");
        drop(opener);
        eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
        eventually("and counts", || bulkhead.stats().successful_executions == 1);
    }
}

#[test]
fn a_handle_that_is_dropped_after_the_end_abandons_nothing() {
    let bulkhead = bulkhead(1, 1);
    let (done, ends) = mpsc::channel();
    let handle = bulkhead.run(move || done.send(()).unwrap());
    ends.recv_timeout(support::PATIENCE).unwrap();
    eventually("finished", || handle.is_finished());
    drop(handle);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
}

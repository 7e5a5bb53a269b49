//! A second attempt beside a slow one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::policy::{
    Deadline, Failure, FailureKind, Hedge, HedgeStats, LayerKind, Pipeline, PipelineBuildError,
};
use bulkman::{
    AnyBulkhead, Bulkhead, BulkheadConfig, BulkheadError, Dependencies, DependencyConfig,
    DependencyKind, DependencyPipeline, ExecutionResult, HedgeOverrides, ManualClock,
    SemaphoreBulkhead,
};

use crate::helpers::millis;
use crate::support::{
    Bomb, Gate, HOUR, OpenOnDrop, SECOND, eventually, in_time, seconds, with_clock,
};

type Error = &'static str;
type Task = dyn Fn(usize) -> Result<usize, Error> + Send + Sync;

/// A pool whose clock stands still, so that a second attempt only comes when a test lets it.
struct Pool {
    bulkhead: Arc<Bulkhead>,
    clock: ManualClock,
}

fn pool(name: &str, workers: usize) -> Pool {
    let config = BulkheadConfig::new(name)
        .max_concurrent_calls(workers)
        .max_queue_size(4);
    let (bulkhead, clock) = with_clock(config);
    Pool { bulkhead, clock }
}

impl Pool {
    /// Called in the first attempt: lets the time pass until `is_there`.
    fn time_passes(
        &self,
        is_there: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Box<dyn Fn() + Send + Sync> {
        let clock = self.clock.clone();
        let is_there = Arc::new(is_there);
        Box::new(move || {
            let is_there = Arc::clone(&is_there);
            eventually("the second attempt", || {
                clock.advance(millis(1));
                is_there()
            });
        })
    }

    /// The same, until there is a second attempt.
    fn until_hedged(&self, hedge: &Hedge) -> Box<dyn Fn() + Send + Sync> {
        let hedge = hedge.clone();
        self.time_passes(move || hedge.stats().hedged == 1)
    }
}

/// Runs a task that gets the number of its attempt, from 1.
fn run(hedge: &Hedge, pool: &Pool, task: Arc<Task>) -> ExecutionResult<usize, Error> {
    let attempts = Arc::new(AtomicUsize::new(0));
    let (hedge, bulkhead) = (hedge.clone(), Arc::clone(&pool.bulkhead));
    in_time(move || {
        hedge.execute(&bulkhead, move || {
            task(attempts.fetch_add(1, Ordering::Relaxed) + 1)
        })
    })
}

fn counted(stats: HedgeStats) -> (u64, u64, u64) {
    (stats.calls, stats.hedged, stats.second_won)
}

#[test]
fn a_quick_call_has_no_second_attempt() {
    let quick = pool("quick", 2);
    let hedge = Hedge::after(HOUR);
    assert_eq!(run(&hedge, &quick, Arc::new(Ok)).value(), Some(&1));
    let failed = run(&hedge, &quick, Arc::new(|_| Err("down")));
    assert_eq!(failed.error().unwrap().failed(), Some(&"down"));
    assert_eq!(counted(hedge.stats()), (2, 0, 0));
    assert_eq!(quick.bulkhead.stats().submitted_executions, 2);
}

/// Waits until the hedge has cancelled this attempt.
fn is_told() {
    let call = bulkman::current().expect("it is called in a task");
    eventually("the loser is cancelled", || call.is_cancelled());
}

#[test]
fn the_second_attempt_of_a_slow_call_wins_and_the_loser_is_told() {
    let slow = pool("slow", 2);
    let hedge = Hedge::after(SECOND);
    let hedged = slow.until_hedged(&hedge);
    let told = Gate::new();
    let at_the_end = told.clone();
    let task = move |attempt| {
        if attempt == 1 {
            hedged();
            is_told();
            at_the_end.open();
        }
        Ok(attempt)
    };
    assert_eq!(run(&hedge, &slow, Arc::new(task)).value(), Some(&2));
    told.pass();
    assert_eq!(counted(hedge.stats()), (1, 1, 1));
}

#[test]
fn the_first_wins_if_it_is_quicker_after_all() {
    let pool = pool("first", 2);
    let hedge = Hedge::after(SECOND);
    let hedged = pool.until_hedged(&hedge);
    let task = move |attempt| {
        if attempt == 1 {
            hedged();
        } else {
            is_told();
        }
        Ok(attempt)
    };
    assert_eq!(run(&hedge, &pool, Arc::new(task)).value(), Some(&1));
    assert_eq!(counted(hedge.stats()), (1, 1, 0));
}

#[test]
fn the_loser_in_the_queue_never_runs() {
    let (near, far) = (pool("near", 1), pool("far", 1));
    // The only worker of the second bulkhead is taken.
    let busy = Gate::new();
    let open = OpenOnDrop(busy.clone());
    let taken = busy.clone();
    drop(far.bulkhead.run(move || taken.pass()));
    busy.wait_for_arrivals(1);
    let hedge = Hedge::after(SECOND).on(&far.bulkhead);
    let hedged = near.until_hedged(&hedge);
    let task = move |attempt| {
        hedged();
        Ok(attempt)
    };
    assert_eq!(run(&hedge, &near, Arc::new(task)).value(), Some(&1));
    eventually("the loser is cancelled", || {
        far.bulkhead.stats().cancelled_executions == 1
    });
    drop(open);
}

#[test]
fn one_that_fails_leaves_it_to_the_other_and_two_errors_give_the_first() {
    for (first, second, expected) in [
        (Ok(1), Err("second"), Ok(1)),
        (Err("first"), Ok(2), Ok(2)),
        (Err("first"), Err("second"), Err("first")),
    ] {
        let pool = pool("errors", 2);
        let hedge = Hedge::after(SECOND);
        let hedged = pool.until_hedged(&hedge);
        let task = move |attempt| {
            if attempt == 1 {
                hedged();
                first
            } else {
                second
            }
        };
        let result = run(&hedge, &pool, Arc::new(task)).into_result();
        let result = result.map_err(|error| *error.failed().unwrap());
        assert_eq!(result, expected);
        assert_eq!(hedge.stats().hedged, 1);
    }
}

#[test]
fn a_second_bulkhead_that_refuses_changes_nothing() {
    let (near, far) = (pool("near", 1), pool("far", 1));
    far.bulkhead.shutdown();
    let hedge = Hedge::after(SECOND).on(&far.bulkhead);
    let watched = Arc::clone(&far.bulkhead);
    let refused = near.time_passes(move || watched.stats().rejected_shut_down == 1);
    let task = move |attempt| {
        refused();
        Ok(attempt)
    };
    assert_eq!(run(&hedge, &near, Arc::new(task)).value(), Some(&1));
    assert_eq!(counted(hedge.stats()), (1, 0, 0));
}

#[test]
fn a_refused_call_has_no_second_attempt() {
    let gone = pool("gone", 1);
    gone.bulkhead.shutdown();
    let hedge = Hedge::after(Duration::ZERO);
    let result = run(&hedge, &gone, Arc::new(Ok));
    assert!(matches!(
        result.error(),
        Some(BulkheadError::ShutDown { .. })
    ));
    assert_eq!(counted(hedge.stats()), (1, 0, 0));
}

#[test]
fn a_deadline_ends_both() {
    let limited = pool("limited", 2);
    let hedge = Hedge::after(SECOND);
    let hedged = limited.until_hedged(&hedge);
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let (called, clock) = (Arc::clone(&limited.bulkhead), limited.clock.clone());
    let deadline = Deadline::after_on(clock.clone(), HOUR);
    let result = in_time(move || {
        deadline.with(|| {
            let attempts = AtomicUsize::new(0);
            hedge.execute(&called, move || {
                if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    hedged();
                    clock.advance(HOUR);
                }
                gate.pass();
                Ok::<_, Error>(())
            })
        })
    });
    assert_eq!(result.error().unwrap().failure_kind(), FailureKind::Timeout);
}

#[test]
fn a_task_that_hedges_on_its_own_bulkhead_does_not_hang() {
    let own = pool("own", 1);
    let inside = Arc::clone(&own.bulkhead);
    let outer = own.bulkhead.run(move || {
        let result = Hedge::after(millis(1)).execute(&inside, || Ok::<_, Error>(3));
        drop(inside);
        result.into_result().ok()
    });
    let result = in_time(move || outer.wait());
    assert_eq!(result.value(), Some(&Some(3)));
}

#[test]
fn a_quantile_of_the_run_times_is_the_delay() {
    let measured = pool("measured", 2);
    let hedge = Hedge::after_quantile(0.95, HOUR);
    // 100 calls of a second each, and five of a minute.
    for call in 0..105 {
        let clock = measured.clock.clone();
        let takes = seconds(if call % 21 == 0 { 60 } else { 1 });
        let task = measured.bulkhead.run(move || clock.advance(takes));
        task.wait().into_result().unwrap();
    }
    let (clock, seen) = (measured.clock.clone(), hedge.clone());
    let task = move |attempt| {
        if attempt == 1 {
            let began = clock.now();
            eventually("the second attempt", || {
                clock.advance(millis(10));
                seen.stats().hedged == 1
            });
            assert!(clock.now() - began >= SECOND, "not before the quantile");
        }
        Ok(attempt)
    };
    assert!(run(&hedge, &measured, Arc::new(task)).is_success());
    assert_eq!(hedge.stats().hedged, 1);
    // Of too few calls it is not known.
    let fresh = pool("fresh", 2);
    let hedge = Hedge::after_quantile(0.95, HOUR);
    assert!(run(&hedge, &fresh, Arc::new(Ok)).is_success());
    assert_eq!(hedge.stats().hedged, 0);
}

#[test]
fn a_loser_whose_drop_panics_harms_nobody() {
    for (first, second) in [(false, false), (false, true), (true, false)] {
        let name = format!("first {first}, second {second}");
        let users = pool("users", 2);
        let hedge = Hedge::after(SECOND);
        let hedged = users.until_hedged(&hedge);
        let pipeline: Pipeline<Option<Bomb>> = Pipeline::builder("users")
            .hedge(hedge)
            .bulkhead(&users.bulkhead)
            .build()
            .unwrap();
        let (called, bulkhead) = (pipeline.clone(), Arc::clone(&users.bulkhead));
        let attempts = AtomicUsize::new(0);
        let outcome = |succeeds, bomb| if succeeds { Ok(bomb) } else { Err(bomb) };
        let result = in_time(move || {
            called.execute(move || {
                if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    hedged();
                    // The winner ends last, so that the loser's result is there.
                    if first || !second {
                        eventually("the second ends", || {
                            bulkhead.stats().failed_executions == 1
                        });
                    }
                    outcome(first, if first || !second { None } else { Some(Bomb) })
                } else {
                    outcome(second, if second { None } else { Some(Bomb) })
                }
            })
        });
        assert_eq!(result.is_success(), first || second, "{name}");
        assert_eq!(result.hedged, 1, "{name}");
        assert_eq!(pipeline.stats().calls, 1, "{name}");
    }
}

#[test]
fn the_second_attempt_waits_for_no_place() {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder().clock(clock.clone()).build();
    let config = DependencyConfig::new(DependencyKind::Database)
        .max_concurrent_calls(1)
        .max_queue_size(0)
        .timeout(None)
        .hedge(HedgeOverrides::new().delay(SECOND));
    dependencies.register_with("users", config).unwrap();
    let AnyBulkhead::ThreadPool(bulkhead) = dependencies.bulkhead("users").unwrap() else {
        panic!("a database has threads");
    };
    let call = dependencies.call("users").unwrap().wait_for_capacity(HOUR);
    let pipeline: DependencyPipeline<Error> = call.pipeline().build().unwrap();
    let users = Pool { bulkhead, clock };
    let watched = Arc::clone(&users.bulkhead);
    // While it runs, its own place is the only one.
    let is_refused = users.time_passes(move || watched.stats().rejected_full == 1);
    let result = in_time(move || {
        pipeline.execute(move || {
            is_refused();
            Ok(7)
        })
    });
    assert_eq!((result.hedged, result.value()), (0, Some(&7)));
    assert_eq!(users.bulkhead.stats().total_executions, 1);
}

#[test]
fn in_a_pipeline_it_stands_before_a_bulkhead_with_threads() {
    let users = pool("users", 2);
    let hedge = Hedge::after(SECOND);
    let hedged = users.until_hedged(&hedge);
    let pipeline = Pipeline::builder("users")
        .timeout(HOUR)
        .hedge(hedge)
        .bulkhead(&users.bulkhead)
        .build()
        .unwrap();
    let attempts = AtomicUsize::new(0);
    let result = in_time(move || {
        pipeline.execute(move || {
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                hedged();
            }
            Ok::<_, Error>(1)
        })
    });
    assert_eq!((result.attempts, result.hedged), (1, 1));
    assert_eq!(result.value(), Some(&1));

    let semaphore = SemaphoreBulkhead::new(BulkheadConfig::new("users")).unwrap();
    let builder = || Pipeline::<Error, _, _>::builder("users").hedge(Hedge::after(HOUR));
    for error in [
        builder().build().unwrap_err(),
        builder()
            .bulkhead(&Arc::new(semaphore))
            .build()
            .unwrap_err(),
    ] {
        assert!(matches!(
            error,
            PipelineBuildError::Order {
                outer: LayerKind::Hedge,
                ..
            }
        ));
    }
}

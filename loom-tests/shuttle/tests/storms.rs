//! Schedules too large to enumerate: many threads that do everything at once, each schedule checked to its end.
//!
//! A thread decides by the schedule's own random numbers, so that a seed repeats the whole run. Beside the bulkhead,
//! the threads of a test share only things of the standard library: a schedule runs on one thread of the system, and
//! only the bulkhead is to be a point where it could switch.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CircuitBreaker, ExecutionResult, SemaphoreBulkhead};
use shuttle::thread;
use support::{
    AnyBulkhead, Counts, Running, assert_adds_up, assert_balanced, assert_grown, chance, check,
    config, finally, rules,
};

const SECOND: Duration = Duration::from_secs(1);

fn bulkhead(n: usize, q: usize) -> Arc<Bulkhead> {
    Arc::new(Bulkhead::new(config(n, q)).unwrap())
}

/// Moves the clock until it is told to stop.
fn clock(over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let over = Arc::clone(over);
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            bulkman::model::advance(SECOND / 4);
            thread::yield_now();
        }
    })
}

/// Looks at the ledger until it is told to stop, and finds it balanced and never going back.
fn watcher<B: AnyBulkhead>(bulkhead: &Arc<B>, over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (bulkhead, over) = (Arc::clone(bulkhead), Arc::clone(over));
    thread::spawn(move || {
        let mut before = bulkhead.stats();
        while !over.load(Ordering::Relaxed) {
            let now = bulkhead.stats();
            assert_balanced(&now);
            assert_grown(&before, &now);
            assert!(bulkhead.available_capacity() <= 5);
            before = now;
            thread::yield_now();
        }
    })
}

/// One call of a random kind, to its end.
fn any_call(bulkhead: &Arc<Bulkhead>, running: &Arc<Running>, counts: &Counts) {
    let task = running.task();
    match chance(9) {
        0 => counts.add(&bulkhead.execute(move || task().map_err(drop)).wait()),
        1 => {
            let handle = bulkhead.execute(task);
            counts.watch(&handle);
            let cancelled = handle.cancel_handle().cancel();
            let result = handle.wait();
            if cancelled {
                assert!(matches!(
                    result.error(),
                    Some(BulkheadError::Cancelled {
                        by_shutdown: false,
                        ..
                    })
                ));
            }
            counts.add(&result);
        }
        2 => {
            let failing = move || task().and(Err::<(), _>(()));
            counts.add(&bulkhead.execute(failing).wait());
        }
        3 => {
            // Without the panic hook, which would report a failure of the schedule.
            let panicking = move || {
                task()?;
                std::panic::resume_unwind(Box::new("storm"))
            };
            let result: ExecutionResult<(), ()> = bulkhead.execute(panicking).wait();
            counts.add(&result);
        }
        4 => counts.add(&bulkhead.execute_with_timeout(SECOND, task)),
        5 => {
            let call = bulkhead.call().queue_timeout(SECOND / 2);
            let handle = call.timeout(SECOND).execute(task);
            counts.watch(&handle);
            counts.add(&handle.wait());
        }
        6 => {
            let call = bulkhead.call().wait_for_capacity(SECOND);
            counts.add(&call.execute(task).wait());
        }
        7 => {
            let inner = Arc::clone(bulkhead);
            let inner_task = running.nested_task();
            let (counts_inside, outer_counts) = (counts.clone(), counts);
            let outer = bulkhead.execute(move || {
                task()?;
                counts_inside.add(&inner.execute(inner_task).wait());
                Ok::<_, ()>(())
            });
            outer_counts.add(&outer.wait());
        }
        _ => {
            let handle = bulkhead.execute(task);
            counts.watch(&handle);
            counts.add(&shuttle::future::block_on(handle));
        }
    }
}

/// Callers that each make three calls of `any_call`, beside a clock and a watcher. `how` shuts the bulkhead down while
/// they call. At most `n` tasks may run at once.
fn storm<B: AnyBulkhead>(
    bulkhead: &Arc<B>,
    n: usize,
    callers: usize,
    any_call: fn(&Arc<B>, &Arc<Running>, &Counts),
    how: fn(&Arc<B>, &Counts),
) {
    let running = Running::new(n);
    let counts = Counts::default();
    let over = Arc::new(AtomicBool::new(false));
    let helpers = [clock(&over), watcher(bulkhead, &over)];
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (bulkhead, running) = (Arc::clone(bulkhead), Arc::clone(&running));
            let counts = counts.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    any_call(&bulkhead, &running, &counts);
                }
            })
        })
        .collect();
    for _ in 0..chance(200) {
        thread::yield_now();
    }
    how(bulkhead, &counts);
    for caller in callers {
        caller.join().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for helper in helpers {
        helper.join().unwrap();
    }
    // The shutdown may have left calls that still run.
    finally(&**bulkhead);
    running.assert_over();
    counts.assert_are(&bulkhead.stats());
}

/// G1 to G10: three workers, three submitters of everything, a clock, a watcher, and a shutdown that comes while
/// they are at it.
fn everything_against(how: fn(&Arc<Bulkhead>, &Counts)) -> impl Fn() + Send + Sync {
    move || {
        let config = config(3, 2).circuit_breaker(rules(2, 1, SECOND));
        let bulkhead = Arc::new(Bulkhead::new(config).unwrap());
        storm(&bulkhead, 3, 3, any_call, how);
    }
}

#[test]
fn everything_against_shutdown() {
    check(
        "everything, shutdown",
        2_000,
        everything_against(|bulkhead, _| {
            assert!(bulkhead.shutdown().is_clean());
        }),
    );
}

#[test]
fn everything_against_shutdown_now() {
    check(
        "everything, shutdown_now",
        2_000,
        everything_against(|bulkhead, _| drop(bulkhead.shutdown_now())),
    );
}

#[test]
fn everything_against_shutdown_timeout() {
    check(
        "everything, shutdown_timeout",
        2_000,
        everything_against(|bulkhead, _| drop(bulkhead.shutdown_timeout(SECOND))),
    );
}

#[test]
fn everything_against_shutdowns_by_tasks_and_by_two_threads() {
    check(
        "everything, several shutdowns",
        2_000,
        everything_against(|bulkhead, counts| {
            let inside = Arc::clone(bulkhead);
            let first = bulkhead.run(move || drop(inside.shutdown()));
            let other = Arc::clone(bulkhead);
            let beside = thread::spawn(move || drop(other.shutdown_now()));
            drop(bulkhead.shutdown());
            beside.join().unwrap();
            counts.add(&first.wait());
        }),
    );
}

/// G8: the last reference goes while calls run and wait, in a task or outside; every handle resolves.
#[test]
fn the_last_reference_goes_anywhere() {
    check("last reference", 5_000, || {
        let bulkhead = bulkhead(2, 2);
        let running = Running::new(2);
        let submitters: Vec<_> = (0..3)
            .map(|_| {
                let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
                thread::spawn(move || {
                    let inside = Arc::clone(&bulkhead);
                    let task = running.task();
                    let handle = bulkhead.execute(move || {
                        let done = task();
                        drop(inside);
                        done
                    });
                    drop(bulkhead);
                    assert!(handle.wait().is_success(), "there is a place for each");
                })
            })
            .collect();
        drop(bulkhead);
        for submitter in submitters {
            submitter.join().unwrap();
        }
        running.assert_over();
    });
}

/// G1, G6: as many callers as there are places, each with one call at a time, which it cancels or lets run: no
/// call is refused, however many tombstones there are.
#[test]
fn cancels_and_sweeps_refuse_nobody() {
    check("cancels and sweeps", 5_000, || {
        let bulkhead = bulkhead(2, 1);
        let running = Running::new(2);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
                thread::spawn(move || {
                    for _ in 0..5 {
                        let handle = bulkhead.execute(running.task());
                        if chance(4) > 0 {
                            handle.cancel();
                        }
                        let result = handle.wait();
                        assert!(!result.error().is_some_and(BulkheadError::is_rejected));
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(bulkhead.available_capacity(), 3);
        finally(&*bulkhead);
        running.assert_over();
    });
}

/// G1: five callers wait for two places; each gets one in the end, and one that waits for a time only is let go.
#[test]
fn waiting_for_a_place() {
    check("waiting for a place", 5_000, || {
        let bulkhead = bulkhead(1, 1);
        let running = Running::new(1);
        let over = Arc::new(AtomicBool::new(false));
        let time = clock(&over);
        let callers: Vec<_> = (0..5)
            .map(|caller| {
                let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
                thread::spawn(move || {
                    let impatient = caller == 0;
                    let limit = if impatient { SECOND } else { Duration::MAX };
                    let call = bulkhead.call().wait_for_capacity(limit);
                    let handle = call.execute(running.task());
                    if chance(3) == 0 {
                        handle.cancel();
                    }
                    let result = handle.wait();
                    assert!(impatient || !result.error().is_some_and(BulkheadError::is_rejected));
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        time.join().unwrap();
        finally(&*bulkhead);
        running.assert_over();
    });
}

/// Three callers that wait for a place, of whom none is refused, beside two threads that change the limits. In the end
/// exactly as many calls fit as the last limits say, whatever they are.
fn changing_limits<B: AnyBulkhead>(
    bulkhead: B,
    call: fn(&B, &Arc<Running>),
    resize: fn(&B, usize, usize),
) {
    let bulkhead = Arc::new(bulkhead);
    let running = Running::new(3);
    let over = Arc::new(AtomicBool::new(false));
    let time = clock(&over);
    let looks = {
        let (bulkhead, over) = (Arc::clone(&bulkhead), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert_adds_up(&bulkhead.stats());
                thread::yield_now();
            }
        })
    };
    let callers = [(); 3].map(|()| {
        let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
        thread::spawn(move || {
            for _ in 0..3 {
                call(&bulkhead, &running);
            }
        })
    });
    let resizers = [(); 2].map(|()| {
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || {
            for _ in 0..3 {
                resize(&bulkhead, 1 + chance(3) as usize, chance(4) as usize);
            }
        })
    });
    for thread in callers.into_iter().chain(resizers) {
        thread.join().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    time.join().unwrap();
    looks.join().unwrap();
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (9, 0));
    let places = stats.max_concurrent_calls + stats.max_queue_size;
    assert_eq!(bulkhead.available_capacity() as u64, places);
    finally(&*bulkhead);
    running.assert_over();
}

/// G1 to G10: limits that change, with workers that are there from the start or come and go.
#[test]
fn limits_that_change() {
    check("limits that change", 3_000, || {
        let mut config = config(2, 2);
        config.idle_timeout = (chance(2) == 0).then_some(SECOND / 2);
        changing_limits(
            Bulkhead::new(config).unwrap(),
            |bulkhead, running| {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                let result = call.execute(running.task()).wait();
                assert!(result.is_success(), "{:?}", result.error());
            },
            |bulkhead, n, q| bulkhead.resize(n, q).unwrap(),
        );
    });
}

/// The same for callers in their own threads.
#[test]
fn limits_that_change_without_threads() {
    check("limits that change, without threads", 3_000, || {
        let builder = SemaphoreBulkhead::builder(config(2, 2)).fair(chance(2) == 0);
        changing_limits(
            builder.build().unwrap(),
            |bulkhead, running| {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                let result = call.execute(running.task());
                assert!(result.is_success(), "{:?}", result.error());
            },
            |bulkhead, n, q| bulkhead.resize(n, q).unwrap(),
        );
    });
}

/// G8: a shutdown, of any kind, while the limits change and calls come: every handle has its outcome.
#[test]
fn limits_that_change_against_shutdown() {
    check("limits that change, shutdown", 3_000, || {
        let mut config = config(2, 2);
        config.idle_timeout = (chance(2) == 0).then_some(SECOND / 2);
        let bulkhead = Arc::new(Bulkhead::new(config).unwrap());
        let running = Running::new(3);
        let resizer = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                for _ in 0..4 {
                    drop(bulkhead.resize(1 + chance(3) as usize, chance(4) as usize));
                }
            })
        };
        let callers = [(); 2].map(|()| {
            let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
            thread::spawn(move || {
                for _ in 0..3 {
                    drop(bulkhead.execute(running.task()).wait());
                }
            })
        });
        for _ in 0..chance(60) {
            thread::yield_now();
        }
        match chance(3) {
            0 => drop(bulkhead.shutdown()),
            1 => drop(bulkhead.shutdown_now()),
            _ => bulkhead.close(),
        }
        for thread in callers.into_iter().chain([resizer]) {
            thread.join().unwrap();
        }
        finally(&*bulkhead);
        assert_eq!(bulkhead.stats().worker_threads, 0);
        running.assert_over();
    });
}

/// G9: tasks on every worker submit to their own bulkhead and wait, two deep, while others do the same.
#[test]
fn nested_waits() {
    fn nest(bulkhead: &Arc<Bulkhead>, depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let inner = Arc::clone(bulkhead);
        let handle = bulkhead.run(move || nest(&inner, depth - 1));
        1 + match handle.wait().into_result() {
            Ok(below) => below,
            Err(error) => {
                assert!(error.is_rejected(), "{error}");
                0
            }
        }
    }
    check("nested waits", 5_000, || {
        let bulkhead = bulkhead(2, 3);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let bulkhead = Arc::clone(&bulkhead);
                thread::spawn(move || assert!(nest(&bulkhead, 3) >= 1))
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        finally(&*bulkhead);
    });
}

// ---- calls in their callers' threads

/// One call of a random kind in this thread.
fn any_call_here(bulkhead: &Arc<SemaphoreBulkhead>, running: &Arc<Running>, counts: &Counts) {
    let task = running.task();
    match chance(9) {
        0 => counts.add(&bulkhead.execute(task)),
        1 => counts.add(&bulkhead.execute(|| task().and(Err::<(), _>(())))),
        2 => {
            // Without the panic hook, which would report a failure of the schedule.
            let panicking = || {
                task()?;
                std::panic::resume_unwind(Box::new("storm"))
            };
            let result: ExecutionResult<(), ()> = bulkhead.execute(panicking);
            counts.add(&result);
        }
        3 => counts.add(&bulkhead.execute_with_timeout(SECOND, task)),
        4 => {
            let call = bulkhead.call().queue_timeout(SECOND / 2);
            counts.add(&call.execute(task));
        }
        5 => {
            let call = bulkhead.call().wait_for_capacity(SECOND);
            counts.add(&call.execute(task));
        }
        6 => {
            let nested = || counts.add(&bulkhead.execute(running.nested_task()));
            let result = bulkhead.execute(|| {
                task()?;
                nested();
                counts.add(&bulkhead.run(nested));
                Ok::<_, ()>(())
            });
            counts.add(&result);
        }
        7 => match bulkhead.try_execute(task) {
            Ok(result) => counts.add(&result),
            Err(rejected) => drop(rejected.task),
        },
        _ => {
            let told = bulkhead.call().operation("storm").execute(|| {
                task()?;
                let current = bulkman::current().expect("it runs");
                Ok::<_, ()>((current.execution_id(), current.operation() == Some("storm")))
            });
            counts.add(&told);
            let id = told.execution_id;
            assert!(told.value().is_none_or(|told| *told == (id, true)));
        }
    }
}

/// G1 to G10: four callers of everything for two slots and two places in line, a clock, a watcher, and a shutdown that
/// comes while they are at it.
fn everything_here_against(how: fn(&Arc<SemaphoreBulkhead>, &Counts)) -> impl Fn() + Send + Sync {
    move || {
        let config = config(2, 2).circuit_breaker(rules(2, 1, SECOND));
        let bulkhead = Arc::new(SemaphoreBulkhead::new(config).unwrap());
        storm(&bulkhead, 2, 4, any_call_here, how);
    }
}

#[test]
fn everything_here_against_shutdown() {
    check(
        "everything here, shutdown",
        2_000,
        everything_here_against(|bulkhead, _| {
            assert!(bulkhead.shutdown().is_clean());
            assert_eq!(bulkhead.stats().in_flight, 0);
        }),
    );
}

#[test]
fn everything_here_against_shutdown_now() {
    check(
        "everything here, shutdown_now",
        2_000,
        everything_here_against(|bulkhead, _| drop(bulkhead.shutdown_now())),
    );
}

#[test]
fn everything_here_against_shutdown_timeout() {
    check(
        "everything here, shutdown_timeout",
        2_000,
        everything_here_against(|bulkhead, _| drop(bulkhead.shutdown_timeout(SECOND))),
    );
}

#[test]
fn everything_here_against_shutdowns_by_a_task_and_by_two_threads() {
    check(
        "everything here, several shutdowns",
        2_000,
        everything_here_against(|bulkhead, counts| {
            let other = Arc::clone(bulkhead);
            let beside = thread::spawn(move || drop(other.shutdown_now()));
            counts.add(&bulkhead.run(|| drop(bulkhead.shutdown())));
            drop(bulkhead.shutdown());
            beside.join().unwrap();
        }),
    );
}

/// G1, G3, G5: as many callers as there are places, some of which go at a deadline: no call is refused, and in the end
/// both slots are there for two calls that wait for each other.
#[test]
fn deadlines_in_line_lose_no_seat() {
    check("deadlines in line", 5_000, || {
        let bulkhead = Arc::new(SemaphoreBulkhead::new(config(2, 2)).unwrap());
        let running = Running::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let time = clock(&over);
        let present = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
                let present = Arc::clone(&present);
                thread::spawn(move || {
                    for _ in 0..4 {
                        let call = match chance(2) {
                            0 => bulkhead.call().queue_timeout(SECOND / 4),
                            _ => bulkhead.call(),
                        };
                        let result = call.execute(running.task());
                        assert!(!result.error().is_some_and(BulkheadError::is_rejected));
                    }
                    if caller < 2 {
                        let meet = || {
                            present.fetch_add(1, Ordering::Relaxed);
                            while present.load(Ordering::Relaxed) < 2 {
                                thread::yield_now();
                            }
                        };
                        assert!(bulkhead.run(meet).is_success());
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        time.join().unwrap();
        assert_eq!(bulkhead.available_capacity(), 4);
        finally(&*bulkhead);
        running.assert_over();
    });
}

// ---- the circuit

/// A breaker that needs two successes to close, and has its isolation behind it.
fn probing_breaker() -> Arc<CircuitBreaker> {
    let breaker = CircuitBreaker::new("storm", rules(2, 2, SECOND)).unwrap();
    breaker.trip();
    bulkman::model::advance(SECOND);
    Arc::new(breaker)
}

/// Four callers take turns that come to nothing: never more than two are out.
#[test]
fn no_probe_too_many() {
    check("no probe too many", 5_000, || {
        let breaker = probing_breaker();
        let out = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (breaker, out) = (Arc::clone(&breaker), Arc::clone(&out));
                thread::spawn(move || {
                    for _ in 0..3 {
                        if let Ok(permit) = breaker.try_acquire() {
                            assert!(out.fetch_add(1, Ordering::Relaxed) < 2, "a probe too many");
                            thread::yield_now();
                            out.fetch_sub(1, Ordering::Relaxed);
                            drop(permit);
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(breaker.is_half_open());
    });
}

/// Four callers and a clock take the circuit through all its states: no turn is lost on the way.
#[test]
fn no_turn_is_lost() {
    check("no turn is lost", 5_000, || {
        let breaker = probing_breaker();
        let over = Arc::new(AtomicBool::new(false));
        let time = clock(&over);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || {
                    for _ in 0..4 {
                        let Ok(permit) = breaker.try_acquire() else {
                            thread::yield_now();
                            continue;
                        };
                        thread::yield_now();
                        match chance(3) {
                            0 => permit.record_success(),
                            1 => permit.record_failure(),
                            _ => drop(permit),
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        time.join().unwrap();
        bulkman::model::advance(SECOND);
        let first = breaker.try_acquire().expect("the isolation is over");
        let second = breaker.try_acquire().expect("a turn was lost");
        if breaker.is_half_open() {
            assert!(breaker.try_acquire().is_err(), "a turn too many");
        }
        drop((first, second));
    });
}

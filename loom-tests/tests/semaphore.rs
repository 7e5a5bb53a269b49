//! Turns of calls that run in their callers' threads: seats that go from thread to thread, the line of those who wait for
//! one, and what ends a wait.

mod support;

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkman::model::{ModelSlots, advance};
use bulkman::{
    BulkheadError, BulkheadStats, CircuitBreakerConfig, ExecutionResult, SemaphoreBulkhead,
    ShutdownReport,
};
use loom::thread::{self, JoinHandle};
use support::{assert_balanced, config, explore};

const SECOND: Duration = Duration::from_secs(1);

type Done = ExecutionResult<(), Infallible>;

/// A bulkhead, and the tasks that ran in it: a count that is kept by a plain load and store, so that it is right only
/// if no two tasks run at once and each sees what the one before it has written.
struct World {
    bulkhead: SemaphoreBulkhead,
    ran: loom::sync::atomic::AtomicU64,
}

impl World {
    fn new(n: usize, q: usize) -> Arc<Self> {
        Self::around(SemaphoreBulkhead::new(config(n, q)).unwrap())
    }

    fn around(bulkhead: SemaphoreBulkhead) -> Arc<Self> {
        let ran = loom::sync::atomic::AtomicU64::new(0);
        Arc::new(Self { bulkhead, ran })
    }

    /// What each call does, where there is one turn.
    fn task(&self) {
        let before = self.ran.load(Ordering::Relaxed);
        self.ran.store(before + 1, Ordering::Relaxed);
    }

    fn call(&self) -> Done {
        self.bulkhead.run(|| self.task())
    }

    /// Another thread with a call of its own.
    fn beside(
        self: &Arc<Self>,
        call: impl FnOnce(&Self) -> Done + Send + 'static,
    ) -> JoinHandle<Done> {
        let world = Arc::clone(self);
        thread::spawn(move || call(&world))
    }

    /// As often as the task was run, once nobody runs it any more.
    fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// All calls have ended: each is in the ledger, and all places are free.
    fn assert_whole(&self) -> BulkheadStats {
        let stats = self.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0, "{stats}");
        let ended = stats.successful_executions + stats.failed_executions;
        assert_eq!(
            stats.total_executions,
            ended + stats.panicked_executions,
            "{stats}"
        );
        let places = stats.max_concurrent_calls + stats.max_queue_size;
        assert_eq!(self.bulkhead.available_capacity() as u64, places);
        stats
    }
}

// ---- the seats by themselves

/// Seats that are marked while somebody has them: nobody else may have the same one.
struct Marked {
    seats: ModelSlots,
    taken: [AtomicBool; 2],
}

impl Marked {
    fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self {
            seats: ModelSlots::new(seats),
            taken: Default::default(),
        })
    }

    fn mark(&self, seat: usize) -> usize {
        let before = self.taken[seat].swap(true, Ordering::Relaxed);
        assert!(!before, "two have the same seat");
        seat
    }

    fn try_take(&self) -> Option<usize> {
        self.seats.try_take().map(|seat| self.mark(seat))
    }

    fn take(&self) -> usize {
        self.mark(self.seats.take(|| ()))
    }

    fn give_back(&self, seat: usize) {
        self.taken[seat].store(false, Ordering::Relaxed);
        self.seats.give_back(seat);
    }

    /// Nobody has a seat any more: all are there, and no more than these.
    fn assert_whole(&self, seats: usize) {
        for _ in 0..seats {
            self.try_take().expect("a seat was lost");
        }
        assert!(self.try_take().is_none(), "there is a seat too many");
    }
}

/// G4: between another's look at the topmost seat and its taking, that seat is taken, the next one too, and the first
/// comes back: the word looks the same but for its count, and what lay below is somebody's.
#[test]
fn taking_against_the_same_seat_on_top_again() {
    explore("the same seat on top again", 3, || {
        let marked = Marked::new(2);
        let other = Arc::clone(&marked);
        let taking = thread::spawn(move || {
            if let Some(seat) = other.try_take() {
                thread::yield_now();
                other.give_back(seat);
            }
        });
        let first = marked.try_take().expect("two seats, two callers");
        let second = marked.try_take();
        marked.give_back(first);
        thread::yield_now();
        if let Some(second) = second {
            marked.give_back(second);
        }
        taking.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G3: seats that come back in another order than they went, while one is taken: what lies below each is what its last
/// owner has left there.
#[test]
fn taking_against_seats_that_come_back_in_another_order() {
    explore("another order", 3, || {
        let marked = Marked::new(2);
        let [first, second] = [0, 1].map(|_| marked.try_take().expect("it is free"));
        let other = Arc::clone(&marked);
        let taking = thread::spawn(move || {
            if let Some(seat) = other.try_take() {
                other.give_back(seat);
            }
        });
        marked.give_back(first);
        marked.give_back(second);
        taking.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G2, G3: the same for a caller that finds none free and gets into line: it has one of the two, and the other is there.
#[test]
fn getting_into_line_against_seats_that_come_back() {
    explore("getting into line, two seats", 3, || {
        let marked = Marked::new(2);
        let [first, second] = [0, 1].map(|_| marked.try_take().expect("it is free"));
        let other = Arc::clone(&marked);
        let waiting = thread::spawn(move || {
            let seat = other.take();
            other.give_back(seat);
        });
        marked.give_back(first);
        marked.give_back(second);
        waiting.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G2: the only seat comes back while two get into line: each has it in the end, and no wake-up is lost.
#[test]
fn getting_into_line_against_the_only_seat() {
    explore("getting into line", 3, || {
        let marked = Marked::new(1);
        let seat = marked.try_take().expect("it is free");
        let waiting = [0, 1].map(|_| {
            let marked = Arc::clone(&marked);
            thread::spawn(move || {
                let seat = marked.take();
                thread::yield_now();
                marked.give_back(seat);
            })
        });
        marked.give_back(seat);
        for waiting in waiting {
            waiting.join().unwrap();
        }
        marked.assert_whole(1);
    });
}

/// Turns go in the order in which callers came to the line, whatever comes back meanwhile and whoever comes anew.
#[test]
fn turns_in_the_order_of_the_line() {
    explore("order of the line", 3, || {
        let seats = Arc::new(ModelSlots::new(1));
        let came = Arc::new(Mutex::new(Vec::new()));
        let had = Arc::new(Mutex::new(Vec::new()));
        let seat = seats.try_take().expect("it is free");
        let waiting = [1, 2].map(|me| {
            let (seats, came, had) = (Arc::clone(&seats), Arc::clone(&came), Arc::clone(&had));
            thread::spawn(move || {
                let in_line = || came.lock().unwrap().push(me);
                let seat = seats.take(in_line);
                had.lock().unwrap().push(me);
                seats.give_back(seat);
            })
        });
        seats.give_back(seat);
        let in_line = came.lock().unwrap().clone();
        if let Some(seat) = seats.try_take() {
            let had = had.lock().unwrap().clone();
            for before_me in &in_line {
                assert!(had.contains(before_me), "overtaken");
            }
            seats.give_back(seat);
        }
        for waiting in waiting {
            waiting.join().unwrap();
        }
        let had = had.lock().unwrap().clone();
        let in_line: Vec<_> = came.lock().unwrap().clone();
        // Who found the seat free on its way has never come to the line.
        let had_in_line: Vec<_> = had.into_iter().filter(|me| in_line.contains(me)).collect();
        assert_eq!(had_in_line, in_line);
    });
}

// ---- calls, and the turns that they wait for

/// G1, G3, G4: two callers and one turn: never both at once, each sees what the other has done, and neither is refused,
/// however often it comes.
#[test]
fn two_callers_and_one_turn() {
    explore("two callers, one turn", 2, || {
        let world = World::new(1, 1);
        let twice = |world: &World| {
            assert!(world.call().is_success(), "a sequential caller was refused");
            world.call()
        };
        let beside = world.beside(twice);
        assert!(twice(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 4);
        assert_eq!(world.assert_whole().successful_executions, 4);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G1, G3: without a line one of the two may be refused, but not both; and not who comes after the other.
#[test]
fn two_callers_and_no_line() {
    explore("two callers, no line", 4, || {
        let world = World::new(1, 0);
        let beside = world.beside(World::call);
        let here = world.call();
        let there = beside.join().unwrap();
        let succeeded = u64::from(here.is_success()) + u64::from(there.is_success());
        assert!(succeeded > 0, "nobody got the only place");
        assert_eq!(world.ran(), succeeded);
        let stats = world.assert_whole();
        assert_eq!(stats.rejected_full, 2 - succeeded);
        assert!(world.call().is_success(), "a sequential caller was refused");
    });
}

/// G2, G3: three callers and one turn: each has it, and nobody is left in line.
#[test]
fn a_third_in_line() {
    explore("a third in line", 2, || {
        let world = World::new(1, 2);
        let beside = [0, 1].map(|_| world.beside(World::call));
        assert!(world.call().is_success());
        for beside in beside {
            assert!(beside.join().unwrap().is_success());
        }
        assert_eq!(world.ran(), 3);
        assert_eq!(world.assert_whole().successful_executions, 3);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G10: two callers at two seats, which each leaves to the other: what is counted in a seat is handed over with it, and
/// the numbers are exact in the end. A task is told its own id, and not that of who sat there before.
#[test]
fn seats_that_change_hands() {
    explore("seats that change hands", 2, || {
        let world = World::new(2, 0);
        let twice = |world: &World| {
            let told = || bulkman::current().map(|call| call.execution_id());
            for _ in 0..2 {
                let result = world.bulkhead.run(told);
                let id = result.execution_id;
                assert_eq!(result.into_result().expect("never refused"), Some(id));
            }
            world.bulkhead.run(|| ())
        };
        let beside = world.beside(twice);
        assert!(twice(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.assert_whole().successful_executions, 6);
    });
}

/// G10: a snapshot while the only seat goes from caller to caller: it balances, and nothing goes back from one to the
/// next.
#[test]
fn snapshot_against_a_seat_that_changes_hands() {
    explore("snapshot, a seat that changes hands", 2, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::call);
        let other = Arc::clone(&world);
        let watcher = thread::spawn(move || {
            let first = other.bulkhead.stats();
            let second = other.bulkhead.stats();
            for stats in [&first, &second] {
                assert_balanced(stats);
                assert!(stats.total_executions <= stats.submitted_executions);
            }
            assert!(first.submitted_executions <= second.submitted_executions);
            assert!(first.total_executions <= second.total_executions);
            assert!(first.successful_executions <= second.successful_executions);
        });
        assert!(world.call().is_success());
        assert!(world.bulkhead.stats().successful_executions >= 1);
        assert!(beside.join().unwrap().is_success());
        watcher.join().unwrap();
        assert_eq!(world.assert_whole().successful_executions, 2);
    });
}

/// G3, G10: whoever has a turn finds the call counted that had it before.
#[test]
fn turn_against_the_count_of_the_call_before() {
    explore("count of the call before", 3, || {
        let world = World::new(1, 1);
        let counted = |world: &World| {
            world.bulkhead.run(|| {
                let before = world.ran();
                world.task();
                let stats = world.bulkhead.stats();
                assert_balanced(&stats);
                assert_eq!(stats.successful_executions, before);
                assert_eq!(stats.active_tasks, 1);
            })
        };
        let beside = world.beside(counted);
        assert!(counted(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        world.assert_whole();
    });
}

/// G7: a task panics while another caller waits for its turn: this one has it.
#[test]
fn panic_against_a_caller_in_line() {
    explore("panic", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::call);
        let panicked: Done = world.bulkhead.run(|| resume_unwind(Box::new("boom")));
        match panicked.error() {
            Some(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "boom"),
            other => panic!("{other:?}"),
        }
        assert!(beside.join().unwrap().is_success());
        let stats = world.assert_whole();
        assert_eq!(
            (stats.panicked_executions, stats.successful_executions),
            (1, 1)
        );
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G9: a task makes a call on its own bulkhead, whose only seat it has, while others wait in line for it: the call has
/// its turn at once.
#[test]
fn nested_call_against_a_caller_in_line() {
    explore("nested call", 3, || {
        let world = World::new(1, 2);
        let beside = world.beside(World::call);
        let outer = world.bulkhead.run(|| {
            assert!(world.call().is_success(), "there is a place for each");
            world.task();
        });
        assert!(outer.is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 3);
        assert_eq!(world.assert_whole().successful_executions, 3);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G9: a nested call that would wait for a place does not, while another caller does so and may be given its own.
#[test]
fn nested_call_for_a_place_against_a_caller_that_waits_for_one() {
    explore("nested call for a place", 4, || {
        let world = World::new(1, 0);
        let patient = |world: &World| {
            let call = world.bulkhead.call().wait_for_capacity(Duration::MAX);
            call.run(|| world.task())
        };
        let beside = world.beside(patient);
        let outer = world.bulkhead.call().wait_for_capacity(Duration::MAX);
        let outer = outer.run(|| patient(&world).error().is_some_and(|e| e.is_rejected()));
        assert!(outer.into_result().unwrap(), "it had the only place");
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 1);
        assert_eq!(world.assert_whole().rejected_full, 1);
    });
}

/// G1: who waits for a place gets it when the call before ends, and with it the seat; no wake-up is lost.
#[test]
fn waiting_for_a_place_against_its_return() {
    explore("wait for capacity", 4, || {
        let world = World::new(1, 0);
        let patient = |world: &World| {
            let call = world.bulkhead.call().wait_for_capacity(Duration::MAX);
            call.run(|| world.task())
        };
        let beside = world.beside(patient);
        assert!(patient(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 2);
        assert_eq!(world.assert_whole().successful_executions, 2);
    });
}

// ---- waits that end without a turn

fn is_expired(result: &Done) -> bool {
    matches!(
        result.error(),
        Some(BulkheadError::QueueTimeout { .. } | BulkheadError::Timeout { started: false, .. })
    )
}

/// G2, G5: the deadline of a caller in line against the seat that is handed to it: one outcome, and the seat is there
/// for the next.
#[test]
fn deadline_in_line_against_a_seat() {
    explore("deadline in line", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(|world| {
            let call = world.bulkhead.call().queue_timeout(SECOND);
            call.run(|| world.task())
        });
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
        });
        assert!(here.is_success());
        let there = beside.join().unwrap();
        assert!(there.is_success() || is_expired(&there));
        assert_eq!(world.ran(), 1 + u64::from(there.is_success()));
        let stats = world.assert_whole();
        assert_eq!(stats.timed_out_executions, u64::from(is_expired(&there)));
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G2, G5: the first in line goes at the limit of its caller while it is given the seat, or gives it back: the next in line
/// has it.
#[test]
fn limit_of_the_first_in_line_against_the_next() {
    explore("limit of the first in line", 1, || {
        let world = World::new(1, 2);
        let limited = world.beside(|world| {
            let call = world.bulkhead.call().timeout(SECOND);
            call.run(|| world.task())
        });
        let patient = world.beside(World::call);
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
        });
        assert!(here.is_success());
        let limited = limited.join().unwrap();
        assert!(limited.is_success() || is_expired(&limited));
        assert!(patient.join().unwrap().is_success());
        assert_eq!(world.ran(), 2 + u64::from(limited.is_success()));
        world.assert_whole();
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// What a call is that meets a shutdown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Ran,
    Refused,
    Cancelled,
    Expired,
}

fn met(result: &Done) -> Met {
    match result.error() {
        None => Met::Ran,
        Some(BulkheadError::ShutDown { .. }) => Met::Refused,
        Some(BulkheadError::Cancelled {
            by_shutdown: true, ..
        }) => Met::Cancelled,
        Some(_) if is_expired(result) => Met::Expired,
        Some(other) => panic!("{other}"),
    }
}

/// Two callers of a bulkhead with one turn while this thread shuts it down by `how`. Each is refused as shut down,
/// cancelled, or has its outcome; a task ran exactly if the result says so, and the numbers add up. Afterwards
/// `check` has how often tasks had run when the shutdown returned, its report, and what the two have met.
fn calls_against(
    how: fn(&SemaphoreBulkhead) -> ShutdownReport,
    check: fn(u64, &ShutdownReport, [Met; 2]),
) {
    let world = World::new(1, 1);
    let beside = [0, 1].map(|_| {
        world.beside(|world| {
            let result = world.call();
            let stats = world.bulkhead.stats();
            let counted = match met(&result) {
                Met::Ran => stats.successful_executions,
                Met::Refused => stats.rejected_shut_down,
                Met::Cancelled => stats.cancelled_executions,
                Met::Expired => stats.timed_out_executions,
            };
            assert!(counted > 0, "its end is not counted, but told");
            result
        })
    });
    let report = how(&world.bulkhead);
    let ran = world.ran();
    let met = beside.map(|beside| met(&beside.join().unwrap()));
    check(ran, &report, met);
    let of = |what: Met| met.iter().filter(|met| **met == what).count() as u64;
    assert_eq!(world.ran(), of(Met::Ran));
    let _ = world.bulkhead.shutdown();
    let stats = world.bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (2, 0));
    assert_eq!(stats.successful_executions, of(Met::Ran));
    assert_eq!(stats.cancelled_executions, of(Met::Cancelled));
    assert_eq!(stats.rejected_shut_down, of(Met::Refused));
    assert!(report.cancelled <= of(Met::Cancelled));
}

/// G8: the graceful one returns when all that was admitted has had its turn.
#[test]
fn shutdown_against_calls() {
    explore("shutdown against calls", 3, || {
        calls_against(SemaphoreBulkhead::shutdown, |ran, report, met| {
            assert!(report.is_clean());
            assert!(!met.contains(&Met::Cancelled));
            let in_the_end = met.iter().filter(|met| **met == Met::Ran).count() as u64;
            assert_eq!(ran, in_the_end, "a call has outlived the shutdown");
        });
    });
}

/// G8: those who wait are cancelled, and those who are about to wait.
#[test]
fn shutdown_now_against_calls() {
    explore("shutdown_now against calls", 2, || {
        calls_against(SemaphoreBulkhead::shutdown_now, |_, report, _| {
            assert!(report.still_running.len() <= 1);
        });
    });
}

/// G8: the same when the limit has passed.
#[test]
fn shutdown_timeout_against_calls() {
    explore("shutdown_timeout against calls", 2, || {
        let at_once = |bulkhead: &SemaphoreBulkhead| bulkhead.shutdown_timeout(Duration::ZERO);
        calls_against(at_once, |_, report, _| {
            assert!(report.still_running.len() <= 1);
        });
    });
}

/// G2, G5, G8: the deadline of a caller in line against the shutdown that cancels it: one of the two ends the call.
#[test]
fn deadline_in_line_against_shutdown_now() {
    explore("deadline in line against shutdown_now", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(|world| {
            let call = world.bulkhead.call().queue_timeout(SECOND);
            call.run(|| world.task())
        });
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
            drop(world.bulkhead.shutdown_now());
        });
        let here = met(&here);
        let there = met(&beside.join().unwrap());
        assert!(here == Met::Ran);
        assert_eq!(world.ran(), 1 + u64::from(there == Met::Ran));
        assert!(world.bulkhead.shutdown().is_clean());
        let stats = world.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0);
        assert_eq!(
            stats.cancelled_executions,
            u64::from(there == Met::Cancelled)
        );
        assert_eq!(stats.timed_out_executions, u64::from(there == Met::Expired));
    });
}

/// G2, G8: a task that has the only seat shuts its own bulkhead down while another call comes, and waits for that call's
/// caller: who is in line is cancelled and reported so, and who comes to the line later is cancelled too.
#[test]
fn shutdown_now_by_a_task_against_a_caller_in_line() {
    static REPORTED: AtomicUsize = AtomicUsize::new(0);
    explore("shutdown_now by a task", 3, || {
        let world = World::new(1, 1);
        let outer = world.bulkhead.run(|| {
            let beside = world.beside(World::call);
            let report = world.bulkhead.shutdown_now();
            (report, met(&beside.join().unwrap()))
        });
        let (report, beside) = outer.into_result().unwrap();
        assert_eq!(report.still_running.len(), 1, "the task itself");
        assert!(matches!(beside, Met::Cancelled | Met::Refused));
        let cancelled = u64::from(beside == Met::Cancelled);
        assert!(report.cancelled <= cancelled);
        if report.cancelled > 0 {
            REPORTED.fetch_add(1, Ordering::Relaxed);
        }
        assert!(world.bulkhead.shutdown().is_clean());
        let stats = world.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.in_flight, world.ran()), (0, 0));
        assert_eq!(stats.cancelled_executions, cancelled);
    });
    assert!(REPORTED.load(Ordering::Relaxed) > 0, "none was reported");
}

/// G8: a graceful shutdown that waits, and one that cancels: both return, and each call has its outcome.
#[test]
fn two_shutdowns() {
    explore("two shutdowns", 1, || {
        let world = World::new(1, 1);
        let other = Arc::clone(&world);
        let shutting = thread::spawn(move || drop(other.bulkhead.shutdown_now()));
        let beside = world.beside(World::call);
        let here = met(&world.call());
        let _ = world.bulkhead.shutdown();
        let ended = world.bulkhead.stats();
        assert_eq!(ended.in_flight, 0, "{ended}");
        shutting.join().unwrap();
        let met = [here, met(&beside.join().unwrap())];
        let ran = met.iter().filter(|met| **met == Met::Ran).count() as u64;
        assert_eq!(world.ran(), ran);
        assert_eq!(world.bulkhead.stats().successful_executions, ran);
    });
}

/// G8: who waits for a place is let go by the shutdown, with or without one.
#[test]
fn waiting_for_a_place_against_shutdown() {
    explore("wait for capacity against shutdown", 3, || {
        let world = World::new(1, 0);
        let beside = [0, 1].map(|_| {
            world.beside(|world| {
                let call = world.bulkhead.call().wait_for_capacity(Duration::MAX);
                call.run(|| world.task())
            })
        });
        assert!(world.bulkhead.shutdown().is_clean());
        let ran = world.ran();
        let met = beside.map(|beside| met(&beside.join().unwrap()));
        let in_the_end = met.iter().filter(|met| **met == Met::Ran).count() as u64;
        assert_eq!((ran, world.ran()), (in_the_end, in_the_end));
        assert!(!met.contains(&Met::Cancelled));
    });
}

/// G8: the bulkhead is dropped while a call goes through a function that wraps it: the drop waits for the call.
#[test]
fn drop_against_a_wrapped_call() {
    explore("drop against a wrapped call", 4, || {
        let bulkhead = SemaphoreBulkhead::new(config(1, 1)).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let wrapped = bulkhead.wrap(move |()| {
            thread::yield_now();
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        });
        let calling = thread::spawn(move || met(&wrapped(())));
        drop(bulkhead);
        let ran = ran.load(Ordering::Relaxed);
        let met = calling.join().unwrap();
        assert!(met != Met::Cancelled);
        assert_eq!(ran, usize::from(met == Met::Ran));
    });
}

/// G8: what a report says to be running is one of the calls, and not a piece of one and a piece of the next, which
/// another thread makes in the same seat.
#[test]
fn report_against_the_next_call_in_the_seat() {
    explore("report against the next call", 3, || {
        let world = World::new(2, 1);
        // In a task a shutdown does not wait, so that its report is made while the others go on.
        let outer = world.bulkhead.run(|| {
            let beside = [0, 1].map(|_| world.beside(|world| world.bulkhead.run(|| ())));
            (world.bulkhead.shutdown(), beside)
        });
        let here = outer.execution_id;
        let (report, beside) = outer.into_result().unwrap();
        let [first, second] = beside.map(|beside| beside.join().unwrap().execution_id);
        assert!(report.still_running.len() <= 2, "two seats, two calls");
        for task in report.still_running {
            assert!([here, first, second].contains(&task.execution_id));
        }
    });
}

/// A call in line that has a half-open circuit's only turn is cancelled by a shutdown: the turn is given back.
#[test]
fn probe_in_line_against_shutdown_now() {
    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);
    explore("probe in line", 4, || {
        let rules = CircuitBreakerConfig::default()
            .failure_threshold(1)
            .success_threshold(1)
            .isolation_duration(SECOND);
        let config = config(1, 1).circuit_breaker(rules);
        let world = World::around(SemaphoreBulkhead::new(config).unwrap());
        let breaker = world.bulkhead.circuit_breaker().expect("it has one");
        // Admitted before the circuit opens, so what comes of it is no news.
        let probe = world.bulkhead.run(|| {
            breaker.trip();
            advance(SECOND);
            let probe = world.beside(World::call);
            drop(world.bulkhead.shutdown_now());
            probe
        });
        let met = met(&probe.into_result().unwrap().join().unwrap());
        if met == Met::Cancelled {
            assert!(breaker.is_half_open());
            GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
        }
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
    assert!(GIVEN_BACK.load(Ordering::Relaxed) > 0, "none was cancelled");
}

//! Many cancels: the queue stays bounded and in order, and every place comes back.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, ExecutionHandle};

use super::helpers::assert_cancelled;
use crate::support::{assert_balanced, bulkhead, config, occupy, wait};

#[test]
fn any_number_of_cancels_leaves_room_for_later_calls() {
    for (n, q) in [(1, 1), (1, 8), (2, 50)] {
        let bulkhead = bulkhead(n, q);
        let busy = occupy(&bulkhead, n);
        let mut cancelled = 0;
        while cancelled < 12_000 {
            let queued: Vec<_> = (0..q).map(|i| bulkhead.run(move || i)).collect();
            for handle in &queued {
                assert!(!handle.is_finished(), "after {cancelled} cancels");
                assert!(handle.cancel());
                cancelled += 1;
            }
        }
        let stats = bulkhead.stats();
        assert_eq!(stats.cancelled_executions, cancelled);
        assert_eq!(stats.rejected_executions, 0);
        assert_balanced(&stats);

        let later: Vec<_> = (0..q).map(|i| bulkhead.run(move || i)).collect();
        assert!(bulkhead.run(|| ()).is_finished(), "it is full again");
        busy.finish();
        for (i, handle) in later.into_iter().enumerate() {
            assert_eq!(wait(handle).value(), Some(&i));
        }
        assert_eq!(bulkhead.available_capacity(), n + q);
    }
}

#[test]
fn cancels_between_them_do_not_change_the_order_of_the_others() {
    const STAY: usize = 6;
    let bulkhead = bulkhead(1, 2 * STAY);
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = occupy(&bulkhead, 1);
    let mut staying = Vec::new();
    for i in 0..STAY {
        let order = Arc::clone(&order);
        staying.push(bulkhead.run(move || order.lock().unwrap().push(i)));
        // More than the queue keeps as empty entries, so that it is tidied up several times.
        for _ in 0..100 {
            let going = bulkhead.run(|| ());
            assert!(going.cancel());
        }
    }
    busy.finish();
    for handle in staying {
        assert!(wait(handle).is_success());
    }
    assert!(order.lock().unwrap().iter().copied().eq(0..STAY));
}

#[test]
fn calls_at_every_position_can_be_cancelled() {
    let bulkhead = bulkhead(1, 10);
    for keep in 0..10 {
        let busy = occupy(&bulkhead, 1);
        let queued: Vec<_> = (0..10).map(|i| bulkhead.run(move || i)).collect();
        for (i, handle) in queued.iter().enumerate() {
            assert!(i == keep || handle.cancel());
        }
        assert_eq!(bulkhead.available_capacity(), 9);
        busy.finish();
        for (i, handle) in queued.into_iter().enumerate() {
            let result = wait(handle);
            if i == keep {
                assert_eq!(result.value(), Some(&i));
            } else {
                assert_cancelled(&result);
            }
        }
    }
}

/// Submitters, cancellers, expiries and workers meet on one small queue. Each call has one outcome,
/// its body has run exactly if the outcome says so, and at the end nothing is missing.
#[test]
fn a_storm_of_cancels_leaves_everything_in_order() {
    const SUBMITTERS: u64 = 3;
    const CALLS: u64 = 4_000;

    struct Sent {
        handle: ExecutionHandle<u64, Infallible>,
        ran: Arc<AtomicBool>,
        number: u64,
    }

    #[derive(Default)]
    struct Tally {
        refused: AtomicU64,
        succeeded: AtomicU64,
        cancelled: AtomicU64,
        expired: AtomicU64,
    }

    fn settle(calls: Receiver<Sent>, tally: &Tally) {
        for (i, sent) in calls.into_iter().enumerate() {
            let Sent {
                handle,
                ran,
                number,
            } = sent;
            let refused = handle.is_finished() && !ran.load(Ordering::SeqCst);
            let cancelled = i % 3 != 0 && handle.cancel();
            let result = wait(handle);
            assert_eq!(cancelled, {
                matches!(result.error(), Some(BulkheadError::Cancelled { .. }))
            });
            let counter = match &result.result {
                Ok(value) => {
                    assert_eq!(*value, number);
                    &tally.succeeded
                }
                Err(BulkheadError::Cancelled {
                    by_shutdown: false, ..
                }) => &tally.cancelled,
                Err(BulkheadError::QueueTimeout { .. }) => &tally.expired,
                Err(BulkheadError::Full { .. }) => {
                    assert!(refused);
                    &tally.refused
                }
                Err(other) => panic!("{other:?}"),
            };
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(ran.load(Ordering::SeqCst), result.is_success());
            assert_eq!(Arc::strong_count(&ran), 1, "its closure is gone");
        }
    }

    let bulkhead = Bulkhead::new(config(2, 4)).unwrap();
    let tally = Tally::default();
    thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (sender, receiver) = mpsc::sync_channel(3);
            let (bulkhead, tally) = (&bulkhead, &tally);
            scope.spawn(move || settle(receiver, tally));
            scope.spawn(move || {
                for i in 0..CALLS {
                    let ran = Arc::new(AtomicBool::new(false));
                    let number = submitter * CALLS + i;
                    let limit = Duration::from_micros(1 + (number * 7) % 60);
                    let call = bulkhead.call().queue_timeout(limit);
                    let handle = call.run({
                        let ran = Arc::clone(&ran);
                        move || {
                            ran.store(true, Ordering::SeqCst);
                            if i % 5 == 0 {
                                thread::yield_now();
                            }
                            number
                        }
                    });
                    let sent = Sent {
                        handle,
                        ran,
                        number,
                    };
                    sender.send(sent).unwrap();
                }
            });
        }
        // Snapshots balance while all that goes on.
        for _ in 0..200 {
            assert_balanced(&bulkhead.stats());
            thread::yield_now();
        }
    });

    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.submitted_executions, SUBMITTERS * CALLS);
    assert_eq!(stats.rejected_full, tally.refused.into_inner());
    assert_eq!(stats.successful_executions, tally.succeeded.into_inner());
    assert_eq!(stats.cancelled_executions, tally.cancelled.into_inner());
    assert_eq!(stats.timed_out_executions, tally.expired.into_inner());
    assert_eq!((stats.queued_tasks, stats.active_tasks), (0, 0));

    // All six places are there, and six calls do fit.
    assert_eq!(bulkhead.available_capacity(), 6);
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
    assert!(bulkhead.run(|| ()).is_finished());
    busy.finish();
    for (i, handle) in queued.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
}

/// The only worker is stuck, and four threads fill the queue and cancel their own calls again.
#[test]
fn many_threads_can_cancel_on_a_full_queue() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 5_000;
    let bulkhead = bulkhead(1, 5);
    let busy = occupy(&bulkhead, 1);
    let (order, survivors): (Arc<Mutex<Vec<u32>>>, Vec<_>) = {
        let order = Arc::new(Mutex::new(Vec::new()));
        let survivors = (0..2)
            .map(|i| {
                let order = Arc::clone(&order);
                bulkhead.run(move || order.lock().unwrap().push(i))
            })
            .collect();
        (order, survivors)
    };
    let cancelled = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let handle = bulkhead.run(|| ());
                    let counter = if handle.cancel() {
                        &cancelled
                    } else {
                        &refused
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = bulkhead.stats();
    assert_eq!(stats.cancelled_executions, cancelled.into_inner());
    assert_eq!(stats.rejected_full, refused.into_inner());
    assert_eq!(
        stats.cancelled_executions + stats.rejected_full,
        THREADS * CALLS
    );
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 2));
    assert_balanced(&stats);
    assert_eq!(bulkhead.available_capacity(), 3);
    busy.finish();
    for handle in survivors {
        assert!(wait(handle).is_success());
    }
    assert_eq!(*order.lock().unwrap(), [0, 1]);
    assert_eq!(bulkhead.available_capacity(), 6);
}

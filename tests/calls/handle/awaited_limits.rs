//! An awaited call keeps its limits: it ends at its queue timeout and at its caller's limit, whatever the executor.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, bulkhead, config, eventually, in_time, occupy, with_clock,
};
use bulkman::{Bulkhead, BulkheadError, ExecutionHandle, ManualClock};

const SHORT: Duration = Duration::from_millis(20);

/// Counts how often it was woken, and lets a test wait for that.
#[derive(Default)]
struct Woken {
    times: Mutex<usize>,
    changed: Condvar,
}

impl Woken {
    fn waker() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (Arc::clone(&woken), woken.into())
    }

    fn wait(&self) {
        let times = self.times.lock().unwrap();
        let (times, _) = self
            .changed
            .wait_timeout_while(times, PATIENCE, |times| *times == 0)
            .unwrap();
        assert!(*times > 0, "nothing has woken the task");
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.times.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_running_call_ends_at_its_callers_limit() {
    let (bulkhead, clock) = with_clock(config(1, 0));
    let (running, polled) = (Gate::new(), Gate::new());
    let _opener = OpenOnDrop(running.clone());
    let inside = running.clone();
    let mut handle = bulkhead.call().timeout(SECOND).run(move || inside.pass());
    polled.open();
    let result = thread::scope(|scope| {
        let awaiting = scope.spawn(|| {
            pollster::block_on(std::future::poll_fn(|context| {
                let result = Pin::new(&mut handle).poll(context);
                polled.pass();
                result
            }))
        });
        // A task that has not begun at the limit never does.
        running.wait_for_arrivals(1);
        polled.wait_for_arrivals(1);
        clock.advance(SECOND);
        awaiting.join().unwrap()
    });
    assert!(
        matches!(
            result.result,
            Err(BulkheadError::Timeout {
                started: true,
                limit: SECOND,
                ..
            })
        ),
        "{result:?}"
    );
    assert_eq!(result.queued_time + result.execution_time, SECOND);
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    assert_eq!(bulkhead.available_capacity(), 0, "the slot is the task's");
}

#[test]
fn a_queued_call_ends_at_its_queue_timeout() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let result = pollster::block_on(bulkhead.call().queue_timeout(SHORT).run(|| ()));
    assert!(matches!(
        result.result,
        Err(BulkheadError::QueueTimeout { .. })
    ));
    assert_eq!(
        bulkhead.available_capacity(),
        1,
        "its place is free at once"
    );
    busy.finish();
}

#[test]
fn a_queued_call_ends_at_its_callers_limit() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let result = pollster::block_on(bulkhead.call().timeout(SHORT).run(|| ()));
    assert!(matches!(
        result.result,
        Err(BulkheadError::Timeout { started: false, .. })
    ));
    busy.finish();
}

#[test]
fn cancel_on_drop_ends_at_its_limit_too() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let handle = bulkhead.call().timeout(SHORT).run(|| ()).cancel_on_drop();
    assert!(pollster::block_on(handle).error().unwrap().is_timeout());
    busy.finish();
}

#[test]
fn the_limit_that_comes_first_decides_for_many_at_once() {
    const CALLS: usize = 50;
    let bulkhead = bulkhead(1, CALLS);
    let busy = occupy(&bulkhead, 1);
    thread::scope(|scope| {
        for i in 0..CALLS {
            let bulkhead = &bulkhead;
            scope.spawn(move || {
                let limit = Duration::from_millis(1 + (i as u64 * 7) % 40);
                let (queue, caller) = if i % 2 == 0 {
                    (limit, PATIENCE)
                } else {
                    (PATIENCE, limit)
                };
                let call = bulkhead.call().queue_timeout(queue).timeout(caller);
                let result = pollster::block_on(call.run(|| ()));
                match result.error() {
                    Some(BulkheadError::QueueTimeout { limit: of, .. }) if i % 2 == 0 => {
                        assert_eq!(*of, limit);
                    }
                    Some(BulkheadError::Timeout { limit: of, .. }) if i % 2 == 1 => {
                        assert_eq!(*of, limit);
                    }
                    other => panic!("{i}: {other:?}"),
                }
            });
        }
    });
    assert_eq!(bulkhead.stats().timed_out_executions, CALLS as u64);
    assert_eq!(bulkhead.available_capacity(), CALLS);
    busy.finish();
}

#[test]
fn by_a_manual_clock_it_ends_when_that_clock_says_so() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1))
        .clock(clock.clone())
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    let limit = Duration::from_secs(3_600);
    let mut handle = bulkhead.call().queue_timeout(limit).run(|| ());
    let (_, waker) = Woken::waker();
    assert!(poll(&mut handle, &waker).is_pending());
    clock.advance(limit - Duration::from_nanos(1));
    assert!(poll(&mut handle, &waker).is_pending());
    clock.advance(Duration::from_nanos(1));
    let result = pollster::block_on(handle);
    assert!(matches!(
        result.result,
        Err(BulkheadError::QueueTimeout { queued_for, .. }) if queued_for == limit
    ));
    busy.finish();
}

#[test]
fn an_earlier_limit_does_not_wait_for_a_later_one() {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let mut late = bulkhead.call().queue_timeout(10 * PATIENCE).run(|| ());
    let (_, late_waker) = Woken::waker();
    assert!(poll(&mut late, &late_waker).is_pending());
    let mut early = bulkhead.call().queue_timeout(SHORT).run(|| ());
    let (woken, waker) = Woken::waker();
    if poll(&mut early, &waker).is_pending() {
        woken.wait();
        assert!(poll(&mut early, &waker).is_ready());
    }
    drop(late);
    busy.finish();
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let mut handle = bulkhead.call().queue_timeout(SHORT).run(|| ());
    let (first, first_waker) = Woken::waker();
    let (last, last_waker) = Woken::waker();
    let began = Instant::now();
    let first_poll = poll(&mut handle, &first_waker);
    if first_poll.is_pending() && poll(&mut handle, &last_waker).is_pending() {
        let polled_in_time = began.elapsed() < SHORT;
        last.wait();
        assert!(!polled_in_time || *first.times.lock().unwrap() == 0);
        assert!(poll(&mut handle, &last_waker).is_ready());
    }
    busy.finish();
}

#[test]
fn a_waker_that_panics_costs_no_other_call_its_limit() {
    struct Bomb(AtomicUsize);
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("a waker that panics");
        }
    }
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let bomb = Arc::new(Bomb(AtomicUsize::new(0)));
    let mut handle = bulkhead.call().queue_timeout(SHORT).run(|| ());
    if poll(&mut handle, &Arc::clone(&bomb).into()).is_pending() {
        eventually("the bomb is woken", || bomb.0.load(Ordering::Relaxed) > 0);
    }
    let other = bulkhead.call().queue_timeout(SHORT).run(|| ());
    assert!(pollster::block_on(other).error().unwrap().is_timeout());
    drop(handle);
    busy.finish();
}

#[test]
fn a_waker_may_drop_and_poll_other_handles() {
    /// When it is woken it drops a handle that has an alarm, and polls another, which sets one.
    struct Busybody {
        bulkhead: Arc<Bulkhead>,
        to_drop: Mutex<Option<ExecutionHandle<(), Infallible>>>,
        done: Arc<Woken>,
    }
    impl Wake for Busybody {
        fn wake(self: Arc<Self>) {
            drop(self.to_drop.lock().unwrap().take());
            let mut another = self.bulkhead.call().queue_timeout(PATIENCE).run(|| ());
            let (_, waker) = Woken::waker();
            assert!(poll(&mut another, &waker).is_pending());
            drop(another);
            Arc::clone(&self.done).wake();
        }
    }
    let bulkhead = Arc::new(bulkhead(1, 3));
    let busy = occupy(&bulkhead, 1);
    let mut to_drop = bulkhead.call().queue_timeout(PATIENCE).run(|| ());
    let (done, waker) = Woken::waker();
    assert!(poll(&mut to_drop, &waker).is_pending());
    let busybody = Waker::from(Arc::new(Busybody {
        bulkhead: Arc::clone(&bulkhead),
        to_drop: Mutex::new(Some(to_drop)),
        done: Arc::clone(&done),
    }));
    let mut handle = bulkhead.call().queue_timeout(SHORT).run(|| ());
    if poll(&mut handle, &busybody).is_pending() {
        done.wait();
    }
    drop(handle);
    busy.finish();
}

#[test]
fn a_limit_beyond_the_clock_is_none() {
    let bulkhead = bulkhead(1, 1);
    let call = bulkhead
        .call()
        .timeout(Duration::MAX)
        .queue_timeout(Duration::MAX);
    assert!(pollster::block_on(call.run(|| 7)).is_success());
}

#[cfg(target_os = "linux")]
#[test]
fn one_thread_serves_all() {
    let bulkheads: Vec<_> = (0..4).map(|_| bulkhead(1, 4)).collect();
    let busy: Vec<_> = bulkheads.iter().map(|b| occupy(b, 1)).collect();
    let (_, waker) = Woken::waker();
    let mut handles: Vec<_> = bulkheads
        .iter()
        .map(|bulkhead| bulkhead.call().timeout(PATIENCE).run(|| ()))
        .collect();
    for handle in &mut handles {
        assert!(poll(handle, &waker).is_pending());
    }
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read(task.ok()?.path().join("comm")).ok());
        names
            .filter(|name| name.starts_with(b"bulkman-alarms"))
            .count()
    };
    // A thread has its name a moment after it was started.
    eventually("the thread runs", || threads() == 1);
    drop(handles);
    busy.into_iter().for_each(crate::support::Busy::finish);
}

/// When it is dropped it lets the task end, and takes the token with which the worker wakes the thread that drops it.
struct TakesWakeUp {
    gate: Gate,
    /// Hears of the callback, which is called after the waiter has been woken.
    woken: Mutex<mpsc::Receiver<()>>,
}

impl Wake for TakesWakeUp {
    fn wake(self: Arc<Self>) {}
}

impl Drop for TakesWakeUp {
    fn drop(&mut self) {
        self.gate.open();
        let woken = self.woken.get_mut().unwrap();
        woken.recv_timeout(PATIENCE).expect("the task has ended");
        // Comes back at once, unless the wait above has taken the token already.
        thread::park_timeout(SHORT);
    }
}

#[test]
fn a_handle_that_was_polled_can_be_waited_for_though_its_waker_blocks_when_dropped() {
    let bulkhead = bulkhead(1, 1);
    let gate = Gate::new();
    let passed = gate.clone();
    let mut handle = bulkhead.run(move || passed.pass());
    gate.wait_for_arrivals(1);
    let (wakes, woken) = mpsc::channel();
    handle.on_finish(move |_| {
        let _ = wakes.send(());
    });
    let woken = Mutex::new(woken);
    let waker = Waker::from(Arc::new(TakesWakeUp { gate, woken }));
    assert!(poll(&mut handle, &waker).is_pending());
    drop(waker);
    assert!(in_time(move || handle.wait().is_success()));
}

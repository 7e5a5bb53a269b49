//! Awaited handles and the thread of alarms, which wakes them at their limits.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bulkman::model::{advance, wait_for_alarms};
use bulkman::{Bulkhead, BulkheadError, ExecutionResult};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore};

const LIMIT: Duration = Duration::from_secs(1);

/// Something that threads wait for, without a limit: a lost wake-up is a deadlock of the model.
#[derive(Default)]
struct Flag {
    is_up: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn raise(&self) {
        *self.is_up.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Waits until it is up, and takes it down.
    fn wait(&self) {
        let mut is_up = self.is_up.lock().unwrap();
        while !*is_up {
            is_up = self.changed.wait(is_up).unwrap();
        }
        *is_up = false;
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

/// The smallest executor.
fn block_on<T, E>(
    mut future: impl Future<Output = ExecutionResult<T, E>> + Unpin,
) -> ExecutionResult<T, E> {
    let woken = Flag::new();
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => woken.wait(),
        }
    }
}

/// G2, G5: the only worker is busy until the awaiting caller has its answer, so only the alarm can wake it.
#[test]
fn a_queued_call_against_its_alarm() {
    explore("queued, awaited", 1, || {
        let bulkhead = Bulkhead::new(config(1, 1).queue_timeout(LIMIT)).unwrap();
        let released = Flag::new();
        let until = Arc::clone(&released);
        let busy = bulkhead.run(move || until.wait());
        let queued = bulkhead.run(|| ());
        let time = thread::spawn(|| advance(LIMIT));
        let result = block_on(queued);
        time.join().unwrap();
        assert!(result.error().is_some_and(BulkheadError::is_timeout));
        released.raise();
        drop(busy);
        drop(bulkhead);
        wait_for_alarms();
    });
}

/// G2, G4: the task ends, or its caller's limit passes, and the awaiting caller hears of one of them.
#[test]
fn the_end_of_a_task_against_its_alarm() {
    explore("running, awaited", 2, || {
        let bulkhead = bulkhead(1, 0);
        let task = || advance(LIMIT);
        let result = block_on(bulkhead.call().timeout(LIMIT).run(task));
        match result.error() {
            None | Some(BulkheadError::Timeout { .. }) => {}
            Some(other) => panic!("{other}"),
        }
        assert!(bulkhead.shutdown().is_clean());
        assert_balanced(&bulkhead.stats());
        wait_for_alarms();
    });
}

/// G2: a handle that goes calls its alarm off, whether or not that is just ringing.
#[test]
fn a_dropped_handle_against_its_alarm() {
    explore("dropped, awaited", 2, || {
        let bulkhead = bulkhead(1, 0);
        let waker = Waker::from(Flag::new());
        let mut handle = bulkhead.call().timeout(LIMIT).run(|| ());
        let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
        advance(LIMIT);
        drop(handle);
        drop(polled);
        drop(bulkhead);
        wait_for_alarms();
    });
}

//! Waits that end with a condition, and fail the test instead of hanging it.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{ExecutionHandle, ExecutionResult};

/// Long enough for any machine. Only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a handle, but not for ever: a lost wake-up fails the test instead of hanging it.
pub fn wait<T, E>(handle: ExecutionHandle<T, E>) -> ExecutionResult<T, E> {
    match handle.wait_timeout(PATIENCE) {
        Ok(result) => result,
        Err(_) => panic!("no outcome within {PATIENCE:?}"),
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// Runs `body` in a thread of its own, so that a hang fails the test instead of stopping it.
pub fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = done.send(body());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("it has sent its result");
            result
        }
        Err(RecvTimeoutError::Timeout) => panic!("still not done after {PATIENCE:?}"),
        Err(RecvTimeoutError::Disconnected) => {
            resume_unwind(thread.join().expect_err("it sent nothing"))
        }
    }
}

/// Tells other threads to end when it is dropped. A test that fails drops it too, so that its scope can end.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

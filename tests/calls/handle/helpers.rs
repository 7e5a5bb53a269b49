//! Calls that a test holds at a gate, and wakers that count.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread;

pub use crate::support::at_a_gate;
use crate::support::poll_once;

/// Says in which thread it was dropped.
pub struct Tells(pub mpsc::Sender<Option<String>>);

impl Drop for Tells {
    fn drop(&mut self) {
        let name = thread::current().name().map(String::from);
        let _ = self.0.send(name);
    }
}

/// Counts how often it is woken.
#[derive(Default)]
pub struct CountsWakes(AtomicUsize);

impl CountsWakes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Arc<CountsWakes>) -> Poll<F::Output> {
    poll_once(future, &Waker::from(Arc::clone(waker)))
}

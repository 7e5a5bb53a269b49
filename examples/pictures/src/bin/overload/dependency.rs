//! The two dependencies.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How many calls the healthy one serves at a time.
pub const PLACES: usize = 8;
/// How long it takes for one.
const TAKES: Duration = Duration::from_millis(20);
/// When the client of the one that hangs gives up.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Calls a second that the healthy one can serve.
pub fn capacity() -> f64 {
    PLACES as f64 / TAKES.as_secs_f64()
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    Healthy,
    Hanging,
}

/// Clones are the same two.
#[derive(Clone, Default)]
pub struct Dependencies(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many places of the healthy one are taken, and whether the measurement is over.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

/// The client has given up, or the measurement is over.
#[derive(Debug)]
pub struct GaveUp;

impl Dependencies {
    pub fn new() -> Self {
        Self::default()
    }

    /// A blocking call, as through any client.
    pub fn call(&self, which: Which) -> Result<(), GaveUp> {
        match which {
            Which::Healthy => self.call_healthy(),
            Which::Hanging => self.hang(),
        }
    }

    fn call_healthy(&self) -> Result<(), GaveUp> {
        let state = self.0.state.lock().unwrap();
        let is_full = |state: &mut (usize, bool)| state.0 >= PLACES && !state.1;
        let mut state = self.0.changed.wait_while(state, is_full).unwrap();
        if state.1 {
            return Err(GaveUp);
        }
        state.0 += 1;
        drop(state);
        std::thread::sleep(TAKES);
        self.0.state.lock().unwrap().0 -= 1;
        self.0.changed.notify_all();
        Ok(())
    }

    fn hang(&self) -> Result<(), GaveUp> {
        let state = self.0.state.lock().unwrap();
        let waits = self
            .0
            .changed
            .wait_timeout_while(state, CLIENT_TIMEOUT, |state| !state.1);
        drop(waits.unwrap());
        Err(GaveUp)
    }

    /// Lets every call end, now and later.
    pub fn end_calls(&self) {
        self.0.state.lock().unwrap().1 = true;
        self.0.changed.notify_all();
    }
}

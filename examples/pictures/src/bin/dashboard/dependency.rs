//! A dependency whose mood the viewer changes.

use std::fmt;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Healthy,
    /// Twenty times as slow.
    Slow,
    /// It never answers; the client gives up after a while.
    Hanging,
    /// It refuses every connection.
    Dead,
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Dependency {
    takes: Duration,
    mood: Mutex<Mood>,
    changed: Condvar,
}

#[derive(Debug)]
pub struct NoAnswer;

impl Dependency {
    pub fn new(takes: Duration) -> Self {
        Self {
            takes,
            mood: Mutex::new(Mood::Healthy),
            changed: Condvar::new(),
        }
    }

    /// A blocking call, as through any client.
    pub fn call(&self) -> Result<(), NoAnswer> {
        let mood = self.mood();
        let (takes, answer) = match mood {
            Mood::Healthy => (self.takes, Ok(())),
            Mood::Slow => (20 * self.takes, Ok(())),
            Mood::Hanging => (CLIENT_TIMEOUT, Err(NoAnswer)),
            Mood::Dead => (Duration::ZERO, Err(NoAnswer)),
        };
        // A dependency that is brought back drops its connections.
        let state = self.mood.lock().unwrap();
        let is_same = |now: &mut Mood| *now == mood;
        let wait = self.changed.wait_timeout_while(state, takes, is_same);
        let is_over = wait.unwrap().1.timed_out();
        if is_over { answer } else { Err(NoAnswer) }
    }

    pub fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    pub fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Hanging => "hanging",
            Self::Dead => "dead",
        })
    }
}

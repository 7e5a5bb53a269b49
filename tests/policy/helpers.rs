//! Retries that wait by a clock which moves by itself, and what they did.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkman::ManualClock;
use bulkman::policy::{AttemptEnd, ByDefault, Jitter, Retry, RetryEvent};

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a retry has told its listener.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<(u32, AttemptEnd)>>>);

impl Told {
    pub fn listener(&self) -> impl Fn(&RetryEvent<'_>) + Send + Sync + 'static {
        let told = Arc::clone(&self.0);
        move |event| told.lock().unwrap().push((event.attempt, event.end))
    }

    pub fn all(&self) -> Vec<(u32, AttemptEnd)> {
        self.0.lock().unwrap().clone()
    }

    /// The pauses, in milliseconds.
    pub fn pauses(&self) -> Vec<u128> {
        let all = self.all();
        let pauses = all.iter().filter_map(|(_, end)| match end {
            AttemptEnd::Retrying { delay, .. } => Some(delay.as_millis()),
            _ => None,
        });
        pauses.collect()
    }
}

/// A retry without jitter, by a clock that every pause moves on.
pub fn retry(max_attempts: u32) -> (Retry<ByDefault>, ManualClock, Told) {
    over(Retry::new(max_attempts))
}

pub fn over(retry: Retry) -> (Retry, ManualClock, Told) {
    let (clock, told) = (ManualClock::new(), Told::default());
    let hand = clock.clone();
    let retry = retry
        .jitter(Jitter::None)
        .clock(clock.clone())
        .listener(told.listener())
        .listener(move |event| {
            if let AttemptEnd::Retrying { delay, .. } = event.end {
                hand.advance(delay);
            }
        });
    (retry, clock, told)
}

/// A closure that fails with the numbers of its calls until the call `succeeds_at`.
pub fn failing_until(succeeds_at: u32) -> impl FnMut() -> Result<u32, String> {
    let mut calls = 0;
    move || {
        calls += 1;
        if calls >= succeeds_at {
            Ok(calls)
        } else {
            Err(format!("call {calls}"))
        }
    }
}

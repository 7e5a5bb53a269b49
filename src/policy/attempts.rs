//! The attempts of one call: how a [`Retry`] makes them, whether there is to be another one, and the wait before it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::deadline::remaining;
use super::pause::{Slept, sleep_until};
use super::retry::Retry;
use super::retry_outcome::{AttemptEnd, AttemptResult, RetryError, RetryEvent, RetryStop};
use super::retry_rule::{ByDefault, RetryRule};
use crate::context::{ContextVar, Policy, PolicyCall, event_of_retry, in_span};
use crate::core::current;
use crate::panic::contain_in;
use crate::sync::{after, shorter};

/// Set while an attempt runs that is not the first.
static ATTEMPT: ContextVar<u32> = ContextVar::new();

/// Which attempt of the innermost retry around it this code is part of, from 1: for logs, or a header that tells the server.
/// Outside of any retry it is 1.
///
/// It is known in closures of [`Retry::call`] and in the tasks of a [`Pipeline`](super::Pipeline), and carried along as a
/// [`ContextVar`].
///
/// ```
/// use bulkman::policy::{self, Retry};
///
/// let retry = Retry::new(3).first_delay(std::time::Duration::ZERO);
/// let value = retry.call(|| match policy::attempt() {
///     3 => Ok("third time lucky"),
///     n => Err(format!("attempt {n}")),
/// })?;
/// assert_eq!(value, "third time lucky");
/// # Ok::<(), bulkman::policy::RetryError<String>>(())
/// ```
#[must_use]
pub fn attempt() -> u32 {
    ATTEMPT.get().unwrap_or(1)
}

/// The attempts of one call, for code that is no closure. From [`Retry::attempts`].
///
/// ```
/// use bulkman::policy::Retry;
/// # use std::cell::Cell;
/// # let calls = Cell::new(0);
/// # let connect = || { calls.set(calls.get() + 1); if calls.get() < 3 { Err("refused") } else { Ok("connected") } };
///
/// let retry = Retry::new(5).first_delay(std::time::Duration::from_millis(1));
/// let attempts = retry.attempts();
/// let connection = loop {
///     match connect() {
///         Ok(connection) => break connection,
///         Err(error) => attempts.failed(error)?, // waits; leaves when there is to be no other attempt
///     }
/// };
/// assert_eq!(connection, "connected");
/// assert_eq!(attempts.made(), 3);
/// # Ok::<(), bulkman::policy::RetryError<&str>>(())
/// ```
///
/// A reference to it is also an iterator over the numbers of the attempts, for a `for` loop. It goes on after each
/// [`failed`](Self::failed), and ends if an attempt was not reported as failed:
///
/// ```
/// # use bulkman::policy::Retry;
/// # let retry = Retry::new(3).first_delay(std::time::Duration::ZERO);
/// let attempts = retry.attempts();
/// for attempt in &attempts {
///     if attempts.failed(format!("attempt {attempt}")).is_err() {
///         break;
///     }
/// }
/// assert_eq!(attempts.made(), 3);
/// ```
#[derive(Debug)]
pub struct Attempts<'r, R = ByDefault> {
    retry: &'r Retry<R>,
    begun: Instant,
    /// The attempt under way, from 1.
    attempt: Cell<u32>,
    /// Whether the iterator has yielded the attempt under way.
    yielded: Cell<bool>,
    /// The time spent between attempts.
    waited: Cell<Duration>,
}

impl<R> Retry<R> {
    /// Calls `f` until it succeeds, or there is to be no other attempt.
    ///
    /// `f` returns a `Result`, or what a call of a bulkhead gives: an [`ExecutionResult`](crate::ExecutionResult). It is called
    /// once in any case, and may ask [`attempt`](super::attempt()) which attempt it is.
    ///
    /// # Errors
    ///
    /// The last error, and how many attempts there were.
    ///
    /// # Panics
    ///
    /// A panic of `f` goes on to the caller. Tasks of bulkheads do not panic here: they give
    /// [`Panicked`](crate::BulkheadError::Panicked).
    pub fn call<A: AttemptResult>(
        &self,
        mut f: impl FnMut() -> A,
    ) -> Result<A::Value, RetryError<A::Error>>
    where
        R: RetryRule<A::Error>,
    {
        let attempts = self.attempts();
        let call = PolicyCall {
            policy: Policy::Retry,
            name: &self.name,
            operation: None,
        };
        let make = || {
            loop {
                match attempts.run(&mut f).into_result() {
                    Ok(value) => {
                        attempts.succeeded();
                        return Ok(value);
                    }
                    Err(error) => attempts.failed(error)?,
                }
            }
        };
        in_span(
            self.trace,
            call,
            make,
            |result: &Result<_, RetryError<_>>, span| {
                let outcome = if result.is_ok() {
                    "succeeded"
                } else {
                    "failed"
                };
                span.record_outcome(outcome, result.is_err());
                span.number("attempts", attempts.made());
                if let Err(error) = result {
                    span.text("retry_stop", error.stop);
                }
            },
        )
    }

    /// Begins a call whose attempts the caller makes itself: see [`Attempts`].
    #[must_use]
    pub fn attempts(&self) -> Attempts<'_, R> {
        Attempts::begin(self, self.clock.now())
    }
}

impl<'r, R> Attempts<'r, R> {
    /// `now` by the retry's clock.
    pub(super) fn begin(retry: &'r Retry<R>, now: Instant) -> Self {
        if let Some(budget) = &retry.budget {
            budget.pay_in();
        }
        Self {
            begun: now,
            attempt: Cell::new(1),
            yielded: Cell::new(false),
            waited: Cell::new(Duration::ZERO),
            retry,
        }
    }

    /// Runs an attempt, in which [`attempt`] gives its number.
    pub(super) fn run<A>(&self, body: impl FnOnce() -> A) -> A {
        match self.made() {
            // Most calls need no more, and set nothing.
            1 if ATTEMPT.shared().is_none() => body(),
            attempt => ATTEMPT.with(attempt, body),
        }
    }

    /// How many attempts were made, the one under way among them.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.attempt.get()
    }

    /// How much time was spent waiting between attempts.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Tells the listeners that the attempt under way has succeeded. [`Retry::call`] does so by itself.
    pub fn succeeded(&self) {
        self.tell(AttemptEnd::Succeeded);
    }

    /// Reports that the attempt under way has failed, and waits until it is time for the next.
    ///
    /// # Errors
    ///
    /// If there is to be no other attempt. It comes at once, without a wait, except that a wait can be stopped.
    pub fn failed<X>(&self, error: X) -> Result<(), RetryError<X>>
    where
        R: RetryRule<X>,
    {
        match self.next_after(&error) {
            Ok(()) => {
                let name = &self.retry.name;
                contain_in("retry", name, "the drop of an error", || drop(error));
                Ok(())
            }
            Err(stop) => Err(RetryError {
                last: error,
                attempts: self.made(),
                stop,
                elapsed: self.elapsed(),
            }),
        }
    }

    /// As [`failed`](Self::failed), for an error that stays with its owner.
    pub(super) fn next_after<X>(&self, error: &X) -> Result<(), RetryStop>
    where
        R: RetryRule<X>,
    {
        let next = self
            .delay_after(error)
            .and_then(|delay| {
                // It has been taken from the budget, and there is no retry after all.
                self.wait(delay).inspect_err(|_| self.refund())
            })
            .inspect_err(|stop| self.tell(AttemptEnd::GaveUp(*stop)));
        if next.is_ok() {
            self.attempt.set(self.made().saturating_add(1));
            self.yielded.set(false);
        }
        next
    }

    /// How long to wait before another attempt. The last check takes from the budget.
    fn delay_after<X>(&self, error: &X) -> Result<Duration, RetryStop>
    where
        R: RetryRule<X>,
    {
        let retry = self.retry;
        let asked = contain_in("retry", &retry.name, "a retry rule", || {
            let asks = retry.rule.is_retryable(error);
            asks.then(|| retry.rule.retry_after(error))
        });
        let Some(Some(named)) = asked else {
            return Err(RetryStop::NotRetryable);
        };
        if retry.max_attempts.is_some_and(|max| self.made() >= max) {
            return Err(RetryStop::AttemptsUsedUp);
        }
        if self.is_stopped() {
            return Err(RetryStop::Stopped);
        }
        if named.is_some_and(|named| named > retry.max_named_delay) {
            return Err(RetryStop::DelayTooLong);
        }
        let backoff = retry.backoff.delay(self.made(), &retry.random);
        let delay = named.map_or(backoff, |named| named.max(backoff));
        if self.remaining().is_some_and(|left| delay >= left) {
            return Err(RetryStop::DeadlineTooNear);
        }
        match &retry.budget {
            Some(budget) if !budget.take() => Err(RetryStop::BudgetUsedUp),
            _ => Ok(delay),
        }
    }

    fn refund(&self) {
        if let Some(budget) = &self.retry.budget {
            budget.give_back();
        }
    }

    fn wait(&self, delay: Duration) -> Result<(), RetryStop> {
        let clock = &self.retry.clock;
        let began = clock.now();
        // No clock ever shows that time.
        let until = after(began, delay).ok_or(RetryStop::DelayTooLong)?;
        event_of_retry(self.retry.trace, &self.retry.name, self.made(), delay);
        self.tell(AttemptEnd::Retrying { delay });
        let stop = || self.says_stop();
        let stop: Option<&dyn Fn() -> bool> = match &self.retry.stop_if {
            Some(_) => Some(&stop),
            None => None,
        };
        let slept = sleep_until(clock, until, stop);
        let waited = clock.now().saturating_duration_since(began);
        self.waited.set(self.waited.get().saturating_add(waited));
        match slept {
            Slept::Stopped => Err(RetryStop::Stopped),
            // The wait took longer than it was to, or another clock has moved.
            Slept::Over if self.remaining() == Some(Duration::ZERO) => {
                Err(RetryStop::DeadlineTooNear)
            }
            Slept::Over => Ok(()),
        }
    }

    fn elapsed(&self) -> Duration {
        let now = self.retry.clock.now();
        now.saturating_duration_since(self.begun)
    }

    /// What is left of the whole; `None`: for ever.
    fn remaining(&self) -> Option<Duration> {
        let own = self.retry.total_limit;
        let own = own.map(|limit| limit.saturating_sub(self.elapsed()));
        shorter(own, remaining())
    }

    fn is_stopped(&self) -> bool {
        self.says_stop() || current().is_some_and(|call| call.is_cancelled())
    }

    /// Whether the retry's own condition says so. If it panics, it does.
    fn says_stop(&self) -> bool {
        self.retry.stop_if.as_ref().is_some_and(|stop| {
            contain_in("retry", &self.retry.name, "a stop condition", || stop()).unwrap_or(true)
        })
    }

    pub(super) fn has_listeners(&self) -> bool {
        !self.retry.listeners.is_empty()
    }

    fn tell(&self, end: AttemptEnd) {
        if !self.has_listeners() {
            return;
        }
        let event = RetryEvent {
            name: &self.retry.name,
            attempt: self.made(),
            end,
            elapsed: self.elapsed(),
        };
        for listener in &self.retry.listeners {
            contain_in("retry", &self.retry.name, "a listener", || listener(&event));
        }
    }
}

impl<R> Iterator for &Attempts<'_, R> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        (!self.yielded.replace(true)).then(|| self.made())
    }
}

//! An answer in place of an error.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Failure, FailureKind};
use super::retry_outcome::AttemptResult;
use crate::clock::Clock;
use crate::context::{Policy, PolicyCall, TraceOptions, in_span};
use crate::panic::contain_in;
use crate::sync::{Mutex, shorter};
use crate::thread_pool::Bulkhead;

/// Gives an answer where a call has none: a value, what a function says, what another bulkhead gives, or the last good
/// value.
///
/// `T` is the value, `X` the error that the call fails with, such as [`BulkheadError<E>`](crate::BulkheadError).
///
/// ```
/// use bulkman::policy::{Fallback, FailureKind};
/// use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};
/// use std::io;
/// use std::time::Duration;
///
/// type Error = BulkheadError<io::Error>;
///
/// let rates = Bulkhead::new(BulkheadConfig::new("rates"))?;
/// let fallback: Fallback<f64, Error> = Fallback::last_good(Duration::from_secs(300))
///     .or(Fallback::value(1.0).only_for(FailureKind::REFUSED));
///
/// let fresh = fallback.call(|| rates.execute(|| Ok(1.25)).wait())?;
/// rates.shutdown();
/// let remembered = fallback.call(|| rates.execute(|| Ok(1.30)).wait())?;
/// assert_eq!((fresh, remembered), (1.25, 1.25));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Sources are asked in order, and the first that has an answer gives it. If none has, the call fails with its own error.
/// A source that panics has no answer; the panic is contained and logged.
///
/// Cloning is cheap, and clones share the last good value. That is one value: where the answer depends on an argument, such
/// as a user's id, each argument needs a fallback of its own, or a [function](Self::with) that looks into a cache.
pub struct Fallback<T, X> {
    name: Arc<str>,
    sources: Vec<Source<T, X>>,
    pub(in crate::policy) clock: Clock,
    trace: TraceOptions,
}

struct Source<T, X> {
    /// All have to hold.
    conditions: Vec<Condition<X>>,
    answer: Answer<T, X>,
}

type Condition<X> = Arc<dyn Fn(&X) -> bool + Send + Sync>;
type AnswerFn<T, X> = Arc<dyn Fn(&X) -> Option<T> + Send + Sync>;

enum Answer<T, X> {
    Function(AnswerFn<T, X>),
    LastGood(Arc<dyn Remembers<T>>),
}

/// Keeps a value. Behind a trait object, so that a `Fallback` is `Send` and `Sync` for every `T`.
trait Remembers<T>: Send + Sync {
    fn get(&self, now: Instant) -> Option<T>;
    fn put(&self, value: &T, now: Instant);
}

/// The last value of a call that succeeded.
struct LastGood<T> {
    max_age: Duration,
    /// User code, so never called under the lock.
    clone: fn(&T) -> T,
    value: Mutex<Option<(Arc<T>, Instant)>>,
}

impl<T, X> Fallback<T, X> {
    /// Always this value.
    #[must_use]
    pub fn value(value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        Self::with(move |_| Some(value.clone()))
    }

    /// What a function makes of the error; `None`: it has no answer either.
    ///
    /// ```
    /// use bulkman::policy::Fallback;
    ///
    /// let fallback = Fallback::with(|error: &std::num::ParseIntError| Some(error.to_string().len()));
    /// let length = fallback.call(|| "seven".parse::<usize>())?;
    /// assert_eq!(length, "invalid digit found in string".len());
    /// # Ok::<(), std::num::ParseIntError>(())
    /// ```
    #[must_use]
    pub fn with(answer: impl Fn(&X) -> Option<T> + Send + Sync + 'static) -> Self {
        Self::new(Answer::Function(Arc::new(answer)))
    }

    /// What `f` gives on another bulkhead, whose limits hold for it. If that fails too, it is no answer.
    #[must_use]
    pub fn bulkhead<E, F>(other: Arc<Bulkhead>, f: F) -> Self
    where
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let f = Arc::new(f);
        Self::with(move |_| {
            let f = Arc::clone(&f);
            let limit = super::remaining();
            let call = other.call();
            let limit = shorter(call.caller_limit(), limit);
            let call = match limit {
                Some(limit) => call.timeout(limit),
                None => call,
            };
            call.execute(move || f()).wait().into_result().ok()
        })
    }

    /// The value of the last call that succeeded, unless it is older than `max_age`.
    ///
    /// It is one value, whatever the calls were about: see [`Fallback`].
    #[must_use]
    pub fn last_good(max_age: Duration) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        Self::new(Answer::LastGood(Arc::new(LastGood {
            max_age,
            clone: T::clone,
            value: Mutex::new(None),
        })))
    }

    fn new(answer: Answer<T, X>) -> Self {
        Self {
            name: "fallback".into(),
            sources: vec![Source {
                conditions: Vec::new(),
                answer,
            }],
            clock: Clock::system(),
            trace: TraceOptions::default(),
        }
    }

    /// Only for errors for which `condition` says so. It holds for all sources that are there so far. If it panics, it
    /// does not hold.
    #[must_use]
    pub fn only_if(mut self, condition: impl Fn(&X) -> bool + Send + Sync + 'static) -> Self {
        let condition = Arc::new(condition);
        for source in &mut self.sources {
            source.conditions.push(Arc::clone(&condition) as _);
        }
        self
    }

    /// Only for these kinds of errors. Otherwise as [`only_if`](Self::only_if).
    #[must_use]
    pub fn only_for(self, kinds: impl IntoIterator<Item = FailureKind>) -> Self
    where
        X: Failure,
    {
        let kinds: Vec<_> = kinds.into_iter().collect();
        self.only_if(move |error| kinds.contains(&error.failure_kind()))
    }

    /// Asks the sources of `other` if those that are there have no answer. The name and the clock stay as they are.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self
    }

    /// Names it, for the log. Default `fallback`.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the clock that the age of the last good value goes by. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Sets whether a [`call`](Self::call) has a span of its own, `fallback_call`, around those of the calls inside. Default:
    /// `true`. In a pipeline there is none in any case.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.trace.has_spans = spans;
        self
    }

    /// Makes a call, and answers in its place if it fails.
    ///
    /// # Errors
    ///
    /// The call's own error, if no source has an answer.
    pub fn call<A>(&self, f: impl FnOnce() -> A) -> Result<T, X>
    where
        A: AttemptResult<Value = T, Error = X>,
    {
        let call = PolicyCall {
            policy: Policy::Fallback,
            name: &self.name,
            operation: None,
        };
        let make = || match f().into_result() {
            Ok(value) => {
                self.remember(&value);
                (Ok(value), false)
            }
            Err(error) => match self.answer(&error) {
                Some(value) => {
                    self.discard(error);
                    (Ok(value), true)
                }
                None => (Err(error), false),
            },
        };
        let (result, _) = in_span(self.trace, call, make, |(result, fell_back), span| {
            let outcome = if result.is_ok() {
                "succeeded"
            } else {
                "failed"
            };
            span.record_outcome(outcome, result.is_err());
            span.flag("fell_back", *fell_back);
        });
        result
    }

    /// The first source's answer that there is.
    pub(super) fn answer(&self, error: &X) -> Option<T> {
        self.sources.iter().find_map(|source| {
            contain_in("fallback", &self.name, "a source", || {
                let applies = source.conditions.iter().all(|holds| holds(error));
                applies.then(|| source.answer.get(error, &self.clock))
            })??
        })
    }

    /// Drops an error that was answered.
    fn discard(&self, error: X) {
        contain_in("fallback", &self.name, "the drop of an error", || {
            drop(error);
        });
    }

    /// A call has succeeded. Tells whether the value was cloned.
    pub(super) fn remember(&self, value: &T) -> bool {
        let mut cloned = false;
        for source in &self.sources {
            if let Answer::LastGood(last) = &source.answer {
                contain_in("fallback", &self.name, "the clone of a value", || {
                    last.put(value, self.clock.now());
                });
                cloned = true;
            }
        }
        cloned
    }
}

impl<T, X> Answer<T, X> {
    fn get(&self, error: &X, clock: &Clock) -> Option<T> {
        match self {
            Self::Function(answer) => answer(error),
            Self::LastGood(last) => last.get(clock.now()),
        }
    }
}

impl<T: Send + Sync> Remembers<T> for LastGood<T> {
    fn get(&self, now: Instant) -> Option<T> {
        let (value, since) = self.value.lock().clone()?;
        let age = now.saturating_duration_since(since);
        (age <= self.max_age).then(|| (self.clone)(&value))
    }

    fn put(&self, value: &T, now: Instant) {
        let value = Arc::new((self.clone)(value));
        let mut kept = self.value.lock();
        // Of two calls that end at once, the later one's value stays, whichever thread comes here first.
        let dropped = match &*kept {
            Some((_, since)) if *since > now => Some((value, now)),
            _ => kept.replace((value, now)),
        };
        drop(kept);
        drop(dropped);
    }
}

impl<T, X> Clone for Fallback<T, X> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            sources: self.sources.iter().map(Source::clone).collect(),
            clock: self.clock.clone(),
            trace: self.trace,
        }
    }
}

impl<T, X> Clone for Source<T, X> {
    fn clone(&self) -> Self {
        Self {
            conditions: self.conditions.clone(),
            answer: match &self.answer {
                Answer::Function(answer) => Answer::Function(Arc::clone(answer)),
                Answer::LastGood(last) => Answer::LastGood(Arc::clone(last)),
            },
        }
    }
}

impl<T, X> fmt::Debug for Fallback<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("name", &self.name)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync;

    #[test]
    fn the_later_of_two_values_stays() {
        let (early, late) = (sync::now(), sync::now() + Duration::from_secs(1));
        for order in [[early, late], [late, early]] {
            let last = LastGood {
                max_age: Duration::from_secs(60),
                clone: u32::clone,
                value: Mutex::new(None),
            };
            for now in order {
                last.put(if now == late { &2 } else { &1 }, now);
            }
            assert_eq!(last.get(late), Some(2));
        }
    }
}

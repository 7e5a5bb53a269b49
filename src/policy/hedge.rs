//! A second attempt for a call that takes long.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::deadline::remaining;
use super::failure::{Failure, record_outcome};
use crate::context::{Policy, PolicyCall, TraceOptions, in_span};
use crate::panic::contain;
use crate::result::ExecutionResult;
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, after, shorter};
use crate::thread_pool::{Bulkhead, ExecutionHandle};

/// Starts a second attempt of a call that takes long, on the same or on another bulkhead, and takes what comes first.
///
/// ```
/// use bulkman::policy::Hedge;
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let near = Arc::new(Bulkhead::new(BulkheadConfig::new("near"))?);
/// let far = Arc::new(Bulkhead::new(BulkheadConfig::new("far"))?);
///
/// let hedge = Hedge::after(Duration::from_millis(50)).on(&far);
/// let result = hedge.execute(&near, || Ok::<_, std::io::Error>("answer"));
/// assert_eq!(result.value(), Some(&"answer"));
/// assert!(hedge.stats().hedged <= 1);
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// It is for tasks that only read, and that are slow now and then: it costs a little more load, and cuts the slowest
/// calls short. Best after a [quantile](Self::after_quantile) of the run times, so that the load grows by a known share.
///
/// The first success counts. The loser is cancelled: queued, it never runs; running, it can read so from
/// [`is_cancelled`](crate::CurrentExecution::is_cancelled), and keeps its worker until it ends. If one of both fails, the
/// other is waited for; if both fail, the error is the first one's. An error that comes before the delay is no reason for
/// a second attempt: that is a [`Retry`](super::Retry)'s job. If the second bulkhead refuses, there is no second attempt;
/// nor does that attempt [wait for a place](crate::Call::wait_for_capacity). Both count in their bulkheads' numbers.
///
/// The caller waits for both as for two futures. With a limit it uses the timer thread of awaited
/// [handles](crate::ExecutionHandle).
///
/// Clones share the counters.
#[derive(Clone)]
pub struct Hedge {
    delay: Delay,
    other: Option<Arc<Bulkhead>>,
    counters: Arc<Counters>,
    trace: TraceOptions,
}

#[derive(Clone)]
enum Delay {
    Fixed(Duration),
    Quantile {
        q: f64,
        /// While too few calls were measured.
        initial: Duration,
        measured: Arc<Mutex<Option<(Instant, Duration)>>>,
    },
}

/// A quantile of fewer calls means little.
const ENOUGH_CALLS: u64 = 100;

/// How long a quantile holds until it is looked up again.
const QUANTILE_AGE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    hedged: AtomicU64,
    second_won: AtomicU64,
}

/// What a [`Hedge`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// Calls in all.
    pub calls: u64,
    /// Calls that had a second attempt.
    pub hedged: u64,
    /// Calls whose second attempt gave the result.
    pub second_won: u64,
}

impl Hedge {
    /// A second attempt after this time, by the bulkhead's clock.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::new(Delay::Fixed(delay))
    }

    /// A second attempt after the quantile `q` of the bulkhead's run times: with 0.95 it is for the slowest twentieth of the
    /// calls. Until 100 calls were measured it is `initial`. The quantile is looked up once a second.
    #[must_use]
    pub fn after_quantile(q: f64, initial: Duration) -> Self {
        Self::new(Delay::Quantile {
            q,
            initial,
            measured: Arc::default(),
        })
    }

    fn new(delay: Delay) -> Self {
        Self {
            delay,
            other: None,
            counters: Arc::default(),
            trace: TraceOptions::default(),
        }
    }

    /// Lets second attempts run on another bulkhead, such as that of a replica. Default: on the same.
    #[must_use]
    pub fn on(mut self, other: &Arc<Bulkhead>) -> Self {
        self.other = Some(Arc::clone(other));
        self
    }

    /// What it has done, all clones together.
    #[must_use]
    pub fn stats(&self) -> HedgeStats {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        HedgeStats {
            calls: read(&self.counters.calls),
            hedged: read(&self.counters.hedged),
            second_won: read(&self.counters.second_won),
        }
    }

    /// Sets whether a call of [`execute`](Self::execute) has a span of its own, `hedge_call`, around those of both attempts.
    /// Default: `true`. In a pipeline there is none in any case.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.trace.has_spans = spans;
        self
    }

    /// Makes a call on `bulkhead`, with a second attempt if it takes long. The time that is
    /// [left](super::remaining()) to the code around it is the limit of both.
    pub fn execute<T, E, F>(&self, bulkhead: &Bulkhead, f: F) -> ExecutionResult<T, E>
    where
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let f = Arc::new(f);
        let submit = |bulkhead: &Bulkhead, _: HedgeAttempt| {
            let f = Arc::clone(&f);
            let call = bulkhead.call();
            let limit = shorter(call.caller_limit(), remaining());
            let call = match limit {
                Some(limit) => call.timeout(limit),
                None => call,
            };
            call.execute(move || f())
        };
        let call = PolicyCall {
            policy: Policy::Hedge,
            name: bulkhead.name(),
            operation: None,
        };
        let make = || self.run(bulkhead, submit);
        let (result, _) = in_span(self.trace, call, make, |(result, second), span| {
            record_outcome(span, result.error().map(Failure::failure_kind));
            span.flag("hedged", *second != Second::NotStarted);
            span.flag("second_won", *second == Second::Won);
        });
        contain(bulkhead.name(), "the drop of a task", || drop(f));
        result
    }

    /// Runs both attempts, and tells what became of the second.
    pub(super) fn run<T, E>(
        &self,
        bulkhead: &Bulkhead,
        submit: impl Fn(&Bulkhead, HedgeAttempt) -> ExecutionHandle<T, E>,
    ) -> (ExecutionResult<T, E>, Second) {
        count(&self.counters.calls);
        let delay = self.delay_on(bulkhead);
        let first = match submit(bulkhead, HedgeAttempt::First).wait_timeout(delay) {
            Ok(result) => return (result, Second::NotStarted),
            Err(first) => first,
        };
        let other = self.other.as_deref().unwrap_or(bulkhead);
        let second = submit(other, HedgeAttempt::Second);
        if second.is_finished() {
            // Refused, or quicker than a look.
            let result = second.wait();
            if result.is_success() {
                first.cancel();
                discard(bulkhead, first);
                count(&self.counters.hedged);
                count(&self.counters.second_won);
                return (result, Second::Won);
            }
            let is_refused = result.error().is_some_and(|error| error.is_rejected());
            discard(other, result);
            return if is_refused {
                (first.wait(), Second::NotStarted)
            } else {
                count(&self.counters.hedged);
                (first.wait(), Second::Lost)
            };
        }
        count(&self.counters.hedged);
        let (result, winner) = race((bulkhead, first), (other, second));
        match winner {
            Winner::First => (result, Second::Lost),
            Winner::Second => {
                count(&self.counters.second_won);
                (result, Second::Won)
            }
        }
    }

    fn delay_on(&self, bulkhead: &Bulkhead) -> Duration {
        let (q, initial, measured) = match &self.delay {
            Delay::Fixed(delay) => return *delay,
            Delay::Quantile {
                q,
                initial,
                measured,
            } => (*q, *initial, measured),
        };
        let now = bulkhead.clock().now();
        let known = *measured.lock();
        if let Some((until, delay)) = known {
            if now < until {
                return delay;
            }
        }
        let times = bulkhead.stats().run_time;
        if times.count() < ENOUGH_CALLS {
            return initial;
        }
        let delay = times.quantile(q);
        *measured.lock() = after(now, QUANTILE_AGE).map(|until| (until, delay));
        delay
    }
}

/// Which attempt of a call is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HedgeAttempt {
    First,
    /// It must not wait for a place: the first may end meanwhile, and its caller is here.
    Second,
}

/// What became of the second attempt of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// The first was quick enough, or the second was refused.
    NotStarted,
    Lost,
    Won,
}

fn count(number: &AtomicU64) {
    // ORDERING: Relaxed. The number stands for itself.
    number.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Winner {
    First,
    Second,
}

/// Waits for the first success of two calls, and cancels the other.
fn race<T, E>(
    (of_first, mut first): (&Bulkhead, ExecutionHandle<T, E>),
    (of_second, mut second): (&Bulkhead, ExecutionHandle<T, E>),
) -> (ExecutionResult<T, E>, Winner) {
    let signal = Arc::new(EndSignal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = Pin::new(&mut first).poll(&mut context) {
            if result.is_success() {
                second.cancel();
                discard(of_second, second);
                return (result, Winner::First);
            }
            let other = second.wait();
            return if other.is_success() {
                discard(of_first, result);
                (other, Winner::Second)
            } else {
                discard(of_second, other);
                (result, Winner::First)
            };
        }
        if let Poll::Ready(result) = Pin::new(&mut second).poll(&mut context) {
            return if result.is_success() {
                first.cancel();
                discard(of_first, first);
                (result, Winner::Second)
            } else {
                discard(of_second, result);
                (first.wait(), Winner::First)
            };
        }
        signal.wait();
    }
}

/// Drops what is left of the attempt that did not count. Its value or its error may be there, and to drop it is user code.
fn discard<X>(bulkhead: &Bulkhead, loser: X) {
    contain(bulkhead.name(), "the drop of a hedge's result", || {
        drop(loser);
    });
}

/// Wakes the caller when one of its calls has ended.
#[derive(Default)]
struct EndSignal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl EndSignal {
    fn wait(&self) {
        let mut is_raised = self.is_raised.lock();
        while !*is_raised {
            crate::sync::wait_until(&self.raised, &mut is_raised, None);
        }
        *is_raised = false;
    }
}

impl Wake for EndSignal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.is_raised.lock() = true;
        self.raised.notify_one();
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Hedge");
        match &self.delay {
            Delay::Fixed(delay) => out.field("delay", delay),
            Delay::Quantile { q, .. } => out.field("quantile", q),
        };
        out.field("on", &self.other.as_ref().map(|other| other.name()))
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

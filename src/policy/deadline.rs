//! One deadline for everything below: set once, for a scope, and carried along to every worker.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::context::{ContextGuard, ContextVar, has_values};
use crate::core::{Call, Kind, current, may_have_a_call};
use crate::sync::{after, shorter};

static SCOPE: ContextVar<Deadline> = ContextVar::unless_detached();

/// When everything has to be over, for a piece of work with several calls in it.
///
/// It is set once, and everything below that asks for its [remaining](remaining) time goes by it: the policies of this
/// module, and every call that is given it with [`Call::within`] or [`DependencyCall::within`](crate::DependencyCall::within).
/// It is a [`ContextVar`], so it is also there in the tasks of bulkheads, and in what they call. Only a
/// [detached](Call::detached) call of a task leaves it behind.
///
/// ```
/// use bulkman::policy::{self, Deadline};
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let users = Bulkhead::new(BulkheadConfig::new("users"))?;
///
/// let deadline = Deadline::after(Duration::from_secs(2)); // for the whole request
/// let left = deadline.with(|| {
///     let call = users.call().within(&deadline);
///     call.run(|| policy::remaining()).wait().into_result() // a good timeout for the client
/// })?;
/// assert!(left <= Some(Duration::from_secs(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A deadline ends the waiting, and nothing can end a thread: work that does not ask goes on.
#[derive(Clone)]
pub struct Deadline {
    /// `None`: never.
    at: Option<Instant>,
    clock: Clock,
}

impl Deadline {
    /// The time `limit` from now, by the system's clock. A limit beyond what the clock can hold means never.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self::after_on(Clock::system(), limit)
    }

    /// The time `limit` from now, by a clock of the caller's. Tests hand in a [`ManualClock`](crate::ManualClock).
    #[must_use]
    pub fn after_on(clock: impl Into<Clock>, limit: Duration) -> Self {
        let clock = clock.into();
        Self::after_moment(clock.now(), clock, limit)
    }

    /// The time `limit` after a moment of this clock.
    pub(super) fn after_moment(moment: Instant, clock: Clock, limit: Duration) -> Self {
        Self {
            at: after(moment, limit),
            clock,
        }
    }

    /// A moment of the system's clock.
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        Self {
            at: Some(moment),
            clock: Clock::system(),
        }
    }

    /// The deadline of the innermost scope around this code; `None` outside of any.
    ///
    /// This is what [`with`](Self::with) and [`enter`](Self::enter) have set. The caller's limit of the running call counts
    /// too in [`remaining`](remaining).
    #[must_use]
    pub fn current() -> Option<Self> {
        SCOPE.get()
    }

    /// The time that is left; zero once it is over, `None`: for ever.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        Some(self.at?.saturating_duration_since(self.clock.now()))
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The one of the two that is over first.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        // By what is left, since the two may go by different clocks.
        match (self.remaining(), other.remaining()) {
            (Some(own), Some(others)) if own <= others => self,
            (Some(_), None) => self,
            _ => other,
        }
    }

    /// Sets the deadline in this thread until the guard is dropped. Inside of an earlier deadline, that one stays in
    /// force.
    pub fn enter(&self) -> DeadlineGuard {
        let deadline = match Self::current() {
            Some(outer) => outer.earlier(self.clone()),
            None => self.clone(),
        };
        DeadlineGuard {
            _scope: SCOPE.set(deadline),
        }
    }

    /// Runs `body` with this deadline set, see [`enter`](Self::enter). It is gone afterwards, also if `body` panics.
    pub fn with<R>(&self, body: impl FnOnce() -> R) -> R {
        let _scope = self.enter();
        body()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// Keeps a [`Deadline`] set in its thread.
///
/// # What dropping it does
///
/// The deadline that was set before is back. If a younger guard is still there, its deadline stays until it is dropped.
#[must_use = "the deadline is set until this is dropped"]
pub struct DeadlineGuard {
    _scope: ContextGuard,
}

impl fmt::Debug for DeadlineGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineGuard").finish_non_exhaustive()
    }
}

/// How much time this code has left, by the [`Deadline`] around it and by the caller's limit of the call that it runs in,
/// whichever is over first; `None`: for ever. A good timeout for what the code calls itself.
///
/// ```
/// use bulkman::policy::{self, Deadline};
/// use std::time::Duration;
///
/// assert_eq!(policy::remaining(), None);
/// Deadline::after(Duration::ZERO).with(|| {
///     assert_eq!(policy::remaining(), Some(Duration::ZERO));
/// });
/// ```
#[must_use]
#[inline]
pub fn remaining() -> Option<Duration> {
    // Mostly there is neither, and to see that takes a look at three words.
    if has_values() || may_have_a_call() {
        find_remaining()
    } else {
        None
    }
}

fn find_remaining() -> Option<Duration> {
    let of_scope = SCOPE.shared().and_then(|deadline| deadline.remaining());
    let of_call = current().and_then(|call| call.remaining());
    shorter(of_scope, of_call)
}

#[expect(private_bounds, reason = "there are two kinds, and no others")]
impl<K: Kind, C> Call<'_, K, C> {
    /// Lets the call's limit be what is left until `deadline`, unless it has a shorter one. It counts from this moment on,
    /// as [`timeout`](Self::timeout) does from the call.
    pub fn within(self, deadline: &crate::policy::Deadline) -> Self {
        let limit = shorter(self.caller_limit(), deadline.remaining());
        match limit {
            Some(limit) => self.timeout(limit),
            None => self,
        }
    }
}

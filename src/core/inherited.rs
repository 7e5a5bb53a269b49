//! What a call inherits from the task that makes it.
//!
//! | of the outer call | the inner call inherits | how long |
//! |---|---|---|
//! | its deadline, own or inherited | the moment | for ever |
//! | a cancel, its own or inherited | that it is cancelled | each cancel that comes before the outer task has ended |
//!
//! The inner task sees it, and nothing else follows from it: neither how long anybody waits, nor whether a queued call
//! starts, nor what the circuit makes of a late one.
//!
//! A [`Lineage`] asks the outer call itself while that runs. When the outer task has ended, its thread writes down the answer
//! and lets go of the call. So a chain of calls, of which each makes the next and ends, holds none that is over. The
//! answer never goes from yes to no: a thread that asks holds the locks of all calls on its way, so none of them ends
//! between the question and the answer, and a cancel is never taken back.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{RwLock, after};

/// A call from which others inherit: it can be asked whether it is cancelled.
pub(super) trait OuterCall {
    fn is_cancelled(&self) -> bool;
}

/// What all calls inherit that the task of one outer call makes. `C` is the outer call.
pub(crate) struct Inherited<C: ?Sized> {
    /// By `clock`, which is that of the outer call's bulkhead.
    deadline: Option<Instant>,
    clock: Clock,
    cancel: Option<Arc<Lineage<C>>>,
}

/// An outer call that can be cancelled, as the calls see it that its task has made.
struct Lineage<C: ?Sized>(RwLock<Outer<C>>);

enum Outer<C: ?Sized> {
    Running(Arc<C>),
    Ended { was_cancelled: bool },
}

impl<C: ?Sized + OuterCall> Inherited<C> {
    /// From an outer call that has a handle, and so can be cancelled.
    pub(super) fn from_cancellable(call: Arc<C>, deadline: Option<Instant>, clock: Clock) -> Self {
        let lineage = Lineage(RwLock::new(Outer::Running(call)));
        Self {
            deadline,
            clock,
            cancel: Some(Arc::new(lineage)),
        }
    }

    /// From an outer call that runs in its caller's thread, and has inherited `own` itself. Nobody can cancel it but the
    /// calls around it.
    pub(super) fn from_call_in_caller(
        own: Option<&Self>,
        deadline: Option<Instant>,
        clock: Clock,
    ) -> Self {
        Self {
            deadline,
            clock,
            cancel: own.and_then(|own| own.cancel.clone()),
        }
    }

    /// The outer task has ended.
    #[cold]
    pub(super) fn end(&self) {
        if let Some(lineage) = &self.cancel {
            lineage.end();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|call| call.is_cancelled())
    }

    /// The inherited deadline in the time of another bulkhead's clock.
    pub(super) fn deadline_by(&self, clock: &Clock) -> Option<Instant> {
        let deadline = self.deadline?;
        if self.clock.is_same_as(clock) {
            return Some(deadline);
        }
        let left = deadline.saturating_duration_since(self.clock.now());
        after(clock.now(), left)
    }
}

impl<C: ?Sized + OuterCall> Lineage<C> {
    fn is_cancelled(&self) -> bool {
        self.0.read().is_cancelled()
    }

    fn end(&self) {
        let mut outer = self.0.write();
        let was_cancelled = outer.is_cancelled();
        // The call itself is dropped later: this thread still has it.
        *outer = Outer::Ended { was_cancelled };
    }
}

impl<C: ?Sized + OuterCall> Outer<C> {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Running(call) => call.is_cancelled(),
            Self::Ended { was_cancelled } => *was_cancelled,
        }
    }
}

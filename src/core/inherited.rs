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

use super::call_data::{CallData, CallView};
use crate::clock::Clock;
use crate::sync::{RwLock, after, earlier};

/// What all calls inherit that one task makes.
pub(crate) struct Inherited {
    /// By `clock`, which is that of the outer call's bulkhead.
    deadline: Option<Instant>,
    clock: Clock,
    cancel: Option<Arc<Lineage>>,
}

/// A call that can be cancelled, as those see it that its task has made.
struct Lineage(RwLock<Outer>);

enum Outer {
    Running(Arc<dyn CallView>),
    Ended { was_cancelled: bool },
}

impl Inherited {
    /// From a call that has a handle, and so can be cancelled.
    pub(super) fn from_cancellable(call: Arc<dyn CallView>) -> Arc<Self> {
        let (deadline, clock) = (deadline(&*call), call.bulkhead().clock().clone());
        let lineage = Lineage(RwLock::new(Outer::Running(call)));
        Arc::new(Self {
            deadline,
            clock,
            cancel: Some(Arc::new(lineage)),
        })
    }

    /// From a call that runs in its caller's thread: nobody can cancel it but the calls around it.
    pub(super) fn from_call_in_caller(call: &dyn CallView) -> Option<Arc<Self>> {
        let data = call.data();
        if data.deadline().is_none() {
            return data.inherited.clone();
        }
        let cancel = data.inherited.as_ref().and_then(|from| from.cancel.clone());
        Some(Arc::new(Self {
            deadline: deadline(call),
            clock: call.bulkhead().clock().clone(),
            cancel,
        }))
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
    fn deadline_by(&self, clock: &Clock) -> Option<Instant> {
        let deadline = self.deadline?;
        if self.clock.is_same_as(clock) {
            return Some(deadline);
        }
        let left = deadline.saturating_duration_since(self.clock.now());
        after(clock.now(), left)
    }
}

impl Lineage {
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

impl Outer {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Running(call) => call.data().is_cancelled(),
            Self::Ended { was_cancelled } => *was_cancelled,
        }
    }
}

/// When the task should be done: the nearer of the call's own deadline and the inherited one.
pub(super) fn deadline(call: &dyn CallView) -> Option<Instant> {
    let data: &CallData = call.data();
    let inherited = data.inherited.as_ref();
    let inherited = inherited.and_then(|from| from.deadline_by(call.bulkhead().clock()));
    earlier(data.deadline(), inherited)
}

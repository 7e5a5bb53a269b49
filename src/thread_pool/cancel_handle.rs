//! Cancels a call from anywhere, and tells how far it is.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use uuid::Uuid;

use super::call_lifecycle::Cancellable;

/// Cancels a call while somebody else waits for it, from
/// [`ExecutionHandle::cancel_handle`](crate::ExecutionHandle::cancel_handle).
///
/// It has no types of the call, so handles of different calls fit into one `Vec` or map. It can be cloned, sent and shared.
/// It works whatever becomes of the call and of its [`ExecutionHandle`](crate::ExecutionHandle): while a thread is blocked
/// in [`wait`](crate::ExecutionHandle::wait), after the handle was waited for or dropped, and for a call that was refused.
///
/// # What dropping it does
///
/// Nothing: the call goes on.
///
/// # What it keeps alive
///
/// A little memory: that of the call, and what the bulkhead shares with its calls, such as its counters, listeners and
/// configuration. It keeps no worker, no closure and no result: a bulkhead shuts down, and its workers end, as if there
/// were no cancel handle.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, CancelHandle};
/// use std::collections::HashMap;
/// use std::thread;
///
/// let exports = Bulkhead::new(BulkheadConfig::new("exports").max_concurrent_calls(1))?;
/// let (stop, stopped) = std::sync::mpsc::channel::<()>();
/// let busy = exports.run(move || stopped.recv().is_err());
/// let export = exports.run(|| "a file");
///
/// // A page with a button "cancel" for each export, whoever waits for it.
/// let mut exports_by_user: HashMap<&str, CancelHandle> = HashMap::new();
/// exports_by_user.insert("ada", export.cancel_handle());
///
/// let waiting = thread::spawn(move || export.wait());
/// assert!(exports_by_user["ada"].cancel());
/// assert!(waiting.join().unwrap().error().unwrap().never_started());
/// # drop(stop);
/// # assert!(busy.wait().is_success());
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[derive(Clone)]
pub struct CancelHandle {
    call: Call,
}

#[derive(Clone)]
enum Call {
    Live(Arc<dyn Cancellable>),
    /// It has ended before there was a handle.
    Ended {
        execution_id: Uuid,
        is_started: bool,
    },
}

impl CancelHandle {
    pub(super) fn live(call: Arc<dyn Cancellable>) -> Self {
        Self {
            call: Call::Live(call),
        }
    }

    pub(super) fn ended(execution_id: Uuid, is_started: bool) -> Self {
        Self {
            call: Call::Ended {
                execution_id,
                is_started,
            },
        }
    }

    /// Cancels the call. As [`ExecutionHandle::cancel`](crate::ExecutionHandle::cancel).
    ///
    /// `true`: it was queued and will never run. `false`: the task is running, and is told; or the call is over. Of several
    /// cancels of a call, from whatever handles, one gives `true` at the most.
    pub fn cancel(&self) -> bool {
        match &self.call {
            Call::Live(call) => call.cancel(),
            Call::Ended { .. } => false,
        }
    }

    /// The caller gets a timeout that the outcome of the task does not show.
    pub(super) fn caller_timed_out(&self) {
        if let Call::Live(call) = &self.call {
            call.caller_timed_out();
        }
    }

    /// Whether the call is over: its task has ended, or will never start. A caller that left at its limit makes no
    /// difference.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.call {
            Call::Live(call) => call.is_finished(),
            Call::Ended { .. } => true,
        }
    }

    /// Whether the task has started. It stays true when the task has ended.
    #[must_use]
    pub fn is_started(&self) -> bool {
        match &self.call {
            Call::Live(call) => call.is_started(),
            Call::Ended { is_started, .. } => *is_started,
        }
    }

    /// The id that the call's result carries.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        match &self.call {
            Call::Live(call) => call.data().execution_id,
            Call::Ended { execution_id, .. } => *execution_id,
        }
    }
}

// As for the handle itself.
impl UnwindSafe for CancelHandle {}
impl RefUnwindSafe for CancelHandle {}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle")
            .field("execution_id", &self.execution_id())
            .field("is_started", &self.is_started())
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

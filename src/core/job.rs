//! A call as the queue and the workers see it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::call_data::CallView;
use super::running_slot::SlotData;

pub(crate) trait Job: Send + Sync {
    /// Runs the task in a worker's slot, unless it is too late or nothing is left of it. `just_now` is the time, if it has just been read; so
    /// is the returned one.
    fn run(&self, slot: SlotData<'_>, just_now: Option<Instant>) -> Option<Instant>;
    /// Cancels the task if it is still queued, for a shutdown that has taken the entry out.
    fn cancel_for_shutdown(&self);
    /// Whether the circuit has opened since the call was admitted, and refuses it now.
    fn is_refused_by_circuit(&self) -> bool;
    /// Ends the call, of which [`is_refused_by_circuit`](Self::is_refused_by_circuit) was true, if it is still queued. The
    /// caller has taken the entry out.
    fn refuse_for_circuit(&self);
    /// Ends the call if it is still queued: there is no worker, and the system refuses one. The caller has taken the entry out.
    fn refuse_without_thread(&self, kind: io::ErrorKind);
    /// Whether the task has left the queue, so that its entry there is empty.
    fn is_tombstone(&self) -> bool;
    /// When the call was admitted; `None` for a tombstone.
    fn queued_since(&self) -> Option<Instant>;
    fn is_running(&self) -> bool;
    /// For the task that asks about itself.
    fn as_call(self: Arc<Self>) -> Arc<dyn CallView>;
}

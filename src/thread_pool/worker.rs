//! The worker threads: how they start, work and end.
//!
//! When the last admitted call has given its place back after the close, the stop token is sent, and the workers end one
//! after the other. Until then each of them keeps taking calls, so nothing that was admitted is lost, however late its
//! submitter gets around to pushing it. Once a shutdown cancels what is queued, workers cancel what they come to, and so
//! does a submitter that pushes after that.

use std::sync::Arc;

use crate::channel::Sleeper;
use crate::current::{give_turn, sit_down};
use crate::error::BuildError;
use crate::gate::Gate;
use crate::panics::contain;
use crate::shared::{Shared, WorkerHook};
use crate::shutdown::{Ends, Patience, shut_down};
use crate::sync;

/// Starts all workers, or none.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<(), BuildError> {
    let workers = shared.config.max_concurrent_calls;
    for index in 0..workers {
        let thread_name = format!("bulkman-{}-{index}", shared.name);
        let of_worker = Arc::clone(shared);
        // Counted before it can end.
        shared.crew.one_begins();
        match sync::spawn(thread_name, move || work(of_worker, index)) {
            Ok(handle) => shared.threads.lock().push(handle),
            Err(source) => {
                shared.crew.one_ends();
                let _nothing_ran = shut_down(&**shared, Patience::Unlimited);
                return Err(BuildError::ThreadStart {
                    bulkhead: shared.name.to_string(),
                    worker: index + 1,
                    workers,
                    source,
                });
            }
        }
    }
    Ok(())
}

/// A worker's life.
fn work(shared: Arc<Shared>, index: usize) {
    sit_down(shared.serial, index);
    call_hooks(&shared, &shared.worker_hooks.on_start, index);
    let me = Sleeper::here();
    // When the last task ended, if only bookkeeping of ours came after it: the next can start then.
    let mut just_now = None;
    while let Some((job, waited)) = shared.queue.next(&me) {
        just_now = give_turn(job, index, just_now.filter(|_| !waited));
    }
    call_hooks(&shared, &shared.worker_hooks.on_stop, index);
    shared.crew.one_ends();
}

fn call_hooks(shared: &Shared, hooks: &[WorkerHook], index: usize) {
    for hook in hooks {
        contain(&shared.name, "a worker hook", || hook(index));
    }
}

impl Ends for Shared {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn cancel_queued(&self) {
        self.queue.drain(|job| job.cancel_for_shutdown());
    }

    fn join(&self) {
        let mut threads = self.threads.lock();
        for handle in threads.drain(..) {
            // A worker contains every panic of the user's; there is nothing to hear from it.
            let _ = handle.join();
        }
    }
}

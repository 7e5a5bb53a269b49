//! The worker threads: how they start, work and end.
//!
//! When the last admitted call has given its place back after the close, the stop token is sent, and the workers end one
//! after the other. Until then each of them keeps taking calls, so no admitted call is lost, however late its submitter
//! pushes it. Once a shutdown cancels what is queued, a worker cancels each call that it takes, and so does a submitter
//! that pushes after that.

use std::sync::Arc;

use super::inner::{Inner, WorkerHook};
use super::sleep::Sleeper;
use super::thread_name::ThreadNames;
use crate::core::{WaitLimit, become_worker, run_job, shut_down};
use crate::error::BuildError;
use crate::panic::contain;
use crate::sync;

/// Starts all workers, or none.
pub(super) fn start(inner: &Arc<Inner>, names: &ThreadNames) -> Result<(), BuildError> {
    let engine = &inner.engine;
    let workers = engine.config.max_concurrent_calls;
    for index in 0..workers {
        let inner_of_worker = Arc::clone(inner);
        // Counted before it can end.
        engine.latch.count_up();
        let body = move || work(inner_of_worker, index);
        match sync::spawn(names.get(index), engine.config.stack_size, body) {
            Ok(handle) => inner.threads.lock().push(handle),
            Err(source) => {
                engine.latch.count_down();
                let _nothing_ran = shut_down(&**inner, WaitLimit::UNLIMITED);
                return Err(BuildError::ThreadStart {
                    bulkhead: engine.name.to_string(),
                    worker: index,
                    workers,
                    source,
                });
            }
        }
    }
    Ok(())
}

/// A worker's life.
fn work(inner: Arc<Inner>, index: usize) {
    become_worker(inner.engine.serial, index);
    call_hooks(&inner, &inner.collaborators.on_worker_start, index);
    let sleeper = Sleeper::this_thread();
    // When the last task ended, if no user code has run since: the next task can start then.
    let mut just_now = None;
    while let Some((job, waited)) = inner.queue.next(&sleeper) {
        just_now = run_job(job, index, just_now.filter(|_| !waited));
    }
    call_hooks(&inner, &inner.collaborators.on_worker_stop, index);
    inner.engine.latch.count_down();
}

fn call_hooks(inner: &Inner, hooks: &[WorkerHook], index: usize) {
    for hook in hooks {
        contain(&inner.engine.name, "a worker hook", || hook(index));
    }
}

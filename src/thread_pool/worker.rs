//! The worker threads: how they start, work and end.
//!
//! How many there are, and when one starts or leaves, is decided in `sleep.rs`. Here is what a thread takes: its name, its index,
//! and the hooks. An index is free again when the thread has run its stop hooks, and the thread is no worker from then on: the
//! destructors of its thread-local values, which run later, may make calls too.
//!
//! When the last admitted call has given its place back after the close, the stop token is sent, and the workers end one
//! after the other. Until then each of them keeps taking calls, so no admitted call is lost, however late its submitter
//! pushes it. Once a shutdown cancels what is queued, a worker cancels each call that it takes, and so does a submitter
//! that pushes after that.

use std::io;
use std::sync::{Arc, Weak};

use super::inner::{Inner, WorkerHook};
use super::queue::Next;
use super::sleep::Taker;
use crate::core::{
    Engine, Limits, ResizeTarget, WaitLimit, be_worker_no_more, become_worker, run_job, shut_down,
    while_holding_permit,
};
use crate::error::BuildError;
use crate::panic::{contain, note};
use crate::sync;

/// Says how workers are started.
pub(super) fn prepare(inner: &Arc<Inner>) {
    let inner_of_workers = Arc::downgrade(inner);
    inner
        .queue
        .workers()
        .start_by(move || Weak::upgrade(&inner_of_workers).is_some_and(|inner| start(&inner)));
}

/// Starts all workers, or none; with an idle timeout none is needed yet.
pub(super) fn start_all(inner: &Arc<Inner>) -> Result<(), BuildError> {
    set_workers(inner, inner.engine.limits().max_concurrent_calls).inspect_err(|_| {
        let _nothing_ran = shut_down(&**inner, WaitLimit::UNLIMITED);
    })
}

/// From here on there are to be so many workers. Those that have to be there from the start are started.
pub(super) fn set_workers(inner: &Inner, workers: usize) -> Result<(), BuildError> {
    let channel = inner.queue.workers();
    // With an idle timeout no thread starts here.
    let starts = inner.engine.config.idle_timeout.is_none();
    inner.threads.lock().begin_change(starts);
    channel.set_workers(workers);
    let refused = inner.threads.lock().end_change();
    match refused {
        None => Ok(()),
        Some(source) => Err(BuildError::ThreadStart {
            bulkhead: inner.engine.name.to_string(),
            worker: channel.workers(),
            workers,
            source,
        }),
    }
}

impl ResizeTarget for Inner {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn reserve(&self, to: Limits) -> Result<(), BuildError> {
        let reserved = self.queue.reserve(to.places());
        reserved.map_err(|source| BuildError::QueueMemory {
            bulkhead: self.engine.name.to_string(),
            max_queue_size: to.max_queue_size,
            source,
        })
    }

    fn set_concurrent_calls(&self, count: usize) -> Result<(), BuildError> {
        set_workers(self, count)
    }

    fn settle(&self) {
        self.queue.workers().start_needed();
    }
}

/// Starts a worker that the channel counts. `false`: the system has refused the thread.
fn start(inner: &Arc<Inner>) -> bool {
    // Held until the handle is in there, so that a worker that leaves finds it.
    let mut threads = inner.threads.lock();
    let index = threads.take_index();
    let inner_of_worker = Arc::clone(inner);
    let body = move || work(inner_of_worker, index);
    let name = threads.names().get(index);
    match sync::spawn(name, inner.engine.config.stack_size, body) {
        Ok(handle) => {
            threads.has_started(index, handle);
            true
        }
        Err(refused) => {
            let kind = refused.kind();
            let untold = threads.was_refused(index, refused);
            drop(threads);
            // The worker still counts. So nothing that a logger, drops and listeners do here may wait for the end of the bulkhead.
            while_holding_permit(inner.engine.serial, || {
                if let Some(reason) = untold {
                    tell_refused(&inner.engine.name, &reason);
                }
                not_started(inner, kind);
            });
            inner.engine.latch.count_down();
            false
        }
    }
}

/// The system has refused a thread. If there is no other, nobody else would end the queued calls.
///
/// That runs code of users, and never under the lock of changes: a change starts threads only where all workers are there from
/// the start, and of those it never lets the last one leave.
fn not_started(inner: &Inner, kind: io::ErrorKind) {
    if inner.queue.workers().has_not_started() {
        inner.queue.drain(|job| job.refuse_without_thread(kind));
    }
}

fn tell_refused(bulkhead: &str, reason: &io::Error) {
    note(|| {
        log::warn!(target: "bulkman", "bulkhead `{bulkhead}` could not start a worker thread: {reason}");
    });
}

/// A worker's life.
fn work(inner: Arc<Inner>, index: usize) {
    become_worker(inner.engine.serial, index);
    call_hooks(&inner, &inner.collaborators.on_worker_start, index);
    let mut taker = Taker::this_thread(true);
    // When the last task ended, if no user code has run since: the next task can start then.
    let mut just_now = None;
    // Set aside for the first task: some workers never run one.
    let mut slot = None;
    let leaves = loop {
        match inner.queue.next(&mut taker) {
            Next::Job { job, waited } => {
                let slot = *slot.get_or_insert_with(|| inner.engine.slot_data(index));
                just_now = run_job(job, slot, just_now.filter(|_| !waited));
            }
            Next::Leave => break true,
            Next::Stop => break false,
        }
    };
    call_hooks(&inner, &inner.collaborators.on_worker_stop, index);
    if leaves {
        be_worker_no_more();
        inner.threads.lock().leave(index);
    }
    inner.queue.workers().has_left();
    inner.engine.latch.count_down();
}

fn call_hooks(inner: &Inner, hooks: &[WorkerHook], index: usize) {
    for hook in hooks {
        contain(&inner.engine.name, "a worker hook", || hook(index));
    }
}

//! The bulkhead with threads of its own: a fixed worker pool behind a bounded queue.
//!
//! | file | job |
//! |---|---|
//! | `bulkhead` | the facade |
//! | `submit` | a call goes into the queue, or is refused |
//! | `handle` | the caller's end of a call: wait, cancel, await |
//! | `alarm` | wakes awaited handles at their deadlines |
//! | `task_cell` | one call: its task, its state, its outcome, and the waiter |
//! | `queue` | the entries between submitters and workers, and the tombstones among them |
//! | `sleep` | how a worker without work sleeps, and which one is woken |
//! | `worker` | the life of a worker thread |
//! | `inner` | what bulkhead, workers and calls share |

pub(crate) mod alarm;
mod bulkhead;
mod handle;
mod inner;
mod queue;
pub(crate) mod sleep;
mod submit;
mod task_cell;
mod worker;

pub use bulkhead::Bulkhead;
pub use handle::{CancelOnDrop, ExecutionHandle};

//! The bulkhead with threads of its own: a fixed worker pool behind a bounded queue.
//!
//! | file | job |
//! |---|---|
//! | `bulkhead` | the facade |
//! | `submit` | a call goes into the queue, or is refused |
//! | `handle` | the caller's end of a call: wait, cancel, await |
//! | `cancel_handle` | the same without the outcome: cancel, from anywhere |
//! | `finish_callbacks` | the callbacks for the end of a call |
//! | `many/` | waiting for many calls, and a call for each item of an iterator |
//! | `stream/` | a call that yields items while it runs |
//! | `awaited_deadlines` | wakes awaited handles at their deadlines |
//! | `call_lifecycle` | one call from the queue to its outcome: its task, its state, its outcome, and the waiter |
//! | `fifo` | the bounded channel, and how an entry leaves it out of turn |
//! | `queue` | the entries between submitters and workers, and the tombstones among them |
//! | `sleep` | how a worker without work sleeps, and which one is woken |
//! | `worker` | the life of a worker thread |
//! | `threads`, `thread_name` | the threads' handles, indices and names |
//! | `inner` | what bulkhead, workers and calls share |

pub(crate) mod awaited_deadlines;
mod bulkhead;
mod call_lifecycle;
mod cancel_handle;
mod fifo;
mod finish_callbacks;
mod handle;
mod inner;
mod many;
mod queue;
pub(crate) mod sleep;
mod stream;
mod submit;
mod thread_name;
mod threads;
mod worker;

pub use bulkhead::Bulkhead;
pub use cancel_handle::CancelHandle;
pub use handle::{CancelOnDrop, ExecutionHandle};
pub use many::{
    AsCompleted, ExecuteMap, HandleSet, Waitable, as_completed, wait_all, wait_all_timeout,
    wait_any, wait_any_timeout,
};
pub use stream::{ExecutionStream, StreamResults, StreamSendError, StreamSink};

//! The bulkhead without threads of its own: each task runs in its caller's thread, at most N at a time.
//!
//! | file | job |
//! |---|---|
//! | `bulkhead` | the facade |
//! | `submit` | a call on its way: admitted, or refused |
//! | `inner` | how a call gets a slot, runs, and ends |
//! | `guard`, `in_slot` | the same without a closure |
//! | `slots` | the N slots, and the wait list of callers |

mod bulkhead;
mod guard;
mod in_slot;
mod inner;
pub(crate) mod slots;
mod submit;

pub use bulkhead::{SemaphoreBulkhead, SemaphoreBulkheadBuilder, SemaphoreCall};
pub use guard::SemaphoreGuard;

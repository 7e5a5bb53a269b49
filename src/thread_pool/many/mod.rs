//! Blocking code that waits for many calls at a time.
//!
//! | file | job |
//! |---|---|
//! | `watch` | which of many calls to look at next |
//! | `set` | calls of one type, whose results come as they finish |
//! | `waitable` | waiting for any or all of calls of different types |
//! | `map` | a call for each item of an iterator, so many at a time |

mod map;
mod set;
mod waitable;
mod watch;

pub use map::ExecuteMap;
pub use set::{AsCompleted, HandleSet, as_completed};
pub use waitable::{Waitable, wait_all, wait_all_timeout, wait_any, wait_any_timeout};

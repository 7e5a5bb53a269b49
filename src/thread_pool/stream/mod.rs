//! A call that yields items while it runs.
//!
//! | file | job |
//! |---|---|
//! | `channel` | the items between producer and consumer, and how either side ends |
//! | `sink` | the producer's end, and how it is submitted |
//! | `consumer` | the consumer's end: items, and at last the outcome |
//!
//! The call itself is like any other: it has a cell, a handle, limits, one outcome. The channel lies beside it. Neither side
//! can hang:
//!
//! | waits | for | and is woken too by |
//! |---|---|---|
//! | the producer, at a full channel | room | the consumer that cancels or goes; its caller's limit |
//! | the consumer, at an empty one | an item | the end of the call; the call's limits |

mod channel;
mod consumer;
mod sink;

pub use consumer::{ExecutionStream, StreamResults};
pub use sink::{StreamSendError, StreamSink};

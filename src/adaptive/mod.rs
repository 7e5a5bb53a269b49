//! Timeouts that follow how long calls take.
//!
//! | file | job |
//! |---|---|
//! | `config` | the numbers that the limit goes by |
//! | `samples` | the calls of a short time, and the quantile of their run times, if it is known |
//! | `machine` | the limit: pure, without a clock and without a lock |
//! | `timeout` | the machine with a clock, for threads that share it |

mod config;
mod machine;
mod samples;
#[cfg(test)]
mod simulation;
mod timeout;

pub use config::AdaptiveTimeoutConfig;
pub use machine::{AdaptiveTimeoutRule, AdaptiveTimeoutStats};
pub use timeout::AdaptiveTimeout;

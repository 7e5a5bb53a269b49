//! Calling again what has failed.

mod attempts;
mod budget;
mod deadlines;
mod errors;
mod listeners;
mod panics;
mod pauses;
mod stopping;
mod what_is_retried;

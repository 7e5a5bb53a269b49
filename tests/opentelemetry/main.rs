//! The feature `opentelemetry`: the caller's `Context` on the worker, and the numbers as instruments.

#[path = "../support/mod.rs"]
mod support;

mod context;
/// Spans, by the feature `tracing` and the crate `tracing-opentelemetry`.
#[cfg(feature = "tracing")]
mod spans;

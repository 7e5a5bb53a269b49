//! The numbers of bulkheads in the formats of monitoring systems.
//!
//! [`PrometheusText`] writes them as text that Prometheus, and what speaks its language, can scrape. It needs no other
//! crate.

mod prometheus;

pub use prometheus::{InvalidLabelName, PrometheusText};

//! The numbers in the formats of monitoring systems.

#[path = "../support/mod.rs"]
mod support;

mod helpers;
/// The recorder of the `metrics` crate.
#[cfg(feature = "metrics")]
mod metrics;
/// Instruments of OpenTelemetry.
#[cfg(feature = "opentelemetry")]
mod opentelemetry;

/// The text format of Prometheus.
mod prometheus {
    mod labels;
    /// Needs Python, which the tests install if all features are on.
    #[cfg(feature = "postgres")]
    mod python_parser;
    mod samples;
}

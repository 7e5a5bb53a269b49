//! The numbers in the formats of monitoring systems.

#[path = "../support/mod.rs"]
mod support;

/// The text format of Prometheus.
mod prometheus {
    mod helpers;
    mod labels;
    /// Needs Python, which the tests install if all features are on.
    #[cfg(feature = "postgres")]
    mod python_parser;
    mod samples;
}

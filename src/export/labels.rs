//! Labels that a user adds to all samples.

use thiserror::Error;

/// A label name that Prometheus does not take, from [`PrometheusText::label`](super::PrometheusText::label), or with the
/// feature `metrics` from `MetricsPublisher::label`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{}` is no label name for Prometheus: it {problem}", name.escape_debug()
)]
#[non_exhaustive]
pub struct InvalidLabelName {
    /// The name.
    pub name: String,
    problem: &'static str,
}

/// Labels that the samples have already; `le` and `quantile` are those of histograms and summaries.
const OWN_LABELS: [&str; 9] = [
    "bulkhead", "pipeline", "reason", "outcome", "started", "state", "won", "le", "quantile",
];

/// Whether a label may be added to those that were added `before`.
pub(super) fn check_label(name: &str, before: &[String]) -> Result<(), InvalidLabelName> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let problem = if !begins || !goes_on {
        "must be letters of ASCII, digits and underscores, and not begin with a digit"
    } else if name.starts_with("__") {
        "must not begin with two underscores, which are for Prometheus' own labels"
    } else if OWN_LABELS.contains(&name) || before.iter().any(|own| own == name) {
        "is there already"
    } else {
        return Ok(());
    };
    Err(InvalidLabelName {
        name: name.to_owned(),
        problem,
    })
}

//! How numbers are serialised (feature `config`): durations in seconds, as Prometheus and OpenTelemetry have them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serializer;

/// For `#[serde(serialize_with = "…")]`.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// The same of an `Option`.
pub(crate) fn seconds_if_any<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

/// A name, which serde itself serialises only with a feature more.
pub(crate) fn name<S: Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

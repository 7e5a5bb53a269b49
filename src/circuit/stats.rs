//! The numbers of a circuit at one moment, as users see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::CircuitMode;
use super::state::CircuitState;

/// The numbers of a circuit at one moment. From [`CircuitBreaker::stats`](crate::CircuitBreaker::stats). `Serialize` with the
/// feature `config`, as [`BulkheadStats`](crate::BulkheadStats).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitStats {
    /// The breaker's name.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::name")
    )]
    pub name: Arc<str>,
    /// What [`CircuitBreaker::state`](crate::CircuitBreaker::state) says.
    pub state: CircuitState,
    /// What [`CircuitBreaker::mode`](crate::CircuitBreaker::mode) says.
    pub mode: CircuitMode,
    /// How long ago the last change of state was announced, or the breaker was built.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds")
    )]
    pub since_last_change: Duration,
    /// How long a call that asks now has to wait; `None` if it would pass. [`Duration::MAX`]: until a reset.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds_if_any")
    )]
    pub retry_after: Option<Duration>,
    /// How many calls the closed circuit has in its window; of an open one, how many it had when it opened; of a
    /// half-open one, how many probes have succeeded. Where failures in a row are counted: the length of the run.
    pub calls: usize,
    /// How many of these calls failed.
    pub failures: usize,
    /// How many of these calls were slow. Always 0 without a `slow_call_rate`, since slow calls are failures then.
    pub slow_calls: usize,
    /// The share of failures among these calls; `None` if there are none, or failures in a row are counted.
    pub failure_rate: Option<f64>,
    /// The share of slow calls among these calls; `None` where it is not judged.
    pub slow_call_rate: Option<f64>,
    /// How many probes are under way.
    pub probes_in_flight: usize,
    /// How often the circuit has opened since the breaker was built.
    pub times_opened: u64,
    /// How long the next isolation is going to be.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds")
    )]
    pub next_isolation: Duration,
}

impl fmt::Display for CircuitStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            state,
            calls,
            failures,
            slow_calls,
            ..
        } = self;
        write!(
            f,
            "circuit `{name}` is {state}: {failures} of {calls} calls failed, {slow_calls} were slow"
        )
    }
}

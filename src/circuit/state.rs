//! The states of a circuit, what changes them, and the verdicts on calls.

use std::sync::Arc;

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
pub enum CircuitState {
    /// Calls pass; failures are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass as probes; their outcomes decide.
    HalfOpen,
}

impl std::fmt::Display for CircuitState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// What an outcome says about the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The dependency did its work.
    Success,
    /// The dependency is in trouble.
    Failure,
    /// Nothing: the call neither ends a run of failures nor closes a half-open circuit, and no rate counts it.
    Ignored,
}

impl Verdict {
    /// Of an error that either counts or says nothing.
    pub(crate) fn failure_if(failed: bool) -> Self {
        if failed { Self::Failure } else { Self::Ignored }
    }
}

/// Why a circuit has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitChangeReason {
    /// `failure_threshold` failures in a row opened it.
    FailuresInARow,
    /// The share of failures reached `failure_rate`.
    FailureRate,
    /// The share of slow calls reached `slow_call_rate`.
    SlowCalls,
    /// A probe failed.
    ProbeFailed,
    /// A probe took longer than `probe_timeout`.
    ProbeTimedOut,
    /// The isolation is over.
    IsolationOver,
    /// `success_threshold` probes succeeded.
    ProbesSucceeded,
    /// [`trip`](crate::CircuitBreaker::trip), [`force_open`](crate::CircuitBreaker::force_open) or
    /// [`reset`](crate::CircuitBreaker::reset) was called.
    ByHand,
    /// A peer changed it in the storage.
    ByPeer,
}

impl std::fmt::Display for CircuitChangeReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FailuresInARow => "failures in a row",
            Self::FailureRate => "failure rate",
            Self::SlowCalls => "slow calls",
            Self::ProbeFailed => "a probe failed",
            Self::ProbeTimedOut => "a probe timed out",
            Self::IsolationOver => "the isolation is over",
            Self::ProbesSucceeded => "probes succeeded",
            Self::ByHand => "by hand",
            Self::ByPeer => "by a peer",
        })
    }
}

/// A transition of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitChange {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Why.
    pub reason: CircuitChangeReason,
    /// Counts the transitions of this breaker from 1, so that callbacks on several threads can be
    /// put in order.
    pub sequence: u64,
}

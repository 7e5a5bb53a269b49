//! The values of rules, as [`explain`](crate::Dependencies::explain) shows them.

use std::time::Duration;

use crate::circuit::{CircuitMode, CircuitWindow, IsolationBackoff};
use crate::policy::Jitter;

/// The value of a rule as people read it.
pub(super) trait Shown {
    fn shown(self) -> String;
}

impl<T: Shown> Shown for Option<T> {
    fn shown(self) -> String {
        self.map_or_else(|| "none".to_owned(), Shown::shown)
    }
}

impl Shown for usize {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for u32 {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for u64 {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for Jitter {
    fn shown(self) -> String {
        match self {
            Self::Full => "full",
            Self::None => "none",
        }
        .to_owned()
    }
}

impl Shown for f64 {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(self) -> String {
        if self { "yes" } else { "no" }.to_owned()
    }
}

impl Shown for Duration {
    fn shown(self) -> String {
        format!("{self:?}")
    }
}

impl Shown for CircuitMode {
    fn shown(self) -> String {
        match self {
            Self::Normal => "normal",
            Self::ObserveOnly => "observe_only",
            Self::Disabled => "disabled",
            Self::ForcedOpen => "forced_open",
        }
        .to_owned()
    }
}

impl Shown for CircuitWindow {
    fn shown(self) -> String {
        match self {
            Self::Calls(calls) => format!("{calls} calls"),
            Self::Time(period) => period.shown(),
        }
    }
}

impl Shown for IsolationBackoff {
    fn shown(self) -> String {
        format!("{} times, up to {:?}", self.factor, self.max)
    }
}

//! Where the time of a call went.

use std::time::Duration;

use super::order::LayerKind;
use crate::sync::nanos;

/// The time that passed in each layer itself, in nanoseconds. Small, since each call has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    fallback: u64,
    retry: u64,
    rate_limit: u64,
    bulkhead: u64,
    task: u64,
}

impl Times {
    pub(super) fn of(&self, layer: LayerKind) -> Duration {
        Duration::from_nanos(match layer {
            LayerKind::Fallback => self.fallback,
            LayerKind::Retry => self.retry,
            LayerKind::RateLimit => self.rate_limit,
            LayerKind::Bulkhead => self.bulkhead,
            LayerKind::Task => self.task,
            LayerKind::Timeout | LayerKind::Circuit | LayerKind::Hedge | LayerKind::Chaos => 0,
        })
    }

    pub(super) fn spend(&mut self, layer: LayerKind, time: Duration) {
        let spent = match layer {
            LayerKind::Fallback => &mut self.fallback,
            LayerKind::Retry => &mut self.retry,
            LayerKind::RateLimit => &mut self.rate_limit,
            LayerKind::Bulkhead => &mut self.bulkhead,
            LayerKind::Task => &mut self.task,
            LayerKind::Timeout | LayerKind::Circuit | LayerKind::Hedge | LayerKind::Chaos => return,
        };
        *spent = spent.saturating_add(nanos(time));
    }

    /// What the bulkhead has measured.
    pub(super) fn on_bulkhead(&self) -> Duration {
        Duration::from_nanos(self.bulkhead.saturating_add(self.task))
    }
}

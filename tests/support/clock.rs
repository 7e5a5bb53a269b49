//! Times, and bulkheads whose clock the test moves.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, ManualClock};

pub const SECOND: Duration = Duration::from_secs(1);
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A bulkhead with a clock that stands still until the test moves it.
pub fn with_clock(config: BulkheadConfig) -> (Arc<Bulkhead>, ManualClock) {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config)
        .clock(clock.clone())
        .build()
        .expect("a valid configuration");
    (Arc::new(bulkhead), clock)
}

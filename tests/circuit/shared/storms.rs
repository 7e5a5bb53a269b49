//! Many processes and one storage: they do not come at the same moment, and are not late after an outage.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::scripted_storage::ScriptedStorage;
use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitStorage, CircuitSync};

fn breaker(shelf: &ScriptedStorage) -> CircuitBreaker {
    CircuitBreaker::builder("c", CircuitBreakerConfig::default())
        .storage(shelf.clone())
        .build()
        .unwrap()
}

fn shelf(refresh: Duration) -> ScriptedStorage {
    ScriptedStorage::with(CircuitSync::with_refresh_interval(refresh))
}

fn gaps(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn refreshes_are_spread() {
    let interval = Duration::from_millis(20);
    let shelf = shelf(interval);
    let _breaker = breaker(&shelf);
    // However slow the machine, a pause is never shorter than chance has made it. The first look has no pause before it.
    eventually("one comes early", || {
        let gaps = gaps(&shelf.loads()[1..]);
        gaps.iter().any(|gap| *gap < interval * 9 / 10)
    });
    let gaps = gaps(&shelf.loads()[1..]);
    assert!(gaps.iter().all(|gap| *gap >= interval * 8 / 10));
}

#[test]
fn retries_in_an_outage_are_spread() {
    let interval = Duration::from_millis(20);
    let shelf = shelf(interval);
    let _breaker = breaker(&shelf);
    shelf.set_down(true);
    eventually("nine attempts", || shelf.failed_loads().len() > 9);
    let gaps = gaps(&shelf.failed_loads());
    // 20, 40, 80, ... 2,000 milliseconds, each of them shortened by up to a half.
    let mut pause = interval;
    let mut shortened = 0;
    for gap in gaps {
        assert!(gap >= pause / 2, "{gap:?} of {pause:?}");
        shortened += usize::from(gap < pause * 95 / 100);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
    assert!(
        shortened > 0,
        "no pause of nine is shorter than it could be"
    );
}

#[test]
fn news_after_a_long_outage_are_not_late() {
    // The refresh does not bring them.
    let shelf = shelf(Duration::from_secs(3600));
    let breaker = breaker(&shelf);
    shelf.set_down(true);
    breaker.trip();
    eventually("the outage", || shelf.sync().trouble().is_some());
    eventually("three attempts", || shelf.failed_loads().len() >= 3);
    shelf.set_down(false);
    eventually("stored", || breaker.flush(crate::support::PATIENCE));
    assert!(shelf.state("c").is_some());
}

//! Policies and an adaptive timeout that threads share, and a hedge, whose caller waits for two calls at once.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bulkman::policy::{Fallback, Hedge, RateLimit, Retry, RetryBudget};
use bulkman::{AdaptiveTimeout, AdaptiveTimeoutConfig};
use loom::thread;
use support::{assert_balanced, bulkhead, explore};

/// Of two callers that want the last turn, one gets it.
#[test]
fn a_turn_against_itself() {
    explore("a turn against itself", 3, || {
        let limit = RateLimit::new(1, Duration::from_secs(1)).unwrap();
        let shared = limit.clone();
        let other = thread::spawn(move || shared.try_acquire().is_ok());
        let mine = limit.try_acquire().is_ok();
        assert!(mine != other.join().unwrap());
    });
}

/// The same for one key, and each key has its own.
#[test]
fn a_turn_of_a_key_against_itself() {
    explore("a turn of a key against itself", 3, || {
        let limit = RateLimit::new(1, Duration::from_secs(1)).unwrap().by_key();
        let shared = limit.clone();
        let other = thread::spawn(move || {
            (
                shared.try_acquire("a").is_ok(),
                shared.try_acquire("b").is_ok(),
            )
        });
        let mine = limit.try_acquire("a").is_ok();
        let (others, second_key) = other.join().unwrap();
        assert!(mine != others);
        assert!(second_key);
        assert_eq!(limit.len(), 2);
    });
}

/// Two calls that fail share a budget of one retry.
#[test]
fn a_retry_budget_against_itself() {
    explore("a retry budget against itself", 3, || {
        let retry = Retry::new(2)
            .first_delay(Duration::ZERO)
            .budget(RetryBudget::new(0.0).reserve(1));
        let shared = retry.clone();
        let attempts = |retry: &Retry| match retry.call(|| Err::<(), _>("down")) {
            Ok(()) => 0,
            Err(error) => error.attempts,
        };
        let other = thread::spawn(move || attempts(&shared));
        let mine = attempts(&retry);
        assert_eq!(mine + other.join().unwrap(), 3);
    });
}

/// A caller gets a value that was good, whole, while another one stores its own.
#[test]
fn a_last_good_value_against_a_new_one() {
    explore("a last good value against a new one", 3, || {
        let fallback = Fallback::last_good(Duration::from_secs(1));
        fallback.call(|| Ok::<_, ()>(1)).unwrap();
        let shared = fallback.clone();
        let other = thread::spawn(move || shared.call(|| Ok::<_, ()>(2)).unwrap());
        let seen = fallback.call(|| Err(()));
        assert!(matches!(seen, Ok(1 | 2)));
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!(fallback.call(|| Err(())), Ok(2));
    });
}

/// Of calls that end at the same time each is counted, and a limit that is asked for meanwhile is whole.
#[test]
fn an_adaptive_timeout_against_itself() {
    explore("an adaptive timeout against itself", 3, || {
        let timeout = AdaptiveTimeout::new(AdaptiveTimeoutConfig::new()).unwrap();
        let shared = timeout.clone();
        let other = thread::spawn(move || {
            shared.record(Duration::from_millis(1));
            shared.record_timeout(Duration::from_millis(1));
        });
        timeout.record(Duration::from_millis(1));
        assert_eq!(timeout.limit(), Duration::from_secs(30));
        other.join().unwrap();
        let stats = timeout.stats();
        assert_eq!((stats.samples, stats.timeouts), (2, 1));
    });
}

/// Two attempts on one worker: the caller hears of the first end, and the loser never runs, or to the end.
#[test]
fn a_hedge_against_its_calls() {
    explore("a hedge against its calls", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let hedge = Hedge::after(Duration::ZERO);
        let result = hedge.execute(&bulkhead, || Ok::<_, ()>(7));
        assert_eq!(result.value(), Some(&7));
        bulkhead.shutdown();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert!(stats.successful_executions >= 1);
    });
}

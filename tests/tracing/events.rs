//! A call that is refused on its way in has no span. An event says why, in the caller's span.

use bulkman::{Bulkhead, CircuitBreakerConfig, SemaphoreBulkhead};
use tracing::info_span;

use crate::helpers::Seen;
use crate::support::{bulkhead, config, occupy, seconds, wait, with_clock};

#[test]
fn a_refusal_is_an_event_with_its_reason() {
    let full = bulkhead(1, 0);
    let busy = occupy(&full, 1);
    let open = config(1, 0).circuit_breaker(CircuitBreakerConfig::default());
    let open = Bulkhead::new(open).unwrap();
    open.circuit_breaker().unwrap().trip();
    let ended = bulkhead(1, 0);
    ended.shutdown();
    for (pool, reason) in [
        (&full, "full"),
        (&open, "circuit open"),
        (&ended, "shut down"),
    ] {
        let seen = Seen::during(|| {
            info_span!("request").in_scope(|| {
                assert!(pool.call().operation("get").try_run(|| ()).is_err());
            });
        });
        assert_eq!(seen.around("the call was refused"), ["request"]);
        let fields = &seen.events()[0].fields;
        assert_eq!(
            (fields["outcome"].as_str(), fields["operation"].as_str()),
            (reason, "get")
        );
        assert_eq!(fields["bulkhead"], "test");
        assert!(seen.calls().is_empty());
    }
    busy.finish();
}

#[test]
fn so_is_one_of_a_semaphore_and_of_a_guard() {
    let here = SemaphoreBulkhead::new(config(1, 0)).unwrap();
    let seen = Seen::default();
    let guard = here.acquire().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            seen.on(|| {
                assert!(here.try_run(|| ()).is_err());
                assert!(here.try_acquire().is_err());
                assert!(here.acquire().is_err());
            });
        });
    });
    guard.success();
    assert_eq!(seen.events().len(), 3);
    assert!(seen.calls().is_empty());
}

#[test]
fn a_caller_that_leaves_at_its_limit_is_an_event_in_its_own_span() {
    let (pool, clock) = with_clock(config(1, 1));
    let busy = occupy(&pool, 1);
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            let handle = pool.call().timeout(seconds(1)).run(|| ());
            clock.advance(seconds(2));
            drop(wait(handle));
        });
    });
    assert_eq!(seen.around("the caller left at its limit"), ["request"]);
    assert_eq!(seen.events()[0].fields["started"], "false");
    assert_eq!(
        seen.events()[0].fields["execution_id"],
        seen.call().field("execution_id")
    );
    busy.finish();
}

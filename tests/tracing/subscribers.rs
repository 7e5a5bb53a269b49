//! Subscribers that panic, and subscribers that use a bulkhead themselves, harm no call.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bulkman::policy::{Fallback, Hedge, Pipeline, Retry};
use bulkman::{Bulkhead, SemaphoreBulkhead};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::helpers::Seen;
use crate::support::{PATIENCE, assert_balanced, bulkhead, config, in_time, occupy, wait};

/// Where a subscriber does something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    NewSpan,
    Enter,
    Record,
    Exit,
    Close,
    Event,
}

const EVERYWHERE: [At; 6] = [
    At::NewSpan,
    At::Enter,
    At::Record,
    At::Exit,
    At::Close,
    At::Event,
];

/// Does something at one place, for what bulkman writes alone.
struct Acts<F> {
    at: At,
    act: F,
}

impl<F: Fn()> Acts<F> {
    fn act(&self, at: At, metadata: &Metadata<'_>) {
        if at == self.at && metadata.target() == "bulkman" {
            (self.act)();
        }
    }

    fn act_on<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        at: At,
        id: &Id,
        context: &Context<'_, S>,
    ) {
        if let Some(metadata) = context.metadata(id) {
            self.act(at, metadata);
        }
    }
}

impl<S, F> Layer<S> for Acts<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn() + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.act(At::NewSpan, attributes.metadata());
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.act_on(At::Enter, id, &context);
    }

    fn on_record(&self, id: &Id, _: &Record<'_>, context: Context<'_, S>) {
        self.act_on(At::Record, id, &context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.act_on(At::Exit, id, &context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.act_on(At::Close, &id, &context);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.act(At::Event, event.metadata());
    }
}

fn in_subscriber(at: At, act: impl Fn() + Send + Sync + 'static, body: impl FnOnce()) {
    let subscriber = tracing_subscriber::registry().with(Acts { at, act });
    tracing::subscriber::with_default(subscriber, body);
}

/// Calls through policies: two attempts, and what they come to.
fn through_policies(pool: &Bulkhead) {
    let retry = Retry::new(2).first_delay(std::time::Duration::ZERO);
    let attempts = Cell::new(0);
    let second_time = || {
        attempts.set(attempts.get() + 1);
        if attempts.get() % 2 == 0 {
            Ok(4)
        } else {
            Err("no")
        }
    };
    let pipeline: Pipeline<_, _, _> = Pipeline::builder("policies")
        .retry(retry.clone())
        .build()
        .unwrap();
    assert_eq!(pipeline.execute(second_time).value(), Some(&4));
    let retry = retry.retry_if(|_: &&str| true);
    assert_eq!(retry.call(second_time).unwrap(), 4);
    let panics = std::panic::catch_unwind(|| retry.call(|| -> Result<(), &str> { panic!("it") }));
    assert!(panics.is_err());
    assert_eq!(Fallback::value(5).call(|| Err("no")), Ok(5));
    let hedge = Hedge::after(PATIENCE);
    let hedged = hedge.execute(pool, || Ok::<_, &str>(6));
    assert_eq!(hedged.value(), Some(&6));
}

/// Calls of both kinds, of each end, through policies, and a refusal.
fn calls(pool: &Bulkhead, here: &SemaphoreBulkhead) {
    assert_eq!(wait(pool.run(|| 1)).value(), Some(&1));
    assert!(wait(pool.run(|| panic!("a task"))).error().is_some());
    assert_eq!(here.run(|| 2).value(), Some(&2));
    here.acquire().unwrap().failure();
    through_policies(pool);
    let busy = occupy(pool, 1);
    assert!(pool.run(|| ()).cancel());
    let queued = pool.run(|| 3);
    assert!(pool.try_run(|| ()).is_err());
    busy.finish();
    assert_eq!(wait(queued).value(), Some(&3));
}

#[test]
fn a_panicking_subscriber_changes_no_outcome_and_loses_no_place() {
    for at in EVERYWHERE {
        in_time(move || {
            let (pool, here) = (
                bulkhead(1, 1),
                SemaphoreBulkhead::new(config(1, 0)).unwrap(),
            );
            in_subscriber(
                at,
                || panic!("a subscriber"),
                || {
                    for _ in 0..3 {
                        calls(&pool, &here);
                    }
                },
            );
            for stats in [pool.stats(), here.stats()] {
                assert_balanced(&stats);
                assert_eq!(stats.in_flight, 0, "{at:?}");
            }
            let left = wait(pool.run(|| tracing::Span::current().is_none()));
            assert_eq!(left.value(), Some(&true), "{at:?}");
            let seen = Seen::during(|| drop(wait(pool.run(|| tracing::info!("task")))));
            assert_eq!(seen.around("task"), ["bulkhead_call"], "{at:?}");
        });
    }
}

#[test]
fn a_subscriber_that_panics_at_every_turn_does_not_end_the_process() {
    in_time(|| {
        let (pool, here) = (
            bulkhead(1, 1),
            SemaphoreBulkhead::new(config(1, 0)).unwrap(),
        );
        let [a, b, c, d, e, f] = EVERYWHERE.map(|at| Acts {
            at,
            act: || panic!("a subscriber"),
        });
        let layers = a
            .and_then(b)
            .and_then(c)
            .and_then(d)
            .and_then(e)
            .and_then(f);
        let subscriber = tracing_subscriber::registry().with(layers);
        tracing::subscriber::with_default(subscriber, || {
            info_span!("request").in_scope(|| calls(&pool, &here));
        });
        assert_balanced(&pool.stats());
    });
}

#[test]
fn a_subscriber_that_calls_the_bulkhead_that_it_hears_of_does_not_hang_or_go_on_for_ever() {
    thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
    for at in EVERYWHERE {
        in_time(move || {
            let pools = Arc::new((
                bulkhead(1, 1),
                SemaphoreBulkhead::new(config(1, 1)).unwrap(),
            ));
            let (inner, made) = (Arc::downgrade(&pools), Arc::new(AtomicUsize::new(0)));
            let counted = Arc::clone(&made);
            let act = move || {
                counted.fetch_add(1, Ordering::Relaxed);
                DEPTH.set(DEPTH.get() + 1);
                assert!(DEPTH.get() < 10, "it goes on for ever");
                if let Some(pools) = inner.upgrade() {
                    drop(pools.0.run(|| ()));
                    drop(pools.1.run(|| ()));
                    drop(pools.1.try_acquire());
                    let pipeline: Pipeline<&str, _, _> = Pipeline::builder("own").build().unwrap();
                    drop(pipeline.execute(|| Ok(1)));
                }
                DEPTH.set(DEPTH.get() - 1);
            };
            in_subscriber(at, act, || {
                info_span!("request").in_scope(|| {
                    let (pool, here) = &*pools;
                    let pipeline: Pipeline<&str, _, _> = Pipeline::builder("some").build().unwrap();
                    assert_eq!(pipeline.execute(|| Ok(1)).value(), Some(&1));
                    let _ = pool.run(|| 1).wait();
                    assert_eq!(here.run(|| 2).value(), Some(&2));
                    drop(here.try_acquire().unwrap());
                    assert!(pool.wait_idle(PATIENCE));
                    let busy = occupy(pool, 1);
                    assert!((0..4).any(|_| pool.try_run(|| ()).is_err()));
                    busy.finish();
                });
            });
            assert!(made.load(Ordering::Relaxed) < 100, "{at:?}");
            let (pool, here) = &*pools;
            assert!(pool.wait_idle(PATIENCE));
            assert_balanced(&pool.stats());
            assert_balanced(&here.stats());
            assert_eq!(here.stats().in_flight, 0);
        });
    }
}

#[test]
fn a_subscriber_that_exports_each_span_through_a_bulkhead_and_waits_for_it_ends() {
    in_time(|| {
        let pool = Arc::new(bulkhead(1, 1));
        let exporter: Arc<OnceLock<Bulkhead>> = Arc::default();
        exporter.set(bulkhead(1, 8)).unwrap();
        let (exports, exported) = (Arc::clone(&exporter), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&exported);
        let act = move || {
            let done = Arc::clone(&count);
            let export = exports
                .get()
                .unwrap()
                .run(move || *done.lock().unwrap() += 1);
            assert!(wait(export).is_success());
        };
        in_subscriber(At::Close, act, || {
            for _ in 0..10 {
                assert!(wait(pool.run(|| ())).is_success());
            }
        });
        assert_eq!(
            *exported.lock().unwrap(),
            10,
            "none of the exports is traced"
        );
    });
}

#[test]
fn a_subscriber_may_shut_the_bulkhead_down() {
    for at in EVERYWHERE {
        in_time(move || {
            let pool = Arc::new(bulkhead(1, 0));
            let inner = Arc::downgrade(&pool);
            let act = move || {
                if let Some(pool) = inner.upgrade() {
                    let _ = pool.shutdown();
                }
            };
            in_subscriber(at, act, || {
                let _ = wait(pool.run(|| ()));
                let _ = wait(pool.run(|| ()));
            });
            assert_balanced(&pool.stats());
        });
    }
}

#[test]
fn a_subscriber_whose_drop_panics_ends_on_the_worker() {
    struct Bomb;
    impl<S: Subscriber> Layer<S> for Bomb {}
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a subscriber's drop");
        }
    }
    in_time(|| {
        let pool = bulkhead(1, 1);
        let busy = occupy(&pool, 1);
        let subscriber = tracing_subscriber::registry().with(Bomb);
        let handle = tracing::subscriber::with_default(subscriber, || pool.run(|| 1));
        busy.finish();
        assert_eq!(wait(handle).value(), Some(&1));
        assert_balanced(&pool.stats());
    });
}

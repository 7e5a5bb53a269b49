//! The breaker's probes: never more than allowed, and none lost. A shared circuit: the breaker and its storage agree in
//! the end.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitMode, CircuitRecord, CircuitState, CircuitStorage,
    MemoryStorage, WriteGuard,
};
use loom::thread;
use support::{explore, rules};

fn breaker() -> Arc<CircuitBreaker> {
    let rules = rules(1, 1, Duration::from_secs(1));
    Arc::new(CircuitBreaker::new("model", rules).unwrap())
}

/// Two threads ask at the moment the isolation ends: one probe goes out.
#[test]
fn two_callers_for_one_probe() {
    explore("two callers, one probe", 3, || {
        let breaker = breaker();
        breaker.trip();
        bulkman::model::advance(Duration::from_secs(1));
        let out = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (breaker, out) = (Arc::clone(&breaker), Arc::clone(&out));
            move || {
                if let Ok(permit) = breaker.try_acquire() {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "two probes at once");
                    thread::yield_now();
                    out.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            }
        };
        let other = thread::spawn(ask.clone());
        ask();
        other.join().unwrap();
        assert!(breaker.is_half_open());
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

/// A failure opens the circuit while another call passes; the late success closes nothing.
#[test]
fn late_success_against_opening() {
    explore("late success", 3, || {
        let breaker = breaker();
        let other = Arc::clone(&breaker);
        let late = thread::spawn(move || {
            if let Ok(permit) = other.try_acquire() {
                permit.record_success();
            }
        });
        breaker.try_acquire().expect("closed").record_failure();
        late.join().unwrap();
        assert!(breaker.is_open());
    });
}

/// A call from before the circuit opened fails while a probe is out: it neither opens the circuit again nor ends
/// the probe's turn.
#[test]
fn late_failure_against_a_probe() {
    explore("late failure, probe", 3, || {
        let breaker = breaker();
        let early = Arc::clone(&breaker);
        let late = thread::spawn(move || {
            let permit = early.try_acquire();
            if early.is_closed() {
                permit.map(bulkman::CircuitPermit::record_failure).ok();
            }
        });
        breaker.trip();
        bulkman::model::advance(Duration::from_secs(1));
        let probe = breaker.try_acquire();
        late.join().unwrap();
        if let Ok(probe) = probe {
            assert!(breaker.is_half_open());
            assert!(breaker.try_acquire().is_err(), "two probes at once");
            drop(probe);
        }
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

/// The refusal without the lock never says "open" about a circuit that was closed before the call.
#[test]
fn reset_against_refusal() {
    explore("reset against refusal", 3, || {
        let breaker = breaker();
        breaker.trip();
        let other = Arc::clone(&breaker);
        let asking = thread::spawn(move || drop(other.try_acquire()));
        breaker.reset();
        assert!(breaker.try_acquire().is_ok());
        asking.join().unwrap();
        assert!(breaker.is_closed());
    });
}

// ---- probes with a limit

/// Half-open, with a limit of ten seconds for the one probe.
fn limited() -> Arc<CircuitBreaker> {
    let config = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(1))
        .probe_timeout(Duration::from_secs(10));
    let breaker = CircuitBreaker::new("model", config).unwrap();
    breaker.trip();
    bulkman::model::advance(Duration::from_secs(1));
    Arc::new(breaker)
}

/// A probe comes back after its limit while another call asks: whoever is first opens the circuit, once, and the success
/// closes nothing.
#[test]
fn late_probe_against_a_caller() {
    explore("late probe, caller", 3, || {
        let breaker = limited();
        let probe = breaker.try_acquire().expect("a probe");
        bulkman::model::advance(Duration::from_secs(10));
        let other = Arc::clone(&breaker);
        let asking = thread::spawn(move || {
            let refused = other.try_acquire().expect_err("the isolation has begun");
            assert_eq!(refused.retry_after, Duration::from_secs(1));
        });
        probe.record_success();
        asking.join().unwrap();
        assert!(breaker.is_open());
        assert_eq!(breaker.stats().times_opened, 2);
    });
}

/// The limit of a probe ends just when it comes back: it is in time and closes the circuit, or it is late and does not.
/// A caller that asks meanwhile is never told to wait for no time.
#[test]
fn the_end_of_a_limit_against_the_probe() {
    explore("the end of a limit", 3, || {
        let breaker = limited();
        let probe = breaker.try_acquire().expect("a probe");
        let time = thread::spawn(|| bulkman::model::advance(Duration::from_secs(10)));
        let other = Arc::clone(&breaker);
        let asking = thread::spawn(move || match other.try_acquire() {
            Ok(permit) => permit.record_success(),
            Err(refused) => assert!(refused.retry_after > Duration::ZERO),
        });
        probe.record_success();
        time.join().unwrap();
        asking.join().unwrap();
        let opened = breaker.stats().times_opened;
        assert_eq!(breaker.is_closed(), opened == 1, "{opened}");
        assert!(!breaker.is_half_open());
    });
}

/// Two callers find all probes out and too late: the circuit opens once, and after the isolation one of them probes.
#[test]
fn two_callers_behind_a_probe_that_hangs() {
    explore("two callers, a probe that hangs", 3, || {
        let breaker = limited();
        let hanging = breaker.try_acquire().expect("a probe");
        bulkman::model::advance(Duration::from_secs(11));
        let out = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (breaker, out) = (Arc::clone(&breaker), Arc::clone(&out));
            move || {
                if let Ok(permit) = breaker.try_acquire() {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "two probes at once");
                    thread::yield_now();
                    out.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            }
        };
        let other = thread::spawn(ask.clone());
        ask();
        other.join().unwrap();
        assert_eq!(breaker.stats().times_opened, 2);
        drop(hanging);
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

// ---- modes

/// Forced open while a call settles and another one asks: it stays open, and nothing passes any more.
#[test]
fn forced_open_against_a_probe_and_its_end() {
    explore("forced open, probe", 3, || {
        let breaker = limited();
        let other = Arc::clone(&breaker);
        let probing = thread::spawn(move || {
            if let Ok(probe) = other.try_acquire() {
                probe.record_success();
            }
        });
        breaker.force_open();
        assert!(breaker.is_open());
        assert!(breaker.try_acquire().is_err());
        probing.join().unwrap();
        assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
        assert!(breaker.try_acquire().is_err());
    });
}

/// Switched off and on again while a probe comes back: its turn is not lost, and judged or not, the state fits.
#[test]
fn switched_off_against_the_end_of_a_probe() {
    explore("switched off, probe", 3, || {
        let breaker = limited();
        let other = Arc::clone(&breaker);
        let probing = thread::spawn(move || {
            if let Ok(probe) = other.try_acquire() {
                probe.record_success();
            }
        });
        breaker.set_mode(CircuitMode::Disabled);
        assert!(breaker.try_acquire().is_ok());
        breaker.set_mode(CircuitMode::Normal);
        probing.join().unwrap();
        assert!(breaker.is_half_open() || breaker.is_closed());
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

// ---- other rules

/// A failure against a change from a run of failures to the last calls: it counts by the old rules or by the new ones.
#[test]
fn other_rules_against_a_failure() {
    explore("other rules, failure", 3, || {
        let breaker = breaker();
        let permit = breaker.try_acquire().expect("closed");
        let other = Arc::clone(&breaker);
        let changing = thread::spawn(move || {
            let rules = CircuitBreakerConfig::default().failure_rate(1.0, 2);
            other.set_config(rules).unwrap();
        });
        permit.record_failure();
        changing.join().unwrap();
        let stats = breaker.stats();
        assert!(
            breaker.is_open() || (stats.calls, stats.failures) == (1, 1),
            "lost: {stats:?}"
        );
        if breaker.is_closed() {
            // The hint sends a success to the window.
            breaker.try_acquire().expect("closed").record_success();
            assert_eq!(breaker.stats().calls, 2);
        }
    });
}

/// Fewer probes may be out while a call asks: from the change on there are no more than that.
#[test]
fn other_rules_against_a_probe() {
    explore("other rules, probe", 3, || {
        let rules = rules(1, 2, Duration::from_secs(1));
        let breaker = Arc::new(CircuitBreaker::new("model", rules.clone()).unwrap());
        breaker.trip();
        bulkman::model::advance(Duration::from_secs(1));
        let out = Arc::new(AtomicUsize::new(0));
        let asking = {
            let (breaker, out) = (Arc::clone(&breaker), Arc::clone(&out));
            thread::spawn(move || {
                if let Ok(permit) = breaker.try_acquire() {
                    out.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                    out.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            })
        };
        breaker.set_config(rules.success_threshold(1)).unwrap();
        let own = breaker.try_acquire();
        if own.is_ok() {
            assert_eq!(out.load(Ordering::Relaxed), 0, "two probes at once");
            assert!(breaker.try_acquire().is_err(), "two probes at once");
        }
        drop(own);
        asking.join().unwrap();
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

/// Another isolation while the circuit opens: it is the old one or the new one, and calls are told the same with the lock
/// and without it.
#[test]
fn other_rules_against_the_opening() {
    explore("other rules, opening", 3, || {
        let breaker = breaker();
        let other = Arc::clone(&breaker);
        let failing = thread::spawn(move || other.record_failure());
        let longer = rules(1, 1, Duration::from_secs(9));
        breaker.set_config(longer.clone()).unwrap();
        failing.join().unwrap();
        let isolation = breaker.try_acquire().expect_err("open").retry_after;
        assert!([1, 9].map(Duration::from_secs).contains(&isolation));
        assert_eq!(breaker.stats().retry_after, Some(isolation));
        assert_eq!(breaker.config(), longer);
    });
}

/// Two changes at once: what is asked of the rules without the lock is of the same change as what is asked under it.
#[test]
fn other_rules_against_other_rules() {
    explore("other rules, twice", 3, || {
        let breaker = breaker();
        let other = Arc::clone(&breaker);
        let limit = Duration::from_secs(1);
        let changing = thread::spawn(move || {
            let slow = rules(1, 1, limit).slow_call_duration(limit);
            other.set_config(slow).unwrap();
        });
        breaker.set_config(rules(2, 1, limit)).unwrap();
        changing.join().unwrap();
        let permit = breaker.try_acquire().expect("closed");
        bulkman::model::advance(2 * limit);
        permit.record_success();
        let has_limit = breaker.config().slow_call_duration.is_some();
        assert_eq!(breaker.is_open(), has_limit);
    });
}

// ---- a circuit in a storage: the synchronizer's thread against calls and peers

/// A peer of another process writes into the same storage.
fn peer_writes(storage: &MemoryStorage, state: CircuitState, isolation: u64) {
    let mut record = CircuitRecord::closed();
    record.state = state;
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(isolation);
    record.open_until = (state == CircuitState::Open).then_some(end);
    let now = SystemTime::UNIX_EPOCH;
    let _ = storage.store("model", &record, WriteGuard::unless_open(now));
}

/// A storage whose synchronizer is waited for: a thread must not outlive its model.
struct World {
    storage: MemoryStorage,
    handle: Option<Arc<MemoryStorage>>,
}

impl World {
    fn new() -> Self {
        let storage = MemoryStorage::new();
        let handle = Some(Arc::new(storage.clone()));
        Self { storage, handle }
    }

    /// A breaker that has had its first answer.
    fn breaker(&self, name: &str) -> CircuitBreaker {
        let handle = self.handle.as_ref().expect("until the end");
        CircuitBreaker::builder(name, rules(1, 1, Duration::from_secs(10)))
            .storage(Arc::clone(handle))
            .build()
            .unwrap()
    }

    fn stored(&self, name: &str) -> CircuitRecord {
        let row = self.storage.load(name).unwrap();
        row.expect("it was written").record
    }

    /// All breakers are dropped.
    fn end(mut self) {
        let synchronizers = Arc::downgrade(&self.handle.take().expect("until the end"));
        while synchronizers.strong_count() > 0 {
            thread::yield_now();
        }
    }
}

/// A trip while a peer's news come in: whoever opened first, both hold the circuit open until that end, and what this
/// breaker says when it is settled is what the storage says.
#[test]
fn trip_against_news_of_an_open_circuit() {
    explore("trip against news", 2, || {
        let world = World::new();
        let breaker = world.breaker("model");
        let peers = world.storage.clone();
        let peer = thread::spawn(move || {
            peer_writes(&peers, CircuitState::Open, 99);
            // The next refresh is due.
            bulkman::model::advance(Duration::from_secs(1));
        });
        breaker.record_failure();
        assert!(breaker.is_open(), "undone by an older row");
        peer.join().unwrap();
        assert!(breaker.flush(Duration::MAX));
        assert!(breaker.is_open());
        assert_eq!(world.stored("model").state, CircuitState::Open);
        let left = breaker.try_acquire().expect_err("open").retry_after;
        let end = world.stored("model").open_until.expect("open");
        assert_eq!(SystemTime::UNIX_EPOCH + Duration::from_secs(1) + left, end);
        drop(breaker);
        world.end();
    });
}

/// A trip while an older row of a closed circuit comes in: the trip stands, and the storage has it.
#[test]
fn trip_against_news_of_a_closed_circuit() {
    explore("trip against an older row", 2, || {
        let world = World::new();
        peer_writes(&world.storage, CircuitState::HalfOpen, 0);
        let breaker = world.breaker("model");
        peer_writes(&world.storage, CircuitState::Closed, 0);
        let failing = thread::spawn(|| bulkman::model::advance(Duration::from_secs(1)));
        breaker.trip();
        assert!(breaker.is_open());
        failing.join().unwrap();
        assert!(breaker.flush(Duration::MAX));
        assert!(breaker.is_open(), "undone by an older row");
        assert_eq!(world.stored("model").state, CircuitState::Open);
        drop(breaker);
        world.end();
    });
}

/// The end of the isolation against a reset by hand: it ends closed for everybody.
#[test]
fn half_opening_against_reset() {
    explore("half-opening against reset", 2, || {
        let world = World::new();
        let breaker = world.breaker("model");
        breaker.trip();
        let time = thread::spawn(|| bulkman::model::advance(Duration::from_secs(10)));
        breaker.reset();
        time.join().unwrap();
        assert!(breaker.flush(Duration::MAX));
        assert!(breaker.is_closed());
        assert_eq!(world.stored("model").state, CircuitState::Closed);
        drop(breaker);
        world.end();
    });
}

/// A trip, a reset and the writes of both: the breaker and its storage agree in the end.
#[test]
fn trip_against_reset_in_a_storage() {
    explore("trip against reset, stored", 2, || {
        let world = World::new();
        let breaker = Arc::new(world.breaker("model"));
        let other = Arc::clone(&breaker);
        let failing = thread::spawn(move || other.record_failure());
        breaker.reset();
        failing.join().unwrap();
        assert!(breaker.flush(Duration::MAX));
        assert_eq!(world.stored("model").state, breaker.state());
        drop(breaker);
        world.end();
    });
}

/// The last circuit leaves while another one joins: somebody serves it, and both changes are stored.
#[test]
fn leave_against_join() {
    explore("leave against join", 2, || {
        let world = Arc::new(World::new());
        let breaker = world.breaker("model");
        let others = Arc::clone(&world);
        let joining = thread::spawn(move || {
            let breaker = others.breaker("other");
            breaker.trip();
            assert!(breaker.flush(Duration::MAX), "nobody serves it");
        });
        breaker.trip();
        drop(breaker);
        joining.join().unwrap();
        assert_eq!(world.stored("other").state, CircuitState::Open);
        let storage = world.storage.clone();
        Arc::into_inner(world).expect("the last").end();
        let row = storage.load("model").unwrap();
        assert_eq!(row.expect("stored").record.state, CircuitState::Open);
    });
}

/// Forced open while a peer opens it for a short time: what is stored in the end has no end.
#[test]
fn forced_open_against_a_peers_opening() {
    explore("forced open against a peer", 2, || {
        let world = World::new();
        let breaker = world.breaker("model");
        let peers = world.storage.clone();
        let peer = thread::spawn(move || peer_writes(&peers, CircuitState::Open, 99));
        breaker.force_open();
        peer.join().unwrap();
        assert!(breaker.flush(Duration::MAX));
        assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
        let end = world.stored("model").open_until.expect("open");
        assert!(end > SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
        drop(breaker);
        world.end();
    });
}

/// A probe of a shared circuit hangs: at the end of its limit the circuit is open again, also in the storage.
#[test]
fn the_end_of_a_limit_in_a_storage() {
    explore("the end of a limit, stored", 2, || {
        let world = World::new();
        let breaker = world.breaker("model");
        breaker.trip();
        bulkman::model::advance(Duration::from_secs(10));
        while !breaker.is_half_open() {
            thread::yield_now();
        }
        let probe = breaker.try_acquire().expect("a probe");
        let time = thread::spawn(|| bulkman::model::advance(Duration::from_secs(10)));
        assert!(breaker.try_acquire().is_err());
        time.join().unwrap();
        assert!(breaker.is_open());
        drop(probe);
        assert!(breaker.flush(Duration::MAX));
        assert_eq!(world.stored("model").state, breaker.stats().state);
        drop(breaker);
        world.end();
    });
}

/// A circuit that was disabled when its isolation ended is back to normal: the synchronizer looks at it, although it may
/// have seen nothing to do just before.
#[test]
fn back_to_normal_against_the_synchronizer() {
    explore("back to normal", 2, || {
        let world = World::new();
        let breaker = world.breaker("model");
        breaker.set_mode(CircuitMode::Disabled);
        breaker.trip();
        assert!(breaker.flush(Duration::MAX));
        bulkman::model::advance(Duration::from_secs(10));
        breaker.set_mode(CircuitMode::Normal);
        while !breaker.is_half_open() {
            thread::yield_now();
        }
        drop(breaker);
        world.end();
    });
}

/// The limit of a probe that is out was endless when the synchronizer looked: it looks again when the limit has an end.
#[test]
fn other_rules_against_the_synchronizer() {
    explore("other rules, stored", 2, || {
        let world = World::new();
        let rules = rules(1, 1, Duration::from_secs(10));
        let breaker = world.breaker("model");
        let endless = rules.clone().probe_timeout(Duration::MAX);
        breaker.set_config(endless).unwrap();
        breaker.trip();
        bulkman::model::advance(Duration::from_secs(10));
        while !breaker.is_half_open() {
            thread::yield_now();
        }
        let probe = breaker.try_acquire().expect("a probe");
        assert!(breaker.flush(Duration::MAX));
        breaker
            .set_config(rules.probe_timeout(Duration::from_nanos(1)))
            .unwrap();
        bulkman::model::advance(Duration::from_nanos(1));
        while breaker.stats().times_opened < 2 {
            thread::yield_now();
        }
        drop(probe);
        drop(breaker);
        world.end();
    });
}

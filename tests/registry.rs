//! The registry: bulkheads of both kinds by name, made once, found by anybody, ended together.

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{
    AnyBulkhead, BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent,
    BulkheadRegistry, BulkheadState, CircuitBreakerConfig, CircuitRecord, CircuitStorage,
    CircuitSync, MemoryStorage, RegistryError, StorageError, StoredCircuit, UnknownBulkhead,
    WriteGuard, WriteOutcome,
};
use support::{Gate, OpenOnDrop, PATIENCE, assert_balanced, wait};

fn config(name: &str) -> BulkheadConfig {
    BulkheadConfig::new(name)
        .max_concurrent_calls(1)
        .max_queue_size(4)
}

fn names(registry: &BulkheadRegistry) -> Vec<String> {
    let names = registry.names();
    names.iter().map(ToString::to_string).collect()
}

// ---- making and finding

#[test]
fn a_bulkhead_is_found_by_its_name_whatever_its_kind() {
    let registry = BulkheadRegistry::new();
    let database = registry.create(config("database")).unwrap();
    let cache = registry.create_semaphore(config("cache")).unwrap();

    assert!(Arc::ptr_eq(
        &registry.thread_pool("database").unwrap(),
        &database
    ));
    assert!(Arc::ptr_eq(&registry.semaphore("cache").unwrap(), &cache));
    assert!(matches!(
        registry.get("database"),
        Some(AnyBulkhead::ThreadPool(_))
    ));
    assert!(matches!(
        registry.get("cache"),
        Some(AnyBulkhead::Semaphore(_))
    ));
    assert!(registry.thread_pool("cache").is_none());
    assert!(registry.semaphore("database").is_none());
    assert!(
        registry.get("Database").is_none(),
        "names are told apart by case"
    );
    assert_eq!(names(&registry), ["cache", "database"]);
    assert_eq!((registry.len(), registry.is_empty()), (2, false));
}

#[test]
fn a_name_that_exists_is_an_error_for_both_kinds() {
    let registry = BulkheadRegistry::new();
    registry.create(config("database")).unwrap();
    let again = registry.create(config("database")).unwrap_err();
    assert_eq!(
        again.to_string(),
        "the registry has a bulkhead `database` already"
    );
    assert!(matches!(
        registry.create_semaphore(config("database")),
        Err(RegistryError::AlreadyExists { name }) if &*name == "database"
    ));
    assert_eq!(registry.len(), 1);
}

#[test]
fn get_or_create_gives_the_same_bulkhead_for_the_same_configuration() {
    let registry = BulkheadRegistry::new();
    let first = registry.get_or_create(config("database")).unwrap();
    let second = registry.get_or_create(config("database")).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let first = registry.get_or_create_semaphore(config("cache")).unwrap();
    let second = registry.get_or_create_semaphore(config("cache")).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn another_configuration_is_an_error_that_shows_both() {
    let registry = BulkheadRegistry::new();
    registry.get_or_create(config("database")).unwrap();
    let wanted = config("database").max_queue_size(7);
    let error = registry.get_or_create(wanted.clone()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`database`"), "{text}");
    assert!(
        text.contains("max_queue_size: 4") && text.contains("max_queue_size: 7"),
        "{text}"
    );
    let RegistryError::OtherConfig {
        existing,
        wanted: asked,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((*existing, *asked), (config("database"), wanted));
}

#[test]
fn the_other_kind_is_an_error_that_names_the_kind() {
    let registry = BulkheadRegistry::new();
    registry.create(config("database")).unwrap();
    registry.create_semaphore(config("cache")).unwrap();
    let wrong = |error: RegistryError| match error {
        RegistryError::OtherKind { existing, .. } => existing,
        other => panic!("{other}"),
    };
    assert_eq!(
        wrong(
            registry
                .get_or_create_semaphore(config("database"))
                .unwrap_err()
        ),
        "a thread pool"
    );
    assert_eq!(
        wrong(registry.get_or_create(config("cache")).unwrap_err()),
        "a semaphore"
    );
}

#[test]
fn an_invalid_configuration_leaves_the_registry_as_it_was() {
    let registry = BulkheadRegistry::new();
    for invalid in [config("a").max_concurrent_calls(0), BulkheadConfig::new("")] {
        let error = registry.create(invalid.clone()).unwrap_err();
        assert!(matches!(
            error,
            RegistryError::Build(BuildError::InvalidValue { .. })
        ));
        assert!(registry.get_or_create_semaphore(invalid).is_err());
    }
    assert!(registry.is_empty());
    registry.create(config("a")).unwrap();
}

#[test]
fn a_builder_brings_its_collaborators() {
    let events = Arc::new(AtomicUsize::new(0));
    let listener = {
        let events = Arc::clone(&events);
        move |event: &BulkheadEvent<'_>| {
            if matches!(event, BulkheadEvent::Finished { .. }) {
                events.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let registry = BulkheadRegistry::new();
    registry
        .create(Bulkhead::builder(config("database")).listener(listener))
        .unwrap();
    let handle = registry.execute_in("database", || Ok::<_, ()>(1)).unwrap();
    assert_eq!(wait(handle).into_result().unwrap(), 1);
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[test]
fn the_registry_of_the_process_is_one() {
    let name = "of-the-process";
    BulkheadRegistry::global().create(config(name)).unwrap();
    let seen = thread::spawn(move || BulkheadRegistry::global().get(name).is_some());
    assert!(seen.join().unwrap());
    drop(BulkheadRegistry::global().remove(name));
    assert!(BulkheadRegistry::global().get(name).is_none());
}

// ---- executing by name

#[test]
fn execute_in_runs_where_the_name_says() {
    let registry = BulkheadRegistry::new();
    registry.create(config("database")).unwrap();
    registry.create_semaphore(config("cache")).unwrap();
    let this = thread::current().id();
    for (name, is_here) in [("database", false), ("cache", true)] {
        let handle = registry
            .execute_in(name, move || Ok::<_, ()>(thread::current().id() == this))
            .unwrap();
        assert!(!is_here || handle.is_finished(), "it ran here");
        let id = handle.execution_id();
        let result = wait(handle);
        assert_eq!(result.execution_id, id);
        assert_eq!(&*result.bulkhead_name, name);
        assert_eq!(result.into_result().unwrap(), is_here, "{name}");
    }
}

#[test]
fn a_handle_of_a_semaphore_call_is_finished_in_every_way() {
    let registry = BulkheadRegistry::new();
    registry.create_semaphore(config("cache")).unwrap();
    let run = || {
        registry
            .execute_in("cache", || Err::<(), _>("miss"))
            .unwrap()
    };
    assert!(!run().cancel());
    let now = run().wait_timeout(Duration::ZERO).unwrap();
    assert!(matches!(now.result, Err(BulkheadError::Failed("miss"))));
    let awaited = pollster::block_on(run());
    assert!(matches!(awaited.result, Err(BulkheadError::Failed("miss"))));
    drop(run());
    drop(run().cancel_on_drop());
    assert_eq!(registry.stats()[0].failed_executions, 5);
}

#[test]
fn an_unknown_name_gives_the_closure_back() {
    let registry = BulkheadRegistry::new();
    let precious = String::from("precious");
    let refused = registry.execute_in("nowhere", move || Ok::<_, ()>(precious));
    let UnknownBulkhead { name, task } = refused.unwrap_err();
    assert_eq!(name, "nowhere");
    assert_eq!(task(), Ok("precious".to_owned()));

    let error = registry
        .execute_in("nowhere", || Ok::<(), ()>(()))
        .unwrap_err();
    assert_eq!(error.to_string(), "the registry has no bulkhead `nowhere`");
    let _: Box<dyn std::error::Error> = error.into();
}

// ---- numbers and health

#[test]
fn stats_of_all_are_in_the_order_of_names_and_start_anew_together() {
    let registry = BulkheadRegistry::new();
    for name in ["c", "a", "b"] {
        registry.create(config(name)).unwrap();
        let handle = registry.execute_in(name, || Ok::<_, ()>(())).unwrap();
        wait(handle).into_result().unwrap();
    }
    let stats = registry.stats();
    let seen: Vec<_> = stats.iter().map(|stats| &*stats.name).collect();
    assert_eq!(seen, ["a", "b", "c"]);
    for stats in &stats {
        assert_balanced(stats);
        assert_eq!(stats.successful_executions, 1);
    }
    registry.reset_stats();
    assert!(
        registry
            .stats()
            .iter()
            .all(|stats| stats.submitted_executions == 0)
    );
}

#[test]
fn health_names_each_bulkhead_that_lets_nothing_through() {
    let registry = BulkheadRegistry::new();
    assert!(registry.health().is_healthy());
    assert_eq!(
        registry.health().to_string(),
        "0 of 0 bulkheads are healthy"
    );
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    registry
        .create(config("api").circuit_breaker(breaker))
        .unwrap();
    registry.create(config("files")).unwrap();
    registry.create_semaphore(config("cache")).unwrap();
    assert!(registry.health().is_healthy());

    let failed = registry.execute_in("api", || Err::<(), _>("down")).unwrap();
    assert!(wait(failed).into_result().is_err());
    registry.get("files").unwrap().shutdown();
    let health = registry.health();
    assert!(!health.is_healthy());
    let unhealthy: Vec<_> = health.unhealthy().collect();
    assert_eq!(
        unhealthy,
        [
            ("api", BulkheadState::Isolated),
            ("files", BulkheadState::ShutDown)
        ]
    );
    assert_eq!(
        health.to_string(),
        "1 of 3 bulkheads are healthy: `api` is isolated, `files` is shut down"
    );
}

// ---- taking out

#[test]
fn remove_frees_the_name_and_leaves_the_end_to_the_caller() {
    let registry = BulkheadRegistry::new();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    registry.create(config("database")).unwrap();
    let running = {
        let gate = gate.clone();
        let task = move || {
            gate.pass();
            Ok::<_, ()>(())
        };
        registry.execute_in("database", task).unwrap()
    };
    gate.wait_for_arrivals(1);

    let removed = registry.remove("database").unwrap();
    assert!(registry.get("database").is_none());
    registry.create(config("database")).unwrap();

    let report = removed.shutdown_now();
    assert_eq!(report.still_running.len(), 1);
    assert_eq!(removed.state(), BulkheadState::ShutDown);
    gate.open();
    wait(running).into_result().unwrap();
    assert!(registry.remove("nowhere").is_none());
    assert!(registry.health().is_healthy(), "the new one is another");
}

// ---- ending together

#[test]
fn shutdown_all_ends_all_at_the_same_time_with_a_report_each() {
    let registry = BulkheadRegistry::new();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    for name in ["a", "b", "c"] {
        registry.create(config(name)).unwrap();
        for _ in 0..2 {
            let gate = gate.clone();
            let task = move || {
                gate.pass();
                Ok::<_, ()>(())
            };
            drop(registry.execute_in(name, task).unwrap());
        }
    }
    registry.create_semaphore(config("d")).unwrap();
    // One runs and one is queued in each, and all go on only when every bulkhead refuses new calls.
    gate.wait_for_arrivals(3);
    let registry = &registry;
    let reports = thread::scope(|scope| {
        let ending = scope.spawn(|| registry.shutdown_all(PATIENCE));
        let all_refuse = || {
            let states = registry.health().states;
            states
                .values()
                .all(|state| *state == BulkheadState::ShutDown)
        };
        support::eventually("all refuse", all_refuse);
        gate.open();
        ending.join().unwrap()
    });
    let finished: BTreeMap<_, _> = reports
        .iter()
        .map(|(name, report)| (&**name, report.finished))
        .collect();
    assert_eq!(
        finished,
        BTreeMap::from([("a", 2), ("b", 2), ("c", 2), ("d", 0)])
    );
    assert!(reports.values().all(bulkman::ShutdownReport::is_clean));
    assert_eq!(registry.len(), 4, "their numbers can still be read");
}

#[test]
fn shutdown_all_cancels_what_is_queued_when_its_limit_is_over() {
    let registry = BulkheadRegistry::new();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let mut handles = Vec::new();
    for name in ["a", "b"] {
        registry.create(config(name)).unwrap();
        for _ in 0..3 {
            let gate = gate.clone();
            let task = move || {
                gate.pass();
                Ok::<_, ()>(())
            };
            handles.push(registry.execute_in(name, task).unwrap());
        }
    }
    gate.wait_for_arrivals(2);
    let reports = registry.shutdown_all(Duration::ZERO);
    for report in reports.values() {
        assert_eq!((report.cancelled, report.still_running.len()), (2, 1));
    }
    gate.open();
    let cancelled = handles
        .into_iter()
        .map(wait)
        .filter(|result| matches!(result.error(), Some(BulkheadError::Cancelled { .. })))
        .count();
    assert_eq!(cancelled, 4);
}

#[test]
fn nothing_new_is_built_after_shutdown_all() {
    let registry = BulkheadRegistry::new();
    registry.create(config("old")).unwrap();
    registry.shutdown_all(PATIENCE);
    assert!(
        registry.shutdown_all(PATIENCE).contains_key("old"),
        "once more"
    );
    for refused in [
        registry.create(config("new")).map(drop),
        registry.create_semaphore(config("new")).map(drop),
        registry.get_or_create(config("new")).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, RegistryError::ShutDown { .. }), "{error}");
    }
    let old = registry.get_or_create(config("old")).unwrap();
    assert_eq!(old.state(), BulkheadState::ShutDown);
}

#[test]
fn close_all_closes_both_kinds_at_once_and_builds_nothing_new() {
    let registry = BulkheadRegistry::new();
    registry.create(config("a")).unwrap();
    registry.create_semaphore(config("b")).unwrap();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let task = move || {
        gate.pass();
        Ok::<_, ()>("ran")
    };
    let running = registry.execute_in("a", task).unwrap();
    registry.close_all();
    registry.close_all();
    let states = registry.health().states;
    assert!(
        states
            .values()
            .all(|state| *state == BulkheadState::ShutDown)
    );
    assert!(matches!(
        registry.create(config("c")),
        Err(RegistryError::ShutDown { .. })
    ));
    drop(opener);
    assert_eq!(wait(running).value(), Some(&"ran"));
    for bulkhead in registry.bulkheads() {
        assert!(bulkhead.wait_closed(PATIENCE), "{bulkhead:?}");
    }
    assert_eq!(registry.len(), 2);
}

#[test]
fn a_task_can_end_the_registry_that_it_runs_in() {
    let registry = Arc::new(BulkheadRegistry::new());
    registry.create(config("a")).unwrap();
    registry.create(config("b")).unwrap();
    let of_task = Arc::clone(&registry);
    let task = move || Ok::<_, ()>(of_task.shutdown_all(PATIENCE).len());
    let handle = registry.execute_in("a", task).unwrap();
    assert_eq!(wait(handle).into_result().unwrap(), 2);
    assert!(!registry.health().is_healthy());
}

// ---- several threads

/// A storage that holds up the building of its bulkheads at a gate.
struct SlowStorage {
    memory: MemoryStorage,
    gate: Gate,
    checks: AtomicUsize,
    answer: fn() -> Result<(), StorageError>,
}

impl SlowStorage {
    fn new(answer: fn() -> Result<(), StorageError>) -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryStorage::new(),
            gate: Gate::new(),
            checks: AtomicUsize::new(0),
            answer,
        })
    }
}

impl CircuitStorage for SlowStorage {
    fn sync(&self) -> &CircuitSync {
        self.memory.sync()
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.memory.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        self.memory.store(circuit, record, guard)
    }

    fn check_name(&self, _: &str) -> Result<(), StorageError> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.gate.pass();
        (self.answer)()
    }
}

fn slow(name: &str, storage: &Arc<SlowStorage>) -> bulkman::BulkheadBuilder {
    let config = config(name).circuit_breaker(CircuitBreakerConfig::default());
    Bulkhead::builder(config).circuit_storage(Arc::clone(storage))
}

#[test]
fn lookups_do_not_wait_for_a_bulkhead_that_is_being_built() {
    let registry = BulkheadRegistry::new();
    registry.create(config("ready")).unwrap();
    let storage = SlowStorage::new(|| Ok(()));
    let _opener = OpenOnDrop(storage.gate.clone());
    thread::scope(|scope| {
        let opener = OpenOnDrop(storage.gate.clone());
        scope.spawn(|| registry.create(slow("slow", &storage)).unwrap());
        storage.gate.wait_for_arrivals(1);
        assert!(registry.get("ready").is_some());
        assert!(registry.get("slow").is_none());
        registry.create(config("another")).unwrap();
        assert_eq!(names(&registry), ["another", "ready"]);
        assert!(matches!(
            registry.create(config("slow")),
            Err(RegistryError::AlreadyExists { .. })
        ));
        drop(opener);
    });
    assert_eq!(names(&registry), ["another", "ready", "slow"]);
}

#[test]
fn get_or_create_builds_one_for_all_that_come_at_once() {
    const THREADS: usize = 8;
    let registry = BulkheadRegistry::new();
    let storage = SlowStorage::new(|| Ok(()));
    let _opener = OpenOnDrop(storage.gate.clone());
    let start = Barrier::new(THREADS + 1);
    let all: Vec<_> = thread::scope(|scope| {
        let opener = OpenOnDrop(storage.gate.clone());
        let come = || {
            start.wait();
            registry.get_or_create(slow("one", &storage)).unwrap()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(come)).collect();
        start.wait();
        storage.gate.wait_for_arrivals(1);
        drop(opener);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(all.iter().all(|bulkhead| Arc::ptr_eq(bulkhead, &all[0])));
    assert_eq!(storage.checks.load(Ordering::Relaxed), 1);
}

#[test]
fn after_a_build_that_failed_or_panicked_the_next_caller_builds() {
    for answer in [
        (|| Err(StorageError::new("no"))) as fn() -> Result<(), StorageError>,
        || panic!("boom"),
    ] {
        let registry = BulkheadRegistry::new();
        let failing = SlowStorage::new(answer);
        thread::scope(|scope| {
            let opener = OpenOnDrop(failing.gate.clone());
            let first = scope.spawn(|| {
                let build = || registry.get_or_create(slow("one", &failing));
                catch_unwind(AssertUnwindSafe(build)).map_or(true, |built| built.is_err())
            });
            failing.gate.wait_for_arrivals(1);
            let second = scope.spawn(|| registry.get_or_create(config("one")).map(drop));
            drop(opener);
            assert!(first.join().unwrap(), "the first fails");
            second.join().unwrap().unwrap();
        });
        assert_eq!(names(&registry), ["one"]);
    }
}

#[test]
fn a_build_that_asks_for_itself_is_told_so() {
    struct AsksAgain {
        memory: MemoryStorage,
        registry: Arc<BulkheadRegistry>,
        told: Mutex<Option<String>>,
    }
    impl CircuitStorage for AsksAgain {
        fn sync(&self) -> &CircuitSync {
            self.memory.sync()
        }
        fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
            self.memory.load(circuit)
        }
        fn store(
            &self,
            circuit: &str,
            record: &CircuitRecord,
            guard: WriteGuard,
        ) -> Result<WriteOutcome, StorageError> {
            self.memory.store(circuit, record, guard)
        }
        fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
            let again = self.registry.get_or_create(config(circuit));
            *self.told.lock().unwrap() = again.err().map(|error| error.to_string());
            Ok(())
        }
    }
    let registry = Arc::new(BulkheadRegistry::new());
    let storage = Arc::new(AsksAgain {
        memory: MemoryStorage::new(),
        registry: Arc::clone(&registry),
        told: Mutex::default(),
    });
    let with_breaker = config("self").circuit_breaker(CircuitBreakerConfig::default());
    registry
        .create(Bulkhead::builder(with_breaker).circuit_storage(Arc::clone(&storage)))
        .unwrap();
    let told = storage.told.lock().unwrap().clone();
    assert_eq!(
        told.as_deref(),
        Some("the registry has a bulkhead `self` already")
    );
}

#[test]
fn a_bulkhead_that_is_built_during_the_end_is_shut_down_too() {
    let registry = BulkheadRegistry::new();
    let storage = SlowStorage::new(|| Ok(()));
    thread::scope(|scope| {
        let opener = OpenOnDrop(storage.gate.clone());
        let (built, is_built) = mpsc::channel();
        let (registry, storage) = (&registry, &storage);
        scope.spawn(move || built.send(registry.create(slow("late", storage)).unwrap()));
        storage.gate.wait_for_arrivals(1);
        assert!(registry.shutdown_all(PATIENCE).is_empty());
        drop(opener);
        let late = is_built.recv_timeout(PATIENCE).unwrap();
        assert_eq!(late.state(), BulkheadState::ShutDown);
        assert!(late.run(|| ()).wait().error().unwrap().is_rejected());
    });
}

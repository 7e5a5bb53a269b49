//! Both kinds of bulkhead by name, and as one type and one trait.
//!
//! | file | job |
//! |---|---|
//! | here | the registry: bulkheads by name |
//! | `any_bulkhead`, `common` | a bulkhead of either kind: as an enum, and as a trait |
//! | `error`, `health` | why a registry has no bulkhead to give, and how all of them are doing |
//!
//! Two maps. `bulkheads` has those that are ready; its write lock is held only while one is put in or taken out, never
//! while user code runs or a thread starts, so a lookup waits for no creation. `building` has the names that are being
//! built; a second caller that wants the same bulkhead waits there for the first.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

mod any_bulkhead;
mod common;
mod error;
mod health;

pub use any_bulkhead::AnyBulkhead;
pub use common::CommonBulkhead;
pub use error::{RegistryError, UnknownBulkhead};
pub use health::RegistryHealth;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::BulkheadConfig;
use crate::core::{BulkheadBuilder, ShutdownReport, WaitLimit, begin_shutdown, finish_shutdown};
use crate::error::BuildError;
use crate::semaphore::{SemaphoreBulkhead, SemaphoreBulkheadBuilder};
use crate::stats::{BulkheadHealth, BulkheadStats};
use crate::sync::{self, Condvar, Mutex, RwLock};
use crate::thread_pool::{Bulkhead, ExecutionHandle};

/// The bulkheads of a service, by name: one for each dependency, made in one place, looked up in others.
///
/// ```
/// use bulkman::{BulkheadConfig, BulkheadRegistry};
/// use std::time::Duration;
///
/// let registry = BulkheadRegistry::new();
/// registry.create(BulkheadConfig::new("database").max_concurrent_calls(4))?;
/// registry.create_semaphore(BulkheadConfig::new("cache").max_concurrent_calls(50))?;
///
/// let rows = registry.execute_in("database", || Ok::<_, std::io::Error>(3))?.wait().into_result()?;
/// assert_eq!(rows, 3);
/// assert!(registry.health().is_healthy());
/// for stats in registry.stats() {
///     println!("{stats}");
/// }
/// let reports = registry.shutdown_all(Duration::from_secs(5));
/// assert!(reports.values().all(|report| report.is_clean()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A name belongs to one bulkhead, of either kind. [`global`](Self::global) is a registry for the whole process; a
/// service can have as many of its own as it likes.
///
/// Looking a bulkhead up takes a read lock for a moment, and never waits for a bulkhead that is being built, connected to
/// its storage, or shut down. With one exception: while a method works with a bulkhead it holds a reference to it. If all
/// others are dropped meanwhile, after [`remove`](Self::remove), then this one is the last, and its drop shuts the bulkhead
/// down. So end a bulkhead that was removed with a form of its shutdown that has a limit, and drop it then.
///
/// # Coming from Python
///
/// | Python's `BulkheadManager` and `BulkheadRegistry` | here |
/// |---|---|
/// | `BulkheadManager()`, `BulkheadRegistry()` | `BulkheadRegistry::new()` |
/// | `get_instance()`, `get_bulkhead_manager()` | [`BulkheadRegistry::global()`](Self::global) |
/// | `create_bulkhead(config)`, `create(config)`, `register(name, …)` | [`create(config)?`](Self::create), [`create_semaphore(config)?`](Self::create_semaphore); a name twice is an error here too |
/// | `get_bulkhead(name)`, `get(name)` | [`get(name)`](Self::get), [`thread_pool(name)`](Self::thread_pool), [`semaphore(name)`](Self::semaphore) |
/// | `get_or_create_bulkhead(config)`, `get_or_create(name, …)`, which ignore another configuration | [`get_or_create(config)?`](Self::get_or_create), [`get_or_create_semaphore(config)?`](Self::get_or_create_semaphore); another configuration is an error |
/// | `execute_in_bulkhead(name, func, *args)`, raises `ValueError` | [`execute_in(name, f)?`](Self::execute_in), an unknown name gives the closure back |
/// | `get_all_stats()`, `get_health_status()` | [`stats()`](Self::stats), [`health()`](Self::health); [`reset_stats()`](Self::reset_stats) |
/// | `BulkheadManager(circuit_storage=…)` | `create(Bulkhead::builder(config).circuit_storage(storage.clone()))?`, or [`DependenciesBuilder::circuit_storage`](crate::DependenciesBuilder::circuit_storage) for all |
/// | `async with manager.context()`, which ends nothing | [`shutdown_all(limit)`](Self::shutdown_all), with a report for each |
///
/// Python's `ExternalDependencyManager` is [`Dependencies`](crate::Dependencies#coming-from-python).
///
/// # What dropping it does
///
/// It drops its references. A bulkhead that nothing else refers to shuts down as if it was dropped itself, and waits for
/// its calls: see [`shutdown_all`](Self::shutdown_all) for an end with a limit.
#[derive(Default)]
pub struct BulkheadRegistry {
    bulkheads: RwLock<BTreeMap<Arc<str>, AnyBulkhead>>,
    building: Mutex<Building>,
    /// A name has left `building`.
    built: Condvar,
}

#[derive(Default)]
struct Building {
    names: BTreeSet<Arc<str>>,
    is_shut_down: bool,
}

sync::thread_local! {
    /// Whether this thread builds a bulkhead: it must not wait for another to be built, which might be this one.
    static IS_BUILDING: Cell<bool> = Cell::new(false);
}

impl BulkheadRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The registry of the process. It is never dropped: shut its bulkheads down with
    /// [`shutdown_all`](Self::shutdown_all) before `main` returns, since what runs then ends with the process.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<BulkheadRegistry> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// Builds a bulkhead with worker threads, from a configuration or from a [`BulkheadBuilder`] with collaborators.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](RegistryError::AlreadyExists), [`ShutDown`](RegistryError::ShutDown), or why it
    /// [could not be built](RegistryError::Build). The registry is then as before.
    pub fn create(
        &self,
        bulkhead: impl Into<BulkheadBuilder>,
    ) -> Result<Arc<Bulkhead>, RegistryError> {
        let builder = bulkhead.into();
        self.build(&builder.parts.config.name.clone(), || {
            builder.build().map(Arc::new)
        })
    }

    /// Builds a bulkhead whose calls run in their callers' threads. As [`create`](Self::create) otherwise.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_semaphore(
        &self,
        bulkhead: impl Into<SemaphoreBulkheadBuilder>,
    ) -> Result<Arc<SemaphoreBulkhead>, RegistryError> {
        let builder = bulkhead.into();
        self.build(&builder.parts.config.name.clone(), || {
            builder.build().map(Arc::new)
        })
    }

    /// The bulkhead of this name, which is built if there is none. If another thread is building it, this one waits.
    ///
    /// Configurations are compared; the collaborators of a builder are not: those of the first caller hold.
    ///
    /// # Errors
    ///
    /// [`OtherConfig`](RegistryError::OtherConfig) or [`OtherKind`](RegistryError::OtherKind) if there is one that differs,
    /// and as [`create`](Self::create).
    pub fn get_or_create(
        &self,
        bulkhead: impl Into<BulkheadBuilder>,
    ) -> Result<Arc<Bulkhead>, RegistryError> {
        let builder = bulkhead.into();
        let config = builder.parts.config.clone();
        let as_wanted = |found: AnyBulkhead| match found {
            AnyBulkhead::ThreadPool(bulkhead) => Some(bulkhead),
            AnyBulkhead::Semaphore(_) => None,
        };
        self.find_or_build(&config, as_wanted, || builder.build().map(Arc::new))
    }

    /// As [`get_or_create`](Self::get_or_create), for a bulkhead whose calls run in their callers' threads.
    ///
    /// # Errors
    ///
    /// As [`get_or_create`](Self::get_or_create).
    pub fn get_or_create_semaphore(
        &self,
        bulkhead: impl Into<SemaphoreBulkheadBuilder>,
    ) -> Result<Arc<SemaphoreBulkhead>, RegistryError> {
        let builder = bulkhead.into();
        let config = builder.parts.config.clone();
        let as_wanted = |found: AnyBulkhead| match found {
            AnyBulkhead::Semaphore(bulkhead) => Some(bulkhead),
            AnyBulkhead::ThreadPool(_) => None,
        };
        self.find_or_build(&config, as_wanted, || builder.build().map(Arc::new))
    }

    /// The bulkhead of this name, of either kind. One that is still being built is not there yet.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AnyBulkhead> {
        self.bulkheads.read().get(name).cloned()
    }

    /// The bulkhead of this name, if it is one with worker threads.
    #[must_use]
    pub fn thread_pool(&self, name: &str) -> Option<Arc<Bulkhead>> {
        match self.get(name)? {
            AnyBulkhead::ThreadPool(bulkhead) => Some(bulkhead),
            AnyBulkhead::Semaphore(_) => None,
        }
    }

    /// The bulkhead of this name, if it is one whose calls run in their callers' threads.
    #[must_use]
    pub fn semaphore(&self, name: &str) -> Option<Arc<SemaphoreBulkhead>> {
        match self.get(name)? {
            AnyBulkhead::Semaphore(bulkhead) => Some(bulkhead),
            AnyBulkhead::ThreadPool(_) => None,
        }
    }

    /// Submits a task to the bulkhead of this name, as [`AnyBulkhead::execute`].
    ///
    /// # Errors
    ///
    /// [`UnknownBulkhead`] with the closure, if there is none of this name. A refusal by the bulkhead itself is in the
    /// handle, as everywhere.
    pub fn execute_in<T, E, F>(
        &self,
        name: &str,
        f: F,
    ) -> Result<ExecutionHandle<T, E>, UnknownBulkhead<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.get(name) {
            Some(bulkhead) => Ok(bulkhead.execute(f)),
            None => Err(UnknownBulkhead {
                name: name.to_owned(),
                task: f,
            }),
        }
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.bulkheads.read().keys().cloned().collect()
    }

    /// All bulkheads, in the order of their names.
    #[must_use]
    pub fn bulkheads(&self) -> Vec<AnyBulkhead> {
        self.bulkheads.read().values().cloned().collect()
    }

    /// How many bulkheads there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bulkheads.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a bulkhead out, and leaves its end to the caller: any form of its shutdown, or the drop of what is returned,
    /// which is [`shutdown`](Bulkhead::shutdown) if nothing else refers to it. Its name is free at once.
    pub fn remove(&self, name: &str) -> Option<AnyBulkhead> {
        self.bulkheads.write().remove(name)
    }

    /// Takes this bulkhead out, and leaves another one of the same name in.
    pub(crate) fn remove_this(&self, bulkhead: &AnyBulkhead) {
        let name = &bulkhead.engine().name;
        let mut bulkheads = self.bulkheads.write();
        let is_it = |there: &AnyBulkhead| there.engine().serial == bulkhead.engine().serial;
        let removed = if bulkheads.get(name).is_some_and(is_it) {
            bulkheads.remove(name)
        } else {
            None
        };
        drop(bulkheads);
        drop(removed);
    }

    /// The numbers of all bulkheads, in the order of their names. Each balances by itself.
    #[must_use]
    pub fn stats(&self) -> Vec<BulkheadStats> {
        self.bulkheads().iter().map(AnyBulkhead::stats).collect()
    }

    /// Starts all counters of all bulkheads anew.
    pub fn reset_stats(&self) {
        self.bulkheads().iter().for_each(AnyBulkhead::reset_stats);
    }

    /// The [health](Bulkhead::health) of each bulkhead, by its thresholds.
    #[must_use]
    pub fn health(&self) -> RegistryHealth {
        let mut all = RegistryHealth {
            states: BTreeMap::new(),
            reasons: BTreeMap::new(),
        };
        for bulkhead in self.bulkheads() {
            let BulkheadHealth {
                name,
                state,
                reasons,
            } = bulkhead.health();
            all.states.insert(Arc::clone(&name), state);
            if !reasons.is_empty() {
                all.reasons.insert(name, reasons);
            }
        }
        all
    }

    /// Shuts all bulkheads down at the same time, under one limit: each refuses new calls at once and works its queue
    /// off; when `limit` is over, what is still queued is cancelled, and what runs is left alone. Returns by then, with a
    /// report for each.
    ///
    /// From here on the registry builds nothing new. A bulkhead that another thread is just building is shut down too, as
    /// soon as it is built, and that thread gets it in this state. The bulkheads stay registered, so that their numbers
    /// can still be read.
    pub fn shutdown_all(&self, limit: Duration) -> BTreeMap<Arc<str>, ShutdownReport> {
        let limit = WaitLimit::within(limit);
        self.building.lock().is_shut_down = true;
        let bulkheads = self.bulkheads();
        // All are closed before this thread waits for the first.
        let begun: Vec<_> = bulkheads
            .iter()
            .map(|bulkhead| (bulkhead, begin_shutdown(bulkhead.engine())))
            .collect();
        let finish = |(bulkhead, before): (&AnyBulkhead, _)| {
            let report = match bulkhead {
                AnyBulkhead::ThreadPool(bulkhead) => {
                    finish_shutdown(bulkhead.shutdown_target(), before, limit)
                }
                AnyBulkhead::Semaphore(bulkhead) => {
                    finish_shutdown(bulkhead.shutdown_target(), before, limit)
                }
            };
            (Arc::clone(&bulkhead.engine().name), report)
        };
        begun.into_iter().map(finish).collect()
    }

    /// Closes all bulkheads, as [`Bulkhead::close`], and returns at once. As after [`shutdown_all`](Self::shutdown_all), the
    /// registry builds nothing new, and the bulkheads stay registered.
    pub fn close_all(&self) {
        self.building.lock().is_shut_down = true;
        self.bulkheads().iter().for_each(AnyBulkhead::close);
    }

    fn find_or_build<B: Into<AnyBulkhead> + Clone>(
        &self,
        config: &BulkheadConfig,
        as_wanted: impl Fn(AnyBulkhead) -> Option<B>,
        build: impl FnOnce() -> Result<B, BuildError>,
    ) -> Result<B, RegistryError> {
        let mut build = Some(build);
        loop {
            if let Some(found) = self.get(&config.name) {
                return judge(found, config, as_wanted);
            }
            let Some(attempt) = build.take() else {
                unreachable!("an attempt that was used has returned");
            };
            match self.claim(&config.name, true)? {
                Claim::Free(claimed) => return claimed.build(attempt),
                Claim::WasBuilt => build = Some(attempt),
            }
        }
    }

    fn build<B: Into<AnyBulkhead> + Clone>(
        &self,
        name: &str,
        build: impl FnOnce() -> Result<B, BuildError>,
    ) -> Result<B, RegistryError> {
        match self.claim(name, false)? {
            Claim::Free(claimed) => claimed.build(build),
            Claim::WasBuilt => Err(RegistryError::AlreadyExists { name: name.into() }),
        }
    }

    /// Reserves a name. `waits`: if another thread builds a bulkhead of this name, waits until that has ended.
    fn claim(&self, name: &str, waits: bool) -> Result<Claim<'_>, RegistryError> {
        let mut building = self.building.lock();
        if building.is_shut_down {
            return Err(RegistryError::ShutDown { name: name.into() });
        }
        if building.names.contains(name) {
            if !waits || IS_BUILDING.with(Cell::get) {
                return Err(RegistryError::AlreadyExists { name: name.into() });
            }
            while building.names.contains(name) {
                sync::wait_until(&self.built, &mut building, None);
            }
            return Ok(Claim::WasBuilt);
        }
        // A bulkhead is put in before its name leaves `building`, so this look misses none.
        if self.bulkheads.read().contains_key(name) {
            return Ok(Claim::WasBuilt);
        }
        let name: Arc<str> = name.into();
        building.names.insert(Arc::clone(&name));
        Ok(Claim::Free(Claimed {
            registry: self,
            name,
        }))
    }
}

/// What became of the wish to build a bulkhead.
enum Claim<'a> {
    /// No other thread builds it.
    Free(Claimed<'a>),
    /// Another thread has built it, or has failed to.
    WasBuilt,
}

/// A name that this thread alone may build a bulkhead for. Dropping it makes the name free.
struct Claimed<'a> {
    registry: &'a BulkheadRegistry,
    name: Arc<str>,
}

impl Claimed<'_> {
    fn build<B: Into<AnyBulkhead> + Clone>(
        self,
        build: impl FnOnce() -> Result<B, BuildError>,
    ) -> Result<B, RegistryError> {
        let nested = IS_BUILDING.with(|is_building| is_building.replace(true));
        let restore = RestoreIsBuilding(nested);
        let bulkhead = build()?;
        drop(restore);
        let any: AnyBulkhead = bulkhead.clone().into();
        let registry = self.registry;
        registry
            .bulkheads
            .write()
            .insert(Arc::clone(&self.name), any.clone());
        let is_shut_down = registry.building.lock().is_shut_down;
        if is_shut_down {
            // `shutdown_all` or `close_all` may have looked before it was put in.
            begin_shutdown(any.engine());
        }
        Ok(bulkhead)
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.registry.building.lock().names.remove(&self.name);
        self.registry.built.notify_all();
    }
}

/// Also when `build` panics.
struct RestoreIsBuilding(bool);

impl Drop for RestoreIsBuilding {
    fn drop(&mut self) {
        IS_BUILDING.with(|is_building| is_building.set(self.0));
    }
}

/// Whether the bulkhead that was found is the one that is wanted.
fn judge<B>(
    found: AnyBulkhead,
    wanted: &BulkheadConfig,
    as_wanted: impl Fn(AnyBulkhead) -> Option<B>,
) -> Result<B, RegistryError> {
    let name = Arc::clone(&found.engine().name);
    let kind = found.kind();
    let existing = found.config().clone();
    let Some(bulkhead) = as_wanted(found) else {
        return Err(RegistryError::OtherKind {
            name,
            existing: kind,
        });
    };
    if existing == *wanted {
        Ok(bulkhead)
    } else {
        Err(RegistryError::OtherConfig {
            name,
            existing: Box::new(existing),
            wanted: Box::new(wanted.clone()),
        })
    }
}

// No user code runs under the locks.
impl UnwindSafe for BulkheadRegistry {}
impl RefUnwindSafe for BulkheadRegistry {}

impl fmt::Debug for BulkheadRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadRegistry")
            .field("bulkheads", &self.names())
            .finish_non_exhaustive()
    }
}

//! The dependencies of a service by name.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::call::DependencyCall;
use super::change::DependencyChange;
use super::chaos::DependencyChaos;
use super::config::{DependencyConfig, OperationOverrides};
use super::defaults::DependencyDefaults;
use super::did_you_mean::nearest;
use super::entry::{Entry, Origins, Rules};
use super::error::DependencyError;
use super::explain::{Explanation, Place};
use super::hierarchy::Resolved;
use super::kind::{BulkheadKind, DependencyKind};
use super::limits::Limits;
use super::pipeline::DependencyPipelineBuilder;
use super::policies::Policies;
use crate::adaptive::AdaptiveTimeout;
use crate::circuit::CircuitStorage;
use crate::clock::Clock;
use crate::core::{BulkheadBuilder, Kind, ShutdownReport};
use crate::event::{BulkheadEvent, BulkheadListener};
use crate::policy::{PipelineEvent, PipelineListener, PipelineStats};
use crate::registry::{AnyBulkhead, BulkheadRegistry, RegistryHealth};
use crate::stats::BulkheadStats;
use crate::sync::{AtomicBool, Ordering, RwLock};

/// The dependencies of a service, by name: each with the bulkhead and the limits that suit its kind.
///
/// ```
/// use bulkman::{Dependencies, DependencyConfig, DependencyKind};
/// use std::time::Duration;
///
/// let dependencies = Dependencies::new();
/// dependencies.register_database("user_db")?;
/// dependencies.register_cache("sessions")?;
/// dependencies.register_with(
///     "tax",
///     DependencyConfig::new(DependencyKind::ExternalApi).max_concurrent_calls(4),
/// )?;
///
/// let name = dependencies
///     .call("user_db")?
///     .operation("get_user")
///     .timeout(Duration::from_secs(2)) // queue and run together
///     .execute(|| Ok::<_, std::io::Error>("Ada"))
///     .wait()
///     .into_result()?;
/// assert_eq!(name, "Ada");
///
/// // Which level decided each value?
/// println!("{}", dependencies.explain("user_db", "get_user")?);
/// assert!(dependencies.health().is_healthy());
/// let reports = dependencies.shutdown_all(Duration::from_secs(5));
/// assert!(reports.values().all(|report| report.is_clean()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`DependencyKind`] has the settings of each kind, and says which bulkhead it has and why. Settings are decided by the
/// first of these levels that says something: the call, the [operation](DependencyConfig::operation), the
/// [dependency](DependencyConfig), its [kind](DependencyDefaults::for_kind), the kind's
/// [preset](DependencyKind::preset), the [global default](DependencyDefaults::for_all).
/// [`explain`](Self::explain) shows which it was. A timeout bounds the whole call, queue included; on a
/// [semaphore](DependencyKind#thread-pool-or-semaphore) the wait for a slot. The result has both clocks,
/// [`queued_time`](crate::ExecutionResult::queued_time) and [`execution_time`](crate::ExecutionResult::execution_time).
///
/// A [call](Self::call) makes one attempt, since its closure can be called only once. A [`pipeline`](Self::pipeline) makes
/// several, with the retries and the rate limit of the settings.
///
/// The bulkheads are in a [`BulkheadRegistry`], with the same errors, results and numbers as anywhere.
///
/// # Coming from Python
///
/// | Python's `ExternalDependencyManager` | here |
/// |---|---|
/// | `ExternalDependencyManager()` | `Dependencies::new()` |
/// | `get_external_dependency_manager()` | [`Dependencies::global()`](Self::global) |
/// | `DependencyType.DATABASE`, `CPU_INTENSIVE`, … | [`DependencyKind::Database`], `Cpu`, … |
/// | `ExternalDependencyConfig(dependency_name, dependency_type, …)` | [`DependencyConfig::new(kind)`](DependencyConfig::new), and setters |
/// | `register_dependency(config)` | [`register(name, kind)`](Self::register), [`register_with(name, config)`](Self::register_with); a name twice is an error |
/// | `register_database_dependency(name)`, `register_api_dependency(name)`, `register_cache_dependency(name)` | [`register_database(name)`](Self::register_database), [`register_external_api(name)`](Self::register_external_api), [`register_cache(name)`](Self::register_cache), and one for each other kind |
/// | `execute_with_resilience(name, func, operation_name, *args)` | [`call(name)?`](Self::call)`.operation(o).execute(move \|\| func(args))`; the handle has the value, or the reason |
/// | raises `ValueError` for an unknown name | [`DependencyError::Unknown`], with the names that there are |
/// | `@database_call(name, operation)`, `@api_call(…)`, `@cache_call(…)` | [`call(name)?.operation(o).wrap(f)`](DependencyCall::wrap) |
/// | `TimeoutConfig`, one timeout for each kind | [`DependencyDefaults`], and limits for dependencies, operations and calls |
/// | `get_dependency_stats(name)`, `get_all_dependencies_stats()` | [`stats_of(name)?`](Self::stats_of), [`stats()`](Self::stats) |
///
/// # What dropping it does
///
/// It drops the registry, if nothing else refers to that. Each bulkhead that nothing else refers to shuts down as if it was
/// dropped itself, and waits for its calls: see [`shutdown_all`](Self::shutdown_all) for an end with a limit.
pub struct Dependencies {
    registry: Arc<BulkheadRegistry>,
    /// No user code runs under this lock, nor under the next, and nothing is built.
    rules: RwLock<Arc<Rules>>,
    /// Settings are being applied.
    is_changing: AtomicBool,
    collaborators: Collaborators,
    entries: RwLock<BTreeMap<Arc<str>, Arc<Entry>>>,
}

/// What follows from the settings of a dependency, beside its bulkhead.
struct Parts {
    limits: Arc<Limits>,
    policies: Arc<Policies>,
    chaos: Arc<DependencyChaos>,
}

/// Settings are applied as long as it lives.
pub(super) struct ChangeInProgress<'a>(&'a AtomicBool);

impl Drop for ChangeInProgress<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What all bulkheads are built with.
#[derive(Default)]
struct Collaborators {
    clock: Clock,
    listeners: Vec<Arc<dyn BulkheadListener>>,
    pipeline_listeners: Arc<Vec<PipelineListener>>,
    circuit_storage: Option<Arc<dyn CircuitStorage>>,
    origins: Option<Origins>,
}

/// Builds [`Dependencies`] with defaults and collaborators, from [`Dependencies::builder`].
#[must_use = "a builder does nothing until `build`"]
#[derive(Default)]
pub struct DependenciesBuilder {
    registry: Option<Arc<BulkheadRegistry>>,
    defaults: DependencyDefaults,
    collaborators: Collaborators,
}

impl DependenciesBuilder {
    /// Sets what holds for all dependencies, and for those of a kind.
    pub fn defaults(mut self, defaults: DependencyDefaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Puts the bulkheads into this registry, where other bulkheads may be too. Default: one of their own.
    pub fn registry(mut self, registry: Arc<BulkheadRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds a listener to every bulkhead, as
    /// [`BulkheadBuilder::listener`](crate::BulkheadBuilder::listener).
    pub fn listener(mut self, listener: impl BulkheadListener + 'static) -> Self {
        self.collaborators.listeners.push(Arc::new(listener));
        self
    }

    /// Adds a plain closure as a [`listener`](Self::listener), without a type at its argument.
    pub fn on_event(self, listener: impl Fn(&BulkheadEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listener(listener)
    }

    /// Adds a listener to every [pipeline](Dependencies::pipeline) of the dependencies, which is told after each call, with all
    /// its attempts. As [`PipelineBuilder::listener`](crate::policy::PipelineBuilder::listener).
    ///
    /// ```
    /// use bulkman::{Dependencies, DependencyPipeline};
    /// use std::io;
    ///
    /// let dependencies = Dependencies::builder()
    ///     .on_pipeline_event(|event| {
    ///         if event.attempts > 1 || event.failure.is_some() {
    ///             log::info!("{event}");
    ///         }
    ///     })
    ///     .build();
    /// dependencies.register_database("user_db")?;
    /// let users: DependencyPipeline<io::Error> = dependencies.pipeline("user_db")?.build()?;
    /// assert_eq!(users.execute(|| Ok("Ada")).value(), Some(&"Ada"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_pipeline_event(
        mut self,
        listener: impl Fn(&PipelineEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        let listeners = &mut self.collaborators.pipeline_listeners;
        Arc::make_mut(listeners).push(Arc::new(listener));
        self
    }

    /// Keeps the circuits in a storage, as
    /// [`BulkheadBuilder::circuit_storage`](crate::BulkheadBuilder::circuit_storage). A dependency without a circuit
    /// breaker has nothing to keep there.
    pub fn circuit_storage(mut self, storage: impl CircuitStorage + 'static) -> Self {
        self.collaborators.circuit_storage = Some(Arc::new(storage));
        self
    }

    /// Sets the clock of every bulkhead, as [`BulkheadBuilder::clock`](crate::BulkheadBuilder::clock).
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.collaborators.clock = clock.into();
        self
    }

    #[cfg(feature = "config")]
    pub(crate) fn origins(mut self, origins: Origins) -> Self {
        self.collaborators.origins = Some(origins);
        self
    }

    /// No dependency is registered yet.
    #[must_use]
    pub fn build(self) -> Dependencies {
        let Self {
            registry,
            defaults,
            mut collaborators,
        } = self;
        let origins = collaborators.origins.take();
        Dependencies {
            registry: registry.unwrap_or_default(),
            rules: RwLock::new(Arc::new(Rules { defaults, origins })),
            is_changing: AtomicBool::new(false),
            collaborators,
            entries: RwLock::default(),
        }
    }
}

impl Default for Dependencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Dependencies {
    /// Without a dependency, and without settings beyond the presets.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// For defaults, listeners, a circuit storage, a clock, or a registry that there is already.
    pub fn builder() -> DependenciesBuilder {
        DependenciesBuilder::default()
    }

    /// The dependencies of the process, without settings beyond the presets. They are never dropped: shut them down with
    /// [`shutdown_all`](Self::shutdown_all) before `main` returns.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Dependencies> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// Registers a dependency with the settings of its kind, and starts its bulkhead.
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register(&self, name: &str, kind: DependencyKind) -> Result<(), DependencyError> {
        self.register_with(name, kind)
    }

    /// Registers a dependency with settings of its own over those of its kind, and starts its bulkhead.
    ///
    /// # Errors
    ///
    /// [`Invalid`](DependencyError::Invalid) if a setting is out of range, whichever level it comes from.
    /// [`Registry`](DependencyError::Registry) if the name exists, all is shut down, or a thread could not start. Nothing is
    /// registered then.
    pub fn register_with(
        &self,
        name: &str,
        config: impl Into<DependencyConfig>,
    ) -> Result<(), DependencyError> {
        self.register_by(&self.rules(), name, config.into())
    }

    pub(super) fn register_by(
        &self,
        rules: &Arc<Rules>,
        name: &str,
        config: DependencyConfig,
    ) -> Result<(), DependencyError> {
        let resolved = self.resolve(rules, name, &config, None)?;
        let Parts {
            limits,
            policies,
            chaos,
        } = self.parts(rules, name, &config, &resolved)?;
        let bulkhead: AnyBulkhead = match resolved.bulkhead.value {
            BulkheadKind::ThreadPool => {
                let builder = self.bulkhead_builder(&resolved, name, &limits);
                self.registry.create(builder)?.into()
            }
            BulkheadKind::Semaphore => {
                let builder = self.bulkhead_builder(&resolved, name, &limits);
                self.registry.create_semaphore(builder)?.into()
            }
        };
        let entry = Arc::new(Entry {
            config,
            rules: Arc::clone(rules),
            bulkhead,
            limits,
            policies,
            chaos: Arc::clone(&chaos),
            ledger: Arc::default(),
        });
        // One that was removed from the registry itself may still be here. It is dropped after the lock is released.
        let replaced = self.entries.write().insert(name.into(), entry);
        drop(replaced);
        chaos.warn(name);
        Ok(())
    }

    /// Whether a dependency could be registered, as far as its settings go.
    pub(super) fn check(
        &self,
        rules: &Rules,
        name: &str,
        config: &DependencyConfig,
    ) -> Result<(), DependencyError> {
        let resolved = self.resolve(rules, name, config, None)?;
        self.parts(rules, name, config, &resolved).map(drop)
    }

    fn parts(
        &self,
        rules: &Rules,
        name: &str,
        config: &DependencyConfig,
        resolved: &Resolved,
    ) -> Result<Parts, DependencyError> {
        let clock = &self.collaborators.clock;
        let mut limits = Limits::of(resolved, clock);
        let listeners = Arc::clone(&self.collaborators.pipeline_listeners);
        let mut policies = Policies::of(resolved, name, clock, listeners).map_err(|reason| {
            DependencyError::Invalid {
                dependency: name.to_owned(),
                operation: None,
                reason: Box::new(reason),
            }
        })?;
        let mut chaos = DependencyChaos::of(resolved);
        for (operation, overrides) in &config.operations {
            let resolved = self.resolve(rules, name, config, Some((operation, overrides)))?;
            limits.add(operation, &resolved, clock);
            policies.add(operation, &resolved);
            chaos.add(operation, &resolved);
        }
        Ok(Parts {
            limits: Arc::new(limits),
            policies: Arc::new(policies),
            chaos: Arc::new(chaos),
        })
    }

    /// Gives a dependency what follows from its new settings, unless it has been replaced or removed meanwhile.
    pub(super) fn replace(
        &self,
        rules: &Arc<Rules>,
        name: Arc<str>,
        old: &Arc<Entry>,
        config: DependencyConfig,
        changes: &[DependencyChange],
    ) -> Result<(), DependencyError> {
        let resolved = self.resolve(rules, &name, &config, None)?;
        let Parts {
            limits,
            policies,
            chaos,
        } = self.parts(rules, &name, &config, &resolved)?;
        let changes = |policies: &[&str]| {
            changes.iter().any(|change| match change {
                DependencyChange::Changed { setting, .. } => {
                    policies.iter().any(|policy| setting.starts_with(policy))
                }
                DependencyChange::Registered { .. } => true,
            })
        };
        let changes_chaos = changes(&["chaos"]);
        let entry = Arc::new(Entry {
            config,
            rules: Arc::clone(rules),
            bulkhead: old.bulkhead.clone(),
            // What has been learned stays: it has not changed.
            limits: if old.limits.are_adaptive() {
                Arc::clone(&old.limits)
            } else {
                limits
            },
            policies: if changes(&["retry", "rate_limit", "hedge"]) {
                policies
            } else {
                Arc::clone(&old.policies)
            },
            chaos: if changes_chaos {
                Arc::clone(&chaos)
            } else {
                Arc::clone(&old.chaos)
            },
            ledger: Arc::clone(&old.ledger),
        });
        let replaced = {
            let mut entries = self.entries.write();
            match entries.get_mut(&name) {
                Some(there) if Arc::ptr_eq(there, old) => Some(std::mem::replace(there, entry)),
                _ => None,
            }
        };
        let is_replaced = replaced.is_some();
        drop(replaced);
        if is_replaced && changes_chaos {
            old.chaos.end();
            chaos.warn(&name);
        }
        Ok(())
    }

    /// All that are registered.
    pub(super) fn entries(&self) -> Vec<(Arc<str>, Arc<Entry>)> {
        let entries = self.entries.read();
        let all = entries.iter();
        all.map(|(name, entry)| (Arc::clone(name), Arc::clone(entry)))
            .collect()
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    pub(super) fn set_rules(&self, rules: Arc<Rules>) {
        let before = std::mem::replace(&mut *self.rules.write(), rules);
        drop(before);
    }

    pub(super) fn begin_change(&self) -> Result<ChangeInProgress<'_>, DependencyError> {
        // ORDERING: AcqRel, so that each change sees all of the one before.
        if self.is_changing.swap(true, Ordering::AcqRel) {
            return Err(DependencyError::ChangeInProgress);
        }
        Ok(ChangeInProgress(&self.is_changing))
    }

    fn bulkhead_builder<K: Kind>(
        &self,
        resolved: &Resolved,
        name: &str,
        limits: &Arc<Limits>,
    ) -> BulkheadBuilder<K> {
        let Collaborators {
            clock,
            listeners,
            circuit_storage,
            ..
        } = &self.collaborators;
        let mut builder = BulkheadBuilder::from(resolved.bulkhead_config(name))
            .clock(clock.clone())
            .health_thresholds(resolved.health_thresholds());
        if limits.are_adaptive() {
            builder = builder.listener(Arc::clone(limits));
        }
        for listener in listeners {
            let listener = Arc::clone(listener);
            builder = builder.listener(move |event: &BulkheadEvent<'_>| listener.on_event(event));
        }
        match circuit_storage {
            Some(storage) if resolved.has_circuit_breaker.value => {
                builder.circuit_storage(Arc::clone(storage))
            }
            _ => builder,
        }
    }

    /// What holds for a dependency, or for one of its operations, once it is known to be in range.
    pub(super) fn resolve(
        &self,
        rules: &Rules,
        name: &str,
        config: &DependencyConfig,
        operation: Option<(&String, &OperationOverrides)>,
    ) -> Result<Resolved, DependencyError> {
        let resolved = rules
            .defaults
            .resolve(config, operation.map(|(_, overrides)| overrides));
        match resolved.validate(name) {
            Ok(()) => Ok(resolved),
            Err(reason) => Err(DependencyError::Invalid {
                dependency: name.to_owned(),
                operation: operation.map(|(name, _)| name.clone()),
                reason: Box::new(reason),
            }),
        }
    }

    /// Registers a [database](DependencyKind::Database).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_database(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::Database)
    }

    /// Registers an [API of others](DependencyKind::ExternalApi).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_external_api(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::ExternalApi)
    }

    /// Registers a [cache](DependencyKind::Cache).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_cache(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::Cache)
    }

    /// Registers a [message queue](DependencyKind::MessageQueue).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_message_queue(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::MessageQueue)
    }

    /// Registers [files](DependencyKind::FileSystem).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_file_system(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::FileSystem)
    }

    /// Registers [work for the processor](DependencyKind::Cpu).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_cpu(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::Cpu)
    }

    /// Registers [payments](DependencyKind::Payment).
    ///
    /// # Errors
    ///
    /// As [`register_with`](Self::register_with).
    pub fn register_payment(&self, name: &str) -> Result<(), DependencyError> {
        self.register(name, DependencyKind::Payment)
    }

    /// Begins a call. While it is being made it holds a reference to the bulkhead.
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn call(&self, name: &str) -> Result<DependencyCall, DependencyError> {
        self.entry(name).map(DependencyCall::new)
    }

    /// Begins a pipeline for calls of a dependency: its timeout over all attempts, its retries, its rate limit, its
    /// hedge, its bulkhead and its [chaos](crate::ChaosOverrides), as the settings have them. Build it once, and keep it. For an operation,
    /// [`call(name)?.operation(o).pipeline()`](DependencyCall::pipeline).
    ///
    /// ```
    /// use bulkman::{Dependencies, DependencyConfig, DependencyKind, DependencyPipeline, RetryOverrides};
    /// use std::io;
    ///
    /// let dependencies = Dependencies::new();
    /// let config = DependencyConfig::new(DependencyKind::Database).retry(RetryOverrides::new().attempts(3));
    /// dependencies.register_with("user_db", config)?;
    ///
    /// let users: DependencyPipeline<io::Error> = dependencies.pipeline("user_db")?.build()?;
    /// let result = users.execute(|| Ok("Ada")); // called once for each attempt
    /// assert_eq!((result.attempts, result.into_result()?), (1, "Ada"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn pipeline<E>(&self, name: &str) -> Result<DependencyPipelineBuilder<E>, DependencyError> {
        Ok(self.call(name)?.pipeline())
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>, DependencyError> {
        let entries = self.entries.read();
        if let Some(entry) = entries.get(name) {
            return Ok(Arc::clone(entry));
        }
        let known: Vec<_> = entries.keys().cloned().collect();
        drop(entries);
        let near = nearest(name, known.iter().map(|known| &**known)).map(Arc::from);
        Err(DependencyError::Unknown {
            name: name.to_owned(),
            known,
            near,
        })
    }

    /// Which level decides each setting of a call of this operation. An operation that the configuration does not name
    /// has the settings of its dependency.
    ///
    /// ```
    /// use bulkman::{ConfigLevel, Dependencies};
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_cache("sessions")?;
    /// let explained = dependencies.explain("sessions", "get")?;
    /// assert_eq!(explained.max_concurrent_calls.value, 50);
    /// assert_eq!(explained.max_concurrent_calls.level, ConfigLevel::Preset);
    /// println!("{explained}");
    /// # Ok::<(), bulkman::DependencyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn explain(&self, name: &str, operation: &str) -> Result<Explanation, DependencyError> {
        let entry = self.entry(name)?;
        let rules = self.rules();
        let own = entry.config.operations.get(operation);
        let resolved = rules.defaults.resolve(&entry.config, own);
        let place = Place {
            dependency: name,
            kind: entry.config.kind,
            operation,
            ..Place::default()
        };
        let origins = rules.origins.as_deref();
        let adaptive = entry.limits.adaptive(Some(operation));
        let mut explanation = Explanation::new(resolved, place, origins);
        explanation.adaptive_timeout_stats = adaptive.map(AdaptiveTimeout::stats);
        Ok(explanation)
    }

    /// What a dependency was registered with.
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn config(&self, name: &str) -> Result<DependencyConfig, DependencyError> {
        self.entry(name).map(|entry| entry.config.clone())
    }

    /// The bulkhead of a dependency, for all that a bulkhead can do.
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn bulkhead(&self, name: &str) -> Result<AnyBulkhead, DependencyError> {
        self.entry(name).map(|entry| entry.bulkhead.clone())
    }

    /// The registry that has the bulkheads.
    #[must_use]
    pub fn registry(&self) -> &Arc<BulkheadRegistry> {
        &self.registry
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.entries.read().keys().cloned().collect()
    }

    /// Takes a dependency out, and leaves the end of its bulkhead to the caller, as [`BulkheadRegistry::remove`]. Its name
    /// is free at once. If its bulkhead was taken out of the registry before, and another one has the name there, that one
    /// stays.
    pub fn remove(&self, name: &str) -> Option<AnyBulkhead> {
        // First here, so that the name is free only once nothing of it is left.
        let entry = self.entries.write().remove(name)?;
        self.registry.remove_this(&entry.bulkhead);
        Some(entry.bulkhead.clone())
    }

    /// The numbers of a dependency.
    ///
    /// # Errors
    ///
    /// [`Unknown`](DependencyError::Unknown), with the names that there are.
    pub fn stats_of(&self, name: &str) -> Result<BulkheadStats, DependencyError> {
        self.entry(name).map(|entry| entry.bulkhead.stats())
    }

    /// The numbers of the whole [registry](BulkheadRegistry::stats), in the order of the names.
    #[must_use]
    pub fn stats(&self) -> Vec<BulkheadStats> {
        self.registry.stats()
    }

    /// The numbers of the [pipelines](Self::pipeline) of each dependency, all pipelines of one together, ordered by name. A
    /// dependency that has never had a pipeline has none.
    ///
    /// ```
    /// use bulkman::{Dependencies, DependencyPipeline};
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_database("user_db")?;
    /// dependencies.register_cache("sessions")?;
    /// let users: DependencyPipeline<std::io::Error> = dependencies.pipeline("user_db")?.build()?;
    /// assert_eq!(users.execute(|| Ok("Ada")).value(), Some(&"Ada"));
    ///
    /// let [stats] = &dependencies.pipeline_stats()[..] else { unreachable!() };
    /// assert_eq!((&*stats.name, stats.successful_calls), ("user_db", 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pipeline_stats(&self) -> Vec<PipelineStats> {
        let entries = self.entries();
        let ledgers = entries.iter().filter_map(|(_, entry)| entry.ledger.get());
        ledgers.map(|ledger| ledger.stats()).collect()
    }

    /// How the whole [registry](BulkheadRegistry::health) is doing.
    #[must_use]
    pub fn health(&self) -> RegistryHealth {
        self.registry.health()
    }

    /// Shuts the whole [registry](BulkheadRegistry::shutdown_all) down, under one limit. Nothing new is registered from
    /// here on.
    pub fn shutdown_all(&self, limit: Duration) -> BTreeMap<Arc<str>, ShutdownReport> {
        self.registry.shutdown_all(limit)
    }
}

// No user code runs under the lock.
impl UnwindSafe for Dependencies {}
impl RefUnwindSafe for Dependencies {}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies")
            .field("dependencies", &self.names())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DependenciesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DependenciesBuilder")
            .field("defaults", &self.defaults)
            .field("clock", &self.collaborators.clock)
            .field("listeners", &self.collaborators.listeners.len())
            .finish_non_exhaustive()
    }
}

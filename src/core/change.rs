//! How the limits of a bulkhead change while it works, wherever its tasks run.
//!
//! 1. The bulkhead makes room for more calls: counters, and room in the queue. If the system refuses any of it, nothing has
//!    changed.
//! 2. The permits go by the new limits, see `permit.rs`: from here on nobody is admitted by the old ones. After a close nothing
//!    changes.
//! 3. Slots or workers that are missing come. Those that are too many go: those without a task at once, and the others when
//!    their tasks have ended. If the system refuses a thread, the old limits come back.
//!
//! So there are never more places than there is room for, and never more slots or workers than N, but for those that are about to
//! go. Calls that have been admitted stay admitted.
//!
//! Listeners hear of the changes in their order, see `resizes.rs`.

use std::time::Duration;

use super::engine::Engine;
use super::permit::Limits;
use super::resizes::Resize;
use crate::circuit::CircuitBreakerConfig;
use crate::config::{BulkheadConfig, check_timeout};
use crate::error::BuildError;
use crate::event::BulkheadEvent;
use crate::panic::note;
use crate::stats::HealthThresholds;

/// Gives other limits in time to calls that set none of their own.
pub(crate) fn set_queue_timeout(
    engine: &Engine,
    limit: Option<Duration>,
) -> Result<(), BuildError> {
    check_change(engine, "queue_timeout", limit)?;
    engine.default_timeouts.set_queue_timeout(limit);
    Ok(())
}

/// As [`set_queue_timeout`].
pub(crate) fn set_execution_timeout(
    engine: &Engine,
    limit: Option<Duration>,
) -> Result<(), BuildError> {
    check_change(engine, "execution_timeout", limit)?;
    engine.default_timeouts.set_execution_timeout(limit);
    Ok(())
}

/// Gives other rules to the circuit.
pub(crate) fn set_circuit_breaker(
    engine: &Engine,
    config: CircuitBreakerConfig,
) -> Result<(), BuildError> {
    let Some(breaker) = &engine.breaker else {
        return Err(BuildError::NoCircuitBreaker {
            bulkhead: engine.name.to_string(),
        });
    };
    if engine.permits.is_closed() {
        return Err(is_shut_down(engine));
    }
    breaker.set_config(config)
}

/// Lets other thresholds decide whether the bulkhead is well.
pub(crate) fn set_health_thresholds(
    engine: &Engine,
    thresholds: HealthThresholds,
) -> Result<(), BuildError> {
    let valid = thresholds.validate();
    valid.map_err(|error| error.of(&engine.name))?;
    if engine.permits.is_closed() {
        return Err(is_shut_down(engine));
    }
    engine.set_health_thresholds(thresholds);
    Ok(())
}

fn check_change(
    engine: &Engine,
    field: &'static str,
    limit: Option<Duration>,
) -> Result<(), BuildError> {
    check_timeout(field, limit).map_err(|error| error.of(&engine.name))?;
    if engine.permits.is_closed() {
        return Err(is_shut_down(engine));
    }
    Ok(())
}

fn is_shut_down(engine: &Engine) -> BuildError {
    BuildError::ShutDown {
        bulkhead: engine.name.to_string(),
    }
}

/// A bulkhead whose limits change: what differs between the two kinds. One thread at a time calls this.
pub(crate) trait ResizeTarget {
    fn engine(&self) -> &Engine;
    /// Makes room for so many calls.
    fn reserve(&self, to: Limits) -> Result<(), BuildError>;
    /// From here on there are to be so many slots or workers. After an error there may be more or fewer.
    fn set_concurrent_calls(&self, count: usize) -> Result<(), BuildError>;
    /// Does what may run code of users, under no lock.
    fn settle(&self);
}

/// Gives the new limits to a bulkhead.
pub(crate) fn resize(
    bulkhead: &impl ResizeTarget,
    max_concurrent_calls: usize,
    max_queue_size: usize,
) -> Result<(), BuildError> {
    let engine = bulkhead.engine();
    BulkheadConfig::check_limits(max_concurrent_calls, max_queue_size)
        .map_err(|error| error.of(&engine.name))?;
    let to = Limits::new(max_concurrent_calls, max_queue_size);
    let done = {
        let mut resizes = engine.resizes.lock();
        let from = engine.limits();
        if to == from && !engine.permits.is_closed() {
            return Ok(());
        }
        let done = change(bulkhead, from, to);
        if done.is_ok() {
            resizes.add(Resize { from, to });
        }
        done
    };
    bulkhead.settle();
    engine.permits.look_for_relief_after_change();
    tell_of_changes(engine);
    done
}

/// Under the lock.
fn change(bulkhead: &impl ResizeTarget, from: Limits, to: Limits) -> Result<(), BuildError> {
    let engine = bulkhead.engine();
    if engine.permits.is_closed() {
        return Err(is_shut_down(engine));
    }
    engine.reserve_slots(to.max_concurrent_calls);
    bulkhead.reserve(to)?;
    if !engine.permits.set_limits(to) {
        return Err(is_shut_down(engine));
    }
    let done = bulkhead.set_concurrent_calls(to.max_concurrent_calls);
    if to.max_concurrent_calls <= from.max_concurrent_calls {
        // A worker that the system has refused before may be missing still. The change does not need it.
        return Ok(());
    }
    if done.is_err() {
        // Calls that were admitted meanwhile stay, as after any change to fewer.
        let _unless_closed = engine.permits.set_limits(from);
        let _as_before = bulkhead.set_concurrent_calls(from.max_concurrent_calls);
    }
    done
}

/// Tells of each change, in their order. If another thread is telling, that thread goes on with what is left.
fn tell_of_changes(engine: &Engine) {
    let mut next = engine.resizes.lock().next(false);
    while let Some(Resize { from, to }) = next {
        let name = &*engine.name;
        note(|| {
            log::info!(
                target: "bulkman",
                "bulkhead `{name}` goes from {} concurrent calls and {} in the queue to {} and {}",
                from.max_concurrent_calls, from.max_queue_size, to.max_concurrent_calls, to.max_queue_size,
            );
        });
        engine.tell(|| BulkheadEvent::Resized {
            bulkhead: name,
            max_concurrent_calls: to.max_concurrent_calls,
            max_queue_size: to.max_queue_size,
            concurrent_calls_before: from.max_concurrent_calls,
            queue_size_before: from.max_queue_size,
        });
        next = engine.resizes.lock().next(true);
    }
}

//! How the limits of a bulkhead change while it works, wherever its tasks run.
//!
//! 1. The bulkhead gets ready for more calls: counters, and then slots, or room in the queue and workers. If the system
//!    refuses any of them, nothing has changed.
//! 2. The permits go by the new limits, see `permit.rs`: from here on nobody is admitted by the old ones.
//! 3. Slots or workers that are too many go: those without a task at once, and the others when their tasks have ended.
//!
//! So there are never more places than there is room for. Calls that have been admitted stay admitted.

use std::time::Duration;

use super::engine::Engine;
use super::permit::Limits;
use crate::circuit::CircuitBreakerConfig;
use crate::config::{BulkheadConfig, check_timeout};
use crate::error::BuildError;
use crate::event::BulkheadEvent;
use crate::panic::note;

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
    /// Makes room for what the new limits have more.
    fn grow(&self, to: Limits) -> Result<(), BuildError>;
    /// Lets go what the new limits have less.
    fn shrink(&self, to: Limits);
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
    let from = {
        let _one_at_a_time = engine.resizing.lock();
        let from = engine.limits();
        if engine.permits.is_closed() {
            return Err(is_shut_down(engine));
        }
        if to == from {
            return Ok(());
        }
        engine.reserve_slots(to.max_concurrent_calls);
        bulkhead.grow(to)?;
        if !engine.permits.set_limits(to) {
            return Err(is_shut_down(engine));
        }
        bulkhead.shrink(to);
        from
    };
    bulkhead.settle();
    engine.permits.look_for_relief_after_change();
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
    Ok(())
}

//! The policies that the settings of a dependency name, made once for all its pipelines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::hierarchy::Resolved;
use super::level::ConfigLevel;
use crate::clock::Clock;
use crate::error::BuildError;
use crate::policy::{Hedge, PipelineListener, RateLimit, Retry, RetryBudget};

/// What the pipelines of a dependency share.
pub(super) struct Policies {
    budget: RetryBudget,
    retry: Option<RetryPart>,
    pub(super) rate_limit: Option<RateLimit>,
    hedge: Option<Hedge>,
    operations: BTreeMap<String, OfOperation>,
    pub(super) listeners: Arc<Vec<PipelineListener>>,
}

/// What an operation has in place of the dependency's.
struct OfOperation {
    retry: Option<RetryPart>,
    hedge: Option<Hedge>,
}

/// A retry, and the limit of each of its attempts.
#[derive(Clone)]
pub(super) struct RetryPart {
    pub(super) retry: Retry,
    pub(super) attempt_timeout: Option<Duration>,
}

impl Policies {
    pub(super) fn of(
        resolved: &Resolved,
        name: &str,
        clock: &Clock,
        listeners: Arc<Vec<PipelineListener>>,
    ) -> Result<Self, BuildError> {
        let budget = resolved.retry.new_budget();
        let rate_limit = if resolved.has_rate_limit.value {
            let limit = resolved.rate_limit.rate_limit()?;
            Some(limit.name(name).clock(clock.clone()))
        } else {
            None
        };
        Ok(Self {
            retry: RetryPart::of(resolved, &budget),
            budget,
            rate_limit,
            hedge: hedge_of(resolved),
            operations: BTreeMap::new(),
            listeners,
        })
    }

    /// What is special about an operation.
    pub(super) fn add(&mut self, operation: &str, resolved: &Resolved) {
        let is_its_own = |rule| {
            let decided = resolved.retry_rules.get(rule);
            decided.is_some_and(|decided| decided.level == ConfigLevel::Operation)
        };
        let budget = if is_its_own("budget") || is_its_own("budget_reserve") {
            resolved.retry.new_budget()
        } else {
            self.budget.clone()
        };
        let of_operation = OfOperation {
            retry: RetryPart::of(resolved, &budget),
            hedge: hedge_of(resolved),
        };
        self.operations.insert(operation.to_owned(), of_operation);
    }

    fn of_operation(&self, operation: Option<&str>) -> Option<&OfOperation> {
        operation.and_then(|operation| self.operations.get(operation))
    }

    pub(super) fn retry(&self, operation: Option<&str>) -> Option<RetryPart> {
        match self.of_operation(operation) {
            Some(own) => own.retry.clone(),
            None => self.retry.clone(),
        }
    }

    pub(super) fn hedge(&self, operation: Option<&str>) -> Option<Hedge> {
        match self.of_operation(operation) {
            Some(own) => own.hedge.clone(),
            None => self.hedge.clone(),
        }
    }
}

fn hedge_of(resolved: &Resolved) -> Option<Hedge> {
    resolved.has_hedge.value.then(|| resolved.hedge.hedge())?
}

impl RetryPart {
    fn of(resolved: &Resolved, budget: &RetryBudget) -> Option<Self> {
        resolved.has_retry.value.then(|| Self {
            retry: resolved.retry.retry(budget.clone()),
            attempt_timeout: resolved.retry.attempt_timeout,
        })
    }
}

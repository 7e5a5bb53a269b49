//! The numbers of bulkheads and pipelines in the formats of monitoring systems.
//!
//! | | for | needs |
//! |---|---|---|
//! | [`PrometheusText`] | text that Prometheus, and what speaks its language, can scrape | no other crate |
//! | `MetricsPublisher` | the recorder of the `metrics` crate | the feature `metrics` |
//! | `OpenTelemetryInstruments` | a meter of OpenTelemetry | the feature `opentelemetry` |
//!
//! All of them read [`stats`](crate::Bulkhead::stats) when somebody asks. A call costs nothing more, and 10,000 bulkheads
//! that nobody uses cost their readings. Pipelines are given to them apart, and have
//! [metrics of their own](#the-metrics-of-pipelines).
//!
//! # The metrics
//!
//! Each has the label `bulkhead`, the bulkhead's name. These are Prometheus' names, and those of the `metrics` crate. In
//! OpenTelemetry `bulkman_busy_seconds_total` is `bulkman.busy` with the unit `s`, and `bulkman_active_calls` is
//! `bulkman.active_calls` with the unit `{call}`: an exporter for Prometheus makes the same names of them.
//!
//! | metric | type | labels | what it is |
//! |---|---|---|---|
//! | `bulkman_submitted_calls_total` | counter | | calls that were admitted or refused |
//! | `bulkman_rejected_calls_total` | counter | `reason`: `full`, `circuit_open`, `shut_down` | calls refused on their way in |
//! | `bulkman_unstarted_calls_total` | counter | `reason`: `cancelled`, `timed_out`, `circuit_open` | calls that were admitted and never started |
//! | `bulkman_finished_calls_total` | counter | `outcome`: `succeeded`, `failed`, `panicked` | tasks that ran to their end |
//! | `bulkman_caller_timeouts_total` | counter | `started`: `true`, `false` | callers that left at their own limits, by whether the task had started |
//! | `bulkman_busy_seconds_total` | counter | | time that all workers, or slots, together were busy; its rate over N is the utilization |
//! | `bulkman_active_calls` | gauge | | tasks that run now |
//! | `bulkman_queued_calls` | gauge | | calls that wait for a worker or a slot |
//! | `bulkman_abandoned_calls` | gauge | | tasks that run although their callers have left |
//! | `bulkman_max_concurrent_calls` | gauge | | N |
//! | `bulkman_max_queue_size` | gauge | | Q |
//! | `bulkman_worker_threads` | gauge | | worker threads at this moment; 0 for a bulkhead without threads |
//! | `bulkman_longest_running_seconds` | gauge | | how long the oldest of the running tasks has run; 0 if none runs |
//! | `bulkman_longest_queued_seconds` | gauge | | how long the oldest of the waiting calls has waited; 0 if none waits |
//! | `bulkman_state` | gauge | `state`: `healthy`, `degraded`, `isolated`, `shut_down` | 1 for the state that the bulkhead is in, 0 for the others |
//! | `bulkman_circuit_state` | gauge | `state`: `closed`, `half_open`, `open` | the same for its circuit; only of bulkheads that have one |
//! | `bulkman_queue_wait_seconds` | histogram | | how long started calls had waited |
//! | `bulkman_execution_seconds` | histogram | | how long tasks ran |
//!
//! # The metrics of pipelines
//!
//! A bulkhead counts attempts, and a [`Pipeline`](crate::policy::Pipeline) counts calls: what callers got in the end, and what
//! that took. Each metric has the label `pipeline`, the pipeline's name. The numbers are those of
//! [`PipelineStats`](crate::policy::PipelineStats), from [`Pipeline::stats`](crate::policy::Pipeline::stats) or
//! [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats).
//!
//! | metric | type | labels | what it is |
//! |---|---|---|---|
//! | `bulkman_pipeline_calls_total` | counter | `outcome`: `succeeded`, `fallback`, or the error: `failed`, `panicked`, `timeout`, `queue_timeout`, `full`, `circuit_open`, `rate_limited`, `shut_down`, `cancelled`, `too_deep`, `no_thread` | calls by what became of them in the end; `fallback` has answered in place of an error |
//! | `bulkman_pipeline_retries_total` | counter | | attempts beyond the first of a call |
//! | `bulkman_pipeline_retry_stops_total` | counter | `reason`: `not_retryable`, `attempts_used_up`, `budget_used_up`, `deadline_too_near`, `delay_too_long`, `stopped` | calls whose last attempt failed, by why there was no other |
//! | `bulkman_pipeline_refused_attempts_total` | counter | `reason`: `rate_limited`, `circuit_open` | attempts that the pipeline's own rate limit or circuit breaker refused |
//! | `bulkman_pipeline_hedges_total` | counter | `won`: `true`, `false` | second attempts that a hedge has started, by whether they gave the result |
//! | `bulkman_pipeline_duration_seconds` | histogram | | how long calls took, with all attempts and pauses |
//!

mod families;
mod labels;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod prometheus;
#[cfg(feature = "opentelemetry")]
mod running_totals;

pub use labels::InvalidLabelName;
#[cfg(feature = "metrics")]
pub use metrics::MetricsPublisher;
#[cfg(feature = "opentelemetry")]
pub use opentelemetry::OpenTelemetryInstruments;
pub use prometheus::PrometheusText;

//! Prometheus' text format, version 0.0.4: one family of samples after the other, each with its help and type.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> describes the format,
//! <https://prometheus.io/docs/practices/naming/> the names.

use std::fmt::{self, Write};
use std::time::Duration;

use thiserror::Error;

use crate::circuit::CircuitState;
use crate::stats::{BulkheadState, BulkheadStats, Distribution};

/// Writes the numbers of bulkheads in Prometheus' text format.
///
/// ```
/// use bulkman::export::PrometheusText;
/// use bulkman::{BulkheadConfig, BulkheadRegistry};
///
/// let registry = BulkheadRegistry::new();
/// let files = registry.create(BulkheadConfig::new("files").max_concurrent_calls(4))?;
/// files.run(|| ()).wait().into_result()?;
///
/// let text = PrometheusText::new().label("service", "shop")?.render(&registry.stats());
/// assert!(text.contains(r#"bulkman_finished_calls_total{service="shop",bulkhead="files",outcome="succeeded"} 1"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Send the text with the content type [`CONTENT_TYPE`](Self::CONTENT_TYPE). The example `metrics_endpoint` is a whole
/// server, and the folder `prometheus` beside it has alert rules and a dashboard for Grafana.
///
/// # The metrics
///
/// Each sample has the label `bulkhead`, the bulkhead's name.
///
/// | metric | type | labels | what it is |
/// |---|---|---|---|
/// | `bulkman_submitted_calls_total` | counter | | calls that were admitted or refused |
/// | `bulkman_rejected_calls_total` | counter | `reason`: `full`, `circuit_open`, `shut_down` | calls refused on their way in |
/// | `bulkman_unstarted_calls_total` | counter | `reason`: `cancelled`, `timed_out`, `circuit_open` | calls that were admitted and never started |
/// | `bulkman_finished_calls_total` | counter | `outcome`: `succeeded`, `failed`, `panicked` | tasks that ran to their end |
/// | `bulkman_active_calls` | gauge | | tasks that run now |
/// | `bulkman_queued_calls` | gauge | | calls that wait for a worker or a slot |
/// | `bulkman_abandoned_calls` | gauge | | tasks that run although their callers have left |
/// | `bulkman_max_concurrent_calls` | gauge | | N |
/// | `bulkman_max_queue_size` | gauge | | Q |
/// | `bulkman_caller_timeouts_total` | counter | `started`: `true`, `false` | callers that left at their own limits, by whether the task had started |
/// | `bulkman_busy_seconds_total` | counter | | time that all workers, or slots, together were busy; its rate over N is the utilization |
/// | `bulkman_longest_running_seconds` | gauge | | how long the oldest of the running tasks has run; 0 if none runs |
/// | `bulkman_longest_queued_seconds` | gauge | | how long the oldest of the waiting calls has waited; 0 if none waits |
/// | `bulkman_state` | gauge | `state`: `healthy`, `degraded`, `isolated`, `shut_down` | 1 for the state that the bulkhead is in, 0 for the others |
/// | `bulkman_circuit_state` | gauge | `state`: `closed`, `half_open`, `open` | the same for its circuit; only of bulkheads that have one |
/// | `bulkman_queue_wait_seconds` | histogram | | how long started calls had waited |
/// | `bulkman_execution_seconds` | histogram | | how long tasks ran |
///
/// The counters begin anew with [`reset_stats`](crate::Bulkhead::reset_stats), as with a restart of the process;
/// Prometheus takes either for a counter reset.
///
/// # Histograms
///
/// Sum and count are exact. A bucket counts what surely is at most its bound: a duration less than an eighth below the
/// bound may be counted in the next bucket. So a quantile that Prometheus computes is never too low by this, and at most an
/// eighth too high.
#[derive(Clone, Debug)]
pub struct PrometheusText {
    buckets: Vec<Duration>,
    label_names: Vec<String>,
    /// As they stand in front of the label `bulkhead`.
    labels: String,
}

/// A label name that Prometheus does not take, from [`PrometheusText::label`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{}` is no label name for Prometheus: it {problem}", name.escape_debug()
)]
#[non_exhaustive]
pub struct InvalidLabelName {
    /// The name.
    pub name: String,
    problem: &'static str,
}

/// Labels that the samples have already; `le` is that of a histogram's bucket.
const OWN_LABELS: [&str; 6] = ["bulkhead", "reason", "outcome", "started", "state", "le"];

impl Default for PrometheusText {
    fn default() -> Self {
        const MILLIS: [u64; 14] = [
            1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
        ];
        Self {
            buckets: MILLIS.map(Duration::from_millis).to_vec(),
            label_names: Vec::new(),
            labels: String::new(),
        }
    }
}

impl PrometheusText {
    /// The content type of the text, for the HTTP response.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// With histograms of 14 buckets from 1 ms to 60 s.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the upper bounds of the histograms' buckets, in any order. The last bucket, without a bound, comes by itself.
    /// Zero and [`Duration::MAX`] are no bounds, and are left out.
    #[must_use]
    pub fn buckets(mut self, bounds: impl IntoIterator<Item = Duration>) -> Self {
        let is_bound = |bound: &Duration| !bound.is_zero() && *bound != Duration::MAX;
        self.buckets = bounds.into_iter().filter(is_bound).collect();
        self.buckets.sort_unstable();
        // As they are written: far from zero, bounds a nanosecond apart read the same.
        self.buckets.dedup_by_key(|bound| bound.as_secs_f64());
        self
    }

    /// Adds a label to each sample, such as the service's name. The value may be any text.
    ///
    /// # Errors
    ///
    /// [`InvalidLabelName`] if Prometheus does not take the name, or the samples have a label of this name already.
    pub fn label(mut self, name: &str, value: &str) -> Result<Self, InvalidLabelName> {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let goes_on = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let problem = if !begins || !goes_on {
            Some("must be letters of ASCII, digits and underscores, and not begin with a digit")
        } else if name.starts_with("__") {
            Some("must not begin with two underscores, which are for Prometheus' own labels")
        } else if OWN_LABELS.contains(&name) || self.label_names.iter().any(|own| own == name) {
            Some("is there already")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(InvalidLabelName {
                name: name.to_owned(),
                problem,
            }),
            None => {
                self.label_names.push(name.to_owned());
                push(
                    &mut self.labels,
                    format_args!("{name}=\"{}\",", Escaped(value)),
                );
                Ok(self)
            }
        }
    }

    /// The text for these bulkheads: what [`BulkheadRegistry::stats`](crate::BulkheadRegistry::stats) gives, or
    /// [`Bulkhead::stats`](crate::Bulkhead::stats) of each. Two bulkheads of the same name would make the text invalid.
    #[must_use]
    pub fn render<'a>(&self, stats: impl IntoIterator<Item = &'a BulkheadStats>) -> String {
        let stats: Vec<_> = stats.into_iter().collect();
        let mut text = Text {
            out: String::new(),
            labels: &self.labels,
            stats: &stats,
        };
        text.counters();
        text.gauges();
        text.states();
        text.histogram(
            "bulkman_queue_wait_seconds",
            "How long started calls had waited.",
            &self.buckets,
            |stats| &stats.queue_wait,
        );
        text.histogram(
            "bulkman_execution_seconds",
            "How long tasks ran.",
            &self.buckets,
            |stats| &stats.run_time,
        );
        text.out
    }
}

/// The text as far as it is written.
struct Text<'a> {
    out: String,
    labels: &'a str,
    stats: &'a [&'a BulkheadStats],
}

impl Text<'_> {
    fn counters(&mut self) {
        self.family(
            "bulkman_submitted_calls_total",
            "Calls that were admitted or refused.",
            |sample, stats| sample.write(&[], stats.submitted_executions),
        );
        self.family(
            "bulkman_rejected_calls_total",
            "Calls refused on their way in.",
            |sample, stats| {
                sample.write(&[("reason", "full")], stats.rejected_full);
                sample.write(&[("reason", "circuit_open")], stats.rejected_circuit_open);
                sample.write(&[("reason", "shut_down")], stats.rejected_shut_down);
            },
        );
        self.family(
            "bulkman_unstarted_calls_total",
            "Calls that were admitted and never started.",
            |sample, stats| {
                sample.write(&[("reason", "cancelled")], stats.cancelled_executions);
                sample.write(&[("reason", "timed_out")], stats.timed_out_executions);
                sample.write(
                    &[("reason", "circuit_open")],
                    stats.refused_in_queue_executions,
                );
            },
        );
        self.family(
            "bulkman_finished_calls_total",
            "Tasks that ran to their end.",
            |sample, stats| {
                sample.write(&[("outcome", "succeeded")], stats.successful_executions);
                sample.write(&[("outcome", "failed")], stats.failed_executions);
                sample.write(&[("outcome", "panicked")], stats.panicked_executions);
            },
        );
        self.family(
            "bulkman_caller_timeouts_total",
            "Callers that left at their own limits, by whether the task had started.",
            |sample, stats| {
                sample.write(&[("started", "true")], stats.caller_timeouts_started);
                sample.write(&[("started", "false")], stats.caller_timeouts_queued);
            },
        );
        self.family(
            "bulkman_busy_seconds_total",
            "Time that all workers, or slots, together were busy.",
            |sample, stats| sample.write(&[], stats.busy_time.as_secs_f64()),
        );
    }

    fn gauges(&mut self) {
        self.family(
            "bulkman_active_calls",
            "Tasks that run now.",
            |sample, stats| sample.write(&[], stats.active_tasks),
        );
        self.family(
            "bulkman_queued_calls",
            "Calls that wait for a worker or a slot.",
            |sample, stats| sample.write(&[], stats.queued_tasks),
        );
        self.family(
            "bulkman_abandoned_calls",
            "Tasks that run although their callers have left.",
            |sample, stats| sample.write(&[], stats.abandoned_tasks),
        );
        self.family(
            "bulkman_max_concurrent_calls",
            "The number of workers, or slots.",
            |sample, stats| sample.write(&[], stats.max_concurrent_calls),
        );
        self.family(
            "bulkman_max_queue_size",
            "The number of calls that may wait.",
            |sample, stats| sample.write(&[], stats.max_queue_size),
        );
        self.family(
            "bulkman_longest_running_seconds",
            "How long the oldest of the running tasks has run, 0 if none runs.",
            |sample, stats| {
                let longest = stats.longest_running.unwrap_or_default();
                sample.write(&[], longest.as_secs_f64());
            },
        );
        self.family(
            "bulkman_longest_queued_seconds",
            "How long the oldest of the waiting calls has waited, 0 if none waits.",
            |sample, stats| {
                let longest = stats.longest_queued.unwrap_or_default();
                sample.write(&[], longest.as_secs_f64());
            },
        );
    }

    fn states(&mut self) {
        self.family(
            "bulkman_state",
            "1 for the state that the bulkhead is in, 0 for the others.",
            |sample, stats| {
                const STATES: [(&str, BulkheadState); 4] = [
                    ("healthy", BulkheadState::Healthy),
                    ("degraded", BulkheadState::Degraded),
                    ("isolated", BulkheadState::Isolated),
                    ("shut_down", BulkheadState::ShutDown),
                ];
                for (name, state) in STATES {
                    sample.write(&[("state", name)], u64::from(stats.state == state));
                }
            },
        );
        self.family(
            "bulkman_circuit_state",
            "1 for the state that the bulkhead's circuit is in, 0 for the others.",
            |sample, stats| {
                const STATES: [(&str, CircuitState); 3] = [
                    ("closed", CircuitState::Closed),
                    ("half_open", CircuitState::HalfOpen),
                    ("open", CircuitState::Open),
                ];
                let Some(now) = stats.circuit_state else {
                    return;
                };
                for (name, state) in STATES {
                    sample.write(&[("state", name)], u64::from(now == state));
                }
            },
        );
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[Duration],
        distribution: impl Fn(&BulkheadStats) -> &Distribution,
    ) {
        self.head(name, help, "histogram");
        let bounds: Vec<(Duration, String)> = bounds
            .iter()
            .map(|bound| (*bound, bound.as_secs_f64().to_string()))
            .collect();
        for stats in self.stats {
            let distribution = distribution(stats);
            let count = distribution.count();
            let mut sample = Sample {
                out: &mut self.out,
                name: format!("{name}_bucket"),
                labels: self.labels,
                bulkhead: &stats.name,
            };
            for (bound, le) in &bounds {
                sample.write(&[("le", le)], distribution.count_at_most(*bound).min(count));
            }
            sample.write(&[("le", "+Inf")], count);
            sample.name = format!("{name}_sum");
            sample.write(&[], distribution.sum().as_secs_f64());
            sample.name = format!("{name}_count");
            sample.write(&[], count);
        }
    }

    /// A counter if the name says so, else a gauge.
    fn family(&mut self, name: &str, help: &str, write: impl Fn(&mut Sample<'_>, &BulkheadStats)) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        self.head(name, help, kind);
        for stats in self.stats {
            let mut sample = Sample {
                out: &mut self.out,
                name: name.to_owned(),
                labels: self.labels,
                bulkhead: &stats.name,
            };
            write(&mut sample, stats);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        push(
            &mut self.out,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
    }
}

/// The samples of one bulkhead in one family.
struct Sample<'a> {
    out: &'a mut String,
    name: String,
    labels: &'a str,
    bulkhead: &'a str,
}

impl Sample<'_> {
    fn write(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        let Self {
            out,
            name,
            labels: common,
            bulkhead,
        } = self;
        push(
            out,
            format_args!("{name}{{{common}bulkhead=\"{}\"", Escaped(bulkhead)),
        );
        for (name, value) in labels {
            push(out, format_args!(",{name}=\"{value}\""));
        }
        push(out, format_args!("}} {value}\n"));
    }
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a string takes everything");
}

/// A label's value between its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

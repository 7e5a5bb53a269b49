//! Prometheus' text format, version 0.0.4: one family of samples after the other, each with its help and type.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> describes the format,
//! <https://prometheus.io/docs/practices/naming/> the names.

use std::fmt::{self, Write};
use std::time::Duration;

use super::families::{BUCKETS, Exported, Family, Histogram, Kind, Unit, Value, prometheus_name};
use super::labels::{InvalidLabelName, check_label};
use crate::policy::PipelineStats;
use crate::stats::BulkheadStats;

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
/// Each sample has the label `bulkhead`, the bulkhead's name. The [table](super#the-metrics) has all metrics.
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
    /// As they stand in front of the label with the name.
    labels: String,
}

impl Default for PrometheusText {
    fn default() -> Self {
        Self {
            buckets: BUCKETS.to_vec(),
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
        check_label(name, &self.label_names)?;
        self.label_names.push(name.to_owned());
        push(
            &mut self.labels,
            format_args!("{name}=\"{}\",", Escaped(value)),
        );
        Ok(self)
    }

    /// The text for these bulkheads: what [`BulkheadRegistry::stats`](crate::BulkheadRegistry::stats) gives, or
    /// [`Bulkhead::stats`](crate::Bulkhead::stats) of each. Two bulkheads of the same name would make the text invalid.
    #[must_use]
    pub fn render<'a>(&self, stats: impl IntoIterator<Item = &'a BulkheadStats>) -> String {
        self.render_all(stats)
    }

    /// The text of these pipelines: what [`Pipeline::stats`](crate::policy::Pipeline::stats) has, or
    /// [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats). It belongs behind that of the bulkheads, in the
    /// same page. Two pipelines of the same name would make the text invalid.
    ///
    /// ```
    /// use bulkman::export::PrometheusText;
    /// use bulkman::policy::{Pipeline, Retry};
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::sync::Arc;
    ///
    /// let users = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
    /// let pipeline = Pipeline::builder("users").retry(Retry::new(3)).bulkhead(&users).build()?;
    /// assert!(pipeline.execute(|| "42".parse::<u32>()).is_success());
    ///
    /// let prometheus = PrometheusText::new();
    /// let page = prometheus.render([&users.stats()]) + &prometheus.render_pipelines([&pipeline.stats()]);
    /// assert!(page.contains(r#"bulkman_pipeline_calls_total{pipeline="users",outcome="succeeded"} 1"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn render_pipelines<'a>(
        &self,
        stats: impl IntoIterator<Item = &'a PipelineStats>,
    ) -> String {
        self.render_all(stats)
    }

    fn render_all<'a, S: Exported>(&self, stats: impl IntoIterator<Item = &'a S>) -> String {
        let stats: Vec<_> = stats.into_iter().collect();
        let mut text = Text {
            out: String::new(),
            labels: &self.labels,
            stats: &stats,
        };
        for family in S::FAMILIES {
            text.family(family);
        }
        for histogram in S::HISTOGRAMS {
            text.histogram(histogram, &self.buckets);
        }
        text.out
    }
}

/// The text as far as it is written.
struct Text<'a, S> {
    out: String,
    labels: &'a str,
    stats: &'a [&'a S],
}

impl<S: Exported> Text<'_, S> {
    fn histogram(&mut self, histogram: &Histogram<S>, bounds: &[Duration]) {
        let name = &prometheus_name(histogram.name, None, Unit::Seconds);
        self.head(name, histogram.help, "histogram");
        let bounds: Vec<(Duration, String)> = bounds
            .iter()
            .map(|bound| (*bound, bound.as_secs_f64().to_string()))
            .collect();
        for stats in self.stats {
            let distribution = (histogram.read)(stats);
            let count = distribution.count();
            let mut sample = Sample {
                out: &mut self.out,
                name: format!("{name}_bucket"),
                labels: self.labels,
                label: S::LABEL,
                of: stats.name(),
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

    fn family(&mut self, family: &Family<S>) {
        let name = prometheus_name(family.name, Some(family.kind), family.unit);
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Level | Kind::Gauge => "gauge",
        };
        self.head(&name, family.help, kind);
        let mut sample = Sample {
            out: &mut self.out,
            name,
            labels: self.labels,
            label: S::LABEL,
            of: "",
        };
        for stats in self.stats {
            sample.of = stats.name();
            for series in family.series {
                let label = series.label.as_slice();
                match (series.read)(stats) {
                    Some(Value::Count(count)) => sample.write(label, count),
                    Some(Value::Time(time)) => sample.write(label, time.as_secs_f64()),
                    None => {}
                }
            }
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        push(
            &mut self.out,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
    }
}

/// The samples of one bulkhead or pipeline in one family.
struct Sample<'a> {
    out: &'a mut String,
    name: String,
    labels: &'a str,
    label: &'a str,
    of: &'a str,
}

impl Sample<'_> {
    fn write(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        let Self {
            out,
            name,
            labels: common,
            label,
            of,
        } = self;
        push(
            out,
            format_args!("{name}{{{common}{label}=\"{}\"", Escaped(of)),
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

//! The feature `metrics`: snapshots go to the recorder of the crate of that name.

use std::collections::HashMap;
use std::sync::Arc;

use ::metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit as MetricsUnit,
    with_recorder,
};

use super::families::{Exported, Family, Kind, Series, Unit, Value, prometheus_name};
use super::labels::{InvalidLabelName, check_label};
use crate::panic::{contain, contain_in};
use crate::policy::PipelineStats;
use crate::stats::BulkheadStats;

/// Publishes the numbers of bulkheads to the recorder of the [`metrics`](https://docs.rs/metrics) crate, whichever exporter
/// stands behind it.
///
/// ```
/// use bulkman::export::MetricsPublisher;
/// use bulkman::{BulkheadConfig, BulkheadRegistry};
///
/// let registry = BulkheadRegistry::new();
/// let files = registry.create(BulkheadConfig::new("files").max_concurrent_calls(4))?;
/// files.run(|| ()).wait().into_result()?;
///
/// let mut publisher = MetricsPublisher::new().label("service", "shop")?;
/// publisher.publish(&registry.stats()); // before each scrape, or every few seconds
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The crate starts no thread for it. Call [`publish`](Self::publish) where the exporter renders, or from a thread that does
/// so every few seconds. The names are those of the [table](super#the-metrics); their descriptions and units are given to
/// the recorder too. Its handles are looked up once for each bulkhead, and kept.
///
/// # Counters and histograms
///
/// The recorder gets what has been added since the last time, and a recorder that is installed late gets all of it. The same
/// bulkhead given to two publishers counts twice. Two bulkheads of one name, given to one publisher, would be taken for a new
/// one each time, and counted from the start again: names have to differ, as a registry sees to.
///
/// Counters of `metrics` are whole numbers: `bulkman_busy_seconds_total` grows by whole seconds, and loses no part of one.
/// A duration is recorded as the upper end of a range that is at most an eighth wide: never as less than it was, and at most
/// an eighth more.
///
/// If [`reset_stats`](crate::Bulkhead::reset_stats) was called, or the bulkhead is a new one of the same name, the recorder's
/// counters go on: what has come since then is added.
#[derive(Debug, Default)]
pub struct MetricsPublisher {
    label_names: Vec<String>,
    labels: Vec<Label>,
    /// The recorder that the handles belong to, by its address.
    recorder: usize,
    bulkheads: HashMap<Arc<str>, Published>,
    pipelines: HashMap<Arc<str>, Published>,
}

/// What the recorder has of one bulkhead or pipeline.
#[derive(Debug, Default)]
struct Published {
    /// One for each series of [`Exported::FAMILIES`], from the first value on.
    series: Vec<Option<Handle>>,
    histograms: Vec<PublishedHistogram>,
    /// What its counters count, by [`Exported::counting`].
    counting: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Handle {
    Counter { counter: Counter, told: u64 },
    Gauge(Gauge),
}

#[derive(Debug)]
struct PublishedHistogram {
    histogram: Histogram,
    /// How many durations it was told of each range of which there are any, in order.
    told: Vec<(usize, u64)>,
}

const METADATA: Metadata<'static> = Metadata::new("bulkman", Level::INFO, Some("bulkman::export"));

impl MetricsPublisher {
    /// A publisher without labels of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a label to each metric, such as the service's name. The value may be any text.
    ///
    /// # Errors
    ///
    /// [`InvalidLabelName`] if Prometheus does not take the name, or the metrics have a label of this name already. The
    /// `metrics` crate itself takes any.
    pub fn label(mut self, name: &str, value: &str) -> Result<Self, InvalidLabelName> {
        check_label(name, &self.label_names)?;
        self.label_names.push(name.to_owned());
        self.labels
            .push(Label::new(name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Gives the recorder these numbers: what [`BulkheadRegistry::stats`](crate::BulkheadRegistry::stats) has, or
    /// [`Bulkhead::stats`](crate::Bulkhead::stats) of each. Without a recorder it does nothing that matters.
    ///
    /// A recorder that panics loses the numbers of that bulkhead for this time; the panic is logged.
    pub fn publish<'a>(&mut self, stats: impl IntoIterator<Item = &'a BulkheadStats>) {
        with_recorder(|recorder| {
            self.meet(recorder);
            publish_all(recorder, &self.labels, &mut self.bulkheads, stats);
        });
    }

    /// The same for pipelines: what [`Pipeline::stats`](crate::policy::Pipeline::stats) has, or
    /// [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats).
    ///
    /// ```
    /// use bulkman::export::MetricsPublisher;
    /// use bulkman::policy::{Pipeline, Retry};
    ///
    /// let pipeline: Pipeline<std::io::Error, _, _> = Pipeline::builder("users").retry(Retry::new(3)).build()?;
    /// let mut publisher = MetricsPublisher::new();
    /// publisher.publish_pipelines([&pipeline.stats()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_pipelines<'a>(&mut self, stats: impl IntoIterator<Item = &'a PipelineStats>) {
        with_recorder(|recorder| {
            self.meet(recorder);
            publish_all(recorder, &self.labels, &mut self.pipelines, stats);
        });
    }

    /// Begins anew if it is another recorder than the one before.
    fn meet(&mut self, recorder: &dyn Recorder) {
        let address = std::ptr::from_ref(recorder).addr();
        if address != self.recorder {
            self.recorder = address;
            self.bulkheads.clear();
            self.pipelines.clear();
            contain("bulkman", "a metrics recorder", || {
                describe::<BulkheadStats>(recorder);
                describe::<PipelineStats>(recorder);
            });
        }
    }

    /// Forgets a bulkhead that is no more: sets its gauges to zero, and lets go of its handles. The recorder itself keeps
    /// what it has, since `metrics` takes nothing back. For programs whose bulkheads have ever new names.
    pub fn forget(&mut self, bulkhead: &str) {
        if let Some(published) = self.bulkheads.remove(bulkhead) {
            contain(bulkhead, "a metrics recorder", || published.forget());
        }
    }

    /// Lets go of the handles of a pipeline that is no more.
    pub fn forget_pipeline(&mut self, pipeline: &str) {
        if let Some(published) = self.pipelines.remove(pipeline) {
            contain_in("pipeline", pipeline, "a metrics recorder", || {
                published.forget();
            });
        }
    }
}

fn publish_all<'a, S: Exported>(
    recorder: &dyn Recorder,
    labels: &[Label],
    known: &mut HashMap<Arc<str>, Published>,
    stats: impl IntoIterator<Item = &'a S>,
) {
    for stats in stats {
        let name = stats.name();
        let published = match known.get_mut(name) {
            Some(published) => published,
            None => known.entry(Arc::clone(name)).or_default(),
        };
        let register = Register {
            recorder,
            labels,
            name: Label::new(S::LABEL, name.to_string()),
        };
        contain_in(S::LABEL, name, "a metrics recorder", || {
            published.publish(&register, stats);
        });
    }
}

fn describe<S: Exported>(recorder: &dyn Recorder) {
    for family in S::FAMILIES {
        let unit = match family.unit {
            Unit::Calls => Some(MetricsUnit::Count),
            Unit::Seconds => Some(MetricsUnit::Seconds),
            Unit::None => None,
        };
        let name = KeyName::from(family.metric());
        match family.kind {
            Kind::Counter => recorder.describe_counter(name, unit, family.help.into()),
            Kind::Level | Kind::Gauge => recorder.describe_gauge(name, unit, family.help.into()),
        }
    }
    for histogram in S::HISTOGRAMS {
        let name = KeyName::from(prometheus_name(histogram.name, None, Unit::Seconds));
        recorder.describe_histogram(name, Some(MetricsUnit::Seconds), histogram.help.into());
    }
}

impl<S> Family<S> {
    fn metric(&self) -> String {
        prometheus_name(self.name, Some(self.kind), self.unit)
    }
}

/// Makes handles for one bulkhead or pipeline.
struct Register<'a> {
    recorder: &'a dyn Recorder,
    labels: &'a [Label],
    name: Label,
}

impl Register<'_> {
    fn key(&self, name: String, label: Option<(&'static str, &'static str)>) -> Key {
        let mut labels = self.labels.to_vec();
        labels.push(self.name.clone());
        labels.extend(label.map(|(name, value)| Label::from_static_parts(name, value)));
        Key::from_parts(name, labels)
    }

    fn series<S>(&self, family: &Family<S>, series: &Series<S>) -> Handle {
        let key = self.key(family.metric(), series.label);
        match family.kind {
            Kind::Counter => Handle::Counter {
                counter: self.recorder.register_counter(&key, &METADATA),
                told: 0,
            },
            Kind::Level | Kind::Gauge => {
                Handle::Gauge(self.recorder.register_gauge(&key, &METADATA))
            }
        }
    }

    fn histogram(&self, name: &str) -> PublishedHistogram {
        let key = self.key(prometheus_name(name, None, Unit::Seconds), None);
        PublishedHistogram {
            histogram: self.recorder.register_histogram(&key, &METADATA),
            told: Vec::new(),
        }
    }
}

impl Published {
    fn publish<S: Exported>(&mut self, register: &Register<'_>, stats: &S) {
        if self.histograms.is_empty() {
            self.series.resize_with(
                S::FAMILIES.iter().map(|family| family.series.len()).sum(),
                || None,
            );
            let histograms = S::HISTOGRAMS.iter();
            self.histograms = histograms.map(|of| register.histogram(of.name)).collect();
        }
        if self.counting != Some(stats.counting()) {
            self.begin_anew();
        }
        self.counting = Some(stats.counting());
        let series = S::FAMILIES
            .iter()
            .flat_map(|family| family.series.iter().map(move |series| (family, series)));
        for ((family, series), handle) in series.zip(&mut self.series) {
            if let Some(value) = (series.read)(stats) {
                handle
                    .get_or_insert_with(|| register.series(family, series))
                    .tell(value);
            }
        }
        for (of, published) in S::HISTOGRAMS.iter().zip(&mut self.histograms) {
            published.publish((of.read)(stats));
        }
    }

    fn forget(self) {
        for handle in self.series.into_iter().flatten() {
            if let Handle::Gauge(gauge) = handle {
                gauge.set(0.0);
            }
        }
    }

    fn begin_anew(&mut self) {
        for handle in self.series.iter_mut().flatten() {
            if let Handle::Counter { told, .. } = handle {
                *told = 0;
            }
        }
        for histogram in &mut self.histograms {
            histogram.told.clear();
        }
    }
}

impl Handle {
    fn tell(&mut self, value: Value) {
        match self {
            Self::Counter { counter, told } => {
                let value = value.as_u64();
                let added = value.saturating_sub(*told);
                // Before: a recorder that panics is not told again.
                *told = value;
                counter.increment(added);
            }
            Self::Gauge(gauge) => gauge.set(value.as_f64()),
        }
    }
}

impl PublishedHistogram {
    fn publish(&mut self, distribution: &crate::stats::Distribution) {
        let now: Vec<_> = distribution
            .ranges()
            .map(|(range, n, _)| (range, n))
            .collect();
        if now == self.told {
            return;
        }
        let before = std::mem::replace(&mut self.told, now);
        let mut before = before.into_iter().peekable();
        for (range, count, upper) in distribution.ranges() {
            let known = before.next_if(|(known, _)| *known == range);
            let added = count.saturating_sub(known.map_or(0, |(_, count)| count));
            let added = usize::try_from(added).unwrap_or(usize::MAX);
            if added > 0 {
                self.histogram.record_many(upper.as_secs_f64(), added);
            }
        }
    }
}

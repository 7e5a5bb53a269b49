//! The feature `opentelemetry`: the numbers as instruments of a meter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use ::opentelemetry::{KeyValue, Value as OtelValue};

use super::families::{
    BUCKETS, EXECUTION, Exported, Family, Histogram as Times, Kind, PIPELINE_DURATION, QUEUE_WAIT,
    Unit, Value,
};
use super::running_totals::{Numbers, RunningTotals};
use crate::event::{BulkheadEvent, BulkheadListener};
use crate::panic::contain;
use crate::policy::{PipelineEvent, PipelineStats};
use crate::stats::BulkheadStats;
use crate::sync::Mutex;

/// The numbers of bulkheads as instruments of OpenTelemetry.
///
/// ```
/// use bulkman::export::OpenTelemetryInstruments;
/// use bulkman::{Bulkhead, BulkheadConfig, BulkheadRegistry};
/// use std::sync::Arc;
///
/// let registry = Arc::new(BulkheadRegistry::new());
/// registry.create(BulkheadConfig::new("files"))?;
///
/// let meter = opentelemetry::global::meter("shop");
/// let watched = Arc::downgrade(&registry);
/// let instruments = OpenTelemetryInstruments::new(&meter, move || {
///     watched.upgrade().map(|registry| registry.stats()).unwrap_or_default()
/// });
///
/// // Histograms need a listener.
/// let mail = Bulkhead::builder(BulkheadConfig::new("mail"))
///     .listener(instruments.listener())
///     .build()?;
/// # drop(mail);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The names are those of the [table](super#the-metrics). Counters and gauges are observable instruments: when the SDK
/// collects, it asks `stats`, once for all instruments. So calls cost nothing more.
///
/// # Histograms
///
/// OpenTelemetry has no histogram that is read when it is collected. So `bulkman.queue_wait` and `bulkman.execution` are
/// recorded call by call, by the [`listener`](Self::listener), for the bulkheads that have it. They are exact, and since a
/// listener is told inside the call's own context, an SDK that takes exemplars links them to the trace.
///
/// # Counters
///
/// They never go back. If [`reset_stats`](crate::Bulkhead::reset_stats) was called, or a new bulkhead of the same name has
/// taken the place of another, they go on: what has come since then is added. They begin at zero again for a name of which
/// there was no bulkhead when the SDK collected.
///
/// # How many bulkheads
///
/// By default the SDK takes 2,000 sets of attributes for each instrument, and counts all others together. With more
/// bulkheads raise its cardinality limit, in a view.
///
/// # What dropping it does
///
/// Nothing. The SDK keeps the instruments, and with them `stats`, as long as the meter's provider lives. Let `stats` hold the
/// bulkheads weakly if they are to end before.
pub struct OpenTelemetryInstruments {
    times: DurationListener,
    pipeline_duration: Histogram<f64>,
}

impl OpenTelemetryInstruments {
    /// Makes the instruments. `stats` gives the numbers of all bulkheads at that moment, such as
    /// [`BulkheadRegistry::stats`](crate::BulkheadRegistry::stats). Make them once for a meter: a bulkhead of two is reported
    /// twice.
    ///
    /// The SDK calls `stats` when it collects, in a thread of its own. If `stats` panics, that is logged, and nothing is reported
    /// this time.
    #[must_use = "the listener is for histograms"]
    pub fn new(
        meter: &Meter,
        stats: impl Fn() -> Vec<BulkheadStats> + Send + Sync + 'static,
    ) -> Self {
        observe_all(meter, stats);
        Self {
            pipeline_duration: histogram(meter, &PIPELINE_DURATION),
            times: DurationListener {
                queue_wait: histogram(meter, &QUEUE_WAIT),
                execution: histogram(meter, &EXECUTION),
            },
        }
    }

    /// Makes the instruments of pipelines too. `stats` gives their numbers, such as
    /// [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats); otherwise it is as that of [`new`](Self::new).
    ///
    /// ```
    /// use bulkman::export::OpenTelemetryInstruments;
    /// use bulkman::{Dependencies, DependencyPipeline};
    /// use std::sync::Arc;
    ///
    /// let dependencies = Arc::new(Dependencies::new());
    /// dependencies.register_database("users")?;
    /// let (bulkheads, pipelines) = (Arc::downgrade(&dependencies), Arc::downgrade(&dependencies));
    /// let meter = opentelemetry::global::meter("shop");
    /// let instruments = OpenTelemetryInstruments::new(&meter, move || {
    ///     bulkheads.upgrade().map(|all| all.stats()).unwrap_or_default()
    /// })
    /// .pipelines(&meter, move || {
    ///     pipelines.upgrade().map(|all| all.pipeline_stats()).unwrap_or_default()
    /// });
    ///
    /// // The histogram needs a listener.
    /// let users: DependencyPipeline<std::io::Error> =
    ///     dependencies.pipeline("users")?.listener(instruments.pipeline_listener()).build()?;
    /// # drop(users);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the listener is for histograms"]
    pub fn pipelines(
        self,
        meter: &Meter,
        stats: impl Fn() -> Vec<PipelineStats> + Send + Sync + 'static,
    ) -> Self {
        observe_all(meter, stats);
        self
    }

    /// What records the histogram `bulkman.pipeline_duration` of the pipelines that it is given to.
    #[must_use = "give it to the builder of a pipeline"]
    pub fn pipeline_listener(
        &self,
    ) -> impl Fn(&PipelineEvent<'_>) + Clone + Send + Sync + 'static + use<> {
        let duration = self.pipeline_duration.clone();
        move |event| {
            let name = OtelValue::from(event.pipeline.to_owned());
            let pipeline = KeyValue::new(PipelineStats::LABEL, name);
            duration.record(event.elapsed.as_secs_f64(), &[pipeline]);
        }
    }

    /// What records the histograms of the bulkheads that it is given to, of either kind.
    #[must_use = "give it to the builder of a bulkhead"]
    pub fn listener(&self) -> impl BulkheadListener + Clone + 'static {
        self.times.clone()
    }
}

impl fmt::Debug for OpenTelemetryInstruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTelemetryInstruments")
            .finish_non_exhaustive()
    }
}

/// One reading for all instruments.
///
/// The SDK asks one instrument after the other, and no instrument twice in one collection. So a reading is good until an
/// instrument that has had it asks again. Two readers of one provider may take more readings than they would need.
struct Collection<S> {
    stats: Box<dyn Fn() -> Vec<S> + Send + Sync>,
    totals: Mutex<RunningTotals>,
    /// `None` when all instruments have had it.
    last: Mutex<Option<Reading>>,
}

struct Reading {
    numbers: Arc<Vec<Numbers>>,
    /// A bit for each instrument.
    had_by: u32,
}

fn observe_all<S: Exported + Send + Sync>(
    meter: &Meter,
    stats: impl Fn() -> Vec<S> + Send + Sync + 'static,
) {
    let collection = Arc::new(Collection {
        stats: Box::new(stats),
        totals: Mutex::default(),
        last: Mutex::default(),
    });
    let mut first_series = 0;
    for (index, family) in S::FAMILIES.iter().enumerate() {
        observe(meter, (index, first_series), family, &collection);
        first_series += family.series.len();
    }
}

impl<S: Exported> Collection<S> {
    const ALL: u32 = (1 << S::FAMILIES.len()) - 1;

    /// For the instrument of this index.
    fn numbers(&self, instrument: usize) -> Arc<Vec<Numbers>> {
        let bit = 1 << instrument;
        if let Some(numbers) = self.take_last(bit) {
            return numbers;
        }
        // User code: under no lock.
        let stats = contain("bulkman", "the source of an exporter", &self.stats);
        let numbers = stats.map(|stats| self.totals.lock().read(&stats));
        let numbers = Arc::new(numbers.unwrap_or_default());
        let reading = Reading {
            numbers: Arc::clone(&numbers),
            had_by: bit,
        };
        let before = self.last.lock().replace(reading);
        drop(before);
        numbers
    }

    fn take_last(&self, bit: u32) -> Option<Arc<Vec<Numbers>>> {
        let mut last = self.last.lock();
        let reading = last.as_mut().filter(|reading| reading.had_by & bit == 0)?;
        reading.had_by |= bit;
        let numbers = Arc::clone(&reading.numbers);
        if reading.had_by == Self::ALL {
            *last = None;
        }
        Some(numbers)
    }

    /// For the instrument of this index, whose series begin at `first_series`.
    fn observe<T>(
        &self,
        (index, first_series): (usize, usize),
        instrument: &dyn AsyncInstrument<T>,
        number: fn(Value) -> T,
    ) {
        for Numbers { name, values } in &*self.numbers(index) {
            let values = values.iter().skip(first_series);
            for (series, value) in S::FAMILIES[index].series.iter().zip(values) {
                let Some(value) = *value else {
                    continue;
                };
                let of = KeyValue::new(S::LABEL, Arc::clone(name));
                let value = number(value);
                match series.label {
                    Some((name, label)) => {
                        instrument.observe(value, &[of, KeyValue::new(name, label)]);
                    }
                    None => instrument.observe(value, &[of]),
                }
            }
        }
    }
}

fn observe<S: Exported + Send + Sync>(
    meter: &Meter,
    place: (usize, usize),
    family: &Family<S>,
    collection: &Arc<Collection<S>>,
) {
    /// The builders have the same methods and no trait.
    macro_rules! build {
        ($make:ident, $number:expr) => {{
            let collection = Arc::clone(collection);
            let builder = meter
                .$make(name_of(family.name))
                .with_description(family.help);
            let builder = match unit_of(family.unit) {
                Some(unit) => builder.with_unit(unit),
                None => builder,
            };
            // The SDK has it.
            let _ = builder
                .with_callback(move |instrument| collection.observe(place, instrument, $number))
                .build();
        }};
    }
    match (family.kind, family.unit) {
        (Kind::Counter, Unit::Seconds) => build!(f64_observable_counter, Value::as_f64),
        (Kind::Counter, _) => build!(u64_observable_counter, Value::as_u64),
        (Kind::Level, _) => build!(i64_observable_up_down_counter, |value| i64::try_from(
            value.as_u64()
        )
        .unwrap_or(i64::MAX)),
        (Kind::Gauge, Unit::Seconds) => build!(f64_observable_gauge, Value::as_f64),
        (Kind::Gauge, _) => build!(u64_observable_gauge, Value::as_u64),
    }
}

fn histogram<S>(meter: &Meter, times: &Times<S>) -> Histogram<f64> {
    meter
        .f64_histogram(name_of(times.name))
        .with_description(times.help)
        .with_unit("s")
        .with_boundaries(BUCKETS.map(|bound| bound.as_secs_f64()).to_vec())
        .build()
}

fn name_of(name: &str) -> String {
    format!("bulkman.{name}")
}

fn unit_of(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Calls => Some("{call}"),
        Unit::Seconds => Some("s"),
        Unit::None => None,
    }
}

/// Records how long calls wait and run.
#[derive(Clone)]
struct DurationListener {
    queue_wait: Histogram<f64>,
    execution: Histogram<f64>,
}

impl BulkheadListener for DurationListener {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        let (histogram, call, time): (_, _, Duration) = match event {
            BulkheadEvent::Started {
                call, queued_time, ..
            } => (&self.queue_wait, call, *queued_time),
            BulkheadEvent::Finished {
                call,
                execution_time,
                ..
            } => (&self.execution, call, *execution_time),
            _ => return,
        };
        let name = OtelValue::from(call.bulkhead.to_owned());
        histogram.record(time.as_secs_f64(), &[KeyValue::new("bulkhead", name)]);
    }
}

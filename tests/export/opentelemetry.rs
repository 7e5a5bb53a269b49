//! What a real SDK collects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::export::{OpenTelemetryInstruments, PrometheusText};
use bulkman::policy::Pipeline;
use bulkman::{Bulkhead, BulkheadRegistry, BulkheadStats, SemaphoreBulkhead};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, InMemoryMetricExporterBuilder, PeriodicReader, SdkMeterProvider,
    Temporality,
};

use crate::helpers::{Busy, samples, used_pipeline};
use crate::support::{SECOND, bulkhead, config, named, wait, with_clock};

/// A provider that collects when it is asked to.
struct Collecting {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

/// Names as Prometheus has them, from what the instrument says of itself, and the kind.
type Samples = BTreeMap<String, f64>;

impl Collecting {
    fn new() -> Self {
        Self::by(Temporality::Cumulative)
    }

    fn by(temporality: Temporality) -> Self {
        let exporter = InMemoryMetricExporterBuilder::new()
            .with_temporality(temporality)
            .build();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self { provider, exporter }
    }

    fn instruments(
        &self,
        stats: impl Fn() -> Vec<BulkheadStats> + Send + Sync + 'static,
    ) -> OpenTelemetryInstruments {
        OpenTelemetryInstruments::new(&self.provider.meter("test"), stats)
    }

    fn collect(&self) -> Samples {
        self.exporter.reset();
        self.provider.force_flush().unwrap();
        let all = self.exporter.get_finished_metrics().unwrap();
        all.iter().flat_map(read).collect()
    }
}

fn read(metrics: &ResourceMetrics) -> Samples {
    let mut samples = Samples::new();
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        let base = metric.name().replace('.', "_");
        let base = match metric.unit() {
            "s" => format!("{base}_seconds"),
            "{call}" | "" => base,
            odd => panic!("{base} has the unit {odd}"),
        };
        match metric.data() {
            AggregatedMetrics::F64(data) => add(&mut samples, &base, data, |value| value),
            AggregatedMetrics::U64(data) => add(&mut samples, &base, data, |value| value as f64),
            AggregatedMetrics::I64(data) => add(&mut samples, &base, data, |value| value as f64),
        }
    }
    samples
}

fn add<T: Copy>(
    samples: &mut Samples,
    base: &str,
    data: &MetricData<T>,
    number: impl Fn(T) -> f64,
) {
    match data {
        MetricData::Sum(sum) => {
            let total = if sum.is_monotonic() { "_total" } else { "" };
            for point in sum.data_points() {
                let name = sample(base, total, point.attributes());
                samples.insert(name, number(point.value()));
            }
        }
        MetricData::Gauge(gauge) => {
            for point in gauge.data_points() {
                let name = sample(base, "", point.attributes());
                samples.insert(name, number(point.value()));
            }
        }
        MetricData::Histogram(histogram) => {
            for point in histogram.data_points() {
                let count = sample(base, "_count", point.attributes());
                samples.insert(count, point.count() as f64);
                let sum = sample(base, "_sum", point.attributes());
                samples.insert(sum, number(point.sum()));
            }
        }
        MetricData::ExponentialHistogram(_) => {}
    }
}

/// The attribute with the name first, as in Prometheus' text.
fn sample<'a>(base: &str, suffix: &str, attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut labels: Vec<_> = attributes
        .map(|of| format!("{}=\"{}\"", of.key, of.value.as_str()))
        .collect();
    let is_name = |label: &String| label.starts_with("bulkhead=") || label.starts_with("pipeline=");
    labels.sort_by_key(|label| !is_name(label));
    format!("{base}{suffix}{{{}}}", labels.join(","))
}

#[test]
fn an_exporter_for_prometheus_makes_the_names_and_values_of_the_text() {
    let busy = Busy::new();
    let (collecting, pool) = (Collecting::new(), Arc::clone(&busy.bulkhead));
    let _instruments = collecting.instruments(move || vec![pool.stats()]);
    let mut expected = samples(&PrometheusText::new().render([&busy.stats()]));
    expected.retain(|name, _| !name.contains("queue_wait") && !name.contains("execution"));
    assert_eq!(collecting.collect(), expected);
}

#[test]
fn one_collection_takes_one_reading() {
    let (collecting, pool) = (Collecting::new(), bulkhead(1, 1));
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let _instruments = collecting.instruments(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        vec![pool.stats()]
    });
    for readings in 1..4 {
        drop(collecting.collect());
        assert_eq!(taken.load(Ordering::SeqCst), readings);
    }
}

#[test]
fn each_collection_is_of_its_own_moment() {
    let (collecting, pool) = (Collecting::new(), Arc::new(bulkhead(1, 1)));
    let watched = Arc::clone(&pool);
    let _instruments = collecting.instruments(move || vec![watched.stats()]);
    for calls in 1..4 {
        assert!(wait(pool.run(|| ())).is_success());
        let samples = collecting.collect();
        assert_eq!(
            samples["bulkman_submitted_calls_total{bulkhead=\"test\"}"],
            f64::from(calls)
        );
    }
}

#[test]
fn the_listener_records_histograms_of_both_kinds() {
    let collecting = Collecting::new();
    let instruments = collecting.instruments(Vec::new);
    let (_, clock) = with_clock(config(1, 1));
    let pool = Bulkhead::builder(named("pool", 1, 1))
        .clock(clock.clone())
        .listener(instruments.listener())
        .build()
        .unwrap();
    let here = SemaphoreBulkhead::builder(named("here", 1, 1))
        .clock(clock.clone())
        .listener(instruments.listener())
        .build()
        .unwrap();
    for seconds in [1, 2] {
        let clock = clock.clone();
        assert!(wait(pool.run(move || clock.advance(seconds * SECOND))).is_success());
    }
    assert!(here.run(|| clock.advance(SECOND)).is_success());
    let samples = collecting.collect();
    for (name, value) in [
        ("bulkman_execution_seconds_count{bulkhead=\"pool\"}", 2.0),
        ("bulkman_execution_seconds_sum{bulkhead=\"pool\"}", 3.0),
        ("bulkman_execution_seconds_sum{bulkhead=\"here\"}", 1.0),
        ("bulkman_queue_wait_seconds_count{bulkhead=\"pool\"}", 2.0),
        ("bulkman_queue_wait_seconds_sum{bulkhead=\"pool\"}", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} of {samples:?}");
    }
}

#[test]
fn a_source_that_panics_reports_nothing_this_time() {
    let (collecting, pool) = (Collecting::new(), bulkhead(1, 1));
    let asked = AtomicUsize::new(0);
    let _instruments = collecting.instruments(move || {
        assert!(asked.fetch_add(1, Ordering::SeqCst) > 0, "a source");
        vec![pool.stats()]
    });
    assert!(collecting.collect().is_empty());
    assert!(!collecting.collect().is_empty());
}

#[test]
fn counters_go_on_after_a_reset_and_with_a_new_bulkhead_of_the_same_name() {
    let name = "bulkman_finished_calls_total{bulkhead=\"test\",outcome=\"succeeded\"}";
    for (temporality, expected) in [
        (Temporality::Cumulative, [3.0, 4.0, 6.0, 1.0]),
        // An SDK that sends differences subtracts what it was told before.
        (Temporality::Delta, [3.0, 1.0, 2.0, 1.0]),
    ] {
        let collecting = Collecting::by(temporality);
        let registry = Arc::new(BulkheadRegistry::new());
        let watched = Arc::clone(&registry);
        let _instruments = collecting.instruments(move || watched.stats());
        let create = || registry.create_semaphore(config(1, 1)).unwrap();
        let call = |times: u32| {
            let pool = registry.semaphore("test").unwrap();
            assert!((0..times).all(|_| pool.run(|| ()).is_success()));
        };
        let finished = || collecting.collect().get(name).copied();
        create();
        call(3);
        let first = finished();
        registry.reset_stats();
        call(1);
        let reset = finished();
        drop(registry.remove("test"));
        create();
        call(2);
        let new = finished();
        drop(registry.remove("test"));
        assert_eq!(finished(), None);
        create();
        call(1);
        let after_a_gap = finished();
        assert_eq!(
            [first, reset, new, after_a_gap],
            expected.map(Some),
            "{temporality:?}"
        );
    }
}

#[test]
fn of_two_bulkheads_of_one_name_the_last_counts_by_itself() {
    let pools = [(); 2].map(|()| Arc::new(SemaphoreBulkhead::new(config(1, 1)).unwrap()));
    let collecting = Collecting::new();
    let watched = pools.clone();
    let _instruments =
        collecting.instruments(move || watched.iter().map(|pool| pool.stats()).collect());
    let name = "bulkman_submitted_calls_total{bulkhead=\"test\"}";
    for round in 1..=3 {
        for (pool, times) in pools.iter().zip([10, 1]) {
            assert!((0..times).all(|_| pool.run(|| ()).is_success()));
        }
        assert_eq!(collecting.collect()[name], f64::from(round));
    }
}

#[test]
fn bulkheads_that_are_gone_are_reported_no_more() {
    let (collecting, registry) = (Collecting::new(), Arc::new(BulkheadRegistry::new()));
    let watched = Arc::downgrade(&registry);
    let _instruments = collecting.instruments(move || {
        watched
            .upgrade()
            .map(|registry| registry.stats())
            .unwrap_or_default()
    });
    registry.create_semaphore(named("one", 1, 0)).unwrap();
    assert!(
        collecting
            .collect()
            .contains_key("bulkman_active_calls{bulkhead=\"one\"}")
    );
    drop(registry);
    let left = collecting.collect();
    assert!(
        !left.keys().any(|name| name.starts_with("bulkman_active")),
        "{left:?}"
    );
}

#[test]
fn pipelines_are_reported_as_the_text_for_prometheus_has_them() {
    let (collecting, pipeline) = (Collecting::new(), used_pipeline());
    let (watched, meter) = (pipeline.clone(), collecting.provider.meter("test"));
    let instruments = collecting
        .instruments(Vec::new)
        .pipelines(&meter, move || vec![watched.stats()]);
    let mut expected = samples(&PrometheusText::new().render_pipelines([&pipeline.stats()]));
    expected.retain(|name, _| !name.contains("duration"));
    assert_eq!(collecting.collect(), expected);

    let heard: Pipeline<&str, _, _> = Pipeline::builder("heard")
        .listener(instruments.pipeline_listener())
        .build()
        .unwrap();
    assert!(heard.execute(|| Ok(1)).is_success());
    let count = "bulkman_pipeline_duration_seconds_count{pipeline=\"heard\"}";
    assert_eq!(collecting.collect().get(count), Some(&1.0));
}

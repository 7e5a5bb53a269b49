//! What a recorder is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::export::{MetricsPublisher, PrometheusText};
use bulkman::{BulkheadConfig, BulkheadRegistry, SemaphoreBulkhead};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::helpers::{Busy, samples, used_pipeline};
use crate::support::{SECOND, bulkhead, config, named, wait, with_clock};

/// A recorder, and what it has been told up to now.
struct Recorded {
    recorder: DebuggingRecorder,
    /// Its snapshots say what is new.
    values: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<f64>>,
    described: BTreeMap<String, String>,
}

impl Recorded {
    fn new() -> Self {
        Self {
            recorder: DebuggingRecorder::new(),
            values: BTreeMap::new(),
            histograms: BTreeMap::new(),
            described: BTreeMap::new(),
        }
    }

    /// Runs `body` with this recorder.
    fn during(&mut self, body: impl FnOnce()) {
        with_local_recorder(&self.recorder, body);
        for (key, _, help, value) in self.recorder.snapshotter().snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
                .collect();
            let name = format!("{}{{{}}}", key.name(), labels.join(","));
            self.described
                .insert(key.name().to_owned(), help.unwrap_or_default().to_string());
            match value {
                // The counters of a snapshot begin at zero each time.
                DebugValue::Counter(count) => {
                    *self.values.entry(name).or_default() += count as f64;
                }
                DebugValue::Gauge(value) => {
                    self.values.insert(name, value.into_inner());
                }
                DebugValue::Histogram(values) => {
                    let values = values.into_iter().map(|value| value.into_inner());
                    self.histograms.entry(name).or_default().extend(values);
                }
            }
        }
    }

    #[track_caller]
    fn value(&self, name: &str) -> f64 {
        *self
            .values
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {:?}", self.values))
    }
}

#[test]
fn names_labels_and_values_are_those_of_the_text_for_prometheus() {
    let busy = Busy::new();
    let stats = busy.stats();
    let mut recorded = Recorded::new();
    recorded.during(|| MetricsPublisher::new().publish([&stats]));
    let text = PrometheusText::new().render([&stats]);
    let is_histogram = |name: &str| name.contains("queue_wait") || name.contains("execution");
    let mut expected = samples(&text);
    expected.retain(|name, _| !is_histogram(name));
    // Counters are whole numbers.
    let busy_seconds = expected.get_mut("bulkman_busy_seconds_total{bulkhead=\"test\"}");
    let busy_seconds = busy_seconds.unwrap();
    *busy_seconds = busy_seconds.trunc();
    assert_eq!(recorded.values, expected);

    let waited = &recorded.histograms["bulkman_queue_wait_seconds{bulkhead=\"test\"}"];
    assert_eq!(waited.len() as u64, stats.queue_wait.count());
    let ran = &recorded.histograms["bulkman_execution_seconds{bulkhead=\"test\"}"];
    assert_eq!(
        ran.iter()
            .filter(|ran| (1.0..=1.125).contains(*ran))
            .count(),
        2
    );
    for (name, help) in &recorded.described {
        assert!(
            text.contains(&format!("# HELP {name} {help}\n")),
            "{name}: {help}"
        );
    }
}

#[test]
fn each_time_it_is_told_what_is_new() {
    let (pool, clock) = with_clock(config(1, 1));
    let mut publisher = MetricsPublisher::new();
    let mut recorded = Recorded::new();
    let mut run = |seconds: u32| {
        let clock = clock.clone();
        assert!(wait(pool.run(move || clock.advance(seconds * SECOND / 2))).is_success());
        recorded.during(|| publisher.publish([&pool.stats()]));
        let finished = "bulkman_finished_calls_total{bulkhead=\"test\",outcome=\"succeeded\"}";
        let busy = "bulkman_busy_seconds_total{bulkhead=\"test\"}";
        let ran = &recorded.histograms["bulkman_execution_seconds{bulkhead=\"test\"}"];
        (recorded.value(finished), recorded.value(busy), ran.len())
    };
    assert_eq!(run(1), (1.0, 0.0, 1));
    assert_eq!(run(1), (2.0, 1.0, 2), "no half is lost");
    assert_eq!(run(5), (3.0, 3.0, 3));
    assert_eq!(run(0), (4.0, 3.0, 4));
}

#[test]
fn a_recorder_that_comes_late_is_told_everything() {
    let pool = bulkhead(1, 1);
    let mut publisher = MetricsPublisher::new();
    assert!(wait(pool.run(|| ())).is_success());
    publisher.publish([&pool.stats()]);
    assert!(wait(pool.run(|| ())).is_success());
    let finished = "bulkman_finished_calls_total{bulkhead=\"test\",outcome=\"succeeded\"}";
    let mut recorded = Recorded::new();
    for _ in 0..3 {
        recorded.during(|| publisher.publish([&pool.stats()]));
        assert_eq!(recorded.value(finished), 2.0);
        assert_eq!(
            recorded.histograms["bulkman_execution_seconds{bulkhead=\"test\"}"].len(),
            2
        );
    }
}

#[test]
fn counters_go_on_after_a_reset_and_with_a_new_bulkhead_of_the_same_name() {
    let finished = "bulkman_finished_calls_total{bulkhead=\"test\",outcome=\"succeeded\"}";
    let mut publisher = MetricsPublisher::new();
    let mut recorded = Recorded::new();
    let pool = bulkhead(1, 1);
    for _ in 0..3 {
        assert!(wait(pool.run(|| ())).is_success());
    }
    recorded.during(|| publisher.publish([&pool.stats()]));
    pool.reset_stats();
    assert!(wait(pool.run(|| ())).is_success());
    recorded.during(|| publisher.publish([&pool.stats()]));
    assert_eq!(recorded.value(finished), 4.0);
    let other = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    assert!(other.run(|| ()).is_success());
    let _ = other.execute(|| Err::<(), _>("no"));
    recorded.during(|| publisher.publish([&other.stats()]));
    assert_eq!(recorded.value(finished), 5.0);
    assert_eq!(
        recorded.histograms["bulkman_execution_seconds{bulkhead=\"test\"}"].len(),
        6
    );
}

#[test]
fn labels_of_the_users_come_first_and_odd_names_are_refused() {
    let pool = bulkhead(1, 1);
    let mut publisher = MetricsPublisher::new()
        .label("service", "a \"shop\"")
        .unwrap();
    let mut recorded = Recorded::new();
    recorded.during(|| publisher.publish([&pool.stats()]));
    recorded.value("bulkman_active_calls{service=\"a \"shop\"\",bulkhead=\"test\"}");
    for odd in [
        "", "7", "a-b", "__name__", "bulkhead", "le", "quantile", "ü",
    ] {
        let refused = MetricsPublisher::new().label(odd, "").unwrap_err();
        assert_eq!(refused.name, odd);
    }
    assert!(publisher.label("service", "twice").is_err());
}

#[test]
fn a_bulkhead_that_is_forgotten_leaves_no_gauge_behind() {
    let busy = Busy::new();
    let mut publisher = MetricsPublisher::new();
    let mut recorded = Recorded::new();
    recorded.during(|| publisher.publish([&busy.stats()]));
    assert_eq!(
        recorded.value("bulkman_active_calls{bulkhead=\"test\"}"),
        1.0
    );
    recorded.during(|| publisher.forget("test"));
    for (name, value) in &recorded.values {
        assert!(
            name.contains("_total") || *value == 0.0,
            "{name} is {value}"
        );
    }
    publisher.forget("nobody");
}

/// Makes handles that do nothing, and counts them; or such that panic.
#[derive(Default)]
struct Counting {
    registered: AtomicUsize,
    panics: bool,
}

struct Panics;

impl metrics::CounterFn for Panics {
    fn increment(&self, _: u64) {
        panic!("a recorder");
    }

    fn absolute(&self, _: u64) {}
}

impl Counting {
    fn describe(&self) {
        assert!(!self.panics, "a recorder");
    }

    fn register(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe();
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe();
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe();
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.register();
        if self.panics {
            Counter::from_arc(Arc::new(Panics))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.register();
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.register();
        Histogram::noop()
    }
}

#[test]
fn handles_are_looked_up_once_also_those_of_ten_thousand_bulkheads() {
    let registry = BulkheadRegistry::new();
    for i in 0..10_000 {
        let config = named(&format!("bulkhead {i}"), 1, 0);
        registry.create_semaphore(config).unwrap();
    }
    let recorder = Counting::default();
    let mut publisher = MetricsPublisher::new();
    with_local_recorder(&recorder, || {
        for _ in 0..2 {
            publisher.publish(&registry.stats());
            // Without a circuit.
            assert_eq!(recorder.registered.load(Ordering::Relaxed), 27 * 10_000);
        }
    });
}

#[test]
fn a_recorder_that_panics_loses_its_own_numbers_and_nothing_else() {
    let registry = BulkheadRegistry::new();
    for name in ["one", "two"] {
        registry.create(BulkheadConfig::new(name)).unwrap();
    }
    let mut publisher = MetricsPublisher::new();
    let recorder = Counting {
        panics: true,
        ..Counting::default()
    };
    with_local_recorder(&recorder, || publisher.publish(&registry.stats()));
    let mut recorded = Recorded::new();
    recorded.during(|| publisher.publish(&registry.stats()));
    recorded.value("bulkman_active_calls{bulkhead=\"two\"}");
    assert_eq!(registry.shutdown_all(Duration::from_secs(60)).len(), 2);
}

#[test]
fn pipelines_are_published_as_the_text_for_prometheus_has_them() {
    let pipeline = used_pipeline();
    let (mut recorded, mut publisher) = (Recorded::new(), MetricsPublisher::new());
    let text = PrometheusText::new().render_pipelines([&pipeline.stats()]);
    let mut expected = samples(&text);
    expected.retain(|name, _| !name.contains("duration"));
    for _ in 0..2 {
        recorded.during(|| publisher.publish_pipelines([&pipeline.stats()]));
        assert_eq!(recorded.values, expected, "nothing counts twice");
    }
    let took = &recorded.histograms["bulkman_pipeline_duration_seconds{pipeline=\"users\"}"];
    assert_eq!(took.len(), 4);
    for (name, help) in &recorded.described {
        if name.contains("pipeline") {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}");
        }
    }
    let calls = "bulkman_pipeline_calls_total{pipeline=\"users\",outcome=\"succeeded\"}";
    recorded.during(|| publisher.publish_pipelines([&used_pipeline().stats()]));
    assert_eq!(recorded.value(calls), 4.0, "another one of the same name");
    publisher.forget_pipeline("users");
    recorded.during(|| publisher.publish_pipelines([&pipeline.stats()]));
    assert_eq!(
        recorded.value(calls),
        6.0,
        "all of it, since it is a new one"
    );
}

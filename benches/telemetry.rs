//! What traces and exporters add to a call, beside the call without them.
//!
//! ```sh
//! cargo bench --all-features --bench telemetry             # a minute
//! cargo bench --all-features --bench telemetry -- --quick  # seconds
//! cargo bench --all-features --bench telemetry -- count    # the instructions of a call; needs `valgrind`
//! ```
//!
//! A feature that is off has no rows. The plain call is that of a bulkhead that has opted out.

#![allow(missing_docs, reason = "criterion_group makes a public function")]
#![cfg_attr(
    not(any(feature = "metrics", feature = "opentelemetry", feature = "tracing")),
    expect(unused, reason = "there are no rows")
)]

mod common;

use std::env;
use std::process::Command;

use bulkman::{Bulkhead, BulkheadBuilder, SemaphoreBulkhead, SemaphoreKind, ThreadPoolKind};
use common::{Place, config, occupy, settings, task};
use criterion::{Criterion, criterion_group};

/// What is measured, and what is around it.
struct Row {
    name: &'static str,
    /// Whether the bulkhead traces at all, and whether with spans.
    traces: bool,
    spans: bool,
    around: fn(&mut dyn FnMut()),
}

fn nothing(body: &mut dyn FnMut()) {
    body();
}

#[cfg(feature = "tracing")]
fn subscribed(body: &mut dyn FnMut()) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;
    let subscriber = Registry::default().with(tracing_subscriber::layer::Identity::new());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("request").in_scope(body);
    });
}

const ROWS: &[Row] = &[
    Row {
        name: "opted out",
        traces: false,
        spans: false,
        around: nothing,
    },
    #[cfg(any(feature = "tracing", feature = "opentelemetry"))]
    Row {
        name: "nobody listens",
        traces: true,
        spans: true,
        around: nothing,
    },
    #[cfg(feature = "tracing")]
    Row {
        name: "a subscriber, opted out",
        traces: false,
        spans: false,
        around: subscribed,
    },
    #[cfg(feature = "tracing")]
    Row {
        name: "a subscriber, no spans of calls",
        traces: true,
        spans: false,
        around: subscribed,
    },
    #[cfg(feature = "tracing")]
    Row {
        name: "a subscriber",
        traces: true,
        spans: true,
        around: subscribed,
    },
];

impl Row {
    fn pool(&self) -> Bulkhead {
        let build = || {
            let builder = Bulkhead::builder(config(1, 100));
            self.pool_of(builder).build().expect("in range")
        };
        Place::OneCore.start(build).unwrap_or_else(build)
    }

    #[cfg(any(feature = "tracing", feature = "opentelemetry"))]
    fn pool_of(&self, builder: BulkheadBuilder<ThreadPoolKind>) -> BulkheadBuilder<ThreadPoolKind> {
        let builder = builder.propagate_trace(self.traces);
        #[cfg(feature = "tracing")]
        let builder = builder.call_spans(self.spans);
        builder
    }

    #[cfg(not(any(feature = "tracing", feature = "opentelemetry")))]
    fn pool_of(&self, builder: BulkheadBuilder<ThreadPoolKind>) -> BulkheadBuilder<ThreadPoolKind> {
        builder
    }

    fn semaphore(&self) -> SemaphoreBulkhead {
        let builder = SemaphoreBulkhead::builder(config(1, 100));
        self.semaphore_of(builder).build().expect("in range")
    }

    #[cfg(feature = "tracing")]
    fn semaphore_of(
        &self,
        builder: BulkheadBuilder<SemaphoreKind>,
    ) -> BulkheadBuilder<SemaphoreKind> {
        builder.propagate_trace(self.traces).call_spans(self.spans)
    }

    #[cfg(not(feature = "tracing"))]
    fn semaphore_of(
        &self,
        builder: BulkheadBuilder<SemaphoreKind>,
    ) -> BulkheadBuilder<SemaphoreKind> {
        builder
    }
}

fn calls(c: &mut Criterion) {
    for row in ROWS {
        let mut group = c.benchmark_group("telemetry");
        let (pool, semaphore) = (row.pool(), row.semaphore());
        (row.around)(&mut || {
            group.bench_function(format!("run, wait, one core: {}", row.name), |b| {
                b.iter(|| pool.run(task).wait());
            });
            group.bench_function(format!("in the caller's thread: {}", row.name), |b| {
                b.iter(|| semaphore.run(task));
            });
        });
        let full = row.pool();
        let release = occupy(&full);
        let queued: Vec<_> = (0..100).map(|_| full.run(task)).collect();
        (row.around)(&mut || {
            group.bench_function(format!("refused: {}", row.name), |b| {
                b.iter(|| full.try_run(task).is_err());
            });
        });
        drop(release);
        drop(queued);
        group.finish();
    }
}

#[cfg(feature = "metrics")]
fn publish(c: &mut Criterion) {
    use bulkman::BulkheadRegistry;
    use bulkman::export::{MetricsPublisher, PrometheusText};
    use metrics_util::debugging::DebuggingRecorder;

    let registry = BulkheadRegistry::new();
    for i in 0..10_000 {
        let config = bulkman::BulkheadConfig::new(format!("bulkhead {i}"));
        let _ = registry.create_semaphore(config).expect("in range");
    }
    let mut group = c.benchmark_group("10,000 bulkheads");
    group.sample_size(10);
    group.bench_function("stats", |b| b.iter(|| registry.stats()));
    let stats = registry.stats();
    group.bench_function("stats as text for Prometheus", |b| {
        b.iter(|| PrometheusText::new().render(&stats));
    });
    let recorder = DebuggingRecorder::new();
    let mut publisher = MetricsPublisher::new();
    metrics::with_local_recorder(&recorder, || {
        group.bench_function("stats to a recorder of `metrics`", |b| {
            b.iter(|| publisher.publish(&stats));
        });
    });
    group.finish();
}

#[cfg(not(feature = "metrics"))]
fn publish(_: &mut Criterion) {}

criterion_group! {
    name = benches;
    config = settings();
    targets = calls, publish
}

/// How many calls are counted.
const CALLS: u32 = 20_000;

/// Prints the instructions of a call, as valgrind counts them: the difference of two runs of this program.
fn count() {
    let program = env::current_exe().expect("it runs");
    let instructions = |row: usize, kind: &str, calls: u32| -> u64 {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
            .arg(&program)
            .args(["counted", &row.to_string(), kind, &calls.to_string()])
            .output()
            .expect("`valgrind` is there");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = text
            .lines()
            .filter_map(|line| line.split_once("Collected : "));
        let count = lines
            .filter_map(|(_, count)| count.trim().parse().ok())
            .next();
        count.unwrap_or_else(|| panic!("valgrind counts nothing: {text}"))
    };
    for kind in KINDS {
        for (index, row) in ROWS.iter().enumerate() {
            let [few, many] = [0, CALLS].map(|calls| instructions(index, kind, calls));
            let each = many.saturating_sub(few) / u64::from(CALLS);
            println!("{each:>6} instructions, {kind}: {}", row.name);
        }
    }
}

/// A call on a worker is counted among a hundred that are queued: then nobody spins.
const KINDS: [&str; 3] = ["on a worker", "in the caller's thread", "refused"];

/// Makes the calls that [`count`] counts.
fn counted(row: usize, kind: &str, calls: u32) {
    let row = &ROWS[row];
    let (pool, semaphore) = (row.pool(), row.semaphore());
    (row.around)(&mut || {
        if kind == KINDS[0] {
            for _ in 0..calls / 100 {
                let release = occupy(&pool);
                let queued: Vec<_> = (0..99).map(|_| pool.run(task)).collect();
                drop(release);
                assert!(pool.wait_idle(common::PATIENCE));
                drop(queued);
            }
        } else if kind == KINDS[1] {
            for _ in 0..calls {
                drop(semaphore.run(task));
            }
        } else {
            let release = occupy(&pool);
            let queued: Vec<_> = (0..100).map(|_| pool.run(task)).collect();
            for _ in 0..calls {
                assert!(pool.try_run(task).is_err());
            }
            drop(release);
            drop(queued);
        }
    });
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["counted", row, kind, calls, ..] => counted(
            row.parse().expect("the number of a row"),
            kind,
            calls.parse().expect("a number of calls"),
        ),
        ["count", ..] => count(),
        _ => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}

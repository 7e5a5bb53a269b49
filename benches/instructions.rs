//! How many instructions each layer of a pipeline adds to a call while all is well, exactly: valgrind counts them, so that
//! it does not matter what else the machine does.
//!
//! ```sh
//! cargo bench --bench instructions    # ten seconds; needs valgrind
//! ```
//!
//! The tasks run in the caller's thread. A reading of the clock counts less than it takes: what the kernel does is not
//! counted.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkman::policy::{Chaos, Fallback, Pipeline, PipelineBuilder, RateLimit, Retry, RetryBudget};
use bulkman::{BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, SemaphoreBulkhead};

type Row = (&'static str, fn(u64));

const HOUR: Duration = Duration::from_secs(3600);

/// Each by itself. The first is what the others are compared with.
const ROWS: [Row; 17] = [
    ("the closure alone", |n| repeat(n, task)),
    ("a reading of the clock", |n| repeat(n, Instant::now)),
    ("pipeline of nothing", |n| through(n, builder())),
    ("timeout", |n| through(n, builder().timeout(HOUR))),
    ("retry", |n| through(n, builder().retry(Retry::new(3)))),
    ("retry with a budget", |n| {
        through(n, builder().retry(retry()));
    }),
    ("rate limit", |n| through(n, builder().rate_limit(rate()))),
    ("circuit breaker", |n| {
        through(n, builder().circuit_breaker(breaker()));
    }),
    ("fallback", |n| {
        let pipeline = builder().fallback(Fallback::value(0)).build();
        let pipeline = pipeline.expect("in order");
        repeat(n, || pipeline.execute(task));
    }),
    ("chaos, switched off", |n| {
        through(n, builder().chaos(Chaos::new().errors(1.0, || "chaos")));
    }),
    ("bulkhead", |n| through(n, builder().bulkhead(&bulkhead()))),
    ("fallback, timeout, retry, rate limit, bulkhead", |n| {
        let pipeline = builder()
            .fallback(Fallback::value(0))
            .timeout(HOUR)
            .retry(retry())
            .rate_limit(rate())
            .bulkhead(&bulkhead())
            .build()
            .expect("in order");
        repeat(n, || pipeline.execute(task));
    }),
    ("`SemaphoreBulkhead` alone", |n| {
        let bulkhead = bulkhead();
        repeat(n, || bulkhead.execute(task));
    }),
    ("`Retry` alone", |n| {
        let retry = retry();
        repeat(n, || retry.call(task));
    }),
    ("`RateLimit` alone", |n| {
        let limit = rate();
        repeat(n, || limit.try_acquire());
    }),
    ("`KeyedRateLimit` alone", |n| {
        let limit = rate().by_key();
        repeat(n, || limit.try_acquire("ada"));
    }),
    ("`CircuitBreaker` alone", |n| {
        let breaker = breaker();
        repeat(n, || breaker.call(task));
    }),
];

fn task() -> Result<u64, &'static str> {
    Ok(black_box(7))
}

fn builder() -> PipelineBuilder<&'static str> {
    Pipeline::builder("bench")
}

fn retry() -> Retry {
    Retry::new(3).budget(RetryBudget::new(0.1))
}

fn rate() -> RateLimit {
    RateLimit::new(1_000_000_000, Duration::from_secs(1)).expect("in range")
}

fn breaker() -> Arc<CircuitBreaker> {
    let breaker = CircuitBreaker::new("bench", CircuitBreakerConfig::default());
    Arc::new(breaker.expect("in range"))
}

fn bulkhead() -> Arc<SemaphoreBulkhead> {
    let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("bench"));
    Arc::new(bulkhead.expect("in range"))
}

fn through(n: u64, builder: PipelineBuilder<&'static str>) {
    let pipeline = builder.build().expect("in order");
    repeat(n, || pipeline.execute(task));
}

fn repeat<R>(n: u64, mut call: impl FnMut() -> R) {
    for _ in 0..n {
        drop(black_box(call()));
    }
}

/// The instructions of a whole run of this program with `n` calls of a row.
fn count(row: usize, n: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", &row.to_string(), &n.to_string()])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&out.stderr);
    let (_, counted) = told.split_once("Collected : ")?;
    counted.split_whitespace().next()?.parse().ok()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [run, row, n] = &args[..] {
        if run == "run" {
            let number = |text: &String| text.parse().expect("a number");
            ROWS[usize::try_from(number(row)).expect("small")].1(number(n));
            return ExitCode::SUCCESS;
        }
    }
    let mut closure = None;
    println!("| | instructions a call | more than the closure alone |");
    println!("|---|--:|--:|");
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let counted = count(row, 1_000).zip(count(row, 11_000));
        let Some((few, many)) = counted else {
            eprintln!("there is no valgrind, which counts the instructions");
            return ExitCode::FAILURE;
        };
        let each = (many - few) / 10_000;
        let closure = *closure.get_or_insert(each);
        println!("| {name} | {each} | {} |", each.saturating_sub(closure));
    }
    ExitCode::SUCCESS
}

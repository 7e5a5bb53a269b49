//! bulkman's policies beside the crates that have one of them each, used alone, while all is well: a table.
//!
//! ```sh
//! cd benches/peers
//! cargo run --release --bin policies        # 25 rounds; ten seconds
//! cargo run --release --bin policies -- 5   # a first look
//! ```
//!
//! The candidates take turns round by round, in one thread. Ratios of medians within a run count; times move with the
//! machine.

#[path = "../report/machine.rs"]
mod machine;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use bulkman::policy::{Pipeline, RateLimit, Retry};
use bulkman::{CircuitBreaker, CircuitBreakerConfig};
use failsafe::{CircuitBreaker as _, Config, backoff, failure_policy};
use governor::{Quota, RateLimiter};
use recloser::Recloser;

const CALLS: u32 = 50_000;
const MINUTE: Duration = Duration::from_secs(60);

/// So many calls.
type Round = Box<dyn FnMut(u32)>;

/// One kind of work. bulkman's row is the first.
struct Section {
    title: &'static str,
    rows: Vec<(&'static str, Round)>,
}

fn task() -> Result<u64, &'static str> {
    Ok(black_box(7))
}

fn round<R>(mut call: impl FnMut() -> R + 'static) -> Round {
    Box::new(move |calls| (0..calls).for_each(|_| drop(black_box(call()))))
}

fn breaker(rules: CircuitBreakerConfig) -> Round {
    let breaker = CircuitBreaker::new("bench", rules).expect("in range");
    round(move || breaker.call(task))
}

fn failsafe_breaker(policy: impl failsafe::FailurePolicy + 'static) -> Round {
    let breaker = Config::new().failure_policy(policy).build();
    round(move || breaker.call(task))
}

fn sections() -> Vec<Section> {
    let pause = || backoff::constant(MINUTE);
    let of_rate = || CircuitBreakerConfig::default().failure_threshold(1_000_000);
    let nothing = Pipeline::builder("bench").build().expect("in order");
    let retry = Retry::new(3);
    let backon = ExponentialBuilder::default().with_max_times(2);
    let many = NonZeroU32::new(1_000_000_000).expect("more than zero");
    let limit = || RateLimit::new(many.get(), Duration::from_secs(1)).expect("in range");
    let (direct, by_key) = (limit(), limit().by_key());
    let governor = RateLimiter::direct(Quota::per_second(many));
    let governor_by_key = RateLimiter::keyed(Quota::per_second(many));
    let recloser = Recloser::custom().closed_len(100).error_rate(0.5).build();
    vec![
        Section {
            title: "nothing around a closure",
            rows: vec![
                ("bulkman `Pipeline`", round(move || nothing.execute(task))),
                ("the closure", round(task)),
            ],
        },
        Section {
            title: "circuit closed, failures in a row",
            rows: vec![
                (
                    "bulkman `CircuitBreaker`",
                    breaker(CircuitBreakerConfig::default()),
                ),
                (
                    "failsafe",
                    failsafe_breaker(failure_policy::consecutive_failures(5, pause())),
                ),
            ],
        },
        Section {
            title: "circuit closed, failures among 100 calls",
            rows: vec![
                (
                    "bulkman `CircuitBreaker`",
                    breaker(of_rate().failure_rate(0.5, 100)),
                ),
                ("recloser", round(move || recloser.call(task))),
            ],
        },
        Section {
            title: "circuit closed, failures in a minute",
            rows: vec![
                (
                    "bulkman `CircuitBreaker`",
                    breaker(of_rate().failure_rate_over(0.5, MINUTE)),
                ),
                (
                    "failsafe",
                    failsafe_breaker(failure_policy::success_rate_over_time_window(
                        0.5,
                        5,
                        MINUTE,
                        pause(),
                    )),
                ),
            ],
        },
        Section {
            title: "retry that is not needed",
            rows: vec![
                ("bulkman `Retry`", round(move || retry.call(task))),
                ("backon", round(move || task.retry(backon).call())),
            ],
        },
        Section {
            title: "rate limit",
            rows: vec![
                ("bulkman `RateLimit`", round(move || direct.try_acquire())),
                ("governor", round(move || governor.check())),
            ],
        },
        Section {
            title: "rate limit by key",
            rows: vec![
                (
                    "bulkman `KeyedRateLimit`",
                    round(move || by_key.try_acquire(black_box("tenant-7"))),
                ),
                (
                    "governor",
                    round(move || governor_by_key.check_key(black_box(&"tenant-7"))),
                ),
            ],
        },
    ]
}

/// Nanoseconds a call.
fn turn(round: &mut Round) -> f64 {
    round(CALLS / 5);
    let began = Instant::now();
    round(CALLS);
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn main() {
    let machine = machine::describe();
    let rounds = std::env::args().nth(1);
    let rounds: usize = rounds.map_or(25, |rounds| rounds.parse().expect("a number of rounds"));
    let mut sections = sections();
    let mut times: Vec<Vec<Vec<f64>>> = sections
        .iter()
        .map(|section| vec![Vec::new(); section.rows.len()])
        .collect();
    for number in 0..rounds {
        for (section, times) in sections.iter_mut().zip(&mut times) {
            let mut turns: Vec<_> = section.rows.iter_mut().zip(times).collect();
            if number % 2 == 1 {
                turns.reverse();
            }
            for ((_, round), times) in turns {
                times.push(turn(round));
            }
        }
    }
    println!("Medians of {rounds} alternating rounds. {machine}.\n");
    println!("| | | a call | middle half | times bulkman's |");
    println!("|---|---|--:|--:|--:|");
    for (section, times) in sections.iter().zip(&mut times) {
        let mut own = None;
        let mut title = section.title;
        for ((name, _), times) in section.rows.iter().zip(times) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            let (low, median, high) = (at(0.25), at(0.5), at(0.75));
            let own = *own.get_or_insert(median);
            let ratio = median / own;
            println!(
                "| {title} | {name} | {median:.1} ns | {low:.1} to {high:.1} ns | {ratio:.2} |"
            );
            title = "";
        }
    }
}

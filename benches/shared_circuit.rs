//! What a circuit in PostgreSQL costs a call, and how fast a fleet hears of it.
//!
//! ```sh
//! cargo bench --features postgres --bench shared_circuit
//! ```
//!
//! It takes a minute, and starts servers and processes of its own. It is no criterion bench: what counts are ratios
//! between candidates that take turns, and times between processes.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitState, MemoryStorage,
    PostgresStorage,
};
use support::postgres::Server;
use support::{PATIENCE, eventually};

const ROUNDS: usize = 101;
const TRIPS: usize = 200;
const FLEET: usize = 32;

fn main() {
    // A child is told where the server is.
    if let Some(dsn) = std::env::var_os("BULKMAN_BENCH_DSN") {
        return live_in_the_fleet(&dsn.to_string_lossy());
    }
    let server = Server::start();
    server.create_table();
    cost_of_a_call(&server);
    propagation(&server);
    fleet(&server);
}

fn storage(server: &Server) -> PostgresStorage {
    let storage = PostgresStorage::builder(server.dsn());
    storage.build().expect("a valid connection string")
}

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default().isolation_duration(Duration::from_secs(600))
}

// ---- what a call pays

/// One way to keep the circuit.
struct Candidate {
    name: &'static str,
    breaker: CircuitBreaker,
    bulkhead: Bulkhead,
    /// Nanoseconds for each kind of work, one a round.
    times: [Vec<f64>; 3],
}

impl Candidate {
    fn new(name: &'static str, storage: Option<PostgresStorage>, in_memory: bool) -> Self {
        let mut breaker = CircuitBreaker::builder("alone", rules());
        let config = BulkheadConfig::new("call")
            .max_queue_size(4_000)
            .max_concurrent_calls(1);
        let mut bulkhead = Bulkhead::builder(config.circuit_breaker(rules()));
        if in_memory {
            let storage = MemoryStorage::new();
            breaker = breaker.storage(storage.clone());
            bulkhead = bulkhead.circuit_storage(storage);
        }
        if let Some(storage) = storage {
            breaker = breaker.storage(storage.clone());
            bulkhead = bulkhead.circuit_storage(storage);
        }
        Self {
            name,
            breaker: breaker.build().expect("a breaker"),
            bulkhead: bulkhead.build().expect("a bulkhead"),
            times: Default::default(),
        }
    }

    fn round(&mut self) {
        const CALLS: u32 = 50_000;
        let breaker = &self.breaker;
        let successes = nanos_each(CALLS, || {
            for _ in 0..CALLS {
                black_box(breaker)
                    .try_acquire()
                    .expect("closed")
                    .record_success();
            }
        });
        let mixed = nanos_each(CALLS, || {
            for _ in 0..CALLS / 2 {
                black_box(breaker)
                    .try_acquire()
                    .expect("closed")
                    .record_failure();
                black_box(breaker)
                    .try_acquire()
                    .expect("closed")
                    .record_success();
            }
        });
        let batch = 2_000;
        let calls = nanos_each(batch, || {
            let handles: Vec<_> = (0..batch).map(|i| self.bulkhead.run(move || i)).collect();
            for handle in handles {
                assert!(handle.wait().is_success());
            }
        });
        for (times, time) in self.times.iter_mut().zip([successes, mixed, calls]) {
            times.push(time);
        }
    }
}

fn nanos_each(calls: u32, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn cost_of_a_call(server: &Server) {
    let mut frozen = Server::start();
    frozen.create_table();
    let mut candidates = [
        Candidate::new("no storage", None, false),
        Candidate::new("MemoryStorage", None, true),
        Candidate::new("PostgresStorage", Some(storage(server)), false),
        Candidate::new(
            "PostgresStorage, server frozen",
            Some(storage(&frozen)),
            false,
        ),
    ];
    frozen.freeze();
    for round in 0..ROUNDS {
        // None is always the first.
        for i in 0..candidates.len() {
            candidates[(i + round) % 4].round();
        }
    }
    println!("Nanoseconds a call, medians of {ROUNDS} rounds in which the candidates take turns,");
    println!("and their ratio to no storage\n");
    println!(
        "{:<32}{:>20}{:>24}{:>20}",
        "", "breaker, success", "failure and success", "bulkhead, batch"
    );
    let base: Vec<f64> = candidates[0]
        .times
        .iter()
        .map(|times| median(times))
        .collect();
    for candidate in &candidates {
        print!("{:<32}", candidate.name);
        for ((times, base), width) in candidate.times.iter().zip(&base).zip([20, 24, 20]) {
            let median = median(times);
            let cell = format!("{median:.1}  ({:.2})", median / base);
            print!("{cell:>width$}");
        }
        println!();
    }
    println!();
    // So that the frozen one does not keep its bulkhead waiting.
    frozen.kill();
}

// ---- how fast a peer hears of it

fn propagation(server: &Server) {
    let opened = Arc::new(Mutex::new(HashMap::new()));
    let (here, there) = (storage(server), storage(server));
    let build = |name: &str,
                 storage: &PostgresStorage,
                 heard: Option<Arc<Mutex<HashMap<String, Instant>>>>| {
        let builder = CircuitBreaker::builder(name, rules()).storage(storage.clone());
        let builder = builder.on_change(move |change| {
            if let (CircuitState::Open, Some(heard)) = (change.to, &heard) {
                heard
                    .lock()
                    .unwrap()
                    .insert(change.name.to_string(), Instant::now());
            }
        });
        builder.build().expect("a breaker")
    };
    let names: Vec<String> = (0..TRIPS).map(|i| format!("circuit {i}")).collect();
    let peers: Vec<_> = names
        .iter()
        .map(|name| build(name, &there, Some(opened.clone())))
        .collect();
    let own: Vec<_> = names.iter().map(|name| build(name, &here, None)).collect();
    let mut tripped = Vec::new();
    for breaker in &own {
        tripped.push(Instant::now());
        breaker.trip();
        assert!(breaker.flush(PATIENCE));
        // So that the trips fall into all phases of the interval.
        std::thread::sleep(Duration::from_millis(13));
    }
    eventually("all peers have heard", || {
        peers.iter().all(CircuitBreaker::is_open)
    });
    eventually("and said so", || opened.lock().unwrap().len() == TRIPS);
    let opened = opened.lock().unwrap();
    let millis = names
        .iter()
        .zip(&tripped)
        .map(|(name, tripped)| (opened[name] - *tripped).as_secs_f64() * 1000.0);
    println!("From a trip to the open circuit of a peer, refresh interval 1 s, {TRIPS} trips");
    println!("{}\n", spread(millis.collect()));
}

// ---- a fleet

fn fleet(server: &Server) {
    let mut fleet: Vec<Member> = (0..FLEET).map(|_| Member::start(server)).collect();
    for member in &mut fleet {
        member.await_line("ready");
    }
    let start = Instant::now();
    let before = commits(server);
    std::thread::sleep(Duration::from_secs(5));
    let rate = (commits(server) - before) / start.elapsed().as_secs_f64();
    println!(
        "{FLEET} processes with one circuit on one table: {rate:.0} transactions a second while nothing happens"
    );

    let tripped = since_1970();
    fleet[0].tell("trip");
    let heard = fleet.iter_mut().map(|member| {
        let at: f64 = member.await_line("open ").parse().expect("a time");
        (at - tripped) * 1000.0
    });
    println!(
        "One trips. Until the others have opened too:\n{}\n",
        spread(heard.skip(1).collect())
    );
}

fn commits(server: &Server) -> f64 {
    let rows =
        server.sql("select xact_commit from pg_stat_database where datname = current_database()");
    rows[0][0]
        .as_deref()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

struct Member {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(server: &Server) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .env("BULKMAN_BENCH_DSN", server.dsn())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, output }
    }

    fn tell(&mut self, word: &str) {
        let input = self.process.stdin.as_mut().expect("piped");
        writeln!(input, "{word}").expect("it listens");
    }

    fn await_line(&mut self, start: &str) -> String {
        let line = self.output.next().expect("it lives").expect("text");
        line.strip_prefix(start)
            .expect("what it has to say")
            .to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn live_in_the_fleet(dsn: &str) {
    let storage = PostgresStorage::builder(dsn)
        .build()
        .expect("a valid connection string");
    let breaker = CircuitBreaker::builder("fleet", rules())
        .storage(storage)
        .on_change(|_| println!("open {:.6}", since_1970()))
        .build()
        .expect("a breaker");
    println!("ready");
    for word in std::io::stdin().lines() {
        if word.is_ok_and(|word| word == "trip") {
            breaker.trip();
        }
    }
}

// ---- numbers

fn since_1970() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn spread(mut millis: Vec<f64>) -> String {
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
    format!(
        "  ms: min {:.0}, 10 % {:.0}, median {:.0}, 90 % {:.0}, 99 % {:.0}, max {:.0}",
        at(0.0),
        at(0.1),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

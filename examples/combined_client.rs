//! Retry, timeout, circuit and bulkhead on each call of an HTTP client, while its server breaks down and comes back.
//!
//! ```text
//! cargo run --example combined_client
//! ```
//!
//! The server and the client are real and local. The server answers, then fails now and then, then hangs, and then is well
//! again; a second dependency is called all the time beside it. The drill ends by itself after some six seconds.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::policy::{
    Failure, FailureKind, Fallback, LayerKind, Only, Pipeline, PipelineResult, Retry, RetryBudget,
    remaining,
};
use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};

/// What the server does, one after the other.
const PHASES: [&str; 4] = ["well", "flaky", "hanging", "well again"];
const PHASE: Duration = Duration::from_millis(1_500);
const CALL_EVERY: Duration = Duration::from_millis(25);
/// Callers wait no longer, whatever happens.
const LIMIT: Duration = Duration::from_millis(600);
const SERVER_THREADS: usize = 16;

type Fault = Box<dyn Error + Send + Sync>;
type Reply = PipelineResult<String, ureq::Error>;

fn main() -> Result<(), Fault> {
    let server = tiny_http::Server::http("127.0.0.1:0")?;
    let url = format!("http://{}", server.server_addr());
    let phase = AtomicUsize::new(0);
    let (prices, stock) = (Client::new("prices", &url)?, Client::new("stock", &url)?);

    println!("`prices` breaks down and comes back; `stock` is well all the time.");
    println!("Callers wait {LIMIT:?} at the longest.\n");
    println!(
        "{:<8}{:<12}{:>7}{:>9}{:>9}{:>9}{:>10}{:>14}{:>10}  at the end",
        "", "server", "calls", "answers", "cached", "failed", "attempts", "circuit open", "slowest"
    );
    let tables = thread::scope(|scope| {
        for _ in 0..SERVER_THREADS {
            scope.spawn(|| serve(&server, &phase));
        }
        let other = scope.spawn(|| drill(&stock, |_| {}));
        let own = drill(&prices, |now| phase.store(now, Ordering::Relaxed));
        let other = other.join();
        phase.store(0, Ordering::Relaxed);
        for _ in 0..SERVER_THREADS {
            server.unblock();
        }
        (own, other)
    });
    let (own, other) = (tables.0, tables.1.map_err(|_| "the other caller panicked")?);
    for (client, rows) in [(&prices, &own), (&stock, &other)] {
        for (row, phase) in rows.iter().zip(PHASES) {
            row.print(&client.name, phase);
        }
    }
    println!("\nwhat the bulkheads have counted");
    for client in [&prices, &stock] {
        println!("   {}", client.bulkhead.stats());
    }
    check(&own, &other)?;
    // A task that hangs ends with its client's own timeout: do not wait for it for ever.
    for client in [&prices, &stock] {
        client.bulkhead.shutdown_timeout(Duration::from_secs(2));
    }
    Ok(())
}

/// A client of one API, with all that protects its callers.
struct Client {
    name: String,
    url: String,
    agent: ureq::Agent,
    bulkhead: Arc<Bulkhead>,
    pipeline: Pipeline<ureq::Error, Only<String>>,
}

impl Client {
    fn new(name: &str, url: &str) -> Result<Self, Fault> {
        let rules = CircuitBreakerConfig::default()
            .failure_threshold(5)
            .success_threshold(2)
            .isolation_duration(Duration::from_millis(500));
        let config = BulkheadConfig::new(name)
            .max_concurrent_calls(4)
            .max_queue_size(8)
            .circuit_breaker(rules);
        let bulkhead = Arc::new(Bulkhead::new(config)?);

        let pipeline = Pipeline::builder(name)
            .fallback(Fallback::last_good(Duration::from_secs(60)))
            .timeout(LIMIT) // over all attempts
            .retry(
                Retry::new(3)
                    .first_delay(Duration::from_millis(20))
                    .max_named_delay(Duration::from_millis(100)) // no caller waits for an open circuit
                    .budget(RetryBudget::new(0.2))
                    .retry_timeouts() // to read twice does no harm
                    .retry_if(is_worth_a_retry),
            )
            .timeout(LIMIT / 2) // for each attempt
            .bulkhead(&bulkhead)
            .build()?;

        let config = ureq::Agent::config_builder().proxy(None);
        Ok(Self {
            name: name.into(),
            url: format!("{url}/{name}"),
            agent: config.build().into(),
            bulkhead,
            pipeline,
        })
    }

    /// One call, with everything around it.
    fn get(&self) -> Reply {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        self.pipeline.execute(move || {
            // The client gives up when its caller does, and gives the worker back.
            let request = agent.get(&url).config().timeout_global(remaining()).build();
            request.call()?.body_mut().read_to_string()
        })
    }
}

/// What the server says about the request itself would be the same the next time.
fn is_worth_a_retry(error: &ureq::Error) -> bool {
    !matches!(error, ureq::Error::StatusCode(400..=499))
}

/// Calls at an even pace through all phases.
fn drill(client: &Client, begin: impl Fn(usize)) -> Vec<Row> {
    let mut rows = Vec::new();
    for phase in 0..PHASES.len() {
        begin(phase);
        let mut row = Row::default();
        let until = Instant::now() + PHASE;
        // Several callers, so that one that waits holds up no other.
        let replies = thread::scope(|scope| {
            let mut callers = Vec::new();
            while Instant::now() < until {
                callers.push(scope.spawn(|| client.get()));
                thread::sleep(CALL_EVERY);
            }
            let replies = callers.into_iter().filter_map(|caller| caller.join().ok());
            replies.collect::<Vec<_>>()
        });
        for reply in replies {
            row.count(&reply);
        }
        row.circuit = client.bulkhead.state().to_string();
        rows.push(row);
    }
    rows
}

/// What became of the calls of a phase.
#[derive(Default)]
struct Row {
    calls: u32,
    answers: u32,
    cached: u32,
    failed: u32,
    refused: u32,
    attempts: u32,
    slowest: Duration,
    circuit: String,
}

impl Row {
    fn count(&mut self, reply: &Reply) {
        self.calls += 1;
        self.attempts += reply.attempts;
        self.slowest = self.slowest.max(reply.elapsed);
        match reply.decided_by {
            _ if !reply.is_success() => self.failed += 1,
            LayerKind::Fallback => self.cached += 1,
            _ => self.answers += 1,
        }
        let from = reply.fell_back_from.as_ref().map(Failure::failure_kind);
        self.refused += u32::from(from == Some(FailureKind::CircuitOpen));
    }

    fn print(&self, name: &str, phase: &str) {
        println!(
            "{name:<8}{phase:<12}{:>7}{:>9}{:>9}{:>9}{:>10}{:>14}{:>10}  {}",
            self.calls,
            self.answers,
            self.cached,
            self.failed,
            self.attempts,
            self.refused,
            format!("{:.0?}", self.slowest),
            self.circuit
        );
    }
}

/// The drill is a test, too.
fn check(own: &[Row], other: &[Row]) -> Result<(), Fault> {
    let [well, flaky, hanging, again] = own else {
        return Err("a row for each phase".into());
    };
    // On a busy machine a few calls may be too slow.
    let most = |part: u32, row: &Row| part * 10 >= row.calls * 9;
    for (holds, what) in [
        (most(well.answers, well), "a server that is well answers"),
        (
            own.iter().all(|row| most(row.calls - row.failed, row)),
            "callers have an answer, be it a cached one",
        ),
        (
            flaky.attempts > flaky.calls,
            "a flaky server is asked again",
        ),
        (
            hanging.refused > 0,
            "the circuit opens for a server that hangs",
        ),
        (again.answers > 0, "the circuit closes again"),
        (
            other.iter().all(|row| most(row.answers, row)),
            "the other dependency notices nothing",
        ),
    ] {
        if !holds {
            return Err(format!("unexpected: it does not hold that {what}").into());
        }
    }
    println!("\nthe other dependency noticed nothing, and each caller had an answer in time");
    Ok(())
}

/// The server: `stock` is always well, `prices` does what the phase says.
fn serve(server: &tiny_http::Server, phase: &AtomicUsize) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    while let Ok(request) = server.recv() {
        let phase = match request.url() {
            "/prices" => phase.load(Ordering::Relaxed),
            _ => 0,
        };
        let status = match PHASES[phase] {
            "flaky" if ASKED.fetch_add(1, Ordering::Relaxed) % 3 == 0 => 503,
            "hanging" => {
                thread::sleep(Duration::from_millis(400));
                200
            }
            _ => 200,
        };
        let reply = tiny_http::Response::from_string("290").with_status_code(status);
        // A client that has given up is gone.
        let _: io::Result<()> = request.respond(reply);
    }
}

//! One of two dependencies hangs: an application without bulkheads, and the same one with them.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! All of it is real and local: an HTTP server on loopback, a blocking HTTP client, and a few threads that
//! serve the application's requests. It ends by itself after about ten seconds.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, BulkheadStats, CircuitBreakerConfig};

const HEALTHY: &str = "healthy-api";
const HANGING: &str = "hanging-api";

const REQUESTS: usize = 240;
const REQUEST_EVERY: Duration = Duration::from_millis(10);
const REQUEST_THREADS: usize = 8;
const SERVER_THREADS: usize = 4;
/// The longest that the HTTP client waits. Without bulkheads it is the only protection.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

type Failure = Box<dyn Error + Send + Sync>;
type CallResult = Result<String, BulkheadError<ureq::Error>>;

fn main() -> Result<(), Failure> {
    println!(
        "An application with {REQUEST_THREADS} request threads calls `{HEALTHY}`, which answers within milliseconds,\n\
         and in every fifth request `{HANGING}`, which never answers. The same {REQUESTS} requests are served\n\
         without bulkheads and then with one for each API, ten seconds in all: watch `{HEALTHY}`.\n"
    );
    let server = tiny_http::Server::http("127.0.0.1:0")?;
    let ([without, with], stats) = thread::scope(|scope| {
        for _ in 0..SERVER_THREADS {
            scope.spawn(|| answer_requests(&server));
        }
        let measured = measure(&format!("http://{}", server.server_addr()));
        for _ in 0..SERVER_THREADS {
            server.unblock();
        }
        measured
    })?;

    let note = format!("  (gave up: after the HTTP client's {CLIENT_TIMEOUT:?})");
    println!("\n{note:52}{FAILED_FAST}   {LATENCY}");
    let columns = ["requests"].iter().chain(&OUTCOMES);
    print_row("", columns.chain(&["p50", "p99", "max"]));
    print_table("without bulkheads", &without);
    print_table("with bulkheads", &with);
    println!("\nwhat the bulkheads have counted");
    stats.iter().for_each(print_stats);
    print_where_timeouts_went(&with, &stats[1]);

    if latency(&with, HEALTHY, 0.5) >= latency(&without, HEALTHY, 0.5) {
        return Err(format!("unexpected: {HEALTHY} was no faster with bulkheads").into());
    }
    Ok(())
}

fn measure(url: &str) -> Result<([Vec<Request>; 2], [BulkheadStats; 2]), Failure> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(CLIENT_TIMEOUT))
        .proxy(None);
    let agent = ureq::Agent::from(config.build());

    // ---- without bulkheads: each request thread makes its calls itself
    let without = serve("without bulkheads", |api| {
        get(&agent, &format!("{url}/{api}")).map_err(BulkheadError::Failed)
    })?;

    // ---- with bulkheads: each request thread hands its calls to the few threads of that API, and waits
    let healthy = Bulkhead::new(
        BulkheadConfig::new(HEALTHY)
            .max_concurrent_calls(4)
            .max_queue_size(8),
    )?;
    let hanging = Bulkhead::new(
        BulkheadConfig::new(HANGING)
            .max_concurrent_calls(2)
            .max_queue_size(2)
            .execution_timeout(Duration::from_millis(150)) // no caller waits longer, in queue and run together
            .circuit_breaker(CircuitBreakerConfig::default().failure_threshold(2)),
    )?;
    let with = serve("with bulkheads", |api| {
        let bulkhead = if api == HEALTHY { &healthy } else { &hanging };
        let (agent, url) = (agent.clone(), format!("{url}/{api}"));
        bulkhead
            .execute(move || get(&agent, &url))
            .wait()
            .into_result()
    })?;
    Ok(([without, with], [healthy.stats(), hanging.stats()]))
    // Dropped here, the bulkheads wait for the calls that still hang, up to the client's timeout.
}

fn get(agent: &ureq::Agent, url: &str) -> Result<String, ureq::Error> {
    agent.get(url).call()?.body_mut().read_to_string()
}

/// A request that the application has served.
struct Request {
    api: &'static str,
    outcome: &'static str,
    latency: Duration,
}

const PANICKED: &str = "a request thread panicked";

/// Serves all requests with the application's few threads; `call` is how it calls an API.
fn serve(how: &str, call: impl Fn(&str) -> CallResult + Sync) -> Result<Vec<Request>, Failure> {
    let began = Instant::now();
    print_now(&format!("serving {how} "));
    let (door, arrivals) = mpsc::channel::<(&str, Instant)>();
    let arrivals = Mutex::new(arrivals);
    let request_thread = || {
        let mut served = Vec::new();
        loop {
            let next = arrivals.lock().map_err(|_| PANICKED)?.recv();
            let Ok((api, arrived)) = next else {
                return Ok::<_, Failure>(served);
            };
            let outcome = outcome(call(api))?;
            // Since it arrived, because a user also waits while all request threads are taken.
            let latency = arrived.elapsed();
            served.push(Request {
                api,
                outcome,
                latency,
            });
            if served.len() % 4 == 0 {
                print_now(".");
            }
        }
    };
    thread::scope(|scope| {
        let threads = [(); REQUEST_THREADS].map(|()| scope.spawn(request_thread));
        for number in 1..=REQUESTS {
            let api = if number % 5 == 0 { HANGING } else { HEALTHY };
            door.send((api, Instant::now()))?;
            thread::sleep(REQUEST_EVERY);
        }
        drop(door);
        let mut served = Vec::new();
        for thread in threads {
            served.extend(thread.join().map_err(|_| PANICKED)??);
        }
        println!(" {:.1} s", began.elapsed().as_secs_f64());
        Ok(served)
    })
}

/// `gave up` is what the HTTP client did after its timeout; the last three come from the bulkhead. A
/// `timeout` ends the caller's waiting, not a call that runs: that one keeps its thread until it gives up.
const OUTCOMES: [&str; 5] = ["answered", "gave up", "full", "timeout", "circuit"];

fn outcome(result: CallResult) -> Result<&'static str, Failure> {
    match result {
        Ok(_) => Ok("answered"),
        Err(BulkheadError::Failed(ureq::Error::Timeout(_))) => Ok("gave up"),
        Err(BulkheadError::Full { .. }) => Ok("full"),
        Err(BulkheadError::Timeout { .. }) => Ok("timeout"),
        Err(BulkheadError::CircuitOpen { .. }) => Ok("circuit"),
        Err(unexpected) => Err(unexpected.into()),
    }
}

/// One thread of the server that has both APIs.
fn answer_requests(server: &tiny_http::Server) {
    let mut left_hanging = Vec::new();
    for request in server.incoming_requests() {
        if request.url().ends_with(HANGING) {
            left_hanging.push(request);
        } else {
            thread::sleep(Duration::from_millis(3));
            let _client_may_be_gone = request.respond(tiny_http::Response::from_string("fine"));
        }
    }
}

/// Ties the two tables: what callers saw as a timeout, and how the ledger counts those calls.
fn print_where_timeouts_went(requests: &[Request], stats: &BulkheadStats) {
    let timeouts = requests.iter().filter(|r| r.outcome == "timeout").count() as u64;
    let expired = stats.timed_out_executions;
    println!(
        "{:15}the {timeouts} timeouts above: {expired} calls expired in the queue and never ran, {} ran on until the HTTP \
         client gave up\n{:15}and failed. (A call counts by its own end, not by its caller's.)",
        "",
        timeouts.saturating_sub(expired),
        "",
    );
}

fn print_now(text: &str) {
    print!("{text}");
    let _shown_later_then = io::stdout().flush();
}

const FAILED_FAST: &str = "------- failed fast -------";
const LATENCY: &str = "-- latency of the requests --";

fn print_table(title: &str, requests: &[Request]) {
    println!("{title}");
    for api in [HEALTHY, HANGING] {
        let of_api = || requests.iter().filter(|r| r.api == api);
        let count = |outcome| of_api().filter(|r| r.outcome == outcome).count();
        let mut cells = vec![of_api().count().to_string()];
        cells.extend(OUTCOMES.map(|outcome| count(outcome).to_string()));
        cells.extend([0.5, 0.99, 1.0].map(|q| ms(latency(requests, api, q))));
        print_row(api, cells);
    }
}

fn print_row(name: &str, cells: impl IntoIterator<Item = impl Display>) {
    let cells = cells.into_iter().map(|cell| format!("{cell:>10}"));
    println!("  {name:11}{}", cells.collect::<String>());
}

fn print_stats(stats: &BulkheadStats) {
    println!(
        "  {}: {} calls = {} succeeded + {} failed + {} expired in the queue + {} full + {} circuit open",
        stats.name,
        stats.submitted_executions,
        stats.successful_executions,
        stats.failed_executions,
        stats.timed_out_executions,
        stats.rejected_full,
        stats.rejected_circuit_open,
    );
    println!(
        "{:15}{} started, at most {} at a time; 99 % ran up to {}; the bulkhead is {}",
        "",
        stats.total_executions,
        stats.max_concurrent_calls,
        ms(stats.run_time.quantile(0.99)),
        stats.state,
    );
}

fn latency(requests: &[Request], api: &str, q: f64) -> Duration {
    let requests = requests.iter().filter(|r| r.api == api);
    let mut latencies: Vec<_> = requests.map(|r| r.latency).collect();
    latencies.sort();
    latencies[((latencies.len() - 1) as f64 * q).ceil() as usize]
}

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    format!("{ms:.*} ms", if ms < 10.0 { 2 } else { 0 })
}

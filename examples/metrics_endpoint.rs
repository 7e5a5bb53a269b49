//! `/metrics` for Prometheus, `/health` for people and `/ready` for a load balancer, over the bulkheads of a service, and over a
//! pipeline.
//!
//! ```text
//! cargo run --example metrics_endpoint              # shows what each page says, and ends
//! cargo run --example metrics_endpoint -- serve     # serves on port 9464 until it is stopped
//! ```

use std::env;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::export::PrometheusText;
use bulkman::policy::{Fallback, Only, Pipeline, Retry, RetryBudget};
use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadRegistry, CircuitBreakerConfig, HealthReason,
    HealthThresholds, RegistryHealth,
};
use tiny_http::{Header, Request, Response, Server};

/// Gives the tax rate, and the last resort if the service is down.
type Taxes = Pipeline<&'static str, Only<f64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let stays = env::args()
        .nth(1)
        .is_some_and(|argument| argument == "serve");
    let registry = Arc::new(BulkheadRegistry::new());
    let breaker = CircuitBreakerConfig::default().failure_threshold(3);
    let thresholds = HealthThresholds::default()
        .saturated_for(Duration::from_secs(10))
        .all_busy_for(Duration::from_secs(30))
        .rejection_rate(0.2, Duration::from_secs(60));
    let database = BulkheadConfig::new("database").max_concurrent_calls(4);
    registry.create(Bulkhead::builder(database).health_thresholds(thresholds))?;
    let tax_api = registry.create(BulkheadConfig::new("tax-api").circuit_breaker(breaker))?;
    let taxes: Taxes = Pipeline::builder("taxes")
        .fallback(Fallback::value(0.19))
        .timeout(Duration::from_secs(1))
        .retry(Retry::new(3).budget(RetryBudget::new(0.1)))
        .bulkhead(&tax_api)
        .build()?;

    let port = if stays { 9464 } else { 0 };
    let server = Server::http(("127.0.0.1", port)).map_err(|error| error as Box<dyn Error>)?;
    let address = server.server_addr();
    let pages = PrometheusText::new().label("service", "shop")?;
    let (served, watched) = (Arc::clone(&registry), taxes.clone());
    let answering = thread::spawn(move || {
        for request in server.incoming_requests() {
            if let Err(error) = answer(request, &served, &watched, &pages) {
                eprintln!("a client went away: {error}");
            }
        }
    });
    println!("serving on http://{address}");

    work(&registry, &taxes, 100)?;
    if stays {
        println!("press Ctrl-C to stop");
        let _ = answering.join();
        return Ok(());
    }
    for page in ["ready", "health", "metrics"] {
        let mut response = ureq::get(format!("http://{address}/{page}"))
            .config()
            .http_status_as_error(false)
            .build()
            .call()?;
        println!("\nGET /{page}: {}", response.status());
        let body = response.body_mut().read_to_string()?;
        // Histograms are long.
        let is_short = |line: &&str| !line.contains("_bucket");
        body.lines()
            .filter(is_short)
            .for_each(|line| println!("  {line}"));
    }
    // The server's thread ends with the process; the bulkheads end in order.
    let reports = registry.shutdown_all(Duration::from_secs(5));
    assert!(reports.values().all(bulkman::ShutdownReport::is_clean));
    Ok(())
}

/// A scrape reads a few numbers of each bulkhead and pipeline. It takes no lock that a call can hold, so it costs the calls nothing.
fn answer(
    request: Request,
    registry: &BulkheadRegistry,
    taxes: &Taxes,
    pages: &PrometheusText,
) -> io::Result<()> {
    match request.url() {
        "/metrics" => {
            let kind = Header::from_bytes("Content-Type", PrometheusText::CONTENT_TYPE);
            let bulkheads = pages.render(&registry.stats());
            let text = bulkheads + &pages.render_pipelines([&taxes.stats()]);
            let text = Response::from_string(text);
            request.respond(text.with_header(kind.expect("a valid header")))
        }
        // An open circuit is no reason to restart a process: its other dependencies are well.
        "/health" => request.respond(Response::from_string(format!("{}\n", registry.health()))),
        "/ready" => {
            let health = registry.health();
            let (status, text) = if is_ready(&health) {
                (200, "ready\n".to_owned())
            } else {
                (503, format!("not ready: {health}\n"))
            };
            request.respond(Response::from_string(text).with_status_code(status))
        }
        _ => request.respond(Response::from_string("no such page\n").with_status_code(404)),
    }
}

/// Whether the load balancer should send more requests. It should not while the process shuts down, nor while the database
/// has reached a threshold, since every request needs it. An open circuit takes no traffic away: a dependency that is down is
/// down for the other instances too.
fn is_ready(health: &RegistryHealth) -> bool {
    let ends = |reasons: &Vec<HealthReason>| reasons.contains(&HealthReason::ShutDown);
    let is_overloaded = health.reasons.get("database").is_some_and(|reasons| {
        reasons
            .iter()
            .any(|reason| *reason != HealthReason::CircuitOpen)
    });
    !is_overloaded && !health.reasons.values().any(ends)
}

/// Some calls to two dependencies, of which one is down.
fn work(registry: &BulkheadRegistry, taxes: &Taxes, calls: u64) -> Result<(), Box<dyn Error>> {
    let database = registry.thread_pool("database").ok_or("no database")?;
    let handles: Vec<_> = (0..calls)
        .map(|i| database.run(move || thread::sleep(Duration::from_micros(50 * i))))
        .collect();
    for handle in handles {
        handle.wait().into_result()?;
    }
    for _ in 0..calls {
        drop(taxes.execute(|| Err("no route to host")));
    }
    Ok(())
}

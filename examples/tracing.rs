//! One trace across threads: the span of a request, of its calls in two bulkheads, of what their tasks do, and of a pipeline
//! with its attempts, as an exporter gets them.
//!
//! ```sh
//! cargo run --features tracing,opentelemetry --example tracing
//! ```
//!
//! Nothing here hands a span, a subscriber or a context to a worker: the bulkheads do.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::policy::{Pipeline, Retry};
use bulkman::{Bulkhead, BulkheadConfig, SemaphoreBulkhead};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanId, Status, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::{info, info_span};
use tracing_subscriber::layer::SubscriberExt;

fn main() -> Result<(), Box<dyn Error>> {
    // A service has an exporter that sends here, such as the one of `opentelemetry-otlp`.
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let to_opentelemetry = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let subscriber = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().without_time())
        .with(to_opentelemetry);
    tracing::subscriber::set_global_default(subscriber)?;

    println!("The log: each line has the spans around it, on whichever thread it was written.\n");
    let database = BulkheadConfig::new("database").max_concurrent_calls(2);
    let database = Arc::new(Bulkhead::new(database)?);
    let files = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("files"))?);
    let tenant = Context::current_with_baggage([KeyValue::new("tenant", "acme")]);
    {
        let _attached = tenant.attach();
        let _request = info_span!("request", path = "/orders/7").entered();
        order(&database, &files)?;
    }
    database.shutdown();

    println!("\nThe trace: what the exporter got.\n");
    let spans = exporter.get_finished_spans()?;
    print_children(&spans, SpanId::INVALID, 0);
    Ok(())
}

/// A request: one call that goes well, with a call inside; one that fails; and one that is well at its second attempt.
fn order(database: &Arc<Bulkhead>, files: &Arc<SemaphoreBulkhead>) -> Result<(), Box<dyn Error>> {
    let files = Arc::clone(files);
    let load = database.call().operation("load").run(move || {
        let _query = info_span!("query", table = "orders").entered();
        let context = Context::current();
        let tenant = context
            .baggage()
            .get("tenant")
            .map(|tenant| tenant.as_str().to_owned());
        info!(tenant, "on {}", this_thread());
        thread::sleep(Duration::from_millis(2));
        files
            .call()
            .operation("template")
            .run(|| info!("still there"))
            .is_success()
    });
    assert!(load.result()?);
    let store = database.call().operation("store");
    let stored = store.execute(|| Err::<(), _>("the disk is full"));
    assert!(stored.result().is_err());
    let pipeline = Pipeline::builder("stock")
        .retry(Retry::new(3).first_delay(Duration::from_millis(1)))
        .bulkhead(database)
        .operation("reserve")
        .build()?;
    let attempts = AtomicU32::new(0);
    let reserved = pipeline.execute(move || match attempts.fetch_add(1, Ordering::Relaxed) {
        0 => Err("the connection was reset"),
        _ => Ok(()),
    });
    assert!(reserved.is_success());
    Ok(())
}

fn this_thread() -> String {
    thread::current().name().unwrap_or("a thread").to_owned()
}

/// The spans below a span, indented.
fn print_children(spans: &[SpanData], parent: SpanId, depth: usize) {
    let mut children: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id == parent)
        .collect();
    children.sort_by_key(|span| span.start_time);
    for span in children {
        let attribute = |name: &str| {
            let found = span.attributes.iter().find(|of| of.key.as_str() == name);
            found.map(|of| of.value.to_string()).unwrap_or_default()
        };
        let is_error = matches!(span.status, Status::Error { .. });
        let time = span
            .end_time
            .duration_since(span.start_time)
            .unwrap_or_default();
        println!(
            "{:indent$}{} {} {} {} {:.1?}, begun on {}{}",
            "",
            span.name,
            [attribute("pipeline"), attribute("bulkhead")].concat(),
            attribute("operation"),
            attribute("outcome"),
            time,
            attribute("thread.name"),
            if is_error { ", an error" } else { "" },
            indent = 4 * depth,
        );
        print_children(spans, span.span_context.span_id(), depth + 1);
    }
}

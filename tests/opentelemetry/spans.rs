//! What reaches a real exporter: the span of a call under its caller's, across the threads.

use std::sync::Arc;

use bulkman::SemaphoreBulkhead;
use bulkman::policy::{Fallback, Pipeline, Retry};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanId, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{bulkhead, config, occupy, wait};

/// Runs `body` under a subscriber that exports, and gives what was exported.
fn exported(body: impl FnOnce(&SdkTracerProvider)) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || body(&provider));
    exporter.get_finished_spans().unwrap()
}

#[track_caller]
fn find<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        found => panic!("{name}: {found:?}"),
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key.as_str() == key)?;
    Some(found.value.to_string())
}

#[test]
fn the_span_of_a_call_is_the_child_of_its_callers_and_the_parent_of_its_tasks() {
    let pool = bulkhead(1, 1);
    let spans = exported(|_| {
        info_span!("request").in_scope(|| {
            let call = pool.call().operation("get");
            drop(wait(call.run(|| info_span!("query").in_scope(|| ()))));
        });
    });
    let [request, call, query] =
        ["request", "bulkhead_call", "query"].map(|name| find(&spans, name));
    assert_eq!(request.parent_span_id, SpanId::INVALID);
    assert_eq!(call.parent_span_id, request.span_context.span_id());
    assert_eq!(query.parent_span_id, call.span_context.span_id());
    let traces = [request, call, query].map(|span| span.span_context.trace_id());
    assert!(traces.iter().all(|trace| *trace == traces[0]));
    assert_eq!(attribute(call, "bulkhead").as_deref(), Some("test"));
    assert_eq!(attribute(call, "operation").as_deref(), Some("get"));
    assert_eq!(attribute(call, "outcome").as_deref(), Some("succeeded"));
    assert!(attribute(call, "execution_id").is_some());
    assert!(attribute(call, "queued_seconds").is_some());
    assert_eq!(call.status, Status::Unset);
    assert!(request.start_time <= call.start_time && call.end_time <= request.end_time);
}

#[test]
fn a_call_that_fails_is_an_error_in_the_trace() {
    let (pool, here) = (
        bulkhead(1, 1),
        SemaphoreBulkhead::new(config(1, 1)).unwrap(),
    );
    let spans = exported(|_| {
        drop(wait(pool.execute(|| Err::<(), _>("no"))));
        drop(here.execute(|| Err::<(), _>("no")));
        let busy = occupy(&pool, 1);
        assert!(pool.run(|| ()).cancel());
        busy.finish();
    });
    let statuses: Vec<_> = spans
        .iter()
        .map(|span| {
            (
                attribute(span, "outcome").unwrap(),
                span.status == Status::error(""),
            )
        })
        .collect();
    let expected = [
        ("failed", true),
        ("failed", true),
        ("cancelled", false),
        ("succeeded", false),
    ];
    assert_eq!(
        statuses,
        expected.map(|(outcome, error)| (outcome.to_owned(), error))
    );
}

#[test]
fn a_pipeline_is_one_call_with_its_attempts() {
    let pool = Arc::new(bulkhead(1, 1));
    let pipeline: Pipeline<&str, _> = Pipeline::builder("users")
        .fallback(Fallback::value(7))
        .retry(Retry::new(3).first_delay(std::time::Duration::ZERO))
        .bulkhead(&pool)
        .build()
        .unwrap();
    let spans = exported(|_| {
        info_span!("request").in_scope(|| {
            let down = || info_span!("query").in_scope(|| Err("down"));
            assert_eq!(pipeline.execute(down).value(), Some(&7));
        });
    });
    let call = find(&spans, "pipeline_call");
    let request = find(&spans, "request");
    assert_eq!(call.parent_span_id, request.span_context.span_id());
    assert!(request.start_time <= call.start_time && call.end_time <= request.end_time);
    assert_eq!(call.status, Status::Unset, "the fallback has answered");
    for (name, value) in [
        ("pipeline", "users"),
        ("outcome", "succeeded"),
        ("attempts", "3"),
        ("decided_by", "fallback"),
        ("fell_back_from", "failed"),
        ("retry_stop", "all attempts are used up"),
    ] {
        assert_eq!(attribute(call, name).as_deref(), Some(value), "{name}");
    }
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "bulkhead_call")
        .collect();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!(attempt.parent_span_id, call.span_context.span_id());
        assert_eq!(attempt.status, Status::error(""));
        assert!(call.start_time <= attempt.start_time && attempt.end_time <= call.end_time);
        let mut below = spans.iter().filter(|span| span.name == "query");
        assert!(below.any(|query| query.parent_span_id == attempt.span_context.span_id()));
    }
    // `tracing-opentelemetry` makes events of a span's events.
    assert_eq!(
        call.events.len(),
        2,
        "two attempts after which another followed"
    );
}

#[test]
fn spans_that_are_made_with_opentelemetry_itself_belong_to_the_same_trace() {
    let pool = bulkhead(1, 1);
    let spans = exported(|provider| {
        let tracer = provider.tracer("service");
        let request = Context::current_with_span(tracer.start("request"))
            .with_baggage([KeyValue::new("tenant", "acme")]);
        let _attached = request.attach();
        drop(wait(pool.run(move || {
            assert!(Context::current().baggage().get("tenant").is_some());
            drop(tracer.start("query"));
        })));
    });
    let [request, call, query] =
        ["request", "bulkhead_call", "query"].map(|name| find(&spans, name));
    assert_eq!(call.parent_span_id, request.span_context.span_id());
    assert_eq!(query.parent_span_id, call.span_context.span_id());
}

#[test]
fn without_a_span_for_each_call_the_trace_does_not_break() {
    let pool = bulkman::Bulkhead::builder(config(1, 1))
        .call_spans(false)
        .build()
        .unwrap();
    let spans = exported(|_| {
        info_span!("request").in_scope(|| {
            drop(wait(pool.run(|| info_span!("query").in_scope(|| ()))));
        });
    });
    let query = find(&spans, "query");
    assert_eq!(
        query.parent_span_id,
        find(&spans, "request").span_context.span_id()
    );
    assert_eq!(spans.len(), 2);
}

#[test]
fn none_goes_on_into_the_next_task() {
    let pool = Arc::new(bulkhead(1, 4));
    let spans = exported(|provider| {
        for name in ["first", "second"] {
            let tracer = provider.tracer("service");
            info_span!("request").in_scope(|| {
                drop(wait(pool.run(move || drop(tracer.start(name)))));
            });
        }
        let tracer = provider.tracer("service");
        let inner = Arc::clone(&pool);
        let outside = std::thread::spawn(move || {
            wait(inner.run(move || drop(tracer.start("of nobody")))).is_success()
        });
        assert!(outside.join().unwrap());
    });
    assert_eq!(find(&spans, "of nobody").parent_span_id, SpanId::INVALID);
    let [first, second] = ["first", "second"].map(|name| find(&spans, name));
    assert_ne!(
        first.span_context.trace_id(),
        second.span_context.trace_id()
    );
}

#[test]
fn a_detached_call_begins_a_trace_with_a_link_to_its_callers() {
    let (pool, jobs) = (bulkhead(1, 1), Arc::new(bulkhead(1, 1)));
    let inner = Arc::clone(&jobs);
    let spans = exported(|_| {
        drop(wait(pool.run(move || {
            drop(inner.call().detached().operation("job").run(|| ()));
        })));
        assert!(jobs.wait_idle(crate::support::PATIENCE));
    });
    let [job, task] = [true, false].map(|is_job| {
        let mut found = spans
            .iter()
            .filter(|span| attribute(span, "operation").is_some() == is_job);
        found.next().unwrap()
    });
    assert_eq!(job.parent_span_id, SpanId::INVALID);
    assert_ne!(job.span_context.trace_id(), task.span_context.trace_id());
    let links: Vec<_> = job
        .links
        .iter()
        .map(|link| link.span_context.span_id())
        .collect();
    assert_eq!(links, [task.span_context.span_id()]);
}

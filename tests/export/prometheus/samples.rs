//! Which samples there are, and their values.

use std::time::Duration;

use bulkman::export::PrometheusText;
use bulkman::{BulkheadConfig, BulkheadRegistry};

use crate::helpers::{Busy, samples, used_pipeline};
use crate::support::{SECOND, bulkhead, config, occupy, with_clock};

#[test]
fn every_number_has_its_sample() {
    let busy = Busy::new();
    let stats = busy.stats();
    let name = &stats.name;
    let text = PrometheusText::new().render([&stats]);
    let samples = samples(&text);
    let value = |metric: &str, label: &str| {
        let label = if label.is_empty() {
            String::new()
        } else {
            format!(",{label}")
        };
        let sample = format!("{metric}{{bulkhead=\"{name}\"{label}}}");
        *samples
            .get(&sample)
            .unwrap_or_else(|| panic!("no {sample} in\n{text}"))
    };
    for (metric, label, expected) in [
        ("bulkman_submitted_calls_total", "", 8.0),
        ("bulkman_rejected_calls_total", r#"reason="full""#, 1.0),
        (
            "bulkman_rejected_calls_total",
            r#"reason="circuit_open""#,
            0.0,
        ),
        ("bulkman_rejected_calls_total", r#"reason="shut_down""#, 0.0),
        (
            "bulkman_unstarted_calls_total",
            r#"reason="cancelled""#,
            1.0,
        ),
        (
            "bulkman_unstarted_calls_total",
            r#"reason="timed_out""#,
            0.0,
        ),
        (
            "bulkman_unstarted_calls_total",
            r#"reason="circuit_open""#,
            0.0,
        ),
        (
            "bulkman_finished_calls_total",
            r#"outcome="succeeded""#,
            2.0,
        ),
        ("bulkman_finished_calls_total", r#"outcome="failed""#, 1.0),
        ("bulkman_finished_calls_total", r#"outcome="panicked""#, 1.0),
        ("bulkman_caller_timeouts_total", r#"started="true""#, 0.0),
        ("bulkman_caller_timeouts_total", r#"started="false""#, 0.0),
        ("bulkman_busy_seconds_total", "", 4.0),
        ("bulkman_active_calls", "", 1.0),
        ("bulkman_queued_calls", "", 1.0),
        ("bulkman_abandoned_calls", "", 0.0),
        ("bulkman_max_concurrent_calls", "", 1.0),
        ("bulkman_max_queue_size", "", 1.0),
        ("bulkman_worker_threads", "", 1.0),
        ("bulkman_longest_running_seconds", "", 2.0),
        ("bulkman_longest_queued_seconds", "", 2.0),
        ("bulkman_state", r#"state="healthy""#, 1.0),
        ("bulkman_state", r#"state="isolated""#, 0.0),
        ("bulkman_circuit_state", r#"state="closed""#, 1.0),
        ("bulkman_circuit_state", r#"state="open""#, 0.0),
        ("bulkman_execution_seconds_sum", "", 2.0),
        ("bulkman_execution_seconds_count", "", 4.0),
        ("bulkman_execution_seconds_bucket", r#"le="0.5""#, 2.0),
        ("bulkman_execution_seconds_bucket", r#"le="2.5""#, 4.0),
        ("bulkman_execution_seconds_bucket", r#"le="+Inf""#, 4.0),
        ("bulkman_queue_wait_seconds_count", "", 5.0),
    ] {
        assert_eq!(value(metric, label), expected, "{metric} {label}");
    }
}

#[test]
fn callers_that_left_are_told_apart_by_whether_the_task_had_started() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(queued.wait().error().unwrap().is_timeout());
    let samples = samples(&PrometheusText::new().render([&bulkhead.stats()]));
    let left = |started: bool| {
        samples
            [&format!("bulkman_caller_timeouts_total{{bulkhead=\"test\",started=\"{started}\"}}")]
    };
    assert_eq!((left(false), left(true)), (1.0, 0.0));
    busy.finish();
}

#[test]
fn states_follow_the_bulkhead() {
    let busy = Busy::new();
    let state = |sample: &str| {
        let samples = samples(&PrometheusText::new().render([&busy.stats()]));
        samples
            .iter()
            .find(|(name, _)| name.contains(sample))
            .map(|(_, value)| *value)
    };
    busy.bulkhead.circuit_breaker().unwrap().trip();
    assert_eq!(state(r#"state="isolated""#), Some(1.0));
    assert_eq!(state(r#"state="open""#), Some(1.0));
    busy.clock.advance(60 * SECOND);
    assert_eq!(state(r#"state="degraded""#), Some(1.0));
    assert_eq!(state(r#"state="half_open""#), Some(1.0));
    let _ = busy.bulkhead.shutdown_now();
    assert_eq!(state(r#"state="shut_down""#), Some(1.0));
}

#[test]
fn a_bulkhead_without_a_circuit_has_no_state_of_one() {
    let stats = bulkhead(1, 1).stats();
    let text = PrometheusText::new().render([&stats]);
    assert!(!text.contains("bulkman_circuit_state{"), "{text}");
}

#[test]
fn each_family_is_in_one_piece_with_one_head() {
    let registry = BulkheadRegistry::new();
    for name in ["a", "b", "c"] {
        registry.create(BulkheadConfig::new(name)).unwrap();
    }
    let text = PrometheusText::new().render(&registry.stats());
    assert!(text.ends_with('\n'));
    let mut seen = Vec::new();
    for line in text.lines() {
        let name = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "))
            .unwrap_or(line);
        let end = name.find([' ', '{']).unwrap();
        let family = name[..end]
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        if seen.last() != Some(&family) {
            assert!(!seen.contains(&family), "{family} is in pieces");
            assert!(line.starts_with("# HELP "), "{line}");
            seen.push(family);
        }
    }
    assert_eq!(seen.len(), 18);
    assert_eq!(
        samples(&text).len(),
        3 * (1 + 3 + 3 + 3 + 2 + 1 + 8 + 4 + 2 * 17)
    );
}

#[test]
fn nothing_to_tell_is_heads_alone() {
    let text = PrometheusText::new().render([]);
    assert!(samples(&text).is_empty());
}

#[test]
fn buckets_are_sorted_once_each_and_end_in_infinity() {
    let stats = bulkhead(1, 1).stats();
    let bounds = [
        Duration::from_millis(1500),
        SECOND,
        Duration::ZERO,
        Duration::MAX,
        SECOND,
        Duration::from_nanos(1),
        Duration::new(1_000_000_000, 0),
        Duration::new(1_000_000_000, 1),
    ];
    let text = PrometheusText::new().buckets(bounds).render([&stats]);
    let bounds: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("bulkman_execution_seconds_bucket"))
        .map(|line| {
            line.split("le=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(bounds, ["0.000000001", "1", "1.5", "1000000000", "+Inf"]);
}

#[test]
fn ten_thousand_bulkheads_are_one_text() {
    let stats = bulkhead(1, 1).stats();
    let text = PrometheusText::new().render(std::iter::repeat_n(&stats, 10_000));
    assert_eq!(text.matches("bulkman_active_calls{").count(), 10_000);
}

#[test]
fn pipelines_have_their_own() {
    let text = PrometheusText::new()
        .label("service", "shop")
        .unwrap()
        .render_pipelines([&used_pipeline().stats()]);
    let samples = samples(&text);
    for (metric, label, expected) in [
        (
            "bulkman_pipeline_calls_total",
            r#",outcome="succeeded""#,
            2.0,
        ),
        (
            "bulkman_pipeline_calls_total",
            r#",outcome="fallback""#,
            1.0,
        ),
        (
            "bulkman_pipeline_calls_total",
            r#",outcome="panicked""#,
            1.0,
        ),
        ("bulkman_pipeline_calls_total", r#",outcome="failed""#, 0.0),
        ("bulkman_pipeline_calls_total", r#",outcome="full""#, 0.0),
        ("bulkman_pipeline_retries_total", "", 2.0),
        (
            "bulkman_pipeline_retry_stops_total",
            r#",reason="attempts_used_up""#,
            1.0,
        ),
        (
            "bulkman_pipeline_retry_stops_total",
            r#",reason="budget_used_up""#,
            0.0,
        ),
        (
            "bulkman_pipeline_refused_attempts_total",
            r#",reason="rate_limited""#,
            0.0,
        ),
        ("bulkman_pipeline_hedges_total", r#",won="true""#, 0.0),
        ("bulkman_pipeline_duration_seconds_count", "", 4.0),
        ("bulkman_pipeline_duration_seconds_sum", "", 4.0),
        (
            "bulkman_pipeline_duration_seconds_bucket",
            r#",le="0.5""#,
            0.0,
        ),
        (
            "bulkman_pipeline_duration_seconds_bucket",
            r#",le="2.5""#,
            4.0,
        ),
    ] {
        let sample = format!("{metric}{{service=\"shop\",pipeline=\"users\"{label}}}");
        assert_eq!(samples.get(&sample), Some(&expected), "{sample} in\n{text}");
    }
}

#[test]
fn no_metric_of_a_pipeline_has_the_name_of_one_of_a_bulkhead() {
    let text = PrometheusText::new();
    let page =
        text.render([&Busy::new().stats()]) + &text.render_pipelines([&used_pipeline().stats()]);
    let mut types: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!((types.len(), all), (24, 24), "{types:?}");
}

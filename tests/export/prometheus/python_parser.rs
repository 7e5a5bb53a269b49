//! Python's own client library reads the text.

use std::io::Write;
use std::process::{Command, Stdio};

use bulkman::export::PrometheusText;
use bulkman::{BulkheadConfig, BulkheadRegistry, CircuitBreakerConfig};
use serde_json::{Value, json};

use crate::helpers::Busy;

const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/venv");
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/python-peers");
/// Reads the text, and writes each family as its name, its type and its samples.
const SCRIPT: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as read
print(json.dumps([
    [family.name, family.type, [[s.name, s.labels, s.value] for s in family.samples]]
    for family in read(sys.stdin.read())
]))
";

fn parse(text: &str) -> Vec<Value> {
    let made = Command::new(VENV).arg(FOLDER).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let python = String::from_utf8(made.stdout).unwrap();
    let mut child = Command::new(python.trim())
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_finds_the_same_families_types_labels_and_values() {
    let busy = Busy::new();
    let registry = BulkheadRegistry::new();
    let odd = "päy\"ments\\ 支払い{}=,";
    let circuit = CircuitBreakerConfig::default();
    registry
        .create(BulkheadConfig::new(odd).circuit_breaker(circuit))
        .unwrap();
    let mut stats = registry.stats();
    stats.push(busy.stats());
    let text = PrometheusText::new()
        .label("note", "two\nlines")
        .unwrap()
        .render(&stats);

    let families = parse(&text);
    let heads: Vec<_> = families
        .iter()
        .map(|family| {
            format!(
                "{} {}",
                family[0].as_str().unwrap(),
                family[1].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        heads,
        [
            "bulkman_submitted_calls counter",
            "bulkman_rejected_calls counter",
            "bulkman_unstarted_calls counter",
            "bulkman_finished_calls counter",
            "bulkman_caller_timeouts counter",
            "bulkman_busy_seconds counter",
            "bulkman_active_calls gauge",
            "bulkman_queued_calls gauge",
            "bulkman_abandoned_calls gauge",
            "bulkman_max_concurrent_calls gauge",
            "bulkman_max_queue_size gauge",
            "bulkman_worker_threads gauge",
            "bulkman_longest_running_seconds gauge",
            "bulkman_longest_queued_seconds gauge",
            "bulkman_state gauge",
            "bulkman_circuit_state gauge",
            "bulkman_queue_wait_seconds histogram",
            "bulkman_execution_seconds histogram",
        ]
    );
    let active = &families[6][2];
    let name = &*busy.stats().name;
    let labels = |bulkhead: &str| json!({"note": "two\nlines", "bulkhead": bulkhead});
    assert_eq!(
        *active,
        json!([
            ["bulkman_active_calls", labels(odd), 0],
            ["bulkman_active_calls", labels(name), 1],
        ])
    );
}

//! Labels of one's own, and names that need escaping.

use bulkman::export::PrometheusText;
use bulkman::{Bulkhead, BulkheadConfig};

#[test]
fn labels_stand_in_each_sample_in_their_order() {
    let stats = Bulkhead::new(BulkheadConfig::new("files")).unwrap().stats();
    let text = PrometheusText::new()
        .label("service", "shop")
        .and_then(|text| text.label("zone", "eu-1"))
        .unwrap()
        .render([&stats]);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let labels = r#"{service="shop",zone="eu-1",bulkhead="files""#;
        assert!(line.contains(labels), "{line}");
    }
}

#[test]
fn values_are_escaped() {
    let name = "a\"b\\c";
    let stats = Bulkhead::new(BulkheadConfig::new(name)).unwrap().stats();
    let text = PrometheusText::new()
        .label("note", "line\nbreak")
        .unwrap()
        .render([&stats]);
    let sample = r#"bulkman_active_calls{note="line\nbreak",bulkhead="a\"b\\c"} 0"#;
    assert!(text.lines().any(|line| line == sample), "{text}");
}

#[test]
fn a_label_name_that_prometheus_does_not_take_is_an_error_that_says_why() {
    for (name, why) in [
        ("", "must be letters"),
        ("2nd", "must be letters"),
        ("a-b", "must be letters"),
        ("a.b", "must be letters"),
        ("größe", "must be letters"),
        ("a\nb", "must be letters"),
        ("__name__", "two underscores"),
        ("bulkhead", "is there already"),
        ("pipeline", "is there already"),
        ("won", "is there already"),
        ("le", "is there already"),
        ("zone", "is there already"),
    ] {
        let text = PrometheusText::new().label("zone", "le=\"").unwrap();
        let error = text.label(name, "x").unwrap_err();
        assert_eq!(error.name, name);
        let shown = error.to_string();
        assert!(shown.contains(why), "{shown}");
        assert!(!shown.contains('\n'), "{shown}");
    }
    for name in ["_", "one", "a1", "Zone"] {
        let text = PrometheusText::new().label("azone", "x").unwrap();
        assert!(text.label(name, "x").is_ok(), "{name}");
    }
}

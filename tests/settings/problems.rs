//! What may not stand in settings: where it stands, what was found, and what was expected.

use super::helpers::{problem, problems, toml};

/// One line of settings, and what is said of it.
#[test]
fn each_slip_is_told_with_its_place() {
    const DURATION: &str = "a duration: seconds such as 2.5, or text with a unit such as \"250ms\", \"30s\" or \"5m\", or \
                            \"none\"";
    for (section, line, expected) in [
        (
            "resilience.timeouts",
            "cache_timeout = -1",
            format!("`resilience.timeouts.cache_timeout`: found `-1`, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = \"5 minutes\"",
            format!("`resilience.timeouts.cache_timeout`: found \"5 minutes\", expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = nan",
            format!("`resilience.timeouts.cache_timeout`: found `NaN`, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = 1e300",
            format!("`resilience.timeouts.cache_timeout`: found `1e300`, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = true",
            format!("`resilience.timeouts.cache_timeout`: found `true`, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = [1]",
            format!("`resilience.timeouts.cache_timeout`: found a list, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = {}",
            format!("`resilience.timeouts.cache_timeout`: found a section, expected {DURATION}"),
        ),
        (
            "resilience.timeouts",
            "cache_timeout = 0",
            "`resilience.timeouts.cache_timeout`: found 0ns, expected greater than zero; \"none\" is no limit".into(),
        ),
        (
            "resilience.timeouts",
            "default_timeout = 0",
            "`resilience.timeouts.default_timeout`: found 0ns, expected greater than zero; \"none\" is no limit".into(),
        ),
        (
            "resilience.timeouts",
            "cahce_timeout = 1",
            "`resilience.timeouts.cahce_timeout`: found a key that is unknown here, expected one of `default_timeout`, \
             `database_timeout`, `api_call_timeout`, `cache_timeout`, `message_queue_timeout`, `file_system_timeout`, \
             `cpu_timeout`, `payment_timeout`; did you mean `cache_timeout`?"
                .into(),
        ),
        (
            "resilience.bulkheads.database",
            "max_concurrent_calls = -4",
            "`resilience.bulkheads.database.max_concurrent_calls`: found `-4`, expected a whole number, not negative"
                .into(),
        ),
        (
            "resilience.bulkheads.database",
            "max_concurrent_calls = 4.0",
            "`resilience.bulkheads.database.max_concurrent_calls`: found `4.0`, expected a whole number, not negative"
                .into(),
        ),
        (
            "resilience.bulkheads.database",
            "max_concurrent_calls = \"4\"",
            "`resilience.bulkheads.database.max_concurrent_calls`: found \"4\", expected a whole number, not negative"
                .into(),
        ),
        (
            "resilience.bulkheads.database",
            "max_concurrent_calls = 0",
            "`resilience.bulkheads.database.max_concurrent_calls`: found 0, expected at least 1".into(),
        ),
        (
            "resilience.bulkheads.default",
            "max_queue_size = 99999999",
            // Every preset has its own, so that this one is never used.
            "`resilience.bulkheads.default.max_queue_size`: found 99999999, expected at most 16777216 together with \
             max_concurrent_calls"
                .into(),
        ),
        (
            "resilience.bulkheads.cache",
            "max_queue_size = 99999999",
            "`resilience.bulkheads.cache.max_queue_size`: found 99999999, expected at most 16777216 together with \
             max_concurrent_calls"
                .into(),
        ),
        (
            "resilience.bulkheads.cache",
            "bulkhead = \"semaphor\"",
            "`resilience.bulkheads.cache.bulkhead`: found \"semaphor\", expected one of \"thread_pool\", \"semaphore\"; \
             did you mean \"semaphore\"?"
                .into(),
        ),
        (
            "resilience.bulkheads.cache",
            "bulkhead = 1",
            "`resilience.bulkheads.cache.bulkhead`: found `1`, expected one of \"thread_pool\", \"semaphore\"".into(),
        ),
        (
            "resilience.bulkheads.cache",
            "timeout = 1",
            "`resilience.bulkheads.cache.timeout`: found a key that does not stand here, expected it as \
             `resilience.timeouts.cache_timeout`"
                .into(),
        ),
        (
            "resilience.bulkheads.default",
            "circuit_breaker = true",
            "`resilience.bulkheads.default.circuit_breaker`: found a key that does not stand here, expected it as \
             `resilience.circuit_breaker`"
                .into(),
        ),
        (
            "resilience.bulkheads.cache",
            "circuit_breaker = 5",
            "`resilience.bulkheads.cache.circuit_breaker`: found `5`, expected true, false, or a section with the rules \
             of a circuit breaker"
                .into(),
        ),
        (
            "resilience.bulkheads",
            "databases = {}",
            "`resilience.bulkheads.databases`: found a key that is unknown here, expected one of `default`, `database`, \
             `external_api`, `cache`, `message_queue`, `file_system`, `cpu`, `payment`; did you mean `database`?"
                .into(),
        ),
        (
            "resilience.bulkheads",
            "database = 5",
            "`resilience.bulkheads.database`: found `5`, expected a section".into(),
        ),
        (
            "resilience.circuit_breaker",
            "failure_rate = 1.5",
            "`resilience.circuit_breaker.failure_rate`: found 1.5, expected greater than 0 and at most 1".into(),
        ),
        (
            "resilience.circuit_breaker",
            "failure_rate = \"half\"",
            "`resilience.circuit_breaker.failure_rate`: found \"half\", expected a number".into(),
        ),
        (
            "resilience.circuit_breaker",
            "failure_treshold = 3",
            "`resilience.circuit_breaker.failure_treshold`: found a key that is unknown here, expected one of `enabled`, \
             `failure_threshold`, `max_failure_gap`, `success_threshold`, `isolation_duration`, `isolation_backoff`, \
             `probe_timeout`, `failure_rate`, `window`, `minimum_calls`, `slow_call_duration`, `slow_call_rate`, \
             `timeouts_are_failures`, `cancelled_calls_are_neutral`, `refuse_queued_when_open`, `initial_mode`; did you \
             mean `failure_threshold`?"
                .into(),
        ),
        (
            "resilience.circuit_breaker",
            "slow_call_rate = 0.5",
            "`resilience.circuit_breaker.slow_call_rate`: found 0.5, expected a slow_call_duration beside it".into(),
        ),
        (
            "resilience.circuit_breaker",
            "isolation_backoff = {factor = 2.0}",
            "`resilience.circuit_breaker.isolation_backoff`: found a section without `max`, expected the key `max` in it".into(),
        ),
        (
            "resilience.circuit_breaker",
            "isolation_backoff = {factor = 2.0, max = \"1s\"}",
            "`resilience.circuit_breaker.isolation_backoff`: found at most 1s, expected something else, since it must \
             allow at least the isolation_duration"
                .into(),
        ),
        (
            "resilience.circuit_breaker",
            "initial_mode = \"open\"",
            "`resilience.circuit_breaker.initial_mode`: found \"open\", expected one of \"normal\", \"observe_only\", \
             \"disabled\", \"forced_open\""
                .into(),
        ),
        (
            "resilience.circuit_breaker",
            "window = \"60\"",
            "`resilience.circuit_breaker.window`: found \"60\", expected a number of calls, or a period with a unit such \
             as \"60s\""
                .into(),
        ),
        (
            "resilience.circuit_breaker",
            "enabled = false",
            "`resilience.circuit_breaker`: found whether there is a circuit breaker, expected rules alone: that a kind of \
             dependency has one, or none, stands in `resilience.bulkheads`, that a dependency has one in \
             `external_dependencies`"
                .into(),
        ),
        (
            "resilience",
            "timeout = {}",
            "`resilience.timeout`: found a key that is unknown here, expected one of `timeouts`, `circuit_breaker`, \
             `health`, `retry`, `rate_limit`, `hedge`, `chaos`, `bulkheads`; did you mean `timeouts`?"
                .into(),
        ),
        (
            "external_dependencies",
            "db = {}",
            "`external_dependencies.db`: found a section without `kind`, expected the key `kind` in it".into(),
        ),
        (
            "external_dependencies",
            "db = \"database\"",
            "`external_dependencies.db`: found \"database\", expected a section".into(),
        ),
        (
            "external_dependencies.db",
            "kind = \"databse\"",
            "`external_dependencies.db.kind`: found \"databse\", expected one of \"database\", \"external_api\", \
             \"cache\", \"message_queue\", \"file_system\", \"cpu\", \"payment\"; did you mean \"database\"?"
                .into(),
        ),
        (
            "external_dependencies",
            "db = {kind = \"cpu\", operations = {get = {max_queue_size = 1}}}",
            "`external_dependencies.db.operations.get.max_queue_size`: found a key that is unknown here, expected one of \
             `timeout`, `adaptive_timeout`, `queue_timeout`, `retry`, `hedge`, `chaos`"
                .into(),
        ),
        (
            "resilience.bulkheads.database",
            "stack_size = 1000",
            "`resilience.bulkheads.database.stack_size`: found 1000, expected from 65536 to 1073741824 bytes; leave it out \
             for the default"
                .into(),
        ),
        (
            "resilience.bulkheads.default",
            "max_nested_calls = -1",
            "`resilience.bulkheads.default.max_nested_calls`: found `-1`, expected a whole number, not negative".into(),
        ),
        (
            "resilience.bulkheads.database",
            "adaptive_timeout = 3",
            "`resilience.bulkheads.database.adaptive_timeout`: found `3`, expected true, false, or a section with the \
             numbers of an adaptive timeout"
                .into(),
        ),
        (
            "resilience.bulkheads.default",
            "adaptive_timeout = {factor = 0.5}",
            "`resilience.bulkheads.default.adaptive_timeout.factor`: found 0.5, expected at least 1".into(),
        ),
        (
            "resilience.bulkheads.cache",
            "adaptive_timeout = {factr = 2}",
            "`resilience.bulkheads.cache.adaptive_timeout.factr`: found a key that is unknown here, expected one of \
             `quantile`, `factor`, `floor`, `ceiling`, `minimum_samples`, `window`; did you mean `factor`?"
                .into(),
        ),
        (
            "external_dependencies",
            "db = {kind = \"cpu\", adaptive_timeout = {ceiling = \"1ms\"}}",
            "`external_dependencies.db.adaptive_timeout.ceiling`: found 1ms, expected at least the floor".into(),
        ),
        (
            "external_dependencies",
            "db = {kind = \"cpu\", operations = {get = {adaptive_timeout = {window = 0}}}}",
            "`external_dependencies.db.operations.get.adaptive_timeout.window`: found 0ns, expected at least 10 ms".into(),
        ),
    ] {
        let text = format!("[{section}]\n{line}\n");
        let loaded = toml(&text);
        let found = problem(loaded);
        let (place, found) = found.split_once(": ").unwrap();
        assert_eq!(found, expected, "{line}");
        assert!(place.starts_with("text:2:") || place.starts_with("text:1:"), "{place}");
    }
}

#[test]
fn the_place_is_that_of_the_key_or_of_the_value() {
    let text = "# a comment, ä\n[external_dependencies.db]\nkind   = \"databse\"\n  tiemout = 3\n";
    let found = problems(toml(text));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("text:3:10: "), "the value: {found:?}");
    assert!(found[1].starts_with("text:4:3: "), "the key: {found:?}");
    assert!(found[1].ends_with("did you mean `timeout`?"), "{found:?}");
}

#[test]
fn a_value_out_of_range_is_told_at_the_level_that_says_it() {
    let text = r#"
        [resilience.timeouts]
        payment_timeout = 0
        [external_dependencies.bank]
        kind = "payment"
        [external_dependencies.shop]
        kind = "payment"
        timeout = 2
        max_concurrent_calls = 0
        [external_dependencies.user_db]
        kind = "database"
        circuit_breaker = {failure_threshold = 0}
        [external_dependencies.orders_db]
        kind = "database"
        operations = {get = {timeout = 0}, put = {queue_timeout = 0}}
        [external_dependencies.""]
        kind = "cpu"
    "#;
    let found = problems(toml(text));
    let places: Vec<_> = found
        .iter()
        .map(|line| line.split('`').nth(1).unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "resilience.timeouts.payment_timeout",
            "external_dependencies.shop.max_concurrent_calls",
            "external_dependencies.user_db.circuit_breaker.failure_threshold",
            "external_dependencies.orders_db.operations.get.timeout",
            "external_dependencies.orders_db.operations.put.queue_timeout",
            "external_dependencies.\"\"",
        ]
    );
}

#[test]
fn all_problems_are_told_together_in_the_order_of_the_file() {
    let text = "[resilience.timeouts]\nx = 1\n[external_dependencies.a]\nkind = 1\n[external_dependencies.b]\ny = 2\n";
    let error = toml(text).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "4 problems in the settings");
    // The last section has no `kind` either.
    let places = ["text:2:1", "text:4:8", "text:5:1", "text:6:1"];
    for (line, place) in lines[1..].iter().zip(places) {
        assert!(line.starts_with(&format!("  {place}: ")), "{line}");
    }
}

#[test]
fn long_values_are_cut() {
    let text = format!(
        "[external_dependencies.db]\nkind = \"{}\"\n",
        "x".repeat(100_000)
    );
    let found = problem(toml(&text));
    assert!(found.len() < 400, "{} bytes", found.len());
}

#[test]
fn a_key_twice_is_an_error() {
    for (text, place, path) in [
        (
            "[resilience.timeouts]\ncpu_timeout = 1\ncpu_timeout = 2\n",
            "text:3:1",
            "resilience.timeouts.cpu_timeout",
        ),
        (
            "[external_dependencies.db]\nkind = \"cpu\"\noperations = {get = {timeout = 1, \"timeout\" = 2}}\n",
            "text:3:35",
            "external_dependencies.db.operations.get.timeout",
        ),
        (
            "resilience = {timeouts = {cpu_timeout = 1, cpu_timeout = 1}}\n",
            "text:1:44",
            "resilience.timeouts.cpu_timeout",
        ),
        ("[a.\"b c\"]\n x = 1\n x = 2\n", "text:3:2", "a.\"b c\".x"),
        (
            "[external_dependencies.db]\nkind = \"cpu\"\n[external_dependencies.db]\nkind = \"cpu\"\n",
            "text:3:24",
            "external_dependencies.db",
        ),
        (
            "[external_dependencies.db] # the db\nkind = \"cpu\"\nkind = \"cpu\"\n",
            "text:3:1",
            "external_dependencies.db.kind",
        ),
        (
            "[external_dependencies.\"user.d\\u0062]\" ]\nkind = \"cpu\"\nkind = \"cpu\"\n",
            "text:3:1",
            "external_dependencies.\"user.db]\".kind",
        ),
        (
            "[external_dependencies]\ndb.kind = \"cpu\"\ndb.timeout = 1\ndb . timeout = 2\n",
            "text:4:6",
            "external_dependencies.db.timeout",
        ),
        (
            "[external_dependencies.db]\nkind = [\n[1],\n# ]\n']']\nkind = 1\n",
            "text:6:1",
            "external_dependencies.db.kind",
        ),
        (
            "[external_dependencies.db]\nkind = \"\"\"\\\"\"\"\n[bogus]\n\"\"\"\"\"\nkind = 1\n",
            "text:5:1",
            "external_dependencies.db.kind",
        ),
        (
            "x = [{y = {z = 1}, a.b = '''\n''', a.b = 1}]\n",
            "text:2:8",
            "x.a.b",
        ),
    ] {
        let found = problem(toml(text));
        assert!(found.starts_with(place), "{found}");
        let expected = format!(": `{path}`: found the same key again, expected each key once");
        assert!(found.ends_with(&expected), "{found}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let error = toml("[resilience\n").unwrap_err().to_string();
    assert!(error.starts_with("text:1:"), "{error}");
    let error = toml("a = 99999999999999999999999999\n")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("text:1:5: "), "{error}");
}

#[test]
fn a_number_beyond_all_bounds_is_told_with_its_path() {
    for (number, shown) in [
        ("9".repeat(44), "`1e44`".to_owned()),
        (
            format!("0x{}", "f".repeat(33)),
            format!("\"{}\"", "f".repeat(33)),
        ),
    ] {
        let found = problem(toml(&format!(
            "[resilience.timeouts]\ndefault_timeout = {number}\n"
        )));
        let expected = format!(
            "text:2:19: `resilience.timeouts.default_timeout`: found {shown}, expected a duration"
        );
        assert!(found.starts_with(&expected), "{found}");
    }
}

#[test]
fn deep_and_wide_toml_is_an_error() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(toml(&deep).is_err());
    let deep = format!("{}x = 1", "a.".repeat(100_000));
    assert!(toml(&deep).is_err());
    let wide = format!("a = [{}]", "1,".repeat(200_000));
    let error = toml(&wide).unwrap_err().to_string();
    assert!(error.contains("more than 100000 values"), "{error}");
}

#[test]
fn a_flood_of_problems_is_told_in_short_and_soon() {
    let keys: String = (0..5_000).map(|i| format!("k{i} = 1\n")).collect();
    let error = toml(&format!("[resilience.timeouts]\n{keys}"))
        .unwrap_err()
        .to_string();
    assert_eq!(error.lines().count(), 22);
    assert!(error.ends_with("\n  and 980 more"), "{error}");
}

#[test]
fn a_flood_of_environments_is_an_error() {
    let text: String = (0..101).map(|i| format!("[e{i}]\n")).collect();
    let error = toml(&text).unwrap_err().to_string();
    assert!(error.ends_with("more than 100 environments"), "{error}");
}

#[test]
fn very_long_names_with_very_many_keys_take_no_more_memory_than_they_are_long() {
    let operations: String = (0..5_000).map(|i| format!("o{i} = {{}}\n")).collect();
    let name = "n".repeat(500_000);
    let text = format!(
        "[external_dependencies.{name}]\nkind = \"cpu\"\n[external_dependencies.{name}.operations]\n{operations}"
    );
    let settings = toml(&text).unwrap();
    assert_eq!(settings.dependencies()[&name].operations.len(), 5_000);
}

/// The paths of all problems.
fn paths(text: &str) -> Vec<String> {
    let found = problems(toml(text));
    let path = |line: &String| line.split('`').nth(1).unwrap().to_owned();
    found.iter().map(path).collect()
}

#[test]
fn every_key_of_a_section_that_is_wrong_is_told_and_nothing_that_follows_from_it() {
    let text = r#"
        external_dependencies.db = {kind = "databse", timeout = -1, bogus = 1, circuit_breaker = {x = 1, window = "y"}}
        external_dependencies.api = {kind = "external_api", circuit_breaker = {isolation_backoff = {factor = "x"}}}
        external_dependencies.cache = {kind = "cache", timeout = 0, max_queue_size = -1}
        [resilience.bulkheads.default]
        timeout = 1
        circuit_breaker = true
        bogus = 1
        [resilience.circuit_breaker]
        enabled = true
        failure_threshold = 0
        [production]
        bogus = 1
        more = 2
        [testing.external_dependencies.db]
        kind = "cpu"
        queue_timeout = 0
    "#;
    assert_eq!(
        paths(text),
        [
            "external_dependencies.db.kind",
            "external_dependencies.db.timeout",
            "external_dependencies.db.bogus",
            "external_dependencies.db.circuit_breaker.x",
            "external_dependencies.db.circuit_breaker.window",
            "external_dependencies.api.circuit_breaker.isolation_backoff.factor",
            "external_dependencies.cache.timeout",
            "external_dependencies.cache.max_queue_size",
            "resilience.bulkheads.default.timeout",
            "resilience.bulkheads.default.circuit_breaker",
            "resilience.bulkheads.default.bogus",
            "resilience.circuit_breaker",
            "resilience.circuit_breaker.failure_threshold",
            "production.bogus",
            "production.more",
            "external_dependencies.db.queue_timeout",
        ]
    );
}

#[test]
fn a_value_out_of_range_is_told_also_where_it_does_not_count() {
    let text = r#"
        resilience.bulkheads.default = {max_concurrent_calls = 0, queue_timeout = 0}
        [resilience.circuit_breaker]
        window = 0
        [external_dependencies.a]
        kind = "database"
        circuit_breaker = {enabled = false, failure_threshold = 0, minimum_calls = 0}
        [external_dependencies.b]
        kind = "database"
        timeout = 0
        max_concurrent_calls = 0
        max_queue_size = 99999999
        operations = {x = {timeout = 0, queue_timeout = 0}}
    "#;
    assert_eq!(
        paths(text),
        [
            "resilience.bulkheads.default.max_concurrent_calls",
            "resilience.bulkheads.default.queue_timeout",
            "resilience.circuit_breaker.window",
            "external_dependencies.a.circuit_breaker.failure_threshold",
            "external_dependencies.a.circuit_breaker.minimum_calls",
            "external_dependencies.b.timeout",
            "external_dependencies.b.max_concurrent_calls",
            "external_dependencies.b.max_queue_size",
            "external_dependencies.b.operations.x.timeout",
            "external_dependencies.b.operations.x.queue_timeout",
        ]
    );
}

#[test]
fn what_is_wrong_with_retries_and_rate_limits_is_told_with_its_place() {
    let text = r#"
        [resilience.retry]
        enabled = true
        attempts = 0
        [resilience.rate_limit]
        calls = 0
        [resilience.bulkheads.default]
        retry = {attempts = 3}
        rate_limit = true
        hedge = {delay = "1s"}
        [resilience.bulkheads.database]
        retry = {factor = 0.5, jitter = "some", budget_reserve = 4294967296}
        [external_dependencies.a]
        kind = "cpu"
        retry = 3
        rate_limit = {calls = "5", per = "1s", burst = 0}
        [external_dependencies.a.operations.x]
        retry = {enabled = false, budget = 2}
        hedge = {quantile = 95}
        rate_limit = {calls = 1}
    "#;
    let found = problems(toml(text));
    let expected = [
        "`resilience.retry`: found whether there is a retry, expected rules alone",
        "`resilience.bulkheads.default.retry`: found a key that does not stand here, expected it as `resilience.retry`",
        "`resilience.bulkheads.default.rate_limit`: found a key that does not stand here, expected it as \
         `resilience.rate_limit`",
        "`resilience.bulkheads.database.retry.jitter`: found \"some\"",
        "`resilience.bulkheads.database.retry.budget_reserve`: found `4294967296`, expected a whole number, at most 4294967295",
        "`external_dependencies.a.retry`: found `3`, expected true, false, or a section with the rules of a retry",
        "`external_dependencies.a.rate_limit.calls`: found \"5\", expected a whole number",
        "`external_dependencies.a.rate_limit.per`: found a key that is unknown here, expected one of `enabled`, \
         `calls`, `period`, `burst`, `max_wait`",
        "`external_dependencies.a.operations.x.rate_limit`: found a key that is unknown here, expected one of `timeout`, \
         `adaptive_timeout`, `queue_timeout`, `retry`, `hedge`, `chaos`",
        "`resilience.bulkheads.default.hedge`: found a key that does not stand here, expected it as `resilience.hedge`",
        "`external_dependencies.a.operations.x.hedge.quantile`: found 95, expected a number from 0 to 1",
        "`resilience.retry.attempts`: found 0, expected at least 1",
        "`resilience.rate_limit.calls`: found 0, expected at least 1",
        "`resilience.bulkheads.database.retry.factor`: found 0.5, expected a number, at least 1",
        "`external_dependencies.a.rate_limit.burst`: found 0, expected at least 1",
        "`external_dependencies.a.operations.x.retry.budget`: found 2, expected a number from 0 to 1",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|found| found.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_rate_limit_needs_a_number_of_calls_that_goes_with_its_period() {
    let without = "external_dependencies.a = {kind = \"cpu\", rate_limit = {burst = 2}}";
    assert_eq!(
        problem(toml(without)),
        "text:1:42: `external_dependencies.a.rate_limit`: found none, expected a number of calls"
    );
    let fast = "[resilience.rate_limit]\nperiod = \"1ns\"\n[external_dependencies.a]\nkind = \"cpu\"\nrate_limit = {calls = 2}";
    assert_eq!(
        problem(toml(fast)),
        "text:2:1: `resilience.rate_limit.period`: found 1ns, expected at least a nanosecond for each call"
    );
    let off = "external_dependencies.a = {kind = \"cpu\", rate_limit = false}";
    assert!(toml(off).is_ok());
}

#[test]
fn a_hedge_needs_a_delay_and_threads() {
    for (settings, expected) in [
        (
            "a = {kind = \"cpu\", hedge = true}",
            "text:2:20: `external_dependencies.a.hedge`: found none, expected a duration",
        ),
        (
            "a = {kind = \"cpu\", operations = {get = {hedge = {quantile = 0.9}}}}",
            "text:2:41: `external_dependencies.a.operations.get.hedge`: found none, expected a duration",
        ),
        (
            "a = {kind = \"cache\", hedge = {delay = \"1s\"}}",
            "text:2:22: `external_dependencies.a.hedge`: found on, expected off where the bulkhead is a semaphore, since two \
             attempts at once cannot run in one thread",
        ),
    ] {
        let text = format!("[external_dependencies]\n{settings}");
        assert_eq!(problem(toml(&text)), expected);
    }
    let global =
        "resilience.hedge = {delay = \"1s\"}\nexternal_dependencies.a = {kind = \"cache\"}";
    assert!(toml(global).is_ok(), "rules for all give nobody a hedge");
}

#[test]
fn what_is_wrong_with_chaos_is_told_with_its_place() {
    let text = r#"
        [resilience.chaos]
        enabled = true
        error_rate = 2
        [resilience.bulkheads.default]
        chaos = {seed = 1}
        [resilience.bulkheads.database]
        chaos = {panic_rate = -0.1, seed = -1}
        [external_dependencies.a]
        kind = "cpu"
        chaos = {errors = 0.1, latency = "soon", latency_rate = nan}
        [external_dependencies.a.operations.x]
        chaos = {refusal_rate = 5}
        [external_dependencies.b]
        kind = "cpu"
        chaos = "yes"
    "#;
    let found = problems(toml(text));
    let expected = [
        "`resilience.chaos`: found whether there is chaos, expected rules alone",
        "`resilience.bulkheads.default.chaos`: found a key that does not stand here, expected it as `resilience.chaos`",
        "`resilience.bulkheads.database.chaos.seed`: found `-1`, expected a whole number, not negative",
        "`external_dependencies.a.chaos.errors`: found a key that is unknown here, expected one of `enabled`, `seed`, \
         `latency`, `latency_rate`, `error_rate`, `refusal_rate`, `panic_rate`",
        "`external_dependencies.a.chaos.latency`: found \"soon\"",
        "`external_dependencies.b.chaos`: found \"yes\", expected true, false, or a section with the rules of chaos",
        "`resilience.chaos.error_rate`: found 2, expected a number from 0 to 1",
        "`resilience.bulkheads.database.chaos.panic_rate`: found -0.1, expected a number from 0 to 1",
        "`external_dependencies.a.chaos.latency_rate`: found NaN, expected a number from 0 to 1",
        "`external_dependencies.a.operations.x.chaos.refusal_rate`: found 5, expected a number from 0 to 1",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|found| found.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_is_wrong_with_health_thresholds_is_told_with_its_place() {
    let text = r#"
        [resilience.health]
        enabled = false
        rejection_window = 0
        [resilience.bulkheads.default]
        health = {all_busy_for = "1s"}
        [resilience.bulkheads.database]
        health = {queue_utilization = 80, queued_for = -1}
        [external_dependencies.a]
        kind = "cpu"
        health = {abandoned_tasks = 0, rejection_rate = 0, busy_for = "1s"}
        [external_dependencies.a.operations.x]
        health = false
        [external_dependencies.b]
        kind = "cpu"
        health = 1
    "#;
    let found = problems(toml(text));
    let expected = [
        "`resilience.health`: found whether there are health thresholds, expected rules alone",
        "`resilience.bulkheads.default.health`: found a key that does not stand here, expected it as `resilience.health`",
        "`resilience.bulkheads.database.health.queued_for`: found `-1`",
        "`external_dependencies.a.health.busy_for`: found a key that is unknown here, expected one of `enabled`, \
         `queue_utilization`, `queue_utilization_for`, `saturated_for`, `queued_for`, `all_busy_for`, `abandoned_tasks`, \
         `rejection_rate`, `rejection_window`, `closed_circuit`",
        "`external_dependencies.a.operations.x.health`: found a key that is unknown here",
        "`external_dependencies.b.health`: found `1`, expected true, false, or a section with the rules of health thresholds",
        "`resilience.health.rejection_window`: found 0ns, expected greater than zero",
        "`resilience.bulkheads.database.health.queue_utilization`: found 80, expected above 0 and at most 1",
        "`external_dependencies.a.health.abandoned_tasks`: found 0, expected at least 1",
        "`external_dependencies.a.health.rejection_rate`: found 0, expected above 0 and at most 1",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|found| found.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_fallback_is_told_to_belong_to_the_program_once_wherever_it_stands() {
    let text = r#"
        [resilience]
        fallback = {cached = "5m"}
        [resilience.bulkheads]
        default = {fallback = true}
        database = {fallback = "other_db"}
        [external_dependencies.a]
        kind = "cpu"
        fallback = {cached = "5m"}
        [external_dependencies.a.operations]
        x = {fallback = 0}
        y = 3
        [external_dependencies.fallback]
        kind = "cpu"
        operations = {fallback = {}}
        [external_dependencies.odd]
        kind = "cpu"
        operations = "fallback"
    "#;
    let found = problems(toml(text));
    for path in [
        "text:3:9: `resilience.fallback`",
        "text:5:20: `resilience.bulkheads.default.fallback`",
        "text:6:21: `resilience.bulkheads.database.fallback`",
        "text:9:9: `external_dependencies.a.fallback`",
        "text:11:14: `external_dependencies.a.operations.x.fallback`",
    ] {
        let expected = format!(
            "{path}: found a key that does not stand here, expected it in the program, with \
             `DependencyPipelineBuilder::fallback`: it answers with a value of the program's own type, and only the program \
             knows for which calls an answer is right"
        );
        assert!(found.contains(&expected), "{expected}\n{found:#?}");
    }
    let others = [
        "a.operations.y`: found `3`",
        "odd.operations`: found \"fallback\"",
    ];
    for other in others {
        assert!(found.iter().any(|it| it.contains(other)), "{found:#?}");
    }
    assert_eq!(found.len(), 5 + others.len(), "{found:#?}");
}

#[test]
fn a_rate_of_latency_needs_a_latency() {
    for (settings, expected) in [
        (
            "a = {kind = \"cpu\", chaos = {enabled = true, latency_rate = 0.5}}",
            "text:2:45: `external_dependencies.a.chaos.latency_rate`: found 0.5, expected a `latency` beside it",
        ),
        (
            "a = {kind = \"cpu\", chaos = {latency_rate = 0.5}, operations = {get = {chaos = true}}}",
            "text:2:29: `external_dependencies.a.chaos.latency_rate`: found 0.5, expected a `latency` beside it",
        ),
    ] {
        let text = format!("[external_dependencies]\n{settings}");
        assert_eq!(problem(toml(&text)), expected);
    }
    let of_all = "resilience.chaos.latency = \"1s\"\n\
                  external_dependencies.a = {kind = \"cpu\", chaos = {enabled = true, latency_rate = 0.5}}";
    assert!(toml(of_all).is_ok());
}

#[test]
fn a_rule_that_goes_with_what_another_level_says_is_in_range() {
    let text = r#"
        [external_dependencies.a]
        kind = "database"
        circuit_breaker = {enabled = false, slow_call_rate = 0.5, minimum_calls = 5000}
        [external_dependencies.b]
        kind = "database"
        circuit_breaker = {isolation_duration = "1s", isolation_backoff = {factor = 2, max = "1s"}}
    "#;
    assert!(toml(text).is_ok());
}

#[test]
fn environments_times_values_have_a_bound() {
    let operations: String = (0..1_000).map(|i| format!("o{i} = {{}}\n")).collect();
    let base = format!(
        "[external_dependencies.a]\nkind = \"cpu\"\n[external_dependencies.a.operations]\n{operations}"
    );
    let environments: String = (0..99).map(|i| format!("[e{i}]\n")).collect();
    assert!(toml(&format!("{base}{environments}")).is_ok());
    let more: String = (0..4_000).map(|i| format!("p{i} = {{}}\n")).collect();
    let error = toml(&format!("{base}{more}{environments}")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than 500000 values in all environments"),
        "{error}"
    );
}

#[test]
fn every_number_of_an_adaptive_timeout_is_checked() {
    let numbers = "quantile = 1.0, factor = nan, floor = 0, minimum_samples = 0, window = \"9ms\"";
    let text = format!("[resilience.bulkheads]\ndatabase = {{adaptive_timeout = {{{numbers}}}}}");
    let problems = problems(toml(&text));
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for (problem, field) in
        problems
            .iter()
            .zip(["quantile", "factor", "floor", "minimum_samples", "window"])
    {
        let path = format!("`resilience.bulkheads.database.adaptive_timeout.{field}`: found ");
        assert!(problem.starts_with("text:2:"), "{problem}");
        assert!(problem.contains(&path), "{problem}");
    }
}

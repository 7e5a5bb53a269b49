//! Circuit state shared through PostgreSQL with Python's bulkman and resilient-circuit.
//!
//! No test waits for a cooldown: a peer's wall clock is set ahead.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::eventually;
use crate::support::postgres::{Bulkman, Outcome, Policy, Python, Server, Stored};

const NAME: &str = "demo";

const SAMPLE: Bulkman = Bulkman {
    failure_threshold: 3,
    success_threshold: 2,
    isolation_seconds: 600.0,
};

const LONGER_THAN_THE_ISOLATION: f64 = 601.0;

/// The server of this file's tests, whose table the library's own tool has made. The tests of other files share another
/// server: the tool would lock their table.
fn server() -> &'static Server {
    static COMPLETE: OnceLock<Server> = OnceLock::new();
    COMPLETE.get_or_init(|| {
        let server = Server::start();
        Python::start(&server).set_up();
        server
    })
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

/// A new bulkhead, which begins with the stored circuit and trips it.
fn tripped(server: &Server, namespace: &str) -> Python {
    let mut peer = Python::start(server);
    peer.bulkhead(NAME, namespace, SAMPLE);
    while peer.state().state == "CLOSED" {
        assert_eq!(peer.fail().outcome, Outcome::Failed);
    }
    assert_eq!(peer.state().state, "OPEN");
    peer
}

#[test]
fn the_rows_of_a_circuit_that_trips_and_recovers() {
    let server = server();
    let namespace = server.fresh_namespace();
    let row = || server.row(NAME, &namespace).expect("a row");
    let mut peer = Python::start(server);
    assert_eq!(peer.bulkhead(NAME, &*namespace, SAMPLE).state, "CLOSED");
    assert_eq!(server.row(NAME, &namespace), None);

    assert_eq!(peer.succeed().outcome, Outcome::Success);
    let first = row();
    assert_eq!(first.read(), ("CLOSED", 0, false, Some("[true]")));

    assert_eq!(peer.fail().outcome, Outcome::Failed);
    let second = row();
    assert_eq!(second.read(), ("CLOSED", 1, false, Some("[true, false]")));
    assert!(second.updated_at > first.updated_at);

    let before = now();
    assert_eq!(peer.fail().outcome, Outcome::Failed);
    let after = now();
    let open = row();
    assert_eq!(open.read(), ("OPEN", 2, true, Some("[true, false, false]")));
    let until = open.open_until_epoch.expect("it is OPEN") - SAMPLE.isolation_seconds;
    // The row keeps microseconds.
    assert!((before - 1e-6..=after + 1e-6).contains(&until));

    assert_eq!(peer.succeed().outcome, Outcome::CircuitOpen);
    assert_eq!(row(), open);

    peer.set_clock_ahead(LONGER_THAN_THE_ISOLATION);
    assert_eq!(peer.succeed().outcome, Outcome::Success);
    let probing = row();
    assert_eq!(probing.read(), ("HALF_OPEN", 0, false, Some("[true]")));

    assert_eq!(peer.fail().outcome, Outcome::Failed);
    let closed = row();
    assert_eq!(closed.read(), ("CLOSED", 0, false, Some("[]")));
    assert!(closed.updated_at > probing.updated_at);
    assert_eq!(closed.created_at, first.created_at);
}

#[test]
fn probes_that_all_fail_open_it_again() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut peer = tripped(server, &namespace);
    let opened = server.row(NAME, &namespace).expect("a row");
    peer.set_clock_ahead(LONGER_THAN_THE_ISOLATION);
    peer.fail();
    assert_eq!(peer.fail().state.state, "OPEN");
    let row = server.row(NAME, &namespace).expect("a row");
    assert_eq!(row.read(), ("OPEN", 2, true, Some("[false, false]")));
    assert!(row.open_until_epoch > opened.open_until_epoch);
}

#[test]
fn a_policy_that_always_looks_rejects_at_once() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut policy = Python::start(server);
    let always = Policy {
        failure_limit: (2, 3),
        refresh_seconds: None,
        ..Policy::default()
    };
    policy.policy(NAME, &*namespace, always);
    assert_eq!(policy.succeed().outcome, Outcome::Success);

    let _tripped = tripped(server, &namespace);
    let row = server.row(NAME, &namespace);
    let rejected = policy.succeed();
    assert_eq!(rejected.outcome, Outcome::CircuitOpen);
    assert_eq!(rejected.state.state, "OPEN");
    assert_eq!(server.row(NAME, &namespace), row);
}

#[test]
fn a_policy_rejects_within_its_interval() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut policy = Python::start(server);
    let default = Policy {
        failure_limit: (2, 3),
        ..Policy::default()
    };
    policy.policy(NAME, &*namespace, default);
    let _tripped = tripped(server, &namespace);
    eventually("the policy rejects", || {
        policy.succeed().outcome == Outcome::CircuitOpen
    });
}

#[test]
fn a_policy_that_never_looks_adopts_when_its_write_is_refused() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut policy = Python::start(server);
    let never = Policy {
        failure_limit: (2, 3),
        refresh_seconds: Some(1e6),
        ..Policy::default()
    };
    policy.policy(NAME, &*namespace, never);
    // The first call looks, whatever the interval.
    assert_eq!(policy.succeed().outcome, Outcome::Success);
    let _tripped = tripped(server, &namespace);
    let row = server.row(NAME, &namespace);

    let leaked = policy.succeed();
    assert_eq!(leaked.outcome, Outcome::Success);
    assert_eq!(leaked.state.state, "OPEN");
    assert_eq!(policy.succeed().outcome, Outcome::CircuitOpen);
    assert_eq!(server.row(NAME, &namespace), row);
}

#[test]
fn a_running_bulkhead_does_not_look_and_a_rebuilt_one_does() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut other = Python::start(server);
    other.bulkhead(NAME, &*namespace, SAMPLE);
    let _tripped = tripped(server, &namespace);
    let row = server.row(NAME, &namespace);

    let call = other.succeed();
    assert_eq!(call.outcome, Outcome::Success);
    assert_eq!(call.state.state, "CLOSED");

    let state = other.rebuild();
    assert_eq!(state.state, "OPEN");
    let until = row.as_ref().and_then(|row| row.open_until_epoch);
    let difference = state.open_until.expect("it is OPEN") - until.expect("it is OPEN");
    assert!(difference.abs() < 1e-5, "{difference}");
    assert_eq!(other.succeed().outcome, Outcome::CircuitOpen);
    assert_eq!(server.row(NAME, &namespace), row);
}

#[test]
fn a_live_open_refuses_every_guarded_write() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut peer = Python::start(server);
    let minute = "now() + interval '1 hour'";
    server.set_row(NAME, &namespace, "OPEN", 7, minute, "'[false, true]'");
    let row = server.row(NAME, &namespace);
    let in_a_day = now() + 86_400.0;
    let writes = [
        Stored::new("CLOSED", 0, 0.0, Some(&[])),
        Stored::new("HALF_OPEN", 0, 0.0, Some(&[true])),
        Stored::new("OPEN", 1, now() + 1.0, Some(&[false])),
        Stored::new("OPEN", 1, in_a_day, None),
    ];
    for write in &writes {
        assert!(!peer.set(NAME, &namespace, write), "{write:?}");
        assert_eq!(server.row(NAME, &namespace), row);
    }

    // The clock that counts is the writer's own.
    peer.set_clock_ahead(7_200.0);
    assert!(peer.set(NAME, &namespace, &writes[1]));
    peer.set_clock_ahead(0.0);
    assert_eq!(peer.get(NAME, &namespace).as_ref(), Some(&writes[1]));

    // Without a log the stored one stays.
    assert!(peer.set(NAME, &namespace, &writes[3]));
    let open = server.row(NAME, &namespace).expect("a row");
    assert_eq!(open.read(), ("OPEN", 1, true, Some("[true]")));

    assert!(!peer.set(NAME, &namespace, &writes[0]));
    peer.update(NAME, &namespace, &writes[0]);
    assert_eq!(peer.get(NAME, &namespace).as_ref(), Some(&writes[0]));

    assert!(peer.delete(NAME, &namespace));
    assert!(!peer.delete(NAME, &namespace));
    assert_eq!(server.row(NAME, &namespace), None);
    assert_eq!(peer.get(NAME, &namespace), None);
}

#[test]
fn atomic_updates_lose_nothing() {
    let server = server();
    let namespace = server.fresh_namespace();
    let mut peers = [(); 3].map(|()| Python::start(server));
    let pending = peers
        .each_mut()
        .map(|peer| peer.start_increments(NAME, &namespace, 50));
    for increments in pending {
        increments.finish();
    }
    let row = server.row(NAME, &namespace).expect("a row");
    assert_eq!(row.read(), ("CLOSED", 150, false, None));
}

#[test]
fn the_library_accepts_the_bare_table_and_completes_it() {
    let server = Server::start();
    let mut peer = Python::start(&server);
    assert_eq!(peer.tool(&["pg-check"]).0, 1);
    server.create_table();
    assert_eq!(peer.tool(&["pg-check"]).0, 3);
    peer.bulkhead(NAME, "bare", SAMPLE);
    peer.succeed();
    assert!(server.row(NAME, "bare").is_some());
    peer.set_up();
    assert_eq!(peer.tool(&["pg-check"]).0, 0);
}

#[test]
fn what_python_does_without_a_server() {
    let mut server = Server::start();
    server.create_table();
    let dsn = server.dsn();
    let mut running = Python::start(&server);
    let built = running.bulkhead(NAME, "outage", SAMPLE);
    assert_eq!(built.backend, "postgres");
    running.succeed();
    server.kill();

    let mut lenient = Python::with_env(&[("RC_DB_DSN", &dsn)]);
    let state = lenient.bulkhead(NAME, "outage", SAMPLE);
    assert_eq!(state.backend, "in-memory");
    let log = lenient.log();
    assert!(log.iter().any(|line| line.starts_with("ERROR")), "{log:?}");
    assert_eq!(lenient.log(), [""; 0]);

    let mut strict = Python::start(&server);
    let request = serde_json::json!({"namespace": "outage", "name": NAME});
    let error = strict
        .try_ask("bulkhead", request)
        .expect_err("no in-memory storage instead");
    assert!(error.starts_with("OperationalError: "), "{error}");

    for _ in 0..2 {
        assert_eq!(running.fail().outcome, Outcome::Failed);
    }
    assert_eq!(running.succeed().outcome, Outcome::CircuitOpen);
    server.restart();
    let row = server.row(NAME, "outage").expect("a row");
    assert_eq!(row.read(), ("CLOSED", 0, false, Some("[true]")));
}

#[test]
fn the_environment_chooses_namespace_and_storage() {
    let server = server();
    let namespace = server.fresh_namespace();
    let named: Vec<_> = ["host", "port", "user", "password", "dbname"]
        .map(|key| server.part(key))
        .into();
    let mut peer = Python::with_env(&[
        ("RC_DB_HOST", named[0]),
        ("RC_DB_PORT", named[1]),
        ("RC_DB_USER", named[2]),
        ("RC_DB_PASSWORD", named[3]),
        ("RC_DB_NAME", named[4]),
        ("RC_NAMESPACE", &namespace),
    ]);
    assert_eq!(peer.bulkhead(NAME, None, SAMPLE).backend, "postgres");
    peer.succeed();
    assert!(server.row(NAME, &namespace).is_some());

    let mut alone = Python::with_env(&[]);
    assert_eq!(alone.bulkhead(NAME, None, SAMPLE).backend, "in-memory");
}

//! What circuits do while their server does not answer, and how they get back in step with it.

#![cfg(feature = "postgres")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage,
    ManualClock, PostgresStorage,
};
use support::postgres::{Link, Server, Silent};
use support::{PATIENCE, eventually, wait};

const NAME: &str = "demo";
const NAMESPACE: &str = "outage";
const ISOLATION: Duration = Duration::from_secs(600);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(ISOLATION)
}

/// `deadline` is for servers that do not answer. The others are given all the time they need.
fn storage(dsn: &str, deadline: Duration) -> PostgresStorage {
    PostgresStorage::builder(dsn)
        .namespace(NAMESPACE)
        .refresh_interval(Duration::from_millis(5))
        .deadline(deadline)
        .build()
        .expect("a valid connection string")
}

fn breaker(storage: &PostgresStorage) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder(NAME, rules())
        .clock(clock.clone())
        .storage(storage.clone())
        .build()
        .expect("a breaker");
    (breaker, clock)
}

fn server() -> Server {
    let server = Server::start();
    server.create_table();
    server
}

fn trip(breaker: &CircuitBreaker) {
    for _ in 0..2 {
        breaker.try_acquire().expect("closed").record_failure();
    }
    assert!(breaker.is_open());
}

fn in_trouble(storage: &PostgresStorage) {
    eventually("the trouble is seen", || storage.sync().trouble().is_some());
}

fn in_step(storage: &PostgresStorage, breaker: &CircuitBreaker) {
    eventually("it is in step again", || {
        storage.sync().trouble().is_none() && breaker.flush(PATIENCE)
    });
}

fn state(server: &Server) -> Option<String> {
    server.row(NAME, NAMESPACE).map(|row| row.state)
}

/// The whole life of a circuit that nobody hears of.
fn lives_alone(breaker: &CircuitBreaker, clock: &ManualClock) {
    trip(breaker);
    assert!(!breaker.flush(PATIENCE), "it says so at once");
    clock.advance(ISOLATION);
    eventually("it ends the isolation by itself", || breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_success();
    assert!(breaker.is_closed());
    trip(breaker);
}

#[test]
fn a_server_that_is_not_there_at_the_start() {
    let mut server = server();
    server.stop();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    server.restart();
    in_step(&storage, &breaker);
    assert_eq!(state(&server).as_deref(), Some("OPEN"));
    assert!(breaker.is_open(), "no outage loses it");
}

#[test]
fn a_server_that_is_killed() {
    let mut server = server();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    server.kill();
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    server.restart();
    in_step(&storage, &breaker);
    assert_eq!(state(&server).as_deref(), Some("OPEN"));
    assert!(breaker.is_open());
}

#[test]
fn a_server_that_hangs() {
    let mut server = server();
    let storage = storage(&server.dsn(), Duration::from_millis(300));
    let (breaker, clock) = breaker(&storage);
    server.freeze();
    in_trouble(&storage);
    assert!(
        storage
            .sync()
            .trouble()
            .is_none_or(|said| said.contains("no answer within 300ms"))
    );
    lives_alone(&breaker, &clock);
    server.thaw();
    in_step(&storage, &breaker);
    assert_eq!(state(&server).as_deref(), Some("OPEN"));
    assert!(breaker.is_open());
}

#[test]
fn a_socket_that_never_says_a_word() {
    let silent = Silent::start();
    let dsn = format!("postgresql://app:s3cret@{}/circuits", silent.address());
    let storage = storage(&dsn, Duration::from_millis(20));
    let (breaker, clock) = breaker(&storage);
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    let before = silent.connections();
    eventually("it goes on trying", || silent.connections() > before);
}

#[test]
fn a_network_that_pauses_or_breaks() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let dsn = server.dsn_with(&[("port", &port)]);
    let storage = storage(&dsn, Duration::from_millis(300));
    let (breaker, clock) = breaker(&storage);
    for disturb in [Link::pause, Link::cut] {
        in_step(&storage, &breaker);
        disturb(&link);
        in_trouble(&storage);
        lives_alone(&breaker, &clock);
        link.resume();
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("OPEN"));
        breaker.reset();
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("CLOSED"));
    }
}

#[test]
fn a_peer_opens_it_during_the_outage() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let cut_off = storage(&server.dsn_with(&[("port", &port)]), PATIENCE);
    let (breaker, _clock) = breaker(&cut_off);
    link.cut();
    in_trouble(&cut_off);
    server.set_row(
        NAME,
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    trip(&breaker);
    let row = server.row(NAME, NAMESPACE);
    link.resume();
    in_step(&cut_off, &breaker);
    assert_eq!(server.row(NAME, NAMESPACE), row, "who opens first wins");
    let retry_after = breaker.try_acquire().expect_err("open").retry_after;
    assert!(retry_after > ISOLATION, "{retry_after:?}");
}

#[test]
fn a_table_that_goes_and_a_right_that_is_taken() {
    let server = server();
    server.sql("create role app login password 'app'; grant select, insert, update on rc_circuit_breakers to app");
    let dsn = server.dsn_with(&[("user", "app"), ("password", "app")]);
    let storage = storage(&dsn, PATIENCE);
    let (breaker, clock) = breaker(&storage);
    for (disturb, said, mend) in [
        ("drop table rc_circuit_breakers", "does not exist", None),
        (
            "revoke all on rc_circuit_breakers from app",
            "permission denied",
            Some("grant select, insert, update on rc_circuit_breakers to app"),
        ),
    ] {
        server.sql(disturb);
        in_trouble(&storage);
        let trouble = storage.sync().trouble().expect("trouble");
        assert!(trouble.contains(said), "{trouble}");
        lives_alone(&breaker, &clock);
        match mend {
            Some(sql) => {
                server.sql(sql);
            }
            None => {
                server.create_table();
                server.sql("grant select, insert, update on rc_circuit_breakers to app");
            }
        }
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("OPEN"));
        breaker.reset();
        assert!(breaker.flush(PATIENCE));
    }
}

#[test]
fn calls_go_on_while_the_server_hangs() {
    let mut server = server();
    // It hangs for the whole test: nothing here may wait for it.
    let storage = storage(&server.dsn(), PATIENCE * 10);
    let config = BulkheadConfig::new(NAME)
        .max_concurrent_calls(2)
        .circuit_breaker(rules().failure_threshold(50));
    let bulkhead = Bulkhead::builder(config)
        .circuit_storage(storage)
        .build()
        .unwrap();
    server.freeze();
    for i in 0..200 {
        let result = wait(bulkhead.execute(move || if i % 4 == 0 { Err(i) } else { Ok(i) }));
        assert_eq!(result.is_success(), i % 4 != 0);
    }
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    assert!(bulkhead.try_execute(|| Ok::<_, ()>(())).is_err());
    breaker.reset();
    assert!(wait(bulkhead.run(|| 1)).is_success());
    assert_eq!(bulkhead.stats().successful_executions, 151);
    let report = bulkhead.shutdown();
    assert!(report.still_running.is_empty());
    drop(bulkhead);
    // Else the thread of the storage outlives the test.
    server.kill();
}

// ---- what is logged

static LINES: Mutex<Vec<(log::Level, String)>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (record.level(), record.args().to_string());
        LINES.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

fn collect_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("the only one");
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The warnings that name this port.
fn warnings(port: u16) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let warnings = lines
        .iter()
        .filter(|(level, line)| *level <= log::Level::Warn && line.contains(&format!(":{port},")));
    warnings.map(|(_, line)| line.clone()).collect()
}

#[test]
fn one_warning_for_each_outage() {
    collect_the_log();
    let mut server = server();
    let port = server.address().port();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    for outage in 1..=2 {
        server.kill();
        in_trouble(&storage);
        lives_alone(&breaker, &clock);
        for _ in 0..100 {
            assert!(breaker.try_acquire().is_err());
        }
        assert_eq!(warnings(port).len(), outage, "{:?}", warnings(port));
        server.restart();
        in_step(&storage, &breaker);
        breaker.reset();
        assert!(breaker.flush(PATIENCE));
    }
    let password = server.part("password");
    let lines = LINES.lock().unwrap();
    assert!(lines.iter().all(|(_, line)| !line.contains(password)));
}

// ---- many processes

const CHILDREN: usize = 64;

#[test]
fn sixty_four_processes_trip_at_once() {
    let server = server();
    let mut children: Vec<Child> = (0..CHILDREN).map(|_| start_child(&server)).collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    for output in &mut outputs {
        await_line(output, "ready");
    }
    for child in &mut children {
        child.stdin.as_mut().unwrap().write_all(b"trip\n").unwrap();
    }
    let ends: Vec<f64> = outputs
        .iter_mut()
        .map(|output| await_line(output, "open until ").parse().unwrap())
        .collect();
    let until = server
        .row(NAME, NAMESPACE)
        .unwrap()
        .open_until_epoch
        .unwrap();
    for end in ends {
        assert!((end - until).abs() < 0.001, "{end} instead of {until}");
    }
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

fn start_child(server: &Server) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_trips", "--ignored", "--nocapture"])
        .env("BULKMAN_TEST_DSN", server.dsn())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The rest of the next line that begins so; the test harness prints others.
fn await_line(
    output: &mut std::io::Lines<BufReader<std::process::ChildStdout>>,
    start: &str,
) -> String {
    let rest = output.find_map(|line| line.unwrap().strip_prefix(start).map(str::to_owned));
    rest.unwrap_or_else(|| panic!("the child ended before `{start}`"))
}

#[test]
#[ignore = "started by the test above"]
fn child_that_trips() {
    let storage = storage(&std::env::var("BULKMAN_TEST_DSN").unwrap(), PATIENCE);
    let breaker = CircuitBreaker::builder(NAME, rules())
        .storage(storage)
        .build()
        .unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    let mut input = std::io::stdin().lines();
    // The harness leaves its own line unfinished.
    println!("\nready");
    input.next().unwrap().unwrap();
    let _ = (breaker.record_failure(), breaker.record_failure());
    assert!(breaker.flush(PATIENCE));
    assert!(breaker.is_open());
    // What it goes by is what is stored: the keeper has taken it over.
    let refused = breaker.try_acquire().expect_err("open");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    println!(
        "\nopen until {}",
        (now.unwrap() + refused.retry_after).as_secs_f64()
    );
    input.next();
}

// ---- what only a real server does

/// What the sessions of all storages do at the moment, as far as the server knows.
fn waiting_for_a_lock(server: &Server) -> String {
    let rows = server.sql(
        "select count(*) from pg_stat_activity
         where application_name = 'bulkman' and wait_event_type = 'Lock'",
    );
    rows[0][0].clone().expect("a number")
}

#[test]
fn a_row_that_somebody_locks() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let storage = storage(
        &server.dsn_with(&[("port", &port)]),
        Duration::from_millis(200),
    );
    let (locked, _clock) = breaker(&storage);
    let others: Vec<CircuitBreaker> = ["one", "two"]
        .iter()
        .map(|name| {
            let builder = CircuitBreaker::builder(*name, rules()).storage(storage.clone());
            builder.build().unwrap()
        })
        .collect();
    server.set_row(NAME, NAMESPACE, "CLOSED", 0, "null", "'[]'");
    let mut session = postgres::Client::connect(&server.dsn(), postgres::NoTls).unwrap();
    let mut lock = session.transaction().unwrap();
    lock.query("select 1 from rc_circuit_breakers for update", &[])
        .unwrap();

    trip(&locked);
    in_trouble(&storage);
    let before = link.connections();
    eventually("it goes on trying", || link.connections() > before + 12);
    eventually("the server is not left waiting for the lock", || {
        waiting_for_a_lock(&server).parse::<usize>().unwrap() <= 1
    });
    // Meanwhile the others are in step: with a peer, and with a change of their own.
    server.set_row(
        "one",
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    eventually("news of another circuit", || others[0].is_open());
    trip(&others[1]);
    eventually("a change of another circuit", || {
        server
            .row("two", NAMESPACE)
            .is_some_and(|row| row.state == "OPEN")
    });
    assert!(locked.is_open() && storage.sync().trouble().is_some());

    lock.commit().unwrap();
    in_step(&storage, &locked);
    assert_eq!(state(&server).as_deref(), Some("OPEN"));
}

#[test]
fn a_connection_that_ended_while_nobody_used_it_is_no_outage() {
    let mut server = server();
    let storage = PostgresStorage::builder(server.dsn())
        .namespace(NAMESPACE)
        .refresh_interval(ISOLATION)
        .deadline(PATIENCE)
        .build()
        .unwrap();
    let (breaker, _clock) = breaker(&storage);
    for end in ["terminate", "stop", "kill"] {
        breaker.reset();
        assert!(breaker.flush(PATIENCE), "{end}");
        match end {
            "terminate" => {
                server.sql(
                    "select pg_terminate_backend(pid, 60000) from pg_stat_activity
                     where application_name = 'bulkman'",
                );
            }
            "stop" => server.stop(),
            _ => server.kill(),
        }
        if end != "terminate" {
            server.restart();
        }
        trip(&breaker);
        // Not when the next refresh comes.
        assert!(
            breaker.flush(PATIENCE),
            "{end}: {:?}",
            storage.sync().trouble()
        );
        assert_eq!(state(&server).as_deref(), Some("OPEN"), "{end}");
    }
}

#[test]
fn a_server_that_takes_no_writes_for_a_while() {
    let server = server();
    server.sql("create role app login password 'app'; grant all on rc_circuit_breakers to app");
    server.sql("alter role app set default_transaction_read_only = on");
    let dsn = server.dsn_with(&[("user", "app"), ("password", "app")]);
    let storage = storage(&dsn, PATIENCE);
    let said = storage.check().expect_err("nothing can be written");
    assert!(said.to_string().contains("nothing be written"), "{said}");
    let (breaker, _clock) = breaker(&storage);
    server.set_row(
        NAME,
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    eventually("it can still be read", || breaker.is_open());
    breaker.reset();
    in_trouble(&storage);
    // A session that is there already does not see it.
    server.sql("alter role app reset default_transaction_read_only");
    in_step(&storage, &breaker);
    assert_eq!(state(&server).as_deref(), Some("CLOSED"));
    storage.check().unwrap();
}

#[test]
fn a_stricter_isolation_by_default() {
    let server = server();
    for level in ["repeatable read", "serializable"] {
        server.sql(&format!(
            "alter role bulkman set default_transaction_isolation = '{level}'"
        ));
        let storages: Vec<_> = (0..6).map(|_| storage(&server.dsn(), PATIENCE)).collect();
        for round in 0..10 {
            let circuit = format!("{level} {round}");
            let barrier = std::sync::Barrier::new(storages.len());
            let applied: usize = std::thread::scope(|scope| {
                let openers: Vec<_> = storages
                    .iter()
                    .map(|storage| {
                        let (barrier, circuit) = (&barrier, &circuit);
                        scope.spawn(move || {
                            storage.check().unwrap();
                            let mut open = bulkman::CircuitRecord::closed();
                            open.state = CircuitState::Open;
                            let now = std::time::SystemTime::now();
                            open.open_until = Some(now + ISOLATION);
                            barrier.wait();
                            let guard = bulkman::WriteGuard::UnlessOpen { now };
                            let outcome = storage.store(circuit, &open, guard);
                            let count = |stored: Option<&bulkman::CircuitRecord>| {
                                let mut stored = stored.cloned()?;
                                stored.failure_count += 1;
                                Some(stored)
                            };
                            storage.update(circuit, count).expect("an answer");
                            let outcome = outcome.expect("an answer");
                            usize::from(outcome != bulkman::WriteOutcome::Refused)
                        })
                    })
                    .collect();
                openers.into_iter().map(|o| o.join().unwrap()).sum()
            });
            assert_eq!(applied, 1, "{level}");
            let row = server.row(&circuit, NAMESPACE).unwrap();
            assert_eq!(row.failure_count, 6, "{level}: none is lost");
        }
    }
}

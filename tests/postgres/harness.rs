//! The server, the links and the silent listener that the tests of a shared circuit stand on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::postgres::{Link, Python, Row, Server, Silent};

/// The first question of a client: may it encrypt? A server answers with one letter.
const FIRST_QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Whether a server answers there, within a time.
fn answers_within(address: SocketAddr, limit: Duration) -> bool {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(limit)).expect("not zero");
    stream.write_all(&FIRST_QUESTION).is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn answers(address: SocketAddr) -> bool {
    answers_within(address, PATIENCE)
}

/// How long to wait for an answer that must not come. On a slow machine a defect may stay unseen, but no correct
/// behaviour looks like a defect.
const SHORT: Duration = Duration::from_millis(500);

fn is_silent(address: SocketAddr) -> bool {
    !answers_within(address, SHORT)
}

fn write(server: &Server) -> Row {
    server.set_row("a", "b", "CLOSED", 1, "NULL", "'[true]'");
    server.row("a", "b").expect("a row")
}

#[test]
fn a_server_keeps_port_and_data_over_a_stop_and_over_a_kill() {
    let mut server = Server::start();
    server.create_table();
    let row = write(&server);
    server.stop();
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.row("a", "b").as_ref(), Some(&row));
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.row("a", "b"), Some(row));
}

#[test]
fn a_frozen_server_accepts_and_says_nothing_until_it_is_thawed() {
    let mut server = Server::start();
    assert!(answers(server.address()));
    server.freeze();
    assert!(is_silent(server.address()));
    server.thaw();
    assert!(answers(server.address()));
    // And in any order.
    server.freeze();
    server.kill();
    server.restart();
    server.freeze();
    server.stop();
    server.restart();
    assert_eq!(server.sql("SELECT 1, NULL"), [[Some("1".into()), None]]);
    server.freeze();
}

#[test]
fn a_dropped_server_is_gone_and_so_is_its_folder() {
    let server = Server::start();
    let folder = server.sql("SHOW data_directory")[0][0].clone();
    let folder = folder.expect("it has one");
    assert!(std::fs::exists(&folder).expect("a path"));
    let address = server.address();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    assert!(!std::fs::exists(&folder).expect("a path"));
}

#[test]
fn a_row_is_told_in_utc() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let until = "'2030-01-02 03:04:05.678901+00'";
    server.set_row("it's", &namespace, "OPEN", 2, until, "'[true,false]'");
    let row = server.row("it's", &namespace).expect("a row");
    assert_eq!(row.read(), ("OPEN", 2, true, Some("[true, false]")));
    let until = row.open_until.as_deref();
    assert_eq!(until, Some("2030-01-02 03:04:05.678901+00"));
    assert_eq!(row.open_until_epoch, Some(1_893_553_445.678_901));
    assert!(row.created_at.ends_with("+00"), "{}", row.created_at);
}

#[test]
fn a_link_lets_through_and_holds_back_and_cuts() {
    let server = Server::shared();
    let link = Link::to(server.address());
    assert!(answers(link.address()));
    link.pause();
    assert!(is_silent(link.address()));
    link.cut();
    assert!(!answers(link.address()));
    link.resume();
    assert!(answers(link.address()));
    assert_eq!(link.connections(), 4);
}

#[test]
fn a_paused_link_loses_nothing_and_a_cut_one_ends_what_there_is() {
    // A server that sends back what it gets.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let link = Link::to(listener.local_addr().expect("bound"));
    let mut near = TcpStream::connect(link.address()).expect("it listens");
    near.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let (mut far, _) = listener.accept().expect("the link connects");
    far.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut byte = [0];

    link.pause();
    near.write_all(b"a").expect("it is buffered");
    far.set_read_timeout(Some(SHORT)).expect("not zero");
    assert!(far.read(&mut byte).is_err());
    far.set_read_timeout(Some(PATIENCE)).expect("not zero");
    link.resume();
    far.read_exact(&mut byte).expect("what was held back");
    assert_eq!(&byte, b"a");

    link.cut();
    assert!(matches!(near.read(&mut byte), Ok(0) | Err(_)));
    assert!(matches!(far.read(&mut byte), Ok(0) | Err(_)));
}

#[test]
fn a_silent_listener_accepts_and_says_nothing() {
    let silent = Silent::start();
    assert!(is_silent(silent.address()));
    eventually("it has come", || silent.connections() == 1);
}

#[test]
fn a_python_peer_says_what_is_wrong_and_goes_on() {
    let mut peer = Python::with_env(&[]);
    let error = peer.try_ask("no_such_request", serde_json::json!({}));
    assert!(error.is_err_and(|text| text.starts_with("AttributeError: ")));
    let error = peer.try_ask("get", serde_json::json!({"no": "such argument"}));
    assert!(error.is_err_and(|text| text.starts_with("TypeError: ")));
    assert_eq!(peer.get("nothing", "there"), None);
}

#[test]
fn a_python_peer_that_waits_for_a_server_goes_when_told() {
    let silent = Silent::start();
    let server = Server::shared();
    let port = silent.address().port().to_string();
    let mut peer = Python::with_dsn(&server.dsn_with(&[("port", &port)]));
    let pending = peer.start_increments("a", "b", 1);
    eventually("it is connected", || silent.connections() == 1);
    drop(pending);
    drop(peer);
}

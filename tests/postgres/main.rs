//! Circuits that are shared through PostgreSQL: the storage, outages, and peers in Python.
//!
//! The tests start servers and Python processes of their own, and install missing programs if they may; see `install`.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod encodings;
mod failover;
mod harness;
mod pgbouncer;
mod python_peers;

/// Outages: the server does not answer, and the circuit gets back in step with it later.
mod outage {
    mod helpers;
    mod log;
    mod many_processes;
    mod odd_servers;
    mod recovery;
}

/// One circuit that Rust and Python share: the real libraries on both sides of a real table.
mod rust_and_python {
    mod clocks;
    mod environment;
    mod half_open;
    mod helpers;
    mod opening;
    mod restarts;
    mod rows;
}

/// The storage alone, on a real server.
mod storage {
    mod connecting;
    mod environment;
    mod helpers;
    mod rows;
    mod schema;
    mod update;
    mod write_guard;
}

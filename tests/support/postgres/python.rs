//! A Python process with the libraries that circuit state is shared with.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::lines::{Lines, SETUP};
use super::server::Server;

const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/venv");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/peer.py");
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/python-peers");

/// A process with at most one circuit in it, which it holds as bulkman does (`bulkhead`) or as a policy.
///
/// An exception in Python is a panic here, with its text.
#[derive(Debug)]
pub struct Python(Lines);

/// The settings of bulkman's `BulkheadThreading`.
#[derive(Debug, Clone, Copy)]
pub struct Bulkman {
    pub failure_threshold: u32,
    pub success_threshold: u32,
    pub isolation_seconds: f64,
}

impl Default for Bulkman {
    /// bulkman's own.
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            success_threshold: 3,
            isolation_seconds: 30.0,
        }
    }
}

/// The settings of resilient-circuit's `CircuitProtectorPolicy`.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub failure_limit: (u32, u32),
    pub success_limit: Option<(u32, u32)>,
    pub cooldown_seconds: f64,
    /// None: before every call.
    pub refresh_seconds: Option<f64>,
}

impl Default for Policy {
    /// The library's own, with a cooldown.
    fn default() -> Self {
        Self {
            failure_limit: (1, 1),
            success_limit: None,
            cooldown_seconds: 30.0,
            refresh_seconds: Some(1.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failed,
    /// Not called.
    CircuitOpen,
}

/// The circuit, as a process sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// `CLOSED`, `OPEN` or `HALF_OPEN`.
    pub state: String,
    pub failure_count: Option<i64>,
    /// Seconds since 1970, in OPEN.
    pub open_until: Option<f64>,
    pub execution_log: Vec<bool>,
    /// `postgres` or `in-memory`.
    pub backend: String,
}

/// A call, and the state after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Called {
    pub outcome: Outcome,
    pub state: State,
}

/// A row as the library sees it, for reading and writing.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub state: String,
    pub failure_count: i64,
    /// Seconds since 1970; 0 is none.
    pub open_until: f64,
    pub execution_log: Option<Vec<bool>>,
}

impl Stored {
    pub fn new(state: &str, failure_count: i64, open_until: f64, log: Option<&[bool]>) -> Self {
        Self {
            state: state.into(),
            failure_count,
            open_until,
            execution_log: log.map(Into::into),
        }
    }
}

impl Python {
    /// One whose storage is the server. It does without it only if it is told to (`RC_DB_STRICT`).
    pub fn start(server: &Server) -> Self {
        Self::with_dsn(&server.dsn())
    }

    /// The same, for another way to a server.
    pub fn with_dsn(dsn: &str) -> Self {
        Self::with_env(&[("RC_DB_DSN", dsn), ("RC_DB_STRICT", "1")])
    }

    /// One that knows only these of the libraries' variables.
    pub fn with_env(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python());
        command.arg(PEER).current_dir(env!("CARGO_TARGET_TMPDIR"));
        for (name, _) in std::env::vars_os() {
            if ["RC_", "PG"].iter().any(|p| starts_with(&name, p)) {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        Self(Lines::start("a Python peer", &mut command))
    }

    /// Makes the table, complete, by the library's own tool.
    pub fn set_up(&mut self) {
        let (status, output) = self.tool(&["pg-setup", "--yes"]);
        assert_eq!(status, 0, "{output}");
    }

    /// Runs the library's own tool, and returns its exit status and its output.
    pub fn tool(&mut self, arguments: &[&str]) -> (i64, String) {
        let answer = self.ask("tool", json!({ "arguments": arguments }));
        let status = answer["status"].as_i64().expect("a number");
        (status, text(&answer["output"]))
    }

    /// Makes a bulkhead with a breaker, instead of the circuit that it had. Without a namespace the library chooses.
    pub fn bulkhead<'a>(
        &mut self,
        name: &str,
        namespace: impl Into<Option<&'a str>>,
        config: Bulkman,
    ) -> State {
        let answer = self.ask(
            "bulkhead",
            json!({
                "name": name,
                "namespace": namespace.into(),
                "failure_threshold": config.failure_threshold,
                "success_threshold": config.success_threshold,
                "isolation_duration": config.isolation_seconds,
            }),
        );
        state(&answer)
    }

    /// Makes a policy, instead of the circuit that it had. Without a namespace the library chooses.
    pub fn policy<'a>(
        &mut self,
        name: &str,
        namespace: impl Into<Option<&'a str>>,
        config: Policy,
    ) -> State {
        let answer = self.ask(
            "policy",
            json!({
                "name": name,
                "namespace": namespace.into(),
                "failure_limit": config.failure_limit,
                "success_limit": config.success_limit,
                "cooldown": config.cooldown_seconds,
                "refresh": config.refresh_seconds,
            }),
        );
        state(&answer)
    }

    /// Drops the circuit and makes it again, as a new process would.
    pub fn rebuild(&mut self) -> State {
        state(&self.ask("rebuild", json!({})))
    }

    /// A call that succeeds, if it is let in.
    pub fn succeed(&mut self) -> Called {
        self.call("success")
    }

    /// A call that fails, if it is let in.
    pub fn fail(&mut self) -> Called {
        self.call("failure")
    }

    fn call(&mut self, outcome: &str) -> Called {
        let answer = self.ask("call", json!({ "outcome": outcome }));
        let outcome = match answer["outcome"].as_str() {
            Some("success") => Outcome::Success,
            Some("failed") => Outcome::Failed,
            Some("circuit open") => Outcome::CircuitOpen,
            _ => panic!("no outcome: {answer}"),
        };
        Called {
            outcome,
            state: state(&answer),
        }
    }

    /// The state that it has, without a look at the storage.
    pub fn state(&mut self) -> State {
        state(&self.ask("state", json!({})))
    }

    pub fn get(&mut self, name: &str, namespace: &str) -> Option<Stored> {
        let answer = self.ask("get", json!({ "name": name, "namespace": namespace }));
        stored(&answer["stored"])
    }

    /// The guarded write; false when a live OPEN has refused it.
    pub fn set(&mut self, name: &str, namespace: &str, new: &Stored) -> bool {
        let answer = self.ask("set", written(name, namespace, new));
        answer["applied"].as_bool().expect("a boolean")
    }

    /// The write that no state refuses.
    pub fn update(&mut self, name: &str, namespace: &str, new: &Stored) {
        self.ask("update", written(name, namespace, new));
    }

    /// Adds one to `failure_count` by an atomic update, again and again; `finish` returns the last row. Other
    /// processes can do the same meanwhile.
    pub fn start_increments(&mut self, name: &str, namespace: &str, times: u32) -> Pending<'_> {
        let arguments = json!({ "name": name, "namespace": namespace, "times": times });
        self.0.send(&request("increment", arguments));
        Pending(self)
    }

    pub fn delete(&mut self, name: &str, namespace: &str) -> bool {
        let answer = self.ask("delete", json!({ "name": name, "namespace": namespace }));
        answer["existed"].as_bool().expect("a boolean")
    }

    /// Sets its wall clock ahead of the real one, or behind, and returns the time that it shows now.
    pub fn set_clock_ahead(&mut self, seconds: f64) -> f64 {
        let answer = self.ask("clock", json!({ "ahead": seconds }));
        answer["now"].as_f64().expect("a number")
    }

    /// The lines that the libraries have logged since the last time: a level and a message each.
    pub fn log(&mut self) -> Vec<String> {
        let answer = self.ask("log", json!({}));
        list(&answer["log"]).map(text).collect()
    }

    fn ask(&mut self, op: &str, arguments: Value) -> Value {
        self.try_ask(op, arguments)
            .unwrap_or_else(|error| panic!("{op} in a Python peer: {error}"))
    }

    /// Any request that peer.py knows; the error is the exception's text.
    pub fn try_ask(&mut self, op: &str, arguments: Value) -> Result<Value, String> {
        parsed(&self.0.ask(&request(op, arguments)))
    }
}

/// A request that is under way.
#[must_use = "it is only waited for by `finish`"]
#[derive(Debug)]
pub struct Pending<'a>(&'a mut Python);

impl Pending<'_> {
    pub fn finish(self) -> Option<Stored> {
        let answer = self.0.0.next(crate::support::PATIENCE);
        let answer = parsed(&answer.expect("an answer")).expect("no exception");
        stored(&answer["stored"])
    }
}

fn request(op: &str, mut arguments: Value) -> String {
    arguments["op"] = op.into();
    arguments.to_string()
}

fn parsed(answer: &str) -> Result<Value, String> {
    let answer: Value = serde_json::from_str(answer).expect("each answer is JSON");
    match answer.get("error") {
        Some(error) => Err(text(error)),
        None => Ok(answer),
    }
}

fn state(answer: &Value) -> State {
    State {
        state: text(&answer["state"]),
        failure_count: answer["failure_count"].as_i64(),
        open_until: answer["open_until"].as_f64(),
        execution_log: booleans(&answer["execution_log"]),
        backend: text(&answer["backend"]),
    }
}

fn stored(answer: &Value) -> Option<Stored> {
    if answer.is_null() {
        return None;
    }
    let log = answer.get("execution_log").filter(|log| !log.is_null());
    Some(Stored {
        state: text(&answer["state"]),
        failure_count: answer["failure_count"].as_i64().expect("a number"),
        open_until: answer["open_until"].as_f64().expect("a number"),
        execution_log: log.map(booleans),
    })
}

fn written(name: &str, namespace: &str, new: &Stored) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "state": new.state,
        "failure_count": new.failure_count,
        "open_until": new.open_until,
        "execution_log": new.execution_log,
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array").iter()
}

fn booleans(value: &Value) -> Vec<bool> {
    list(value)
        .map(|entry| entry.as_bool().expect("a boolean"))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").into()
}

fn starts_with(name: &std::ffi::OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// The Python that has the libraries.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = Lines::start(VENV, Command::new("bash").arg(VENV).arg(FOLDER));
        script
            .next(SETUP)
            .unwrap_or_else(|| panic!("no Python peers: {}", script.last_words()))
    })
}

//! A child process that answers in lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::support::PATIENCE;

/// How long a child may take to set itself up: the first one on a machine downloads and installs packages.
pub const SETUP: Duration = Duration::from_secs(600);

/// A child process. Its drop ends its input, which tells it to end, and waits for that.
#[derive(Debug)]
pub struct Lines {
    what: String,
    child: Child,
    /// None once it has been told to go.
    input: Option<ChildStdin>,
    /// Disconnected when its output ends.
    output: Receiver<String>,
    /// Its error output, which is also shown at once. Disconnected when it ends.
    errors: Receiver<String>,
}

impl Lines {
    pub fn start(what: impl Into<String>, command: &mut Command) -> Self {
        let what = what.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal to the whole group of the tests must not end it before it has tidied up.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} could not be started: {error}"));
        let input = child.stdin.take();
        let output = lines_of(child.stdout.take().expect("it is piped"), |_| ());
        let errors = lines_of(child.stderr.take().expect("it is piped"), |line| {
            // Not `eprintln`, which the test harness holds back until the test fails.
            let _ = writeln!(std::io::stderr(), "{line}");
        });
        Self {
            what,
            child,
            input,
            output,
            errors,
        }
    }

    /// The next line; none when it ends instead.
    pub fn next(&self, within: Duration) -> Option<String> {
        match self.output.recv_timeout(within) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} did not answer within {within:?}", self.what)
            }
        }
    }

    /// Its error output, once it has ended.
    pub fn last_words(&self) -> String {
        let mut words = Vec::new();
        while let Ok(line) = self.errors.recv_timeout(PATIENCE) {
            words.push(line);
        }
        words.join("\n")
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        match self.next(PATIENCE) {
            Some(answer) => answer,
            None => panic!("{} has ended instead of an answer to {line}", self.what),
        }
    }

    /// A request whose answer is to come later.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open until the drop");
        if let Err(error) = writeln!(input, "{line}") {
            panic!("{} is gone, at {line}: {error}", self.what);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.input = None;
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        let _ = self.child.wait();
    }
}

/// Reads lines in a thread that ends with them.
fn lines_of(
    pipe: impl Read + Send + 'static,
    also: impl Fn(&str) + Send + 'static,
) -> Receiver<String> {
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            also(&line);
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

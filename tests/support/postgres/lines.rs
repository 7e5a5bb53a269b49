//! A child process that one talks to in lines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::support::PATIENCE;

/// It ends when it is dropped, and that is waited for: the end of its input is its sign to go.
#[derive(Debug)]
pub struct Lines {
    what: String,
    child: Child,
    /// None once it has been told to go.
    input: Option<ChildStdin>,
    /// Disconnected when its output ends.
    output: Receiver<String>,
}

impl Lines {
    pub fn start(what: impl Into<String>, command: &mut Command) -> Self {
        let what = what.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal to the whole group of the tests must not end it before it has tidied up.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} could not be started: {error}"));
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (sender, output) = unbounded();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            what,
            child,
            input,
            output,
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

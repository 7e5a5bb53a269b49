//! Python's bulkman, in a process of its own that takes its turn as the others do.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::candidate::{Candidate, Work};
use crate::place::Place;

const VERSION: &str = "2.0.4";
const SCRIPT: &str = include_str!("turns.py");

/// A Python that has bulkman. Made once, beside the compiled program, and kept for the next run.
pub struct Venv {
    python: PathBuf,
}

impl Venv {
    /// Finds it or makes it; an `Err` says what was missing.
    pub fn get() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let target = program.parent().unwrap_or(Path::new("."));
        let home = target.join(format!("python-bulkman-{VERSION}"));
        let python = home.join("bin/python");
        let probe = ["-c", "import bulkman"];
        if run(&python, &probe).is_err() {
            eprintln!("installing Python's bulkman {VERSION}");
            let venv = ["-m", "venv", "--clear"].map(str::as_ref);
            let venv = venv.into_iter().chain([home.as_os_str()]);
            succeed(Command::new("python3").args(venv))
                .map_err(|why| format!("no python3 with venv ({why})"))?;
            let package = format!("bulkman=={VERSION}");
            let quietly = ["--quiet", "--disable-pip-version-check", "--retries", "1"];
            let pip = ["-m", "pip", "install"].into_iter().chain(quietly);
            run(&python, &pip.chain([package.as_str()]).collect::<Vec<_>>())
                .map_err(|why| format!("pip could not install {package} ({why})"))?;
            run(&python, &probe)?;
        }
        Ok(Self { python })
    }
}

fn run(program: &Path, args: &[&str]) -> Result<(), String> {
    succeed(Command::new(program).args(args))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("no reason given").to_owned())
}

/// The process. It waits for a number of calls on its input, makes them, and answers with the nanoseconds.
pub struct Python {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    work: Work,
}

impl Python {
    pub const NAME: &'static str = "Python's bulkman 2.0.4";

    pub fn start(venv: &Venv, work: Work, workers: usize, place: &Place) -> Result<Self, String> {
        let kind = match work {
            Work::OneByOne => "one_by_one",
            Work::Batch => "batch",
            Work::NowAndThen => "now_and_then",
            Work::Refused => "refused",
        };
        let mut child = Command::new(&venv.python)
            .args(["-c", SCRIPT, kind, &workers.to_string()])
            .args([list(&place.workers), list(&place.caller)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (ask, answers) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .expect("both are piped");
        let mut python = Self {
            child,
            ask,
            answers: BufReader::new(answers),
            work,
        };
        // It answers once its threads have started.
        python.turn(0)?;
        Ok(python)
    }

    fn turn(&mut self, calls: usize) -> Result<Duration, String> {
        let mut line = String::new();
        writeln!(self.ask, "{calls}")
            .and_then(|()| self.answers.read_line(&mut line))
            .map_err(|error| error.to_string())?;
        let nanos = line.trim().parse().map(Duration::from_nanos);
        nanos.map_err(|_| format!("Python answered {line:?}"))
    }
}

fn list(cores: &[usize]) -> String {
    let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

impl Candidate for Python {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&mut self, calls: usize) -> Duration {
        self.turn(calls).expect("Python makes its calls")
    }

    /// A call takes Python so much longer that the run would be waiting for it alone.
    fn share_of(&self, calls: usize) -> usize {
        match self.work {
            Work::NowAndThen => calls,
            Work::OneByOne => calls / 2,
            Work::Batch | Work::Refused => calls / 10,
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // This very process, by its handle; its worker may be busy for ever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

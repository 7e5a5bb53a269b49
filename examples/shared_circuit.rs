//! Two processes, one circuit in PostgreSQL: the first one's dependency fails, and both stop calling it.
//!
//! ```sh
//! tests/postgres/server with cargo run --features postgres --example shared_circuit
//! ```
//!
//! The script starts a throw-away server. With one of your own, set `RC_DB_DSN`, or `RC_DB_HOST` and `RC_DB_PASSWORD`,
//! instead, as for Python's resilient-circuit. The example makes the table if there is none, and works in a namespace
//! of its own.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, CircuitBreakerConfig, CircuitStorage, PostgresStorage,
};

const TICK: Duration = Duration::from_millis(250);
const TICKS: u32 = 24;
/// When the dependency fails, and only for the first process.
const FAILING: std::ops::Range<u32> = 3..9;

type Anything = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let outcome = match env::args().nth(1) {
        None => watch_both(),
        Some(namespace) => call_in_a_loop(namespace, env::args().nth(2).as_deref() == Some("1")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts two processes and prints side by side what each of them sees.
fn watch_both() -> Anything {
    let namespace = format!("example-{}", std::process::id());
    let storage = storage(&namespace)?;
    storage.ensure_schema()?;

    let (mut one, mut two) = (start(&namespace, "1")?, start(&namespace, "2")?);
    let (mut lines_of_one, mut lines_of_two) = (lines(&mut one)?, lines(&mut two)?);
    println!("{:>6}  {:<34}process 2", "", "process 1");
    for tick in 0..TICKS {
        let (Some(saw_one), Some(saw_two)) = (lines_of_one.next(), lines_of_two.next()) else {
            break;
        };
        let time = (TICK * tick).as_secs_f32();
        println!("{time:>4.2} s  {:<34}{}", saw_one?, saw_two?);
    }
    let ended_well = one.wait()?.success() & two.wait()?.success();
    storage.remove("payments")?;
    if ended_well {
        Ok(())
    } else {
        Err("a process failed".into())
    }
}

/// One of the two: makes a call on each tick and says what came of it.
fn call_in_a_loop(namespace: String, is_first: bool) -> Anything {
    let config = BulkheadConfig::new("payments").circuit_breaker(
        CircuitBreakerConfig::default()
            .failure_threshold(3)
            .success_threshold(2)
            .isolation_duration(Duration::from_secs(2)),
    );
    let bulkhead = Bulkhead::builder(config)
        .circuit_storage(storage(&namespace)?)
        .build()?;

    let start = Instant::now();
    for tick in 0..TICKS {
        thread::sleep((start + TICK * tick).saturating_duration_since(Instant::now()));
        let fails = is_first && FAILING.contains(&tick);
        let call = move || {
            if fails {
                Err("connection refused")
            } else {
                Ok(())
            }
        };
        let saw = match bulkhead.execute(call).wait().into_result() {
            Ok(()) => "ok".to_owned(),
            Err(BulkheadError::Failed(error)) => error.to_owned(),
            Err(BulkheadError::CircuitOpen { retry_after, .. }) => {
                format!("not called, retry in {:.1} s", retry_after.as_secs_f32())
            }
            Err(error) => error.to_string(),
        };
        println!("{saw}");
    }
    Ok(())
}

fn storage(namespace: &str) -> Result<PostgresStorage, Box<dyn Error>> {
    let builder = PostgresStorage::builder_from_env()?.ok_or(
        "no server: set RC_DB_DSN, or run it with `tests/postgres/server with …`, see the head of the example",
    )?;
    let storage = builder
        .namespace(namespace)
        .refresh_interval(Duration::from_millis(100))
        .build()?;
    Ok(storage)
}

fn start(namespace: &str, number: &str) -> std::io::Result<Child> {
    Command::new(env::current_exe()?)
        .args([namespace, number])
        .stdout(Stdio::piped())
        .spawn()
}

fn lines(process: &mut Child) -> Result<std::io::Lines<BufReader<ChildStdout>>, Box<dyn Error>> {
    let output = process.stdout.take().ok_or("no output to read")?;
    Ok(BufReader::new(output).lines())
}

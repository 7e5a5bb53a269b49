//! Three ways in which a service can call its dependencies.

use std::error::Error;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig};
use crossbeam_channel::{Sender, bounded, unbounded};

use super::dependency::{Dependencies, PLACES, Which};

/// How long whoever made the request waits for an answer.
pub const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plainly,
    OnePool,
    Bulkheads,
}

/// What a request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Value,
    /// At once, so that it can be sent elsewhere.
    Refused,
    Failed,
}

pub trait Service: Send + Sync {
    /// Serves a request in one of the service's threads.
    fn serve(&self, which: Which) -> Answer;
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Plainly, Self::OnePool, Self::Bulkheads];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plainly => "without bulkheads",
            Self::OnePool => "one thread pool for all",
            Self::Bulkheads => "with bulkheads",
        }
    }

    pub fn service(self, dependencies: &Dependencies) -> Result<Box<dyn Service>, Box<dyn Error>> {
        let dependencies = dependencies.clone();
        Ok(match self {
            Self::Plainly => Box::new(Plainly(dependencies)),
            Self::OnePool => Box::new(OnePool::new(dependencies)),
            Self::Bulkheads => Box::new(Bulkheads::new(dependencies)?),
        })
    }
}

/// The thread that serves a request makes the call itself.
struct Plainly(Dependencies);

impl Service for Plainly {
    fn serve(&self, which: Which) -> Answer {
        match self.0.call(which) {
            Ok(()) => Answer::Value,
            Err(_) => Answer::Failed,
        }
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// A pool with as many threads as the two bulkheads have together, and a queue without a bound. The thread that serves a request
/// waits for its call no longer than the request does.
struct OnePool {
    dependencies: Dependencies,
    tasks: Option<Sender<Task>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl OnePool {
    fn new(dependencies: Dependencies) -> Self {
        let (tasks, queue) = unbounded::<Task>();
        let threads = (0..2 * PLACES).map(|_| {
            let queue = queue.clone();
            thread::spawn(move || queue.iter().for_each(|task| task()))
        });
        Self {
            dependencies,
            tasks: Some(tasks),
            threads: Mutex::new(threads.collect()),
        }
    }
}

impl Service for OnePool {
    fn serve(&self, which: Which) -> Answer {
        let (done, result) = bounded(1);
        let dependencies = self.dependencies.clone();
        let task = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = done.send(dependencies.call(which));
        });
        let sent = self
            .tasks
            .as_ref()
            .is_some_and(|tasks| tasks.send(task).is_ok());
        match result.recv_timeout(PATIENCE) {
            Ok(Ok(())) if sent => Answer::Value,
            _ => Answer::Failed,
        }
    }
}

impl Drop for OnePool {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.get_mut().unwrap().drain(..) {
            thread.join().unwrap();
        }
    }
}

/// A bulkhead for each dependency. Without circuit breakers, which would make it easier still.
struct Bulkheads {
    dependencies: Dependencies,
    healthy: Bulkhead,
    hanging: Bulkhead,
}

impl Bulkheads {
    fn new(dependencies: Dependencies) -> Result<Self, bulkman::BuildError> {
        let bulkhead = |name| {
            Bulkhead::new(
                BulkheadConfig::new(name)
                    .max_concurrent_calls(PLACES)
                    .max_queue_size(PLACES)
                    .execution_timeout(PATIENCE),
            )
        };
        Ok(Self {
            dependencies,
            healthy: bulkhead("healthy")?,
            hanging: bulkhead("hanging")?,
        })
    }
}

impl Service for Bulkheads {
    fn serve(&self, which: Which) -> Answer {
        let bulkhead = match which {
            Which::Healthy => &self.healthy,
            Which::Hanging => &self.hanging,
        };
        let dependencies = self.dependencies.clone();
        let result = bulkhead.execute(move || dependencies.call(which)).wait();
        match result.error() {
            None => Answer::Value,
            Some(error) if error.is_rejected() => Answer::Refused,
            Some(_) => Answer::Failed,
        }
    }
}

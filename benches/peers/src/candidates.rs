//! The pools that are compared, each used as its own documentation suggests.

use std::sync::mpsc;

use bulkman::{Bulkhead, BulkheadConfig};

/// One pool. The task does nothing; what is measured is what the pool does around it.
pub trait Candidate {
    fn name(&self) -> &'static str;
    /// Submits one task and waits for its result.
    fn round_trip(&self);
    /// Submits `calls` tasks, keeps their handles, and then waits for all.
    fn batch(&self, calls: usize);
}

/// All candidates with so many workers.
pub fn all(workers: usize) -> Vec<Box<dyn Candidate>> {
    vec![
        Box::new(Bulkman::new(workers)),
        Box::new(ByHand::new(workers)),
        Box::new(Rayon::new(workers)),
        Box::new(RustyPool::new(workers)),
        Box::new(ThreadPool::new(workers)),
        Box::new(Tokio::new(workers)),
    ]
}

fn task() -> u64 {
    std::hint::black_box(7)
}

struct Bulkman(Bulkhead);

impl Bulkman {
    fn new(workers: usize) -> Self {
        let config = BulkheadConfig::new("peer")
            .max_concurrent_calls(workers)
            .max_queue_size(100_000);
        Self(Bulkhead::new(config).expect("a valid configuration"))
    }
}

impl Candidate for Bulkman {
    fn name(&self) -> &'static str {
        "bulkman"
    }

    fn round_trip(&self) {
        let result = self.0.run(task).wait();
        assert!(result.is_success());
    }

    fn batch(&self, calls: usize) {
        let handles: Vec<_> = (0..calls).map(|_| self.0.run(task)).collect();
        for handle in handles {
            assert!(handle.wait().is_success());
        }
    }
}

/// What anyone would write: boxed closures over a bounded channel, a oneshot for the result.
struct ByHand(crossbeam_channel::Sender<Box<dyn FnOnce() + Send>>);

impl ByHand {
    fn new(workers: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<Box<dyn FnOnce() + Send>>(100_000);
        for _ in 0..workers {
            let receiver = receiver.clone();
            std::thread::spawn(move || {
                for task in receiver {
                    task();
                }
            });
        }
        Self(sender)
    }

    fn submit(&self) -> oneshot::Receiver<u64> {
        let (sender, receiver) = oneshot::channel();
        let boxed = Box::new(move || drop(sender.send(task())));
        self.0.send(boxed).expect("the workers live");
        receiver
    }
}

impl Candidate for ByHand {
    fn name(&self) -> &'static str {
        "crossbeam-channel + oneshot"
    }

    fn round_trip(&self) {
        self.submit().recv().expect("a result");
    }

    fn batch(&self, calls: usize) {
        let receivers: Vec<_> = (0..calls).map(|_| self.submit()).collect();
        for receiver in receivers {
            receiver.recv().expect("a result");
        }
    }
}

struct Rayon(rayon::ThreadPool);

impl Rayon {
    fn new(workers: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers);
        Self(pool.build().expect("threads"))
    }

    fn submit(&self) -> oneshot::Receiver<u64> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || drop(sender.send(task())));
        receiver
    }
}

impl Candidate for Rayon {
    fn name(&self) -> &'static str {
        "rayon + oneshot"
    }

    fn round_trip(&self) {
        self.submit().recv().expect("a result");
    }

    fn batch(&self, calls: usize) {
        let receivers: Vec<_> = (0..calls).map(|_| self.submit()).collect();
        for receiver in receivers {
            receiver.recv().expect("a result");
        }
    }
}

struct RustyPool(rusty_pool::ThreadPool);

impl RustyPool {
    fn new(workers: usize) -> Self {
        let pool = rusty_pool::Builder::new()
            .core_size(workers)
            .max_size(workers)
            .build();
        pool.start_core_threads();
        Self(pool)
    }
}

impl Candidate for RustyPool {
    fn name(&self) -> &'static str {
        "rusty_pool"
    }

    fn round_trip(&self) {
        self.0.evaluate(task).await_complete();
    }

    fn batch(&self, calls: usize) {
        let handles: Vec<_> = (0..calls).map(|_| self.0.evaluate(task)).collect();
        for handle in handles {
            handle.await_complete();
        }
    }
}

struct ThreadPool(threadpool::ThreadPool);

impl ThreadPool {
    fn new(workers: usize) -> Self {
        Self(threadpool::ThreadPool::new(workers))
    }

    fn submit(&self) -> mpsc::Receiver<u64> {
        let (sender, receiver) = mpsc::channel();
        self.0.execute(move || {
            let _ = sender.send(task());
        });
        receiver
    }
}

impl Candidate for ThreadPool {
    fn name(&self) -> &'static str {
        "threadpool + mpsc"
    }

    fn round_trip(&self) {
        self.submit().recv().expect("a result");
    }

    fn batch(&self, calls: usize) {
        let receivers: Vec<_> = (0..calls).map(|_| self.submit()).collect();
        for receiver in receivers {
            receiver.recv().expect("a result");
        }
    }
}

struct Tokio(tokio::runtime::Runtime);

impl Tokio {
    fn new(workers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(workers)
            .thread_keep_alive(std::time::Duration::from_secs(3_600))
            .build();
        Self(runtime.expect("a runtime"))
    }
}

impl Candidate for Tokio {
    fn name(&self) -> &'static str {
        "tokio spawn_blocking"
    }

    fn round_trip(&self) {
        let handle = self.0.spawn_blocking(task);
        self.0.block_on(handle).expect("a result");
    }

    fn batch(&self, calls: usize) {
        let handles: Vec<_> = (0..calls).map(|_| self.0.spawn_blocking(task)).collect();
        self.0.block_on(async {
            for handle in handles {
                handle.await.expect("a result");
            }
        });
    }
}

//! The pools that are compared, each used as its own documentation suggests.

use std::sync::mpsc;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, ExecutionHandle};

/// A pool of threads. Its tasks do nothing: what is measured is what the pool does around them.
pub trait Pool: Sized {
    const NAME: &'static str;
    type Handle;

    /// So many workers; as many places in the queue, if the pool knows a bound.
    fn start(workers: usize, places: usize) -> Self;
    fn submit(&self) -> Self::Handle;
    fn wait(&self, handle: Self::Handle);

    fn batch(&self, calls: usize) {
        let handles: Vec<_> = (0..calls).map(|_| self.submit()).collect();
        for handle in handles {
            self.wait(handle);
        }
    }

    /// A pool whose only worker is busy for ever and which has no place left; `None` if it has no bound.
    fn start_full() -> Option<Self> {
        None
    }

    /// Submits to such a pool.
    fn is_refused(&self) -> bool {
        false
    }
}

pub(crate) fn task() -> u64 {
    std::hint::black_box(7)
}

fn for_ever() {
    loop {
        std::thread::park();
    }
}

pub struct Bulkman(Bulkhead);

impl Pool for Bulkman {
    const NAME: &'static str = "bulkman";
    type Handle = ExecutionHandle<u64, std::convert::Infallible>;

    fn start(workers: usize, places: usize) -> Self {
        let config = BulkheadConfig::new("peer")
            .max_concurrent_calls(workers)
            .max_queue_size(places);
        Self(Bulkhead::new(config).expect("a valid configuration"))
    }

    fn submit(&self) -> Self::Handle {
        self.0.run(task)
    }

    fn wait(&self, handle: Self::Handle) {
        assert!(handle.wait().is_success());
    }

    fn start_full() -> Option<Self> {
        let full = Self::start(1, 0);
        drop(full.0.run(for_ever));
        Some(full)
    }

    fn is_refused(&self) -> bool {
        self.0.try_run(task).is_err()
    }
}

impl Drop for Bulkman {
    fn drop(&mut self) {
        // The task of a full one never ends.
        self.0.shutdown_now();
    }
}

/// What anyone would write: boxed closures over a bounded channel, a oneshot for the result.
pub struct ByHand(crossbeam_channel::Sender<Box<dyn FnOnce() + Send>>);

impl Pool for ByHand {
    const NAME: &'static str = "crossbeam-channel + oneshot";
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, places: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<Box<dyn FnOnce() + Send>>(places);
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

    fn submit(&self) -> Self::Handle {
        let (sender, receiver) = oneshot::channel();
        let boxed = Box::new(move || drop(sender.send(task())));
        self.0.send(boxed).expect("the workers live");
        receiver
    }

    fn wait(&self, handle: Self::Handle) {
        handle.recv().expect("a result");
    }

    fn start_full() -> Option<Self> {
        let full = Self::start(1, 1);
        // The worker takes the first one; the second one fills the channel.
        for _ in 0..2 {
            full.0.send(Box::new(for_ever)).expect("the worker lives");
        }
        Some(full)
    }

    fn is_refused(&self) -> bool {
        let (sender, _receiver) = oneshot::channel();
        let boxed = Box::new(move || drop(sender.send(task())));
        self.0.try_send(boxed).is_err()
    }
}

pub struct Rayon(rayon::ThreadPool);

impl Pool for Rayon {
    const NAME: &'static str = "rayon + oneshot";
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, _places: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers);
        Self(pool.build().expect("threads"))
    }

    fn submit(&self) -> Self::Handle {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || drop(sender.send(task())));
        receiver
    }

    fn wait(&self, handle: Self::Handle) {
        handle.recv().expect("a result");
    }
}

pub struct RustyPool(rusty_pool::ThreadPool);

impl Pool for RustyPool {
    const NAME: &'static str = "rusty_pool";
    type Handle = rusty_pool::JoinHandle<u64>;

    fn start(workers: usize, _places: usize) -> Self {
        let pool = rusty_pool::Builder::new()
            .core_size(workers)
            .max_size(workers)
            .build();
        pool.start_core_threads();
        Self(pool)
    }

    fn submit(&self) -> Self::Handle {
        self.0.evaluate(task)
    }

    fn wait(&self, handle: Self::Handle) {
        handle.await_complete();
    }
}

pub struct ThreadPool(threadpool::ThreadPool);

impl Pool for ThreadPool {
    const NAME: &'static str = "threadpool + mpsc";
    type Handle = mpsc::Receiver<u64>;

    fn start(workers: usize, _places: usize) -> Self {
        Self(threadpool::ThreadPool::new(workers))
    }

    fn submit(&self) -> Self::Handle {
        let (sender, receiver) = mpsc::channel();
        self.0.execute(move || {
            let _ = sender.send(task());
        });
        receiver
    }

    fn wait(&self, handle: Self::Handle) {
        handle.recv().expect("a result");
    }
}

pub struct Tokio(tokio::runtime::Runtime);

impl Pool for Tokio {
    const NAME: &'static str = "tokio spawn_blocking";
    type Handle = tokio::task::JoinHandle<u64>;

    fn start(workers: usize, _places: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(workers)
            .thread_keep_alive(Duration::from_secs(3_600))
            .build();
        Self(runtime.expect("a runtime"))
    }

    fn submit(&self) -> Self::Handle {
        self.0.spawn_blocking(task)
    }

    fn wait(&self, handle: Self::Handle) {
        self.0.block_on(handle).expect("a result");
    }

    /// The runtime is entered once, as in a program that runs in it.
    fn batch(&self, calls: usize) {
        let handles: Vec<_> = (0..calls).map(|_| self.submit()).collect();
        self.0.block_on(async {
            for handle in handles {
                handle.await.expect("a result");
            }
        });
    }
}

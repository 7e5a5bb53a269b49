//! A mixed load with every fault, for seconds or for as long as one likes: nothing may grow, leak or get lost.
//!
//! The file is a binary of its own, since it counts the threads of the process and watches its memory.
//!
//! `SOAK_SECS=600 cargo test --release --test soak -- --ignored --nocapture`

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{
    Bulkhead, BulkheadError, BulkheadState, CircuitBreakerConfig, ExecutionHandle, ExecutionResult,
};
use support::{
    Bomb, Gate, OpenOnDrop, Over, PATIENCE, assert_balanced, bulkhead, config, eventually,
    resident, threads_named, wait,
};

const CALLERS: u64 = 4;
const N: usize = 4;
const Q: usize = 12;
/// How much memory the load may take beyond that of the warm load. A leaked call is at least 200 bytes, and there are
/// tens of thousands of calls a second.
const GROWTH_IN_KB: u64 = 16 * 1024;
/// The workers and callers of the lasting bulkhead, those of one short-lived bulkhead at a time (3 and 2), the thread
/// that makes these, and room for threads that have ended and that the system still lists.
const THREADS: usize = N + CALLERS as usize + 3 + 2 + 1 + 8;

#[test]
fn nothing_grows_or_gets_lost_in_seconds() {
    soak(Duration::from_secs(3));
}

#[test]
#[ignore = "runs for minutes: SOAK_SECS=600 cargo test --release --test soak -- --ignored --nocapture"]
fn nothing_grows_or_gets_lost_in_minutes() {
    let seconds = match std::env::var("SOAK_SECS") {
        Ok(seconds) => seconds.parse().expect("SOAK_SECS is a number of seconds"),
        Err(_) => 600,
    };
    soak(Duration::from_secs(seconds));
}

// ---- what is not to be seen

const EXPECTED: &str = "a panic that is part of the load";

/// Keeps the thousands of expected panics off the screen; any other is shown as ever.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload().downcast_ref::<&str>().copied();
            let message = message.or(info.payload().downcast_ref::<String>().map(String::as_str));
            let expected = matches!(message, Some(EXPECTED | "the bomb went off"));
            if !expected {
                shown(info);
            }
        }));
    });
}

// ---- what the system says

/// Threads and resident kilobytes of this process, where the system tells.
fn usage() -> Option<(usize, u64)> {
    cfg!(target_os = "linux").then(|| (threads_named(""), resident()))
}

// ---- the accounts

/// The knowledge of callers and tasks, which is compared with the ledger in the end.
#[derive(Default)]
struct Accounts {
    submitted: AtomicU64,
    refused: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    /// Outcomes of calls that never started, as their callers have seen them. A caller that has dropped the handle sees
    /// none.
    cancelled: AtomicU64,
    expired: AtomicU64,
    unseen: AtomicU64,
    /// Closures and results that live.
    alive: AtomicU64,
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

struct Alive(Arc<Accounts>);

impl Alive {
    fn new(accounts: &Arc<Accounts>) -> Self {
        accounts.alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(accounts))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Accounts {
    fn see<T, E>(&self, result: ExecutionResult<T, E>) {
        match result.error() {
            Some(error) if error.is_rejected() => one(&self.refused),
            Some(BulkheadError::Cancelled { .. }) => one(&self.cancelled),
            Some(error) if error.never_started() => one(&self.expired),
            // Counted by the task.
            _ => {}
        }
        // The value may be a bomb.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(result)));
    }

    fn refuse<F>(&self, rejected: bulkman::Rejected<F>) {
        one(&self.refused);
        // It may have captured a bomb.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rejected)));
    }

    /// Ends the bulkhead and compares its ledger. With the workers and all callers gone, nothing can come later.
    fn end_and_compare(&self, bulkhead: &Bulkhead) {
        let report = bulkhead.shutdown();
        assert!(report.still_running.is_empty(), "{report:?}");
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0), "{stats}");
        assert_eq!(stats.submitted_executions, read(&self.submitted), "{stats}");
        assert_eq!(
            stats.successful_executions,
            read(&self.succeeded),
            "{stats}"
        );
        assert_eq!(stats.failed_executions, read(&self.failed), "{stats}");
        assert_eq!(stats.panicked_executions, read(&self.panicked), "{stats}");
        let (cancelled, expired) = (read(&self.cancelled), read(&self.expired));
        // A refusal on the way in is always seen, and one in the queue by a caller that has a handle.
        let refused = read(&self.refused);
        assert!(stats.rejected_executions <= refused, "{stats}");
        let refusals = stats.rejected_executions + stats.refused_in_queue_executions;
        let unseen = read(&self.unseen);
        assert!(stats.cancelled_executions >= cancelled, "{stats}");
        assert!(stats.timed_out_executions >= expired, "{stats}");
        let never_started = stats.cancelled_executions + stats.timed_out_executions + refusals;
        let never_seen = never_started - cancelled - expired - refused;
        assert!(never_seen <= unseen, "{never_seen} of {unseen}: {stats}");
        assert_eq!(read(&self.alive), 0, "closures and results that live on");
    }
}

// ---- the load

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// A value, and perhaps a bomb.
type Value = (Alive, Option<Bomb>);

/// Works until it is asked to stop, but not for ever.
fn work_until_stopped() {
    let end = Instant::now() + Duration::from_millis(1);
    let call = bulkman::current().expect("inside a task");
    while !call.is_cancelled() && Instant::now() < end {
        thread::yield_now();
    }
}

/// A wait whose wake-up got lost finds what it waits for all the same, at its limit: that is too late.
fn assert_in_time(begun: Instant) {
    assert!(begun.elapsed() < PATIENCE / 2, "nobody woke the caller");
}

struct Load {
    bulkhead: Arc<Bulkhead>,
    accounts: Arc<Accounts>,
    random: Random,
}

impl Load {
    fn success(&self) -> impl FnOnce() -> Value + Send + 'static {
        let alive = Alive::new(&self.accounts);
        move || {
            one(&alive.0.succeeded);
            (alive, None)
        }
    }

    /// A task that takes its time, on the way out of which others come too late.
    fn slow(&self) -> impl FnOnce() -> Value + Send + 'static {
        let quick = self.success();
        move || {
            work_until_stopped();
            quick()
        }
    }

    fn see<E>(&self, handle: ExecutionHandle<Value, E>) {
        let begun = Instant::now();
        let result = wait(handle);
        assert_in_time(begun);
        self.accounts.see(result);
    }

    /// A handle that is not going to be looked at.
    fn unseen<F>(
        &self,
        submitted: Result<ExecutionHandle<Value, Infallible>, bulkman::Rejected<F>>,
    ) -> Option<ExecutionHandle<Value, Infallible>> {
        match submitted {
            Ok(handle) => {
                one(&self.accounts.unseen);
                Some(handle)
            }
            Err(rejected) => {
                self.accounts.refuse(rejected);
                None
            }
        }
    }

    fn call(&mut self) {
        one(&self.accounts.submitted);
        let bulkhead = Arc::clone(&self.bulkhead);
        let limit = Duration::from_micros(self.random.below(200));
        match self.random.below(16) {
            0 => {
                let alive = Alive::new(&self.accounts);
                self.see(bulkhead.execute(move || {
                    one(&alive.0.failed);
                    Err::<Value, _>("an error")
                }));
            }
            1 => {
                let alive = Alive::new(&self.accounts);
                self.see(bulkhead.run(move || -> Value {
                    one(&alive.0.panicked);
                    panic!("{EXPECTED}")
                }));
            }
            2 => {
                // Explodes when the task ends, or when it is cancelled.
                let (alive, bomb) = (Alive::new(&self.accounts), Bomb);
                // Refused by `run`, it would explode here.
                let submitted = bulkhead.try_run(move || {
                    one(&alive.0.panicked);
                    drop(bomb);
                    (alive, None)
                });
                match submitted {
                    Ok(handle) => {
                        if self.random.below(2) == 0 {
                            handle.cancel();
                        }
                        self.see(handle);
                    }
                    Err(rejected) => self.accounts.refuse(rejected),
                }
            }
            3 => {
                // Explodes in the worker if the handle goes first, else here.
                let task = self.success();
                let handle = bulkhead.try_run(move || (task().0, Some(Bomb)));
                if let Some(handle) = self.unseen(handle) {
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(handle)));
                }
            }
            4 => {
                let handle = bulkhead.run(self.slow());
                handle.cancel();
                self.see(handle);
            }
            5 => self.see(bulkhead.call().queue_timeout(limit).run(self.success())),
            6 => self.see(bulkhead.call().timeout(limit).run(self.slow())),
            7 => {
                if let Some(handle) = self.unseen(bulkhead.try_run(self.slow())) {
                    drop(handle);
                }
            }
            8 => {
                if let Some(handle) = self.unseen(bulkhead.try_run(self.success())) {
                    drop(handle.cancel_on_drop());
                }
            }
            9 => {
                if let Some(mut handle) = self.unseen(bulkhead.try_run(self.success())) {
                    let mut context = Context::from_waker(Waker::noop());
                    // A few of them see it after all, and then nothing is left to be unseen.
                    let _ = Pin::new(&mut handle).poll(&mut context);
                }
            }
            10 => {
                let patient = self.random.below(2) == 0;
                let limit = if patient { PATIENCE } else { limit * 10 };
                let begun = Instant::now();
                let handle = bulkhead.call().wait_for_capacity(limit).run(self.success());
                assert_in_time(begun);
                self.see(handle);
            }
            11 => {
                let outer = self.success();
                let inner = self.success();
                let accounts = Arc::clone(&self.accounts);
                let own = Arc::clone(&bulkhead);
                self.see(bulkhead.run(move || {
                    one(&accounts.submitted);
                    accounts.see(own.run(inner).wait());
                    outer()
                }));
            }
            12 => {
                let result = bulkhead.run(self.success()).wait_timeout(limit);
                match result {
                    Ok(result) => self.accounts.see(result),
                    Err(handle) => self.see(handle),
                }
            }
            13 => {
                // More than fit.
                let handles: Vec<_> = (0..N + Q)
                    .map(|_| {
                        one(&self.accounts.submitted);
                        bulkhead.run(self.success())
                    })
                    .collect();
                for handle in handles {
                    self.see(handle);
                }
                self.see(bulkhead.run(self.success()));
            }
            _ => self.see(bulkhead.run(self.success())),
        }
    }
}

/// Builds a bulkhead, loads it from two threads, and ends it in one of three ways while they go on.
fn come_and_go(random: &mut Random) {
    let n = 1 + usize::try_from(random.below(3)).expect("small");
    let q = usize::try_from(random.below(8)).expect("small");
    let breaker = CircuitBreakerConfig::default()
        .failure_threshold(4)
        .isolation_duration(Duration::from_micros(100));
    let bulkhead = Bulkhead::new(config(n, q).circuit_breaker(breaker)).expect("it is valid");
    let bulkhead = Arc::new(bulkhead);
    let accounts = Arc::new(Accounts::default());
    let calls = random.below(40);
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut load = Load {
                bulkhead: Arc::clone(&bulkhead),
                accounts: Arc::clone(&accounts),
                random: Random::new(random.below(u64::MAX)),
            };
            scope.spawn(move || {
                for _ in 0..calls {
                    load.call();
                }
            });
        }
        let begun = random.below(20);
        eventually("the load is under way", || {
            bulkhead.stats().submitted_executions >= begun.min(2 * calls)
        });
        let report = match random.below(3) {
            0 => bulkhead.shutdown(),
            1 => bulkhead.shutdown_timeout(Duration::from_micros(random.below(500))),
            _ => bulkhead.shutdown_now(),
        };
        // All calls that have a place, and one of each worker that has just given its back.
        assert!(report.still_running.len() <= n + q + n, "{report:?}");
        assert_eq!(bulkhead.state(), BulkheadState::ShutDown);
        assert_eq!(bulkhead.available_capacity(), 0);
        assert_balanced(&bulkhead.stats());
    });
    accounts.end_and_compare(&bulkhead);
}

// ---- the run

/// Runs the load on a thread of its own, so that it fails also if it hangs.
fn soak(duration: Duration) {
    // Two at the same time would count each other's threads.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, ends) = mpsc::channel::<()>();
    let load = thread::spawn(move || {
        let _done = done;
        load_and_look(duration);
    });
    match ends.recv_timeout(duration + 2 * PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the load hangs"),
        _ => {
            if let Err(payload) = load.join() {
                resume_unwind(payload);
            }
        }
    }
}

fn load_and_look(duration: Duration) {
    hush();
    let before = usage();
    {
        let bulkhead = Arc::new(bulkhead(N, Q));
        let accounts = Arc::new(Accounts::default());
        let over = AtomicBool::new(false);
        let come_and_gone = AtomicU64::new(0);
        thread::scope(|scope| {
            // A thread that fails ends the load for all.
            for seed in 1..=CALLERS {
                let mut load = Load {
                    bulkhead: Arc::clone(&bulkhead),
                    accounts: Arc::clone(&accounts),
                    random: Random::new(seed),
                };
                let over = &over;
                scope.spawn(move || {
                    let _over = Over(over);
                    while !over.load(Ordering::Relaxed) {
                        load.call();
                    }
                });
            }
            scope.spawn(|| {
                let _over = Over(&over);
                let mut random = Random::new(99);
                while !over.load(Ordering::Relaxed) {
                    come_and_go(&mut random);
                    one(&come_and_gone);
                }
            });
            let _over = Over(&over);
            watch(&bulkhead, duration, before, &over, &come_and_gone);
        });
        is_whole(&bulkhead, &accounts);
        accounts.end_and_compare(&bulkhead);
        assert!(read(&come_and_gone) > 0);
        println!("{}", bulkhead.stats());
    }
    if let Some((threads_before, _)) = before {
        eventually("all threads have ended", || {
            usage().is_none_or(|(threads, _)| threads <= threads_before)
        });
    }
}

/// Looks at everything for as long as the load runs.
fn watch(
    bulkhead: &Bulkhead,
    duration: Duration,
    before: Option<(usize, u64)>,
    over: &AtomicBool,
    come_and_gone: &AtomicU64,
) {
    let begun = Instant::now();
    let warm_after = (duration / 3).min(Duration::from_secs(30));
    let mut warm = None;
    let mut next_line = Duration::from_secs(10);
    while begun.elapsed() < duration && !over.load(Ordering::Relaxed) {
        for _ in 0..20 {
            assert_balanced(&bulkhead.stats());
        }
        let passed = begun.elapsed();
        if let (Some((threads, resident)), Some((threads_before, _))) = (usage(), before) {
            assert!(
                threads <= threads_before + THREADS,
                "{threads} threads, {threads_before} before the load"
            );
            if passed >= warm_after {
                let warm = *warm.get_or_insert(resident);
                assert!(
                    resident <= warm + GROWTH_IN_KB,
                    "{resident} kB resident, {warm} kB when it was warm"
                );
            }
            if passed >= next_line {
                next_line += Duration::from_secs(10);
                println!(
                    "{passed:.0?}: {threads} threads, {resident} kB, {} bulkheads came and went; {}",
                    read(come_and_gone),
                    bulkhead.stats(),
                );
            }
        }
        // The load needs the processors; a look every few milliseconds is plenty.
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// N + Q calls fit, N of them run, and one more is refused.
fn is_whole(bulkhead: &Bulkhead, accounts: &Accounts) {
    eventually("calls that nobody waits for have ended", || {
        bulkhead.available_capacity() == N + Q
    });
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let pass = || {
        let gate = gate.clone();
        one(&accounts.submitted);
        bulkhead.try_run(move || gate.pass())
    };
    let handles: Vec<_> = (0..N + Q).map(|_| pass().expect("a place")).collect();
    gate.wait_for_arrivals(N);
    let refused = pass().expect_err("no place");
    assert!(refused.reason.is_full());
    one(&accounts.refused);
    gate.open();
    for handle in handles {
        assert!(wait(handle).is_success());
        one(&accounts.succeeded);
    }
    assert_eq!(bulkhead.available_capacity(), N + Q);
}

//! Stand-ins for the model checkers: the names of `real.rs`, on the primitives of loom or shuttle.
//!
//! `Arc` stays the standard one in all builds, since loom's cannot hold a trait object. Time is virtual and moves only by
//! [`advance`]. Neither checker wakes a condvar without a reason or lets a timed wait run out, so both are added here.

use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::checker;
pub(crate) use checker::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use checker::thread::JoinHandle;
use checker::thread::yield_now;
pub(crate) use checker::{lazy_static, thread_local};

/// A model ends when all its threads have.
pub(crate) const ALARM_THREAD_IDLE: Duration = Duration::ZERO;

/// As few as can be, so that the models reach what comes after.
pub(crate) const WAKE_UPS_IN_VAIN: u32 = 1;

/// Looks once, and once more after a yield: the checker explores both.
#[derive(Debug)]
pub(crate) struct LatePushes {
    waited: bool,
}

impl LatePushes {
    pub(crate) fn new() -> Self {
        Self { waited: false }
    }

    pub(crate) fn wait(&mut self) -> bool {
        if !world().late_pushes.load(Ordering::Relaxed) {
            return false;
        }
        yield_now();
        !std::mem::replace(&mut self.waited, true)
    }
}

/// Moves the virtual clock.
pub(crate) fn advance(by: Duration) {
    let nanos = u64::try_from(by.as_nanos()).expect("a model's times are short");
    world().nanos.fetch_add(nanos, Ordering::AcqRel);
}

/// Lets the next `n` waits of this execution end without a reason.
pub(crate) fn spurious_wake_ups(n: usize) {
    world().spurious.store(n, Ordering::Relaxed);
}

/// Makes a shutdown that cancels go on at once, as one whose time for late pushes is over. A yield there would let every
/// other thread run as far as it can, and hide what happens while one is held up.
pub(crate) fn ignore_late_pushes() {
    world().late_pushes.store(false, Ordering::Relaxed);
}

struct World {
    nanos: AtomicU64,
    spurious: AtomicUsize,
    late_pushes: AtomicBool,
}

checker::lazy_static! {
    static ref WORLD: World = World {
        nanos: AtomicU64::new(0),
        spurious: AtomicUsize::new(0),
        late_pushes: AtomicBool::new(true),
    };
}

fn world() -> &'static World {
    &WORLD
}

/// Whether this wait is to end without a reason.
fn spurious() -> bool {
    let left = world().spurious.load(Ordering::Relaxed);
    if left > 0 {
        world().spurious.store(left - 1, Ordering::Relaxed);
    }
    left > 0
}

/// The model needs no second look: every order is explored.
pub(crate) fn soon(condition: impl Fn() -> bool) -> bool {
    condition()
}

pub(crate) fn now() -> Instant {
    both_clocks().0
}

pub(crate) fn wall_now() -> SystemTime {
    both_clocks().1
}

pub(crate) fn both_clocks() -> (Instant, SystemTime) {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "only a point to count from")]
    let start = *START.get_or_init(Instant::now);
    let passed = Duration::from_nanos(world().nanos.load(Ordering::Acquire));
    (start + passed, SystemTime::UNIX_EPOCH + passed)
}

/// Always the same, so that an execution can be repeated.
pub(crate) fn random_seed() -> u64 {
    1
}

// ---- parking_lot's mutex and condvar

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    lock: &'a checker::sync::Mutex<T>,
    /// `None` only while a condvar has it.
    guard: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            lock: &self.0,
            guard: Some(self.0.lock().expect("nothing panics under a lock")),
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("nothing panics under a lock")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held")
    }
}

/// One reader at a time is enough for the models.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(Mutex<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn read(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    pub(crate) fn write(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(checker::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(checker::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The standard one behind a flag, by which the checker sees the order of its accesses.
pub(crate) struct OnceLock<T> {
    made: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            made: AtomicBool::new(false),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.made
            .load(Ordering::Acquire)
            .then(|| self.value.get())
            .flatten()
    }

    /// No two threads may call this at the same moment.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let value = self.value.get_or_init(make);
        self.made.store(true, Ordering::Release);
        value
    }
}

pub(crate) fn wait_until<T>(
    condvar: &Condvar,
    guard: &mut MutexGuard<'_, T>,
    deadline: Option<Instant>,
) {
    if spurious() {
        return let_others_run(guard);
    }
    match deadline {
        // The waiter looks again in a moment, so that it notices a clock that another thread moves.
        Some(deadline) => {
            if now() < deadline {
                let_others_run(guard);
            }
        }
        None => {
            let held = guard.guard.take().expect("held");
            guard.guard = Some(condvar.0.wait(held).expect("nothing panics under a lock"));
        }
    }
}

pub(crate) fn wait_for<T>(_: &Condvar, guard: &mut MutexGuard<'_, T>, _: Duration) {
    let_others_run(guard);
}

fn let_others_run<T>(guard: &mut MutexGuard<'_, T>) {
    drop(guard.guard.take());
    yield_now();
    guard.guard = Some(guard.lock.lock().expect("nothing panics under a lock"));
}

// ---- crossbeam's bounded channel, as far as the crate uses it: nothing disconnects or blocks

pub(crate) struct Sender<T>(Arc<Channel<T>>);

pub(crate) struct Receiver<T>(Arc<Channel<T>>);

struct Channel<T> {
    capacity: usize,
    entries: Mutex<VecDeque<T>>,
    /// How many entries there are. A reader takes no lock and may see an older number.
    len: AtomicUsize,
}

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        capacity,
        entries: Mutex::new(VecDeque::new()),
        len: AtomicUsize::new(0),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, entry: T) -> Result<(), T> {
        let mut entries = self.0.entries.lock();
        if entries.len() == self.0.capacity {
            return Err(entry);
        }
        entries.push_back(entry);
        self.0.len.store(entries.len(), Ordering::Relaxed);
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, ()> {
        if self.len() == 0 {
            return Err(());
        }
        let mut entries = self.0.entries.lock();
        let entry = entries.pop_front().ok_or(())?;
        self.0.len.store(entries.len(), Ordering::Relaxed);
        Ok(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }
}

// ---- threads

pub(crate) fn spawn(
    name: String,
    _: Option<usize>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    checker::thread::Builder::new().name(name).spawn(body)
}

/// A thread to unpark. Not loom's own, which also wakes a thread that waits for something else.
#[derive(Clone)]
pub(crate) struct Thread(Arc<Token>);

struct Token {
    is_there: Mutex<bool>,
    came: Condvar,
}

checker::thread_local! {
    static THIS_THREAD: Thread = Thread(Arc::new(Token {
        is_there: Mutex::new(false),
        came: Condvar::new(),
    }));
}

pub(crate) fn this_thread() -> Thread {
    THIS_THREAD.with(Clone::clone)
}

impl Thread {
    pub(crate) fn unpark(&self) {
        *self.0.is_there.lock() = true;
        self.0.came.notify_one();
    }
}

pub(crate) fn park_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) if now() >= deadline => {}
        Some(_) => yield_now(),
        None => {
            let Thread(token) = this_thread();
            let mut is_there = token.is_there.lock();
            if !*is_there {
                // It may come back without the token: as spurious a wake-up as any.
                wait_until(&token.came, &mut is_there, None);
            }
            *is_there = false;
        }
    }
}

pub(crate) fn park_for(_: Duration) {
    yield_now();
}

/// The model needs no second look: every order is explored.
#[derive(Debug, Default)]
pub(crate) struct AdaptiveSpin(());

impl AdaptiveSpin {
    pub(crate) fn until<R>(
        &self,
        _: impl FnOnce() -> Option<Duration>,
        look: impl Fn() -> Option<R>,
        _: impl Fn() -> usize,
    ) -> Option<R> {
        look()
    }
}

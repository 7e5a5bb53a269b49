//! Wakes awaited handles at their deadlines: one thread for the process.
//!
//! A thread that blocks in `wait` needs no alarm, since it sleeps until its own deadline. A future has no thread, so an
//! alarm wakes its task, which then polls the handle and finds that the limit is over.
//!
//! The thread, named `bulkman-alarms`, starts with the first alarm. When there has been none for a while it ends, and
//! starts again with the next one. Wakers are user code: they are cloned, woken and dropped under no lock.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::panic::contain;
use crate::sync::{self, ALARM_THREAD_IDLE, Condvar, Latch, Mutex, after};

sync::lazy_static! {
    static ref ALARMS: Arc<Alarms> = Arc::default();
}

#[derive(Default)]
struct Alarms {
    state: Mutex<State>,
    /// There is an alarm that comes before all others.
    changed: Condvar,
    /// Counts the threads: one, or none.
    threads: Latch,
}

#[derive(Default)]
struct State {
    /// The number tells alarms of the same moment apart.
    pending: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
    thread_runs: bool,
}

/// A waker that is woken at its time. Dropping it calls that off.
pub(super) struct Alarm {
    key: (Instant, u64),
}

impl Alarm {
    /// An error if the thread could not be started.
    pub(super) fn set(at: Instant, waker: Waker) -> io::Result<Self> {
        let mut state = ALARMS.state.lock();
        if !state.thread_runs {
            let alarms = Arc::clone(&ALARMS);
            alarms.threads.count_up();
            let started = sync::spawn("bulkman-alarms".to_owned(), None, move || run(&alarms));
            if let Err(error) = started {
                ALARMS.threads.count_down();
                return Err(error);
            }
            state.thread_runs = true;
        }
        let key = (at, state.next_number);
        state.next_number += 1;
        state.pending.insert(key, waker);
        let is_first = state.pending.first_key_value().map(|(first, _)| *first) == Some(key);
        drop(state);
        if is_first {
            ALARMS.changed.notify_one();
        }
        Ok(Self { key })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = ALARMS.state.lock().pending.remove(&self.key);
        contain("of an awaited call", "the drop of a waker", || drop(waker));
    }
}

/// The life of the thread.
fn run(alarms: &Alarms) {
    let mut idle_since = None;
    loop {
        let mut state = alarms.state.lock();
        let now = sync::now();
        let next = state.pending.first_key_value().map(|(key, _)| *key);
        match next {
            Some(key) if key.0 <= now => {
                idle_since = None;
                let waker = state.pending.remove(&key);
                drop(state);
                contain("of an awaited call", "a waker", || {
                    waker.into_iter().for_each(Waker::wake);
                });
            }
            Some((at, _)) => {
                idle_since = None;
                sync::wait_until(&alarms.changed, &mut state, Some(at));
            }
            None => {
                let since = *idle_since.get_or_insert(now);
                let end = after(since, ALARM_THREAD_IDLE);
                if end.is_some_and(|end| end <= now) {
                    state.thread_runs = false;
                    break;
                }
                sync::wait_until(&alarms.changed, &mut state, end);
            }
        }
    }
    alarms.threads.count_down();
}

/// Waits until the thread has ended.
#[allow(dead_code, reason = "a model ends after its threads")]
pub(crate) fn wait_for_end() {
    ALARMS.threads.wait(None);
}

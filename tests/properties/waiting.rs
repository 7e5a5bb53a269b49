//! Waits that end in any case.

use std::fmt::Debug;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// How long to wait for something that must come. After one case has waited in vain, the smaller cases that proptest
/// makes of it wait less long.
static SECONDS: AtomicU64 = AtomicU64::new(PATIENCE.as_secs());

fn patience() -> Duration {
    Duration::from_secs(SECONDS.load(SeqCst))
}

/// Runs a case on a thread of its own, so that one that hangs fails as well.
pub fn watched(case: impl FnOnce() + Send + 'static) {
    let (done, ends) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        case();
    });
    // More than any single wait that has a limit: that one tells more.
    if let Err(mpsc::RecvTimeoutError::Timeout) = ends.recv_timeout(2 * patience()) {
        SECONDS.store(2, SeqCst);
        panic!("the case hangs");
    }
    thread
        .join()
        .unwrap_or_else(|payload| resume_unwind(payload));
}

/// Waits until `look` finds what is expected.
pub fn settle_at<V: PartialEq + Debug>(expected: &V, after: impl Debug, look: impl Fn() -> V) {
    let deadline = Instant::now() + patience();
    for looks in 0_u32.. {
        let found = look();
        if found == *expected {
            break;
        }
        if Instant::now() > deadline {
            SECONDS.store(2, SeqCst);
            assert_eq!(found, *expected, "after {after:?}: found and expected");
        }
        if looks < 100 {
            thread::yield_now();
        } else {
            thread::park_timeout(Duration::from_micros(100));
        }
    }
}

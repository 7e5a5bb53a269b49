//! Requests that come at random moments, whether or not the service keeps up with them.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, unbounded};

use super::dependency::{Which, capacity};
use super::ways::{Answer, PATIENCE, Service};

/// How many threads serve requests.
const THREADS: usize = 64;
/// Every so many-th request calls the dependency that hangs.
const HANGS: u64 = 5;

#[derive(Clone, Copy)]
pub struct Plan {
    /// Before this, requests are not counted.
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The requests to the healthy dependency that came while it was measured.
pub struct Measured {
    pub offered: usize,
    /// Those that were answered before it was over: what, and how long after they came.
    pub ends: Vec<(Answer, Duration)>,
}

/// SplitMix64, so that each way is given the same requests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The time between two events of which so many come in a second.
    fn pause(&mut self, per_second: f64) -> Duration {
        let share = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-share.ln() / per_second)
    }
}

/// Makes requests for as long as the plan says. `end_calls` lets the calls end that are still running then.
pub fn run(service: &dyn Service, load: f64, plan: Plan, end_calls: impl FnOnce()) -> Measured {
    let healthy_per_second = load * capacity();
    let per_second = healthy_per_second * HANGS as f64 / (HANGS - 1) as f64;
    let ends = Mutex::new(Vec::new());
    let (requests, queue) = unbounded::<(Instant, Which, bool)>();
    let began = Instant::now();
    let from = began + plan.warm_up;
    let until = from + plan.measured;
    // Those that came last are given their time.
    let over = until + PATIENCE;
    let mut offered = 0;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let left = over.saturating_duration_since(Instant::now());
                    let (came, which, is_measured) = match queue.recv_timeout(left) {
                        // What comes after it is over is left in the queue.
                        Ok(request) if Instant::now() < over => request,
                        Ok(_) | Err(RecvTimeoutError::Timeout) => return,
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    let answer = service.serve(which);
                    let now = Instant::now();
                    if is_measured && now < over {
                        ends.lock().unwrap().push((answer, now - came));
                    }
                }
            });
        }
        let mut random = Random(1);
        let mut at = began;
        loop {
            at += random.pause(per_second);
            if at >= until {
                break;
            }
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let which = if random.next().is_multiple_of(HANGS) {
                Which::Hanging
            } else {
                Which::Healthy
            };
            let is_measured = which == Which::Healthy && at >= from;
            offered += usize::from(is_measured);
            // The time at which it had to come: a late start of this thread is no excuse.
            requests.send((at, which, is_measured)).unwrap();
        }
        drop(requests);
        thread::sleep(over.saturating_duration_since(Instant::now()));
        end_calls();
    });
    Measured {
        offered,
        ends: ends.into_inner().unwrap(),
    }
}

//! Several callers at the same time. Each caller's outcomes depend on the others, but the books are right in any case.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadState, BulkheadStats, ManualClock};

use crate::calls::{Call, Counts, Fate, Site, UNIT, counts, ran, workers};
use crate::script::{End, Kind, QUICK, Shutdown, Step, Task, Way};
use crate::support::{assert_adds_up, assert_balanced, config};
use crate::waiting::settle_at;

#[derive(Clone, Copy)]
pub struct Mode {
    /// The clock is one that the steps move, not the system's.
    pub manual: bool,
    /// Steps that reset the numbers do so.
    pub resets: bool,
    /// Workers start on demand.
    pub on_demand: bool,
}

/// One caller. Before it does what may take another's help it opens all its gates, so that nobody waits in a circle.
struct Caller {
    site: Site,
    clock: ManualClock,
    mode: Mode,
    calls: Vec<Call>,
    before: BulkheadStats,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.open_all();
        if thread::panicking() {
            self.site.bulkhead.shutdown_now();
        }
    }
}

impl Caller {
    fn open_all(&self) {
        for call in &self.calls {
            call.gate.open();
        }
    }

    /// A call that has a handle.
    fn choose(&mut self, which: usize) -> Option<&mut Call> {
        let held = self.calls.iter_mut().filter(|call| call.handle.is_some());
        let mut held: Vec<_> = held.collect();
        (!held.is_empty()).then(|| held.swap_remove(which % held.len()))
    }

    fn step(&mut self, step: Step) {
        let site = self.site.clone();
        match step {
            Step::Submit(way, task) => self.calls.push(site.submit(way, task)),
            Step::Churn(times) => self.calls.extend((0..times).map(|_| {
                let mut call = site.submit(Way::Execute, Task(QUICK, End::Succeed));
                call.handle().cancel();
                call
            })),
            Step::Run(end) => {
                self.open_all();
                self.calls.push(site.run(end));
            }
            Step::WaitForCapacity(task, _) => {
                self.open_all();
                self.calls.push(site.submit_patiently(task));
            }
            Step::Wait(which) => {
                self.open_all();
                self.choose(which).map(Call::wait);
            }
            Step::WaitBriefly(which) => {
                // On the manual clock any longer wait lasts until somebody moves it.
                let limit = if self.mode.manual {
                    Duration::ZERO
                } else {
                    site.unit
                };
                self.choose(which).map(|call| call.wait_timeout(limit));
            }
            Step::Poll(which) => {
                self.choose(which).map(Call::poll);
            }
            Step::Open(which) => {
                if let Some(call) = self.choose(which) {
                    call.gate.open();
                }
            }
            Step::Cancel(which) => {
                if let Some(call) = self.choose(which).filter(|call| call.cancel()) {
                    assert!(!call.cancel(), "only once");
                    assert_eq!(call.wait(), Fate::Cancelled { by_shutdown: false });
                }
            }
            Step::Drop(which) => drop(self.choose(which).map(Call::handle)),
            Step::DropGuard(which) => {
                drop(
                    self.choose(which)
                        .map(|call| call.handle().cancel_on_drop()),
                );
            }
            Step::Advance(units) => self.clock.advance(units * site.unit),
            Step::Resize(n, q) => {
                if let Err(error) = site.resize(n, q) {
                    assert_eq!(site.bulkhead.state(), BulkheadState::ShutDown, "{error}");
                }
            }
            Step::ResetStats if self.mode.resets => site.bulkhead.reset_stats(),
            Step::ResetStats => {}
            Step::ShutDown(how) => {
                if let Shutdown::WithinItsLimit | Shutdown::Unlimited = how {
                    self.open_all();
                }
                site.shut_down(how);
            }
        }
        self.look();
    }

    /// A snapshot balances, and without resets no number is less than it was.
    fn look(&mut self) {
        let stats = self.site.bulkhead.stats();
        assert_adds_up(&stats);
        if !self.mode.resets {
            assert!(self.before.submitted_executions <= stats.submitted_executions);
            assert!(self.before.total_executions <= stats.total_executions);
            let (before, now) = (counts(&self.before), counts(&stats));
            let grow = before.iter().zip(&now).all(|(before, now)| before <= now);
            assert!(grow, "a number went back: {before:?}, {now:?}");
        }
        self.before = stats;
    }

    fn play(mut self, script: &[Step]) -> Vec<Call> {
        for step in script {
            self.step(*step);
        }
        self.open_all();
        while let Some(call) = self.choose(0) {
            call.wait();
        }
        std::mem::take(&mut self.calls)
    }
}

pub fn play(n: usize, q: usize, mode: Mode, scripts: &[Vec<Step>]) {
    let clock = ManualClock::new();
    let mut builder = Bulkhead::builder(workers(config(n, q), mode.on_demand));
    let mut unit = Duration::from_micros(100);
    if mode.manual {
        unit = UNIT;
        builder = builder.clock(clock.clone());
    }
    let site = Site::new(builder.build().expect("it is valid"), unit);
    let mut calls = Vec::new();
    thread::scope(|scope| {
        let start = |script| {
            let caller = Caller {
                site: site.clone(),
                clock: clock.clone(),
                mode,
                calls: Vec::new(),
                before: site.bulkhead.stats(),
            };
            scope.spawn(move || caller.play(script))
        };
        let callers: Vec<_> = scripts.iter().map(|script| start(script)).collect();
        while !callers.iter().all(|caller| caller.is_finished()) {
            assert_adds_up(&site.bulkhead.stats());
            thread::yield_now();
        }
        for caller in callers {
            calls.extend(
                caller
                    .join()
                    .unwrap_or_else(|payload| resume_unwind(payload)),
            );
        }
    });
    if site.bulkhead.state() != BulkheadState::ShutDown {
        calls.extend(exactly_n_plus_q_fit(&site));
    }
    // With the workers gone, nothing can come later.
    let report = site.bulkhead.shutdown();
    assert!(report.still_running.is_empty(), "{report:?}");
    let alive = (site.closures.load(SeqCst), site.values.load(SeqCst));
    assert_eq!(alive, (0, 0), "closures and values that live on");
    calls.append(&mut site.inner());
    compare(&calls, &site.bulkhead.stats(), mode.resets);
    assert_eq!(Arc::strong_count(&site.bulkhead), 1);
}

/// After any script N + Q calls fit, N of them run, and one more is refused.
fn exactly_n_plus_q_fit(site: &Site) -> Vec<Call> {
    let n = site.bulkhead.max_concurrent_calls();
    let q = site.bulkhead.max_queue_size();
    // Calls that nobody has waited for may be under way.
    settle_at(&(n + q), "the last call", || {
        site.bulkhead.available_capacity()
    });
    let task = Task(Kind::Gated, End::Succeed);
    let mut calls: Vec<_> = (0..n + q)
        .map(|_| site.submit(Way::Execute, task))
        .collect();
    settle_at(&n, "a full house", || site.busy.load(SeqCst));
    let mut refused = site.submit(Way::Execute, task);
    assert_eq!(refused.wait(), Fate::Full);
    for call in &mut calls {
        call.gate.open();
    }
    for call in &mut calls {
        assert_eq!(call.wait(), Fate::Ended(End::Succeed));
    }
    calls.push(refused);
    calls
}

/// Compares the calls with the numbers: each call counts once, and as its caller saw it. If nobody looked at a call,
/// the test knows only whether it ran.
fn compare(calls: &[Call], stats: &BulkheadStats, was_reset: bool) {
    assert_balanced(stats);
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0));
    let mut known = Counts::default();
    let mut unknown = 0;
    for Call {
        task, runs, fate, ..
    } in calls
    {
        let runs = runs.load(SeqCst);
        let started = fate.map_or(runs > 0, Fate::started);
        assert_eq!(runs, usize::from(started), "{fate:?}");
        match *fate {
            Some(Fate::Ended(end)) if end != task.1 => panic!("not how it ended: {end:?}"),
            _ if started => known[Fate::Ended(task.1).column()] += 1,
            Some(fate) => known[fate.column()] += 1,
            None => unknown += 1,
        }
    }
    if was_reset {
        return;
    }
    let counted = counts(stats);
    assert_eq!(
        known[..3],
        counted[..3],
        "tasks that ran, and those counted"
    );
    assert_eq!(stats.total_executions, ran(&known));
    assert_eq!(stats.run_time.count(), ran(&known));
    assert_eq!(stats.submitted_executions, calls.len() as u64);
    for (known, counted) in known.into_iter().zip(counted) {
        assert!(known <= counted && counted <= known + unknown);
    }
}

//! Calls that run in their callers' threads: several callers at the same time, each with a script of its own.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, BulkheadState, BulkheadStats, ManualClock, SemaphoreBulkhead};
use proptest::prelude::*;

use crate::calls::counts;
use crate::script::End;
use crate::support::{assert_adds_up, assert_balanced, config};

const UNIT: Duration = Duration::from_secs(1);

/// A call, and the calls that its task makes on its own bulkhead, one inside the other.
#[derive(Clone, Debug)]
pub struct Visit {
    /// In units of the clock, which tasks and other callers move.
    queue_timeout: Option<u32>,
    timeout: Option<u32>,
    waits_for_a_place: bool,
    named: bool,
    /// How far the task moves the clock on.
    takes: u32,
    levels: u32,
    end: End,
}

#[derive(Clone, Debug)]
pub enum Step {
    Call(Visit),
    Advance(u32),
    Watch,
    /// Another N and another Q.
    Resize(usize, usize),
    /// At the limit, or at once.
    ShutDown(bool),
}

pub fn script(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let end = || prop_oneof![3 => Just(End::Succeed), 2 => Just(End::Fail), 1 => Just(End::Panic)];
    let limit = || prop::option::weighted(0.4, 0_u32..=4);
    let visit = (
        limit(),
        limit(),
        any::<bool>(),
        any::<bool>(),
        0_u32..=2,
        0_u32..=3,
        end(),
    );
    let visit = visit.prop_map(
        |(queue_timeout, timeout, waits_for_a_place, named, takes, levels, end)| Visit {
            queue_timeout,
            timeout,
            waits_for_a_place,
            named,
            takes,
            levels,
            end,
        },
    );
    let step = prop_oneof![
        20 => visit.prop_map(Step::Call),
        4 => (1_u32..=2).prop_map(Step::Advance),
        4 => Just(Step::Watch),
        2 => (1_usize..=4, 0_usize..=5).prop_map(|(n, q)| Step::Resize(n, q)),
        1 => any::<bool>().prop_map(Step::ShutDown),
    ];
    prop::collection::vec(step, 1..=longest)
}

/// The outcomes of all calls, as their callers saw them.
#[derive(Default)]
struct Told {
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    full: AtomicU64,
    shut_down: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    bodies: AtomicU64,
}

struct Site {
    bulkhead: SemaphoreBulkhead,
    clock: ManualClock,
    /// Tasks that run, and of which none waits for one inside it; and how many there ever were.
    running: AtomicUsize,
    most: AtomicUsize,
    /// The largest N that there has been.
    most_slots: AtomicUsize,
    told: Told,
}

impl Site {
    fn visit(&self, visit: &Visit) {
        let before = self.told.bodies.load(SeqCst);
        let mut ran = false;
        let mut call = self.bulkhead.call();
        if let Some(limit) = visit.queue_timeout {
            call = call.queue_timeout(limit * UNIT);
        }
        if let Some(limit) = visit.timeout {
            call = call.timeout(limit * UNIT);
        }
        if visit.waits_for_a_place {
            call = call.wait_for_capacity(UNIT);
        }
        if visit.named {
            call = call.operation("named");
        }
        let result = call.execute(|| {
            ran = true;
            self.task(visit)
        });
        let told = &self.told;
        let (counter, is_to_have_run) = match result.error() {
            None => (&told.succeeded, true),
            Some(BulkheadError::Failed(())) => (&told.failed, true),
            Some(BulkheadError::Panicked(panic)) => {
                // Also what a task has found.
                assert_eq!(panic.message(), "on purpose");
                (&told.panicked, true)
            }
            Some(BulkheadError::Full { .. }) => (&told.full, false),
            Some(BulkheadError::ShutDown { .. }) => (&told.shut_down, false),
            Some(BulkheadError::Cancelled {
                by_shutdown: true, ..
            }) => (&told.cancelled, false),
            Some(
                BulkheadError::QueueTimeout { .. } | BulkheadError::Timeout { started: false, .. },
            ) => (&told.timed_out, false),
            Some(other) => panic!("{other:?}"),
        };
        counter.fetch_add(1, SeqCst);
        assert_eq!(ran, is_to_have_run, "{visit:?}: {result:?}");
        assert!(told.bodies.load(SeqCst) >= before + u64::from(ran));
    }

    fn task(&self, visit: &Visit) -> Result<(), ()> {
        self.told.bodies.fetch_add(1, SeqCst);
        let me = bulkman::current().expect("in a task");
        self.one_runs(|| {
            assert_eq!(me.operation(), visit.named.then_some("named"));
            assert_eq!(me.deadline().is_some(), visit.timeout.is_some());
            self.clock.advance(visit.takes * UNIT);
        });
        // It does not run while a call inside it does.
        if visit.levels > 0 {
            self.visit(&Visit {
                levels: visit.levels - 1,
                ..visit.clone()
            });
        }
        self.one_runs(|| {
            let still = bulkman::current().expect("in a task");
            assert_eq!(still.execution_id(), me.execution_id());
        });
        match visit.end {
            End::Succeed => Ok(()),
            End::Fail => Err(()),
            End::Panic => resume_unwind(Box::new("on purpose")),
        }
    }

    fn one_runs(&self, body: impl FnOnce()) {
        let now = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        thread::yield_now();
        body();
        self.running.fetch_sub(1, SeqCst);
    }

    fn step(&self, step: &Step, before: &mut BulkheadStats) {
        match step {
            Step::Call(visit) => self.visit(visit),
            Step::Advance(units) => self.clock.advance(*units * UNIT),
            Step::Watch => {
                let stats = self.bulkhead.stats();
                assert_adds_up(&stats);
                assert!(stats.submitted_executions >= before.submitted_executions);
                assert!(stats.total_executions >= before.total_executions);
                *before = stats;
            }
            Step::Resize(n, q) => {
                self.most_slots.fetch_max(*n, SeqCst);
                if let Err(error) = self.bulkhead.resize(*n, *q) {
                    assert_eq!(self.bulkhead.state(), BulkheadState::ShutDown, "{error}");
                }
            }
            Step::ShutDown(at_once) => {
                let report = if *at_once {
                    self.bulkhead.shutdown_now()
                } else {
                    self.bulkhead.shutdown_timeout(Duration::ZERO)
                };
                let n = self.most_slots.load(SeqCst);
                // In a seat, a call and those inside it, which may be four.
                assert!(report.still_running.len() <= 5 * n, "{report:?}");
            }
        }
    }
}

pub fn play(n: usize, q: usize, scripts: &[Vec<Step>]) {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config(n, q)).clock(clock.clone());
    let site = Site {
        bulkhead: bulkhead.build().expect("a valid configuration"),
        clock,
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        most_slots: AtomicUsize::new(n),
        told: Told::default(),
    };
    thread::scope(|scope| {
        for script in scripts {
            let site = &site;
            scope.spawn(move || {
                let mut before = site.bulkhead.stats();
                script.iter().for_each(|step| site.step(step, &mut before));
            });
        }
    });
    let Told {
        succeeded,
        failed,
        panicked,
        full,
        shut_down,
        timed_out,
        cancelled,
        bodies,
    } = &site.told;
    let told = [
        succeeded, failed, panicked, full, shut_down, timed_out, cancelled,
    ];
    let stats = site.bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.in_flight, 0, "{stats}");
    let told = told.map(|count| count.load(SeqCst));
    assert_eq!(counts(&stats), told, "{stats}");
    assert_eq!(stats.total_executions, bodies.load(SeqCst), "{stats}");
    assert_eq!(stats.run_time.count(), stats.total_executions);
    let most = site.most_slots.load(SeqCst);
    assert!(site.most.load(SeqCst) <= most, "more than {most} at a time");
    let (n, q) = (
        site.bulkhead.max_concurrent_calls(),
        site.bulkhead.max_queue_size(),
    );
    let shut_down = stats.state == BulkheadState::ShutDown;
    if !shut_down {
        assert_eq!(site.bulkhead.available_capacity(), n + q);
        // All turns are there.
        let all = Barrier::new(n);
        thread::scope(|scope| {
            for _ in 0..n {
                scope.spawn(|| site.bulkhead.run(|| all.wait()));
            }
        });
    }
    assert!(site.bulkhead.shutdown().is_clean());
}

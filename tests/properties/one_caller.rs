//! One caller, whose every step is compared with the model.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadState, ExecutionHandle, ManualClock};

use crate::calls::{Call, Counts, Site, UNIT, counts, ran, workers};
use crate::model::{Model, Stage, View};
use crate::script::{End, Kind, QUICK, Shutdown, Step, Task, Way};
use crate::support::{assert_adds_up, config};
use crate::waiting::settle_at;

/// The bulkhead under test beside its model.
struct System {
    calls: Vec<Call>,
    clock: ManualClock,
    site: Site,
    model: Model,
}

impl Drop for System {
    fn drop(&mut self) {
        // Before anything in here is dropped: the bulkhead waits for the tasks at the gates.
        for call in &self.calls {
            call.gate.open();
        }
        if thread::panicking() {
            // A worker may be stuck for ever: do not wait for it.
            self.site.bulkhead.shutdown_now();
        }
    }
}

impl System {
    fn view(&self) -> View {
        let stats = self.site.bulkhead.stats();
        assert_adds_up(&stats);
        let look = |call: &Call| {
            let finished = call.handle.as_ref().map(ExecutionHandle::is_finished);
            (
                finished,
                call.runs.load(SeqCst),
                call.asked_to_stop.load(SeqCst),
            )
        };
        View {
            counts: counts(&stats),
            queued: stats.queued_tasks as usize,
            active: stats.active_tasks as usize,
            abandoned: stats.abandoned_tasks as usize,
            started: stats.total_executions,
            capacity: self.site.bulkhead.available_capacity(),
            closures: self.site.closures.load(SeqCst),
            values: self.site.values.load(SeqCst),
            calls: self.calls.iter().map(look).collect(),
            inner: self
                .site
                .inner()
                .iter()
                .filter_map(|call| call.fate)
                .collect(),
        }
    }

    /// For what is true when a step returns.
    fn assert_exact(&self, after: impl Debug) {
        let (found, expected) = (self.view(), self.model.view());
        assert_eq!(found, expected, "right after {after:?}: found and expected");
    }

    /// For what the workers still have to do.
    fn settle(&self, after: impl Debug) {
        settle_at(&self.model.view(), &after, || self.view());
        // A worker that is to leave, since there are to be fewer, may take a call out of the queue for a moment and put it back.
        // Meanwhile another worker would come to the next one.
        let most = self.model.n.max(self.model.running.len()) as u64;
        settle_at(&true, &after, || {
            self.site.bulkhead.stats().worker_threads <= most
        });
    }

    /// Submits to the model what was submitted to the bulkhead.
    fn enter(&mut self, way: Way, call: Call) -> usize {
        let index = self.model.submit(way, call.task);
        if let Some(fate) = call.fate {
            assert!(
                self.model.calls[index].stage == Stage::Done(fate),
                "{fate:?}"
            );
            self.model.calls[index].held = false;
        }
        self.calls.push(call);
        index
    }

    fn submit(&mut self, way: Way, task: Task) -> usize {
        let call = self.site.submit(way, task);
        self.enter(way, call)
    }

    fn open(&mut self, index: usize) {
        self.calls[index].gate.open();
        self.model.open(index);
    }

    fn open_all(&mut self) {
        while let Some(&index) = self.model.running.first() {
            self.open(index);
            self.settle("a gate that was opened");
        }
    }

    fn cancel(&mut self, index: usize) {
        assert_eq!(
            self.calls[index].cancel(),
            self.model.cancel(index),
            "cancel"
        );
    }

    fn wait(&mut self, index: usize) {
        // One that would not end without another thread is left alone.
        if let Some(expected) = self.model.look(index) {
            assert_eq!(self.calls[index].wait(), expected, "wait");
        }
    }

    fn churn(&mut self) {
        let index = self.submit(Way::Execute, Task(QUICK, End::Succeed));
        if self.model.calls[index].stage == Stage::Queued {
            self.cancel(index);
        }
        drop(self.calls[index].handle());
        self.model.calls[index].held = false;
        self.settle("a churn");
    }

    fn wait_for_capacity(&mut self, task: Task, which: usize) {
        let must_wait = !self.model.closed && self.model.free() == 0;
        let mut gives_way = self.model.held();
        gives_way.retain(|index| self.model.calls[*index].stage == Stage::Queued);
        // With an empty queue the order of events is known in this case too.
        let may_open = must_wait && self.model.q == 0 && self.model.running.len() == self.model.n;
        // The place that is given back is the caller's, unless there are too many calls for the limits.
        if must_wait && (gives_way.is_empty() && !may_open || self.model.is_overfull()) {
            return;
        }
        let site = self.site.clone();
        let caller = thread::spawn(move || site.submit_patiently(task));
        // Whether the caller already waits or is yet to come, it finds the place that is given back now.
        if may_open {
            self.open(self.model.running[which % self.model.running.len()]);
        } else if must_wait {
            self.cancel(gives_way[which % gives_way.len()]);
        }
        let call = caller.join().expect("submitting does not panic");
        self.enter(Way::Execute, call);
    }

    fn resize(&mut self, n: usize, q: usize) {
        // A new worker may run such a call before the new places are there, or after.
        let makes_calls =
            |index: &usize| matches!(self.model.calls[*index].task.0, Kind::Nested(1..));
        if self.model.queue.iter().any(makes_calls) {
            return;
        }
        match self.site.resize(n, q) {
            Ok(()) => self.model.resize(n, q),
            Err(error) => assert!(self.model.closed, "{error}"),
        }
    }

    fn shut_down(&mut self, how: Shutdown) {
        let site = self.site.clone();
        if matches!(how, Shutdown::Now | Shutdown::AtItsLimit) {
            let report = site.shut_down(how);
            assert_eq!(
                (report.finished, report.cancelled),
                (0, self.model.shut_down_now())
            );
            assert_eq!(report.still_running.len(), self.model.running.len());
            return;
        }
        let shutdown = thread::spawn(move || site.shut_down(how));
        let was_closed = std::mem::replace(&mut self.model.closed, true);
        let bulkhead = Arc::clone(&self.site.bulkhead);
        settle_at(&BulkheadState::ShutDown, how, || bulkhead.state());
        let before = ran(&self.model.counts);
        self.open_all();
        let report = shutdown.join().expect("a shutdown does not panic");
        let finished = ran(&self.model.counts) - before;
        // One that is not the first may have begun after the first gates.
        assert!(report.finished == finished || was_closed && report.finished < finished);
        assert!(report.is_clean(), "{report:?}");
    }

    fn step(&mut self, step: Step) {
        let (eligible, which) = match step {
            Step::Open(which) => (self.model.running.clone(), which),
            Step::Cancel(which)
            | Step::Wait(which)
            | Step::WaitBriefly(which)
            | Step::Poll(which)
            | Step::Drop(which)
            | Step::DropGuard(which) => (self.model.held(), which),
            // Nothing is to be chosen.
            _ => (vec![0], 0),
        };
        let Some(&index) = eligible.get(which % eligible.len().max(1)) else {
            return;
        };
        match step {
            Step::Submit(way, task) => {
                self.submit(way, task);
            }
            Step::Run(end) => {
                // If it would be queued, it would not end without another thread.
                let (running, free) = (self.model.running.len(), self.model.free());
                if self.model.closed || free == 0 || running < self.model.n {
                    let call = self.site.run(end);
                    self.enter(Way::Execute, call);
                }
            }
            Step::Churn(times) => (0..times).for_each(|_| self.churn()),
            Step::WaitForCapacity(task, which) => self.wait_for_capacity(task, which),
            Step::Open(_) => self.open(index),
            Step::Cancel(_) => self.cancel(index),
            Step::Wait(_) => self.wait(index),
            Step::WaitBriefly(_) => {
                let found = self.calls[index].wait_timeout(Duration::ZERO);
                assert_eq!(found, self.model.look(index), "{step:?}");
            }
            Step::Poll(_) => {
                let found = self.calls[index].poll();
                assert_eq!(found, self.model.look(index), "{step:?}");
            }
            Step::Drop(_) => {
                drop(self.calls[index].handle());
                self.model.calls[index].held = false;
            }
            Step::DropGuard(_) => {
                drop(self.calls[index].handle().cancel_on_drop());
                self.model.cancel(index);
                self.model.calls[index].held = false;
            }
            Step::Advance(units) => {
                self.clock.advance(units * UNIT);
                self.model.now += units;
            }
            Step::Resize(n, q) => self.resize(n, q),
            Step::ResetStats => {
                self.site.bulkhead.reset_stats();
                self.model.counts = Counts::default();
            }
            Step::ShutDown(how) => self.shut_down(how),
        }
        if !matches!(
            step,
            Step::Submit(..) | Step::Open(_) | Step::WaitForCapacity(..) | Step::Resize(..)
        ) {
            self.assert_exact(step);
        }
        self.settle(step);
    }
}

pub fn play(n: usize, q: usize, on_demand: bool, steps: &[Step]) {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(workers(config(n, q), on_demand)).clock(clock.clone());
    let mut system = System {
        calls: Vec::new(),
        clock,
        site: Site::new(bulkhead.build().expect("it is valid"), UNIT),
        model: Model {
            n,
            q,
            ..Model::default()
        },
    };
    for step in steps {
        system.step(*step);
    }
    system.open_all();
    for index in system.model.held() {
        system.wait(index);
    }
    system.assert_exact("the end");
    let report = system.site.bulkhead.shutdown();
    assert_eq!((report.finished, report.is_clean()), (0, true));
    // With the workers gone, nothing can come later.
    system.model.closed = true;
    system.assert_exact("the workers have ended");
    let view = system.view();
    assert_eq!((view.closures, view.values), (0, 0), "that live on");
    let owners = Arc::strong_count(&system.site.bulkhead);
    assert_eq!(owners, 1, "no task is left to hold the bulkhead");
}

//! The model: a bulkhead in which nothing happens at the same time.

use std::collections::VecDeque;

use crate::calls::{Counts, Fate, ran};
use crate::script::{End, Kind, Task, Way};

/// Everything that can be seen from outside once it is quiet.
#[derive(Debug, PartialEq)]
pub struct View {
    pub counts: Counts,
    pub queued: usize,
    pub active: usize,
    pub abandoned: usize,
    pub started: u64,
    pub capacity: usize,
    pub closures: usize,
    pub values: usize,
    /// Of each call: whether it has ended, if there is a handle; how often it ran; whether it was asked to stop.
    pub calls: Vec<(Option<bool>, usize, bool)>,
    pub inner: Vec<Fate>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Stage {
    Queued,
    Running,
    Done(Fate),
}

pub struct ModelCall {
    pub task: Task,
    pub queue_deadline: u32,
    pub deadline: u32,
    pub stage: Stage,
    pub held: bool,
    pub cancel_requested: bool,
    pub runs: usize,
    pub asked_to_stop: bool,
}

impl ModelCall {
    /// The limit that keeps it from starting now: the one that passed first.
    pub fn too_late(&self, now: u32) -> Option<Fate> {
        if now < self.queue_deadline.min(self.deadline) {
            None
        } else if self.queue_deadline <= self.deadline {
            Some(Fate::QueueTimeout)
        } else {
            Some(Fate::Timeout { started: false })
        }
    }
}

/// A step leaves either the queue empty or all workers at gates. So at most one worker has anything to do, the one
/// whose gate was opened or that takes what was submitted, and the order of events is known.
#[derive(Default)]
pub struct Model {
    pub n: usize,
    pub q: usize,
    pub now: u32,
    pub closed: bool,
    pub calls: Vec<ModelCall>,
    pub queue: VecDeque<usize>,
    pub running: Vec<usize>,
    /// Inner calls under way; none once it is quiet.
    pub nested: usize,
    pub inner: Vec<Fate>,
    pub counts: Counts,
}

impl Model {
    pub fn free(&self) -> usize {
        (self.n + self.q).saturating_sub(self.taken())
    }

    /// More calls are there than have a place now, since the limits have changed to fewer.
    pub fn is_overfull(&self) -> bool {
        self.taken() > self.n + self.q
    }

    fn taken(&self) -> usize {
        self.queue.len() + self.running.len() + self.nested
    }

    /// Calls that are there stay. A call that runs keeps its worker beyond the new N.
    pub fn resize(&mut self, n: usize, q: usize) {
        (self.n, self.q) = (n, q);
        self.work();
    }

    pub fn count(&mut self, fate: Fate) {
        self.counts[fate.column()] += 1;
    }

    pub fn admit(&mut self) -> Result<(), Fate> {
        let refusal = match self.free() {
            _ if self.closed => Fate::ShutDown,
            0 => Fate::Full,
            _ => return Ok(()),
        };
        self.count(refusal);
        Err(refusal)
    }

    pub fn submit(&mut self, way: Way, task: Task) -> usize {
        let admitted = self.admit();
        let after = |limit: Option<u32>| limit.map_or(u32::MAX, |limit| self.now + limit);
        let (queue_timeout, timeout) = match way {
            Way::Call(queue_timeout, timeout) => (queue_timeout, timeout),
            _ => (None, None),
        };
        let index = self.calls.len();
        self.calls.push(ModelCall {
            task,
            queue_deadline: after(queue_timeout),
            deadline: after(timeout),
            stage: admitted.map_or_else(Stage::Done, |()| Stage::Queued),
            held: admitted.is_ok() || !matches!(way, Way::TryExecute),
            cancel_requested: false,
            runs: 0,
            asked_to_stop: false,
        });
        if admitted.is_ok() {
            self.queue.push_back(index);
            self.work();
        }
        index
    }

    /// The workers take what they can.
    pub fn work(&mut self) {
        while self.running.len() < self.n {
            let Some(index) = self.queue.pop_front() else {
                break;
            };
            let call = &mut self.calls[index];
            if let Some(fate) = call.too_late(self.now) {
                self.leave(index, fate);
                continue;
            }
            call.stage = Stage::Running;
            call.runs += 1;
            let Task(kind, end) = call.task;
            self.running.push(index);
            if let Kind::Nested(depth) = kind {
                self.nest(depth, end);
                self.finish(index);
            }
        }
    }

    /// The inner calls of a task, each from its submission to its end: nobody is in its way.
    fn nest(&mut self, depth: u32, end: End) {
        if depth == 0 {
            return;
        }
        let admitted = self.admit();
        if admitted.is_ok() {
            self.nested += 1;
            self.nest(depth - 1, end);
            self.nested -= 1;
            self.count(Fate::Ended(end));
        }
        let fate = admitted.err().unwrap_or(Fate::Ended(end));
        self.inner.push(fate);
    }

    /// A running task comes to its end.
    pub fn finish(&mut self, index: usize) {
        self.running.retain(|running| *running != index);
        let call = &mut self.calls[index];
        call.asked_to_stop = call.cancel_requested || call.deadline <= self.now;
        let fate = Fate::Ended(call.task.1);
        call.stage = Stage::Done(fate);
        self.count(fate);
    }

    /// A queued call comes to its end.
    pub fn leave(&mut self, index: usize, fate: Fate) {
        self.queue.retain(|queued| *queued != index);
        self.calls[index].stage = Stage::Done(fate);
        self.count(fate);
    }

    pub fn open(&mut self, index: usize) {
        self.finish(index);
        self.work();
    }

    pub fn cancel(&mut self, index: usize) -> bool {
        let is_queued = self.calls[index].stage == Stage::Queued;
        if is_queued {
            self.leave(index, Fate::Cancelled { by_shutdown: false });
        } else {
            self.calls[index].cancel_requested = true;
        }
        is_queued
    }

    /// Looks for the outcome. If there is one, the handle is gone.
    pub fn look(&mut self, index: usize) -> Option<Fate> {
        let call = &mut self.calls[index];
        let found = match call.stage {
            Stage::Queued => call.too_late(self.now)?,
            Stage::Running if call.deadline <= self.now => Fate::Timeout { started: true },
            Stage::Running => return None,
            Stage::Done(fate) => fate,
        };
        call.held = false;
        if call.stage == Stage::Queued {
            self.leave(index, found);
        }
        Some(found)
    }

    pub fn shut_down_now(&mut self) -> u64 {
        self.closed = true;
        let queued = std::mem::take(&mut self.queue);
        for index in &queued {
            self.leave(*index, Fate::Cancelled { by_shutdown: true });
        }
        queued.len() as u64
    }

    pub fn held(&self) -> Vec<usize> {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| call.held)
            .map(|(index, _)| index)
            .collect()
    }

    pub fn view(&self) -> View {
        let (queued, active) = (self.queue.len(), self.running.len());
        let is_abandoned = |index: &&usize| !self.calls[**index].held;
        let is_value =
            |index: &usize| self.calls[*index].stage == Stage::Done(Fate::Ended(End::Succeed));
        let look = |call: &ModelCall| {
            let finished = matches!(call.stage, Stage::Done(_));
            (call.held.then_some(finished), call.runs, call.asked_to_stop)
        };
        View {
            counts: self.counts,
            queued,
            active,
            abandoned: self.running.iter().filter(is_abandoned).count(),
            started: ran(&self.counts) + active as u64,
            capacity: if self.closed { 0 } else { self.free() },
            closures: queued + active,
            values: self.held().into_iter().filter(is_value).count(),
            calls: self.calls.iter().map(look).collect(),
            inner: self.inner.clone(),
        }
    }
}

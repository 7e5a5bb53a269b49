//! Semaphore bulkheads, and callers that are inside or wait in line.

use std::convert::Infallible;
use std::thread;

use bulkman::{BulkheadConfig, BulkheadState, ExecutionResult, ManualClock, SemaphoreBulkhead};

use crate::support::{Gate, OpenOnDrop, assert_balanced, config, eventually};

pub fn semaphore(n: usize, q: usize) -> SemaphoreBulkhead {
    SemaphoreBulkhead::new(config(n, q)).expect("a valid configuration")
}

pub fn with_clock(config: BulkheadConfig) -> (SemaphoreBulkhead, ManualClock) {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config).clock(clock.clone());
    (bulkhead.build().unwrap(), clock)
}

/// Threads that are in the bulkhead, in `n` calls that run, until the gate is opened.
pub struct Inside<'scope> {
    pub gate: Gate,
    pub calls: Vec<thread::ScopedJoinHandle<'scope, ExecutionResult<(), Infallible>>>,
    pub _opener: OpenOnDrop,
}

impl<'scope> Inside<'scope> {
    pub fn new<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        bulkhead: &'scope SemaphoreBulkhead,
        n: usize,
    ) -> Self {
        let gate = Gate::new();
        let calls = (0..n)
            .map(|_| {
                let gate = gate.clone();
                scope.spawn(move || bulkhead.run(|| gate.pass()))
            })
            .collect();
        let opener = OpenOnDrop(gate.clone());
        gate.wait_for_arrivals(n);
        Self {
            gate,
            calls,
            _opener: opener,
        }
    }

    pub fn finish(self) {
        self.gate.open();
        for call in self.calls {
            call.join().unwrap().into_result().expect("it ends well");
        }
    }
}

/// Waits until `n` callers are queued, and the first of them stands in line: it has asked the circuit, told the listeners and
/// looked at the clock. The others may be on their way there.
pub fn queued(bulkhead: &SemaphoreBulkhead, n: u64) {
    eventually("the callers are in line", || {
        let stats = bulkhead.stats();
        stats.queued_tasks == n && stats.longest_queued.is_some()
    });
}

pub fn assert_idle(bulkhead: &SemaphoreBulkhead) {
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0), "{stats}");
    if stats.state != BulkheadState::ShutDown {
        let all = stats.max_concurrent_calls + stats.max_queue_size;
        assert_eq!(bulkhead.available_capacity() as u64, all);
    }
}

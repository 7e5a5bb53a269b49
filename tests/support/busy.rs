//! Workers that are busy until a test lets them go.

use std::convert::Infallible;

use bulkman::{Bulkhead, ExecutionHandle};

use super::gate::{Gate, OpenOnDrop};
use super::waits::wait;

/// Tasks that run until their gate is opened. Declare it after the bulkhead, so that the gate opens before the bulkhead
/// is dropped.
pub struct Busy {
    pub gate: Gate,
    pub handles: Vec<ExecutionHandle<(), Infallible>>,
    _opener: OpenOnDrop,
}

impl Busy {
    /// Opens the gate and waits for all tasks.
    pub fn finish(self) {
        self.gate.open();
        for handle in self.handles {
            wait(handle)
                .into_result()
                .expect("a task at a gate ends well");
        }
    }
}

/// Makes `n` workers busy and returns when all of them are.
pub fn occupy(bulkhead: &Bulkhead, n: usize) -> Busy {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handles = (0..n)
        .map(|_| {
            let gate = gate.clone();
            bulkhead.run(move || gate.pass())
        })
        .collect();
    gate.wait_for_arrivals(n);
    Busy {
        gate,
        handles,
        _opener: opener,
    }
}

/// A call that ends when its gate opens. The gate also opens when it goes.
pub fn at_a_gate<T: Send + 'static>(
    bulkhead: &Bulkhead,
    value: T,
) -> (OpenOnDrop, ExecutionHandle<T, Infallible>) {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = bulkhead.run(move || {
        gate.pass();
        value
    });
    (opener, handle)
}

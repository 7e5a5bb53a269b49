//! What the drill has shown.

use std::fmt;
use std::time::Duration;

use crate::Fault;
use crate::orders::{DEPENDENCIES, Outcome, Placed, Shop};

#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
}

/// A phase.
pub struct Row {
    phase: &'static str,
    trouble: Option<usize>,
    /// The dependency that was in trouble just before.
    recovers: Option<usize>,
    orders: usize,
    stored: usize,
    kept: usize,
    lost: usize,
    slowest: Duration,
    dependencies: [Cell; 3],
}

/// A dependency in a phase.
struct Cell {
    calls: u32,
    answers: u32,
    cached: u32,
    attempts: u32,
    slowest: Duration,
    circuit: String,
}

impl Row {
    pub fn of(
        phase: &'static str,
        trouble: Option<usize>,
        recovers: Option<usize>,
        placed: &[Placed],
        shop: &Shop,
    ) -> Self {
        let count = |outcome| {
            placed
                .iter()
                .filter(|order| order.outcome == outcome)
                .count()
        };
        let cell = |place: usize| {
            let calls = || {
                placed
                    .iter()
                    .map(|order| order.calls[place])
                    .filter(|call| call.attempts > 0)
            };
            let count = |is: fn(bool, bool) -> bool| {
                calls()
                    .map(|call| u32::from(is(call.has_answer, call.is_cached)))
                    .sum()
            };
            Cell {
                calls: count(|_, _| true),
                answers: count(|has_answer, _| has_answer),
                cached: count(|_, is_cached| is_cached),
                attempts: calls().map(|call| call.attempts).sum(),
                slowest: calls().map(|call| call.took).max().unwrap_or_default(),
                circuit: shop.circuit(place),
            }
        };
        Self {
            phase,
            trouble,
            recovers,
            orders: placed.len(),
            stored: count(Outcome::Stored),
            kept: count(Outcome::Kept),
            lost: count(Outcome::Lost),
            slowest: placed
                .iter()
                .map(|order| order.took)
                .max()
                .unwrap_or_default(),
            dependencies: [cell(0), cell(1), cell(2)],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(
                f,
                "{}: {} orders, {} stored, {} kept for later, {} lost, slowest {:.0?}",
                row.phase, row.orders, row.stored, row.kept, row.lost, row.slowest
            )?;
            for (place, (name, cell)) in DEPENDENCIES.iter().zip(&row.dependencies).enumerate() {
                // Of a recovery the line of what recovers is enough.
                if row.recovers.is_some_and(|recovers| recovers != place) {
                    continue;
                }
                let mark = if row.trouble == Some(place) { '!' } else { ' ' };
                writeln!(
                    f,
                    " {mark} {name:<10}{:>4} calls {:>4} answers {:>4} cached {:>4} attempts   slowest {:<8} {}",
                    cell.calls,
                    cell.answers,
                    cell.cached,
                    cell.attempts,
                    format!("{:.0?}", cell.slowest),
                    cell.circuit
                )?;
            }
        }
        Ok(())
    }
}

impl Table {
    /// The drill is a test, too.
    pub fn check(&self) -> Result<(), Fault> {
        for row in &self.rows {
            if row.lost > 0 {
                return Err(format!("{}: orders were lost", row.phase).into());
            }
            for (place, (name, cell)) in DEPENDENCIES.iter().zip(&row.dependencies).enumerate() {
                // On a busy machine a few calls may be too slow, and a circuit needs a moment to close.
                let share = match (row.trouble, row.recovers) {
                    (Some(trouble), _) if trouble == place => {
                        if cell.answers > 0 {
                            return Err(format!("{}: {name} answers", row.phase).into());
                        }
                        continue;
                    }
                    (_, Some(recovers)) if recovers == place => 3,
                    _ => 9,
                };
                if cell.answers * 10 < cell.calls * share {
                    return Err(format!("{}: {name} has too few answers", row.phase).into());
                }
            }
        }
        Ok(())
    }
}

//! Counters that never go back.
//!
//! A bulkhead's counters begin anew when its numbers are reset, and when a new bulkhead of the same name takes its place. An
//! exporter that sends differences would then subtract a larger number from a smaller one. So what was counted before is kept
//! for each name, and added. A name that is missing in a reading begins at zero when it comes back: the SDK has forgotten it
//! too.

use std::collections::HashMap;
use std::sync::Arc;

use super::families::{Exported, Kind, Series, Value};

/// What the counters of each name have told.
#[derive(Default)]
pub(super) struct RunningTotals {
    by_name: HashMap<Arc<str>, OfName>,
}

#[derive(Default)]
struct OfName {
    /// More than one, if the source gives several bulkheads of one name: told apart by their order.
    told: Vec<Told>,
    /// How many were in the reading that is being looked at.
    seen: usize,
}

/// What the counters of one bulkhead or pipeline, and of those before it, have told.
#[derive(Default)]
struct Told {
    /// By [`Exported::counting`], which grows from one beginning to the next.
    counting: (u64, u64),
    /// For each series; only those of counters are used.
    series: Vec<Total>,
}

#[derive(Clone, Copy, Default)]
struct Total {
    /// What was told when the counter began anew.
    before: Option<Value>,
    told: Option<Value>,
}

/// The values of one bulkhead or pipeline, one for each series of [`Exported::FAMILIES`].
pub(super) struct Numbers {
    pub(super) name: Arc<str>,
    pub(super) values: Box<[Option<Value>]>,
}

impl RunningTotals {
    /// The values of a reading, in which each counter goes on from where it was.
    pub(super) fn read<S: Exported>(&mut self, reading: &[S]) -> Vec<Numbers> {
        for of_name in self.by_name.values_mut() {
            of_name.seen = 0;
        }
        let numbers = reading.iter().map(|stats| {
            let name = Arc::clone(stats.name());
            let of_name = self.by_name.entry(Arc::clone(&name)).or_default();
            let place = of_name.seen;
            of_name.seen += 1;
            if place == of_name.told.len() {
                of_name.told.push(Told::default());
            }
            let values = of_name.told[place].go_on(stats);
            Numbers { name, values }
        });
        let numbers = numbers.collect();
        self.by_name.retain(|_, of_name| of_name.seen > 0);
        numbers
    }
}

impl Told {
    fn go_on<S: Exported>(&mut self, stats: &S) -> Box<[Option<Value>]> {
        let families = S::FAMILIES.iter();
        let series = families.flat_map(|of| of.series.iter().map(|series| (of.kind, series)));
        let series: Vec<_> = series.collect();
        self.series.resize(series.len(), Total::default());
        let counting = stats.counting();
        if counting > self.counting {
            self.counting = counting;
            for total in &mut self.series {
                total.before = total.told;
            }
        }
        let is_current = counting == self.counting;
        let totals = series.into_iter().zip(&mut self.series);
        let value = |((kind, series), total): ((Kind, &Series<S>), &mut Total)| {
            let value = (series.read)(stats)?;
            if kind != Kind::Counter {
                return Some(value);
            }
            // Two threads may read at once: what comes late tells what was told.
            if is_current || total.told.is_none() {
                total.told = value.plus(total.before).at_least(total.told);
            }
            total.told
        };
        totals.map(value).collect()
    }
}

impl Value {
    fn plus(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Count(one), Some(Self::Count(other))) => Self::Count(one.saturating_add(other)),
            (Self::Time(one), Some(Self::Time(other))) => Self::Time(one.saturating_add(other)),
            _ => self,
        }
    }

    fn at_least(self, other: Option<Self>) -> Option<Self> {
        Some(match (self, other) {
            (Self::Count(one), Some(Self::Count(other))) => Self::Count(one.max(other)),
            (Self::Time(one), Some(Self::Time(other))) => Self::Time(one.max(other)),
            _ => self,
        })
    }
}

//! Tickets, and the probes that are out.

use std::num::NonZeroU64;
use std::time::Instant;

/// The right to make one call, to be settled with its verdict: a generation, and the slot of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(NonZeroU64);

impl Ticket {
    const SLOT_BITS: u32 = 16;
    /// More probes than a ticket can tell apart are never out.
    pub(super) const SLOTS: usize = 1 << Self::SLOT_BITS;
    /// One below that of `UNCOUNTED`. So many transitions take longer than the machine will stand.
    pub(super) const LAST_GENERATION: u64 = (u64::MAX >> Self::SLOT_BITS) - 1;
    /// Of a call that passes although the circuit refuses it, or judges none. No machine gets to its generation.
    pub(crate) const UNCOUNTED: Self = Self(NonZeroU64::MAX);

    /// A ticket of a closed circuit.
    #[inline]
    pub(crate) fn new(generation: u64) -> Self {
        Self::of_probe(generation, 0)
    }

    #[inline]
    pub(super) fn of_probe(generation: u64, slot: usize) -> Self {
        NonZeroU64::new(generation << Self::SLOT_BITS | slot as u64).map_or(Self::UNCOUNTED, Self)
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0.get() >> Self::SLOT_BITS
    }

    pub(super) fn slot(self) -> usize {
        self.0.get() as usize % Self::SLOTS
    }
}

/// The probes that are out, each in its slot: since when.
#[derive(Debug, Default)]
pub(super) struct Probes(Vec<Option<Instant>>);

impl Probes {
    pub(super) fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Gives a probe a slot, if fewer than `limit` are out.
    pub(super) fn add(&mut self, limit: usize, now: Instant) -> Option<usize> {
        // There may be more slots than that: the limit can go down while probes are out.
        if self.count() >= limit {
            return None;
        }
        let free = self.0.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[slot] = Some(now);
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: usize) {
        if let Some(probe) = self.0.get_mut(slot) {
            *probe = None;
        }
    }
}

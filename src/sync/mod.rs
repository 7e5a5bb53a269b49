//! The primitives of all threads, behind one name, and small tools made of nothing else.
//!
//! `real.rs` has the primitives that users run. `loom-tests/` compiles the same sources again with the stand-ins of
//! `model.rs`, which a model checker can explore. This file alone chooses between the two.

#[cfg(not(any(bulkman_loom, bulkman_shuttle)))]
#[path = "real.rs"]
mod imp;
#[cfg(not(any(bulkman_loom, bulkman_shuttle)))]
mod spin;

#[cfg(any(bulkman_loom, bulkman_shuttle))]
#[path = "model.rs"]
mod imp;

mod latch;
mod lazy;
mod time;

#[cfg(bulkman_loom)]
use loom as checker;
#[cfg(bulkman_shuttle)]
use shuttle as checker;

pub(crate) use imp::*;
pub(crate) use latch::Latch;
pub(crate) use lazy::{LazySlots, Table};
pub(crate) use time::{Limit, after, earlier, nanos, shorter};

/// Keeps a value on cache lines of its own, so that threads which write different values do not slow each other
/// down. 128 bytes, because current x86-64 prefetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

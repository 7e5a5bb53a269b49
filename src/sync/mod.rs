//! Every primitive that takes part in the protocol, behind one name.
//!
//! The crate uses the real ones; `loom-tests/` compiles the same sources a second time against the
//! stand-ins of `model.rs`, which a model checker can explore. This is the only file that knows.

#[cfg(not(any(bulkman_loom, bulkman_shuttle)))]
#[path = "real.rs"]
mod imp;
#[cfg(not(any(bulkman_loom, bulkman_shuttle)))]
mod spinning;

#[cfg(any(bulkman_loom, bulkman_shuttle))]
#[path = "model.rs"]
mod imp;

#[cfg(bulkman_loom)]
use loom as checker;
#[cfg(bulkman_shuttle)]
use shuttle as checker;

pub(crate) use imp::*;

#[cfg(any(bulkman_loom, bulkman_shuttle))]
pub use imp::__model;

/// Keeps a value on cache lines of its own, so that threads which write different values do not
/// slow each other down. 128 bytes, because current x86-64 prefetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

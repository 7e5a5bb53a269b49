//! One value for each of N slots, made when the slot is first used: of many slots, most are never used.

use super::OnceLock;

pub(crate) struct LazySlots<T>(Box<[OnceLock<Box<T>>]>);

impl<T> LazySlots<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| OnceLock::new()).collect())
    }

    /// Only the owner of the slot calls this, so no thread waits for another to make the value.
    #[inline]
    pub(crate) fn get_or_init(&self, slot: usize, make: impl FnOnce() -> T) -> &T {
        self.0[slot].get_or_init(|| Box::new(make()))
    }

    /// The values that have been made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0
            .iter()
            .filter_map(OnceLock::get)
            .map(|value| &**value)
    }
}

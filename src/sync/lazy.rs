//! One thing for each of N seats, made when it is first needed: of many seats, most are never taken.

use crate::sync::OnceLock;

pub(crate) struct Slots<T>(Box<[OnceLock<Box<T>>]>);

impl<T> Slots<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| OnceLock::new()).collect())
    }

    /// For the one who sits there: so nobody ever waits for another to make it.
    #[inline]
    pub(crate) fn get_or_make(&self, seat: usize, make: impl FnOnce() -> T) -> &T {
        self.0[seat].get_or_init(|| Box::new(make()))
    }

    /// All that have been made.
    pub(crate) fn made(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|made| &**made)
    }
}

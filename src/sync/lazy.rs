//! Tables with an entry for each slot. They grow, and their entries never move.

use super::OnceLock;

/// A table that [`reserve`](Self::reserve) makes longer while others read it.
///
/// What is reserved first lies in one piece, and is as quick to find as in a slice. What comes later lies in pieces of
/// which each is twice as long as the one before.
pub(crate) struct Table<T> {
    first: Box<[T]>,
    more: OnceLock<Box<[Piece<T>; PIECES]>>,
}

type Piece<T> = OnceLock<Box<[T]>>;

/// Enough for 2^17 - 1 values beyond the first.
const PIECES: usize = 17;

/// In which of the later pieces a value is, and where.
fn place(beyond_first: usize) -> (usize, usize) {
    let number = beyond_first + 1;
    let piece = number.ilog2() as usize;
    (piece, number - (1 << piece))
}

impl<T> Table<T> {
    pub(crate) fn new(values: impl IntoIterator<Item = T>) -> Self {
        Self {
            first: values.into_iter().collect(),
            more: OnceLock::new(),
        }
    }

    /// Makes the table at least `count` long. One thread at a time calls this.
    pub(crate) fn reserve(&self, count: usize, make: impl Fn(usize) -> T) {
        let Some(last) = count.checked_sub(self.first.len() + 1) else {
            return;
        };
        let more = self
            .more
            .get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        for (piece, values) in more.iter().enumerate().take(place(last).0 + 1) {
            let begin = self.first.len() + (1 << piece) - 1;
            values.get_or_init(|| (begin..begin + (1 << piece)).map(&make).collect());
        }
    }

    /// The value at `index`, which is reserved.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &T {
        match self.first.get(index) {
            Some(value) => value,
            None => self.get_more(index - self.first.len()),
        }
    }

    #[cold]
    fn get_more(&self, beyond_first: usize) -> &T {
        let (piece, offset) = place(beyond_first);
        let values = self.more.get().and_then(|more| more[piece].get());
        &values.expect("it is reserved")[offset]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let more = self.more.get().into_iter().flat_map(|more| more.iter());
        let more = more
            .filter_map(OnceLock::get)
            .flat_map(|values| values.iter());
        self.first.iter().chain(more)
    }
}

/// One value for each of N slots, made when the slot is first used: of many slots, most are never used.
pub(crate) struct LazySlots<T>(Table<OnceLock<Box<T>>>);

impl<T> LazySlots<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self(Table::new((0..count).map(|_| OnceLock::new())))
    }

    /// As [`Table::reserve`].
    pub(crate) fn reserve(&self, count: usize) {
        self.0.reserve(count, |_| OnceLock::new());
    }

    /// Only the owner of the slot calls this, so no thread waits for another to make the value.
    #[inline]
    pub(crate) fn get_or_init(&self, slot: usize, make: impl FnOnce() -> T) -> &T {
        self.0.get(slot).get_or_init(|| Box::new(make()))
    }

    /// The values that have been made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0
            .iter()
            .filter_map(OnceLock::get)
            .map(|value| &**value)
    }
}

#[cfg(test)]
#[cfg(not(any(bulkman_loom, bulkman_shuttle)))]
mod tests {
    use super::Table;

    #[test]
    fn a_table_that_grows_keeps_what_is_in_it_where_it_is() {
        let table = Table::new(0..3);
        let addresses: Vec<*const usize> =
            (0..3).map(|index| &raw const *table.get(index)).collect();
        for count in [0, 3, 4, 5, 100, 99, 1_000, 65_536] {
            table.reserve(count, |index| index);
            for index in 0..count {
                assert_eq!(*table.get(index), index);
            }
        }
        assert!((0..3).all(|index| std::ptr::eq(table.get(index), addresses[index])));
        assert!(table.iter().copied().eq(0..table.iter().count()));
    }

    #[test]
    #[should_panic(expected = "reserved")]
    fn what_is_not_reserved_is_not_there() {
        Table::new(0..3).get(3);
    }
}

//! The names of worker threads.
//!
//! Linux keeps 15 bytes of a name and cuts the rest off. Tools such as `top -H`, `perf` and debuggers show what is kept. So a
//! default name is never longer, on any system:
//!
//! | the bulkhead's name | the worker is called |
//! |---|---|
//! | has room beside the prefix | `bulkman-NAME-INDEX` |
//! | has room without the prefix | `NAME-INDEX` |
//! | has no room | `HEAD~TAIL-INDEX`, with both ends of the name |

use std::ops::Range;

use crate::error::BuildError;
use crate::panic::{catch, discard, message};
use crate::text::OneLine;

/// The longest name that Linux keeps, in bytes.
const LONGEST: usize = 15;

const PREFIX: &str = "bulkman-";

/// Names the worker of an index.
pub(super) type NameFn = Box<dyn Fn(usize) -> String + Send + Sync>;

/// The names of the workers from 0 to `workers - 1`.
pub(super) enum ThreadNames {
    Default { bulkhead: String, workers: usize },
    Chosen(Vec<String>),
}

impl ThreadNames {
    /// Asks `choose` for all names, before a thread is started.
    pub(super) fn new(
        bulkhead: &str,
        workers: usize,
        choose: Option<&NameFn>,
    ) -> Result<Self, BuildError> {
        match choose {
            None => Ok(Self::Default {
                bulkhead: bulkhead.to_owned(),
                workers,
            }),
            Some(choose) => names(bulkhead, 0..workers, choose).map(Self::Chosen),
        }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Default { workers, .. } => *workers,
            Self::Chosen(names) => names.len(),
        }
    }

    /// Adds the names of workers beyond those that there are; `more` begins with the name of the worker `first`.
    pub(super) fn extend(&mut self, workers: usize, first: usize, more: Vec<String>) {
        match self {
            Self::Default {
                workers: before, ..
            } => *before = workers.max(*before),
            Self::Chosen(names) => {
                let known = names.len() - first;
                names.extend(more.into_iter().skip(known));
            }
        }
    }

    pub(super) fn get(&self, index: usize) -> String {
        match self {
            Self::Default { bulkhead, workers } => default_name(bulkhead, index, *workers),
            Self::Chosen(names) => names[index].clone(),
        }
    }
}

/// Asks `choose` for the names of workers.
pub(super) fn names(
    bulkhead: &str,
    workers: Range<usize>,
    choose: &NameFn,
) -> Result<Vec<String>, BuildError> {
    let names = workers.map(|index| chosen(&**choose, index));
    let names: Result<_, BuildError> = names.collect();
    names.map_err(|error| error.of(bulkhead))
}

fn chosen(choose: &dyn Fn(usize) -> String, index: usize) -> Result<String, BuildError> {
    const FIELD: &str = "worker_name";
    match catch(|| choose(index)) {
        Ok(name) => BuildError::check_name(FIELD, &name).map(|()| name),
        Err(payload) => {
            let value = format!("a panic: {}", OneLine(message(&*payload)));
            discard(payload);
            BuildError::check(false, FIELD, value, "must not panic").map(|()| String::new())
        }
    }
}

fn default_name(bulkhead: &str, index: usize, workers: usize) -> String {
    // By the longest index, so that the names of all workers of a bulkhead begin alike.
    let digits = (workers - 1).checked_ilog10().unwrap_or(0) as usize + 1;
    let room = LONGEST - "-".len() - digits;
    if PREFIX.len() + bulkhead.len() <= room {
        format!("{PREFIX}{bulkhead}-{index}")
    } else if bulkhead.len() <= room {
        format!("{bulkhead}-{index}")
    } else {
        let (head, tail) = ends(bulkhead, room - "~".len());
        format!("{head}~{tail}-{index}")
    }
}

/// The first and the last of `name`, together at most `bytes` long. No character is cut in two.
fn ends(name: &str, bytes: usize) -> (&str, &str) {
    let mut head = bytes / 2;
    while !name.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = name.len() - (bytes - bytes / 2);
    while !name.is_char_boundary(tail) {
        tail += 1;
    }
    (&name[..head], &name[tail..])
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, default_name};

    #[test]
    fn a_short_name_keeps_the_prefix_and_a_long_one_both_ends() {
        for (bulkhead, index, workers, expected) in [
            ("db", 0, 1, "bulkman-db-0"),
            ("orders", 0, 1, "orders-0"),
            ("test", 9, 10, "bulkman-test-9"),
            ("test2", 9, 100, "test2-9"),
            ("inventory", 2, 3, "inventory-2"),
            ("inventory-eu", 2, 3, "inventory-eu-2"),
            ("inventory-eu-", 2, 3, "inventory-eu--2"),
            ("payments-eu-west-1", 0, 10, "paymen~west-1-0"),
            ("payments-us-east-1", 0, 10, "paymen~east-1-0"),
            ("payments-us-east-1", 65_535, 65_536, "paym~st-1-65535"),
        ] {
            let name = default_name(bulkhead, index, workers);
            assert_eq!(name, expected);
            assert!(name.len() <= LONGEST, "{name}");
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for (bulkhead, expected) in [
            ("zahlungen-größe-süd", "zahlun~e-süd-0"),
            ("zahlungen-üxxxxx", "zahlun~xxxxx-0"),
            (
                "\u{1f980}\u{1f980}\u{1f980}\u{1f980}",
                "\u{1f980}~\u{1f980}-0",
            ),
            ("aaaaa\u{1f980}bbbb\u{1f980}ccccc", "aaaaa~ccccc-0"),
        ] {
            let name = default_name(bulkhead, 0, 1);
            assert_eq!(name, expected);
            assert!(name.len() <= LONGEST, "{name}");
        }
    }
}

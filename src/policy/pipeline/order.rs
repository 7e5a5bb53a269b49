//! Which orders of layers make sense: a table, and nothing else.

use std::fmt;

/// A layer of a [`Pipeline`](super::Pipeline), or the task inside of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LayerKind {
    /// Answers in place of an error.
    Fallback,
    /// Limits the time of all that is inside.
    Timeout,
    /// Calls again what has failed.
    Retry,
    /// Lets so many calls through in a time.
    RateLimit,
    /// A circuit breaker that is no bulkhead's own.
    Circuit,
    /// Starts a second attempt beside a slow one.
    Hedge,
    /// The bulkhead, with its own circuit.
    Bulkhead,
    /// Trouble on purpose.
    Chaos,
    /// The task itself.
    Task,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fallback => "fallback",
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::RateLimit => "rate limit",
            Self::Circuit => "circuit breaker",
            Self::Hedge => "hedge",
            Self::Bulkhead => "bulkhead",
            Self::Chaos => "chaos",
            Self::Task => "task",
        })
    }
}

/// Two layers whose order makes no sense, and what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) outer: LayerKind,
    pub(super) inner: LayerKind,
    pub(super) instead: &'static str,
}

/// The bulkhead, as far as it decides which layers it goes with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) has_threads: bool,
    pub(super) has_circuit: bool,
}

/// The first conflict in an order of layers, from the outermost to the innermost.
pub(super) fn check(order: &[LayerKind], inside: Inside) -> Result<(), Conflict> {
    if inside.has_circuit && order.contains(&LayerKind::Circuit) {
        return Err(Conflict {
            outer: LayerKind::Circuit,
            inner: LayerKind::Bulkhead,
            instead: "leave the circuit breaker out, since the bulkhead has one of its own, and both would count each call",
        });
    }
    if !inside.has_threads && order.contains(&LayerKind::Hedge) {
        return Err(Conflict {
            outer: LayerKind::Hedge,
            inner: LayerKind::Task,
            instead: "give the pipeline a bulkhead with threads, since two attempts at once cannot run in one thread",
        });
    }
    for (place, &inner) in order.iter().enumerate() {
        for (outer_place, &outer) in order[..place].iter().enumerate() {
            let between = &order[outer_place + 1..place];
            if let Some(instead) = advice(outer, inner, between) {
                return Err(Conflict {
                    outer,
                    inner,
                    instead,
                });
            }
        }
    }
    Ok(())
}

/// What to do instead of having `inner` inside of `outer`; `None`: it makes sense.
fn advice(outer: LayerKind, inner: LayerKind, between: &[LayerKind]) -> Option<&'static str> {
    use LayerKind::{Bulkhead, Chaos, Circuit, Fallback, Hedge, RateLimit, Retry, Timeout};
    Some(match (outer, inner) {
        (Chaos, _) => "put the chaos last, since it stands for the dependency",
        (Bulkhead, Chaos) | (Hedge, Bulkhead | Chaos) => return None,
        (Hedge, _) => "put the hedge directly before the bulkhead",
        (Timeout, Timeout) if between.contains(&Retry) => return None,
        (Timeout, Timeout) => {
            "leave one out, since only the shorter counts; or put the retry between them, for a limit over all and one for each attempt"
        }
        (Retry, Retry) => "leave one out, since their attempts multiply",
        (Fallback, Fallback) => "join them with `or`",
        (Circuit, Circuit) => "leave one out, or give one of them to the bulkhead",
        // Calls outside, attempts inside.
        (RateLimit, RateLimit) if between.contains(&Retry) => return None,
        (RateLimit, RateLimit) => {
            "leave one out; or put the retry between them, for a limit of calls and one of attempts"
        }
        (Bulkhead, Bulkhead) => "leave one out; a fallback can call another bulkhead",
        (Bulkhead, _) => {
            "put the bulkhead last, else the call would keep its worker and its place while it waits"
        }
        (Retry, Fallback) => {
            "put the fallback before the retry, else the retry sees no failure to retry"
        }
        (Circuit, Fallback) => {
            "put the fallback before the circuit breaker, else the circuit sees no failures, and its refusals get no answer"
        }
        (RateLimit, Fallback) => {
            "put the fallback before the rate limit, else calls that it refuses get no answer"
        }
        (Circuit, Retry) => {
            "put the retry before the circuit breaker, so that the circuit sees each attempt"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::LayerKind::{Bulkhead, Chaos, Circuit, Fallback, Hedge, RateLimit, Retry, Timeout};
    use super::*;

    const ALL: [LayerKind; 8] = [
        Fallback, Timeout, Retry, RateLimit, Circuit, Hedge, Bulkhead, Chaos,
    ];

    const THREADS: Inside = Inside {
        has_threads: true,
        has_circuit: false,
    };
    const HERE: Inside = Inside {
        has_threads: false,
        has_circuit: false,
    };

    #[test]
    fn every_pair() {
        // Rows: outer; columns: inner, both in the order of `ALL`.
        let table = [
            ".yyyyyyy", // fallback
            "y.yyyyyy", // timeout
            ".y.yyyyy", // retry
            ".yy.yyyy", // rate limit
            ".y.y.yyy", // circuit breaker
            "......yy", // hedge
            ".......y", // bulkhead
            "........", // chaos
        ];
        for (outer, row) in ALL.into_iter().zip(table) {
            for (inner, cell) in ALL.into_iter().zip(row.chars()) {
                let fits = check(&[outer, inner], THREADS).is_ok();
                assert_eq!(fits, cell == 'y', "{inner} inside of {outer}");
            }
        }
    }

    #[test]
    fn a_limit_over_all_and_one_for_each_attempt() {
        assert_eq!(check(&[Timeout, Retry, Timeout], THREADS), Ok(()));
        assert!(check(&[Timeout, RateLimit, Timeout], THREADS).is_err());
        assert!(check(&[Timeout, Retry, Timeout, Timeout], THREADS).is_err());
    }

    #[test]
    fn a_limit_of_calls_and_one_of_attempts() {
        assert_eq!(check(&[RateLimit, Retry, RateLimit], THREADS), Ok(()));
        assert!(check(&[RateLimit, Timeout, RateLimit], THREADS).is_err());
        assert!(check(&[RateLimit, Retry, RateLimit, RateLimit], THREADS).is_err());
    }

    #[test]
    fn one_circuit_is_enough() {
        for has_threads in [true, false] {
            let with_circuit = Inside {
                has_threads,
                has_circuit: true,
            };
            let conflict = check(&[Retry, Circuit, Bulkhead], with_circuit).unwrap_err();
            assert_eq!((conflict.outer, conflict.inner), (Circuit, Bulkhead));
            assert_eq!(check(&[Retry, Bulkhead], with_circuit), Ok(()));
        }
    }

    #[test]
    fn the_recommended_order() {
        let order = [
            Fallback, Timeout, Retry, RateLimit, Circuit, Timeout, Bulkhead,
        ];
        assert_eq!(check(&order, THREADS), Ok(()));
        assert_eq!(check(&[], HERE), Ok(()));
    }

    #[test]
    fn a_hedge_needs_threads() {
        assert!(check(&[Hedge, Bulkhead], HERE).is_err());
        assert!(check(&[Hedge], HERE).is_err());
        assert_eq!(check(&[Bulkhead, Chaos], HERE), Ok(()));
    }

    #[test]
    fn a_conflict_names_both_and_says_what_to_do() {
        let conflict = check(&[Timeout, Retry, Fallback], THREADS).unwrap_err();
        assert_eq!((conflict.outer, conflict.inner), (Retry, Fallback));
        assert!(conflict.instead.starts_with("put the fallback before"));
    }
}

//! Names of circuits, and a storage without a breaker.

use bulkman::{BuildError, Bulkhead, CircuitBreaker, CircuitState, MemoryStorage};

use super::helpers::{World, soon, trip};
use crate::helpers::rules;
use crate::support::{HOUR, config};

use CircuitState::Open;

#[test]
fn names() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let error = CircuitBreaker::builder("a/b", rules())
        .storage(line.clone())
        .build()
        .unwrap_err();
    assert!(matches!(&error, BuildError::CircuitStorage { circuit, .. } if circuit == "a/b"));
    let text = format!("{error:?}");
    assert!(text.contains("slash"), "{text}");
    assert_eq!(world.shelf.loads(), 0, "no I/O for a name that is refused");

    for name in ["ä ö 雪", "'; drop table x; --", "a b", "a|b", "%s\\n"] {
        let build = || {
            CircuitBreaker::builder(name, rules())
                .storage(line.clone())
                .build()
                .unwrap()
        };
        let (one, two) = (build(), build());
        trip(&one);
        soon(&two, Open);
        assert_eq!(world.shelf.row(name).unwrap().record.state, Open);
    }
}

#[test]
fn a_storage_without_a_breaker_is_an_error() {
    let error = Bulkhead::builder(config(1, 1))
        .circuit_storage(MemoryStorage::new())
        .build()
        .unwrap_err();
    assert!(format!("{error}").contains("circuit_breaker"), "{error}");
}

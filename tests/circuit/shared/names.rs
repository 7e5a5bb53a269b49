//! Names of circuits, and a storage without a breaker.

use std::thread;

use bulkman::{BuildError, Bulkhead, CircuitBreaker, CircuitState, MemoryStorage};

use super::helpers::{Answer, Line, NAME, World, flushed, soon, trip};
use crate::helpers::rules;
use crate::support::{Gate, HOUR, OpenOnDrop, config, eventually};

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

/// A breaker by the system's clock: how often the synchronizer looks does not hang on a manual one.
fn by_the_system(line: &Line) -> CircuitBreaker {
    let builder = CircuitBreaker::builder(NAME, rules().isolation_duration(HOUR));
    builder.storage(line.clone()).build().unwrap()
}

/// The change comes when the news are on their way already, and is written after them.
#[test]
fn two_of_a_name_agree_also_about_a_change_that_comes_with_the_news() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let one = by_the_system(&line);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    line.loads_answer(Answer::Late(gate.clone()));
    let two = thread::scope(|scope| {
        let building = scope.spawn(|| by_the_system(&line));
        gate.wait_for_arrivals(1);
        trip(&one);
        drop(opener);
        building.join().unwrap()
    });
    soon(&two, Open);
}

/// It loses each row, and refuses to write it again.
#[test]
fn a_storage_that_contradicts_itself_is_not_asked_without_a_pause() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let one = by_the_system(&line);
    trip(&one);
    flushed(&one);
    line.loads_answer(Answer::Nothing);
    let before = world.shelf.stores().len();
    let _two = by_the_system(&line);
    eventually("it tries", || world.shelf.stores().len() > before);
    let (mut asked, mut times) = (0, 0);
    eventually("it has paused", || {
        let now = world.shelf.loads();
        times = if now == asked { times + 1 } else { 0 };
        asked = now;
        times == 500
    });
}

#[test]
fn a_storage_without_a_breaker_is_an_error() {
    let error = Bulkhead::builder(config(1, 1))
        .circuit_storage(MemoryStorage::new())
        .build()
        .unwrap_err();
    assert!(format!("{error}").contains("circuit_breaker"), "{error}");
}

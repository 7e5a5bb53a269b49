//! A call: its task runs in the thread of its caller, may borrow, and keeps its panics.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::BulkheadError;

use super::helpers::{assert_idle, semaphore};
use crate::support::Bomb;

#[test]
fn a_task_runs_in_its_callers_thread_and_may_borrow() {
    let bulkhead = semaphore(1, 0);
    let words = [String::from("not"), String::from("sent")];
    let shared = Rc::new(Cell::new(0));
    let mut longest = "";
    let result = bulkhead.execute(|| {
        shared.set(shared.get() + 1);
        longest = words.iter().max_by_key(|word| word.len()).ok_or("none")?;
        Ok::<_, &str>((thread::current().id(), Rc::clone(&shared)))
    });
    assert!(result.is_success());
    assert_eq!(result.bulkhead_name.as_ref(), "test");
    assert_eq!(result.queued_time, Duration::ZERO);
    let (thread, same) = result.into_result().unwrap();
    assert_eq!(thread, thread::current().id());
    assert_eq!((longest, same.get()), ("sent", 1));
    assert_idle(&bulkhead);
}

#[test]
fn errors_stay_what_they_are() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.execute(|| "x".parse::<i32>());
    let expected = "x".parse::<i32>().unwrap_err();
    assert_eq!(result.error().unwrap().failed(), Some(&expected));
    let stats = bulkhead.stats();
    assert_eq!((stats.failed_executions, stats.total_executions), (1, 1));
    assert_idle(&bulkhead);
}

#[test]
fn a_panic_stays_in_its_call() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.run(|| -> () { std::panic::panic_any(7_u8) });
    let Err(BulkheadError::Panicked(panic)) = result.into_result() else {
        panic!("it panicked");
    };
    assert_eq!(*panic.into_payload().downcast::<u8>().unwrap(), 7);

    let bomb = Bomb;
    let result = bulkhead.run(move || {
        let _in_the_task = &bomb;
    });
    assert!(matches!(result.error(), Some(BulkheadError::Panicked(_))));
    assert_eq!(bulkhead.stats().panicked_executions, 2);
    assert!(bulkhead.run(|| ()).is_success());
    assert_idle(&bulkhead);
}

/// G7: a call never starts, and the drop of its closure or its classifier panics. The panic stays in its call.
#[test]
fn drops_that_panic_without_a_turn_stay_in_their_call() {
    let bulkhead = semaphore(1, 0);
    for in_the_closure in [true, false] {
        let (bomb, dud) = (Bomb, Arc::new(()));
        let (mine, judges) = if in_the_closure {
            (Some(bomb), None)
        } else {
            (None, Some(bomb))
        };
        let goes_too = Arc::clone(&dud);
        let call = bulkhead.call().queue_timeout(Duration::ZERO);
        let call = call.failure_if(move |_: &()| judges.is_none());
        let result = call.execute(move || {
            let _brought_along = (&mine, &goes_too);
            Ok(())
        });
        assert!(result.error().is_some_and(BulkheadError::is_timeout));
        assert_eq!(Arc::strong_count(&dud), 1);
        assert_idle(&bulkhead);
    }
}

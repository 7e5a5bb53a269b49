//! What a call inherits from the task that makes it, against cancels and the end of that task.

mod support;

use std::sync::Arc;

use bulkman::CurrentExecution;
use loom::sync::Mutex;
use loom::thread;
use support::{bulkhead, explore};

fn me() -> CurrentExecution {
    bulkman::current().expect("in a task")
}

/// A cancel that the outer task has seen is seen by the inner one, which runs after the outer one has ended.
#[test]
fn cancel_of_the_outer_call_before_its_end() {
    explore("cancel of the outer call", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let of_task = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            let inner = of_task.run(|| me().is_cancelled());
            (inner, me().is_cancelled())
        });
        outer.cancel();
        let result = outer.wait().into_result();
        // Cancelled in the queue, it makes no call.
        if let Ok((inner, outer_saw_it)) = result {
            let inner_saw_it = inner.wait().into_result().unwrap();
            assert!(inner_saw_it || !outer_saw_it, "the cancel is lost");
        }
    });
}

/// The answer never goes from yes to no, while the outer call is cancelled and ends.
#[test]
fn looks_against_the_cancel_and_the_end_of_the_outer_call() {
    explore("looks against cancel and end", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let seen = Arc::new(Mutex::new(None));
        let (of_task, of_outer) = (Arc::clone(&bulkhead), Arc::clone(&seen));
        let outer = bulkhead.run(move || {
            // It runs on top of this one, and what it knows of itself stays.
            let inner = of_task.run(me).wait().into_result().unwrap();
            *of_outer.lock().unwrap() = Some(inner);
        });
        let looking = thread::spawn(move || {
            let inner = seen.lock().unwrap().take();
            if let Some(inner) = inner {
                let before = inner.is_cancelled();
                let after = inner.is_cancelled();
                assert!(!before || after, "it is wanted again");
            }
        });
        outer.cancel();
        drop(outer.wait());
        looking.join().unwrap();
    });
}

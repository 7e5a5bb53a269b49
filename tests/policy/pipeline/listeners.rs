//! What listeners of a pipeline are told.

use std::sync::{Arc, Mutex};

use bulkman::ManualClock;
use bulkman::policy::{FailureKind, Fallback, LayerKind};

use super::helpers::{flaky, pipeline, retry};

#[test]
fn each_call_is_told_once() {
    let clock = ManualClock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let pipeline = pipeline(&clock)
        .fallback(Fallback::value(0).only_for([FailureKind::Failed]))
        .retry(retry(2, &clock))
        .listener(move |event| {
            listener.lock().unwrap().push((
                event.failure,
                event.fell_back_from,
                event.attempts,
                event.decided_by,
                event.to_string(),
            ));
        })
        .build()
        .unwrap();
    for (task, expected) in [
        (2, (None, None, 2, LayerKind::Task)),
        (9, (None, Some(FailureKind::Failed), 2, LayerKind::Fallback)),
    ] {
        drop(pipeline.execute(flaky(task).0));
        let (failure, fell_back, attempts, by, _) = told.lock().unwrap().pop().unwrap();
        assert_eq!((failure, fell_back, attempts, by), expected);
    }
    assert!(told.lock().unwrap().is_empty());
    drop(pipeline.execute(|| panic!("a task")));
    let (failure, .., text) = told.lock().unwrap().pop().unwrap();
    assert_eq!(failure, Some(FailureKind::Panicked));
    assert_eq!(text, "pipeline `users`: panicked after 1 attempt in 0.0ns");
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn an_event_knows_what_the_result_knows() {
    let clock = ManualClock::new();
    let told = Arc::new(Mutex::new(None));
    let listener = Arc::clone(&told);
    let pipeline = pipeline(&clock)
        .retry(retry(3, &clock))
        .operation("get\nuser")
        .listener(move |event| {
            let time = event.time_in(LayerKind::Retry);
            *listener.lock().unwrap() =
                Some((event.retry_stop, event.hedged, time, event.to_string()));
        })
        .build()
        .unwrap();
    let result = pipeline.execute(|| Err::<(), _>("down"));
    let (stop, hedged, time, text) = told.lock().unwrap().take().unwrap();
    assert_eq!((stop, hedged), (result.retry_stop, result.hedged));
    assert_eq!(time, result.time_in(LayerKind::Retry));
    assert_eq!(
        text,
        "pipeline `users`, operation `get\\nuser`: failed after 3 attempts in 300.0ms"
    );
}

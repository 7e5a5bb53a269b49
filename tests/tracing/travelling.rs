//! The caller's span and subscriber are there on the worker, through everything that makes calls, and gone afterwards.

use std::sync::Arc;

use bulkman::policy::{Fallback, Retry};
use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, CallOutcome, SemaphoreBulkhead};
use tracing::info_span;

use crate::helpers::Seen;
use crate::support::{Gate, OpenOnDrop, PATIENCE, bulkhead, config, eventually, wait};

#[test]
fn a_subscriber_of_one_thread_is_there_on_the_worker() {
    let pool = bulkhead(1, 1);
    let seen = Seen::during(|| drop(wait(pool.run(|| tracing::info!("here")))));
    assert_eq!(seen.around("here"), ["bulkhead_call"]);
}

#[test]
fn nothing_is_left_for_the_next_task() {
    let pool = bulkhead(1, 4);
    let [first, second] = [(); 2].map(|()| Seen::default());
    for task in [|| (), || panic!("in a traced task")] {
        first.on(|| info_span!("first").in_scope(|| drop(wait(pool.run(task)))));
        let without = wait(pool.run(|| tracing::Span::current().is_none()));
        assert_eq!(without.value(), Some(&true), "no subscriber, no span");
        second.on(|| drop(wait(pool.run(|| tracing::info!("of the second")))));
    }
    assert_eq!(second.around("of the second"), ["bulkhead_call"]);
    assert_eq!(first.events().len(), 0);
    assert_eq!((first.calls().len(), second.calls().len()), (2, 2));
    assert_eq!((first.entered(), second.entered()), (0, 0));
    assert_eq!((first.open(), second.open()), (0, 0));
}

#[test]
fn a_worker_has_its_own_subscriber_and_span_back() {
    use std::cell::RefCell;
    thread_local! {
        static OWN: RefCell<Option<(tracing::span::EnteredSpan, tracing::subscriber::DefaultGuard)>> =
            const { RefCell::new(None) };
    }
    let workers = Seen::default();
    let of_worker = workers.clone();
    let pool = Bulkhead::builder(config(1, 1))
        .on_worker_start(move |_| {
            use tracing_subscriber::layer::SubscriberExt;
            let subscriber = tracing_subscriber::registry().with(of_worker.clone());
            let default = tracing::subscriber::set_default(subscriber);
            OWN.set(Some((info_span!("worker").entered(), default)));
        })
        .on_worker_stop(|_| {
            tracing::info!("stops");
            // The span before its subscriber.
            let own = OWN.take().expect("it has started");
            drop(own.0);
            drop(own.1);
        })
        .build()
        .unwrap();
    let callers = Seen::during(|| drop(wait(pool.run(|| tracing::info!("the caller's")))));
    assert_eq!(callers.around("the caller's"), ["bulkhead_call"]);
    pool.shutdown();
    let workers_own = workers.around("stops");
    assert_eq!(workers_own, ["worker"]);
    assert_eq!(workers.events().len(), 1);
}

#[test]
fn calls_that_a_task_makes_are_its_children_also_on_other_bulkheads() {
    let (outer, inner) = (bulkhead(1, 1), Arc::new(bulkhead(1, 1)));
    let here = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            drop(wait(outer.run(move || {
                drop(here.run(|| drop(inner.run(|| tracing::info!("deep")).wait())));
            })));
        });
    });
    let call = "bulkhead_call";
    assert_eq!(seen.around("deep"), ["request", call, call, call]);
}

#[test]
fn a_task_that_a_waiting_worker_runs_has_its_own_callers_span() {
    let pool = Arc::new(bulkhead(1, 2));
    let [outer, other] = [(); 2].map(|()| Seen::default());
    let (gate, inner) = (Gate::new(), Arc::clone(&pool));
    let _opener = OpenOnDrop(gate.clone());
    let (at_gate, handed_over) = std::sync::mpsc::channel::<bulkman::ExecutionHandle<_, _>>();
    let handle = outer.on(|| {
        let gate = gate.clone();
        pool.run(move || {
            gate.pass();
            let others = handed_over.recv().unwrap();
            tracing::info!("before");
            drop(others.wait());
            tracing::info!("after");
        })
    });
    gate.wait_for_arrivals(1);
    let others = other.on(|| info_span!("other").in_scope(|| inner.run(|| tracing::info!("in"))));
    at_gate.send(others).unwrap();
    gate.open();
    drop(wait(handle));
    assert_eq!(outer.around("before"), ["bulkhead_call"]);
    assert_eq!(outer.around("after"), ["bulkhead_call"]);
    assert_eq!(outer.events().len(), 2);
    assert_eq!(other.around("in"), ["other", "bulkhead_call"]);
}

#[test]
fn wrapped_functions_maps_and_streams_carry_it() {
    let pool = bulkhead(2, 4);
    let wrapped = pool.wrap(|text: &'static str| {
        tracing::info!("{text}");
        Ok::<_, ()>(())
    });
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            drop(wrapped("wrapped"));
            let map = pool.run_map(["mapped"], |text| tracing::info!("{text}"));
            assert_eq!(map.count(), 1);
            let stream = pool.execute_stream(|sink| {
                tracing::info!("streamed");
                let _ = sink.send(1);
                Ok::<_, ()>(())
            });
            drop(stream.into_iter().collect::<Vec<_>>());
        });
    });
    for text in ["wrapped", "mapped", "streamed"] {
        assert_eq!(seen.around(text), ["request", "bulkhead_call"], "{text}");
    }
    assert!(
        seen.calls()
            .iter()
            .all(|call| call.parent == Some("request"))
    );
}

#[test]
fn each_attempt_of_a_retry_and_each_fallback_is_in_the_callers_trace() {
    let (pool, other) = (bulkhead(1, 1), Arc::new(bulkhead(1, 1)));
    let retry = Retry::new(3).retry_if(|_: &BulkheadError<&str>| true);
    let retry = retry.first_delay(std::time::Duration::from_nanos(1));
    let fallback = Fallback::bulkhead(other, || Ok::<_, &str>("the other"));
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            let attempts =
                || retry.call(|| pool.execute(|| Err::<&str, _>("no")).wait().into_result());
            assert_eq!(fallback.call(attempts).unwrap(), "the other");
        });
    });
    let calls = seen.calls();
    let calls: Vec<_> = calls
        .iter()
        .map(|call| (call.parent.unwrap(), call.field("outcome")))
        .collect();
    let expected = [
        ("retry_call", "failed"),
        ("retry_call", "failed"),
        ("retry_call", "failed"),
        ("fallback_call", "succeeded"),
    ];
    assert_eq!(calls, expected);
    assert_eq!(seen.only("retry_call").parent, Some("fallback_call"));
    assert_eq!(seen.only("fallback_call").parent, Some("request"));
}

#[test]
fn many_callers_at_once_each_have_their_own() {
    let pool = bulkhead(4, 400);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        for caller in 0..4_u32 {
            let (pool, seen) = (&pool, seen.clone());
            scope.spawn(move || {
                seen.on(|| {
                    for round in 0..50 {
                        let number = caller * 100 + round;
                        let span = info_span!("request", number);
                        let task = move || number;
                        let call = pool.call().operation(number.to_string());
                        assert_eq!(
                            span.in_scope(|| wait(call.run(task))).value(),
                            Some(&number)
                        );
                    }
                });
            });
        }
    });
    let calls = seen.calls();
    assert_eq!(calls.len(), 200);
    for call in calls {
        assert_eq!(call.parent_number.as_deref(), Some(call.field("operation")));
    }
}

#[test]
fn listeners_hear_of_start_and_end_inside_the_span() {
    let pool = Bulkhead::builder(config(1, 1))
        .on_event(|event| match event {
            BulkheadEvent::Started { .. } => tracing::info!("start"),
            BulkheadEvent::Finished { .. } => tracing::info!("end"),
            _ => {}
        })
        .build()
        .unwrap();
    let seen = Seen::during(|| drop(wait(pool.run(|| ()))));
    assert_eq!(seen.around("start"), ["bulkhead_call"]);
    assert_eq!(seen.around("end"), ["bulkhead_call"]);
}

#[test]
fn a_propagator_of_the_users_own_comes_on_top() {
    let pool = Bulkhead::builder(config(1, 1))
        .context_propagator(|| {
            let span = tracing::Span::current();
            move || span.entered()
        })
        .build()
        .unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| drop(wait(pool.run(|| tracing::info!("task")))));
    });
    assert!(seen.around("task").contains(&"request"));
    assert_eq!(seen.call().parent, Some("request"));
}

#[test]
fn a_detached_call_begins_a_trace_that_follows_from_its_callers() {
    let (pool, jobs) = (bulkhead(1, 1), Arc::new(bulkhead(1, 1)));
    let inner = Arc::clone(&jobs);
    let seen = Seen::during(|| {
        drop(wait(pool.run(move || {
            drop(inner.call().detached().run(|| tracing::info!("job")));
        })));
        assert!(jobs.wait_idle(PATIENCE));
    });
    assert_eq!(seen.around("job"), ["bulkhead_call"]);
    let calls = seen.calls();
    assert!(calls.iter().all(|call| call.parent.is_none()));
    let follows: Vec<_> = calls.iter().flat_map(|call| &call.follows).collect();
    assert_eq!(follows, [&"bulkhead_call"]);
}

#[test]
fn a_job_that_submits_itself_again_keeps_no_span_of_those_before_it() {
    fn job(jobs: &Arc<Bulkhead>, seen: &Seen, left: usize) {
        assert!(seen.open() <= 3, "{}", seen.open());
        if left > 0 {
            let (again, open) = (Arc::clone(jobs), seen.clone());
            let call = jobs.call().detached();
            drop(call.run(move || job(&again, &open, left - 1)));
        }
    }
    let jobs = Arc::new(bulkhead(1, 1));
    let seen = Seen::during(|| {});
    seen.on(|| {
        let (again, open) = (Arc::clone(&jobs), seen.clone());
        drop(jobs.run(move || job(&again, &open, 50)));
    });
    assert!(jobs.wait_idle(PATIENCE));
    assert_eq!(jobs.stats().successful_executions, 51);
    assert_eq!(seen.calls().len(), 51);
}

#[test]
fn callbacks_for_the_end_find_the_span_ended() {
    let pool = bulkhead(1, 1);
    let seen = Seen::default();
    let (told, at_end) = (seen.clone(), Arc::new(std::sync::Mutex::new(None)));
    let noted = Arc::clone(&at_end);
    seen.on(|| {
        let handle = pool.run(|| ());
        handle.on_finish(move |summary| {
            assert_eq!(summary.outcome, CallOutcome::Succeeded);
            *noted.lock().unwrap() = Some(told.calls().len());
        });
        assert!(wait(handle).is_success());
    });
    eventually("the callback", || at_end.lock().unwrap().is_some());
    assert_eq!(*at_end.lock().unwrap(), Some(1));
}

//! The name of an operation, which its task can read.

use std::fmt::{self, Display};

use bulkman::{Bulkhead, BulkheadConfig, ExecutionResult, SemaphoreBulkhead};

use crate::support::{bulkhead, config, occupy, wait};

#[test]
fn a_task_can_read_its_operation_and_its_bulkheads_name() {
    let bulkhead = bulkhead(1, 1);
    let read = || {
        let call = bulkman::current().expect("in a task");
        (
            call.operation().map(str::to_owned),
            call.bulkhead_name().to_owned(),
        )
    };
    let test = || "test".to_owned();
    assert_eq!(wait(bulkhead.run(read)).value(), Some(&(None, test())));
    let fixed = bulkhead.call().operation("get_user").run(read);
    assert_eq!(
        wait(fixed).value(),
        Some(&(Some("get_user".to_owned()), test()))
    );
    let made_up = bulkhead.call().operation(format!("get_{}", 7)).run(read);
    assert_eq!(
        wait(made_up).value(),
        Some(&(Some("get_7".to_owned()), test()))
    );
}

#[test]
fn the_result_has_the_operation_of_a_call_that_was_admitted() {
    let bulkhead = bulkhead(1, 1);
    let named = |name: &'static str| bulkhead.call().operation(name);
    assert_eq!(wait(bulkhead.run(|| ())).operation, None);
    let ran = wait(named("fixed").run(|| ()));
    assert_eq!(ran.operation.as_deref(), Some("fixed"));
    let made_up = bulkhead.call().operation(format!("get_{}", 7));
    let ran = wait(made_up.execute(|| Err::<(), _>(())));
    assert_eq!(ran.operation.as_deref(), Some("get_7"));

    let busy = occupy(&bulkhead, 1);
    let queued = named("queued").run(|| ());
    let refused = wait(named("refused").run(|| ()));
    assert_eq!(refused.operation, None);
    assert!(queued.cancel());
    assert_eq!(wait(queued).operation.as_deref(), Some("queued"));
    busy.finish();

    let semaphore = SemaphoreBulkhead::new(config(1, 0)).unwrap();
    let ran = semaphore.call().operation("here").run(|| ());
    assert_eq!(ran.operation.as_deref(), Some("here"));
    let _ = semaphore.shutdown();
    let refused = semaphore.call().operation("refused").run(|| ());
    assert_eq!(refused.operation, None);
}

/// An error with a longer form.
struct Chain;

impl Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if f.alternate() {
            "no\nrows: disk"
        } else {
            "no\nrows"
        })
    }
}

#[test]
fn a_result_describes_itself_on_one_line_for_a_log() {
    fn around<T, E: Display>(result: &ExecutionResult<T, E>, operation: &str) -> (String, String) {
        let tail = format!(
            "{operation}queued {:.1?}, ran {:.1?}, id {})",
            result.queued_time, result.execution_time, result.execution_id
        );
        let head = |line: String| line.strip_suffix(&tail).expect("the tail").to_owned();
        let (short, long) = (
            result.describe().to_string(),
            format!("{:#}", result.describe()),
        );
        assert_eq!(format!("{:?}", result.describe()), short);
        (head(short), head(long))
    }
    let both = |line: &str| (line.to_owned(), line.to_owned());

    let bulkhead = Bulkhead::new(BulkheadConfig::new("db").max_concurrent_calls(1)).unwrap();
    let succeeds = wait(bulkhead.call().operation("get\nuser").run(|| ()));
    assert_eq!(
        around(&succeeds, "operation `get\\nuser`, "),
        both("bulkhead `db`: the task succeeded (")
    );
    let fails = wait(bulkhead.execute(|| Err::<(), _>(Chain)));
    assert_eq!(
        around(&fails, ""),
        (
            r"bulkhead `db`: the task failed: no\nrows (".to_owned(),
            r"bulkhead `db`: the task failed: no\nrows: disk (".to_owned()
        )
    );
    let panics = wait(bulkhead.run(|| panic!("no\u{1b} luck")));
    assert_eq!(
        around::<(), _>(&panics, ""),
        both(r"bulkhead `db`: the task panicked: no\u{1b} luck (")
    );
    let _ = bulkhead.shutdown();
    let refused = wait(bulkhead.run(|| ()));
    assert_eq!(around(&refused, ""), both("bulkhead `db` is shut down ("));
}

//! The name of an operation, which its task can read.

use crate::support::{bulkhead, wait};

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

//! What both kinds of bulkhead have in common: the way in, the run, the numbers around it, and the end.
//!
//! | file | job |
//! |---|---|
//! | `engine` | what a bulkhead is: configuration, permits, ledger, circuit, listeners |
//! | `permit` | the one count that decides who gets in |
//! | `admission` | the order of the checks on the way in, and where a refused call is counted |
//! | `saturation`, `rejection_log` | what is told and logged of refusals: when the bulkhead is full and has room again, and how many |
//! | `call`, `call_options`, `call_data` | what a call asks for, and what it has once it is admitted |
//! | `execute`, `outcome`, `failure` | what is counted and told around a task, and how it ended |
//! | `circuit_ticket` | what the circuit hears of a call, and whether a queued call may still start |
//! | `running_slot` | which call runs in which of the N slots, for reports |
//! | `this_thread`, `current`, `job` | which call this thread runs, and what a task can ask about it |
//! | `inherited` | the deadline and the cancel that a call has from the task that makes it |
//! | `change` | how N, Q, the limits in time, health thresholds and the rules of the circuit change while a bulkhead works |
//! | `shutdown` | the end |
//! | `kind`, `builder` | the two kinds of bulkhead, and how one is built |

mod admission;
mod builder;
mod call;
mod call_data;
mod call_options;
mod change;
mod circuit_ticket;
mod current;
mod engine;
mod execute;
mod failure;
mod inherited;
mod job;
mod kind;
mod outcome;
mod permit;
mod rejection_log;
mod resizes;
mod running_slot;
mod saturation;
mod shutdown;
mod this_thread;

pub use builder::BulkheadBuilder;
pub use call::Call;
pub use current::{CancelReason, CurrentExecution, current};
pub use failure::{ClassifyWith, EveryError, FailureClassifier, FailureIf};
pub use kind::{SemaphoreKind, ThreadPoolKind};
pub use shutdown::{RunningTask, ShutdownReport};

pub(crate) use admission::{
    Admitted, Refusal, admit, admit_if_room, check_circuit, refuse_without_slot, reject,
    tell_admitted,
};
pub(crate) use call_data::{BulkheadView, CallData, CallView, RunningCall, new_execution_id};
pub(crate) use call_options::CallOptions;
pub(crate) use change::{
    ResizeTarget, resize, set_circuit_breaker, set_execution_timeout, set_health_thresholds,
    set_queue_timeout,
};
pub(crate) use circuit_ticket::RETRY_SOON;
pub(crate) use engine::{Engine, EngineHooks};
pub(crate) use execute::{
    Execution, caller_timed_out, drop_unstarted, execute, execute_with, judge, release_unstarted,
    run_task,
};
pub(crate) use failure::JudgedResult;
pub(crate) use job::Job;
pub(crate) use kind::Kind;
pub(crate) use outcome::{EndReason, Ending, Outcome};
pub(crate) use permit::{Limits, Permit};
pub(crate) use running_slot::{Shown, SlotData};
pub(crate) use shutdown::{
    ShutdownTarget, WaitLimit, begin_shutdown, finish_shutdown, shut_down, wait_closed, wait_idle,
};
pub(crate) use this_thread::{
    OtherCalls, ThisThread, be_worker_no_more, become_worker, begin_guard, end_guard,
    may_have_a_call, nested_calls_of_this_thread, next_serial, other_calls, run_for_caller,
    run_job, run_nested, slot_of_this_thread, this_worker, while_holding_permit,
};

//! The log's lines about single calls, at the level trace.

use log::{LevelFilter, STATIC_MAX_LEVEL};

use super::{BulkheadEvent, CallInfo, FinishedOutcome};
use crate::panic::note;
use crate::text::OneLine;

/// Whether the log takes lines of this level: one load of a number that hardly ever changes.
#[inline]
pub(crate) fn is_on() -> bool {
    STATIC_MAX_LEVEL == LevelFilter::Trace && log::max_level() == LevelFilter::Trace
}

/// A line for an event of a single call. Events of the whole bulkhead are logged where they happen, at other levels.
#[cold]
pub(crate) fn write(event: &BulkheadEvent<'_>) {
    note(|| match event {
        BulkheadEvent::Admitted { call } => of_call(call, format_args!("admitted")),
        BulkheadEvent::Rejected { reason, operation } => {
            let bulkhead = &**reason.bulkhead();
            let operation = operation.unwrap_or("");
            log::trace!(target: "bulkman", bulkhead = bulkhead, operation = operation; "{reason}");
        }
        BulkheadEvent::Started { call, queued_time } => {
            of_call(call, format_args!("started after {queued_time:?}"));
        }
        BulkheadEvent::Finished {
            call,
            outcome,
            queued_time,
            execution_time,
        } => of_call(
            call,
            format_args!(
                "{} in {execution_time:?}, after {queued_time:?} in the queue",
                in_words(*outcome)
            ),
        ),
        BulkheadEvent::Expired { call, queued_time } => {
            of_call(call, format_args!("expired after {queued_time:?}"));
        }
        BulkheadEvent::Cancelled { call, queued_time } => {
            of_call(call, format_args!("cancelled after {queued_time:?}"));
        }
        BulkheadEvent::RefusedInQueue {
            call, queued_time, ..
        } => of_call(
            call,
            format_args!("refused by the open circuit after {queued_time:?}"),
        ),
        BulkheadEvent::TooDeep {
            call,
            max_nested_calls,
            ..
        } => of_call(
            call,
            format_args!("refused beyond {max_nested_calls} nested calls"),
        ),
        BulkheadEvent::NoThread { call, kind, .. } => of_call(
            call,
            format_args!("ended, since the system refused a thread: {kind}"),
        ),
        BulkheadEvent::CallerTimedOut {
            call,
            limit,
            started,
        } => {
            let state = if *started { "runs on" } else { "never started" };
            of_call(
                call,
                format_args!("{state}, its caller has left after {limit:?}"),
            );
        }
        BulkheadEvent::Abandoned { call, running_for } => {
            of_call(
                call,
                format_args!("abandoned after {running_for:?}, and runs on"),
            );
        }
        BulkheadEvent::CircuitChanged { .. }
        | BulkheadEvent::StorageTroubleBegan { .. }
        | BulkheadEvent::StorageTroubleEnded { .. }
        | BulkheadEvent::SaturationBegan { .. }
        | BulkheadEvent::SaturationEnded { .. }
        | BulkheadEvent::Resized { .. }
        | BulkheadEvent::ShuttingDown { .. }
        | BulkheadEvent::CancellingQueue { .. }
        | BulkheadEvent::ShutDown { .. } => {}
    });
}

fn in_words(outcome: FinishedOutcome) -> &'static str {
    match outcome {
        FinishedOutcome::Succeeded => "succeeded",
        FinishedOutcome::Failed => "failed",
        FinishedOutcome::Panicked => "panicked",
    }
}

fn of_call(call: &CallInfo<'_>, what: std::fmt::Arguments<'_>) {
    let CallInfo {
        bulkhead,
        execution_id,
        operation,
    } = *call;
    let operation = operation.unwrap_or("");
    let between = if operation.is_empty() { "" } else { " " };
    log::trace!(
        target: "bulkman",
        bulkhead = bulkhead, operation = operation, execution_id:% = execution_id;
        "bulkhead `{bulkhead}`: {execution_id}{between}{}: {what}", OneLine(operation)
    );
}

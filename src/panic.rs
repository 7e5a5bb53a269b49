//! The one place that knows panics: user code runs, and is dropped, behind these functions.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// What a task panicked with.
///
/// The payload is whatever was given to `panic!` or [`std::panic::panic_any`]. Dropping a `Panic`
/// drops the payload.
pub struct Panic {
    bulkhead: Arc<str>,
    message: Box<str>,
    // The mutex makes the payload, which is only `Send`, shareable: an error ought to be `Sync`.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(bulkhead: Arc<str>, payload: Box<dyn Any + Send>) -> Self {
        Self {
            bulkhead,
            message: message(&*payload).into(),
            payload: Mutex::new(payload),
        }
    }

    /// The panic's message; a fixed phrase if the payload is not a string. It is for logs: it may name files, values and
    /// secrets of the program.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The name of the bulkhead that the task ran in.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        &self.bulkhead
    }

    /// The payload itself, to downcast.
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }

    /// Goes on with the panic in this thread, as [`JoinHandle::join`](std::thread::JoinHandle::join)
    /// plus [`resume_unwind`] would.
    ///
    /// # Panics
    ///
    /// Always: that is its job.
    pub fn resume(self) -> ! {
        resume(self.into_payload())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("bulkhead", &self.bulkhead)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// Says that the task panicked, and not with what: such a text is often sent on to clients.
impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bulkhead `{}`: the task panicked", self.bulkhead)
    }
}

/// What a panic says.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a payload that is not a string"
    }
}

/// Whether this thread unwinds at this moment.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// Runs a task's body; a panic becomes the payload.
pub(crate) fn catch<R>(body: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // The caller gets either the value or the payload, never both, and everything that the body
    // could have left half-done was moved into it or is shared by the user's own choice.
    catch_unwind(AssertUnwindSafe(body))
}

/// Lets a caught panic go on.
pub(crate) fn resume(payload: Box<dyn Any + Send>) -> ! {
    resume_unwind(payload)
}

/// Runs a piece of user code that only watches or is dropped; a panic is logged and ends there.
pub(crate) fn contain<R>(
    bulkhead: impl fmt::Display,
    what: &str,
    body: impl FnOnce() -> R,
) -> Option<R> {
    contain_in("bulkhead", bulkhead, what, body)
}

/// As [`contain`], for user code of something that is no bulkhead.
pub(crate) fn contain_in<R>(
    owner: &str,
    name: impl fmt::Display,
    what: &str,
    body: impl FnOnce() -> R,
) -> Option<R> {
    match catch(body) {
        Ok(value) => Some(value),
        Err(payload) => {
            note(
                || log::error!(target: "bulkman", "{owner} `{name}`: {what} panicked; the panic is contained"),
            );
            discard(payload);
            None
        }
    }
}

/// As [`contain`], for a piece of user code that runs again and again. Only its first panic is logged: `has_panicked` keeps
/// that in mind.
pub(crate) fn contain_repeated(
    has_panicked: &AtomicBool,
    bulkhead: &str,
    what: &str,
    body: impl FnOnce(),
) {
    if let Err(payload) = catch(body) {
        // ORDERING: Relaxed. The flag hands nothing over.
        if !has_panicked.swap(true, Ordering::Relaxed) {
            note(|| {
                log::error!(
                    target: "bulkman", bulkhead = bulkhead;
                    "bulkhead `{bulkhead}`: {what} panicked; the panic is contained, and further ones of it are not logged"
                );
            });
        }
        discard(payload);
    }
}

/// Writes to the log, which is user code too: a logger that panics is none of the caller's business.
pub(crate) fn note(write: impl FnOnce()) {
    if let Err(payload) = catch(write) {
        discard(payload);
    }
}

/// Drops a panic payload, whose own `Drop` may panic again: that second payload is leaked, since
/// nothing says that a third would behave.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch(move || drop(payload)) {
        std::mem::forget(again);
    }
}

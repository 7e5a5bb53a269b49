//! Waiting for any or all of calls whose results may be of different types.

#![expect(
    private_bounds,
    reason = "handles of this crate are waitable, and nothing else"
)]

use std::task::Waker;
use std::time::{Duration, Instant};

use super::watch::{Watch, deadline};
use crate::thread_pool::handle::{CancelOnDrop, ExecutionHandle, Watched};

/// A handle, whatever the type of its result: what [`wait_any`] and [`wait_all`] take.
///
/// An [`ExecutionHandle`] and a [`CancelOnDrop`] are waitable, and so is `&mut dyn Waitable` for handles of different
/// types.
pub trait Waitable: Watchable {
    /// As [`ExecutionHandle::is_finished`].
    fn is_finished(&self) -> bool;

    /// As [`ExecutionHandle::cancel`].
    fn cancel(&self) -> bool;
}

/// The part of it that is the crate's own.
pub(super) trait Watchable {
    fn watch(&mut self, waker: &Waker) -> Watched;
    fn wants_help(&self) -> bool;
    fn help(&self);
}

impl<T, E> Waitable for ExecutionHandle<T, E> {
    fn is_finished(&self) -> bool {
        self.is_finished()
    }

    fn cancel(&self) -> bool {
        self.cancel()
    }
}

impl<T, E> Watchable for ExecutionHandle<T, E> {
    fn watch(&mut self, waker: &Waker) -> Watched {
        self.watch(waker)
    }

    fn wants_help(&self) -> bool {
        self.wants_help()
    }

    fn help(&self) {
        self.help();
    }
}

impl<T, E> Waitable for CancelOnDrop<T, E> {
    fn is_finished(&self) -> bool {
        self.is_finished()
    }

    fn cancel(&self) -> bool {
        self.cancel()
    }
}

impl<T, E> Watchable for CancelOnDrop<T, E> {
    fn watch(&mut self, waker: &Waker) -> Watched {
        self.inner_mut().watch(waker)
    }

    fn wants_help(&self) -> bool {
        self.inner().wants_help()
    }

    fn help(&self) {
        self.inner().help();
    }
}

/// Waits until one of the calls has ended, and tells which: its position among the `handles`, the first if there are
/// several. `None` if there are no handles. Python's `wait(.., return_when=FIRST_COMPLETED)`.
///
/// The handles keep their results, so that waiting for the one that it names does not block. It waits as
/// [`ExecutionHandle::wait`] does: a call ends at its queue timeout and at its caller's limit, and on a worker of the same
/// bulkhead it runs a call that is still queued.
///
/// Each time it looks at all handles. To take the results of many calls one by one, use a
/// [`HandleSet`](crate::HandleSet).
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, Waitable, wait_any};
///
/// let shop = Bulkhead::new(BulkheadConfig::new("shop"))?;
/// let stock = Bulkhead::new(BulkheadConfig::new("stock"))?;
/// let mut price = shop.execute(|| "3.50".parse::<f64>());
/// let mut count = stock.run(|| 12);
///
/// let both: [&mut dyn Waitable; 2] = [&mut price, &mut count];
/// match wait_any(both) {
///     Some(0) => println!("the price came first: {:?}", price.wait().into_result()?),
///     _ => println!("the stock came first: {}", count.wait().into_result()?),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any<'a, W>(handles: impl IntoIterator<Item = &'a mut W>) -> Option<usize>
where
    W: Waitable + ?Sized + 'a,
{
    wait_for_one(handles.into_iter().collect(), None)
}

/// As [`wait_any`], at the longest for `limit` by the system's clock; `None` then too. A limit beyond what the clock can
/// hold means for ever. The calls go on.
pub fn wait_any_timeout<'a, W>(
    handles: impl IntoIterator<Item = &'a mut W>,
    limit: Duration,
) -> Option<usize>
where
    W: Waitable + ?Sized + 'a,
{
    wait_for_one(handles.into_iter().collect(), deadline(limit))
}

/// Waits until all calls have ended. Python's `wait(.., return_when=ALL_COMPLETED)`.
///
/// The handles keep their results, so that waiting for each does not block. It waits as [`wait_any`] does. So a caller's
/// limit ends its call at that moment, whatever the others do.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, wait_all_timeout};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("parts"))?;
/// let mut parts: Vec<_> = (0..3).map(|part| bulkhead.run(move || part)).collect();
///
/// // All within one limit, and then what there is.
/// if !wait_all_timeout(&mut parts, Duration::from_secs(5)) {
///     println!("some are late");
/// }
/// let (done, late): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.is_finished());
/// # assert!(late.is_empty());
/// for part in done {
///     println!("{}", part.wait().into_result()?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_all<'a, W>(handles: impl IntoIterator<Item = &'a mut W>)
where
    W: Waitable + ?Sized + 'a,
{
    let _all = wait_for_all(handles.into_iter().collect(), None);
}

/// As [`wait_all`], at the longest for `limit` by the system's clock, and tells whether all calls have ended. A limit
/// beyond what the clock can hold means for ever. Calls that have not ended go on.
#[must_use = "some of the calls may not have ended"]
pub fn wait_all_timeout<'a, W>(
    handles: impl IntoIterator<Item = &'a mut W>,
    limit: Duration,
) -> bool
where
    W: Waitable + ?Sized + 'a,
{
    wait_for_all(handles.into_iter().collect(), deadline(limit))
}

fn wait_for_one<W>(mut handles: Vec<&mut W>, until: Option<Instant>) -> Option<usize>
where
    W: Waitable + ?Sized,
{
    let finished = |handles: &[&mut W]| handles.iter().position(|handle| handle.is_finished());
    if let Some(index) = finished(&handles) {
        return Some(index);
    }
    for handle in &handles {
        // Another worker may take a call just before this one helps, and then wait for the next of them.
        if handle.wants_help() {
            handle.help();
            if handle.is_finished() {
                break;
            }
        }
    }
    Watching::new(&mut handles).next(until)?;
    // The first, if several have ended meanwhile.
    finished(&handles)
}

fn wait_for_all<W>(mut handles: Vec<&mut W>, until: Option<Instant>) -> bool
where
    W: Waitable + ?Sized,
{
    handles.retain(|handle| !handle.is_finished());
    for handle in &handles {
        if handle.wants_help() && until.is_none_or(|until| crate::sync::now() < until) {
            handle.help();
        }
    }
    let mut left = handles.len();
    let mut watching = Watching::new(&mut handles);
    while left > 0 && watching.next(until).is_some() {
        left -= 1;
    }
    left == 0
}

/// Handles that a thread waits for.
struct Watching<'a, 'b, W: ?Sized> {
    handles: &'a mut [&'b mut W],
    watch: Watch,
    states: Vec<State>,
}

/// One of the handles.
struct State {
    waker: Waker,
    look_at: Option<Instant>,
    /// It has been found to have its result.
    is_over: bool,
}

impl<'a, 'b, W: Waitable + ?Sized> Watching<'a, 'b, W> {
    fn new(handles: &'a mut [&'b mut W]) -> Self {
        let watch = Watch::default();
        let state = |number| {
            // The first look is at all of them.
            watch.mark_ready(number);
            State {
                waker: watch.waker(number),
                look_at: None,
                is_over: false,
            }
        };
        let states = (0..handles.len() as u64).map(state).collect();
        Self {
            handles,
            watch,
            states,
        }
    }

    /// Waits for the next one that has its result.
    fn next(&mut self, until: Option<Instant>) -> Option<usize> {
        if self.handles.is_empty() {
            return None;
        }
        loop {
            while let Some(number) = self.watch.take() {
                let index = usize::try_from(number).ok()?;
                if self.look(index) {
                    return Some(index);
                }
            }
            if !self.watch.wait(until) {
                return None;
            }
        }
    }

    /// Whether the handle has its result now, and had not before.
    fn look(&mut self, index: usize) -> bool {
        let state = &mut self.states[index];
        if state.is_over {
            return false;
        }
        let handle = &mut self.handles[index];
        let found = if handle.is_finished() {
            Watched::Ready
        } else {
            handle.watch(&state.waker)
        };
        let look_at = match found {
            Watched::Pending { look_at } => look_at,
            Watched::Ready => {
                state.is_over = true;
                None
            }
        };
        self.watch.look_at(index as u64, state.look_at, look_at);
        state.look_at = look_at;
        state.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A queued call of this worker's bulkhead.
    struct Call {
        /// Another worker takes it just before this one helps.
        is_taken: bool,
        was_helped: Cell<bool>,
    }

    impl Call {
        fn new(is_taken: bool) -> Self {
            Self {
                is_taken,
                was_helped: Cell::new(false),
            }
        }
    }

    impl Waitable for Call {
        fn is_finished(&self) -> bool {
            self.was_helped.get() && !self.is_taken
        }

        fn cancel(&self) -> bool {
            false
        }
    }

    impl Watchable for Call {
        fn watch(&mut self, _: &Waker) -> Watched {
            if self.is_finished() {
                Watched::Ready
            } else {
                Watched::Pending { look_at: None }
            }
        }

        fn wants_help(&self) -> bool {
            !self.was_helped.get()
        }

        fn help(&self) {
            self.was_helped.set(true);
        }
    }

    /// The call that was taken may wait for the other one.
    #[test]
    fn a_worker_helps_with_the_next_call_when_one_is_taken() {
        let mut calls = [true, false, false].map(Call::new);
        let found = wait_any_timeout(&mut calls, Duration::from_secs(60));
        assert_eq!(found, Some(1));
        assert!(!calls[2].was_helped.get(), "one is enough");
    }
}

//! A call for each item of an iterator, so many at a time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Duration;

use super::set::HandleSet;
use crate::core::{Call, EveryError, FailureClassifier, ThreadPoolKind};
use crate::result::ExecutionResult;
use crate::thread_pool::bulkhead::Bulkhead;
use crate::thread_pool::handle::ExecutionHandle;

impl Bulkhead {
    /// Calls `f` for each item, so many at a time, and gives the results in the order of the items. Python's
    /// `executor.map(f, items, buffersize=n)`.
    ///
    /// It takes items from the input only as there is room for them, so the input may be endless, and nothing is refused
    /// because the bulkhead is full. See [`ExecuteMap`], also for how many calls are in flight and for results as they come.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("parser").max_concurrent_calls(2))?;
    /// let lines = (0..1_000).map(|n| n.to_string());
    /// let mut sum = 0;
    /// for result in bulkhead.execute_map(lines, |line| line.parse::<u64>()) {
    ///     sum += result.into_result()?;
    /// }
    /// assert_eq!(sum, 499_500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_map<I, T, E, F>(&self, items: I, f: F) -> ExecuteMap<I::IntoIter, T, E>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call().execute_map(items, f)
    }

    /// As [`execute_map`](Self::execute_map), for an `f` that cannot fail by itself.
    pub fn run_map<I, T, F>(&self, items: I, f: F) -> ExecuteMap<I::IntoIter, T, Infallible>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        self.call().run_map(items, f)
    }
}

/// A call on a worker thread for each of many items.
impl<C> Call<'_, ThreadPoolKind, C> {
    /// Calls `f` for each item, with these settings for each call. As [`Bulkhead::execute_map`](crate::Bulkhead::execute_map).
    ///
    /// [`wait_for_capacity`](Self::wait_for_capacity) limits how long an item waits for a place while no other call of this
    /// iterator is in flight. Without it the item waits until there is one.
    pub fn execute_map<I, T, E, F>(self, items: I, f: F) -> ExecuteMap<I::IntoIter, T, E>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + Sync + 'static,
    {
        let inner = Arc::clone(self.inner);
        let max_concurrent_calls = inner.engine.limits().max_concurrent_calls;
        let options = self.options;
        let shared = Arc::new((self.classifier, f));
        let submit = move |item: I::Item, how: Submit| {
            let call = Call {
                inner: &inner,
                options: options.clone(),
                classifier: EveryError,
            };
            let shared = Arc::clone(&shared);
            match how {
                Submit::IfThereIsRoom => call.execute_item_if_room(item, shared),
                Submit::Waiting => {
                    let limit = options.wait_for_capacity.unwrap_or(Duration::MAX);
                    Ok(call.wait_for_capacity(limit).execute_item(item, shared))
                }
            }
        };
        ExecuteMap {
            items: items.into_iter(),
            is_at_end: false,
            next_item: None,
            submit: Box::new(submit),
            in_flight: max_concurrent_calls.saturating_mul(2),
            is_ordered: true,
            calls: HandleSet::new(),
            results: VecDeque::new(),
            first: 0,
        }
    }

    /// As [`execute_map`](Self::execute_map), for an `f` that cannot fail by itself.
    pub fn run_map<I, T, F>(self, items: I, f: F) -> ExecuteMap<I::IntoIter, T, Infallible>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let call = Call {
            inner: self.inner,
            options: self.options,
            classifier: EveryError,
        };
        call.execute_map(items, move |item| Ok(f(item)))
    }
}

/// What to do with an item for which the bulkhead has no room.
#[derive(Clone, Copy)]
enum Submit {
    /// It comes back.
    IfThereIsRoom,
    /// It waits for a place.
    Waiting,
}

type SubmitFn<A, T, E> = dyn FnMut(A, Submit) -> Result<ExecutionHandle<T, E>, A> + Send;

/// The results of a call for each item of an iterator, from [`Bulkhead::execute_map`](crate::Bulkhead::execute_map).
///
/// It is lazy: [`next`](Iterator::next) takes items from the input, submits a call for each, until
/// [`in_flight`](Self::in_flight) of them are out, and waits for a result. The results come in the order of the items; after
/// [`as_completed`](Self::as_completed), as the calls end. There is one result for each item that was taken.
///
/// | | what happens |
/// |---|---|
/// | the bulkhead is full | the item waits, and that counts as no refused call. The calls of others get their places as before |
/// | the circuit is open | the item's result is [`CircuitOpen`](crate::BulkheadError::CircuitOpen), at once; so are those of the items after it, as long as the circuit stays open |
/// | the bulkhead is shut down, or dropped | what was submitted gets its outcome, and each item after that [`ShutDown`](crate::BulkheadError::ShutDown) |
/// | a limit of a call passes | it ends this call, as always |
/// | the input panics | the panic goes to the caller of `next`. If that goes on, the input is at its end, and the results of what was submitted come |
/// | the input blocks | it holds up finished results by two items at most |
///
/// An input that never ends goes on through an open circuit and a shutdown with errors: stop at the error for which you want
/// to stop, for instance by `?`.
///
/// # On a worker of the same bulkhead
///
/// A task of the same bulkhead cannot wait for a place, since the place might be its own. So there an item that finds no
/// place, while no other call of this iterator is in flight, gets [`Full`](crate::BulkheadError::Full). Calls that are queued
/// are run by the waiting task itself, as with a single handle.
///
/// # What dropping it does
///
/// Dropping it cancels the calls in flight: a queued one never runs, a running one is asked to stop. The rest of the input is
/// not taken.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("thumbnails").max_concurrent_calls(2))?;
/// let images = (1_u64..).map(|n| n * 100); // without an end
/// let first_large = bulkhead
///     .run_map(images, |pixels| pixels / 10)
///     .in_flight(4)
///     .as_completed()
///     .filter_map(|result| result.into_result().ok())
///     .find(|thumbnail| *thumbnail > 500);
/// assert!(first_large.is_some());
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use = "it is lazy: nothing is called until results are taken"]
pub struct ExecuteMap<I: Iterator, T, E> {
    items: I,
    is_at_end: bool,
    /// Taken from the input, and there was no room for it.
    next_item: Option<I::Item>,
    submit: Box<SubmitFn<I::Item, T, E>>,
    in_flight: usize,
    is_ordered: bool,
    /// In order, the key is the item's number.
    calls: HandleSet<u64, T, E>,
    /// In order: a place for each item that is out, `None` until its result is there. As completed: results that were
    /// here before that was asked for.
    results: VecDeque<Option<ExecutionResult<T, E>>>,
    /// The number of the first item that is out, in order.
    first: u64,
}

impl<I: Iterator, T, E> ExecuteMap<I, T, E> {
    /// Sets how many calls are out at most: those whose results have not been given yet, whether they are queued, running or
    /// finished. By default twice N, so that as many wait as run. 0 is taken for 1.
    ///
    /// More than N + Q gains nothing, and leaves no place for other callers.
    pub fn in_flight(mut self, calls: usize) -> Self {
        self.in_flight = calls.max(1);
        self
    }

    /// Gives the results as the calls end. One slow call then does not hold up the others.
    ///
    /// Let `f` give what tells the results apart, such as the item itself.
    pub fn as_completed(mut self) -> Self {
        self.is_ordered = false;
        self.results.retain(Option::is_some);
        self
    }

    /// How many calls are out.
    fn out(&self) -> usize {
        if self.is_ordered {
            self.results.len()
        } else {
            self.results.len() + self.calls.len()
        }
    }

    /// Whether a result is there to be given, or probably so.
    fn has_result(&self) -> bool {
        matches!(self.results.front(), Some(Some(_))) || self.calls.has_next()
    }

    /// Submits as many calls as may be out. Beside a result that is there only two: that is enough to get to the full
    /// number, and does not hold up the result for long if the input is slow.
    fn submit(&mut self) {
        let mut submitted = 0;
        while self.out() < self.in_flight && (submitted < 2 || !self.has_result()) {
            let Some(item) = self.take_item() else {
                return;
            };
            let handle = match (self.submit)(item, Submit::IfThereIsRoom) {
                Ok(handle) => handle,
                // The end of a call that is out makes room.
                Err(item) if self.out() > 0 => {
                    self.next_item = Some(item);
                    return;
                }
                Err(item) => match (self.submit)(item, Submit::Waiting) {
                    Ok(handle) => handle,
                    Err(_) => unreachable!("a call that waits for a place is admitted or refused"),
                },
            };
            self.calls
                .insert(self.first + self.results.len() as u64, handle);
            if self.is_ordered {
                self.results.push_back(None);
            }
            submitted += 1;
        }
    }

    fn take_item(&mut self) -> Option<I::Item> {
        if self.next_item.is_some() || self.is_at_end {
            return self.next_item.take();
        }
        // An input that panics is at its end.
        self.is_at_end = true;
        let item = self.items.next();
        self.is_at_end = item.is_none();
        item
    }

    /// In order: the result of the first item, if it is there.
    fn first_result(&mut self) -> Option<ExecutionResult<T, E>> {
        if !matches!(self.results.front(), Some(Some(_))) {
            return None;
        }
        self.first += 1;
        self.results.pop_front().flatten()
    }

    fn next_in_order(&mut self) -> Option<ExecutionResult<T, E>> {
        loop {
            if let Some(result) = self.first_result() {
                return Some(result);
            }
            let (item, result) = self.calls.next()?;
            let place = usize::try_from(item - self.first).ok()?;
            self.results[place] = Some(result);
            if place > 0 {
                // The first item takes longer: the workers need not wait for it.
                self.submit();
            }
        }
    }
}

/// Submits calls and waits for a result, see [`ExecuteMap`].
impl<I: Iterator, T, E> Iterator for ExecuteMap<I, T, E> {
    type Item = ExecutionResult<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.submit();
        if self.is_ordered {
            return self.next_in_order();
        }
        match self.results.pop_front() {
            Some(result) => result,
            None => self.calls.next().map(|(_, result)| result),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let taken = self.out() + usize::from(self.next_item.is_some());
        let (least, most) = if self.is_at_end {
            (0, Some(0))
        } else {
            self.items.size_hint()
        };
        (
            least.saturating_add(taken),
            most.and_then(|most| most.checked_add(taken)),
        )
    }
}

impl<I: Iterator, T, E> FusedIterator for ExecuteMap<I, T, E> {}

impl<I: Iterator, T, E> Drop for ExecuteMap<I, T, E> {
    fn drop(&mut self) {
        self.calls.cancel_all();
    }
}

impl<I: Iterator, T, E> fmt::Debug for ExecuteMap<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteMap")
            .field("in_flight", &self.in_flight)
            .field("is_ordered", &self.is_ordered)
            .field("out", &self.out())
            .finish_non_exhaustive()
    }
}

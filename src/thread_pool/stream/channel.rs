//! The items between a producer and its consumer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::core::CancelReason;
use crate::sync::{self, Condvar, Mutex};

pub(super) struct Channel<I> {
    capacity: usize,
    state: Mutex<State<I>>,
    /// The producer waits here while the channel is full.
    room: Condvar,
    /// The consumer waits here while it is empty.
    news: Condvar,
}

struct State<I> {
    items: VecDeque<I>,
    /// Why it takes no more items.
    closed: Option<CancelReason>,
    /// The producer runs on top of its consumer, so that nobody takes items: it may put in any number.
    is_unbounded: bool,
    /// The call has ended, or the cell has another reason to be looked at.
    call_rang: bool,
    /// The caller's limit, if an item was refused because that had passed.
    cut_off: Option<Duration>,
}

/// The limit of the consumer over queue and run.
///
/// What the call inherits from an outer task is not among it, nor a cancel of that task: the outer task is the consumer, and
/// would take a stream that ends early for a whole one. It goes, or it does not.
#[derive(Clone, Copy)]
pub(super) struct CallerLimit {
    pub(super) limit: Duration,
    pub(super) deadline: Instant,
}

/// What a consumer finds that has waited.
pub(super) enum News<I> {
    Item(I),
    /// The channel is empty, and the call has something to tell.
    CallRang,
    /// The channel is empty, and the time is over.
    Late,
}

impl<I> Channel<I> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: None,
                is_unbounded: false,
                call_rang: false,
                cut_off: None,
            }),
            room: Condvar::new(),
            news: Condvar::new(),
        }
    }

    // ---- the producer

    /// Puts an item in, waiting for room until the caller's limit. Or the item comes back, with the reason.
    pub(super) fn send(
        &self,
        item: I,
        limit: Option<CallerLimit>,
        clock: &Clock,
    ) -> Result<(), (I, CancelReason)> {
        let deadline = limit.map(|limit| limit.deadline);
        let mut state = self.state.lock();
        loop {
            let is_late = deadline.is_some_and(|deadline| clock.now() >= deadline);
            let late = is_late.then_some(CancelReason::DeadlinePassed);
            if let Some(reason) = state.closed.or(late) {
                if reason == CancelReason::DeadlinePassed {
                    state.cut_off = limit.map(|limit| limit.limit);
                }
                return Err((item, reason));
            }
            if state.is_unbounded || state.items.len() < self.capacity {
                state.items.push_back(item);
                drop(state);
                self.news.notify_one();
                return Ok(());
            }
            clock.wait_until(&self.room, &mut state, deadline);
        }
    }

    // ---- the consumer

    /// An item, without waiting.
    pub(super) fn take(&self) -> Option<I> {
        let mut state = self.state.lock();
        let item = state.items.pop_front()?;
        drop(state);
        self.room.notify_one();
        Some(item)
    }

    /// Waits for an item or for the call, at the longest until `until` by the system's clock.
    pub(super) fn wait(&self, until: Option<Instant>) -> News<I> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.room.notify_one();
                return News::Item(item);
            }
            if std::mem::take(&mut state.call_rang) {
                return News::CallRang;
            }
            if until.is_some_and(|until| until <= sync::now()) {
                return News::Late;
            }
            sync::wait_until(&self.news, &mut state, until);
        }
    }

    /// Lets the producer put in any number of items, or not.
    pub(super) fn set_unbounded(&self, is_unbounded: bool) {
        self.state.lock().is_unbounded = is_unbounded;
    }

    /// Takes no more items from here on. A producer that waits for room comes back. The first reason holds.
    pub(super) fn close(&self, reason: CancelReason) {
        self.state.lock().closed.get_or_insert(reason);
        self.room.notify_all();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }

    /// Takes out all items, to be dropped.
    pub(super) fn drain(&self) -> VecDeque<I> {
        std::mem::take(&mut self.state.lock().items)
    }

    /// The caller's limit, if the producer could not put in an item because it had passed.
    pub(super) fn cut_off(&self) -> Option<Duration> {
        self.state.lock().cut_off
    }
}

/// The waker of the call.
impl<I: Send + 'static> Wake for Channel<I> {
    fn wake(self: Arc<Self>) {
        self.state.lock().call_rang = true;
        self.news.notify_one();
    }
}

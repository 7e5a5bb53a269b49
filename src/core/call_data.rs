//! The data of an admitted call, which are the same for all types of calls: its id, its limits, its marks. And the two traits
//! through which its task sees the call and the bulkhead.

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::inherited::{Inherited, OuterCall};
use crate::clock::Clock;
use crate::event::CallInfo;
use crate::sync::{self, AtomicU8, Limit, Ordering, earlier};

pub(crate) struct CallData {
    pub(crate) execution_id: Uuid,
    pub(crate) operation: Option<Cow<'static, str>>,
    pub(crate) admitted_at: Instant,
    pub(crate) queue_timeout: Limit,
    /// The caller's limit over queue and run.
    pub(crate) timeout: Limit,
    /// What was left of `timeout` at `admitted_at`.
    pub(crate) timeout_left: Limit,
    /// From the task that made the call.
    pub(super) inherited: Option<FromOuterCall>,
    marks: AtomicU8,
}

/// Bits of `marks`: a handle has cancelled the call when its task ran already.
const CANCELLED: u8 = 1;
/// The circuit has heard of the call, or is about to.
const JUDGED: u8 = 2;

/// A running call, as other threads see it.
#[derive(Clone)]
pub(crate) struct RunningCall {
    pub(crate) execution_id: Uuid,
    pub(crate) operation: Option<Cow<'static, str>>,
    pub(crate) since: Instant,
    /// When the caller's limit is over.
    pub(crate) deadline: Option<Instant>,
    pub(super) inherited: Option<FromOuterCall>,
    /// Its caller is gone.
    pub(super) is_abandoned: bool,
}

/// A call, as its own task sees it.
pub(crate) trait CallView: Send + Sync {
    fn data(&self) -> &CallData;
    fn bulkhead(&self) -> &dyn BulkheadView;
}

/// What a call inherits from the call whose task makes it.
pub(super) type FromOuterCall = Arc<Inherited<dyn CallView>>;

/// A bulkhead, as its tasks see it.
pub(crate) trait BulkheadView: Send + Sync {
    fn name(&self) -> &str;
    fn is_closed(&self) -> bool;
    fn clock(&self) -> &Clock;
    /// The innermost call in a slot, asked by the thread that owns the slot.
    fn innermost(&self, slot: usize) -> Option<RunningCall>;
}

impl dyn CallView {
    /// When the task should be done: the nearer of the call's own deadline and the inherited one.
    pub(super) fn task_deadline(&self) -> Option<Instant> {
        let inherited = self.data().inherited.as_ref();
        let inherited = inherited.and_then(|from| from.deadline_by(self.bulkhead().clock()));
        earlier(self.data().deadline(), inherited)
    }

    /// What the calls inherit that the task of this call makes, if it has a handle.
    pub(super) fn hand_down(self: Arc<Self>) -> FromOuterCall {
        let (deadline, clock) = (self.task_deadline(), self.bulkhead().clock().clone());
        Arc::new(Inherited::from_cancellable(self, deadline, clock))
    }

    /// The same, of a call that runs in its caller's thread.
    pub(super) fn hand_down_in_caller(&self) -> Option<FromOuterCall> {
        let own = &self.data().inherited;
        if self.data().deadline().is_none() {
            return own.clone();
        }
        let (deadline, clock) = (self.task_deadline(), self.bulkhead().clock().clone());
        let handed_down = Inherited::from_call_in_caller(own.as_deref(), deadline, clock);
        Some(Arc::new(handed_down))
    }
}

impl OuterCall for dyn CallView {
    fn is_cancelled(&self) -> bool {
        self.data().is_cancelled()
    }
}

impl CallData {
    /// A call of these options, admitted at `admitted_at`, with so much of its limit left.
    #[inline(always)]
    pub(super) fn new(
        operation: Option<Cow<'static, str>>,
        admitted_at: Instant,
        queue_timeout: Limit,
        timeout: Limit,
        timeout_left: Limit,
        inherited: Option<FromOuterCall>,
    ) -> Self {
        Self {
            execution_id: new_execution_id(),
            operation,
            admitted_at,
            queue_timeout,
            timeout,
            timeout_left,
            inherited,
            marks: AtomicU8::new(0),
        }
    }

    /// What a task that runs in its caller's thread can ask about its call. No handle can cancel such a call.
    pub(crate) fn of_running(running: RunningCall) -> Self {
        let since = running.since;
        let left = running
            .deadline
            .map(|deadline| deadline.saturating_duration_since(since));
        Self {
            execution_id: running.execution_id,
            operation: running.operation,
            admitted_at: since,
            queue_timeout: Limit::NONE,
            timeout: Limit::NONE,
            timeout_left: Limit::new(left),
            inherited: running.inherited,
            marks: AtomicU8::new(0),
        }
    }

    pub(crate) fn request_cancel(&self) {
        // ORDERING: Release, so that a task that sees the mark also sees what its caller did before.
        self.marks.fetch_or(CANCELLED, Ordering::Release);
    }

    /// Whether the call was cancelled when its task ran already, or the task that made it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.marks.load(Ordering::Acquire) & CANCELLED != 0
            || self
                .inherited
                .as_ref()
                .is_some_and(|from| from.is_cancelled())
    }

    /// Whether the task that made the call has left it something.
    #[inline]
    pub(crate) fn inherits(&self) -> bool {
        self.inherited.is_some()
    }

    /// Whether this thread is to tell the circuit how the call went: `true` once.
    #[must_use]
    pub(crate) fn claim_verdict(&self) -> bool {
        // ORDERING: Relaxed. Nothing else is handed over: the ticket was there before the task started.
        self.marks.fetch_or(JUDGED, Ordering::Relaxed) & JUDGED == 0
    }

    /// Whether the call can be too late to start.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.queue_timeout != Limit::NONE || self.timeout_left != Limit::NONE
    }

    /// Until when the task may start, by its time in the queue; `None`: for ever.
    #[inline]
    pub(crate) fn queue_deadline(&self) -> Option<Instant> {
        self.queue_timeout.from(self.admitted_at)
    }

    /// Until when the caller waits; `None`: for ever. Nothing inherited is in it.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout_left.from(self.admitted_at)
    }

    /// Until when the task may start, by either limit; `None`: for ever.
    #[inline]
    pub(crate) fn start_deadline(&self) -> Option<Instant> {
        earlier(self.queue_deadline(), self.deadline())
    }

    #[inline]
    pub(crate) fn queued_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.admitted_at)
    }

    #[inline]
    pub(crate) fn info<'a>(&'a self, bulkhead: &'a str) -> CallInfo<'a> {
        CallInfo {
            bulkhead,
            execution_id: self.execution_id,
            operation: self.operation.as_deref(),
        }
    }
}

sync::thread_local! {
    /// Where this thread's ids come from. It has no destructor, so it can be used in the destructors of other thread-local
    /// values. A usual generator of random numbers has one, and panics when it is used after that.
    static IDS: IdSource = IdSource::default();
}

/// Makes ids: two sequences of SplitMix64, a half of the id each.
///
/// Both begin at a number of 64 bits that the standard library's hasher derives from the system's random numbers, so two
/// threads or processes do not get the same pair. An id is there to be written into logs and compared. It is no secret
/// and no token: a reader of some ids can work out the next.
struct IdSource([Cell<u64>; 2]);

impl Default for IdSource {
    fn default() -> Self {
        let random = RandomState::new();
        Self([0, 1].map(|half| Cell::new(random.hash_one(half))))
    }
}

impl IdSource {
    /// Steele, Lea and Flood: Fast splittable pseudorandom number generators (2014).
    #[inline]
    fn next(state: &Cell<u64>) -> u64 {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A random (v4) UUID.
pub(crate) fn new_execution_id() -> Uuid {
    let [high, low] = IDS.with(|IdSource(halves)| halves.each_ref().map(IdSource::next));
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_ne_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

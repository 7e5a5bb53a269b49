//! The pure part of the breaker: state, event and time in, state out. No lock, no clock, no I/O.
//!
//! | state | a call | a success | a failure |
//! |---|---|---|---|
//! | closed | passes | is counted, and opens if the window asks for it | is counted, and opens if the run or the window asks for it |
//! | open | is refused; after the isolation: half-open, and passes as the first probe | – | – |
//! | half-open | passes as a probe while fewer than `success_threshold` are out, else is refused | closes, if it is the last one needed | opens |
//!
//! A third outcome, `Ignored`, is neutral in every state. It only gives a probe's turn back.
//!
//! Each transition begins a new *generation*. A ticket carries the generation in which it was given. An outcome of an
//! earlier generation says nothing about the present and is dropped.
//!
//! Two things happen by the clock alone, at the next event that comes:
//!
//! 1. A probe that is out for longer than its limit has failed at that limit. The circuit is open from then on.
//! 2. An open circuit is half-open when its isolation is over, and a call asks.
//!
//! [`state_at`](Machine::state_at) says the same without moving anything.
//!
//! In a circuit that is shared through a storage the synchronizer does the second ([`half_open`](Machine::half_open))
//! after it has asked the storage. Calls are refused until then. A call does it after all when the synchronizer is long
//! overdue, since its storage hangs. What peers have stored comes in through [`adopt`](Machine::adopt).
//!
//! The modes: an observing machine moves like any other, but passes the calls that it would refuse, with a ticket that
//! does not count. A disabled one passes all calls so, and takes no outcome.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{CircuitBreakerConfig, CircuitMode};
use super::window::{Counts, Outcome, Outcomes};
use crate::sync::after;

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls pass; failures are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass as probes; their outcomes decide.
    HalfOpen,
}

impl std::fmt::Display for CircuitState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// What an outcome says about the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The dependency did its work.
    Success,
    /// The dependency is in trouble.
    Failure,
    /// Nothing: the call neither ends a run of failures nor closes a half-open circuit, and no rate counts it.
    Ignored,
}

impl Verdict {
    /// Of an error that either counts or says nothing.
    pub(crate) fn failure_if(failed: bool) -> Self {
        if failed { Self::Failure } else { Self::Ignored }
    }
}

/// Why a circuit has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitChangeReason {
    /// `failure_threshold` failures in a row opened it.
    FailuresInARow,
    /// The share of failures reached `failure_rate`.
    FailureRate,
    /// The share of slow calls reached `slow_call_rate`.
    SlowCalls,
    /// A probe failed.
    ProbeFailed,
    /// A probe took longer than `probe_timeout`.
    ProbeTimedOut,
    /// The isolation is over.
    IsolationOver,
    /// `success_threshold` probes succeeded.
    ProbesSucceeded,
    /// [`trip`](crate::CircuitBreaker::trip), [`force_open`](crate::CircuitBreaker::force_open) or
    /// [`reset`](crate::CircuitBreaker::reset) was called.
    ByHand,
    /// A peer changed it in the storage.
    ByPeer,
}

impl std::fmt::Display for CircuitChangeReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FailuresInARow => "failures in a row",
            Self::FailureRate => "failure rate",
            Self::SlowCalls => "slow calls",
            Self::ProbeFailed => "a probe failed",
            Self::ProbeTimedOut => "a probe timed out",
            Self::IsolationOver => "the isolation is over",
            Self::ProbesSucceeded => "probes succeeded",
            Self::ByHand => "by hand",
            Self::ByPeer => "by a peer",
        })
    }
}

/// A transition of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitChange {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Why.
    pub reason: CircuitChangeReason,
    /// Counts the transitions of this breaker from 1, so that callbacks on several threads can be
    /// put in order.
    pub sequence: u64,
}

/// The right to make one call, to be settled with its verdict: a generation, and the slot of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(NonZeroU64);

impl Ticket {
    const SLOT_BITS: u32 = 16;
    /// More probes than a ticket can tell apart are never out.
    const SLOTS: usize = 1 << Self::SLOT_BITS;
    /// One below that of `UNCOUNTED`. So many transitions take longer than the machine will stand.
    const LAST_GENERATION: u64 = (u64::MAX >> Self::SLOT_BITS) - 1;
    /// Of a call that passes although the circuit refuses it, or judges none. No machine gets to its generation.
    pub(crate) const UNCOUNTED: Self = Self(NonZeroU64::MAX);

    /// A ticket of a closed circuit.
    #[inline]
    pub(crate) fn new(generation: u64) -> Self {
        Self::of_probe(generation, 0)
    }

    #[inline]
    fn of_probe(generation: u64, slot: usize) -> Self {
        NonZeroU64::new(generation << Self::SLOT_BITS | slot as u64).map_or(Self::UNCOUNTED, Self)
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0.get() >> Self::SLOT_BITS
    }

    fn slot(self) -> usize {
        self.0.get() as usize % Self::SLOTS
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    Pass(Ticket),
    Refuse { retry_after: Duration },
}

/// A change into another state that is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: CircuitState,
    pub(crate) to: CircuitState,
    pub(crate) reason: CircuitChangeReason,
    /// Which transition of this machine it is, counted from 1.
    pub(crate) sequence: u64,
}

/// Who ends the isolation of an open circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfOpening {
    /// The first call after it.
    ByCall,
    /// The synchronizer of a shared circuit, unless it hangs.
    BySynchronizer,
}

/// What a peer has stored, in terms of this process' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    Closed,
    /// `until` is `None`: for as long as this circuit's own isolation lasts.
    Open {
        until: Option<Instant>,
    },
    HalfOpen {
        successes: usize,
    },
}

/// What there is to store.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) state: CircuitState,
    /// Of an open circuit; `None`: for ever.
    pub(crate) open_until: Option<Instant>,
    /// The last outcomes, oldest first; true is a success.
    pub(crate) outcomes: Vec<bool>,
    /// Closed or opened by hand, which also replaces what a peer has opened.
    pub(crate) by_hand: bool,
    /// Of an observing breaker: peers are not to act on what it judges.
    pub(crate) is_private: bool,
}

/// The numbers that [`CircuitStats`](super::stats::CircuitStats) shows.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) counts: Counts,
    pub(crate) since_last_change: Duration,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) probes_out: usize,
    pub(crate) times_opened: u64,
    pub(crate) next_isolation: Duration,
}

#[derive(Debug)]
pub(crate) struct Machine {
    rules: CircuitBreakerConfig,
    half_opening: HalfOpening,
    /// `Normal`, `ObserveOnly` or `Disabled`. Forced open is a phase.
    mode: CircuitMode,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// When the state last changed into another one.
    changed: Instant,
    /// The phase was begun by hand.
    by_hand: bool,
    /// Starts at 1 and grows with each transition, also with one into the same state.
    generation: u64,
    /// Counts the transitions into another state.
    sequence: u64,
    times_opened: u64,
    /// How long the last isolation was meant to be. `None`: the next is the first again.
    last_isolation: Option<Duration>,
    /// What has happened and is not told yet.
    untold: Vec<Transition>,
}

#[derive(Debug)]
enum Phase {
    Closed(Outcomes),
    Open {
        /// `None`: until it is reset.
        until: Option<Instant>,
        /// The calls that opened it; true is a success.
        outcomes: Vec<bool>,
        counts: Counts,
    },
    HalfOpen {
        probes: Probes,
        successes: usize,
        /// How many of the successes were slow.
        slow: usize,
    },
}

/// The probes that are out, each in its slot: since when.
#[derive(Debug, Default)]
struct Probes(Vec<Option<Instant>>);

impl Probes {
    fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    fn oldest(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Gives a probe a slot, if fewer than `limit` are out.
    fn add(&mut self, limit: usize, now: Instant) -> Option<usize> {
        let free = self.0.iter().position(Option::is_none);
        let slot = match free {
            Some(slot) => slot,
            None if self.0.len() < limit => {
                self.0.push(None);
                self.0.len() - 1
            }
            None => return None,
        };
        self.0[slot] = Some(now);
        Some(slot)
    }

    fn remove(&mut self, slot: usize) {
        if let Some(probe) = self.0.get_mut(slot) {
            *probe = None;
        }
    }
}

/// How long after the isolation a call may end it in place of the synchronizer. A storage ought to have given up long
/// before.
const GRACE: Duration = Duration::from_secs(10);
/// What a caller is told to wait for a synchronizer that is just ending the isolation.
const SOON: Duration = Duration::from_millis(50);
/// What a caller is told to wait for probes without a limit.
pub(super) const UNLIMITED_PROBES: Duration = Duration::from_secs(1);
/// A peer's isolation that is longer has no end. Peers write an endless one as a hundred years.
const ENDLESS: Duration = Duration::from_secs(50 * 365 * 86_400);

impl HalfOpening {
    /// How long after the isolation a call may end it.
    pub(crate) fn grace(self) -> Duration {
        match self {
            Self::ByCall => Duration::ZERO,
            Self::BySynchronizer => GRACE,
        }
    }
}

impl Machine {
    /// The most outcomes that are stored for others.
    const STORED: usize = 1_000;

    /// `rules` must have been validated.
    pub(crate) fn new(
        rules: CircuitBreakerConfig,
        half_opening: HalfOpening,
        now: Instant,
    ) -> Self {
        let mut machine = Self {
            half_opening,
            mode: CircuitMode::Normal,
            phase: Phase::Closed(Outcomes::none(&rules)),
            since: now,
            changed: now,
            by_hand: false,
            generation: 1,
            sequence: 0,
            times_opened: 0,
            last_isolation: None,
            untold: Vec::new(),
            rules,
        };
        // Forced open, it is in its second generation, which a storage does not know of yet.
        machine.set_mode(machine.rules.initial_mode, now);
        machine.untold.clear();
        machine.sequence = 0;
        machine
    }

    /// The state that was last announced.
    #[inline]
    pub(crate) fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed(_) => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// The state by the clock.
    pub(crate) fn state_at(&self, now: Instant) -> CircuitState {
        self.look(now).0
    }

    /// The longest isolation that this circuit gives itself.
    pub(crate) fn longest_isolation(&self) -> Duration {
        let first = self.rules.isolation_duration;
        let grown = self.rules.isolation_backoff.map(|backoff| backoff.max);
        grown.map_or(first, |max| first.max(max))
    }

    /// What a call at `now` would find: the state, and how long it has to wait if it is refused. That is never zero.
    fn look(&self, now: Instant) -> (CircuitState, Option<Duration>) {
        let until = match &self.phase {
            Phase::Closed(_) => return (CircuitState::Closed, None),
            Phase::Open { until, .. } => *until,
            Phase::HalfOpen { probes, .. } => match self.probe_timed_out(now) {
                Some(end) => after(end, self.next_isolation(end)),
                None => {
                    let limit = self.probe_limit(probes);
                    let left = limit.map(|end| end.saturating_duration_since(now));
                    let retry_after = left.unwrap_or(UNLIMITED_PROBES);
                    let is_full = self.is_probing_at_the_limit();
                    return (CircuitState::HalfOpen, is_full.then_some(retry_after));
                }
            },
        };
        if self.lets_a_call_probe(until, now) {
            return (CircuitState::HalfOpen, None);
        }
        let end = until.and_then(|until| after(until, self.grace()));
        let retry_after = end.map_or(Duration::MAX, |end| {
            until_retry(end.saturating_duration_since(now), self.grace())
        });
        (CircuitState::Open, Some(retry_after))
    }

    /// `ForcedOpen` for every open circuit that only a reset closes.
    pub(crate) fn mode(&self) -> CircuitMode {
        match (self.mode, &self.phase) {
            (CircuitMode::Normal, Phase::Open { until: None, .. }) => CircuitMode::ForcedOpen,
            (mode, _) => mode,
        }
    }

    #[inline]
    pub(crate) fn is_observing(&self) -> bool {
        self.mode == CircuitMode::ObserveOnly
    }

    #[inline]
    pub(crate) fn is_disabled(&self) -> bool {
        self.mode == CircuitMode::Disabled
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// When the synchronizer has something to do by the clock: an isolation is over, or a probe has timed out.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        match &self.phase {
            _ if self.mode != CircuitMode::Normal => None,
            Phase::Closed(_) => None,
            Phase::Open { until, .. } => *until,
            Phase::HalfOpen { probes, .. } => self.probe_limit(probes),
        }
    }

    /// Until when every call is refused, whatever comes: `Some(None)` is for ever, and `None` that a call may pass.
    #[inline]
    pub(crate) fn refuses_until(&self) -> Option<Option<Instant>> {
        match &self.phase {
            Phase::Open { until, .. } => Some(until.and_then(|until| after(until, self.grace()))),
            Phase::HalfOpen { probes, .. } if self.is_probing_at_the_limit() => {
                Some(self.probe_limit(probes))
            }
            _ => None,
        }
    }

    /// How long after an isolation calls are still refused.
    fn grace(&self) -> Duration {
        match self.mode {
            // Nothing of it is stored.
            CircuitMode::ObserveOnly => Duration::ZERO,
            _ => self.half_opening.grace(),
        }
    }

    /// Open, and the isolation is over, so that the synchronizer may end it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.mode == CircuitMode::Normal
            && matches!(self.phase, Phase::Open { until: Some(until), .. } if until <= now)
    }

    /// Closed, and a further success would change nothing.
    #[inline]
    pub(crate) fn is_spotless(&self) -> bool {
        matches!(&self.phase, Phase::Closed(outcomes) if outcomes.is_spotless())
    }

    /// Half-open with all probes out.
    #[inline]
    pub(crate) fn is_probing_at_the_limit(&self) -> bool {
        matches!(&self.phase, Phase::HalfOpen { probes, .. } if probes.count() >= self.most_probes())
    }

    fn most_probes(&self) -> usize {
        self.rules.success_threshold.min(Ticket::SLOTS)
    }

    /// When the limit of the oldest probe is over; `None`: never.
    fn probe_limit(&self, probes: &Probes) -> Option<Instant> {
        after(probes.oldest()?, self.rules.probe_limit())
    }

    /// When the limit of a probe was over, if that is now past.
    #[inline]
    fn probe_timed_out(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::HalfOpen { probes, .. } if !self.is_disabled() => {
                self.probe_limit(probes).filter(|end| *end <= now)
            }
            _ => None,
        }
    }

    /// Whether a call at `now` would end an isolation that lasts until `until`.
    fn lets_a_call_probe(&self, until: Option<Instant>, now: Instant) -> bool {
        until
            .and_then(|until| after(until, self.grace()))
            .is_some_and(|end| end <= now)
    }

    /// A call asks to pass.
    pub(crate) fn admit(&mut self, now: Instant) -> Admit {
        if self.is_disabled() {
            return Admit::Pass(Ticket::UNCOUNTED);
        }
        self.time_out_probe(now);
        if let Phase::Open { until, .. } = self.phase {
            if self.lets_a_call_probe(until, now) {
                self.begin_probing(0, now, CircuitChangeReason::IsolationOver);
            }
        }
        let most = self.most_probes();
        let slot = match &mut self.phase {
            Phase::Closed(_) => Some(0),
            Phase::Open { .. } => None,
            Phase::HalfOpen { probes, .. } => probes.add(most, now),
        };
        match slot {
            Some(slot) => Admit::Pass(Ticket::of_probe(self.generation, slot)),
            None if self.is_observing() => Admit::Pass(Ticket::UNCOUNTED),
            None => Admit::Refuse {
                retry_after: self.look(now).1.unwrap_or(SOON),
            },
        }
    }

    /// A call that passed has come to its end. `slow`: it took longer than the limit for slow calls.
    #[inline]
    pub(crate) fn settle(&mut self, ticket: Ticket, verdict: Verdict, slow: bool, now: Instant) {
        self.time_out_probe(now);
        if ticket.generation() != self.generation {
            return;
        }
        if let Phase::HalfOpen { probes, .. } = &mut self.phase {
            probes.remove(ticket.slot());
        }
        self.judge(verdict, slow, now);
    }

    /// Something came to an end that may or may not have asked to pass.
    pub(crate) fn observe(&mut self, verdict: Verdict, now: Instant) {
        self.time_out_probe(now);
        self.judge(verdict, false, now);
    }

    #[inline]
    fn judge(&mut self, verdict: Verdict, slow: bool, now: Instant) {
        if verdict == Verdict::Ignored || self.is_disabled() {
            return;
        }
        let slow_is_failed = self.rules.slow_call_rate.is_none();
        let outcome = Outcome {
            failed: verdict == Verdict::Failure || (slow && slow_is_failed),
            slow: slow && !slow_is_failed,
        };
        match &mut self.phase {
            Phase::Closed(outcomes) => {
                if let Some(reason) = outcomes.add(outcome, now, &self.rules) {
                    self.open_after(self.outcomes(), now, reason);
                }
            }
            Phase::HalfOpen { .. } if outcome.failed => {
                let mut outcomes = self.outcomes();
                outcomes.push(false);
                self.open_after(outcomes, now, CircuitChangeReason::ProbeFailed);
            }
            Phase::HalfOpen {
                successes, slow, ..
            } => {
                *successes += 1;
                *slow += usize::from(outcome.slow);
                if *successes >= self.rules.success_threshold {
                    self.end_probing(now);
                }
            }
            Phase::Open { .. } => {}
        }
    }

    /// Enough probes have succeeded.
    fn end_probing(&mut self, now: Instant) {
        if self.counts(now).are_slow(&self.rules) {
            self.open_after(self.outcomes(), now, CircuitChangeReason::SlowCalls);
        } else {
            self.close(now, CircuitChangeReason::ProbesSucceeded);
        }
    }

    /// A probe that has been out for too long has failed at the end of its limit. That end may be some time ago.
    #[inline]
    pub(crate) fn time_out_probe(&mut self, now: Instant) {
        if let Some(end) = self.probe_timed_out(now) {
            let mut outcomes = self.outcomes();
            outcomes.push(false);
            self.open_after(outcomes, end, CircuitChangeReason::ProbeTimedOut);
        }
    }

    /// Opens by hand, for the isolation duration from now. What is held open until a reset stays so.
    pub(crate) fn trip(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open { until: None, .. }) {
            return;
        }
        self.open_after(self.outcomes(), now, CircuitChangeReason::ByHand);
    }

    /// Opens by hand, until it is reset.
    pub(crate) fn force_open(&mut self, now: Instant) {
        self.mode = CircuitMode::Normal;
        let open = self.opened(None, self.outcomes(), now);
        self.move_to(open, now, CircuitChangeReason::ByHand);
        self.by_hand = true;
    }

    /// Closes by hand and forgets all outcomes.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.last_isolation = None;
        self.close(now, CircuitChangeReason::ByHand);
        self.by_hand = true;
    }

    pub(crate) fn set_mode(&mut self, mode: CircuitMode, now: Instant) {
        match (self.mode(), mode) {
            (_, CircuitMode::ForcedOpen) => self.force_open(now),
            (CircuitMode::ForcedOpen, CircuitMode::Normal) => self.reset(now),
            (CircuitMode::ObserveOnly, CircuitMode::Normal) => {
                self.mode = mode;
                // What was private until now is to be stored.
                self.begin_anew(now);
            }
            (_, mode) => self.mode = mode,
        }
    }

    /// The same state in a new generation, without the probes of the old one.
    fn begin_anew(&mut self, now: Instant) {
        let phase = match &self.phase {
            Phase::Closed(_) => return,
            Phase::Open { until, .. } => self.opened(*until, self.outcomes(), now),
            Phase::HalfOpen {
                successes, slow, ..
            } => Phase::HalfOpen {
                probes: Probes::default(),
                successes: *successes,
                slow: *slow,
            },
        };
        self.move_to(phase, now, CircuitChangeReason::ByHand);
    }

    fn open_after(&mut self, outcomes: Vec<bool>, at: Instant, reason: CircuitChangeReason) {
        let isolation = self.next_isolation(at);
        let open = self.opened(after(at, isolation), outcomes, at);
        self.last_isolation = Some(isolation);
        self.move_to(open, at, reason);
    }

    fn opened(&self, until: Option<Instant>, outcomes: Vec<bool>, now: Instant) -> Phase {
        Phase::Open {
            until,
            outcomes,
            counts: self.counts(now),
        }
    }

    /// How long an isolation that begins at `at` lasts. It is the first again if the circuit has stayed closed for as long
    /// as the last one; an open circuit that is opened once more does not let it grow.
    fn next_isolation(&self, at: Instant) -> Duration {
        let first = self.rules.isolation_duration;
        let (Some(last), Some(backoff)) = (self.last_isolation, self.rules.isolation_backoff)
        else {
            return first;
        };
        match self.phase {
            Phase::Closed(_) if at.saturating_duration_since(self.since) >= last => first,
            Phase::Open { .. } => last,
            _ => Duration::try_from_secs_f64(last.as_secs_f64() * backoff.factor)
                .map_or(backoff.max, |next| next.min(backoff.max)),
        }
    }

    fn close(&mut self, now: Instant, reason: CircuitChangeReason) {
        self.move_to(Phase::Closed(Outcomes::none(&self.rules)), now, reason);
    }

    fn begin_probing(&mut self, successes: usize, now: Instant, reason: CircuitChangeReason) {
        let phase = Phase::HalfOpen {
            probes: Probes::default(),
            successes,
            slow: 0,
        };
        self.move_to(phase, now, reason);
    }

    /// The synchronizer ends the isolation of an open circuit.
    pub(crate) fn half_open(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.begin_probing(0, now, CircuitChangeReason::IsolationOver);
        }
    }

    /// Takes over what a peer has stored. Where both are in the same state, only an open one takes anything: when it
    /// ends. Outcomes and probes stay each process' own.
    pub(crate) fn adopt(&mut self, adopted: Adopted, now: Instant) {
        let reason = CircuitChangeReason::ByPeer;
        match (adopted, &self.phase) {
            (Adopted::Closed, Phase::Closed(_))
            | (Adopted::HalfOpen { .. }, Phase::HalfOpen { .. }) => {}
            (Adopted::Closed, _) => self.close(now, reason),
            (Adopted::Open { until }, _) => {
                let isolation = self.next_isolation(now);
                let until = match until {
                    Some(until) if until.saturating_duration_since(now) > ENDLESS => None,
                    Some(until) => Some(until),
                    None => after(now, isolation),
                };
                self.last_isolation = Some(isolation);
                self.move_to(self.opened(until, Vec::new(), now), now, reason);
            }
            // One probe at least is this process' own.
            (Adopted::HalfOpen { successes }, _) => {
                let successes = successes.min(self.rules.success_threshold - 1);
                self.begin_probing(successes, now, reason);
            }
        }
    }

    /// Goes on with the outcomes that an earlier process has stored, true being a success. They do not open the
    /// circuit by themselves; the next outcome may.
    pub(crate) fn restore(&mut self, outcomes: &[bool], now: Instant) {
        if let Phase::Closed(remembered) = &mut self.phase {
            for succeeded in outcomes {
                let outcome = Outcome {
                    failed: !succeeded,
                    slow: false,
                };
                let _ = remembered.add(outcome, now, &self.rules);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            state: self.state(),
            open_until: match self.phase {
                Phase::Open { until, .. } => until,
                _ => None,
            },
            outcomes: self.outcomes(),
            by_hand: self.by_hand,
            is_private: self.is_observing(),
        }
    }

    pub(crate) fn numbers(&self, now: Instant) -> Numbers {
        let (_, retry_after) = self.look(now);
        Numbers {
            counts: self.counts(now),
            since_last_change: now.saturating_duration_since(self.changed),
            retry_after: retry_after.filter(|_| self.mode == CircuitMode::Normal),
            probes_out: match &self.phase {
                Phase::HalfOpen { probes, .. } => probes.count(),
                _ => 0,
            },
            times_opened: self.times_opened,
            next_isolation: self.next_isolation(now),
        }
    }

    /// The calls that the present state counts.
    fn counts(&self, now: Instant) -> Counts {
        match &self.phase {
            Phase::Closed(outcomes) => outcomes.counts(now),
            Phase::Open { counts, .. } => *counts,
            Phase::HalfOpen {
                successes, slow, ..
            } => Counts {
                calls: *successes,
                failures: 0,
                slow_calls: *slow,
            },
        }
    }

    /// The last outcomes in this state, oldest first; true is a success. Of an open circuit: those that opened it.
    fn outcomes(&self) -> Vec<bool> {
        match &self.phase {
            Phase::Closed(outcomes) => outcomes.successes(Self::STORED),
            Phase::Open { outcomes, .. } => outcomes.clone(),
            Phase::HalfOpen { successes, .. } => vec![true; (*successes).min(Self::STORED)],
        }
    }

    /// What has happened since this was last asked.
    #[inline]
    pub(crate) fn take_untold(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.untold)
    }

    /// The only place where the state changes. A transition into the same state begins a new
    /// generation too, but is none to tell anybody about.
    fn move_to(&mut self, phase: Phase, at: Instant, reason: CircuitChangeReason) {
        let from = self.state();
        // What was done by hand holds until the next transition.
        self.by_hand = false;
        self.phase = phase;
        self.since = at;
        self.generation = (self.generation + 1).min(Ticket::LAST_GENERATION);
        let to = self.state();
        if from == to {
            return;
        }
        self.times_opened += u64::from(to == CircuitState::Open);
        self.changed = at;
        self.sequence += 1;
        self.untold.push(Transition {
            from,
            to,
            reason,
            sequence: self.sequence,
        });
    }
}

/// What is left until a retry, where `left` is left until the end of the grace that follows an isolation.
pub(super) fn until_retry(left: Duration, grace: Duration) -> Duration {
    match left.checked_sub(grace) {
        Some(left) if left > Duration::ZERO => left,
        // The synchronizer is about to end the isolation.
        _ => left.min(SOON),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const ISOLATION: Duration = Duration::from_secs(30);

    /// Plays a script and writes down the state after each step, `x` for a call that is refused:
    ///
    /// - `s`, `f`, `n`: a call that succeeds, fails or is ignored; `S`, `F`, `N`: the same, slow.
    /// - `h`: a call that hangs. `l`: the oldest of them succeeds after all.
    /// - `<`: the isolation is all but over. `>`: it is over.
    /// - `-`: a second passes.
    /// - `T`, `O`, `R`: a trip, forced open, a reset.
    fn play(rules: CircuitBreakerConfig, script: &str) -> String {
        let mut now = crate::sync::now();
        let rules = rules.isolation_duration(ISOLATION);
        let mut machine = Machine::new(rules, HalfOpening::ByCall, now);
        let mut seen = String::new();
        let mut hanging = VecDeque::new();
        for step in script.chars() {
            match step {
                '<' => now += ISOLATION - Duration::from_nanos(1),
                '>' => now += Duration::from_nanos(1),
                '-' => now += Duration::from_secs(1),
                'T' => machine.trip(now),
                'O' => machine.force_open(now),
                'R' => machine.reset(now),
                'l' => {
                    let ticket = hanging.pop_front().expect("one hangs");
                    machine.settle(ticket, Verdict::Success, false, now);
                }
                _ => {
                    let expected = machine.look(now);
                    match machine.admit(now) {
                        Admit::Refuse { retry_after } => {
                            assert_eq!(expected.1, Some(retry_after), "{script}");
                            assert!(retry_after > Duration::ZERO, "{script}");
                            seen.push('x');
                            continue;
                        }
                        Admit::Pass(ticket) => {
                            assert_eq!(expected, (machine.state(), None), "{script}");
                            if step == 'h' {
                                hanging.push_back(ticket);
                            } else {
                                let verdict = match step.to_ascii_lowercase() {
                                    's' => Verdict::Success,
                                    'f' => Verdict::Failure,
                                    _ => Verdict::Ignored,
                                };
                                machine.settle(ticket, verdict, step.is_uppercase(), now);
                            }
                        }
                    }
                }
            }
            seen.push(match machine.state_at(now) {
                CircuitState::Closed => 'C',
                CircuitState::Open => 'O',
                CircuitState::HalfOpen => 'H',
            });
        }
        seen
    }

    fn rules(failures: usize, successes: usize) -> CircuitBreakerConfig {
        CircuitBreakerConfig::default()
            .failure_threshold(failures)
            .success_threshold(successes)
    }

    fn rate(rate: f64, window: usize, minimum: usize) -> CircuitBreakerConfig {
        CircuitBreakerConfig::default()
            .success_threshold(1)
            .failure_rate(rate, window)
            .minimum_calls(minimum)
    }

    #[test]
    fn scripts() {
        let rate_over = |seconds, minimum| {
            CircuitBreakerConfig::default()
                .success_threshold(1)
                .failure_rate_over(0.5, Duration::from_secs(seconds))
                .minimum_calls(minimum)
        };
        let gap = Duration::from_secs(2);
        let limit = Duration::from_secs(2);
        let slow = |rules: CircuitBreakerConfig| rules.slow_call_duration(Duration::from_secs(1));
        for (rules, script, expected) in [
            // failures in a row
            (rules(1, 1), "sf", "CO"),
            (rules(3, 1), "ffsff", "CCCCC"),
            (rules(3, 1), "ffsfff", "CCCCCO"),
            // an ignored one is neutral
            (rules(3, 1), "ffnf", "CCCO"),
            (rules(2, 1), "fnNnsf", "CCCCCC"),
            // failures that are too far apart
            (rules(2, 1).max_failure_gap(gap), "f--f", "CCCO"),
            (rules(2, 1).max_failure_gap(gap), "f---f", "CCCCC"),
            (rules(2, 1).max_failure_gap(gap), "f---f-f", "CCCCCCO"),
            (rules(3, 1).max_failure_gap(gap), "f--f--f", "CCCCCCO"),
            // open until the isolation is over, to the nanosecond
            (rules(1, 1), "fs<s>s", "OxOxHC"),
            // half-open
            (rules(1, 2), "f<>ss", "OOHHC"),
            (rules(1, 2), "f<>sfs", "OOHHOx"),
            (rules(1, 1), "f<>nnns", "OOHHHHC"),
            (rules(2, 1), "ff<>sff", "COOHCCO"),
            // a probe that hangs
            (rules(1, 1).probe_timeout(limit), "f<>hs-s-s", "OOHHxHxOx"),
            (rules(1, 1).probe_timeout(limit), "f<>h--l", "OOHHHOO"),
            (rules(1, 1).probe_timeout(limit), "f<>h-l", "OOHHHC"),
            (rules(1, 2).probe_timeout(limit), "f<>h-s-s", "OOHHHHOx"),
            (rules(1, 2).probe_timeout(limit), "f<>hh-l-l", "OOHHHHHOO"),
            // the default limit is the isolation
            (rules(1, 1), "f<>h<s>s", "OOHHHxOx"),
            // nobody looks: the isolation after the limit is over as well
            (rules(1, 1), "f<>h<><>sl", "OOHHHOOHCC"),
            (
                rules(1, 1).probe_timeout(Duration::MAX),
                "f<>h<><>sl",
                "OOHHHHHHxC",
            ),
            // share of failures, judged after each outcome
            (rate(0.5, 4, 4), "ffss", "CCCO"),
            (rate(0.5, 5, 5), "fffss", "CCCCO"),
            (rate(0.5, 4, 4), "fsss", "CCCC"),
            (rate(0.5, 4, 4), "ffsf", "CCCO"),
            (rate(0.5, 4, 2), "ff", "CO"),
            (rate(0.5, 4, 2), "fs", "CO"),
            (rate(1.0, 2, 2), "fsfsff", "CCCCCO"),
            (rate(0.5, 4, 4), "fff", "CCC"),
            (rate(0.5, 4, 4), "fffnnn", "CCCCCC"),
            (rate(0.01, 1, 1), "sf", "CO"),
            // share of failures in a period
            (rate_over(10, 2), "fs", "CO"),
            (rate_over(10, 2), "f---------f", "CCCCCCCCCCO"),
            (rate_over(10, 2), "f----------f", "CCCCCCCCCCCC"),
            (rate_over(10, 3), "s-s-s-------ff", "CCCCCCCCCCCCCC"),
            (rate_over(10, 3), "s-s-s---------ff", "CCCCCCCCCCCCCCCO"),
            (rate_over(10, 3), "s-s-s<>fff", "CCCCCCCCCO"),
            // a slow call is a failure, unless it is ignored
            (slow(rules(2, 1)), "SS", "CO"),
            (slow(rules(2, 1)), "SsF", "CCC"),
            (slow(rules(2, 1)), "fNS", "CCO"),
            (slow(rules(1, 1)), "f<>S", "OOHO"),
            // slow calls counted apart
            (slow(rate(1.0, 4, 4)).slow_call_rate(0.5), "SSss", "CCCO"),
            (slow(rate(1.0, 4, 4)).slow_call_rate(0.5), "Sssss", "CCCCC"),
            (slow(rate(0.5, 4, 4)).slow_call_rate(1.0), "SSSf", "CCCC"),
            (slow(rate(0.5, 4, 4)).slow_call_rate(1.0), "fSSf", "CCCO"),
            (
                slow(rate(1.0, 4, 4)).slow_call_rate(0.5),
                "NNNNss",
                "CCCCCC",
            ),
            (slow(rate(1.0, 4, 4)).slow_call_rate(1.0), "T<>S", "OOHO"),
            (slow(rate(1.0, 4, 4)).slow_call_rate(1.0), "T<>s", "OOHC"),
            // by hand
            (rules(2, 1), "Ts<>sTR", "OxOHCOC"),
            (rules(2, 1), "O<>s<>sRs", "OOOxOOxCC"),
            (rules(2, 1), "OT<>s", "OOOOx"),
            (rules(2, 1), "T<>hOlR", "OOHHOOC"),
        ] {
            assert_eq!(play(rules.clone(), script), expected, "{script} {rules:?}");
        }
    }

    /// The transitions of a script, with their reasons.
    #[test]
    fn reasons() {
        use CircuitChangeReason::*;

        let slow = |rules: CircuitBreakerConfig| rules.slow_call_duration(Duration::from_secs(1));
        let limit = Duration::from_secs(2);
        for (rules, script, expected) in [
            (
                rules(1, 1),
                "f<>s",
                &[FailuresInARow, IsolationOver, ProbesSucceeded][..],
            ),
            (
                rules(1, 1),
                "f<>f",
                &[FailuresInARow, IsolationOver, ProbeFailed],
            ),
            (
                rules(1, 1).probe_timeout(limit),
                "f<>h--s",
                &[FailuresInARow, IsolationOver, ProbeTimedOut],
            ),
            (
                rules(1, 1).probe_timeout(limit),
                "f<>h<><>s",
                &[
                    FailuresInARow,
                    IsolationOver,
                    ProbeTimedOut,
                    IsolationOver,
                    ProbesSucceeded,
                ],
            ),
            (rate(0.5, 2, 2), "fs", &[FailureRate]),
            (
                slow(rate(0.5, 2, 2)).slow_call_rate(0.5),
                "Ss",
                &[SlowCalls],
            ),
            (rules(1, 1), "TROR", &[ByHand; 4]),
        ] {
            let mut now = crate::sync::now();
            let mut machine = Machine::new(
                rules.clone().isolation_duration(ISOLATION),
                HalfOpening::ByCall,
                now,
            );
            for step in script.chars() {
                match step {
                    '<' => now += ISOLATION - Duration::from_nanos(1),
                    '>' => now += Duration::from_nanos(1),
                    '-' => now += Duration::from_secs(1),
                    'T' => machine.trip(now),
                    'O' => machine.force_open(now),
                    'R' => machine.reset(now),
                    _ => {
                        let Admit::Pass(ticket) = machine.admit(now) else {
                            continue;
                        };
                        let verdict = match step {
                            's' | 'S' => Verdict::Success,
                            'f' => Verdict::Failure,
                            _ => continue,
                        };
                        machine.settle(ticket, verdict, step == 'S', now);
                    }
                }
            }
            let untold = machine.take_untold();
            let reasons: Vec<_> = untold.iter().map(|change| change.reason).collect();
            assert_eq!(reasons, expected, "{script} {rules:?}");
            let sequence: Vec<_> = untold.iter().map(|change| change.sequence).collect();
            assert_eq!(sequence, (1..=expected.len() as u64).collect::<Vec<_>>());
        }
    }

    /// How long each isolation is, in seconds. `f`, `h`: a failed probe, or one that times out; `c`: closed for so many
    /// seconds, then a failure; `R`: a reset, then a failure.
    #[test]
    fn isolations_grow() {
        const SECOND: Duration = Duration::from_secs(1);
        let base = CircuitBreakerConfig::default()
            .failure_threshold(1)
            .success_threshold(1)
            .isolation_duration(10 * SECOND);
        for (rules, script, expected) in [
            (base.clone(), "fff", &[10, 10, 10, 10][..]),
            (
                base.clone().isolation_backoff(2.0, 60 * SECOND),
                "ffff",
                &[10, 20, 40, 60, 60],
            ),
            (
                base.clone().isolation_backoff(2.0, 60 * SECOND),
                "hf",
                &[10, 20, 40],
            ),
            (
                base.clone().isolation_backoff(1.0, 60 * SECOND),
                "ff",
                &[10, 10, 10],
            ),
            (
                base.clone().isolation_backoff(1.5, 60 * SECOND),
                "ff",
                &[10, 15, 22],
            ),
            // Closed for less than the last isolation, or for as long.
            (
                base.clone().isolation_backoff(2.0, 60 * SECOND),
                "f19",
                &[10, 20, 40],
            ),
            (
                base.clone().isolation_backoff(2.0, 60 * SECOND),
                "f20",
                &[10, 20, 10],
            ),
            (
                base.clone().isolation_backoff(2.0, 60 * SECOND),
                "ffR",
                &[10, 20, 40, 10],
            ),
            (
                base.clone().isolation_backoff(f64::MAX, Duration::MAX),
                "f",
                &[10, u64::MAX],
            ),
            (
                base.isolation_backoff(2.0, 10 * SECOND),
                "ff",
                &[10, 10, 10],
            ),
        ] {
            let mut now = crate::sync::now();
            let mut machine = Machine::new(rules.clone(), HalfOpening::ByCall, now);
            machine.observe(Verdict::Failure, now);
            let mut isolations = Vec::new();
            let mut isolation = |machine: &mut Machine, now: &mut Instant| {
                let (_, left) = machine.look(*now);
                let left = left.expect("open");
                isolations.push(left.as_secs());
                *now = now.checked_add(left).unwrap_or(*now);
            };
            let numbers: String = script.chars().filter(char::is_ascii_digit).collect();
            let closed_for = numbers.parse().unwrap_or(0);
            let letters = script.chars().filter(|step| !step.is_ascii_digit());
            for step in letters.chain((closed_for > 0).then_some('c')) {
                isolation(&mut machine, &mut now);
                let probe = machine.admit(now);
                let Admit::Pass(probe) = probe else {
                    panic!("{script}: {probe:?}");
                };
                match step {
                    'f' => machine.settle(probe, Verdict::Failure, false, now),
                    'h' => {
                        now += 10 * SECOND;
                        machine.time_out_probe(now);
                    }
                    'c' => {
                        machine.settle(probe, Verdict::Success, false, now);
                        now += closed_for * SECOND;
                        machine.observe(Verdict::Failure, now);
                    }
                    _ => {
                        machine.reset(now);
                        machine.observe(Verdict::Failure, now);
                    }
                }
            }
            isolation(&mut machine, &mut now);
            assert_eq!(isolations, expected, "{script} {rules:?}");
        }
    }

    #[test]
    fn an_outcome_of_an_earlier_generation_is_dropped() {
        let now = crate::sync::now();
        let rules = rules(1, 1).isolation_duration(Duration::ZERO);
        let mut machine = Machine::new(rules, HalfOpening::ByCall, now);
        let pass = |machine: &mut Machine| match machine.admit(now) {
            Admit::Pass(ticket) => ticket,
            Admit::Refuse { .. } => panic!("refused"),
        };
        let (early, late) = (pass(&mut machine), pass(&mut machine));
        machine.settle(early, Verdict::Failure, false, now);
        let probe = pass(&mut machine);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        machine.settle(late, Verdict::Success, false, now);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        machine.settle(probe, Verdict::Success, false, now);
        assert_eq!(machine.state(), CircuitState::Closed);
    }

    #[test]
    fn at_most_success_threshold_probes_are_out() {
        let now = crate::sync::now();
        let rules = rules(1, 2).isolation_duration(Duration::ZERO);
        let mut machine = Machine::new(rules, HalfOpening::ByCall, now);
        machine.trip(now);
        let Admit::Pass(first) = machine.admit(now) else {
            panic!("refused")
        };
        assert!(matches!(machine.admit(now), Admit::Pass(_)));
        assert!(matches!(machine.admit(now), Admit::Refuse { .. }));
        assert!(machine.is_probing_at_the_limit());
        machine.settle(first, Verdict::Ignored, false, now);
        assert!(matches!(machine.admit(now), Admit::Pass(_)));
    }

    /// Each probe has a limit of its own, also if probes come back in another order than they went out.
    #[test]
    fn the_oldest_probe_that_is_out_decides() {
        let start = crate::sync::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let rules = rules(1, 3)
            .isolation_duration(Duration::ZERO)
            .probe_timeout(Duration::from_secs(10));
        let mut machine = Machine::new(rules, HalfOpening::ByCall, start);
        machine.trip(start);
        let probe = |machine: &mut Machine, at| match machine.admit(at) {
            Admit::Pass(ticket) => ticket,
            Admit::Refuse { .. } => panic!("refused"),
        };
        let first = probe(&mut machine, at(0));
        let _second = probe(&mut machine, at(1));
        let third = probe(&mut machine, at(2));
        assert_eq!(machine.look(at(2)).1, Some(Duration::from_secs(8)));
        machine.settle(first, Verdict::Ignored, false, at(3));
        // Its slot goes to the next, and its limit goes with it.
        let fourth = probe(&mut machine, at(4));
        assert_eq!(machine.look(at(4)).1, Some(Duration::from_secs(7)));
        machine.settle(fourth, Verdict::Ignored, false, at(5));
        machine.settle(third, Verdict::Ignored, false, at(5));
        assert_eq!(machine.state_at(at(10)), CircuitState::HalfOpen);
        machine.time_out_probe(at(10));
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        machine.time_out_probe(at(11));
        assert_eq!(machine.state(), CircuitState::Open);
    }

    /// Which calls a shared circuit passes beside its synchronizer, and what it says of itself.
    #[test]
    fn a_shared_circuit_waits_for_its_synchronizer() {
        let start = crate::sync::now();
        let rules = rules(1, 1).isolation_duration(ISOLATION);
        let mut machine = Machine::new(rules, HalfOpening::BySynchronizer, start);
        machine.trip(start);
        let nano = Duration::from_nanos(1);
        let end = start + ISOLATION;
        for (at, retry_after) in [
            (start, ISOLATION),
            (end - nano, nano),
            (end, SOON),
            (end + GRACE - SOON, SOON),
            (end + GRACE - nano, nano),
        ] {
            assert_eq!(machine.admit(at), Admit::Refuse { retry_after });
            assert_eq!(machine.state_at(at), CircuitState::Open);
        }
        assert_eq!(machine.state_at(end + GRACE), CircuitState::HalfOpen);
        assert!(matches!(machine.admit(end + GRACE), Admit::Pass(_)));
    }

    #[test]
    fn an_endless_end_of_a_peer_means_until_a_reset() {
        let now = crate::sync::now();
        let years = |years: u64| now + Duration::from_secs(years * 365 * 86_400);
        let mut machine = Machine::new(rules(1, 1), HalfOpening::BySynchronizer, now);
        let until = Some(years(100));
        machine.adopt(Adopted::Open { until }, now);
        assert_eq!(machine.mode(), CircuitMode::ForcedOpen);
        assert_eq!(machine.snapshot().open_until, None);
        machine.adopt(Adopted::Closed, now);
        assert_eq!(machine.mode(), CircuitMode::Normal);
        let until = Some(years(49));
        machine.adopt(Adopted::Open { until }, now);
        assert_eq!(machine.mode(), CircuitMode::Normal);
        assert_eq!(machine.snapshot().open_until, until);
    }

    #[test]
    fn what_an_observer_decides_is_private_until_it_is_one_no_more() {
        let now = crate::sync::now();
        let rules = rules(1, 1).initial_mode(CircuitMode::ObserveOnly);
        let mut machine = Machine::new(rules, HalfOpening::BySynchronizer, now);
        machine.observe(Verdict::Failure, now);
        assert_eq!(machine.state(), CircuitState::Open);
        assert!(machine.snapshot().is_private);
        assert_eq!(machine.admit(now), Admit::Pass(Ticket::UNCOUNTED));
        assert_eq!(machine.next_look(), None);
        let generation = machine.generation();
        machine.set_mode(CircuitMode::Normal, now);
        assert_eq!(machine.state(), CircuitState::Open);
        assert!(!machine.snapshot().is_private);
        assert_ne!(machine.generation(), generation, "it is to be stored");
        assert!(matches!(machine.admit(now), Admit::Refuse { .. }));
        machine.set_mode(CircuitMode::ObserveOnly, now);
        machine.reset(now);
        assert!(machine.snapshot().by_hand, "for everybody");
    }

    #[test]
    fn outcomes_in_a_period_are_stored_in_a_likely_order() {
        let now = crate::sync::now();
        let rules = CircuitBreakerConfig::default().failure_rate_over(1.0, Duration::from_secs(10));
        let mut machine = Machine::new(rules, HalfOpening::ByCall, now);
        for verdict in "ffss".chars() {
            let failed = verdict == 'f';
            let verdict = if failed {
                Verdict::Failure
            } else {
                Verdict::Success
            };
            machine.observe(verdict, now);
        }
        machine.observe(Verdict::Success, now + Duration::from_secs(1));
        assert_eq!(
            machine.snapshot().outcomes,
            [true, false, true, false, true]
        );
        for _ in 0..2_000 {
            machine.observe(Verdict::Success, now + Duration::from_secs(2));
        }
        assert_eq!(machine.snapshot().outcomes, vec![true; Machine::STORED]);
    }

    #[test]
    fn a_restored_window_is_judged_with_the_next_outcome() {
        let now = crate::sync::now();
        for (stored, verdict, state) in [
            (
                &[false, false, true][..],
                Verdict::Success,
                CircuitState::Open,
            ),
            (&[false, false], Verdict::Success, CircuitState::Closed),
            (&[false; 9], Verdict::Ignored, CircuitState::Closed),
            (&[false; 9], Verdict::Success, CircuitState::Open),
        ] {
            let mut machine = Machine::new(rate(0.5, 4, 4), HalfOpening::ByCall, now);
            machine.restore(stored, now);
            assert_eq!(machine.state(), CircuitState::Closed);
            machine.observe(verdict, now);
            assert_eq!(machine.state(), state, "{stored:?} {verdict:?}");
        }
    }
}

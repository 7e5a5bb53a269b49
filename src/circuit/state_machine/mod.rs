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
//! overdue, since its storage hangs. A peer's record comes in through [`adopt`](Machine::adopt).
//!
//! The rules may change in every state ([`set_rules`](Machine::set_rules)). The state, its generation and its tickets stay:
//!
//! | state | stays | goes by the new rules |
//! |---|---|---|
//! | closed | what it remembers, if the new rules can go on with it: see [`RecentCalls::go_by`] | each outcome from now on, and with it all that is remembered |
//! | open | the end of the isolation | the next isolation |
//! | half-open | the probes that are out, and the successes so far | how many may be out, how many successes close it, the limit of each probe that is out |
//!
//! A change of rules neither opens nor closes a circuit; the first outcome after it can. The old rules decide what the clock
//! has brought about before the change. A probe that is out for longer than its new limit fails at the change, not before.
//!
//! The modes: an observing machine moves like any other, but passes the calls that it would refuse, with a ticket that
//! does not count. A disabled one passes all calls in that way, and ignores their outcomes.

use std::time::{Duration, Instant};

use super::config::{CircuitBreakerConfig, CircuitMode};
use super::opening_rule::{CountedCall, Counts, RecentCalls};
use super::probes::{Probes, Ticket};
use super::state::{CircuitChangeReason, CircuitState, Verdict};
use crate::sync::after;

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
    /// Of the rates that are judged.
    pub(crate) failure_rate: Option<f64>,
    pub(crate) slow_call_rate: Option<f64>,
    pub(crate) since_last_change: Duration,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) probes_out: usize,
    pub(crate) times_opened: u64,
    pub(crate) next_isolation: Duration,
}

#[derive(Debug)]
pub(crate) struct Machine {
    rules: CircuitBreakerConfig,
    /// When these rules came.
    ruled_since: Instant,
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
    Closed(RecentCalls),
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
            phase: Phase::Closed(RecentCalls::none(&rules)),
            since: now,
            changed: now,
            by_hand: false,
            generation: 1,
            sequence: 0,
            times_opened: 0,
            last_isolation: None,
            untold: Vec::new(),
            rules,
            ruled_since: now,
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
    pub(crate) fn is_clean(&self) -> bool {
        matches!(&self.phase, Phase::Closed(recent) if recent.is_clean())
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
        let end = after(probes.oldest()?, self.rules.probe_limit())?;
        Some(end.max(self.ruled_since))
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

    /// A call that passed has come to its end. Of one that has not run the time is zero, which is never slow.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        ran_for: Duration,
        now: Instant,
    ) {
        self.time_out_probe(now);
        if ticket.generation() != self.generation {
            return;
        }
        if let Phase::HalfOpen { probes, .. } = &mut self.phase {
            probes.remove(ticket.slot());
        }
        self.judge(verdict, ran_for, now);
    }

    /// Something came to an end that may or may not have asked to pass.
    pub(crate) fn observe(&mut self, verdict: Verdict, now: Instant) {
        self.time_out_probe(now);
        self.judge(verdict, Duration::ZERO, now);
    }

    #[inline]
    fn judge(&mut self, verdict: Verdict, ran_for: Duration, now: Instant) {
        if verdict == Verdict::Ignored || self.is_disabled() {
            return;
        }
        let limit = self.rules.slow_call_duration;
        let slow = limit.is_some_and(|limit| ran_for > limit);
        let slow_is_failed = self.rules.slow_call_rate.is_none();
        let call = CountedCall {
            failed: verdict == Verdict::Failure || (slow && slow_is_failed),
            slow: slow && !slow_is_failed,
        };
        match &mut self.phase {
            Phase::Closed(recent) => {
                if let Some(reason) = recent.add(call, now, &self.rules) {
                    self.open_after(self.outcomes(), now, reason);
                }
            }
            Phase::HalfOpen { .. } if call.failed => {
                let mut outcomes = self.outcomes();
                outcomes.push(false);
                self.open_after(outcomes, now, CircuitChangeReason::ProbeFailed);
            }
            Phase::HalfOpen {
                successes, slow, ..
            } => {
                *successes += 1;
                *slow += usize::from(call.slow);
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

    /// Opens by hand, for the isolation duration from now. A circuit that is held open until a reset stays so.
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

    pub(crate) fn rules(&self) -> &CircuitBreakerConfig {
        &self.rules
    }

    /// Goes by other rules from now on, which must have been validated. `initial_mode` is for a start.
    pub(crate) fn set_rules(&mut self, rules: CircuitBreakerConfig, now: Instant) {
        if rules == self.rules {
            return;
        }
        self.time_out_probe(now);
        match &mut self.phase {
            Phase::Closed(recent) => recent.go_by(&rules),
            Phase::Open { counts, .. } => counts.go_by(&rules),
            Phase::HalfOpen { slow, .. } if rules.slow_call_rate.is_none() => *slow = 0,
            Phase::HalfOpen { .. } => {}
        }
        self.rules = rules;
        self.ruled_since = now;
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
            // The last one may have been by other rules.
            Phase::Open { .. } => last.max(first).min(backoff.max),
            _ => Duration::try_from_secs_f64(last.as_secs_f64() * backoff.factor)
                .map_or(backoff.max, |next| next.max(first).min(backoff.max)),
        }
    }

    fn close(&mut self, now: Instant, reason: CircuitChangeReason) {
        self.move_to(Phase::Closed(RecentCalls::none(&self.rules)), now, reason);
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
    /// ends. RecentCalls and probes stay each process' own.
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
                let call = CountedCall {
                    failed: !succeeded,
                    slow: false,
                };
                let _ = remembered.add(call, now, &self.rules);
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
        let counts = self.counts(now);
        Numbers {
            failure_rate: self.rules.failure_rate.and(counts.failure_rate()),
            slow_call_rate: self.rules.slow_call_rate.and(counts.slow_call_rate()),
            counts,
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
            Phase::Closed(recent) => recent.counts(now),
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
            Phase::Closed(recent) => recent.successes(Self::STORED),
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
mod tests;

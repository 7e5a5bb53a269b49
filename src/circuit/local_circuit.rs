//! A circuit as threads use it: the machine behind a lock, and a hint in front of the lock.
//!
//! The hint is one word: generation, mode and kind. It is rewritten under the lock after every event. With it the common
//! cases take no lock: a call through a closed circuit, a success that changes nothing, and every refusal. So a refused
//! caller never waits for a thread that settles a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{CircuitBreakerConfig, CircuitMode};
use super::live_rules::LiveRules;
use super::probes::Ticket;
use super::signal::Signal;
use super::state::{CircuitChange, CircuitState, Verdict};
use super::state_machine::{
    Admit, Adopted, HalfOpening, Machine, Numbers, Snapshot, Transition, UNLIMITED_PROBES,
    until_retry,
};
use crate::clock::Clock;
use crate::panic::{contain, note};
use crate::sync::{AtomicU64, Mutex, Ordering};

pub(crate) struct LocalCircuit {
    name: Arc<str>,
    clock: Clock,
    machine: Mutex<Machine>,
    /// `generation << 4 | is observing << 3 | kind`.
    hint: AtomicU64,
    /// Until when the state that refuses calls refuses all of them: in nanoseconds since `epoch`, or `FOR_EVER` or
    /// `UNLIMITED`. Written before a hint that says `OPEN` or `HALF_OPEN_FULL`.
    refuses_until: AtomicU64,
    epoch: Instant,
    /// Part of the machine's rules: [`LiveRules`]. Written under the lock, before the hint.
    rules: AtomicU64,
    /// How long an isolation is over before a call may end it.
    grace: Duration,
    on_change: Vec<ChangeCallback>,
    on_storage: Vec<StorageCallback>,
    /// Raised with each new generation that the synchronizer has not made itself.
    signal: Option<Arc<Signal>>,
    /// The generation that the storage knows of; 0: none. Written by the synchronizer alone.
    settled: AtomicU64,
}

pub(crate) type ChangeCallback = Box<dyn Fn(&CircuitChange) + Send + Sync>;
pub(crate) type StorageCallback = Box<dyn Fn(StorageNews<'_>) + Send + Sync>;

/// How a circuit gets on with its storage, from the storage's thread.
#[derive(Clone, Copy)]
pub(crate) enum StorageNews<'a> {
    /// The storage fails, or cannot hold this circuit.
    TroubleBegan { error: &'a str },
    /// The circuit is in step with its storage again.
    TroubleEnded { lasted: Duration },
}

/// How long a call ran, and when it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) time: Duration,
    pub(crate) ended: Instant,
}

/// The target of log lines about circuits.
const LOG: &str = "bulkman::circuit";

const GENERATION_SHIFT: u32 = 4;
const KIND: u64 = 0b0111;
/// Calls that the circuit would refuse pass all the same.
const OBSERVING: u64 = 0b1000;

/// Closed, and a success would change nothing.
const CLEAN: u64 = 0;
const CLOSED: u64 = 1;
const OPEN: u64 = 2;
const HALF_OPEN: u64 = 3;
/// Half-open, and all probes are out.
const HALF_OPEN_FULL: u64 = 4;
/// Every call passes, and no outcome counts.
const DISABLED: u64 = 5;

/// Open until it is reset.
const FOR_EVER: u64 = u64::MAX;
/// Half-open, all probes are out, and there is no limit for them.
const UNLIMITED: u64 = u64::MAX - 1;

/// What the hint says to a call that asks.
enum HintAnswer {
    Pass(Ticket),
    Refuse(Duration),
    /// Only the machine can say. It is this time now.
    Ask(Instant),
}

impl LocalCircuit {
    /// `config` must have been validated.
    pub(crate) fn new(
        name: Arc<str>,
        config: CircuitBreakerConfig,
        clock: Clock,
        on_change: Vec<ChangeCallback>,
        on_storage: Vec<StorageCallback>,
        signal: Option<Arc<Signal>>,
    ) -> Self {
        let half_opening = if signal.is_some() {
            HalfOpening::BySynchronizer
        } else {
            HalfOpening::ByCall
        };
        let epoch = clock.now();
        let rules = LiveRules::of(&config);
        let machine = Machine::new(config, half_opening, epoch);
        Self {
            name,
            epoch,
            clock,
            hint: AtomicU64::new(hint(&machine)),
            refuses_until: AtomicU64::new(FOR_EVER),
            rules: AtomicU64::new(rules.word()),
            grace: half_opening.grace(),
            machine: Mutex::new(machine),
            on_change,
            on_storage,
            signal,
            settled: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn config(&self) -> CircuitBreakerConfig {
        self.machine.lock().rules().clone()
    }

    /// Goes by other rules from now on, which must have been validated.
    pub(crate) fn set_config(&self, config: CircuitBreakerConfig) {
        let now = self.clock.now();
        let live = LiveRules::of(&config);
        let is_other = self.with_machine(|machine| {
            let is_other = *machine.rules() != config;
            machine.set_rules(config, now);
            // Here, so that of two changes at once the same one is the last for both. ORDERING: Relaxed, see `live_rules`.
            self.rules.store(live.word(), Ordering::Relaxed);
            is_other
        });
        if !is_other {
            return;
        }
        let name = &self.name;
        note(|| log::info!(target: LOG, "circuit `{name}` goes by other rules"));
        // The limit of a probe that is out may be another.
        self.wake_synchronizer();
    }

    /// What can be said of the rules without the lock.
    #[inline]
    pub(crate) fn live_rules(&self) -> LiveRules {
        // ORDERING: Relaxed. A thread that has seen a hint of these rules, or later, sees these rules, or later: they are
        // written first. Another thread may still go by the old ones, as if it had asked just before the change.
        LiveRules::from_word(self.rules.load(Ordering::Relaxed))
    }

    /// The time now, where the length of a call counts.
    #[inline]
    pub(crate) fn time_if_measured(&self) -> Option<Instant> {
        let is_measured = self.live_rules().measures_calls();
        is_measured.then(|| self.clock.now())
    }

    /// The state by the clock. It moves nothing: callers of this expect no callback.
    pub(crate) fn state(&self) -> CircuitState {
        match self.hint.load(Ordering::Acquire) & KIND {
            CLEAN | CLOSED => CircuitState::Closed,
            _ => {
                let now = self.clock.now();
                self.machine.lock().state_at(now)
            }
        }
    }

    /// The state as calls feel it: closed where the breaker never refuses one.
    pub(crate) fn enforced_state(&self) -> CircuitState {
        let hint = self.hint.load(Ordering::Acquire);
        if hint & OBSERVING != 0 || hint & KIND == DISABLED {
            CircuitState::Closed
        } else {
            self.state()
        }
    }

    pub(crate) fn mode(&self) -> CircuitMode {
        self.machine.lock().mode()
    }

    pub(crate) fn set_mode(&self, mode: CircuitMode) {
        let now = self.clock.now();
        self.with_machine(|machine| machine.set_mode(mode, now));
        // What happens by the clock depends on the mode.
        self.wake_synchronizer();
    }

    /// Also without a new generation, so that the synchronizer looks when there is something to do by the clock.
    fn wake_synchronizer(&self) {
        if let Some(signal) = &self.signal {
            signal.raise();
        }
    }

    pub(crate) fn reset(&self) {
        let now = self.clock.now();
        self.with_machine(|machine| machine.reset(now));
    }

    pub(crate) fn trip(&self) {
        let now = self.clock.now();
        self.with_machine(|machine| machine.trip(now));
    }

    /// The numbers, with the state and the mode of the same moment.
    pub(crate) fn numbers(&self) -> (CircuitState, CircuitMode, Numbers) {
        let now = self.clock.now();
        let machine = self.machine.lock();
        (machine.state_at(now), machine.mode(), machine.numbers(now))
    }

    /// A ticket, or how long the caller is to wait.
    pub(crate) fn admit(&self) -> Result<Ticket, Duration> {
        // ORDERING: Acquire, pairs with the store in `change`.
        let hint = self.hint.load(Ordering::Acquire);
        let now = match self.ask_hint(hint) {
            HintAnswer::Pass(ticket) => return Ok(ticket),
            HintAnswer::Refuse(_) if hint & OBSERVING != 0 => return Ok(Ticket::UNCOUNTED),
            HintAnswer::Refuse(retry_after) => return Err(retry_after),
            HintAnswer::Ask(now) => now,
        };
        match self.with_machine(|machine| machine.admit(now)) {
            Admit::Pass(ticket) => Ok(ticket),
            Admit::Refuse { retry_after } => Err(retry_after),
        }
    }

    /// What can be said without the lock.
    #[inline(always)]
    fn ask_hint(&self, hint: u64) -> HintAnswer {
        match hint & KIND {
            CLEAN | CLOSED => HintAnswer::Pass(Ticket::new(hint >> GENERATION_SHIFT)),
            DISABLED => HintAnswer::Pass(Ticket::UNCOUNTED),
            kind @ (OPEN | HALF_OPEN_FULL) => {
                let now = self.clock.now();
                // ORDERING: Acquire. It is at least as new as the hint; a newer one belongs to a newer refusal.
                let until = self.refuses_until.load(Ordering::Acquire);
                let passed = self.nanos(now);
                match until.checked_sub(passed) {
                    None | Some(0) => HintAnswer::Ask(now),
                    _ if until == FOR_EVER => HintAnswer::Refuse(Duration::MAX),
                    _ if until == UNLIMITED => HintAnswer::Refuse(UNLIMITED_PROBES),
                    Some(left) if kind == OPEN => {
                        HintAnswer::Refuse(until_retry(Duration::from_nanos(left), self.grace))
                    }
                    Some(left) => HintAnswer::Refuse(Duration::from_nanos(left)),
                }
            }
            _ => HintAnswer::Ask(self.clock.now()),
        }
    }

    /// How long a call that asked now would certainly be refused for. Takes nothing, no lock either.
    #[inline]
    pub(crate) fn refusal(&self) -> Option<Duration> {
        // ORDERING: Acquire, as in `admit`.
        let hint = self.hint.load(Ordering::Acquire);
        match self.ask_hint(hint) {
            HintAnswer::Refuse(retry_after) if hint & OBSERVING == 0 => Some(retry_after),
            _ => None,
        }
    }

    /// Whether the circuit is still in the generation of this ticket.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.generation() == ticket.generation()
    }

    /// The end of a call that had a ticket. Without a `run` the call is not slow, and the clock is read if need be.
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict, run: Option<Run>) {
        let hint = self.hint.load(Ordering::Acquire);
        if hint >> GENERATION_SHIFT != ticket.generation() {
            return;
        }
        let changes_nothing = match (verdict, hint & KIND) {
            (Verdict::Success, CLEAN) => {
                !run.is_some_and(|run| self.live_rules().is_slow(run.time))
            }
            (Verdict::Ignored, CLEAN | CLOSED) => true,
            _ => false,
        };
        if changes_nothing {
            return;
        }
        // A success may be the call from which on a rate judges, and open the circuit at this time.
        let now = run.map_or_else(|| self.clock.now(), |run| run.ended);
        let ran_for = run.map_or(Duration::ZERO, |run| run.time);
        self.with_machine(|machine| machine.settle(ticket, verdict, ran_for, now));
    }

    pub(crate) fn observe(&self, verdict: Verdict) {
        if verdict == Verdict::Success && self.is_clean() {
            return;
        }
        let now = self.clock.now();
        self.with_machine(|machine| machine.observe(verdict, now));
    }

    /// Grows with each transition.
    pub(crate) fn generation(&self) -> u64 {
        self.hint.load(Ordering::Acquire) >> GENERATION_SHIFT
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// The synchronizer says that the storage knows of this generation.
    pub(crate) fn settle_generation(&self, generation: u64) {
        self.settled.store(generation, Ordering::Release);
    }

    /// Whether the storage knows of everything so far.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled() == self.generation()
    }

    /// When the synchronizer has to look by the clock: an isolation is over, or a probe has timed out.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.machine.lock().next_look()
    }

    /// The longest isolation that this circuit gives itself.
    pub(crate) fn longest_isolation(&self) -> Duration {
        self.machine.lock().longest_isolation()
    }

    /// Open, and the isolation is over. A probe that has timed out opens the circuit first.
    pub(crate) fn is_due(&self) -> bool {
        let kind = self.hint.load(Ordering::Acquire) & KIND;
        if matches!(kind, CLEAN | CLOSED | DISABLED) {
            return false;
        }
        let now = self.clock.now();
        if kind != OPEN {
            self.with_machine(|machine| machine.time_out_probe(now));
        }
        self.machine.lock().is_due(now)
    }

    /// Closed, and without an outcome worth telling.
    pub(crate) fn is_clean(&self) -> bool {
        self.hint.load(Ordering::Acquire) & KIND == CLEAN
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.machine.lock().snapshot()
    }

    /// The generation after it has taken over what a peer has stored; `None` if this circuit has moved on since
    /// `generation`, which then goes first.
    pub(crate) fn adopt(&self, adopted: Adopted, generation: u64) -> Option<u64> {
        let now = self.clock.now();
        self.at(generation, |machine| machine.adopt(adopted, now))
    }

    /// The generation after it has gone from open to half-open; `None` if it has moved on since `generation`.
    pub(crate) fn half_open(&self, generation: u64) -> Option<u64> {
        let now = self.clock.now();
        self.at(generation, |machine| machine.half_open(now))
    }

    /// Goes on with the outcomes of an earlier process, if there are none of this one yet.
    pub(crate) fn restore(&self, outcomes: &[bool], generation: u64) {
        let now = self.clock.now();
        self.at(generation, |machine| {
            if machine.snapshot().outcomes.is_empty() {
                machine.restore(outcomes, now);
            }
        });
    }

    /// A change that the synchronizer makes.
    fn at(&self, generation: u64, event: impl FnOnce(&mut Machine)) -> Option<u64> {
        let event = |machine: &mut Machine| {
            if machine.generation() != generation {
                return None;
            }
            event(machine);
            Some(machine.generation())
        };
        self.change(event, None)
    }

    fn with_machine<R>(&self, event: impl FnOnce(&mut Machine) -> R) -> R {
        self.change(event, self.signal.as_deref())
    }

    /// The one place that changes the machine: event, hint, unlock, then the signal and the callbacks.
    fn change<R>(&self, event: impl FnOnce(&mut Machine) -> R, signal: Option<&Signal>) -> R {
        let (answer, untold, has_moved) = {
            let mut machine = self.machine.lock();
            let before = machine.generation();
            let answer = event(&mut machine);
            if let Some(until) = machine.refuses_until() {
                let nanos = match (until, machine.state()) {
                    (Some(until), _) => self.nanos(until),
                    (None, CircuitState::Open) => FOR_EVER,
                    (None, _) => UNLIMITED,
                };
                self.refuses_until.store(nanos, Ordering::Release);
            }
            // ORDERING: Release, so that a reader that sees a refusal also sees until when.
            self.hint.store(hint(&machine), Ordering::Release);
            let has_moved = machine.generation() != before;
            (answer, machine.take_untold(), has_moved)
        };
        // Also without a transition: a reset of a closed circuit closes it for peers that have it open.
        if let (true, Some(signal)) = (has_moved, signal) {
            signal.raise();
        }
        for transition in untold {
            self.tell(transition);
        }
        answer
    }

    /// Tells how the circuit gets on with its storage. Under no lock.
    pub(super) fn tell_of_storage(&self, news: StorageNews<'_>) {
        for callback in &self.on_storage {
            contain(&self.name, "a circuit callback", || callback(news));
        }
    }

    fn tell(&self, transition: Transition) {
        let Transition {
            from,
            to,
            reason,
            sequence,
        } = transition;
        let name = &self.name;
        note(|| match to {
            CircuitState::Open => {
                log::warn!(
                    target: LOG, circuit:% = name, from:% = from, to:% = to, reason:% = reason;
                    "circuit `{name}` is open, it was {from}: {reason}"
                );
            }
            _ => log::info!(
                target: LOG, circuit:% = name, from:% = from, to:% = to, reason:% = reason;
                "circuit `{name}` is {to}, it was {from}: {reason}"
            ),
        });
        let change = CircuitChange {
            name: Arc::clone(name),
            from,
            to,
            reason,
            sequence,
        };
        for callback in &self.on_change {
            contain(name, "a circuit callback", || callback(&change));
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(FOR_EVER)
    }
}

/// What may be known of the machine without its lock.
#[inline]
fn hint(machine: &Machine) -> u64 {
    let kind = match machine.state() {
        _ if machine.is_disabled() => DISABLED,
        CircuitState::Closed if machine.is_clean() => CLEAN,
        CircuitState::Closed => CLOSED,
        CircuitState::Open => OPEN,
        CircuitState::HalfOpen if machine.is_probing_at_the_limit() => HALF_OPEN_FULL,
        CircuitState::HalfOpen => HALF_OPEN,
    };
    let observing = if machine.is_observing() { OBSERVING } else { 0 };
    machine.generation() << GENERATION_SHIFT | observing | kind
}

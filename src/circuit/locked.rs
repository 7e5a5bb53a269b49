//! The machine behind a lock, and a hint in front of the lock.
//!
//! The hint is one word, generation and kind, rewritten under the lock after every event. With it the common cases take
//! no lock: a call through a closed circuit, a success that changes nothing, and every refusal. So a refused caller
//! never waits for a thread that settles a call.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::CircuitBreakerConfig;
use super::machine::{
    Admit, Adopted, CircuitChange, CircuitState, HalfOpening, Machine, Snapshot, Ticket,
    Transition, Verdict,
};
use super::signal::Signal;
use crate::clock::Clock;

use crate::panic::{contain, note};
use crate::sync::{AtomicU64, Mutex, Ordering};

pub(crate) struct Circuit {
    name: Arc<str>,
    clock: Clock,
    machine: Mutex<Machine>,
    /// `generation << 3 | kind`.
    hint: AtomicU64,
    /// When the last opening ends, in nanoseconds since `epoch`; `u64::MAX`: never. Written before a
    /// hint that says open.
    open_until: AtomicU64,
    epoch: Instant,
    on_change: Vec<ChangeCallback>,
    /// Raised with each new generation that the synchronizer has not made itself.
    signal: Option<Arc<Signal>>,
    /// The generation that the storage knows of; 0: none. Written by the synchronizer alone.
    settled: AtomicU64,
}

pub(crate) type ChangeCallback = Box<dyn Fn(&CircuitChange) + Send + Sync>;

/// What can be said without the lock.
enum Glance {
    Pass(Ticket),
    Refuse(Duration),
    /// The machine decides, at this time.
    Ask(Instant),
}

const KIND_BITS: u32 = 3;
const KIND: u64 = (1 << KIND_BITS) - 1;
/// Closed, and a success would change nothing.
const SPOTLESS: u64 = 0;
const CLOSED: u64 = 1;
const OPEN: u64 = 2;
const HALF_OPEN: u64 = 3;
/// Half-open, and all probes are out.
const HALF_OPEN_FULL: u64 = 4;

impl Circuit {
    /// `rules` must have been validated.
    pub(crate) fn new(
        name: Arc<str>,
        rules: CircuitBreakerConfig,
        clock: Clock,
        on_change: Vec<ChangeCallback>,
        signal: Option<Arc<Signal>>,
    ) -> Self {
        let half_opening = if signal.is_some() {
            HalfOpening::BySynchronizer
        } else {
            HalfOpening::ByCall
        };
        let machine = Machine::new(rules, half_opening);
        Self {
            name,
            epoch: clock.now(),
            clock,
            hint: AtomicU64::new(hint(&machine)),
            machine: Mutex::new(machine),
            open_until: AtomicU64::new(0),
            on_change,
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

    pub(crate) fn state(&self) -> CircuitState {
        match self.hint.load(Ordering::Acquire) & KIND {
            SPOTLESS | CLOSED => CircuitState::Closed,
            OPEN => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    pub(crate) fn reset(&self) {
        self.with_machine(Machine::reset);
    }

    pub(crate) fn force_open(&self) {
        let now = self.clock.now();
        self.with_machine(|machine| machine.open(now));
    }

    /// What the hint says about a call that asks now. Takes nothing.
    fn glance(&self) -> Glance {
        // ORDERING: Acquire, pairs with the store in `with_machine`.
        let hint = self.hint.load(Ordering::Acquire);
        let kind = hint & KIND;
        match (kind, NonZeroU64::new(hint >> KIND_BITS)) {
            (SPOTLESS | CLOSED, Some(generation)) => Glance::Pass(Ticket(generation)),
            (HALF_OPEN_FULL, _) => Glance::Refuse(Duration::ZERO),
            (OPEN, _) => {
                let now = self.clock.now();
                let until = self.open_until.load(Ordering::Acquire);
                let passed = self.nanos(now);
                if passed >= until {
                    Glance::Ask(now)
                } else if until == u64::MAX {
                    Glance::Refuse(Duration::MAX)
                } else {
                    Glance::Refuse(Duration::from_nanos(until - passed))
                }
            }
            _ => Glance::Ask(self.clock.now()),
        }
    }

    /// A ticket, or how long the circuit stays open.
    pub(crate) fn admit(&self) -> Result<Ticket, Duration> {
        match self.glance() {
            Glance::Pass(ticket) => Ok(ticket),
            Glance::Refuse(retry_after) => Err(retry_after),
            Glance::Ask(now) => match self.with_machine_and(|machine| machine.admit(now)) {
                Admit::Pass(ticket) => Ok(ticket),
                Admit::Refuse { retry_after } => Err(retry_after),
            },
        }
    }

    /// How long a call that asked now would certainly be refused for. Takes nothing, no lock either.
    pub(crate) fn refusal(&self) -> Option<Duration> {
        match self.glance() {
            Glance::Refuse(retry_after) => Some(retry_after),
            Glance::Pass(_) | Glance::Ask(_) => None,
        }
    }

    /// Whether the circuit is still in the generation of this ticket.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.generation() == ticket.0.get()
    }

    /// The end of a call that had a ticket.
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict) {
        let hint = self.hint.load(Ordering::Acquire);
        let changes_nothing = hint >> KIND_BITS != ticket.0.get()
            || match verdict {
                Verdict::Success => hint & KIND == SPOTLESS,
                Verdict::Failure => false,
                Verdict::None => matches!(hint & KIND, SPOTLESS | CLOSED),
            };
        if changes_nothing {
            return;
        }
        let now = self.now_for(verdict);
        self.with_machine(|machine| machine.settle(ticket, verdict, now));
    }

    pub(crate) fn observe(&self, verdict: Verdict) {
        if verdict == Verdict::Success && self.hint.load(Ordering::Acquire) & KIND == SPOTLESS {
            return;
        }
        let now = self.now_for(verdict);
        self.with_machine(|machine| machine.observe(verdict, now));
    }

    /// Only a failure needs the time: it may open the circuit.
    fn now_for(&self, verdict: Verdict) -> Instant {
        match verdict {
            Verdict::Failure => self.clock.now(),
            Verdict::Success | Verdict::None => self.epoch,
        }
    }

    fn with_machine(&self, event: impl FnOnce(&mut Machine) -> Option<Transition>) {
        self.with_machine_and(|machine| ((), event(machine)));
    }

    /// Grows with each transition.
    pub(crate) fn generation(&self) -> u64 {
        self.hint.load(Ordering::Acquire) >> KIND_BITS
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

    /// When the synchronizer has to end the isolation; `None`: not open, or open for ever.
    pub(crate) fn isolated_until(&self) -> Option<Instant> {
        self.machine.lock().open_until().flatten()
    }

    /// The longest isolation that this circuit gives itself.
    pub(crate) fn longest_isolation(&self) -> Duration {
        self.machine.lock().longest_isolation()
    }

    /// Open, and the isolation is over.
    pub(crate) fn is_due(&self) -> bool {
        self.state() == CircuitState::Open && self.machine.lock().is_due(self.clock.now())
    }

    /// Closed, and without an outcome worth telling.
    pub(crate) fn is_spotless(&self) -> bool {
        self.hint.load(Ordering::Acquire) & KIND == SPOTLESS
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
        self.at(generation, Machine::half_open)
    }

    /// Goes on with the outcomes of an earlier process, if there are none of this one yet.
    pub(crate) fn restore(&self, outcomes: &[bool], generation: u64) {
        self.at(generation, |machine| {
            if machine.snapshot().outcomes.is_empty() {
                machine.restore(outcomes);
            }
            None
        });
    }

    /// A change that the synchronizer makes.
    fn at(
        &self,
        generation: u64,
        event: impl FnOnce(&mut Machine) -> Option<Transition>,
    ) -> Option<u64> {
        let event = |machine: &mut Machine| {
            if machine.generation() != generation {
                return (None, None);
            }
            let transition = event(machine);
            (Some(machine.generation()), transition)
        };
        self.change(event, None)
    }

    fn with_machine_and<R>(
        &self,
        event: impl FnOnce(&mut Machine) -> (R, Option<Transition>),
    ) -> R {
        self.change(event, self.signal.as_deref())
    }

    /// The one place that changes the machine: event, hint, unlock, then the signal and the callbacks.
    fn change<R>(
        &self,
        event: impl FnOnce(&mut Machine) -> (R, Option<Transition>),
        signal: Option<&Signal>,
    ) -> R {
        let (answer, transition, has_moved) = {
            let mut machine = self.machine.lock();
            let before = machine.generation();
            let (answer, transition) = event(&mut machine);
            if let Some(until) = machine.open_until() {
                let nanos = until.map_or(u64::MAX, |until| self.nanos(until));
                self.open_until.store(nanos, Ordering::Release);
            }
            // ORDERING: Release, so that a reader that sees "open" also sees until when.
            self.hint.store(hint(&machine), Ordering::Release);
            (answer, transition, machine.generation() != before)
        };
        // Also without a transition: a reset of a closed circuit closes it for peers that have it open.
        if let (true, Some(signal)) = (has_moved, signal) {
            signal.raise();
        }
        if let Some((from, to, sequence)) = transition {
            self.tell(from, to, sequence);
        }
        answer
    }

    fn tell(&self, from: CircuitState, to: CircuitState, sequence: u64) {
        let name = &self.name;
        note(|| match to {
            CircuitState::Open => log::warn!("circuit `{name}` is open, it was {from}"),
            _ => log::info!("circuit `{name}` is {to}, it was {from}"),
        });
        let change = CircuitChange {
            name: Arc::clone(name),
            from,
            to,
            sequence,
        };
        for callback in &self.on_change {
            contain(name, "a circuit callback", || callback(&change));
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// What may be known of the machine without its lock.
fn hint(machine: &Machine) -> u64 {
    let kind = match machine.state() {
        CircuitState::Closed if machine.is_spotless() => SPOTLESS,
        CircuitState::Closed => CLOSED,
        CircuitState::Open => OPEN,
        CircuitState::HalfOpen if machine.is_probing_at_the_limit() => HALF_OPEN_FULL,
        CircuitState::HalfOpen => HALF_OPEN,
    };
    machine.generation() << KIND_BITS | kind
}

//! The pure part of the breaker: state and event and time in, state out. No lock, no clock, no I/O.
//!
//! | state | a call | a success | a failure |
//! |---|---|---|---|
//! | closed | passes | ends the run of failures | opens, if it completes the threshold or the rate |
//! | open | refused; after the isolation: half-open, and passes as the first probe | – | – |
//! | half-open | passes as a probe while fewer than `success_threshold` are out, else refused | closes, if it is the last one needed | opens |
//!
//! Each transition begins a new *generation*. A ticket remembers the one it was given in; an outcome
//! of an earlier generation says nothing about the present and is dropped. A ticket that comes back
//! without a verdict (cancelled, expired, refused later) gives its probe's turn back.
//!
//! A circuit that is shared through a storage differs in one thing: its synchronizer moves it from open to half-open
//! ([`half_open`](Machine::half_open)), after it has asked the storage, and calls are refused until then. Only when the
//! synchronizer is long overdue, since its storage hangs, a call does it after all. What peers have stored comes in through
//! [`adopt`](Machine::adopt).

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::CircuitBreakerConfig;
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
    /// Counts the transitions of this breaker from 1, so that callbacks on several threads can be
    /// put in order.
    pub sequence: u64,
}

/// The right to make one call, to be settled with its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) NonZeroU64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    /// The call never came to an outcome.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    Pass(Ticket),
    Refuse { retry_after: Duration },
}

/// From, to, and the how-manieth transition it was.
pub(crate) type Transition = (CircuitState, CircuitState, u64);

/// Who ends the isolation of an open circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfOpening {
    /// The first call after it.
    ByCall,
    /// The synchronizer of a shared circuit, unless it hangs.
    BySynchronizer,
}

impl HalfOpening {
    /// How long after the isolation a call may end it. A storage ought to have given up long before.
    fn grace(self) -> Duration {
        match self {
            Self::ByCall => Duration::ZERO,
            Self::BySynchronizer => Duration::from_secs(10),
        }
    }
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
    /// Closed by hand, which also ends what a peer has opened.
    pub(crate) reset: bool,
}

#[derive(Debug)]
pub(crate) struct Machine {
    rules: CircuitBreakerConfig,
    half_opening: HalfOpening,
    phase: Phase,
    reset: bool,
    /// Starts at 1 and grows with each transition, also with one into the same state.
    generation: NonZeroU64,
    /// Counts the transitions into another state.
    changes: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Outcomes),
    /// `None`: for ever.
    Open {
        until: Option<Instant>,
        /// What opened it; true is a success.
        outcomes: Vec<bool>,
    },
    HalfOpen {
        probes_out: usize,
        successes: usize,
    },
}

/// What the closed state remembers.
#[derive(Debug)]
enum Outcomes {
    InARow {
        failures: usize,
    },
    /// The last outcomes, oldest first; true is a failure.
    Window {
        last: VecDeque<bool>,
        failures: usize,
    },
}

impl Machine {
    /// The most outcomes that are stored for others.
    const STORED: usize = 1_000;

    /// `rules` must have been validated.
    pub(crate) fn new(rules: CircuitBreakerConfig, half_opening: HalfOpening) -> Self {
        let phase = Phase::Closed(Outcomes::none(&rules));
        Self {
            rules,
            half_opening,
            phase,
            reset: false,
            generation: NonZeroU64::MIN,
            changes: 0,
        }
    }

    pub(crate) fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed(_) => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The longest isolation that this circuit gives itself.
    pub(crate) fn longest_isolation(&self) -> Duration {
        self.rules.isolation_duration
    }

    /// When an open circuit lets the next probe through; `Some(None)`: never.
    pub(crate) fn open_until(&self) -> Option<Option<Instant>> {
        match self.phase {
            Phase::Open { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Open, and the isolation is over.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open { until: Some(until), .. } if until <= now)
    }

    /// Closed, and a further success would change nothing.
    pub(crate) fn is_spotless(&self) -> bool {
        matches!(self.phase, Phase::Closed(Outcomes::InARow { failures: 0 }))
    }

    /// Half-open with all probes out.
    pub(crate) fn is_probing_at_the_limit(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { probes_out, .. } if probes_out >= self.rules.success_threshold)
    }

    /// A call asks to pass.
    pub(crate) fn admit(&mut self, now: Instant) -> (Admit, Option<Transition>) {
        let ticket = Ticket(self.generation);
        let grace = self.half_opening.grace();
        match &mut self.phase {
            Phase::Closed(_) => (Admit::Pass(ticket), None),
            Phase::Open { until, .. } => match *until {
                Some(until) if after(until, grace).is_some_and(|end| end <= now) => {
                    let transition = self.move_to(Phase::HalfOpen {
                        probes_out: 1,
                        successes: 0,
                    });
                    (Admit::Pass(Ticket(self.generation)), transition)
                }
                until => {
                    let retry_after =
                        until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
                    (Admit::Refuse { retry_after }, None)
                }
            },
            Phase::HalfOpen { probes_out, .. } => {
                if *probes_out < self.rules.success_threshold {
                    *probes_out += 1;
                    (Admit::Pass(ticket), None)
                } else {
                    let retry_after = Duration::ZERO;
                    (Admit::Refuse { retry_after }, None)
                }
            }
        }
    }

    /// A call that passed has come to its end.
    pub(crate) fn settle(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        now: Instant,
    ) -> Option<Transition> {
        if ticket.0 != self.generation {
            return None;
        }
        if let Phase::HalfOpen { probes_out, .. } = &mut self.phase {
            *probes_out -= 1;
        }
        self.observe(verdict, now)
    }

    /// Something came to an end that may or may not have asked to pass.
    pub(crate) fn observe(&mut self, verdict: Verdict, now: Instant) -> Option<Transition> {
        let failed = match verdict {
            Verdict::Success => false,
            Verdict::Failure => true,
            Verdict::None => return None,
        };
        match &mut self.phase {
            Phase::Closed(outcomes) => {
                if outcomes.add(failed, &self.rules) {
                    self.open(now)
                } else {
                    None
                }
            }
            Phase::HalfOpen { .. } if failed => {
                let mut outcomes = self.outcomes();
                outcomes.push(false);
                self.open_after(outcomes, now)
            }
            Phase::HalfOpen { successes, .. } => {
                *successes += 1;
                if *successes >= self.rules.success_threshold {
                    self.close()
                } else {
                    None
                }
            }
            Phase::Open { .. } => None,
        }
    }

    /// Opens for the isolation duration from now.
    pub(crate) fn open(&mut self, now: Instant) -> Option<Transition> {
        let outcomes = self.outcomes();
        self.open_after(outcomes, now)
    }

    fn open_after(&mut self, outcomes: Vec<bool>, now: Instant) -> Option<Transition> {
        let until = after(now, self.rules.isolation_duration);
        self.move_to(Phase::Open { until, outcomes })
    }

    fn close(&mut self) -> Option<Transition> {
        self.move_to(Phase::Closed(Outcomes::none(&self.rules)))
    }

    /// Closes by hand and forgets all outcomes.
    pub(crate) fn reset(&mut self) -> Option<Transition> {
        let transition = self.close();
        self.reset = true;
        transition
    }

    /// The synchronizer ends the isolation of an open circuit.
    pub(crate) fn half_open(&mut self) -> Option<Transition> {
        if matches!(self.phase, Phase::Open { .. }) {
            self.move_to(Phase::HalfOpen {
                probes_out: 0,
                successes: 0,
            })
        } else {
            None
        }
    }

    /// Takes over what a peer has stored. Where both are in the same state, only an open one takes anything: when it
    /// ends. Outcomes and probes stay each process' own.
    pub(crate) fn adopt(&mut self, adopted: Adopted, now: Instant) -> Option<Transition> {
        match (adopted, &self.phase) {
            (Adopted::Closed, Phase::Closed(_))
            | (Adopted::HalfOpen { .. }, Phase::HalfOpen { .. }) => None,
            (Adopted::Closed, _) => self.close(),
            (Adopted::Open { until }, _) => self.move_to(Phase::Open {
                until: until.or_else(|| after(now, self.rules.isolation_duration)),
                outcomes: Vec::new(),
            }),
            // One probe at least is this process' own.
            (Adopted::HalfOpen { successes }, _) => self.move_to(Phase::HalfOpen {
                probes_out: 0,
                successes: successes.min(self.rules.success_threshold - 1),
            }),
        }
    }

    /// Goes on with the outcomes that an earlier process has stored, true being a success. They do not open the
    /// circuit by themselves; the next failure may.
    pub(crate) fn restore(&mut self, outcomes: &[bool]) {
        if let Phase::Closed(remembered) = &mut self.phase {
            for succeeded in outcomes {
                let _ = remembered.add(!succeeded, &self.rules);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation(),
            state: self.state(),
            open_until: self.open_until().flatten(),
            outcomes: self.outcomes(),
            reset: self.reset,
        }
    }

    /// The last outcomes in this state, oldest first; true is a success. Of an open circuit: those that opened it.
    fn outcomes(&self) -> Vec<bool> {
        match &self.phase {
            Phase::Closed(Outcomes::InARow { failures }) => {
                vec![false; (*failures).min(Self::STORED)]
            }
            Phase::Closed(Outcomes::Window { last, .. }) => {
                let surplus = last.len().saturating_sub(Self::STORED);
                last.iter().skip(surplus).map(|failed| !failed).collect()
            }
            Phase::Open { outcomes, .. } => outcomes.clone(),
            Phase::HalfOpen { successes, .. } => vec![true; (*successes).min(Self::STORED)],
        }
    }

    /// The only place where the state changes. A transition into the same state begins a new
    /// generation too, but is none to tell anybody about.
    fn move_to(&mut self, phase: Phase) -> Option<Transition> {
        let from = self.state();
        // A reset by hand holds until the next transition.
        self.reset = false;
        self.phase = phase;
        // 2^61 transitions take longer than the machine will stand.
        self.generation = self.generation.saturating_add(1);
        let to = self.state();
        if from == to {
            return None;
        }
        self.changes += 1;
        Some((from, to, self.changes))
    }
}

impl Outcomes {
    fn none(rules: &CircuitBreakerConfig) -> Self {
        if rules.failure_rate.is_some() {
            Self::Window {
                last: VecDeque::new(),
                failures: 0,
            }
        } else {
            Self::InARow { failures: 0 }
        }
    }

    /// Whether this outcome opens the circuit.
    fn add(&mut self, failed: bool, rules: &CircuitBreakerConfig) -> bool {
        match self {
            Self::InARow { failures } => {
                *failures = if failed { *failures + 1 } else { 0 };
                *failures >= rules.failure_threshold
            }
            Self::Window { last, failures } => {
                if last.len() == rules.window {
                    *failures -= usize::from(last.pop_front() == Some(true));
                }
                last.push_back(failed);
                *failures += usize::from(failed);
                let rate = *failures as f64 / last.len() as f64;
                // Only a failure opens: what a success leaves behind was bearable until now.
                failed
                    && last.len() >= rules.minimum_calls
                    && rules.failure_rate.is_some_and(|limit| rate >= limit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISOLATION: Duration = Duration::from_secs(30);

    /// Plays a script and writes down the state after each step: `s`/`f`/`n` a call that succeeds,
    /// fails or comes to nothing, `<` the isolation is all but over, `>` it is over.
    fn play(rules: CircuitBreakerConfig, script: &str) -> String {
        let mut machine = Machine::new(rules.isolation_duration(ISOLATION), HalfOpening::ByCall);
        let mut now = crate::sync::now();
        let mut seen = String::new();
        for step in script.chars() {
            match step {
                '<' => now += ISOLATION - Duration::from_nanos(1),
                '>' => now += Duration::from_nanos(1),
                _ => match machine.admit(now).0 {
                    Admit::Refuse { .. } => {
                        seen.push('x');
                        continue;
                    }
                    Admit::Pass(ticket) => {
                        let verdict = match step {
                            's' => Verdict::Success,
                            'f' => Verdict::Failure,
                            _ => Verdict::None,
                        };
                        machine.settle(ticket, verdict, now);
                    }
                },
            }
            seen.push(match machine.state() {
                CircuitState::Closed => 'C',
                CircuitState::Open => 'O',
                CircuitState::HalfOpen => 'H',
            });
        }
        seen
    }

    #[test]
    fn scripts() {
        let rules = |failures, successes| {
            CircuitBreakerConfig::default()
                .failure_threshold(failures)
                .success_threshold(successes)
        };
        let rate = |rate, window, minimum| {
            CircuitBreakerConfig::default()
                .success_threshold(1)
                .failure_rate(rate, window)
                .minimum_calls(minimum)
        };
        for (rules, script, expected) in [
            // failures in a row
            (rules(1, 1), "sf", "CO"),
            (rules(3, 1), "ffsff", "CCCCC"),
            (rules(3, 1), "ffsfff", "CCCCCO"),
            (rules(3, 1), "ffnf", "CCCO"),
            // open until the isolation is over, to the nanosecond
            (rules(1, 1), "fs<s>s", "OxOxOC"),
            // half-open
            (rules(1, 2), "f<>ss", "OOOHC"),
            (rules(1, 2), "f<>sfs", "OOOHOx"),
            (rules(1, 1), "f<>nnns", "OOOHHHC"),
            (rules(2, 1), "ff<>sff", "COOOCCO"),
            // share of failures
            (rate(0.5, 4, 4), "ffss", "CCCC"),
            (rate(0.5, 4, 4), "ffssf", "CCCCO"),
            (rate(0.5, 4, 4), "ffsf", "CCCO"),
            (rate(0.5, 4, 2), "ff", "CO"),
            (rate(1.0, 2, 2), "fsfsff", "CCCCCO"),
            (rate(0.5, 4, 4), "fff", "CCC"),
            (rate(0.01, 1, 1), "sf", "CO"),
        ] {
            assert_eq!(play(rules.clone(), script), expected, "{script} {rules:?}");
        }
    }

    #[test]
    fn an_outcome_of_an_earlier_generation_is_dropped() {
        let now = crate::sync::now();
        let rules = CircuitBreakerConfig::default()
            .failure_threshold(1)
            .success_threshold(1)
            .isolation_duration(Duration::ZERO);
        let mut machine = Machine::new(rules, HalfOpening::ByCall);
        let pass = |machine: &mut Machine| match machine.admit(now).0 {
            Admit::Pass(ticket) => ticket,
            Admit::Refuse { .. } => panic!("refused"),
        };
        let (early, late) = (pass(&mut machine), pass(&mut machine));
        machine.settle(early, Verdict::Failure, now);
        let probe = pass(&mut machine);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        assert_eq!(machine.settle(late, Verdict::Success, now), None);
        assert_eq!(machine.state(), CircuitState::HalfOpen);
        machine.settle(probe, Verdict::Success, now);
        assert_eq!(machine.state(), CircuitState::Closed);
    }

    #[test]
    fn at_most_success_threshold_probes_are_out() {
        let now = crate::sync::now();
        let rules = CircuitBreakerConfig::default()
            .success_threshold(2)
            .isolation_duration(Duration::ZERO);
        let mut machine = Machine::new(rules, HalfOpening::ByCall);
        machine.open(now);
        let Admit::Pass(first) = machine.admit(now).0 else {
            panic!("refused")
        };
        assert!(matches!(machine.admit(now).0, Admit::Pass(_)));
        assert!(matches!(machine.admit(now).0, Admit::Refuse { .. }));
        assert!(machine.is_probing_at_the_limit());
        machine.settle(first, Verdict::None, now);
        assert!(matches!(machine.admit(now).0, Admit::Pass(_)));
    }
}

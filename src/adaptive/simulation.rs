//! Simulated dependencies: steady ones, slow ones, dying ones. Seeded, on a clock that the simulation moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::config::AdaptiveTimeoutConfig;
use super::machine::{AdaptiveTimeoutRule, Machine};

const MINUTE: u64 = 60;
const CEILING: Duration = Duration::from_secs(10);

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, and never 0.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11).saturating_add(1) as f64 / (1_u64 << 53) as f64
    }

    /// A run time with a long tail: of a hundred, one is five times the usual or more.
    fn around(&mut self, usual_millis: f64) -> Run {
        let spread = self.share() * self.share() * self.share();
        let tail = (-self.share().ln() / 3.0).max(0.0);
        Run::Takes(usual_millis * (0.7 + spread + tail))
    }
}

/// What becomes of a call that has all the time that it wants.
#[derive(Clone, Copy)]
enum Run {
    /// It succeeds after so many milliseconds.
    Takes(f64),
    Hangs,
    /// It fails at once.
    Fails,
}

/// What happens to a call at its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AtTheLimit {
    /// Its client has the limit as its own, and gives up.
    CutOff,
    /// Its caller leaves, and the task runs on.
    RunsOn,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Succeeds,
    IsCutOff,
    Fails,
}

/// The ends of calls, the earliest first: when, how, and after how long.
type Ends = BinaryHeap<Reverse<(Duration, End, Duration)>>;

struct Simulation {
    machine: Machine,
    random: Random,
    now: Duration,
    ends: Ends,
    per_second: u32,
    at_the_limit: AtTheLimit,
    /// Of the calls since the last look.
    calls: u32,
    late: u32,
    moves: u32,
    least: Duration,
    most: Duration,
}

impl Simulation {
    fn new(at_the_limit: AtTheLimit, per_second: u32) -> Self {
        let config = AdaptiveTimeoutConfig::new()
            .floor(Duration::from_millis(10))
            .ceiling(CEILING);
        Self {
            machine: Machine::new(config),
            random: Random(7),
            now: Duration::ZERO,
            ends: BinaryHeap::new(),
            per_second,
            at_the_limit,
            calls: 0,
            late: 0,
            moves: 0,
            least: Duration::MAX,
            most: Duration::ZERO,
        }
    }

    /// Makes calls for so many seconds. The time since the start of them, in seconds, is an argument of `run`.
    fn calls_for(&mut self, seconds: u64, run: impl Fn(&mut Random, f64) -> Run) {
        (self.calls, self.late, self.moves) = (0, 0, 0);
        (self.least, self.most) = (Duration::MAX, Duration::ZERO);
        let mut before = self.limit();
        let began = self.now;
        for call in 1..=seconds * u64::from(self.per_second) {
            self.now += Duration::from_secs(1) / self.per_second;
            self.end_until(self.now);
            let limit = self.machine.limit(self.now);
            let run = run(&mut self.random, (self.now - began).as_secs_f64());
            self.calls += 1;
            let (end, time) = match run {
                Run::Takes(millis) => (End::Succeeds, Duration::from_secs_f64(millis / 1_000.0)),
                Run::Fails => (End::Fails, Duration::from_millis(1)),
                Run::Hangs => (End::Succeeds, Duration::MAX),
            };
            let is_late = time > limit;
            self.late += u32::from(is_late);
            let end = match self.at_the_limit {
                AtTheLimit::CutOff if is_late => Some((End::IsCutOff, limit)),
                AtTheLimit::RunsOn if is_late => {
                    // The caller leaves at the limit; soon enough for the simulation.
                    self.machine.other(self.now);
                    (time < Duration::MAX).then_some((end, time))
                }
                _ => Some((end, time)),
            };
            if let Some((end, time)) = end {
                self.ends.push(Reverse((self.now + time, end, time)));
            }
            if call % u64::from(self.per_second) == 0 {
                let limit = self.limit();
                self.moves += u32::from(limit != before);
                before = limit;
                self.least = self.least.min(limit);
                self.most = self.most.max(limit);
            }
        }
    }

    fn end_until(&mut self, now: Duration) {
        while let Some(Reverse((at, end, time))) = self.ends.peek().copied() {
            if at > now {
                return;
            }
            self.ends.pop();
            match end {
                End::Succeeds => self.machine.succeed(at, time),
                End::IsCutOff => self.machine.cut_off(at, time),
                End::Fails => self.machine.other(at),
            }
        }
    }

    /// The limit of nearly all.
    fn limit(&mut self) -> Duration {
        self.machine.stats(self.now).limit
    }

    fn rule(&mut self) -> AdaptiveTimeoutRule {
        self.machine.stats(self.now).rule
    }

    fn share_of_late(&self) -> f64 {
        f64::from(self.late) / f64::from(self.calls)
    }
}

/// Runs a simulation for both things that can happen at the limit, with many calls and with few.
fn simulated(check: impl Fn(&mut Simulation, &str)) {
    for at_the_limit in [AtTheLimit::CutOff, AtTheLimit::RunsOn] {
        for per_second in [100, 5] {
            let mut simulation = Simulation::new(at_the_limit, per_second);
            check(&mut simulation, &format!("{at_the_limit:?}, {per_second}"));
        }
    }
}

fn within(limit: Duration, least: u64, most: u64) -> bool {
    (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&limit)
}

fn steady(random: &mut Random, _: f64) -> Run {
    random.around(20.0)
}

/// Its 0.99 quantile is 48 ms.
#[test]
fn a_steady_dependency_has_a_steady_limit() {
    simulated(|simulation, case| {
        simulation.calls_for(2 * MINUTE, steady);
        simulation.calls_for(60 * MINUTE, steady);
        let (least, most) = (simulation.least, simulation.most);
        assert!(within(least, 110, 200), "{case}: {least:?}");
        assert!(within(most, 110, 250), "{case}: {most:?}");
        assert!(simulation.moves <= 4, "{case}: {} moves", simulation.moves);
        let late = simulation.share_of_late();
        assert!(late < 0.001, "{case}: {late}");
    });
}

#[test]
fn the_limit_drifts_with_the_dependency() {
    simulated(|simulation, case| {
        simulation.calls_for(10 * MINUTE, steady);
        let before = simulation.limit();
        // To ten times of it, in an hour, and back.
        simulation.calls_for(60 * MINUTE, |random, seconds| {
            random.around(20.0 * (1.0 + seconds / 400.0))
        });
        let late = simulation.share_of_late();
        assert!(late < 0.002, "{case}: {late}");
        let there = simulation.limit();
        assert!(
            there > before * 6 && there < before * 12,
            "{case}: {there:?}"
        );
        simulation.calls_for(60 * MINUTE, |random, seconds| {
            random.around(20.0 * (10.0 - seconds / 400.0))
        });
        simulation.calls_for(10 * MINUTE, steady);
        let back = simulation.limit();
        assert!(back < before * 3 / 2, "{case}: {before:?}, {back:?}");
    });
}

#[test]
fn of_two_modes_the_slow_one_counts_if_the_quantile_reaches_it() {
    simulated(|simulation, case| {
        let mode = |share: f64| {
            move |random: &mut Random, _: f64| {
                let is_slow = random.share() < share;
                random.around(if is_slow { 400.0 } else { 10.0 })
            }
        };
        // Every 20th call.
        simulation.calls_for(15 * MINUTE, mode(0.05));
        simulation.calls_for(60 * MINUTE, mode(0.05));
        let late = simulation.share_of_late();
        assert!(late < 0.002, "{case}: {late}");
        let (least, most) = (simulation.least, simulation.most);
        assert!(least >= Duration::from_millis(1_200), "{case}: {least:?}");
        assert!(most <= Duration::from_secs(4), "{case}: {most:?}");
        // Every 500th call, which the 0.99 quantile leaves out: no more than these are late.
        simulation.calls_for(10 * MINUTE, mode(0.002));
        simulation.calls_for(60 * MINUTE, mode(0.002));
        let late = simulation.share_of_late();
        assert!(late < 0.004, "{case}: {late}");
    });
}

#[test]
fn a_dying_dependency_does_not_drag_the_limit_up() {
    type Temper = fn(&mut Random, f64) -> Run;
    let deaths: [(&str, Temper); 3] = [
        ("all hang", |_, _| Run::Hangs),
        ("half hang, some fail", |random, _| match random.share() {
            share if share < 0.5 => Run::Hangs,
            share if share < 0.6 => Run::Fails,
            _ => random.around(20.0),
        }),
        ("all fail", |_, _| Run::Fails),
    ];
    for (what, death) in deaths {
        simulated(|simulation, case| {
            simulation.calls_for(10 * MINUTE, steady);
            let before = simulation.limit();
            simulation.calls_for(30 * MINUTE, death);
            let (least, most) = (simulation.least, simulation.most);
            assert_eq!((least, most), (before, before), "{case}, {what}");
            // Alive again: as before.
            simulation.calls_for(10 * MINUTE, steady);
            let late = simulation.share_of_late();
            assert!(late < 0.001, "{case}, {what}: {late}");
            let most = simulation.most;
            assert!(most <= before * 3 / 2, "{case}, {what}: {most:?}");
        });
    }
}

#[test]
fn a_dependency_that_became_slower_than_the_limit_is_given_time() {
    simulated(|simulation, case| {
        simulation.calls_for(10 * MINUTE, steady);
        let before = simulation.limit();
        // Every call takes longer than the limit now.
        let slower = |random: &mut Random, _: f64| random.around(400.0);
        simulation.calls_for(10 * MINUTE, slower);
        let limit = simulation.limit();
        assert!(limit > before * 8, "{case}: {before:?}, {limit:?}");
        simulation.calls_for(30 * MINUTE, slower);
        let late = simulation.share_of_late();
        assert!(late < 0.001, "{case}: {late}");
        assert_ne!(simulation.rule(), AdaptiveTimeoutRule::CutOff, "{case}");
    });
}

#[test]
fn a_slow_minute_does_not_make_the_limit_useless() {
    simulated(|simulation, case| {
        simulation.calls_for(10 * MINUTE, steady);
        let before = simulation.limit();
        simulation.calls_for(MINUTE, |random, _| random.around(2_000.0));
        simulation.calls_for(10 * MINUTE, steady);
        let most = simulation.most;
        assert!(most <= before * 4, "{case}: {before:?}, {most:?}");
        let late = simulation.share_of_late();
        assert!(late < 0.001, "{case}: {late}");
        let after = simulation.limit();
        assert!(after <= before * 3 / 2, "{case}: {before:?}, {after:?}");
    });
}

#[test]
fn a_quick_minute_does_not_make_the_limit_too_short() {
    simulated(|simulation, case| {
        simulation.calls_for(10 * MINUTE, steady);
        let before = simulation.limit();
        simulation.calls_for(MINUTE, |random, _| random.around(1.0));
        simulation.calls_for(10 * MINUTE, steady);
        assert!(simulation.least >= before, "{case}: {:?}", simulation.least);
        assert!(simulation.share_of_late() < 0.001, "{case}");
    });
}

#[test]
fn after_a_quiet_night_the_ceiling_holds_until_there_are_samples() {
    simulated(|simulation, case| {
        simulation.calls_for(10 * MINUTE, steady);
        simulation.now += Duration::from_secs(8 * 3_600);
        assert_eq!(simulation.limit(), CEILING, "{case}");
        simulation.calls_for(5 * MINUTE, steady);
        assert!(simulation.limit() < Duration::from_millis(250), "{case}");
    });
}

//! The machine by tables and scripts.

use std::collections::VecDeque;

use super::*;

const ISOLATION: Duration = Duration::from_secs(30);
/// How long a call runs that is never slow, and one that is slow where the limit is a second.
const QUICK: Duration = Duration::ZERO;
const SLOW: Duration = Duration::from_secs(2);

fn run_of(step: char) -> Duration {
    if step.is_uppercase() { SLOW } else { QUICK }
}

/// Plays a script and writes down the state after each step, `x` for a call that is refused:
///
/// - `s`, `f`, `n`: a call that succeeds, fails or is ignored; `S`, `F`, `N`: the same, slow.
/// - `h`: a call that hangs. `l`: the oldest of them succeeds after all.
/// - `<`: the isolation is all but over. `>`: it is over.
/// - `-`: a second passes.
/// - `T`, `O`, `R`: a trip, forced open, a reset.
fn play(rules: CircuitBreakerConfig, script: &str) -> String {
    play_with_changes(rules, &[], script)
}

/// The same; `!`: the next of `changes` are the rules from then on.
fn play_with_changes(
    rules: CircuitBreakerConfig,
    changes: &[CircuitBreakerConfig],
    script: &str,
) -> String {
    let mut now = crate::sync::now();
    let mut changes = changes.iter();
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
            '!' => {
                let (state, generation) = (machine.state_at(now), machine.generation());
                let times_out = u64::from(machine.probe_timed_out(now).is_some());
                let rules = changes.next().expect("other rules");
                machine.set_rules(rules.clone(), now);
                assert_eq!(machine.state_at(now), state, "{script}");
                assert_eq!(machine.generation(), generation + times_out, "{script}");
            }
            'l' => {
                let ticket = hanging.pop_front().expect("one hangs");
                machine.settle(ticket, Verdict::Success, QUICK, now);
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
                            machine.settle(ticket, verdict, run_of(step), now);
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
                    machine.settle(ticket, verdict, run_of(step), now);
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
                'f' => machine.settle(probe, Verdict::Failure, QUICK, now),
                'h' => {
                    now += 10 * SECOND;
                    machine.time_out_probe(now);
                }
                'c' => {
                    machine.settle(probe, Verdict::Success, QUICK, now);
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
    machine.settle(early, Verdict::Failure, QUICK, now);
    let probe = pass(&mut machine);
    assert_eq!(machine.state(), CircuitState::HalfOpen);
    machine.settle(late, Verdict::Success, QUICK, now);
    assert_eq!(machine.state(), CircuitState::HalfOpen);
    machine.settle(probe, Verdict::Success, QUICK, now);
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
    machine.settle(first, Verdict::Ignored, QUICK, now);
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
    machine.settle(first, Verdict::Ignored, QUICK, at(3));
    // Its slot goes to the next, and its limit goes with it.
    let fourth = probe(&mut machine, at(4));
    assert_eq!(machine.look(at(4)).1, Some(Duration::from_secs(7)));
    machine.settle(fourth, Verdict::Ignored, QUICK, at(5));
    machine.settle(third, Verdict::Ignored, QUICK, at(5));
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

// ---- other rules while it works

/// What is remembered, how much of it goes on, and by which rules it is judged.
#[test]
fn scripts_with_other_rules() {
    let second = Duration::from_secs(1);
    let over = |seconds, minimum| {
        CircuitBreakerConfig::default()
            .success_threshold(1)
            .failure_rate_over(0.5, seconds * second)
            .minimum_calls(minimum)
            .isolation_duration(ISOLATION)
    };
    let rules = |failures, successes| rules(failures, successes).isolation_duration(ISOLATION);
    let rate = |limit, window, minimum| rate(limit, window, minimum).isolation_duration(ISOLATION);
    let slow = |rules: CircuitBreakerConfig| rules.slow_call_duration(second);
    let slow_rate = |limit| slow(rate(1.0, 4, 4)).slow_call_rate(limit);
    for (before, after, script, expected) in [
        // failures in a row: the run goes on
        (rules(5, 1), rules(3, 1), "ff!f", "CCCO"),
        (rules(2, 1), rules(4, 1), "f!fff", "CCCCO"),
        (rules(5, 1), rules(2, 1), "fff!sff", "CCCCCCO"),
        // more of them than the new limit: the next outcome decides, not the change
        (rules(5, 1), rules(2, 1), "ffff!f", "CCCCCO"),
        (rules(5, 1), rules(2, 1), "ffff!nns", "CCCCCCCC"),
        // the gap between two of them is judged when the later one comes
        (
            rules(2, 1),
            rules(2, 1).max_failure_gap(2 * second),
            "f--!-f",
            "CCCCCC",
        ),
        (
            rules(2, 1).max_failure_gap(2 * second),
            rules(2, 1),
            "f--!-f",
            "CCCCCO",
        ),
        // the last calls: as many as the new window holds
        (rate(0.5, 4, 4), rate(0.5, 6, 6), "fff!sss", "CCCCCCO"),
        (rate(1.0, 8, 8), rate(1.0, 2, 2), "sssff!f", "CCCCCCO"),
        (rate(1.0, 8, 8), rate(0.6, 4, 4), "ffssss!f", "CCCCCCCC"),
        (rate(1.0, 8, 8), rate(0.5, 4, 4), "ffssff!s", "CCCCCCCO"),
        (rate(1.0, 8, 8), rate(0.25, 2, 2), "ffffss!ss", "CCCCCCCCC"),
        // enough to judge already: the next outcome decides
        (rate(0.5, 8, 8), rate(0.5, 8, 3), "ffff!n", "CCCCCC"),
        (rate(0.5, 8, 8), rate(0.5, 8, 3), "ffff!s", "CCCCCO"),
        (rate(1.0, 4, 4), rate(0.5, 4, 4), "ffss!s", "CCCCCC"),
        (rate(1.0, 4, 4), rate(0.5, 4, 4), "sfss!f", "CCCCCO"),
        // a period: the same one goes on, another begins anew
        (over(10, 9), over(10, 3), "ff!f", "CCCO"),
        (over(10, 2), over(20, 2), "s!f", "CCC"),
        (over(10, 2), over(20, 2), "s!ff", "CCCO"),
        (over(10, 3), over(10, 2), "f---------!f", "CCCCCCCCCCCO"),
        (over(10, 3), over(10, 2), "f----------!f", "CCCCCCCCCCCCC"),
        // another kind of rule begins anew
        (rules(3, 1), rate(1.0, 2, 2), "ff!ff", "CCCCO"),
        (rules(3, 1), over(10, 2), "ff!ff", "CCCCO"),
        (rate(1.0, 9, 9), rules(2, 1), "ff!ff", "CCCCO"),
        (rate(1.0, 9, 9), over(10, 2), "ff!ff", "CCCCO"),
        (over(10, 9), rules(2, 1), "ff!ff", "CCCCO"),
        (over(10, 9), rate(1.0, 2, 2), "ff!ff", "CCCCO"),
        // the limits of slow calls
        (rules(2, 1), slow(rules(2, 1)), "SS!SS", "CCCCO"),
        (slow(rules(2, 1)), rules(2, 1), "S!Sf", "CCCC"),
        (slow_rate(0.9), slow_rate(0.5), "SSs!s", "CCCCO"),
        // no longer counted apart: they have been successes, and are failures from now on
        (slow_rate(1.0), slow(rate(0.5, 4, 4)), "SSs!s", "CCCCC"),
        (slow_rate(1.0), slow(rate(0.5, 4, 4)), "SSs!SS", "CCCCCO"),
        // open: the end of the isolation stays
        (
            rules(1, 1),
            rules(1, 1).isolation_duration(second),
            "f!<s>s",
            "OOOxHC",
        ),
        (
            rules(1, 1),
            rules(1, 1).isolation_duration(second),
            "f!<>fs-s",
            "OOOHOxHC",
        ),
        (
            rules(1, 1),
            rules(1, 1).isolation_duration(2 * ISOLATION),
            "f!<>s",
            "OOOHC",
        ),
        (rules(1, 1), rules(9, 1), "O!<>sRf", "OOOOxCC"),
        // half-open: the probes that are out and the successes stay
        (rules(1, 3), rules(1, 2), "f<>s!s", "OOHHHC"),
        (rules(1, 3), rules(1, 1), "f<>ss!nns", "OOHHHHHHC"),
        (rules(1, 1), rules(1, 3), "f<>h!hhslll", "OOHHHHHxHHC"),
        (rules(1, 3), rules(1, 1), "f<>hhh!sl", "OOHHHHHxC"),
        (rules(1, 3), rules(1, 1), "f<>hhs!s", "OOHHHHHx"),
        (rules(1, 3), rules(1, 1), "f<>hs!ff", "OOHHHHxx"),
        (rules(1, 3), rules(1, 2), "f<>hhh!sl", "OOHHHHHxH"),
        (rules(1, 3), rules(1, 2), "f<>hhh!lss", "OOHHHHHHxx"),
        (rules(1, 3), rules(1, 2), "f<>hhh!lls", "OOHHHHHHCC"),
        (rules(1, 2), rules(1, 3), "f<>s!ff", "OOHHHOx"),
        // a verdict from before the opening counts no more
        (rules(1, 1), rules(9, 1), "hf!<>ls", "COOOHHC"),
        // the limit of a probe that is out is the new one, from when it went out
        (
            rules(1, 1).probe_timeout(9 * second),
            rules(1, 1).probe_timeout(2 * second),
            "f<>h-!s-s",
            "OOHHHHxOx",
        ),
        (
            rules(1, 1).probe_timeout(2 * second),
            rules(1, 1).probe_timeout(4 * second),
            "f<>h-!--l",
            "OOHHHHHHC",
        ),
        // what timed out before the change has timed out
        (
            rules(1, 1).probe_timeout(2 * second),
            rules(1, 1).probe_timeout(4 * second),
            "f<>h--!l",
            "OOHHHOOO",
        ),
    ] {
        assert_eq!(
            play_with_changes(before.clone(), std::slice::from_ref(&after), script),
            expected,
            "{script} {before:?} {after:?}"
        );
    }
}

#[test]
fn a_probe_that_is_late_by_the_new_rules_fails_at_the_change() {
    let start = crate::sync::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let rules = rules(1, 1)
        .isolation_duration(Duration::from_secs(5))
        .probe_timeout(Duration::MAX);
    let mut machine = Machine::new(rules.clone(), HalfOpening::ByCall, start);
    machine.trip(start);
    let Admit::Pass(probe) = machine.admit(at(5)) else {
        panic!("refused");
    };
    assert_eq!(machine.next_look(), None);
    let rules = rules.probe_timeout(Duration::from_secs(10));
    machine.set_rules(rules.clone(), at(100));
    assert_eq!(machine.next_look(), Some(at(100)));
    // The same rules once more are no change.
    machine.set_rules(rules, at(101));
    assert_eq!(machine.next_look(), Some(at(100)));
    assert_eq!(machine.state_at(at(104)), CircuitState::Open);
    machine.settle(probe, Verdict::Success, QUICK, at(104));
    assert_eq!(machine.state(), CircuitState::Open);
    assert_eq!(machine.snapshot().open_until, Some(at(105)));
    // A probe that goes out after the change has the whole limit.
    assert!(matches!(machine.admit(at(105)), Admit::Pass(_)));
    assert_eq!(machine.next_look(), Some(at(115)));
}

/// Seconds of two isolations by the old rules and of two by the new ones, each ended by a probe that fails; and of the
/// isolation that a trip of the open circuit begins after the change.
#[test]
fn isolations_go_on_growing_by_the_new_rules() {
    let seconds = Duration::from_secs;
    let of = |first| rules(1, 1).isolation_duration(seconds(first));
    let grows = |first, factor, max| of(first).isolation_backoff(factor, seconds(max));
    for (before, after, expected, tripped) in [
        (of(10), of(3), [10, 10, 3, 3], 3),
        (grows(10, 2.0, 60), grows(10, 3.0, 60), [10, 20, 60, 60], 20),
        (grows(10, 2.0, 60), grows(10, 2.0, 30), [10, 20, 30, 30], 20),
        (grows(10, 2.0, 60), grows(5, 2.0, 15), [10, 20, 15, 15], 15),
        (grows(10, 2.0, 60), grows(50, 2.0, 90), [10, 20, 50, 90], 50),
        (grows(10, 2.0, 60), of(7), [10, 20, 7, 7], 7),
        (of(10), grows(10, 2.0, 60), [10, 10, 20, 40], 10),
    ] {
        let start = crate::sync::now();
        let opened_twice = || {
            let mut machine = Machine::new(before.clone(), HalfOpening::ByCall, start);
            machine.observe(Verdict::Failure, start);
            let first = fail_the_next_probe(&mut machine, start);
            machine.set_rules(after.clone(), first);
            (machine, first)
        };
        let (mut machine, mut now) = opened_twice();
        let mut ends = vec![start, now];
        while ends.len() <= expected.len() {
            now = fail_the_next_probe(&mut machine, now);
            ends.push(now);
        }
        let isolations: Vec<_> = ends.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(isolations, expected.map(seconds), "{before:?} {after:?}");

        let (mut machine, now) = opened_twice();
        machine.trip(now);
        let isolation = machine.look(now).1;
        assert_eq!(isolation, Some(seconds(tripped)), "{before:?} {after:?}");
    }
}

/// The end of the isolation, at which a probe has failed.
fn fail_the_next_probe(machine: &mut Machine, now: Instant) -> Instant {
    let end = now + machine.look(now).1.expect("open");
    assert!(matches!(machine.admit(end), Admit::Pass(_)));
    machine.observe(Verdict::Failure, end);
    end
}

//! Spinning and yielding for a moment before a thread sleeps, where that pays.
//!
//! | cores | quickest hand-over |
//! |---|---|
//! | two, idle | the waiter spins: half a microsecond, and a hundred times that if it has to be woken |
//! | one, shared by both sides | each side yields to the other |
//! | busy with other threads | the waiter sleeps: a thread that yields gets the core back a time slice later |
//!
//! For a task that takes long, spinning and yielding are lost time. So the waiter learns: a try that paid is repeated at
//! the next occasion, and a try that did not is followed by a pause.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::now;

/// Spins, then yields, as far as either has paid before.
#[derive(Debug, Default)]
pub(crate) struct AdaptiveSpin {
    spinning: AdaptiveTry,
    yielding: AdaptiveTry,
}

impl AdaptiveSpin {
    /// How long a try spins.
    const SHORT: Duration = Duration::from_micros(3);
    /// How long a try yields.
    const LONG: Duration = Duration::from_micros(20);
    /// A yield that took this long has given away a time slice.
    const SLICE: Duration = Duration::from_micros(500);
    /// How long a yield can take where a few dozen threads share the core, with a time slice each.
    const MANY_SLICES: Duration = Duration::from_millis(100);
    /// The most that sleeping and being woken costs.
    const WAKE_UP: Duration = Duration::from_micros(20);
    /// How often a try looks between two readings of the clock.
    const LOOKS: u32 = 16;

    /// What `look` finds, now or in a moment. `within` is the time that there is (`None`: any). `more` counts what else
    /// has come meanwhile: a thread that finds a lot has saved as many wake-ups.
    pub(crate) fn until<R>(
        &self,
        within: impl FnOnce() -> Option<Duration>,
        look: impl Fn() -> Option<R>,
        more: impl Fn() -> usize,
    ) -> Option<R> {
        let found = look();
        if found.is_some() {
            return found;
        }
        let time = within().unwrap_or(Duration::MAX);
        if time < Self::LONG {
            return None;
        }
        let found = self.spinning.follow(|| Self::spin(&look));
        // A thread that sleeps is back on time, however many want to run.
        if found.is_some() || time < Self::MANY_SLICES {
            return found;
        }
        self.yielding.follow(|| Self::yield_for(&look, more))
    }

    fn spin<R>(look: impl Fn() -> Option<R>) -> (Option<R>, Lost) {
        let mut since = None;
        loop {
            for _ in 0..Self::LOOKS {
                std::hint::spin_loop();
                let found = look();
                if found.is_some() {
                    return (found, Lost::Nothing);
                }
            }
            let now = now();
            if now.duration_since(*since.get_or_insert(now)) >= Self::SHORT {
                return (None, Lost::Little);
            }
        }
    }

    fn yield_for<R>(look: impl Fn() -> Option<R>, more: impl Fn() -> usize) -> (Option<R>, Lost) {
        let since = now();
        let mut before = Duration::ZERO;
        loop {
            std::thread::yield_now();
            let found = look();
            let took = now().duration_since(since);
            let late = took - before >= Self::SLICE;
            let lost = match &found {
                Some(_) if late => Self::lost(took, more()),
                Some(_) => Lost::Nothing,
                None if late => Lost::Unknown,
                None if took >= Self::LONG => Lost::Little,
                None => {
                    before = took;
                    continue;
                }
            };
            return (found, lost);
        }
    }

    /// What a yield has cost that `took` so long and found so much `more`.
    fn lost(took: Duration, more: usize) -> Lost {
        let saved = Self::WAKE_UP.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX));
        match took.saturating_sub(saved) {
            Duration::ZERO => Lost::Nothing,
            lost => Lost::Much(lost),
        }
    }
}

/// What a try has cost for nothing.
#[derive(Debug, PartialEq)]
enum Lost {
    Nothing,
    Little,
    Much(Duration),
    Unknown,
}

/// Learns whether a try pays: one that paid is repeated at the next occasion, one that did not after a pause.
#[derive(Debug, Default)]
struct AdaptiveTry {
    /// Upper half: how many occasions the last pause skips. Lower half: how many of them are left.
    /// Threads may overwrite each other's numbers; they need not be exact.
    pause: AtomicU32,
}

impl AdaptiveTry {
    /// For many small losses in a row.
    const LONG_PAUSE: u32 = 1 << 10;
    /// For a great one.
    const LONGEST_PAUSE: u32 = 1 << 14;

    /// Tries it, unless it is paused.
    fn follow<R>(&self, it: impl FnOnce() -> (Option<R>, Lost)) -> Option<R> {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause & 0xffff > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed);
            return None;
        }
        let (found, lost) = it();
        let longer = match lost {
            Lost::Nothing => 0,
            Lost::Little => ((pause >> 16) * 2).clamp(2, Self::LONG_PAUSE),
            // A try that pays wins about a microsecond.
            Lost::Much(time) => u32::try_from(time.as_micros())
                .unwrap_or(u32::MAX)
                .min(Self::LONGEST_PAUSE),
            Lost::Unknown => return found,
        };
        if longer != 0 || pause != 0 {
            self.pause.store(longer << 16 | longer, Ordering::Relaxed);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{AdaptiveSpin, AdaptiveTry, Lost};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// How many occasions pass until the next try, which loses so much.
    fn pause_before(attempt: &AdaptiveTry, lost: Lost) -> u32 {
        let mut lost = Some(lost);
        let mut occasions = 0;
        while attempt
            .follow(|| (Some(()), lost.take().unwrap()))
            .is_none()
        {
            occasions += 1;
        }
        occasions
    }

    #[test]
    fn what_is_worth_it_is_done_again_at_once() {
        let attempt = AdaptiveTry::default();
        for _ in 0..3 {
            assert_eq!(pause_before(&attempt, Lost::Nothing), 0);
        }
    }

    #[test]
    fn small_losses_in_a_row_double_the_pause_up_to_a_limit() {
        let attempt = AdaptiveTry::default();
        assert_eq!(pause_before(&attempt, Lost::Little), 0);
        for pause in [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024] {
            assert_eq!(pause_before(&attempt, Lost::Little), pause);
        }
        assert_eq!(pause_before(&attempt, Lost::Nothing), 1024);
        assert_eq!(pause_before(&attempt, Lost::Little), 0);
        assert_eq!(pause_before(&attempt, Lost::Little), 2);
    }

    #[test]
    fn a_great_loss_is_made_up_for_by_a_microsecond_an_occasion() {
        let attempt = AdaptiveTry::default();
        assert_eq!(
            pause_before(&attempt, Lost::Much(Duration::from_millis(4))),
            0
        );
        assert_eq!(pause_before(&attempt, Lost::Much(Duration::MAX)), 4_000);
        assert_eq!(pause_before(&attempt, Lost::Nothing), 1 << 14);
    }

    #[test]
    fn a_few_more_are_not_worth_a_time_slice() {
        let slice = Duration::from_millis(4);
        assert_eq!(AdaptiveSpin::lost(slice, 0), Lost::Much(slice));
        let lost = Duration::from_micros(3_960);
        assert_eq!(AdaptiveSpin::lost(slice, 2), Lost::Much(lost));
        assert_eq!(AdaptiveSpin::lost(slice, 200), Lost::Nothing);
        assert_eq!(AdaptiveSpin::lost(slice, usize::MAX), Lost::Nothing);
    }

    #[test]
    fn what_tells_nothing_changes_nothing() {
        let attempt = AdaptiveTry::default();
        assert_eq!(pause_before(&attempt, Lost::Unknown), 0);
        assert_eq!(pause_before(&attempt, Lost::Little), 0);
        assert_eq!(pause_before(&attempt, Lost::Unknown), 2);
        assert_eq!(pause_before(&attempt, Lost::Little), 0);
        assert_eq!(pause_before(&attempt, Lost::Nothing), 4);
    }

    #[test]
    fn who_has_little_time_does_not_give_it_away() {
        let waiting = AdaptiveSpin::default();
        let has_waited = || {
            [&waiting.spinning, &waiting.yielding]
                .map(|attempt| attempt.pause.load(Ordering::Relaxed) > 0)
        };
        let wait = |within| waiting.until(|| Some(within), || None::<()>, || 0);
        assert_eq!(wait(Duration::ZERO), None);
        assert_eq!(has_waited(), [false, false]);
        assert_eq!(wait(Duration::from_millis(99)), None);
        assert_eq!(has_waited(), [true, false]);
    }
}

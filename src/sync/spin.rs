//! Looking again for a while before going to sleep.
//!
//! Between two idle cores a hand-off takes half a microsecond if the other side is awake and looking, and a hundred
//! times that if it has to be woken. On one core it takes the least if both sides let each other run rather than
//! sleep. But for a task that takes long either is time lost; and on a busy core whoever lets others run gets it back
//! a time slice later, while one who sleeps and is woken gets it at once. So a try that was worth it is followed by
//! another, and one that was not by a pause.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::now;

/// How somebody waits before going to sleep.
#[derive(Debug, Default)]
pub(crate) struct Spinning {
    looking: Habit,
    yielding: Habit,
}

impl Spinning {
    /// How long to look without letting others run.
    const SHORT: Duration = Duration::from_micros(3);
    /// How long to look and let others run.
    const LONG: Duration = Duration::from_micros(20);
    /// Who comes back after this has given away a time slice.
    const SLICE: Duration = Duration::from_micros(500);
    /// Others that share the core may take so long before one is back, where a few dozen of them have a time slice each.
    const MANY_SLICES: Duration = Duration::from_millis(100);
    /// What it costs, at most, to sleep and be woken.
    const WAKE_UP: Duration = Duration::from_micros(20);
    /// Looks between two readings of the clock.
    const LOOKS: u32 = 16;

    /// What `look` finds, now or in a moment. By then there may be so much `more` of it that it was as well not to be
    /// woken for each. `within`: the time that there is; `None`: any.
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
        let found = self.looking.follow(|| Self::keep_looking(&look));
        // Asleep one is back on time, however many want to run.
        if found.is_some() || time < Self::MANY_SLICES {
            return found;
        }
        self.yielding.follow(|| Self::let_others_run(&look, more))
    }

    fn keep_looking<R>(look: impl Fn() -> Option<R>) -> (Option<R>, Lost) {
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

    fn let_others_run<R>(
        look: impl Fn() -> Option<R>,
        more: impl Fn() -> usize,
    ) -> (Option<R>, Lost) {
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

    /// For one who comes back so late and finds so much more.
    fn lost(took: Duration, more: usize) -> Lost {
        let saved = Self::WAKE_UP.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX));
        match took.saturating_sub(saved) {
            Duration::ZERO => Lost::Nothing,
            lost => Lost::Much(lost),
        }
    }
}

/// What a try has cost without need.
#[derive(Debug, PartialEq)]
enum Lost {
    Nothing,
    Little,
    Much(Duration),
    Unknown,
}

/// Something to do again if it was worth it, and after a while if it was not.
#[derive(Debug, Default)]
struct Habit {
    /// Upper half: how many occasions to sit out after the last failure. Lower half: how many are left.
    /// Threads may overwrite each other's news; it is only a habit.
    pause: AtomicU32,
}

impl Habit {
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
            // One can win about a microsecond an occasion.
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
    use super::{Habit, Lost, Spinning};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// How many occasions pass until the next try, which loses so much.
    fn pause_before(habit: &Habit, lost: Lost) -> u32 {
        let mut lost = Some(lost);
        let mut occasions = 0;
        while habit.follow(|| (Some(()), lost.take().unwrap())).is_none() {
            occasions += 1;
        }
        occasions
    }

    #[test]
    fn what_is_worth_it_is_done_again_at_once() {
        let habit = Habit::default();
        for _ in 0..3 {
            assert_eq!(pause_before(&habit, Lost::Nothing), 0);
        }
    }

    #[test]
    fn small_losses_in_a_row_double_the_pause_up_to_a_limit() {
        let habit = Habit::default();
        assert_eq!(pause_before(&habit, Lost::Little), 0);
        for pause in [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024] {
            assert_eq!(pause_before(&habit, Lost::Little), pause);
        }
        assert_eq!(pause_before(&habit, Lost::Nothing), 1024);
        assert_eq!(pause_before(&habit, Lost::Little), 0);
        assert_eq!(pause_before(&habit, Lost::Little), 2);
    }

    #[test]
    fn a_great_loss_is_made_up_for_by_a_microsecond_an_occasion() {
        let habit = Habit::default();
        assert_eq!(
            pause_before(&habit, Lost::Much(Duration::from_millis(4))),
            0
        );
        assert_eq!(pause_before(&habit, Lost::Much(Duration::MAX)), 4_000);
        assert_eq!(pause_before(&habit, Lost::Nothing), 1 << 14);
    }

    #[test]
    fn a_few_more_are_not_worth_a_time_slice() {
        let slice = Duration::from_millis(4);
        assert_eq!(Spinning::lost(slice, 0), Lost::Much(slice));
        let lost = Duration::from_micros(3_960);
        assert_eq!(Spinning::lost(slice, 2), Lost::Much(lost));
        assert_eq!(Spinning::lost(slice, 200), Lost::Nothing);
        assert_eq!(Spinning::lost(slice, usize::MAX), Lost::Nothing);
    }

    #[test]
    fn what_tells_nothing_changes_nothing() {
        let habit = Habit::default();
        assert_eq!(pause_before(&habit, Lost::Unknown), 0);
        assert_eq!(pause_before(&habit, Lost::Little), 0);
        assert_eq!(pause_before(&habit, Lost::Unknown), 2);
        assert_eq!(pause_before(&habit, Lost::Little), 0);
        assert_eq!(pause_before(&habit, Lost::Nothing), 4);
    }

    #[test]
    fn who_has_little_time_does_not_give_it_away() {
        let waiting = Spinning::default();
        let has_waited = || {
            [&waiting.looking, &waiting.yielding]
                .map(|habit| habit.pause.load(Ordering::Relaxed) > 0)
        };
        let wait = |within| waiting.until(|| Some(within), || None::<()>, || 0);
        assert_eq!(wait(Duration::ZERO), None);
        assert_eq!(has_waited(), [false, false]);
        assert_eq!(wait(Duration::from_millis(99)), None);
        assert_eq!(has_waited(), [true, false]);
    }
}

//! The retry budget of a dependency: how many retries all its callers may make together.

use std::fmt;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// The balance of one retry.
const ONE: u64 = 1_000_000;

/// Bounds the retries of all callers of a dependency by a share of its calls. Clones are one budget.
///
/// Each call pays in the share, each retry takes one out; a retry that finds too little does not take place. It is taken before
/// the pause, and back if the pause ends without a retry. So there are
/// never more retries than the reserve and the share of all calls together, and retries cannot double the load of a
/// dependency that is going down:
///
/// ```
/// use bulkman::policy::{Retry, RetryBudget};
///
/// let budget = RetryBudget::new(0.1).reserve(2); // one retry for ten calls, and two at the start
/// let retry = Retry::new(5).first_delay(std::time::Duration::ZERO).budget(budget.clone());
/// let mut attempts = 0;
/// for _ in 0..20 {
///     let _ = retry.call(|| {
///         attempts += 1;
///         Err::<(), _>("connection refused")
///     });
/// }
/// assert_eq!(attempts, 20 + 3); // 20 + 80 without the budget
/// assert_eq!(budget.available(), 0);
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    share: u64,
    max: u64,
    /// In millionths of a retry.
    balance: Arc<AtomicU64>,
}

impl RetryBudget {
    /// A budget of `share` retries for each call, with a [reserve](Self::reserve) of 10.
    ///
    /// A share of 0.1 allows one retry for ten calls. Below 0 or no number it counts as 0, above 1 as 1.
    #[must_use]
    pub fn new(share: f64) -> Self {
        let share = if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        };
        let share = (share * ONE as f64).round() as u64;
        Self {
            share,
            max: 0,
            balance: Arc::default(),
        }
        .reserve(10)
    }

    /// Sets how many retries are there at the start, and at most saved up in quiet times. Default 10; at least 1, since
    /// nothing else could be saved up.
    ///
    /// The budget starts full and anew: set it before the budget is cloned.
    #[must_use]
    pub fn reserve(mut self, retries: u32) -> Self {
        self.max = u64::from(retries.max(1)) * ONE;
        self.balance = Arc::new(AtomicU64::new(self.max));
        self
    }

    /// How many retries may take place at this moment.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.balance.load(Ordering::Relaxed) / ONE
    }

    /// A call was made.
    pub(super) fn pay_in(&self) {
        self.update(|balance| Some(balance.saturating_add(self.share).min(self.max)));
    }

    /// Takes one retry; `false` if there is none.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        self.update(|balance| balance.checked_sub(ONE))
    }

    /// The retry for which one was taken does not take place.
    pub(super) fn give_back(&self) {
        self.update(|balance| Some(balance.saturating_add(ONE).min(self.max)));
    }

    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        // ORDERING: Relaxed. The number stands for itself.
        self.balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("share", &(self.share as f64 / ONE as f64))
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_never_exceed_the_reserve_and_the_share_of_the_calls() {
        for (share, reserve) in [(0.1, 1), (0.25, 10), (1.0, 3), (0.0, 2), (1.0 / 3.0, 4)] {
            let budget = RetryBudget::new(share).reserve(reserve);
            let mut retries = 0;
            for call in 1..=1_000_u32 {
                budget.pay_in();
                for _ in 0..2 {
                    retries += u32::from(budget.take());
                }
                let bound = f64::from(reserve) + share * f64::from(call) + 0.001;
                assert!(
                    f64::from(retries) <= bound,
                    "{share} {reserve}: {retries} of {call}"
                );
            }
            assert!(f64::from(retries) >= share * 999.0, "{share}: {retries}");
        }
    }

    #[test]
    fn quiet_times_save_up_no_more_than_the_reserve() {
        let budget = RetryBudget::new(0.5).reserve(3);
        for _ in 0..1_000 {
            budget.pay_in();
        }
        assert_eq!(budget.available(), 3);
    }

    #[test]
    fn shares_out_of_range_count_as_the_nearest_in_it() {
        for (share, expected) in [
            (f64::NAN, 0),
            (-1.0, 0),
            (f64::NEG_INFINITY, 0),
            (7.0, ONE),
            (f64::INFINITY, ONE),
        ] {
            assert_eq!(RetryBudget::new(share).share, expected, "{share}");
        }
        assert_eq!(RetryBudget::new(1.0).reserve(0).available(), 1);
        assert_eq!(
            RetryBudget::new(1.0).reserve(u32::MAX).available(),
            u64::from(u32::MAX)
        );
    }
}

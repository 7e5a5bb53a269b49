//! How far the clock of this host is from that of a storage.

use std::time::{Duration, SystemTime};

use crate::panic::note;

/// A difference that is worth a warning.
const LARGE: Duration = Duration::from_secs(5);
/// A difference that ends a warning.
const SMALL: Duration = Duration::from_millis(2_500);

/// The clock of this host and that of a storage, read at the same moment.
///
/// Both are read within one round trip to the storage, so a difference that is smaller than that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockSkew {
    /// The wall clock of this host.
    pub host: SystemTime,
    /// The storage's own clock.
    pub storage: SystemTime,
}

impl ClockSkew {
    /// How far the two are apart, whichever of them is ahead.
    #[must_use]
    pub fn amount(&self) -> Duration {
        let (earlier, later) = (self.host.min(self.storage), self.host.max(self.storage));
        later.duration_since(earlier).unwrap_or_default()
    }

    /// Whether the clock of this host is ahead of the storage's.
    #[must_use]
    pub fn host_is_ahead(&self) -> bool {
        self.host > self.storage
    }
}

/// Warns of a large difference once, until it has gone away.
#[derive(Debug, Default)]
pub(super) struct SkewWatch {
    latest: Option<ClockSkew>,
    is_large: bool,
}

impl SkewWatch {
    pub(super) fn latest(&self) -> Option<ClockSkew> {
        self.latest
    }

    pub(super) fn look(&mut self, host: SystemTime, storage: SystemTime) {
        let skew = ClockSkew { host, storage };
        self.latest = Some(skew);
        let amount = skew.amount();
        if amount <= SMALL {
            self.is_large = false;
        } else if amount > LARGE && !self.is_large {
            self.is_large = true;
            let (seconds, host, storage) = (amount.as_secs_f64(), utc(host), utc(storage));
            let direction = if skew.host_is_ahead() {
                "ahead"
            } else {
                "behind"
            };
            note(|| {
                log::warn!(
                    target: "bulkman::circuit", "the clock of this host is {seconds:.1} s {direction} of the circuit storage's: {host} here, \
                     {storage} there; isolations of peers may seem too long or too short"
                );
            });
        }
    }
}

/// A time in UTC, such as `2026-11-25 23:56:20Z`.
fn utc(time: SystemTime) -> String {
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else {
        return "before 1970".to_owned();
    };
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March, in eras of 400 years, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00Z"),
            (68_169_599, "1972-02-28 23:59:59Z"),
            (68_169_600, "1972-02-29 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_763_000_000, "2025-11-13 02:13:20Z"),
            (4_107_542_399, "2100-02-28 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (253_402_300_799, "9999-12-31 23:59:59Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(utc(time), expected);
        }
    }

    #[test]
    fn a_large_difference_is_noted_until_it_is_small_again() {
        let storage = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut watch = SkewWatch::default();
        for (millis, is_large) in [
            (0, false),
            (4_900, false),
            (5_100, true),
            (4_000, true),
            (2_400, false),
            (4_000, false),
            (86_400_000, true),
        ] {
            for host in [
                storage + Duration::from_millis(millis),
                storage - Duration::from_millis(millis),
            ] {
                watch.look(host, storage);
                assert_eq!(watch.is_large, is_large, "{millis} ms");
                let latest = watch.latest().expect("it has looked");
                assert_eq!(latest.amount(), Duration::from_millis(millis));
                assert_eq!(latest.host_is_ahead(), host > storage);
            }
        }
    }
}

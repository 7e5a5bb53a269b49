//! How durations stand in settings: as seconds, such as `2.5`, or as text, such as `250ms` or `1m 30s`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

/// What a reader is told where something else stands.
const EXPECTED: &str =
    "a duration: seconds such as 2.5, or text with a unit such as \"250ms\", \"30s\" or \"5m\"";

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Each unit in nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("d", 86_400 * NANOS_PER_SECOND),
];

/// `None`: it is no duration, or a longer one than there is.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut nanos: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_ends);
        let after = after.trim_start();
        let unit_ends = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(times(number, *size)?)?;
        rest = after.trim_start();
    }
    from_nanos(nanos)
}

/// A decimal number of units, without the detour over a float.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u128 = whole.parse().ok()?;
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    if part.is_empty() {
        return None;
    }
    for digit in part.chars() {
        place /= 10;
        nanos = nanos.checked_add(u128::from(digit.to_digit(10)?) * place)?;
    }
    Some(nanos)
}

fn from_nanos(nanos: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    let rest = u32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, rest))
}

/// A duration as text that [`parse`] reads back exactly.
pub(crate) struct Text(pub(crate) Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if seconds > 0 || nanos == 0 {
            write!(f, "{seconds}s")?;
        }
        if seconds > 0 && nanos > 0 {
            f.write_str(" ")?;
        }
        match nanos {
            0 => Ok(()),
            ms if ms % 1_000_000 == 0 => write!(f, "{}ms", ms / 1_000_000),
            us if us % 1_000 == 0 => write!(f, "{}us", us / 1_000),
            ns => write!(f, "{ns}ns"),
        }
    }
}

/// Reads seconds or text.
#[derive(Default)]
pub(crate) struct DurationVisitor {
    /// What else the caller takes, for the error.
    pub(crate) or: &'static str,
}

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EXPECTED}{}", self.or)
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        u64::try_from(seconds)
            .map(Duration::from_secs)
            .map_err(|_| E::invalid_value(Unexpected::Signed(seconds), &self))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::invalid_value(Unexpected::Float(seconds), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// For `#[serde(with = "…")]`.
pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Text(*duration))
}

/// For `#[serde(with = "…")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor::default())
}

/// For an `Option<Duration>`.
pub(crate) mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    struct Within(Duration);

    impl<'de> Deserialize<'de> for Within {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            super::deserialize(deserializer).map(Self)
        }
    }

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let duration = Option::<Within>::deserialize(deserializer)?;
        Ok(duration.map(|Within(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_units() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("0s", Some(Duration::ZERO)),
            ("30s", Some(Duration::from_secs(30))),
            ("30 s", Some(Duration::from_secs(30))),
            (" 1.5s ", Some(Duration::from_millis(1500))),
            ("5m", Some(Duration::from_secs(300))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("2h", Some(Duration::from_secs(7200))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("3us", Some(Duration::from_micros(3))),
            ("3µs", Some(Duration::from_micros(3))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("0.1ns", Some(Duration::ZERO)),
            ("18446744073709551615s 999999999ns", Some(Duration::MAX)),
            ("18446744073709551616s", None),
            ("999999999999999999999999999999999999999999s", None),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("+5s", None),
            ("5x", None),
            ("5S", None),
            ("5 minutes", None),
            ("1.s", None),
            (".5s", None),
            ("1.2.3s", None),
            ("5s,", None),
            ("NaNs", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_is_read_back_exactly() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_millis(1500), "1s 500ms"),
            (Duration::from_micros(1500), "1500us"),
            (Duration::from_nanos(1_000_000_001), "1s 1ns"),
            (Duration::from_secs(3600), "3600s"),
            (Duration::MAX, "18446744073709551615s 999999999ns"),
        ] {
            assert_eq!(Text(duration).to_string(), text);
            assert_eq!(parse(text), Some(duration));
        }
    }
}

//! Durations as written on a command line or in a query (`30`, `30s`, `500ms`, `2m`) and in
//! documents, in milliseconds; points in time as documents show them; pauses before another try.

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// Longest duration that is accepted: a day.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a whole number with the unit `ms`, `s` or `m`; seconds if there is none.
///
/// # Errors
/// A sentence for the user: the text is not a duration, or is more than a day.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>());
    let duration = match (number, unit) {
        (Some(Ok(number)), "ms") => Some(Duration::from_millis(number)),
        (Some(Ok(number)), "s" | "") => Some(Duration::from_secs(number)),
        (Some(Ok(number)), "m") => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    duration
        .filter(|duration| *duration <= MAX)
        .ok_or_else(|| "a duration such as 30s, 500ms or 2m is needed, a day at most".to_owned())
}

/// Serializes a point in time with the suffix `Z` and the shortest exact fraction (02 §3).
///
/// # Errors
/// Those of the serializer.
pub(crate) fn with_z<S: Serializer>(
    time: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Draws a pause between half of this one and one and a half times it.
///
/// Every pause before another request to a peer comes from here: computes that lost a peer at one
/// time must not come back to it at one time, when it is as weak as it ever is. The width is the
/// pause itself, so that after a few growing pauses a fleet comes back evenly; the mean is the pause,
/// so that the documented sum of the pauses holds.
pub(crate) fn varied(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

/// Whole milliseconds, as all `*_ms` members are (02 §3).
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds for people: the two largest units, `312 ms`, `4.2 s`, `3 min 12 s`, `2 d 5 h`.
pub(crate) fn spoken(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{seconds}.{} s", millis % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Whole milliseconds since `began`, for members that are 32 bits wide.
pub(crate) fn millis_since(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (9_999, "9.9 s"),
            (59_999, "59 s"),
            (60_000, "1 min 0 s"),
            (3_599_000, "59 min 59 s"),
            (3_660_000, "1 h 1 min"),
            (86_400_000 * 40 + 3_600_000, "40 d 1 h"),
        ] {
            assert_eq!(spoken(millis), text);
        }
    }

    #[test]
    fn forms() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1440m", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1.5s",
            "1 s",
            " 1s",
            "1h",
            "1S",
            "1441m",
            "86401",
            "1s1",
            "18446744073709551616",
            "18446744073709551615m",
            "١s",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}

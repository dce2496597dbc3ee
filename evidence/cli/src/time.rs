//! Times and durations as people read and write them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A length of time such as `15m`, `1h 30m`, `2d`; never negative. A day has 24 hours.
pub(crate) fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("'{text}' is no length of time; write 15m, 1h or 2d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    if duration.is_negative() {
        return Err(wrong());
    }
    Ok(duration)
}

/// A moment: a length of time ago, a day (its beginning, UTC), or an RFC 3339 time.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>()
        && let Ok(at) = day.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(at.timestamp());
    }
    let ago = parse_duration(text).map_err(|_| {
        format!(
            "'{text}' is no time; write 15m, 1h or 2d (ago), 2026-03-01 or 2026-03-01T12:00:00Z"
        )
    })?;
    Ok(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN))
}

/// Nanoseconds since the Unix epoch as a timestamp; the epoch where out of range.
pub(crate) fn from_ns(ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `2026-03-01T12:00:00.123Z`.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// `2026-03-01 12:00:00`, UTC.
pub(crate) fn date_and_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Two units at most: `870 µs`, `42 ms`, `3.2 s`, `4m12s`, `2h05m`, `3d4h`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_micros() < 1_000 => format!("{} µs", duration.as_micros()),
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// How long ago, or how long until; zero where it is the other way round.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from)
        .max(SignedDuration::ZERO)
        .unsigned_abs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        assert_eq!(parse_duration("15m"), Ok(SignedDuration::from_mins(15)));
        assert_eq!(parse_duration("1h"), Ok(SignedDuration::from_hours(1)));
        assert_eq!(parse_duration("2d"), Ok(SignedDuration::from_hours(48)));
        for bad in ["", "soon", "-1h", "1", "1 month"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_while_ago_a_day_or_a_time() {
        let day = parse_moment("2026-03-01").unwrap();
        assert_eq!(rfc3339(day), "2026-03-01T00:00:00.000Z");
        assert_eq!(parse_moment("2026-03-01T00:00:00Z"), Ok(day));
        assert_eq!(parse_moment("2026-03-01T01:00:00+01:00"), Ok(day));
        let hour_ago = between(parse_moment("1h").unwrap(), Timestamp::now());
        assert!(hour_ago >= Duration::from_secs(3_600));
        assert!(hour_ago < Duration::from_secs(7_200));
        for bad in ["", "soon", "2026-13-01", "-1h"] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(short(Duration::from_micros(870)), "870 µs");
        assert_eq!(short(Duration::from_millis(42)), "42 ms");
        assert_eq!(short(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(short(Duration::from_secs(252)), "4m12s");
        assert_eq!(short(Duration::from_secs(7_500)), "2h05m");
        assert_eq!(short(Duration::from_secs(3 * 86_400 + 4 * 3_600)), "3d4h");
    }

    #[test]
    fn times_are_utc() {
        let at = from_ns(1_700_000_000_123_456_789);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(date_and_time(at), "2023-11-14 22:13:20");
    }
}

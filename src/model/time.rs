//! Times as they stand in files and answers: RFC 3339 text in UTC.

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Utc};

/// Writes a time as RFC 3339 UTC with `Z` and milliseconds, the form of everything that Verbatim writes.
pub fn format(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Reads an RFC 3339 time, also without seconds' fraction, and the zoneless form that Python's `isoformat` writes (taken
/// as UTC). `None` for anything else, also for years that RFC 3339 cannot write: no zone moves the others out of the calendar.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .or_else(|_| text.parse::<chrono::NaiveDateTime>().map(|time| time.and_utc()))
        .ok()
        .filter(|time| (1..=9999).contains(&time.year()))
}

/// The next `last_updated`: `now`, but at least one millisecond after `previous`, so that it never goes back.
pub fn after(previous: &str, now: DateTime<Utc>) -> String {
    match parse(previous) {
        Some(previous) if previous >= now => {
            format(previous.checked_add_signed(TimeDelta::milliseconds(1)).unwrap_or(previous))
        }
        Some(previous) if now - previous < TimeDelta::milliseconds(1) => format(previous + TimeDelta::milliseconds(1)),
        _ => format(now),
    }
}

/// The later of two times; where they are equal or one is none, the first.
pub fn later_of<'a>(one: &'a str, other: Option<&'a str>) -> &'a str {
    match other {
        Some(other) if parse(one) < parse(other) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_older_systems_wrote() {
        for text in ["2026-02-09T21:30:00Z", "2026-02-09T22:30:00+01:00", "2026-02-09T21:30:00"] {
            assert_eq!(parse(text).map(format).as_deref(), Some("2026-02-09T21:30:00.000Z"), "{text}");
        }
        for text in ["yesterday", "+262142-12-31T23:59:59", "-0001-01-01T00:00:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn never_goes_back() {
        let now = parse("2026-02-09T21:30:00.500Z").unwrap();
        assert_eq!(after("2026-02-09T21:30:00Z", now), "2026-02-09T21:30:00.500Z");
        assert_eq!(after("2026-02-09T21:30:00.500Z", now), "2026-02-09T21:30:00.501Z");
        assert_eq!(after("2027-01-01T00:00:00Z", now), "2027-01-01T00:00:00.001Z");
        assert_eq!(after("nonsense", now), "2026-02-09T21:30:00.500Z");
    }
}

//! What stands in texts besides words: numbers, times, hashes, ids, names of files and places.

use crate::language::TOPICS;
use crate::random::Random;
use std::fmt::Write;

/// Milliseconds of a day.
pub(crate) const DAY: u64 = 86_400_000;

/// Adds a number. Writing to a text cannot fail, here and below.
pub(crate) fn push_number(out: &mut String, number: u64) {
    let _ = write!(out, "{number}");
}

/// Adds the lowest `digits` hex digits of a number.
pub(crate) fn push_hex(out: &mut String, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(char::from(b"0123456789abcdef"[(number >> (4 * digit)) as usize & 15]));
    }
}

/// Adds a number with zeros before it: at least `width` digits.
fn push_padded(out: &mut String, number: u64, width: u32) {
    for digit in (0..width).rev() {
        out.push(char::from(b'0' + (number / 10u64.pow(digit) % 10) as u8));
    }
}

/// A random id as the server makes them.
pub(crate) fn new_id(random: &mut Random) -> String {
    let mut id = String::with_capacity(32);
    push_hex(&mut id, random.next(), 16);
    push_hex(&mut id, random.next(), 16);
    id
}

/// Adds the UTC day of a time in milliseconds since 1970 as `YYYY-MM-DD`.
///
/// Years are counted from March, so that the leap day is the last of a year.
pub(crate) fn push_day(out: &mut String, time: u64) {
    let days = time / DAY + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    push_padded(out, era * 400 + year_of_era + u64::from(month <= 2), 4);
    out.push('-');
    push_padded(out, month, 2);
    out.push('-');
    push_padded(out, day, 2);
}

/// Adds a time in milliseconds since 1970 in the form of everything that Verbatim writes.
pub(crate) fn push_time(out: &mut String, time: u64) {
    push_day(out, time);
    let of_day = time % DAY;
    for (mark, value) in [('T', of_day / 3_600_000), (':', of_day / 60_000 % 60), (':', of_day / 1000 % 60)] {
        out.push(mark);
        push_padded(out, value, 2);
    }
    out.push('.');
    push_padded(out, of_day % 1000, 3);
    out.push('Z');
}

/// A name as programs have them, of English words: `snake_case`.
pub(crate) fn snake(random: &mut Random) -> String {
    let mut name = String::new();
    for part in 0..1 + random.below(100) / 45 {
        if part > 0 {
            name.push('_');
        }
        name.push_str(TOPICS.draw(random.next()));
    }
    name
}

/// The same as `camelCase`, or with a capital first: `PascalCase`.
pub(crate) fn camel(random: &mut Random, capital: bool) -> String {
    let mut name = String::new();
    for part in 0..2 + random.below(100) / 75 {
        let word = TOPICS.draw(random.next());
        if part > 0 || capital {
            name.extend(word.chars().next().map(|first| first.to_ascii_uppercase()));
            name.push_str(&word[1..]);
        } else {
            name.push_str(word);
        }
    }
    name
}

/// Adds the path of a file.
pub(crate) fn push_path(out: &mut String, random: &mut Random) {
    out.push_str(random.pick_text(&[
        "src/",
        "lib/",
        "tests/",
        "./",
        "~/",
        "/etc/",
        "/var/log/",
        "docs/",
        "C:\\Users\\",
    ]));
    if random.chance(500) {
        out.push_str(TOPICS.draw(random.next()));
        out.push('/');
    }
    out.push_str(&snake(random));
    out.push('.');
    out.push_str(
        random.pick_text(&["rs", "py", "ts", "json", "toml", "yaml", "md", "log", "cpp", "sql", "csv", "txt"]),
    );
}

/// Adds an address on the web, of the domains that are kept for examples.
pub(crate) fn push_url(out: &mut String, random: &mut Random) {
    out.push_str("https://");
    out.push_str(random.pick_text(&["www.", "docs.", "api.", "", "blog.", "news."]));
    if random.chance(600) {
        out.push_str(TOPICS.draw(random.next()));
        out.push('.');
    }
    out.push_str(random.pick_text(&["example.com/", "example.org/", "example.net/"]));
    out.push_str(TOPICS.draw(random.next()));
    if random.chance(600) {
        out.push('/');
        push_number(out, random.rank(18));
    } else {
        out.push('-');
        out.push_str(TOPICS.draw(random.next()));
    }
    if random.chance(200) {
        out.push_str("?page=");
        push_number(out, random.rank(8));
    }
}

/// Adds one of all these.
pub(crate) fn push_literal(out: &mut String, random: &mut Random) {
    match random.below(16) {
        0..=3 => push_number(out, random.rank(17)),
        4 => {
            push_number(out, random.rank(10));
            out.push('.');
            push_number(out, random.below(100));
        }
        5 => {
            push_number(out, random.between(1, 100));
            out.push('%');
        }
        6 => push_day(out, random.between(10_957, 20_776) * DAY),
        7 => {
            push_padded(out, random.below(24), 2);
            out.push(':');
            push_padded(out, random.below(12) * 5, 2);
        }
        8 => {
            out.push_str(random.pick_text(&["v", "", ""]));
            push_number(out, random.below(12));
            out.push('.');
            push_number(out, random.below(30));
            out.push('.');
            push_number(out, random.below(20));
        }
        9 => {
            let (number, digits) = (random.next(), *random.pick(&[7, 8, 12, 16]));
            push_hex(out, number, digits);
        }
        10 => {
            out.push_str(random.pick_text(&["INC-", "PR-", "#", "JIRA-", "RFC ", "CVE-2025-", "ISO ", "E"]));
            push_number(out, random.between(10, 9999));
        }
        11 => push_path(out, random),
        12 => push_url(out, random),
        13 => {
            out.push_str(TOPICS.draw(random.next()));
            out.push('.');
            out.push_str(TOPICS.draw(random.next()));
            out.push_str(random.pick_text(&["@example.com", "@example.org", "@mail.example.net"]));
        }
        14 => {
            out.push_str(random.pick_text(&["$", "€", "£"]));
            push_number(out, random.rank(14));
        }
        _ => {
            out.push('`');
            let name = if random.chance(500) { snake(random) } else { camel(random, false) };
            out.push_str(&name);
            out.push_str(random.pick_text(&["", "", "()", "::new()", "[0]", ".len()"]));
            out.push('`');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (1_795_132_800_000, "2026-11-20T00:00:00.000Z"),
        ] {
            let mut out = String::new();
            push_time(&mut out, time);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn names_have_the_form_of_their_kind() {
        let mut random = Random::new(1);
        for _ in 0..100 {
            assert!(snake(&mut random).bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            let name = camel(&mut random, true);
            assert!(
                name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphabetic())
            );
        }
    }
}

//! Telephone numbers: international ones (`+49 30 1234567`), and national ones in the two forms
//! that nothing else is written in.
//!
//! - International: `+`, an assigned country code and 8 to 15 digits in all (ITU-T E.164, 6.2.1
//!   and its list of assigned codes), in groups with single spaces, dashes, dots or slashes
//!   between and a trunk prefix or area in parentheses (ITU-T E.123, 7). Those of country code 1
//!   have ten digits more, those of 7 too.
//! - National with its area in parentheses: `(030) 1234567`, trunk prefix 0 (E.123, 6), or
//!   `(212) 555-0123`.
//! - North American: `212-555-0123` or `212.555.0123`, perhaps after `1-`. Area and exchange
//!   begin with 2 to 9 and do not end in 11 (ATIS-0300051, North American Numbering Plan).
//!
//! False positives: signed whole numbers of eight digits and more (`+4412345678`), other numbers
//! grouped 3-3-4 in those ranges. Not found: national numbers without parentheses elsewhere than
//! in North America, ten digits without separators, `00` instead of `+`, `+44.7700900123` (a
//! coordinate has that form), extensions.

use std::ops::Range;

use super::{before, first, is_digit, is_word};

/// Digits of the shortest, in whichever form.
pub(super) const SHORTEST: usize = 8;
const LONGEST: usize = 15;

/// Calls `found` with every number, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = first(bytes, at, |byte| is_start(*byte)) {
        at = match number_end(bytes, start) {
            Some(end) => {
                found(start..end);
                end
            }
            None => after_start(bytes, start),
        };
    }
}

fn is_start(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'+' | b'(')
}

/// A run of digits that begins no number holds none: the next may begin behind it.
fn after_start(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start
        + rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
            .max(1)
}

/// The end of the number that begins at `start`, none if it is another's continuation.
fn number_end(bytes: &[u8], start: usize) -> Option<usize> {
    let left = before(bytes, start);
    if left.is_some_and(|byte| is_word(byte) || matches!(byte, b'+' | b')')) {
        return None;
    }
    let end = match bytes.get(start)? {
        b'+' => international(bytes, start + 1),
        b'(' => in_parentheses(bytes, start),
        // A decimal fraction, a path, a longer grouped number.
        _ if matches!(left, Some(b'.' | b'-' | b'/' | b':' | b','))
            && is_digit(before(bytes, start - 1)) =>
        {
            None
        }
        b'1' if matches!(bytes.get(start + 1), Some(b'-' | b'.')) => {
            north_american(bytes, start + 2)
                .filter(|_| bytes.get(start + 1) == bytes.get(start + 5))
        }
        _ => north_american(bytes, start),
    }?;
    ends(bytes, end).then_some(end)
}

/// Whether nothing goes on here that the number would be the beginning of.
fn ends(bytes: &[u8], end: usize) -> bool {
    match bytes.get(end) {
        Some(b'-' | b'.' | b'/' | b'+') => !is_digit(bytes.get(end + 1).copied()),
        Some(byte) => !is_word(*byte),
        None => true,
    }
}

/// The digits of a number, and how it was grouped.
#[derive(Default)]
struct Digits {
    digits: [u8; LONGEST],
    count: usize,
    separators: usize,
    dots: usize,
}

impl Digits {
    fn push(&mut self, byte: u8) -> Option<()> {
        *self.digits.get_mut(self.count)? = byte - b'0';
        self.count += 1;
        Some(())
    }

    fn number(&self, length: usize) -> usize {
        let digits = self.digits.get(..length).unwrap_or_default();
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + usize::from(*digit))
    }
}

/// What follows a `+`.
fn international(bytes: &[u8], start: usize) -> Option<usize> {
    let mut number = Digits::default();
    let end = groups(bytes, start, &mut number)?;
    // `+48.8577123` is a coordinate or a difference.
    let decimal = number.dots == 1 && number.separators == 1;
    (number.count >= SHORTEST && !decimal && is_assigned(&number)).then_some(end)
}

/// Reads groups of digits with separators between to where they end; none past the longest.
fn groups(bytes: &[u8], start: usize, number: &mut Digits) -> Option<usize> {
    let mut at = start;
    loop {
        while let Some(byte) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
            number.push(*byte)?;
            at += 1;
        }
        let end = at;
        if let Some(b' ' | b'-' | b'.' | b'/') = bytes.get(at) {
            at += 1;
        }
        let parenthesis = bytes.get(at) == Some(&b'(');
        if parenthesis {
            at += 1;
            let area = bytes.get(at..).unwrap_or_default();
            let length = area.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=5).contains(&length) || area.get(length) != Some(&b')') {
                return Some(end);
            }
            // `(0)` is not dialled from abroad and no part of the number.
            for byte in area
                .iter()
                .take(length)
                .filter(|byte| length > 1 || **byte != b'0')
            {
                number.push(*byte)?;
            }
            at += length + 1;
            at += usize::from(matches!(bytes.get(at), Some(b' ' | b'-')));
        }
        if (at == end && !parenthesis) || !is_digit(bytes.get(at).copied()) {
            return Some(end);
        }
        number.separators += 1;
        number.dots += usize::from(bytes.get(end) == Some(&b'.'));
    }
}

/// Country codes in use (List of ITU-T Recommendation E.164 assigned country codes), by which
/// zone assigns how many digits.
fn is_assigned(number: &Digits) -> bool {
    let (one, two, three) = (number.number(1), number.number(2), number.number(3));
    match one {
        1 => {
            number.count == 11
                && is_area(number.digits.get(1..4))
                && is_area(number.digits.get(4..7))
        }
        7 => number.count == 11,
        _ => {
            matches!(two, 20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66)
                || matches!(two, 81 | 82 | 84 | 86 | 90..=95 | 98)
                || matches!(three, 211..=213 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291)
                || matches!(three, 297..=299 | 350..=359 | 370..=378 | 380..=383 | 385..=387 | 389)
                || matches!(three, 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=683)
                || matches!(
                    three,
                    685..=692 | 800 | 808 | 850 | 852 | 853 | 855 | 856 | 870
                )
                || matches!(three, 878 | 880..=883 | 886 | 888 | 960..=968 | 970..=977 | 992..=996 | 998)
        }
    }
}

/// An area or exchange of the North American plan.
fn is_area(digits: Option<&[u8]>) -> bool {
    matches!(digits, Some([2..=9, middle, last]) if (*middle, *last) != (1, 1))
}

/// `(030) 1234567`, `(212) 555-0123`.
fn in_parentheses(bytes: &[u8], start: usize) -> Option<usize> {
    let mut area = Digits::default();
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        area.push(*byte)?;
        at += 1;
    }
    if bytes.get(at) != Some(&b')') {
        return None;
    }
    at += 1;
    at += usize::from(bytes.get(at) == Some(&b' '));
    if !is_digit(bytes.get(at).copied()) {
        return None;
    }
    let mut rest = Digits::default();
    let end = groups(bytes, at, &mut rest)?;
    let national = area.digits.first() == Some(&0)
        && area.digits.get(1) != Some(&0)
        && (3..=6).contains(&area.count)
        && (SHORTEST..=12).contains(&(area.count + rest.count))
        && rest.count >= 4
        && rest.dots == 0;
    let american = area.count == 3
        && is_area(area.digits.get(..3))
        && rest.count == 7
        && rest.separators == 1
        && matches!(bytes.get(at + 3), Some(b'-' | b' ' | b'.'))
        && is_area(rest.digits.get(..3));
    (national || american).then_some(end)
}

/// `212-555-0123`: 3-3-4 with the same separator, a dash or a dot.
fn north_american(bytes: &[u8], start: usize) -> Option<usize> {
    let number = bytes.get(start..start + 12)?;
    let mut digits = Digits::default();
    for (position, byte) in number.iter().enumerate() {
        match position {
            3 | 7 if matches!(byte, b'-' | b'.') && number.get(3) == Some(byte) => {}
            3 | 7 => return None,
            _ if byte.is_ascii_digit() => digits.push(*byte)?,
            _ => return None,
        }
    }
    (is_area(digits.digits.get(..3)) && is_area(digits.digits.get(3..6))).then_some(start + 12)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use proptest::prelude::*;

    use super::super::tests::{LOOK_ALIKES, all, assert_disjoint};
    use super::find;

    const NUMBERS: [&str; 23] = [
        "+14155552671",
        "+1 415 555 2671",
        "+1 (415) 555-2671",
        "+1-415-555-2671",
        "+1.415.555.2671",
        "+442071838750",
        "+44 20 7183 8750",
        "+44 (0)20 7183 8750",
        "+44 (0) 20 7183 8750",
        "+49 30 1234567",
        "+49/30/1234567",
        "+49 (30) 123 456-78",
        "+33 1 23 45 67 89",
        "+7 495 123-45-67",
        "+380 44 123 4567",
        "+8613912345678",
        "+290 22222",
        "(030) 1234567",
        "(042) 123 4567",
        "(212) 555-0123",
        "212-555-0123",
        "212.555.0123",
        "1-212-555-0123",
    ];

    #[test]
    fn numbers_are_found_whole() {
        for number in NUMBERS {
            assert_eq!(all(find, number), [number]);
            for (left, right) in [
                ("tel:", ""),
                ("<", ">"),
                ("(", ")"),
                ("\"", "\","),
                ("a ", ". B"),
                ("{", ",1}"),
            ] {
                assert_eq!(
                    all(find, &format!("{left}{number}{right}")),
                    [number],
                    "{left}{right}"
                );
            }
        }
        assert_eq!(
            all(find, "+14155552671, +442071838750;212-555-0123"),
            ["+14155552671", "+442071838750", "212-555-0123"]
        );
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in LOOK_ALIKES {
            assert!(all(find, text).is_empty(), "{text}");
        }
        for text in [
            "+1234567",
            "+1 115 555 2671",
            "+1415555267",
            "+0301234567",
            "+2105551234",
            "+48.85776543",
            "+48.8577+002.2950/",
            "+4912345678901234",
            "1e+14155552671",
            "10:22:03+05:30",
            "2+14155552671",
            "112-555-0123",
            "212-555-01234",
            "212-555.0123",
            "12-212-555-0123",
            "212-555-0123-1",
            "(12) 3456789",
            "(000) 1234567",
            "f(212) 5",
            "f(030) 1234567",
            "+",
            "(",
            "+(",
            "+1(",
            "(0",
            "()",
            "+49 (",
            "+49 (0",
            "",
        ] {
            assert!(all(find, text).is_empty(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_gives_disjoint_matches(text in "[0-9+() ./é-]{0,80}") {
            assert_disjoint(find, &text);
        }
    }
}

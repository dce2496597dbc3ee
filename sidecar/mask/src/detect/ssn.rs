//! United States social security numbers: `AAA-GG-SSSS` with two equal dashes or spaces, in a
//! range that is assigned: area not 000, 666 or above 899, group not 00, serial not 0000
//! (SSA, POMS RM 10201), and not one of the two numbers known from advertisements.
//!
//! False positives: other numbers grouped 3-2-4 (part numbers, some bank codes). Not found:
//! numbers without separators, which any nine digits would be.

use std::ops::Range;

use super::{before, first, is_digit};

/// Digits of each.
pub(super) const DIGITS: usize = 9;

/// Calls `found` with every number, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = first(bytes, at, u8::is_ascii_digit) {
        if let Some(number) = bytes
            .get(start..start + 11)
            .filter(|number| is_assigned(number))
            && !is_continued(bytes, start, number)
        {
            found(start..start + 11);
            at = start + 11;
        } else {
            at = start + 1;
        }
    }
}

/// Part of a longer number, grouped or not.
fn is_continued(bytes: &[u8], start: usize, number: &[u8]) -> bool {
    let separator = number.get(3).copied();
    let left = before(bytes, start);
    let right = bytes.get(start + 11).copied();
    is_digit(left)
        || is_digit(right)
        || (left == separator && start >= 2 && is_digit(before(bytes, start - 1)))
        || (right == separator && is_digit(bytes.get(start + 12).copied()))
}

fn is_assigned(number: &[u8]) -> bool {
    let [a, b, c, left, d, e, right, f, g, h, i] = number else {
        return false;
    };
    let digits = [a, b, c, d, e, f, g, h, i];
    if left != right || !matches!(left, b'-' | b' ') || !digits.iter().all(|d| d.is_ascii_digit()) {
        return false;
    }
    let value = |digits: &[&u8]| {
        digits
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(**digit - b'0'))
    };
    let (area, group, serial) = (value(&[a, b, c]), value(&[d, e]), value(&[f, g, h, i]));
    let assigned = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    assigned && !matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use super::find;

    fn all(text: &str) -> Vec<&str> {
        super::super::tests::all(find, text)
    }

    #[test]
    fn assigned_numbers_are_found() {
        assert_eq!(all("ssn 536-90-4399."), ["536-90-4399"]);
        assert_eq!(all("001 01 0001"), ["001 01 0001"]);
        assert_eq!(
            all("536-90-4399,536-90-4398"),
            ["536-90-4399", "536-90-4398"]
        );
    }

    #[test]
    fn unassigned_and_longer_numbers_are_left_alone() {
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
            "078-05-1120",
            "219-09-9999",
            "536904399",
            "536-90 4399",
            "1536-90-4399",
            "536-90-43991",
            "12-536-90-4399",
            "536-90-4399-1",
            "536-90-439",
            "",
        ] {
            assert!(all(text).is_empty(), "{text}");
        }
    }
}

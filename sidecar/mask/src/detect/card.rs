//! Payment card numbers: 13 to 19 digits (ISO/IEC 7812-1), alone or in groups of three or more
//! digits with single spaces or dashes between, in a known issuer range, with a valid Luhn digit.
//!
//! False positives: one in ten of other numbers of that length in those ranges (order numbers,
//! account numbers, identifiers made of a timestamp). Not found: digits grouped by other
//! characters or by groups shorter than three, digits outside ASCII, the fraction of a decimal
//! number, UnionPay cards that carry no Luhn digit.

use std::ops::Range;

use super::{before, first, is_digit};

/// Digits of the shortest.
pub(super) const SHORTEST: usize = 13;
const LONGEST: usize = 19;
const SHORTEST_GROUP: usize = 3;

/// Calls `found` with every card number, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = first(bytes, at, u8::is_ascii_digit) {
        let group_end = end_of_digits(bytes, start);
        at = match longest_from(bytes, start) {
            Some(end) if !is_fraction(bytes, start) => {
                found(start..end);
                end
            }
            _ => group_end,
        };
    }
}

fn end_of_digits(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len())
}

/// `0.4111111111111111`: floating-point numbers in text and JSON have as many digits as cards.
fn is_fraction(bytes: &[u8], start: usize) -> bool {
    before(bytes, start) == Some(b'.') && is_digit(bytes.get(start.wrapping_sub(2)).copied())
}

/// The end of the longest card number whose first group begins at `start`.
fn longest_from(bytes: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0_u8; LONGEST];
    let mut count = 0;
    let mut at = start;
    let mut longest = None;
    loop {
        let group = at;
        while let Some(byte) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
            *digits.get_mut(count)? = byte - b'0';
            count += 1;
            at += 1;
            if count == LONGEST && is_digit(bytes.get(at).copied()) {
                return longest;
            }
        }
        if at - group < SHORTEST_GROUP {
            return longest;
        }
        let number = digits.get(..count).unwrap_or_default();
        if count >= SHORTEST && is_issued(number) && luhn(number) {
            longest = Some(at);
        }
        let separated = matches!(bytes.get(at), Some(b' ' | b'-'));
        if count >= LONGEST || !separated || !is_digit(bytes.get(at + 1).copied()) {
            return longest;
        }
        at += 1;
    }
}

/// ISO/IEC 7812-1, Annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(
            |(position, digit)| match (position % 2, u32::from(*digit) * 2) {
                (0, _) => u32::from(*digit),
                (_, doubled) if doubled > 9 => doubled - 9,
                (_, doubled) => doubled,
            },
        )
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the number is in a range assigned to a card network, at a length that it issues.
fn is_issued(digits: &[u8]) -> bool {
    let prefix = |length: usize| {
        digits
            .iter()
            .take(length)
            .fold(0_u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let (two, three, four, six) = (prefix(2), prefix(3), prefix(4), prefix(6));
    match digits.len() {
        // Diners 14 (and its older 36 … only), Visa's old 13, American Express 15.
        13 => prefix(1) == 4 || is_maestro(two, four),
        14 => {
            matches!(two, 36 | 38 | 39) || matches!(three, 300..=305 | 309) || is_maestro(two, four)
        }
        15 => matches!(two, 34 | 37) || is_maestro(two, four),
        16 => {
            prefix(1) == 4
                || matches!(two, 51..=55)
                || matches!(four, 2221..=2720)
                || matches!(two, 81 | 82)
                || matches!(three, 508)
                || matches!(four, 9792)
                || is_long_network(two, three, four, six)
        }
        17 => is_long_network(two, three, four, six),
        18 => is_long_network(two, three, four, six),
        19 => prefix(1) == 4 || is_long_network(two, three, four, six),
        _ => false,
    }
}

/// Networks that issue 16 to 19 digits: Discover, Diners, JCB, UnionPay, Mir, Verve, Maestro.
fn is_long_network(two: u32, three: u32, four: u32, six: u32) -> bool {
    matches!(two, 60 | 62 | 64 | 65 | 36 | 38 | 39)
        || matches!(three, 300..=305)
        || matches!(four, 3528..=3589 | 2200..=2204)
        || matches!(six, 506_099..=506_198)
        || is_maestro(two, four)
}

fn is_maestro(two: u32, four: u32) -> bool {
    matches!(two, 50 | 56..=58 | 63 | 67) || matches!(four, 6759 | 6761..=6763)
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

    use super::{find, is_issued, luhn};

    fn all(text: &str) -> Vec<&str> {
        super::super::tests::all(find, text)
    }

    /// The networks' published test numbers.
    const CARDS: [&str; 11] = [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "6011111111111117",
        "3056930009020004",
        "36227206271667",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
    ];

    #[test]
    fn cards_of_every_network_are_found_alone_and_grouped() {
        for card in CARDS {
            assert_eq!(all(card), [card]);
            assert_eq!(all(&format!("paid with {card}, thanks")), [card]);
            let grouped: Vec<&str> = [&card[..4], &card[4..8], &card[8..]].to_vec();
            for separator in [" ", "-"] {
                let text = grouped.join(separator);
                assert_eq!(all(&format!("({text})")), [text.as_str()]);
            }
        }
        assert_eq!(all("3782 822463 10005"), ["3782 822463 10005"]);
    }

    #[test]
    fn a_card_is_found_next_to_other_numbers() {
        assert_eq!(
            all("2024-01-15 4111 1111 1111 1111"),
            ["4111 1111 1111 1111"]
        );
        assert_eq!(
            all("order 1234 4111 1111 1111 1111"),
            ["4111 1111 1111 1111"]
        );
        assert_eq!(
            all("4111111111111111 5555555555554444"),
            ["4111111111111111", "5555555555554444"]
        );
        assert_eq!(all("4111111111111111.00"), ["4111111111111111"]);
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "4111111111111112",
            "14111111111111111",
            "41111111111111111111111",
            "0.4111111111111111",
            "2024-01-15 10:22:03",
            "1234567890123456",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "4111  1111  1111  1111",
            "",
        ] {
            assert!(all(text).is_empty(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn changing_one_digit_breaks_the_check_digit(
            digits in prop::collection::vec(0_u8..10, 13..20), at in 0_usize..13, by in 1_u8..10,
        ) {
            let mut changed = digits.clone();
            changed[at] = (changed[at] + by) % 10;
            prop_assert!(!(luhn(&digits) && luhn(&changed)));
        }

        #[test]
        fn every_issued_number_with_a_check_digit_is_found(
            body in prop::collection::vec(0_u8..10, 14..=14), left in "[a-z (]{0,8}", right in "[a-z )]{0,8}",
        ) {
            let mut digits = vec![4];
            digits.extend(body);
            digits.push(0);
            while !luhn(&digits) {
                *digits.last_mut().unwrap() += 1;
            }
            prop_assert!(is_issued(&digits));
            let card: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
            let text = format!("{left}{card}{right}");
            prop_assert_eq!(all(&text), [card.as_str()]);
        }

        #[test]
        fn matches_are_disjoint_and_in_order(text in "[0-9 .-]{0,80}") {
            let mut end = 0;
            find(&text, &mut |range| {
                assert!(range.start >= end && range.end > range.start);
                end = range.end;
            });
        }
    }
}

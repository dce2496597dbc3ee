//! International bank account numbers: country, two check digits, and as many characters as the
//! country's entry in the IBAN registry says (ISO 13616-1), whole or in groups of four, with a
//! valid check (ISO/IEC 7064, mod 97-10).
//!
//! False positives: one in ninety-seven of other identifiers of exactly that form. Not found:
//! countries not listed below, groups of another size.

use std::ops::Range;

use super::{before, first};

/// Total length by country (IBAN registry).
const LENGTHS: [(&[u8; 2], usize); 78] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"XK", 20),
];

/// Digits that each has.
pub(super) const CHECK_DIGITS: usize = 2;

/// Calls `found` with every account number, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    // Digits are rarer than letters: each that two letters stand before may be the first check digit.
    let (mut at, mut behind) = (0, 0);
    while let Some(digit) = first(bytes, at, u8::is_ascii_digit) {
        at = digit + 1;
        let Some(start) = digit.checked_sub(2).filter(|start| *start >= behind) else {
            continue;
        };
        if before(bytes, start).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        if let Some(end) = account_end(bytes, start) {
            found(start..end);
            (at, behind) = (end, end);
        }
    }
}

fn account_end(bytes: &[u8], start: usize) -> Option<usize> {
    let country = [
        bytes.get(start)?.to_ascii_uppercase(),
        bytes.get(start + 1)?.to_ascii_uppercase(),
    ];
    let (_, length) = LENGTHS.iter().find(|(code, _)| **code == country)?;
    let mut characters = [0_u8; 34];
    let mut at = start;
    for (count, slot) in characters.iter_mut().take(*length).enumerate() {
        if count > 0 && count % 4 == 0 && bytes.get(at) == Some(&b' ') {
            at += 1;
        }
        *slot = bytes
            .get(at)
            .filter(|byte| byte.is_ascii_alphanumeric())?
            .to_ascii_uppercase();
        at += 1;
    }
    let characters = characters.get(..*length)?;
    let checked = characters.get(2..4)?.iter().all(u8::is_ascii_digit)
        && !bytes.get(at).is_some_and(u8::is_ascii_alphanumeric)
        && mod_97(characters) == 1;
    checked.then_some(at)
}

/// The number with its first four characters last and letters as 10 to 35, modulo 97.
fn mod_97(characters: &[u8]) -> u32 {
    characters
        .iter()
        .cycle()
        .skip(4)
        .take(characters.len())
        .fold(0, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
        })
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
    fn the_registrys_examples_are_found_whole_and_grouped() {
        for iban in [
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "NL91ABNA0417164300",
        ] {
            assert_eq!(all(iban), [iban]);
            let grouped: Vec<String> = iban
                .as_bytes()
                .chunks(4)
                .map(|group| String::from_utf8(group.to_vec()).unwrap())
                .collect();
            let grouped = grouped.join(" ");
            assert_eq!(all(&format!("to {grouped}.")), [grouped.as_str()]);
        }
        assert_eq!(all("de89370400440532013000"), ["de89370400440532013000"]);
    }

    #[test]
    fn other_identifiers_are_left_alone() {
        for text in [
            "DE89370400440532013001",
            "XDE89370400440532013000",
            "DE893704004405320130001",
            "ZZ89370400440532013000",
            "DE8937040044053201300",
            "",
        ] {
            assert!(all(text).is_empty(), "{text}");
        }
    }
}

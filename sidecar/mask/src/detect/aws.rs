//! AWS access keys: the ids `AKIA…` (long-lived) and `ASIA…` (temporary) of twenty capitals and
//! digits (AWS IAM, Identifiers, Unique ID prefixes), and the secret of forty characters of base64
//! that stands within 256 bytes of one.
//!
//! False positives: a digest in base64 beside an id. Not found: a secret without its id in the same
//! value, session tokens, ids of other kinds (`AROA…`), which are no credentials.

use std::ops::Range;

use super::{before, is_word};

pub(super) const ID: usize = 20;
pub(super) const SECRET: usize = 40;
/// How far a secret may be from the id, in bytes: `aws_secret_access_key = `, or a member of JSON.
pub(super) const BESIDE: usize = 256;

/// Calls `found` with every id and secret, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut next = next_id(bytes, 0, bytes.len());
    while let Some(start) = next {
        let end = start + ID;
        secrets(bytes, done.max(start.saturating_sub(BESIDE))..start, found);
        found(start..end);
        let reach = (end + BESIDE).min(bytes.len());
        let until = next_id(bytes, end, reach).unwrap_or(reach);
        done = secrets(bytes, end..until, found).unwrap_or(end);
        next = next_id(bytes, done, bytes.len());
    }
}

/// The first id that begins in a range.
fn next_id(bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..to)?;
        at += rest
            .windows(4)
            .position(|four| matches!(four, b"AKIA" | b"ASIA"))?;
        if is_id(bytes, at) {
            return Some(at);
        }
        at += 1;
    }
}

fn is_id(bytes: &[u8], start: usize) -> bool {
    let end = start + ID;
    let capital = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    bytes
        .get(start..end)
        .is_some_and(|id| id.iter().all(capital))
        && !before(bytes, start).is_some_and(is_word)
        && !bytes.get(end).copied().is_some_and(is_word)
}

/// Finds the secrets that lie in a range. Returns the end of the last one.
fn secrets(
    bytes: &[u8],
    within: Range<usize>,
    found: &mut dyn FnMut(Range<usize>),
) -> Option<usize> {
    let mut last = None;
    let mut at = within.start;
    let mut cut = before(bytes, at).is_some_and(is_secret_byte);
    while let Some(rest) = bytes.get(at..within.end).filter(|rest| !rest.is_empty()) {
        let run = rest
            .iter()
            .take_while(|byte| is_secret_byte(**byte))
            .count();
        let end = at + run;
        cut |= bytes.get(end).copied().is_some_and(is_secret_byte);
        if run == SECRET && !cut && is_mixed(rest.get(..SECRET)) {
            found(at..end);
            last = Some(end);
        }
        cut = false;
        at = end + 1;
    }
    last
}

pub(super) fn is_secret_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Of both cases, which forty hexadecimal digits (SHA-1) are not.
pub(super) fn is_mixed(secret: Option<&[u8]>) -> bool {
    secret.is_some_and(|secret| {
        secret.iter().any(u8::is_ascii_uppercase) && secret.iter().any(u8::is_ascii_lowercase)
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
    use proptest::prelude::*;

    use super::super::tests::{all, assert_disjoint, assert_left_alone};
    use super::find;

    // The examples of AWS's own documentation, in pieces that no scanner of repositories takes for one.
    const ID: &str = concat!("AKIA", "IOSFODNN7EXAMPLE");
    const TEMPORARY: &str = concat!("ASIA", "I44QH8DHBEXAMPLE");
    const SECRET: &str = concat!("wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY");

    #[test]
    fn ids_are_found_alone_and_with_the_secret_beside_them() {
        for id in [ID, TEMPORARY] {
            assert_eq!(all(find, id), [id]);
            assert_eq!(all(find, &format!("key={id}&x")), [id]);
            for text in [
                format!("aws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n"),
                format!("{{\"id\":\"{id}\",\"secret\":\"{SECRET}\"}}"),
                format!("{id}:{SECRET}"),
            ] {
                assert_eq!(all(find, &text), [id, SECRET], "{text}");
            }
            assert_eq!(all(find, &format!("{SECRET} is of {id}.")), [SECRET, id]);
        }
        let two = format!("{ID} {SECRET} {TEMPORARY} {SECRET}");
        assert_eq!(all(find, &two), [ID, SECRET, TEMPORARY, SECRET]);
    }

    #[test]
    fn a_secret_is_one_only_beside_an_id() {
        assert!(all(find, SECRET).is_empty());
        let far = format!("{ID}{:300}{SECRET}", "");
        assert_eq!(all(find, &far), [ID]);
        let digest = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        assert_eq!(all(find, &format!("{ID} {digest}")), [ID]);
        assert_eq!(all(find, &format!("{ID} x{SECRET}")), [ID]);
    }

    #[test]
    fn other_words_are_left_alone() {
        assert_left_alone(
            find,
            &[
                "AKIA",
                "AKIAIOSFODNN7EXAMPL",
                "XAKIAIOSFODNN7EXAMPLE",
                "AKIAIOSFODNN7EXAMPLEX",
                "akiaiosfodnn7example",
                "AKIAiosfodnn7EXAMPLE",
                "AROAIOSFODNN7EXAMPLE",
                "AKIA_OSFODNN7EXAMPLE",
                "",
            ],
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_gives_disjoint_matches(text in "(AKIA[A-Z]{16}|[a-zA-Z]{40}|[ é,]){0,12}") {
            assert_disjoint(find, &text);
        }
    }
}

//! E-mail addresses: a local part of unquoted atoms (RFC 5322, 3.4.1; RFC 6531 for letters
//! outside ASCII) and a domain of at least two labels whose last is letters (RFC 1035, 2.3.1;
//! RFC 5890 for `xn--`).
//!
//! False positives: other things with that form (`git@host.example`, `user@service.namespace`,
//! package references `lib@1.x.io`). Not found: quoted local parts, address literals
//! (`a@[192.0.2.1]`), one-label domains (`root@localhost`); of a local part with one of
//! ``/ = ? & { } | ` `` in it only what follows that character.

use std::ops::Range;

/// RFC 5321, 4.5.3.1.
const LONGEST_LOCAL: usize = 64;
const LONGEST_DOMAIN: usize = 255;
const LONGEST_LABEL: usize = 63;

/// Calls `found` with every address, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let mut from = 0;
    let mut next = 0;
    while let Some(offset) = text.get(next..).and_then(|rest| rest.find('@')) {
        let at = next + offset;
        next = at + 1;
        let local = text
            .get(from..at)
            .and_then(local_start)
            .map(|start| from + start);
        let domain = text
            .get(next..)
            .and_then(domain_length)
            .map(|length| next + length);
        if let (Some(start), Some(end)) = (local, domain) {
            found(start..end);
            (from, next) = (end, end);
        }
    }
}

/// Where the local part that ends the text begins.
fn local_start(text: &str) -> Option<usize> {
    let mut start = None;
    for (at, c) in text.char_indices().rev() {
        // Past the limit it is no address any more, but what is near the sign is still masked.
        if text.len() - at > LONGEST_LOCAL || !is_local(c) {
            break;
        }
        if c.is_alphanumeric() || matches!(c, '_' | '+' | '-') {
            start = Some(at);
        } else if start.is_none() && c == '.' {
            // A dot cannot end a local part.
            break;
        }
    }
    start
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(
            c,
            '.' | '_' | '%' | '+' | '-' | '\'' | '!' | '#' | '$' | '*' | '^' | '~'
        )
}

/// How many bytes at the start of the text are a domain of two labels or more.
fn domain_length(text: &str) -> Option<usize> {
    let end = text
        .char_indices()
        .find(|(at, c)| *at >= LONGEST_DOMAIN || !(c.is_alphanumeric() || matches!(c, '.' | '-')))
        .map_or(text.len(), |(at, _)| at);
    let (mut length, mut labels, mut accepted) = (0, 0, None);
    for label in text.get(..end)?.split('.') {
        let trimmed = label.trim_end_matches('-');
        if trimmed.is_empty() || label.starts_with('-') || trimmed.len() > LONGEST_LABEL {
            break;
        }
        labels += 1;
        if labels > 1 && is_top_level(trimmed) {
            accepted = Some(length + trimmed.len());
        }
        if trimmed.len() != label.len() {
            break;
        }
        length += label.len() + 1;
    }
    accepted
}

fn is_top_level(label: &str) -> bool {
    let punycode = label
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    punycode || (label.chars().count() >= 2 && label.chars().all(char::is_alphabetic))
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

    use super::super::tests::assert_disjoint;
    use super::find;

    fn all(text: &str) -> Vec<&str> {
        super::super::tests::all(find, text)
    }

    #[test]
    fn addresses_are_found_whole() {
        for address in [
            "ann@example.com",
            "ann.smith+tag@mail.example.co.uk",
            "o'brien@example.ie",
            "user_name-1@sub-domain.example.org",
            "jörg@müller.de",
            "a@xn--mller-kva.xn--p1ai",
            "ANN@EXAMPLE.COM",
            "100%@example.com",
        ] {
            assert_eq!(all(address), [address]);
            for (left, right) in [
                ("<", ">"),
                ("{", "}"),
                ("(1,", ",2)"),
                ("\"", "\""),
                (" ", ". Next"),
                ("'", "'"),
            ] {
                assert_eq!(
                    all(&format!("{left}{address}{right}")),
                    [address],
                    "{left}{right}"
                );
            }
        }
        assert_eq!(all("mailto:a@b.io?subject=x"), ["a@b.io"]);
        assert_eq!(all("a@b.io,c@d.io;e@f.io"), ["a@b.io", "c@d.io", "e@f.io"]);
    }

    #[test]
    fn other_texts_are_left_alone() {
        for text in [
            "",
            "@",
            "a@",
            "@b.com",
            "a@b",
            "a@b.c",
            "a@1.2",
            "a@-b.com",
            "a.@b.com",
            "a @b.com",
            "root@localhost",
            "@@@@",
            "a@.com",
        ] {
            assert!(all(text).is_empty(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_plain_address_is_found(
            address in "[a-z0-9]{1,8}(\\.[a-z0-9]{1,8}){0,2}@[a-z0-9]{1,10}\\.[a-z]{2,6}",
            left in "[ ,;:<({]{0,3}", right in "[ ,;:>)}]{0,3}",
        ) {
            let text = format!("{left}{address}{right}");
            prop_assert_eq!(all(&text), [address.as_str()]);
        }

        #[test]
        fn any_text_gives_disjoint_matches(text in "[a@.é' -]{0,60}") {
            assert_disjoint(find, &text);
        }
    }
}

//! Private keys in PEM (RFC 7468, 10 and 11; its older forms with headers, RFC 1421, 4.6): from
//! the line that begins one to the line that ends it, whatever the label before `PRIVATE KEY`
//! (PKCS #1 `RSA`, SEC 1 `EC`, `DSA`, PKCS #8 with none or `ENCRYPTED`, `OPENSSH`, `PGP … BLOCK`),
//! over several lines or in one with its line breaks written `\n`. One that is cut off ends with
//! its last character of base64.
//!
//! False positives: none known; a placeholder (`…`) has no base64. Not found: keys without their
//! first line (DER, a bare base64), PuTTY's and Java's own containers, and of a key whose lines are
//! quoted one by one all but the first.

use std::ops::Range;

pub(super) const BEGIN: &str = "-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Labels are short; the longest in use is `SSH2 ENCRYPTED PRIVATE KEY`.
const LONGEST_LABEL: usize = 64;
/// Characters of base64 below which there is no key: Ed25519's have 64, a first piece may have fewer.
const SHORTEST_BODY: usize = 32;

/// What is between the lines of a key besides letters and digits: base64, line breaks, also written
/// out; `Proc-Type: 4,ENCRYPTED`, `Comment: (none)`.
const BODY: &[u8] = b"+/= \t\r\n\\:,-.()";

/// Calls `found` with every key, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = text
        .get(at..)
        .and_then(|rest| rest.find(BEGIN))
        .map(|offset| at + offset)
    {
        let begun = start + BEGIN.len();
        at = match label_end(bytes, begun).and_then(|body| key_end(bytes, body)) {
            Some(end) => {
                found(start..end);
                end
            }
            None => begun,
        };
    }
}

/// Where the dashes behind a label of a private key end.
fn label_end(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = bytes.get(start..)?;
    let length = rest
        .iter()
        .take(LONGEST_LABEL + 1)
        .position(|byte| !matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' '))?;
    let label = rest.get(..length)?;
    let label = label.strip_suffix(b" BLOCK").unwrap_or(label);
    let private = label.ends_with(b"PRIVATE KEY") && rest.get(length..)?.starts_with(DASHES);
    private.then_some(start + length + DASHES.len())
}

/// Reads base64, headers and line breaks to the dashes that end them.
fn key_end(bytes: &[u8], body: usize) -> Option<usize> {
    let rest = bytes.get(body..)?;
    let (mut at, mut last, mut count) = (0, 0, 0_usize);
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'-' if rest.get(at..).is_some_and(|rest| rest.starts_with(DASHES)) => break,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => {
                count += 1;
                last = at + 1;
            }
            byte if BODY.contains(&byte) => {}
            _ => break,
        }
        at += 1;
    }
    if count < SHORTEST_BODY {
        return None;
    }
    let end = rest.get(at..).filter(|rest| rest.starts_with(END));
    let end = end.and_then(|rest| label_end(rest, END.len()));
    Some(body + end.map_or(last, |length| at + length))
}

/// Whether what begins at `start`, with [`BEGIN`], goes on to the end of the text: more of it could
/// make a key, or a longer one.
pub(super) fn goes_on(bytes: &[u8], start: usize) -> bool {
    let rest = bytes.get(start + BEGIN.len()..).unwrap_or_default();
    let Some(body) = label_end(bytes, start + BEGIN.len()) else {
        return is_begun_label(rest);
    };
    let rest = bytes.get(body..).unwrap_or_default();
    let dashes = (0..rest.len()).find(|at| rest.get(*at..).is_some_and(|r| r.starts_with(DASHES)));
    let of_a_key = |byte: &u8| byte.is_ascii_alphanumeric() || BODY.contains(byte);
    let inside = rest.get(..dashes.unwrap_or(rest.len()));
    if !inside.unwrap_or_default().iter().all(of_a_key) {
        return false;
    }
    let Some(last) = dashes.and_then(|at| rest.get(at..)) else {
        return true;
    };
    match last.strip_prefix(END) {
        Some(label) => is_begun_label(label),
        None => END.starts_with(last),
    }
}

/// The beginning of a label and of the dashes behind it.
fn is_begun_label(rest: &[u8]) -> bool {
    let is_label = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ');
    let label = rest.iter().take_while(|byte| is_label(byte)).count();
    let dashes = rest.get(label..).unwrap_or_default();
    label <= LONGEST_LABEL && dashes.len() < DASHES.len() && DASHES.starts_with(dashes)
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

    const BODY: &str = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";

    fn pem(label: &str, headers: &str, line_break: &str) -> String {
        let (first, second) = BODY.split_at(32);
        [
            &format!("-----BEGIN {label}-----"),
            headers,
            first,
            second,
            &format!("-----END {label}-----"),
        ]
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(line_break)
    }

    #[test]
    fn keys_of_every_label_are_found_however_their_lines_break() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "DSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ANY PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            for line_break in ["\n", "\r\n", "\\n", "\\r\\n", "\\\\n", " ", "\n    "] {
                let key = pem(label, "", line_break);
                for (left, right) in [
                    ("", ""),
                    ("key: \"", "\""),
                    ("a\n", "\nb"),
                    ("{\"k\":\"", "\\n\"}"),
                ] {
                    assert_eq!(all(find, &format!("{left}{key}{right}")), [key.as_str()]);
                }
            }
        }
        let old = pem(
            "RSA PRIVATE KEY",
            "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,8A0F\n",
            "\n",
        );
        assert_eq!(all(find, &old), [old.as_str()]);
        let two = format!(
            "{}\n{}",
            pem("PRIVATE KEY", "", "\n"),
            pem("EC PRIVATE KEY", "", "\n")
        );
        assert_eq!(all(find, &two).len(), 2);
    }

    #[test]
    fn a_key_that_is_cut_off_is_found_to_its_last_character() {
        let key = pem("PRIVATE KEY", "", "\n");
        let cut = &key[..80];
        assert_eq!(all(find, &format!("{cut}\"; rest")), [cut]);
        let again = format!("{cut}\n{key}");
        assert_eq!(all(find, &again), [cut, key.as_str()]);
    }

    #[test]
    fn what_is_no_private_key_is_left_alone() {
        let public = pem("PUBLIC KEY", "", "\n");
        let certificate = pem("CERTIFICATE", "", "\n");
        let request = pem("PRIVATE KEY REQUEST", "", "\n");
        assert_left_alone(
            find,
            &[
                public.as_str(),
                &certificate,
                &request,
                "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----",
                "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
                "-----BEGIN PRIVATE KEY-----",
                "-----BEGIN PRIVATE KEY",
                "-----BEGIN ",
                "-----",
                BODY,
                "",
            ],
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_gives_disjoint_matches(
            text in "(-----BEGIN |PRIVATE KEY|-----|-----END |[A-Za-z0-9+/=]{0,40}|\n|é){0,12}",
        ) {
            assert_disjoint(find, &text);
        }
    }
}

//! JSON Web Tokens: three base64url parts with dots between (RFC 7515, 7.1, the compact
//! serialization), or five when encrypted (RFC 7516, 7.1), of which the first decodes to a JSON
//! object with the member `alg` (RFC 7515, 4.1.1).
//!
//! False positives: none known; nothing else has that header. Not found: tokens without a
//! signature (`alg: none`, which convince nobody), cut off before their signature, broken over
//! lines, with headers above 16 KiB, or in the JSON serialization.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::before;

/// Longest header looked at, in characters. One with a chain of certificates (`x5c`) has several KiB.
const LONGEST_HEADER: usize = 16 * 1024;
/// Parts of the encrypted form.
const MOST_PARTS: usize = 5;

/// Calls `found` with every token, in order, disjoint.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = bytes
        .get(at..)
        .and_then(|rest| rest.windows(3).position(opens_object))
        .map(|offset| at + offset)
    {
        let continues = before(bytes, start).is_some_and(|byte| byte.is_ascii_alphanumeric());
        let header_end = part_end(bytes, start);
        at = match continues {
            // The next place where one may begin: a prefix may end in `-` or `_`.
            true => next_start(bytes, start, header_end),
            false => match token_end(bytes, start, header_end) {
                Some(end) => {
                    found(start..end);
                    end
                }
                None => header_end,
            },
        };
    }
}

/// The base64 of `{` and a quotation mark, white space or a closing brace begins so.
pub(super) fn opens_object(three: &[u8]) -> bool {
    matches!(
        three,
        [b'e', b'y', b'A' | b'I' | b'J'] | [b'e', b'w', b'k' | b'o' | b'0']
    )
}

fn next_start(bytes: &[u8], start: usize, end: usize) -> usize {
    let run = bytes.get(start..end).unwrap_or_default();
    let separator = run.iter().position(|byte| matches!(byte, b'-' | b'_'));
    separator.map_or(end, |offset| start + offset + 1)
}

/// Where the run of base64url characters ends (RFC 4648, 5).
fn part_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    start + rest.iter().take_while(part).count()
}

fn token_end(bytes: &[u8], start: usize, header_end: usize) -> Option<usize> {
    let mut end = header_end;
    let mut parts = 1;
    while parts < MOST_PARTS && bytes.get(end) == Some(&b'.') {
        let next = part_end(bytes, end + 1);
        // An encrypted token whose key is agreed on has an empty second part.
        let empty = next == end + 1;
        if empty && !(parts == 1 && bytes.get(next) == Some(&b'.')) {
            break;
        }
        end = next;
        parts += 1;
    }
    (parts >= 3 && is_header(bytes.get(start..header_end)?)).then_some(end)
}

fn is_header(encoded: &[u8]) -> bool {
    if encoded.len() > LONGEST_HEADER {
        return false;
    }
    URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()
        .and_then(|json| serde_json::from_slice::<serde_json::Map<_, _>>(&json).ok())
        .is_some_and(|header| header.get("alg").is_some_and(serde_json::Value::is_string))
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
    use super::*;

    fn encode(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    fn token(header: &str) -> String {
        format!(
            "{}.{}.c2ln-_bmF0dXJl",
            encode(header),
            encode(r#"{"sub":"ann"}"#)
        )
    }

    #[test]
    fn tokens_are_found_whole() {
        for header in [
            r#"{"alg":"RS256"}"#,
            r#"{"typ":"JWT","alg":"ES256","kid":"a b"}"#,
            "{ \"alg\": \"HS256\" }",
            "{\n\"alg\":\"EdDSA\"}",
            "{\r\n \"alg\":\"EdDSA\"}",
            "{\t\"alg\":\"PS256\"}",
        ] {
            let token = token(header);
            for (left, right) in [
                ("", ""),
                ("Bearer ", "\n"),
                ("\"", "\""),
                ("session_", " x"),
                ("?t=", "&u=1"),
                ("", "."),
            ] {
                assert_eq!(
                    all(find, &format!("{left}{token}{right}")),
                    [token.as_str()],
                    "{left}{right}"
                );
            }
        }
        let encrypted = format!(
            "{}.a2V5.aXY.Y2lwaGVy.dGFn",
            encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)
        );
        assert_eq!(all(find, &encrypted), [encrypted.as_str()]);
        let direct = format!(
            "{}..aXY.Y2lwaGVy.dGFn",
            encode(r#"{"alg":"dir","enc":"A256GCM"}"#)
        );
        assert_eq!(all(find, &direct), [direct.as_str()]);
    }

    #[test]
    fn other_dotted_texts_are_left_alone() {
        let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode("{}"));
        let not_a_header = format!("{}.a.b", encode(r#"{"typ":"JWT"}"#));
        let not_an_object = format!("{}.a.b", encode(r#"["alg","x"]"#));
        let number = format!("{}.a.b", encode(r#"{"alg":1}"#));
        let inside = format!("x{}", token(r#"{"alg":"RS256"}"#));
        let two = format!("{}.a", encode(r#"{"alg":"RS256"}"#));
        assert_left_alone(
            find,
            &[
                unsigned.as_str(),
                &not_a_header,
                &not_an_object,
                &number,
                &inside,
                &two,
                "eyJ",
                "eyJ.a.b",
                "eyJhbGciOiJub25l",
                "they.eyed.him",
                "eyJ..",
                "",
            ],
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_gives_disjoint_matches(text in "(eyJhbGciOiJSUzI1NiJ9|eyJ|[ey.J_é-]){0,12}") {
            assert_disjoint(find, &text);
        }
    }
}

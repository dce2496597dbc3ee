//! Replacing one value of one column.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_policy::{Strategy, Typed};
use zeroize::Zeroizing;

use crate::mark::{HASH_PREFIX, MARK};
use crate::types::{Class, class, zero};

/// The format code of a value (PostgreSQL, Message Formats, RowDescription and Bind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Format 0.
    Text,
    /// Format 1.
    Binary,
}

/// What a value became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// SQL NULL: length −1 and no bytes; nothing was appended.
    Null,
    /// The replacement's bytes were appended.
    Value,
}

/// The secret that hashed values are keyed with, one a store, so that equal inputs stay equal
/// within it and cannot be looked up outside it.
pub struct HashKey(Zeroizing<[u8; 32]>);

impl HashKey {
    /// Takes 32 secret bytes, uniformly random.
    pub fn new(secret: [u8; 32]) -> HashKey {
        HashKey(Zeroizing::new(secret))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// Replaces values. One a store; share it.
pub struct Masker {
    key: hmac::Key,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker(secret)")
    }
}

impl Masker {
    /// A masker whose hashes are keyed with `key`.
    pub fn new(key: HashKey) -> Masker {
        Masker {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.0.as_ref()),
        }
    }

    /// Replaces a plain column's value, appending the replacement to `out`.
    ///
    /// `type_oid` is RowDescription's (`pg_type.oid`); a type that is not built in becomes NULL.
    /// NULL stays NULL. Only text takes [`Strategy::Partial`]; only text and JSON take
    /// [`Strategy::Hash`]. `typed` matters for all other types: NULL, or the type's zero where
    /// one is known.
    pub fn mask_value(
        &self,
        type_oid: u32,
        wire: Wire,
        value: Option<&[u8]>,
        strategy: Strategy,
        typed: Typed,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Some(value) = value else {
            return Outcome::Null;
        };
        if matches!(strategy, Strategy::Null) {
            return Outcome::Null;
        }
        match class(type_oid) {
            Class::Text => self.replace_text(value, strategy, out),
            Class::Json => self.replace_json(value, strategy, out),
            Class::Jsonb if wire == Wire::Text => self.replace_json(value, strategy, out),
            // jsonb's binary form is its version, 1, and the text (jsonb_send).
            Class::Jsonb => {
                out.push(1);
                self.replace_json(value.get(1..).unwrap_or_default(), strategy, out);
            }
            _ => return withhold(type_oid, wire, typed, out),
        }
        Outcome::Value
    }

    /// Replaces a derived value (an expression over a masked column, or one whose origin is not
    /// known): never partially, or slices of it would give the whole away, and never by a hash,
    /// which would compare parts of values.
    pub fn mask_whole(
        &self,
        type_oid: u32,
        wire: Wire,
        value: Option<&[u8]>,
        typed: Typed,
        out: &mut Vec<u8>,
    ) -> Outcome {
        self.mask_value(type_oid, wire, value, Strategy::Redact, typed, out)
    }

    /// `h:` and the first 128 bits of HMAC-SHA-256, as 22 characters of base64url.
    pub fn hash(&self, value: &[u8]) -> String {
        let tag = hmac::sign(&self.key, value);
        let mut text = String::from(HASH_PREFIX);
        URL_SAFE_NO_PAD.encode_string(tag.as_ref().get(..16).unwrap_or_default(), &mut text);
        text
    }

    /// The replacement of a text by a strategy; [`Strategy::Null`] reads as redaction here.
    pub(crate) fn text(&self, value: &[u8], strategy: Strategy) -> Cow<'static, str> {
        match strategy {
            Strategy::Null | Strategy::Redact => Cow::Borrowed(MARK),
            Strategy::Hash => Cow::Owned(self.hash(value)),
            Strategy::Partial {
                keep_first,
                keep_last,
            } => std::str::from_utf8(value).map_or(Cow::Borrowed(MARK), |value| {
                Cow::Owned(partial(value, keep_first, keep_last))
            }),
        }
    }

    fn replace_text(&self, value: &[u8], strategy: Strategy, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text(value, strategy).as_bytes());
    }

    fn replace_json(&self, value: &[u8], strategy: Strategy, out: &mut Vec<u8>) {
        out.push(b'"');
        match strategy {
            Strategy::Hash => out.extend_from_slice(self.hash(value).as_bytes()),
            // Part of a document's text is no part of a value, and need not be valid JSON.
            _ => out.extend_from_slice(MARK.as_bytes()),
        }
        out.push(b'"');
    }
}

/// NULL, or the type's zero if that was asked for and one is known.
pub(crate) fn withhold(type_oid: u32, wire: Wire, typed: Typed, out: &mut Vec<u8>) -> Outcome {
    if matches!(typed, Typed::Zero) && zero(type_oid, wire, out) {
        Outcome::Value
    } else {
        Outcome::Null
    }
}

/// Four asterisks whatever the length, so that not even that is given away. A value shorter
/// than twice what would be kept is redacted whole.
fn partial(value: &str, keep_first: usize, keep_last: usize) -> String {
    let kept = keep_first.saturating_add(keep_last);
    let length = value.chars().count();
    if kept == 0 || length < kept.saturating_mul(2) {
        return MARK.to_owned();
    }
    let first = value.chars().take(keep_first);
    let last = value.chars().skip(length.saturating_sub(keep_last));
    first.chain("****".chars()).chain(last).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use chaperone_policy::Strategy;
    use proptest::prelude::*;

    use super::*;
    use crate::carries_mark;

    const TEXT: u32 = 25;
    const JSON: u32 = 114;
    const JSONB: u32 = 3802;
    const PARTIAL: Strategy = Strategy::Partial {
        keep_first: 0,
        keep_last: 4,
    };

    fn masker() -> Masker {
        Masker::new(HashKey::new([7; 32]))
    }

    fn mask(
        type_oid: u32,
        wire: Wire,
        value: &[u8],
        strategy: Strategy,
        typed: Typed,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match masker().mask_value(type_oid, wire, Some(value), strategy, typed, &mut out) {
            Outcome::Value => Some(out),
            Outcome::Null => {
                assert!(out.is_empty());
                None
            }
        }
    }

    fn text(value: &str, strategy: Strategy) -> String {
        let masked = mask(TEXT, Wire::Text, value.as_bytes(), strategy, Typed::Null);
        String::from_utf8(masked.unwrap()).unwrap()
    }

    #[test]
    fn text_becomes_a_marked_string() {
        assert_eq!(text("ann@example.com", Strategy::Redact), "[masked]");
        assert_eq!(text("4111111111111234", PARTIAL), "****1234");
        let both = Strategy::Partial {
            keep_first: 1,
            keep_last: 2,
        };
        assert_eq!(text("öffentlich", both), "ö****ch");
        assert!(carries_mark(&text("ann", Strategy::Hash)));
        assert_eq!(
            mask(TEXT, Wire::Text, b"ann", Strategy::Null, Typed::Zero),
            None
        );
    }

    #[test]
    fn a_value_shorter_than_twice_what_is_kept_is_redacted_whole() {
        assert_eq!(text("1234567", PARTIAL), "[masked]");
        assert_eq!(text("12345678", PARTIAL), "****5678");
        assert_eq!(text("", PARTIAL), "[masked]");
        let none = Strategy::Partial {
            keep_first: 0,
            keep_last: 0,
        };
        assert_eq!(text("12345678", none), "[masked]");
        let all = Strategy::Partial {
            keep_first: usize::MAX,
            keep_last: 2,
        };
        assert_eq!(text("12345678", all), "[masked]");
        let invalid = mask(TEXT, Wire::Text, b"\xff2345678", PARTIAL, Typed::Null);
        assert_eq!(invalid.unwrap(), b"[masked]");
    }

    #[test]
    fn equal_values_hash_equally_under_one_key_only() {
        assert_eq!(text("ann", Strategy::Hash), text("ann", Strategy::Hash));
        assert_ne!(text("ann", Strategy::Hash), text("bob", Strategy::Hash));
        let other = Masker::new(HashKey::new([8; 32]));
        assert_ne!(other.hash(b"ann"), masker().hash(b"ann"));
        assert_eq!(other.hash(b"ann").len(), 24);
    }

    #[test]
    fn json_becomes_a_json_string_in_both_formats() {
        for strategy in [Strategy::Redact, Strategy::Hash, PARTIAL] {
            let value = br#"{"a": "12345678"}"#;
            let plain = mask(JSON, Wire::Text, value, strategy, Typed::Null).unwrap();
            assert!(serde_json::from_slice::<String>(&plain).is_ok());
            assert_eq!(
                mask(JSONB, Wire::Text, value, strategy, Typed::Null).unwrap(),
                plain
            );
            let mut binary = vec![1];
            binary.extend_from_slice(value);
            let masked = mask(JSONB, Wire::Binary, &binary, strategy, Typed::Null).unwrap();
            assert_eq!((masked[0], &masked[1..]), (1, plain.as_slice()));
        }
    }

    #[test]
    fn null_stays_null() {
        let mut out = Vec::new();
        for strategy in [Strategy::Redact, Strategy::Hash, PARTIAL, Strategy::Null] {
            for type_oid in [TEXT, JSON, 23, 99999] {
                let masked = masker().mask_value(
                    type_oid,
                    Wire::Text,
                    None,
                    strategy,
                    Typed::Zero,
                    &mut out,
                );
                assert_eq!((masked, out.len()), (Outcome::Null, 0));
            }
        }
    }

    #[test]
    fn other_types_become_null_or_their_zero() {
        assert_eq!(
            mask(23, Wire::Text, b"42", Strategy::Hash, Typed::Null),
            None
        );
        assert_eq!(
            mask(23, Wire::Text, b"42", Strategy::Hash, Typed::Zero).unwrap(),
            b"0"
        );
        assert_eq!(
            mask(23, Wire::Binary, &[0, 0, 0, 42], PARTIAL, Typed::Zero).unwrap(),
            [0; 4]
        );
        assert_eq!(
            mask(1009, Wire::Text, b"{a}", Strategy::Redact, Typed::Zero).unwrap(),
            b"{}"
        );
        // citext, an enum, a composite type: nothing is known of them.
        assert_eq!(
            mask(16999, Wire::Text, b"a", Strategy::Redact, Typed::Zero),
            None
        );
        assert_eq!(
            mask(718, Wire::Text, b"<(0,0),1>", Strategy::Redact, Typed::Zero),
            None
        );
    }

    #[test]
    fn a_derived_value_is_never_kept_in_part() {
        let mut out = Vec::new();
        let masked =
            masker().mask_whole(TEXT, Wire::Binary, Some(b"12345678"), Typed::Null, &mut out);
        assert_eq!(
            (masked, out.as_slice()),
            (Outcome::Value, b"[masked]".as_slice())
        );
    }

    #[test]
    fn secrets_are_opaque_to_debug() {
        assert_eq!(
            format!("{:?} {:?}", HashKey::new([65; 32]), masker())
                .matches("65")
                .count(),
            0
        );
        assert!(
            !format!("{:?}", HashKey::new(*b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).contains("AAA")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// The alphabet shares no character with marks or base64url.
        #[test]
        fn nothing_of_the_value_is_left_but_what_partial_keeps(
            value in "[{}<>|!?äöüßλ€漢🎉]{4,40}",
            keep_first in 0_usize..6,
            keep_last in 0_usize..6,
            type_oid in prop::sample::select(vec![25_u32, 1043, 1042, 19, 114, 3802, 142, 17, 1009, 2249, 20000]),
            binary: bool,
        ) {
            let wire = if binary { Wire::Binary } else { Wire::Text };
            let chars: Vec<char> = value.chars().collect();
            let partial = Strategy::Partial { keep_first, keep_last };
            for strategy in [Strategy::Redact, Strategy::Hash, Strategy::Null, partial] {
                let masked = mask(type_oid, wire, value.as_bytes(), strategy, Typed::Zero);
                let masked = String::from_utf8_lossy(&masked.unwrap_or_default()).into_owned();
                let kept: String = match masked.split_once("****") {
                    Some((first, last)) => {
                        prop_assert!(first.chars().eq(chars.iter().take(keep_first).copied()));
                        prop_assert!(last.chars().eq(chars.iter().skip(chars.len() - keep_last).copied()));
                        prop_assert!(keep_first + keep_last <= chars.len() / 2);
                        String::new()
                    }
                    None => masked,
                };
                for window in chars.windows(4) {
                    prop_assert!(!kept.contains(&window.iter().collect::<String>()));
                }
            }
        }
    }
}

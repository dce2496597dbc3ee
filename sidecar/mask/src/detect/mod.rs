//! Detectors: secrets recognised by their form, wherever they turn up (policy.md, Masking).
//!
//! Each detector has a cheap first look (an `@`, a run of digits) and a validator (Luhn and
//! issuer ranges, a top-level domain, mod 97, assigned ranges); its module lists its false
//! positives and what it does not find. They are a net under the column masks, not a boundary:
//! an agent that may transform a value before it reads it (`reverse`, `encode`) escapes them.

mod aws;
mod card;
mod email;
mod iban;
mod json;
mod jwt;
mod open;
mod phone;
mod private_key;
mod ssn;
mod value;

use std::borrow::Cow;
use std::ops::Range;

use chaperone_policy::{Detector, Strategy};

use crate::Masker;

pub use value::Scanned;

/// One secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Bytes of the text, on character boundaries.
    pub range: Range<usize>,
    /// What found it; the first one where several overlap.
    pub detector: Detector,
}

/// How often each detector matched, for metrics and the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    entries: Vec<(Detector, u64)>,
}

impl Counts {
    /// Adds one match.
    pub fn add(&mut self, detector: Detector) {
        match self
            .entries
            .iter_mut()
            .find(|(known, _)| *known == detector)
        {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.entries.push((detector, 1)),
        }
    }

    /// Every detector that matched, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Detector, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// Nothing matched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The detectors that apply, each with its strategy.
#[derive(Debug, Clone)]
pub struct Detectors {
    rules: Vec<Rule>,
}

/// Tells every match in a text.
type Find = fn(&str, &mut dyn FnMut(Range<usize>));
/// Tells from where on more text could make a match, or change one; the end if nowhere.
type Open = fn(&[u8]) -> usize;

#[derive(Debug, Clone)]
struct Rule {
    detector: Detector,
    strategy: Strategy,
    find: Find,
    open: Open,
    /// Marks of [`Seen`] without all of which a text holds no match.
    needs: u8,
    /// Digits that the shortest match has.
    digits: usize,
}

/// Which characters a text holds, in one pass for all detectors: most texts have no match of most.
struct Seen {
    marks: u8,
    digits: usize,
}

impl Seen {
    const AT: u8 = 1;
    const DASH: u8 = 2;
    const DOT: u8 = 4;
    const CAPITAL_A: u8 = 8;
    const SMALL_E: u8 = 16;
    const LETTER: u8 = 32;

    /// Without branches and tables, so that many bytes are looked at together.
    fn of(text: &str) -> Seen {
        let mut seen = Seen {
            marks: 0,
            digits: 0,
        };
        for some in text.as_bytes().chunks(128) {
            let (mut marks, mut digits) = (0_u8, 0_u8);
            for byte in some {
                let digit = u8::from(byte.wrapping_sub(b'0') < 10);
                // At most 128 of them.
                digits = digits.wrapping_add(digit);
                marks |= (u8::from(*byte == b'@') * Seen::AT)
                    | (u8::from(*byte == b'-') * Seen::DASH)
                    | (u8::from(*byte == b'.') * Seen::DOT)
                    | (u8::from(*byte == b'A') * Seen::CAPITAL_A)
                    | (u8::from(*byte == b'e') * Seen::SMALL_E)
                    | (u8::from((byte | 0x20).wrapping_sub(b'a') < 26) * Seen::LETTER);
            }
            seen.marks |= marks;
            seen.digits = seen.digits.saturating_add(usize::from(digits));
        }
        seen
    }

    fn may_match(&self, rule: &Rule) -> bool {
        self.marks & rule.needs == rule.needs && self.digits >= rule.digits
    }
}

impl Detectors {
    /// Prepares a set of detectors; one listed twice keeps its first strategy.
    pub fn new(rules: &[(Detector, Strategy)]) -> Detectors {
        let mut prepared: Vec<Rule> = Vec::with_capacity(rules.len());
        for (detector, strategy) in rules {
            let (find, open, needs, digits): (Find, Open, u8, usize) = match detector {
                Detector::PaymentCard => (card::find, open::number, 0, card::SHORTEST),
                Detector::EmailAddress => (email::find, open::email, Seen::AT | Seen::DOT, 0),
                Detector::Iban => (iban::find, open::iban, Seen::LETTER, iban::CHECK_DIGITS),
                Detector::PhoneNumber => (phone::find, open::number, 0, phone::SHORTEST),
                Detector::UsSsn => (ssn::find, open::number, 0, ssn::DIGITS),
                Detector::JsonWebToken => (jwt::find, open::jwt, Seen::DOT | Seen::SMALL_E, 0),
                Detector::PrivateKey => (private_key::find, open::private_key, Seen::DASH, 0),
                Detector::AwsAccessKey => (aws::find, open::aws, Seen::CAPITAL_A, 0),
            };
            if prepared.iter().all(|rule| rule.detector != *detector) {
                prepared.push(Rule {
                    detector: *detector,
                    strategy: match (detector, strategy) {
                        // Its ends are those of a key's encoding: a slice is of no use, and may hold
                        // line breaks that JSON cannot.
                        (Detector::PrivateKey, Strategy::Partial { .. }) => Strategy::Redact,
                        _ => *strategy,
                    },
                    find,
                    open,
                    needs,
                    digits,
                });
            }
        }
        Detectors { rules: prepared }
    }

    /// There is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every match, in order, disjoint: overlapping ones are one.
    pub fn scan(&self, text: &str) -> Vec<Match> {
        let mut matches = Vec::new();
        let seen = Seen::of(text);
        for rule in self.rules.iter().filter(|rule| seen.may_match(rule)) {
            (rule.find)(text, &mut |range| {
                matches.push(Match {
                    range,
                    detector: rule.detector,
                })
            });
        }
        if self.rules.len() > 1 {
            matches.sort_by_key(|found| (found.range.start, std::cmp::Reverse(found.range.end)));
            matches.dedup_by(|later, earlier| {
                let overlaps = later.range.start < earlier.range.end;
                if overlaps {
                    earlier.range.end = earlier.range.end.max(later.range.end);
                }
                overlaps
            });
        }
        matches
    }

    /// From where on nothing can be given out yet of a text that goes on: what follows could make a
    /// match of it. Its end, if nothing is open.
    pub(crate) fn open(&self, text: &[u8]) -> usize {
        let open = self.rules.iter().map(|rule| (rule.open)(text));
        open.min().unwrap_or(text.len()).min(text.len())
    }

    /// The text with every match replaced: errors, notices, notification payloads, EXPLAIN.
    /// [`Strategy::Null`] reads as redaction, for a text is never absent.
    pub fn mask_text<'a>(
        &self,
        masker: &Masker,
        text: &'a str,
        counts: &mut Counts,
    ) -> Cow<'a, str> {
        let matches = self.scan(text);
        if matches.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut from = 0;
        for found in matches {
            counts.add(found.detector);
            masked.push_str(text.get(from..found.range.start).unwrap_or_default());
            let secret = text.get(found.range.clone()).unwrap_or_default();
            masked.push_str(&self.replacement(masker, found.detector, secret));
            from = found.range.end;
        }
        masked.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// What stands in for a match: without quotation marks and backslashes, so that the JSON,
    /// array or row around it stays what it was.
    fn replacement(&self, masker: &Masker, detector: Detector, secret: &str) -> Cow<'static, str> {
        let plain: String = match detector {
            // However it was grouped, equal numbers are equal and the last four are digits.
            Detector::PaymentCard | Detector::UsSsn | Detector::Iban | Detector::PhoneNumber => {
                secret.chars().filter(char::is_ascii_alphanumeric).collect()
            }
            _ => secret.to_owned(),
        };
        masker.text(plain.as_bytes(), self.strategy(detector))
    }

    fn strategy(&self, detector: Detector) -> Strategy {
        self.rules
            .iter()
            .find(|rule| rule.detector == detector)
            .map_or(Strategy::Redact, |rule| rule.strategy)
    }
}

/// The byte before a position, if any.
fn before(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at.checked_sub(1)?).copied()
}

/// Part of a word: what stands beside it is no beginning or end of something else.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The first place from `from` on whose byte `is` so.
fn first(bytes: &[u8], from: usize, is: impl FnMut(&u8) -> bool) -> Option<usize> {
    let offset = bytes.get(from..)?.iter().position(is)?;
    Some(from + offset)
}

fn is_digit(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_digit())
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
    use crate::HashKey;

    const CARD: &str = "4111 1111 1111 1111";

    /// What databases are full of and no detector may touch.
    pub(super) const LOOK_ALIKES: [&str; 52] = [
        // Identifiers.
        "550e8400-e29b-41d4-a716-446655440000",
        "12345678-1234-1234-1234-123456789012",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "507f1f77bcf86cd799439011",
        "112-7345632-4815264",
        "ORD-2024-000123-4567",
        "1001-2002-3003",
        "SKU 000-111-2222",
        "978-3-16-148410-0",
        "9783161484100",
        "1Z999AA10123456784",
        "arn:aws:iam::123456789012:role/reader",
        "i-0abcd1234efgh5678",
        // Times.
        "2024-01-15",
        "2024-01-15 10:22:03.123456+00",
        "2024-01-15T10:22:03+05:30",
        "2024-01-15T10:22:03.123456789-0800",
        "20240115102203",
        "1705314123",
        "1705314123456",
        "15/01/2024 10.22.03",
        "PT36H15M",
        "00:00:00-11:59:59",
        "01 02 03 04 05 06",
        // Places and addresses.
        "192.168.100.200",
        "10.0.0.1:54321",
        "192.168.10.1-192.168.10.254",
        "203.0.113.0/24",
        "2001:db8:85a3::8a2e:370:7334",
        "08:00:2b:01:02:03",
        "48.8577, 2.2950",
        "+48.85776543 -002.29501234",
        "+40.712776-074.005974/",
        "40\u{b0}26'46\"N 79\u{b0}58'56\"W",
        "(48.8577,2.2950)",
        // Numbers.
        "-12345678.90",
        "+1234567",
        "+3.14159265358979",
        "1,234,567,890.12",
        "1.234.567.890,12",
        "6.02214076e+23",
        "(1234567)",
        "(123) 45",
        "f(030, 1234567)",
        // Versions and builds.
        "1.2.3-rc.4+20240115",
        "v10.15.7.19H2026",
        "PostgreSQL 15.18 (Debian 15.18-0+deb12u1)",
        // Digests and blobs.
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "eyJhIjoxfQ.eyJiIjoyfQ.c2ln",
    ];

    fn masker() -> Masker {
        Masker::new(HashKey::new([7; 32]))
    }

    fn detectors(strategy: Strategy) -> Detectors {
        Detectors::new(&Detector::ALL.map(|detector| (detector, strategy)))
    }

    /// What `find` finds.
    pub(super) fn all(find: Find, text: &str) -> Vec<&str> {
        let mut ranges = Vec::new();
        find(text, &mut |range| ranges.push(range));
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    /// Fails unless `find` finds nothing in these, nor in [`LOOK_ALIKES`].
    #[track_caller]
    pub(super) fn assert_left_alone(find: Find, texts: &[&str]) {
        for text in texts.iter().chain(&LOOK_ALIKES) {
            assert!(all(find, text).is_empty(), "{text}");
        }
    }

    /// Fails unless what `find` finds is in order, disjoint, and made of whole characters.
    #[track_caller]
    pub(super) fn assert_disjoint(find: Find, text: &str) {
        let mut end = 0;
        find(text, &mut |range| {
            assert!(range.start >= end && text.get(range.clone()).is_some());
            end = range.end;
        });
    }

    #[test]
    fn look_alikes_are_left_alone_by_all_detectors_together() {
        let detectors = detectors(Strategy::Redact);
        for text in LOOK_ALIKES {
            for text in [
                text.to_owned(),
                format!("{{\"a\":\"{text}\"}}"),
                format!("x={text}, y"),
            ] {
                assert_eq!(detectors.scan(&text), [], "{text}");
            }
        }
    }

    #[test]
    fn every_match_is_replaced_and_counted() {
        let text = format!("ann@example.com paid with {CARD} and 536-90-4399, not b@c.de");
        let mut counts = Counts::default();
        let masked = detectors(Strategy::Redact).mask_text(&masker(), &text, &mut counts);
        assert_eq!(
            masked,
            "[masked] paid with [masked] and [masked], not [masked]"
        );
        let mut counted: Vec<_> = counts.iter().collect();
        counted.sort();
        let expected = [
            (Detector::PaymentCard, 1),
            (Detector::EmailAddress, 2),
            (Detector::UsSsn, 1),
        ];
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_text_without_a_match_is_not_copied() {
        let mut counts = Counts::default();
        let detectors = detectors(Strategy::Redact);
        let masked = detectors.mask_text(&masker(), "nothing 1234 @ here", &mut counts);
        assert!(matches!(masked, Cow::Borrowed(_)) && counts.is_empty());
    }

    #[test]
    fn strategies_apply_to_the_number_however_it_is_grouped() {
        let mut counts = Counts::default();
        let last = detectors(Strategy::Partial {
            keep_first: 0,
            keep_last: 6,
        });
        assert_eq!(
            last.mask_text(&masker(), "4111-1111-1111-1111", &mut counts),
            "****111111"
        );
        let hash = detectors(Strategy::Hash);
        let plain = hash
            .mask_text(&masker(), "4111111111111111", &mut counts)
            .into_owned();
        assert_eq!(hash.mask_text(&masker(), CARD, &mut counts), plain);
    }

    #[test]
    fn overlapping_matches_are_one() {
        let found = detectors(Strategy::Redact).scan("4111111111111111@example.com");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].range, 0..28);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_secret_between_other_text_is_always_replaced(
            secret in prop::sample::select(vec![
                CARD, "4111111111111111", "ann@example.com", "DE89370400440532013000", "536-90-4399",
                "+49 30 1234567", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl",
                concat!("AKIA", "IOSFODNN7EXAMPLE"),
                "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVp\n-----END PRIVATE KEY-----",
            ]),
            left in "([0-9a-z@.-]{0,20} ?){0,3}[,;:]",
            right in "[,;:]( ?[0-9a-z@.-]{0,20}){0,3}",
        ) {
            let text = format!("{left}{secret}{right}");
            let masked =
                detectors(Strategy::Redact).mask_text(&masker(), &text, &mut Counts::default());
            prop_assert!(!masked.contains(secret), "{masked}");
        }
    }
}

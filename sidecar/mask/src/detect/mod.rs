//! Detectors: secrets recognised by their form, wherever they turn up (policy.md, Masking).
//!
//! Each detector has a cheap first look (an `@`, a run of digits) and a validator (Luhn and
//! issuer ranges, a top-level domain, mod 97, assigned ranges); its module lists its false
//! positives and what it does not find. They are a net under the column masks, not a boundary:
//! an agent that may transform a value before it reads it (`reverse`, `encode`) escapes them.

mod card;
mod email;
mod iban;
mod json;
mod ssn;
mod value;

use std::borrow::Cow;
use std::ops::Range;

use chaperone_policy::{Detector, Reason, Strategy};

use crate::Masker;

pub use value::Scanned;

/// A detector that policy can name but this build cannot run. Policy with one is refused, so
/// that nobody believes it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("detector {0:?} is not supported; use PaymentCard, EmailAddress, Iban or UsSsn")]
pub struct DetectorUnsupported(
    /// Which one.
    pub Detector,
);

impl DetectorUnsupported {
    /// The constant for this refusal.
    pub fn reason(&self) -> Reason {
        Reason::PolicyInvalid
    }
}

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

#[derive(Debug, Clone)]
struct Rule {
    detector: Detector,
    strategy: Strategy,
    find: fn(&str, &mut dyn FnMut(Range<usize>)),
}

impl Detectors {
    /// Prepares a set of detectors; one listed twice keeps its first strategy.
    pub fn new(rules: &[(Detector, Strategy)]) -> Result<Detectors, DetectorUnsupported> {
        let mut prepared: Vec<Rule> = Vec::with_capacity(rules.len());
        for (detector, strategy) in rules {
            let find = match detector {
                Detector::PaymentCard => card::find,
                Detector::EmailAddress => email::find,
                Detector::Iban => iban::find,
                Detector::UsSsn => ssn::find,
                other => return Err(DetectorUnsupported(*other)),
            };
            if prepared.iter().all(|rule| rule.detector != *detector) {
                prepared.push(Rule {
                    detector: *detector,
                    strategy: *strategy,
                    find,
                });
            }
        }
        Ok(Detectors { rules: prepared })
    }

    /// There is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every match, in order, disjoint: overlapping ones are one.
    pub fn scan(&self, text: &str) -> Vec<Match> {
        let mut matches = Vec::new();
        for rule in &self.rules {
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
    fn replacement(&self, masker: &Masker, detector: Detector, secret: &str) -> String {
        let plain: String = match detector {
            // However it was grouped, equal numbers are equal and the last four are digits.
            Detector::PaymentCard | Detector::UsSsn | Detector::Iban => {
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

    fn masker() -> Masker {
        Masker::new(HashKey::new([7; 32]))
    }

    fn detectors(strategy: Strategy) -> Detectors {
        let every = [
            Detector::PaymentCard,
            Detector::EmailAddress,
            Detector::Iban,
            Detector::UsSsn,
        ];
        Detectors::new(&every.map(|detector| (detector, strategy))).unwrap()
    }

    #[test]
    fn a_detector_that_does_not_work_is_refused() {
        for detector in [
            Detector::PhoneNumber,
            Detector::JsonWebToken,
            Detector::PrivateKey,
            Detector::AwsAccessKey,
        ] {
            let refused = Detectors::new(&[(detector, Strategy::Redact)]).unwrap_err();
            assert_eq!(
                (refused.0, refused.reason()),
                (detector, Reason::PolicyInvalid)
            );
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

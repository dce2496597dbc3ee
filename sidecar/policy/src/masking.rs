//! What is hidden, and how: column masks and detectors of a [`Policy`](crate::Policy).
//!
//! Pure lookups; the masks themselves are applied by `chaperone-mask`.

use std::cmp::{Ordering, Reverse};

use crate::RuleRef;
use crate::json_path::{JsonPath, Place};
use crate::pattern::{Glob, PartIndex};

/// How a value is hidden (policy.md, Masking).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// `[masked]`.
    Redact,
    /// Only the first and last characters stay.
    Partial {
        /// Characters kept at the front.
        keep_first: usize,
        /// Characters kept at the end.
        keep_last: usize,
    },
    /// A keyed hash: equal inputs stay equal.
    Hash,
    /// SQL NULL.
    Null,
}

impl Strategy {
    /// Greater hides more: Null > Redact > Hash > Partial with fewer kept.
    fn strictness(self) -> (u8, Reverse<(usize, usize)>) {
        match self {
            Strategy::Null => (3, Reverse((0, 0))),
            Strategy::Redact => (2, Reverse((0, 0))),
            Strategy::Hash => (1, Reverse((0, 0))),
            Strategy::Partial {
                keep_first,
                keep_last,
            } => (
                0,
                Reverse((keep_first.saturating_add(keep_last), keep_first)),
            ),
        }
    }

    /// Which of two strategies hides more; `Greater` when `self` does.
    pub fn compare_strictness(self, other: Strategy) -> Ordering {
        self.strictness().cmp(&other.strictness())
    }
}

/// What stands for a value whose type cannot carry a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Typed {
    /// SQL NULL.
    Null,
    /// The type's zero, for drivers that scan into a plain integer.
    Zero,
}

/// Which comparisons with a masked column are let through (policy.md, Inference).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predicates {
    /// `IS [NOT] NULL` and equality with few constants, counted.
    Equality,
    /// All.
    Allow,
}

/// What is looked for in values, wherever they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detector {
    /// Payment card numbers (Luhn).
    PaymentCard,
    /// International bank account numbers (ISO 13616).
    Iban,
    /// E-mail addresses.
    EmailAddress,
    /// Telephone numbers (E.164; E.123; North American Numbering Plan).
    PhoneNumber,
    /// US social security numbers.
    UsSsn,
    /// JSON Web Tokens (RFC 7519).
    JsonWebToken,
    /// PEM private keys (RFC 7468).
    PrivateKey,
    /// AWS access key ids, and the secrets beside them.
    AwsAccessKey,
}

impl Detector {
    /// Every one.
    pub const ALL: [Detector; 8] = [
        Detector::PaymentCard,
        Detector::Iban,
        Detector::EmailAddress,
        Detector::PhoneNumber,
        Detector::UsSsn,
        Detector::JsonWebToken,
        Detector::PrivateKey,
        Detector::AwsAccessKey,
    ];
}

/// How one column is masked: the strictest of all rules that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// How the value is hidden.
    pub strategy: Strategy,
    /// What stands for it where its type cannot carry a mark.
    pub typed: Typed,
    /// Which comparisons with it are let through.
    pub predicates: Predicates,
    /// The value is base64 of what it means (RFC 4648, section 4), and so is what replaces it; nothing
    /// is the empty text.
    pub base64: bool,
    /// The rule whose strategy this is.
    pub rule: RuleRef,
}

/// One detector and what is done with what it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorRule {
    /// What is looked for.
    pub detector: Detector,
    /// How it is hidden.
    pub strategy: Strategy,
    /// The rule whose strategy this is.
    pub rule: RuleRef,
}

/// One masking rule of one resource, compiled.
#[derive(Debug, Clone)]
pub(crate) struct MaskingRule {
    /// Schema, relation, column.
    pub columns: Vec<[Glob; 3]>,
    pub json_paths: Vec<JsonPath>,
    pub detectors: Vec<Detector>,
    pub mask: ColumnMask,
}

/// Everything that is masked for one subject on one connection.
#[derive(Debug, Clone, Default)]
pub struct Masking {
    columns: PartIndex<PartIndex<PartIndex<Vec<usize>>>>,
    /// Strictest first; each with `predicates` as written and as `Equality`, since another rule
    /// on the same column may be stricter about comparisons only.
    masks: Vec<[ColumnMask; 2]>,
    /// Strictest first, each with its place in `masks`.
    json_paths: Vec<(JsonPath, usize)>,
    detectors: Vec<DetectorRule>,
    unmasked: PartIndex<PartIndex<()>>,
}

impl Masking {
    /// Joins rules: for a column or detector that several name, the strictest wins.
    pub(crate) fn new<'a>(
        rules: impl IntoIterator<Item = &'a MaskingRule>,
        unmasked: impl IntoIterator<Item = &'a [Glob; 2]>,
    ) -> Masking {
        let mut rules: Vec<&MaskingRule> = rules.into_iter().collect();
        rules.sort_by(|a, b| stricter_first(&a.mask, &b.mask));
        let mut masking = Masking::default();
        for (position, rule) in rules.iter().enumerate() {
            let equality = ColumnMask {
                predicates: Predicates::Equality,
                ..rule.mask.clone()
            };
            masking.masks.push([rule.mask.clone(), equality]);
            for [schema, relation, column] in &rule.columns {
                masking.columns.update(schema, |relations| {
                    relations.update(relation, |columns| {
                        columns.update(column, |ids| ids.push(position));
                    });
                });
            }
            let paths = rule.json_paths.iter().cloned();
            masking
                .json_paths
                .extend(paths.map(|path| (path, position)));
            for detector in &rule.detectors {
                if !masking
                    .detectors
                    .iter()
                    .any(|known| known.detector == *detector)
                {
                    masking.detectors.push(DetectorRule {
                        detector: *detector,
                        strategy: rule.mask.strategy,
                        rule: rule.mask.rule.clone(),
                    });
                }
            }
        }
        masking.detectors.sort_by_key(|rule| rule.detector);
        for [schema, function] in unmasked {
            masking
                .unmasked
                .update(schema, |functions| functions.update(function, |()| ()));
        }
        masking
    }

    /// Nothing is masked at all.
    pub fn is_empty(&self) -> bool {
        !self.has_columns() && !self.has_json_paths() && !self.has_detectors()
    }

    /// Detectors alone.
    #[must_use]
    pub fn without_places(&self) -> Masking {
        Masking {
            detectors: self.detectors.clone(),
            ..Masking::default()
        }
    }

    /// The same for documents that hold what the paths are written for, at one of `places`; an
    /// empty place is the document itself.
    #[must_use]
    pub fn inside(&self, places: &[JsonPath]) -> Masking {
        let mut inside = self.without_places();
        inside.masks.clone_from(&self.masks);
        inside.json_paths = self
            .json_paths
            .iter()
            .flat_map(|(path, mask)| places.iter().map(|place| (place.join(path), *mask)))
            .collect();
        inside
    }

    /// Masks these places too, in the name of `rule` and whatever else masks them. The flag says
    /// that the values there are base64.
    #[must_use]
    pub fn with_places(mut self, rule: &RuleRef, places: &[(JsonPath, Strategy, bool)]) -> Masking {
        let mut paths = Vec::with_capacity(places.len().saturating_add(self.json_paths.len()));
        for (path, strategy, base64) in places {
            let mask = ColumnMask {
                strategy: *strategy,
                typed: Typed::Null,
                predicates: Predicates::Equality,
                base64: *base64,
                rule: rule.clone(),
            };
            paths.push((path.clone(), self.masks.len()));
            self.masks.push([mask.clone(), mask]);
        }
        paths.append(&mut self.json_paths);
        self.json_paths = paths;
        self
    }

    /// Some place in JSON is masked.
    pub fn has_json_paths(&self) -> bool {
        !self.json_paths.is_empty()
    }

    /// How the value at this place of a JSON document is masked, by the strictest of the rules
    /// that name it.
    pub fn json(&self, place: &[Place]) -> Option<&ColumnMask> {
        let (_, position) = self
            .json_paths
            .iter()
            .find(|(path, _)| path.matches(place))?;
        self.masks.get(*position).map(|[as_written, _]| as_written)
    }

    /// Some column of some relation is masked.
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Some detector is on.
    pub fn has_detectors(&self) -> bool {
        !self.detectors.is_empty()
    }

    /// How this column is masked, by the strictest of the rules that name it.
    pub fn column(&self, schema: &str, relation: &str, column: &str) -> Option<&ColumnMask> {
        let mut strictest = usize::MAX;
        let mut equality = false;
        self.columns.visit(schema, &mut |relations| {
            relations.visit(relation, &mut |columns| {
                columns.visit(column, &mut |ids| {
                    for id in ids {
                        strictest = strictest.min(*id);
                        equality |= self
                            .masks
                            .get(*id)
                            .is_some_and(|[mask, _]| mask.predicates == Predicates::Equality);
                    }
                });
            });
        });
        let [as_written, as_equality] = self.masks.get(strictest)?;
        Some(if equality { as_equality } else { as_written })
    }

    /// The detectors that are on, each once, with the strictest strategy asked for.
    pub fn detectors(&self) -> &[DetectorRule] {
        &self.detectors
    }

    /// Whether the output of this function was declared clean (`returns: Unmasked`). Where the
    /// connection's guardrails mask columns, only a guardrail can declare it.
    pub fn function_unmasked(&self, schema: &str, function: &str) -> bool {
        let mut found = false;
        self.unmasked.visit(schema, &mut |functions| {
            functions.visit(function, &mut |()| found = true)
        });
        found
    }
}

/// A total order that does not depend on the order the rules came in.
fn stricter_first(a: &ColumnMask, b: &ColumnMask) -> Ordering {
    let zero = |mask: &ColumnMask| mask.typed == Typed::Zero;
    b.strategy
        .compare_strictness(a.strategy)
        .then_with(|| zero(a).cmp(&zero(b)))
        .then_with(|| (&a.rule.policy, &a.rule.rule).cmp(&(&b.rule.policy, &b.rule.rule)))
}

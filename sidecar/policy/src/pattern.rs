//! Patterns over the parts of a name, and an index that finds the patterns a name matches.
//!
//! A pattern has as many parts as the object it is for (`schema.name`, `schema.relation.column`,
//! or one for settings and channels); `*` inside a part stands for any run of characters of that
//! part, everything else is exact.

use std::collections::HashMap;

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Glob {
    /// `*`
    Any,
    /// No `*` at all.
    Exact(Box<str>),
    /// At least one `*` and something else.
    Wild {
        /// Up to the first `*`; may be empty.
        prefix: Box<str>,
        /// Between two `*`, in order; never empty strings.
        middle: Box<[Box<str>]>,
        /// After the last `*`; may be empty.
        suffix: Box<str>,
    },
}

impl Glob {
    pub(crate) fn new(text: &str) -> Glob {
        let Some((prefix, rest)) = text.split_once('*') else {
            return Glob::Exact(text.into());
        };
        let (inner, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle: Box<[Box<str>]> = inner
            .split('*')
            .filter(|piece| !piece.is_empty())
            .map(Into::into)
            .collect();
        if prefix.is_empty() && suffix.is_empty() && middle.is_empty() {
            return Glob::Any;
        }
        Glob::Wild {
            prefix: prefix.into(),
            middle,
            suffix: suffix.into(),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Glob::Any => true,
            Glob::Exact(name) => **name == *text,
            Glob::Wild {
                prefix,
                middle,
                suffix,
            } => {
                let Some(mut rest) = text
                    .strip_prefix(&**prefix)
                    .and_then(|rest| rest.strip_suffix(&**suffix))
                else {
                    return false;
                };
                for piece in middle {
                    let Some((_, after)) = rest.split_once(&**piece) else {
                        return false;
                    };
                    rest = after;
                }
                true
            }
        }
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("the pattern is empty; write a name, or `*` for every one")]
    Empty,
    #[error(
        "`{text}` has {found} part(s) where {expected} are needed ({form}), so it can never match; \
         write `*` for a part that may be anything"
    )]
    Parts {
        text: String,
        found: usize,
        expected: usize,
        form: &'static str,
    },
    #[error("`{text}` has an empty part, so it can never match")]
    EmptyPart { text: String },
}

/// Splits a pattern into exactly `N` parts; `form` is how an error shows the right shape.
pub(crate) fn parse<const N: usize>(
    text: &str,
    form: &'static str,
) -> Result<[Glob; N], PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    let parts: Vec<&str> = if N == 1 {
        vec![text]
    } else {
        text.split('.').collect()
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(PatternError::EmptyPart {
            text: text.to_owned(),
        });
    }
    let found = parts.len();
    let globs: Vec<Glob> = parts.into_iter().map(Glob::new).collect();
    globs.try_into().map_err(|_| PatternError::Parts {
        text: text.to_owned(),
        found,
        expected: N,
        form,
    })
}

/// Finds the values of all patterns that match one part of a name, without walking the patterns:
/// exact names, literal prefixes and literal suffixes are hashed; only patterns that begin and
/// end with `*` are tried one by one.
#[derive(Debug, Clone)]
pub(crate) struct PartIndex<T> {
    any: Option<Box<T>>,
    exact: HashMap<Box<str>, T>,
    prefixed: Affixes<T>,
    suffixed: Affixes<T>,
    inner: Vec<(Glob, T)>,
}

#[derive(Debug, Clone)]
struct Affixes<T> {
    /// The distinct lengths in bytes of the keys of `by_text`.
    lengths: Vec<usize>,
    by_text: HashMap<Box<str>, Vec<(Glob, T)>>,
}

impl<T> Default for Affixes<T> {
    fn default() -> Self {
        Affixes {
            lengths: Vec::new(),
            by_text: HashMap::new(),
        }
    }
}

impl<T> Default for PartIndex<T> {
    fn default() -> Self {
        PartIndex {
            any: None,
            exact: HashMap::new(),
            prefixed: Affixes::default(),
            suffixed: Affixes::default(),
            inner: Vec::new(),
        }
    }
}

impl<T: Default> Affixes<T> {
    fn entry(&mut self, affix: &str, glob: &Glob) -> Option<&mut T> {
        if !self.lengths.contains(&affix.len()) {
            self.lengths.push(affix.len());
        }
        find_or_insert(self.by_text.entry(affix.into()).or_default(), glob)
    }
}

fn find_or_insert<'a, T: Default>(list: &'a mut Vec<(Glob, T)>, glob: &Glob) -> Option<&'a mut T> {
    let position = list
        .iter()
        .position(|(known, _)| known == glob)
        .unwrap_or_else(|| {
            list.push((glob.clone(), T::default()));
            list.len().saturating_sub(1)
        });
    list.get_mut(position).map(|(_, value)| value)
}

impl<T> PartIndex<T> {
    /// No pattern at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.any.is_none()
            && self.exact.is_empty()
            && self.prefixed.lengths.is_empty()
            && self.suffixed.lengths.is_empty()
            && self.inner.is_empty()
    }
}

impl<T: Default> PartIndex<T> {
    /// Changes the value kept for `glob`, which starts as `T::default()`.
    pub(crate) fn update(&mut self, glob: &Glob, change: impl FnOnce(&mut T)) {
        let slot = match glob {
            Glob::Any => Some(&mut **self.any.get_or_insert_with(Box::default)),
            Glob::Exact(name) => Some(self.exact.entry(name.clone()).or_default()),
            Glob::Wild { prefix, .. } if !prefix.is_empty() => self.prefixed.entry(prefix, glob),
            Glob::Wild { suffix, .. } if !suffix.is_empty() => self.suffixed.entry(suffix, glob),
            Glob::Wild { .. } => find_or_insert(&mut self.inner, glob),
        };
        if let Some(slot) = slot {
            change(slot);
        }
    }

    /// Visits the value of every pattern that matches `text`, each once.
    pub(crate) fn visit<'a>(&'a self, text: &str, visitor: &mut impl FnMut(&'a T)) {
        if let Some(value) = &self.any {
            visitor(value);
        }
        if !self.exact.is_empty()
            && let Some(value) = self.exact.get(text)
        {
            visitor(value);
        }
        for length in &self.prefixed.lengths {
            if let Some(list) = text
                .get(..*length)
                .and_then(|key| self.prefixed.by_text.get(key))
            {
                visit_list(list, text, visitor);
            }
        }
        for length in &self.suffixed.lengths {
            let key = text
                .len()
                .checked_sub(*length)
                .and_then(|start| text.get(start..));
            if let Some(list) = key.and_then(|key| self.suffixed.by_text.get(key)) {
                visit_list(list, text, visitor);
            }
        }
        visit_list(&self.inner, text, visitor);
    }
}

fn visit_list<'a, T>(list: &'a [(Glob, T)], text: &str, visitor: &mut impl FnMut(&'a T)) {
    for (glob, value) in list {
        if glob.matches(text) {
            visitor(value);
        }
    }
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

    use super::*;

    /// The textbook definition, as slow as it likes.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((letter, rest)) => text.first() == Some(letter) && naive(rest, &text[1..]),
        }
    }

    #[test]
    fn star_stays_inside_its_part() {
        let [schema, name] = parse::<2>("public.order*", "schema.name").unwrap();
        assert!(schema.matches("public") && name.matches("orders") && name.matches("order"));
        assert!(!schema.matches("publi") && !name.matches("my_orders"));
        assert!(!Glob::new("a*a").matches("a"));
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused() {
        assert_eq!(parse::<2>("", "schema.name"), Err(PatternError::Empty));
        assert!(matches!(
            parse::<2>("orders", "schema.name"),
            Err(PatternError::Parts {
                found: 1,
                expected: 2,
                ..
            })
        ));
        assert!(matches!(
            parse::<2>("a.b.c", "schema.name"),
            Err(PatternError::Parts { found: 3, .. })
        ));
        assert!(matches!(
            parse::<2>("public.", "schema.name"),
            Err(PatternError::EmptyPart { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn glob_means_what_its_definition_says(pattern in "[abé*]{1,6}", text in "[abé]{0,7}") {
            let slow = naive(
                &pattern.chars().collect::<Vec<_>>(),
                &text.chars().collect::<Vec<_>>(),
            );
            prop_assert_eq!(Glob::new(&pattern).matches(&text), slow);
        }

        #[test]
        fn index_finds_what_walking_the_patterns_finds(
            patterns in proptest::collection::vec("[abé*]{1,4}", 0..12),
            text in "[abé]{0,5}",
        ) {
            let mut index: PartIndex<Vec<usize>> = PartIndex::default();
            for (id, pattern) in patterns.iter().enumerate() {
                index.update(&Glob::new(pattern), |ids| ids.push(id));
            }
            let mut found = Vec::new();
            index.visit(&text, &mut |ids| found.extend_from_slice(ids));
            found.sort_unstable();
            let walked: Vec<usize> = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| Glob::new(pattern).matches(&text))
                .map(|(id, _)| id)
                .collect();
            prop_assert_eq!(found, walked);
        }
    }
}

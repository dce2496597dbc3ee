//! Places in JSON documents: the part of JSONPath (RFC 9535) that needs no look at values.
//!
//! ```text
//! $.customer.email      a member of a member        $['card number']   a name with any character
//! $.orders[*].card      of every element            $.*                every member or element
//! $.orders[0]           of the first element        $..email           at any depth
//! ```

use std::fmt;

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The member of that name of an object.
    Name(String),
    /// The element at that position of an array.
    Index(usize),
}

/// A pattern for places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
    Any,
    /// `..`: any number of steps.
    Deep,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAPath {
    text: String,
    why: &'static str,
}

impl fmt::Display for NotAPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` {}; write it as `$.customer.email`, `$.orders[*].card` or `$..email`",
            self.text, self.why
        )
    }
}

/// Most `..` in one path: each can cost a walk over the rest of the place.
const MAX_DEEP: usize = 2;

impl JsonPath {
    pub(crate) fn parse(text: &str) -> Result<JsonPath, NotAPath> {
        let wrong = |why| NotAPath {
            text: text.to_owned(),
            why,
        };
        let mut rest = text
            .strip_prefix('$')
            .ok_or_else(|| wrong("does not begin with `$`"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Deep);
                rest = after;
                if rest.starts_with('[') {
                    continue;
                }
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
            } else if rest.starts_with('[') {
                let (step, after) =
                    bracket(rest).ok_or_else(|| wrong("has a bracket that is not understood"))?;
                steps.push(step);
                rest = after;
                continue;
            } else {
                return Err(wrong("has a step without a dot"));
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            match name {
                "" => return Err(wrong("has an empty step")),
                "*" => steps.push(Step::Any),
                name if name.contains(['*', ']', '\'', '"', '?', '@']) => {
                    return Err(wrong("has a step that is not understood"));
                }
                name => steps.push(Step::Name(name.to_owned())),
            }
            rest = after;
        }
        if steps.is_empty() || steps.last() == Some(&Step::Deep) {
            return Err(wrong("names no place"));
        }
        if steps.iter().filter(|step| **step == Step::Deep).count() > MAX_DEEP {
            return Err(wrong("has more than two `..`"));
        }
        Ok(JsonPath(steps))
    }

    /// The document itself.
    pub fn root() -> JsonPath {
        JsonPath(Vec::new())
    }

    /// The member of that name.
    #[must_use]
    pub fn member(mut self, name: &str) -> JsonPath {
        self.0.push(Step::Name(name.to_owned()));
        self
    }

    /// Every member or element.
    #[must_use]
    pub fn each(mut self) -> JsonPath {
        self.0.push(Step::Any);
        self
    }

    /// What `inner` leads to from where this one does.
    #[must_use]
    pub fn join(&self, inner: &JsonPath) -> JsonPath {
        JsonPath(self.0.iter().chain(&inner.0).cloned().collect())
    }

    /// Whether it leads to this place exactly.
    pub fn matches(&self, place: &[Place]) -> bool {
        matches_from(&self.0, place)
    }
}

/// `[*]`, `[3]`, `['name']` or `["name"]`, and what follows.
fn bracket(text: &str) -> Option<(Step, &str)> {
    let inner = text.strip_prefix('[')?;
    if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let (name, after) = inner.get(1..)?.split_once(quote)?;
        let known = !name.is_empty() && !name.contains('\\');
        return known.then_some((Step::Name(name.to_owned()), after.strip_prefix(']')?));
    }
    let (inner, after) = inner.split_once(']')?;
    match inner {
        "*" => Some((Step::Any, after)),
        index => Some((Step::Index(index.parse().ok()?), after)),
    }
}

fn matches_from(steps: &[Step], place: &[Place]) -> bool {
    match (steps.split_first(), place.split_first()) {
        (None, None) => true,
        (Some((Step::Deep, after)), _) => {
            (0..=place.len()).any(|skip| matches_from(after, place.get(skip..).unwrap_or_default()))
        }
        (Some((step, after)), Some((at, rest))) => {
            let here = match (step, at) {
                (Step::Any, _) => true,
                (Step::Name(name), Place::Name(at)) => name == at,
                (Step::Index(index), Place::Index(at)) => index == at,
                _ => false,
            };
            here && matches_from(after, rest)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(text: &str) -> Vec<Place> {
        text.split('/')
            .filter(|part| !part.is_empty())
            .map(|part| match part.parse() {
                Ok(index) => Place::Index(index),
                Err(_) => Place::Name(part.to_owned()),
            })
            .collect()
    }

    #[test]
    fn paths_lead_where_they_say() {
        for (path, at) in [
            ("$.customer.email", "customer/email"),
            ("$.orders[*].card", "orders/3/card"),
            ("$.orders[3].card", "orders/3/card"),
            ("$['customer'][\"email\"]", "customer/email"),
            ("$..email", "email"),
            ("$..email", "a/0/b/email"),
            ("$..[*]", "a/0"),
            ("$.*.email", "customer/email"),
            ("$[*].email", "0/email"),
        ] {
            assert!(
                JsonPath::parse(path).unwrap().matches(&place(at)),
                "{path} {at}"
            );
        }
        for (path, at) in [
            ("$.customer.email", "customer/email/x"),
            ("$.customer.email", "customer"),
            ("$.orders[2].card", "orders/3/card"),
            ("$..email", "email/x"),
            ("$.*", "a/b"),
        ] {
            assert!(
                !JsonPath::parse(path).unwrap().matches(&place(at)),
                "{path} {at}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "$",
            "customer",
            "$.",
            "$..",
            "$.a..",
            "$a",
            "$[",
            "$[a]",
            "$['a]",
            "$.a[?(@.b)]",
            "$.a*",
            "$..a..b..c",
        ] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }
}

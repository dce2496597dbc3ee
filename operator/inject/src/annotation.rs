//! What a workload's or pod's annotations ask for.

use std::collections::BTreeMap;
use std::fmt;

use crate::Refusal;
use crate::names::{CONNECTIONS_ANNOTATION, PURPOSE_ANNOTATION};

/// Most Connections of one pod: addresses 127.0.0.2 to 127.0.0.33.
const MOST_CONNECTIONS: usize = 32;
/// Most characters of a purpose, as ApprovalRequest bounds it.
const LONGEST_PURPOSE: usize = 256;

/// A Connection by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Reference {
    /// `namespace/name`, both written out.
    pub(crate) fn parse_full(text: &str) -> Option<Reference> {
        let (namespace, name) = text.split_once('/')?;
        (is_label(namespace) && is_name(name)).then(|| Reference {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// What annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The Connections, in the order written.
    pub connections: Vec<Reference>,
    /// Why the workload runs.
    pub purpose: Option<String>,
}

impl Wanted {
    /// Reads `chaperone.dev/connections` and `chaperone.dev/purpose` of an object in `namespace`,
    /// where names without one are looked for.
    ///
    /// # Errors
    /// [`Refusal::Annotation`] naming the part that is wrong.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        namespace: &str,
    ) -> Result<Wanted, Refusal> {
        let connections = match annotations.get(CONNECTIONS_ANNOTATION) {
            Some(text) => connections(text, namespace)?,
            None => Vec::new(),
        };
        let purpose = annotations.get(PURPOSE_ANNOTATION);
        Ok(Wanted {
            connections,
            purpose: purpose.map(|text| checked_purpose(text)).transpose()?,
        })
    }
}

fn connections(text: &str, namespace: &str) -> Result<Vec<Reference>, Refusal> {
    let wrong = |problem: String| Refusal::Annotation {
        annotation: CONNECTIONS_ANNOTATION,
        problem,
    };
    if text.trim().is_empty() {
        return Err(wrong(
            "is empty; name Connections as namespace/name, separated by commas, or remove it"
                .to_owned(),
        ));
    }
    let mut found: Vec<Reference> = Vec::new();
    for (position, part) in text.split(',').enumerate() {
        let part = part.trim();
        let reference = match part.contains('/') {
            true => Reference::parse_full(part),
            false => Reference::parse_full(&format!("{namespace}/{part}")),
        };
        let Some(reference) = reference else {
            let number = position.saturating_add(1);
            return Err(wrong(format!(
                "entry {number} ({part:?}) is neither namespace/name nor a name"
            )));
        };
        if found.contains(&reference) {
            return Err(wrong(format!("names {reference} twice")));
        }
        if found.len() >= MOST_CONNECTIONS {
            return Err(wrong(format!(
                "names more than {MOST_CONNECTIONS} Connections"
            )));
        }
        found.push(reference);
    }
    Ok(found)
}

fn checked_purpose(text: &str) -> Result<String, Refusal> {
    let problem = if text.trim().is_empty() {
        "is empty; say why the workload runs, or remove it".to_owned()
    } else if text.chars().count() > LONGEST_PURPOSE {
        format!("is longer than {LONGEST_PURPOSE} characters")
    } else if text.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(text.to_owned());
    };
    Err(Refusal::Annotation {
        annotation: PURPOSE_ANNOTATION,
        problem,
    })
}

/// A DNS-1123 label, as a namespace's name is one.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS-1123 subdomain, as an object's name and a host alias are one.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let annotations = BTreeMap::from([(CONNECTIONS_ANNOTATION.to_owned(), text.to_owned())]);
        Wanted::read(&annotations, "shop")
            .map(|wanted| wanted.connections.iter().map(ToString::to_string).collect())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn names_without_a_namespace_are_of_the_workload() {
        assert_eq!(
            read("databases/orders-db, shop-api").unwrap(),
            ["databases/orders-db", "shop/shop-api"]
        );
    }

    #[test]
    fn every_mistake_in_the_annotation_is_named() {
        for (text, part) in [
            ("", "is empty"),
            ("a,,b", "entry 2 (\"\")"),
            ("a/b/c", "entry 1"),
            ("Orders", "entry 1 (\"Orders\")"),
            ("a,shop/a", "names shop/a twice"),
            ("a\n", ""),
            ("../a", "entry 1"),
            ("a=b:1", "entry 1"),
        ] {
            match read(text) {
                Ok(found) => assert_eq!((text, found), ("a\n", vec!["shop/a".to_owned()])),
                Err(message) => assert!(message.contains(part), "{text:?}: {message}"),
            }
        }
        let many: Vec<String> = (0..33).map(|number| format!("c{number}")).collect();
        assert!(read(&many.join(",")).is_err());
    }

    #[test]
    fn a_purpose_is_bounded_and_printable() {
        let read = |text: &str| {
            let annotations = BTreeMap::from([(PURPOSE_ANNOTATION.to_owned(), text.to_owned())]);
            Wanted::read(&annotations, "shop").map(|wanted| wanted.purpose)
        };
        assert_eq!(read("nightly-report").unwrap().unwrap(), "nightly-report");
        for text in ["", " ", "a\nb", &"x".repeat(257)] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}

//! Whose verified token a session presented, as one text of its first record (FORMAT.md, 1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::MAX_TEXT;

/// Who acts through the workload, by a token that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelegateRecord {
    /// Name of the IdentityProvider whose key signed the token.
    pub provider: String,
    /// Its issuer.
    pub issuer: String,
    /// User name, with the provider's prefix.
    pub username: String,
    /// Groups, with the provider's prefix, as many as the text has room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How many groups it has no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_groups: usize,
    /// When the token ends, in seconds since 1970 (RFC 7519, section 4.1.4).
    pub expires: i64,
    /// The token's id (RFC 7519, section 4.1.7), by which its issuer finds it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The chain of actors (RFC 8693, section 4.1), whole and as the token has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Value>,
}

impl DelegateRecord {
    /// The text of the record; groups are left out from the end until it fits. `None` where even
    /// without any it does not: a chain of actors is never cut.
    pub fn to_text(&self) -> Option<String> {
        let mut record = self.clone();
        loop {
            let text = serde_json::to_string(&record).ok()?;
            if text.len() <= MAX_TEXT {
                return Some(text);
            }
            record.groups.pop()?;
            record.more_groups = record.more_groups.saturating_add(1);
        }
    }

    /// Reads the text of a record.
    pub fn parse(text: &str) -> Option<DelegateRecord> {
        serde_json::from_str(text).ok()
    }

    /// As people read it: the user, the provider, and through whom.
    pub fn describe(&self) -> String {
        let mut text = format!("{} of {}", self.username, self.provider);
        let mut actor = self.act.as_ref();
        while let Some(found) = actor {
            let name = found.get("sub").and_then(Value::as_str).unwrap_or("?");
            text.push_str(" through ");
            text.push_str(name);
            actor = found.get("act");
        }
        text
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record() -> DelegateRecord {
        DelegateRecord {
            provider: "corp".to_owned(),
            issuer: "https://id.example".to_owned(),
            username: "corp:alice".to_owned(),
            groups: Vec::new(),
            more_groups: 0,
            expires: 1,
            token: None,
            act: Some(serde_json::json!({"sub": "planner", "act": {"sub": "scheduler"}})),
        }
    }

    #[test]
    fn groups_give_way_to_the_chain_of_actors_and_are_counted() {
        let mut delegate = record();
        delegate.groups = (0..1000).map(|n| format!("group-{n}")).collect();
        let text = delegate.to_text().unwrap();
        assert!(text.len() <= MAX_TEXT);
        let read = DelegateRecord::parse(&text).unwrap();
        assert_eq!(read.act, delegate.act);
        assert_eq!(read.groups.len() + read.more_groups, 1000);
        assert_eq!(
            read.describe(),
            "corp:alice of corp through planner through scheduler"
        );
    }

    #[test]
    fn a_chain_that_does_not_fit_makes_no_record() {
        let mut delegate = record();
        delegate.act = Some(serde_json::json!({"sub": "x".repeat(MAX_TEXT)}));
        assert_eq!(delegate.to_text(), None);
    }
}

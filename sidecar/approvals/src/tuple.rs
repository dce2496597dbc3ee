//! What a grant is bound to.

use chaperone_crds::DelegateRef;
use chaperone_policy::{ApprovalRule, Subject};

/// Everything that must be equal for a grant to release a command (policy.md, Approvals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// Namespace of the workload.
    pub namespace: String,
    /// Service account of the workload, without its namespace.
    pub service_account: String,
    /// The delegate, if one acts: the same user name of another provider is another person.
    pub delegate: Option<DelegateRef>,
    /// `namespace/name` of the Connection.
    pub connection: String,
    /// HMAC-SHA-256 of exact command and parameters under the store's key (evidence.md, Records).
    pub command_digest: [u8; 32],
    /// [`combined_rule_digest`] of the rules that ask.
    pub rule_digest: String,
}

/// One digest for all the rules that ask at once: hex SHA-256 over the sorted, distinct
/// `policy NUL rule NUL digest LF` of each. Order of rules never matters, and a rule that joins,
/// leaves or changes makes another digest.
pub fn combined_rule_digest(rules: &[ApprovalRule]) -> String {
    digest_of(rules.iter().map(|asked| {
        (
            asked.rule.policy.as_str(),
            asked.rule.rule.as_str(),
            asked.rule.digest.as_str(),
        )
    }))
}

/// [`combined_rule_digest`] over `(policy, rule, digest)`.
pub(crate) fn digest_of<'a>(rules: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let mut rules: Vec<_> = rules.collect();
    rules.sort_unstable();
    rules.dedup();
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for (policy, rule, digest) in rules {
        for part in [policy, "\0", rule, "\0", digest, "\n"] {
            context.update(part.as_bytes());
        }
    }
    hex::encode(context.finish())
}

impl Tuple {
    /// The tuple of `subject` asking for one command over `connection` (`namespace/name`) under
    /// the rules that hold it.
    pub fn new(
        subject: &Subject,
        connection: &str,
        command_digest: [u8; 32],
        rules: &[ApprovalRule],
    ) -> Tuple {
        Tuple {
            namespace: subject.workload.namespace.clone(),
            service_account: subject.workload.service_account.clone(),
            delegate: subject.delegate.as_ref().map(|delegate| DelegateRef {
                provider: delegate.provider.clone(),
                username: delegate.username.clone(),
            }),
            connection: connection.to_owned(),
            command_digest,
            rule_digest: combined_rule_digest(rules),
        }
    }

    /// Which part of `other` differs, `None` if none does.
    pub fn difference(&self, other: &Tuple) -> Option<&'static str> {
        if (&self.namespace, &self.service_account, &self.delegate)
            != (&other.namespace, &other.service_account, &other.delegate)
        {
            return Some("subject");
        }
        if self.connection != other.connection {
            return Some("connection");
        }
        if self.command_digest != other.command_digest {
            return Some("command");
        }
        (self.rule_digest != other.rule_digest).then_some("rule")
    }

    /// Whether both are of one subject, whatever they ask for.
    pub fn same_subject(&self, other: &Tuple) -> bool {
        (&self.namespace, &self.service_account, &self.delegate)
            == (&other.namespace, &other.service_account, &other.delegate)
    }

    /// SHA-256 over all parts: equal exactly where the tuples are.
    pub fn digest(&self) -> [u8; 32] {
        let delegate = self.delegate.as_ref();
        digest_of_parts([
            self.namespace.as_bytes(),
            self.service_account.as_bytes(),
            delegate.map_or(&[], |delegate| delegate.provider.as_bytes()),
            delegate.map_or(&[], |delegate| delegate.username.as_bytes()),
            self.connection.as_bytes(),
            &self.command_digest,
            self.rule_digest.as_bytes(),
        ])
    }

    /// The same over the subject alone.
    pub fn subject_digest(&self) -> [u8; 32] {
        let delegate = self.delegate.as_ref();
        digest_of_parts([
            self.namespace.as_bytes(),
            self.service_account.as_bytes(),
            delegate.map_or(&[], |delegate| delegate.provider.as_bytes()),
            delegate.map_or(&[], |delegate| delegate.username.as_bytes()),
        ])
    }
}

/// Each part after its length, so that no two lists of parts collide. A delegate has no empty
/// name, so that none is not some.
fn digest_of_parts<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

//! Accepted and ResolvedRefs of a policy. Pure.

use chaperone_crds::{AccessPolicy, ConditionReason, ConditionType};
use chaperone_policy::{NamedPolicy, check};

use crate::controllers::conditions::Finding;

/// Problems that one message lists.
const MOST_LISTED: usize = 3;

/// Judges a policy, of which `missing` is what it names in vain.
pub(super) fn validate(
    policy: &AccessPolicy,
    namespace: &str,
    name: &str,
    missing: &[(ConditionReason, String)],
) -> Vec<Finding> {
    let problems = problems(policy, namespace, name);
    let accepted = match problems.is_empty() {
        true => Finding::good(ConditionType::Accepted, ConditionReason::Accepted, ""),
        false => Finding::bad(
            ConditionType::Accepted,
            ConditionReason::PolicyInvalid,
            format!(
                "{}; until this is corrected it denies whom it selects",
                listed(problems.iter().map(String::as_str))
            ),
        ),
    };
    let resolved = match missing.first() {
        None => Finding::good(
            ConditionType::ResolvedRefs,
            ConditionReason::ResolvedRefs,
            "",
        ),
        Some((reason, _)) => Finding::bad(
            ConditionType::ResolvedRefs,
            *reason,
            listed(missing.iter().map(|(_, message)| message.as_str())),
        ),
    };
    vec![accepted, resolved]
}

fn problems(policy: &AccessPolicy, namespace: &str, name: &str) -> Vec<String> {
    let invalid = check(
        &[],
        &[NamedPolicy {
            namespace,
            name,
            generation: policy.metadata.generation.unwrap_or_default(),
            spec: &policy.spec,
        }],
    );
    invalid
        .into_iter()
        .map(|invalid| format!("{}: {}", invalid.path, invalid.message))
        .collect()
}

fn listed<'a>(problems: impl Iterator<Item = &'a str>) -> String {
    let problems: Vec<&str> = problems.collect();
    let more = problems.len().saturating_sub(MOST_LISTED);
    let mut text = problems
        .iter()
        .take(MOST_LISTED)
        .copied()
        .collect::<Vec<_>>()
        .join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn policy(rest: &str) -> AccessPolicy {
        serde_saphyr::from_str(&format!(
            "
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: report, namespace: shop}}
spec:
  subjects: [{{serviceAccount: report}}]
  connections: [databases/orders-db]
  {rest}
"
        ))
        .unwrap()
    }

    #[test]
    fn a_policy_that_does_not_compile_says_where_and_what_it_does_meanwhile() {
        let broken =
            policy("rules: [{name: a, action: Allow, when: 'nonsense(', sql: {effects: [Read]}}]");
        let findings = validate(&broken, "shop", "report", &[]);
        assert_eq!(
            (findings[0].good, findings[0].reason.as_str()),
            (false, "PolicyInvalid")
        );
        assert!(
            findings[0].message.contains("spec.rules[0].when"),
            "{}",
            findings[0].message
        );
        assert!(findings[0].message.contains("denies"));
        assert!(findings[1].good);
    }

    #[test]
    fn what_is_missing_is_named_without_being_a_fault_of_the_policy() {
        let missing = vec![
            (ConditionReason::ConnectionNotFound, "one".to_owned()),
            (ConditionReason::RefNotFound, "two".to_owned()),
        ];
        let findings = validate(&policy(""), "shop", "report", &missing);
        assert!(findings[0].good);
        assert_eq!(findings[1].reason, "ConnectionNotFound");
        assert_eq!(findings[1].message, "one; two");
    }
}

//! Accepted and ResolvedRefs, and what it takes to log in.

use aws_lc_rs::digest::{Context, SHA256};
use chaperone_crds::{ConditionReason, ConditionType, Connection};
use chaperone_policy::{NamedConnection, NamespaceLabels, check};

use super::dereference::Found;
use crate::controllers::conditions::Finding;
use crate::target::{self, Material, Target, Upstream};

/// What was found out without asking the target.
pub(super) struct Validated {
    /// Accepted, and ResolvedRefs where there is something to resolve.
    pub(super) findings: Vec<Finding>,
    /// How to reach it, if that is possible.
    pub(super) trial: Option<Trial>,
}

/// A way to the target to try.
pub(super) struct Trial {
    pub(super) upstream: Upstream,
    /// Changes with anything that may change what a trial finds.
    pub(super) fingerprint: [u8; 32],
}

/// Judges a Connection and what it refers to.
pub(super) fn validate(
    connection: &Connection,
    namespace: &str,
    name: &str,
    found: &Found,
) -> Validated {
    let mut findings = vec![accepted(connection, namespace, name)];
    let mut trial = None;
    // A special address is refused where it is dialled too; whether it is allowed is not the
    // spec's fault, so the rest is still looked at.
    if let Ok(target) = target::served(&connection.spec, true) {
        let material = target.material(namespace, &found.references);
        let resolved = material.and_then(|material| {
            let upstream = target.upstream(&material)?;
            Ok((upstream, material))
        });
        match resolved {
            Ok((upstream, material)) => {
                findings.push(Finding::good(
                    ConditionType::ResolvedRefs,
                    ConditionReason::ResolvedRefs,
                    "",
                ));
                trial = Some(Trial {
                    fingerprint: fingerprint(target, &material),
                    upstream,
                });
            }
            Err(fault) => findings.push(Finding::fault(ConditionType::ResolvedRefs, &fault)),
        }
    }
    Validated { findings, trial }
}

fn accepted(connection: &Connection, namespace: &str, name: &str) -> Finding {
    let kind = ConditionType::Accepted;
    // What its address is worth is not the spec's form.
    if let Err(fault) = target::served(&connection.spec, true) {
        return Finding::fault(kind, &fault);
    }
    let labels = NamespaceLabels::new();
    let invalid = check(
        &[NamedConnection {
            namespace,
            name,
            generation: connection.metadata.generation.unwrap_or_default(),
            spec: &connection.spec,
            namespaces: &labels,
        }],
        &[],
    );
    match invalid.as_slice() {
        [] => Finding::good(kind, ConditionReason::Accepted, ""),
        [first, ..] => Finding::bad(
            kind,
            ConditionReason::PolicyInvalid,
            format!(
                "{}: {}; until this is corrected everything over it is denied",
                first.path, first.message
            ),
        ),
    }
}

fn fingerprint(target: Target<'_>, material: &Material) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    add(&target.fingerprint());
    for (key, value) in &material.credential {
        add(key.as_bytes());
        add(value.expose());
    }
    add(material.ca.as_deref().unwrap_or_default().as_bytes());
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

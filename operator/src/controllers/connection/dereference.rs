//! What a Connection's conditions depend on besides itself.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_crds::{Action, Connection, SqlEffect};

use crate::controllers::{Shared, workloads};
use crate::references::{Read, Reference};
use crate::target;

/// What was found.
pub(super) struct Found {
    /// What it refers to.
    pub(super) references: BTreeMap<Reference, Read>,
    /// Effects that some rule of some policy lets through over it; `None` while no policy names
    /// it, and nothing can be said about what its role needs.
    pub(super) allowed: Option<BTreeSet<SqlEffect>>,
    /// How many workloads use it.
    pub(super) workloads: u32,
}

/// Reads all of it.
pub(super) async fn dereference(
    shared: &Shared,
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Found {
    // A special address is no reason not to look at the rest.
    let references = match target::served(&connection.spec, true) {
        Ok(target) => {
            let wanted = target.references(namespace);
            shared.references.read(wanted).await
        }
        Err(_) => BTreeMap::new(),
    };
    Found {
        references,
        allowed: allowed(shared, namespace, name),
        workloads: workloads::using(shared, namespace, name),
    }
}

fn allowed(shared: &Shared, namespace: &str, name: &str) -> Option<BTreeSet<SqlEffect>> {
    let mut allowed: Option<BTreeSet<SqlEffect>> = None;
    for policy in shared.context.stores.policies() {
        let Ok(policy) = &policy.0 else { continue };
        if !target::names(policy, namespace, name) {
            continue;
        }
        let effects = allowed.get_or_insert_default();
        for rule in &policy.spec.rules {
            if rule.action != Action::Deny
                && let Some(sql) = &rule.sql
            {
                effects.extend(sql.effects.iter().copied());
            }
        }
    }
    allowed
}

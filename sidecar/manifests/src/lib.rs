//! Manifests in a folder: the same that a cluster is given, for a standalone sidecar and for tests.
//!
//! ```text
//! folder ─files─► text ─yaml─► located documents ─resources─► typed, validated ─references─► Manifests
//!            every step adds its Problems and goes on; nothing is dropped in silence
//! ```
//!
//! A problem names file, line, field, and what is allowed. What cannot be read may have been a
//! policy: it is kept as [`Unreadable`], which denies where that policy would have applied.
//! [`policies`] compiles what was read, and reports through [`Located::problem`].

mod files;
mod located;
pub mod policies;
mod references;
mod resources;
mod secret;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use chaperone_crds::{AccessPolicy, AuditStore, Connection, IdentityProvider};

pub use located::{Located, Position, Problem};
pub use references::{NO_CLUSTER, UNSERVED, listen_port};
pub use secret::SecretBytes;

/// Namespace and name; a resource without a namespace is in `default`.
pub type ResourceName = (String, String);

/// The namespace of a resource that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// All that a folder holds, and all that is wrong with it.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Connections that hold to their schema, by file and line.
    pub connections: Vec<Located<Connection>>,
    /// AccessPolicies that hold to their schema, by file and line.
    pub policies: Vec<Located<AccessPolicy>>,
    /// IdentityProviders that hold to their schema, by file and line.
    pub identity_providers: Vec<Located<IdentityProvider>>,
    /// AuditStores that hold to their schema; of these only the sinks of `default` count here.
    pub audit_stores: Vec<Located<AuditStore>>,
    /// Values of Secrets by key.
    pub secrets: BTreeMap<ResourceName, BTreeMap<String, SecretBytes>>,
    /// Values of ConfigMaps by key.
    pub config_maps: BTreeMap<ResourceName, BTreeMap<String, String>>,
    /// What is or may be an AccessPolicy and cannot be understood.
    pub unreadable: Vec<Unreadable>,
    /// Everything that is wrong, by file and line.
    pub problems: Vec<Problem>,
}

/// Something that may be an AccessPolicy. Nobody can say whom it would have denied what, so it
/// denies everyone on the connections it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Namespace, `default` where none can be read.
    pub namespace: String,
    /// Name; the file's name where none can be read.
    pub name: String,
    /// The connections it names; `None` where that cannot be read: then all.
    pub connections: Option<Vec<ResourceName>>,
    /// The first thing that is wrong with it, with file and line.
    pub message: String,
}

impl Manifests {
    /// Reads a folder. Never fails: an unreadable folder is a problem as well.
    ///
    /// Files are those ending in `.yaml` or `.yml`, in order of their names; subfolders and names
    /// that begin with a dot are left out (an editor's, and those of a mounted ConfigMap).
    pub fn load(folder: &Path) -> Manifests {
        let mut manifests = Manifests::default();
        let mut index = resources::Index::default();
        for file in files::read(folder, &mut manifests) {
            resources::read(&file, &mut manifests, &mut index);
        }
        references::check(&mut manifests);
        manifests.problems.sort();
        manifests.problems.dedup();
        manifests
    }
}

impl Unreadable {
    /// Whether it denies on this connection.
    pub fn denies_on(&self, namespace: &str, name: &str) -> bool {
        let is_it = |connection: &ResourceName| connection.0 == namespace && connection.1 == name;
        self.connections
            .as_ref()
            .is_none_or(|connections| connections.iter().any(is_it))
    }
}

#[cfg(test)]
mod tests;

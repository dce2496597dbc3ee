//! From documents to resources.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chaperone_crds::validate::{self, Resource, Violation};
use chaperone_crds::{
    API_VERSION, AccessPolicy, AuditStore, ConditionReason, Connection, GROUP, IdentityProvider,
};

use super::files::ManifestFile;
use super::yaml::{self, Node, NodeValue};
use super::{
    DEFAULT_NAMESPACE, Located, Manifests, Position, Problem, ResourceName, Unreadable, secret,
};

/// Which resources were seen where, by kind.
#[derive(Default)]
pub(super) struct Index(BTreeMap<(&'static str, ResourceName), String>);

/// The kinds that are understood, with their apiVersions.
const KINDS: [(&str, &str); 6] = [
    (Connection::KIND, API_VERSION),
    (AccessPolicy::KIND, API_VERSION),
    (IdentityProvider::KIND, API_VERSION),
    (AuditStore::KIND, API_VERSION),
    ("Secret", "v1"),
    ("ConfigMap", "v1"),
];

/// Reads one file's documents into `manifests`.
pub(super) fn read(file: &ManifestFile, manifests: &mut Manifests, index: &mut Index) {
    for document in yaml::documents(&file.text) {
        let before = manifests.problems.len();
        match document {
            Ok(document) => {
                let document = Arc::new(document);
                let mut reader = Reader {
                    file,
                    document: &document,
                    manifests,
                    index,
                };
                reader.resource();
                let may_be_policy = reader.may_be_policy();
                if manifests.problems.len() > before && may_be_policy {
                    keep_as_unreadable(file, &document, manifests, before);
                }
            }
            Err(error) => {
                let message = format!("is not YAML that can be read: {}", error.message);
                let reason = ConditionReason::Malformed;
                let problem = problem(&file.path, error.position, "", message, reason);
                manifests.unreadable.push(Unreadable {
                    namespace: DEFAULT_NAMESPACE.to_owned(),
                    name: file_name(&file.path),
                    connections: None,
                    message: problem.to_string(),
                });
                manifests.problems.push(problem);
            }
        }
    }
}

/// A policy that is wrong in part still denies where it would have applied: as far as its
/// connections can be read, there; else everywhere.
fn keep_as_unreadable(
    file: &ManifestFile,
    document: &Node,
    manifests: &mut Manifests,
    before: usize,
) {
    let metadata = document.get("metadata").map(|entry| &entry.value);
    let namespace = metadata
        .and_then(|m| m.get_text("namespace"))
        .unwrap_or(DEFAULT_NAMESPACE);
    let name = metadata.and_then(|metadata| metadata.get_text("name"));
    let is_policy = document.get_text("kind") == Some(AccessPolicy::KIND);
    let connections = if is_policy {
        connections(document, namespace)
    } else {
        None
    };
    let message = manifests
        .problems
        .get(before)
        .map(Problem::to_string)
        .unwrap_or_default();
    manifests.unreadable.push(Unreadable {
        namespace: namespace.to_owned(),
        name: name.map_or_else(|| file_name(&file.path), str::to_owned),
        connections,
        message,
    });
}

fn connections(document: &Node, namespace: &str) -> Option<Vec<ResourceName>> {
    let spec = &document.get("spec")?.value;
    // A key that stands there twice hides one of the two lists.
    if !document.repeated_keys().is_empty() {
        return None;
    }
    match &spec.get("connections")?.value.value {
        NodeValue::Sequence(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_text().map(|name| qualify(name, namespace)))
            .collect(),
        _ => None,
    }
}

/// `namespace/name`, or `name` in the namespace given.
pub(super) fn qualify(name: &str, namespace: &str) -> ResourceName {
    match name.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), name.to_owned()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn problem(
    file: &Path,
    position: Position,
    field: &str,
    message: String,
    reason: ConditionReason,
) -> Problem {
    let Position { line, column } = position;
    Problem {
        file: file.to_owned(),
        line,
        column,
        field: field.to_owned(),
        message,
        reason,
    }
}

/// Reads one document.
struct Reader<'a> {
    file: &'a ManifestFile,
    document: &'a Arc<Node>,
    manifests: &'a mut Manifests,
    index: &'a mut Index,
}

impl Reader<'_> {
    fn report(&mut self, path: &str, message: String, reason: ConditionReason) {
        let position = self.document.locate(path);
        self.manifests
            .problems
            .push(problem(&self.file.path, position, path, message, reason));
    }

    /// Whether this is or may have been meant as an AccessPolicy.
    fn may_be_policy(&self) -> bool {
        let kind = self.document.get_text("kind");
        let api_version = self.document.get_text("apiVersion");
        let known = KINDS.iter().any(|(known, _)| kind == Some(known));
        let foreign = api_version.is_some_and(|version| !version.starts_with(GROUP));
        kind == Some(AccessPolicy::KIND) || !(known || foreign)
    }

    fn resource(&mut self) {
        if !matches!(self.document.value, NodeValue::Mapping(_)) {
            let message = "must be a mapping with apiVersion, kind and metadata".to_owned();
            self.report("", message, ConditionReason::Malformed);
            return;
        }
        let repeated = self.document.repeated_keys();
        for (path, position) in &repeated {
            let message = "is there already; each key may stand once".to_owned();
            let reason = ConditionReason::Duplicate;
            self.manifests.problems.push(problem(
                &self.file.path,
                *position,
                path,
                message,
                reason,
            ));
        }
        let Some(kind) = self.kind() else {
            return;
        };
        // Which of two values was meant is anyone's guess; nothing is taken from such a document.
        let usable = repeated.is_empty();
        match kind {
            "Connection" => {
                let found = self.typed(usable);
                self.manifests.connections.extend(found);
            }
            "AccessPolicy" => {
                let found = self.typed(usable);
                self.manifests.policies.extend(found);
            }
            "IdentityProvider" => {
                let found = self.typed(usable);
                self.manifests.identity_providers.extend(found);
            }
            "AuditStore" => {
                let found = self.typed(usable);
                self.manifests.audit_stores.extend(found);
            }
            _ => self.values(kind, usable),
        }
    }

    /// The kind, if it is one that is understood here under this apiVersion.
    fn kind(&mut self) -> Option<&'static str> {
        let kinds = KINDS.map(|(kind, _)| kind).join(", ");
        let unknown = ConditionReason::UnknownKind;
        let Some(kind) = self.document.get_text("kind") else {
            self.report("kind", format!("is required: one of {kinds}"), unknown);
            return None;
        };
        let Some((kind, expected)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
            self.report(
                "kind",
                format!("{kind:?} is not known here; write one of {kinds}"),
                unknown,
            );
            return None;
        };
        match self.document.get_text("apiVersion") {
            Some(version) if version == expected => Some(kind),
            Some(version) => {
                let message = format!("{version:?} is not known for {kind}; write {expected}");
                self.report("apiVersion", message, unknown);
                None
            }
            None => {
                let message = format!("is required: {expected} for {kind}");
                self.report("apiVersion", message, ConditionReason::MissingField);
                None
            }
        }
    }

    fn typed<T: Resource>(&mut self, usable: bool) -> Option<Located<T>> {
        let mut value: T = match validate::parse(&self.document.to_json()) {
            Ok(value) => value,
            Err(violations) => {
                self.violations(violations);
                return None;
            }
        };
        let metadata = value.metadata_mut();
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = match T::NAMESPACED {
            true => metadata
                .namespace
                .get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned())
                .clone(),
            false => String::new(),
        };
        if !self.is_first(T::KIND, &namespace, &name) || !usable {
            return None;
        }
        let (file, document) = (self.file.path.clone(), Arc::clone(self.document));
        Some(Located {
            value,
            namespace,
            name,
            file,
            document,
        })
    }

    /// A Secret or a ConfigMap.
    fn values(&mut self, kind: &'static str, usable: bool) {
        let document = Arc::clone(self.document);
        let metadata = match document.get("metadata") {
            Some(entry) => validate::validate_metadata(&entry.value.to_json(), true),
            None => {
                self.report(
                    "metadata",
                    "is required".to_owned(),
                    ConditionReason::MissingField,
                );
                return;
            }
        };
        let named = metadata.is_empty();
        self.violations(metadata);
        let mut faults = Vec::new();
        let metadata = document.get("metadata").map(|entry| &entry.value);
        let text = |key| metadata.and_then(|metadata| metadata.get_text(key));
        let namespace = text("namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned();
        let name = text("name").unwrap_or_default().to_owned();
        let usable = usable && named && self.is_first(kind, &namespace, &name);
        let key = (namespace, name);
        if kind == "Secret" {
            let values = secret::secret(&document, &mut faults);
            if self.file.world_readable {
                tracing::warn!(
                    file = %self.file.path.display(),
                    "any user of this machine can read this Secret; chmod go-rwx it"
                );
            }
            if usable {
                self.manifests.secrets.insert(key, values);
            }
        } else {
            let values = secret::config_map(&document, &mut faults);
            if usable {
                self.manifests.config_maps.insert(key, values);
            }
        }
        for (path, position, message) in faults {
            let reason = match message.starts_with("unknown field") {
                true => ConditionReason::UnknownField,
                false => ConditionReason::Invalid,
            };
            self.manifests.problems.push(problem(
                &self.file.path,
                position,
                &path,
                message,
                reason,
            ));
        }
    }

    fn violations(&mut self, violations: Vec<Violation>) {
        for Violation {
            path,
            message,
            reason,
        } in violations
        {
            self.report(&path, message, reason);
        }
    }

    /// Whether this is the first of its kind and name; reports it if not.
    fn is_first(&mut self, kind: &'static str, namespace: &str, name: &str) -> bool {
        let key = (kind, (namespace.to_owned(), name.to_owned()));
        let line = self.document.locate("metadata.name").line;
        let place = format!("{}:{line}", self.file.path.display());
        match self.index.0.get(&key).cloned() {
            Some(first) => {
                let message = format!("{kind} {name:?} is there already, at {first}");
                self.report("metadata.name", message, ConditionReason::Duplicate);
                false
            }
            None => {
                self.index.0.insert(key, place);
                true
            }
        }
    }
}

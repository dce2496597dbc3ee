//! What one pod may know, out of everything the operator knows. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaperone_control::{
    ConnectionSnapshot, Fault, PolicySnapshot, ProviderSnapshot, SinkSnapshot, Snapshot,
};
use chaperone_crds::{AccessPolicy, AuditSink, ConditionReason, Connection};
use chaperone_evidence::Recipient;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};

use crate::references::{Read, Reference};
use crate::target;

/// Most bytes of a snapshot's policies and Connections: what a sidecar takes in one line, with
/// room for the rest of it.
const MOST_BYTES: usize = chaperone_control::MOST_BYTES / 2;

/// What a snapshot is made from.
pub(super) struct Inputs<'a> {
    /// The pod's namespace.
    pub(super) namespace: &'a str,
    /// The pod's labels.
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Its namespace's labels; `None` where that is not known.
    pub(super) namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// The Connections it was injected for, each as far as it is there.
    pub(super) connections: &'a [(String, String, Option<Arc<Connection>>)],
    /// Every AccessPolicy, also those that cannot be read.
    pub(super) policies: &'a [Arc<DeserializeGuard<AccessPolicy>>],
    /// What the Connections refer to.
    pub(super) references: &'a BTreeMap<Reference, Read>,
    /// Finds an IdentityProvider by its name.
    pub(super) provider: &'a dyn Fn(&str) -> Option<ProviderSnapshot>,
    /// Whom the AuditStore has evidence sealed for, or why that is not known.
    pub(super) seal_for: Result<Vec<Recipient>, String>,
    /// Where the AuditStore has events sent; `None` where it cannot be read.
    pub(super) sinks: Option<&'a [AuditSink]>,
    /// `--allow-special-targets`.
    pub(super) allow_special: bool,
}

/// A snapshot's content: what makes a new generation when it changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    labels: BTreeMap<String, String>,
    connections: Vec<ConnectionSnapshot>,
    providers: Vec<ProviderSnapshot>,
    seal_for: Option<Vec<String>>,
    sinks: Option<Vec<SinkSnapshot>>,
}

impl Content {
    /// The snapshot with this content.
    pub(super) fn snapshot(&self, generation: u64, valid_until: Timestamp) -> Snapshot {
        Snapshot {
            generation,
            valid_until,
            labels: self.labels.clone(),
            connections: self.connections.clone(),
            identity_providers: self.providers.clone(),
            seal_for: self.seal_for.clone(),
            sinks: self.sinks.clone(),
        }
    }
}

/// Builds the content of a pod's snapshot. A Connection that cannot be served is there with the
/// reason, so that its sidecar denies with it.
pub(super) fn content(inputs: &Inputs<'_>) -> Content {
    let mut connections: Vec<ConnectionSnapshot> = inputs
        .connections
        .iter()
        .map(|(namespace, name, found)| connection(inputs, namespace, name, found.as_deref()))
        .collect();
    let mut providers = providers(inputs, &connections);
    let size = serde_json::to_vec(&(&connections, &providers));
    let size = size.map_or(usize::MAX, |bytes| bytes.len());
    if size > MOST_BYTES {
        providers.clear();
        deny_all(
            &mut connections,
            ConditionReason::LimitExceeded,
            &format!(
                "Connections and policies of this pod are {size} bytes, and at most {MOST_BYTES} \
                 are handed out; name fewer Connections or shorten their policies"
            ),
        );
    }
    let seal_for = match &inputs.seal_for {
        Ok(recipients) => Some(recipients.iter().map(ToString::to_string).collect()),
        // What would be recorded, everybody could read.
        Err(why) => {
            deny_all(&mut connections, ConditionReason::Malformed, why);
            None
        }
    };
    Content {
        labels: inputs.labels.clone(),
        connections,
        providers,
        seal_for,
        sinks: inputs.sinks.map(|sinks| handed_out(sinks, inputs)),
    }
}

/// The sinks with the values of their Secret. One that is not there keeps its sink from being used,
/// which its sidecar says.
fn handed_out(sinks: &[AuditSink], inputs: &Inputs<'_>) -> Vec<SinkSnapshot> {
    let read = inputs.references.get(&Reference::sinks());
    let values = read.and_then(|read| read.as_ref().ok());
    let one = |spec: &AuditSink| SinkSnapshot {
        authorization: spec
            .authorization_key()
            .and_then(|key| values?.get(key).cloned()),
        spec: spec.clone(),
    };
    sinks.iter().map(one).collect()
}

fn deny_all(connections: &mut [ConnectionSnapshot], reason: ConditionReason, why: &str) {
    for connection in connections {
        connection.policies.clear();
        connection.credential.clear();
        connection.fault = Some(target::fault(reason, why.to_owned()));
    }
}

/// Those whose tokens the policies handed out select by. One that is not there is left out: its
/// tokens are nobody's.
fn providers(inputs: &Inputs<'_>, connections: &[ConnectionSnapshot]) -> Vec<ProviderSnapshot> {
    let policies = connections
        .iter()
        .flat_map(|connection| &connection.policies);
    let names: BTreeSet<&str> = policies
        .flat_map(|policy| &policy.spec.subjects)
        .filter_map(|subject| Some(subject.identity.as_ref()?.provider.as_str()))
        .collect();
    names.into_iter().filter_map(inputs.provider).collect()
}

fn connection(
    inputs: &Inputs<'_>,
    namespace: &str,
    name: &str,
    found: Option<&Connection>,
) -> ConnectionSnapshot {
    let mut snapshot = ConnectionSnapshot {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        generation: 0,
        spec: None,
        credential: BTreeMap::new(),
        ca: None,
        namespace_labels: inputs.namespace_labels.cloned().unwrap_or_default(),
        policies: Vec::new(),
        fault: None,
    };
    let admitted =
        found.filter(|found| target::admits(found, inputs.namespace, inputs.namespace_labels));
    // One sentence for both: who may not use a Connection learns nothing of it.
    let Some(found) = admitted else {
        snapshot.fault = Some(target::fault(
            ConditionReason::ConnectionNotFound,
            format!(
                "there is no Connection {namespace}/{name} that namespace {} may use; create it, \
                 or let its spec.consumers select this namespace",
                inputs.namespace
            ),
        ));
        return snapshot;
    };
    snapshot.generation = found.metadata.generation.unwrap_or_default();
    snapshot.spec = Some(found.spec.clone());
    snapshot.policies = policies(inputs, namespace, name);
    match material(inputs, namespace, found) {
        Ok(material) => {
            snapshot.credential = material.credential;
            snapshot.ca = material.ca;
        }
        Err(fault) => snapshot.fault = Some(fault),
    }
    // Whom it selects is not known, but only pods of its own namespace can be meant.
    if let Some(unreadable) = own_policies(inputs).find_map(|policy| policy.0.as_ref().err()) {
        let name = unreadable.metadata.name.as_deref().unwrap_or_default();
        snapshot.credential.clear();
        snapshot.fault = Some(target::fault(
            ConditionReason::PolicyInvalid,
            format!(
                "AccessPolicy {}/{name} cannot be read, so it denies: {}",
                inputs.namespace, unreadable.error
            ),
        ));
    }
    snapshot
}

fn material(
    inputs: &Inputs<'_>,
    namespace: &str,
    found: &Connection,
) -> Result<target::Material, Fault> {
    let target = target::served(&found.spec, inputs.allow_special)?;
    target.material(namespace, inputs.references)
}

/// All policies that name the Connection, those that may not compile too: they must deny. Only
/// those of the pod's namespace can select it.
fn policies(inputs: &Inputs<'_>, namespace: &str, name: &str) -> Vec<PolicySnapshot> {
    let mut policies: Vec<PolicySnapshot> = own_policies(inputs)
        .filter_map(|policy| policy.0.as_ref().ok())
        .filter(|policy| target::names(policy, namespace, name))
        .map(|policy| PolicySnapshot {
            namespace: policy.namespace().unwrap_or_default(),
            name: policy.name_any(),
            generation: policy.metadata.generation.unwrap_or_default(),
            spec: policy.spec.clone(),
        })
        .collect();
    policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    policies
}

fn own_policies<'a>(
    inputs: &'a Inputs<'_>,
) -> impl Iterator<Item = &'a DeserializeGuard<AccessPolicy>> {
    inputs
        .policies
        .iter()
        .map(Arc::as_ref)
        .filter(|policy| policy.meta().namespace.as_deref() == Some(inputs.namespace))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use chaperone_control::SecretBytes;
    use kube::core::ObjectMeta;
    use kube::core::error_boundary::InvalidObject;

    use super::*;
    use crate::references::{Kind, Missing};

    fn connection(consumers: &str) -> Arc<Connection> {
        Arc::new(
            serde_saphyr::from_str(&format!(
                "
apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata: {{name: orders-db, namespace: databases, generation: 3}}
spec:
  postgres:
    host: orders.db.svc.cluster.local
    tls: {{mode: Disable}}
    credential: {{secret: {{name: orders-agent}}}}
  {consumers}
"
            ))
            .unwrap(),
        )
    }

    fn shop() -> Arc<Connection> {
        connection(
            "consumers: {namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [ops]}]}}",
        )
    }

    fn policy(
        namespace: &str,
        name: &str,
        connection: &str,
    ) -> Arc<DeserializeGuard<AccessPolicy>> {
        Arc::new(
            serde_saphyr::from_str(&format!(
                "
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: {name}, namespace: {namespace}, generation: 5}}
spec:
  subjects: [{{serviceAccount: report}}]
  connections: ['{connection}']
"
            ))
            .unwrap(),
        )
    }

    fn provider(name: &str) -> Option<ProviderSnapshot> {
        let spec = serde_saphyr::from_str(
            "
issuer: https://id.example
audiences: [chaperone]
jwks: {discovery: true}
username: {claim: sub, prefix: ''}
",
        );
        (name != "gone").then(|| ProviderSnapshot {
            name: name.to_owned(),
            spec: spec.unwrap(),
            keys: None,
        })
    }

    fn secret(entries: &[(&str, &str)]) -> BTreeMap<Reference, Read> {
        let data = entries
            .iter()
            .map(|(key, value)| {
                let value = SecretBytes::new(value.as_bytes().to_vec());
                ((*key).to_owned(), value)
            })
            .collect();
        BTreeMap::from([(credential(), Ok(Arc::new(data)))])
    }

    fn credential() -> Reference {
        Reference {
            kind: Kind::Secret,
            namespace: "databases".to_owned(),
            name: "orders-agent".to_owned(),
        }
    }

    struct Case {
        labels: Option<BTreeMap<String, String>>,
        connection: Option<Arc<Connection>>,
        policies: Vec<Arc<DeserializeGuard<AccessPolicy>>>,
        references: BTreeMap<Reference, Read>,
        seal_for: Result<Vec<Recipient>, String>,
        sinks: Vec<AuditSink>,
    }

    impl Case {
        fn good() -> Case {
            Case {
                labels: Some(BTreeMap::new()),
                connection: Some(shop()),
                policies: vec![
                    policy("shop", "b", "databases/orders-db"),
                    policy("shop", "a", "databases/orders-db"),
                    policy("other", "a", "databases/orders-db"),
                    policy("shop", "own", "orders-db"),
                ],
                references: secret(&[
                    ("username", "agent"),
                    ("password", "hunter2"),
                    ("admin-password", "no business of a sidecar"),
                ]),
                seal_for: Ok(Vec::new()),
                sinks: Vec::new(),
            }
        }

        fn content(&self) -> Content {
            let name = ("databases".to_owned(), "orders-db".to_owned());
            content(&Inputs {
                namespace: "shop",
                labels: &BTreeMap::new(),
                namespace_labels: self.labels.as_ref(),
                connections: &[(name.0, name.1, self.connection.clone())],
                policies: &self.policies,
                references: &self.references,
                provider: &provider,
                seal_for: self.seal_for.clone(),
                sinks: Some(&self.sinks),
                allow_special: false,
            })
        }

        fn only(&self) -> ConnectionSnapshot {
            self.content().connections[0].clone()
        }
    }

    #[test]
    fn a_sidecar_gets_what_it_needs_and_nothing_else() {
        let only = Case::good().only();
        assert_eq!(only.fault, None);
        assert_eq!(only.generation, 3);
        let keys: Vec<&str> = only.credential.keys().map(String::as_str).collect();
        assert_eq!(keys, ["password", "username"]);
        let policies: Vec<&str> = only.policies.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            policies,
            ["a", "b"],
            "of its namespace, naming this Connection"
        );
    }

    #[test]
    fn no_credential_leaves_for_a_namespace_that_is_not_admitted() {
        let mut cases = Vec::new();
        let mut case = Case::good();
        case.labels = Some(BTreeMap::from([("team".to_owned(), "ops".to_owned())]));
        cases.push(case);
        // Unknown labels would meet `NotIn`.
        let mut case = Case::good();
        case.labels = None;
        cases.push(case);
        let mut case = Case::good();
        case.connection = Some(connection(""));
        cases.push(case);
        let mut case = Case::good();
        case.connection = None;
        cases.push(case);
        let first = cases[0].only().fault;
        for case in cases {
            let only = case.only();
            assert!(only.credential.is_empty() && only.spec.is_none());
            assert_eq!(only.fault, first, "missing and not admitted look the same");
        }
    }

    #[test]
    fn every_reference_problem_is_a_fault_that_denies() {
        let mut cases = vec![
            (BTreeMap::new(), "ApiUnavailable"),
            (secret(&[("username", "agent")]), "RefNotFound"),
            (secret(&[("password", "x")]), "RefNotFound"),
        ];
        for (missing, reason) in [
            (Missing::NotFound, "RefNotFound"),
            (Missing::NotPermitted, "RefNotPermitted"),
            (Missing::Unavailable, "ApiUnavailable"),
        ] {
            cases.push((BTreeMap::from([(credential(), Err(missing))]), reason));
        }
        for (references, reason) in cases {
            let case = Case {
                references,
                ..Case::good()
            };
            let only = case.only();
            assert_eq!(only.fault.unwrap().reason, reason);
            assert!(only.credential.is_empty());
        }
    }

    #[test]
    fn special_addresses_are_no_targets() {
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "localhost",
            "LOCALHOST.",
        ] {
            let mut case = Case::good();
            let mut connection = (*shop()).clone();
            connection.spec.postgres.as_mut().unwrap().host = host.to_owned();
            case.connection = Some(Arc::new(connection));
            let fault = case.only().fault.unwrap();
            assert_eq!(fault.reason, "TargetNotAllowed", "{host}");
        }
    }

    #[test]
    fn a_sidecar_is_told_whom_to_seal_for_and_denies_where_nobody_knows() {
        let mut case = Case::good();
        let before = case.content();
        let auditor = "age1g25jpje2xd9dxjc9cek5uhwltg66j8e0al6xjc4n8rhpfqad3cdsx7g5ra";
        case.seal_for = Ok(vec![Recipient::parse(auditor).unwrap()]);
        assert_ne!(case.content(), before);
        let told = case.content().snapshot(1, Timestamp::MAX);
        assert_eq!(told.seal_for, Some(vec![auditor.to_owned()]));
        assert!(!case.only().credential.is_empty());
        case.seal_for = Err("it cannot be understood".to_owned());
        assert_eq!(case.content().seal_for, None);
        let only = case.only();
        assert_eq!(only.fault.unwrap().reason, "Malformed");
        assert!(only.credential.is_empty());
    }

    #[test]
    fn a_sink_gets_the_value_it_names_and_no_other() {
        let mut case = Case::good();
        let sink = "{name: siem, webhook: {url: 'https://siem.example', authorizationKey: siem}}";
        case.sinks = vec![serde_saphyr::from_str(sink).unwrap()];
        let sinks = |case: &Case| case.content().snapshot(1, Timestamp::MAX).sinks.unwrap();
        assert_eq!(sinks(&case)[0].authorization, None, "there is no Secret");
        let data = [("siem", "Bearer a"), ("other", "Bearer b")].map(|(key, value)| {
            let value = SecretBytes::new(value.as_bytes().to_vec());
            (key.to_owned(), value)
        });
        let read = Ok(Arc::new(BTreeMap::from(data)));
        case.references.insert(Reference::sinks(), read);
        let told = sinks(&case);
        assert_eq!(
            told[0].authorization.as_ref().unwrap().expose(),
            b"Bearer a"
        );
        let text = format!("{told:?}");
        assert!(!text.contains("Bearer"), "{text}");
    }

    #[test]
    fn a_policy_that_cannot_be_read_denies_in_its_namespace() {
        let mut case = Case::good();
        for (namespace, denies) in [("other", false), ("shop", true)] {
            let unreadable = InvalidObject {
                error: "unknown field".to_owned(),
                metadata: ObjectMeta {
                    name: Some("broken".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
            };
            case.policies
                .push(Arc::new(DeserializeGuard(Err(unreadable))));
            let only = case.only();
            assert_eq!(only.fault.is_some(), denies, "{namespace}");
            assert_eq!(only.credential.is_empty(), denies);
        }
    }

    #[test]
    fn a_sidecar_gets_the_identity_providers_that_its_policies_name_and_no_others() {
        let mut case = Case::good();
        assert_eq!(case.content().providers, []);
        for (namespace, name) in [("shop", "corp"), ("shop", "gone"), ("other", "else")] {
            let mut named = policy(namespace, name, "databases/orders-db");
            let inner = Arc::get_mut(&mut named).unwrap().0.as_mut().unwrap();
            let subject = format!("{{identity: {{provider: {name}}}}}");
            inner.spec.subjects = vec![serde_saphyr::from_str(&subject).unwrap()];
            case.policies.push(named);
        }
        let content = case.content();
        let names: Vec<&str> = content.providers.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["corp"]);
    }

    #[test]
    fn content_is_equal_exactly_where_nothing_changed() {
        let same = Case::good().content();
        assert_eq!(same, Case::good().content());
        let mut case = Case::good();
        case.policies.reverse();
        assert_eq!(same, case.content(), "the order of a store never matters");
        case.policies.pop();
        assert_ne!(same, case.content());
        let mut case = Case::good();
        case.references = secret(&[("username", "agent"), ("password", "rotated")]);
        assert_ne!(same, case.content());
    }
}

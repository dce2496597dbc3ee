//! Events on workloads, for those who look at a Deployment: why it stays without pods, what its
//! pods were denied.
//!
//! A queue of bounded length and one sender: nobody waits for an Event, and a storm of them loses
//! some instead of holding memory.

use chaperone_approvals::escape::escape_line;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Events that wait to be sent.
const WAITING: usize = 256;
/// Longest note of an Event (events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Queues Events.
#[derive(Debug, Clone)]
pub(crate) struct Announcer {
    sender: mpsc::Sender<Announcement>,
}

/// An Event for a workload.
pub(crate) struct Announcement {
    pub(crate) namespace: String,
    pub(crate) on: On,
    pub(crate) event: Event,
}

/// Whose people are to see it.
#[derive(Debug)]
pub(crate) enum On {
    /// What controls a pod.
    Owner(OwnerReference),
    /// What controls this pod, or the pod itself where nothing does.
    Pod { name: String, uid: String },
}

impl Announcer {
    /// Starts the sender.
    pub(crate) fn start(client: Client, instance: &str, tasks: &mut JoinSet<()>) -> Announcer {
        let (sender, mut receiver) = mpsc::channel::<Announcement>(WAITING);
        let reporter = Reporter {
            controller: "chaperone.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        tasks.spawn(async move {
            while let Some(announcement) = receiver.recv().await {
                if let Err(error) = publish(&client, &recorder, announcement).await {
                    tracing::debug!(%error, "an Event was not sent");
                }
            }
        });
        Announcer { sender }
    }

    /// Queues an Event.
    pub(crate) fn announce(&self, announcement: Announcement) {
        // A full queue loses the Event and nothing else; the counters still have it.
        let _ = self.sender.try_send(announcement);
    }
}

/// On one line, no longer than an Event's note may be, and nothing in it hides or moves text: an agent
/// chooses the names that it asks for.
pub(crate) fn note(text: &str) -> String {
    let escaped = escape_line(&text.chars().take(LONGEST_NOTE).collect::<String>());
    escaped.chars().take(LONGEST_NOTE).collect()
}

async fn publish(
    client: &Client,
    recorder: &Recorder,
    announcement: Announcement,
) -> Result<(), kube::Error> {
    let Announcement {
        namespace,
        on,
        event,
    } = announcement;
    let owner = match on {
        On::Owner(owner) => owner,
        On::Pod { name, uid } => {
            let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), &namespace);
            let Some(pod) = api.get_opt(&name).await? else {
                return Ok(());
            };
            let controls = |owner: &&OwnerReference| owner.controller == Some(true);
            match pod.owner_references().iter().find(controls) {
                Some(owner) => owner.clone(),
                None => {
                    let pod = reference::<Pod>(&namespace, &name, &uid);
                    return recorder.publish(&event, &pod).await;
                }
            }
        }
    };
    // The owner is what the request says; an Event is written only on one that is really there.
    let found = match owner.kind.as_str() {
        "ReplicaSet" => find::<ReplicaSet>(client, &namespace, &owner).await?,
        "StatefulSet" => find::<StatefulSet>(client, &namespace, &owner).await?,
        "DaemonSet" => find::<DaemonSet>(client, &namespace, &owner).await?,
        "Job" => find::<Job>(client, &namespace, &owner).await?,
        _ => None,
    };
    let Some((mut reference, metadata)) = found else {
        return Ok(());
    };
    // People look at the Deployment, not at its ReplicaSets.
    let above = metadata.owner_references.unwrap_or_default();
    if let Some(above) = above.iter().find(|above| above.kind == "Deployment")
        && let Some((deployment, _)) = find::<Deployment>(client, &namespace, above).await?
    {
        reference = deployment;
    }
    recorder.publish(&event, &reference).await
}

async fn find<K>(
    client: &Client,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<(ObjectReference, ObjectMeta)>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(&owner.name).await?;
    let found = found.filter(|found| found.uid().as_ref() == Some(&owner.uid));
    Ok(found.map(|found| {
        let reference = reference::<K>(namespace, &owner.name, &owner.uid);
        (reference, found.metadata)
    }))
}

fn reference<K: Resource<DynamicType = ()>>(
    namespace: &str,
    name: &str,
    uid: &str,
) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

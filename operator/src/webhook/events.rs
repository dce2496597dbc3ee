//! Events on the owners of pods that were refused, for those who look at a Deployment that stays
//! without pods.
//!
//! A queue of bounded length and one sender: admission never waits for an Event, and a storm of
//! refusals loses some instead of holding memory.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Request;
use super::answer::Answer;

/// Events that wait to be sent.
const WAITING: usize = 256;
/// Longest note of an Event (events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Queues Events.
#[derive(Debug, Clone)]
pub(super) struct Announcer {
    sender: mpsc::Sender<Announcement>,
}

struct Announcement {
    namespace: String,
    owner: OwnerReference,
    event: Event,
}

impl Announcer {
    /// Starts the sender.
    pub(super) fn start(client: Client, instance: &str, tasks: &mut JoinSet<()>) -> Announcer {
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

    /// Queues an Event if the pod has an owner and something was to be said.
    pub(super) fn announce(&self, request: &Request, answer: &Answer) {
        let owner = request.object.as_ref().and_then(|object| {
            let owners = object.owner_references();
            owners.iter().find(|owner| owner.controller == Some(true))
        });
        let (Some(owner), Some(namespace), false) = (owner, &request.namespace, request.dry_run)
        else {
            return;
        };
        let (reason, note) = match (answer.denial(), answer.warnings()) {
            (Some((reason, message)), _) => (reason.as_str(), message.to_owned()),
            (None, []) => return,
            (None, warnings) => ("Injected", warnings.join("; ")),
        };
        let announcement = Announcement {
            namespace: namespace.clone(),
            owner: owner.clone(),
            event: Event {
                type_: EventType::Warning,
                reason: reason.to_owned(),
                note: Some(note.chars().take(LONGEST_NOTE).collect()),
                action: "Inject".to_owned(),
                secondary: None,
            },
        };
        // A full queue loses the Event and never an admission; the counter still has it.
        let _ = self.sender.try_send(announcement);
    }
}

async fn publish(
    client: &Client,
    recorder: &Recorder,
    announcement: Announcement,
) -> Result<(), kube::Error> {
    let Announcement {
        namespace,
        owner,
        event,
    } = announcement;
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
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        (reference, found.metadata)
    }))
}

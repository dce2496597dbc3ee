//! Events: what changed, where people look for it. Best effort: no reconcile fails for one.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::FIELD_MANAGER;

/// Longest note (events.k8s.io/v1).
const LONGEST: usize = 1024;

/// Publishes events.
pub(crate) struct Events(Recorder);

impl Events {
    /// Events of this replica.
    pub(crate) fn new(client: Client, instance: &str) -> Events {
        Events(Recorder::new(
            client,
            Reporter {
                controller: FIELD_MANAGER.to_owned(),
                instance: Some(instance.to_owned()),
            },
        ))
    }

    /// Says that something about an object changed.
    pub(crate) async fn publish(
        &self,
        about: &ObjectReference,
        good: bool,
        reason: &str,
        action: &'static str,
        note: &str,
    ) {
        let event = Event {
            type_: if good {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: reason.to_owned(),
            note: (!note.is_empty()).then(|| note.chars().take(LONGEST).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }
}

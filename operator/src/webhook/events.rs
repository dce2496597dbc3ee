//! What an answer to a pod's admission says to the people of its workload.

use kube::ResourceExt;
use kube::runtime::events::{Event, EventType};

use super::Request;
use super::answer::Answer;
use crate::workload_events::{Announcement, On, note};

/// An Event, if the pod has an owner and something is to be said.
pub(super) fn announcement(request: &Request, answer: &Answer) -> Option<Announcement> {
    if request.dry_run {
        return None;
    }
    let owners = request.object.as_ref()?.owner_references();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let (reason, text) = match (answer.denial(), answer.warnings()) {
        (Some((reason, message)), _) => (reason.as_str(), message.to_owned()),
        (None, []) => return None,
        (None, warnings) => ("Injected", warnings.join("; ")),
    };
    Some(Announcement {
        namespace: request.namespace.clone()?,
        on: On::Owner(owner.clone()),
        event: Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note(&text)),
            action: "Inject".to_owned(),
            secondary: None,
        },
    })
}

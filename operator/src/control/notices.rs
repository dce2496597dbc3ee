//! `/v1/notices`: what a pod's commands led to, as Events on its workload.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use chaperone_control::{MOST_NOTICES, Notice, NoticeKind, Notices, PodIdentity};
use kube::runtime::events::{Event, EventType};

use super::refused::Refused;
use super::{Shared, body, counted};
use crate::workload_events::{Announcement, On, note};

/// Longest reason of an Event (events.k8s.io/v1).
const LONGEST_REASON: usize = 128;

pub(super) async fn notices(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Result<Json<Notices>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let Notices { notices } = body(request)?;
        if notices.len() > MOST_NOTICES {
            let message = format!("send at most {MOST_NOTICES} notices at once");
            return Err(Refused::invalid(message));
        }
        for notice in notices {
            shared
                .announcer
                .announce(announcement(&caller.pod, &notice));
        }
        Ok(StatusCode::NO_CONTENT)
    };
    counted(&shared, "notices", answer).await
}

fn announcement(pod: &PodIdentity, notice: &Notice) -> Announcement {
    let Notice {
        kind,
        reason,
        connection,
        session,
        detail,
        count,
    } = notice;
    let commands = match count {
        1 => "a command".to_owned(),
        count => format!("{count} commands"),
    };
    let (type_, what) = match kind {
        NoticeKind::Denied => (EventType::Warning, format!("{commands} denied: {detail}")),
        NoticeKind::Held => (
            EventType::Normal,
            format!("{commands} held, see `kubectl describe approvalrequest {detail}`"),
        ),
        NoticeKind::Finding => (EventType::Warning, detail.clone()),
    };
    let text = format!(
        "{what}; over {connection} by pod {}; see `kubectl chaperone show {session}`",
        pod.name
    );
    // A reason is one word: whatever a sidecar says, this is one.
    let word = |c: &char| c.is_ascii_alphanumeric();
    Announcement {
        namespace: pod.namespace.clone(),
        on: On::Pod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        },
        event: Event {
            type_,
            reason: reason.chars().filter(word).take(LONGEST_REASON).collect(),
            note: Some(note(&text)),
            action: "Decide".to_owned(),
            secondary: None,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_event_says_what_how_often_and_where_to_look() {
        let pod = PodIdentity {
            namespace: "shop".into(),
            name: "report-agent-1".into(),
            uid: "u".into(),
            service_account: "report-agent".into(),
            labels: BTreeMap::new(),
            purpose: None,
        };
        let notice = Notice {
            kind: NoticeKind::Denied,
            reason: "NotCovered".into(),
            connection: "databases/orders-db".into(),
            session: "00ff".into(),
            detail: "SchemaDestroy on public.orders".into(),
            count: 3,
        };
        let event = announcement(&pod, &notice).event;
        assert_eq!(event.reason, "NotCovered");
        assert_eq!(
            event.note.unwrap(),
            "3 commands denied: SchemaDestroy on public.orders; over databases/orders-db by pod \
             report-agent-1; see `kubectl chaperone show 00ff`"
        );
        let odd = Notice {
            reason: "Not\nCovered \u{202e}".into(),
            detail: format!("\u{1b}[2J\u{202e}{}", "x".repeat(5000)),
            ..notice
        };
        let event = announcement(&pod, &odd).event;
        assert_eq!(event.reason, "NotCovered");
        let note = event.note.unwrap();
        assert_eq!(note.len(), 1024);
        assert!(note.contains(r"\u{1b}[2J\u{202e}xx"), "{note}");
    }
}

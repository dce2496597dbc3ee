//! Tells the operator what the workload's people should hear of, which it makes Events of.

use std::sync::Arc;
use std::time::Duration;

use chaperone_control as api;
use chaperone_enforce::{Notice, NoticeKind, Notices};
use tokio::time::{MissedTickBehavior, interval};

use super::control::Client;

/// How often at most.
const EVERY: Duration = Duration::from_secs(5);

/// Tells for as long as it is kept.
pub(crate) async fn tell(client: Client, notices: Arc<Notices>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let waiting = notices.take();
        if waiting.is_empty() {
            continue;
        }
        let told = api::Notices {
            notices: waiting.iter().map(said).collect(),
        };
        if let Err(error) = client.notices(&told).await {
            tracing::warn!("the operator was not told of denials, holds and findings: {error}");
            notices.put_back(waiting);
        }
    }
}

fn said(notice: &Notice) -> api::Notice {
    api::Notice {
        kind: match notice.kind {
            NoticeKind::Denied => api::NoticeKind::Denied,
            NoticeKind::Held => api::NoticeKind::Held,
            NoticeKind::Finding => api::NoticeKind::Finding,
        },
        reason: notice.reason.clone(),
        connection: notice.connection.clone(),
        session: notice.session.clone(),
        detail: notice.detail.clone(),
        count: notice.count,
    }
}

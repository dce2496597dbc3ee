//! What the operator tells of sessions that are sealed: their views. Whom they are of, and how they
//! went, can be listed without a key; it is the operator's word then, and no proof.

use std::collections::HashMap;

use chaperone_crds::{Session, SessionSpec, SessionState};
use chaperone_evidence::{SessionSummary, State};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::fetch::all;
use super::{Cluster, api_failure};
use crate::error::CliError;

/// Views by the ids of their sessions.
#[derive(Default)]
pub(super) struct Views(HashMap<String, SessionSpec>);

impl Views {
    /// All that there are; none for who may not see them.
    pub(super) async fn fetch(cluster: &Cluster) -> Result<Views, CliError> {
        let api: Api<DeserializeGuard<Session>> = Api::all(cluster.client());
        let read = |view: DeserializeGuard<Session>| {
            let view = view.0.ok()?;
            Some((view.name_any(), view.spec))
        };
        match all(&api, &ListParams::default(), read, |_| {}).await {
            Ok(views) => Ok(Views(views.into_iter().flatten().collect())),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Views::default()),
            Err(error) => Err(api_failure("list the Sessions", &error)),
        }
    }

    /// Fills in what is known of a session that nothing here opens. A view that is behind the log says
    /// nothing yet.
    pub(super) fn fill(&self, session: &mut SessionSummary) {
        if !session.sealed {
            return;
        }
        let Some(view) = self.0.get(&session.id.to_string()) else {
            return;
        };
        if view.state == SessionState::Open && session.state != State::Open {
            return;
        }
        let start = &mut session.start;
        start.subject.clone_from(&view.subject);
        start.connection.clone_from(&view.connection);
        start.target.clone_from(&view.target);
        start.purpose.clone_from(&view.purpose);
        session.end.clone_from(&view.end);
        session.allowed = view.allowed;
        session.denied = view.denied;
        session.held = view.held;
        session.rows = view.rows;
        session.masked = view.masked;
        session.findings = view.findings;
    }
}

//! Sessions as people look for them: one resource each in the agent's namespace. Views, no proof:
//! a lost one is made good by the next, and old ones go.

use std::time::Duration;

use chaperone_control::{PodIdentity, RecoveredSession, SessionView};
use chaperone_crds::{Session, SessionSpec, SessionState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use tokio::time::sleep;

use super::POD_UID_LABEL;
use crate::FIELD_MANAGER;
use crate::context::Context;
use crate::controllers::conditions::whole_seconds;

/// How often old views are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// How long a view stays after its last record.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Views that stay; the oldest beyond it go.
const MOST: usize = 2000;
/// Views that one sweep changes or deletes, so that none takes long.
const MOST_CHANGES: usize = 200;
/// Views of one page, and pages of one sweep.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 20;
/// What an interrupted session's end is, as none was said.
const POD_GONE: &str = "its pod is gone";
/// The same where the pod is still there.
const CUT: &str = "its sidecar ended before it did";
/// And where the records that had not been sent then were found.
const RECOVERED: &str = "its sidecar ended before it did; what it had recorded was found";

/// Why a view was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    /// Not a session's id.
    #[error("a session's id has 16 hex digits")]
    Id,
    /// There is one of that id, and another pod's.
    #[error("session {0} is another pod's")]
    OtherPod(String),
    /// The API server failed us.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
}

/// Writes a view of one of this pod's sessions.
pub(crate) async fn write(
    client: &Client,
    pod: &PodIdentity,
    view: SessionView,
) -> Result<(), ViewError> {
    let session = resource(pod, view)?;
    let name = session.name_any();
    let api: Api<Session> = Api::namespaced(client.clone(), &pod.namespace);
    let (ours, applied) = (manager(pod), Patch::Apply(&session));
    match api.patch(&name, &ours, &applied).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(ViewError::OtherPod(name)),
        Err(error) => Err(error.into()),
    }
}

/// Says how this pod's sessions came out that are open in their views, when its sidecar has started
/// again: `recovered` of them left records, nothing more will come of the others.
pub(crate) async fn end_earlier(
    client: &Client,
    pod: &PodIdentity,
    recovered: &[RecoveredSession],
) -> Result<(), ViewError> {
    let api: Api<DeserializeGuard<Session>> = Api::namespaced(client.clone(), &pod.namespace);
    let own = ListParams::default().labels(&format!("{POD_UID_LABEL}={}", pod.uid));
    for session in listed(&api, own).await? {
        let Ok(mut session) = session.0 else { continue };
        if session.spec.state != SessionState::Open {
            continue;
        }
        let name = session.name_any();
        let found = recovered.iter().find(|found| found.id == name);
        session.spec = came_out(session.spec, found);
        // Only its name, label and version: the rest of it is not ours to apply.
        session.metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: session.metadata.namespace,
            labels: session.metadata.labels,
            resource_version: session.metadata.resource_version,
            ..ObjectMeta::default()
        };
        let (ours, applied) = (manager(pod), Patch::Apply(&session));
        match api.patch(&name, &ours, &applied).await {
            Ok(_) => {}
            // Somebody knows more of it, or it is gone.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An open session's view once its sidecar has ended. Its counts stay as they were told last.
fn came_out(open: SessionSpec, found: Option<&RecoveredSession>) -> SessionSpec {
    let Some(found) = found else {
        return SessionSpec {
            state: SessionState::Interrupted,
            end: CUT.to_owned(),
            ..open
        };
    };
    let (state, end) = match found.end.is_empty() {
        true => (SessionState::Recovered, RECOVERED.to_owned()),
        false => (SessionState::Ended, cut(found.end.clone(), 512)),
    };
    SessionSpec {
        state,
        end,
        last_at: Time(whole_seconds(found.last_at)),
        ..open
    }
}

/// Each pod is a manager of its own and does not force: the label of another pod's view is a
/// conflict, which the API server finds without our asking first.
fn manager(pod: &PodIdentity) -> PatchParams {
    PatchParams::apply(&format!("{FIELD_MANAGER}/{}", pod.uid))
}

/// The view as a resource. Pod and subject are the authenticated ones, whatever it says.
fn resource(pod: &PodIdentity, view: SessionView) -> Result<Session, ViewError> {
    let SessionView { id, spec } = view;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() != 16 || !id.bytes().all(hex) {
        return Err(ViewError::Id);
    }
    let SessionSpec {
        subject: _,
        connection,
        target,
        purpose,
        pod: _,
        state,
        end,
        started_at,
        last_at,
        allowed,
        denied,
        held,
        rows,
        masked,
        findings,
        records,
    } = spec;
    let subject = format!("{}/{}", pod.namespace, pod.service_account);
    Ok(Session {
        metadata: ObjectMeta {
            name: Some(id),
            namespace: Some(pod.namespace.clone()),
            labels: Some([(POD_UID_LABEL.to_owned(), pod.uid.clone())].into()),
            ..ObjectMeta::default()
        },
        spec: SessionSpec {
            subject: cut(subject, 320),
            connection: cut(connection, 320),
            target: cut(target, 512),
            purpose: purpose.map(|purpose| cut(purpose, 256)),
            pod: cut(pod.name.clone(), 253),
            state,
            end: cut(end, 512),
            started_at: Time(whole_seconds(started_at.0)),
            last_at: Time(whole_seconds(last_at.0)),
            allowed: number(allowed),
            denied: number(denied),
            held: number(held),
            rows: number(rows),
            masked: number(masked),
            findings: number(findings),
            records: number(records),
        },
    })
}

/// No longer than the schema takes, which counts characters.
fn cut(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// The schema's numbers are signed.
fn number(number: u64) -> u64 {
    number.min(i64::MAX.unsigned_abs())
}

/// Marks views whose pod is gone and deletes old ones, until it is dropped.
pub(super) async fn sweep(context: &Context) {
    context.stores.ready().await;
    loop {
        if let Err(error) = sweep_once(context).await {
            tracing::warn!(%error, "old Sessions were not looked at, trying again");
        }
        sleep(SWEEP).await;
    }
}

/// What is looked at of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    namespace: String,
    name: String,
    uid: Option<String>,
    pod: String,
    pod_uid: String,
    last_at: Timestamp,
    is_open: bool,
}

/// Looks once at all views. Public for tests against a real API server.
///
/// # Errors
/// The API server's.
pub async fn sweep_once(context: &Context) -> Result<(), kube::Error> {
    let views = views(&context.client).await?;
    let (old, rest) = to_delete(views, Timestamp::now());
    for view in &old {
        delete(&context.client, view).await?;
    }
    let budget = MOST_CHANGES.saturating_sub(old.len());
    let open = rest.iter().filter(|view| view.is_open);
    let gone = open.filter(|view| !is_known(context, view));
    for view in gone.take(budget) {
        interrupt(&context.client, view).await?;
    }
    Ok(())
}

/// Those too old or too many, the oldest first, and the others.
fn to_delete(mut views: Vec<View>, now: Timestamp) -> (Vec<View>, Vec<View>) {
    views.sort_by_key(|view| view.last_at);
    let expired = now.checked_sub(KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
    let old = views.iter().filter(|view| view.last_at < expired).count();
    let many = views.len().saturating_sub(MOST);
    let rest = views.split_off(old.max(many).min(MOST_CHANGES));
    (views, rest)
}

async fn views(client: &Client) -> Result<Vec<View>, kube::Error> {
    let api: Api<DeserializeGuard<Session>> = Api::all(client.clone());
    let sessions = listed(&api, ListParams::default()).await?;
    Ok(sessions.into_iter().map(view).collect())
}

/// All that `page` selects, within bounds.
async fn listed(
    api: &Api<DeserializeGuard<Session>>,
    page: ListParams,
) -> Result<Vec<DeserializeGuard<Session>>, kube::Error> {
    let mut page = page.limit(PAGE);
    let mut sessions = Vec::new();
    for _ in 0..MOST_PAGES {
        let list = api.list(&page).await?;
        sessions.extend(list.items);
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => break,
        }
    }
    Ok(sessions)
}

fn view(session: DeserializeGuard<Session>) -> View {
    let meta = session.meta();
    let view = View {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone(),
        pod: String::new(),
        pod_uid: session
            .labels()
            .get(POD_UID_LABEL)
            .cloned()
            .unwrap_or_default(),
        last_at: meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        is_open: false,
    };
    // One that cannot be read goes a day after it was made.
    let Ok(session) = session.0 else {
        return view;
    };
    View {
        is_open: session.spec.state == SessionState::Open,
        last_at: session.spec.last_at.0,
        pod: session.spec.pod,
        ..view
    }
}

/// Whether the watch shows the view's pod.
fn is_known(context: &Context, view: &View) -> bool {
    let at = ObjectRef::<_>::new(&view.pod).within(&view.namespace);
    let found = context.stores.pods.get(&at);
    found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&view.pod_uid))
}

/// A patch of what an interruption changes.
#[derive(Debug, Serialize)]
struct Interrupted {
    spec: InterruptedSpec,
}

#[derive(Debug, Serialize)]
struct InterruptedSpec {
    state: SessionState,
    end: &'static str,
}

async fn interrupt(client: &Client, view: &View) -> Result<(), kube::Error> {
    // The watch may be behind: a view is marked for good, so the pod's absence is asked for.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &view.namespace);
    let found = pods.get_metadata_opt(&view.pod).await?;
    if found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&view.pod_uid)) {
        return Ok(());
    }
    let patch = Interrupted {
        spec: InterruptedSpec {
            state: SessionState::Interrupted,
            end: POD_GONE,
        },
    };
    let api: Api<DeserializeGuard<Session>> = Api::namespaced(client.clone(), &view.namespace);
    let ours = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(&view.name, &ours, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn delete(client: &Client, view: &View) -> Result<(), kube::Error> {
    let api: Api<DeserializeGuard<Session>> = Api::namespaced(client.clone(), &view.namespace);
    let this_one = DeleteParams {
        preconditions: Some(Preconditions {
            uid: view.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&view.name, &this_one).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod() -> PodIdentity {
        PodIdentity {
            namespace: "shop".to_owned(),
            service_account: "report".to_owned(),
            name: "report-1".to_owned(),
            uid: "u-1".to_owned(),
            labels: Default::default(),
            purpose: None,
        }
    }

    fn spec() -> SessionSpec {
        SessionSpec {
            subject: "bank/teller".to_owned(),
            connection: "databases/orders-db".to_owned(),
            target: "ü".repeat(600),
            purpose: Some("p".repeat(300)),
            pod: "vault-0".to_owned(),
            state: SessionState::Open,
            end: String::new(),
            started_at: Time(at(1)),
            last_at: Time(at(2)),
            allowed: u64::MAX,
            denied: 1,
            held: 0,
            rows: 0,
            masked: 0,
            findings: 0,
            records: 3,
        }
    }

    #[test]
    fn a_view_is_its_pods_whatever_it_says_and_fits_the_schema() {
        let view = SessionView {
            id: "0123456789abcdef".to_owned(),
            spec: spec(),
        };
        let made = resource(&pod(), view).unwrap();
        assert_eq!(made.spec.subject, "shop/report");
        assert_eq!(made.spec.pod, "report-1");
        assert_eq!(made.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(made.metadata.owner_references, None);
        assert_eq!(made.labels().get(POD_UID_LABEL).unwrap(), "u-1");
        assert_eq!(made.spec.target.chars().count(), 512);
        assert_eq!(made.spec.purpose.unwrap().len(), 256);
        assert_eq!(made.spec.allowed, i64::MAX.unsigned_abs());
        for id in [
            "",
            "0123456789ABCDEF",
            "0123456789abcde",
            "../../../secrets",
        ] {
            let view = SessionView {
                id: id.to_owned(),
                spec: spec(),
            };
            resource(&pod(), view).expect_err(id);
        }
    }

    #[test]
    fn a_cut_session_is_what_its_sidecar_found_of_it() {
        let found = |end: &str| RecoveredSession {
            id: "0123456789abcdef".to_owned(),
            last_at: at(7),
            end: end.to_owned(),
        };
        let of = |found: Option<RecoveredSession>| {
            let view = came_out(spec(), found.as_ref());
            assert_eq!(view.records, spec().records, "counts stay");
            (view.state, view.end, view.last_at.0)
        };
        let cut = (SessionState::Interrupted, CUT.to_owned(), at(2));
        assert_eq!(of(None), cut);
        let whole = (SessionState::Recovered, RECOVERED.to_owned(), at(7));
        assert_eq!(of(Some(found(""))), whole);
        let ended = (SessionState::Ended, "ClientClosed".to_owned(), at(7));
        assert_eq!(of(Some(found("ClientClosed"))), ended);
    }

    fn old(name: usize, last_at: i64) -> View {
        View {
            namespace: "shop".to_owned(),
            name: name.to_string(),
            uid: None,
            pod: "report-1".to_owned(),
            pod_uid: "u-1".to_owned(),
            last_at: at(last_at),
            is_open: true,
        }
    }

    #[test]
    fn views_go_after_a_day_or_when_they_are_too_many_and_never_all_at_once() {
        let day = 24 * 3600;
        let now = at(2 * day);
        let views = vec![old(1, 2 * day), old(2, day - 1), old(3, day + 1)];
        let (gone, rest) = to_delete(views, now);
        let names = |views: &[View]| -> Vec<String> {
            views.iter().map(|view| view.name.clone()).collect()
        };
        assert_eq!(
            (names(&gone), names(&rest)),
            (vec!["2".to_owned()], vec!["3".to_owned(), "1".to_owned()])
        );
        let many: Vec<View> = (0..MOST + 7)
            .map(|n| old(n, 2 * day + i64::try_from(n).unwrap()))
            .collect();
        assert_eq!(to_delete(many, now).0.len(), 7);
        let ancient: Vec<View> = (0..MOST).map(|n| old(n, 0)).collect();
        assert_eq!(to_delete(ancient, now).0.len(), MOST_CHANGES);
    }
}

//! Sessions as people look for them: one resource each in the agent's namespace. Views, no proof:
//! a lost one is made good by the next, and old ones go.

use std::time::Duration;

use chaperone_control::{PodIdentity, SessionView};
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
/// What an interrupted session's end is, where none was said.
const POD_GONE: &str = "its pod is gone";

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
    // Each pod is a manager of its own and does not force: the label of another pod's view is a
    // conflict, which the API server finds without our asking first.
    let ours = PatchParams::apply(&format!("{FIELD_MANAGER}/{}", pod.uid));
    match api.patch(&name, &ours, &Patch::Apply(&session)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(ViewError::OtherPod(name)),
        Err(error) => Err(error.into()),
    }
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
    /// Whether it neither ended nor says how.
    is_open: bool,
    says_no_end: bool,
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
    let mut page = ListParams::default().limit(PAGE);
    let mut views = Vec::new();
    for _ in 0..MOST_PAGES {
        let list = api.list(&page).await?;
        views.extend(list.items.into_iter().map(view));
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => break,
        }
    }
    Ok(views)
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
        says_no_end: false,
    };
    // One that cannot be read goes a day after it was made.
    let Ok(session) = session.0 else {
        return view;
    };
    let says_no_end = session.spec.end.is_empty();
    View {
        is_open: match session.spec.state {
            SessionState::Open => true,
            SessionState::Recovered => says_no_end,
            SessionState::Ended | SessionState::Interrupted => false,
        },
        says_no_end,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
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
            end: view.says_no_end.then_some(POD_GONE),
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

    fn old(name: usize, last_at: i64) -> View {
        View {
            namespace: "shop".to_owned(),
            name: name.to_string(),
            uid: None,
            pod: "report-1".to_owned(),
            pod_uid: "u-1".to_owned(),
            last_at: at(last_at),
            is_open: true,
            says_no_end: true,
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

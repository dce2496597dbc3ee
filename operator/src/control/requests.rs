//! The ApprovalRequests of a cluster: made, found again, cancelled and redeemed.
//!
//! The API server is the only store and the only lock. A request's name follows from what it is
//! for, so that two who ask at once make one; a redemption is a compare-and-swap on the resource
//! version, so that two who redeem at once get one. The rules are those of `chaperone-approvals`.

use std::sync::Arc;
use std::time::Duration;

use chaperone_approvals::resource::{self, Sealing, Stored};
use chaperone_approvals::rules::{self, Evaluation, Phase, ReviewerProof};
use chaperone_approvals::{ApprovalError, Draft, MAX_PENDING, Tuple, derived_name, is_name};
use chaperone_control::{ApprovalState, SecretBytes};
use chaperone_crds::ApprovalRequest;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::refused::Refused;
use crate::FIELD_MANAGER;
use crate::digest_key::DigestKey;

/// Label: whose request it is, so that one subject's can be listed. Nothing is decided by it.
const SUBJECT_LABEL: &str = "chaperone.dev/subject";
/// Finished requests kept of one subject; the longest finished go first.
const MOST_FINISHED: usize = 200;
/// Names tried for one request, and times a lost race is run again.
const ATTEMPTS: u32 = 16;
/// Locks that subjects share; what they keep in order is only the count of pending requests.
const LOCKS: usize = 64;

/// The store.
pub(super) struct Requests {
    client: Client,
    key: Arc<DigestKey>,
    /// One replica counts a subject's pending requests one at a time.
    asking: Vec<Mutex<()>>,
}

/// What a subject has already.
#[derive(Default)]
struct Found {
    grant: Option<ApprovalState>,
    pending: Option<ApprovalState>,
    subject_pending: usize,
    same: u32,
    /// Ended when, called what, with which UID.
    finished: Vec<(Timestamp, String, Option<String>)>,
}

impl Requests {
    pub(super) fn new(client: Client, key: Arc<DigestKey>) -> Self {
        Self {
            client,
            key,
            asking: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Asks for approval. The same tuple pending gives the same request; the same tuple with an
    /// unredeemed valid grant gives one that is Approved already.
    pub(super) async fn ask(&self, draft: &Draft) -> Result<ApprovalState, Refused> {
        draft.check()?;
        let key = self.key().await?;
        let subject = draft.tuple.subject_digest();
        let lock = usize::from(subject.first().copied().unwrap_or_default()) % LOCKS;
        let _turn = match self.asking.get(lock) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let label = label_value(&subject);
        let found = self.find(&draft.tuple, &label, &key).await?;
        if let Some(state) = found.grant.or(found.pending) {
            return Ok(state);
        }
        if found.subject_pending >= MAX_PENDING {
            return Err(ApprovalError::TooManyPending {
                pending: found.subject_pending,
                limit: MAX_PENDING,
            }
            .into());
        }
        self.purge(&draft.tuple.namespace, found.finished).await;
        for attempt in found.same..found.same.saturating_add(ATTEMPTS) {
            if let Some(state) = self.make(draft, &label, attempt, &key).await? {
                return Ok(state);
            }
        }
        Err(ApprovalError::Worker("no free name was found".to_owned()).into())
    }

    /// Makes the request of this attempt, or finds that another replica just did. `None` where
    /// the name belongs to something else.
    async fn make(
        &self,
        draft: &Draft,
        label: &str,
        attempt: u32,
        key: &SecretBytes,
    ) -> Result<Option<ApprovalState>, Refused> {
        let api = self.api(&draft.tuple.namespace);
        let name = derived_name(key.expose(), &draft.tuple, attempt)?;
        let sealing = Sealing::Cluster(key.expose());
        let mut request = resource::build(draft, &name, Timestamp::now(), sealing)?;
        let labels = request.metadata.labels.get_or_insert_default();
        labels.insert(SUBJECT_LABEL.to_owned(), label.to_owned());
        match api.create(&post(), &request).await {
            Ok(made) => {
                let stored = understood(&name, made, key)?;
                let mut state = state(&name, &stored, &evaluate(&stored));
                state.created = true;
                Ok(Some(state))
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let Ok(stored) = self.read(&draft.tuple.namespace, &name, key).await else {
                    return Ok(None);
                };
                let evaluation = evaluate(&stored);
                let open = !evaluation.phase.is_final() && stored.tuple == draft.tuple;
                Ok(open.then(|| state(&name, &stored, &evaluation)))
            }
            Err(kube::Error::Api(status)) if status.is_invalid() => {
                tracing::warn!(%status, "an approval request was refused by the API server");
                Err(ApprovalError::Invalid("the API server refuses the request".to_owned()).into())
            }
            Err(error) => Err(Refused::unavailable("making an approval request", &error)),
        }
    }

    /// One request of this subject as it stands now.
    pub(super) async fn get(
        &self,
        subject: &Subject<'_>,
        name: &str,
    ) -> Result<ApprovalState, Refused> {
        let key = self.key().await?;
        let stored = self.read_own(subject, name, &key).await?;
        Ok(state(name, &stored, &evaluate(&stored)))
    }

    /// What a watched copy of a request amounts to; `None` if it is not this subject's.
    pub(super) async fn judge(
        &self,
        subject: &Subject<'_>,
        name: &str,
        request: ApprovalRequest,
    ) -> Result<Option<ApprovalState>, Refused> {
        let key = self.key().await?;
        let stored = understood(name, request, &key)?;
        let own = subject.owns(&stored.tuple);
        Ok(own.then(|| state(name, &stored, &evaluate(&stored))))
    }

    /// The client went away: Pending → Cancelled.
    pub(super) async fn cancel(
        &self,
        subject: &Subject<'_>,
        name: &str,
        why: &str,
    ) -> Result<ApprovalState, Refused> {
        self.change(subject, name, |stored, evaluation| {
            if evaluation.phase == Phase::Pending {
                resource::mark_cancelled(&mut stored.request, why, Timestamp::now());
                return Ok(true);
            }
            Ok(false)
        })
        .await
    }

    /// Takes the grant: Approved → Consumed, exactly once.
    pub(super) async fn redeem(
        &self,
        subject: &Subject<'_>,
        name: &str,
        tuple: &Tuple,
        session: &str,
    ) -> Result<ApprovalState, Refused> {
        self.change(subject, name, |stored, evaluation| {
            if let Some(what) = stored.tuple.difference(tuple) {
                return Err(ApprovalError::TupleMismatch {
                    name: name.to_owned(),
                    what,
                });
            }
            match evaluation.phase {
                Phase::Approved => {
                    let session = Some(session).filter(|session| !session.is_empty());
                    resource::mark_consumed(&mut stored.request, session, Timestamp::now());
                    Ok(true)
                }
                Phase::Consumed => Err(ApprovalError::AlreadyRedeemed(name.to_owned())),
                phase => Err(ApprovalError::NotApproved {
                    name: name.to_owned(),
                    phase,
                }),
            }
        })
        .await
    }

    /// Reads, changes the status, and writes it only if nobody wrote meanwhile: a review that
    /// comes between is looked at first, and of two redemptions one finds the other's mark.
    async fn change(
        &self,
        subject: &Subject<'_>,
        name: &str,
        mut change: impl FnMut(&mut Stored, &Evaluation) -> Result<bool, ApprovalError>,
    ) -> Result<ApprovalState, Refused> {
        let key = self.key().await?;
        let api = self.api(subject.namespace);
        for _ in 0..ATTEMPTS {
            let mut stored = self.read_own(subject, name, &key).await?;
            let evaluation = evaluate(&stored);
            if !change(&mut stored, &evaluation)? {
                return Ok(state(name, &stored, &evaluation));
            }
            match api.replace_status(name, &post(), &stored.request).await {
                Ok(written) => {
                    let stored = understood(name, written, &key)?;
                    return Ok(state(name, &stored, &evaluate(&stored)));
                }
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Err(ApprovalError::NotFound(name.to_owned()).into());
                }
                Err(error) => {
                    return Err(Refused::unavailable("writing an approval request", &error));
                }
            }
        }
        Err(ApprovalError::Worker(format!("{name} is being changed all the time")).into())
    }

    async fn read_own(
        &self,
        subject: &Subject<'_>,
        name: &str,
        key: &SecretBytes,
    ) -> Result<Stored, Refused> {
        let stored = self.read(subject.namespace, name, key).await?;
        // Another subject's request is as good as none.
        match subject.owns(&stored.tuple) {
            true => Ok(stored),
            false => Err(ApprovalError::NotFound(name.to_owned()).into()),
        }
    }

    async fn read(
        &self,
        namespace: &str,
        name: &str,
        key: &SecretBytes,
    ) -> Result<Stored, Refused> {
        if !is_name(name) {
            return Err(ApprovalError::NotFound(name.to_owned()).into());
        }
        let found = self
            .api(namespace)
            .get_opt(name)
            .await
            .map_err(|error| Refused::unavailable("reading an approval request", &error))?
            .ok_or_else(|| ApprovalError::NotFound(name.to_owned()))?;
        understood(name, found, key)
    }

    async fn find(&self, tuple: &Tuple, label: &str, key: &SecretBytes) -> Result<Found, Refused> {
        let api: Api<DeserializeGuard<ApprovalRequest>> =
            Api::namespaced(self.client.clone(), &tuple.namespace);
        let labelled = ListParams::default().labels(&format!("{SUBJECT_LABEL}={label}"));
        let list = api
            .list(&labelled)
            .await
            .map_err(|error| Refused::unavailable("listing approval requests", &error))?;
        let mut found = Found::default();
        for request in list.items {
            // What is not as written grants nothing; its condition says so.
            let Ok(request) = request.0 else { continue };
            let (name, uid) = (request.name_any(), request.uid());
            let Ok(stored) = resource::read(&name, request, Sealing::Cluster(key.expose())) else {
                continue;
            };
            if !stored.tuple.same_subject(tuple) {
                continue;
            }
            let evaluation = evaluate(&stored);
            let same = stored.tuple == *tuple;
            found.same = found.same.saturating_add(u32::from(same));
            match evaluation.phase {
                Phase::Approved if same => found.grant = Some(state(&name, &stored, &evaluation)),
                Phase::Pending => {
                    found.subject_pending = found.subject_pending.saturating_add(1);
                    if same {
                        found.pending = Some(state(&name, &stored, &evaluation));
                    }
                }
                _ => {
                    if let Some(ended_at) = evaluation.ended_at {
                        found.finished.push((ended_at, name, uid));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Keeps an agent that asks and cancels all day from filling the API server.
    async fn purge(&self, namespace: &str, mut finished: Vec<(Timestamp, String, Option<String>)>) {
        finished.sort();
        let too_many = finished.len().saturating_sub(MOST_FINISHED);
        let api = self.api(namespace);
        for (_, name, uid) in finished.into_iter().take(too_many) {
            let only_this = DeleteParams {
                preconditions: Some(Preconditions {
                    uid,
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            if let Err(error) = api.delete(&name, &only_this).await {
                tracing::debug!(%name, %error, "a finished approval request stays");
            }
        }
    }

    async fn key(&self) -> Result<SecretBytes, Refused> {
        self.key.get().await.map_err(|error| {
            tracing::warn!(%error, "approvals are not possible");
            ApprovalError::Worker("the operator's digest key is not there".to_owned()).into()
        })
    }

    fn api(&self, namespace: &str) -> Api<ApprovalRequest> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Whose requests a caller may see and use: those of its own account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
}

impl Subject<'_> {
    fn owns(&self, tuple: &Tuple) -> bool {
        tuple.namespace == self.namespace && tuple.service_account == self.service_account
    }
}

fn understood(name: &str, request: ApprovalRequest, key: &SecretBytes) -> Result<Stored, Refused> {
    resource::read(name, request, Sealing::Cluster(key.expose())).map_err(|why| {
        tracing::warn!(name, why, "an approval request is not as it was written");
        ApprovalError::Invalid(format!(
            "approval request {name} is not as it was written; it grants nothing"
        ))
        .into()
    })
}

fn evaluate(stored: &Stored) -> Evaluation {
    rules::evaluate(
        &stored.facts,
        ReviewerProof::Authenticated,
        Timestamp::now(),
    )
}

fn state(name: &str, stored: &Stored, evaluation: &Evaluation) -> ApprovalState {
    debug_assert_eq!(stored.request.metadata.name.as_deref(), Some(name));
    ApprovalState {
        name: name.to_owned(),
        phase: resource::phase_of_resource(evaluation.phase),
        open_until: evaluation.open_until,
        created: false,
        approved_at: evaluation.approved_at,
        reviews: evaluation
            .reviews
            .iter()
            .map(resource::review_of_resource)
            .collect(),
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// A label holds 63 characters: half the digest tells subjects apart well enough to list by.
fn label_value(subject: &[u8; 32]) -> String {
    hex::encode(subject).chars().take(32).collect()
}

/// How long a caller's wait may last.
pub(super) fn bounded_wait(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(chaperone_control::LONGEST_WAIT_SECONDS))
}

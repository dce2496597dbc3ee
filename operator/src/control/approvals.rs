//! `POST /v1/approvals` and what follows: the subject is the token's, whatever a body says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use chaperone_approvals::{ApprovalError, Draft, Tuple, combined_rule_digest};
use chaperone_control::{ApprovalState, AskingRule, Cancel, NewApproval, Redeem};
use chaperone_crds::{ApprovalPhase, DelegateRef};
use chaperone_policy::{ApprovalRule, Effect, RuleRef};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use super::refused::Refused;
use super::requests::{Subject, bounded_wait};
use super::{Shared, body, counted};

/// Most rules that ask at once, as many as one request carries.
const MOST_RULES: usize = 16;
/// Longest life of a request or a grant, in seconds.
const LONGEST: u64 = 30 * 24 * 3600;
/// How long a change that no watch showed can stay unseen by a waiter.
const SLOW_POLL: Duration = Duration::from_secs(5);

/// Sessions of pods that wait for a request at this replica.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: Mutex<HashMap<(String, String), HashMap<String, usize>>>,
}

/// `?wait=SECONDS`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    #[serde(default)]
    wait: u64,
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    new: Result<Json<NewApproval>, JsonRejection>,
) -> Result<Json<ApprovalState>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.asking.take(&caller.pod.uid)?;
        let draft = draft(&caller, body(new)?)?;
        shared.requests.ask(&draft).await
    };
    counted(&shared, "approvals.create", answer).await.map(Json)
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<ApprovalState>, Refused> {
    let Query(Wait { wait }) =
        wait.map_err(|error| Refused::invalid(format!("the query is not understood: {error}")))?;
    let until = Instant::now() + bounded_wait(wait);
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.asking.take(&caller.pod.uid)?;
        wait_for(&shared, &caller, &name, until).await
    };
    counted(&shared, "approvals.get", answer).await.map(Json)
}

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    why: Result<Json<Cancel>, JsonRejection>,
) -> Result<Json<ApprovalState>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.asking.take(&caller.pod.uid)?;
        let why = body(why)?.why;
        let subject = subject(&caller);
        // Another pod of the same account waits for the same command: its wish stands.
        if shared.waiters.others(&caller, &name) {
            return shared.requests.get(&subject, &name).await;
        }
        shared.requests.cancel(&subject, &name, &why).await
    };
    counted(&shared, "approvals.cancel", answer).await.map(Json)
}

pub(super) async fn redeem(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    redeem: Result<Json<Redeem>, JsonRejection>,
) -> Result<Json<ApprovalState>, Refused> {
    let answer = async {
        let caller = shared.authenticator.caller(&headers).await?;
        let _place = shared.asking.take(&caller.pod.uid)?;
        let redeem = body(redeem)?;
        let tuple = Tuple {
            rule_digest: redeem.rule_digest,
            ..tuple(
                &caller,
                &redeem.connection,
                redeem.delegate,
                &redeem.command_digest,
            )?
        };
        shared
            .requests
            .redeem(&subject(&caller), &name, &tuple, &redeem.session)
            .await
    };
    counted(&shared, "approvals.redeem", answer).await.map(Json)
}

/// The state once it is no longer Pending, once somebody answered, or at `until`.
async fn wait_for(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    until: Instant,
) -> Result<ApprovalState, Refused> {
    let _waiting = shared.waiters.enter(caller, name);
    let subject = subject(caller);
    let mut changes = shared.approvals.changes();
    let mut answers = None;
    loop {
        changes.borrow_and_update();
        let watched = match shared.approvals.get(subject.namespace, name) {
            Some(request) => shared.requests.judge(&subject, name, request).await?,
            None => None,
        };
        // What the watch does not show yet is asked for.
        let state = match watched {
            Some(state) => state,
            None => shared.requests.get(&subject, name).await?,
        };
        let answered = *answers.get_or_insert(state.reviews.len()) != state.reviews.len();
        let now = Instant::now();
        if state.phase != ApprovalPhase::Pending || answered || now >= until {
            return Ok(state);
        }
        let left = state.open_until.duration_since(jiff::Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        let wake = until.min(now + left.min(SLOW_POLL));
        // A change, or time to look again.
        let _ = timeout_at(wake, changes.changed()).await;
    }
}

fn subject(caller: &Caller) -> Subject<'_> {
    Subject {
        namespace: &caller.pod.namespace,
        service_account: &caller.pod.service_account,
    }
}

/// The tuple of the caller, without its rules.
fn tuple(
    caller: &Caller,
    connection: &str,
    delegate: Option<DelegateRef>,
    command_digest: &str,
) -> Result<Tuple, Refused> {
    let served = caller
        .connections
        .iter()
        .any(|(namespace, name)| connection.split_once('/') == Some((namespace, name)));
    if !served {
        return Err(Refused::invalid(format!(
            "Connection {connection} is none that this pod was injected for"
        )));
    }
    let mut digest = [0_u8; 32];
    hex::decode_to_slice(command_digest, &mut digest)
        .map_err(|_| Refused::invalid("commandDigest is not 64 hex digits"))?;
    Ok(Tuple {
        namespace: caller.pod.namespace.clone(),
        service_account: caller.pod.service_account.clone(),
        delegate,
        connection: connection.to_owned(),
        command_digest: digest,
        rule_digest: String::new(),
    })
}

fn draft(caller: &Caller, new: NewApproval) -> Result<Draft, Refused> {
    let NewApproval {
        connection,
        delegate,
        purpose,
        command_digest,
        rules,
        summary,
        command,
        parameters,
        accesses,
        expires_in_seconds,
    } = new;
    if rules.len() > MOST_RULES {
        let size = rules.len();
        let limit = MOST_RULES;
        return Err(ApprovalError::TooLargeToApprove { size, limit }.into());
    }
    let rules: Vec<ApprovalRule> = rules.into_iter().map(asking_rule).collect();
    let mut effects = Vec::with_capacity(accesses.len());
    let mut objects = Vec::with_capacity(accesses.len());
    for access in accesses {
        let known = Effect::ALL
            .into_iter()
            .find(|effect| effect.as_str() == access.effect);
        effects.push(
            known.ok_or_else(|| Refused::invalid(format!("{:?} is no effect", access.effect)))?,
        );
        objects.push(access.object);
    }
    Ok(Draft {
        tuple: Tuple {
            rule_digest: combined_rule_digest(&rules),
            ..tuple(caller, &connection, delegate, &command_digest)?
        },
        pod: Some(caller.pod.name.clone()),
        purpose,
        rules,
        summary,
        command,
        parameters,
        effects,
        objects,
        expires_in: Duration::from_secs(expires_in_seconds.min(LONGEST)),
    })
}

fn asking_rule(asking: AskingRule) -> ApprovalRule {
    ApprovalRule {
        rule: RuleRef {
            policy: asking.policy,
            rule: asking.rule,
            generation: asking.generation,
            digest: asking.digest,
        },
        users: asking.approvers.users,
        groups: asking.approvers.groups,
        quorum: asking.quorum,
        timeout: Duration::from_secs(asking.timeout_seconds),
        valid_for: Duration::from_secs(asking.valid_for_seconds.min(LONGEST)),
    }
}

impl Waiters {
    /// Counts a waiter for as long as the guard lives.
    fn enter<'a>(&'a self, caller: &Caller, name: &str) -> Waiting<'a> {
        let key = (caller.pod.namespace.clone(), name.to_owned());
        let uid = caller.pod.uid.clone();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting
            .entry(key.clone())
            .or_default()
            .entry(uid.clone())
            .or_default();
        *count = count.saturating_add(1);
        Waiting {
            waiters: self,
            key,
            uid,
        }
    }

    /// Whether another pod waits for it.
    fn others(&self, caller: &Caller, name: &str) -> bool {
        let key = (caller.pod.namespace.clone(), name.to_owned());
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = waiting.get(&key);
        pods.is_some_and(|pods| pods.keys().any(|uid| *uid != caller.pod.uid))
    }
}

struct Waiting<'a> {
    waiters: &'a Waiters,
    key: (String, String),
    uid: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .waiters
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(pods) = waiting.get_mut(&self.key) else {
            return;
        };
        if let Some(count) = pods.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pods.remove(&self.uid);
            }
        }
        if pods.is_empty() {
            waiting.remove(&self.key);
        }
    }
}

//! Connection: is it well formed, is what it refers to there, and does its target take us?
//!
//! ```text
//! dereference: Secret, CA, policies, workloads ─► validate: Accepted, ResolvedRefs
//!   ─► apply: log in and look, or reach it ─► status: Reachable, Ready, target, workloads
//! ```

mod apply;
mod dereference;
mod status;
mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chaperone_crds::{ConditionReason, ConditionType, Connection};
use chaperone_wire::Resolver;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::conditions::Finding;
use super::status::identity;
use super::{ReconcileError, Shared, changes, control};
use apply::Probe;

/// How often a target that answered is asked again.
const AGAIN: Duration = Duration::from_secs(300);
/// How soon one that did not is; doubled with each failure, up to [`AGAIN`].
const SOON: Duration = Duration::from_secs(10);
/// How often everything else is looked at, should no event say so.
const LOOK: Duration = Duration::from_secs(60);

/// What the last trial of each Connection, by UID, found.
#[derive(Default)]
struct Probes {
    resolver: Resolver,
    last: Mutex<HashMap<String, Last>>,
}

struct Last {
    at: Instant,
    fingerprint: [u8; 32],
    failures: u32,
    probe: Probe,
}

/// Runs the controller.
pub(super) async fn run(shared: Arc<Shared>) {
    let probes = Arc::new(Probes::default());
    let triggers = changes(&shared);
    control::<Connection, _, _>("connection", shared, triggers, move |object, shared| {
        reconcile(object, shared, probes.clone())
    })
    .await;
}

async fn reconcile(
    object: Arc<DeserializeGuard<Connection>>,
    shared: Arc<Shared>,
    probes: Arc<Probes>,
) -> Result<(Action, &'static str), ReconcileError> {
    let (namespace, name) = identity(object.as_ref())?;
    let connection = match &object.0 {
        Ok(connection) => connection,
        Err(invalid) => {
            let message = format!("it cannot be read: {}", invalid.error);
            let reason = ConditionReason::Malformed;
            let findings = [Finding::bad(ConditionType::Accepted, reason, message)];
            status::unreadable(&shared, &invalid.metadata, &findings).await?;
            return Ok((Action::requeue(AGAIN), "Malformed"));
        }
    };
    let found = dereference::dereference(&shared, connection, namespace, name).await;
    let validated = validate::validate(connection, namespace, name, &found);
    let mut findings = validated.findings;
    if let Some(trial) = validated.trial {
        let uid = connection.metadata.uid.clone().unwrap_or_default();
        let allow_special = shared.context.config.allow_special_targets;
        let probe = probes.probe(&uid, &trial, allow_special).await;
        findings.push(probe.finding(&found.allowed));
    }
    let outcome = status::write(&shared, connection, &found, findings).await?;
    let pause = if outcome == "Ready" { LOOK } else { SOON };
    Ok((Action::requeue(pause), outcome))
}

impl Probes {
    /// Tries, or recalls what the last trial found if nothing changed since and it is fresh.
    async fn probe(&self, uid: &str, trial: &validate::Trial, allow_special: bool) -> Probe {
        let failures = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match last
                .get(uid)
                .filter(|last| last.fingerprint == trial.fingerprint)
            {
                Some(last) if last.at.elapsed() < last.holds() => return last.probe.clone(),
                Some(last) => last.failures,
                None => 0,
            }
        };
        let probe = apply::probe(&self.resolver, trial, allow_special).await;
        let failures = match &probe {
            Probe::Failed { .. } => failures.saturating_add(1),
            Probe::LoggedIn { .. } | Probe::Reached { .. } => 0,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections come and go rarely; what is long past use is from one that went.
        last.retain(|_, last| last.at.elapsed() < AGAIN * 4);
        last.insert(
            uid.to_owned(),
            Last {
                at: Instant::now(),
                fingerprint: trial.fingerprint,
                failures,
                probe: probe.clone(),
            },
        );
        probe
    }
}

impl Last {
    fn holds(&self) -> Duration {
        match self.failures {
            0 => AGAIN,
            failures => {
                let doublings = failures.saturating_sub(1).min(8);
                SOON.saturating_mul(1 << doublings).min(AGAIN)
            }
        }
    }
}

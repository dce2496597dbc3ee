//! The keys of sealed sessions, as a cluster's operator hands them out: asked for with an
//! UnsealRequest, for an identity that lives as long as this process.

use std::time::{Duration, Instant};

use chaperone_crds::unseal_request::MOST_SESSIONS;
use chaperone_crds::{UnsealRequest, UnsealRequestSpec, UnsealRequestStatus};
use chaperone_evidence::clock::SystemEntropy;
use chaperone_evidence::seal::decrypt;
use chaperone_evidence::{Identity, Keyring, SessionId};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::{Cluster, api_failure};
use crate::error::CliError;
use crate::output::{counted, note};
use crate::progress::Progress;

/// How long an answer may take: the operator reads the whole log for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Requests that one command makes at most.
const MOST_REQUESTS: usize = 20;

/// What is asked with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Why, as the user says.
    pub(crate) because: Option<String>,
    /// Whether nothing is asked for.
    pub(crate) leave_sealed: bool,
}

/// The keys of these sessions. That they were asked for, and by whom, is in the log then.
pub(super) fn keys(
    cluster: &Cluster,
    reading: &Reading,
    sessions: &[SessionId],
) -> Result<Keyring, CliError> {
    let most = MOST_SESSIONS * MOST_REQUESTS;
    if sessions.len() > most {
        return Err(CliError::Usage(format!(
            "{} sessions are sealed and would have to be opened, at most {most} at once are: name fewer \
             with --since, --until, --subject or --connection",
            sessions.len()
        )));
    }
    let mut all = Keyring::default();
    for some in sessions.chunks(MOST_SESSIONS) {
        all.extend(&answered(cluster, reading, some)?);
    }
    Ok(all)
}

fn answered(
    cluster: &Cluster,
    reading: &Reading,
    sessions: &[SessionId],
) -> Result<Keyring, CliError> {
    let identity = Identity::generate(&SystemEntropy)
        .ok_or_else(|| CliError::Usage("the system gives no random bytes".to_owned()))?;
    let request = UnsealRequest {
        metadata: ObjectMeta {
            generate_name: Some("ur-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: UnsealRequestSpec {
            sessions: sessions.iter().map(ToString::to_string).collect(),
            recipient: identity.recipient().to_string(),
            reason: reading.because.clone(),
            requester: None,
        },
        status: None,
    };
    let count = counted(sessions.len() as u64, "sealed session", "sealed sessions");
    let progress = Progress::start(&format!("asking for the keys of {count}"));
    let api: Api<UnsealRequest> = Api::all(cluster.client());
    let made = cluster
        .wait(api.create(&PostParams::default(), &request))
        .map_err(|error| refused(&error))?;
    let name = made.metadata.name.unwrap_or_default();
    progress.say(&format!("waiting for the answer to {name}"));
    let status = wait(cluster, &api, &name)?;
    drop(progress);
    let Some(keys) = &status.keys else {
        return Err(CliError::Refused {
            name: format!("UnsealRequest {name}"),
            why: said(&status),
        });
    };
    let bad = || CliError::Cluster {
        what: format!("the answer to UnsealRequest {name} cannot be read"),
        why: "it is no file of age with keys for who asked".to_owned(),
    };
    let text = decrypt(&keys.0, &[identity]).map_err(|_| bad())?;
    let mut ring = Keyring::default();
    let text = std::str::from_utf8(&text).map_err(|_| bad())?;
    ring.add_text(text).map_err(|_| bad())?;
    let opened = counted(
        status.opened.unwrap_or_default().into(),
        "sealed session",
        "sealed sessions",
    );
    note(&format!(
        "{opened} opened by UnsealRequest {name}: that you read, and when, is in the log (AuditSegment {})",
        status.evidence.as_deref().unwrap_or("unknown")
    ));
    if !status.shut.is_empty() {
        let shut = counted(status.shut.len() as u64, "stays", "stay");
        note(&format!(
            "{shut} shut, sealed for others than the operator: an auditor's key opens them, with --identity"
        ));
    }
    Ok(ring)
}

fn wait(
    cluster: &Cluster,
    api: &Api<UnsealRequest>,
    name: &str,
) -> Result<UnsealRequestStatus, CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = cluster
            .wait(api.get(name))
            .map_err(|error| api_failure("read the answer to an UnsealRequest", &error))?;
        let status = found.status.unwrap_or_default();
        if status.answered_at.is_some() {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(CliError::Cluster {
                what: format!("UnsealRequest {name} was not answered in time"),
                why: said(&status),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

fn said(status: &UnsealRequestStatus) -> String {
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    ready.map_or_else(
        || {
            "nobody looked at it; does chaperone-operator run? see `kubectl chaperone doctor`"
                .to_owned()
        },
        |ready| format!("{} ({})", ready.message, ready.reason),
    )
}

/// What the refusal of a request means for the user.
fn refused(error: &kube::Error) -> CliError {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => CliError::Cluster {
            what: "what is sealed cannot be opened".to_owned(),
            why: format!(
                "you may not ({}); ask for the ClusterRole chaperone-evidence-reader, or give an auditor's key with --identity",
                status.message
            ),
        },
        error => api_failure("ask for the keys of what is sealed", error),
    }
}

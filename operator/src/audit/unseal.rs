//! The keys of sealed sessions, for who asked for them: first a leaf in the log that says who got
//! which, then the keys. Without the leaf there are none.
//!
//! ```text
//! UnsealRequest ─► every AuditSegment and pack read ─► keys found ─► AuditSegment us-<uid> ─► keys, for its recipient
//! ```
//!
//! The name `us-<uid>` is the fence: a second try, or a second leader, hands out what the leaf names
//! that is there, and nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{
    AuditEntryKind, AuditSegment, AuditSegmentSpec, ConditionReason, UnsealRequest,
    UnsealRequestSpec,
};
use chaperone_evidence::audit::{FoundKeys, KeyFinder, LogKey, Unsealing};
use chaperone_evidence::clock::SystemEntropy;
use chaperone_evidence::seal::encrypt;
use chaperone_evidence::{Keyring, Recipient, SessionId};
use jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use tokio::sync::Mutex;

use super::Audit;
use super::api::{ApiError, in_time};
use super::entry::sound;
use super::ingest;
use super::log_key::{LogKeyError, LogKeys};
use super::packs::{PacksError, Shelf};
use super::seal_key::{SealKeyError, SealKeys};
use crate::context::Context;

/// Segments that are read at once; each has up to 1.2 MiB.
const PAGE: u32 = 8;

/// What is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsealed {
    /// AuditSegment with the leaf that says so.
    pub(crate) evidence: String,
    /// The keys, as a file of age.
    pub(crate) keys: Vec<u8>,
    /// How many of the sessions they open.
    pub(crate) opened: u32,
    /// Those that stay shut.
    pub(crate) shut: Vec<String>,
}

/// Why no keys are handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    /// The API server failed us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is in packs cannot be had.
    #[error("what is packed cannot be read: {0}")]
    Packs(#[from] PacksError),
    /// What the leaf would be signed with is not there.
    #[error(transparent)]
    LogKey(#[from] LogKeyError),
    /// The operator's own keys are not there.
    #[error(transparent)]
    SealKey(#[from] SealKeyError),
    /// The log takes nothing more in.
    #[error("{0}; that evidence is read must be recorded, so none is until there is room")]
    Full(String),
    /// Admission was gone around.
    #[error("{0}; make it anew, with chaperone's admission policies and webhook installed")]
    Refused(&'static str),
    /// Nothing that was asked for is opened by the operator's keys.
    #[error(
        "all of it is sealed for others than the operator, who holds no key to it: ask the auditors \
         whom spec.seal.recipients of the AuditStore names, or named then"
    )]
    Others,
    /// There is nothing to open.
    #[error("nothing that was asked for is sealed, or there at all")]
    Nothing,
    /// More segments are in parts than are kept.
    #[error("too many of the log's segments wait for their other parts")]
    Parts,
    /// The leaf could not be made.
    #[error("what is to be written into the log about it cannot be: {0}")]
    Leaf(&'static str),
}

impl UnsealError {
    /// The constant.
    pub(crate) fn reason(&self) -> ConditionReason {
        match self {
            UnsealError::Api(_) => ConditionReason::ApiUnavailable,
            UnsealError::Packs(_) => ConditionReason::PackingFailed,
            UnsealError::LogKey(_) | UnsealError::SealKey(_) => ConditionReason::Malformed,
            UnsealError::Full(_) => ConditionReason::QuotaExceeded,
            UnsealError::Refused(_) => ConditionReason::UnsealRefused,
            UnsealError::Others => ConditionReason::SealedForOthers,
            UnsealError::Nothing => ConditionReason::NothingToUnseal,
            UnsealError::Parts | UnsealError::Leaf(_) => ConditionReason::Internal,
        }
    }

    /// Whether the same request may be answered otherwise later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            UnsealError::Api(_)
            | UnsealError::Packs(_)
            | UnsealError::LogKey(_)
            | UnsealError::SealKey(_)
            | UnsealError::Full(_) => true,
            UnsealError::Refused(_)
            | UnsealError::Others
            | UnsealError::Nothing
            | UnsealError::Parts
            | UnsealError::Leaf(_) => false,
        }
    }
}

/// Finds and hands out keys, for one request at a time: each reads the whole log.
#[derive(Debug)]
pub(crate) struct Unsealer {
    log_keys: LogKeys,
    seal_keys: SealKeys,
    turn: Mutex<()>,
}

impl Unsealer {
    pub(crate) fn new(context: &Context) -> Unsealer {
        Unsealer {
            log_keys: LogKeys::new(context.client.clone()),
            seal_keys: SealKeys::new(context.client.clone()),
            turn: Mutex::new(()),
        }
    }

    /// The keys that a request asks for, once the log says who got them.
    pub(crate) async fn unseal(
        &self,
        context: &Context,
        request: &UnsealRequest,
    ) -> Result<Unsealed, UnsealError> {
        let _turn = self.turn.lock().await;
        let recipient = Recipient::parse(&request.spec.recipient)
            .map_err(|_| UnsealError::Refused("its recipient is none of age"))?;
        if let Some(full) = Audit::full(context) {
            return Err(UnsealError::Full(full));
        }
        let key = self.log_keys.get().await?;
        let identities = self.seal_keys.get().await?;
        let ring = Arc::new(Keyring::new(identities.to_vec()));
        let finder = KeyFinder::new(ring, asked(&request.spec));
        let found = find(context, finder, key.public()).await?;
        if found.keys.names().next().is_none() {
            return Err(match found.shut.is_empty() {
                true => UnsealError::Nothing,
                false => UnsealError::Others,
            });
        }
        let wanted = unsealing(request, recipient, &found)?;
        let (evidence, written) = record(context, &key, &wanted).await?;
        // Never more than the leaf names.
        let mut keys = found.keys;
        keys.retain(|name| written.keys.contains(name));
        let text = keys.keys_to_text();
        let wrapped = encrypt(text.as_bytes(), &[recipient], &SystemEntropy)
            .map_err(|_| UnsealError::Leaf("the keys cannot be wrapped"))?;
        let opened = written.sessions().len();
        let shut = found.shut.iter().chain(&found.missing);
        Ok(Unsealed {
            evidence,
            keys: wrapped,
            opened: u32::try_from(opened).unwrap_or(u32::MAX),
            shut: shut.map(ToString::to_string).collect(),
        })
    }
}

fn asked(spec: &UnsealRequestSpec) -> Vec<SessionId> {
    let id = |text: &String| Some(SessionId(hex::decode(text).ok()?.try_into().ok()?));
    spec.sessions.iter().filter_map(id).collect()
}

/// Reads the whole log, some segments at a time.
async fn find(
    context: &Context,
    mut finder: KeyFinder,
    public: &[u8; 32],
) -> Result<FoundKeys, UnsealError> {
    let api: Api<DeserializeGuard<AuditSegment>> =
        Api::namespaced(context.client.clone(), NAMESPACE);
    let mut take = |spec: AuditSegmentSpec| -> Result<(), UnsealError> {
        for (entry, data) in sound(spec) {
            if !finder.entry(&entry, &data, public) {
                return Err(UnsealError::Parts);
            }
        }
        Ok(())
    };
    let mut names = HashSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = in_time(api.list(&page)).await?;
        for segment in list.items {
            // One that was changed tells nothing; verify names it.
            let Ok(segment) = segment.0 else { continue };
            names.insert(segment.name_any());
            take(segment.spec)?;
        }
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => break,
        }
    }
    // Second, so that what is packed meanwhile is found.
    let shelf = Shelf::new(context);
    for pack in shelf.stored().await? {
        for (name, segment) in shelf.open(&pack).await?.segments {
            if let Some(spec) = segment.spec.filter(|_| !names.contains(&name)) {
                take(spec)?;
            }
        }
    }
    Ok(finder.finish())
}

fn unsealing(
    request: &UnsealRequest,
    recipient: Recipient,
    found: &FoundKeys,
) -> Result<Unsealing, UnsealError> {
    let requester = request.spec.requester.as_ref();
    let requester = requester.ok_or(UnsealError::Refused("it does not say who asks"))?;
    let (Some(name), Some(uid)) = (&request.metadata.name, &request.metadata.uid) else {
        return Err(UnsealError::Refused("it has no name"));
    };
    let now = Timestamp::now().as_nanosecond();
    Ok(Unsealing {
        wall_ns: u64::try_from(now).unwrap_or_default(),
        request: name.clone(),
        uid: uid.clone(),
        user: requester.user.clone(),
        groups: requester.groups.clone(),
        recipient,
        reason: request.spec.reason.clone().unwrap_or_default(),
        keys: found.keys.names().collect(),
    })
}

/// Writes the leaf, or finds the one that an earlier try wrote; its AuditSegment and what it says.
async fn record(
    context: &Context,
    key: &LogKey,
    wanted: &Unsealing,
) -> Result<(String, Unsealing), UnsealError> {
    let data = wanted.sign(key).ok_or(UnsealError::Leaf(
        "it is too long, or the log key signs nothing",
    ))?;
    let name = format!("us-{}", wanted.uid);
    let made = ingest::leaf(
        name.clone(),
        AuditEntryKind::Unseal,
        key,
        &wanted.uid,
        0,
        data,
    )
    .ok_or(UnsealError::Leaf("it is no JSON"))?;
    let api: Api<AuditSegment> = Api::namespaced(context.client.clone(), NAMESPACE);
    match in_time(api.create(&PostParams::default(), &made)).await {
        Ok(_) => Ok((name, wanted.clone())),
        Err(ApiError::Failed(kube::Error::Api(status))) if status.is_already_exists() => {
            let found = in_time(api.get(&name)).await?;
            let before = found.spec.entries.first();
            let before = before.and_then(|entry| Unsealing::open(&entry.data.0, key.public()).ok());
            let same = |before: &Unsealing| {
                (&before.uid, &before.user, before.recipient)
                    == (&wanted.uid, &wanted.user, wanted.recipient)
            };
            let before = before.filter(same);
            let before = before.ok_or(UnsealError::Leaf("another one is in its place"))?;
            Ok((name, before))
        }
        Err(error) => Err(error.into()),
    }
}

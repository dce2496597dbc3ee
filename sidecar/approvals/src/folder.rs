//! The standalone folder of approval requests.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chaperone_crds::ApprovalRequest;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::changes::Changes;
use crate::clock::Clock;
use crate::error::ApprovalError;
use crate::request::{Draft, Grant, MAX_PENDING, NewRequest, Ticket};
use crate::resource::{self, Sealing, Stored};
use crate::rules::{self, Evaluation, Phase, ReviewerProof, Verdict};
use crate::store::{Locked, Store};
use crate::tuple::Tuple;
use crate::waiters::Waiters;

/// How long a finished request stays to be looked at.
const KEEP_FINISHED: Duration = Duration::from_secs(24 * 60 * 60);
/// Most files kept; the longest finished go first.
const MAX_FILES: usize = 4_096;
/// How often a waiter looks by itself, in case the system sends no change events.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// Longest reason a reviewer may give, in bytes.
const MAX_REASON_BYTES: usize = 1_024;

/// One request of the folder, as it stands now.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `ar-xxxxx`.
    pub name: String,
    /// The resource.
    pub request: ApprovalRequest,
    /// What its reviews amount to; whatever `request.status` says.
    pub evaluation: Evaluation,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A folder of approval requests. Clones share it.
#[derive(Debug, Clone)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Waiters,
    changes: OnceLock<Changes>,
}

impl Folder {
    /// Opens the folder (`STATE/approvals`), making it (mode 0700) if it is missing, and deletes
    /// what finished more than 24 h ago.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Folder, ApprovalError> {
        let folder = Folder::on(Store::open(dir, true)?, clock);
        let inner = &folder.inner;
        inner.purge(&inner.store.lock()?, MAX_FILES)?;
        Ok(folder)
    }

    /// Opens a folder that must exist and leaves what is in it: for the command line.
    pub fn open_existing(dir: &Path, clock: Arc<dyn Clock>) -> Result<Folder, ApprovalError> {
        Ok(Folder::on(Store::open(dir, false)?, clock))
    }

    fn on(store: Store, clock: Arc<dyn Clock>) -> Folder {
        Folder {
            inner: Arc::new(Inner {
                store,
                clock,
                waiters: Waiters::default(),
                changes: OnceLock::new(),
            }),
        }
    }

    /// Asks for approval. The same tuple pending gives the same request; the same tuple with an
    /// unredeemed valid grant gives a ticket that is Approved already.
    pub async fn request(&self, new: NewRequest) -> Result<Ticket, ApprovalError> {
        let draft = Draft::from(&new);
        draft.check()?;
        self.blocking(move |inner| inner.request(&draft)).await
    }

    /// Waits until the request is no longer Pending, or `until`, and returns its phase then.
    /// Cancel-safe.
    pub async fn wait(&self, name: &str, until: Instant) -> Result<Phase, ApprovalError> {
        let _waiting = self.inner.waiters.enter(name);
        let mut changes = self.changes().await?;
        loop {
            changes.borrow_and_update();
            let (phase, left) = {
                let name = name.to_owned();
                self.blocking(move |inner| inner.phase(&name)).await?
            };
            let now = Instant::now();
            if phase != Phase::Pending || now >= until {
                return Ok(phase);
            }
            let wake = until.min(now + left.min(SLOW_POLL));
            // A change, or time to look again: either way the file says what happened.
            let _ = timeout_at(wake, changes.changed()).await;
        }
    }

    /// Takes the grant: Approved → Consumed, exactly once across all processes. Whoever calls
    /// evaluates the current policy before it forwards anything.
    pub async fn redeem(&self, name: &str, tuple: &Tuple) -> Result<Grant, ApprovalError> {
        let (name, tuple) = (name.to_owned(), tuple.clone());
        self.blocking(move |inner| inner.redeem(&name, &tuple))
            .await
    }

    /// The name of an unredeemed valid grant for exactly this tuple.
    pub async fn find_grant(&self, tuple: &Tuple) -> Result<Option<String>, ApprovalError> {
        let tuple = tuple.clone();
        self.blocking(move |inner| {
            let found = inner.find(&tuple)?;
            Ok(found.grant.map(|(name, _)| name))
        })
        .await
    }

    /// The client went away: Pending → Cancelled, unless another session of this process goes on
    /// [waiting](Folder::wait) for it. Your own wait may still be on its way out. Whether it was
    /// cancelled.
    pub async fn cancel(&self, name: &str, why: &str) -> Result<bool, ApprovalError> {
        if !self.inner.waiters.leave(name).await {
            return Ok(false);
        }
        let (name, why) = (name.to_owned(), why.to_owned());
        self.blocking(move |inner| inner.cancel(&name, &why)).await
    }

    /// Every request, newest first; one that is not as written is an error of its own.
    /// Blocks on files.
    pub fn list(&self) -> Result<Vec<Result<Entry, ApprovalError>>, ApprovalError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let mut entries: Vec<_> = inner
            .store
            .scan()?
            .into_iter()
            .map(|(name, read)| read.map(|stored| entry(name, &stored, now)))
            .collect();
        entries.sort_by_key(|read| {
            std::cmp::Reverse(read.as_ref().ok().map(|entry| entry.created_at))
        });
        Ok(entries)
    }

    /// One request. Blocks on files.
    pub fn get(&self, name: &str) -> Result<Entry, ApprovalError> {
        let stored = self.inner.store.read(name)?;
        Ok(entry(name.to_owned(), &stored, self.inner.clock.now()))
    }

    /// Adds one answer and returns what the request amounts to with it. `reviewer` is
    /// `local:<uid>` ([`local_reviewer`]). Approve needs a pending request; Deny takes back a
    /// grant too, as long as it was not used. Blocks on files.
    pub fn review(
        &self,
        name: &str,
        reviewer: &str,
        verdict: Verdict,
        reason: &str,
    ) -> Result<Evaluation, ApprovalError> {
        self.inner.review(name, reviewer, verdict, reason)
    }

    /// A counter that moves whenever something in the folder changes, for `--watch`. It may
    /// move for nothing; it may also stay where the system has no change events to give.
    pub async fn changes(&self) -> Result<watch::Receiver<u64>, ApprovalError> {
        if let Some(changes) = self.inner.changes.get() {
            return Ok(changes.subscribe());
        }
        self.blocking(|inner| {
            let dir = inner.store.dir();
            Ok(inner
                .changes
                .get_or_init(|| Changes::watch(dir))
                .subscribe())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ApprovalError> + Send + 'static,
    ) -> Result<T, ApprovalError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| ApprovalError::Worker(e.to_string()))?
    }
}

/// How this process's user appears as a reviewer: `local:<uid>`, the real user id.
pub fn local_reviewer() -> String {
    format!("local:{}", rustix::process::getuid().as_raw())
}

/// What a tuple has in the folder already.
#[derive(Debug, Default)]
struct Found {
    /// An unredeemed grant, and until when.
    grant: Option<(String, Timestamp)>,
    /// The same tuple pending, and until when.
    pending: Option<(String, Timestamp)>,
    /// Pending requests of the same subject.
    subject_pending: usize,
}

impl Inner {
    fn evaluate(&self, stored: &Stored) -> Evaluation {
        rules::evaluate(&stored.facts, ReviewerProof::LocalFolder, self.clock.now())
    }

    fn find(&self, tuple: &Tuple) -> Result<Found, ApprovalError> {
        let mut found = Found::default();
        for (name, read) in self.store.scan()? {
            // What is not as written grants nothing; the scan has logged it.
            let Ok(stored) = read else { continue };
            if !stored.tuple.same_subject(tuple) {
                continue;
            }
            let evaluation = self.evaluate(&stored);
            let same = stored.tuple == *tuple;
            match evaluation.phase {
                Phase::Approved if same => found.grant = Some((name, evaluation.open_until)),
                Phase::Pending => {
                    found.subject_pending += 1;
                    if same {
                        found.pending = Some((name, evaluation.open_until));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn request(&self, new: &Draft) -> Result<Ticket, ApprovalError> {
        let lock = self.store.lock()?;
        let ticket = |(name, open_until), phase| Ticket {
            name,
            phase,
            open_until,
            created: false,
        };
        let found = self.find(&new.tuple)?;
        if let Some(grant) = found.grant {
            return Ok(ticket(grant, Phase::Approved));
        }
        if let Some(pending) = found.pending {
            return Ok(ticket(pending, Phase::Pending));
        }
        if found.subject_pending >= MAX_PENDING {
            return Err(ApprovalError::TooManyPending {
                pending: found.subject_pending,
                limit: MAX_PENDING,
            });
        }
        self.purge(&lock, MAX_FILES - 1)?;
        let name = self.store.new_name()?;
        let request = resource::build(new, &name, self.clock.now(), Sealing::Folder)?;
        self.store.write(&lock, &name, &request)?;
        let stored =
            resource::read(&name, request, Sealing::Folder).map_err(ApprovalError::Invalid)?;
        Ok(Ticket {
            name,
            phase: Phase::Pending,
            open_until: stored.facts.expires_at,
            created: true,
        })
    }

    /// The phase, and how long it holds if nobody does anything.
    fn phase(&self, name: &str) -> Result<(Phase, Duration), ApprovalError> {
        let evaluation = self.evaluate(&self.store.read(name)?);
        let left = evaluation.open_until.duration_since(self.clock.now());
        let left = left.max(SignedDuration::ZERO).unsigned_abs();
        Ok((evaluation.phase, left))
    }

    fn redeem(&self, name: &str, tuple: &Tuple) -> Result<Grant, ApprovalError> {
        let lock = self.store.lock()?;
        let mut stored = self.store.read(name)?;
        let evaluation = self.evaluate(&stored);
        if let Some(what) = stored.tuple.difference(tuple) {
            return Err(ApprovalError::TupleMismatch {
                name: name.to_owned(),
                what,
            });
        }
        let approved_at = match (evaluation.phase, evaluation.approved_at) {
            (Phase::Approved, Some(at)) => at,
            (Phase::Consumed, _) => return Err(ApprovalError::AlreadyRedeemed(name.to_owned())),
            (phase, _) => {
                return Err(ApprovalError::NotApproved {
                    name: name.to_owned(),
                    phase,
                });
            }
        };
        resource::mark_consumed(&mut stored.request, None, self.clock.now());
        self.store.write(&lock, name, &stored.request)?;
        Ok(Grant {
            name: name.to_owned(),
            reviews: evaluation.reviews,
            approved_at,
        })
    }

    fn cancel(&self, name: &str, why: &str) -> Result<bool, ApprovalError> {
        let lock = self.store.lock()?;
        let mut stored = self.store.read(name)?;
        let pending = self.evaluate(&stored).phase == Phase::Pending;
        if !pending || self.waiters.wait_for(name) {
            return Ok(false);
        }
        resource::mark_cancelled(&mut stored.request, why, self.clock.now());
        self.store.write(&lock, name, &stored.request)?;
        Ok(true)
    }

    fn review(
        &self,
        name: &str,
        reviewer: &str,
        verdict: Verdict,
        reason: &str,
    ) -> Result<Evaluation, ApprovalError> {
        let refused = |why: String| ApprovalError::ReviewRefused {
            name: name.to_owned(),
            reviewer: reviewer.to_owned(),
            why,
        };
        if reason.len() > MAX_REASON_BYTES {
            return Err(refused(format!(
                "the reason is {} bytes, and at most {MAX_REASON_BYTES} are kept",
                reason.len()
            )));
        }
        let lock = self.store.lock()?;
        let mut stored = self.store.read(name)?;
        let before = self.evaluate(&stored);
        if let Some(why) = rules::refusal(&stored.facts, reviewer, &[], ReviewerProof::LocalFolder)
        {
            return Err(refused(why));
        }
        let open = match verdict {
            Verdict::Approve => before.phase == Phase::Pending,
            Verdict::Deny => !before.phase.is_final(),
        };
        if !open {
            return Err(refused(format!("it is {} already", before.phase)));
        }
        resource::add_review(&mut stored, reviewer, verdict, reason, self.clock.now())
            .map_err(refused)?;
        let mut stored = resource::read(name, stored.request, Sealing::Folder)
            .map_err(ApprovalError::Invalid)?;
        let evaluation = self.evaluate(&stored);
        resource::set_status(&mut stored.request, &evaluation, self.clock.now());
        self.store.write(&lock, name, &stored.request)?;
        Ok(evaluation)
    }

    /// Deletes what finished long ago, and the longest finished while more than `most` are left.
    fn purge(&self, lock: &Locked<'_>, most: usize) -> Result<(), ApprovalError> {
        let now = self.clock.now();
        let scanned = self.store.scan()?;
        let mut left = scanned.len();
        let mut finished: Vec<(Timestamp, String)> = scanned
            .into_iter()
            .filter_map(|(name, read)| {
                let ended_at = self.evaluate(read.ok()?.as_ref()).ended_at?;
                Some((ended_at, name))
            })
            .collect();
        finished.sort();
        for (ended_at, name) in finished {
            let old = rules::later(ended_at, KEEP_FINISHED) <= now;
            if !old && left <= most {
                break;
            }
            self.store.remove(lock, &name)?;
            left -= 1;
        }
        if left > most {
            return Err(ApprovalError::TooManyPending {
                pending: left,
                limit: most,
            });
        }
        Ok(())
    }
}

fn entry(name: String, stored: &Stored, now: Timestamp) -> Entry {
    Entry {
        name,
        request: stored.request.clone(),
        evaluation: rules::evaluate(&stored.facts, ReviewerProof::LocalFolder, now),
        created_at: stored.facts.created_at,
    }
}

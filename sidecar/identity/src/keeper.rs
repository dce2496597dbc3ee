//! Keeps the keys of all providers that discover them: fetched at first, again every ten minutes,
//! and sooner when somebody presents a token of an unknown key, but never in a rush.
//!
//! ```text
//! want(specs) ─┐                        ┌─► Known: name ─► key set, or why there is none
//! ask(name) ───┴─► one task, which owns all state
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chaperone_crds::IdentityProviderSpec;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::{FetchError, Fetcher};

/// How old keys become before they are fetched again.
const FRESH: Duration = Duration::from_secs(600);
/// Until the next attempt after one that failed.
const RETRY: Duration = Duration::from_secs(15);
/// At least so long between two fetches of one provider, whoever asks: tokens of unknown keys
/// are free to make, and must not become a load on the issuer.
const BETWEEN: Duration = Duration::from_secs(5);
/// How long keys are used whose issuer does not answer any more.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Questions that wait; one more is dropped, since its fetch is due anyway.
const ASKED: usize = 64;

/// The IdentityProviders there are, by name.
pub type Wanted = BTreeMap<String, IdentityProviderSpec>;

/// What is known of one provider's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The key set as text.
    pub keys: Option<String>,
    /// Why the last attempt failed, if it did: a reason constant and a sentence.
    pub failed: Option<(&'static str, String)>,
}

/// What is known of each; a provider that is absent has not been tried yet.
pub type KeySets = Arc<BTreeMap<String, Known>>;

/// The way to the task. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Keeper {
    wanted: watch::Sender<Wanted>,
    asked: mpsc::Sender<String>,
    known: watch::Receiver<KeySets>,
}

impl Keeper {
    /// Starts the task on the runtime this is called from.
    pub fn start(fetcher: Fetcher) -> Keeper {
        let (wanted, specs) = watch::channel(Wanted::new());
        let (asked, questions) = mpsc::channel(ASKED);
        let (known, receiver) = watch::channel(KeySets::default());
        let task = Task {
            fetcher,
            specs,
            questions,
            known,
            all: BTreeMap::new(),
            fetching: JoinSet::new(),
        };
        tokio::spawn(task.run());
        Keeper {
            wanted,
            asked,
            known: receiver,
        }
    }

    /// Which providers there are now. Those that discover nothing are left alone.
    pub fn want(&self, mut wanted: Wanted) {
        wanted.retain(|_, spec| spec.jwks.discovery);
        self.wanted.send_if_modified(|now| {
            let other = *now != wanted;
            *now = wanted;
            other
        });
    }

    /// A token of this provider has a key that is not known.
    pub fn ask(&self, name: &str) {
        // Full is as good as asked.
        let _ = self.asked.try_send(name.to_owned());
    }

    /// What is known, and wakes when it changes.
    pub fn known(&self) -> watch::Receiver<KeySets> {
        self.known.clone()
    }
}

struct Task {
    fetcher: Fetcher,
    specs: watch::Receiver<Wanted>,
    questions: mpsc::Receiver<String>,
    known: watch::Sender<KeySets>,
    all: BTreeMap<String, State>,
    fetching: JoinSet<(String, Result<String, FetchError>)>,
}

struct State {
    spec: IdentityProviderSpec,
    known: Option<Known>,
    /// When keys came last.
    came: Option<Instant>,
    begun: Option<Instant>,
    due: Instant,
    running: Option<AbortHandle>,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.begin();
            let next = self.next_due();
            tokio::select! {
                changed = self.specs.changed() => match changed {
                    Ok(()) => self.take_up(),
                    Err(_) => return,
                },
                Some(name) = self.questions.recv() => self.hasten(&name),
                Some(fetched) = self.fetching.join_next() => {
                    if let Ok((name, result)) = fetched {
                        self.fetched(&name, result);
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    fn take_up(&mut self) {
        let wanted = self.specs.borrow_and_update().clone();
        self.all.retain(|name, state| {
            let same = wanted.get(name) == Some(&state.spec);
            if !same && let Some(running) = &state.running {
                running.abort();
            }
            same
        });
        for (name, spec) in wanted {
            self.all.entry(name).or_insert(State {
                spec,
                known: None,
                came: None,
                begun: None,
                due: Instant::now(),
                running: None,
            });
        }
        self.tell();
    }

    fn hasten(&mut self, name: &str) {
        if let Some(state) = self.all.get_mut(name) {
            let soonest = state
                .begun
                .map_or_else(Instant::now, |begun| begun + BETWEEN);
            state.due = state.due.min(soonest);
        }
    }

    fn begin(&mut self) {
        let now = Instant::now();
        for (name, state) in &mut self.all {
            if state.running.is_some() || state.due > now {
                continue;
            }
            let (name, spec, fetcher) = (name.clone(), state.spec.clone(), self.fetcher.clone());
            state.begun = Some(now);
            state.running = Some(self.fetching.spawn(async move {
                let keys = fetcher.keys(&spec).await;
                (name, keys)
            }));
        }
    }

    fn next_due(&self) -> Instant {
        let waiting = self.all.values().filter(|state| state.running.is_none());
        waiting
            .map(|state| state.due)
            .min()
            .unwrap_or_else(|| Instant::now() + FRESH)
    }

    fn fetched(&mut self, name: &str, result: Result<String, FetchError>) {
        let now = Instant::now();
        let Some(state) = self.all.get_mut(name) else {
            return;
        };
        state.running = None;
        let known = match result {
            Ok(keys) => {
                state.came = Some(now);
                state.due = now + FRESH;
                Known {
                    keys: Some(keys),
                    failed: None,
                }
            }
            Err(error) => {
                tracing::warn!(provider = name, "keys were not fetched: {error}");
                state.due = now + RETRY;
                let before = state.known.take().and_then(|known| known.keys);
                let still = state.came.is_some_and(|came| now - came < KEPT);
                Known {
                    keys: before.filter(|_| still),
                    failed: Some((error.reason().as_str(), error.to_string())),
                }
            }
        };
        state.known = Some(known);
        self.tell();
    }

    fn tell(&self) {
        let all: BTreeMap<String, Known> = self
            .all
            .iter()
            .filter_map(|(name, state)| Some((name.clone(), state.known.clone()?)))
            .collect();
        self.known.send_if_modified(|known| {
            let other = **known != all;
            *known = Arc::new(all);
            other
        });
    }
}

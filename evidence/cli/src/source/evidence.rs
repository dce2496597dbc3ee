//! Evidence of one store or of many, and the session that a user means.

use chaperone_evidence::{Keyring, Place, SessionSummary, Sessions};

use super::{Cluster, FetchedLog};
use crate::error::CliError;
use crate::output::complain;

/// How many sessions an error names.
const SUGGESTIONS: usize = 5;

/// All the evidence that a source has.
pub(crate) enum Evidence {
    /// One store, in its folder.
    Folder(Place),
    /// A cluster's log, with each pod's store in a folder.
    Log(Box<FetchedLog>),
}

/// A session and the store that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The session.
    pub(crate) session: SessionSummary,
    /// Its store's folder, with what opens it.
    pub(crate) dir: Place,
}

impl Found {
    /// Oldest first; within one instant as their sidecar counted them.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.session.started_ns, self.session.ordinal)
    }
}

impl Evidence {
    /// Of one store.
    pub(crate) fn folder(dir: Place) -> Evidence {
        Evidence::Folder(dir)
    }

    /// What opens sealed sessions.
    pub(crate) fn keys(&self) -> &Keyring {
        match self {
            Evidence::Folder(dir) => dir.keys(),
            Evidence::Log(log) => log.keys(),
        }
    }

    /// Opens more with these.
    pub(super) fn take(&mut self, keys: &Keyring) {
        if let Evidence::Log(log) = self {
            log.take_keys(keys);
        }
    }

    /// Of a cluster.
    pub(crate) fn log(log: FetchedLog) -> Evidence {
        Evidence::Log(Box::new(log))
    }

    /// Fetches what is new.
    pub(super) fn refresh(&mut self, cluster: &Cluster) -> Result<(), CliError> {
        match self {
            Evidence::Folder(_) => Ok(()),
            Evidence::Log(log) => log.refresh(cluster),
        }
    }

    /// All sessions, oldest first. A damaged store of many is complained about, and keeps none
    /// of the others from being seen.
    pub(crate) fn sessions(&self) -> Result<Vec<Found>, CliError> {
        let mut sessions = Vec::new();
        match self {
            Evidence::Folder(dir) => {
                sessions.extend(Sessions::list(dir)?.into_iter().map(|session| Found {
                    session,
                    dir: dir.clone(),
                }));
            }
            Evidence::Log(log) => {
                for store in log.stores() {
                    let dir = Place::new(&store.dir, log.keys());
                    match Sessions::list(&dir) {
                        Ok(listed) => sessions.extend(listed.into_iter().map(|mut session| {
                            log.views().fill(&mut session);
                            let dir = dir.clone();
                            Found { session, dir }
                        })),
                        Err(error) => complain(&CliError::Store {
                            pod: format!("{}/{}", store.pod.namespace, store.pod.name),
                            why: error.to_string(),
                        }),
                    }
                }
            }
        }
        sessions.sort_by_key(Found::order);
        Ok(sessions)
    }

    /// The session named by an id, the unique start of one, or `last`.
    pub(crate) fn session(&self, wanted: &str) -> Result<Found, CliError> {
        pick(self.sessions()?, wanted).map_err(|error| match (error, self) {
            // It may have been there.
            (CliError::Usage(why), Evidence::Log(log)) if log.lost_its_beginning() => {
                CliError::Usage(format!(
                    "{why}; evidence of this log was removed under a tombstone, and `verify` says how much"
                ))
            }
            (error, _) => error,
        })
    }
}

fn pick(mut sessions: Vec<Found>, wanted: &str) -> Result<Found, CliError> {
    if sessions.is_empty() {
        return Err(CliError::Usage(
            "there is no session yet; connect through a sidecar first".to_owned(),
        ));
    }
    sessions.sort_by_key(|found| std::cmp::Reverse(found.order()));
    if wanted == "last" {
        return sessions
            .into_iter()
            .next()
            .ok_or_else(|| CliError::Usage("there is no session yet".to_owned()));
    }
    let prefix = wanted.to_ascii_lowercase();
    let matching: Vec<&Found> = sessions
        .iter()
        .filter(|found| !prefix.is_empty() && found.session.id.to_string().starts_with(&prefix))
        .collect();
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CliError::Usage(format!(
            "no session starts with '{wanted}'; newest are {}",
            ids(sessions.iter())
        ))),
        several => Err(CliError::Usage(format!(
            "'{wanted}' is the start of {} sessions: {}; give more of its digits",
            several.len(),
            ids(several.iter().copied())
        ))),
    }
}

fn ids<'a>(sessions: impl Iterator<Item = &'a Found>) -> String {
    let mut named: Vec<String> = sessions
        .take(SUGGESTIONS + 1)
        .map(|found| found.session.id.to_string())
        .collect();
    if named.len() > SUGGESTIONS {
        named.truncate(SUGGESTIONS);
        named.push("…".to_owned());
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chaperone_evidence::{AttachId, SessionId, SessionStart, State};

    use super::*;

    fn session(id: u8, started_ns: u64) -> Found {
        let session = SessionSummary {
            id: SessionId([0xab, id, 0, 0, 0, 0, 0, 0]),
            attach: AttachId::default(),
            ordinal: 1,
            start: SessionStart::default(),
            started_ns,
            last_ns: started_ns,
            state: State::Ended,
            end: String::new(),
            allowed: 0,
            denied: 0,
            held: 0,
            observed: 0,
            rows: 0,
            masked: 0,
            findings: 0,
            records: 1,
            sealed: false,
        };
        Found {
            session,
            dir: Place::from(std::path::Path::new("nowhere")),
        }
    }

    #[test]
    fn a_prefix_names_one_session_or_says_which_it_could_be() {
        let sessions = || {
            (0..20)
                .map(|i| session(i, u64::from(i)))
                .collect::<Vec<_>>()
        };
        assert_eq!(pick(sessions(), "ab07").unwrap().session.started_ns, 7);
        assert_eq!(
            pick(sessions(), "AB1")
                .unwrap_err()
                .to_string()
                .matches("ab1")
                .count(),
            4
        );
        assert_eq!(pick(sessions(), "last").unwrap().session.started_ns, 19);
        let several = pick(sessions(), "ab0").unwrap_err().to_string();
        assert!(
            several.starts_with("'ab0' is the start of 16 sessions: ab0f"),
            "{several}"
        );
        assert!(several.contains("…; give more"), "{several}");
        let none = pick(sessions(), "ff").unwrap_err().to_string();
        assert!(
            none.starts_with("no session starts with 'ff'; newest are ab13"),
            "{none}"
        );
        assert!(pick(sessions(), "").is_err());
        assert!(
            pick(vec![], "last")
                .unwrap_err()
                .to_string()
                .contains("no session yet")
        );
    }
}

//! Which sessions and statements a user means.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use chaperone_evidence::{Origin, SessionId, SessionStart, SessionSummary};
use jiff::Timestamp;

use crate::cli::{DecisionFilter, SessionFilter};
use crate::error::CliError;
use crate::output::complain;
use crate::source::{Evidence, Found, Source};
use crate::time::from_ns;

/// A session's place in the order in which they are listed: by when it began. Its text is stable,
/// and whatever comes or goes meanwhile, what is before it stays before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    started_ns: u64,
    ordinal: u64,
    id: SessionId,
}

impl Cursor {
    /// Of a session.
    pub(crate) fn of(session: &SessionSummary) -> Cursor {
        Cursor {
            started_ns: session.started_ns,
            ordinal: session.ordinal,
            id: session.id,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{}", self.started_ns, self.ordinal, self.id)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Cursor, String> {
        let parse = || {
            let (started, rest) = text.split_once('-')?;
            let (ordinal, id) = rest.split_once('-')?;
            let id = hex::decode(id).ok()?;
            Some(Cursor {
                started_ns: u64::from_str_radix(started, 16).ok()?,
                ordinal: u64::from_str_radix(ordinal, 16).ok()?,
                id: SessionId(id.try_into().ok()?),
            })
        };
        parse().ok_or_else(|| {
            "it is no cursor; give the one that the page before ended with".to_owned()
        })
    }
}

/// One page of sessions: the newest of those that began before `before`. Holds no more than it has
/// room for, however many are offered.
pub(crate) struct Page {
    limit: usize,
    before: Option<Cursor>,
    sessions: BTreeMap<Cursor, Found>,
    older: bool,
}

impl Page {
    /// Of at most `limit` sessions.
    pub(crate) fn new(limit: Option<u32>, before: Option<Cursor>) -> Page {
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Page {
            limit: limit.unwrap_or(usize::MAX),
            before,
            sessions: BTreeMap::new(),
            older: false,
        }
    }

    /// Takes a session if it belongs here.
    pub(crate) fn offer(&mut self, found: Found) {
        let cursor = Cursor::of(&found.session);
        if self.before.is_some_and(|before| cursor >= before) {
            return;
        }
        self.sessions.insert(cursor, found);
        if self.sessions.len() > self.limit {
            self.sessions.pop_first();
            self.older = true;
        }
    }

    /// Where the next page goes on, if there is more.
    pub(crate) fn next(&self) -> Option<Cursor> {
        let (oldest, _) = self.sessions.first_key_value()?;
        self.older.then_some(*oldest)
    }

    /// Its sessions, newest last.
    pub(crate) fn into_sessions(self) -> Vec<SessionSummary> {
        let sessions = self.sessions.into_values();
        sessions.map(|found| found.session).collect()
    }
}

/// Whether what began so is among what is asked for.
pub(crate) fn begun_as(
    start: &SessionStart,
    filter: &SessionFilter,
    namespace: Option<&str>,
) -> bool {
    let of = start
        .subject
        .split_once('/')
        .map(|(namespace, _)| namespace);
    named(filter.connection.as_deref(), &start.connection)
        && named(filter.subject.as_deref(), &start.subject)
        && namespace.is_none_or(|wanted| of == Some(wanted))
}

/// Whether a qualified name is the wanted one, which may be its last part or parts.
pub(crate) fn named(wanted: Option<&str>, full: &str) -> bool {
    wanted.is_none_or(|wanted| {
        full.strip_suffix(wanted)
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    })
}

/// Whether a moment is in the time that is asked for.
pub(crate) fn within(wall_ns: u64, filter: &SessionFilter) -> bool {
    let at: Timestamp = from_ns(wall_ns);
    filter.since.is_none_or(|since| at >= since) && filter.until.is_none_or(|until| at < until)
}

/// Whether a session is among those that are asked for.
pub(crate) fn selected(
    session: &SessionSummary,
    filter: &SessionFilter,
    namespace: Option<&str>,
) -> bool {
    let decided = match filter.decision {
        None => true,
        Some(DecisionFilter::Allow) => session.allowed > 0,
        Some(DecisionFilter::Deny) => session.denied > 0,
        Some(DecisionFilter::Hold) => session.held > 0,
        Some(DecisionFilter::Observe) => session.observed > 0,
    };
    let began = from_ns(session.started_ns);
    let last = from_ns(session.last_ns);
    decided
        && begun_as(&session.start, filter, namespace)
        && filter.since.is_none_or(|since| last >= since)
        && filter.until.is_none_or(|until| began < until)
}

/// The evidence, with what is sealed opened of the sessions that are named, or of all that may be
/// selected. What cannot be opened is complained about, and left out by who reads.
pub(crate) fn opened(
    source: &Source,
    names: &[String],
    filter: &SessionFilter,
    namespace: Option<&str>,
) -> Result<Evidence, CliError> {
    let mut evidence = source.evidence()?;
    if !source.opens() {
        return Ok(evidence);
    }
    let mut sealed = Vec::new();
    let mut take = |found: Found| {
        let session = &found.session;
        if session.sealed && may_be_selected(session, filter, namespace) {
            sealed.push(session.id);
        }
    };
    if names.is_empty() {
        for found in evidence.summaries() {
            take(found?);
        }
    } else {
        for name in names {
            take(evidence.session(name)?);
        }
    }
    match source.open(&mut evidence, &sealed) {
        Err(error @ (CliError::Cluster { .. } | CliError::Refused { .. })) => complain(&error),
        opened => opened?,
    }
    Ok(evidence)
}

/// Whether a session that is sealed may turn out to be one that is asked for.
fn may_be_selected(
    session: &SessionSummary,
    filter: &SessionFilter,
    namespace: Option<&str>,
) -> bool {
    if !session.start.subject.is_empty() {
        return selected(session, filter, namespace);
    }
    // Nothing but its time is known.
    let began = from_ns(session.started_ns);
    let last = from_ns(session.last_ns);
    filter.since.is_none_or(|since| last >= since) && filter.until.is_none_or(|until| began < until)
}

/// The sessions that are named, or all that are selected.
pub(crate) struct Selection {
    ids: HashSet<SessionId>,
}

impl Selection {
    /// Eight bytes a session are held.
    pub(crate) fn of(
        evidence: &Evidence,
        names: &[String],
        filter: &SessionFilter,
        namespace: Option<&str>,
    ) -> Result<Selection, CliError> {
        let mut ids = HashSet::new();
        let mut take = |found: Found| {
            if selected(&found.session, filter, namespace) {
                ids.insert(found.session.id);
            }
        };
        if names.is_empty() {
            for found in evidence.summaries() {
                take(found?);
            }
        } else {
            for name in names {
                take(evidence.session(name)?);
            }
        }
        Ok(Selection { ids })
    }

    /// The sessions themselves, oldest first.
    pub(crate) fn all(&self, evidence: &Evidence) -> Result<Vec<Found>, CliError> {
        let mut all = Vec::with_capacity(self.ids.len());
        for found in evidence.summaries() {
            let found = found?;
            if self.ids.contains(&found.session.id) {
                all.push(found);
            }
        }
        all.sort_by_key(Found::order);
        Ok(all)
    }

    /// The session, where it is one.
    pub(crate) fn only(&self, evidence: &Evidence) -> Option<Result<Found, CliError>> {
        let mut ids = self.ids.iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => Some(evidence.session(&id.to_string())),
            _ => None,
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it is one of them.
    pub(crate) fn has(&self, origin: &Origin) -> bool {
        self.ids.contains(&origin.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor {
            started_ns: u64::MAX,
            ordinal: 12,
            id: SessionId([1, 2, 3, 4, 5, 6, 7, 0xff]),
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in [
            "",
            "last",
            "1-2",
            "1-2-3",
            "g-1-0102030405060708",
            "1-2-01020304050607080",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_whole_or_its_last_parts() {
        assert!(named(Some("db"), "shop/db") && named(Some("shop/db"), "shop/db"));
        assert!(named(Some("p/r"), "ns/p/r") && named(None, "x"));
        assert!(!named(Some("b"), "shop/db") && !named(Some("x/shop/db"), "shop/db"));
    }
}

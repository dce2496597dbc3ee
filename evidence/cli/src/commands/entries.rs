//! The entries of many sessions in one pass, each statement with what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chaperone_evidence::{Origin, Record, Scanned, SessionId};

use super::transcript::{Entry, Settling};
use crate::error::CliError;

/// What one session tells.
pub(crate) enum Told {
    /// It begins.
    Began(Arc<Origin>),
    /// Something happened in it.
    Entry(Arc<Origin>, Entry),
}

/// Over records of any sessions. Held are the entries that wait for an outcome.
pub(crate) struct Entries<I> {
    records: I,
    open: BTreeMap<SessionId, (Arc<Origin>, Settling)>,
    ready: VecDeque<Told>,
    done: bool,
}

impl<I: Iterator<Item = Result<Scanned, CliError>>> Entries<I> {
    /// In the order of the records.
    pub(crate) fn new(records: I) -> Entries<I> {
        Entries {
            records,
            open: BTreeMap::new(),
            ready: VecDeque::new(),
            done: false,
        }
    }

    fn take(&mut self, scanned: Scanned) {
        let Scanned { origin, shown } = scanned;
        if matches!(shown.record, Record::SessionStart(_)) {
            self.ready.push_back(Told::Began(Arc::clone(&origin)));
        }
        let ends = matches!(shown.record, Record::SessionEnd(..));
        let (_, settling) = self
            .open
            .entry(origin.id)
            .or_insert_with(|| (Arc::clone(&origin), Settling::default()));
        settling.take(shown);
        while let Some(entry) = settling.ready(ends) {
            self.ready
                .push_back(Told::Entry(Arc::clone(&origin), entry));
        }
        if ends {
            self.open.remove(&origin.id);
        }
    }

    /// What is still waited for will not come.
    fn finish(&mut self) {
        self.done = true;
        for (origin, mut settling) in std::mem::take(&mut self.open).into_values() {
            while let Some(entry) = settling.ready(true) {
                self.ready
                    .push_back(Told::Entry(Arc::clone(&origin), entry));
            }
        }
    }
}

impl<I: Iterator<Item = Result<Scanned, CliError>>> Iterator for Entries<I> {
    type Item = Result<Told, CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(Ok(told));
            }
            if self.done {
                return None;
            }
            match self.records.next() {
                Some(Ok(scanned)) => self.take(scanned),
                Some(Err(error)) => {
                    // What was read before the damage is worth showing, but the error first.
                    self.finish();
                    return Some(Err(error));
                }
                None => self.finish(),
            }
        }
    }
}

//! The session's own names: prepared statements, portals and cursors, as the server has them.
//!
//! What the agent sends changes names only once the server has done it. Until its answer comes a
//! change is *pending*: it counts for the messages of its own section (up to a Sync, or one simple
//! Query), which the server skips with it, and for nothing later. A later message that uses the
//! name waits for the answer. So a name never means something here that it does not mean there;
//! one that is missing here is never forwarded.
//!
//! Functions can do all that SQL can, unseen: drop a cursor and open another of its name, or
//! PREPARE. After one that is not known to be harmless every name is *doubtful*: where values are
//! masked, a portal is not executed any more, rows of a cursor are masked whole, and prepared
//! statements are compared with the server's own list.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::masks::ResultField;
use super::statements::{Batch, Classified};
use crate::codec::Format;
use chaperone_sql::{Kind, SessionChange, Statement};

/// Names of ours begin with this; a client may not use them.
pub(crate) const RESERVED: &str = "__chaperone";
/// Bytes of a name at most. The server keeps no more of it (`NAMEDATALEN` - 1), so that two
/// longer ones could be one name there and two here.
const LONGEST: usize = 63;
/// The same for a name in SQL. The server cuts it in its own encoding, and the parser here in
/// UTF-8: what is as long as something cut here, by a character of 4 bytes at most, may not be so
/// there.
const LONGEST_IN_SQL: usize = LONGEST - 4;
/// Prepared statements, and portals and cursors, that one session may hold.
const MOST: usize = 10_000;
/// Bytes that the texts of a session's prepared statements may come to.
const MOST_TEXT: usize = 16 * 1024 * 1024;

/// Whether a client may use this name in a message. Other letters than ASCII are cut, and folded to
/// lower case, in the encoding of the server's database, which need not be UTF-8.
pub(crate) fn is_usable(name: &str) -> bool {
    name.len() <= LONGEST && name.is_ascii() && !name.starts_with(RESERVED)
}

/// Whether a client may make something of this name in SQL.
pub(crate) fn is_usable_in_sql(name: &str) -> bool {
    name.len() <= LONGEST_IN_SQL && is_usable(name)
}

/// A prepared statement, by Parse or by PREPARE.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) text: Arc<str>,
    /// As it was classified when it was prepared; made again when the environment differs.
    pub(crate) batch: Arc<Batch>,
    /// The policy generation it was decided under.
    pub(crate) generation: u64,
    /// Its parameter types, once the server has said them; they never change.
    pub(crate) parameter_types: OnceLock<Vec<u32>>,
    /// The intent of its Parse.
    pub(crate) intent: Option<u64>,
    /// All that the client sent to prepare it, as the server lists it.
    source: Arc<str>,
    /// The names' version when it was prepared.
    version: u64,
    described: Mutex<Arc<Described>>,
}

/// The result columns of a prepared statement in one environment: the same statement reads other
/// relations under another search path. Those of FETCH and EXECUTE depend on the cursor or
/// statement that they name, so each of their portals has its own.
#[derive(Debug)]
pub(crate) struct Described {
    /// Once the server has said them; `None` is no result.
    pub(crate) fields: OnceLock<Option<Arc<[ResultField]>>>,
    /// Id of the environment.
    environment: u64,
    /// The section the server was asked in last, plus one; 0 is never.
    asked: AtomicU64,
}

impl Described {
    pub(crate) fn new(environment: u64) -> Arc<Self> {
        Arc::new(Self {
            fields: OnceLock::new(),
            environment,
            asked: AtomicU64::new(0),
        })
    }

    /// True where the server must be asked in this section: it has not answered, and a question
    /// of an earlier section may have been skipped.
    pub(crate) fn must_ask(&self, section: u64) -> bool {
        let stamp = section.saturating_add(1);
        self.fields.get().is_none() && self.asked.swap(stamp, Ordering::Relaxed) != stamp
    }
}

impl Prepared {
    pub(crate) fn new(
        text: Arc<str>,
        batch: Arc<Batch>,
        generation: u64,
        intent: Option<u64>,
        environment: u64,
        version: u64,
    ) -> Self {
        Self {
            source: Arc::clone(&text),
            version,
            text,
            batch,
            generation,
            parameter_types: OnceLock::new(),
            intent,
            described: Mutex::new(Described::new(environment)),
        }
    }

    /// What PREPARE makes: its inner statement, not yet described.
    pub(crate) fn of_inner(
        inner: &Statement,
        prepare: &Classified,
        batch: &Batch,
        generation: u64,
        version: u64,
    ) -> Self {
        let made = batch.of_inner(inner, prepare);
        // No environment has this id.
        let nowhere = 0;
        let text = Arc::clone(&inner.text);
        Self {
            source: batch.operation.command.as_str().into(),
            ..Self::new(text, Arc::new(made), generation, None, nowhere, version)
        }
    }

    /// Its description in an environment; a new one where it was made in another.
    pub(crate) fn described(&self, environment: u64) -> Arc<Described> {
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if described.environment != environment {
            *described = Described::new(environment);
        }
        Arc::clone(&described)
    }
}

/// A bound statement.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) described: Arc<Described>,
    pub(crate) batch: Arc<Batch>,
    pub(crate) formats: Arc<[Format]>,
    pub(crate) generation: u64,
    /// The names' version when it was bound or last executed: nothing that it depends on has
    /// changed up to then.
    pub(crate) version: AtomicU64,
    /// The intent of its Bind.
    pub(crate) intent: u64,
    /// The decision the Bind was forwarded under: what an Execute of it is recorded with.
    pub(crate) decision: chaperone_policy::Decision,
    pub(crate) parameters: Arc<[Option<String>]>,
    /// Rows of earlier Executes: limits count per portal, not per fetch.
    pub(crate) rows: AtomicU64,
}

/// An SQL-level cursor.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) batch: Arc<Batch>,
    pub(crate) generation: u64,
    /// Outlives its transaction, if that commits.
    hold: bool,
    /// The names' version when it was declared.
    version: u64,
    /// Rows fetched so far.
    pub(crate) rows: AtomicU64,
}

/// Portals and cursors are one kind of thing at the server, with one set of names.
#[derive(Debug, Clone)]
pub(crate) enum Open {
    Portal(Arc<Portal>),
    Cursor(Arc<Cursor>),
}

impl Open {
    /// What its rows come from.
    pub(crate) fn batch(&self) -> &Arc<Batch> {
        match self {
            Open::Portal(portal) => &portal.batch,
            Open::Cursor(cursor) => &cursor.batch,
        }
    }

    /// The policy generation it was decided under.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Open::Portal(portal) => portal.generation,
            Open::Cursor(cursor) => cursor.generation,
        }
    }

    /// The names' version up to which it is sure to be what the server has.
    fn version(&self) -> u64 {
        match self {
            Open::Portal(portal) => portal.version.load(Ordering::Relaxed),
            Open::Cursor(cursor) => cursor.version,
        }
    }

    /// Rows of it that the agent has had.
    pub(crate) fn rows(&self) -> &AtomicU64 {
        match self {
            Open::Portal(portal) => &portal.rows,
            Open::Cursor(cursor) => &cursor.rows,
        }
    }
}

/// What one message does to the names once the server has done it.
#[derive(Debug)]
pub(crate) enum Change {
    Statement(String, Option<Arc<Prepared>>),
    Open(String, Option<Open>),
    /// DEALLOCATE ALL
    NoStatements,
    /// CLOSE ALL
    NothingOpen,
    /// Something ran that could do any of these. The names' version from then on.
    Anything(u64),
}

#[derive(Debug)]
struct Pending {
    section: u64,
    change: Change,
}

/// What a name means to the message at hand.
#[derive(Debug)]
pub(crate) enum Meaning<T> {
    Is(T),
    Nothing,
    /// An earlier section changes it and has not been answered yet.
    Unsettled,
}

/// The maps.
#[derive(Debug, Default)]
pub(crate) struct Names {
    statements: HashMap<String, Arc<Prepared>>,
    open: HashMap<String, Open>,
    /// In the order of the replies that decide on them.
    pending: VecDeque<Pending>,
    section: u64,
    version: u64,
    /// The version from which on names are certain again after [`Change::Anything`]; the last that
    /// was forwarded, and the last that was answered.
    doubtful_before: u64,
    was_doubtful_before: u64,
    /// Up to this version prepared statements have been compared with the server's.
    compared: u64,
    /// Of all texts in `statements` and `pending`.
    text: usize,
}

impl Names {
    /// What a statement's name means.
    pub(crate) fn statement(&self, name: &str) -> Meaning<Arc<Prepared>> {
        for pending in self.pending.iter().rev() {
            let found = match &pending.change {
                Change::Statement(changed, to) if changed == name => to.clone(),
                Change::NoStatements => None,
                _ => continue,
            };
            return self.meaning(pending.section, found);
        }
        self.meaning(self.section, self.statements.get(name).cloned())
    }

    /// What the name of a portal or cursor means.
    pub(crate) fn open(&self, name: &str) -> Meaning<Open> {
        for pending in self.pending.iter().rev() {
            let found = match &pending.change {
                Change::Open(changed, to) if changed == name => to.clone(),
                Change::NothingOpen => None,
                _ => continue,
            };
            return self.meaning(pending.section, found);
        }
        self.meaning(self.section, self.open.get(name).cloned())
    }

    fn meaning<T>(&self, section: u64, found: Option<T>) -> Meaning<T> {
        match found {
            _ if section != self.section => Meaning::Unsettled,
            Some(found) => Meaning::Is(found),
            None => Meaning::Nothing,
        }
    }

    /// The portal or cursor that the server has under this name while it answers now.
    pub(crate) fn open_there(&self, name: &str) -> Option<&Open> {
        self.open.get(name)
    }

    /// Whether the server may have something else under this name by the time that a message
    /// forwarded now gets there.
    pub(crate) fn is_doubtful(&self, open: &Open) -> bool {
        open.version() < self.doubtful_before
    }

    /// The same while it answers now.
    pub(crate) fn is_doubtful_there(&self, open: &Open) -> bool {
        open.version() < self.was_doubtful_before
    }

    /// The same of a prepared statement.
    pub(crate) fn is_statement_doubtful(&self, name: &str, prepared: &Prepared) -> bool {
        !name.is_empty()
            && self.compared < self.doubtful_before
            && prepared.version < self.doubtful_before
    }

    /// Whether prepared statements are to be compared with the server's list.
    pub(crate) fn must_compare(&self) -> bool {
        self.compared < self.doubtful_before && self.statements.keys().any(|name| !name.is_empty())
    }

    /// The server's own list of prepared statements, name and source, while nothing is pending:
    /// what is not in it is forgotten.
    pub(crate) fn compare(&mut self, there: &HashMap<String, String>) {
        let text = &mut self.text;
        self.statements.retain(|name, prepared| {
            // The unnamed one is in no list, and out of SQL's reach.
            let same = name.is_empty()
                || there
                    .get(name)
                    .is_some_and(|source| **source == *prepared.source);
            if !same {
                *text = text.saturating_sub(prepared.text.len());
            }
            same
        });
        self.compared = self.version;
    }

    /// Whether nothing of an earlier section is outstanding.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending
            .front()
            .is_none_or(|pending| pending.section == self.section)
    }

    /// Grows whenever a name that SQL can speak of changes.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The version that a change of this name makes. SQL cannot speak of what has none.
    pub(crate) fn version_of(&self, name: &str) -> u64 {
        self.version.saturating_add(u64::from(!name.is_empty()))
    }

    /// The section that messages belong to now.
    pub(crate) fn section(&self) -> u64 {
        self.section
    }

    /// A Sync or a simple Query has been forwarded: what comes next does not share its fate.
    pub(crate) fn next_section(&mut self) {
        self.section = self.section.saturating_add(1);
    }

    /// Whether one more statement with a text this long may be kept.
    pub(crate) fn has_room(&self, text: usize) -> bool {
        self.statements.len().saturating_add(self.pending.len()) < MOST
            && self.text.saturating_add(text) <= MOST_TEXT
    }

    /// Whether one more portal or cursor may be kept.
    pub(crate) fn has_room_for_open(&self) -> bool {
        self.open.len().saturating_add(self.pending.len()) < MOST
    }

    /// A message that makes this change was forwarded.
    pub(crate) fn expect(&mut self, change: Change) {
        self.text = self.text.saturating_add(weight(&change));
        let speakable = match &change {
            Change::Statement(name, _) | Change::Open(name, _) => !name.is_empty(),
            Change::NoStatements | Change::NothingOpen | Change::Anything(_) => true,
        };
        if speakable {
            self.version = self.version.saturating_add(1);
        }
        self.pending.push_back(Pending {
            section: self.section,
            change,
        });
    }

    /// What a statement of SQL does to the names; how many changes that is.
    pub(crate) fn expect_statement(
        &mut self,
        classified: &Arc<Classified>,
        batch: &Arc<Batch>,
        generation: u64,
    ) -> usize {
        let unseen = usize::from(self.may_change_unseen(classified));
        if unseen > 0 {
            self.doubtful_before = self.version.saturating_add(1);
            self.expect(Change::Anything(self.doubtful_before));
        }
        let seen = self.expect_seen(classified, batch, generation);
        unseen.saturating_add(seen)
    }

    /// Whether a function that could do anything runs. That of a cursor's query runs when its rows
    /// are fetched.
    fn may_change_unseen(&self, classified: &Classified) -> bool {
        let unseen = |one: &Classified| one.class.changes.contains(&SessionChange::Everything);
        match &classified.class.kind {
            Kind::Declare { .. } => false,
            Kind::Fetch { name } => match self.open(name) {
                Meaning::Is(open) => open.batch().statements.iter().any(|one| unseen(one)),
                Meaning::Nothing | Meaning::Unsettled => true,
            },
            _ => unseen(classified),
        }
    }

    fn expect_seen(
        &mut self,
        classified: &Arc<Classified>,
        batch: &Arc<Batch>,
        generation: u64,
    ) -> usize {
        match &classified.class.kind {
            Kind::Prepare { name, inner } => {
                let version = self.version.saturating_add(1);
                let made = Prepared::of_inner(inner, classified, batch, generation, version);
                self.expect(Change::Statement(name.clone(), Some(Arc::new(made))));
                1
            }
            Kind::Deallocate { name: Some(name) } => {
                self.expect(Change::Statement(name.clone(), None));
                1
            }
            Kind::Deallocate { name: None } => {
                self.expect(Change::NoStatements);
                1
            }
            Kind::Declare { name, hold } => {
                let cursor = Cursor {
                    batch: single(batch, classified),
                    generation,
                    hold: *hold,
                    version: self.version.saturating_add(1),
                    rows: AtomicU64::new(0),
                };
                let open = Open::Cursor(Arc::new(cursor));
                self.expect(Change::Open(name.clone(), Some(open)));
                1
            }
            Kind::Close { name: Some(name) } => {
                self.expect(Change::Open(name.clone(), None));
                1
            }
            Kind::Close { name: None } => {
                self.expect(Change::NothingOpen);
                1
            }
            Kind::Discard { all: true } => {
                self.expect(Change::NoStatements);
                self.expect(Change::NothingOpen);
                2
            }
            _ => 0,
        }
    }

    /// A simple Query ends the unnamed statement and portal, whatever comes of it
    /// (PostgreSQL, Message Flow, Extended Query). How many changes that is.
    pub(crate) fn expect_simple_query(&mut self) -> usize {
        self.expect(Change::Statement(String::new(), None));
        self.expect(Change::Open(String::new(), None));
        2
    }

    /// The server has done what made the oldest changes.
    pub(crate) fn confirm(&mut self, count: usize) {
        for _ in 0..count {
            let Some(pending) = self.pending.pop_front() else {
                return;
            };
            match pending.change {
                Change::Statement(name, Some(to)) => {
                    // Its text was counted when it was expected.
                    if let Some(before) = self.statements.insert(name, to) {
                        self.text = self.text.saturating_sub(before.text.len());
                    }
                }
                Change::Statement(name, None) => {
                    if let Some(before) = self.statements.remove(&name) {
                        self.text = self.text.saturating_sub(before.text.len());
                    }
                }
                Change::NoStatements => {
                    for (_, before) in self.statements.drain() {
                        self.text = self.text.saturating_sub(before.text.len());
                    }
                }
                Change::Open(name, Some(to)) => {
                    self.open.insert(name, to);
                }
                Change::Open(name, None) => {
                    self.open.remove(&name);
                }
                Change::NothingOpen => self.open.clear(),
                Change::Anything(version) => self.was_doubtful_before = version,
            }
        }
    }

    /// The server failed at, or skipped, what would have made the oldest changes.
    pub(crate) fn discard(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(pending) = self.pending.pop_front() {
                self.text = self.text.saturating_sub(weight(&pending.change));
                // What a function prepared before it failed stays prepared.
                if let Change::Anything(version) = pending.change {
                    self.was_doubtful_before = version;
                }
            }
        }
    }

    /// How many changes wait for an answer.
    pub(crate) fn undecided(&self) -> usize {
        self.pending.len()
    }

    /// What would have made all but the oldest `count` changes was never sent.
    pub(crate) fn withdraw(&mut self, count: usize) {
        while self.pending.len() > count {
            let Some(pending) = self.pending.pop_back() else {
                return;
            };
            self.text = self.text.saturating_sub(weight(&pending.change));
            if let Change::Anything(version) = pending.change {
                self.was_doubtful_before = self.was_doubtful_before.max(version);
            }
        }
    }

    /// A transaction ended: only cursors WITH HOLD outlive it. Those stay known until they are
    /// closed, or until there are too many: FETCH from one that is not known is masked whole.
    pub(crate) fn transaction_ended(&mut self) {
        let few = self.open.len() < MOST / 2;
        self.open
            .retain(|_, open| few && matches!(open, Open::Cursor(cursor) if cursor.hold));
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Statement(_, Some(prepared)) => prepared.text.len(),
        _ => 0,
    }
}

/// One statement of a batch as a batch of its own: what a cursor keeps.
fn single(batch: &Arc<Batch>, classified: &Arc<Classified>) -> Arc<Batch> {
    if batch.statements.len() == 1 {
        return Arc::clone(batch);
    }
    Arc::new(batch.only(classified))
}

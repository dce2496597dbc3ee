//! Classification with its caches: a text is parsed once, and classified once for each
//! environment (catalog, search path, masks) it is met in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use chaperone_policy::{Access, Operation};
use chaperone_sql::{
    Catalog, Classification, Context, CopyDirection, Kind, MaskedColumns, Overlay, ParseError,
    Script, SearchPath, Statement, classify, parse, shape,
};
use moka::sync::Cache;

use super::masks::MaskIndex;

/// What names mean and what is masked, at one moment. Shared by all sessions that agree on it.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Unique while the process lives; a cached classification is good for one of these.
    pub(crate) id: u64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) path: SearchPath,
    pub(crate) masks: Arc<MaskIndex>,
    /// Masks of the record only (DryRun); the same as `masks` everywhere else.
    pub(crate) record_masks: Arc<MaskIndex>,
    /// Digest of the policy the masks are of.
    pub(crate) policy: String,
}

/// One statement, classified.
#[derive(Debug, Clone)]
pub(crate) struct Classified {
    pub(crate) statement: Statement,
    pub(crate) class: Classification,
    /// The environment it was classified in.
    pub(crate) environment: Arc<Environment>,
}

impl Classified {
    /// COPY FROM STDIN.
    pub(crate) fn is_copy_in(&self) -> bool {
        matches!(
            self.class.kind,
            Kind::Copy {
                direction: CopyDirection::In,
                ..
            }
        )
    }
}

/// All statements of one text, classified, with the operation they make together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) statements: Vec<Arc<Classified>>,
    /// What is decided on: the union, since one denied statement stops them all.
    pub(crate) operation: Operation,
    /// The verbs, for summaries.
    pub(crate) verb: String,
    /// What the batch leaves behind for names, until the catalog is read again.
    pub(crate) overlay: Overlay,
    /// The text does not depend on prepared statements or cursors of this session.
    cacheable: bool,
    /// An EXECUTE names a statement that nobody knows: what it would run is not known either.
    pub(crate) unknown: Option<String>,
    /// Statements of the session that its EXECUTEs name, wherever in the tree.
    pub(crate) executes: Vec<String>,
}

impl Batch {
    /// One of its statements on its own.
    pub(crate) fn only(&self, classified: &Arc<Classified>) -> Batch {
        let statements = vec![Arc::clone(classified)];
        Batch {
            operation: operation(&classified.statement.text, &statements),
            verb: verbs(&statements),
            overlay: classified.class.overlay.clone(),
            statements,
            cacheable: false,
            unknown: None,
            executes: Vec::new(),
        }
    }

    /// The statement that a PREPARE names. It is classified again whenever it is bound or
    /// executed, so what PREPARE was decided on stands in only until then.
    pub(crate) fn of_inner(&self, inner: &Statement, prepare: &Classified) -> Batch {
        let statements = vec![Arc::new(Classified {
            statement: inner.clone(),
            class: prepare.class.clone(),
            environment: Arc::clone(&prepare.environment),
        })];
        Batch {
            operation: operation(&inner.text, &statements),
            verb: verbs(&statements),
            overlay: prepare.class.overlay.clone(),
            statements,
            cacheable: false,
            unknown: None,
            executes: Vec::new(),
        }
    }

    /// Nothing but statements that are over when they have run.
    fn is_plain(&self) -> bool {
        self.statements
            .iter()
            .all(|statement| matches!(statement.class.kind, chaperone_sql::Kind::Plain))
    }

    /// The same classification for a text of the same shape.
    fn with_text(&self, text: &str) -> Batch {
        Batch {
            statements: self.statements.clone(),
            operation: Operation {
                command: text.to_owned(),
                ..self.operation.clone()
            },
            verb: self.verb.clone(),
            overlay: self.overlay.clone(),
            cacheable: self.cacheable,
            unknown: self.unknown.clone(),
            executes: self.executes.clone(),
        }
    }

    /// Whether a statement of it may change what the names in those behind it mean.
    pub(crate) fn leaves_names_open(&self) -> bool {
        let before_last = self.statements.iter().rev().skip(1);
        before_last
            .into_iter()
            .any(|statement| changes_path(&statement.class))
    }

    /// Whether what it does depends on prepared statements or cursors of the session.
    pub(crate) fn depends_on_names(&self) -> bool {
        !self.cacheable
    }
}

impl Default for Statements {
    fn default() -> Self {
        Self::new()
    }
}

/// How the session's own names are looked up.
pub(crate) struct Lookup<'a> {
    pub(crate) prepared: &'a dyn Fn(&str) -> Option<Statement>,
    pub(crate) cursor_touches_masked: &'a dyn Fn(&str) -> Option<bool>,
}

/// Caches of one connection, shared by its sessions.
#[derive(Debug)]
pub struct Statements {
    texts: Cache<Arc<str>, Arc<Text>>,
    environments: Mutex<Environments>,
}

#[derive(Debug)]
struct Text {
    script: Script,
    newest: ArcSwapOption<Batch>,
}

#[derive(Debug, Default)]
struct Environments {
    next: u64,
    known: Vec<Arc<Environment>>,
}

/// Bytes of texts and their trees that are kept classified, per connection.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// A text longer than this is not worth keeping.
const CACHEABLE_TEXT: usize = 64 * 1024;
/// A text longer than this is not looked at for its shape.
const SHAPED_TEXT: usize = 4 * 1024;
/// Environments kept: a policy change, a few search paths and roles at a time.
const ENVIRONMENTS: usize = 16;

impl Statements {
    /// Empty.
    pub fn new() -> Self {
        Self {
            texts: Cache::builder()
                .max_capacity(CACHE_BYTES)
                .weigher(|_, known: &Arc<Text>| {
                    u32::try_from(known.script.weight().saturating_add(512)).unwrap_or(u32::MAX)
                })
                .build(),
            environments: Mutex::new(Environments::default()),
        }
    }

    /// The shared environment for these facts, made if there is none yet.
    pub(crate) fn environment(
        &self,
        catalog: &Arc<Catalog>,
        path: &SearchPath,
        policy: &chaperone_policy::Policy,
    ) -> Arc<Environment> {
        let mut environments = self
            .environments
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = environments.known.iter().find(|known| {
            Arc::ptr_eq(&known.catalog, catalog)
                && known.path == *path
                && known.policy == policy.digest()
        });
        if let Some(found) = found {
            return Arc::clone(found);
        }
        // The masks depend on policy and catalog only: another path shares them.
        let twin = environments
            .known
            .iter()
            .find(|known| Arc::ptr_eq(&known.catalog, catalog) && known.policy == policy.digest());
        let (masks, record_masks) = match twin {
            Some(twin) => (Arc::clone(&twin.masks), Arc::clone(&twin.record_masks)),
            None => {
                let masks = Arc::new(MaskIndex::new(policy.masking(), catalog));
                let record_masks = if policy.is_observing() {
                    Arc::new(MaskIndex::new(policy.record_masking(), catalog))
                } else {
                    Arc::clone(&masks)
                };
                (masks, record_masks)
            }
        };
        environments.next = environments.next.saturating_add(1);
        let made = Arc::new(Environment {
            id: environments.next,
            catalog: Arc::clone(catalog),
            path: path.clone(),
            masks,
            record_masks,
            policy: policy.digest().to_owned(),
        });
        if environments.known.len() >= ENVIRONMENTS {
            environments.known.remove(0);
        }
        environments.known.push(Arc::clone(&made));
        made
    }

    /// Classifies a text in an environment. `overlay` is what the session has changed since the
    /// catalog was read; with one, nothing is cached.
    pub(crate) fn batch(
        &self,
        text: &str,
        environment: &Arc<Environment>,
        overlay: &Overlay,
        lookup: &Lookup<'_>,
    ) -> Result<Arc<Batch>, ParseError> {
        if let Some(known) = self.texts.get(text) {
            return Ok(known.batch(text, environment, overlay, lookup));
        }
        // The same statement with other numbers in it is not parsed again.
        let shape = if text.len() <= SHAPED_TEXT {
            shape(text)
        } else {
            None
        };
        if let Some(known) = shape.as_deref().and_then(|shape| self.texts.get(shape)) {
            let batch = known.batch(text, environment, overlay, lookup);
            return Ok(Arc::new(batch.with_text(text)));
        }
        let made = Arc::new(Text {
            script: parse(text)?,
            newest: ArcSwapOption::empty(),
        });
        let batch = made.batch(text, environment, overlay, lookup);
        if text.len() <= CACHEABLE_TEXT {
            // What PREPARE and DECLARE keep is their own text, so those have no shape.
            let key = shape.filter(|_| batch.is_plain());
            self.texts
                .insert(key.as_deref().unwrap_or(text).into(), made);
        }
        Ok(batch)
    }
}

impl Text {
    fn batch(
        &self,
        text: &str,
        environment: &Arc<Environment>,
        overlay: &Overlay,
        lookup: &Lookup<'_>,
    ) -> Arc<Batch> {
        if overlay.is_empty()
            && let Some(batch) = self.newest.load_full()
            && batch
                .statements
                .first()
                .is_some_and(|first| first.environment.id == environment.id)
        {
            return batch;
        }
        let batch = Arc::new(classify_script(
            text,
            &self.script,
            environment,
            overlay,
            lookup,
        ));
        if overlay.is_empty() && batch.cacheable {
            self.newest.store(Some(Arc::clone(&batch)));
        }
        batch
    }
}

fn classify_script(
    text: &str,
    script: &Script,
    environment: &Arc<Environment>,
    overlay: &Overlay,
    lookup: &Lookup<'_>,
) -> Batch {
    let mut pending = overlay.clone();
    let mut path = environment.path.clone();
    let names = ScriptNames::default();
    let mut statements = Vec::with_capacity(script.statements.len());
    for statement in script.statements.iter() {
        let prepared = |name: &str| names.prepared(name, lookup);
        let cursor = |name: &str| {
            names.looked.set(true);
            let known = (lookup.cursor_touches_masked)(name);
            known.filter(|_| !names.doubtful.get())
        };
        let context = Context {
            catalog: &environment.catalog,
            search_path: &path,
            overlay: &pending,
            masks: environment.masks.as_ref(),
            prepared: &prepared,
            cursor_touches_masked: &cursor,
        };
        let mut class = classify(statement, &context);
        if !Arc::ptr_eq(&environment.masks, &environment.record_masks) {
            // The record is masked by policies that decide nothing.
            let recorded = classify(
                statement,
                &Context {
                    masks: environment.record_masks.as_ref(),
                    ..context
                },
            );
            class.secret_spans.extend(recorded.secret_spans);
            class.masking.sensitive_literals |= recorded.masking.sensitive_literals;
        }
        names.apply(&class.kind);
        if class
            .changes
            .contains(&chaperone_sql::SessionChange::Everything)
            && environment.masks.any()
        {
            names.doubtful.set(true);
        }
        pending.apply(&class.overlay);
        if changes_path(&class) {
            // The search path is never inferred: later statements must name their schemas.
            path = SearchPath::Dirty;
        }
        statements.push(Arc::new(Classified {
            statement: statement.clone(),
            class,
            environment: Arc::clone(environment),
        }));
    }
    let operation = operation(text, &statements);
    let verb = verbs(&statements);
    Batch {
        statements,
        operation,
        verb,
        overlay: pending,
        cacheable: !names.looked.get(),
        unknown: names.unknown.into_inner(),
        executes: names.executes.into_inner(),
    }
}

/// The names of a session as one script sees and changes them.
#[derive(Default)]
struct ScriptNames {
    /// What earlier statements of this text prepare or drop.
    here: RefCell<HashMap<String, Option<Statement>>>,
    dropped_all: Cell<bool>,
    /// A function may have changed any of the session's, and values are masked.
    doubtful: Cell<bool>,
    /// Some name was looked up: what the script does depends on the session.
    looked: Cell<bool>,
    /// A statement that nobody knows, wherever in the tree an EXECUTE names it.
    unknown: RefCell<Option<String>>,
    /// Those of the session.
    executes: RefCell<Vec<String>>,
}

impl ScriptNames {
    fn prepared(&self, name: &str, lookup: &Lookup<'_>) -> Option<Statement> {
        self.looked.set(true);
        let found = match self.here.borrow().get(name) {
            Some(here) => here.clone(),
            None if self.dropped_all.get() || self.doubtful.get() => None,
            None => {
                let mut executes = self.executes.borrow_mut();
                if !executes.iter().any(|known| known == name) {
                    executes.push(name.to_owned());
                }
                (lookup.prepared)(name)
            }
        };
        if found.is_none() {
            *self.unknown.borrow_mut() = Some(name.to_owned());
        }
        found
    }

    fn apply(&self, kind: &Kind) {
        let mut here = self.here.borrow_mut();
        match kind {
            Kind::Execute { .. } | Kind::Fetch { .. } => self.looked.set(true),
            Kind::Prepare { name, inner } => {
                here.insert(name.clone(), Some(inner.clone()));
            }
            Kind::Deallocate { name: Some(name) } => {
                here.insert(name.clone(), None);
            }
            Kind::Deallocate { name: None } | Kind::Discard { all: true } => {
                here.clear();
                self.dropped_all.set(true);
            }
            _ => {}
        }
    }
}

/// Whether the search path may be another one afterwards: it is never inferred.
fn changes_path(class: &Classification) -> bool {
    let mut changes = class.changes.iter();
    changes.any(|change| !matches!(change, chaperone_sql::SessionChange::Catalog))
}

fn operation(text: &str, statements: &[Arc<Classified>]) -> Operation {
    let mut accesses: Vec<Access> = match statements {
        [one] => one.class.accesses.clone(),
        many => many
            .iter()
            .flat_map(|statement| statement.class.accesses.iter().cloned())
            .collect(),
    };
    accesses.sort_unstable();
    accesses.dedup();
    Operation::sql(text, accesses)
}

fn verbs(statements: &[Arc<Classified>]) -> String {
    const SHOWN: usize = 4;
    if statements.is_empty() {
        return "EMPTY".to_owned();
    }
    let mut verbs: Vec<&str> = statements
        .iter()
        .take(SHOWN)
        .map(|statement| statement.class.verb.as_str())
        .collect();
    if statements.len() > SHOWN {
        verbs.push("…");
    }
    verbs.join("; ")
}

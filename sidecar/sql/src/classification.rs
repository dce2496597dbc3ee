//! What one statement does.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_policy::{Access, Effect, Object};
use pg_query::NodeEnum;

use crate::effects::Effects;
use crate::verb::verb;
use crate::{Catalog, Relation, Statement, masking, secrets};

/// The session's search_path as far as it is known; never inferred (postgres.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SearchPath {
    /// The effective schemas in order, pg_catalog where it is searched, pg_temp resolved.
    Known(Vec<String>),
    /// Unknown until it is read again; an unqualified name is `Object::Unresolved`.
    Dirty,
}

/// What earlier statements of the same batch have created, dropped, renamed or SET, before the
/// catalog has been read again. Applied by [`Overlay::apply`], consulted by [`classify`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Relations created (`Some(is_temporary)`) or dropped/renamed away (`None`) by (schema, name).
    /// A schema that was not named is the empty string: wherever the search path puts it.
    pub relations: BTreeMap<(String, String), Option<bool>>,
    /// A statement whose effects on names cannot be followed ran: unqualified names are unresolved.
    pub unknown: bool,
    /// Functions and operators created or renamed, by name: a call by this name may mean them.
    pub functions: BTreeSet<String>,
}

impl Overlay {
    /// Nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.relations.is_empty() && !self.unknown && self.functions.is_empty()
    }

    /// Adds what a later statement of the same batch does.
    pub fn apply(&mut self, later: &Overlay) {
        for (name, change) in &later.relations {
            self.relations.insert(name.clone(), *change);
        }
        self.unknown |= later.unknown;
        self.functions.extend(later.functions.iter().cloned());
    }
}

/// Which columns this subject sees masked on this connection. Children of a partitioned or
/// inherited table are asked for under their topmost parent too.
pub trait MaskedColumns {
    /// Whether any column mask exists on the connection for this subject.
    fn any(&self) -> bool;
    /// Whether this column is masked.
    fn column(&self, schema: &str, relation: &str, column: &str) -> bool;
    /// Whether comparisons with this column are allowed (`predicates: Allow`).
    fn predicates_allowed(&self, schema: &str, relation: &str, column: &str) -> bool;
    /// Whether this view is known to show nothing of masked columns.
    fn is_clean_view(&self, _: &Relation) -> bool {
        false
    }
    /// Whether a function's output was declared clean (`returns: Unmasked`).
    fn function_unmasked(&self, schema: &str, function: &str) -> bool;
}

/// What a classification is made under.
pub struct Context<'a> {
    /// Names.
    pub catalog: &'a Catalog,
    /// Where unqualified names are looked for.
    pub search_path: &'a SearchPath,
    /// What the batch has changed so far.
    pub overlay: &'a Overlay,
    /// Masks.
    pub masks: &'a dyn MaskedColumns,
    /// SQL-level and protocol-level prepared statements share one map.
    pub prepared: &'a dyn Fn(&str) -> Option<Statement>,
    /// Whether a cursor's rows may come from a masked relation; `None` when it is not known.
    pub cursor_touches_masked: &'a dyn Fn(&str) -> Option<bool>,
}

/// What kind of statement it is, as far as the session must act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE, and everything without a case below.
    Plain,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT … (all but PREPARE TRANSACTION and its kin).
    Transaction,
    /// PREPARE name AS inner.
    Prepare {
        /// The statement's name.
        name: String,
        /// What it runs.
        inner: Statement,
    },
    /// EXECUTE name; the accesses are those of the inner statement in this context.
    Execute {
        /// The statement's name.
        name: String,
    },
    /// DEALLOCATE name, or all of them.
    Deallocate {
        /// `None` is ALL.
        name: Option<String>,
    },
    /// DECLARE name CURSOR FOR …; accesses and masking facts are the query's.
    Declare {
        /// The cursor's name.
        name: String,
        /// WITH HOLD: it outlives its transaction, if that commits.
        hold: bool,
    },
    /// FETCH or MOVE; rows are masked like the cursor's query.
    Fetch {
        /// The cursor's name.
        name: String,
    },
    /// CLOSE name, or all.
    Close {
        /// `None` is ALL.
        name: Option<String>,
    },
    /// COPY between the server and the client.
    Copy {
        /// Which way.
        direction: CopyDirection,
        /// In which format.
        format: CopyFormat,
        /// (schema, relation) for COPY of a table; `None` for COPY (query).
        relation: Option<(String, String)>,
        /// The columns named, in order; empty means all.
        columns: Vec<String>,
        /// The DELIMITER, QUOTE, ESCAPE, NULL and HEADER options where given.
        options: BTreeMap<String, String>,
    },
    /// DISCARD ALL or DISCARD TEMP/PLANS/SEQUENCES.
    Discard {
        /// DISCARD ALL: prepared statements, cursors and settings are gone.
        all: bool,
    },
}

/// Which way a COPY goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    /// COPY … TO STDOUT.
    Out,
    /// COPY … FROM STDIN.
    In,
}

/// COPY's FORMAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// text
    Text,
    /// csv
    Csv,
    /// binary
    Binary,
}

/// What the statement does to the session's own state once it has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// The search path may be another one afterwards: read it again.
    SearchPath,
    /// Names may mean other things afterwards: load the catalog again.
    Catalog,
    /// Nothing is known afterwards (DO, CALL, functions not known pure, EXECUTE of such).
    Everything,
}

/// What masking needs to know of a statement (policy.md, Masking).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskingFacts {
    /// Reads a relation with masked columns, or something not traced: a view, foreign table,
    /// materialised view, unknown cursor, or function not known pure.
    pub touches_masked: bool,
    /// Writes a masked column, or compares one: literals and parameters are masked in the record.
    pub sensitive_literals: bool,
    /// Deny `MaskedFlow`: the masked column, or relation, that would flow.
    pub flow: Option<String>,
    /// Deny `MaskedPredicate`: the masked column that is compared or ordered by.
    pub predicate: Option<String>,
    /// Masked columns compared by equality, for counting.
    pub equality: u32,
    /// INSERT, UPDATE, MERGE or COPY FROM: values that carry a mark are denied.
    pub writes: bool,
}

/// The whole answer for one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// Every effect on every object; never empty, without duplicates, in a stable order.
    pub accesses: Vec<Access>,
    /// What the session must do about it.
    pub kind: Kind,
    /// For masking.
    pub masking: MaskingFacts,
    /// What holds no longer once it has run.
    pub changes: Vec<SessionChange>,
    /// The string constants of the statement, for the write-back check.
    pub strings: Vec<String>,
    /// Byte ranges of literals in `Statement::text` that must be masked in every record:
    /// all of them when `masking.sensitive_literals`, and PASSWORD clauses always.
    pub secret_spans: Vec<std::ops::Range<usize>>,
    /// The verb for summaries: `SELECT`, `DELETE`, `CREATE TABLE` …
    pub verb: String,
    /// What this statement adds to the overlay of its batch.
    pub overlay: Overlay,
}

/// Classifies one statement. Total: what is not understood becomes `Unknown` on `*`.
pub fn classify(statement: &Statement, context: &Context<'_>) -> Classification {
    classify_executed(statement, context, 0)
}

/// The same for a statement that `executes` EXECUTEs, one through the other, have led to.
pub(crate) fn classify_executed(
    statement: &Statement,
    context: &Context<'_>,
    executes: usize,
) -> Classification {
    let Some(node) = statement.node() else {
        return not_understood();
    };
    let effects = Effects::collect(node.to_ref(), context, executes);
    let accesses = effects.accesses();
    let (changes, overlay) = effects.after();
    let mut masking = masking::facts(node.to_ref(), context, &effects.resolved, &accesses);
    if matches!(node, NodeEnum::ExecuteStmt(_)) {
        for executed in &effects.executed {
            merge(&mut masking, &executed.masking);
        }
    }
    let kind = match (node, statement.prepared()) {
        (NodeEnum::PrepareStmt(prepare), Some(inner)) => Kind::Prepare {
            name: prepare.name.clone(),
            inner,
        },
        _ => effects.kind,
    };
    let secret_spans = secrets::spans(&statement.text, node, masking.sensitive_literals);
    Classification {
        accesses,
        kind,
        masking,
        changes,
        strings: effects.strings,
        secret_spans,
        verb: verb(node).to_owned(),
        overlay,
    }
}

fn not_understood() -> Classification {
    Classification {
        accesses: vec![Access {
            effect: Effect::Unknown,
            object: Object::Any,
            baseline: false,
        }],
        kind: Kind::Plain,
        masking: MaskingFacts {
            touches_masked: true,
            sensitive_literals: true,
            ..MaskingFacts::default()
        },
        changes: vec![SessionChange::Everything],
        strings: Vec::new(),
        secret_spans: Vec::new(),
        verb: "UNKNOWN".to_owned(),
        overlay: Overlay {
            unknown: true,
            ..Overlay::default()
        },
    }
}

/// What an EXECUTE runs counts for the EXECUTE.
fn merge(into: &mut MaskingFacts, other: &MaskingFacts) {
    into.touches_masked |= other.touches_masked;
    into.sensitive_literals |= other.sensitive_literals;
    into.writes |= other.writes;
    into.equality = into.equality.saturating_add(other.equality);
    if into.flow.is_none() {
        into.flow.clone_from(&other.flow);
    }
    if into.predicate.is_none() {
        into.predicate.clone_from(&other.predicate);
    }
}

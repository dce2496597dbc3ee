//! Prepared statements and cursors of SQL.

use pg_query::NodeRef;
use pg_query::protobuf::{
    ClosePortalStmt, DeallocateStmt, DeclareCursorStmt, ExecuteStmt, FetchStmt,
};

use super::{Effects, MAX_EXECUTE};
use crate::classification::classify_executed;
use crate::{Kind, SessionChange};

/// WITH HOLD among `DeclareCursorStmt.options` (PostgreSQL, src/include/nodes/parsenodes.h).
const CURSOR_OPT_HOLD: i32 = 0x0020;

impl<'t> Effects<'t> {
    /// What is prepared is judged now and again at every EXECUTE; nothing runs yet.
    pub(super) fn prepare(&mut self, node: NodeRef<'t>) {
        let (changes, overlay) = (self.changes.clone(), self.overlay.clone());
        self.visit_children(node);
        if self.is_root(node) {
            (self.changes, self.overlay) = (changes, overlay);
        }
    }

    /// A statement that nobody prepared is for the server to refuse.
    pub(super) fn execute_prepared(&mut self, node: NodeRef<'t>, execute: &'t ExecuteStmt) {
        self.visit_children(node);
        let name = execute.name.clone();
        self.set_kind(node, Kind::Execute { name });
        let Some(statement) = (self.context.prepared)(&execute.name) else {
            return self.session();
        };
        if self.executes >= MAX_EXECUTE {
            return self.unknown();
        }
        let executed = classify_executed(&statement, self.context, self.executes + 1);
        self.accesses.extend(executed.accesses.iter().cloned());
        for change in &executed.changes {
            self.changed(change.clone());
        }
        self.overlay.apply(&executed.overlay);
        self.strings.extend(executed.strings.iter().cloned());
        self.executed.push(executed);
    }

    pub(super) fn deallocate(&mut self, node: NodeRef<'t>, deallocate: &'t DeallocateStmt) {
        self.session();
        let name = (!deallocate.isall).then(|| deallocate.name.clone());
        self.set_kind(node, Kind::Deallocate { name });
    }

    /// A cursor's query runs with each FETCH, which cannot say that the search path changed. A
    /// function that is not known to be pure could do so too, but it needs a rule of its own, and
    /// may do more than that.
    pub(super) fn declare_cursor(&mut self, node: NodeRef<'t>, declare: &'t DeclareCursorStmt) {
        self.visit_children(node);
        if self.changes.contains(&SessionChange::SearchPath) {
            self.unknown();
        }
        let name = declare.portalname.clone();
        let hold = declare.options & CURSOR_OPT_HOLD != 0;
        self.set_kind(node, Kind::Declare { name, hold });
    }

    pub(super) fn fetch(&mut self, node: NodeRef<'t>, fetch: &'t FetchStmt) {
        self.session();
        let name = fetch.portalname.clone();
        self.set_kind(node, Kind::Fetch { name });
    }

    pub(super) fn close(&mut self, node: NodeRef<'t>, close: &'t ClosePortalStmt) {
        self.session();
        let name = (!close.portalname.is_empty()).then(|| close.portalname.clone());
        self.set_kind(node, Kind::Close { name });
    }
}

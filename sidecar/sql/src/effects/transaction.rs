//! Transaction control.

use chaperone_policy::{Effect, Object};
use pg_query::NodeRef;
use pg_query::protobuf::{TransactionStmt, TransactionStmtKind};

use super::Effects;
use crate::{Kind, SessionChange};

impl<'t> Effects<'t> {
    pub(super) fn transaction(&mut self, node: NodeRef<'t>, statement: &'t TransactionStmt) {
        let two_phase = match statement.kind() {
            TransactionStmtKind::TransStmtBegin
            | TransactionStmtKind::TransStmtStart
            | TransactionStmtKind::TransStmtSavepoint
            | TransactionStmtKind::TransStmtRelease => false,
            // SET LOCAL ends with the transaction.
            TransactionStmtKind::TransStmtCommit => {
                self.changed(SessionChange::SearchPath);
                false
            }
            // So do SET and everything that was created.
            TransactionStmtKind::TransStmtRollback | TransactionStmtKind::TransStmtRollbackTo => {
                self.changed(SessionChange::SearchPath);
                self.names_changed();
                false
            }
            TransactionStmtKind::TransStmtPrepare
            | TransactionStmtKind::TransStmtCommitPrepared
            | TransactionStmtKind::TransStmtRollbackPrepared => {
                self.changed(SessionChange::SearchPath);
                self.names_changed();
                true
            }
            TransactionStmtKind::Undefined => return self.unknown(),
        };
        self.add(Effect::Transaction, Object::Session, !two_phase);
        if !two_phase {
            self.set_kind(node, Kind::Transaction);
        }
    }
}

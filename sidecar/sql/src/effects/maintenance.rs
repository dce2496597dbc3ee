//! VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT, LOCK and REFRESH MATERIALIZED VIEW.

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{
    ClusterStmt, LockStmt, RangeVar, ReindexObjectType, ReindexStmt, VacuumStmt,
};
use pg_query::{NodeEnum, NodeRef};

use super::Effects;

impl<'t> Effects<'t> {
    pub(super) fn vacuum(&mut self, vacuum: &'t VacuumStmt) {
        if vacuum.rels.is_empty() {
            self.maintain_all();
        }
        for node in &vacuum.rels {
            match node.node.as_ref() {
                Some(NodeEnum::VacuumRelation(target)) => self.maintain(target.relation.as_ref()),
                _ => self.unknown(),
            }
        }
    }

    pub(super) fn cluster(&mut self, cluster: &'t ClusterStmt) {
        match &cluster.relation {
            Some(relation) => self.touch(relation, Effect::Maintenance),
            None => self.maintain_all(),
        }
    }

    pub(super) fn reindex(&mut self, reindex: &'t ReindexStmt) {
        match reindex.kind() {
            ReindexObjectType::ReindexObjectIndex | ReindexObjectType::ReindexObjectTable => {
                self.maintain(reindex.relation.as_ref());
            }
            ReindexObjectType::ReindexObjectSchema => {
                self.named(Effect::Maintenance, "schema", reindex.name.clone());
            }
            ReindexObjectType::ReindexObjectSystem | ReindexObjectType::ReindexObjectDatabase => {
                self.named(Effect::Maintenance, "database", reindex.name.clone());
            }
            ReindexObjectType::Undefined => self.unknown(),
        }
    }

    /// On everything that the role may touch.
    pub(super) fn maintain_all(&mut self) {
        self.add(Effect::Maintenance, Object::Any, false);
    }

    fn maintain(&mut self, relation: Option<&'t RangeVar>) {
        match relation {
            Some(relation) => self.touch(relation, Effect::Maintenance),
            None => self.unknown(),
        }
    }

    pub(super) fn lock(&mut self, lock: &'t LockStmt) {
        for node in &lock.relations {
            match node.node.as_ref().map(|node| node.to_ref()) {
                Some(NodeRef::RangeVar(relation)) => self.touch(relation, Effect::Lock),
                _ => self.unknown(),
            }
        }
    }
}

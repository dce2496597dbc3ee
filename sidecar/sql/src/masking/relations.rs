//! Which columns of a relation are masked, and which functions hide where their output is from.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use chaperone_policy::{Access, Effect, Object};
use pg_query::protobuf::FuncCall;

use super::safe;
use super::tree::{builtin_name, last_name};
use crate::Relation;
use crate::classification::Context;
use crate::functions::{Builtin, builtin, is_information_schema_helper};

/// How much of a masked column a name may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    /// None.
    #[default]
    Clean,
    /// A masked value that may be compared (`predicates: Allow`).
    Comparable,
    /// A masked value that may not.
    Masked,
}

/// The masked columns of one relation.
#[derive(Debug, Default)]
pub(super) struct RelationMask {
    /// Every column, system columns too.
    pub(super) columns: HashMap<String, Level>,
    /// The types of its own columns, by `pg_type.oid`.
    pub(super) types: HashMap<String, u32>,
    /// The greatest level of a column: what the whole row carries.
    pub(super) row: Level,
    /// Its own columns are masked, not only what stands behind it.
    pub(super) named: bool,
}

/// PostgreSQL, System Columns.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Masks of all relations, looked up once a statement.
pub(super) struct RelationMasks<'c> {
    context: &'c Context<'c>,
    accesses: &'c [Access],
    children: HashMap<u32, Vec<u32>>,
    known: RefCell<HashMap<u32, Rc<RelationMask>>>,
}

impl<'c> RelationMasks<'c> {
    pub(super) fn new(context: &'c Context<'c>, accesses: &'c [Access]) -> RelationMasks<'c> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for relation in context.catalog.relations.values() {
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(relation.oid);
            }
        }
        RelationMasks {
            context,
            accesses,
            children,
            known: RefCell::default(),
        }
    }

    /// The masks of a relation: those of every relation that its rows are also read through.
    pub(super) fn of(&self, relation: &Relation) -> Rc<RelationMask> {
        if let Some(mask) = self.known.borrow().get(&relation.oid) {
            return Rc::clone(mask);
        }
        let mask = Rc::new(self.load(relation));
        self.known
            .borrow_mut()
            .insert(relation.oid, Rc::clone(&mask));
        mask
    }

    fn load(&self, relation: &Relation) -> RelationMask {
        let masks = self.context.masks;
        let untraced = !relation.is_traced() && !masks.is_clean_view(relation);
        let family = self.family(relation);
        let mut mask = RelationMask::default();
        for column in &relation.columns {
            let mut level = if untraced {
                Level::Masked
            } else {
                Level::Clean
            };
            for member in &family {
                let (schema, name) = (member.schema.as_str(), member.name.as_str());
                if masks.column(schema, name, &column.name) {
                    mask.named = true;
                    let comparable = masks.predicates_allowed(schema, name, &column.name);
                    level = level.max(if comparable {
                        Level::Comparable
                    } else {
                        Level::Masked
                    });
                }
            }
            mask.row = mask.row.max(level);
            mask.columns.insert(column.name.clone(), level);
            mask.types.insert(column.name.clone(), column.type_oid);
        }
        if untraced {
            mask.row = Level::Masked;
        } else {
            for column in SYSTEM_COLUMNS {
                mask.columns.entry(column.to_owned()).or_default();
            }
        }
        mask
    }

    /// The relation, all it inherits from, all that inherit from it, and all these inherit from:
    /// a row of a child is read through each of its parents, under the parent's names.
    fn family(&self, relation: &Relation) -> Vec<&'c Relation> {
        let catalog = self.context.catalog;
        let mut below = vec![relation.oid];
        let mut seen: HashSet<u32> = below.iter().copied().collect();
        let mut next = 0;
        while let Some(oid) = below.get(next).copied() {
            next += 1;
            let children = self.children.get(&oid).map_or(&[][..], Vec::as_slice);
            below.extend(children.iter().copied().filter(|child| seen.insert(*child)));
        }
        let mut family = below;
        let mut next = 0;
        while let Some(oid) = family.get(next).copied() {
            next += 1;
            let parents = catalog
                .relations
                .get(&oid)
                .map_or(&[][..], |member| &member.parents);
            family.extend(
                parents
                    .iter()
                    .copied()
                    .filter(|parent| seen.insert(*parent)),
            );
        }
        family
            .iter()
            .filter_map(|oid| catalog.relations.get(oid))
            .collect()
    }

    /// Whether some relation in this schema has masked columns of its own.
    pub(super) fn schema_has_masks(&self, schema: &str) -> bool {
        let mut relations = self.context.catalog.relations.values();
        relations.any(|relation| relation.schema == schema && self.of(relation).named)
    }

    /// Computes a value from its arguments and nothing else, whatever function is meant.
    pub(super) fn is_pure(&self, call: &FuncCall) -> bool {
        let name = last_name(&call.funcname);
        if self.runs_as_function(name) {
            return false;
        }
        // That it is one of the visible ones, the accesses have told.
        let extension = || self.is_extension_function(name);
        match builtin_name(&call.funcname) {
            Some(name) => match builtin(name) {
                Builtin::Pure => true,
                Builtin::Absent => extension(),
                Builtin::Effectful => false,
            },
            None => is_information_schema_helper(name) || extension(),
        }
    }

    /// A function not known pure whose output was not declared clean.
    pub(super) fn is_untraced(&self, call: &FuncCall) -> bool {
        let name = last_name(&call.funcname);
        if self.is_pure(call) {
            return false;
        }
        if builtin_name(&call.funcname).is_some_and(safe::is_harmless)
            && !self.is_user_function(name)
        {
            return false;
        }
        let mut meant = self
            .functions_meant()
            .filter(|(_, called)| *called == name)
            .peekable();
        meant.peek().is_none() || meant.any(|(schema, name)| !self.is_declared(schema, name))
    }

    /// A function, an operator's or a cast's included, runs whose output is not known.
    pub(super) fn untraced_function_runs(&self) -> bool {
        self.accesses.iter().any(|access| {
            matches!(
                access.effect,
                Effect::Execute | Effect::Unknown | Effect::UnsafeIo
            ) && match &access.object {
                Object::Function { schema, name } => !self.is_declared(schema, name),
                _ => true,
            }
        })
    }

    /// A function of this name exists outside pg_catalog.
    pub(super) fn is_user_function(&self, name: &str) -> bool {
        self.context
            .catalog
            .functions
            .keys()
            .any(|(_, known)| known == name)
            || self.is_extension_function(name)
    }

    fn is_extension_function(&self, name: &str) -> bool {
        let functions = &self.context.catalog.extension_functions;
        functions.iter().any(|(_, known)| known == name)
    }

    /// An operator of this name exists outside pg_catalog.
    pub(super) fn is_user_operator(&self, name: &str) -> bool {
        self.context
            .catalog
            .operators
            .keys()
            .any(|(_, known)| known == name)
    }

    fn is_declared(&self, schema: &str, name: &str) -> bool {
        (schema == "pg_catalog" && safe::is_harmless(name))
            || self.context.masks.function_unmasked(schema, name)
    }

    fn runs_as_function(&self, name: &str) -> bool {
        self.functions_meant().any(|(_, called)| called == name)
    }

    fn functions_meant(&self) -> impl Iterator<Item = (&'c str, &'c str)> {
        let run = self.accesses.iter().filter(|access| {
            !access.baseline && !matches!(access.effect, Effect::Catalog | Effect::Read)
        });
        run.filter_map(|access| match &access.object {
            Object::Function { schema, name } => Some((schema.as_str(), name.as_str())),
            _ => None,
        })
    }
}

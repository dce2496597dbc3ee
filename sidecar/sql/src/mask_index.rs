//! Which columns are masked for one policy on one catalog.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chaperone_policy::{ColumnMask, Masking, Predicates, Strategy};

use crate::{Catalog, Column, MaskedColumns, Relation};

/// Origins of masked columns, computed once for a policy and a catalog.
#[derive(Debug)]
pub struct MaskIndex {
    masking: Arc<Masking>,
    /// (relation OID, attribute number) → the strictest mask of it, its ancestors and descendants.
    columns: HashMap<(u32, i16), ColumnMask>,
    /// The same by name, for classification.
    names: HashMap<(String, String), HashMap<String, Predicates>>,
    /// Views of nothing masked, by OID.
    clean_views: HashSet<u32>,
}

impl MaskIndex {
    /// The columns that `masking` names in `catalog`, partitions and parents among them.
    pub fn new(masking: &Masking, catalog: &Catalog) -> Self {
        let mut index = Self {
            masking: Arc::new(masking.clone()),
            columns: HashMap::new(),
            names: HashMap::new(),
            clean_views: HashSet::new(),
        };
        if !masking.has_columns() {
            return index;
        }
        let relatives = Relatives::of(catalog);
        for relation in catalog.relations.values() {
            for column in &relation.columns {
                // A partition's rows are its parent's and the other way round: a mask on
                // either is a mask on both.
                let strictest = relatives
                    .of_relation(relation.oid)
                    .into_iter()
                    .filter_map(|oid| catalog.relations.get(&oid))
                    .filter_map(|kin| masking.column(&kin.schema, &kin.name, &column.name))
                    .max_by(|a, b| a.strategy.compare_strictness(b.strategy));
                if let Some(mask) = strictest {
                    index.add(relation, column, mask.clone());
                }
            }
        }
        index.add_generated(catalog);
        let masked = |part: &Relation| index.relation(&part.schema, &part.name);
        index.clean_views = catalog
            .relations
            .values()
            .filter(|view| !masked(view) && catalog.is_clean_view(view, &masked))
            .map(|view| view.oid)
            .collect();
        index
    }

    fn add(&mut self, relation: &Relation, column: &Column, mask: ColumnMask) {
        self.names
            .entry((relation.schema.clone(), relation.name.clone()))
            .or_default()
            .insert(column.name.clone(), mask.predicates);
        self.columns.insert((relation.oid, column.attnum), mask);
    }

    /// A generated column carries what it is made of, under another name. Like any derived value
    /// it is masked whole: part of it may be another part of its source. PostgreSQL lets none be
    /// made of another generated one.
    fn add_generated(&mut self, catalog: &Catalog) {
        for relation in catalog.relations.values() {
            for column in &relation.columns {
                let sources = column.made_of.iter().flatten();
                let masks = sources.filter_map(|source| self.columns.get(&(relation.oid, *source)));
                let strictest = masks
                    .max_by(|a, b| a.strategy.compare_strictness(b.strategy))
                    .cloned();
                if let Some(mut mask) = strictest {
                    if !matches!(mask.strategy, Strategy::Null) {
                        mask.strategy = Strategy::Redact;
                    }
                    let own = self.columns.get(&(relation.oid, column.attnum));
                    if own.is_none_or(|own| own.strategy.compare_strictness(mask.strategy).is_lt())
                    {
                        self.add(relation, column, mask);
                    }
                }
            }
        }
    }

    /// Whether a relation has masked columns.
    pub fn relation(&self, schema: &str, relation: &str) -> bool {
        self.names
            .contains_key(&(schema.to_owned(), relation.to_owned()))
    }

    /// The mask of a column, by relation OID and attribute number.
    pub fn column(&self, relation: u32, attnum: i16) -> Option<&ColumnMask> {
        self.columns.get(&(relation, attnum))
    }
}

impl MaskedColumns for MaskIndex {
    fn any(&self) -> bool {
        self.masking.has_columns()
    }

    fn column(&self, schema: &str, relation: &str, column: &str) -> bool {
        self.names
            .get(&(schema.to_owned(), relation.to_owned()))
            .is_some_and(|columns| columns.contains_key(column))
            // A relation that the catalog does not know yet is matched by the patterns.
            || self.masking.column(schema, relation, column).is_some()
    }

    fn predicates_allowed(&self, schema: &str, relation: &str, column: &str) -> bool {
        self.names
            .get(&(schema.to_owned(), relation.to_owned()))
            .and_then(|columns| columns.get(column).copied())
            .or_else(|| {
                self.masking
                    .column(schema, relation, column)
                    .map(|mask| mask.predicates)
            })
            .is_some_and(|predicates| predicates == Predicates::Allow)
    }

    fn is_clean_view(&self, view: &Relation) -> bool {
        self.clean_views.contains(&view.oid)
    }

    fn function_unmasked(&self, schema: &str, function: &str) -> bool {
        self.masking.function_unmasked(schema, function)
    }
}

/// Parents and children of every relation.
struct Relatives {
    edges: HashMap<u32, Vec<u32>>,
}

impl Relatives {
    fn of(catalog: &Catalog) -> Self {
        let mut edges: HashMap<u32, Vec<u32>> = HashMap::new();
        for relation in catalog.relations.values() {
            for parent in &relation.parents {
                edges.entry(relation.oid).or_default().push(*parent);
                edges.entry(*parent).or_default().push(relation.oid);
            }
        }
        Self { edges }
    }

    /// The relation itself and all it shares rows with.
    fn of_relation(&self, oid: u32) -> HashSet<u32> {
        let mut seen = HashSet::from([oid]);
        let mut waiting = vec![oid];
        while let Some(next) = waiting.pop() {
            for kin in self.edges.get(&next).into_iter().flatten() {
                if seen.insert(*kin) {
                    waiting.push(*kin);
                }
            }
        }
        seen
    }
}

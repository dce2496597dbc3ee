//! The facts of a database from the text that makes it: `pg_dump --schema-only`, or migrations.
//!
//! For trying policies out where no database is. Relations with their columns, partitions,
//! functions and schemas are taken; operators, casts and extensions are not, so a statement that
//! runs one of those may be told here as less than it is.

use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, CreateStmt, Node, ObjectType, RangeVar};

use crate::parse::{ParseError, Statement, parse};
use crate::{Catalog, Column, Function, Relation, RelationKind};

/// The schema of what names none, until the text sets a search path.
const PUBLIC: &str = "public";
/// First OID of what is not built in (PostgreSQL, FirstNormalObjectId).
const FIRST_OID: u32 = 16_384;
/// `text`: what is masked does not depend on types here.
const TEXT_OID: u32 = 25;

/// Reads the CREATE and ALTER TABLE statements of a text; others are passed over, and so are
/// psql's own commands and the rows of COPY.
///
/// # Errors
/// Where PostgreSQL's grammar does not take the rest.
pub fn catalog_of_schema(text: &str) -> Result<Catalog, ParseError> {
    let script = parse(&without_psql(text))?;
    let mut reader = Reader::default();
    for statement in script.statements.iter() {
        reader.statement(statement);
    }
    Ok(reader.finish())
}

/// The text without what only psql reads: its `\` commands, and the rows after COPY … FROM stdin.
fn without_psql(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rows = false;
    for line in text.lines() {
        let start = line.trim_start();
        if rows {
            rows = start != "\\.";
            continue;
        }
        if start.starts_with('\\') {
            continue;
        }
        let upper = start.to_ascii_uppercase();
        if upper.starts_with("COPY ") && upper.trim_end().ends_with("FROM STDIN;") {
            rows = true;
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

impl Catalog {
    /// Adds a table of these columns, unless a relation of this name is there.
    pub fn assume_relation(&mut self, schema: &str, name: &str, columns: &[String]) {
        let key = (schema.to_owned(), name.to_owned());
        if self.by_name.contains_key(&key) {
            return;
        }
        let newest = self.relations.keys().max();
        let oid = newest.map_or(FIRST_OID, |oid| oid.saturating_add(1));
        let mut relation = Relation {
            oid,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: RelationKind::Table,
            columns: Vec::new(),
            parents: Vec::new(),
            owner_table: None,
            has_rules: false,
            definition: None,
        };
        for column in columns {
            add_column(&mut relation, column.clone());
        }
        self.by_name.insert(key, oid);
        self.relations.insert(oid, relation);
    }
}

struct Reader {
    catalog: Catalog,
    next: u32,
    /// Where an unqualified name goes.
    schema: String,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            catalog: Catalog {
                generation: 1,
                schemas: vec![PUBLIC.to_owned()],
                ..Catalog::default()
            },
            next: FIRST_OID,
            schema: PUBLIC.to_owned(),
        }
    }
}

impl Reader {
    fn statement(&mut self, statement: &Statement) {
        let Some(node) = statement.node() else {
            return;
        };
        match node {
            NodeEnum::CreateSchemaStmt(made) => self.schema_named(&made.schemaname),
            NodeEnum::CreateStmt(made) => {
                let kind = match made.partspec {
                    Some(_) => RelationKind::PartitionedTable,
                    None => RelationKind::Table,
                };
                self.table(made, kind);
            }
            NodeEnum::CreateForeignTableStmt(made) => {
                if let Some(base) = &made.base_stmt {
                    self.table(base, RelationKind::ForeignTable);
                }
            }
            NodeEnum::ViewStmt(made) => {
                let columns = match names(&made.aliases) {
                    given if given.is_empty() => outputs(made.query.as_deref()),
                    given => given,
                };
                self.relation(made.view.as_ref(), RelationKind::View, columns);
            }
            NodeEnum::CreateTableAsStmt(made) => {
                if let Some(into) = &made.into {
                    let kind = match made.objtype() {
                        ObjectType::ObjectMatview => RelationKind::MaterializedView,
                        _ => RelationKind::Table,
                    };
                    let columns = match names(&into.col_names) {
                        given if given.is_empty() => outputs(made.query.as_deref()),
                        given => given,
                    };
                    self.relation(into.rel.as_ref(), kind, columns);
                }
            }
            NodeEnum::CreateSeqStmt(made) => {
                let oid = self.relation(made.sequence.as_ref(), RelationKind::Sequence, Vec::new());
                self.owned(oid, &made.options);
            }
            NodeEnum::AlterSeqStmt(made) => {
                let oid = made.sequence.as_ref().and_then(|name| self.find(name));
                self.owned(oid, &made.options);
            }
            NodeEnum::AlterTableStmt(made) => {
                let oid = made.relation.as_ref().and_then(|name| self.find(name));
                if let Some(oid) = oid {
                    self.altered(oid, &made.cmds);
                }
            }
            NodeEnum::CreateFunctionStmt(made) => {
                self.function(
                    &names(&made.funcname),
                    if made.is_procedure { 'p' } else { 'f' },
                );
            }
            NodeEnum::VariableSetStmt(set) if set.name == "search_path" => {
                let path = set.args.iter().filter_map(constant);
                let first = path.into_iter().find(|schema| {
                    !schema.is_empty() && *schema != "pg_catalog" && *schema != "$user"
                });
                self.schema = first.unwrap_or(PUBLIC).to_owned();
            }
            _ => {}
        }
    }

    fn schema_named(&mut self, name: &str) {
        if !name.is_empty() && !self.catalog.schemas.iter().any(|known| known == name) {
            self.catalog.schemas.push(name.to_owned());
        }
    }

    fn key(&self, relation: &RangeVar) -> (String, String) {
        let schema = match relation.schemaname.as_str() {
            "" => self.schema.as_str(),
            schema => schema,
        };
        (schema.to_owned(), relation.relname.clone())
    }

    fn find(&self, relation: &RangeVar) -> Option<u32> {
        self.catalog.by_name.get(&self.key(relation)).copied()
    }

    fn relation(
        &mut self,
        name: Option<&RangeVar>,
        kind: RelationKind,
        columns: Vec<String>,
    ) -> Option<u32> {
        let (schema, name) = self.key(name?);
        self.schema_named(&schema);
        let oid = self.next;
        self.next = self.next.checked_add(1)?;
        let mut relation = Relation {
            oid,
            schema: schema.clone(),
            name: name.clone(),
            kind,
            columns: Vec::new(),
            parents: Vec::new(),
            owner_table: None,
            has_rules: false,
            definition: None,
        };
        for column in columns {
            add_column(&mut relation, column);
        }
        // CREATE OR REPLACE: the later one counts.
        if let Some(before) = self.catalog.by_name.insert((schema, name), oid) {
            self.catalog.relations.remove(&before);
        }
        self.catalog.relations.insert(oid, relation);
        Some(oid)
    }

    fn table(&mut self, made: &CreateStmt, kind: RelationKind) {
        let mut columns = Vec::new();
        let mut serials = Vec::new();
        for element in &made.table_elts {
            if let Some(NodeEnum::ColumnDef(column)) = &element.node {
                columns.push(column.colname.clone());
                let type_name = column.type_name.as_ref().map(|made| names(&made.names));
                let type_name = type_name.and_then(|names| names.last().cloned());
                if type_name.is_some_and(|name| name.contains("serial")) {
                    serials.push(column.colname.clone());
                }
            }
        }
        let parents: Vec<u32> = made
            .inh_relations
            .iter()
            .filter_map(|parent| match &parent.node {
                Some(NodeEnum::RangeVar(parent)) => self.find(parent),
                _ => None,
            })
            .collect();
        let Some(oid) = self.relation(made.relation.as_ref(), kind, columns) else {
            return;
        };
        for parent in parents {
            self.inherit(oid, parent);
        }
        for column in serials {
            let sequence = made.relation.as_ref().map(|table| RangeVar {
                relname: format!("{}_{column}_seq", table.relname),
                ..table.clone()
            });
            let sequence = self.relation(sequence.as_ref(), RelationKind::Sequence, Vec::new());
            self.own(sequence, oid);
        }
    }

    /// A child has its parent's columns, those it names itself and more.
    fn inherit(&mut self, child: u32, parent: u32) {
        let inherited: Vec<String> = match self.catalog.relations.get(&parent) {
            Some(parent) => parent.columns.iter().map(|c| c.name.clone()).collect(),
            None => return,
        };
        if let Some(child) = self.catalog.relations.get_mut(&child) {
            if !child.parents.contains(&parent) {
                child.parents.push(parent);
            }
            for column in inherited {
                add_column(child, column);
            }
        }
    }

    fn altered(&mut self, oid: u32, commands: &[Node]) {
        for command in commands {
            let Some(NodeEnum::AlterTableCmd(command)) = &command.node else {
                continue;
            };
            let def = command.def.as_ref().and_then(|def| def.node.as_ref());
            match (command.subtype(), def) {
                (AlterTableType::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => {
                    if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                        add_column(relation, column.colname.clone());
                    }
                }
                (AlterTableType::AtAttachPartition, Some(NodeEnum::PartitionCmd(attached))) => {
                    if let Some(child) = attached.name.as_ref().and_then(|name| self.find(name)) {
                        self.inherit(child, oid);
                    }
                }
                (AlterTableType::AtAddInherit, Some(NodeEnum::RangeVar(parent))) => {
                    if let Some(parent) = self.find(parent) {
                        self.inherit(oid, parent);
                    }
                }
                _ => {}
            }
        }
    }

    /// OWNED BY schema.table.column.
    fn owned(&mut self, sequence: Option<u32>, options: &[Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else {
                continue;
            };
            let arg = option.arg.as_ref().and_then(|arg| arg.node.as_ref());
            let ("owned_by", Some(NodeEnum::List(list))) = (option.defname.as_str(), arg) else {
                continue;
            };
            let named = names(&list.items);
            let (schema, table) = match named.as_slice() {
                [schema, table, _] => (schema.clone(), table.clone()),
                [table, _] => (self.schema.clone(), table.clone()),
                _ => continue,
            };
            if let Some(table) = self.catalog.by_name.get(&(schema, table)).copied() {
                self.own(sequence, table);
            }
        }
    }

    fn own(&mut self, sequence: Option<u32>, table: u32) {
        if let Some(sequence) = sequence.and_then(|oid| self.catalog.relations.get_mut(&oid)) {
            sequence.owner_table = Some(table);
        }
    }

    fn function(&mut self, named: &[String], kind: char) {
        let (schema, name) = match named {
            [schema, name] => (schema.clone(), name.clone()),
            [name] => (self.schema.clone(), name.clone()),
            _ => return,
        };
        let oid = self.next;
        self.next = self.next.saturating_add(1);
        let overloads = self.catalog.functions.entry((schema, name)).or_default();
        overloads.push(Function { oid, kind });
    }

    fn finish(self) -> Catalog {
        self.catalog
    }
}

fn add_column(relation: &mut Relation, name: String) {
    if relation.columns.iter().any(|column| column.name == name) {
        return;
    }
    let Ok(attnum) = i16::try_from(relation.columns.len() + 1) else {
        return;
    };
    relation.columns.push(Column {
        attnum,
        name,
        type_oid: TEXT_OID,
        made_of: None,
    });
}

/// The texts of a list of names.
fn names(nodes: &[Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(NodeEnum::String(text)) => Some(text.sval.clone()),
            _ => None,
        })
        .collect()
}

fn constant(node: &Node) -> Option<&str> {
    use pg_query::protobuf::a_const::Val;
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(text.sval.as_str()),
            _ => None,
        },
        _ => None,
    }
}

/// Names of a query's columns, as far as they are written out.
fn outputs(query: Option<&Node>) -> Vec<String> {
    let Some(NodeEnum::SelectStmt(select)) = query.and_then(|query| query.node.as_ref()) else {
        return Vec::new();
    };
    let named = select.target_list.iter().filter_map(|target| {
        let Some(NodeEnum::ResTarget(target)) = &target.node else {
            return None;
        };
        if !target.name.is_empty() {
            return Some(target.name.clone());
        }
        match target.val.as_ref().and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) => names(&column.fields).pop(),
            _ => None,
        }
    });
    named.collect()
}

#[cfg(test)]
mod tests;

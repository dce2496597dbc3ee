//! COPY in all its forms.

use std::collections::BTreeMap;

use chaperone_policy::{Effect, Object};
use pg_query::protobuf::{CopyStmt, a_const};
use pg_query::{Node, NodeEnum, NodeRef};

use super::Effects;
use super::object::strings;
use crate::{CopyDirection, CopyFormat, Kind};

impl<'t> Effects<'t> {
    pub(super) fn copy(&mut self, node: NodeRef<'t>, copy: &'t CopyStmt) {
        let (through, in_bulk) = if copy.is_from {
            (Effect::Write, Effect::BulkLoad)
        } else {
            (Effect::Read, Effect::BulkExport)
        };
        let with_client = copy.filename.is_empty() && !copy.is_program;
        let mut relation = None;
        if let Some(target) = &copy.relation {
            self.touch(target, through);
            if with_client {
                self.touch(target, in_bulk);
            }
            let found = self.names.relation(&target.schemaname, &target.relname);
            relation = Some(match found {
                Some(found) => (found.schema, found.name),
                None => (target.schemaname.clone(), target.relname.clone()),
            });
        }
        let before = std::mem::take(&mut self.accesses);
        self.visit_others(node, &["relation"]);
        if with_client && copy.query.is_some() {
            self.export_what_was_read();
        }
        self.accesses.extend(before);
        if !with_client {
            let kind = if copy.is_program { "program" } else { "file" };
            return self.named(Effect::UnsafeIo, kind, copy.filename.clone());
        }
        let options = options(copy);
        // In another encoding a backslash or a quote may be half of a letter: rows cannot be read.
        if options.get("encoding").is_some_and(|name| !is_utf8(name)) {
            self.unknown();
        }
        let direction = if copy.is_from {
            CopyDirection::In
        } else {
            CopyDirection::Out
        };
        let kind = Kind::Copy {
            direction,
            format: format(&options),
            relation,
            columns: strings(&copy.attlist)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            options,
        };
        self.set_kind(node, kind);
    }

    /// COPY (query): every relation that the query reads is exported. One that reads none is
    /// judged by what else it does.
    fn export_what_was_read(&mut self) {
        let read: Vec<Object> = self
            .accesses
            .iter()
            .filter(|access| matches!(access.effect, Effect::Read | Effect::Catalog))
            .map(|access| access.object.clone())
            .collect();
        if read.is_empty() {
            self.add(Effect::BulkExport, Object::Session, true);
        }
        for object in read {
            self.add(Effect::BulkExport, object, false);
        }
    }
}

fn options(copy: &CopyStmt) -> BTreeMap<String, String> {
    copy.options
        .iter()
        .filter_map(|node| match node.node.as_ref()? {
            NodeEnum::DefElem(option) => Some((
                option.defname.to_lowercase(),
                option.arg.as_deref().map(value).unwrap_or_default(),
            )),
            _ => None,
        })
        .collect()
}

/// An option's value as text; lists are joined with commas.
fn value(node: &Node) -> String {
    match node.node.as_ref() {
        Some(NodeEnum::String(text)) => text.sval.clone(),
        Some(NodeEnum::Integer(number)) => number.ival.to_string(),
        Some(NodeEnum::Float(number)) => number.fval.clone(),
        Some(NodeEnum::Boolean(value)) => value.boolval.to_string(),
        Some(NodeEnum::AStar(_)) => "*".to_owned(),
        Some(NodeEnum::TypeName(name)) => strings(&name.names).join("."),
        Some(NodeEnum::List(list)) => {
            let values: Vec<String> = list.items.iter().map(value).collect();
            values.join(",")
        }
        Some(NodeEnum::AConst(constant)) => match constant.val.as_ref() {
            Some(a_const::Val::Sval(text)) => text.sval.clone(),
            Some(a_const::Val::Ival(number)) => number.ival.to_string(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn is_utf8(encoding: &str) -> bool {
    matches!(
        encoding.to_ascii_lowercase().as_str(),
        "utf8" | "utf-8" | "utf_8" | "unicode"
    )
}

/// The server refuses a format it does not know; until then it is taken for the one that cannot
/// be read.
fn format(options: &BTreeMap<String, String>) -> CopyFormat {
    match options.get("format").map(String::as_str) {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some(_) => CopyFormat::Binary,
    }
}

//! Rows and COPY data on their way to the agent: origins checked, values masked, limits kept.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chaperone_enforce::Denial;
use chaperone_mask::Wire;
use chaperone_policy::{Object, Reason};
use chaperone_sql::{Catalog, Kind, MaskedColumns, Overlay};

use super::copy::{CopyMask, CopyMasks};
use super::engine::{Engine, Fault};
use super::expect::CopyRun;
use super::large::LARGE;
use super::masks::{
    ColumnPlan, MaskIndex, Plan, ResultField, Treatment, fields_of, is_new_column, plan,
};
use super::statements::{Classified, Environment};
use super::values::{Cell as Treated, Masks};
use crate::codec::backend::tag;
use crate::codec::{Backend, Cell, Format, Frame, frame, rewrite};

/// Partial masks remembered per session.
const PARTIAL_MARKS: usize = 100_000;
/// Columns named in the record of what was masked.
const NAMED: usize = 32;
/// `pg_type.oid` of text.
const TEXT: u32 = 25;

/// What a partial mask is remembered by.
pub(crate) fn mark_hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Engine<'_> {
    /// RowDescription of a simple Query.
    pub(crate) fn result_begins(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Backend::RowDescription(description) =
            Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))?
        else {
            return Ok(());
        };
        let fields: Arc<[ResultField]> = fields_of(&description).into();
        if self.plan_result(&fields, &Arc::from([]))? {
            self.emit(&frame.raw);
        }
        Ok(())
    }

    /// Plans the result of the command that runs. False when it is withheld.
    fn plan_result(
        &mut self,
        fields: &Arc<[ResultField]>,
        formats: &Arc<[Format]>,
    ) -> Result<bool, Fault> {
        let Some(running) = self.expected.running() else {
            return Err(Fault::new(
                Reason::TargetProtocol,
                "rows that nothing asked for",
            ));
        };
        let batch = Arc::clone(&running.batch);
        let Some(classified) = batch.statements.get(running.statement).cloned() else {
            return Err(Fault::new(
                Reason::TargetProtocol,
                "more results than statements",
            ));
        };
        // Masks are those of now: a prepared statement or cursor may be older than the policy.
        let environment = self.current_environment();
        if environment.masks.any() && self.is_altered_elsewhere() {
            self.withhold(altered_elsewhere());
            return Ok(false);
        }
        let (decided_on, known) = self.decided_on(&classified);
        if let Err(what) = origins_decided(fields, &decided_on, &environment.catalog) {
            self.names_stale = true;
            self.withhold(Denial::new(
                Reason::CatalogChanged,
                format!("the result comes from {what}, which this statement was not decided on"),
            ));
            return Ok(false);
        }
        let touches = (!known && environment.masks.any())
            || decided_on.iter().any(|one| may_touch(one, &environment));
        self.names_stale |= fields
            .iter()
            .any(|field| is_new_column(field, &environment.catalog));
        let detectors = self.masks.detectors.as_deref();
        let planned = Arc::new(plan(
            fields,
            formats,
            touches,
            &environment.masks,
            (&environment.catalog, &self.overlay),
            detectors,
        ));
        let record_plan = self.observes().then(|| {
            Arc::new(plan(
                fields,
                formats,
                true,
                &environment.record_masks,
                (&environment.catalog, &self.overlay),
                self.record_masks.detectors.as_deref(),
            ))
        });
        if let Some(running) = self.expected.running() {
            running.fields = Some((Arc::clone(fields), Arc::clone(formats)));
            running.plan = Some(planned);
            running.record_plan = record_plan;
        }
        Ok(true)
    }

    /// The statements whose relations a result may come from: its own, and for FETCH the
    /// cursor's query; and whether those are sure to be all.
    fn decided_on(&self, classified: &Arc<Classified>) -> (Vec<Arc<Classified>>, bool) {
        let mut statements = vec![Arc::clone(classified)];
        let Kind::Fetch { name } = &classified.class.kind else {
            return (statements, true);
        };
        // Its rows come now, so what the server has under this name now is what they are of.
        let Some(open) = self.names.open_there(name) else {
            return (statements, false);
        };
        statements.extend(open.batch().statements.iter().cloned());
        (statements, !self.names.is_doubtful_there(open))
    }

    pub(crate) fn data_row(&mut self, frame: &Frame) -> Result<(), Fault> {
        // A result that was withheld has no plan: its rows are on their way all the same.
        if self.swallowing {
            return Ok(());
        }
        let planned = match self.expected.running() {
            None => {
                return Err(Fault::new(
                    Reason::TargetProtocol,
                    "a row that nothing asked for",
                ));
            }
            Some(running) => running.plan.clone(),
        };
        let planned = match planned {
            Some(planned) => planned,
            None => match self.plan_again()? {
                Some(planned) => planned,
                None => return Ok(()),
            },
        };
        if !self.count_rows(1) {
            return Ok(());
        }
        self.pass_row(frame, &planned)
    }

    /// The plan of rows that come without a description: an Execute's, for which the one asked
    /// for before its Bind serves, or those of a result under way when the policy changed.
    fn plan_again(&mut self) -> Result<Option<Arc<Plan>>, Fault> {
        let undescribed = || Fault::new(Reason::TargetProtocol, "rows without a description");
        let running = self.expected.running().ok_or_else(undescribed)?;
        let known = running.fields.clone().or_else(|| {
            let portal = running.portal.as_ref()?;
            let fields = portal.described.fields.get()?.as_ref()?;
            Some((Arc::clone(fields), Arc::clone(&portal.formats)))
        });
        let (fields, formats) = known.ok_or_else(undescribed)?;
        if !self.plan_result(&fields, &formats)? {
            return Ok(None);
        }
        Ok(self
            .expected
            .running()
            .and_then(|running| running.plan.clone()))
    }

    /// Passes on all rows, or COPY data, at the front of what the server has sent at once, where
    /// nothing is done to them. False where the next message must be looked at by itself.
    pub(crate) fn pass_run(&mut self) -> bool {
        let front = self.server_buffer.as_slice();
        let Some(tag) = front.first().copied() else {
            return false;
        };
        let Some(running) = self.expected.running().filter(|_| !self.swallowing) else {
            return false;
        };
        let untouched = match (tag, &running.copy) {
            (tag::DATA_ROW, _) => {
                running.record_plan.is_none()
                    && running.plan.as_ref().is_some_and(|plan| plan.untouched)
            }
            (tag::COPY_DATA, Some(CopyRun::Out(copy))) => {
                copy.agent.untouched && copy.record.is_none()
            }
            _ => false,
        };
        if !untouched {
            return false;
        }
        let (count, length) = frame::run(front, tag, LARGE);
        let limit = self.flow.policy().limits().rows_per_statement;
        // The row that is one too many is found one by one.
        let before = self.add_rows(0).unwrap_or_default();
        if count == 0 || limit.is_some_and(|limit| before.saturating_add(count) > limit) {
            return false;
        }
        self.add_rows(count);
        let rows = self.server_buffer.bytes_mut().split_to(length);
        self.out.extend_from_slice(&rows);
        if let Some(running) = self.expected.running() {
            running.bytes = running.bytes.saturating_add(length as u64);
        }
        true
    }

    /// Counts rows; false once the limit has stopped the result.
    fn count_rows(&mut self, count: u64) -> bool {
        let Some(rows) = self.add_rows(count) else {
            return false;
        };
        let limit = self.flow.policy().limits().rows_per_statement;
        match limit {
            Some(limit) if rows > limit => {
                self.withhold(
                    Denial::new(
                        Reason::LimitExceeded,
                        format!("the result has more than the {limit} rows that the policy allows"),
                    )
                    .with_hint("ask for fewer rows: LIMIT, or a narrower WHERE"),
                );
                false
            }
            _ => true,
        }
    }

    /// Adds to the rows of the command that runs, and gives how many its limit is to be held
    /// against: those of all Executes of its portal, of all FETCHes of its cursor.
    fn add_rows(&mut self, count: u64) -> Option<u64> {
        let running = self.expected.running()?;
        running.rows = running.rows.saturating_add(count);
        let mut rows = running.rows;
        if let Some(portal) = &running.portal {
            rows = portal
                .rows
                .fetch_add(count, Ordering::Relaxed)
                .saturating_add(count);
        }
        let fetched =
            running.batch.statements.get(running.statement).and_then(
                |classified| match &classified.class.kind {
                    Kind::Fetch { name } => Some(name.clone()),
                    _ => None,
                },
            );
        if let Some(open) = fetched.and_then(|name| self.names.open_there(&name)) {
            let fetched = open.rows().fetch_add(count, Ordering::Relaxed);
            rows = rows.max(fetched.saturating_add(count));
        }
        Some(rows)
    }

    fn pass_row(&mut self, frame: &Frame, planned: &Arc<Plan>) -> Result<(), Fault> {
        let record_plan = self
            .expected
            .running()
            .and_then(|running| running.record_plan.clone());
        let start = self.out.len();
        let mut masked = 0_u64;
        if planned.untouched {
            self.out.extend_from_slice(&frame.raw);
        } else {
            masked = self.rewrite_row(frame, planned)?;
        }
        if let Some(record_plan) = record_plan {
            // Only DryRun policies select: the agent sees all, the record does not.
            let mut copy = bytes::BytesMut::new();
            let masks = self.record_masks.clone();
            rewrite(
                &frame.raw,
                &mut copy,
                &mut self.scratch,
                |index, value, out| cell(&masks, record_plan.columns.get(index), value, out),
            )
            .map_err(|error| Fault::target_protocol(&error))?;
            self.substitute(start, copy.freeze());
        }
        let length = self.out.len().saturating_sub(start) as u64;
        if let Some(running) = self.expected.running() {
            running.bytes = running.bytes.saturating_add(length);
            if masked > 0 {
                if running.masked == 0 {
                    running.masked_by = masked_columns(planned);
                }
                running.masked = running.masked.saturating_add(masked);
            }
        }
        Ok(())
    }

    fn rewrite_row(&mut self, frame: &Frame, planned: &Plan) -> Result<u64, Fault> {
        let mut masked = 0_u64;
        let masks = &self.masks;
        let partial_marks = &mut self.partial_marks;
        rewrite(
            &frame.raw,
            &mut self.out,
            &mut self.scratch,
            |index, value, out| {
                let column = planned.columns.get(index);
                let treated = cell(masks, column, value, out);
                if treated != Cell::Keep {
                    masked = masked.saturating_add(1);
                    let partial = column.is_some_and(Masks::is_partial);
                    if partial && treated == Cell::Replace && partial_marks.len() < PARTIAL_MARKS {
                        partial_marks.insert(mark_hash(out));
                    }
                }
                treated
            },
        )
        .map_err(|error| Fault::target_protocol(&error))?;
        Ok(masked)
    }

    pub(crate) fn copy_in_begins(&mut self, frame: &Frame) -> Result<(), Fault> {
        let allowed = self.expected.running().is_some_and(|running| {
            running.copy = Some(CopyRun::In { open: true });
            running
                .batch
                .statements
                .get(running.statement)
                .is_some_and(|statement| statement.is_copy_in())
        });
        if !allowed {
            return Err(Fault::new(
                Reason::TargetProtocol,
                "the server asks for COPY data that no statement announced",
            ));
        }
        self.copy_tail.clear();
        if self.expected.forget_syncs_behind_front() {
            self.pipeline_open = true;
        }
        if let Some(denial) = self.refused_meanwhile() {
            return self.end_copy(denial);
        }
        self.emit(&frame.raw);
        Ok(())
    }

    pub(crate) fn copy_out_begins(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Backend::CopyOutResponse(response) =
            Backend::parse(frame.as_ref()).map_err(|error| Fault::target_protocol(&error))?
        else {
            return Ok(());
        };
        let columns = response.columns.len();
        if self.current_environment().masks.any() && self.is_altered_elsewhere() {
            self.withhold(altered_elsewhere());
            return Ok(());
        }
        match self.plan_copy(columns)? {
            Some(copy) => {
                if let Some(running) = self.expected.running() {
                    running.copy = Some(CopyRun::Out(copy));
                }
                self.emit(&frame.raw);
            }
            None => self.withhold(unmaskable_copy()),
        }
        if let Some(denial) = self.refused_meanwhile() {
            self.withhold(denial);
        }
        Ok(())
    }

    /// The refusal of a COPY that begins under another policy than it was forwarded under.
    fn refused_meanwhile(&mut self) -> Option<Denial> {
        let generation = self.flow.generation();
        let running = self.expected.running()?;
        if running.generation == generation {
            return None;
        }
        let (batch, intent) = (Arc::clone(&running.batch), running.intent);
        let decision = self.no_longer_allowed(&batch)?;
        Some(Denial::from_decision(
            &decision,
            self.flow.id(),
            Some(intent),
        ))
    }

    /// What happens to the data of the COPY TO STDOUT that is answered now. `None`: it cannot be
    /// masked.
    fn plan_copy(&mut self, count: usize) -> Result<Option<CopyMasks>, Fault> {
        let classified = self
            .expected
            .running()
            .and_then(|running| running.batch.statements.get(running.statement).cloned());
        let environment = self.current_environment();
        // Columns that were altered meanwhile may have changed places.
        let known = !self.names_stale;
        let agents = classified.as_ref().and_then(|classified| {
            let touches = may_touch(classified, &environment);
            plan_copy(
                classified,
                &environment,
                &environment.masks,
                self.masks.detectors.as_deref(),
                (touches, known),
                count,
            )
        });
        let unasked = || Fault::new(Reason::TargetProtocol, "COPY data that nothing asked for");
        let classified = classified.ok_or_else(unasked)?;
        if !matches!(classified.class.kind, Kind::Copy { .. }) {
            return Err(unasked());
        }
        let record = self.observes().then(|| {
            plan_copy(
                &classified,
                &environment,
                &environment.record_masks,
                self.record_masks.detectors.as_deref(),
                (environment.record_masks.any(), known),
                count,
            )
        });
        Ok(agents.map(|agent| CopyMasks {
            agent,
            record,
            columns: count,
        }))
    }

    /// The policy has changed under a COPY TO STDOUT that may go on: by the masks of now.
    pub(crate) fn replan_copy(&mut self) -> Result<(), Fault> {
        let Some(running) = self.expected.running() else {
            return Ok(());
        };
        let Some(CopyRun::Out(copy)) = &running.copy else {
            return Ok(());
        };
        let (columns, begun) = (copy.columns, running.rows > 0);
        match self.plan_copy(columns)? {
            Some(mut copy) => {
                if begun {
                    copy.begun();
                }
                if let Some(running) = self.expected.running() {
                    running.copy = Some(CopyRun::Out(copy));
                }
            }
            None => self.withhold(unmaskable_copy()),
        }
        Ok(())
    }

    pub(crate) fn copy_data_out(&mut self, frame: &Frame) -> Result<(), Fault> {
        if self.swallowing || !self.count_rows(1) {
            return Ok(());
        }
        let from = self.out.len();
        let running = self.expected.running();
        let Some((CopyRun::Out(copy), bytes, masked, by)) = running.and_then(|running| {
            Some((
                running.copy.as_mut()?,
                &mut running.bytes,
                &mut running.masked,
                &mut running.masked_by,
            ))
        }) else {
            return Err(Fault::new(
                Reason::TargetProtocol,
                "COPY data that nothing asked for",
            ));
        };
        *bytes = bytes.saturating_add(frame.raw.len() as u64);
        let replaced = copy.agent.pass(frame, &self.masks, &mut self.out);
        *masked = masked.saturating_add(replaced);
        if replaced > 0 && by.is_empty() {
            *by = vec!["COPY".to_owned()];
        }
        let instead = copy.record.as_mut().map(|record| {
            let mut instead = bytes::BytesMut::new();
            // What cannot be masked is not recorded.
            if let Some(record) = record {
                record.pass(frame, &self.record_masks, &mut instead);
            }
            instead.freeze()
        });
        if let Some(instead) = instead {
            self.substitute(from, instead);
        }
        Ok(())
    }
}

fn altered_elsewhere() -> Denial {
    Denial::new(
        Reason::CatalogChanged,
        "another session altered relations while this ran, so it is not known what its rows are",
    )
    .with_hint("run it again")
}

fn unmaskable_copy() -> Denial {
    Denial::new(
        Reason::MaskUnsupported,
        "COPY in binary format, or in another encoding than UTF8, cannot be masked",
    )
}

/// Whether a statement may show a masked relation. What it was found to touch under another
/// policy says nothing about the masks of now.
fn may_touch(classified: &Classified, environment: &Environment) -> bool {
    classified.class.masking.touches_masked
        || (environment.masks.any() && classified.environment.policy != environment.policy)
}

fn plan_copy(
    classified: &Classified,
    environment: &Environment,
    masks: &MaskIndex,
    detectors: Option<&chaperone_mask::Detectors>,
    (touches, known): (bool, bool),
    count: usize,
) -> Option<CopyMask> {
    let Kind::Copy {
        format,
        relation,
        columns,
        options,
        ..
    } = &classified.class.kind
    else {
        return None;
    };
    let plain = !touches && detectors.is_none();
    if !plain && super::copy::unmaskable(*format, options).is_some() {
        return None;
    }
    let planned = match relation {
        _ if plain => Some(vec![ColumnPlan::pass(); count]),
        _ if touches && !known => None,
        Some((schema, name)) => {
            let fields = copied_fields(environment, schema, name, columns);
            fields.map(|fields| {
                plan(
                    &fields,
                    &[],
                    touches,
                    masks,
                    (&environment.catalog, &Overlay::default()),
                    detectors,
                )
                .columns
            })
        }
        None if touches => None,
        None => Some(vec![
            ColumnPlan {
                treatment: Treatment::Detect,
                type_oid: TEXT,
                wire: Wire::Text,
                name: "COPY".to_owned(),
            };
            count
        ]),
    };
    Some(CopyMask::new(*format, options, planned))
}

fn cell(
    masks: &Masks,
    column: Option<&ColumnPlan>,
    value: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Cell {
    match column {
        Some(column) => match masks.value(column, value, out) {
            Treated::Keep => Cell::Keep,
            Treated::Null => Cell::Null,
            Treated::Replace => Cell::Replace,
        },
        // More cells than columns: nothing is known of this one.
        None => Cell::Null,
    }
}

fn masked_columns(planned: &Plan) -> Vec<String> {
    planned
        .columns
        .iter()
        .filter(|column| column.treatment != Treatment::Pass)
        .take(NAMED)
        .map(|column| column.name.clone())
        .collect()
}

/// The columns of COPY relation [(columns)] TO, as fields of known origin.
fn copied_fields(
    environment: &Environment,
    schema: &str,
    name: &str,
    columns: &[String],
) -> Option<Vec<ResultField>> {
    let catalog = &environment.catalog;
    let oid = catalog.by_name.get(&(schema.to_owned(), name.to_owned()))?;
    let relation = catalog.relations.get(oid)?;
    let field = |column: &chaperone_sql::Column| ResultField {
        name: column.name.clone(),
        table_oid: relation.oid,
        attnum: column.attnum,
        type_oid: column.type_oid,
        format: Format::Text,
    };
    if !columns.is_empty() {
        return columns
            .iter()
            .map(|wanted| {
                relation
                    .columns
                    .iter()
                    .find(|c| c.name == *wanted)
                    .map(field)
            })
            .collect();
    }
    // Generated columns are left out (PostgreSQL, COPY, Parameters).
    let copied = |column: &&chaperone_sql::Column| column.attnum > 0 && column.made_of.is_none();
    let mut all: Vec<_> = relation.columns.iter().filter(copied).collect();
    all.sort_by_key(|column| column.attnum);
    Some(all.into_iter().map(field).collect())
}

/// Every plain column must come from a relation that was decided on, or from a parent or child
/// of one (postgres.md: result origins must be within what was decided on).
fn origins_decided(
    fields: &[ResultField],
    decided_on: &[Arc<Classified>],
    catalog: &Catalog,
) -> Result<(), String> {
    for field in fields.iter().filter(|field| field.table_oid != 0) {
        let Some(relation) = catalog.relations.get(&field.table_oid) else {
            // A relation that this very batch made is not in the catalog yet.
            if decided_on.iter().any(|one| !one.class.overlay.is_empty()) {
                continue;
            }
            return Err(format!(
                "a relation that is not known (OID {})",
                field.table_oid
            ));
        };
        let named = |oid: u32| {
            catalog.relations.get(&oid).is_some_and(|kin| {
                decided_on
                    .iter()
                    .flat_map(|one| &one.class.accesses)
                    .any(|access| {
                        // A session reads no temporary schema but its own, which accesses call so.
                        matches!(&access.object, Object::Relation { schema, name }
                        if *name == kin.name && (*schema == kin.schema
                            || schema == "pg_temp" && kin.schema.starts_with("pg_temp_")))
                    })
            })
        };
        let mut decided = named(relation.oid);
        let mut ancestors = relation.parents.clone();
        while let Some(parent) = ancestors.pop() {
            if decided {
                break;
            }
            decided = named(parent);
            if let Some(relation) = catalog.relations.get(&parent) {
                ancestors.extend(&relation.parents);
            }
        }
        if !decided {
            return Err(format!("{}.{}", relation.schema, relation.name));
        }
    }
    Ok(())
}

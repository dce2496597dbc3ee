//! What is done about each kind of node. Every kind is named: a new one does not compile until
//! somebody decides on it.

use chaperone_policy::{Effect, Object};
use pg_query::NodeRef;
use pg_query::protobuf::a_const;

use super::Effects;
use super::object::{role, split, strings, type_name};
use super::routine::OpClassItem;
use crate::SessionChange;

impl<'t> Effects<'t> {
    /// Decides on a node and what is below it.
    pub(super) fn visit(&mut self, node: NodeRef<'t>) {
        match node {
            NodeRef::RangeVar(n) => self.read(n),
            NodeRef::SubLink(n) => {
                if n.testexpr.is_some() && n.oper_name.is_empty() {
                    self.operator_named("", "=");
                }
                self.operator(&n.oper_name);
                self.visit_children(node);
            }
            NodeRef::CaseExpr(n) => {
                if n.arg.is_some() {
                    self.operator_named("", "=");
                }
                self.visit_children(node);
            }
            NodeRef::JoinExpr(n) => {
                if n.is_natural || !n.using_clause.is_empty() {
                    self.operator_named("", "=");
                }
                self.visit_children(node);
            }
            NodeRef::ColumnRef(n) => self.column(n),
            NodeRef::AExpr(n) => {
                self.operator_expression(n);
                self.visit_children(node);
            }
            NodeRef::FuncCall(n) => {
                self.call(n);
                self.visit_children(node);
            }
            NodeRef::AIndirection(n) => {
                self.indirection(n);
                self.visit_children(node);
            }
            NodeRef::SortBy(n) => {
                self.operator(&n.use_op);
                self.visit_children(node);
            }
            NodeRef::RangeTableSample(n) => {
                self.sample_method(&n.method);
                self.visit_children(node);
            }
            NodeRef::InsertStmt(n) => self.insert(n),
            NodeRef::DeleteStmt(n) => self.delete(n),
            NodeRef::UpdateStmt(n) => self.update(n),
            NodeRef::MergeStmt(n) => self.merge(n),
            NodeRef::SelectStmt(n) => self.select(n),
            NodeRef::CreateSchemaStmt(n) => self.create_schema(n),
            NodeRef::AlterTableStmt(n) => self.alter_table(n),
            NodeRef::AlterCollationStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "collation", &n.collname, node)
            }
            NodeRef::AlterDomainStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "domain", &n.type_name, node)
            }
            NodeRef::GrantStmt(n) => self.grant(n),
            NodeRef::GrantRoleStmt(n) => self.grant_role(n),
            NodeRef::AlterDefaultPrivilegesStmt(n) => self.default_privileges(n),
            NodeRef::CopyStmt(n) => self.copy(node, n),
            NodeRef::VariableSetStmt(n) => self.set(n),
            NodeRef::VariableShowStmt(n) => self.show(&n.name),
            NodeRef::CreateStmt(n) => self.create_table(n),
            NodeRef::CreateTableSpaceStmt(n) => {
                self.outward_ddl(Effect::SchemaCreate, "tablespace", &n.tablespacename, node)
            }
            NodeRef::DropTableSpaceStmt(n) => {
                self.outward_ddl(Effect::SchemaDestroy, "tablespace", &n.tablespacename, node)
            }
            NodeRef::AlterTableSpaceOptionsStmt(n) => {
                self.named(Effect::SchemaAlter, "tablespace", n.tablespacename.clone())
            }
            NodeRef::AlterTableMoveAllStmt(n) => {
                self.named(
                    Effect::SchemaAlter,
                    "tablespace",
                    n.orig_tablespacename.clone(),
                );
                self.add(Effect::SchemaAlter, Object::Any, false);
            }
            NodeRef::CreateExtensionStmt(n) => {
                self.plain_ddl(Effect::SchemaCreate, "extension", &n.extname, node)
            }
            NodeRef::AlterExtensionStmt(n) => {
                self.plain_ddl(Effect::SchemaAlter, "extension", &n.extname, node)
            }
            NodeRef::AlterExtensionContentsStmt(n) => self.extension_contents(n),
            NodeRef::CreateFdwStmt(n) => self.outward_ddl(
                Effect::SchemaCreate,
                "foreign data wrapper",
                &n.fdwname,
                node,
            ),
            NodeRef::AlterFdwStmt(n) => self.outward_ddl(
                Effect::SchemaAlter,
                "foreign data wrapper",
                &n.fdwname,
                node,
            ),
            NodeRef::CreateForeignServerStmt(n) => {
                self.outward_ddl(Effect::SchemaCreate, "foreign server", &n.servername, node)
            }
            NodeRef::AlterForeignServerStmt(n) => {
                self.outward_ddl(Effect::SchemaAlter, "foreign server", &n.servername, node)
            }
            NodeRef::CreateForeignTableStmt(n) => self.create_foreign_table(n),
            NodeRef::CreateUserMappingStmt(n) => {
                self.named(Effect::Privilege, "user mapping", n.servername.clone())
            }
            NodeRef::AlterUserMappingStmt(n) => {
                self.named(Effect::Privilege, "user mapping", n.servername.clone())
            }
            NodeRef::DropUserMappingStmt(n) => {
                self.named(Effect::Privilege, "user mapping", n.servername.clone())
            }
            NodeRef::ImportForeignSchemaStmt(n) => self.import_foreign_schema(n),
            NodeRef::CreatePolicyStmt(n) => self.row_policy(n.table.as_ref(), node),
            NodeRef::AlterPolicyStmt(n) => self.row_policy(n.table.as_ref(), node),
            NodeRef::CreateAmStmt(n) => {
                self.bind_function(&n.handler_name);
                self.named(Effect::SchemaCreate, "access method", n.amname.clone());
            }
            NodeRef::CreateTrigStmt(n) => self.create_trigger(n),
            NodeRef::CreateEventTrigStmt(n) => {
                self.bind_function(&n.funcname);
                self.named(Effect::SchemaCreate, "event trigger", n.trigname.clone());
            }
            NodeRef::AlterEventTrigStmt(n) => {
                self.named(Effect::SchemaAlter, "event trigger", n.trigname.clone())
            }
            NodeRef::CreatePlangStmt(n) => {
                self.outward_ddl(Effect::SchemaCreate, "language", &n.plname, node)
            }
            NodeRef::CreateRoleStmt(n) => self.named(Effect::Privilege, "role", n.role.clone()),
            NodeRef::AlterRoleStmt(n) => self.named(
                Effect::Privilege,
                "role",
                n.role.as_ref().map(role).unwrap_or_default(),
            ),
            NodeRef::AlterRoleSetStmt(n) => {
                let name = n.role.as_ref().map_or_else(|| "*".to_owned(), role);
                self.lasting_setting("role", &name, n.setstmt.as_ref());
            }
            NodeRef::DropRoleStmt(n) => self.roles(&n.roles),
            NodeRef::CreateSeqStmt(n) => self.create_sequence(n),
            NodeRef::AlterSeqStmt(n) => {
                self.altered(n.sequence.as_ref());
                self.visit_others(node, &["sequence"]);
            }
            NodeRef::DefineStmt(n) => self.define(n),
            NodeRef::CreateDomainStmt(n) => self.create_domain(n),
            NodeRef::CreateOpClassStmt(n) => {
                self.new_named("operator class", &n.opclassname);
                self.visit_all(&n.items);
            }
            NodeRef::CreateOpClassItem(n) => {
                if let Some(name) = &n.name {
                    match OpClassItem::of(n.itemtype) {
                        OpClassItem::Function => self.bind_function(&name.objname),
                        OpClassItem::Operator => self.operator(&name.objname),
                        OpClassItem::Other => {}
                    }
                }
            }
            NodeRef::CreateOpFamilyStmt(n) => self.new_named("operator family", &n.opfamilyname),
            NodeRef::AlterOpFamilyStmt(n) => {
                self.named(
                    Effect::SchemaAlter,
                    "operator family",
                    strings(&n.opfamilyname).join("."),
                );
                self.visit_all(&n.items);
            }
            NodeRef::DropStmt(n) => self.drop_objects(n),
            NodeRef::TruncateStmt(n) => self.truncate(n),
            NodeRef::CommentStmt(n) => self.comment(n),
            NodeRef::SecLabelStmt(n) => self.security_label(n.objtype(), n.object.as_deref()),
            NodeRef::DeclareCursorStmt(n) => self.declare_cursor(node, n),
            NodeRef::ClosePortalStmt(n) => self.close(node, n),
            NodeRef::FetchStmt(n) => self.fetch(node, n),
            NodeRef::IndexStmt(n) => self.create_index(n),
            NodeRef::CreateStatsStmt(n) => self.create_statistics(n),
            NodeRef::AlterStatsStmt(n) => self.named(
                Effect::SchemaAlter,
                "statistics",
                strings(&n.defnames).join("."),
            ),
            NodeRef::CreateFunctionStmt(n) => self.create_function(n),
            NodeRef::AlterFunctionStmt(n) => self.alter_function(n),
            NodeRef::DoStmt(_) => self.unknown(),
            NodeRef::CallStmt(_) => {
                self.visit_children(node);
                self.changed(SessionChange::Everything);
            }
            NodeRef::RenameStmt(n) => self.rename(n),
            NodeRef::AlterObjectDependsStmt(n) => self.alter_depends(n),
            NodeRef::AlterObjectSchemaStmt(n) => self.alter_schema(n),
            NodeRef::AlterOwnerStmt(n) => self.alter_owner(n),
            NodeRef::AlterOperatorStmt(n) => {
                let name = n
                    .opername
                    .as_ref()
                    .map(|name| strings(&name.objname).join("."));
                self.named(Effect::SchemaAlter, "operator", name.unwrap_or_default());
                self.changed(SessionChange::Catalog);
            }
            NodeRef::AlterTypeStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "type", &n.type_name, node)
            }
            NodeRef::RuleStmt(n) => self.create_rule(n),
            NodeRef::NotifyStmt(n) => {
                self.strings.push(n.payload.clone());
                let channel = Object::Channel(n.conditionname.clone());
                self.add(Effect::Notify, channel, false);
            }
            NodeRef::ListenStmt(n) => self.add(
                Effect::Notify,
                Object::Channel(n.conditionname.clone()),
                false,
            ),
            NodeRef::UnlistenStmt(n) => self.unlisten(&n.conditionname),
            NodeRef::TransactionStmt(n) => self.transaction(node, n),
            NodeRef::CompositeTypeStmt(n) => self.create_composite_type(n),
            NodeRef::CreateEnumStmt(n) => {
                self.dotted_ddl(Effect::SchemaCreate, "type", &n.type_name, node)
            }
            NodeRef::CreateRangeStmt(n) => {
                self.dotted_ddl(Effect::SchemaCreate, "type", &n.type_name, node)
            }
            NodeRef::AlterEnumStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "type", &n.type_name, node)
            }
            NodeRef::ViewStmt(n) => self.create_view(n),
            NodeRef::LoadStmt(n) => self.named(Effect::UnsafeIo, "library", n.filename.clone()),
            NodeRef::CreatedbStmt(n) => {
                self.named(Effect::SchemaCreate, "database", n.dbname.clone())
            }
            NodeRef::AlterDatabaseStmt(n) => {
                self.named(Effect::SchemaAlter, "database", n.dbname.clone())
            }
            NodeRef::AlterDatabaseRefreshCollStmt(n) => {
                self.named(Effect::SchemaAlter, "database", n.dbname.clone())
            }
            NodeRef::AlterDatabaseSetStmt(n) => {
                self.lasting_setting("database", &n.dbname, n.setstmt.as_ref())
            }
            NodeRef::DropdbStmt(n) => {
                self.named(Effect::SchemaDestroy, "database", n.dbname.clone())
            }
            NodeRef::AlterSystemStmt(n) => self.lasting_setting("system", "*", n.setstmt.as_ref()),
            NodeRef::ClusterStmt(n) => self.cluster(n),
            NodeRef::VacuumStmt(n) => self.vacuum(n),
            NodeRef::ExplainStmt(_) => self.visit_children(node),
            NodeRef::CreateTableAsStmt(n) => self.create_table_as(n),
            NodeRef::RefreshMatViewStmt(n) => match &n.relation {
                Some(relation) => self.touch(relation, Effect::Modify),
                None => self.unknown(),
            },
            NodeRef::CheckPointStmt(_) => self.add(Effect::Maintenance, Object::Session, false),
            NodeRef::DiscardStmt(n) => self.discard(node, n),
            NodeRef::LockStmt(n) => self.lock(n),
            NodeRef::ConstraintsSetStmt(_) => self.add(Effect::Transaction, Object::Session, true),
            NodeRef::ReindexStmt(n) => self.reindex(n),
            NodeRef::CreateConversionStmt(n) => {
                self.bind_function(&n.func_name);
                self.new_named("conversion", &n.conversion_name);
            }
            NodeRef::CreateCastStmt(n) => self.create_cast(n),
            NodeRef::CreateTransformStmt(n) => {
                for function in n.fromsql.iter().chain(&n.tosql) {
                    self.bind_function(&function.objname);
                }
                let name = n.type_name.as_ref().map(type_name).unwrap_or_default();
                self.named(Effect::SchemaCreate, "transform", name);
            }
            NodeRef::PrepareStmt(_) => self.prepare(node),
            NodeRef::ExecuteStmt(n) => self.execute_prepared(node, n),
            NodeRef::DeallocateStmt(n) => self.deallocate(node, n),
            NodeRef::DropOwnedStmt(n) => self.drop_owned(&n.roles),
            NodeRef::ReassignOwnedStmt(n) => {
                self.roles(&n.roles);
                let owner = n.newrole.as_ref().map(role).unwrap_or_default();
                self.named(Effect::Privilege, "role", owner);
            }
            NodeRef::AlterTsdictionaryStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "tsdictionary", &n.dictname, node)
            }
            NodeRef::AlterTsconfigurationStmt(n) => {
                self.dotted_ddl(Effect::SchemaAlter, "tsconfiguration", &n.cfgname, node)
            }
            NodeRef::CreatePublicationStmt(n) => self.create_publication(n),
            NodeRef::AlterPublicationStmt(n) => self.alter_publication(n),
            NodeRef::CreateSubscriptionStmt(n) => {
                self.outward_ddl(Effect::SchemaCreate, "subscription", &n.subname, node)
            }
            NodeRef::AlterSubscriptionStmt(n) => {
                self.outward_ddl(Effect::SchemaAlter, "subscription", &n.subname, node)
            }
            NodeRef::DropSubscriptionStmt(n) => {
                self.outward_ddl(Effect::SchemaDestroy, "subscription", &n.subname, node)
            }
            NodeRef::TypeName(n) => {
                let names = strings(&n.names);
                let (schema, name) = split(&names);
                self.made_type(schema, name);
                self.visit_children(node);
            }
            NodeRef::MergeSupportFunc(_)
            | NodeRef::JsonFuncExpr(_)
            | NodeRef::JsonTable(_)
            | NodeRef::JsonParseExpr(_)
            | NodeRef::JsonScalarExpr(_)
            | NodeRef::JsonSerializeExpr(_)
            | NodeRef::JsonObjectConstructor(_)
            | NodeRef::JsonArrayConstructor(_)
            | NodeRef::JsonArrayQueryConstructor(_)
            | NodeRef::JsonObjectAgg(_)
            | NodeRef::JsonArrayAgg(_) => {
                words(node).iter().for_each(|word| self.word(word));
                self.visit_children(node);
            }
            NodeRef::AConst(n) => {
                if let Some(a_const::Val::Sval(text)) = &n.val {
                    self.strings.push(text.sval.clone());
                }
            }
            // Parts of statements and expressions without an effect of their own.
            NodeRef::Alias(_)
            | NodeRef::IntoClause(_)
            | NodeRef::GroupingFunc(_)
            | NodeRef::NamedArgExpr(_)
            | NodeRef::BoolExpr(_)
            | NodeRef::CaseWhen(_)
            | NodeRef::RowExpr(_)
            | NodeRef::CoalesceExpr(_)
            | NodeRef::MinMaxExpr(_)
            | NodeRef::SqlvalueFunction(_)
            | NodeRef::XmlExpr(_)
            | NodeRef::JsonFormat(_)
            | NodeRef::JsonReturning(_)
            | NodeRef::JsonValueExpr(_)
            | NodeRef::JsonIsPredicate(_)
            | NodeRef::JsonBehavior(_)
            | NodeRef::NullTest(_)
            | NodeRef::BooleanTest(_)
            | NodeRef::SetToDefault(_)
            | NodeRef::CurrentOfExpr(_)
            | NodeRef::ParamRef(_)
            | NodeRef::TypeCast(_)
            | NodeRef::CollateClause(_)
            | NodeRef::RoleSpec(_)
            | NodeRef::AStar(_)
            | NodeRef::AIndices(_)
            | NodeRef::AArrayExpr(_)
            | NodeRef::ResTarget(_)
            | NodeRef::MultiAssignRef(_)
            | NodeRef::WindowDef(_)
            | NodeRef::RangeSubselect(_)
            | NodeRef::RangeFunction(_)
            | NodeRef::RangeTableFunc(_)
            | NodeRef::RangeTableFuncCol(_)
            | NodeRef::ColumnDef(_)
            | NodeRef::TableLikeClause(_)
            | NodeRef::IndexElem(_)
            | NodeRef::DefElem(_)
            | NodeRef::LockingClause(_)
            | NodeRef::XmlSerialize(_)
            | NodeRef::PartitionElem(_)
            | NodeRef::PartitionSpec(_)
            | NodeRef::PartitionBoundSpec(_)
            | NodeRef::PartitionRangeDatum(_)
            | NodeRef::PartitionCmd(_)
            | NodeRef::GroupingSet(_)
            | NodeRef::WithClause(_)
            | NodeRef::InferClause(_)
            | NodeRef::OnConflictClause(_)
            | NodeRef::CtesearchClause(_)
            | NodeRef::CtecycleClause(_)
            | NodeRef::CommonTableExpr(_)
            | NodeRef::MergeWhenClause(_)
            | NodeRef::ReturningOption(_)
            | NodeRef::ReturningClause(_)
            | NodeRef::TriggerTransition(_)
            | NodeRef::JsonOutput(_)
            | NodeRef::JsonArgument(_)
            | NodeRef::JsonTablePathSpec(_)
            | NodeRef::JsonTableColumn(_)
            | NodeRef::JsonKeyValue(_)
            | NodeRef::JsonAggConstructor(_)
            | NodeRef::ReturnStmt(_)
            | NodeRef::AlterTableCmd(_)
            | NodeRef::AtalterConstraint(_)
            | NodeRef::ReplicaIdentityStmt(_)
            | NodeRef::ObjectWithArgs(_)
            | NodeRef::AccessPriv(_)
            | NodeRef::Constraint(_)
            | NodeRef::StatsElem(_)
            | NodeRef::FunctionParameter(_)
            | NodeRef::VacuumRelation(_)
            | NodeRef::PublicationTable(_)
            | NodeRef::PublicationObjSpec(_)
            | NodeRef::Integer(_)
            | NodeRef::Float(_)
            | NodeRef::Boolean(_)
            | NodeRef::String(_)
            | NodeRef::BitString(_)
            | NodeRef::List(_)
            | NodeRef::IntList(_)
            | NodeRef::OidList(_) => self.visit_children(node),
            // The grammar never makes these: analysis, planning and PL/pgSQL do.
            NodeRef::Var(_)
            | NodeRef::Param(_)
            | NodeRef::Aggref(_)
            | NodeRef::WindowFunc(_)
            | NodeRef::WindowFuncRunCondition(_)
            | NodeRef::SubscriptingRef(_)
            | NodeRef::FuncExpr(_)
            | NodeRef::OpExpr(_)
            | NodeRef::DistinctExpr(_)
            | NodeRef::NullIfExpr(_)
            | NodeRef::ScalarArrayOpExpr(_)
            | NodeRef::SubPlan(_)
            | NodeRef::AlternativeSubPlan(_)
            | NodeRef::FieldSelect(_)
            | NodeRef::FieldStore(_)
            | NodeRef::RelabelType(_)
            | NodeRef::CoerceViaIo(_)
            | NodeRef::ArrayCoerceExpr(_)
            | NodeRef::ConvertRowtypeExpr(_)
            | NodeRef::CollateExpr(_)
            | NodeRef::CaseTestExpr(_)
            | NodeRef::ArrayExpr(_)
            | NodeRef::RowCompareExpr(_)
            | NodeRef::JsonConstructorExpr(_)
            | NodeRef::JsonExpr(_)
            | NodeRef::JsonTablePath(_)
            | NodeRef::JsonTablePathScan(_)
            | NodeRef::JsonTableSiblingJoin(_)
            | NodeRef::MergeAction(_)
            | NodeRef::CoerceToDomain(_)
            | NodeRef::CoerceToDomainValue(_)
            | NodeRef::NextValueExpr(_)
            | NodeRef::InferenceElem(_)
            | NodeRef::ReturningExpr(_)
            | NodeRef::TargetEntry(_)
            | NodeRef::RangeTblRef(_)
            | NodeRef::FromExpr(_)
            | NodeRef::OnConflictExpr(_)
            | NodeRef::Query(_)
            | NodeRef::SetOperationStmt(_)
            | NodeRef::RangeTblEntry(_)
            | NodeRef::RtepermissionInfo(_)
            | NodeRef::RangeTblFunction(_)
            | NodeRef::TableSampleClause(_)
            | NodeRef::WithCheckOption(_)
            | NodeRef::SortGroupClause(_)
            | NodeRef::WindowClause(_)
            | NodeRef::RowMarkClause(_)
            | NodeRef::TableFunc(_)
            | NodeRef::CallContext(_)
            | NodeRef::InlineCodeBlock(_)
            | NodeRef::PlassignStmt(_)
            | NodeRef::RawStmt(_) => self.unknown(),
        }
    }
}

/// The words of SQL/JSON and MERGE by which the grammar knows these; PostgreSQL 13 to 16 take
/// some of them for the names of functions.
fn words(node: NodeRef<'_>) -> &'static [&'static str] {
    match node {
        NodeRef::MergeSupportFunc(_) => &["merge_action"],
        NodeRef::JsonFuncExpr(_) => &["json_exists", "json_query", "json_value"],
        NodeRef::JsonTable(_) => &["json_table"],
        NodeRef::JsonParseExpr(_) => &["json"],
        NodeRef::JsonScalarExpr(_) => &["json_scalar"],
        NodeRef::JsonSerializeExpr(_) => &["json_serialize"],
        NodeRef::JsonObjectConstructor(_) => &["json_object"],
        NodeRef::JsonArrayConstructor(_) | NodeRef::JsonArrayQueryConstructor(_) => &["json_array"],
        NodeRef::JsonObjectAgg(_) => &["json_objectagg"],
        NodeRef::JsonArrayAgg(_) => &["json_arrayagg"],
        _ => &[],
    }
}

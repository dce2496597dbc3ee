//! What may be computed from a masked value in an output: what neither compares it nor fails on
//! account of it. All else is refused, however harmless it looks: `salary * 2` overflows or does
//! not, `substr(email, 1, 1)::int` is a digit or is not, and `replace(email, 'a', x)` with an `x`
//! of a gigabyte fails where there is an `a`.
//!
//! Known to be left: how long a value is, by concatenating it with almost as much as the server
//! takes for one text.

use pg_query::NodeRef;
use pg_query::protobuf::{FuncCall, JsonFormatType, JsonOutput, JsonValueExpr, TypeCast};

use super::tree::{builtin_name, literal, many, names, one, ordinal};

/// Functions of pg_catalog that are total in all their arguments, aggregates and window
/// functions included.
const TOTAL: &[&str] = &[
    "any_value",
    "array_agg",
    "array_length",
    "array_to_json",
    "avg",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "count",
    "every",
    "first_value",
    "initcap",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "last_value",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "pg_column_size",
    "pg_typeof",
    "reverse",
    "right",
    "row_to_json",
    "rtrim",
    "starts_with",
    "string_agg",
    "strpos",
    "sum",
    "to_json",
    "to_jsonb",
    "translate",
    "upper",
];

/// Total in the first argument, as long as no masked value is in the others.
const TOTAL_IN_FIRST: &[&str] = &[
    "ceil",
    "ceiling",
    "floor",
    "lag",
    "lead",
    "nth_value",
    "round",
    "split_part",
    "substr",
    "substring",
    "to_char",
    "trunc",
];

/// Total in the others, as long as the first argument is a constant.
const TOTAL_AFTER_FIRST: &[&str] = &["date_part", "date_trunc", "extract", "format"];

/// Functions of pg_catalog with effects whose output is nobody's data.
const HARMLESS: &[&str] = &[
    "currval",
    "nextval",
    "pg_cancel_backend",
    "pg_notify",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_terminate_backend",
    "set_config",
    "setval",
];

/// Functions of pg_catalog that take any value as their only argument: `c.to_json` calls one on
/// the whole row (PostgreSQL, Using Composite Types in Queries).
const ON_ROWS: &[&str] = &[
    "any_out",
    "any_value",
    "anycompatible_out",
    "anycompatiblenonarray_out",
    "anyelement_out",
    "anynonarray_out",
    "array_agg",
    "concat",
    "count",
    "cume_dist",
    "dense_rank",
    "first_value",
    "hash_record",
    "json_agg",
    "json_agg_strict",
    "json_array",
    "json_build_array",
    "json_build_object",
    "json_object",
    "json_scalar",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "lag",
    "last_value",
    "lead",
    "max",
    "min",
    "mode",
    "num_nonnulls",
    "num_nulls",
    "percent_rank",
    "pg_collation_for",
    "pg_column_compression",
    "pg_column_size",
    "pg_column_toast_chunk_id",
    "pg_typeof",
    "quote_literal",
    "quote_nullable",
    "rank",
    "record_out",
    "record_send",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// Types whose input accepts every text.
const TEXT_TYPES: &[&str] = &["text", "varchar", "bpchar", "name"];

/// Whether a function's output, though it has effects, is nobody's data.
pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name) || crate::functions::is_advisory_lock(name)
}

/// Whether the name calls a function when it is asked of a row.
pub(super) fn is_on_rows(name: &str) -> bool {
    ON_ROWS.contains(&name)
}

/// Whether a function with one argument keeps the whole of what is told apart by it: what
/// applications tidy an address or a name with.
pub(super) fn is_normalisation(call: &FuncCall) -> bool {
    call.args.len() == 1
        && matches!(
            builtin_name(&call.funcname),
            Some("lower" | "upper" | "btrim" | "ltrim" | "rtrim")
        )
}

/// Whether a cast keeps the whole value: to a text of any length.
pub(super) fn keeps_whole(cast: &TypeCast) -> bool {
    cast.type_name.as_ref().is_some_and(|target| {
        target.array_bounds.is_empty()
            && target.typmods.is_empty()
            && is_type(&target.names, &["text", "varchar"])
    })
}

/// Whether an operator of pg_catalog is total: concatenation and reading out of JSON.
pub(super) fn is_total_operator(name: &str) -> bool {
    matches!(name, "||" | "->" | "->>" | "#>" | "#>>")
}

/// Whether an operator takes a value out of JSON by its key: NULL where there is no such key.
pub(super) fn is_json_reader(name: &str) -> bool {
    matches!(name, "->" | "->>" | "#>" | "#>>")
}

/// Whether a node makes JSON whose keys `tainted` holds for: asking for a key then compares.
pub(super) fn makes_tainted_keys<'t>(
    node: NodeRef<'t>,
    tainted: &mut dyn FnMut(NodeRef<'t>) -> bool,
) -> bool {
    match node {
        NodeRef::JsonKeyValue(pair) => one(&pair.key).is_some_and(tainted),
        NodeRef::FuncCall(call) => match builtin_name(&call.funcname) {
            Some("json_build_object" | "jsonb_build_object") if !call.func_variadic => {
                many(&call.args).step_by(2).any(tainted)
            }
            Some(name) if name.contains("json") && name.contains("object") => tainted(node),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a value of SQL/JSON is a text that is read as JSON: `FORMAT JSON`.
pub(super) fn parses_json(value: &JsonValueExpr) -> bool {
    value.format.as_ref().is_some_and(|format| {
        !matches!(
            format.format_type(),
            JsonFormatType::Undefined | JsonFormatType::JsFormatDefault
        )
    })
}

/// Whether a constructor of SQL/JSON returns what takes every JSON there is.
pub(super) fn returns_json(output: Option<&JsonOutput>) -> bool {
    let Some(output) = output else { return true };
    output.type_name.as_ref().is_none_or(|target| {
        target.typmods.is_empty()
            && target.array_bounds.is_empty()
            && is_type(&target.names, &["json", "jsonb", "text"])
    })
}

/// Whether a call, known to be of a pure function, neither compares its arguments nor fails on
/// account of those that `tainted` holds for.
pub(super) fn is_total_call<'t>(
    call: &'t FuncCall,
    tainted: &mut dyn FnMut(NodeRef<'t>) -> bool,
) -> bool {
    let Some(name) = builtin_name(&call.funcname) else {
        return false;
    };
    if call.agg_distinct || call.agg_within_group || call.func_variadic {
        return false;
    }
    let mut arguments = many(&call.args);
    if TOTAL.contains(&name) {
        true
    } else if TOTAL_IN_FIRST.contains(&name) {
        arguments
            .skip(1)
            .all(|argument| is_fixed(name, argument) && !tainted(argument))
    } else if TOTAL_AFTER_FIRST.contains(&name) {
        arguments.next().is_some_and(|first| is_fixed(name, first))
    } else {
        false
    }
}

/// Whether an argument that steers the function is known to be harmless.
fn is_fixed(name: &str, argument: NodeRef<'_>) -> bool {
    match name {
        // A text instead of a number is a pattern, whose cost tells of the value.
        "substring" => ordinal(argument).is_some(),
        // `*` takes a width from the arguments.
        "format" => literal(argument).is_some_and(|text| !text.contains('*')),
        "date_part" | "date_trunc" | "extract" | "split_part" | "to_char" => {
            matches!(argument, NodeRef::AConst(_) | NodeRef::ParamRef(_))
        }
        _ => true,
    }
}

/// Whether a cast is to a type that takes every value: text, of any length.
pub(super) fn is_total_cast(cast: &TypeCast) -> bool {
    let Some(target) = &cast.type_name else {
        return false;
    };
    target.array_bounds.is_empty() && is_type(&target.names, TEXT_TYPES)
}

/// Whether a cast of a bare column of this type only widens it.
pub(super) fn is_widening_cast(cast: &TypeCast, type_oid: u32) -> bool {
    let Some(target) = &cast.type_name else {
        return false;
    };
    if !target.array_bounds.is_empty() || !target.typmods.is_empty() {
        return false;
    }
    let wider: &[&str] = match type_oid {
        // int2, int4, int8, numeric, float4, float8
        21 => &["int2", "int4", "int8", "numeric", "float4", "float8"],
        23 => &["int4", "int8", "numeric", "float8"],
        20 => &["int8", "numeric", "float8"],
        1700 => &["numeric"],
        700 => &["float4", "float8"],
        701 => &["float8"],
        // date, timestamp, timestamptz; json, jsonb
        1082 => &["date"],
        1114 => &["date", "timestamp"],
        1184 => &["date", "timestamptz"],
        114 => &["json"],
        3802 => &["json", "jsonb"],
        2950 => &["uuid"],
        _ => &[],
    };
    is_type(&target.names, wider)
}

fn is_type(path: &[pg_query::Node], types: &[&str]) -> bool {
    let path: Vec<&str> = names(path).collect();
    match path.as_slice() {
        [name] | ["pg_catalog", name] => types.contains(name),
        _ => false,
    }
}

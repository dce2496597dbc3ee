//! What is known of PostgreSQL's built-in types: their class, their zero, whether they are
//! scanned. OIDs are those of `pg_type.dat`, fixed across versions.

use crate::masker::Wire;

/// How a type's values are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The same bytes in both formats; any string is valid.
    Text,
    /// A JSON text in both formats.
    Json,
    /// A JSON text; in binary after a version byte.
    Jsonb,
    /// XML: text in both formats, but not any string is valid.
    Xml,
    /// Numbers that may spell an identifier.
    Number,
    /// An array of the given element type.
    Array(u32),
    /// `record`: a row whose columns are only known from its bytes.
    Record,
    /// Not built in: domain, enum, composite, extension.
    Foreign,
    /// Built in, and neither of the above.
    Other,
}

/// OIDs from here on are assigned while a cluster lives (FirstNormalObjectId).
const FIRST_NORMAL_OID: u32 = 16384;

pub(crate) const INT8: u32 = 20;
pub(crate) const NUMERIC: u32 = 1700;

/// The class of a type.
pub(crate) fn class(type_oid: u32) -> Class {
    match type_oid {
        // text, varchar, bpchar, name, unknown, cstring. Not "char" (18): one byte, no room for
        // a mark.
        25 | 1043 | 1042 | 19 | 705 | 2275 => Class::Text,
        114 => Class::Json,
        3802 => Class::Jsonb,
        142 => Class::Xml,
        INT8 | NUMERIC => Class::Number,
        2249 => Class::Record,
        FIRST_NORMAL_OID.. => Class::Foreign,
        other => element(other).map_or(Class::Other, Class::Array),
    }
}

/// The element type of a built-in array type (`pg_type.typelem` of those named `_…`).
fn element(array: u32) -> Option<u32> {
    Some(match array {
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => INT8,
        1017 => 600,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        651 => 650,
        775 => 774,
        143 => 142,
        199 => 114,
        3807 => 3802,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => NUMERIC,
        1263 => 2275,
        1270 => 1266,
        1563 => 1562,
        2287 => 2249,
        2951 => 2950,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        _ => return None,
    })
}

/// Appends the zero of a type; false, and nothing appended, where none is known.
///
/// Dates are 2000-01-01, where PostgreSQL's own count begins (Date/Time Types); their text is
/// ISO whatever the session's DateStyle.
pub(crate) fn zero(type_oid: u32, wire: Wire, out: &mut Vec<u8>) -> bool {
    if let Class::Array(element) = class(type_oid) {
        match wire {
            Wire::Text => out.extend_from_slice(b"{}"),
            // array_send: dimensions, flags, element type.
            Wire::Binary => {
                out.extend_from_slice(&[0; 8]);
                out.extend_from_slice(&element.to_be_bytes());
            }
        }
        return true;
    }
    let Some((text, binary)) = scalar_zero(type_oid) else {
        return false;
    };
    out.extend_from_slice(match wire {
        Wire::Text => text.as_bytes(),
        Wire::Binary => binary,
    });
    true
}

/// The zero of a scalar in text and in binary (each type's `…out` and `…send` function).
fn scalar_zero(type_oid: u32) -> Option<(&'static str, &'static [u8])> {
    Some(match type_oid {
        // bool, bytea, "char"
        16 => ("f", &[0]),
        17 => ("\\x", &[]),
        18 => ("", &[0]),
        // int2, int4, int8, oid, xid, cid, xid8
        21 => ("0", &[0; 2]),
        23 | 26 | 28 | 29 => ("0", &[0; 4]),
        INT8 | 5069 => ("0", &[0; 8]),
        // float4, float8; numeric: digits, weight, sign, scale
        700 => ("0", &[0; 4]),
        701 | NUMERIC => ("0", &[0; 8]),
        // date, time, timetz, timestamp, timestamptz, interval
        1082 => ("2000-01-01", &[0; 4]),
        1083 => ("00:00:00", &[0; 8]),
        1266 => ("00:00:00+00", &[0; 12]),
        1114 => ("2000-01-01 00:00:00", &[0; 8]),
        1184 => ("2000-01-01 00:00:00+00", &[0; 8]),
        1186 => ("00:00:00", &[0; 16]),
        2950 => ("00000000-0000-0000-0000-000000000000", &[0; 16]),
        // inet, cidr: family AF_INET, bits, is_cidr, address length, address
        869 => ("0.0.0.0", &[2, 32, 0, 4, 0, 0, 0, 0]),
        650 => ("0.0.0.0/32", &[2, 32, 1, 4, 0, 0, 0, 0]),
        // macaddr, macaddr8
        829 => ("00:00:00:00:00:00", &[0; 6]),
        774 => ("00:00:00:00:00:00:00:00", &[0; 8]),
        // point, box, tid, pg_lsn, varbit, tsvector, xml
        600 => ("(0,0)", &[0; 16]),
        603 => ("(0,0),(0,0)", &[0; 32]),
        27 => ("(0,0)", &[0; 6]),
        3220 => ("0/0", &[0; 8]),
        1562 | 3614 => ("", &[0; 4]),
        142 => ("", &[]),
        // ranges: the flag RANGE_EMPTY; multiranges: no ranges
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => ("empty", &[1]),
        4451 | 4532..=4536 => ("{}", &[0; 4]),
        _ => return None,
    })
}

/// Whether values of this type are scanned by detectors: text, JSON, XML, bigint and numeric,
/// rows, arrays of these, and every type that is not built in. Both formats are read alike; a
/// type that only one of them can be read of would differ here.
pub fn detectable(type_oid: u32, _wire: Wire) -> bool {
    let class = match class(type_oid) {
        Class::Array(element) => class(element),
        scalar => scalar,
    };
    class != Class::Other
}

//! A server's messages.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use chaperone_postgres::codec::backend::tag;
use chaperone_postgres::codec::{
    Backend, Cell, DataRow, Format, Frame, command_rows, encode, frame, rewrite,
};

use crate::frames::frames;
use crate::frontend::count;

/// What a server sends, before and after the login.
pub fn backend(data: &[u8]) {
    for frame in frames(data) {
        let Ok(message) = Backend::parse(frame.as_ref()) else {
            continue;
        };
        assert_eq!(Backend::parse(frame.as_ref()).as_ref(), Ok(&message));
        if let Some(written) = again(&message, frame.tag) {
            assert_eq!(written, frame.raw, "{message:?} is not what came");
        }
        match message {
            Backend::DataRow(row) => only_replaced_cells_change(&row, &frame),
            Backend::RowDescription(row) => {
                assert!(row.fields.capacity() <= frame.raw.len() / 19 + 1)
            }
            Backend::CommandComplete { tag } => assert_eq!(command_rows(tag), command_rows(tag)),
            _ => {}
        }
    }
}

/// The message as its fields say it, for those with fields that the session acts on.
fn again(message: &Backend<'_>, message_tag: u8) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    match message {
        Backend::BackendKeyData { pid, key } => encode::backend_key_data(&mut out, *pid, key),
        Backend::CommandComplete { tag } => encode::command_complete(&mut out, tag),
        Backend::ParameterStatus { name, value } => encode::parameter_status(&mut out, name, value),
        Backend::ReadyForQuery(status) => encode::ready_for_query(&mut out, *status),
        Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) => {
            fields.rewrite(message_tag, &mut out, |_, value| Some(Cow::Borrowed(value)));
        }
        Backend::NotificationResponse {
            pid,
            channel,
            payload,
        } => {
            encode::message(&mut out, tag::NOTIFICATION_RESPONSE, |out| {
                out.put_i32(*pid);
                encode::cstr(out, channel.as_bytes());
                encode::cstr(out, payload.as_bytes());
            });
        }
        Backend::ParameterDescription(types) => {
            encode::message(&mut out, tag::PARAMETER_DESCRIPTION, |out| {
                out.put_u16(count(types.len()));
                types.iter().for_each(|oid| out.put_u32(*oid));
            })
        }
        Backend::RowDescription(row) => encode::message(&mut out, tag::ROW_DESCRIPTION, |out| {
            out.put_u16(count(row.fields.len()));
            for field in &row.fields {
                encode::cstr(out, field.name.as_bytes());
                out.put_u32(field.table_oid);
                out.put_i16(field.attnum);
                out.put_u32(field.type_oid);
                out.put_i16(field.type_length);
                out.put_i32(field.type_modifier);
                out.put_i16(i16::from(field.format == Format::Binary));
            }
        }),
        _ => return None,
    }
    Some(out)
}

fn only_replaced_cells_change(row: &DataRow<'_>, frame: &Frame) {
    let cells: Vec<Option<&[u8]>> = row.cells().collect();
    assert_eq!(cells.len(), row.len());
    let mut kept = BytesMut::from(&b"before"[..]);
    let changed = rewrite(&frame.raw, &mut kept, &mut Vec::new(), |_, _, _| Cell::Keep);
    assert_eq!((changed, kept.get(6..)), (Ok(false), Some(&frame.raw[..])));

    // Every third cell as it is, NULL, or another value.
    let another = |index: usize| match index % 3 {
        0 => cells.get(index).copied().flatten(),
        1 => None,
        _ => Some(&b"[masked]"[..]),
    };
    let mut out = BytesMut::new();
    let rewritten = rewrite(
        &frame.raw,
        &mut out,
        &mut Vec::new(),
        |index, value, scratch| {
            assert_eq!(cells.get(index), Some(&value));
            match index % 3 {
                0 => Cell::Keep,
                1 => Cell::Null,
                _ => {
                    scratch.extend_from_slice(b"[masked]");
                    Cell::Replace
                }
            }
        },
    );
    assert!(rewritten.is_ok());
    let body = out.get(frame::HEADER..).unwrap_or_default();
    let Ok(read) = DataRow::parse(body) else {
        panic!("a rewritten row is none: {out:?}");
    };
    let read: Vec<Option<&[u8]>> = read.cells().collect();
    let expected: Vec<Option<&[u8]>> = (0..cells.len()).map(another).collect();
    assert_eq!(read, expected);
    assert!(
        matches!(frame::peek(&out, usize::MAX), Ok(Some(whole)) if whole.raw.len() == out.len())
    );
}

//! A client's messages.

use bytes::{BufMut, BytesMut};
use chaperone_postgres::codec::frontend::tag;
use chaperone_postgres::codec::{Bind, Format, Frame, Frontend, encode};

use crate::frames::frames;

/// What a client sends once it is in.
pub fn frontend(data: &[u8]) {
    for frame in frames(data) {
        if let Ok(message) = Frontend::parse(&frame) {
            assert_eq!(Frontend::parse(&frame).as_ref(), Ok(&message));
            if let Some(written) = again(&message) {
                assert_eq!(written, frame.raw, "{message:?} is not what came");
            }
            if let Frontend::Bind(bind) = &message {
                parameters_lie_where_they_say(bind, &frame);
            }
        }
    }
}

/// The message as its fields say it.
fn again(message: &Frontend<'_>) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    match message {
        Frontend::Query { text } => encode::query(&mut out, text),
        Frontend::Parse {
            name,
            text,
            parameter_types,
        } => encode::message(&mut out, tag::PARSE, |out| {
            encode::cstr(out, name.as_bytes());
            encode::cstr(out, text.as_bytes());
            out.put_u16(count(parameter_types.len()));
            parameter_types.iter().for_each(|oid| out.put_u32(*oid));
        }),
        Frontend::Bind(bind) => encode::message(&mut out, tag::BIND, |out| write_bind(bind, out)),
        Frontend::Describe { part, name } => encode::describe(&mut out, *part, name),
        Frontend::Close { part, name } => encode::close(&mut out, *part, name),
        Frontend::Execute { portal, max_rows } => encode::message(&mut out, tag::EXECUTE, |out| {
            encode::cstr(out, portal.as_bytes());
            out.put_i32(*max_rows);
        }),
        Frontend::Sync => encode::sync(&mut out),
        Frontend::Flush => encode::flush(&mut out),
        Frontend::CopyData(data) => {
            encode::message(&mut out, tag::COPY_DATA, |out| out.put_slice(data))
        }
        Frontend::CopyDone => encode::empty(&mut out, tag::COPY_DONE),
        Frontend::CopyFail { message } => {
            encode::message(&mut out, tag::COPY_FAIL, |out| encode::cstr(out, message))
        }
        Frontend::Terminate => encode::terminate(&mut out),
        Frontend::Password(data) => {
            encode::message(&mut out, tag::PASSWORD, |out| out.put_slice(data))
        }
        // Of it only the function is kept, since it is never forwarded.
        Frontend::FunctionCall { .. } => return None,
    }
    Some(out)
}

fn write_bind(bind: &Bind<'_>, out: &mut BytesMut) {
    encode::cstr(out, bind.portal.as_bytes());
    encode::cstr(out, bind.statement.as_bytes());
    write_formats(&bind.parameter_formats, out);
    out.put_u16(count(bind.parameters.len()));
    for parameter in &bind.parameters {
        match &parameter.value {
            None => out.put_i32(-1),
            Some(value) => {
                out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
        }
    }
    write_formats(&bind.result_formats, out);
}

fn write_formats(formats: &[Format], out: &mut BytesMut) {
    out.put_u16(count(formats.len()));
    formats
        .iter()
        .for_each(|format| out.put_i16(i16::from(*format == Format::Binary)));
}

/// A count of the wire.
pub(crate) fn count(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn parameters_lie_where_they_say(bind: &Bind<'_>, frame: &Frame) {
    let room = frame.raw.len();
    assert!(
        bind.parameters.capacity() <= room / 4 + 4
            && bind.parameter_formats.capacity() <= room / 2 + 8
    );
    for parameter in &bind.parameters {
        let value = parameter.value.as_deref().unwrap_or_default();
        assert_eq!(frame.raw.get(parameter.range.clone()), Some(value));
    }
}

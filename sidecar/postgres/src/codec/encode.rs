//! The messages we write ourselves, to the client and to the server. Each appends to a buffer.
//!
//! Strings end at their first NUL, so that no value can smuggle a second field into a message.

use bytes::{BufMut, Bytes, BytesMut};

use super::backend::{self, TransactionStatus};
use super::frontend::{self, Part};

/// Appends a message with the body that `body` writes.
///
/// A body of ours is bounded by the caps on what goes into it; one that a length field could not
/// tell is cut to nothing rather than sent with a wrong length.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    with_length(out, body);
}

fn with_length(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(4);
    body(out);
    match i32::try_from(out.len() - start) {
        Ok(length) => {
            if let Some(field) = out.get_mut(start..start + 4) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        Err(_) => out.truncate(start + 4),
    }
}

/// Appends `text` up to its first NUL, and a NUL.
pub fn cstr(out: &mut BytesMut, text: &[u8]) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.extend_from_slice(text.get(..end).unwrap_or_default());
    out.put_u8(0);
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    message(out, backend::tag::READY_FOR_QUERY, |out| {
        out.put_u8(status.as_byte())
    });
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    message(out, backend::tag::AUTHENTICATION, |out| out.put_i32(0));
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut BytesMut) {
    message(out, backend::tag::AUTHENTICATION, |out| out.put_i32(3));
}

/// AuthenticationSASL: the mechanisms that may be chosen from.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    message(out, backend::tag::AUTHENTICATION, |out| {
        out.put_i32(10);
        for mechanism in mechanisms {
            cstr(out, mechanism.as_bytes());
        }
        out.put_u8(0);
    });
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    message(out, backend::tag::AUTHENTICATION, |out| {
        out.put_i32(11);
        out.extend_from_slice(data);
    });
}

/// ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, backend::tag::PARAMETER_STATUS, |out| {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    });
}

/// BackendKeyData; 4 bytes of key for protocol 3.0, up to 256 for 3.2.
pub fn backend_key_data(out: &mut BytesMut, pid: i32, key: &[u8]) {
    message(out, backend::tag::BACKEND_KEY_DATA, |out| {
        out.put_i32(pid);
        out.extend_from_slice(key);
    });
}

/// NegotiateProtocolVersion: the newest minor version we speak and the options we do not know.
pub fn negotiate_protocol_version(out: &mut BytesMut, minor: u16, unknown: &[String]) {
    message(out, backend::tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_i32(i32::from(minor));
        // A startup packet of 10 000 bytes cannot hold more names than this counts.
        out.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
        for name in unknown {
            cstr(out, name.as_bytes());
        }
    });
}

/// CommandComplete.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, backend::tag::COMMAND_COMPLETE, |out| {
        cstr(out, tag.as_bytes())
    });
}

/// A message without a body in either direction: Sync, Flush, Terminate, CopyDone,
/// ParseComplete, BindComplete, CloseComplete, NoData, EmptyQueryResponse.
pub fn empty(out: &mut BytesMut, tag: u8) {
    message(out, tag, |_| {});
}

/// Query.
pub fn query(out: &mut BytesMut, text: &str) {
    message(out, frontend::tag::QUERY, |out| cstr(out, text.as_bytes()));
}

/// Parse without parameter types.
pub fn parse(out: &mut BytesMut, name: &str, text: &str) {
    message(out, frontend::tag::PARSE, |out| {
        cstr(out, name.as_bytes());
        cstr(out, text.as_bytes());
        out.put_u16(0);
    });
}

/// Describe.
pub fn describe(out: &mut BytesMut, part: Part, name: &str) {
    part_and_name(out, frontend::tag::DESCRIBE, part, name);
}

/// Close.
pub fn close(out: &mut BytesMut, part: Part, name: &str) {
    part_and_name(out, frontend::tag::CLOSE, part, name);
}

fn part_and_name(out: &mut BytesMut, tag: u8, part: Part, name: &str) {
    message(out, tag, |out| {
        out.put_u8(match part {
            Part::Statement => b'S',
            Part::Portal => b'P',
        });
        cstr(out, name.as_bytes());
    });
}

/// Sync.
pub fn sync(out: &mut BytesMut) {
    empty(out, frontend::tag::SYNC);
}

/// Flush.
pub fn flush(out: &mut BytesMut) {
    empty(out, frontend::tag::FLUSH);
}

/// Terminate.
pub fn terminate(out: &mut BytesMut) {
    empty(out, frontend::tag::TERMINATE);
}

/// CopyFail.
pub fn copy_fail(out: &mut BytesMut, text: &str) {
    message(out, frontend::tag::COPY_FAIL, |out| {
        cstr(out, text.as_bytes())
    });
}

/// PasswordMessage: a password, hashed or not, with the NUL that ends it.
pub fn password(out: &mut BytesMut, password: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| cstr(out, password));
}

/// SASLInitialResponse.
pub fn sasl_initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| {
        cstr(out, mechanism.as_bytes());
        out.put_i32(i32::try_from(data.len()).unwrap_or(-1));
        out.extend_from_slice(data);
    });
}

/// SASLResponse.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    message(out, frontend::tag::PASSWORD, |out| {
        out.extend_from_slice(data)
    });
}

/// Request codes in place of a protocol version (section 55.7: 1234 in the high half).
pub(crate) mod code {
    pub(crate) const CANCEL: u32 = 80_877_102;
    pub(crate) const SSL: u32 = 80_877_103;
    pub(crate) const GSSENC: u32 = 80_877_104;
}

/// SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    with_length(out, |out| out.put_u32(code::SSL));
}

/// CancelRequest.
pub fn cancel_request(pid: i32, key: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    with_length(&mut out, |out| {
        out.put_u32(code::CANCEL);
        out.put_i32(pid);
        out.extend_from_slice(key);
    });
    out.freeze()
}

/// StartupMessage of protocol 3.0 with these parameters, `user` and `database` among them.
pub fn startup<'a>(out: &mut BytesMut, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) {
    with_length(out, |out| {
        out.put_u32(3 << 16);
        for (name, value) in parameters {
            cstr(out, name.as_bytes());
            cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

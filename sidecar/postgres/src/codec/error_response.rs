//! ErrorResponse and NoticeResponse: reading a server's, writing our own
//! (PostgreSQL documentation, section 55.8, Error and Notice Message Fields).

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::backend::tag;
use super::encode;
use super::error::ProtocolError;
use super::reader::Reader;

/// Field type bytes.
pub mod field {
    #![allow(missing_docs)]
    pub const SEVERITY: u8 = b'S';
    /// Never translated.
    pub const SEVERITY_PLAIN: u8 = b'V';
    pub const CODE: u8 = b'C';
    pub const MESSAGE: u8 = b'M';
    pub const DETAIL: u8 = b'D';
    pub const HINT: u8 = b'H';
    pub const POSITION: u8 = b'P';
    pub const INTERNAL_POSITION: u8 = b'p';
    pub const INTERNAL_QUERY: u8 = b'q';
    pub const WHERE: u8 = b'W';
    pub const SCHEMA: u8 = b's';
    pub const TABLE: u8 = b't';
    pub const COLUMN: u8 = b'c';
    pub const DATA_TYPE: u8 = b'd';
    pub const CONSTRAINT: u8 = b'n';
    pub const FILE: u8 = b'F';
    pub const LINE: u8 = b'L';
    pub const ROUTINE: u8 = b'R';
}

/// The fields of a server's ErrorResponse or NoticeResponse, in order. Values are bytes: before a
/// session's encoding is settled a server may write them in any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// (field type, value).
    pub fields: Vec<(u8, &'a [u8])>,
}

impl<'a> ErrorFields<'a> {
    /// Reads the body of a message called `message` in errors.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(message: &'static str, body: &'a [u8]) -> Result<ErrorFields<'a>, ProtocolError> {
        let mut reader = Reader::new(message, body);
        let mut fields = Vec::new();
        loop {
            match reader.u8()? {
                0 => break,
                kind => fields.push((kind, reader.cstr()?)),
            }
        }
        reader.end()?;
        Ok(ErrorFields { fields })
    }

    /// The value of the first field of that type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.fields
            .iter()
            .find(|(field, _)| *field == kind)
            .map(|(_, value)| *value)
    }

    /// That value as text; empty when there is none.
    pub fn text(&self, kind: u8) -> Cow<'a, str> {
        String::from_utf8_lossy(self.get(kind).unwrap_or_default())
    }

    /// The SQLSTATE; empty when there is none.
    pub fn code(&self) -> Cow<'a, str> {
        self.text(field::CODE)
    }

    /// The primary message.
    pub fn message(&self) -> Cow<'a, str> {
        self.text(field::MESSAGE)
    }

    /// The severity, untranslated where the server gives it so.
    pub fn severity(&self) -> Cow<'a, str> {
        match self.get(field::SEVERITY_PLAIN) {
            Some(plain) => String::from_utf8_lossy(plain),
            None => self.text(field::SEVERITY),
        }
    }

    /// FATAL or PANIC: the server closes the connection after it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity().as_ref(), "FATAL" | "PANIC")
    }

    /// Writes the message again with what `change` makes of each field; `None` leaves it out. A NUL
    /// in a new value ends it there. `message_tag` is [`tag::ERROR_RESPONSE`] or
    /// [`tag::NOTICE_RESPONSE`].
    pub fn rewrite<'b>(
        &'b self,
        message_tag: u8,
        out: &mut BytesMut,
        mut change: impl FnMut(u8, &'b [u8]) -> Option<Cow<'b, [u8]>>,
    ) {
        encode::message(out, message_tag, |out| {
            for (kind, value) in &self.fields {
                if let Some(value) = change(*kind, value) {
                    out.put_u8(*kind);
                    encode::cstr(out, &value);
                }
            }
            out.put_u8(0);
        });
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed; the session lives.
    Error,
    /// The session ends.
    Fatal,
    /// For a NoticeResponse.
    Notice,
    /// For a NoticeResponse.
    Warning,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
        }
    }
}

/// An ErrorResponse or NoticeResponse of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// How bad it is; decides which of the two messages it becomes.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: Cow<'static, str>,
    /// One line.
    pub message: String,
    /// More, where there is more.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ErrorResponse {
    /// Without detail or hint.
    pub fn new(
        severity: Severity,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> ErrorResponse {
        ErrorResponse {
            severity,
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> ErrorResponse {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ErrorResponse {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut BytesMut) {
        let message_tag = match self.severity {
            Severity::Error | Severity::Fatal => tag::ERROR_RESPONSE,
            Severity::Notice | Severity::Warning => tag::NOTICE_RESPONSE,
        };
        let fields = [
            (field::SEVERITY, Some(self.severity.as_str())),
            (field::SEVERITY_PLAIN, Some(self.severity.as_str())),
            (field::CODE, Some(self.code.as_ref())),
            (field::MESSAGE, Some(self.message.as_str())),
            (field::DETAIL, self.detail.as_deref()),
            (field::HINT, self.hint.as_deref()),
        ];
        encode::message(out, message_tag, |out| {
            for (kind, value) in fields {
                if let Some(value) = value {
                    out.put_u8(kind);
                    encode::cstr(out, value.as_bytes());
                }
            }
            out.put_u8(0);
        });
    }

    /// The message on its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

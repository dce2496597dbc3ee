//! Messages from the client (PostgreSQL documentation, section 55.7).

use std::ops::Range;

use bytes::Bytes;

use super::error::ProtocolError;
use super::frame::{Frame, HEADER};
use super::reader::Reader;

/// Type bytes of the messages a client sends after startup.
pub mod tag {
    #![allow(missing_docs)]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share it.
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// One message of a client, borrowing its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// A simple query; may hold several statements.
    Query {
        /// SQL.
        text: &'a str,
    },
    /// Prepares a statement.
    Parse {
        /// Statement name; empty is the unnamed one.
        name: &'a str,
        /// SQL.
        text: &'a str,
        /// Parameter type OIDs given; 0 leaves it to the server.
        parameter_types: Vec<u32>,
    },
    /// Makes a portal of a statement and parameters.
    Bind(Bind<'a>),
    /// Asks what a statement or portal returns.
    Describe {
        /// Of what.
        part: Part,
        /// Its name.
        name: &'a str,
    },
    /// Runs a portal.
    Execute {
        /// Portal name; empty is the unnamed one.
        portal: &'a str,
        /// Rows wanted; 0 or less is all.
        max_rows: i32,
    },
    /// Forgets a statement or portal.
    Close {
        /// Which kind.
        part: Part,
        /// Its name.
        name: &'a str,
    },
    /// Ends a pipeline.
    Sync,
    /// Asks for what the server has ready.
    Flush,
    /// A piece of COPY data; pieces need not be rows.
    CopyData(&'a [u8]),
    /// COPY data is complete.
    CopyDone,
    /// COPY data will not be completed.
    CopyFail {
        /// Why; in no particular encoding.
        message: &'a [u8],
    },
    /// Calls a function by OID; never forwarded.
    FunctionCall {
        /// `pg_proc.oid`.
        function: u32,
    },
    /// Ends the session.
    Terminate,
    /// An answer to an authentication request; which one is known from the conversation.
    Password(&'a [u8]),
}

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// How a value is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The type's text form.
    Text,
    /// The type's own binary form.
    Binary,
}

impl Format {
    /// From a format code: 0 or 1.
    pub fn from_code(code: i16) -> Option<Format> {
        match code {
            0 => Some(Format::Text),
            1 => Some(Format::Binary),
            _ => None,
        }
    }
}

/// The Bind message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Portal name; empty is the unnamed one.
    pub portal: &'a str,
    /// Statement name; empty is the unnamed one.
    pub statement: &'a str,
    /// Parameter formats as sent: none (all text), one for all, or one each.
    pub parameter_formats: Vec<Format>,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Result formats as sent: none (all text), one for all, or one each.
    pub result_formats: Vec<Format>,
}

/// One parameter of a Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its bytes, shared with the frame; `None` is NULL.
    pub value: Option<Bytes>,
    /// Where those bytes are in [`Frame::raw`]; empty for NULL.
    pub range: Range<usize>,
}

impl Bind<'_> {
    /// How parameter `index` is written.
    pub fn parameter_format(&self, index: usize) -> Format {
        format_of(&self.parameter_formats, index)
    }

    /// How result column `index` will be written.
    pub fn result_format(&self, index: usize) -> Format {
        format_of(&self.result_formats, index)
    }
}

fn format_of(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(Format::Text),
    }
}

impl<'a> Frontend<'a> {
    /// Reads one message. Whether it may come now is the session's to know.
    ///
    /// # Errors
    /// [`ProtocolError`] for a type no client sends and for a body that is not exactly its fields.
    pub fn parse(frame: &'a Frame) -> Result<Frontend<'a>, ProtocolError> {
        let body = frame.body();
        match frame.tag {
            tag::QUERY => query(body),
            tag::PARSE => parse_message(body),
            tag::BIND => bind(frame).map(Frontend::Bind),
            tag::DESCRIBE => {
                let (part, name) = part_and_name("Describe", body)?;
                Ok(Frontend::Describe { part, name })
            }
            tag::EXECUTE => execute(body),
            tag::CLOSE => {
                let (part, name) = part_and_name("Close", body)?;
                Ok(Frontend::Close { part, name })
            }
            tag::SYNC => empty("Sync", body, Frontend::Sync),
            tag::FLUSH => empty("Flush", body, Frontend::Flush),
            tag::COPY_DATA => Ok(Frontend::CopyData(body)),
            tag::COPY_DONE => empty("CopyDone", body, Frontend::CopyDone),
            tag::COPY_FAIL => {
                let mut reader = Reader::new("CopyFail", body);
                let message = reader.cstr()?;
                reader.end()?;
                Ok(Frontend::CopyFail { message })
            }
            tag::FUNCTION_CALL => function_call(body),
            tag::TERMINATE => empty("Terminate", body, Frontend::Terminate),
            tag::PASSWORD => Ok(Frontend::Password(body)),
            tag => Err(ProtocolError::UnknownType { tag }),
        }
    }
}

fn empty<'a>(
    message: &'static str,
    body: &[u8],
    value: Frontend<'a>,
) -> Result<Frontend<'a>, ProtocolError> {
    Reader::new(message, body).end()?;
    Ok(value)
}

fn query(body: &[u8]) -> Result<Frontend<'_>, ProtocolError> {
    let mut reader = Reader::new("Query", body);
    let text = reader.str()?;
    reader.end()?;
    Ok(Frontend::Query { text })
}

fn parse_message(body: &[u8]) -> Result<Frontend<'_>, ProtocolError> {
    let mut reader = Reader::new("Parse", body);
    let name = reader.str()?;
    let text = reader.str()?;
    let count = reader.count(4)?;
    let parameter_types = reader.items(count, Reader::u32)?;
    reader.end()?;
    Ok(Frontend::Parse {
        name,
        text,
        parameter_types,
    })
}

fn part_and_name<'a>(
    message: &'static str,
    body: &'a [u8],
) -> Result<(Part, &'a str), ProtocolError> {
    let mut reader = Reader::new(message, body);
    let part = match reader.u8()? {
        b'S' => Part::Statement,
        b'P' => Part::Portal,
        _ => return Err(reader.bad_value()),
    };
    let name = reader.str()?;
    reader.end()?;
    Ok((part, name))
}

fn execute(body: &[u8]) -> Result<Frontend<'_>, ProtocolError> {
    let mut reader = Reader::new("Execute", body);
    let portal = reader.str()?;
    let max_rows = reader.i32()?;
    reader.end()?;
    Ok(Frontend::Execute { portal, max_rows })
}

fn bind(frame: &Frame) -> Result<Bind<'_>, ProtocolError> {
    let mut reader = Reader::new("Bind", frame.body());
    let portal = reader.str()?;
    let statement = reader.str()?;
    let parameter_formats = reader.formats()?;
    let count = reader.count(4)?;
    // Section 55.7, Bind: zero, one, or as many formats as parameters.
    if parameter_formats.len() > 1 && parameter_formats.len() != count {
        return Err(reader.bad_count());
    }
    let parameters = reader.items(count, |reader| {
        let value = reader.value()?;
        let end = HEADER + reader.position();
        Ok(match value {
            None => Parameter {
                value: None,
                range: end..end,
            },
            Some(bytes) => {
                let range = end - bytes.len()..end;
                Parameter {
                    value: Some(frame.raw.slice(range.clone())),
                    range,
                }
            }
        })
    })?;
    let result_formats = reader.formats()?;
    reader.end()?;
    Ok(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}

fn function_call(body: &[u8]) -> Result<Frontend<'_>, ProtocolError> {
    let mut reader = Reader::new("FunctionCall", body);
    let function = reader.u32()?;
    reader.formats()?;
    for _ in 0..reader.count(4)? {
        reader.value()?;
    }
    reader.i16()?;
    reader.end()?;
    Ok(Frontend::FunctionCall { function })
}

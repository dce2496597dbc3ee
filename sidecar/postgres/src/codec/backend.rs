//! Messages from the server (PostgreSQL documentation, section 55.7).

use super::data_row::DataRow;
use super::error::ProtocolError;
use super::error_response::ErrorFields;
use super::frame::FrameRef;
use super::frontend::Format;
use super::reader::Reader;
use super::row_description::RowDescription;

/// Type bytes of the messages a server sends.
pub mod tag {
    #![allow(missing_docs)]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// One message of a server, borrowing its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend<'a> {
    /// A step of the login.
    Authentication(Authentication<'a>),
    /// What a cancel request must show.
    BackendKeyData {
        /// The server process.
        pid: i32,
        /// The key: 4 bytes in protocol 3.0, up to 256 in 3.2.
        key: &'a [u8],
    },
    /// Bind is done.
    BindComplete,
    /// Close is done.
    CloseComplete,
    /// A statement is done.
    CommandComplete {
        /// `SELECT 5`, `INSERT 0 1`, `BEGIN` …; see [`command_rows`].
        tag: &'a str,
    },
    /// COPY in both directions; only replication has it.
    CopyBothResponse(CopyResponse),
    /// A piece of COPY data; the server sends whole rows.
    CopyData(&'a [u8]),
    /// COPY data is complete.
    CopyDone,
    /// The server waits for COPY data.
    CopyInResponse(CopyResponse),
    /// COPY data follows.
    CopyOutResponse(CopyResponse),
    /// A row.
    DataRow(DataRow<'a>),
    /// An empty query string ran.
    EmptyQueryResponse,
    /// A statement or the session failed.
    ErrorResponse(ErrorFields<'a>),
    /// Answer to a FunctionCall.
    FunctionCallResponse(Option<&'a [u8]>),
    /// The server speaks less than was asked for.
    NegotiateProtocolVersion {
        /// Newest minor version it speaks.
        minor: i32,
        /// Protocol options it does not know.
        options: Vec<&'a str>,
    },
    /// What was described returns no rows.
    NoData,
    /// A warning.
    NoticeResponse(ErrorFields<'a>),
    /// A NOTIFY of some session.
    NotificationResponse {
        /// The notifying server process.
        pid: i32,
        /// Its channel.
        channel: &'a str,
        /// Its payload.
        payload: &'a str,
    },
    /// Parameter types of a described statement.
    ParameterDescription(Vec<u32>),
    /// A setting's value, at login and whenever it changes.
    ParameterStatus {
        /// The setting.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// Parse is done.
    ParseComplete,
    /// Execute stopped at its row limit.
    PortalSuspended,
    /// The server waits for the next command.
    ReadyForQuery(TransactionStatus),
    /// The columns of the rows to come.
    RowDescription(RowDescription<'a>),
}

/// Where a session's transaction stands (ReadyForQuery).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InTransaction,
    /// `E`: only ROLLBACK [TO] is accepted.
    Failed,
}

impl TransactionStatus {
    /// The byte of ReadyForQuery.
    pub fn as_byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }
}

/// CopyInResponse, CopyOutResponse, CopyBothResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyResponse {
    /// Text (csv too) or binary.
    pub format: Format,
    /// Of each column.
    pub columns: Vec<Format>,
}

/// The Authentication messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Done.
    Ok,
    /// Wants the password as it is.
    CleartextPassword,
    /// Wants it hashed with this salt.
    Md5Password {
        /// Four bytes.
        salt: [u8; 4],
    },
    /// Offers SASL mechanisms, best first.
    Sasl {
        /// Their names.
        mechanisms: Vec<&'a str>,
    },
    /// A SASL challenge.
    SaslContinue(&'a [u8]),
    /// SASL's last word.
    SaslFinal(&'a [u8]),
    /// GSSAPI, SSPI and whatever else we do not speak, by its code.
    Unsupported {
        /// The request code.
        code: i32,
    },
}

impl<'a> Backend<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// [`ProtocolError`] for a type no server sends and for a body that is not exactly its fields.
    pub fn parse(frame: FrameRef<'a>) -> Result<Backend<'a>, ProtocolError> {
        let body = frame.body();
        match frame.tag {
            tag::AUTHENTICATION => authentication(body).map(Backend::Authentication),
            tag::BACKEND_KEY_DATA => backend_key_data(body),
            tag::BIND_COMPLETE => empty("BindComplete", body, Backend::BindComplete),
            tag::CLOSE_COMPLETE => empty("CloseComplete", body, Backend::CloseComplete),
            tag::COMMAND_COMPLETE => {
                let mut reader = Reader::new("CommandComplete", body);
                let tag = reader.str()?;
                reader.end()?;
                Ok(Backend::CommandComplete { tag })
            }
            tag::COPY_BOTH_RESPONSE => copy_response(body).map(Backend::CopyBothResponse),
            tag::COPY_DATA => Ok(Backend::CopyData(body)),
            tag::COPY_DONE => empty("CopyDone", body, Backend::CopyDone),
            tag::COPY_IN_RESPONSE => copy_response(body).map(Backend::CopyInResponse),
            tag::COPY_OUT_RESPONSE => copy_response(body).map(Backend::CopyOutResponse),
            tag::DATA_ROW => DataRow::parse(body).map(Backend::DataRow),
            tag::EMPTY_QUERY_RESPONSE => {
                empty("EmptyQueryResponse", body, Backend::EmptyQueryResponse)
            }
            tag::ERROR_RESPONSE => {
                ErrorFields::parse("ErrorResponse", body).map(Backend::ErrorResponse)
            }
            tag::FUNCTION_CALL_RESPONSE => {
                let mut reader = Reader::new("FunctionCallResponse", body);
                let value = reader.value()?;
                reader.end()?;
                Ok(Backend::FunctionCallResponse(value))
            }
            tag::NEGOTIATE_PROTOCOL_VERSION => negotiate(body),
            tag::NO_DATA => empty("NoData", body, Backend::NoData),
            tag::NOTICE_RESPONSE => {
                ErrorFields::parse("NoticeResponse", body).map(Backend::NoticeResponse)
            }
            tag::NOTIFICATION_RESPONSE => notification(body),
            tag::PARAMETER_DESCRIPTION => {
                let mut reader = Reader::new("ParameterDescription", body);
                let count = reader.count(4)?;
                let types = reader.items(count, Reader::u32)?;
                reader.end()?;
                Ok(Backend::ParameterDescription(types))
            }
            tag::PARAMETER_STATUS => {
                let mut reader = Reader::new("ParameterStatus", body);
                let name = reader.str()?;
                let value = reader.str()?;
                reader.end()?;
                Ok(Backend::ParameterStatus { name, value })
            }
            tag::PARSE_COMPLETE => empty("ParseComplete", body, Backend::ParseComplete),
            tag::PORTAL_SUSPENDED => empty("PortalSuspended", body, Backend::PortalSuspended),
            tag::READY_FOR_QUERY => ready_for_query(body).map(Backend::ReadyForQuery),
            tag::ROW_DESCRIPTION => RowDescription::parse(body).map(Backend::RowDescription),
            tag => Err(ProtocolError::UnknownType { tag }),
        }
    }
}

fn empty<'a>(
    message: &'static str,
    body: &[u8],
    value: Backend<'a>,
) -> Result<Backend<'a>, ProtocolError> {
    Reader::new(message, body).end()?;
    Ok(value)
}

/// Reads the body of a ReadyForQuery.
///
/// # Errors
/// [`ProtocolError`].
pub fn ready_for_query(body: &[u8]) -> Result<TransactionStatus, ProtocolError> {
    let mut reader = Reader::new("ReadyForQuery", body);
    let status = match reader.u8()? {
        b'I' => TransactionStatus::Idle,
        b'T' => TransactionStatus::InTransaction,
        b'E' => TransactionStatus::Failed,
        _ => return Err(reader.bad_value()),
    };
    reader.end()?;
    Ok(status)
}

/// The number of rows a CommandComplete tag tells of: its last word, where that is a number.
pub fn command_rows(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}

/// The codes of section 55.7, Authentication….
fn authentication(body: &[u8]) -> Result<Authentication<'_>, ProtocolError> {
    let mut reader = Reader::new("Authentication", body);
    let request = match reader.i32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => {
            let salt = reader.u32()?.to_be_bytes();
            Authentication::Md5Password { salt }
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.str()? {
                    "" => break,
                    name => mechanisms.push(name),
                }
            }
            Authentication::Sasl { mechanisms }
        }
        11 => Authentication::SaslContinue(reader.rest()),
        12 => Authentication::SaslFinal(reader.rest()),
        code => {
            reader.rest();
            Authentication::Unsupported { code }
        }
    };
    reader.end()?;
    Ok(request)
}

fn backend_key_data(body: &[u8]) -> Result<Backend<'_>, ProtocolError> {
    let mut reader = Reader::new("BackendKeyData", body);
    let pid = reader.i32()?;
    let key = reader.rest();
    // Section 55.7: at least 4 and at most 256 bytes.
    if !(4..=256).contains(&key.len()) {
        return Err(reader.bad_count());
    }
    Ok(Backend::BackendKeyData { pid, key })
}

fn negotiate(body: &[u8]) -> Result<Backend<'_>, ProtocolError> {
    let mut reader = Reader::new("NegotiateProtocolVersion", body);
    let minor = reader.i32()?;
    let count = usize::try_from(reader.i32()?).map_err(|_| reader.bad_count())?;
    // A name is at least its NUL.
    if count > reader.remaining() {
        return Err(reader.bad_count());
    }
    let options = reader.items(count, Reader::str)?;
    reader.end()?;
    Ok(Backend::NegotiateProtocolVersion { minor, options })
}

fn notification(body: &[u8]) -> Result<Backend<'_>, ProtocolError> {
    let mut reader = Reader::new("NotificationResponse", body);
    let pid = reader.i32()?;
    let channel = reader.str()?;
    let payload = reader.str()?;
    reader.end()?;
    Ok(Backend::NotificationResponse {
        pid,
        channel,
        payload,
    })
}

fn copy_response(body: &[u8]) -> Result<CopyResponse, ProtocolError> {
    let mut reader = Reader::new("CopyResponse", body);
    let code = reader.u8()?;
    let format = Format::from_code(i16::from(code)).ok_or_else(|| reader.bad_value())?;
    let columns = reader.formats()?;
    reader.end()?;
    Ok(CopyResponse { format, columns })
}

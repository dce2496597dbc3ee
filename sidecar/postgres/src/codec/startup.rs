//! The first packets of a client, which have a length but no type byte
//! (PostgreSQL documentation, sections 55.2.1 and 55.7).

use bytes::{Bytes, BytesMut};
use chaperone_policy::Reason;

use super::encode::code;
use super::error::ProtocolError;
use super::reader::Reader;
use super::startup_options;

/// Bytes of a startup packet at most (`MAX_STARTUP_PACKET_LENGTH` of PostgreSQL).
pub const MAX_STARTUP_PACKET: usize = 10_000;

/// Bytes of a cancel key: 4 in protocol 3.0, at most 256 in 3.2.
const CANCEL_KEY: std::ops::RangeInclusive<usize> = 4..=256;

/// Newest minor version of protocol 3 spoken here.
pub const NEWEST_MINOR: u16 = 2;

/// What a client opens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initial {
    /// Asks for TLS; answer `S` or `N`.
    SslRequest,
    /// Asks for GSSAPI encryption; answer `N`.
    GssEncRequest,
    /// Asks to cancel another session; no answer.
    Cancel(CancelRequest),
    /// Opens a session.
    Startup(Startup),
}

/// CancelRequest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// From BackendKeyData.
    pub pid: i32,
    /// From BackendKeyData.
    pub key: Bytes,
}

/// What version of protocol 3 a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    /// The part after the dot.
    pub minor: u16,
}

impl ProtocolVersion {
    /// The version the session has: what was asked for, or the newest we speak.
    pub fn negotiated(self) -> ProtocolVersion {
        ProtocolVersion {
            minor: self.minor.min(NEWEST_MINOR),
        }
    }

    /// Cancel keys longer than four bytes are understood (3.2).
    pub fn long_cancel_keys(self) -> bool {
        self.negotiated().minor >= 2
    }
}

/// StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// As asked for.
    pub version: ProtocolVersion,
    /// Never empty.
    pub user: String,
    /// As asked for; the server's default is the user's name.
    pub database: Option<String>,
    /// Settings in order, names in lower case: the packet's own, then those of its `options`.
    pub settings: Vec<(String, String)>,
    /// `_pq_.` options: none is known here, all go into NegotiateProtocolVersion.
    pub protocol_options: Vec<String>,
    /// The packet as received.
    pub raw: Bytes,
}

impl Startup {
    /// A NegotiateProtocolVersion must come before authentication.
    pub fn needs_negotiation(&self) -> bool {
        self.version.minor > NEWEST_MINOR || !self.protocol_options.is_empty()
    }
}

/// Why a client's first packet is refused; the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// Shorter than any packet or longer than [`MAX_STARTUP_PACKET`].
    #[error("the startup packet has an impossible length of {length}")]
    Length {
        /// The length field.
        length: i32,
    },
    /// Bytes came before the answer to SSLRequest or GSSENCRequest: someone may have put them
    /// there before the encryption begins (CVE-2021-3935).
    #[error("bytes were sent before encryption was agreed on")]
    BytesBeforeEncryption,
    /// Protocol 2, or something that is not PostgreSQL.
    #[error("protocol version {major}.{minor} is not spoken here; use 3.0 to 3.2")]
    Version {
        /// High half.
        major: u16,
        /// Low half.
        minor: u16,
    },
    /// The packet is not what its fields add up to.
    #[error(transparent)]
    Malformed(#[from] ProtocolError),
    /// No user name.
    #[error("the startup packet names no user")]
    NoUser,
    /// A parameter is there twice, so that two readers could see two packets.
    #[error("startup parameter \"{name}\" is given twice")]
    Duplicate {
        /// The parameter.
        name: String,
    },
    /// A replication session.
    #[error("replication is not offered")]
    Replication,
    /// `options` holds something else than settings.
    #[error("startup option {option:?} is not supported; use -c name=value")]
    Option {
        /// The option.
        option: String,
    },
    /// A name that no setting has.
    #[error("{name:?} is not the name of a setting")]
    Name {
        /// The name.
        name: String,
    },
}

impl StartupError {
    /// The constant for this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            StartupError::Length { .. }
            | StartupError::BytesBeforeEncryption
            | StartupError::Version { .. }
            | StartupError::Malformed(_)
            | StartupError::NoUser
            | StartupError::Duplicate { .. } => Reason::ProtocolViolation,
            StartupError::Replication => Reason::UnsupportedMessage,
            StartupError::Option { .. } | StartupError::Name { .. } => Reason::SettingDenied,
        }
    }

    /// SQLSTATE, as PostgreSQL gives it for the like.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            StartupError::Version { .. } | StartupError::Replication => "0A000",
            StartupError::NoUser => "28000",
            StartupError::Option { .. } | StartupError::Name { .. } => "42501",
            _ => "08P01",
        }
    }
}

/// Splits the first packet off `buffer`; `None` while it has not all arrived.
///
/// # Errors
/// [`StartupError`]; the length is judged as soon as it is there.
pub fn next(buffer: &mut BytesMut) -> Result<Option<Initial>, StartupError> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let signed = i32::from_be_bytes(*length);
    let length = match usize::try_from(signed) {
        Ok(length) if (8..=MAX_STARTUP_PACKET).contains(&length) => length,
        _ => return Err(StartupError::Length { length: signed }),
    };
    if buffer.len() < length {
        return Ok(None);
    }
    let raw = buffer.split_to(length).freeze();
    let initial = parse(raw)?;
    if matches!(initial, Initial::SslRequest | Initial::GssEncRequest) && !buffer.is_empty() {
        return Err(StartupError::BytesBeforeEncryption);
    }
    Ok(Some(initial))
}

fn parse(raw: Bytes) -> Result<Initial, StartupError> {
    let mut reader = Reader::new("startup packet", raw.get(4..).unwrap_or_default());
    let version = reader.u32()?;
    match version {
        code::SSL => {
            reader.end()?;
            Ok(Initial::SslRequest)
        }
        code::GSSENC => {
            reader.end()?;
            Ok(Initial::GssEncRequest)
        }
        code::CANCEL => {
            let pid = reader.i32()?;
            let key = reader.rest();
            if !CANCEL_KEY.contains(&key.len()) {
                return Err(reader.bad_count().into());
            }
            Ok(Initial::Cancel(CancelRequest {
                pid,
                key: raw.slice_ref(key),
            }))
        }
        _ => {
            let [high, low, ..] = version.to_be_bytes().map(u16::from);
            let (major, minor) = ((high << 8) | low, (version & 0xffff) as u16);
            if major != 3 {
                return Err(StartupError::Version { major, minor });
            }
            startup(ProtocolVersion { minor }, raw.clone(), reader).map(Initial::Startup)
        }
    }
}

fn startup(
    version: ProtocolVersion,
    raw: Bytes,
    mut reader: Reader<'_>,
) -> Result<Startup, StartupError> {
    let mut startup = Startup {
        version,
        user: String::new(),
        database: None,
        settings: Vec::new(),
        protocol_options: Vec::new(),
        raw: raw.clone(),
    };
    let mut options = None;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let name = reader.str()?;
        if name.is_empty() {
            break;
        }
        let value = reader.str()?;
        let folded = name.to_ascii_lowercase();
        if seen.contains(&folded) {
            return Err(StartupError::Duplicate {
                name: name.to_owned(),
            });
        }
        match (name, folded.as_str()) {
            ("user", _) => startup.user = value.to_owned(),
            ("database", _) => {
                startup.database = (!value.is_empty()).then(|| value.to_owned());
            }
            ("options", _) => options = Some(value),
            (_, "replication") => return Err(StartupError::Replication),
            // The server knows these only in lower case and would take others for settings.
            (_, "user" | "database" | "options") => {
                return Err(StartupError::Name {
                    name: name.to_owned(),
                });
            }
            _ if name.starts_with(startup_options::PROTOCOL_OPTION) => {
                startup.protocol_options.push(name.to_owned())
            }
            _ => startup
                .settings
                .push((startup_options::setting_name(name)?, value.to_owned())),
        }
        seen.push(folded);
    }
    reader.end()?;
    if startup.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if let Some(options) = options {
        startup.settings.extend(startup_options::parse(options)?);
    }
    Ok(startup)
}

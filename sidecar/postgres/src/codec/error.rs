//! How bytes can fail to be a message.

use chaperone_policy::Reason;

/// A frame that cannot be delimited; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field counts itself, so that 4 is the least it can be.
    #[error("message {} has length {length}; the least is 4", char::from(*tag).escape_default())]
    TooShort {
        /// Message type byte.
        tag: u8,
        /// The length field, as the signed number it is.
        length: i32,
    },
    /// Longer than this connection takes.
    #[error("message {} has {length} bytes; the limit is {limit}", char::from(*tag).escape_default())]
    TooLarge {
        /// Message type byte.
        tag: u8,
        /// The length field.
        length: usize,
        /// The limit on the length field.
        limit: usize,
    },
}

impl FrameError {
    /// The constant for this failure.
    pub fn reason(&self) -> Reason {
        match self {
            FrameError::TooShort { .. } => Reason::ProtocolViolation,
            FrameError::TooLarge { .. } => Reason::LimitExceeded,
        }
    }
}

/// A frame that is not the message its type byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It could not be delimited.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A type byte that no message of this direction has.
    #[error("unknown message type {} (0x{tag:02x})", char::from(*tag).escape_default())]
    UnknownType {
        /// The type byte.
        tag: u8,
    },
    /// Its fields need more bytes than the message has.
    #[error("{message} ends within a field")]
    Truncated {
        /// The message's name.
        message: &'static str,
    },
    /// Bytes are left after its last field.
    #[error("{message} has bytes after its last field")]
    TrailingBytes {
        /// The message's name.
        message: &'static str,
    },
    /// A string without the NUL that ends it.
    #[error("{message} has a string without an end")]
    UnterminatedString {
        /// The message's name.
        message: &'static str,
    },
    /// A name or query that is not UTF-8, which is the only client encoding here.
    #[error("{message} has text that is not UTF-8")]
    NotUtf8 {
        /// The message's name.
        message: &'static str,
    },
    /// A count or length below zero, or one that does not fit the other fields.
    #[error("{message} has an impossible count or length")]
    BadCount {
        /// The message's name.
        message: &'static str,
    },
    /// A field with a value that the protocol does not define.
    #[error("{message} has a field with an undefined value")]
    BadValue {
        /// The message's name.
        message: &'static str,
    },
    /// A message of ours would be longer than a length field can say.
    #[error("{message} would be longer than a message can be")]
    TooLong {
        /// The message's name.
        message: &'static str,
    },
}

impl ProtocolError {
    /// The constant for this failure when a client sent the message; a server's is
    /// [`Reason::TargetProtocol`].
    pub fn reason(&self) -> Reason {
        match self {
            ProtocolError::Frame(error) => error.reason(),
            _ => Reason::ProtocolViolation,
        }
    }
}

//! Refusals in PostgreSQL's words, and the server's errors without values of masked columns.

use std::borrow::Cow;

use bytes::BytesMut;
use chaperone_enforce::Denial;
use chaperone_mask::{Counts, sanitize_message};
use chaperone_policy::Reason;

use super::values::Masks;
use crate::codec::error_response::field;
use crate::codec::{ErrorFields, ErrorResponse, Severity};

/// The SQLSTATE of a refusal (postgres.md, Wire).
pub(crate) fn sqlstate(reason: Reason) -> &'static str {
    match reason {
        Reason::NoPolicy | Reason::TargetAuthentication | Reason::TokenRequired => "28000",
        Reason::TokenRefused => "28P01",
        Reason::Cancelled | Reason::ApprovalCancelled => "57014",
        Reason::TooManyPending | Reason::LimitExceeded => "53400",
        Reason::TooManySessions => "53300",
        Reason::CannotRecord => "58030",
        Reason::ProtocolViolation => "08P01",
        Reason::TargetProtocol | Reason::TargetUnreachable | Reason::TargetTls => "08006",
        Reason::TargetRefused => "08004",
        Reason::ShuttingDown
        | Reason::SessionExpired
        | Reason::TokenExpired
        | Reason::ClosedByFinding => "57P01",
        Reason::DatabaseDenied => "3D000",
        Reason::TooComplex => "54001",
        Reason::Unparsable => "42601",
        Reason::Internal => "XX000",
        Reason::UnknownStatement => "26000",
        Reason::UnknownPortal => "34000",
        _ => "42501",
    }
}

/// An ErrorResponse for a refusal.
pub(crate) fn error_response(denial: &Denial, severity: Severity) -> ErrorResponse {
    let own_words = matches!(
        denial.reason,
        Reason::UnknownStatement | Reason::UnknownPortal
    );
    let message = if own_words {
        denial.message.clone()
    } else {
        format!("chaperone: {}", denial.message)
    };
    let mut error = ErrorResponse::new(severity, sqlstate(denial.reason), message);
    error.detail = Some(
        denial
            .detail
            .clone()
            .unwrap_or_else(|| format!("reason: {}", denial.reason)),
    );
    error.hint.clone_from(&denial.hint);
    error
}

/// Passes an ErrorResponse or NoticeResponse on, without what it may say of masked values.
///
/// A statement that `touches` a masked relation loses every field in which PostgreSQL quotes
/// data; all others pass the detectors.
pub(crate) fn sanitized(
    tag: u8,
    fields: &ErrorFields<'_>,
    touches: bool,
    masks: &Masks,
    out: &mut BytesMut,
) {
    let file = fields
        .get(field::FILE)
        .map(|file| String::from_utf8_lossy(file).into_owned());
    fields.rewrite(tag, out, |kind, value| match kind {
        field::MESSAGE if touches => {
            let text = String::from_utf8_lossy(value);
            Some(Cow::Owned(
                sanitize_message(&text, file.as_deref())
                    .into_owned()
                    .into_bytes(),
            ))
        }
        field::DETAIL
        | field::HINT
        | field::WHERE
        | field::INTERNAL_QUERY
        | field::INTERNAL_POSITION
        | field::SCHEMA
        | field::TABLE
        | field::COLUMN
        | field::DATA_TYPE
        | field::CONSTRAINT
            if touches =>
        {
            None
        }
        field::MESSAGE | field::DETAIL | field::HINT | field::WHERE | field::INTERNAL_QUERY => {
            Some(detected(value, masks))
        }
        _ => Some(Cow::Borrowed(value)),
    });
}

/// A text through the detectors.
pub(crate) fn detected<'a>(value: &'a [u8], masks: &Masks) -> Cow<'a, [u8]> {
    let Some(detectors) = &masks.detectors else {
        return Cow::Borrowed(value);
    };
    let text = String::from_utf8_lossy(value);
    match detectors.mask_text(&masks.masker, &text, &mut Counts::default()) {
        Cow::Borrowed(_) => Cow::Borrowed(value),
        Cow::Owned(masked) => Cow::Owned(masked.into_bytes()),
    }
}

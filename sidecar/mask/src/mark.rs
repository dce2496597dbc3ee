//! The marks that masked values carry, and how a value on its way back in is recognised by them.

/// What a redacted value is replaced by.
pub const MARK: &str = "[masked]";

/// What [`MARK`] and all that begins like it are in base64 (RFC 4648, section 4), as values of
/// Secrets are written.
const ENCODED_MARKS: [&str; 2] = ["W21hc2tlZF0", "W21hc2tlZCB"];

/// What a hashed value begins with; 22 characters of unpadded base64url follow (RFC 4648, 5).
pub const HASH_PREFIX: &str = "h:";

/// Characters of base64url that 128 bits take.
pub(crate) const HASH_CHARACTERS: usize = 22;

/// Whether a value carries a mark (policy.md, Write-back): `[masked]` or `[masked …]` anywhere,
/// or as a whole `h:` and 22 base64url characters, also as a JSON string.
///
/// A partial mask (`****1234`) is recognised only by the session that sent it, not here: it has
/// no form of its own.
pub fn carries_mark(value: &str) -> bool {
    carries_redaction(value)
        || is_hash(value)
        || json_string(value).is_some_and(is_hash)
        || ENCODED_MARKS.iter().any(|mark| value.contains(mark))
}

fn carries_redaction(value: &str) -> bool {
    const OPEN: &str = "[masked";
    // The last closing bracket decides for every `[masked ` before it.
    let last_close = value.rfind(']');
    value.match_indices(OPEN).any(|(at, _)| {
        let end = at + OPEN.len();
        match value.as_bytes().get(end) {
            Some(b']') => true,
            Some(b' ') => last_close.is_some_and(|close| close > end),
            _ => false,
        }
    })
}

fn is_hash(value: &str) -> bool {
    value.strip_prefix(HASH_PREFIX).is_some_and(|rest| {
        rest.len() == HASH_CHARACTERS
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

fn json_string(value: &str) -> Option<&str> {
    value.trim().strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::carries_mark;

    #[test]
    fn every_documented_mark_is_recognised() {
        for value in [
            "[masked]",
            "before [masked] after",
            "{\"a\":\"[masked]\"}",
            "[masked EmailAddress]",
            "x [masked Email #1] y",
            "[masked [masked x]",
            "{\"password\":\"W21hc2tlZF0=\"}",
            "h:AAAAAAAAAAAAAAAAAAAAAA",
            "h:ab-_0123456789ABCDEFab",
            "\"h:AAAAAAAAAAAAAAAAAAAAAA\"",
        ] {
            assert!(carries_mark(value), "{value}");
        }
    }

    #[test]
    fn ordinary_values_carry_no_mark() {
        for value in [
            "",
            "masked",
            "[maskedx]",
            "[masked",
            "[masked and open",
            "] [masked ",
            "[Masked]",
            "h:short",
            "h:AAAAAAAAAAAAAAAAAAAAAAA",
            "h:AAAAAAAAAAAAAAAAAAAA A",
            "x h:AAAAAAAAAAAAAAAAAAAAAA",
            "****1234",
        ] {
            assert!(!carries_mark(value), "{value}");
        }
    }
}

//! Names of requests: `ar-` and five characters, short enough to be said aloud.

use crate::error::ApprovalError;
use crate::tuple::Tuple;

/// Letters and digits of names: no vowels, and nothing that reads like another.
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Random characters in a name.
const NAME_RANDOM: usize = 5;
/// Start of every name.
const NAME_PREFIX: &str = "ar-";

/// Whether `name` can be a request's: `ar-` and five lower-case letters or digits. Nothing else
/// is ever made into a path, of a file or of an API server.
pub fn is_name(name: &str) -> bool {
    name.strip_prefix(NAME_PREFIX).is_some_and(|rest| {
        rest.len() == NAME_RANDOM
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// A name drawn at random.
pub(crate) fn random_name() -> Result<String, ApprovalError> {
    name_of(|| {
        let mut byte = [0_u8; 1];
        aws_lc_rs::rand::fill(&mut byte)
            .map_err(|_| ApprovalError::Worker("the system gives no random bytes".to_owned()))?;
        Ok(byte[0])
    })
}

/// The name of the `attempt`th request of a tuple. All who ask for the same thing at once come to
/// the same name, so that a store which makes each name once makes them one request.
///
/// # Errors
/// Not with any key; the type is that of a name drawn at random.
pub fn derived_name(key: &[u8], tuple: &Tuple, attempt: u32) -> Result<String, ApprovalError> {
    use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
    let key = Key::new(HMAC_SHA256, key);
    let mut block = 0_u32;
    let mut bytes = Vec::new().into_iter();
    name_of(move || {
        loop {
            if let Some(byte) = bytes.next() {
                return Ok(byte);
            }
            let mut context = Context::with_key(&key);
            context.update(b"chaperone request name\0");
            context.update(&tuple.digest());
            context.update(&attempt.to_be_bytes());
            context.update(&block.to_be_bytes());
            block = block.wrapping_add(1);
            bytes = context.sign().as_ref().to_vec().into_iter();
        }
    })
}

fn name_of(mut byte: impl FnMut() -> Result<u8, ApprovalError>) -> Result<String, ApprovalError> {
    // Bytes past the last whole multiple are thrown away, so that no character is favoured.
    let fair = 256 - 256 % NAME_ALPHABET.len();
    let mut name = NAME_PREFIX.to_owned();
    while name.len() < NAME_PREFIX.len() + NAME_RANDOM {
        let value = usize::from(byte()?);
        if let Some(letter) = NAME_ALPHABET
            .get(value % NAME_ALPHABET.len())
            .filter(|_| value < fair)
        {
            name.push(char::from(*letter));
        }
    }
    Ok(name)
}

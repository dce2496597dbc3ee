//! Where in a text that goes on a match may still be open: what is before that place can be given
//! out, whatever follows.
//!
//! A detector's place is the first from which what is there is, to the end of the text, the beginning
//! of something it would find, or of what decides whether it is one. Wrong to one side these functions
//! hold text back longer than needed; to the other they would give out the first half of a secret, so
//! they know of each form only its letters, and never more than that.

use super::aws::{BESIDE, ID, SECRET, is_mixed, is_secret_byte};
use super::jwt::opens_object;
use super::private_key::{self, BEGIN};
use super::{before, first, is_word};

/// Longer than any match of a bounded form, in bytes: the longest is an address of 64 and 255.
const REACH: usize = 512;

/// Where the bytes that end the text and are all so begin, at most `most` of them.
fn suffix(bytes: &[u8], most: usize, is: impl Fn(u8) -> bool) -> usize {
    let run = bytes.iter().rev().take(most).take_while(|byte| is(**byte));
    bytes.len() - run.count()
}

/// Cards, telephone and social security numbers.
pub(super) fn number(bytes: &[u8]) -> usize {
    let of_one = |byte: u8| byte.is_ascii_digit() || b" -./()+".contains(&byte);
    let begins = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'(');
    let from = suffix(bytes, REACH, of_one);
    first(bytes, from, begins).unwrap_or(bytes.len())
}

/// E-mail addresses.
pub(super) fn email(bytes: &[u8]) -> usize {
    suffix(bytes, REACH, |byte| {
        is_word(byte) || b".-%+'!#$*^~@".contains(&byte)
    })
}

/// International bank account numbers: two letters, two digits, and groups.
pub(super) fn iban(bytes: &[u8]) -> usize {
    // At most 34 characters and a space after every four.
    let from = suffix(bytes, 64, |byte| {
        byte.is_ascii_alphanumeric() || byte == b' '
    });
    let begins = |at: &usize| {
        let mut head = bytes.iter().skip(*at).take(4).enumerate();
        head.all(|(place, byte)| match place {
            0 | 1 => byte.is_ascii_alphabetic(),
            _ => byte.is_ascii_digit(),
        }) && !before(bytes, *at).is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    (from..bytes.len()).find(begins).unwrap_or(bytes.len())
}

/// Tokens, which have no longest.
pub(super) fn jwt(bytes: &[u8]) -> usize {
    let from = suffix(bytes, usize::MAX, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
    });
    let begins = |at: &usize| {
        let head = bytes.get(*at..).unwrap_or_default();
        let opens = match head {
            [b'e'] | [b'e', b'y' | b'w'] => true,
            _ => head.get(..3).is_some_and(opens_object),
        };
        opens && !before(bytes, *at).is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    (from..bytes.len()).find(begins).unwrap_or(bytes.len())
}

/// Private keys, over as many lines as they have.
pub(super) fn private_key(bytes: &[u8]) -> usize {
    let begin = BEGIN.as_bytes();
    let cut = |at: &usize| bytes.get(*at..).is_some_and(|rest| begin.starts_with(rest));
    let last = bytes.len().saturating_sub(begin.len() - 1);
    let whole = bytes.windows(begin.len()).enumerate();
    let mut whole = whole.filter(|(_, window)| *window == begin);
    let goes_on = whole.find(|(at, _)| private_key::goes_on(bytes, *at));
    match goes_on {
        Some((at, _)) => at,
        None => (last..bytes.len()).find(cut).unwrap_or(bytes.len()),
    }
}

/// AWS access keys: ids, and secrets in front of one that may follow.
pub(super) fn aws(bytes: &[u8]) -> usize {
    let id = suffix(bytes, ID + 1, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit()
    });
    let rest = bytes.get(id..).unwrap_or_default();
    let opens = |start: &&[u8; 4]| rest.iter().zip(start.iter()).all(|(a, b)| a == b);
    let begun = rest.len() <= ID && [b"AKIA", b"ASIA"].iter().any(opens);
    let id = if begun { id } else { bytes.len() };
    // One that ends the text, and may be longer or shorter than a secret is.
    let run = suffix(bytes, SECRET + 1, is_secret_byte);
    let run = match bytes.len() - run <= SECRET {
        true => run,
        false => bytes.len(),
    };
    let mut open = id.min(run);
    let mut at = open.saturating_sub(BESIDE);
    let mut cut = before(bytes, at).is_some_and(is_secret_byte);
    while at < open {
        let tail = bytes.get(at..).unwrap_or_default();
        let length = tail.iter().take_while(|byte| is_secret_byte(**byte));
        let length = length.count();
        if length == SECRET && !cut && is_mixed(tail.get(..SECRET)) {
            open = at;
        }
        cut = false;
        at += length + 1;
    }
    open
}

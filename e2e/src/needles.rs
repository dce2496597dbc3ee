//! Secret values made anew for each run, and finding them again in whatever form.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use xtask::random::Random;

/// Letters that no word of PostgreSQL's or ours has four of in a row.
const LETTERS: &[u8] = b"qxzjkvwbf";
/// The shortest piece of a text that counts as given away.
const SLICE: usize = 4;
/// The same for digits, which numbers of other things have too.
const DIGITS: usize = 6;

/// Texts in braces, and what they stand for in one world.
pub type Values = BTreeMap<&'static str, String>;

/// The values of two worlds that differ in nothing else: in the order of the rows, in length, in
/// parity, in what is equal to what.
pub fn two_worlds() -> Result<[Values; 2]> {
    let mut random = random()?;
    let last: Vec<String> = (0..3).map(|_| digits(&mut random, 4)).collect();
    let mut worlds = [Values::new(), Values::new()];
    for (low, world) in [true, false].into_iter().zip(&mut worlds) {
        let lengths = if low { (10, 8) } else { (14, 12) };
        let mut mails: Vec<String> = (0..3)
            .map(|_| {
                let first = if low { b"b" } else { b"z" };
                let user = [
                    text(&mut random, first, 1),
                    text(&mut random, LETTERS, lengths.0),
                ]
                .concat();
                format!("{user}@{}", text(&mut random, LETTERS, lengths.1))
            })
            .collect();
        mails.sort();
        if !low {
            mails.reverse();
            // Two rows of this world share a value.
            mails.truncate(2);
            mails.extend(mails.last().cloned());
        }
        let base = if low { 100_000_000 } else { 700_000_001 };
        let mut salaries: Vec<u64> = (0..3)
            .map(|_| base + 2 * random.below(40_000_000))
            .collect();
        salaries.sort_unstable();
        if !low {
            salaries.reverse();
        }
        for (row, suffix) in ["", "2", "3"].into_iter().enumerate() {
            let card = [
                if low { "4" } else { "5" },
                &digits(&mut random, 11),
                last.get(row).map_or("", String::as_str),
            ]
            .concat();
            let names: [&'static str; 3] = match suffix {
                "" => ["email", "card", "salary"],
                "2" => ["email2", "card2", "salary2"],
                _ => ["email3", "card3", "salary3"],
            };
            let [email, number, salary] = names;
            world.insert(email, mails.get(row).cloned().unwrap_or_default());
            world.insert(number, card);
            world.insert(
                salary,
                salaries.get(row).map(u64::to_string).unwrap_or_default(),
            );
        }
        let length = if low { 12 } else { 16 };
        for name in ["ssn", "tag", "doc", "phone"] {
            let first = if low { b"b" } else { b"z" };
            let text = [
                text(&mut random, first, 1),
                text(&mut random, LETTERS, length),
            ]
            .concat();
            world.insert(name, text);
        }
        let photo = if low { (b"b", 20) } else { (b"z", 28) };
        let photo = [
            text(&mut random, photo.0, 1),
            text(&mut random, LETTERS, photo.1),
        ]
        .concat();
        world.insert("photo", photo);
        world.insert("pin", text(&mut random, LETTERS, 4));
        let person = if low {
            "bbb".to_owned()
        } else {
            text(&mut random, LETTERS, 9)
        };
        world.insert("person", person);
    }
    Ok(worlds)
}

/// A text with its braces filled in.
pub fn filled(text: &str, values: &Values) -> String {
    let mut text = text.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

/// Finds secret values, and slices of them, in bytes.
pub struct Finder {
    /// Every form, by its first bytes.
    forms: HashMap<[u8; SLICE], Vec<(Vec<u8>, String)>>,
    /// Whether a form begins with two bytes: nearly none of an answer's do.
    starts: Vec<bool>,
}

impl Finder {
    /// Looks for the values of `world`. `digests` are texts that only those who know a value can
    /// have made of it.
    pub fn new(world: &Values, digests: &[String]) -> Finder {
        let mut finder = Finder {
            forms: HashMap::new(),
            starts: vec![false; 1 << 16],
        };
        for (name, value) in world {
            if name.starts_with("salary") {
                finder.number(name, value, value.len());
            } else if name.starts_with("card") {
                // The last four are shown.
                finder.number(name, value, 12);
            } else if *name == "email" || value.len() >= SLICE {
                finder.text(name, value);
            }
        }
        for digest in digests {
            finder.add(digest.as_bytes(), "a digest".to_owned());
        }
        finder
    }

    /// What is found, in words; nothing in an ordinary answer.
    pub fn find(&self, bytes: &[u8]) -> Option<&str> {
        bytes.windows(SLICE).enumerate().find_map(|(at, window)| {
            if !*self.starts.get(pair(window))? {
                return None;
            }
            let key: [u8; SLICE] = window.try_into().ok()?;
            let rest = bytes.get(at..)?;
            self.forms
                .get(&key)?
                .iter()
                .find(|(form, _)| rest.starts_with(form))
                .map(|(_, what)| what.as_str())
        })
    }

    fn add(&mut self, form: &[u8], what: String) {
        if let Some(key) = form.get(..SLICE).and_then(|key| key.try_into().ok()) {
            if let Some(start) = self.starts.get_mut(pair(form)) {
                *start = true;
            }
            self.forms
                .entry(key)
                .or_default()
                .push((form.to_vec(), what));
        }
    }

    fn slices(&mut self, text: &[u8], length: usize, what: &str) {
        for slice in text.windows(length) {
            self.add(slice, format!("{what} ({})", String::from_utf8_lossy(text)));
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        let reversed: String = value.chars().rev().collect();
        let upper = value.to_uppercase();
        for (form, how) in [
            (value, "as it is"),
            (&upper, "in capitals"),
            (&reversed, "backwards"),
        ] {
            self.slices(form.as_bytes(), SLICE, &format!("{name} {how}"));
        }
        for slice in value.as_bytes().windows(SLICE) {
            self.encoded(slice, name);
        }
        for shift in 0..3 {
            let padded = [vec![b' '; shift], value.as_bytes().to_vec()].concat();
            let text = base64(&padded);
            // The first and last characters belong to what is around the value, too.
            let own = text
                .get(4..text.len().saturating_sub(4))
                .unwrap_or_default();
            self.slices(own.as_bytes(), 8, &format!("{name} in base64"));
        }
    }

    /// One slice in the encodings of a byte at a time.
    fn encoded(&mut self, slice: &[u8], name: &str) {
        let joined = |each: &dyn Fn(u8) -> String, by: &str| -> String {
            let parts: Vec<String> = slice.iter().map(|byte| each(*byte)).collect();
            parts.join(by)
        };
        let forms = [
            joined(&|byte| format!("{byte:02x}"), ""),
            joined(&|byte| format!("{byte:02X}"), ""),
            joined(&|byte| byte.to_string(), ","),
            joined(&|byte| byte.to_string(), ", "),
            joined(&|byte| byte.to_string(), " "),
            joined(&|byte| format!("\\{byte:03o}"), ""),
        ];
        for form in forms {
            self.add(form.as_bytes(), format!("{name} as {form}"));
        }
    }

    /// A number as text, and in the binary formats of int4, int8, float8 and numeric (each
    /// type's `send` function in PostgreSQL).
    fn number(&mut self, name: &str, value: &str, shown: usize) {
        let text = value.get(..shown).unwrap_or(value);
        self.slices(text.as_bytes(), DIGITS, name);
        let reversed: String = text.chars().rev().collect();
        self.slices(reversed.as_bytes(), DIGITS, name);
        for slice in text.as_bytes().windows(DIGITS) {
            self.encoded(slice, name);
        }
        let Ok(number) = value.parse::<u64>() else {
            return;
        };
        let integer = number.to_be_bytes();
        let what = || format!("{name} in binary");
        let significant = match integer {
            [0, 0, 0, 0, rest @ ..] => rest.to_vec(),
            all => all.to_vec(),
        };
        self.add(&significant, what());
        self.add(format!("{number:x}").as_bytes(), format!("{name} in hex"));
        #[expect(
            clippy::cast_precision_loss,
            reason = "what float8 makes of it is looked for"
        )]
        let float = number as f64;
        self.add(&float.to_be_bytes(), what());
        let mut groups = Vec::new();
        let mut rest = number;
        while rest > 0 {
            let group = u16::try_from(rest % 10_000).unwrap_or_default();
            groups.splice(0..0, group.to_be_bytes());
            rest /= 10_000;
        }
        self.add(&groups, what());
    }
}

/// The first two bytes as a number.
fn pair(bytes: &[u8]) -> usize {
    match bytes {
        [one, two, ..] => usize::from(*one) << 8 | usize::from(*two),
        _ => 0,
    }
}

/// RFC 4648, 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = 0_u32;
        for place in 0..3 {
            group = (group << 8) | u32::from(chunk.get(place).copied().unwrap_or_default());
        }
        for place in 0..4_usize {
            if place > chunk.len() {
                text.push('=');
            } else {
                let index = (group >> (18 - 6 * place)) & 63;
                let letter = usize::try_from(index)
                    .ok()
                    .and_then(|index| ALPHABET.get(index));
                text.push(letter.map_or('=', |letter| char::from(*letter)));
            }
        }
    }
    text
}

/// The same values in each run, so that none fails by chance, and the system's own randomness where
/// everything is tried.
fn random() -> Result<Random> {
    Ok(match std::env::var_os("CHAPERONE_FULL") {
        Some(_) => Random::of_the_system()?,
        None => Random::new(0x0707_0707_0707_0707),
    })
}

fn text(random: &mut Random, alphabet: &[u8], length: usize) -> String {
    let letter = |random: &mut Random| alphabet.get(random.index(alphabet.len())).copied();
    (0..length)
        .map(|_| char::from(letter(random).unwrap_or(b'q')))
        .collect()
}

fn digits(random: &mut Random, length: usize) -> String {
    text(random, b"0123456789", length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_form_of_a_value_is_found_and_nothing_else() {
        let world: Values = [
            ("email", "qxzjkvwbf@vxq".to_owned()),
            ("salary", "123456789".to_owned()),
            ("card", "1111222233334444".to_owned()),
        ]
        .into();
        let finder = Finder::new(&world, &["0123456789abcdef".to_owned()]);
        for bytes in [
            &b"..zjkv.."[..],
            b"ZJKV",
            b"vkjz",
            b"\\x7a6a6b76",
            b"122,106,107,118",
            b"122 106 107 118",
            b"ICBxeHpqa3Z3YmZAdnhx",
            b"567891234567",
            b"\x07\x5b\xcd\x15",
            b"\0\x01\x09\x29\x1a\x85",
            b"75bcd15",
            b"x 0123456789abcdef",
            b"122223",
        ] {
            assert!(finder.find(bytes).is_some(), "{bytes:?}");
        }
        for bytes in [
            &b"[masked]"[..],
            b"****4444",
            b"length constraint",
            b"relation 16384",
            b"zjk",
        ] {
            assert_eq!(finder.find(bytes), None, "{bytes:?}");
        }
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    }

    #[test]
    fn two_worlds_differ_in_order_length_and_parity() {
        let [low, high] = two_worlds().unwrap();
        assert!(low["email"] <= low["email2"] && low["email2"] <= low["email3"]);
        assert!(high["email"] >= high["email2"] && high["email2"] == high["email3"]);
        assert!(low["email"].as_str() < "m" && high["email"].as_str() > "m");
        assert_eq!(low["card"][12..], high["card"][12..]);
        assert_ne!(low["card"][..12], high["card"][..12]);
        assert_ne!(low["email"].len(), high["email"].len());
    }
}

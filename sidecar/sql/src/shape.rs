//! The shape of a text: the same statement with other numbers in it. Clients that write their
//! numbers into the text would otherwise make every statement a new one to be parsed.
//!
//! Only integers that cannot change what a statement does are replaced, by others of the same
//! length, so that places in the text stay what they are. A text in which that cannot be seen at
//! a glance has no shape.

/// Longest integer that is one in every text: more digits may not fit `integer` and parse as
/// another kind of constant (PostgreSQL, Lexical Structure, Numeric Constants).
const DIGITS: usize = 9;

/// How a statement begins in which an integer is a value like any other.
const ROW_VERBS: [&str; 6] = ["select", "insert", "update", "delete", "with", "values"];

/// The text with its interchangeable integers replaced by ones; `None` where it has none, or
/// where quotes, comments, escapes or parameters make it hard to tell.
///
/// Only one statement that reads or writes rows has a shape: to SET and its kin an integer is a
/// value that decides what they do. Two texts of one shape have the same classification: an
/// integer compared with, computed with or listed is a constant whatever its value. Where ORDER BY,
/// GROUP BY or DISTINCT ON could make an integer the number of a column, only those right after a
/// comparison are replaced.
pub fn shape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hard = bytes
        .iter()
        .any(|byte| !byte.is_ascii() || matches!(byte, b'\'' | b'"' | b'$' | b'\\' | b'@' | b':'));
    if hard || text.contains("--") || text.contains("/*") {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let first = lower.split_ascii_whitespace().next().unwrap_or_default();
    let alone = !text.trim_end_matches([';', ' ', '\n']).contains(';');
    if !ROW_VERBS.contains(&first) || !alone {
        return None;
    }
    // Here an integer may be the number of an object.
    if ["nextval", "setval", "regclass"]
        .iter()
        .any(|word| lower.contains(word))
    {
        return None;
    }
    let ordinals = ["order", "group", "distinct", "by"]
        .iter()
        .any(|word| lower.contains(word));
    let mut shaped = bytes.to_vec();
    let mut replaced = false;
    // The last byte before this place that is not white space.
    let mut before = b' ';
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if !byte.is_ascii_digit() {
            if byte.is_ascii_alphanumeric() || byte == b'_' {
                // A word: whatever digits it holds are part of a name.
                at = word_end(bytes, at);
                before = b'a';
                continue;
            }
            if !byte.is_ascii_whitespace() {
                before = byte;
            }
            at = at.saturating_add(1);
            continue;
        }
        let end = digits_end(bytes, at);
        let follows = bytes.get(end).copied().unwrap_or(b';');
        let whole = follows.is_ascii_whitespace() || matches!(follows, b')' | b',' | b';');
        let interchangeable = match before {
            b'=' | b'<' | b'>' => true,
            b'(' | b',' | b'+' | b'-' | b'*' => !ordinals,
            _ => false,
        };
        if whole && interchangeable && end.saturating_sub(at) <= DIGITS {
            if let Some(number) = shaped.get_mut(at..end) {
                number.fill(b'1');
                replaced = true;
            }
            before = b'0';
            at = end;
        } else {
            at = word_end(bytes, end);
            before = b'0';
        }
    }
    if !replaced {
        return None;
    }
    String::from_utf8(shaped).ok()
}

fn digits_end(bytes: &[u8], from: usize) -> usize {
    end_of(bytes, from, |byte| byte.is_ascii_digit())
}

/// Past a name, or past a number with a point, an exponent or a radix.
fn word_end(bytes: &[u8], from: usize) -> usize {
    end_of(bytes, from, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')
    })
}

fn end_of(bytes: &[u8], from: usize, is_part: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .skip(from)
        .position(|byte| !is_part(*byte))
        .map_or(bytes.len(), |count| from.saturating_add(count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn compared_and_listed_integers_are_interchangeable() {
        assert_eq!(
            shape("SELECT abalance FROM pgbench_accounts WHERE aid = 73211;").unwrap(),
            "SELECT abalance FROM pgbench_accounts WHERE aid = 11111;"
        );
        assert_eq!(
            shape("INSERT INTO h (t, b) VALUES (12, 3, -455, CURRENT_TIMESTAMP)").unwrap(),
            "INSERT INTO h (t, b) VALUES (11, 1, -111, CURRENT_TIMESTAMP)"
        );
        assert_eq!(
            shape("UPDATE t SET a = a + -77 WHERE b = 5").unwrap(),
            "UPDATE t SET a = a + -11 WHERE b = 1"
        );
    }

    #[test]
    fn what_may_be_a_column_number_stays() {
        assert_eq!(
            shape("SELECT a, b FROM t WHERE a = 7 ORDER BY 2, 1").unwrap(),
            "SELECT a, b FROM t WHERE a = 1 ORDER BY 2, 1"
        );
        assert_eq!(shape("SELECT a FROM t GROUP BY (1)"), None);
        assert_eq!(shape("SELECT DISTINCT ON (2) a, b FROM t"), None);
        assert_eq!(shape("SELECT 5"), None);
        assert_eq!(shape("SELECT a FROM t LIMIT 5"), None);
    }

    #[test]
    fn names_and_other_numbers_stay() {
        assert_eq!(shape("SELECT t1.c2 FROM t1 WHERE c2 = t2"), None);
        assert_eq!(shape("SELECT a FROM t WHERE a = 1.5"), None);
        assert_eq!(shape("SELECT a FROM t WHERE a = 1e5 OR a=0x1F"), None);
        assert_eq!(shape("SELECT a FROM t WHERE a = 2147483648"), None);
    }

    #[test]
    fn a_text_that_is_hard_to_read_has_no_shape() {
        for text in [
            "SELECT a FROM t WHERE b = 'x' AND a = 5",
            "SELECT a FROM t WHERE \"a\" = 5",
            "SELECT a FROM t WHERE a = $1 AND b = 5",
            "SELECT a FROM t -- x = 5",
            "SELECT a FROM t /* x = 5 */",
            "SELECT a::int FROM t WHERE a = 5",
            "SELECT nextval(16390)",
            "SELECT setval(16390, 5)",
            "SELECT nextval(CAST(16390 AS regclass))",
            "SELECT a FROM t WHERE ä = 5",
            "SET standard_conforming_strings = 0",
            "SELECT 1 WHERE 1 = 1; SET row_security = 0",
            "ALTER ROLE a CONNECTION LIMIT = 5",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }

    #[test]
    fn a_shape_has_the_length_and_the_shape_of_its_text() {
        let text = "DELETE FROM orders WHERE id = 1001 AND x IN (5, 66, 777)";
        let shaped = shape(text).unwrap();
        assert_eq!(shaped.len(), text.len());
        assert_eq!(shape(&shaped).unwrap(), shaped);
    }
}

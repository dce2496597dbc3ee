//! Error and notice texts of statements that touch masked relations.

use std::borrow::Cow;

use crate::mark::MARK;

/// Removes from a server's message whatever may be a value: everything from the first to the
/// last quotation mark or bracket, and every word with a digit outside of them.
///
/// `file` is the message's source file (field `F` of ErrorResponse and NoticeResponse). Texts
/// of procedural languages (RAISE in `pl_exec.c`, plpy, plperl, pltcl) are the author's own and
/// may hold a value anywhere, unquoted; they, and texts from nowhere, are replaced whole.
///
/// DETAIL, CONTEXT, HINT, the internal query and the names of column, table and constraint are
/// the caller's to drop: only the primary message is worth keeping.
pub fn sanitize_message<'a>(text: &'a str, file: Option<&str>) -> Cow<'a, str> {
    if file.is_none_or(is_procedural) {
        return Cow::Borrowed(MARK);
    }
    let quoted = quoted_span(text);
    if quoted.is_none() && !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Cow::Borrowed(text);
    }
    let (before, after) = match quoted {
        Some((start, end)) => (
            text.get(..start).unwrap_or_default(),
            Some(text.get(end..).unwrap_or_default()),
        ),
        None => (text, None),
    };
    let mut clean = String::with_capacity(text.len());
    push_without_numbers(before, &mut clean);
    if let Some(after) = after {
        clean.push_str(MARK);
        push_without_numbers(after, &mut clean);
    }
    Cow::Owned(clean)
}

/// The backend's own files are C, bison or flex; a procedural language's begin with `pl`
/// (so do a few of the planner's, whose messages are no loss).
fn is_procedural(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let backend = [".c", ".y", ".l"]
        .iter()
        .any(|suffix| name.ends_with(suffix));
    !backend || name.starts_with("pl") || name.starts_with("Util") || name.starts_with("SPI")
}

/// From the first delimiter to the last: a value may itself contain delimiters, so pairing them
/// would let a value with one in it out. A lone one hides the rest of the text.
fn quoted_span(text: &str) -> Option<(usize, usize)> {
    let first = text.find(is_delimiter)?;
    let (last, delimiter) = text.char_indices().rev().find(|(_, c)| is_delimiter(*c))?;
    let end = if first == last {
        text.len()
    } else {
        last + delimiter.len_utf8()
    };
    Some((first, end))
}

/// Quotation marks of the languages that PostgreSQL's messages are translated to, and brackets.
fn is_delimiter(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '`'
            | '('
            | ')'
            | '{'
            | '}'
            | '['
            | ']'
            | '«'
            | '»'
            | '‹'
            | '›'
            | '„'
            | '“'
            | '”'
            | '‚'
            | '‘'
            | '’'
            | '‟'
            | '「'
            | '」'
            | '『'
            | '』'
            | '〈'
            | '〉'
            | '《'
            | '》'
    )
}

fn push_without_numbers(text: &str, clean: &mut String) {
    for word in text.split_inclusive(char::is_whitespace) {
        if word.bytes().any(|byte| byte.is_ascii_digit()) {
            clean.push_str(MARK);
            clean.extend(word.chars().rev().take(1).filter(|c| c.is_whitespace()));
        } else {
            clean.push_str(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sanitize_message;

    fn clean(text: &str) -> String {
        sanitize_message(text, Some("int.c")).into_owned()
    }

    #[test]
    fn quoted_values_are_removed_even_with_quotes_in_them() {
        assert_eq!(
            clean("invalid input syntax for type integer: \"ann@example.com\""),
            "invalid input syntax for type integer: [masked]"
        );
        assert_eq!(
            clean("invalid value: \"a\"b\"c\""),
            "invalid value: [masked]"
        );
        assert_eq!(clean("invalid value: \"open"), "invalid value: [masked]");
        assert_eq!(clean("valeur « ann » invalide"), "valeur [masked] invalide");
        assert_eq!(
            clean("Key (email)=(ann@example.com) already exists."),
            "Key [masked] already exists."
        );
    }

    #[test]
    fn numbers_outside_quotes_are_removed() {
        assert_eq!(
            clean("requested character too large for encoding: 1114112"),
            "requested character too large for encoding: [masked]"
        );
        assert_eq!(clean("value 4111-1111 is bad"), "value [masked] is bad");
    }

    #[test]
    fn a_text_without_values_is_kept() {
        assert_eq!(clean("division by zero"), "division by zero");
    }

    #[test]
    fn procedural_texts_are_replaced_whole() {
        for file in [
            "pl_exec.c",
            "plpy_elog.c",
            "plperl.c",
            "Util.xs",
            "./src/pl_exec.c",
            "x.cpp",
        ] {
            assert_eq!(
                sanitize_message("bad email ann", Some(file)),
                "[masked]",
                "{file}"
            );
        }
        assert_eq!(sanitize_message("bad email ann", None), "[masked]");
    }
}

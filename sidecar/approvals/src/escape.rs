//! Text as an approver and an auditor may safely read it.
//!
//! An agent chooses the bytes of its command. A right-to-left override, a terminal's escape
//! sequence or a zero-width character would let it show one thing and run another, so every
//! character that hides, reorders, moves or recolours text is written as `\u{…}` (its scalar
//! value in hex). Letters that merely look alike (homoglyphs) are left as they are.
//!
//! Idempotent: escaped text holds nothing that would be escaped again.

/// `text` with every character that is not plainly visible escaped; line feed and tab stay.
pub fn escape_for_display(text: &str) -> String {
    escape(text, |c| c == '\n' || c == '\t')
}

/// [`escape_for_display`] for a place of one line: line feed and tab are escaped too.
pub fn escape_line(text: &str) -> String {
    escape(text, |_| false)
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_misleading(c) && !keep(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Controls, formats, bidirectional marks, fillers, tags, variation selectors, private use,
/// noncharacters, and every space but U+0020 (Unicode 16, general categories Cc, Cf, Zs, Zl, Zp,
/// Co and Default_Ignorable_Code_Point).
fn is_misleading(c: char) -> bool {
    if c == ' ' || c.is_ascii_graphic() {
        return false;
    }
    if c.is_control() || c.is_whitespace() {
        return true;
    }
    matches!(
        u32::from(c),
        0x00AD
            | 0x034F
            | 0x0600..=0x0605
            | 0x061C
            | 0x06DD
            | 0x070F
            | 0x0890..=0x0891
            | 0x08E2
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x2028..=0x202E
            | 0x2060..=0x206F
            | 0x2800
            | 0x3164
            | 0xE000..=0xF8FF
            | 0xFDD0..=0xFDEF
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFFB
            | 0xFFFE..=0xFFFF
            | 0x110BD
            | 0x110CD
            | 0x13430..=0x1343F
            | 0x1BCA0..=0x1BCA3
            | 0x1D173..=0x1D17A
            | 0xE0000..=0xE0FFF
            | 0xF0000..=0x10FFFF
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn right_to_left_override_is_shown() {
        assert_eq!(
            escape_for_display("DELETE FROM \u{202e}sredro\u{2066}"),
            "DELETE FROM \\u{202e}sredro\\u{2066}"
        );
    }

    #[test]
    fn terminal_escape_sequences_are_shown() {
        assert_eq!(
            escape_for_display("a\u{1b}[2K\u{1b}]0;x\u{7}\r\u{9b}1A"),
            "a\\u{1b}[2K\\u{1b}]0;x\\u{7}\\u{d}\\u{9b}1A"
        );
    }

    #[test]
    fn zero_width_and_invisible_characters_are_shown() {
        for hidden in [
            '\u{200b}',
            '\u{200d}',
            '\u{feff}',
            '\u{2060}',
            '\u{ad}',
            '\u{3164}',
            '\u{e0041}',
            '\u{fe0f}',
            '\u{a0}',
            '\u{2028}',
            '\u{61c}',
            '\0',
        ] {
            let escaped = escape_for_display(&format!("a{hidden}b"));
            assert_eq!(escaped, format!("a\\u{{{:x}}}b", u32::from(hidden)));
        }
    }

    #[test]
    fn ordinary_text_of_any_script_stays() {
        let text = "SELECT 'Žluťoučký', '日本語', 'עברית', '🙂'\n\tFROM \"t\" -- 100%";
        assert_eq!(escape_for_display(text), text);
        assert_eq!(escape_line("a\n\tb"), "a\\u{a}\\u{9}b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn escaping_twice_changes_nothing_and_leaves_nothing_hidden(text in any::<String>()) {
            let once = escape_line(&text);
            prop_assert_eq!(&escape_line(&once), &once);
            prop_assert!(!once.chars().any(is_misleading));
        }
    }
}

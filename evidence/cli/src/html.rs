//! Pages that load nothing, run nothing but their own script, and show hostile text as it is.
//!
//! A page is one file. Its Content-Security-Policy allows exactly the style and the script of this
//! program, by their digests (CSP Level 3, 2.3.1 and 6.6.3), and no address at all: what a record
//! says could become neither code nor a request, even if it were not escaped. It is escaped twice:
//! what misleads the eye is made visible ([`escape_for_display`]), then what HTML gives a meaning
//! (HTML Living Standard, 13.1.2.3 and 13.1.4).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::output::{escape_for_display, escape_line};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Text for between tags; line feeds stay.
pub(crate) fn text(raw: &str) -> String {
    entities(&escape_for_display(raw))
}

/// Text of one line, for between tags and in quoted attributes.
pub(crate) fn line(raw: &str) -> String {
    entities(&escape_line(raw))
}

fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Everything up to the page's own content.
pub(crate) fn head(title: &str) -> String {
    let hash = |part: &str| STANDARD.encode(digest(&SHA256, part.as_bytes()));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        hash(STYLE),
        hash(SCRIPT),
        line(title)
    )
}

/// Everything after it.
pub(crate) fn foot() -> String {
    format!("<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_text() {
        let hostile = "</script><img src=x onerror=\"alert('1')\">&amp;\u{202e}\u{1b}[2J\u{200b}";
        let shown = line(hostile);
        assert_eq!(
            shown,
            "&lt;/script&gt;&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;\\u{202e}\\u{1b}[2J\\u{200b}"
        );
        assert_eq!(text("a\nb"), "a\nb");
        assert_eq!(line("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn the_page_has_no_address_and_its_parts_cannot_end_early() {
        for part in [STYLE, SCRIPT] {
            assert!(!part.contains("http") && !part.contains("url(") && !part.contains("</"));
        }
    }
}

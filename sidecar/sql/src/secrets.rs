//! Where a statement's text holds values that no record may hold.

use std::ops::Range;

use pg_query::NodeEnum;
use pg_query::protobuf::{ScanToken, Token};

/// Byte ranges of `text`, in order: the literals of PASSWORD clauses, of connection options and of
/// lasting settings always, and every literal where `all` is set.
pub(crate) fn spans(text: &str, node: &NodeEnum, all: bool) -> Vec<Range<usize>> {
    let rule = if all {
        Rule::Literals
    } else {
        match node {
            NodeEnum::CreateRoleStmt(_) | NodeEnum::AlterRoleStmt(_) => Rule::Passwords,
            NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignTableStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::AlterSystemStmt(_) => Rule::Literals,
            _ => return Vec::new(),
        }
    };
    // A text that was parsed can be scanned; if not, nothing of it may be shown.
    let Ok(scanned) = pg_query::scan(text) else {
        return std::iter::once(0..text.len()).collect();
    };
    let mut previous = Token::Nul;
    let mut spans = Vec::new();
    for token in &scanned.tokens {
        let secret = match rule {
            Rule::Literals => is_literal(token.token()),
            Rule::Passwords => previous == Token::Password && is_literal(token.token()),
        };
        if secret && let Some(span) = span(token) {
            spans.push(span);
        }
        if !matches!(token.token(), Token::SqlComment | Token::CComment) {
            previous = token.token();
        }
    }
    spans
}

#[derive(Clone, Copy)]
enum Rule {
    Literals,
    Passwords,
}

fn is_literal(token: Token) -> bool {
    matches!(
        token,
        Token::Sconst
            | Token::Usconst
            | Token::Iconst
            | Token::Fconst
            | Token::Bconst
            | Token::Xconst
    )
}

fn span(token: &ScanToken) -> Option<Range<usize>> {
    Some(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)
}

//! From text to statements, by PostgreSQL 18's grammar.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use chaperone_policy::Reason;
use pg_query::NodeEnum;
use pg_query::protobuf::{ParseResult, Token};

use crate::weight::Weight;

/// Why a text cannot be classified at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// PostgreSQL's grammar refuses it; `position` is a byte offset where known.
    #[error("{message}")]
    Unparsable {
        /// The grammar's own message.
        message: String,
        /// Byte offset into the text, where known.
        position: Option<usize>,
    },
    /// The tree nests deeper, or is larger, than can be checked (postgres.md, Classification), or
    /// there is no room for it beside those of other sessions.
    #[error(
        "the statement nests too deeply or is too large to be checked; split it into smaller ones, pass values as parameters, or use COPY"
    )]
    TooComplex,
}

impl ParseError {
    /// The constant for this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            ParseError::Unparsable { .. } => Reason::Unparsable,
            ParseError::TooComplex => Reason::TooComplex,
        }
    }
}

/// All statements of one text, in order. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The statements; empty for an empty query string.
    pub statements: Arc<[Statement]>,
}

/// One statement: its tree and its own piece of the text. Cheap to clone.
#[derive(Clone)]
pub struct Statement {
    /// The statement's text without the separating semicolon and the white space around it.
    pub text: Arc<str>,
    /// Where `text` begins in the script, in bytes.
    pub offset: usize,
    tree: Arc<Tree>,
    index: usize,
    /// The statement is the one that a PREPARE at `index` names.
    prepared: bool,
}

/// What one text was parsed to.
struct Tree {
    parsed: ParseResult,
    weight: Weight,
}

impl Script {
    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        let first = self.statements.first();
        first.map_or(0, |statement| statement.tree.weight.bytes())
    }
}

impl Statement {
    /// The root of the statement's tree.
    pub(crate) fn node(&self) -> Option<&NodeEnum> {
        let node = self.tree.parsed.stmts.get(self.index)?.stmt.as_ref()?;
        match node.node.as_ref()? {
            NodeEnum::PrepareStmt(prepare) if self.prepared => {
                prepare.query.as_ref()?.node.as_ref()
            }
            node => Some(node),
        }
    }

    /// For a PREPARE: the statement that it names, with its own piece of the text.
    pub(crate) fn prepared(&self) -> Option<Statement> {
        if self.prepared || !matches!(self.node(), Some(NodeEnum::PrepareStmt(_))) {
            return None;
        }
        let tokens = pg_query::scan(&self.text).ok()?.tokens;
        // The list of parameter types before AS cannot hold the keyword: it is reserved.
        let after = tokens.iter().find(|token| token.token() == Token::As)?.end;
        let after = usize::try_from(after).ok()?;
        let rest = self.text.get(after..)?;
        let text = rest.trim_start();
        Some(Statement {
            text: text.into(),
            offset: self.offset + after + (rest.len() - text.len()),
            prepared: true,
            ..self.clone()
        })
    }

    #[cfg(test)]
    #[expect(clippy::unwrap_used, reason = "an empty text weighs nothing")]
    pub(crate) fn from_node(node: NodeEnum) -> Statement {
        let node = pg_query::Node { node: Some(node) };
        let raw = pg_query::protobuf::RawStmt {
            stmt: Some(Box::new(node)),
            ..Default::default()
        };
        Statement {
            text: "".into(),
            offset: 0,
            tree: Arc::new(Tree {
                parsed: ParseResult {
                    version: 0,
                    stmts: vec![raw],
                },
                weight: Weight::of("").unwrap(),
            }),
            index: 0,
            prepared: false,
        }
    }
}

// The tree is a function of the text.
impl PartialEq for Statement {
    fn eq(&self, other: &Statement) -> bool {
        self.text == other.text && self.offset == other.offset && self.prepared == other.prepared
    }
}

impl Eq for Statement {}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statement")
            .field("text", &self.text)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Parses a query string, which may hold several statements.
///
/// # Errors
/// [`ParseError::Unparsable`] for what PostgreSQL's grammar refuses, [`ParseError::TooComplex`]
/// for what it accepts and cannot be checked: deeper than 100 messages, more than the parser's
/// 100 kB of stack, or a tree for which there is no [`crate::Room`].
pub fn parse(text: &str) -> Result<Script, ParseError> {
    let weight = Weight::of(text).ok_or(ParseError::TooComplex)?;
    // The library summarises each tree in ways that can panic; only the tree is wanted.
    let parsed = catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, 0)))
        .map_err(|_| unparsable("the statement could not be summarised".to_owned()))?
        .map_err(refusal)?;
    let tree = Arc::new(Tree {
        parsed: parsed.protobuf,
        weight,
    });
    let mut statements = Vec::with_capacity(tree.parsed.stmts.len());
    for (index, raw) in tree.parsed.stmts.iter().enumerate() {
        let (offset, text) = piece(text, raw.stmt_location, raw.stmt_len)
            .ok_or_else(|| unparsable("the statement's place in the text is unknown".to_owned()))?;
        statements.push(Statement {
            text: text.into(),
            offset,
            tree: Arc::clone(&tree),
            index,
            prepared: false,
        });
    }
    Ok(Script {
        statements: statements.into(),
    })
}

fn unparsable(message: String) -> ParseError {
    ParseError::Unparsable {
        message,
        position: None,
    }
}

fn refusal(error: pg_query::Error) -> ParseError {
    match error {
        pg_query::Error::Decode(_) => ParseError::TooComplex,
        pg_query::Error::Parse(message)
            if message.contains("stack depth limit exceeded")
                || message.contains("nested too deeply")
                || message.contains("memory exhausted") =>
        {
            ParseError::TooComplex
        }
        pg_query::Error::Parse(message) => unparsable(message),
        pg_query::Error::Conversion(error) => ParseError::Unparsable {
            message: "a query string cannot hold a zero byte".to_owned(),
            position: Some(error.nul_position()),
        },
        error => unparsable(error.to_string()),
    }
}

/// The statement's own text and where it begins; a length of 0 means up to the end.
fn piece(text: &str, location: i32, length: i32) -> Option<(usize, &str)> {
    let start = usize::try_from(location).ok()?;
    let rest = text.get(start..)?;
    let whole = match usize::try_from(length).ok()? {
        0 => rest,
        length => rest.get(..length)?,
    };
    let trimmed = whole.trim_start();
    let offset = start + (whole.len() - trimmed.len());
    Some((offset, trimmed.trim_end().trim_end_matches(';').trim_end()))
}

//! Where a resource stands in its file, so that a mistake found late still names its line.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chaperone_crds::ConditionReason;

use super::yaml::Node;

/// A place in a file. Lines and columns count from 1; 0 is the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was found under the folder given.
    pub file: PathBuf,
    /// Line from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// Column from 1; 0 where the file as a whole is meant.
    pub column: u32,
    /// The field's path, such as `spec.rules[2].sql.effects[0]`; empty where none is meant.
    pub field: String,
    /// What is wrong and what is allowed, as a lower-case phrase.
    pub message: String,
    /// The kind of mistake.
    pub reason: ConditionReason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for Problem {}

/// A resource and where it stands.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The resource; `metadata.namespace` is set where its kind has one.
    pub value: T,
    /// Its namespace; empty where its kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The file it stands in.
    pub file: PathBuf,
    pub(super) document: Arc<Node>,
}

impl<T> Located<T> {
    /// `namespace/name`, or `name` where the kind has no namespace.
    pub fn qualified_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    /// Where a field stands; the nearest field around it where it does not exist.
    pub fn position(&self, path: &str) -> Position {
        self.document.locate(path)
    }

    /// Something wrong with a field of this resource. `path` is the field's path in the resource,
    /// such as `spec.rules[2].when`.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        self.problem_because(ConditionReason::Invalid, path, message)
    }

    /// As [`Located::problem`], with another reason than Invalid.
    pub fn problem_because(
        &self,
        reason: ConditionReason,
        path: &str,
        message: impl Into<String>,
    ) -> Problem {
        let Position { line, column } = self.position(path);
        let (field, message) = (path.to_owned(), message.into());
        Problem {
            file: self.file.clone(),
            line,
            column,
            field,
            message,
            reason,
        }
    }
}

//! RowDescription: the columns of a result and, for plain ones, where they come from.

use super::error::ProtocolError;
use super::frontend::Format;
use super::reader::Reader;

/// The columns of a result, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDescription<'a> {
    /// At most 1664 from a real server.
    pub fields: Vec<Field<'a>>,
}

/// One column of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, in the result.
    pub name: &'a str,
    /// `pg_class.oid` where the column is a plain one of a table, else 0.
    pub table_oid: u32,
    /// `pg_attribute.attnum` in that table, else 0.
    pub attnum: i16,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `pg_type.typlen`; negative is variable.
    pub type_length: i16,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
    /// How its values are written; always text when a statement is described.
    pub format: Format,
}

impl<'a> RowDescription<'a> {
    /// Reads the message's body.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(body: &'a [u8]) -> Result<RowDescription<'a>, ProtocolError> {
        let mut reader = Reader::new("RowDescription", body);
        // A field is its name's NUL and 18 bytes at least.
        let count = reader.count(19)?;
        let fields = reader.items(count, |reader| {
            Ok(Field {
                name: reader.str()?,
                table_oid: reader.u32()?,
                attnum: reader.i16()?,
                type_oid: reader.u32()?,
                type_length: reader.i16()?,
                type_modifier: reader.i32()?,
                format: Format::from_code(reader.i16()?).ok_or_else(|| reader.bad_value())?,
            })
        })?;
        reader.end()?;
        Ok(RowDescription { fields })
    }
}

//! Loads the facts that names are resolved with, on the session's own connection.
//!
//! What is asked is `chaperone-sql`'s to say; here it is sent as one Query and its rows handed back.

use chaperone_sql::catalog_sql::{QUERIES, Query};
use chaperone_sql::{Catalog, CatalogBuilder};
use tokio::time::Instant;

use super::connect::ServerConnection;
use super::error::QueryError;
use crate::codec::DataRow;

/// One schema a row, in order. Qualified throughout: it runs under the client's search path.
const SEARCH_PATH: &str = "SELECT s.schema::pg_catalog.text \
     FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY s (schema, place) \
     ORDER BY s.place";

/// What a database looks like to the role of a session.
#[derive(Debug)]
pub struct CatalogSnapshot {
    /// Relations, columns, functions, operators, schemas; its generation is the caller's to set.
    pub catalog: Catalog,
    /// The effective search path in order, pg_catalog and an existing pg_temp included.
    pub search_path: Vec<String>,
}

/// Loads the catalog and the effective search path in one round trip.
///
/// # Errors
/// [`QueryError`]; [`QueryError::Protocol`] too for rows that no catalog has.
pub async fn load_catalog(
    connection: &mut ServerConnection,
    deadline: Instant,
) -> Result<CatalogSnapshot, QueryError> {
    load(connection, &QUERIES, deadline).await
}

/// Reads the effective search path alone.
///
/// # Errors
/// As [`load_catalog`].
pub async fn load_search_path(
    connection: &mut ServerConnection,
    deadline: Instant,
) -> Result<Vec<String>, QueryError> {
    Ok(load(connection, &[], deadline).await?.search_path)
}

/// The search path and the answers to `queries`, all in one Query.
async fn load(
    connection: &mut ServerConnection,
    queries: &[Query],
    deadline: Instant,
) -> Result<CatalogSnapshot, QueryError> {
    let mut sql = SEARCH_PATH.to_owned();
    for query in queries {
        sql.push(';');
        sql.push_str(query.text);
    }
    let mut search_path = Vec::new();
    let mut builder = CatalogBuilder::new();
    connection
        .query(&sql, deadline, |statement, row| {
            let cells = text_cells(row)?;
            match (statement.checked_sub(1), cells.as_slice()) {
                (None, [Some(schema)]) => {
                    search_path.push((*schema).to_owned());
                    Ok(())
                }
                (None, _) => Err(protocol("it gives the search path in another form")),
                (Some(index), cells) => {
                    let query = queries
                        .get(index)
                        .ok_or_else(|| protocol("it sent more results than it was asked for"))?;
                    builder
                        .add(query.kind, cells)
                        .map_err(|error| protocol(error.to_string()))
                }
            }
        })
        .await?;
    if search_path.is_empty() {
        return Err(protocol("it gives the session no search path"));
    }
    Ok(CatalogSnapshot {
        catalog: builder.build(0),
        search_path,
    })
}

/// Catalog values come in UTF-8, since that is the session's encoding.
fn text_cells<'a>(row: DataRow<'a>) -> Result<Vec<Option<&'a str>>, QueryError> {
    row.cells()
        .map(|cell| {
            cell.map(std::str::from_utf8)
                .transpose()
                .map_err(|_| protocol("it sent a catalog value that is not UTF-8"))
        })
        .collect()
}

fn protocol(message: impl Into<String>) -> QueryError {
    QueryError::Protocol {
        message: message.into(),
    }
}

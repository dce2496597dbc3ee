//! What a role may do, and whether a session of it stays one: asked when a Connection proves
//! itself, never on an agent's session.

use tokio::time::Instant;

use super::connect::ServerConnection;
use super::error::QueryError;
use crate::codec::DataRow;

/// Roles whose members reach past tables: files and programs of the server, all data.
const STRONG_ROLES: &str = "'pg_read_server_files', 'pg_write_server_files', \
    'pg_execute_server_program', 'pg_read_all_data', 'pg_write_all_data'";

/// Times two sessions are asked in turn for their server process.
const TURNS: usize = 4;

/// What the server says of the role of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examination {
    /// `server_version_num`: 160004 is 16.4.
    pub version: u32,
    /// The server process that answered. Where it is not [`ServerConnection::backend_pid`],
    /// a pooler stands between.
    pub backend_pid: i32,
    /// What the role may do.
    pub privileges: Privileges,
}

/// What a role may do, in what an owner would want to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Everything.
    pub superuser: bool,
    /// Make and change roles.
    pub create_role: bool,
    /// Read the write-ahead log.
    pub replication: bool,
    /// See rows that row security hides.
    pub bypass_row_security: bool,
    /// Member of predefined roles that reach past tables.
    pub strong_roles: Vec<String>,
    /// Make schemas in the database, or something in one of its schemas.
    pub create: bool,
    /// Owns a table.
    pub owns: bool,
    /// Read a table.
    pub select: bool,
    /// Insert into a table.
    pub insert: bool,
    /// Update a table.
    pub update: bool,
    /// Delete from a table, or truncate it.
    pub delete: bool,
}

impl ServerConnection {
    /// Asks about the session's own role and database, in one transaction that only reads and
    /// leaves no setting behind, so that whoever gets the session from a pooler next finds none.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn examine(&mut self, deadline: Instant) -> Result<Examination, QueryError> {
        let mut found = None;
        self.query(&question(), deadline, |_, row| {
            found = Some(read(row)?);
            Ok(())
        })
        .await?;
        found.ok_or_else(|| protocol("it knows nothing of its own role"))
    }
}

/// Whether two open sessions are served by one server process in turn: then a pooler between
/// gives sessions away after each transaction, and what one sets another finds.
///
/// # Errors
/// [`QueryError`].
pub async fn share_process(
    first: &mut ServerConnection,
    second: &mut ServerConnection,
    deadline: Instant,
) -> Result<bool, QueryError> {
    // A pooler hands out the process that was used last; others may take it once, not each time.
    for _ in 0..TURNS {
        let one = first.examine(deadline).await?.backend_pid;
        let other = second.examine(deadline).await?.backend_pid;
        if one == other {
            return Ok(true);
        }
    }
    Ok(false)
}

fn question() -> String {
    let on_any_table = |privilege: &str| {
        format!("coalesce(bool_or(has_table_privilege(t.oid, '{privilege}')), false)")
    };
    let privileges: Vec<String> = ["SELECT", "INSERT", "UPDATE", "DELETE, TRUNCATE"]
        .into_iter()
        .map(on_any_table)
        .collect();
    format!(
        "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog; \
         WITH schemas AS (SELECT oid FROM pg_namespace \
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
         tables AS (SELECT c.oid, c.relowner FROM pg_class c \
             WHERE c.relnamespace IN (SELECT oid FROM schemas) \
             AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) \
         SELECT current_setting('server_version_num'), pg_backend_pid()::text, \
             r.rolsuper::text, r.rolcreaterole::text, r.rolreplication::text, \
             r.rolbypassrls::text, \
             coalesce((SELECT string_agg(s.rolname, ' ' ORDER BY s.rolname) FROM pg_roles s \
                 WHERE s.rolname IN ({STRONG_ROLES}) AND pg_has_role(r.oid, s.oid, 'MEMBER')), ''), \
             (has_database_privilege(current_database(), 'CREATE') OR EXISTS (SELECT 1 \
                 FROM schemas s WHERE has_schema_privilege(s.oid, 'CREATE')))::text, \
             (SELECT coalesce(bool_or(pg_has_role(t.relowner, 'USAGE')), false)::text FROM tables t), \
             (SELECT concat_ws(' ', {}) FROM tables t) \
         FROM pg_roles r WHERE r.rolname = current_user; COMMIT",
        privileges.join(", ")
    )
}

fn read(row: DataRow<'_>) -> Result<Examination, QueryError> {
    let cells: Vec<&str> = row
        .cells()
        .map(|cell| std::str::from_utf8(cell.unwrap_or_default()).unwrap_or_default())
        .collect();
    let [
        version,
        pid,
        superuser,
        create_role,
        replication,
        bypass,
        strong,
        create,
        owns,
        tables,
    ] = cells.as_slice()
    else {
        return Err(protocol("it describes its role in another form"));
    };
    let is = |text: &str| matches!(text, "t" | "true");
    let mut on_tables = tables.split(' ').map(is);
    let mut next = || on_tables.next().unwrap_or_default();
    Ok(Examination {
        version: version
            .parse()
            .map_err(|_| protocol("its version is no number"))?,
        backend_pid: pid.parse().map_err(|_| protocol("its pid is no number"))?,
        privileges: Privileges {
            superuser: is(superuser),
            create_role: is(create_role),
            replication: is(replication),
            bypass_row_security: is(bypass),
            strong_roles: strong.split_whitespace().map(str::to_owned).collect(),
            create: is(create),
            owns: is(owns),
            select: next(),
            insert: next(),
            update: next(),
            delete: next(),
        },
    })
}

fn protocol(message: &str) -> QueryError {
    QueryError::Protocol {
        message: message.to_owned(),
    }
}

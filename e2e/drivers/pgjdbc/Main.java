import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.*;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.ds.PGConnectionPoolDataSource;

/** pgjdbc: extended and simple protocol, text and binary, and the metadata calls of JDBC. */
public final class Main {
    interface Work {
        Object run() throws Exception;
    }

    static Connection connect(String... settings) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("ApplicationName", "driver");
        for (int n = 0; n < settings.length; n += 2) {
            properties.setProperty(settings[n], settings[n + 1]);
        }
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection(url, properties);
    }

    static void say(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.length() == 0 ? "" : " ").append(shown(word));
        }
        System.out.println(line);
    }

    static String shown(Object value) {
        if (value instanceof byte[] bytes) {
            return Arrays.toString(bytes);
        }
        if (value instanceof int[] numbers) {
            return Arrays.toString(numbers);
        }
        return String.valueOf(value).replace("\n", "\\n");
    }

    static String failed(Work work) throws Exception {
        try {
            return shown(work.run());
        } catch (SQLException error) {
            StringBuilder all = new StringBuilder();
            for (SQLException e = error; e != null; e = e.getNextException()) {
                all.append(e.getSQLState()).append(' ').append(e.getMessage().replace("\n", "\\n")).append(" | ");
            }
            if (error instanceof BatchUpdateException batch) {
                all.append(Arrays.toString(batch.getUpdateCounts()));
            }
            return all.toString();
        }
    }

    /** Rows with the names and types of their columns. */
    static void rows(String what, ResultSet rows) throws SQLException {
        ResultSetMetaData meta = rows.getMetaData();
        StringBuilder head = new StringBuilder(what);
        for (int n = 1; n <= meta.getColumnCount(); n++) {
            head.append(' ').append(meta.getColumnLabel(n)).append(':').append(meta.getColumnTypeName(n)).append(':').append(meta.getColumnType(n));
        }
        say(head);
        while (rows.next()) {
            StringBuilder line = new StringBuilder(" ");
            for (int n = 1; n <= meta.getColumnCount(); n++) {
                line.append(' ').append(shown(rows.getString(n))).append(';');
            }
            say(line);
        }
        rows.close();
    }

    static void kinds(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("SELECT * FROM kinds WHERE id >= ? ORDER BY id")) {
            s.unwrap(PGStatement.class).setPrepareThreshold(1);
            // Often enough to go from text to binary on the way.
            for (int round = 0; round < 4; round++) {
                s.setInt(1, round % 2);
                ResultSet r = s.executeQuery();
                ResultSetMetaData m = r.getMetaData();
                while (r.next()) {
                    for (int n = 1; n <= m.getColumnCount(); n++) {
                        Object value = r.getObject(n);
                        say(round, m.getColumnName(n), m.getTableName(n), m.isNullable(n), m.isAutoIncrement(n), m.getPrecision(n), m.getScale(n),
                            value == null ? null : value.getClass().getSimpleName(), value);
                    }
                }
            }
        }
    }

    static void transcript(Connection c, String mode) throws Exception {
        DatabaseMetaData meta = c.getMetaData();
        say("server", meta.getDatabaseProductVersion(), meta.getDriverVersion(), meta.getDefaultTransactionIsolation(), c.getSchema(), c.getCatalog());
        kinds(c);
        Statement s = c.createStatement();
        // Affected rows, keys, several results.
        say(s.executeUpdate("INSERT INTO notes VALUES (100, 'ä'), (101, 'b')"));
        try (PreparedStatement p = c.prepareStatement("INSERT INTO shelves (label) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            p.setString(1, "west");
            p.executeUpdate();
            rows("keys", p.getGeneratedKeys());
        }
        s.executeUpdate("DELETE FROM shelves WHERE label = 'west'");
        boolean more = s.execute("SELECT 1 AS one; UPDATE notes SET body = 'x' WHERE id > 99; SELECT 2 AS two");
        for (int n = 0; n < 3; n++, more = s.getMoreResults()) {
            if (more) {
                rows("several", s.getResultSet());
            } else {
                say("count", s.getUpdateCount());
            }
        }
        // Batches.
        for (String text : new String[] {"UPDATE notes SET body = 'y' WHERE id = 100", "DELETE FROM notes WHERE id > 99", "INSERT INTO notes VALUES (102, 'z')"}) {
            s.addBatch(text);
        }
        say("batch", s.executeBatch());
        try (PreparedStatement p = c.prepareStatement("INSERT INTO notes VALUES (?, ?)")) {
            for (int n = 1000; n < 1500; n++) {
                p.setInt(1, n);
                p.setString(2, "note " + n);
                p.addBatch();
            }
            say("batch", p.executeBatch().length);
            for (int n : new int[] {2000, 1, 2001}) {
                p.setInt(1, n);
                p.setString(2, "x");
                p.addBatch();
            }
            say("bad batch", failed(p::executeBatch));
        }
        rows("after", s.executeQuery("SELECT count(*), max(id) FROM notes"));
        s.executeUpdate("DELETE FROM notes WHERE id >= 100");
        // Transactions, savepoints, errors.
        c.setAutoCommit(false);
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        Savepoint a = c.setSavepoint("a");
        say("unique", failed(() -> s.executeUpdate("INSERT INTO notes VALUES (1, 'again')")));
        say("aborted", failed(() -> s.executeQuery("SELECT 1")));
        c.rollback(a);
        say("column", failed(() -> s.executeQuery("SELECT nothing FROM notes")));
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setReadOnly(true);
        say("read only", failed(() -> s.executeUpdate("DELETE FROM notes")));
        c.rollback();
        c.setReadOnly(false);
        // A portal fetched in pieces, and a cursor that is held.
        if (!mode.equals("simple")) {
            try (PreparedStatement p = c.prepareStatement("SELECT n, md5(n::text) FROM generate_series(1, ?) n")) {
                p.setFetchSize(300);
                p.setInt(1, 2500);
                long sum = 0;
                for (ResultSet r = p.executeQuery(); r.next(); ) {
                    sum += r.getInt(1);
                }
                say("fetched", sum);
            }
        }
        try (Statement scroll = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet r = scroll.executeQuery("SELECT id, body FROM notes WHERE id <= 3 ORDER BY id");
            r.absolute(2);
            r.updateString("body", "through the result");
            r.updateRow();
            r.last();
            say("scrolled", r.getInt(1), r.getRow());
            rows("updated", s.executeQuery("SELECT body FROM notes WHERE id = 2"));
        }
        c.rollback();
        c.setAutoCommit(true);
        rows("large", s.executeQuery("SELECT count(*), sum(length(t)) FROM (SELECT repeat('x', 100) AS t FROM generate_series(1, 10000)) q"));
        try (ResultSet r = s.executeQuery("SELECT n, md5(n::text) FROM generate_series(1, 30000) n")) {
            int hash = 0;
            while (r.next()) {
                hash = 31 * hash + r.getString(2).hashCode();
            }
            say("hash", hash);
        }
        // Warnings.
        s.execute("CREATE TABLE IF NOT EXISTS notes (id int)");
        say("warning", s.getWarnings() == null ? null : s.getWarnings().getSQLState() + s.getWarnings().getMessage());
        // COPY.
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        say("copied", copy.copyIn("COPY notes FROM STDIN WITH (FORMAT csv)", new StringReader("300,x\n301,\"y,z\"\n")));
        for (String format : new String[] {"text", "csv", "binary"}) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            say("copied", copy.copyOut("COPY (SELECT id, nu, ba FROM kinds ORDER BY id) TO STDOUT (FORMAT " + format + ")", out), out.toByteArray());
        }
        say("bad copy", failed(() -> copy.copyIn("COPY notes FROM STDIN", new StringReader("x\ty\n"))));
        s.executeUpdate("DELETE FROM notes WHERE id >= 100");
        // Notifications.
        s.execute("LISTEN jobs");
        s.execute("NOTIFY jobs, 'first'");
        for (PGNotification n : c.unwrap(PGConnection.class).getNotifications(5000)) {
            say("notified", n.getName(), n.getParameter());
        }
        s.execute("UNLISTEN *");
        // Arrays, types of other names.
        try (PreparedStatement p = c.prepareStatement("SELECT ?::int[], ?::text[], ?::mood, ?::uuid, ?::jsonb")) {
            p.setArray(1, c.createArrayOf("int4", new Integer[] {1, null, 3}));
            p.setArray(2, c.createArrayOf("text", new String[] {"a b", null}));
            p.setObject(3, "ok", Types.OTHER);
            p.setObject(4, java.util.UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
            p.setString(5, "{\"a\": 1}");
            rows("sent", p.executeQuery());
        }
        // Cancellation: again and again, as nobody can know when the server has begun.
        AtomicBoolean done = new AtomicBoolean();
        Thread canceller = new Thread(() -> {
            while (!done.get()) {
                try {
                    Thread.sleep(50);
                    s.cancel();
                } catch (Exception ignored) {
                    return;
                }
            }
        });
        canceller.start();
        say("cancelled", failed(() -> s.executeQuery("SELECT pg_sleep(60)")));
        done.set(true);
        canceller.join();
        try (Statement other = c.createStatement()) {
            other.setQueryTimeout(1);
            say("timeout", failed(() -> other.executeQuery("SELECT pg_sleep(60)")));
        }
        say("valid", c.isValid(5));
    }

    static void metadata(Connection c) throws Exception {
        DatabaseMetaData m = c.getMetaData();
        String[] all = {"TABLE", "VIEW", "SEQUENCE", "INDEX", "TYPE"};
        rows("catalogs", m.getTableTypes());
        rows("schemas", m.getSchemas());
        rows("tables", m.getTables(null, "public", "%", all));
        rows("columns", m.getColumns(null, "public", "%", "%"));
        for (String table : new String[] {"books", "shelves", "kinds"}) {
            rows("keys", m.getPrimaryKeys(null, "public", table));
            rows("imported", m.getImportedKeys(null, "public", table));
            rows("exported", m.getExportedKeys(null, "public", table));
            rows("indexes", m.getIndexInfo(null, "public", table, false, true));
            rows("best", m.getBestRowIdentifier(null, "public", table, DatabaseMetaData.bestRowSession, true));
        }
        rows("cross", m.getCrossReference(null, "public", "shelves", null, "public", "books"));
        rows("types", m.getUDTs(null, "public", "%", null));
        rows("functions", m.getFunctions(null, "public", "%"));
        rows("procedures", m.getProcedures(null, "public", "%"));
        rows("privileges", m.getTablePrivileges(null, "public", "shelves"));
        rows("column privileges", m.getColumnPrivileges(null, "public", "shelves", "%"));
        rows("client", m.getClientInfoProperties());
        ResultSet types = m.getTypeInfo();
        int count = 0;
        while (types.next()) {
            count++;
        }
        say("type count", count, m.getMaxConnections(), m.getSQLKeywords().hashCode(), m.getMaxColumnNameLength());
    }

    static void pool() throws Exception {
        PGConnectionPoolDataSource source = new PGConnectionPoolDataSource();
        source.setServerNames(new String[] {System.getenv("PGHOST")});
        source.setPortNumbers(new int[] {Integer.parseInt(System.getenv("PGPORT"))});
        source.setDatabaseName(System.getenv("PGDATABASE"));
        source.setUser(System.getenv("PGUSER"));
        source.setPassword(System.getenv("PGPASSWORD"));
        javax.sql.PooledConnection pooled = source.getPooledConnection();
        for (int n = 0; n < 3; n++) {
            try (Connection c = pooled.getConnection(); Statement s = c.createStatement()) {
                c.setAutoCommit(false);
                rows("pooled", s.executeQuery("SELECT body FROM notes WHERE id = " + (n + 1)));
                c.commit();
                c.setAutoCommit(true);
                s.execute("DISCARD ALL");
            }
        }
        pooled.close();
    }

    static String code(Work work) throws Exception {
        try {
            work.run();
            return "passed";
        } catch (BatchUpdateException error) {
            return error.getSQLState() + " " + Arrays.toString(error.getUpdateCounts());
        } catch (SQLException error) {
            return error.getSQLState() + " " + error.getClass().getSimpleName();
        }
    }

    static void denied(Connection c) throws Exception {
        Statement s = c.createStatement();
        say("read", code(() -> s.executeQuery("SELECT * FROM forbidden")));
        say("prepared", code(() -> c.prepareStatement("DELETE FROM forbidden WHERE id = 1").executeUpdate()));
        c.setAutoCommit(false);
        s.executeUpdate("INSERT INTO notes VALUES (500, 'kept')");
        Savepoint a = c.setSavepoint();
        say("inside", code(() -> s.executeUpdate("INSERT INTO forbidden VALUES (9, 'x')")));
        say("then", code(() -> s.executeQuery("SELECT 1")));
        c.rollback(a);
        c.commit();
        rows("kept", s.executeQuery("SELECT body FROM notes WHERE id = 500"));
        c.commit();
        for (boolean auto : new boolean[] {true, false}) {
            c.setAutoCommit(auto);
            Statement b = c.createStatement();
            b.addBatch("INSERT INTO notes VALUES (600, 'a')");
            b.addBatch("INSERT INTO forbidden VALUES (600, 'a')");
            b.addBatch("INSERT INTO notes VALUES (601, 'a')");
            say("batch", auto, code(b::executeBatch));
            if (!auto) {
                c.rollback();
            }
            rows("left", s.executeQuery("SELECT id FROM notes WHERE id >= 600"));
            PreparedStatement p = c.prepareStatement("INSERT INTO forbidden VALUES (?, ?)");
            for (int n = 0; n < 300; n++) {
                p.setInt(1, n);
                p.setString(2, "x");
                p.addBatch();
            }
            say("prepared batch", auto, code(p::executeBatch));
            if (!auto) {
                c.rollback();
            }
        }
        c.setAutoCommit(true);
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        say("copy", code(() -> copy.copyIn("COPY forbidden FROM STDIN", new StringReader("1\tx\n"))));
        rows("alive", s.executeQuery("SELECT count(*), max(id) FROM notes"));
    }

    static void masked(Connection c, boolean binary) throws Exception {
        PreparedStatement p = c.prepareStatement("SELECT * FROM people WHERE id = ?");
        p.unwrap(PGStatement.class).setPrepareThreshold(1);
        for (int n = 0; n < 3; n++) {
            p.setInt(1, 1);
            ResultSet r = p.executeQuery();
            r.next();
            List<String> words = new ArrayList<>();
            for (Object value : new Object[] {r.getDate("born"), r.getBigDecimal("score"), r.getArray("tags")}) {
                words.add(value == null ? "NULL" : value.toString());
            }
            say("masked id=" + r.getInt("id") + " email=" + r.getString("email") + " profile=" + r.getString("profile")
                + " born=" + words.get(0) + " score=" + words.get(1) + " tags=" + words.get(2));
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared"}) {
            boolean binary = mode.equals("extended");
            try (Connection c = connect("preferQueryMode", mode, "binaryTransfer", String.valueOf(binary), "prepareThreshold", "2")) {
                switch (arguments[0]) {
                    case "masked" -> masked(c, binary);
                    case "denied" -> {
                        if (binary) {
                            denied(c);
                        }
                    }
                    default -> {
                        transcript(c, mode);
                        if (binary) {
                            metadata(c);
                        }
                    }
                }
            }
        }
        if (arguments[0].equals("transcript")) {
            pool();
            say("end");
        }
    }
}

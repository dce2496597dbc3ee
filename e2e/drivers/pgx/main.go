// The program of pgx: its own interface with pool, batch and CopyFrom, in each of its ways to run a
// query, and database/sql over it.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

var ctx = context.Background()

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	return value
}

func check(err error) { must(0, err) }

// failure is all that the server told, but where in its source.
func failure(err error) string {
	var told *pgconn.PgError
	if !errors.As(err, &told) {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%s %s %s %q %q %q %d %q %q %q", told.Code, told.Severity, told.Message, told.Detail, told.Hint,
		told.Where, told.Position, told.TableName, told.ColumnName, told.ConstraintName)
}

func rows(c interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, text string, arguments ...any) {
	found, err := c.Query(ctx, text, arguments...)
	if err == nil {
		for _, d := range found.FieldDescriptions() {
			fmt.Print(" ", d.Name, ":", d.DataTypeOID, ":", d.TableOID, ":", d.TableAttributeNumber, ":", d.TypeModifier, ":", d.Format)
		}
		fmt.Println()
		for found.Next() {
			for _, raw := range found.RawValues() {
				if raw == nil {
					fmt.Print(" NULL")
				} else {
					fmt.Printf(" %q", raw)
				}
			}
			values, err := found.Values()
			fmt.Printf(" = %v %v\n", values, err)
		}
		err = found.Err()
	}
	if err != nil {
		fmt.Println("error", failure(err))
		return
	}
	fmt.Println("tag", found.CommandTag())
}

func config(mode pgx.QueryExecMode, notices *[]string) *pgx.ConnConfig {
	config := must(pgx.ParseConfig(""))
	config.DefaultQueryExecMode = mode
	config.RuntimeParams["application_name"] = "driver"
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *notices = append(*notices, n.Code+" "+n.Message) }
	return config
}

func transcript(mode pgx.QueryExecMode) {
	var notices []string
	c := must(pgx.ConnectConfig(ctx, config(mode, &notices)))
	defer c.Close(ctx)
	fmt.Println("mode", mode, c.PgConn().ParameterStatus("server_version"), c.PgConn().ParameterStatus("DateStyle"))
	// Types of the schema, which pgx asks pg_type about.
	for _, t := range must(c.LoadTypes(ctx, []string{"mood", "_mood", "pair", "cents"})) {
		c.TypeMap().RegisterType(t)
		fmt.Println("type", t.Name, t.OID)
	}
	for range 2 {
		rows(c, "SELECT * FROM kinds WHERE id >= $1 ORDER BY id", 1)
	}
	rows(c, "SELECT $1::int[], $2::text, $3::timestamptz, $4::bytea, $5::jsonb, $6::mood",
		[]int32{1, 2}, "ä'\\", time.Unix(1e9, 0).UTC(), []byte{0, 255}, map[string]any{"a": 1}, "ok")
	fmt.Println(must(c.Exec(ctx, "INSERT INTO notes VALUES ($1, $2), ($3, $2)", 100, "x", 101)))
	fmt.Println(must(c.Exec(ctx, "UPDATE notes SET body = $1 WHERE id >= 100", "y")))
	// Transactions within transactions.
	tx := must(c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}))
	inner := must(tx.Begin(ctx))
	_, err := inner.Exec(ctx, "INSERT INTO notes VALUES (1, 'again')")
	fmt.Println("unique", failure(err))
	_, err = inner.Exec(ctx, "SELECT 1")
	fmt.Println("aborted", failure(err), string(c.PgConn().TxStatus()))
	check(inner.Rollback(ctx))
	must(tx.Exec(ctx, "DELETE FROM notes WHERE id = $1", 100))
	_, err = tx.Exec(ctx, "SELECT nothing FROM notes")
	fmt.Println("column", failure(err))
	fmt.Println("commit", tx.Commit(ctx))
	rows(c, "SELECT count(*) FROM notes")
	// Pipelines.
	batch := &pgx.Batch{}
	for n := range 50 {
		batch.Queue("INSERT INTO notes VALUES ($1, $2)", 1000+n, "b")
	}
	batch.Queue("SELECT count(*), max(id) FROM notes")
	results := c.SendBatch(ctx, batch)
	for range 50 {
		must(results.Exec())
	}
	var count, most int
	check(results.QueryRow().Scan(&count, &most))
	fmt.Println("batch", count, most, results.Close())
	batch = &pgx.Batch{}
	batch.Queue("INSERT INTO notes VALUES ($1, 'lost')", 2000)
	batch.Queue("INSERT INTO notes VALUES ($1, 'again')", 1)
	batch.Queue("INSERT INTO notes VALUES ($1, 'lost')", 2001)
	fmt.Println("bad batch", failure(c.SendBatch(ctx, batch).Close()))
	rows(c, "SELECT count(*) FROM notes WHERE id >= 2000")
	must(c.Exec(ctx, "DELETE FROM notes WHERE id >= 100"))
	// COPY.
	source := pgx.CopyFromSlice(100, func(n int) ([]any, error) { return []any{3000 + n, fmt.Sprint("c", n)}, nil })
	fmt.Println("copied", must(c.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"id", "body"}, source)))
	_, err = c.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"id", "body"}, pgx.CopyFromRows([][]any{{1, "again"}}))
	fmt.Println("bad copy", failure(err))
	for _, format := range []string{"text", "csv", "binary"} {
		var out bytes.Buffer
		tag := must(c.PgConn().CopyTo(ctx, &out, "COPY (SELECT id, nu, tstz, jb FROM kinds ORDER BY id) TO STDOUT (FORMAT "+format+")"))
		fmt.Printf("copied %v %q\n", tag, out.Bytes())
	}
	_, err = c.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "COPY notes FROM STDIN")
	fmt.Println("bad copy", failure(err))
	must(c.Exec(ctx, "DELETE FROM notes WHERE id >= 100"))
	// Several statements at once, notices, a large result.
	for _, result := range must(c.PgConn().Exec(ctx, "SELECT 1 AS a; SELECT 'x' AS b WHERE false; SHOW TimeZone").ReadAll()) {
		fmt.Printf("%v %q %v\n", result.CommandTag, result.Rows, result.Err)
	}
	must(c.Exec(ctx, "CREATE TABLE IF NOT EXISTS notes (id int)"))
	must(c.Exec(ctx, "ROLLBACK"))
	fmt.Println("notices", notices)
	hash := sha256.New()
	large := must(c.Query(ctx, "SELECT n, md5(n::text), n / 7.0 FROM generate_series(1, $1) n", 40000))
	for large.Next() {
		for _, raw := range large.RawValues() {
			hash.Write(raw)
		}
	}
	fmt.Printf("large %x %v %v\n", hash.Sum(nil), large.CommandTag(), large.Err())
	// A prepared statement whose table changes.
	must(c.Exec(ctx, "CREATE TABLE changing (a int)"))
	must(c.Exec(ctx, "SELECT a FROM changing"))
	must(c.Exec(ctx, "ALTER TABLE changing ALTER a TYPE text"))
	for range 2 {
		_, err = c.Exec(ctx, "SELECT a FROM changing")
		fmt.Println("changed", failure(err))
	}
	must(c.Exec(ctx, "DROP TABLE changing"))
	must(c.Prepare(ctx, "mine", "SELECT body FROM notes WHERE id = $1"))
	rows(c, "mine", 3)
	check(c.Deallocate(ctx, "mine"))
	check(c.DeallocateAll(ctx))
	// Notifications.
	must(c.Exec(ctx, "LISTEN jobs"))
	must(c.Exec(ctx, "NOTIFY jobs, 'first'"))
	heard := must(c.WaitForNotification(ctx))
	fmt.Println("notified", heard.Channel, heard.Payload)
	must(c.Exec(ctx, "UNLISTEN *"))
	rows(c, "SELECT pg_try_advisory_lock(7), pg_advisory_unlock(7)")
	// Cancellation: again and again, as nobody can know when the server has begun.
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
				_ = c.PgConn().CancelRequest(ctx)
			}
		}
	}()
	_, err = c.Exec(ctx, "SELECT pg_sleep(60)")
	close(done)
	<-stopped
	fmt.Println("cancelled", failure(err))
	for err != nil {
		// What was cancelled last may still reach the next statement.
		_, err = c.Exec(ctx, "SELECT pg_sleep(0.2)")
	}
	must(c.Exec(ctx, "SET statement_timeout = 2000"))
	_, err = c.Exec(ctx, "SELECT pg_sleep(60)")
	fmt.Println("timeout", failure(err))
}

func pools() {
	var notices []string
	settings := must(pgxpool.ParseConfig(""))
	settings.ConnConfig = config(pgx.QueryExecModeCacheDescribe, &notices)
	settings.MaxConns = 3
	settings.AfterRelease = func(c *pgx.Conn) bool {
		_, err := c.Exec(ctx, "DISCARD ALL")
		return err == nil
	}
	pool := must(pgxpool.NewWithConfig(ctx, settings))
	for n := range 12 {
		var body string
		check(pool.QueryRow(ctx, "SELECT body FROM notes WHERE id = $1", n+1).Scan(&body))
		fmt.Println("pooled", body)
	}
	check(pool.Ping(ctx))
	pool.Close()
	db := must(sql.Open("pgx", ""))
	defer db.Close()
	found := must(db.Query("SELECT id, te, nu, tstz, ba FROM kinds ORDER BY id"))
	for _, t := range must(found.ColumnTypes()) {
		fmt.Println(t.Name(), t.DatabaseTypeName(), t.ScanType())
	}
	for found.Next() {
		values := make([]any, 5)
		check(found.Scan(&values[0], &values[1], &values[2], &values[3], &values[4]))
		fmt.Println(values...)
	}
	statement := must(db.Prepare("SELECT body FROM notes WHERE id = $1"))
	for n := range 3 {
		var body string
		check(statement.QueryRow(n + 1).Scan(&body))
		fmt.Println("prepared", body)
	}
}

func code(err error) string {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return fmt.Sprint(err)
}

func denied(mode pgx.QueryExecMode) {
	var notices []string
	c := must(pgx.ConnectConfig(ctx, config(mode, &notices)))
	defer c.Close(ctx)
	execute := func(text string, arguments ...any) string {
		_, err := c.Exec(ctx, text, arguments...)
		return code(err)
	}
	fmt.Println("read", mode, execute("SELECT * FROM forbidden WHERE id = $1", 1), execute("DELETE FROM forbidden"))
	fmt.Println(execute("BEGIN"), execute("INSERT INTO notes VALUES ($1, 'kept')", 500), execute("SAVEPOINT a"))
	fmt.Println("inside", execute("INSERT INTO forbidden VALUES (9, 'x')"), execute("SELECT 1"), string(c.PgConn().TxStatus()))
	fmt.Println(execute("ROLLBACK TO a"), execute("COMMIT"), execute("DELETE FROM notes WHERE id = 500"))
	for _, text := range []string{"INSERT INTO forbidden VALUES ($1, 'x')", "UPDATE forbidden SET body = 'x' WHERE id = $1"} {
		batch := &pgx.Batch{}
		batch.Queue("INSERT INTO notes VALUES ($1, 'lost')", 600)
		batch.Queue(text, 600)
		batch.Queue("INSERT INTO notes VALUES ($1, 'lost')", 601)
		// Policy refuses when a statement is prepared, the server when it runs: which of the three is
		// told of it depends on that, and that none is done does not.
		fmt.Println("batch", code(c.SendBatch(ctx, batch).Close()))
		rows(c, "SELECT id FROM notes WHERE id >= 500")
	}
	_, err := c.CopyFrom(ctx, pgx.Identifier{"forbidden"}, []string{"id", "body"}, pgx.CopyFromRows([][]any{{1, "x"}}))
	fmt.Println("copy", code(err))
	fmt.Println("alive", execute("SELECT 1"))
}

func masked(mode pgx.QueryExecMode) {
	var notices []string
	c := must(pgx.ConnectConfig(ctx, config(mode, &notices)))
	defer c.Close(ctx)
	for range 2 {
		var id int
		var email string
		var profile any
		var born *time.Time
		var score *float64
		var tags []string
		check(c.QueryRow(ctx, "SELECT * FROM people WHERE id = $1", 1).Scan(&id, &email, &profile, &born, &score, &tags))
		if born != nil || score != nil || tags != nil {
			fmt.Println("not masked", born, score, tags)
		}
		fmt.Printf("masked id=%d email=%s profile=%q born=NULL score=NULL tags=NULL\n", id, email, profile)
	}
}

func main() {
	work := map[string]func(pgx.QueryExecMode){"transcript": transcript, "denied": denied, "masked": masked}[os.Args[1]]
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		work(mode)
	}
	if os.Args[1] == "transcript" {
		pools()
		fmt.Println("end")
	}
}

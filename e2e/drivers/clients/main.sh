# PostgreSQL's own clients: pg_dump in each of its forms, psql with its meta-commands.
set -eu
psql="$CLIENTS/psql -X -v VERBOSITY=sqlstate"
# Each dump has a key of its own in it since the fix of CVE-2025-8714, unless one is given.
dump() { "$CLIENTS/pg_dump" --schema public --no-subscriptions "$@" 2>&1 | grep -v '^\\\(un\)\{0,1\}restrict '; }

transcript() {
  dump --schema-only --exclude-table forbidden
  dump --exclude-table forbidden --clean --if-exists --create
  dump --exclude-table forbidden --data-only --column-inserts --rows-per-insert 5 --serializable-deferrable
  dump --exclude-table forbidden --data-only --disable-triggers --no-publications --quote-all-identifiers
  $psql --echo-errors 2>&1 <<'SQL' | sed 's/process with PID [0-9]*/another process/; s/at port .*/at its port/'
\set ON_ERROR_ROLLBACK on
\d
\d+ books
\d kinds
\dt+ public.shelves
\dT+
\dn+
\df
\dx
\dp shelves
\sv cheap
\gset
SELECT * FROM kinds ORDER BY id \gx
SELECT id, body FROM notes ORDER BY id LIMIT 3 \gdesc
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 3) n \gexec
SELECT id, mood, count(*) FROM books GROUP BY 1, 2 ORDER BY 1 \crosstabview
\set FETCH_COUNT 7
SELECT n, repeat('x', n) FROM generate_series(1, 30) n;
\unset FETCH_COUNT
BEGIN;
INSERT INTO notes VALUES (100, 'in');
INSERT INTO notes VALUES (1, 'again');
SELECT nothing;
COMMIT;
\copy notes FROM STDIN WITH (FORMAT csv)
300,"a,b"
\.
\copy (SELECT * FROM notes WHERE id >= 100 ORDER BY id) TO STDOUT
DELETE FROM notes WHERE id >= 100;
CREATE TABLE IF NOT EXISTS notes (id int);
LISTEN jobs;
NOTIFY jobs;
\conninfo
PREPARE p(int) AS SELECT $1 + 1;
EXECUTE p(1);
DISCARD ALL;
EXECUTE p(1);
SQL
  echo end
}

denied() {
  $psql 2>&1 <<'SQL'
SELECT * FROM forbidden;
BEGIN;
INSERT INTO notes VALUES (500, 'lost');
DELETE FROM forbidden;
SELECT 1;
COMMIT;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO notes VALUES (501, 'kept');
DELETE FROM forbidden;
COMMIT;
\copy forbidden FROM STDIN
1	x
\.
\copy forbidden TO STDOUT
INSERT INTO notes VALUES (502, 'lost')\; DELETE FROM forbidden;
SELECT * FROM notes WHERE id >= 500;
SQL
  "$CLIENTS/pg_dump" --data-only --table forbidden >/dev/null 2>&1 || echo "no dump of forbidden"
}

masked() {
  dump --data-only --table people | awk -F '\t' '
    /^pg_dump:/ { print }
    /^1\t/ { gsub(/\\N/, "NULL"); print "masked id=" $1 " email=" $2 " profile=" $3 " born=" $4 " score=" $5 " tags=" $6 }'
  $psql -At -F "$(printf '\t')" -P null=NULL -c "SELECT * FROM people" | awk -F '\t' '
    { print "masked id=" $1 " email=" $2 " profile=" $3 " born=" $4 " score=" $5 " tags=" $6 }'
}

"$1"

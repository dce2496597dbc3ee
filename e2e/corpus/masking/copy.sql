# COPY TO STDOUT
COPY customers TO STDOUT
COPY customers (email) TO STDOUT
COPY customers (email, id) TO STDOUT
COPY customers (id, name, email) TO STDOUT WITH CSV HEADER
COPY customers TO STDOUT (FORMAT csv, FORCE_QUOTE *)
COPY customers TO STDOUT (FORMAT csv, DELIMITER '@')
COPY customers TO STDOUT (FORMAT csv, QUOTE '@', ESCAPE 'a')
COPY customers TO STDOUT (FORMAT csv, QUOTE 'z', ESCAPE 'z')
COPY customers TO STDOUT (FORMAT csv, NULL '[masked]')
COPY customers TO STDOUT (DELIMITER '|', NULL 'x')
COPY customers (email, name) TO STDOUT (DELIMITER '@')
COPY customers TO STDOUT (FORMAT text, ENCODING 'LATIN1')
COPY customers TO STDOUT (FORMAT text, ENCODING 'UTF8')
COPY customers TO STDOUT (ENCODING 'SJIS')
COPY customers TO STDOUT (FORMAT binary)
COPY customers (email) TO STDOUT BINARY
COPY BINARY customers TO STDOUT
COPY customers TO STDOUT WITH DELIMITER AS '@' NULL AS ''
COPY customers TO STDOUT CSV HEADER QUOTE '"' ESCAPE '\' FORCE QUOTE email
COPY customers (email) TO STDOUT (FORMAT csv, HEADER 0)
COPY customers (email) TO STDOUT (FORMAT csv, HEADER 'off')
COPY customers (email) TO STDOUT (FORMAT csv, HEADER 'false')
COPY customers (email) TO STDOUT (FORMAT csv, HEADER OFF)
COPY customers (email) TO STDOUT (FORMAT csv, HEADER false)
COPY customers (email) TO STDOUT (FORMAT csv, HEADER 'OfF')
COPY customers (email) TO STDOUT (FORMAT text, HEADER false)
COPY customers (email) TO STDOUT (FORMAT text, HEADER)
COPY (SELECT * FROM customers) TO STDOUT
COPY (SELECT email FROM customers) TO STDOUT WITH CSV
COPY (SELECT id, email FROM customers) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT email FROM customers) TO STDOUT (FORMAT csv, HEADER 'off')
COPY (SELECT upper(email) FROM customers) TO STDOUT
COPY (SELECT 'x', email || '' FROM customers) TO STDOUT
COPY (SELECT row_to_json(c) FROM customers c) TO STDOUT
COPY (SELECT c FROM customers c) TO STDOUT CSV
COPY (VALUES ((SELECT email FROM customers LIMIT 1))) TO STDOUT
COPY (WITH w AS (SELECT email FROM customers) TABLE w) TO STDOUT
COPY (UPDATE customers SET credit = 1 RETURNING email) TO STDOUT
COPY (DELETE FROM customers RETURNING *) TO STDOUT
COPY (INSERT INTO notes SELECT 900 + id, email FROM customers RETURNING body) TO STDOUT
COPY (TABLE customers) TO STDOUT (FORMAT binary)
COPY (SELECT email FROM customers) TO STDOUT (FORMAT binary)
COPY (SELECT mail_of(1)) TO STDOUT
COPY (SELECT * FROM list_customers()) TO STDOUT
COPY (SELECT * FROM customers_view) TO STDOUT
COPY (SELECT * FROM customers_materialized) TO STDOUT
COPY (SELECT item FROM orders WHERE id = 1 UNION ALL SELECT email FROM customers) TO STDOUT
COPY (SELECT string_agg(email, E'\n') FROM customers) TO STDOUT
COPY (SELECT E'\\.' || email FROM customers) TO STDOUT
COPY (SELECT email AS "\." FROM customers) TO STDOUT (FORMAT csv, HEADER)
COPY customers TO STDOUT; COPY customers (email) TO STDOUT
SELECT 1; COPY customers (email) TO STDOUT; SELECT email FROM customers
COPY notes TO STDOUT; COPY customers TO STDOUT
COPY public.customers (card_number, email) TO STDOUT
SET search_path = other ;; COPY public.customers (email) TO STDOUT
SET search_path = other; COPY public.customers (email) TO STDOUT
ALTER TABLE customers DROP COLUMN name CASCADE ;; COPY customers TO STDOUT
ALTER TABLE customers ADD x int, DROP COLUMN name CASCADE ;; COPY customers TO STDOUT
ALTER TABLE customers DROP COLUMN name CASCADE; ALTER TABLE customers ADD x int; COPY customers TO STDOUT
ALTER TABLE customers DROP COLUMN name CASCADE; COPY customers (id, email) TO STDOUT
ALTER TABLE customers RENAME name TO x ;; ALTER TABLE customers DROP credit CASCADE, ADD name text ;; COPY customers TO STDOUT
# COPY into something
COPY (SELECT email FROM customers) TO PROGRAM 'cat >/dev/null' ;; SELECT email FROM customers

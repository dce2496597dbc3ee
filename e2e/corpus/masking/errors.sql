# Texts of errors and notices that quote a value.
SELECT email::int FROM customers
SELECT email::date FROM customers
SELECT email::uuid FROM customers
SELECT email::json FROM customers
SELECT email::jsonb FROM customers
SELECT email::inet FROM customers
SELECT email::bool FROM customers
SELECT email::xml::text::int FROM customers
SELECT email::regclass FROM customers
SELECT email::regproc FROM customers
SELECT email::regtype FROM customers
SELECT email::int[] FROM customers
SELECT ('x' || email)::lseg FROM customers
SELECT email::interval FROM customers
SELECT email::point FROM customers
SELECT email::macaddr FROM customers
SELECT email::tsquery::text::int FROM customers
SELECT email::mood FROM customers
SELECT email::pair FROM customers
SELECT email::int8range FROM customers
SELECT email::numeric(4) FROM customers
SELECT to_date(email, 'YYYY') FROM customers
SELECT to_regclass(email), email::int FROM customers
SELECT card_number::int FROM customers
SELECT card_number::date FROM customers
SELECT card_number::smallint FROM customers
SELECT ('0x' || email)::int FROM customers
SELECT CAST(email AS numeric) FROM customers
SELECT int4in(textout(email)) FROM customers
SELECT jsonb_set(profile, ARRAY['n', email], '1') FROM customers
SELECT email::int, profile - 'a' FROM customers
SELECT (profile->>'ssn')::int FROM customers
SELECT (tags[1])::int FROM customers
SELECT convert_from(photo, 'UTF8')::int FROM customers
SELECT encode('x', email) FROM customers
SELECT convert_to('x', email) FROM customers
SELECT date_trunc(email, now()) FROM customers
SELECT date_part(email, now()) FROM customers
SELECT now() AT TIME ZONE email FROM customers
SELECT timezone(email, now()) FROM customers
SELECT current_setting(email) FROM customers
SELECT set_config(email, 'x', true) FROM customers
SELECT nextval(email) FROM customers
SELECT pg_get_serial_sequence(email, 'id') FROM customers
SELECT has_table_privilege(email, 'SELECT') FROM customers
SELECT pg_has_role(email, 'MEMBER') FROM customers, LATERAL (SELECT email::regrole AS r) x
SELECT email::regrole FROM customers
SELECT regexp_replace('x', '(' || email, '') FROM customers, LATERAL (SELECT email::int AS i) y WHERE i > 0
SELECT xmlparse(DOCUMENT email) FROM customers
SELECT ts_headline(email::regconfig, 'x', 'x'::tsquery) FROM customers
SELECT to_tsvector(email::regconfig, 'x') FROM customers
SELECT to_tsquery('simple', email || ' x & ') FROM customers
SELECT array_fill(email::int, ARRAY[2]) FROM customers
SELECT lo_get(salary::oid) FROM customers
SELECT leak(1)
SELECT leak(id) FROM customers
SELECT count(leak(1)) FROM notes
SELECT 1 FROM notes WHERE leak(id) IS NULL
SELECT digest('x', email) FROM customers
SELECT ('(' || email)::pair FROM customers
INSERT INTO customers SELECT id + 900, name, email, card_number, credit FROM customers
INSERT INTO customers (id, name, email, card_number, credit) SELECT 901, name, email, card_number, credit FROM customers WHERE id = 1
INSERT INTO customers SELECT 901, NULL, email, card_number, credit FROM customers WHERE id = 1
UPDATE customers SET card_number = (SELECT card_number FROM customers WHERE id = 1)
UPDATE customers SET id = NULL WHERE id = 1
UPDATE customers SET credit = NULL
UPDATE customers SET name = NULL WHERE email IS NOT NULL
UPDATE customers SET credit = -1 WHERE id = 1
UPDATE customers SET credit = -1 RETURNING email
UPDATE people_eu SET region = NULL
UPDATE people_us SET region = 'nowhere' WHERE email::int > 0
UPDATE people_eu SET region = 'us'
UPDATE contacts_vip SET id = -1
INSERT INTO people_eu SELECT id, email, 'nowhere' FROM people
DELETE FROM customers WHERE id = 1 AND leak(1) IS NULL
UPDATE customers_checked SET name = 'x'
INSERT INTO orders SELECT 900 + id, salary::int, email, 1 FROM customers
INSERT INTO two_texts SELECT salary::int, email FROM customers WHERE email::int > 0
ALTER TABLE customers ADD CHECK (email::int > 0)
ALTER TABLE people ALTER email TYPE int USING email::int
ALTER TABLE people ADD CHECK (email::int > 0)
CREATE UNIQUE INDEX ON customers ((email::int))
CREATE UNIQUE INDEX ON people_eu (region, (lower(email))) INCLUDE (email) WHERE email::int > 0
ALTER TABLE people_eu ADD UNIQUE (same, email)
ALTER TABLE people_eu ADD EXCLUDE USING btree (email WITH =, same WITH =)
ALTER TABLE notes ADD word text DEFAULT mail_of(1)::int
CREATE TABLE t (e mood) ;; INSERT INTO t SELECT email::mood FROM customers
MERGE INTO customers c USING notes n ON n.id = c.id WHEN MATCHED THEN UPDATE SET credit = -1
# a trigger of the schema speaks of another table than the statement
UPDATE orders SET item = 'x' WHERE id = 1
DELETE FROM orders WHERE id = 2
INSERT INTO orders VALUES (900, 1, 'x', 1)
UPDATE audited SET n = -1
auto: INSERT INTO late VALUES (1, 1)
UPDATE notes_view SET body = 'x' WHERE id = 1
INSERT INTO notes_by_rule VALUES (1)
DELETE FROM notes_by_rule
WITH d AS (DELETE FROM orders WHERE id = 2 RETURNING id) SELECT * FROM d

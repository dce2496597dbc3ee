# A masked value that is put where nothing masks it, and read there.
INSERT INTO notes SELECT 900, email FROM customers LIMIT 1 ;; SELECT body FROM notes WHERE id = 900
INSERT INTO notes SELECT 900 + id, max(email) FROM customers GROUP BY id RETURNING body
INSERT INTO notes VALUES (900, (SELECT email FROM customers WHERE id = 1)) RETURNING *
INSERT INTO notes (id, body) SELECT id + 900, c.body FROM (SELECT id, email AS body FROM customers) c RETURNING body
INSERT INTO notes SELECT 900 + id, row_to_json(c)::text FROM customers c RETURNING body
INSERT INTO notes SELECT 900 + n, x.email FROM generate_series(1, 1) n, LATERAL (SELECT email FROM customers WHERE id = n) x RETURNING body
WITH w AS (SELECT email FROM customers) INSERT INTO notes SELECT 900, max(email) FROM w RETURNING body
WITH w AS (INSERT INTO notes SELECT 900 + id, email FROM customers RETURNING body) SELECT body || '' FROM w
WITH w AS (DELETE FROM customers RETURNING id, email) INSERT INTO notes SELECT 900 + id, email FROM w RETURNING body
WITH w AS (UPDATE customers SET credit = credit RETURNING *) INSERT INTO notes SELECT 900 + w.id, w.email FROM w RETURNING body
WITH w AS (UPDATE customers SET credit = credit RETURNING customers) INSERT INTO notes SELECT 900, max(w.customers::text) FROM w RETURNING body
INSERT INTO notes SELECT 900, mail_of(1) RETURNING body
INSERT INTO notes VALUES (900, mail_of(1)) RETURNING body
INSERT INTO notes SELECT 900, email FROM list_customers() WHERE id = 1 RETURNING body
INSERT INTO notes SELECT 900, mail FROM customers_view WHERE id = 1 RETURNING body
INSERT INTO notes SELECT 900, email FROM customers_materialized WHERE id = 1 RETURNING body
INSERT INTO notes SELECT 900, concat(most_common_elems::text) FROM pg_stats WHERE tablename = 'customers' AND attname = 'tags' RETURNING body
INSERT INTO notes SELECT 1, email FROM customers WHERE id = 1 ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING body
INSERT INTO notes SELECT 1, 'x' ON CONFLICT (id) DO UPDATE SET body = (SELECT email FROM customers WHERE id = 1) RETURNING body
INSERT INTO customers (id, name, email, card_number, credit) SELECT id + 900, email, '', '9' || id, 0 FROM customers RETURNING name
INSERT INTO customers (id, name, email, card_number, credit) VALUES (1, 'x', 'x', 'x', 0) ON CONFLICT (id) DO UPDATE SET name = customers.email RETURNING name
INSERT INTO customers (id, name, email, card_number, credit) VALUES (1, 'x', 'x', 'x', 0) ON CONFLICT (id) DO UPDATE SET (name, credit) = ROW (customers.email, 0) RETURNING name
INSERT INTO customers AS c (id, name, email, card_number, credit) VALUES (1, 'x', 'x', 'x', 0) ON CONFLICT (id) DO UPDATE SET name = c.email || excluded.name RETURNING c.name
INSERT INTO other.customers SELECT id + 900, email, '' FROM customers RETURNING name
UPDATE notes SET body = (SELECT email FROM customers LIMIT 1) RETURNING body
UPDATE notes SET body = email FROM customers WHERE notes.id = customers.id RETURNING body
UPDATE notes n SET body = c.email || '' FROM customers AS c WHERE n.id = c.id RETURNING n.body
UPDATE notes SET (id, body) = (SELECT id, email FROM customers WHERE customers.id = notes.id) WHERE id < 3 RETURNING body
UPDATE notes SET body = x.b FROM (SELECT id, email AS b FROM customers) x WHERE x.id = notes.id RETURNING body
UPDATE notes SET body = x.j->>'email' FROM (SELECT id, to_jsonb(c) AS j FROM customers c) x WHERE x.id = notes.id RETURNING body
UPDATE notes SET body = mail_of(id) WHERE id = 1 RETURNING body
UPDATE customers SET name = email RETURNING name
UPDATE customers SET name = email ;; SELECT name FROM customers
UPDATE customers SET name = upper(email) || '' RETURNING name
UPDATE customers SET name = CASE WHEN id > 0 THEN email END RETURNING name
UPDATE customers SET name = customers.email RETURNING name
UPDATE customers AS c SET (name, credit) = (SELECT c.email, 1) RETURNING name
UPDATE customers AS c SET (name, credit) = ROW (c.email, 1) RETURNING name
UPDATE customers SET name = d.email FROM customers d WHERE d.id = customers.id RETURNING customers.name
UPDATE customers SET name = (customers).email RETURNING name
UPDATE customers SET name = customers::text RETURNING name
UPDATE customers SET credit = (salary % 1000000)::int RETURNING credit, (salary || '')
UPDATE customers SET card_number = left(card_number, 8) RETURNING card_number
UPDATE customers SET card_number = substr(card_number, 1, 9) ;; SELECT card_number FROM customers
UPDATE customers SET card_number = reverse(card_number) || '' RETURNING card_number
UPDATE customers SET card_number = rpad(card_number, 8) RETURNING card_number, email
UPDATE customers SET card_number = email || left(card_number, 0) RETURNING card_number
UPDATE customers SET card_number = overlay(card_number PLACING '' FROM 13) RETURNING card_number
UPDATE customers SET card_number = split_part(card_number, right(card_number, 4), 1) RETURNING card_number
UPDATE customers SET card_number = btrim(card_number, '0123456789') || right(email, 8) RETURNING card_number
# what is too short to be shown in part is made longer
UPDATE pins SET pin = 'xxxxxxxx' || pin RETURNING pin
UPDATE pins SET pin = concat('xxxxxxxx', pin) RETURNING pin
UPDATE pins SET pin = lpad(pin, 12) RETURNING pin
UPDATE pins SET pin = pin || 'xxxxxxxx' ;; SELECT reverse(pin) FROM pins
UPDATE pins SET pin = coalesce('xxxxxxxx' || pin, '') RETURNING pin
UPDATE pins SET pin = CASE WHEN id > 0 THEN 'xxxxxxxx' || pin ELSE pin END RETURNING pin
UPDATE pins SET pin = format('xxxxxxxx%s', pin) RETURNING pin
INSERT INTO pins VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET pin = 'xxxxxxxx' || pins.pin RETURNING pin
MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN UPDATE SET body = c.email ;; SELECT body FROM notes ORDER BY id LIMIT 3
MERGE INTO notes n USING customers c ON n.id = c.id + 900 WHEN NOT MATCHED THEN INSERT VALUES (c.id + 900, c.email) ;; SELECT body FROM notes WHERE id > 900
MERGE INTO customers c USING notes n ON n.id = c.id WHEN MATCHED THEN UPDATE SET name = c.email ;; SELECT name FROM customers
MERGE INTO notes n USING (SELECT id, email AS m FROM customers) c ON n.id = c.id WHEN MATCHED THEN UPDATE SET body = m ;; SELECT body FROM notes
MERGE INTO pins p USING notes n ON n.id = p.id WHEN MATCHED THEN UPDATE SET pin = 'xxxxxxxx' || p.pin ;; SELECT pin FROM pins
CREATE TABLE stolen AS SELECT * FROM customers ;; SELECT email FROM stolen
CREATE TABLE stolen AS TABLE customers ;; TABLE stolen
CREATE TABLE stolen (a, b) AS SELECT id, email FROM customers ;; SELECT b FROM stolen
CREATE TEMP TABLE stolen AS SELECT email FROM customers ;; SELECT * FROM stolen
CREATE TEMP TABLE stolen (x text) ;; INSERT INTO stolen SELECT email FROM customers ;; SELECT * FROM stolen
CREATE UNLOGGED TABLE stolen AS WITH w AS (SELECT email FROM customers) SELECT * FROM w ;; SELECT * FROM stolen
CREATE TABLE stolen AS SELECT * FROM list_customers() ;; SELECT email FROM stolen
CREATE TABLE stolen AS SELECT * FROM customers_view ;; SELECT mail FROM stolen
CREATE TABLE stolen AS SELECT mail_of(1) ;; TABLE stolen
PREPARE p AS SELECT email FROM customers ;; CREATE TABLE stolen AS EXECUTE p ;; TABLE stolen
SELECT email INTO stolen FROM customers ;; SELECT email FROM stolen
SELECT email INTO TEMP stolen FROM customers ;; SELECT email FROM stolen
WITH w AS (SELECT email FROM customers) SELECT * INTO stolen FROM w ;; SELECT email FROM stolen
CREATE MATERIALIZED VIEW stolen AS SELECT email FROM customers ;; SELECT * FROM stolen
CREATE MATERIALIZED VIEW stolen AS SELECT email FROM customers WITH NO DATA ;; REFRESH MATERIALIZED VIEW stolen ;; SELECT * FROM stolen
CREATE VIEW stolen AS SELECT email FROM customers ;; SELECT * FROM stolen
CREATE TEMP VIEW stolen AS SELECT email || '' AS e FROM customers ;; SELECT * FROM stolen
CREATE RECURSIVE VIEW stolen (e) AS SELECT email FROM customers ;; SELECT * FROM stolen
CREATE OR REPLACE VIEW orders_view AS SELECT 1 AS id, email AS item FROM customers ;; SELECT item FROM orders_view
# what happens later, of itself
CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO notes VALUES (900 + OLD.id, OLD.email) ;; UPDATE customers SET credit = credit ;; SELECT body FROM notes WHERE id > 900
CREATE TABLE stolen AS TABLE customers WITH NO DATA ;; CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO stolen SELECT OLD.* ;; UPDATE customers SET credit = credit ;; TABLE stolen
CREATE RULE r AS ON UPDATE TO customers DO ALSO INSERT INTO notes SELECT 900 + OLD.id, OLD::text ;; UPDATE customers SET credit = credit ;; SELECT body FROM notes WHERE id > 900
CREATE RULE r AS ON UPDATE TO notes DO INSTEAD SELECT email FROM customers ;; UPDATE notes SET body = 'x' WHERE id = 1
CREATE RULE r AS ON UPDATE TO customers DO INSTEAD SELECT upper(OLD.email) ;; UPDATE customers SET credit = 1 WHERE id = 1
CREATE RULE r AS ON UPDATE TO customers DO ALSO UPDATE notes SET body = NEW.email WHERE notes.id = NEW.id ;; UPDATE customers SET credit = 1 WHERE id = 1 ;; SELECT body FROM notes WHERE id = 1
CREATE RULE r AS ON DELETE TO customers DO ALSO INSERT INTO two_texts VALUES (OLD.id, OLD.email) ;; DELETE FROM customers WHERE id = 1 ;; TABLE two_texts
CREATE RULE r AS ON DELETE TO pins DO ALSO NOTIFY x ;; CREATE RULE r2 AS ON DELETE TO pins DO ALSO INSERT INTO two_texts VALUES (OLD.*) ;; DELETE FROM pins ;; TABLE two_texts
CREATE TRIGGER t AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION keep_row() ;; UPDATE customers SET credit = credit ;; SELECT kept FROM kept_rows
CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION keep_row() ;; UPDATE customers SET credit = credit ;; SELECT kept FROM kept_rows
ALTER TABLE customers ADD words tsvector ;; CREATE TRIGGER t BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(words, 'pg_catalog.simple', email) ;; ALTER TABLE customers DISABLE TRIGGER announce ;; UPDATE customers SET email = upper(email) ;; SELECT words FROM customers
ALTER TABLE notes ALTER body SET DEFAULT mail_of(1) ;; INSERT INTO notes (id) VALUES (900) RETURNING body
CREATE TABLE stolen (id int, body text DEFAULT mail_of(1)) ;; INSERT INTO stolen VALUES (1) RETURNING body
ALTER TABLE notes ADD stolen text DEFAULT mail_of(1) ;; SELECT stolen FROM notes LIMIT 1
ALTER TABLE customers ADD stolen text GENERATED ALWAYS AS (lower(email)) STORED ;; SELECT stolen FROM customers
ALTER TABLE customers ADD stolen text ;; UPDATE customers SET stolen = email ;; SELECT stolen FROM customers
ALTER TABLE two_texts ADD x int ;; INSERT INTO two_texts VALUES (1, 'x') ;; ALTER TABLE two_texts ALTER body TYPE text USING mail_of(id) ;; TABLE two_texts
ALTER TABLE pins ALTER id TYPE text USING pin || 'x' ;; SELECT id FROM pins
CREATE FUNCTION stolen() RETURNS void LANGUAGE sql AS 'INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1' ;; SELECT stolen() ;; SELECT body FROM notes WHERE id = 900
CREATE FUNCTION stolen() RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1; END' ;; SELECT stolen() ;; SELECT body FROM notes WHERE id = 900
CREATE PROCEDURE stolen() LANGUAGE sql AS 'INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1' ;; CALL stolen() ;; SELECT body FROM notes WHERE id = 900
CREATE FUNCTION stolen() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1; END ;; SELECT stolen() ;; SELECT body FROM notes WHERE id = 900
CREATE FUNCTION stolen(c customers) RETURNS void LANGUAGE sql AS 'INSERT INTO notes SELECT 900 + c.id, c.email' ;; SELECT stolen(c) FROM customers c ;; SELECT body FROM notes WHERE id > 900
CREATE AGGREGATE stolen (text) (sfunc = textcat, stype = text, initcond = '') ;; INSERT INTO notes SELECT 900, stolen(email) FROM customers RETURNING body
DO $$ BEGIN INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1; END $$ ;; SELECT body FROM notes WHERE id = 900
DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM customers LIMIT 1); END $$
# where masks are told by name
ALTER TABLE customers RENAME email TO harmless ;; SELECT harmless FROM customers
ALTER TABLE customers RENAME TO harmless ;; SELECT email FROM harmless
ALTER TABLE customers SET SCHEMA other_place ;; SELECT email FROM other_place.customers
ALTER SCHEMA public RENAME TO harmless ;; SELECT email FROM harmless.customers
ALTER TABLE people DETACH PARTITION people_eu ;; SELECT email FROM people_eu
ALTER TABLE contacts_vip NO INHERIT contacts ;; SELECT phone FROM contacts_vip
ALTER TABLE customers RENAME name TO was_name ;; ALTER TABLE customers RENAME email TO name ;; SELECT name FROM customers
ALTER TABLE customers ALTER mail_copy DROP EXPRESSION ;; SELECT mail_copy FROM customers
CREATE TABLE top (email text) ;; ALTER TABLE customers INHERIT top ;; SELECT email FROM top
CREATE TABLE top (LIKE customers) ;; ALTER TABLE customers INHERIT top ;; SELECT t.email FROM ONLY top o RIGHT JOIN top t ON false
CREATE TABLE top (id int, email text, region text, same int) PARTITION BY LIST (region) ;; ALTER TABLE top ATTACH PARTITION people DEFAULT ;; SELECT email FROM top
CREATE TABLE people_new PARTITION OF people FOR VALUES IN ('xx') ;; UPDATE people SET region = 'xx' ;; SELECT email FROM people_new
CREATE SCHEMA mine ;; CREATE VIEW mine.customers AS SELECT * FROM public.customers ;; SET search_path = mine ;; SELECT email FROM customers
CREATE TEMP TABLE customers (id int, email text) ;; INSERT INTO customers SELECT id, email FROM public.customers ;; SELECT email FROM customers
# other ways out of a row
SELECT set_config('application_name', email, false) FROM customers WHERE id = 1
SELECT set_config('my.value', email, false) FROM customers WHERE id = 1 ;; SELECT current_setting('my.value')
SELECT set_config('my.value', email, true) IS NULL FROM customers WHERE id = 1 ;; SHOW my.value
auto: LISTEN x ;; SELECT pg_notify('x', email) FROM customers WHERE id = 1
auto: LISTEN changes ;; UPDATE customers SET credit = credit WHERE id = 1 ;; UNLISTEN *
SELECT lo_from_bytea(4711, email::bytea) FROM customers WHERE id = 1 ;; SELECT lo_get(4711)
SELECT lo_from_bytea(4711, photo) FROM customers WHERE id = 1 ;; SELECT data FROM pg_largeobject WHERE loid = 4711
SELECT pg_advisory_lock(salary) FROM customers WHERE id = 1 ;; SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory'
SELECT pg_try_advisory_xact_lock(salary) FROM customers WHERE id = 1 ;; SELECT objid::text FROM pg_locks WHERE locktype = 'advisory'
CREATE SEQUENCE s ;; SELECT setval('s', salary) FROM customers WHERE id = 1 ;; SELECT last_value FROM s
CREATE SEQUENCE s ;; SELECT setval('s', salary) IS NULL FROM customers WHERE id = 1 ;; SELECT currval('s')
SELECT pg_logical_emit_message(true, 'x', email)::text || email FROM customers WHERE id = 1
PREPARE w (text) AS INSERT INTO notes SELECT 900, email FROM customers WHERE id = 1 RETURNING body || $1 ;; EXECUTE w ('')
DECLARE c CURSOR FOR SELECT * FROM notes FOR UPDATE ;; FETCH 1 FROM c ;; UPDATE notes SET body = (SELECT email FROM customers WHERE id = 1) WHERE CURRENT OF c RETURNING body
INSERT INTO two_texts SELECT id, email FROM customers ;; COPY two_texts TO STDOUT
INSERT INTO two_texts SELECT id, email FROM customers ;; ANALYZE two_texts ;; SELECT concat(histogram_bounds::text, most_common_vals::text) FROM pg_stats WHERE tablename = 'two_texts' AND attname = 'body'
COMMENT ON TABLE notes IS 'x' ;; SELECT obj_description('notes'::regclass) || email FROM customers
# in one message, where nobody can ask the server in between
ALTER TABLE customers INHERIT plain_parent; SELECT email FROM plain_parent
ALTER TABLE customers INHERIT plain_parent; SELECT max(email) FROM plain_parent
ALTER TABLE customers INHERIT plain_parent; SELECT p FROM plain_parent p
ALTER TABLE customers INHERIT plain_parent; COPY (SELECT email FROM plain_parent) TO STDOUT
ALTER TABLE customers INHERIT plain_parent; UPDATE plain_parent SET email = email RETURNING email
ALTER TABLE customers INHERIT plain_parent; SELECT email FROM plain_grandparent
ALTER TABLE customers INHERIT plain_parent; INSERT INTO notes SELECT 900, email FROM plain_grandparent LIMIT 1; SELECT body FROM notes WHERE id = 900
ALTER TABLE customers INHERIT plain_parent; CREATE TABLE stolen AS SELECT email FROM plain_parent; SELECT email FROM stolen
PREPARE p AS SELECT email FROM plain_parent ;; ALTER TABLE customers INHERIT plain_parent; EXECUTE p
DECLARE c CURSOR FOR SELECT 1; ALTER TABLE customers INHERIT plain_parent; CLOSE c; DECLARE c CURSOR FOR SELECT email FROM plain_parent; FETCH ALL FROM c
ALTER TABLE plain_people ATTACH PARTITION people_new FOR VALUES IN ('zz'); SELECT email FROM plain_people
ALTER TABLE moved DROP COLUMN id; ALTER TABLE moved ADD COLUMN x text; COPY moved TO STDOUT
ALTER VIEW orders_view ALTER item SET DEFAULT mail_of(1) ;; INSERT INTO orders_view (id) VALUES (901) RETURNING item

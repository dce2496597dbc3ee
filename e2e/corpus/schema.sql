-- The world of the attempts in masking/: the seed, and whatever an application's schema may have
-- that could carry a masked value on. Loaded by a superuser into a database with the seed in it.
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION tablefunc;
CREATE EXTENSION dblink;
CREATE EXTENSION pageinspect;

CREATE TYPE mood AS ENUM ('calm', 'angry');
CREATE TYPE pair AS (a text, b int);
CREATE TYPE pair2 AS (a text);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE DOMAIN mail_domain AS text CHECK (VALUE LIKE '%@%');

ALTER TABLE customers
  ADD salary bigint, ADD profile jsonb, ADD tags text[], ADD photo bytea, ADD doc xml,
  ADD mail_copy text GENERATED ALWAYS AS (lower(email)) STORED,
  ADD initials text GENERATED ALWAYS AS (left(email, 6)) STORED,
  ADD CHECK (credit >= 0), ADD UNIQUE (card_number);
ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey;
CREATE INDEX ON customers (email);
CREATE STATISTICS customers_statistics (mcv) ON name, tags FROM customers;
CREATE STATISTICS customers_expressions ON (lower(email)) FROM customers;
CREATE SEQUENCE customers_seq;

-- The same name in another schema, where nothing is masked.
CREATE SCHEMA other;
CREATE SCHEMA other_place;
CREATE TABLE other.customers (id int, name text, email text);
INSERT INTO other.customers VALUES (1, 'harmless', 'harmless');

CREATE TABLE two_texts (id int, body text);
CREATE TABLE pins (id int PRIMARY KEY, pin text);
CREATE TABLE many (id int, secret int);
CREATE TABLE kept_rows (kept text);

CREATE TABLE people (id int, email text, region text NOT NULL) PARTITION BY LIST (region);
CREATE TABLE people_eu PARTITION OF people FOR VALUES IN ('eu');
CREATE TABLE people_us (region text NOT NULL, email text, id int);
ALTER TABLE people ATTACH PARTITION people_us FOR VALUES IN ('us');
ALTER TABLE people ADD same int DEFAULT 1;

CREATE TABLE contacts_top (id int, phone text);
CREATE TABLE contacts (place text) INHERITS (contacts_top);
CREATE TABLE contacts_vip (CHECK (id > 0)) INHERITS (contacts);

-- Nobody's parents yet.
CREATE TABLE plain_grandparent (email text);
CREATE TABLE plain_parent () INHERITS (plain_grandparent);
CREATE TABLE plain_people (email text, region text) PARTITION BY LIST (region);
CREATE TABLE people_new (email text, region text);
CREATE TABLE moved (id int, phone text);

-- Views of every kind.
CREATE VIEW orders_view AS SELECT id, item FROM orders;
CREATE VIEW notes_view AS SELECT id, body FROM notes;
CREATE VIEW customers_view AS SELECT id, email AS mail, card_number || '' AS card FROM customers;
CREATE VIEW nested_view AS SELECT mail, id FROM customers_view;
CREATE VIEW barrier_view WITH (security_barrier) AS SELECT id, email AS mail FROM customers WHERE id > 0;
CREATE VIEW updatable_view AS
  SELECT id, name, email AS mail, card_number AS card, credit FROM customers;
CREATE RECURSIVE VIEW recursive_view (n, e) AS
  SELECT 1, email FROM customers WHERE id = 1 UNION ALL SELECT n + 1, e FROM recursive_view WHERE n < 3;
CREATE VIEW union_view AS SELECT id, item FROM orders UNION ALL SELECT id, email FROM customers;
CREATE VIEW aggregate_view AS SELECT string_agg(email, ',') AS mails FROM customers;
CREATE VIEW lateral_view AS SELECT c.id, l.e FROM customers c, LATERAL (SELECT c.email AS e) l;
CREATE VIEW statistics_view AS
  SELECT concat(histogram_bounds::text, most_common_vals::text) AS bounds FROM pg_stats WHERE tablename = 'customers' AND attname = 'email';
CREATE VIEW xml_view AS SELECT query_to_xml('SELECT email FROM public.customers', true, true, '') AS x;
CREATE MATERIALIZED VIEW customers_materialized AS SELECT * FROM customers WITH NO DATA;

-- Functions in every position.
CREATE FUNCTION list_customers() RETURNS SETOF customers LANGUAGE sql AS 'SELECT * FROM customers';
CREATE VIEW function_view AS SELECT id, email FROM list_customers();
CREATE FUNCTION mail_of(n int) RETURNS text LANGUAGE sql AS
  'SELECT email FROM public.customers WHERE id = n';
CREATE FUNCTION stable_mail() RETURNS text STABLE LANGUAGE sql AS
  'SELECT email FROM public.customers WHERE id = 1';
CREATE FUNCTION fixed_mail() RETURNS text IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN RETURN (SELECT email FROM public.customers WHERE id = 1); END $$;
CREATE FUNCTION notes_with_mail(n int) RETURNS TABLE (note text, mail text) LANGUAGE sql AS
  'SELECT body, public.mail_of(n) FROM public.notes WHERE id = n';
CREATE FUNCTION shown(c customers) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT c.email';
CREATE FUNCTION whole_row(c customers) RETURNS json IMMUTABLE LANGUAGE sql AS 'SELECT row_to_json(c)';
CREATE FUNCTION person_is_low(t text) RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT t < 'm' $$;
CREATE OPERATOR <# (LEFTARG = text, RIGHTARG = text, FUNCTION = text_lt);
CREATE FUNCTION glue(a text, b text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT a || b';
CREATE FUNCTION glue(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
CREATE OPERATOR <+> (LEFTARG = text, RIGHTARG = text, FUNCTION = glue);
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = glue);
CREATE FUNCTION to_pair2(t text) RETURNS pair2 LANGUAGE sql AS 'SELECT ROW(t)::public.pair2';
CREATE CAST (text AS pair2) WITH FUNCTION to_pair2(text);
CREATE AGGREGATE joined (text) (sfunc = textcat, stype = text, initcond = '');
CREATE FUNCTION leak(n int) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'leak %', (SELECT email FROM public.customers WHERE id = n); END $$;
CREATE PROCEDURE out_mail(n int, INOUT mail text) LANGUAGE plpgsql AS
  $$ BEGIN mail := public.mail_of(n); END $$;
CREATE FUNCTION open_mails(r refcursor) RETURNS refcursor LANGUAGE plpgsql AS
  $$ BEGIN OPEN r FOR SELECT email FROM public.customers; RETURN r; END $$;
CREATE FUNCTION prepare_mails() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  BEGIN DEALLOCATE unseen; EXCEPTION WHEN invalid_sql_statement_name THEN NULL; END;
  EXECUTE 'PREPARE unseen AS SELECT email || '''' FROM public.customers';
  END $$;
CREATE FUNCTION take_path() RETURNS void LANGUAGE sql AS
  $$ SELECT set_config('search_path', 'public', false) $$;

-- Triggers and rules that say or do more than the statement.
CREATE FUNCTION keep_row() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.kept_rows VALUES (NEW::text); RETURN NULL; END $$;
CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('changes', row_to_json(NEW)::text); RETURN NULL; END $$;
CREATE TRIGGER announce AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION announce();
CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE NOTICE 'an order of %', (SELECT email FROM public.customers WHERE id = 1);
  RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER speak BEFORE INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION speak();
CREATE TABLE audited (n int);
INSERT INTO audited VALUES (1);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'refused' USING DETAIL = (SELECT email FROM public.customers WHERE id = 1),
    HINT = public.mail_of(2); END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TABLE late (id int, n int);
CREATE FUNCTION refuse_late() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.leak(1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION refuse_late();
CREATE RULE say AS ON UPDATE TO notes_view DO INSTEAD SELECT email::int FROM customers;
CREATE TABLE notes_by_rule (id int);
CREATE RULE say AS ON INSERT TO notes_by_rule DO INSTEAD SELECT upper(email) FROM customers;
CREATE RULE unsay AS ON DELETE TO notes_by_rule DO INSTEAD SELECT customers FROM customers;
CREATE TABLE customers_checked (id int, name text);
CREATE FUNCTION is_known(t text) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN RETURN public.mail_of(1)::int > 0; END $$;
INSERT INTO customers_checked VALUES (1, 'y');
ALTER TABLE customers_checked ADD CHECK (public.is_known(name)) NOT VALID;

GRANT ALL ON SCHEMA other, other_place TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO PUBLIC;

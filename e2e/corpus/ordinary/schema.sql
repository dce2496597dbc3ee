# Introspection and migrations.
SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name
SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'products' ORDER BY ordinal_position
SELECT constraint_name, constraint_type FROM information_schema.table_constraints WHERE table_name = 'lines' ORDER BY 1
SELECT kcu.column_name, ccu.table_name FROM information_schema.key_column_usage kcu JOIN information_schema.constraint_column_usage ccu USING (constraint_name) WHERE kcu.table_name = 'lines' ORDER BY 1, 2
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relname = 'products' AND a.attnum > 0 ORDER BY a.attnum
SELECT c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid WHERE t.relname = 'products' ORDER BY 1
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'products' ORDER BY 1
SELECT pg_get_viewdef('sales'::regclass), pg_get_serial_sequence('products', 'id')
SELECT t.typname, e.enumlabel FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.typname = 'status' ORDER BY e.enumsortorder
SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1
SELECT relname, relkind FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') ORDER BY 1
SELECT proname FROM pg_proc WHERE proname = 'lower' LIMIT 1
SELECT datname FROM pg_database WHERE datname = 'postgres'
SELECT name, setting FROM pg_settings WHERE name = 'server_encoding'
SELECT extname FROM pg_extension ORDER BY 1
SELECT obj_description('products'::regclass), col_description('products'::regclass, 1)
SELECT to_regclass('public.products'), to_regclass('public.nosuch'), 'products'::regclass::text
SELECT has_table_privilege('products', 'SELECT'), has_schema_privilege('public', 'USAGE')
SELECT EXISTS (SELECT FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'schema_migrations')
SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index WHERE indrelid = '"products"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx] ORDER BY i.idx
SELECT a.attname, pg_get_expr(d.adbin, d.adrelid), a.attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'products'::regclass AND a.attnum > 0 ORDER BY a.attnum
SHOW server_version_num
SHOW TimeZone
SHOW max_identifier_length
SHOW TRANSACTION ISOLATION LEVEL
SELECT current_database() IS NOT NULL, current_schemas(false), version() LIKE 'PostgreSQL%'
CREATE TABLE widgets (id bigserial PRIMARY KEY, name text NOT NULL, made timestamp DEFAULT now()) ;; INSERT INTO widgets (name) VALUES ('a') RETURNING id ;; DROP TABLE widgets
CREATE TABLE "parts" ("id" serial NOT NULL PRIMARY KEY, "product_id" bigint NOT NULL REFERENCES "products" ("id") DEFERRABLE INITIALLY DEFERRED) ;; CREATE INDEX "parts_product" ON "parts" ("product_id")
CREATE TABLE IF NOT EXISTS notes (id int) ;; SELECT count(*) FROM notes
CREATE TABLE likes (account_id int REFERENCES accounts (id), product_id bigint, PRIMARY KEY (account_id, product_id)) ;; INSERT INTO likes VALUES (1, 1) RETURNING *
ALTER TABLE products ADD COLUMN weight numeric DEFAULT 1 ;; SELECT id, weight FROM products WHERE id = 1
ALTER TABLE products ADD COLUMN a int, ADD COLUMN b int ;; UPDATE products SET a = 1, b = 2 WHERE id = 1 RETURNING a, b
ALTER TABLE products RENAME COLUMN title TO name ;; SELECT name FROM products WHERE id = 1
ALTER TABLE products ALTER COLUMN stock SET DEFAULT 5, ALTER COLUMN title DROP NOT NULL
ALTER TABLE products ALTER COLUMN stock TYPE bigint ;; SELECT stock FROM products WHERE id = 1
ALTER TABLE products DROP COLUMN stock ;; SELECT * FROM products WHERE id = 1
ALTER TABLE products ADD CONSTRAINT positive CHECK (stock >= 0)
ALTER TABLE purchases ADD COLUMN paid_at timestamp ;; CREATE INDEX ON purchases (paid_at) WHERE state = 'paid'
ALTER TABLE notes RENAME TO remarks ;; SELECT count(*) FROM remarks
ALTER TABLE accounts ADD COLUMN locale text DEFAULT 'en' ;; UPDATE accounts SET locale = 'de' WHERE id = 1 ;; SELECT count(*) FROM notes
ALTER TABLE accounts ALTER COLUMN score TYPE numeric(10, 3)
CREATE INDEX ON accounts (created_at)
CREATE UNIQUE INDEX ON products (lower(title))
CREATE INDEX ON products USING gin (attributes jsonb_path_ops)
DROP INDEX IF EXISTS nosuch
DROP TABLE IF EXISTS nosuch
DROP VIEW sales ;; CREATE VIEW sales AS SELECT 1 AS one ;; SELECT * FROM sales
CREATE VIEW recent AS SELECT id, placed FROM purchases WHERE placed > '2026-02-20' ;; SELECT * FROM recent ORDER BY id
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM products ;; REFRESH MATERIALIZED VIEW m ;; SELECT * FROM m
CREATE SEQUENCE numbers START 10 ;; SELECT nextval('numbers') ;; ALTER SEQUENCE numbers RESTART WITH 20 ;; SELECT nextval('numbers')
CREATE TEMP TABLE picked (id int) ON COMMIT DROP ;; INSERT INTO picked VALUES (1), (2) ;; SELECT p.title FROM products p JOIN picked USING (id) ORDER BY 1
CREATE TEMPORARY TABLE t AS SELECT id, title FROM products WHERE id < 4 ;; SELECT * FROM t ORDER BY id
SELECT id INTO TEMP t2 FROM products WHERE id < 3 ;; SELECT count(*) FROM t2
CREATE TABLE measures_march PARTITION OF measures FOR VALUES FROM ('2026-03-01') TO ('2026-04-01') ;; INSERT INTO measures VALUES ('2026-03-02', 1, 1) RETURNING *
ALTER TABLE measures DETACH PARTITION measures_february ;; SELECT count(*) FROM measures
COMMENT ON TABLE products IS 'what we sell' ;; SELECT obj_description('products'::regclass)
CREATE STATISTICS s (dependencies) ON category_id, stock FROM products ;; ANALYZE products
ANALYZE products
auto: VACUUM notes
auto: VACUUM (ANALYZE) products

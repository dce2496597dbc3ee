# Applications, reports and BI tools, by hand.

# queues
UPDATE jobs SET locked_by = 'w1', attempts = attempts + 1 WHERE id = (SELECT id FROM jobs WHERE locked_by IS NULL AND queue = 'q1' ORDER BY run_at, id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING *
WITH next AS (SELECT id FROM jobs WHERE queue = 'q0' ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED) UPDATE jobs j SET attempts = j.attempts + 1 FROM next WHERE j.id = next.id RETURNING j.id, j.attempts
DELETE FROM jobs USING (SELECT id FROM jobs ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) q WHERE q.id = jobs.id RETURNING jobs.*
INSERT INTO jobs (queue, args) SELECT 'bulk', jsonb_build_array(n) FROM generate_series(1, 3) n RETURNING args
# upserts and bulk
INSERT INTO products (sku, title, price, stock) VALUES ('SKU-0003', 'x', 1, 1) ON CONFLICT (sku) DO UPDATE SET stock = products.stock + EXCLUDED.stock RETURNING stock
INSERT INTO products (sku, title, price) VALUES ('SKU-0004', 'x', 1) ON CONFLICT ON CONSTRAINT products_sku_key DO NOTHING
INSERT INTO notes SELECT n, 'bulk ' || n FROM generate_series(820, 830) n
INSERT INTO notes (id, body) SELECT * FROM unnest(ARRAY[831, 832], ARRAY['a', 'b']) RETURNING *
INSERT INTO notes DEFAULT VALUES
UPDATE products p SET price = v.price FROM (VALUES (1, 9.5), (2, 8.5)) AS v (id, price) WHERE p.id = v.id RETURNING p.id, p.price
UPDATE products SET attributes = attributes || '{"new": true}' WHERE id = 1 RETURNING attributes
UPDATE products SET attributes = jsonb_set(attributes, '{size}', '42') WHERE id = 2 RETURNING attributes
UPDATE products SET (price, stock) = (price * 2, stock + 1) WHERE id = 3 RETURNING price, stock
UPDATE products SET category_id = DEFAULT WHERE id = 4 RETURNING category_id
MERGE INTO products t USING (VALUES ('SKU-0001', 5), ('SKU-9999', 6)) s (sku, stock) ON t.sku = s.sku WHEN MATCHED THEN UPDATE SET stock = s.stock WHEN NOT MATCHED THEN INSERT (sku, title, price, stock) VALUES (s.sku, 'merged', 1, s.stock)
WITH moved AS (DELETE FROM notes WHERE id < 3 RETURNING *) INSERT INTO notes SELECT id + 900, body FROM moved RETURNING *
WITH p AS (INSERT INTO purchases (id, account_id, placed) VALUES ('10000000-0000-0000-0000-000000000000', 1, '2026-03-01') RETURNING id) INSERT INTO lines SELECT id, 1, 1, 1 FROM p RETURNING purchase_id
TRUNCATE lines
TRUNCATE TABLE ONLY jobs RESTART IDENTITY
DELETE FROM categories WHERE id = 5
INSERT INTO lines VALUES ('20000000-0000-0000-0000-000000000000', 1, 1, 1)
INSERT INTO products (title, price) VALUES ('bad', -1)
INSERT INTO notes VALUES (1, NULL)
SELECT 'x'::int
SELECT 1 / 0
SELECT nosuch FROM products
# reports
SELECT c.name, count(p.id) AS n, sum(p.price) AS total, avg(p.price)::numeric(10, 2) AS mean, min(p.price), max(p.price) FROM categories c LEFT JOIN products p ON p.category_id = c.id GROUP BY c.name ORDER BY c.name
SELECT date_trunc('week', placed)::date AS week, state, count(*), sum(total) FROM purchases GROUP BY 1, 2 ORDER BY 1, 2
SELECT to_char(placed, 'YYYY-MM') AS month, count(*) FILTER (WHERE state = 'paid') AS paid, count(*) FILTER (WHERE state <> 'paid') AS other FROM purchases GROUP BY 1 ORDER BY 1
SELECT placed, sum(total) OVER (ORDER BY placed ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS week FROM purchases ORDER BY placed
SELECT state, placed, total - lag(total) OVER (PARTITION BY state ORDER BY placed) AS change FROM purchases ORDER BY state, placed
SELECT state, percentile_cont(0.5) WITHIN GROUP (ORDER BY total) AS median FROM purchases GROUP BY state ORDER BY state
SELECT state, extract(month FROM placed) AS m, sum(total) FROM purchases GROUP BY CUBE (state, extract(month FROM placed)) ORDER BY 1, 2
SELECT coalesce(state::text, 'all'), sum(total) FROM purchases GROUP BY ROLLUP (state) ORDER BY 1
SELECT state, placed, grouping(state) FROM purchases GROUP BY GROUPING SETS ((state), (placed)) ORDER BY 1, 2 LIMIT 5
SELECT ntile(4) OVER (ORDER BY total) AS quartile, total FROM purchases ORDER BY total
SELECT * FROM (SELECT p.*, rank() OVER (PARTITION BY state ORDER BY total DESC) AS r FROM purchases p) x WHERE r <= 2 ORDER BY state, r
SELECT DISTINCT ON (state) state, id, total FROM purchases ORDER BY state, total DESC
SELECT day::date, coalesce(n, 0) FROM generate_series('2026-01-01'::date, '2026-01-10', '1 day') day LEFT JOIN daily ON daily.placed = day::date ORDER BY 1
WITH monthly AS (SELECT date_trunc('month', placed) m, sum(total) s FROM purchases GROUP BY 1) SELECT m, s, s / sum(s) OVER () AS share FROM monthly ORDER BY m
WITH RECURSIVE path AS (SELECT id, name::text AS whole FROM categories WHERE parent_id IS NULL UNION ALL SELECT c.id, p.whole || ' > ' || c.name FROM categories c JOIN path p ON c.parent_id = p.id) SELECT * FROM path ORDER BY whole
WITH RECURSIVE t (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t
SELECT p.title, l.quantity FROM products p CROSS JOIN LATERAL (SELECT quantity FROM lines WHERE product_id = p.id ORDER BY purchase_id LIMIT 1) l ORDER BY p.id
SELECT product_id, array_agg(DISTINCT quantity), string_agg(quantity::text, ',' ORDER BY purchase_id) FROM lines GROUP BY product_id ORDER BY product_id LIMIT 5
SELECT json_build_object('id', c.id, 'products', (SELECT json_agg(json_build_object('t', p.title) ORDER BY p.id) FROM products p WHERE p.category_id = c.id)) FROM categories c ORDER BY c.id
SELECT jsonb_object_agg(id, title) FROM products WHERE id < 4
SELECT row_to_json(p) FROM products p WHERE id = 1
SELECT to_jsonb(p) - 'search' FROM products p WHERE id = 2
SELECT key, value FROM products, jsonb_each_text(attributes) WHERE id = 1 ORDER BY key
SELECT x.color, x.size FROM products, jsonb_to_record(attributes) AS x (color text, size int) WHERE id < 4 ORDER BY id
SELECT jsonb_path_query(attributes, '$.color') FROM products WHERE id = 1
SELECT attributes @> '{"color": "red"}', attributes ? 'size' FROM products WHERE id = 1
SELECT id, ts_rank(search, q) FROM products, plainto_tsquery('english', 'product number') q WHERE search @@ q ORDER BY id LIMIT 5
SELECT id FROM products WHERE search @@ to_tsquery('english', 'product & number') ORDER BY id LIMIT 3
SELECT title FROM products WHERE title ~* '^product number 1\d$' ORDER BY id
SELECT regexp_replace(title, '\d+', '#', 'g'), split_part(title, ' ', 3) FROM products WHERE id = 7
SELECT overlay('abc' PLACING 'x' FROM 2), position('b' IN 'abc'), substring('abc' FROM '.b'), trim(' a '), lpad('1', 3, '0'), initcap('a b'), md5('x')
SELECT now() IS NOT NULL, current_date > '2020-01-01', age(timestamp '2026-02-01', timestamp '2026-01-01'), make_date(2026, 1, 2), extract(epoch FROM interval '1 hour')
SELECT date '2026-01-31' + interval '1 month', timestamptz '2026-01-01 00:00Z' AT TIME ZONE 'Asia/Tokyo', to_timestamp(0) AT TIME ZONE 'UTC'
SELECT 1::bit(3), B'101' & B'110', 7 / 2, 7 % 2, 2 ^ 10, |/ 16, @ -3, round(2.345, 2), ceil(1.2), width_bucket(5, 0, 10, 5)
SELECT ARRAY[1, 2] || 3, array_length(ARRAY[1, 2], 1), (ARRAY[1, 2, 3])[2:], 2 = ANY (ARRAY[1, 2]), unnest(ARRAY[1, 2]), array_position(ARRAY['a', 'b'], 'b')
SELECT int4range(1, 5) @> 3, tsrange('2026-01-01', '2026-02-01') && tsrange('2026-01-15', NULL), lower(numrange(1, 2))
SELECT greatest(1, 2), least(1, 2), nullif(1, 1), coalesce(NULL, 'x'), CASE 1 WHEN 1 THEN 'a' END, (1, 'a') = (1, 'a'), 1 IS DISTINCT FROM NULL
SELECT inet '10.0.0.1/8' << inet '10.0.0.0/7', host(inet '10.0.0.1'), '08:00:2b:01:02:03'::macaddr, '00000000-0000-0000-0000-000000000001'::uuid
SELECT xmlelement(name a, xmlattributes('x' AS b), 'c'), xpath('/a/text()', '<a>1</a>')
SELECT encode('abc', 'base64'), decode('616263', 'hex'), sha256('x'), convert_from('abc', 'UTF8'), encode(sha256('x'), 'hex')
SELECT count(*) FROM products TABLESAMPLE SYSTEM (100)
SELECT id FROM products EXCEPT SELECT product_id FROM lines ORDER BY 1
(SELECT id FROM products WHERE id < 3) UNION ALL (SELECT id FROM products WHERE id > 38) ORDER BY id
SELECT id FROM products INTERSECT SELECT product_id FROM lines ORDER BY 1 LIMIT 3
VALUES (1, 'one'), (2, 'two')
TABLE categories
SELECT
SELECT FROM products LIMIT 2
SELECT * FROM measures WHERE at >= '2026-01-05' AND at < '2026-01-06' ORDER BY at
SELECT date_trunc('day', at) AS "time", avg(value) FROM measures WHERE at BETWEEN '2026-01-01T00:00:00Z' AND '2026-01-08T00:00:00Z' GROUP BY 1 ORDER BY 1
SELECT floor(extract(epoch FROM at) / 3600) * 3600 AS "time", device::text AS metric, max(value) FROM measures GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 5
SELECT device, value FROM measures_january ORDER BY at LIMIT 3
SELECT tableoid::regclass, count(*) FROM measures GROUP BY 1 ORDER BY 1
INSERT INTO measures VALUES ('2026-01-02', 9, 1.5), ('2026-02-02', 9, 2.5) RETURNING *
INSERT INTO measures VALUES ('2027-01-02', 9, 1.5)
DELETE FROM measures WHERE device = 2 AND at < '2026-01-03'
UPDATE measures SET at = at + interval '1 month' WHERE device = 1 AND at < '2026-01-02'
refused: SELECT login, total FROM paid_purchases ORDER BY id
masked: SELECT login, total FROM paid_purchases
SELECT * FROM sales ORDER BY category_id
SELECT title FROM cheap_products WHERE price > 20 ORDER BY id
UPDATE cheap_products SET price = 1 WHERE id = 1 RETURNING title, price
SELECT s.category_id, c.name, s.value FROM sales s JOIN categories c ON c.id = s.category_id ORDER BY 1
SELECT * FROM daily ORDER BY placed LIMIT 3
SELECT count(*) FROM daily d JOIN purchases p ON p.placed = d.placed
REFRESH MATERIALIZED VIEW daily
# BI tools wrap whatever they are given
SELECT * FROM (SELECT id, title, price FROM products) AS virtual_table LIMIT 3
SELECT title AS title, SUM(price) AS "SUM(price)" FROM public.products GROUP BY title ORDER BY "SUM(price)" DESC LIMIT 5
SELECT "source"."category_id" AS "category_id", count(*) AS "count" FROM (SELECT "public"."products"."category_id" AS "category_id" FROM "public"."products") AS "source" GROUP BY "source"."category_id" ORDER BY "source"."category_id" ASC
SELECT CAST("public"."purchases"."placed" AS date) AS "placed", sum("public"."purchases"."total") AS "sum" FROM "public"."purchases" GROUP BY CAST("public"."purchases"."placed" AS date) ORDER BY 1
SELECT SUM(1) AS "cnt:rows", "products"."category_id" AS "category_id" FROM "public"."products" "products" GROUP BY 2 ORDER BY 2
SELECT "t0"."state" AS "state" FROM (SELECT * FROM purchases) "t0" GROUP BY 1 ORDER BY 1
select "_"."id", "_"."title" from "public"."products" "_" order by "_"."id" limit 10
SELECT * FROM products WHERE false
SELECT count(*) FROM products p, lines l, purchases q WHERE p.id = l.product_id AND l.purchase_id = q.id
SELECT p.id FROM products p JOIN lines l ON l.product_id = p.id AND l.quantity > 1 LEFT JOIN purchases q ON q.id = l.purchase_id RIGHT JOIN categories c ON c.id = p.category_id ORDER BY 1
SELECT * FROM categories NATURAL JOIN (SELECT 2 AS id) x
SELECT a.id, b.id FROM categories a FULL JOIN categories b ON a.id = b.parent_id ORDER BY 1, 2
SELECT id FROM products WHERE (category_id, stock) IN ((2, 1), (3, 2)) ORDER BY id
SELECT id FROM products WHERE price > ALL (SELECT price FROM products WHERE category_id = 2) ORDER BY id
SELECT id FROM products p WHERE NOT EXISTS (SELECT FROM lines l WHERE l.product_id = p.id) ORDER BY id
SELECT (SELECT name FROM categories c WHERE c.id = p.category_id), p.title FROM products p ORDER BY p.id LIMIT 3
COPY products (id, title) TO STDOUT
COPY (SELECT id, title FROM products WHERE id < 5 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)
COPY categories TO STDOUT (FORMAT binary)
COPY (SELECT 1, E'a\tb', NULL) TO STDOUT (DELIMITER ',', NULL 'nil')
EXPLAIN (COSTS off) SELECT * FROM products WHERE id = 1
EXPLAIN (COSTS off, FORMAT JSON) SELECT count(*) FROM products GROUP BY category_id
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT * FROM products WHERE stock = 1
EXPLAIN (COSTS off) UPDATE products SET stock = 1 WHERE id = 1
SELECT pg_size_pretty(1024::bigint), pg_typeof(1), format('%s-%s', 1, 2), current_setting('server_version_num')::int > 130000
SELECT txid_current() > 0, pg_backend_pid() > 0, inet_server_port() > 0, pg_is_in_recovery()
SELECT gen_random_uuid() IS NOT NULL, random() < 1, clock_timestamp() > '2020-01-01'
SELECT currval('products_id_seq') > 0, lastval() > 0
SELECT nextval('accounts_id_seq'), setval('accounts_id_seq', 100)
LOCK TABLE notes IN SHARE ROW EXCLUSIVE MODE
# the shop's people
masked: SELECT a.id, a.login, count(p.id) AS n, sum(p.total) AS total FROM accounts a LEFT JOIN purchases p ON p.account_id = a.id GROUP BY a.id ORDER BY a.id
masked: SELECT login, email FROM accounts WHERE is_active AND score > 10 ORDER BY score DESC LIMIT 5
masked: SELECT login, profile->>'city' AS city FROM accounts WHERE profile->>'city' = 'Bonn' ORDER BY id
masked: SELECT profile->>'city' AS city, count(*) FROM accounts GROUP BY 1 ORDER BY 2, 1
masked: SELECT unnest(roles) AS role, count(*) FROM accounts GROUP BY 1 ORDER BY 1
masked: SELECT login FROM accounts WHERE 'admin' = ANY (roles) ORDER BY login
masked: SELECT a.login, p.total FROM accounts a JOIN purchases p ON p.account_id = a.id WHERE p.state = 'paid' ORDER BY p.total
masked: SELECT login, CASE WHEN score > 20 THEN 'high' ELSE 'low' END FROM accounts ORDER BY login
masked: SELECT count(*) FROM accounts WHERE phone IS NULL
masked: SELECT count(email), count(phone) FROM accounts
masked: SELECT id, coalesce(phone, 'none') FROM accounts ORDER BY id LIMIT 3
masked: SELECT id, login || ' <' || email || '>' AS who FROM accounts ORDER BY id LIMIT 3
masked: SELECT id, lower(email), split_part(email, '@', 2), length(phone) FROM accounts ORDER BY id LIMIT 3
masked: SELECT max(created_at), min(created_at), avg(score) FROM accounts
masked: COPY accounts (id, login, email) TO STDOUT (FORMAT csv, HEADER)
masked: SELECT created_at::date AS day, count(*) FROM accounts GROUP BY 1 ORDER BY 1 LIMIT 3
masked: SELECT row_number() OVER (ORDER BY created_at) AS n, login FROM accounts ORDER BY 1 LIMIT 3
masked: WITH active AS (SELECT * FROM accounts WHERE is_active) SELECT id, login, email FROM active ORDER BY id LIMIT 3
masked: SELECT s.login FROM (SELECT login, email FROM accounts) s ORDER BY s.login LIMIT 3
masked: SELECT id, email FROM accounts WHERE id = 1 FOR UPDATE
masked: SELECT id FROM accounts WHERE email = 'user1@mail.example' OR phone = '+49 30 1'
masked: SELECT id FROM accounts UNION ALL SELECT id FROM categories
masked: SELECT DISTINCT is_active FROM accounts
masked: EXPLAIN (COSTS off) SELECT id FROM accounts WHERE id = 1
masked: SELECT a.id FROM accounts a WHERE EXISTS (SELECT 1 FROM purchases p WHERE p.account_id = a.id AND p.total > 170) ORDER BY 1
masked: UPDATE accounts SET score = score + 1 WHERE id = 1 RETURNING id, email, score
masked: DELETE FROM accounts WHERE id = 30 RETURNING id, login, email
masked: INSERT INTO accounts (login, email) VALUES ('r', 'r@mail.example') RETURNING id, login, email
UPDATE accounts SET updated_at = '2026-05-05Z', version = version + 1 WHERE id = 2 AND version = 0
UPDATE accounts SET email = lower(email) WHERE id < 3
UPDATE accounts SET phone = NULL WHERE id = 1
UPDATE accounts SET email = coalesce(NULLIF('', ''), email) WHERE id = 1
UPDATE accounts SET profile = profile || '{"a": 1}' WHERE id = 1
UPDATE accounts SET roles = array_append(roles, 'x') WHERE login = 'user1'
DELETE FROM accounts WHERE NOT is_active AND created_at < '2020-01-01'
INSERT INTO accounts (login, email) SELECT 'bulk' || n, 'bulk' || n || '@mail.example' FROM generate_series(1, 3) n
refused: UPDATE purchases SET state = 'sent' FROM accounts WHERE accounts.id = purchases.account_id AND accounts.login = 'user3'
DELETE FROM purchases USING accounts a WHERE a.id = purchases.account_id AND a.login = 'user4'
refused: INSERT INTO purchases (id, account_id, placed, total) SELECT '30000000-0000-0000-0000-000000000000', id, '2026-04-01', 5 FROM accounts WHERE login = 'user5'
refused: SELECT split_part(email, '@', 2) AS domain, count(*) FROM accounts GROUP BY 1
refused: SELECT count(DISTINCT email) FROM accounts
refused: SELECT login FROM accounts WHERE email LIKE '%@mail.example'
refused: SELECT a.login, b.login FROM accounts a JOIN accounts b ON a.phone = b.phone AND a.id < b.id
refused: SELECT DISTINCT email FROM accounts
refused: SELECT email FROM accounts UNION SELECT title FROM products
refused: CREATE TABLE accounts_backup AS SELECT * FROM accounts

# Names that mean something else than they seem to.
WITH customers AS (SELECT * FROM customers) SELECT email FROM customers
WITH customers AS (SELECT 1 AS email) SELECT email FROM public.customers
WITH notes AS (SELECT id, email AS body FROM customers) SELECT body FROM notes
WITH w AS (SELECT email AS z FROM customers) SELECT z FROM w
WITH w (z) AS (SELECT email FROM customers) SELECT z || '' FROM w
WITH w AS MATERIALIZED (SELECT email AS z FROM customers) SELECT z FROM w
WITH w AS NOT MATERIALIZED (SELECT email AS z FROM customers) SELECT upper(z) FROM w
WITH a AS (SELECT email FROM customers), b AS (SELECT * FROM a), c AS (TABLE b) SELECT * FROM c
WITH a AS (WITH b AS (SELECT email FROM customers) SELECT * FROM b) SELECT * FROM a
WITH RECURSIVE r AS (SELECT id, email FROM customers WHERE id = 1 UNION ALL SELECT c.id, c.email FROM customers c JOIN r ON c.id = r.id + 1) SELECT email FROM r
WITH RECURSIVE r (n, e) AS (SELECT 1, (SELECT email FROM customers WHERE id = 1) UNION ALL SELECT n + 1, e FROM r WHERE n < 3) SELECT e FROM r
WITH RECURSIVE r (x) AS (SELECT name FROM customers WHERE id = 1 UNION ALL SELECT email FROM customers) SELECT x FROM r
WITH RECURSIVE r (id, x) AS (SELECT id, email FROM customers UNION ALL SELECT id + 10, x FROM r WHERE id < 10) SEARCH DEPTH FIRST BY id SET o SELECT o, x FROM r
WITH RECURSIVE r (id, x) AS (SELECT id, email FROM customers UNION ALL SELECT id, x FROM r WHERE id < 10) CYCLE id SET c USING p SELECT p, x FROM r
WITH d AS (DELETE FROM customers RETURNING *) SELECT email FROM d
WITH d AS (DELETE FROM customers RETURNING customers) SELECT (d.customers).email FROM d
WITH u AS (UPDATE customers SET credit = 1 RETURNING email AS e) SELECT e FROM u
WITH i AS (INSERT INTO customers (id, name, email, card_number, credit) SELECT 900, 'x', email || 'x', 'x', 1 FROM customers WHERE id = 1 RETURNING email) SELECT * FROM i
SELECT name FROM (SELECT email AS name FROM customers) customers
SELECT id FROM (SELECT email AS id FROM customers) notes
SELECT x FROM (SELECT email FROM customers) AS s (x)
SELECT x FROM (SELECT email AS y FROM customers) AS s (x)
SELECT notes.* FROM customers AS notes
SELECT orders.email FROM customers orders, orders customers LIMIT 3
SELECT a.b FROM (customers CROSS JOIN (SELECT 1) x) AS a (i, n, b)
SELECT j.email FROM (customers c JOIN notes n ON c.id = n.id) AS j
SELECT j.x FROM (customers c JOIN notes n USING (id)) AS j (i, n, x)
SELECT ju.id, c.email FROM customers c JOIN notes n USING (id) AS ju
SELECT email FROM customers JOIN notes USING (id)
SELECT email FROM customers NATURAL JOIN (SELECT 1 AS id) x
SELECT email FROM notes LEFT JOIN customers ON customers.id = notes.id WHERE notes.id < 4
SELECT email FROM customers FULL JOIN notes ON customers.id = notes.id WHERE notes.id < 4
SELECT coalesce(c.email, n.body) FROM notes n LEFT JOIN customers c ON c.id = n.id WHERE n.id < 5
SELECT l.e FROM customers c, LATERAL (SELECT c.email AS e) l
SELECT l.* FROM customers c CROSS JOIN LATERAL (VALUES (c.email, c.id)) l
SELECT l.x FROM customers c, LATERAL (SELECT n.body || c.email AS x FROM notes n LIMIT 1) l
SELECT column1 FROM (VALUES ((SELECT email FROM customers WHERE id = 1))) v
SELECT v.x FROM (VALUES (1, (SELECT email FROM customers WHERE id = 1))) v (i, x)
SELECT "?column?" FROM (SELECT email || '' FROM customers) s
SELECT upper FROM (SELECT upper(email) FROM customers) s
SELECT "coalesce" FROM (SELECT coalesce(email, '') FROM customers) s
SELECT "case" FROM (SELECT CASE WHEN true THEN email END FROM customers) s
SELECT "array" FROM (SELECT ARRAY[email] FROM customers) s
SELECT "row" FROM (SELECT ROW(email) FROM customers) s
SELECT s FROM (SELECT email FROM customers) s
SELECT s.* FROM (SELECT email FROM customers) s
SELECT s::text FROM (SELECT email FROM customers) s
SELECT body FROM (SELECT body FROM notes UNION ALL SELECT email FROM customers) s
SELECT email FROM customers UNION ALL SELECT item FROM orders
SELECT name FROM customers UNION ALL SELECT email FROM customers
SELECT item FROM orders UNION SELECT email FROM customers
SELECT body FROM notes INTERSECT SELECT body FROM notes UNION ALL SELECT email FROM customers
(SELECT email FROM customers) EXCEPT (SELECT body FROM notes)
SELECT 'x' UNION ALL (SELECT email FROM customers ORDER BY id LIMIT 1)
VALUES ('x') UNION ALL SELECT email FROM customers
SELECT email FROM customers UNION ALL (VALUES ('x'), ('y'))
SELECT id, name FROM customers UNION ALL TABLE two_texts UNION ALL SELECT id, email FROM customers
SELECT (SELECT x.name FROM (SELECT email AS name FROM customers LIMIT 1) x)
SELECT (SELECT max(d.email) FROM customers d WHERE d.id = o.customer_id) FROM orders o LIMIT 2
SELECT customers.email FROM other.customers o JOIN public.customers ON true LIMIT 1
SELECT c.email FROM public.customers c JOIN other.customers o ON o.id = c.id
SELECT email FROM "customers"
SELECT email FROM public . customers
SELECT email FROM customers -- ; SELECT 1
SELECT $$x$$ || email FROM customers
SELECT E'\x41' || email FROM customers
SELECT 1; SELECT email FROM customers
SELECT name FROM customers; SELECT email FROM customers; SELECT body FROM notes LIMIT 1
SET application_name = 'x'; SELECT email FROM customers
SELECT email, email, email FROM customers
SELECT email AS "[masked]" FROM customers
SELECT id AS email, email AS id FROM customers
SELECT (email) FROM customers
SELECT ((customers)).email FROM customers
SELECT email FROM customers WHERE id = 1 GROUP BY id, customers.email
SELECT email FROM customers GROUP BY id
SELECT t.email FROM ONLY (customers) t
CREATE TABLE pg_temp.t (id int) ;; SELECT email FROM customers, t RIGHT JOIN (SELECT 1) x ON true
CREATE TEMP TABLE t (id int, email text) ;; SELECT c.email FROM customers c LEFT JOIN t USING (id)
CREATE TEMP TABLE two (id int) ;; INSERT INTO two VALUES (1) ;; SELECT email FROM customers JOIN two USING (id)
CREATE TABLE u (id int, email text); SELECT email FROM customers
CREATE TABLE u (id int, email text); SELECT u.email, c.email FROM customers c LEFT JOIN u ON true
CREATE DOMAIN d AS text ;; SELECT email::d FROM customers
CREATE TYPE t AS (e text) ;; SELECT ROW(email)::t FROM customers
CREATE TYPE other.text AS (e text) ;; SET search_path = other ;; SELECT ROW(email)::other.text FROM public.customers
CREATE CAST (text AS pair2) WITH INOUT AS IMPLICIT ;; SELECT email::pair2 FROM customers
CREATE OPERATOR ~~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat) ;; SELECT email ~~~~ '' FROM customers
CREATE COLLATION co FROM "C" ;; SELECT email COLLATE co FROM customers

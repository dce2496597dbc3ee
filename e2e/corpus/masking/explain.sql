# EXPLAIN shows literals, plans and, with ANALYZE, counts.
EXPLAIN SELECT * FROM customers WHERE email = '{email}'
EXPLAIN (VERBOSE) SELECT email FROM customers WHERE card_number = '{card}'
EXPLAIN (FORMAT JSON) SELECT * FROM customers WHERE email = '{email}'
EXPLAIN (FORMAT XML) SELECT * FROM customers WHERE email IN ('{email}', 'x')
EXPLAIN (FORMAT YAML) UPDATE customers SET name = 'x' WHERE email = '{email}'
EXPLAIN (ANALYZE, VERBOSE, TIMING off) SELECT * FROM customers WHERE email = '{email}'
EXPLAIN (ANALYZE) UPDATE customers SET credit = 1 WHERE email = '{email}'
EXPLAIN (ANALYZE) INSERT INTO notes SELECT 900 + id, email FROM customers ;; SELECT body FROM notes WHERE id > 900
EXPLAIN (ANALYZE) CREATE TABLE stolen AS SELECT email FROM customers ;; TABLE stolen
EXPLAIN (ANALYZE) CREATE MATERIALIZED VIEW stolen AS SELECT email FROM customers ;; TABLE stolen
EXPLAIN (ANALYZE) SELECT email INTO stolen FROM customers ;; TABLE stolen
EXPLAIN (ANALYZE) UPDATE notes SET body = (SELECT email FROM customers LIMIT 1) ;; SELECT body FROM notes LIMIT 1
EXPLAIN (ANALYZE) SELECT leak(1)
EXPLAIN (ANALYZE) SELECT email::int FROM customers
EXPLAIN SELECT 1 FROM customers WHERE '{email}' = email OR id = 1
EXPLAIN SELECT 1 WHERE (SELECT email FROM customers WHERE id = 1) = '{email}'
EXPLAIN SELECT * FROM notes WHERE body = fixed_mail()
EXPLAIN (VERBOSE) SELECT fixed_mail()
EXPLAIN (VERBOSE, COSTS off) SELECT 1 FROM notes WHERE length(fixed_mail()) > id AND body < fixed_mail()
EXPLAIN DECLARE c CURSOR FOR SELECT email FROM customers WHERE email = '{email}'
PREPARE p AS SELECT * FROM customers WHERE email = fixed_mail() ;; EXPLAIN EXECUTE p
infer: EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT id FROM customers WHERE email < 'm'
infer: EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT count(*) FROM customers GROUP BY email
infer: EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT DISTINCT email FROM customers
infer: EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) DELETE FROM customers WHERE salary > 500000000
infer: EXPLAIN SELECT id FROM many WHERE secret < 500
infer: EXPLAIN SELECT id FROM many WHERE secret BETWEEN 1 AND 3
infer: EXPLAIN SELECT count(*) FROM many GROUP BY secret
infer: EXPLAIN SELECT a.id FROM many a JOIN notes n ON a.secret = n.id

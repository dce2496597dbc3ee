# cursors
DECLARE c CURSOR FOR SELECT email FROM customers ;; FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT email FROM customers ;; FETCH 1 FROM c ;; FETCH NEXT FROM c ;; CLOSE c
DECLARE c SCROLL CURSOR FOR SELECT email FROM customers ;; FETCH LAST FROM c ;; FETCH PRIOR FROM c ;; FETCH ABSOLUTE 1 FROM c
DECLARE c SCROLL CURSOR FOR SELECT upper(email) FROM customers ;; MOVE FORWARD ALL IN c ;; FETCH BACKWARD ALL FROM c
DECLARE c BINARY CURSOR FOR SELECT email FROM customers ;; FETCH ALL FROM c
DECLARE c BINARY CURSOR FOR SELECT photo, profile, tags FROM customers ;; FETCH ALL FROM c
auto: DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers; FETCH ALL FROM c; CLOSE c
auto: DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers ;; FETCH ALL FROM c ;; CLOSE ALL
DECLARE c CURSOR FOR SELECT email FROM customers; FETCH ALL FROM c
DECLARE "Odd name" CURSOR FOR SELECT email FROM customers ;; FETCH ALL FROM "Odd name"
DECLARE c CURSOR FOR SELECT name FROM customers ;; CLOSE c ;; DECLARE c CURSOR FOR SELECT email AS name FROM customers ;; FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT name FROM customers; CLOSE c; DECLARE c CURSOR FOR SELECT email AS name FROM customers; FETCH ALL FROM c
SAVEPOINT a ;; DECLARE c CURSOR FOR SELECT email FROM customers ;; FETCH 1 FROM c ;; ROLLBACK TO a ;; DECLARE c CURSOR FOR SELECT reverse(email) FROM customers ;; FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT id, row_to_json(c) FROM customers c ;; FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT mail_of(1) ;; FETCH ALL FROM c
DECLARE c CURSOR FOR TABLE customers_view ;; FETCH ALL FROM c
DECLARE c NO SCROLL INSENSITIVE CURSOR WITHOUT HOLD FOR WITH w AS (SELECT email FROM customers) TABLE w ;; FETCH FORWARD 2 FROM c
DECLARE c CURSOR FOR SELECT email FROM customers FOR UPDATE ;; FETCH 1 FROM c ;; UPDATE customers SET credit = 1 WHERE CURRENT OF c RETURNING email
DECLARE c CURSOR FOR SELECT id FROM customers FOR UPDATE ;; FETCH 1 FROM c ;; DELETE FROM customers WHERE CURRENT OF c RETURNING customers.*
DECLARE c CURSOR FOR SELECT email FROM customers ;; SELECT cursor_to_xml('c', 5, true, true, '')
SELECT open_mails('x') ;; FETCH ALL FROM x
SELECT open_mails('c') ;; FETCH ALL IN c ;; CLOSE c
DECLARE c CURSOR FOR SELECT id FROM notes ;; CLOSE c ;; SELECT open_mails('c') ;; FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT 'x' FROM notes; CLOSE c; SELECT open_mails('c'); FETCH ALL FROM c
DECLARE c CURSOR FOR SELECT c.email || statement FROM pg_cursors, customers c ;; FETCH ALL FROM c
# prepared statements
PREPARE p AS SELECT email FROM customers ;; EXECUTE p
PREPARE p AS SELECT email FROM customers; EXECUTE p
PREPARE p AS SELECT email FROM customers; EXECUTE p; EXECUTE p
PREPARE p AS SELECT upper(email) FROM customers ;; EXECUTE p ;; EXECUTE p
PREPARE p (int) AS SELECT email FROM customers WHERE id = $1 ;; EXECUTE p (1) ;; EXECUTE p (2)
PREPARE p (text) AS SELECT email || $1 FROM customers ;; EXECUTE p ('x')
PREPARE p (text) AS SELECT coalesce($1, email) FROM customers ;; EXECUTE p (NULL)
PREPARE p AS UPDATE customers SET credit = 1 RETURNING email ;; EXECUTE p
PREPARE p AS TABLE customers ;; EXPLAIN (ANALYZE, VERBOSE) EXECUTE p ;; EXECUTE p
PREPARE p AS SELECT name FROM customers ;; DEALLOCATE p ;; PREPARE p AS SELECT email AS name FROM customers ;; EXECUTE p
PREPARE p AS SELECT name FROM customers; DEALLOCATE ALL; PREPARE p AS SELECT email AS name FROM customers; EXECUTE p
PREPARE p AS SELECT email FROM other.customers ;; DEALLOCATE p ;; PREPARE p AS SELECT email FROM customers ;; EXECUTE p
PREPARE p AS WITH d AS (DELETE FROM customers RETURNING *) SELECT email FROM d ;; EXECUTE p
PREPARE p AS SELECT * FROM customers ;; ALTER TABLE customers ADD x int ;; EXECUTE p ;; SELECT email FROM customers
PREPARE p AS SELECT mail_of(1) ;; EXECUTE p
PREPARE p AS SELECT $1::text || email FROM customers ;; EXECUTE p ('a')
SELECT prepare_mails() ;; EXECUTE unseen
PREPARE unseen AS SELECT 'x' FROM notes ;; SELECT prepare_mails() ;; EXECUTE unseen
DISCARD PLANS ;; PREPARE p AS SELECT email FROM customers ;; DISCARD PLANS ;; EXECUTE p
# another table under the same name
PREPARE p AS SELECT email FROM customers ;; SET search_path = other ;; EXECUTE p ;; SET search_path = public ;; EXECUTE p
SET search_path = other ;; PREPARE p AS SELECT email FROM customers ;; EXECUTE p ;; SET search_path = public ;; EXECUTE p
SET search_path = other; PREPARE p AS SELECT email FROM customers; SET search_path = public; EXECUTE p
SET LOCAL search_path = other ;; PREPARE p AS SELECT email FROM customers ;; SET LOCAL search_path = public, other ;; EXECUTE p
SET search_path = other ;; PREPARE p AS SELECT email FROM customers ;; RESET search_path ;; EXECUTE p
SAVEPOINT a ;; SET search_path = other ;; SELECT email FROM customers ;; ROLLBACK TO a ;; SELECT email FROM customers
SAVEPOINT a ;; SET search_path = other ;; PREPARE p AS SELECT email FROM customers ;; ROLLBACK TO a ;; EXECUTE p
SELECT set_config('search_path', 'public', false) ;; SELECT email FROM customers
SET search_path = other; SELECT set_config('search_path', 'public', true); SELECT email FROM customers
SET search_path = other ;; DECLARE c CURSOR FOR SELECT email FROM customers ;; SET search_path = public ;; CLOSE c ;; DECLARE c CURSOR FOR SELECT email FROM customers ;; FETCH ALL FROM c
SET search_path = other ;; SELECT public.take_path() ;; SELECT email FROM customers
SET search_path = '' ;; SELECT email FROM public.customers
SET search_path = pg_catalog ;; SELECT email FROM public.customers
SET search_path = other, public ;; SELECT p.email FROM other.customers o RIGHT JOIN public.customers p USING (id) UNION ALL SELECT p.email FROM public.customers p
SET search_path = "$user", public ;; SELECT email FROM customers
SET SCHEMA 'public' ;; SELECT email FROM customers
SET search_path TO DEFAULT ;; SELECT email FROM customers

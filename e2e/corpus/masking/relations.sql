# views
SELECT * FROM customers_view
SELECT mail FROM customers_view
SELECT card FROM customers_view
SELECT v FROM customers_view v
SELECT v::text FROM customers_view v
SELECT mail FROM nested_view
SELECT upper(m) FROM nested_view v (m)
SELECT json_agg(v) FROM nested_view v
SELECT mail FROM barrier_view
SELECT mail FROM updatable_view
SELECT e FROM recursive_view
SELECT * FROM function_view
SELECT * FROM lateral_view
SELECT * FROM union_view
SELECT * FROM aggregate_view
SELECT * FROM statistics_view
SELECT * FROM xml_view
SELECT * FROM customers_materialized
SELECT email || '' FROM customers_materialized
REFRESH MATERIALIZED VIEW customers_materialized ;; SELECT email FROM customers_materialized
UPDATE updatable_view SET id = id RETURNING mail
UPDATE updatable_view SET name = mail RETURNING name
INSERT INTO updatable_view (id, mail, name, card, credit) SELECT id + 900, 'x', mail, '9' || id, 0 FROM updatable_view RETURNING name
DELETE FROM updatable_view RETURNING mail
WITH w AS (DELETE FROM updatable_view RETURNING *) SELECT mail FROM w
SELECT c.relname, v.mail FROM customers_view v, pg_class c WHERE c.relname = 'pg_class'
SELECT mail FROM customers_view UNION ALL SELECT item FROM orders_view
SELECT (v).mail FROM customers_view v
SELECT array_agg(mail) FROM customers_view
SELECT mail FROM customers_view FOR UPDATE
COPY (TABLE customers_view) TO STDOUT
DECLARE c CURSOR FOR TABLE nested_view ;; FETCH ALL c
ALTER VIEW customers_view RENAME mail TO harmless ;; SELECT harmless FROM customers_view
ALTER VIEW customers_view RENAME TO harmless ;; SELECT mail FROM harmless
ALTER VIEW customers_view SET SCHEMA other ;; SELECT mail FROM other.customers_view
# generated columns
SELECT mail_copy FROM customers
SELECT c.mail_copy FROM customers c
SELECT mail_copy || '' FROM customers
SELECT initials FROM customers
SELECT id, mail_copy FROM customers ORDER BY id
SELECT mail_copy FROM (SELECT mail_copy FROM customers) s
UPDATE customers SET credit = 1 RETURNING mail_copy
INSERT INTO customers (id, name, email, card_number, credit) SELECT 900, name, 'x' || email, 'y', 1 FROM customers WHERE id = 1 RETURNING mail_copy
COPY (SELECT id, mail_copy FROM customers) TO STDOUT
INSERT INTO two_texts SELECT id, mail_copy FROM customers ;; TABLE two_texts
infer: SELECT id FROM customers WHERE mail_copy < 'm'
infer: SELECT id FROM customers ORDER BY mail_copy, id
infer: SELECT id FROM customers WHERE initials = 'b' OR initials < 'm'
# partitions and inheritance
SELECT email FROM people
SELECT email FROM people_eu
SELECT email FROM ONLY people_eu
SELECT p.* FROM people_us p
SELECT tableoid::regclass, email FROM people
SELECT row_to_json(p) FROM people_eu p
SELECT email FROM people UNION ALL SELECT email FROM people_us
UPDATE people SET region = region RETURNING email
UPDATE people_eu SET id = id RETURNING *
DELETE FROM people_eu RETURNING email
DELETE FROM people RETURNING people
INSERT INTO people SELECT id + 900, email, 'eu' FROM people RETURNING email
COPY people_eu TO STDOUT
COPY people_eu (email) TO STDOUT CSV
SELECT phone FROM contacts
SELECT phone FROM ONLY contacts
SELECT phone FROM contacts_vip
SELECT * FROM contacts_vip
SELECT c.phone FROM contacts_vip c JOIN contacts USING (id)
SELECT phone FROM contacts_top
SELECT t FROM contacts_top t
SELECT t::contacts_top FROM contacts_vip t
SELECT (t::contacts).phone FROM contacts_vip t
SELECT (t::contacts_top)::text FROM contacts t
UPDATE contacts_top SET id = id RETURNING phone
COPY contacts_vip TO STDOUT
INSERT INTO two_texts SELECT id, phone FROM contacts_vip ;; TABLE two_texts
CREATE TABLE mine () INHERITS (contacts_vip) ;; INSERT INTO mine SELECT * FROM contacts_vip ;; SELECT phone FROM mine
CREATE TABLE mine (LIKE contacts_vip) ;; ALTER TABLE contacts_vip INHERIT mine ;; SELECT phone FROM mine
ALTER TABLE people ADD copy text ;; UPDATE people SET copy = email ;; SELECT copy FROM people_eu
# functions of the schema
SELECT * FROM list_customers()
SELECT list_customers()
SELECT (list_customers()).email
SELECT email FROM list_customers() AS c
SELECT e FROM list_customers() AS c (i, n, e, k, d)
SELECT mail_of(1)
SELECT mail_of(id) FROM notes WHERE id = 1
SELECT o.id, mail_of(o.customer_id) FROM orders o WHERE o.id < 4
SELECT c.whole_row FROM customers c
SELECT c.shown FROM customers c
SELECT shown(c) FROM customers c
SELECT upper(mail_of(1)) || ''
SELECT ARRAY[mail_of(1)]
SELECT x FROM ROWS FROM (mail_of(1), generate_series(1, 2)) AS t (x, n)
SELECT x FROM mail_of(1) AS x
SELECT count(*), max(mail_of(id)) FROM notes WHERE id = 1
SELECT joined(mail_of(1))
SELECT 'x' <+> email FROM customers
SELECT 1 <+> 1, mail_of(1)
SELECT email::pair2 FROM customers
SELECT json_build_object('a', mail_of(1))
VALUES (mail_of(1))
CALL out_mail(1, NULL)
SELECT * FROM notes_with_mail(1)
SELECT item FROM orders WHERE id = 1 UNION ALL SELECT mail_of(1)
CREATE TEMP TABLE mine AS SELECT 1 AS id ;; SELECT mail_of(id) FROM mine
SELECT CASE WHEN true THEN mail_of(1) END
SELECT (SELECT mail_of(1))
WITH w AS (SELECT mail_of(1) AS m) SELECT m FROM w
SELECT DISTINCT mail_of(1)

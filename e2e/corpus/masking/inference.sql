# What a comparison, an order, a count, an error or the time tells.
infer: SELECT id FROM customers WHERE email LIKE 'b%'
infer: SELECT id FROM customers WHERE email < 'm'
infer: SELECT id FROM customers WHERE email > 'm'
infer: SELECT id FROM customers WHERE email >= 'm' AND id > 0
infer: SELECT id FROM customers WHERE email BETWEEN 'a' AND 'm'
infer: SELECT id FROM customers WHERE email ~ '^[b-l]'
infer: SELECT id FROM customers WHERE email SIMILAR TO '[b-l]%'
infer: SELECT id FROM customers WHERE email ILIKE 'B%' OR email ILIKE 'F%'
infer: SELECT id FROM customers WHERE email ^@ 'p' OR length(email) < 24
infer: SELECT id FROM customers WHERE starts_with(email, 'p') OR length(email) < 24
infer: SELECT id FROM customers WHERE left(email, 1) < 'm'
infer: SELECT id FROM customers WHERE length(email) = 20
infer: SELECT id FROM customers WHERE octet_length(photo) > 24
infer: SELECT id FROM customers WHERE email <> 'x' AND email < 'm'
infer: SELECT id FROM customers WHERE email IN (SELECT email FROM customers WHERE salary > 500000000)
infer: SELECT id FROM customers WHERE NOT email > 'm'
infer: SELECT id FROM customers WHERE (email < 'm') IS TRUE
infer: SELECT id FROM customers WHERE (email < 'm') IS NOT FALSE
infer: SELECT id FROM customers WHERE email < ANY (ARRAY['m'])
infer: SELECT id FROM customers WHERE email > ALL (SELECT 'm')
infer: SELECT id FROM customers WHERE (email, id) < ('m', 0)
infer: SELECT id FROM customers WHERE ROW(email) < ROW('m'::text)
infer: SELECT id FROM customers WHERE email IS DISTINCT FROM GREATEST(email, 'm')
infer: SELECT id FROM customers WHERE nullif(email, GREATEST(email, 'm')) IS NULL
infer: SELECT id FROM customers WHERE CASE WHEN email < 'm' THEN true END
infer: SELECT id FROM customers WHERE salary > 500000000
infer: SELECT id FROM customers WHERE salary % 2 = 0
infer: SELECT id FROM customers WHERE salary - 500000000 > 0
infer: SELECT id FROM customers WHERE sign(salary - 500000000) = 1
infer: SELECT id FROM customers WHERE salary::text < '5'
infer: SELECT id FROM customers WHERE profile->>'ssn' < 'm'
infer: SELECT id FROM customers WHERE profile @? '$.ssn ? (@ < "m")'
infer: SELECT id FROM customers WHERE profile @@ '$.ssn < "m"'
infer: SELECT id FROM customers WHERE jsonb_path_exists(profile, '$.ssn ? (@ like_regex "^[b-l]")')
infer: SELECT id FROM customers WHERE profile > '{"ssn": "m", "city": "Paris"}'
infer: SELECT id FROM customers WHERE tags[1] < 'm'
infer: SELECT id FROM customers WHERE tags < ARRAY['m']
infer: SELECT id FROM customers WHERE array_to_string(tags, '') < 'm'
infer: SELECT id FROM customers WHERE photo < 'm'::bytea
infer: SELECT id FROM customers WHERE doc::text < '<s>m'
infer: SELECT id FROM customers c WHERE to_jsonb(c)->>'email' < 'm'
infer: SELECT id FROM customers WHERE EXISTS (SELECT 1 WHERE email < 'm')
infer: SELECT id FROM customers WHERE id IN (SELECT id FROM customers WHERE email < 'm')
infer: SELECT id FROM customers WHERE pg_column_size(email) > 24
infer: SELECT id FROM customers WHERE ascii(email) < 109
infer: SELECT id FROM customers WHERE position('@' IN email) > 12
infer: SELECT id FROM customers WHERE similarity(email, 'm') >= 0 AND email < 'm'
infer: SELECT id FROM customers WHERE email::citext < 'm'
infer: SELECT id FROM customers WHERE email COLLATE "C" < 'm'
infer: SELECT id FROM customers WHERE textrange('a', 'm') @> email
infer: SELECT id FROM customers WHERE int8range(0, 500000000) @> salary
infer: SELECT id FROM customers WHERE width_bucket(salary, 0, 1000000000, 2) = 1
infer: SELECT id FROM customers JOIN (VALUES ('m')) v (x) ON email < x
infer: SELECT c.id FROM customers c JOIN notes n ON length(c.email) = n.id
infer: SELECT n.id FROM customers c RIGHT JOIN notes n ON n.id = length(c.email) WHERE c.id = 1
infer: SELECT c.id FROM customers c, customers d WHERE c.email < d.email AND d.id = 2
infer: SELECT c.id FROM customers c JOIN customers d USING (email) WHERE c.id <> d.id
infer: SELECT count(*) FROM customers NATURAL JOIN (SELECT 2 AS credit2, email FROM customers WHERE id = 2) x
infer: SELECT c.id FROM customers c LEFT JOIN customers d ON c.email = d.email AND c.id < d.id WHERE d.id IS NOT NULL
infer: SELECT id FROM customers ORDER BY email
infer: SELECT id FROM customers ORDER BY email DESC NULLS LAST, id
infer: SELECT id FROM customers ORDER BY 0 + salary
infer: SELECT id, email FROM customers ORDER BY 2, 1
infer: SELECT id, email AS x FROM customers ORDER BY x, id
infer: SELECT email AS name, id FROM customers ORDER BY name, id
infer: SELECT id FROM (SELECT id, email AS x FROM customers) s ORDER BY x, id
infer: SELECT id FROM customers ORDER BY email USING <
infer: SELECT id FROM customers c ORDER BY (c).email, id
infer: SELECT id FROM customers ORDER BY CASE WHEN email < 'm' THEN -id ELSE id END
infer: SELECT id FROM customers ORDER BY email LIMIT 1
infer: SELECT id FROM customers ORDER BY email < 'm', id * (length(email) - 21)
infer: SELECT DISTINCT ON (email) id FROM customers
infer: SELECT count(*) FROM (SELECT DISTINCT email FROM customers) s
infer: SELECT DISTINCT email FROM customers
infer: SELECT count(DISTINCT email) FROM customers
infer: SELECT count(*) FROM customers GROUP BY email
infer: SELECT count(*), email FROM customers GROUP BY 2
infer: SELECT count(*) FROM customers GROUP BY ROLLUP (email)
infer: SELECT count(*) FROM customers GROUP BY GROUPING SETS ((email), ())
infer: SELECT count(*) FROM customers GROUP BY lower(email)
infer: SELECT count(*) FROM customers HAVING min(email) < 'm'
infer: SELECT id FROM customers GROUP BY id HAVING max(salary) > 500000000
infer: SELECT count(*) FILTER (WHERE email < 'm') FROM customers
infer: SELECT array_agg(id ORDER BY email, id) FROM customers
infer: SELECT string_agg(name, ',' ORDER BY salary) FROM customers
infer: SELECT id, row_number() OVER (ORDER BY email, id) FROM customers ORDER BY id
infer: SELECT id, rank() OVER (ORDER BY email) FROM customers ORDER BY id
infer: SELECT id, count(*) OVER (PARTITION BY email) FROM customers ORDER BY id
infer: SELECT first_value(id) OVER (ORDER BY email, id) FROM customers
infer: SELECT id, count(*) OVER w FROM customers WINDOW w AS (PARTITION BY email) ORDER BY id
infer: SELECT count(*) OVER (ORDER BY salary RANGE BETWEEN 100000000 PRECEDING AND CURRENT ROW), id FROM customers ORDER BY id
infer: SELECT rank('m') WITHIN GROUP (ORDER BY email) FROM customers
infer: SELECT id FROM customers WHERE email = (SELECT max(email) FROM customers)
infer: SELECT count(*) FROM (SELECT email FROM customers UNION SELECT 'x') s
infer: SELECT count(*) FROM (SELECT email FROM customers INTERSECT SELECT email FROM customers) s
infer: SELECT count(*) FROM (SELECT email FROM customers EXCEPT ALL SELECT email FROM customers WHERE email > 'm') s
infer: SELECT count(*) FROM (SELECT email FROM customers EXCEPT SELECT 'x') s
infer: WITH RECURSIVE r (e, n) AS (SELECT email, 1 FROM customers UNION SELECT e, 1 FROM r) SELECT count(*) FROM r
infer: WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT length(email) FROM customers WHERE id = 1)) SELECT count(*) FROM r
infer: SELECT count(*) FROM customers, generate_series(1, length(email)) WHERE id = 1
infer: SELECT count(*) FROM customers, LATERAL (SELECT 1 FROM generate_series(1, 50) n WHERE n < length(email)) x
infer: SELECT count(*) FROM customers, regexp_split_to_table(email, '[b-l]')
infer: SELECT 1 FROM generate_series(1, 50) LIMIT (SELECT length(email) FROM customers WHERE id = 1)
infer: SELECT 1 FROM generate_series(1, 50) OFFSET (SELECT length(email) FROM customers WHERE id = 1)
infer: SELECT id FROM customers TABLESAMPLE system ((SELECT CASE WHEN max(email) < 'm' THEN 0 ELSE 100 END FROM customers))
infer: SELECT bool_or(email < 'm') FROM customers
infer: SELECT every(salary > 500000000) FROM customers
infer: SELECT sum((email < 'm')::int) FROM customers
infer: SELECT id, email < 'm' FROM customers ORDER BY id
infer: SELECT id, email = 'x' OR email > 'm' FROM customers ORDER BY id
infer: SELECT id, CASE WHEN email < 'm' THEN 'low' ELSE 'high' END FROM customers ORDER BY id
infer: SELECT id, CASE email > 'm' WHEN true THEN 1 END FROM customers ORDER BY id
infer: SELECT id, nullif(email < 'm', true) FROM customers ORDER BY id
infer: SELECT id, coalesce(nullif(name, CASE WHEN email < 'm' THEN name END), 'low') FROM customers ORDER BY id
infer: SELECT id, GREATEST(email, 'm') = 'm' FROM customers ORDER BY id
infer: SELECT id, length(email) FROM customers ORDER BY id
infer: SELECT id, strpos(email, '@') FROM customers ORDER BY id
infer: SELECT id, ascii(email) FROM customers ORDER BY id
infer: SELECT id, salary > 500000000 FROM customers ORDER BY id
infer: SELECT corr(salary, id) FROM customers
infer: SELECT id, profile ? 'ssn' AND profile->>'ssn' < 'm' FROM customers ORDER BY id
infer: SELECT id, jsonb_build_object(left(email, 1), 1) ? 'b' OR email < 'm' FROM customers ORDER BY id
infer: SELECT id FROM (SELECT id, left(email, 1) AS x FROM customers) s WHERE x < 'm'
infer: SELECT id FROM (SELECT id, email IS NULL OR email < 'm' AS x FROM customers) s WHERE x
infer: WITH s (i, x) AS (SELECT id, email < 'm' FROM customers) SELECT i FROM s WHERE x
infer: WITH s (i, x) AS MATERIALIZED (SELECT id, length(email) FROM customers) SELECT i FROM s WHERE x > 24
infer: SELECT id FROM customers_view WHERE mail < 'm'
infer: SELECT id FROM customers_materialized WHERE email < 'm'
infer: SELECT id FROM list_customers() WHERE email < 'm'
infer: SELECT count(*) FROM notes WHERE mail_of(1) < 'm'
infer: SELECT count(*) FROM notes WHERE id < length(mail_of(1))
infer: SELECT id FROM people WHERE email < 'm'
infer: SELECT id FROM people_eu WHERE email < 'm'
infer: SELECT id FROM contacts WHERE phone < 'm'
infer: SELECT id FROM ONLY contacts_vip WHERE phone < 'm'
infer: UPDATE customers SET credit = 1 WHERE email < 'm'
infer: UPDATE customers SET credit = CASE WHEN email < 'm' THEN 1 ELSE 2 END RETURNING credit
infer: UPDATE customers SET credit = length(email) RETURNING credit
infer: UPDATE customers SET credit = 1 WHERE salary > 500000000 RETURNING id
infer: DELETE FROM customers WHERE email < 'm'
infer: DELETE FROM notes USING customers c WHERE notes.id = c.id AND c.email < 'm'
infer: DELETE FROM notes WHERE id < (SELECT length(email) FROM customers WHERE id = 1)
infer: INSERT INTO notes SELECT 900 + id, 'x' FROM customers WHERE email < 'm'
infer: INSERT INTO notes SELECT 900 + n, 'x' FROM customers, generate_series(1, length(email)) n WHERE id = 1
infer: INSERT INTO customers (id, name, email, card_number, credit) VALUES (1, '', '', '', 0) ON CONFLICT (id) DO UPDATE SET credit = 1 WHERE customers.email < 'm'
infer: MERGE INTO notes n USING customers c ON n.id = c.id AND c.email < 'm' WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT VALUES (900 + c.id, 'x')
infer: MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED AND c.email < 'm' THEN DELETE
infer: CREATE INDEX ON customers ((1 / (length(email) - 20)))
infer: CREATE UNIQUE INDEX ON customers (email)
infer: CREATE INDEX ON customers (id) WHERE 1 / (length(email) - 20) > 0
infer: ALTER TABLE customers ADD UNIQUE (email)
infer: ALTER TABLE customers ADD CHECK (email < 'm')
infer: ALTER TABLE customers ADD CONSTRAINT x CHECK (email < 'm') NOT VALID ;; ALTER TABLE customers VALIDATE CONSTRAINT x
infer: ALTER TABLE customers ADD EXCLUDE USING btree (email WITH =)
infer: ALTER TABLE contacts_top ALTER phone TYPE varchar(13)
infer: ALTER TABLE many ALTER secret TYPE smallint USING (secret * 100)::smallint
infer: CREATE DOMAIN low AS text CHECK (VALUE < 'm') ;; SELECT count(email::low) FROM customers
infer: CREATE DOMAIN low AS text CHECK (VALUE < 'm') ;; ALTER TABLE contacts_top ALTER phone TYPE low
infer: CREATE TABLE guess (p text REFERENCES hidden.salaries) ;; INSERT INTO guess VALUES ('bbb')
infer: CREATE TABLE guess (p text REFERENCES hidden.salaries (person)) ;; INSERT INTO guess VALUES ('bbb')
infer: CREATE TABLE guess (p text) ;; ALTER TABLE guess ADD FOREIGN KEY (p) REFERENCES hidden.salaries ;; INSERT INTO guess VALUES ('bbb')
infer: CREATE POLICY p ON notes USING (id < (SELECT length(email) FROM customers WHERE customers.id = 1)) ;; SELECT length(email) FROM customers WHERE id = 1
infer: SELECT id FROM customers WHERE email = ANY (SELECT max(email) FROM customers)
infer: SELECT id FROM customers WHERE person_is_low(email)
infer: SELECT count(*) FROM customers WHERE email <# 'm'
infer: SELECT id, email <# 'm' FROM customers ORDER BY id
infer: SELECT pg_sleep(0) IS NULL, email < 'm' FROM customers
# errors that come or do not
infer: SELECT 1 / (length(email) - 20) FROM customers WHERE id = 1
infer: SELECT 1 / (CASE WHEN email < 'm' THEN 0 ELSE 1 END) FROM customers WHERE id = 1
infer: SELECT (CASE WHEN email < 'm' THEN '1' ELSE 'x' END)::int FROM customers WHERE id = 1
infer: SELECT sqrt(500000000 - salary) FROM customers WHERE id = 1
infer: SELECT (salary * 4)::int FROM customers WHERE id = 1
infer: SELECT salary::int * 4 FROM customers WHERE id = 1
infer: SELECT repeat('x', CASE WHEN email < 'm' THEN 1 ELSE 2000000000 END) FROM customers WHERE id = 1
infer: SELECT lpad('x', (salary / 100)::int * 150) FROM customers WHERE id = 1
infer: SELECT chr((salary / 500)::int) FROM customers WHERE id = 1
infer: SELECT substr(email, 1, length(email) - 30 + 8) FROM customers WHERE id = 1
infer: SELECT factorial(length(email) - 21) FROM customers WHERE id = 1
infer: SELECT make_date((salary / 100000)::int, 1, 1) FROM customers WHERE id = 1
infer: SELECT int8range(500000000, salary) FROM customers WHERE id = 1
infer: SELECT textrange('m', email) FROM customers WHERE id = 1
infer: SELECT (SELECT id FROM notes WHERE id <= length(email) - 20 ORDER BY id) FROM customers WHERE id = 1
infer: SELECT ('{' || CASE WHEN email < 'm' THEN '' ELSE '}' END)::jsonb FROM customers WHERE id = 1
infer: SELECT ('[' || left(email, 1) || ']')::jsonb, 1 / (length(email) - 20) FROM customers WHERE id = 1
infer: SELECT json_build_object(CASE WHEN email < 'm' THEN NULL ELSE 'x' END, 1) FROM customers WHERE id = 1
infer: SELECT json_object_agg(nullif(left(email, 1) < 'm', true)::text, 1) FROM customers WHERE id = 1
infer: SELECT jsonb_set('{}', CASE WHEN email < 'm' THEN ARRAY['a'] ELSE ARRAY[NULL] END, '1') FROM customers WHERE id = 1
infer: SELECT regexp_replace('x', CASE WHEN email < 'm' THEN 'x' ELSE '(' END, '') FROM customers WHERE id = 1
infer: SELECT nth_value(id, length(email) - 20) OVER () FROM customers WHERE id = 1
infer: SELECT lag(id, length(email) - 20, 7) OVER () FROM customers WHERE id = 1
infer: SELECT ntile(length(email) - 20) OVER () FROM customers WHERE id = 1
infer: SELECT get_byte(photo, 22) FROM customers WHERE id = 1
infer: SELECT encode(substring(photo FROM length(email) - 20 FOR -1 * (length(email) - 21)), 'hex') FROM customers WHERE id = 1
infer: SELECT pg_advisory_unlock(1 / (length(email) - 20)) FROM customers WHERE id = 1
infer: SELECT array_fill(1, ARRAY[22 - length(email)]) FROM customers WHERE id = 1
infer: SELECT xmlelement(name x, xmlparse(DOCUMENT CASE WHEN email < 'm' THEN '<a/>' ELSE 'x' END)) FROM customers WHERE id = 1
infer: SELECT setval('customers_seq', length(email) - 20) FROM customers WHERE id = 1

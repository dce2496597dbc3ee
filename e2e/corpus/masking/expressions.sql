# One attempt a line; ` ;; ` sets messages of one session apart. `infer:` is an attempt that shows
# nothing of a value and tells about it. `auto:` runs outside of a transaction.

# columns by other names
SELECT * FROM customers
SELECT email FROM customers
SELECT email AS name FROM customers
SELECT email, card_number, salary, profile, tags, photo, doc FROM customers
SELECT c.email FROM public.customers AS c
SELECT public.customers.email FROM public.customers
SELECT "customers"."email" FROM "public"."customers"
SELECT U&"\0065mail" FROM customers
SELECT EMAIL FROM CUSTOMERS
SELECT e FROM customers AS c (i, n, e)
SELECT c.* FROM customers c
TABLE customers
TABLE ONLY customers
SELECT x.* FROM customers * x
SELECT email FROM customers TABLESAMPLE bernoulli (100)
SELECT email FROM customers FOR UPDATE
SELECT email FROM customers LIMIT 1 OFFSET 0
SELECT email FROM customers ORDER BY id FETCH FIRST 2 ROWS WITH TIES
SELECT ALL email FROM customers WHERE true
# casts
SELECT email::text FROM customers
SELECT CAST(email AS varchar) FROM customers
SELECT email::varchar(8) FROM customers
SELECT email::char(6) FROM customers
SELECT email::name FROM customers
SELECT email::bytea FROM customers
SELECT email::bpchar FROM customers
SELECT email::"char"::text || right(email, 10) FROM customers
SELECT ('{' || email || '}')::text[] FROM customers
SELECT email::citext FROM customers
SELECT card_number::numeric FROM customers
SELECT card_number::bigint FROM customers
SELECT card_number::float8 FROM customers
SELECT salary::text FROM customers
SELECT salary::numeric FROM customers
SELECT salary::float8 FROM customers
SELECT salary::money::numeric FROM customers
SELECT salary::oid FROM customers
SELECT salary::bit(64)::bigint FROM customers
SELECT profile::text FROM customers
SELECT profile::json FROM customers
SELECT (profile->'ssn')::text FROM customers
SELECT tags::text FROM customers
SELECT tags::varchar[] FROM customers
SELECT photo::text FROM customers
SELECT doc::text FROM customers
SELECT text(email), "varchar"(email) FROM customers
SELECT int8out(salary) FROM customers
SELECT textin(textout(email)) FROM customers
SELECT textsend(email) FROM customers
SELECT array_out(tags) FROM customers
SELECT record_out(c) FROM customers c
# text
SELECT 'x' || email FROM customers
SELECT email || card_number FROM customers
SELECT concat(email) FROM customers
SELECT concat_ws('-', id, email) FROM customers
SELECT format('%s', email) FROM customers
SELECT format('%L %I', email, email) FROM customers
SELECT upper(email) FROM customers
SELECT initcap(email) FROM customers
SELECT lower(upper(email)) FROM customers
SELECT reverse(email) FROM customers
SELECT left(email, 8) FROM customers
SELECT right(card_number, 12) FROM customers
SELECT substr(card_number, 1, 12) FROM customers
SELECT substring(email FROM 2 FOR 6) FROM customers
SELECT substring(email FROM '.*@') FROM customers
SELECT substring(email SIMILAR '%#"@%#"' ESCAPE '#') FROM customers
SELECT split_part(email, '@', 1) FROM customers
SELECT overlay(email PLACING 'x' FROM 1 FOR 1) FROM customers
SELECT trim(both 'z' FROM email) FROM customers
SELECT btrim(email, 'z'), ltrim(email, 'y'), rtrim(email, 'x') FROM customers
SELECT lpad(email, 60), rpad(email, 60) FROM customers
SELECT repeat(email, 2) FROM customers
SELECT replace(email, '@', '') FROM customers
SELECT translate(email, '@', ' ') FROM customers
SELECT regexp_replace(email, '@', '.') FROM customers
SELECT regexp_matches(email, '(.*)@') FROM customers
SELECT regexp_match(email, '.*') FROM customers
SELECT regexp_split_to_array(email, '@') FROM customers
SELECT regexp_split_to_table(email, '@') FROM customers
SELECT regexp_substr(email, '[a-z]+') FROM customers
SELECT string_to_array(email, '@') FROM customers
SELECT string_to_table(email, '@') FROM customers
SELECT quote_literal(email), quote_ident(email), quote_nullable(email) FROM customers
SELECT normalize(email) FROM customers
SELECT to_ascii(email, 'LATIN1') FROM customers
SELECT unistr(email) FROM customers
SELECT parse_ident(split_part(email, '@', 1)) FROM customers
SELECT email COLLATE "C" FROM customers
# encodings
SELECT md5(email) FROM customers
SELECT md5(photo) FROM customers
SELECT encode(sha256(email::bytea), 'hex') FROM customers
SELECT encode(email::bytea, 'hex') FROM customers
SELECT encode(email::bytea, 'base64') FROM customers
SELECT encode(email::bytea, 'escape') FROM customers
SELECT encode(photo, 'base64') FROM customers
SELECT convert_to(email, 'UTF8') FROM customers
SELECT convert_from(photo, 'UTF8') FROM customers
SELECT convert(email::bytea, 'UTF8', 'LATIN1') FROM customers
SELECT decode(encode(email::bytea, 'hex'), 'hex') FROM customers
SELECT string_agg(ascii(substr(email, n, 1))::text, ',') FROM customers, generate_series(1, 16) n WHERE id = 1
SELECT array_agg(ascii(substr(email, n, 1)) ORDER BY n) FROM customers, generate_series(1, 16) n WHERE id = 1
SELECT string_agg(get_byte(photo, n)::text, ' ' ORDER BY n) FROM customers, generate_series(0, 9) n WHERE id = 1
SELECT digest(email, 'md5')::text FROM customers
SELECT encode(hmac(email, '', 'sha256'), 'hex'), email || '' FROM customers
SELECT armor(email::bytea) FROM customers
SELECT to_hex(salary), salary || '' FROM customers
SELECT to_char(salary, '999999999999') FROM customers
SELECT to_char(card_number::bigint, 'FM9999999999999999') FROM customers
SELECT chr(ascii(email)) || substr(email, 2) FROM customers
SELECT to_tsvector('simple', email) FROM customers
SELECT to_tsvector(profile) FROM customers
SELECT plainto_tsquery('simple', email) FROM customers
SELECT ts_headline(email, 'x') FROM customers
SELECT ts_debug('simple', email) FROM customers
SELECT ts_parse('default', email) FROM customers
SELECT show_trgm(email), email || '' FROM customers
SELECT strip(to_tsvector('simple', email)) FROM customers
# arithmetic
SELECT salary + 0 FROM customers
SELECT salary * 1 FROM customers
SELECT - (- salary) FROM customers
SELECT @ salary FROM customers
SELECT abs(salary), ceil(salary), round(salary, 0) FROM customers
SELECT salary / 1 FROM customers
SELECT salary % 1000000000000 FROM customers
SELECT salary & 1099511627775 FROM customers
SELECT int8larger(salary, 0) FROM customers
SELECT card_number::numeric - 0.5 FROM customers
SELECT power(salary, 1)::bigint FROM customers
SELECT div(salary, 1), mod(salary, 1000000000000) FROM customers
SELECT gcd(salary, 0) FROM customers
SELECT date '2000-01-01' + (salary / 1000)::int, salary || '' FROM customers
SELECT make_interval(secs => salary), salary || '' FROM customers
# conditionals that only pass a value on
SELECT CASE WHEN id > 0 THEN email END FROM customers
SELECT CASE id WHEN 1 THEN email ELSE name END FROM customers
SELECT coalesce(email, '') FROM customers
SELECT coalesce(NULL, email) FROM customers
SELECT nullif(email, '') FROM customers
SELECT GREATEST(email, '') FROM customers
SELECT LEAST(email, '~') FROM customers
SELECT (SELECT email FROM customers WHERE id = 1)
SELECT (SELECT c.email) FROM customers c
SELECT ARRAY(SELECT email FROM customers)
SELECT (ARRAY(SELECT email FROM customers))[1]
SELECT (VALUES (customers.email)) FROM customers
VALUES ((SELECT email FROM customers LIMIT 1))
SELECT (string_to_array(email, '@'))[1] FROM customers
SELECT (tags)[1] FROM customers
SELECT tags[1:1] FROM customers
SELECT tags[1] FROM customers

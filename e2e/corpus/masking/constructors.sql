# rows
SELECT c FROM customers c
SELECT customers FROM customers
SELECT (c).email FROM customers c
SELECT (c).* FROM customers c
SELECT ROW(email, id) FROM customers
SELECT ROW(c.*) FROM customers c
SELECT (ROW(email, id))::text FROM customers
SELECT c::text FROM customers c
SELECT (c, 1) FROM customers c
SELECT (SELECT c FROM customers c LIMIT 1)
SELECT ((SELECT c FROM customers c LIMIT 1)).email
SELECT s.x FROM (SELECT c AS x FROM customers c) s
SELECT (s.x).email FROM (SELECT c AS x FROM customers c) s
SELECT (array_agg(c))[1].email FROM customers c
SELECT row_to_json(c) FROM customers c
SELECT row_to_json(ROW(email)) FROM customers
SELECT c.row_to_json FROM customers c
SELECT c.to_jsonb FROM customers c
SELECT c.concat FROM customers c
SELECT c.quote_literal FROM customers c
# json
SELECT to_json(email) FROM customers
SELECT to_jsonb(c) FROM customers c
SELECT to_jsonb(c)::text FROM customers c
SELECT to_json(c)->>'email' FROM customers c
SELECT to_jsonb(c)->'email' FROM customers c
SELECT to_jsonb(c) #>> '{email}' FROM customers c
SELECT (to_jsonb(c))['email'] FROM customers c
SELECT to_jsonb(c) - 'id' FROM customers c
SELECT to_jsonb(c) || '{}' FROM customers c
SELECT json_agg(c) FROM customers c
SELECT jsonb_agg(email) FROM customers
SELECT json_object_agg(id, email) FROM customers
SELECT jsonb_object_agg(email, id) FROM customers
SELECT json_build_object('a', email) FROM customers
SELECT jsonb_build_object(email, 1) FROM customers
SELECT json_build_array(email, card_number) FROM customers
SELECT jsonb_build_array(VARIADIC ARRAY[email]) FROM customers
SELECT json_object(ARRAY['a', email]) FROM customers
SELECT jsonb_object(ARRAY[email], ARRAY[card_number]) FROM customers
SELECT jsonb_set('{}', '{a}', to_jsonb(email)) FROM customers
SELECT jsonb_insert('{}', '{a}', to_jsonb(email)) FROM customers
SELECT jsonb_pretty(profile) FROM customers
SELECT profile->'ssn' FROM customers
SELECT profile->>'ssn' FROM customers
SELECT profile#>'{ssn}' FROM customers
SELECT profile['ssn'] FROM customers
SELECT jsonb_path_query(profile, '$.ssn') FROM customers
SELECT jsonb_path_query_first(profile, '$.*') FROM customers
SELECT jsonb_path_query_array(profile, '$.**') FROM customers
SELECT jsonb_extract_path_text(profile, 'ssn') FROM customers
SELECT jsonb_strip_nulls(profile) FROM customers
SELECT (jsonb_each_text(profile)).value FROM customers
SELECT key, value FROM customers, jsonb_each_text(profile)
SELECT value FROM customers, jsonb_each(to_jsonb(customers))
SELECT jsonb_object_keys(jsonb_build_object(email, 1)) FROM customers
SELECT jsonb_array_elements_text(jsonb_build_array(email)) FROM customers
SELECT x.ssn FROM customers, jsonb_to_record(profile) AS x (ssn text)
SELECT x.email FROM customers c, jsonb_to_recordset(jsonb_build_array(to_jsonb(c))) AS x (email text)
SELECT (jsonb_populate_record(NULL::other.customers, to_jsonb(c))).email FROM customers c
SELECT (json_populate_record(NULL::other.customers, row_to_json(c))).email FROM customers c
SELECT json_strip_nulls(to_json(c)) FROM customers c
SELECT array_to_json(tags) FROM customers
SELECT array_to_json(array_agg(email)) FROM customers
# arrays
SELECT ARRAY[email] FROM customers
SELECT ARRAY[ARRAY[email, card_number]] FROM customers
SELECT ARRAY[email]::text FROM customers
SELECT array_agg(email) FROM customers
SELECT array_agg(tags) FROM customers WHERE id = 1
SELECT array_agg(email ORDER BY id) FROM customers
SELECT unnest(ARRAY[email]) FROM customers
SELECT unnest(tags) FROM customers
SELECT u FROM customers, unnest(tags) u
SELECT u FROM customers, unnest(ARRAY[email, card_number]) WITH ORDINALITY AS t (u, n)
SELECT array_append('{}', email) FROM customers
SELECT array_prepend(email, '{}') FROM customers
SELECT array_cat(tags, '{}') FROM customers
SELECT array_to_string(tags, ',') FROM customers
SELECT array_to_string(ARRAY[email, card_number], ',') FROM customers
SELECT array_fill(email, ARRAY[2]) FROM customers
SELECT array_replace(tags, 'x', 'y') FROM customers
SELECT array_remove(tags, 'x') FROM customers
SELECT trim_array(tags, 0) FROM customers
SELECT tags || 'x'::text FROM customers
SELECT (array_agg(email) OVER ())[1] FROM customers
# aggregates and windows
SELECT min(email) FROM customers
SELECT max(email), min(card_number) FROM customers
SELECT string_agg(email, ',') FROM customers
SELECT string_agg(photo, '') FROM customers
SELECT sum(salary) FROM customers WHERE id = 1
SELECT avg(salary) FROM customers WHERE id = 1
SELECT max(salary) FROM customers WHERE id = 1
SELECT bit_and(salary), bit_or(salary) FROM customers WHERE id = 1
SELECT mode() WITHIN GROUP (ORDER BY email) FROM customers WHERE id = 1
SELECT percentile_disc(0) WITHIN GROUP (ORDER BY email) FROM customers
SELECT percentile_cont(0) WITHIN GROUP (ORDER BY salary) FROM customers WHERE id = 1
SELECT regr_avgx(1, salary) FROM customers WHERE id = 1
SELECT first_value(email) OVER (ORDER BY id) FROM customers
SELECT last_value(email) OVER () FROM customers
SELECT nth_value(email, 1) OVER () FROM customers
SELECT lag(email, 0) OVER (ORDER BY id) FROM customers
SELECT lead(email, 0, '') OVER (ORDER BY id) FROM customers
SELECT max(email) OVER (PARTITION BY id) FROM customers
SELECT string_agg(email, ',') OVER w FROM customers WINDOW w AS (ORDER BY id)
SELECT xmlagg(xmlelement(name x, email)) FROM customers
SELECT joined(email) FROM customers
SELECT joined(DISTINCT email) FROM customers
# xml
SELECT xmlelement(name x, email) FROM customers
SELECT xmlelement(name x, xmlattributes(email AS y)) FROM customers
SELECT xmlforest(email, card_number) FROM customers
SELECT xmlconcat(xmlelement(name x, email), doc) FROM customers
SELECT xmlcomment(email) FROM customers
SELECT xmlpi(name php, email) FROM customers
SELECT xmlparse(CONTENT email) FROM customers
SELECT xmlserialize(CONTENT doc AS text) FROM customers
SELECT xmlroot(doc, VERSION '1.0') FROM customers
SELECT xpath('/s/text()', doc) FROM customers
SELECT xpath('//text()', xmlelement(name x, email)) FROM customers
SELECT t.s FROM customers, XMLTABLE('/s' PASSING doc COLUMNS s text PATH '.') t
SELECT xmltext FROM (SELECT doc::text AS xmltext FROM customers) d
# ranges, types and records
SELECT textrange(email, NULL) FROM customers
SELECT lower(textrange(email, NULL)) FROM customers
SELECT int8range(salary, NULL) FROM customers
SELECT numrange(salary, salary, '[]')::text FROM customers
SELECT int8multirange(int8range(salary, NULL)) FROM customers
SELECT range_merge(int8range(salary, NULL), int8range(salary, NULL)) FROM customers
SELECT ROW(email, 1)::pair FROM customers
SELECT (ROW(email, 1)::pair).a FROM customers
SELECT hstore('a', email) FROM customers
SELECT hstore(c) FROM customers c
SELECT hstore(c) -> 'email' FROM customers c
SELECT (each(hstore(c))).value FROM customers c
SELECT avals(hstore(c)) FROM customers c
SELECT hstore_to_json(hstore(c)) FROM customers c
SELECT point(salary, 0), salary || '' FROM customers
SELECT email::text::citext || '' FROM customers
SELECT pg_typeof(email)::text || email FROM customers

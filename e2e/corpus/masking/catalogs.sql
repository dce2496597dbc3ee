# What the server has gathered of values, and keeps of other sessions.
SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'
SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'customers'
SELECT histogram_bounds, most_common_vals FROM pg_stats WHERE tablename = 'customers' AND attname = 'email'
SELECT array_to_string(coalesce(histogram_bounds::text, most_common_vals::text)::text[], ',') FROM pg_catalog.pg_stats WHERE tablename = 'customers' AND attname = 'email'
SELECT s FROM pg_stats s WHERE tablename = 'customers'
SELECT to_jsonb(s) FROM pg_stats s WHERE tablename = 'customers'
SELECT * FROM pg_stats
SELECT most_common_elems FROM pg_stats WHERE tablename = 'customers' AND attname = 'tags'
SELECT stavalues1 FROM pg_statistic WHERE starelid = 'customers'::regclass
SELECT concat(stavalues1, stavalues2, stavalues3) FROM pg_statistic WHERE starelid = 'customers'::regclass
SELECT s::text FROM pg_statistic s WHERE starelid = 'public.customers'::regclass
TABLE pg_statistic
SELECT stxdmcv::text, (pg_mcv_list_items(stxdmcv)).* FROM pg_statistic_ext_data
SELECT m.* FROM pg_statistic_ext_data, pg_mcv_list_items(stxdmcv) m
SELECT most_common_vals FROM pg_stats_ext
SELECT * FROM pg_stats_ext_exprs
SELECT unnest(coalesce(histogram_bounds::text, most_common_vals::text)::text[]) FROM pg_stats WHERE tablename = 'customers' AND attname = 'email'
SELECT x FROM pg_stats, unnest(most_common_vals::text::text[]) x WHERE tablename = 'customers'
COPY pg_statistic TO STDOUT
CREATE TABLE stolen AS SELECT coalesce(histogram_bounds::text, most_common_vals::text) AS h FROM pg_stats WHERE tablename = 'customers' AND attname = 'email' ;; TABLE stolen
CREATE STATISTICS st ON name, email FROM customers ;; ANALYZE customers ;; SELECT most_common_vals FROM pg_stats_ext WHERE statistics_name = 'st'
CREATE STATISTICS st ON (lower(email)) FROM customers ;; ANALYZE customers ;; SELECT histogram_bounds, most_common_vals FROM pg_stats_ext_exprs WHERE statistics_name = 'st'
CREATE STATISTICS st (mcv) ON name, tags FROM customers ;; ANALYZE customers ;; SELECT m FROM pg_statistic_ext_data d, pg_mcv_list_items(d.stxdmcv) m
CREATE INDEX ix ON customers ((lower(email))) ;; ANALYZE customers ;; SELECT histogram_bounds, most_common_vals FROM pg_stats WHERE tablename = 'ix'
SELECT get_raw_page('customers', 0)
SELECT encode(get_raw_page('customers', 0), 'escape')
SELECT t_data FROM heap_page_items(get_raw_page('customers', 0))
SELECT tuple_data_split('customers'::regclass, t_data, t_infomask, t_infomask2, t_bits) FROM heap_page_items(get_raw_page('customers', 0))
SELECT query_to_xml('SELECT email FROM customers', true, true, '')
SELECT table_to_xml('customers', true, true, '')
SELECT schema_to_xml('public', true, true, '')
SELECT query_to_xml_and_xmlschema('TABLE customers', true, true, '')
SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', email) FROM customers')
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, to_tsquery(''simple'', split_part(email, ''@'', 1)) FROM customers')
SELECT * FROM crosstab('SELECT id, 1, email FROM customers ORDER BY 1') AS (a int, b text)
SELECT * FROM crosstab('SELECT id::text, name, email FROM customers') AS (row_name text, x text)
SELECT * FROM connectby('customers', 'email', 'name', 'Ada', 0) AS (a text, b text, c int), customers
SELECT * FROM dblink('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' user=postgres port=' || current_setting('port') || ' dbname=' || current_database(), 'SELECT email FROM customers') AS t (e text)
SELECT x.email FROM pg_catalog.pg_class c JOIN public.customers x ON true WHERE c.relname = 'pg_class'
SELECT c.relname || x.email FROM pg_class c, customers x WHERE c.relname = 'customers'
SELECT (SELECT email FROM public.customers WHERE id = 1) FROM information_schema.tables LIMIT 1
SELECT relname, pg_relation_size(oid), (SELECT email FROM customers LIMIT 1) FROM pg_class WHERE relname = 'customers'
SELECT pg_get_viewdef('customers_view') || (SELECT email FROM customers LIMIT 1)
SELECT query FROM pg_stat_activity, customers WHERE pid = pg_backend_pid() UNION ALL SELECT email FROM customers

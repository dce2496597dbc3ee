-- The world of the statements in ordinary/: the seed, and what a shop's application adds to it.
CREATE TABLE accounts (
  id serial PRIMARY KEY, login text UNIQUE NOT NULL, email text NOT NULL, phone text,
  is_active boolean NOT NULL DEFAULT true, score numeric(8, 2), profile jsonb NOT NULL DEFAULT '{}',
  roles text[] NOT NULL DEFAULT '{}', created_at timestamp NOT NULL DEFAULT '2026-01-01',
  updated_at timestamptz, version int NOT NULL DEFAULT 0
);
INSERT INTO accounts (login, email, phone, score, profile, roles, created_at, updated_at)
  SELECT 'user' || n, 'user' || n || '@mail.example', CASE WHEN n % 3 > 0 THEN '+49 30 ' || n END, n * 1.25,
    jsonb_build_object('city', (ARRAY['Bonn', 'Oslo', 'Rome'])[1 + n % 3], 'age', 20 + n, 'tags', jsonb_build_array('a', n)),
    CASE WHEN n % 2 = 0 THEN ARRAY['admin', 'staff'] ELSE ARRAY['staff'] END,
    timestamp '2026-01-01' + n * interval '1 day', timestamptz '2026-02-01 00:00Z' + n * interval '1 hour'
  FROM generate_series(1, 30) n;
CREATE TYPE status AS ENUM ('new', 'paid', 'sent');
CREATE TABLE categories (id serial PRIMARY KEY, parent_id int REFERENCES categories, name varchar(80) NOT NULL);
INSERT INTO categories (parent_id, name) VALUES (NULL, 'All'), (1, 'Books'), (1, 'Music'), (2, 'Poems'), (4, 'Haiku');
CREATE TABLE products (
  id bigserial PRIMARY KEY, category_id int REFERENCES categories ON DELETE SET NULL, sku char(8) UNIQUE,
  title text NOT NULL, price numeric(10, 2) NOT NULL CHECK (price >= 0), stock int NOT NULL DEFAULT 0,
  attributes jsonb, search tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED
);
INSERT INTO products (category_id, sku, title, price, stock, attributes)
  SELECT 2 + n % 4, 'SKU-' || lpad(n::text, 4, '0'), 'Product number ' || n, n * 2.5, n % 7,
    jsonb_build_object('color', (ARRAY['red', 'green'])[1 + n % 2], 'size', n % 5) FROM generate_series(1, 40) n;
CREATE TABLE purchases (
  id uuid PRIMARY KEY, account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE, state status NOT NULL DEFAULT 'new',
  placed date NOT NULL, total numeric(12, 2) NOT NULL DEFAULT 0, note text
);
INSERT INTO purchases SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 1 + n % 30,
    (enum_range(NULL::status))[1 + n % 3], date '2026-01-01' + n, n * 3, 'n' || n FROM generate_series(1, 60) n;
CREATE TABLE lines (
  purchase_id uuid REFERENCES purchases ON DELETE CASCADE, product_id bigint REFERENCES products, quantity int NOT NULL,
  price numeric(10, 2) NOT NULL, PRIMARY KEY (purchase_id, product_id)
);
INSERT INTO lines SELECT p.id, 1 + (row_number() OVER (ORDER BY p.id)) % 40, 2, 9.99 FROM purchases p;
CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY, queue text NOT NULL, args jsonb NOT NULL DEFAULT '[]',
  run_at timestamp NOT NULL DEFAULT '2026-01-01', attempts smallint NOT NULL DEFAULT 0, locked_by text);
INSERT INTO jobs (queue) SELECT 'q' || n % 2 FROM generate_series(1, 10) n;
CREATE TABLE measures (at timestamp NOT NULL, device int NOT NULL, value double precision) PARTITION BY RANGE (at);
CREATE TABLE measures_january PARTITION OF measures FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE measures_february PARTITION OF measures FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO measures SELECT timestamp '2026-01-01' + n * interval '6 hours', n % 3, n / 2.0 FROM generate_series(1, 200) n;
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, expire_date timestamptz NOT NULL);
CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
INSERT INTO schema_migrations VALUES ('20260101000000');
CREATE VIEW paid_purchases AS SELECT p.id, p.total, a.login FROM purchases p JOIN accounts a ON a.id = p.account_id WHERE p.state = 'paid';
CREATE VIEW sales AS SELECT category_id, count(*) AS products, sum(price * stock) AS value FROM products GROUP BY category_id;
CREATE VIEW cheap_products AS SELECT id, title, price FROM products WHERE price < 50;
CREATE MATERIALIZED VIEW daily AS SELECT placed, count(*) AS n, sum(total) AS total FROM purchases GROUP BY placed;
CREATE INDEX ON purchases (account_id);
CREATE INDEX ON products USING gin (search);
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
ANALYZE;

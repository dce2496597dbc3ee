-- What every test's database holds. The raw values that no agent may see are those of
-- `RAW` in server.rs.
CREATE TABLE customers (
  id int PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL,
  card_number text NOT NULL,
  credit int NOT NULL
);
INSERT INTO customers VALUES
  (1, 'Ada',   'ada.lovelace@raw-mail.example',   '4242424242424242', 100),
  (2, 'Grace', 'grace.hopper@raw-mail.example',   '5555555555554444', 200),
  (3, 'Alan',  'alan.turing@raw-mail.example',    '4000056655665556', 300);

CREATE TABLE orders (
  id int PRIMARY KEY,
  customer_id int NOT NULL REFERENCES customers,
  item text NOT NULL,
  total numeric(10, 2) NOT NULL
);
INSERT INTO orders
  SELECT n, 1 + n % 3, 'item ' || n, n * 1.5 FROM generate_series(1, 100) AS n;

CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL);
INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 20) AS n;

CREATE SCHEMA reporting;
CREATE TABLE reporting.totals (day date PRIMARY KEY, amount numeric NOT NULL);
INSERT INTO reporting.totals VALUES ('2026-01-01', 10), ('2026-01-02', 20);

CREATE SCHEMA hidden;
CREATE TABLE hidden.salaries (person text PRIMARY KEY, amount int NOT NULL);
INSERT INTO hidden.salaries VALUES ('Ada', 1);

GRANT USAGE, CREATE ON SCHEMA public, reporting, hidden TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, reporting, hidden TO PUBLIC;

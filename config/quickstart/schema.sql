-- Sample data for the quick start. Run once, as a superuser, in an empty database `orders`.
-- No person, address or card in here is real; the card numbers are the payment networks' test numbers.

CREATE TABLE public.customers (
    id          integer PRIMARY KEY,
    name        text NOT NULL,
    email       text NOT NULL UNIQUE,
    card_number text NOT NULL,
    city        text NOT NULL
);

CREATE TABLE public.orders (
    id          integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES public.customers,
    item        text NOT NULL,
    total       numeric(10, 2) NOT NULL,
    created_at  timestamptz NOT NULL
);

CREATE SCHEMA reporting;

CREATE TABLE reporting.daily_totals (
    day    date PRIMARY KEY,
    orders integer NOT NULL,
    total  numeric(12, 2) NOT NULL
);

INSERT INTO public.customers (id, name, email, card_number, city) VALUES
    (1, 'Ada Moreau',    'ada.moreau@example.com',    '4111111111111111', 'Lyon'),
    (2, 'Bram de Wit',   'bram.dewit@example.com',    '5555555555554444', 'Utrecht'),
    (3, 'Chidi Okafor',  'chidi.okafor@example.com',  '378282246310005',  'Lagos'),
    (4, 'Dalia Haddad',  'dalia.haddad@example.com',  '6011111111111117', 'Amman'),
    (5, 'Emi Tanaka',    'emi.tanaka@example.com',    '3530111333300000', 'Osaka');

INSERT INTO public.orders (id, customer_id, item, total, created_at) VALUES
    (1001, 1, 'Espresso machine',  489.00, '2025-03-03 09:12:00+00'),
    (1002, 2, 'Bicycle lamp',       34.90, '2025-03-03 11:40:00+00'),
    (1003, 3, 'Noise meter',       129.50, '2025-03-04 08:05:00+00'),
    (1004, 1, 'Coffee grinder',    179.00, '2025-03-04 15:27:00+00'),
    (1005, 4, 'Desk chair',        320.00, '2025-03-05 10:00:00+00'),
    (1006, 5, 'Desk chair',        320.00, '2025-03-05 10:00:30+00'),
    (1007, 5, 'Desk chair (test)',   0.00, '2025-03-05 10:01:00+00');

INSERT INTO reporting.daily_totals (day, orders, total)
SELECT (created_at AT TIME ZONE 'UTC')::date, count(*), sum(total)
FROM public.orders
GROUP BY 1;

-- The role behind secret.yaml. The policy narrows what an agent may do; these grants are the wall
-- behind it, so they are no wider than the policy's rules.
CREATE ROLE orders_agent LOGIN PASSWORD 'quickstart-only';
GRANT USAGE ON SCHEMA public, reporting TO orders_agent;
GRANT SELECT ON public.customers, reporting.daily_totals TO orders_agent;
GRANT SELECT, UPDATE, DELETE ON public.orders TO orders_agent;

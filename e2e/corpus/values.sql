-- The values of one world. The texts in braces are made anew for each run.
UPDATE customers SET email = '{email}', card_number = '{card}', salary = {salary},
  profile = jsonb_build_object('ssn', '{ssn}', 'city', 'Paris', 'n', '[1, 2]'::jsonb),
  tags = ARRAY['{tag}', 'x'], photo = '{photo}'::bytea, doc = '<s>{doc}</s>' WHERE id = 1;
UPDATE customers SET email = '{email2}', card_number = '{card2}', salary = {salary2},
  profile = '{"ssn": "{ssn}", "city": "Oslo"}', tags = ARRAY['{tag}'], photo = '{photo}'::bytea,
  doc = '<s>{doc}</s>' WHERE id = 2;
UPDATE customers SET email = '{email3}', card_number = '{card3}', salary = {salary3},
  profile = '{"ssn": "{ssn}"}', tags = ARRAY['{tag}', 'y'], photo = '{photo}'::bytea,
  doc = '<s>{doc}</s>' WHERE id = 3;
INSERT INTO moved VALUES (1, '{phone}');
INSERT INTO people_new VALUES ('{email}', 'zz');
INSERT INTO pins VALUES (1, '{pin}');
INSERT INTO people (id, email, region) VALUES (1, '{email}', 'eu'), (2, '{email}', 'eu'), (3, '{email}', 'us');
INSERT INTO contacts_vip VALUES (1, '{phone}', 'x');
INSERT INTO contacts VALUES (2, '{phone}', 'y');
INSERT INTO hidden.salaries VALUES ('{person}', 1);
INSERT INTO many SELECT n, CASE WHEN '{email}' < 'm' THEN n % 7 ELSE n END FROM generate_series(1, 1000) n;
REFRESH MATERIALIZED VIEW customers_materialized;

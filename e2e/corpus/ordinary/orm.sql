# As object mappers write it. `masked:` reads masked columns: it passes, and shows the mask.
# `refused:` is refused where columns are masked, as policy says.

# Django
SELECT "products"."id", "products"."title", "products"."price" FROM "products" WHERE "products"."id" = 1 LIMIT 21
SELECT "products"."id", "products"."title" FROM "products" ORDER BY "products"."title" ASC LIMIT 10 OFFSET 5
SELECT COUNT(*) AS "__count" FROM "products"
SELECT (1) AS "a" FROM "products" WHERE "products"."sku" = 'SKU-0001' LIMIT 1
SELECT "products"."category_id", COUNT("products"."id") AS "n" FROM "products" GROUP BY "products"."category_id" ORDER BY "n" DESC, "products"."category_id"
SELECT AVG("products"."price") AS "price__avg", MAX("products"."price") AS "price__max" FROM "products"
SELECT "purchases"."id", "purchases"."total" FROM "purchases" WHERE ("purchases"."placed" BETWEEN '2026-01-05'::date AND '2026-01-20'::date AND NOT ("purchases"."state" = 'new'))
SELECT "products"."title" FROM "products" WHERE UPPER("products"."title"::text) LIKE UPPER('%number 1%') ORDER BY 1
SELECT DISTINCT "purchases"."account_id" FROM "purchases" INNER JOIN "lines" ON ("purchases"."id" = "lines"."purchase_id") WHERE "lines"."quantity" >= 2 ORDER BY 1
INSERT INTO "notes" ("id", "body") VALUES (801, 'from django') RETURNING "notes"."id"
INSERT INTO "django_session" ("session_key", "session_data", "expire_date") VALUES ('k', 'd', '2026-03-01T00:00:00+00:00'::timestamptz)
UPDATE "django_session" SET "session_data" = 'e', "expire_date" = '2026-03-01T00:00:00+00:00'::timestamptz WHERE "django_session"."session_key" = 'k'
DELETE FROM "django_session" WHERE "django_session"."expire_date" < '2026-01-01'::timestamptz
DELETE FROM "lines" WHERE "lines"."purchase_id" IN ('00000000-0000-0000-0000-000000000001'::uuid)
UPDATE "products" SET "stock" = ("products"."stock" - 1) WHERE ("products"."id" = 3 AND "products"."stock" >= 1)
UPDATE "products" SET "price" = CASE WHEN ("products"."id" = 1) THEN 5 WHEN ("products"."id" = 2) THEN 6 ELSE NULL END WHERE "products"."id" IN (1, 2)
SELECT "products"."id" FROM "products" WHERE "products"."id" IN (1, 2, 3) FOR UPDATE
SELECT "products"."id" FROM "products" WHERE EXISTS(SELECT 1 AS "a" FROM "lines" U0 WHERE U0."product_id" = ("products"."id") LIMIT 1) ORDER BY "products"."id"
SELECT DATE_TRUNC('month', "purchases"."placed") AS "month", SUM("purchases"."total") FROM "purchases" GROUP BY 1 ORDER BY 1
SELECT "measures"."device", STDDEV_POP("measures"."value") FROM "measures" GROUP BY "measures"."device" ORDER BY 1
SELECT ("products"."attributes" -> 'color') AS "c" FROM "products" WHERE ("products"."attributes" ->> 'color') = '"red"' OR "products"."id" = 1
SELECT EXTRACT('year' FROM "purchases"."placed") AS "y" FROM "purchases" GROUP BY 1
masked: SELECT "accounts"."id", "accounts"."login", "accounts"."email" FROM "accounts" WHERE "accounts"."id" = 1 LIMIT 21
masked: SELECT "accounts"."id", "accounts"."email" FROM "accounts" WHERE "accounts"."email" = 'user3@mail.example' LIMIT 21
masked: SELECT (1) AS "a" FROM "accounts" WHERE "accounts"."email" = 'user3@mail.example' LIMIT 1
refused: SELECT "accounts"."id" FROM "accounts" WHERE UPPER("accounts"."email"::text) = UPPER('user3@mail.example')
refused: SELECT "accounts"."id" FROM "accounts" ORDER BY "accounts"."email" ASC
masked: SELECT "purchases"."id", "accounts"."id", "accounts"."email" FROM "purchases" INNER JOIN "accounts" ON ("purchases"."account_id" = "accounts"."id") ORDER BY "purchases"."placed" DESC LIMIT 5
INSERT INTO "accounts" ("login", "email", "phone", "is_active", "profile", "roles") VALUES ('new', 'new@mail.example', NULL, true, '{}', '{}') RETURNING "accounts"."id"
UPDATE "accounts" SET "email" = 'changed@mail.example' WHERE "accounts"."id" = 1
UPDATE "accounts" SET "is_active" = false WHERE "accounts"."id" IN (1, 2)
DELETE FROM "accounts" WHERE "accounts"."id" IN (29)

# ActiveRecord
SELECT "products".* FROM "products" WHERE "products"."id" = 1 LIMIT 1
SELECT 1 AS one FROM "products" WHERE "products"."sku" = 'SKU-0002' LIMIT 1
SELECT COUNT(*) FROM "products" WHERE "products"."category_id" = 2
SELECT "products".* FROM "products" ORDER BY "products"."id" ASC LIMIT 1000
SELECT "products"."id" FROM "products" WHERE "products"."id" > 10 ORDER BY "products"."id" ASC LIMIT 5
SELECT DISTINCT "categories".* FROM "categories" INNER JOIN "products" ON "products"."category_id" = "categories"."id" ORDER BY "categories"."id"
SELECT "products".* FROM "products" WHERE ("products"."price" >= 10 AND "products"."price" <= 20) ORDER BY "products"."price" DESC, "products"."id"
SELECT "products".* FROM "products" WHERE "products"."category_id" IS NULL
SELECT "products".* FROM "products" WHERE 1=0
SELECT SUM("lines"."price" * quantity) FROM "lines"
SELECT "products"."category_id" AS "products_category_id", COUNT(*) AS "count_all" FROM "products" GROUP BY "products"."category_id" ORDER BY 1
INSERT INTO "products" ("title", "price", "sku") VALUES ('Rails', 1.0, 'SKU-RAIL') RETURNING "id"
INSERT INTO "schema_migrations" (version) VALUES ('20260202000000') RETURNING "version"
INSERT INTO "products" ("sku","title","price") VALUES ('SKU-0001', 'up', 2), ('SKU-NEW1', 'in', 3) ON CONFLICT ("sku") DO UPDATE SET "title"=excluded."title","price"=excluded."price" RETURNING "id"
UPDATE "products" SET "title" = 'x', "stock" = COALESCE("stock", 0) + 1 WHERE "products"."id" = 2
UPDATE "accounts" SET "version" = COALESCE("version", 0) + 1, "login" = 'opt' WHERE "accounts"."id" = 4 AND "accounts"."version" = 0
DELETE FROM "products" WHERE "products"."id" = 40
SELECT "schema_migrations"."version" FROM "schema_migrations" ORDER BY "schema_migrations"."version" ASC
SELECT pg_advisory_unlock_all()
masked: SELECT "accounts".* FROM "accounts" WHERE "accounts"."id" = 3 LIMIT 1
masked: SELECT "accounts".* FROM "accounts" WHERE "accounts"."email" IN ('user1@mail.example', 'user2@mail.example')
masked: SELECT "accounts"."id" AS t0_r0, "accounts"."email" AS t0_r1, "purchases"."id" AS t1_r0 FROM "accounts" LEFT OUTER JOIN "purchases" ON "purchases"."account_id" = "accounts"."id" WHERE "accounts"."id" = 5 ORDER BY 3
refused: SELECT 1 AS one FROM "accounts" WHERE LOWER("accounts"."email") = LOWER('x') LIMIT 1
masked: SELECT "accounts"."email" FROM "accounts" WHERE "accounts"."phone" IS NOT NULL ORDER BY "accounts"."id"
INSERT INTO "accounts" ("login", "email", "created_at", "updated_at") VALUES ('ar', 'ar@mail.example', '2026-02-02 00:00:00', '2026-02-02 00:00:00') RETURNING "id"
UPDATE "accounts" SET "email" = 'ar2@mail.example', "updated_at" = '2026-02-03 00:00:00' WHERE "accounts"."id" = 7

# SQLAlchemy
SELECT products.id, products.category_id, products.sku, products.title, products.price FROM products WHERE products.id = 1
SELECT anon_1.id AS anon_1_id, categories_1.id AS categories_1_id FROM (SELECT products.id AS id, products.category_id AS category_id FROM products LIMIT 5) AS anon_1 LEFT OUTER JOIN categories AS categories_1 ON categories_1.id = anon_1.category_id ORDER BY 1
SELECT count(*) AS count_1 FROM (SELECT products.id AS products_id FROM products WHERE products.stock > 2) AS anon_1
SELECT EXISTS (SELECT 1 FROM products WHERE products.id = 1) AS anon_1
SELECT products.id, row_number() OVER (PARTITION BY products.category_id ORDER BY products.price DESC, products.id) AS rn FROM products ORDER BY products.id
SELECT coalesce(sum(lines.quantity), 0) AS s FROM lines JOIN purchases ON purchases.id = lines.purchase_id WHERE purchases.state = 'paid'
SELECT CAST(products.price AS VARCHAR) AS p FROM products WHERE products.title ILIKE 'product%1' ORDER BY products.id
SELECT products.attributes ->> 'color' AS anon_1 FROM products WHERE (products.attributes -> 'size') = '1'::JSONB
SELECT array_agg(products.id ORDER BY products.id) AS a FROM products GROUP BY products.category_id ORDER BY products.category_id
WITH RECURSIVE tree(id, depth) AS (SELECT categories.id AS id, 0 AS depth FROM categories WHERE categories.parent_id IS NULL UNION ALL SELECT categories.id AS id, tree.depth + 1 AS anon_1 FROM categories JOIN tree ON categories.parent_id = tree.id) SELECT tree.id, tree.depth FROM tree ORDER BY 1
INSERT INTO products (title, price) VALUES ('a', 1), ('b', 2) RETURNING products.id
UPDATE products SET stock=(products.stock + 5) WHERE products.category_id IN (SELECT categories.id FROM categories WHERE categories.name = 'Books')
DELETE FROM lines USING purchases WHERE lines.purchase_id = purchases.id AND purchases.state = 'new'
SELECT products.id FROM products WHERE products.id IN (1, 2, 3) ORDER BY products.id FOR UPDATE SKIP LOCKED
SELECT pg_catalog.version()
select current_schema()
show standard_conforming_strings
masked: SELECT accounts.id, accounts.login, accounts.email, accounts.phone FROM accounts WHERE accounts.login = 'user3'
masked: SELECT accounts_1.email FROM accounts AS accounts_1 JOIN purchases ON accounts_1.id = purchases.account_id WHERE purchases.total > 150 ORDER BY purchases.total
INSERT INTO accounts (login, email) VALUES ('sa', 'sa@mail.example') ON CONFLICT (login) DO UPDATE SET email = excluded.email RETURNING accounts.id

# Hibernate, JPA
select p1_0.id,p1_0.price,p1_0.title from products p1_0 where p1_0.id=1
select p1_0.id,p1_0.title from products p1_0 order by p1_0.id offset 10 rows fetch first 5 rows only
select c1_0.id,p1_0.category_id,p1_0.id,p1_0.title from categories c1_0 left join products p1_0 on c1_0.id=p1_0.category_id where c1_0.id=2 order by p1_0.id
select count(p1_0.id) from products p1_0 where p1_0.title like '%1%' escape ''
select nextval('products_id_seq')
select p1_0.id from purchases p1_0 where p1_0.id='00000000-0000-0000-0000-000000000003' for no key update
update products set price=3,stock=4,title='hib' where id=5
delete from products where id=39
insert into products (category_id,price,title,id) values (2,4.5,'hib',9001)
select distinct p1_0.account_id from purchases p1_0 join lines l1_0 on p1_0.id=l1_0.purchase_id where l1_0.quantity>1 order by 1
masked: select a1_0.id,a1_0.email,a1_0.login from accounts a1_0 where a1_0.email='user9@mail.example'
masked: select a1_0.id,a1_0.created_at,a1_0.email,a1_0.phone from accounts a1_0 where a1_0.id in (1,2,3) order by a1_0.id
update accounts set email='h@mail.example',login='h',version=1 where id=6 and version=0
refused: select a1_0.id from accounts a1_0 where a1_0.email like 'user1%'

# Prisma, TypeORM, Sequelize, Knex, Ecto, GORM, Entity Framework
SELECT "public"."products"."id", "public"."products"."title" FROM "public"."products" WHERE ("public"."products"."id" = 1 AND 1=1) LIMIT 1 OFFSET 0
SELECT COUNT(*) FROM (SELECT "public"."products"."id" FROM "public"."products" WHERE 1=1 OFFSET 0) AS "sub"
INSERT INTO "public"."products" ("title","price") VALUES ('prisma',1) RETURNING "public"."products"."id"
UPDATE "public"."products" SET "stock" = 9 WHERE ("public"."products"."id" IN (1) AND 1=1)
DELETE FROM "public"."lines" WHERE ("public"."lines"."product_id" IN (3) AND 1=1)
SELECT "t0"."id", coalesce("t1"."data", '[]') AS "lines" FROM "public"."purchases" AS "t0" LEFT JOIN LATERAL (SELECT json_agg(json_build_object('q', "l"."quantity")) AS "data" FROM "public"."lines" AS "l" WHERE "l"."purchase_id" = "t0"."id") AS "t1" ON true ORDER BY "t0"."id" LIMIT 3
SELECT "Product"."id" AS "Product_id", "Product"."title" AS "Product_title" FROM "products" "Product" WHERE (("Product"."id" = 1)) LIMIT 1
SELECT DISTINCT "distinctAlias"."Product_id" AS "ids_Product_id" FROM (SELECT "Product"."id" AS "Product_id" FROM "products" "Product" LEFT JOIN "lines" "l" ON "l"."product_id" = "Product"."id") "distinctAlias" ORDER BY "Product_id" ASC LIMIT 10
SELECT "id", "title", "price" FROM "products" AS "Product" WHERE "Product"."stock" > 3 AND ("Product"."title" ILIKE '%1%' OR "Product"."price" < 10) ORDER BY "Product"."id" LIMIT 10
SELECT count("Product"."id") AS "count" FROM "products" AS "Product" LEFT OUTER JOIN "categories" AS "c" ON "Product"."category_id" = "c"."id"
select * from "products" where "id" in (1, 2) and "price" between 1 and 100 order by "id" desc
select count(*) from "products" where not "stock" = 0
select "category_id", max("price") from "products" group by "category_id" having count(*) > 5 order by 1
insert into "jobs" ("queue", "args") values ('mail', '{"to": 1}') returning *
SELECT p0."id", p0."title" FROM "products" AS p0 WHERE (p0."id" = ANY('{1,2,3}')) ORDER BY p0."id"
SELECT s0."id" FROM (SELECT sp0."id" AS "id" FROM "products" AS sp0 LIMIT 3) AS s0 ORDER BY 1
SELECT * FROM "products" WHERE "products"."id" = 1 ORDER BY "products"."id" LIMIT 1
INSERT INTO "products" ("title","price") VALUES ('gorm',1.5) ON CONFLICT DO NOTHING RETURNING "id"
SELECT p."id", p."title", (SELECT count(*)::int FROM lines AS l WHERE p."id" = l.product_id) AS "Count" FROM products AS p ORDER BY p."id" LIMIT 4
SELECT t.id FROM (SELECT p.id, ROW_NUMBER() OVER(PARTITION BY p.category_id ORDER BY p.id) AS row FROM products AS p) AS t WHERE t.row <= 1 ORDER BY 1
masked: SELECT "public"."accounts"."id", "public"."accounts"."email" FROM "public"."accounts" WHERE ("public"."accounts"."email" = 'user2@mail.example' AND 1=1) LIMIT 1 OFFSET 0
masked: SELECT "id", "email", "phone", "profile" FROM "accounts" AS "Account" WHERE "Account"."id" = 3
masked: SELECT "User"."id" AS "User_id", "User"."email" AS "User_email" FROM "accounts" "User" WHERE (("User"."email" = 'user3@mail.example')) LIMIT 1
masked: select * from "accounts" where "email" = 'user4@mail.example' limit 1
masked: SELECT a0."id", a0."email" FROM "accounts" AS a0 WHERE (a0."email" = ANY('{user1@mail.example,user2@mail.example}')) ORDER BY a0."id"
masked: SELECT coalesce(json_agg(t), '[]') FROM (SELECT id, email FROM accounts WHERE id < 3 ORDER BY id) t
INSERT INTO "public"."accounts" ("login","email","phone") VALUES ('p','p@mail.example','1') RETURNING "public"."accounts"."id"
SAVEPOINT s1 ;; INSERT INTO notes VALUES (810, 'x') ;; RELEASE SAVEPOINT s1 ;; SELECT body FROM notes WHERE id = 810
SAVEPOINT s1 ;; INSERT INTO notes VALUES (1, 'x') ;; ROLLBACK TO SAVEPOINT s1 ;; SELECT count(*) FROM notes
PREPARE a AS SELECT id, title FROM products WHERE id = $1 ;; EXECUTE a (1) ;; EXECUTE a (2) ;; DEALLOCATE a
DECLARE "c_1" NO SCROLL CURSOR FOR SELECT id FROM products ORDER BY id ;; FETCH FORWARD 5 FROM "c_1" ;; FETCH FORWARD 5 FROM "c_1" ;; CLOSE "c_1"
DECLARE c SCROLL CURSOR FOR SELECT id, title FROM products ORDER BY id ;; FETCH LAST FROM c ;; MOVE FIRST IN c ;; FETCH NEXT FROM c
SET LOCAL statement_timeout = '5s' ;; SELECT count(*) FROM products
SET LOCAL lock_timeout TO 1000 ;; SELECT id FROM products WHERE id = 1 FOR UPDATE NOWAIT
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ ;; SELECT count(*) FROM products
SELECT set_config('TimeZone', 'Europe/Berlin', true) ;; SELECT updated_at FROM accounts WHERE id = 1
SET LOCAL TIME ZONE 'UTC' ;; SET LOCAL DateStyle = 'ISO, DMY' ;; SELECT placed FROM purchases ORDER BY placed LIMIT 1
auto: BEGIN ;; INSERT INTO notes VALUES (1, 'x') ;; SELECT 1 ;; ROLLBACK
auto: BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE ;; SELECT count(*) FROM products ;; COMMIT
auto: START TRANSACTION READ ONLY ;; INSERT INTO notes VALUES (811, 'x') ;; ROLLBACK
auto: ROLLBACK

"""SQLAlchemy over psycopg 3 and psycopg2: reflection, the ORM, its pool and its errors."""

import sys

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

DRIVERS = ("psycopg", "psycopg2")


def engine(driver, **settings):
    # libpq reads the rest from the environment.
    return sa.create_engine(f"postgresql+{driver}://", **settings)


class Base(orm.DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelves"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    label: orm.Mapped[str]
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="shelf", order_by="Book.id", passive_deletes=True)


class Book(Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    shelf_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("shelves.id"))
    title: orm.Mapped[str]
    price: orm.Mapped[object] = orm.mapped_column(sa.Numeric(8, 2))
    mood: orm.Mapped[str] = orm.mapped_column(postgresql.ENUM("sad", "ok", "happy", name="mood", create_type=False), server_default="ok")
    tags: orm.Mapped[list[str]] = orm.mapped_column(postgresql.ARRAY(sa.Text), server_default="{}")
    upper_title: orm.Mapped[str] = orm.mapped_column(sa.Computed("upper(title)"))
    shelf: orm.Mapped[Shelf] = orm.relationship(back_populates="books")


class Note(Base):
    __tablename__ = "notes"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    body: orm.Mapped[str]


def reflection(e):
    look = sa.inspect(e)
    print("schemas", look.get_schema_names(), look.default_schema_name, e.dialect.server_version_info)
    print("tables", look.get_table_names(), look.get_view_names(), look.get_sequence_names(), look.get_materialized_view_names())
    print("enums", look.get_enums(), look.get_domains())
    for name in look.get_table_names():
        for column in look.get_columns(name):
            print("columns", name, {k: str(v) for k, v in column.items()})
        print(look.get_pk_constraint(name), look.get_foreign_keys(name), look.get_unique_constraints(name))
        print(look.get_indexes(name), look.get_check_constraints(name), look.get_table_comment(name))
    print(look.get_view_definition("cheap"), look.has_table("books"), look.has_table("missing"), look.has_sequence("tickets"))
    print(look.get_multi_columns(kind=sa.engine.reflection.ObjectKind.VIEW, schema="reporting"))
    meta = sa.MetaData()
    meta.reflect(e, views=True)
    for table in meta.sorted_tables:
        if table.name != "kinds":  # which has a composite, and SQLAlchemy no name for that
            print(sa.schema.CreateTable(table).compile(e))


def transcript():
    for driver in DRIVERS:
        e = engine(driver, pool_size=2, max_overflow=0, pool_pre_ping=True)
        reflection(e)
        with e.connect() as c:
            print("isolation", c.get_isolation_level(), c.default_isolation_level)
            result = c.execute(sa.text("SELECT * FROM kinds ORDER BY id"))
            print(result.keys(), [[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in result])
            stream = c.execution_options(stream_results=True, yield_per=100).execute(sa.text("SELECT n FROM generate_series(1, 1000) n"))
            print("streamed", sum(row.n for row in stream))
        with orm.Session(e) as session:
            session.add_all([Note(id=n, body=f"n{n}") for n in range(1000, 1500)])
            shelf = Shelf(label="east", books=[Book(title=f"t{n}", price=n, tags=["a", None]) for n in range(3)])
            session.add(shelf)
            session.flush()
            session.refresh(shelf)
            print("orm", [(b.title, b.price, b.mood, b.tags, b.upper_title) for b in shelf.books])
            shelf.books[0].title = "changed"
            session.flush()
            found = session.scalars(sa.select(Book).join(Shelf).options(orm.selectinload(Book.shelf)).where(Shelf.label == "east").order_by(Book.id))
            print("joined", [(b.title, b.shelf.label) for b in found])
            try:
                with session.begin_nested():
                    session.add(Note(id=1, body="again"))
            except sa.exc.IntegrityError as error:
                print("unique", error.orig.sqlstate if driver == "psycopg" else error.orig.pgcode, error.orig)
            upsert = postgresql.insert(Note).values(id=1, body="x")
            upsert = upsert.on_conflict_do_update(index_elements=["id"], set_={"body": upsert.excluded.body}).returning(Note.body)
            print("upsert", session.scalars(upsert).all())
            print("updated", session.execute(sa.update(Note).where(Note.id >= 1000).values(body="y")).rowcount)
            session.rollback()
        # A schema of its own, made and dropped.
        meta = sa.MetaData()
        sa.Table("made", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("'2026-01-01 00:00+00'")),
                 sa.Column("kind", sa.String(20), index=True, comment="what kind"), sa.Column("data", postgresql.JSONB))
        meta.create_all(e)
        with e.begin() as c:
            print("made", c.execute(meta.tables["made"].insert().returning(sa.text("id, at")), [{"kind": "a", "data": {"x": n}} for n in range(3)]).all())
            print(c.execute(sa.select(meta.tables["made"].c.data["x"].as_integer())).all())
        meta.drop_all(e)
        for level in ("SERIALIZABLE", "AUTOCOMMIT"):
            with e.connect().execution_options(isolation_level=level) as c:
                print(level, c.execute(sa.text("SHOW transaction_isolation")).all())
        e.dispose()


def code(action):
    try:
        action()
        return "passed"
    except sa.exc.DBAPIError as error:
        return f"{getattr(error.orig, 'sqlstate', None) or getattr(error.orig, 'pgcode', None)} {type(error).__name__}"


def denied():
    for driver in DRIVERS:
        e = engine(driver)
        with e.connect() as c:
            print("read", code(lambda: c.execute(sa.text("SELECT * FROM forbidden"))))
            c.rollback()
            c.execute(sa.text("DELETE FROM notes WHERE id >= 500"))
            c.execute(sa.text("INSERT INTO notes VALUES (500, 'kept')"))
            with c.begin_nested() as savepoint:
                print("inside", code(lambda: c.execute(sa.text("INSERT INTO forbidden VALUES (:id, 'x')"), [{"id": n} for n in range(50)])))
                savepoint.rollback()
            c.commit()
            print("alive", c.execute(sa.text("SELECT * FROM notes WHERE id >= 500")).all())


def masked():
    import json

    for driver in DRIVERS:
        with engine(driver).connect() as c:
            meta = sa.MetaData()
            people = sa.Table("people", meta, autoload_with=c)
            row = c.execute(sa.select(people).where(people.c.id == 1)).one()
            born, score, tags = ["NULL" if v is None else repr(v) for v in (row.born, row.score, row.tags)]
            print(f"masked id={row.id} email={row.email} profile={json.dumps(row.profile)} born={born} score={score} tags={tags}")


{"transcript": transcript, "denied": denied, "masked": masked}[sys.argv[1]]()
if sys.argv[1] == "transcript":
    print("end")

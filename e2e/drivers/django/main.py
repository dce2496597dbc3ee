"""Django over psycopg 3: introspection, migrations, the ORM, server-side cursors, its errors."""

import io
import os
import sys

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"server_side_binding": True, "pool": sys.argv[1] == "transcript"},
        }
    },
    SECRET_KEY="of nothing",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.management import call_command
from django.db import DatabaseError, connection, models, transaction


class Shelf(models.Model):
    label = models.CharField(max_length=40, unique=True)

    class Meta:
        app_label, db_table, managed = "shop", "shelves", False


class Book(models.Model):
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    title = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    created_at = models.DateTimeField(db_default=models.functions.Now())

    class Meta:
        app_label, db_table, managed = "shop", "books", False


class Note(models.Model):
    id = models.IntegerField(primary_key=True)
    body = models.TextField()

    class Meta:
        app_label, db_table, managed = "shop", "notes", False


class Person(models.Model):
    email = models.TextField()
    profile = models.JSONField()
    born = models.DateField()
    score = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        app_label, db_table, managed = "shop", "people", False


def told(action):
    try:
        return repr(action())
    except DatabaseError as error:
        return f"{getattr(error.__cause__, 'sqlstate', None)} {type(error).__name__} {error}"


def transcript():
    out = io.StringIO()
    call_command("inspectdb", "books", "cheap", "customers", "kinds", "notes", "orders", "people", "shelves", stdout=out)
    print("inspectdb", out.getvalue())
    with connection.cursor() as cursor:
        look = connection.introspection
        print(look.get_table_list(cursor))
        for table in ("books", "shelves", "kinds"):
            print(look.get_table_description(cursor, table), look.get_constraints(cursor, table), look.get_relations(cursor, table))
            print(look.get_sequences(cursor, table), look.get_primary_key_columns(cursor, table))
        print(connection.pg_version, connection.features.is_postgresql_15)
    call_command("migrate", stdout=out, verbosity=1)
    print("migrated", sorted(connection.introspection.django_table_names(only_existing=True)))
    out = io.StringIO()
    call_command("showmigrations", stdout=out)
    print(out.getvalue())
    from django.contrib.auth.models import Permission, User
    from django.contrib.sessions.backends.db import SessionStore

    print(list(Permission.objects.order_by("id").values_list("codename", "content_type__model")))
    user = User.objects.create_user("ada", "ada@shop.example", None)
    user.user_permissions.set(Permission.objects.all()[:3])
    print(User.objects.filter(user_permissions__codename__contains="add").distinct().count())
    print(told(lambda: User.objects.create(username="ada")))
    session = SessionStore()
    session["x"] = 1
    session.save()
    print(SessionStore(session.session_key)["x"])
    user.delete()
    # The ORM on tables that are there.
    print(list(Book.objects.select_related("shelf").order_by("id").values_list("title", "price", "shelf__label", "created_at")))
    print(Book.objects.values("shelf__label").annotate(n=models.Count("id"), total=models.Sum("price")).order_by("shelf__label"))
    Note.objects.bulk_create([Note(id=n, body=f"n{n}") for n in range(1000, 1500)])
    Note.objects.bulk_create([Note(id=1, body="x")], update_conflicts=True, unique_fields=["id"], update_fields=["body"])
    print(Note.objects.bulk_update([Note(id=n, body="u") for n in range(1000, 1010)], ["body"]))
    print(Note.objects.filter(id__in=range(1000, 1100)).update(body=models.functions.Upper("body")))
    print(sum(note.id for note in Note.objects.filter(id__gte=1000).iterator(chunk_size=50)))
    try:
        with transaction.atomic():
            Note.objects.select_for_update().get(id=2)
            print(told(lambda: inner(Note(id=1, body="again"))))
            print(Note.objects.filter(id__gte=1000).delete())
            raise KeyError
    except KeyError:
        print("rolled back", Note.objects.filter(id__gte=1000).count())
    print(Note.objects.filter(body__iregex="^u$").order_by("-id").explain() != "")
    Note.objects.filter(id__gte=1000).delete()
    out = io.StringIO()
    call_command("migrate", "auth", "0001", stdout=out)
    call_command("migrate", "sessions", "zero", stdout=out)
    print(out.getvalue())
    connection.close_pool()


def inner(note):
    with transaction.atomic():
        note.save(force_insert=True)


def code(action):
    try:
        action()
        return "passed"
    except DatabaseError as error:
        return f"{error.__cause__.sqlstate} {type(error).__name__}"


def denied():
    class Forbidden(models.Model):
        id = models.IntegerField(primary_key=True)
        body = models.TextField()

        class Meta:
            app_label, db_table, managed = "shop", "forbidden", False

    print("read", code(lambda: list(Forbidden.objects.all())))
    print("write", code(lambda: Forbidden.objects.create(id=9, body="x")))
    print("bulk", code(lambda: Forbidden.objects.bulk_create([Forbidden(id=n, body="x") for n in range(50)])))
    with transaction.atomic():
        Note.objects.create(id=500, body="kept")
        print("inside", code(lambda: inner(Forbidden(id=9, body="x"))))
    print("alive", list(Note.objects.filter(id__gte=500).values()))


def masked():
    import json

    with connection.cursor() as cursor:
        cursor.execute("SELECT tags FROM people")
        tags = cursor.fetchone()[0]
    for p in (Person.objects.get(id=1), next(Person.objects.iterator())):
        born, score, all = ["NULL" if v is None else repr(v) for v in (p.born, p.score, tags)]
        print(f"masked id={p.id} email={p.email} profile={json.dumps(p.profile)} born={born} score={score} tags={all}")


{"transcript": transcript, "denied": denied, "masked": masked}[sys.argv[1]]()
if sys.argv[1] == "transcript":
    print("end")

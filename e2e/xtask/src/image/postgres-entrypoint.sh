#!/bin/sh
# Starts PostgreSQL for tests: a new, forgetful cluster unless $PGDATA holds one. What it takes is
# called as in the official image, so that manifests for that one work with ours.
#   POSTGRES_PASSWORD   of the superuser `postgres`; required
#   POSTGRES_DB         a database to make, and to load the scripts into; default postgres
#   /docker-entrypoint-initdb.d/*.sql   run in order as the superuser, once
# Arguments are passed on to the server, such as -c log_statement=all.
set -eu
: "${POSTGRES_PASSWORD:?names the password of the superuser}"
database=${POSTGRES_DB:-postgres}
umask 077
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
  initdb -U postgres --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 \
    --no-sync -E UTF8 --locale=C >/dev/null
  rm "$password"
  printf '%s\n' 'local all all trust' 'host all all all scram-sha-256' >"$PGDATA/pg_hba.conf"
  # Not reachable by network before the seed is in.
  pg_ctl -w -o "-c listen_addresses='' -c fsync=off -k /tmp" start >/dev/null
  [ "$database" = postgres ] || psql -X -q -h /tmp -U postgres -c "CREATE DATABASE \"$database\""
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$file" ] || continue
    psql -X -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d "$database" -f "$file"
  done
  pg_ctl -w -m fast stop >/dev/null
fi
unset POSTGRES_PASSWORD
exec postgres -c listen_addresses='*' -c fsync=off -k /tmp "$@"

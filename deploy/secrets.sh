#!/bin/sh
# Makes the secrets of compose.yaml, once, beside this file: PostgreSQL keeps the password that it was first started with.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then
	echo "$PWD/secrets is there already" >&2
	exit 0
fi
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
password=$(random)
mkdir -m 700 secrets.new
# The containers' users have to read them, and nobody else gets as far as into the folder.
umask 022
printf '%s\n' "$password" >secrets.new/password
printf '"items" "%s"\n' "$password" >secrets.new/userlist
printf 'postgresql://items:%s@pgbouncer:6432/items\n' "$password" >secrets.new/database_url
printf 'postgresql://items:%s@postgresql:5432/items\n' "$password" >secrets.new/owner_url
random >secrets.new/grafana_password
mv secrets.new secrets

#!/bin/sh
# While this node leads: runs a command and keeps its output in a PostgreSQL table that a
# stale leader cannot write. Fails where this node does not lead, and where the write
# bounced. Made ready by postgres.sql; PGHOST, PGDATABASE, … as psql reads them.
#   examples/fencing/postgres.sh today ./make-report --of today
set -eu
api=${TENURE_API:-http://127.0.0.1:4040}
name=$1
shift

# The token first: whatever happens after this line, it is judged by this token.
token=${TENURE_FENCE_TOKEN:-$(curl -fsS --noproxy '*' -m 5 "$api/fence-token")}

# The work. It may take long, and the node may be paused or replaced meanwhile.
body=$("$@")

# One transaction: the fence, then the write.
psql -X -q -o /dev/null -v ON_ERROR_STOP=1 --single-transaction \
    -v name="$name" -v body="$body" -v token="$token" <<'SQL'
SELECT raise_fence('reports', :'token');
INSERT INTO reports (name, body, token) VALUES (:'name', :'body', :'token')
ON CONFLICT (name) DO UPDATE SET body = EXCLUDED.body, token = EXCLUDED.token;
SQL
echo "written under token $token"

#!/bin/sh
# While this node leads: runs a command and sends its output to an HTTP service that
# refuses a stale leader. Fails where this node does not lead, and where the write bounced.
#   examples/fencing/http.sh http://127.0.0.1:8080 ./make-report --of today
set -eu
api=${TENURE_API:-http://127.0.0.1:4040}
url=$1
shift

# The token first: whatever happens after this line, it is judged by this token.
token=${TENURE_FENCE_TOKEN:-$(curl -fsS --noproxy '*' -m 5 "$api/fence-token")}

# The work. It may take long, and the node may be paused or replaced meanwhile.
value=$("$@")

printf '%s' "$value" | curl --fail-with-body -sS -m 10 -X PUT -H "Fence-Token: $token" --data-binary @- "$url"
echo "written under token $token"

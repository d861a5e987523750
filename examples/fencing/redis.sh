#!/bin/sh
# While this node leads: runs a command and keeps its output in a Redis key that a stale
# leader cannot write. Fails where this node does not lead, and where the write bounced.
#   examples/fencing/redis.sh redis://127.0.0.1:6379 report ./make-report --of today
set -eu
api=${TENURE_API:-http://127.0.0.1:4040}
script=$(dirname "$0")/../../lua/fenced_set.lua
redis=$1 key=$2
shift 2

# The token first: whatever happens after this line, it is judged by this token.
token=${TENURE_FENCE_TOKEN:-$(curl -fsS --noproxy '*' -m 5 "$api/fence-token")}

# The work. It may take long, and the node may be paused or replaced meanwhile.
value=$("$@")

# The fence in the same slot of a cluster, whether the key has a hash tag or not.
case $key in
*'{'*'}'*) fence=$key:fence ;;
*) fence="{$key}:fence" ;;
esac
reply=$(redis-cli -u "$redis" --eval "$script" "$key" "$fence" , "$token" "$value")
[ "$reply" = OK ] || { echo "not written: $reply" >&2; exit 1; }
echo "written under token $token"

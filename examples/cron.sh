#!/bin/sh
# Leader-only cron. The same line in the crontab of every node:
#     */5 * * * *  examples/cron.sh 5 ./make-report --of today
# runs the command where this node leads, if it still does so for 5 seconds, and ends it
# when they are over.
#
# That makes two runs at once unlikely; it does not make one run sure. In a minute in which
# nobody leads, none runs. Where leadership moves between one node's tick and another's,
# both run, one after the other. And a node can stop between asking and working. So the
# command is given TENURE_FENCE_TOKEN: what it writes to should refuse a lower one than it
# has seen (docs/fencing.md).
#
# Of a lease of 15 s, renewed every 5 s, 10 s are left in the worst moment: ask for less. For
# longer work, `tenure run -- COMMAND`.
set -eu
api=${TENURE_API:-http://127.0.0.1:4040}
seconds=$1
shift

# Asking takes 2 s at most, and the command has 1 s to end when it is told to.
answer=$(curl -s --noproxy '*' -m 2 -D - -o /dev/null "$api/leader?min_remaining=$((seconds + 3))s" | tr -d '\r')
header() { printf '%s\n' "$answer" | awk -v name="$1:" 'tolower($1) == name { print $2 }'; }

case $(printf '%s\n' "$answer" | awk 'NR == 1 { print $2 }') in
200) ;;
503)
    left=$(header tenure-lease-remaining-ms)
    [ -n "$left" ] || exit 0 # another node leads, or none
    echo "skipped: this node leads, but for $left ms more, and $((seconds + 3)) s were asked for" >&2
    exit 75
    ;;
*) echo "skipped: no sidecar answers at $api" >&2 && exit 69 ;;
esac
TENURE_FENCE_TOKEN=$(header tenure-epoch) timeout -k 1 "$seconds" "$@"

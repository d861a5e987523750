#!/bin/sh
# Once-only migration. Every node runs this before its app; one of them migrates, and all
# wait until that is done:
#     tenure run --backend redis --election orders,migration-7 &
#     examples/migrate.sh migration-7 ./migrate-to-7 && exec ./app
#
# The checkpoint of an election of its own says how far it is: nothing, "begun", "done". Each
# mark is written under the token and over the mark that was read, so of all nodes, and of
# all leaders one after the other, exactly one marks it done.
#
# A leader that dies midway leaves "begun", and the next one runs the command again. So the
# command is one transaction that also notes itself, or bears to be run twice; it is given
# TENURE_FENCE_TOKEN, so that a paused leader's run bounces (fencing/postgres.sql).
set -u
api=${TENURE_API:-http://127.0.0.1:4040}/elections/$1
shift

ask() { answer=$(curl -si --noproxy '*' -m 5 "$@" | tr -d '\r'); }
status() { printf '%s\n' "${answer:-HTTP 0}" | awk 'NR == 1 { print $2 }'; } # 0: no answer came
header() { printf '%s\n' "$answer" | awk -v name="$1:" '/^$/ { exit } tolower($1) == name { print $2 }'; }
body() { printf '%s\n' "$answer" | sed '1,/^$/d'; }

mark() {
    ask -X PUT -H "Fence-Token: $token" -H "$over" -d "$1" "$api/checkpoint"
    over="If-Match: $(header etag)"
    [ "$(status)" = 204 ] # otherwise refused, or nobody knows: read again
}

while :; do
    ask "$api/checkpoint"
    case "$(status) $(body)" in
    '200 done') exit 0 ;;
    '200 begun') over="If-Match: $(header etag)" ;;
    '404 '*no-checkpoint*) over='If-None-Match: *' ;; # before the first mark
    404* | 200*) echo "$api: $(body)" >&2 && exit 78 ;; # no such election, or another's checkpoint
    *) sleep 0.5 && continue ;;                         # no sidecar, or no store: wait for them
    esac
    ask "$api/fence-token"
    token=$(body)
    if [ "$(status)" = 200 ] && mark begun; then
        echo "migrating under token $token"
        TENURE_FENCE_TOKEN=$token "$@" || {
            code=$?
            echo "the migration failed with code $code; another node may try" >&2
            ask -X POST "$api/leadership/stepdown"
            exit "$code"
        }
        mark 'done'
    fi
    sleep 0.5
done

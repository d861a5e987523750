#!/bin/sh
# An app beside its Tenure sidecar: while it leads, it counts, five a second. Needs curl.
#   tenure run --backend redis & examples/counter.sh       beside a sidecar
#   tenure run --backend redis -- examples/counter.sh      started by it
set -u
api=${TENURE_API:-http://127.0.0.1:4040}
born=${TENURE_FENCE_TOKEN:-} # given by `tenure run -- …`: leader by birth, nothing after that

ask() { answer=$(curl -si --noproxy '*' -m 5 "$@" | tr -d '\r'); }
status() { printf '%s\n' "${answer:-HTTP 0}" | awk 'NR == 1 { print $2 }'; } # 0: no answer came
header() { printf '%s\n' "$answer" | awk -v name="$1:" '/^$/ { exit } tolower($1) == name { print $2 }'; }
body() { printf '%s\n' "$answer" | sed '1,/^$/d'; }

# The token while this node leads, what is left of its lease, who leads.
look() {
    ask "$api/leader"
    token='' left=$(header tenure-lease-remaining-ms) leader=$(header tenure-leader)
    [ "$(status)" != 200 ] || token=$(header tenure-epoch)
}

# Counts until the leadership is over or in doubt.
lead() {
    under=$token
    ask "$api/checkpoint"
    case $(status) in
    200) value=$(body) condition="If-Match: $(header etag)" ;;
    404) value=0 condition='If-None-Match: *' ;; # before the first write
    *) return ;;
    esac
    echo "resumed epoch=$under counter=$value"
    while look && [ "$token" = "$under" ]; do # before each act
        next=$((value + 1))
        ask -X PUT -H "Fence-Token: $under" -H "$condition" -d "$next" "$api/checkpoint"
        if [ "$(status)" != 204 ]; then # refused, or nobody knows: read before counting on
            echo "stopped epoch=$under counter=$next status=$(status)"
            return
        fi
        value=$next condition="If-Match: $(header etag)"
        echo "leader epoch=$under counter=$value lease_left=${left}ms"
        sleep 0.2
    done
}

followed=none
while look; do
    if [ -n "$token" ] && [ "$token" = "${born:-$token}" ]; then
        followed=none && lead
    elif [ "$leader" != "$followed" ] || [ -n "$born" ]; then
        followed=$leader && echo "follower leader=$leader"
        [ -z "$born" ] || exit 1
    fi
    sleep 0.2
done

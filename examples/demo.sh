#!/bin/sh
# Three sidecars in three panes of tmux, with the counter of counter.sh: the leader counts.
# Ctrl-C in a pane stops that node, and another counts on. Needs tmux and curl.
#   examples/demo.sh start     also `make demo`; Ctrl-B, then d leaves it running
#   examples/demo.sh stop      also `make demo-stop`; ends all of it
# TENURE names the binary. The tmux server is the demo's own: yours is not touched.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tenure=${TENURE:-tenure}

mux() { TMUX='' tmux -u -L tenure-demo -f /dev/null "$@"; }
runs() { mux has-session -t demo 2>/dev/null; }

need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "demo: $1 is missing; please install $2" >&2
    exit 69
}

start() {
    need tmux 'tmux (on Debian: apt-get install tmux)'
    need curl 'curl (on Debian: apt-get install curl)'
    need "$tenure" 'tenure (cargo install --path .), or set TENURE to its binary'
    case $tenure in
    */*) tenure=$(cd "$(dirname "$tenure")" && pwd)/$(basename "$tenure") ;;
    esac
    if ! runs; then
        dir=$(mktemp -d "${TMPDIR:-/tmp}/tenure-demo.XXXXXX") || exit 1
        if ! panes; then
            echo 'demo: tmux does not start' >&2
            rm -rf "$dir"
            exit 1
        fi
    fi
    if [ -t 1 ]; then
        mux attach -t demo
    else
        echo "the demo runs; to see it: tmux -L tenure-demo attach; to end it: make demo-stop"
    fi
}

panes() {
    for number in 1 2 3; do
        set -- sh "$here/demo.sh" node "$number" "$dir" "$tenure"
        case $number in
        1) mux new-session -d -s demo -x 120 -y 45 "$@" || return 1 ;;
        *) mux split-window -t demo "$@" || return 1 ;;
        esac
        mux select-pane -t demo -T "node-$number"
        mux select-layout -t demo even-vertical >/dev/null
    done
    mux set-environment -t demo DEMO_DIR "$dir"
    mux set-option -t demo pane-border-status top
    mux set-option -t demo pane-border-format ' #{pane_title} '
    mux set-option -t demo mouse on
    mux set-option -t demo status-left ''
    mux set-option -t demo status-right-length 110
    mux set-option -t demo status-right 'Ctrl-C stops this node | Ctrl-B o the next | Ctrl-B d leaves | make demo-stop ends'
}

# What a pane runs: a node, as often as it is wanted.
node() {
    number=$1 dir=$2 tenure=$3
    trap : INT # Ctrl-C is the node's; this shell stays, to start it again
    while [ ! -e "$dir/stop" ]; do
        "$tenure" run --backend "file://$dir/store" --id "node-$number" --ttl 3s \
            --listen 127.0.0.1:0 --status-every 1s -- "$here/counter.sh"
        [ -e "$dir/stop" ] && break
        echo "node-$number has ended; Enter starts it again"
        read -r _
    done
}

stop() {
    need tmux 'tmux (on Debian: apt-get install tmux)'
    if ! runs; then
        echo 'no demo runs'
        return
    fi
    dir=$(mux show-environment -t demo DEMO_DIR)
    dir=${dir#DEMO_DIR=}
    : >"$dir/stop"
    # As a person would: every node hands over and ends by itself. A pane that waits for
    # Enter gets it.
    for pane in $(mux list-panes -t demo -F '#{pane_id}'); do
        mux send-keys -t "$pane" C-c Enter
    done
    tries=0
    while runs && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    mux kill-server 2>/dev/null
    case $dir in
    */tenure-demo.*) rm -rf "$dir" ;;
    esac
    echo 'the demo has ended'
}

case ${1:-} in
start | stop) "$1" ;;
node) shift && node "$@" ;;
*) echo 'usage: demo.sh start | stop' >&2 && exit 2 ;;
esac

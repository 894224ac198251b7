# Runs one Postgres server for as long as standard input stays open.
#
# Orders come in as lines: `start PORT`, and `pause` or `crash` while the server runs. Reports go out as lines:
# `started PID`, `stopped`. The end of input stops the server, whatever state it is in.

# The pipe alone says when to stop: signals to the group or a reader that is gone must not end this
# script before its server.
trap '' HUP INT TERM PIPE

bin=$1 root=$2 lifetime=$3 origin=$4
shift 4
data=$root/data

# Commands in the background lose standard input, so orders are read from a descriptor of their own.
exec 3<&0 </dev/null

# What is thrown away needs neither a sync at its start nor a checkpoint at its end.
case $lifetime in
    ephemeral) sync=--no-sync farewell=QUIT ;;
    *) sync= farewell=INT ;;
esac

# Into a directory of another name first: an interrupted initdb must not look like a finished one.
initialise() {
    if [ "$origin" != new ]; then
        # A copy of the server at that port, which then follows it.
        "$bin/pg_basebackup" -h 127.0.0.1 -p "$origin" -U postgres -D "$data.new" -R -X stream \
            --checkpoint=fast --no-sync 3<&- >&2 &&
            mv "$data.new" "$data"
        return
    fi
    # C.UTF-8 is not known to older systems.
    for locale in C.UTF-8 C; do
        rm -rf "$data.new"
        "$bin/initdb" -D "$data.new" --username=postgres --auth=trust --encoding=UTF8 \
            --locale="$locale" $sync 3<&- >&2 &&
            mv "$data.new" "$data" && return
    done
    return 1
}

# Repeats the signal until the server is reaped: one sent before the server has set its handlers is lost.
signal_until_gone() {
    while kill -s "$1" "$2" 2>/dev/null; do
        sleep 1 3<&- >/dev/null 2>&1
    done
}

# SIGKILL to the postmaster and everything it started, as when the machine's memory runs out. It is
# stopped first, so that it starts nobody while its children are counted; a child that outlives it
# would keep the next server out. The lock file stays: it is the next server's to judge.
kill_all() {
    : >"$root/crashing"
    kill -s STOP "$1" 2>/dev/null
    children=$(ps -A -o pid= -o ppid= | while read -r pid parent; do
        if [ "$parent" = "$1" ]; then echo "$pid"; fi
    done)
    # shellcheck disable=SC2086 # a list of numbers
    kill -s KILL $1 $children 2>/dev/null
    for child in $children; do
        # One that nobody has reaped yet is as gone as one that was.
        while case $(ps -o stat= -p "$child") in '' | Z*) false ;; esac do
            sleep 0.02 3<&- >/dev/null 2>&1 || sleep 1 3<&- >/dev/null 2>&1
        done
    done
}

if [ -d "$data" ] || initialise; then
    while read -r order port <&3; do
        # A `pause` that crossed the end of its server has nothing left to do.
        [ "$order" = start ] || continue
        "$bin/postgres" -D "$data" -p "$port" "$@" 3<&- >&2 &
        server=$!
        echo "started $server"
        (
            if read -r order <&3; then farewell=QUIT; fi
            if [ "$order" = crash ]; then
                kill_all "$server"
            else
                signal_until_gone "$farewell" "$server"
            fi
        ) &
        watcher=$!
        wait "$server"
        # The one that kills counts the dead first.
        if [ -e "$root/crashing" ]; then
            wait "$watcher"
            rm -f "$root/crashing"
        fi
        kill -s KILL "$watcher" 2>/dev/null
        echo stopped
    done
fi

if [ "$lifetime" = ephemeral ]; then
    rm -rf "$root"
fi

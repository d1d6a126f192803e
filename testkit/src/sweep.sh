# Ends every process of one cluster and removes its namespaces and its directory.
#
#   sweep.sh now    DIRECTORY        at once; the caller holds the lock of the cluster's address block
#   sweep.sh orphan DIRECTORY LOCK   as soon as standard input ends without the word "done": its owner died
#
# Namespaces and the link of a cluster are called pgh<block>..., the directory is .../<block>.
trap '' HUP INT TERM
mode=$1 directory=$2 lock=${3-}
block=${directory##*/}

processes() {
    # A server's processes work in its data directory; postgres overwrites its environment, others keep theirs.
    find /proc -maxdepth 2 -name cwd -lname "$directory/*/data*" 2>/dev/null | cut -d/ -f3
    grep -lszx "TESTKIT_CLUSTER=$directory" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
    # The brackets keep grep from finding itself.
    for pid in $(grep -lsa "[s]shd -f.$directory/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
        echo "$pid"
        cat "/proc/$pid/task/$pid/children" 2>/dev/null | tr ' ' '\n'
    done
}

sweep() {
    attempts=0
    while [ $attempts -lt 250 ]; do
        pids=$(processes | sort -u | grep -vx -e "$$" -e "$BASHPID")
        [ -z "$pids" ] && break
        kill -KILL $pids 2>/dev/null
        attempts=$((attempts + 1))
        sleep 0.02
    done
    # A postmaster that was killed leaves a System V segment, named in the seventh line of its lock file.
    for file in "$directory"/*/data/postmaster.pid; do
        [ -f "$file" ] && ipcrm -m "$(sed -n 7p "$file" | awk '{print $2}')" 2>/dev/null
    done
    for namespace in /run/netns/pgh"$block"-*; do
        [ -e "$namespace" ] && ip netns delete "${namespace##*/}"
    done
    if [ -e "/sys/class/net/pgh$block" ]; then ip link delete "pgh$block" 2>/dev/null; fi
    grep -o " $directory/[^ ]*" /proc/mounts | while read -r mount; do umount -l "$mount"; done
    rm -rf --one-file-system "$directory"
}

if [ "$mode" = orphan ]; then
    read -r word
    [ "$word" = done ] && exit 0
    exec 9>>"$lock"
    # Whoever else holds the lock has taken the block over, and has swept it before.
    flock -w 10 9 || exit 0
fi
sweep
if [ "$mode" = orphan ]; then rm -f "$lock"; rmdir "${directory%/*}" 2>/dev/null; fi
exit 0

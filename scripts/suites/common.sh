# What the scripts beside this one have in common: a server with pgherd before it in each mode, and what becomes of the results.
# Sourced by them, with the suite's name. Each then calls `run_modes`, with a function `run MODE` of its own that runs the suite
# at PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE and prints one line a test: `passed NAME`, `failed NAME` or `skipped NAME`.
#
# Ends with 1 if something fails only through pgherd that docs/compatibility.md does not explain, with 77 if PyPI cannot be reached.
#
# MODES     which modes to run, beside the direct run: "session transaction standbys" if nothing is said. The third is transaction mode
#           with reads on a standby, and there is home, session mode with those; in the others the primary answers everything
# DIRECT    "kept" to compare with the last direct run instead of a new one
# SMOKE     with a value, only the part of the suite that takes a few seconds
# BIN       the directory of programs that are built already
# TARGET    the directory for what is fetched and built: target/suites if nothing is said

set -euo pipefail
suite=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suites=${TARGET:-$root/target/suites}
work=$suites/$suite
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
release=${SUITES_RELEASE:-trixie}
modes=${MODES:-session transaction standbys}
started=()
mkdir -p "$work"

say() { echo "$suite: $*"; }
fail() { say "$*" >&2; exit 1; }
# Ends for want of something that is none of pgherd's business.
leave() { say "$*" >&2; exit 77; }

# A program that the suite needs, and the Debian package that has it.
need() {
    command -v "$1" >/dev/null || fail "needs $1: apt-get install $2"
}

# The driver's source with its tests, in $work/source: of the directory that SOURCE names (a checkout of the driver's repository), else
# that of the Debian package. Which file it is, and its hash, are in the release's index of sources.
source_of() {
    local package=$1 index=$suites/Sources-$release.xz stanza directory line
    if [ -n "${SOURCE-}" ]; then
        rm -rf "$work/source"
        cp -r "$SOURCE" "$work/source"
        return
    fi
    if [ -e "$work/source" ]; then return; fi
    [ -s "$index" ] || curl -fsSL -o "$index" "$mirror/debian/dists/$release/main/source/Sources.xz"
    stanza=$(xz -dc "$index" | awk -v RS= -v package="$package" '$0 ~ "^Package: " package "\n"')
    directory=$(sed -n 's/^Directory: //p' <<<"$stanza")
    line=$(sed -n '/^Checksums-Sha256:/,$ s/^ \([0-9a-f]\{64\}\) [0-9]* \([^ ]*\.orig\.tar\.[a-z0-9]*\)$/\1  \2/p' <<<"$stanza" | head -1)
    [ -n "$line" ] || fail "no source of $package in Debian's $release"
    say "fetching ${line#*  }"
    (cd "$work" && curl -fsSLO "$mirror/debian/$directory/${line#*  }" && sha256sum --quiet -c <<<"$line") ||
        fail "cannot have Debian's source of $package: say SOURCE=DIRECTORY, a checkout of the driver's repository"
    rm -rf "$work/unpacked" && mkdir "$work/unpacked"
    tar -xf "$work/${line#*  }" -C "$work/unpacked" --strip-components=1
    mv "$work/unpacked" "$work/source"
}

# A virtual environment in $suites/NAME with these packages of PyPI, made once.
python_with() {
    local name=$1 venv
    shift
    venv=$suites/$name
    if [ ! -e "$venv/complete" ]; then
        say "installing $*"
        rm -rf "$venv"
        # The system's own, whatever else is called python3 here.
        /usr/bin/python3 -m venv "$venv" || leave "needs python3-venv: apt-get install python3-venv"
        "$venv/bin/pip" install --quiet "$@" || leave "cannot install $*"
        touch "$venv/complete"
    fi
    python=$venv/bin/python
}

# The source package of a project on PyPI, with its tests, in $work/source-VERSION; needs $python.
pypi_source() {
    local package=$1 version=$2
    if [ -e "$work/source-$version" ]; then return; fi
    say "fetching the source of $package $version"
    rm -rf "$work/fetched" "$work/unpacked" && mkdir "$work/fetched" "$work/unpacked"
    "$python" -m pip download --quiet --no-deps --no-binary "$package" -d "$work/fetched" "$package==$version" ||
        leave "cannot fetch the source of $package $version"
    tar -xzf "$work/fetched/"*.tar.gz -C "$work/unpacked" --strip-components=1
    mv "$work/unpacked" "$work/source-$version"
}

# What pytest wrote with --junitxml, one line a test.
junit_results() {
    /usr/bin/python3 - "$1" <<'END'
import sys, xml.etree.ElementTree as xml
for case in xml.parse(sys.argv[1]).iter("testcase"):
    name = f"{case.get('classname')}::{case.get('name')}".encode("ascii", "backslashreplace").decode().replace("\n", "\\n")
    worst = {child.tag for child in case}
    print("failed" if worst & {"failure", "error"} else "skipped" if "skipped" in worst else "passed", name)
END
}

finish() {
    local pid
    for pid in "${started[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    wait
}
trap finish EXIT

# SQL at the server itself, as its superuser.
direct() { PGPASSWORD=$monitor_password psql -qAtX "host=$server port=5432 user=repmgr dbname=${2:-postgres}" -c "$1"; }

# Starts a primary and a standby, and a pgherd before them in each mode.
start() {
    local config mode pooling reads port=${SUITES_PORT:-6460}
    local bin=${BIN-}
    [ -n "$bin" ] || (cd "$root" && cargo build --quiet --bin pgherd --bin pgherd-up)
    [ -n "$bin" ] || bin=$(cd "$root" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug
    # Servers run as the user postgres, so what starts them runs as root.
    local as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo -E); fi
    "${as_root[@]}" "$bin/pgherd-up" --servers 2 --listen "127.0.0.1:$port" >"$work/up.log" 2>&1 &
    started+=($!)
    for _ in $(seq 600); do
        if grep -q '^Try:' "$work/up.log"; then break; fi
        kill -0 "${started[0]}" 2>/dev/null || { tail -5 "$work/up.log" >&2; exit 1; }
        sleep 0.2
    done
    config=$(sed -n 's/^ *config *//p' "$work/up.log")
    server=$(sed -n 's/^ *pg01 *\([0-9.]*\):5432.*/\1/p' "$work/up.log")
    monitor_password=$(sed -n 's/^password = "\(.*\)"/\1/p' "$config")
    direct "CREATE ROLE suite SUPERUSER LOGIN PASSWORD 'suite'"

    port=$((port + 1))
    declare -gA hosts=([direct]=$server) ports=([direct]=5432)
    for mode in $modes; do
        pooling=$mode reads=primary
        case $mode in
        standbys) pooling=transaction reads=standbys ;;
        home) pooling=session reads=standbys ;;
        esac
        {
            sed "/^\[listen\]/,/^\[/s/^address = .*/address = \"127.0.0.1:$port\"/; /^\[http\]/,/^\[/s/^address = .*/address = \"off\"/" "$config"
            printf '\n[routing]\nreads = "%s"\n\n[pool]\nmode = "%s"\n' "$reads" "$pooling"
            cat "$work/pgherd.toml" 2>/dev/null || true
        } >"$work/$mode.toml"
        "$bin/pgherd" run --config "$work/$mode.toml" >"$work/$mode.pgherd.log" 2>&1 &
        started+=($!)
        hosts[$mode]=127.0.0.1
        ports[$mode]=$port
        port=$((port + 1))
    done
    for mode in $modes; do
        for _ in $(seq 100); do
            if psql -qAtX "host=127.0.0.1 port=${ports[$mode]} user=suite password=suite dbname=postgres" -c "SELECT 1" >/dev/null 2>&1; then break; fi
            sleep 0.2
        done
    done
}

# Runs the suite directly and in each mode, each in a database of its own, and compares.
run_modes() {
    local mode
    start
    if declare -F prepare >/dev/null; then prepare; fi
    for mode in direct $modes; do
        if [ "$mode" = direct ] && [ "${DIRECT-}" = kept ] && [ -s "$work/direct.results" ]; then
            count direct
            continue
        fi
        direct "CREATE DATABASE suite_$mode OWNER suite TEMPLATE template0 ENCODING 'UTF8'"
        export PGHOST=${hosts[$mode]} PGPORT=${ports[$mode]} PGUSER=suite PGPASSWORD=suite PGDATABASE=suite_$mode
        if declare -F prepare_database >/dev/null; then prepare_database; fi
        (set +e; cd "$work"; run "$mode" 2>"$work/$mode.errors" | sort -u >"$work/$mode.results") || true
        count "$mode"
    done
    compare
}

count() {
    local passed failed skipped
    passed=$(grep -c '^passed ' "$work/$1.results" || true)
    failed=$(grep -c '^failed ' "$work/$1.results" || true)
    skipped=$(grep -c '^skipped ' "$work/$1.results" || true)
    say "$1: $passed passed, $failed failed, $skipped skipped"
    [ "$passed" -gt 0 ] || { tail -20 "$work/$1.errors" >&2 || true; fail "nothing passed: see $work/$1.*"; }
}

# The names that docs/compatibility.md explains for this suite and mode, as patterns: the table's rows are
# | suite | mode, or "all" | `pattern` `pattern` ... | reason |
# What is so in transaction mode is so with reads on a standby; in session mode with those, what is so in session mode and with those.
explained() {
    local where="all|$1"
    case $1 in
    standbys) where+="|transaction" ;;
    home) where+="|session|standbys" ;;
    esac
    awk -F'|' -v suite="$suite" -v modes="$where" '
        { name = $2; mode = $3; gsub(/ /, "", name); gsub(/ /, "", mode) }
        name == suite && mode ~ "^(" modes ")$" { print $4 }' "$root/docs/compatibility.md" | grep -o '`[^`]*`' | tr -d '`' || true
}

# Says what passes directly and not through pgherd, and ends with 1 if something of it is not explained.
compare() {
    local mode test pattern known worse=0
    for mode in $modes; do
        mapfile -t patterns < <(explained "$mode")
        local unexplained=0 expected=0
        while read -r test; do
            known=no
            for pattern in "${patterns[@]}"; do
                # A pattern, not a text.
                # shellcheck disable=SC2053
                if [[ $test == $pattern ]]; then known=yes; fi
            done
            if [ $known = yes ]; then
                expected=$((expected + 1))
            else
                unexplained=$((unexplained + 1))
                say "$mode: fails only through pgherd: $test"
            fi
        done < <(comm -23 <(sed -n 's/^passed //p' "$work/direct.results" | sort) <(sed -n 's/^passed //p' "$work/$mode.results" | sort))
        say "$mode: $((expected + unexplained)) fail that pass directly, $expected of them explained in docs/compatibility.md"
        [ "$unexplained" = 0 ] || worse=1
    done
    say "what each run said is in $work"
    exit $worse
}

//! Scripts for the servers' shells. Names and paths are data: they are passed as quoted arguments, never as shell text.

pub(super) mod tools;

/// What every script starts with: `set --` and its arguments, quoted.
///
/// The script goes to `sh -s` over its standard input, so that the user's login shell, which may be any, sees none of it.
/// All of it stands in a function that is called with no input, so that no command in it can swallow its rest. What was begun comes to
/// its end also when nobody listens any more: a rewind that died of its next line of output would leave nothing that could be started.
#[must_use]
pub(super) fn script(body: &str, arguments: &[&str]) -> Option<String> {
    let arguments = arguments.iter().map(|text| quote(text)).collect::<Option<Vec<_>>>()?.join(" ");
    Some(format!(
        "trap '' PIPE\nmain() {{\n{PROGRAMS}\n{body}\n}}\nset -- {arguments}\nmain \"$@\" </dev/null\nexit $?\n"
    ))
}

/// One word of POSIX shell text that stands for `text`; none if it has a NUL, which no argument can have.
fn quote(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', r"'\''")))
}

/// Every script's first two arguments: the directory of PostgreSQL's programs, or empty, and the server's data directory.
///
/// Where no directory is configured, the programs that the server was started with last are used: their path stands in
/// `postmaster.opts`. A rewind removes that file; then it is where packages have the programs of the directory's version. A PATH of a
/// session over ssh seldom leads to them.
const PROGRAMS: &str = r#"
LC_ALL=C; export LC_ALL
programs=$1 data=$2
shift 2
if [ -z "$programs" ] && [ -r "$data/postmaster.opts" ]; then
  programs=$(sed -n '1s/ ".*//; 1s|/[^/]*$||p' "$data/postmaster.opts")
fi
if [ -z "$programs" ] && version=$(cat "$data/PG_VERSION" 2>/dev/null); then
  for directory in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin"; do
    if [ -x "$directory/pg_ctl" ]; then programs=$directory; fi
  done
fi
if [ -n "$programs" ]; then PATH=$programs:$PATH; export PATH; fi
"#;

/// Which processes of the server are left? Every one has the data directory as its working directory, also those whose postmaster was
/// killed.
macro_rules! scan {
    () => {
        r#"
scan() {
  left=
  for process in /proc/[0-9]*; do
    [ "$process/cwd" -ef "$data" ] || continue
    case $(readlink "$process/exe") in
      */postgres|*/postgres\ \(deleted\)|*/postmaster|*/postmaster\ \(deleted\)) left="$left ${process#/proc/}" ;;
    esac
  done
}
"#
    };
}

/// The note that a fence leaves beside the server's own files for whoever comes after a pgherd that did not live to rejoin the server
/// ([`RECALL`]): a copy of the control file.
///
/// A server that is started writes to its control file before all else, its state and the time, and its recovery ends with a checkpoint
/// of its own; and so do a rewind, a clone and `pg_resetwal`. So the copy is equal for as long as nothing has run there since, and void
/// for ever from then on, also if what was started has died in its recovery. A recovery by [`RECOVER`], which is part of a rejoin,
/// renews it.
macro_rules! note {
    () => {
        r#"
is_noted() { cmp -s "$data/global/pg_control" "$data/pgherd.fenced"; }
note() { cp "$data/global/pg_control" "$data/pgherd.fenced" 2>/dev/null; }
"#
    };
}

/// Is a program there? One that is missing would otherwise look like an answer.
macro_rules! needs {
    () => {
        r#"
needs() {
  for program in "$@"; do
    command -v "$program" >/dev/null ||
      { echo "there is no program $program: install it, or put it on the PATH of PostgreSQL's user"; return 1; }
  done
}
"#
    };
}

use needs;

/// Runs the arguments as one command.
pub(super) const RUN: &str = r#"
"$@" 2>&1
"#;

/// Runs the arguments, a rejoin of repmgr's, as one command, with a directory of its own for what it puts aside: in `/tmp` it would
/// share one with every server of the same name.
pub(super) const REJOIN: &str = r#"
aside=$(mktemp -d) || return 127
"$@" --config-archive-dir="$aside" 2>&1
status=$?
rm -rf "$aside"
return $status
"#;

/// Can this machine log in to a server? Arguments: host, port, user, database.
/// Exit 0: yes. 4: it does not answer, or rejects everybody. Others: it answers but does not let us in, or there is no
/// program to ask with.
pub(super) const LOG_IN: &str = r#"
PGHOST=$1 PGPORT=$2 PGUSER=$3 PGDATABASE=$4 PGCONNECT_TIMEOUT=2; export PGHOST PGPORT PGUSER PGDATABASE PGCONNECT_TIMEOUT
psql -X -w -A -t -q -c 'SELECT 1' 2>&1 && return 0
pg_isready -q -t 2
case $? in
  0) return 3 ;;
  1|2) return 4 ;;
  *) return 5 ;;
esac
"#;

/// Leaves no process of the server alive.
/// Exit 0: none is left; it says `stopped` if the postmaster was running. 3: no such directory. 4: some are left.
///
/// A server that it has stopped is noted as fenced. One that was down, or whose postmaster was killed, was not ended by a pgherd, and
/// one that was being stopped somebody wants to be down; what was noted before stays.
pub(super) const FENCE: &str = concat!(
    scan!(),
    note!(),
    r#"
[ -d "$data" ] || { echo "no directory $data"; return 3; }
scan
[ -n "$left" ] || return 0
ours=
postmaster=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
case "$left " in *" $postmaster "*)
  echo stopped
  case $(sed -n 8p "$data/postmaster.pid") in stopping*) ;; *) ours=yes ;; esac ;;
esac
pg_ctl -D "$data" -m immediate -W stop >/dev/null 2>&1
round=0
while [ $round -lt 60 ]; do
  sleep 0.05
  scan
  if [ -z "$left" ]; then
    if [ -n "$ours" ]; then note; fi
    return 0
  fi
  if [ $round -ge 10 ]; then kill -KILL $left 2>/dev/null; fi
  round=$((round + 1))
done
echo "processes are left:$left"
return 4
"#
);

/// Ends one process of the server. Argument: the process.
pub(super) const END_PROCESS: &str = r#"
[ "/proc/$1/cwd" -ef "$data" ] && kill "$1"
"#;

/// Is all there that [`STOP_CLEANLY`] needs, and the server's return as a standby?
/// Exit 0: yes. 3: no.
pub(super) const REHEARSE: &str = concat!(
    needs!(),
    r#"
needs pg_ctl pg_controldata pg_waldump timeout cmp || return 3
[ -r "$data/postmaster.pid" ] || { echo "no server runs in $data"; return 3; }
"#
);

/// Stops the server, and waits until it is down.
/// Exit 0: it is down; it says in what state, and where its last checkpoint is. 3: it was not told to stop. 4: it is at it.
///
/// `pg_ctl` itself looks only ten times a second whether a server is down. The checkpoint is written down beside the server's own files,
/// for whoever comes after a pgherd that did not live to see it ([`RECALL`]); with the next one that is void by itself.
pub(super) const STOP_CLEANLY: &str = r#"
postmaster=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
[ -n "$postmaster" ] || { echo "no server runs in $data"; return 3; }
pg_ctl -D "$data" -m fast -W stop 2>&1 || return 3
round=0
while [ -e "$data/postmaster.pid" ] && kill -0 "$postmaster" 2>/dev/null; do
  [ $round -lt 1000 ] || { echo "it is still stopping"; return 4; }
  sleep 0.01
  round=$((round + 1))
done
control=$(pg_controldata -D "$data") || return
printf '%s\n' "$control" | sed -n 's/^Latest checkpoint location: *//p' >"$data/pgherd.stopped"
printf '%s\n' "$control"
return 0
"#;

/// Was a server that is shut down written to since? That is what a rewind leaves that was cut off.
macro_rules! interrupted {
    () => {
        r#"
interrupted() {
  newer=$(find -L "$data/base" "$data/global" "$data/pg_tblspc" -type f -newer "$data/global/pg_control" 2>/dev/null |
    head -n 1)
  [ -n "$newer" ] || return 1
  echo "it was written to after its shutdown, as by a rewind that was interrupted: $newer"
}
"#
    };
}

/// What a server that is down has: `tell` says its first argument and the timeline, what stands in the control file, what the history of
/// the timeline is, and its second argument, with a line of two hyphens between them; `last` finds the last record of its WAL.
///
/// The control file tells the last checkpoint, and WAL from there on is read as a crash recovery would, up to the first record that is
/// not whole: that is the error with which `pg_waldump` ends, unless the last segment ends first, as after a switch of segments. It is
/// told from which file to which, since it looks for the size of files in any that it finds, and one that was made for later has none in
/// it. Of one that was promoted since that checkpoint the control
/// file tells the timeline, too, and it is read from where that begins. Where there is WAL, or the history, of a later timeline still,
/// a promotion or a rewind was cut off: then it is not known which timeline it was on.
macro_rules! remains {
    () => {
        r#"
control=$(pg_controldata -D "$data" 2>&1) || { echo "$control"; return 4; }
field() { printf '%s\n' "$control" | sed -n "s/^$1: *//p"; }
state=$(field 'Database cluster state')
checkpointed=$(field "Latest checkpoint's TimeLineID") timeline=$(field "Min recovery ending loc's timeline")
if [ "${timeline:-0}" -lt "${checkpointed:-0}" ]; then timeline=$checkpointed; fi
name=$(printf '%08X' "$timeline")
tell() {
  printf '%s %s\n--\n%s\n--\n' "$1" "$timeline" "$control"
  cat "$data/pg_wal/$name.history" 2>/dev/null
  printf '\n--\n%s\n' "$2"
}
segment_of() {
  size=$(field 'Bytes per WAL segment')
  number=$(((0x${1%/*} << 32 | 0x${1#*/}) / size)) each=$((0x100000000 / size))
  printf '%s%08X%08X' "$name" $((number / each)) $((number % each))
}
last() {
  needs timeout pg_waldump || return
  newest=$(ls "$data/pg_wal" | cut -c 1-8 | grep -x '[0-9A-F]\{8\}' | sort | tail -n 1)
  if [ "$newest" != "$name" ]; then
    echo "by its control file it is on timeline $name, and there is WAL of timeline $newest: an operator must look at it"
    return 4
  fi
  final=$(ls -r "$data/pg_wal" | grep -x "$name[0-9A-F]\{16\}" | while read -r segment; do
    if [ -n "$(head -c 2 "$data/pg_wal/$segment" | tr -d '\000')" ]; then echo "$segment"; break; fi
  done)
  if [ "$timeline" = "$checkpointed" ]; then
    from=$(field "Latest checkpoint's REDO location") first=$(field "Latest checkpoint's REDO WAL file")
  else
    from=$(sed -n 's|^[0-9]*[[:space:]]*\([0-9A-F]*/[0-9A-F]*\).*|\1|p' "$data/pg_wal/$name.history" | tail -n 1)
    [ -n "$from" ] || { echo "there is no history of its timeline $name"; return 4; }
    first=$(segment_of "$from")
  fi
  said=$(timeout 20 pg_waldump -q -s "$from" "$data/pg_wal/$first" "$final" 2>&1)
  case $? in
    0) at=$from; [ "$first" = "$final" ] || at=
      record=$(timeout 20 pg_waldump ${at:+-s "$at"} "$data/pg_wal/$final" 2>/dev/null | tail -n 1) ;;
    124) echo "its WAL from $from to $final could not be read within 20 seconds"; return 4 ;;
    *) at=$(printf '%s\n' "$said" | sed -n 's|.*error in WAL record at \([0-9A-F]*/[0-9A-F]*\): .*|\1|p' | tail -n 1)
      [ -n "$at" ] || { echo "its WAL could not be read from $from on: $said"; return 4; }
      record=$(pg_waldump -n 1 -s "$at" "$data/pg_wal/$(segment_of "$at")" "$final" 2>/dev/null) ;;
  esac
  case $record in
    rmgr:*) printf '%s\n' "$record" | cut -c 1-300 ;;
    *) echo "the last record of its WAL, up to $final, could not be read"; return 4 ;;
  esac
}
"#
    };
}

/// Was the server shut down by [`STOP_CLEANLY`] or stopped by [`FENCE`], and has it not run since?
/// Exit 0: yes; it tells what the server has, and says `stopped`, or with the last record `fenced`, or `standby` of a standby that was
/// fenced. 3: no. Others: it could not be found out.
pub(super) const RECALL: &str = concat!(
    scan!(),
    note!(),
    needs!(),
    r#"
scan
[ -z "$left" ] || { echo "processes are left:$left"; return 4; }
"#,
    remains!(),
    r#"
if [ "$state" = "shut down" ] && [ ! -e "$data/postmaster.pid" ] &&
  [ "$(field 'Latest checkpoint location')" = "$(cat "$data/pgherd.stopped" 2>/dev/null)" ]
then
  tell stopped
  return 0
fi
[ -e "$data/pgherd.fenced" ] || return 3
needs cmp || return 4
is_noted || return 3
record=$(last) || { echo "$record"; return 4; }
how=fenced
# A promotion removes the file before it writes any WAL.
case $state in "in archive recovery"|"shut down in recovery") [ ! -e "$data/standby.signal" ] || how=standby ;; esac
tell $how "$record"
return 0
"#
);

/// What has a server that is down?
/// Exit 0: it tells that, with the last record, and says `primary` or `standby`. 3: a rewind was interrupted in it. 5: it is a
/// standby, and that could not be found out. Others: it could not be found out.
pub(super) const REMAINS: &str = concat!(
    needs!(),
    interrupted!(),
    remains!(),
    r#"
of=primary
case $state in "in archive recovery"|"shut down in recovery") of=standby ;; esac
if [ -e "$data/standby.signal" ]; then of=standby; fi
record=$(last) || {
  case $state in "shut down"*) interrupted && return 3 ;; esac
  echo "$record"
  [ $of = primary ] || return 5
  return 4
}
tell $of "$record"
return 0
"#
);

/// Runs the arguments as one command, which leaves a server behind: that must not keep the session's output open.
pub(super) const LAUNCH: &str = r#"
"$@" >/dev/null 2>&1
"#;

/// Clones and starts the server: repmgr with its configuration, and the arguments for the clone. In one script, since who
/// reads where PostgreSQL's programs are from the data directory can't do so afterwards.
pub(super) const CLONE: &str = r#"
repmgr=$1 config=$3
"$@" 2>&1 || return
"$repmgr" -f "$config" node service --action=start >/dev/null 2>&1
"#;

/// Does nothing else work on the data directory?
/// Exit 0: nothing does. 3: a copy or a rewind that was begun before is still at it, though nobody waits for it.
pub(super) const UNTOUCHED: &str = r#"
for process in /proc/[0-9]*; do
  case $(readlink "$process/exe") in */pg_basebackup|*/pg_rewind) ;; *) continue ;; esac
  if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -q -F -x -e "$data" -e "--pgdata=$data"; then
    echo "process ${process#/proc/} still works on $data"
    return 3
  fi
done
return 0
"#;

/// Stops the server with a checkpoint, if it runs.
pub(super) const STOP: &str = r#"
pg_ctl -D "$data" -m fast -w -t 10 stop >/dev/null 2>&1
return 0
"#;

/// Brings the stopped server to where `repmgr node rejoin` takes it on: shut down, as a primary or as the standby that it was or was
/// about to become.
/// Exit 0: it was a primary. 5: it was a standby. 3: a rewind was interrupted in it. 4: it could not be recovered.
///
/// A shutdown writes the control file last (but for WAL files that a standby makes for later), and so does a rewind, which then says "in
/// archive recovery". Between the two nothing but a rewind writes to databases, and it does so before all else: what is newer there
/// than a shutdown is the work of one that has not come to its end. One that has lacks
/// `standby.signal` until repmgr has made it: such a directory is no primary's, and recovered as one it would go on by itself on the
/// timeline of the server that it was rewound to.
pub(super) const RECOVER: &str = concat!(
    note!(),
    interrupted!(),
    r#"
state() { pg_controldata -D "$data" | sed -n 's/^Database cluster state: *//p'; }
is_shut_down() { case $(state) in "shut down"*) ;; *) return 1 ;; esac }
as_what() { case $(state) in *recovery) return 5 ;; *) return 0 ;; esac }
config=$(sed -n 's/.*"-*\(config_file=[^"]*\)".*/\1/p' "$data/postmaster.opts" 2>/dev/null)
debian=/etc/postgresql/${data#/var/lib/postgresql/}/postgresql.conf
if [ -z "$config" ] && [ -e "$debian" ]; then config=config_file=$debian; fi
alone() {
  postgres --single ${config:+-c "$config"} -D "$data" template1 >"$aside/said" 2>&1
}
as_standby() {
  : >>"$data/standby.signal" || return
  for seconds in 0.2 1 5; do
    # Nobody can connect, and it receives nothing.
    postgres ${config:+-c "$config"} -D "$data" -c listen_addresses= -c unix_socket_directories="$aside" \
      -c primary_conninfo= -c logging_collector=off -c log_destination=stderr >"$aside/said" 2>&1 &
    sleep $seconds
    pg_ctl -D "$data" -m fast -w -t 30 stop >/dev/null 2>&1
    is_shut_down && return
  done
}
if is_shut_down; then
  if interrupted; then return 3; fi
  as_what
  return
fi
aside=$(mktemp -d) || return 4
noted=
if is_noted; then noted=yes; fi
if [ -e "$data/standby.signal" ] || [ "$(state)" = "in archive recovery" ]; then as_standby; else alone; fi
if [ -n "$noted" ]; then note; fi
if is_shut_down; then rm -rf "$aside"; as_what; return; fi
echo "it could not be recovered, its state is $(state): $(tail -n 3 "$aside/said")"
rm -rf "$aside"
return 4
"#
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn run(body: &str, arguments: &[&str]) -> String {
        run_for("/no/data", body, arguments)
    }

    fn run_for(data: &str, body: &str, arguments: &[&str]) -> String {
        use std::io::Write;
        let mut shell =
            Command::new("sh").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let text = script(body, &[&["", data], arguments].concat()).unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn arguments_are_data_whatever_they_contain() {
        let hostile =
            ["$(touch /tmp/x)", "it's", "a b", "", "-n", "`id`", "\\", "new\nline", "'; exit 1; '", "*"];
        assert_eq!(run(r#"printf '%s|' "$@""#, &hostile), format!("{}|", hostile.join("|")));
    }

    #[test]
    fn a_command_that_reads_its_input_does_not_swallow_the_script() {
        assert_eq!(run("cat; echo done", &[]), "done\n");
    }

    #[test]
    fn programs_are_those_that_the_server_was_started_with() {
        let data = tempfile::tempdir().unwrap();
        let opts = "/opt/my postgres/bin/postgres \"-D\" \"/data\"\n";
        std::fs::write(data.path().join("postmaster.opts"), opts).unwrap();
        let data = data.path().to_str().unwrap();
        assert_eq!(run_for(data, r#"printf '%s|' "${PATH%%:*}" "$@""#, &["a"]), "/opt/my postgres/bin|a|");
    }

    #[test]
    fn disks_are_those_of_the_directories_that_the_session_knows_and_that_are_there() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path().to_str().unwrap();
        let body = format!("PGARCHIVE='{data}' PGBACKUP=/no/such\n{}", tools::DISKS);
        let lines: Vec<String> = run_for(data, &body, &[]).lines().map(str::to_owned).collect();
        let disks: Vec<_> =
            crate::Disk::all(&lines).into_iter().map(|it| (it.what.to_string(), it.path)).collect();
        assert_eq!(
            disks,
            [("data", data), ("archive", data)].map(|(what, it)| (what.to_owned(), it.to_owned()))
        );
        assert_eq!(run(tools::DISKS, &[]), "there is no directory /no/data\n");
    }

    #[test]
    fn a_nul_is_refused() {
        assert_eq!(script(RUN, &["a\0b"]), None);
    }
}

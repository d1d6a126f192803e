//! Scripts for what people look at and do beside the decisions.
//!
//! pgherd must not be flooded, and what was begun must not die of nobody listening any more: so what a program writes is bounded on the
//! server itself, and what is beyond that is read there, too.

use super::needs;

/// Runs a command, passes on no more of its output than `most` pieces of 1 KiB, and ends as it does.
macro_rules! bounded {
    () => {
        r#"
bounded() {
  exec 4>&1
  ended=$({
    { "$@" 2>&1 3>&- 4>&-; echo $? >&3; } |
      { dd bs=1024 count="$most" 2>/dev/null; left=$(wc -c); [ "$left" -eq 0 ] || printf '\n... and %s bytes more\n' "$left"; } >&4 3>&-
  } 3>&1)
  exec 4>&-
  return "$ended"
}
"#
    };
}

/// Runs a command that only looks, and that is ended on the server, too, if it takes too long.
macro_rules! look {
    () => {
        concat!(
            needs!(),
            bounded!(),
            r#"
look() {
  needs "$1" timeout dd || return 127
  most=256
  bounded timeout -k 1 8 "$@"
  status=$?
  case $status in 124|137) echo "$1 has not ended within 8 seconds" ;; esac
  return $status
}
"#
        )
    };
}

/// What runs under supervisord. Exit 0 also where there is none that answers, which it says then: `supervisorctl` ends with 3 where not all
/// programs run, and otherwise where it reaches nobody.
pub(in crate::executor) const PROGRAMS: &str = concat!(
    look!(),
    r#"
command -v supervisorctl >/dev/null || { echo "no supervisord there"; return 0; }
look supervisorctl status
status=$?
case $status in
  0|3) ;;
  124|127|137) return $status ;;
  *) echo "no supervisord there that this user can ask" ;;
esac
return 0
"#
);

/// The disks of the data directory, and of archive and backups where the session's environment names them.
pub(in crate::executor) const DISKS: &str = concat!(
    needs!(),
    r#"
needs df timeout || return 127
[ -d "$data" ] || { echo "there is no directory $data"; return 3; }
disk() {
  [ -d "$2" ] || return 0
  printf 'disk %s %s\n' "$1" "$2"
  timeout -k 1 3 df -P -B1 "$2" 2>&1 | tail -n 1
}
disk data "$data"
disk archive "${PGARCHIVE:-}"
disk backup "${PGBACKUP:-}"
return 0
"#
);

/// repmgr's checks. It ends with 25 where one of them is not passed.
pub(in crate::executor) const CHECKS: &str = concat!(
    look!(),
    r#"
look "$@"
status=$?
[ $status -ne 25 ] || return 0
return $status
"#
);

macro_rules! needs_backup {
    () => {
        r#"
command -v backup >/dev/null ||
  { echo "there is no program backup there, as pgherd's image of PostgreSQL has it: nothing is known of backups"; return 127; }
"#
    };
}

/// Which backups there are.
pub(in crate::executor) const BACKUPS: &str = concat!(look!(), needs_backup!(), "look backup list\n");

/// Makes, removes or restores a backup: the arguments are those of `backup`.
pub(in crate::executor) const BACKUP: &str = concat!(
    needs!(),
    bounded!(),
    needs_backup!(),
    "needs dd || return 127\nmost=4096\nbounded backup \"$@\"\n"
);

/// Runs the arguments as one command.
pub(in crate::executor) const RUN: &str =
    concat!(needs!(), bounded!(), "needs \"$1\" dd || return 127\nmost=4096\nbounded \"$@\"\n");

/// Does a server run? It has its data directory as its working directory.
macro_rules! runs {
    () => {
        r#"
runs() {
  postmaster=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  [ -n "$postmaster" ] && [ "/proc/$postmaster/cwd" -ef "$data" ]
}
"#
    };
}

/// Stops the server with the command that the arguments are, and waits until it is down.
/// Exit 0: it is. 3: none ran.
///
/// That is not noted as a stop of pgherd's own: whoever has it stopped wants it to be down, and it is not to be brought back.
pub(in crate::executor) const STOP_FOR_GOOD: &str = concat!(
    needs!(),
    bounded!(),
    runs!(),
    r#"
was=$1
shift
needs "$1" dd || return 127
if [ "$was" = standby ] && [ ! -e "$data/standby.signal" ]; then
  echo "it was a standby, and has been promoted since: it is not stopped"
  return 3
fi
ran=yes
runs || ran=
most=4096
bounded "$@" || {
  status=$?
  [ -n "$ran" ] || { echo "no server runs in $data"; return 3; }
  runs && { echo "it was not stopped"; return $status; }
}
round=0
while runs; do
  [ $round -lt 5000 ] || { echo "it is still stopping"; return 4; }
  sleep 0.1
  round=$((round + 1))
done
echo "it is down, and its state is: $(pg_controldata -D "$data" 2>&1 | sed -n 's/^Database cluster state: *//p')"
return 0
"#
);

/// Starts the server. Arguments: the primary that there is, in words, or empty; and the command.
/// Exit 0: it was started. 3: it was not, since it runs, or would be a second primary.
///
/// What the command writes is not seen: the server that it leaves behind would keep that open.
pub(in crate::executor) const START: &str = concat!(
    needs!(),
    runs!(),
    r#"
why=$1
shift
needs "$1" || return 127
if runs; then echo "it runs already"; return 3; fi
if [ -n "$why" ] && [ -s "$data/PG_VERSION" ] && [ ! -e "$data/standby.signal" ]; then
  echo "it is no standby, and $why: it would take writes that are lost later. Rejoin it instead"
  return 3
fi
"$@" >/dev/null 2>&1 || { status=$?; echo "it could not be started: what its log says is not seen from here"; return $status; }
echo "it is started"
return 0
"#
);

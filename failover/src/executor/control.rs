//! What a server's control file says once it is down, and its WAL.

use std::sync::Arc;

use pgherd_health::{Branch, Lsn, TimelineHistory, TimelineId, parse_history};

use super::ran::{Failure, Ran, excerpt, judge};
use crate::{Ended, Outcome};

/// Where the last record of a server begins that was shut down as a primary, by its control file.
fn shut_down(said: &str) -> Option<Lsn> {
    let clean = field(said, "Database cluster state")? == "shut down";
    clean.then(|| field(said, "Latest checkpoint location")?.parse().ok()).flatten()
}

fn state(said: &str) -> String {
    field(said, "Database cluster state").map_or_else(|| excerpt(said), str::to_owned)
}

fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// How a clean stop ended, by what `pg_controldata` says of the server afterwards.
pub(super) fn stopped(ran: Result<Ran, Failure>, unchanged: &[u32]) -> Outcome {
    let said = ran.as_ref().map_or_else(|_| String::new(), |ran| ran.output.clone());
    match judge(ran, unchanged) {
        Outcome::Done => shut_down(&said).map_or_else(
            || Outcome::Unknown(format!("it is down, and its state is {}", state(&said))),
            |checkpoint| Outcome::Stopped { checkpoint },
        ),
        outcome => outcome,
    }
}

/// The exit status of [`super::shell::RECALL`] where no pgherd has ended the server.
const NOT_STOPPED: u32 = 3;

/// What came of the question whether a pgherd has ended a server.
pub(super) fn recalled(ran: Result<Ran, Failure>) -> Outcome {
    match ran {
        Ok(Ran { status: 0, output }) => last_words(&output).unwrap_or_else(Outcome::Failed),
        Ok(Ran { status: NOT_STOPPED, .. }) => Outcome::Done,
        ran => judge(ran, &[]),
    }
}

fn last_words(said: &str) -> Result<Outcome, String> {
    let Told { word, control, branch, last } = told(said)?;
    let end = || end_of_wal(control, last).ok_or_else(|| unclear(said));
    let ended = match word {
        "stopped" => Ended::ShutDown { checkpoint: shut_down(control).ok_or_else(|| unclear(said))? },
        "fenced" => Ended::Fenced { end: end()?, standby: false },
        "standby" => Ended::Fenced { end: end()?, standby: true },
        _ => return Err(unclear(said)),
    };
    Ok(Outcome::Recalled { branch, ended })
}

/// The exit statuses of [`super::shell::REMAINS`] where a rewind was interrupted, and where the server is a standby.
const INTERRUPTED: u32 = 3;
const A_STANDBY: u32 = 5;

/// What a server has that is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// Its timeline, and the end of its WAL.
    Told(Branch, Lsn),
    /// A rewind was cut off in it: there is no telling.
    Interrupted(String),
    /// It could not be told of a standby, which has written nothing itself.
    OfStandby(String),
    /// It could not be told.
    Untold(String),
}

/// What came of the question what a server has that is down.
pub(super) fn remains(ran: Result<Ran, Failure>) -> Remains {
    match ran {
        Ok(Ran { status: 0, output }) => {
            let whole = told(&output).and_then(|Told { control, branch, last, .. }| {
                Ok((branch, end_of_wal(control, last).ok_or_else(|| unclear(&output))?))
            });
            match whole {
                Ok((branch, end)) => Remains::Told(branch, end),
                Err(why) if output.starts_with("standby ") => Remains::OfStandby(why),
                Err(why) => Remains::Untold(why),
            }
        }
        Ok(Ran { status: INTERRUPTED, output }) => Remains::Interrupted(excerpt(&output)),
        Ok(Ran { status: A_STANDBY, output }) => Remains::OfStandby(excerpt(&output)),
        ran => Remains::Untold(judge(ran, &[]).to_string()),
    }
}

fn unclear(said: &str) -> String {
    format!("it cannot be told where it ends: {}", excerpt(said))
}

/// What the host of a server tells that is down.
struct Told<'a> {
    /// How it was ended.
    word: &'a str,
    /// What stands in the control file.
    control: &'a str,
    branch: Branch,
    /// The last record of its WAL.
    last: &'a str,
}

fn told(said: &str) -> Result<Told<'_>, String> {
    let mut parts = said.splitn(4, "\n--\n");
    let mut next = || parts.next().ok_or_else(|| unclear(said));
    let (first, control, history, last) = (next()?, next()?, next()?, next()?);
    let (word, number) = first.rsplit('\n').next().and_then(|it| it.split_once(' ')).unwrap_or_default();
    let timeline = TimelineId(number.trim().parse().map_err(|_| unclear(said))?);
    let first = timeline == TimelineId(1);
    let history = if first { TimelineHistory::default() } else { parse_history(timeline, history)? };
    Ok(Told { word, control, branch: Branch { timeline, history: Arc::new(history) }, last })
}

/// Where the last record ends, as `pg_waldump` shows it.
fn end_of_wal(control: &str, last: &str) -> Option<Lsn> {
    let size = |name| field(control, name)?.parse().ok().filter(|size| *size > LONG_HEADER);
    let pages = Pages { page: size("WAL block size")?, segment: size("Bytes per WAL segment")? };
    let mut parts = last.split(',').map(str::trim);
    let length = parts.find_map(|part| part.split_once("len (rec/tot):"))?.1.split_once('/')?.1;
    let begins: Lsn = parts.find_map(|part| part.strip_prefix("lsn:"))?.trim().parse().ok()?;
    pages.end_of(begins, length.trim().parse::<u32>().ok()?)
}

/// What stands at the beginning of a page of WAL, and of the first one of a segment.
const HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;
/// Records begin at multiples of it.
const ALIGNMENT: u64 = 8;

/// How WAL is laid out.
struct Pages {
    page: u64,
    segment: u64,
}

impl Pages {
    /// Where a record ends that begins there and is so long: a page that it goes on in has a header of its own.
    fn end_of(&self, begins: Lsn, length: u32) -> Option<Lsn> {
        let mut at = begins.0;
        let mut left = u64::from(length).next_multiple_of(ALIGNMENT);
        loop {
            let room = self.page - at % self.page;
            if left <= room {
                return at.checked_add(left).map(Lsn);
            }
            left -= room;
            at = at.checked_add(room)?;
            at = at.checked_add(if at.is_multiple_of(self.segment) { LONG_HEADER } else { HEADER })?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_primary_that_was_shut_down_says_where_it_ends() {
        let said = |state: &str| {
            format!(
                "waiting\nDatabase cluster state:               {state}\n\
                 Latest checkpoint location:           0/3000028\nLatest checkpoint's REDO location: 0/0\n"
            )
        };
        assert_eq!(shut_down(&said("shut down")), Some(Lsn(0x0300_0028)));
        for state in ["shut down in recovery", "in production", "shutting down"] {
            assert_eq!(shut_down(&said(state)), None, "{state}");
        }
        assert_eq!(shut_down("Database cluster state: shut down\n"), None);
    }

    const CONTROL: &str = "Latest checkpoint location: 0/3000028\nLatest checkpoint's TimeLineID: 1\n\
                           WAL block size: 8192\nBytes per WAL segment: 16777216";

    fn output(word: &str, state: &str, history: &str, last: &str) -> Result<Ran, Failure> {
        let output =
            format!("{word} 2\n--\nDatabase cluster state: {state}\n{CONTROL}\n--\n{history}\n--\n{last}\n");
        Ok(Ran { status: 0, output })
    }

    const HISTORY: &str = "1\t0/2000000\tno recovery target\n";

    #[test]
    fn a_server_is_recalled_with_the_whole_history_of_its_timeline_or_not_at_all() {
        let asked = |state, history| recalled(output("stopped", state, history, ""));
        let Outcome::Recalled { branch, ended } = asked("shut down", HISTORY) else { panic!("it is told") };
        assert_eq!(branch.to_string(), "timeline 2 (forked from 1 at 0/2000000)");
        assert_eq!(ended, Ended::ShutDown { checkpoint: Lsn(0x0300_0028) });
        for history in ["", "nonsense\n", "7\t0/2000000\n"] {
            assert!(matches!(asked("shut down", history), Outcome::Failed(_)), "{history}");
        }
        assert!(matches!(asked("in production", HISTORY), Outcome::Failed(_)), "where it ends is not known");
        let not = Ran { status: NOT_STOPPED, output: String::new() };
        assert_eq!(recalled(Ok(not)), Outcome::Done);
    }

    const RECORD: &str = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03FFFF28, \
                          prev 0/03FFFEF0, desc: SWITCH ";

    #[test]
    fn a_server_that_was_fenced_is_never_taken_for_one_that_was_shut_down_for_another() {
        // A rejoin may have brought it that far.
        for word in ["fenced", "standby", "primary", ""] {
            let outcome = recalled(output(word, "shut down", HISTORY, ""));
            assert!(matches!(outcome, Outcome::Failed(_)), "{word}: {outcome:?}");
        }
        for (word, standby) in [("fenced", false), ("standby", true)] {
            let outcome = recalled(output(word, "shut down", HISTORY, RECORD));
            let wanted = Ended::Fenced { end: Lsn(0x03FF_FF40), standby };
            assert!(matches!(outcome, Outcome::Recalled { ended, .. } if ended == wanted), "{outcome:?}");
        }
    }

    #[test]
    fn what_a_server_has_is_told_or_it_is_said_why_not() {
        let Remains::Told(branch, end) = remains(output("primary", "in production", HISTORY, RECORD)) else {
            panic!("it is told")
        };
        assert_eq!((branch.timeline, end), (TimelineId(2), Lsn(0x03FF_FF40)));
        for (history, record) in [(HISTORY, ""), ("", RECORD)] {
            let of = |word| remains(output(word, "in production", history, record));
            assert!(matches!(of("primary"), Remains::Untold(_)), "{:?}", of("primary"));
            assert!(matches!(of("standby"), Remains::OfStandby(_)), "{:?}", of("standby"));
        }
        let exits = |status| remains(Ok(Ran { status, output: "why\n".to_owned() }));
        assert_eq!(exits(3), Remains::Interrupted("why".to_owned()));
        assert_eq!(exits(5), Remains::OfStandby("why".to_owned()));
        for status in [1, 4, 127] {
            assert!(matches!(exits(status), Remains::Untold(_)), "{status}");
        }
    }

    #[test]
    fn a_server_that_was_fenced_ends_where_its_last_record_does() {
        let line = |length: u32, lsn: &str| {
            format!(
                "rmgr: Transaction len (rec/tot):     34/{length:6}, tx:        725, lsn: {lsn}, prev 0/1E03AC48, \
                 desc: COMMIT 2026-11-30 14:27:34.045232 UTC"
            )
        };
        let asked = |last: &str| recalled(output("fenced", "in production", HISTORY, last));
        for (length, lsn, end) in [
            (34, "0/1E03ACA8", 0x1E03_ACD0),
            (40, "0/1E03BFD8", 0x1E03_C000),
            (41, "0/1E03BFD8", 0x1E03_C020),
            (48, "0/1EFFFFD8", 0x1F00_0030),
            (9000, "16/B374C018", 0x16_B374_E358),
        ] {
            let Outcome::Recalled { ended, .. } = asked(&line(length, lsn)) else { panic!("{lsn}") };
            assert_eq!(ended, Ended::Fenced { end: Lsn(end), standby: false }, "{length} from {lsn}");
        }
        for last in ["nonsense", "lsn: 0/1E03ACA8", "len (rec/tot): 34/ 34, tx: 1, lsn: 1E03ACA8, prev 0/0"] {
            assert!(matches!(asked(last), Outcome::Failed(_)), "{last}");
        }
    }
}

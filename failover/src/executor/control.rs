//! What a server's control file says once it is down.

use std::sync::Arc;

use pgherd_health::{Branch, Lsn, TimelineHistory, TimelineId, parse_history};

use super::ran::{Failure, Ran, excerpt, judge};
use crate::Outcome;

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

/// The exit status of [`super::shell::RECALL`] where no pgherd has stopped the server.
const NOT_STOPPED: u32 = 3;

/// What came of the question whether a pgherd has shut a server down.
pub(super) fn recalled(ran: Result<Ran, Failure>) -> Outcome {
    match ran {
        Ok(Ran { status: 0, output }) => last_words(&output).unwrap_or_else(Outcome::Failed),
        Ok(Ran { status: NOT_STOPPED, .. }) => Outcome::Done,
        ran => judge(ran, &[]),
    }
}

fn last_words(said: &str) -> Result<Outcome, String> {
    let unclear = || format!("it cannot be told where it was shut down: {}", excerpt(said));
    let (control, history) = said.split_once("\n--\n").ok_or_else(unclear)?;
    let checkpoint = shut_down(control).ok_or_else(unclear)?;
    let number = field(control, "Latest checkpoint's TimeLineID").and_then(|text| text.parse().ok());
    let timeline = TimelineId(number.ok_or_else(unclear)?);
    let first = timeline == TimelineId(1);
    let history = if first { TimelineHistory::default() } else { parse_history(timeline, history)? };
    Ok(Outcome::Recalled { branch: Branch { timeline, history: Arc::new(history) }, checkpoint })
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

    fn asked(history: &str) -> Outcome {
        let control = "Database cluster state: shut down\nLatest checkpoint location: 0/3000028\n\
                       Latest checkpoint's TimeLineID: 2";
        recalled(Ok(Ran { status: 0, output: format!("{control}\n--\n{history}") }))
    }

    #[test]
    fn a_server_is_recalled_with_the_whole_history_of_its_timeline_or_not_at_all() {
        let Outcome::Recalled { branch, checkpoint } = asked("1\t0/2000000\tno recovery target\n") else {
            panic!("it is told")
        };
        assert_eq!(
            (branch.to_string().as_str(), checkpoint.0),
            ("timeline 2 (forked from 1 at 0/2000000)", 0x0300_0028)
        );
        for history in ["", "nonsense\n", "7\t0/2000000\n"] {
            assert!(matches!(asked(history), Outcome::Failed(_)), "{history}");
        }
        let not = Ran { status: NOT_STOPPED, output: String::new() };
        assert_eq!(recalled(Ok(not)), Outcome::Done);
    }
}

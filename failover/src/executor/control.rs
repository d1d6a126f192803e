//! What a server's control file says once it is down.

use pgherd_health::Lsn;

use super::ran::{Failure, Ran, excerpt, judge};
use crate::Outcome;

/// Where the last record of a server begins that was shut down as a primary, by its control file.
fn shut_down(said: &str) -> Option<Lsn> {
    let of = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let clean = of("Database cluster state")?.trim() == "shut down";
    clean.then(|| of("Latest checkpoint location")?.trim().parse().ok()).flatten()
}

/// How a clean stop ended, by what `pg_controldata` says of the server afterwards.
pub(super) fn stopped(ran: Result<Ran, Failure>, unchanged: &[u32]) -> Outcome {
    let said = ran.as_ref().map_or_else(|_| String::new(), |ran| ran.output.clone());
    match judge(ran, unchanged) {
        Outcome::Done => shut_down(&said).map_or_else(
            || Outcome::Unknown(format!("it is down, and says: {}", excerpt(&said))),
            |checkpoint| Outcome::Stopped { checkpoint },
        ),
        outcome => outcome,
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
}

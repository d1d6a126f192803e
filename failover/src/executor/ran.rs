//! How a program ended that was run for a step, and what that says of the step.

use crate::Outcome;

/// Why a program has no exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no way to where it was to run: the step can be tried in another way.
    Unreachable(String),
    /// It was not run.
    NotStarted(String),
    /// It was begun, and then lost: it may run, or have run.
    Lost(String),
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// Its exit status.
    pub(super) status: u32,
    /// What it wrote.
    pub(super) output: String,
}

/// A status of 0 says "done", one of `unchanged` that nothing was changed; any other leaves it open.
pub(super) fn judge(ran: Result<Ran, Failure>, unchanged: &[u32]) -> Outcome {
    match ran {
        Ok(Ran { status: 0, .. }) => Outcome::Done,
        Ok(Ran { status, output }) => {
            let reason = format!("exit status {status}: {}", excerpt(&output));
            if unchanged.contains(&status) { Outcome::Failed(reason) } else { Outcome::Unknown(reason) }
        }
        Err(Failure::Unreachable(reason) | Failure::NotStarted(reason)) => Outcome::Failed(reason),
        Err(Failure::Lost(reason)) => Outcome::Unknown(reason),
    }
}

/// The last lines of a program's output, without passwords.
pub(super) fn excerpt(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ");
    let mut shown = String::new();
    for (index, part) in last.split("password=").enumerate() {
        if index == 0 {
            shown.push_str(part);
        } else {
            let end = part.find([' ', ';']).unwrap_or(part.len());
            shown.push_str("password=...");
            shown.push_str(part.get(end..).unwrap_or_default());
        }
    }
    shown.chars().take(600).collect()
}

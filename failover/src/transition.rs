//! The table: every transition with its event, guard, commands and reason.

use std::time::Instant;

use crate::{Machine, StateName, confirm, discover, freeze, hold, promote, steady, switchover, verify};

/// Which events a transition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Any: its guard is on what is known, whoever brought it.
    Any,
    /// A probe's outcome or the time.
    Look,
    /// The end of a command.
    Ended,
    /// An operator's order.
    Order,
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Transition {
    /// Its name, unique.
    pub name: &'static str,
    /// The state that it leaves.
    pub from: StateName,
    /// The events that can cause it.
    pub on: On,
    /// Its guard in words.
    pub guard: &'static str,
    /// The state that it leads to; the same one for a step within a state.
    pub to: StateName,
    /// The commands that it gives, in words.
    pub commands: &'static str,
    /// Why it is there.
    pub reason: &'static str,
    /// The guard: what was seen, if it holds.
    pub(crate) when: fn(&Machine, Instant) -> Option<String>,
    /// The effect.
    pub(crate) then: fn(&mut Machine, Instant, &str),
}

impl std::fmt::Debug for Transition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Transition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, from, on, guard, to, commands, reason, .. } = self;
        write!(f, "{from} --[{on:?}: {guard}]--> {to} ({name}): {commands}; {reason}")
    }
}

/// The whole table. Within a state the first row whose guard holds is taken, again and again until none does: then the
/// machine stays where it is, which [`RESTS`] gives a reason for.
pub fn transitions() -> impl Iterator<Item = &'static Transition> {
    let states = [
        discover::ROWS,
        steady::ROWS,
        switchover::ROWS,
        confirm::ROWS,
        freeze::ROWS,
        promote::ROWS,
        verify::ROWS,
        hold::ROWS,
    ];
    states.into_iter().flatten()
}

/// Why each state may stay as it is on every event that no row of it takes.
pub const RESTS: &[(StateName, &str)] = &[
    (StateName::Discover, "servers have yet to answer, or a primary may yet appear; every wait has a bound"),
    (StateName::Steady, "the primary answers; what standbys need is done in the background"),
    (StateName::Switchover, "a command is under way on the primary; each has a deadline"),
    (StateName::Suspect, "one failure proves nothing; every kind of silence has a bound"),
    (StateName::Confirm, "a guard waits for a look, for ssh or for a WAL receiver's own time-out"),
    (StateName::Fence, "the fence or its wait is not over"),
    (StateName::Freeze, "a standby has yet to report that it receives nothing; its command has a deadline"),
    (StateName::Elect, "never stays: somebody is chosen or the hold says why not"),
    (StateName::Promote, "a lock, a look or the promotion is under way; each has a deadline"),
    (StateName::Verify, "the write is under way; it has a deadline"),
    (StateName::Swap, "never stays"),
    (StateName::Hold, "nothing has changed that would let it be decided; an operator can"),
    (StateName::Repoint, "one command a server at a time; then what is seen decides"),
    (StateName::Rejoin, "one command a server at a time; then what is seen decides"),
];

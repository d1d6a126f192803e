//! The table as a page.

use std::fmt::Write as _;

use crate::{RESTS, StateName, transitions};

/// The table as a page in Markdown: a diagram in Mermaid, then every row in its order.
#[must_use]
pub fn explain() -> String {
    let mut page = String::from(
        "# The failover table\n\n\
         Printed from the table that the decision machine runs (`failover/src/transition.rs`); a test keeps it so. Within a\n\
         state the first row whose guard holds is taken, again and again until none does. Repoint and Rejoin go on beside the\n\
         states, one command a server at a time.\n\n\
         The guards of a failover, by the letters that the rows use:\n\n\
         - (a) the old primary neither answers pgherd nor rejects its login; a refused connection is no answer\n\
         - (b) no reachable standby still hears it\n\
         - (c) the standbys that can be seen have every commit that waited for standbys\n\
         - (d) the best candidate is no further behind than `failover.max_data_loss`, where no commit waited\n\
         - (e) not paused, not `failover.mode = \"manual\"`, not within `failover.min_interval` of the last promotion\n\
         - (f) no repmgrd decides\n\n\
         Besides, every other server must have been asked since the primary failed, and must have answered or be down.\n\n```mermaid\nstateDiagram-v2\n    [*] --> Discover\n",
    );
    let mut edges: Vec<(StateName, StateName)> = Vec::new();
    for row in transitions().filter(|row| row.from != row.to) {
        if !edges.contains(&(row.from, row.to)) {
            edges.push((row.from, row.to));
        }
    }
    for (from, to) in edges {
        let _ = writeln!(page, "    {from} --> {to}");
    }
    page.push_str("```\n");
    for (state, rest) in RESTS {
        let _ = write!(page, "\n## {state}\n\n");
        let rows: Vec<_> = transitions().filter(|row| row.from == *state).collect();
        if !rows.is_empty() {
            page.push_str("| on | guard | to | commands | why | name |\n|---|---|---|---|---|---|\n");
        }
        for row in rows {
            let (guard, why) = (row.guard, row.reason);
            let _ = writeln!(
                page,
                "| {:?} | {guard} | {} | {} | {why} | {} |",
                row.on, row.to, row.commands, row.name
            );
        }
        let _ = writeln!(page, "\nIt rests: {rest}.");
    }
    page
}

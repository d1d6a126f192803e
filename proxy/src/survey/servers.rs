//! What there is to say of each server.

use pgherd_health::{Member, MemberState, NodeId, Position, Standing, Topology};

use crate::server::table::{Table, Target};

/// What the server says that it is, when it last said something.
pub(crate) fn role(member: &Member) -> &'static str {
    match member.report().map(|report| &report.position) {
        Some(Position::Primary { .. }) => "primary",
        Some(Position::Standby { .. }) => "standby",
        None => "unknown",
    }
}

/// Whether it answers, or what is wrong with it.
pub(crate) fn state(member: &Member) -> String {
    match &member.state {
        MemberState::Unknown => "unknown".to_owned(),
        MemberState::Primary | MemberState::Standby => "up".to_owned(),
        MemberState::Refused => "refuses connections".to_owned(),
        MemberState::StartingUp => "starting up".to_owned(),
        MemberState::ShuttingDown => "shutting down".to_owned(),
        MemberState::Unwilling { sqlstate, message } => format!("unwilling: {message} ({sqlstate})"),
        MemberState::TimedOut => "does not answer".to_owned(),
        MemberState::Foreign { system_identifier } => format!("of another cluster: {system_identifier}"),
    }
}

/// What statements the table sends there; or why none.
pub(crate) fn place(
    node: NodeId,
    member: Option<&Member>,
    table: &Table,
    topology: &Topology,
) -> (&'static str, Option<String>) {
    match &table.writes {
        Target::Open(server) if server.node.id == node => return ("writes", None),
        Target::Held { keep: Some(server), reason } if server.node.id == node => {
            return ("open transactions", Some(reason.to_string()));
        }
        _ => {}
    }
    if table.readable.iter().any(|server| server.node.id == node) {
        return ("reads", None);
    }
    let is_false = topology.leadership.false_primaries().iter().any(|it| it.node == node);
    let why = match member.map(|member| (&member.standing, member.is_alive())) {
        None => "it was not asked yet".to_owned(),
        Some((_, false)) => "it does not answer".to_owned(),
        Some(_) if is_false => "another primary supersedes it".to_owned(),
        Some((Standing::Superseded { divergence, .. }, _)) => {
            format!("it has {divergence} bytes that are not of the lineage")
        }
        Some((Standing::Diverged, _)) => "it is of another lineage".to_owned(),
        Some((Standing::Ahead, _)) => "it has left the lineage that is served".to_owned(),
        Some((Standing::Unknown, _)) => "its lineage is not known".to_owned(),
        Some((Standing::OnLineage, _)) => match &table.writes {
            Target::Held { reason, .. } => reason.to_string(),
            Target::Open(_) => "it is not fit to be read".to_owned(),
        },
    };
    ("no", Some(why))
}

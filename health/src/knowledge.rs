//! What the probes have told so far, server by server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::{Branch, Lsn, Node, NodeId, Position, ProbeOutcome, Report};

/// How the last probe of a server ended; the report itself is in [`Seen::report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It answered.
    Answered,
    /// Nobody listens there.
    Refused(String),
    /// 57P03 while it starts.
    StartingUp,
    /// It is being stopped.
    ShuttingDown,
    /// Alive but unwilling.
    Unwilling {
        /// SQLSTATE of the refusal.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// No answer in time.
    TimedOut,
}

/// A report and when it was asked for: it says nothing of any later time than `asked_at`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated {
    /// When the question was sent.
    pub asked_at: Instant,
    /// When the answer was there.
    pub answered_at: Instant,
    /// The answer.
    pub report: Report,
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When the last probe was sent.
    pub asked_at: Instant,
    /// When its outcome was known.
    pub answered_at: Instant,
    /// How it ended.
    pub contact: Contact,
    /// `asked_at` of the first probe of the present row of equal outcomes.
    pub since: Instant,
    /// `asked_at` of the first probe that failed after the last that was answered.
    pub failing_since: Option<Instant>,
    /// Probes that failed in a row.
    pub failures: u32,
    /// Probes that were refused in a row, nothing else between them.
    pub refusals: u32,
    /// It was down or starting since its last answer: something else may stand in its place.
    pub restarted: bool,
    /// Its last answer.
    pub report: Option<Arc<Dated>>,
    /// Its last answer as a primary; kept while pgherd runs.
    pub as_primary: Option<Arc<Dated>>,
    /// Since when its furthest position is known to be what it is.
    pub reached_at: Instant,
    /// The position before that one in the same run, and since when it was known: of a standby that receives all the time, the
    /// last position is always newer than the question to its primary. One is enough where both are asked as often.
    pub reached_before: Option<(Lsn, Instant)>,
    /// In this run it had more WAL than the primary of its own branch had ever written: it has it from somebody else,
    /// since two servers that are promoted at one position have equal histories.
    pub stray: bool,
}

/// The lineage that the herd is known to be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster.
    pub system_identifier: u64,
    /// The timeline of its primary.
    pub branch: Branch,
}

/// What a server is known to have written beside the lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Void {
    /// This branch: an operator has accepted its loss.
    Branch(Branch),
    /// The timeline that grew from this branch by a promotion that was given up, if it took place.
    GrownFrom(Branch),
}

/// All that the probes have told, and the lineage that was accepted on its strength.
#[derive(Clone, Debug)]
pub struct Knowledge {
    nodes: Arc<Vec<Node>>,
    configured_identifier: Option<u64>,
    accepted: Option<Lineage>,
    trusted: Option<(NodeId, Branch)>,
    disowned: BTreeMap<NodeId, Void>,
    seen: BTreeMap<NodeId, Seen>,
}

impl Knowledge {
    /// Nothing is known yet of `nodes`. `system_identifier` is the configured one.
    #[must_use]
    pub fn new(nodes: Vec<Node>, system_identifier: Option<u64>) -> Self {
        Self {
            nodes: Arc::new(nodes),
            configured_identifier: system_identifier,
            accepted: None,
            trusted: None,
            disowned: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// These are the servers from now on. What is known of one that is not among them any more, or is another under the same
    /// number, is forgotten.
    pub fn set_nodes(&mut self, nodes: Vec<Node>) {
        let stays = |id: NodeId| {
            let of = |nodes: &[Node]| nodes.iter().find(|node| node.id == id).cloned();
            of(&nodes).zip(of(&self.nodes)).is_some_and(|(new, old)| new.is_same(&old))
        };
        self.seen.retain(|id, _| stays(*id));
        self.disowned.retain(|id, _| stays(*id));
        self.trusted = self.trusted.take().filter(|(id, _)| stays(*id));
        self.nodes = Arc::new(nodes);
    }

    /// Takes in the outcome of one probe; false if it was older than what is known, or of an unknown server.
    pub fn observe(
        &mut self,
        node: NodeId,
        asked_at: Instant,
        answered_at: Instant,
        outcome: ProbeOutcome,
    ) -> bool {
        let before = self.seen.get(&node);
        let late = before.is_some_and(|seen| asked_at < seen.asked_at);
        if late || !self.nodes.iter().any(|known| known.id == node) {
            return false;
        }
        let seen = follow_up(before, asked_at, answered_at, outcome);
        self.seen.insert(node, seen);
        self.find_strays(node);
        self.forgive(node);
        true
    }

    /// A disowned server that answers as a standby, and not of what it was disowned for, was not promoted after all; one
    /// that streams on the accepted lineage, which may have the same history, has been rewound or cloned.
    fn forgive(&mut self, node: NodeId) {
        let answer = self.seen.get(&node).filter(|seen| seen.contact == Contact::Answered);
        let Some(dated) = answer.and_then(|seen| seen.report.as_ref()) else { return };
        let branch = Branch::of(&dated.report);
        let Position::Standby { receiver, .. } = &dated.report.position else { return };
        let accepted = self.accepted.as_ref().is_some_and(|of| of.branch == branch);
        if !self.disowns(node, &branch) || (accepted && receiver.is_some()) {
            self.disowned.remove(&node);
        }
    }

    /// Compares the standbys of `primary`'s branch with what it has just said.
    fn find_strays(&mut self, primary: NodeId) {
        let answered = self.seen.get(&primary).filter(|seen| seen.contact == Contact::Answered);
        let Some(dated) = answered.and_then(|seen| seen.report.clone()) else { return };
        let Position::Primary { insert, .. } = dated.report.position else { return };
        let (branch, cluster) = (Branch::of(&dated.report), dated.report.system_identifier);
        let of_branch = |seen: &Seen| {
            let answers = seen.contact == Contact::Answered;
            let same = |of: &Report| of.system_identifier == cluster && Branch::of(of) == branch;
            seen.report.clone().filter(|of| answers && same(&of.report))
        };
        let primaries = self.seen.values().filter_map(of_branch).filter(|of| of.report.is_writable());
        if primaries.count() > 1 {
            return;
        }
        for seen in self.seen.values_mut() {
            let Some(standby) = of_branch(seen).filter(|of| !of.report.is_writable()) else { continue };
            let reached = [Some((standby.report.furthest(), seen.reached_at)), seen.reached_before];
            seen.stray |= reached.into_iter().flatten().any(|(lsn, at)| lsn > insert && at <= dated.asked_at);
        }
    }

    /// Takes `node`'s last report as the lineage of the herd; false if it never answered.
    pub fn accept(&mut self, node: NodeId) -> bool {
        let Some(report) = self.seen.get(&node).and_then(|seen| seen.report.as_ref()) else { return false };
        let system_identifier = report.report.system_identifier;
        let branch = Branch::of(&report.report);
        // Once somebody else leads, an operator's choice has been overtaken.
        self.trusted = self.trusted.take().filter(|trusted| trusted.0 == node && trusted.1 == branch);
        let continues = self
            .accepted
            .as_ref()
            .is_none_or(|before| before.branch == branch || branch.supersedes(&before.branch));
        if !continues {
            self.disowned.clear();
        }
        self.disowned.remove(&node);
        self.accepted = Some(Lineage { system_identifier, branch });
        true
    }

    /// What `node` has written on `of` counts for nothing: it was given up for the server that is accepted.
    pub fn disown(&mut self, node: NodeId, of: Void) {
        self.disowned.insert(node, of);
    }

    /// True if `node` has written `branch` for nothing.
    #[must_use]
    pub fn disowns(&self, node: NodeId, branch: &Branch) -> bool {
        match self.disowned.get(&node) {
            Some(Void::Branch(of)) => branch == of,
            Some(Void::GrownFrom(parent)) => branch.grew_from(parent),
            None => false,
        }
    }

    /// An operator's word: of several forks, this server's branch is the right one, as long as it is on it.
    pub fn trust(&mut self, node: NodeId) -> bool {
        let report = self.seen.get(&node).and_then(|seen| seen.report.as_ref());
        let branch = report.map(|dated| (node, Branch::of(&dated.report)));
        let known = branch.is_some();
        self.disowned.remove(&node);
        self.trusted = branch.or(self.trusted.take());
        known
    }

    /// Takes back what [`Knowledge::trust`] was told.
    pub fn distrust(&mut self) {
        self.trusted = None;
    }

    /// The server named by [`Knowledge::trust`].
    #[must_use]
    pub fn trusted(&self) -> Option<NodeId> {
        self.trusted.as_ref().map(|(node, _)| *node)
    }

    /// True if an operator said that `node` on `branch` is the primary.
    #[must_use]
    pub fn trusts(&self, node: NodeId, branch: &Branch) -> bool {
        self.trusted.as_ref().is_some_and(|(trusted, on)| *trusted == node && on == branch)
    }

    /// The lineage taken by [`Knowledge::accept`].
    #[must_use]
    pub const fn accepted(&self) -> Option<&Lineage> {
        self.accepted.as_ref()
    }

    /// The configured servers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// As [`Knowledge::nodes`], to be kept.
    #[must_use]
    pub fn shared_nodes(&self) -> Arc<Vec<Node>> {
        Arc::clone(&self.nodes)
    }

    /// Another system identifier is configured, or none.
    pub const fn configure_identifier(&mut self, system_identifier: Option<u64>) {
        self.configured_identifier = system_identifier;
    }

    /// The system identifier that was configured.
    #[must_use]
    pub const fn configured_identifier(&self) -> Option<u64> {
        self.configured_identifier
    }

    /// What is known of one server; none before its first probe ended.
    #[must_use]
    pub fn seen(&self, node: NodeId) -> Option<&Seen> {
        self.seen.get(&node)
    }
}

fn follow_up(before: Option<&Seen>, asked_at: Instant, answered_at: Instant, outcome: ProbeOutcome) -> Seen {
    let mut report = before.and_then(|seen| seen.report.clone());
    let mut as_primary = before.and_then(|seen| seen.as_primary.clone());
    let was = report.clone();
    let contact = match outcome {
        ProbeOutcome::Answered(answer) => {
            let dated = Arc::new(Dated { asked_at, answered_at, report: *answer });
            if dated.report.is_writable() {
                as_primary = Some(Arc::clone(&dated));
            }
            report = Some(dated);
            Contact::Answered
        }
        ProbeOutcome::Refused(why) => Contact::Refused(why),
        ProbeOutcome::StartingUp => Contact::StartingUp,
        ProbeOutcome::ShuttingDown => Contact::ShuttingDown,
        ProbeOutcome::Unwilling { sqlstate, message } => Contact::Unwilling { sqlstate, message },
        ProbeOutcome::TimedOut => Contact::TimedOut,
    };
    // An unwilling server is alive: it neither fails nor says anything new.
    let fails = !matches!(contact, Contact::Answered | Contact::Unwilling { .. });
    let refused = matches!(contact, Contact::Refused(_));
    let restarted = match contact {
        Contact::Answered => false,
        Contact::Refused(_) | Contact::StartingUp | Contact::ShuttingDown => true,
        Contact::Unwilling { .. } | Contact::TimedOut => before.is_some_and(|seen| seen.restarted),
    };
    let run = was.zip(report.as_ref()).filter(|(was, is)| is_same_run(&was.report, &is.report));
    let same_run = run.is_some();
    let was_at = run.as_ref().map(|(was, _)| was.report.furthest());
    let stands = run.is_some_and(|(_, is)| was_at == Some(is.report.furthest()));
    let reached_before = match before {
        Some(seen) if stands => seen.reached_before,
        Some(seen) => was_at.map(|lsn| (lsn, seen.reached_at)),
        None => None,
    };
    let same_kind = before.is_some_and(|seen| same_kind(&seen.contact, &contact));
    Seen {
        asked_at,
        answered_at,
        since: before.filter(|_| same_kind).map_or(asked_at, |seen| seen.since),
        failing_since: fails.then(|| before.and_then(|seen| seen.failing_since).unwrap_or(asked_at)),
        failures: if fails { before.map_or(0, |seen| seen.failures).saturating_add(1) } else { 0 },
        refusals: if refused { before.map_or(0, |seen| seen.refusals).saturating_add(1) } else { 0 },
        contact,
        restarted,
        report,
        as_primary,
        reached_at: before.filter(|_| stands).map_or(answered_at, |seen| seen.reached_at),
        reached_before,
        stray: same_run && before.is_some_and(|seen| seen.stray),
    }
}

fn is_same_run(one: &Report, other: &Report) -> bool {
    let what = |of: &Report| (of.started_at, of.system_identifier, of.is_writable());
    what(one) == what(other) && Branch::of(one) == Branch::of(other)
}

fn same_kind(one: &Contact, other: &Contact) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::{herd, primary, report, standby};

    fn answer(position: Position) -> ProbeOutcome {
        ProbeOutcome::Answered(Box::new(report(1, position, Vec::new())))
    }

    /// Each second both are asked at once; the standby, which has more at each time, is heard first or last.
    fn is_stray(ahead: u64, standby_first: bool) -> bool {
        let begun = Instant::now();
        let mut knowledge = herd(2);
        for second in 0..3 {
            let asked_at = begun + Duration::from_secs(second);
            let answered_at = asked_at + Duration::from_millis(1);
            let lsn = 100 * (second + 1);
            let mut answers = [(NodeId(1), answer(standby(lsn + ahead))), (NodeId(0), answer(primary(lsn)))];
            if !standby_first {
                answers.reverse();
            }
            for (node, outcome) in answers {
                assert!(knowledge.observe(node, asked_at, answered_at, outcome));
            }
        }
        knowledge.seen(NodeId(1)).is_some_and(|seen| seen.stray)
    }

    #[test]
    fn what_a_standby_had_before_it_was_started_again_or_was_another_says_nothing_of_it() {
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        for change in 0..4 {
            let mut knowledge = herd(2);
            let mut now = report(1, standby(250), Vec::new());
            let mut before = report(1, standby(300), Vec::new());
            match change {
                0 => now.started_at = 5,
                1 => before.system_identifier = 2,
                2 => before.position = primary(300),
                _ => {}
            }
            for (second, answer) in [(0, before), (2, now)] {
                knowledge.observe(
                    NodeId(1),
                    at(second),
                    at(second),
                    ProbeOutcome::Answered(Box::new(answer)),
                );
            }
            // Asked before the standby had told of the second position.
            knowledge.observe(NodeId(0), at(1), at(3), answer(primary(200)));
            let stray = knowledge.seen(NodeId(1)).is_some_and(|seen| seen.stray);
            assert_eq!(stray, change == 3, "change {change}");
        }
    }

    #[test]
    fn who_has_more_than_its_primary_ever_wrote_has_strayed_however_fast_it_goes_on_and_whoever_is_heard_first()
     {
        for first in [true, false] {
            assert!(is_stray(101, first));
            assert!(
                !is_stray(100, first),
                "the primary may have written that before it answered the next question"
            );
        }
    }
}

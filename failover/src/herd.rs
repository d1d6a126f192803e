//! Servers that are not configured: those that repmgr has registered come and go by themselves.

use std::time::Instant;

use pgherd_health::{Member, MemberState, Node, NodeId, RepmgrNode, herd, is_fit_directory, witness};

use crate::Machine;
use crate::state::State;

impl Machine {
    /// The servers that are configured.
    #[must_use]
    pub fn configured(&self) -> &[Node] {
        &self.configured
    }

    /// These, and those that were found beside the ones that are configured now.
    pub(crate) fn beside(&self, configured: &[Node]) -> Vec<Node> {
        herd(configured, self.knowledge.nodes(), &[], true)
    }

    /// Takes in whom repmgr has registered, and lets go whom it has not any more, as far as that may be now. Who is only registered
    /// with a server that is not served is watched all the same: to be asked harms nobody, and may show who is the primary. But
    /// only the primary that is served can have a server go.
    pub(crate) fn follow_registrations(&mut self, now: Instant) {
        let wanted = [self.registered(), self.with_strangers()];
        for nodes in wanted.into_iter().flatten() {
            if nodes != self.knowledge.nodes() && self.set_nodes(now, nodes).is_ok() {
                return;
            }
        }
    }

    /// A server that is registered and that nobody watches yet, or is watched twice: until that is put right nothing can be said of
    /// the herd.
    pub(crate) fn unmet(&self) -> Option<String> {
        let nodes = self.with_strangers()?;
        let known = |node: &&Node| self.knowledge.nodes().iter().any(|other| other.is_same(node));
        if let Some(stranger) = nodes.iter().find(|node| !known(node)) {
            return Some(format!("repmgr has registered {stranger}, which is to be asked, too"));
        }
        let twice = self.knowledge.nodes().iter().find(|node| !nodes.iter().any(|other| other.is_same(node)));
        twice.map(|node| format!("{node} is another address of a server that is configured"))
    }

    /// What is said where no server has ever answered.
    pub(crate) fn nobody_known(&self) -> String {
        let alone = self.settings.discover && self.knowledge.nodes().len() == self.configured.len();
        let what = "no server has answered yet";
        if alone {
            format!(
                "{what}; the others are known from its repmgr.nodes only: name more of them in backends.nodes"
            )
        } else {
            what.to_owned()
        }
    }

    /// The herd as the primary that is served has it; none if there is none to ask.
    fn registered(&self) -> Option<Vec<Node>> {
        if !self.settings.discover {
            return Some(herd(&self.configured, self.knowledge.nodes(), &[], false));
        }
        let State::Steady { epoch } = self.state else { return None };
        let primary = self.topology.member(epoch.primary)?;
        let rows = &primary.report().filter(|_| primary.state == MemberState::Primary)?.repmgr_nodes;
        // Without rows repmgr is gone, or shut to us: that says nothing of the servers.
        (!rows.is_empty()).then(|| self.herd_of(rows, false))
    }

    /// The present herd and whoever else is registered, by the best that is known.
    fn with_strangers(&self) -> Option<Vec<Node>> {
        self.settings.discover.then(|| self.herd_of(&witness(&self.knowledge), true))
    }

    fn herd_of(&self, rows: &[RepmgrNode], stays: bool) -> Vec<Node> {
        let mut present = self.knowledge.nodes().to_vec();
        for (node, other) in self.same_servers() {
            let other = present.iter().position(|it| it.id == other).map(|at| present.remove(at));
            if let Some(it) = present.iter_mut().find(|it| it.id == node) {
                it.known_as = other.map(|other| (other.host, other.port));
            }
        }
        let mut nodes = herd(&self.configured, &present, rows, stays);
        for node in nodes.iter_mut().filter(|node| node.discovered.is_some()) {
            let same = self.knowledge.nodes().iter().any(|other| other.is_same(node));
            let report = self.topology.member(node.id).filter(|_| same).and_then(Member::report);
            let told = report.and_then(|report| report.data_directory.as_ref());
            if let Some(told) = told.filter(|told| is_fit_directory(told)) {
                node.data_directory.clone_from(told);
            }
        }
        nodes
    }

    /// Configured servers, and those that were found and are the same by another address: both answer as one run of one server.
    fn same_servers(&self) -> Vec<(NodeId, NodeId)> {
        let answering = |node: &&Node| {
            let member = self.topology.member(node.id)?;
            let answers = matches!(member.state, MemberState::Primary | MemberState::Standby);
            let report = member.report().filter(|_| answers)?;
            Some((report.system_identifier, report.started_at, report.timeline, report.is_writable()))
        };
        let (found, configured): (Vec<&Node>, Vec<&Node>) =
            self.knowledge.nodes().iter().partition(|node| node.discovered.is_some());
        let of = |node: &Node| {
            let run = answering(&node)?;
            found.iter().find(|other| answering(other) == Some(run)).map(|other| (node.id, other.id))
        };
        configured.into_iter().filter_map(of).collect()
    }
}

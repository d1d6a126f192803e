//! Other settings and other servers for a machine that runs, and standing aside for another pgherd.

use std::time::Instant;

use pgherd_health::{Node, NodeId};

use crate::orders::Placed;
use crate::state::{HoldKind, State};
use crate::{Machine, Settings, Step};

/// Why the machine cannot take other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// Not now: it is to be tried again when the machine has gone on.
    Later(String),
    /// Never in this way.
    Refused(String),
}

impl Machine {
    /// Decides by these settings from now on.
    pub fn set_settings(&mut self, settings: Settings, system_identifier: Option<u64>) {
        self.settings = settings;
        self.knowledge.configure_identifier(system_identifier);
    }

    /// Decides nothing any more, and looks on: another pgherd rules the herd, or will. What is under way is brought to its end;
    /// see [`Machine::is_at_rest`].
    pub const fn stand_aside(&mut self) {
        self.aside = true;
    }

    /// Decides again.
    pub const fn lead(&mut self) {
        self.aside = false;
    }

    /// True while the machine looks on.
    #[must_use]
    pub const fn stands_aside(&self) -> bool {
        self.aside
    }

    /// True if no attempt to replace a primary is under way, and no command that changes anything: whoever looks on then leaves
    /// nothing behind that may yet change the herd.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_between_attempts() && self.orders.under_way().all(Placed::is_harmless)
    }

    /// True if nothing on the servers is held for an attempt: the connections that hold its locks may be closed.
    #[must_use]
    pub fn is_between_attempts(&self) -> bool {
        let rests = match &self.state {
            State::Discover { .. } | State::Steady { .. } => true,
            State::Hold(hold) => !matches!(hold.kind, HoldKind::Ordered { .. }),
            _ => false,
        };
        let of_an_attempt = |placed: &Placed| {
            let of_care = matches!(
                placed.step,
                Step::Fence | Step::Start | Step::Follow { .. } | Step::Rejoin { .. } | Step::Clone { .. }
            );
            !of_care && !placed.is_harmless()
        };
        rests && !self.orders.under_way().any(of_an_attempt)
    }

    /// Whether these may be the configured servers from now on, beside those that are registered.
    pub(crate) fn can_have_configured(&self, configured: &[Node]) -> Result<(), Unready> {
        self.can_have_nodes(&self.beside(configured))
    }

    /// Takes these servers for the configured ones from now on.
    pub(crate) fn set_configured(&mut self, now: Instant, configured: Vec<Node>) -> Result<(), Unready> {
        self.set_nodes(now, self.beside(&configured))?;
        self.configured = configured;
        Ok(())
    }

    /// Whether these may be the servers from now on. Servers are taken away only beside a primary that is served: while there is
    /// none, what a server was known to have written must not be forgotten.
    pub(crate) fn can_have_nodes(&self, nodes: &[Node]) -> Result<(), Unready> {
        let out = |old: &&Node| !nodes.iter().any(|new| new.is_same(old));
        let before: Vec<&Node> = self.knowledge.nodes().iter().filter(out).collect();
        let epoch = self.state.epoch();
        if let Some(primary) = before.iter().find(|old| epoch.is_some_and(|epoch| epoch.primary == old.id)) {
            return Err(Unready::Refused(format!(
                "{primary} is the primary: it can't be taken away while no other server has taken its place"
            )));
        }
        let later = |why: String| Err(Unready::Later(why));
        if !self.is_between_attempts() {
            return later(format!(
                "when the failover that is under way is over (now: {})",
                self.state.name()
            ));
        }
        // One that is still reached by another address is not gone.
        let gone = |old: &&&Node| !nodes.iter().any(|new| new.is_at(&old.host, old.port));
        if let (Some(old), false) = (before.iter().find(gone), matches!(self.state, State::Steady { .. })) {
            return later(format!("when there is a primary, since {old} may have been it"));
        }
        let busy = |node: NodeId| self.orders.under_way().any(|placed| placed.node == node);
        match before.iter().find(|old| busy(old.id)) {
            Some(old) => later(format!("when the command that is under way on {old} has ended")),
            None => Ok(()),
        }
    }

    /// Takes these servers for the herd from now on.
    pub(crate) fn set_nodes(&mut self, now: Instant, nodes: Vec<Node>) -> Result<(), Unready> {
        self.can_have_nodes(&nodes)?;
        let gone: Vec<NodeId> = self
            .knowledge
            .nodes()
            .iter()
            .filter(|old| !nodes.iter().any(|new| new.is_same(old)))
            .map(|old| old.id)
            .collect();
        self.knowledge.set_nodes(nodes);
        for node in gone {
            self.care.forget(node);
            self.disarmed.remove(&node);
            self.detached.remove(&node);
        }
        self.refresh(now);
        self.look_at_once();
        Ok(())
    }
}

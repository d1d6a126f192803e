//! The machine: events in, commands and a routing out.

use std::sync::Arc;
use std::time::Instant;

use pgherd_health::{Knowledge, Node, Topology};

use crate::{Cadence, Command, Event, Routing, Settings, StateName, Status, Writes};

/// The decision machine of one herd.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    knowledge: Knowledge,
    topology: Arc<Topology>,
    routing: Routing,
}

impl Machine {
    /// A machine that knows nothing but which servers there should be. `system_identifier` is the configured one.
    #[must_use]
    pub fn new(settings: Settings, nodes: Vec<Node>, system_identifier: Option<u64>, now: Instant) -> Self {
        let knowledge = Knowledge::new(nodes, system_identifier);
        let topology = Arc::new(Topology::derive(&knowledge, now, None));
        let writes = Writes::Held { keep: None, reason: "pgherd has just started".to_owned() };
        let routing = Routing { generation: 1, writes, readable: Vec::new() };
        Self { settings, knowledge, topology, routing }
    }

    /// Takes in one event. The commands that come out are to be carried out in parallel where they are for different
    /// servers, and in their order where they are for one; each is answered by exactly one [`Event::Ended`].
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Command> {
        if let Event::Probed { node, asked_at, answered_at, outcome } = event {
            self.knowledge.observe(node, asked_at, answered_at, outcome);
        }
        self.topology = Arc::new(Topology::derive(&self.knowledge, now, Some(&self.topology)));
        Vec::new()
    }

    /// Where statements go now.
    #[must_use]
    pub fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// How often to probe and to tick.
    #[must_use]
    pub fn cadence(&self) -> Cadence {
        Cadence { probe: self.settings.interval, tick: self.settings.interval, at_once: 0 }
    }

    /// The state and its reason.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { state: StateName::Discover, reason: String::new(), epoch: None, warnings: Vec::new() }
    }

    /// The herd as it was last seen.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }
}

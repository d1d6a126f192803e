//! What the rest of the program asks of the control loop.

use std::sync::Arc;
use std::time::Instant;

use pgherd_health::{Node, NodeId, ProberSettings};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::tools::Use;
use super::{Actor, ControlSettings};
use crate::reconfigure::Unready;
use crate::{Answer, Errand, Event, ExecutorSettings, Order, Rehearsal, Tool};

/// How other settings were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They are in force.
    Now,
    /// Those of the servers, and of how they are asked and acted on, are in force when something has come about: this says
    /// what. The others are in force.
    Later(String),
}

/// What is asked of the loop.
#[derive(Debug)]
pub(super) enum Request {
    Order(Order, oneshot::Sender<Result<String, String>>),
    Rehearse(Order, oneshot::Sender<Rehearsal>),
    Reconfigure(Box<ControlSettings>, oneshot::Sender<Result<Taken, String>>),
    StandAside(oneshot::Sender<()>),
    Lead,
    Tool(Use),
    RehearseTool(NodeId, Tool, oneshot::Sender<Result<(), String>>),
}

/// What the loop has yet to do of it.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    contacts: Option<ContactSettings>,
    /// Who waits until nothing is under way any more.
    aside: Vec<oneshot::Sender<()>>,
    /// Who waits for the answer to an order.
    orders: Vec<(Errand, oneshot::Sender<Result<String, String>>)>,
    /// No command is carried out.
    pub(super) looks_on: bool,
    /// The servers are others than those that are asked.
    pub(super) contact_anew: bool,
}

#[derive(Debug)]
struct ContactSettings {
    nodes: Vec<Node>,
    prober: ProberSettings,
    executor: ExecutorSettings,
}

impl Wishes {
    /// None yet, of a loop that decides, or of one that is to look on.
    pub(super) fn none(looks_on: bool) -> Self {
        Self { looks_on, ..Self::default() }
    }
}

impl Actor {
    /// Takes a request in.
    pub(super) fn heed(&mut self, request: Request) {
        match request {
            Request::Order(order, reply) => self.obey(order, reply),
            Request::Rehearse(order, reply) => {
                let _ = reply.send(self.machine.rehearse(Instant::now(), &order));
            }
            Request::Reconfigure(settings, reply) => {
                // Who asked may have gone away.
                let _ = reply.send(self.reconfigure(*settings));
            }
            Request::Tool(wanted) => self.lend(wanted),
            Request::RehearseTool(node, tool, reply) => {
                let _ = reply.send(self.machine.job(Instant::now(), node, tool).map(|_| ()));
            }
            Request::StandAside(reply) => {
                self.machine.stand_aside();
                self.wishes.aside.push(reply);
                self.step(Event::Tick);
            }
            Request::Lead => {
                info!("this pgherd decides about failovers");
                self.wishes.aside.clear();
                self.wishes.looks_on = false;
                self.machine.lead();
                self.tie.campaign();
                self.step(Event::Tick);
            }
        }
    }

    fn obey(&mut self, order: Order, reply: oneshot::Sender<Result<String, String>>) {
        if let Err(why) = self.machine.rehearse(Instant::now(), &order).would {
            warn!(?order, why, "an order is refused");
            // Who asked may have gone away.
            let _ = reply.send(Err(why));
            return;
        }
        info!(?order, "an order is taken");
        // Before the order, which may end at once.
        self.wishes.orders.push((order.errand(), reply));
        self.step(Event::Ordered(order));
    }

    /// An order has ended.
    pub(super) fn tell(&mut self, answer: Answer) {
        let Answer { errand, told } = answer;
        match &told {
            Ok(done) => info!(done, ?errand, "an order is carried out"),
            Err(why) => warn!(why, ?errand, "an order is not carried out"),
        }
        if let Some(at) = self.wishes.orders.iter().position(|(of, _)| *of == errand) {
            let (_, waiting) = self.wishes.orders.remove(at);
            let _ = waiting.send(told);
        }
    }

    /// Does what was asked earlier and could not be done then. True if the servers are to be asked in another way.
    pub(super) fn fulfil(&mut self) -> bool {
        if !self.wishes.aside.is_empty() && self.machine.is_at_rest() {
            info!("another pgherd decides about failovers");
            self.wishes.looks_on = true;
            // Whoever decides next need not wait until the lease runs out.
            self.tie.give_back(std::mem::take(&mut self.wishes.aside));
        }
        let others = std::mem::take(&mut self.wishes.contact_anew);
        let Some(wanted) = &self.wishes.contacts else { return others };
        if self.machine.can_have_configured(&wanted.nodes).is_err() {
            return others;
        }
        let Some(wanted) = self.wishes.contacts.take() else { return others };
        if let Err(why) = self.machine.set_configured(Instant::now(), wanted.nodes) {
            tracing::error!(?why, "the servers were not changed; this is a defect of pgherd");
            return others;
        }
        self.prober = Arc::new(wanted.prober);
        self.executor_settings = wanted.executor;
        info!(nodes = self.machine.nodes().len(), "the servers are watched by the new settings");
        true
    }

    fn reconfigure(&mut self, settings: ControlSettings) -> Result<Taken, String> {
        let ControlSettings { nodes, machine, prober, executor, system_identifier, .. } = settings;
        let changes = self.machine.configured() != nodes
            || *self.prober != prober
            || self.executor_settings != executor;
        let ready = if changes { self.machine.can_have_configured(&nodes) } else { Ok(()) };
        let taken = match ready {
            Ok(()) => Taken::Now,
            Err(Unready::Later(when)) => Taken::Later(when),
            Err(Unready::Refused(why)) => return Err(why),
        };
        self.machine.set_settings(machine, system_identifier);
        // What was wanted before, and has not come about, is not wanted any more.
        self.wishes.contacts = changes.then_some(ContactSettings { nodes, prober, executor });
        Ok(taken)
    }
}

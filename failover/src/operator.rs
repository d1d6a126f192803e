//! What operators order, from the order to its answer.

use std::time::{Duration, Instant};

use pgherd_health::{Branch, Member, MemberState, NodeId, TimelineId, Void};

use crate::guards::{self, Verdict};
use crate::state::{HoldKind, State};
use crate::{Answer, Errand, Machine, Order, Terms, care, discover};

/// An order that has come to no end by then is answered with where it stands, and given up.
const LASTS: Duration = Duration::from_secs(120);
/// Answers that nobody has taken.
const UNTAKEN: usize = 16;

/// A failover that an operator has ordered and that is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    terms: Terms,
    /// The branch of the timeline that is accepted.
    branch: Option<Branch>,
    since: Instant,
    /// The last promotion before it.
    promoted_before: Option<Instant>,
    /// By its word a server is taken for the primary that is not served yet.
    trusts: bool,
}

impl Machine {
    /// How orders have ended since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// An operator wants this server neither read nor promoted.
    #[must_use]
    pub fn is_detached(&self, node: NodeId) -> bool {
        self.detached.contains(&node)
    }

    /// An operator accepts that acknowledged commits may be lost.
    pub(crate) fn accepts_loss(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.terms.accept_data_loss)
    }

    /// The only one that an operator wants to be promoted.
    pub(crate) fn named_candidate(&self) -> Option<NodeId> {
        self.wanted.as_ref()?.terms.to
    }

    /// The branch that an operator has said is right.
    pub(crate) fn chosen_branch(&self) -> Option<&Branch> {
        self.wanted.as_ref()?.branch.as_ref()
    }

    /// Takes an order in. What can be done at once is answered at once.
    pub(crate) fn take_order(&mut self, now: Instant, order: &Order) {
        let done = match order {
            Order::Switchover { to } => return self.request_switchover(now, *to),
            Order::Failover(terms) => match self.can_fail_over(now, terms) {
                Ok(wanted) => return self.want(now, wanted),
                Err(why) => Err(why),
            },
            Order::Rejoin { node, accept_data_loss, reclone } => {
                match care::can_rejoin(self, *node, *accept_data_loss, *reclone) {
                    Ok(_) => return self.care.ordered(*node, (*accept_data_loss, *reclone), now),
                    Err(why) => Err(why),
                }
            }
            Order::Pause | Order::Resume | Order::Attach(_) | Order::Detach(_) => self.can_set(order),
        };
        if let Ok(done) = &done {
            self.set(order);
            let event = match order {
                Order::Pause => "pgherd_pause",
                Order::Resume => "pgherd_resume",
                Order::Attach(_) => "pgherd_attach",
                _ => "pgherd_detach",
            };
            let node = match order {
                Order::Attach(node) | Order::Detach(node) => *node,
                _ => self.any_node(),
            };
            self.happened(now, (event, node), Ok(done));
        }
        self.answer(order.errand(), done);
    }

    /// Whether a failover can be ordered on these terms now, as far as that can be told.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(crate) fn can_fail_over(&mut self, now: Instant, terms: &Terms) -> Result<Wanted, String> {
        if let Some(why) = self.objection(now) {
            return Err(format!("{why}: give the order to the one that decides"));
        }
        match &self.state {
            State::Steady { epoch } | State::Swap { epoch } => {
                return Err(format!(
                    "node {} is the primary and works: a switchover makes another the primary, and loses nothing",
                    epoch.primary
                ));
            }
            State::Discover { .. } | State::Suspect { .. } | State::Confirm(_) | State::Hold(_) => {}
            _ => {
                return Err(format!("another is under way: {}: {}", self.state.name(), self.status().reason));
            }
        }
        if let Some(to) = terms.to {
            let member = self.topology.member(to).ok_or_else(|| format!("there is no node {to}"))?;
            if self.detached.contains(&to) {
                return Err(format!("node {to} is detached: attach it first"));
            }
            if let MemberState::Foreign { system_identifier } = member.state {
                return Err(format!("node {to} belongs to another cluster ({system_identifier})"));
            }
        }
        let branch = match terms.accept_timeline {
            Some(timeline) => Some(self.branch_with(timeline, terms.to)?),
            None => None,
        };
        let wanted =
            Wanted { terms: *terms, branch, since: now, promoted_before: self.last_promotion, trusts: false };
        match self.under(wanted.clone(), |machine| machine.obstacle(now)) {
            Some(why) => Err(why),
            None => Ok(wanted),
        }
    }

    /// What stands against what is wanted now, and will not go away by itself.
    fn obstacle(&self, now: Instant) -> Option<String> {
        let State::Hold(hold) = &self.state else { return None };
        if self.paused {
            return Some("failover is paused by an operator: resume it first".to_owned());
        }
        match &hold.kind {
            // Somebody writable is on the chosen branch: it is served as it is.
            HoldKind::Undecided if self.writable_choice().is_some() => None,
            HoldKind::Undecided => match discover::judge(self, now) {
                discover::Assessment::Stuck(why) => Some(why),
                _ => None,
            },
            HoldKind::Guarded(attempt) if self.chosen_branch().is_none_or(|it| *it == attempt.branch) => {
                match guards::all(self, attempt, now) {
                    Verdict::Fail(why) => Some(why),
                    Verdict::Pass | Verdict::Wait(_) => None,
                }
            }
            HoldKind::Guarded(_) => None,
            HoldKind::Ordered { candidate, .. } => {
                let given_up = self.gives_up(*candidate);
                (!given_up).then(|| {
                    format!(
                        "{}: make sure that it is down and stays down, and accept the loss of what it may have taken",
                        hold.reason
                    )
                })
            }
        }
    }

    /// True if an operator accepts the loss of a candidate that was told to promote and cannot be asked.
    pub(crate) fn gives_up(&self, candidate: NodeId) -> bool {
        let lost = self.topology.member(candidate).is_none_or(|member| !member.is_alive());
        self.accepts_loss() && self.named_candidate() != Some(candidate) && lost
    }

    /// The one branch of that number, of those that servers of the herd are on.
    fn branch_with(&self, timeline: TimelineId, to: Option<NodeId>) -> Result<Branch, String> {
        let ours = || {
            let members = self.topology.members.iter();
            members.filter_map(|member| Some((member.node, self.is_ours(member.report()?), member.branch()?)))
        };
        let mut found: Vec<(NodeId, Branch)> = Vec::new();
        for (node, of_ours, branch) in ours() {
            let meant = of_ours && branch.timeline == timeline && to.is_none_or(|to| to == node);
            if meant && !found.iter().any(|(_, other)| *other == branch) {
                found.push((node, branch));
            }
        }
        let on: Vec<String> = ours().map(|(node, _, it)| format!("node {node} on {it}")).collect();
        match (found.len(), found.pop()) {
            (1, Some((_, branch))) => Ok(branch),
            (0, _) => Err(format!("no server is on timeline {}: {}", timeline.0, on.join(", "))),
            _ => Err(format!(
                "timeline {} is not the same everywhere: name a server as well: {}",
                timeline.0,
                on.join(", ")
            )),
        }
    }

    /// A server that accepts writes on the chosen branch: the one that was named, or the only one.
    pub(crate) fn writable_choice(&self) -> Option<NodeId> {
        let chosen = self.chosen_branch()?;
        let to = self.named_candidate();
        let mut writable = self.topology.members.iter().filter(|member| {
            member.state == MemberState::Primary
                && member.branch().as_ref() == Some(chosen)
                && to.is_none_or(|to| to == member.node)
        });
        writable.next().map(|member| member.node).filter(|_| writable.next().is_none())
    }

    /// Goes by what is wanted from now on.
    fn want(&mut self, now: Instant, wanted: Wanted) {
        self.end_failover(Err("another failover was ordered".to_owned()));
        self.wanted = Some(wanted);
        if let Some(node) = self.writable_choice() {
            self.knowledge.trust(node);
            if let Some(wanted) = &mut self.wanted {
                wanted.trusts = true;
            }
            self.refresh(now);
        }
    }

    /// Answers a failover that was ordered, if one was. What came to nothing is not kept for another occasion.
    fn end_failover(&mut self, told: Result<String, String>) {
        let Some(wanted) = self.wanted.take() else { return };
        if wanted.trusts && told.is_err() {
            self.knowledge.distrust();
        }
        self.answer(Errand::Primary, told);
    }

    /// What the machine would say if that were wanted.
    pub(crate) fn under<T>(&mut self, wanted: Wanted, see: impl FnOnce(&Self) -> T) -> T {
        let before = self.wanted.replace(wanted);
        let seen = see(self);
        self.wanted = before;
        seen
    }

    /// Something that is wanted on these terms, for [`Machine::under`].
    pub(crate) fn suppose(&self, now: Instant, terms: Terms) -> Wanted {
        Wanted { terms, branch: None, since: now, promoted_before: self.last_promotion, trusts: false }
    }

    /// What other servers have written beside the chosen branch counts for nothing from now on.
    pub(crate) fn disown_rivals(&mut self, chosen_by: NodeId, chosen: &Branch) {
        let others = self.topology.members.iter().filter(|member| member.node != chosen_by);
        let rivals: Vec<(NodeId, Branch)> = others
            .filter_map(|member| Some((member.node, member.branch()?)))
            .filter(|(_, branch)| branch != chosen && !chosen.supersedes(branch))
            .collect();
        for (node, branch) in rivals {
            self.knowledge.disown(node, Void::Branch(branch));
        }
    }

    /// What an order to set something says, or would say.
    pub(crate) fn can_set(&self, order: &Order) -> Result<String, String> {
        match order {
            Order::Pause if self.paused => Err("failover is paused already".to_owned()),
            Order::Pause => Ok("failover is paused: nobody is promoted and nothing is repaired".to_owned()),
            Order::Resume if !self.paused => Err("failover is not paused".to_owned()),
            Order::Resume => Ok("failover goes on".to_owned()),
            Order::Attach(node) if !self.detached.contains(node) => {
                Err(format!("node {node} is not detached"))
            }
            Order::Attach(node) => Ok(format!("node {node} is attached")),
            Order::Detach(node) if self.detached.contains(node) => {
                Err(format!("node {node} is detached already"))
            }
            Order::Detach(node) if self.state.epoch().is_some_and(|epoch| epoch.primary == *node) => {
                Err(format!("node {node} is the primary: make another the primary first, by a switchover"))
            }
            Order::Detach(node) if self.topology.member(*node).is_none() => {
                Err(format!("there is no node {node}"))
            }
            Order::Detach(node) => {
                Ok(format!("node {node} is detached: it is neither read nor promoted until it is attached"))
            }
            _ => Err("it cannot be done at once".to_owned()),
        }
    }

    fn set(&mut self, order: &Order) {
        match order {
            Order::Pause => self.paused = true,
            Order::Resume => self.paused = false,
            Order::Attach(node) => drop(self.detached.remove(node)),
            Order::Detach(node) => drop(self.detached.insert(*node)),
            _ => {}
        }
    }

    pub(crate) fn answer(&mut self, errand: Errand, told: Result<String, String>) {
        if self.answers.len() == UNTAKEN {
            self.answers.remove(0);
        }
        self.answers.push(Answer { errand, told });
    }

    /// An attempt that was ordered has ended in a hold, which says why.
    pub(crate) fn conclude_failover(&mut self, seen: &str) {
        self.end_failover(Err(seen.to_owned()));
    }

    /// Answers what has come to its end, at the end of a step.
    pub(crate) fn close_orders(&mut self, now: Instant) {
        if let Some(told) = self.end_of_failover(now) {
            self.end_failover(told);
        }
        for (node, told) in care::ended_orders(self, now, LASTS) {
            self.answer(Errand::Rejoin(node), told);
        }
    }

    fn end_of_failover(&self, now: Instant) -> Option<Result<String, String>> {
        let wanted = self.wanted.as_ref()?;
        if let State::Steady { epoch } = self.state {
            let node = epoch.primary;
            let served = self.topology.member(node).and_then(Member::branch);
            let chosen = served.is_some() && served == wanted.branch;
            return Some(if chosen || self.last_promotion != wanted.promoted_before {
                Ok(format!("node {node} is the primary, on timeline {}", epoch.timeline.0))
            } else {
                Err(format!("node {node} is the primary after all, and nothing was changed"))
            });
        }
        let stands = || format!("{}: {}", self.state.name(), self.status().reason);
        let over = now >= wanted.since + LASTS;
        self.obstacle(now)
            .or_else(|| over.then(|| format!("given up after {LASTS:?}: {}", stands())))
            .map(Err)
    }
}

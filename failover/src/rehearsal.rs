//! What an order would do, and what an operator can do about a hold: the same rules, asked and not followed.

use std::time::Instant;

use pgherd_health::{MemberState, NodeId};

use crate::guards::{self, Guard, Verdict};
use crate::state::{Attempt, Hold, HoldKind, State};
use crate::{Check, Holds, Machine, Order, Rehearsal, Terms, care, discover};

/// What is shown beside a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// What to do.
    pub(crate) advice: Option<String>,
    /// The guards.
    pub(crate) checks: Vec<Check>,
}

impl Machine {
    /// What an order would do now. Nothing is changed.
    pub fn rehearse(&mut self, now: Instant, order: &Order) -> Rehearsal {
        match order {
            Order::Failover(terms) => self.rehearse_failover(now, *terms),
            Order::Switchover { to } => {
                let would = self.can_switch_over(now, *to).map(|plan| plan.to_string());
                Rehearsal { would, checks: Vec::new() }
            }
            Order::Rejoin { node, accept_data_loss, reclone } => Rehearsal {
                would: care::can_rejoin(self, *node, *accept_data_loss, *reclone),
                checks: Vec::new(),
            },
            other => Rehearsal { would: self.can_set(other), checks: Vec::new() },
        }
    }

    fn rehearse_failover(&mut self, now: Instant, terms: Terms) -> Rehearsal {
        let wanted = match self.can_fail_over(now, &terms) {
            Ok(wanted) => wanted,
            Err(why) => {
                let supposed = self.suppose(now, terms);
                let checks = self.under(supposed, |machine| match machine.prospective(now) {
                    Ok(attempt) => machine.checks(&attempt, now),
                    Err(_) => Vec::new(),
                });
                return Rehearsal { would: Err(why), checks };
            }
        };
        self.under(wanted, |machine| {
            if let Some(node) = machine.writable_choice() {
                let would = Ok(format!("node {node} is served as the primary, as it is"));
                return Rehearsal { would, checks: Vec::new() };
            }
            match machine.prospective(now) {
                Ok(attempt) => {
                    let would = machine.candidate_of(&attempt).ok_or("nobody can be promoted".to_owned());
                    Rehearsal { would, checks: machine.checks(&attempt, now) }
                }
                Err(why) => Rehearsal { would: Err(why), checks: Vec::new() },
            }
        })
    }

    /// The attempt that is under way, or that would be made now.
    fn prospective(&self, now: Instant) -> Result<Attempt, String> {
        let chosen = self.chosen_branch();
        match (&self.state, self.state.attempt()) {
            (_, Some(attempt)) if chosen.is_none_or(|it| *it == attempt.branch) => Ok(attempt.clone()),
            (State::Suspect { epoch, since }, _) => {
                let branch = self.knowledge.accepted().map(|lineage| lineage.branch.clone());
                Ok(Attempt::new(Some(*epoch), Some(epoch.primary), branch.unwrap_or_default(), *since))
            }
            _ => {
                let branch = discover::continued(self)?;
                Ok(Attempt::new(None, discover::presumed_primary(self), branch, now))
            }
        }
    }

    /// Who would be promoted, in words.
    fn candidate_of(&self, attempt: &Attempt) -> Option<String> {
        let (node, behind) = guards::prospect(self, attempt)?;
        let of = attempt.old.map_or_else(|| "the primary".to_owned(), |old| format!("node {old}"));
        Some(match behind {
            Some(behind) => {
                format!("node {node}, {behind} bytes behind what {of} was last known to have, is promoted")
            }
            None => format!("node {node} is promoted; how far it is behind {of} is not known"),
        })
    }

    fn checks(&self, attempt: &Attempt, now: Instant) -> Vec<Check> {
        let check = |(guard, verdict): (Guard, Verdict)| {
            let (holds, why) = match verdict {
                Verdict::Pass => (Holds::Yes, String::new()),
                Verdict::Wait(why) => (Holds::NotYet, why),
                Verdict::Fail(why) => (Holds::No, why),
            };
            Check { what: guard.what(), holds, why }
        };
        guards::each(self, attempt, now).into_iter().map(check).collect()
    }

    /// Works out what is shown beside the present state.
    pub(crate) fn look_out(&mut self, now: Instant) {
        self.outlook = match &self.state {
            State::Hold(Hold { kind, .. }) => match kind.clone() {
                HoldKind::Undecided => Outlook { advice: self.choices(), checks: Vec::new() },
                HoldKind::Guarded(attempt) => {
                    Outlook { advice: Some(self.way_out(&attempt, now)), checks: self.checks(&attempt, now) }
                }
                HoldKind::Ordered { candidate, .. } => Outlook {
                    advice: Some(format!(
                        "start node {candidate}; or make sure that it is down and stays down, and give it up: \
                         pgherd failover --allow-data-loss"
                    )),
                    checks: Vec::new(),
                },
            },
            _ => Outlook::default(),
        };
    }

    /// The order that ends a hold in which a guard fails; or what else would.
    fn way_out(&mut self, attempt: &Attempt, now: Instant) -> String {
        if self.paused {
            return "pgherd resume".to_owned();
        }
        let standbys: Vec<NodeId> = self.topology.standbys().map(|member| member.node).collect();
        let any = Terms::default();
        let lossy = Terms { accept_data_loss: true, ..any };
        let named = standbys
            .iter()
            .flat_map(|node| [Terms { to: Some(*node), ..any }, Terms { to: Some(*node), ..lossy }]);
        let mut failing = None;
        for terms in [any, lossy].into_iter().chain(named.collect::<Vec<_>>()) {
            let supposed = self.suppose(now, terms);
            let found = self.under(supposed, |machine| {
                let mut verdicts = guards::each(machine, attempt, now).into_iter();
                match verdicts.find(|(_, verdict)| matches!(verdict, Verdict::Fail(_))) {
                    None => Ok(machine.candidate_of(attempt)),
                    Some((guard, _)) => Err(guard),
                }
            });
            match found {
                Ok(who) => {
                    let what = who.map(|who| format!(" ({who})")).unwrap_or_default();
                    return format!("pgherd failover{}{what}", options(terms));
                }
                Err(guard) => failing = Some(guard),
            }
        }
        match failing {
            Some(Guard::NoLogin) => "let the monitor user in there again; or stop that server",
            Some(Guard::Unheard) => {
                "mend the network between pgherd and the primary; or stop the primary, if it is to be replaced"
            }
            Some(Guard::OneDecider) => "leave it to repmgrd, or have it pause: repmgr service pause",
            Some(Guard::Eligible) => "start a standby, or remove what the reason names",
            _ => "none is needed: it is tried again",
        }
        .to_owned()
    }

    /// The timelines that an operator can choose from where nobody can be taken for the primary.
    fn choices(&self) -> Option<String> {
        if self.topology.system_identifier.is_err() {
            return None;
        }
        let ours = self.topology.members.iter().filter(|it| it.report().is_some_and(|it| self.is_ours(it)));
        let on: Vec<_> = ours.filter_map(|it| Some((it.node, it.branch()?, it.state.clone()))).collect();
        let mut choices: Vec<String> = Vec::new();
        for (node, branch, state) in &on {
            let of_number = || on.iter().filter(|(_, other, _)| other.timeline == branch.timeline);
            let writable = of_number().filter(|(_, _, state)| *state == MemberState::Primary).count();
            let differs = of_number().any(|(_, other, _)| other != branch);
            let to = if differs || writable > 1 { format!(" --to {node}") } else { String::new() };
            let command = format!("pgherd failover --accept-timeline {}{to}", branch.timeline.0);
            let writes = if *state == MemberState::Primary { ", which accepts writes" } else { "" };
            if !choices.iter().any(|choice| choice.starts_with(&format!("{command} ("))) {
                choices.push(format!("{command} (node {node}{writes})"));
            }
        }
        (!choices.is_empty()).then(|| format!("say which timeline is right: {}", choices.join("; or ")))
    }
}

/// Terms as they are typed.
fn options(terms: Terms) -> String {
    let Terms { to, accept_data_loss, accept_timeline } = terms;
    let mut typed = to.map_or_else(String::new, |to| format!(" --to {to}"));
    if accept_data_loss {
        typed.push_str(" --allow-data-loss");
    }
    if let Some(timeline) = accept_timeline {
        typed.push_str(&format!(" --accept-timeline {}", timeline.0));
    }
    typed
}

//! Orders about the herd: who is the primary, and what becomes of the other servers.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use pgherd_failover::{Check, Holds, Order, Rehearsal, Terms};
use pgherd_health::{NodeId, TimelineId};
use pgherd_protocol::error::ClientError;
use pgherd_protocol::rows::{Column, Row, Type};
use pgherd_protocol::statement::Pin;

use super::command::{Mistake, Words};
use super::dialogue::{Dialogue, Reply};
use crate::config::PoolMode;
use crate::naming;
use crate::narrator::Narrator;
use crate::seat::Business;
use crate::shared::Shared;

/// What an order says when it was carried out.
pub(super) const DONE: &[Column] = &[Column::new("done", Type::Text)];
/// What an order would do.
pub(super) const PLAN: &[Column] =
    &[Column::new("item", Type::Text), Column::new("value", Type::Text), Column::new("detail", Type::Text)];

/// An order, with the names of servers as they were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HerdOrder {
    /// SWITCHOVER [server]
    Switchover(Option<String>),
    /// FAILOVER [TO server] [ALLOW DATA LOSS] [ACCEPT TIMELINE number]
    Failover {
        /// Only this one.
        to: Option<String>,
        /// At the price of commits.
        allow_data_loss: bool,
        /// Of several timelines this one.
        accept_timeline: Option<u32>,
    },
    /// REJOIN server [ALLOW DATA LOSS] [RECLONE]
    Rejoin {
        /// Which.
        server: String,
        /// At the price of its own WAL.
        allow_data_loss: bool,
        /// Cloned anew.
        reclone: bool,
    },
    /// ATTACH server
    Attach(String),
    /// DETACH server
    Detach(String),
    /// PAUSE FAILOVER
    Pause,
    /// RESUME FAILOVER
    Resume,
}

impl HerdOrder {
    /// Its command tag, which is also how it begins.
    pub(super) const fn tag(&self) -> &'static str {
        match self {
            Self::Switchover(_) => "SWITCHOVER",
            Self::Failover { .. } => "FAILOVER",
            Self::Rejoin { .. } => "REJOIN",
            Self::Attach(_) => "ATTACH",
            Self::Detach(_) => "DETACH",
            Self::Pause => "PAUSE FAILOVER",
            Self::Resume => "RESUME FAILOVER",
        }
    }
}

impl Words {
    /// The order that begins with `word`; none if none does.
    pub(super) fn herd_order(&mut self, word: &str) -> Result<Option<HerdOrder>, Mistake> {
        Ok(Some(match word {
            "SWITCHOVER" => HerdOrder::Switchover(self.name_if_any()?),
            "FAILOVER" => self.failover()?,
            "REJOIN" => {
                let server = self.name()?;
                HerdOrder::Rejoin {
                    server,
                    allow_data_loss: self.allows_data_loss()?,
                    reclone: self.takes("RECLONE"),
                }
            }
            "ATTACH" => HerdOrder::Attach(self.name()?),
            "DETACH" => HerdOrder::Detach(self.name()?),
            "PAUSE" if self.takes("FAILOVER") => HerdOrder::Pause,
            "RESUME" if self.takes("FAILOVER") => HerdOrder::Resume,
            _ => return Ok(None),
        }))
    }

    fn failover(&mut self) -> Result<HerdOrder, Mistake> {
        let (mut to, mut allow_data_loss, mut accept_timeline) = (None, false, None);
        loop {
            if to.is_none() && self.takes("TO") {
                to = Some(self.name()?);
            } else if accept_timeline.is_none() && self.takes("ACCEPT") {
                self.must("TIMELINE")?;
                accept_timeline = Some(self.number()?);
            } else if !allow_data_loss && self.allows_data_loss()? {
                allow_data_loss = true;
            } else {
                return Ok(HerdOrder::Failover { to, allow_data_loss, accept_timeline });
            }
        }
    }

    fn allows_data_loss(&mut self) -> Result<bool, Mistake> {
        let allows = self.takes("ALLOW");
        if allows {
            self.must("DATA")?;
            self.must("LOSS")?;
        }
        Ok(allows)
    }
}

impl Dialogue {
    /// Gives an order, and says how it ended. Who leaves while it waits has given it nevertheless.
    pub(super) async fn rule(&mut self, order: &HerdOrder) -> Result<Reply, ClientError> {
        let given = self.resolve(order)?;
        let control = self.worker.shared.control.clone();
        let mut narrator = Narrator::from_now(&control);
        let mut ordered = pin!(async move { control.order(given).await });
        let ended = loop {
            let step = self.wait_for(async {
                tokio::select! {
                    biased;
                    ended = &mut ordered => Err(ended),
                    lines = narrator.next() => Ok(lines),
                }
            });
            let step = step
                .await
                .map_err(|error| error.detail("The order stands: SHOW FAILOVER says what becomes of it."))?;
            match step {
                Err(ended) => break ended,
                Ok(lines) => {
                    lines.iter().for_each(|line| self.notice(line, ""));
                    // Who has gone is noticed by the wait.
                    let _ = self.flush().await;
                }
            }
        };
        match ended {
            Ok(done) => {
                let rows = vec![vec![done.into()]].into_iter();
                Ok(Reply { columns: DONE, rows, tag: order.tag() })
            }
            Err(why) => {
                let what = order.tag().to_ascii_lowercase();
                Err(ClientError::new("55000", format!("no {what}: {why}")))
            }
        }
    }

    /// What an order would do.
    pub(super) async fn explain(&mut self, order: &HerdOrder) -> Result<Reply, ClientError> {
        let given = self.resolve(order)?;
        let control = self.worker.shared.control.clone();
        let Rehearsal { would, checks } = self.wait_for(async move { control.rehearse(given).await }).await?;
        let row = |item: &str, value: &str, detail: String| -> Row {
            vec![item.into(), value.into(), detail.into()]
        };
        let mut rows = vec![match would {
            Ok(what) => row("order", "would be taken", what),
            Err(why) => row("order", "would be refused", why),
        }];
        rows.extend(checks.into_iter().map(|Check { what, holds, why }| {
            let detail = if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") };
            row("guard", show_holds(holds), detail)
        }));
        if matches!(order, HerdOrder::Switchover(_)) {
            rows.extend(keeping(&self.worker.shared).into_iter().map(|(why, number)| {
                row(
                    "sessions that end",
                    &number.to_string(),
                    format!("they keep their server connections: {why}"),
                )
            }));
        }
        Ok(Reply { columns: PLAN, rows: rows.into_iter(), tag: "EXPLAIN" })
    }

    fn resolve(&self, order: &HerdOrder) -> Result<Order, ClientError> {
        let server = |name: &str| self.server(name);
        Ok(match order {
            HerdOrder::Switchover(to) => Order::Switchover { to: to.as_deref().map(server).transpose()? },
            HerdOrder::Failover { to, allow_data_loss, accept_timeline } => Order::Failover(Terms {
                to: to.as_deref().map(server).transpose()?,
                accept_data_loss: *allow_data_loss,
                accept_timeline: accept_timeline.map(TimelineId),
            }),
            HerdOrder::Rejoin { server: name, allow_data_loss, reclone } => {
                Order::Rejoin { node: server(name)?, accept_data_loss: *allow_data_loss, reclone: *reclone }
            }
            HerdOrder::Attach(name) => Order::Attach(server(name)?),
            HerdOrder::Detach(name) => Order::Detach(server(name)?),
            HerdOrder::Pause => Order::Pause,
            HerdOrder::Resume => Order::Resume,
        })
    }

    fn server(&self, name: &str) -> Result<NodeId, ClientError> {
        let control = &self.worker.shared.control;
        let nodes = Arc::clone(&control.routing.borrow().nodes);
        let topology = Arc::clone(&control.topology.borrow());
        naming::server(&nodes, &topology, name).map_err(|why| {
            ClientError::new("42704", why).hint(
                "A server is named by its number, its host, host:port, or repmgr's name: see SHOW TOPOLOGY.",
            )
        })
    }
}

/// How many sessions keep their server connections, by the reason.
pub(crate) fn keeping(shared: &Shared) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let config = shared.config.load();
    for seat in shared.roster.all() {
        let card = seat.card();
        let mode = config.pool.mode_for(&card.database, &card.user);
        let of_mode = (mode == PoolMode::Session).then_some(Pin::SessionMode);
        if let (Business::Holding(_), pin) = seat.business()
            && let Some(pin) = pin.or(of_mode)
        {
            *counts.entry(pin.to_string()).or_default() += 1;
        }
    }
    counts
}

/// In one word.
pub(crate) const fn show_holds(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "holds",
        Holds::NotYet => "waits",
        Holds::No => "fails",
    }
}

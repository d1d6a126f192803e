//! What an administrator orders.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pgherd_protocol::error::ClientError;

use super::command::{Command, Shutdown};
use super::dialogue::{Dialogue, Reply};
use super::is_console;
use crate::config::{Change, Problem, Refusal};
use crate::reload::Reloaded;
use crate::seat::Seat;
use crate::worker::Stage;

/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Dialogue {
    /// Does what only administrators may order.
    pub(super) async fn obey(&mut self, order: &Command) -> Result<Reply, ClientError> {
        if !self.visitor.is_admin {
            return Err(ClientError::new("42501", "admin access needed")
                .hint("The users of admin.stats_users may only look; admin.users may change something."));
        }
        let card = self.visitor.seat.card();
        // Of a SET not its value, which may be a password.
        let shown = match order {
            Command::Set(key, _) => format!("Set({key:?})"),
            other => format!("{other:?}"),
        };
        tracing::info!(peer = %card.peer, user = &*card.user, order = shown, "an order on the console");
        let backends = &self.worker.shared.backends;
        match order {
            Command::Pause(database) => self.pause(database.as_deref()).await,
            Command::Resume(database) => self.resume(database.as_deref()),
            Command::Disable(database) | Command::Enable(database) => {
                let is_disabled = matches!(order, Command::Disable(_));
                self.ordinary(Some(database))?;
                backends.gates.disable(database, is_disabled);
                self.warn_of_unknown(Some(database));
                Ok(Reply::done(if is_disabled { "DISABLE" } else { "ENABLE" }))
            }
            Command::Reconnect(database) => {
                backends.renew(self.ordinary(database.as_deref())?);
                self.warn_of_unknown(database.as_deref());
                Ok(Reply::done("RECONNECT"))
            }
            Command::WaitClose(database) => {
                let name = self.ordinary(database.as_deref())?.map(str::to_owned);
                let shared = Arc::clone(&self.worker.shared);
                self.wait_until(|| shared.backends.stale(name.as_deref()) == 0).await?;
                Ok(Reply::done("WAIT_CLOSE"))
            }
            Command::Kill(database) => {
                let name = self.ordinary(database.as_deref())?.map(str::to_owned);
                backends.pause(name.as_deref());
                let ends = |seat: &Seat| {
                    let database = &*seat.card().database;
                    !is_console(database) && name.as_deref().is_none_or(|name| name == database)
                };
                self.dismiss(ends);
                self.warn_of_unknown(name.as_deref());
                Ok(Reply::done("KILL"))
            }
            Command::KillClient(id) => {
                if self.worker.shared.roster.find(*id).is_none() {
                    return Err(ClientError::new("42704", format!("client {id} does not exist"))
                        .hint("SHOW CLIENTS shows the numbers in its column id."));
                }
                self.dismiss(|seat| seat.card().id == *id);
                Ok(Reply::done("KILL_CLIENT"))
            }
            Command::Suspend => Err(ClientError::new("0A000", "SUSPEND is not supported")
                .detail("PgBouncer needs it to hand its connections over to another process.")
                .hint("PAUSE waits until no server connection is in use.")),
            Command::Herd(order) => self.rule(order).await,
            Command::Explain(order) => self.explain(order).await,
            Command::Reload => self.reload().await,
            Command::Set(name, value) => self.set(name, value.as_deref()).await,
            Command::Shutdown(how) => Ok(self.shut_down(*how)),
            _ => Err(ClientError::new("XX000", "not an order: a defect of pgherd")),
        }
    }

    /// What has changed, and what will later, is told in a notice.
    async fn reload(&mut self) -> Result<Reply, ClientError> {
        match self.worker.shared.reload.clone().reload().await {
            Ok(Reloaded { changed, later, .. }) => {
                let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
                self.notice(&format!("changed: {changed}"), &later.join("\n"));
                Ok(Reply::done("RELOAD"))
            }
            Err(problems) => {
                Err(ClientError::new("F0000", "the configuration has errors: nothing has changed")
                    .detail(lines(&problems)))
            }
        }
    }

    /// Changes a setting until the next reload.
    async fn set(&mut self, name: &str, value: Option<&str>) -> Result<Reply, ClientError> {
        let unusable =
            |key: &str| ClientError::new("22023", format!("invalid value for parameter \"{key}\""));
        let change = match Change::new(name, value) {
            Ok(change) => change,
            Err(Refusal::Needless(why)) => {
                self.notice(&format!("\"{name}\" has no effect"), why);
                return Ok(Reply::done("SET"));
            }
            Err(Refusal::Unknown(why)) => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                return Err(ClientError::new("42704", message).detail(why));
            }
            Err(Refusal::Fixed(key)) => {
                let message = format!("parameter \"{key}\" cannot be changed without restarting pgherd");
                return Err(ClientError::new("55P02", message)
                    .hint("Change the configuration, and start another pgherd in this one's place."));
            }
            Err(Refusal::Program(key)) => {
                let message = format!("parameter \"{key}\" cannot be set on the console");
                return Err(ClientError::new("42501", message)
                    .detail("It names a program that pgherd runs.")
                    .hint("Change the configuration, and reload it."));
            }
            Err(Refusal::Unreadable(key, why)) => return Err(unusable(key).detail(why)),
        };
        let key = change.key();
        match self.worker.shared.reload.clone().set(change).await {
            Ok(reloaded) => {
                let told: Vec<_> = reloaded.remarks().collect();
                if !told.is_empty() {
                    self.notice(&format!("\"{key}\" was set"), &told.join("\n"));
                }
                Ok(Reply::done("SET"))
            }
            Err(problems) => Err(unusable(key).detail(lines(&problems))),
        }
    }

    /// Waits as PgBouncer does until the last server connection has come back and is closed. A cancel request takes it back.
    async fn pause(&mut self, database: Option<&str>) -> Result<Reply, ClientError> {
        let name = self.ordinary(database)?;
        let shared = Arc::clone(&self.worker.shared);
        if !shared.backends.pause(name) {
            return Err(ClientError::new("55000", "already paused"));
        }
        shared.hubs.look();
        self.warn_of_unknown(name);
        let done = self.wait_until(|| shared.backends.connections(name) == 0).await;
        // Who leaves while it waits has ordered it nevertheless.
        if done.as_ref().is_err_and(|error| error.sqlstate == "57014") {
            shared.backends.resume(name);
        }
        done.map(|()| Reply::done("PAUSE"))
    }

    fn resume(&self, database: Option<&str>) -> Result<Reply, ClientError> {
        let name = self.ordinary(database)?;
        if !self.worker.shared.backends.resume(name) {
            let what = name.map_or_else(|| "pgherd".to_owned(), |name| format!("database \"{name}\""));
            return Err(ClientError::new("55000", format!("{what} is not paused")));
        }
        Ok(Reply::done("RESUME"))
    }

    /// A name, unless it is the console's own.
    fn ordinary<'a>(&self, database: Option<&'a str>) -> Result<Option<&'a str>, ClientError> {
        match database {
            Some(name) if is_console(name) => {
                Err(ClientError::new("42501", format!("database \"{name}\" is pgherd's console")))
            }
            name => Ok(name),
        }
    }

    /// What is ordered of a database that nobody has used holds for it as soon as somebody does; but it may be misspelt.
    fn warn_of_unknown(&mut self, database: Option<&str>) {
        let Some(name) = database else { return };
        let known = self.worker.shared.traffic.known();
        if !known.iter().any(|(database, _)| **database == *name) {
            let message = format!("no client has used database \"{name}\" since pgherd began");
            self.notice(&message, "The order holds for it nevertheless.");
        }
    }

    /// Ends sessions, as `pg_terminate_backend()` does.
    fn dismiss(&self, ends: impl Fn(&Seat) -> bool) {
        let shared = &self.worker.shared;
        shared.roster.all().iter().filter(|seat| ends(seat)).for_each(|seat| seat.dismiss());
        self.worker.summon_all();
    }

    async fn wait_until(&mut self, done: impl Fn() -> bool) -> Result<(), ClientError> {
        let come = async {
            while !done() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.wait_for(come).await
    }

    /// Waits, unless the client leaves, cancels it, or is sent away before.
    pub(super) async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> Result<T, ClientError> {
        let Self { worker, stream, visitor, .. } = self;
        let seat = &visitor.seat;
        seat.begin_wait();
        let mut what = pin!(what);
        let ended = loop {
            let disturbed = poll_fn(|cx| {
                if seat.poll_wait(cx).is_ready() {
                    return Poll::Ready(("57014", "canceling statement due to user request"));
                }
                let ends = worker.stage() != Stage::Serving || seat.is_dismissed();
                if ends || stream.poll_closed().is_ready() {
                    return Poll::Ready(("57P01", "terminating connection due to administrator command"));
                }
                Poll::Pending
            });
            tokio::select! {
                biased;
                come = &mut what => break Ok(come),
                (sqlstate, why) = disturbed => break Err(ClientError::new(sqlstate, why)),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        seat.leave();
        ended
    }

    /// Everybody is told to go, those at rest, or nobody. Nobody who comes now is let in.
    fn shut_down(&self, how: Shutdown) -> Reply {
        let ending = &self.worker.shared.ending;
        match how {
            Shutdown::WaitForClients => ending.leave(),
            Shutdown::WaitForServers => ending.begin(),
            Shutdown::Now => {
                ending.begin();
                self.dismiss(|_| true);
            }
        }
        Reply::done("SHUTDOWN")
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

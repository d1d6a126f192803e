//! The console: databases `pgherd` and `pgbouncer`, which no server has. pgherd answers there itself, with or without servers.
//!
//! A session of the console is a task of a worker, as any other, but for what it talks to. What is typed is taken apart in
//! `command.rs`, what is shown comes from `views`, and `act.rs` does what is ordered, `herd.rs` what is ordered of the servers.

mod act;
pub(crate) mod command;
mod dialogue;
mod herd;
mod lexer;
mod parameters;
mod routing;
pub(crate) mod views;

use std::sync::Arc;

use pgherd_protocol::error::ClientError;
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::startup::Startup;
use pgherd_protocol::write;

use crate::cancel::Registration;
use crate::peer::Peer;
use crate::places::Counted;
use crate::roster::{Card, Listed};
use crate::seat::Seat;
use crate::stream::Stream;
use crate::traffic::Account;
use crate::worker::Worker;

pub(crate) use dialogue::serve;
pub(crate) use herd::{keeping, show_holds};

/// The databases that are the console's.
const DATABASES: [&str; 2] = ["pgherd", "pgbouncer"];

/// Consoles that are served although `pool.max_clients` is reached.
const RESERVED: usize = 1;

/// True if this database is the console's.
pub(crate) fn is_console(database: &str) -> bool {
    DATABASES.contains(&database)
}

/// Somebody who may use the console.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// False for those who may look and not touch.
    is_admin: bool,
    seat: Arc<Seat>,
    account: Arc<Account>,
    /// The greeting, up to the first ReadyForQuery.
    welcome: Vec<u8>,
    /// The client counts, is listed, and its cancel key is valid, as long as these live.
    _kept: (Counted, Listed, Registration),
}

/// Lets somebody in who has proven who it is.
///
/// # Errors
/// What the client is told if it may not use the console, or if there are too many clients.
pub(crate) fn admit(
    worker: &Worker,
    startup: &Startup,
    peer: &Peer,
    stream: &Stream,
) -> Result<Visitor, ClientError> {
    let shared = &worker.shared;
    let config = shared.config.load();
    let Startup { database, user, .. } = startup;
    let is_admin = config.admin.users.contains(user);
    if !is_admin && !config.admin.stats_users.contains(user) {
        let denied = ClientError::new("42501", format!("permission denied for database \"{database}\""));
        return Err(denied
            .detail(format!("User \"{user}\" is in neither admin.users nor admin.stats_users of pgherd.")));
    }
    let counted = shared.clients.enter(config.pool.max_clients);
    let counted = counted.or_else(|| shared.reserved.enter(RESERVED)).ok_or_else(|| {
        ClientError::new("53300", "sorry, too many clients already").detail(
            "pool.max_clients of pgherd is reached, and the place that is kept for the console is taken",
        )
    })?;
    let parameters = Parameters::new(&startup.parameters).unwrap_or_default();
    let local = stream.socket().local_addr().ok().map(Arc::new);
    let ends = (peer.clone(), local);
    let names = (database.as_str().into(), user.as_str().into());
    let card = Card::new(shared.roster.number(), names, ends, Arc::new(parameters));
    let seat = Arc::new(Seat::new(card));
    let registration = shared.cancel_keys.register(&seat, None, startup.spoken_minor());
    let mut welcome = Vec::new();
    write::authentication(&mut welcome, 0, &[]);
    let application_name = startup.parameters.iter().find(|(name, _)| name == "application_name");
    write::parameter_status(&mut welcome, "server_version", &parameters::server_version(database));
    write::parameter_status(&mut welcome, "session_authorization", user);
    write::parameter_status(&mut welcome, "application_name", application_name.map_or("", |(_, name)| name));
    for (name, value) in parameters::told() {
        write::parameter_status(&mut welcome, name, value);
    }
    write::backend_key_data(&mut welcome, &registration.key);
    write::ready_for_query(&mut welcome, b'I');
    let account = shared.traffic.account(database, user);
    let listed = shared.roster.enter(&seat);
    Ok(Visitor { is_admin, seat, account, welcome, _kept: (counted, listed, registration) })
}

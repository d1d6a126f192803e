//! What a client is told of its session at login: the parameters that a server reports for its database, user and settings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::acquire::{Access, Failure, any_server};
use super::login::Refusal;
use super::parameters::StartupParameters;
use crate::worker::Worker;

/// Databases, users and settings that are remembered; past it all are forgotten and asked for again.
const REMEMBERED: usize = 4096;

type Parameters = BTreeMap<Box<str>, Box<str>>;
type Key = (Box<str>, Box<str>, StartupParameters);

/// What servers reported, so that a login needs no server.
#[derive(Debug, Default)]
pub(crate) struct Welcomes(Mutex<HashMap<Key, Arc<Parameters>>>);

/// The parameters for one client.
pub(super) struct Welcome {
    reported: Arc<Parameters>,
    application_name: Box<str>,
}

impl Welcome {
    /// Names and values, as ParameterStatus tells them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reported.iter().map(|(name, value)| {
            let value = if &**name == "application_name" { &self.application_name } else { value };
            (&**name, &**value)
        })
    }
}

/// What to tell this client. Asks a server, as the client, unless the answer is known: so an unknown database, a
/// missing privilege or a bad parameter is refused in the server's own words.
pub(super) async fn find(
    worker: &Worker,
    database: &str,
    user: &str,
    parameters: &Arc<StartupParameters>,
) -> Result<Welcome, Refusal> {
    let application_name = parameters.get("application_name").unwrap_or_default().into();
    let key = (database.into(), user.into(), parameters.without_application_name());
    let known = worker.shared.welcomes.0.lock().get(&key).cloned();
    if let Some(reported) = known {
        return Ok(Welcome { reported, application_name });
    }
    let mut access = Access::new(database.into(), user.into(), Arc::clone(parameters));
    let mut held = match any_server(&mut access, worker).await {
        Ok(held) => held,
        Err(Failure::Told(error)) => return Err(error.into()),
        Err(Failure::Refused(body)) => return Err(Refusal::from_server(&body)),
    };
    let reported = held.lease.connection().map(|c| c.state.parameters.clone()).unwrap_or_default();
    held.lease.give_back();
    let reported = Arc::new(reported);
    let mut welcomes = worker.shared.welcomes.0.lock();
    if welcomes.len() >= REMEMBERED {
        welcomes.clear();
    }
    welcomes.insert(key, Arc::clone(&reported));
    Ok(Welcome { reported, application_name })
}

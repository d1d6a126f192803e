//! What a client is told of its session at login: the parameters that a server reports for its database, user and settings.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_protocol::error::ClientError;
use pgherd_protocol::parameters::Parameters;

use super::acquire::{Access, Failure, any_server};
use super::login::{LoginFailure, Refusal};
use crate::worker::Worker;

/// Databases, users and settings that are remembered; past it all are forgotten and asked for again.
const REMEMBERED: usize = 4096;
/// How long an answer is good for while there is a primary to ask.
const GOOD_FOR: Duration = Duration::from_secs(60);

type Reported = BTreeMap<Box<str>, Box<str>>;
type Key = (Box<str>, Box<str>, Parameters);

/// What servers reported, so that a login needs no server.
#[derive(Debug, Default)]
pub(crate) struct Welcomes(Mutex<HashMap<Key, Known>>);

#[derive(Clone, Debug)]
struct Known {
    reported: Arc<Reported>,
    learnt_at: Instant,
}

impl Welcomes {
    /// Notes what a server reported for these settings.
    pub(super) fn learn(
        &self,
        database: &str,
        user: &str,
        parameters: Parameters,
        reported: &Reported,
    ) -> Arc<Reported> {
        let reported = Arc::new(reported.clone());
        let known = Known { reported: Arc::clone(&reported), learnt_at: Instant::now() };
        let mut welcomes = self.0.lock();
        if welcomes.len() >= REMEMBERED {
            welcomes.clear();
        }
        welcomes.insert((database.into(), user.into(), parameters), known);
        reported
    }

    /// Forgets what servers reported to a user, whose sessions begin otherwise now.
    pub(super) fn forget(&self, user: &str) {
        self.0.lock().retain(|(_, known, _), _| &**known != user);
    }

    /// What is known for these settings. Those that are set to what the server reports anyway change nothing: so most
    /// drivers' settings are known as soon as anybody has connected.
    fn find(&self, database: &str, user: &str, parameters: &Parameters) -> Option<Known> {
        let welcomes = self.0.lock();
        let get = |parameters| welcomes.get(&(database.into(), user.into(), parameters)).cloned();
        match get(Parameters::default()) {
            Some(own) if parameters.change_nothing_of(&own.reported) => Some(own),
            _ => get(parameters.clone()),
        }
    }
}

/// The parameters for one client.
pub(super) struct Welcome {
    reported: Arc<Reported>,
    application_name: Box<str>,
}

impl Welcome {
    /// Names and values, as ParameterStatus tells them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reported.iter().map(|(name, value)| match &**name {
            "application_name" => (&**name, &*self.application_name),
            // Whichever server was asked: what a client writes goes to the primary.
            "in_hot_standby" => (&**name, "off"),
            _ => (&**name, &**value),
        })
    }
}

/// What to tell this client. Asks a server, as the client, unless the answer is known: so an unknown database, a
/// missing privilege or a bad parameter is refused in the server's own words. An old answer will do while no server
/// can be asked at once.
pub(super) async fn find(worker: &Worker, access: &mut Access) -> Result<Welcome, LoginFailure> {
    let welcomes = &worker.shared.welcomes;
    let application_name = access.parameters.get("application_name").unwrap_or_default().into();
    let settings = access.parameters.without_application_name();
    if let Some(Known { reported, learnt_at }) = welcomes.find(access.database(), access.user(), &settings)
        && (learnt_at.elapsed() < GOOD_FOR || !access.can_be_served_now(worker))
    {
        return Ok(Welcome { reported, application_name });
    }
    let mut held = any_server(access, worker).await.map_err(|failure| match failure {
        Failure::Told(error) => error.into(),
        Failure::Refused(body) => LoginFailure::Refused(Refusal::from_server(&body)),
        Failure::Gone => LoginFailure::Gone(io::ErrorKind::ConnectionAborted.into()),
    })?;
    let lost = || ClientError::new("08006", "the connection to the server was lost during login");
    let connection = held.lease.connection().ok_or_else(lost)?;
    let reported = welcomes.learn(access.database(), access.user(), settings, &connection.state.parameters);
    held.lease.give_back();
    Ok(Welcome { reported, application_name })
}

//! `[auth]`: who is let in, and as whom at the servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pgherd_tls::Mode;

use super::problem::{Origin, Problem};
use super::resolve::Bridge;
use super::{Config, Secret, user_maps, value};
use crate::hba::{self, Certificate, Hba, Kind, Maps, Method, Mistake, Rule};
use crate::userlist::Userlist;
use crate::verifiers::Stored;

/// Who is let in. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Auth {
    /// The rules of `auth.hba_file`; none without one.
    pub(crate) hba: Option<Arc<Hba>>,
    /// Where the maps of users are.
    pub(crate) ident_file: Option<PathBuf>,
    /// The maps of `auth.ident_file`.
    pub(crate) maps: Arc<Maps>,
    /// Where the list of users is.
    pub(crate) userlist_file: Option<PathBuf>,
    /// The users of `auth.userlist_file`.
    pub(crate) userlist: Arc<Userlist>,
    /// How stored passwords are read, where not from `pg_authid`.
    pub(crate) query: Option<String>,
    /// As whom they are read, instead of the monitor user.
    pub(crate) query_user: Option<String>,
    /// Its password.
    pub(crate) query_password: Option<Secret>,
    /// In which database, instead of the monitor's.
    pub(crate) query_database: Option<String>,
    /// Who is somebody else at the servers; the first that fits counts.
    pub(crate) user_maps: Vec<UserMap>,
    /// Failed logins of one user from one address within the window, after which it is shut out; 0 for no bound.
    pub(crate) max_failures: usize,
    /// See [`Auth::max_failures`].
    pub(crate) failure_window: Duration,
}

/// One `[[auth.map]]`: as whom clients are logged in at the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserMap {
    /// The database it is for; every one if none.
    pub(crate) database: Option<String>,
    /// The client's user it is for; every one if none.
    pub(crate) user: Option<String>,
    /// The user at the servers; the client's if none.
    pub(crate) server_user: Option<String>,
    /// Its password; none where the servers do not ask for one, or the userlist has it.
    pub(crate) password: Option<Secret>,
}

impl UserMap {
    fn is_for(&self, database: &str, user: &str) -> bool {
        let fits = |wanted: &Option<String>, actual: &str| wanted.as_deref().is_none_or(|w| w == actual);
        fits(&self.database, database) && fits(&self.user, user)
    }
}

impl Auth {
    /// Who this user is at the servers.
    pub(crate) fn server_user<'a>(&'a self, database: &str, user: &'a str) -> &'a str {
        let map = self.user_maps.iter().find(|map| map.is_for(database, user));
        map.and_then(|map| map.server_user.as_deref()).unwrap_or(user)
    }

    /// What logs in this user of the servers, if the configuration says it.
    pub(crate) fn server_password(&self, database: &str, server_user: &str) -> Option<ServerPassword<'_>> {
        let leads_there = |map: &&UserMap| match &map.server_user {
            Some(name) => name == server_user && map.database.as_deref().is_none_or(|it| it == database),
            None => map.is_for(database, server_user),
        };
        let of_map = self.user_maps.iter().filter(leads_there).find_map(|map| map.password.as_ref());
        if let Some(password) = of_map {
            return Some(ServerPassword::Map(password));
        }
        self.userlist.find(server_user).flatten().map(ServerPassword::Userlist)
    }

    /// True if somebody must know what roles are members of.
    pub(crate) fn asks_for_memberships(&self) -> bool {
        self.hba.as_ref().is_some_and(|hba| hba.asks_for_memberships()) || self.maps.asks_for_memberships()
    }
}

/// Where the password of a user of the servers is.
#[derive(Debug)]
pub(crate) enum ServerPassword<'a> {
    /// In `[[auth.map]]`.
    Map(&'a Secret),
    /// In the userlist.
    Userlist(&'a Stored),
}

impl Bridge<'_> {
    /// Reads `[auth]` and the files that it names.
    pub(super) fn auth(&mut self) -> Option<Auth> {
        let hba = self.file("auth.hba_file", Hba::read).map(|(_, hba)| Arc::new(hba));
        let (ident_file, maps) = self.file("auth.ident_file", Maps::read).unzip();
        let (userlist_file, userlist) = self.file("auth.userlist_file", Userlist::read).unzip();
        let query = self.get("auth.query", value::text);
        let query_user = self.get("auth.query_user", value::text);
        let query_password = self.secret("auth.query_password", "auth.query_password_file");
        let query_database = self.get("auth.query_database", value::text);
        let user_maps = self.read("auth.map", user_maps::read).map(|(_, maps)| maps).unwrap_or_default();
        let max_failures = self.get("auth.max_failures", value::integer(0..=1_000_000));
        let window = Duration::from_secs(1)..=Duration::from_secs(86_400);
        let failure_window = self.get("auth.failure_window", value::duration(window));
        Some(Auth {
            hba,
            ident_file,
            maps: Arc::new(maps.unwrap_or_default()),
            userlist_file,
            userlist: Arc::new(userlist.unwrap_or_default()),
            query,
            query_user,
            query_password,
            query_database,
            user_maps,
            max_failures: max_failures?,
            failure_window: failure_window?,
        })
    }

    /// What a file says whose path this key gives.
    fn file<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Path, hba::ReadFile<'_>) -> Result<T, Vec<Mistake>>,
    ) -> Option<(PathBuf, T)> {
        let path = self.get(name, value::path)?;
        match read(&path, &hba::from_disk) {
            Ok(content) => Some((path, content)),
            Err(mistakes) => {
                self.errors.extend(mistakes.into_iter().map(|Mistake { path, line, message }| {
                    Problem::new(Origin::File { path, line, column: 1 }, name, message)
                }));
                None
            }
        }
    }
}

/// What is valid, and yet hardly meant.
pub(super) fn doubts(config: &Config) -> Vec<Problem> {
    let auth = &config.auth;
    let mut doubts = Vec::new();
    if auth.query.is_none() {
        let given = [
            ("auth.query_user", auth.query_user.is_some()),
            ("auth.query_password", auth.query_password.is_some()),
            ("auth.query_database", auth.query_database.is_some()),
        ];
        doubts.extend(given.into_iter().filter(|(_, given)| *given).map(|(key, _)| Problem {
            origin: None,
            key: Some(key.into()),
            message: "has no effect without auth.query".to_owned(),
        }));
    }
    let Some(hba) = &auth.hba else { return doubts };
    for rule in &hba.rules {
        let origin = Origin::File { path: Arc::clone(&hba.path), line: rule.line, column: 1 };
        doubts
            .extend(doubts_about(rule, config).map(|why| Problem::new(origin.clone(), "auth.hba_file", why)));
    }
    doubts
}

fn doubts_about(rule: &Rule, config: &Config) -> impl Iterator<Item = String> {
    let (auth, tls) = (&config.auth, &config.listen.tls);
    let no_key = (rule.method.gives_no_key() && !has_server_passwords(rule, auth)).then(|| {
        format!(
            "method {} leaves nothing to log in at the servers with: give the users that it is for a password in \
             auth.userlist_file or [[auth.map]], unless the servers trust pgherd",
            rule.method.name()
        )
    });
    let in_clear = (rule.method == Method::Password && rule.kind == Kind::HostNoSsl)
        .then(|| "method password never lets anybody in without TLS".to_owned());
    let no_map = rule
        .map
        .as_ref()
        .filter(|map| !auth.maps.has(map))
        .map(|map| format!("map \"{map}\" is not in auth.ident_file: nobody is let in by this rule"));
    let no_tls = (rule.kind == Kind::HostSsl && tls.mode == Mode::Disable)
        .then(|| "is for TLS, which listen.tls turns off: it never fits".to_owned());
    let no_authority = (rule.certificate != Certificate::Any && tls.client_ca.is_none()).then(|| {
        "asks for a certificate, and listen.tls.client_ca is not set: nobody is let in by this rule"
            .to_owned()
    });
    [no_key, in_clear, no_map, no_tls, no_authority].into_iter().flatten()
}

/// True if each user of the rule is sure to have a password at the servers.
fn has_server_passwords(rule: &Rule, auth: &Auth) -> bool {
    let is_given = |user: &&str| {
        let mut maps = auth.user_maps.iter();
        // Of which database depends on the client: a map for one is no answer for another.
        let all = maps.any(|map| map.database.is_none() && map.is_for("", user) && map.password.is_some());
        let listed = match auth.userlist.find(auth.server_user("", user)).flatten() {
            Some(Stored::Plain(_)) => true,
            Some(Stored::Verifier(verifier)) => {
                matches!(verifier, pgherd_protocol::auth::Verifier::Md5(_))
            }
            None => false,
        };
        all || listed
    };
    rule.named_users().is_some_and(|users| users.iter().all(is_given))
}

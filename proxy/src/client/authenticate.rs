//! Who is let in: the rule for a connection, and what it asks for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pgherd_protocol::auth::{AuthError, Credential, Verifier};
use pgherd_protocol::error::ClientError;
use pgherd_protocol::startup::Startup;
use tokio::io::AsyncWriteExt;

use super::exchange::{self, Proof};
use super::login::LoginFailure;
use super::replication::Replication;
use crate::config::{Auth, Config};
use crate::console::is_console;
use crate::failures::Bound;
use crate::hba::{Certificate, Hba, Method, Naming, Question, Rule, Transport, Verdict};
use crate::peer::{Peer, PeerAddress};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::verifiers::{LookupError, Role, Stored};

/// SQLSTATE of a login that is refused for another reason than a wrong password.
const NOT_AUTHORIZED: &str = "28000";

/// A login under way.
pub(super) struct Applicant<'a> {
    pub(super) shared: &'a Shared,
    pub(super) config: &'a Config,
    pub(super) stream: &'a mut Stream,
    pub(super) peer: &'a Peer,
    pub(super) startup: &'a Startup,
    pub(super) replication: Replication,
    /// As old as the configuration that it goes by.
    pub(super) begun_at: Instant,
}

/// What the servers say of the user that a client wants to be.
enum Known {
    Role(Arc<Role>),
    /// There is no such role.
    Nobody,
    /// No server could be asked.
    Nothing(LookupError),
}

/// What a client has proven.
#[derive(Default)]
struct Proven {
    /// What logs it in at the servers, if it gave that away, and as of when the password was that.
    credential: Option<(Credential, Instant)>,
    /// What is still owed to it, once it is let in.
    last_words: Vec<u8>,
}

/// What a client has to show.
enum Asked {
    Nothing,
    SystemUser,
    Password(Kind),
}

/// How a password is asked for.
enum Kind {
    InClear,
    ByWhatIsStored,
    Scram,
}

/// Why a client is not let in.
enum Denied {
    /// It has not proven who it is; a rate limit counts it. The message names the method.
    Failed(ClientError),
    /// Anything else.
    Refused(LoginFailure),
}

impl From<LoginFailure> for Denied {
    fn from(failure: LoginFailure) -> Self {
        Self::Refused(failure)
    }
}

impl From<ClientError> for Denied {
    fn from(error: ClientError) -> Self {
        Self::Refused(error.into())
    }
}

impl Applicant<'_> {
    /// Lets the client in, as which role if the servers have one of this name.
    ///
    /// # Errors
    /// What the client is told, as PostgreSQL would tell it; or that it went away.
    pub(super) async fn authenticate(mut self) -> Result<Option<Arc<Role>>, LoginFailure> {
        self.check_failures()?;
        let proven = self.prove().await;
        if !matches!(proven, Err(Denied::Refused(_))) {
            // Of logins that are tried at the same time, only as many are judged as may fail.
            self.check_failures()?;
        }
        match proven {
            Ok((proven, known)) => {
                self.stream.write_all(&proven.last_words).await?;
                self.admit(proven.credential, known)
            }
            Err(Denied::Failed(error)) => {
                self.count_failure();
                Err(error.into())
            }
            Err(Denied::Refused(failure)) => Err(failure),
        }
    }

    /// Has the client show what the rule for it asks for.
    async fn prove(&mut self) -> Result<(Proven, Known), Denied> {
        let auth = &self.config.auth;
        let mut known = None;
        if auth.asks_for_memberships() {
            known = Some(self.look_up().await);
        }
        let member_of = match &known {
            Some(Known::Role(role)) => role.member_of.clone(),
            // Better nobody is let in than by the wrong rule.
            Some(Known::Nothing(error)) => return Err(self.cannot_check(error).into()),
            Some(Known::Nobody) | None => Vec::new(),
        };
        let rule = match &auth.hba {
            Some(hba) => Some(self.rule(hba, &member_of).await?),
            None => None,
        };
        if let Some(rule) = rule
            && rule.certificate != Certificate::Any
            && self.certificate().is_none()
        {
            return Err(
                ClientError::new(NOT_AUTHORIZED, "connection requires a valid client certificate").into()
            );
        }
        let known = match known {
            Some(known) => known,
            None => self.look_up().await,
        };
        let proven = match self.asked(rule)? {
            Asked::Nothing => Proven::default(),
            Asked::SystemUser if self.is_system_user(rule, &member_of).await => Proven::default(),
            Asked::SystemUser if rule.is_some() => return Err(Denied::Failed(self.failed("Peer"))),
            Asked::SystemUser => self.password(&Kind::ByWhatIsStored, &known).await?,
            Asked::Password(kind) => self.password(&kind, &known).await?,
        };
        if let Some(rule) = rule
            && rule.certificate == Certificate::NamesUser
            && !self.certificate_names_user(rule, &member_of)
        {
            return Err(Denied::Failed(match rule.method {
                Method::Cert => self.failed("certificate"),
                Method::Trust => self.failed("\"trust\""),
                _ => self.wrong_password(),
            }));
        }
        Ok((proven, known))
    }

    /// The rule for this connection.
    async fn rule<'h>(&self, hba: &'h Hba, member_of: &[Box<str>]) -> Result<&'h Rule, LoginFailure> {
        let hosts = self.shared.hosts.now();
        let question = Question {
            transport: self.transport(),
            database: &self.startup.database,
            user: &self.startup.user,
            is_replication: self.replication == Replication::Physical,
            member_of,
        };
        loop {
            match hba.decide(&question, &hosts) {
                Verdict::Rule(rule) if rule.method != Method::Reject => return Ok(rule),
                Verdict::Rule(_) => return Err(self.turned_away(true).into()),
                Verdict::NoEntry => return Err(self.turned_away(false).into()),
                Verdict::Resolve(name) => hosts.resolve(name).await,
            }
        }
    }

    /// As PostgreSQL says that a line, or the lack of one, keeps somebody out.
    fn turned_away(&self, by_entry: bool) -> ClientError {
        let Startup { user, database, .. } = self.startup;
        let host = self.address().map_or_else(|| "[local]".to_owned(), |address| address.to_string());
        let encryption = match self.transport() {
            Transport::Tls(_) => "SSL encryption",
            Transport::Plain(_) | Transport::Local => "no encryption",
        };
        let message = match (by_entry, self.replication == Replication::Physical) {
            (true, false) => format!(
                "pg_hba.conf rejects connection for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
            ),
            (true, true) => format!(
                "pg_hba.conf rejects replication connection for host \"{host}\", user \"{user}\", {encryption}"
            ),
            (false, false) => format!(
                "no pg_hba.conf entry for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
            ),
            (false, true) => format!(
                "no pg_hba.conf entry for replication connection from host \"{host}\", user \"{user}\", {encryption}"
            ),
        };
        ClientError::new(NOT_AUTHORIZED, message)
    }

    /// What the client must show; without a file of rules, a password, unless the operating system names it and there is
    /// something to log in at the servers with.
    fn asked(&self, rule: Option<&Rule>) -> Result<Asked, ClientError> {
        let Some(rule) = rule else {
            let Startup { user, database, .. } = self.startup;
            let server_user = self.config.auth.server_user(database, user);
            let can_do_without = self.transport() == Transport::Local
                && !matches!(self.shared.credential(self.config, database, server_user), Credential::None);
            return Ok(if can_do_without {
                Asked::SystemUser
            } else {
                Asked::Password(Kind::ByWhatIsStored)
            });
        };
        Ok(match rule.method {
            Method::Trust | Method::Cert => Asked::Nothing,
            Method::Peer => Asked::SystemUser,
            Method::Md5 => Asked::Password(Kind::ByWhatIsStored),
            Method::ScramSha256 => Asked::Password(Kind::Scram),
            Method::Password if matches!(self.transport(), Transport::Plain(_)) => {
                return Err(ClientError::new(
                    NOT_AUTHORIZED,
                    "a password in clear text is not taken over a connection without encryption",
                )
                .hint("Connect with sslmode=require, or have pg_hba.conf of pgherd say scram-sha-256 instead of password."));
            }
            Method::Password => Asked::Password(Kind::InClear),
            Method::Reject => return Err(self.turned_away(true)),
        })
    }

    /// Asks for the password.
    async fn password(&mut self, kind: &Kind, known: &Known) -> Result<Proven, Denied> {
        let user = &self.startup.user;
        let userlist = self.config.auth.userlist.find(user);
        let as_of = match known {
            Known::Role(role) if userlist.is_none() => role.fetched_at,
            _ => self.begun_at,
        };
        let role = match known {
            Known::Role(role) => Some(&**role),
            Known::Nothing(error) if userlist.is_none() => return Err(self.cannot_check(error).into()),
            Known::Nobody | Known::Nothing(_) => None,
        };
        let now = SystemTime::now();
        let expired = role.is_some_and(|role| role.valid_until.is_some_and(|until| until < now));
        let stored = match userlist {
            Some(listed) => listed.filter(|_| !expired),
            None => role.and_then(|role| role.stored_at(now)),
        };
        let secret = &self.shared.verifiers.mock_secret();
        let scram = match stored {
            Some(Stored::Verifier(Verifier::Scram(verifier))) => Some(verifier),
            Some(Stored::Plain(plain)) => Some(plain.scram(user, secret)),
            Some(Stored::Verifier(Verifier::Md5(_))) | None => None,
        };
        let proof: Proof = match (kind, stored) {
            (Kind::InClear, stored) => {
                let md5 = match stored {
                    Some(Stored::Verifier(Verifier::Md5(verifier))) => Some(verifier),
                    _ => None,
                };
                exchange::check_in_clear(self.stream, user, (scram, md5), secret).await?
            }
            (Kind::ByWhatIsStored, Some(Stored::Verifier(Verifier::Md5(verifier)))) => {
                exchange::check_md5(self.stream, verifier).await?
            }
            (Kind::ByWhatIsStored | Kind::Scram, _) => {
                exchange::check_scram(secret, self.stream, self.peer.channel(), user, scram).await?
            }
        };
        match (proof, stored) {
            (Ok((_, last_words)), Some(Stored::Plain(plain))) => {
                Ok(Proven { credential: Some((plain.credential(user), as_of)), last_words })
            }
            (Ok((credential, last_words)), _) => {
                Ok(Proven { credential: Some((credential, as_of)), last_words })
            }
            (Err(AuthError::Failed), _) => Err(Denied::Failed(self.wrong_password())),
            (Err(error), _) => {
                let refusal = ClientError::new(error.sqlstate(), error.to_string());
                Err(error.detail().map_or(refusal.clone(), |detail| refusal.detail(detail)).into())
            }
        }
    }

    /// What has to be right besides, once the client has proven who it is.
    fn admit(
        &self,
        credential: Option<(Credential, Instant)>,
        known: Known,
    ) -> Result<Option<Arc<Role>>, LoginFailure> {
        let Startup { user, database, .. } = self.startup;
        let server_user = self.config.auth.server_user(database, user);
        match &known {
            Known::Role(role) if role.facts.is_some_and(|facts| !facts.can_login) => {
                let message = format!("role \"{user}\" is not permitted to log in");
                return Err(ClientError::new(NOT_AUTHORIZED, message).into());
            }
            // The console is pgherd's own.
            Known::Nobody if server_user == user && !is_console(database) => {
                return Err(
                    ClientError::new(NOT_AUTHORIZED, format!("role \"{user}\" does not exist")).into()
                );
            }
            Known::Role(_) | Known::Nobody | Known::Nothing(_) => {}
        }
        if let Some((credential, as_of)) = credential {
            self.shared.credentials.set(user, credential, as_of);
        }
        Ok(match known {
            Known::Role(role) => Some(role),
            Known::Nobody | Known::Nothing(_) => None,
        })
    }

    async fn look_up(&self) -> Known {
        match self.shared.verifiers.lookup(&self.startup.user).await {
            Ok(role) => Known::Role(role),
            Err(LookupError::NoSuchRole) => Known::Nobody,
            Err(error) => Known::Nothing(error),
        }
    }

    fn cannot_check(&self, error: &LookupError) -> ClientError {
        if self.may_be_told_of() {
            tracing::warn!(user = self.startup.user, %error, "a password cannot be checked");
        }
        ClientError::new("57P03", "the password cannot be checked now")
            .hint("No server could be asked for the stored password. Try again later.")
    }

    /// Whether the operating system's name of the client's process may be this user.
    async fn is_system_user(&self, rule: Option<&Rule>, member_of: &[Box<str>]) -> bool {
        let PeerAddress::Unix(peer) = &self.peer.address else { return false };
        let uid = nix::unistd::Uid::from_raw(peer.uid);
        let found = tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid)).await;
        let Ok(Ok(Some(system))) = found else {
            if self.may_be_told_of() {
                tracing::info!(peer = %self.peer, %uid, "the operating system has no name for a client's user");
            }
            return false;
        };
        let map = rule.and_then(|rule| rule.map.as_deref());
        let allowed = self.config.auth.maps.allow(map, &system.name, &self.startup.user, member_of);
        if !allowed && rule.is_some() && self.may_be_told_of() {
            tracing::info!(peer = %self.peer, system = system.name, user = self.startup.user, map, "no map allows this");
        }
        allowed
    }

    fn certificate_names_user(&self, rule: &Rule, member_of: &[Box<str>]) -> bool {
        let name = self.certificate().and_then(|names| match rule.naming {
            Naming::CommonName => names.common_name.as_deref(),
            Naming::DistinguishedName => Some(&*names.subject),
        });
        let maps = &self.config.auth.maps;
        let allowed =
            name.is_some_and(|name| maps.allow(rule.map.as_deref(), name, &self.startup.user, member_of));
        if !allowed && self.may_be_told_of() {
            tracing::info!(peer = %self.peer, name, user = self.startup.user, map = rule.map, "the certificate names somebody else");
        }
        allowed
    }

    fn certificate(&self) -> Option<&crate::peer::CertificateNames> {
        self.peer.tls.as_ref()?.client_certificate.as_ref()
    }

    fn failed(&self, method: &str) -> ClientError {
        let message = format!("{method} authentication failed for user \"{}\"", self.startup.user);
        ClientError::new(NOT_AUTHORIZED, message)
    }

    fn wrong_password(&self) -> ClientError {
        let message = format!("password authentication failed for user \"{}\"", self.startup.user);
        ClientError::new("28P01", message)
    }

    fn transport(&self) -> Transport {
        match (self.address(), &self.peer.tls) {
            (None, _) => Transport::Local,
            (Some(address), None) => Transport::Plain(address),
            (Some(address), Some(_)) => Transport::Tls(address),
        }
    }

    /// Where the client is; none on this machine, over a Unix socket.
    fn address(&self) -> Option<IpAddr> {
        match &self.peer.address {
            PeerAddress::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddress::Unix(_) => None,
        }
    }

    /// True if the log may have a line about this login.
    fn may_be_told_of(&self) -> bool {
        self.shared.strangers.may_be_told_of(&self.peer.address)
    }

    fn bound(&self) -> Bound {
        let Auth { max_failures, failure_window, .. } = self.config.auth;
        Bound { most: max_failures, window: failure_window }
    }

    /// Refuses whoever has failed too often from its address, and everybody from where too many logins have failed.
    fn check_failures(&self) -> Result<(), ClientError> {
        let Some(address) = self.address() else { return Ok(()) };
        let user = self.startup.user.as_str();
        if !self.shared.failures.shut_out((address, user), self.bound(), Instant::now()) {
            return Ok(());
        }
        Err(ClientError::new(NOT_AUTHORIZED, format!("too many failed logins from \"{address}\""))
            .hint("Wait for auth.failure_window of pgherd, and log in with the right password."))
    }

    fn count_failure(&self) {
        let Some(address) = self.address() else { return };
        let user = self.startup.user.as_str();
        let shuts_out = self.shared.failures.count((address, user), self.bound(), Instant::now());
        if shuts_out && self.may_be_told_of() {
            let window = self.config.auth.failure_window;
            tracing::warn!(%address, user, ?window, "too many failed logins: nobody is let in so for a while");
        }
    }
}

//! Logins at the manager: the passwords that clients have, and the users that the console has.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pgherd_manager::{Denial, Role};
use pgherd_protocol::auth::{Md5Verifier, ScramVerifier, Verifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::failures::{Bound, Failures};
use crate::shared::Shared;
use crate::verifiers::{LookupError, Stored};

/// Passwords that are hashed at a time: whoever guesses many at once takes no more of the machine from clients.
pub(super) const HASHED: usize = 2;

/// What this user may do.
pub(super) fn role_of(config: &Config, user: &str) -> Option<Role> {
    let is_one_of = |users: &[String]| users.iter().any(|it| it == user);
    if is_one_of(&config.admin.users) {
        Some(Role::Operator)
    } else if is_one_of(&config.admin.stats_users) {
        Some(Role::Viewer)
    } else {
        None
    }
}

/// Checks a password against what the servers, or the userlist, have stored. Whoever fails is counted apart from clients: behind a balancer
/// both come from one address, and nobody is to shut applications out here.
pub(super) async fn log_in(
    (shared, turns, failures): (&Arc<Shared>, &Semaphore, &Failures),
    address: Option<IpAddr>,
    user: &str,
    password: &str,
) -> Result<Role, Denial> {
    let config = shared.config.load_full();
    let bound = Bound { most: config.auth.max_failures, window: config.auth.failure_window };
    let whose = (address.map_or(Ipv4Addr::LOCALHOST.into(), |it| it.to_canonical()), user);
    let shut_out = || failures.shut_out(whose, bound, Instant::now());
    if shut_out() {
        return Err(Denial::TooMany);
    }
    let is_right = check((shared, turns), &config, user, password).await?;
    // Of logins that are tried at the same time, only as many are judged as may fail.
    if shut_out() {
        return Err(Denial::TooMany);
    }
    match role_of(&config, user).filter(|_| is_right) {
        Some(role) => Ok(role),
        None => {
            if failures.count(whose, bound, Instant::now()) {
                tracing::warn!(address = %whose.0, user, "logins at the manager have failed too often: turned away for a while");
            }
            Err(Denial::Wrong)
        }
    }
}

async fn check(
    (shared, turns): (&Shared, &Semaphore),
    config: &Config,
    user: &str,
    password: &str,
) -> Result<bool, Denial> {
    let listed = config.auth.userlist.find(user);
    let now = SystemTime::now();
    let (role, known) = match shared.verifiers.lookup(user).await {
        Ok(role) => (Some(role), true),
        Err(LookupError::NoSuchRole) => (None, true),
        Err(error) => {
            tracing::warn!(user, %error, "a password cannot be checked at the manager");
            (None, false)
        }
    };
    if !known && listed.is_none() {
        let why = "The password cannot be checked now: no server could be asked for the stored one. Try again later.";
        return Err(Denial::Unavailable(why.to_owned()));
    }
    let expired = role.as_ref().is_some_and(|role| role.valid_until.is_some_and(|until| until < now));
    let may_log_in = role.as_ref().is_none_or(|role| role.facts.is_none_or(|facts| facts.can_login));
    let stored = match listed {
        Some(listed) => listed.filter(|_| !expired).cloned(),
        None => role.as_ref().and_then(|role| role.stored_at(now)).cloned(),
    };
    let secret = shared.verifiers.mock_secret();
    let (user, password) = (user.to_owned(), Zeroizing::new(password.as_bytes().to_vec()));
    // Nobody closes it.
    let _turn = turns.acquire().await;
    // Thousands of hashes, while which nobody else would be answered; as many if there is no such user.
    let fits = tokio::task::spawn_blocking(move || fits(stored.as_ref(), &user, &password, &secret));
    Ok(fits.await.unwrap_or(false) && may_log_in)
}

fn fits(stored: Option<&Stored>, user: &str, password: &[u8], secret: &[u8; 32]) -> bool {
    match stored {
        Some(Stored::Verifier(Verifier::Md5(verifier))) => {
            Md5Verifier::from_password(user, password) == *verifier
        }
        Some(Stored::Verifier(Verifier::Scram(verifier))) => verifier.keys_of(password).is_some(),
        Some(Stored::Plain(plain)) => plain.scram(user, secret).keys_of(password).is_some(),
        None => ScramVerifier::mock(user, secret).keys_of(password).is_some_and(|_| false),
    }
}

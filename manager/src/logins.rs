//! Who has logged in at the page: sessions in memory, each with a cookie and a token against requests from other sites.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Sessions at a time; past it the one that was used longest ago ends.
const MOST: usize = 1000;
/// Of them, sessions of one user.
const MOST_OF_USER: usize = 50;
/// A session that nobody uses ends after so long.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// A session ends after so long in any case.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// The hash of a cookie: what is in memory lets nobody in.
type Key = [u8; 32];

/// What is worth a session, or part of it: never printed, compared in constant time, wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    fn random() -> Self {
        let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// The text, for whose it is.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<HashMap<Key, Session>>);

#[derive(Clone, Debug)]
struct Session {
    user: String,
    csrf: Token,
    by_proxy: bool,
    began: Instant,
    used: Instant,
}

/// A session that has just begun. Its cookie is a secret.
pub(crate) struct Begun {
    /// What the browser is to send.
    pub(crate) cookie: Token,
    /// What the page is to send with whatever changes something.
    pub(crate) csrf: Token,
}

/// Whose session it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// The user.
    pub(crate) user: String,
    /// See [`Begun::csrf`].
    pub(crate) csrf: Token,
    /// A proxy's word began it: it lasts as long as the proxy says so.
    pub(crate) by_proxy: bool,
}

impl Known {
    /// True if this is the session's token.
    pub(crate) fn is_from_page(&self, token: &[u8]) -> bool {
        self.csrf.reveal().as_bytes().ct_eq(token).into()
    }
}

impl Logins {
    /// Begins a session, by a proxy's word or by a password.
    pub(crate) fn begin(&self, user: &str, by_proxy: bool, now: Instant) -> Begun {
        let (cookie, csrf) = (Token::random(), Token::random());
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.lives(now));
        // One user's own make place first: a script without a jar for cookies ends nobody else's.
        let own = sessions.values().filter(|it| it.user == user).count();
        if own >= MOST_OF_USER || sessions.len() >= MOST {
            let mine = sessions.iter().filter(|(_, it)| own < MOST_OF_USER || it.user == user);
            let oldest = mine.min_by_key(|(_, it)| it.used).map(|(key, _)| *key);
            oldest.and_then(|oldest| sessions.remove(&oldest));
        }
        let csrf_token = csrf.clone();
        let session = Session { user: user.to_owned(), csrf: csrf_token, by_proxy, began: now, used: now };
        sessions.insert(key(cookie.reveal().as_bytes()), session);
        Begun { cookie, csrf }
    }

    /// The session of this cookie, which is used now.
    pub(crate) fn find(&self, cookie: &str, now: Instant) -> Option<Known> {
        let mut sessions = self.0.lock();
        let session = sessions.get_mut(&key(cookie.as_bytes())).filter(|it| it.lives(now))?;
        session.used = now;
        Some(session.known())
    }

    /// The same, without using it: a page that is open and looked at by nobody ends with its session.
    pub(crate) fn peek(&self, cookie: &str, now: Instant) -> Option<Known> {
        self.0.lock().get(&key(cookie.as_bytes())).filter(|it| it.lives(now)).map(Session::known)
    }

    /// Ends the session of this cookie.
    pub(crate) fn end(&self, cookie: &str) {
        self.0.lock().remove(&key(cookie.as_bytes()));
    }
}

impl Session {
    fn known(&self) -> Known {
        Known { user: self.user.clone(), csrf: self.csrf.clone(), by_proxy: self.by_proxy }
    }

    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < IDLE && now.saturating_duration_since(self.began) < LASTS
    }
}

fn key(cookie: &[u8]) -> Key {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_as_long_as_it_is_used_and_not_for_ever() {
        let (logins, began) = (Logins::default(), Instant::now());
        let session = logins.begin("ann", false, began);
        let minutes = |number: u64| began + Duration::from_secs(60 * number);
        let user = |at| logins.find(session.cookie.reveal(), at).map(|known| known.user);
        assert!(logins.find("another", began).is_none());
        for at in (0..720).step_by(59) {
            assert_eq!(user(minutes(at)).as_deref(), Some("ann"), "after {at} minutes");
        }
        assert_eq!(user(minutes(720)), None, "twelve hours");
        let idle = logins.begin("bob", false, began);
        assert!(logins.find(idle.cookie.reveal(), minutes(60)).is_none());
    }

    #[test]
    fn the_token_is_the_sessions_own_and_a_session_that_was_ended_is_gone() {
        let (logins, now) = (Logins::default(), Instant::now());
        let (one, other) = (logins.begin("ann", false, now), logins.begin("ann", false, now));
        let known = logins.find(one.cookie.reveal(), now).unwrap();
        assert!(
            known.is_from_page(one.csrf.reveal().as_bytes())
                && !known.is_from_page(other.csrf.reveal().as_bytes())
        );
        assert!(!known.is_from_page(b""));
        assert!(!format!("{logins:?}").contains(one.csrf.reveal()), "{logins:?}");
        logins.end(one.cookie.reveal());
        assert!(
            logins.find(one.cookie.reveal(), now).is_none()
                && logins.find(other.cookie.reveal(), now).is_some()
        );
    }

    #[test]
    fn of_too_many_the_one_that_was_used_longest_ago_ends() {
        let (logins, began) = (Logins::default(), Instant::now());
        let at = |number: usize| began + Duration::from_millis(number.try_into().unwrap());
        let first = logins.begin("first", false, began);
        let second = logins.begin("second", false, at(1));
        for number in 2..MOST {
            logins.begin(&format!("user{number}"), false, at(number));
        }
        logins.find(first.cookie.reveal(), at(MOST));
        logins.begin("last", false, at(MOST + 1));
        assert!(logins.find(first.cookie.reveal(), at(MOST + 2)).is_some());
        assert!(logins.find(second.cookie.reveal(), at(MOST + 2)).is_none());
    }
}

//! One connection, tried with TLS and without as its mode says.

use crate::negotiation::{Attempt, Failure};
use crate::server_tls::ServerTls;

/// The attempts at one connection to an address that answers. `E` is why one of them failed.
#[derive(Debug)]
pub struct Attempts<'a, E> {
    tls: &'a ServerTls,
    attempt: Attempt,
    /// Why the one before this failed.
    before: Option<E>,
}

impl<'a, E> Attempts<'a, E> {
    /// The first one.
    #[must_use]
    pub const fn new(tls: &'a ServerTls) -> Self {
        Self { tls, attempt: tls.mode().first(), before: None }
    }

    /// How the connection is to be tried now.
    #[must_use]
    pub const fn now(&self) -> Attempt {
        self.attempt
    }

    /// The present one has failed, and the next is to be made; `kind` says whether it may go better otherwise. What is returned is
    /// why the connection to this server (`host:port`) goes on without TLS, if that is news.
    ///
    /// # Errors
    /// There is no other way: why the connection cannot be had.
    pub fn go_on(&mut self, why: E, kind: Option<Failure>, server: &str) -> Result<Option<&E>, E> {
        let mode = self.tls.mode();
        let Some(next) = kind.and_then(|kind| mode.after(self.attempt, kind)) else {
            // That there is no TLS either tells less than why the login without it was refused.
            return Err(self.before.take().filter(|_| kind == Some(Failure::NoTls)).unwrap_or(why));
        };
        self.attempt = next;
        let is_news = kind == Some(Failure::Handshake) && self.tls.is_news_of(server);
        let why = self.before.insert(why);
        Ok(is_news.then_some(&*why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Settings;
    use crate::negotiation::Mode;

    fn tls(mode: Mode) -> ServerTls {
        ServerTls::load(Settings { mode, ..Settings::default() }).unwrap()
    }

    #[test]
    fn what_is_told_at_the_end_is_what_tells_most() {
        let tls = tls(Mode::Allow);
        let mut attempts = Attempts::new(&tls);
        assert_eq!(attempts.now(), Attempt::Plain);
        assert_eq!(attempts.go_on("refused", Some(Failure::Login), "a:1"), Ok(None));
        assert_eq!(attempts.now(), Attempt::Tls);
        assert_eq!(attempts.go_on("no TLS", Some(Failure::NoTls), "a:1"), Err("refused"));
        let mut attempts = Attempts::new(&tls);
        attempts.go_on("refused", Some(Failure::Login), "a:1").unwrap();
        assert_eq!(attempts.go_on("refused again", Some(Failure::Login), "a:1"), Err("refused again"));
        assert_eq!(Attempts::new(&tls).go_on("lost", None, "a:1"), Err("lost"));
    }

    #[test]
    fn that_a_connection_goes_on_without_tls_is_told_once_of_each_server() {
        let tls = tls(Mode::Prefer);
        let told = |server: &str| {
            let mut attempts = Attempts::new(&tls);
            let told = attempts.go_on("broken", Some(Failure::Handshake), server).unwrap().copied();
            assert_eq!(attempts.now(), Attempt::Plain);
            told
        };
        assert_eq!((told("a:1"), told("a:1"), told("b:1")), (Some("broken"), None, Some("broken")));
    }
}

//! What logins gave to log in at the servers with.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use pgherd_protocol::auth::Credential;

/// What the last login of each user gave. As many entries as there are roles.
#[derive(Debug, Default)]
pub(crate) struct Credentials(Mutex<HashMap<Box<str>, Given>>);

#[derive(Debug)]
struct Given {
    credential: Credential,
    as_of: Instant,
}

impl Credentials {
    /// Remembers what a login gave that was checked against a password as of this time. Where another has given something that
    /// is newer, it stays: the password was changed while this login was under way.
    pub(crate) fn set(&self, user: &str, credential: Credential, as_of: Instant) {
        let mut given = self.0.lock();
        if given.get(user).is_none_or(|known| known.as_of <= as_of) {
            given.insert(user.into(), Given { credential, as_of });
        }
    }

    /// What to log in with.
    pub(crate) fn get(&self, user: &str) -> Credential {
        self.0.lock().get(user).map_or(Credential::None, |given| given.credential.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_login_that_was_checked_against_an_old_password_does_not_replace_a_newer_one() {
        let (credentials, start) = (Credentials::default(), Instant::now());
        let password = |text: &str| Credential::Password {
            user: "anna".to_owned(),
            password: text.as_bytes().to_vec().into(),
        };
        let is = |text: &str| matches!(credentials.get("anna"), Credential::Password { password, .. } if *password == text.as_bytes());
        assert!(matches!(credentials.get("anna"), Credential::None));
        credentials.set("anna", password("new"), start + Duration::from_secs(1));
        credentials.set("anna", password("old"), start);
        assert!(is("new"));
        // Who logs in with the same answer, or a newer one, does.
        credentials.set("anna", password("same"), start + Duration::from_secs(1));
        assert!(is("same"));
        credentials.set("anna", password("newer"), start + Duration::from_secs(2));
        assert!(is("newer"));
    }
}

//! One login at a PostgreSQL server, from the first Authentication message to AuthenticationOk.

use std::{fmt, mem};

use zeroize::Zeroizing;

use super::scram_client::{ScramClient, ScramClientFinal, ScramSecret};
use super::{
    ClientBinding, InitialResponse, LoginError, Md5Verifier, Mechanism, NONCE_LEN, SCRAM_SHA_256, ScramKeys,
    md5,
};

const OK: u32 = 0;
const CLEARTEXT_PASSWORD: u32 = 3;
const MD5_PASSWORD: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// What a login can use.
#[derive(Clone)]
pub enum Credential {
    /// Nothing: for servers that trust us, or that look at the certificate.
    None,
    /// Keys that a client's proof gave away.
    Keys(ScramKeys),
    /// The md5 hash that the role has stored.
    Md5(Md5Verifier),
    /// A password (of the monitor user, say).
    Password {
        /// The role, which an md5 answer depends on.
        user: String,
        /// The password's bytes.
        password: Zeroizing<Vec<u8>>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Credential(none)",
            Self::Keys(_) => "Credential(scram keys)",
            Self::Md5(_) => "Credential(md5)",
            Self::Password { .. } => "Credential(password)",
        })
    }
}

/// What to do after an Authentication message.
#[derive(Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// Send this as the payload of a `p` message.
    Send(Zeroizing<Vec<u8>>),
    /// Wait for the next message.
    Wait,
    /// The server let us in.
    Accepted,
}

/// A login at a server. Feed it the payload of every Authentication message.
pub struct Login {
    credential: Credential,
    nonce: [u8; NONCE_LEN],
    binding: ClientBinding,
    awaits: Awaits,
}

enum Awaits {
    Request,
    ServerFirst(ScramClient),
    ServerFinal(ScramClientFinal),
    Ok,
    Nothing,
}

impl Login {
    /// Starts a login. The nonce is random, and used for this login only.
    #[must_use]
    pub fn new(credential: Credential, nonce: [u8; NONCE_LEN]) -> Self {
        Self { credential, nonce, binding: ClientBinding::default(), awaits: Awaits::Request }
    }

    /// With a connection that it may be bound to.
    #[must_use]
    pub fn over(self, binding: ClientBinding) -> Self {
        Self { binding, ..self }
    }

    /// Takes the payload of an Authentication message (tag `R`).
    ///
    /// # Errors
    /// See [`LoginError`]. After an error the connection is of no more use.
    pub fn on_authentication(&mut self, payload: &[u8]) -> Result<LoginStep, LoginError> {
        let (code, data) = payload.split_first_chunk().ok_or(LoginError::Malformed("no code"))?;
        let code = u32::from_be_bytes(*code);
        match (mem::replace(&mut self.awaits, Awaits::Nothing), code) {
            (Awaits::Request, _) => self.request(code, data),
            (Awaits::ServerFirst(scram), SASL_CONTINUE) => {
                let (client_final, next) = scram.server_first(data)?;
                self.awaits = Awaits::ServerFinal(next);
                Ok(LoginStep::Send(Zeroizing::new(client_final)))
            }
            (Awaits::ServerFinal(scram), SASL_FINAL) => {
                scram.server_final(data)?;
                self.awaits = Awaits::Ok;
                Ok(LoginStep::Wait)
            }
            (Awaits::Ok, OK) => accepted(data),
            // AuthenticationOk in the middle of SCRAM would spare the server its own proof.
            (Awaits::ServerFirst(_) | Awaits::ServerFinal(_), OK) => Err(LoginError::ServerNotAuthentic),
            _ => Err(LoginError::Malformed("unexpected authentication message")),
        }
    }

    fn request(&mut self, code: u32, data: &[u8]) -> Result<LoginStep, LoginError> {
        match code {
            OK if self.binding.required => {
                Err(LoginError::ChannelBindingRequired("let us in without any authentication"))
            }
            CLEARTEXT_PASSWORD | MD5_PASSWORD if self.binding.required => Err(
                LoginError::ChannelBindingRequired("asks for a password that is not bound to the connection"),
            ),
            OK => accepted(data),
            CLEARTEXT_PASSWORD => self.cleartext(),
            MD5_PASSWORD => {
                let salt = data.try_into().map_err(|_| LoginError::Malformed("md5 salt"))?;
                self.md5(salt)
            }
            SASL => self.sasl(data),
            SASL_CONTINUE | SASL_FINAL => Err(LoginError::Malformed("SASL message out of place")),
            _ => Err(LoginError::UnsupportedMethod(code)),
        }
    }

    fn cleartext(&mut self) -> Result<LoginStep, LoginError> {
        match self.take_credential() {
            Credential::Password { password, .. } => Ok(self.send_string(&password)),
            Credential::None => Err(LoginError::NoCredential),
            Credential::Keys(_) | Credential::Md5(_) => Err(LoginError::PasswordNeeded),
        }
    }

    fn md5(&mut self, salt: [u8; 4]) -> Result<LoginStep, LoginError> {
        let verifier = match self.take_credential() {
            Credential::Md5(verifier) => verifier,
            Credential::Password { user, password } => Md5Verifier::from_password(&user, &password),
            Credential::None => return Err(LoginError::NoCredential),
            Credential::Keys(_) => return Err(LoginError::WrongKind("md5")),
        };
        Ok(self.send_string(&md5::response_to(&verifier, salt)))
    }

    fn sasl(&mut self, mechanisms: &[u8]) -> Result<LoginStep, LoginError> {
        let mechanism = self.mechanism(mechanisms)?;
        let secret = match self.take_credential() {
            Credential::Keys(keys) => ScramSecret::Keys(keys),
            Credential::Password { password, .. } => ScramSecret::Password(password),
            Credential::None => return Err(LoginError::NoCredential),
            Credential::Md5(_) => return Err(LoginError::WrongKind(SCRAM_SHA_256)),
        };
        let scram = ScramClient::bound(secret, &self.nonce, &self.binding, mechanism);
        let payload = InitialResponse::encode(mechanism, &scram.client_first());
        self.awaits = Awaits::ServerFirst(scram);
        Ok(LoginStep::Send(Zeroizing::new(payload)))
    }

    /// The best of those that are offered, as libpq chooses (`pg_SASL_init()` in `fe-auth.c`).
    fn mechanism(&self, offer: &[u8]) -> Result<Mechanism, LoginError> {
        let offers =
            |wanted: Mechanism| offer.split(|&byte| byte == 0).any(|it| it == wanted.name().as_bytes());
        let plus = offers(Mechanism::ScramPlus);
        match (plus, offers(Mechanism::Scram)) {
            (true, _) if !self.binding.tls => Err(LoginError::PlusWithoutTls),
            (true, _) if self.binding.end_point.is_some() => Ok(Mechanism::ScramPlus),
            (_, true) if self.binding.required => Err(LoginError::ChannelBindingRequired(match plus {
                true => "has a certificate that nothing can be bound to",
                false if self.binding.tls => "did not offer an authentication method that supports it",
                false => "is not reached over TLS",
            })),
            (_, true) => Ok(Mechanism::Scram),
            (_, false) => Err(LoginError::UnsupportedMethod(SASL)),
        }
    }

    fn send_string(&mut self, text: &[u8]) -> LoginStep {
        self.awaits = Awaits::Ok;
        LoginStep::Send(Zeroizing::new([text, &[0]].concat()))
    }

    /// A login proves itself once; its secret does not outlive that.
    fn take_credential(&mut self) -> Credential {
        mem::replace(&mut self.credential, Credential::None)
    }
}

fn accepted(data: &[u8]) -> Result<LoginStep, LoginError> {
    if data.is_empty() { Ok(LoginStep::Accepted) } else { Err(LoginError::Malformed("AuthenticationOk")) }
}

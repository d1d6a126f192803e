//! The payload of SASLInitialResponse.

use super::{AuthError, Channel, MAX_SASL_MESSAGE, Mechanism};

/// What a client answers to the offer of mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialResponse<'a> {
    /// The mechanism that it chose.
    pub mechanism: Mechanism,
    /// The client's first SCRAM message. Without it, an empty AuthenticationSASLContinue asks for it, and it comes as
    /// SASLResponse.
    pub client_first: Option<&'a [u8]>,
}

impl<'a> InitialResponse<'a> {
    /// Takes the payload apart. `channel` is what the mechanisms were offered for.
    ///
    /// # Errors
    /// PostgreSQL's own (08P01) for a mechanism that was not offered, and for a broken payload.
    pub fn parse(payload: &'a [u8], channel: &Channel) -> Result<Self, AuthError> {
        if payload.len() > MAX_SASL_MESSAGE {
            return Err(AuthError::violation("invalid message length"));
        }
        let end = payload.iter().position(|&byte| byte == 0);
        let Some((mechanism, rest)) = end.and_then(|end| payload.split_at_checked(end)) else {
            return Err(AuthError::violation("invalid string in message"));
        };
        let offered: &[Mechanism] = match channel {
            Channel::Unbindable => &[Mechanism::Scram],
            Channel::EndPoint(_) => &[Mechanism::Scram, Mechanism::ScramPlus],
        };
        let chosen = offered.iter().find(|offered| offered.name().as_bytes() == mechanism);
        let Some(&mechanism) = chosen else {
            return Err(AuthError::violation("client selected an invalid SASL authentication mechanism"));
        };
        let Some((length, data)) = rest.get(1..).and_then(<[u8]>::split_first_chunk) else {
            return Err(AuthError::violation("insufficient data left in message"));
        };
        let client_first = match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) if length > data.len() => {
                return Err(AuthError::violation("insufficient data left in message"));
            }
            Ok(length) if length < data.len() => return Err(AuthError::violation("invalid message format")),
            Ok(_) => Some(data),
            Err(_) if i32::from_be_bytes(*length) == -1 && data.is_empty() => None,
            Err(_) => return Err(AuthError::violation("invalid message format")),
        };
        Ok(Self { mechanism, client_first })
    }

    /// Builds the payload that chooses a mechanism.
    #[must_use]
    pub fn encode(mechanism: Mechanism, client_first: &[u8]) -> Vec<u8> {
        let length = u32::try_from(client_first.len()).unwrap_or(u32::MAX);
        [mechanism.name().as_bytes(), &[0], &length.to_be_bytes(), client_first].concat()
    }
}

//! The packets that open a connection: startup, SSLRequest, GSSENCRequest and CancelRequest.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use crate::frame::split_cstr;

/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH` and the length word; also the most that pgherd holds of an unauthenticated
/// client.
pub const MAX_STARTUP_LEN: usize = 10_004;

/// The newest minor version of protocol 3 that pgherd speaks with clients: 3.2, of PostgreSQL 18. There is no 3.1, and who asks
/// for it is served as one who asks for 3.0.
pub const NEWEST_MINOR: u16 = 2;

/// The longest secret of a cancel key.
const MAX_SECRET: usize = 256;

/// A secret of a session, sent to the client as BackendKeyData and presented by a CancelRequest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// The process id in BackendKeyData.
    pub pid: u32,
    secret: Secret,
}

/// Most are short, and there is one for each session: those need no memory of their own.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Secret {
    Short([u8; 4]),
    /// Of any other length.
    Long(Box<[u8]>),
}

impl CancelKey {
    /// With a secret of 4 bytes for protocol 3.0, of 1 to 256 since 3.2; none for another length.
    #[must_use]
    pub fn new(pid: u32, secret: &[u8]) -> Option<Self> {
        let secret = match <[u8; 4]>::try_from(secret) {
            Ok(short) => Secret::Short(short),
            Err(_) if (1..=MAX_SECRET).contains(&secret.len()) => Secret::Long(secret.into()),
            Err(_) => return None,
        };
        Some(Self { pid, secret })
    }

    /// Reads the body of a BackendKeyData, or what follows the code of a CancelRequest.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (pid, secret) = body.split_first_chunk::<4>()?;
        Self::new(u32::from_be_bytes(*pid), secret)
    }

    /// Appends it as BackendKeyData and CancelRequest have it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pid.to_be_bytes());
        out.extend_from_slice(match &self.secret {
            Secret::Short(secret) => secret,
            Secret::Long(secret) => secret,
        });
    }
}

impl Default for CancelKey {
    /// What a server is cancelled by that has told no key.
    fn default() -> Self {
        Self { pid: 0, secret: Secret::Short([0; 4]) }
    }
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelKey({}, ..)", self.pid)
    }
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupPacket {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel what the session of this key is doing.
    Cancel(CancelKey),
    /// Opens a session.
    Startup(Startup),
}

/// What a client asks of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Minor version of protocol 3 that the client asked for.
    pub minor: u16,
    /// `user`.
    pub user: String,
    /// `database`; PostgreSQL takes the user's name where there is none.
    pub database: String,
    /// `replication`, as it was sent.
    pub replication: Option<String>,
    /// All other parameters, in the order in which they came; `options` among them.
    pub parameters: Vec<(String, String)>,
    /// Names beginning with `_pq_.`: protocol extensions, none of which pgherd knows.
    pub unknown_extensions: Vec<String>,
}

impl Startup {
    /// The minor version of protocol 3 that is spoken with this client.
    #[must_use]
    pub fn spoken_minor(&self) -> u16 {
        self.minor.min(NEWEST_MINOR)
    }
}

/// A packet that PostgreSQL would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// PostgreSQL closes the connection without an answer.
    #[error("invalid length of startup packet")]
    BadLength,
    /// 08P01
    #[error("invalid startup packet layout: expected terminator as last byte")]
    BadLayout,
    /// 0A000
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.{NEWEST_MINOR}")]
    UnsupportedVersion(u16, u16),
    /// 28000
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// 08P01: a name or value that is not UTF-8. PostgreSQL takes any bytes; no client sends such.
    #[error("invalid byte sequence in startup packet")]
    NotUtf8,
}

impl StartupError {
    /// The SQLSTATE that PostgreSQL answers with; `None` where it just closes the connection.
    #[must_use]
    pub const fn sqlstate(&self) -> Option<&'static str> {
        match self {
            Self::BadLength => None,
            Self::BadLayout | Self::NotUtf8 => Some("08P01"),
            Self::UnsupportedVersion(..) => Some("0A000"),
            Self::NoUser => Some("28000"),
        }
    }
}

/// The length of the packet at the start of `bytes`, once its length word is there.
///
/// # Errors
/// [`StartupError::BadLength`] before anything of that length is allocated.
pub fn startup_len(bytes: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some(word) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*word) as usize;
    if (8..=MAX_STARTUP_LEN).contains(&len) { Ok(Some(len)) } else { Err(StartupError::BadLength) }
}

/// Reads a whole packet, its length word included.
///
/// # Errors
/// As PostgreSQL's `ProcessStartupPacket()`.
pub fn parse_startup(packet: &[u8]) -> Result<StartupPacket, StartupError> {
    let (code, body) = match packet {
        [_, _, _, _, a, b, c, d, body @ ..] => ([*a, *b, *c, *d], body),
        _ => return Err(StartupError::BadLength),
    };
    let major = u16::from_be_bytes([code[0], code[1]]);
    let minor = u16::from_be_bytes([code[2], code[3]]);
    match (major, minor) {
        (1234, 5678) => CancelKey::parse(body).map(StartupPacket::Cancel).ok_or(StartupError::BadLength),
        (1234, 5679) => Ok(StartupPacket::SslRequest),
        (1234, 5680) => Ok(StartupPacket::GssEncRequest),
        (3, _) => parse_parameters(minor, body).map(StartupPacket::Startup),
        _ => Err(StartupError::UnsupportedVersion(major, minor)),
    }
}

fn parse_parameters(minor: u16, mut body: &[u8]) -> Result<Startup, StartupError> {
    let mut user = None;
    let mut database = None;
    let mut startup = Startup {
        minor,
        user: String::new(),
        database: String::new(),
        replication: None,
        parameters: Vec::new(),
        unknown_extensions: Vec::new(),
    };
    loop {
        let (name, rest) = split_cstr(body).ok_or(StartupError::BadLayout)?;
        if name.is_empty() {
            if !rest.is_empty() {
                return Err(StartupError::BadLayout);
            }
            break;
        }
        let (value, rest) = split_cstr(rest).ok_or(StartupError::BadLayout)?;
        body = rest;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::NotUtf8);
        let (name, value) = (text(name)?, text(value)?);
        match name.as_str() {
            "user" => user = Some(truncate_identifier(value)),
            "database" => database = Some(truncate_identifier(value)),
            "replication" => startup.replication = Some(value),
            _ if name.starts_with("_pq_.") => startup.unknown_extensions.push(name),
            _ => startup.parameters.push((name, value)),
        }
    }
    startup.user = user.filter(|u| !u.is_empty()).ok_or(StartupError::NoUser)?;
    startup.database = database.filter(|d| !d.is_empty()).unwrap_or_else(|| startup.user.clone());
    Ok(startup)
}

/// PostgreSQL cuts names of users and databases at `NAMEDATALEN - 1` bytes.
fn truncate_identifier(mut name: String) -> String {
    const NAME_MAX: usize = 63;
    if name.len() > NAME_MAX {
        let end = (0..=NAME_MAX).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write;

    fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write::startup(&mut out, parameters.iter().copied());
        out
    }

    #[test]
    fn the_database_is_the_users_name_unless_it_is_given() {
        let Ok(StartupPacket::Startup(s)) = parse_startup(&startup(&[("user", "ada"), ("TimeZone", "UTC")]))
        else {
            panic!("a startup packet")
        };
        assert_eq!((s.user.as_str(), s.database.as_str()), ("ada", "ada"));
        assert_eq!(s.parameters, [("TimeZone".to_owned(), "UTC".to_owned())]);
    }

    #[test]
    fn every_cut_of_a_packet_is_refused_and_none_panics() {
        let whole = startup(&[("user", "ada"), ("database", "d"), ("options", "-c a=b")]);
        for cut in 0..whole.len() {
            assert!(parse_startup(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn cancel_requests_have_secrets_of_any_length_that_postgresql_has() {
        let request = |length: usize| {
            write::cancel_request(&CancelKey { pid: 7, secret: Secret::Long(vec![9; length].into()) })
        };
        for length in [1, 4, 32, 256] {
            let Ok(StartupPacket::Cancel(key)) = parse_startup(&request(length)) else { panic!("{length}") };
            let mut written = Vec::new();
            key.write(&mut written);
            assert_eq!((key.pid, written.len()), (7, 4 + length));
            assert_eq!(format!("{key:?}"), "CancelKey(7, ..)");
        }
        for length in [0, 257, 5000] {
            assert_eq!(parse_startup(&request(length)), Err(StartupError::BadLength), "{length}");
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_read() {
        assert_eq!(startup_len(&[0, 0, 0]), Ok(None));
        assert_eq!(startup_len(&10_005u32.to_be_bytes()), Err(StartupError::BadLength));
        assert_eq!(startup_len(&7u32.to_be_bytes()), Err(StartupError::BadLength));
    }

    #[test]
    fn versions_that_postgresql_does_not_speak_are_named() {
        let packet = [0, 0, 0, 8, 0, 2, 0, 0];
        assert_eq!(parse_startup(&packet), Err(StartupError::UnsupportedVersion(2, 0)));
    }
}

//! One line of `pg_hba.conf`.

use super::address::{self, Address};
use super::names::{self, Database, User};
use super::tokens::{Field, Line, Token};
use super::{Question, Transport};

/// How a connection must be made for a rule to be for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `local`: over a Unix socket.
    Local,
    /// `host`: over TCP. `hostnogssenc` is the same: there is no GSSAPI encryption here.
    Host,
    /// `hostssl`: over TCP with TLS.
    HostSsl,
    /// `hostnossl`: over TCP without TLS.
    HostNoSsl,
    /// `hostgssenc`: with GSSAPI encryption, as no connection is made.
    HostGssEnc,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// It is turned away.
    Reject,
    /// It need not prove anything.
    Trust,
    /// It sends its password as it is. Not over TCP without TLS.
    Password,
    /// md5 or SCRAM-SHA-256, as its stored password asks for.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// Its certificate names it.
    Cert,
    /// The operating system names it.
    Peer,
}

impl Method {
    /// Its name in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
            Self::Peer => "peer",
        }
    }

    /// True if a client that is let in by it leaves nothing to log in at a server with.
    pub(crate) const fn gives_no_key(self) -> bool {
        matches!(self, Self::Trust | Self::Cert | Self::Peer)
    }
}

/// What is asked of a client's certificate besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Nothing: it need not have one.
    Any,
    /// `clientcert=verify-ca`: it must have one that the authority has signed.
    Verified,
    /// `clientcert=verify-full`, and method `cert`: which must name the user, too.
    NamesUser,
}

/// What of a certificate names the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The common name.
    CommonName,
    /// The whole subject, in the form of RFC 2253.
    DistinguishedName,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// The line, from 1.
    pub(crate) line: usize,
    /// How a client proves who it is.
    pub(crate) method: Method,
    /// What is asked of its certificate.
    pub(crate) certificate: Certificate,
    /// What of the certificate names the user.
    pub(crate) naming: Naming,
    /// The map in `pg_ident.conf` from the names of the system, or of certificates, to users; if none, both are the same.
    pub(crate) map: Option<Box<str>>,
    pub(super) address: Address,
    pub(crate) kind: Kind,
    databases: Vec<Database>,
    users: Vec<User>,
}

impl Rule {
    /// All conditions but the address, which may be costlier to look at.
    pub(super) fn is_for(&self, question: &Question<'_>) -> bool {
        let is_kind = match (self.kind, question.transport) {
            (Kind::Local, transport) => transport == Transport::Local,
            (Kind::Host, transport) => transport != Transport::Local,
            (Kind::HostSsl, transport) => matches!(transport, Transport::Tls(_)),
            (Kind::HostNoSsl, transport) => matches!(transport, Transport::Plain(_)),
            (Kind::HostGssEnc, _) => false,
        };
        is_kind
            && self.databases.iter().any(|database| database.is_that_of(question))
            && self.users.iter().any(|user| user.is(question.user, question.member_of))
    }

    pub(super) fn asks_for_memberships(&self) -> bool {
        self.databases.contains(&Database::SameRole)
            || self.users.iter().any(|user| matches!(user, User::MemberOf(_)))
    }

    /// The users by name, if it is for these and no others.
    pub(crate) fn named_users(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        for user in &self.users {
            let User::Named(name) = user else { return None };
            names.push(&**name);
        }
        Some(names)
    }
}

/// Reads a line. The texts of errors are PostgreSQL's where it has the same.
pub(super) fn parse(line: &Line) -> Result<Rule, String> {
    let mut fields = line.fields.iter();
    let kind = fields.next().map(|field| only(field, "connection type", "connection type")).transpose()?;
    let kind = kind.map_or_else(|| Err(String::new()), parse_kind)?;
    let databases = fields.next().ok_or("end-of-line before database specification")?;
    let users = fields.next().ok_or("end-of-line before role specification")?;
    let address = if kind == Kind::Local { Address::All } else { address::parse(&mut fields)? };
    let method = fields.next().ok_or("end-of-line before authentication method")?;
    let method = parse_method(only(method, "authentication type", "authentication type")?, kind)?;
    let mut rule = Rule {
        line: line.number,
        method,
        certificate: if method == Method::Cert { Certificate::NamesUser } else { Certificate::Any },
        naming: Naming::CommonName,
        map: None,
        address,
        kind,
        databases: names::parse(databases, Database::parse)?,
        users: names::parse(users, User::parse)?,
    };
    for token in fields.flatten() {
        let Some((name, value)) = token.text.split_once('=') else {
            return Err(format!("authentication option not in name=value format: {}", token.text));
        };
        set_option(&mut rule, name, value)?;
    }
    Ok(rule)
}

fn parse_kind(token: &Token) -> Result<Kind, String> {
    match token.text.as_str() {
        "local" => Ok(Kind::Local),
        "host" | "hostnogssenc" => Ok(Kind::Host),
        "hostssl" => Ok(Kind::HostSsl),
        "hostnossl" => Ok(Kind::HostNoSsl),
        "hostgssenc" => Ok(Kind::HostGssEnc),
        "include" | "include_if_exists" | "include_dir" => {
            Err(format!("\"{}\" is not supported by pgherd: put all rules into one file", token.text))
        }
        other => Err(format!("invalid connection type \"{other}\"")),
    }
}

fn parse_method(token: &Token, kind: Kind) -> Result<Method, String> {
    let method = match token.text.as_str() {
        "reject" => Method::Reject,
        "trust" => Method::Trust,
        "password" => Method::Password,
        "md5" => Method::Md5,
        "scram-sha-256" => Method::ScramSha256,
        "cert" => Method::Cert,
        "peer" => Method::Peer,
        // As PostgreSQL takes it there.
        "ident" if kind == Kind::Local => Method::Peer,
        name @ ("ident" | "ldap" | "gss" | "sspi" | "pam" | "radius" | "bsd" | "oauth") => {
            return Err(format!(
                "authentication method \"{name}\" is not supported by pgherd; it has trust, reject, password, md5, \
                 scram-sha-256, cert and peer"
            ));
        }
        other => return Err(format!("invalid authentication method \"{other}\"")),
    };
    match (method, kind) {
        (Method::Peer, Kind::Local) | (Method::Cert, Kind::HostSsl) => Ok(method),
        (Method::Peer, _) => Err("peer authentication is only supported on local sockets".to_owned()),
        (Method::Cert, _) => Err("cert authentication is only supported on hostssl connections".to_owned()),
        _ => Ok(method),
    }
}

fn set_option(rule: &mut Rule, name: &str, value: &str) -> Result<(), String> {
    let only_for_hostssl = || match rule.kind {
        Kind::HostSsl => Ok(()),
        _ => Err(format!("{name} can only be configured for \"hostssl\" rows")),
    };
    match name {
        "map" if matches!(rule.method, Method::Peer | Method::Cert) => rule.map = Some(value.into()),
        "map" if rule.kind == Kind::HostSsl && rule.certificate == Certificate::NamesUser => {
            rule.map = Some(value.into());
        }
        "map" => {
            return Err("authentication option \"map\" is only valid for authentication methods peer and cert, and behind \
                        clientcert=verify-full"
                .to_owned());
        }
        "clientcert" => {
            only_for_hostssl()?;
            rule.certificate = match value {
                "verify-full" => Certificate::NamesUser,
                "verify-ca" if rule.method == Method::Cert => {
                    return Err("clientcert only accepts \"verify-full\" when using \"cert\" authentication"
                        .to_owned());
                }
                "verify-ca" => Certificate::Verified,
                _ => return Err(format!("invalid value for clientcert: \"{value}\"")),
            };
        }
        "clientname" => {
            only_for_hostssl()?;
            rule.naming = match value {
                "CN" => Naming::CommonName,
                "DN" => Naming::DistinguishedName,
                _ => return Err(format!("invalid value for clientname: \"{value}\"")),
            };
        }
        _ => return Err(format!("unrecognized authentication option name: \"{name}\"")),
    }
    Ok(())
}

/// The token of a field that takes one.
pub(super) fn only<'a>(field: &'a Field, what: &str, each: &str) -> Result<&'a Token, String> {
    match field.as_slice() {
        [token] => Ok(token),
        _ => Err(format!("multiple values specified for {what}; specify one {each} per line")),
    }
}

//! `[listen]`: where clients connect, and how.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use pgherd_tls::Mode;

use super::problem::{Origin, Problem};
use super::resolve::Bridge;
use super::value::{self, Choice};
use crate::tls::Acceptor;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Address and port of the listener.
    pub(crate) address: SocketAddr,
    /// Connections that the kernel holds before they are accepted.
    pub(crate) backlog: i32,
    /// The directory of the Unix socket, if there is one; it is named after the port, as PostgreSQL's.
    pub(crate) unix: Option<PathBuf>,
    /// The permissions of its file: who may write it may connect.
    pub(crate) unix_mode: u32,
    /// Where load balancers connect from that say for whom they do.
    pub(crate) proxies: Vec<IpNet>,
    /// The most connections of one address that have not logged in; 0 for no bound.
    pub(crate) max_unauthenticated_per_address: usize,
    /// `[listen.tls]`
    pub(crate) tls: ListenTls,
}

/// TLS with clients. The files could be used when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenTls {
    /// Who may, and who must use it, as PgBouncer's `client_tls_sslmode`: `allow` and `prefer` leave it to the client, `verify-ca` and
    /// `verify-full` want a certificate of the client, too.
    pub(crate) mode: Mode,
    /// The certificate that clients are shown, and those between it and its authority. There is one unless TLS is off.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key. There is one unless TLS is off.
    pub(crate) key: Option<PathBuf>,
    /// Who vouches for clients' certificates; if none, clients are not asked for one.
    pub(crate) client_ca: Option<PathBuf>,
    /// Clients' certificates that are good no more.
    pub(crate) client_crl: Option<PathBuf>,
    /// The oldest version that is accepted.
    pub(crate) min_version: TlsVersion,
}

/// Versions of TLS that are not broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

impl Choice for TlsVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::V12), ("1.3", Self::V13)];
}

impl Bridge<'_> {
    pub(super) fn listen(&mut self) -> Option<Listen> {
        let address = self.get("listen.address", value::address);
        let backlog = self.get("listen.backlog", value::integer(1..=65_535));
        let unix = self.get("listen.unix", value::absolute_path);
        let unix_mode = self.get("listen.unix_mode", value::file_mode);
        let proxies = self.get("listen.proxy_protocol", value::networks_or_off);
        let max_unauthenticated =
            self.get("listen.max_unauthenticated_per_address", value::integer(0..=1_000_000));
        let tls = self.listen_tls();
        Some(Listen {
            address: address?,
            backlog: i32::try_from(backlog?).ok()?,
            unix,
            unix_mode: unix_mode?,
            proxies: proxies?,
            max_unauthenticated_per_address: max_unauthenticated?,
            tls: tls?,
        })
    }

    fn listen_tls(&mut self) -> Option<ListenTls> {
        let before = self.errors.len();
        let mode = self.get("listen.tls.mode", value::choice);
        let certificate = self.get("listen.tls.cert", value::path);
        let key = self.get("listen.tls.key", value::path);
        let client_ca = self.get("listen.tls.client_ca", value::path);
        let client_crl = self.get("listen.tls.client_crl", value::path);
        let min_version = self.get("listen.tls.min_version", value::choice)?;
        let is_meant = mode.is_none() && (key.is_some() || client_ca.is_some());
        let default = if certificate.is_some() || is_meant { Mode::Allow } else { Mode::Disable };
        let mode = mode.unwrap_or(default);
        let tls = ListenTls { mode, certificate, key, client_ca, client_crl, min_version };
        if self.errors.len() > before {
            return None;
        }
        match what_is_missing(&tls) {
            Some((key, message)) => self.report(key, message.to_owned()),
            None => {
                if let Err(fault) = Acceptor::load(&tls) {
                    self.report(fault.key, fault.message);
                }
            }
        }
        Some(tls)
    }

    /// An error at the place where a key is given; its text names the key where it is given nowhere.
    pub(super) fn report(&mut self, key: &'static str, message: String) {
        let origin = self.origins.get(key).cloned().filter(|origin| *origin != Origin::Default);
        self.errors.push(Problem { origin, key: Some(key.to_owned()), message });
    }
}

/// Settings that say nothing without another.
fn what_is_missing(tls: &ListenTls) -> Option<(&'static str, &'static str)> {
    let ListenTls { mode, certificate, key, client_ca, client_crl, .. } = tls;
    let verifies = matches!(mode, Mode::VerifyCa | Mode::VerifyFull);
    if *mode == Mode::Disable {
        None
    } else if certificate.is_none() {
        Some(("listen.tls.cert", "is required for TLS with clients: or set listen.tls.mode to \"disable\""))
    } else if key.is_none() {
        Some(("listen.tls.key", "is required beside listen.tls.cert"))
    } else if verifies && client_ca.is_none() {
        Some((
            "listen.tls.client_ca",
            "is required where listen.tls.mode is \"verify-ca\" or \"verify-full\"",
        ))
    } else if client_crl.is_some() && client_ca.is_none() {
        Some(("listen.tls.client_ca", "is required beside listen.tls.client_crl"))
    } else {
        None
    }
}

impl Listen {
    /// True if a connection from this address begins with a header of the PROXY protocol.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Each key with its value; none where it has none.
    pub(super) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let tls = &self.tls;
        vec![
            ("listen.address", Some(self.address.to_string())),
            ("listen.backlog", Some(self.backlog.to_string())),
            ("listen.unix", path(&self.unix)),
            ("listen.unix_mode", Some(format!("{:04o}", self.unix_mode))),
            ("listen.proxy_protocol", Some(show_networks(&self.proxies))),
            (
                "listen.max_unauthenticated_per_address",
                Some(self.max_unauthenticated_per_address.to_string()),
            ),
            ("listen.tls.mode", Some(tls.mode.word().to_owned())),
            ("listen.tls.cert", path(&tls.certificate)),
            ("listen.tls.key", path(&tls.key)),
            ("listen.tls.client_ca", path(&tls.client_ca)),
            ("listen.tls.client_crl", path(&tls.client_crl)),
            ("listen.tls.min_version", Some(tls.min_version.word().to_owned())),
        ]
    }
}

pub(super) fn show_networks(networks: &[IpNet]) -> String {
    if networks.is_empty() {
        return "off".to_owned();
    }
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

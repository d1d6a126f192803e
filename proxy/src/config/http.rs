//! `[http]`: where metrics, health checks and the manager are answered.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::listen::show_networks;
use super::problem::Origin;
use super::resolve::Bridge;
use super::value;
use crate::http::tls;

/// Where orchestrators, metrics and operators are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    /// Address and port; none if there is no such listener.
    pub(crate) address: Option<SocketAddr>,
    /// Nobody has asked for this address: it is done without where it is taken.
    pub(crate) is_default: bool,
    /// Who is not logged in may look at what the manager shows.
    pub(crate) anonymous: bool,
    /// Where an authenticating proxy asks from.
    pub(crate) proxies: Vec<IpNet>,
    /// The header in which it says for whom, in small letters.
    pub(crate) user_header: String,
    /// The certificate that is shown, and its key; none for HTTP without TLS. They could be used when the configuration was read.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// The Unix socket of the docker engine, if the swarm is to be shown.
    pub(crate) docker_socket: Option<PathBuf>,
}

impl Bridge<'_> {
    pub(super) fn http(&mut self) -> Option<Http> {
        let address = self.get("http.address", value::address_or_off);
        let anonymous = self.get("http.anonymous", value::boolean);
        let proxies = self.get("http.trusted_proxies", value::networks_or_off);
        let user_header = self.get("http.user_header", value::header);
        let (certificate, key) =
            (self.get("http.tls.cert", value::path), self.get("http.tls.key", value::path));
        let docker_socket = self.get("http.docker_socket", value::absolute_path);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                if let Err(fault) = tls::load(&certificate, &key) {
                    self.report(fault.key, fault.message);
                }
                Some((certificate, key))
            }
            (Some(_), None) => {
                self.report(
                    "http.tls.key",
                    "is required: the key of the certificate in http.tls.cert".to_owned(),
                );
                None
            }
            (None, Some(_)) => {
                self.report(
                    "http.tls.cert",
                    "is required: the certificate of the key in http.tls.key".to_owned(),
                );
                None
            }
            (None, None) => None,
        };
        let is_default = self.origins.get("http.address") == Some(&Origin::Default);
        let (address, anonymous, proxies, user_header) = (address?, anonymous?, proxies?, user_header?);
        Some(Http { address, is_default, anonymous, proxies, user_header, tls, docker_socket })
    }
}

impl Http {
    /// Each key with its value; none where it has none.
    pub(super) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
        vec![
            ("http.address", Some(self.address.map_or_else(|| "off".to_owned(), |at| at.to_string()))),
            ("http.anonymous", Some(self.anonymous.to_string())),
            ("http.trusted_proxies", Some(show_networks(&self.proxies))),
            ("http.user_header", Some(self.user_header.clone())),
            ("http.tls.cert", path(self.tls.as_ref().map(|(certificate, _)| certificate))),
            ("http.tls.key", path(self.tls.as_ref().map(|(_, key)| key))),
            ("http.docker_socket", path(self.docker_socket.as_ref())),
        ]
    }
}

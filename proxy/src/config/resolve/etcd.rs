//! `[failover.etcd]`

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgherd_failover::Endpoint;
use pgherd_health::fit_host;
use pgherd_tls::{Authorities, ChannelBinding, LoadError, Mode, ServerTls, Settings, Subject};

use super::{Bridge, Etcd};
use crate::config::problem::{Origin, Problem};
use crate::config::raw::{Value, quoted};
use crate::config::value::{self, Read};

/// etcd counts seconds; a lease that is too long keeps others from acting for as long.
const TTL: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
/// etcd's own.
const PORT: u16 = 2379;

impl Bridge<'_> {
    pub(super) fn etcd(&mut self) -> Option<Etcd> {
        let endpoints = self.get("failover.etcd.endpoints", endpoints).unwrap_or_default();
        let prefix = self.get("failover.etcd.prefix", prefix);
        let ttl = self.get("failover.etcd.ttl", value::duration(TTL));
        let user = self.get("failover.etcd.user", value::text);
        let password = self.secret("failover.etcd.password", "failover.etcd.password_file");
        let ca = self.get("failover.etcd.ca", value::authorities);
        let certificate = self.get("failover.etcd.cert", value::path);
        let key = self.get("failover.etcd.key", value::path);
        let tls = if endpoints.iter().any(|endpoint| endpoint.tls) {
            let trusted = ca.clone().unwrap_or(Authorities::System);
            Some(self.etcd_tls(trusted, [certificate.clone(), key.clone()])?)
        } else {
            None
        };
        Some(Etcd { endpoints, prefix: prefix?, ttl: ttl?, user, password, ca, certificate, key, tls })
    }

    fn etcd_tls(
        &mut self,
        ca: Authorities,
        [certificate, key]: [Option<PathBuf>; 2],
    ) -> Option<Arc<ServerTls>> {
        let settings = Settings {
            mode: Mode::VerifyFull,
            ca: Some(ca),
            certificate,
            key,
            channel_binding: ChannelBinding::Disable,
        };
        let refused = |error: LoadError| {
            let name = match error.subject {
                Subject::Mode | Subject::Ca => "failover.etcd.ca",
                Subject::Certificate => "failover.etcd.cert",
                Subject::Key => "failover.etcd.key",
            };
            let origin = self.origins.get(name).cloned().unwrap_or(Origin::Default);
            self.errors.push(Problem::new(origin, name, error.message));
        };
        ServerTls::load(settings).map(Arc::new).map_err(refused).ok()
    }
}

/// URLs as etcd's `--listen-client-urls` has them.
fn endpoints(value: &Value) -> Read<Vec<Endpoint>> {
    let endpoint = |url: &String| {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) =
            match rest.rsplit_once(':').filter(|(host, _)| !host.starts_with('[') || host.ends_with(']')) {
                Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
                None => (rest, PORT),
            };
        Some(Endpoint { tls, host: fit_host(host)?, port })
    };
    value::names(value)?
        .iter()
        .map(|url| {
            endpoint(url).ok_or_else(|| format!("takes URLs such as http://etcd1:2379, got {}", quoted(url)))
        })
        .collect()
}

/// The beginning of a key.
fn prefix(value: &Value) -> Read<String> {
    let text = value::text(value)?;
    let fits = text.starts_with('/') && !text.contains(char::is_control) && text.len() <= 200;
    fits.then(|| text.clone())
        .ok_or_else(|| format!("takes the beginning of a key, such as /pgherd, got {}", quoted(&text)))
}

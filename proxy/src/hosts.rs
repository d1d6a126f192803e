//! The addresses of names, and of this machine, that rules of `pg_hba.conf` ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::hba::World;

/// How long an answer is used.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// How long a login waits for one; what was known before is used then.
const PATIENCE: Duration = Duration::from_secs(2);

/// What names resolved to. As many entries as names in the rules.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<HashMap<Box<str>, Resolved>>);

#[derive(Debug)]
struct Resolved {
    addresses: Arc<[IpAddr]>,
    at: Instant,
}

impl Hosts {
    /// What is known to a login that begins now. What it looks up itself stays known to it, however long others take.
    pub(crate) fn now(&self) -> Known<'_> {
        Known { hosts: self, since: Instant::now() }
    }

    async fn resolve(&self, name: &str) {
        if let Some(known) = self.0.lock().get_mut(name) {
            // One login waits for the new answer, the others go on with the old one.
            known.at = Instant::now();
        }
        let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
        let addresses = match looked_up {
            Ok(Ok(found)) => Some(found.map(|found| found.ip()).collect()),
            Ok(Err(error)) => {
                tracing::warn!(name, %error, "a name in auth.hba_file has no address");
                None
            }
            Err(_) => {
                tracing::warn!(name, "a name in auth.hba_file does not resolve in time");
                None
            }
        };
        let mut hosts = self.0.lock();
        let known = hosts.remove(name).map(|known| known.addresses);
        let addresses = addresses.or(known).unwrap_or_default();
        hosts.insert(name.into(), Resolved { addresses, at: Instant::now() });
    }
}

/// What one login knows of names.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    hosts: &'a Hosts,
    since: Instant,
}

impl Known<'_> {
    /// Looks a name up. It is known afterwards, if only as having no address.
    pub(crate) async fn resolve(&self, name: &str) {
        self.hosts.resolve(name).await;
    }
}

impl World for Known<'_> {
    fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let hosts = self.hosts.0.lock();
        let fresh = hosts.get(name).filter(|known| self.since.saturating_duration_since(known.at) < GOOD_FOR);
        fresh.map(|known| Arc::clone(&known.addresses))
    }

    fn interfaces(&self) -> Vec<IpNet> {
        match nix::ifaddrs::getifaddrs() {
            Ok(interfaces) => interfaces.filter_map(|interface| network(&interface)).collect(),
            Err(error) => {
                tracing::warn!(%error, "this machine's addresses are not known: samehost and samenet fit nobody");
                Vec::new()
            }
        }
    }
}

fn network(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpNet> {
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| {
        let address = address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    IpNet::with_netmask(ip(interface.address)?, ip(interface.netmask)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_interfaces_of_this_machine_are_found() {
        let all = Hosts::default();
        let hosts = all.now();
        assert!(hosts.addresses("localhost").is_none());
        hosts.resolve("localhost").await;
        assert!(hosts.addresses("localhost").is_some_and(|found| found.iter().all(IpAddr::is_loopback)));
        hosts.resolve("no-such-host.invalid").await;
        assert!(hosts.addresses("no-such-host.invalid").is_some_and(|found| found.is_empty()));
        let loopback: IpNet = "127.0.0.1/8".parse().unwrap();
        assert!(hosts.interfaces().contains(&loopback), "{:?}", hosts.interfaces());
    }
}

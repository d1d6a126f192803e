//! Where clients connect: both peers say it in the same two settings.

use std::net::IpAddr;

use super::draft::{Draft, Fate};
use super::source::Setting;
use super::toml_value::Toml;
use crate::config::pgpool::host_to_listen_on;

/// What pgherd listens on where the peer listens on no address.
const NONE: &str =
    "pgherd always listens on an address, too: on this one, where only this machine reaches it";
const SEVERAL: &str = "pgherd listens on one address: on the first of the list, here. 0.0.0.0 is all of this machine's: keep others \
                       out by a firewall or in auth.hba_file then";
const NO_ADDRESS: &str =
    "pgherd takes an address and no name: until one stands here, only this machine reaches it";
const NO_PORT: &str = "is no port";

/// Sets `listen.address`. The addresses are those of `hosts`, or of `host` where that is not given.
pub(super) fn address(
    draft: &mut Draft,
    (hosts, host): (Option<Setting>, &str),
    (port, default, remarks): (Option<Setting>, u16, &str),
) {
    let given = hosts.as_ref().map_or(host, |setting| setting.value.as_str());
    let (address, doubt) = one_of(given);
    let number = port.as_ref().map_or(Some(default), |it| it.value.parse().ok().filter(|port| *port != 0));
    let mut remark: Vec<String> = [&hosts, &port].into_iter().flatten().map(Setting::shown).collect();
    if port.is_none() {
        remark.push(format!("port {default} by default{remarks}"));
    }
    let value = Toml::Text(format!("{address}:{}", number.unwrap_or(default)));
    draft.set("listen.address", value, remark.join(", "));
    match (hosts, doubt) {
        (Some(hosts), Some(doubt)) => draft.must("listen", &hosts, doubt),
        (Some(hosts), None) => draft.became(&hosts, Fate::Taken("listen.address".to_owned())),
        (None, Some(doubt)) => draft.remark("listen", doubt),
        (None, None) => {}
    }
    match port {
        Some(port) if number.is_none() => draft.must("listen", &port, NO_PORT),
        Some(port) => draft.became(&port, Fate::Taken("listen.address".to_owned())),
        None => {}
    }
}

/// The one address that stands for a list of them, and what is to be said of that.
fn one_of(list: &str) -> (String, Option<&'static str>) {
    let hosts: Vec<String> =
        list.split(',').map(str::trim).filter(|it| !it.is_empty()).map(host_to_listen_on).collect();
    let everywhere = || "0.0.0.0".to_owned();
    let is_local = |host: &String| matches!(host.as_str(), "127.0.0.1" | "[::1]");
    match hosts.as_slice() {
        [] => ("127.0.0.1".to_owned(), Some(NONE)),
        [host] if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => (host.clone(), None),
        [_] => ("127.0.0.1".to_owned(), Some(NO_ADDRESS)),
        several if several.iter().all(is_local) => ("127.0.0.1".to_owned(), None),
        several if several.contains(&everywhere()) => (everywhere(), None),
        several => {
            // Never more than the peer listened on.
            let is_address = |host: &&String| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            match several.iter().find(is_address) {
                Some(first) => (first.clone(), Some(SEVERAL)),
                None => ("127.0.0.1".to_owned(), Some(NO_ADDRESS)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_stands_for_a_list() {
        for (list, address, doubt) in [
            ("*", "0.0.0.0", None),
            ("localhost", "127.0.0.1", None),
            ("10.0.0.1", "10.0.0.1", None),
            ("::", "[::]", None),
            ("localhost, ::1", "127.0.0.1", None),
            ("0.0.0.0,::", "0.0.0.0", None),
            ("", "127.0.0.1", Some(NONE)),
            ("pooler.example.org", "127.0.0.1", Some(NO_ADDRESS)),
            ("a.example.org,b.example.org", "127.0.0.1", Some(NO_ADDRESS)),
            ("10.0.0.1,10.0.0.2", "10.0.0.1", Some(SEVERAL)),
        ] {
            assert_eq!(one_of(list), (address.to_owned(), doubt), "{list}");
        }
    }
}

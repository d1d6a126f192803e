//! Whether a certificate is a host's, as libpq decides it for `verify-full`.

use std::net::IpAddr;

use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The names in a certificate that count for a host.
///
/// A host's name is compared with the DNS names, an address with the addresses and, since libpq does it too, with the DNS names. The common
/// name counts only where there is no name of the host's kind.
pub(crate) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    common: Option<String>,
}

impl Names {
    pub(crate) fn of(certificate: &x509_cert::Certificate) -> Self {
        let subject = certificate.tbs_certificate();
        let (mut dns, mut addresses) = (Vec::new(), Vec::new());
        let alternative = subject.get_extension::<SubjectAltName>();
        // Names that cannot be read might be of the host's kind.
        let common = alternative.as_ref().ok().and_then(|_| subject.subject().common_name().ok().flatten());
        let common = common.map(|name| name.value().into_owned());
        if let Ok(Some((_, SubjectAltName(names)))) = alternative {
            for name in names {
                match name {
                    GeneralName::DnsName(name) => dns.push(name.as_str().to_owned()),
                    GeneralName::IpAddress(octets) => addresses.extend(address(octets.as_bytes())),
                    _ => {}
                }
            }
        }
        Self { dns, addresses, common }
    }

    /// True if the certificate is this host's.
    pub(crate) fn cover(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            let same = |name: &String| name.eq_ignore_ascii_case(host);
            return self.addresses.contains(&address)
                || self.dns.iter().any(same)
                || self.addresses.is_empty() && self.common.as_ref().is_some_and(same);
        }
        match self.dns.as_slice() {
            [] => self.common.as_deref().is_some_and(|name| matches(name, host)),
            names => names.iter().any(|name| matches(name, host)),
        }
    }

    /// All of them, for people.
    pub(crate) fn shown(&self) -> Vec<String> {
        let alternative = self.dns.iter().cloned().chain(self.addresses.iter().map(IpAddr::to_string));
        let common = self.common.as_ref().filter(|name| !self.dns.contains(name)).cloned();
        alternative.chain(common).collect()
    }
}

/// The same name, or one label in the place of a leading `*`.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return !host.contains('\0');
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) else {
        return false;
    };
    let Some((label, rest)) = host.len().checked_sub(suffix.len()).and_then(|at| host.split_at_checked(at))
    else {
        return false;
    };
    !label.is_empty() && !label.contains('.') && rest.eq_ignore_ascii_case(suffix)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(names: &[&str], addresses: &[&str], common: Option<&str>, host: &str) -> bool {
        let names = Names {
            dns: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            common: common.map(str::to_owned),
        };
        names.cover(host)
    }

    #[test]
    fn a_name_is_matched_as_libpq_matches_it() {
        assert!(covers(&["pg01", "other"], &[], None, "PG01"));
        assert!(covers(&["*.example.com"], &[], None, "pg01.Example.com"));
        for host in ["example.com", ".example.com", "a.pg01.example.com", "pg01.example.org", "pg01"] {
            assert!(!covers(&["*.example.com", "*", "p*.example.com", "*g01"], &[], None, host), "{host}");
        }
    }

    #[test]
    fn the_common_name_counts_where_there_is_no_other_of_the_kind() {
        assert!(covers(&[], &[], Some("pg01"), "pg01"));
        assert!(covers(&[], &[], Some("*.example.com"), "pg01.example.com"));
        assert!(covers(&[], &["10.0.0.1"], Some("pg01"), "pg01"));
        assert!(!covers(&["pg02"], &[], Some("pg01"), "pg01"));
        assert!(!covers(&[], &[], None, "pg01"));
    }

    #[test]
    fn an_address_is_matched_by_its_value() {
        assert!(covers(&[], &["10.0.0.1"], None, "10.0.0.1"));
        assert!(covers(&[], &["::1"], None, "0:0::1"));
        assert!(covers(&["10.0.0.1"], &[], None, "10.0.0.1"));
        assert!(covers(&["pg01"], &[], Some("10.0.0.1"), "10.0.0.1"));
        assert!(!covers(&[], &["10.0.0.2"], Some("10.0.0.1"), "10.0.0.1"));
        assert!(!covers(&["*.0.0.1"], &[], Some("*.0.0.1"), "10.0.0.1"));
    }
}

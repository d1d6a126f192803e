//! Addresses that a rule is for.

use std::net::IpAddr;
use std::slice;

use ipnet::IpNet;

use super::tokens::{Field, Token};
use super::{Transport, World};

/// Where clients of a rule come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// From anywhere: `all`, and lines of type `local`.
    All,
    /// `samehost`: from an address of this machine.
    SameHost,
    /// `samenet`: from a network that this machine is in.
    SameNet,
    /// An address with its mask.
    Network(IpNet),
    /// A name, whose addresses are looked up.
    Name(Box<str>),
}

/// Whether an address is one of a rule's.
pub(super) enum Found<'a> {
    Yes,
    No,
    /// It depends on the addresses of this name.
    Unknown(&'a str),
}

impl Address {
    pub(super) fn holds(&self, transport: Transport, world: &dyn World) -> Found<'_> {
        let (Transport::Plain(client) | Transport::Tls(client)) = transport else { return Found::Yes };
        // How a listener for both families shows clients of the old one.
        let client = client.to_canonical();
        let holds = match self {
            Self::All => true,
            Self::Network(network) => network.contains(&client),
            Self::SameHost => world.interfaces().iter().any(|own| own.addr() == client),
            Self::SameNet => world.interfaces().iter().any(|own| own.contains(&client)),
            Self::Name(name) => match world.addresses(name) {
                Some(addresses) => addresses.iter().any(|address| address.to_canonical() == client),
                None => return Found::Unknown(name),
            },
        };
        if holds { Found::Yes } else { Found::No }
    }
}

/// Reads the address of a rule, with the mask in a field of its own where it has one; what is left of the fields is the
/// caller's.
pub(super) fn parse(fields: &mut slice::Iter<'_, Field>) -> Result<Address, String> {
    let field = fields.next().ok_or("end-of-line before IP address specification")?;
    let token = super::rule::only(field, "host address", "address range")?;
    for (keyword, address) in
        [("all", Address::All), ("samehost", Address::SameHost), ("samenet", Address::SameNet)]
    {
        if token.is(keyword) {
            return Ok(address);
        }
    }
    let (host, length) = match token.text.split_once('/') {
        Some((host, length)) => (host, Some(length)),
        None => (token.text.as_str(), None),
    };
    match (host.parse::<IpAddr>(), length) {
        (Ok(ip), Some(length)) => {
            let length = length.parse().ok().and_then(|length| IpNet::new(ip, length).ok());
            length
                .map(Address::Network)
                .ok_or_else(|| format!("invalid CIDR mask in address \"{}\"", token.text))
        }
        (Ok(ip), None) => with_mask(ip, fields),
        (Err(_), Some(_)) => {
            Err(format!("specifying both host name and CIDR mask is invalid: \"{}\"", token.text))
        }
        (Err(_), None) => name(token),
    }
}

fn with_mask(ip: IpAddr, fields: &mut slice::Iter<'_, Field>) -> Result<Address, String> {
    let field = fields.next().ok_or(
        "end-of-line before netmask specification; specify an address range in CIDR notation, or a separate netmask",
    )?;
    let token = super::rule::only(field, "netmask", "netmask")?;
    let mask: IpAddr = token.text.parse().map_err(|_| format!("invalid IP mask \"{}\"", token.text))?;
    if mask.is_ipv4() != ip.is_ipv4() {
        return Err("IP address and mask do not match".to_owned());
    }
    let network = IpNet::with_netmask(ip, mask);
    network.map(Address::Network).map_err(|_| format!("invalid IP mask \"{mask}\": its ones must come first"))
}

fn name(token: &Token) -> Result<Address, String> {
    let name = &token.text;
    if name.starts_with('.') {
        return Err(format!(
            "host name suffixes such as \"{name}\" are not supported by pgherd, which looks names up and not addresses: \
             name the hosts, or give their network"
        ));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 255 || !name.chars().all(is_name) {
        return Err(format!("invalid IP address or host name \"{name}\""));
    }
    Ok(Address::Name(name.as_str().into()))
}

//! The header of the PROXY protocol, versions 1 and 2, by which a load balancer says for whom it connects.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 2: the signature, version and command, family, length.
const FIXED: usize = 16;
/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// The longest rest of version 2 that is taken: addresses, and what else a balancer has to say (certificates of clients, for
/// example). The protocol has room for 64 KiB.
const MAX_REST: usize = 4096;

/// What is known of a header from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// So many more bytes belong to it at least: whoever reads exactly those reads nothing behind it.
    More(usize),
    /// It is whole: the client's address. None where the balancer speaks for itself (a health check), or
    /// for somebody without an IP address: then it is the connection's own.
    Whole(Option<SocketAddr>),
}

/// It is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Neither version.
    #[error("no header of the PROXY protocol")]
    Missing,
    /// A line that is not as version 1 has it.
    #[error("not a line of the PROXY protocol, version 1")]
    BadLine,
    /// A command, family or length that version 2 does not have, or that is of no use here.
    #[error("not a header of the PROXY protocol, version 2, for TCP")]
    BadHeader,
    /// A longer one than is taken.
    #[error("a header of the PROXY protocol that is too long")]
    TooLong,
}

/// Reads the header that `bytes` begin.
///
/// # Errors
/// As soon as it can be no header.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    // The shortest line there is: "PROXY UNKNOWN" and its end.
    const LEAST: usize = 15;
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if begins(&SIGNATURE) {
        match bytes.len() {
            0 => Ok(ProxyHeader::More(LEAST)),
            len if len < FIXED => Ok(ProxyHeader::More(FIXED - len)),
            _ => version_2(bytes),
        }
    } else if begins(b"PROXY ") {
        match bytes.len() {
            len if len < LEAST => Ok(ProxyHeader::More(LEAST - len)),
            _ => version_1(bytes),
        }
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

fn version_1(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes.len() {
            MAX_LINE.. => Err(ProxyHeaderError::TooLong),
            _ if bytes.contains(&b'\n') => Err(ProxyHeaderError::BadLine),
            _ => {
                Ok(ProxyHeader::More(if bytes.ends_with(b"\r") { 1 } else { 2.min(MAX_LINE - bytes.len()) }))
            }
        };
    };
    let line = str::from_utf8(line).map_err(|_| ProxyHeaderError::BadLine)?;
    let rest = line.strip_prefix("PROXY ").ok_or(ProxyHeaderError::BadLine)?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Ok(ProxyHeader::Whole(None));
    }
    let fields: Vec<&str> = rest.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = *fields else {
        return Err(ProxyHeaderError::BadLine);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let ends = (address(source), address(destination), port(source_port), port(destination_port));
    match ends {
        (Some(ip), Some(_), Some(port), Some(_)) => Ok(whole(ip, port)),
        _ => Err(ProxyHeaderError::BadLine),
    }
}

/// A decimal number without a sign or needless zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn version_2(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let bad = Err(ProxyHeaderError::BadHeader);
    let (head, rest) = bytes.split_first_chunk::<FIXED>().ok_or(ProxyHeaderError::BadHeader)?;
    let [.., command, family, high, low] = *head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) {
        return bad;
    }
    if len > MAX_REST {
        return Err(ProxyHeaderError::TooLong);
    }
    if rest.len() < len {
        return Ok(ProxyHeader::More(len - rest.len()));
    }
    if command == 0x20 {
        return Ok(ProxyHeader::Whole(None));
    }
    // Source, destination, both ports. What follows them is not looked at.
    match (family, rest) {
        (0x11, [a, b, c, d, _, _, _, _, high, low, _, _, ..]) => {
            Ok(whole(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low])))
        }
        (0x21, _) => match (rest.first_chunk::<16>(), rest.get(32..36)) {
            (Some(source), Some([high, low, ..])) => {
                Ok(whole(Ipv6Addr::from(*source).into(), u16::from_be_bytes([*high, *low])))
            }
            _ => bad,
        },
        // Nothing is said, or a Unix socket is meant.
        (0x00 | 0x31, _) => Ok(ProxyHeader::Whole(None)),
        _ => bad,
    }
}

fn whole(ip: IpAddr, port: u16) -> ProxyHeader {
    ProxyHeader::Whole(Some(SocketAddr::new(ip.to_canonical(), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as a connection does: exactly what is asked for. The header, and how much of the bytes was taken for it.
    fn read(bytes: &[u8]) -> (Result<ProxyHeader, ProxyHeaderError>, usize) {
        let mut taken = 0;
        loop {
            match parse_proxy_header(&bytes[..taken]) {
                Ok(ProxyHeader::More(more)) if taken + more <= bytes.len() => {
                    assert!(more > 0);
                    taken += more;
                }
                other => return (other, taken),
            }
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    fn from(address: &str) -> ProxyHeader {
        ProxyHeader::Whole(Some(address.parse().unwrap()))
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 0x15, 0x38];

    fn v6() -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&address("2001:db8::1")[..], &address("::1"), &[0xdc, 4, 0x15, 0x38]].concat()
    }

    fn headers() -> Vec<(Vec<u8>, ProxyHeader)> {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        let longest = format!("PROXY UNKNOWN {}", "f".repeat(MAX_LINE - 16));
        vec![
            (line("PROXY TCP4 192.0.2.1 10.0.0.1 56324 5432"), from("192.0.2.1:56324")),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 0 1"), from("1.1.1.1:0")),
            (line("PROXY TCP6 2001:db8::1 ::1 56324 5432"), from("[2001:db8::1]:56324")),
            (line("PROXY TCP6 ::ffff:192.0.2.1 ::1 65535 5432"), from("192.0.2.1:65535")),
            (line("PROXY UNKNOWN"), ProxyHeader::Whole(None)),
            (line(&longest), ProxyHeader::Whole(None)),
            (v2(0x21, 0x11, &V4), from("192.0.2.1:56324")),
            (v2(0x21, 0x11, &[&V4[..], &[0xee; 4084]].concat()), from("192.0.2.1:56324")),
            (v2(0x21, 0x21, &v6()), from("[2001:db8::1]:56324")),
            (v2(0x21, 0x00, b"whatever"), ProxyHeader::Whole(None)),
            (v2(0x21, 0x31, &[0; 216]), ProxyHeader::Whole(None)),
            (v2(0x20, 0x00, b""), ProxyHeader::Whole(None)),
            (v2(0x20, 0x11, &V4), ProxyHeader::Whole(None)),
        ]
    }

    #[test]
    fn headers_are_read_to_their_last_byte_and_not_further() {
        for (header, expected) in headers() {
            let followed = [&header[..], b"\0\0\0\x08\x04\xd2\x16\x2f"].concat();
            assert_eq!(read(&followed), (Ok(expected), header.len()), "{header:?}");
        }
    }

    #[test]
    fn a_header_that_is_cut_anywhere_wants_more() {
        for (header, _) in headers() {
            for cut in 0..header.len() {
                match parse_proxy_header(&header[..cut]) {
                    Ok(ProxyHeader::More(more)) => assert!((1..=header.len() - cut).contains(&more), "{cut}"),
                    other => panic!("{header:?} cut at {cut}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        use ProxyHeaderError::{BadHeader, BadLine, Missing, TooLong};
        let line = |text: &str| text.as_bytes().to_vec();
        let cases = [
            (vec![0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 0, 0, 0, 0, 0], Missing),
            (vec![0x16; 40], Missing),
            (line("GET / HTTP/1.1\r\n\r\n"), Missing),
            (line("proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n"), Missing),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n"), BadLine),
            (line("PROXY TCP4 ::1 ::1 1 1\r\n"), BadLine),
            (line("PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n"), BadLine),
            (line("PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n"), BadLine),
            (line("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n"), BadLine),
            (line("PROXY UNKNOWNS\r\n"), BadLine),
            (line("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\n"), BadLine),
            ([&b"PROXY TCP4 \xff\xfe"[..], b" 1.1.1.1 1 1\r\n"].concat(), BadLine),
            (line(&format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_LINE - 15))), TooLong),
            (line(&format!("PROXY UNKNOWN {}", "f".repeat(4000))), TooLong),
            (v2(0x11, 0x11, &V4), BadHeader),
            (v2(0x22, 0x11, &V4), BadHeader),
            (v2(0x21, 0x11, &V4[..11]), BadHeader),
            (v2(0x21, 0x21, &V4), BadHeader),
            (v2(0x21, 0x12, &V4), BadHeader),
            (v2(0x21, 0x99, &V4), BadHeader),
            (v2(0x21, 0x11, &[0; MAX_REST + 1]), TooLong),
        ];
        for (bytes, expected) in cases {
            let (read, taken) = read(&bytes);
            assert_eq!(read, Err(expected), "{:?}", String::from_utf8_lossy(&bytes));
            assert!(taken <= FIXED + MAX_REST);
        }
    }

    #[test]
    fn a_line_that_never_ends_is_given_up_at_its_longest() {
        let endless = [b'f'; 1000];
        let (read, taken) = read(&[&b"PROXY UNKNOWN "[..], &endless].concat());
        assert_eq!((read, taken), (Err(ProxyHeaderError::TooLong), MAX_LINE));
    }
}

//! What a connection begins with: a load balancer's header, and the first packet.

use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::proxy_header::{ProxyHeader, parse_proxy_header};
use pgherd_protocol::startup::{CancelKey, MAX_STARTUP_LEN, StartupPacket, parse_startup, startup_len};
use pgherd_protocol::statement::{Place, scan};
use pgherd_protocol::write;

/// Any first bytes.
pub(crate) fn run(input: &[u8]) {
    header(input);
    match startup_len(input) {
        Ok(None) => assert!(input.len() < 4),
        Ok(Some(len)) => {
            assert!((8..=MAX_STARTUP_LEN).contains(&len));
            if let Some(whole) = input.get(..len) {
                packet(whole);
            }
        }
        Err(_) => assert!(input.len() >= 4),
    }
    packet(input);
}

fn packet(bytes: &[u8]) {
    match parse_startup(bytes) {
        Ok(StartupPacket::Startup(startup)) => {
            assert!(!startup.user.is_empty() && startup.user.len() <= 63 && !startup.database.is_empty());
            assert!(startup.database.len() <= 63 && startup.spoken_minor() <= 2);
            let kept: usize = startup.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(kept <= bytes.len(), "nothing is kept that was not sent");
            written_again(&startup.user, &startup.database, &startup.parameters);
            // What is set for the session is taken or refused, and is no text of another kind.
            if let Ok(parameters) = Parameters::new(&startup.parameters)
                && let Some(sql) = parameters.to_sql()
            {
                assert!(!sql.contains('\0'));
                assert!(scan(sql.as_bytes()).place != Place::Standby, "{sql}");
            }
        }
        Ok(StartupPacket::Cancel(key)) => {
            let again = write::cancel_request(&key);
            assert_eq!(&again[8..], &bytes[8..], "a key is sent on as it came");
            assert_eq!(CancelKey::parse(&again[8..]), Some(key));
        }
        Ok(StartupPacket::SslRequest | StartupPacket::GssEncRequest) | Err(_) => {}
    }
}

/// What pgherd itself would send for the same session is read as the same.
fn written_again(user: &str, database: &str, parameters: &[(String, String)]) {
    let pairs = [("user", user), ("database", database)];
    let others = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut out = Vec::new();
    write::startup(&mut out, pairs.into_iter().chain(others));
    let Ok(StartupPacket::Startup(again)) = parse_startup(&out) else { panic!("{out:?}") };
    assert_eq!((&*again.user, &*again.database, &*again.parameters), (user, database, parameters));
}

/// A reader that takes as many bytes as it is told to reads the header, and nothing behind it.
fn header(input: &[u8]) {
    let (mut len, mut steps) = (0, 0);
    loop {
        steps += 1;
        assert!(steps < 200, "each step asks for something");
        let Some(bytes) = input.get(..len) else { return };
        match parse_proxy_header(bytes) {
            Ok(ProxyHeader::More(more)) => {
                assert!(more > 0 && len + more <= 16 + 4096, "{len} and {more}");
                len += more;
            }
            Ok(ProxyHeader::Whole(_)) => break,
            Err(_) => return,
        }
    }
    assert!(input.starts_with(b"PROXY ") || input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    for shorter in 0..len {
        assert!(
            !matches!(parse_proxy_header(&input[..shorter]), Ok(ProxyHeader::Whole(_))),
            "{shorter} of {len}"
        );
    }
}

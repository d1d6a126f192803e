//! SCRAM-SHA-256: a login that anybody has changed on its way fails, and nobody gets in without the password.

use pgherd_protocol::auth::{
    Channel, Credential, InitialResponse, Login, LoginStep, NONCE_LEN, ScramServer, ScramServerFinal,
    ScramVerifier, Verifier,
};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use crate::bytes::Bytes;

const SALT: &[u8] = b"salted";
const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
const SECRET: [u8; 32] = [9; 32];
/// More would only be slower.
const ITERATIONS: u32 = 2;

/// pgherd at a server that says anything, or that somebody stands before.
pub(crate) fn client(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    if bytes.bit() {
        return changed_on_its_way(&mut bytes, true);
    }
    let password = bytes.piece();
    let credential = credential(&mut bytes, password);
    let may_be_let_in = matches!(credential, Credential::None | Credential::Password { .. });
    let mut login = Login::new(credential, NONCE);
    let mut scram = false;
    while !bytes.is_empty() {
        let code = u32::from(bytes.below(13));
        let data = bytes.piece();
        if is_slow(data) {
            return;
        }
        let payload = [&code.to_be_bytes(), data].concat();
        match login.on_authentication(&payload) {
            // Only a server that has not begun SCRAM can let us in without a proof of its own.
            Ok(LoginStep::Accepted) => assert!(!scram, "accepted without a proof"),
            Ok(LoginStep::Send(sent)) => {
                scram |= code == 10;
                assert!(sent.len() <= 1100 + password.len(), "{}", sent.len());
                assert!(may_be_let_in || !contains(&sent, password), "the password is sent");
            }
            Ok(LoginStep::Wait) => panic!("nobody can know the server's signature"),
            Err(_) => return,
        }
    }
}

/// A client that says anything, or that somebody stands before.
pub(crate) fn server(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    match bytes.below(4) {
        0 => verifier_is_read(bytes.rest()),
        1 => both_clients_agree(&mut bytes),
        2 => changed_on_its_way(&mut bytes, false),
        _ => {
            let verifier = ScramVerifier::from_password(b"right", SALT, ITERATIONS);
            let known = bytes.bit().then_some(&verifier);
            let server = ScramServer::new(known, "ada", &SECRET, &NONCE);
            let first = bytes.until(0);
            let Ok((said, next)) = server.first(first) else { return };
            // As PostgreSQL bounds what it reads, so is what it says.
            assert!(said.len() <= first.len() + 200, "{}", said.len());
            assert!(next.finish(bytes.rest()).is_err(), "a proof without the password");
        }
    }
}

fn credential(bytes: &mut Bytes<'_>, password: &[u8]) -> Credential {
    match bytes.below(3) {
        0 => Credential::None,
        1 => Credential::Password { user: "ada".to_owned(), password: password.to_vec().into() },
        _ => {
            let verifier = ScramVerifier::from_password(password, SALT, ITERATIONS);
            verifier.keys_of(password).map_or(Credential::None, Credential::Keys)
        }
    }
}

/// It asks for more iterations than there is time for here.
fn is_slow(message: &[u8]) -> bool {
    let digits = message.rsplit(|byte| *byte == b'=').next().unwrap_or_default();
    digits.len() > 2
}

/// What is shorter, or has a comma, may be the protocol's own.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.len() > 30 && !part.contains(&b',') && bytes.windows(part.len()).any(|window| window == part)
}

/// What `rolpassword` holds is read as it is written.
fn verifier_is_read(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Verifier::parse(&text) {
        Some(Verifier::Scram(verifier)) => {
            let again = verifier.to_rolpassword();
            assert!(Verifier::parse(&again).is_some_and(|it| it == Verifier::Scram(verifier)), "{text}");
        }
        Some(Verifier::Md5(_)) => assert!(text.starts_with("md5") && text.len() == 35, "{text}"),
        None => {}
    }
}

/// The driver's SCRAM and pgherd's own, at pgherd's server.
fn both_clients_agree(bytes: &mut Bytes<'_>) {
    let (stored, given) = (bytes.piece(), bytes.piece());
    let verifier = ScramVerifier::from_password(stored, SALT, ITERATIONS);
    let server = || ScramServer::new(Some(&verifier), "ada", &SECRET, &NONCE);
    let password = Credential::Password { user: "ada".to_owned(), password: given.to_vec().into() };
    let own = exchange(server(), password, &mut |_: u8, _: &mut Vec<u8>| {});
    let theirs = || -> Option<bool> {
        let mut client = ScramSha256::new(given, ChannelBinding::unsupported());
        let (said, next) = server().first(client.message()).ok()?;
        client.update(&said).ok()?;
        let (proof, _) = next.finish(client.message()).ok()?;
        Some(client.finish(&proof).is_ok())
    };
    let theirs = theirs().unwrap_or(false);
    assert_eq!(own, theirs, "{stored:?} {given:?}");
    assert!(own || stored != given, "{given:?} is right");
}

/// One change of one message of an exchange that would succeed.
fn changed_on_its_way(bytes: &mut Bytes<'_>, is_keys: bool) {
    let verifier = ScramVerifier::from_password(b"right", SALT, ITERATIONS);
    let server = ScramServer::new(Some(&verifier), "ada", &SECRET, &NONCE);
    let credential = match verifier.keys_of(b"right").filter(|_| is_keys) {
        Some(keys) => Credential::Keys(keys),
        None => Credential::Password { user: "ada".to_owned(), password: b"right".to_vec().into() },
    };
    let which = bytes.below(4);
    let (kind, at, byte) = (bytes.below(3), usize::from(bytes.byte()), bytes.byte());
    let mut is_changed = false;
    let mut change = |number: u8, message: &mut Vec<u8>| {
        if number != which || message.is_empty() {
            return;
        }
        let before = message.clone();
        let at = at % message.len();
        match kind {
            0 => message[at] = byte,
            1 => message.insert(at, byte),
            _ => drop(message.remove(at)),
        }
        is_changed = *message != before;
    };
    let succeeds = exchange(server, credential, &mut change);
    assert_eq!(succeeds, !is_changed, "message {which}, change {kind} at {at} to {byte}");
}

type Change<'a> = &'a mut dyn FnMut(u8, &mut Vec<u8>);

/// Whether both sides are content in the end.
fn exchange(server: ScramServer, credential: Credential, change: Change<'_>) -> bool {
    let run = |change: Change<'_>| -> Option<()> {
        let mut login = Login::new(credential, NONCE.map(|byte| byte + 1));
        let sasl = [&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat();
        let LoginStep::Send(first) = login.on_authentication(&sasl).ok()? else { return None };
        let first = InitialResponse::parse(&first, &Channel::Unbindable).ok()?;
        let mut first = first.client_first?.to_vec();
        change(0, &mut first);
        let (mut said, next): (Vec<u8>, ScramServerFinal) = server.first(&first).ok()?;
        change(1, &mut said);
        if is_slow(&said) {
            return None;
        }
        let said = [&11_u32.to_be_bytes()[..], &said].concat();
        let LoginStep::Send(last) = login.on_authentication(&said).ok()? else { return None };
        let mut last = last.to_vec();
        change(2, &mut last);
        let (mut proof, _) = next.finish(&last).ok()?;
        change(3, &mut proof);
        let proof = [&12_u32.to_be_bytes()[..], &proof].concat();
        let LoginStep::Wait = login.on_authentication(&proof).ok()? else { return None };
        let LoginStep::Accepted = login.on_authentication(&0_u32.to_be_bytes()).ok()? else { return None };
        Some(())
    };
    run(change).is_some()
}

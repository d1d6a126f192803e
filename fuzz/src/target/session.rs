//! The session machine between a client and a server of which either may say anything, in any order and cut anywhere.

mod peer;
mod relay;

use crate::bytes::Bytes;
use relay::{Relay, Setup};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Move {
    /// The client sends this message.
    Asks(u8, Vec<u8>),
    /// It sends these bytes.
    Sends(Vec<u8>),
    /// The server answers, as one that is in its right mind, so many messages of those that have reached it.
    Answers(usize),
    /// The server sends this message.
    Says(u8, Vec<u8>),
    /// It sends these bytes.
    Tells(Vec<u8>),
    /// The connection to the server is lost.
    Loses,
}

const CLIENT: &[u8] = b"QPBDECSHdcfFX";
const SERVER: &[u8] = b"ZCTDE12nt3IsGHWdcNAS";
/// What is worth saying: the machine looks at texts.
const TEXTS: &[&str] = &[
    "SELECT 1",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET a.b = 'c'",
    "SELECT 1; COMMIT; SELECT 2",
    "PREPARE p AS SELECT $1",
    "EXECUTE p(1)",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "LISTEN x",
    "COPY t FROM STDIN",
    "SELECT * FROM pg_prepared_statements",
    "SELECT currval('s')",
    "INSERT INTO t VALUES (nextval('s'))",
    "ROLLBACK; SELECT 1",
];

/// A setup, and moves.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let setup = Setup::new(bytes.byte());
    let cut = 1 + usize::from(bytes.byte());
    let moves = moves(bytes);
    let whole = play(setup, &moves, usize::MAX);
    let pieces = play(setup, &moves, cut);
    // What waits for the server is taken in by what is known when its answer has come, of which there is more in one piece.
    if !whole.has_waited && !pieces.has_waited {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(
            shown(&whole.to_server),
            shown(&pieces.to_server),
            "to the server, in pieces of {cut}: {moves:?}"
        );
        assert_eq!(
            shown(&whole.to_client),
            shown(&pieces.to_client),
            "to the client, in pieces of {cut}: {moves:?}"
        );
        assert_eq!(whole.has_ended, pieces.has_ended, "in pieces of {cut}: {moves:?}");
    }
}

fn play(setup: Setup, moves: &[Move], cut: usize) -> Relay {
    let mut relay = Relay::new(setup);
    for step in moves {
        match step {
            Move::Asks(tag, body) => relay.client_sends(&message(*tag, body), cut),
            Move::Sends(sent) => relay.client_sends(sent, cut),
            Move::Answers(most) => relay.server_answers(*most, cut),
            Move::Says(tag, body) => relay.server_sends(&message(*tag, body), cut),
            Move::Tells(sent) => relay.server_sends(sent, cut),
            Move::Loses => relay.loses(),
        }
        if relay.has_ended {
            break;
        }
    }
    relay
}

fn moves(mut bytes: Bytes<'_>) -> Vec<Move> {
    let mut moves = Vec::new();
    while !bytes.is_empty() && moves.len() < 64 {
        moves.push(match bytes.below(16) {
            0..=4 => {
                let (tag, body) = request(&mut bytes);
                Move::Asks(tag, body)
            }
            5 => Move::Asks(bytes.one(CLIENT), bytes.piece().to_vec()),
            6 => Move::Sends(bytes.piece().to_vec()),
            7..=11 => Move::Answers(1 + usize::from(bytes.below(8))),
            12 | 13 => Move::Says(bytes.one(SERVER), bytes.piece().to_vec()),
            14 => Move::Tells(bytes.piece().to_vec()),
            _ if bytes.below(4) == 0 => Move::Loses,
            _ => Move::Answers(64),
        });
    }
    moves
}

/// A message as clients send it.
fn request(bytes: &mut Bytes<'_>) -> (u8, Vec<u8>) {
    let name = |bytes: &mut Bytes<'_>| [b"".as_slice(), b"s", b"t", b"u"][usize::from(bytes.below(4))];
    let kind = |bytes: &mut Bytes<'_>| if bytes.bit() { b"S".as_slice() } else { b"P" };
    let text = |bytes: &mut Bytes<'_>| match bytes.byte() {
        255 => String::from_utf8_lossy(bytes.piece()).into_owned().into_bytes(),
        choice => TEXTS[usize::from(choice) % TEXTS.len()].as_bytes().to_vec(),
    };
    match bytes.below(8) {
        0 | 1 => (b'Q', [text(bytes), vec![0]].concat()),
        2 => (b'P', [name(bytes), b"\0", text(bytes).as_slice(), b"\0\0\0"].concat()),
        3 => (b'B', [name(bytes), b"\0", name(bytes), b"\0\0\0\0\0\0\0"].concat()),
        4 => (b'D', [kind(bytes), name(bytes), b"\0"].concat()),
        5 => (b'E', [name(bytes), b"\0\0\0\0\0"].concat()),
        6 => (b'C', [kind(bytes), name(bytes), b"\0"].concat()),
        _ => (b'S', Vec::new()),
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    pgherd_protocol::write::message(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

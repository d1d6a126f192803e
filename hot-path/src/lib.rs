//! Transactions that pass through the session machine as the relay has them pass, without sockets: for what counts instructions,
//! nanoseconds or allocations.

use std::sync::Arc;

use pgherd_protocol::flow::{BUFFER_LEN, Flow, Next};
use pgherd_protocol::prepared::{Lookup, Plans, Repeated, Statements};
use pgherd_protocol::server::ServerState;
use pgherd_protocol::session::{NoViews, Pooling, Sequences, Session};
use pgherd_protocol::statement::RecentScans;
use pgherd_protocol::write;

const QUERY: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;";
const PARAMETRISED: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;";

/// What pgbench sends for a transaction of its select-only script, and what it is answered.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The name of its protocol.
    pub name: &'static str,
    /// What it must send once, before.
    before: Option<(Vec<u8>, Vec<u8>)>,
    request: Vec<u8>,
    reply: Vec<u8>,
    /// How what stands for its unnamed statement is planned, if anything does.
    unnamed: Option<Plans>,
}

/// A client's session and a server connection, in transaction mode.
#[derive(Debug)]
pub struct Player {
    session: Session,
    server: ServerState,
    statements: Statements,
    recent: RecentScans,
    repeated: Repeated,
    sequences: Sequences,
    up: Flow,
    down: Flow,
    out: Vec<u8>,
}

impl Transaction {
    /// One for each protocol.
    #[must_use]
    pub fn all() -> [Self; 4] {
        let run = |name: &str| {
            let mut sent = Vec::new();
            write::message(&mut sent, b'B', |out| {
                write::cstr(out, b"");
                write::cstr(out, name.as_bytes());
                out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 5]);
                out.extend_from_slice(b"12345");
                out.extend_from_slice(&[0, 0]);
            });
            write::message(&mut sent, b'D', |out| out.extend_from_slice(b"P\0"));
            write::message(&mut sent, b'E', |out| out.extend_from_slice(&[0; 5]));
            write::empty(&mut sent, b'S');
            sent
        };
        let parse = |name: &str| {
            let mut sent = Vec::new();
            write::message(&mut sent, b'P', |out| {
                write::cstr(out, name.as_bytes());
                write::cstr(out, PARAMETRISED.as_bytes());
                out.extend_from_slice(&[0, 0]);
            });
            sent
        };
        let mut query = Vec::new();
        write::query(&mut query, QUERY);
        let mut described = parse("P0");
        write::empty(&mut described, b'S');
        // With the description that pgherd asks for behind the first Parse.
        let mut parsed = messages(&[(b'1', b""), (b't', b"\0\x01\0\0\0\x17")]);
        parsed.extend(row_description());
        parsed.extend(messages(&[(b'Z', b"I")]));
        [
            Self { name: "simple", before: None, request: query, reply: answer(&[]), unnamed: None },
            Self {
                name: "extended",
                before: None,
                request: [parse(""), run("")].concat(),
                reply: answer(b"12"),
                unnamed: None,
            },
            Self {
                name: "repeated",
                before: Some(([parse(""), run("")].concat(), answer(b"12"))),
                request: [parse(""), run("")].concat(),
                reply: answer(b"2"),
                unnamed: Some(Plans::Auto),
            },
            Self {
                name: "prepared",
                before: Some((described, parsed)),
                request: run("P0"),
                reply: answer(b"2"),
                unnamed: None,
            },
        ]
    }
}

impl Player {
    /// Plays what comes before a transaction, and that once, so that all is remembered that will be.
    ///
    /// # Panics
    /// As [`Player::play`].
    #[must_use]
    pub fn for_transaction(transaction: &Transaction) -> Self {
        let mut player = Self {
            session: Session::new(Pooling::Transaction, Arc::default(), 1, (1, 1)),
            server: ServerState::new(200, transaction.unnamed),
            statements: Statements::default(),
            recent: RecentScans::default(),
            repeated: Repeated::default(),
            sequences: Sequences::default(),
            up: Flow::default(),
            down: Flow::default(),
            out: Vec::with_capacity(BUFFER_LEN),
        };
        if let Some((request, reply)) = &transaction.before {
            // What is parsed without a name is prepared when it comes for the second time.
            let times = if transaction.unnamed.is_some() { 2 } else { 1 };
            (0..times).for_each(|_| _ = player.pass(request, reply));
        }
        player.play(transaction);
        player
    }

    /// Plays one transaction; how many bytes have passed.
    ///
    /// # Panics
    /// When the session machine does not take it for a transaction that begins and ends.
    pub fn play(&mut self, transaction: &Transaction) -> usize {
        self.pass(&transaction.request, &transaction.reply)
    }

    fn pass(&mut self, request: &[u8], reply: &[u8]) -> usize {
        let Self { session, server, statements, recent, repeated, sequences, up, down, out } = self;
        let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
        out.clear();
        let next = up.next_request((request, false));
        assert!(next.is_ok_and(|idle| idle.next == Next::Request), "it asks for nothing");
        session.attach(server);
        let sent = up.cut_frontend(session, server, lookup, (request, false), out);
        assert!(sent.consumed == request.len() && sent.stop.is_none(), "it is not taken in");
        let passed = out.len() + sent.pass.len();
        // What stood for it has grown old, and is closed and prepared anew.
        let renewed = if out.first() == Some(&b'C') { answer(b"312") } else { Vec::new() };
        let reply = if renewed.is_empty() { reply } else { &renewed };
        out.clear();
        let told = down.cut_backend(session, server, (reply, false), out);
        assert!(told.is_ok_and(|cut| cut.consumed == reply.len()), "the answer is not understood");
        assert!(session.is_at_rest() && session.pin().is_none(), "it keeps its connection");
        session.detach(server);
        passed + out.len()
    }
}

/// What a server says of one row, behind these messages without a body.
fn answer(before: &[u8]) -> Vec<u8> {
    let before: Vec<_> = before.iter().map(|&tag| (tag, &b""[..])).collect();
    let rest = messages(&[(b'D', b"\0\x01\0\0\0\x04-123"), (b'C', b"SELECT 1\0"), (b'Z', b"I")]);
    [messages(&before), row_description(), rest].concat()
}

fn row_description() -> Vec<u8> {
    messages(&[(b'T', b"\0\x01abalance\0\0\0\x40\0\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0")])
}

fn messages(all: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, body) in all {
        write::message(&mut bytes, *tag, |out| out.extend_from_slice(body));
    }
    bytes
}

//! Passes bytes between the two as pgherd's relay does, and looks whether what arrives is what may.

use std::mem;
use std::sync::Arc;

use pgherd_protocol::flow::{Cut, Flow, Next, Stop};
use pgherd_protocol::frame::{HEADER_LEN, backend_header, frontend_header};
use pgherd_protocol::prepared::{Lookup, Plans, Repeated, Statements};
use pgherd_protocol::server::ServerState;
use pgherd_protocol::session::{Detached, Loss, NoViews, Pooling, Sequences, Session};
use pgherd_protocol::statement::RecentScans;

use super::peer::Peer;

/// How the session is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pooling: Pooling,
    /// Bytes of a buffer.
    capacity: usize,
    unnamed: Option<Plans>,
}

impl Setup {
    pub(super) fn new(byte: u8) -> Self {
        let pooling = [Pooling::Transaction, Pooling::Session, Pooling::Home][usize::from(byte % 3)];
        let capacity = [64, 333, 2500, 32 * 1024][usize::from(byte / 3 % 4)];
        Self { pooling, capacity, unnamed: (byte / 12 % 2 == 1).then_some(Plans::Auto) }
    }
}

enum Place {
    Idle,
    Joined,
    Detached(Box<Detached>),
}

/// A client, pgherd and a server.
pub(super) struct Relay {
    setup: Setup,
    session: Session,
    place: Place,
    server: ServerState,
    peer: Peer,
    statements: Statements,
    recent: RecentScans,
    repeated: Repeated,
    sequences: Sequences,
    up: Pipe,
    down: Pipe,
    /// All that the server got, in all of its lives, and the client.
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    /// Messages that end a batch, of all that was taken in.
    batches: usize,
    asked: Messages,
    got: Messages,
    told: Messages,
    /// A message of the client's had to wait.
    pub(super) has_waited: bool,
    pub(super) has_ended: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    flow: Flow,
    input: Vec<u8>,
}

/// Counts messages of a stream by their tags.
#[derive(Debug, Default)]
struct Messages {
    left: usize,
    head: Vec<u8>,
    /// What they say, of those that matter.
    seen: Vec<u8>,
}

impl Messages {
    fn see(&mut self, bytes: &[u8], is_client: bool) {
        for byte in bytes {
            if self.left > 0 {
                self.left -= 1;
                continue;
            }
            self.head.push(*byte);
            let header = if is_client { frontend_header(&self.head) } else { backend_header(&self.head) };
            match header {
                Ok(None) => {}
                Ok(Some(header)) => {
                    self.left = header.len - HEADER_LEN;
                    self.seen.push(header.tag);
                    self.head.clear();
                }
                Err(error) => panic!(
                    "what was passed on is out of step: {error} behind {:?}",
                    self.seen.escape_ascii().to_string()
                ),
            }
        }
    }

    fn count(&self, tags: &[u8]) -> usize {
        self.seen.iter().filter(|tag| tags.contains(tag)).count()
    }
}

impl Relay {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            session: Session::new(setup.pooling, Arc::default(), 1, (1, 1)),
            place: Place::Idle,
            server: ServerState::new(3, setup.unnamed),
            peer: Peer::default(),
            statements: Statements::default(),
            recent: RecentScans::default(),
            repeated: Repeated::default(),
            sequences: Sequences::default(),
            up: Pipe::default(),
            down: Pipe::default(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            batches: 0,
            asked: Messages::default(),
            got: Messages::default(),
            told: Messages::default(),
            has_waited: false,
            has_ended: false,
        }
    }

    pub(super) fn client_sends(&mut self, bytes: &[u8], cut: usize) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.has_ended {
            let room = self.setup.capacity - self.up.input.len();
            if room == 0 {
                // It is not read from before there is room again.
                self.has_waited = true;
                return;
            }
            let (piece, behind) = rest.split_at(cut.min(room).min(rest.len()));
            self.up.input.extend_from_slice(piece);
            rest = behind;
            self.cut_up();
        }
    }

    pub(super) fn server_answers(&mut self, most: usize, cut: usize) {
        let answers = self.peer.answers(most);
        self.server_sends(&answers, cut);
    }

    pub(super) fn server_sends(&mut self, bytes: &[u8], cut: usize) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.has_ended {
            if !matches!(self.place, Place::Joined) {
                // Nobody takes a connection on which something was said that nobody has asked for.
                return self.renew();
            }
            let room = self.setup.capacity - self.down.input.len();
            assert!(room > 0, "a full buffer was not cut");
            let (piece, behind) = rest.split_at(cut.min(room).min(rest.len()));
            self.down.input.extend_from_slice(piece);
            rest = behind;
            self.cut_down();
        }
    }

    /// The connection to the server is lost.
    pub(super) fn loses(&mut self) {
        if !matches!(self.place, Place::Joined) {
            return self.renew();
        }
        if self.down.flow.is_inside_message() {
            // The client has got a part of a message: it can be told nothing more.
            self.has_ended = true;
            return;
        }
        if self.up.flow.is_inside_message() {
            self.up.flow.drop_rest();
        }
        let loss = Loss { server: "a:5432".to_owned(), cause: "lost".to_owned() };
        let mut out = Vec::new();
        let detached = self.session.on_loss(&loss, &mut out);
        self.tell(&out);
        self.session.detach(&mut self.server);
        self.renew();
        self.place = detached.map_or(Place::Idle, |it| Place::Detached(Box::new(it)));
        self.cut_up();
    }

    /// Another server connection.
    fn renew(&mut self) {
        self.server = ServerState::new(3, self.setup.unnamed);
        self.peer = Peer::default();
        self.down = Pipe::default();
        self.got.left = 0;
        self.got.head.clear();
    }

    fn cut_up(&mut self) {
        while !self.has_ended && self.cut_up_once() {}
        self.look();
    }

    /// True if something has come of it.
    fn cut_up_once(&mut self) -> bool {
        let full = self.up.input.len() == self.setup.capacity;
        let input = mem::take(&mut self.up.input);
        let moved = match mem::replace(&mut self.place, Place::Idle) {
            Place::Idle => {
                let Ok(idle) = self.up.flow.next_request((&input, full)) else {
                    self.has_ended = true;
                    return false;
                };
                self.take_up(&input, idle.consumed);
                match idle.next {
                    Next::NeedMore => idle.consumed > 0,
                    Next::Terminate => {
                        self.has_ended = true;
                        false
                    }
                    Next::Request => {
                        self.session.attach(&mut self.server);
                        self.place = Place::Joined;
                        true
                    }
                }
            }
            Place::Joined => {
                self.place = Place::Joined;
                self.cut_up_joined(&input, full)
            }
            Place::Detached(detached) => self.cut_up_detached(&input, full, detached),
        };
        moved && !self.up.input.is_empty()
    }

    fn cut_up_joined(&mut self, input: &[u8], full: bool) -> bool {
        let Self { session, server, statements, recent, repeated, sequences, up, .. } = self;
        let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
        let mut out = Vec::new();
        let cut = up.flow.cut_frontend(session, server, lookup, (input, full), &mut out);
        out.extend_from_slice(passed(&cut, input));
        self.peer.gets(&out);
        self.to_server.extend_from_slice(&out);
        self.got.see(&out, true);
        self.take_up(input, cut.consumed);
        if self.session.has_local_now() && !self.down.flow.is_inside_message() {
            let mut out = Vec::new();
            self.session.drain_local(&mut out);
            self.tell(&out);
        }
        self.has_waited |= self.session.is_stalled();
        self.has_ended |= matches!(cut.stop, Some(Stop::Terminate | Stop::Violation(_) | Stop::Leaves));
        self.give_back_if_at_rest();
        cut.consumed > 0
    }

    fn cut_up_detached(&mut self, input: &[u8], full: bool, mut detached: Box<Detached>) -> bool {
        let Self { session, statements, up, .. } = self;
        let mut out = Vec::new();
        let cut = up.flow.cut_detached(&mut detached, session, statements, (input, full), &mut out);
        let Ok(cut) = cut else {
            self.has_ended = true;
            return false;
        };
        self.take_up(input, cut.consumed);
        self.tell(&out);
        match cut.stop {
            None => self.place = Place::Detached(detached),
            Some(Stop::AtRest) => self.place = Place::Idle,
            Some(_) => self.has_ended = true,
        }
        cut.consumed > 0 || cut.stop.is_some()
    }

    fn take_up(&mut self, input: &[u8], consumed: usize) {
        let (taken, rest) = input.split_at(consumed);
        self.asked.see(taken, true);
        self.batches = self.asked.count(b"QSF");
        self.up.input = rest.to_vec();
    }

    fn cut_down(&mut self) {
        loop {
            let full = self.down.input.len() == self.setup.capacity;
            let input = mem::take(&mut self.down.input);
            let Self { session, server, down, statements, .. } = self;
            let mut out = Vec::new();
            let Ok(cut) = down.flow.cut_backend(session, server, (&input, full), &mut out) else {
                return self.loses();
            };
            session.tell_migrations(statements);
            out.extend_from_slice(passed(&cut, &input));
            down.input = input[cut.consumed..].to_vec();
            self.tell(&out);
            match cut.stop {
                None | Some(Stop::AtRest) => {}
                Some(Stop::ServerEnds { body }) => {
                    assert!(body <= input.len(), "{body} of {}", input.len());
                    return self.loses();
                }
                Some(Stop::OutOfStep) => return self.loses(),
                Some(_) => {
                    self.has_ended = true;
                    return;
                }
            }
            self.give_back_if_at_rest();
            if cut.consumed == 0 || self.down.input.is_empty() || !matches!(self.place, Place::Joined) {
                break;
            }
        }
        self.cut_up();
    }

    fn give_back_if_at_rest(&mut self) {
        let is_free =
            self.session.is_at_rest() && !self.session.keeps_connection() && !self.session.is_altered();
        if is_free && self.down.input.is_empty() && matches!(self.place, Place::Joined) {
            self.session.detach(&mut self.server);
            self.place = Place::Idle;
        }
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
        self.told.see(bytes, false);
    }

    /// What must hold whenever nothing moves.
    fn look(&self) {
        let ready = self.told.count(b"Z");
        assert!(ready <= self.batches, "ReadyForQuery {ready} times, and {} were asked for", self.batches);
        // Nothing is kept but for what the client has asked, or pgherd itself beside it.
        let most = 8 * (self.asked.seen.len() + 1);
        assert!(
            self.session.owed() <= most,
            "{} owed for {} messages",
            self.session.owed(),
            self.asked.seen.len()
        );
    }
}

fn passed<'a>(cut: &Cut, input: &'a [u8]) -> &'a [u8] {
    assert!(cut.consumed <= input.len(), "{cut:?} of {}", input.len());
    assert!(
        cut.pass.is_empty() || (cut.pass.start < cut.pass.end && cut.pass.end <= cut.consumed),
        "{cut:?}"
    );
    &input[cut.pass.clone()]
}

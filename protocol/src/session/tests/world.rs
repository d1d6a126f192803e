//! Clients, pgherd's sessions and model servers, joined as the relay joins them, but without sockets: every transfer of
//! bytes is a step that a test can take by itself.

mod home;
mod standbys;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use home::settle_at_home;
use standbys::is_standby;

use super::pipe::Pipe;
use super::postgres::Database;
use super::server::{Lifetime, Server};
use super::step::Step;
use super::wire;
use crate::error::{ClientError, Severity};
use crate::flow::{BUFFER_LEN, Next, Stop};
use crate::parameters::Parameters;
use crate::prepared::{Lookup, Plans, Repeated, Statements};
use crate::session::{Detached, Loss, NoViews, Pooling, Sequences, Session, Transaction};
use crate::statement::{Named, Names, RecentScans, Suspects, Trust};
use crate::write;

/// As long as the proxy's buffers.
pub(super) const CAPACITY: usize = BUFFER_LEN;

#[derive(Debug)]
enum Place {
    Idle,
    Joined(usize),
    Detached(Box<Detached>),
    Gone,
}

/// A client and its session in pgherd.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Session,
    up: Pipe,
    down: Pipe,
    place: Place,
    /// What is in force in the session.
    parameters: Arc<Parameters>,
    /// Sent, and not read by pgherd.
    pub(super) sent: Vec<u8>,
    /// Received, and not looked at by the test.
    pub(super) got: Vec<u8>,
    was_refused: bool,
    /// The connection that it has for life, while it has another one.
    home: Option<usize>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pooling: Pooling,
    pub(super) statements: Statements,
    pub(super) recent: RecentScans,
    pub(super) repeated: Repeated,
    /// How what stands for unnamed statements is planned, if anything does.
    plans: Option<Plans>,
    pub(super) database: Rc<RefCell<Database>>,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    /// The server that is taken if it is free.
    pub(super) preferred: usize,
    pub(super) capacity: usize,
    prepared_limit: usize,
    /// They are: in a failed transaction they describe nothing but what ends it.
    is_strict: bool,
    /// Of the first servers.
    lifetimes: Vec<Lifetime>,
    /// Of all clients.
    startup: Arc<Parameters>,
    /// Of all clients.
    pub(super) sequences: Sequences,
    /// Every second server is a standby, which refuses to read where this says so, again and again.
    refusals: Option<Vec<bool>>,
}

pub(super) fn transaction_mode() -> World {
    World::new(Pooling::Transaction)
}

pub(super) fn session_mode() -> World {
    World::new(Pooling::Session)
}

/// As session mode, but what only reads may be read on standbys.
pub(super) fn home_mode() -> World {
    World::new(Pooling::Home)
}

/// What texts are suspected of where these names are known to run texts that nobody sees; with [`Trust::Nothing`] the catalogue was not read yet.
pub(super) fn suspects(trust: Trust, run_any: &[&str]) -> Arc<Suspects> {
    let named = Named { suspect: true, runs_any: true, ..Named::default() };
    let known = run_any.iter().map(|name| (name.as_bytes().into(), named)).collect();
    let names = Names { number: 1, known, is_read: trust == Trust::Names, ..Names::default() };
    Arc::new(Suspects { trust, names: Arc::new(names), ..Suspects::default() })
}

impl World {
    fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            statements: Statements::default(),
            recent: RecentScans::default(),
            repeated: Repeated::default(),
            plans: None,
            database: Rc::default(),
            clients: Vec::new(),
            servers: Vec::new(),
            preferred: 0,
            capacity: CAPACITY,
            prepared_limit: 200,
            is_strict: false,
            lifetimes: Vec::new(),
            startup: Arc::default(),
            sequences: Sequences::default(),
            refusals: None,
        }
    }

    /// What is parsed again and again without a name is prepared once.
    pub(super) const fn with_stand_ins(mut self, plans: Option<Plans>) -> Self {
        self.plans = plans;
        self
    }

    pub(super) const fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    pub(super) const fn with_prepared_limit(mut self, limit: usize) -> Self {
        self.prepared_limit = limit;
        self
    }

    pub(super) const fn with_strict_servers(mut self) -> Self {
        self.is_strict = true;
        self
    }

    pub(super) fn with_startup(mut self, name: &str, value: &str) -> Self {
        let parameters = Parameters::new(&[(name.into(), value.into())]);
        self.startup = Arc::new(parameters.unwrap());
        self
    }

    pub(super) fn with_lifetimes(mut self, lifetimes: &[Lifetime]) -> Self {
        self.lifetimes = lifetimes.to_vec();
        self
    }

    /// Makes sure that there is a client of this number.
    pub(super) fn client(&mut self, number: usize) -> &mut Client {
        while self.clients.len() <= number {
            let id = u64::try_from(self.clients.len()).unwrap() + 1;
            let mut session = Session::new(self.pooling, Arc::clone(&self.startup), 0, (1, id));
            if self.pooling == Pooling::Home {
                // Its catalogue, in which nothing is suspect, was read.
                session.heed(&suspects(Trust::Names, &[]));
            }
            self.clients.push(Client {
                session,
                parameters: Arc::clone(&self.startup),
                up: Pipe::default(),
                down: Pipe::default(),
                place: Place::Idle,
                sent: Vec::new(),
                got: Vec::new(),
                was_refused: false,
                home: None,
            });
        }
        &mut self.clients[number]
    }

    /// Makes sure that there is a server connection of this number.
    pub(super) fn server(&mut self, number: usize) -> &mut Server {
        while self.servers.len() <= number {
            let mut server = Server::new(&self.database, self.prepared_limit, self.plans);
            server.backend.is_strict = self.is_strict;
            server.lifetime = self.lifetimes.get(self.servers.len()).copied();
            if let Some(refusals) = self.refusals.as_ref().filter(|_| is_standby(self.servers.len())) {
                server.backend.become_standby(refusals.clone());
            }
            self.servers.push(server);
        }
        &mut self.servers[number]
    }

    /// Takes one step of one client; true if anything has moved.
    pub(super) fn step(&mut self, number: usize, step: Step) -> bool {
        let capacity = self.capacity;
        let client = &mut self.clients[number];
        let server = match client.place {
            Place::Joined(server) => Some(server),
            _ => None,
        };
        let moved = match (step, server) {
            (Step::Read(_), _) if matches!(client.place, Place::Gone) => {
                !std::mem::take(&mut client.sent).is_empty()
            }
            (Step::Read(len), _) => {
                let Client { up, sent, session, .. } = client;
                let moved = !session.is_stalled() && up.fill(sent, len, capacity);
                self.cut_up(number) || moved
            }
            (Step::Forward(len), Some(server)) => {
                let moved = client.up.flush(&mut self.servers[server].to, len);
                if moved {
                    self.cut_up(number);
                }
                moved
            }
            (Step::Serve(len), Some(server)) => self.servers[server].serve(len),
            (Step::Return(len), Some(server)) => {
                if self.servers[server].is_lost() {
                    self.lose(number, server);
                    return true;
                }
                let Server { from, lifetime, .. } = &mut self.servers[server];
                let allowed = lifetime.map_or(usize::MAX, |lifetime| lifetime.replies);
                let before = from.len();
                let moved = client.down.fill(from, len.min(allowed), capacity);
                if let Some(lifetime) = lifetime {
                    lifetime.replies -= before - from.len();
                }
                let moved = self.cut_down(number) || moved;
                self.cut_up(number) || moved
            }
            (Step::Reply(len), _) => {
                let Client { down, got, .. } = client;
                let moved = down.flush(got, len);
                if moved {
                    self.cut_down(number);
                }
                moved
            }
            (_, None) => false,
        };
        self.give_back_if_at_rest(number) || moved
    }

    /// Goes on until nothing moves any more.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for number in 0..self.clients.len() {
                for step in Step::ALL {
                    while self.step(number, step) {
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Cuts what a client sent, as far as it goes; true if anything has come of it.
    fn cut_up(&mut self, number: usize) -> bool {
        let mut moved = false;
        while self.cut_up_once(number) {
            moved = true;
        }
        moved
    }

    fn cut_up_once(&mut self, number: usize) -> bool {
        let full = self.clients[number].up.input.len() == self.capacity;
        if self.clients[number].up.input.is_empty() || !self.clients[number].up.out.is_empty() {
            return false;
        }
        if self.leaves_home(number) {
            return true;
        }
        let Self { clients, servers, statements, recent, sequences, repeated, .. } = self;
        let Client { session, up, down, place, .. } = &mut clients[number];
        let Pipe { flow, input, out } = up;
        match place {
            Place::Idle => {
                let idle = flow.next_request((&input[..], full)).unwrap();
                input.drain(..idle.consumed);
                match idle.next {
                    Next::NeedMore => return idle.consumed > 0,
                    Next::Terminate => *place = Place::Gone,
                    Next::Request => self.lease(number),
                }
                true
            }
            Place::Joined(server) => {
                let state = &mut servers[*server].state;
                let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
                let cut = flow.cut_frontend(session, state, lookup, (&input[..], full), out);
                up.accept(&cut);
                if session.has_local_now() {
                    session.drain_local(&mut down.out);
                }
                let consumed = cut.consumed > 0;
                match cut.stop {
                    Some(Stop::Terminate) => self.part(number),
                    Some(Stop::Leaves) if !consumed => self.leave_standby(number),
                    _ => return consumed,
                }
                true
            }
            Place::Detached(detached) => {
                let mut answer = Vec::new();
                let cut = flow
                    .cut_detached(detached, session, statements, (&input[..], full), &mut answer)
                    .unwrap();
                input.drain(..cut.consumed);
                down.out.extend_from_slice(&answer);
                if cut.stop.is_some() {
                    *place = if cut.stop == Some(Stop::AtRest) { Place::Idle } else { Place::Gone };
                }
                cut.consumed > 0
            }
            Place::Gone => false,
        }
    }

    fn lease(&mut self, number: usize) {
        let role = self.role(number);
        if role != Some(true) && self.comes_home(number) {
            // It was looked at.
            self.clients[number].was_refused = true;
            return;
        }
        self.lease_of(number, role);
    }

    /// A lease on a standby, or on what is none, or on any.
    fn lease_of(&mut self, number: usize, role: Option<bool>) {
        self.server(self.preferred + usize::from(role.is_some()));
        let has_role = |place: usize| role.is_none_or(|standby| is_standby(place) == standby);
        // One that has said its last words is not taken.
        let is_quiet = |server: &Server| server.lifetime.is_none() || server.from.is_empty();
        let is_free = |server: &Server| !server.is_leased && !server.is_lost() && is_quiet(server);
        let preferred = (self.preferred..).find(|place| has_role(*place)).unwrap();
        let place = if is_free(&self.servers[preferred]) {
            preferred
        } else {
            let free = |(place, server): (usize, &Server)| has_role(place) && is_free(server);
            let free = self.servers.iter().enumerate().position(free);
            free.unwrap_or_else(|| (self.servers.len()..).find(|place| has_role(*place)).unwrap())
        };
        let parameters = Arc::clone(&self.clients[number].parameters);
        let server = self.server(place);
        assert_eq!(server.from, b"", "an answer was left");
        server.is_leased = true;
        if server.applied.as_ref() != Some(&parameters) {
            server.backend.settings = parameters.pairs().iter().cloned().collect();
            server.applied = Some(parameters);
        }
        self.clients[number].session.attach(&mut self.servers[place].state);
        if role == Some(true) {
            self.clients[number].session.read_on_standby();
        }
        self.clients[number].place = Place::Joined(place);
    }

    fn cut_down(&mut self, number: usize) -> bool {
        let full = self.clients[number].down.input.len() == self.capacity;
        let Self { clients, servers, statements, .. } = self;
        let Client { session, down, place, .. } = &mut clients[number];
        let Place::Joined(server) = *place else { return false };
        if down.input.is_empty() || !down.out.is_empty() {
            return false;
        }
        let Pipe { flow, input, out } = down;
        let cut = flow.cut_backend(session, &mut servers[server].state, (&input[..], full), out).unwrap();
        let last_words = match cut.stop {
            Some(Stop::ServerEnds { body }) => Some(Some(input[body..].to_vec())),
            Some(Stop::OutOfStep) => Some(None),
            _ => None,
        };
        down.accept(&cut);
        session.tell_migrations(statements);
        if let Some(Stop::Refused(refusal)) = cut.stop {
            self.refused(number, server, refusal);
            return true;
        }
        if let Some(last_words) = last_words {
            self.lost(number, server, last_words.as_deref());
            return true;
        }
        cut.consumed > 0
    }

    fn give_back_if_at_rest(&mut self, number: usize) -> bool {
        let Client { session, up, down, place, parameters, .. } = &mut self.clients[number];
        let Place::Joined(number_of_server) = *place else { return false };
        let is_flushed = up.out.is_empty() && down.out.is_empty() && down.input.is_empty();
        if session.is_at_rest() && session.pin().is_none() && is_flushed {
            let server = &mut self.servers[number_of_server];
            if session.is_altered() {
                if server.is_lost() {
                    self.lose(number, number_of_server);
                    return true;
                }
                let settings: Vec<_> = server.backend.settings.clone().into_iter().collect();
                *parameters = Arc::new(Parameters::new(&settings).unwrap());
                session.carry(parameters);
                server.applied = Some(Arc::clone(parameters));
                server.state.parameters_lost = false;
            }
            if session.is_at_home() {
                return settle_at_home(session, parameters);
            }
            server.is_leased = false;
            session.detach(&mut server.state);
            if std::mem::take(&mut server.state.parameters_lost) {
                server.applied = None;
            }
            *place = Place::Idle;
            self.cut_up(number);
            return true;
        }
        false
    }

    /// The client leaves: what it left on the server is undone.
    fn part(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Place::Joined(place) = std::mem::replace(&mut client.place, Place::Gone) else { return };
        let server = &mut self.servers[place];
        if !client.session.owes_nothing() {
            server.lifetime = Some(Lifetime::default());
            return;
        }
        if client.session.transaction() != Transaction::Idle {
            server.backend.reads(&wire::query("rollback"));
        }
        if client.session.keeps_connection() {
            server.backend.reads(&wire::query("discard all"));
            server.state.statements.clear();
            client.session.on_cleaned();
            server.applied = Some(Arc::default());
        }
        if client.session.is_altered() {
            server.applied = None;
        }
        server.backend.said();
        client.session.detach(&mut server.state);
        server.is_leased = false;
    }

    /// The server connection of this client breaks now.
    pub(super) fn lose(&mut self, number: usize, server: usize) {
        self.lost(number, server, None);
    }

    fn lost(&mut self, number: usize, server: usize, last_words: Option<&[u8]>) {
        eprintln!(
            "LOST client {number} server {server} {last_words:?} {:?} {:?}",
            self.clients[number].down.input, self.servers[server].lifetime
        );
        // It may go on reading what was sent to it.
        self.servers[server].serve(usize::MAX);
        self.servers[server].lifetime = Some(Lifetime::default());
        let Client { session, up, down, place, .. } = &mut self.clients[number];
        if down.flow.is_inside_message() {
            *place = Place::Gone;
            return;
        }
        let is_whole = !up.flow.is_inside_message();
        up.flow.drop_rest();
        up.out.clear();
        down.input.clear();
        let request = &self.servers[server].state.request;
        if is_whole && session.may_run_again() && request.len() + up.input.len() <= self.capacity {
            up.input.splice(..0, request.iter().copied());
            session.run_again();
            *place = Place::Idle;
            self.cut_up(number);
            return;
        }
        if session.left_there().is_some() {
            *place = Place::Gone;
            match last_words {
                Some(body) => write::message(&mut down.out, b'E', |out| out.extend_from_slice(body)),
                None => ClientError::new("57P01", "terminating connection because the server was lost")
                    .write(&mut down.out, Severity::Fatal),
            }
            return;
        }
        let loss = Loss { server: "node 1".into(), cause: "gone".into() };
        *place = match session.on_loss(&loss, &mut down.out) {
            Some(detached) => Place::Detached(Box::new(detached)),
            None => Place::Idle,
        };
        self.cut_up(number);
    }
}

/// How a scenario reads.
impl World {
    /// The connection that a client holds.
    pub(super) fn held(&self, client: usize) -> Option<usize> {
        match self.clients[client].place {
            Place::Joined(server) => Some(server),
            _ => None,
        }
    }

    /// True if pgherd has closed the client's connection, or is about to.
    pub(super) fn is_gone(&self, client: usize) -> bool {
        matches!(self.clients[client].place, Place::Gone)
    }
}

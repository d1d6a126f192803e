//! Reads on standbys, and their way to the primary.

use super::super::server::{Lifetime, Server};
use super::super::wire;
use super::{Client, Place, World};
use crate::prepared::Lookup;
use crate::session::{NoViews, Passage, Refusal, Session, Transaction, bound_to_standby};
use crate::statement::RecentScans;

impl World {
    /// Every second server is a standby. What it refuses to read, though it should not have to, is told by `refusals`, over and over.
    pub(in super::super) fn with_standbys(mut self, refusals: &[bool]) -> Self {
        self.refusals = Some(refusals.to_vec());
        self
    }

    /// Whether the next lease is on a standby; none where that makes no difference.
    pub(super) fn role(&mut self, number: usize) -> Option<bool> {
        self.refusals.as_ref()?;
        let Self { clients, statements, recent, sequences, repeated, .. } = self;
        let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
        let Client { session, up, was_refused, .. } = &mut clients[number];
        Some(!std::mem::take(was_refused) && session.may_read_anywhere(&up.input, lookup))
    }

    /// A standby has refused what the client has sent. Its connection is kept if the rest of the answer comes.
    pub(super) fn refused(&mut self, number: usize, server: usize, refusal: Refusal) {
        let passage = self.passage(number);
        let Self { clients, servers, statements, recent, sequences, repeated, .. } = self;
        let lookup = Lookup { statements, recent, views: &NoViews, sequences, repeated };
        let Client { session, up, down, was_refused, place, .. } = &mut clients[number];
        let server = &mut servers[server];
        let request = server.state.request.clone();
        let in_block = session.is_in_standby_block();
        if !session.may_be_sent_again() || (in_block && passage == Passage::Barred) {
            return session.tell_what_it_says();
        }
        match refusal {
            Refusal::ForGood => session.note_refused(&request, lookup),
            Refusal::TooLong => session.note_long(&request, lookup),
            Refusal::ForNow => {}
        }
        assert!(request.len() + up.input.len() <= self.capacity, "there is no room");
        session.detach(&mut server.state);
        let has_block = session.opens_block();
        let is_whole = refusal != Refusal::TooLong && up.out.is_empty() && !session.awaits_client();
        up.flow.drop_rest();
        up.out.clear();
        down.input.clear();
        up.input.splice(..0, request.iter().copied());
        session.run_again();
        *was_refused = true;
        *place = Place::Idle;
        if is_whole {
            server.clear_up(has_block, request.first() != Some(&b'Q'));
        } else {
            server.lifetime = Some(Lifetime::default());
        }
        if in_block {
            self.begin_on_primary(number);
        }
        self.cut_up(number);
    }

    /// What the client asks for next in its block is for the primary.
    pub(super) fn leave_standby(&mut self, number: usize) {
        let passage = self.passage(number);
        let Some(place) = self.held(number) else { unreachable!("it holds a standby") };
        let server = &mut self.servers[place];
        server.serve(usize::MAX);
        assert!(server.from.is_empty(), "the server is not at rest");
        server.backend.reads(&wire::query("rollback"));
        server.backend.said();
        server.is_leased = false;
        self.clients[number].session.detach(&mut server.state);
        if passage == Passage::Barred {
            let detached = self.clients[number].session.abandon_block(&bound_to_standby("node 2"));
            self.clients[number].place = Place::Detached(Box::new(detached));
        } else {
            self.begin_on_primary(number);
        }
        self.cut_up(number);
    }

    /// The model has nothing but READ COMMITTED.
    fn begin_on_primary(&mut self, number: usize) {
        let begin = self.clients[number].session.begin_anew();
        let is_failed = self.clients[number].session.transaction() == Transaction::Failed;
        if !self.comes_home(number) {
            self.lease_of(number, Some(false));
        }
        let Some(place) = self.held(number) else { unreachable!("it got the primary") };
        let server = &mut self.servers[place];
        // A Flush may be on its way yet.
        server.serve(usize::MAX);
        server.backend.reads(&wire::query(&begin));
        if is_failed {
            server.backend.reads(&wire::query("rollback to lost"));
        }
        server.backend.said();
    }

    fn passage(&mut self, number: usize) -> Passage {
        let Self { clients, statements, sequences, repeated, .. } = self;
        let recent = RecentScans::default();
        let lookup = Lookup { statements, recent: &recent, views: &NoViews, sequences, repeated };
        let Client { session, up, .. } = &mut clients[number];
        Session::passage(session, &up.input, lookup)
    }
}

impl Server {
    /// Takes what is left of an answer off it, and ends its block.
    fn clear_up(&mut self, has_block: bool, uses_statements: bool) {
        self.serve(usize::MAX);
        if has_block {
            self.backend.reads(&wire::query("rollback"));
        }
        if uses_statements {
            self.backend.forget_statements();
            self.state.statements.clear();
        }
        self.backend.said();
        self.from.clear();
        self.is_leased = false;
    }
}

pub(super) const fn is_standby(place: usize) -> bool {
    place % 2 == 1
}

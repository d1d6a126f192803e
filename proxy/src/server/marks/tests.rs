//! A herd as a model: whatever happens in it, a session never reads where its last commit is not.

mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_failover::{Epoch, Writes};
use pgherd_health::{
    Asked, HistoryEntry, Knowledge, Lsn, Node, NodeId, Position, ProbeOutcome, Report, Sample,
    TimelineHistory, TimelineId, Topology,
};
use proptest::prelude::*;

use super::keeper::Keeper;
use super::{After, Mark, Written};
use crate::config::MaxLag;

const CLUSTER: u64 = 7;
const SERVERS: usize = 3;
const SESSIONS: usize = 3;

/// A record of the write-ahead log, its number and where it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Record {
    number: u64,
    end: u64,
}

#[derive(Clone, Debug)]
struct Server {
    /// What it has written, or replayed.
    log: Vec<Record>,
    /// So much of it is there after a crash.
    kept: usize,
    timeline: u32,
    history: Vec<HistoryEntry>,
    is_primary: bool,
    /// Whom a standby follows.
    upstream: usize,
    is_up: bool,
    started_at: i64,
    /// Grows whenever all of its connections end.
    run: u64,
    /// A probe that is under way: when it was asked, and what the server has said.
    probe: Option<(Instant, Option<ProbeOutcome>)>,
    /// What the last probe has told of it, and over a connection to which run.
    told: Option<(u64, Asked)>,
    /// A question for its position alone that is under way.
    asked_at: Option<Instant>,
    sample: Option<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    server: usize,
    run: u64,
    opened_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    mark: Mark,
    /// The number of its last commit.
    commit: Option<u64>,
    /// That of another's that it was pointed to.
    told: Option<u64>,
}

struct Herd {
    now: Instant,
    servers: Vec<Server>,
    connections: Vec<Connection>,
    sessions: [Session; SESSIONS],
    /// Where the primary's log was behind a commit, and the number of that.
    token: (Lsn, Option<u64>),
    records: u64,
    knowledge: Knowledge,
    topology: Option<Topology>,
    writes: Writes,
    keeper: Keeper,
}

/// Where a record of this length ends that is written behind `end`: pages begin with headers.
fn place(end: u64, length: u64) -> u64 {
    let header = |at: u64| if at.is_multiple_of(1 << 24) { 40 } else { 24 };
    let (mut at, mut left) = (end, length);
    while left > 0 {
        if at.is_multiple_of(8192) {
            at += header(at);
        }
        let here = left.min(8192 - at % 8192);
        (at, left) = (at + here, left - here);
    }
    at
}

fn number(server: usize) -> NodeId {
    NodeId(u32::try_from(server).unwrap_or_default())
}

fn insert_position(end: u64) -> Lsn {
    Lsn(place(end, 1) - 1)
}

impl Server {
    fn end(&self) -> u64 {
        self.log.last().map_or(0x0200_0000, |record| record.end)
    }

    fn says(&self) -> ProbeOutcome {
        if !self.is_up {
            return ProbeOutcome::Refused(String::new());
        }
        let end = Lsn(self.end());
        let position = if self.is_primary {
            Position::Primary { insert: insert_position(self.end()), flush: end, senders: Vec::new() }
        } else {
            Position::Standby {
                receive: Some(end),
                replay: Some(end),
                replay_paused: false,
                apply_delay: Duration::ZERO,
                frozen: false,
                receiver: None,
            }
        };
        ProbeOutcome::Answered(Box::new(Report {
            system_identifier: CLUSTER,
            timeline: TimelineId(self.timeline),
            history: Arc::new(TimelineHistory(self.history.clone())),
            started_at: self.started_at,
            position,
            slots: Vec::new(),
            synchronous_standby_names: String::new(),
            wal_receiver_timeout: Duration::from_secs(2),
            repmgr_nodes: Arc::default(),
            repmgrd_decides: false,
            data_directory: None,
        }))
    }
}

impl Herd {
    fn new() -> Self {
        let server = |is_primary| Server {
            log: Vec::new(),
            kept: 0,
            timeline: 1,
            history: Vec::new(),
            is_primary,
            upstream: 0,
            is_up: true,
            started_at: 1,
            run: 0,
            probe: None,
            told: None,
            asked_at: None,
            sample: None,
        };
        let node = |id| Node::new(NodeId(id), format!("pg{id}"), 5432);
        Self {
            now: Instant::now(),
            servers: (0..SERVERS).map(|id| server(id == 0)).collect(),
            connections: Vec::new(),
            sessions: <[Session; SESSIONS]>::default(),
            token: <(Lsn, Option<u64>)>::default(),
            records: 0,
            knowledge: Knowledge::new((0..3).map(node).collect(), None),
            topology: None,
            writes: Writes::Held { keep: None, quiesces: false, reason: String::new() },
            keeper: Keeper::default(),
        }
    }

    fn append(&mut self, server: usize, length: u64) -> u64 {
        self.records += 1;
        let end = place(self.servers[server].end(), length.max(3).next_multiple_of(8));
        self.servers[server].log.push(Record { number: self.records, end });
        self.records
    }

    fn primary(&self) -> Option<usize> {
        match &self.writes {
            Writes::Open(epoch) => Some(epoch.primary.0 as usize),
            Writes::Held { .. } => None,
        }
    }

    fn commit(&mut self, session: usize, length: u64) {
        let Some(primary) =
            self.primary().filter(|id| self.servers[*id].is_up && self.servers[*id].is_primary)
        else {
            return;
        };
        let number = self.append(primary, length);
        self.servers[primary].kept = self.servers[primary].log.len();
        self.sessions[session].commit = Some(number);
        self.sessions[session].mark.wrote_before(self.now);
    }

    fn replay(&mut self, standby: usize, records: usize) {
        let (upstream, own) = (&self.servers[self.servers[standby].upstream], &self.servers[standby]);
        let has = own.log.len();
        let sent = upstream.kept.min(upstream.log.len());
        if own.is_primary || !own.is_up || !upstream.is_up || sent < has || upstream.log[..has] != own.log[..]
        {
            return;
        }
        let more = upstream.log[has..sent.min(has + records)].to_vec();
        let branch = (upstream.timeline, upstream.history.clone());
        let own = &mut self.servers[standby];
        own.log.extend(more);
        (own.timeline, own.history) = branch;
    }

    /// What was not kept is lost, and has to be replayed again where it was only replayed.
    fn crash(&mut self, server: usize, is_restart: bool) {
        let it = &mut self.servers[server];
        it.log.truncate(it.kept);
        it.run += 1;
        it.started_at += i64::from(is_restart);
    }

    fn promote(&mut self, standby: usize, old_goes_on: bool) {
        let promoted = &self.servers[standby];
        if promoted.is_primary || !promoted.is_up || self.primary().is_none() {
            return;
        }
        let old = self.primary().unwrap_or_default();
        self.servers[old].is_up = old_goes_on;
        self.writes = Writes::Held { keep: None, quiesces: false, reason: String::new() };
        let (timeline, switch_point) = (self.servers[standby].timeline, Lsn(self.servers[standby].end()));
        let it = &mut self.servers[standby];
        it.history.push(HistoryEntry { timeline: TimelineId(timeline), switch_point });
        (it.timeline, it.is_primary) = (timeline + 1, true);
        self.append(standby, 42);
        self.servers[standby].kept = self.servers[standby].log.len();
        // What did not get there is lost: nobody may ask for it.
        let survives = |number| self.servers[standby].log.iter().any(|record| record.number == number);
        let kept = |number: Option<u64>| number.filter(|number| survives(*number));
        let sessions = self.sessions.map(|it| Session { commit: kept(it.commit), told: kept(it.told), ..it });
        (self.token.1, self.sessions) = (kept(self.token.1), sessions);
    }

    /// The session asks its server where its log is.
    fn take_token(&mut self, session: usize) {
        if let Some(primary) = self.primary().filter(|id| self.servers[*id].is_up) {
            self.token = (insert_position(self.servers[primary].end()), self.sessions[session].commit);
        }
    }

    /// The session is pointed there; or to all that has been committed, which it is not told the position of.
    fn point(&mut self, session: usize, names_it: bool) {
        let (lsn, commit) = self.token;
        let it = &mut self.sessions[session];
        let after = if names_it { After::Position(lsn) } else { After::Now };
        it.mark.name_at(self.now, after, &self.keeper.positions);
        it.told = it.told.max(commit);
    }

    fn answer(&mut self, server: usize) {
        let Some((asked_at, Some(outcome))) = self.servers[server].probe.take() else { return };
        let node = number(server);
        let leads = matches!(&outcome, ProbeOutcome::Answered(report) if report.is_writable());
        self.knowledge.observe(node, asked_at, self.now, outcome);
        let newest = self.servers.iter().map(|it| it.timeline).max();
        let timeline = self.servers[server].timeline;
        if leads && self.primary().is_none() && Some(timeline) == newest {
            let timeline = TimelineId(timeline);
            let before = Topology::derive(&self.knowledge, self.now, self.topology.as_ref());
            self.writes = Writes::Open(Epoch { system_identifier: CLUSTER, timeline, primary: node });
            // The decision is seen before the topology that it is made of.
            self.keeper.observe(&before, &self.writes);
            self.check();
            self.knowledge.accept(node);
        }
        let topology = Topology::derive(&self.knowledge, self.now, self.topology.as_ref());
        self.keeper.observe(&topology, &self.writes);
        self.topology = Some(topology);
    }

    /// It says its position alone, over the connection of its last probe.
    fn say_position(&mut self, server: usize) {
        let it = &mut self.servers[server];
        let Some((asked_at, (run, asked))) = it.asked_at.take().zip(it.told) else { return };
        let lsn = if asked.is_primary { insert_position(it.end()) } else { Lsn(it.end()) };
        let is_same = it.is_up && run == it.run && (asked.is_primary || asked.timeline.0 == it.timeline);
        it.sample = is_same.then_some(Sample { asked, asked_at, lsn });
    }

    fn take_sample(&mut self, server: usize) {
        if let Some(sample) = self.servers[server].sample {
            self.keeper.take(number(server), &sample);
        }
    }

    fn step(&mut self, (what, who, many): (u8, usize, u64)) {
        self.now += Duration::from_millis(1);
        let id = who % SERVERS;
        match what {
            0 | 1 => self.commit(who % SESSIONS, many),
            2 if self.servers[id].is_primary => _ = self.append(id, many),
            3 | 4 => self.replay(id, who % 4),
            5 | 6 => self.servers[id].probe = Some((self.now, None)),
            7..=9 => {
                let (says, run) = (self.servers[id].says(), self.servers[id].run);
                if let Some((_, said @ None)) = &mut self.servers[id].probe {
                    let asked = match &says {
                        ProbeOutcome::Answered(report) => Some((run, Asked::of(report))),
                        _ => None,
                    };
                    *said = Some(says);
                    self.servers[id].told = asked;
                }
            }
            10..=12 => self.answer(id),
            13 => {
                let run = self.servers[id].run;
                self.connections.push(Connection { server: id, run, opened_at: self.now });
            }
            14 => self.sessions[who % SESSIONS].mark.resolve(&self.keeper.positions),
            15 if many % 4 == 0 => self.crash(id, many % 8 == 0),
            16 => self.servers[id].kept = self.servers[id].log.len(),
            17 if many % 16 == 0 => self.promote(id, many % 32 == 0),
            18 => self.servers[id].upstream = self.primary().unwrap_or(0),
            19 | 20 => [5, 7, 10].into_iter().for_each(|what| self.step((what, who, many))),
            21 => self.replay(id, usize::MAX / 2),
            22 => self.take_token(who % SESSIONS),
            23 => self.point(who % SESSIONS, many % 4 > 0),
            24 => self.sessions[who % SESSIONS] = Session::default(),
            25 => self.servers[id].asked_at = Some(self.now),
            26 => self.say_position(id),
            27 => self.take_sample(id),
            28 => [25, 26, 27].into_iter().for_each(|what| self.step((what, who, many))),
            _ => {}
        }
    }

    fn allows(&self, session: Session, connection: Connection) -> bool {
        let node = number(connection.server);
        self.keeper.positions.allows(&session.mark, node, connection.opened_at)
    }

    fn check(&self) {
        for (session, connection) in self
            .sessions
            .iter()
            .flat_map(|session| self.connections.iter().map(move |connection| (*session, *connection)))
        {
            let server = &self.servers[connection.server];
            let is_read = server.is_up && !server.is_primary && server.run == connection.run;
            let has = |number| server.log.iter().any(|record| record.number == number);
            let has_all = [session.commit, session.told].into_iter().flatten().all(has);
            assert!(
                has_all || !is_read || !self.allows(session, connection),
                "{session:?} reads on {connection:?} of {server:?}: {:?}",
                self.keeper.positions
            );
        }
    }

    fn probe_all(&mut self) {
        for id in 0..SERVERS {
            for what in [5, 7, 10] {
                self.step((what, id, 0));
            }
        }
    }

    /// Lets the standbys catch up; true if every session may read on each that follows.
    fn settles(&mut self) -> bool {
        self.probe_all();
        let Some(primary) = self.primary().filter(|id| self.servers[*id].is_up) else { return true };
        self.step((16, primary, 0));
        let head = self.servers[primary].log.clone();
        let follows = |it: &Server| it.is_up && !it.is_primary && head.starts_with(&it.log);
        let standbys: Vec<usize> = (0..SERVERS).filter(|id| follows(&self.servers[*id])).collect();
        for id in &standbys {
            self.step((18, *id, 0));
            self.replay(*id, usize::MAX / 2);
            self.step((13, *id, 0));
        }
        self.probe_all();
        self.probe_all();
        let opened = self.connections.iter().rev().take(standbys.len());
        opened
            .clone()
            .all(|connection| self.sessions.iter().all(|session| self.allows(*session, *connection)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_reads_where_its_last_commit_is_not(
        steps in prop::collection::vec((0_u8..29, 0_usize..6, 0_u64..20_000), 1..300)
    ) {
        let mut herd = Herd::new();
        herd.probe_all();
        for step in steps {
            herd.step(step);
            herd.check();
        }
        prop_assert!(herd.settles(), "{:?} {:?}", herd.keeper.positions, herd.sessions);
        herd.check();
    }
}

#[test]
fn a_commit_is_read_on_a_standby_once_a_later_position_is_known_and_replayed() {
    let mut herd = Herd::new();
    herd.step((13, 1, 0));
    herd.probe_all();
    let reads = |herd: &Herd| herd.allows(herd.sessions[0], herd.connections[0]);
    assert!(reads(&herd), "who has written nothing reads anywhere");
    herd.commit(0, 100);
    assert!(!reads(&herd));
    herd.replay(1, 1);
    assert!(!reads(&herd), "it has all, and nobody knows");
    herd.probe_all();
    assert!(reads(&herd));
    herd.sessions[0].mark.resolve(&herd.keeper.positions);
    assert!(matches!(herd.sessions[0].mark.0, Written::Below { .. }));
    assert!(reads(&herd));
    herd.commit(1, 100);
    herd.probe_all();
    assert!(reads(&herd), "another's commit is no concern of this one");
}

#[test]
fn a_commit_is_read_as_soon_as_positions_were_asked_for_between_the_probes() {
    let mut herd = Herd::new();
    herd.step((13, 1, 0));
    herd.probe_all();
    herd.commit(0, 100);
    herd.replay(1, 1);
    let reads = |herd: &Herd| herd.allows(herd.sessions[0], herd.connections[0]);
    herd.step((28, 1, 0));
    assert!(!reads(&herd), "where the primary is by now is not known");
    herd.step((28, 0, 0));
    assert!(reads(&herd));
    // What another run of it had replayed is none of this one's.
    herd.commit(0, 100);
    herd.replay(1, 1);
    herd.step((25, 1, 0));
    herd.step((26, 1, 0));
    herd.servers[1].started_at += 1;
    herd.probe_all();
    herd.step((27, 1, 0));
    herd.step((28, 0, 0));
    assert!(reads(&herd), "but its probe has told of as much");
    herd.commit(0, 100);
    herd.step((28, 0, 0));
    herd.step((27, 1, 0));
    assert!(!reads(&herd));
}

#[test]
fn who_is_pointed_to_a_position_reads_where_that_is_replayed_or_what_was_committed_by_then() {
    let mut herd = Herd::new();
    herd.step((13, 1, 0));
    herd.probe_all();
    herd.commit(0, 100);
    herd.take_token(0);
    let reads = |herd: &Herd, session: usize| herd.allows(herd.sessions[session], herd.connections[0]);
    herd.point(1, true);
    herd.point(2, false);
    assert!(!reads(&herd, 1) && !reads(&herd, 2));
    herd.replay(1, 1);
    // The standby's answer alone: where the primary is by now is not known.
    for what in [5, 7, 10] {
        herd.step((what, 1, 0));
    }
    assert!(reads(&herd, 1) && !reads(&herd, 2));
    herd.probe_all();
    assert!(reads(&herd, 1) && reads(&herd, 2));
    // It may be of a log that was lost: what there is now is all there is.
    herd.token.0 = Lsn(u64::MAX);
    herd.point(1, true);
    assert!(!reads(&herd, 1));
    herd.probe_all();
    assert!(reads(&herd, 1));
    herd.sessions[1].mark.resolve(&herd.keeper.positions);
    assert!(matches!(herd.sessions[1].mark.0, Written::Below { lsn, .. } if lsn < Lsn(u64::MAX)));
    herd.token.0 = Lsn(1);
    herd.point(1, true);
    assert!(reads(&herd, 1), "it sees that already");
}

#[test]
fn a_standby_is_within_a_bound_by_what_it_lacked_when_it_was_asked() {
    let mut herd = Herd::new();
    herd.probe_all();
    herd.commit(0, 1000);
    let within = |herd: &Herd, max_lag| herd.keeper.positions.is_within(Some(max_lag), number(1));
    let (bytes, time) = (MaxLag::Bytes(100), MaxLag::Time(Duration::from_millis(100)));
    assert!(within(&herd, bytes), "that the primary has written is not known yet");
    herd.probe_all();
    assert!(!within(&herd, bytes) && within(&herd, time));
    herd.now += Duration::from_millis(100);
    herd.probe_all();
    assert!(!within(&herd, time));
    herd.replay(1, 1);
    herd.probe_all();
    assert!(within(&herd, bytes) && within(&herd, time));
    let positions = &herd.keeper.positions;
    assert!(!positions.is_within(Some(bytes), NodeId(9)) && positions.is_within(None, NodeId(9)));
}

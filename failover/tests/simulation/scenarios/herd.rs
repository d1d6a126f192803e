//! The helper through which the stories are told.

use std::time::Duration;

use pgherd_failover::{Errand, Event, Limit, Order, StateName, Step, Terms, Writes};
use pgherd_health::{Branch, NodeId, ProbeOutcome};

use crate::model::{Circumstances, Id, Process, Time, What, answer, name, node, server_of};
use crate::plan::{Fault, Packets, Plan, Whom};
use crate::world::{Happening, Trick, World};

pub(crate) const PG01: Id = 0;
pub(crate) const PG02: Id = 1;
pub(crate) const PG03: Id = 2;
pub(crate) const PG04: Id = 3;

/// A failover at the price of acknowledged commits.
pub(crate) const LOSSY: Terms = Terms { to: None, accept_data_loss: true, accept_timeline: None };

pub(crate) const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub(crate) const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A herd at work, with a pgherd before it; everything in it happens in virtual time.
#[derive(Debug)]
pub(crate) struct Herd {
    pub(crate) world: World,
    seed: u64,
}

impl Herd {
    /// Servers that stream from the first, and a pgherd that has seen them.
    pub(crate) fn of(servers: usize) -> Self {
        Self::with(Plan::quiet(servers))
    }

    /// One that may fail over again at once.
    pub(crate) fn of_any_pace(servers: usize) -> Self {
        let mut plan = Plan::quiet(servers);
        plan.settings.min_interval = Duration::ZERO;
        Self::with(plan)
    }

    pub(crate) fn with(plan: Plan) -> Self {
        let primary = plan.primary;
        let mut herd = Self::without_pgherd(plan);
        herd.pgherd_starts();
        herd.runs(seconds(12));
        assert_eq!(herd.served(), Some(primary), "{}", herd.story());
        herd
    }

    /// The same, before pgherd starts.
    pub(crate) fn without_pgherd(plan: Plan) -> Self {
        let seed = 7;
        let mut herd = Self { world: World::new(seed, plan, true), seed };
        herd.runs(seconds(1));
        herd
    }

    /// Two servers: the second was promoted while it was cut off, the first wrote much beside it, and pgherd starts when both can be
    /// reached.
    pub(crate) fn with_much_beside() -> Self {
        let mut herd = Self::with(Plan { big_writes: 100, ..Plan::quiet(2) });
        herd.pgherd_dies().isolate(Whom::This(PG02)).runs(seconds(8)).usurp(PG02);
        for _ in 0..3 {
            herd.world.append(PG01, 700_000, What::Other);
        }
        herd.heal().pgherd_starts();
        herd
    }

    // What is done to it.

    pub(crate) fn strikes(&mut self, fault: Fault) -> &mut Self {
        self.world.strike(&fault);
        self
    }

    pub(crate) fn kill(&mut self, id: Id) -> &mut Self {
        self.strikes(Fault::Kill { whom: Whom::This(id), orphans: false, back: None })
    }

    pub(crate) fn stop(&mut self, id: Id) -> &mut Self {
        self.strikes(Fault::Stop { whom: Whom::This(id), back: None })
    }

    pub(crate) fn freeze(&mut self, id: Id) -> &mut Self {
        self.world.freeze(id);
        self
    }

    pub(crate) fn thaw(&mut self, id: Id) -> &mut Self {
        self.world.thaw(id);
        self
    }

    pub(crate) fn start(&mut self, id: Id) -> &mut Self {
        self.world.start(id);
        self
    }

    /// Starts it, and lets it recover from its crash for so long.
    pub(crate) fn recovers_for(&mut self, id: Id, time: Time) -> &mut Self {
        let server = &mut self.world.servers[id];
        server.process = Process::Starting;
        server.incarnation += 1;
        let incarnation = server.incarnation;
        self.world.after(time, Happening::Started { server: id, incarnation });
        self
    }

    pub(crate) fn lose_host(&mut self, id: Id) -> &mut Self {
        self.world.host(id, true);
        self
    }

    /// Its volume is lost, and an empty cluster stands in its place.
    pub(crate) fn empty(&mut self, id: Id) -> &mut Self {
        self.strikes(Fault::Foreign { whom: Whom::This(id) })
    }

    /// Somebody else promotes it, as repmgrd or a hand would.
    pub(crate) fn usurp(&mut self, id: Id) -> &mut Self {
        self.strikes(Fault::Usurp { whom: Whom::This(id) })
    }

    pub(crate) fn part(&mut self, one: Whom, other: Whom, packets: Packets) -> &mut Self {
        self.strikes(Fault::Part { one, other, packets, lasts: seconds(100_000) })
    }

    pub(crate) fn isolate(&mut self, whom: Whom) -> &mut Self {
        self.strikes(Fault::Isolate { whom, lasts: seconds(100_000) })
    }

    pub(crate) fn heal(&mut self) -> &mut Self {
        self.world.network.heal();
        self
    }

    pub(crate) fn pgherd_dies(&mut self) -> &mut Self {
        (0..self.world.pgherds.len()).for_each(|at| self.world.end_pgherd(at));
        self
    }

    /// One of several is killed.
    pub(crate) fn pgherd_dies_alone(&mut self, pgherd: usize) -> &mut Self {
        self.world.end_pgherd(pgherd);
        self
    }

    pub(crate) fn pgherd_starts(&mut self) -> &mut Self {
        self.world.begin_pgherd();
        self
    }

    pub(crate) fn orders(&mut self, order: Order) -> &mut Self {
        let pgherd = self.pgherd();
        self.world.judge_ordered(pgherd, &order);
        self.tells(Event::Ordered(order))
    }

    /// Another primary is ordered; what the operator is told in the end.
    pub(crate) fn switches_over(&mut self, to: Option<Id>, within: Time) -> Result<String, String> {
        self.orders(Order::Switchover { to: to.map(node) }).verdict(within)
    }

    /// An operator says that the timeline of this server is the right one.
    pub(crate) fn chooses(&mut self, id: Id, accept_data_loss: bool) -> &mut Self {
        let topology = self.world.pgherds[self.pgherd()].machine.topology();
        let timeline = topology.member(node(id)).and_then(|member| Some(member.branch()?.timeline));
        self.orders(Order::Failover(Terms {
            to: Some(node(id)),
            accept_data_loss,
            accept_timeline: timeline,
        }))
    }

    /// What whoever ordered another primary is told.
    pub(crate) fn verdict(&mut self, within: Time) -> Result<String, String> {
        self.told(Errand::Primary, within)
    }

    /// How the last order of this errand has ended.
    pub(crate) fn told(&mut self, errand: Errand, within: Time) -> Result<String, String> {
        let end = self.world.now + within;
        loop {
            let pgherd = self.pgherd();
            let answers = self.world.pgherds[pgherd].machine.take_answers();
            if let Some(answer) = answers.into_iter().rfind(|answer| answer.errand == errand) {
                return answer.told;
            }
            assert!(self.world.now < end, "nothing is told in {within:?}\n{}", self.story());
            self.runs(millis(5));
        }
    }

    /// Who is served has every commit that was acknowledged, also where none waited for a standby.
    pub(crate) fn has_all_commits(&self) {
        let id = self.served().unwrap_or_else(|| panic!("nobody is served\n{}", self.story()));
        let have = self.world.commits_of(id);
        let missing: Vec<_> = self.world.ledger.all_acknowledged().filter(|tx| !have.contains(tx)).collect();
        assert!(missing.is_empty(), "{} lacks {missing:?}\n{}", name(id), self.story());
    }

    /// The next command of this kind goes wrong so.
    pub(crate) fn next_goes(&mut self, step: Step, trick: Trick) -> &mut Self {
        self.world.plan.forced.push((step, trick));
        self
    }

    /// The machine hears of something, out of turn.
    pub(crate) fn tells(&mut self, event: Event) -> &mut Self {
        let pgherd = self.pgherd();
        self.world.step(pgherd, event);
        self
    }

    /// What a server would answer now, to be told later.
    pub(crate) fn answer_of(&self, id: Id) -> Event {
        let world = &self.world;
        let around = Circumstances {
            now: world.now,
            rows: &world.rows,
            synchronous: &world.plan.synchronous,
            receiver_timeout: world.plan.receiver_timeout,
        };
        let outcome: ProbeOutcome = answer(&world.servers[id], &around, &mut None);
        Event::Probed { node: node(id), asked_at: world.instant(), answered_at: world.instant(), outcome }
    }

    pub(crate) fn runs(&mut self, time: Time) -> &mut Self {
        self.world.run_until(self.world.now + time);
        if let Some(violation) = &self.world.judge.violation {
            panic!("{violation}\n{}", self.story());
        }
        self
    }

    /// Lets time pass until that is so, a moment at a time.
    pub(crate) fn until(&mut self, so: impl Fn(&Self) -> bool) -> &mut Self {
        let end = self.world.now + seconds(60);
        while !so(self) {
            assert!(self.world.now < end, "it does not come to that\n{}", self.story());
            self.runs(Time::from_micros(200));
        }
        self
    }

    // What is seen of it.

    pub(crate) fn served(&self) -> Option<Id> {
        self.world.living().and_then(|pgherd| self.world.served(pgherd))
    }

    /// Writes go there within that time; how long it took.
    pub(crate) fn serves(&mut self, id: Id, within: Time) -> Time {
        let began = self.world.now;
        while self.served() != Some(id) {
            let took = self.world.now - began;
            assert!(took < within, "{} is not served in {within:?}\n{}", name(id), self.story());
            self.runs(millis(5));
        }
        self.world.now - began
    }

    /// Writes go on going there for that time.
    pub(crate) fn keeps(&mut self, id: Id, time: Time) -> &mut Self {
        let end = self.world.now + time;
        while self.world.now < end {
            assert_eq!(self.served(), Some(id), "{}", self.story());
            self.runs(millis(5));
        }
        self
    }

    /// The machine holds for this reason within that time, and goes on to.
    pub(crate) fn holds(&mut self, reason: &str, within: Time) -> &mut Self {
        let end = self.world.now + within;
        loop {
            let (state, said) = self.state();
            if state == StateName::Hold && said.contains(reason) {
                break;
            }
            assert!(self.world.now < end, "in {state}: {said}\n{}", self.story());
            self.runs(millis(20));
        }
        self.runs(seconds(3));
        let (state, said) = self.state();
        let tried_again = [StateName::Confirm, StateName::Hold].contains(&state);
        assert!(tried_again && said.contains(reason), "in {state}: {said}\n{}", self.story());
        assert_eq!(self.served(), None, "{}", self.story());
        self
    }

    pub(crate) fn state(&self) -> (StateName, String) {
        let status = self.world.pgherds[self.pgherd()].machine.status();
        (status.state, status.reason)
    }

    pub(crate) fn warns(&self, of: &str) -> bool {
        self.world.pgherds[self.pgherd()].machine.status().warnings.iter().any(|it| it.contains(of))
    }

    pub(crate) fn reads(&self) -> Vec<Id> {
        let routing = &self.world.pgherds[self.pgherd()].routing;
        routing.readable.iter().map(|node: &NodeId| server_of(*node)).collect()
    }

    /// Why the writes wait, or none.
    pub(crate) fn keeps_connections(&self) -> bool {
        match &self.world.pgherds[self.pgherd()].routing.writes {
            Writes::Open(_) => true,
            Writes::Held { keep, .. } => keep.is_some(),
        }
    }

    /// All that is ours streams from the primary, is read, and stays so.
    pub(crate) fn rests(&mut self, within: Time) -> &mut Self {
        self.rests_but(&[], within)
    }

    /// The same of all servers but these.
    pub(crate) fn rests_but(&mut self, apart: &[Id], within: Time) -> &mut Self {
        let end = self.world.now + within;
        while let Some(unrest) = self.world.unrest_but(apart) {
            assert!(self.world.now < end, "{unrest}\n{}", self.story());
            self.runs(millis(100));
        }
        self
    }

    /// How often such a command was given for a server.
    pub(crate) fn commands(&self, id: Id, such: impl Fn(&Step) -> bool) -> usize {
        let runs = self.world.runs.iter();
        runs.filter(|run| run.server() == id && such(&run.command.step)).count()
    }

    pub(crate) fn promotions(&self) -> usize {
        self.world.judge.promotions.len()
    }

    pub(crate) fn story(&self) -> String {
        format!("the story of seed {}:\n{}", self.seed, self.world.story.text())
    }

    fn pgherd(&self) -> usize {
        self.world.living().unwrap_or_else(|| panic!("no pgherd is there\n{}", self.story()))
    }
}

/// Some rejoin.
pub(crate) fn rejoins(to: Id) -> Step {
    Step::Rejoin { upstream: node(to), limit: Limit { lineage: Branch::default(), bytes: 0 } }
}

pub(crate) fn is_promote(step: &Step) -> bool {
    *step == Step::Promote
}

/// Runs until a promotion is ordered there.
pub(crate) fn until_ordered(herd: &mut Herd, id: Id) {
    herd.until(|herd| herd.commands(id, is_promote) > 0);
}

impl Drop for Herd {
    /// The rows that were taken count for the coverage of the table.
    fn drop(&mut self) {
        super::note_taken(&self.world.judge.taken);
    }
}

/// Arranges something for later.
impl Herd {
    pub(crate) fn later(&mut self, delay: Time, fault: Fault) -> &mut Self {
        self.world.after(delay, Happening::Fault(fault));
        self
    }
}

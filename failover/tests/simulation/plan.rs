//! What kind of herd a story is about, and what strikes it when.

use std::time::Duration;

use pgherd_failover::{Mode, Order, Settings, Step, Terms};
use pgherd_health::TimelineId;

use crate::model::{Id, OURS, Rng, Time, name, node};
use crate::world::Trick;

/// Whom a fault strikes; told when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// This server.
    This(Id),
    /// Whoever is the primary then.
    Primary,
    /// The first standby from this one on.
    Standby(Id),
    /// pgherd.
    Pgherd,
}

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packets {
    There,
    Back,
    Both,
    /// Connections are rejected instead.
    Rejected,
}

/// What can strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill {
        whom: Whom,
        orphans: bool,
        back: Option<Time>,
    },
    Stop {
        whom: Whom,
        back: Option<Time>,
    },
    Start {
        whom: Whom,
    },
    Freeze {
        whom: Whom,
        lasts: Time,
    },
    Thaw {
        whom: Whom,
    },
    HostDown {
        whom: Whom,
        lasts: Time,
    },
    HostUp {
        whom: Whom,
    },
    Part {
        one: Whom,
        other: Whom,
        packets: Packets,
        lasts: Time,
    },
    Mend {
        one: Id,
        other: Id,
    },
    /// Cut off from everybody.
    Isolate {
        whom: Whom,
        lasts: Time,
    },
    Rejoin {
        party: Id,
    },
    Slow {
        whom: Whom,
        by: Time,
    },
    Unwilling {
        whom: Whom,
        on: bool,
        lasts: Time,
    },
    Repmgrd {
        whom: Whom,
        on: bool,
        lasts: Time,
    },
    PauseReplay {
        whom: Whom,
        on: bool,
        lasts: Time,
    },
    Lag {
        whom: Whom,
        on: bool,
        lasts: Time,
    },
    /// A client is in a transaction.
    Busy {
        whom: Whom,
        lasts: Time,
    },
    /// Somebody else promotes a standby.
    Usurp {
        whom: Whom,
    },
    /// Its volume is lost, and it comes up with an empty cluster.
    Foreign {
        whom: Whom,
    },
    /// It never comes back.
    Lose {
        whom: Whom,
    },
    /// etcd answers nobody, or only this pgherd not.
    LoseEtcd {
        alone: Option<usize>,
        lasts: Time,
    },
    EtcdIsBack,
    KillPgherd {
        back: Time,
    },
    SecondPgherd {
        lasts: Time,
    },
    EndPgherd {
        pgherd: usize,
    },
    /// Its process is stopped for so long, and goes on: SIGSTOP, a machine that is moved.
    HangPgherd {
        pgherd: usize,
        lasts: Time,
    },
    Ordered(Order),
}

/// A herd and its fate.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    /// Who is the primary at first.
    pub(crate) primary: Id,
    /// The only server that pgherd is told of; it finds the others.
    pub(crate) named: Option<Id>,
    /// How long a lease lasts in etcd, if there is one.
    pub(crate) lease: Option<Time>,
    pub(crate) settings: Settings,
    pub(crate) identifier: Option<u64>,
    /// How many of the listed standbys a commit waits for.
    pub(crate) needed: usize,
    pub(crate) listed: Vec<Id>,
    /// The same as PostgreSQL's setting.
    pub(crate) synchronous: String,
    pub(crate) receiver_timeout: Duration,
    pub(crate) sender_timeout: Duration,
    pub(crate) retry_interval: Duration,
    /// Somebody who starts servers that have died, this much later.
    pub(crate) supervisor: Option<Duration>,
    /// What a message takes, in microseconds.
    pub(crate) wire: (u64, u64),
    /// How many commands in a hundred go wrong.
    pub(crate) tricks: u64,
    /// Commands that go wrong for sure, each once.
    pub(crate) forced: Vec<(Step, Trick)>,
    /// How many starts in a hundred take long.
    pub(crate) slow_starts: u64,
    /// How long a clean stop takes, where that is not left to chance.
    pub(crate) stop_takes: Option<Time>,
    /// Milliseconds from one commit to the next.
    pub(crate) commit_every: u64,
    /// How many commits in a hundred are large.
    pub(crate) big_writes: u64,
    /// Whom standbys follow at first, where that is not the primary.
    pub(crate) upstreams: Vec<Option<Id>>,
    pub(crate) priorities: Vec<i32>,
    pub(crate) may_be_promoted: Vec<bool>,
    pub(crate) apply_delays: Vec<Time>,
    pub(crate) faults: Vec<(Time, Fault)>,
    pub(crate) calm_at: Time,
}

impl Plan {
    /// A herd in which nothing happens by itself.
    pub(crate) fn quiet(servers: usize) -> Self {
        Self {
            servers,
            primary: 0,
            named: None,
            lease: None,
            settings: Settings::default(),
            identifier: None,
            needed: 0,
            listed: Vec::new(),
            synchronous: String::new(),
            receiver_timeout: Duration::from_secs(2),
            sender_timeout: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            supervisor: None,
            wire: (300, 1_200),
            tricks: 0,
            forced: Vec::new(),
            slow_starts: 0,
            stop_takes: None,
            commit_every: 40,
            big_writes: 0,
            upstreams: vec![None; servers],
            priorities: vec![100; servers],
            may_be_promoted: vec![true; servers],
            apply_delays: vec![Time::ZERO; servers],
            faults: Vec::new(),
            calm_at: Time::from_secs(3600),
        }
    }

    /// A commit waits for this many of all standbys.
    pub(crate) fn synchronous(mut self, needed: usize) -> Self {
        self.needed = needed;
        self.listed = (0..self.servers).collect();
        let names: Vec<String> = self.listed.iter().map(|id| name(*id)).collect();
        self.synchronous = format!("ANY {needed} ({})", names.join(", "));
        self
    }

    pub(crate) fn probe_timeout(&self) -> Duration {
        (self.settings.interval * 2).min(Duration::from_secs(1))
    }

    /// What a seed makes of it.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x5EED);
        let servers = rng.pick(&[2, 3, 3, 3, 4, 5]);
        let mut plan = Self::quiet(servers);
        plan.choose_herd(&mut rng);
        plan.choose_settings(&mut rng);
        let faults = if rng.percent(10) { rng.between(8, 16) } else { rng.between(1, 7) };
        plan.calm_at = Time::from_secs(rng.between(30, 60));
        let last = u64::try_from(plan.calm_at.as_millis()).unwrap_or_default();
        for _ in 0..faults {
            let at = rng.millis(4_000, last - 2_000);
            let fault = chosen_fault(&mut rng, servers);
            plan.faults.push((at, fault));
        }
        // Misfortunes seldom come alone.
        if rng.percent(50) {
            let at = plan.faults[rng.index(plan.faults.len())].0 + rng.millis(0, 1_500);
            let fault = chosen_fault(&mut rng, servers);
            plan.faults.push((at, fault));
        }
        plan.name_one(seed);
        plan.have_etcd(seed);
        plan.hang_pgherd(seed);
        plan
    }

    /// In some stories a pgherd itself hangs for a while, mostly in the middle of something.
    fn hang_pgherd(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x05_1EE9);
        if rng.percent(20) {
            let at = self.faults[rng.index(self.faults.len())].0 + rng.millis(0, 6_000);
            let (pgherd, lasts) = (rng.index(2), rng.millis(1_000, 30_000));
            self.faults.push((at, Fault::HangPgherd { pgherd, lasts }));
        }
    }

    /// In some stories there is an etcd, and most of the time another pgherd.
    fn have_etcd(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x01EA_5E00);
        if !rng.percent(30) {
            return;
        }
        self.lease = Some(Time::from_secs(rng.pick(&[2, 5, 10])));
        if rng.percent(70) {
            self.faults
                .push((rng.millis(0, 20_000), Fault::SecondPgherd { lasts: rng.millis(5_000, 60_000) }));
        }
        if rng.percent(40) {
            let (alone, lasts) = (rng.percent(50).then(|| rng.index(2)), rng.millis(500, 30_000));
            self.faults.push((rng.millis(4_000, 30_000), Fault::LoseEtcd { alone, lasts }));
        }
    }

    /// In some stories pgherd is told of one server only: that must not be lost for good.
    fn name_one(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x0001_E44D);
        let lost = |fault: &Fault| matches!(fault, Fault::Lose { .. } | Fault::Foreign { .. });
        if rng.percent(25) && !self.faults.iter().any(|(_, fault)| lost(fault)) {
            *self = self.clone().told_of(rng.index(self.servers));
        }
    }

    /// pgherd is told of this server only.
    pub(crate) fn told_of(mut self, id: Id) -> Self {
        self.named = Some(id);
        self.settings.discover = true;
        // Servers that are found have no flag.
        self.may_be_promoted = vec![true; self.servers];
        self
    }

    fn choose_herd(&mut self, rng: &mut Rng) {
        let servers = self.servers;
        if rng.percent(55) {
            let needed = if servers > 2 && rng.percent(30) { 2 } else { 1 };
            *self = self.clone().synchronous(needed);
            if rng.percent(30) {
                self.synchronous = format!("ANY {needed} (*)");
            }
        }
        if rng.percent(20) && servers > 2 {
            let last = servers - 1;
            self.upstreams[last] = Some(rng.index(last));
        }
        if rng.percent(20) {
            self.may_be_promoted[rng.index(servers)] = false;
        }
        for id in 0..servers {
            self.priorities[id] = rng.pick(&[100, 100, 100, 50, 0]).max(if id < 2 { 50 } else { 0 });
        }
        if rng.percent(5) {
            self.apply_delays[servers - 1] = Time::from_secs(60);
        }
        self.receiver_timeout = Duration::from_secs(rng.pick(&[2, 2, 2, 2, 60]));
        self.sender_timeout = Duration::from_secs(rng.pick(&[2, 5, 60]));
        self.retry_interval = Duration::from_secs(rng.pick(&[1, 5]));
        self.supervisor = rng.percent(35).then(|| rng.millis(500, 8_000));
        self.slow_starts = rng.pick(&[0, 0, 10]);
        self.stop_takes = rng.percent(8).then(|| rng.millis(2_000, 20_000));
        self.big_writes = rng.pick(&[0, 0, 3]);
        self.commit_every = rng.between(20, 120);
        self.tricks = rng.pick(&[0, 0, 5, 15, 30]);
        self.wire = rng.pick(&[(300, 1_200), (300, 1_200), (300, 1_200), (2_000, 30_000)]);
    }

    fn choose_settings(&mut self, rng: &mut Rng) {
        if rng.percent(8) {
            self.settings.mode = Mode::Manual;
        }
        self.settings.reclone = true;
        self.settings.restart_grace = Duration::from_secs(rng.pick(&[0, 0, 0, 3]));
        if rng.percent(40) {
            self.settings.synchronous = Some(self.synchronous.clone());
        }
        if rng.percent(20) {
            self.identifier = Some(OURS);
        }
        if rng.percent(20) {
            self.settings.cold_grace = Duration::from_secs(2);
        }
        if rng.percent(10) {
            self.settings.min_interval = Duration::ZERO;
        }
        self.settings.max_data_loss = rng.pick(&[1 << 20, 1 << 20, 10_000]);
        self.settings.interval = Duration::from_millis(rng.pick(&[500, 500, 500, 100, 2_000]));
    }
}

fn chosen_fault(rng: &mut Rng, servers: usize) -> Fault {
    let any = Whom::This(rng.index(servers));
    let standby = Whom::Standby(rng.index(servers));
    let whom = rng.pick(&[Whom::Primary, Whom::Primary, standby, any]);
    let lasts = rng.pick(&[rng.clone().millis(50, 1_500), rng.clone().millis(1_500, 25_000)]);
    let back = rng.percent(60).then_some(lasts);
    let other = rng.pick(&[Whom::Pgherd, Whom::Pgherd, Whom::Primary, any, standby]);
    let packets = rng.pick(&[Packets::Both, Packets::Both, Packets::There, Packets::Back, Packets::Rejected]);
    match rng.between(1, 100) {
        1..=20 => Fault::Kill { whom, orphans: rng.percent(25), back },
        21..=28 => Fault::Stop { whom, back },
        29..=37 => Fault::Freeze { whom, lasts },
        38..=42 => Fault::HostDown { whom, lasts },
        43..=54 => Fault::Part { one: whom, other, packets, lasts },
        55..=61 => Fault::Isolate { whom: rng.pick(&[whom, whom, Whom::Pgherd]), lasts },
        62..=66 => Fault::Slow { whom, by: rng.millis(100, 1_500) },
        67..=69 => Fault::Unwilling { whom, on: true, lasts },
        70..=71 => Fault::Repmgrd { whom: standby, on: true, lasts },
        72..=73 => Fault::PauseReplay { whom: standby, on: true, lasts },
        74..=77 => Fault::Lag { whom: standby, on: true, lasts },
        78..=81 => Fault::Usurp { whom: standby },
        82..=83 => Fault::Foreign { whom },
        84 => Fault::Lose { whom },
        85..=89 => Fault::KillPgherd { back: rng.millis(0, 5_000) },
        90..=93 => Fault::SecondPgherd { lasts },
        94 => Fault::Busy { whom: Whom::Primary, lasts },
        95..=98 => {
            Fault::Ordered(Order::Switchover { to: rng.percent(50).then(|| node(rng.index(servers))) })
        }
        _ => Fault::Ordered(chosen_order(rng, servers)),
    }
}

fn chosen_order(rng: &mut Rng, servers: usize) -> Order {
    let server = node(rng.index(servers));
    match rng.between(1, 16) {
        1..=3 => Order::Pause,
        4..=6 => Order::Resume,
        7..=8 => Order::Failover(Terms { to: rng.percent(30).then_some(server), ..Terms::default() }),
        9 => Order::Failover(Terms { accept_data_loss: true, ..Terms::default() }),
        10 => {
            let accept_timeline = Some(TimelineId(u32::try_from(rng.between(1, 4)).unwrap()));
            Order::Failover(Terms { to: Some(server), accept_timeline, ..Terms::default() })
        }
        11..=12 => {
            Order::Rejoin { node: server, accept_data_loss: rng.percent(50), reclone: rng.percent(20) }
        }
        13..=14 => Order::Detach(server),
        _ => Order::Attach(server),
    }
}

//! The steps that are taken over ssh, as `executor/remote.rs` and its scripts take them. What runs on a server's host
//! goes on when nobody waits for it any more.

use pgherd_failover::{Loss, Outcome, Step};
use pgherd_health::Lsn;

use crate::model::{Id, Process, Time, Way, name, repmgr_id, server_of};
use crate::story::tell;
use crate::world::{Happening, Trick, World};

/// A promotion that was ordered longer ago than this does not come any more if its pgherd is dead.
const LATEST_OF_THE_DEAD: Time = Time::from_millis(9_500);

impl World {
    pub(super) fn begin_ssh(&mut self, run: usize) {
        let it = &self.runs[run];
        let server = it.server();
        // A question that never got there is none; of the other steps, nothing was done.
        let question = matches!(it.command.step, Step::CanLogIn { .. });
        let not_begun = |why: &str| match question {
            true => Outcome::Unknown(why.to_owned()),
            false => Outcome::Failed(why.to_owned()),
        };
        if it.trick == Trick::Fails {
            return self.answer(run, not_begun("ssh: sshd takes no command"));
        }
        match self.network.way(self.network.pgherd(), server) {
            Way::Open if !self.servers[server].host_down => {
                if it.trick != Trick::Hangs {
                    self.act_after(run, 10, 40, 0);
                }
            }
            Way::Rejected => self.answer(run, not_begun("ssh: no route to host")),
            _ => {
                let outcome = not_begun("ssh: no answer");
                self.after(Time::from_secs(4), Happening::Ends { run, outcome, late: true });
            }
        }
    }

    pub(super) fn act_over_ssh(&mut self, run: usize, phase: u8) {
        if self.servers[self.runs[run].server()].host_down {
            return;
        }
        match self.runs[run].command.step.clone() {
            Step::Fence => self.fence(run, phase),
            Step::Rehearse => self.rehearse(run),
            Step::Stop => self.stop_cleanly(run, phase),
            Step::Recall => self.recall(run),
            Step::Start => self.start_again(run, phase),
            Step::CanLogIn { target } => self.can_log_in(run, server_of(target), phase),
            Step::Promote => self.repmgr_promote(run, phase),
            Step::Follow { upstream } => self.repmgr_follow(run, server_of(upstream), phase),
            Step::Rejoin { upstream, .. } | Step::Clone { upstream } => {
                self.repmgr_rejoin(run, server_of(upstream), phase);
            }
            _ => {}
        }
    }

    fn fence(&mut self, run: usize, phase: u8) {
        let server = self.runs[run].server();
        let running = self.servers[server].process != Process::Down;
        if phase == 0 && running {
            let (from, to) = if self.servers[server].frozen { (500, 800) } else { (60, 400) };
            return self.act_after(run, from, to, 1);
        }
        if running {
            tell!(self, "{} is fenced", name(server));
            // Who is being stopped already is so for somebody else.
            let ours = self.servers[server].process != Process::Stopping;
            self.end_processes(server);
            self.servers[server].fenced = ours;
            if let Some(delay) = self.plan.supervisor {
                self.after(delay, Happening::Supervise { server });
            }
        }
        self.servers[server].orphans = false;
        self.answer(run, Outcome::Fenced { stopped: running });
    }

    fn rehearse(&mut self, run: usize) {
        let runs = self.servers[self.runs[run].server()].process != Process::Down;
        let not = || Outcome::Failed("exit status 3: no server runs".to_owned());
        self.answer(run, if runs { Outcome::Done } else { not() });
    }

    fn stop_cleanly(&mut self, run: usize, phase: u8) {
        let server = self.runs[run].server();
        let process = self.servers[server].process;
        match (phase, process) {
            (0, Process::Down) => {
                self.answer(run, Outcome::Failed("exit status 3: no server runs".to_owned()));
            }
            (0, _) => {
                self.stop(server);
                self.act_after(run, 5, 20, 1);
            }
            (_, Process::Stopping) => self.act_after(run, 10, 14, 1),
            (_, Process::Down) => {
                self.servers[server].stopped_by_pgherd = true;
                let clean = self.servers[server].recalled_at();
                let outcome = match clean {
                    Some(checkpoint) => Outcome::Stopped { checkpoint },
                    None => Outcome::Unknown("it is down, and its state is in production".to_owned()),
                };
                if let Some(delay) = self.plan.supervisor {
                    self.after(delay, Happening::Supervise { server });
                }
                self.answer(run, outcome);
            }
            _ => self.answer(run, Outcome::Unknown("it is down, and its state is in production".to_owned())),
        }
    }

    fn recall(&mut self, run: usize) {
        let it = &self.servers[self.runs[run].server()];
        let outcome = match it.ended() {
            None => Outcome::Done,
            Some(ended) => Outcome::Recalled { branch: it.wal.branch.clone(), ended },
        };
        self.answer(run, outcome);
    }

    fn start_again(&mut self, run: usize, phase: u8) {
        let server = self.runs[run].server();
        match (phase, self.servers[server].process) {
            (0, Process::Down) => {
                self.start(server);
                self.act_after(run, 100, 110, 1);
            }
            (1, Process::Starting) => self.act_after(run, 100, 110, 1),
            (1, Process::Up) => self.answer(run, Outcome::Done),
            _ => self.answer(run, Outcome::Unknown("exit status 5".to_owned())),
        }
    }

    fn can_log_in(&mut self, run: usize, target: Id, phase: u8) {
        let server = self.runs[run].server();
        let it = &self.servers[target];
        let (way, silent) = (self.network.way(server, target), it.frozen || it.host_down);
        if phase == 0 && (way == Way::Silent || silent) {
            return self.act_after(run, 4_000, 4_100, 1);
        }
        let outcome = match it.process {
            _ if phase == 1 => Outcome::Failed("exit status 4: timeout expired".to_owned()),
            _ if way == Way::Rejected => Outcome::Failed("exit status 4: no route to host".to_owned()),
            Process::Up if it.unwilling => Outcome::Unknown("exit status 3: too many clients".to_owned()),
            Process::Up => Outcome::Done,
            _ => Outcome::Failed("exit status 4: connection refused".to_owned()),
        };
        self.answer(run, outcome);
    }

    fn repmgr_promote(&mut self, run: usize, phase: u8) {
        let (pgherd, server) = (self.runs[run].pgherd, self.runs[run].server());
        let same = self.servers[server].incarnation == self.runs[run].incarnation;
        match phase {
            0 if self.pgherds[pgherd].alive && self.has_lost_lock(pgherd, server) => {
                let why = "the connection that held its promotion lock was lost";
                self.answer(run, Outcome::Failed(why.to_owned()));
            }
            0 if self.runs[run].trick == Trick::Lies => self.answer(run, Outcome::Done),
            0 => match self.runs[run].trick {
                Trick::Late(delay) => self.after(delay, Happening::Act { run, phase: 2 }),
                _ => self.act_after(run, 20, 60, 1),
            },
            1 if !same || !self.servers[server].is_up() => {
                self.answer(run, Outcome::Unknown("exit status 6".to_owned()));
            }
            1 if self.another_primary(server) => {
                self.answer(run, Outcome::Failed("exit status 8: another primary".to_owned()));
            }
            1 => {
                self.servers[server].promoting = true;
                self.act_after(run, 30, 80, 2);
            }
            2 => {
                let late = self.now > self.runs[run].begun + LATEST_OF_THE_DEAD;
                let void = late && !self.pgherds[pgherd].alive;
                if same && !void && self.promote(server, Some(run)) {
                    self.act_after(run, 10, 40, 3);
                } else {
                    self.answer(run, Outcome::Unknown("exit status 1".to_owned()));
                }
            }
            _ => {
                if same && self.servers[server].is_writable() {
                    self.record_promotion(server);
                }
                self.answer(run, Outcome::Done);
            }
        }
    }

    /// As repmgr sees it from there: a node that is registered as active says that it is not in recovery.
    fn another_primary(&self, from: Id) -> bool {
        let Some(version) = self.servers[from].wal.rows() else { return false };
        let rows = &self.rows[version];
        (0..self.servers.len()).any(|other| {
            let it = &self.servers[other];
            let active = rows.iter().any(|row| row.node_id == repmgr_id(other) && row.active);
            other != from
                && active
                && it.is_ours()
                && it.is_writable()
                && self.network.way(from, other) == Way::Open
        })
    }

    fn repmgr_follow(&mut self, run: usize, upstream: Id, phase: u8) {
        let server = self.runs[run].server();
        let open = self.network.way(server, upstream) == Way::Open;
        if phase == 0 {
            let it = &self.servers[server];
            let fits = it.is_up()
                && it.standby
                && open
                && self.servers[upstream].is_up()
                && it.wal.can_follow(&self.servers[upstream].wal);
            if !fits {
                let outcome = Outcome::Unknown("exit status 23".to_owned());
                return self.after(Time::from_secs(2), Happening::Ends { run, outcome, late: false });
            }
            let it = &mut self.servers[server];
            it.upstream = Some(upstream);
            it.cut_off = false;
            self.detach(server, true);
            self.record_standby(server, upstream);
        }
        self.see_streaming(run, upstream);
    }

    /// repmgr's exit status says nothing; the upstream is asked until it shows the standby.
    fn see_streaming(&mut self, run: usize, upstream: Id) {
        let it = &self.runs[run];
        if it.over || !self.pgherds[it.pgherd].alive {
            return;
        }
        let there = self.servers[upstream].is_up()
            && self.network.way(self.network.pgherd(), upstream) == Way::Open
            && self.servers[upstream].streams_to(it.server());
        let loss = it.loss;
        if there {
            self.answer(run, loss.map_or(Outcome::Done, Outcome::Rejoined));
        } else {
            self.act_after(run, 100, 110, 9);
        }
    }

    fn record_standby(&mut self, server: Id, upstream: Id) {
        if !self.servers[upstream].is_writable() {
            return;
        }
        self.change_rows(upstream, |rows| {
            if let Some(row) = rows.iter_mut().find(|row| row.node_id == repmgr_id(server)) {
                row.node_type = pgherd_health::RepmgrNodeType::Standby;
                row.upstream_node_id = Some(repmgr_id(upstream));
                row.active = true;
            }
        });
    }

    /// Stop, fence, recover, rewind, start.
    fn repmgr_rejoin(&mut self, run: usize, upstream: Id, phase: u8) {
        let server = self.runs[run].server();
        match phase {
            0 if self.servers[server].rejoining => {
                self.answer(run, Outcome::Unknown("exit status 4: processes are left".to_owned()));
            }
            0 => {
                self.servers[server].rejoining = true;
                if self.servers[server].process != Process::Down {
                    self.end_processes(server);
                }
                self.servers[server].orphans = false;
                self.act_after(run, 200, 1_500, 1);
            }
            1 if !self.servers[server].rejoining => {}
            1 if self.keeps_what_it_has(run) => self.servers[server].rejoining = false,
            1 => {
                let source = &self.servers[upstream];
                let fits = source.is_writable()
                    && self.network.way(server, upstream) == Way::Open
                    && source.system_identifier == self.servers[server].system_identifier;
                if !fits {
                    self.servers[server].rejoining = false;
                    return self.answer(run, Outcome::Unknown("exit status 6: no primary".to_owned()));
                }
                let clone = matches!(self.runs[run].command.step, Step::Clone { .. });
                if self.runs[run].trick == Trick::Spoilt && !clone {
                    self.servers[server].rejoining = false;
                    let why = "could not find previous WAL record".to_owned();
                    return self.answer(run, Outcome::NotRewindable(why));
                }
                if clone {
                    self.copy(server, upstream);
                } else {
                    self.rewind(server, upstream);
                }
                self.servers[server].rejoining = false;
                self.start(server);
                self.record_standby(server, upstream);
                self.see_streaming(run, upstream);
            }
            _ => self.see_streaming(run, upstream),
        }
    }

    /// It was stopped, and has more beside the lineage than it may lose.
    fn keeps_what_it_has(&mut self, run: usize) -> bool {
        let Step::Rejoin { limit, .. } = self.runs[run].command.step.clone() else { return false };
        let it = &self.servers[self.runs[run].server()];
        let loss = Loss::past_fork(&limit.lineage, &it.wal.branch, it.wal.end());
        if loss.is_none() && limit.lineage != it.wal.branch && !limit.allows_all() {
            self.answer(run, Outcome::Failed("it is on another fork".to_owned()));
            return true;
        }
        self.runs[run].loss = loss;
        let Some(loss) = loss.filter(|loss| !limit.allows(loss)) else { return false };
        self.answer(run, Outcome::Kept(loss));
        true
    }

    /// All that was there is thrown away.
    fn copy(&mut self, server: Id, upstream: Id) {
        let [target, source] = self.servers.get_disjoint_mut([server, upstream]).unwrap();
        let lost = target.wal.rewind_to(&source.wal);
        target.wal = source.wal.clone();
        target.standby = true;
        target.upstream = Some(upstream);
        target.cut_off = false;
        target.control_timeline = source.control_timeline;
        target.consistent_at = source.wal.end();
        target.replay = target.wal.end();
        tell!(self, "{} is cloned from {}", name(server), name(upstream));
        self.judge_rewound(server, upstream, &lost);
    }

    /// pg_rewind believes the source's control file: what is on the same timeline by that is left as it is.
    fn rewind(&mut self, server: Id, upstream: Id) {
        let [target, source] = self.servers.get_disjoint_mut([server, upstream]).unwrap();
        target.recover_control_file();
        target.standby = true;
        target.upstream = Some(upstream);
        target.cut_off = false;
        if source.control_timeline == target.control_timeline || target.wal.can_follow(&source.wal) {
            return;
        }
        let lost = target.wal.rewind_to(&source.wal);
        target.control_timeline = source.control_timeline;
        target.consistent_at = source.wal.end();
        target.replay = target.wal.end();
        let end: Lsn = target.wal.end();
        tell!(self, "{} is rewound to {end}, {} records are cut off", name(server), lost.len());
        self.judge_rewound(server, upstream, &lost);
    }
}

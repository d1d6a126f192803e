//! Servers start, stop, die, freeze and are promoted.

use pgherd_health::{RepmgrNodeType, TimelineId};

use crate::model::{Id, Late, Process, Server, Time, Wal, What, name, repmgr_id};
use crate::story::tell;
use crate::world::{Happening, World};

impl World {
    /// Starts a server that is down, in the role that its data directory says.
    pub(crate) fn start(&mut self, id: Id) {
        let server = &self.servers[id];
        if server.process != Process::Down || server.rejoining || server.lost || server.host_down {
            return;
        }
        let delay = if self.rng.percent(self.plan.slow_starts) {
            self.rng.millis(5_000, 40_000)
        } else {
            self.rng.millis(200, 1_500)
        };
        tell!(self, "{} starts, as a {}", name(id), role(&self.servers[id]));
        let server = &mut self.servers[id];
        server.process = Process::Starting;
        server.shut_down_at = None;
        server.stopped_by_pgherd = false;
        server.fenced = false;
        server.orphans = false;
        server.incarnation += 1;
        let incarnation = server.incarnation;
        self.after(delay, Happening::Started { server: id, incarnation });
    }

    /// It has recovered; a standby lets somebody in once it is consistent.
    pub(crate) fn started(&mut self, id: Id, incarnation: u64) {
        let server = &mut self.servers[id];
        if server.incarnation != incarnation || server.process != Process::Starting {
            return;
        }
        server.replay_paused = false;
        server.replay = server.wal.end();
        if server.standby && server.wal.end() < server.consistent_at {
            self.reconnect_soon(id);
            return;
        }
        server.process = Process::Up;
        server.recover_control_file();
        tell!(
            self,
            "{} is up, as a {}, at {}",
            name(id),
            role(&self.servers[id]),
            self.servers[id].wal.end()
        );
        if self.servers[id].standby {
            self.reconnect_soon(id);
        }
    }

    /// kill -9 of the postmaster; its children may outlive it.
    pub(crate) fn kill(&mut self, id: Id, orphans: bool) {
        if self.servers[id].process == Process::Down {
            return;
        }
        tell!(self, "{} is killed{}", name(id), if orphans { ", and leaves orphans" } else { "" });
        let writable = self.servers[id].is_writable();
        self.end_processes(id);
        self.servers[id].orphans = orphans && writable;
        if let Some(delay) = self.plan.supervisor {
            self.after(delay, Happening::Supervise { server: id });
        }
    }

    /// Its processes are gone, and whoever is connected to it learns so, if packets pass.
    pub(crate) fn end_processes(&mut self, id: Id) {
        let before = self.servers[id].clone();
        let server = &mut self.servers[id];
        server.process = Process::Down;
        server.forget_processes();
        server.fenced = before.fenced;
        for other in 0..self.servers.len() {
            let streams = self.servers[other].receiver.is_some_and(|receiver| receiver.from == id);
            if streams && self.network.passes(id, other) && !before.host_down {
                self.detach(other, true);
            }
        }
        if let Some(receiver) = before.receiver {
            self.sender_loses(receiver.from, receiver.connection, id);
        }
        self.connections_break(id);
    }

    /// A fast shutdown.
    pub(crate) fn stop(&mut self, id: Id) {
        let delay = self.rng.millis(50, 300);
        let delay = self.plan.stop_takes.filter(|_| !self.servers[id].standby).unwrap_or(delay);
        let server = &mut self.servers[id];
        // One that is frozen obeys when it is thawed.
        if server.process == Process::Down || server.process == Process::Stopping || server.host_down {
            return;
        }
        if server.process == Process::Starting {
            self.end_processes(id);
            return;
        }
        server.process = Process::Stopping;
        let incarnation = server.incarnation;
        tell!(self, "{} is stopped", name(id));
        self.connections_break(id);
        self.after(delay, Happening::Stopped { server: id, incarnation });
    }

    /// What streams from it gets all that it has before it ends.
    pub(crate) fn stopped(&mut self, id: Id, incarnation: u64) {
        let server = &self.servers[id];
        if server.incarnation != incarnation || server.process != Process::Stopping {
            return;
        }
        if server.frozen {
            self.soon_after(Happening::Stopped { server: id, incarnation });
            return;
        }
        if !server.standby {
            self.append(id, 120, What::Other);
        }
        let senders: Vec<(Id, u64)> =
            self.servers[id].senders.iter().map(|sender| (sender.to, sender.connection)).collect();
        for (standby, connection) in senders {
            self.ship(standby, connection);
        }
        self.end_processes(id);
        if self.calm && !self.servers[id].lost {
            self.after(Time::from_secs(5), Happening::Supervise { server: id });
        }
        self.servers[id].shut_down_at = Some(self.servers[id].wal.last_begins());
        tell!(self, "{} is down, at {}", name(id), self.servers[id].wal.end());
    }

    pub(crate) fn freeze(&mut self, id: Id) {
        if self.servers[id].process != Process::Down {
            self.servers[id].frozen = true;
            tell!(self, "{} is frozen (SIGSTOP)", name(id));
        }
    }

    /// What lay in its sockets is done now.
    pub(crate) fn thaw(&mut self, id: Id) {
        if !self.servers[id].frozen {
            return;
        }
        tell!(self, "{} is thawed", name(id));
        self.servers[id].frozen = false;
        for late in std::mem::take(&mut self.servers[id].buffered) {
            tell!(self, "{} does a late {late:?}", name(id));
            self.servers[id].cut_off = late == Late::Freeze;
            self.detach(id, true);
        }
    }

    /// The whole machine is gone at once, or comes back without its server running.
    pub(crate) fn host(&mut self, id: Id, down: bool) {
        if down {
            tell!(self, "the host of {} goes down", name(id));
            self.servers[id].host_down = true;
            self.end_processes(id);
            self.servers[id].orphans = false;
            self.servers[id].rejoining = false;
        } else if self.servers[id].host_down {
            tell!(self, "the host of {} is back", name(id));
            self.servers[id].host_down = false;
        }
    }

    /// The volume is lost, and an empty cluster is made in its place.
    pub(crate) fn replace_by_foreign(&mut self, id: Id) {
        self.end_processes(id);
        let server = &mut self.servers[id];
        server.system_identifier = 9_000_000_000 + id as u64;
        server.wal = Wal::new();
        server.standby = false;
        server.upstream = None;
        server.cut_off = false;
        server.control_timeline = 1;
        server.orphans = false;
        tell!(self, "{} has lost its volume, and comes up empty", name(id));
        self.start(id);
    }

    /// A standby leaves recovery; false if it cannot.
    pub(crate) fn promote(&mut self, id: Id, by: Option<usize>) -> bool {
        if !self.servers[id].is_up() || !self.servers[id].standby {
            return false;
        }
        let parent = self.servers[id].wal.branch.clone();
        self.detach(id, false);
        let server = &mut self.servers[id];
        server.wal.fork();
        server.standby = false;
        server.promoting = false;
        server.replay_paused = false;
        let (timeline, at) = (server.wal.branch.timeline, server.wal.end());
        tell!(self, "{} is promoted to timeline {} at {at}", name(id), timeline.0);
        self.judge_promotion(id, &parent, by);
        self.append(id, 60, What::Other);
        self.control_file_lags(id);
        let followers: Vec<Id> = self.servers[id].senders.iter().map(|sender| sender.to).collect();
        for follower in followers {
            self.detach(follower, true);
        }
        true
    }

    /// repmgr writes down who is the primary.
    pub(crate) fn record_promotion(&mut self, id: Id) {
        self.change_rows(id, |rows| {
            for row in rows.iter_mut() {
                if row.node_id == repmgr_id(id) {
                    row.node_type = RepmgrNodeType::Primary;
                    row.upstream_node_id = None;
                    row.active = true;
                } else if row.node_type == RepmgrNodeType::Primary {
                    row.active = false;
                }
            }
        });
    }

    /// A new version of `repmgr.nodes`, written on a primary.
    pub(crate) fn change_rows(&mut self, id: Id, change: impl FnOnce(&mut Vec<pgherd_health::RepmgrNode>)) {
        let Some(version) = self.servers[id].wal.rows() else { return };
        let mut rows = (*self.rows[version]).clone();
        change(&mut rows);
        self.rows.push(std::sync::Arc::new(rows));
        self.append(id, 200, What::Rows(self.rows.len() - 1));
    }

    /// The control file's timeline follows at the next checkpoint or restartpoint.
    pub(crate) fn control_file_lags(&mut self, id: Id) {
        let delay = self.rng.millis(500, 20_000);
        let incarnation = self.servers[id].incarnation;
        self.after(delay, Happening::ControlFile { server: id, incarnation });
    }

    pub(crate) fn control_file(&mut self, id: Id, incarnation: u64) {
        let server = &mut self.servers[id];
        if server.incarnation == incarnation && server.process == Process::Up {
            let TimelineId(timeline) = server.wal.branch.timeline;
            server.control_timeline = timeline;
        }
    }
}

pub(crate) const fn role(server: &Server) -> &'static str {
    if server.standby { "standby" } else { "primary" }
}

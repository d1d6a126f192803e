//! WAL goes from server to server, and word comes back of what was flushed.

use pgherd_health::Lsn;

use crate::model::{Id, Process, Receiver, Sender, Time, What, name};
use crate::story::tell;
use crate::world::{Happening, World};

impl World {
    /// Writes a record on a server, and sends word of it to whoever streams from there.
    pub(crate) fn append(&mut self, id: Id, size: u64, what: What) -> Lsn {
        let number = self.number();
        let lsn = self.servers[id].wal.append(number, size, what);
        self.servers[id].replay = lsn;
        self.send_wal(id);
        lsn
    }

    fn send_wal(&mut self, id: Id) {
        for at in 0..self.servers[id].senders.len() {
            let sender = &mut self.servers[id].senders[at];
            if !sender.due {
                sender.due = true;
                let (server, connection) = (sender.to, sender.connection);
                let delay = self.wire();
                self.after(delay, Happening::Ship { server, connection });
            }
        }
    }

    /// A standby will try to stream after `delay`; what it had planned before is void.
    pub(crate) fn reconnect(&mut self, id: Id, delay: Time) {
        self.servers[id].connect_token += 1;
        let token = self.servers[id].connect_token;
        self.after(delay, Happening::Connect { server: id, token });
    }

    pub(crate) fn reconnect_soon(&mut self, id: Id) {
        let delay = self.soon();
        self.reconnect(id, delay);
    }

    pub(crate) fn connect(&mut self, id: Id, token: u64) {
        let standby = &self.servers[id];
        let idle = standby.standby && standby.receiver.is_none() && standby.process != Process::Down;
        if standby.connect_token != token || !idle {
            return;
        }
        let retry = self.plan.retry_interval;
        let Some(from) = standby.upstream.filter(|_| !standby.cut_off && standby.responds()) else {
            return self.reconnect(id, retry);
        };
        let upstream = &self.servers[from];
        let open = self.network.passes(id, from) && self.network.passes(from, id);
        let fits = upstream.is_up()
            && upstream.system_identifier == standby.system_identifier
            && standby.wal.can_follow(&upstream.wal);
        if !open || !fits || from == id {
            return self.reconnect(id, retry);
        }
        let (connection, now) = (self.number(), self.now);
        let [standby, upstream] = self.servers.get_disjoint_mut([id, from]).unwrap();
        let grown = standby.wal.branch != upstream.wal.branch;
        standby.wal.adopt(&upstream.wal);
        standby.receiver = Some(Receiver { connection, from, since: now, last_message: now });
        standby.has_streamed = true;
        let flushed = standby.wal.end();
        if grown {
            self.control_file_lags(id);
        }
        let sender = Sender { connection, to: id, flushed, last_reply: now, due: true };
        self.servers[from].senders.push(sender);
        tell!(self, "{} streams from {} at {flushed}", name(id), name(from));
        self.soon_after(Happening::Ship { server: id, connection });
        let pause = self.plan.receiver_timeout / 2;
        self.after(pause, Happening::KeepAlive { server: id, connection });
    }

    /// A message with WAL arrives at a standby.
    pub(crate) fn ship(&mut self, id: Id, connection: u64) {
        let Some(receiver) = self.servers[id].receiver.filter(|it| it.connection == connection) else {
            return;
        };
        let from = receiver.from;
        let sends = self.servers[from].responds() && self.network.passes(from, id);
        if !sends || !self.servers[id].responds() || self.servers[id].lagging {
            self.after(Time::from_millis(50), Happening::Ship { server: id, connection });
            return;
        }
        let [standby, upstream] = self.servers.get_disjoint_mut([id, from]).unwrap();
        let Some(sender) = upstream.senders.iter_mut().find(|it| it.connection == connection) else { return };
        sender.due = false;
        let new = standby.wal.take_from(&upstream.wal);
        if let Some(receiver) = &mut standby.receiver {
            receiver.last_message = self.now;
        }
        let end = standby.wal.end();
        if !standby.replay_paused && standby.apply_delay.is_zero() {
            standby.replay = end;
        }
        if standby.process == Process::Starting && end >= standby.consistent_at {
            let incarnation = standby.incarnation;
            self.soon_after(Happening::Started { server: id, incarnation });
        }
        let delay = self.wire();
        self.after(delay, Happening::Acked { server: from, connection, lsn: end });
        if !new.is_empty() {
            self.send_wal(id);
        }
    }

    /// A standby's word arrives at its upstream.
    pub(crate) fn acked(&mut self, id: Id, connection: u64, lsn: Lsn) {
        let Some(at) = self.servers[id].senders.iter().position(|it| it.connection == connection) else {
            return;
        };
        let standby = self.servers[id].senders[at].to;
        if !self.servers[id].responds() || !self.network.passes(standby, id) {
            if self.servers[standby].receiver.is_some_and(|it| it.connection == connection) {
                self.after(Time::from_millis(50), Happening::Acked { server: id, connection, lsn });
            }
            return;
        }
        let sender = &mut self.servers[id].senders[at];
        sender.flushed = sender.flushed.max(lsn);
        sender.last_reply = self.now;
        self.release_commits(id);
    }

    /// A receiver that has heard nothing for half of its time-out asks; after all of it, it gives up.
    pub(crate) fn keep_alive(&mut self, id: Id, connection: u64) {
        let Some(receiver) = self.servers[id].receiver.filter(|it| it.connection == connection) else {
            return;
        };
        let timeout = self.plan.receiver_timeout;
        if self.servers[id].frozen {
            self.after(Time::from_millis(100), Happening::KeepAlive { server: id, connection });
            return;
        }
        let from = receiver.from;
        let there = self.servers[from].streams_to(id) && self.servers[from].responds();
        if there && self.network.passes(id, from) && self.network.passes(from, id) {
            let now = self.now;
            if let Some(receiver) = &mut self.servers[id].receiver {
                receiver.last_message = now;
            }
            if let Some(sender) = self.servers[from].senders.iter_mut().find(|it| it.connection == connection)
            {
                sender.last_reply = now;
            }
        } else if self.now >= receiver.last_message + timeout {
            tell!(self, "{} hears nothing from {} any more", name(id), name(from));
            self.detach(id, true);
            return;
        }
        self.after(timeout / 2, Happening::KeepAlive { server: id, connection });
    }

    /// A standby ceases to stream; it tries again unless it is told not to.
    pub(crate) fn detach(&mut self, id: Id, again: bool) {
        if let Some(receiver) = self.servers[id].receiver.take() {
            self.sender_loses(receiver.from, receiver.connection, id);
        }
        if again {
            self.reconnect_soon(id);
        } else {
            self.servers[id].connect_token += 1;
        }
    }

    /// A sender's standby is gone: it learns so at once if packets pass, else by its time-out.
    pub(crate) fn sender_loses(&mut self, id: Id, connection: u64, standby: Id) {
        let silent = self.servers[standby].host_down || !self.network.passes(standby, id);
        if silent {
            let timeout = self.plan.sender_timeout;
            self.after(timeout, Happening::SenderExpires { server: id, connection });
        } else {
            self.sender_expires(id, connection);
        }
    }

    pub(crate) fn sender_expires(&mut self, id: Id, connection: u64) {
        self.servers[id].senders.retain(|sender| sender.connection != connection);
    }
}

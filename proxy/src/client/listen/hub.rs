//! Who listens to what over one shared connection. It decides; [`shared`](super::shared) speaks.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use super::mailbox::{Mailbox, Mark};
use super::{Channel, Owner, write_command};

/// So many channels are begun or ended at once.
const AT_ONCE: usize = 1000;

/// One shared connection, as its sessions see it.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) owner: Owner,
    state: Mutex<State>,
    /// There is something to plan.
    pub(super) called: Notify,
}

#[derive(Debug, Default)]
struct State {
    subscribers: Slab<Subscriber>,
    /// The sessions by what they listen to.
    channels: HashMap<Channel, BTreeSet<usize>>,
    /// The sessions by the marks that they wait for.
    marks: HashMap<Channel, usize>,
    /// What the connection listens to.
    heard: HashSet<Channel>,
    /// Of these it may have to be changed.
    changed: VecDeque<Channel>,
    /// Marks of which nobody was told yet that they are listened for.
    asked: Vec<Channel>,
}

#[derive(Debug)]
struct Subscriber {
    channels: Vec<Channel>,
    /// It is told what comes to its channels; the mark changes that.
    is_told: bool,
    mark: Option<Channel>,
    mailbox: Arc<Mailbox>,
}

/// What the connection is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// LISTEN and UNLISTEN commands.
    pub(super) sql: Vec<u8>,
    changes: Vec<(Channel, bool)>,
    asked: Vec<Channel>,
}

impl Hub {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, state: Mutex::default(), called: Notify::new() }
    }

    /// One more session; it is told what comes behind the mark.
    pub(super) fn join(&self, channels: Vec<Channel>, mark: Channel, mailbox: Arc<Mailbox>) -> usize {
        let mut state = self.state.lock();
        let number = state.subscribers.insert(Subscriber {
            channels: channels.clone(),
            is_told: false,
            mark: None,
            mailbox,
        });
        for channel in channels {
            state.changed.push_back(channel.clone());
            state.channels.entry(channel).or_default().insert(number);
        }
        state.expect(number, mark);
        drop(state);
        self.called.notify_one();
        number
    }

    /// The first session, whose own connection this is: it is told what comes from now on.
    pub(super) fn found(&self, channels: Vec<Channel>, mailbox: Arc<Mailbox>) -> usize {
        let mut state = self.state.lock();
        state.heard.extend(channels.iter().cloned());
        let subscriber = Subscriber { channels: channels.clone(), is_told: true, mark: None, mailbox };
        let number = state.subscribers.insert(subscriber);
        for channel in channels {
            state.channels.entry(channel).or_default().insert(number);
        }
        number
    }

    /// The session is told nothing any more of what comes behind this mark. Its channels.
    pub(super) fn expect_end(&self, number: usize, mark: Channel) -> Vec<Channel> {
        let mut state = self.state.lock();
        let Some(subscriber) = state.subscribers.get(number) else { return Vec::new() };
        subscriber.mailbox.mark(Mark::Asked);
        let channels = subscriber.channels.clone();
        state.expect(number, mark);
        drop(state);
        self.called.notify_one();
        channels
    }

    /// The session of this mailbox is gone.
    pub(super) fn leave(&self, number: usize, mailbox: &Arc<Mailbox>) {
        let mut state = self.state.lock();
        if !state.subscribers.get(number).is_some_and(|it| Arc::ptr_eq(&it.mailbox, mailbox)) {
            return;
        }
        let Subscriber { channels, mark, .. } = state.subscribers.remove(number);
        for channel in channels {
            if let Some(sessions) = state.channels.get_mut(&channel) {
                sessions.remove(&number);
                if sessions.is_empty() {
                    state.channels.remove(&channel);
                    state.changed.push_back(channel);
                }
            }
        }
        if let Some(mark) = mark {
            state.marks.remove(&mark);
            state.changed.push_back(mark);
        }
        drop(state);
        self.called.notify_one();
    }

    /// What is to be done next, if there is anything.
    pub(super) fn plan(&self) -> Option<Plan> {
        let mut state = self.state.lock();
        let mut plan = Plan { sql: Vec::new(), changes: Vec::new(), asked: Vec::new() };
        while plan.changes.len() < AT_ONCE
            && let Some(channel) = state.changed.pop_front()
        {
            let is_wanted = state.channels.contains_key(&channel) || state.marks.contains_key(&channel);
            let is_planned = plan.changes.iter().any(|(planned, _)| *planned == channel);
            if is_wanted != state.heard.contains(&channel) && !is_planned {
                write_command(&mut plan.sql, if is_wanted { "LISTEN" } else { "UNLISTEN" }, &channel);
                plan.changes.push((channel, is_wanted));
            }
        }
        if state.changed.is_empty() {
            plan.asked = std::mem::take(&mut state.asked);
        }
        (!plan.changes.is_empty() || !plan.asked.is_empty()).then_some(plan)
    }

    /// The plan was carried out.
    pub(super) fn done(&self, plan: Plan) {
        let mut state = self.state.lock();
        for (channel, is_heard) in plan.changes {
            if is_heard {
                state.heard.insert(channel);
            } else {
                state.heard.remove(&channel);
            }
        }
        for mark in plan.asked {
            let subscriber = state.marks.get(&mark).and_then(|number| state.subscribers.get(*number));
            if let Some(subscriber) = subscriber {
                subscriber.mailbox.mark(Mark::Expected);
            }
        }
    }

    /// A notification has come: its whole message, and the channel that it names.
    pub(super) fn dispatch(&self, message: &[u8], channel: &[u8]) {
        let mut state = self.state.lock();
        if let Some(number) = state.marks.remove(channel) {
            state.changed.push_back(channel.into());
            if let Some(subscriber) = state.subscribers.get_mut(number) {
                subscriber.is_told = !subscriber.is_told;
                subscriber.mark = None;
                subscriber.mailbox.mark(Mark::Passed);
            }
            drop(state);
            self.called.notify_one();
            return;
        }
        let State { subscribers, channels, .. } = &*state;
        let sessions =
            channels.get(channel).into_iter().flatten().filter_map(|number| subscribers.get(*number));
        sessions.filter(|session| session.is_told).for_each(|session| session.mailbox.put(message));
    }

    pub(super) fn is_unused(&self) -> bool {
        let state = self.state.lock();
        state.subscribers.is_empty() && state.changed.is_empty()
    }

    /// The connection is lost.
    pub(super) fn end(&self, cause: &str) {
        self.state.lock().subscribers.iter().for_each(|(_, session)| session.mailbox.lose(cause));
    }
}

impl State {
    fn expect(&mut self, number: usize, mark: Channel) {
        let Some(subscriber) = self.subscribers.get_mut(number) else { return };
        subscriber.mark = Some(mark.clone());
        self.marks.insert(mark.clone(), number);
        self.changed.push_back(mark.clone());
        self.asked.push(mark);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn hub() -> Hub {
        Hub::new(Owner { database: "d".into(), user: "u".into(), encoding: "UTF8".into() })
    }

    fn channel(name: &str) -> Channel {
        name.as_bytes().into()
    }

    fn join(hub: &Hub, channels: &[&str], mark: &str) -> (usize, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::default());
        let channels = channels.iter().copied().map(channel).collect();
        (hub.join(channels, channel(mark), Arc::clone(&mailbox)), mailbox)
    }

    fn carry_out(hub: &Hub) -> String {
        let mut said = String::new();
        while let Some(plan) = hub.plan() {
            said += std::str::from_utf8(&plan.sql).unwrap();
            hub.done(plan);
        }
        said
    }

    fn taken(mailbox: &Mailbox) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = mailbox.poll_take(&mut out, &Context::from_waker(Waker::noop()));
        out
    }

    #[test]
    fn a_session_is_told_what_comes_between_its_two_marks() {
        let hub = hub();
        let (one, mailbox) = join(&hub, &["a"], "m");
        let cx = Context::from_waker(Waker::noop());
        assert!(mailbox.poll_mark(Mark::Expected, &cx).is_pending());
        assert_eq!(carry_out(&hub), "LISTEN \"a\";LISTEN \"m\";");
        assert!(mailbox.poll_mark(Mark::Expected, &cx).is_ready());
        hub.dispatch(b"before", b"a");
        hub.dispatch(b"mark", b"m");
        hub.dispatch(b"1", b"a");
        hub.dispatch(b"other", b"b");
        assert_eq!(carry_out(&hub), "UNLISTEN \"m\";");
        assert_eq!(hub.expect_end(one, channel("n")), [channel("a")]);
        assert!(mailbox.poll_mark(Mark::Expected, &cx).is_pending());
        assert_eq!(carry_out(&hub), "LISTEN \"n\";");
        hub.dispatch(b"2", b"a");
        hub.dispatch(b"mark", b"n");
        hub.dispatch(b"behind", b"a");
        assert_eq!(mailbox.poll_mark(Mark::Passed, &cx), Poll::Ready(Ok(())));
        assert_eq!(taken(&mailbox), b"12");
    }

    #[test]
    fn a_channel_is_listened_to_as_long_as_somebody_wants_it() {
        let hub = hub();
        let (one, first) = join(&hub, &["a", "b"], "m");
        let (two, second) = join(&hub, &["a"], "n");
        assert_eq!(carry_out(&hub), "LISTEN \"a\";LISTEN \"b\";LISTEN \"m\";LISTEN \"n\";");
        hub.dispatch(b"mark", b"n");
        hub.leave(one, &first);
        assert_eq!(carry_out(&hub), "UNLISTEN \"n\";UNLISTEN \"b\";UNLISTEN \"m\";");
        hub.leave(one, &first);
        hub.dispatch(b"1", b"a");
        assert_eq!((taken(&first), taken(&second)), (vec![], b"1".to_vec()));
        hub.leave(two, &second);
        assert!(!hub.is_unused(), "it listens still");
        assert_eq!(carry_out(&hub), "UNLISTEN \"a\";");
        assert!(hub.is_unused());
    }

    #[test]
    fn names_are_quoted_and_the_loss_is_told_to_all() {
        let hub = hub();
        let (_, mailbox) = join(&hub, &["a\"; DROP"], "m");
        assert_eq!(carry_out(&hub), "LISTEN \"a\"\"; DROP\";LISTEN \"m\";");
        hub.end("gone");
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(mailbox.poll_mark(Mark::Passed, &cx), Poll::Ready(Err(_))));
    }
}

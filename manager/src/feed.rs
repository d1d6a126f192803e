//! What all pages are fed with. It is put together once, however many look, and each gets the latest: who falls behind misses what was between.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::history::{EVERY, Points, first};
use crate::model::{Event, Failover, Herd, History};
use crate::story::Story;
use crate::{Manager, Source};

/// Time between two looks at what changes all the time.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// Time between two herds where nothing but times has changed.
const QUIET: Duration = Duration::from_secs(1);
/// Events that pages are told.
const EVENTS: usize = 200;

/// The latest of each kind, as it is sent.
#[derive(Debug)]
pub(crate) struct Feed {
    points: Mutex<Points>,
    story: Mutex<Story>,
    /// What was said of the herd last, and when.
    said: Mutex<Option<(Instant, String)>>,
    pub(crate) herd: watch::Sender<Arc<str>>,
    pub(crate) events: watch::Sender<Arc<str>>,
    pub(crate) failovers: watch::Sender<Arc<str>>,
    pub(crate) point: watch::Sender<Arc<str>>,
}

impl Default for Feed {
    fn default() -> Self {
        let nothing = || watch::Sender::new(Arc::from(""));
        Self {
            points: Mutex::default(),
            story: Mutex::default(),
            said: Mutex::default(),
            herd: nothing(),
            events: nothing(),
            failovers: nothing(),
            point: nothing(),
        }
    }
}

impl Feed {
    /// The last hour.
    pub(crate) fn history(&self) -> History {
        self.points.lock().all()
    }

    /// The changes of the primary, the newest first.
    pub(crate) fn failovers(&self) -> Vec<Failover> {
        self.story.lock().all(SystemTime::now())
    }
}

impl<S: Source> Manager<S> {
    /// The herd at this moment.
    pub(crate) fn herd(&self) -> Herd {
        let latest = self.feed.points.lock().latest();
        let mut herd = self.source.herd();
        for node in &mut herd.nodes {
            node.reads_per_second = latest.as_ref().and_then(|it| it.reads.get(&node.id).copied());
        }
        let traffic = latest.unwrap_or_else(|| first(&self.source.counts()));
        Herd { traffic, ..herd }
    }

    /// What has happened, and what was ordered here, the newest first.
    pub(crate) fn events(&self, herd: &Herd) -> Vec<Event> {
        let name = |id: u32| herd.node(id).map(|node| node.name.clone());
        let mut events = self.source.events();
        events.extend(self.orders.events(name));
        // RFC 3339 in UTC sorts as text.
        events.sort_by(|one, other| other.at.cmp(&one.at));
        events.truncate(EVENTS);
        events
    }

    /// Tells all of this whom it concerns, if anybody looks.
    pub(crate) fn tell_all(&self) {
        let Feed { herd, events, failovers, .. } = &self.feed;
        // Whoever looks looks at all of it.
        if herd.receiver_count() == 0 {
            return;
        }
        let now = self.herd();
        tell(events, "events", || self.events(&now));
        tell(failovers, "failovers", || self.feed.failovers());
        if self.is_news(&now) {
            tell(herd, "herd", || now);
        }
    }

    /// Clocks and round trips are always others: at rest it is enough to say them now and then.
    fn is_news(&self, herd: &Herd) -> bool {
        let mut still = Herd { at: String::new(), uptime_seconds: 0, ..herd.clone() };
        for node in &mut still.nodes {
            node.round_trip_ms = None;
        }
        let still = json!(still).to_string();
        let mut said = self.feed.said.lock();
        let is_news = said.as_ref().is_none_or(|(at, last)| at.elapsed() >= QUIET || *last != still);
        if is_news {
            *said = Some((Instant::now(), still));
        }
        is_news
    }

    fn follow(&self) {
        let decisions = self.source.decisions();
        let writes = self.source.writes();
        let mut story = self.feed.story.lock();
        story.take(&decisions);
        story.writes(writes, SystemTime::now());
    }

    fn add_point(&self) {
        let counts = self.source.counts();
        let point = self.feed.points.lock().add(counts, Instant::now());
        if let Some(point) = point {
            tell(&self.feed.point, "point", || point);
        }
    }
}

/// Puts something new where whoever looks finds it.
fn tell<T: Serialize>(to: &watch::Sender<Arc<str>>, name: &str, what: impl FnOnce() -> T) {
    if to.receiver_count() == 0 {
        return;
    }
    let frame = json!({ name: what() }).to_string();
    to.send_if_modified(|last| {
        let is_new = **last != *frame;
        if is_new {
            *last = frame.into();
        }
        is_new
    });
}

/// Keeps all of it. Never ends; cancel-safe.
pub(crate) async fn keep<S: Source>(manager: &Manager<S>) {
    let mut points = interval(EVERY);
    points.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut orders = manager.orders.watch();
    manager.follow();
    loop {
        tokio::select! {
            _ = points.tick() => manager.add_point(),
            () = manager.source.changed() => {}
            _ = orders.changed() => {}
        }
        manager.follow();
        manager.tell_all();
        sleep(PAUSE).await;
    }
}

/// As all times here are written: RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn show_time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

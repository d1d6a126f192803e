//! etcd as pgherds see it: one key that a lease holds, and the timeline that was served last.

use pgherd_failover::{Candidate, Served};
use pgherd_health::TimelineId;

use crate::model::Time;

#[derive(Debug, Default)]
pub(crate) struct Etcd {
    /// Who has the key, and until when if it is not renewed.
    holder: Option<(usize, Time)>,
    pub(crate) timeline: Option<TimelineId>,
    /// Who was told to promote last, and by whom.
    pub(crate) candidate: Option<(usize, Candidate)>,
    /// It answers nobody.
    pub(crate) down: bool,
    /// It does not answer this one.
    pub(crate) cut_off: Option<usize>,
}

impl Etcd {
    pub(crate) fn answers(&self, pgherd: usize) -> bool {
        !self.down && self.cut_off != Some(pgherd)
    }

    pub(crate) fn holder(&self, now: Time) -> Option<usize> {
        self.holder.filter(|(_, until)| now < *until).map(|(pgherd, _)| pgherd)
    }

    /// A pgherd takes the key if it can be had, and renews it if it has it; who has it then.
    pub(crate) fn turn(&mut self, pgherd: usize, now: Time, ttl: Time, served: Option<Served>) -> usize {
        let holder = self.holder(now).unwrap_or(pgherd);
        if holder == pgherd {
            self.holder = Some((pgherd, now + ttl));
            if let Some(served) = served {
                let is_due = self.timeline.is_none_or(|it| it < served.timeline) || served.chosen;
                self.candidate = self.candidate.take().filter(|_| !served.settled);
                self.timeline = if is_due { Some(served.timeline) } else { self.timeline };
            }
        }
        holder
    }
}

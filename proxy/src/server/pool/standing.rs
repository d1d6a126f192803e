//! How a pool stands, for those who wait in vain and for those who watch it.

use std::fmt::Write;
use std::time::Instant;

use pgherd_protocol::statement::Pin;

use super::Pool;

/// Pinned sessions by what pins them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pinned(Vec<(Pin, usize)>);

impl Pinned {
    pub(super) fn add(&mut self, pin: Pin) {
        match self.0.iter_mut().find(|(known, _)| *known == pin) {
            Some((_, count)) => *count += 1,
            None => self.0.push((pin, 1)),
        }
    }

    pub(super) fn remove(&mut self, pin: Pin) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == pin) {
            *count -= 1;
        }
    }

    /// What pins sessions, and how many.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pin, usize)> {
        self.0.iter().copied().filter(|(_, count)| *count > 0)
    }
}

impl Pool {
    /// The sessions that are pinned to connections of this pool.
    pub(crate) fn pinned(&self) -> Pinned {
        self.inner.lock().pinned_by.clone()
    }

    /// Why nobody gets a connection now, in sentences for the client that has waited in vain.
    pub(crate) fn why_full(&self) -> String {
        let inner = self.inner.lock();
        let (limits, pinned) = (&inner.limits, inner.pinned);
        let mut why = format!("It has {} connections", inner.regular + pinned);
        let reserve = if limits.reserve_size > 0 {
            format!(" and {} in reserve", limits.reserve_size)
        } else {
            String::new()
        };
        // Writing to a string does not fail.
        let _ = write!(why, ", and may have {}{reserve} (pool.size)", limits.size);
        if pinned > 0 {
            let reasons: Vec<_> =
                inner.pinned_by.iter().map(|(pin, count)| format!("{pin} ({count})")).collect();
            let _ = write!(
                why,
                ", besides {} for pinned sessions (pool.pinned_size); {pinned} are kept by sessions that are pinned: {}",
                limits.pinned_size,
                reasons.join(", ")
            );
        }
        why.push('.');
        for bound in inner.quotas.reached(limits.shared) {
            let _ = write!(why, " All pools {bound} are full.");
        }
        if let Some(ceiling) = inner.ceiling.as_ref().filter(|ceiling| Instant::now() < ceiling.until) {
            let _ = write!(why, " The server took no more than {}.", ceiling.connections);
        }
        why
    }
}

//! What is known of roles, bounded and with ages. Written by the reader only; time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::{LookupError, Role, Timing};

/// What the cache has of a user.
#[derive(Debug)]
pub(super) enum Found {
    /// Use it.
    Fresh(Arc<Role>),
    /// Use it, and have it read again if `reread` (said to one caller only).
    Aging { role: Arc<Role>, reread: bool },
    /// Read it again, and use it if no server answers.
    Expired(Arc<Role>),
    /// The same, and the answer must have been asked for at `since` or later.
    Suspect { role: Arc<Role>, since: Instant },
    /// There was no such role a moment ago.
    Absent,
    /// Never seen, or long ago.
    Nothing,
}

pub(super) struct Cache {
    timing: Timing,
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    known: HashMap<Box<str>, Known>,
    /// Apart from the known, so that invented names cannot push out real ones. The value is when it was asked.
    absent: HashMap<Box<str>, Instant>,
}

struct Known {
    role: Arc<Role>,
    rereading: AtomicBool,
    /// When a login failed, until it is read again.
    suspect_since: Option<Instant>,
    refreshes: Allowance,
}

impl Cache {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, entries: RwLock::default() }
    }

    pub(super) fn find(&self, user: &str, now: Instant) -> Found {
        let entries = self.entries.read();
        if let Some(known) = entries.known.get(user) {
            let role = Arc::clone(&known.role);
            if let Some(since) = known.suspect_since {
                return Found::Suspect { role, since };
            }
            return match role.age(now) {
                age if age < self.timing.fresh => Found::Fresh(role),
                age if age < self.timing.valid => {
                    Found::Aging { role, reread: !known.rereading.swap(true, Ordering::Relaxed) }
                }
                _ => Found::Expired(role),
            };
        }
        match entries.absent.get(user) {
            Some(&asked_at) if now.saturating_duration_since(asked_at) < self.timing.absent => Found::Absent,
            _ => Found::Nothing,
        }
    }

    /// The answer for this user, if a server was asked for it at `since` or later.
    pub(super) fn answered_since(
        &self,
        user: &str,
        since: Instant,
    ) -> Option<Result<Arc<Role>, LookupError>> {
        let entries = self.entries.read();
        if let Some(known) = entries.known.get(user) {
            return (known.role.fetched_at >= since).then(|| Ok(Arc::clone(&known.role)));
        }
        let asked_at = entries.absent.get(user)?;
        (*asked_at >= since).then_some(Err(LookupError::NoSuchRole))
    }

    /// A login of this user failed at this time: what is known must be read again before it is used, if that is
    /// allowed now.
    pub(super) fn suspect(&self, user: &str, now: Instant) -> bool {
        let mut entries = self.entries.write();
        let known = entries.known.get_mut(user);
        known.is_some_and(|known| {
            let allowed = known.refreshes.take(now, &self.timing);
            known.suspect_since = if allowed { Some(now) } else { known.suspect_since };
            allowed
        })
    }

    pub(super) fn insert(&self, user: &str, role: Arc<Role>) {
        let mut entries = self.entries.write();
        entries.absent.remove(user);
        if let Some(known) = entries.known.get_mut(user) {
            known.suspect_since = known.suspect_since.filter(|since| *since > role.fetched_at);
            known.role = role;
            known.rereading = AtomicBool::new(false);
            return;
        }
        if entries.known.len() >= self.timing.max_known {
            evict_oldest(&mut entries.known, |known| known.role.fetched_at);
        }
        let refreshes = Allowance { left: self.timing.refresh_burst, counted_at: role.fetched_at };
        let known = Known { role, rereading: AtomicBool::new(false), suspect_since: None, refreshes };
        entries.known.insert(user.into(), known);
    }

    /// A server said that there is no such role.
    pub(super) fn insert_absent(&self, user: &str, asked_at: Instant) {
        let mut entries = self.entries.write();
        entries.known.remove(user);
        if entries.absent.len() >= self.timing.max_absent && !entries.absent.contains_key(user) {
            evict_oldest(&mut entries.absent, |asked_at| *asked_at);
        }
        entries.absent.insert(user.into(), asked_at);
    }

    /// A re-read in the background came to nothing: let another one try.
    pub(super) fn reread_failed(&self, user: &str) {
        if let Some(known) = self.entries.read().known.get(user) {
            known.rereading.store(false, Ordering::Relaxed);
        }
    }

    /// Age of what is known of a user.
    pub(super) fn age(&self, user: &str, now: Instant) -> Option<Duration> {
        self.entries.read().known.get(user).map(|known| known.role.age(now))
    }
}

/// Scans all: only a full cache pays for it, and next to a query it is little.
fn evict_oldest<V>(entries: &mut HashMap<Box<str>, V>, time: impl Fn(&V) -> Instant) {
    let oldest = entries.iter().min_by_key(|(_, value)| time(value)).map(|(user, _)| user.clone());
    if let Some(user) = oldest {
        entries.remove(&user);
    }
}

/// A token bucket.
struct Allowance {
    left: u32,
    counted_at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant, timing: &Timing) -> bool {
        let elapsed = now.saturating_duration_since(self.counted_at);
        let earned = elapsed.as_nanos() / timing.refresh_interval.as_nanos().max(1);
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(timing.refresh_burst);
            self.counted_at = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(fetched_at: Instant) -> Arc<Role> {
        Arc::new(Role { verifier: None, can_login: true, valid_until: None, fetched_at })
    }

    fn cache() -> Cache {
        Cache::new(Timing { max_known: 3, max_absent: 2, ..Timing::default() })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_role_is_used_then_read_again_by_one_then_by_all() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(start));
        assert!(matches!(cache.find("anna", after(start, 29)), Found::Fresh(_)));
        assert!(matches!(cache.find("anna", after(start, 31)), Found::Aging { reread: true, .. }));
        assert!(matches!(cache.find("anna", after(start, 32)), Found::Aging { reread: false, .. }));
        cache.reread_failed("anna");
        assert!(matches!(cache.find("anna", after(start, 33)), Found::Aging { reread: true, .. }));
        assert!(matches!(cache.find("anna", after(start, 61)), Found::Expired(_)));
        cache.insert("anna", role(after(start, 61)));
        assert!(matches!(cache.find("anna", after(start, 62)), Found::Fresh(_)));
    }

    #[test]
    fn after_a_failed_login_only_a_later_answer_is_used() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(start));
        assert!(cache.suspect("anna", after(start, 2)) && !cache.suspect("nobody", start));
        cache.insert("anna", role(after(start, 1)));
        assert!(matches!(cache.find("anna", after(start, 2)), Found::Suspect { .. }));
        cache.insert("anna", role(after(start, 2)));
        assert!(matches!(cache.find("anna", after(start, 2)), Found::Fresh(_)));
        let allowed = (0..100).filter(|_| cache.suspect("anna", after(start, 2))).count();
        assert!(allowed <= 5, "{allowed}");
    }

    #[test]
    fn a_role_that_was_dropped_is_forgotten() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(start));
        cache.insert_absent("anna", after(start, 1));
        assert!(matches!(cache.find("anna", after(start, 2)), Found::Absent));
        assert!(matches!(cache.find("anna", after(start, 5)), Found::Nothing));
    }

    #[test]
    fn a_role_that_was_created_is_found() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert_absent("anna", start);
        cache.insert("anna", role(after(start, 1)));
        assert!(matches!(cache.find("anna", after(start, 1)), Found::Fresh(_)));
    }

    #[test]
    fn invented_names_do_not_push_out_real_ones() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(start));
        for second in 0..100 {
            cache.insert_absent(&format!("nobody{second}"), after(start, second));
        }
        assert!(matches!(cache.find("anna", after(start, 1)), Found::Fresh(_)));
        assert_eq!(cache.entries.read().absent.len(), 2);
        assert!(matches!(cache.find("nobody99", after(start, 100)), Found::Absent));
    }

    #[test]
    fn a_full_cache_forgets_the_role_read_longest_ago() {
        let (cache, start) = (cache(), Instant::now());
        for (second, user) in ["a", "b", "c", "d"].into_iter().enumerate() {
            cache.insert(user, role(after(start, second as u64)));
        }
        assert!(matches!(cache.find("a", after(start, 4)), Found::Nothing));
        assert!(matches!(cache.find("b", after(start, 4)), Found::Fresh(_)));
    }

    #[test]
    fn guessing_passwords_does_not_flood_the_servers() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(start));
        let burst = (0..100).filter(|_| cache.suspect("anna", start)).count();
        assert_eq!(burst, 5);
        let slow = (0..100).filter(|n| {
            cache.insert("anna", role(start + Duration::from_millis(n * 100)));
            cache.suspect("anna", start + Duration::from_millis(n * 100))
        });
        assert!((9..=10).contains(&slow.count()), "ten seconds give ten more at the most");
        assert!(!cache.suspect("nobody", start));
    }

    #[test]
    fn an_answer_counts_only_for_who_asked_before_it() {
        let (cache, start) = (cache(), Instant::now());
        cache.insert("anna", role(after(start, 5)));
        cache.insert_absent("bert", after(start, 5));
        assert!(cache.answered_since("anna", after(start, 5)).is_some());
        assert!(cache.answered_since("anna", after(start, 6)).is_none());
        assert_eq!(cache.answered_since("bert", start).and_then(Result::err), Some(LookupError::NoSuchRole));
        assert!(cache.answered_since("bert", after(start, 6)).is_none());
    }
}

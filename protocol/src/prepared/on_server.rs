//! What is prepared on one server connection.

use rustc_hash::FxHashMap;

use super::Plans;

/// How a statement was used.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// When it was last.
    last: u64,
    /// How often it was bound since it was prepared, in the place of unnamed statements.
    runs: u32,
}

/// The statements that are prepared on one server connection. Their numbers are pgherd's own: nobody can choose them so that they are hard to
/// find.
#[derive(Debug)]
pub struct ServerStatements {
    there: FxHashMap<u64, Use>,
    /// Still there, but to be closed before anything is prepared under that number again; and the use that it was put there for.
    stale: Vec<(u64, u64)>,
    uses: u64,
    limit: usize,
    /// How what stands for unnamed statements is planned, if anything does.
    plans: Option<Plans>,
}

impl ServerStatements {
    /// None yet; at most `limit` at a time, though never fewer than one batch needs.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { there: FxHashMap::default(), stale: Vec::new(), uses: 0, limit, plans: None }
    }

    /// With statements that stand for unnamed ones, planned like this, if any are kept.
    #[must_use]
    pub fn with_stand_ins(self, plans: Option<Plans>) -> Self {
        Self { plans: plans.filter(|_| self.limit > 0), ..self }
    }

    /// How what stands for unnamed statements is planned, if anything does.
    pub(crate) const fn plans(&self) -> Option<Plans> {
        self.plans
    }

    /// True if it is prepared there; counts as a use.
    pub fn touch(&mut self, id: u64) -> bool {
        self.uses += 1;
        let uses = self.uses;
        self.there.get_mut(&id).map(|it| it.last = uses).is_some()
    }

    /// Records that it is being prepared there.
    pub fn insert(&mut self, id: u64) {
        self.uses += 1;
        self.there.insert(id, Use { last: self.uses, runs: 0 });
    }

    /// It stands for an unnamed statement, and is bound once more.
    pub(crate) fn count_run(&mut self, id: u64) {
        if let Some(it) = self.there.get_mut(&id) {
            it.runs = it.runs.saturating_add(1);
        }
    }

    /// How often it was bound since it was prepared, in the place of unnamed statements.
    pub(crate) fn runs(&self, id: u64) -> u32 {
        self.there.get(&id).map_or(0, |it| it.runs)
    }

    /// Records that it is not there after all.
    pub fn remove(&mut self, id: u64) {
        self.there.remove(&id);
    }

    /// Records that it is there but of no use any more.
    pub fn make_stale(&mut self, id: u64) {
        self.make_stale_after(id, 0);
    }

    /// The same of one that must still be there for what is sent now.
    pub fn make_stale_behind(&mut self, id: u64) {
        self.uses += 1;
        self.make_stale_after(id, self.uses);
    }

    fn make_stale_after(&mut self, id: u64, last: u64) {
        self.there.remove(&id);
        match self.stale.iter_mut().find(|(stale, _)| *stale == id) {
            Some((_, known)) => *known = last.max(*known),
            None => self.stale.push((id, last)),
        }
    }

    /// Records that it is of no use any more, if it is known to be there.
    pub fn distrust(&mut self, id: u64) {
        if self.there.contains_key(&id) {
            self.make_stale(id);
        }
    }

    /// Records of all but those on their way that they are of no use any more, if they are there.
    pub fn make_all_stale(&mut self, is_on_its_way: impl Fn(u64) -> bool) {
        let suspect: Vec<u64> = self.there.keys().copied().filter(|&id| !is_on_its_way(id)).collect();
        suspect.into_iter().for_each(|id| self.make_stale(id));
    }

    /// True if it has to be closed before it is prepared; it is then taken for closed.
    pub fn take_stale(&mut self, id: u64) -> bool {
        let place = self.stale.iter().position(|(stale, _)| *stale == id);
        place.map(|place| self.stale.swap_remove(place)).is_some()
    }

    /// Records that the server has dropped all of them.
    pub fn clear(&mut self) {
        self.there.clear();
        self.stale.clear();
    }

    /// Takes out one that is stale, or the one used longest ago when there are more than the limit and nothing since
    /// `lease_start` needs it.
    pub fn evict(&mut self, lease_start: u64) -> Option<u64> {
        if let Some(place) = self.stale.iter().rposition(|(_, last)| *last <= lease_start) {
            return Some(self.stale.swap_remove(place).0);
        }
        if self.there.len() <= self.limit {
            return None;
        }
        let (&id, &Use { last, .. }) = self.there.iter().min_by_key(|(_, it)| it.last)?;
        (last <= lease_start).then(|| {
            self.there.remove(&id);
            id
        })
    }

    /// All that may be there.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.there.keys().copied().chain(self.stale.iter().map(|(id, _)| *id))
    }

    /// How many are prepared there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.there.len()
    }

    /// True if none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// The present moment in uses, for [`ServerStatements::evict`].
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_one_goes_at_once_unless_it_is_needed_in_this_lease() {
        let mut server = ServerStatements::new(10);
        let start = server.now();
        server.insert(1);
        server.insert(2);
        server.make_stale(1);
        server.make_stale_behind(2);
        assert_eq!(server.evict(start), Some(1));
        assert_eq!(server.evict(start), None);
        assert_eq!(server.evict(server.now()), Some(2));
        server.insert(2);
        server.make_stale_behind(2);
        assert!(server.take_stale(2) && !server.take_stale(2), "it is closed before it is prepared again");
    }

    #[test]
    fn the_least_recently_used_goes_first_but_never_one_of_this_batch() {
        let mut server = ServerStatements::new(1);
        server.insert(1);
        server.insert(2);
        let start = server.now();
        assert!(server.touch(1));
        assert_eq!(server.evict(start), Some(2));
        server.insert(3);
        assert_eq!(server.evict(start), None);
    }
}

//! What many sessions have in common is kept once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// One copy of each value that somebody has.
#[derive(Debug)]
pub(crate) struct OneCopy<T: ?Sized>(Mutex<HashSet<Arc<T>>>);

impl<T: ?Sized> Default for OneCopy<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Eq + Hash + ?Sized> OneCopy<T> {
    /// The one copy of this.
    pub(crate) fn share<V>(&self, value: V) -> Arc<T>
    where
        V: Borrow<T> + Into<Arc<T>>,
    {
        let mut known = self.0.lock();
        if let Some(shared) = known.get(value.borrow()) {
            return Arc::clone(shared);
        }
        if known.len() == known.capacity() {
            known.retain(|value| Arc::strong_count(value) > 1);
        }
        let shared = value.into();
        known.insert(Arc::clone(&shared));
        shared
    }
}

/// As [`OneCopy`], of what cannot be hashed and of which there are few.
#[derive(Debug)]
pub(crate) struct Few<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: PartialEq> Few<T> {
    /// The one copy of this.
    pub(crate) fn share(&self, value: T) -> Arc<T> {
        let mut known = self.0.lock();
        if let Some(shared) = known.iter().find(|known| ***known == value) {
            return Arc::clone(shared);
        }
        known.retain(|known| Arc::strong_count(known) > 1);
        let shared = Arc::new(value);
        known.push(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_share_and_what_nobody_has_goes() {
        let names = OneCopy::<str>::default();
        let one = names.share("app");
        assert!(Arc::ptr_eq(&one, &names.share("app")) && !Arc::ptr_eq(&one, &names.share("other")));
        (0..1000).for_each(|number| drop(names.share(number.to_string())));
        assert!(names.0.lock().len() < 100 && Arc::ptr_eq(&one, &names.share("app")));
    }

    #[test]
    fn so_do_those_that_cannot_be_hashed() {
        let ratios = Few::default();
        let one = ratios.share(0.5);
        assert!(Arc::ptr_eq(&one, &ratios.share(0.5)) && !Arc::ptr_eq(&one, &ratios.share(0.25)));
        assert_eq!(ratios.0.lock().len(), 2);
        ratios.share(0.75);
        assert_eq!(ratios.0.lock().len(), 2);
    }
}

//! Custom parameters, such as `app.tenant`: which there may be on a server connection, and which a session has set itself.
//!
//! PostgreSQL makes such a parameter when it is set for the first time, if only for a transaction, and does not forget it before the
//! connection ends: taken back it is empty, where it was NULL before. So a connection serves only sessions that have set themselves
//! what may be there.

/// So many names are told apart.
pub const MOST: usize = 128;
/// A longer name is not remembered.
pub(crate) const LONGEST_NAME: usize = 63;

/// Those that pgherd itself reads begin so.
const OWN_PREFIX: &str = "pgherd.";

/// A set of custom parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Customs {
    /// In lower case, in order.
    names: Vec<Box<str>>,
    /// There may be others, of which the names are not known.
    any: bool,
}

impl Customs {
    /// Takes one in, whose name is in lower case. False if its name is not kept: then nobody can ask for its value.
    pub fn add(&mut self, name: &str) -> bool {
        let Err(place) = self.names.binary_search_by(|known| (**known).cmp(name)) else { return true };
        // Others look different to a server whose client has another encoding.
        let is_kept = name.is_ascii() && name.len() <= LONGEST_NAME && self.names.len() < MOST;
        if is_kept {
            self.names.insert(place, name.into());
        } else {
            self.add_any();
        }
        is_kept
    }

    /// Takes one in whose name is not known.
    pub fn add_any(&mut self) {
        self.any = true;
    }

    /// Takes one out, whose name is in lower case.
    pub fn remove(&mut self, name: &str) {
        self.names.retain(|known| **known != *name);
    }

    /// Takes all others in.
    pub fn add_all(&mut self, others: &Self) {
        if self == others {
            return;
        }
        for name in &others.names {
            self.add(name);
        }
        self.any |= others.any;
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.any
    }

    /// True if this name, in lower case, is known.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    /// Those of which the names are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// True if all of them are among `others`.
    #[must_use]
    pub fn are_all_in(&self, others: &Self) -> bool {
        self.is_empty() || others.any || (!self.any && self.names.iter().all(|name| others.has(name)))
    }

    /// True if a session that has set `others` may be served where these may be: they are among its own, or pgherd's, which mean nothing to
    /// anybody else.
    #[must_use]
    pub fn may_be_met_by(&self, others: &Self) -> bool {
        self.is_empty()
            || others.any
            || (!self.any && self.names.iter().all(|name| name.starts_with(OWN_PREFIX) || others.has(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customs(names: &[&str]) -> Customs {
        let mut customs = Customs::default();
        for name in names {
            customs.add(name);
        }
        customs
    }

    #[test]
    fn a_connection_serves_those_who_have_set_what_is_there() {
        let (none, one, both) = (customs(&[]), customs(&["app.a"]), customs(&["app.b", "app.a", "app.b"]));
        assert!(none.are_all_in(&none) && none.are_all_in(&one) && one.are_all_in(&both));
        assert!(!one.are_all_in(&none) && !both.are_all_in(&one));
        let mut any = one.clone();
        any.add_any();
        assert!(both.are_all_in(&any) && any.are_all_in(&any) && !any.are_all_in(&both));
        let mut sum = one;
        sum.add_all(&both);
        assert_eq!(sum, both);
    }

    #[test]
    fn what_is_meant_for_pgherd_is_in_nobodys_way() {
        let (own, both) = (customs(&["pgherd.reads"]), customs(&["app.a", "pgherd.reads"]));
        assert!(own.may_be_met_by(&customs(&[])) && !own.are_all_in(&customs(&[])));
        assert!(both.may_be_met_by(&customs(&["app.a"])) && !both.may_be_met_by(&own));
    }

    #[test]
    fn a_name_is_known_although_there_may_be_others() {
        let mut known = customs(&["app.a"]);
        known.add_any();
        assert!(known.add("app.b") && known.names().eq(["app.a", "app.b"]));
        assert!(!known.add("app.\u{e9}") && !known.are_all_in(&customs(&["app.a", "app.b"])));
    }

    #[test]
    fn names_that_cannot_be_kept_may_be_any() {
        let many: Vec<_> = (0..=MOST).map(|i| format!("app.n{i}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(LONGEST_NAME + 1);
        for names in [&many[..], &["app.\u{e9}"], &[&long]] {
            assert!(many.len() > MOST && customs(&["app.a"]).are_all_in(&customs(names)));
        }
    }
}

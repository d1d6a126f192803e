//! Failed logins by address and user: so that passwords cannot be guessed as fast as they can be asked for, and one client with an
//! old password keeps no other user out who comes from the same address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::peer::network;

/// Addresses that are remembered. Past it those whose window began first are forgotten: who has more addresses than
/// this is not kept out by it.
const REMEMBERED: usize = 10_000;

/// An address may fail so many times as often as one user from there.
const USERS: usize = 10;

/// How many logins of one user from one address may fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// So many; 0 for no bound.
    pub(crate) most: usize,
    /// Within this time.
    pub(crate) window: Duration,
}

/// The failures of this process's clients.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<Whose, Window>>);

/// An address, and a user from there or all.
type Whose = (IpAddr, Option<Box<str>>);

#[derive(Debug)]
struct Window {
    begun_at: Instant,
    failures: usize,
}

impl Failures {
    /// True if this user is not let in from this address for now, with whatever password.
    pub(crate) fn shut_out(&self, (address, user): (IpAddr, &str), bound: Bound, now: Instant) -> bool {
        let windows = self.0.lock();
        let mut of_both = bounds(address, user, bound);
        bound.most > 0
            && of_both.any(|(whose, most)| {
                let window = windows.get(&whose).filter(|window| window.is_open(bound, now));
                window.is_some_and(|window| window.failures >= most)
            })
    }

    /// Counts a failure. True if the user, or everybody, is shut out from there by it.
    pub(crate) fn count(&self, (address, user): (IpAddr, &str), bound: Bound, now: Instant) -> bool {
        if bound.most == 0 {
            return false;
        }
        let mut windows = self.0.lock();
        let mut is_reached = false;
        for (whose, most) in bounds(address, user, bound) {
            if windows.len() >= REMEMBERED && !windows.contains_key(&whose) {
                make_room(&mut windows, bound, now);
            }
            let window = windows.entry(whose).or_insert(Window { begun_at: now, failures: 0 });
            if !window.is_open(bound, now) {
                *window = Window { begun_at: now, failures: 0 };
            }
            window.failures += 1;
            is_reached |= window.failures == most;
        }
        is_reached
    }
}

/// What a failure counts for, and how many of each there may be.
fn bounds(address: IpAddr, user: &str, bound: Bound) -> impl Iterator<Item = (Whose, usize)> {
    let address = network(address);
    let all = bound.most.saturating_mul(USERS);
    [((address, Some(user.into())), bound.most), ((address, None), all)].into_iter()
}

impl Window {
    fn is_open(&self, bound: Bound, now: Instant) -> bool {
        now.saturating_duration_since(self.begun_at) < bound.window
    }
}

/// Forgets what is over; where nothing is, the tenth that began first, so that a flood of addresses does not look at all of them for
/// each.
fn make_room(windows: &mut HashMap<Whose, Window>, bound: Bound, now: Instant) {
    windows.retain(|_, window| window.is_open(bound, now));
    if windows.len() < REMEMBERED {
        return;
    }
    let mut begun: Vec<Instant> = windows.values().map(|window| window.begun_at).collect();
    let (_, &mut oldest, _) = begun.select_nth_unstable(REMEMBERED / 10);
    windows.retain(|_, window| window.begun_at > oldest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { most: 3, window: Duration::from_secs(60) };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_user_is_shut_out_from_an_address_until_its_window_is_over() {
        let (failures, start) = (Failures::default(), Instant::now());
        let (here, there) = ((address("192.0.2.1"), "u"), (address("192.0.2.2"), "u"));
        let told: Vec<bool> = (0..4).map(|_| failures.count(here, BOUND, start)).collect();
        assert_eq!(told, [false, false, true, false], "said once");
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(failures.shut_out(here, BOUND, later(59)) && !failures.shut_out(here, BOUND, later(60)));
        assert!(failures.shut_out((address("::ffff:192.0.2.1"), "u"), BOUND, start), "the same address");
        assert!(!failures.shut_out((here.0, "another"), BOUND, start), "who has done nothing wrong");
        assert!(!failures.shut_out(there, BOUND, start));
        assert!(!failures.count(here, BOUND, later(61)) && !failures.shut_out(here, BOUND, later(61)));
    }

    #[test]
    fn whoever_tries_many_users_shuts_all_out_from_his_address_in_the_end() {
        let (failures, now) = (Failures::default(), Instant::now());
        let here = address("192.0.2.1");
        for user in 0..BOUND.most * USERS {
            assert!(!failures.shut_out((here, "u"), BOUND, now));
            failures.count((here, &user.to_string()), BOUND, now);
        }
        assert!(failures.shut_out((here, "u"), BOUND, now));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let (failures, now) = (Failures::default(), Instant::now());
        for host in 1..=3 {
            failures.count((address(&format!("2001:db8::{host}")), "u"), BOUND, now);
        }
        assert!(failures.shut_out((address("2001:db8::ffff"), "u"), BOUND, now));
        assert!(!failures.shut_out((address("2001:db8:0:1::1"), "u"), BOUND, now));
    }

    #[test]
    fn without_a_bound_nobody_is_shut_out() {
        let (failures, now) = (Failures::default(), Instant::now());
        let bound = Bound { most: 0, ..BOUND };
        assert!((0..100).all(|_| !failures.count((address("::1"), "u"), bound, now)));
        assert!(!failures.shut_out((address("::1"), "u"), bound, now));
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_memory_and_frees_nobody_young() {
        let (failures, start) = (Failures::default(), Instant::now());
        let at = |n: u32| start + Duration::from_millis(u64::from(n) / 10);
        for n in 0..50_000_u32 {
            failures.count((IpAddr::V4(n.into()), "u"), BOUND, at(n));
            assert!(failures.0.lock().len() <= REMEMBERED);
        }
        let young = (IpAddr::V4(49_999.into()), "u");
        for _ in 0..2 {
            failures.count(young, BOUND, at(50_000));
        }
        for n in 50_000..51_000_u32 {
            failures.count((IpAddr::V4(n.into()), "u"), BOUND, at(n));
        }
        assert!(failures.shut_out(young, BOUND, at(51_000)));
    }
}

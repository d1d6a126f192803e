//! Those who have not proven who they are: how many there may be at one address, and how much the log says of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::peer::{PeerAddress, network};
use crate::places::{By, Counted};

/// The log says no more than it may in this time...
const WINDOW: Duration = Duration::from_secs(10);
/// ...so many lines of one address...
const OF_ONE: u32 = 10;
/// ...and so many of all.
const OF_ALL: u32 = 100;

/// Strangers of this process.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    places: By<IpAddr>,
    told: Mutex<Told>,
}

/// A place of an address, as long as this lives. None where nothing is bounded.
#[derive(Debug, Default)]
pub(crate) struct Place {
    _held: Option<Counted>,
}

impl Strangers {
    /// One more from this address, where `most` may be at once, 0 for no bound; none if there are so many. Who is on this machine
    /// has a socket of its own, of which a file's permissions say who may use it.
    pub(crate) fn enter(&self, address: &PeerAddress, most: usize) -> Option<Place> {
        let PeerAddress::Tcp(address) = address else { return Some(Place::default()) };
        if most == 0 {
            return Some(Place::default());
        }
        let held = self.places.enter(&network(address.ip()), Some(most))?;
        Some(Place { _held: Some(held) })
    }

    /// True if the log may have a line about a stranger at this address. What it must not have is counted, and told of later.
    pub(crate) fn may_be_told_of(&self, address: &PeerAddress) -> bool {
        let address = match address {
            PeerAddress::Tcp(address) => network(address.ip()),
            PeerAddress::Unix(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let now = Instant::now();
        let mut told = self.told.lock();
        let over = told.take_over(now);
        let may_be = told.one_more(address, now);
        drop(told);
        over.iter().for_each(LeftOut::tell);
        may_be
    }

    /// Tells of what was left out, if it is time. To be called now and then.
    pub(crate) fn tell_of_left_out(&self, now: Instant) {
        let over = self.told.lock().take_over(now);
        over.iter().for_each(LeftOut::tell);
    }
}

/// What the log was told in the present window.
#[derive(Debug, Default)]
struct Told {
    begun_at: Option<Instant>,
    lines: u32,
    /// Of each address that was told of: so there are [`OF_ALL`] at the most.
    by_address: HashMap<IpAddr, u32>,
    left_out: u64,
}

/// What was left out in a window that is over.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    /// The address with the most lines, told or not.
    most_of: Option<IpAddr>,
}

impl Told {
    fn one_more(&mut self, address: IpAddr, now: Instant) -> bool {
        self.begun_at.get_or_insert(now);
        let is_known = self.by_address.contains_key(&address);
        let of_it = if is_known || self.lines < OF_ALL {
            let of_it = self.by_address.entry(address).or_default();
            *of_it = of_it.saturating_add(1);
            *of_it
        } else {
            u32::MAX
        };
        let may_be = of_it <= OF_ONE && self.lines < OF_ALL;
        if may_be {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        may_be
    }

    /// Begins anew if the window is over; what was left out in it, if anything was.
    fn take_over(&mut self, now: Instant) -> Option<LeftOut> {
        let begun_at = self.begun_at?;
        if now.saturating_duration_since(begun_at) < WINDOW {
            return None;
        }
        let Self { by_address, left_out, .. } = std::mem::take(self);
        let most_of = by_address.into_iter().max_by_key(|(_, lines)| *lines).map(|(address, _)| address);
        (left_out > 0).then_some(LeftOut { lines: left_out, most_of })
    }
}

impl LeftOut {
    fn tell(&self) {
        let most_of = self.most_of.map(|address| address.to_string());
        tracing::warn!(
            left_out = self.lines,
            most_of,
            "more of connections without a login than the log is to hold"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn an_address_fills_no_log_and_what_is_left_out_is_counted() {
        let (mut told, start) = (Told::default(), Instant::now());
        let lines = (0..1000).filter(|_| told.one_more(at(1), start)).count();
        assert_eq!(lines, usize::try_from(OF_ONE).unwrap());
        assert!(told.one_more(at(2), start), "another has its own");
        assert_eq!(told.take_over(start + WINDOW / 2), None);
        assert_eq!(told.take_over(start + WINDOW), Some(LeftOut { lines: 990, most_of: Some(at(1)) }));
        assert!(told.one_more(at(1), start + WINDOW), "the next window is its own");
        assert_eq!(told.take_over(start + WINDOW * 2), None, "nothing was left out");
    }

    #[test]
    fn many_addresses_fill_no_log_and_no_memory() {
        let (mut told, now) = (Told::default(), Instant::now());
        let lines = (0..100_000).filter(|n| told.one_more(at(*n), now)).count();
        assert_eq!(lines, usize::try_from(OF_ALL).unwrap());
        assert!(told.by_address.len() <= lines);
        assert_eq!(told.take_over(now + WINDOW).map(|left| left.lines), Some(99_900));
    }

    #[test]
    fn an_address_has_so_many_places_and_a_network_of_ipv6_is_one() {
        let (strangers, here) =
            (Strangers::default(), |ip: &str| PeerAddress::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into()));
        let held = [strangers.enter(&here("2001:db8::1"), 2), strangers.enter(&here("2001:db8::2"), 2)];
        assert!(held.iter().all(Option::is_some) && strangers.enter(&here("2001:db8::3"), 2).is_none());
        assert!(strangers.enter(&here("192.0.2.1"), 2).is_some());
        assert!(strangers.enter(&here("2001:db8::3"), 0).is_some(), "no bound");
        drop(held);
        assert!(strangers.enter(&here("2001:db8::3"), 2).is_some());
    }
}

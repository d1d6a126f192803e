//! Those who have not proven who they are: how many there may be at one address, and how much the log says of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::peer::{PeerAddress, network};
use crate::places::{By, Counted, Gauge};

/// The log says no more than it may in this time...
const WINDOW: Duration = Duration::from_secs(10);
/// ...so many lines of one address...
const OF_ONE: u32 = 10;
/// ...and so many of all.
const OF_ALL: u32 = 100;

/// So many of all may be there at once where memory is short, so that who has a password still finds a way in.
const WHERE_MEMORY_IS_SHORT: usize = 64;

/// Strangers of this process.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    all: Arc<Gauge>,
    refused: [AtomicU64; 2],
    places: By<IpAddr>,
    told: Mutex<Told>,
}

/// A place among strangers, as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    _of_all: Counted,
    /// None where those of an address are not bounded.
    _of_address: Option<Counted>,
}

/// Why a stranger was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are too many of its address.
    Address,
    /// The process has as much memory as it may.
    Memory,
}

impl Refused {
    /// All of them, by the names that they have in metrics.
    pub(crate) const ALL: [(Self, &str); 2] = [(Self::Address, "address"), (Self::Memory, "memory")];
}

impl Strangers {
    /// One more from this address, where `most` may be at once, 0 for no bound. Who is on this machine has a socket of its own, of which
    /// a file's permissions say who may use it.
    pub(crate) fn enter(
        &self,
        address: &PeerAddress,
        most: usize,
        memory_is_short: bool,
    ) -> Result<Place, Refused> {
        let most_of_all = if memory_is_short { WHERE_MEMORY_IS_SHORT } else { usize::MAX };
        let of_all = self.all.enter(most_of_all).ok_or_else(|| self.refuse(Refused::Memory))?;
        let of_address = match address {
            PeerAddress::Tcp(address) if most > 0 => {
                let held = self.places.enter(&network(address.ip()), Some(most));
                Some(held.ok_or_else(|| self.refuse(Refused::Address))?)
            }
            _ => None,
        };
        Ok(Place { _of_all: of_all, _of_address: of_address })
    }

    fn refuse(&self, why: Refused) -> Refused {
        self.counter(why).fetch_add(1, Ordering::Relaxed);
        why
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.count()
    }

    /// How many were not let in.
    pub(crate) fn refused(&self, why: Refused) -> u64 {
        self.counter(why).load(Ordering::Relaxed)
    }

    const fn counter(&self, why: Refused) -> &AtomicU64 {
        let [of_address, for_memory] = &self.refused;
        match why {
            Refused::Address => of_address,
            Refused::Memory => for_memory,
        }
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
        let held = [
            strangers.enter(&here("2001:db8::1"), 2, false),
            strangers.enter(&here("2001:db8::2"), 2, false),
        ];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(strangers.enter(&here("2001:db8::3"), 2, false).err(), Some(Refused::Address));
        assert!(strangers.enter(&here("192.0.2.1"), 2, false).is_ok());
        assert!(strangers.enter(&here("2001:db8::3"), 0, false).is_ok(), "no bound");
        drop(held);
        assert!(strangers.enter(&here("2001:db8::3"), 2, false).is_ok());
        assert_eq!((strangers.count(), strangers.refused(Refused::Address)), (0, 1));
    }

    #[test]
    fn where_memory_is_short_some_may_still_log_in() {
        let (strangers, here) = (Strangers::default(), PeerAddress::Tcp(([192, 0, 2, 1], 1).into()));
        let held: Vec<_> = (0..100).map(|_| strangers.enter(&here, 0, true)).collect();
        assert_eq!(held.iter().flatten().count(), WHERE_MEMORY_IS_SHORT);
        assert_eq!(strangers.refused(Refused::Memory), 36);
        assert!(strangers.enter(&here, 0, false).is_ok());
        drop(held);
        assert!(strangers.enter(&here, 0, true).is_ok());
    }
}

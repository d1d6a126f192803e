//! The faults, what each may do to clients, and the order in which they come.

use std::fmt;
use std::ops::RangeInclusive;

use crate::chance::Chance;

/// Which packets are dropped between two parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Packets {
    All,
    /// Those to the primary.
    There,
    /// Those from the primary.
    Back,
}

/// Where a failover, or a switchover, is when pgherd is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Suspect,
    Fence,
    Freeze,
    Promote,
    Verify,
    Swapped,
    Follow,
    Rejoin,
    Hold,
    Quiesce,
    Stop,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillPostmaster,
    KillPrimary,
    StopPrimary,
    RestartPrimary,
    FreezePrimary,
    IsolatePrimary,
    PartPrimaryFromPgherd(Packets),
    PartPrimaryFromStandbys(Packets),
    KillStandby,
    StopStandby,
    FreezeStandby,
    IsolateStandby,
    PartStandbyFromPgherd,
    KillPgherd,
    KillPgherdIn(Stage),
    KillPrimaryAndStandby,
    KillAll,
}

/// All that may come.
pub(crate) const KINDS: [Kind; 31] = [
    Kind::KillPostmaster,
    Kind::KillPrimary,
    Kind::StopPrimary,
    Kind::RestartPrimary,
    Kind::FreezePrimary,
    Kind::IsolatePrimary,
    Kind::PartPrimaryFromPgherd(Packets::All),
    Kind::PartPrimaryFromPgherd(Packets::There),
    Kind::PartPrimaryFromPgherd(Packets::Back),
    Kind::PartPrimaryFromStandbys(Packets::All),
    Kind::PartPrimaryFromStandbys(Packets::There),
    Kind::PartPrimaryFromStandbys(Packets::Back),
    Kind::KillStandby,
    Kind::StopStandby,
    Kind::FreezeStandby,
    Kind::IsolateStandby,
    Kind::PartStandbyFromPgherd,
    Kind::KillPgherd,
    Kind::KillPgherdIn(Stage::Suspect),
    Kind::KillPgherdIn(Stage::Fence),
    Kind::KillPgherdIn(Stage::Freeze),
    Kind::KillPgherdIn(Stage::Promote),
    Kind::KillPgherdIn(Stage::Verify),
    Kind::KillPgherdIn(Stage::Swapped),
    Kind::KillPgherdIn(Stage::Follow),
    Kind::KillPgherdIn(Stage::Rejoin),
    Kind::KillPgherdIn(Stage::Hold),
    Kind::KillPgherdIn(Stage::Quiesce),
    Kind::KillPgherdIn(Stage::Stop),
    Kind::KillPrimaryAndStandby,
    Kind::KillAll,
];

/// Those that pgherd lives through.
pub(crate) const LASTING: [Kind; 19] = [
    Kind::KillPostmaster,
    Kind::KillPrimary,
    Kind::StopPrimary,
    Kind::RestartPrimary,
    Kind::FreezePrimary,
    Kind::IsolatePrimary,
    Kind::PartPrimaryFromPgherd(Packets::All),
    Kind::PartPrimaryFromPgherd(Packets::There),
    Kind::PartPrimaryFromPgherd(Packets::Back),
    Kind::PartPrimaryFromStandbys(Packets::All),
    Kind::PartPrimaryFromStandbys(Packets::There),
    Kind::PartPrimaryFromStandbys(Packets::Back),
    Kind::KillStandby,
    Kind::StopStandby,
    Kind::FreezeStandby,
    Kind::IsolateStandby,
    Kind::PartStandbyFromPgherd,
    Kind::KillPrimaryAndStandby,
    Kind::KillAll,
];

/// The most common of them, for a short campaign.
pub(crate) const SHORT: [Kind; 4] =
    [Kind::KillPostmaster, Kind::IsolateStandby, Kind::KillPgherdIn(Stage::Promote), Kind::KillPrimary];

/// What was promised of the time without a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Half a second at the median, a second at worst.
    Killed,
    /// `failover.confirm` and a second.
    Silent,
}

impl Kind {
    /// How many promotions there may be.
    pub(crate) const fn promotions(self) -> RangeInclusive<u32> {
        match self {
            Self::KillPostmaster
            | Self::KillPrimary
            | Self::StopPrimary
            | Self::FreezePrimary
            | Self::IsolatePrimary => 1..=1,
            Self::RestartPrimary | Self::KillPgherdIn(_) | Self::KillPrimaryAndStandby | Self::KillAll => {
                0..=1
            }
            _ => 0..=0,
        }
    }

    /// pgherd lives on, and with it every client's connection.
    pub(crate) const fn keeps_connections(self) -> bool {
        !matches!(self, Self::KillPgherd | Self::KillPgherdIn(_))
    }

    /// No client notices it.
    pub(crate) const fn is_unnoticed(self) -> bool {
        matches!(
            self,
            Self::KillStandby
                | Self::StopStandby
                | Self::FreezeStandby
                | Self::IsolateStandby
                | Self::PartStandbyFromPgherd
        )
    }

    pub(crate) const fn promise(self) -> Option<Promise> {
        match self {
            Self::KillPostmaster | Self::KillPrimary | Self::StopPrimary => Some(Promise::Killed),
            Self::FreezePrimary | Self::IsolatePrimary => Some(Promise::Silent),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::KillPostmaster => "primary: kill -9 of the postmaster",
            Self::KillPrimary => "primary: kill -9 of every process",
            Self::StopPrimary => "primary: clean stop",
            Self::RestartPrimary => "primary: restart",
            Self::FreezePrimary => "primary: SIGSTOP",
            Self::IsolatePrimary => "primary: cut off from all",
            Self::PartPrimaryFromPgherd(Packets::All) => "primary | pgherd",
            Self::PartPrimaryFromPgherd(Packets::There) => "primary <-x- pgherd",
            Self::PartPrimaryFromPgherd(Packets::Back) => "primary -x-> pgherd",
            Self::PartPrimaryFromStandbys(Packets::All) => "primary | standbys",
            Self::PartPrimaryFromStandbys(Packets::There) => "primary <-x- standbys",
            Self::PartPrimaryFromStandbys(Packets::Back) => "primary -x-> standbys",
            Self::KillStandby => "standby: kill -9",
            Self::StopStandby => "standby: clean stop",
            Self::FreezeStandby => "standby: SIGSTOP",
            Self::IsolateStandby => "standby: cut off from all",
            Self::PartStandbyFromPgherd => "standby | pgherd",
            Self::KillPgherd => "pgherd: kill -9",
            Self::KillPgherdIn(stage) => return write!(f, "pgherd: kill -9, {}", stage.moment()),
            Self::KillPrimaryAndStandby => "primary and a standby: kill -9",
            Self::KillAll => "every server: kill -9",
        };
        f.pad(text)
    }
}

impl Stage {
    /// What pgherd's log says when it is there.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Suspect => "to=Suspect",
            Self::Fence => "to=Fence",
            Self::Freeze => "to=Freeze",
            Self::Promote => "step=Promote",
            Self::Verify => "to=Verify",
            Self::Swapped => "writes are open",
            Self::Follow => "step=Follow",
            Self::Rejoin => "step=Rejoin",
            Self::Hold => "to=Hold",
            Self::Quiesce => "step=Quiesce",
            Self::Stop => "step=Stop",
        }
    }

    const fn moment(self) -> &'static str {
        match self {
            Self::Suspect => "while it suspects",
            Self::Fence => "while it fences",
            Self::Freeze => "while it freezes",
            Self::Promote => "while it promotes",
            Self::Verify => "while it verifies",
            Self::Swapped => "when it has swapped",
            Self::Follow => "while it repoints",
            Self::Rejoin => "while it rejoins",
            Self::Hold => "while it holds",
            Self::Quiesce => "in a switchover, before the stop",
            Self::Stop => "in a switchover, at the stop",
        }
    }
}

/// So many faults of `kinds`, each kind about as often as any other, in an order by chance.
pub(crate) fn deal(kinds: &[Kind], faults: usize, chance: &mut Chance) -> Vec<Kind> {
    let mut dealt = Vec::new();
    while dealt.len() < faults {
        let mut deck = kinds.to_vec();
        while !deck.is_empty() {
            let at = chance.below(deck.len().try_into().unwrap_or(u64::MAX));
            dealt.push(deck.swap_remove(usize::try_from(at).unwrap_or_default()));
        }
    }
    dealt.truncate(faults);
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_deals_the_same_faults_again_and_every_kind_as_often_as_any_other() {
        let deal = |seed| deal(&KINDS, KINDS.len() * 3, &mut Chance::new(seed));
        assert_eq!(deal(5), deal(5));
        assert_ne!(deal(5), deal(9));
        for kind in KINDS {
            assert_eq!(deal(5).iter().filter(|dealt| **dealt == kind).count(), 3, "{kind}");
        }
    }
}

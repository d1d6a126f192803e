//! Replication slots that a failover leaves behind, or loses.

use pgherd_failover::{Order, Step};
use pgherd_health::ReplicationSlot;

use super::herd::{Herd, PG01, PG02, PG03, seconds};
use crate::model::{Id, repmgr_id};

impl Herd {
    fn slot(&mut self, id: Id, name: &str, database: Option<&str>) -> &mut Self {
        let database = database.map(str::to_owned);
        let slot = ReplicationSlot { name: name.to_owned(), database, active: false };
        self.world.servers[id].slots.push(slot);
        self
    }

    fn slots(&self, id: Id) -> Vec<&str> {
        self.world.servers[id].slots.iter().map(|slot| slot.name.as_str()).collect()
    }
}

/// As repmgr names the slot of a standby.
fn of(id: Id) -> String {
    format!("repmgr_slot_{}", repmgr_id(id))
}

#[test]
fn repmgrs_slots_are_dropped_where_their_standbys_do_not_need_them() {
    let mut herd = Herd::of(3);
    for id in [PG01, PG02, PG03] {
        herd.slot(PG02, &of(id), None);
    }
    herd.runs(seconds(5));
    assert_eq!(herd.slots(PG02).len(), 3, "somebody may just be having one follow it");
    herd.runs(seconds(25));
    assert!(herd.slots(PG02).is_empty(), "{}", herd.story());
}

#[test]
fn slots_that_may_be_needed_or_are_not_repmgrs_are_left_alone() {
    let mut herd = Herd::of(3);
    herd.slot(PG01, &of(PG03), None);
    let others = ["repmgr_slot_99", "backup", &of(PG03).replace("slot_", "slot_0")];
    for name in others {
        herd.slot(PG02, name, None);
    }
    herd.slot(PG02, &of(PG03), Some("app"));
    herd.runs(seconds(60));
    assert_eq!(herd.slots(PG01), [of(PG03)], "it streams from there");
    assert_eq!(herd.slots(PG02), [&others[..], &[of(PG03).as_str()]].concat());
    for id in [PG01, PG02, PG03] {
        assert_eq!(herd.commands(id, |step| matches!(step, Step::DropSlot { .. })), 0, "{}", herd.story());
    }
}

#[test]
fn a_slot_that_is_in_use_is_left_alone_and_all_are_while_failover_is_paused() {
    let mut herd = Herd::of(3);
    herd.slot(PG02, &of(PG03), None).world.servers[PG02].slots[0].active = true;
    herd.runs(seconds(60));
    assert_eq!(herd.slots(PG02), [of(PG03)]);
    herd.orders(Order::Pause).world.servers[PG02].slots[0].active = false;
    herd.runs(seconds(60));
    assert_eq!(herd.slots(PG02), [of(PG03)]);
    assert_eq!(herd.commands(PG02, |step| matches!(step, Step::DropSlot { .. })), 0, "{}", herd.story());
    herd.orders(Order::Resume).runs(seconds(30));
    assert!(herd.slots(PG02).is_empty(), "{}", herd.story());
}

#[test]
fn the_slot_of_a_standby_that_is_down_waits_for_it() {
    let mut herd = Herd::of(3);
    herd.stop(PG03).slot(PG02, &of(PG03), None).runs(seconds(60));
    assert_eq!(herd.slots(PG02), [of(PG03)]);
    herd.start(PG03).rests(seconds(30)).runs(seconds(30));
    assert!(herd.slots(PG02).is_empty(), "{}", herd.story());
}

#[test]
fn logical_slots_that_a_promotion_has_lost_are_told_of_until_they_are_there_again() {
    let mut herd = Herd::of(3);
    herd.slot(PG01, "feed", Some("app")).slot(PG01, "kept", Some("app")).slot(PG02, "kept", Some("app"));
    herd.runs(seconds(1)).kill(PG01).serves(PG02, seconds(1));
    herd.runs(seconds(5));
    let lost = "logical slot feed of database app was lost when node 1 became the primary";
    assert!(herd.warns(lost) && !herd.warns("slot kept"), "{}", herd.story());
    herd.slot(PG02, "feed", Some("app")).runs(seconds(1));
    assert!(!herd.warns("logical slot"), "{}", herd.story());
}

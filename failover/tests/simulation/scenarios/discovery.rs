//! pgherd is told of one server, and finds the others by what repmgr has registered.

use super::herd::{Herd, PG01, PG02, PG03, is_promote, millis, seconds};
use crate::model::repmgr_id;
use crate::plan::Plan;

#[test]
fn whoever_is_named_the_others_are_found_and_a_lost_primary_is_replaced() {
    for named in [PG01, PG02, PG03] {
        let mut herd = Herd::with(Plan::quiet(3).told_of(named));
        assert_eq!(herd.reads(), [PG02, PG03], "{named}");
        herd.kill(PG01).serves(PG02, seconds(1));
        herd.start(PG01).rests(seconds(60));
        assert_eq!(herd.promotions(), 1);
    }
}

/// Its row says that it is registered, and nobody has asked it yet.
#[test]
fn an_old_primary_that_alone_is_named_is_not_served_before_those_that_it_names_were_asked() {
    let mut herd = Herd::of(3);
    herd.kill(PG01).serves(PG02, seconds(1));
    herd.runs(seconds(5)).pgherd_dies();
    // It comes back writable, and is all that the next pgherd is told of.
    herd.start(PG01).runs(seconds(5));
    herd.world.plan.named = Some(PG01);
    herd.world.plan.settings.discover = true;
    herd.pgherd_starts();
    let end = herd.world.now + seconds(12);
    while herd.served() != Some(PG02) {
        assert!(herd.served() != Some(PG01) && herd.world.now < end, "{}", herd.story());
        herd.runs(millis(5));
    }
    herd.rests(seconds(60));
    assert_eq!((herd.promotions(), herd.commands(PG01, is_promote)), (1, 0));
}

#[test]
fn where_the_only_one_named_is_down_at_the_start_it_is_said_what_is_missing() {
    let mut herd = Herd::without_pgherd(Plan::quiet(3).told_of(PG01));
    herd.kill(PG01).runs(seconds(1)).pgherd_starts();
    herd.holds("name more of them in backends.nodes", seconds(12));
    herd.start(PG01).serves(PG01, seconds(20));
    assert_eq!((herd.reads(), herd.promotions()), (vec![PG02, PG03], 0));
}

#[test]
fn a_named_standby_is_enough_to_replace_a_primary_that_is_down_at_the_start() {
    let mut herd = Herd::without_pgherd(Plan::quiet(3).told_of(PG03));
    herd.kill(PG01).runs(seconds(1)).pgherd_starts();
    herd.serves(PG02, seconds(14));
    assert_eq!(herd.promotions(), 1);
}

#[test]
fn who_is_unregistered_goes_when_the_primary_says_so_and_comes_again() {
    let mut herd = Herd::with(Plan::quiet(3).told_of(PG02));
    let version = herd.world.servers[PG01].wal.rows().unwrap();
    let all = herd.world.rows[version].clone();
    let fewer = all.iter().filter(|row| row.node_id != repmgr_id(PG03)).cloned().collect();
    herd.world.rows[version] = std::sync::Arc::new(fewer);
    herd.runs(seconds(2));
    assert_eq!(herd.reads(), [PG02]);
    herd.world.rows[version] = all;
    herd.runs(seconds(2));
    assert_eq!(herd.reads(), [PG02, PG03]);
}

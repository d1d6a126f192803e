//! Several pgherds before one herd: only the one that holds the lease in etcd acts.

use pgherd_failover::{Order, Terms};
use pgherd_health::TimelineId;

use super::herd::{Herd, PG01, PG02, PG03, is_promote, millis, seconds, until_ordered};
use crate::model::{Time, node};
use crate::plan::{Fault, Plan, Whom};

const TTL: Time = seconds(10);

/// A herd with an etcd and two pgherds, of which the first holds the lease.
fn with_two(plan: Plan) -> Herd {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..plan });
    herd.pgherd_starts().runs(seconds(12));
    assert_eq!((herd.world.served(0), herd.world.served(1)), (Some(PG01), Some(PG01)), "{}", herd.story());
    herd
}

fn lose_etcd(herd: &mut Herd, alone: Option<usize>) {
    herd.strikes(Fault::LoseEtcd { alone, lasts: seconds(3600) });
}

#[test]
fn the_holder_promotes_at_once_and_the_other_follows_what_it_sees() {
    let mut herd = with_two(Plan::quiet(3));
    let took = herd.kill(PG01).serves(PG02, seconds(1));
    assert!(took < millis(700), "{took:?}");
    herd.runs(seconds(2));
    assert_eq!((herd.world.served(1), herd.promotions()), (Some(PG02), 1));
}

#[test]
fn when_the_holder_and_the_primary_are_lost_at_once_the_other_promotes_when_the_lease_is_over() {
    let mut herd = with_two(Plan::quiet(3));
    herd.pgherd_dies_alone(0).kill(PG01);
    let took = herd.serves(PG02, TTL + seconds(4));
    assert!(took > seconds(5), "{took:?}");
    herd.start(PG01).rests(seconds(60));
    assert_eq!(herd.promotions(), 1);
}

#[test]
fn without_etcd_traffic_goes_on_and_nobody_is_promoted_until_it_is_back() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(3) });
    lose_etcd(&mut herd, None);
    herd.keeps(PG01, seconds(30));
    assert_eq!(herd.reads(), [PG02, PG03]);
    assert!(herd.warns("etcd does not answer"));
    herd.kill(PG01).holds("etcd does not answer", seconds(10));
    assert!(herd.keeps_connections(), "nothing was done to the primary: {}", herd.story());
    assert_eq!((herd.reads(), herd.promotions()), (vec![PG02, PG03], 0));
    herd.strikes(Fault::EtcdIsBack).serves(PG02, seconds(8));
    assert_eq!(herd.promotions(), 1);
}

#[test]
fn wherever_the_lease_ends_in_the_course_of_a_failover_one_server_is_promoted() {
    for after in (0..400).step_by(29) {
        let mut herd = with_two(Plan::quiet(3));
        herd.kill(PG01).runs(millis(after));
        lose_etcd(&mut herd, Some(0));
        herd.runs(seconds(40));
        let served = (herd.world.served(0), herd.world.served(1));
        assert_eq!((served, herd.promotions()), ((Some(PG02), Some(PG02)), 1), "{after}\n{}", herd.story());
    }
}

/// The order is out, and its pgherd hangs until another holds the lease.
#[test]
fn a_promotion_that_outlives_its_lease_is_not_made_twice() {
    let mut herd = with_two(Plan::quiet(3));
    herd.next_goes(pgherd_failover::Step::Promote, crate::world::Trick::Late(seconds(14)));
    herd.kill(PG01);
    until_ordered(&mut herd, PG02);
    lose_etcd(&mut herd, Some(0));
    herd.runs(seconds(90));
    assert_eq!(herd.promotions(), 1, "{}", herd.story());
    herd.start(PG01).rests(seconds(60));
}

#[test]
fn a_timeline_after_which_another_was_served_gets_no_writes_even_from_a_pgherd_without_memory() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(2) });
    herd.kill(PG01).serves(PG02, seconds(1));
    herd.runs(seconds(3)).pgherd_dies();
    herd.kill(PG02).start(PG01).runs(seconds(3)).pgherd_starts();
    let end = herd.world.now + seconds(5);
    while herd.world.now < end {
        assert_eq!(herd.runs(millis(1)).served(), None, "{}", herd.story());
    }
    herd.holds("timeline 2 was served", seconds(20));
    // The one that died holds the lease until then, and orders are for who holds it.
    herd.runs(TTL);
    herd.orders(Order::Failover(Terms {
        to: Some(node(PG01)),
        accept_timeline: Some(TimelineId(1)),
        ..Terms::default()
    }))
    .serves(PG01, seconds(15));
}

#[test]
fn a_standby_of_an_older_timeline_is_not_promoted_by_a_pgherd_without_memory() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(3) });
    herd.lose_host(PG03).runs(seconds(3));
    herd.kill(PG01).runs(seconds(8));
    herd.orders(Order::Failover(Terms { accept_data_loss: true, ..Terms::default() }))
        .serves(PG02, seconds(12));
    herd.runs(seconds(3)).pgherd_dies();
    herd.kill(PG02);
    herd.strikes(Fault::HostUp { whom: Whom::This(PG03) }).runs(seconds(3)).pgherd_starts();
    herd.holds("timeline 2 was served", seconds(20));
    assert_eq!(herd.commands(PG03, is_promote), 0, "{}", herd.story());
}

/// Its timeline would be taken a second time from the same position: two servers of equal history.
#[test]
fn who_was_told_to_promote_and_is_lost_together_with_the_holder_is_waited_for() {
    let mut herd = with_two(Plan::quiet(3));
    herd.kill(PG01);
    until_ordered(&mut herd, PG02);
    herd.until(|herd| !herd.world.servers[PG02].standby);
    herd.kill(PG02).pgherd_dies_alone(0);
    herd.holds("another pgherd has told to promote", TTL + seconds(8));
    assert_eq!(herd.promotions(), 1);
    herd.start(PG02).serves(PG02, seconds(20));
    herd.start(PG01).rests(seconds(60));
}

#[test]
fn who_does_not_hold_the_lease_says_so_and_takes_no_order() {
    let herd = with_two(Plan::quiet(3));
    let now = herd.world.instant();
    let refused = herd.world.pgherds[1].machine.can_switch_over(now, None).unwrap_err();
    assert!(refused.contains("pgherd 0 holds the lease"), "{refused}");
    let status = herd.world.pgherds[0].machine.status();
    assert!(status.decider.contains("this pgherd decides") && status.warnings.is_empty(), "{status:?}");
}

/// Of it this one sees nothing.
#[test]
fn a_primary_gets_no_writes_once_another_pgherd_has_served_a_later_timeline() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(3) });
    herd.world.etcd.timeline = Some(TimelineId(2));
    herd.holds("etcd knows that timeline 2 was served", seconds(4));
}

/// It may have taken writes before it was lost.
#[test]
fn an_old_primary_is_not_served_before_it_is_known_what_became_of_the_next() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(2) });
    herd.kill(PG01);
    until_ordered(&mut herd, PG02);
    herd.until(|herd| !herd.world.servers[PG02].standby)
        .kill(PG02)
        .pgherd_dies()
        .start(PG01)
        .runs(seconds(3));
    herd.pgherd_starts().holds("another pgherd has told to promote", TTL + seconds(8));
    herd.start(PG02).serves(PG02, seconds(20));
    herd.rests(seconds(60));
}

/// etcd tells of that order, too.
#[test]
fn a_pgherd_whose_candidate_is_lost_goes_on_with_another() {
    let mut herd = Herd::with(Plan { lease: Some(TTL), ..Plan::quiet(3) });
    herd.kill(PG01);
    until_ordered(&mut herd, PG02);
    herd.kill(PG02).next_goes(pgherd_failover::Step::Lock, crate::world::Trick::Fails);
    herd.holds("was not locked", seconds(5)).serves(PG03, seconds(12));
    assert_eq!(herd.promotions(), 1);
}

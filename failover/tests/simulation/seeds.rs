//! Many seeds, each a story of its own.

use std::collections::BTreeSet;

use crate::model::Time;
use crate::plan::Plan;
use crate::world::{Happening, World};

/// After the faults, everything has come to rest within this.
const REST_WITHIN: Time = Time::from_secs(300);
/// It is at rest when it stays so for this long.
const REST: u32 = 4;

/// How a story ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) violation: Option<String>,
    pub(crate) taken: BTreeSet<&'static str>,
    pub(crate) promotions: usize,
    pub(crate) operated: u32,
    pub(crate) lasted: Time,
    pub(crate) story: String,
}

/// Tells the story of a seed to its end.
pub(crate) fn tell(seed: u64, told: bool) -> Ending {
    let plan = Plan::of_seed(seed);
    let calm_at = plan.calm_at;
    let mut world = World::new(seed, plan, told);
    world.after(Time::ZERO, Happening::PgherdStarts);
    world.run_until(calm_at);
    world.after(Time::ZERO, Happening::Calm);
    let (mut at, mut rested) = (calm_at, 0);
    while rested < REST && world.judge.violation.is_none() {
        at += Time::from_secs(1);
        world.run_until(at);
        match world.unrest() {
            None => rested += 1,
            Some(why) if at > calm_at + REST_WITHIN => {
                let warnings = world.living().map(|it| world.pgherds[it].machine.status().warnings);
                world.violate(format!("I9: {why}; {warnings:?}"));
            }
            Some(_) => rested = 0,
        }
    }
    if !world.judge.deceived {
        world.judge_end();
    }
    Ending {
        violation: world.judge.violation.take(),
        taken: std::mem::take(&mut world.judge.taken),
        promotions: world.judge.promotions.len(),
        operated: world.judge.operated,
        lasted: world.now,
        story: world.story.text(),
    }
}

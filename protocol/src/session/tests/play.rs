//! Plays random scripts in a random order of transfers.

use proptest::prelude::*;
use proptest::sample::select;

use super::scripts::{Script, Sent};
use super::step::Step;
use super::world::World;

/// So many cases, or as many as the environment asks for.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

/// What moves next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    client: usize,
    step: Step,
    /// The server connection that a client gets now if it wants one.
    preferred: usize,
}

/// Turns, repeated as long as anything moves.
pub(super) fn turns(clients: usize, servers: usize) -> impl Strategy<Value = Vec<Turn>> {
    let len = prop_oneof![1..3_usize, 1..40_usize, Just(usize::MAX)];
    let step = (0..5_usize, len).prop_map(|(kind, len)| match kind {
        0 => Step::Read(len),
        1 => Step::Forward(len),
        2 => Step::Serve(len),
        3 => Step::Return(len),
        _ => Step::Reply(len),
    });
    let turn = (0..clients, step, 0..servers);
    let turn = turn.prop_map(|(client, step, preferred)| Turn { client, step, preferred });
    prop::collection::vec(turn, 1..60)
}

/// Which clients go on when nothing moves any more.
pub(super) fn starts(clients: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(select((0..clients).collect::<Vec<_>>()), 1..20)
}

/// Plays all scripts to their ends.
pub(super) fn play(world: &mut World, scripts: &[Script], turns: &[Turn], starts: &[usize]) {
    let mut phases: Vec<_> = scripts.iter().map(|script| script.iter()).collect();
    let mut turns = turns.iter().cycle();
    let mut starts = starts.iter().cycle();
    (0..scripts.len()).for_each(|client| {
        world.client(client);
    });
    while phases.iter().any(|phases| phases.len() > 0) {
        // At least one goes on, and perhaps others with it.
        let mut one_goes_on = false;
        for (client, phases) in phases.iter_mut().enumerate() {
            let goes_on = starts.by_ref().take(2).any(|&start| start == client);
            if goes_on && let Some(phase) = phases.next() {
                send(world, client, phase);
                one_goes_on = true;
            }
        }
        if !one_goes_on
            && let Some((client, phases)) = phases.iter_mut().enumerate().find(|(_, phases)| phases.len() > 0)
            && let Some(phase) = phases.next()
        {
            send(world, client, phase);
        }
        let mut in_vain = 0;
        while in_vain < 30
            && let Some(turn) = turns.next()
        {
            world.preferred = turn.preferred;
            in_vain = if world.step(turn.client % scripts.len(), turn.step) { 0 } else { in_vain + 1 };
        }
        world.settle();
    }
}

fn send(world: &mut World, client: usize, phase: &[Sent]) {
    let client = world.client(client);
    phase.iter().for_each(|sent| client.sent.extend_from_slice(&sent.bytes));
}

//! The shortest sequence that still is not answered alike.

use anyhow::Result;

use super::sequence::{Sequence, Then};
use super::world::{Difference, World};

/// How many shorter ones are tried.
const ATTEMPTS: u32 = 250;

/// Takes out whatever is not needed for a difference.
pub(super) async fn shrink(
    world: &World,
    sequence: &Sequence,
    seen: Difference,
) -> Result<(Sequence, Difference)> {
    let (mut shortest, mut difference, mut attempts) = (sequence.clone(), seen, 0);
    loop {
        let mut found = None;
        for candidate in shorter(&shortest) {
            attempts += 1;
            if attempts > ATTEMPTS {
                return Ok((shortest, difference));
            }
            if let Some(seen) = world.tell(&candidate).await?.filter(|seen| seen.why.is_none()) {
                found = Some((candidate, seen));
                break;
            }
        }
        match found {
            Some((candidate, seen)) => (shortest, difference) = (candidate, seen),
            None => return Ok((shortest, difference)),
        }
    }
}

/// Sequences with something less, those with much less first.
fn shorter(sequence: &Sequence) -> Vec<Sequence> {
    let mut all = Vec::new();
    let count = sequence.steps.len();
    let mut length = count / 2;
    while length > 0 {
        for at in (0..count).step_by(length) {
            let mut candidate = sequence.clone();
            candidate.steps.drain(at..(at + length).min(count));
            all.push(candidate);
        }
        length /= 2;
    }
    for (at, step) in sequence.steps.iter().enumerate() {
        for message in 0..step.messages.len() {
            let mut candidate = sequence.clone();
            if let Some(step) = candidate.steps.get_mut(at)
                && step.messages.len() > 1
            {
                step.messages.remove(message);
                all.push(candidate);
            }
        }
        if step.then == Then::GoesOn {
            let mut candidate = sequence.clone();
            candidate.steps.iter_mut().skip(at).take(1).for_each(|step| step.then = Then::Waits);
            all.push(candidate);
        }
    }
    for at in 0..sequence.clients.len() {
        let mut candidate = sequence.clone();
        if let Some(life) = candidate.clients.get_mut(at) {
            life.startup.clear();
            life.terminates = true;
        }
        if candidate != *sequence {
            all.push(candidate);
        }
    }
    if sequence.clients.len() > 1 && sequence.steps.iter().all(|step| step.client == 0) {
        let mut candidate = sequence.clone();
        candidate.clients.truncate(1);
        all.push(candidate);
    }
    all.retain(|candidate| !candidate.steps.is_empty());
    all
}

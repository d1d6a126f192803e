//! What is measured: how soon pages know, and what they cost.

use std::time::{Duration, Instant};

use pgherd_testkit::{Context, Result, ensure, eventually};
use serde_json::Value as Json;
use tokio::time::sleep;

use crate::herd::Herd;
use crate::live::Live;
use crate::looking::find;
use crate::steering::wait_node;
use crate::web::{PATIENCE, Web, all, text};

/// Pages that are open, and for how long it is measured what they cost, and what it costs without them.
const PAGES: usize = 200;
const WHILE: Duration = Duration::from_secs(10);
const WITHOUT: Duration = Duration::from_secs(4);
/// The most that they may cost, of one core.
const SHARE: f64 = 0.05;

#[tokio::test]
async fn pages_cost_little_and_know_at_once_that_the_primary_is_lost() -> Result<()> {
    let herd = Herd::start(3).await?;
    let operator = herd.operator().await?;
    for node in [1, 2] {
        wait_node(&operator, node, "used_for", "reads").await?;
    }
    at_rest(&herd, &operator).await?;
    primary_lost(&herd, &operator).await?;
    herd.ensure_sound()
}

async fn at_rest(herd: &Herd, operator: &Web) -> Result<()> {
    let share = async |time: Duration| {
        let before = herd.processor_time()?;
        sleep(time).await;
        let used = herd.processor_time()?.saturating_sub(before);
        Ok::<_, pgherd_testkit::Error>(used.as_secs_f64() / time.as_secs_f64())
    };
    let nobody = share(WITHOUT).await?;
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        let mut page = Live::of(operator).await?;
        pages.push(tokio::spawn(async move {
            let mut frames = 0_usize;
            let looked = async {
                loop {
                    page.next("herd").await?;
                    frames += 1;
                }
            };
            let ended: Result<Result<()>, _> =
                tokio::time::timeout(WHILE + Duration::from_secs(2), looked).await;
            (frames, ended.is_err())
        }));
    }
    sleep(Duration::from_secs(1)).await;
    let with_pages = share(WHILE).await?;
    let mut frames = 0;
    for page in pages {
        let (seen, to_the_end) = page.await?;
        ensure!(to_the_end, "a page was closed after {seen} frames");
        frames += seen;
    }
    let more = with_pages - nobody;
    eprintln!(
        "at rest: {:.2} % of a core without pages, {:.2} % with {PAGES} of them, {} frames each",
        nobody * 100.0,
        with_pages * 100.0,
        frames / PAGES
    );
    ensure!(more < SHARE, "{more}");
    Ok(())
}

async fn primary_lost(herd: &Herd, operator: &Web) -> Result<()> {
    let running = herd.writers().await?;
    let mut page = Live::of(operator).await?;
    page.next("herd").await?;
    herd.server(1)?.kill9().await?;
    let moment = Instant::now();
    let seen = loop {
        let shown = page.next("herd").await?;
        if shown["writes"]["open"] == false && find(&shown["nodes"], "id", 0)?["up"] == false {
            break shown;
        }
    };
    let known = moment.elapsed();
    ensure!(seen["alert"]["level"] == "error" && !text(&seen["alert"]["text"]).is_empty(), "{seen:#}");
    let closed = loop {
        let shown = page.next("herd").await?;
        if shown["writes"]["open"] == true {
            break moment.elapsed();
        }
    };
    eprintln!("a page knows {known:?} after the primary is lost, and of the new one after {closed:?}");
    ensure!(known < Duration::from_secs(1), "{known:?}");
    running.wait_acknowledged(100, PATIENCE).await?;
    herd.compare(&running.stop().await?).await?;
    let told = eventually("the failover has ended", PATIENCE, || async {
        let told = operator.see("failovers").await?[0].clone();
        Ok((told["kind"] == "failover" && told["ended"].is_string()).then_some(told))
    })
    .await?;
    ensure!(told["outcome"] == "done" && told["from"] == 0, "{told:#}");
    steps(&told)?;
    let outage = told["writes_closed_seconds"].as_f64().context("writes were closed")?;
    ensure!((outage - (closed - known).as_secs_f64()).abs() < 0.5, "{outage} s, and {known:?} to {closed:?}");
    Ok(())
}

/// The steps follow each other, and take together as long as the whole.
fn steps(told: &Json) -> Result<()> {
    let steps = all(&told["steps"]);
    let names: Vec<_> = steps.iter().map(|step| text(&step["state"])).collect();
    for state in ["Suspect", "Confirm", "Elect", "Promote", "Swap"] {
        ensure!(names.iter().any(|it| it == state), "{state} is not in {names:?}");
    }
    let sum: f64 = steps.iter().filter_map(|step| step["seconds"].as_f64()).sum();
    let whole = told["seconds"].as_f64().context("seconds")?;
    ensure!((sum - whole).abs() < 0.005 * (steps.len() as f64), "{sum} s of {whole} s: {told:#}");
    ensure!(told["began"] == steps.first().context("a step")?["began"], "{told:#}");
    ensure!(steps.iter().all(|step| text(&step["what"]).len() > 5), "{told:#}");
    Ok(())
}

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at while a test waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value, and fails with `what` and the last error after `within`.
pub async fn eventually<T, F, Fut>(what: impl Display, within: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    let mut last = anyhow!("no look ended");
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = anyhow!("it was not so at the last look"),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last.context(format!("{what}: not within {within:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
}

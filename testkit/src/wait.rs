use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at while a test waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value, and fails with `what` and the last error after `within`.
pub async fn eventually<T, F, Fut>(what: impl Display, within: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => bail!("{what}: not within {within:?}, and the last look did not end"),
        };
        if Instant::now() >= deadline {
            match last {
                Some(error) => return Err(error.context(format!("{what}: not within {within:?}"))),
                None => bail!("{what}: not within {within:?}"),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

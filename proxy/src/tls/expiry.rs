//! Says in time that the certificate expires.

use std::time::{Duration, SystemTime};

use super::ClientTls;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From so long before it expires the log warns.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Warns now and once a day, from 14 days before the certificate expires. Never ends.
pub(crate) async fn watch(tls: &ClientTls) {
    let mut day = tokio::time::interval(DAY);
    loop {
        day.tick().await;
        let Some(left) = tls.expires_at().and_then(|at| left(at, SystemTime::now())) else { continue };
        if left.is_zero() {
            tracing::warn!(
                "the certificate in listen.tls.cert has expired: clients that verify it do not connect"
            );
        } else {
            tracing::warn!(
                days_left = left.as_secs() / DAY.as_secs(),
                "the certificate in listen.tls.cert expires soon"
            );
        }
    }
}

/// How long a certificate is good for, if that is worth a warning.
fn left(expires_at: SystemTime, now: SystemTime) -> Option<Duration> {
    let left = expires_at.duration_since(now).unwrap_or_default();
    (left < WARNED_BEFORE).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_weeks_and_what_is_over_are_worth_a_warning() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        assert_eq!(left(now + 15 * DAY, now), None);
        assert_eq!(left(now + 13 * DAY, now), Some(13 * DAY));
        assert_eq!(left(now, now), Some(Duration::ZERO));
        assert_eq!(left(now - DAY, now), Some(Duration::ZERO));
    }
}

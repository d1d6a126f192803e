//! pgpool's parameters, as far as they say something of pgherd: what PGPOOL SHOW answers.

use std::time::Duration;

use pgherd_protocol::statement::PoolParameter;
use pgherd_tls::Mode;

use crate::config::{Config, LogLevel, Reads};

/// The value of a parameter in pgpool's units. Those who may log in anywhere can ask for it.
pub(super) fn value(parameter: PoolParameter, config: &Config) -> String {
    let (pool, listen) = (&config.pool, &config.listen);
    let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
    match parameter {
        PoolParameter::AuthenticationTimeout => seconds(Some(pool.client_login_timeout)),
        PoolParameter::ClientIdleLimit => seconds(pool.timeouts.client_idle),
        PoolParameter::ConnectTimeout => pool.server_connect_timeout.as_millis().to_string(),
        PoolParameter::ConnectionCache => on(true),
        PoolParameter::ConnectionLifeTime => seconds(pool.server_idle_timeout),
        PoolParameter::EnablePoolHba => on(config.auth.hba.is_some()),
        PoolParameter::ListenAddresses => listen.address.ip().to_string(),
        PoolParameter::LoadBalanceMode => on(config.routing.policy.reads != Reads::Primary),
        // Nothing of it is there.
        PoolParameter::MemoryCacheEnabled | PoolParameter::UseWatchdog => on(false),
        PoolParameter::LogMinMessages => level(config.log.level).to_owned(),
        PoolParameter::NumInitChildren => pool.sizes.size.to_string(),
        PoolParameter::Port => listen.address.port().to_string(),
        PoolParameter::Ssl => on(listen.tls.mode != Mode::Disable),
        PoolParameter::UnixSocketDirectories => {
            listen.unix.as_ref().map_or_else(String::new, |path| path.display().to_string())
        }
    }
}

/// 0 is without end.
fn seconds(duration: Option<Duration>) -> String {
    duration.map_or(0, |duration| duration.as_secs()).to_string()
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug1",
        LogLevel::Trace => "debug5",
    }
}

//! Settings of pgpool.conf: what becomes of each, and how they are read from `PGPOOL_<NAME>` variables.

mod names;

pub(crate) use super::legacy::switch;
pub(crate) use names::{Known, Replacement, To, WATCHDOG, look_up};

use super::environment::Environment;
use super::legacy::{set, warn};
use super::problem::{Origin, Problem};
use super::raw::{Layer, Raw, quoted};

/// Adds what the `PGPOOL_...` variables say to `raw`.
pub(crate) fn read(environment: &Environment, raw: &mut Raw) {
    for name in environment.names("PGPOOL_") {
        let setting = name.strip_prefix("PGPOOL_").unwrap_or(name).to_ascii_lowercase();
        if matches!(setting.as_str(), "port" | "listen_addresses") {
            continue;
        }
        let why = match look_up(&setting) {
            Known::Mapped(to) => {
                map(environment, raw, name, to);
                continue;
            }
            Known::Replaced(Replacement { why, .. }) => why,
            Known::Unknown => "pgherd has nothing like it",
        };
        warn(raw, name, format!("has no effect: {why}"));
    }
    listen(environment, raw);
}

fn map(environment: &Environment, raw: &mut Raw, name: &str, to: To) {
    let Some(text) = environment.text(name, raw).map(str::trim) else { return };
    match to.value(text) {
        Some(mapped) => set(raw, name, to.key(), Layer::Legacy, mapped),
        None => {
            let message = format!("takes {}, got {}", to.takes(), quoted(text));
            raw.errors.push(Problem::at(Origin::Variable(name.to_owned()), message));
        }
    }
}

/// pgpool's address and port are one key here.
fn listen(environment: &Environment, raw: &mut Raw) {
    let address = environment.text("PGPOOL_LISTEN_ADDRESSES", raw);
    let port = environment.text("PGPOOL_PORT", raw);
    let (name, address, port) = match (address, port) {
        (None, None) => return,
        (Some(address), port) => ("PGPOOL_LISTEN_ADDRESSES", address, port.unwrap_or("5432")),
        (None, Some(port)) => ("PGPOOL_PORT", "*", port),
    };
    set(raw, name, "listen.address", Layer::Legacy, format!("{}:{port}", host_to_listen_on(address)));
}

/// What pgpool and PgBouncer call an address to listen on, as it stands before a port.
pub(crate) fn host_to_listen_on(address: &str) -> String {
    match address {
        "*" => "0.0.0.0".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
        other => other.to_owned(),
    }
}

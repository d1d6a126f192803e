//! Reads `[[pool.override]]`.

use std::ops::RangeInclusive;

use super::keys::OVERRIDE_FIELDS;
use super::raw::{Item, Value};
use super::resolve::{Fault, TIMEOUT};
use super::{PoolOverride, nearest, value};

/// How many connections a pool may have.
pub(crate) const SIZE: RangeInclusive<usize> = 1..=10_000;

/// Reads the list of overrides; each names a database or a user, and changes something.
pub(crate) fn read(value: &Value) -> Result<Vec<PoolOverride>, Vec<Fault>> {
    let Value::Array(items) = value else {
        let message = format!("takes tables, each under `[[pool.override]]`; got {}", value.shown());
        return Err(vec![Fault::new(message)]);
    };
    let (mut overrides, mut faults) = (Vec::<PoolOverride>::new(), Vec::new());
    for item in items {
        match one(item) {
            Ok(it) if overrides.iter().any(|o| o.database == it.database && o.user == it.user) => {
                faults.push(at(item, "is given twice for the same database and user"));
            }
            Ok(it) => overrides.push(it),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(overrides) } else { Err(faults) }
}

fn one(item: &Item) -> Result<PoolOverride, Fault> {
    let Value::Table(fields) = &item.value else {
        return Err(at(item, format!("takes a table, got {}", item.value.shown())));
    };
    let mut it = PoolOverride::default();
    let time = value::duration_or_off(TIMEOUT);
    for (name, field) in fields {
        let wrong = |why: String| at(field, format!("field `{name}` {why}"));
        match name.as_str() {
            "database" => it.database = Some(value::text(&field.value).map_err(wrong)?),
            "user" => it.user = Some(value::text(&field.value).map_err(wrong)?),
            "mode" | "pool_mode" => it.mode = Some(value::choice(&field.value).map_err(wrong)?),
            "size" | "pool_size" => it.size = Some(value::integer(SIZE)(&field.value).map_err(wrong)?),
            "query_wait_timeout" => it.query_wait_timeout = Some(time(&field.value).map_err(wrong)?),
            "query_timeout" => it.query_timeout = Some(time(&field.value).map_err(wrong)?),
            "transaction_timeout" => it.transaction_timeout = Some(time(&field.value).map_err(wrong)?),
            "idle_transaction_timeout" => {
                it.idle_transaction_timeout = Some(time(&field.value).map_err(wrong)?);
            }
            "client_idle_timeout" => it.client_idle_timeout = Some(time(&field.value).map_err(wrong)?),
            _ => {
                return Err(at(
                    field,
                    match nearest::word(name, OVERRIDE_FIELDS.iter().copied()) {
                        Some(near) => format!("unknown field `{name}`; did you mean `{near}`?"),
                        None => format!("unknown field `{name}`; it takes {}", OVERRIDE_FIELDS.join(", ")),
                    },
                ));
            }
        }
    }
    if it.database.is_none() && it.user.is_none() {
        return Err(at(item, "names neither a database nor a user"));
    }
    if it == (PoolOverride { database: it.database.clone(), user: it.user.clone(), ..Default::default() }) {
        return Err(at(item, format!("changes nothing; it takes {}", OVERRIDE_FIELDS.join(", "))));
    }
    Ok(it)
}

fn at(item: &Item, message: impl Into<String>) -> Fault {
    Fault { origin: Some(item.origin.clone()), message: message.into() }
}

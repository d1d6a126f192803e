//! Reads `[[pool.override]]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys::OVERRIDE_FIELDS;
use super::raw::{Item, Value};
use super::resolve::{Fault, TIMEOUT};
use super::tables::{self, at};
use super::{PoolOverride, value};

/// How many connections a pool may have.
pub(crate) const SIZE: RangeInclusive<usize> = 1..=10_000;
/// How many there may be where there may be none.
pub(crate) const OR_NONE: RangeInclusive<usize> = 0..=10_000;
/// How many all together may be; 0 for no bound.
pub(crate) const BOUND: RangeInclusive<usize> = 0..=1_000_000;

/// Reads the list of overrides; each names a database or a user, and changes something.
pub(crate) fn read(value: &Value) -> Result<Vec<PoolOverride>, Vec<Fault>> {
    let is_for_same =
        |one: &PoolOverride, other: &PoolOverride| one.database == other.database && one.user == other.user;
    tables::read(value, "pool.override", one, (is_for_same, "database and user"))
}

fn one(item: &Item, fields: &[(String, Item)]) -> Result<PoolOverride, Fault> {
    let mut it = PoolOverride::default();
    for (name, field) in fields {
        let wrong = |why: String| at(field, format!("field `{name}` {why}"));
        match name.as_str() {
            "database" => it.database = Some(value::text(&field.value).map_err(wrong)?),
            "user" => it.user = Some(value::text(&field.value).map_err(wrong)?),
            "hidden_state" => it.hidden_state = Some(value::choice(&field.value).map_err(wrong)?),
            "custom_parameters" => {
                it.custom_parameters = Some(value::custom_parameters(&field.value).map_err(wrong)?);
            }
            "mode" | "pool_mode" => it.mode = Some(value::choice(&field.value).map_err(wrong)?),
            "sequences" => it.sequences = Some(value::choice(&field.value).map_err(wrong)?),
            _ => match (number_of(name, &mut it), time_of(name)) {
                (Some((place, range)), _) => {
                    *place = Some(value::integer(range)(&field.value).map_err(wrong)?);
                }
                (None, Some(place)) => {
                    *place(&mut it) = Some(value::duration_or_off(TIMEOUT)(&field.value).map_err(wrong)?);
                }
                (None, None) => return Err(tables::unknown(name, field, OVERRIDE_FIELDS)),
            },
        }
    }
    if it.database.is_none() && it.user.is_none() {
        return Err(at(item, "names neither a database nor a user"));
    }
    if it.user.is_some() && it.max_db_connections.or(it.max_db_client_connections).is_some() {
        return Err(at(item, "the bounds of a database are for all its users: name no user beside them"));
    }
    if it.database.is_some() && it.max_user_connections.or(it.max_user_client_connections).is_some() {
        return Err(at(item, "the bounds of a user are for all databases: name no database beside them"));
    }
    if it == (PoolOverride { database: it.database.clone(), user: it.user.clone(), ..Default::default() }) {
        return Err(at(item, format!("changes nothing; it takes {}", OVERRIDE_FIELDS.join(", "))));
    }
    Ok(it)
}

/// Where a number belongs, and what it may be.
fn number_of<'a>(
    name: &str,
    it: &'a mut PoolOverride,
) -> Option<(&'a mut Option<usize>, RangeInclusive<usize>)> {
    Some(match name {
        "size" | "pool_size" => (&mut it.size, SIZE),
        "min_pool_size" => (&mut it.min_pool_size, OR_NONE),
        "reserve_pool_size" => (&mut it.reserve_pool_size, OR_NONE),
        "max_db_connections" => (&mut it.max_db_connections, BOUND),
        "max_user_connections" => (&mut it.max_user_connections, BOUND),
        "max_db_client_connections" => (&mut it.max_db_client_connections, BOUND),
        "max_user_client_connections" => (&mut it.max_user_client_connections, BOUND),
        _ => return None,
    })
}

/// A time-out, its place.
type TimePlace = fn(&mut PoolOverride) -> &mut Option<Option<Duration>>;

/// Where a time-out belongs.
fn time_of(name: &str) -> Option<TimePlace> {
    Some(match name {
        "server_lifetime" => |it| &mut it.server_lifetime,
        "query_wait_timeout" => |it| &mut it.query_wait_timeout,
        "query_timeout" => |it| &mut it.query_timeout,
        "transaction_timeout" => |it| &mut it.transaction_timeout,
        "idle_transaction_timeout" => |it| &mut it.idle_transaction_timeout,
        "client_idle_timeout" => |it| &mut it.client_idle_timeout,
        _ => return None,
    })
}

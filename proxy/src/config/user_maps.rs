//! Reads `[[auth.map]]`.

use super::keys::MAP_FIELDS;
use super::raw::{Item, Value};
use super::resolve::Fault;
use super::{Secret, UserMap, nearest, secret_file, value};

/// Reads the list of maps; each says as whom, or with which password, clients log in at the servers.
pub(crate) fn read(value: &Value) -> Result<Vec<UserMap>, Vec<Fault>> {
    let Value::Array(items) = value else {
        let message = format!("takes tables, each under `[[auth.map]]`; got {}", value.kind());
        return Err(vec![Fault::new(message)]);
    };
    let (mut maps, mut faults) = (Vec::<UserMap>::new(), Vec::new());
    for item in items {
        match one(item) {
            Ok(it) if maps.iter().any(|map| map.database == it.database && map.user == it.user) => {
                faults.push(at(item, "is given twice for the same database and user"));
            }
            Ok(it) => maps.push(it),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(maps) } else { Err(faults) }
}

fn one(item: &Item) -> Result<UserMap, Fault> {
    let Value::Table(fields) = &item.value else {
        return Err(at(item, format!("takes a table, got {}", item.value.kind())));
    };
    let mut it = UserMap { database: None, user: None, server_user: None, password: None };
    for (name, field) in fields {
        let wrong = |why: String| at(field, format!("field `{name}` {why}"));
        match name.as_str() {
            "database" => it.database = Some(value::text(&field.value).map_err(wrong)?),
            "user" => it.user = Some(value::text(&field.value).map_err(wrong)?),
            "server_user" => it.server_user = Some(value::text(&field.value).map_err(wrong)?),
            "server_password" | "server_password_file" if it.password.is_some() => {
                return Err(at(item, "gives server_password and server_password_file; keep one of them"));
            }
            "server_password" => it.password = Some(value::secret(&field.value).map_err(wrong)?),
            "server_password_file" => it.password = Some(from_file(&field.value).map_err(wrong)?),
            _ => {
                return Err(at(
                    field,
                    match nearest::word(name, MAP_FIELDS.iter().copied()) {
                        Some(near) => format!("unknown field `{name}`; did you mean `{near}`?"),
                        None => format!("unknown field `{name}`; it takes {}", MAP_FIELDS.join(", ")),
                    },
                ));
            }
        }
    }
    if it.server_user.is_none() && it.password.is_none() {
        return Err(at(item, "gives neither a server_user nor a server_password"));
    }
    if it.server_user.is_none() && it.user.is_none() {
        return Err(at(item, "gives a password without saying whose: name server_user or user"));
    }
    Ok(it)
}

fn from_file(value: &Value) -> Result<Secret, String> {
    secret_file::read(&value::path(value)?)
}

fn at(item: &Item, message: impl Into<String>) -> Fault {
    Fault { origin: Some(item.origin.clone()), message: message.into() }
}

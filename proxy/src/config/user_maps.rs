//! Reads `[[auth.map]]`.

use super::keys::MAP_FIELDS;
use super::raw::{Item, Value};
use super::resolve::Fault;
use super::tables::{self, at};
use super::{Secret, UserMap, secret_file, value};

/// Reads the list of maps; each says as whom, or with which password, clients log in at the servers.
pub(crate) fn read(value: &Value) -> Result<Vec<UserMap>, Vec<Fault>> {
    let is_for_same =
        |one: &UserMap, other: &UserMap| one.database == other.database && one.user == other.user;
    tables::read(value, "auth.map", one, (is_for_same, "database and user"))
}

fn one(item: &Item, fields: &[(String, Item)]) -> Result<UserMap, Fault> {
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
            _ => return Err(tables::unknown(name, field, MAP_FIELDS)),
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

//! Reads lists of tables, such as `[[pool.override]]`.

use super::nearest;
use super::raw::{Item, Value};
use super::resolve::Fault;

/// Reads each table of a list by `one`. No two may be for the same, as `is_for_same` says; `same` says of what. Errors show no values: a table
/// may hold passwords.
pub(super) fn read<T>(
    value: &Value,
    key: &str,
    one: impl Fn(&Item, &[(String, Item)]) -> Result<T, Fault>,
    (is_for_same, same): (impl Fn(&T, &T) -> bool, &str),
) -> Result<Vec<T>, Vec<Fault>> {
    let Value::Array(items) = value else {
        let message = format!("takes tables, each under `[[{key}]]`; got {}", value.kind());
        return Err(vec![Fault::new(message)]);
    };
    let (mut tables, mut faults) = (Vec::<T>::new(), Vec::new());
    for item in items {
        let Value::Table(fields) = &item.value else {
            faults.push(at(item, format!("takes a table, got {}", item.value.kind())));
            continue;
        };
        match one(item, fields) {
            Ok(table) if tables.iter().any(|other| is_for_same(other, &table)) => {
                faults.push(at(item, format!("is given twice for the same {same}")));
            }
            Ok(table) => tables.push(table),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(tables) } else { Err(faults) }
}

/// What is wrong with a table, or one of its fields.
pub(super) fn at(item: &Item, message: impl Into<String>) -> Fault {
    Fault { origin: Some(item.origin.clone()), message: message.into() }
}

/// There is no field of this name; `known` are those that there are.
pub(super) fn unknown(name: &str, field: &Item, known: &[&'static str]) -> Fault {
    let message = match nearest::word(name, known.iter().copied()) {
        Some(near) => format!("unknown field `{name}`; did you mean `{near}`?"),
        None => format!("unknown field `{name}`; it takes {}", known.join(", ")),
    };
    at(field, message)
}

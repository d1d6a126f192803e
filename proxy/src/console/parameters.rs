//! Run-time parameters of PostgreSQL that drivers ask for or set without being told to.

use pgherd_protocol::rows::{Column, Type};

/// The version of PgBouncer whose views these are.
pub(super) const PGBOUNCER: &str = "1.24.1";

const fn text(name: &'static str) -> Column {
    Column::new(name, Type::Text)
}

/// What SHOW says; a session is told the first of them at its login.
static PARAMETERS: [(Column, &str); 15] = [
    (text("server_encoding"), "UTF8"),
    (text("client_encoding"), "UTF8"),
    (text("DateStyle"), "ISO, MDY"),
    (text("IntervalStyle"), "postgres"),
    (text("TimeZone"), "GMT"),
    (text("integer_datetimes"), "on"),
    (text("standard_conforming_strings"), "on"),
    (text("is_superuser"), "off"),
    (text("in_hot_standby"), "off"),
    (text("default_transaction_read_only"), "off"),
    // Not told at login from here on.
    (text("default_transaction_isolation"), "read committed"),
    (text("search_path"), ""),
    (text("server_version"), ""),
    (text("transaction_isolation"), "read committed"),
    (text("transaction_read_only"), "off"),
];
const TOLD: usize = 10;

/// Functions that drivers call, as columns of their names.
static FUNCTIONS: [Column; 6] = [
    text("version"),
    text("current_database"),
    text("current_catalog"),
    text("current_schema"),
    text("current_user"),
    text("pg_advisory_unlock_all"),
];

/// The column of `SELECT 1`.
pub(super) static NUMBER: Column = Column::new("?column?", Type::Int4);

/// What SET may be asked to change that is nothing here.
const IGNORED: [&str; 22] = [
    "application_name",
    "bytea_output",
    "characteristics",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "names",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "time",
    "timezone",
    "transaction",
    "transaction_isolation",
];

/// The column that SHOW of a parameter has, by its name in small letters; none if it is not known.
pub(super) fn find(name: &str) -> Option<&'static Column> {
    let name = match name {
        "transaction isolation level" => "transaction_isolation",
        "time zone" => "timezone",
        name => name,
    };
    let found = PARAMETERS.iter().find(|(column, _)| column.name.eq_ignore_ascii_case(name));
    found.map(|(column, _)| column)
}

/// The value of the parameter that has this column, in this database of the console.
pub(super) fn value(column: &Column, database: &str) -> String {
    match column.name {
        "server_version" => server_version(database),
        name => {
            let found = PARAMETERS.iter().find(|(column, _)| column.name == name);
            found.map_or_else(String::new, |(_, value)| (*value).to_owned())
        }
    }
}

/// The column that SELECT of a function has, by its name in small letters.
pub(super) fn function(name: &str) -> Option<&'static Column> {
    FUNCTIONS.iter().find(|column| column.name == name)
}

/// What such a function gives this user in this database of the console.
pub(super) fn call(column: &Column, (database, user): (&str, &str)) -> String {
    match column.name {
        "version" => format!("PostgreSQL {}", server_version("pgherd")),
        "current_database" | "current_catalog" => database.to_owned(),
        "current_user" => user.to_owned(),
        _ => String::new(),
    }
}

/// Names and values of what a session is told at its login, but for the version.
pub(super) fn told() -> impl Iterator<Item = (&'static str, &'static str)> {
    PARAMETERS.iter().take(TOLD).map(|(column, value)| (column.name, *value))
}

/// True for what SET of is taken and does nothing.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// The version that is reported in this database: as tools expect it of PgBouncer, or as a PostgreSQL that drivers know.
pub(super) fn server_version(database: &str) -> String {
    match database {
        "pgbouncer" => format!("{PGBOUNCER}/bouncer"),
        _ => concat!("14.0 (pgherd ", env!("CARGO_PKG_VERSION"), ")").to_owned(),
    }
}

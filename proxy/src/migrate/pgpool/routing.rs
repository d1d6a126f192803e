//! Where reads go.

use std::collections::BTreeSet;

use super::Conf;
use crate::config::pgpool::{Known, look_up};
use crate::migrate::draft::{Draft, Fate, Table, fault, table_fault};
use crate::migrate::source::Setting;
use crate::migrate::toml_value::Toml;

/// Sets `[routing]`.
pub(super) fn migrate(conf: &mut Conf, draft: &mut Draft) {
    balancing(conf, draft);
    lag(conf, draft);
    for (name, key) in [
        ("read_only_function_list", "routing.read_functions"),
        ("write_function_list", "routing.write_functions"),
    ] {
        if let Some(setting) = conf.take_other(name, draft) {
            functions(&setting, key, draft);
        }
    }
    if let Some(setting) = conf.take_other("primary_routing_query_pattern_list", draft) {
        draft.must("routing", &setting, PATTERNS);
        draft.note_of("routing", "patterns that pgpool sent to the primary", &setting.value);
    }
    // In the order in which pgpool asks them.
    for (name, field) in [
        ("app_name_redirect_preference_list", "application"),
        ("database_redirect_preference_list", "database"),
        ("user_redirect_preference_list", "user"),
    ] {
        if let Some(setting) = conf.take_other(name, draft) {
            redirects(&setting, field, draft);
        }
    }
    if let Some(setting) = conf.take_other("disable_load_balance_on_write", draft) {
        let why = match setting.value.to_ascii_lowercase().as_str() {
            "off" => {
                "a transaction that may write is on the primary as a whole. Reads behind it see it; `consistency = \"eventual\"` has \
                      them go to any standby at once"
            }
            _ => {
                "a transaction that may write is on the primary as a whole, and reads behind it see it, also on standbys: \
                  `consistency = \"session\"`, the default; \"strong\" reads from the primary alone"
            }
        };
        draft.replaced("routing", &setting, why);
    }
}

const PATTERNS: &str = "pgherd knows by itself what must run on the primary. What else is to run there begins with a comment, /* pgherd: primary \
                        */, calls a function of `write_functions`, or is of a database, user or application with a `[[routing.override]]` \
                        that has `reads = \"primary\"` (docs/reads.md)";

fn balancing(conf: &mut Conf, draft: &mut Draft) {
    let Known::Mapped(to) = look_up("load_balance_mode") else { return };
    let setting = conf.take("load_balance_mode");
    let Some(on) = to.value(setting.as_ref().map_or("on", |it| it.value.trim())) else {
        conf.settings.extend(setting.map(|it| ("load_balance_mode".to_owned(), it)));
        return;
    };
    match setting {
        Some(setting) => draft.take(&setting, to.key(), &on),
        None => draft.set(to.key(), Toml::Text(on), "load_balance_mode = on by default"),
    }
    draft.remark(
        "routing",
        "`reads = \"standbys\"` keeps reads off the primary as long as a standby may be read.",
    );
}

fn lag(conf: &mut Conf, draft: &mut Draft) {
    let bytes = conf.take_other("delay_threshold", draft);
    let time = conf.take_other("delay_threshold_by_time", draft);
    let unit = |text: &str, unit: &str| {
        if text.bytes().all(|it| it.is_ascii_digit()) {
            return format!("{text}{unit}");
        }
        [("kB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")]
            .iter()
            .fold(text.to_owned(), |text, (its, ours)| text.replace(its, ours))
    };
    match (bytes, time) {
        (bytes, Some(time)) => {
            // Of 4.4 it is one of seconds, later of milliseconds; nobody means less than a tenth of a second.
            let is_of_seconds = time.value.parse().is_ok_and(|number: u32| number < 100);
            draft.take(
                &time,
                "routing.max_lag",
                &unit(time.value.trim(), if is_of_seconds { "s" } else { "ms" }),
            );
            if let Some(bytes) = bytes {
                draft.became(&bytes, Fate::Unused("delay_threshold_by_time counts".to_owned()));
            }
        }
        (Some(bytes), None) => draft.take(&bytes, "routing.max_lag", &unit(bytes.value.trim(), "B")),
        (None, None) => {}
    }
}

const UNLISTED: &str = "pgpool takes all other functions for ones that only read. Here a function counts by its volatility as well: declare it STABLE, or \
                        put it into `read_functions`";

/// Names of functions. pgpool's are expressions that must match as a whole.
fn functions(setting: &Setting, key: &str, draft: &mut Draft) {
    let entries = setting.value.split(',').map(str::trim).filter(|it| !it.is_empty());
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for entry in entries {
        match function(entry) {
            Some(name) if !names.contains(&name) => names.push(name),
            Some(_) => {}
            None => others.push(entry),
        }
    }
    if !others.is_empty() {
        let what = format!("write these as names, with * for any part: {}", others.join(", "));
        draft.note("routing", setting, &what);
        draft.todo("routing", &format!("{}: an expression there has no equal", setting.name));
    }
    let value = Toml::List(names);
    if value == Toml::List(Vec::new()) || fault(key, &value).is_some() {
        draft.became(setting, Fate::Todo("none of its names can be taken over".to_owned()));
        return;
    }
    draft.set(key, value, setting.name.as_str());
    draft.became(setting, Fate::Taken(key.to_owned()));
    if key == "routing.write_functions" {
        draft.note("routing", setting, UNLISTED);
    }
}

/// `get_.*` as `get_*`; none for an expression that says more.
fn function(entry: &str) -> Option<String> {
    let entry = entry.strip_prefix('^').unwrap_or(entry);
    let entry = entry.strip_suffix('$').unwrap_or(entry).replace(".*", "*").replace("\\.", ".");
    // Names have no schema here.
    let name = entry.rsplit_once('.').map_or(entry.as_str(), |(_, name)| name);
    let fits = |it: char| it.is_alphanumeric() || it == '_' || it == '*';
    (!name.is_empty() && name.chars().all(fits)).then(|| name.to_owned())
}

/// `mydb[0-4]:1(0.3),postgres:primary`
fn redirects(setting: &Setting, field: &'static str, draft: &mut Draft) {
    let mut seen = BTreeSet::new();
    let mut wrong = false;
    for entry in setting.value.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let pair = entry.rsplit_once(':').map(|(name, preference)| (name.trim(), preference.trim()));
        let Some((name, preference)) = pair.filter(|(name, _)| !name.is_empty()) else {
            wrong = true;
            continue;
        };
        let fields = vec![(field, Toml::Text(pattern(name))), ("prefer", Toml::Text(preference.to_owned()))];
        let shown: Vec<String> = fields.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let error = table_fault("routing.override", &shown).is_some();
        if error || !seen.insert(name.to_owned()) {
            wrong |= error;
            continue;
        }
        let remark = format!("{}: {entry}", setting.name);
        draft.tables.push(Table { key: "routing.override", fields, remark });
    }
    if wrong {
        draft.must(
            "routing",
            setting,
            "an entry of it is not `name:preference`: write it as a `[[routing.override]]`",
        );
    } else {
        draft.became(setting, Fate::Taken("routing.override".to_owned()));
    }
}

/// A name, or an expression that matches as a whole. pgpool's do not heed the case of letters, which a plain name does here.
fn pattern(name: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | ' ');
    if name.chars().all(is_plain) {
        return name.to_owned();
    }
    let name = name.strip_prefix('^').unwrap_or(name);
    let name = name.strip_suffix('$').unwrap_or(name);
    if name.contains('|') { format!("/^({name})$") } else { format!("/^{name}$") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_are_names_become_names() {
        for (entry, name) in [
            ("nextval", Some("nextval")),
            ("^get_.*$", Some("get_*")),
            (".*_seq", Some("*_seq")),
            ("public.f", Some("f")),
            ("public\\.f", Some("f")),
            ("f[0-9]", None),
            ("a|b", None),
            ("", None),
        ] {
            assert_eq!(function(entry).as_deref(), name, "{entry}");
        }
    }

    #[test]
    fn names_of_databases_are_matched_as_a_whole() {
        for (name, expected) in [
            ("postgres", "postgres"),
            ("mydb[0-4]", "/^mydb[0-4]$"),
            ("^my.*$", "/^my.*$"),
            ("a|b", "/^(a|b)$"),
            ("my-db", "my-db"),
        ] {
            assert_eq!(pattern(name), expected);
        }
    }
}

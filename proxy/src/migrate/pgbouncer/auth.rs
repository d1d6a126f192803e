//! `auth_...`, `admin_users`: who is let in.

use std::path::Path;

use super::Ini;
use crate::migrate::draft::{Draft, Fate};
use crate::migrate::source::Setting;
use crate::migrate::toml_value::Toml;

const RULES: &str = "write rules in the format of pg_hba.conf, and name the file as `hba_file`: without it everybody is asked for a password \
                     (docs/authentication.md, Rules)";

/// Sets `[auth]` and `[admin]`.
pub(super) fn migrate(ini: &mut Ini, hba: Option<&Path>, draft: &mut Draft) {
    let has_rules = kind(ini, draft) || hba.is_some();
    let rules = ini.take("auth_hba_file");
    match (hba, rules) {
        (Some(path), rules) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            draft.set("auth.hba_file", Toml::Text(path.display().to_string()), "--hba");
            if let Some(rules) = rules {
                draft.became(&rules, Fate::Unused("--hba counts".to_owned()));
            }
        }
        (None, Some(rules)) if has_rules => file(ini, &rules, "auth.hba_file", draft),
        (None, Some(rules)) => draft.became(&rules, Fate::Unused("auth_type is not hba".to_owned())),
        (None, None) => {}
    }
    if let Some(setting) = ini.take("auth_ident_file") {
        if has_rules {
            file(ini, &setting, "auth.ident_file", draft);
        } else {
            draft.became(&setting, Fate::Unused("auth_type is not hba".to_owned()));
        }
    }
    if let Some(setting) = ini.take("auth_file") {
        file(ini, &setting, "auth.userlist_file", draft);
        draft.note("auth", &setting, LIST);
    }
    query(ini, draft);
    admin(ini, draft);
}

const LIST: &str = "who is in the list is checked against it and not against the servers. Where these can be asked it is not needed, and a password that is \
                    changed there counts at once";

fn file(ini: &Ini, setting: &Setting, key: &'static str, draft: &mut Draft) {
    let path = ini.file(&setting.value);
    draft.take_path(setting, key, &path);
}

/// Sees to `auth_type`; says if it is by rules.
fn kind(ini: &mut Ini, draft: &mut Draft) -> bool {
    let Some(setting) = ini.take("auth_type") else { return false };
    match setting.value.to_ascii_lowercase().as_str() {
        "hba" => {
            draft.became(&setting, Fate::Taken("auth.hba_file".to_owned()));
            return true;
        }
        "md5" => draft.became(&setting, Fate::Default),
        "scram-sha-256" => {
            let why = "a client is asked for what is stored of its password: SCRAM-SHA-256 or md5".to_owned();
            draft.became(&setting, Fate::Needless(why));
        }
        "pam" | "ldap" | "gss" => draft.must(
            "auth",
            &setting,
            "has no equal: clients show a password, a certificate, or who they are on this machine",
        ),
        _ => draft.must("auth", &setting, RULES),
    }
    false
}

fn query(ini: &mut Ini, draft: &mut Draft) {
    let (query, user, database) = (ini.take("auth_query"), ini.take("auth_user"), ini.take("auth_dbname"));
    let Some(query) = query.filter(|_| user.is_some()) else {
        let why =
            "`monitor.user` reads what is stored of passwords (`auth.query` is for a query of your own)";
        for setting in [user, database].into_iter().flatten() {
            draft.replaced("auth", &setting, why);
        }
        return;
    };
    draft.take(&query, "auth.query", &query.value);
    if let Some(user) = user {
        draft.take(&user, "auth.query_user", &user.value);
        draft.note("auth", &user, "its password stood in auth_file; write it into a file of its own, and name that as `query_password_file`");
        draft.todo("auth", "query_password_file: the password of auth_user");
    }
    if let Some(database) = database {
        draft.take(&database, "auth.query_database", &database.value);
    }
}

fn admin(ini: &mut Ini, draft: &mut Draft) {
    let list = |setting: &Setting| -> Vec<String> {
        setting.value.split([',', ' ', '\t']).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    if let Some(setting) = ini.take("admin_users") {
        let mut users = list(&setting);
        // pgherd's own commands log in as it.
        if !users.iter().any(|user| user == "repmgr") {
            users.push("repmgr".to_owned());
        }
        draft.set("admin.users", Toml::List(users), setting.shown());
        let added =
            "repmgr, or who is monitor.user, is among them for pgherd's own commands (docs/commands.md).";
        draft.remark("admin", added);
        draft.todo("admin", added);
        draft.became(&setting, Fate::Taken("admin.users".to_owned()));
    }
    if let Some(setting) = ini.take("stats_users") {
        draft.set("admin.stats_users", Toml::List(list(&setting)), setting.shown());
        draft.became(&setting, Fate::Taken("admin.stats_users".to_owned()));
    }
}

//! The checks of the servers, and what is done when one is lost.

use super::{Conf, defaults};
use crate::migrate::draft::{Draft, Fate};
use crate::migrate::source::Setting;
use crate::migrate::toml_value::Toml;

/// What the role must be able to do.
const ROLE: &str = "user: it needs more than pgpool's checks, a superuser as a rule, since it reads the verifiers of the clients' \
                    passwords and takes part in a failover (docs/operate.md, What the servers need)";

/// Sets `[monitor]`: pgpool logs in as two roles, pgherd as one.
pub(super) fn monitor(conf: &mut Conf, draft: &mut Draft) {
    let users = ["sr_check_user", "health_check_user"].map(|name| conf.take_other(name, draft));
    let passwords = ["sr_check_password", "health_check_password"].map(|name| conf.take_other(name, draft));
    let database = conf.take("sr_check_database");
    let [sr_user, health_user] = users;
    let [sr_password, health_password] = passwords;
    let (user, password, others) = match sr_user {
        Some(user) => (Some(user), sr_password, [health_user, health_password]),
        None => (health_user, health_password, [None, sr_password]),
    };
    for setting in others.into_iter().flatten() {
        draft.became(&setting, Fate::Replaced("pgherd watches as `monitor.user` alone".to_owned()));
    }
    draft.todo("monitor", ROLE);
    draft
        .remark("monitor", ROLE.trim_start_matches("user: ").replacen("it needs", "The role needs", 1) + ".");
    let Some(user) = user else {
        draft.remark(
            "monitor",
            "repmgr's role is taken where none is named: `user`, and `password_file` for its password.",
        );
        if let Some(database) = database {
            draft.became(&database, Fate::Replaced("pgherd watches in `monitor.database`".to_owned()));
        }
        return;
    };
    draft.take(&user, "monitor.user", &user.value);
    secret(password.as_ref(), draft);
    where_it_watches(conf, database, draft);
}

/// Its tables are where repmgr keeps them; where there is no repmgr, they are nowhere.
fn where_it_watches(conf: &Conf, database: Option<Setting>, draft: &mut Draft) {
    if uses_repmgr(conf) {
        if let Some(database) = database {
            draft.became(&database, Fate::Replaced("repmgr's database is `monitor.database`".to_owned()));
        }
        draft.remark("monitor", "`database` is repmgr's: \"repmgr\", unless it has another name.");
        return;
    }
    match database {
        Some(database) => draft.take(&database, "monitor.database", &database.value),
        None => {
            draft.set("monitor.database", Toml::Text("postgres".to_owned()), "sr_check_database by default");
        }
    }
    draft.remark("monitor", "`database` is the one in which repmgr's tables are, if there is a repmgr.");
}

fn secret(password: Option<&Setting>, draft: &mut Draft) {
    let Some(setting) = password else {
        draft.todo(
            "monitor",
            "password_file: pgpool had the role's password in pool_passwd, or none; write it into a file",
        );
        draft.remark(
            "monitor",
            "password_file = \"/etc/pgherd/monitor.password\" (pgpool has it in pool_passwd)",
        );
        return;
    };
    if setting.value.starts_with("AES") {
        let what =
            "it is encrypted with pgpool's key: write it into a file, and name that as `password_file`";
        draft.must("monitor", setting, what);
        return;
    }
    match draft.password("monitor", &setting.value) {
        Some(path) => {
            draft.set("monitor.password_file", Toml::Text(path), setting.shown());
            draft.became(setting, Fate::Taken("monitor.password_file".to_owned()));
        }
        None => draft.must(
            "monitor",
            setting,
            "write it into a file, and name that as `password_file` (--output does it)",
        ),
    }
}

/// True if what promotes or recovers servers at pgpool's bidding calls repmgr.
fn uses_repmgr(conf: &Conf) -> bool {
    let commands =
        ["failover_command", "follow_primary_command", "failback_command", "recovery_1st_stage_command"];
    commands
        .iter()
        .filter_map(|name| conf.settings.get(*name))
        .any(|setting| setting.value.contains("repmgr"))
}

const OF_REPMGR: &str = "repmgr promotes, standbys follow, and an old primary is fenced and rewound, by pgherd over ssh: set `key` and \
                         `known_hosts` in failover.ssh (docs/servers.md)";
const OF_OTHERS: &str = "pgherd promotes by pg_promote() and has the others follow, over SQL. With repmgr and ssh (`executor = \"ssh\"`) it fences and \
                         rewinds an old primary, too; with `executor = \"command\"` programs of your own do it. pgpool's scripts can't be \
                         taken as they are: their places are others (docs/servers.md)";
const OF_NOBODY: &str = "pgpool promotes nobody without a failover_command. `mode = \"automatic\"` has pgherd promote a standby when the primary is \
                         lost (docs/failover.md)";

/// Sets `[failover]`.
pub(super) fn migrate(conf: &mut Conf, servers: usize, draft: &mut Draft) {
    let repmgr = uses_repmgr(conf);
    let command = conf.take_other("failover_command", draft);
    match &command {
        None => {
            draft.set("failover.mode", Toml::Text("manual".to_owned()), "failover_command is not set");
            draft.remark("failover", OF_NOBODY);
        }
        Some(command) if repmgr => {
            draft.replaced("failover", command, OF_REPMGR);
            if servers > 1 {
                draft.todo(
                    "failover.ssh",
                    "key, known_hosts: how pgherd reaches the servers as their user postgres",
                );
            }
        }
        Some(command) => {
            draft.set("failover.executor", Toml::Text("sql".to_owned()), "");
            draft.must("failover", command, OF_OTHERS);
        }
    }
    for name in ["follow_primary_command", "failback_command"] {
        let Some(setting) = conf.take_other(name, draft) else { continue };
        match &command {
            Some(_) if repmgr => draft.replaced("failover", &setting, OF_REPMGR),
            Some(_) => draft.replaced("failover", &setting, OF_OTHERS),
            None => draft.replaced(
                "failover",
                &setting,
                "standbys follow the primary that pgherd promotes; see `failover.executor`",
            ),
        }
    }
    if let Some(setting) = conf.take("use_watchdog") {
        let is_off = defaults::is_default("use_watchdog", &setting.value);
        conf.settings.insert("use_watchdog".to_owned(), setting);
        if !is_off {
            draft.todo(
                "failover",
                "there is no watchdog and no virtual address: run one pgherd where something starts it again, or several with \
                 etcd.endpoints, behind an address that moves (docs/migrate.md, The watchdog)",
            );
        }
    }
}

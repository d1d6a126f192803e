//! `backend_hostname0` and its like: the servers.

use std::collections::{BTreeMap, BTreeSet};

use super::Conf;
use crate::migrate::draft::{Draft, Fate};
use crate::migrate::servers::{self, Server};
use crate::migrate::source::Setting;
use crate::migrate::toml_value::Toml;

const MODES: &str = "pgherd is for one primary and standbys that replicate by streaming. Servers that pgpool keeps equal, by sending \
                     statements to all or by logical replication, are served by no pgherd: make standbys of them first";

/// What pgpool knows of a server besides its address.
const FIELDS: [&str; 4] = ["backend_port", "backend_weight", "backend_data_directory", "backend_flag"];

/// Sets `backends.nodes`; says how many there are.
pub(super) fn migrate(conf: &mut Conf, draft: &mut Draft) -> usize {
    mode(conf, draft);
    let hosts = conf.take_numbered("backend_hostname");
    let mut fields: BTreeMap<&str, BTreeMap<u32, Setting>> =
        FIELDS.into_iter().map(|name| (name, conf.take_numbered(name))).collect();
    let (mut nodes, mut addresses) = (Vec::new(), BTreeSet::new());
    for (id, host) in hosts {
        let given: BTreeMap<&str, Setting> =
            fields.iter_mut().filter_map(|(name, all)| Some((*name, all.remove(&id)?))).collect();
        match node(id, &host, &given, draft) {
            Ok(server) if !addresses.insert(server.address()) => {
                draft.must("backends", &host, "is the same server as another one: it is left out");
            }
            Ok(server) => {
                draft.became(&host, Fate::Taken("backends.nodes".to_owned()));
                nodes.push(server.entry(id));
            }
            Err(why) => draft.must("backends", &host, &why),
        }
        given.values().for_each(|field| draft.became(field, Fate::Taken("backends.nodes".to_owned())));
    }
    for setting in fields.into_values().flat_map(BTreeMap::into_values) {
        draft.became(&setting, Fate::Unused("there is no backend_hostname with this number".to_owned()));
    }
    let count = nodes.len();
    servers::write(nodes, "", "pgpool.conf names no server", draft);
    count
}

/// One server.
fn node(
    id: u32,
    host: &Setting,
    given: &BTreeMap<&str, Setting>,
    draft: &mut Draft,
) -> Result<Server, String> {
    let text =
        |name: &str| given.get(name).map(|setting| setting.value.trim()).filter(|text| !text.is_empty());
    let mut server = Server::new(&host.value, text("backend_port"))?;
    if host.value.is_empty() || host.value.starts_with('/') {
        draft.note(
            "backends",
            host,
            "pgherd connects over TCP, here to this machine: other servers connect to the primary, too",
        );
    }
    server.weight = text("backend_weight").filter(|weight| *weight != "1").map(str::to_owned);
    match text("backend_data_directory") {
        Some(directory) if directory.contains(':') => {
            return Err(
                "write the server by hand, as a table: there is a colon in its data directory".to_owned()
            );
        }
        directory => server.directory = directory.map(str::to_owned),
    }
    for flag in text("backend_flag").into_iter().flat_map(|flags| flags.split('|')) {
        match flag.trim().to_ascii_uppercase().as_str() {
            "DISALLOW_TO_FAILOVER" => server.is_kept_from_promotion = true,
            "ALWAYS_PRIMARY" => {
                let why =
                    "ALWAYS_PRIMARY has no equal: who takes writes is the primary, as the servers say it";
                if let Some(setting) = given.get("backend_flag") {
                    draft.note("backends", setting, why);
                }
            }
            _ => {}
        }
    }
    match crate::migrate::draft::fault("backends.nodes", &Toml::List(vec![server.entry(id)])) {
        Some(why) => Err(format!("is left out: {why}")),
        None => Ok(server),
    }
}

fn mode(conf: &mut Conf, draft: &mut Draft) {
    if let Some(setting) = conf.take("backend_clustering_mode") {
        match setting.value.trim().to_ascii_lowercase().as_str() {
            "streaming_replication" => draft.became(&setting, Fate::Default),
            "raw" => {
                draft.replaced(
                    "backends",
                    &setting,
                    "each server is asked what it is; reads go where `routing.reads` says",
                );
            }
            _ => draft.must("backends", &setting, MODES),
        }
    }
    for name in ["replication_mode", "parallel_mode", "native_replication_mode"] {
        if conf.is_on(name)
            && let Some(setting) = conf.take(name)
        {
            draft.must("backends", &setting, MODES);
        } else if let Some(setting) = conf.take(name) {
            draft.became(&setting, Fate::Default);
        }
    }
    for name in ["master_slave_mode", "master_slave_sub_mode"] {
        let Some(setting) = conf.take(name) else { continue };
        match setting.value.trim().to_ascii_lowercase().as_str() {
            "slony" | "logical" => draft.must("backends", &setting, MODES),
            _ => draft.became(&setting, Fate::Default),
        }
    }
}

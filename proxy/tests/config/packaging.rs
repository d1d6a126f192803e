//! The configuration that Debian's package installs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{check, lines};

#[test]
fn the_packaged_configuration_needs_no_more_than_its_password() {
    let packaged = include_str!("../../../packaging/debian/pgherd.toml");
    let mut password = tempfile::NamedTempFile::new().unwrap();
    password.write_all(b"secret\n").unwrap();
    let file = packaged.replace("/etc/pgherd/repmgr.password", password.path().to_str().unwrap());
    let (json, code) = check(&file, &[]);
    assert_eq!((code, lines(&json, "warnings")), (0, Vec::new()), "{json:#}");
    let (json, code) = check(packaged, &[]);
    let errors = lines(&json, "errors");
    assert_eq!(code, 1, "the file is not there before somebody has made it");
    assert!(errors.iter().all(|error| error.contains("/etc/pgherd/repmgr.password")), "{errors:#?}");
}

/// The variables of pgherd's services in a compose file, and those that they take from elsewhere in it.
fn variables(compose: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let anchored = compose.split("\nx-lease: &lease\n").skip(1).flat_map(|block| indented(block, "  "));
    found.extend(anchored);
    for service in compose.split("\n  pgherd").skip(1) {
        let Some(environment) = service.split("    environment:\n").nth(1) else { continue };
        found.extend(indented(environment, "      ").filter(|(name, _)| *name != "<<"));
    }
    found.iter_mut().for_each(|(_, value)| *value = value.trim_matches('"'));
    found
}

/// The lines of a block, as names and values.
fn indented<'a>(block: &'a str, by: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
    block.lines().map_while(move |line| line.strip_prefix(by)).map(|line| line.split_once(": ").unwrap())
}

/// The variables of pgherd's container in a manifest for Kubernetes.
fn variables_of_container(manifest: &str) -> Vec<(&str, &str)> {
    let container = manifest.split("\n        - name: pgherd\n").nth(1).unwrap();
    let environment = container.split("          env:\n").nth(1).unwrap();
    environment
        .lines()
        .map_while(|line| line.strip_prefix("            - { name: ")?.strip_suffix(" }"))
        .map(|line| line.split_once(", value: ").unwrap())
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect()
}

/// As compose does where nobody has set a variable.
fn with_defaults(text: &str) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        filled += variable.split_once(":-").map_or("", |(_, default)| default);
        filled += rest;
    }
    filled
}

/// Checks a file's variables, whose secrets stand elsewhere.
fn are_right(file: &Path, variables: fn(&str) -> Vec<(&str, &str)>) {
    let keys = tempfile::tempdir().unwrap();
    for (name, text) in [("repmgr", "secret\n"), ("ssh_key", ""), ("known_hosts", "")] {
        fs::write(keys.path().join(name), text).unwrap();
    }
    let keys = format!("{}/", keys.path().display());
    let text = fs::read_to_string(file).unwrap().replace("/run/secrets/", &keys).replace("/keys/", &keys);
    let text = with_defaults(&text);
    let three = include_str!("../../../compose/three.yml").replace("/keys/", &keys);
    let mut variables = variables(&text);
    if !variables.iter().any(|(name, _)| *name == "PG_BACKEND_NODE_LIST") {
        // It is laid over another file, which has the rest.
        variables.splice(0..0, self::variables(&three));
    }
    assert!(variables.iter().any(|(name, _)| *name == "PG_BACKEND_NODE_LIST"), "{}", file.display());
    let (json, code) = check("", &variables);
    assert_eq!((code, lines(&json, "warnings")), (0, Vec::new()), "{}: {json:#}", file.display());
}

#[test]
fn the_variables_of_compose_files_and_manifests_are_right() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../compose"));
    let is_compose = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yml");
    let files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).filter(is_compose).collect();
    assert!(files.len() > 9, "{files:?}");
    files.iter().for_each(|file| are_right(file, variables));
    are_right(&directory.join("kubernetes/herd.yml"), variables_of_container);
}

/// What the unit of systemd says of each of these.
const UNIT: &[&str] = &[
    "User=pgherd",
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateMounts=yes",
    "PrivateTmp=yes",
    "ProcSubset=pid",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "UMask=0077",
    "WatchdogSec=15s",
];

#[test]
fn the_unit_and_the_containers_may_do_little() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd/pgherd.service"));
    let unit = fs::read_to_string(path).unwrap();
    for line in UNIT {
        assert!(unit.lines().any(|it| it == *line), "{line}");
    }
    // Where systemd is, it says what it thinks of it: in tenths of its points, of which the fewest are the best.
    match Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=17"])
        .arg(path)
        .output()
    {
        Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
    let image = include_str!("../../../images/pgherd/Dockerfile");
    assert!(image.contains("\nFROM scratch\n") && image.contains("\nUSER 50010:50010\n"), "{image}");
    let mut services = 0;
    for file in fs::read_dir(path.ancestors().nth(3).unwrap().join("compose")).unwrap() {
        let Ok(text) = fs::read_to_string(file.unwrap().path()) else { continue };
        let is_stack = text.contains("docker stack deploy");
        for service in text.split("\n\n").filter(|it| it.contains("}pgherd:${PGHERD_TAG")) {
            services += 1;
            for line in ["read_only: true", "cap_drop: [ALL]", "security_opt: [\"no-new-privileges:true\"]"] {
                let is_there = service.contains(line) || (is_stack && line.starts_with("security_opt"));
                assert!(is_there, "{line} is missing in\n{service}");
            }
        }
    }
    assert!(services > 4, "{services}");
}

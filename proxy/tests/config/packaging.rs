//! The configuration that Debian's package installs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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

/// The variables of pgherd's service in a compose file.
fn variables(compose: &str) -> Vec<(&str, &str)> {
    let service = compose.split("\n  pgherd:\n").nth(1).unwrap();
    let environment = service.split("    environment:\n").nth(1).unwrap();
    environment
        .lines()
        .map_while(|line| line.strip_prefix("      "))
        .map(|line| line.split_once(": ").unwrap())
        .collect()
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

/// Checks a file's variables, whose secrets stand elsewhere.
fn are_right(file: &Path, variables: fn(&str) -> Vec<(&str, &str)>) {
    let keys = tempfile::tempdir().unwrap();
    for (name, text) in [("repmgr", "secret\n"), ("ssh_key", ""), ("known_hosts", "")] {
        fs::write(keys.path().join(name), text).unwrap();
    }
    let keys = format!("{}/", keys.path().display());
    let text = fs::read_to_string(file).unwrap().replace("/run/secrets/", &keys).replace("/keys/", &keys);
    let variables = variables(&text);
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
    assert!(files.len() > 3, "{files:?}");
    files.iter().for_each(|file| are_right(file, variables));
    are_right(&directory.join("kubernetes/herd.yml"), variables_of_container);
}

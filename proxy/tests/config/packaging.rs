//! The configuration that Debian's package installs.

use std::io::Write as _;

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

#[test]
fn the_variables_of_every_compose_file_are_right() {
    let keys = tempfile::tempdir().unwrap();
    for (name, text) in [("repmgr", "secret\n"), ("ssh_key", ""), ("known_hosts", "")] {
        std::fs::write(keys.path().join(name), text).unwrap();
    }
    let is_compose = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "yml");
    let keys = keys.path().to_str().unwrap();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose");
    let files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).filter(is_compose).collect();
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let compose = std::fs::read_to_string(&file).unwrap();
        let compose = compose.replace("/keys/", &format!("{keys}/")).replace("/run/secrets/", &format!("{keys}/"));
        let variables = variables(&compose);
        assert!(variables.iter().any(|(name, _)| *name == "PG_BACKEND_NODE_LIST"), "{}", file.display());
        let (json, code) = check("", &variables);
        assert_eq!((code, lines(&json, "warnings")), (0, Vec::new()), "{}: {json:#}", file.display());
    }
}

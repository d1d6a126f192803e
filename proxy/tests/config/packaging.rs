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

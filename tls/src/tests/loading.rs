//! What is wrong with settings, and what they lead to.

use std::fs;
use std::path::PathBuf;

use super::authority::{authority, server};
use crate::{Attempt, Authorities, Failure, LoadError, Mode, ServerTls, Settings, Subject, is_refusal};

fn refused(settings: Settings) -> LoadError {
    ServerTls::load(settings).unwrap_err()
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = authority("ca");
    let pair = server("pgherd", &[], &ca);
    let (certificate, key) = (file("cert.pem", &pair.pem()), file("key.pem", &pair.key_pem()));
    let other_key = file("other.pem", &ca.key_pem());
    let empty = file("empty.pem", "");
    let encrypted = file(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = PathBuf::from("/nonexistent/ca.pem");
    let with_ca = |mode, path: &PathBuf| Settings {
        mode,
        ca: Some(Authorities::File(path.clone())),
        ..Settings::default()
    };
    let with_key = |certificate: Option<&PathBuf>, key: Option<&PathBuf>| Settings {
        certificate: certificate.cloned(),
        key: key.cloned(),
        ..Settings::default()
    };

    for (settings, subject, part) in [
        (Settings { mode: Mode::VerifyCa, ..Settings::default() }, Subject::Mode, "backends.tls.ca"),
        (with_ca(Mode::Require, &missing), Subject::Ca, "/nonexistent/ca.pem"),
        (with_ca(Mode::Require, &empty), Subject::Ca, "empty.pem"),
        (
            Settings { mode: Mode::Require, ca: Some(Authorities::System), ..Settings::default() },
            Subject::Ca,
            "verify-full",
        ),
        (with_key(Some(&certificate), None), Subject::Certificate, "backends.tls.key"),
        (with_key(None, Some(&key)), Subject::Key, "backends.tls.cert"),
        (with_key(Some(&certificate), Some(&other_key)), Subject::Key, "is not the key of"),
        (with_key(Some(&certificate), Some(&encrypted)), Subject::Key, "an encrypted key"),
        (with_key(Some(&certificate), Some(&certificate)), Subject::Key, "cert.pem"),
        (with_key(Some(&key), Some(&key)), Subject::Certificate, "key.pem"),
    ] {
        let error = refused(settings);
        assert_eq!(error.subject, subject, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    ServerTls::load(with_key(Some(&certificate), Some(&key))).unwrap();
    // What is switched off is not looked at.
    ServerTls::load(with_ca(Mode::Disable, &missing)).unwrap();
}

#[test]
fn a_certificate_of_version_1_can_be_shown() {
    let directory = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let pair = server("pgherd", &[], &ca).version_1(&ca.key);
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    fs::write(&certificate, pair.pem()).unwrap();
    fs::write(&key, pair.key_pem()).unwrap();
    ServerTls::load(Settings { certificate: Some(certificate), key: Some(key), ..Settings::default() })
        .unwrap();
}

#[test]
fn connections_are_tried_in_the_order_of_libpq() {
    let path = |mode: Mode, failures: &[Failure]| {
        let mut tried = vec![mode.first()];
        for failure in failures {
            tried.extend(mode.after(tried[tried.len() - 1], *failure));
        }
        tried
    };
    let (plain, tls) = (Attempt::Plain, Attempt::Tls);
    let (handshake, login) = (Failure::Handshake, Failure::Login);
    assert_eq!(path(Mode::Disable, &[login]), [plain]);
    assert_eq!(path(Mode::Allow, &[login, login]), [plain, tls]);
    assert_eq!(path(Mode::Prefer, &[handshake, login]), [tls, plain]);
    assert_eq!(path(Mode::Prefer, &[login, login]), [tls, plain]);
    for mode in [Mode::Require, Mode::VerifyCa, Mode::VerifyFull] {
        assert_eq!(path(mode, &[handshake]), [tls]);
        assert_eq!(path(mode, &[login]), [tls]);
        assert!(!mode.goes_on_without());
    }
    assert!(is_refusal(b"28000") && is_refusal(b"28P01") && !is_refusal(b"57P03"));
}

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pgherd_testkit::{Authority, Identity, Purpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

/// Settings with files in a directory of their own.
struct Files {
    directory: tempfile::TempDir,
    authority: Authority,
    settings: ListenTls,
}

impl Files {
    fn new() -> Self {
        let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new("authority").unwrap());
        let settings = ListenTls {
            mode: Mode::Allow,
            certificate: Some(directory.path().join("server.crt")),
            key: Some(directory.path().join("server.key")),
            client_ca: None,
            client_crl: None,
            min_version: TlsVersion::V12,
        };
        let files = Self { directory, authority, settings };
        files.put(&files.authority.server(&["localhost"]).unwrap());
        files
    }

    fn put(&self, identity: &Identity) {
        identity.write(self.directory.path(), "server").unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn fault(&self) -> (&'static str, String) {
        let TlsFault { key, message } = Acceptor::load(&self.settings).unwrap_err();
        (key, message.replace(&self.directory.path().display().to_string(), "DIR"))
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_key() {
    let mut files = Files::new();
    let good = files.settings.clone();
    let text = |path: &Option<PathBuf>| std::fs::read_to_string(path.as_deref().unwrap()).unwrap();
    let (certificate, key) = (text(&good.certificate), text(&good.key));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (file, content, expected) in [
        ("server.crt", "", ("listen.tls.cert", "DIR/server.crt holds no certificate in PEM")),
        ("server.crt", &key, ("listen.tls.cert", "DIR/server.crt holds no certificate in PEM")),
        (
            "server.crt",
            "-----BEGIN CERTIFICATE-----\n?",
            ("listen.tls.cert", "DIR/server.crt is not valid PEM"),
        ),
        (
            "server.crt",
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            ("listen.tls.cert", "holds a certificate that cannot be understood"),
        ),
        ("server.key", &certificate, ("listen.tls.key", "DIR/server.key holds no private key in PEM")),
        (
            "server.key",
            &encrypted,
            (
                "listen.tls.key",
                "DIR/server.key holds an encrypted key: pgherd takes it without a passphrase only",
            ),
        ),
        (
            "server.key",
            &files.authority.server(&["x"]).unwrap().key_pem(),
            ("listen.tls.key", "is not the key of the certificate in listen.tls.cert"),
        ),
    ] {
        let whole = text(&Some(files.directory.path().join(file)));
        files.file(file, content);
        assert_eq!(files.fault(), (expected.0, expected.1.to_owned()));
        files.file(file, &whole);
    }
    files.settings.certificate = Some(Path::new("/nowhere/at/all").to_owned());
    let missing = "/nowhere/at/all can't be read: No such file or directory (os error 2)";
    assert_eq!(files.fault(), ("listen.tls.cert", missing.to_owned()));
    files.settings = ListenTls { client_ca: Some(files.file("empty", "")), ..good.clone() };
    assert_eq!(files.fault(), ("listen.tls.client_ca", "DIR/empty holds no certificate in PEM".to_owned()));
    let ca = files.file("ca", &files.authority.pem());
    files.settings = ListenTls { client_ca: Some(ca.clone()), client_crl: Some(ca), ..good };
    let no_list = "DIR/ca holds no list of revoked certificates in PEM";
    assert_eq!(files.fault(), ("listen.tls.client_crl", no_list.to_owned()));
}

#[test]
fn another_certificate_is_shown_when_it_is_put_into_force() {
    let files = Files::new();
    let tls = ClientTls::new(&files.settings).unwrap();
    let shown = || tls.acceptor().map(|acceptor| acceptor.certificate.clone());
    let first = shown().unwrap();
    let next = files.authority.server(&["localhost"]).unwrap();
    files.put(&next);
    assert_eq!(shown().unwrap(), first, "not before it is told to");
    let reload = || tls.replace(Acceptor::load(&files.settings).unwrap());
    reload();
    let second = shown().unwrap();
    assert_eq!(*second, *CertificateDer::from_pem_slice(next.pem().as_bytes()).unwrap());
    tls.replace(Acceptor::load(&ListenTls { mode: Mode::Disable, ..files.settings.clone() }).unwrap());
    assert!(shown().is_none() && tls.expires_at().is_none());
}

#[test]
fn the_end_of_a_certificates_life_is_known_and_whom_it_names() {
    let files = Files::new();
    let tls = ClientTls::new(&files.settings).unwrap();
    assert!(tls.expires_at().unwrap() > SystemTime::now() + Duration::from_secs(1_000_000_000));
    files.put(&files.authority.expired("localhost", Purpose::Server).unwrap());
    tls.replace(Acceptor::load(&files.settings).unwrap());
    assert!(tls.expires_at().unwrap() < SystemTime::now(), "an old one is better than none");
    let client = files.authority.client("ada, \"the\" first", "Example+Co").unwrap();
    let der = CertificateDer::from_pem_slice(client.pem().as_bytes()).unwrap();
    let CertificateNames { subject, common_name } = names(&der);
    assert_eq!(subject, r#"CN=ada\, \"the\" first,O=Example\+Co"#);
    assert_eq!(common_name.as_deref(), Some("ada, \"the\" first"));
    let nobody = CertificateNames { subject: String::new(), common_name: None };
    assert_eq!(names(&CertificateDer::from(vec![0x30, 0])), nobody);
}

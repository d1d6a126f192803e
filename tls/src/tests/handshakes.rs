//! What each mode takes of a server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::authority::{Pair, authority, expired, for_clients, intermediate, on_its_own, server};
use crate::{Authorities, Mode, ServerTls, Settings, reason};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn chain(pairs: &[&Pair]) -> Vec<CertificateDer<'static>> {
    pairs.iter().map(|pair| pair.der.clone()).collect()
}

/// A server that shows these certificates, the first of which is its own.
fn listening(pairs: &[&Pair], version: &'static SupportedProtocolVersion) -> ServerConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pairs[0].key.serialize_der()));
    let key = provider.key_provider.load_private_key(key).unwrap();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain(pairs), key));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver) as Arc<dyn ResolvesServerCert>);
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn settings(mode: Mode, roots: &[&Pair]) -> (Settings, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, roots.iter().map(|root| root.pem()).collect::<String>()).unwrap();
    let ca = (!roots.is_empty()).then_some(Authorities::File(path));
    (Settings { mode, ca, ..Settings::default() }, directory)
}

/// How a handshake ends with both versions of TLS, which must agree: with nothing, or the reason.
fn handshake(mode: Mode, roots: &[&Pair], host: &str, shown: &[&Pair]) -> Result<(), String> {
    let (settings, _directory) = settings(mode, roots);
    let tls = ServerTls::load(settings).unwrap();
    let [new, old] = [&TLS13, &TLS12].map(|version| {
        let (config, name) = tls.handshake(host, HERE).map_err(|error| reason(&error))?;
        let client = ClientConnection::new(config, name).unwrap();
        shake(client, listening(shown, version)).map_err(|error| reason(&error))
    });
    assert_eq!(new, old);
    new
}

fn shake(mut client: ClientConnection, mut server: ServerConnection) -> Result<(), rustls::Error> {
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        let refused = server.process_new_packets().err();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
        assert_eq!(refused, None);
    }
    Ok(())
}

#[test]
fn any_certificate_will_do_where_nobody_is_trusted_more_than_others() {
    let ca = authority("ca");
    let shown = [
        server("pg01", &["pg01"], &ca),
        expired("pg01", &ca),
        on_its_own("pg01"),
        server("pg01", &[], &ca).version_1(&ca.key),
    ];
    for pair in &shown {
        for mode in [Mode::Allow, Mode::Prefer, Mode::Require] {
            handshake(mode, &[], "another", &[pair]).unwrap();
        }
    }
}

#[test]
fn authorities_count_in_every_mode_where_they_are_given() {
    let (ca, other) = (authority("ca"), authority("ca"));
    let pair = server("pg01", &["pg01"], &ca);
    for mode in [Mode::Allow, Mode::Prefer, Mode::Require, Mode::VerifyCa] {
        handshake(mode, &[&other, &ca], "another", &[&pair]).unwrap();
        let why = handshake(mode, &[&other], "pg01", &[&pair]).unwrap_err();
        assert!(why.starts_with("certificate verify failed:"), "{why}");
    }
}

#[test]
fn a_certificate_must_be_the_hosts_where_it_is_to_be_verified_in_full() {
    let ca = authority("ca");
    let pair = server("pg01", &["pg01", "10.0.0.1"], &ca);
    handshake(Mode::VerifyFull, &[&ca], "pg01", &[&pair]).unwrap();
    handshake(Mode::VerifyFull, &[&ca], "10.0.0.1", &[&pair]).unwrap();
    for host in ["pg02", "10.0.0.2"] {
        let why = handshake(Mode::VerifyFull, &[&ca], host, &[&pair]).unwrap_err();
        assert!(why.contains(host) && why.contains("pg01"), "{why}");
    }
    // Docker's names have underscores, and nothing is known of others that no certificate can have.
    handshake(Mode::VerifyFull, &[&ca], "pg_1", &[&server("pg_1", &[], &ca)]).unwrap();
    assert!(handshake(Mode::VerifyFull, &[&ca], "pg 01", &[&pair]).is_err());
    handshake(Mode::VerifyCa, &[&ca], "pg 01", &[&pair]).unwrap();
}

#[test]
fn certificates_as_postgresqls_documentation_makes_them_are_verified() {
    let (ca, other) = (authority("ca"), authority("ca"));
    let between = intermediate("between", &ca);
    let direct = server("pg01", &[], &ca).version_1(&ca.key);
    let below = server("pg01", &[], &between).version_1(&between.key);
    handshake(Mode::VerifyFull, &[&ca], "pg01", &[&direct]).unwrap();
    handshake(Mode::VerifyFull, &[&ca], "pg01", &[&below, &between]).unwrap();
    handshake(Mode::VerifyFull, &[&between], "pg01", &[&below]).unwrap();
    handshake(Mode::VerifyFull, &[&ca], "pg02", &[&direct]).unwrap_err();
    handshake(Mode::VerifyFull, &[&other], "pg01", &[&direct]).unwrap_err();
    handshake(Mode::VerifyFull, &[&other], "pg01", &[&below, &between]).unwrap_err();
    handshake(Mode::VerifyFull, &[&ca], "pg01", &[&below]).unwrap_err();
    // What signs a certificate of version 1 must be an authority, and not any server that has a certificate itself.
    let leaf = server("pg02", &[], &ca);
    let forged = server("pg01", &[], &leaf).version_1(&leaf.key);
    handshake(Mode::VerifyCa, &[&ca], "pg01", &[&forged, &leaf]).unwrap_err();
    let old = expired("pg01", &ca).version_1(&ca.key);
    let why = handshake(Mode::VerifyCa, &[&ca], "pg01", &[&old]).unwrap_err();
    assert!(why.to_lowercase().contains("expired"), "{why}");
}

#[test]
fn a_server_that_signed_its_own_certificate_is_trusted_by_that_certificate() {
    let (mine, other) = (on_its_own("pg01"), on_its_own("pg01"));
    handshake(Mode::VerifyFull, &[&mine], "pg01", &[&mine]).unwrap();
    handshake(Mode::VerifyFull, &[&other], "pg01", &[&mine]).unwrap_err();
    handshake(Mode::VerifyFull, &[&mine], "pg02", &[&mine]).unwrap_err();
    // An authority that a trusted one has signed may be a server too.
    let ca = authority("ca");
    handshake(Mode::VerifyCa, &[&ca], "pg01", &[&intermediate("pg01", &ca)]).unwrap();
}

#[test]
fn what_has_expired_or_is_for_something_else_is_refused() {
    let ca = authority("ca");
    handshake(Mode::VerifyCa, &[&ca], "pg01", &[&expired("pg01", &ca)]).unwrap_err();
    handshake(Mode::VerifyCa, &[&ca], "pg01", &[&for_clients("pg01", &ca)]).unwrap_err();
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused_in_every_mode() {
    let ca = authority("ca");
    let (real, other) = (server("pg01", &["pg01"], &ca), server("pg01", &["pg01"], &ca));
    let shown = Pair { key: other.key, ..real };
    handshake(Mode::Prefer, &[], "pg01", &[&shown]).unwrap_err();
}

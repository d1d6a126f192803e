//! TLS with clients: libpq's modes and pgherd's, certificates of both sides, and sessions over it.

use std::path::{Path, PathBuf};

use pgherd_testkit::client::{RawClient, psql};
use pgherd_testkit::{Authority, Cluster, Context, Identity, Pgherd, PgherdBuilder, Purpose, Result, ensure};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::front::{Front, PATIENCE};

/// Certificates of a test, in the directory of its cluster.
pub(crate) struct Pki {
    pub(crate) authority: Authority,
    pub(crate) ca: PathBuf,
    directory: PathBuf,
}

impl Pki {
    pub(crate) fn new(cluster: &Cluster) -> Result<Self> {
        let (authority, directory) = (Authority::new("test authority")?, cluster.directory().to_owned());
        let ca = authority.write(&directory, "ca")?;
        Ok(Self { authority, ca, directory })
    }

    /// Settings for a pgherd with a certificate for its address.
    pub(crate) fn serve(&self, pgherd: PgherdBuilder) -> Result<PgherdBuilder> {
        let (certificate, key) = self.authority.server(&["localhost"])?.write(&self.directory, "pgherd")?;
        Ok(set(set(pgherd, "listen.tls.cert", &certificate), "listen.tls.key", &key))
    }

    /// libpq's settings for a client's certificate.
    pub(crate) fn shown(&self, identity: &Identity, name: &str) -> Result<String> {
        let (certificate, key) = identity.write(&self.directory, name)?;
        Ok(format!("sslcert={} sslkey={}", certificate.display(), key.display()))
    }
}

pub(crate) fn set(pgherd: PgherdBuilder, key: &str, path: &Path) -> PgherdBuilder {
    pgherd.set(key, path.display().to_string())
}

/// How a psql with these settings gets in: over which protocol, in the clear, or why not.
async fn how(pgherd: &Pgherd, settings: &str) -> String {
    let at = format!("{} {settings}", pgherd.connection_string("app", "app"));
    match psql(&at, "\\conninfo").await {
        Ok(said) if said.contains("protocol: TLSv1.3") => "TLS 1.3".to_owned(),
        Ok(said) if said.contains("protocol: TLSv1.2") => "TLS 1.2".to_owned(),
        Ok(_) => "in the clear".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

/// Checks what comes of each of libpq's settings. What is expected is part of what psql says.
async fn expect(pgherd: &Pgherd, mode: &str, cases: &[(String, &str)]) -> Result<()> {
    for (settings, expected) in cases {
        let seen = how(pgherd, settings).await;
        ensure!(seen.contains(expected), "{mode}, {settings}: {seen}, and not {expected}");
    }
    Ok(())
}

fn cases<const N: usize>(cases: [(&str, &'static str); N]) -> Vec<(String, &'static str)> {
    cases.into_iter().map(|(settings, expected)| (settings.to_owned(), expected)).collect()
}

const REFUSED: &str = "FATAL:  TLS is required for host";

#[tokio::test]
async fn each_mode_of_libpqs_gets_what_each_mode_of_pgherds_gives() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pki = Pki::new(&cluster)?;
    let (ca, wrong) = (pki.ca.display(), Authority::new("another")?.write(cluster.directory(), "other")?);
    let wrong = wrong.display();

    // Without a certificate.
    let plain = Pgherd::builder(&cluster).start().await?;
    plain.wait_log("writes are open", PATIENCE).await?;
    expect(
        &plain,
        "disable",
        &cases([
            ("sslmode=disable", "in the clear"),
            ("sslmode=allow", "in the clear"),
            ("sslmode=prefer", "in the clear"),
            ("sslmode=require", "server does not support SSL"),
        ]),
    )
    .await?;

    // With one, for the client to choose.
    let allow = pki.serve(Pgherd::builder(&cluster))?.start().await?;
    allow.wait_log("writes are open", PATIENCE).await?;
    let port = allow.address().port();
    expect(
        &allow,
        "allow",
        &[
            ("sslmode=disable".to_owned(), "in the clear"),
            ("sslmode=allow".to_owned(), "in the clear"),
            ("sslmode=prefer".to_owned(), "TLS 1.3"),
            ("sslmode=require".to_owned(), "TLS 1.3"),
            ("sslmode=require ssl_max_protocol_version=TLSv1.2".to_owned(), "TLS 1.2"),
            (format!("sslmode=verify-ca sslrootcert={ca}"), "TLS 1.3"),
            (format!("sslmode=verify-ca sslrootcert={wrong}"), "certificate verify failed"),
            // The certificate is for localhost.
            (
                format!(
                    "sslmode=verify-full sslrootcert={ca} host=localhost hostaddr={} port={port}",
                    allow.address().ip()
                ),
                "TLS 1.3",
            ),
            (format!("sslmode=verify-full sslrootcert={ca}"), "does not match host name"),
        ],
    )
    .await?;

    // Who has none may not come in; who would rather not, does it all the same.
    let required = pki
        .serve(Pgherd::builder(&cluster))?
        .set("listen.tls.mode", "require")
        .set("listen.tls.min_version", "1.3")
        .start()
        .await?;
    required.wait_log("writes are open", PATIENCE).await?;
    expect(
        &required,
        "require",
        &cases([
            ("sslmode=disable", REFUSED),
            ("sslmode=allow", "TLS 1.3"),
            ("sslmode=prefer", "TLS 1.3"),
            ("sslmode=require", "TLS 1.3"),
            ("sslmode=require ssl_max_protocol_version=TLSv1.2", "alert protocol version"),
        ]),
    )
    .await
}

#[tokio::test]
async fn clients_show_certificates_that_are_good_or_none_where_they_need_not() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pki = Pki::new(&cluster)?;
    let (good, revoked) = (pki.authority.client("app", "Example")?, pki.authority.client("app", "Former")?);
    let directory = cluster.directory();
    let list = directory.join("revoked.crl");
    std::fs::write(&list, pki.authority.revoke(&[&revoked])?)?;
    let foreign = Authority::new("another")?.client("app", "Example")?;
    let expired = pki.authority.expired("app", Purpose::Client)?;
    let servers = pki.authority.server(&["app"])?;
    let settings =
        |identity, name| -> Result<String> { Ok(format!("sslmode=require {}", pki.shown(identity, name)?)) };
    let none = "sslmode=require sslcert=/nowhere".to_owned();
    let common: [(String, &str); 5] = [
        (settings(&good, "good")?, "TLS 1.3"),
        (settings(&revoked, "revoked")?, "alert certificate revoked"),
        (settings(&foreign, "foreign")?, "alert unknown ca"),
        (settings(&expired, "expired")?, "alert certificate expired"),
        (settings(&servers, "servers")?, "SSL error"),
    ];
    for mode in ["allow", "verify-ca", "verify-full"] {
        let pgherd = set(pki.serve(Pgherd::builder(&cluster))?, "listen.tls.client_ca", &pki.ca);
        let pgherd = set(pgherd, "listen.tls.client_crl", &list).set("listen.tls.mode", mode).start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        expect(&pgherd, mode, &common).await?;
        let without = if mode == "allow" { "TLS 1.3" } else { "alert certificate required" };
        let in_the_clear = if mode == "allow" { "in the clear" } else { REFUSED };
        expect(&pgherd, mode, &[(none.clone(), without), ("sslmode=disable".to_owned(), in_the_clear)])
            .await?;
    }
    Ok(())
}

/// A client that asked for TLS and got it.
pub(crate) async fn secured(front: &Front, pki: &Pki) -> Result<RawClient> {
    secure(RawClient::connect(front.pgherd.address()).await?, pki).await
}

/// Asks for TLS.
pub(crate) async fn secure(mut client: RawClient, pki: &Pki) -> Result<RawClient> {
    client.send(&SSL_REQUEST).await?;
    ensure!(client.read_byte().await? == Some(b'S'), "TLS was declined");
    client.secure(pki.authority.trusting(None)?, "localhost").await
}

/// SSLRequest.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// One server and a pgherd that offers TLS.
pub(crate) async fn front(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<(Front, Pki)> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pki = Pki::new(&cluster)?;
    let pgherd = settings(pki.serve(Pgherd::builder(&cluster))?).start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok((Front { cluster, pgherd }, pki))
}

#[tokio::test]
async fn sessions_over_tls_share_connections_and_get_their_own_rows_however_long() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd.set("pool.size", 4)).await?;
    let mut sessions = JoinSet::new();
    for number in 0..30_usize {
        let mut client = secured(&front, &pki).await?;
        let password = front.password("app").to_owned();
        sessions.spawn(async move {
            client.start("app", "app", &password).await?;
            for round in 0..20 {
                // Both ways more than a record, and more than a socket takes at once.
                let length = if round % 10 == 0 { 3_000_000 } else { round * 1_000 };
                let text = "x".repeat(length / 10);
                let sql = format!("SELECT {number}, repeat('y', {length}), '{text}'");
                let rows = client.query(&sql).await?.rows();
                let row = rows.first().context("no row")?;
                let column = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
                ensure!(column(0) == number.to_string(), "{number} got another's row");
                ensure!(
                    column(1).len() == length && column(1).iter().all(|byte| *byte == b'y'),
                    "{number}, {round}"
                );
                ensure!(column(2) == text, "{number}, {round}");
            }
            Ok(())
        });
    }
    while let Some(ended) = sessions.join_next().await {
        ended??;
    }
    front.wait_all_idle(4).await?;
    Ok(())
}

#[tokio::test]
async fn a_copy_and_a_cancel_request_work_over_tls() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd.set("listen.tls.mode", "require")).await?;
    let at = front.pgherd.connection_string("app", "app") + " sslmode=require";
    psql(&at, "CREATE TABLE copied (n int, t text)").await?;
    let file = front.cluster.directory().join("rows");
    let rows: String = (0..200_000).map(|n| format!("{n}\trow {n}\n")).collect();
    std::fs::write(&file, &rows)?;
    psql(&at, &format!("\\copy copied from '{}'", file.display())).await?;
    let back = psql(&at, "\\copy (select * from copied order by n) to stdout").await?;
    ensure!(back.trim_end() == rows.trim_end(), "{} bytes came back of {}", back.len(), rows.len());

    let mut client = secured(&front, &pki).await?;
    let greeting = client.start("app", "app", front.password("app")).await?;
    let key = greeting.iter().find(|frame| frame.tag == b'K').map(|frame| frame.payload.clone());
    let request =
        [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &key.unwrap_or_default()].concat();
    // Over TLS, and in the clear as libpq does it before version 17, even where TLS is required.
    for mut canceller in [secured(&front, &pki).await?, RawClient::connect(front.pgherd.address()).await?] {
        let mut sleep = Box::pin(client.query("SELECT pg_sleep(60)"));
        let server = front.server()?;
        let asleep = pgherd_testkit::eventually("the query runs", PATIENCE, || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
            Ok((server.scalar(sql).await? == "1").then_some(()))
        });
        tokio::select! {
            ended = &mut sleep => return Err(anyhow_of(ended)),
            asleep = asleep => asleep?,
        }
        canceller.send(&request).await?;
        ensure!(canceller.read_bytes_to_end().await?.is_empty(), "a cancel request has no answer");
        let answer = sleep.await?;
        ensure!(answer.error().is_some_and(|error| error.code() == "57014"), "{answer:?}");
    }
    Ok(())
}

fn anyhow_of(ended: Result<pgherd_testkit::client::Answer>) -> pgherd_testkit::Error {
    pgherd_testkit::anyhow!("the query ended by itself: {ended:?}")
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_sighup_and_a_broken_one_never() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd).await?;
    let mut before = secured(&front, &pki).await?;
    before.start("app", "app", front.password("app")).await?;
    let next = Pki { authority: Authority::new("the next authority")?, ..Pki::new(&front.cluster)? };
    next.authority.server(&["localhost"])?.write(front.cluster.directory(), "pgherd")?;
    front.pgherd.send(Signal::HUP)?;
    front.pgherd.wait_log("clients are shown another certificate", PATIENCE).await?;
    secured(&front, &next).await?.start("app", "app", front.password("app")).await?;
    ensure!(secured(&front, &pki).await.is_err(), "the old certificate is shown no more");
    // Half of it is there, as while it is copied.
    std::fs::write(front.cluster.directory().join("pgherd.crt"), "-----BEGIN CERTIFICATE-----\nMIIB")?;
    front.pgherd.send(Signal::HUP)?;
    let said = front.pgherd.wait_log("is not valid PEM", PATIENCE).await?;
    ensure!(said.contains("listen.tls.cert: ") && said.contains("pgherd.crt"), "{said}");
    secured(&front, &next).await?.start("app", "app", front.password("app")).await?;
    ensure!(before.query("SELECT 1").await?.error().is_none());
    Ok(())
}

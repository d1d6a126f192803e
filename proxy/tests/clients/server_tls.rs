//! TLS towards the servers: libpq's modes, certificates of both sides, channel binding, cancel requests.

use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_testkit::client::psql;
use pgherd_testkit::{Authority, Cluster, Pgherd, Result, Server, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

use crate::front::{Front, PATIENCE};

/// `secure` comes with TLS or not at all, `plain` without.
const RULES: &str = "
local     all  postgres             peer
hostssl   all  secure    0.0.0.0/0  scram-sha-256
hostnossl all  plain     0.0.0.0/0  scram-sha-256
host      all  app,postgres,repmgr 0.0.0.0/0  scram-sha-256
";

const IS_TLS: &str = "SELECT CASE WHEN ssl THEN 'TLS' ELSE 'in the clear' END \
                      FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

fn url(host: impl std::fmt::Display, user: &str, password: &str, settings: &str) -> String {
    format!("host={host} port=5432 user={user} password={password} dbname=app {settings}")
}

/// How a statement gets to the server: over TLS, in the clear, or why not.
async fn how(url: &str) -> String {
    match psql(url, IS_TLS).await {
        Ok(answer) => answer.trim().to_owned(),
        Err(error) => {
            let text = format!("{error:#}");
            // What the rules say differs by the address.
            let reason = text.split_once("database \"app\", ").map(|(_, reason)| reason);
            reason.and_then(|reason| reason.lines().next()).map_or(text.clone(), str::to_owned)
        }
    }
}

/// Has the servers' connections of these users opened anew.
async fn forget(server: &Server, users: &[&str]) -> Result<()> {
    let users = users.join("', '");
    let sql =
        format!("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE usename IN ('{users}')");
    server.query(&sql).await.map(drop)
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn servers_are_connected_to_in_each_mode_as_libpq_does_it() -> Result<()> {
    let mut front = Front::start().await?;
    let (server, pgherd) = (front.server()?, front.pgherd.address().ip());
    let app = url(pgherd, "app", front.password("app"), "");
    ensure!(how(&app).await == "in the clear", "a server without TLS is none to be afraid of");
    front.pgherd.set("backends.tls.mode", "require")?;
    front.pgherd.reload().await?;
    front.pgherd.wait_log("the server has no TLS", PATIENCE).await?;
    forget(&server, &["app"]).await?;
    let refused = how(&app).await;
    ensure!(refused.contains("08001") && refused.contains("the server has no TLS"), "{refused}");

    let authority = Authority::new("test authority")?;
    let address = server.address().to_string();
    server.speak_tls(&authority.server(&[&address])?, &authority).await?;
    server.query("CREATE ROLE secure LOGIN PASSWORD 'pw'; CREATE ROLE plain LOGIN PASSWORD 'pw'").await?;
    server.set_rules(RULES).await?;
    let ca = path(&authority.write(front.cluster.directory(), "ca")?);
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        front.pgherd.set("backends.tls.mode", mode)?;
        if mode.starts_with("verify") {
            front.pgherd.set("backends.tls.ca", ca.as_str())?;
        }
        front.pgherd.reload().await?;
        forget(&server, &["app", "secure", "plain"]).await?;
        let app_password = front.password("app");
        for (user, password) in [("app", app_password), ("secure", "pw"), ("plain", "pw")] {
            let settings = format!(
                "sslmode={mode} sslrootcert={}",
                if mode.starts_with("verify") { &ca } else { "/dev/null/none" }
            );
            let direct = how(&url(&address, user, password, &settings)).await;
            let through = how(&url(pgherd, user, password, "")).await;
            ensure!(direct == through, "{mode}, {user}: {direct} directly, {through} through pgherd");
        }
    }
    // pgherd's own questions come in the same way; the connections from before a reload end with it.
    pgherd_testkit::eventually("probes over TLS alone", PATIENCE, || async {
        let sql = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE usename = 'repmgr' AND application_name = 'pgherd'";
        Ok((server.scalar(sql).await? == "t").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_certificate_that_cannot_be_verified_is_said_and_one_that_is_mended_is_enough() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    let (authority, other) = (Authority::new("test authority")?, Authority::new("another")?);
    server.speak_tls(&authority.server(&["pg01"])?, &authority).await?;
    let ca = path(&other.write(cluster.directory(), "ca")?);
    let mut pgherd = Pgherd::builder(&cluster)
        .set("backends.tls.mode", "verify-full")
        .set("backends.tls.ca", ca)
        .start()
        .await?;
    let said = pgherd.wait_log("certificate verify failed", PATIENCE).await?;
    ensure!(said.contains("UnknownIssuer") && said.contains("alive"), "{said}");
    // The same file, with another authority in it.
    authority.write(cluster.directory(), "ca")?;
    let lines = pgherd.reload().await?;
    ensure!(lines.iter().any(|line| line.contains("the files of backends.tls")), "{lines:?}");
    pgherd.wait_log(&format!("not valid for name \"{}\"", server.address()), PATIENCE).await?;
    server.speak_tls(&authority.server(&[&server.address().to_string()])?, &authority).await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let app = url(pgherd.address().ip(), "app", cluster.credentials().password("app"), "");
    ensure!(how(&app).await == "TLS");

    // A server that wants a certificate gets one as soon as there is one.
    let rules = format!("hostssl all app 0.0.0.0/0 scram-sha-256 clientcert=verify-ca\n{RULES}");
    server.set_rules(&rules).await?;
    forget(&server, &["app"]).await?;
    let refused = how(&app).await;
    ensure!(refused.contains("valid client certificate"), "{refused}");
    let (certificate, key) = authority.client("pgherd", "test")?.write(cluster.directory(), "pgherd")?;
    pgherd.set("backends.tls.cert", path(&certificate))?;
    pgherd.set("backends.tls.key", path(&key))?;
    pgherd.reload().await?;
    ensure!(how(&app).await == "TLS");
    // One that the server does not trust does not make it look dead.
    other.client("pgherd", "test")?.write(cluster.directory(), "pgherd")?;
    pgherd.reload().await?;
    let said = pgherd.wait_log("the server ended the TLS handshake", PATIENCE).await?;
    ensure!(said.contains("alive") && said.contains("UnknownCA"), "{said}");
    forget(&server, &["app"]).await?;
    let refused = how(&app).await;
    ensure!(refused.contains("UnknownCA"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn logins_are_bound_to_their_connection_or_refused_where_that_is_required() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    let authority = Authority::new("test authority")?;
    server.speak_tls(&authority.server(&["pg01"])?, &authority).await?;
    let (certificate, key) = authority.server(&["pgherd"])?.write(cluster.directory(), "pgherd")?;
    server.query("CREATE ROLE trusted LOGIN PASSWORD 'pw'").await?;
    server.set_rules(&format!("host all trusted 0.0.0.0/0 trust\n{RULES}")).await?;
    let pgherd = Pgherd::builder(&cluster)
        .set("backends.tls.mode", "require")
        .set("backends.tls.channel_binding", "require")
        .set("listen.tls.cert", path(&certificate))
        .set("listen.tls.key", path(&key))
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let at = pgherd.address().ip();
    // Bound on both sides, each to its own connection.
    let password = cluster.credentials().password("app");
    let bound = "sslmode=require channel_binding=require";
    ensure!(how(&url(at, "app", password, bound)).await == "TLS");
    let wrong = how(&url(at, "app", "wrong", bound)).await;
    ensure!(wrong.contains("password authentication failed for user \"app\""), "{wrong}");
    let unbound = "sslmode=require channel_binding=disable";
    ensure!(how(&url(at, "app", password, unbound)).await == "TLS");
    ensure!(
        how(&url(at, "app", password, "sslmode=disable")).await == "TLS",
        "the client's side is its own business"
    );
    // Only clients that come without TLS are told of no more than they can have.
    let refused = how(&url(at, "app", password, "sslmode=disable channel_binding=require")).await;
    ensure!(refused.contains("channel binding required"), "{refused}");
    let refused = how(&url(at, "trusted", "pw", "")).await;
    ensure!(refused.contains("channel binding is required"), "{refused}");
    Ok(())
}

/// Stands before a server and notes what each connection asks for first.
async fn listen_in(server: (std::net::Ipv4Addr, u16)) -> Result<(u16, Arc<Mutex<Vec<u32>>>)> {
    let listener = TcpListener::bind((server.0, 0)).await?;
    let port = listener.local_addr()?.port();
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let notes = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let notes = Arc::clone(&notes);
            tokio::spawn(async move {
                let mut first = [0; 8];
                client.read_exact(&mut first).await?;
                notes.lock().push(u32::from_be_bytes([first[4], first[5], first[6], first[7]]));
                let mut upstream = TcpStream::connect(server).await?;
                upstream.write_all(&first).await?;
                copy_bidirectional(&mut client, &mut upstream).await
            });
        }
    });
    Ok((port, seen))
}

#[tokio::test]
async fn a_cancel_request_goes_over_tls_where_its_connection_does() -> Result<()> {
    const SSL_REQUEST: u32 = 80_877_103;
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    let authority = Authority::new("test authority")?;
    server.speak_tls(&authority.server(&["pg01"])?, &authority).await?;
    let (port, seen) = listen_in((server.address(), server.port())).await?;
    let pgherd = Pgherd::builder(&cluster)
        .set("backends.nodes", vec![format!("0:{}:{port}", server.address())])
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let session = pgherd_testkit::client::Session::connect(&pgherd.connection_string("app", "app")).await?;
    session.simple_query("SELECT 1").await?;
    let token = session.cancel_token();
    let before = seen.lock().len();
    let (slept, cancelled) = tokio::join!(session.simple_query("SELECT pg_sleep(60)"), async {
        pgherd_testkit::eventually("the statement runs", PATIENCE, || async {
            let running = server.scalar("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'");
            Ok((running.await? == "1").then_some(()))
        })
        .await?;
        token.cancel_query(NoTls).await?;
        Ok::<_, pgherd_testkit::Error>(())
    });
    cancelled?;
    let error = slept.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    ensure!(error.as_deref() == Some("57014"), "{error:?}");
    let seen = seen.lock().clone();
    ensure!(seen.len() > before, "the request had a connection of its own");
    ensure!(seen.iter().all(|first| *first == SSL_REQUEST), "{seen:?}");
    Ok(())
}

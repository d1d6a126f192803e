//! What balancers and orchestrators are answered that know Patroni, and HAProxy among them.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use pgherd_testkit::client::{RawClient, Session};
use pgherd_testkit::{Context, Result, ensure, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::herd::{Herd, PATIENCE};

/// Status and body of an answer.
async fn ask(address: SocketAddr, method: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: pgherd\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_owned()))
}

impl Herd {
    async fn checks(&self, expected: &[(&str, u16)]) -> Result<()> {
        let address = self.pgherd.http_address()?;
        for (path, code) in expected {
            eventually(format!("GET {path} is {code}"), PATIENCE, || async {
                Ok((ask(address, "GET", path).await?.0 == *code).then_some(()))
            })
            .await
            .with_context(|| self.log())?;
            for method in ["HEAD", "OPTIONS"] {
                let (status, body) = ask(address, method, path).await?;
                ensure!(status == *code && body.is_empty(), "{method} {path}: {status} {body}");
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn health_checks_have_the_status_codes_of_patroni() -> Result<()> {
    let herd = Herd::start().await?;
    let name = herd.cluster.server(2)?.name().to_owned();
    let named = format!("/replica?server={name}&lag=1MB");
    herd.checks(&[
        ("/primary", 200),
        ("/", 200),
        ("/replica", 200),
        ("/read-only", 200),
        ("/health", 200),
        ("/readiness", 200),
        ("/liveness", 200),
        ("/patroni", 200),
        ("/cluster", 200),
        ("/sync", 503),
        ("/async", 200),
        ("/primary?server=0", 200),
        ("/leader?server=1", 503),
        ("/master?server=0", 200),
        ("/read-write?server=2", 503),
        ("/replica?server=0", 503),
        ("/read-only?server=0", 200),
        (named.as_str(), 200),
        ("/primary?server=pg09", 404),
        ("/replica?lag=much", 400),
    ])
    .await?;
    let address = herd.pgherd.http_address()?;
    let (_, body) = ask(address, "GET", "/patroni?server=0").await?;
    for words in [
        r#""role":"primary""#,
        r#""state":"running""#,
        r#""timeline":1"#,
        r#""location":"#,
        r#""replication":["#,
    ] {
        ensure!(body.contains(words), "{words} is not in {body}");
    }
    // At the first look a standby may be some bytes behind.
    let herd_of_all =
        [r#""role":"leader""#, r#""role":"replica""#, r#""state":"streaming""#, r#""lag":0"#, r#""scope":""#];
    eventually(format!("{herd_of_all:?} in /cluster"), PATIENCE, || async {
        let (_, body) = ask(address, "GET", "/cluster").await?;
        Ok(herd_of_all.iter().all(|words| body.contains(words)).then_some(()))
    })
    .await?;
    herd.pgherd.ask(&["pause"]).await?;
    herd.cluster.server(1)?.kill9().await?;
    herd.checks(&[
        ("/primary", 503),
        ("/primary?server=0", 503),
        ("/health?server=0", 503),
        ("/replica", 200),
        ("/readiness", 200),
        ("/liveness", 200),
    ])
    .await?;
    let (_, body) = ask(address, "GET", "/patroni").await?;
    ensure!(body.contains(r#""cluster_unlocked":true"#), "{body}");
    herd.pgherd.ask(&["resume"]).await?;
    herd.wait_writable().await?;
    herd.checks(&[("/primary", 200), ("/primary?server=0", 503)]).await
}

/// HAProxy before the servers, which asks pgherd whose turn it is.
struct Haproxy {
    _child: Child,
    port: u16,
}

impl Haproxy {
    fn start(herd: &Herd) -> Result<Self> {
        // Free at this moment; nobody else of these tests takes any such.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let http = herd.pgherd.http_address()?;
        let mut text = format!(
            "defaults\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n\
             listen primary\n  bind 127.0.0.1:{port}\n  mode tcp\n  option httpchk\n  \
             http-check send meth OPTIONS uri-lf /primary?server=%[srv_name]\n  http-check expect status 200\n  \
             default-server inter 100ms fall 1 rise 1 on-marked-down shutdown-sessions\n"
        );
        for server in herd.cluster.servers() {
            let line = format!(
                "  server {} {}:5432 check addr {} port {}\n",
                server.name(),
                server.address(),
                http.ip(),
                http.port()
            );
            text.push_str(&line);
        }
        let file = herd.cluster.directory().join("haproxy.cfg");
        std::fs::write(&file, text)?;
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("haproxy, which scripts/setup installs")?;
        Ok(Self { _child: child, port })
    }
}

#[tokio::test]
async fn haproxy_goes_where_pgherd_says_that_the_primary_is() -> Result<()> {
    let herd = Herd::start().await?;
    let haproxy = Haproxy::start(&herd)?;
    let address = SocketAddr::from(([127, 0, 0, 1], haproxy.port));
    let password = herd.cluster.credentials().password("app").to_owned();
    let through = || async {
        let mut client = RawClient::login(address, "app", "app", &password).await?;
        let answer = client.query("SELECT pg_is_in_recovery(), inet_server_addr()").await?;
        Ok::<_, pgherd_testkit::Error>(format!("{:?}", answer.rows()))
    };
    let leads = |id: i32| {
        let (herd, through) = (&herd, &through);
        async move {
            let at = herd.cluster.server(id)?.address().to_string();
            eventually(format!("HAProxy goes to {at}"), PATIENCE, || async {
                let Ok(seen) = through().await else { return Ok(None) };
                Ok((seen.contains("\"f\"") && seen.contains(&at)).then_some(()))
            })
            .await
        }
    };
    leads(1).await?;
    herd.cluster.server(1)?.kill9().await?;
    herd.wait_writable().await?;
    let primary = herd.cluster.primary().await?.id();
    ensure!(primary != 1, "{}", herd.log());
    leads(primary).await?;
    // The old primary comes back writable for a moment: it is no primary for HAProxy either.
    herd.cluster.server(1)?.start().await?;
    let direct = Session::connect(&herd.pgherd.connection_string("app", "app")).await?;
    direct.batch_execute("INSERT INTO probe DEFAULT VALUES").await?;
    leads(primary).await
}

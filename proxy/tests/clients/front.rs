//! One server with a pgherd before it, and the same conversation with both.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use pgherd_testkit::client::{Frame, RawClient, Session, frontend};
use pgherd_testkit::{Cluster, Context, Pgherd, PgherdBuilder, Result, Server, ensure, eventually};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Front {
    pub(crate) cluster: Cluster,
    pub(crate) pgherd: Pgherd,
}

impl Front {
    pub(crate) async fn start() -> Result<Self> {
        Self::with(|pgherd| pgherd).await
    }

    /// pgherd with other settings than its defaults.
    pub(crate) async fn with(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<Self> {
        Self::of(Cluster::builder().servers(1).start().await?, settings).await
    }

    /// The same before any cluster.
    pub(crate) async fn of(
        cluster: Cluster,
        settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder,
    ) -> Result<Self> {
        let pgherd = settings(Pgherd::builder(&cluster)).start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Ok(Self { cluster, pgherd })
    }

    pub(crate) fn server(&self) -> Result<Server> {
        self.cluster.server(1)
    }

    pub(crate) fn password(&self, user: &str) -> &str {
        self.cluster.credentials().password(user)
    }

    /// A client that is logged in as `app`.
    pub(crate) async fn raw(&self) -> Result<RawClient> {
        RawClient::login(self.pgherd.address(), "app", "app", self.password("app")).await
    }

    /// A client that logs in as `app` with these parameters in its startup packet.
    pub(crate) async fn login(&self, address: SocketAddr, parameters: &[(&str, &str)]) -> Result<RawClient> {
        let mut client = RawClient::connect(address).await?;
        let all = [("user", "app"), ("database", "app")].into_iter().chain(parameters.iter().copied());
        client.send(&messages(|out| frontend::startup_message(all, out))?).await?;
        client.authenticate("app", self.password("app")).await?;
        Ok(client)
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        Session::connect(&self.pgherd.connection_string("app", "app")).await
    }

    /// pgherd's resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.pgherd.resident()
    }

    /// PostgreSQL's address and pgherd's.
    pub(crate) fn both(&self) -> Result<[SocketAddr; 2]> {
        let server = self.server()?;
        Ok([SocketAddr::from((server.address(), server.port())), self.pgherd.address()])
    }

    /// Has the same conversation with PostgreSQL and with pgherd; gives pgherd's answers, which must be the same.
    pub(crate) async fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        conversation: impl AsyncFn(SocketAddr) -> Result<T>,
    ) -> Result<T> {
        let [postgresql, pgherd] = self.both()?;
        let expected = conversation(postgresql).await.with_context(|| format!("{what}, PostgreSQL"))?;
        let answer = conversation(pgherd).await.with_context(|| format!("{what}, pgherd"))?;
        ensure!(answer == expected, "{what}:\n  PostgreSQL {expected:?}\n  pgherd     {answer:?}");
        Ok(answer)
    }

    /// Waits until the server runs a statement whose text has this part.
    pub(crate) async fn wait_running(&self, part: &str) -> Result<()> {
        let server = self.server()?;
        eventually(format!("{part} runs"), PATIENCE, || async {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{part}%' \
                 AND pid <> pg_backend_pid()"
            );
            Ok((server.scalar(&sql).await? != "0").then_some(()))
        })
        .await
    }

    /// Waits until so many clients wait for a server connection.
    pub(crate) async fn wait_waiting(&self, count: usize) -> Result<()> {
        eventually(format!("{count} clients wait"), PATIENCE, || async {
            let shown = self.console("pgherd").await?.query("SHOW CLIENTS").await?.rows();
            let waiting = shown.iter().filter(|row| row.contains(&Some("waiting".into()))).count();
            Ok((waiting == count).then_some(()))
        })
        .await
    }

    /// Waits until the server has no connections of clients but idle ones, `count` at the most.
    pub(crate) async fn wait_all_idle(&self, count: u32) -> Result<()> {
        let server = self.server()?;
        eventually(format!("at most {count} server connections, all idle"), PATIENCE, || async {
            let sql = "SELECT count(*) || ' ' || count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity \
                       WHERE usename IN ('app', 'legacy') AND backend_type = 'client backend'";
            let counts = server.scalar(sql).await?;
            let (all, busy) = counts.split_once(' ').unwrap_or_default();
            Ok((all.parse::<u32>()? <= count && busy == "0").then_some(()))
        })
        .await
    }
}

/// The first value that a text gives, which must not fail; empty if it gives none.
pub(crate) async fn says(client: &mut RawClient, sql: &str) -> Result<String> {
    let answer = client.query(sql).await?;
    ensure!(answer.error().is_none(), "{sql}: {answer:?}");
    Ok(answer.value().unwrap_or_default())
}

/// What can be compared of an answer: tags, and what the messages say but for what differs by nature.
pub(crate) fn comparable(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(describe).collect()
}

fn describe(frame: &Frame) -> String {
    let tag = char::from(frame.tag);
    match frame.error_fields() {
        Some(fields) => format!("{tag} {} {} {}", fields.severity(), fields.code(), fields.message()),
        // Keys are the session's own.
        None if frame.tag == b'K' => format!("{tag} {}", frame.length),
        // So are salts and nonces.
        None if frame.tag == b'R' => format!("{tag} {:?}", frame.payload.get(..4)),
        None => format!("{tag} {:?}", frame.payload),
    }
}

/// Builds messages of the frontend.
pub(crate) fn messages(build: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<BytesMut> {
    let mut bytes = BytesMut::new();
    build(&mut bytes)?;
    Ok(bytes)
}

/// Parse and Sync of a statement.
pub(crate) fn prepare(name: &str, sql: &str) -> Result<BytesMut> {
    messages(|out| {
        frontend::parse(name, sql, [], out)?;
        frontend::sync(out);
        Ok(())
    })
}

/// Parse, Bind, Describe, Execute and Sync of a statement.
pub(crate) fn extended(statement: &str, sql: &str, parameters: &[&str]) -> Result<BytesMut> {
    messages(|out| {
        frontend::parse(statement, sql, [], out)?;
        bind(statement, parameters, out)?;
        frontend::describe(b'P', "", out)?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    })
}

/// Bind, Execute and Sync of a prepared statement.
pub(crate) fn execute(statement: &str, parameters: &[&str]) -> Result<BytesMut> {
    messages(|out| {
        bind(statement, parameters, out)?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    })
}

/// Bind of text parameters to the unnamed portal.
pub(crate) fn bind(statement: &str, parameters: &[&str], out: &mut BytesMut) -> std::io::Result<()> {
    let write = |parameter: &&str, out: &mut BytesMut| {
        out.extend_from_slice(parameter.as_bytes());
        Ok(pgherd_testkit::client::IsNull::No)
    };
    frontend::bind("", statement, [], parameters, write, [], out).map_err(|error| match error {
        frontend::BindError::Conversion(error) => std::io::Error::other(error),
        frontend::BindError::Serialization(error) => error,
    })
}

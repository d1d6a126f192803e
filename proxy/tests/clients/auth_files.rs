//! The files that `[auth]` names are read again at a reload.

use pgherd_testkit::client::{RawClient, psql};
use pgherd_testkit::{Cluster, Pgherd, Result, ensure};

use crate::front::{Front, PATIENCE};
use crate::login::refusal;

const HBA: &str =
    "host all anna all scram-sha-256\nhost all bert all reject\nhost all all all scram-sha-256\n";
const USERLIST: &str = "\"anna\" \"one\"\n";

/// Writes a file beside the configuration; its path.
fn write(cluster: &Cluster, name: &str, text: &str) -> Result<String> {
    let path = cluster.directory().join(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

async fn front() -> Result<Front> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let roles = "CREATE ROLE anna LOGIN PASSWORD 'one'; CREATE ROLE bert LOGIN PASSWORD 'two'";
    cluster.server(1)?.query(roles).await?;
    let pgherd = Pgherd::builder(&cluster)
        .set("auth.hba_file", write(&cluster, "hba", HBA)?)
        .set("auth.userlist_file", write(&cluster, "userlist", USERLIST)?)
        .set("auth.ident_file", write(&cluster, "ident", "os root anna\n")?);
    let pgherd = pgherd.start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok(Front { cluster, pgherd })
}

/// The error of a login, if it fails.
async fn login(front: &Front, user: &str, password: &str) -> Result<Option<String>> {
    let login = RawClient::login(front.pgherd.address(), user, "app", password).await;
    Ok(login.err().map(|error| format!("{error:#}")))
}

#[tokio::test]
async fn what_a_file_says_counts_from_the_next_login_after_a_reload() -> Result<()> {
    let front = front().await?;
    let address = front.pgherd.address();
    ensure!(refusal(address, "bert", "app", "two").await?.contains("pg_hba.conf rejects"));
    let mut there = RawClient::login(address, "anna", "app", "one").await?;

    // Not sooner: who reads it while it is being written would read half of it.
    write(&front.cluster, "hba", "host all anna all reject\nhost all all all scram-sha-256\n")?;
    ensure!(login(&front, "anna", "one").await?.is_none());
    let lines = front.pgherd.reload().await?.join("\n");
    ensure!(lines.contains("changed=\"auth.hba_file\""), "{lines}");
    ensure!(refusal(address, "anna", "app", "one").await?.contains("pg_hba.conf rejects"));
    ensure!(login(&front, "bert", "two").await?.is_none());
    ensure!(there.query("SELECT 1").await?.error().is_none(), "who is there stays");

    write(&front.cluster, "hba", HBA)?;
    front.server()?.query("ALTER ROLE anna PASSWORD 'other'").await?;
    write(&front.cluster, "userlist", "\"anna\" \"other\"\n")?;
    ensure!(login(&front, "anna", "one").await?.is_some(), "the rules are those of the last reload");
    let lines = front.pgherd.reload().await?.join("\n");
    ensure!(lines.contains("auth.hba_file, auth.userlist_file") && !lines.contains("other"), "{lines}");
    ensure!(login(&front, "anna", "one").await?.is_some_and(|error| error.contains("28P01")));
    let at = format!("host={} port={} dbname=app user=anna password=other", address.ip(), address.port());
    ensure!(psql(&at, "SELECT current_user").await?.trim() == "anna");

    write(&front.cluster, "ident", "os root bert\n")?;
    let lines = front.pgherd.reload().await?.join("\n");
    ensure!(lines.contains("changed=\"auth.ident_file\""), "{lines}");
    Ok(())
}

#[tokio::test]
async fn a_file_with_a_mistake_leaves_all_as_it_was_and_the_log_names_its_line() -> Result<()> {
    let front = front().await?;
    let address = front.pgherd.address();
    let good = [("hba", HBA), ("userlist", USERLIST), ("ident", "os root anna\n")];
    let broken = [
        ("hba", "host all anna all reject\n\nhost all all all kerberos\n", "hba:3"),
        ("userlist", "\"anna\" \"another\"\nbert two\n", "userlist:2"),
        ("ident", "# maps\nos root\n", "ident:2"),
    ];
    for ((name, text, place), (_, before)) in broken.into_iter().zip(good) {
        write(&front.cluster, name, text)?;
        let lines = front.pgherd.reload().await?.join("\n");
        ensure!(lines.contains(place) && lines.contains("nothing was changed"), "{name}: {lines}");
        ensure!(!lines.contains("another"), "{name}: {lines}");
        ensure!(login(&front, "anna", "one").await?.is_none(), "{name}: the old rules hold");
        ensure!(refusal(address, "bert", "app", "two").await?.contains("pg_hba.conf rejects"), "{name}");
        write(&front.cluster, name, before)?;
    }
    let lines = front.pgherd.reload().await?.join("\n");
    ensure!(lines.contains("the configuration was read again"), "{lines}");
    Ok(())
}

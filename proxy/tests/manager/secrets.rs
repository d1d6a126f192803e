//! Secrets that can be recognised, everywhere where there can be one; none of them is seen in anything that pgherd says.

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Authority, Cluster, Context, Result, ensure};

use crate::herd::{Herd, OPERATOR, VIEWER};
use crate::web::Web;

/// Of a role that has no other password than in pgherd's file.
const LISTED: &str = "s3cret-of-the-list";
/// Never right.
const WRONG: &str = "wr0ng-s3cret";
/// In the text of a statement.
const IN_TEXT: &str = "s3cret-in-a-text";
/// In a file that cannot be read for a mistake on another line.
const IN_BROKEN_FILE: &str = "s3cret-in-a-broken-file";

/// What the herd knows that nobody may see.
async fn secrets(herd: &Herd, tls_key: &str, operator: &Web) -> Result<Vec<(&'static str, String)>> {
    let verifier = "SELECT split_part(rolpassword, '$', 3) FROM pg_authid WHERE rolname = 'app'";
    let verifier = herd.server(1)?.scalar(verifier).await?;
    let stored = verifier.split(':').map(str::to_owned).collect::<Vec<_>>();
    // A line in the middle of a key in PEM.
    let middle = |pem: &str| pem.lines().nth(1).map(str::to_owned).context("no key");
    let cookie = operator.head();
    let cookie = cookie.lines().find_map(|line| line.strip_prefix("Cookie: ")).context("no cookie")?;
    let session = cookie.split_once('=').map_or(cookie, |(_, value)| value).to_owned();
    let mut secrets = vec![
        ("the monitor's password", herd.cluster.monitor_password().to_owned()),
        ("a client's password", herd.cluster.credentials().password("app").to_owned()),
        ("an operator's password", OPERATOR.1.to_owned()),
        ("a viewer's password", VIEWER.1.to_owned()),
        ("a password of the list", LISTED.to_owned()),
        ("a wrong password", WRONG.to_owned()),
        ("a password in a text", IN_TEXT.to_owned()),
        ("a password in a file with a mistake", IN_BROKEN_FILE.to_owned()),
        ("the key of the certificate", middle(tls_key)?),
        ("the key for ssh", middle(&std::fs::read_to_string(herd.cluster.ssh_key_path())?)?),
        ("a session of the manager", session),
    ];
    secrets.extend(stored.into_iter().map(|it| ("a stored password", it)));
    Ok(secrets)
}

/// Uses them all, rightly and wrongly.
async fn use_them(herd: &Herd) -> Result<()> {
    let (address, password) = (herd.pgherd.address(), herd.cluster.credentials().password("app"));
    let mut client = RawClient::login(address, "app", "app", password).await?;
    client.query(&format!("ALTER ROLE app PASSWORD '{IN_TEXT}' VALID UNTIL 'never'")).await?;
    client.query(&format!("ALTER ROLE nobody_at_all PASSWORD '{IN_TEXT}'")).await?;
    RawClient::login(address, "listed", "app", LISTED).await?;
    for (user, password) in [("app", WRONG), ("nobody_at_all", WRONG), ("repmgr", WRONG)] {
        ensure!(RawClient::login(address, user, "app", password).await.is_err(), "{user}");
    }
    ensure!(herd.web()?.try_log_in(OPERATOR.0, WRONG).await?.status == 401);
    ensure!(herd.web()?.basic(VIEWER.0, WRONG).get("herd").await?.status == 401);
    ensure!(herd.web()?.basic(VIEWER.0, VIEWER.1).get("herd").await?.status == 200);
    Ok(())
}

/// All that pgherd says to whom it says most.
async fn said(herd: &Herd, operator: &Web) -> Result<Vec<(String, String)>> {
    let mut said = Vec::new();
    let mut console = herd.console().await?;
    for view in operator.see("show").await?.as_array().context("no list of views")? {
        let view = view.as_str().or_else(|| view["name"].as_str()).context("no name")?;
        said.push((format!("SHOW {view}"), format!("{:?}", console.query(&format!("SHOW {view}")).await?)));
        said.push((format!("show/{view}"), operator.get(&format!("show/{view}")).await?.body));
    }
    for path in ["herd", "events", "history", "settings", "replication", "orders", "session", "/metrics"] {
        said.push((path.to_owned(), operator.get(path).await?.body));
    }
    for arguments in [&["check", "--json"][..], &["check"], &["status", "--json"], &["status"]] {
        let asked = herd.pgherd.ask(arguments).await?;
        said.push((format!("pgherd {arguments:?}"), asked.said + &asked.complained));
    }
    ensure!(said.len() > 40 && said.iter().all(|(_, text)| !text.is_empty()), "{said:?}");
    said.push(("the log".to_owned(), herd.log()));
    Ok(said)
}

#[tokio::test]
async fn no_secret_is_seen_anywhere() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    cluster.server(1)?.query(&format!("CREATE ROLE listed LOGIN PASSWORD '{LISTED}'")).await?;
    let directory = cluster.directory().to_owned();
    let (list, broken) = (directory.join("users"), directory.join("broken"));
    std::fs::write(&list, format!("\"listed\" \"{LISTED}\"\n"))?;
    std::fs::write(&broken, format!("\"listed\" \"{IN_BROKEN_FILE}\"\nnonsense \"{IN_BROKEN_FILE}\n"))?;
    let (certificate, key) = Authority::new("test")?.server(&["localhost"])?.write(&directory, "pgherd")?;
    let mut herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("auth.userlist_file", list.display().to_string())
            .set("listen.tls.cert", certificate.display().to_string())
            .set("listen.tls.key", key.display().to_string())
            .set("log.level", "trace")
    })
    .await?;
    let operator = herd.operator().await?;
    let secrets = secrets(&herd, &std::fs::read_to_string(key)?, &operator).await?;
    use_them(&herd).await?;
    herd.pgherd.set("auth.userlist_file", broken.display().to_string())?;
    ensure!(herd.pgherd.reload().await?.iter().any(|line| line.contains("nothing was changed")));
    let said = said(&herd, &operator).await?;
    for (what, secret) in &secrets {
        ensure!(secret.len() > 7, "{what} is too short to be recognised: {secret}");
        for (place, text) in &said {
            ensure!(!text.contains(secret.as_str()), "{what} is in {place}:\n{text}");
        }
    }
    Ok(())
}

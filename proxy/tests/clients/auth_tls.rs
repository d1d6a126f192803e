//! Logins by certificate, and passwords in clear text, which only TLS makes fit for the network.

use pgherd_testkit::client::psql;
use pgherd_testkit::{Cluster, Pgherd, Result, ensure};

use crate::front::PATIENCE;
use crate::tls::{Pki, set};

const RULES: &str = "\
hostssl   all app     all cert
hostssl   all legacy  all cert map=people clientname=DN
hostssl   all anna    all password
hostssl   all bert    all scram-sha-256 clientcert=verify-ca
hostnossl all bert    all scram-sha-256
";

const PEOPLE: &str = "people \"/^(O=Shop,CN=guest|CN=guest,O=Shop)$\" legacy\n";

#[tokio::test]
async fn a_certificate_names_the_user_and_a_password_in_clear_text_is_taken_over_tls() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let roles = "CREATE ROLE anna LOGIN PASSWORD 'pw'; CREATE ROLE bert LOGIN PASSWORD 'pw'";
    cluster.server(1)?.query(roles).await?;
    let (pki, directory) = (Pki::new(&cluster)?, cluster.directory());
    let passwords = cluster.credentials();
    let users = ["app", "legacy"].map(|user| format!("\"{user}\" \"{}\"\n", passwords.password(user)));
    let mut pgherd = set(pki.serve(Pgherd::builder(&cluster))?, "listen.tls.client_ca", &pki.ca);
    for (key, name, text) in [
        ("auth.hba_file", "hba", RULES),
        ("auth.ident_file", "ident", PEOPLE),
        ("auth.userlist_file", "userlist", &users.concat()),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text)?;
        pgherd = set(pgherd, key, &path);
    }
    let pgherd = pgherd.start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let address = pgherd.address();
    let app = pki.shown(&pki.authority.client("app", "Shop")?, "app")?;
    let guest = pki.shown(&pki.authority.client("guest", "Shop")?, "guest")?;
    let stranger = pki.shown(&pki.authority.client("guest", "Elsewhere")?, "stranger")?;
    let none = "sslcert=/nowhere".to_owned();
    for (user, mode, certificate, password, expected) in [
        ("app", "require", &app, "", "app"),
        ("app", "require", &guest, "", "certificate authentication failed for user \"app\""),
        ("app", "require", &none, "", "connection requires a valid client certificate"),
        ("app", "disable", &none, "pw", "no pg_hba.conf entry for host"),
        ("legacy", "require", &guest, "", "legacy"),
        ("legacy", "require", &stranger, "", "certificate authentication failed for user \"legacy\""),
        ("anna", "require", &none, "pw", "anna"),
        ("anna", "require", &none, "wrong", "password authentication failed for user \"anna\""),
        ("bert", "require", &none, "pw", "connection requires a valid client certificate"),
        ("bert", "require", &guest, "pw", "bert"),
        ("bert", "require", &guest, "wrong", "password authentication failed for user \"bert\""),
        ("bert", "disable", &none, "pw", "bert"),
        ("nobody", "require", &none, "pw", "no pg_hba.conf entry for host \"127.0.0.1\", user \"nobody\""),
    ] {
        let at = format!("host={} port={} dbname=app", address.ip(), address.port());
        let settings = format!("{at} user={user} password='{password}' sslmode={mode} {certificate}");
        let seen = match psql(&settings, "SELECT current_user").await {
            Ok(name) => name.trim().to_owned(),
            Err(error) => format!("{error:#}"),
        };
        ensure!(seen.contains(expected), "{settings}: {seen}, and not {expected}");
    }
    Ok(())
}

//! The rules for logins, other sources of passwords, and limits of roles and databases.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pgherd_testkit::client::{ErrorFields, RawClient, psql, startup_packet};
use pgherd_testkit::{Cluster, Pgherd, PgherdBuilder, Result, Server, ensure, eventually};

use crate::front::{Front, PATIENCE, says};
use crate::login::refusal;

/// A file for pgherd beside its configuration.
fn file(cluster: &Cluster, name: &str, text: &str) -> Result<String> {
    let path = cluster.directory().join(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// pgherd before a server on which these statements were run.
async fn front(
    statements: &[&str],
    settings: impl FnOnce(PgherdBuilder, &Cluster) -> Result<PgherdBuilder>,
) -> Result<Front> {
    let cluster = Cluster::builder().servers(1).start().await?;
    for statement in statements {
        cluster.server(1)?.query(statement).await?;
    }
    let pgherd = settings(Pgherd::builder(&cluster), &cluster)?.start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok(Front { cluster, pgherd })
}

/// Gives a server other rules, and waits until they are in force; its own.
async fn put_hba(server: &Server, rules: &str) -> Result<String> {
    let path: PathBuf = server.data_directory().join("pg_hba.conf");
    let before = std::fs::read_to_string(&path)?;
    let loaded = "SELECT extract(epoch FROM pg_conf_load_time())";
    let loaded_at = server.scalar(loaded).await?;
    std::fs::write(&path, rules)?;
    server.reload().await?;
    eventually("the server has read its rules", PATIENCE, || async {
        Ok((server.scalar(loaded).await? != loaded_at).then_some(()))
    })
    .await?;
    Ok(before)
}

const ROLES: &[&str] = &[
    "CREATE ROLE staff; CREATE ROLE team IN ROLE staff; CREATE ROLE shop; \
     CREATE ROLE anna LOGIN PASSWORD 'pw' IN ROLE team; CREATE ROLE bert LOGIN PASSWORD 'pw'; \
     CREATE ROLE carla LOGIN PASSWORD 'pw'; CREATE ROLE dora LOGIN PASSWORD 'pw'; GRANT shop TO dora",
    "CREATE DATABASE anna",
    "CREATE DATABASE shop",
];

const RULES: &str = "\
# TYPE DATABASE    USER             ADDRESS            METHOD
host   all         postgres,repmgr  127.0.0.0/8        scram-sha-256
host   all         carla            127.0.0.0/8        reject
host   samerole    dora             samenet            scram-sha-256
host   sameuser    all              127.0.0.1/32       scram-sha-256
host   app         +staff           127.0.0.0 255.0.0.0 md5
hostssl all        bert             all                scram-sha-256
host   \"app\"     bert             10.0.0.0/8         trust
host   app         legacy           localhost          md5
host   shop        legacy           all                scram-sha-256
";

#[tokio::test]
async fn rules_let_in_and_turn_away_whom_they_do_in_postgresql() -> Result<()> {
    let front =
        front(ROLES, |pgherd, cluster| Ok(pgherd.set("auth.hba_file", file(cluster, "hba", RULES)?))).await?;
    let legacy = front.password("legacy");
    let cases = [
        ("anna", "anna", "pw"),
        ("anna", "anna", "wrong"),
        ("anna", "app", "pw"),
        ("anna", "app", "wrong"),
        ("anna", "shop", "pw"),
        ("bert", "app", "pw"),
        ("carla", "app", "pw"),
        ("carla", "shop", "wrong"),
        ("dora", "shop", "pw"),
        ("dora", "app", "pw"),
        ("legacy", "app", legacy),
        ("legacy", "app", "wrong"),
        ("legacy", "shop", legacy),
        ("nobody", "nobody", "pw"),
        ("nobody", "app", "pw"),
    ];
    let answers = async |address| {
        let mut answers = Vec::new();
        for (user, database, password) in cases {
            answers.push((user, database, refusal(address, user, database, password).await?));
        }
        Ok::<_, pgherd_testkit::Error>(answers)
    };
    let [postgresql, pgherd] = front.both()?;
    // Asked under the same rules, one after the other: behind pgherd the server must not be the one who refuses.
    let own = put_hba(&front.server()?, RULES).await?;
    let expected = answers(postgresql).await?;
    put_hba(&front.server()?, &own).await?;
    let found = answers(pgherd).await?;
    ensure!(found == expected, "PostgreSQL {expected:#?}\npgherd {found:#?}");
    let no_entry = "FATAL 28000: no pg_hba.conf entry for host \"127.0.0.1\", user \"bert\", database \"app\", no encryption";
    ensure!(expected.contains(&("bert", "app", no_entry.to_owned())), "{expected:#?}");
    ensure!(expected.iter().filter(|(_, _, answer)| answer == "let in").count() == 4, "{expected:#?}");
    Ok(())
}

/// How a login without a password, or with it in the clear, ends.
async fn first_request(address: SocketAddr, user: &str) -> Result<String> {
    let mut client = RawClient::connect(address).await?;
    client.send(&startup_packet(user, "app")?).await?;
    let frame = client.expect_frame().await?;
    Ok(match frame.error_fields() {
        Some(fields) => fields.to_string(),
        None => format!("{} {:?}", char::from(frame.tag), frame.payload.get(..4).unwrap_or_default()),
    })
}

#[tokio::test]
async fn who_gives_no_key_needs_a_password_at_the_servers() -> Result<()> {
    let front = front(ROLES, |pgherd, cluster| {
        let hba = "host all anna,bert,dora,nobody all trust\nhost all carla all password\n\
                   host all app all scram-sha-256";
        Ok(pgherd
            .set("auth.hba_file", file(cluster, "hba", hba)?)
            .set("auth.userlist_file", file(cluster, "userlist", "\"bert\" \"pw\"\n\"dora\" \"wrong\"")?))
    })
    .await?;
    let address = front.pgherd.address();
    let anna = refusal(address, "anna", "app", "").await?;
    ensure!(anna.starts_with("FATAL 28000: pgherd has no password to log in as user \"anna\" at "), "{anna}");
    let url = format!("host={} port={} dbname=app user=bert", address.ip(), address.port());
    ensure!(psql(&url, "SELECT current_user").await?.trim() == "bert");
    let dora = refusal(address, "dora", "app", "").await?;
    ensure!(dora.contains("28P01: password authentication failed for user \"dora\""), "{dora}");
    let nobody = refusal(address, "nobody", "app", "").await?;
    ensure!(nobody == "FATAL 28000: role \"nobody\" does not exist", "{nobody}");
    let carla = first_request(address, "carla").await?;
    ensure!(carla.contains("28000: a password in clear text is not taken"), "{carla}");
    drop(front.raw().await?);
    Ok(())
}

#[tokio::test]
async fn a_userlist_and_maps_say_who_is_who_at_the_servers() -> Result<()> {
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'anna'";
    let cluster = Cluster::builder().servers(1).start().await?;
    for statement in ROLES {
        cluster.server(1)?.query(statement).await?;
    }
    let md5 = cluster.server(1)?.scalar("SELECT rolpassword FROM pg_authid WHERE rolname = 'legacy'").await?;
    let scram = cluster.server(1)?.scalar(verifier).await?;
    let users = format!(
        "\"anna\" \"{scram}\"\n\"legacy\" \"{md5}\"\n\"dora\" \"pw\"\n\"guest\" \"guest \"\"pw\"\n\"web\" \"web pw\""
    );
    let carla = file(&cluster, "carla", "pw\n")?;
    let maps: toml::Value = toml::from_str::<toml::Table>(&format!(
        "map = [{{ user = 'web', database = 'app', server_user = 'dora' }}, \
                {{ user = 'guest', server_user = 'carla', server_password_file = '{carla}' }}]"
    ))?
    .remove("map")
    .unwrap_or(toml::Value::Boolean(false));
    let pgherd = Pgherd::builder(&cluster)
        .set("auth.userlist_file", file(&cluster, "userlist", &users)?)
        .set("auth.map", maps)
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let (address, legacy) = (pgherd.address(), cluster.credentials().password("legacy"));
    for (user, password, at_servers) in [
        ("anna", "pw", "anna"),
        ("legacy", legacy, "legacy"),
        ("dora", "pw", "dora"),
        ("guest", "guest \"pw", "carla"),
        ("web", "web pw", "dora"),
        ("bert", "pw", "bert"),
    ] {
        let mut client = RawClient::login(address, user, "app", password).await?;
        let rows = client.query("SELECT current_user").await?.rows();
        let name = rows.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
        ensure!(name == at_servers, "{user} is {name:?}");
        let wrong = refusal(address, user, "app", "wrong").await?;
        let expected = format!("FATAL 28P01: password authentication failed for user \"{user}\"");
        ensure!(wrong == expected, "{wrong}");
    }
    let elsewhere = refusal(address, "web", "shop", "web pw").await?;
    ensure!(elsewhere == "FATAL 28000: role \"web\" does not exist", "{elsewhere}");
    Ok(())
}

#[tokio::test]
async fn a_query_of_the_operators_own_gives_the_passwords() -> Result<()> {
    let statements = [
        "CREATE ROLE asker LOGIN PASSWORD 'asker pw'; CREATE ROLE anna LOGIN PASSWORD 'pw'; \
         CREATE ROLE bert LOGIN PASSWORD 'pw' VALID UNTIL '2020-01-01'; CREATE ROLE carla LOGIN PASSWORD 'pw'; \
         CREATE FUNCTION public.passwords(text) RETURNS TABLE (name name, password text) LANGUAGE sql \
         SECURITY DEFINER SET search_path = pg_catalog AS \
         'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND rolname <> ''carla''' ",
        "CREATE ROLE attacker LOGIN PASSWORD 'pw'",
    ];
    let front = front(&statements, |pgherd, _| {
        Ok(pgherd
            .set("auth.query", "SELECT * FROM public.passwords($1)")
            .set("auth.query_user", "asker")
            .set("auth.query_password", "asker pw")
            .set("auth.query_database", "postgres"))
    })
    .await?;
    let address = front.pgherd.address();
    ensure!(refusal(address, "anna", "app", "pw").await? == "let in");
    for (user, password) in [("anna", "wrong"), ("bert", "pw"), ("carla", "pw"), ("nobody", "pw")] {
        let answer = refusal(address, user, "app", password).await?;
        let expected = format!("FATAL 28P01: password authentication failed for user \"{user}\"");
        ensure!(answer == expected, "{answer}");
    }
    front.server()?.query("ALTER ROLE anna PASSWORD 'new'").await?;
    ensure!(refusal(address, "anna", "app", "new").await? == "let in");
    // Nothing of a startup packet has to do with the session that asks.
    let hostile = [("search_path", "evil"), ("options", "-c search_path=evil -c role=postgres")];
    let mut client = RawClient::connect(address).await?;
    let all = [("user", "anna"), ("database", "app")].into_iter().chain(hostile);
    client
        .send(&crate::front::messages(|out| pgherd_testkit::client::frontend::startup_message(all, out))?)
        .await?;
    let outcome = client.authenticate("anna", "new").await;
    let fields = outcome.err().and_then(|error| error.downcast::<ErrorFields>().ok());
    ensure!(fields.is_some_and(|fields| fields.message().contains("permission denied to set role")));
    let used = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'asker' AND datname = 'postgres'";
    ensure!(front.server()?.scalar(used).await? == "1");
    Ok(())
}

#[tokio::test]
async fn limits_of_roles_and_databases_count_the_clients() -> Result<()> {
    let statements = [
        "CREATE ROLE anna LOGIN PASSWORD 'pw'; CREATE ROLE bert LOGIN PASSWORD 'pw'; \
         CREATE ROLE root SUPERUSER LOGIN PASSWORD 'pw' CONNECTION LIMIT 1",
        "CREATE DATABASE small CONNECTION LIMIT 2",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
    ];
    let front = front(&statements, |pgherd, _| Ok(pgherd.set("pool.size", 1))).await?;
    // What is changed later counts at the next login.
    front.server()?.query("ALTER ROLE anna CONNECTION LIMIT 3").await?;
    let tell = async |address: SocketAddr| {
        let mut clients = Vec::new();
        let mut told = Vec::new();
        let all =
            [("anna", "small"), ("bert", "small"), ("bert", "small"), ("root", "small"), ("root", "small")];
        let more = [("anna", "app"), ("anna", "app"), ("anna", "app"), ("bert", "app"), ("root", "closed")];
        for (user, database) in all.into_iter().chain(more) {
            match RawClient::login(address, user, database, "pw").await {
                Ok(client) => {
                    clients.push(client);
                    told.push("let in".to_owned());
                }
                Err(error) => told.push(error.downcast::<ErrorFields>()?.to_string()),
            }
        }
        Ok(told)
    };
    let told = front.same("limits", tell).await?;
    let expected = [
        "let in",
        "let in",
        "FATAL 53300: too many connections for database \"small\"",
        "let in",
        "let in",
        "let in",
        "let in",
        "FATAL 53300: too many connections for role \"anna\"",
        "let in",
        "FATAL 55000: database \"closed\" is not currently accepting connections",
    ];
    ensure!(told == expected, "{told:#?}");
    let address = front.pgherd.address();
    eventually("places come free", PATIENCE, || async {
        Ok((refusal(address, "bert", "small", "pw").await? == "let in").then_some(()))
    })
    .await
}

#[tokio::test]
async fn nobody_guesses_passwords_for_long() -> Result<()> {
    let front =
        Front::with(|pgherd| pgherd.set("auth.max_failures", 5).set("auth.failure_window", "1h")).await?;
    let (address, password) = (front.pgherd.address(), front.password("app"));
    let from = async |source: Ipv4Addr, password: &str| {
        let mut client = RawClient::connect_from(source, address).await?;
        match client.start("app", "app", password).await {
            Ok(_) => Ok("let in".to_owned()),
            Err(error) => Ok::<_, pgherd_testkit::Error>(error.downcast::<ErrorFields>()?.to_string()),
        }
    };
    let (guesser, other) = (Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(127, 0, 0, 8));
    let wrong = "FATAL 28P01: password authentication failed for user \"app\"";
    for _ in 0..4 {
        ensure!(from(guesser, "wrong").await? == wrong);
        // A right one between them does not begin the count anew; a database that is not there is no failure.
        ensure!(from(guesser, password).await? == "let in");
        let mut client = RawClient::connect_from(guesser, address).await?;
        ensure!(client.start("app", "no_such_database", password).await.is_err());
    }
    ensure!(from(guesser, "wrong").await? == wrong);
    for password in ["wrong", password] {
        let answer = from(guesser, password).await?;
        ensure!(answer == "FATAL 28000: too many failed logins from \"127.0.0.9\"", "{answer}");
    }
    ensure!(from(other, password).await? == "let in");
    front.pgherd.wait_log("too many failed logins", PATIENCE).await?;

    // Of guesses at the same time no more are judged than one after the other.
    let crowd = Ipv4Addr::new(127, 0, 0, 7);
    let mut guesses = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect_from(crowd, address).await?;
        client.send(&startup_packet("app", "app")?).await?;
        guesses.push(client);
    }
    let mut judged = 0;
    for mut client in guesses {
        let answer =
            client.authenticate("app", "wrong").await.err().map(|error| error.downcast::<ErrorFields>());
        judged += usize::from(answer.transpose()?.is_some_and(|fields| fields.code() == "28P01"));
    }
    ensure!(judged == 5, "{judged} of 20 guesses were judged");
    Ok(())
}

/// Salt and iterations that a user is shown.
async fn salt(address: SocketAddr, user: &str) -> Result<String> {
    let mut client = RawClient::connect(address).await?;
    client.send(&startup_packet(user, "app")?).await?;
    client.expect_frame().await?;
    let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
    let mut message = bytes::BytesMut::new();
    pgherd_testkit::client::frontend::sasl_initial_response("SCRAM-SHA-256", first, &mut message)?;
    client.send(&message).await?;
    let challenge = client.expect_frame().await?;
    let text = String::from_utf8_lossy(&challenge.payload).into_owned();
    Ok(text.split_once(",s=").map(|(_, rest)| rest.to_owned()).unwrap_or(text))
}

#[tokio::test]
async fn users_that_do_not_exist_are_shown_the_same_salt_by_every_pgherd_and_after_a_restart() -> Result<()> {
    let mut front = Front::start().await?;
    let other = Pgherd::builder(&front.cluster).start().await?;
    let mut salts = Vec::new();
    for user in ["nobody", "somebody"] {
        let shown = salt(front.pgherd.address(), user).await?;
        ensure!(shown.ends_with(",i=4096") && shown.len() == 24 + 7, "{shown}");
        ensure!(
            salt(other.address(), user).await? == shown && salt(front.pgherd.address(), user).await? == shown
        );
        salts.push(shown);
    }
    ensure!(salts[0] != salts[1], "each has its own");
    front.pgherd.restart().await?;
    ensure!(salt(front.pgherd.address(), "nobody").await? == salts[0]);
    Ok(())
}

#[tokio::test]
async fn mistakes_in_the_rules_keep_pgherd_from_starting_and_are_named() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let hba = file(&cluster, "hba", "local all all peer\nhost all all all ldap\n")?;
    let mut pgherd = Pgherd::builder(&cluster).set("auth.hba_file", hba.clone()).launch().await?;
    ensure!(pgherd.wait_exit().await?.code() == Some(1));
    let expected = format!("{hba}:2:1: auth.hba_file: authentication method \"ldap\" is not supported");
    ensure!(pgherd.log().iter().any(|line| line.contains(&expected)), "{:#?}", pgherd.log());
    ensure!(Path::new(&hba).exists());
    Ok(())
}

#[tokio::test]
async fn a_login_after_a_change_of_its_role_has_the_session_that_postgresql_would_give() -> Result<()> {
    for mode in ["transaction", "session"] {
        let front = Front::with(|pgherd| pgherd.set("pool.mode", mode).set("pool.size", 1)).await?;
        let server = front.server()?;
        let asks = async |text: &str| -> Result<String> {
            let mut client = RawClient::login(front.pgherd.address(), "anna", "app", "pw").await?;
            let answer = client.query(text).await?;
            client.finish().await?;
            let value = answer.rows().into_iter().flatten().flatten().next();
            Ok(String::from_utf8(value.unwrap_or_default().to_vec())?)
        };
        server.query("CREATE ROLE anna LOGIN PASSWORD 'pw'").await?;
        let backend = asks("SELECT pg_backend_pid()").await?;
        ensure!(asks("SELECT pg_backend_pid()").await? == backend, "{mode}: the connection is used again");
        server.query("ALTER ROLE anna SET search_path = elsewhere").await?;
        ensure!(asks("SHOW search_path").await? == "elsewhere", "{mode}: ALTER ROLE");
        server.query("ALTER DATABASE app SET work_mem = '7MB'").await?;
        ensure!(asks("SHOW work_mem").await? == "7MB", "{mode}: ALTER DATABASE");
        server.query("ALTER ROLE anna RESET search_path; ALTER DATABASE app RESET work_mem").await?;
        ensure!(asks("SHOW search_path").await?.contains("$user"), "{mode}: RESET");
        let mut one = RawClient::login(front.pgherd.address(), "anna", "app", "pw").await?;
        ensure!(one.query("SELECT 1").await?.error().is_none());
        server.query("DROP ROLE anna; CREATE ROLE anna LOGIN PASSWORD 'pw' SUPERUSER").await?;
        ensure!(asks("SELECT current_user").await? == "anna", "{mode}: another role of this name");
        let told = one.query("SELECT current_user").await.map(|answer| answer.rows());
        ensure!(
            told.as_ref().map_or(true, Vec::is_empty),
            "{mode}: who was the other role must not become this one: {told:?}"
        );
        server.query("DROP ROLE anna").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_role_that_a_user_is_at_the_servers_counts_at_its_next_login() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    server.query("CREATE ROLE dora LOGIN PASSWORD 'pw'").await?;
    let map = toml::from_str::<toml::Table>("map = [{ user = 'web', server_user = 'dora' }]")?.remove("map");
    let pgherd = Pgherd::builder(&cluster)
        .set("auth.userlist_file", file(&cluster, "userlist", "\"dora\" \"pw\"\n\"web\" \"web pw\"")?)
        .set("auth.map", map.unwrap_or(toml::Value::Boolean(false)))
        .set("pool.size", 1)
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let address = pgherd.address();
    let asks = async |text: &str| -> Result<String> {
        let mut client = RawClient::login(address, "web", "app", "web pw").await?;
        let seen = says(&mut client, text).await?;
        client.finish().await?;
        Ok(seen)
    };
    let backend = asks("SELECT pg_backend_pid()").await?;
    ensure!(asks("SELECT pg_backend_pid()").await? == backend, "the connection is used again");
    server.query("ALTER ROLE dora SET search_path = elsewhere").await?;
    ensure!(asks("SHOW search_path").await? == "elsewhere", "ALTER ROLE");
    let mut before = RawClient::login(address, "web", "app", "web pw").await?;
    ensure!(before.query("SELECT 1").await?.error().is_none());
    server.query("DROP ROLE dora; CREATE ROLE dora LOGIN PASSWORD 'pw' SUPERUSER").await?;
    ensure!(asks("SHOW is_superuser").await? == "on", "another role of this name");
    let told = before.query("SELECT current_user").await.map(|answer| answer.rows());
    ensure!(
        told.as_ref().map_or(true, Vec::is_empty),
        "who was the other must not become this one: {told:?}"
    );
    server.query("DROP ROLE dora").await?;
    let refused = refusal(address, "web", "app", "web pw").await?;
    ensure!(refused == "FATAL 28000: role \"dora\" does not exist", "{refused}");
    Ok(())
}

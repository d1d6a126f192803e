//! What is read of a role, and when it is read again.

use std::time::SystemTime;

use super::*;

const ODD_NAME: &str = "O'Brien\"; DROP ROLE postgres; -- \\ $1 ü";

#[tokio::test]
async fn roles_are_read_as_they_are_stored() {
    let server = Postgres::start().await;
    let long_name = "ä".repeat(31);
    server
        .execute(&format!(
            "CREATE ROLE scram LOGIN PASSWORD 'scram pw' VALID UNTIL 'infinity';
             CREATE ROLE expired LOGIN PASSWORD 'pw' VALID UNTIL '2020-01-01';
             CREATE ROLE never LOGIN PASSWORD 'pw' VALID UNTIL '-infinity';
             CREATE ROLE later LOGIN PASSWORD 'pw' VALID UNTIL '9999-12-31';
             CREATE ROLE nologin NOLOGIN PASSWORD 'pw';
             CREATE ROLE nopassword LOGIN;
             CREATE ROLE given LOGIN PASSWORD '{}';
             CREATE ROLE \"{}\" LOGIN PASSWORD 'odd pw';
             CREATE ROLE {long_name} LOGIN PASSWORD 'long pw';
             CREATE ROLE \"Scram\" LOGIN PASSWORD 'Scram pw';
             SET password_encryption = md5;
             CREATE ROLE md5 LOGIN PASSWORD 'md5 pw'",
            *scram_rolpassword("given pw"),
            ODD_NAME.replace('"', "\"\"")
        ))
        .await;
    let service = Service::start(&[&server.endpoint], patient());
    let now = SystemTime::now();

    let scram = service.lookup("scram").await.unwrap();
    assert!(opens(&scram, "scram", "scram pw") && !opens(&scram, "scram", "Scram pw"));
    assert!(scram.can_login && scram.verifier_at(now).is_some());
    assert!(matches!(scram.verifier, Some(Verifier::Scram(_))));
    assert!(matches!(service.lookup("md5").await.unwrap().verifier, Some(Verifier::Md5(_))));
    assert_eq!(scram.valid_until, None);
    for (user, password) in [
        ("md5", "md5 pw"),
        ("Scram", "Scram pw"),
        ("given", "given pw"),
        (ODD_NAME, "odd pw"),
        (&long_name, "long pw"),
    ] {
        assert!(opens(&service.lookup(user).await.unwrap(), user, password), "{user}");
    }
    assert!(!service.lookup("nologin").await.unwrap().can_login);
    assert!(service.lookup("nopassword").await.unwrap().verifier.is_none());
    assert!(service.lookup("later").await.unwrap().verifier_at(now).is_some());
    for user in ["expired", "never"] {
        let role = service.lookup(user).await.unwrap();
        assert!(role.verifier.is_some() && role.verifier_at(now).is_none(), "{user}");
    }
    for nobody in
        ["SCRAM", "nobody", "", "scram ", "scram\0", "scr%", &"a".repeat(64), &format!("{long_name}ä")]
    {
        assert_eq!(service.lookup(nobody).await.err(), Some(LookupError::NoSuchRole), "{nobody:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_changed_password_works_at_the_next_login() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'old'").await;
    let service = Service::start(&[&server.endpoint], patient());
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "old"));

    for password in ["new", "newer"] {
        server.execute(&format!("ALTER ROLE anna PASSWORD '{password}'")).await;
        assert!(!opens(&service.lookup("anna").await.unwrap(), "anna", password), "nobody has failed yet");
        service.verifiers.login_failed("anna");
        assert!(opens(&service.lookup("anna").await.unwrap(), "anna", password));
    }
    server.execute("ALTER ROLE anna PASSWORD 'newest'").await;
    assert!(opens(&service.after_failed_login("anna").await.unwrap(), "anna", "newest"));
    service.stop().await;
}

#[tokio::test]
async fn a_wrong_password_spoils_nothing() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'right'").await;
    let service = Service::start(&[&server.endpoint], patient());
    for _ in 0..20 {
        assert!(!opens(&service.lookup("anna").await.unwrap(), "anna", "wrong"));
        service.verifiers.login_failed("anna");
        assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "right"));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_role_that_is_dropped_or_expires_is_noticed_without_a_failed_login() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'pw'; CREATE ROLE bert LOGIN PASSWORD 'pw'").await;
    let service = Service::start(&[&server.endpoint], short_lived());
    assert!(service.lookup("anna").await.is_ok() && service.lookup("bert").await.is_ok());

    server.execute("DROP ROLE anna; ALTER ROLE bert VALID UNTIL '2020-01-01'").await;
    expire(&short_lived()).await;
    assert_eq!(service.lookup("anna").await.err(), Some(LookupError::NoSuchRole));
    assert!(service.lookup("bert").await.unwrap().verifier_at(SystemTime::now()).is_none());

    server.execute("CREATE ROLE anna LOGIN PASSWORD 'again'").await;
    expire(&short_lived()).await;
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "again"));
    service.stop().await;
}

#[tokio::test]
async fn an_aging_role_is_used_while_it_is_read_again() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'old'").await;
    let timing = Timing { fresh: Duration::ZERO, ..patient() };
    let service = Service::start(&[&server.endpoint], timing);
    service.lookup("anna").await.unwrap();
    server.execute("ALTER ROLE anna PASSWORD 'new'").await;
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "old"), "not waited for");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !opens(&service.lookup("anna").await.unwrap(), "anna", "new") {
        assert!(Instant::now() < deadline, "not read again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn a_storm_of_logins_is_one_query() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'pw'").await;
    let hour = Duration::from_secs(3600);
    let timing = Timing { fresh: hour, absent: hour, refresh_interval: hour, ..patient() };
    let service = Service::start(&[&server.endpoint], timing);
    // Logins come from several threads.
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let verifiers = service.verifiers.clone();
            tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut logins = tokio::task::JoinSet::new();
                    for n in 0..200 {
                        let verifiers = verifiers.clone();
                        let user = if n % 2 == 0 { "anna" } else { "nobody" };
                        logins.spawn(async move { verifiers.lookup(user).await.is_ok() });
                    }
                    logins.join_all().await.into_iter().filter(|known| *known).count()
                })
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.await.unwrap(), 100);
    }
    assert_eq!(service.queries(), 2, "one for anna, one for nobody");

    for _ in 0..100 {
        service.after_failed_login("anna").await.unwrap();
        let _ = service.after_failed_login("nobody").await;
    }
    assert_eq!(service.queries(), 2 + 5, "the burst that is allowed for anna, none for nobody");
    service.stop().await;
}

#[tokio::test]
async fn a_hostile_search_path_changes_nothing() {
    let server = Postgres::start().await;
    server
        .execute(
            "CREATE ROLE anna LOGIN PASSWORD 'right';
             CREATE ROLE monitor LOGIN PASSWORD 'monitor pw' IN ROLE pg_monitor;
             GRANT SELECT ON pg_catalog.pg_authid TO monitor;
             CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
             CREATE TABLE evil.pg_authid AS SELECT * FROM pg_catalog.pg_authid WHERE rolname = 'postgres';
             GRANT SELECT ON evil.pg_authid TO PUBLIC;
             CREATE TABLE evil.calls(who text); GRANT INSERT ON evil.calls TO PUBLIC;
             CREATE FUNCTION evil.always(name, name) RETURNS bool LANGUAGE plpgsql
                 AS $$ BEGIN INSERT INTO evil.calls VALUES (current_user); RETURN true; END $$;
             CREATE OPERATOR evil.= (FUNCTION = evil.always, LEFTARG = name, RIGHTARG = name);
             ALTER ROLE monitor SET search_path = evil, pg_catalog;
             ALTER DATABASE postgres SET search_path = evil, pg_catalog",
        )
        .await;
    let service = Service::start_as("monitor", "monitor pw", &[&server.endpoint], patient());
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "right"));
    assert_eq!(service.lookup("nobody").await.err(), Some(LookupError::NoSuchRole));
    assert_eq!(server.number("SELECT pg_catalog.count(*) FROM evil.calls").await, 0);
    service.stop().await;
}

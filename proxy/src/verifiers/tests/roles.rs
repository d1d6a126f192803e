//! What is read of a role.

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
             CREATE ROLE nologin NOLOGIN PASSWORD 'pw' CONNECTION LIMIT 3;
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
    assert!(scram.stored_at(now).is_some());
    let facts = Facts { can_login: true, is_superuser: false, connection_limit: None };
    assert_eq!(scram.facts, Some(facts));
    assert!(matches!(scram.stored, Some(Stored::Verifier(Verifier::Scram(_)))));
    let md5 = service.lookup("md5").await.unwrap();
    assert!(matches!(md5.stored, Some(Stored::Verifier(Verifier::Md5(_)))));
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
    let nologin = Facts { can_login: false, connection_limit: Some(3), ..facts };
    assert_eq!(service.lookup("nologin").await.unwrap().facts, Some(nologin));
    assert!(service.lookup("postgres").await.unwrap().facts.is_some_and(|facts| facts.is_superuser));
    assert!(service.lookup("nopassword").await.unwrap().stored.is_none());
    assert!(service.lookup("later").await.unwrap().stored_at(now).is_some());
    for user in ["expired", "never"] {
        let role = service.lookup(user).await.unwrap();
        assert!(role.stored.is_some() && role.stored_at(now).is_none(), "{user}");
    }
    for nobody in
        ["SCRAM", "nobody", "", "scram ", "scram\0", "scr%", &"a".repeat(64), &format!("{long_name}ä")]
    {
        assert_eq!(service.lookup(nobody).await.err(), Some(LookupError::NoSuchRole), "{nobody:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn whatever_is_changed_counts_at_the_next_login() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'old'; CREATE ROLE staff; CREATE ROLE people").await;
    let service = Service::start(&[&server.endpoint], patient());
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "old"));

    for password in ["new", "newer"] {
        server.execute(&format!("ALTER ROLE anna PASSWORD '{password}'")).await;
        assert!(opens(&service.lookup("anna").await.unwrap(), "anna", password));
    }
    server.execute("ALTER ROLE anna CONNECTION LIMIT 0; GRANT people TO staff; GRANT staff TO anna").await;
    let mut anna = Role::clone(&*service.lookup("anna").await.unwrap());
    assert_eq!(anna.facts.unwrap().connection_limit, Some(0));
    anna.member_of.sort();
    assert_eq!(anna.member_of, ["anna", "people", "staff"].map(Box::from));
    assert_eq!(service.verifiers.database("postgres"), None);
    server.execute("ALTER DATABASE postgres CONNECTION LIMIT 20").await;
    server.execute("ALTER ROLE anna VALID UNTIL '2020-01-01'").await;
    assert!(service.lookup("anna").await.unwrap().stored_at(SystemTime::now()).is_none());
    let limited = Database { allows_connections: true, connection_limit: Some(20) };
    assert_eq!(service.verifiers.database("postgres"), Some(limited));
    assert!(!service.verifiers.database("template0").unwrap().allows_connections);
    server.execute("DROP ROLE anna").await;
    assert_eq!(service.lookup("anna").await.err(), Some(LookupError::NoSuchRole));
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'again'").await;
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "again"));
    service.stop().await;
}

#[tokio::test]
async fn a_query_of_the_operators_own_says_who_has_which_password() {
    let server = Postgres::start().await;
    server
        .execute(&format!(
            "CREATE ROLE asker LOGIN PASSWORD 'asker pw'; CREATE ROLE staff; \
             CREATE ROLE anna LOGIN PASSWORD 'never looked at' CONNECTION LIMIT 7 IN ROLE staff; \
             CREATE ROLE bert LOGIN PASSWORD 'pw'; \
             CREATE ROLE late LOGIN VALID UNTIL '2020-01-01'; \
             CREATE TABLE passwords (name text, password text, divisor int DEFAULT 1); \
             INSERT INTO passwords VALUES ('anna', '{}'), ('carla', 'in the clear'), ('late', 'x'), ('none', NULL); \
             INSERT INTO passwords VALUES ('broken', 'x', 0); \
             GRANT SELECT ON passwords TO asker",
            *scram_rolpassword("anna pw")
        ))
        .await;
    let settings = Settings {
        user: "asker".to_owned(),
        password: Some(Secret::new(Zeroizing::new("asker pw".to_owned()))),
        database: "postgres".to_owned(),
        tls: Arc::new(ServerTls::disabled()),
        query: Some("SELECT name, password, 1 / divisor FROM passwords WHERE name = $1".to_owned()),
        memberships: true,
    };
    let service = Service::start_with(settings, &[&server.endpoint], patient());
    // At once, so that they are asked for together: what one of them breaks is its own.
    let (anna, broken, carla) =
        tokio::join!(service.lookup("anna"), service.lookup("broken"), service.lookup("carla"));
    let anna = anna.unwrap();
    assert!(opens(&anna, "anna", "anna pw") && anna.member_of.contains(&"staff".into()));
    assert_eq!(anna.facts.unwrap().connection_limit, Some(7));
    assert!(broken.is_err_and(|error| error.to_string().contains("division by zero")));
    let carla = carla.unwrap();
    assert!(opens(&carla, "carla", "in the clear") && carla.facts.is_none());
    assert!(service.lookup("late").await.unwrap().stored_at(SystemTime::now()).is_none());
    assert_eq!(service.lookup("none").await.err(), Some(LookupError::NoSuchRole));
    assert!(service.lookup("bert").await.unwrap().stored.is_none(), "the query does not know him");
    assert_eq!(service.lookup("nobody").await.err(), Some(LookupError::NoSuchRole));
    service.stop().await;
}

#[tokio::test]
async fn a_storm_of_logins_is_a_few_questions() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'pw'").await;
    let timing = Timing { max_waiting: 10_000, ..patient() };
    let service = Service::start(&[&server.endpoint], timing);
    let mut logins = tokio::task::JoinSet::new();
    for n in 0..800 {
        let verifiers = service.verifiers.clone();
        let user = if n % 2 == 0 { "anna".to_owned() } else { format!("nobody{n}") };
        logins.spawn(async move { verifiers.lookup(&user).await.is_ok() });
    }
    let known = logins.join_all().await.into_iter().filter(|known| *known).count();
    assert_eq!(known, 400);
    assert!(service.queries() <= 8, "{} questions", service.queries());
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

//! Servers that are down, silent, or say no.

use std::net::TcpListener;
use std::time::Instant;

use super::postgres::free_endpoint;
use super::*;

#[tokio::test]
async fn logins_go_on_while_no_server_answers() {
    let mut server = Postgres::start().await;
    server.execute("CREATE ROLE anna LOGIN PASSWORD 'pw'; CREATE ROLE bert LOGIN PASSWORD 'pw'").await;
    let service = Service::start(&[&server.endpoint], patient());
    service.lookup("anna").await.unwrap();

    server.kill();
    for _ in 0..2 {
        assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "pw"));
    }
    let Err(LookupError::Unavailable(why)) = service.lookup("bert").await else {
        panic!("bert was never seen")
    };
    assert!(why.contains(&server.endpoint.to_string()), "{why}");

    server.run().await;
    server.execute("ALTER ROLE anna PASSWORD 'new'").await;
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "new"));
    assert!(service.lookup("bert").await.is_ok());
    service.stop().await;
}

#[tokio::test]
async fn who_was_not_here_before_waits_for_a_server_that_is_about_to_come_back() {
    let mut server = Postgres::start().await;
    let timing =
        Timing { insistence: Duration::from_secs(60), pause: Duration::from_millis(50), ..patient() };
    let service = Service::start(&[&server.endpoint], timing);
    server.kill();
    let verifiers = service.verifiers.clone();
    let login = tokio::spawn(async move { verifiers.lookup("postgres").await });
    // It has failed once.
    assert!(service.verifiers.ask("postgres").await.is_err());
    server.run().await;
    assert!(opens(&login.await.unwrap().unwrap(), "postgres", SUPERUSER_PASSWORD));
    service.stop().await;
}

#[tokio::test]
async fn who_was_here_before_does_not_wait_for_servers_that_are_silent() {
    let mut server = Postgres::start().await;
    let timing = Timing { patience: Duration::from_millis(50), ..patient() };
    let service = Service::start(&[&server.endpoint], timing);
    service.lookup("postgres").await.unwrap();
    server.kill();
    let silent = TcpListener::bind((server.endpoint.host.as_str(), server.endpoint.port)).unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        assert!(opens(&service.lookup("postgres").await.unwrap(), "postgres", SUPERUSER_PASSWORD));
    }
    assert!(started.elapsed() < patient().server_timeout, "{:?}", started.elapsed());
    drop(silent);
    service.stop().await;
}

#[tokio::test]
async fn a_dead_or_silent_primary_costs_a_moment_once() {
    let server = Postgres::start().await;
    let dead = free_endpoint();
    let unknown = Endpoint { host: "no-such-host.invalid".to_owned(), port: 5432 };
    // Connects, and then never hears a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let timing = Timing { demotion: Duration::from_secs(3600), ..patient() };
    let service = Service::start(&[&dead, &silent, &unknown, &server.endpoint], timing.clone());

    let started = Instant::now();
    assert!(service.lookup("postgres").await.is_ok());
    assert!(
        started.elapsed() < timing.server_timeout,
        "waited for the silent server: {:?}",
        started.elapsed()
    );
    assert!(service.lookup("postgres").await.is_ok());
    listener.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| listener.accept().ok()).count();
    assert_eq!(asked, 1, "the silent server must come last once it was found silent");
    service.stop().await;
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_first_one_dies() {
    let mut primary = Postgres::start().await;
    let standby = Postgres::start().await;
    for server in [&primary, &standby] {
        server.execute("CREATE ROLE anna LOGIN PASSWORD 'pw'").await;
    }
    let service = Service::start(&[&primary.endpoint, &standby.endpoint], patient());
    service.lookup("postgres").await.unwrap();
    primary.kill();
    assert!(opens(&service.lookup("anna").await.unwrap(), "anna", "pw"));
    service.stop().await;
}

#[tokio::test]
async fn a_kept_connection_is_used_again_and_replaced_when_it_was_cut() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE a; CREATE ROLE b; CREATE ROLE c").await;
    let service = Service::start(&[&server.endpoint], patient());
    let ours = "SELECT pid::bigint FROM pg_stat_activity WHERE application_name = 'pgherd passwords'";
    service.lookup("a").await.unwrap();
    let first = server.number(ours).await;
    service.lookup("b").await.unwrap();
    assert_eq!(server.number(ours).await, first);

    server.execute(&format!("SELECT pg_terminate_backend({first})")).await;
    service.lookup("c").await.unwrap();
    assert_ne!(server.number(&format!("{ours} AND pid <> {first}")).await, first);
    service.stop().await;
}

#[tokio::test]
async fn a_missing_right_is_named_with_what_gives_it() {
    let server = Postgres::start().await;
    server.execute("CREATE ROLE \"mon\"\"itor\" LOGIN PASSWORD 'secret word'").await;
    let service = Service::start_as("mon\"itor", "secret word", &[&server.endpoint], patient());
    let Err(LookupError::Forbidden(text)) = service.lookup("postgres").await else { panic!("was allowed") };
    let grant = "GRANT SELECT ON pg_catalog.pg_authid TO \"mon\"\"itor\"";
    assert!(text.contains(grant) && text.contains(&server.endpoint.to_string()), "{text}");
    assert!(!text.contains("secret word"));

    server.execute(grant).await;
    assert!(service.lookup("postgres").await.is_ok(), "the advice must help");
    service.stop().await;
}

#[tokio::test]
async fn a_wrong_monitor_password_is_said_but_not_shown() {
    let server = Postgres::start().await;
    let service = Service::start_as("postgres", "mistyped", &[&server.endpoint], patient());
    let Err(LookupError::Unavailable(text)) = service.lookup("postgres").await else { panic!("was allowed") };
    assert!(text.contains("28P01") && text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("mistyped"));
    service.stop().await;
}

#[tokio::test]
async fn without_servers_or_reader_a_lookup_ends() {
    let service = Service::start(&[], patient());
    let verifiers = service.verifiers.clone();
    assert_eq!(
        verifiers.lookup("anna").await.err(),
        Some(LookupError::Unavailable("no server is known".into()))
    );
    service.stop().await;
    assert!(verifiers.lookup("bert").await.is_err_and(|error| error.is_temporary()));
}

#[tokio::test]
async fn more_logins_than_may_wait_are_turned_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let timing = Timing { max_waiting: 2, server_timeout: Duration::from_millis(200), ..patient() };
    let service = Service::start(&[&silent], timing);
    let mut logins = tokio::task::JoinSet::new();
    for n in 0..10 {
        let verifiers = service.verifiers.clone();
        logins.spawn(async move { verifiers.lookup(&format!("user{n}")).await.err() });
    }
    let outcomes = logins.join_all().await;
    assert!(outcomes.contains(&Some(LookupError::Busy)));
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_some_and(LookupError::is_temporary)));
    service.stop().await;
}

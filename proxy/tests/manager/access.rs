//! Who is let in, and what each may do.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pgherd_testkit::{Authority, Cluster, Pgherd, Result, ensure, eventually};
use serde_json::{Value as Json, json};

use crate::herd::{Herd, NOBODY, OPERATOR, VIEWER, users};
use crate::live::Live;
use crate::schema::Schema;
use crate::web::{Answer, PATIENCE, Web, all, text};

/// One of each action, about what may be there.
pub(crate) fn actions() -> Vec<Json> {
    vec![
        json!({ "action": "switchover", "node": 1 }),
        json!({ "action": "failover" }),
        json!({ "action": "promote", "node": 1 }),
        json!({ "action": "follow", "node": 1 }),
        json!({ "action": "rejoin", "node": 1 }),
        json!({ "action": "reclone", "node": 1 }),
        json!({ "action": "attach", "node": 1 }),
        json!({ "action": "detach", "node": 1 }),
        json!({ "action": "pause_failover" }),
        json!({ "action": "resume_failover" }),
        json!({ "action": "reload" }),
        json!({ "action": "set", "key": "pool.size", "value": "7" }),
        json!({ "action": "stop", "node": 1 }),
        json!({ "action": "start", "node": 1 }),
        json!({ "action": "unregister", "node": 1 }),
        json!({ "action": "pause", "database": "app" }),
        json!({ "action": "resume" }),
        json!({ "action": "reconnect" }),
        json!({ "action": "disable", "database": "app" }),
        json!({ "action": "enable", "database": "app" }),
        json!({ "action": "kill_client", "id": 1 }),
        json!({ "action": "cancel", "node": 1, "pid": 1 }),
        json!({ "action": "terminate", "node": 1, "pid": 1 }),
        json!({ "action": "backup", "node": 1, "kind": "base" }),
        json!({ "action": "backup_delete", "node": 1, "name": "base-1" }),
        json!({ "action": "backup_restore", "node": 1, "name": "dump-1", "database": "new" }),
    ]
}

/// Whoever is refused is told nothing but that, and gets no session.
fn is_wrong(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 401 && answer.header("set-cookie").is_none(), "{answer:?}");
    let error = answer.error()?;
    ensure!(error.starts_with("The password is wrong, or the user is in neither"), "{error}");
    Ok(())
}

#[tokio::test]
async fn who_has_logged_in_may_look_or_order_and_nobody_else_anything() -> Result<()> {
    let herd = Herd::with(1, |pgherd| pgherd.set("auth.max_failures", 1000)).await?;
    let web = herd.web()?;
    let none = web.see("session").await?;
    for nothing in ["user", "role", "csrf", "anonymous", "cluster"] {
        ensure!(none[nothing].is_null(), "{none}");
    }
    nobody_gets_anything(&herd, &web).await?;
    let answer = web.try_log_in(OPERATOR.0, OPERATOR.1).await?.expect(200)?;
    let cookie = answer.header("set-cookie").unwrap_or_default().to_owned();
    for attribute in ["pgherd_session=", "HttpOnly", "SameSite=Strict", "Path=/"] {
        ensure!(cookie.contains(attribute) && !cookie.contains("Secure"), "{cookie}");
    }
    ensure!(answer.header("cache-control") == Some("no-store"), "{answer:?}");
    let operator = answer.session(&web)?;
    let known = operator.see("session").await?;
    ensure!(known["user"] == OPERATOR.0 && known["role"] == "operator" && known["cluster"].is_string());
    ensure!(known["csrf"] == answer.json()?["csrf"], "the page is loaded again: {known}");
    viewer_may_only_look(&herd).await?;
    token_and_origin_are_checked(&operator).await?;
    // A session is the browser's own: another's ends alone.
    let other = herd.operator().await?;
    operator.ask("DELETE", "session", b"").await?.expect(204)?;
    operator.get("herd").await?.expect(401)?.error()?;
    operator.post("orders", &json!({ "action": "reload" })).await?.expect(401)?;
    other.get("herd").await?.expect(200)?;
    // Whoever logs in again has the new session and not the old one.
    let again = other.log_in(OPERATOR.0, OPERATOR.1).await?;
    other.get("herd").await?.expect(401)?;
    again.get("herd").await?.expect(200)?;
    herd.ensure_sound()
}

/// Without a login there is nothing at any path, and a password that is wrong gets nobody further.
async fn nobody_gets_anything(herd: &Herd, web: &Web) -> Result<()> {
    let schema = Schema(web.see("openapi.json").await?);
    let mut seen = 0;
    for (path, methods) in schema.paths()? {
        let path = path.trim_start_matches('/').replace("{view}", "pools").replace("{id}", "1");
        for method in methods.into_iter().filter(|_| path != "session") {
            let body = b"{\"action\":\"reload\"}".as_slice();
            let body = if method == "post" { body } else { b"" };
            let asked = web.clone().with("Content-Type", "application/json");
            let answer = asked.ask(&method.to_uppercase(), &path, body).await?;
            answer.expect(401)?.error()?;
            seen += 1;
        }
    }
    ensure!(seen >= 16, "{seen}");
    ensure!(Live::open(web).await?.err() == Some(401));
    for forged in ["pgherd_session=", "pgherd_session=AAAA", "pgherd_session"] {
        web.clone().with("Cookie", forged).get("herd").await?.expect(401)?;
    }
    for malformed in ["Basic", "Basic !", "Bearer abc", "Basic b2xnYQ==", "Basic //79", ""] {
        web.clone().with("Authorization", malformed).get("herd").await?.expect(401)?.error()?;
    }
    // Basic authentication is for each request by itself, and colons are the password's.
    let script = web.clone().basic(OPERATOR.0, OPERATOR.1);
    ensure!(script.get("herd").await?.expect(200)?.header("set-cookie").is_none());
    script.order(json!({ "action": "reload" })).await?;
    is_wrong(&web.clone().basic(OPERATOR.0, "wrong").get("herd").await?)?;
    similar_times(herd, web).await
}

/// How long it takes to be refused does not tell who there is.
async fn similar_times(herd: &Herd, web: &Web) -> Result<()> {
    let unknown = ("nobody of this name", OPERATOR.1);
    let cases = [(OPERATOR.0, "wrong"), unknown, NOBODY, (NOBODY.0, "wrong"), (OPERATOR.0, "")];
    // Other tests take time, too: of each the least, tried by turns.
    let mut times = cases.map(|case| (case, Duration::MAX));
    for round in 0..20 {
        for ((user, password), least) in &mut times {
            let moment = Instant::now();
            is_wrong(&web.try_log_in(user, password).await?)?;
            *least = moment.elapsed().min(*least);
        }
        if round > 3 && are_similar(times.map(|it| it.1)) {
            break;
        }
    }
    eprintln!("refused within {times:?}");
    ensure!(are_similar(times.map(|it| it.1)), "{times:?}");
    for secret in [OPERATOR.1, NOBODY.1] {
        ensure!(!herd.log().contains(secret), "{}", herd.log());
    }
    Ok(())
}

fn are_similar(times: [Duration; 5]) -> bool {
    let (least, most) = (times.iter().min(), times.iter().max());
    most.zip(least).is_some_and(|(most, least)| *most < *least * 2)
}

async fn viewer_may_only_look(herd: &Herd) -> Result<()> {
    let viewer = herd.viewer().await?;
    ensure!(viewer.see("session").await?["role"] == "viewer");
    for action in actions() {
        for dry_run in [true, false] {
            let mut body = action.clone();
            body["dry_run"] = dry_run.into();
            let error = viewer.post("orders", &body).await?.expect(403)?.error()?;
            ensure!(error.contains("may only look"), "{body}: {error}");
        }
    }
    ensure!(all(&viewer.see("orders").await?).len() == 1, "the script's alone");
    // Statements may hold what their users would not show.
    let client = herd.connect().await?;
    client
        .batch_execute("PREPARE mine AS SELECT 'a literal of mine'; BEGIN; SELECT 'another literal'")
        .await?;
    let prepared = client.prepare("SELECT 'a literal of mine', $1::int").await?;
    client.query(&prepared, &[&1]).await?;
    let operator = herd.operator().await?;
    for path in ["activity", "show/prepared", "show/clients", "show/servers"] {
        let (seen, hidden) = (operator.get(path).await?.body, viewer.get(path).await?.body);
        ensure!(!hidden.contains("literal"), "{path}: {hidden}");
        if ["activity", "show/prepared"].contains(&path) {
            ensure!(
                seen.contains("literal") && hidden.contains("<insufficient privilege>"),
                "{path}: {seen}"
            );
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

async fn token_and_origin_are_checked(operator: &Web) -> Result<()> {
    let reload = json!({ "action": "reload", "dry_run": true });
    let bare = operator.clone().without("X-CSRF-Token");
    for wrong in
        [bare.clone(), bare.clone().with("X-CSRF-Token", ""), bare.clone().with("X-CSRF-Token", "no")]
    {
        let error = wrong.post("orders", &reload).await?.expect(403)?.error()?;
        ensure!(error.contains("X-CSRF-Token"), "{error}");
    }
    operator.post("orders", &reload).await?.expect(200)?;
    let here = operator.address.to_string();
    for (origin, is_here) in [
        (format!("http://{here}"), true),
        (format!("https://{here}"), true),
        ("http://evil.example".to_owned(), false),
        (format!("http://{here}.evil.example"), false),
        (format!("http://evil.example/{here}"), false),
        (here.clone(), false),
        ("null".to_owned(), false),
        (String::new(), false),
    ] {
        let web = operator.clone().with("Origin", &origin);
        let ordered = web.post("orders", &reload).await?;
        ensure!(
            (ordered.status == 200) == is_here && (is_here || ordered.status == 403),
            "{origin}: {ordered:?}"
        );
        let opened = Live::open(&web).await?;
        ensure!(opened.as_ref().err() == (!is_here).then_some(&403), "{origin}");
        if !is_here {
            web.ask("DELETE", "session", b"").await?.expect(403)?;
            let stranger = Web::at(operator.address).with("Origin", &origin);
            stranger.try_log_in(OPERATOR.0, OPERATOR.1).await?.expect(403)?;
        }
    }
    operator.get("herd").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn too_many_failures_are_refused_by_address_and_user() -> Result<()> {
    let settings = |most| move |pgherd: pgherd_testkit::PgherdBuilder| pgherd.set("auth.max_failures", most);
    let herd = Herd::with(1, settings(3)).await?;
    let web = herd.web()?;
    for _ in 0..3 {
        is_wrong(&web.try_log_in(OPERATOR.0, "wrong").await?)?;
    }
    for asked in [
        web.try_log_in(OPERATOR.0, OPERATOR.1).await?,
        web.clone().basic(OPERATOR.0, OPERATOR.1).get("herd").await?,
    ] {
        let answer = asked.expect(429)?;
        ensure!(answer.error()?.contains("Too many logins have failed"), "{answer:?}");
        ensure!(answer.header("retry-after").is_some_and(|it| it.parse::<u32>().is_ok()), "{answer:?}");
    }
    // Another user from there, and this user from elsewhere, are let in.
    herd.viewer().await?.get("herd").await?.expect(200)?;
    let elsewhere = web.clone().from(Ipv4Addr::new(127, 9, 9, 9));
    elsewhere.log_in(OPERATOR.0, OPERATOR.1).await?.get("herd").await?.expect(200)?;
    // A name in place of the other does not help whoever guesses: of all from there ten times as many may fail.
    let mut statuses = Vec::new();
    for number in 0..30 {
        statuses.push(web.try_log_in(&format!("user {number}"), "wrong").await?.status);
    }
    ensure!(statuses.iter().filter(|it| **it == 401).count() == 27, "{statuses:?}");
    web.try_log_in(VIEWER.0, VIEWER.1).await?.expect(429)?;
    // Of many at once only as many are judged as may fail.
    let guess = Web::at(web.address).from(Ipv4Addr::new(127, 9, 9, 8));
    let tried = (0..20).map(|_| guess.try_log_in(OPERATOR.0, "wrong"));
    let tried = futures_util::future::try_join_all(tried).await?;
    ensure!(tried.iter().filter(|it| it.status == 401).count() == 3, "{tried:?}");
    herd.ensure_sound()
}

#[tokio::test]
async fn passwords_are_those_of_the_roles_now() -> Result<()> {
    let herd = Herd::with(1, |pgherd| {
        pgherd.set("admin.users", users([OPERATOR.0, "legacy", "lola", "old", "new", "bare"]))
    })
    .await?;
    let (web, server) = (herd.web()?, herd.server(1)?);
    server
        .query(
            "CREATE ROLE lola NOLOGIN PASSWORD 'x'; CREATE ROLE bare LOGIN; \
             CREATE ROLE old LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'; \
             CREATE ROLE new LOGIN PASSWORD 'x' VALID UNTIL '2100-01-01'",
        )
        .await?;
    let md5 = herd.cluster.credentials().password("legacy");
    web.log_in("legacy", md5).await?;
    web.log_in("new", "x").await?;
    for (user, password) in [("legacy", "x"), ("lola", "x"), ("old", "x"), ("bare", ""), ("bare", "x")] {
        is_wrong(&web.try_log_in(user, password).await?)?;
    }
    let session = herd.operator().await?;
    server.query(&format!("ALTER ROLE {} PASSWORD 'another'", OPERATOR.0)).await?;
    eventually("the new password is right", PATIENCE, || async {
        Ok((web.try_log_in(OPERATOR.0, "another").await?.status == 200).then_some(()))
    })
    .await?;
    is_wrong(&web.try_log_in(OPERATOR.0, OPERATOR.1).await?)?;
    session.get("herd").await?.expect(200)?;
    herd.ensure_sound()
}

#[tokio::test]
async fn who_is_taken_out_of_the_settings_is_out_at_once() -> Result<()> {
    let mut herd = Herd::start(1).await?;
    let (operator, viewer) = (herd.operator().await?, herd.viewer().await?);
    let mut pages = [Live::of(&operator).await?, Live::of(&viewer).await?];
    let script = herd.web()?.basic(OPERATOR.0, OPERATOR.1);
    script.get("herd").await?.expect(200)?;
    let left = herd.operator().await?;
    let mut page = Live::of(&left).await?;
    left.ask("DELETE", "session", b"").await?.expect(204)?;
    let moment = Instant::now();
    ensure!(page.closed().await? == Some(4401));
    eprintln!("a page is closed {:?} after its session", moment.elapsed());
    herd.pgherd.set("admin.users", users([NOBODY.0]))?;
    herd.pgherd.set("admin.stats_users", users([OPERATOR.0]))?;
    herd.pgherd.reload().await?;
    let moment = Instant::now();
    // From operator to viewer, and from viewer to nobody.
    let error = operator.post("orders", &json!({ "action": "reload" })).await?.expect(403)?.error()?;
    ensure!(error.contains("may only look"), "{error}");
    operator.get("herd").await?.expect(200)?;
    viewer.get("herd").await?.expect(401)?;
    script.post("orders", &json!({ "action": "reload" })).await?.expect(403)?;
    let [still, gone] = &mut pages;
    ensure!(gone.closed().await? == Some(4401));
    eprintln!("a page is closed {:?} after its user was taken out", moment.elapsed());
    still.next("herd").await?;
    herd.web()?.log_in(NOBODY.0, NOBODY.1).await?;
    herd.ensure_sound()
}

#[tokio::test]
async fn while_no_server_is_up_those_are_let_in_whose_password_is_known() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let list = cluster.directory().join("users.txt");
    std::fs::write(&list, "\"listed\" \"listed-has-a-password\"\n")?;
    let herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("auth.userlist_file", list.display().to_string())
            .set("admin.users", users([OPERATOR.0, "listed"]))
    })
    .await?;
    herd.operator().await?;
    herd.server(1)?.stop_clean().await?;
    let web = herd.web()?;
    eventually("the server is down", PATIENCE, || async {
        let seen = web.clone().basic("listed", "listed-has-a-password").see("herd").await?;
        Ok((seen["writes"]["open"] == false).then_some(()))
    })
    .await?;
    let operator = herd.operator().await?;
    is_wrong(&web.try_log_in(OPERATOR.0, "wrong").await?)?;
    is_wrong(&web.try_log_in("listed", "wrong").await?)?;
    let unknown = web.try_log_in(VIEWER.0, VIEWER.1).await?.expect(503)?;
    ensure!(unknown.error()?.contains("cannot be checked now"), "{unknown:?}");
    // All is told that is known, and what is not, why.
    let shown = operator.see("herd").await?;
    ensure!(shown["alert"]["level"] == "error" && !text(&shown["alert"]["text"]).is_empty(), "{shown:#}");
    for path in ["replication", "activity", "statements"] {
        let shown = operator.see(path).await?;
        ensure!(text(&shown["nodes"][0]["error"]).contains("does not answer"), "{path}: {shown:#}");
    }
    let repmgr = operator.see("repmgr").await?;
    ensure!(repmgr["error"].is_string(), "{repmgr}");
    herd.ensure_sound()
}

#[tokio::test]
async fn over_tls_the_cookie_is_for_tls_alone() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let authority = Authority::new("test authority")?;
    let (certificate, key) = authority.server(&["localhost"])?.write(cluster.directory(), "http")?;
    let herd = Herd::of(cluster, |pgherd| {
        pgherd
            .set("http.tls.cert", certificate.display().to_string())
            .set("http.tls.key", key.display().to_string())
    })
    .await?;
    let web = herd.web()?.encrypted(authority.trusting(None)?);
    let answer = web.try_log_in(OPERATOR.0, OPERATOR.1).await?.expect(200)?;
    ensure!(answer.header("set-cookie").is_some_and(|it| it.ends_with("; Secure")), "{answer:?}");
    let operator = answer.session(&web)?;
    operator.order(json!({ "action": "reload" })).await?;
    Live::of(&operator).await?.next("herd").await?;
    let clear = herd.web()?.get("herd").await;
    ensure!(clear.is_err(), "in the clear: {clear:?}");
    let health = web.get("/healthz").await?;
    ensure!(health.status == 200, "{health:?}");
    let _: &Pgherd = &herd.pgherd;
    herd.ensure_sound()
}

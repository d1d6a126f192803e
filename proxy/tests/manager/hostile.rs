//! HTTP that nobody means well with, and names that somebody has thought out.

use std::time::Duration;

use pgherd_testkit::{Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::herd::{Herd, OPERATOR};
use crate::web::Web;

/// How long a health check may take, and how much memory all of it, in KiB.
const AT_ONCE: Duration = Duration::from_secs(2);
const MEMORY: u64 = 60_000;

#[tokio::test]
async fn whatever_is_sent_is_answered_or_ended_and_costs_little() -> Result<()> {
    let herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    let before = herd.resident()?;
    let rest = async {
        bodies(&operator).await?;
        requests(&operator).await?;
        logins(&herd, &operator).await
    };
    tokio::try_join!(slow_body(&operator), rest)?;
    // They take the places of all others.
    connections(&operator).await?;
    let grown = herd.resident()?.saturating_sub(before);
    eprintln!("hostile requests: {grown} KiB");
    ensure!(grown < MEMORY, "{grown} KiB");
    operator.get("herd").await?.expect(200)?;
    herd.ensure_sound()
}

async fn bodies(operator: &Web) -> Result<()> {
    let big = format!("{{\"action\":\"{}\"}}", "x".repeat(1 << 20));
    let deep = format!("{{\"action\":{}1{}}}", "[".repeat(3_000), "]".repeat(3_000));
    let json = operator.clone().with("Content-Type", "application/json");
    let xml = operator.clone().with("Content-Type", "text/xml");
    let form = operator.clone().with("Content-Type", "application/x-www-form-urlencoded");
    for path in ["orders", "session"] {
        for (web, body, status) in [
            (&json, big.as_bytes(), 413),
            (&json, deep.as_bytes(), 400),
            (&json, b"", 400),
            (&json, b"{", 400),
            (&json, b"null", 422),
            (&json, b"\xff\xfe{}", 400),
            (&json, b"{\"action\":\"reload\",\"action\":\"reload\"} {}", 400),
            (&xml, b"<a/>", 415),
            (&form, b"action=reload", 415),
            (operator, b"{\"action\":\"reload\"}", 415),
        ] {
            let answer = web.ask("POST", path, body).await?;
            let short =
                String::from_utf8_lossy(body.get(..40.min(body.len())).unwrap_or_default()).into_owned();
            // What is wrong first counts.
            let fits = answer.status == status || (answer.status == 422 && status == 400);
            ensure!(fits, "{path} {short}: {answer:?}");
            answer.error()?;
        }
    }
    for user in ["\0", "a\0b", "x\u{202e}y", &"u".repeat(5_000), "'; DROP TABLE repmgr.nodes; --", "\n"] {
        let answer = Web::at(operator.address).try_log_in(user, "p").await?;
        ensure!(answer.status == 401 && !answer.body.contains("DROP"), "{answer:?}");
    }
    for (length, status) in [(5_000, 401), (50_000, 413)] {
        let long = Web::at(operator.address).try_log_in(OPERATOR.0, &"p".repeat(length)).await?;
        ensure!(long.status == status, "{long:?}");
    }
    Ok(())
}

async fn requests(operator: &Web) -> Result<()> {
    let long = format!("show/{}", "a".repeat(200_000));
    for path in [
        "/api/v1/herd%00",
        "/api/v1/../../etc/passwd",
        "/api/v1/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/assets/../../../etc/passwd",
        "//api/v1/herd",
        "/api/v1/herd/",
        "/api/v1/HERD",
        "/api/v1",
        "/api/v2/herd",
        "/assets/%00.js",
        "/%ff%fe",
        "/index.html.gz/..",
        "/api/v1/show/..%2fherd",
        "/.%00./x.y",
        &long,
    ] {
        let answer = operator.get(path).await?;
        let is_page = answer.status == 200 && answer.body.contains("<!doctype html>");
        ensure!((400..500).contains(&answer.status) || is_page, "{path}: {answer:?}");
        ensure!(!answer.body.contains("root:") && answer.body.len() < 500_000, "{path}: {answer:?}");
        ensure!(
            answer.header("content-security-policy").is_some()
                || answer.status == 431
                || answer.status == 414,
            "{path}: {answer:?}"
        );
    }
    for method in ["PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "BREW"] {
        for path in ["herd", "orders", "session", "live"] {
            let answer = operator.ask(method, path, b"").await?;
            ensure!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
    let head = operator.ask("HEAD", "herd", b"").await?;
    ensure!(head.status == 200 && head.body.is_empty(), "{head:?}");
    for (name, value) in
        [("Cookie", "x".repeat(30_000)), ("Origin", "\u{7f}".to_owned()), ("X-CSRF-Token", "é".to_owned())]
    {
        let answer =
            operator.clone().with(name, &value).post("orders", &json!({ "action": "dance" })).await?;
        ensure!((400..500).contains(&answer.status), "{name}: {answer:?}");
    }
    // Two answers must not be taken for one.
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: gzip",
    ] {
        let mut wire = operator.connect().await?;
        let text = format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        wire.write_all(text.as_bytes()).await?;
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(25), wire.read_to_end(&mut said)).await;
        let said = String::from_utf8_lossy(&said);
        ensure!(ended.is_ok() && said.starts_with("HTTP/1.1 4"), "{head}: {said}");
    }
    Ok(())
}

/// Guesses cost time, and not that of others.
async fn logins(herd: &Herd, operator: &Web) -> Result<()> {
    let before = herd.resident()?;
    let guess = |number: usize| async move {
        let web = Web::at(operator.address).from([127, 7, u8::try_from(number % 200)?, 1].into());
        web.try_log_in(&format!("user {number}"), "wrong").await
    };
    let began = Instant::now();
    let guesses = futures_util::future::try_join_all((0..200).map(guess));
    let looks = async {
        let mut worst = Duration::ZERO;
        for _ in 0..10 {
            worst = worst.max(healthy(operator).await?);
        }
        Ok(worst)
    };
    let (guessed, worst) = tokio::try_join!(guesses, looks)?;
    ensure!(guessed.iter().all(|it| [401, 429, 503].contains(&it.status)), "{guessed:?}");
    let grown = herd.resident()?.saturating_sub(before);
    eprintln!("200 guesses: {:?}, health checks within {worst:?}, {grown} KiB", began.elapsed());
    ensure!(grown < MEMORY, "{grown} KiB");
    Ok(())
}

async fn healthy(web: &Web) -> Result<Duration> {
    let moment = Instant::now();
    let answer = timeout(AT_ONCE, web.get("/healthz")).await??;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(moment.elapsed())
}

/// Whoever says nothing, or slowly, keeps nobody from asking.
async fn connections(operator: &Web) -> Result<()> {
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut wire = operator.connect().await?;
        match number % 3 {
            0 => {}
            1 => wire.write_all(b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{").await?,
            _ => wire.write_all(format!("POST /api/v1/orders HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\n", operator.head()).as_bytes()).await?,
        }
        idle.push(wire);
        if number % 50 == 0 {
            healthy(operator).await?;
        }
    }
    for _ in 0..20 {
        healthy(operator).await?;
    }
    operator.get("herd").await?.expect(200)?;
    Ok(())
}

/// A body that comes byte by byte is not waited for for ever.
async fn slow_body(operator: &Web) -> Result<()> {
    let mut slow = operator.connect().await?;
    slow.write_all(b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n").await?;
    let (mut reads, mut writes) = tokio::io::split(slow);
    let trickle = async {
        while writes.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    let began = Instant::now();
    let ended = async { timeout(Duration::from_secs(25), reads.read_to_end(&mut said)).await.is_ok() };
    let is_ended = tokio::select! { is_ended = ended => is_ended, () = trickle => false };
    eprintln!("a slow body is given up after {:?}", began.elapsed());
    ensure!(is_ended, "{}", String::from_utf8_lossy(&said));
    Ok(())
}

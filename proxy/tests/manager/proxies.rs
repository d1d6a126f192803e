//! Whom an authenticating proxy names, and who is not logged in at all.

use std::net::Ipv4Addr;

use pgherd_testkit::{Result, ensure};
use serde_json::json;

use crate::herd::{Herd, NOBODY, OPERATOR, VIEWER, users};
use crate::live::Live;
use crate::web::Web;

/// Where the proxy asks from.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 8, 8, 8);

#[tokio::test]
async fn a_proxy_is_believed_from_its_address_alone() -> Result<()> {
    let herd = Herd::with(1, |pgherd| {
        pgherd.set("http.trusted_proxies", users(["127.8.8.0/24"])).set("http.user_header", "X-Remote-User")
    })
    .await?;
    let (stranger, proxy) = (herd.web()?, herd.web()?.from(PROXY));
    let named = |web: &Web, user: &str| web.clone().with("X-Remote-User", user);
    named(&stranger, OPERATOR.0).get("herd").await?.expect(401)?;
    stranger
        .clone()
        .with("X-Forwarded-For", "127.8.8.8")
        .with("X-Remote-User", OPERATOR.0)
        .get("herd")
        .await?
        .expect(401)?;
    proxy.get("herd").await?.expect(401)?;
    for nobody in [NOBODY.0, "", "nobody", "OLGA", "olga, vera"] {
        named(&proxy, nobody).get("herd").await?.expect(401)?;
    }
    // A second name: which of them did the proxy add?
    named(&named(&proxy, OPERATOR.0), VIEWER.0).get("herd").await?.expect(401)?;
    named(&named(&proxy, OPERATOR.0), OPERATOR.0).get("herd").await?.expect(401)?;
    let operator = named(&proxy, OPERATOR.0);
    operator.clone().with("x-remote-user", "").get("herd").await?.expect(401)?;
    operator.get("herd").await?.expect(200)?;
    let reload = json!({ "action": "reload" });
    // Its word is not that the user has meant it: the page has a token.
    operator.post("orders", &reload).await?.expect(403)?;
    let page = operator.get("session").await?.expect(200)?.session(&operator)?;
    ensure!(page.see("session").await?["role"] == "operator");
    page.order(reload.clone()).await?;
    Live::of(&page).await?.next("herd").await?;
    // The same browser with another user: the session is not the other's.
    let other = named(&page.clone().without("X-Remote-User"), VIEWER.0);
    let session = other.see("session").await?;
    ensure!(session["user"] == VIEWER.0 && session["role"] == "viewer", "{session}");
    other.post("orders", &reload).await?.expect(403)?;
    // The others log in as ever.
    herd.operator().await?.get("herd").await?.expect(200)?;
    herd.ensure_sound()
}

#[tokio::test]
async fn who_is_not_logged_in_may_look_where_that_is_set() -> Result<()> {
    let herd = Herd::with(1, |pgherd| pgherd.set("http.anonymous", true)).await?;
    let web = herd.web()?;
    let session = web.see("session").await?;
    ensure!(
        session["anonymous"] == "viewer" && session["role"] == "viewer" && session["user"].is_null(),
        "{session}"
    );
    for path in ["herd", "events", "failovers", "history", "show/pools", "activity", "settings", "orders"] {
        web.get(path).await?.expect(200)?;
    }
    web.post("orders", &json!({ "action": "reload" })).await?.expect(401)?.error()?;
    let client = herd.connect().await?;
    client.batch_execute("BEGIN; SELECT 'a literal of mine'").await?;
    let activity = web.get("activity").await?.body;
    ensure!(activity.contains("<insufficient privilege>") && !activity.contains("literal"), "{activity}");
    let mut page = Live::of(&web).await?;
    page.next("herd").await?;
    // A wrong password is wrong all the same, and no look as somebody else.
    web.clone().basic(OPERATOR.0, "wrong").get("herd").await?.expect(401)?;
    ensure!(Live::open(&web.clone().with("Origin", "http://evil.example")).await?.err() == Some(403));
    let operator = herd.operator().await?;
    ensure!(operator.see("session").await?["role"] == "operator");
    operator.order(json!({ "action": "reload" })).await?;
    herd.ensure_sound()
}

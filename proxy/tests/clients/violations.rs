//! Clients that break the protocol after their login.

use pgherd_testkit::Result;
use pgherd_testkit::client::{RawClient, frontend};

use crate::front::{Front, comparable, messages};

#[tokio::test]
async fn garbage_is_answered_as_postgresql_does_and_leaves_nothing_behind() -> Result<()> {
    let front = Front::start().await?;
    let statement = messages(|out| frontend::query("SELECT 1", out))?;
    let long = [&b"Q"[..], &0x4000_0000_u32.to_be_bytes(), b"SELECT"].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("an unknown type", b"!\0\0\0\x04".to_vec()),
        ("a type that is not the client's", b"Z\0\0\0\x05I".to_vec()),
        ("a second password", b"p\0\0\0\x05\0".to_vec()),
        ("a second startup packet", b"\0\0\0\x08\0\x03\0\0".to_vec()),
        ("a length below 4", b"Q\0\0\0\x03".to_vec()),
        ("a length that no message may have", long),
        ("a Sync that is too long", b"S\0\0\x27\x11".to_vec()),
        ("an unknown type behind a good statement", [&statement[..], b"!\0\0\0\x04"].concat()),
        ("a Query without its terminator", b"Q\0\0\0\x0cSELECT 1".to_vec()),
    ];
    for (what, bytes) in cases {
        let answer = front
            .same(what, async |address| {
                let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
                client.send(&bytes).await?;
                client.send(b"X\0\0\0\x04").await?;
                Ok(comparable(&client.read_to_end().await?))
            })
            .await?;
        eprintln!("{what}: {answer:?}");
    }
    front.wait_all_idle(20).await
}

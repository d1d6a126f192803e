//! What is done to a pgherd. Attackers go at a pace at which they leave the machine to others: what they take of pgherd is measured, and not what
//! they take of its processor.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::client::{RawClient, startup_packet};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
/// The start of a TLS handshake that never becomes one.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
/// Between two things that one attacker does.
const PAUSE: Duration = Duration::from_millis(20);

/// Something that clients should not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Startup packets of which a byte comes each second.
    SlowLogins,
    /// Connections that say nothing, from many addresses.
    HalfOpen,
    /// The same, where the process may have little memory of the kernel.
    HalfOpenInLittleMemory,
    /// Messages that claim to be as long as a message can be.
    HugeLengths,
    /// Statements without end, of which no answer is read.
    EndlessPipelines,
    /// Large results that are never read.
    UnreadResults,
    /// Cancel requests with keys that are guessed.
    CancelStorm,
    /// Logins with wrong passwords.
    Guessing,
    /// Handshakes that are none, and bytes in the midst of TLS.
    TlsGarbage,
    /// Connections that come and go where few files may be open.
    Churn,
}

/// Whom they attack.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) password: String,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SlowLogins,
        Self::HalfOpen,
        Self::HalfOpenInLittleMemory,
        Self::HugeLengths,
        Self::EndlessPipelines,
        Self::UnreadResults,
        Self::CancelStorm,
        Self::Guessing,
        Self::TlsGarbage,
        Self::Churn,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowLogins => "slow logins",
            Self::HalfOpen => "half-open connections",
            Self::HalfOpenInLittleMemory => "the same with 1 GiB of address space",
            Self::HugeLengths => "huge lengths",
            Self::EndlessPipelines => "endless pipelines",
            Self::UnreadResults => "unread results",
            Self::CancelStorm => "cancel storm",
            Self::Guessing => "password guessing",
            Self::TlsGarbage => "TLS garbage",
            Self::Churn => "churn with 200 files",
        }
    }

    /// Limits of the process, for prlimit.
    pub(super) const fn limits(self) -> Option<&'static str> {
        match self {
            Self::HalfOpenInLittleMemory => Some("--as=1073741824"),
            Self::Churn => Some("--nofile=200"),
            _ => None,
        }
    }

    /// Does it until then; what came of it.
    pub(super) async fn run(self, target: &Arc<Target>, strength: usize, until: Instant) -> Result<String> {
        let count = match self {
            Self::HalfOpen | Self::HalfOpenInLittleMemory => {
                return half_open(target, strength * 100, until).await;
            }
            Self::SlowLogins => strength,
            // Each has a server connection.
            Self::EndlessPipelines | Self::UnreadResults => (strength / 20).clamp(2, 20),
            _ => (strength / 20).max(4),
        };
        let mut attackers = JoinSet::new();
        for number in 0..count {
            let target = Arc::clone(target);
            attackers.spawn(async move { self.attacker(&target, number, until).await });
        }
        let mut all = Tally::default();
        while let Some(ended) = attackers.join_next().await {
            let Tally { times, refused } = ended.context("an attacker panicked")??;
            all.times += times;
            all.refused += refused;
        }
        ensure!(all.times > 0, "{}: nothing was done", self.name());
        Ok(format!("{count} at once, {} times, {} refused", all.times, all.refused))
    }

    /// One that does it again and again.
    async fn attacker(self, target: &Target, number: usize, until: Instant) -> Result<Tally> {
        let (from, mut tally) = (loopback(number), Tally::default());
        while Instant::now() < until {
            // Being refused, cut off and never answered is what attackers expect.
            let done = timeout_at(until, self.once(target, from, until)).await;
            tally.times += 1;
            tally.refused += u64::from(matches!(done, Ok(Err(_))));
            sleep(PAUSE).await;
        }
        Ok(tally)
    }

    async fn once(self, target: &Target, from: Ipv4Addr, until: Instant) -> Result<()> {
        let mut client = RawClient::connect_from(from, target.address).await?;
        match self {
            Self::SlowLogins => {
                for byte in startup_packet("app", "app")?.iter() {
                    client.send(&[*byte]).await?;
                    sleep(Duration::from_secs(1)).await;
                }
            }
            Self::HugeLengths => {
                client.send(b"\x7f\xff\xff\xff\0\x03\0\0").await?;
                client.read_bytes_to_end().await?;
                let mut client = RawClient::login(target.address, "app", "app", &target.password).await?;
                client.send(b"Q\x7f\xff\xff\xffSELECT ").await?;
                client.read_bytes_to_end().await?;
            }
            Self::EndlessPipelines => {
                client.start("app", "app", &target.password).await?;
                let mut batch = BytesMut::new();
                for _ in 0..100 {
                    frontend::query("SELECT repeat('x', 100)", &mut batch)?;
                }
                // Sooner or later nobody takes it.
                while Instant::now() < until {
                    client.send(&batch).await?;
                    sleep(PAUSE).await;
                }
            }
            Self::UnreadResults => {
                client.start("app", "app", &target.password).await?;
                let mut query = BytesMut::new();
                frontend::query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)", &mut query)?;
                client.send(&query).await?;
                sleep_until(until).await;
            }
            Self::CancelStorm => {
                let key = u32::from(from).wrapping_mul(2_654_435_761).to_be_bytes();
                client.send(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key, &key].concat()).await?;
                client.read_bytes_to_end().await?;
            }
            Self::Guessing => {
                client.start("app", "app", "a guess").await?;
            }
            Self::TlsGarbage => {
                client.send(SSL_REQUEST).await?;
                client.read_byte().await?;
                client.send(&[CLIENT_HELLO, &[0x41; 505], b"\x14\x03\x03\0\x01\x01garbage"].concat()).await?;
                client.read_bytes_to_end().await?;
            }
            Self::Churn => {
                let mut held = vec![client];
                for _ in 0..40 {
                    held.push(RawClient::connect_from(from, target.address).await?);
                }
                if let Some(client) = held.last_mut() {
                    client.start("app", "app", &target.password).await?;
                }
            }
            Self::HalfOpen | Self::HalfOpenInLittleMemory => {}
        }
        Ok(())
    }
}

/// How often something was done, and how often it came to an error.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    times: u64,
    refused: u64,
}

/// One of two hundred addresses.
fn loopback(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 66, 0, u8::try_from(number % 200).unwrap_or(0) + 1)
}

/// Opens so many connections that say nothing, and keeps as many as it may.
async fn half_open(target: &Arc<Target>, count: usize, until: Instant) -> Result<String> {
    const OPENERS: usize = 20;
    /// What one process may have open.
    const MOST: usize = 15_000;
    let mut openers = JoinSet::new();
    for opener in 0..OPENERS {
        let target = Arc::clone(target);
        openers.spawn(async move {
            let (mut held, mut opened) = (Vec::new(), 0_usize);
            while opened < count / OPENERS && Instant::now() < until {
                let from = loopback(opened * OPENERS + opener);
                if let Ok(client) = RawClient::connect_from(from, target.address).await {
                    held.push(client);
                    opened += 1;
                }
                if held.len() >= MOST / OPENERS {
                    held.drain(..held.len() / 4);
                }
                if opened.is_multiple_of(10) {
                    sleep(Duration::from_millis(2)).await;
                }
            }
            sleep_until(until).await;
            (opened, held.len())
        });
    }
    let (mut opened, mut held) = (0, 0);
    while let Some(ended) = openers.join_next().await {
        let (more, still) = ended.context("an attacker panicked")?;
        opened += more;
        held += still;
    }
    ensure!(opened > 0, "no connection was opened");
    Ok(format!("{opened} opened, {held} kept to the end"))
}

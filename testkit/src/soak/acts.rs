//! What a client of a soak does.

use anyhow::{Result, ensure};
use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::task::JoinSet;

use super::ROWS;
use super::client::{Client, Fate, swallow};
use crate::client::RawClient;

impl Client {
    /// Does one thing by chance; gives back the connection if it can be used for more.
    pub(super) async fn act(&mut self, mut connection: RawClient) -> Result<Option<RawClient>> {
        let fate = match self.chance.below(100) {
            0..20 => self.reads(&mut connection).await?,
            20..35 => self.prepares(&mut connection).await?,
            35..50 => self.pipelines(&mut connection).await?,
            50..62 => self.commits(&mut connection).await?,
            62..68 => self.copies(&mut connection).await?,
            68..73 => self.sets(&mut connection).await?,
            73..77 => self.pins(&mut connection).await?,
            77..87 if self.cancels() => self.storms(&mut connection).await?,
            77..87 => self.waits(&mut connection).await?,
            _ => {
                self.breaks_off(connection).await?;
                return Ok(None);
            }
        };
        Ok((fate == Fate::Stays).then_some(connection))
    }

    fn rows_of_own(&self, nonce: u64) -> String {
        format!("SELECT owner, {nonce}, n, body FROM rows WHERE owner = {}", self.owner)
    }

    async fn reads(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let told = self.ask(connection, &self.rows_of_own(nonce), nonce).await?;
        ensure!(told.error.is_some() || told.rows == usize::try_from(ROWS)?, "{told:?}");
        self.common.count("queries");
        Ok(Fate::Stays)
    }

    /// A named statement of which the text is the same for all clients, and one of which it is its own.
    async fn prepares(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let (first, second) = (self.nonce(), self.nonce());
        let own =
            format!("SELECT owner, $1, body FROM rows WHERE owner = {} AND $2::int IS NOT NULL", self.owner);
        let owner = self.owner.to_string();
        let mut out = BytesMut::new();
        for (name, text, nonce) in [
            ("shared", "SELECT owner, $1, body FROM rows WHERE owner = $2::int", first),
            (if self.chance.below(2) == 0 { "" } else { "own" }, own.as_str(), second),
        ] {
            if !name.is_empty() {
                frontend::close(b'S', name, &mut out)?;
            }
            frontend::parse(name, text, [25], &mut out)?;
            batch(name, &[&nonce.to_string(), &owner], &mut out)?;
        }
        connection.send(&out).await?;
        for told in self.judge_batches(connection, &[first, second]).await? {
            ensure!(told.error.is_some() || told.rows == usize::try_from(ROWS)?, "{told:?}");
        }
        self.common.count("prepared statements");
        Ok(Fate::Stays)
    }

    /// Several batches at once, some of which fail in the middle.
    async fn pipelines(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonces: Vec<u64> = (0..2 + self.chance.below(20)).map(|_| self.nonce()).collect();
        let fails = self.chance.below(4);
        let mut out = BytesMut::new();
        for nonce in &nonces {
            frontend::parse("", &format!("SELECT {}, $1::text, 'x'", self.owner), [], &mut out)?;
            if nonce % 4 == fails {
                // An error of Parse, and one of Execute.
                let wrong =
                    if self.chance.below(2) == 0 { "SELECT 1/0 /* $1 */" } else { "SELECT $1::bigint / 0" };
                frontend::parse("", wrong, [25], &mut out)?;
            }
            batch("", &[&nonce.to_string()], &mut out)?;
        }
        connection.send(&out).await?;
        for (told, nonce) in self.judge_batches(connection, &nonces).await?.iter().zip(&nonces) {
            ensure!(
                told.error.is_some() == (nonce % 4 == fails) || told.error.as_deref() == Some("53300"),
                "{told:?}"
            );
        }
        self.common.count("pipelines");
        Ok(Fate::Stays)
    }

    async fn commits(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let begun = self.ask(connection, "BEGIN", nonce).await?;
        let update =
            format!("UPDATE counter SET n = n + 1 WHERE owner = {} RETURNING owner, {nonce}", self.owner);
        if begun.error.is_some() {
            return Ok(Fate::Stays);
        }
        let updated = self.ask(connection, &update, nonce).await?;
        let commits = updated.error.is_none() && self.chance.below(3) > 0;
        let ended = self.ask(connection, if commits { "COMMIT" } else { "ROLLBACK" }, nonce).await?;
        ensure!(ended.is_idle(), "{ended:?}");
        self.account.sure += u64::from(commits && ended.error.is_none());
        self.common.count("transactions");
        Ok(Fate::Stays)
    }

    async fn copies(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let mut out = BytesMut::new();
        frontend::query("COPY copied FROM STDIN", &mut out)?;
        for n in 0..50 {
            let line = format!("{}\t{nonce}\t{n}\n", self.owner);
            frontend::CopyData::new(line.as_bytes())?.write(&mut out);
        }
        frontend::copy_done(&mut out);
        connection.send(&out).await?;
        let copied = self.judge_batches(connection, &[nonce]).await?;
        if copied.iter().all(|told| told.error.is_none()) {
            let sql = format!(
                "DELETE FROM copied WHERE owner = {} AND nonce = {nonce} RETURNING owner, nonce",
                self.owner
            );
            let told = self.ask(connection, &sql, nonce).await?;
            ensure!(told.error.is_some() || told.rows == 50, "{told:?}");
        }
        self.common.count("COPY");
        Ok(Fate::Stays)
    }

    /// Parameters of the session are its own.
    async fn sets(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let set =
            self.ask(connection, &format!("SET application_name = 'client {}'", self.owner), nonce).await?;
        if set.error.is_some() {
            return Ok(Fate::Stays);
        }
        let sql = format!("SELECT split_part(current_setting('application_name'), ' ', 2), {nonce}");
        let told = self.ask(connection, &sql, nonce).await?;
        ensure!(told.error.is_some() || told.rows == 1, "{told:?}");
        self.common.count("SET");
        Ok(Fate::Stays)
    }

    /// A temporary table, which pins the session; it is left behind.
    async fn pins(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let make = format!(
            "CREATE TEMPORARY TABLE mine AS SELECT {} AS owner, {nonce}::bigint AS nonce",
            self.owner
        );
        if self.ask(connection, &make, nonce).await?.error.is_none() {
            let told = self.ask(connection, "SELECT owner, nonce FROM mine", nonce).await?;
            ensure!(told.error.is_some() || told.rows == 1, "{told:?}");
        }
        self.common.count("temporary tables");
        Ok(Fate::Over)
    }

    /// Several cancel requests for one query, of which the last may come too late.
    async fn storms(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let mut out = BytesMut::new();
        let sleep = if self.chance.below(2) == 0 { "0.001" } else { "20" };
        frontend::query(&format!("SELECT {}, {nonce}, pg_sleep({sleep})", self.owner), &mut out)?;
        connection.send(&out).await?;
        let mut storm = JoinSet::new();
        for _ in 0..1 + self.chance.below(5) {
            let request = cancel_request(&self.key);
            let address = self.common.address;
            storm.spawn(async move {
                let mut connection = RawClient::connect(address).await?;
                connection.send(&request).await?;
                connection.read_to_end().await
            });
        }
        // One that came before its query began has done nothing.
        let mut answer = std::pin::pin!(connection.read_answer());
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer?,
                Some(sent) = storm.join_next() => { sent??; }
                () = tokio::time::sleep(std::time::Duration::from_millis(100)), if storm.is_empty() => {
                    let mut again = RawClient::connect(self.common.address).await?;
                    again.send(&cancel_request(&self.key)).await?;
                    again.read_to_end().await?;
                }
            }
        };
        self.judge(&answer, nonce)?;
        while let Some(sent) = storm.join_next().await {
            sent??;
        }
        self.common.count("storms of cancel requests");
        Ok(Fate::Stays)
    }

    /// A query that takes a while, which nobody may cancel.
    async fn waits(&mut self, connection: &mut RawClient) -> Result<Fate> {
        let nonce = self.nonce();
        let sql = format!("SELECT {}, {nonce}, pg_sleep(0.02)", self.owner);
        let told = self.ask(connection, &sql, nonce).await?;
        ensure!(told.error.is_some() || told.rows == 1, "{told:?}");
        self.common.count("queries that take a while");
        Ok(Fate::Stays)
    }

    /// Leaves in the middle of something, with a reset or without.
    async fn breaks_off(&mut self, mut connection: RawClient) -> Result<()> {
        let mut out = BytesMut::new();
        let has_answer = self.write_what_is_not_waited_for(&mut out)?;
        connection.send(&out).await?;
        if has_answer && self.chance.below(2) == 0 {
            swallow(&mut connection, 1 + self.chance.below(3)).await?;
        }
        if self.chance.below(2) == 0 {
            connection.reset()?;
        }
        self.common.count("connections broken off");
        Ok(())
    }

    /// True if something comes back for it soon.
    fn write_what_is_not_waited_for(&mut self, out: &mut BytesMut) -> Result<bool> {
        let update = format!("UPDATE counter SET n = n + 1 WHERE owner = {}", self.owner);
        match self.chance.below(7) {
            0 => {
                frontend::query("SELECT pg_sleep(20)", out)?;
                return Ok(false);
            }
            1 => {
                out.extend_from_slice(b"Q\0\0\x10\0SELECT 'half of a mes");
                return Ok(false);
            }
            2 => {
                let (owner, nonce) = (self.owner, self.nonce());
                let line = format!("{owner}\t{nonce}\t1\n");
                frontend::query("COPY copied FROM STDIN", out)?;
                frontend::CopyData::new(line.as_bytes())?.write(out);
                return Ok(false);
            }
            3 => {
                for _ in 0..20 {
                    frontend::parse("", "SELECT repeat('x', 10000), $1::text", [], out)?;
                    batch("", &["other"], out)?;
                }
            }
            4 => frontend::query(&format!("BEGIN; {update}"), out)?,
            5 => {
                frontend::query(&format!("BEGIN; {update}; COMMIT"), out)?;
                self.account.unsure += 1;
            }
            _ => frontend::query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)", out)?,
        }
        Ok(true)
    }
}

fn cancel_request(key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + key.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), key].concat()
}

/// Bind with text parameters, Execute and Sync.
fn batch(statement: &str, parameters: &[&str], out: &mut BytesMut) -> Result<()> {
    let write = |parameter: &&str, out: &mut BytesMut| {
        out.extend_from_slice(parameter.as_bytes());
        Ok(IsNull::No)
    };
    frontend::bind("", statement, [], parameters, write, [], out).map_err(|error| match error {
        frontend::BindError::Conversion(error) => anyhow::anyhow!(error),
        frontend::BindError::Serialization(error) => error.into(),
    })?;
    frontend::execute("", 0, out)?;
    frontend::sync(out);
    Ok(())
}

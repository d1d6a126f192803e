//! What is asked of etcd: a lease, the key that is bound to it, and the highest timeline.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgherd_health::TimelineId;
use serde_json::{Value, json};

use super::client::{Client, Failure, SHOWN};
use crate::lease::Candidate;

/// The keys of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    holder: String,
    timeline: String,
    candidate: String,
}

impl Keys {
    pub(super) fn of(prefix: &str, system_identifier: u64) -> Self {
        let prefix = prefix.trim_end_matches('/');
        Self {
            holder: format!("{prefix}/{system_identifier}/holder"),
            timeline: format!("{prefix}/{system_identifier}/timeline"),
            candidate: format!("{prefix}/{system_identifier}/candidate"),
        }
    }
}

/// What etcd has of one cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The key is bound to the lease that was asked for.
    pub(super) is_ours: bool,
    /// Who has the key.
    pub(super) holder: Option<String>,
    /// The highest timeline that was served, and the revision in which it was written.
    pub(super) timeline: Option<(TimelineId, String)>,
    /// Who was told to promote last, and by whom.
    pub(super) candidate: Option<(Candidate, String)>,
}

impl Client {
    /// A new lease of that many seconds: its number.
    pub(super) async fn grant(&mut self, seconds: u64) -> Result<String, Failure> {
        let answer = self.call("/v3/lease/grant", &json!({ "TTL": seconds.to_string() })).await?;
        text(&answer, "ID").ok_or_else(|| Failure::Refused("a lease without a number".to_owned()))
    }

    /// Renews a lease: the seconds that it has now; none if there is none.
    pub(super) async fn keep_alive(&mut self, lease: &str) -> Result<Option<u64>, Failure> {
        let answer = self.call("/v3/lease/keepalive", &json!({ "ID": lease })).await?;
        let result = answer.get("result").unwrap_or(&answer);
        Ok(text(result, "TTL").and_then(|ttl| ttl.parse().ok()).filter(|ttl| *ttl > 0))
    }

    /// Ends a lease, and with it the key that is bound to it. One that is not there has ended.
    pub(super) async fn revoke(&mut self, lease: &str) -> Result<(), Failure> {
        match self.call("/v3/lease/revoke", &json!({ "ID": lease })).await {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(unreachable) => Err(unreachable),
        }
    }

    /// Looks who has the key, and whether that is by `lease`.
    pub(super) async fn look(&mut self, keys: &Keys, lease: Option<&str>) -> Result<View, Failure> {
        // Lease 0 is that of keys without one, and of keys that are not there.
        let (holds, view) = self.transact(&[bound(keys, lease.unwrap_or("0"))], &[], keys).await?;
        Ok(View { is_ours: holds && lease.is_some(), ..view })
    }

    /// Takes the key by `lease`, if nobody has it.
    pub(super) async fn take(&mut self, keys: &Keys, lease: &str, name: &str) -> Result<View, Failure> {
        let free = json!({ "target": "CREATE", "result": "EQUAL", "key": encode(&keys.holder), "create_revision": "0" });
        let put =
            json!({ "request_put": { "key": encode(&keys.holder), "value": encode(name), "lease": lease } });
        let (taken, view) = self.transact(&[free], &[put], keys).await?;
        Ok(View { is_ours: taken, ..view })
    }

    /// Writes the timeline down, unless somebody has written another since `before` was read; false then.
    pub(super) async fn record(
        &mut self,
        keys: &Keys,
        timeline: TimelineId,
        before: Option<&str>,
    ) -> Result<bool, Failure> {
        let unchanged = json!({ "target": "MOD", "result": "EQUAL", "key": encode(&keys.timeline), "mod_revision": before.unwrap_or("0") });
        let put = json!({ "request_put": { "key": encode(&keys.timeline), "value": encode(&timeline.0.to_string()) } });
        Ok(self.transact(&[unchanged], &[put], keys).await?.0)
    }

    /// Writes down who is about to be told to promote; false if the lease does not hold the key any more.
    pub(super) async fn mark(
        &mut self,
        keys: &Keys,
        lease: &str,
        candidate: &Candidate,
        name: &str,
    ) -> Result<bool, Failure> {
        let value = encode(&format!("{name} {candidate}"));
        let put = json!({ "request_put": { "key": encode(&keys.candidate), "value": value } });
        Ok(self.transact(&[bound(keys, lease)], &[put], keys).await?.0)
    }

    /// Forgets who was told to promote, if the lease holds the key.
    pub(super) async fn forget(&mut self, keys: &Keys, lease: &str) -> Result<(), Failure> {
        let delete = json!({ "request_delete_range": { "key": encode(&keys.candidate) } });
        self.transact(&[bound(keys, lease)], &[delete], keys).await.map(drop)
    }

    /// Whether the comparison held; what is there afterwards.
    async fn transact(
        &mut self,
        compare: &[Value],
        puts: &[Value],
        keys: &Keys,
    ) -> Result<(bool, View), Failure> {
        let reads = [&keys.holder, &keys.timeline, &keys.candidate]
            .map(|key| json!({ "request_range": { "key": encode(key) } }));
        let success: Vec<&Value> = puts.iter().chain(&reads).collect();
        let body = json!({ "compare": compare, "success": success, "failure": reads });
        let answer = self.call("/v3/kv/txn", &body).await?;
        View::read(&answer, puts.len(), keys)
    }
}

impl View {
    /// Reads the answer to a transaction that put so many keys if its comparison held, and read all three in any case. What is taken for
    /// nothing here could let an old timeline be served, or a second server be promoted: only what etcd answers is believed.
    fn read(answer: &Value, puts: usize, keys: &Keys) -> Result<(bool, Self), Failure> {
        let succeeded = answer.get("succeeded").and_then(Value::as_bool) == Some(true);
        let skipped = if succeeded { puts } else { 0 };
        let responses = answer.get("responses").and_then(Value::as_array).map(Vec::as_slice);
        let Some([holder, timeline, candidate]) = responses.and_then(|all| all.get(skipped..)) else {
            return Err(Failure::Unreachable("what answers is not etcd".to_owned()));
        };
        let (holder, timeline) = (value(holder)?, value(timeline)?);
        let candidate = value(candidate)?;
        let of_timeline = |(text, revision): (String, String)| match text.parse() {
            Ok(number) => Ok((TimelineId(number), revision)),
            Err(_) => Err(strange(&keys.timeline, &text)),
        };
        let of_candidate = |(text, _): (String, String)| {
            let read =
                text.split_once(' ').and_then(|(name, it)| Some((Candidate::parse(it)?, name.to_owned())));
            read.ok_or_else(|| strange(&keys.candidate, &text))
        };
        let view = Self {
            is_ours: false,
            holder: holder.map(|(name, _)| name),
            timeline: timeline.map(of_timeline).transpose()?,
            candidate: candidate.map(of_candidate).transpose()?,
        };
        Ok((succeeded, view))
    }
}

/// What one key has, with the revision in which it was written; none if there is no such key.
fn value(response: &Value) -> Result<Option<(String, String)>, Failure> {
    let unread = || Failure::Unreachable("what answers is not etcd".to_owned());
    let range = response.get("response_range").ok_or_else(unread)?;
    // The gateway leaves out what is empty.
    let Some(found) = range.get("kvs").and_then(|all| all.get(0)) else { return Ok(None) };
    let content = decode(&text(found, "value").unwrap_or_default()).ok_or_else(unread)?;
    Ok(Some((content, text(found, "mod_revision").ok_or_else(unread)?)))
}

fn strange(key: &str, content: &str) -> Failure {
    let shown: String = content.chars().take(SHOWN).collect();
    Failure::Refused(format!("the key {key} has what no pgherd has written: {shown:?}: delete it"))
}

/// The key is bound to this lease.
fn bound(keys: &Keys, lease: &str) -> Value {
    json!({ "target": "LEASE", "result": "EQUAL", "key": encode(&keys.holder), "lease": lease })
}

/// A text; numbers of 64 bits are texts, too.
fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(content: Option<&str>) -> Value {
        let found = content.map(|text| json!({ "value": encode(text), "mod_revision": "7" }));
        json!({ "response_range": { "header": {}, "kvs": found.into_iter().collect::<Vec<_>>() } })
    }

    fn read(responses: Vec<Value>) -> Result<(bool, View), Failure> {
        let answer = json!({ "succeeded": true, "responses": responses });
        View::read(&answer, 1, &Keys::of("/pgherd", 1))
    }

    #[test]
    fn what_etcd_has_is_read() {
        let put = json!({ "response_put": {} });
        let nothing = json!({ "response_range": { "header": {} } });
        let (_, view) = read(vec![put.clone(), nothing.clone(), nothing.clone(), nothing]).unwrap();
        assert_eq!(view, View { is_ours: false, holder: None, timeline: None, candidate: None });
        let all = vec![put, range(Some("a:1:f")), range(Some("3")), range(Some("a:1:f 2 5432 pg02"))];
        let (succeeded, view) = read(all).unwrap();
        let candidate = Candidate { host: "pg02".to_owned(), port: 5432, parent: TimelineId(2) };
        assert!(succeeded);
        assert_eq!(view.holder.as_deref(), Some("a:1:f"));
        assert_eq!(view.timeline, Some((TimelineId(3), "7".to_owned())));
        assert_eq!(view.candidate, Some((candidate, "a:1:f".to_owned())));
    }

    #[test]
    fn what_is_not_etcds_is_not_taken_for_nothing() {
        let keys = Keys::of("/pgherd", 1);
        let none = || range(None);
        for answer in [
            json!({}),
            json!("ok"),
            json!({ "responses": [] }),
            json!({ "responses": [none(), none()] }),
            json!({ "responses": [none(), none(), {}] }),
            json!({ "responses": [none(), none(), none(), none()] }),
            json!({ "responses": [none(), none(), { "response_range": { "kvs": [{ "value": "?" }] } }] }),
        ] {
            assert!(matches!(View::read(&answer, 0, &keys), Err(Failure::Unreachable(_))), "{answer}");
        }
        for (timeline, candidate) in
            [(Some("two"), None), (Some(""), None), (None, Some("pg02")), (None, Some("a 1 x pg02"))]
        {
            let answer = json!({ "responses": [none(), range(timeline), range(candidate)] });
            let told = View::read(&answer, 0, &keys).unwrap_err().to_string();
            assert!(told.contains("has what no pgherd has written"), "{told}");
        }
    }
}

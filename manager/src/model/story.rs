//! What has happened.

use serde::Serialize;
use utoipa::ToSchema;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    /// When (RFC 3339).
    pub at: String,
    /// What, as in repmgr's table of events; `operator_...` for what somebody ordered.
    pub event: String,
    /// To which server.
    pub node: Option<u32>,
    /// repmgr's name of it.
    pub name: Option<String>,
    /// Whether it went well.
    pub successful: bool,
    /// What was seen, and what was done.
    pub details: String,
    /// Who ordered it.
    pub by: Option<String>,
}

/// One change of the primary, from the first doubt to the last step.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Failover {
    /// Its number since pgherd began.
    pub id: u64,
    /// What it was.
    pub kind: FailoverKind,
    /// When it began (RFC 3339).
    pub began: String,
    /// When it ended.
    pub ended: Option<String>,
    /// How.
    pub outcome: Ended,
    /// The old primary.
    pub from: Option<u32>,
    /// The new one.
    pub to: Option<u32>,
    /// How long it took, or takes.
    pub seconds: f64,
    /// How long writes waited.
    pub writes_closed_seconds: Option<f64>,
    /// The states that it went through.
    pub steps: Vec<Step>,
}

/// What a change of the primary was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailoverKind {
    /// The primary was lost.
    Failover,
    /// Somebody wanted another.
    Switchover,
    /// pgherd was started.
    Start,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum Ended {
    /// Writes go to the primary.
    #[serde(rename = "done")]
    Done,
    /// It has not.
    #[serde(rename = "under way")]
    UnderWay,
    /// It was for nothing: the old primary serves on.
    #[serde(rename = "given up")]
    GivenUp,
}

/// A state that the failover machine was in.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Step {
    /// Its name.
    pub state: String,
    /// When it was entered (RFC 3339).
    pub began: String,
    /// How long it lasted, or lasts.
    pub seconds: f64,
    /// Why it was entered.
    pub what: String,
}

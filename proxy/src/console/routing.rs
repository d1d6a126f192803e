//! Where a text would run, and why: SHOW ROUTING.

use pgherd_protocol::rows::{Column, Type};
use pgherd_protocol::statement::{Place, Trust};

use super::dialogue::{Dialogue, Reply};
use crate::config::{Consistency, Reads};
use crate::hidden::Judged;
use crate::traffic::Reason;

/// What is told of a text.
pub(super) const ROUTE: &[Column] = &[
    Column::new("runs_on", Type::Text),
    Column::new("reason", Type::Text),
    Column::new("why", Type::Text),
    Column::new("catalogue", Type::Text),
];

/// A text, and who would say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) text: String,
    /// By its text alone, if none.
    pub(crate) database: Option<String>,
    /// Anybody, if none.
    pub(crate) user: Option<String>,
}

impl Dialogue {
    /// Where it would run outside of a transaction.
    pub(super) fn route(&self, question: &Question) -> Reply {
        let shared = &self.worker.shared;
        let (database, user) = (question.database.as_deref(), question.user.as_deref());
        let generation = shared.statements.catalogue_generation();
        let Judged { scan, trust, is_read } =
            shared.catalogues.judge((database, user), generation, question.text.as_bytes());
        let policy = shared.config.load().routing.policy_for(database.unwrap_or(""), user.unwrap_or(""), "");
        let (runs_on, reason, why) = match scan.place {
            Place::Primary(why) => ("primary", why.word(), why.to_string()),
            Place::Standby if policy.reads == Reads::Primary => {
                let why = "routing.reads has it so; otherwise any server may";
                ("primary", Reason::Setting.word(), why.to_owned())
            }
            Place::Standby if policy.consistency == Consistency::Strong => {
                let why = "routing.consistency has it so; otherwise any server may";
                ("primary", Reason::Strong.word(), why.to_owned())
            }
            Place::Standby => ("any", Reason::Read.word(), "any server may".to_owned()),
        };
        let catalogue = match trust {
            Trust::Blind => "off",
            Trust::Names => "read",
            Trust::Nothing if is_read => "outdated",
            Trust::Nothing => "unread",
        };
        let row = vec![runs_on.into(), reason.into(), why.into(), catalogue.into()];
        Reply { columns: ROUTE, rows: vec![row].into_iter(), tag: "SHOW" }
    }
}

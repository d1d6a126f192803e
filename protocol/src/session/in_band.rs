//! Statements that ask for something of pgherd itself, in the midst of those for a server: pgpool's. They are answered when
//! their turn comes, and touch neither the server nor its transaction.

use std::collections::HashMap;
use std::fmt;

use super::{Expected, Kind, OwnWords, Session};
use crate::error::{ClientError, Severity};
use crate::frame::split_cstr;
use crate::rows::{self, Column, Formats, Row};
use crate::statement::{Effect, PoolView};
use crate::write;

/// Shows pgherd's own tables.
pub trait Views: fmt::Debug {
    /// The columns of a view: always the same.
    fn columns(&self, view: PoolView) -> &'static [Column];
    /// What it shows now.
    fn rows(&self, view: PoolView) -> Vec<Row>;
}

/// For sessions that have none to show.
#[derive(Clone, Copy, Debug)]
pub struct NoViews;

impl Views for NoViews {
    fn columns(&self, _: PoolView) -> &'static [Column] {
        &[]
    }

    fn rows(&self, _: PoolView) -> Vec<Row> {
        Vec::new()
    }
}

/// What a session has prepared and bound of such statements.
#[derive(Debug, Default)]
pub(super) struct InBand {
    statements: HashMap<Box<[u8]>, PoolView>,
    portals: HashMap<Box<[u8]>, (PoolView, Formats)>,
}

/// A session has no more of them.
const MOST_NAMES: usize = 256;

impl InBand {
    /// The transaction has ended, and its portals with it.
    pub(super) fn forget_portals(&mut self) {
        self.portals.clear();
    }
}

/// All that a Query of it is answered, but for ReadyForQuery.
#[must_use]
pub fn in_band_answer(view: PoolView, views: &dyn Views) -> Vec<u8> {
    let mut out = Vec::new();
    if let PoolView::Set(parameter) = view {
        // As pgpool says it.
        let name = parameter.name();
        let message = format!("invalid Context, value for parameter \"{name}\" cannot be changed");
        ClientError::new("55P02", message)
            .hint("Administrators change settings on the console: database pgherd, SHOW HELP.")
            .write(&mut out, Severity::Error);
        return out;
    }
    if view != PoolView::Reset {
        rows::description(&mut out, views.columns(view), &Formats::TEXT);
    }
    write_rows(view, &Formats::TEXT, views, &mut out);
    out
}

fn write_rows(view: PoolView, formats: &Formats, views: &dyn Views, out: &mut Vec<u8>) {
    if view == PoolView::Reset {
        return write::command_complete(out, "RESET");
    }
    let (columns, rows) = (views.columns(view), views.rows(view));
    rows.iter().for_each(|row| rows::data(out, columns, row, formats));
    write::command_complete(out, &format!("SELECT {}", rows.len()));
}

impl Session {
    /// True if a Query may be answered at this place: the server is not in the midst of a batch, which a Query would end, nor may it be
    /// reading CopyData, which a Query would spoil.
    pub(super) fn takes_in_band(&self) -> bool {
        let may_copy = |e: &Expected| e.kind.runs() && matches!(e.effect, Effect::Write | Effect::MayCommit);
        !self.unsynced && !self.copying_in && !self.expected.iter().any(may_copy)
    }

    /// The unnamed statement is gone.
    pub(super) fn forgets_unnamed_in_band(&mut self) {
        if let Some(in_band) = &mut self.in_band {
            in_band.statements.remove(&b""[..]);
        }
    }

    /// Expects to answer this when its turn comes.
    pub(super) fn expect_answer(&mut self, kind: Kind, answer: Vec<u8>) {
        let answer = Some(Box::new(OwnWords(answer)));
        self.rerun.give_up();
        self.expected.push_back(Expected { answer, ..Expected::new(kind) });
    }

    /// A Parse: true if it is of such a statement, and so not for the server.
    pub(super) fn parses_in_band(&mut self, name: &[u8], view: Option<PoolView>) -> bool {
        // What is an error in any case is one of the server's: what follows is skipped by it.
        let Some(view) = view.filter(|view| !matches!(view, PoolView::Set(_))) else {
            // The name means something else from now on.
            if let Some(in_band) = &mut self.in_band {
                in_band.statements.remove(name);
            }
            return false;
        };
        let in_band = self.in_band.get_or_insert_default();
        if in_band.statements.len() >= MOST_NAMES || self.names.get(name).is_some() {
            return false;
        }
        in_band.statements.insert(name.into(), view);
        self.rerun.give_up();
        self.expect(Kind::Local(b'1'));
        true
    }

    /// A Bind, of this portal to this statement; the rest of the message is `rest`. True if it is not for the server.
    pub(super) fn binds_in_band(
        &mut self,
        portal: &[u8],
        name: &[u8],
        rest: &[u8],
        views: &dyn Views,
    ) -> bool {
        let Some(in_band) = &mut self.in_band else { return false };
        let Some(&view) = in_band.statements.get(name) else {
            in_band.portals.remove(portal);
            return false;
        };
        if in_band.portals.len() >= MOST_NAMES {
            return false;
        }
        let formats = result_formats(rest, views.columns(view).len()).unwrap_or(Formats::TEXT);
        in_band.portals.insert(portal.into(), (view, formats));
        self.expect(Kind::Local(b'2'));
        true
    }

    /// A Describe or Close with this body, or an Execute (`E`). True if it is not for the server.
    pub(super) fn is_in_band(&mut self, tag: u8, body: &[u8], views: &dyn Views) -> bool {
        let Some(in_band) = &mut self.in_band else { return false };
        let (kind, rest) = match (tag, body.split_first()) {
            (b'E', _) => (b'P', body),
            (_, Some((kind, rest))) => (*kind, rest),
            (_, None) => return false,
        };
        let Some((name, _)) = split_cstr(rest) else { return false };
        let found = match kind {
            b'S' => in_band.statements.get(name).map(|view| (*view, Formats::TEXT)),
            _ => in_band.portals.get(name).cloned(),
        };
        let Some((view, formats)) = found else { return false };
        let mut out = Vec::new();
        match tag {
            b'C' => {
                match kind {
                    b'S' => drop(in_band.statements.remove(name)),
                    _ => drop(in_band.portals.remove(name)),
                }
                write::empty(&mut out, b'3');
            }
            b'D' => {
                if kind == b'S' {
                    write::message(&mut out, b't', |out| out.extend_from_slice(&[0, 0]));
                }
                rows::description(&mut out, views.columns(view), &formats);
            }
            _ => write_rows(view, &formats, views, &mut out),
        }
        self.expect_answer(Kind::Answer, out);
        true
    }
}

/// The formats of the results in what a Bind says behind its names, if it has no parameters.
fn result_formats(rest: &[u8], columns: usize) -> Option<Formats> {
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*count)) * 2..)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    (u16::from_be_bytes(*count) == 0).then(|| Formats::parse(rest, columns))?
}

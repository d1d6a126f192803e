//! Extended queries.

use super::transaction::{exists, missing};
use super::{Backend, Failure, Outcome, Portal, Prepared, Sql};
use crate::frame::split_cstr;
use crate::write;

impl Backend {
    pub(super) fn on_extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Failure> {
        match tag {
            b'P' => self.on_parse(body),
            b'B' => self.on_bind(body),
            b'D' => self.on_describe(body),
            b'E' => self.on_execute(body),
            b'C' => {
                let name = name(&body[1..]);
                if body[0] == b'S' {
                    self.statements.remove(name);
                } else {
                    self.portals.remove(name);
                }
                write::empty(&mut self.said, b'3');
                Ok(())
            }
            other => panic!("no message of type {}", char::from(other)),
        }
    }

    fn on_parse(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, rest) = split_cstr(body).unwrap();
        let name = std::str::from_utf8(name).unwrap();
        if name.is_empty() {
            self.statements.remove(name);
        }
        let text = std::str::from_utf8(split_cstr(rest).unwrap().0).unwrap();
        let mut statements = Sql::parse_all(text).ok_or_else(|| Failure::new("42601", "syntax error"))?;
        let sql = statements.pop().map(|sql| self.analyze(sql));
        if !statements.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Failure::new("42601", message));
        }
        self.admit(sql.as_ref().is_none_or(Sql::is_exit))?;
        if self.statements.contains_key(name) {
            return Err(exists(name));
        }
        let altered = self.database.borrow().altered;
        self.statements.insert(name.into(), Prepared { sql, altered });
        write::empty(&mut self.said, b'1');
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Prepared, Failure> {
        self.statements.get(name).cloned().ok_or_else(|| missing(name))
    }

    /// A statement gives what it gave when it was prepared, or nothing.
    pub(super) fn revalidate(&self, prepared: &Prepared) -> Result<(), Failure> {
        if prepared.sql == Some(Sql::Star) && prepared.altered != self.database.borrow().altered {
            return Err(Failure::new("0A000", "cached plan must not change result type"));
        }
        Ok(())
    }

    fn on_bind(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (portal, rest) = split_cstr(body).unwrap();
        let (statement, rest) = split_cstr(rest).unwrap();
        let (portal, statement) =
            (std::str::from_utf8(portal).unwrap(), std::str::from_utf8(statement).unwrap());
        let Prepared { sql, altered } = self.find(statement)?;
        let values = values(rest);
        let needed = sql.as_ref().map_or(0, Sql::values);
        if values.len() != needed {
            let supplied = values.len();
            let message = format!(
                "bind message supplies {supplied} parameters, but prepared statement \"{statement}\" requires {needed}"
            );
            return Err(Failure::new("08P01", message));
        }
        self.admit(sql.as_ref().is_some_and(Sql::is_exit) && needed == 0)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(Failure::new("42P03", format!("cursor \"{portal}\" already exists")));
        }
        self.portals.remove(portal);
        self.revalidate(&Prepared { sql: sql.clone(), altered })?;
        let level = self.savepoints.len();
        self.portals.insert(portal.into(), Portal::new(sql, values, level));
        write::empty(&mut self.said, b'2');
        Ok(())
    }

    fn on_describe(&mut self, body: &[u8]) -> Result<(), Failure> {
        let name = name(&body[1..]);
        let sql = if body[0] == b'S' { self.find(name)?.sql } else { self.portal(name)?.sql };
        if self.cannot_describe(sql.as_ref()) {
            self.admit(false)?;
        }
        if body[0] == b'S' {
            let count = u16::try_from(sql.as_ref().map_or(0, Sql::values)).unwrap();
            write::message(&mut self.said, b't', |out| {
                out.extend_from_slice(&count.to_be_bytes());
                (0..count).for_each(|_| out.extend_from_slice(&25_u32.to_be_bytes()));
            });
            self.revalidate(&self.find(name)?)?;
        }
        if let Some(sql) = sql.filter(|sql| self.gives_rows(sql)) {
            self.describe_row(&sql);
        } else {
            write::empty(&mut self.said, b'n');
        }
        Ok(())
    }

    fn portal(&self, name: &str) -> Result<Portal, Failure> {
        let missing = || Failure::new("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get(name).cloned().ok_or_else(missing)
    }

    fn on_execute(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, limit) = split_cstr(body).unwrap();
        let name = std::str::from_utf8(name).unwrap();
        let limit = u32::from_be_bytes(limit.try_into().unwrap()) as usize;
        let mut portal = self.portal(name)?;
        let Some(sql) = portal.sql.clone() else {
            write::empty(&mut self.said, b'I');
            return Ok(());
        };
        self.admit(sql.is_exit())?;
        if portal.is_failed || portal.given.is_none() {
            return self.run_again(name, &sql, portal.is_failed);
        }
        let outcome = self.run(&mut portal, limit).inspect_err(|_| {
            if let Some(portal) = self.portals.get_mut(name) {
                portal.is_failed = true;
            }
        })?;
        // The portal of a procedure outlives what it commits.
        if self.portals.contains_key(name) || matches!(sql, Sql::Call(_)) {
            self.portals.insert(name.into(), portal);
        }
        self.pipelining =
            !sql.is_transaction() && !sql.commits_at_once() && !matches!(outcome, Outcome::CopyIn);
        match outcome {
            Outcome::Complete(tag) => write::command_complete(&mut self.said, &tag),
            Outcome::Suspended => write::empty(&mut self.said, b's'),
            Outcome::Empty => write::empty(&mut self.said, b'I'),
            Outcome::CopyIn => self.begin_copy(true),
        }
        Ok(())
    }

    /// A portal that was run to its end.
    fn run_again(&mut self, name: &str, sql: &Sql, is_failed: bool) -> Result<(), Failure> {
        if is_failed || !sql.returns_rows() || matches!(sql, Sql::Show(_) | Sql::Fetch(..)) {
            return Err(Failure::new("55000", format!("portal \"{name}\" cannot be run")));
        }
        write::command_complete(&mut self.said, "SELECT 0");
        Ok(())
    }
}

fn name(bytes: &[u8]) -> &str {
    std::str::from_utf8(split_cstr(bytes).unwrap().0).unwrap()
}

/// The values of a Bind message without formats.
fn values(rest: &[u8]) -> Vec<String> {
    let (&[0, 0, a, b], mut rest) = rest.split_first_chunk().unwrap() else { panic!("formats") };
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes([a, b]) {
        let (len, behind) = rest.split_first_chunk::<4>().unwrap();
        let (value, behind) = behind.split_at(u32::from_be_bytes(*len) as usize);
        values.push(String::from_utf8(value.to_vec()).unwrap());
        rest = behind;
    }
    values
}

//! Simple queries.

use super::{Backend, Block, Copying, Failure, Outcome, Portal, Sql};
use crate::frame::split_cstr;
use crate::write;

impl Backend {
    pub(super) fn on_query(&mut self, body: &[u8]) {
        let (text, behind) = split_cstr(body).unwrap();
        if !behind.is_empty() {
            self.fail(&Failure::new("08P01", "invalid message format"));
            return self.ready();
        }
        self.statements.remove("");
        let text = std::str::from_utf8(text).unwrap();
        let Some(statements) = Sql::parse_all(text) else {
            self.fail(&Failure::new("42601", "syntax error"));
            return self.ready();
        };
        if statements.is_empty() {
            write::empty(&mut self.said, b'I');
            if let Err(failure) = self.end_implicit() {
                self.fail(&failure);
            }
            return self.ready();
        }
        self.several = statements.len() > 1;
        self.query = statements.into();
        self.go_on_with_query();
    }

    /// Carries out what is left of the query, up to a COPY.
    pub(super) fn go_on_with_query(&mut self) {
        while let Some(sql) = self.query.pop_front() {
            match self.run_simple(sql) {
                Ok(Outcome::CopyIn) => return,
                Ok(_) => {}
                Err(failure) => self.fail(&failure),
            }
        }
        self.several = false;
        self.ready();
    }

    fn run_simple(&mut self, sql: Sql) -> Result<Outcome, Failure> {
        let sql = self.analyze(sql);
        self.admit(sql.is_exit())?;
        if let Sql::Run(name, _) = &sql
            && let Some(prepared) = self.statements.get(name)
        {
            self.revalidate(prepared)?;
        }
        if self.gives_rows(&sql) {
            self.describe_row(&sql);
        }
        let (is_transaction, is_last) = (sql.is_transaction(), self.query.is_empty());
        let mut portal = Portal::new(Some(sql), Vec::new(), self.savepoints.len());
        // A portal that failed stays, as long as its transaction.
        self.portals.insert(String::new(), portal.clone());
        let outcome = self.run(&mut portal, 0)?;
        match &outcome {
            Outcome::CopyIn => self.begin_copy(false),
            Outcome::Complete(tag) => {
                self.portals.remove("");
                // What ends the transaction is said only when it has ended.
                if is_last && !is_transaction {
                    self.end_implicit()?;
                }
                write::command_complete(&mut self.said, tag);
            }
            Outcome::Suspended | Outcome::Empty => {}
        }
        Ok(outcome)
    }

    pub(super) fn begin_copy(&mut self, is_extended: bool) {
        self.copy = Some(Copying { is_extended, rows: Vec::new() });
        self.say_copy_in();
    }

    pub(super) fn say_copy_in(&mut self) {
        write::message(&mut self.said, b'G', |out| out.extend_from_slice(&[0, 0, 1, 0, 0]));
    }

    pub(super) fn describe_row(&mut self, sql: &Sql) {
        let kind = if *sql == Sql::Star { self.database.borrow().altered } else { 0 };
        write::message(&mut self.said, b'T', |out| {
            out.extend_from_slice(&[0, 1]);
            write::cstr(out, b"a");
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0; 8]);
        });
    }

    /// True in a failed transaction, where rows cannot be described.
    pub(super) fn cannot_describe(&self, sql: Option<&Sql>) -> bool {
        let refused = |sql: &Sql| self.gives_rows(sql) || (self.is_strict && !sql.is_exit());
        self.block == Block::Failed && sql.is_some_and(refused)
    }
}

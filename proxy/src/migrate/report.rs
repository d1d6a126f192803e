//! What is told of a migration: to people on standard error, to programs as JSON. No password is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::draft::{Became, Draft, Fate};
use crate::cli::plain;
use crate::config::Problem;

/// What was made of what.
pub(super) struct Report<'a> {
    /// The peer's name.
    pub(super) peer: &'static str,
    /// Its file.
    pub(super) from: &'a Path,
    /// What was made of it.
    pub(super) draft: &'a Draft,
    /// Files that were written.
    pub(super) written: &'a [String],
    /// Why `pgherd check` would not take it.
    pub(super) errors: &'a [Problem],
    /// What it would warn of.
    pub(super) warnings: &'a [Problem],
}

impl Report<'_> {
    /// For people.
    pub(super) fn summary(&self) -> String {
        let mut page = String::new();
        let count = |is: fn(&Fate) -> bool| self.draft.became.iter().filter(|it| is(&it.fate)).count();
        let taken = count(|fate| matches!(fate, Fate::Taken(_)));
        let silent = count(|fate| matches!(fate, Fate::Default | Fate::Unused(_)));
        let others = count(|fate| matches!(fate, Fate::Needless(_) | Fate::Replaced(_) | Fate::Todo(_)));
        let _ = writeln!(
            page,
            "{}: {} settings of {}: {taken} taken over, {silent} say what holds anyway, {others} have no equal.",
            self.from.display(),
            self.draft.became.len(),
            self.peer
        );
        self.no_equal(&mut page);
        list(&mut page, "Before it serves:", self.draft.todo.iter().map(|what| plain(what).into_owned()));
        list(&mut page, "pgherd check would not take it yet:", self.errors.iter().map(ToString::to_string));
        list(&mut page, "pgherd check warns:", self.warnings.iter().map(ToString::to_string));
        for file in self.written {
            let _ = writeln!(page, "Written: {file}");
        }
        page
    }

    /// The settings without an equal, those of which the same is said together.
    fn no_equal(&self, page: &mut String) {
        let mut groups: BTreeMap<&str, Vec<&Became>> = BTreeMap::new();
        for became in &self.draft.became {
            if let Fate::Needless(why) | Fate::Replaced(why) = &became.fate {
                groups.entry(why).or_default().push(became);
            }
        }
        let line = |(why, of): (&str, Vec<&Became>)| {
            let names: Vec<_> =
                of.iter().map(|it| format!("{} (line {})", plain(&it.name), it.place.line)).collect();
            format!("{}: {}", names.join(", "), plain(why))
        };
        list(page, "Without an equal:", groups.into_iter().map(line));
    }

    /// For programs. `configuration` is there where it was written nowhere.
    pub(super) fn to_json(&self, configuration: Option<&str>) -> Json {
        let problems = |of: &[Problem]| of.iter().map(Problem::to_json).collect::<Vec<_>>();
        json!({
            "from": self.peer,
            "file": self.from.display().to_string(),
            "accepted": self.errors.is_empty(),
            "settings": self.draft.became.iter().map(setting).collect::<Vec<_>>(),
            "todo": self.draft.todo,
            "errors": problems(self.errors),
            "warnings": problems(self.warnings),
            "written": self.written,
            "configuration": configuration,
        })
    }
}

fn list(page: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            let _ = writeln!(page, "{title}");
        }
        let _ = writeln!(page, "  {line}");
    }
}

fn setting(it: &Became) -> Json {
    let (became, key, why) = match &it.fate {
        Fate::Taken(key) => ("taken", Some(key), None),
        Fate::Default => ("default", None, None),
        Fate::Unused(why) => ("unused", None, Some(why)),
        Fate::Needless(why) => ("needless", None, Some(why)),
        Fate::Replaced(why) => ("replaced", None, Some(why)),
        Fate::Todo(why) => ("todo", None, Some(why)),
    };
    json!({
        "name": it.name,
        "file": it.place.file.display().to_string(),
        "line": it.place.line,
        "became": became,
        "key": key,
        "message": why,
    })
}

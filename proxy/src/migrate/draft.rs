//! The configuration that is being made: its keys, what is said beside them, and what became of each setting of the peer's.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use super::source::{Place, Setting};
use super::toml_value::Toml;
use crate::config;
use crate::config::keys::{self, Key};

/// What became of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is this key.
    Taken(String),
    /// It says what the peer does without it.
    Default,
    /// It has no effect at the peer; why.
    Unused(String),
    /// Nothing is lost without it; why.
    Needless(String),
    /// It would be missed; what replaces it.
    Replaced(String),
    /// It can't be taken over as it is; what to do.
    Todo(String),
}

/// A setting of the peer's and its end.
#[derive(Debug)]
pub(super) struct Became {
    /// Its name.
    pub(super) name: String,
    /// Where it stands.
    pub(super) place: Place,
    /// What became of it.
    pub(super) fate: Fate,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Line {
    /// The key.
    pub(super) key: &'static Key,
    /// Its value.
    pub(super) value: Toml,
    /// What it comes from, or why it is there.
    pub(super) remark: String,
}

/// One table of an array of them.
#[derive(Debug)]
pub(super) struct Table {
    /// The array.
    pub(super) key: &'static str,
    /// Its fields.
    pub(super) fields: Vec<(&'static str, Toml)>,
    /// What it comes from.
    pub(super) remark: String,
}

/// What is said in a section.
#[derive(Debug)]
pub(super) struct Note {
    /// The section.
    pub(super) section: &'static str,
    /// The settings that it is about.
    pub(super) about: Vec<String>,
    /// What is said of them.
    pub(super) text: String,
}

/// A password that the peer's configuration has, for a file of its own.
pub(super) struct Password {
    /// What the file is called after.
    pub(super) name: String,
    /// The password.
    pub(super) text: Zeroizing<String>,
}

/// The configuration that is being made.
#[derive(Default)]
pub(super) struct Draft {
    /// Keys of sections.
    pub(super) lines: Vec<Line>,
    /// Tables of arrays.
    pub(super) tables: Vec<Table>,
    /// Comments.
    pub(super) notes: Vec<Note>,
    /// What has to be done before it can serve.
    pub(super) todo: Vec<String>,
    /// What became of each setting.
    pub(super) became: Vec<Became>,
    /// Passwords, if there is a place for them.
    pub(super) passwords: Vec<Password>,
    /// Which of them are called after the same.
    by_name: BTreeMap<String, Vec<usize>>,
    /// The beginning of the paths of files with passwords; none where no file is written.
    pub(super) beside: Option<String>,
}

/// Settings that need a server to be named beside them for the whole to be valid.
const SOME_SERVER: &str = "backends.nodes = [\"0:localhost\"]\n";

/// What is wrong with this text as the value of this key, whatever else there is.
pub(super) fn fault(key: &str, value: &Toml) -> Option<String> {
    let server = if key == "backends.nodes" { "" } else { SOME_SERVER };
    let (errors, _) = config::check_text(&format!("{server}{key} = {value}\n"), Path::new("-"));
    errors.into_iter().find(|error| error.key.as_deref() == Some(key)).map(|error| error.message)
}

/// The same of one table of the array `key`, with these lines.
pub(super) fn table_fault(key: &str, fields: &[String]) -> Option<String> {
    let text = format!("{SOME_SERVER}[[{key}]]\n{}\n", fields.join("\n"));
    let (errors, _) = config::check_text(&text, Path::new("-"));
    errors.into_iter().next().map(|error| error.message)
}

impl Draft {
    /// Notes what became of a setting.
    pub(super) fn became(&mut self, setting: &Setting, fate: Fate) {
        let name = match setting.section {
            "" | "pgbouncer" => setting.name.clone(),
            section => format!("[{section}] {}", setting.name),
        };
        let is_same = |it: &Became| it.name == name && it.place == setting.place;
        if self.became.last().is_some_and(is_same) {
            self.became.pop();
        }
        self.became.push(Became { name, place: setting.place.clone(), fate });
    }

    /// Sets a key. What it has by default anyway is not written.
    pub(super) fn set(&mut self, key: &str, value: Toml, remark: impl Into<String>) {
        let Some(key) = keys::find(key) else { return };
        if value.as_default().is_none_or(|text| key.default != Some(text)) {
            self.lines.retain(|line| line.key.name != key.name);
            self.lines.push(Line { key, value, remark: remark.into() });
        }
    }

    /// Sets a key to what a setting says, if the key takes it. A value that pgherd has by default is not written.
    pub(super) fn take(&mut self, setting: &Setting, name: &str, text: &str) {
        let Some(key) = keys::find(name) else { return };
        let value = Toml::of(key, text);
        match fault(name, &value) {
            None => {
                self.set(name, value, setting.shown());
                self.became(setting, Fate::Taken(name.to_owned()));
            }
            Some(why) => {
                let section = section_of(key.name);
                let why = if text == "off" { "is never off".to_owned() } else { why };
                let message = format!("{name} {why} here; it stays as it is by default");
                self.note(section, setting, &message);
                self.became(setting, Fate::Replaced(message));
            }
        }
    }

    /// Sets a key to a path, whose file may not be here.
    pub(super) fn take_path(&mut self, setting: &Setting, key: &str, path: &Path) {
        self.set(key, Toml::Text(path.display().to_string()), setting.shown());
        self.became(setting, Fate::Taken(key.to_owned()));
    }

    /// Says something of a setting. Settings of which the same is said stand together.
    pub(super) fn note(&mut self, section: &'static str, setting: &Setting, text: &str) {
        self.note_of(section, &setting.shown(), text);
    }

    /// The same of something that has no setting of its own.
    pub(super) fn note_of(&mut self, section: &'static str, about: &str, text: &str) {
        let same = |note: &&mut Note| note.section == section && note.text == text;
        match self.notes.iter_mut().find(same) {
            Some(note) => note.about.push(about.to_owned()),
            None => self.notes.push(Note { section, about: vec![about.to_owned()], text: text.to_owned() }),
        }
    }

    /// Says something that is about no setting.
    pub(super) fn remark(&mut self, section: &'static str, text: impl Into<String>) {
        self.notes.push(Note { section, about: Vec::new(), text: text.into() });
    }

    /// It would be missed; says in a section what replaces it.
    pub(super) fn replaced(&mut self, section: &'static str, setting: &Setting, why: &str) {
        self.note(section, setting, why);
        self.became(setting, Fate::Replaced(why.to_owned()));
    }

    /// Nobody knows what it is, so that its value may be anything; `near` is a name that is much like its.
    pub(super) fn unknown(&mut self, setting: &Setting, peer: &str, near: Option<&str>) {
        let meant = near.map(|near| format!("; it may be {near} that is meant")).unwrap_or_default();
        let why = format!("is no setting of {peer}'s that pgherd knows of{meant}");
        self.note_of("runtime", &setting.name, &why);
        self.became(setting, Fate::Replaced(why));
    }

    /// Nothing is lost without it; says so in a section.
    pub(super) fn needless(&mut self, section: &'static str, setting: &Setting, why: &str) {
        self.note(section, setting, &format!("not needed: {why}"));
        self.became(setting, Fate::Needless(why.to_owned()));
    }

    /// Something has to be done about a setting, and a section says what.
    pub(super) fn must(&mut self, section: &'static str, setting: &Setting, what: &str) {
        self.note(section, setting, what);
        self.todo.push(format!("[{section}] {}: {what}", crate::cli::plain(&setting.name)));
        self.became(setting, Fate::Todo(what.to_owned()));
    }

    /// Something has to be done that is about no one setting.
    pub(super) fn todo(&mut self, section: &'static str, what: &str) {
        self.todo.push(format!("[{section}] {what}"));
    }

    /// The path of a file for a password. None where there is no place for one.
    pub(super) fn password(&mut self, name: &str, text: &Zeroizing<String>) -> Option<String> {
        let beside = self.beside.as_ref()?;
        let is_fit = |it: char| if it.is_ascii_alphanumeric() || it == '-' || it == '_' { it } else { '_' };
        let name: String = name.chars().take(60).map(is_fit).collect();
        let of_name = self.by_name.entry(name.clone()).or_default();
        let is_same = |index: &&usize| self.passwords.get(**index).is_some_and(|it| it.text == *text);
        let index = of_name.iter().find(is_same).copied().unwrap_or_else(|| {
            // No name has a dot of its own.
            let count = of_name.len() + 1;
            let name = if count == 1 { name } else { format!("{name}.{count}") };
            of_name.push(self.passwords.len());
            self.passwords.push(Password { name, text: text.clone() });
            self.passwords.len() - 1
        });
        self.passwords.get(index).map(|it| format!("{beside}.{}.password", it.name))
    }

    /// The value of a key that is set.
    pub(super) fn value(&self, key: &str) -> Option<&Toml> {
        self.lines.iter().find(|line| line.key.name == key).map(|line| &line.value)
    }
}

/// The section of a key.
pub(super) fn section_of(key: &'static str) -> &'static str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

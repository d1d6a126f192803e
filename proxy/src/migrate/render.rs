//! Writes a draft as a file that one reads from the top to the bottom.

use std::fmt::Write as _;

use super::draft::{Draft, Line, Note, section_of};
use crate::cli::plain;
use crate::config::KEYS;

/// How long a line of a comment becomes.
const WIDTH: usize = 112;

/// The text of the file. `from` says what it was made of.
pub(super) fn render(draft: &Draft, from: &str, peer: &str) -> String {
    let mut page = String::new();
    let head = format!(
        "pgherd's configuration, made from {from} by `pgherd migrate`. `pgherd check` says what is wrong with it and what is in \
         force. Every key is in docs/configure.md; what is different from {peer} in docs/migrate.md."
    );
    comment(&mut page, "# ", &plain(&head));
    if !draft.todo.is_empty() {
        page.push_str("#\n# Before it serves:\n");
        draft.todo.iter().for_each(|what| comment(&mut page, "# - ", &plain(what)));
    }
    for section in sections() {
        render_section(&mut page, draft, section);
    }
    page
}

/// All sections, in the order of the reference.
fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = Vec::new();
    for section in KEYS.iter().map(|key| section_of(key.name)) {
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

fn render_section(page: &mut String, draft: &Draft, section: &str) {
    let lines = KEYS.iter().filter_map(|key| draft.lines.iter().find(|line| line.key.name == key.name));
    let lines: Vec<&Line> = lines.filter(|line| section_of(line.key.name) == section).collect();
    let notes: Vec<&Note> = draft.notes.iter().filter(|note| note.section == section).collect();
    let tables = draft.tables.iter().filter(|table| section_of(table.key) == section);
    let tables: Vec<_> = tables.collect();
    if lines.is_empty() && notes.is_empty() && tables.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n[{section}]");
    for line in &lines {
        render_line(page, section, line);
    }
    for (index, note) in notes.iter().enumerate() {
        if index > 0 || !lines.is_empty() {
            page.push('\n');
        }
        let about = note.about.join(", ");
        let text = if about.is_empty() { note.text.clone() } else { format!("{about}: {}", note.text) };
        comment(page, "# ", &plain(&text));
    }
    for table in tables {
        page.push('\n');
        if !table.remark.is_empty() {
            comment(page, "# ", &plain(&table.remark));
        }
        let _ = writeln!(page, "[[{}]]", table.key);
        for (name, value) in &table.fields {
            let _ = writeln!(page, "{name} = {value}");
        }
    }
}

fn render_line(page: &mut String, section: &str, line: &Line) {
    let name = line.key.name.strip_prefix(section).unwrap_or(line.key.name).trim_start_matches('.');
    let text = format!("{name} = {}", line.value);
    let remark = plain(&line.remark);
    if remark.is_empty() {
        let _ = writeln!(page, "{text}");
    } else if text.contains('\n') || text.len() + remark.len() + 5 > WIDTH {
        comment(page, "# ", &remark);
        let _ = writeln!(page, "{text}");
    } else {
        let _ = writeln!(page, "{text}   # {remark}");
    }
}

/// A comment of as many lines as it needs.
fn comment(page: &mut String, start: &str, text: &str) {
    let further = format!("#{}", " ".repeat(start.len() - 1));
    let mut line = String::new();
    let mut start = start;
    for word in text.split(' ') {
        if !line.is_empty() && start.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(page, "{start}{line}");
            line.clear();
            start = &further;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(page, "{}", format!("{start}{line}").trim_end());
}

//! What docs/migrate.md says is so.

use std::fs;

use super::pgherd;

/// What stands between backquotes in docs/migrate.md, and what in its blocks of code.
fn named() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/migrate.md");
    let texts = page.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2));
    let blocks = page.split("```").skip(1).step_by(2).flat_map(str::lines);
    texts.chain(blocks).collect()
}

#[test]
fn every_command_that_the_page_names_is_there_with_its_options() {
    let mut seen = 0;
    for text in named().into_iter().filter(|text| text.starts_with("pgherd ")) {
        let mut words = text.split(' ').skip(1);
        let command = words.next().unwrap();
        let output = pgherd().args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "{text}");
        let help = String::from_utf8(output.stdout).unwrap();
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{text}");
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
    let console = include_str!("../../../../docs/console.md");
    for order in named().into_iter().filter(|text| text.starts_with("SHOW ") || text.starts_with("SHUTDOWN"))
    {
        let is_there = console.contains(&format!("### {order}\n")) || console.contains(&format!("`{order}`"));
        assert!(is_there, "{order}");
    }
}

#[test]
fn every_command_of_pcp_has_its_row() {
    let page = include_str!("../../../../docs/migrate.md");
    let files =
        fs::read_dir("/usr/sbin").unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let commands: Vec<String> = files.filter(|name| name.starts_with("pcp_")).collect();
    assert!(commands.len() > 10, "`scripts/setup test` installs pgpool2: {commands:?}");
    let first =
        page.lines().filter(|line| line.starts_with('|')).map(|line| line.split(" | ").next().unwrap());
    let first: String = first.collect();
    for name in commands {
        assert!(first.contains(&format!("`{name}`")), "{name}");
    }
}

//! The files that the packages of others install.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Source, check};

/// The files that Debian's packages of both install, as they are.
fn shipped() -> Vec<(PathBuf, String)> {
    let directories = [
        "/etc/pgpool2",
        "/usr/share/pgpool2",
        "/usr/share/doc/pgpool2/examples",
        "/etc/pgbouncer",
        "/usr/share/doc/pgbouncer",
        "/usr/share/doc/pgbouncer/examples",
    ];
    let files = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let is_configuration = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".gz");
        name.starts_with("pgpool.conf") || name.starts_with("pgbouncer") && name.ends_with(".ini")
    };
    let files = files.map(|file| file.unwrap().path()).filter(is_configuration);
    let text = |path: &PathBuf| Command::new("zcat").arg("-f").arg(path).output().unwrap().stdout;
    files.map(|path| (path.clone(), String::from_utf8(text(&path)).unwrap())).collect()
}

#[test]
fn what_debians_packages_install_is_migrated_and_accepted() {
    let files = shipped();
    for name in ["pgpool.conf", "pgbouncer"] {
        let count = files.iter().filter(|(path, _)| path.to_str().unwrap().contains(name)).count();
        assert!(count > 1, "`scripts/setup test` installs pgpool2 and pgbouncer: {files:?}");
    }
    for (path, text) in files {
        let source = Source::new(&text);
        let migrated = source.migrate(&["--output", "made.toml"]);
        assert_eq!(migrated.code, 0, "{}: {migrated:#?}", path.display());
        assert!(migrated.said.contains("names no server"), "{}: {migrated:#?}", path.display());
        let (json, code) = check(&source.path("made.toml"));
        assert_eq!(
            (code, json["warnings"].as_array().unwrap().len()),
            (0, 0),
            "{}: {json:#}",
            path.display()
        );
    }
}

#[test]
fn every_setting_that_they_have_in_comments_is_known_and_left_where_it_is_the_default() {
    for (path, text) in shipped() {
        let is_pgpool = path.to_str().unwrap().contains("pgpool.conf");
        let comment = if is_pgpool { '#' } else { ';' };
        let setting = |line: &str| {
            let line = line.strip_prefix(comment).filter(|line| !line.starts_with("  "))?;
            let name = line.split_once('=')?.0.trim();
            let fits = |it: char| it.is_ascii_alphanumeric() || it == '_';
            (!name.is_empty() && name.chars().all(fits)).then(|| format!("{line}\n"))
        };
        // In which section of pgbouncer.ini it is does not matter: databases and users have other settings.
        let settings: String =
            text.lines().filter_map(setting).filter(|line| !line.contains("db =")).collect();
        let text =
            if is_pgpool { settings } else { format!("[pgbouncer]\n{}", settings.replace("user1 =", ";")) };
        let json = Source::new(&text).json();
        for it in json["settings"].as_array().unwrap() {
            let why = it["message"].as_str().unwrap_or_default();
            assert!(!why.contains("knows of"), "{}: {it:#}", path.display());
        }
        if is_pgpool {
            let left =
                json["settings"].as_array().unwrap().iter().filter(|it| it["became"] == "default").count();
            assert!(left > 100, "{}: {left}", path.display());
        }
    }
}

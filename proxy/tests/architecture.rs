//! What ARCHITECTURE.md says of the crates is so: who imports whom, what is pure, and that files stay readable. What the other pages
//! point to is there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates each may use; those that are not listed may not be there.
const MAY_USE: &[(&str, &[&str])] = &[
    ("pgherd-protocol", &[]),
    ("pgherd-tls", &[]),
    ("pgherd-health", &["pgherd-tls"]),
    ("pgherd-failover", &["pgherd-tls", "pgherd-health"]),
    ("pgherd-manager", &[]),
    ("pgherd", &["pgherd-protocol", "pgherd-tls", "pgherd-health", "pgherd-failover", "pgherd-manager"]),
    ("pgherd-testkit", &[]),
    ("pgherd-benches", &[]),
    ("pgherd-hot-path", &["pgherd-protocol"]),
    ("pgherd-fuzz", &["pgherd-protocol", "pgherd-health", "pgherd-failover", "pgherd-manager", "pgherd"]),
];

/// Crates, and parts of crates, that decide: time and randomness are arguments, nothing is read or sent.
const PURE: &[&str] = &["protocol/src", "health/src", "failover/src"];
/// The parts of them that are there to touch the world.
const IMPURE: &[&str] = &[
    "health/src/prober.rs",
    "health/src/prober/",
    "failover/src/actor.rs",
    "failover/src/actor/",
    "failover/src/etcd.rs",
    "failover/src/etcd/",
    "failover/src/executor.rs",
    "failover/src/executor/",
];
/// What a pure module has no use for.
const WORLD: &[&str] = &[
    "tokio",
    "russh",
    "socket2",
    "tracing",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::Read",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "getrandom",
];

const LONGEST_FILE: usize = 520;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}

/// The text of a file without its tests.
fn product_text(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
}

#[test]
fn each_crate_uses_only_those_that_it_may() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed = may_use.get(name).unwrap_or_else(|| panic!("{name} is not in ARCHITECTURE.md's list"));
        for used in package.dependencies.iter().filter(|it| it.kind == DependencyKind::Normal) {
            let ours = may_use.contains_key(used.name.as_str());
            assert!(!ours || allowed.contains(&used.name.as_str()), "{name} must not use {}", used.name);
        }
    }
}

#[test]
fn what_decides_touches_neither_clock_nor_socket() {
    let root = root();
    let mut looked_at = 0;
    for directory in PURE {
        for file in rust_files(&root.join(directory)) {
            let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if IMPURE.iter().any(|impure| name.starts_with(impure)) || name.contains("/tests/") {
                continue;
            }
            looked_at += 1;
            for (number, line) in product_text(&file).lines().enumerate() {
                let code = line.split("//").next().unwrap();
                for word in WORLD {
                    let begins = |at: usize| !code[..at].ends_with(|it: char| it.is_alphanumeric());
                    let used = code.match_indices(word).any(|(at, _)| begins(at));
                    assert!(!used, "{name}:{} uses {word}", number + 1);
                }
            }
        }
    }
    assert!(looked_at > 40, "the files were found: {looked_at}");
    for impure in IMPURE {
        assert!(root.join(impure).exists(), "{impure} is in the list and not there");
    }
}

#[test]
fn no_file_is_longer_than_one_sits_down_to_read() {
    for file in rust_files(&root()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: is there a seam to split at?", file.display());
    }
}

/// What stands between backquotes in a page and is the path of a file or a directory.
fn paths(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains('/') && (text.ends_with(".rs") || text.ends_with('/'))).collect()
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = paths(&page);
    assert!(named.len() > 30, "{named:?}");
    for path in named {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
    }
}

#[test]
fn the_architecture_has_a_line_for_each_crate_with_what_it_may_use() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, may_use) in MAY_USE {
        let directory = name.strip_prefix("pgherd-").unwrap_or("proxy");
        let start = format!("| `{directory}/` |");
        let line = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{start}"));
        let cell = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let names: Vec<_> =
            may_use.iter().map(|it| format!("`{}`", it.strip_prefix("pgherd-").unwrap_or("proxy"))).collect();
        let expected = if names.is_empty() { "none of ours".to_owned() } else { names.join(", ") };
        assert_eq!(cell, expected, "{directory}");
    }
}

/// Tests that a page names between backquotes and that are not there; those that it names must be so many at least.
fn missing_tests(name: &str, least: usize) -> Vec<String> {
    let page = fs::read_to_string(root().join(name)).unwrap();
    let named: Vec<&str> =
        page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
    assert!(named.len() > least, "{name}: {named:?}");
    let code: String = rust_files(&root())
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let missing = named.into_iter().filter(|name| !code.contains(&format!("fn {name}(")));
    missing.map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_pains_and_the_threat_model_name_is_there() {
    for (page, least) in [("docs/pains.md", 50), ("docs/security.md", 40)] {
        let missing = missing_tests(page, least);
        assert!(missing.is_empty(), "{page} names tests that are not there: {missing:?}");
    }
}

/// Where unsafe code is allowed: nowhere. Each crate goes by the workspace's lints, which forbid it.
#[test]
fn no_crate_has_unsafe_code() {
    let workspace: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let forbidden = &workspace["workspace"]["lints"]["rust"]["unsafe_code"];
    assert_eq!(forbidden.as_str(), Some("forbid"));
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let manifest = root().join(member.as_str().unwrap()).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{member}");
    }
}

/// A lock that a panic poisons makes one session's end that of others: locks are parking_lot's, and where one is not, it says what becomes of it.
#[test]
fn no_lock_is_poisoned_by_a_panic() {
    let mut looked_at = 0;
    for directory in ["protocol/src", "tls/src", "health/src", "failover/src", "manager/src", "proxy/src"] {
        for file in rust_files(&root().join(directory)) {
            let text = product_text(&file);
            looked_at += 1;
            let is_std = text.lines().any(|line| {
                let line = line.trim();
                line.starts_with("use std::sync::") && (line.contains("Mutex") || line.contains("RwLock"))
            });
            assert!(!is_std || text.contains("PoisonError::into_inner"), "{}", file.display());
        }
    }
    assert!(looked_at > 200, "{looked_at}");
}

/// The targets of the links of a page, but for those to other sites.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
}

/// The anchors of a page's headings, as they are made on the web.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_pages_leads_to_a_heading() {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root().join(name));
    let pages = docs.chain(names).filter(|path| path.extension().is_some_and(|it| it == "md"));
    let pages: BTreeMap<PathBuf, String> =
        pages.map(|path| (path.canonicalize().unwrap(), fs::read_to_string(path).unwrap())).collect();
    let mut seen = 0;
    for (path, page) in &pages {
        for link in links(page) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, it)| (file, Some(it)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let Ok(target) = target.canonicalize() else {
                panic!("{} links to {link}: there is no such file", path.display());
            };
            let Some(anchor) = anchor else { continue };
            let there = pages.get(&target).is_some_and(|page| anchors(page).iter().any(|it| it == anchor));
            assert!(there, "{} links to {link}: there is no such heading", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

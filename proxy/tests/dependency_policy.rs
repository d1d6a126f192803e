//! Every dependency keeps to `deny.toml`: licences, no crate twice, none that is forbidden, all from crates.io.
//! Needs no network; `cargo deny check` reads the same file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;

use cargo_metadata::semver::{Version, VersionReq};
use cargo_metadata::{MetadataCommand, PackageId};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// The parts of cargo-deny's configuration that are checked here. Others must be left out: they would look checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    graph: Graph,
    /// Only cargo-deny can check these: `make audit`.
    advisories: Advisories,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisories {
    yanked: String,
    unmaintained: String,
    ignore: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
    #[serde(rename = "private")]
    _private: toml::Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    #[serde(rename = "crate")]
    spec: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    #[serde(rename = "wildcards")]
    _wildcards: String,
    #[serde(rename = "allow-wildcard-paths")]
    _allow_wildcard_paths: bool,
    skip: Vec<Named>,
    deny: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
}

struct Dependency {
    name: String,
    version: Version,
    license: Option<String>,
    source: Option<String>,
    used_by: Vec<String>,
}

impl Policy {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
        toml::from_str(&std::fs::read_to_string(path).unwrap())
            .expect("deny.toml has only what is checked here")
    }

    /// One line per violation, which says what to do about it.
    fn violations(&self, dependencies: &[Dependency]) -> Vec<String> {
        let each = dependencies.iter().flat_map(|it| [self.license(it), self.ban(it), self.source(it)]);
        each.flatten().chain(self.duplicates(dependencies)).collect()
    }

    fn license(&self, it: &Dependency) -> Option<String> {
        let what = format!("{} {} (used by {})", it.name, it.version, it.used_by.join(", "));
        let Some(text) = &it.license else {
            return Some(format!("{what} states no licence: replace it"));
        };
        let expression = match Expression::parse_mode(text, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => return Some(format!("{what}: `{text}` is no SPDX expression: {}", error.reason)),
        };
        let exceptions = self.licenses.exceptions.iter().filter(|exception| names(&exception.spec, it));
        let allowed: Vec<Licensee> = exceptions
            .flat_map(|exception| &exception.allow)
            .chain(&self.licenses.allow)
            .map(|id| Licensee::parse(id).expect("deny.toml names licences by their SPDX ids"))
            .collect();
        let fits =
            expression.evaluate(|required| allowed.iter().any(|licensee| licensee.satisfies(required)));
        (!fits).then(|| {
            format!(
                "{what}: licence `{text}` is not allowed. Replace the crate; or, if the licence will do, add to \
                 [licenses] exceptions in deny.toml: {{ crate = \"{}\", allow = [\"...\"] }}",
                it.name
            )
        })
    }

    fn ban(&self, it: &Dependency) -> Option<String> {
        let ban = self.bans.deny.iter().find(|ban| names(&ban.spec, it))?;
        let users = it.used_by.join(", ");
        Some(format!(
            "{} {} is forbidden by [bans] deny in deny.toml ({}): look at the features of {users}",
            it.name, it.version, ban.reason
        ))
    }

    fn source(&self, it: &Dependency) -> Option<String> {
        let registry = it.source.as_deref().and_then(|source| source.strip_prefix("registry+"));
        let fits =
            registry.is_some_and(|url| self.sources.allow_registry.iter().any(|allowed| allowed == url));
        let source = it.source.as_deref().unwrap_or("a path outside of the workspace");
        (!fits).then(|| {
            format!("{} {} comes from {source}, not from a registry in deny.toml", it.name, it.version)
        })
    }

    fn duplicates(&self, dependencies: &[Dependency]) -> Vec<String> {
        let mut versions = BTreeMap::<&str, Vec<&Dependency>>::new();
        let skipped = |it: &&Dependency| self.bans.skip.iter().any(|skip| names(&skip.spec, it));
        for it in dependencies.iter().filter(|it| !skipped(it)) {
            versions.entry(&it.name).or_default().push(it);
        }
        let message = |(name, mut all): (&str, Vec<&Dependency>)| {
            all.sort_by(|a, b| a.version.cmp(&b.version));
            let users: Vec<String> =
                all.iter().map(|it| format!("{} (used by {})", it.version, it.used_by.join(", "))).collect();
            format!(
                "{name} is there in {} versions: {}. Bring them together; or add to [bans] skip in deny.toml: \
                 {{ crate = \"{name}@{}\", reason = \"...\" }}",
                all.len(),
                users.join(", "),
                all.first().unwrap().version
            )
        };
        versions.into_iter().filter(|(_, all)| all.len() > 1).map(message).collect()
    }
}

/// Whether `spec` means the crate: `name`, `name@1.2.3` for this version, `name:^1` for a range, as in cargo-deny.
fn names(spec: &str, it: &Dependency) -> bool {
    if let Some((name, exact)) = spec.split_once('@') {
        return name == it.name
            && Version::parse(exact).expect("a version is after `@` in deny.toml") == it.version;
    }
    let (name, range) = spec.split_once(':').unwrap_or((spec, "*"));
    name == it.name
        && VersionReq::parse(range).expect("a range is after `:` in deny.toml").matches(&it.version)
}

/// What the workspace is built from on this machine: the build has fetched it, so that no network is needed.
fn dependencies_of_the_workspace(policy: &Policy) -> Vec<Dependency> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    assert!(policy.graph.targets.contains(&target), "{target} is not among [graph] targets in deny.toml");
    let options = ["--offline", "--locked", "--filter-platform", &target].map(str::to_owned);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).other_options(options).exec().unwrap();
    let nodes = &metadata.resolve.as_ref().unwrap().nodes;
    let users = |id: &PackageId| {
        let direct = nodes.iter().filter(|node| node.dependencies.contains(id));
        direct.map(|node| metadata[&node.id].name.to_string()).collect::<Vec<_>>()
    };
    let others = nodes.iter().filter(|node| !metadata.workspace_members.contains(&node.id));
    let dependency = |node: &cargo_metadata::Node| {
        let package = &metadata[&node.id];
        Dependency {
            name: package.name.to_string(),
            version: package.version.clone(),
            license: package.license.clone(),
            source: package.source.as_ref().map(|source| source.repr.clone()),
            used_by: users(&node.id),
        }
    };
    others.map(dependency).collect()
}

#[test]
fn every_dependency_keeps_to_the_policy() {
    let policy = Policy::read();
    let dependencies = dependencies_of_the_workspace(&policy);
    assert!(dependencies.iter().any(|it| it.name == "clap"), "the dependencies were found");
    let violations = policy.violations(&dependencies);
    assert!(
        violations.is_empty(),
        "{} violations of deny.toml:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn the_policy_denies_where_it_could_only_warn_and_gives_a_reason_for_each_exception() {
    let policy = Policy::read();
    for setting in [
        policy.advisories.yanked,
        policy.bans.multiple_versions,
        policy.sources.unknown_registry,
        policy.sources.unknown_git,
    ] {
        assert_eq!(setting, "deny");
    }
    assert_eq!(policy.advisories.unmaintained, "all");
    assert!(policy.advisories.ignore.is_empty(), "{:?}", policy.advisories.ignore);
    for named in policy.bans.skip.iter().chain(&policy.bans.deny) {
        assert!(!named.reason.trim().is_empty(), "{} lacks a reason", named.spec);
    }
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn dependency(name: &str, version: &str, license: Option<&str>, source: Option<&str>) -> Dependency {
    Dependency {
        name: name.to_owned(),
        version: version.parse().unwrap(),
        license: license.map(str::to_owned),
        source: source.map(str::to_owned),
        used_by: vec!["pgherd".to_owned()],
    }
}

fn violation(dependencies: &[Dependency]) -> String {
    Policy::read().violations(dependencies).join("\n")
}

#[test]
fn a_licence_that_is_not_allowed_is_named_with_the_crate_and_the_way_out() {
    let found = violation(&[dependency("copyleft", "1.0.0", Some("MIT AND GPL-3.0-only"), Some(CRATES_IO))]);
    assert!(
        found.contains("copyleft 1.0.0 (used by pgherd): licence `MIT AND GPL-3.0-only` is not allowed"),
        "{found}"
    );
    assert!(found.contains("[licenses] exceptions in deny.toml"), "{found}");
    for license in [None, Some("Whatever I like")] {
        assert!(
            violation(&[dependency("odd", "1.0.0", license, Some(CRATES_IO))]).contains("licence")
                || violation(&[dependency("odd", "1.0.0", license, Some(CRATES_IO))]).contains("SPDX")
        );
    }
}

#[test]
fn a_choice_of_licences_needs_one_that_is_allowed() {
    for license in
        ["MIT/Apache-2.0", "GPL-2.0-only OR MIT", "Apache-2.0 WITH LLVM-exception", "(MIT OR Zlib) AND ISC"]
    {
        assert_eq!(
            violation(&[dependency("fine", "1.0.0", Some(license), Some(CRATES_IO))]),
            "",
            "{license}"
        );
    }
}

#[test]
fn a_crate_in_two_versions_is_named_with_both_and_the_way_out() {
    let twice = ["0.10.8", "0.11.0"].map(|version| dependency("sha2", version, Some("MIT"), Some(CRATES_IO)));
    let found = violation(&twice);
    assert!(found.contains("sha2 is there in 2 versions: 0.10.8 (used by pgherd), 0.11.0"), "{found}");
    for spec in ["sha2@0.10.8", "sha2:^0.10"] {
        let mut policy = Policy::read();
        policy.bans.skip.push(Named { spec: spec.into(), reason: "test".into() });
        assert_eq!(policy.violations(&twice), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn a_forbidden_crate_and_one_from_elsewhere_are_found() {
    assert!(
        violation(&[dependency("openssl-sys", "0.9.1", Some("MIT"), Some(CRATES_IO))])
            .contains("is forbidden")
    );
    for source in [None, Some("git+https://example.org/x#1234"), Some("registry+https://example.org/index")] {
        assert!(violation(&[dependency("x", "1.0.0", Some("MIT"), source)]).contains("x 1.0.0 comes from"));
    }
}

//! The program behind `make sbom`: what pgherd is made of, as a bill of materials in CycloneDX's form.
//!
//! What cargo resolves for the program `pgherd` on one platform, without what only tests need. Checksums are those of `Cargo.lock`.

// The bill is its output.
#![allow(clippy::print_stdout)]
#![allow(clippy::indexing_slicing, reason = "a JSON object has null where there is no such key")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use clap::Parser;
use pgherd_testkit::{Context, Result, ensure};
use serde_json::{Value, json};

/// Writes what pgherd is made of to the standard output, as CycloneDX 1.5.
#[derive(Debug, Parser)]
#[command(name = "make sbom")]
struct Options {
    /// For which platform.
    #[arg(long, default_value = "x86_64-unknown-linux-gnu")]
    platform: String,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    println!("{:#}", bill(&root, &options.platform)?);
    Ok(())
}

fn bill(root: &Path, platform: &str) -> Result<Value> {
    let metadata = metadata(root, platform)?;
    let packages = by_id(&metadata["packages"])?;
    let nodes = by_id(&metadata["resolve"]["nodes"])?;
    let program = packages.values().find(|it| it["name"] == "pgherd").context("no pgherd")?;
    let used = used_by(text(program, "id")?, &nodes)?;
    let checksums = checksums(root)?;
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for id in &used {
        let package = packages.get(id).context("a package that is not listed")?;
        if text(package, "name")? != "pgherd" {
            components.push(component(package, &checksums)?);
        }
        let needs: Vec<String> = needed(nodes.get(id).context("no node")?)
            .map(|it| reference(packages.get(it).context("a package that is not listed")?))
            .collect::<Result<_>>()?;
        dependencies.push(json!({ "ref": reference(package)?, "dependsOn": needs }));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(program, &checksums)? },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn metadata(root: &Path, platform: &str) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", platform])
        .current_dir(root)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn by_id(list: &Value) -> Result<BTreeMap<String, Value>> {
    let list = list.as_array().context("no list")?;
    list.iter().map(|it| Ok((text(it, "id")?.to_owned(), it.clone()))).collect()
}

fn text<'a>(of: &'a Value, name: &str) -> Result<&'a str> {
    of[name].as_str().with_context(|| format!("no {name}"))
}

/// What a package needs to be built and to run, but not to be tested.
fn needed(node: &Value) -> impl Iterator<Item = &str> {
    let is_needed =
        |it: &&Value| it["dep_kinds"].as_array().is_some_and(|all| all.iter().any(|it| it["kind"] != "dev"));
    node["deps"].as_array().into_iter().flatten().filter(is_needed).filter_map(|it| it["pkg"].as_str())
}

fn used_by(id: &str, nodes: &BTreeMap<String, Value>) -> Result<BTreeSet<String>> {
    let (mut used, mut open) = (BTreeSet::new(), vec![id.to_owned()]);
    while let Some(id) = open.pop() {
        if used.insert(id.clone()) {
            open.extend(needed(nodes.get(&id).context("no node")?).map(str::to_owned));
        }
    }
    Ok(used)
}

/// SHA-256 by name and version.
fn checksums(root: &Path) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = toml::from_str(&std::fs::read_to_string(root.join("Cargo.lock"))?)?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("no packages")?;
    let of = |package: &toml::Value| {
        let text = |name| package.get(name)?.as_str().map(str::to_owned);
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.iter().filter_map(of).collect())
}

fn reference(package: &Value) -> Result<String> {
    Ok(format!("pkg:cargo/{}@{}", text(package, "name")?, text(package, "version")?))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let (name, version) = (text(package, "name")?, text(package, "version")?);
    let is_ours = package["source"].is_null();
    let mut component = json!({
        "type": if name == "pgherd" { "application" } else { "library" },
        "bom-ref": reference(package)?,
        "name": name,
        "version": version,
        "purl": reference(package)?,
        "licenses": [{ "expression": text(package, "license")?.replace('/', " OR ") }],
    });
    if !is_ours {
        let checksum = checksums.get(&(name.to_owned(), version.to_owned()));
        let checksum = checksum.with_context(|| format!("{name} {version} has no checksum in Cargo.lock"))?;
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = package["repository"].as_str() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_has_what_the_program_is_made_of_once_with_its_checksum_and_nothing_of_tests() -> Result<()> {
        let bill = bill(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), "x86_64-unknown-linux-gnu")?;
        let components = bill["components"].as_array().context("no components")?;
        let names: Vec<&str> = components.iter().filter_map(|it| it["name"].as_str()).collect();
        for name in ["pgherd-protocol", "rustls", "russh", "tokio", "tokio-postgres"] {
            ensure!(names.contains(&name), "{name} is not in {names:?}");
        }
        for name in ["pgherd", "pgherd-testkit", "proptest", "criterion", "tempfile"] {
            ensure!(!names.contains(&name), "{name} is no part of it");
        }
        let references: BTreeSet<&str> = components.iter().filter_map(|it| it["bom-ref"].as_str()).collect();
        ensure!(references.len() == components.len(), "one is there twice");
        let is_known = |it: &&Value| it["hashes"][0]["content"].as_str().is_some_and(|it| it.len() == 64);
        let ours = names.iter().filter(|it| it.starts_with("pgherd-")).count();
        ensure!(components.iter().filter(is_known).count() == components.len() - ours);
        let needed = bill["dependencies"].as_array().into_iter().flatten();
        for one in needed.flat_map(|it| it["dependsOn"].as_array().into_iter().flatten()) {
            let one = one.as_str().context("no reference")?;
            ensure!(references.contains(one), "{one} is needed and not listed");
        }
        Ok(())
    }
}

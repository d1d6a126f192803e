//! The dashboard and the alerting rules: each metric that they name is there, with the labels that they name.

use std::collections::BTreeMap;

use regex::Regex;

const DASHBOARD: &str = include_str!("../../../docs/monitoring/dashboard.json");
const ALERTS: &str = include_str!("../../../docs/monitoring/alerts.yml");

/// What docs/metrics.md has, which a test compares with what pgherd answers: each metric and its labels.
fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = include_str!("../../../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once("` |")?;
        let labels = rest.split('|').next()?.split(',').map(str::trim).filter(|label| !label.is_empty());
        name.starts_with("pgherd_").then(|| (name, labels.collect()))
    })
    .collect()
}

fn family<'a>(name: &'a str, known: &BTreeMap<&str, Vec<&str>>) -> &'a str {
    let parts = ["_bucket", "_count", "_sum"].into_iter().filter_map(|part| name.strip_suffix(part));
    parts.into_iter().find(|family| known.contains_key(family)).unwrap_or(name)
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_and_labels_that_there_are() {
    let known = documented();
    let name = Regex::new(r"\bpgherd_[a-z_]+").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        panel["targets"].as_array().unwrap().iter().map(|target| {
            (target["expr"].as_str().unwrap().to_owned(), target["legendFormat"].as_str().unwrap().to_owned())
        })
    });
    let rules = ALERTS.split("- alert: ").skip(1).map(|rule| {
        let expression = rule.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap();
        (expression.to_owned(), rule.to_owned())
    });
    let label = Regex::new(r"\{\{ ?\$?(?:labels\.)?([a-z]+) ?\}\}").unwrap();
    let mut looked_at = 0;
    for (expression, shown) in targets.chain(rules) {
        let mut labels = vec!["instance", "value"];
        for found in name.find_iter(&expression) {
            let metric = family(found.as_str(), &known);
            assert!(known.contains_key(metric), "{metric} in {expression} is no metric of docs/metrics.md");
            labels.extend(&known[metric]);
            looked_at += 1;
        }
        for used in label.captures_iter(&shown) {
            assert!(labels.contains(&&used[1]), "{} is no label of {expression}", &used[1]);
        }
    }
    assert!(looked_at > 30, "{looked_at}");
}

//! The README and docs/, as far as a test can hold them true.

use gatelog::{
    authn, cluster, config,
    telemetry::{Metrics, metrics},
    validate::catalog,
};
use std::{collections::BTreeSet, fs, path::PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_configuration_is_shown_as_it_is() {
    assert!(
        readme().contains(&format!("```yaml\n{}```", config::REFERENCE)),
        "the README's configuration is not src/config/reference.yaml"
    );
}

#[test]
fn its_examples_are_configurations() {
    let readme = readme();
    let examples: Vec<&str> =
        readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        config::parse(&root().join("gatelog.yaml"), example).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

/// The pages in docs/, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What a heading is linked by.
fn anchors(page: &str) -> Vec<String> {
    let heading = |line: &str| {
        let kept = |c: &char| c.is_alphanumeric() || *c == ' ' || *c == '-';
        let text: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
        text.to_lowercase().replace(' ', "-")
    };
    page.lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut pages = pages();
    pages.push((root().join("README.md"), readme()));
    let mut found = 0;
    for (page, text) in &pages {
        let links: Vec<&str> = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
        found += links.len();
        for link in links.into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: {link}", page.display());
            assert!(
                anchor.is_empty() || anchors(&fs::read_to_string(to).unwrap()).iter().any(|a| a == anchor),
                "{}: {link}",
                page.display()
            );
        }
    }
    assert!(found > 20, "{found}");
}

/// Each is a part of a configuration.
#[test]
fn examples_in_docs_are_read() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("part.yaml");
    let mut found = 0;
    for (page, text) in pages() {
        for example in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            found += 1;
            fs::write(&file, format!("apiVersion: gatelog.dev/v1alpha1\nkind: GatewayPart\n{example}"))
                .unwrap();
            config::examine(&file).unwrap_or_else(|errors| panic!("{}: {errors}\n{example}", page.display()));
        }
    }
    assert!(found > 5, "{found}");
    fs::remove_dir_all(&folder).unwrap();
}

/// In code spans: every metric that the README names exists, and every metric of the gate's own is named.
#[test]
fn its_metrics_are_the_programs() {
    let readme = readme();
    let named: BTreeSet<&str> = readme
        .split('`')
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .filter(|code| {
            ["apiserver_", "gatelog_", "authentication_", "authorization_"]
                .iter()
                .any(|p| code.starts_with(p))
        })
        .collect();
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let _of_authentication = authn::Metrics::new(&registry).unwrap();
    let _of_the_clusters_rules = cluster::rules::Metrics::new(&registry).unwrap();
    let _of_the_catalogue = catalog::Metrics::new(&registry).unwrap();
    // What has no value yet is not gathered.
    let series = metrics.refused(&http::Method::GET);
    series.finish(200, std::time::Duration::ZERO);
    metrics.upstream_error("connect");
    metrics.limited("requests");
    metrics.enabled("audit", true);
    let watch = metrics::Call {
        verb: "WATCH",
        dry_run: "",
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        scope: "cluster",
        long_running: true,
        mutating: false,
    };
    drop(metrics.series(&watch).running());
    let mut there: BTreeSet<String> =
        registry.gather().iter().map(|family| family.name().to_owned()).collect();
    there.retain(|name| !name.starts_with("process_"));
    let elsewhere = [
        "apiserver_audit_event_total",
        "apiserver_audit_level_total",
        "apiserver_audit_error_total",
        "apiserver_audit_requests_rejected_total",
        "gatelog_audit_lost_events_total",
        "gatelog_audit_suppressed_events_total",
        "gatelog_audit_disk_errors_total",
        "gatelog_audit_queue_bytes",
        "gatelog_audit_queue_events",
        "gatelog_audit_sync_duration_seconds",
        "gatelog_audit_sync_batch_events",
        "gatelog_audit_tree_size",
        "gatelog_audit_tree_root",
        "gatelog_audit_unsigned_events",
        "gatelog_audit_checkpoint_timestamp_seconds",
        "gatelog_audit_checkpoint_duration_seconds",
        "gatelog_audit_checkpoint_failures_total",
        "gatelog_audit_sink_lag_events",
        "gatelog_audit_sink_lag_seconds",
        "gatelog_audit_sink_events_total",
        "gatelog_audit_sink_errors_total",
        "gatelog_audit_sink_gaps_total",
        "gatelog_audit_sink_delivery_duration_seconds",
        "gatelog_audit_held_segments",
        "gatelog_validation_findings_total",
        "gatelog_validation_unsure_total",
        "gatelog_catalog_failures_total",
        "gatelog_log_lines_dropped_total",
        "gatelog_issuer_key_fetches_total",
        "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
    ];
    there.extend(elsewhere.map(str::to_owned));
    let named: BTreeSet<String> = named.into_iter().map(str::to_owned).collect();
    assert_eq!(named, there);
}

//! Holes of the API server, one by one.

use crate::validate::tests::refusal;

#[test]
fn options_that_a_body_hides_are_told() {
    const POD: &str = "DELETE /api/v1/namespaces/a/pods/p";
    const PODS: &str = "DELETE /api/v1/namespaces/a/pods";
    let background = r#"{"propagationPolicy":"Background"}"#;
    for (path, query, body, hidden) in [
        (POD, "dryRun=All", "{}", "dryRun"),
        (POD, "dryRun=All", r#"{"dryRun":["All"]}"#, "-"),
        (POD, "dryRun=All", r#"{"dryRun":[]}"#, "dryRun"),
        (POD, "dryRun=All", r#"{"dryrun":["All"]}"#, "dryRun"),
        (POD, "dryRun=All", r#"{"dryRun":["All"],"dryRun":null}"#, "dryRun"),
        (POD, "dryRun=All&dryRun=x", r#"{"dryRun":["All"]}"#, "dryRun"),
        (POD, "gracePeriodSeconds=0", "{}", "gracePeriodSeconds"),
        (POD, "gracePeriodSeconds=0", r#"{"gracePeriodSeconds":0}"#, "-"),
        (POD, "gracePeriodSeconds=x", r#"{"gracePeriodSeconds":0}"#, "gracePeriodSeconds"),
        (POD, "gracePeriodSeconds=0&gracePeriodSeconds=1", r#"{"gracePeriodSeconds":0}"#, "-"),
        (POD, "propagationPolicy=Orphan", background, "propagationPolicy"),
        (POD, "propagationPolicy=Background", background, "-"),
        (POD, "orphanDependents=", r#"{"orphanDependents":true}"#, "-"),
        (POD, "orphanDependents=true", "{}", "orphanDependents"),
        (POD, "uid=1", r#"{"preconditions":{"uid":"1"}}"#, "-"),
        (POD, "uid=1", r#"{"preconditions":{"uid":"2"}}"#, "uid"),
        (POD, "uid=", "{}", "-"),
        (POD, "resourceVersion=5", "{}", "resourceVersion"),
        (PODS, "resourceVersion=5", "{}", "-"),
        (PODS, "dryRun=All", "{}", "dryRun"),
        (POD, "pretty=1&timeout=5s&limit=1", "{}", "-"),
        (POD, "dryRun=All", "{broken", "dryRun"),
        (POD, "dryRun=All", "", "-"),
        ("DELETE /apis/unheard.of/v1/things/x", "dryRun=All", "{}", "-"),
    ] {
        let said = refusal(&format!("{path}?{query}"), None, Some("application/json"), body);
        match hidden {
            "-" => assert_eq!(said, None, "{path}?{query} {body}"),
            option => {
                let said = said.unwrap_or_else(|| panic!("{path}?{query} {body}: let through"));
                assert!(said.starts_with(&format!("400 the query option {option} ")), "{query}: {said}");
            }
        }
    }
}

#[test]
fn a_watch_is_opened_by_get_alone() {
    for (line, refused) in [
        ("POST /apis/ex.io/v1/watch/foos", true),
        ("DELETE /apis/ex.io/v1/watch/namespaces/a/foos/f", true),
        ("PUT /api/v1/watch/pods", true),
        ("HEAD /api/v1/watch/pods", true),
        ("HEAD /apis/ex.io/v1/foos?watch=1", true),
        ("GET /apis/ex.io/v1/watch/foos", false),
        ("DELETE /apis/ex.io/v1/namespaces/a/foos?watch=1", false),
    ] {
        let said = refusal(line, None, Some("application/json"), "{}");
        assert_eq!(said.is_some_and(|said| said.starts_with("405 ")), refused, "{line}");
    }
}

#[test]
fn a_create_names_nothing_in_its_path() {
    for (line, refused) in [
        ("POST /apis/ex.io/v1/namespaces/a/foos/f", true),
        ("POST /api/v1/namespaces/a/pods/p", true),
        ("POST /api/v1/namespaces/a/pods/p/eviction", false),
        ("POST /apis/ex.io/v1/namespaces/a/foos", false),
    ] {
        let said = refusal(line, None, Some("application/json"), "{}");
        assert_eq!(said.is_some_and(|said| said.starts_with("405 ")), refused, "{line}");
    }
}

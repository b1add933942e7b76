//! The reference implementation's answers to audit policies: what is recorded of which request, and which documents are a
//! policy at all.

use gatelog::{
    audit::policy::{Policy, Question},
    request::Object,
};
use serde_json::Value;
use std::collections::BTreeMap;

const POLICIES: &str = include_str!("../golden/audit-policies.json");
const QUESTIONS: &str = include_str!("../golden/audit-policy.jsonl");
const DOCUMENTS: &str = include_str!("../golden/audit-policy-load.jsonl");

#[test]
fn verdicts_equal_the_original() {
    let policies: BTreeMap<String, Value> = serde_json::from_str(POLICIES).unwrap();
    let policies: BTreeMap<_, _> = policies
        .iter()
        .map(|(id, document)| (id.as_str(), Policy::from_value(document).expect(id)))
        .collect();
    let mut answered = 0;
    for (number, line) in QUESTIONS.lines().enumerate() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| golden[key].as_str().unwrap();
        let groups: Vec<String> =
            golden["groups"].as_array().unwrap().iter().map(|g| g.as_str().unwrap().to_owned()).collect();
        let object = if golden["isResourceRequest"].as_bool().unwrap() {
            Object::Resource {
                group: text("apiGroup"),
                version: text("apiVersion"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
            }
        } else {
            Object::Path(text("path"))
        };
        let user = golden["user"].as_str().map(|name| (name, groups.as_slice()));
        let verdict = policies[text("policy")].evaluate(&Question { user, verb: text("verb"), object });
        let want = &golden["want"];
        let mut stages: Vec<_> = verdict.omit_stages.iter().map(|s| s.as_str()).collect();
        stages.sort_unstable();
        let at = format!("line {}: {line}", number + 1);
        assert_eq!(verdict.level.as_str(), want["level"], "{at}");
        assert_eq!(verdict.omit_managed_fields, want["omitManagedFields"], "{at}");
        assert_eq!(Value::from(stages), want["omitStages"], "{at}");
        answered += 1;
    }
    assert_eq!(answered, 2100);
}

#[test]
fn documents_load_as_in_the_original_or_are_refused_with_a_reason() {
    let (mut loaded, mut refused, mut stricter) = (0, 0, 0);
    for line in DOCUMENTS.lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let document = golden["document"].as_str().unwrap();
        let ours = Policy::parse(document);
        let why = ours.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match (golden["ok"].as_bool().unwrap(), ours) {
            (true, Ok(policy)) => {
                assert_eq!(golden["lenient"], false, "{document}");
                assert_eq!(Value::from(policy.rules()), golden["rules"], "{document}");
                loaded += 1;
            }
            (true, Err(_)) => {
                let known =
                    ["unknown field", "duplicate mapping key", "expected one document, found a second"];
                assert!(known.iter().any(|k| why.contains(k)), "{why}: {document}");
                stricter += 1;
            }
            (false, Err(_)) => refused += 1,
            // The original takes what begins with a brace for JSON; to us it is YAML, where this comma may stand.
            (false, Ok(_)) if document.ends_with("],}") => loaded += 1,
            (false, Ok(_)) => panic!("loaded, but the original says {}: {document}", golden["error"]),
        }
    }
    assert_eq!((loaded, refused, stricter), (23, 56, 11));
}

//! Values of objects, with the real kubectl: refused for the groups that the operator names, told for all others.

use crate::{
    harness::{Gate, Ran, Tweaks, kubectls},
    kubectl::minor,
};
use gatelog::demo::site::ADMIN;
use serde_json::{Value, json};

fn definition(group: &str, kind: &str) -> String {
    let plural = format!("{}s", kind.to_lowercase());
    let spec = json!({
        "type": "object",
        "required": ["radius"],
        "properties": {
            "radius": {"type": "integer", "minimum": 1, "maximum": 9},
            "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 3}},
        },
    });
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
    .to_string()
}

fn object(group: &str, kind: &str, name: &str, spec: &Value) -> String {
    let metadata = json!({"name": name});
    json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "spec": spec}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_prints_them_as_kube_apiservers_own() {
    let Some(kubectl) = kubectls().pop() else { return };
    let validate = if minor(&kubectl) < 29 { "--validate=false" } else { "--validate=true" };
    let tweaks = Tweaks { config: "validation: {enforceValuesOf: [shapes.example]}\n", ..Tweaks::default() };
    let gate = Gate::start(tweaks).await;
    let work = move || {
        let piped = |verb: &str, text: &str| -> Ran {
            gate.run(&kubectl, ADMIN, &[verb, validate, "-f", "-"], text.as_bytes())
        };
        for (group, kind) in [("shapes.example", "Circle"), ("lines.example", "Line")] {
            piped("create", &definition(group, kind)).ok();
            let name = format!("crd/{}s.{group}", kind.to_lowercase());
            gate.run(&kubectl, ADMIN, &["wait", "--for=condition=established", &name], b"").ok();
        }
        let bad = json!({"radius": 12, "color": "blue", "tags": ["abcd", "x", "x"]});
        let causes = [
            "* spec.radius: Invalid value: 12: spec.radius in body should be less than or equal to 9",
            "* spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
            "* spec.tags[0]: Too long: may not be more than 3 bytes",
            "* spec.tags[2]: Duplicate value: \"x\"",
        ];
        for verb in ["create", "apply"] {
            let ran = piped(verb, &object("shapes.example", "Circle", "bad", &bad));
            let said = ran.failed();
            assert!(said.starts_with("The Circle \"bad\" is invalid: "), "{ran:?}");
            assert!(causes.iter().all(|cause| said.contains(cause)), "{ran:?}");
        }
        let applied = object("shapes.example", "Circle", "bad", &json!({"radius": 12, "color": "blue"}));
        let ran = gate.run(&kubectl, ADMIN, &["apply", "--server-side", "-f", "-"], applied.as_bytes());
        let said = ran.failed();
        assert!(
            said.contains("is invalid: ") && causes[..2].iter().all(|cause| said.contains(cause)),
            "{ran:?}"
        );
        let none = piped("create", &object("shapes.example", "Circle", "none", &json!({})));
        assert_eq!(none.failed().trim(), "The Circle \"none\" is invalid: spec.radius: Required value");
        let good = object("shapes.example", "Circle", "good", &json!({"radius": 3}));
        assert!(piped("create", &good).ok().contains("created"));
        // Nobody has asked that these be enforced: it is the upstream that refuses them.
        let line = piped("create", &object("lines.example", "Line", "bad", &bad));
        assert!(line.failed().contains("spec.radius"), "{line:?}");
        // The demo does not mind.
        let keyed = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "told", "annotations": {"a b": "c"}}});
        let told = piped("create", &keyed.to_string());
        assert!(told.ok().contains("created"), "{told:?}");
        assert!(
            told.err.contains("Warning: metadata.annotations: Invalid value: \"a b\": name part"),
            "{told:?}"
        );
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let notes = |resource: &str, name: &str| -> Vec<String> {
        let of = record.of(resource).filter(|event| event["verb"] == "create");
        let of = of.filter(|event| {
            event["requestObject"]["metadata"]["name"] == name || event["objectRef"]["name"] == name
        });
        of.map(|event| event["annotations"]["gatelog.dev/validation"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(notes("circles", "bad"), ["refused: values/enum", "refused: values/enum"]);
    assert_eq!(notes("circles", "good"), [""]);
    let line = notes("lines", "bad").concat();
    assert!(line.starts_with("warned: values/"), "{line}");
    assert_eq!(notes("configmaps", "told"), ["warned: values/metadata"]);
}

//! Objects as people write them, with the real kubectl: what it prints of what is not well formed, that this does not reach the cluster,
//! and that all else works as before.

use crate::{
    harness::{Gate, Ran, Record, Tweaks, kubectls},
    kubectl::minor,
};
use gatelog::demo::site::ADMIN;
use serde_json::Value;
use std::path::Path;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers: [{name: web, image: nginx}]
";
const CONFIG: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: NAME}, data: {key: one}}";
const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rings.moment.example}
spec:
  group: moment.example
  scope: Namespaced
  names: {plural: rings, singular: ring, kind: Ring}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {
      radius: {type: integer}, color: {type: string, enum: [red, green]}}}}}}
";
const RING: &str = "{apiVersion: moment.example/v1, kind: Ring, metadata: {name: NAME}, spec: {radius: 3}}";

const TYPO: &str = "Error from server (BadRequest): error when creating \"STDIN\": Deployment in version \"v1\" cannot be handled as a \
                    Deployment: strict decoding error: unknown field \"spec.replica\"";
const NO_ROUTE: &str = "Error from server (NotFound): the server could not find the requested resource";

fn deployment(name: &str) -> String {
    DEPLOYMENT.replace("NAME", name)
}

fn typo(name: &str) -> String {
    deployment(name).replace("replicas:", "replica:")
}

fn run(gate: &Gate, kubectl: &Path, line: &str, text: &str) -> Ran {
    let args: Vec<&str> = ["-n", "shop"].into_iter().chain(line.split(' ')).collect();
    gate.run(kubectl, ADMIN, &args, text.as_bytes())
}

/// Writes of this kind that came to the cluster.
fn arrived(gate: &Gate, method: &str, resource: &str) -> usize {
    let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    let seen = gate.cluster.requests();
    seen.iter().filter(|seen| seen.method == method && path(&seen.target).ends_with(resource)).count()
}

/// What the record says of the writes to a resource, in their order.
fn notes(record: &Record, verb: &str, resource: &str) -> Vec<String> {
    let note = |e: &Value| e["annotations"]["gatelog.dev/validation"].as_str().unwrap_or_default().to_owned();
    record.of(resource).filter(|e| e["verb"] == verb).map(note).collect()
}

/// Runs `work` beside a gate, and stops it.
async fn beside<T: Send + 'static>(
    config: &'static str,
    work: impl FnOnce(&Gate) -> T + Send + 'static,
) -> (T, Record) {
    let gate = Gate::start(Tweaks { config, ..Tweaks::default() }).await;
    let work = move || (work(&gate), gate);
    let (result, mut gate) = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    (result, record)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typo_is_told_in_kube_apiservers_words() {
    let all = kubectls();
    let (Some(oldest), Some(newest)) = (all.first().cloned(), all.last().cloned()) else { return };
    let work = move |gate: &Gate| {
        let raw = "create --raw /api/v1/namespaces/shop/configmaps -f -";
        let elsewhere =
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"team-a"}}"#;
        let mistyped = deployment("a").replace("replicas: 1", "replicas: two");
        let unmarshal = "Error from server (BadRequest): error when creating \"STDIN\": Deployment in version \"v1\" cannot be handled \
                         as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
        let namespace = "Error from server (BadRequest): the namespace of the provided object does not match the namespace sent on \
                         the request";
        let rows = [
            (&oldest, "create -f -", typo("a"), TYPO),
            (&newest, "create -f -", typo("a"), TYPO),
            (&newest, "apply -f -", typo("a"), TYPO),
            (&newest, "create -f -", mistyped, unmarshal),
            (&newest, raw, elsewhere.to_owned(), namespace),
            (&newest, "get --raw /api/v1/foos", String::new(), NO_ROUTE),
            (&newest, "get foos", String::new(), "error: the server doesn't have a resource type \"foos\""),
        ];
        for (kubectl, line, text, told) in rows {
            let ran = run(gate, kubectl, line, &text);
            assert_eq!(ran.failed().trim(), told, "{line}");
        }
        assert_eq!(arrived(gate, "POST", "/deployments"), 0);
        assert_eq!(arrived(gate, "POST", "/configmaps"), 0);

        for (kubectl, name) in [(&oldest, "b"), (&newest, "c")] {
            let told = run(gate, kubectl, "create --validate=warn -f -", &typo(name));
            assert_eq!(
                (told.ok(), told.err.trim()),
                (&*created(name), "Warning: unknown field \"spec.replica\"")
            );
            let silent = run(gate, kubectl, "create --validate=ignore -f -", &typo(&format!("{name}2")));
            assert_eq!((silent.ok(), &*silent.err), (&*created(&format!("{name}2")), ""));
        }
    };
    let ((), record) = beside("", work).await;
    let unknown = "refused: objects/unknown-field";
    let warned = "warned: objects/unknown-field";
    let mistyped = "refused: objects/field-type";
    assert_eq!(
        notes(&record, "create", "deployments"),
        [unknown, unknown, unknown, mistyped, warned, "", warned, ""]
    );
    assert_eq!(notes(&record, "create", "configmaps"), ["refused: objects/namespace"]);
    assert_eq!(notes(&record, "list", "foos"), ["refused: routes/unknown-resource"]);
}

fn created(name: &str) -> String {
    format!("deployment.apps/{name} created\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_and_its_objects_at_once() {
    let Some(kubectl) = kubectls().pop().filter(|kubectl| minor(kubectl) > 28) else { return };
    let work = move |gate: &Gate| {
        let run = |line: &str, text: &str| run(gate, &kubectl, line, text);
        run("create -f -", DEFINITION).ok();
        run("wait --for=condition=established crd/rings.moment.example", "").ok();
        let told = run("create -f -", &RING.replace("NAME", "a").replace("radius", "radios"));
        let strict = "Ring in version \"v1\" cannot be handled as a Ring: strict decoding error: unknown field \"spec.radios\"";
        assert!(told.failed().contains(strict), "{told:?}");
        assert_eq!(arrived(gate, "POST", "/rings"), 0);
        let good = RING.replace("NAME", "a");
        run("create -f -", &good).ok();
        for (line, text) in
            [("apply --server-side --force-conflicts -f -", &*good), ("get ring a -o name", "")]
        {
            let ran = run(line, text);
            assert!(ran.ok().starts_with("ring.moment.example/a") && ran.err.is_empty(), "{ran:?}");
        }
        // Its values are told of what is applied, too, and the upstream refuses them.
        let blue =
            run("apply --server-side -f -", &RING.replace("NAME", "b").replace("radius: 3", "color: blue"));
        assert!(blue.failed().contains("spec.color: Unsupported value: \"blue\""), "{blue:?}");
    };
    let ((), record) = beside("", work).await;
    assert_eq!(notes(&record, "create", "rings"), ["refused: objects/unknown-field", ""]);
    assert_eq!(notes(&record, "patch", "rings"), ["", "warned: values/enum"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_well_formed_works_as_before() {
    let Some(kubectl) = kubectls().pop() else { return };
    let work = move |gate: &Gate| {
        let config = CONFIG.replace("NAME", "a");
        let deployment = deployment("d");
        let rows = [
            ("apply -f -", &*config, "configmap/a created\n"),
            ("apply -f -", &config.replace("one", "two"), "configmap/a configured\n"),
            (
                "apply --server-side --force-conflicts -f -",
                &config.replace("one", "three"),
                "configmap/a serverside-applied\n",
            ),
            ("patch cm a --type=merge -p {\"data\":{\"b\":\"2\"}}", "", "configmap/a patched\n"),
            (
                "patch cm a --type=strategic -p {\"metadata\":{\"labels\":{\"b\":\"2\"}}}",
                "",
                "configmap/a patched\n",
            ),
            (
                "patch cm a --type=json -p [{\"op\":\"add\",\"path\":\"/data/c\",\"value\":\"3\"}]",
                "",
                "configmap/a patched\n",
            ),
            ("get cm a -o jsonpath={.data}", "", "{\"b\":\"2\",\"c\":\"3\",\"key\":\"three\"}"),
            ("replace -f -", &config, "configmap/a replaced\n"),
            ("apply --server-side -f -", &deployment, "deployment.apps/d serverside-applied\n"),
            ("scale deploy d --replicas=2", "", "deployment.apps/d scaled\n"),
            ("set image deploy/d web=nginx:2", "", "deployment.apps/d image updated\n"),
            ("delete cm a --cascade=foreground --grace-period=1 --wait=false", "", "configmap \"a\" deleted"),
            ("delete deploy -l app=none", "", "No resources found"),
        ];
        for (line, text, told) in rows {
            let ran = run(gate, &kubectl, line, text);
            assert!((ran.ok().to_owned() + &ran.err).starts_with(told), "{line}: {ran:?}");
            assert!(!ran.err.contains("Warning"), "{line}: {ran:?}");
        }
        let edited = gate.run_with(
            &kubectl,
            ADMIN,
            &["-n", "shop", "edit", "deploy", "d"],
            b"",
            &[("KUBE_EDITOR", "sed -i s/nginx:2/nginx:3/")],
        );
        assert_eq!(edited.ok(), "deployment.apps/d edited\n");
        let odd = run(
            gate,
            &kubectl,
            "patch deploy d --type=json -p [{\"op\":\"ad\",\"path\":\"/spec/replicas\",\"value\":3}]",
            "",
        );
        assert_eq!(
            odd.failed().trim(),
            "The request is invalid: the server rejected our request due to an error in our request"
        );
    };
    let ((), record) = beside("", work).await;
    let found: Vec<&Value> = record.0.iter().map(|e| &e["annotations"]["gatelog.dev/validation"]).collect();
    let found: Vec<&Value> = found.into_iter().filter(|note| !note.is_null()).collect();
    assert_eq!(found, ["refused: patches/operation"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn less_than_enforced_is_the_upstreams() {
    let Some(kubectl) = kubectls().pop() else { return };
    for (config, note) in [
        ("validation: {mode: warn}\n", "warned: objects/unknown-field"),
        ("validation: {objects: warn}\n", "warned: objects/unknown-field"),
        ("validation: {mode: 'off'}\n", ""),
    ] {
        let kubectl = kubectl.clone();
        let work = move |gate: &Gate| {
            let told = run(gate, &kubectl, "create -f -", &typo("a"));
            assert_eq!(told.failed().trim(), TYPO);
            assert_eq!(arrived(gate, "POST", "/deployments"), 1);
        };
        let ((), record) = beside(config, work).await;
        assert_eq!(notes(&record, "create", "deployments"), [note], "{config}");
    }
}

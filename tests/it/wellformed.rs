//! Heads that are not well formed, through a real gate: what it answers, and that the upstream never sees them.

use crate::{
    raw::Reply,
    scene::{Options, Scene},
    upstream::Act,
};
use serde::Deserialize;

/// A live kube-apiserver's own answers.
const GOLDEN: &str = include_str!("../golden/heads.jsonl");

const RIGHTS: &str = "
user alice
can alice * * *
";

const OK: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#;

#[derive(Deserialize)]
struct Golden {
    method: String,
    target: String,
    accept: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    body: Option<String>,
    code: u16,
    message: Option<String>,
}

struct Request<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn new(line: &'a str) -> Self {
        let (method, target) = line.split_once(' ').unwrap();
        Self { method, target, headers: Vec::new(), body: None }
    }

    fn header(mut self, name: &'a str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With its length.
    fn body(mut self, body: &'a str) -> Self {
        self.body = Some(body);
        self.header("Content-Length", &body.len().to_string())
    }
}

/// As it is unless the configuration says otherwise.
const ENFORCED: &str = "validation: {mode: enforce}";

async fn scene(more: &'static str) -> Scene {
    Scene::with(RIGHTS, Options { more, ..Options::default() }, |_| vec![Act::answer("200 OK", OK)]).await
}

async fn ask(scene: &Scene, request: &Request<'_>) -> Reply {
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut bytes = scene.head("alice", request.method, request.target, &headers);
    bytes.extend(request.body.unwrap_or_default().as_bytes());
    let mut wire = scene.wire("alice").await;
    wire.send(bytes).await.unwrap();
    wire.reply(request.method).await
}

/// Whether a request with this target has arrived; the gate asks questions of its own.
fn arrived(scene: &Scene, target: &str) -> bool {
    scene.upstream.heard().iter().any(|heard| heard.line().split(' ').nth(1) == Some(target))
}

/// Every tenth of what kube-apiserver refuses for a reason that the head tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kube_apiserver_refuses_by_its_head_does_not_reach_it() {
    let scene = scene(ENFORCED).await;
    let mut asked = 0;
    let refused = GOLDEN.lines().map(|line| serde_json::from_str::<Golden>(line).unwrap()).filter(|golden| {
        let told = [
            "ListOptions",
            "CreateOptions",
            "UpdateOptions",
            "PatchOptions",
            "DeleteOptions",
            "PodLogOptions",
        ];
        let texts = [
            "strconv.",
            "unable to parse requirement",
            "invalid selector",
            "406: ",
            "415: ",
            "export",
            "only the following",
        ];
        let message = golden.message.as_deref().unwrap_or_default();
        let cbor = [&golden.accept, &golden.content_type]
            .iter()
            .any(|h| h.as_ref().is_some_and(|h| h.contains("cbor")));
        let state = message.contains("continue is provided")
            || message.contains("ignoreStore")
            || message.contains("stream: ");
        golden.target.starts_with("/api/v1/")
            && matches!(golden.code, 400 | 406 | 415 | 422)
            && (told.iter().any(|kind| message.starts_with(kind))
                || texts.iter().any(|text| message.contains(text)))
            && !(golden.method == "DELETE" && message.contains("resource version"))
            && !cbor
            && !state
    });
    for golden in refused.step_by(10) {
        let line = format!("{} {}", golden.method, golden.target);
        let mut request = Request::new(&line);
        for (name, value) in [("Accept", &golden.accept), ("Content-Type", &golden.content_type)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        if let Some(body) = &golden.body {
            request = request.body(body);
        }
        let reply = ask(&scene, &request).await;
        let status = reply.json();
        assert_eq!(
            (reply.code, status["code"].as_u64()),
            (golden.code, Some(u64::from(golden.code))),
            "{line}: {status}"
        );
        assert_eq!(status["message"].as_str(), golden.message.as_deref(), "{line}");
        assert!(!arrived(&scene, &golden.target), "{line} arrived");
        asked += 1;
    }
    assert!(asked > 50, "{asked} asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_of_the_api_server_are_closed() {
    let scene = scene(ENFORCED).await;
    let rows = [
        (
            Request::new("POST /apis/ex.io/v1/namespaces/t/foos/zz").body("{}"),
            405,
            "does not allow this method",
        ),
        (
            Request::new("POST /apis/ex.io/v1/watch/namespaces/t/foos").body("{}"),
            405,
            "does not allow this method",
        ),
        (Request::new("DELETE /apis/ex.io/v1/watch/namespaces/t/foos/f"), 405, "does not allow this method"),
        (Request::new("PUT /apis/ex.io/v1/watch/bars").body("{}"), 405, "does not allow this method"),
        (
            Request::new("DELETE /api/v1/namespaces/t/pods/p?dryRun=All").body("{}"),
            400,
            "query option dryRun ",
        ),
        (Request::new("DELETE /api/v1/namespaces/t/pods/p?uid=1").body("{}"), 400, "query option uid "),
        (
            Request::new("DELETE /api/v1/namespaces/t/pods?propagationPolicy=Orphan")
                .body(r#"{"propagationPolicy":"Background"}"#),
            400,
            "query option propagationPolicy ",
        ),
    ];
    for (request, code, message) in rows {
        let reply = ask(&scene, &request).await;
        let status = reply.json();
        assert_eq!(reply.code, code, "{}: {status}", request.target);
        assert!(status["message"].as_str().unwrap().contains(message), "{}: {status}", request.target);
        assert!(!arrived(&scene, request.target), "{} arrived", request.target);
    }
    let through = [
        Request::new("DELETE /api/v1/namespaces/t/pods/q?dryRun=All").body(r#"{"dryRun":["All"]}"#),
        Request::new("DELETE /api/v1/namespaces/t/pods/q?pretty=true").body("{}"),
        Request::new("DELETE /api/v1/namespaces/t/pods/q?dryRun=All"),
        Request::new("DELETE /api/v1/namespaces/t/pods/q?propagationPolicy=Orphan").body(""),
    ];
    for request in through {
        let reply = ask(&scene, &request).await;
        assert_eq!(reply.code, 200, "{}: {}", request.target, reply.text());
        assert!(arrived(&scene, request.target), "{} did not arrive", request.target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_are_told_and_nothing_is_refused() {
    let scene =
        scene("validation: {query: warn, mediaTypes: warn, holes: warn, unknownParameters: warn}").await;
    let rows = [
        (Request::new("GET /api/v1/pods?limit=abc"), "strconv.ParseInt: parsing \\\"abc\\\": invalid syntax"),
        (Request::new("GET /api/v1/pods").header("Accept", "text/html"), "406: Not Acceptable"),
        (Request::new("GET /api/v1/pods?foo=bar"), "unknown parameter \\\"foo\\\""),
        (
            Request::new("DELETE /api/v1/namespaces/t/pods/p?dryRun=All").body("{}"),
            "the query option dryRun ",
        ),
    ];
    for (request, warning) in rows {
        let reply = ask(&scene, &request).await;
        let told: Vec<&str> = reply
            .headers
            .iter()
            .filter(|(name, _)| name == "warning")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(reply.code, 200, "{}", request.target);
        assert!(told.iter().any(|told| told.contains(warning)), "{}: {told:?}", request.target);
        assert!(arrived(&scene, request.target), "{} did not arrive", request.target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_parameters_are_refused_where_that_is_asked_for() {
    let strict = scene("validation: {unknownParameters: enforce}").await;
    let reply = ask(&strict, &Request::new("GET /api/v1/pods?labelselector=a")).await;
    assert_eq!(
        (reply.code, reply.json()["message"].as_str()),
        (400, Some("unknown parameter \"labelselector\""))
    );
    assert!(!arrived(&strict, "/api/v1/pods?labelselector=a"));
    let off = scene("validation: {mode: 'off'}").await;
    let reply = ask(&off, &Request::new("GET /api/v1/pods?limit=abc")).await;
    assert_eq!(reply.code, 200);
    assert!(arrived(&off, "/api/v1/pods?limit=abc"));
}

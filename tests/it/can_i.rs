//! `kubectl auth can-i`, `can-i --list` and `auth whoami` where the gate's rules and the upstream's differ, and what clients
//! get that ask by themselves. Before the demo's server, and before a real one where `KUBEBUILDER_ASSETS` is set.

use crate::{
    conformance::{
        real::{self, Real},
        record::{self, Record},
        world::World,
    },
    harness::{Ran, kubectls},
    raw::{self, Reply, Tls},
    scene::{self, Folder, Options, Scene},
    upstream::Act,
};
use gatelog::{
    demo::apiserver::{self, ApiServer},
    server::Gate,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const SUBJECT: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The gate's rules. Who is called `up` may nothing here, `none` nowhere.
const GATE: &str = "
user up
user none
can both get,list,watch - pods in=team
can both get - configmaps names=a,b in=team
can both get,create - pods/exec in=team
can both get - pods/attach in=team
paths both get /x*
can gate get,list - pods in=team
paths gate get /x*
can lead impersonate - users names=both,gate,up,none
";

/// The upstream's.
const UPSTREAM: &str = "
can both get,list,delete - pods in=team
can both * - configmaps in=team
can both get - pods/exec,pods/attach in=team
paths both get /x/y,/z
can up get,list - pods in=team
paths up get /x*
";

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n";

/// A gate before somebody with other rules.
pub(crate) struct Place {
    pub(crate) addr: SocketAddr,
    pub(crate) world: World,
    folder: Folder,
    record: Record,
    _gate: Gate,
    demo: Option<ApiServer>,
    pub(crate) real: Option<Real>,
}

impl Place {
    pub(crate) async fn before_the_demo() -> Self {
        let world = World::new(&[GATE]).ruled_by(UPSTREAM);
        let tls = apiserver::tls(&world.ca.server(&["127.0.0.1"]).unwrap(), &world.ca).unwrap();
        let mut options = apiserver::Options::new(tls).unwrap();
        options.tokens = HashMap::from([
            ("admin-token".to_owned(), apiserver::Caller::new("admin", &["system:masters"])),
            ("gatelog-token".to_owned(), apiserver::Caller::new("gatelog", &[])),
        ]);
        let demo = ApiServer::start(options).await.unwrap();
        real::furnish(demo.addr(), &world).await;
        Self::before(demo.addr(), world, Some(demo), None).await
    }

    pub(crate) async fn before_a_real_one(assets: &Path) -> Self {
        let world = World::new(&[GATE]).ruled_by(UPSTREAM);
        let real = Real::start(assets, &world, POLICY).await;
        Self::before(real.addr, world, None, Some(real)).await
    }

    async fn before(addr: SocketAddr, world: World, demo: Option<ApiServer>, real: Option<Real>) -> Self {
        let world = world.ruled_by(GATE);
        let folder = Folder::new("can-i");
        let gate = scene::start(&folder, &world, addr, Options::default()).await;
        let record = Record::at(folder.0.join("audit"));
        Self { addr: gate.address(), world, folder, record, _gate: gate, demo, real }
    }

    async fn kubectl(&self, kubectl: &Path, user: &str, args: &str) -> Ran {
        let home = self.folder.0.join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(kubectl);
        command
            .args(["--kubeconfig", "/dev/null", "--request-timeout", "20s", "--server"])
            .arg(format!("https://{}", self.addr))
            .arg("--certificate-authority")
            .arg(self.folder.0.join("ca.crt"))
            .args(["--token", &format!("{user}-token")])
            .args(args.split(' '))
            .env("HOME", &home)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap().into()
    }

    /// A POST with somebody's token.
    async fn post(&self, who: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let mut request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who}-token\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        let request = [request.as_bytes(), body].concat();
        let tls = Tls::new(&self.world.ca.pem(), None, "http/1.1");
        raw::ask(self.addr, &tls, "POST", &request).await.unwrap()
    }

    /// The events of an answered request.
    async fn events(&mut self, reply: &Reply) -> Vec<Value> {
        let id = reply.header("audit-id").unwrap_or_else(|| panic!("no Audit-Id: {reply:?}")).to_owned();
        self.record.events(&id, record::ended).await
    }
}

/// Versions beside that of `PATH`, and that of the assets.
fn all_kubectls(assets: Option<&Path>) -> Vec<PathBuf> {
    let mut all = kubectls();
    let more = assets.map(|assets| assets.join("kubectl")).filter(|kubectl| kubectl.is_file());
    all.extend(more);
    all
}

/// Runs a table before the demo's server, and before a real one where there is one.
async fn everywhere(table: impl AsyncFn(&mut Place, &[PathBuf])) {
    let kubectls = all_kubectls(None);
    table(&mut Place::before_the_demo().await, &kubectls).await;
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: self-reviews were NOT tried before a real kube-apiserver");
        return;
    };
    let kubectls = all_kubectls(Some(&assets));
    table(&mut Place::before_a_real_one(&assets).await, &kubectls).await;
}

/// Each question in all four combinations: (who, what, yes or no).
const QUESTIONS: &[(&str, &str, bool)] = &[
    ("both", "get pods", true),
    ("gate", "get pods", false),
    ("up", "get pods", false),
    ("none", "get pods", false),
    // One side alone.
    ("both", "watch pods", false),
    ("both", "delete pods", false),
    ("both", "create pods", false),
    ("both", "get configmaps/a", true),
    ("both", "get configmaps/c", false),
    ("both", "get configmaps", false),
    // The gate takes create besides; the upstream is asked about get.
    ("both", "get pods --subresource=exec", true),
    ("both", "create pods --subresource=exec", false),
    ("both", "get pods --subresource=attach", false),
    ("both", "get /x/y", true),
    ("both", "get /x/z", false),
    ("both", "get /z", false),
    ("gate", "get /x/y", false),
    ("up", "get /x/y", false),
    ("none", "get /x/y", false),
    ("admin", "delete nodes", true),
    ("admin", "get /y", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_i_in_all_combinations() {
    everywhere(async |place, kubectls| {
        for kubectl in kubectls {
            for (who, question, yes) in QUESTIONS {
                let scope =
                    if question.contains('/') && !question.contains("configmaps") { "" } else { " -n team" };
                let ran = place.kubectl(kubectl, who, &format!("auth can-i {question}{scope}")).await;
                let answer = ran.out.split_whitespace().next();
                let want = if *yes { "yes" } else { "no" };
                assert_eq!(
                    (answer, ran.code),
                    (Some(want), i32::from(!yes)),
                    "{kubectl:?} {who} {question}: {ran:?}"
                );
            }
            for (who, yes) in [("both", true), ("gate", false), ("up", false), ("none", false)] {
                let ran =
                    place.kubectl(kubectl, "lead", &format!("auth can-i get pods -n team --as {who}")).await;
                assert_eq!(ran.out.starts_with("yes"), yes, "{kubectl:?} --as {who}: {ran:?}");
                assert_eq!(ran.code, i32::from(!yes), "{kubectl:?} --as {who}: {ran:?}");
            }
            let ran = place.kubectl(kubectl, "lead", "auth can-i get pods --as admin").await;
            assert!(ran.failed().contains("cannot impersonate resource \"users\""), "{ran:?}");
        }
    })
    .await;
}

/// The line of a list that begins with a resource or names a path.
fn line<'a>(list: &'a str, what: &str) -> Option<&'a str> {
    list.lines().find(|line| line.starts_with(&format!("{what} ")) || line.contains(&format!("[{what}]")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_i_in_all_combinations() {
    everywhere(async |place, kubectls| {
        for kubectl in kubectls {
            for (as_who, direct) in [(true, false), (false, true)] {
                for who in ["both", "gate", "up", "none"] {
                    let args = format!(
                        "auth can-i --list -n team{}",
                        if as_who { format!(" --as {who}") } else { String::new() }
                    );
                    let ran = place.kubectl(kubectl, if direct { who } else { "lead" }, &args).await;
                    let list = ran.ok();
                    assert!(!ran.err.contains("incomplete"), "{kubectl:?} {who}: {ran:?}");
                    let pods = line(list, "pods");
                    assert_eq!(pods.is_some(), who == "both", "{kubectl:?} {who}: {list}");
                    assert_eq!(line(list, "/x/y").is_some(), who == "both", "{kubectl:?} {who}: {list}");
                    assert!(
                        line(list, "/z").is_none() && line(list, "/x*").is_none(),
                        "{kubectl:?} {who}: {list}"
                    );
                    // What every authenticated user may on both sides.
                    assert!(list.contains("selfsubjectaccessreviews"), "{kubectl:?} {who}: {list}");
                    assert!(list.contains("/openapi/*"), "{kubectl:?} {who}: {list}");
                    if who == "both" {
                        assert!(pods.unwrap().ends_with("[get list]"), "{kubectl:?}: {list}");
                        let named =
                            |name: &str| list.lines().filter(|l| l.contains(&format!("[{name}]"))).count();
                        assert_eq!((named("a"), named("b"), named("c")), (1, 1, 0), "{list}");
                        assert!(line(list, "configmaps").unwrap().ends_with("[get]"), "{list}");
                        assert!(line(list, "pods/exec").unwrap().ends_with("[get]"), "{list}");
                    }
                }
            }
            let admin = place.kubectl(kubectl, "admin", "auth can-i --list").await;
            assert!(line(admin.ok(), "*.*").is_some(), "{admin:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_am_i() {
    everywhere(async |place, kubectls| {
        for kubectl in kubectls {
            let ran = place.kubectl(kubectl, "both", "auth whoami -o json").await;
            // The first one to have it hides it behind `alpha`.
            if ran.err.contains("unknown command") {
                continue;
            }
            let review: Value = serde_json::from_str(ran.ok()).unwrap();
            let user = json!({"username": "both", "uid": "uid-both", "groups": ["system:authenticated"]});
            assert_eq!(review["status"]["userInfo"], user, "{kubectl:?}");
            let ran = place.kubectl(kubectl, "lead", "auth whoami --as none").await;
            assert!(ran.ok().contains("none") && !ran.out.contains("lead"), "{kubectl:?} {ran:?}");
        }
        let reply = place.post("-", SUBJECT, &[], "{}").await;
        assert_eq!(reply.code, 401);
    })
    .await;
}

fn access(verb: &str, resource: &str) -> String {
    json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "team"}}})
        .to_string()
}

/// How an answered review is recorded: stages, code, decision, what the gate did, `responseObject.status`.
fn recorded(events: &[Value]) -> (String, u64, String, String, Value) {
    let last = events.last().unwrap();
    let note = |key: &str| last["annotations"][key].as_str().unwrap_or("-").to_owned();
    (
        record::stages(events),
        record::code(last),
        note("authorization.k8s.io/decision"),
        note("gatelog.dev/self-review"),
        last["responseObject"]["status"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_here_is_recorded_and_not_forwarded() {
    everywhere(async |place, _| {
        let denied = json!({"allowed": false, "reason": "no rule of the caller's comes near"});
        for (who, path, body, how, forwarded) in [
            ("up", ACCESS, access("get", "pods"), "denied by the gate", false),
            ("both", ACCESS, access("get", "pods"), "-", true),
            ("gate", ACCESS, access("get", "pods"), "-", true),
            ("both", RULES, json!({"spec": {"namespace": "team"}}).to_string(), "cut", true),
            ("admin", RULES, json!({"spec": {"namespace": "team"}}).to_string(), "-", true),
            ("both", SUBJECT, "{}".to_owned(), "answered by the gate", false),
        ] {
            for accept in ["application/json", PROTOBUF] {
                if let Some(demo) = &place.demo {
                    demo.forget_requests();
                    // It knows no protobuf.
                    if accept == PROTOBUF && how == "-" {
                        continue;
                    }
                }
                let headers = [("Accept", accept), ("Content-Type", "application/json")];
                let reply = place.post(who, path, &headers, &body).await;
                assert_eq!(reply.code, 201, "{who} {path}: {}", reply.text());
                assert_eq!(reply.header("content-type"), Some(accept), "{who} {path}");
                assert_eq!(reply.header("cache-control"), Some("no-cache, private"), "{who} {path}");
                assert_eq!(
                    reply.header("content-length"),
                    Some(&*reply.body.len().to_string()),
                    "{who} {path}"
                );
                let (stages, code, decision, noted, status) = recorded(&place.events(&reply).await);
                assert_eq!((&*stages, code, &*decision, &*noted), ("RC", 201, "allow", how), "{who} {path}");
                if how != "-" {
                    assert!(status.is_object(), "{who} {path}: {status}");
                }
                if path == ACCESS && !forwarded {
                    assert_eq!(status["allowed"], denied["allowed"], "{who}: {status}");
                }
                if let Some(demo) = &place.demo {
                    assert_eq!(!demo.requests().is_empty(), forwarded, "{who} {path}");
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_questions() {
    everywhere(async |place, _| {
        let json = [("Content-Type", "application/json")];
        let unclear = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        // The upstream's own words.
        let reply = place.post("none", ACCESS, &json, r#"{"spec":{}}"#).await;
        assert_eq!(reply.code, 422);
        assert!(reply.text().contains(unclear), "{}", reply.text());
        let reply = place.post("none", RULES, &json, "{}").await;
        assert_eq!((reply.code, reply.text().contains("no namespace on request")), (400, true), "{}", reply.text());
        for (path, media, body, code) in [
            (ACCESS, "application/json", "", 400),
            (ACCESS, "application/json", "{bad", 400),
            (ACCESS, "text/plain", "{}", 415),
            (RULES, "application/cbor", "{}", 415),
            (SUBJECT, "application/json", "", 400),
            (SUBJECT, PROTOBUF, "k8s", 400),
            (SUBJECT, "application/json", r#"{"kind":"Pod","apiVersion":"v1"}"#, 400),
        ] {
            let reply = place.post("both", path, &[("Content-Type", media)], body).await;
            assert_eq!(reply.code, code, "{path} {media} {body}: {}", reply.text());
            let events = place.events(&reply).await;
            assert_eq!(record::code(events.last().unwrap()), u64::from(code));
        }
        for path in [ACCESS, RULES, SUBJECT] {
            let reply = place.post("none", path, &[("Accept", "text/html")], access("get", "pods")).await;
            assert_eq!(reply.code, 406, "{path}: {}", reply.text());
        }
        let yaml = [("Content-Type", "application/yaml"), ("Accept", "application/yaml")];
        let reply = place.post("none", ACCESS, &yaml, "spec: {resourceAttributes: {verb: get}}").await;
        assert_eq!((reply.code, reply.header("content-type")), (201, Some("application/yaml")));
        let people = [("User-Agent", "curl/8"), ("Content-Type", "application/json")];
        let reply = place.post("none", ACCESS, &people, access("get", "pods")).await;
        assert!(reply.text().starts_with("{\n  \"kind\": \"SelfSubjectAccessReview\""), "{}", reply.text());
        // Questions about others are the upstream's.
        let sar = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "up", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "team"}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let reply = place.post("admin", path, &json, sar.to_string()).await;
        assert_eq!((reply.code, &reply.json()["status"]["allowed"]), (201, &true.into()), "{}", reply.text());
        let events = place.events(&reply).await;
        assert_eq!(events.last().unwrap()["requestObject"]["spec"]["user"], "up");
        let reply = place.post("both", path, &json, sar.to_string()).await;
        assert_eq!(reply.code, 403);
    })
    .await;
}

// --- upstreams that answer lists in odd ways -----------------------------------------------------------------

async fn list_of(answer: &'static str) -> (Reply, Vec<Value>) {
    let mut scene =
        Scene::new("can bob get - pods in=team", move |_| vec![Act::say(answer), Act::Close]).await;
    let reply = scene.post("bob", RULES, r#"{"spec":{"namespace":"team"}}"#).await;
    let events = scene.ended(&reply).await;
    (reply, events)
}

#[tokio::test]
async fn an_upstream_that_breaks_off_in_a_list() {
    let (reply, events) = list_of("HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{\"kind\":").await;
    assert_eq!(reply.code, 503, "{}", reply.text());
    assert_eq!(record::code(events.last().unwrap()), 503);
}

#[tokio::test]
async fn a_list_that_is_none() {
    for answer in [
        "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x08",
        "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        // A list of another status would be a list all the same.
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let (reply, _) = list_of(answer).await;
        assert_eq!(reply.code, 500, "{}", reply.text());
    }
}

#[tokio::test]
async fn anything_but_a_list_passes_as_it_is() {
    let (reply, events) =
        list_of("HTTP/1.1 418 Short and stout\r\nX-Pot: tea\r\nContent-Length: 3\r\n\r\npot").await;
    assert_eq!((reply.code, &*reply.text(), reply.header("x-pot")), (418, "pot", Some("tea")));
    assert!(events.last().unwrap()["annotations"]["gatelog.dev/self-review"].is_null());
}

#[tokio::test]
async fn a_list_is_asked_for_so_that_it_can_be_cut() {
    let list = r#"{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{},"status":{"resourceRules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods","secrets"]}],"nonResourceRules":[],"incomplete":true,"evaluationError":"a webhook was not asked"}}"#;
    let scene =
        Scene::new("can bob get - pods in=team", move |_| vec![Act::answer("201 Created", list)]).await;
    let body = r#"{"spec":{"namespace":"team"}}"#;
    let length = body.len().to_string();
    let headers = [
        ("Content-Length", &*length),
        ("Content-Type", "application/json"),
        ("Accept", "application/vnd.kubernetes.protobuf, application/json;q=0.5"),
        ("Accept-Encoding", "gzip"),
        ("If-None-Match", "*"),
    ];
    let mut request = scene.head("bob", "POST", RULES, &headers);
    request.extend(body.as_bytes());
    let mut wire = scene.wire("bob").await;
    wire.send(request).await.unwrap();
    let reply = wire.reply("POST").await;
    assert_eq!((reply.code, reply.header("content-type")), (201, Some(PROTOBUF)));
    let text = reply.text();
    assert!(text.contains("pods") && !text.contains("secrets"), "{text}");
    assert!(text.contains("a webhook was not asked"), "{text}");
    let heard = scene.upstream.heard();
    let heard = heard.last().unwrap();
    assert_eq!(heard.values("accept"), ["application/json"]);
    assert_eq!(heard.body, body.as_bytes());
    assert!(heard.values("accept-encoding").is_empty() && heard.values("if-none-match").is_empty());
}

/// A list with one rule and `padding` bytes besides.
fn padded(padding: usize) -> String {
    let spaces = " ".repeat(padding);
    format!(
        r#"{{"kind":"SelfSubjectRulesReview","status":{{{spaces}"resourceRules":[{{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}}],"nonResourceRules":[],"incomplete":false}}}}"#
    )
}

#[tokio::test]
async fn a_list_that_is_too_long_says_that_it_is_not_whole() {
    for (padding, rules, incomplete) in [(1 << 20, 1, false), (5 << 20, 0, true)] {
        let list = padded(padding);
        let scene =
            Scene::new("can bob get - pods in=team", move |_| vec![Act::answer("201 Created", &list)]).await;
        let reply = scene.post("bob", RULES, r#"{"spec":{"namespace":"team"}}"#).await;
        let status = &reply.json()["status"];
        assert_eq!(reply.code, 201, "{}", reply.text());
        assert_eq!(status["resourceRules"].as_array().unwrap().len(), rules, "{status}");
        assert_eq!(status["incomplete"], incomplete, "{status}");
        assert_eq!(status["evaluationError"].is_string(), incomplete, "{status}");
    }
}

#[tokio::test]
async fn a_list_that_does_not_end_is_not_waited_for() {
    let begun = "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{\"kind\":";
    let mut scene =
        Scene::new("can bob get - pods in=team", move |_| vec![Act::say(begun), Act::Listen]).await;
    let path = format!("{RULES}?timeout=500ms");
    let reply = scene.post("bob", &path, r#"{"spec":{"namespace":"team"}}"#).await;
    assert_eq!(reply.code, 504, "{}", reply.text());
    assert_eq!(record::code(scene.ended(&reply).await.last().unwrap()), 504);
}

#[tokio::test]
async fn what_is_only_observed_is_the_upstreams_to_answer() {
    let options = Options { authorization: ", mode: observe", ..Options::default() };
    let scene =
        Scene::with("user bob", options, |_| vec![Act::answer("201 Created", "{\"theirs\":true}")]).await;
    let exec = json!({"spec": {"resourceAttributes":
        {"verb": "create", "resource": "pods", "subresource": "exec", "namespace": "team"}}});
    for (path, body, theirs) in [
        (ACCESS, access("get", "pods"), true),
        (ACCESS, exec.to_string(), false),
        (RULES, json!({"spec": {"namespace": "team"}}).to_string(), true),
        (SUBJECT, "{}".to_owned(), false),
    ] {
        let reply = scene.post("bob", path, &body).await;
        assert_eq!(reply.code, 201, "{path} {body}: {}", reply.text());
        assert_eq!(reply.json()["theirs"] == true, theirs, "{path} {body}: {}", reply.text());
    }
}

//! Shown as a person sees it.

use super::{
    event::Event,
    follow::{Once, Patience},
    show::{brief, compact, show_with},
    *,
};
use clap::Parser;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("gatelog-review-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    show: ShowArgs,
}

fn args(path: &Path, flags: &str) -> ShowArgs {
    let words = ["show", path.to_str().unwrap()].into_iter().chain(flags.split_whitespace());
    Cli::try_parse_from(words).unwrap().show
}

fn shown(path: &Path, flags: &str) -> Vec<String> {
    let mut out = Vec::new();
    show(&args(path, flags), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

/// An event with these members put over the usual ones.
fn event(over: Value) -> String {
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1", "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/prod/pods/web?x=1", "verb": "get", "user": {"username": "alice", "groups": ["dev"]},
        "sourceIPs": ["192.0.2.7"],
        "objectRef": {"resource": "pods", "namespace": "prod", "name": "web", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z", "stageTimestamp": "2026-01-02T03:04:05.681001Z",
    });
    for (key, value) in over.as_object().unwrap() {
        event[key] = value.clone();
    }
    event.to_string()
}

fn line(over: Value) -> String {
    let event = event(over);
    compact(&Event::parse(event.as_bytes()).unwrap())
}

#[test]
fn a_request_is_one_clear_line() {
    let rows = [
        (json!({}), "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: get pods prod/web"),
        (
            json!({"annotations": {"authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by ClusterRoleBinding \"admins\" of ClusterRole \"admin\" to Group \"dev\""}}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: get pods prod/web (by ClusterRoleBinding \"admins\")",
        ),
        (
            json!({"annotations": {"authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"look/prod\" of ClusterRole \"view\" to User \"alice\" (from the cluster)"}}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: get pods prod/web (by RoleBinding \"look/prod\" (from the cluster))",
        ),
        (
            json!({"responseStatus": null, "annotations": {"gatelog.dev/outcome": "unknown", "gatelog.dev/end": "the gate ended first"}}),
            "2026-01-02T03:04:05.681Z LOST     -   2.1ms alice: get pods prod/web (outcome unknown; ended: the gate ended first)",
        ),
        (
            json!({"verb": "delete", "impersonatedUser": {"username": "bob"},
                "objectRef": {"resource": "deployments", "apiGroup": "apps", "namespace": "prod", "name": "web"},
                "responseStatus": {"code": 403, "message": "long", "reason": "Forbidden"},
                "annotations": {"authorization.k8s.io/reason": "no rule of bob's grants it"}}),
            "2026-01-02T03:04:05.681Z DENIED 403   2.1ms alice as bob: delete deployments.apps prod/web (no rule of bob's grants it)",
        ),
        (
            json!({"responseStatus": {"code": 403, "message": "x", "reason": "Forbidden"},
                "annotations": {"authorization.k8s.io/decision": "allow",
                    "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"b/ns\" of Role \"r\" to User \"u\""}}),
            "2026-01-02T03:04:05.681Z DENIED 403   2.1ms alice: get pods prod/web (refused by the cluster; allowed here by RoleBinding \"b/ns\")",
        ),
        (
            json!({"responseStatus": {"code": 403, "message": "x", "reason": "Forbidden"},
                "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "observed: no binding"}}),
            "2026-01-02T03:04:05.681Z DENIED 403   2.1ms alice: get pods prod/web (refused by the cluster; observed: no binding)",
        ),
        (
            json!({"responseStatus": {"code": 403, "message": "pods \"web\" is forbidden", "reason": "Forbidden"},
                "annotations": {"authorization.k8s.io/reason": ""}}),
            "2026-01-02T03:04:05.681Z DENIED 403   2.1ms alice: get pods prod/web (pods \"web\" is forbidden)",
        ),
        (
            json!({"responseStatus": {"code": 403, "message": "x"}, "annotations": {"gatelog.dev/impersonation-refused": "Impersonate-Group"}}),
            "2026-01-02T03:04:05.681Z DENIED 403   2.1ms alice: get pods prod/web (impersonation refused: Impersonate-Group)",
        ),
        (
            json!({"stage": "ResponseStarted", "user": {}, "responseStatus": {"code": 401, "message": "Unauthorized"},
                "annotations": {"gatelog.dev/authn-attempted": "Authentication failed, attempted: bearer"}}),
            "2026-01-02T03:04:05.681Z DENIED 401   2.1ms (nobody) at 192.0.2.7: get pods prod/web (Authentication failed, attempted: bearer)",
        ),
        (
            json!({"responseStatus": {"code": 404, "message": "pods \"web\" not found", "reason": "NotFound"}}),
            "2026-01-02T03:04:05.681Z failed 404   2.1ms alice: get pods prod/web (pods \"web\" not found)",
        ),
        (
            json!({"responseStatus": {"code": 503, "reason": "ServiceUnavailable"}}),
            "2026-01-02T03:04:05.681Z ERROR  503   2.1ms alice: get pods prod/web (ServiceUnavailable)",
        ),
        (
            json!({"stage": "Panic", "responseStatus": {"code": 500, "message": "APIServer panic'd: x"}}),
            "2026-01-02T03:04:05.681Z PANIC  500   2.1ms alice: get pods prod/web (APIServer panic'd: x)",
        ),
        (
            json!({"verb": "create", "requestURI": "/api/v1/namespaces/prod/pods/web/exec?command=sh&command=-c",
                "objectRef": {"resource": "pods", "namespace": "prod", "name": "web", "subresource": "exec"},
                "responseStatus": {"code": 101}, "annotations": {"gatelog.dev/end": "drained"}}),
            "2026-01-02T03:04:05.681Z ok     101   2.1ms alice: create pods/exec prod/web ?command=sh&command=-c (ended: drained)",
        ),
        (
            json!({"verb": "list", "objectRef": {"resource": "pods", "namespace": "prod"}}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: list pods in prod",
        ),
        (
            json!({"verb": "list", "objectRef": {"resource": "nodes"}}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: list nodes",
        ),
        (
            json!({"objectRef": {"resource": "namespaces", "namespace": "prod", "name": "prod"}}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: get namespaces prod",
        ),
        (
            json!({"objectRef": null, "requestURI": "/healthz?verbose"}),
            "2026-01-02T03:04:05.681Z ok     200   2.1ms alice: get /healthz",
        ),
        (
            json!({"stage": "RequestReceived", "responseStatus": null}),
            "2026-01-02T03:04:05.681Z open     -       - alice: get pods prod/web",
        ),
        (
            json!({"stage": "ResponseStarted", "verb": "watch"}),
            "2026-01-02T03:04:05.681Z open   200       - alice: watch pods prod/web",
        ),
        (
            json!({"verb": "", "requestURI": "", "user": {}, "annotations": {"gatelog.dev/lost": "12"}}),
            "2026-01-02T03:04:05.681Z NOTE   12 events since 2026-01-02T03:04:05.678901Z could not be kept",
        ),
        (
            json!({"verb": "", "requestURI": "", "user": {}, "stage": "ResponseStarted", "annotations": {"gatelog.dev/suppressed": "80"}}),
            "2026-01-02T03:04:05.681Z NOTE   80 more requests without authentication from 192.0.2.7 since 2026-01-02T03:04:05.678901Z",
        ),
        (
            json!({"user": {"username": "system:serviceaccount:a:b"}, "stageTimestamp": "x"}),
            "- ok     200       - system:serviceaccount:a:b: get pods prod/web",
        ),
    ];
    for (over, want) in rows {
        assert_eq!(line(over), want);
    }
}

#[test]
fn no_value_can_obey_or_forge() {
    let evil = "x\u{1b}[2J\n2026 ok\r\u{7}\u{9b}31m\u{202e}\u{7f}";
    let shown = line(
        json!({"user": {"username": format!("{evil} get")}, "verb": evil, "impersonatedUser": {"username": "a: \"b"},
        "objectRef": {"resource": evil, "namespace": evil, "name": evil, "apiGroup": evil, "subresource": "exec"},
        "requestURI": format!("/?{evil}"), "requestReceivedTimestamp": evil,
        "responseStatus": {"code": 500, "message": evil}, "annotations": {"gatelog.dev/end": evil}}),
    );
    assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    assert!(
        shown.contains("\"x\\\\u001b[2J\\\\u000a2026 ok") && shown.contains("as \"a: \\\"b\""),
        "{shown}"
    );
    let folder = Folder::new();
    let raw = event(json!({"userAgent": "a\u{7f}\u{9b}b"}));
    let path = folder.write("audit.log", &format!("{raw}\n"));
    let out = self::shown(&path, "-o json");
    assert!(!out[0].chars().any(char::is_control));
    assert_eq!(serde_json::from_str::<Value>(&out[0]).unwrap(), serde_json::from_str::<Value>(&raw).unwrap());
}

#[test]
fn durations_are_brief() {
    let rows = [
        (0, "0us"),
        (999, "999us"),
        (1_000, "1.0ms"),
        (9_949, "9.9ms"),
        (10_000, "10ms"),
        (999_999, "999ms"),
        (1_500_000, "1.5s"),
        (61_000_000, "1m01s"),
        (7_500_000_000, "2h05m"),
        (90_000_000_000, "1d01h"),
    ];
    for (micros, want) in rows {
        assert_eq!(brief(Duration::from_micros(micros)), want);
    }
}

/// A journal of six requests in two segments, as gatelog writes them.
fn journal() -> Folder {
    let folder = Folder::new();
    let at = |minute: u32| format!("2026-01-02T03:{minute:02}:00.000000Z");
    let request = |id: u32, over: Value| {
        let mut last = over;
        last["auditID"] = json!(id.to_string());
        last["stageTimestamp"] = json!(at(id));
        let mut first = last.clone();
        first["stage"] = json!("RequestReceived");
        first["responseStatus"] = Value::Null;
        format!("{}\n{}\n", event(first), event(last))
    };
    let one = request(1, json!({}));
    let two = request(2, json!({"verb": "list", "objectRef": {"resource": "pods", "namespace": "dev"}}));
    let three = request(3, json!({"user": {"username": "bob"}, "responseStatus": {"code": 403}}));
    let four = request(
        4,
        json!({"verb": "create", "objectRef": {"resource": "pods", "namespace": "prod", "name": "web", "subresource": "exec"}, "responseStatus": {"code": 101}}),
    );
    let five = request(
        5,
        json!({"impersonatedUser": {"username": "bob"}, "objectRef": {"resource": "deployments", "apiGroup": "apps", "namespace": "prod", "name": "web"}, "responseStatus": {"code": 404}}),
    );
    let watch = event(
        json!({"auditID": "6", "verb": "watch", "stage": "ResponseStarted", "stageTimestamp": at(6), "objectRef": {"resource": "nodes"}}),
    );
    folder.write("audit-20260102T030000.000Z-00000001.jsonl", &format!("{one}{two}{{\"kind\":\"Ev\n"));
    folder.write("audit-20260102T030230.000Z-00000002.jsonl", &format!("{watch}\n{three}\n{four}{five}"));
    folder.write("lock", "");
    folder.write("hmac.key", "\u{0}");
    folder
}

#[test]
fn flags_choose_what_is_shown() {
    let folder = journal();
    let minutes =
        |flags: &str| -> String { shown(&folder.0, flags).iter().map(|l| l[15..16].to_owned()).collect() };
    let rows = [
        ("", "123456"),
        ("--user alice", "12456"),
        ("--user bob", "35"),
        ("--user alice --user bob", "123456"),
        ("--user carol", ""),
        ("--verb list", "2"),
        ("--verb LIST --verb watch", "26"),
        ("--resource pods", "1234"),
        ("--resource pods/exec", "4"),
        ("--resource deployments", "5"),
        ("--resource deployments.apps", "5"),
        ("--resource deployments.extensions", ""),
        ("-n dev", "2"),
        ("--namespace prod", "1345"),
        ("--name web -n prod --verb get", "135"),
        ("--code 403", "3"),
        ("--code 4xx", "35"),
        ("--code 4xx --code 101", "345"),
        ("--code 4xx --user alice", "5"),
        ("--since 2026-01-02T03:04:00Z", "456"),
        ("--since 2026-01-02T03:02:30Z", "3456"),
        ("--since 2026-01-02", "123456"),
        ("--since 1h", ""),
    ];
    for (flags, want) in rows {
        assert_eq!(minutes(flags), want, "{flags}");
    }
}

#[test]
fn what_only_the_journal_has_is_shown_with_all() {
    let folder = Folder::new();
    let hidden = json!({"gatelog.dev/journal-only": "true"});
    let lines = [
        event(json!({"auditID": "a", "verb": "list"})),
        event(json!({"auditID": "b", "verb": "delete", "annotations": hidden})),
        event(json!({"auditID": "c", "verb": "patch", "stage": "RequestReceived", "annotations": hidden})),
    ];
    let path = folder.write("audit.log", &(lines.join("\n") + "\n"));
    let verbs = |flags: &str| -> Vec<String> {
        shown(&path, flags).iter().map(|l| l.split_whitespace().nth(5).unwrap().to_owned()).collect()
    };
    assert_eq!(verbs(""), ["list"]);
    assert_eq!(verbs("--all"), ["list", "delete", "patch"]);
    assert_eq!(verbs("-a --verb patch"), ["patch"]);
}

#[test]
fn json_is_the_event_as_it_was_recorded() {
    let folder = journal();
    let lines = shown(&folder.0, "-o json --user bob");
    let text = fs::read_to_string(folder.0.join("audit-20260102T030230.000Z-00000002.jsonl")).unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|l| text.contains(l.as_str()) && l.contains("ResponseComplete")));
}

#[test]
fn unreadable_lines_are_counted() {
    let folder = journal();
    let mut out = Vec::new();
    let shown = show(&args(&folder.0, ""), &mut out).unwrap();
    assert_eq!(shown, Shown { requests: 6, unreadable: 1 });
}

#[test]
fn a_record_may_be_many_things() {
    let folder = journal();
    let outer = Folder::new();
    fs::rename(&folder.0, outer.0.join("audit")).unwrap();
    assert_eq!(shown(&outer.0, "").len(), 6);
    let log = outer.write(
        "kube.log",
        &format!("{}\nnot an event\n{{}}\n\n{}", event(json!({})), event(json!({"auditID": "2"}))),
    );
    assert_eq!(shown(&log, "").len(), 2, "the last line needs no end");
    let empty = Folder::new();
    assert_eq!(shown(&empty.0, ""), Vec::<String>::new());
    let error = show(&args(&empty.0.join("nothing"), ""), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("nothing: No such file"), "{error}");
    for flags in ["--code 9", "--since yesterday"] {
        assert!(
            matches!(show(&args(&empty.0, flags), &mut Vec::new()), Err(Error::Filter { .. })),
            "{flags}"
        );
    }
}

#[test]
fn a_closed_pipe_is_an_end() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let folder = journal();
    show(&args(&folder.0, ""), &mut Closed).unwrap();
}

/// At each end of the record, the next of these happens.
struct Steps<'a>(Vec<Box<dyn FnOnce() + 'a>>);

impl Patience for Steps<'_> {
    fn wait(&mut self) -> bool {
        if self.0.is_empty() {
            return false;
        }
        self.0.remove(0)();
        true
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn following_crosses_segments_and_waits_for_whole_lines() {
    let folder = Folder::new();
    let (one, two) = (folder.0.join("audit-1-1.jsonl"), folder.0.join("audit-2-2.jsonl"));
    let named = |name: &str| event(json!({"auditID": name, "user": {"username": name}})) + "\n";
    let (a, b, c, d) = (named("a"), named("b"), named("c"), named("d"));
    let steps: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| append(&one, &a)),
        Box::new(|| append(&one, &b[..20])),
        Box::new(|| append(&one, &b[20..])),
        Box::new(|| {
            append(&one, &c);
            append(&one, "{\"kind\":\"torn");
            append(&two, &d);
        }),
    ];
    let mut out = Vec::new();
    let shown = show_with(&args(&folder.0, ""), &mut out, &mut Steps(steps)).unwrap();
    let text = String::from_utf8(out).unwrap();
    let users: Vec<_> = text.lines().map(|l| l.split_whitespace().nth(4).unwrap()).collect();
    assert_eq!(users, ["a:", "b:", "c:", "d:"]);
    assert_eq!(shown, Shown { requests: 4, unreadable: 1 });
}

#[test]
fn following_goes_on_over_segments_that_are_compressed_meanwhile() {
    let folder = Folder::new();
    let path = |number: u32| folder.0.join(format!("audit-{number}-{number}.jsonl"));
    let named = |name: &str| event(json!({"auditID": name, "user": {"username": name}})) + "\n";
    let seal = |number: u32| {
        let plain = path(number);
        let packed = fs::File::create(plain.with_extension("jsonl.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(&fs::read(&plain).unwrap()).unwrap();
        packed.finish().unwrap();
        fs::remove_file(plain).unwrap();
    };
    let steps: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| append(&path(1), &named("a"))),
        // The one that is being read, and one that was never looked at.
        Box::new(|| {
            append(&path(1), &named("b"));
            append(&path(2), &(named("c") + &named("d")));
            append(&path(3), &named("e"));
            seal(1);
            seal(2);
        }),
        Box::new(|| append(&path(3), &named("f"))),
        Box::new(|| {
            append(&path(4), &named("g"));
            seal(3);
        }),
    ];
    let mut out = Vec::new();
    let shown = show_with(&args(&folder.0, ""), &mut out, &mut Steps(steps)).unwrap();
    let text = String::from_utf8(out).unwrap();
    let users: Vec<_> = text.lines().map(|l| l.split_whitespace().nth(4).unwrap()).collect();
    assert_eq!(users, ["a:", "b:", "c:", "d:", "e:", "f:", "g:"]);
    assert_eq!(shown, Shown { requests: 7, unreadable: 0 });
}

#[test]
fn following_a_log_survives_its_rotation() {
    let folder = Folder::new();
    let (log, old) = (folder.0.join("audit.log"), folder.0.join("audit-old.log"));
    let named = |name: &str| event(json!({"auditID": name, "user": {"username": name}})) + "\n";
    append(&log, &named("a"));
    let steps: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| {
            append(&log, &named("b"));
            fs::rename(&log, &old).unwrap();
            append(&log, &named("c"));
        }),
        Box::new(|| append(&log, &named("d"))),
    ];
    let mut out = Vec::new();
    show_with(&args(&log, ""), &mut out, &mut Steps(steps)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 4);
}

#[test]
fn a_line_of_kube_apiserver_is_read() {
    let text = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"7f2c","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/default/deployments?fieldManager=kubectl-client-side-apply\u0026fieldValidation=Strict","verb":"create","user":{"username":"kubernetes-admin","groups":["kubeadm:cluster-admins","system:authenticated"],"extra":{"authentication.kubernetes.io/credential-id":["X509SHA256=ab"]}},"sourceIPs":["172.18.0.1"],"userAgent":"kubectl/v1.33.1","objectRef":{"resource":"deployments","namespace":"default","name":"web","apiGroup":"apps","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestObject":{"kind":"Deployment","metadata":{"name":"web"}},"responseObject":{"kind":"Deployment","spec":{"replicas":1.0}},"requestReceivedTimestamp":"2026-01-02T03:04:05.678901Z","stageTimestamp":"2026-01-02T03:04:05.690000Z","annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}"#;
    assert_eq!(
        compact(&Event::parse(text.as_bytes()).unwrap()),
        "2026-01-02T03:04:05.690Z ok     201    11ms kubernetes-admin: create deployments.apps default/web"
    );
}

proptest! {
    #[test]
    fn any_log_is_shown_without_control_characters(lines in prop::collection::vec(any::<String>(), 0..5), text in any::<String>()) {
        let folder = Folder::new();
        let odd = event(json!({"verb": text, "user": {"username": text}, "annotations": {text.clone(): text}}));
        let path = folder.write("log", &format!("{odd}\n{}", lines.join("\n")));
        let mut out = Vec::new();
        show_with(&args(&path, ""), &mut out, &mut Once).unwrap();
        let out = String::from_utf8(out).unwrap();
        prop_assert_eq!(out.lines().count(), 1);
        prop_assert!(!out.trim_end_matches('\n').chars().any(char::is_control));
    }
}

//! Real kubectl through the gate, every version that is here, and what the record says of it.

use crate::harness::{Gate, Ran, Record, Tweaks, kubectls};
use gatelog::demo::site::{ADMIN, DEVELOPER, User, VIEWER};
use serde_json::Value;
use std::{
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
};

/// Runs a blocking test body beside the gate, once for each kubectl; None if there is none.
async fn each_kubectl(body: impl Fn(&Gate, &Path, &str) + Send + 'static, tweaks: Tweaks) -> Option<Record> {
    let all = kubectls();
    if all.is_empty() {
        return None;
    }
    let gate = Gate::start(tweaks).await;
    let work = move || {
        for kubectl in &all {
            body(&gate, kubectl, &suffix(kubectl));
        }
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    Some(gate.stop().await)
}

/// `kubectl.1.33` -> `1-33`: for names of objects.
fn suffix(kubectl: &Path) -> String {
    kubectl.file_name().unwrap().to_string_lossy().replace("kubectl.", "").replace('.', "-")
}

/// 33 for `kubectl.1.33`, or by asking it.
pub(crate) fn minor(kubectl: &Path) -> u32 {
    let name = kubectl.file_name().unwrap().to_string_lossy().into_owned();
    let from_name = name.strip_prefix("kubectl.1.").and_then(|m| m.parse().ok());
    from_name.unwrap_or_else(|| {
        let said = std::process::Command::new(kubectl).args(["version", "--client"]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let rest = said.split("v1.").nth(1).unwrap_or_else(|| panic!("no version in {said:?}"));
        rest.split('.').next().unwrap().parse().unwrap()
    })
}

fn whoever<'a>(events: impl IntoIterator<Item = &'a Value>, user: &str) -> Vec<&'a Value> {
    events.into_iter().filter(|e| e["user"]["username"] == user).collect()
}

/// Waits until a line of a child's output contains `text`.
fn line_with(reader: &mut impl std::io::BufRead, text: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "no {text:?} in {seen:?}");
        if line.contains(text) {
            return line;
        }
        seen.push_str(&line);
    }
}

fn ended(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_around() {
    let record = each_kubectl(
        |gate, kubectl, _| {
            let run = |user: User, args: &[&str]| gate.run(kubectl, user, args, b"");
            let pods = run(DEVELOPER, &["get", "pods"]);
            assert_eq!(pods.ok().lines().count(), 4, "{pods:?}");
            assert!(pods.out.starts_with("NAME ") && pods.out.contains("Running"), "{pods:?}");
            assert!(run(VIEWER, &["get", "pods", "-A", "-o", "wide"]).ok().contains("team-a"));
            let yaml = run(DEVELOPER, &["get", "deploy", "web", "-o", "yaml"]);
            assert!(yaml.ok().contains("kind: Deployment"), "{yaml:?}");
            let chosen = run(DEVELOPER, &["get", "pods", "-l", "app=web", "--chunk-size=2", "-o", "name"]);
            assert_eq!(chosen.ok().lines().count(), 3, "{chosen:?}");
            assert!(run(DEVELOPER, &["describe", "deploy", "web"]).ok().contains("Replicas:"));
            assert!(run(DEVELOPER, &["version"]).ok().contains("Server Version"));
            assert!(run(DEVELOPER, &["api-resources"]).ok().contains("deployments"));
            // Up to 1.28 it reads OpenAPI v2 as protobuf.
            if minor(kubectl) > 28 {
                assert!(run(DEVELOPER, &["explain", "pod.spec.containers"]).ok().contains("FIELD"));
            }
            let who = run(DEVELOPER, &["auth", "whoami"]);
            assert!(who.ok().contains("developer") && who.out.contains("demo:developers"), "{who:?}");
            assert!(run(ADMIN, &["auth", "whoami"]).ok().contains("demo:admins"));
            assert!(run(DEVELOPER, &["get", "--raw", "/version"]).ok().contains("gitVersion"));
            assert_eq!(run(DEVELOPER, &["auth", "can-i", "create", "deployments"]).ok().trim(), "yes");
            let no = run(VIEWER, &["auth", "can-i", "create", "deployments"]);
            assert!(
                no.out.starts_with("no - ClusterRole view, bound by ClusterRoleBinding demo:viewers"),
                "{no:?}"
            );
        },
        Tweaks::default(),
    )
    .await;
    let Some(record) = record else { return };
    assert!(!whoever(record.of("pods"), "developer").is_empty());
    for event in record.of("pods") {
        assert!(event["userAgent"].as_str().unwrap().starts_with("kubectl"), "{event}");
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow", "{event}");
        assert_eq!(event["annotations"]["gatelog.dev/effect"], "read", "{event}");
        assert_eq!(event["sourceIPs"], serde_json::json!(["127.0.0.1"]), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_things() {
    let record = each_kubectl(
        |gate, kubectl, version| {
            let run = |user: User, args: &[&str]| gate.run(kubectl, user, args, b"");
            // Up to 1.28 it would check against an OpenAPI v2 in protobuf, which is not served.
            let old = minor(kubectl) < 29;
            let piped = |args: &[&str], text: &str| {
                let args = [args, if old { &["--validate=false"][..] } else { &[] }].concat();
                gate.run(kubectl, DEVELOPER, &args, text.as_bytes())
            };
            let name = format!("made-{version}");
            let config = |value: &str| {
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  key: {value}\n")
            };
            assert!(piped(&["create", "-f", "-"], &config("one")).ok().contains("created"));
            let again = piped(&["create", "-f", "-"], &config("one"));
            assert!(again.failed().contains("already exists"), "{again:?}");
            let fresh = config("one").replace(&name, &format!("{name}-applied"));
            assert!(piped(&["apply", "-f", "-"], &fresh).ok().contains("created"));
            assert!(piped(&["apply", "-f", "-"], &fresh.replace("one", "two")).ok().contains("configured"));
            let server_side = config("one").replace(&name, &format!("{name}-server"));
            let applied = piped(&["apply", "--server-side", "-f", "-"], &server_side);
            assert!(applied.ok().contains("serverside-applied"), "{applied:?}");
            let patch = ["patch", "configmap", &name, "--type=merge", "-p", r#"{"data":{"key":"three"}}"#];
            assert!(run(DEVELOPER, &patch).ok().contains("patched"));
            let value = run(DEVELOPER, &["get", "configmap", &name, "-o", "jsonpath={.data.key}"]);
            assert_eq!(value.ok(), "three");
            let typo =
                piped(&["create", "-f", "-"], &config("one").replace("data:", "dat:").replace(&name, "typo"));
            assert!(old || typo.failed().contains("unknown field"), "{typo:?}");
            assert!(run(DEVELOPER, &["scale", "deploy", "web", "--replicas=4"]).ok().contains("scaled"));
            assert!(run(DEVELOPER, &["rollout", "status", "deploy/web"]).ok().contains("successfully"));
            assert!(run(DEVELOPER, &["scale", "deploy", "web", "--replicas=3"]).ok().contains("scaled"));
            assert!(run(DEVELOPER, &["delete", "configmap", &name]).ok().contains("deleted"));
            let space = format!("space-{version}");
            // From 1.32 on these come in protobuf.
            run(ADMIN, &["create", "namespace", &space]).ok();
            run(ADMIN, &["create", "secret", "generic", "s", "-n", &space, "--from-literal=k=hunter2"]).ok();
            run(ADMIN, &["create", "deployment", "d", "-n", &space, "--image=nginx", "--replicas=2"]).ok();
            assert!(
                run(ADMIN, &["get", "secret", "s", "-n", &space, "-o", "yaml"]).ok().contains("aHVudGVyMg")
            );
            assert!(run(ADMIN, &["delete", "namespace", &space]).ok().contains("deleted"));
        },
        Tweaks {
            policy: "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n",
            ..Tweaks::default()
        },
    )
    .await;
    let Some(record) = record else { return };
    let text = serde_json::to_string(&record.0).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "a Secret's data is in the record");
    let creates: Vec<&Value> = record.of("configmaps").filter(|e| e["verb"] == "create").collect();
    assert!(
        creates
            .iter()
            .any(|e| e["responseStatus"]["code"] == 201 && e["requestObject"]["data"]["key"] == "one")
    );
    assert!(creates.iter().any(|e| e["responseStatus"]["code"] == 409));
    for event in creates {
        assert_eq!(event["annotations"]["gatelog.dev/effect"], "write", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_why() {
    let record = each_kubectl(
        |gate, kubectl, _| {
            let run = |user: User, args: &[&str]| gate.run(kubectl, user, args, b"");
            let refused = |user: User, args: &[&str], text: &str| {
                let ran = run(user, args);
                assert!(ran.failed().contains("(Forbidden)") && ran.err.contains(text), "{args:?}: {ran:?}");
            };
            refused(
                DEVELOPER,
                &["delete", "namespace", "shop"],
                "User \"developer\" cannot delete resource \"namespaces\"",
            );
            refused(VIEWER, &["get", "secrets"], "User \"viewer\" cannot list resource \"secrets\"");
            refused(VIEWER, &["exec", "deploy/web", "--", "ls"], "pods/exec");
            // Whichever of its two ways to open a session kubectl tries last.
            refused(VIEWER, &["exec", "deploy/web", "--", "ls"], "create on pods/exec in namespace shop (audit id ");
            let told = run(DEVELOPER, &["delete", "namespace", "shop"]);
            let (text, end) = told.failed().trim_end().rsplit_once(" (audit id ").unwrap();
            assert!(
                text.starts_with("Error from server (Forbidden): namespaces \"shop\" is forbidden: User \"developer\" cannot")
                    && text.ends_with("allows get, list, watch on namespaces; not delete"),
                "{told:?}"
            );
            assert!(end.len() == 37 && end.ends_with(')'), "{told:?}");
            refused(DEVELOPER, &["get", "pods", "--as", "admin"], "impersonate");
            let zoe = ["auth", "whoami", "--as", "zoe", "--as-group", "demo:viewers", "--as-group", "x"];
            let acting = run(ADMIN, &zoe);
            assert!(acting.ok().contains("zoe") && acting.out.contains("demo:viewers"), "{acting:?}");
            assert!(
                run(ADMIN, &["get", "pods", "-A", "--as", "zoe", "--as-group", "demo:viewers"])
                    .ok()
                    .contains("team-a")
            );
            refused(
                ADMIN,
                &["get", "secrets", "--as", "zoe", "--as-group", "demo:viewers"],
                "User \"zoe\" cannot list",
            );
            let stranger = run(DEVELOPER, &["get", "pods", "--token", "wrong"]);
            assert!(
                stranger.failed().contains("Unauthorized") || stranger.err.contains("logged in"),
                "{stranger:?}"
            );
        },
        Tweaks::default(),
    )
    .await;
    let Some(record) = record else { return };
    for event in record.of("secrets") {
        assert_eq!(event["responseStatus"]["code"], 403, "{event}");
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid", "{event}");
    }
    let acting: Vec<&Value> =
        record.0.iter().filter(|e| e["impersonatedUser"]["username"] == "zoe").collect();
    assert!(!acting.is_empty());
    assert_eq!(whoever(acting.iter().copied(), "admin").len(), acting.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_and_cp() {
    let record = each_kubectl(
        |gate, kubectl, version| {
            let run = |args: &[&str], stdin: &[u8]| {
                // On a busy machine kubectl may lose the race with the server that it starts when it connects.
                let lost = |ran: &Ran| ran.err.contains("Unknown stream id 3");
                let mut tries = (0..5).map(|_| gate.run(kubectl, DEVELOPER, args, stdin));
                tries.find(|ran| !lost(ran)).expect("kubectl set up its channels too late, five times")
            };
            assert_eq!(run(&["exec", "deploy/web", "--", "echo", "hello"], b"").ok(), "hello\n");
            let failed = run(&["exec", "deploy/web", "--", "sh", "-c", "nosuch; exit 42"], b"");
            assert_eq!(failed.code, 42, "{failed:?}");
            assert!(failed.err.contains("sh: 1: nosuch: not found"), "{failed:?}");
            let much: Vec<u8> = (0..600_000u32).map(|i| b'a' + (i % 23) as u8).collect();
            let back = run(&["exec", "-i", "deploy/web", "--", "cat"], &much);
            assert!(back.ok().as_bytes() == much, "{} bytes came back", back.out.len());
            let pod = run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"], b"");
            let pod = pod.ok();
            let here = gate.site.dir().join(format!("cp-{version}"));
            std::fs::write(&here, &much).unwrap();
            let there = format!("{pod}:/tmp/cp-{version}");
            run(&["cp", here.to_str().unwrap(), &there], b"").ok();
            let back = gate.site.dir().join(format!("back-{version}"));
            run(&["cp", &there, back.to_str().unwrap()], b"").ok();
            assert!(std::fs::read(back).unwrap() == much);
        },
        Tweaks::default(),
    )
    .await;
    let Some(record) = record else { return };
    let execs: Vec<&Value> = record.of("pods/exec").filter(|e| e["responseStatus"]["code"] == 101).collect();
    assert!(execs.len() >= 5 * kubectls().len());
    for event in &execs {
        assert_eq!(event["annotations"]["gatelog.dev/effect"], "connect", "{event}");
        assert!(event["requestURI"].as_str().unwrap().contains("command="), "{event}");
    }
    let verbs = |verb: &str| execs.iter().filter(|e| e["verb"] == verb).count();
    // SPDY by POST and WebSockets by GET, as the versions here do.
    assert_eq!(verbs("create") + verbs("get"), execs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_watches_and_attach_stream() {
    let record = each_kubectl(
        |gate, kubectl, version| {
            let run = |args: &[&str]| gate.run(kubectl, DEVELOPER, args, b"");
            assert!(run(&["logs", "deploy/web"]).ok().contains("starting up"));
            assert_eq!(run(&["logs", "deploy/web", "--tail=1"]).ok().lines().count(), 1);
            let previous = run(&["logs", "deploy/web", "-p"]);
            assert!(previous.failed().contains("previous terminated container"), "{previous:?}");

            let mut following = gate.spawn(kubectl, DEVELOPER, &["logs", "-f", "deploy/web", "--tail=1"]);
            let mut lines = BufReader::new(following.stdout.take().unwrap());
            line_with(&mut lines, "");
            line_with(&mut lines, "request");
            ended(following);

            let mut watching = gate.spawn(kubectl, DEVELOPER, &["get", "configmaps", "-w", "-o", "name"]);
            let mut lines = BufReader::new(watching.stdout.take().unwrap());
            line_with(&mut lines, "shop-config");
            let name = format!("seen-{version}");
            run(&["create", "configmap", &name]).ok();
            line_with(&mut lines, &name);
            ended(watching);

            let mut attached = gate.spawn(kubectl, DEVELOPER, &["attach", "deploy/web"]);
            line_with(&mut BufReader::new(attached.stdout.take().unwrap()), "request");
            ended(attached);
        },
        Tweaks::default(),
    )
    .await;
    let Some(record) = record else { return };
    let stage = |e: &Value| e["stage"].as_str().unwrap().to_owned();
    for (resource, sub) in [("pods", "log"), ("pods", "attach"), ("configmaps", "")] {
        let long = record.0.iter().filter(|e| {
            let object = &e["objectRef"];
            object["resource"] == resource
                && object["subresource"].as_str().unwrap_or_default() == sub
                && (!sub.is_empty() || e["verb"] == "watch")
        });
        let stages: Vec<String> = long.map(stage).collect();
        let count = |s: &str| stages.iter().filter(|t| *t == s).count();
        assert!(count("ResponseStarted") >= kubectls().len(), "{resource}/{sub}: {stages:?}");
        assert!(count("ResponseComplete") >= count("ResponseStarted"), "{resource}/{sub}: {stages:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_forward() {
    let record = each_kubectl(
        |gate, kubectl, _| {
            let mut child =
                gate.spawn(kubectl, DEVELOPER, &["port-forward", "deploy/web", ":8080", ":7", ":9"]);
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let mut port = |remote: &str| -> u16 {
                let line = line_with(&mut lines, "127.0.0.1:");
                assert!(line.trim().ends_with(&format!("-> {remote}")), "{line}");
                line.split(' ').nth(2).unwrap().rsplit(':').next().unwrap().parse().unwrap()
            };
            let (page, echo, nobody) = (port("8080"), port("7"), port("9"));
            let said = |port: u16, text: &[u8]| {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                // Where nobody listens behind it, kubectl may have hung up already.
                let _ = socket.write_all(text).and_then(|()| socket.shutdown(std::net::Shutdown::Write));
                let mut all = Vec::new();
                let _ = socket.read_to_end(&mut all);
                String::from_utf8(all).unwrap()
            };
            let answer = said(page, b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Hello from pod web-"),
                "{answer}"
            );
            assert_eq!(said(echo, b"back to me"), "back to me");
            assert_eq!(said(nobody, b"anyone?"), "");
            let mut errors = BufReader::new(child.stderr.take().unwrap());
            line_with(&mut errors, "connection refused");
            ended(child);
        },
        Tweaks::default(),
    )
    .await;
    let Some(record) = record else { return };
    let joined = record.of("pods/portforward").filter(|e| e["responseStatus"]["code"] == 101).count();
    assert_eq!(joined, kubectls().len());
}

/// kubectl 1.31 and later ask by WebSocket; where that is not allowed they fall back to SPDY, and both are on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_can_be_switched_off() {
    let all: Vec<PathBuf> = kubectls();
    let Some(newest) = all.last().cloned() else { return };
    let gate = Gate::start(Tweaks::default()).await;
    let work = move || {
        let args = ["exec", "deploy/web", "--", "echo", "spdy"];
        let ran =
            gate.run_with(&newest, DEVELOPER, &args, b"", &[("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")]);
        assert_eq!(ran.ok(), "spdy\n");
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let verbs: Vec<&Value> = record.of("pods/exec").map(|e| &e["verb"]).collect();
    assert_eq!(verbs, ["create"]);
}

//! A right that is taken away ends what it opened: every kind of stream, with every kubectl, and nothing of anybody else's.

use crate::{
    conformance::world::World,
    harness::{Gate, PATIENCE, Tweaks, kubectls},
    kubectl::minor,
    plane::{Plane, piece, soon},
};
use gatelog::{
    demo::site::{ADMIN, DEVELOPER, RULES_OF_CLUSTER, User, VIEWER},
    reload::{Look, Reloader},
    streams::{Held, Streams},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// What every caller here has, whatever is taken away.
const BASE: &str = "bind group:demo:admins ClusterRole:cluster-admin
can developer get,list - pods in=shop
can developer get,list apps deployments,replicasets in=shop
";

/// A kind of stream: how kubectl opens it, the right to it, and what is left of the right afterwards.
struct Kind {
    args: &'static [&'static str],
    /// In the path of the request.
    path: &'static str,
    /// What it prints once it is open.
    prints: &'static str,
    right: &'static str,
    left: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        args: &["get", "configmaps", "-w", "-o", "name"],
        path: "/configmaps",
        prints: "shop-config",
        right: "can developer get,list,watch - configmaps in=shop",
        left: "can developer get,list - configmaps in=shop",
    },
    Kind {
        args: &["logs", "-f", "deploy/web", "--tail=1"],
        path: "/log",
        prints: "",
        right: "can developer get - pods/log in=shop",
        left: "",
    },
    Kind {
        args: &["exec", "-i", "deploy/web", "--", "cat"],
        path: "/exec",
        prints: "hello",
        right: "can developer get,create - pods/exec in=shop",
        left: "can developer get - pods/exec in=shop",
    },
    Kind {
        args: &["attach", "deploy/web"],
        path: "/attach",
        prints: "request",
        right: "can developer get,create - pods/attach in=shop",
        left: "can developer create - pods/attach in=other",
    },
    Kind {
        args: &["port-forward", "deploy/web", ":7"],
        path: "/portforward",
        prints: "127.0.0.1:",
        right: "can developer get,create - pods/portforward in=shop",
        left: "can developer get,create - pods/portforward names=another in=shop",
    },
];

/// A kubectl that has a stream open.
struct Open {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Its last line so far.
    line: String,
    /// Whether its output has ended.
    ended: mpsc::Receiver<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Open {
    /// Starts it, and waits until the gate has its stream and it has printed something that only the stream can have brought.
    fn start(
        gate: &Gate,
        kubectl: &Path,
        user: User,
        kind: &Kind,
        more: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let args: Vec<&str> = more.iter().chain(kind.args).copied().collect();
        for _ in 0..5 {
            let before = count(gate, kind.path);
            let mut child = gate.spawn_with(kubectl, user, &args, env);
            let mut stdin = child.stdin.take();
            if kind.path == "/exec" {
                // A kubectl that has failed does not read.
                let _ = stdin.as_mut().unwrap().write_all(b"hello\n");
            }
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while lines.read_line(&mut line).unwrap() > 0 && !line.contains(kind.prints) {
                line.clear();
            }
            if line.is_empty() {
                let mut err = String::new();
                child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
                // On a busy machine kubectl may lose the race with the server that it starts when it connects.
                assert!(err.contains("Unknown stream id 3"), "{args:?}: {err}");
                continue;
            }
            if kind.path == "/portforward" {
                let port: u16 = line.split(' ').nth(2).unwrap().rsplit(':').next().unwrap().parse().unwrap();
                let mut echo = TcpStream::connect(("127.0.0.1", port)).unwrap();
                echo.write_all(b"x").unwrap();
                echo.read_exact(&mut [0]).unwrap();
            }
            let begun = Instant::now();
            while count(gate, kind.path) == before {
                assert!(begun.elapsed() < PATIENCE, "{args:?}: no stream");
                thread::sleep(Duration::from_millis(2));
            }
            let (ending, ended) = mpsc::channel();
            let mut err = child.stderr.take().unwrap();
            thread::spawn(move || err.read_to_end(&mut Vec::new()));
            thread::spawn(move || {
                let _ = lines.read_to_end(&mut Vec::new());
                let _ = ending.send(());
            });
            return Self { child, stdin, line, ended };
        }
        panic!("kubectl set up its channels too late, five times");
    }

    fn runs(&self) -> bool {
        matches!(self.ended.try_recv(), Err(TryRecvError::Empty))
    }

    /// Waits for its end.
    fn ends(&mut self, what: &str) {
        match self.ended.recv_timeout(PATIENCE) {
            Ok(()) => _ = self.child.wait().unwrap(),
            Err(RecvTimeoutError::Timeout) => panic!("{what} goes on"),
            Err(e) => panic!("{what}: {e}"),
        }
    }
}

fn open_streams(gate: &Gate) -> Arc<Streams> {
    gate.gate().gateway().streams().clone()
}

/// The open streams at this path.
fn count(gate: &Gate, path: &str) -> usize {
    open_streams(gate).list().iter().filter(|(_, held)| held.what.ends_with(path)).count()
}

/// From now on these rights count, and no others besides the bootstrap roles'.
fn grant(gate: &Gate, rights: &str) {
    let objects = World::new(&[rights]).objects().to_vec();
    let rules = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(gate.site.dir().join("rbac.yaml"), rules.to_string()).unwrap();
    tokio::runtime::Handle::current().block_on(taken_up(gate.gate().reloader()));
}

/// Waits until the files as they are now count. The gate may have looked by itself a moment before.
async fn taken_up(reloader: &Arc<Reloader>) {
    let look = reloader.check_now().await;
    assert!(look == Look::Same || look == Look::Changed(vec!["rules"]), "{look:?}");
}

fn rights(lost: usize) -> String {
    let lines = KINDS.iter().enumerate().map(|(i, kind)| if i < lost { kind.left } else { kind.right });
    lines.fold(BASE.to_owned(), |all, line| all + line + "\n")
}

/// The last events of streams that were ended because somebody lost a right.
fn revoked(events: &[Value]) -> Vec<&Value> {
    let last = events.iter().filter(|e| e["stage"] == "ResponseComplete");
    last.filter(|e| {
        let why = e["annotations"]["gatelog.dev/end"].as_str().unwrap_or_default();
        why.starts_with("no longer allowed: ")
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_stream_ends_with_the_right_to_it() {
    let all = kubectls();
    if all.is_empty() {
        return;
    }
    let gate = Gate::start(Tweaks::default()).await;
    let versions = all.len();
    // kubectl 1.31 and later speak WebSocket unless they are told otherwise; before, there is only SPDY.
    const SPDY: &[(&str, &str)] =
        &[("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];
    let mut tries: Vec<_> = all.iter().map(|kubectl| (kubectl.clone(), &[][..])).collect();
    if let Some(newest) = all.last().filter(|newest| minor(newest) > 30) {
        tries.push((newest.clone(), SPDY));
    }
    let rounds = tries.len();
    let work = move || {
        let mut longest = Duration::ZERO;
        for (kubectl, env) in tries {
            grant(&gate, &rights(0));
            let [watch, _, exec, ..] = &KINDS;
            let admins = [watch, exec].map(|kind| Open::start(&gate, &kubectl, ADMIN, kind, &[], env));
            let mut streams: Vec<Open> =
                KINDS.iter().map(|kind| Open::start(&gate, &kubectl, DEVELOPER, kind, &[], env)).collect();
            for (n, kind) in KINDS.iter().enumerate() {
                let begun = Instant::now();
                grant(&gate, &rights(n + 1));
                streams[n].ends(&format!("{} {:?}", kubectl.display(), kind.args));
                longest = longest.max(begun.elapsed());
                let going: Vec<bool> = streams.iter().map(Open::runs).collect();
                assert!(going[n + 1..].iter().all(|runs| *runs), "after {:?}: {going:?}", kind.args);
                assert!(admins.iter().all(Open::runs), "after {:?}", kind.args);
            }
            let [_, mut exec] = admins;
            assert!(exec.line.contains("hello"));
            exec.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
        }
        println!(
            "{rounds} rounds of five streams with {versions} versions of kubectl; the last to end took {longest:?}"
        );
        assert!(longest < Duration::from_secs(10), "{longest:?} is not prompt");
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let ended = revoked(&record.0);
    assert!(ended.iter().all(|e| e["user"]["username"] == "developer"), "{ended:#?}");
    for kind in &KINDS {
        let of =
            |e: &&&Value| e["requestURI"].as_str().unwrap().split('?').next().unwrap().ends_with(kind.path);
        let events: Vec<_> = ended.iter().filter(of).collect();
        assert_eq!(events.len(), rounds, "{:?}", kind.args);
        for event in events {
            let started = |e: &&Value| e["stage"] == "ResponseStarted" && e["auditID"] == event["auditID"];
            assert_eq!(record.0.iter().filter(started).count(), 1, "{event}");
            assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow", "{event}");
        }
    }
    let text = |e: &&&Value| e["annotations"]["gatelog.dev/end"].as_str().unwrap().to_owned();
    let exec = ended.iter().find(|e| e["objectRef"]["subresource"] == "exec");
    let exec = exec.as_ref().map(text).unwrap();
    assert!(exec.contains("create"), "{exec}");
}

/// Who acts as somebody else needs the right to it for as long as the stream is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_as_somebody_else_end_with_the_right_to_be_them() {
    let Some(kubectl) = kubectls().pop() else { return };
    let gate = Gate::start(Tweaks::default()).await;
    let zoe = "can zoe get,list,watch - configmaps in=shop
can zoe get,create - pods/exec in=shop
can zoe get,list - pods in=shop
can zoe get apps deployments in=shop
can developer get,list,watch - configmaps in=shop
";
    let user = "can viewer impersonate - users names=zoe\n";
    let group = "can viewer impersonate - groups names=demo:developers\n";
    let whole = [zoe, user, group].concat();
    let rows = [
        ([zoe, group].concat(), "may no longer send Impersonate-User: zoe"),
        ([zoe, user].concat(), "may no longer send Impersonate-Group: demo:developers"),
        (["can developer get,list,watch - configmaps in=shop\n", user, group].concat(), ""),
    ];
    let reasons = rows.clone().map(|(_, why)| why);
    let work = move || {
        let [watch, _, exec, ..] = &KINDS;
        grant(&gate, &whole);
        let own = Open::start(&gate, &kubectl, DEVELOPER, watch, &[], &[]);
        for (less, why) in &rows {
            grant(&gate, &whole);
            let as_zoe = ["--as", "zoe", "--as-group", "demo:developers"];
            let mut open = [watch, exec].map(|kind| Open::start(&gate, &kubectl, VIEWER, kind, &as_zoe, &[]));
            grant(&gate, less);
            for stream in &mut open {
                stream.ends(why);
            }
            assert!(own.runs(), "{why}");
        }
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let ended = revoked(&record.0);
    assert!(
        ended.iter().all(|e| e["user"]["username"] == "viewer" && e["impersonatedUser"]["username"] == "zoe")
    );
    assert_eq!(ended.len(), 2 * reasons.len(), "{ended:#?}");
    for why in reasons {
        let told = |e: &&&Value| e["annotations"]["gatelog.dev/end"].as_str().unwrap().contains(why);
        assert!(ended.iter().filter(told).count() >= 2, "{why}");
    }
}

/// The same by the cluster's own rules: a RoleBinding is deleted there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_deleted_in_the_cluster_ends_streams() {
    let Some(kubectl) = kubectls().pop() else { return };
    let tweaks = Tweaks { authorization: RULES_OF_CLUSTER, reads_rules: true, ..Tweaks::default() };
    let gate = Gate::start(tweaks).await;
    let work = move || {
        let admin = |args: &[&str]| gate.run(&kubectl, ADMIN, args, b"");
        // Cluster-wide, so that the last of the group's rights in the namespace goes with the binding.
        let groups =
            ["create", "clusterrolebinding", "stay", "--clusterrole=view", "--group=demo:developers"];
        admin(&groups).ok();
        let begun = Instant::now();
        while gate.run(&kubectl, DEVELOPER, &["get", "services", "-A"], b"").code != 0 {
            assert!(begun.elapsed() < PATIENCE, "the new binding never counts");
        }
        let [watch, logs, exec, attach, forward] = &KINDS;
        let mut ending =
            [exec, attach, forward].map(|kind| Open::start(&gate, &kubectl, DEVELOPER, kind, &[], &[]));
        let staying = [watch, logs].map(|kind| Open::start(&gate, &kubectl, DEVELOPER, kind, &[], &[]));
        let admins = [watch, exec].map(|kind| Open::start(&gate, &kubectl, ADMIN, kind, &[], &[]));
        let begun = Instant::now();
        admin(&["delete", "rolebinding", "demo:developers", "-n", "shop"]).ok();
        for (stream, kind) in ending.iter_mut().zip([exec, attach, forward]) {
            stream.ends(&format!("{:?}", kind.args));
        }
        println!(
            "three streams have ended {:?} after kubectl set out to delete the RoleBinding",
            begun.elapsed()
        );
        assert!(staying.iter().chain(&admins).all(Open::runs), "what is still allowed has ended");
        admin(&["delete", "clusterrolebinding", "stay"]).ok();
        for (mut stream, kind) in staying.into_iter().zip([watch, logs]) {
            stream.ends(&format!("{:?}", kind.args));
        }
        assert!(admins.iter().all(Open::runs));
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let ended = revoked(&record.0);
    assert_eq!(ended.len(), 5, "{ended:#?}");
    assert!(ended.iter().all(|e| e["user"]["username"] == "developer"), "{ended:#?}");
}

/// alice's right comes and goes while she opens watches, before it, in the middle of it and after: none outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_slips_through_a_change() {
    let plane = Plane::new().await;
    let path = plane.folder.0.join("rbac.yaml");
    let all = fs::read_to_string(&path).unwrap();
    let none = r#"{"apiVersion":"v1","kind":"List","items":[]}"#;
    let alice = plane.caller("alice").await;
    let streams = plane.gate().gateway().streams().clone();
    let reloader = plane.gate().reloader().clone();
    let mut took = Duration::from_millis(5);
    let (mut refused, mut ended) = (0, 0);
    for round in 0..60u32 {
        fs::write(&path, none).unwrap();
        let changing = tokio::spawn({
            let reloader = reloader.clone();
            async move {
                let begun = Instant::now();
                taken_up(&reloader).await;
                begun.elapsed()
            }
        });
        // The time that a change takes, and a little more, in steps.
        tokio::time::sleep(took * (round % 20) / 15).await;
        let asking = alice.get("/api/v1/pods?watch=1");
        let head = asking.head();
        tokio::pin!(head);
        let response = loop {
            tokio::select! {
                response = &mut head => break response,
                call = plane.upstream.call() => {
                    let _ = call.stream("application/json").send(Ok("{}\n".into())).await;
                }
            }
        };
        match response.status().as_u16() {
            // 503: allowed, but ended before the upstream answered.
            403 | 503 => refused += 1,
            code => {
                assert_eq!(code, 200);
                let mut body = response.into_body();
                while piece(&mut body).await.is_some() {}
                ended += 1;
            }
        }
        crate::plane::until(|| streams.is_empty()).await;
        took = (took + changing.await.unwrap()) / 2;
        fs::write(&path, &all).unwrap();
        taken_up(&reloader).await;
    }
    println!("{refused} watches were refused, {ended} ended");
    assert!(refused > 0 && ended > 0);
}

#[tokio::test]
async fn ten_thousand_watches_are_decided_again() {
    let plane = Plane::new().await;
    let streams = plane.gate().gateway().streams().clone();
    let (alice, bob) = (plane.caller("alice").await, plane.caller("bob").await);
    let mut real = Vec::new();
    for caller in [&alice, &bob] {
        let asking = caller.get("/api/v1/namespaces/a/pods?watch=1");
        let feed = plane.upstream.call().await.stream("application/json");
        real.push((feed, asking.head().await));
    }
    let held: Vec<Held> = streams.list().into_iter().map(|(_, held)| held).collect();
    let more =
        held.iter().cycle().take(9_998).map(|held| {
            streams.open(Held { audit_id: String::new(), since: SystemTime::now(), ..held.clone() })
        });
    let leases: Vec<_> = more.collect();
    assert_eq!(streams.len(), 10_000);
    let whose: Vec<(u64, String)> =
        streams.list().into_iter().map(|(id, held)| (id, held.right.effective.name().to_owned())).collect();
    let rules: Value =
        serde_json::from_str(&fs::read_to_string(plane.folder.0.join("rbac.yaml")).unwrap()).unwrap();
    let kept: Vec<&Value> =
        rules["items"].as_array().unwrap().iter().filter(|o| !o.to_string().contains("alice")).collect();
    let kept = json!({"apiVersion": "v1", "kind": "List", "items": kept});
    fs::write(plane.folder.0.join("rbac.yaml"), kept.to_string()).unwrap();
    let begun = Instant::now();
    taken_up(plane.gate().reloader()).await;
    println!("10,000 watches were decided again in {:?}, reading the rules included", begun.elapsed());
    let mut ended = 0;
    for lease in leases {
        let (_, name) = whose.iter().find(|(id, _)| *id == lease.id()).unwrap();
        let over = tokio::time::timeout(Duration::ZERO, lease.ended()).await;
        assert_eq!(over.is_ok(), name == "alice");
        if let Ok(reason) = over {
            assert!(reason.starts_with("no longer allowed: "), "{reason}");
            ended += 1;
        }
    }
    assert_eq!(ended, 4_999);
    let mut bodies = real.into_iter().map(|(feed, response)| (feed, response.into_body()));
    let (_feed, mut body) = bodies.next().unwrap();
    assert!(piece(&mut body).await.is_none(), "alice's goes on");
    let (feed, mut body) = bodies.next().unwrap();
    soon(feed.send(Ok("{}\n".into()))).await.unwrap();
    assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{}\n");
}

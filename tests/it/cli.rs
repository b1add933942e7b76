//! The command line as a person meets it: help, bad usage, `gatelog kubeconfig`.

use gatelog::demo::pki::{Ca, Client};
use std::{
    fs,
    io::{BufRead, BufReader, Lines, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
};

/// An empty folder, removed afterwards.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn gatelog(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gatelog"))
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .env("HOME", &self.0)
            .output()
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_subcommand_has_help() {
    let scratch = Scratch::new("help");
    for (args, expected) in [
        (&["--help"][..], "Usage: gatelog <COMMAND>"),
        (&["serve", "--help"], "Usage: gatelog serve [OPTIONS] --config <FILE>"),
        (&["check", "--help"], "Usage: gatelog check <--config <FILE>|FILE>"),
        (&["kubeconfig", "--help"], "Usage: gatelog kubeconfig [OPTIONS] --server <URL>"),
        (&["audit", "--help"], "Usage: gatelog audit <COMMAND>"),
        (&["audit", "show", "--help"], "Usage: gatelog audit show [OPTIONS] <DIR>"),
        (&["explain", "--help"], "Usage: gatelog explain [OPTIONS]"),
        (&["who-can", "--help"], "Usage: gatelog who-can [OPTIONS]"),
        (&["demo", "--help"], "Usage: gatelog demo [OPTIONS]"),
        (&["help", "serve"], "Usage: gatelog serve"),
        (&["--version"], concat!("gatelog ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = scratch.gatelog(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains(expected), "{args:?}: {}", text(&output.stdout));
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn bad_usage_exits_with_64() {
    let scratch = Scratch::new("usage");
    for (args, expected) in [
        (&[][..], "Usage: gatelog <COMMAND>"),
        (&["serv"], "serv"),
        (&["serve"], "--config <FILE>"),
        (&["serve", "--config", "x", "--listen", "nowhere"], "--listen"),
        (&["serve", "--config", "x", "--log-level", "loud"], r#"log level "loud" is none of"#),
        (&["serve", "--config", "x", "--log-format", "xml"], "neither text nor json"),
        (&["check"], "--config <FILE>"),
        (&["audit"], "Usage: gatelog audit <COMMAND>"),
        (&["audit", "show", "nowhere"], "nowhere: "),
        (&["audit", "show", ".", "--since", "yesterday"], "--since: expected "),
        (&["explain", "--as", "u", "get", "pods"], "--config <FILE>|--rbac"),
        (&["explain", "--rbac", ".", "get", "pods"], "--as <USER>"),
        (&["explain", "--rbac", "nowhere", "--as", "u", "get", "pods"], "nowhere: "),
        (&["explain", "--rbac", ".", "--config", "x", "--as", "u", "get", "pods"], "cannot be used with"),
        (&["explain", "--config", "nowhere", "--as", "u", "get", "pods"], "nowhere: "),
        (&["explain", "--rbac", ".", "--as", "", "get", "pods"], "the user name is empty"),
        (&["who-can", "--rbac", ".", "get", "widgets"], "say its API group"),
        (&["who-can", "--rbac", ".", "-o", "xml", "get", "pods"], "[possible values: text, json]"),
        (&["kubeconfig"], "--server <URL>"),
        (&["kubeconfig", "--server", "http://gate"], "begins with https://"),
        (&["kubeconfig", "--server", "https://gate", "--embed"], "--certificate-authority"),
        (&["kubeconfig", "--server", "https://gate"], "kubeconfig "),
        (&["kubeconfig", "--server", "https://gate", "--kubeconfig", "nope"], "kubeconfig nope: "),
    ] {
        let output = scratch.gatelog(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// The demo's rules, asked. What is printed, and the exit code.
fn asked(scratch: &Scratch, command: &str) -> (Option<i32>, String) {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/world/rbac.yaml");
    let (name, rest) = command.split_once(' ').unwrap();
    let args: Vec<&str> =
        [name, "--rbac", rules.to_str().unwrap()].into_iter().chain(rest.split(' ')).collect();
    let output = scratch.gatelog(&args);
    assert_ne!(output.status.code(), Some(64), "{command}: {}", text(&output.stderr));
    (output.status.code(), text(&output.stdout).to_owned())
}

#[test]
fn explain_says_why_and_why_not() {
    let scratch = Scratch::new("explain");
    for (command, code, expected) in [
        (
            "--as alice --as-group demo:developers delete pods web-0 -n shop",
            0,
            &[
                "allowed: alice may delete pods web-0 in namespace shop\n  RoleBinding shop/demo:developers gives ClusterRole edit to Group demo:developers\n  rules[",
                "delete",
            ][..],
        ),
        (
            "--as alice --as-group demo:developers get pods/exec -n shop",
            0,
            &["\n  create, which it takes besides: RoleBinding shop/demo:developers gives ClusterRole edit"],
        ),
        (
            "--as alice --as-group demo:developers delete po/web-0 -n team-a",
            1,
            &[
                "denied: alice may not delete pods web-0 in namespace team-a\n",
                "  ClusterRole edit, bound by RoleBinding shop/demo:developers, allows delete on pods in namespace shop only; not in team-a\n",
                "  ClusterRole view, bound by RoleBinding team-a/demo:developers, allows get, list, watch on pods; not delete\n",
            ],
        ),
        (
            "--as alice --as-group demo:developers delete ns shop",
            1,
            &["allows get, list, watch on namespaces; not delete"],
        ),
        ("--as alice get pods -n shop", 1, &["denied: alice may not get pods in namespace shop\n  no role"]),
        ("--as alice get /version", 0, &["gives ClusterRole system:discovery to Group system:authenticated"]),
        ("--no-bootstrap --as alice get /version", 1, &["no binding names this user or its groups"]),
        (
            "--no-bootstrap --as alice --as-group demo:viewers get pods",
            1,
            &[r#"clusterrole.rbac.authorization.k8s.io "view" not found"#],
        ),
        (
            "--as system:serviceaccount:shop:app get pods -n shop",
            0,
            &["RoleBinding shop/demo:app gives ClusterRole view to ServiceAccount shop/app"],
        ),
        (
            "--as root --as-group system:masters * *",
            0,
            &[
                "allowed: root may * *.* at the cluster scope\n  members of system:masters may do everything\n",
            ],
        ),
        (
            "--as x --as-group demo:admins * *",
            0,
            &["ClusterRoleBinding demo:admins gives ClusterRole cluster-admin"],
        ),
    ] {
        let (exit, said) = asked(&scratch, &format!("explain {command}"));
        assert_eq!(exit, Some(code), "{command}: {said}");
        for part in expected {
            assert!(said.contains(part), "{command}: {said}");
        }
    }
}

#[test]
fn explain_and_who_can_tell_programs() {
    let scratch = Scratch::new("explain-json");
    let json = |command: &str| -> (Option<i32>, serde_json::Value) {
        let (exit, said) = asked(&scratch, command);
        (exit, serde_json::from_str(&said).unwrap())
    };
    let (exit, told) = json("explain --as system:serviceaccount:shop:app get pods -n shop -o json");
    assert_eq!(exit, Some(0));
    assert_eq!(
        told["groups"],
        serde_json::json!(["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"])
    );
    assert_eq!(told["allowed"], true);
    assert_eq!(told["by"][0]["role"], serde_json::json!({"kind": "ClusterRole", "name": "view"}));
    assert_eq!(
        told["by"][0]["subject"],
        serde_json::json!({"kind": "ServiceAccount", "namespace": "shop", "name": "app"})
    );
    assert!(told["by"][0]["rule"]["verbs"].as_array().unwrap().iter().any(|v| v == "get"));

    let (exit, told) = json("explain --as a --as-group demo:developers delete pods -n team-a -o json");
    assert_eq!((exit, &told["allowed"], &told["refusedVerb"]), (Some(1), &false.into(), &"delete".into()));
    assert_eq!(told["nearMisses"].as_array().unwrap().len(), 2);
    assert_eq!(
        told["nearMisses"][0]["binding"],
        serde_json::json!({"kind": "RoleBinding", "namespace": "shop", "name": "demo:developers"})
    );

    let (exit, told) = json("who-can get pods -n shop -o json");
    assert_eq!(exit, Some(0));
    assert_eq!(told["always"], serde_json::json!([{"kind": "Group", "name": "system:masters"}]));
    let may: Vec<&str> =
        told["may"].as_array().unwrap().iter().map(|m| m["subject"]["name"].as_str().unwrap()).collect();
    for name in ["demo:admins", "demo:developers", "demo:viewers", "app"] {
        assert!(may.contains(&name), "{name}: {may:?}");
    }
}

#[test]
fn a_configurations_rules_are_asked() {
    let scratch = Scratch::new("explain-config");
    gate(&scratch, "");
    let ask = |path: &str| {
        scratch.gatelog(&["explain", "--config", "gatelog.yaml", "--as", "alice", "get", path]).status.code()
    };
    assert_eq!((ask("/version"), ask("/metrics")), (Some(0), Some(1)));
}

/// Each example of the README is what is printed, so far as it is shown.
#[test]
fn the_readmes_explanations_are_true() {
    let scratch = Scratch::new("explain-readme");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut seen = 0;
    for command in ["explain", "who-can"] {
        let start = format!("$ gatelog {command} --rbac gatelog-demo/rbac.yaml ");
        for example in readme.split(&start).skip(1) {
            let (args, rest) = example.split_once('\n').unwrap();
            let shown: &str = rest.split("```").next().unwrap().split("$ ").next().unwrap();
            let (_, said) = asked(&scratch, &format!("{command} {args}"));
            assert_eq!(said, shown, "{command} {args}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: work
contexts:
- {name: work, context: {cluster: prod, user: alice}}
clusters:
- {name: prod, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: old.crt}}
users:
- {name: alice, user: {token: sesame}}
";

const CA: &str = "-----BEGIN CERTIFICATE-----\nTm90IHJlYWxseQ==\n-----END CERTIFICATE-----\n";

#[test]
fn a_kubeconfig_leads_through_the_gate() {
    let scratch = Scratch::new("kubeconfig");
    fs::create_dir(scratch.0.join(".kube")).unwrap();
    scratch.write(".kube/config", KUBECONFIG);
    scratch.write("ca.crt", CA);
    scratch.write("empty.crt", "");

    // From $HOME to standard output, the CA by its path.
    let output = scratch.gatelog(&[
        "kubeconfig",
        "--server",
        "https://gate:6443",
        "--certificate-authority",
        "ca.crt",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let config = text(&output.stdout);
    assert!(config.contains("server: https://gate:6443\n"), "{config}");
    let ca = scratch.0.join("ca.crt");
    assert!(config.contains(&format!("certificate-authority: {}\n", ca.display())), "{config}");
    assert!(config.contains("token: sesame\n"), "{config}");
    assert!(!config.contains("10.0.0.1"), "{config}");

    // Into a file that only its owner may read, the CA inside.
    let output = scratch.gatelog(&[
        "kubeconfig",
        "--server",
        "https://gate:6443",
        "--certificate-authority",
        "ca.crt",
        "--embed",
        "-o",
        "gate.kubeconfig",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let file = scratch.0.join("gate.kubeconfig");
    assert!(fs::read_to_string(&file).unwrap().contains("certificate-authority-data: LS0tLS1CRUdJTi"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    for (args, expected) in [
        (&["-o", ".kube/config"][..], "would overwrite the kubeconfig it is made from"),
        (&["--context", "play"], r#"contexts: there is none called "play""#),
        (
            &["--certificate-authority", "empty.crt"],
            "--certificate-authority empty.crt: holds no PEM certificate",
        ),
        (&["--certificate-authority", "no.crt"], "--certificate-authority no.crt: "),
    ] {
        let output = scratch.gatelog(&[&["kubeconfig", "--server", "https://gate"], args].concat());
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(scratch.0.join(".kube/config")).unwrap(), KUBECONFIG);
}

/// What kubectl makes of it, if there is one.
#[test]
fn kubectl_reads_the_kubeconfig() {
    let scratch = Scratch::new("kubectl");
    let from = scratch.write("from", KUBECONFIG);
    let from = from.to_str().unwrap();
    let output =
        scratch.gatelog(&["kubeconfig", "--server", "https://gate:6443", "--kubeconfig", from, "-o", "to"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let to = scratch.0.join("to");
    let view =
        ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server} {.users[0].name}"];
    match Command::new("kubectl").arg("--kubeconfig").arg(&to).args(view).output() {
        Ok(output) => assert_eq!(text(&output.stdout), "https://gate:6443 alice", "{}", text(&output.stderr)),
        Err(error) if std::env::var_os("GATELOG_REQUIRE_KUBECTL").is_none() => {
            eprintln!("skipped: no kubectl ({error})");
        }
        Err(error) => panic!("kubectl: {error}"),
    }
}

/// A configuration in `scratch` that the gate starts with; its upstream is not there.
pub(crate) fn gate(scratch: &Scratch, more: &str) -> PathBuf {
    let ca = Ca::new("test").unwrap();
    let server = ca.server(&["127.0.0.1"]).unwrap();
    let client = ca.client(&Client::new("gate")).unwrap();
    scratch.write("ca.crt", &ca.pem());
    scratch.write("tls.crt", &server.certificates());
    scratch.write("tls.key", &server.key);
    scratch.write("gate.crt", &client.certificates());
    scratch.write("gate.key", &client.key);
    scratch.write(
        "gatelog.yaml",
        &format!(
            "apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {{address: '127.0.0.1:0', tlsCertFile: tls.crt, tlsPrivateKeyFile: tls.key{more}}}
upstream: {{server: 'https://127.0.0.1:1', certificateAuthority: ca.crt, clientCertificate: gate.crt, clientKey: gate.key}}
authentication: {{clientCAFile: ca.crt}}
audit: {{dir: audit}}
admin: {{address: '127.0.0.1:0'}}
"
        ),
    )
}

#[test]
fn check_says_what_is_on_and_what_is_off() {
    let scratch = Scratch::new("check");
    gate(&scratch, "");
    let output = scratch.gatelog(&["check", "--config", "gatelog.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for line in ["client certificates: on (1 CA)", "static tokens: off", "anonymous: off", "audit: on ("] {
        assert!(
            text(&output.stdout).lines().any(|l| l.starts_with(line)),
            "{line}\n{}",
            text(&output.stdout)
        );
    }
}

/// What comes with the gate is what it takes.
#[test]
fn check_looks_at_any_file_that_the_gate_reads() {
    let scratch = Scratch::new("check-files");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shipped: Vec<PathBuf> = ["authentication", "audit", "rbac"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join("policies").join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    shipped.sort();
    assert!(shipped.len() >= 8, "{shipped:?}");
    let names: Vec<&str> = shipped.iter().map(|path| path.to_str().unwrap()).collect();
    let output = scratch.gatelog(&[&["check"], &names[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    for name in &names {
        assert!(text(&output.stdout).lines().any(|line| line.starts_with(&format!("{name}: "))), "{name}");
    }
    assert!(!text(&output.stdout).contains("warning"), "{}", text(&output.stdout));

    // One bad file does not hide another; what is good is said all the same.
    gate(&scratch, "");
    scratch.write("pod.yaml", "apiVersion: v1\nkind: Pod\n");
    let output =
        scratch.gatelog(&["check", "--config", "gatelog.yaml", "pod.yaml", "none.yaml", "gatelog.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    let errors: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with(
        "pod.yaml: kind \"Pod\" of apiVersion \"v1\" is not one that the gate reads, expected Gateway"
    ));
    assert!(errors[1].starts_with("none.yaml: No such file"));
    assert_eq!(text(&output.stdout).matches("\nadmin: on (").count(), 2);
    assert!(text(&output.stdout).contains("gatelog.yaml: a Gateway\n"), "{}", text(&output.stdout));

    // No gate starts with a part of its configuration.
    scratch.write("part.yaml", "apiVersion: gatelog.dev/v1alpha1\nkind: GatewayPart\nlimits: {}\n");
    let output = scratch.gatelog(&["serve", "--config", "part.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr).contains("part.yaml: kind: a GatewayPart is for"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn every_error_of_a_configuration_is_told_at_once() {
    let scratch = Scratch::new("misconfigured");
    scratch.write(
        "gatelog.yaml",
        "apiVersion: gatelog.dev/v1alpha1
kind: Gate
listen: {adress: '127.0.0.1:0', tlsCertFile: no.crt, tlsPrivateKeyFile: no.key, idleTimeout: 10}
upstream: {kubeconfig: no.kubeconfig}
authentication: {clientCAFile: no-ca.crt}
audit: {dir: audit}
",
    );
    for command in ["check", "serve"] {
        let output = scratch.gatelog(&[command, "--config", "gatelog.yaml"]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let errors = text(&output.stderr);
        for expected in [
            "gatelog.yaml: kind: expected Gateway",
            "gatelog.yaml: listen.adress: unknown key, did you mean address?",
            "gatelog.yaml: listen.address: is missing",
            "gatelog.yaml: listen.idleTimeout: 10 is not a duration",
            "no.crt",
            "no-ca.crt",
            "no.kubeconfig",
        ] {
            assert!(errors.contains(expected), "{command}: {expected}\n{errors}");
        }
        assert!(errors.lines().all(|line| line.starts_with("gatelog.yaml: ")), "{errors}");
        assert!(!scratch.0.join("audit").exists(), "{command} has begun something");
    }
    let output = scratch.gatelog(&["serve", "--config", "no.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).starts_with("no.yaml: "), "{}", text(&output.stderr));
}

/// A running gate and its log.
pub(crate) struct Served(Child, Lines<BufReader<ChildStderr>>);

impl Served {
    pub(crate) fn start(scratch: &Scratch) -> Self {
        Self::of(&scratch.0, &[])
    }

    /// The gate of a folder's `gatelog.yaml`, with these arguments.
    pub(crate) fn of(folder: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatelog"))
            .args(["serve", "--config", "gatelog.yaml", "--log-format", "json"])
            .args(more)
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self(child, log)
    }

    /// The next line with this message.
    pub(crate) fn logged(&mut self, message: &str) -> serde_json::Value {
        self.1
            .by_ref()
            .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
            .find(|line| line["message"].as_str().is_some_and(|m| m.starts_with(message)))
            .unwrap_or_else(|| panic!("it ended without saying {message:?}"))
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn ended(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Already ended, in most cases.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the admin listener answers.
pub(crate) fn probe(admin: std::net::SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn a_signal_ends_the_gate_in_order() {
    let scratch = Scratch::new("term");
    gate(&scratch, "");
    for signal in ["TERM", "INT"] {
        let mut served = Served::start(&scratch);
        let serving = served.logged("serving");
        let address: std::net::SocketAddr = serving["address"].as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0);
        std::net::TcpStream::connect(address).unwrap();
        let admin: std::net::SocketAddr = serving["admin"].as_str().unwrap().parse().unwrap();
        assert_eq!(probe(admin, "/livez"), "ok");
        let verbose = probe(admin, "/readyz?verbose&exclude=upstream");
        let (audit, rest): (Vec<&str>, Vec<&str>) =
            verbose.lines().partition(|line| line.starts_with("note: audit"));
        assert!(audit[0].contains("changes wait until they are on the disk (strict), reads"), "{verbose}");
        assert!(audit[1].starts_with("note: audit signing: on (key in "), "{verbose}");
        assert_eq!(
            rest.join("\n"),
            "[+]ping ok\n[+]upstream excluded: ok\n[-]catalog failed: reason withheld, requests are served\n[+]audit ok\n[+]issuers ok\n[+]certs ok\n[+]shutdown ok\n\
             note: static tokens: off\nnote: front proxy: off\nnote: service accounts: off\nnote: issuers: off\n\
             note: token review: off\nnote: anonymous: off\nnote: shadow rules: off\nreadyz check passed"
        );
        let metrics = probe(admin, "/metrics");
        for line in [
            r#"gatelog_enabled{part="anonymous"} 0"#,
            r#"gatelog_enabled{part="client certificates"} 1"#,
            "gatelog_log_lines_dropped_total 0",
            "gatelog_audit_lost_events_total 0",
            "gatelog_audit_suppressed_events_total 0",
            "gatelog_audit_queue_bytes 0",
            "apiserver_audit_event_total 0",
            "apiserver_audit_requests_rejected_total 0",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
        served.signal(signal);
        assert_eq!(served.logged("stopping")["signal"], format!("SIG{signal}"));
        assert_eq!(served.ended(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let scratch = Scratch::new("twice");
    gate(&scratch, ", shutdownDelayDuration: 1h");
    let mut served = Served::start(&scratch);
    served.logged("serving");
    served.signal("TERM");
    served.logged("stopping");
    served.signal("INT");
    served.logged("stopped at once");
    assert_eq!(served.ended(), Some(1));
}

#[test]
fn an_address_in_use_is_a_failed_start() {
    let scratch = Scratch::new("in-use");
    gate(&scratch, "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        scratch.gatelog(&["serve", "--config", "gatelog.yaml", "--listen", &address, "--log-level", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with(&format!("gatelog: cannot listen on {address}: ")),
        "{}",
        text(&output.stderr)
    );
}

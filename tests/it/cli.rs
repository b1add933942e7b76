//! The command line as a person meets it: help, bad usage, `gatelog kubeconfig`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// An empty folder, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn gatelog(&self, args: &[&str]) -> Output {
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

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_subcommand_has_help() {
    let scratch = Scratch::new("help");
    for (args, expected) in [
        (&["--help"][..], "Usage: gatelog <COMMAND>"),
        (&["serve", "--help"], "Usage: gatelog serve [OPTIONS] --config <FILE>"),
        (&["check", "--help"], "Usage: gatelog check --config <FILE>"),
        (&["kubeconfig", "--help"], "Usage: gatelog kubeconfig [OPTIONS] --server <URL>"),
        (&["audit", "--help"], "Usage: gatelog audit"),
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

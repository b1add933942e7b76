//! `gatelog demo` as a person runs it.

use crate::harness::{PATIENCE, kubectls};
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Instant,
};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("gatelog-demo-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gatelog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatelog"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
}

impl Demo {
    /// Starts one and reads what it says up to its last line.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut command = gatelog();
        command.args(["demo", "--listen", "127.0.0.1:0", "--dir"]).arg(dir).args(more);
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("Ctrl-C ends it.\n") {
            if out.read_line(&mut said).unwrap() == 0 {
                let mut why = String::new();
                child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("it ended: {said}{why}");
            }
        }
        Self { child, out, said }
    }

    /// Sends Ctrl-C; its exit code and last words.
    fn stop(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut last = String::new();
                self.out.read_to_string(&mut last).unwrap();
                return (status.code(), last);
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already ended, in most cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ran(command: &mut Command) -> (String, Output) {
    let output = command.output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output)
}

#[test]
fn it_runs_stops_and_runs_again_where_it_was() {
    let folder = Folder::new("runs");
    let dir = folder.0.join("demo");
    for run in 1..=2 {
        let demo = Demo::start(&dir, &[]);
        assert!(demo.said.contains(&format!("export KUBECONFIG={}/developer.kubeconfig", dir.display())));
        for name in
            ["admin.kubeconfig", "developer.kubeconfig", "viewer.kubeconfig", "gatelog.yaml", "tokens.csv"]
        {
            let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let (why, second) = ran(gatelog().args(["demo", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir));
        assert_eq!(second.status.code(), Some(1), "{why}");
        assert!(why.contains("another demo is running here"), "{why}");
        if let Some(kubectl) = kubectls().pop() {
            let pods = Command::new(kubectl)
                .args(["get", "pods", "-o", "name", "--cache-dir"])
                .arg(folder.0.join("cache"))
                .env("KUBECONFIG", dir.join("developer.kubeconfig"))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&pods.stdout).lines().count(), 3, "{pods:?}");
            // A read does not wait for its event.
            let begun = Instant::now();
            loop {
                let (why, shown) = ran(gatelog().args(["audit", "show"]).arg(dir.join("audit")));
                let shown = String::from_utf8(shown.stdout).unwrap();
                let is_list = |l: &&str| l.contains("developer") && l.contains("list") && l.contains("pods");
                let lists = shown.lines().filter(is_list).count();
                assert!(lists <= run && begun.elapsed() < PATIENCE, "{shown}{why}");
                if lists == run {
                    break;
                }
            }
        }
        let (why, checked) = ran(gatelog().args(["check", "--config"]).arg(dir.join("gatelog.yaml")));
        assert!(checked.status.success(), "{why}");
        let (code, last) = demo.stop();
        assert_eq!(code, Some(0));
        assert!(last.contains("The record stays in"), "{last}");
    }
}

#[test]
fn with_a_provider_there_is_one_more_to_be() {
    let folder = Folder::new("oidc");
    let dir = folder.0.join("demo");
    let files = ["oidc.kubeconfig", "authentication.yaml"].map(|name| dir.join(name));
    let demo = Demo::start(&dir, &["--oidc"]);
    assert!(demo.said.contains(&format!("export KUBECONFIG={}", files[0].display())), "{}", demo.said);
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    if let Some(kubectl) = kubectls().pop() {
        let run = |kubeconfig: &str, line: &str| {
            let mut command = Command::new(&kubectl);
            command.args(line.split(' ')).arg("--cache-dir").arg(folder.0.join("cache"));
            let output = command.env("KUBECONFIG", dir.join(kubeconfig)).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        };
        // The provider's keys are fetched while the gate is already serving.
        let begun = Instant::now();
        while !run("oidc.kubeconfig", "get pods").0 {
            assert!(begun.elapsed() < PATIENCE, "{}", run("oidc.kubeconfig", "get pods").1);
        }
        #[rustfmt::skip]
        let rows = [
            ("auth whoami", true, "oidc:carol@example.com"),
            ("scale deploy/web --replicas=2", true, "scaled"),
            ("get pods -n team-a", true, "worker"),
            ("delete namespace shop", false, "User \"oidc:carol@example.com\" cannot delete resource \"namespaces\""),
        ];
        for (line, succeeds, text) in rows {
            let (success, said) = run("oidc.kubeconfig", line);
            assert!(success == succeeds && said.contains(text), "{line}: {said}");
        }
        // As the demo tells a newcomer to.
        let (success, token) = run("developer.kubeconfig", "create token app");
        assert!(success, "{token}");
        let (_, said) = run("developer.kubeconfig", &format!("auth whoami --token {}", token.trim()));
        assert!(said.contains("system:serviceaccount:shop:app"), "{said}");
    }
    let (why, checked) = ran(gatelog().args(["check", "--config"]).arg(dir.join("gatelog.yaml")));
    assert!(checked.status.success(), "{why}");
    assert_eq!(demo.stop().0, Some(0));
    let demo = Demo::start(&dir, &[]);
    assert!(!demo.said.contains("Carol") && files.iter().all(|file| !file.exists()), "{}", demo.said);
    assert_eq!(demo.stop().0, Some(0));
}

#[test]
fn by_the_clusters_rules_a_binding_counts_at_once() {
    let folder = Folder::new("cluster-rules");
    let dir = folder.0.join("demo");
    let demo = Demo::start(&dir, &["--cluster-rules"]);
    if let Some(kubectl) = kubectls().pop() {
        let run = |user: &str, line: &str| {
            let mut command = Command::new(&kubectl);
            command.args(line.split(' ')).arg("--cache-dir").arg(folder.0.join("cache"));
            let output = command.env("KUBECONFIG", dir.join(format!("{user}.kubeconfig"))).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        };
        let refused = |(success, said): (bool, String)| {
            assert!(!success && said.contains("Forbidden") && said.contains("audit id"), "{said}");
        };
        refused(run("viewer", "get secrets"));
        let (success, said) = run("admin", "create rolebinding look --clusterrole=edit --user=viewer");
        assert!(success, "{said}");
        let begun = Instant::now();
        while !run("viewer", "get secrets").0 {
            assert!(begun.elapsed() < PATIENCE, "{}", run("viewer", "get secrets").1);
        }
        let (success, said) = run("admin", "delete rolebinding look");
        assert!(success, "{said}");
        while run("viewer", "get secrets").0 {
            assert!(begun.elapsed() < PATIENCE, "still allowed");
        }
        refused(run("viewer", "get secrets"));
    }
    let (why, checked) = ran(gatelog().args(["check", "--config"]).arg(dir.join("gatelog.yaml")));
    assert!(checked.status.success(), "{why}");
    assert_eq!(demo.stop().0, Some(0));
}

#[test]
fn it_keeps_out_of_other_folders_and_off_other_interfaces() {
    let folder = Folder::new("refuses");
    fs::write(folder.0.join("thesis.tex"), "years of work").unwrap();
    let (why, output) = ran(gatelog().args(["demo", "--dir"]).arg(&folder.0));
    assert_eq!(output.status.code(), Some(64));
    assert!(why.contains("is not empty and not the folder of an earlier demo"), "{why}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    let (why, output) =
        ran(gatelog().args(["demo", "--listen", "0.0.0.0:0", "--dir"]).arg(folder.0.join("new")));
    assert_eq!(output.status.code(), Some(64));
    assert!(why.contains("--listen 0.0.0.0:0: a demo listens on loopback only"), "{why}");
    assert!(!folder.0.join("new").exists());
}

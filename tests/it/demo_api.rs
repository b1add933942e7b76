//! The demo's API server by itself, driven by real kubectl and by a plain HTTP client: what the gate's tests build on.

use super::{
    kubectl::minor,
    raw::{self, Identity, Reply, Tls},
};
use gatelog::demo::{
    apiserver::{ApiServer, Caller, Options, tls},
    fault::Fault,
    pki::{Ca, Client},
};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// A server of its own, and a folder with kubeconfigs for `admin` (certificate), `developer` and `viewer` (tokens).
pub(crate) struct Demo {
    pub(crate) api: ApiServer,
    dir: PathBuf,
}

impl Demo {
    pub(crate) async fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-demo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let ca = Ca::new("demo").unwrap();
        let server = ca.server(&["127.0.0.1", "localhost"]).unwrap();
        let mut options = Options::new(tls(&server, &ca).unwrap()).unwrap();
        options.tokens.insert("dev".into(), Caller::new("developer", &["demo:developers"]));
        options.tokens.insert("view".into(), Caller::new("viewer", &["demo:viewers"]));
        let api = ApiServer::start(options).await.unwrap();
        let demo = Self { api, dir };
        let admin = ca.client(&Client::new("admin").group("demo:admins")).unwrap();
        demo.write("ca.crt", &ca.pem());
        demo.write("admin.crt", &admin.certificates());
        demo.write("admin.key", &admin.key);
        let path = |file: &str| demo.dir.join(file).display().to_string();
        demo.kubeconfig(
            "admin",
            &format!("client-certificate: {}, client-key: {}", path("admin.crt"), path("admin.key")),
        );
        demo.kubeconfig("developer", "token: dev");
        demo.kubeconfig("viewer", "token: view");
        demo
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.dir.join(file);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn kubeconfig(&self, name: &str, user: &str) {
        let (server, ca) = (self.api.addr(), self.dir.join("ca.crt"));
        self.write(
            &format!("{name}.kubeconfig"),
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: demo\n\
                 clusters:\n- name: demo\n  cluster: {{server: 'https://{server}', certificate-authority: {}}}\n\
                 contexts:\n- name: demo\n  context: {{cluster: demo, user: me}}\nusers:\n- name: me\n  user: {{{user}}}\n",
                ca.display()
            ),
        );
    }

    fn command(&self, kubectl: &Path, user: &str, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.dir.join(format!("{user}.kubeconfig")))
            .arg("--cache-dir")
            .arg(self.dir.join("cache"))
            .args(["--request-timeout", "30s"])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Asks the server itself, as admin.
    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let read = |file: &str| std::fs::read_to_string(self.dir.join(file)).unwrap();
        let admin = Identity { chain: read("admin.crt"), key: read("admin.key") };
        let tls = Tls::new(&read("ca.crt"), Some(&admin), "http/1.1");
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: demo\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body;
        raw::ask(self.api.addr(), &tls, method, request.as_bytes()).await.unwrap()
    }

    /// Runs kubectl: whether it succeeded, and all it printed.
    async fn run(&self, kubectl: &Path, user: &str, args: &[&str]) -> (bool, String) {
        let mut command = self.command(kubectl, user, args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs rows of `user, command line, succeeds, what must be in its output`.
    pub(crate) async fn rows(&self, kubectl: &Path, rows: &[(&str, &str, bool, &str)]) {
        for (user, line, succeeds, expected) in rows {
            let args: Vec<&str> = line.split_whitespace().collect();
            let (success, output) = self.run(kubectl, user, &args).await;
            assert!(
                success == *succeeds && output.contains(expected),
                "{user}: kubectl {line}: expected {expected:?}, success {succeeds}:\n{output}"
            );
        }
    }

    pub(crate) async fn end(self) {
        self.api.stop().await;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// kubectl of the path, and any other versions that `KUBECTLS` names, separated by colons.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|d| d.join("kubectl")).find(|p| p.is_file());
    let more = std::env::var_os("KUBECTLS").unwrap_or_default();
    let all: Vec<PathBuf> =
        found.into_iter().chain(std::env::split_paths(&more).filter(|p| p.is_file())).collect();
    if all.is_empty() {
        println!("no kubectl here: nothing tested");
    }
    all
}

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers: [{name: c, image: 'app:1', ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {a: b}
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    for kubectl in kubectls() {
        let demo = Demo::start("works").await;
        let app = demo.write("app.yaml", APP).display().to_string();
        let app2 = demo.write("app2.yaml", &APP.replace("app:1", "app:2")).display().to_string();
        let bad = demo.write("bad.yaml", &APP.replace("replicas", "replicaz")).display().to_string();
        let at = |line: &str| line.replace("APP2", &app2).replace("APP", &app).replace("BAD", &bad);
        #[rustfmt::skip]
        let rows: Vec<(&str, String, bool, &str)> = [
            ("admin", "version", true, "Server Version"),
            ("admin", "api-resources", true, "deployments"),
            ("admin", "api-versions", true, "networking.k8s.io/v1"),
            ("admin", "explain deployment.spec.template.spec.containers", true, "imagePullPolicy"),
            ("admin", "get pods -A -o wide", true, "demo-node"),
            ("admin", "get all -n shop", true, "deployment.apps/web"),
            ("admin", "get pods -n shop --chunk-size=1 -l app=web --field-selector=status.phase=Running", true, "Running"),
            ("admin", "describe deployment web -n shop", true, "ScalingReplicaSet"),
            ("admin", "create configmap made --from-literal=x=1", true, "created"),
            ("admin", "create configmap made", false, "configmaps \"made\" already exists"),
            ("admin", "create configmap Bad_Name", false, "is invalid"),
            ("admin", "create configmap x -n nowhere", false, "namespaces \"nowhere\" not found"),
            ("admin", "create secret generic made --from-literal=x=1", true, "created"),
            ("admin", "create deployment made --image=nginx --replicas=2", true, "created"),
            ("admin", "rollout status deployment made", true, "successfully rolled out"),
            ("admin", "create job once --image=busybox -- true", true, "created"),
            ("admin", "wait --for=condition=complete job/once --timeout=5s", true, "condition met"),
            ("admin", "create -f BAD", false, "strict decoding error: unknown field \"spec.replicaz\""),
            ("admin", "apply -f APP", true, "deployment.apps/app created"),
            ("admin", "apply -f APP", true, "deployment.apps/app unchanged"),
            ("admin", "apply -f APP2", true, "deployment.apps/app configured"),
            ("admin", "apply --server-side -f APP2", true, "serverside-applied"),
            ("admin", "scale deployment app --replicas=3", true, "scaled"),
            ("admin", "apply --server-side -f APP2", false, "Apply failed with 1 conflict"),
            ("admin", "apply --server-side --force-conflicts -f APP2", true, "serverside-applied"),
            ("admin", "rollout restart deployment app", true, "restarted"),
            ("admin", "label configmap made a=b", true, "labeled"),
            ("admin", "annotate configmap made a=b", true, "annotated"),
            ("admin", "patch configmap made -p {\"data\":{\"y\":\"2\"}}", true, "patched"),
            ("admin", "patch configmap made --type=json -p [{\"op\":\"remove\",\"path\":\"/data/none\"}]", false, "request"),
            ("admin", "get configmap made -o jsonpath={.data}", true, "\"y\":\"2\""),
            ("admin", "replace -f APP", true, "replaced"),
            ("admin", "expose deployment app --port=80", true, "exposed"),
            ("admin", "get endpoints app", true, "10.244."),
            ("admin", "run one --image=nginx", true, "created"),
            ("admin", "delete pod one", true, "deleted"),
            ("admin", "delete -f APP --cascade=foreground", true, "deleted"),
            ("admin", "create namespace brief", true, "created"),
            ("admin", "create configmap inside -n brief", true, "created"),
            ("admin", "delete namespace brief", true, "deleted"),
            ("admin", "get namespace brief", false, "not found"),
            ("admin", "delete namespace default", false, "this namespace may not be deleted"),
            ("admin", "auth whoami", true, "demo:admins"),
            ("admin", "auth whoami --as=bob --as-group=g", true, "bob"),
            ("developer", "auth can-i create deployments -n shop", true, "yes"),
            ("developer", "auth can-i create deployments -n team-a", false, "no"),
            ("developer", "auth can-i --list -n shop", true, "deployments.apps"),
            ("developer", "create configmap mine -n shop", true, "created"),
            ("developer", "create configmap mine -n team-a", false, "cannot create resource \"configmaps\" in API group \"\" in the namespace \"team-a\""),
            ("developer", "get pods -n team-a", true, "worker"),
            ("viewer", "get pods -A", true, "web"),
            ("viewer", "get secrets -n shop", false, "cannot list resource \"secrets\""),
            ("viewer", "get pods --as=admin", false, "cannot impersonate resource \"users\""),
        ].into_iter().map(|(user, line, ok, text)| (user, at(line), ok, text)).collect();
        // Up to 1.28 it reads OpenAPI v2 as protobuf, has no strict fields, and asks for reviews of versions that are gone.
        let new = ["explain", "create -f", "auth whoami"];
        let old = minor(&kubectl) <= 28;
        let fits = |line: &str| !(old && new.iter().any(|start| line.starts_with(start)));
        let rows: Vec<_> =
            rows.iter().map(|(u, l, ok, t)| (*u, l.as_str(), *ok, *t)).filter(|(_, l, ..)| fits(l)).collect();
        demo.rows(&kubectl, &rows).await;
        demo.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches() {
    for kubectl in kubectls() {
        let demo = Demo::start("watches").await;
        let args = ["get", "configmaps", "-n", "shop", "--watch-only", "-o", "name"];
        let mut child = demo.command(&kubectl, "admin", &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The watch is there once the server has seen it.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !demo.api.requests().iter().any(|r| r.target.contains("watch=true")) {
            assert!(tokio::time::Instant::now() < deadline, "no watch in sight");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        demo.rows(&kubectl, &[("admin", "create configmap seen -n shop", true, "created")]).await;
        let line = tokio::task::spawn_blocking(move || lines.next()).await.unwrap();
        assert_eq!(line.unwrap().unwrap(), "configmap/seen");
        child.kill().unwrap();
        child.wait().unwrap();
        demo.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_kubectls_to_see() {
    let Some(kubectl) = kubectls().into_iter().next() else { return };
    let demo = Demo::start("faults").await;
    demo.rows(&kubectl, &[("admin", "get pods", true, "")]).await;
    let rows = [
        (Fault::Status(500), "a fault that was ordered"),
        (Fault::ResetBeforeHeaders, "error"),
        (Fault::ResetAfterHeaders, "error"),
        (Fault::Plain(503, "down".into()), "unable to handle the request"),
    ];
    for (fault, expected) in rows {
        demo.api.faults().next("/api/v1/namespaces/default/pods", 20, fault.clone());
        let (success, output) = demo.run(&kubectl, "admin", &["get", "pods"]).await;
        assert!(!success && output.to_lowercase().contains(expected), "{fault:?}: {output}");
        demo.api.faults().clear();
    }
    demo.api.faults().next("/api/v1/namespaces/default/pods", 1, Fault::Delay(Duration::from_millis(300)));
    demo.api.faults().next("/api/v1/namespaces/default/pods", 1, Fault::GoAway);
    demo.rows(&kubectl, &[("admin", "get pods", true, ""), ("admin", "get pods", true, "")]).await;
    assert_eq!(demo.api.faults().left(), 0);
    demo.end().await;
}

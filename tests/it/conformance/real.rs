//! A real kube-apiserver with its etcd, for as long as the value lives.

use super::{wellformed::custom, world::World};
use crate::raw::{self, Reply, Tls};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where the binaries are, if the environment says so (envtest's layout).
pub(crate) fn assets() -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)?;
    assets.join("kube-apiserver").exists().then_some(assets)
}

/// A running API server.
pub(crate) struct Real {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Its files: `ca.crt`, `audit.log`, ...
    pub(crate) dir: PathBuf,
    children: Vec<Child>,
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Real {
    /// Starts both and waits for `/readyz`, then creates the world's RBAC objects.
    pub(crate) async fn start(assets: &Path, world: &World, policy: &str) -> Self {
        Self::start_with(assets, world, policy, &[], &["--anonymous-auth=true"]).await
    }

    /// The same with these files in its folder and these flags.
    pub(crate) async fn start_with(
        assets: &Path,
        world: &World,
        policy: &str,
        files: &[(&str, &str)],
        flags: &[&str],
    ) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-real-{}-{}", std::process::id(), free_port()));
        fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        let server = world.server();
        let accounts = rcgen::KeyPair::generate().unwrap();
        put("ca.crt", &world.ca.pem());
        put("server.crt", &server.chain);
        put("server.key", &server.key);
        put("sa.key", &accounts.serialize_pem());
        put("sa.pub", &accounts.public_key_pem());
        put("tokens.csv", &world.tokens());
        put("audit-policy.yaml", policy);
        for (name, text) in files {
            put(name, text);
        }
        let [secure, client, peer] = [free_port(), free_port(), free_port()];
        let etcd = Command::new(assets.join("etcd"))
            .args(["--data-dir", "etcd", "--unsafe-no-fsync", "--log-level", "error"])
            .args(["--listen-client-urls", &format!("http://127.0.0.1:{client}")])
            .args(["--advertise-client-urls", &format!("http://127.0.0.1:{client}")])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-cluster", &format!("default=http://127.0.0.1:{peer}")])
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("etcd.log")).unwrap())
            .spawn()
            .unwrap();
        let api = Command::new(assets.join("kube-apiserver"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--cert-dir=."])
            .args(["--endpoint-reconciler-type=none", "--authorization-mode=RBAC"])
            .args(flags)
            .args(["--tls-cert-file=server.crt", "--tls-private-key-file=server.key"])
            .args(["--client-ca-file=ca.crt", "--token-auth-file=tokens.csv"])
            .args(["--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key"])
            .args(["--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true"])
            .args(["--disable-admission-plugins=ServiceAccount", "--profiling=false", "--v=0"])
            .args(["--audit-policy-file=audit-policy.yaml", "--audit-log-path=audit.log"])
            .args(["--audit-log-format=json", "--audit-log-mode=blocking"])
            .arg(format!("--service-account-issuer=https://127.0.0.1:{secure}"))
            .arg(format!("--secure-port={secure}"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{client}"))
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("apiserver.log")).unwrap())
            .spawn()
            .unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, secure));
        let mut real = Self { addr, dir, children: vec![api, etcd] };
        real.ready(world).await;
        real.furnish(world).await;
        real
    }

    async fn ready(&mut self, world: &World) {
        let tls = Tls::new(&world.ca.pem(), None, "http/1.1");
        let request = b"GET /readyz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nConnection: close\r\n\r\n";
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            if raw::ask(self.addr, &tls, "GET", request).await.is_ok_and(|r| r.code == 200) {
                return;
            }
            let gone = self.children.iter_mut().any(|c| c.try_wait().unwrap().is_some());
            if gone || Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.join("apiserver.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("kube-apiserver is not ready: {tail:#?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Furnishes the cluster, and waits until it counts.
    async fn furnish(&self, world: &World) {
        furnish(self.addr, world).await;
        let tls = Tls::new(&world.ca.pem(), None, "http/1.1");
        let mark = b"GET /all-is-known HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer gatelog-token\r\n\r\n";
        while raw::ask(self.addr, &tls, "GET", mark).await.unwrap().code == 403 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Creates the namespace that the rows are about, the world's RBAC objects, the rights of the gate's own account, and custom kinds.
pub(crate) async fn furnish(addr: SocketAddr, world: &World) {
    create(addr, world, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}))
        .await;
    for object in world.objects().iter().chain(&gate_account()).chain(&custom::definitions()) {
        create(addr, world, object).await;
    }
}

/// Creates an object as the administrator.
pub(crate) async fn create(addr: SocketAddr, world: &World, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let api = object["apiVersion"].as_str().unwrap();
    let root = if api.contains('/') { format!("/apis/{api}") } else { format!("/api/{api}") };
    let scope = object["metadata"]["namespace"].as_str().map(|ns| format!("/namespaces/{ns}"));
    let path = format!("{root}{}/{}s", scope.unwrap_or_default(), kind.to_lowercase());
    let reply = post(addr, world, &path, object).await;
    assert_eq!(reply.code, 201, "{path}: {}", reply.text());
}

/// Posts this as the administrator.
pub(crate) async fn post(addr: SocketAddr, world: &World, path: &str, object: &Value) -> Reply {
    let body = object.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let tls = Tls::new(&world.ca.pem(), None, "http/1.1");
    raw::ask(addr, &tls, "POST", request.as_bytes()).await.unwrap()
}

/// The rights of the account with which a gate stands in front of a cluster: to impersonate, and nothing else.
fn gate_account() -> Vec<Value> {
    let api = "rbac.authorization.k8s.io";
    let extras = [
        "userextras/authentication.kubernetes.io/credential-id",
        "userextras/foo",
        "userextras/a/b",
        "userextras/Foo",
        "userextras/acme.io/foo",
    ];
    vec![
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": {"name": "gatelog"}, "rules": [
            {"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": extras, "verbs": ["impersonate"]},
            {"nonResourceURLs": ["/all-is-known"], "verbs": ["get"]},
        ]}),
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "gatelog"},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "gatelog"},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "gatelog"}]}),
    ]
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

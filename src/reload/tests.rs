use super::*;
use crate::{
    audit::Audit,
    config,
    demo::pki::{Ca, Client},
    limits::Limits,
    telemetry::Metrics,
    validate::{self, Validate, catalog::Catalog},
};
use prometheus::Registry;
use std::{fs, path::PathBuf};

/// A gate's folder with everything in it, and the gate without a listener.
struct Site {
    dir: PathBuf,
    registry: Registry,
    gateway: Arc<Gateway>,
    reloader: Arc<Reloader>,
}

const RULES: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: b}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}]
";

const GATE: &str = "\
apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {address: '127.0.0.1:0', tlsCertFile: tls.crt, tlsPrivateKeyFile: tls.key}
upstream: {server: 'https://api.test', certificateAuthority: upstream.crt, tokenFile: token}
authentication: {clientCAFile: ca.crt, tokenAuthFile: tokens.csv}
authorization: {rbac: {files: [rules]}}
audit: {dir: audit, policyFile: policy.yaml, signing: {stdout: none}}
";

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";

impl Site {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-reload-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("rules")).unwrap();
        let write = |name: &str, contents: &str| fs::write(dir.join(name), contents).unwrap();
        let pair = Ca::new("gates").unwrap().server(&["gate.test"]).unwrap();
        write("tls.crt", &pair.certificates());
        write("tls.key", &pair.key);
        write("ca.crt", &Ca::new("clients").unwrap().pem());
        write("tokens.csv", "one,alice,1\n");
        write("upstream.crt", &Ca::new("upstream").unwrap().pem());
        write("token", "first");
        write("rules/a.yaml", RULES);
        write("policy.yaml", POLICY);
        write("gatelog.yaml", GATE);
        let config = config::load(&dir.join("gatelog.yaml")).unwrap();
        let registry = Registry::new();
        let shared = authn::Shared::new(authn::Metrics::unregistered(), None);
        let loaded = load(&config, &shared).unwrap();
        let audit = Audit::start(config.audit.clone(), &registry).unwrap();
        let gateway = Gateway::new(
            loaded.snapshot(),
            audit,
            Limits::new(config.limits.clone()),
            Arc::new(Validate::new(
                config.validate.clone(),
                Catalog::new(validate::catalog::Metrics::new(&registry).unwrap()),
                validate::Metrics::new(&registry).unwrap(),
            )),
            Metrics::new(&registry).unwrap(),
            config.gateway.clone(),
        );
        let reloader = Arc::new(Reloader::new(config, shared, gateway.clone(), loaded));
        Self { dir, registry, gateway, reloader }
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.dir.join(name), contents).unwrap();
    }

    async fn look(&self) -> Look {
        self.reloader.check_now().await
    }

    /// Reloads that went well, and that did not.
    fn counted(&self) -> [u64; 2] {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "gatelog_reloads_total");
        ["success", "failure"].map(|result| {
            let of = |m: &&prometheus::proto::Metric| m.get_label().iter().any(|l| l.value() == result);
            let metric = family.and_then(|f| f.get_metric().iter().find(of));
            metric.map_or(0, |m| m.get_counter().get_value() as u64)
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.gateway.audit().shutdown();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn changed(parts: &[&'static str]) -> Look {
    Look::Changed(parts.to_vec())
}

#[tokio::test]
async fn only_what_has_changed_is_made_anew() {
    let site = Site::new("parts");
    assert_eq!(site.look().await, Look::Same);
    let first = site.gateway.snapshot();
    site.write("tokens.csv", "one,alice,1\ntwo,bob,2\n");
    assert_eq!(site.look().await, changed(&["authentication"]));
    let second = site.gateway.snapshot();
    assert_eq!((first.authn.tokens(), second.authn.tokens()), (Some(1), Some(2)));
    assert!(Arc::ptr_eq(&first.authz, &second.authz) && Arc::ptr_eq(&first.forward, &second.forward));
    assert!(Arc::ptr_eq(&first.tls, &second.tls));

    site.write("rules/b.yaml", RULES.replace("name: b}", "name: c}"));
    assert_eq!(site.look().await, changed(&["rules"]));
    site.write("upstream.crt", Ca::new("upstream").unwrap().pem());
    assert_eq!(site.look().await, changed(&["upstream"]));
    site.write("policy.yaml", POLICY.replace("Metadata", "None"));
    assert_eq!(site.look().await, changed(&["audit policy"]));
    site.write("ca.crt", Ca::new("clients").unwrap().pem());
    let pair = Ca::new("gates").unwrap().server(&["new.test"]).unwrap();
    site.write("tls.crt", pair.certificates());
    site.write("tls.key", &pair.key);
    assert_eq!(site.look().await, changed(&["serving pair", "authentication"]));
    assert_eq!(site.look().await, Look::Same);
    assert_eq!(site.counted(), [5, 0]);
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let site = Site::new("refused");
    let first = site.gateway.snapshot();
    let refused = async |site: &Site| match site.look().await {
        Look::Refused(errors) => errors.to_string().replace(&format!("{}/", site.dir.display()), ""),
        other => panic!("{other:?}"),
    };
    // Half of a new pair, and a good change elsewhere: nothing of it is taken up.
    let pair = Ca::new("gates").unwrap().server(&["new.test"]).unwrap();
    site.write("tls.crt", pair.certificates());
    site.write("tokens.csv", "two,bob,2\n");
    let pair_wrong = "gatelog.yaml: listen.tlsCertFile: tls.crt: the certificate and the private key do not belong together (tls.key)";
    assert_eq!(refused(&site).await, pair_wrong);
    assert_eq!(refused(&site).await, pair_wrong);
    assert_eq!(site.counted(), [0, 1]);
    site.write("rules/a.yaml", "kind: Nonsense");
    fs::remove_file(site.dir.join("upstream.crt")).unwrap();
    let all = refused(&site).await;
    assert_eq!(all.lines().count(), 3, "{all}");
    assert!(Arc::ptr_eq(&first, &site.gateway.snapshot()));
    assert_eq!(site.counted(), [0, 2]);
    // All of it comes right.
    site.write("tls.key", &pair.key);
    site.write("rules/a.yaml", RULES);
    site.write("upstream.crt", Ca::new("upstream").unwrap().pem());
    assert_eq!(site.look().await, changed(&["serving pair", "authentication", "upstream"]));
    assert_eq!(site.counted(), [1, 2]);
}

#[tokio::test]
async fn a_swapped_mount_is_noticed() {
    let site = Site::new("mount");
    // A mounted Secret: the file is a link into `..data`, itself a link to a folder that is replaced as a whole.
    let mount = |version: &str, contents: &str| {
        let folder = site.dir.join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tokens.csv"), contents).unwrap();
        let link = site.dir.join("..data");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(version, link).unwrap();
    };
    mount("..1", "one,alice,1\n");
    fs::remove_file(site.dir.join("tokens.csv")).unwrap();
    std::os::unix::fs::symlink("..data/tokens.csv", site.dir.join("tokens.csv")).unwrap();
    assert_eq!(site.look().await, Look::Same);
    mount("..2", "one,alice,1\ntwo,bob,2\n");
    assert_eq!(site.look().await, changed(&["authentication"]));
    assert_eq!(site.gateway.snapshot().authn.tokens(), Some(2));
}

#[tokio::test]
async fn a_new_token_breaks_no_connection() {
    let site = Site::new("token");
    let bearer = || site.gateway.snapshot().forward.endpoint().bearer().unwrap();
    let forward = site.gateway.snapshot().forward.clone();
    assert_eq!(bearer(), "Bearer first");
    site.write("token", "second\n");
    assert_eq!(site.look().await, Look::Same);
    assert_eq!(bearer(), "Bearer second");
    fs::remove_file(site.dir.join("token")).unwrap();
    assert_eq!(site.look().await, Look::Same);
    assert_eq!(site.look().await, Look::Same);
    assert_eq!(bearer(), "Bearer second");
    assert_eq!(site.counted(), [0, 1]);
    assert!(Arc::ptr_eq(&forward, &site.gateway.snapshot().forward));
}

#[tokio::test]
async fn a_removed_ca_ends_trust_on_a_live_connection() {
    use crate::{authn::Conn, request::Asked};
    use http::HeaderMap;
    use rustls::pki_types::CertificateDer;
    let site = Site::new("ca");
    let ca = Ca::new("ours").unwrap();
    site.write("ca.crt", ca.pem());
    assert_eq!(site.look().await, changed(&["authentication"]));
    let alice = ca.client(&Client::new("alice")).unwrap();
    let chain = alice.chain.into_iter().map(CertificateDer::from).collect();
    let conn = Conn::new(([127, 0, 0, 1], 1).into(), chain);
    let asked = Asked::parse(&http::Request::get("/api").body(()).unwrap().into_parts().0).unwrap();
    let authn = |site: &Site| site.gateway.snapshot().authn.clone();
    assert!(authn(&site).authenticate(&conn, conn.peer.ip(), &mut HeaderMap::new(), &asked).await.is_ok());
    site.write("ca.crt", Ca::new("theirs").unwrap().pem());
    assert_eq!(site.look().await, changed(&["authentication"]));
    assert!(authn(&site).authenticate(&conn, conn.peer.ip(), &mut HeaderMap::new(), &asked).await.is_err());
}

#[tokio::test]
async fn the_task_looks_by_itself() {
    let site = Site::new("task");
    site.write("tokens.csv", "one,alice,1\ntwo,bob,2\n");
    let before = site.gateway.snapshot();
    // It begins with a look.
    let task = tokio::spawn(site.reloader.clone().run());
    while Arc::ptr_eq(&before, &site.gateway.snapshot()) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(site.gateway.snapshot().authn.tokens(), Some(2));
    task.abort();
}

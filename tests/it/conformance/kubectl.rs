//! kubectl through a gate to a real cluster, where the gate's account may impersonate and nothing else.

use super::{POLICY, real, real::Real, record, record::Record, world::World};
use crate::scene::{self, Folder, Options};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, process::Command};

const RIGHTS: &str = "
user dev developers
can dev * - configmaps,secrets,serviceaccounts,serviceaccounts/token,pods,pods/log,pods/exec,events,services in=team
can dev * apps deployments,deployments/scale in=team
can dev get,list,watch - namespaces
user viewer
can viewer get,list,watch - configmaps,pods in=team
can lead impersonate - users names=viewer
";

/// What kubectl said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

struct Kubectl<'a> {
    assets: &'a Path,
    folder: &'a Folder,
}

impl Kubectl<'_> {
    async fn run(&self, addr: SocketAddr, user: &str, args: &str, stdin: &str) -> Said {
        let (assets, folder) = (self.assets.to_owned(), self.folder.0.clone());
        let input = folder.join(format!("stdin-{}", addr.port()));
        std::fs::write(&input, stdin).unwrap();
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        let token = format!("{user}-token");
        let done = tokio::task::spawn_blocking(move || {
            Command::new(assets.join("kubectl"))
                .args(["--kubeconfig", "/dev/null", "--request-timeout", "20s", "--server"])
                .arg(format!("https://{addr}"))
                .arg("--certificate-authority")
                .arg(folder.join("ca.crt"))
                .arg("--cache-dir")
                .arg(folder.join(format!("cache-{}", addr.port())))
                .args(["--token", &token])
                .args(args)
                .env_remove("KUBECONFIG")
                .stdin(std::fs::File::open(input).unwrap())
                .output()
                .unwrap()
        });
        let done = done.await.unwrap();
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Said { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_through_the_gate_to_a_real_cluster() {
    let Some(assets) = real::assets() else {
        eprintln!(
            "KUBEBUILDER_ASSETS is not set: kubectl was NOT tried through a gate before a real kube-apiserver"
        );
        return;
    };
    let world = World::new(&[RIGHTS]);
    let real = Real::start(&assets, &world, POLICY).await;
    let folder = Folder::new("kubectl");
    let options = Options { anonymous: true, more: "validation: {mode: enforce}", ..Options::default() };
    let gate = scene::start(&folder, &world, real.addr, options).await;
    let kubectl = Kubectl { assets: &assets, folder: &folder };

    let made = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {a: '1'}\n";
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, image: i}]}\n";
    // Changes go through the gate; what is there afterwards is asked of both.
    for (user, args, stdin, code, part) in [
        ("dev", "apply -n team -f -", made, 0, "configmap/made created"),
        ("dev", "apply -n team -f -", made, 0, "configmap/made unchanged"),
        ("dev", "apply -n team --server-side --force-conflicts -f -", made, 0, "serverside-applied"),
        ("dev", "apply -n team -f -", deployment, 0, "deployment.apps/web created"),
        ("dev", "scale -n team deployment/web --replicas=3", "", 0, "scaled"),
        ("dev", "patch -n team cm/made -p {\"data\":{\"b\":\"2\"}}", "", 0, "patched"),
        ("dev", "label -n team cm/made x=y", "", 0, "labeled"),
        ("dev", "create -n team sa robot", "", 0, "created"),
        ("dev", "create -n team token robot", "", 0, "ey"),
        (
            "dev",
            "create -n default cm no",
            "",
            1,
            "cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\"",
        ),
        ("viewer", "delete -n team cm/made", "", 1, "cannot delete resource \"configmaps\""),
        ("lead", "--as viewer get -n team cm/made", "", 0, "made"),
        ("lead", "--as dev get -n team cm/made", "", 1, "cannot impersonate resource \"users\""),
        ("lead", "get -n team cm/made", "", 1, "cannot get resource \"configmaps\""),
    ] {
        let said = kubectl.run(gate.address(), user, args, stdin).await;
        assert_eq!(said.code, code, "{user}: kubectl {args}: {said:?}");
        assert!(said.out.contains(part) || said.err.contains(part), "{user}: kubectl {args}: {said:?}");
    }
    for (user, args) in [
        ("dev", "version"),
        ("dev", "api-resources"),
        ("dev", "explain deployment.spec.replicas"),
        ("dev", "get -n team cm,deploy,sa"),
        ("dev", "get -n team cm made -o yaml --show-managed-fields"),
        ("dev", "describe -n team deploy/web"),
        ("dev", "get ns -l kubernetes.io/metadata.name=team -o name"),
        ("dev", "get -n team cm --chunk-size=1 -o name"),
        ("dev", "get -n team pods"),
        ("dev", "get -n team cm nothing"),
        ("dev", "get nothings"),
        ("dev", "auth can-i create configmaps -n team"),
        ("dev", "auth can-i create configmaps"),
        ("dev", "auth can-i --list -n team"),
        ("dev", "auth whoami"),
        ("viewer", "get --raw /api/v1/namespaces/team/configmaps/made"),
        ("viewer", "get --raw /version"),
    ] {
        let direct = kubectl.run(real.addr, user, args, "").await;
        let through = kubectl.run(gate.address(), user, args, "").await;
        assert_eq!(direct.code, through.code, "{user}: kubectl {args}\n{direct:?}\n{through:?}");
        // The gate says why not.
        let denied = direct.out == "no\n" && through.out.starts_with("no - ");
        assert!(
            denied || sorted(&direct.out) == sorted(&through.out),
            "{user}: kubectl {args}\n{direct:?}\n{through:?}"
        );
        assert!(
            through.err.starts_with(direct.err.trim_end()),
            "{user}: kubectl {args}\n{direct:?}\n{through:?}"
        );
    }
    one_id_in_both_records(
        &mut Record::at(folder.0.join("audit")),
        &mut Record::at(real.dir.join("audit.log")),
    );
}

/// `auth can-i --list` comes in no order, and ages in a table grow.
fn sorted(text: &str) -> Vec<String> {
    let age = |w: &str| w.starts_with(|c: char| c.is_ascii_digit()) && w.ends_with('s');
    let words =
        |line: &str| line.split(' ').map(|w| if age(w) { "AGE" } else { w }).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(words).collect();
    lines.sort_unstable();
    lines
}

/// The gate's events and the cluster's carry one id; the cluster saw the gate's account as the user, and the caller
/// impersonated.
fn one_id_in_both_records(gate: &mut Record, real: &mut Record) {
    let here = |e: &Value| {
        let how = e["annotations"]["gatelog.dev/self-review"].as_str().unwrap_or_default();
        how.ends_with(" by the gate")
    };
    let forwarded =
        gate.all().iter().filter(|(_, e)| record::line(e).ends_with(" allow") && !e.last().is_some_and(here));
    let mut both = 0;
    for (id, events) in forwarded {
        let Some(upstream) = real.all().get(id) else {
            panic!("{id} is not in the cluster's record: {events:#?}")
        };
        let (mine, theirs) = (events.last().unwrap(), upstream.last().unwrap());
        assert_eq!(theirs["user"]["username"], "gatelog");
        let effective =
            if mine["impersonatedUser"].is_null() { &mine["user"] } else { &mine["impersonatedUser"] };
        assert_eq!(theirs["impersonatedUser"], *effective, "{id}");
        let keep =
            |e: &Value| (e["verb"].clone(), e["requestURI"].clone(), e["responseStatus"]["code"].clone());
        assert_eq!(keep(mine), keep(theirs), "{id}");
        both += 1;
    }
    assert!(both > 30, "only {both} requests are in both records");
}

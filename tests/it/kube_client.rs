//! A real client that is not kubectl: kube, from Rust, through the gate.

use crate::harness::{Gate, PATIENCE, Tweaks};
use futures_core::Stream;
use gatelog::demo::site::{DEVELOPER, User, VIEWER};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config, Error,
    api::{
        AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent,
        WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::pin::Pin;
use tokio::{io::AsyncReadExt as _, time::timeout};

async fn client(gate: &Gate, user: User) -> Client {
    let kubeconfig =
        Kubeconfig::read_from(gate.site.dir().join(format!("{}.kubeconfig", user.name))).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The next item of kube's streams, whose trait is in a crate of its own.
async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    let polled = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
    timeout(PATIENCE, polled).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_rust_works_as_kubectl_does() {
    let mut gate = Gate::start(Tweaks::default()).await;
    let developer = client(&gate, DEVELOPER).await;
    let maps: Api<ConfigMap> = Api::namespaced(developer.clone(), "shop");
    let pods: Api<Pod> = Api::namespaced(developer.clone(), "shop");

    let mut watch = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let made: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "made"}, "data": {"a": "1"}})).unwrap();
    maps.create(&PostParams::default(), &made).await.unwrap();
    let seen = async {
        loop {
            if let WatchEvent::Added(map) = next(&mut watch).await.unwrap()
                && map.metadata.name.as_deref() == Some("made")
            {
                return map.data.unwrap();
            }
        }
    };
    assert_eq!(seen.await["a"], "1");
    drop(watch);

    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let patched = maps.patch("made", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["a"], "2");
    maps.delete("made", &DeleteParams::default()).await.unwrap();

    let web = pods.list(&ListParams::default().labels("app=web").limit(1)).await.unwrap().items.remove(0);
    let web = web.metadata.name.unwrap();
    let logs = pods.logs(&web, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.unwrap();
    assert!(!logs.is_empty());

    let mut session = pods.exec(&web, ["echo", "hello"], &AttachParams::default()).await.unwrap();
    let mut said = String::new();
    session.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello\n");
    session.join().await.unwrap();

    let deployments: Api<Deployment> = Api::namespaced(client(&gate, VIEWER).await, "shop");
    let refused = deployments.delete("web", &DeleteParams::default()).await.unwrap_err();
    let Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert!(
        status.message.starts_with("deployments.apps \"web\" is forbidden: User \"viewer\" cannot delete")
    );

    let record = gate.stop().await;
    record.check();
    let codes = |resource: &str, verb: &str| -> Vec<Value> {
        let last = |e: &&Value| e["verb"] == verb && e["stage"] == "ResponseComplete";
        record.of(resource).filter(last).map(|e| e["responseStatus"]["code"].clone()).collect()
    };
    assert_eq!(codes("configmaps", "create"), [201]);
    assert_eq!(codes("configmaps", "watch"), [200]);
    assert_eq!(codes("configmaps", "patch"), [200]);
    assert_eq!(codes("deployments", "delete"), [403]);
    assert!(codes("pods/exec", "get").contains(&json!(101)), "exec over a WebSocket is a GET");
}

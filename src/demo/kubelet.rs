//! The demo's kubelet: what answers at a pod's `exec`, `attach`, `portforward` and `log`.
//!
//! There are no containers. Commands run in a small built-in shell ([`super::shell`]), logs are made up, and two ports
//! answer. The protocols around them are the real ones: SPDY/3.1 as kubectl spoke it up to 1.30 and still falls back to,
//! and the WebSocket subprotocols since.

mod exec;
mod logs;
mod portforward;
mod upgrade;

use super::{
    answer::{Answer, Failure},
    shell,
};
use bytes::Bytes;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use logs::Log;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Which subresource of a pod is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub {
    /// Run a command.
    Exec,
    /// See and feed what the container's own process says and reads.
    Attach,
    /// Connect to ports.
    PortForward,
    /// Read what the container has printed.
    Log,
}

/// What the kubelet remembers of the pods it was asked about: their files, their logs. Clones share it.
#[derive(Debug, Clone)]
pub struct Kubelet {
    tick: Duration,
    pods: Arc<Mutex<HashMap<String, Arc<Running>>>>,
}

/// A pod that was asked about.
#[derive(Debug)]
struct Running {
    /// Dropped, with the rest, when the pod goes.
    alive: watch::Sender<()>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
}

/// A container that was asked about.
#[derive(Debug)]
struct Container {
    shell: Arc<shell::Container>,
    log: Arc<Log>,
    /// Ends when the pod goes.
    alive: watch::Receiver<()>,
}

impl Default for Kubelet {
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

impl Kubelet {
    /// Containers that print a line every `tick`.
    pub fn new(tick: Duration) -> Self {
        Self { tick, pods: Arc::default() }
    }

    /// Answers one request for a subresource of `pod`, a `v1` Pod as the API server stores it. `upgrade` is what
    /// `hyper::upgrade::on` returned for the request. Does not wait: sessions go on in tasks of their own.
    pub fn serve(
        &self,
        parts: &Parts,
        upgrade: Option<OnUpgrade>,
        pod: &Value,
        sub: Sub,
    ) -> Result<Answer, Failure> {
        let options = Options::read(parts.uri.query().unwrap_or_default());
        if sub == Sub::PortForward {
            if phase(pod) != "Running" {
                let text = format!(
                    "unable to forward port because pod is not running. Current status={}",
                    phase(pod)
                );
                return Err(Failure::bad_request(text));
            }
            return portforward::serve(parts, upgrade, pod, self.running(pod).alive.subscribe());
        }
        let chosen = choose(pod, options.text("container"))?;
        if phase(pod) == "Pending" {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let container = chosen["name"].as_str().unwrap_or_default();
            return Err(Failure::bad_request(format!(
                "container {container:?} in pod {name:?} is waiting to start: ContainerCreating"
            )));
        }
        let container = self.container(pod, chosen);
        match sub {
            Sub::Log => logs::serve(&options, pod, &container),
            _ => exec::serve(parts, upgrade, &options, sub, container),
        }
    }

    /// The pod with this `metadata.uid` is gone: everything that streams from it ends.
    pub fn removed(&self, uid: &str) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn running(&self, pod: &Value) -> Arc<Running> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Running { alive: watch::channel(()).0, containers: Mutex::default() });
        pods.entry(uid.to_owned()).or_insert_with(new).clone()
    }

    fn container(&self, pod: &Value, spec: &Value) -> Arc<Container> {
        let running = self.running(pod);
        let name = spec["name"].as_str().unwrap_or_default();
        let mut containers = running.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Container {
                shell: Arc::new(inside(pod, spec)),
                log: Arc::new(Log::new(pod, name, self.tick)),
                alive: running.alive.subscribe(),
            })
        };
        containers.entry(name.to_owned()).or_insert_with(new).clone()
    }
}

/// The query of a request, decoded.
#[derive(Debug)]
struct Options(Vec<(String, String)>);

impl Options {
    fn read(query: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decoded(&spaced)
        };
        let pairs = query.split('&').filter(|p| !p.is_empty());
        Self(
            pairs
                .map(|p| p.split_once('=').unwrap_or((p, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value; empty counts as none.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// As Kubernetes converts query values: whatever is not `false` or `0` is true, even nothing.
    fn flag(&self, name: &str) -> bool {
        let first = self.0.iter().find(|(n, _)| n == name);
        first.is_some_and(|(_, v)| !v.eq_ignore_ascii_case("false") && v != "0")
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = || {
            let mut ahead = bytes.clone();
            let high = char::from(ahead.next()?).to_digit(16)?;
            let low = char::from(ahead.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        };
        match (byte, escaped()) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// The container that is meant; kube-apiserver asks when there are several.
fn choose<'a>(pod: &'a Value, wanted: Option<&str>) -> Result<&'a Value, Failure> {
    let list = |field: &str| pod["spec"][field].as_array().map_or(&[][..], Vec::as_slice);
    let names = |containers: &[Value]| {
        containers.iter().filter_map(|c| c["name"].as_str()).collect::<Vec<_>>().join(" ")
    };
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (containers, init) = (list("containers"), list("initContainers"));
    match (wanted, containers) {
        (None, [one]) => Ok(one),
        (None, several) => {
            let init = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", names(init))
            };
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]{init}",
                names(several)
            )))
        }
        (Some(name), _) => {
            let mut all = containers.iter().chain(init).chain(list("ephemeralContainers"));
            all.find(|c| c["name"] == name).ok_or_else(|| {
                Failure::bad_request(format!("container {name} is not valid for pod {pod_name}"))
            })
        }
    }
}

/// What a command finds in a container: its variables and a few files.
fn inside(pod: &Value, spec: &Value) -> shell::Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hostname = text(&pod["metadata"]["name"]);
    let (namespace, ip) = (text(&pod["metadata"]["namespace"]), text(&pod["status"]["podIP"]));
    let image = text(&spec["image"]);
    let mut env = std::collections::BTreeMap::from(
        [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOSTNAME", &hostname),
            ("HOME", "/root"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    // What `valueFrom` would give is not known here.
    for variable in spec["env"].as_array().into_iter().flatten().filter(|v| v["value"].is_string()) {
        env.insert(text(&variable["name"]), text(&variable["value"]));
    }
    let files = [
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", format!("127.0.0.1\tlocalhost\n{ip}\t{hostname}\n")),
        (
            "/etc/os-release",
            format!("NAME=\"gatelog demo\"\nID=demo\nPRETTY_NAME=\"A make-believe container of {image}\"\n"),
        ),
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".to_owned()),
        (
            "/etc/resolv.conf",
            format!("search {namespace}.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n"),
        ),
        ("/usr/share/nginx/html/index.html", portforward::page(pod)),
        ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", namespace),
        ("/root/", String::new()),
        ("/tmp/", String::new()),
    ];
    let commands = shell::NAMES.iter().map(|name| (format!("/bin/{name}"), Bytes::new()));
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), Bytes::from(text))).chain(commands);
    shell::Container { hostname, name: text(&spec["name"]), image, env, files: shell::Files::new(files) }
}

#[cfg(test)]
mod tests;

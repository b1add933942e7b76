//! A gate between a scripted upstream and clients that say what they like.

use crate::{
    conformance::{record::Record, world::World},
    raw::{self, Reply, Tls, Wire},
    upstream::{Act, Heard, Upstream},
};
use gatelog::server::Gate;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// Headers with which clients ask to switch protocols.
pub(crate) mod upgrade {
    /// kubectl's before 1.31, and its fallback since.
    pub(crate) const SPDY: [(&str, &str); 3] = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ];

    /// kubectl's since 1.31. The key is RFC 6455's own example; [`ACCEPT`] answers it.
    pub(crate) const WEBSOCKET: [(&str, &str); 5] = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
    ];

    /// A 101 that fits [`SPDY`].
    pub(crate) const SPDY_101: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

    /// A 101 that fits [`WEBSOCKET`].
    pub(crate) const WEBSOCKET_101: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
}

/// A folder of a test's own, removed with it.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// An empty folder.
    pub(crate) fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gatelog-{what}-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("GATELOG_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The three of them.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) upstream: Upstream,
    pub(crate) gate: Gate,
    pub(crate) folder: Folder,
    pub(crate) record: Record,
}

impl Scene {
    /// `rights` are `user`, `can`, ... lines as in the tables of [`crate::conformance`]; anonymous callers are refused.
    pub(crate) async fn new(
        rights: &str,
        script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::with(rights, Options::default(), script).await
    }

    /// The same with another configuration.
    pub(crate) async fn with(
        rights: &str,
        options: Options,
        script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let world = World::new(&[rights]);
        let upstream = Upstream::start(&world.ca, script).await;
        let folder = Folder::new("scene");
        let gate = start(&folder, &world, upstream.addr, options).await;
        let record = Record::at(folder.0.join("audit"));
        Self { world, upstream, gate, folder, record }
    }

    /// The gate's front door.
    pub(crate) fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Whom clients trust.
    pub(crate) fn ca(&self) -> String {
        self.world.ca.pem()
    }

    /// An HTTP/1.1 connection of somebody's (see [`World`] for names).
    pub(crate) async fn wire(&self, who: &str) -> Wire {
        let (certificate, _) = World::credentials(who);
        let tls = Tls::new(&self.ca(), certificate.map(|c| self.world.certificate(c)), "http/1.1");
        Wire::open(self.address(), &tls).await.unwrap()
    }

    /// A request's head, with somebody's token.
    pub(crate) fn head(&self, who: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            head += "Host: gate.example\r\n";
        }
        if let (_, Some(user)) = World::credentials(who) {
            head += &format!("Authorization: Bearer {user}-token\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, who: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        let mut wire = self.wire(who).await;
        wire.send(self.head(who, method, target, headers)).await.unwrap();
        wire.reply(method).await
    }

    /// One request with a body.
    pub(crate) async fn post(&self, who: &str, target: &str, body: &str) -> Reply {
        let length = body.len().to_string();
        let mut request = self.head(
            who,
            "POST",
            target,
            &[("Content-Length", length.as_str()), ("Content-Type", "application/json")],
        );
        request.extend(body.as_bytes());
        let mut wire = self.wire(who).await;
        wire.send(request).await.unwrap();
        wire.reply("POST").await
    }

    /// The events of an answered request, once the last one is there.
    pub(crate) async fn ended(&mut self, reply: &Reply) -> Vec<Value> {
        let id = reply.header("audit-id").unwrap_or_else(|| panic!("no Audit-Id: {reply:?}")).to_owned();
        self.record.events(&id, crate::conformance::record::ended).await
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        raw::plain(self.gate.admin().unwrap(), request).await
    }

    /// A metric's value, all its series together.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|l| l.starts_with(name) && !l.starts_with('#'));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// What differs from one gate to the next.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Whether callers without credentials are let on.
    pub(crate) anonymous: bool,
    /// More keys for the section `listen`.
    pub(crate) listen: &'static str,
    /// More keys for the section `authentication`.
    pub(crate) authentication: String,
    /// More keys for the section `authorization.rbac`.
    pub(crate) rbac: &'static str,
    /// More keys for the section `authorization`.
    pub(crate) authorization: &'static str,
    /// The section `audit` but for its `dir`; empty: `policy: everything`.
    pub(crate) audit: String,
    /// More sections.
    pub(crate) more: &'static str,
}

/// A gate in front of `upstream`, with everything it needs written into `folder`.
pub(crate) async fn start(folder: &Folder, world: &World, upstream: SocketAddr, options: Options) -> Gate {
    let config = write(folder, world, upstream, &options);
    let config = gatelog::config::load(&config).unwrap_or_else(|e| panic!("{e}"));
    gatelog::server::start(config).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Writes the configuration and what it points to; returns its path.
pub(crate) fn write(folder: &Folder, world: &World, upstream: SocketAddr, options: &Options) -> PathBuf {
    let server = world.server();
    folder.put("ca.crt", &world.ca.pem());
    folder.put("upstream-ca.crt", &world.ca.pem());
    folder.put("server.crt", &server.chain);
    folder.put("server.key", &server.key);
    folder.put("tokens.csv", &world.tokens());
    folder.put("gate.token", "gatelog-token");
    let rules = json!({"apiVersion": "v1", "kind": "List", "items": world.objects()});
    folder.put("rbac.yaml", &rules.to_string());
    let Options { anonymous, listen, authentication, rbac, authorization, audit, more } = options;
    let audit = if audit.is_empty() { "policy: everything" } else { audit };
    let anonymous = if *anonymous { ", anonymous: {enabled: true}" } else { "" };
    // An upstream by a script knows nothing of discovery, and is to hear nothing but what the test sends.
    let validation = if more.contains("validation:") { "" } else { "validation: {mode: off}" };
    folder.put(
        "gatelog.yaml",
        &format!(
            "apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {{address: '127.0.0.1:0', tlsCertFile: server.crt, tlsPrivateKeyFile: server.key{listen}}}
upstream: {{server: 'https://{upstream}', certificateAuthority: upstream-ca.crt, tokenFile: gate.token}}
authentication: {{clientCAFile: ca.crt, tokenAuthFile: tokens.csv{anonymous}{authentication}}}
authorization: {{rbac: {{files: [rbac.yaml]{rbac}}}{authorization}}}
audit: {{{audit}, dir: audit, signing: {{stdout: none}}}}
admin: {{address: '127.0.0.1:0'}}
{validation}
{more}
"
        ),
    );
    folder.0.join("gatelog.yaml")
}

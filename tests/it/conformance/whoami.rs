//! Whom the gate and kube-apiserver take a caller for: every kind of credential, put to both with the same
//! AuthenticationConfiguration, the same issuers, front proxies and tokens. `whoami.txt` has the rows and their language.

use super::{
    POLICY,
    real::{self, Real},
    record::{self, Record},
    world::World,
};
use crate::{
    raw::{self, Reply, Tls},
    scene::{self, Folder, Options},
};
use gatelog::{
    demo::{
        apiserver,
        jws::Alg,
        oidc::{self, Provider, Signature},
    },
    server::Gate,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const TABLE: &str = include_str!("whoami.txt");

/// What the gate's own account needs besides the rights of [`real::furnish`].
const RIGHTS: &str = "user alice dev,ops
user carol
can gatelog impersonate authentication.k8s.io *
can gatelog create authentication.k8s.io tokenreviews
paths gatelog get /openid/v1/jwks,/.well-known/openid-configuration
";

const SUBJECT: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const REVIEW: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

/// A credential and who is behind it.
struct Row {
    /// `whoami.txt:line (topic)`
    at: String,
    text: &'static str,
    credential: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    /// Method and target, if not a review.
    request: Option<(&'static str, &'static str)>,
    real: &'static str,
    gate: Option<&'static str>,
    demo: Option<&'static str>,
}

/// Who hands out credentials.
struct Issuers {
    world: World,
    providers: BTreeMap<&'static str, Provider>,
    /// The cluster, and what its service account tokens say of it.
    cluster: SocketAddr,
    cluster_issuer: String,
}

/// A server that is asked.
struct Asked<'a> {
    addr: SocketAddr,
    world: &'a World,
    times: u32,
    /// What the cluster behind a gate records.
    upstream: Option<Record>,
}

// === rows ===

fn rows() -> Vec<Row> {
    let only = std::env::var("CONFORMANCE_ROWS").unwrap_or_default();
    let mut topic = "";
    let mut rows = Vec::new();
    for (number, line) in TABLE.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            topic = title;
        } else if !line.is_empty() && !line.starts_with('#') {
            let at = format!("whoami.txt:{} ({topic})", number + 1);
            rows.push(row(at, line));
        }
    }
    rows.retain(|row| row.at.contains(&only));
    rows
}

fn row(at: String, text: &'static str) -> Row {
    let (left, right) = text.split_once(" => ").unwrap_or_else(|| panic!("{at}: no answer"));
    let mut parts = left.split(" | ");
    let mut row = Row {
        at,
        text,
        credential: parts.next().unwrap(),
        headers: Vec::new(),
        request: None,
        real: "",
        gate: None,
        demo: None,
    };
    for part in parts {
        match part.split_once(' ') {
            Some((method @ ("GET" | "HEAD" | "POST"), target)) => row.request = Some((method, target)),
            _ => {
                let (name, value) =
                    part.split_once(':').unwrap_or_else(|| panic!("{}: not understood: {part}", row.at));
                row.headers.push((name, value.trim_start()));
            }
        }
    }
    for (i, answer) in right.split(" ; ").enumerate() {
        match (i, answer.split_once(' ')) {
            (0, _) => row.real = answer,
            (_, Some(("gate", answer))) => row.gate = Some(answer),
            (_, Some(("demo", answer))) => row.demo = Some(answer),
            _ => panic!("{}: not understood: {answer}", row.at),
        }
    }
    row
}

/// Whether the answer is the expected one, where `~` stands for any text.
fn agrees(want: &str, have: &str) -> bool {
    let (first, rest) = want.split_once('~').map_or((want, None), |(first, rest)| (first, Some(rest)));
    let Some(rest) = rest else { return want == have };
    let Some(mut have) = have.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = rest.split('~').collect();
    let (last, between) = pieces.split_last().unwrap();
    for piece in between {
        let Some(at) = have.find(piece) else { return false };
        have = &have[at + piece.len()..];
    }
    have.ends_with(last)
}

// === credentials ===

impl Issuers {
    async fn new(world: World) -> Self {
        let provider =
            |path: &str| Provider::start(oidc::Options { path: path.into(), ..Default::default() });
        let providers =
            BTreeMap::from([("a", provider("").await.unwrap()), ("b", provider("/realms/b").await.unwrap())]);
        let cluster = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { world, providers, cluster, cluster_issuer: String::new() }
    }

    /// The file that everybody is started with.
    fn configuration(&self) -> String {
        let issuer = |name: &str| {
            let provider = &self.providers[name];
            json!({"url": provider.issuer(), "audiences": [oidc::AUDIENCE, "second"], "audienceMatchPolicy": "MatchAny",
                "certificateAuthority": provider.ca_pem()})
        };
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [
            {"issuer": issuer("a"),
             "claimMappings": {"username": {"claim": "email", "prefix": "p:"}, "groups": {"claim": "groups", "prefix": "g:"},
                "uid": {"claim": "sub"}, "extra": [{"key": "example.com/x", "valueExpression": "claims.?x.orValue('')"}]},
             "claimValidationRules": [{"claim": "hd", "requiredValue": "corp"}],
             "userValidationRules": [{"expression": "!user.username.startsWith('p:system:')", "message": "reserved"}]},
            {"issuer": issuer("b"),
             "claimMappings": {"username": {"expression": "claims.sub"}, "groups": {"expression": "claims.?roles.orValue([])"}}},
        ], "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]}})
        .to_string()
    }

    /// Times and issuers.
    fn resolve(&self, text: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut out = text.replace("$sa", &self.cluster_issuer);
        for (name, provider) in &self.providers {
            out = out.replace(&format!("${name}"), provider.issuer());
        }
        while let Some(at) = out.find("now+").or_else(|| out.find("now-")) {
            let digits = out[at + 4..].bytes().take_while(u8::is_ascii_digit).count();
            let end = at + 4 + digits;
            let by: i64 = out[at + 3..end].parse().unwrap();
            out.replace_range(at..end, &(now + by).to_string());
        }
        out
    }

    /// The bearer token of a row, if it has one besides its headers.
    async fn token(&self, row: &Row) -> Option<String> {
        let text = self.resolve(row.credential);
        let (who, rest) = text.split_once(' ').unwrap_or((&text, ""));
        if let Some(provider) = self.providers.get(who) {
            return Some(jwt(who, provider, rest, &self.resolve(r#"{"exp":now+600}"#)));
        }
        if who == "sa" {
            return Some(self.account_token(rest).await);
        }
        let (_, user) = World::credentials(row.credential);
        user.map(|user| {
            assert!(self.world.knows(user), "{}: nobody knows {user:?}", row.at);
            format!("{user}-token")
        })
    }

    /// A token that the cluster gives out for `NAME [aud=…] [for=…] [tail=…]`.
    async fn account_token(&self, words: &str) -> String {
        let mut spec = json!({"expirationSeconds": 3600});
        let mut words = words.split(' ');
        let name = words.next().unwrap();
        let mut tail = "";
        for word in words {
            match word.split_once('=').unwrap() {
                ("aud", audiences) => spec["audiences"] = audiences.split(',').collect(),
                ("for", "pod") => {
                    spec["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": "whoami"});
                }
                ("for", "secret") => {
                    spec["boundObjectRef"] = json!({"kind": "Secret", "apiVersion": "v1", "name": "whoami"});
                }
                ("tail", text) => tail = text,
                _ => panic!("not understood: {word}"),
            }
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/team/serviceaccounts/{name}/token");
        let reply = real::post(self.cluster, &self.world, &path, &request).await;
        let token =
            reply.json()["status"]["token"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned();
        token + tail
    }

    /// What the service account tokens are bound to.
    async fn furnish(&mut self, cluster: SocketAddr, issuer: &str) {
        self.cluster = cluster;
        self.cluster_issuer = issuer.to_owned();
        let within = |name: &str| json!({"name": name, "namespace": "team"});
        let spec = json!({"serviceAccountName": "bot", "nodeName": "whoami-node", "containers": [{"name": "c", "image": "i"}]});
        for object in [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "whoami-node"}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": within("bot")}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": within("whoami")}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": within("whoami"), "spec": spec}),
        ] {
            real::create(cluster, &self.world, &object).await;
        }
    }
}

/// A token of `provider`, which differs from its good one as `words` say.
fn jwt(name: &str, provider: &Provider, words: &str, time: &str) -> String {
    let mut claims: Map<String, Value> = serde_json::from_str(time).unwrap();
    claims.insert("iss".into(), provider.issuer().into());
    claims.insert("aud".into(), oidc::AUDIENCE.into());
    claims.insert("sub".into(), if name == "a" { "u-1" } else { "jane" }.into());
    if name == "a" {
        claims.insert("email".into(), "jane@corp.example".into());
        claims.insert("hd".into(), "corp".into());
    }
    let (mut alg, mut kid, mut crit, mut tail, mut verbatim) = ("ES256", None, None, "", String::new());
    let mut rest = words.trim();
    while !rest.is_empty() {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut next = after;
        if let Some(text) = rest.strip_prefix('+') {
            verbatim = format!(",{text}");
            next = "";
        } else if rest.starts_with('{') {
            let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<Map<String, Value>>();
            claims.extend(objects.next().unwrap().unwrap());
            next = &rest[objects.byte_offset()..];
        } else if let Some(claim) = word.strip_prefix('-') {
            claims.remove(claim).unwrap();
        } else {
            match word.split_once('=').unwrap_or_else(|| panic!("not understood: {word}")) {
                ("alg", name) => alg = name,
                ("kid", name) => kid = Some(name),
                ("crit", name) => crit = Some(name),
                ("tail", text) => tail = text,
                _ => panic!("not understood: {word}"),
            }
        }
        rest = next.trim_start();
    }
    let known = Alg::ALL.into_iter().find(|known| known.name() == alg);
    let mut header = json!({"alg": alg});
    match kid {
        None => header["kid"] = provider.kid(known.unwrap_or(Alg::Rs256)).into(),
        Some("none") => {}
        Some(kid) => header["kid"] = kid.into(),
    }
    if let Some(crit) = crit {
        header["crit"] = json!([crit]);
        header[crit] = true.into();
    }
    let payload = Value::from(claims).to_string();
    let payload = format!("{}{verbatim}}}", payload.strip_suffix('}').unwrap());
    let public = provider.public_pem(Alg::Rs256);
    let signature = match known {
        Some(alg) => Signature::Good(alg),
        None if alg == "HS256" => Signature::Hmac(public.as_bytes()),
        None => Signature::Bytes(b""),
    };
    provider.mint_raw(&header.to_string(), &payload, signature) + tail
}

// === asking ===

impl Asked<'_> {
    /// name#uid[groups]{extra}, or a code.
    async fn answer(&mut self, row: &Row, token: Option<&str>) -> String {
        let (method, target) = row.request.unwrap_or(("POST", SUBJECT));
        let body = if row.request.is_none() { REVIEW } else { "" };
        let reply = self.send(row, token, method, target, body).await;
        if reply.code != 201 {
            return reply.code.to_string();
        }
        let said = record::user(&reply.json()["status"]["userInfo"]);
        if self.upstream.is_some() {
            let arrived = self.arrived(row, token).await;
            assert_eq!(arrived, said, "{}: who arrived is not who the gate said", row.at);
        }
        said
    }

    /// Whom the cluster takes the caller for. The gate answers a SelfSubjectReview itself, so this asks nothing, which is forwarded.
    async fn arrived(&mut self, row: &Row, token: Option<&str>) -> String {
        let reply = self.send(row, token, "POST", ACCESS, "{}").await;
        let id = reply.header("audit-id").unwrap().to_owned();
        let events = self.upstream.as_mut().unwrap().events(&id, record::ended).await;
        record::user(&events.last().unwrap()["impersonatedUser"])
    }

    async fn send(
        &mut self,
        row: &Row,
        token: Option<&str>,
        method: &str,
        target: &str,
        body: &str,
    ) -> Reply {
        let (certificate, _) = World::credentials(row.credential);
        let tls = Tls::new(&self.world.ca.pem(), certificate.map(|c| self.world.certificate(c)), "http/1.1");
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: gate.example\r\n");
        if method == "POST" {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        if let Some(token) = token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in &row.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("\r\n{body}");
        // The gate looks at only so many failed attempts of one address.
        self.times += 1;
        let from = Ipv4Addr::new(127, 2, (self.times / 250) as u8, (self.times % 250 + 1) as u8);
        raw::ask_from(from, self.addr, &tls, method, request.as_bytes(), false).await.unwrap()
    }

    /// Waits until the issuers' keys are there.
    async fn ready(&mut self, issuers: &Issuers) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for credential in ["a", "b", "sa bot"] {
            let row = row("waiting".into(), Box::leak(format!("{credential} => x").into_boxed_str()));
            let token = issuers.token(&row).await;
            while self.answer(&row, token.as_deref()).await == "401" {
                assert!(Instant::now() < deadline, "{}: {credential} is never believed", self.addr);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Row {
    /// Whether there is a token of the cluster's and nothing else.
    fn is_token(&self) -> bool {
        let who = self.credential.split(' ').next();
        matches!(who, Some("a" | "b" | "sa")) && self.headers.is_empty() && self.request.is_none()
    }
}

/// A gate that knows no issuer and asks the cluster.
async fn asking_gate(issuers: &Issuers) -> (Gate, Folder) {
    let folder = Folder::new("whoami-asking");
    let options =
        Options { authentication: ", tokenReview: {upstream: {}}".to_owned(), ..Options::default() };
    (scene::start(&folder, &issuers.world, issuers.cluster, options).await, folder)
}

/// A gate with everything that proves an identity.
async fn gate(issuers: &Issuers) -> (Gate, Folder) {
    let folder = Folder::new("whoami");
    folder.put("authentication.json", &issuers.configuration());
    folder.put("front-proxy-ca.crt", &issuers.world.proxies.pem());
    let authentication = format!(
        ", authenticationConfigFile: authentication.json, serviceAccount: {{issuers: ['{}']}}, \
         requestheader: {{clientCAFile: front-proxy-ca.crt, allowedNames: [front-proxy]}}",
        issuers.cluster_issuer
    );
    let options = Options { authentication, ..Options::default() };
    (scene::start(&folder, &issuers.world, issuers.cluster, options).await, folder)
}

fn report(wrong: &[String], asked: usize) {
    assert!(wrong.is_empty(), "{} of {asked} rows differ\n{}", wrong.len(), wrong.join("\n"));
}

fn differs(row: &Row, place: &str, want: &str, have: &str) -> String {
    format!("{} {place}: {}\n    want {want}\n    have {have}", row.at, row.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_demo() {
    let mut issuers = Issuers::new(World::new(&[RIGHTS])).await;
    let demo = super::demo(&issuers.world).await;
    issuers.furnish(demo.addr(), apiserver::ISSUER).await;
    let (gate, _folder) = gate(&issuers).await;
    let mut asked = Asked { addr: gate.address(), world: &issuers.world, times: 0, upstream: None };
    asked.ready(&issuers).await;
    let rows = rows();
    let mut wrong = Vec::new();
    for row in &rows {
        let token = issuers.token(row).await;
        let have = asked.answer(row, token.as_deref()).await;
        let want = row.demo.or(row.gate).unwrap_or(row.real);
        if !agrees(want, &have) {
            wrong.push(differs(row, "gate", want, &have));
        }
    }
    report(&wrong, rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: the callers were NOT compared with a real kube-apiserver");
        return;
    };
    let mut issuers = Issuers::new(World::new(&[RIGHTS])).await;
    let (configuration, proxies) = (issuers.configuration(), issuers.world.proxies.pem());
    let files = [("authentication.json", configuration.as_str()), ("front-proxy-ca.crt", proxies.as_str())];
    let flags = [
        "--authentication-config=authentication.json",
        "--requestheader-client-ca-file=front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-uid-headers=X-Remote-Uid",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ];
    let server = Real::start_with(&assets, &issuers.world, POLICY, &files, &flags).await;
    issuers.furnish(server.addr, &format!("https://{}", server.addr)).await;
    let (gate, _folder) = gate(&issuers).await;
    let mut real = Asked { addr: server.addr, world: &issuers.world, times: 0, upstream: None };
    let log = || Some(Record::at(server.dir.join("audit.log")));
    let mut before = Asked { addr: gate.address(), world: &issuers.world, times: 0, upstream: log() };
    let (asking, _other_folder) = asking_gate(&issuers).await;
    let mut delegated = Asked { addr: asking.address(), world: &issuers.world, times: 0, upstream: log() };
    for server in [&mut real, &mut before, &mut delegated] {
        server.ready(&issuers).await;
    }
    let rows = rows();
    let mut wrong = Vec::new();
    for row in &rows {
        let token = issuers.token(row).await;
        let theirs = real.answer(row, token.as_deref()).await;
        let ours = before.answer(row, token.as_deref()).await;
        if !agrees(row.real, &theirs) {
            wrong.push(differs(row, "kube-apiserver", row.real, &theirs));
        }
        // Not only alike: the same, wherever the row does not say that the gate is stricter.
        let same = row.gate.map_or(ours == theirs, |stricter| agrees(stricter, &ours));
        if !same {
            wrong.push(differs(row, "gate", row.gate.unwrap_or(&theirs), &ours));
        }
        if row.is_token() {
            // The cluster has judged it, laxly or not; only that it is nobody is nothing that the gate believes.
            let want = if theirs == "403" { "401" } else { &theirs };
            let ours = delegated.answer(row, token.as_deref()).await;
            if ours != want {
                wrong.push(differs(row, "gate that asks", want, &ours));
            }
        }
    }
    report(&wrong, rows.len());
}

//! The gate answers and records as kube-apiserver does, row by row (see [`rows`] for the tables' language).
//!
//! Every row is asked of a gate in front of the demo's server. Where `KUBEBUILDER_ASSETS` names a folder with
//! `kube-apiserver` and `etcd`, every row is also asked of a real kube-apiserver with the same tokens, certificates, rules and
//! audit policy, and of a gate in front of that one; then the answers and the events must agree, except where a row says
//! that the gate is stricter.

mod access;
mod kubectl;
pub(crate) mod real;
pub(crate) mod record;
mod rows;
mod wellformed;
mod whoami;
pub(crate) mod world;

use crate::{
    raw::{self, Reply, Tls},
    scene::{self, Folder, Options},
};
use gatelog::{
    demo::apiserver::{self, ApiServer},
    server::Gate,
};
use real::Real;
use record::Record;
use rows::{Answer, Row};
use serde_json::Value;
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};
use world::World;

/// Everything is recorded in full, so that the two records can be compared.
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n";

const TABLES: &[(&str, &str)] = &[
    ("request-info.txt", include_str!("conformance/request-info.txt")),
    ("rbac.txt", include_str!("conformance/rbac.txt")),
    ("impersonation.txt", include_str!("conformance/impersonation.txt")),
    ("authentication.txt", include_str!("conformance/authentication.txt")),
    ("errors.txt", include_str!("conformance/errors.txt")),
    ("audit.txt", include_str!("conformance/audit.txt")),
];

/// Whom the rows are asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Real,
    BeforeReal,
    BeforeDemo,
}

/// What came of a row.
struct Outcome {
    reply: Reply,
    events: Vec<Value>,
}

/// An address, and the record of what was asked there.
struct Server<'a> {
    place: Place,
    addr: SocketAddr,
    world: &'a World,
    record: Record,
    asked: usize,
    http2: bool,
}

fn world() -> World {
    let tables: Vec<&str> = TABLES.iter().map(|(_, t)| *t).collect();
    World::new(&tables)
}

/// The rows, or those whose place contains `CONFORMANCE_ROWS`.
fn all_rows() -> Vec<Row> {
    let only = std::env::var("CONFORMANCE_ROWS").unwrap_or_default();
    let rows = TABLES.iter().flat_map(|(file, table)| rows::parse(file, table));
    rows.filter(|r| r.at.contains(&only)).collect()
}

impl Server<'_> {
    /// None: the row cannot be asked over this protocol.
    async fn ask(&mut self, row: &Row) -> Option<Outcome> {
        let (certificate, user) = World::credentials(&row.who);
        let identity = certificate.map(|name| self.world.certificate(name));
        let tls = Tls::new(&self.world.ca.pem(), identity, if self.http2 { "h2" } else { "http/1.1" });
        let mut headers = row.headers.clone();
        if let Some(user) = user {
            assert!(self.world.knows(user), "{}: nobody knows {user:?}", row.at);
            headers.insert(0, ("Authorization".into(), format!("Bearer {user}-token").into()));
        }
        let body = row.body.as_deref().unwrap_or_default();
        if row.body.is_some() {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type".into(), "application/json".into()));
            }
            headers.push(("Content-Length".into(), body.len().to_string().into()));
        }
        // The gate records only so many refusals of strangers from one address.
        self.asked += 1;
        let from = Ipv4Addr::new(127, 1, (self.asked / 250) as u8, (self.asked % 250 + 1) as u8);
        let reply = if self.http2 {
            let request = http2_request(row, &headers)?;
            raw::ask_http2(from, self.addr, &tls, request, body, row.stream).await.unwrap_or_default()
        } else {
            let request = http1_request(row, &headers, body);
            raw::ask_from(from, self.addr, &tls, &row.method, &request, row.stream).await.unwrap_or_default()
        };
        let silent = self.silent(row);
        let events = match reply.header("audit-id") {
            Some(id) => self.record.events(id, |e| silent || record::ended(e)).await,
            None => Vec::new(),
        };
        Some(Outcome { reply, events })
    }

    /// Whether the row expects no event, so that there is nothing to wait for.
    fn silent(&self, row: &Row) -> bool {
        self.expected_audit(row).as_deref() == Some("none")
    }

    fn expected(&self, row: &Row) -> Option<Answer> {
        let stricter = || row.gate.clone().or_else(|| row.real.clone());
        match self.place {
            Place::Real => row.real.clone(),
            Place::BeforeReal => stricter(),
            Place::BeforeDemo => row.demo.clone().or_else(stricter),
        }
    }

    fn expected_audit(&self, row: &Row) -> Option<String> {
        match (self.place, &row.gate_audit, &row.gate) {
            (Place::Real, ..) => row.audit.clone(),
            (_, Some(stricter), _) => Some(stricter.clone()),
            (_, None, Some(Answer { code: 400 | 401, .. })) => Some("S ~ ~ ~ -".into()),
            (_, None, _) => row.audit.clone(),
        }
    }

    /// What is wrong with an outcome, by the row alone.
    fn judge(&self, row: &Row, out: &Outcome) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut differ = |what: &str, want: &str, have: &str| {
            wrong.push(format!("{what}\n      want {want}\n      have {have}"));
        };
        let text = text(&out.reply);
        if let Some(want) = self.expected(row) {
            if want.code != out.reply.code {
                differ("code", &want.code.to_string(), &format!("{} {text}", out.reply.code));
            } else if !self.accepts(&want, &text) {
                differ("text", &want.text, &text);
            }
        }
        let line = record::line(&out.events);
        if let Some(want) = self.expected_audit(row)
            && !record::agrees(&want, &line)
        {
            differ("event", &want, &line);
        }
        if self.place != Place::Real
            && let Some(part) = &row.refused
        {
            let last = out.events.last().cloned().unwrap_or_default();
            let have = last["annotations"]["gatelog.dev/validation"].as_str().unwrap_or("(nothing)");
            if !have.starts_with(&format!("refused: {part}/")) {
                differ("refused by", part, have);
            }
        }
        if let Some(last) = out.events.last() {
            // A stream was hung up after its head: its code is the head's.
            if record::code(last) != u64::from(out.reply.code) && row.audit.is_some() {
                differ("code of the event", &out.reply.code.to_string(), &record::code(last).to_string());
            }
            let pairs =
                [("user", &row.by, "user"), ("impersonatedUser", &row.impersonated, "impersonatedUser")];
            for (what, want, key) in pairs {
                let have = record::user(&last[key]);
                if want.as_ref().is_some_and(|w| *w != have) {
                    differ(what, want.as_deref().unwrap_or_default(), &have);
                }
            }
        }
        for (name, want) in &row.answer_headers {
            let have = out.reply.header(name);
            if have != want.as_deref() {
                differ(name, want.as_deref().unwrap_or("(absent)"), have.unwrap_or("(absent)"));
            }
        }
        wrong
    }

    /// A refusal of the gate ends with the gate's own reason.
    fn accepts(&self, want: &Answer, text: &str) -> bool {
        let own = self.place != Place::Real && want.code == 403;
        want.accepts(text) || (own && text.starts_with(want.text.trim_end_matches('…')))
    }
}

fn http1_request(row: &Row, headers: &[(String, Vec<u8>)], body: &str) -> Vec<u8> {
    let mut request = format!("{} ", row.method).into_bytes();
    request.extend(&row.target);
    request.extend(b" HTTP/1.1\r\nHost: gate.example\r\n");
    for (name, value) in headers {
        request.extend(name.as_bytes());
        request.extend(b": ");
        request.extend(value);
        request.extend(b"\r\n");
    }
    request.extend(b"\r\n");
    request.extend(body.as_bytes());
    request
}

/// None: HTTP/2, or the library that speaks it here, has no such request.
fn http2_request(row: &Row, headers: &[(String, Vec<u8>)]) -> Option<http::Request<()>> {
    let upgrades =
        |name: &str| name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("upgrade");
    let target = std::str::from_utf8(&row.target).ok().filter(|t| t.starts_with('/'))?;
    let mut request =
        http::Request::builder().method(row.method.as_str()).uri(format!("https://gate.example{target}"));
    for (name, value) in headers {
        if upgrades(name) {
            return None;
        }
        // HTTP/1.1 trims what stands around a value, HTTP/2 does not.
        request = request.header(name, value.trim_ascii());
    }
    let request = request.body(()).ok()?;
    (request.uri().path_and_query()?.as_str() == target).then_some(request)
}

/// The message of a Status, a plain text, or the first part of anything else.
fn text(reply: &Reply) -> String {
    let json = reply.json();
    match json["message"].as_str() {
        Some(message) if json["status"] == "Failure" => message.to_owned(),
        _ => reply.text().trim_end().to_owned(),
    }
}

/// Where the gate must agree with the real server beyond what the row itself says.
fn compare(row: &Row, real: &Outcome, gate: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, real: String, gate: String| {
        if real != gate {
            wrong.push(format!("{what}\n      real {real}\n      gate {gate}"));
        }
    };
    if row.gate.is_some() || row.gate_audit.is_some() || !row.only.is_empty() {
        return wrong;
    }
    let reason = |r: &Reply| r.json()["reason"].as_str().unwrap_or_default().to_owned();
    let details = |r: &Reply| r.json()["details"].to_string();
    if real.reply.code >= 400 && !row.stream {
        same("reason", reason(&real.reply), reason(&gate.reply));
        same("details", details(&real.reply), details(&gate.reply));
    }
    if real.reply.code == 403 && !row.stream {
        // The gate's own reason comes after all that kube-apiserver says.
        let (theirs, ours) = (text(&real.reply), text(&gate.reply));
        same("text", theirs.clone(), ours.chars().take(theirs.chars().count()).collect());
    }
    let kind = |r: &Reply| r.header("content-type").unwrap_or_default().to_owned();
    same("content type", kind(&real.reply), kind(&gate.reply));
    same("event", record::line(&real.events), record::line(&gate.events));
    let last = |o: &Outcome| o.events.last().cloned().unwrap_or_default();
    let (r, g) = (last(real), last(gate));
    for key in ["user", "impersonatedUser"] {
        same(key, record::user(&r[key]), record::user(&g[key]));
    }
    for key in ["requestObject", "responseObject"] {
        // The gate records of some bodies a digest, which has no kind; a Status says nothing that responseStatus does not.
        let digest = g[key].is_object() && g[key]["kind"].is_null();
        if !digest && r[key]["kind"] != "Status" && g[key]["kind"] != "Status" {
            same(key, r[key]["kind"].to_string(), g[key]["kind"].to_string());
        }
    }
    for key in ["level", "requestURI", "userAgent"] {
        same(key, r[key].to_string(), g[key].to_string());
    }
    same("code of the event", record::code(&r).to_string(), record::code(&g).to_string());
    wrong
}

fn report(wrong: &[(String, Vec<String>)], asked: usize) {
    if wrong.is_empty() {
        return;
    }
    let mut text = format!("{} of {asked} rows differ\n", wrong.len());
    for (row, differences) in wrong {
        text += &format!("{row}\n    {}\n", differences.join("\n    "));
    }
    panic!("{text}");
}

fn title(row: &Row, place: Place) -> String {
    let target: String = String::from_utf8_lossy(&row.target).chars().take(120).collect();
    format!("{} {place:?}: {} {} {target}", row.at, row.who, row.method)
}

/// Asks every row, and says what is wrong with each outcome by the row alone.
async fn run(server: &mut Server<'_>, rows: &[Row]) -> (Vec<Outcome>, Vec<(String, Vec<String>)>) {
    let mut outcomes = Vec::new();
    let mut wrong = Vec::new();
    for row in rows {
        let mut out = server.ask(row).await;
        // kube-apiserver now and then cuts a connection whose request ran out of time, where it should answer 504.
        if server.place == Place::Real && row.real.as_ref().is_some_and(|want| want.code == 504) {
            for _ in 0..5 {
                if out.as_ref().is_some_and(|out| out.reply.code == 0) {
                    out = server.ask(row).await;
                }
            }
        }
        let Some(out) = out else {
            outcomes.push(Outcome { reply: Reply::default(), events: Vec::new() });
            continue;
        };
        let differences = server.judge(row, &out);
        if !differences.is_empty() {
            wrong.push((title(row, server.place), differences));
        }
        outcomes.push(out);
    }
    (outcomes, wrong)
}

fn rows_for(place: Place) -> Vec<Row> {
    let me = match place {
        Place::Real => "real",
        Place::BeforeReal => "before real",
        Place::BeforeDemo => "demo",
    };
    all_rows().into_iter().filter(|row| row.only.is_empty() || row.only == me).collect()
}

/// A gate with the rows' tokens, certificates and rules, its record, and what keeps both.
async fn gate<'a>(
    world: &'a World,
    place: Place,
    upstream: SocketAddr,
    http2: bool,
) -> (Gate, Folder, Server<'a>) {
    let folder = Folder::new("conformance");
    let options = Options { anonymous: true, more: "validation: {mode: enforce}", ..Options::default() };
    let gate = scene::start(&folder, world, upstream, options).await;
    let record = Record::at(folder.0.join("audit"));
    let server = Server { place, addr: gate.address(), world, record, asked: 0, http2 };
    (gate, folder, server)
}

/// The demo's server with the world's objects.
async fn demo(world: &World) -> ApiServer {
    let tls = apiserver::tls(&world.ca.server(&["127.0.0.1"]).unwrap(), &world.ca).unwrap();
    let mut options = apiserver::Options::new(tls).unwrap();
    options.tokens = HashMap::from([
        ("admin-token".to_owned(), apiserver::Caller::new("admin", &["system:masters"])),
        ("gatelog-token".to_owned(), apiserver::Caller::new("gatelog", &[])),
    ]);
    let demo = ApiServer::start(options).await.unwrap();
    real::furnish(demo.addr(), world).await;
    demo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_demo() {
    ask_before_the_demo(false).await;
}

/// The same questions have the same answers over HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_demo_over_http_2() {
    ask_before_the_demo(true).await;
}

async fn ask_before_the_demo(http2: bool) {
    let world = world();
    let demo = demo(&world).await;
    let (_gate, _folder, mut server) = gate(&world, Place::BeforeDemo, demo.addr(), http2).await;
    let rows = rows_for(Place::BeforeDemo);
    let (outcomes, wrong) = run(&mut server, &rows).await;
    report(&wrong, rows.len());
    let answered = outcomes.iter().filter(|o| o.reply.code != 0).count();
    let upgrades = |row: &&Row| row.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let askable = rows.len() - if http2 { rows.iter().filter(upgrades).count() } else { 0 };
    assert!(answered * 10 > askable * 9, "only {answered} of {askable} rows were answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: the rows were NOT compared with a real kube-apiserver");
        return;
    };
    let world = world();
    let real = Real::start(&assets, &world, POLICY).await;
    let mut server = Server {
        place: Place::Real,
        addr: real.addr,
        world: &world,
        record: Record::at(real.dir.join("audit.log")),
        asked: 0,
        http2: false,
    };
    let rows = rows_for(Place::Real);
    let (answers, wrong) = run(&mut server, &rows).await;
    report(&wrong, rows.len());
    let real = Real::start(&assets, &world, POLICY).await;
    let (_gate, _folder, mut server) = gate(&world, Place::BeforeReal, real.addr, false).await;
    let gate_rows = rows_for(Place::BeforeReal);
    let (gate_answers, mut wrong) = run(&mut server, &gate_rows).await;
    for (row, gate_answer) in gate_rows.iter().zip(&gate_answers) {
        let Some(at) = rows.iter().position(|r| r.at == row.at) else { continue };
        let differences = compare(row, &answers[at], gate_answer);
        if !differences.is_empty() {
            wrong.push((title(row, Place::BeforeReal), differences));
        }
    }
    report(&wrong, gate_rows.len());
}

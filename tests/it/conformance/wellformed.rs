//! Well formed or not: what a cluster takes the gate never refuses, and what it refuses because of its form the gate refuses itself, in
//! the same words.
//!
//! Objects of every kind ([`CORPUS`], and [`custom`] resources with every feature of a schema), as JSON, as YAML, as apply patches and as
//! updates, and as many mutations of them as `WELLFORMED_CASES` says, from the seed `WELLFORMED_SEED`: each is asked of a server and of a
//! gate in front of it, and the answers are compared. Nothing is stored.

pub(super) mod custom;
mod mutate;

use super::{
    POLICY, Place, Record, Server, World, demo, gate,
    real::{self, Real},
    report, rows, run, title, world,
};
use crate::raw::{self, Tls};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use mutate::{Body, Dice};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The custom kind that is there last.
const COLLECTION: &str = "/apis/features.example.com/v1/namespaces/team/everythings";
const CORPUS: &str = include_str!("corpus.txt");

/// What the upstream says of YAML that the gate leaves to it. Of JSON nothing is left.
const LEFT: &[&str] = &[
    // Syntax, and keys that are there twice.
    "yaml: ",
    // Types of plain scalars.
    "cannot unmarshal ",
    "parsing time ",
    "illegal base64 data ",
    "quantities must match ",
    "unable to parse quantity's suffix",
    "time: ",
    // A name that is no string, or is there twice.
    "name must be provided",
];
/// What the upstream says where the gate says something else: a part of each text.
const OTHER_WORDS: &[(&str, &str)] = &[
    // Which of its schemes does not know it is the API server's own affair.
    ("is registered for version", "is registered for version"),
    // The gate repeats no more than an excerpt of a body.
    ("Object 'Kind' is missing in", "Object 'Kind' is missing in"),
    ("apiVersion accessor error", "does not match the expected API version"),
];

/// One question.
struct Ask {
    what: String,
    method: &'static str,
    target: String,
    content_type: &'static str,
    body: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Answer {
    code: u16,
    reason: String,
    message: String,
    warnings: Vec<String>,
    /// What only a real server puts on what it answers.
    marked: bool,
}

/// Somebody to ask, as the administrator.
struct Side(SendRequest<Full<Bytes>>);

#[derive(Default)]
struct Tally {
    asked: usize,
    accepted: usize,
    rejected: usize,
    by_gate: usize,
    /// Refusals that only the upstream found, by the entry of [`LEFT`].
    left: BTreeMap<&'static str, usize>,
    /// Refusals by the gate in a text of its own, by the entry of [`OTHER_WORDS`].
    in_other_words: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Side {
    async fn new(addr: SocketAddr, world: &World) -> Self {
        Self(raw::http2(addr, &Tls::new(&world.ca.pem(), None, "h2")).await.unwrap())
    }

    async fn ask(&self, ask: &Ask) -> Answer {
        let request = Request::builder()
            .method(ask.method)
            .uri(format!("https://gate.example{}", ask.target))
            .header(header::AUTHORIZATION, "Bearer admin-token")
            .header(header::CONTENT_TYPE, ask.content_type)
            .body(Full::new(Bytes::from(ask.body.clone())))
            .unwrap();
        let response = self.0.clone().send_request(request).await;
        let Ok(response) = response else {
            return Answer {
                code: 0,
                reason: String::new(),
                message: response.unwrap_err().to_string(),
                warnings: vec![],
                marked: false,
            };
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let failed = json["status"] == "Failure";
        let warnings = head.headers.get_all(header::WARNING).iter();
        Answer {
            code: head.status.as_u16(),
            reason: if failed { text("reason") } else { String::new() },
            message: if failed { text("message") } else { String::new() },
            warnings: warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect(),
            marked: head.headers.contains_key("x-kubernetes-pf-flowschema-uid"),
        }
    }
}

impl Tally {
    fn judge(&mut self, ask: &Ask, direct: &Answer, gate: &Answer, can_mark: bool) {
        self.asked += 1;
        let by_gate = can_mark && !gate.marked;
        let same = (direct.code, &direct.reason) == (gate.code, &gate.reason);
        let mut wrong = |why: &str| {
            let body: String = String::from_utf8_lossy(&ask.body).chars().take(600).collect();
            self.wrong.push(format!(
                "{why}: {} {} {} {}\n  {body}\n  direct {} {} {}\n  gate   {} {} {}",
                ask.what,
                ask.method,
                ask.target,
                ask.content_type,
                direct.code,
                direct.message,
                direct.warnings.join(" | "),
                gate.code,
                gate.message,
                gate.warnings.join(" | "),
            ));
        };
        if direct.code < 300 {
            self.accepted += 1;
            if ask.target.contains("/selfsubject") && !gate.marked && gate.code == 400 {
                // Some cannot be read in one way only: a hole that is closed on purpose.
            } else if !same {
                wrong("accepted, but not through the gate");
            } else if let Some(lost) = direct.warnings.iter().find(|w| !gate.warnings.contains(w)) {
                wrong(&format!("lost the warning {lost}"));
            } else if gate.warnings.iter().collect::<HashSet<_>>().len() < gate.warnings.len() {
                wrong("warned twice of the same");
            }
            return;
        }
        self.rejected += 1;
        // The demo lets some through that kube-apiserver would not.
        if !can_mark {
            return;
        }
        // The gate answers reviews of one's own rights itself, and reads them more strictly.
        if ask.target.contains("/selfsubject") && by_gate {
            self.by_gate += 1;
            return;
        }
        // A bad patch or update of what is not there.
        let missing = matches!(ask.method, "PATCH" | "PUT") && direct.code == 404;
        // Nothing at all is an object without a name to one, and no object to the other.
        let nothing = ask.body.is_empty() && ask.content_type.ends_with("yaml");
        let left = matches!(direct.code, 400 | 405 | 406 | 413 | 415) && !by_gate;
        if gate.code < 300 {
            wrong("refused, but not through the gate");
        } else if by_gate && !missing && !nothing && !same {
            wrong("refused otherwise");
        } else if by_gate && same && direct.message != gate.message {
            let known = OTHER_WORDS
                .iter()
                .find(|(theirs, ours)| direct.message.contains(theirs) && gate.message.contains(ours));
            match known {
                Some((theirs, _)) => *self.in_other_words.entry(theirs).or_default() += 1,
                None => wrong("in other words"),
            }
        } else if !by_gate && !same && !missing {
            wrong("another answer through the gate");
        } else if left {
            let mut reasons = LEFT.iter().filter(|_| ask.content_type.ends_with("yaml"));
            match reasons.find(|why| direct.message.contains(*why)) {
                Some(why) => *self.left.entry(why).or_default() += 1,
                None => wrong("left to the upstream"),
            }
        }
        self.by_gate += usize::from(by_gate);
    }

    /// # Panics
    /// Something was wrong.
    fn report(self, place: Place) {
        eprintln!(
            "{place:?}: {} asked; {} accepted, all of them through the gate as well unless told below; {} rejected, {} of them by the gate itself",
            self.asked, self.accepted, self.rejected, self.by_gate
        );
        for (what, count) in &self.left {
            eprintln!("  left to the upstream: {count:4} {what}");
        }
        for (what, count) in &self.in_other_words {
            eprintln!("  in other words:       {count:4} {what}");
        }
        assert!(self.accepted * 4 > self.asked, "hardly anything was accepted");
        let shown: Vec<&str> = self.wrong.iter().take(40).map(String::as_str).collect();
        assert!(self.wrong.is_empty(), "{} of {} differ\n{}", self.wrong.len(), self.asked, shown.join("\n"));
    }
}

/// The collection, and an object for it.
fn corpus() -> Vec<(String, Value)> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    let lines: Vec<String> = lines.chain(custom::objects()).collect();
    let object = |line: String| {
        let (path, body) = line.split_once(' ').unwrap();
        (path.to_owned(), serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}")))
    };
    lines.into_iter().map(object).collect()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The ways in which a body can be sent.
fn asks(path: &str, name: &str, body: &Body, validation: &str, which: usize) -> Ask {
    let query = format!("dryRun=All{validation}");
    let what = body.what.clone();
    let ask =
        |method, target, content_type, body| Ask { what: what.clone(), method, target, content_type, body };
    match which {
        0 => ask("POST", format!("{path}?{query}"), "application/json", body.json()),
        1 => ask("POST", format!("{path}?{query}"), "application/yaml", body.yaml()),
        2 => ask(
            "PATCH",
            format!("{path}/{name}?{query}&fieldManager=x"),
            "application/apply-patch+yaml",
            body.json(),
        ),
        3 => ask(
            "PATCH",
            format!("{path}/{name}?{query}&fieldManager=x&force=1"),
            "application/apply-patch+yaml",
            body.yaml(),
        ),
        4 => ask("PUT", format!("{path}/{name}?{query}"), "application/json", body.json()),
        5 => ask("POST", format!("{path}?{query}"), "application/yaml", body.json()),
        _ => ask("PATCH", format!("{path}/{name}?{query}"), "application/merge-patch+json", body.json()),
    }
}

async fn compare(place: Place, direct: SocketAddr, gated: SocketAddr, world: &World) {
    let (direct, gated) = (Side::new(direct, world).await, Side::new(gated, world).await);
    let can_mark = place == Place::BeforeReal;
    let cases = if can_mark { setting("WELLFORMED_CASES", 12) } else { 0 };
    let seed = setting("WELLFORMED_SEED", 1);
    let mut dice = Dice::new(seed);
    let mut tally = Tally::default();
    for (path, object) in corpus() {
        let name = object["metadata"]["name"].as_str().unwrap_or("x").to_owned();
        let whole = Body::of(object);
        let probe = asks(&path, &name, &whole, "&fieldValidation=Strict", 0);
        // The demo does not serve everything, and takes reviews as they come.
        let unserved = path.contains("accessreviews") || direct.ask(&probe).await.code == 404;
        if place == Place::BeforeDemo && unserved {
            continue;
        }
        let mut all: Vec<Ask> =
            (0..7).map(|way| asks(&path, &name, &whole, "&fieldValidation=Strict", way)).collect();
        for _ in 0..cases {
            let mutated = whole.mutated(&mut dice);
            let validation =
                ["", "&fieldValidation=Warn", "&fieldValidation=Ignore", "&fieldValidation=Strict"];
            let way = dice.below(7);
            all.push(asks(&path, &name, &mutated, validation[dice.below(4)], way));
        }
        for ask in &all {
            let (a, b) = tokio::join!(direct.ask(ask), gated.ask(ask));
            tally.judge(ask, &a, &b, can_mark);
        }
    }
    eprintln!("seed {seed}, {cases} mutations of each object");
    tally.report(place);
}

/// Waits until a collection is served.
async fn known(addr: SocketAddr, world: &World, collection: &str) {
    let side = Side::new(addr, world).await;
    let ask = Ask {
        what: String::new(),
        method: "GET",
        target: collection.to_owned(),
        content_type: "application/json",
        body: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while side.ask(&ask).await.code != 200 {
        assert!(Instant::now() < deadline, "{collection} is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_demo() {
    let world = world();
    let demo = demo(&world).await;
    known(demo.addr(), &world, COLLECTION).await;
    let (gate, _folder, _) = gate(&world, Place::BeforeDemo, demo.addr(), true).await;
    compare(Place::BeforeDemo, demo.addr(), gate.address(), &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: nothing was compared with a real kube-apiserver");
        return;
    };
    let world = world();
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n";
    let real = Real::start(&assets, &world, policy).await;
    known(real.addr, &world, COLLECTION).await;
    let (gate, _folder, _) = gate(&world, Place::BeforeReal, real.addr, true).await;
    compare(Place::BeforeReal, real.addr, gate.address(), &world).await;
}

/// Waits until the gate knows what the upstream serves.
async fn knows(gated: SocketAddr, world: &World) {
    let side = Side::new(gated, world).await;
    let ask = Ask {
        what: String::new(),
        method: "GET",
        target: "/api/v1/nothings".into(),
        content_type: "application/json",
        body: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while side.ask(&ask).await.marked {
        assert!(Instant::now() < deadline, "the gate does not know what is served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Row by row: the same answer, and from the gate itself where a row says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beside_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: nothing was compared with a real kube-apiserver");
        return;
    };
    let world = world();
    let real = Real::start(&assets, &world, POLICY).await;
    known(real.addr, &world, COLLECTION).await;
    let only =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "only", "namespace": "team"}});
    real::create(real.addr, &world, &only).await;
    let rows = rows::parse("wellformed.txt", include_str!("wellformed.txt"));
    let record = Record::at(real.dir.join("audit.log"));
    let mut direct =
        Server { place: Place::Real, addr: real.addr, world: &world, record, asked: 0, http2: false };
    let (answers, mut wrong) = run(&mut direct, &rows).await;
    let (_gate, _folder, mut gated) = gate(&world, Place::BeforeReal, real.addr, false).await;
    knows(gated.addr, &world).await;
    let (outcomes, more) = run(&mut gated, &rows).await;
    wrong.extend(more);
    for (row, (direct, gated)) in rows.iter().zip(answers.iter().zip(&outcomes)) {
        let (a, b) = (direct.reply.json(), gated.reply.json());
        let told = |name: &str| a[name] == b[name] || row.gate.is_some() || direct.reply.code < 400;
        // Excerpts of a body are cut at other places.
        let excerpt = a["message"].as_str().is_some_and(|text| text.contains("is missing in"));
        for name in ["reason", "details", "message"] {
            if !(told(name) || excerpt && name == "message") {
                let differs = format!("{name}\n      real {}\n      gate {}", a[name], b[name]);
                wrong.push((title(row, Place::BeforeReal), vec![differs]));
            }
        }
    }
    report(&wrong, rows.len());
}

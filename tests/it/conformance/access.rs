//! May they: the gate's own decisions, a plain reading of RBAC, and kube-apiserver's answer to SubjectAccessReviews agree.
//!
//! `access.txt` has the cases of the documentation, `roles.txt` what view, edit and admin may; `random` draws rules and questions
//! full of traps. `ACCESS_SEEDS` asks for more of those than usual, `ACCESS_SEED` for one of them only.
//!
//! ```text
//! + {kind: Role, …}              an object of rbac.authorization.k8s.io/v1, as YAML on one line
//! rule {verbs: [get], …}         a ClusterRole of this one rule, bound to a user of whom the indented questions below ask
//! refused {kind: Role, …}        an object that kube-apiserver does not take, and we do not read
//! stricter {kind: Role, …}       an object that kube-apiserver takes, and we do not read
//! can, paths, role, bind …       as in `world`
//! WHO VERB WHAT => yes REASON    or `no REASON`; without a reason any true one will do; `; real no`: the server answers otherwise
//! ```
//!
//! WHO is `user[group,3*g]`, the latter standing for g0, g1, g2; WHAT is `group:resource/subresource namespace/name` or `path /p`.
//! `""` is the empty string as a verb or a path.

mod naive;
mod random;

use super::{
    POLICY,
    real::{self, Real},
    world::World,
};
use crate::{
    raw::{self, Tls},
    scene::Folder,
};
use bytes::Bytes;
use gatelog::{
    authz::{self, Authz, Tell},
    codec::yaml,
    identity::User,
    rbac::{self, Decision, Rules},
};
use http_body_util::{BodyExt as _, Full};
use naive::{Question, Truth, What};
use random::Set;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

const TABLE: &str = include_str!("access/access.txt");
const ROLES: &str = include_str!("access/roles.txt");
const API: &str = "rbac.authorization.k8s.io";

/// A question and what must come of it.
#[derive(Debug)]
struct Row {
    at: String,
    question: Question,
    yes: bool,
    /// Empty: any true one.
    reason: String,
    /// Where a real server says otherwise.
    real: Option<bool>,
}

/// The table, read.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    objects: Vec<Value>,
    refused: Vec<(String, Value)>,
    stricter: Vec<(String, Value)>,
}

// === the table ===

fn table() -> Table {
    let mut table = Table::default();
    let (mut topic, mut ruled) = ("", String::new());
    let world = World::new(&[TABLE]);
    table.objects.extend(world.objects().iter().cloned());
    for (number, line) in TABLE.lines().enumerate() {
        let at = format!("access.txt:{} ({topic})", number + 1);
        if let Some(title) = line.strip_prefix("## ") {
            topic = title;
        } else if line.trim().is_empty() || line.starts_with('#') || World::owns(line) {
        } else if let Some(rule) = line.strip_prefix("rule ") {
            ruled = format!("rule-{}", number + 1);
            let subject = json!({"apiGroup": API, "kind": "User", "name": ruled});
            table.objects.push(
                json!({"apiVersion": format!("{API}/v1"), "kind": "ClusterRole", "metadata": {"name": ruled},
                "rules": [value(&at, rule)]}),
            );
            table.objects.push(json!({"apiVersion": format!("{API}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": ruled},
                "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": ruled}, "subjects": [subject]}));
        } else if let Some(object) = line.strip_prefix("+ ") {
            table.objects.push(object_of(&at, object));
        } else if let Some(object) = line.strip_prefix("refused ") {
            table.refused.push((at.clone(), object_of(&at, object)));
        } else if let Some(object) = line.strip_prefix("stricter ") {
            table.stricter.push((at.clone(), object_of(&at, object)));
        } else {
            let line = match line.strip_prefix(' ') {
                Some(rest) => format!("{ruled} {}", rest.trim_start()),
                None => line.to_owned(),
            };
            table.rows.push(row(at, &line));
        }
    }
    table
}

fn value(at: &str, text: &str) -> Value {
    let mut documents = yaml::documents(text).unwrap_or_else(|e| panic!("{at}: {e}"));
    documents.remove(0).value
}

fn object_of(at: &str, text: &str) -> Value {
    let mut object = value(at, text);
    object["apiVersion"] = format!("{API}/v1").into();
    object
}

fn row(at: String, line: &str) -> Row {
    let (question, answer) = line.split_once(" => ").unwrap_or_else(|| panic!("{at}: no answer"));
    let (answer, real) = match answer.split_once(" ; real ") {
        Some((answer, real)) => (answer, Some(real == "yes")),
        None => (answer, None),
    };
    let (word, reason) = answer.split_once(' ').unwrap_or((answer, ""));
    assert!(["yes", "no"].contains(&word), "{at}: {word:?} is no answer");
    let question = asked(&at, question);
    Row { question, yes: word == "yes", reason: reason.to_owned(), real, at }
}

fn asked(at: &str, text: &str) -> Question {
    let words: Vec<&str> = text.split_whitespace().map(|w| if w == "\"\"" { "" } else { w }).collect();
    let [who, verb, what, whom] = words[..] else { panic!("{at}: not a question: {text}") };
    let (user, groups) = match who.strip_suffix(']').and_then(|w| w.split_once('[')) {
        Some((user, groups)) => (user, groups.split(',').flat_map(repeated).collect()),
        None => (who, Vec::new()),
    };
    let what = if what == "path" {
        What::Path(whom.to_owned())
    } else {
        let (group, resource) = what.split_once(':').unwrap_or_else(|| panic!("{at}: no group: {what}"));
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let (namespace, name) = whom.split_once('/').unwrap_or_else(|| panic!("{at}: no name: {whom}"));
        let [group, resource, sub, namespace, name] =
            [group, resource, sub, namespace, name].map(str::to_owned);
        What::Resource { group, resource, sub, namespace, name }
    };
    Question { user: user.to_owned(), groups, verb: verb.to_owned(), what }
}

/// `3*g` is g0, g1, g2.
fn repeated(group: &str) -> Vec<String> {
    match group.split_once('*').and_then(|(n, name)| Some((n.parse::<usize>().ok()?, name))) {
        Some((n, name)) => (0..n).map(|i| format!("{name}{i}")).collect(),
        None => vec![group.to_owned()],
    }
}

/// What view, edit and admin may do: every line of theirs, and of the roles they contain.
fn role_tables() -> BTreeMap<&'static str, BTreeSet<[String; 3]>> {
    let mut tables: BTreeMap<&str, BTreeSet<[String; 3]>> = BTreeMap::new();
    let all = |word: &str| -> Vec<String> {
        let words = word.split(',').flat_map(|w| match w {
            "R" => vec!["get", "list", "watch"],
            "W" => vec!["create", "delete", "deletecollection", "patch", "update"],
            "-" => vec![""],
            other => vec![other],
        });
        words.map(str::to_owned).collect()
    };
    for line in ROLES.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [role, verbs, groups, resources] = words[..] else { panic!("not understood: {line}") };
        let above: &[&str] = match role {
            "view" => &["view", "edit", "admin"],
            "edit" => &["edit", "admin"],
            _ => &["admin"],
        };
        for role in above {
            for verb in all(verbs) {
                for group in all(groups) {
                    for resource in all(resources) {
                        let rights = tables.entry(role).or_default();
                        rights.insert([verb.clone(), group.clone(), resource]);
                    }
                }
            }
        }
    }
    tables
}

/// Every verb on everything that any of the three roles mentions, asked for each of them: exactly the tables' are allowed.
fn role_rows() -> Vec<Row> {
    let tables = role_tables();
    let admin = &tables["admin"];
    let mut verbs: BTreeSet<&str> = admin.iter().map(|[verb, ..]| verb.as_str()).collect();
    verbs.extend(["bind", "escalate", "*"]);
    let mut things: BTreeSet<(&str, &str)> = admin.iter().map(|[_, g, r]| (g.as_str(), r.as_str())).collect();
    // What is allowed in one group is not in another.
    things.extend(admin.iter().map(|[_, _, resource]| ("acme.io", resource.as_str())));
    things.extend([("", "nodes"), ("", "pods/ephemeralcontainers"), ("", "users"), ("", "*"), ("*", "*")]);
    things.insert((API, "clusterroles"));
    let mut rows = Vec::new();
    for (role, rights) in &tables {
        for verb in &verbs {
            for (group, whole) in &things {
                let right = [*verb, *group, *whole].map(str::to_owned);
                let (resource, sub) = whole.split_once('/').unwrap_or((whole, ""));
                let [group, resource, sub, namespace, name] =
                    [*group, resource, sub, "team", "x"].map(str::to_owned);
                let what = What::Resource { group, resource, sub, namespace, name };
                rows.push(Row {
                    at: format!("roles.txt ({role})"),
                    question: Question {
                        user: format!("the-{role}"),
                        groups: Vec::new(),
                        verb: (*verb).to_owned(),
                        what,
                    },
                    yes: rights.contains(&right),
                    reason: String::new(),
                    real: None,
                });
            }
        }
    }
    rows
}

/// The three roles bound in a namespace, and, for a server without a controller manager, the roles that they are made of.
fn role_bindings(aggregated: bool) -> Vec<Value> {
    let binding = |role: &str, user: &str| {
        let name = format!("{user}-{}", role.replace(':', "-"));
        json!({"apiVersion": format!("{API}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": "team"},
            "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": API, "kind": "User", "name": user}]})
    };
    let parts = |role: &str| -> &[&str] {
        match role {
            "view" => &["view"],
            "edit" => &["edit", "view"],
            _ => &["admin", "edit", "view"],
        }
    };
    let each = ["view", "edit", "admin"].into_iter().flat_map(|role| {
        let user = format!("the-{role}");
        match aggregated {
            true => vec![binding(role, &user)],
            false => {
                parts(role).iter().map(|p| binding(&format!("system:aggregate-to-{p}"), &user)).collect()
            }
        }
    });
    each.collect()
}

// === who is asked ===

/// The gate's rules, read from files as it reads them.
struct Ours {
    authz: Authz,
    rules: Arc<Rules>,
}

impl Ours {
    fn of(objects: &[Value], bootstrap: bool) -> Self {
        let folder = Folder::new("access");
        folder.put("rbac.yaml", &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
        let config =
            authz::Config { paths: vec![folder.0.join("rbac.yaml")], bootstrap, ..authz::Config::default() };
        let rules = Arc::new(config.read().unwrap().rules().unwrap_or_else(|e| panic!("{e:#?}")).rules);
        Self { authz: Authz::new(Arc::clone(&rules), Tell::default()), rules }
    }

    fn ask(&self, asked: &Question) -> Result<String, String> {
        let (user, groups, what) = (&asked.user, &asked.groups, asked.attributes());
        let bare = match self.rules.decide(user, groups, what) {
            Decision::Allow(grounds) => Ok(grounds.to_string()),
            Decision::Deny => Err(self.rules.missing(user, groups, what).to_string()),
        };
        // Some names no caller can have; rules may still mention them.
        let Ok(user) = User::new(user, "", groups.clone(), BTreeMap::new()) else { return bare };
        let answer = match self.authz.allows(&user, what) {
            Ok(reason) => Ok(reason.to_string()),
            Err(denial) => Err(denial.missing),
        };
        assert!(user.is_master() || answer == bare, "{asked:?}: {answer:?} {bare:?}");
        answer
    }
}

/// Whether our reader takes an object.
fn readable(object: &Value) -> Result<(), String> {
    let (mut objects, mut problems) = (rbac::Objects::default(), Vec::new());
    rbac::read("access", &object.to_string(), &mut objects, &mut problems);
    problems.first().map_or(Ok(()), |problem| Err(problem.to_string()))
}

/// A server, asked as its administrator over one connection.
#[derive(Clone)]
struct Cluster(hyper::client::conn::http2::SendRequest<Full<Bytes>>, SocketAddr);

impl Cluster {
    async fn at(addr: SocketAddr, world: &World) -> Self {
        let tls = Tls::new(&world.ca.pem(), None, "h2");
        Self(raw::http2(addr, &tls).await.unwrap(), addr)
    }

    async fn post(&mut self, path: &str, object: &Value) -> (u16, Value) {
        let request = http::Request::post(format!("https://{}{path}", self.1))
            .header("authorization", "Bearer admin-token")
            .header("content-type", "application/json")
            .body(Full::from(object.to_string()))
            .unwrap();
        let answer = self.0.send_request(request).await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Whether it takes an object.
    async fn create(&mut self, object: &Value) -> Result<(), String> {
        let metadata = &object["metadata"];
        let scope = metadata["namespace"].as_str().map(|ns| format!("/namespaces/{ns}")).unwrap_or_default();
        let api = object["apiVersion"].as_str().unwrap();
        let root = if api.contains('/') { "apis" } else { "api" };
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        match self.post(&format!("/{root}/{api}{scope}/{kind}s"), object).await {
            (201, _) => Ok(()),
            (code, status) => Err(format!("{code} {}", status["message"])),
        }
    }

    async fn ask(&mut self, asked: &Question) -> Result<String, String> {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (code, review) = self.post(path, &asked.review()).await;
        assert_eq!(code, 201, "{asked:?}: {review}");
        let status = &review["status"];
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        if status["allowed"].as_bool().unwrap() { Ok(reason) } else { Err(reason) }
    }

    /// The answers to all questions, many at a time.
    async fn ask_all(&self, questions: &[Question]) -> Vec<Result<String, String>> {
        let mut asking = Vec::new();
        for part in questions.chunks(questions.len().div_ceil(16).max(1)) {
            let (mut cluster, part) = (self.clone(), part.to_vec());
            asking.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                for question in &part {
                    answers.push(cluster.ask(question).await);
                }
                answers
            }));
        }
        let mut answers = Vec::new();
        for part in asking {
            answers.extend(part.await.unwrap());
        }
        answers
    }

    /// Waits until everything that was created counts: these are created last, and each of the four kinds is watched in order.
    async fn settle(&mut self) {
        let mark = |kind: &str, namespace: &str| {
            let mut object =
                json!({"apiVersion": format!("{API}/v1"), "kind": kind, "metadata": {"name": "mark"}});
            if !namespace.is_empty() {
                object["metadata"]["namespace"] = namespace.into();
            }
            object
        };
        let rules = json!([{"verbs": ["mark"], "apiGroups": ["mark"], "resources": ["marks"]}]);
        for (role, binding, namespace) in
            [("ClusterRole", "ClusterRoleBinding", ""), ("Role", "RoleBinding", "team")]
        {
            let (mut role_mark, mut bound) = (mark(role, namespace), mark(binding, namespace));
            role_mark["rules"] = rules.clone();
            bound["roleRef"] = json!({"apiGroup": API, "kind": role, "name": "mark"});
            bound["subjects"] =
                json!([{"apiGroup": API, "kind": "User", "name": format!("mark-{namespace}")}]);
            for object in [role_mark, bound] {
                self.create(&object).await.unwrap();
            }
            let what = format!("mark-{namespace} mark mark:marks {namespace}/");
            while self.ask(&asked("mark", &what)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }
}

// === the comparisons ===

fn report(what: &str, wrong: &[String], asked: usize) {
    let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{what}: {} of {asked} differ, the first of them:\n{shown}", wrong.len());
}

/// What is wrong with an answer by its row and by what is true.
fn judge(row: &Row, truth: &Truth, answer: &Result<String, String>, real: bool) -> Option<String> {
    let at = &row.at;
    let otherwise = row.real.filter(|_| real);
    if answer.is_ok() != otherwise.unwrap_or(row.yes) {
        return Some(format!(
            "{at}: expected {}: {answer:?} to {:?}",
            if row.yes { "yes" } else { "no" },
            row.question
        ));
    }
    if otherwise.is_some() {
        return None;
    }
    let (Ok(text) | Err(text)) = answer;
    if !row.reason.is_empty() && *text != row.reason {
        return Some(format!("{at}: want {:?}, have {text:?}", row.reason));
    }
    Some(format!("{at}: {} to {:?}", truth.judge(answer)?, row.question))
}

fn bootstrap() -> Vec<Value> {
    let documents = authz::source::BOOTSTRAP.iter().flat_map(|(_, text)| yaml::documents(text).unwrap());
    documents.map(|d| d.value).collect()
}

/// The objects of so many sets, and their questions; objects that we do not read go to the second list.
fn random_sets(seeds: std::ops::Range<u64>, each: usize) -> (Vec<Value>, Vec<Value>, Vec<Question>) {
    let only = std::env::var("ACCESS_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let (mut good, mut bad, mut questions) = (Vec::new(), Vec::new(), Vec::new());
    for seed in only.map_or(seeds, |seed| seed..seed + 1) {
        let mut set = Set::new(seed);
        let (own, others) = set.objects().into_iter().partition::<Vec<_>, _>(|o| readable(o).is_ok());
        questions.extend((0..each).map(|_| set.question(&own)));
        good.extend(own);
        bad.extend(others);
    }
    (good, bad, questions)
}

/// How many sets of random rules: this many, or as many as the environment says.
fn sets(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("ACCESS_SEEDS").ok().map(|n| n.parse::<u64>().unwrap());
    0..wanted.unwrap_or(usual)
}

#[test]
fn the_cases_are_decided_as_documented() {
    let mut table = table();
    table.rows.extend(role_rows());
    table.objects.extend(role_bindings(true));
    let ours = Ours::of(&table.objects, true);
    let mut objects = bootstrap();
    objects.extend(table.objects.iter().cloned());
    naive::aggregate(&mut objects);
    let wrong: Vec<String> = table
        .rows
        .iter()
        .filter_map(|row| judge(row, &Truth::of(&objects, &row.question), &ours.ask(&row.question), false))
        .collect();
    report("the gate's own decisions", &wrong, table.rows.len());
    for (at, object) in table.refused.iter().chain(&table.stricter) {
        assert!(readable(object).is_err(), "{at}: is read");
    }
    let yes = table.rows.iter().filter(|row| row.yes).count();
    println!(
        "{} questions, {yes} of them allowed; {} objects are not read, {} of them though kube-apiserver takes them",
        table.rows.len(),
        table.refused.len() + table.stricter.len(),
        table.stricter.len()
    );
}

#[test]
fn random_rules_are_decided_as_a_plain_reading_decides_them() {
    let (mut asked, mut allowed, mut wrong) = (0, 0, Vec::new());
    for seed in sets(150) {
        let (mut objects, _, questions) = random_sets(seed..seed + 1, 80);
        let ours = Ours::of(&objects, false);
        naive::aggregate(&mut objects);
        for question in &questions {
            let truth = Truth::of(&objects, question);
            let answer = ours.ask(question);
            allowed += usize::from(answer.is_ok());
            asked += 1;
            wrong.extend(truth.judge(&answer).map(|w| format!("seed {seed}: {question:?}: {w}")));
        }
    }
    report("random rules", &wrong, asked);
    println!("{asked} random questions, {allowed} of them allowed");
    assert!(
        allowed * 10 > asked && allowed * 2 < asked,
        "a poor choice of questions: {allowed} of {asked} allowed"
    );
}

/// The demo's server decides by the same index, but reads its objects from its own store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_answers_reviews_alike() {
    let world = World::new(&[]);
    let demo = super::demo(&world).await;
    let mut cluster = Cluster::at(demo.addr(), &world).await;
    let (mut objects, _, questions) = random_sets(0..6, 60);
    for object in &mut objects {
        object.as_object_mut().unwrap().remove("aggregationRule");
    }
    for name in ["ra", "rb"] {
        namespace(&mut cluster, name).await;
    }
    for object in &objects {
        cluster.create(object).await.unwrap_or_else(|e| panic!("{object}: {e}"));
    }
    let answers = cluster.ask_all(&questions).await;
    let wrong: Vec<String> = questions
        .iter()
        .zip(&answers)
        .filter_map(|(q, a)| Some(format!("{q:?}: {}", Truth::of(&objects, q).judge(a)?)))
        .collect();
    report("the demo's reviews", &wrong, questions.len());
    println!("{} SubjectAccessReviews of the demo", questions.len());
}

async fn namespace(cluster: &mut Cluster, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    cluster.create(&object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: decisions were NOT compared with a real kube-apiserver");
        return;
    };
    let world = World::new(&[]);
    let real = Real::start(&assets, &world, POLICY).await;
    let mut cluster = Cluster::at(real.addr, &world).await;
    for name in ["ra", "rb"] {
        namespace(&mut cluster, name).await;
    }
    let mut table = table();
    table.rows.extend(role_rows());
    let (mut drawn, bad, questions) = random_sets(sets(12), 500);
    for object in &mut drawn {
        object.as_object_mut().unwrap().remove("aggregationRule");
    }
    let mut written: Vec<&Value> = Vec::new();
    let own = role_bindings(false);
    for object in table.objects.iter().chain(&own).chain(&drawn) {
        cluster.create(object).await.unwrap_or_else(|e| panic!("only we read {object}: {e}"));
        written.push(object);
    }
    let mut looser = Vec::new();
    for (at, object) in &table.refused {
        if cluster.create(object).await.is_ok() {
            looser.push(format!("{at}: is taken by the server"));
        }
    }
    for object in &bad {
        if cluster.create(object).await.is_ok() {
            looser.push(format!("is taken by the server: {object}, but {:?}", readable(object)));
        }
    }
    report("objects that we do not read", &looser, bad.len() + table.refused.len());
    for (at, object) in &table.stricter {
        cluster.create(object).await.unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    cluster.settle().await;

    let mut objects = bootstrap();
    objects.extend(written.into_iter().cloned());
    let mut wrong = Vec::new();
    let asked: Vec<Question> = table.rows.iter().map(|row| row.question.clone()).collect();
    let answers = cluster.ask_all(&asked).await;
    for (row, answer) in table.rows.iter().zip(&answers) {
        wrong.extend(judge(row, &Truth::of(&objects, &row.question), answer, true));
    }
    report("the server by the table", &wrong, asked.len());

    let written = objects.split_off(bootstrap().len());
    let ours = Ours::of(&written, true);
    objects.extend(written);
    let answers = cluster.ask_all(&questions).await;
    for (question, theirs) in questions.iter().zip(&answers) {
        let truth = Truth::of(&objects, question);
        let own = ours.ask(question);
        wrong.extend(truth.judge(&own).map(|w| format!("gate: {question:?}: {w}")));
        wrong.extend(truth.judge(theirs).map(|w| format!("server: {question:?}: {w}")));
        if own.is_ok() != theirs.is_ok() {
            wrong.push(format!("{question:?}: gate {own:?}, server {theirs:?}"));
        }
    }
    report("random rules before a real server", &wrong, questions.len());
    let allowed = answers.iter().filter(|a| a.is_ok()).count();
    println!(
        "gate and kube-apiserver agree on {} cases and on {} random questions ({allowed} allowed) about {} random objects, and both refuse {} more",
        table.rows.len(),
        questions.len(),
        drawn.len(),
        bad.len() + table.refused.len()
    );
}

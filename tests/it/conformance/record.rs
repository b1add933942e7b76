//! Reads audit events, kube-apiserver's and the gate's, and says one request's in a line.

use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A growing log of audit events: a file, or a folder of `*.jsonl`.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    read: HashMap<PathBuf, u64>,
    events: HashMap<String, Vec<Value>>,
}

impl Record {
    /// Follows this file, or the files of this folder.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: HashMap::new(), events: HashMap::new() }
    }

    /// The events of one request once `done` holds for them, or what there is after two seconds.
    pub(crate) async fn events(&mut self, id: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            self.catch_up();
            let events = self.events.get(id).map_or(&[][..], Vec::as_slice);
            if done(events) || Instant::now() > deadline {
                return events.to_vec();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every event so far, by audit id.
    pub(crate) fn all(&mut self) -> &HashMap<String, Vec<Value>> {
        self.catch_up();
        &self.events
    }

    fn catch_up(&mut self) {
        for path in self.files() {
            let Ok(mut file) = fs::File::open(&path) else { continue };
            let at = self.read.entry(path).or_default();
            let mut text = String::new();
            if file.seek(SeekFrom::Start(*at)).is_err() || file.read_to_string(&mut text).is_err() {
                continue;
            }
            let whole = text.rfind('\n').map_or(0, |n| n + 1);
            *at += whole as u64;
            for line in text[..whole].lines() {
                let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if event["kind"] == "Event" {
                    let id = event["auditID"].as_str().unwrap_or_default().to_owned();
                    self.events.entry(id).or_default().push(event);
                }
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        if !self.path.is_dir() {
            return vec![self.path.clone()];
        }
        let mut files: Vec<PathBuf> = fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| is_jsonl(p))
            .collect();
        files.sort();
        files
    }
}

fn is_jsonl(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "jsonl")
}

/// The stages of these events: `R`equestReceived, response`S`tarted, response`C`omplete, `P`anic.
pub(crate) fn stages(events: &[Value]) -> String {
    let letter = |e: &Value| match e["stage"].as_str() {
        Some("RequestReceived") => 'R',
        Some("ResponseStarted") => 'S',
        Some("ResponseComplete") => 'C',
        Some("Panic") => 'P',
        _ => '?',
    };
    events.iter().map(letter).collect()
}

/// Whether no further event of this request is to come.
pub(crate) fn ended(events: &[Value]) -> bool {
    let stranger = |e: &Value| e["user"].as_object().is_some_and(serde_json::Map::is_empty);
    let single = matches!(events, [only] if stages(events) == "S" && stranger(only));
    single || events.last().is_some_and(|e| e["stage"] == "ResponseComplete" || e["stage"] == "Panic")
}

/// `RC list v1:pods default/ forbid`
pub(crate) fn line(events: &[Value]) -> String {
    let Some(last) = events.last() else { return "none".into() };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let object = &last["objectRef"];
    let (what, whom) = if object.is_null() {
        ("-".to_owned(), "/".to_owned())
    } else {
        let group = text(&object["apiGroup"]);
        let slash = if group.is_empty() { "" } else { "/" };
        let sub = text(&object["subresource"]);
        let sub = if sub.is_empty() { sub } else { format!("/{sub}") };
        (
            format!("{group}{slash}{}:{}{sub}", text(&object["apiVersion"]), text(&object["resource"])),
            format!("{}/{}", text(&object["namespace"]), text(&object["name"])),
        )
    };
    let decision = last["annotations"]["authorization.k8s.io/decision"].as_str().unwrap_or("-");
    format!("{} {} {what} {whom} {decision}", stages(events), text(&last["verb"]))
}

/// `name#uid[group,group]{key=a|b}`; `-` for none.
pub(crate) fn user(user: &Value) -> String {
    let list = |v: &Value, by: &str| {
        let items: Vec<&str> = v.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        items.join(by)
    };
    if user.as_object().is_none_or(serde_json::Map::is_empty) {
        return "-".into();
    }
    let mut out = user["username"].as_str().unwrap_or_default().to_owned();
    if let Some(uid) = user["uid"].as_str() {
        out += &format!("#{uid}");
    }
    out += &format!("[{}]", list(&user["groups"], ","));
    if let Some(extra) = user["extra"].as_object() {
        let mut pairs: Vec<String> = extra.iter().map(|(k, v)| format!("{k}={}", list(v, "|"))).collect();
        pairs.sort();
        out += &format!("{{{}}}", pairs.join(";"));
    }
    out
}

/// The code of an event's responseStatus, 0 if it has none.
pub(crate) fn code(event: &Value) -> u64 {
    event["responseStatus"]["code"].as_u64().unwrap_or(0)
}

/// Whether a line is as a row expects it, `~` standing for any word.
pub(crate) fn agrees(expected: &str, line: &str) -> bool {
    let (want, have): (Vec<&str>, Vec<&str>) = (expected.split(' ').collect(), line.split(' ').collect());
    want.len() == have.len() && want.iter().zip(&have).all(|(w, h)| *w == "~" || w == h)
}

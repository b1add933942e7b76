//! The reference implementation's answers to a few thousand request lines: what the gate accepts it must understand in
//! the same way, and what it refuses must be one of the things that it says it refuses.

use gatelog::request::{
    RequestInfo, Target,
    selector::{FieldSelector, LabelSelector},
};
use http::{Method, uri::PathAndQuery};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LINES: &str = include_str!("../golden/request-info.jsonl");

#[test]
fn request_info_equals_the_original() {
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut equal, mut failed) = (0, 0);
    for (number, line) in LINES.lines().enumerate() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let at = format!("line {}: {} {}", number + 1, golden["method"], golden["target"]);
        let accepted = match accept(&golden) {
            Ok(accepted) => accepted,
            Err(why) => {
                *refused.entry(why).or_default() += 1;
                continue;
            }
        };
        let (method, target) = accepted;
        let info = RequestInfo::parse(&method, &target);
        match golden["status"].as_u64() {
            Some(500) => {
                let error = info.expect_err(&at);
                let text = golden["error"].as_str().unwrap().replace('&', "&amp;");
                assert_eq!(error.code, 500, "{at}");
                assert!(error.message.ends_with(&text), "{at}: {}", error.message);
                failed += 1;
            }
            Some(status) => panic!("{at}: accepted, but the original answers {status}"),
            None => {
                let info = info.expect(&at);
                assert_eq!(answer(&info, &golden["want"]), golden["want"], "{at}");
                equal += 1;
            }
        }
    }
    // What it takes for this test to mean something.
    println!("{equal} equal, {failed} failed alike, refused: {refused:#?}");
    assert_eq!(equal + failed + refused.values().sum::<usize>(), 3013);
    assert!(equal >= 1000 && failed >= 5, "{equal} equal, {failed} failed alike");
}

/// The method and target of a line, or the class of reason for which the gate refuses it.
fn accept(golden: &Value) -> Result<(Method, Target), &'static str> {
    let bytes = |field: &str| {
        let text = golden[field].as_str().unwrap();
        let latin1 = golden["latin1"] == true;
        if latin1 {
            text.chars().map(|c| u8::try_from(c).unwrap()).collect()
        } else {
            text.as_bytes().to_vec()
        }
    };
    let method = Method::from_bytes(&bytes("method")).map_err(|_| "method")?;
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
        let any = Target::parse("/").unwrap();
        assert_eq!(RequestInfo::parse(&method, &any).unwrap_err().code, 400, "{method}");
        return Err("method");
    }
    let target = bytes("target");
    let why = reason_to_refuse(&target);
    // A target that is not even text never leaves the HTTP library.
    let Ok(text) = String::from_utf8(target) else { return Err(why.expect("not UTF-8")) };
    match (Target::parse(&text), why) {
        (Ok(target), None) => {
            assert_eq!(target.raw(), text);
            Ok((method, target))
        }
        (Err(bad), Some(why)) => {
            assert_eq!(bad.code, 400);
            Err(why)
        }
        (Ok(_), Some(why)) => panic!("{text:?} accepted, expected a refusal: {why}"),
        (Err(bad), None) => panic!("{text:?} refused without one of the known reasons: {bad}"),
    }
}

/// The gate's rules once more, in plain words and with no thought of speed.
fn reason_to_refuse(target: &[u8]) -> Option<&'static str> {
    let Ok(target) = std::str::from_utf8(target) else { return Some("raw byte") };
    if !target.starts_with('/') {
        return Some("not origin-form");
    }
    if target.contains('#') {
        return Some("fragment");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let proxy = match segments.as_slice() {
        ["api", "v1", "namespaces", _, "pods" | "services", _, "proxy", _, ..] => Some(7),
        ["api", "v1", "nodes", _, "proxy", _, ..] => Some(5),
        _ => None,
    };
    let (head, tail) = segments.split_at(proxy.unwrap_or(segments.len()));
    for (i, segment) in head.iter().enumerate() {
        if segment.is_empty() && i + 1 < segments.len() {
            return Some("empty segment");
        }
        if *segment == "." || *segment == ".." {
            return Some("dot segment");
        }
        if segment.contains(';') {
            return Some("; in the path");
        }
        if segment.contains('\\') {
            return Some("backslash");
        }
    }
    let head = head.join("/");
    match unescape(&head) {
        Err(()) => return Some("broken escape"),
        Ok(escaped) if escaped.iter().any(|b| b"/\\.%\x7f".contains(b) || *b < 0x20) => {
            return Some("forbidden escape");
        }
        Ok(_) => {}
    }
    let tail = tail.join("/").to_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    if tail.split('/').any(|s| s == "." || s == "..") {
        return Some("dot segment behind proxy/");
    }
    if tail.contains('\\') {
        return Some("backslash behind proxy/");
    }
    let read = if proxy.is_some() { head } else { format!("{head}?{query}") };
    if proxy.is_none() {
        if query.contains(';') {
            return Some("; in the query");
        }
        if query.split('&').count() > 10_000 {
            return Some("too many parameters");
        }
    }
    if unescape(&read).is_err() {
        return Some("broken escape");
    }
    if decode(&read).is_err() {
        return Some("not UTF-8");
    }
    if read.bytes().any(|b| !b.is_ascii_graphic()) || target.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Some("raw byte");
    }
    PathAndQuery::try_from(target).is_err().then_some("no URI for the HTTP library")
}

/// The bytes that stand escaped in `text`.
fn unescape(text: &str) -> Result<Vec<u8>, ()> {
    text.split('%')
        .skip(1)
        .map(|rest| {
            let digits = rest.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(())?;
            u8::from_str_radix(digits, 16).map_err(|_| ())
        })
        .collect()
}

fn decode(text: &str) -> Result<String, ()> {
    let mut pieces = text.split('%');
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for (piece, byte) in pieces.zip(unescape(text)?) {
        out.push(byte);
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(out).map_err(|_| ())
}

/// The gate's answer in the form of the golden one. Two members come from there: `apiPrefix` and `parts`, which nothing here depends on;
/// and so does the path of a resource request, where a tail behind `proxy/` stays undecoded.
fn answer(info: &RequestInfo, want: &Value) -> Value {
    let mut answer = json!({
        "isResourceRequest": info.is_resource(),
        "path": if info.is_resource() { want["path"].clone() } else { info.path().into() },
        "verb": info.verb().as_str(),
        "apiPrefix": want["apiPrefix"],
        "apiGroup": info.group(),
        "apiVersion": info.version(),
        "namespace": info.namespace(),
        "resource": info.resource(),
        "subresource": info.subresource(),
        "name": info.name(),
        "parts": want["parts"],
        "fieldSelector": info.field_selector().unwrap_or_default(),
        "labelSelector": info.label_selector().unwrap_or_default(),
        "longRunning": info.is_long_running(),
    });
    match info.field_selector().map(FieldSelector::parse) {
        Some(Ok(selector)) => {
            let requirements = selector.requirements.iter().map(|r| {
                json!({"key": r.field, "operator": if r.equal { "=" } else { "!=" }, "values": [r.value]})
            });
            set(&mut answer, "fieldRequirements", requirements.collect());
        }
        Some(Err(_)) => answer["fieldError"] = true.into(),
        None => {}
    }
    match info.label_selector().map(LabelSelector::parse) {
        Some(Ok(selector)) => {
            let requirements = selector
                .requirements
                .iter()
                .map(|r| json!({"key": r.key, "operator": r.operator.as_str(), "values": r.values}));
            set(&mut answer, "labelRequirements", requirements.collect());
        }
        Some(Err(_)) => answer["labelError"] = true.into(),
        None => {}
    }
    // The audit event's text, which is the target as it came.
    if let Some(uri) = want.get("requestURI") {
        answer["requestURI"] = uri.clone();
    }
    answer
}

fn set(answer: &mut Value, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        answer[key] = list.into();
    }
}

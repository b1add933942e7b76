//! Bodies as Go reads them: rows made by `encoding/json` and `sigs.k8s.io/yaml` as Kubernetes 1.36 has them.

use base64::{Engine, engine::general_purpose::STANDARD};
use gatelog::codec::{
    document::Undecodable,
    goyaml::{self, Limits, Refused},
    tape::{Tape, Unreadable},
};
use serde::Deserialize;
use serde_json::Value;
use std::cell::Cell;

#[derive(Deserialize)]
struct Text {
    body: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    offset: usize,
}

#[test]
fn what_is_no_json_is_told_in_gos_words() {
    for line in include_str!("../golden/json-text.jsonl").lines() {
        let row: Text = serde_json::from_str(line).unwrap();
        let body = STANDARD.decode(row.body).unwrap();
        let shown = String::from_utf8_lossy(&body);
        match Tape::of_bytes(&body, 10_000, &Cell::new(1 << 20)) {
            Ok(_) => assert_eq!(row.error, "", "{shown}"),
            Err(why) => {
                assert_eq!(Undecodable::from(why).to_string(), row.error, "{shown}");
                // Go counts the byte that is wrong as read.
                let Unreadable::Syntax(syntax) = why else { panic!("{shown}") };
                let early = syntax.offset == body.len();
                assert_eq!(syntax.offset + usize::from(!early), row.offset, "{shown}");
            }
        }
    }
}

#[derive(Deserialize)]
struct Yaml {
    text: String,
    json: Option<String>,
    error: Option<String>,
    strict: Option<String>,
}

#[test]
fn yaml_is_read_as_kubernetes_reads_it_or_left_open() {
    let limits = Limits { nodes: 1 << 18, json: 16 << 20 };
    let mut open = 0;
    for line in include_str!("../golden/yaml-text.jsonl").lines() {
        let row: Yaml = serde_json::from_str(line).unwrap();
        let shown = &row.text;
        match goyaml::to_json(shown, limits) {
            Ok(read) => {
                let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
                let want = row.json.unwrap_or_else(|| panic!("{shown:?}: {:?}", row.error));
                assert_eq!(value(&read.json), value(&want), "{shown:?}");
                let lines: String = read.duplicates.iter().map(|line| format!("\n  {line}")).collect();
                let strict = (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{lines}"));
                assert_eq!(strict, row.strict, "{shown:?}");
            }
            Err(Refused::No(why)) => assert_eq!(Some(why), row.error, "{shown:?}"),
            Err(Refused::Unsure(_)) => open += usize::from(row.json.is_some()),
        }
    }
    assert!(open <= 120, "{open} texts are left open");
}

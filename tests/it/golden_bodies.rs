//! Bodies as Go reads them: rows made by `encoding/json` and `sigs.k8s.io/yaml` as Kubernetes 1.36 has them.

use base64::{Engine, engine::general_purpose::STANDARD};
use gatelog::codec::{
    document::Undecodable,
    tape::{Tape, Unreadable},
};
use serde::Deserialize;
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

//! Objects of every built-in kind, as the API machinery's own libraries write them in protobuf and in JSON.
//!
//! Both texts are compared as JSON values: order of members, blanks and escapes may differ, nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatelog::codec::protobuf::{
    self, Envelope,
    json::{self, Limits, Undecodable},
};
use proptest::{prelude::*, sample::Index};
use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};

const GOLDEN: &str = include_str!("../golden/protobuf.jsonl");
const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 64, json: 4 << 20 };
const WIRE: protobuf::Limits = protobuf::Limits { bytes: LIMITS.bytes, depth: LIMITS.depth };

struct Golden {
    /// apiVersion and kind, or `frame`.
    kind: String,
    body: Vec<u8>,
    json: Value,
}

static LINES: LazyLock<Vec<Golden>> = LazyLock::new(|| GOLDEN.lines().map(golden).collect());

fn golden(line: &str) -> Golden {
    let mut golden: Value = serde_json::from_str(line).unwrap();
    Golden {
        kind: golden["kind"].as_str().unwrap().to_owned(),
        body: STANDARD.decode(golden["body"].as_str().unwrap()).unwrap(),
        json: golden["json"].take(),
    }
}

fn decode(kind: &str, body: &[u8], limits: Limits) -> Result<String, Undecodable> {
    match kind {
        "frame" => json::event_to_json(body, limits),
        _ => json::to_json(body, limits).map(|decoded| decoded.json),
    }
}

#[test]
fn every_body_is_read_as_the_original_reads_it() {
    let mut kinds = BTreeSet::new();
    let mut wrong = Vec::new();
    for Golden { kind, body, json } in LINES.iter() {
        let ours = decode(kind, body, LIMITS).map_err(|why| why.to_string());
        if ours.as_deref().map(serde_json::from_str::<Value>).ok().and_then(Result::ok).as_ref() != Some(json)
        {
            wrong.push(format!("{kind}\n  original {json}\n  ours {ours:?}"));
        }
        if kind != "frame" {
            let decoded = json::to_json(body, LIMITS).unwrap();
            assert_eq!(format!("{} {}", decoded.api_version, decoded.kind), *kind);
            kinds.insert(kind);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        LINES.len(),
        wrong[..wrong.len().min(9)].join("\n")
    );
    assert_eq!((LINES.len(), kinds.len()), (1396, 350));
}

/// A record is one line.
#[test]
fn the_text_is_one_line() {
    for Golden { kind, body, .. } in LINES.iter() {
        assert!(!decode(kind, body, LIMITS).unwrap().contains(['\n', '\r']), "{kind}");
    }
}

#[test]
fn a_cut_body_is_not_decoded() {
    for Golden { kind, body, .. } in LINES.iter().filter(|g| g.kind != "frame").step_by(7) {
        let whole = decode(kind, body, LIMITS).unwrap();
        for end in 0..body.len() {
            // Between two fields of the envelope a cut cannot be seen: its last two are empty anyway, and an object
            // without any is one without values.
            if let Ok(text) = decode(kind, &body[..end], LIMITS) {
                let cut = Envelope::read(&body[..end], WIRE).unwrap();
                assert!(text == whole || cut.raw.is_empty(), "{kind} cut to {end} of {}", body.len());
            }
        }
    }
}

#[test]
fn every_limit_holds() {
    for Golden { kind, body, .. } in LINES.iter().step_by(5) {
        let whole = decode(kind, body, LIMITS).unwrap();
        for json in [0, whole.len() / 2, whole.len() - 1] {
            let short = decode(kind, body, Limits { json, ..LIMITS });
            assert_eq!(short, Err(Undecodable::TooLong(json)), "{kind}");
        }
        assert_eq!(decode(kind, body, Limits { json: whole.len(), ..LIMITS }).as_ref(), Ok(&whole));
        assert!(decode(kind, body, Limits { bytes: body.len() - 1, ..LIMITS }).is_err());
        assert_eq!(decode(kind, body, Limits { bytes: body.len(), ..LIMITS }).as_ref(), Ok(&whole));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is done to a body, what comes out is JSON, or a reason.
    #[test]
    fn a_changed_body_is_json_or_refused(
        line in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..6),
    ) {
        let golden = line.get(&LINES);
        let mut body = golden.body.clone();
        for (at, byte, how) in changes {
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body[at] ^= 1 << (byte % 8),
                2 => body.insert(at, byte),
                _ => body.truncate(at.max(1)),
            }
        }
        if let Ok(text) = decode(&golden.kind, &body, LIMITS) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }
}

#![no_main]
//! A body, and the JSON that it is.

use gatelog::codec::document::Document;
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const TYPES: [&str; 5] = [
    "application/json",
    "application/yaml",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let kind = TYPES[usize::from(*choice) % TYPES.len()];
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let document = Document::new(&headers, bytes);
    let Ok(tape) = document.tape() else {
        // serde_json reads less than Go does: fewer levels, no lone halves of surrogate pairs, no numbers beyond a double.
        let is_json = kind == TYPES[0] && serde_json::from_slice::<Value>(bytes).is_ok();
        assert!(!is_json, "JSON that is not read");
        return;
    };
    let mut seen = 0;
    let mut inside = vec![0];
    while let Some(at) = inside.pop() {
        seen += 1;
        let (start, end) = tape.span(at);
        assert!(start < end && tape.text().is_char_boundary(start) && tape.text().is_char_boundary(end));
        let _ = (tape.string(at), tape.is_empty(at));
        for (key, value) in tape.members(at) {
            assert!(tape.is_text(key));
            seen += 1;
            inside.push(value);
        }
        inside.extend(tape.elements(at));
    }
    assert_eq!(seen, tape.count(), "a node that is nowhere");
    if tape.depth() < 100 {
        let mut canonical = String::new();
        tape.canonical(0, &mut canonical);
        assert!(serde_json::from_str::<&serde_json::value::RawValue>(&canonical).is_ok(), "{canonical}");
    }
});

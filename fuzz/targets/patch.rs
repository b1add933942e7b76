#![no_main]
//! A patch of some object.

use gatelog::{
    codec::document::Document,
    request::Asked,
    validate::{Config, Findings, catalog::Lookup, patch},
};
use http::{HeaderMap, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::Arc;

const TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const VALIDATIONS: [&str; 3] = ["Ignore", "Warn", "Strict"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let kind = TYPES[usize::from(*choice) % TYPES.len()];
    let validation = VALIDATIONS[usize::from(*choice) / TYPES.len() % VALIDATIONS.len()];
    let target =
        format!("/api/v1/namespaces/default/configmaps/c?fieldManager=x&fieldValidation={validation}");
    let Ok(request) = Request::patch(target).body(()) else { return };
    let Ok(asked) = Asked::parse(&request.into_parts().0) else { return };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let document = Document::new(&headers, bytes);
    let mut found = Findings::new(Arc::new(Config::default()));
    let document = Some(&document).filter(|_| !bytes.is_empty());
    let Err(invalid) = patch::check(&mut found, &asked, &headers, &Lookup::Unsure, document) else { return };
    assert!([400, 413, 422].contains(&invalid.status.code), "{invalid:?}");
    let is_json = serde_json::from_slice::<Value>(bytes).is_ok();
    assert!(!(is_json && invalid.rule == "syntax"), "{invalid:?}");
});

#![no_main]
//! Label and field selectors.

use gatelog::request::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        for value in [None, Some(""), Some("1"), Some("b")] {
            selector.matches(|_| value);
        }
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        selector.matches(|_| "b");
        selector.exact("metadata.name");
    }
});

//! YAML as kube-apiserver takes and gives it: the first document of a body, the last of equal keys; keys sorted on the way
//! out.

use serde_json::Value;
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter, options::DuplicateKeyPolicy};

/// What a text says, and the first key that is there twice: in which line, and how it is told.
pub(super) struct Read {
    /// The value; null for a text without a document.
    pub value: Value,
    /// `line 6: key "color" already set in map`
    pub duplicate: Option<String>,
}

/// Reads the first document; the error begins as Go's does, and ends in our own words.
pub(super) fn read(text: &str) -> Result<Read, String> {
    let parse = |policy| {
        let options = serde_saphyr::options! {
            duplicate_keys: policy,
            legacy_octal_numbers: true,
            with_snippet: false,
        };
        let mut documents = serde_saphyr::from_multiple_with_options::<Value>(text, options)?.into_iter();
        let mut first = documents.next().unwrap_or_default();
        // Go makes JSON with sorted keys of it first, and finds the faults of that.
        first.sort_all_objects();
        Ok(first)
    };
    let told = |error: &serde_saphyr::Error| {
        let line = error.location().map_or(String::new(), |at| format!("line {}: ", at.line()));
        let text = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        format!("yaml: {line}{}", text.lines().next().unwrap_or_default())
    };
    match parse(DuplicateKeyPolicy::Error) {
        Ok(value) => Ok(Read { value, duplicate: None }),
        Err(error) => {
            let value = parse(DuplicateKeyPolicy::LastWins).map_err(|e: serde_saphyr::Error| told(&e))?;
            let line = error.location().map_or(0, |at| at.line());
            let shown = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
            let key = shown.split('`').nth(1).unwrap_or_default();
            Ok(Read { value, duplicate: Some(format!("line {line}: key {key:?} already set in map")) })
        }
    }
}

/// Writes a value with sorted keys.
pub(super) fn write(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    serde_saphyr::to_string(&sorted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_key_counts_and_the_first_document() {
        let one = read("a: 1\nb: {c: 2}\n---\nd: 3\n").unwrap();
        assert_eq!((one.value, one.duplicate), (json!({"a": 1, "b": {"c": 2}}), None));
        let two = read("a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(two.value, json!({"a": 3, "b": 2}));
        assert_eq!(two.duplicate.unwrap(), "line 3: key \"a\" already set in map");
        assert_eq!(read("").unwrap().value, Value::Null);
        assert!(read("a: b: c").is_err_and(|why| why.starts_with("yaml: ")));
        assert_eq!(write(&json!({"b": 1, "a": [true]})), "a:\n- true\nb: 1\n");
    }
}

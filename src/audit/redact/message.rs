//! What a Status says of something secret: whole only where the text is one that the API server makes of names alone.

use super::mark::{Key, is_mark};

/// Behind the resource and the name, these end the text or are followed by what is no value.
const WHOLE: [&str; 2] = [" not found", " already exists"];
/// Said of no object.
const PLAIN: [&str; 6] = [
    "Unauthorized",
    "the server could not find the requested resource",
    "the server does not allow this method on the requested resource",
    "the server is currently unable to handle the request",
    "the body of the request was in an unknown format",
    "Timeout: request did not complete within requested timeout",
];
/// What the server's own admission says in numbers and names; a webhook's words stand behind `admission webhook`.
const FORBIDDEN: [&str; 2] = ["exceeded quota: ", "unable to create new content in namespace "];
/// The optimistic lock.
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The text with its doubtful part marked; None when it may stay.
///
/// `secrets "x" is invalid: data[a]: Invalid value: "b": …` keeps what stands before the first `: `; a text that does not
/// begin with a resource and a name goes as a whole.
pub(super) fn redacted(text: &str, key: &Key) -> Option<String> {
    if text.is_empty() || is_mark(text) || PLAIN.contains(&text) {
        return None;
    }
    let (fulfilled, rest) = match text.strip_prefix("Operation cannot be fulfilled on ") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let Some(rest) = subject(rest) else { return Some(key.mark(text.as_bytes())) };
    if WHOLE.contains(&rest) {
        return None;
    }
    let Some((state, why)) = rest.split_once(": ") else { return Some(key.mark(text.as_bytes())) };
    let is_known = match state {
        " is forbidden" => {
            why.starts_with("User \"") && why.contains(" cannot ")
                || FORBIDDEN.iter().any(|known| why.starts_with(known))
        }
        "" if fulfilled => why == MODIFIED,
        " is invalid" => false,
        _ => return Some(key.mark(text.as_bytes())),
    };
    if is_known || is_mark(why) {
        return None;
    }
    let kept = text.get(..text.len() - why.len()).unwrap_or_default();
    Some(format!("{kept}{}", key.mark(why.as_bytes())))
}

/// What stands behind `secrets` or `secrets "name"`.
fn subject(text: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let (resource, _) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let resource = resource.strip_suffix(':').unwrap_or(resource);
    let rest = text.get(resource.len()..).filter(|_| !resource.is_empty())?;
    let Some(quoted) = rest.strip_prefix(" \"") else { return Some(rest) };
    let (name, rest) = quoted.split_once('"')?;
    name.chars().all(is_name).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_alone_make_stays() {
        let key = Key::new(b"k");
        for text in [
            "",
            "Unauthorized",
            "secrets \"db\" not found",
            "secrets \"db\" already exists",
            "secrets is forbidden: User \"me\" cannot list resource \"secrets\" in API group \"\" in the namespace \"x\"",
            "secrets \"db\" is forbidden: exceeded quota: q, requested: count/secrets=1, used: count/secrets=5, limited: count/secrets=5",
            "secrets \"db\" is forbidden: User \"me\" cannot get resource \"secrets\" in API group \"\"",
            "Operation cannot be fulfilled on secrets \"db\": the object has been modified; please apply your changes to the latest version and try again",
        ] {
            assert_eq!(redacted(text, &key), None, "{text}");
        }
    }

    #[test]
    fn what_may_quote_a_value_goes() {
        let key = Key::new(b"k");
        for (text, kept) in [
            (
                "Secret \"db\" is invalid: data[a]: Invalid value: \"hunter2\": bad",
                "Secret \"db\" is invalid: ",
            ),
            ("secrets \"db\" is forbidden: password hunter2 is too weak", "secrets \"db\" is forbidden: "),
            (
                "Operation cannot be fulfilled on secrets \"db\": hunter2",
                "Operation cannot be fulfilled on secrets \"db\": ",
            ),
            ("admission webhook \"a.b\" denied the request: hunter2", ""),
            ("hunter2", ""),
            ("secrets \"hunter2 x\" not found", ""),
            ("hunter2: not found", ""),
            ("Secret in version \"v1\" cannot be handled as a Secret: hunter2", ""),
            ("User \"me\" cannot hunter2", ""),
        ] {
            let new = redacted(text, &key).expect(text);
            let why = new.strip_prefix(kept).expect(text);
            assert_eq!(why, key.mark(&text.as_bytes()[kept.len()..]), "{text}");
            assert_eq!(redacted(&new, &key), None, "{text}");
        }
    }
}

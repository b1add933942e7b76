//! What an object says that it is: apiVersion and kind as kube-apiserver finds them before it decodes anything, and the names in its metadata.

use crate::codec::tape::{Kind, Tape};
use std::borrow::Cow;

/// What an object says that it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'t> {
    /// Empty where it says nothing.
    pub(super) group: Cow<'t, str>,
    /// Empty where it says nothing.
    pub(super) version: Cow<'t, str>,
    /// Empty where it says nothing.
    pub(super) kind: Cow<'t, str>,
}

/// Names in an object's metadata.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'t> {
    /// Empty where it has none.
    pub(super) name: Cow<'t, str>,
    /// Empty where it has none.
    pub(super) namespace: Cow<'t, str>,
}

impl<'t> Envelope<'t> {
    /// As kube-apiserver reads it: names of fields in any case, the last one counts.
    ///
    /// # Errors
    /// Why it finds none.
    pub(super) fn read(tape: &'t Tape<'_>) -> Result<Self, String> {
        let (mut api_version, mut kind) = (Cow::Borrowed(""), Cow::Borrowed(""));
        let what = |at| match tape.kind(at) {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::Text | Kind::Escaped => "string",
            Kind::Number => "number",
            Kind::Bool => "bool",
            Kind::Null => "null",
        };
        let syntax = "couldn't get version/kind; json parse error: json: cannot unmarshal";
        if !matches!(tape.kind(0), Kind::Object | Kind::Null) {
            return Err(format!(
                r#"{syntax} {} into Go value of type struct {{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }}"#,
                what(0)
            ));
        }
        let mut wrong = None;
        for (key, value) in tape.members(0) {
            let name = tape.string(key);
            let (field, place) = match () {
                () if folds_to(&name, "apiVersion") => ("apiVersion", &mut api_version),
                () if folds_to(&name, "kind") => ("kind", &mut kind),
                () => continue,
            };
            match tape.kind(value) {
                Kind::Text | Kind::Escaped => *place = tape.string(value),
                Kind::Null => {}
                _ => {
                    let text =
                        || format!("{syntax} {} into Go struct field .{field} of type string", what(value));
                    wrong.get_or_insert_with(text);
                }
            }
        }
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let (group, version) = group_version(api_version)?;
        Ok(Self { group, version, kind })
    }

    /// As the decoder for custom resources reads it, which knows names only as they are.
    pub(super) fn exact(tape: &'t Tape<'_>) -> Result<Self, String> {
        let last = |name| tape.get(0, name).last().map(|at| tape.string(at)).unwrap_or_default();
        let (group, version) = group_version(last("apiVersion"))?;
        Ok(Self { group, version, kind: last("kind") })
    }

    /// `apps/v1`
    pub(super) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

impl<'t> Names<'t> {
    /// None where it is not clear what they are: metadata that is there twice is merged by some, and by others not.
    pub(super) fn read(tape: &'t Tape<'_>) -> Option<Self> {
        let mut all = tape.get(0, "metadata");
        let Some(metadata) = all.next() else { return Some(Self::default()) };
        if all.next().is_some() || !matches!(tape.kind(metadata), Kind::Object | Kind::Null) {
            return None;
        }
        let mut names = Self::default();
        for (key, value) in tape.members(metadata) {
            let place = match &*tape.string(key) {
                "name" => &mut names.name,
                "namespace" => &mut names.namespace,
                _ => continue,
            };
            match tape.kind(value) {
                Kind::Null => {}
                Kind::Text | Kind::Escaped => *place = tape.string(value),
                _ => return None,
            }
        }
        Some(names)
    }
}

/// `apps/v1`, `v1`
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_version(api_version: Cow<'_, str>) -> Result<(Cow<'_, str>, Cow<'_, str>), String> {
    let slashes = api_version.bytes().filter(|b| *b == b'/').count();
    match slashes {
        _ if api_version == "/" => Ok(("".into(), "".into())),
        0 => Ok(("".into(), api_version)),
        1 => {
            let (group, version) = api_version.split_once('/').unwrap_or_default();
            Ok((group.to_owned().into(), version.to_owned().into()))
        }
        _ => Err(format!("unexpected GroupVersion string: {api_version}")),
    }
}

/// Whether Go takes one name for the other where case does not count: beside ASCII's, two letters that fold to `k` and `s`.
fn folds_to(name: &str, field: &str) -> bool {
    let fold = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    };
    // Most names differ in length already.
    name.len() >= field.len()
        && name.len() <= field.len() + 4
        && name.chars().map(fold).eq(field.chars().map(fold))
}

//! What the fields of Kubernetes' messages are: `tables.txt`, which `tables.py` makes of the published definitions.
//!
//! A line that cannot be read, or a type that is not there, leaves out its field; a body that has it is then not decoded.

use std::{collections::HashMap, sync::LazyLock};

/// Every message of Kubernetes 1.36.
pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::parse(include_str!("tables.txt")));

/// What the API machinery knows in every group and version.
const EVERYWHERE: [&str; 6] =
    ["CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions"];

/// Messages, and which of them are kinds.
#[derive(Debug, Default)]
pub(super) struct Tables {
    messages: Vec<Message>,
    /// By apiVersion and kind.
    kinds: HashMap<(&'static str, &'static str), usize>,
    /// The frames of a watch.
    watch_event: Option<usize>,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Its name in Go, without package.
    pub name: &'static str,
    /// How it looks in JSON.
    pub form: Form,
    /// Ascending by number.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its number.
    pub number: u32,
    /// Its name in JSON.
    pub name: &'static str,
    /// How often it comes.
    pub count: Count,
    /// What it holds.
    pub of: Type,
    /// When it is empty or zero.
    pub empty: Empty,
}

/// How often a field comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Once; a zero may be left out.
    One,
    /// Once or not at all; a zero was meant.
    Pointer,
    /// Once, and its fields are its owner's.
    Inline,
    /// Any number of times.
    List,
    /// Any number of times, each an entry under a string.
    Map,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Int,
    Long,
    Flag,
    Bytes,
    Double,
    /// A place in [`Tables`].
    Message(usize),
}

/// What becomes of an empty field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// Left out, if it is no message.
    Hidden,
    /// Left out, even if it is a message: null.
    Dropped,
    /// Shown.
    Shown,
}

/// How a message looks in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An object of its fields.
    Object,
    /// Its only field, a list.
    List,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// As Go writes durations.
    Duration,
    /// Its string.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// JSON inside, or another body.
    RawExtension,
    /// JSON inside.
    Json,
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of strings.
    SchemaOrStrings,
}

impl Tables {
    /// What the kind `kind` of `api_version` is.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let in_meta = || {
            let everywhere = api_version == "v1" || EVERYWHERE.contains(&kind);
            everywhere.then(|| self.kinds.get(&("meta.k8s.io/v1", kind))).flatten()
        };
        self.message(*self.kinds.get(&(api_version, kind)).or_else(in_meta)?)
    }

    /// The message at a place.
    pub(super) fn message(&self, at: usize) -> Option<&Message> {
        self.messages.get(at)
    }

    /// The frames of a watch.
    pub(super) fn watch_event(&self) -> Option<&Message> {
        self.message(self.watch_event?)
    }

    fn parse(text: &'static str) -> Self {
        let places = places(text);
        let mut tables =
            Self { watch_event: places.get(&("meta.v1", "WatchEvent")).copied(), ..Self::default() };
        let (mut package, mut version) = ("", "");
        for line in lines(text) {
            let mut words = line.split(' ');
            let (Some(first), second) = (words.next(), words.clone().next()) else { continue };
            match (first, second) {
                ("@", Some(name)) => (package, version) = (name, words.nth(1).unwrap_or_default()),
                ("=", Some(kind)) => {
                    let target = words.nth(1).and_then(|of| place(&places, package, of.strip_prefix('.')?));
                    tables.kinds.extend(target.map(|at| ((version, kind), at)));
                }
                _ => {
                    let name = first.trim_end_matches(['*', '?']);
                    if first.ends_with('*') {
                        tables.kinds.insert((version, name), tables.messages.len());
                    }
                    let form = if first.ends_with('?') { form(name) } else { Form::Object };
                    let fields = words.filter_map(|word| field(word, &places, package)).collect();
                    tables.messages.push(Message { name, form, fields });
                }
            }
        }
        tables
    }
}

impl Message {
    /// The field of a number.
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

type Places = HashMap<(&'static str, &'static str), usize>;

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Where each message will be, by package and name.
fn places(text: &'static str) -> Places {
    let mut places = Places::new();
    let mut package = "";
    for line in lines(text) {
        match line.split_once(' ') {
            Some(("@", rest)) => package = rest.split(' ').next().unwrap_or_default(),
            Some(("=", _)) => {}
            found => {
                let name = found.map_or(line, |(name, _)| name).trim_end_matches(['*', '?']);
                places.insert((package, name), places.len());
            }
        }
    }
    places
}

/// Where `name` is; without a package, it is in this one.
fn place(places: &Places, package: &'static str, name: &'static str) -> Option<usize> {
    places.get(&name.rsplit_once('.').unwrap_or((package, name))).copied()
}

/// `replicas=1:*i!`
fn field(word: &'static str, places: &Places, package: &'static str) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let (number, of) = rest.split_once(':')?;
    let counts = [
        ("*", Count::Pointer),
        ("<", Count::Inline),
        ("[]", Count::List),
        ("{}", Count::Map),
        ("", Count::One),
    ];
    let (of, count) = counts.into_iter().find_map(|(sign, count)| Some((of.strip_prefix(sign)?, count)))?;
    let empties = [("!", Empty::Shown), ("~", Empty::Dropped), ("", Empty::Hidden)];
    let (of, empty) = empties.into_iter().find_map(|(sign, empty)| Some((of.strip_suffix(sign)?, empty)))?;
    let of = match of {
        "s" => Type::Text,
        "i" => Type::Int,
        "l" => Type::Long,
        "b" => Type::Flag,
        "y" => Type::Bytes,
        "d" => Type::Double,
        _ => Type::Message(place(places, package, of.strip_prefix('.')?)?),
    };
    Some(Field { number: number.parse().ok()?, name, count, of, empty })
}

fn form(name: &str) -> Form {
    match name {
        "Time" => Form::Time,
        "MicroTime" => Form::MicroTime,
        "Duration" => Form::Duration,
        "Quantity" => Form::Quantity,
        "IntOrString" => Form::IntOrString,
        "RawExtension" => Form::RawExtension,
        "FieldsV1" | "JSON" => Form::Json,
        "JSONSchemaPropsOrArray" => Form::SchemaOrArray,
        "JSONSchemaPropsOrBool" => Form::SchemaOrBool,
        "JSONSchemaPropsOrStringArray" => Form::SchemaOrStrings,
        _ => Form::List,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_whole() {
        let text = include_str!("tables.txt");
        let of_messages = || lines(text).filter(|line| !line.starts_with(['@', '=']));
        assert_eq!(TABLES.messages.len(), of_messages().count());
        for (message, line) in TABLES.messages.iter().zip(of_messages()) {
            assert_eq!(message.fields.len(), line.split(' ').count() - 1, "{line}");
            assert!(message.fields.is_sorted_by_key(|field| field.number), "{line}");
            assert!(message.name.chars().all(char::is_alphanumeric), "{line}");
            for field in &message.fields {
                assert!(
                    field.name.chars().all(|c| c.is_alphanumeric() || "$-".contains(c)),
                    "{line}: {}",
                    field.name
                );
            }
        }
        assert!(TABLES.watch_event().is_some_and(|m| m.name == "WatchEvent"));
        let lists = TABLES.messages.iter().filter(|m| m.form == Form::List);
        assert!(lists.clone().all(|m| m.fields.iter().map(|f| (f.number, f.count)).eq([(1, Count::List)])));
        assert_eq!(lists.map(|m| m.name).filter(|name| !["ExtraValue", "Verbs"].contains(name)).count(), 0);
    }

    /// Names that one object would have twice cannot be told apart in JSON.
    #[test]
    fn no_object_has_a_name_twice() {
        fn names<'a>(message: &'a Message, into: &mut Vec<&'a str>) {
            for field in &message.fields {
                match (field.count, field.of) {
                    (Count::Inline, Type::Message(at)) => names(TABLES.message(at).unwrap(), into),
                    (Count::Inline, _) => panic!("{} inlines what is no message", message.name),
                    _ => into.push(field.name),
                }
            }
        }
        for message in TABLES.messages.iter().filter(|m| m.form == Form::Object) {
            let mut all = Vec::new();
            names(message, &mut all);
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", message.name);
        }
    }

    #[test]
    fn kinds_are_found_where_the_server_has_them() {
        for (api_version, kind, want) in [
            ("v1", "Pod", true),
            ("v1", "List", true),
            ("v1", "Status", true),
            ("v1", "DeleteOptions", true),
            ("apps/v1", "Deployment", true),
            ("apps/v1", "DeleteOptions", true),
            ("crd.example/v7", "DeleteOptions", true),
            ("meta.k8s.io/v1", "PartialObjectMetadataList", true),
            ("meta.k8s.io/v1beta1", "PartialObjectMetadata", true),
            ("policy/v1", "Eviction", true),
            ("autoscaling/v1", "Scale", true),
            ("authentication.k8s.io/v1", "TokenRequest", true),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", true),
            ("apiregistration.k8s.io/v1", "APIService", true),
            ("", "Pod", false),
            ("v1", "", false),
            ("v1", "PodSpec", false),
            ("v1", "Deployment", false),
            ("apps/v1", "Status", false),
            ("crd.example/v7", "Pod", false),
        ] {
            assert_eq!(TABLES.kind(api_version, kind).is_some(), want, "{api_version} {kind}");
        }
    }
}

//! Schemas of objects, compiled from an OpenAPI v3 document of one group and version.
//!
//! A document of a cluster is large and says most things many times. Compiled, it is a list of nodes that refer to each other by number:
//! equal nodes are one node, equal texts one text, and only what a body can reach is kept. References are followed once, here; so the
//! nodes are a graph that may have circles, and whoever walks them walks along an object, which has an end.

mod compile;

use super::value::Patterns;
use crate::request::Verb;
use std::{num::NonZeroU32, sync::LazyLock};

/// The schemas of all bodies that a group's version takes.
#[derive(Debug, Default)]
pub struct Schemas {
    nodes: Box<[Schema]>,
    texts: Texts,
    bodies: Box<[Bodies]>,
    /// Of all definitions; sorted.
    kinds: Box<[Text]>,
    custom: bool,
    pub(super) patterns: Patterns,
}

/// What is known of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Which JSON types it may have; none: any.
    pub types: Types,
    /// What is special about it.
    pub flags: Flags,
    /// How a string or a number is read.
    pub format: Format,
    /// Members of an object beside its `properties`.
    pub additional: Additional,
    /// Elements of an array.
    pub items: Option<Id>,
    /// Its definition's name, e.g. `io.k8s.api.core.v1.PodSpec`; most have none of their own.
    pub name: Option<Text>,
    /// Members of an object, in an order that [`Schemas::property`] knows.
    pub properties: Box<[Property]>,
    /// What its value must be like.
    pub rules: Option<Box<Rules>>,
}

/// A member of an object that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Property {
    /// Bytes of its name: what the order goes by first.
    len: u32,
    /// Its name.
    pub name: Text,
    /// Its schema.
    pub schema: Id,
    /// Whether the server puts in a value where none is given.
    pub has_default: bool,
}

/// Members of an object that `properties` does not list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Additional {
    /// Nothing is said of them.
    #[default]
    Unsaid,
    /// `false`
    No,
    /// `true`, or an empty schema
    Any,
    /// Each is like that.
    Of(Id),
}

/// How a string or a number is read. What is not listed says nothing about how it is decoded; see [`Rules::format`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `double` or `float`
    Double,
    /// `byte`: base64
    Byte,
    /// RFC 3339, a definition of Kubernetes: `Time`.
    Time,
    /// The same with microseconds: `MicroTime`.
    MicroTime,
    /// A Go duration: `Duration`.
    Duration,
    /// `Quantity`
    Quantity,
    /// `int-or-string`, or a definition of Kubernetes: `IntOrString`.
    IntOrString,
    /// Whatever JSON it is: `RawExtension`, `FieldsV1`, `JSON` and the like.
    Raw,
}

/// What the value of something must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Members that must be there.
    pub required: Box<[Text]>,
    /// The values that are allowed, as JSON; none: all.
    pub enumeration: Box<[Text]>,
    /// A regular expression, not anchored.
    pub pattern: Option<Text>,
    /// `format` as it is written, whatever it is.
    pub format: Option<Text>,
    /// `minimum`
    pub minimum: Option<Double>,
    /// `maximum`
    pub maximum: Option<Double>,
    /// Whether `minimum` itself is too little.
    pub exclusive_minimum: bool,
    /// Whether `maximum` itself is too much.
    pub exclusive_maximum: bool,
    /// `multipleOf`
    pub multiple_of: Option<Double>,
    /// Characters of a string.
    pub min_length: Option<u64>,
    /// Characters of a string.
    pub max_length: Option<u64>,
    /// Elements of an array.
    pub min_items: Option<u64>,
    /// Elements of an array.
    pub max_items: Option<u64>,
    /// Members of an object.
    pub min_properties: Option<u64>,
    /// Members of an object.
    pub max_properties: Option<u64>,
    /// No element twice.
    pub unique_items: bool,
    /// What a list is.
    pub list: ListType,
    /// The members that tell the elements of [`ListType::Map`] apart.
    pub list_keys: Box<[Text]>,
    /// All of them hold.
    pub all_of: Box<[Id]>,
    /// At least one of them holds.
    pub any_of: Box<[Id]>,
    /// Exactly one of them holds.
    pub one_of: Box<[Id]>,
    /// It does not hold.
    pub not: Option<Id>,
    /// What the server puts in where nothing is given, as JSON; only of custom resources.
    pub default: Option<Text>,
}

/// `x-kubernetes-list-type`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ListType {
    /// Replaced as a whole; so is what says nothing.
    #[default]
    Atomic,
    /// No element twice.
    Set,
    /// No two elements with the same keys.
    Map,
}

/// A place among the nodes of one [`Schemas`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(NonZeroU32);

/// A text of one [`Schemas`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text(NonZeroU32);

/// A finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Double(u64);

/// A set of JSON types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Types(u8);

/// What is special about a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

/// A document that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadDocument(pub String);

/// What is sent to a resource, or to what is below its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bodies {
    /// `pods` or `pods/eviction`
    path: Text,
    post: Option<Id>,
    put: Option<Id>,
}

#[derive(Debug, Default)]
struct Texts {
    all: Box<str>,
    ends: Box<[u32]>,
}

// === impl Schemas ===

impl Schemas {
    /// Compiles `/openapi/v3/apis/<group>/<version>`.
    ///
    /// # Errors
    /// It is no such document, or larger than any is.
    pub fn compile(document: &[u8]) -> Result<Self, BadDocument> {
        compile::document(document)
    }

    /// Whether the kinds are of CustomResourceDefinitions. False for built-in kinds, and where nothing is served.
    pub fn is_custom(&self) -> bool {
        self.custom
    }

    /// Whether kube-apiserver itself serves the kinds, as built-in ones or custom resources, and no server behind it.
    pub fn is_kubernetes(&self) -> bool {
        let mut bodies = self.bodies.iter().filter_map(|of| of.post.or(of.put));
        self.custom || bodies.any(|id| self.is_built_in(self.get(id)))
    }

    /// Whether a definition is one of Kubernetes' own Go types.
    pub fn is_built_in(&self, of: &Schema) -> bool {
        let name = of.name.map(|name| self.text(name)).unwrap_or_default();
        BUILT_IN.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The schema of what is sent to a resource or to what is below its objects (empty: nothing), by this verb; for a patch the schema of
    /// what is patched.
    pub fn body(&self, resource: &str, subresource: &str, verb: Verb) -> Option<Id> {
        let path = |of: &Bodies| {
            let (name, below) = self.text(of.path).split_once('/').unwrap_or((self.text(of.path), ""));
            (name, below).cmp(&(resource, subresource))
        };
        let found = self.bodies.get(self.bodies.binary_search_by(path).ok()?)?;
        match verb {
            Verb::Create => found.post,
            Verb::Update => found.put,
            Verb::Patch => found.put.or(found.post),
            _ => None,
        }
    }

    /// What is known of a value.
    pub fn get(&self, id: Id) -> &Schema {
        self.nodes.get(id.0.get() as usize).unwrap_or(&NOTHING)
    }

    /// A text.
    pub fn text(&self, text: Text) -> &str {
        let at = text.0.get() as usize;
        let start = self.texts.ends.get(at - 1).map_or(0, |end| *end as usize);
        let end = self.texts.ends.get(at).map_or(0, |end| *end as usize);
        self.texts.all.get(start..end).unwrap_or_default()
    }

    /// The member of that name.
    pub fn property<'s>(&self, of: &'s Schema, name: &str) -> Option<&'s Property> {
        of.properties.get(self.position(of, name)?)
    }

    /// Where the member of that name stands among `properties`.
    pub fn position(&self, of: &Schema, name: &str) -> Option<usize> {
        let order = |property: &Property| {
            let by_len = (property.len as usize).cmp(&name.len());
            by_len.then_with(|| self.text(property.name).cmp(name))
        };
        of.properties.binary_search_by(order).ok()
    }

    /// Whether the group's version has such a kind, be it one that is never sent.
    pub fn has_kind(&self, kind: &str) -> bool {
        self.kinds.binary_search_by(|known| self.text(*known).cmp(kind)).is_ok()
    }

    /// The schema of a definition by its last word, e.g. `ObjectMeta`; none where no body refers to it. Looks at all of them.
    pub fn named(&self, short: &str) -> Option<Id> {
        let at = self.nodes.iter().position(|node| self.short_name(node) == Some(short))?;
        u32::try_from(at).ok().and_then(NonZeroU32::new).map(Id)
    }

    /// The definition's last word: `PodSpec`.
    pub fn short_name(&self, of: &Schema) -> Option<&str> {
        of.name.and_then(|name| self.text(name).rsplit('.').next())
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let rules = |r: &Rules| {
            let texts = r.required.len() + r.enumeration.len() + r.list_keys.len();
            size_of::<Rules>() + 4 * (texts + r.all_of.len() + r.any_of.len() + r.one_of.len())
        };
        let node = |s: &Schema| {
            size_of::<Schema>() + size_of_val(&*s.properties) + s.rules.as_deref().map_or(0, rules)
        };
        let texts = self.texts.all.len() + size_of_val(&*self.texts.ends);
        size_of::<Self>() + self.nodes.iter().map(node).sum::<usize>() + texts + size_of_val(&*self.bodies)
    }
}

/// Where Kubernetes' own types are defined.
const BUILT_IN: &[&str] =
    &["io.k8s.api.", "io.k8s.kube-aggregator.pkg.apis.", "io.k8s.apiextensions-apiserver.pkg.apis."];

/// What is known where nothing is.
static NOTHING: LazyLock<Schema> = LazyLock::new(Schema::default);

// === impl Schema ===

impl Schema {
    /// Whether members that it does not list are kept as they are.
    pub fn keeps_unknown(&self) -> bool {
        self.flags.has(Flags::PRESERVE_UNKNOWN)
            || self.format == Format::Raw
            || matches!(self.additional, Additional::Any)
    }
}

// === impl Types ===

impl Types {
    /// `{…}`
    pub const OBJECT: Self = Self(1);
    /// `[…]`
    pub const ARRAY: Self = Self(2);
    /// `"…"`
    pub const STRING: Self = Self(4);
    /// Any number.
    pub const NUMBER: Self = Self(8);
    /// A number without a fraction.
    pub const INTEGER: Self = Self(16);
    /// `true`, `false`
    pub const BOOLEAN: Self = Self(32);
    /// What `x-kubernetes-int-or-string` stands for.
    pub const INT_OR_STRING: Self = Self(16 | 4);

    /// Nothing is said.
    pub fn is_any(self) -> bool {
        self.0 == 0
    }

    /// Whether a type is said to be one of them.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

// === impl Flags ===

impl Flags {
    /// `x-kubernetes-preserve-unknown-fields`
    pub const PRESERVE_UNKNOWN: Self = Self(1);
    /// `x-kubernetes-embedded-resource`
    pub const EMBEDDED: Self = Self(2);
    /// `nullable`
    pub const NULLABLE: Self = Self(4);
    /// `x-kubernetes-int-or-string`
    pub const INT_OR_STRING: Self = Self(8);
    /// `x-kubernetes-validations`: rules in CEL
    pub const VALIDATIONS: Self = Self(16);

    /// Whether it is among them.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Self, on: bool) {
        if on {
            self.0 |= other.0;
        }
    }
}

// === impl Double ===

impl Double {
    /// None unless it is finite.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self(value.to_bits()))
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

#[cfg(test)]
mod tests;

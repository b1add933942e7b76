//! From the document's text to nodes.

use super::{
    Additional, BadDocument, Bodies, Double, Flags, Format, Id, ListType, Property, Rules, Schema, Schemas,
    Text, Texts, Types,
};
use crate::codec::tape::{Kind, Tape};
use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
};

/// Levels of nesting in a document.
const DEEPEST: usize = 256;
/// Keys and values in a document; the largest of Kubernetes itself has some 100,000.
const MOST: usize = 8 << 20;
/// Nodes that are kept of one.
const MOST_NODES: usize = 1 << 20;
/// What references begin with.
const REF: &str = "#/components/schemas/";

pub(super) fn document(document: &[u8]) -> Result<Schemas, BadDocument> {
    let bad = |what: &str| BadDocument(what.to_owned());
    let text = std::str::from_utf8(document).map_err(|_| bad("not UTF-8"))?;
    let tape = Tape::read(text, DEEPEST, &Cell::new(MOST)).map_err(|e| bad(&e.to_string()))?;
    if tape.kind(0) != Kind::Object || one(&tape, 0, "openapi").is_none() {
        return Err(bad("no OpenAPI v3 document"));
    }
    let mut compiler = Compiler::new(&tape);
    let mut bodies: BTreeMap<(String, String), [Option<Id>; 2]> = BTreeMap::new();
    let mut custom = false;
    for (path, item) in members(&tape, one(&tape, 0, "paths")) {
        let path = tape.string(path);
        let Some((resource, below)) = resource(&path) else { continue };
        for (slot, method) in ["post", "put"].into_iter().enumerate() {
            let Some(content) = content(&tape, item, method) else { continue };
            let Some((media, value)) = tape.members(content).next() else { continue };
            custom |= tape.string(media) != "*/*";
            if let Some(schema) = one(&tape, value, "schema") {
                let id = compiler.schema(schema)?;
                let key = (resource.to_owned(), below.to_owned());
                if let Some(of) = bodies.entry(key).or_default().get_mut(slot) {
                    *of = Some(id);
                }
            }
        }
    }
    compiler.keeps_defaults = custom;
    compiler.definitions()?;
    let mut all = Vec::with_capacity(bodies.len());
    for ((resource, below), [post, put]) in bodies {
        let path = if below.is_empty() { resource } else { format!("{resource}/{below}") };
        all.push(Bodies { path: compiler.text(&path)?, post, put });
    }
    let kinds = compiler.kinds()?;
    Ok(compiler.done(all, kinds, custom))
}

/// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale` is deployments and scale.
fn resource(path: &str) -> Option<(&str, &str)> {
    let rest =
        path.strip_prefix("/api/").or_else(|| path.strip_prefix("/apis/")?.split_once('/').map(|x| x.1))?;
    let (_, rest) = rest.split_once('/')?;
    let rest = match rest.strip_prefix("namespaces/{namespace}/") {
        // The namespace's own subresources stand where namespaced resources do, but under {name}.
        Some(inside) => inside,
        None => rest,
    };
    let mut segments = rest.split('/');
    let resource = segments.next().filter(|s| !s.starts_with('{') && !s.is_empty())?;
    match segments.next() {
        None => Some((resource, "")),
        Some("{name}") => {
            let below = segments.next().unwrap_or_default();
            (segments.next().is_none()).then_some((resource, below))
        }
        Some(_) => None,
    }
}

/// `requestBody.content` of a method.
fn content(tape: &Tape<'_>, item: usize, method: &str) -> Option<usize> {
    let operation = one(tape, item, method)?;
    one(tape, one(tape, operation, "requestBody")?, "content")
}

/// The last member of that name.
fn one(tape: &Tape<'_>, at: usize, name: &str) -> Option<usize> {
    tape.members(at).filter(|(key, _)| tape.string(*key) == name).map(|(_, value)| value).last()
}

fn members<'t>(tape: &'t Tape<'_>, at: Option<usize>) -> impl Iterator<Item = (usize, usize)> + 't {
    at.into_iter().flat_map(|at| tape.members(at))
}

struct Compiler<'t> {
    tape: &'t Tape<'t>,
    /// Where each definition stands in the document.
    places: HashMap<String, usize>,
    /// Definitions that something refers to.
    wanted: HashMap<String, Id>,
    /// Of these, those whose nodes are not made yet.
    open: Vec<(String, Id)>,
    nodes: Vec<Schema>,
    known: HashMap<Schema, Id>,
    texts: HashMap<Box<str>, Text>,
    all: String,
    ends: Vec<u32>,
    /// Built-in kinds have many, and nobody asks for them.
    keeps_defaults: bool,
}

impl<'t> Compiler<'t> {
    fn new(tape: &'t Tape<'t>) -> Self {
        let components = one(tape, 0, "components");
        let schemas = components.and_then(|at| one(tape, at, "schemas"));
        let places = members(tape, schemas).map(|(key, at)| (tape.string(key).into_owned(), at)).collect();
        Self {
            tape,
            places,
            wanted: HashMap::new(),
            open: Vec::new(),
            // Numbers begin at 1.
            nodes: vec![Schema::default()],
            known: HashMap::new(),
            texts: HashMap::new(),
            all: String::new(),
            ends: vec![0],
            keeps_defaults: false,
        }
    }

    /// What `x-kubernetes-group-version-kind` names, in all definitions.
    fn kinds(&mut self) -> Result<Vec<Text>, BadDocument> {
        let tape = self.tape;
        let mut names = Vec::new();
        for at in self.places.values() {
            let Some(kinds) = one(tape, *at, "x-kubernetes-group-version-kind") else { continue };
            let kinds = tape.elements(kinds).filter_map(|kind| one(tape, kind, "kind"));
            names.extend(kinds.map(|name| tape.string(name)));
        }
        names.sort_unstable();
        names.dedup();
        names.iter().map(|name| self.text(name)).collect()
    }

    fn done(self, bodies: Vec<Bodies>, kinds: Vec<Text>, custom: bool) -> Schemas {
        let texts = Texts { all: self.all.into(), ends: self.ends.into() };
        Schemas {
            nodes: self.nodes.into(),
            texts,
            bodies: bodies.into(),
            kinds: kinds.into(),
            custom,
            patterns: Default::default(),
        }
    }

    fn definitions(&mut self) -> Result<(), BadDocument> {
        while let Some((name, id)) = self.open.pop() {
            let mut node = match (special(&name), self.places.get(&name)) {
                (Some(format), _) => Schema { format, ..Schema::default() },
                // What is referred to and not there says nothing, so everything is allowed.
                (None, None) => Schema { format: Format::Raw, ..Schema::default() },
                (None, Some(at)) => self.node(*at)?,
            };
            node.name = Some(self.text(&name)?);
            if let Some(place) = self.nodes.get_mut(id.0.get() as usize) {
                *place = node;
            }
        }
        Ok(())
    }

    /// The node of a schema: of what it refers to, of an equal one, or its own.
    fn schema(&mut self, at: usize) -> Result<Id, BadDocument> {
        if let Some(name) = self.reference(at) {
            return self.definition(name);
        }
        let node = self.node(at)?;
        if let Some(id) = self.known.get(&node) {
            return Ok(*id);
        }
        let id = self.push(node.clone())?;
        self.known.insert(node, id);
        Ok(id)
    }

    /// `{$ref}`, or `{allOf: [{$ref}]}` whose siblings change nothing.
    fn reference(&self, at: usize) -> Option<String> {
        let tape = self.tape;
        let target = match one(tape, at, "$ref") {
            Some(target) => target,
            None => {
                let all = one(tape, at, "allOf")?;
                let mut of = tape.elements(all);
                let target = one(tape, of.next()?, "$ref")?;
                let harmless = |key: &str| {
                    matches!(
                        key,
                        "allOf"
                            | "description"
                            | "default"
                            | "title"
                            | "x-kubernetes-map-type"
                            | "x-kubernetes-patch-strategy"
                    )
                };
                let alone =
                    of.next().is_none() && tape.members(at).all(|(key, _)| harmless(&tape.string(key)));
                alone.then_some(target)?
            }
        };
        // A reference to anywhere else names no definition that is there.
        let target = tape.string(target);
        Some(target.strip_prefix(REF).unwrap_or(&target).to_owned())
    }

    fn definition(&mut self, name: String) -> Result<Id, BadDocument> {
        if let Some(id) = self.wanted.get(&name) {
            return Ok(*id);
        }
        let id = self.push(Schema::default())?;
        self.wanted.insert(name.clone(), id);
        self.open.push((name, id));
        Ok(id)
    }

    fn push(&mut self, node: Schema) -> Result<Id, BadDocument> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|at| (*at as usize) < MOST_NODES);
        let id = id.and_then(NonZeroU32::new).ok_or_else(|| BadDocument("too many schemas".to_owned()))?;
        self.nodes.push(node);
        Ok(Id(id))
    }

    fn text(&mut self, text: &str) -> Result<Text, BadDocument> {
        if let Some(known) = self.texts.get(text) {
            return Ok(*known);
        }
        let number = u32::try_from(self.ends.len()).ok().and_then(NonZeroU32::new);
        self.all.push_str(text);
        let end = u32::try_from(self.all.len()).ok();
        let (Some(number), Some(end)) = (number, end) else {
            return Err(BadDocument("too much text".to_owned()));
        };
        self.ends.push(end);
        self.texts.insert(text.into(), Text(number));
        Ok(Text(number))
    }

    fn node(&mut self, at: usize) -> Result<Schema, BadDocument> {
        let mut node = Schema::default();
        let mut rules = Rules::default();
        let tape = self.tape;
        for (key, value) in tape.members(at) {
            let truth = || tape.raw(value) == "true";
            match &*tape.string(key) {
                "type" => node.types = types(&tape.string(value)),
                "format" => {
                    let name = tape.string(value);
                    node.format = format(&name);
                    rules.format = Some(self.text(&name)?);
                }
                "properties" => node.properties = self.properties(value)?,
                "items" => node.items = Some(self.schema(value)?),
                "additionalProperties" => {
                    node.additional = match tape.kind(value) {
                        Kind::Bool if truth() => Additional::Any,
                        Kind::Bool => Additional::No,
                        Kind::Object if tape.is_empty(value) => Additional::Any,
                        Kind::Object => Additional::Of(self.schema(value)?),
                        _ => Additional::Unsaid,
                    }
                }
                "x-kubernetes-preserve-unknown-fields" => node.flags.set(Flags::PRESERVE_UNKNOWN, truth()),
                "x-kubernetes-embedded-resource" => node.flags.set(Flags::EMBEDDED, truth()),
                "x-kubernetes-int-or-string" => node.flags.set(Flags::INT_OR_STRING, truth()),
                "x-kubernetes-validations" => node.flags.set(Flags::VALIDATIONS, !tape.is_empty(value)),
                "nullable" => node.flags.set(Flags::NULLABLE, truth()),
                key => self.rule(&mut rules, key, value)?,
            }
        }
        node.rules = (rules != Rules::default()).then(|| Box::new(rules));
        Ok(node)
    }

    fn rule(&mut self, rules: &mut Rules, key: &str, value: usize) -> Result<(), BadDocument> {
        let tape = self.tape;
        let truth = || tape.raw(value) == "true";
        let number = || tape.raw(value).parse().ok().and_then(Double::new);
        let count = || tape.raw(value).parse::<f64>().ok().filter(|n| *n >= 0.0).map(|n| n as u64);
        match key {
            "required" => rules.required = self.texts(value)?,
            "enum" => {
                let all: Result<Vec<_>, _> = tape.elements(value).map(|at| self.text(tape.raw(at))).collect();
                rules.enumeration = all?.into();
            }
            "pattern" => rules.pattern = Some(self.text(&tape.string(value))?),
            "minimum" => rules.minimum = number(),
            "maximum" => rules.maximum = number(),
            "exclusiveMinimum" => rules.exclusive_minimum = truth(),
            "exclusiveMaximum" => rules.exclusive_maximum = truth(),
            "multipleOf" => rules.multiple_of = number(),
            "minLength" => rules.min_length = count(),
            "maxLength" => rules.max_length = count(),
            "minItems" => rules.min_items = count(),
            "maxItems" => rules.max_items = count(),
            "minProperties" => rules.min_properties = count(),
            "maxProperties" => rules.max_properties = count(),
            "uniqueItems" => rules.unique_items = truth(),
            "x-kubernetes-list-type" => {
                rules.list = match &*tape.string(value) {
                    "set" => ListType::Set,
                    "map" => ListType::Map,
                    _ => ListType::Atomic,
                }
            }
            "x-kubernetes-list-map-keys" => rules.list_keys = self.texts(value)?,
            "allOf" => rules.all_of = self.all(value)?,
            "anyOf" => rules.any_of = self.all(value)?,
            "oneOf" => rules.one_of = self.all(value)?,
            "not" => rules.not = Some(self.schema(value)?),
            "default" if self.keeps_defaults => rules.default = Some(self.text(tape.raw(value))?),
            _ => {}
        }
        Ok(())
    }

    fn properties(&mut self, at: usize) -> Result<Box<[Property]>, BadDocument> {
        let tape = self.tape;
        let mut all = Vec::new();
        for (key, value) in tape.members(at) {
            let name = tape.string(key);
            let schema = self.schema(value)?;
            let has_default = one(tape, value, "default").is_some();
            let property = Property { len: name.len() as u32, name: self.text(&name)?, schema, has_default };
            all.push((name, property));
        }
        all.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(&b.0)));
        all.dedup_by(|a, b| a.0 == b.0);
        Ok(all.into_iter().map(|(_, property)| property).collect())
    }

    fn texts(&mut self, at: usize) -> Result<Box<[Text]>, BadDocument> {
        let tape = self.tape;
        tape.elements(at).map(|at| self.text(&tape.string(at))).collect()
    }

    fn all(&mut self, at: usize) -> Result<Box<[Id]>, BadDocument> {
        let tape = self.tape;
        tape.elements(at).map(|at| self.schema(at)).collect()
    }
}

fn types(name: &str) -> Types {
    match name {
        "object" => Types::OBJECT,
        "array" => Types::ARRAY,
        "string" => Types::STRING,
        "number" => Types::NUMBER,
        "integer" => Types::INTEGER,
        "boolean" => Types::BOOLEAN,
        _ => Types::default(),
    }
}

fn format(name: &str) -> Format {
    match name {
        "int32" => Format::Int32,
        "int64" => Format::Int64,
        "double" | "float" => Format::Double,
        "byte" => Format::Byte,
        "int-or-string" => Format::IntOrString,
        _ => Format::Unsaid,
    }
}

/// Definitions whose Go types read themselves; what the document says of them says less.
fn special(name: &str) -> Option<Format> {
    let name = name.strip_prefix("io.k8s.")?;
    Some(match name {
        "apimachinery.pkg.apis.meta.v1.Time" => Format::Time,
        "apimachinery.pkg.apis.meta.v1.MicroTime" => Format::MicroTime,
        "apimachinery.pkg.apis.meta.v1.Duration" => Format::Duration,
        "apimachinery.pkg.api.resource.Quantity" => Format::Quantity,
        "apimachinery.pkg.util.intstr.IntOrString" => Format::IntOrString,
        "apimachinery.pkg.runtime.RawExtension"
        | "apimachinery.pkg.apis.meta.v1.FieldsV1"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => Format::Raw,
        _ => return None,
    })
}

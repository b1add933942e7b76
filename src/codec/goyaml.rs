//! YAML as `sigs.k8s.io/yaml` reads it, on which kube-apiserver's decoder of YAML bodies is built: YAML 1.1 scalars, of two
//! equal keys the last, merge keys, aliases with their limit, and only the first document of a stream.
//!
//! The syntax is read by a parser of YAML 1.2. Where it stops, or where the two versions may differ, the answer is
//! [`Refused::Unsure`]: that a text is no YAML to Kubernetes is not said on its word.

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag, options};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt::Write as _,
};

mod scalar;

use scalar::{Resolved, resolve};

/// A text as the JSON that Kubernetes makes of it; the keys stand in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// One JSON text.
    pub json: String,
    /// Keys that were in their mapping before, in the words of Go's strict decoder: `line 3: key "a" already set in map`. At most
    /// 100 of them.
    pub duplicates: Vec<String>,
}

/// Why there is no JSON of a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Kubernetes refuses it, with these words.
    #[error("{0}")]
    No(String),
    /// Kubernetes may read it.
    #[error("{0}")]
    Unsure(&'static str),
}

/// How much one text may hold; what holds more is [`Refused::Unsure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Scalars, sequences and mappings, aliases expanded; each takes about 100 bytes.
    pub nodes: usize,
    /// Bytes of JSON.
    pub json: usize,
}

/// Levels of nesting, aliases expanded; each takes some hundred bytes of stack.
const DEEPEST: usize = 250;
/// Duplicates that are told.
const MOST_DUPLICATES: usize = 100;

/// Reads the first document.
///
/// # Errors
/// See [`Refused`].
pub fn to_json(text: &str, limits: Limits) -> Result<Read, Refused> {
    if !is_common(text) {
        return Err(Refused::Unsure("it has characters that YAML 1.1 reads otherwise"));
    }
    // `\\/` is an escape of YAML 1.2; tabs before the first character of a line, or behind its dashes, are read otherwise.
    let has_odd_tab = |line: &str| line.trim_start_matches([' ', '-', '?']).starts_with('\t');
    if ["\\/", "\\ud", "\\uD"].iter().any(|escape| text.contains(escape))
        || text.contains('\t') && text.split(['\n', '\r']).any(has_odd_tab)
    {
        return Err(UNSURE);
    }
    let nodes = parse(text, limits)?;
    if nodes.is_empty() && text.contains("...") {
        return Err(UNSURE);
    }
    let mut writer = Writer {
        nodes: &nodes,
        limits,
        out: String::with_capacity(text.len()),
        count: 0,
        aliased: 0,
        inside: Vec::new(),
        replaced: 0,
        duplicates: Vec::new(),
    };
    // No document at all is null.
    match nodes.first() {
        Some(_) => writer.value(0, 0)?,
        None => writer.out.push_str("null"),
    }
    Ok(Read { json: writer.out, duplicates: writer.duplicates })
}

/// Whether a text has neither control characters, which YAML 1.1 refuses, nor line breaks and marks that only one of the
/// versions knows.
pub fn is_common(text: &str) -> bool {
    if text.is_ascii() {
        return text.bytes().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    }
    text.chars().all(|c| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
    })
}

/// One node of the text; what is inside it comes after it.
#[derive(Debug)]
struct Node<'t> {
    /// Where it begins, counted from 1.
    line: u32,
    /// The first node that is not inside it.
    after: u32,
    what: What<'t>,
}

#[derive(Debug)]
enum What<'t> {
    Scalar {
        value: Cow<'t, str>,
        /// Neither quoted nor tagged, but for `!`.
        is_plain: bool,
        tag: Option<Box<str>>,
    },
    Sequence,
    Mapping,
    Alias(u32),
}

const UNSURE: Refused = Refused::Unsure("it may be YAML to kube-apiserver");
const TOO_MUCH: Refused = Refused::Unsure("it has too many values");

fn parse<'t>(text: &'t str, limits: Limits) -> Result<Vec<Node<'t>>, Refused> {
    let options = options! {
        disallow_directives: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut nodes: Vec<Node<'t>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    // Levels that are written with brackets.
    let mut flow = 0usize;
    let mut anchors: HashMap<usize, u32> = HashMap::new();
    let mut parser = Parser::new_from_str_with_options(text, options);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|_| UNSURE)?;
        let target = match &event {
            Event::Alias(anchor) => anchors.get(anchor).copied(),
            _ => None,
        };
        // A block scalar begins with its `|` to Go, which stands behind its key.
        let line = match &event {
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => {
                nodes.last().map(|node| node.line)
            }
            _ => None,
        };
        let line = line.unwrap_or(span.start.line() as u32);
        let mut add = |what, anchor: usize| {
            let node = nodes.len();
            if node >= limits.nodes {
                return Err(TOO_MUCH);
            }
            if anchor != 0 {
                anchors.insert(anchor, node as u32);
            }
            nodes.push(Node { line, after: node as u32 + 1, what });
            Ok(node)
        };
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let tag = tag.map(|tag| name(&tag));
                is_alike(&value, style, tag.as_deref(), (text, &span), !open.is_empty(), flow > 0)?;
                let is_plain = match tag.as_deref() {
                    None => style == ScalarStyle::Plain,
                    Some(tag) => tag == "!",
                };
                add(What::Scalar { value, is_plain, tag }, anchor)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                flow += usize::from(flow > 0 || style == StructureStyle::Flow);
                collection(tag.as_deref(), flow > 0)?;
                open.push(add(What::Sequence, anchor)?);
            }
            Event::MappingStart(style, anchor, tag) => {
                flow += usize::from(flow > 0 || style == StructureStyle::Flow);
                collection(tag.as_deref(), flow > 0)?;
                open.push(add(What::Mapping, anchor)?);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                flow = flow.saturating_sub(1);
                let after = nodes.len() as u32;
                if let Some(node) = open.pop().and_then(|node| nodes.get_mut(node)) {
                    node.after = after;
                }
            }
            Event::Alias(_) => {
                add(What::Alias(target.ok_or(UNSURE)?), 0)?;
            }
            // In YAML 1.1 other characters end a name.
            Event::Anchor(_, name) => {
                if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                    return Err(UNSURE);
                }
            }
            Event::DocumentEnd => break,
            Event::DocumentStart(_, Some(_)) => return Err(UNSURE),
            Event::DocumentStart(_, None) | Event::StreamStart | Event::StreamEnd => {}
            _ => return Err(UNSURE),
        }
    }
    Ok(nodes)
}

/// Refuses to say what a scalar is that YAML 1.1 reads otherwise.
fn is_alike(
    value: &str,
    style: ScalarStyle,
    tag: Option<&str>,
    (text, span): (&str, &Span),
    is_inside: bool,
    is_flow: bool,
) -> Result<(), Refused> {
    let rest = span.end.byte_offset().and_then(|at| text.get(at..)).ok_or(UNSURE)?;
    let is_cut = rest.is_empty() && !text.ends_with('\n');
    let odd = match style {
        // Without a line break behind it, or not indented.
        ScalarStyle::Literal | ScalarStyle::Folded => !is_inside || is_cut || is_flow,
        // Question marks and colons end a text in brackets, and a key needs its colon on the same line.
        _ if is_flow => {
            let behind = rest.trim_start_matches([' ', '\t']);
            let colon = style == ScalarStyle::Plain
                && (value.contains('?')
                    || value.starts_with(':')
                    || rest.strip_prefix(':').is_some_and(|rest| !rest.starts_with([' ', '\t', '\n', '\r'])));
            let breaks = behind.starts_with(['\n', '\r', '#']) && next_line(behind).starts_with(':');
            let long_key = span.end.line() > span.start.line() && behind.starts_with(':');
            tag.is_some_and(|tag| !is_standard(tag)) || colon || breaks || long_key
        }
        _ => false,
    };
    if odd { Err(UNSURE) } else { Ok(()) }
}

/// `!!str` and its like; where other tags end in brackets is not the same in both versions.
fn is_standard(tag: &str) -> bool {
    tag.strip_prefix("!!").is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase()))
}

/// What comes behind blanks, line breaks and comments.
fn next_line(mut rest: &str) -> &str {
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        match rest.strip_prefix('#') {
            Some(comment) => rest = comment.trim_start_matches(|c| !matches!(c, '\n' | '\r')),
            None => return rest,
        }
    }
}

/// `!!int`, `!`, `!mine`.
fn name(tag: &Tag) -> Box<str> {
    match (tag.handle(), tag.suffix()) {
        ("tag:yaml.org,2002:", suffix) => format!("!!{suffix}").into(),
        (handle, suffix) => match format!("{handle}{suffix}") {
            whole if whole.starts_with("tag:yaml.org,2002:") => {
                whole.replacen("tag:yaml.org,2002:", "!!", 1).into()
            }
            whole => whole.into(),
        },
    }
}

/// Tags of collections mean nothing to Go's decoder but for `!!null`.
fn collection(tag: Option<&Tag>, is_flow: bool) -> Result<(), Refused> {
    match tag.map(name) {
        Some(tag) if &*tag == "!!null" || is_flow && !is_standard(&tag) => Err(UNSURE),
        _ => Ok(()),
    }
}

/// A key, as Go's decoder tells one from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<'t> {
    Text(Cow<'t, str>),
    Int(i64),
    Bool(bool),
}

impl Key<'_> {
    /// The name that it is in JSON.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Int(int) => Cow::Owned(int.to_string()),
            Self::Bool(bool) => Cow::Borrowed(if *bool { "true" } else { "false" }),
        }
    }

    /// In Go's syntax.
    fn quoted(&self) -> String {
        let Self::Text(text) = self else { return self.name().into_owned() };
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{b}' => out.push_str("\\v"),
                '\u{c}' => out.push_str("\\f"),
                '\n' | '\r' | '\t' | '\\' => out.extend(c.escape_default()),
                '\0'..=' ' | '\u{7f}' if c != ' ' => {
                    // Infallible: it is a string.
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out + "\""
    }
}

/// A mapping's members, each with the node of its value; merged ones, too.
#[derive(Debug, Default)]
struct Members<'t> {
    list: Vec<(Key<'t>, usize)>,
    places: HashMap<Key<'t>, usize>,
}

struct Writer<'n, 't> {
    nodes: &'n [Node<'t>],
    limits: Limits,
    out: String,
    /// Steps of Go's decoder, as its own limit counts them.
    count: usize,
    /// Those of them that were taken inside of aliases.
    aliased: usize,
    /// The aliases that are being followed.
    inside: Vec<usize>,
    /// Inside so many values that others have replaced.
    replaced: usize,
    duplicates: Vec<String>,
}

impl<'n, 't> Writer<'n, 't> {
    /// One step of Go's decoder, and of ours.
    fn step(&mut self, depth: usize) -> Result<(), Refused> {
        self.count += 1;
        self.aliased += usize::from(!self.inside.is_empty());
        if self.aliased > 100
            && self.count > 1000
            && self.aliased as f64 / self.count as f64 > allowed_ratio(self.count)
        {
            return Err(Refused::No("yaml: document contains excessive aliasing".into()));
        }
        if self.count > self.limits.nodes.saturating_mul(2) || self.out.len() > self.limits.json {
            return Err(TOO_MUCH);
        }
        if depth > DEEPEST { Err(Refused::Unsure("it is nested too deeply")) } else { Ok(()) }
    }

    fn value(&mut self, at: usize, depth: usize) -> Result<(), Refused> {
        self.step(depth)?;
        let nodes = self.nodes;
        let Some(node) = nodes.get(at) else { return Err(UNSURE) };
        match &node.what {
            What::Scalar { .. } => {
                match scalar_of(node)? {
                    Resolved::Null => self.out.push_str("null"),
                    Resolved::Bool(bool) => self.out.push_str(if bool { "true" } else { "false" }),
                    Resolved::Int(int) => self.write(int),
                    Resolved::Unsigned(int) => self.write(int),
                    Resolved::Float(_) if self.replaced > 0 => {}
                    Resolved::Float(float) => self.out.push_str(&scalar::float(float)?),
                    Resolved::Text(text) => self.text(&text),
                }
                Ok(())
            }
            What::Sequence => {
                self.out.push('[');
                let mut next = at + 1;
                while next < node.after as usize {
                    if next > at + 1 {
                        self.out.push(',');
                    }
                    self.value(next, depth + 1)?;
                    next = self.after(next);
                }
                self.out.push(']');
                Ok(())
            }
            What::Mapping => self.mapping(at, depth),
            What::Alias(target) => {
                self.enter(at)?;
                self.value(*target as usize, depth + 1)?;
                self.inside.pop();
                Ok(())
            }
        }
    }

    fn mapping(&mut self, at: usize, depth: usize) -> Result<(), Refused> {
        let mut members = Members::default();
        self.members(at, &mut members, depth)?;
        // Of `1` and `"1"` Kubernetes takes either.
        let mut names = HashSet::new();
        if members.list.iter().any(|(key, _)| !matches!(key, Key::Text(_)))
            && !members.list.iter().all(|(key, _)| names.insert(key.name()))
        {
            return Err(UNSURE);
        }
        self.out.push('{');
        for (i, (key, value)) in members.list.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.text(&key.name());
            self.out.push(':');
            self.value(*value, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    /// Collects the members, in the order in which Go's decoder sets them.
    fn members(&mut self, at: usize, members: &mut Members<'t>, depth: usize) -> Result<(), Refused> {
        let nodes = self.nodes;
        let end = self.after(at);
        let mut next = at + 1;
        while next < end {
            let (key, value) = (next, self.after(next));
            next = self.after(value);
            let Some(node) = nodes.get(key) else { return Err(UNSURE) };
            if is_merge(node) {
                self.merge(value, members, depth + 1)?;
                continue;
            }
            self.step(depth)?;
            let node = match &node.what {
                What::Alias(target) => {
                    self.step(depth)?;
                    nodes.get(*target as usize).ok_or(UNSURE)?
                }
                _ => node,
            };
            let key = match scalar_of(node)? {
                Resolved::Text(text) => Key::Text(text),
                Resolved::Int(int) => Key::Int(int),
                Resolved::Bool(bool) => Key::Bool(bool),
                _ => return Err(Refused::Unsure("a key is of a type that is none in JSON")),
            };
            match members.places.entry(key) {
                Entry::Vacant(place) => {
                    members.list.push((place.key().clone(), value));
                    place.insert(members.list.len() - 1);
                }
                Entry::Occupied(place) => {
                    if self.duplicates.len() < MOST_DUPLICATES {
                        let line = nodes.get(value).map_or(0, |node| node.line);
                        let key = place.key().quoted();
                        self.duplicates.push(format!("line {line}: key {key} already set in map"));
                    }
                    if let Some(member) = members.list.get_mut(*place.get()) {
                        // What is replaced is decoded all the same, and may be wrong.
                        let length = self.out.len();
                        let replaced = std::mem::replace(&mut member.1, value);
                        self.replaced += 1;
                        self.value(replaced, depth + 1)?;
                        self.replaced -= 1;
                        self.out.truncate(length);
                    }
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, at: usize, members: &mut Members<'t>, depth: usize) -> Result<(), Refused> {
        let nodes = self.nodes;
        let mut maps = match nodes.get(at).map(|node| &node.what) {
            Some(What::Sequence) => {
                let mut elements = Vec::new();
                let mut next = at + 1;
                while next < self.after(at) {
                    elements.push(next);
                    next = self.after(next);
                }
                elements
            }
            _ => vec![at],
        };
        // The first of them counts most.
        while let Some(map) = maps.pop() {
            self.step(depth)?;
            let what = nodes.get(map).map(|node| &node.what);
            let target = match what {
                Some(What::Alias(target)) => *target as usize,
                _ => map,
            };
            if !matches!(nodes.get(target).map(|node| &node.what), Some(What::Mapping)) {
                return Err(Refused::No(
                    "yaml: map merge requires map or sequence of maps as the value".into(),
                ));
            }
            let is_alias = target != map;
            if is_alias {
                self.enter(map)?;
                self.step(depth)?;
            }
            self.members(target, members, depth)?;
            if is_alias {
                self.inside.pop();
            }
        }
        Ok(())
    }

    fn enter(&mut self, alias: usize) -> Result<(), Refused> {
        if self.inside.contains(&alias) {
            return Err(Refused::Unsure("an anchor's value contains itself"));
        }
        self.inside.push(alias);
        Ok(())
    }

    /// Always forward, so that no walk can hang.
    fn after(&self, at: usize) -> usize {
        self.nodes.get(at).map_or(usize::MAX, |node| (node.after as usize).max(at + 1))
    }

    fn text(&mut self, text: &str) {
        // To write a string as JSON cannot fail.
        self.out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    fn write(&mut self, value: impl std::fmt::Display) {
        // Infallible: it is a string.
        let _ = write!(self.out, "{value}");
    }
}

fn scalar_of<'t>(node: &Node<'t>) -> Result<Resolved<'t>, Refused> {
    match &node.what {
        What::Scalar { value, is_plain, tag } => match tag.as_deref() {
            None if !is_plain => Ok(Resolved::Text(value.clone())),
            tag => resolve(tag.unwrap_or_default(), value.clone()),
        },
        _ => Err(Refused::Unsure("a key is no scalar")),
    }
}

fn is_merge(node: &Node<'_>) -> bool {
    match &node.what {
        What::Scalar { value, is_plain, tag } => {
            value == "<<" && (*is_plain || tag.as_deref() == Some("!!merge"))
        }
        _ => false,
    }
}

/// How much of the work may come from aliases: 99 % of the first 400,000 steps, less and less of 4,000,000.
fn allowed_ratio(count: usize) -> f64 {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    0.99 - 0.89 * ((count as f64 - LOW) / (HIGH - LOW)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;

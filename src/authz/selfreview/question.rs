//! The question of a SelfSubjectAccessReview: its `spec`, read from and written in each encoding.

use super::media::{Malformed, Members, Sent};
use crate::{
    codec::protobuf::{Field, Message, Writer},
    request::{Attributes, Object},
};
use serde_json::{Map, Value};

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// `resourceAttributes`.
    pub(super) resource: Option<Resource>,
    /// `nonResourceAttributes`.
    pub(super) path: Option<Path>,
}

/// What is asked of a resource, taken literally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resource {
    /// [`NAMES`], in that order.
    texts: [String; 7],
    field_selector: Option<Selector>,
    label_selector: Option<Selector>,
}

/// What is asked of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Path {
    path: String,
    verb: String,
}

/// No rule of RBAC asks for it; it is only repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selector {
    raw: String,
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

/// The members of `resourceAttributes` that are strings, in the order of their numbers in protobuf, from 1.
const NAMES: [&str; 7] = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];

impl Question {
    pub(super) fn read(sent: &Sent<'_>) -> Result<Self, Malformed> {
        let mut question = Self::default();
        match sent {
            Sent::Value(value) => {
                if let Some(spec) = Members::of(value, String::new())?.object("spec")? {
                    question.resource =
                        spec.object("resourceAttributes")?.map(|m| Resource::read(&m)).transpose()?;
                    question.path =
                        spec.object("nonResourceAttributes")?.map(|m| Path::read(&m)).transpose()?;
                }
            }
            Sent::Protobuf(envelope) => {
                for field in Sent::message(envelope) {
                    let field = field?;
                    if field.number == 2 {
                        question.merge(field.message()?)?;
                    }
                }
            }
        }
        Ok(question)
    }

    /// A message that comes twice is one, as everywhere in protobuf.
    fn merge(&mut self, spec: Message<'_>) -> Result<(), Malformed> {
        for field in spec {
            let field = field?;
            match field.number {
                1 => self.resource.get_or_insert_default().merge(field.message()?)?,
                2 => self.path.get_or_insert_default().merge(field.message()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What is to be decided; None unless it is exactly one thing.
    pub(super) fn attributes(&self) -> Option<Attributes<'_>> {
        match (&self.resource, &self.path) {
            (Some(resource), None) => {
                let [namespace, verb, group, version, resource, subresource, name] =
                    resource.texts.each_ref().map(String::as_str);
                let object = Object::Resource { group, version, resource, subresource, namespace, name };
                Some(Attributes { verb, object })
            }
            (None, Some(path)) => Some(Attributes { verb: &path.verb, object: Object::Path(&path.path) }),
            _ => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut spec = Map::new();
        if let Some(resource) = &self.resource {
            spec.insert("resourceAttributes".into(), resource.json());
        }
        if let Some(path) = &self.path {
            let mut members = Map::new();
            put(&mut members, "path", &path.path);
            put(&mut members, "verb", &path.verb);
            spec.insert("nonResourceAttributes".into(), members.into());
        }
        spec.into()
    }

    pub(super) fn write(&self, spec: &mut Writer) {
        if let Some(resource) = &self.resource {
            spec.message(1, |of| resource.write(of));
        }
        if let Some(path) = &self.path {
            spec.message(2, |of| {
                of.text(1, &path.path);
                of.text(2, &path.verb);
            });
        }
    }
}

impl Resource {
    fn read(members: &Members<'_>) -> Result<Self, Malformed> {
        let mut resource = Self::default();
        for (text, name) in resource.texts.iter_mut().zip(NAMES) {
            members.text(name)?.clone_into(text);
        }
        let selector = |name| members.object(name)?.map(|m| Selector::read(&m)).transpose();
        resource.field_selector = selector("fieldSelector")?;
        resource.label_selector = selector("labelSelector")?;
        Ok(resource)
    }

    fn merge(&mut self, message: Message<'_>) -> Result<(), Malformed> {
        for field in message {
            let field = field?;
            match field.number {
                8 => self.field_selector.get_or_insert_default().merge(field.message()?)?,
                9 => self.label_selector.get_or_insert_default().merge(field.message()?)?,
                number => {
                    if let Some(text) = self.texts.get_mut(number as usize - 1) {
                        field.text()?.clone_into(text);
                    }
                }
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        for (text, name) in self.texts.iter().zip(NAMES) {
            put(&mut members, name, text);
        }
        for (selector, name) in
            [(&self.field_selector, "fieldSelector"), (&self.label_selector, "labelSelector")]
        {
            if let Some(selector) = selector {
                members.insert(name.into(), selector.json());
            }
        }
        members.into()
    }

    fn write(&self, message: &mut Writer) {
        for (text, number) in self.texts.iter().zip(1..) {
            message.text(number, text);
        }
        for (selector, number) in [(&self.field_selector, 8), (&self.label_selector, 9)] {
            if let Some(selector) = selector {
                message.message(number, |of| selector.write(of));
            }
        }
    }
}

impl Path {
    fn read(members: &Members<'_>) -> Result<Self, Malformed> {
        Ok(Self { path: members.text("path")?.into(), verb: members.text("verb")?.into() })
    }

    fn merge(&mut self, message: Message<'_>) -> Result<(), Malformed> {
        for field in message {
            let field = field?;
            match field.number {
                1 => self.path = field.text()?.into(),
                2 => self.verb = field.text()?.into(),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Selector {
    fn read(members: &Members<'_>) -> Result<Self, Malformed> {
        let requirement = |m: &Members<'_>| {
            Ok::<_, Malformed>(Requirement {
                key: m.text("key")?.into(),
                operator: m.text("operator")?.into(),
                values: m.texts("values")?,
            })
        };
        let requirements =
            members.objects("requirements")?.iter().map(requirement).collect::<Result<_, _>>()?;
        Ok(Self { raw: members.text("rawSelector")?.into(), requirements })
    }

    fn merge(&mut self, message: Message<'_>) -> Result<(), Malformed> {
        for field in message {
            let field = field?;
            match field.number {
                1 => self.raw = field.text()?.into(),
                2 => self.requirements.push(Requirement::from(field)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        put(&mut members, "rawSelector", &self.raw);
        let requirement = |r: &Requirement| {
            let mut members = Map::new();
            members.insert("key".into(), r.key.as_str().into());
            members.insert("operator".into(), r.operator.as_str().into());
            if !r.values.is_empty() {
                members.insert("values".into(), r.values.as_slice().into());
            }
            Value::from(members)
        };
        if !self.requirements.is_empty() {
            members.insert("requirements".into(), self.requirements.iter().map(requirement).collect());
        }
        members.into()
    }

    fn write(&self, message: &mut Writer) {
        message.text(1, &self.raw);
        for requirement in &self.requirements {
            message.message(2, |of| {
                of.text(1, &requirement.key);
                of.text(2, &requirement.operator);
                of.texts(3, &requirement.values);
            });
        }
    }
}

impl Requirement {
    fn from(field: Field<'_>) -> Result<Self, Malformed> {
        let mut requirement = Self::default();
        for field in field.message()? {
            let field = field?;
            match field.number {
                1 => requirement.key = field.text()?.into(),
                2 => requirement.operator = field.text()?.into(),
                3 => requirement.values.push(field.text()?.into()),
                _ => {}
            }
        }
        Ok(requirement)
    }
}

/// Empty strings are left out.
fn put(members: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        members.insert(name.into(), text.into());
    }
}

//! An object of any of the four kinds as it came, for kube's watcher. Nothing of it is judged here: what cannot be understood must not
//! keep the others from being read.

use crate::rbac::{GROUP, live::Kind};
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// The object, and of its metadata what the watcher needs.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    meta: ObjectMeta,
    pub(super) object: Value,
}

/// How the kind is asked for.
pub(super) fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{GROUP}/v1"),
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let meta = ObjectMeta { resource_version: version.map(str::to_owned), ..ObjectMeta::default() };
        Ok(Self { meta, object })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }

    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }

    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }

    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

//! What a DELETE says in its body: DeleteOptions, decoded as kube-apiserver does. Fields that it does not know are passed over.

use super::{
    envelope::{self, Envelope},
    fields::{Walk, Way},
    judge::version_kind,
};
use crate::{
    codec::{
        document::{Document, Format, Undecodable},
        tape::Unreadable,
    },
    request::Verb,
    status::{Status, push_go_quoted},
    validate::schema::Schemas,
};
use std::sync::LazyLock;

/// The same in every version.
static OPTIONS: LazyLock<Option<Schemas>> = LazyLock::new(|| Schemas::compile(DOCUMENT.as_bytes()).ok());

const DOCUMENT: &str = r##"{"openapi": "3.0.0",
"paths": {"/api/v1/options": {"post": {"requestBody": {"content": {"*/*": {"schema": {"$ref": "#/components/schemas/v1.DeleteOptions"}}}}}}},
"components": {"schemas": {
"v1.DeleteOptions": {"type": "object", "properties": {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "gracePeriodSeconds": {"type": "integer", "format": "int64"},
    "preconditions": {"$ref": "#/components/schemas/v1.Preconditions"},
    "orphanDependents": {"type": "boolean"},
    "propagationPolicy": {"$ref": "#/components/schemas/v1.DeletionPropagation"},
    "dryRun": {"type": "array", "items": {"type": "string"}},
    "ignoreStoreReadErrorWithClusterBreakingPotential": {"type": "boolean"}}},
"v1.Preconditions": {"type": "object", "properties": {
    "uid": {"$ref": "#/components/schemas/types.UID"}, "resourceVersion": {"type": "string"}}},
"v1.DeletionPropagation": {"type": "string"},
"types.UID": {"type": "string"}}}}"##;

/// What is wrong with a body that says something: by which rule, and what kube-apiserver answers.
pub(super) fn wrong(document: &Document<'_>) -> Option<(&'static str, Status)> {
    let bad = |rule, text: String| Some((rule, Status::bad_request(text)));
    let format = document.format();
    let tape = match document.tape() {
        Ok(tape) => tape,
        Err(Undecodable::Json(why @ (Unreadable::Syntax(_) | Unreadable::Depth(_))))
            if format == Format::Json =>
        {
            return bad("undecodable", version_kind(&why.to_string()));
        }
        // Nobody knows whether the upstream can read it.
        Err(_) => return None,
    };
    let read = match Envelope::read(tape) {
        Ok(read) => read,
        Err(why) => return bad("undecodable", why),
    };
    if !matches!(&*read.kind, "" | "DeleteOptions") {
        let (group, version) = match (&*read.group, &*read.version) {
            ("", "") => ("meta.k8s.io", "v1"),
            said => said,
        };
        let mut text = "no kind ".to_owned();
        push_go_quoted(&mut text, &read.kind);
        text.push_str(" is registered for version ");
        push_go_quoted(&mut text, &envelope::api_version(group, version));
        text.push_str(" in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\"");
        return bad("kind", text);
    }
    if format != Format::Json {
        return None;
    }
    let schemas = OPTIONS.as_ref()?;
    let mut walk = Walk::new(schemas, tape, Way { strict: false, ..Way::JSON });
    walk.value(schemas.body("options", "", Verb::Create)?, 0);
    bad("field-type", walk.decoded.error?)
}

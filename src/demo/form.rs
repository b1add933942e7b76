//! In which form a client wants objects: as they are, as tables, or their metadata alone.

use super::{
    answer::Failure,
    custom,
    kinds::Kind,
    media::{self, Clause, Encoding},
    route::Query,
    table::{self, Include},
    value::text,
};
use http::HeaderMap;
use serde_json::{Value, json};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The objects.
    Json,
    /// `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// PartialObjectMetadata, or its list.
    Partial {
        /// What was asked for.
        list: bool,
    },
}

impl Form {
    /// The first clause of `Accept` that can be served. Protobuf cannot: clients that prefer it accept JSON, too.
    pub(super) fn negotiate(
        headers: &HeaderMap,
        query: &Query,
        stream: bool,
    ) -> Result<(Self, Encoding), Failure> {
        let served = |clause: &Clause<'_>| {
            let encoding = clause.encoding(headers, query).filter(|e| !stream || *e != Encoding::Yaml)?;
            Some((Self::of(clause)?, encoding))
        };
        media::clauses(headers).iter().find_map(served).ok_or_else(|| media::unacceptable(stream))
    }

    fn of(clause: &Clause<'_>) -> Option<Self> {
        match clause.to {
            ("", _, _) => Some(Self::Json),
            ("Table", "meta.k8s.io", "v1") => Some(Self::Table("meta.k8s.io/v1")),
            ("Table", "meta.k8s.io", "v1beta1") => Some(Self::Table("meta.k8s.io/v1beta1")),
            ("PartialObjectMetadata", "meta.k8s.io", "v1") => Some(Self::Partial { list: false }),
            ("PartialObjectMetadataList", "meta.k8s.io", "v1") => Some(Self::Partial { list: true }),
            _ => None,
        }
    }

    /// Whether a list, or a single object, can be had in this form.
    pub(super) fn fits(self, kind: &Kind, list: bool) -> Result<(), Failure> {
        let package = if kind.group.is_empty() { "core" } else { kind.group };
        let package = package.split('.').next().unwrap_or_default();
        let of = |list: bool| match (kind.custom, list) {
            (Some(_), true) => "*unstructured.UnstructuredList".to_owned(),
            (Some(_), false) => "*unstructured.Unstructured".to_owned(),
            (None, true) => format!("*{package}.{}", kind.list_kind()),
            (None, false) => format!("*{package}.{}", kind.kind),
        };
        let why = match (self, list) {
            (Self::Partial { list: false }, true) => {
                format!(
                    "you requested PartialObjectMetadata, but the requested object is a list ({})",
                    of(true)
                )
            }
            (Self::Partial { list: true }, false) => format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                of(false)
            ),
            _ => return Ok(()),
        };
        Err(Failure::new(406, "NotAcceptable", why))
    }

    /// One object.
    pub(super) fn one(self, kind: &Kind, object: &Value, include: Include) -> Value {
        match self {
            Self::Json => custom::shown(kind, object).into_owned(),
            Self::Partial { .. } => table::partial(object),
            Self::Table(version) => {
                let metadata = json!({"resourceVersion": text(object, "/metadata/resourceVersion")});
                table_of(version, kind, &metadata, &[object], include, true)
            }
        }
    }

    /// A list.
    pub(super) fn list(self, kind: &Kind, metadata: &Value, objects: &[&Value], include: Include) -> Value {
        match self {
            Self::Json => {
                let bare = |o: &&Value| {
                    let mut o = custom::shown(kind, o).into_owned();
                    if kind.custom.is_some() {
                        return o;
                    }
                    super::value::remove(&mut o, "/kind");
                    super::value::remove(&mut o, "/apiVersion");
                    o
                };
                json!({"kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata,
                    "items": objects.iter().map(bare).collect::<Vec<_>>()})
            }
            Self::Partial { .. } => {
                let items: Vec<Value> = objects.iter().map(|o| table::partial(o)).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "items": items})
            }
            Self::Table(version) => table_of(version, kind, metadata, objects, include, true),
        }
    }

    /// One object of a watch; a table's columns come with the first event only.
    pub(super) fn event(self, kind: &Kind, object: &Value, include: Include, first: bool) -> Value {
        match self {
            Self::Table(version) => {
                let metadata = json!({"resourceVersion": text(object, "/metadata/resourceVersion")});
                table_of(version, kind, &metadata, &[object], include, first)
            }
            other => other.one(kind, object, include),
        }
    }

    /// A bookmark's object.
    pub(super) fn bookmark(self, kind: &Kind, version: u64, last_initial: bool) -> Value {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if last_initial {
            super::value::set(&mut metadata, "/annotations/k8s.io~1initial-events-end", "true");
        }
        match self {
            Self::Json => json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}),
            Self::Partial { .. } => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Self::Table(api_version) => {
                let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                let list = json!({"resourceVersion": version.to_string()});
                json!({"kind": "Table", "apiVersion": api_version, "metadata": list, "columnDefinitions": null,
                    "rows": [{"cells": [], "object": object}]})
            }
        }
    }
}

fn table_of(
    version: &str,
    kind: &Kind,
    metadata: &Value,
    objects: &[&Value],
    include: Include,
    columns: bool,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|o| table::row(kind, o, include)).collect();
    json!({"kind": "Table", "apiVersion": version, "metadata": metadata,
        "columnDefinitions": if columns { table::definitions(kind) } else { Value::Null }, "rows": rows})
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, header};

    #[test]
    fn accept_headers() {
        let rows = [
            ("", Some(Form::Json)),
            ("*/*", Some(Form::Json)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Form::Json)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Form::Table("meta.k8s.io/v1")),
            ),
            ("application/json;as=Foo;g=x;v=v1, application/json", Some(Form::Json)),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Form::Partial { list: true }),
            ),
            ("text/html", None),
            ("application/vnd.kubernetes.protobuf", None),
        ];
        for (accept, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let found = Form::negotiate(&headers, &Query::default(), false);
            assert_eq!(found.ok().map(|(form, _)| form), expected, "{accept}");
        }
    }
}

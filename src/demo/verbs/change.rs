//! Creating, replacing, patching and deleting objects.

use super::{
    Call, Place,
    below::scale_of,
    body::{Body, parse_yaml},
    warn,
};
use crate::demo::{
    answer::{Answer, Cause, Failure, GroupResource, json_answer},
    caller, custom,
    kinds::Kind,
    patch, schema,
    value::{int, items, set, text},
    write::{self, Delete, Propagation, Write, spot},
};
use http::header;
use serde_json::{Value, json};
use std::sync::Arc;

impl Call<'_> {
    pub(super) fn written(
        &self,
        code: u16,
        kind: &Kind,
        object: &Value,
        warnings: &[String],
    ) -> Result<Answer, Failure> {
        let mut answer = self.one(code, kind, object)?;
        for warning in warnings {
            warn(&mut answer, warning);
        }
        Ok(answer)
    }

    pub(super) fn create(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let bytes = body?;
        let by = self.by()?;
        let mut object = self.decode(place.kind, &bytes)?;
        let warnings = self.check(place.kind, place, &mut object)?;
        let made =
            self.server.store.write(|s| write::create(s, place.target(), &place.namespace, object, &by))?;
        self.written(201, place.kind, &made, &warnings)
    }

    pub(super) fn update(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let bytes = body?;
        let by = self.by()?;
        let mut object = self.decode(place.kind, &bytes)?;
        let warnings = self.check(place.kind, place, &mut object)?;
        self.check_name(&object)?;
        let (at, namespace, name) = (place.at, &place.namespace, &self.resource.name);
        let makes = matches!(
            place.kind.plural,
            "endpoints"
                | "events"
                | "leases"
                | "limitranges"
                | "services"
                | "roles"
                | "rolebindings"
                | "clusterroles"
                | "clusterrolebindings"
        );
        let sub = &self.resource.sub;
        let (code, done) = self.server.store.write(|s| match s.get(at, namespace, name) {
            None if makes && place.kind.custom.is_none() && sub.is_empty() => {
                self.may_create()?;
                write::create(s, place.target(), namespace, object, &by).map(|o| (201, o))
            }
            _ => write::update(s, place.target(), sub, namespace, name, object, &by).map(|o| (200, o)),
        })?;
        self.written(code, place.kind, &done, &warnings)
    }

    /// An update or apply that creates needs the right to create.
    pub(super) fn may_create(&self) -> Result<(), Failure> {
        let name = self.asked.name();
        let mut attributes = caller::attributes(self.asked, &name);
        attributes.verb = "create";
        caller::allow(self.caller, self.rules, attributes)
    }

    pub(super) fn patch(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        let media =
            self.parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_owned();
        if !matches!(
            media.as_str(),
            "application/json-patch+json"
                | "application/merge-patch+json"
                | "application/strategic-merge-patch+json"
                | "application/apply-patch+yaml"
        ) {
            return Err(Failure::unknown_patch());
        }
        self.form()?;
        let bytes = body?;
        let by = self.by()?;
        let (at, namespace, name, sub) =
            (place.at, &*place.namespace, &*self.resource.name, &*self.resource.sub);
        if media == "application/apply-patch+yaml" {
            return self.apply(place, &bytes, &by);
        }
        let patch: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
        if media != "application/json-patch+json" && !patch.is_object() {
            return Err(Failure::bad_request(
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ));
        }
        let (done, warnings) = self.server.store.write(|s| {
            let live = write::find(s, at, namespace, name)?;
            let live = custom::shown(place.kind, &live);
            let shown = if sub == "scale" { scale_of(place.kind, &live) } else { live.into_owned() };
            let mut patched = shown;
            // What the server owns is not in the way of a patch that says nothing about it.
            let outcome = match media.as_str() {
                "application/json-patch+json" => patch::json(&mut patched, &patch),
                "application/merge-patch+json" => {
                    patch::merge(&mut patched, &patch);
                    Ok(())
                }
                _ => patch::strategic(
                    &mut patched,
                    &patch,
                    if sub == "scale" { schema::Spot::unknown() } else { spot(place.kind) },
                ),
            };
            outcome.map_err(refuse_patch)?;
            if sub == "scale" {
                return self.rescale(s, place, &patched, &by).map(|o| (o, Vec::new()));
            }
            let warnings = self.check(place.kind, place, &mut patched)?;
            self.check_name(&patched)?;
            write::update(s, place.target(), sub, namespace, name, patched, &by).map(|o| (o, warnings))
        })?;
        if sub == "scale" {
            return Ok(json_answer(200, &scale_of(place.kind, &done)));
        }
        self.written(200, place.kind, &done, &warnings)
    }

    pub(super) fn apply(&self, place: &Place, bytes: &[u8], by: &Write) -> Result<Answer, Failure> {
        let query = &self.asked.query;
        if query.text("fieldManager").is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
        }
        let mut applied = parse_yaml(place.kind.kind, bytes)
            .map_err(|e| Failure::bad_request(format!("error decoding patch: {}", e.message)))?;
        if applied.pointer("/metadata/managedFields").is_some_and(|f| !items(f, "").is_empty()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let warnings = self.check(place.kind, place, &mut applied)?;
        let name = &*self.resource.name;
        if text(&applied, "/metadata/name").is_empty() {
            set(&mut applied, "/metadata/name", name);
        }
        self.check_name(&applied)?;
        let (done, new) = self.server.store.write(|s| {
            if s.get(place.at, &place.namespace, name).is_none() {
                self.may_create()?;
            }
            let target = (place.target(), &*self.resource.sub);
            write::apply(s, target, (&place.namespace, name), &applied, query.flag("force"), by)
        })?;
        self.written(if new { 201 } else { 200 }, place.kind, &done, &warnings)
    }

    pub(super) fn delete_options(&self, body: Body) -> Result<Delete, Failure> {
        let bytes = body?;
        let options = if bytes.is_empty() {
            let query = &self.asked.query;
            let mut options = json!({});
            for key in ["propagationPolicy", "uid", "resourceVersion"] {
                if let Some(value) = query.get(key) {
                    let at = if key == "propagationPolicy" {
                        "/propagationPolicy".to_owned()
                    } else {
                        format!("/preconditions/{key}")
                    };
                    set(&mut options, &at, value);
                }
            }
            if let Some(grace) = query.get("gracePeriodSeconds") {
                let grace: i64 = grace.parse().map_err(|_| {
                    Failure::bad_request(format!("strconv.ParseInt: parsing {grace:?}: invalid syntax"))
                })?;
                set(&mut options, "/gracePeriodSeconds", grace);
            }
            let dry: Vec<&str> = query.all("dryRun").collect();
            if !dry.is_empty() {
                set(&mut options, "/dryRun", json!(dry));
            }
            options
        } else {
            self.decode_as(schema::named("DeleteOptions"), "DeleteOptions", &bytes)?
        };
        delete_options(&options)
    }

    pub(super) fn delete(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let how = self.delete_options(body)?;
        let name = &self.resource.name;
        let (object, gone) =
            self.server.store.write(|s| write::delete(s, place.at, &place.namespace, name, &how))?;
        if gone && !matches!(place.kind.plural, "pods" | "services" | "serviceaccounts") {
            return Ok(json_answer(200, &deleted(place.kind.resource(), &object)));
        }
        self.one(200, place.kind, &object)
    }

    pub(super) fn delete_all(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        if matches!(place.kind.plural, "namespaces" | "services") && place.kind.group.is_empty() {
            return Err(Failure::method_not_allowed());
        }
        let (form, include) = self.form()?;
        let selector = self.selector(place.kind)?;
        let how = self.delete_options(body)?;
        let (version, gone) = self.server.store.write(|s| {
            let keys: Vec<_> = s
                .range(place.at, &place.namespace, None)
                .filter(|(_, o)| selector.matches(o))
                .map(|(k, _)| k.clone())
                .collect();
            let gone: Vec<Arc<Value>> = keys
                .into_iter()
                .filter_map(|(namespace, name)| write::delete(s, place.at, &namespace, &name, &how).ok())
                .map(|(object, _)| object)
                .collect();
            (s.version(), gone)
        });
        let gone: Vec<&Value> = gone.iter().map(|o| &**o).collect();
        let metadata = json!({"resourceVersion": version.to_string()});
        Ok(json_answer(200, &form.list(place.kind, &metadata, &gone, include)))
    }
}

pub(super) fn refuse_patch(error: patch::Error) -> Failure {
    match error {
        patch::Error::Malformed(text) => Failure::bad_request(text),
        patch::Error::NotApplicable => {
            Failure::new(422, "Invalid", patch::Error::NotApplicable.to_string()).with_details(json!({}))
        }
        patch::Error::Directive(text) => Failure::new(500, "", text),
    }
}

pub(super) fn delete_options(options: &Value) -> Result<Delete, Failure> {
    let propagation = match text(options, "/propagationPolicy") {
        "" if options.get("orphanDependents") == Some(&Value::Bool(true)) => Propagation::Orphan,
        "" | "Background" => Propagation::Background,
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        other => {
            let known = ["Background", "Foreground", "Orphan"];
            let cause = Cause::unsupported("propagationPolicy", other, &known);
            return Err(Failure::invalid("meta.k8s.io", "DeleteOptions", "", &[cause]));
        }
    };
    let precondition = |key: &str| match text(options, &format!("/preconditions/{key}")) {
        "" => None,
        value => Some(value.to_owned()),
    };
    let dry = items(options, "/dryRun");
    if let Some(bad) = dry.iter().find(|d| *d != "All") {
        let cause = Cause::unsupported("dryRun", bad.as_str().unwrap_or_default(), &["All"]);
        return Err(Failure::invalid("meta.k8s.io", "DeleteOptions", "", &[cause]));
    }
    Ok(Delete {
        uid: precondition("uid"),
        version: precondition("resourceVersion"),
        grace: int(options, "/gracePeriodSeconds").map(|g| if g < 0 { 1 } else { g }),
        propagation,
        dry_run: !dry.is_empty(),
    })
}

pub(super) fn deleted(what: GroupResource<'_>, object: &Value) -> Value {
    let mut details = json!({"name": text(object, "/metadata/name")});
    if !what.group.is_empty() {
        set(&mut details, "/group", what.group);
    }
    set(&mut details, "/kind", what.resource);
    set(&mut details, "/uid", text(object, "/metadata/uid"));
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

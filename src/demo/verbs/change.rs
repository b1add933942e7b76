//! Creating, replacing, patching and deleting objects.

use super::{
    Call, Place,
    below::scale_of,
    body::{Body, Decoded, parse_yaml},
    warn,
};
use crate::demo::{
    answer::{Answer, Cause, Failure, GroupResource},
    caller, custom, json,
    kinds::Kind,
    options, patch, schema,
    value::{int, items, set, text},
    write::{self, Delete, Propagation, Write, spot},
};
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
        self.format()?;
        let bytes = body?;
        let by = self.by()?;
        let Decoded { value: mut object, twice } = self.decode(place.kind, &bytes)?;
        let warnings = self.check(place, &mut object, twice)?;
        let made =
            self.server.store.write(|s| write::create(s, place.target(), &place.namespace, object, &by))?;
        self.written(201, place.kind, &made, &warnings)
    }

    pub(super) fn update(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let bytes = body?;
        let by = self.by()?;
        let Decoded { value: mut object, twice } = self.decode(place.kind, &bytes)?;
        let warnings = self.check(place, &mut object, twice)?;
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
        let media = self.patch_media();
        if !patch::is_known(media, place.kind.custom.is_some()) {
            return Err(Failure::unknown_patch(place.kind.custom.is_some()));
        }
        self.form()?;
        let bytes = body?;
        let by = self.by()?;
        if media == "application/apply-patch+yaml" {
            return self.apply(place, &bytes, &by);
        }
        let sub = &*self.resource.sub;
        let (done, warnings) = self.server.store.write(|s| {
            let live = write::find(s, place.at, &place.namespace, &self.resource.name)?;
            let live = custom::shown(place.kind, &live);
            let uid = text(&live, "/metadata/uid").to_owned();
            let mut patched = if sub == "scale" { scale_of(place.kind, &live) } else { live.into_owned() };
            let (patch, twice) = self.patched(place.kind, &bytes, &mut patched)?;
            if sub == "scale" {
                return self.rescale(s, place, &patched, &by).map(|o| (o, Vec::new()));
            }
            let shown = if media.contains("strategic") { patch::go(&patch) } else { patched.to_string() };
            let misfit = |failure| misfit(place.kind, &shown, failure);
            let warnings = self.recognize(place.kind, &mut patched, twice).map_err(misfit)?;
            self.check_name(&patched)?;
            self.check_uid(place.kind, &patched, &uid)?;
            let warnings = self.check(place, &mut patched, Vec::new()).map(|_| warnings)?;
            write::update(s, place.target(), sub, &place.namespace, &self.resource.name, patched, &by)
                .map(|o| (o, warnings))
        })?;
        if sub == "scale" {
            return Ok(self.say(200, &scale_of(place.kind, &done)));
        }
        self.written(200, place.kind, &done, &warnings)
    }

    /// A patch says of the UID what an update would have as a precondition.
    fn check_uid(&self, kind: &Kind, patched: &Value, uid: &str) -> Result<(), Failure> {
        let sent = text(patched, "/metadata/uid");
        if sent.is_empty() || sent == uid {
            return Ok(());
        }
        let cause = Cause::invalid("metadata.uid", &format!("{sent:?}"), "field is immutable");
        Err(Failure::invalid(kind.group, kind.kind, &self.resource.name, &[cause]))
    }

    /// Applies a patch to `target`; the patch, and which of its keys are there twice.
    fn patched(
        &self,
        kind: &Kind,
        bytes: &[u8],
        target: &mut Value,
    ) -> Result<(Value, Vec<String>), Failure> {
        let media = self.patch_media();
        let Decoded { value: patch, twice } = parse_patch(media, bytes)?;
        // What the server owns is not in the way of a patch that says nothing about it.
        let outcome = match media {
            "application/json-patch+json" => patch::json(target, &patch),
            "application/merge-patch+json" => {
                patch::merge(target, &patch);
                Ok(())
            }
            _ => {
                let spot = if self.resource.sub == "scale" { schema::Spot::unknown() } else { spot(kind) };
                patch::strategic(target, &patch, spot)
            }
        };
        outcome.map_err(refuse_patch)?;
        Ok((patch, twice))
    }

    pub(super) fn apply(&self, place: &Place, bytes: &[u8], by: &Write) -> Result<Answer, Failure> {
        let query = &self.asked.query;
        let Decoded { value: mut applied, twice } = parse_yaml(bytes).map_err(|why| {
            Failure::bad_request(format!("error decoding YAML: error converting YAML to JSON: {why}"))
        })?;
        if let (Some(first), "Strict") = (twice.first(), query.text("fieldValidation")) {
            return Err(Failure::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {first}"
            )));
        }
        if !applied.is_object() && !applied.is_null() {
            return Err(Failure::bad_request(format!(
                "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value \
                 of type map[string]interface {{}}",
                json::type_of(&applied)
            )));
        }
        let (api, kind) = (text(&applied, "/apiVersion"), text(&applied, "/kind"));
        if (api, kind) != (&*place.kind.api_version(), place.kind.kind) {
            let slash = if api.contains('/') { "" } else { "/" };
            return Err(Failure::bad_request(format!("invalid object type: {slash}{api}, Kind={kind}")));
        }
        if applied.pointer("/metadata/managedFields").is_some_and(|f| !items(f, "").is_empty()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        self.typed(place.kind, &applied)?;
        let mut warnings = self.check(place, &mut applied, Vec::new())?;
        warnings.splice(0..0, twice);
        let name = &*self.resource.name;
        if text(&applied, "/metadata/name").is_empty() {
            set(&mut applied, "/metadata/name", name);
        }
        self.check_name(&applied)?;
        let (done, new) = self.server.store.write(|s| {
            let uid = text(&applied, "/metadata/uid");
            match s.get(place.at, &place.namespace, name) {
                Some(live) => self.check_uid(place.kind, &applied, text(&live, "/metadata/uid"))?,
                None if !uid.is_empty() => {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    );
                    return Err(Failure::conflict(place.kind.resource(), name, &why));
                }
                None => self.may_create()?,
            }
            let target = (place.target(), &*self.resource.sub);
            write::apply(s, target, (&place.namespace, name), &applied, query.flag("force"), by)
        })?;
        self.written(if new { 201 } else { 200 }, place.kind, &done, &warnings)
    }

    /// What is applied must have the fields of its kind, whatever `fieldValidation` says.
    fn typed(&self, kind: &Kind, applied: &Value) -> Result<(), Failure> {
        let Some(of) = schema::kind(kind.group, kind.version, kind.kind) else { return Ok(()) };
        let unknown = schema::check(of, applied).into_iter().find_map(|wrong| match wrong {
            schema::Wrong::Unknown(field) => Some(field),
            schema::Wrong::Type(_) => None,
        });
        let Some(field) = unknown else { return Ok(()) };
        let at = |pointer: &str| text(applied, pointer);
        let group = if kind.group.is_empty() { format!("/{}", kind.version) } else { kind.api_version() };
        Err(Failure::new(
            500,
            "",
            format!(
                "failed to create typed patch object ({}/{}; {group}, Kind={}): .{field}: field not declared in schema",
                at("/metadata/namespace"),
                at("/metadata/name"),
                kind.kind
            ),
        ))
    }

    pub(super) fn delete_options(&self, body: Body) -> Result<Delete, Failure> {
        let bytes = body?;
        if !bytes.is_empty() {
            let sent = self.decode_as(schema::named("DeleteOptions"), "DeleteOptions", &bytes)?;
            let kind = text(&sent, "/kind");
            if !matches!(kind, "" | "DeleteOptions") {
                let version = text(&sent, "/apiVersion");
                return Err(Failure::bad_request(format!(
                    "no kind {kind:?} is registered for version {version:?} in scheme \
                     \"pkg/apis/meta/internalversion/scheme/register.go:27\""
                )));
            }
            if let Some(wrong) = sent.get("gracePeriodSeconds").filter(|g| !g.is_i64() && !g.is_null()) {
                return Err(Failure::bad_request(format!(
                    "json: cannot unmarshal {} into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
                    json::type_of(wrong)
                )));
            }
            return delete_options(&sent);
        }
        // Only without a body does the query count.
        let query = &self.asked.query;
        let mut options = json!({});
        for (key, at) in [
            ("propagationPolicy", "/propagationPolicy"),
            ("uid", "/preconditions/uid"),
            ("resourceVersion", "/preconditions/resourceVersion"),
        ] {
            if let Some(value) = query.get(key) {
                set(&mut options, at, value);
            }
        }
        if let Some(grace) = options::number(query, "gracePeriodSeconds")? {
            set(&mut options, "/gracePeriodSeconds", grace);
        }
        if query.get("orphanDependents").is_some() {
            set(&mut options, "/orphanDependents", query.flag("orphanDependents"));
        }
        set(&mut options, "/dryRun", query.all("dryRun").collect::<Vec<_>>());
        delete_options(&options)
    }

    pub(super) fn delete(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let how = self.delete_options(body)?;
        let name = &self.resource.name;
        let (object, gone) =
            self.server.store.write(|s| write::delete(s, place.at, &place.namespace, name, &how))?;
        if gone && !matches!(place.kind.plural, "pods" | "services" | "serviceaccounts") {
            return Ok(self.say(200, &deleted(place.kind.resource(), &object)));
        }
        self.one(200, place.kind, &object)
    }

    pub(super) fn delete_all(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        let (form, encoding) = self.form()?;
        let include = self.include()?;
        form.fits(place.kind, true)?;
        options::list(&self.asked.query, false)?;
        let selector = self.selector(place.kind)?;
        self.since()?;
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
        Ok(encoding.answer(200, &form.list(place.kind, &metadata, &gone, include)))
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

/// A result of a patch that cannot be read as its kind.
fn misfit(kind: &Kind, shown: &str, failure: Failure) -> Failure {
    let prefix = format!(" cannot be handled as a {}: ", kind.kind);
    let why = failure.message.split_once(&prefix).map_or(&*failure.message, |(_, why)| why);
    Failure::invalid("", "", "", &[Cause::invalid("patch", &format!("{shown:?}"), why)])
}

/// Most operations of a JSON patch.
const MOST_OPERATIONS: usize = 10_000;

fn parse_patch(media: &str, bytes: &[u8]) -> Result<Decoded, Failure> {
    let prefix = if media.contains("strategic") { "" } else { "error decoding patch: " };
    let bad = |why: &str| Failure::bad_request(format!("{prefix}{why}"));
    let decoded = json::read(bytes).map_err(|why| bad(&why))?;
    let twice = decoded.duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    let patch = decoded.value;
    let shape = |of: &str| {
        bad(&format!("json: cannot unmarshal {} into Go value of type {of}", json::type_of(&patch)))
    };
    if media != "application/json-patch+json" {
        if !patch.is_object() && !patch.is_null() {
            return Err(shape("map[string]interface {}"));
        }
    } else {
        let operations = match &patch {
            Value::Null => 0,
            Value::Array(operations) => operations.len(),
            _ => return Err(shape("jsonpatch.Patch")),
        };
        if operations > MOST_OPERATIONS {
            return Err(Failure::new(
                413,
                "RequestEntityTooLarge",
                format!(
                    "Request entity too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got \
                     {operations}"
                ),
            ));
        }
    }
    Ok(Decoded { value: patch, twice })
}

pub(super) fn delete_options(options: &Value) -> Result<Delete, Failure> {
    let policy = text(options, "/propagationPolicy");
    let orphan = options.get("orphanDependents");
    let dry: Vec<&str> = items(options, "/dryRun").iter().filter_map(Value::as_str).collect();
    let dry_run = options::delete(&dry, policy, orphan.is_some_and(|o| !o.is_null()))?;
    let propagation = match policy {
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        "" if orphan == Some(&Value::Bool(true)) => Propagation::Orphan,
        _ => Propagation::Background,
    };
    let precondition = |key: &str| match text(options, &format!("/preconditions/{key}")) {
        "" => None,
        value => Some(value.to_owned()),
    };
    Ok(Delete {
        uid: precondition("uid"),
        version: precondition("resourceVersion"),
        grace: int(options, "/gracePeriodSeconds").map(|g| if g < 0 { 1 } else { g }),
        propagation,
        dry_run,
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

//! Subresources, and the reviews.

use super::{
    Call, Place,
    body::{Body, Decoded},
    change::delete_options,
    warn,
};
use crate::demo::{
    answer::{Answer, Failure, GroupResource},
    custom,
    kinds::{self, Kind, Sub},
    kubelet,
    reviews::Known,
    schema, selector,
    store::State,
    value::{int, map, remove, set, text},
    write::{self, Write},
};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use std::sync::Arc;

impl Call<'_> {
    pub(super) fn review(&self, place: &Place, body: Body) -> Result<Answer, Failure> {
        self.form()?;
        let bytes = body?;
        let Decoded { value: mut review, twice } = self.decode(place.kind, &bytes)?;
        let warnings = self.check(place, &mut review, twice)?;
        let known = Known { caller: self.caller, rules: self.rules, server: self.server };
        let mut answer = self.say(201, &known.answer(place.kind, &place.namespace, review)?);
        warnings.iter().for_each(|text| warn(&mut answer, text));
        Ok(answer)
    }

    pub(super) fn subresource(
        &self,
        place: &Place,
        body: Body,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Answer, Failure> {
        let sub: &Sub = place.kind.sub(&self.resource.sub).ok_or_else(Failure::no_route)?;
        let verb = self.asked.verb.as_str();
        if !sub.verbs.contains(&verb) {
            return Err(Failure::method_not_allowed());
        }
        let (at, namespace, name) = (place.at, &*place.namespace, &*self.resource.name);
        let live = || self.server.store.read(|s| write::find(s, at, namespace, name));
        match (sub.name, verb) {
            ("scale", "get") => Ok(self.say(200, &scale_of(place.kind, &*live()?))),
            ("scale", "update") => {
                let by = self.by()?;
                let scale = self.decode_as(schema::named("Scale"), "Scale", &body?)?;
                let done = self.server.store.write(|s| self.rescale(s, place, &scale, &by))?;
                Ok(self.say(200, &scale_of(place.kind, &done)))
            }
            ("status", "get") => self.one(200, place.kind, &*live()?),
            ("status" | "finalize", "update") => self.update(place, body),
            ("status" | "scale", "patch") => self.patch(place, body),
            ("log" | "exec" | "attach" | "portforward", _) => {
                if sub.name == "log" {
                    self.form()?;
                }
                let which = match sub.name {
                    "exec" => kubelet::Sub::Exec,
                    "attach" => kubelet::Sub::Attach,
                    "portforward" => kubelet::Sub::PortForward,
                    _ => kubelet::Sub::Log,
                };
                self.server.kubelet.serve(self.parts, upgrade, &*live()?, which)
            }
            ("eviction", _) => self.evict(place, &body?),
            ("binding", _) => self.bind(place, &body?),
            ("token", _) => self.token(place, &*live()?, &body?),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    pub(super) fn rescale(
        &self,
        state: &mut State,
        place: &Place,
        scale: &Value,
        by: &Write,
    ) -> Result<Arc<Value>, Failure> {
        let live = write::find(state, place.at, &place.namespace, &self.resource.name)?;
        let mut scaled = custom::shown(place.kind, &live).into_owned();
        let wanted = int(scale, "/spec/replicas").unwrap_or_default();
        let at = place.kind.custom.and_then(|v| v.scale.as_ref()).map_or("/spec/replicas", |s| &s.spec);
        set(&mut scaled, at, wanted);
        remove(&mut scaled, "/metadata/managedFields");
        let version = text(scale, "/metadata/resourceVersion");
        if !version.is_empty() {
            set(&mut scaled, "/metadata/resourceVersion", version);
        }
        write::update(state, place.target(), "scale", &place.namespace, &self.resource.name, scaled, by)
    }

    pub(super) fn evict(&self, place: &Place, bytes: &[u8]) -> Result<Answer, Failure> {
        let eviction = self.decode_as(schema::named("Eviction"), "Eviction", bytes)?;
        let sent = text(&eviction, "/metadata/name");
        if !sent.is_empty() && sent != self.resource.name {
            return Err(Failure::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut how = delete_options(eviction.get("deleteOptions").unwrap_or(&json!({})))?;
        let dry = self.by()?.dry_run;
        how.dry_run |= dry;
        let name = &self.resource.name;
        self.server.store.write(|s| {
            let pod = write::find(s, place.at, &place.namespace, name)?;
            let budgets = kinds::by_plural("policy", "poddisruptionbudgets").unwrap_or_default();
            let spent = s.range(budgets, &place.namespace, None).find(|(_, b)| {
                let selector = b.pointer("/spec/selector").cloned().unwrap_or_default();
                selector::label_selector(&selector, &pod)
                    && int(b, "/status/disruptionsAllowed").unwrap_or_default() <= 0
            });
            if let Some(((_, budget), object)) = spent {
                let text = "Cannot evict pod as it would violate the pod's disruption budget.";
                let why = format!(
                    "The disruption budget {budget} needs {} healthy pods and has {} currently",
                    int(object, "/status/desiredHealthy").unwrap_or_default(),
                    int(object, "/status/currentHealthy").unwrap_or_default()
                );
                return Err(Failure::new(429, "TooManyRequests", text)
                    .with_details(json!({"causes": [{"reason": "DisruptionBudget", "message": why}]})));
            }
            write::delete(s, place.at, &place.namespace, name, &how)
        })?;
        Ok(self.say(
            201,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ))
    }

    pub(super) fn bind(&self, place: &Place, bytes: &[u8]) -> Result<Answer, Failure> {
        let binding = self.decode_as(schema::named("Binding"), "Binding", bytes)?;
        let by = self.by()?;
        let name = &self.resource.name;
        self.server.store.write(|s| {
            let pod = write::find(s, place.at, &place.namespace, name)?;
            let node = text(&pod, "/spec/nodeName");
            if !node.is_empty() {
                let why = format!("pod {name} is already assigned to node {node:?}");
                return Err(Failure::conflict(
                    GroupResource { group: "", resource: "pods/binding" },
                    name,
                    &why,
                ));
            }
            let mut bound = Value::clone(&pod);
            set(&mut bound, "/spec/nodeName", text(&binding, "/target/name"));
            write::update(s, place.target(), "", &place.namespace, name, bound, &by)
        })?;
        Ok(self.say(
            201,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ))
    }
}

/// `autoscaling/v1` Scale of a workload.
pub(super) fn scale_of(kind: &Kind, object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        set(&mut metadata, &format!("/{field}"), text(object, &format!("/metadata/{field}")));
    }
    if let Some(at) = kind.custom.and_then(|v| v.scale.as_ref()) {
        let mut status = json!({"replicas": int(object, &at.status).unwrap_or_default()});
        if let Some(selector) = &at.selector {
            set(&mut status, "/selector", text(object, selector));
        }
        return json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": int(object, &at.spec).unwrap_or_default()}, "status": status});
    }
    let labels = map(object, "/spec/selector/matchLabels").or_else(|| map(object, "/spec/selector"));
    let selector: Vec<String> = labels
        .filter(|_| !kind.plural.is_empty())
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
        .collect();
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": int(object, "/spec/replicas").unwrap_or_default()},
        "status": {"replicas": int(object, "/status/replicas").unwrap_or_default(), "selector": selector.join(",")}})
}

//! Requests for resources: from a routed request to the store and back.

mod below;
pub(super) mod body;
mod change;
mod token;

use super::{
    answer::{Answer, Failure, json_answer},
    apiserver::Server,
    caller::Caller,
    form::Form,
    kinds::{self, Kind, Target},
    route::{Asked, Resource},
    selector::Selector,
    store::State,
    table::Include,
    value::{set, text},
    watch::{self, Watch},
    write,
};
use crate::rbac::Rules;
use base64::Engine as _;
use body::Body;
use http::{HeaderValue, Method, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

/// A request for a resource, with everything that answering it takes.
pub(super) struct Call<'a> {
    /// The server.
    pub server: &'a Server,
    /// Who asks.
    pub caller: &'a Caller,
    /// What is allowed.
    pub rules: &'a Rules,
    /// The request.
    pub asked: &'a Asked,
    /// Its resource.
    pub resource: &'a Resource,
    /// Its head.
    pub parts: &'a Parts,
}

/// The place of a request among the kinds.
struct Place {
    at: usize,
    kind: &'static Kind,
    /// Empty for cluster-wide kinds.
    namespace: String,
}

impl Place {
    fn target(&self) -> Target {
        Target { at: self.at, kind: self.kind }
    }
}

impl Call<'_> {
    /// Answers.
    pub(super) fn answer(&self, body: Body, upgrade: Option<OnUpgrade>) -> Result<Answer, Failure> {
        let place = self.place()?;
        let Some(version) = place.kind.custom else { return self.route(place, body, upgrade) };
        let mut answer = self.route_custom(place, body)?;
        if let Some(text) = &version.deprecated {
            warn(&mut answer, text);
        }
        Ok(answer)
    }

    fn route(&self, place: Place, body: Body, upgrade: Option<OnUpgrade>) -> Result<Answer, Failure> {
        let named = !self.resource.name.is_empty();
        if !self.resource.sub.is_empty() {
            return self.subresource(&place, body, upgrade);
        }
        match (&self.parts.method, named) {
            (&Method::GET, _) if place.kind.is_virtual() => Err(Failure::method_not_allowed()),
            (&Method::POST, false) if place.kind.is_virtual() => self.review(&place, body),
            (&Method::GET, false) if self.asked.query.flag("watch") => self.watch(place),
            (&Method::GET, false) => self.list(&place),
            (&Method::POST, false) if place.kind.namespaced && place.namespace.is_empty() => {
                Err(Failure::method_not_allowed())
            }
            (&Method::POST, false) => self.create(&place, body),
            (&Method::DELETE, false) => self.delete_all(&place, body),
            (&Method::GET, true) => self.get(&place),
            (&Method::PUT, true) => self.update(&place, body),
            (&Method::PATCH, true) => self.patch(&place, body),
            (&Method::DELETE, true) => self.delete(&place, body),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn place(&self) -> Result<Place, Failure> {
        let r = self.resource;
        let built_in = kinds::is_built_in(&r.group);
        let missing = || if built_in { Failure::no_route() } else { Failure::no_path() };
        let served = self.server.store.served();
        let Target { at, kind } = served.find(&r.group, &r.version, &r.plural).ok_or_else(missing)?;
        if kind.custom.is_some() {
            return self.custom_place(at, kind);
        }
        let is_namespace = kind.plural == "namespaces" && r.group.is_empty();
        let fits = match (kind.namespaced, r.namespace.is_empty()) {
            (true, true) => r.name.is_empty(),
            (false, false) => is_namespace,
            _ => true,
        };
        if !fits || !r.tail.is_empty() && kind.sub(&r.sub).is_none() {
            return Err(Failure::no_route());
        }
        let namespace = if kind.namespaced { r.namespace.clone() } else { String::new() };
        Ok(Place { at, kind, namespace })
    }

    /// Custom resources are found by another server behind the first, which knows no path that it does not serve.
    fn custom_place(&self, at: usize, kind: &'static Kind) -> Result<Place, Failure> {
        let r = self.resource;
        let reads = r.name.is_empty() && matches!(self.parts.method, Method::GET | Method::HEAD);
        let fits = match (kind.namespaced, r.namespace.is_empty()) {
            (true, true) => reads,
            (false, false) => false,
            _ => true,
        };
        if !fits {
            return Err(Failure::no_path());
        }
        Ok(Place { at, kind, namespace: r.namespace.clone() })
    }

    /// Custom resources: a POST creates whatever its path names, and a method that does not fit is named by its verb.
    fn route_custom(&self, place: Place, body: Body) -> Result<Answer, Failure> {
        let named = !self.resource.name.is_empty();
        let method = &self.parts.method;
        let refused = || {
            let verb = if *method == Method::OPTIONS { "" } else { &*self.asked.verb };
            Failure::unsupported(place.kind.resource(), verb)
        };
        if !self.resource.sub.is_empty() {
            let unknown = || Failure::not_found(place.kind.resource(), &self.resource.name);
            let sub = place.kind.sub(&self.resource.sub).ok_or_else(unknown)?;
            if !sub.verbs.contains(&&*self.asked.verb) || *method == Method::OPTIONS {
                return Err(refused());
            }
            return self.subresource(&place, body, None);
        }
        match (method, named) {
            (&Method::GET | &Method::HEAD, false) if self.asked.query.flag("watch") => self.watch(place),
            (&Method::GET | &Method::HEAD, false) => self.list(&place),
            (&Method::GET | &Method::HEAD, true) => self.get(&place),
            (&Method::POST, _) => self.create(&place, body),
            (&Method::PUT | &Method::PATCH, false) => Err(Failure::bad_request("name must be provided")),
            (&Method::PUT, true) => self.update(&place, body),
            (&Method::PATCH, true) => self.patch(&place, body),
            (&Method::DELETE, true) => self.delete(&place, body),
            (&Method::DELETE, false) => self.delete_all(&place, body),
            _ => Err(refused()),
        }
    }

    // --- reading --------------------------------------------------------------------------------

    fn form(&self) -> Result<(Form, Include), Failure> {
        let form = Form::negotiate(&self.parts.headers)?;
        let include = Include::parse(self.asked.query.text("includeObject")).map_err(Failure::bad_request)?;
        Ok((form, include))
    }

    fn get(&self, place: &Place) -> Result<Answer, Failure> {
        let find = |s: &State| write::find(s, place.at, &place.namespace, &self.resource.name);
        self.one(200, place.kind, &*self.server.store.read(find)?)
    }

    fn one(&self, code: u16, kind: &Kind, object: &Value) -> Result<Answer, Failure> {
        let (form, include) = self.form()?;
        Ok(json_answer(code, &form.one(kind, object, include)))
    }

    fn selector(&self, kind: &Kind) -> Result<Selector, Failure> {
        let query = &self.asked.query;
        Selector::parse(kind, query.text("labelSelector"), query.text("fieldSelector"))
            .map_err(Failure::bad_request)
    }

    fn watch(&self, place: Place) -> Result<Answer, Failure> {
        let (form, include) = self.form()?;
        let selector = self.selector(place.kind)?;
        let Place { at, kind, namespace } = place;
        watch::start(
            &self.server.store,
            Watch { at, kind, namespace, selector, form, include },
            &self.asked.query,
        )
    }

    fn list(&self, place: &Place) -> Result<Answer, Failure> {
        let (form, include) = self.form()?;
        let selector = self.selector(place.kind)?;
        let query = &self.asked.query;
        let limit = match query.text("limit") {
            "" => 0,
            text => text.parse::<i64>().map_err(|e| {
                let _ = e;
                Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?,
        };
        let limit = usize::try_from(limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
        let version = match query.text("resourceVersion") {
            "" => 0,
            text => text.parse::<u64>().map_err(|_| {
                Failure::bad_request(format!(
                    "invalid resource version: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?,
        };
        let token = match query.text("continue") {
            "" => None,
            text => Some(Token::read(text).ok_or_else(|| {
                Failure::bad_request("continue key is not valid: encoded continue token is corrupt")
            })?),
        };
        if token.is_some() && version != 0 {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (now, mut objects) = self.server.store.read(|s| {
            let start = token.as_ref().map(|t| (t.namespace.clone(), t.name.clone()));
            let selected = s.range(place.at, &place.namespace, start.as_ref());
            let selected = selected.filter(|(_, o)| selector.matches(o)).map(|(_, o)| o.clone());
            (s.version(), selected.take(limit.saturating_add(1)).collect::<Vec<_>>())
        });
        if version > now {
            return Err(Failure::new(
                504,
                "Timeout",
                format!("Timeout: Too large resource version: {version}, current: {now}"),
            )
            .with_details(json!({"causes": [{"reason": "ResourceVersionTooLarge",
                    "message": "Too large resource version"}], "retryAfterSeconds": 1})));
        }
        let now = token.map_or(now, |t| t.version);
        let mut metadata = json!({"resourceVersion": now.to_string()});
        if objects.len() > limit {
            objects.truncate(limit);
            if let Some(last) = objects.last() {
                let (namespace, name) = super::store::key_of(last);
                set(&mut metadata, "/continue", Token { version: now, namespace, name }.write());
            }
        }
        let objects: Vec<&Value> = objects.iter().map(|o| &**o).collect();
        Ok(json_answer(200, &form.list(place.kind, &metadata, &objects, include)))
    }
}

/// Adds a warning, which clients show.
fn warn(answer: &mut Answer, text: &str) {
    let text = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    if let Ok(value) = HeaderValue::from_str(&text) {
        answer.headers_mut().append(header::WARNING, value);
    }
}

/// Where a list goes on.
struct Token {
    version: u64,
    namespace: String,
    name: String,
}

impl Token {
    fn write(&self) -> String {
        let json = json!({"v": "meta.k8s.io/v1", "rv": self.version, "start": format!("{}/{}\0", self.namespace, self.name)});
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
    }

    fn read(text_: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text_).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        let (namespace, name) = text(&value, "/start").strip_suffix('\0')?.split_once('/')?;
        Some(Self { version: value.get("rv")?.as_u64()?, namespace: namespace.into(), name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens() {
        let token = Token { version: 7, namespace: "a".into(), name: "b".into() }.write();
        let read = Token::read(&token).unwrap();
        assert_eq!((read.version, &*read.namespace, &*read.name), (7, "a", "b"));
        for bad in ["abc", "", "e30"] {
            assert!(Token::read(bad).is_none(), "{bad}");
        }
    }
}

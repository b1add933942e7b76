//! Requests for resources: from a routed request to the store and back.

mod below;
pub(super) mod body;
mod change;
mod token;

use super::{
    answer::{Answer, Failure},
    apiserver::Server,
    caller::Caller,
    form::Form,
    json,
    kinds::{self, Kind, Target},
    media::{self, Encoding},
    options, patch,
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
        self.routed(&place)?;
        let named = !self.resource.name.is_empty();
        if !self.resource.sub.is_empty() {
            return self.subresource(&place, body, upgrade);
        }
        match (&self.parts.method, named) {
            (&Method::POST, false) if place.kind.is_virtual() => self.review(&place, body),
            (&Method::GET, false) if self.asked.query.flag("watch") => self.watch(place),
            (&Method::GET, false) => self.list(&place),
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

    /// What the router looks at before anything else: whether the path has the method, then the types of a patch, then
    /// what is accepted.
    fn routed(&self, place: &Place) -> Result<(), Failure> {
        let r = self.resource;
        let (kind, method) = (place.kind, &self.parts.method);
        let inside = !kind.namespaced || !place.namespace.is_empty();
        let (has, also) = if !r.sub.is_empty() {
            let sub = kind.sub(&r.sub).ok_or_else(Failure::no_route)?;
            let known = matches!(*method, Method::GET | Method::POST | Method::PUT | Method::PATCH);
            (
                known && sub.verbs.contains(&&*self.asked.verb),
                if sub.name == "log" { "text/plain" } else { "" },
            )
        } else {
            let has = match (method, r.name.is_empty()) {
                (&Method::POST, true) => inside,
                _ if kind.is_virtual() => false,
                (&Method::GET, _) | (&Method::PUT | &Method::PATCH | &Method::DELETE, false) => true,
                (&Method::DELETE, true) => inside && !kind.is("", "namespaces"),
                _ => false,
            };
            (has, "")
        };
        if !has {
            return Err(Failure::method_not_allowed());
        }
        if *method == Method::PATCH && !patch::is_known(self.patch_media(), false) {
            return Err(Failure::unknown_patch(false));
        }
        if matches!(r.sub.as_str(), "attach" | "exec" | "portforward") {
            return Ok(());
        }
        media::routed(&self.parts.headers, *method == Method::GET && r.name.is_empty(), also)
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

    /// The form of one object's answer.
    fn form(&self) -> Result<(Form, Encoding), Failure> {
        Form::negotiate(&self.parts.headers, &self.asked.query, false)
    }

    fn include(&self) -> Result<Include, Failure> {
        Include::parse(self.asked.query.text("includeObject")).map_err(Failure::bad_request)
    }

    /// An answer that is none of the kind's objects.
    fn say(&self, code: u16, value: &Value) -> Answer {
        Encoding::plain(&self.parts.headers, &self.asked.query).answer(code, value)
    }

    fn get(&self, place: &Place) -> Result<Answer, Failure> {
        self.form()?;
        if self.asked.query.flag("export") {
            let why = "the export parameter, deprecated since v1.14, is no longer supported";
            return Err(Failure::bad_request(why));
        }
        let version = options::version(&self.asked.query).map_err(|why| Failure::new(500, "", why))?;
        self.not_ahead(version, self.server.store.read(State::version))?;
        let find = |s: &State| write::find(s, place.at, &place.namespace, &self.resource.name);
        self.one(200, place.kind, &*self.server.store.read(find)?)
    }

    fn one(&self, code: u16, kind: &Kind, object: &Value) -> Result<Answer, Failure> {
        let ((form, encoding), include) = (self.form()?, self.include()?);
        form.fits(kind, false)?;
        Ok(encoding.answer(code, &form.one(kind, object, include)))
    }

    /// A version that is yet to come cannot be waited for here.
    fn not_ahead(&self, version: u64, now: u64) -> Result<(), Failure> {
        if version <= now {
            return Ok(());
        }
        let text = format!("Timeout: Too large resource version: {version}, current: {now}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        Err(Failure::new(504, "Timeout", text)
            .with_details(json!({"causes": causes, "retryAfterSeconds": 1})))
    }

    fn selector(&self, kind: &Kind) -> Result<Selector, Failure> {
        let query = &self.asked.query;
        Selector::parse(kind, query.text("labelSelector"), query.text("fieldSelector"))
            .map_err(Failure::bad_request)
    }

    fn watch(&self, place: Place) -> Result<Answer, Failure> {
        let (form, _) = Form::negotiate(&self.parts.headers, &self.asked.query, true)?;
        let include = self.include()?;
        options::list(&self.asked.query, true)?;
        let selector = self.selector(place.kind)?;
        let Place { at, kind, namespace } = place;
        watch::start(
            &self.server.store,
            Watch { at, kind, namespace, selector, form, include },
            &self.asked.query,
        )
    }

    fn list(&self, place: &Place) -> Result<Answer, Failure> {
        let (form, encoding) = self.form()?;
        let include = self.include()?;
        form.fits(place.kind, true)?;
        let query = &self.asked.query;
        options::list(query, false)?;
        let selector = self.selector(place.kind)?;
        let (version, token) = self.since()?;
        let limit = options::number(query, "limit")?.unwrap_or_default();
        let limit = usize::try_from(limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
        let (now, mut objects) = self.server.store.read(|s| {
            let start = token.as_ref().map(|t| (t.namespace.clone(), t.name.clone()));
            let selected = s.range(place.at, &place.namespace, start.as_ref());
            let selected = selected.filter(|(_, o)| selector.matches(o)).map(|(_, o)| o.clone());
            (s.version(), selected.take(limit.saturating_add(1)).collect::<Vec<_>>())
        });
        self.not_ahead(version, now)?;
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
        Ok(encoding.answer(200, &form.list(place.kind, &metadata, &objects, include)))
    }

    /// From which version a list is asked, or where it goes on.
    fn since(&self) -> Result<(u64, Option<Token>), Failure> {
        let query = &self.asked.query;
        let token = match query.text("continue") {
            "" => None,
            text => Some(Token::read(text).map_err(|why| {
                Failure::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
            })?),
        };
        let given = query.text("resourceVersion");
        if token.is_some() && !matches!(given, "" | "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Failure::bad_request(why));
        }
        let wrong = |why| Failure::bad_request(format!("invalid resource version: {why}"));
        Ok((options::version(query).map_err(wrong)?, token))
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

    fn read(token: &str) -> Result<Self, String> {
        let engine = base64::engine::GeneralPurpose::new(
            &base64::alphabet::URL_SAFE,
            base64::engine::general_purpose::NO_PAD.with_decode_allow_trailing_bits(true),
        );
        let bytes = engine.decode(token).map_err(|e| format!("illegal base64 data: {e}"))?;
        let value = json::read(&bytes)?.value;
        let version = value.get("rv").and_then(Value::as_u64).filter(|v| *v != 0);
        let version = version.ok_or("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")?;
        let start = text(&value, "/start").trim_end_matches('\0');
        let (namespace, name) = start.split_once('/').unwrap_or(("", start));
        Ok(Self { version, namespace: namespace.into(), name: name.into() })
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
            assert!(Token::read(bad).is_err(), "{bad}");
        }
    }
}

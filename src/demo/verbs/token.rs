//! TokenRequest: a token of a service account, bound to what it names.

use super::{Call, Place};
use crate::demo::{
    accounts::ISSUER,
    answer::{Answer, Cause, Failure, GroupResource},
    kinds, schema,
    value::{int, items, set, text},
    write,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Seconds, unless the request says how many.
const LIFETIME: i64 = 3600;
/// The time that kubelets ask for: the token is good for a year, and only remembers when it should have been renewed.
const ONLY_WARNS: i64 = 3607;
const YEAR: i64 = 365 * 24 * 3600;

impl Call<'_> {
    /// Answers a request for a token of `account`.
    pub(super) fn token(&self, place: &Place, account: &Value, bytes: &[u8]) -> Result<Answer, Failure> {
        let mut request = self.decode_as(schema::named("TokenRequest"), "TokenRequest", bytes)?;
        let name = text(account, "/metadata/name");
        let seconds = int(&request, "/spec/expirationSeconds").unwrap_or(LIFETIME);
        check(&request, name, seconds)?;
        let audiences = match items(&request, "/spec/audiences") {
            [] => vec![Value::from(ISSUER)],
            some => some.to_vec(),
        };
        let now = Timestamp::now().as_second();
        let mut own = json!({"namespace": place.namespace,
            "serviceaccount": {"name": name, "uid": text(account, "/metadata/uid")}});
        self.bind_token(&request, place, name, &mut own)?;
        let only_warns = seconds == ONLY_WARNS && audiences.iter().any(|aud| aud == ISSUER);
        if only_warns {
            set(&mut own, "/warnafter", now + seconds);
        }
        let claims = json!({"aud": audiences, "exp": now + if only_warns { YEAR } else { seconds }, "iat": now,
            "iss": ISSUER, "jti": write::uid(), "kubernetes.io": own, "nbf": now,
            "sub": format!("system:serviceaccount:{}:{name}", place.namespace)});
        let expires = Timestamp::from_second(now + seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        set(&mut request, "/kind", "TokenRequest");
        set(&mut request, "/apiVersion", "authentication.k8s.io/v1");
        set(&mut request, "/metadata/name", name);
        set(&mut request, "/metadata/namespace", place.namespace.as_str());
        set(&mut request, "/metadata/creationTimestamp", write::now());
        set(&mut request, "/spec/audiences", claims["aud"].clone());
        set(&mut request, "/spec/expirationSeconds", seconds);
        let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let token = self.server.accounts.mint(&claims);
        set(&mut request, "/status", json!({"token": token, "expirationTimestamp": expires}));
        Ok(self.say(201, &request))
    }

    /// Adds what the token is to be bound to, if it is there.
    fn bind_token(
        &self,
        request: &Value,
        place: &Place,
        account: &str,
        own: &mut Value,
    ) -> Result<(), Failure> {
        let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}")).to_owned();
        let (version, kind, name, uid) = (bound("apiVersion"), bound("kind"), bound("name"), bound("uid"));
        let claim = match (&*version, &*kind) {
            ("", "") => return Ok(()),
            ("v1", "Pod") => "pod",
            ("v1", "Secret") => "secret",
            ("v1", "Node") => "node",
            _ => {
                let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
                let what = format!("{group}/{version}, Kind={kind}");
                return Err(Failure::bad_request(format!("cannot bind token to object of type {what}")));
            }
        };
        let nodes = kinds::by_plural("", "nodes").unwrap_or_default();
        let at = kinds::by_plural("", &format!("{}s", kind.to_lowercase())).unwrap_or_default();
        let namespace = if at == nodes { "" } else { &*place.namespace };
        let (object, node) = self.server.store.read(|state| {
            let object = write::find(state, at, namespace, &name)?;
            let node = state.get(nodes, "", text(&object, "/spec/nodeName"));
            Ok::<_, Failure>((object, node.filter(|_| claim == "pod")))
        })?;
        if claim == "pod" && text(&object, "/spec/serviceAccountName") != account {
            return Err(Failure::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        if !uid.is_empty() && uid != text(&object, "/metadata/uid") {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            return Err(Failure::conflict(GroupResource { group: "", resource: &kind }, &name, &why));
        }
        let reference =
            |o: &Value| json!({"name": text(o, "/metadata/name"), "uid": text(o, "/metadata/uid")});
        set(own, &format!("/{claim}"), reference(&object));
        if let Some(node) = node {
            set(own, "/node", reference(&node));
        }
        Ok(())
    }
}

fn check(request: &Value, name: &str, seconds: i64) -> Result<(), Failure> {
    let sent = text(request, "/metadata/name");
    let mut causes = Vec::new();
    if !sent.is_empty() && sent != name {
        let why = "must match the service account name if specified";
        causes.push(Cause::invalid("metadata.name", &format!("{sent:?}"), why));
    }
    let field = "spec.expirationSeconds";
    if seconds < 600 {
        let why = "may not specify a duration less than 10 minutes";
        causes.push(Cause::invalid(field, &seconds.to_string(), why));
    } else if seconds > 1 << 32 {
        let why = "may not specify a duration larger than 2^32 seconds";
        causes.push(Cause::invalid(field, &seconds.to_string(), why));
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid("authentication.k8s.io", "TokenRequest", name, &causes))
}

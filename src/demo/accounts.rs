//! Service accounts prove themselves: the key that signs their tokens, what is published of it, and who a token's bearer is.

use super::{
    answer::{Answer, json_answer, typed},
    caller::Caller,
    jws::{self, Alg, Key, compact},
    kinds,
    store::{State, Store},
    value::{items, text},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Who issues the tokens, and whom they are for unless they say otherwise.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The algorithm of the key.
const ALG: Alg = Alg::Es256;
/// How many seconds clocks may differ, and how long a deleted object still counts.
const LEEWAY: i64 = 60;
/// What the keys of a service account's extra begin with.
const EXTRA: &str = "authentication.kubernetes.io/";

/// The key of now.
#[derive(Debug)]
pub(super) struct Accounts(Mutex<Arc<Key>>);

/// Whose token it is, and for whom it is of those who were asked about.
pub(super) type Known = (Caller, Vec<String>);

impl Accounts {
    pub(super) fn new() -> Result<Self, jws::Error> {
        Ok(Self(Mutex::new(Arc::new(Key::new(ALG)?))))
    }

    /// Another key; the old one is gone at once.
    pub(super) fn rotate(&self) -> Result<(), jws::Error> {
        let new = Arc::new(Key::new(ALG)?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The key that signs.
    pub(super) fn key(&self) -> Arc<Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token of these claims.
    pub(super) fn mint(&self, claims: &Value) -> String {
        let key = self.key();
        let header = json!({"alg": ALG.name(), "kid": key.kid()}).to_string();
        compact(header.as_bytes(), claims.to_string().as_bytes(), |message| key.sign(ALG, message))
    }

    /// `/.well-known/openid-configuration`
    pub(super) fn discovery(&self, server: SocketAddr) -> Answer {
        cacheable(json_answer(
            200,
            &json!({"issuer": ISSUER, "jwks_uri": format!("https://{server}/openid/v1/jwks"),
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALG.name()]}),
        ))
    }

    /// `/openid/v1/jwks`
    pub(super) fn jwks(&self) -> Answer {
        let keys = json!({"keys": [self.key().jwk()]});
        cacheable(typed(200, "application/jwk-set+json", keys.to_string()))
    }

    /// Whose token it is. No opinion on what is not a token of this issuer.
    pub(super) fn authenticate(
        &self,
        token: &str,
        wanted: &[String],
        store: &Store,
        now: Timestamp,
    ) -> Result<Option<Known>, String> {
        let Some(token) = Token::parse(token) else { return Ok(None) };
        let key = self.key();
        let kid = token.header.get("kid").map(|kid| kid.as_str().unwrap_or_default());
        if kid.is_some_and(|kid| kid != key.kid()) {
            return Err("invalid signature, no keys found".to_owned());
        }
        if text(&token.header, "/alg") != ALG.name()
            || !key.verifies(ALG, token.signed.as_bytes(), &token.signature)
        {
            return Err("the signature does not verify".to_owned());
        }
        let claims = &token.claims;
        let own = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            _ => items(claims, "/aud").iter().filter_map(|aud| aud.as_str().map(str::to_owned)).collect(),
        };
        let own = if own.is_empty() { vec![ISSUER.to_owned()] } else { own };
        let meant: Vec<String> = wanted.iter().filter(|aud| own.contains(aud)).cloned().collect();
        if meant.is_empty() {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(&own),
                quoted(wanted)
            ));
        }
        on_time(claims, now.as_second())?;
        let caller = store.read(|state| bearer(state, claims, now.as_second()))?;
        Ok(Some((caller, meant)))
    }
}

/// A token of ours taken apart; nothing in it has been verified.
struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    header: Value,
    claims: Value,
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
        let claims = json(claims)?;
        if text(&claims, "/iss") != ISSUER {
            return None;
        }
        Some(Self { signed, signature: decode(signature)?, header: json(header)?, claims })
    }
}

/// A time that is not there is no limit.
fn on_time(claims: &Value, now: i64) -> Result<(), String> {
    let at = |claim: &str| claims.get(claim).and_then(Value::as_i64);
    let why = if at("nbf").is_some_and(|from| now + LEEWAY < from) {
        "service account token is not valid yet"
    } else if at("exp").is_some_and(|until| now - LEEWAY > until) {
        "service account token has expired"
    } else if at("iat").is_some_and(|issued| now + LEEWAY < issued) {
        "service account token is issued in the future"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

/// The account that the claims name, if it and what the token is bound to are still there.
fn bearer(state: &State, claims: &Value, now: i64) -> Result<Caller, String> {
    let own = |field: &str| text(claims, &format!("/kubernetes.io/{field}")).to_owned();
    let namespace = own("namespace");
    let find = |plural: &str, inside: &str, of: &str, what: &str| -> Result<(String, String), String> {
        let (name, uid) = (own(&format!("{of}/name")), own(&format!("{of}/uid")));
        let at = kinds::by_plural("", plural).unwrap_or_default();
        let found = state.get(at, inside, &name);
        let Some(object) = found.filter(|object| !is_gone(object, now)) else {
            return Err("service account token has been invalidated".to_owned());
        };
        let live = text(&object, "/metadata/uid");
        if live == uid {
            Ok((name, uid))
        } else {
            Err(format!("{what} UID ({live}) does not match claim ({uid})"))
        }
    };
    let bound = |of: &str| claims.pointer(&format!("/kubernetes.io/{of}")).is_some();
    let (name, uid) = find("serviceaccounts", &namespace, "serviceaccount", "service account")?;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: String| {
        if !value.is_empty() {
            extra.insert(format!("{EXTRA}{key}"), vec![value]);
        }
    };
    if bound("secret") {
        find("secrets", &namespace, "secret", "secret")?;
    }
    if bound("pod") {
        let (pod, uid) = find("pods", &namespace, "pod", "pod")?;
        add("pod-name", pod);
        add("pod-uid", uid);
    } else if bound("node") {
        find("nodes", "", "node", "node")?;
    }
    add("node-name", own("node/name"));
    add("node-uid", own("node/uid"));
    let id = text(claims, "/jti");
    add("credential-id", if id.is_empty() { String::new() } else { format!("JTI={id}") });
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    let caller = Caller::new(&format!("system:serviceaccount:{namespace}:{name}"), &groups);
    Ok(Caller { uid, extra, ..caller })
}

/// Whether it has been on its way out for a while.
fn is_gone(object: &Value, now: i64) -> bool {
    let since: Option<Timestamp> = text(object, "/metadata/deletionTimestamp").parse().ok();
    since.is_some_and(|since| since.as_second() < now - LEEWAY)
}

/// As Go prints a list of strings.
fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(" "))
}

fn cacheable(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{value::set, world};

    struct Cluster {
        accounts: Accounts,
        store: Store,
    }

    impl Cluster {
        fn new() -> Self {
            let store = Store::default();
            world::fill(&store, &world::Gateway::default()).unwrap();
            Self { accounts: Accounts::new().unwrap(), store }
        }

        fn uid(&self, plural: &str, namespace: &str, name: &str) -> String {
            let at = kinds::by_plural("", plural).unwrap();
            text(&self.store.read(|s| s.get(at, namespace, name)).unwrap(), "/metadata/uid").to_owned()
        }

        fn pod(&self) -> (String, String) {
            let at = kinds::by_plural("", "pods").unwrap();
            let pod = self.store.read(|s| s.range(at, "shop", None).next().unwrap().1.clone());
            (text(&pod, "/metadata/name").to_owned(), text(&pod, "/metadata/uid").to_owned())
        }

        /// Claims of a good token of `app` in `shop`.
        fn claims(&self) -> Value {
            let now = Timestamp::now().as_second();
            json!({"aud": [ISSUER], "exp": now + 3600, "iat": now, "iss": ISSUER, "jti": "1", "nbf": now,
                "sub": "system:serviceaccount:shop:app", "kubernetes.io": {"namespace": "shop",
                "serviceaccount": {"name": "app", "uid": self.uid("serviceaccounts", "shop", "app")}}})
        }

        fn judge(&self, token: &str, wanted: &[&str]) -> Result<Option<Known>, String> {
            let wanted: Vec<String> = wanted.iter().map(|a| (*a).to_owned()).collect();
            self.accounts.authenticate(token, &wanted, &self.store, Timestamp::now())
        }
    }

    #[test]
    fn a_token_is_its_accounts() {
        let cluster = Cluster::new();
        let mut claims = cluster.claims();
        let (pod, uid) = cluster.pod();
        set(&mut claims, "/kubernetes.io/pod", json!({"name": pod, "uid": uid}));
        set(&mut claims, "/kubernetes.io/node", json!({"name": "gone", "uid": "n"}));
        let token = cluster.accounts.mint(&claims);
        let (caller, audiences) = cluster.judge(&token, &["other", ISSUER]).unwrap().unwrap();
        assert_eq!(audiences, [ISSUER]);
        assert_eq!(caller.name, "system:serviceaccount:shop:app");
        assert_eq!(caller.uid, cluster.uid("serviceaccounts", "shop", "app"));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
        assert_eq!(caller.groups, groups);
        let extra: Vec<(&str, &str)> =
            caller.extra.iter().map(|(k, v)| (k.strip_prefix(EXTRA).unwrap(), &*v[0])).collect();
        let expected = [
            ("credential-id", "JTI=1"),
            ("node-name", "gone"),
            ("node-uid", "n"),
            ("pod-name", &*pod),
            ("pod-uid", &*uid),
        ];
        assert_eq!(extra, expected);
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let cluster = Cluster::new();
        let now = Timestamp::now().as_second();
        #[rustfmt::skip]
        let rows = [
            // claim, value, why it is refused (none: it is not)
            ("/exp", json!(now - 55), ""),
            ("/exp", json!(now - 65), "service account token has expired"),
            ("/exp", Value::Null, ""),
            ("/nbf", json!(now + 50), ""),
            ("/nbf", json!(now + 120), "service account token is not valid yet"),
            ("/iat", json!(now + 120), "service account token is issued in the future"),
            ("/aud", json!([]), ""),
            ("/aud", json!(ISSUER), ""),
            ("/aud", json!(["a", "b"]), "token audiences [\"a\" \"b\"] is invalid for the target audiences [\"https://kubernetes.default.svc.cluster.local\"]"),
            ("/kubernetes.io/serviceaccount/uid", json!("x"), "does not match claim (x)"),
            ("/kubernetes.io/serviceaccount/name", json!("x"), "service account token has been invalidated"),
            ("/kubernetes.io/pod", json!({"name": "x", "uid": "x"}), "service account token has been invalidated"),
            ("/kubernetes.io/secret", json!({"name": "shop-db", "uid": "x"}), "does not match claim (x)"),
            ("/kubernetes.io/secret", json!({"name": "shop-db", "uid": cluster.uid("secrets", "shop", "shop-db")}), ""),
            ("/kubernetes.io/node", json!({"name": "x", "uid": "x"}), "service account token has been invalidated"),
            ("/kubernetes.io/node", json!({"name": "demo-node", "uid": cluster.uid("nodes", "", "demo-node")}), ""),
        ];
        for (claim, value, expected) in rows {
            let mut claims = cluster.claims();
            set(&mut claims, claim, value);
            let judged = cluster.judge(&cluster.accounts.mint(&claims), &[ISSUER]);
            match judged {
                Ok(known) => assert!(expected.is_empty() && known.is_some(), "{claims}"),
                Err(why) => assert!(!expected.is_empty() && why.contains(expected), "{claims}: {why}"),
            }
        }
    }

    #[test]
    fn others_tokens_are_others_business_and_forged_ones_are_nobodys() {
        let cluster = Cluster::new();
        let mut claims = cluster.claims();
        let good = cluster.accounts.mint(&claims);
        let (signed, _) = good.rsplit_once('.').unwrap();
        let refused = |token: &str| cluster.judge(token, &[ISSUER]).unwrap_err();
        assert_eq!(refused(&format!("{signed}.AAAA")), "the signature does not verify");
        let other = Accounts::new().unwrap();
        assert_eq!(refused(&other.mint(&claims)), "invalid signature, no keys found");
        let none = compact(br#"{"alg":"none"}"#, claims.to_string().as_bytes(), |_| Vec::new());
        assert_eq!(refused(&none), "the signature does not verify");
        set(&mut claims, "/iss", "https://elsewhere.example");
        for token in
            [&*cluster.accounts.mint(&claims), &format!("{good}="), &format!("{good}.x"), "static", ""]
        {
            assert_eq!(cluster.judge(token, &[ISSUER]), Ok(None), "{token}");
        }
        cluster.accounts.rotate().unwrap();
        assert_eq!(refused(&good), "invalid signature, no keys found");
    }

    #[test]
    fn a_deleted_pod_counts_a_little_longer() {
        let now = Timestamp::now();
        let ago = |seconds: i64| {
            let time = Timestamp::from_second(now.as_second() - seconds).unwrap();
            json!({"metadata": {"deletionTimestamp": time.to_string()}})
        };
        assert!(!is_gone(&json!({}), now.as_second()));
        assert!(!is_gone(&ago(50), now.as_second()));
        assert!(is_gone(&ago(70), now.as_second()));
    }
}

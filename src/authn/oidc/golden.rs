//! What kube-apiserver makes of 1,599 tokens, under the same AuthenticationConfigurations (`tests/golden/README.md`). Whom it
//! refuses is refused here; whom it accepts is the same user here, or is refused for one of the reasons below.

use super::*;
use crate::{
    authn::{jwt::key::KeySet, oidc::config::AuthenticationConfiguration},
    demo::jws::{Alg, Key, compact},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::UNIX_EPOCH,
};

const CONFIGURATIONS: &str = include_str!("../../../tests/golden/authn-jwt-configs.json");
const TOKENS: &str = include_str!("../../../tests/golden/authn-jwt.jsonl");

/// Where the gate is stricter: what it says, and what then stands in the token. The first one that is said counts.
const STRICTER: &[(&str, &str)] = &[
    // An identity that arrives upstream as another one.
    ("cannot be carried in a header without change", ""),
    // Two readers could read it differently.
    ("an object holds a key twice", ""),
    ("differs from", ""),
    ("invalid unicode code point", "\u{ff}"),
    ("unexpected end of hex escape", r"\ud800"),
    ("number out of range", "e400"),
    ("number out of range", "99999999999999999999"),
    ("nested too deeply", "[[[[[[[["),
    // Times: text, and what is none. kube-apiserver's own arithmetic goes astray there.
    ("claim exp: expected a number of seconds", ":\""),
    ("claim nbf: expected a number of seconds", ":\""),
    ("claim iat: expected a number of seconds", "\"iat\":\""),
    ("claim exp: the number is no time", ""),
    ("claim nbf: the number is no time", ""),
    // Null for text, and a user without a name.
    ("expected a string or a list of strings", "null"),
    ("claimMappings.username: claim", "null"),
    ("claimMappings.username: claim", ":\"\""),
    ("claimMappings.uid: claim", "null"),
    ("claimValidationRules[1]: claim", "null"),
    // Groups from elsewhere.
    ("would have to be fetched", "_claim_names"),
    ("claim _claim_names: expected names of sources", "null"),
    // Extensions of the header, whatever they say.
    ("the token's header holds \"crit\"", "crit"),
    ("the token's kid is not text", "null"),
];

/// Where it is not: what then stands in the token, its header or its configuration's id.
const LAXER: &[&str] = &[
    // Keys that come along, which kube-apiserver parses and never uses; nor are they used here.
    r#""x5c":["x"]"#,
    r#""jwk":{"#,
];

struct Golden {
    key: Key,
    oidc: BTreeMap<String, Oidc>,
}

impl Golden {
    fn new() -> Self {
        let key = Key::new(Alg::Es256).unwrap();
        let mut jwk = key.jwk();
        jwk["kid"] = json!("k1");
        let set = json!({"keys": [jwk]}).to_string();
        let (set, _) = KeySet::from_jwks(set.as_bytes()).unwrap();
        let set = Arc::new(set);
        let oidc = |text: &str| {
            let issuers = AuthenticationConfiguration::parse(text, &[]).unwrap().issuers;
            // The guard of Kubernetes' own names has tests of its own.
            let settings: Vec<_> = issuers
                .iter()
                .map(|issuer| IssuerSettings {
                    url: issuer.url.clone(),
                    allow_system_identities: true,
                    ..IssuerSettings::default()
                })
                .collect();
            let keys = |_: &Issuer| Keys::new(Source::Fixed(set.clone()), keys::Config::default());
            Oidc::with(issuers, &settings, keys).unwrap()
        };
        let texts: BTreeMap<String, String> = serde_json::from_str(CONFIGURATIONS).unwrap();
        Self { key, oidc: texts.into_iter().map(|(id, text)| (id, oidc(&text))).collect() }
    }

    /// As the file writes an outcome.
    async fn outcome(&self, line: &Value) -> Value {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let header = line["header"].as_str().unwrap_or(r#"{"alg":"ES256","kid":"k1"}"#);
        let payload: Vec<u8> = if line["latin1"] == true {
            text("payload").chars().map(|c| c as u8).collect()
        } else {
            text("payload").as_bytes().to_vec()
        };
        let token = compact(header.as_bytes(), &payload, |signed| self.key.sign(Alg::Es256, signed));
        let now = UNIX_EPOCH + Duration::from_secs(line["now"].as_u64().unwrap());
        let opinion = match Jws::parse(&token) {
            Ok(Some(jws)) => self.oidc[text("config")].authenticate(&jws, now).await,
            Ok(None) => Ok(None),
            Err(why) => Err(why.into()),
        };
        match opinion {
            Ok(Some(proven)) => {
                let user = proven.user();
                let groups: Vec<_> = user.groups().iter().filter(|g| *g != "system:authenticated").collect();
                json!({"user": {"name": user.name(), "uid": user.uid(), "groups": groups, "extra": user.extra()}})
            }
            Ok(None) => json!("none"),
            Err(why) => json!({"error": why.to_string()}),
        }
    }
}

/// Two lists of groups are the same but for the group that everybody is in.
fn same(want: &Value, got: &Value) -> bool {
    let mut want = want.clone();
    if let Some(groups) = want["user"]["groups"].as_array_mut() {
        groups.retain(|group| group != "system:authenticated");
    }
    want == *got
}

#[tokio::test]
async fn tokens_mean_what_they_mean_to_kube_apiserver_or_are_refused_by_name() {
    let golden = Golden::new();
    let (mut used, mut unexplained) = (BTreeSet::new(), Vec::new());
    let (mut lines, mut users) = (0, 0);
    for text in TOKENS.lines() {
        lines += 1;
        let line: Value = serde_json::from_str(text).unwrap();
        let written =
            format!("{}{}", line["header"].as_str().unwrap_or_default(), line["payload"].as_str().unwrap());
        let (want, got) = (&line["outcome"], golden.outcome(&line).await);
        let explained = match (want.get("user"), got.get("user")) {
            (Some(_), Some(_)) => {
                users += 1;
                same(want, &got)
            }
            (None, None) => true,
            (Some(_), None) => {
                let why = got["error"].as_str().unwrap_or("no opinion");
                let says = |class: &&(&str, &str)| why.contains(class.0) && written.contains(class.1);
                STRICTER.iter().find(says).map(|class| used.insert(*class)).is_some()
            }
            (None, Some(_)) => {
                let stands = |there: &&&str| text.contains(**there) || written.contains(**there);
                LAXER.iter().find(stands).map(|there| used.insert(("", there))).is_some()
            }
        };
        if !explained {
            unexplained.push(format!("{line}\n      here: {got}"));
        }
    }
    assert!(unexplained.is_empty(), "{} lines:\n{}", unexplained.len(), unexplained.join("\n"));
    let all: BTreeSet<_> = STRICTER.iter().copied().chain(LAXER.iter().map(|there| ("", *there))).collect();
    assert_eq!((lines, users, used), (1_599, 467, all));
}

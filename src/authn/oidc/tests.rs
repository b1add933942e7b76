use super::*;
use crate::authn::{
    jwt::mint::{P256, RSA, RSA2},
    signed::cases::{self, NOW, now, patched, shown},
};
use config::AuthenticationConfiguration;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The two issuers that were given to a kube-apiserver to see what it does.
const LIVE: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://a.example
    audiences: [aud1, aud2]
    audienceMatchPolicy: MatchAny
  claimMappings:
    username: {claim: email, prefix: "p:"}
    groups: {claim: groups, prefix: "g:"}
    uid: {claim: sub}
    extra:
    - {key: example.com/x, valueExpression: "claims.?x.orValue('')"}
  claimValidationRules:
  - {claim: hd, requiredValue: corp}
  userValidationRules:
  - {expression: "!user.username.startsWith('p:system:')", message: no system users}
- issuer:
    url: https://b.example
    audiences: [b]
  claimMappings:
    username: {expression: claims.sub}
    groups: {expression: "claims.?roles.orValue([])"}
"#;

struct Fixture {
    oidc: Oidc,
}

impl Fixture {
    fn new(configuration: &str, settings: &[IssuerSettings]) -> Self {
        let issuers = AuthenticationConfiguration::parse(configuration, &[]).unwrap().issuers;
        let oidc = Oidc::with(issuers, settings, |_| Ok(cases::keys())).unwrap();
        Self { oidc }
    }

    async fn judge(&self, token: &str) -> String {
        match Jws::parse(token) {
            Ok(Some(jws)) => shown(self.oidc.authenticate(&jws, now()).await),
            Ok(None) => "no opinion".to_owned(),
            Err(_) => "401: malformed".to_owned(),
        }
    }

    async fn outcome(&self, base: &Value, patch: &str) -> String {
        self.judge(&P256.token(&patched(base, patch))).await
    }

    /// Rows of a patch and an outcome, in which `A: ` is short for the refusal of issuer A.
    async fn check(&self, base: &Value, rows: &[(&str, &str)]) {
        let url = base["iss"].as_str().unwrap();
        for (patch, want) in rows {
            let got = self.outcome(base, patch).await;
            assert_eq!(got.replace(&format!("issuer {url}: "), ""), *want, "{patch}");
        }
    }
}

fn of_a() -> Value {
    json!({"iss": "https://a.example", "aud": "aud1", "exp": NOW + 600, "email": "ann@corp", "sub": "u1", "hd": "corp"})
}

fn of_b() -> Value {
    json!({"iss": "https://b.example", "aud": ["b"], "exp": NOW + 600, "sub": "bob"})
}

const OK: &str = "p:ann@corp uid=u1";

#[tokio::test]
async fn claims_become_an_identity_as_in_kube_apiserver() {
    let verified = "401: claimMappings.username: claim \"email_verified\" is not true";
    let groups = "401: claimMappings.groups: claim \"groups\": expected a string or a list of strings";
    let rows = [
        ("{}", OK),
        (r#"{"email_verified": true}"#, OK),
        (r#"{"email_verified": false}"#, verified),
        (r#"{"email_verified": "true"}"#, verified),
        (r#"{"email_verified": null}"#, verified),
        (r#"{"email": "-"}"#, "401: claimMappings.username: claim \"email\" is missing"),
        (r#"{"email": 1}"#, "401: claimMappings.username: claim \"email\": expected a string"),
        (r#"{"email": "-", "Email": "ann@corp"}"#, "401: claimMappings.username: claim \"email\" is missing"),
        (r#"{"groups": "x"}"#, "p:ann@corp uid=u1 groups=g:x"),
        (r#"{"groups": ["a", "b"]}"#, "p:ann@corp uid=u1 groups=g:a,g:b"),
        (r#"{"groups": ["a", "a"]}"#, "p:ann@corp uid=u1 groups=g:a,g:a"),
        (r#"{"groups": [""]}"#, "p:ann@corp uid=u1 groups=g:"),
        (r#"{"groups": []}"#, OK),
        (r#"{"groups": null}"#, OK),
        (r#"{"groups": 4}"#, groups),
        (r#"{"groups": [1]}"#, groups),
        (r#"{"groups": {"a": "b"}}"#, groups),
        (r#"{"aud": ["zz", "aud2"]}"#, OK),
        (r#"{"aud": "zz"}"#, "401: the token is for other audiences"),
        (r#"{"aud": "b"}"#, "401: the token is for other audiences"),
        (r#"{"aud": []}"#, "401: the token is for other audiences"),
        (r#"{"aud": "-"}"#, "401: the token is for other audiences"),
        (r#"{"exp": "-"}"#, "401: the token does not expire"),
        (r#"{"exp": null}"#, "401: the token does not expire"),
        // The moment is half a second after this.
        (r#"{"exp": 1700000000}"#, "401: the token has expired"),
        (r#"{"exp": 1699999999}"#, "401: the token has expired"),
        (r#"{"exp": 1700000001}"#, OK),
        (r#"{"exp": 1700000600.7}"#, OK),
        (r#"{"exp": 1e10}"#, OK),
        (r#"{"nbf": 1700000050}"#, OK),
        (r#"{"nbf": 1700000060}"#, OK),
        (r#"{"nbf": 1700000061}"#, "401: the token is not valid yet"),
        (r#"{"nbf": 1700000090}"#, "401: the token is not valid yet"),
        (r#"{"nbf": null}"#, OK),
        (r#"{"iat": 1e10}"#, OK),
        (r#"{"hd": "other"}"#, "401: claimValidationRules[0]: claim \"hd\" has another value than required"),
        (r#"{"hd": "-"}"#, "401: claimValidationRules[0]: claim \"hd\" is missing"),
        (r#"{"hd": ["corp"]}"#, "401: claimValidationRules[0]: claim \"hd\": expected a string"),
        (r#"{"email": "system:x"}"#, "401: userValidationRules[0]: not met: no system users"),
        (r#"{"sub": "-"}"#, "401: claimMappings.uid: claim \"sub\" is missing"),
        (r#"{"sub": 7}"#, "401: claim sub: expected a string"),
        (r#"{"nonce": 7}"#, "401: claim nonce: expected a string"),
        (r#"{"at_hash": []}"#, "401: claim at_hash: expected a string"),
        (r#"{"nonce": null}"#, OK),
        (r#"{"iat": "1700000000"}"#, "401: claim iat: expected a number of seconds"),
        (r#"{"sub": ""}"#, "p:ann@corp"),
        (r#"{"jti": "J"}"#, "p:ann@corp uid=u1 credential-id=[JTI=J]"),
        (r#"{"jti": 7}"#, OK),
        (r#"{"jti": ""}"#, OK),
        (r#"{"x": ""}"#, OK),
        (r#"{"x": "v"}"#, "p:ann@corp uid=u1 x=[v]"),
        (r#"{"x": ["v", "", "w"]}"#, "p:ann@corp uid=u1 x=[v,w]"),
    ];
    Fixture::new(LIVE, &[]).check(&of_a(), &rows).await;
}

#[tokio::test]
async fn an_expression_of_another_type_is_an_error() {
    let fixture = Fixture::new(LIVE, &[]);
    for x in [r#"{"x": 1}"#, r#"{"x": {"a": "b"}}"#, r#"{"x": ["a", 1]}"#] {
        let got = fixture.outcome(&of_a(), x).await;
        assert!(got.starts_with("401: issuer https://a.example: claimMappings.extra: key "), "{x}: {got}");
    }
    let rows = [
        (r#"{"sub": ""}"#, "username"),
        (r#"{"sub": "-"}"#, "username"),
        (r#"{"sub": null}"#, "username"),
        (r#"{"roles": [1]}"#, "groups"),
    ];
    for (patch, place) in rows {
        let got = fixture.outcome(&of_b(), patch).await;
        assert!(
            got.starts_with(&format!("401: issuer https://b.example: claimMappings.{place}: ")),
            "{patch}: {got}"
        );
    }
}

#[tokio::test]
async fn expressions_become_an_identity() {
    let rows = [
        ("{}", "bob"),
        (r#"{"roles": "r"}"#, "bob groups=r"),
        (r#"{"roles": ["r", "", "q"]}"#, "bob groups=r,q"),
        (r#"{"roles": null}"#, "bob"),
        (r#"{"roles": ""}"#, "bob"),
        (r#"{"roles": []}"#, "bob"),
        (r#"{"jti": "J"}"#, "bob credential-id=[JTI=J]"),
        // Not kube-apiserver's answers, see below.
        (r#"{"sub": "system:admin"}"#, "401: may not mint system: identities"),
        (r#"{"roles": ["dev", "system:masters"]}"#, "401: may not mint system: identities"),
        (r#"{"roles": "system:authenticated"}"#, "401: may not mint system: identities"),
        (r#"{"sub": "system:anonymous"}"#, "401: may not mint system: identities"),
        (r#"{"sub": "ordinary:system:admin"}"#, "ordinary:system:admin"),
    ];
    Fixture::new(LIVE, &[]).check(&of_b(), &rows).await;
}

#[tokio::test]
async fn an_issuer_that_is_allowed_to_mints_kubernetes_own_identities() {
    let trusted = IssuerSettings {
        url: "https://b.example".to_owned(),
        allow_system_identities: true,
        ..IssuerSettings::default()
    };
    let fixture = Fixture::new(LIVE, &[trusted]);
    let rows = [
        (r#"{"sub": "system:admin", "roles": ["system:masters"]}"#, "system:admin groups=system:masters"),
        (r#"{"sub": "system:anonymous"}"#, "system:anonymous"),
    ];
    fixture.check(&of_b(), &rows).await;
    let token = P256.token(&patched(&of_b(), r#"{"sub": "system:anonymous"}"#));
    let proven =
        fixture.oidc.authenticate(&Jws::parse(&token).unwrap().unwrap(), now()).await.unwrap().unwrap();
    assert!(proven.user().groups().is_empty(), "no system:authenticated");
}

/// What kube-apiserver accepts and the gate does not; `docs/authentication.md` lists them.
#[tokio::test]
async fn stricter_than_kube_apiserver() {
    let exp = "401: claim exp: expected a number of seconds";
    let rows = [
        (r#"{"email": null}"#, "401: claimMappings.username: claim \"email\": expected a string"),
        (r#"{"email": ""}"#, "401: claimMappings.username: claim \"email\" is empty"),
        (r#"{"sub": null}"#, "401: claimMappings.uid: claim \"sub\": expected a string"),
        (r#"{"hd": null}"#, "401: claimValidationRules[0]: claim \"hd\": expected a string"),
        (
            r#"{"groups": ["a", null]}"#,
            "401: claimMappings.groups: claim \"groups\": expected a string or a list of strings",
        ),
        (r#"{"aud": ["aud1", null]}"#, "401: claim aud: expected a string or a list of strings"),
        (r#"{"exp": "1700000600"}"#, exp),
        (r#"{"exp": 1e30}"#, "401: claim exp: the number is no time"),
        (r#"{"nbf": "1700000000"}"#, "401: claim nbf: expected a number of seconds"),
        (r#"{"nbf": -1}"#, "401: claim nbf: the number is no time"),
        (r#"{"email": "ann@corp "}"#, "401: the user name cannot be carried in a header without change"),
        (r#"{"email": "ann\n@corp"}"#, "401: the user name cannot be carried in a header without change"),
        (r#"{"groups": ["a", "b "]}"#, "401: the group cannot be carried in a header without change"),
        (r#"{"sub": " u1"}"#, "401: the uid cannot be carried in a header without change"),
        (r#"{"x": "v\u0000"}"#, "401: the extra value cannot be carried in a header without change"),
    ];
    Fixture::new(LIVE, &[]).check(&of_a(), &rows).await;
}

#[tokio::test]
async fn groups_that_would_have_to_be_fetched_are_refused() {
    let fetched =
        "401: claimMappings.groups: claim \"groups\" would have to be fetched, expected it in the token";
    let names = "401: claim _claim_names: expected names of sources in claim _claim_sources";
    let sources = "401: claim _claim_sources: expected sources by name";
    let rows = [
        (
            r#"{"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "https://a.example/g"}}}"#,
            fetched,
        ),
        (r#"{"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"JWT": "x"}}}"#, fetched),
        // A normal claim wins.
        (
            r#"{"groups": "x", "_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "https://a.example/g"}}}"#,
            "p:ann@corp uid=u1 groups=g:x",
        ),
        (r#"{"groups": null, "_claim_names": {"groups": "s"}, "_claim_sources": {"s": {}}}"#, OK),
        // Other claims are nobody's concern, if they can be read.
        (
            r#"{"_claim_names": {"phone": "s"}, "_claim_sources": {"s": {"endpoint": "https://a.example/g"}}}"#,
            OK,
        ),
        (r#"{"_claim_names": {}, "_claim_sources": {}}"#, OK),
        (r#"{"_claim_names": {"groups": "s"}}"#, names),
        (r#"{"_claim_names": {"phone": "s"}}"#, names),
        (r#"{"_claim_names": {"phone": "t"}, "_claim_sources": {"s": {}}}"#, names),
        (r#"{"_claim_names": "x", "_claim_sources": {}}"#, names),
        (r#"{"_claim_names": {"groups": 1}, "_claim_sources": {}}"#, names),
        (r#"{"_claim_names": null}"#, names),
        (r#"{"_claim_sources": 3}"#, sources),
        (r#"{"_claim_sources": {"s": 1}}"#, sources),
        (r#"{"_claim_sources": {"s": {"endpoint": 1}}}"#, sources),
    ];
    let fixture = Fixture::new(LIVE, &[]);
    fixture.check(&of_a(), &rows).await;
    // Expressions read what is in the token.
    let aside =
        r#"{"_claim_names": {"roles": "s"}, "_claim_sources": {"s": {"endpoint": "https://b.example/g"}}}"#;
    fixture.check(&of_b(), &[(aside, "bob")]).await;
}

#[tokio::test]
async fn many_groups_are_refused() {
    let fixture = Fixture::new(LIVE, &[]);
    let listed = |n: usize| vec!["g"; n];
    let rows = [
        (of_a(), "groups", 1_000, true),
        (of_a(), "groups", 1_001, false),
        (of_a(), "groups", 10_000, false),
        (of_a(), "x", 1_000, true),
        (of_a(), "x", 1_001, false),
        (of_b(), "roles", 1_000, true),
        (of_b(), "roles", 1_001, false),
    ];
    for (mut claims, claim, n, accepted) in rows {
        claims[claim] = json!(listed(n));
        let got = fixture.judge(&P256.token(&claims)).await;
        assert_eq!(!got.starts_with("401"), accepted, "{claim} {n}: {got}");
        assert!(accepted || got.ends_with(": expected at most 1000 values"), "{claim} {n}: {got}");
    }
    let mut long = of_a();
    long["email"] = json!("x".repeat(1 << 20));
    let got = fixture.judge(&P256.token(&long)).await;
    assert!(got.starts_with("401"), "{} bytes of an answer", got.len());
}

#[tokio::test]
async fn a_token_is_its_issuers_business_alone() {
    let fixture = Fixture::new(LIVE, &[]);
    let rows = [
        (r#"{"iss": "https://a.example/"}"#, "no opinion"),
        (r#"{"iss": "https://A.example"}"#, "no opinion"),
        (r#"{"iss": "http://a.example"}"#, "no opinion"),
        (r#"{"iss": "a.example"}"#, "no opinion"),
        (r#"{"iss": ""}"#, "no opinion"),
        (r#"{"iss": null}"#, "no opinion"),
        (r#"{"iss": ["https://a.example"]}"#, "no opinion"),
        (r#"{"iss": "-"}"#, "no opinion"),
        // One that kube-apiserver takes for `iss`.
        (r#"{"iss": "-", "ISS": "https://a.example"}"#, "401: malformed"),
        // A's token does not become B's by failing at A's.
        (
            r#"{"aud": ["b"], "sub": "bob"}"#,
            "401: issuer https://a.example: the token is for other audiences",
        ),
    ];
    for (patch, want) in rows {
        assert_eq!(fixture.outcome(&of_a(), patch).await, want, "{patch}");
    }
}

#[tokio::test]
async fn the_form_of_a_token_is_compact_and_its_names_are_unique() {
    let fixture = Fixture::new(LIVE, &[]);
    let claims = of_a().to_string();
    let sign = |header: &str, claims: &str| P256.sign(header, claims, Algorithm::Es256);
    let of_p256 = |claims: &str| sign(r#"{"alg":"ES256","kid":"p256"}"#, claims);
    let with = |base: &str, more: &str| format!("{},{more}}}", base.trim_end_matches('}'));
    let good = of_p256(&claims);
    let accepted = [
        ("ES256", good.clone()),
        ("without a kid", sign(r#"{"alg":"ES256"}"#, &claims)),
        ("RS256", RSA.sign(r#"{"alg":"RS256","kid":"rsa"}"#, &claims, Algorithm::Rs256)),
        // The key's own "alg" is RS256.
        ("PS256", RSA.sign(r#"{"alg":"PS256","kid":"rsa"}"#, &claims, Algorithm::Ps256)),
        ("PS512 without a kid", RSA.sign(r#"{"alg":"PS512"}"#, &claims, Algorithm::Ps512)),
    ];
    for (name, token) in accepted {
        assert_eq!(fixture.judge(&token).await, OK, "{name}");
    }
    let expired = patched(&of_a(), r#"{"exp": 1699999999}"#).to_string();
    let rows = [
        ("kid unknown", sign(r#"{"alg":"ES256","kid":"k2"}"#, &claims)),
        ("alg of another kind of key", sign(r#"{"alg":"RS256","kid":"p256"}"#, &claims)),
        ("HS256", sign(r#"{"alg":"HS256","kid":"p256"}"#, &claims)),
        ("none", sign(r#"{"alg":"none","kid":"p256"}"#, &claims)),
        ("crit", sign(r#"{"alg":"ES256","kid":"p256","crit":["x"],"x":1}"#, &claims)),
        ("duplicate iss", of_p256(&with(&claims, r#""iss":"https://a.example""#))),
        ("evil iss before iss", of_p256(&claims.replacen('{', r#"{"iss":"https://evil.example","#, 1))),
        ("evil ISS after iss", of_p256(&with(&claims, r#""ISS":"https://evil.example""#))),
        ("EXP after an expired exp", of_p256(&with(&expired, r#""EXP":1700000600"#))),
        ("duplicate email", of_p256(&with(&claims, r#""email":"eve@corp""#))),
        ("padded signature", format!("{good}=")),
        ("padded payload", good.rsplit_once('.').map(|(signed, by)| format!("{signed}=.{by}")).unwrap()),
        ("four parts", format!("{good}.x")),
        ("no signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
        ("another key", RSA2.sign(r#"{"alg":"RS256","kid":"rsa"}"#, &claims, Algorithm::Rs256)),
        ("another key, no kid", RSA2.sign(r#"{"alg":"RS256"}"#, &claims, Algorithm::Rs256)),
    ];
    for (name, token) in rows {
        let got = fixture.judge(&token).await;
        assert!(got.starts_with("401: ") || got == "no opinion", "{name}: {got}");
    }
}

#[tokio::test]
async fn google_writes_its_name_in_two_ways() {
    let google = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://accounts.google.com", audiences: [me]}
  claimMappings: {username: {claim: sub, prefix: ""}}
"#;
    let base = json!({"iss": "https://accounts.google.com", "aud": "me", "exp": NOW + 1, "sub": "1"});
    let fixture = Fixture::new(google, &[]);
    let rows = [
        ("https://accounts.google.com", "1"),
        ("accounts.google.com", "1"),
        ("http://accounts.google.com", "no opinion"),
        ("https://accounts.google.com/", "no opinion"),
    ];
    for (iss, want) in rows {
        let patch = json!({"iss": iss}).to_string();
        assert_eq!(fixture.outcome(&base, &patch).await, want, "{iss}");
    }
}

#[tokio::test]
async fn an_issuers_algorithms_can_be_narrowed() {
    for (algorithm, accepted) in
        [(Algorithm::Es256, true), (Algorithm::Rs256, false), (Algorithm::Es384, false)]
    {
        let narrow = IssuerSettings {
            url: "https://a.example".to_owned(),
            signing_algs: vec![algorithm],
            ..IssuerSettings::default()
        };
        let got = Fixture::new(LIVE, &[narrow]).outcome(&of_a(), "{}").await;
        assert_eq!(got == OK, accepted, "{algorithm:?}: {got}");
    }
}

#[tokio::test]
async fn rules_are_named_but_claims_are_not() {
    let rules = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://r.example", audiences: [me]}
  claimMappings: {username: {claim: sub, prefix: "r:"}, groups: {claim: groups, prefix: ""}}
  claimValidationRules:
  - {claim: hd, requiredValue: corp}
  - {expression: "claims.n < 3.0", message: n is too big}
  - {expression: "claims.m == true"}
  userValidationRules:
  - {expression: "user.groups.all(g, g != 'root')", message: no root}
  - {expression: "!('system:authenticated' in user.groups)"}
"#;
    let base = json!({"iss": "https://r.example", "aud": "me", "exp": NOW + 1, "sub": "ann", "hd": "corp", "n": 1, "m": true});
    let rows = [
        ("{}", "r:ann"),
        (r#"{"n": 5}"#, "401: claimValidationRules[1]: not met: n is too big"),
        (r#"{"m": false}"#, "401: claimValidationRules[2]: not met"),
        (r#"{"groups": ["root"]}"#, "401: userValidationRules[0]: not met: no root"),
        // Mappings come before rules, claim rules before user rules.
        (r#"{"hd": "x", "sub": ""}"#, "401: claimMappings.username: claim \"sub\" is empty"),
        (
            r#"{"hd": "x", "groups": "root"}"#,
            "401: claimValidationRules[0]: claim \"hd\" has another value than required",
        ),
    ];
    let fixture = Fixture::new(rules, &[]);
    fixture.check(&base, &rows).await;
    for patch in [
        r#"{"n": "SECRET"}"#,
        r#"{"m": "SECRET"}"#,
        r#"{"hd": "SECRET"}"#,
        r#"{"groups": [{"SECRET": "SECRET"}]}"#,
    ] {
        let got = fixture.outcome(&base, patch).await;
        assert!(got.starts_with("401: ") && !got.contains("SECRET"), "{patch}: {got}");
    }
}

#[tokio::test]
async fn expressions_that_do_not_end_are_not_waited_for() {
    let fixture = Fixture::new(LIVE, &[]);
    let places = fixture.oidc.evaluations.clone().acquire_many_owned(EVALUATIONS as u32).await.unwrap();
    let got = fixture.outcome(&of_b(), "{}").await;
    assert_eq!(got, "401: issuer https://b.example: the expressions took longer than 1s");
    drop(places);
    assert_eq!(fixture.outcome(&of_b(), "{}").await, "bob");
}

#[tokio::test]
async fn a_slow_expression_holds_up_nobody_else() {
    let slow = r#"
  claimValidationRules:
  - {expression: "dyn(claims.?l.orValue([])).all(a, dyn(claims.l).all(b, dyn(claims.l).all(c, c != 'x')))"}
"#;
    let fixture = Fixture::new(&format!("{}{}", LIVE.trim_end(), slow), &[]);
    let mut claims = of_b();
    claims["l"] = json!(vec!["y"; 2_000]);
    let (slow, quick) = (P256.token(&claims), P256.token(&of_b()));
    let mut slow = std::pin::pin!(fixture.judge(&slow));
    tokio::select! {
        biased;
        got = &mut slow => panic!("at once: {got}"),
        got = fixture.judge(&quick) => assert_eq!(got, "bob"),
    }
    let got = slow.await;
    assert!(got.starts_with("401: issuer https://b.example: "), "{got}");
}

/// Values of all kinds, every text in them being one that must not come back.
fn secrets() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!("SECRET")),
        Just(json!("system:SECRET")),
        Just(json!(" SECRET\n")),
        Just(json!("")),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(inner, 1..3)
                .prop_map(|values| json!({"SECRET": values[0], "s1": values[values.len() - 1]})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_error_repeats_a_claim(
        issuer in 0..2,
        changed in prop::collection::vec((prop::sample::select(CLAIMS), secrets()), 1..4),
    ) {
        static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| Fixture::new(LIVE, &[]));
        let mut claims = if issuer == 0 { of_a() } else { of_b() };
        for (claim, value) in changed {
            claims[claim] = value;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let got = runtime.block_on(FIXTURE.judge(&P256.token(&claims)));
        prop_assert!(!got.starts_with("401: ") || !got.contains("SECRET"), "{got}");
    }
}

const CLAIMS: &[&str] = &[
    "aud",
    "exp",
    "nbf",
    "iat",
    "sub",
    "jti",
    "nonce",
    "email",
    "email_verified",
    "groups",
    "hd",
    "x",
    "roles",
    "_claim_names",
    "_claim_sources",
];

#[tokio::test]
async fn what_is_proven_lasts_as_long_as_the_token() {
    let fixture = Fixture::new(LIVE, &[]);
    let token = P256.token(&of_a());
    let proven =
        fixture.oidc.authenticate(&Jws::parse(&token).unwrap().unwrap(), now()).await.unwrap().unwrap();
    assert_eq!(proven.expires(), Some(std::time::UNIX_EPOCH + Duration::from_secs(NOW + 600)));
    assert_eq!(proven.method(), "jwt");
    assert_eq!(proven.user().groups(), ["system:authenticated"]);
}

/// The issuers of a file, so that no test asks which CAs the machine has.
fn believing_nobody(text: &str) -> Vec<Issuer> {
    let mut issuers = AuthenticationConfiguration::parse(text, &[]).unwrap().issuers;
    issuers.iter_mut().for_each(|issuer| issuer.certificate_authority = Some(Vec::new()));
    issuers
}

#[test]
fn settings_are_of_issuers_that_are_there() {
    let issuers = || believing_nobody(LIVE);
    let of = |url: &str| IssuerSettings { url: url.to_owned(), ..IssuerSettings::default() };
    let new =
        |settings: &[IssuerSettings]| Oidc::new(issuers(), settings, keys::Config::default(), None).map(drop);
    assert_eq!(new(&[of("https://a.example"), of("https://b.example")]), Ok(()));
    let none = |url| format!("{url}: no issuer of the authenticationConfigFile has this url");
    assert_eq!(
        new(&[of("https://a.example/"), of("https://c.example")]),
        Err(vec![none("https://a.example/"), none("https://c.example")])
    );
    assert_eq!(
        new(&[of("https://a.example"), of("https://a.example")]),
        Err(vec!["https://a.example: expected one entry for this url, found another".to_owned()])
    );
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_issuers_that_stay() {
    let issuers = believing_nobody;
    let keys = keys::Config::default();
    let before = Oidc::new(issuers(LIVE), &[], keys, None).unwrap();
    let changed =
        LIVE.replace("https://b.example", "https://c.example").replace("prefix: \"p:\"", "prefix: \"q:\"");
    let after = Oidc::new(issuers(&changed), &[], keys, Some(&before)).unwrap();
    let same = |i: usize| Arc::ptr_eq(&before.providers[i].keys, &after.providers[i].keys);
    assert_eq!([same(0), same(1)], [true, false]);
    let moved = LIVE
        .replace("url: https://a.example", "url: https://a.example\n    discoveryURL: https://d.example/x");
    let after = Oidc::new(issuers(&moved), &[], keys, Some(&before)).unwrap();
    assert!(!Arc::ptr_eq(&before.providers[0].keys, &after.providers[0].keys));
    assert!(Arc::ptr_eq(&before.providers[1].keys, &after.providers[1].keys));
}

#[tokio::test]
async fn without_keys_an_issuers_tokens_are_refused() {
    let issuers = believing_nobody(LIVE);
    let oidc = Oidc::new(issuers, &[], keys::Config::default(), None).unwrap();
    let urls: Vec<_> = oidc.health().into_iter().map(|(url, health)| (url, health.is_ok())).collect();
    assert_eq!(urls, [("https://a.example".to_owned(), false), ("https://b.example".to_owned(), false)]);
    let token = P256.token(&of_a());
    let got = shown(oidc.authenticate(&Jws::parse(&token).unwrap().unwrap(), now()).await);
    assert!(got.starts_with("401: issuer https://a.example: "), "{got}");
}

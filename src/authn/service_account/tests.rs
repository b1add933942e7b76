use super::*;
use crate::authn::{
    jwt::mint::{P256, RSA, RSA2},
    signed::cases::{self, NOW, now, patched, shown},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://kubernetes.default.svc";

struct Fixture {
    accounts: ServiceAccounts,
}

impl Fixture {
    fn new(audiences: &[&str]) -> Self {
        let issuers = vec!["https://old.example".to_owned(), ISSUER.to_owned()];
        let audiences: Vec<String> = audiences.iter().map(|aud| (*aud).to_owned()).collect();
        let accounts = ServiceAccounts {
            audiences: if audiences.is_empty() { issuers.clone() } else { audiences },
            issuers,
            keys: cases::keys(),
            review: ReviewTokens::Never,
            reviewer: None,
        };
        Self { accounts }
    }

    async fn judge(&self, token: &str) -> String {
        match Jws::parse(token) {
            Ok(Some(jws)) => shown(self.accounts.authenticate(&jws, token, now()).await)
                .replace("401: service account: ", "401: "),
            Ok(None) => "no opinion".to_owned(),
            Err(_) => "401: malformed".to_owned(),
        }
    }

    async fn check(&self, base: &Value, rows: &[(&str, &str)]) {
        for (patch, want) in rows {
            let got = self.judge(&P256.token(&patched(base, patch))).await;
            assert_eq!(got.strip_prefix(OK).unwrap_or(&got), *want, "{patch}");
        }
    }
}

/// As TokenRequest makes it.
fn bound() -> Value {
    json!({
        "iss": ISSUER, "aud": [ISSUER], "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "jti": "J",
        "sub": "system:serviceaccount:dev:builder",
        "kubernetes.io": {"namespace": "dev", "serviceaccount": {"name": "builder", "uid": "u-1"}},
    })
}

/// `kubernetes.io` of [`bound`] with more in it.
fn with(more: &Value) -> String {
    let mut kubernetes = bound()["kubernetes.io"].clone();
    for (key, value) in more.as_object().unwrap() {
        kubernetes[key] = value.clone();
    }
    json!({"kubernetes.io": kubernetes}).to_string()
}

/// How an accepted token begins.
const OK: &str =
    "system:serviceaccount:dev:builder uid=u-1 groups=system:serviceaccounts,system:serviceaccounts:dev";

#[tokio::test]
async fn a_bound_token_is_judged_as_in_kube_apiserver() {
    let id = " credential-id=[JTI=J]";
    let audiences = "401: the token is for other audiences";
    let rows = [
        ("{}", id),
        (r#"{"iss": "https://old.example"}"#, id),
        (r#"{"iss": "https://kubernetes.default.svc/"}"#, "no opinion"),
        (r#"{"iss": "kubernetes/serviceaccount"}"#, "no opinion"),
        (r#"{"iss": "-"}"#, "no opinion"),
        (r#"{"jti": "-"}"#, ""),
        (r#"{"jti": ""}"#, ""),
        (r#"{"aud": "https://kubernetes.default.svc"}"#, id),
        (r#"{"aud": ["vault", "https://old.example"]}"#, id),
        (r#"{"aud": ["vault"]}"#, audiences),
        (r#"{"aud": "vault"}"#, audiences),
        (r#"{"aud": ""}"#, audiences),
        (r#"{"aud": "-"}"#, " credential-id=[JTI=J] legacy-token=\"system:serviceaccount:dev:builder\""),
        (r#"{"aud": []}"#, " credential-id=[JTI=J] legacy-token=\"system:serviceaccount:dev:builder\""),
        (r#"{"aud": null}"#, "401: claim aud: expected a string or a list of strings"),
        // The moment is half a second after 1700000000.
        (r#"{"exp": 1699999941}"#, id),
        (r#"{"exp": 1699999940}"#, "401: service account token has expired"),
        (r#"{"exp": 1699999939}"#, "401: service account token has expired"),
        (r#"{"nbf": 1700000060}"#, id),
        (r#"{"nbf": 1700000061}"#, "401: service account token is not valid yet"),
        (r#"{"nbf": "-"}"#, id),
        (r#"{"nbf": null}"#, id),
        (r#"{"iat": 1700000060}"#, id),
        (r#"{"iat": 1700000120}"#, "401: service account token is issued in the future"),
        (r#"{"iat": "-"}"#, id),
        (r#"{"exp": "1700003600"}"#, "401: claim exp: expected a number of seconds"),
        (r#"{"sub": "-"}"#, id),
    ];
    Fixture::new(&[]).check(&bound(), &rows).await;
}

#[tokio::test]
async fn audiences_are_the_configured_ones() {
    let rows = [
        (r#"{"aud": ["api"]}"#, " credential-id=[JTI=J]"),
        ("{}", "401: the token is for other audiences"),
        (r#"{"aud": "-"}"#, " credential-id=[JTI=J] legacy-token=\"system:serviceaccount:dev:builder\""),
    ];
    Fixture::new(&["api"]).check(&bound(), &rows).await;
}

#[tokio::test]
async fn what_a_token_is_bound_to_is_said_of_the_user() {
    let pod = json!({"name": "web-0", "uid": "p-1"});
    let node = json!({"name": "n1.example", "uid": "n-1"});
    let rows = [
        (json!({"pod": pod}), " credential-id=[JTI=J] pod-name=[web-0] pod-uid=[p-1]"),
        (
            json!({"pod": pod, "node": node}),
            " credential-id=[JTI=J] node-name=[n1.example] node-uid=[n-1] pod-name=[web-0] pod-uid=[p-1]",
        ),
        (
            json!({"pod": pod, "node": {"name": "gone"}}),
            " credential-id=[JTI=J] node-name=[gone] pod-name=[web-0] pod-uid=[p-1]",
        ),
        (json!({"node": node}), " credential-id=[JTI=J] node-name=[n1.example] node-uid=[n-1]"),
        (json!({"secret": {"name": "s", "uid": "s-1"}}), " credential-id=[JTI=J]"),
        (json!({"pod": null, "node": null, "secret": null}), " credential-id=[JTI=J]"),
        (json!({"warnafter": NOW + 1}), " credential-id=[JTI=J]"),
        (json!({"warnafter": 0}), " credential-id=[JTI=J]"),
        (json!({"warnafter": null}), " credential-id=[JTI=J]"),
        (
            json!({"warnafter": NOW}),
            " credential-id=[JTI=J] stale-token=\"subject: system:serviceaccount:dev:builder, seconds after warning threshold: 0\"",
        ),
        (
            json!({"warnafter": NOW - 90}),
            " credential-id=[JTI=J] stale-token=\"subject: system:serviceaccount:dev:builder, seconds after warning threshold: 90\"",
        ),
    ];
    let fixture = Fixture::new(&[]);
    for (more, want) in rows {
        fixture.check(&bound(), &[(&with(&more), want)]).await;
    }
}

#[test]
fn a_token_is_bound_to_whatever_it_names_beside_its_account() {
    let rows = [
        (json!({}), false),
        (json!({"warnafter": NOW}), false),
        (json!({"pod": null}), false),
        (json!({"pod": {"name": "p", "uid": "1"}}), true),
        (json!({"secret": {"name": "s", "uid": "1"}}), true),
        (json!({"node": {"name": "n", "uid": "1"}}), true),
        // A kind that a later Kubernetes binds tokens to.
        (json!({"lease": {"name": "l", "uid": "1"}}), true),
    ];
    for (more, want) in rows {
        let claims = patched(&bound(), &with(&more));
        assert_eq!(Account::read(claims.as_object().unwrap()).unwrap().is_bound, want, "{more}");
    }
}

/// kube-apiserver looks most of this up, so it never accepts it either; the rest is in `docs/authentication.md`.
#[tokio::test]
async fn a_claim_that_kubernetes_does_not_write_is_refused() {
    let rows = [
        (r#"{"exp": "-"}"#.to_owned(), "service account token does not expire"),
        (r#"{"exp": null}"#.to_owned(), "service account token does not expire"),
        (r#"{"jti": 7}"#.to_owned(), "claim jti: expected a string"),
        (
            r#"{"sub": "system:serviceaccount:dev:other"}"#.to_owned(),
            "claim sub names another account than claim kubernetes.io",
        ),
        (r#"{"sub": null}"#.to_owned(), "claim sub names another account than claim kubernetes.io"),
        (r#"{"kubernetes.io": "-"}"#.to_owned(), "claim kubernetes.io: expected an object"),
        (r#"{"kubernetes.io": ["dev"]}"#.to_owned(), "claim kubernetes.io: expected an object"),
        (with(&json!({"namespace": ""})), "claim kubernetes.io: expected a namespace"),
        (with(&json!({"namespace": "a:b"})), "claim kubernetes.io: expected a namespace"),
        (with(&json!({"namespace": "a.b"})), "claim kubernetes.io: expected a namespace"),
        (with(&json!({"namespace": 1})), "claim kubernetes.io: expected a namespace"),
        (with(&json!({"serviceaccount": null})), "claim kubernetes.io: expected a serviceaccount"),
        (
            with(&json!({"serviceaccount": {"name": "a:b", "uid": "1"}})),
            "claim kubernetes.io: expected a name and a uid of the serviceaccount",
        ),
        (
            with(&json!({"serviceaccount": "builder"})),
            "claim kubernetes.io: expected a name and a uid of the serviceaccount",
        ),
        (
            with(&json!({"serviceaccount": {"name": "builder"}})),
            "claim kubernetes.io: expected the uid of every object",
        ),
        (
            with(&json!({"serviceaccount": {"name": "builder", "uid": 1}})),
            "claim kubernetes.io: expected a name and a uid of the serviceaccount",
        ),
        (
            with(&json!({"pod": {"name": "Web", "uid": "1"}})),
            "claim kubernetes.io: expected a name and a uid of the pod",
        ),
        (with(&json!({"pod": {"name": "web"}})), "claim kubernetes.io: expected the uid of every object"),
        (with(&json!({"secret": {"name": "s"}})), "claim kubernetes.io: expected the uid of every object"),
        (with(&json!({"node": {"name": "n"}})), "claim kubernetes.io: expected the uid of every object"),
        (
            with(&json!({"serviceaccount": {"name": "builder", "uid": "u "}})),
            "the uid cannot be carried in a header without change",
        ),
        (with(&json!({"warnafter": "soon"})), "claim warnafter: expected a number of seconds"),
    ];
    let fixture = Fixture::new(&[]);
    for (patch, want) in rows {
        fixture.check(&bound(), &[(&patch, &format!("401: {want}"))]).await;
    }
}

#[tokio::test]
async fn the_signature_must_be_the_clusters() {
    let fixture = Fixture::new(&[]);
    let claims = bound().to_string();
    let sign = |header: &str, claims: &str| P256.sign(header, claims, Algorithm::Es256);
    let good = P256.token(&bound());
    assert!(fixture.judge(&good).await.starts_with(OK));
    assert!(fixture.judge(&RSA.token(&bound())).await.starts_with(OK));
    assert!(fixture.judge(&sign(r#"{"alg":"ES256"}"#, &claims)).await.starts_with(OK), "without a kid");
    let rows = [
        ("altered", format!("{}AA", &good[..good.len() - 2])),
        ("padded", format!("{good}=")),
        ("another key", RSA2.sign(r#"{"alg":"RS256","kid":"rsa"}"#, &claims, Algorithm::Rs256)),
        ("unknown kid", sign(r#"{"alg":"ES256","kid":"k2"}"#, &claims)),
        ("none", sign(r#"{"alg":"none"}"#, &claims)),
        ("HS256", sign(r#"{"alg":"HS256"}"#, &claims)),
        ("duplicate", sign(r#"{"alg":"ES256"}"#, &claims.replacen('{', r#"{"sub":"x","#, 1))),
    ];
    for (name, token) in rows {
        let got = fixture.judge(&token).await;
        assert!(got.starts_with("401: ") || got == "no opinion", "{name}: {got}");
    }
}

#[tokio::test]
async fn what_is_proven_lasts_as_long_as_the_token_counts() {
    let fixture = Fixture::new(&[]);
    let token = P256.token(&bound());
    let jws = Jws::parse(&token).unwrap().unwrap();
    let proven = fixture.accounts.authenticate(&jws, &token, now()).await.unwrap().unwrap();
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW + 3600 + 60);
    assert_eq!((proven.method(), proven.expires()), ("service-account", Some(end)));
    let groups = ["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"];
    assert_eq!(proven.user().groups(), groups);
}

//! Against a provider that is one: its document, its keys and its certificate come over the wire.

use super::*;
use crate::{
    authn::signed::cases::shown,
    demo::{
        jws::Alg,
        oidc::{AUDIENCE, Kid, Mode, Options, Provider, Signature, Signing},
    },
};
use config::AuthenticationConfiguration;
use serde_json::{Value, json};

/// An AuthenticationConfiguration of these providers.
fn issuers(providers: &[&Provider]) -> Vec<Issuer> {
    let one = |provider: &&Provider| {
        json!({
            "issuer": {"url": provider.issuer(), "audiences": [AUDIENCE], "certificateAuthority": provider.ca_pem()},
            "claimMappings": {"username": {"claim": "sub", "prefix": "o:"}, "groups": {"expression": "claims.?groups.orValue([])"}},
        })
    };
    let all: Vec<Value> = providers.iter().map(one).collect();
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": all});
    AuthenticationConfiguration::parse(&file.to_string(), &[]).unwrap().issuers
}

async fn started(providers: &[&Provider]) -> Oidc {
    let oidc = Oidc::new(issuers(providers), &[], keys::Config::default(), None).unwrap();
    oidc.start(&Metrics::unregistered());
    while oidc.health().iter().any(|(_, health)| health.is_err()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    oidc
}

async fn outcome(oidc: &Oidc, token: &str) -> String {
    match Jws::parse(token) {
        Ok(Some(jws)) => {
            let said = shown(oidc.authenticate(&jws, SystemTime::now()).await);
            // The id is another one in each token.
            said.split(" credential-id").next().unwrap_or_default().to_owned()
        }
        Ok(None) => "no opinion".to_owned(),
        Err(why) => format!("401: {why}"),
    }
}

#[tokio::test]
async fn tokens_of_two_providers_are_judged_by_their_own_keys() {
    let one =
        Provider::start(Options { path: "/realms/one".to_owned(), ..Options::default() }).await.unwrap();
    let two = Provider::start(Options { path: "/".to_owned(), ..Options::default() }).await.unwrap();
    let oidc = started(&[&one, &two]).await;
    for alg in Alg::ALL {
        for (provider, name) in [(&one, "ann"), (&two, "bob")] {
            let token = provider.mint(&provider.claims(name), &Signing::new(alg));
            assert_eq!(outcome(&oidc, &token).await, format!("o:{name}"), "{alg:?}");
        }
    }
    let signing = || Signing::new(Alg::Es256);
    let good = one.claims("ann");
    let payload = good.to_string();
    let rs256 = json!({"alg": "RS256", "kid": one.kid(Alg::Rs256)}).to_string();
    let hs256 = json!({"alg": "HS256", "kid": one.kid(Alg::Rs256)}).to_string();
    let (pem, der) = (one.public_pem(Alg::Rs256), one.public_der(Alg::Rs256));
    let mut of_two = two.claims("ann");
    of_two["iss"] = good["iss"].clone();
    let mut slash = good.clone();
    slash["iss"] = json!(format!("{}/", one.issuer()));
    let refused = [
        ("HS256, the PEM as secret", one.mint_raw(&hs256, &payload, Signature::Hmac(pem.as_bytes()))),
        ("HS256, the DER as secret", one.mint_raw(&hs256, &payload, Signature::Hmac(&der))),
        ("HMAC that says RS256", one.mint_raw(&rs256, &payload, Signature::Hmac(pem.as_bytes()))),
        ("none", one.mint_raw(r#"{"alg":"none"}"#, &payload, Signature::Bytes(b""))),
        ("RS256 without a signature", one.mint_raw(&rs256, &payload, Signature::Bytes(b""))),
        ("signed by the other provider", two.mint(&of_two, &signing())),
        ("the same without a kid", two.mint(&of_two, &signing().kid(Kid::None))),
    ];
    for (name, token) in refused {
        let got = outcome(&oidc, &token).await;
        assert!(got.starts_with("401: "), "{name}: {got}");
    }
    assert_eq!(outcome(&oidc, &one.mint(&good, &signing().kid(Kid::None))).await, "o:ann");
    assert_eq!(outcome(&oidc, &one.mint(&slash, &signing())).await, "no opinion");
}

#[tokio::test]
async fn keys_that_nobody_has_cost_the_provider_nothing() {
    let provider = Provider::start(Options::default()).await.unwrap();
    let oidc = started(&[&provider]).await;
    let asked = provider.keys_requests();
    for i in 0..200 {
        let forged = Signing::new(Alg::Es256).kid(Kid::Other(format!("k{i}")));
        let got = outcome(&oidc, &provider.mint(&provider.claims("ann"), &forged)).await;
        assert!(got.ends_with(&format!("no key for the token's kid (kid \"k{i}\")")), "{got}");
    }
    assert_eq!(provider.keys_requests(), asked, "they were fetched a moment ago");
    // What has been fetched serves while the provider is away.
    provider.fail(Mode::Refuse);
    let token = provider.mint(&provider.claims("ann"), &Signing::new(Alg::Rs256));
    assert_eq!(outcome(&oidc, &token).await, "o:ann");
}

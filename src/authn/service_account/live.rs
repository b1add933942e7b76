//! Against the demo's cluster, which issues tokens and reviews them as kube-apiserver does.

use super::*;
use crate::{
    authn::{
        Authn, ReviewBy, ReviewConfig, Shared,
        jwt::mint::P256,
        metrics::Metrics,
        signed::cases::{self, shown},
    },
    client::{Bounds, Client},
    demo::{
        apiserver::{self, ApiServer, Caller, ISSUER},
        pki::Ca,
    },
    endpoint::{Config as Place, Endpoint, Explicit},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};

/// The gate's own token there, and an administrator's.
const GATE: &str = "gate-s-own";
const ADMIN: &str = "administrator-s";

struct Upstream {
    server: ApiServer,
    ca: Ca,
}

impl Upstream {
    /// `reviewed`: what the server says of tokens beyond those that it issues itself.
    async fn start(reviewed: &[(&str, Caller)]) -> Self {
        let ca = Ca::new("cluster").unwrap();
        let tls = apiserver::tls(&ca.server(&["127.0.0.1"]).unwrap(), &ca).unwrap();
        let mut options = apiserver::Options::new(tls).unwrap();
        let known = [(GATE, Caller::new("gatelog", &[])), (ADMIN, Caller::new("root", &["system:masters"]))];
        options.gateway.reviews_tokens = true;
        options.tokens =
            known.iter().chain(reviewed).map(|(t, who)| ((*t).to_owned(), who.clone())).collect();
        Self { server: ApiServer::start(options).await.unwrap(), ca }
    }

    /// With a folder that the caller removes.
    fn place(&self, token: &str) -> (Place, PathBuf) {
        let folder = format!("gatelog-accounts-{}-{token}-{}", std::process::id(), self.server.addr().port());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.crt"), self.ca.pem()).unwrap();
        fs::write(folder.join("token"), token).unwrap();
        let place = Place::Explicit(Explicit {
            server: format!("https://{}", self.server.addr()),
            certificate_authority: Some(folder.join("ca.crt")),
            token_file: Some(folder.join("token")),
            ..Explicit::default()
        });
        (place, folder)
    }

    fn endpoint(&self, token: &str) -> Arc<Endpoint> {
        let (place, folder) = self.place(token);
        let endpoint = Endpoint::new(&place.read().unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        Arc::new(endpoint)
    }

    /// Keys from there, and reviews that are not remembered.
    fn accounts(&self, review: ReviewTokens, before: Option<&ServiceAccounts>) -> ServiceAccounts {
        let cluster = Arc::new(Cluster::new(self.endpoint(GATE)));
        let asking = ReviewConfig {
            to: ReviewBy::Upstream,
            audiences: Vec::new(),
            cache_ttl: Duration::ZERO,
            allow_system_identities: true,
        };
        let reviewer = Review::new(asking, cluster.clone(), Metrics::unregistered());
        let config = Config { issuers: vec![ISSUER.to_owned()], review, ..Config::default() };
        let reviewer = (review != ReviewTokens::Never).then_some(reviewer);
        ServiceAccounts::new(&config, &[], keys::Config::default(), Some(&cluster), reviewer, before).unwrap()
    }

    /// POST by an administrator, or GET if there is nothing to send.
    async fn call(&self, path: &str, body: Option<&Value>) -> Value {
        let client = Client::to(self.endpoint(ADMIN));
        let bounds = Bounds { timeout: Duration::from_secs(10), body: 1 << 20 };
        let answer = match body {
            None => client.get(path, bounds).await,
            Some(body) => client.post(path, body.to_string().into(), bounds).await,
        };
        serde_json::from_slice(&answer.unwrap().body).unwrap()
    }

    /// How often it was asked whose token something is.
    fn reviews(&self) -> usize {
        self.server.requests().iter().filter(|seen| seen.target.ends_with("/tokenreviews")).count()
    }
}

async fn outcome(accounts: &ServiceAccounts, token: &str) -> String {
    let jws = Jws::parse(token).unwrap().unwrap();
    shown(accounts.authenticate(&jws, token, SystemTime::now()).await)
        .replace("401: service account: ", "401: ")
}

const APP: &str = "/api/v1/namespaces/shop/serviceaccounts/app";

#[tokio::test]
async fn a_clusters_own_tokens_are_believed_and_reviewed_if_wanted() {
    let cluster = Upstream::start(&[]).await;
    let [never, bound, always] = [ReviewTokens::Never, ReviewTokens::Bound, ReviewTokens::Always]
        .map(|review| cluster.accounts(review, None));
    assert!(never.health().is_err());
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let issued = cluster.call(&format!("{APP}/token"), Some(&request)).await;
    let token = issued["status"]["token"].as_str().unwrap();
    assert!(outcome(&never, token).await.starts_with("401: "), "no keys yet");
    for accounts in [&never, &bound, &always] {
        accounts.start(&Metrics::unregistered());
        while accounts.health().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let account = cluster.call(APP, None).await;
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let user = format!(
        "system:serviceaccount:shop:app uid={uid} groups=system:serviceaccounts,system:serviceaccounts:shop"
    );
    let good = outcome(&never, token).await;
    assert!(good.starts_with(&format!("{user} credential-id=[JTI=")), "{good}");
    assert_eq!(outcome(&bound, token).await, good);
    assert_eq!(cluster.reviews(), 0, "it is bound to nothing but its account");
    assert_eq!(outcome(&always, token).await, good);
    assert_eq!(cluster.reviews(), 1);

    // Of things that are gone only a review can tell.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({"iss": ISSUER, "aud": [ISSUER], "exp": now + 600, "sub": "system:serviceaccount:shop:app"});
    let of = |kubernetes: Value| {
        let mut claims = claims.clone();
        claims["kubernetes.io"] = kubernetes;
        cluster.server.mint(&claims)
    };
    let unbound = json!({"namespace": "shop", "serviceaccount": {"name": "app", "uid": "other"}});
    let mut gone = json!({"namespace": "shop", "serviceaccount": {"name": "app", "uid": uid}});
    gone["secret"] = json!({"name": "gone", "uid": "1"});
    let said = |got: &str| got.split(':').take(2).collect::<Vec<_>>().join(":");
    let rows = [
        (&never, of(unbound.clone()), "system:serviceaccount"),
        (&bound, of(unbound.clone()), "system:serviceaccount"),
        (&always, of(unbound), "401: review"),
        (&never, of(gone.clone()), "system:serviceaccount"),
        (&bound, of(gone.clone()), "401: review"),
        (&always, of(gone), "401: review"),
    ];
    for (i, (accounts, token, want)) in rows.iter().enumerate() {
        let got = outcome(accounts, token).await;
        assert_eq!(said(&got), *want, "row {i}: {got}");
    }
    // What is not the cluster's is not asked about.
    cluster.server.forget_requests();
    let stranger = P256.token(&claims);
    assert!(outcome(&always, &stranger).await.starts_with("401: no key for the token's kid"));
    assert_eq!(cluster.reviews(), 0);

    // A reload has the keys at once, without fetching.
    let after = cluster.accounts(ReviewTokens::Never, Some(&never));
    assert_eq!(outcome(&after, token).await, good);
    assert!(Arc::ptr_eq(&after.keys, &never.keys));
}

#[tokio::test]
async fn a_review_must_name_the_same_user() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let token = |id: &str| {
        P256.token(&json!({"iss": ISSUER, "aud": [ISSUER], "exp": now + 600, "jti": id,
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "app", "uid": "u-1"}}}))
    };
    let app = |uid: &str, groups: &[&str]| Caller {
        uid: uid.to_owned(),
        ..Caller::new("system:serviceaccount:shop:app", groups)
    };
    let good =
        "system:serviceaccount:shop:app uid=u-1 groups=system:serviceaccounts,system:serviceaccounts:shop";
    let another = "401: the upstream knows the token by another user";
    let rows = [
        (
            "same",
            app("u-1", &["system:serviceaccounts", "system:serviceaccounts:shop"]),
            format!("{good} credential-id=[JTI=same]"),
        ),
        // The rest is in the token itself.
        ("groups", app("u-1", &["system:masters"]), format!("{good} credential-id=[JTI=groups]")),
        ("uid", app("u-2", &[]), another.to_owned()),
        ("no-uid", app("", &[]), another.to_owned()),
        (
            "name",
            Caller { uid: "u-1".to_owned(), ..Caller::new("system:serviceaccount:shop:other", &[]) },
            another.to_owned(),
        ),
    ];
    let tokens: Vec<_> = rows.iter().map(|(id, who, _)| (token(id), who.clone())).collect();
    let reviewed: Vec<_> = tokens.iter().map(|(token, who)| (&**token, who.clone())).collect();
    let cluster = Upstream::start(&reviewed).await;
    let accounts = ServiceAccounts { keys: cases::keys(), ..cluster.accounts(ReviewTokens::Always, None) };
    for ((id, _, want), (token, _)) in rows.iter().zip(&tokens) {
        assert_eq!(outcome(&accounts, token).await, *want, "{id}");
    }
    let unknown = outcome(&accounts, &token("unknown")).await;
    assert!(unknown.starts_with("401: review: "), "{unknown}");
}

/// Or else the keys would be fetched with a token that nobody reads again.
#[tokio::test]
async fn a_reload_goes_on_with_the_account_that_is_refreshed() {
    let cluster = Upstream::start(&[]).await;
    let (place, folder) = cluster.place(GATE);
    let accounts = |audience: &str| Config {
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![audience.to_owned()],
        ..Config::default()
    };
    let shared = Shared::new(Metrics::unregistered(), None);
    let load = |audience: &str, before: Option<&Authn>| {
        let config = crate::authn::Config {
            service_account: Some(accounts(audience)),
            upstream: Some(place.clone()),
            ..crate::authn::Config::default()
        };
        Authn::new(&config.read().unwrap(), &shared, before).unwrap().0
    };
    let keys = |authn: &Authn| authn.service_accounts.as_ref().unwrap().keys.clone();
    let before = load("a", None);
    let after = load("b", Some(&before));
    assert!(Arc::ptr_eq(&keys(&before), &keys(&after)));
    assert!(Arc::ptr_eq(&before.clusters[0], &after.clusters[0]));
    fs::remove_file(folder.join("token")).unwrap();
    assert!(after.refresh().is_err(), "its token file is read");
    fs::remove_dir_all(&folder).unwrap();
}

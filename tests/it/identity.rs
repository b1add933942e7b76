//! Who asks, end to end: every way to prove an identity through the gate, by real kubectl where it matters.

use crate::{
    harness::{Gate, PATIENCE, Tweaks, checked, kubectls},
    kubectl::minor,
    raw,
};
use bytes::Bytes;
use gatelog::demo::{
    apiserver::ISSUER,
    jws::Alg,
    oidc::{Kid, Mode, Options, Provider, Signature, Signing},
    site::{ADMIN, CAROL, DEVELOPER, carols_token},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

impl Gate {
    /// POSTs an object as the admin; status and answer.
    async fn post(&self, target: &str, object: &Value) -> (StatusCode, Value) {
        let request = Request::post(target)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(object.to_string())))
            .unwrap();
        let response = self.send(ADMIN, request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Who the bearer of a token is, or the status of the refusal.
    async fn whoami(&self, token: &str) -> Result<Value, StatusCode> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let request = Request::post(format!("https://{}{WHOAMI}", self.address()))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from(review.to_string())))
            .unwrap();
        let io = TokioIo::new(self.raw(None, "h2").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        checked(response.headers());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if status != StatusCode::CREATED {
            return Err(status);
        }
        let review: Value = serde_json::from_slice(&body).unwrap();
        Ok(review["status"]["userInfo"].clone())
    }

    /// The same, once `token` is good: something at work in the background makes it so.
    async fn whoami_soon(&self, token: &str) -> Value {
        let soon = async {
            loop {
                match self.whoami(token).await {
                    Ok(user) => return user,
                    Err(status) => assert_eq!(status, 401),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, soon).await.expect("the token does not become good")
    }

    fn provider(&self) -> &Provider {
        self.provider.as_ref().unwrap()
    }

    /// What the admin listener answers.
    async fn health(&self, target: &str) -> String {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        raw::plain(self.admin(), request.as_bytes()).await
    }

    /// The answer to a request for a token of the account `app` in `shop`.
    async fn account_token(&self, spec: Value) -> (StatusCode, Value) {
        self.token_of("app", spec).await
    }

    /// The same for any account in `shop`.
    async fn token_of(&self, account: &str, spec: Value) -> (StatusCode, Value) {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        self.post(&format!("/api/v1/namespaces/shop/serviceaccounts/{account}/token"), &request).await
    }

    /// What the cluster's TokenReview says.
    async fn review(&self, spec: Value) -> Value {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        let (status, review) = self.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        assert_eq!(status, 201, "{review}");
        review["status"].clone()
    }
}

/// The demo's own TokenReview has the trap that kube-apiserver's has: what follows a space in the token is cut off or makes it
/// nobody's.
#[tokio::test]
async fn token_reviews_of_the_demo_are_as_kubernetes_answers_them() {
    let gate = Gate::start(Tweaks::default()).await;
    let (status, made) = gate.account_token(json!({"audiences": []})).await;
    assert_eq!(status, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap();
    let (_, other) = gate.account_token(json!({"audiences": ["vault"]})).await;
    let other = other["status"]["token"].as_str().unwrap();
    let anonymous = json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]});
    for odd in [" x", " ", "\u{a0}", &format!(" {token}")] {
        let status = gate.review(json!({"token": odd})).await;
        let expected = json!({"authenticated": true, "user": anonymous, "audiences": [ISSUER]});
        assert_eq!(status, expected, "{odd:?}");
    }
    for (odd, authenticated) in
        [(token.to_owned(), true), (format!("{token} zz"), true), (format!("{token}\n"), true)]
    {
        let status = gate.review(json!({"token": odd})).await;
        assert_eq!(status["authenticated"], authenticated, "{status}");
        assert_eq!(status["user"]["username"], "system:serviceaccount:shop:app");
        assert_eq!(status["audiences"], json!([ISSUER]));
    }
    for odd in ["x y", "x", &format!("{token}=")] {
        let status = gate.review(json!({"token": odd})).await;
        assert_eq!(status, json!({"user": {}, "error": "invalid bearer token"}), "{odd:?}");
    }
    let wrong = gate.review(json!({"token": other})).await;
    let why = wrong["error"].as_str().unwrap();
    assert!(why.contains("token audiences [\"vault\"] is invalid for the target audiences"), "{why}");
    let right = gate.review(json!({"token": other, "audiences": ["vault", "x"]})).await;
    assert_eq!((&right["authenticated"], &right["audiences"]), (&json!(true), &json!(["vault"])));
    let empty =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": ""}});
    let (status, refusal) = gate.post("/apis/authentication.k8s.io/v1/tokenreviews", &empty).await;
    assert_eq!(status, 400);
    assert_eq!(refusal["message"], "token is required for TokenReview in authentication");
}

#[tokio::test]
async fn token_requests_of_the_demo_are_as_kubernetes_answers_them() {
    let gate = Gate::start(Tweaks::default()).await;
    let (_, pods) = gate.ask(DEVELOPER, "GET", "/api/v1/namespaces/shop/pods?limit=1").await;
    let pods: Value = serde_json::from_slice(&pods).unwrap();
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    #[rustfmt::skip]
    let rows = [
        (json!({"expirationSeconds": 599}), 422, "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"),
        (json!({"expirationSeconds": 600}), 201, ""),
        (bound("Pod", "none", ""), 404, "pods \"none\" not found"),
        (bound("Pod", pod, ""), 400, "cannot bind token for serviceaccount \"app\" to pod running with different serviceaccount name."),
        (bound("ConfigMap", "shop-config", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        (bound("Secret", "shop-db", "x"), 409, "the UID in the bound object reference (x) does not match the UID in record."),
        (bound("Secret", "shop-db", ""), 201, ""),
        (bound("Node", "demo-node", ""), 201, ""),
    ];
    for (spec, code, message) in rows {
        let (status, answer) = gate.account_token(spec.clone()).await;
        assert_eq!(status, code, "{spec}: {answer}");
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{spec}: {said}");
        if code == 201 {
            let token = answer["status"]["token"].as_str().unwrap();
            let status = gate.review(json!({"token": token})).await;
            assert_eq!(status["authenticated"], true, "{spec}: {status}");
        }
    }
    // What a pod's own token says of it reaches the cluster through the gate, so each key of it is granted.
    let (status, made) = gate.token_of("default", bound("Pod", pod, "")).await;
    assert_eq!(status, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap();
    let through = gate.whoami_soon(token).await;
    let direct = gate.review(json!({"token": token})).await["user"].clone();
    assert_eq!(through, direct);
    let extra: Vec<&String> = through["extra"].as_object().unwrap().keys().collect();
    let keys = ["credential-id", "node-name", "node-uid", "pod-name", "pod-uid"];
    assert_eq!(extra, keys.map(|key| format!("authentication.kubernetes.io/{key}")).each_ref());
}

/// With a provider that is well.
async fn believing_a_provider() -> Gate {
    let provider = Some(Provider::start(Options::default()).await.unwrap());
    Gate::start(Tweaks { provider, ..Tweaks::default() }).await
}

/// Writes `<name>.kubeconfig`: that of `like` with other credentials.
fn kubeconfig(gate: &Gate, name: &str, like: &str, credentials: &str) {
    let text = fs::read_to_string(gate.site.dir().join(format!("{like}.kubeconfig"))).unwrap();
    let (before, _) = text.split_once("  user:\n    ").unwrap();
    let text = format!("{before}  user:\n    {credentials}\n");
    fs::write(gate.site.dir().join(format!("{name}.kubeconfig")), text).unwrap();
}

/// A kubeconfig whose token comes from a plugin: a shell script that says what a file says.
fn plugin(gate: &Gate) {
    let at = |name: &str| gate.site.dir().join(name).display().to_string();
    fs::write(at("plugin.token"), carols_token(gate.provider())).unwrap();
    let script = format!(
        "printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"}}}}' \
         \"$(cat '{}')\"\n",
        at("plugin.token")
    );
    fs::write(at("plugin.sh"), script).unwrap();
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: ['{}']}}",
        at("plugin.sh")
    );
    kubeconfig(gate, "plugin", "oidc", &exec);
}

/// The admin as somebody else, by keys that kubectl has no flags for yet.
fn acting(gate: &Gate) {
    let text = fs::read_to_string(gate.site.dir().join("admin.kubeconfig")).unwrap();
    let more = "    as: zoe\n    as-groups: [demo:viewers]\n    as-uid: z-1\n    as-user-extra: {example.com/ticket: ['42', '43']}\n";
    fs::write(gate.site.dir().join("acting.kubeconfig"), text + more).unwrap();
}

/// What kubectl says of itself; None: this one is too old to say.
fn said(gate: &Gate, kubectl: &Path, kubeconfig: &str, args: &[&str]) -> Option<Value> {
    let list = [&["get", "configmaps", "-o", "name"][..], args].concat();
    let listed = gate.run_by(kubectl, kubeconfig, &list, b"", &[]);
    assert!(listed.ok().contains("configmap/shop-config"), "{listed:?}");
    // Up to 1.28 it asks for reviews of versions that are gone.
    if minor(kubectl) <= 28 {
        return None;
    }
    let whoami = [&["auth", "whoami", "-o", "json"][..], args].concat();
    let whoami = gate.run_by(kubectl, kubeconfig, &whoami, b"", &[]);
    let review: Value = serde_json::from_str(whoami.ok()).unwrap();
    Some(review["status"]["userInfo"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_is_known_by_whatever_it_presents() {
    let all = kubectls();
    if all.is_empty() {
        return;
    }
    let gate = believing_a_provider().await;
    // Each key of extra that reaches the cluster has to be granted to the gate.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "tickets"},
        "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/example.com/ticket"],
            "verbs": ["impersonate"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "tickets"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": "tickets"}, "subjects": [{"kind": "User", "name": "gatelog", "apiGroup": "rbac.authorization.k8s.io"}]});
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let target = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        assert_eq!(gate.post(&target, &object).await.0, 201);
    }
    let count = all.len();
    let work = move || {
        plugin(&gate);
        acting(&gate);
        for kubectl in &all {
            let who = kubectl.display();
            let check = |kubeconfig: &str, args: &[&str], name: &str, groups: &[&str], extra: &[&str]| {
                let Some(user) = said(&gate, kubectl, kubeconfig, args) else { return Value::Null };
                assert_eq!(user["username"], name, "{who} {kubeconfig}: {user}");
                assert_eq!(user["groups"], json!(groups), "{who} {kubeconfig}: {user}");
                let none = serde_json::Map::new();
                let keys: Vec<&String> = user["extra"].as_object().unwrap_or(&none).keys().collect();
                assert_eq!(keys, extra, "{who} {kubeconfig}: {user}");
                user
            };
            let credential = ["authentication.kubernetes.io/credential-id"];
            let of_provider = ["oidc:developers", "system:authenticated"];
            let id = |user: &Value| user["extra"][credential[0]][0].as_str().unwrap_or_default().to_owned();
            for kubeconfig in ["oidc", "plugin"] {
                let user = check(kubeconfig, &[], CAROL.name, &of_provider, &credential);
                assert!(user.is_null() || id(&user).starts_with("JTI="), "{who}: {user}");
            }
            let user = check("admin", &[], ADMIN.name, &[ADMIN.group, "system:authenticated"], &credential);
            assert!(user.is_null() || id(&user).starts_with("X509SHA256="), "{who}: {user}");

            let viewers = ["demo:viewers", "system:authenticated"];
            let zoe = ["--as", "zoe", "--as-group", "demo:viewers", "--as-uid", "z-1"];
            let user = check("admin", &zoe, "zoe", &viewers, &[]);
            assert!(user.is_null() || user["uid"] == "z-1", "{who}: {user}");
            let user = check("acting", &[], "zoe", &viewers, &["example.com/ticket"]);
            let ticket = json!(["42", "43"]);
            assert!(
                user.is_null() || (user["uid"] == "z-1" && user["extra"]["example.com/ticket"] == ticket)
            );

            let token = gate.run(kubectl, DEVELOPER, &["create", "token", "app"], b"");
            kubeconfig(&gate, "account", "developer", &format!("token: {}", token.ok().trim()));
            let app = "system:serviceaccount:shop:app";
            let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
            let user = check("account", &[], app, &groups, &credential);
            assert!(user.is_null() || !user["uid"].as_str().unwrap().is_empty(), "{who}: {user}");
            let acting = check("admin", &["--as", app], app, &groups, &[]);
            assert!(acting.is_null() || acting["uid"].is_null(), "{who}: {acting}");
            let refused = gate.run_by(kubectl, "account", &["delete", "pods", "--all"], b"", &[]);
            assert!(refused.failed().contains(&format!("User \"{app}\" cannot")), "{refused:?}");
        }
        gate
    };
    let mut gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let mut methods: Vec<&str> = record
        .of("configmaps")
        .filter(|event| event["impersonatedUser"].is_null())
        .map(|event| event["annotations"]["gatelog.dev/authn-method"].as_str().unwrap())
        .collect();
    methods.sort_unstable();
    let expected = [vec!["jwt"; 2 * count], vec!["service-account"; count], vec!["x509"; count]].concat();
    assert_eq!(methods, expected);
    for event in record.of("configmaps") {
        let acts = event["impersonatedUser"]["username"].as_str();
        let user = event["user"]["username"].as_str();
        assert!(acts.is_none() || user == Some(ADMIN.name), "{event}");
    }
}

#[tokio::test]
async fn tokens_count_only_when_they_are_good() {
    let gate = believing_a_provider().await;
    let provider = gate.provider();
    gate.whoami_soon(&carols_token(provider)).await;
    let mut claims = provider.claims("carol");
    claims["email"] = "carol@example.com".into();
    for alg in Alg::ALL {
        let user = gate.whoami(&provider.mint(&claims, &Signing::new(alg))).await.unwrap();
        assert_eq!(user["username"], CAROL.name, "{alg:?}");
    }
    let unnamed = provider.mint(&claims, &Signing::new(Alg::Es256).kid(Kid::None));
    gate.whoami(&unnamed).await.unwrap();

    let header = |alg: &str, kid: Alg| json!({"alg": alg, "kid": provider.kid(kid)}).to_string();
    let payload = claims.to_string();
    let raw =
        |header: &str, payload: &str, signature: Signature<'_>| provider.mint_raw(header, payload, signature);
    let (rs256, hs256) = (header("RS256", Alg::Rs256), header("HS256", Alg::Rs256));
    let (pem, der) = (provider.public_pem(Alg::Rs256), provider.public_der(Alg::Rs256));
    let changed = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        provider.mint(&claims, &Signing::new(Alg::Rs256))
    };
    let twice = payload.replacen('{', "{\"email\":\"admin@example.com\",", 1);
    let now = claims["iat"].as_i64().unwrap();
    let good = provider.mint(&claims, &Signing::new(Alg::Rs256));
    #[rustfmt::skip]
    let rows = [
        ("alg none", raw(r#"{"alg":"none"}"#, &payload, Signature::Bytes(b""))),
        ("alg none with a good signature", raw(r#"{"alg":"none"}"#, &payload, Signature::Good(Alg::Rs256))),
        ("HS256 with the key's PEM", raw(&hs256, &payload, Signature::Hmac(pem.as_bytes()))),
        ("HS256 with the key's DER", raw(&hs256, &payload, Signature::Hmac(&der))),
        ("another algorithm's signature", raw(&rs256, &payload, Signature::Good(Alg::Rs512))),
        ("another key's name", raw(&header("RS256", Alg::Es256), &payload, Signature::Good(Alg::Rs256))),
        ("no signature", raw(&rs256, &payload, Signature::Bytes(b""))),
        ("a wrong signature", raw(&rs256, &payload, Signature::Bytes(&[1; 256]))),
        ("an unknown key", provider.mint(&claims, &Signing::new(Alg::Rs256).kid(Kid::Other("x".into())))),
        ("a claim twice", raw(&rs256, &twice, Signature::Good(Alg::Rs256))),
        ("crit", raw(&rs256.replacen('{', r#"{"crit":["x"],"x":1,"#, 1), &payload, Signature::Good(Alg::Rs256))),
        ("padding", format!("{good}=")),
        ("four parts", format!("{good}.x")),
        ("a slash after the issuer", changed("iss", json!(format!("{}/", provider.issuer())))),
        ("another issuer", changed("iss", json!("https://elsewhere.example"))),
        ("another audience", changed("aud", json!(["vault"]))),
        ("expired", changed("exp", json!(now - 1))),
        ("expired, but EXP is not", raw(&rs256, &changed_twice(&payload, now), Signature::Good(Alg::Rs256))),
        ("not yet", changed("nbf", json!(now + 90))),
        ("no email", changed("email", Value::Null)),
        ("an email that is not verified", changed("email_verified", json!(false))),
        ("groups that are none", changed("groups", json!(4))),
    ];
    for (what, token) in rows {
        assert_eq!(gate.whoami(&token).await, Err(StatusCode::UNAUTHORIZED), "{what}");
    }
    gate.whoami(&changed("nbf", json!(now + 50))).await.unwrap();
    gate.whoami(&changed("aud", json!(["vault", "gatelog"]))).await.unwrap();
}

/// `exp` has passed; a reader that does not care for case believes the `EXP` that follows.
fn changed_twice(payload: &str, now: i64) -> String {
    let mut claims: Value = serde_json::from_str(payload).unwrap();
    claims["exp"] = json!(now - 1);
    claims["EXP"] = json!(now + 3600);
    claims.to_string()
}

#[tokio::test]
async fn new_keys_are_found_when_a_token_names_one() {
    let gate = believing_a_provider().await;
    let provider = gate.provider();
    gate.whoami_soon(&carols_token(provider)).await;
    assert_eq!(provider.keys_requests(), 1);
    let old = provider.mint(&provider.claims("nobody"), &Signing::new(Alg::Es384));
    provider.rotate().unwrap();
    // Not at once: keys are asked for once in a while, whatever tokens say. Then by the very request that needs them.
    let user = gate.whoami_soon(&carols_token(provider)).await;
    assert_eq!(user["username"], CAROL.name);
    assert_eq!(provider.keys_requests(), 2);
    assert_eq!(gate.whoami(&old).await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_keeps_nobody_else_out() {
    let provider = Provider::start(Options::default()).await.unwrap();
    provider.fail(Mode::Refuse);
    let config = "limits:\n  failedAuthentications: 1\n";
    let gate = Gate::start(Tweaks { config, provider: Some(provider), ..Tweaks::default() }).await;
    let provider = gate.provider();
    let token = carols_token(provider);
    // That nobody can judge her token is not held against her.
    for _ in 0..5 {
        assert_eq!(gate.whoami(&token).await, Err(StatusCode::UNAUTHORIZED));
    }
    assert_eq!(gate.ask(DEVELOPER, "GET", "/api/v1/namespaces/shop/pods").await.0, 200);
    let ready = gate.health("/readyz?verbose").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("[-]issuers failed"), "{ready}");
    let why = gate.health("/readyz/issuers").await;
    assert!(why.contains(provider.issuer()), "{why}");
    let wrong = [Mode::Status(500), Mode::Issuer("https://evil.example".into())];
    for (asked, mode) in wrong.into_iter().enumerate() {
        provider.fail(mode);
        tokio::time::timeout(PATIENCE, provider.asked(asked + 1, 0)).await.unwrap();
        assert_eq!(gate.whoami(&token).await, Err(StatusCode::UNAUTHORIZED));
    }
    assert_eq!(provider.keys_requests(), 0);
    provider.recover();
    assert_eq!(gate.whoami_soon(&token).await["username"], CAROL.name);
    let ready = gate.health("/readyz?verbose").await;
    assert!(ready.contains("[+]issuers ok"), "{ready}");
}

#[tokio::test]
async fn guessing_costs_nothing_and_ends_soon() {
    let provider = Some(Provider::start(Options::default()).await.unwrap());
    let config = "limits:\n  failedAuthentications: 10\n";
    let gate = Gate::start(Tweaks { config, provider, ..Tweaks::default() }).await;
    let provider = gate.provider();
    let good = carols_token(provider);
    tokio::time::timeout(PATIENCE, provider.asked(1, 1)).await.unwrap();
    gate.whoami_soon(&good).await;
    let claims = provider.claims("carol");
    let mut refused = 0;
    loop {
        let kid = Kid::Other(format!("guess-{refused}"));
        match gate.whoami(&provider.mint(&claims, &Signing::new(Alg::Es256).kid(kid))).await {
            Err(StatusCode::UNAUTHORIZED) => refused += 1,
            Err(StatusCode::TOO_MANY_REQUESTS) => break,
            other => panic!("{refused}: {other:?}"),
        }
        // Some are forgiven while this goes on.
        assert!(refused < 50, "nobody stops it");
    }
    assert!(provider.keys_requests() <= 3, "{}", provider.keys_requests());
    // Who is known already is not kept out by a neighbour who guesses.
    assert_eq!(gate.whoami(&good).await.unwrap()["username"], CAROL.name);
}

/// Only the cluster knows that an account is gone; whether it is asked is the operator's choice.
#[tokio::test]
async fn a_deleted_account_is_noticed_where_the_cluster_is_asked() {
    for (authentication, noticed) in [("    review: never\n", false), ("    review: always\n", true)] {
        let gate = Gate::start(Tweaks { authentication, reviews_tokens: true, ..Tweaks::default() }).await;
        let token = || async {
            let (status, made) = gate.account_token(json!({"audiences": []})).await;
            assert_eq!(status, 201, "{made}");
            made["status"]["token"].as_str().unwrap().to_owned()
        };
        let (first, second) = (token().await, token().await);
        let app = "system:serviceaccount:shop:app";
        assert_eq!(gate.whoami_soon(&first).await["username"], app);
        let (status, _) = gate.ask(ADMIN, "DELETE", "/api/v1/namespaces/shop/serviceaccounts/app").await;
        assert_eq!(status, 200);
        match gate.whoami(&second).await {
            Ok(user) => assert!(!noticed && user["username"] == app, "{authentication}: {user}"),
            Err(status) => assert!(noticed && status == 401, "{authentication}: {status}"),
        }
    }
}

/// A token for another audience is not this gate's to verify, but the cluster's to know.
#[tokio::test]
async fn the_cluster_is_asked_about_tokens_that_nobody_here_knows() {
    let authentication = "  tokenReview:\n    upstream: {}\n    audiences: [vault]\n";
    let gate = Gate::start(Tweaks { authentication, reviews_tokens: true, ..Tweaks::default() }).await;
    let (_, made) = gate.account_token(json!({"audiences": ["vault"]})).await;
    let token = made["status"]["token"].as_str().unwrap();
    let asked = || {
        let reviews = |seen: &gatelog::demo::apiserver::Seen| seen.target.ends_with("/tokenreviews");
        gate.cluster.requests().into_iter().filter(reviews).count()
    };
    for _ in 0..3 {
        let user = gate.whoami_soon(token).await;
        assert_eq!(user["username"], "system:serviceaccount:shop:app");
    }
    assert_eq!(asked(), 1, "the answer is remembered");
    // What a reader that splits at spaces would take for something else never leaves.
    for odd in [format!("{token} zz"), format!(" {token}"), format!("{token}\u{a0}")] {
        let _ = gate.whoami(&odd).await;
    }
    assert_eq!(asked(), 1);
    assert_eq!(gate.whoami("unknown").await, Err(StatusCode::UNAUTHORIZED));
    assert_eq!(asked(), 2);
}

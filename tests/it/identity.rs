//! Who asks, end to end: every way to prove an identity through the gate, by real kubectl where it matters.

use crate::harness::{Gate, Tweaks};
use bytes::Bytes;
use gatelog::demo::{
    apiserver::ISSUER,
    site::{ADMIN, DEVELOPER},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

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

    /// A token of the account `app` in `shop`.
    async fn account_token(&self, spec: Value) -> (StatusCode, Value) {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        self.post("/api/v1/namespaces/shop/serviceaccounts/app/token", &request).await
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
}

//! Tokens that somebody else is asked about, from end to end: what goes to whom, and how often.

use crate::{
    conformance::{record::Record, world::World},
    raw::Reply,
    scene::{self, Folder, Options, Scene},
    upstream::{Act, Heard, Upstream},
};
use serde_json::{Value, json};

const RIGHTS: &str = "
user alice dev
can zed get,list - pods
";

const REVIEWS: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1";
const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

/// Answers a TokenReview: zed's token, one of the cluster's own, one of a stranger; everything else is none.
fn review(heard: &Heard) -> Vec<Act> {
    let question: Value = serde_json::from_slice(&heard.body).unwrap();
    let user = |name: &str, groups: &[&str]| json!({"authenticated": true, "user": {"username": name, "groups": groups}});
    let status = match question["spec"]["token"].as_str().unwrap() {
        "zeds-opaque" => user("zed", &["ops"]),
        "masters-opaque" => user("zed", &["system:masters"]),
        "strangers-opaque" => user("system:anonymous", &["system:unauthenticated"]),
        _ => json!({"error": "invalid bearer token"}),
    };
    let answer = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
    vec![Act::answer("201 Created", &answer.to_string())]
}

fn cluster(heard: &Heard) -> Vec<Act> {
    if heard.line() == REVIEWS { review(heard) } else { vec![Act::answer("200 OK", LIST)] }
}

async fn ask(scene: &Scene, token: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    scene
        .ask(
            "-",
            "GET",
            "/api/v1/pods",
            &[("Authorization", &bearer), ("Cookie", "callers-own=1"), ("X-Callers-Own", "1")],
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_is_asked_once_and_told_nothing_but_the_token() {
    let options = Options {
        authentication: ", tokenReview: {upstream: {}}".to_owned(),
        more: "limits: {failedAuthentications: 4}",
        ..Options::default()
    };
    let mut scene = Scene::with(RIGHTS, options, cluster).await;
    let reply = ask(&scene, "zeds-opaque").await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let heard = scene.upstream.heard();
    assert_eq!(heard.iter().map(Heard::line).collect::<Vec<_>>(), [REVIEWS, "GET /api/v1/pods HTTP/1.1"]);
    assert_eq!(heard[0].values("authorization"), ["Bearer gatelog-token"]);
    let question: Value = serde_json::from_slice(&heard[0].body).unwrap();
    let want = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "zeds-opaque"}});
    assert_eq!(question, want);
    assert!(
        !heard[0].head.contains("callers-own") && !heard[0].head.contains("zeds-opaque"),
        "{}",
        heard[0].head
    );
    assert_eq!(heard[1].values("impersonate-user"), ["zed"]);
    assert_eq!(heard[1].values("impersonate-group"), ["ops", "system:authenticated"]);
    assert!(!heard[1].head.contains("zeds-opaque"));
    let events = scene.ended(&reply).await;
    let last = events.last().unwrap();
    assert_eq!(last["user"], json!({"username": "zed", "groups": ["ops", "system:authenticated"]}));
    assert_eq!(last["annotations"]["gatelog.dev/authn-method"], "token-review");
    assert!(events.iter().all(|event| !event.to_string().contains("zeds-opaque")));

    // Once is enough.
    assert_eq!(ask(&scene, "zeds-opaque").await.code, 200);
    let reviews =
        |scene: &Scene| scene.upstream.heard().iter().filter(|heard| heard.line() == REVIEWS).count();
    assert_eq!(reviews(&scene), 1);
    // Nobody, however the upstream puts it; and no token that a space splits is even asked about.
    for (i, token) in ["strangers-opaque", "nobodys-opaque", "x\u{a0}y"].into_iter().enumerate() {
        let reply = ask(&scene, token).await;
        assert_eq!(reply.code, 401, "{token}");
        assert!(!reply.text().contains("opaque") && reply.header("www-authenticate").is_none());
        assert_eq!(reviews(&scene), (i + 2).min(3), "{token}");
    }
    // Then that source's guesses are not looked at any more, but whoever is known is known.
    assert_eq!(ask(&scene, "guess-1").await.code, 401);
    assert_eq!(ask(&scene, "guess-2").await.code, 429);
    assert_eq!(ask(&scene, "zeds-opaque").await.code, 200);
    assert_eq!(reviews(&scene), 4);
    for (metric, value) in [
        ("gatelog_authentication_attempts_total{method=\"token-review\",result=\"success\"}", 3.0),
        ("gatelog_authentication_attempts_total{method=\"token-review\",result=\"error\"}", 4.0),
        ("gatelog_authentication_limited_total", 1.0),
        ("gatelog_token_review_duration_seconds_count", 4.0),
        ("gatelog_token_review_errors_total", 0.0),
        ("authentication_token_cache_request_total{status=\"hit\"}", 2.0),
        ("authentication_token_cache_request_total{status=\"miss\"}", 5.0),
        ("authentication_token_cache_fetch_total{status=\"ok\"}", 1.0),
        ("authentication_token_cache_fetch_total{status=\"error\"}", 4.0),
        ("authentication_token_cache_active_fetch_count", 0.0),
        ("authentication_duration_seconds_count", 8.0),
    ] {
        assert_eq!(scene.metric(metric).await, value, "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_asked_at_its_own_path_and_believed_within_bounds() {
    for (more, master) in [("", 401), (", allowSystemIdentities: true", 200)] {
        let world = World::new(&[RIGHTS]);
        let upstream = Upstream::start(&world.ca, |_| vec![Act::answer("200 OK", LIST)]).await;
        let hook = Upstream::start(&world.ca, review).await;
        let folder = Folder::new("token-review");
        folder.put(
            "webhook.kubeconfig",
            &format!(
                "{{apiVersion: v1, kind: Config, current-context: hook,
                  contexts: [{{name: hook, context: {{cluster: hook, user: gate}}}}],
                  clusters: [{{name: hook, cluster: {{server: 'https://{}/v1/authenticate', certificate-authority: ca.crt}}}}],
                  users: [{{name: gate, user: {{token: hooks-own}}}}]}}",
                hook.addr
            ),
        );
        let authentication = format!(", tokenReview: {{kubeconfig: webhook.kubeconfig{more}}}");
        let options = Options { authentication, ..Options::default() };
        folder.put("ca.crt", &world.ca.pem());
        let gate = scene::start(&folder, &world, upstream.addr, options).await;
        let record = Record::at(folder.0.join("audit"));
        let scene = Scene { world, upstream, gate, folder, record };

        assert_eq!(ask(&scene, "zeds-opaque").await.code, 200);
        assert_eq!(ask(&scene, "masters-opaque").await.code, master, "{more}");
        assert_eq!(ask(&scene, "strangers-opaque").await.code, 401);
        assert_eq!(ask(&scene, "nobodys-opaque").await.code, 401);
        let asked = hook.heard();
        assert_eq!(asked.len(), 4);
        for heard in asked {
            assert_eq!(heard.line(), "POST /v1/authenticate HTTP/1.1");
            assert_eq!(heard.values("authorization"), ["Bearer hooks-own"]);
        }
        let forwarded = scene.upstream.heard();
        assert_eq!(forwarded.len(), if master == 200 { 2 } else { 1 });
        assert!(forwarded.iter().all(|heard| heard.values("authorization") == ["Bearer gatelog-token"]));
        // What it said holds for a while without it.
        hook.stop();
        assert_eq!(ask(&scene, "zeds-opaque").await.code, 200);
        assert_eq!(ask(&scene, "strangers-opaque").await.code, 401);
    }
}

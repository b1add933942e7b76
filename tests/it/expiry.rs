//! What has been opened with a credential, and the credential's end.

use crate::{
    plane::{Options, Plane, answer, soon, whole},
    raw::{Identity, Reply, Tls, Wire},
};
use gatelog::demo::pki::{Client, Validity};
use http::{HeaderMap, HeaderName};
use std::time::Duration;

const EXPIRED: &str = "the credential has expired";

/// alice, with a certificate that is good for another two seconds.
async fn brief(plane: &Plane) -> Wire {
    let client = Client::new("alice").validity(Validity::For(Duration::from_secs(2)));
    let pair = plane.world.ca.client(&client).unwrap();
    let identity = Identity { chain: pair.certificates(), key: pair.key };
    Wire::open(plane.address, &Tls::new(&plane.world.ca.pem(), Some(&identity), "http/1.1")).await.unwrap()
}

fn headers(reply: &Reply) -> HeaderMap {
    let id = reply.header("audit-id").unwrap().parse().unwrap();
    HeaderMap::from_iter([(HeaderName::from_static("audit-id"), id)])
}

fn head(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gate\r\n{more}\r\n")
}

#[tokio::test]
async fn a_watch_ends_at_an_events_boundary_when_its_credential_expires() {
    let mut plane = Plane::new().await;
    let mut wire = brief(&plane).await;
    wire.send(head("/api/v1/pods?watch=1", "")).await.unwrap();
    let feed = plane.upstream.call().await.stream("application/json");
    let began = wire.head().await;
    assert_eq!(began.code, 200);
    soon(feed.send(Ok("{\"a\":1}\n".into()))).await.unwrap();
    assert_eq!(wire.chunk().await.unwrap(), b"{\"a\":1}\n");
    assert_eq!(wire.chunk().await, None, "a clean end");
    soon(feed.closed()).await;
    let event = plane.last(&headers(&began)).await;
    assert_eq!(event["annotations"]["gatelog.dev/end"], EXPIRED);
    assert_eq!(event["responseStatus"]["code"], 200);
    // The connection lives on, the credential does not.
    wire.send(head("/api/v1/pods", "")).await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 401);
}

#[tokio::test]
async fn a_session_outlives_its_credential_unless_told_otherwise() {
    for (key, ends) in [("", false), ("endTunnelsAtExpiry: true", true)] {
        let mut plane =
            Plane::with(Options { alpn: &["http/1.1"], authentication: key, ..Options::default() }).await;
        let mut wire = brief(&plane).await;
        let upgrade =
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
        wire.send(head("/api/v1/namespaces/a/pods/p/exec?command=sh", upgrade)).await.unwrap();
        let mut call = plane.upstream.call().await;
        let upgraded = hyper::upgrade::on(&mut call.request);
        let switched = [
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        call.answer(answer(101, &switched, whole("")));
        let began = wire.head().await;
        assert_eq!(began.code, 101);
        let _open = soon(upgraded).await.unwrap();
        if ends {
            assert!(wire.closes().await);
            assert_eq!(plane.last(&headers(&began)).await["annotations"]["gatelog.dev/end"], EXPIRED);
        } else {
            let [(_, held)] = &plane.gate().gateway().streams().list()[..] else { panic!("no stream") };
            assert!(held.tunnel && held.expires.is_none());
        }
    }
}

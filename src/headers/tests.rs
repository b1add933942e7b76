//! The table's rows, and what must survive none of it.

use super::*;
use proptest::prelude::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
}

/// `name: value` lines, sorted.
fn show(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
    lines.sort();
    lines
}

#[test]
fn classes() {
    for (class_wanted, names) in [
        (
            Class::Identity,
            "Authorization IMPERSONATE-USER impersonate-group Impersonate-Uid Impersonate-Extra-scopes Impersonate-Extra-a%2fb \
             Impersonate-Extra- Impersonate-Future Impersonate- Impersonate ImpersonateUser Impersonate_User impersonate_extra_x \
             X-Remote-User x-remote-group X-REMOTE-UID X-Remote-Extra-Foo X-Remote-Anything X_Remote_User X-Remote_User x_remote-x",
        ),
        (
            Class::HopByHop,
            "Connection Keep-Alive Keep_Alive TE Trailer Trailers Transfer-Encoding Transfer_Encoding Upgrade HTTP2-Settings \
             Proxy-Connection Proxy-Authenticate Proxy-Authorization Proxy_Authorization Proxy-Anything Content_Length",
        ),
        (
            Class::Ours,
            "Host Audit-Id Audit_ID X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X_Forwarded_For X-Forwarded X-Forwarded-Client-Cert \
             X-Forwarded-User X-Real-IP Forwarded Via Expect X-HTTP-Method-Override X-HTTP-Method X-Method-Override X-Original-URL X-Rewrite-URL",
        ),
        (
            Class::EndToEnd,
            "Accept Accept-Encoding Content-Type Content-Length Content-Encoding User-Agent Cookie Origin If-Match If-None-Match Range Date Link \
             Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version X-Stream-Protocol-Version Kubectl-Command Kubectl-Session Traceparent \
             Tracestate Warning X-Request-Id X-Remotely X-Remote Authorization-Info Authorizatio Hosts A X I Impersonat Teapot Upgrades Proxy Vi",
        ),
    ] {
        for name in names.split_whitespace() {
            assert_eq!(class(&name.parse().unwrap()), class_wanted, "{name}");
        }
    }
}

#[test]
fn secrets() {
    for name in [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "sec-websocket-protocol",
        "x-remote-user",
        "impersonate-user",
    ] {
        assert!(is_secret(&name.parse().unwrap()), "{name}");
    }
    for name in ["accept", "user-agent", "content-type", "audit-id"] {
        assert!(!is_secret(&name.parse().unwrap()), "{name}");
    }
}

/// Whatever else is sent, this arrives and nothing more.
#[test]
fn what_a_caller_sends_upstream() {
    let harmless = [("accept", "application/json"), ("user-agent", "kubectl")];
    for hostile in [
        &[][..],
        &[("connection", "Impersonate-User")],
        &[("connection", "close, impersonate-group"), ("connection", "X-Remote-User")],
        &[
            ("connection", "Impersonate-User, Impersonate-Group, Authorization, X-Remote-User"),
            ("impersonate-user", "admin"),
        ],
        &[("proxy-connection", "x-secret"), ("x-secret", "1")],
        &[("connection", "x-a"), ("connection", ",, X-B ,"), ("x-a", "1"), ("x-b", "2"), ("x-b", "3")],
        &[("connection", "keep-alive, Upgrade, not a name"), ("upgrade", "websocket"), ("keep-alive", "5")],
        &[("impersonate-user", "admin"), ("impersonate-extra-scopes", "x"), ("impersonate-future", "y")],
        &[("impersonate_user", "admin"), ("impersonate-user", ""), ("impersonate-user", "b")],
        &[("x-remote-user", "admin"), ("x-remote-group", "system:masters"), ("x_remote_extra_foo", "1")],
        &[("authorization", "Bearer t"), ("authorization", "Basic x"), ("proxy-authorization", "Basic x")],
        &[
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.dA"),
            ("authorization", "Bearer t"),
        ],
        &[
            ("host", "evil"),
            ("audit-id", "x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=x"),
            ("via", "1.1 x"),
        ],
        &[("x-http-method-override", "DELETE"), ("x-original-url", "/api/v1/secrets")],
        &[
            ("te", "trailers"),
            ("trailer", "Impersonate-User"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
        ],
        &[("expect", "100-continue"), ("http2-settings", "x")],
    ] {
        let mut sent = map(&harmless);
        sent.extend(map(hostile));
        assert_eq!(show(&for_upstream(&sent)), show(&map(&harmless)), "{hostile:?}");
        assert_eq!(survivors(&for_upstream(&sent), &[]), Ok(()));
    }
    // Repeated values stay, in order; so does a length that nothing overrides.
    let sent = map(&[("accept", "a"), ("content-length", "3"), ("x-y", "1"), ("accept", "b")]);
    let arrived = for_upstream(&sent);
    assert_eq!(arrived, sent);
    assert_eq!(arrived.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_nomination_cannot_remove_what_the_gate_sets() {
    let sent = map(&[("connection", "impersonate-user, audit-id"), ("impersonate-user", "admin")]);
    let mut upstream = for_upstream(&sent);
    upstream.append(IMPERSONATE_USER, HeaderValue::from_static("bob"));
    assert_eq!(show(&upstream), ["impersonate-user: bob"]);
}

#[test]
fn bearer_among_subprotocols() {
    for (protocols, want) in [
        ("v5.channel.k8s.io", Some("v5.channel.k8s.io")),
        ("a,b , c", Some("a,b , c")),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4", None),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4, v5.channel.k8s.io", Some("v5.channel.k8s.io")),
        (
            "v5.channel.k8s.io,base64url.bearer.authorization.k8s.io.,v4.channel.k8s.io",
            Some("v5.channel.k8s.io, v4.channel.k8s.io"),
        ),
        (" base64url.bearer.authorization.k8s.io.x ,", None),
        ("Base64URL.Bearer.authorization.k8s.io.x, v4.channel.k8s.io", Some("v4.channel.k8s.io")),
        ("base64url.bearer.authorization.k8s.io", Some("base64url.bearer.authorization.k8s.io")),
    ] {
        let value = HeaderValue::from_str(protocols).unwrap();
        assert_eq!(without_bearer(&value), want.map(|w| HeaderValue::from_str(w).unwrap()), "{protocols}");
    }
    let sent = map(&[
        ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.x"),
        ("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.x"),
    ]);
    assert_eq!(show(&for_upstream(&sent)), ["sec-websocket-protocol: v5.channel.k8s.io"]);
    let sent = map(&[
        ("sec_websocket_protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.x"),
        ("sec-websocket_protocol", "base64url.bearer.authorization.k8s.io.x"),
    ]);
    assert_eq!(show(&for_upstream(&sent)), ["sec_websocket_protocol: v5.channel.k8s.io"]);
}

#[test]
fn what_the_upstream_answers() {
    let answer = map(&[
        ("content-type", "application/json"),
        ("warning", "299 - \"a\""),
        ("warning", "299 - \"b\""),
        ("connection", "close, x-hop"),
        ("upgrade", "SPDY/3.1"),
        ("x-hop", "1"),
        ("x-hop", "2"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("audit-id", "theirs"),
        ("alt-svc", "h2=\"around:443\""),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ]);
    assert_eq!(
        show(&for_caller(answer)),
        [
            "content-type: application/json",
            "warning: 299 - \"a\"",
            "warning: 299 - \"b\"",
            "x-stream-protocol-version: v4.channel.k8s.io",
        ]
    );
    let plain = map(&[("content-length", "5"), ("date", "x")]);
    assert_eq!(for_caller(plain.clone()), plain);
}

#[test]
fn survivors_are_named() {
    let pairs = |lines: &[(&str, &str)]| -> Vec<_> {
        lines.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    };
    let allowed =
        pairs(&[("impersonate-user", "bob"), ("impersonate-group", "a"), ("impersonate-group", "b")]);
    let base: &[(&str, &str)] = &[
        ("accept", "x"),
        ("impersonate-user", "bob"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
    ];
    let with = |more: &[(&str, &str)]| {
        let mut headers = map(base);
        headers.extend(map(more));
        survivors(&headers, &allowed).map_err(|n| n.to_string())
    };
    assert_eq!(with(&[]), Ok(()));
    assert_eq!(with(&[("x-y", "1")]), Ok(()));
    for name in
        ["authorization", "impersonate-uid", "impersonate-future", "x-remote-user", "impersonate_user"]
    {
        let (lines, want) = ([(name, "x")], Err(name.to_owned()));
        // `extend` replaces, which is all right for names that are not there.
        assert_eq!(with(&lines), want);
    }
    // One value too many, twice the same, another order, one missing, none at all.
    let check = |lines: &[(&str, &str)]| survivors(&map(lines), &allowed).map_err(|n| n.to_string());
    let user = ("impersonate-user", "bob");
    let (a, b) = (("impersonate-group", "a"), ("impersonate-group", "b"));
    assert_eq!(check(&[a, b, user]), Ok(()));
    assert_eq!(check(&[user, b, a]), Ok(()));
    assert_eq!(
        check(&[user, a, b, ("impersonate-group", "system:masters")]),
        Err("impersonate-group".into())
    );
    assert_eq!(check(&[user, a, b, b]), Err("impersonate-group".into()));
    assert_eq!(check(&[user, a]), Err("impersonate-group".into()));
    assert_eq!(check(&[user, user, a, b]), Err("impersonate-user".into()));
    assert_eq!(check(&[a, b]), Err("impersonate-user".into()));
    assert_eq!(check(&[]), Err("impersonate-user".into()));
    assert_eq!(check(&[("impersonate-user", "admin"), a, b]), Err("impersonate-user".into()));
    // The gate's own credential beside the user's headers.
    let own = pairs(&[("authorization", "Bearer gate")]);
    let headers = map(&[user, a, b, ("authorization", "Bearer gate")]);
    assert_eq!(survivors(&headers, allowed.iter().chain(&own)), Ok(()));
    assert!(survivors(&headers, &allowed).is_err());
}

proptest! {
    #[test]
    fn nothing_that_claims_an_identity_survives(
        names in prop::collection::vec("(impersonate|x-remote|authorization|connection|te|accept|x)[-_]?[a-z_-]{0,6}", 0..8),
        nominated in "[a-z,_ -]{0,20}",
    ) {
        let mut sent = HeaderMap::new();
        for name in &names {
            if let Ok(name) = name.parse::<HeaderName>() {
                sent.append(name, HeaderValue::from_static("v"));
            }
        }
        if let Ok(value) = HeaderValue::from_str(&nominated) {
            sent.append(header::CONNECTION, value);
        }
        let arrived = for_upstream(&sent);
        for name in arrived.keys() {
            let plain = name.as_str().replace('_', "-");
            prop_assert!(!plain.starts_with("impersonate") && !plain.starts_with("x-remote-") && plain != "authorization", "{}", name);
            prop_assert!(!nominated.split(',').any(|n| n.trim() == name.as_str()), "{}", name);
        }
        prop_assert_eq!(survivors(&arrived, &[]), Ok(()));
    }
}

#[test]
fn a_bearer_behind_any_kind_of_space_is_taken_out() {
    for space in [&b""[..], b" ", b"\xc2\xa0", b"\xc2\x85"] {
        let offered = [b"v4.channel.k8s.io,", space, BEARER_SUBPROTOCOL.as_bytes(), b"dG9r"].concat();
        let kept = without_bearer(&HeaderValue::from_bytes(&offered).unwrap());
        assert_eq!(kept.unwrap(), "v4.channel.k8s.io", "{space:?}");
    }
}

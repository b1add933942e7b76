//! The ways to prove an identity, side by side: whose word counts, and what is left of the others'.

use super::*;
use crate::demo::pki::Pair;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use std::{fs, path::PathBuf};

/// `clients` and `proxies` sign; `carol-token` and `bob-token` are tokens.
struct Both {
    fixture: Fixture,
    proxies: Ca,
}

fn names(names: &[&'static str]) -> Vec<HeaderName> {
    names.iter().map(|name| HeaderName::from_static(name)).collect()
}

fn proxy_config(ca: &str, allowed: &[&str]) -> FrontProxyConfig {
    FrontProxyConfig {
        client_ca_file: PathBuf::from(ca),
        allowed_names: allowed.iter().map(|name| (*name).to_owned()).collect(),
        username_headers: names(&["x-remote-user", "x-auth-user"]),
        uid_headers: names(&["x-remote-uid"]),
        group_headers: names(&["x-remote-group", "x-auth-group"]),
        extra_header_prefixes: vec!["x-remote-extra-".to_owned(), "x-auth-extra-".to_owned()],
    }
}

impl Both {
    fn new() -> Self {
        let mut fixture = Fixture::new(true);
        let proxies = Ca::new("proxies").unwrap();
        let bundle = [CertificateDer::from(proxies.der().to_vec())];
        fixture.authn.front_proxy =
            Some(FrontProxy::new(&proxy_config("", &["front"]), &bundle, None).unwrap());
        let (tokens, _) = TokenFile::parse("bob-token,bob,2\ncarol-token,carol,3").unwrap();
        fixture.authn.tokens = Some(tokens);
        Self { fixture, proxies }
    }

    /// `-`, or a name and who signed it: `alice@clients`.
    fn conn(&self, certificate: &str) -> Conn {
        let Some((name, ca)) = certificate.split_once('@') else { return presenting(Vec::new()) };
        let client = Client::new(name);
        let pair = match ca {
            "clients" => self.fixture.ca.client(&client),
            "proxies" => self.proxies.client(&client),
            _ => Ca::self_signed(&client),
        };
        presenting(pair.unwrap().chain)
    }
}

/// `bearer VALUE`, `user NAME`, `group NAME` or `ws PIECES`; in pieces `T` stands for the start of a token's.
fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: String| {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    };
    for line in lines {
        match line.split_once(' ').unwrap() {
            ("user", name) => add("x-remote-user", name.to_owned()),
            ("group", name) => add("x-remote-group", name.to_owned()),
            ("ws", pieces) => {
                add("connection", "Upgrade".to_owned());
                add("upgrade", "websocket".to_owned());
                add("sec-websocket-protocol", pieces.replace("T.", crate::headers::BEARER_SUBPROTOCOL));
            }
            (name, value) => add(name, value.to_owned()),
        }
    }
    headers
}

/// base64url of `bob-token`, `carol-token` and of nobody's.
const BOB: &str = "ws T.Ym9iLXRva2Vu, v4.channel.k8s.io";
const NOBODY: &str = "ws T.bm9ib2R5, v4.channel.k8s.io";

#[test]
fn a_proxy_that_cannot_be_understood_is_not_taken_for_the_caller() {
    let mut both = Both::new();
    // One CA for both, as `allowedNames` permits.
    let bundle = [CertificateDer::from(both.fixture.ca.der().to_vec())];
    both.fixture.authn.front_proxy =
        Some(FrontProxy::new(&proxy_config("", &["front"]), &bundle, None).unwrap());
    let front = both.conn("front@clients");
    let zed = both.fixture.judged(&front, &headers(&["user zed"]));
    assert_eq!(zed, "front-proxy zed system:authenticated");
    for lines in [["user a\tb"].as_slice(), &["user zed", "group \ta"], &["user zed", "x-remote-uid 1\t"]] {
        let judged = both.fixture.judged(&front, &headers(lines));
        assert!(judged.starts_with("401: "), "{lines:?}: {judged}");
    }
    // Any other certificate is none of the proxy's.
    let alice = both.fixture.judged(&both.conn("alice@clients"), &headers(&["user a\tb"]));
    assert_eq!(alice, "x509 alice system:authenticated");
}

#[test]
fn the_first_who_says_yes_counts_and_a_no_is_never_anonymous() {
    let both = Both::new();
    let (alice, bob, carol) = (
        "x509 alice system:authenticated",
        "token-file bob system:authenticated",
        "token-file carol system:authenticated",
    );
    let zed = "front-proxy zed system:authenticated";
    let anonymous = "anonymous system:anonymous system:unauthenticated";
    let unknown = "client certificate: signed by an unknown authority";
    let (front_no, x509_no) = (format!("front proxy: {unknown}"), unknown);
    let neither = format!("401: {front_no}; {x509_no}");
    let invalid = "401: bearer: invalid bearer token";
    let name = "front proxy: client certificate: the common name \"other\" is not one of allowedNames";
    let wrong_name = format!("401: {name}; {x509_no}");
    let (good, bad) = ("authorization Bearer carol-token", "authorization Bearer nobody");
    type Row<'a> = (&'a str, &'a [&'a str], &'a str);
    let rows: &[Row<'_>] = &[
        // Headers without the proxy's certificate are nothing.
        ("-", &["user zed"], anonymous),
        ("-", &["user zed", "group system:masters", good], carol),
        ("-", &["user zed", bad], invalid),
        ("alice@clients", &["user zed", "group system:masters"], alice),
        ("alice@nobody", &["user zed"], &neither),
        ("front@clients", &["user zed"], "x509 front system:authenticated"),
        ("front@nobody", &["user zed"], &neither),
        // With it they come first.
        ("front@proxies", &["user zed"], zed),
        (
            "front@proxies",
            &["user zed", "group system:masters"],
            "front-proxy zed system:masters,system:authenticated",
        ),
        ("front@proxies", &["user zed", good], zed),
        ("front@proxies", &["user zed", bad], zed),
        ("front@proxies", &["user zed", BOB], zed),
        ("front@proxies", &["user zed", "user eve"], zed),
        ("front@proxies", &["x-auth-user amy"], "front-proxy amy system:authenticated"),
        // The proxy's certificate is no client's.
        ("front@proxies", &[], &format!("401: {x509_no}")),
        ("front@proxies", &["group dev"], &format!("401: {x509_no}")),
        ("front@proxies", &["user ", "user zed2"], &format!("401: {x509_no}")),
        ("front@proxies", &[good], carol),
        ("front@proxies", &[bad], &format!("401: {x509_no}; bearer: invalid bearer token")),
        ("other@proxies", &["user zed"], &wrong_name),
        ("other@proxies", &["user zed", good], carol),
        ("other@proxies", &["user zed", BOB], bob),
        // A certificate without a name is no longer anonymous once there is a front proxy.
        ("@clients", &[], &format!("401: {front_no}")),
        ("@clients", &[good], carol),
        ("alice@clients", &[bad], alice),
        ("alice@clients", &[good], alice),
        ("alice@clients", &[BOB], alice),
        ("alice@nobody", &[BOB], bob),
        ("alice@nobody", &[NOBODY], &format!("{neither}; bearer: invalid bearer token")),
        // The header before the subprotocol.
        ("-", &[BOB], bob),
        ("-", &[BOB, good], carol),
        ("-", &[BOB, bad], bob),
        ("-", &[NOBODY], invalid),
        ("-", &[NOBODY, good], carol),
        ("-", &[NOBODY, bad], "401: bearer: invalid bearer token; bearer: invalid bearer token"),
        ("-", &[BOB, "authorization Basic dTpw"], bob),
        ("-", &[BOB, "authorization Bearer  carol-token"], &format!("{bob} (warned)")),
        ("-", &["ws T.Ym9iLXRva2Vu"], "401: bearer subprotocol: missing additional subprotocol"),
        ("-", &["ws T.Ym9iLXRva2Vu", good], carol),
        ("-", &["ws T.Ym9iLXRva2Vu,"], bob),
        ("-", &["ws T.Ym9iLXRva2Vu", "sec-websocket-protocol v4.channel.k8s.io"], bob),
        ("-", &["ws T.Ym9iLXRva2Vu, T.Ym9iLXRva2Vu, x"], "401: bearer subprotocol: more than one token"),
        ("-", &["ws T., v4.channel.k8s.io"], anonymous),
        ("-", &["ws v4.channel.k8s.io"], anonymous),
        ("-", &["sec-websocket-protocol base64url.bearer.authorization.k8s.io.Ym9iLXRva2Vu, x"], anonymous),
        // One Authorization header.
        ("-", &["authorization Bearer bob-token", good], bob),
        ("-", &[bad, good], invalid),
        ("-", &["authorization Basic x", good], anonymous),
        ("-", &["authorization Token bob-token"], anonymous),
        ("-", &["authorization Bearer:bob-token"], anonymous),
        ("-", &["authorization bearer bob-token and more"], bob),
        ("-", &["authorization Bearer bob-token,"], invalid),
    ];
    for (certificate, lines, want) in rows {
        let (conn, headers) = (both.conn(certificate), headers(lines));
        for time in ["first", "again"] {
            assert_eq!(both.outcome(&conn, &headers), *want, "{certificate} {lines:?} {time}");
        }
    }
}

impl Both {
    /// As [`Fixture::judged`], with who said it and without digests.
    fn outcome(&self, conn: &Conn, headers: &HeaderMap) -> String {
        let proven = now(self.fixture.authn.prove(conn, SOURCE, headers, "/", SystemTime::now()));
        match proven {
            Ok(_) => self.fixture.judged(conn, headers),
            Err(refusal) => {
                let words = refusal.why.split(' ').map(|word| match word.strip_prefix("X509SHA256=") {
                    Some(_) => ":",
                    None => word,
                });
                format!(
                    "401: {}",
                    words.collect::<Vec<_>>().join(" ").replace("certificate :", "certificate:")
                )
            }
        }
    }
}

#[tokio::test]
async fn whoever_it_was_nobodys_claims_go_on() {
    let both = Both::new();
    let claims = [
        "x-remote-user root",
        "x-remote-group system:masters",
        "x-auth-user root",
        "x-auth-group dev",
        "x_auth_user root",
        "x-auth-extra-scopes all",
        "x-remote-extra-a b",
        BOB,
        "authorization Bearer carol-token",
    ];
    for (certificate, method) in
        [("front@proxies", "front-proxy"), ("alice@clients", "x509"), ("-", "token-file")]
    {
        let mut parts = http::Request::get("/api/v1/pods").body(()).unwrap().into_parts().0;
        parts.headers = headers(&claims);
        let asked = Asked::parse(&parts).unwrap();
        let conn = both.conn(certificate);
        let proven =
            both.fixture.authn.authenticate(&conn, SOURCE, &mut parts.headers, &asked).await.unwrap();
        assert_eq!(proven.method(), method);
        let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["connection", "sec-websocket-protocol", "upgrade"]);
        let upstream = crate::headers::for_upstream(&parts.headers);
        assert_eq!(upstream.len(), 1);
        assert_eq!(upstream[SEC_WEBSOCKET_PROTOCOL], "v4.channel.k8s.io");
    }
}

#[test]
fn bundles_and_lists_are_read_together() {
    let dir = std::env::temp_dir().join(format!("gatelog-authn-lists-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (clients, proxies) = (Ca::new("clients").unwrap(), Ca::new("proxies").unwrap());
    let at = |name: &str| dir.join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let list = |ca: &Ca, revoked: &[&Pair]| ca.revocation_list(revoked, Validity::Year).unwrap();
    write("ca.crt", &clients.pem());
    write("proxies.crt", &proxies.pem());
    write("lists.crl", &(list(&clients, &[]) + &list(&proxies, &[])));
    let config = |allowed: &[&str]| Config {
        client_ca_file: Some(at("ca.crt").into()),
        client_crl_file: Some(at("lists.crl").into()),
        front_proxy: Some(proxy_config(&at("proxies.crt"), allowed)),
        ..Config::default()
    };
    let said = |allowed: &[&str]| match load(&config(allowed)) {
        Ok((_, warnings)) => warnings.join("; "),
        Err(errors) => {
            errors.iter().map(|e| format!("{}: {}", e.key, e.problem)).collect::<Vec<_>>().join("; ")
        }
    };
    let said = |allowed: &[&str]| said(allowed).replace(&format!("{}/", dir.display()), "");
    assert_eq!(said(&["front"]), "");
    assert_eq!(said(&[]), "");

    // One list for both: whose certificate is revoked is refused as what it is.
    let (alice, front) =
        (clients.client(&Client::new("alice")).unwrap(), proxies.client(&Client::new("front")).unwrap());
    let ask = |pair: &Pair| {
        let (authn, _) = load(&config(&["front"])).unwrap();
        let conn = presenting(pair.chain.clone());
        let proven = now(authn.prove(&conn, SOURCE, &headers(&["user zed"]), "/", SystemTime::now()));
        proven.map(|p| p.user().name().to_owned()).map_err(|r| r.why)
    };
    assert_eq!((ask(&alice), ask(&front)), (Ok("alice".to_owned()), Ok("zed".to_owned())));
    write("lists.crl", &(list(&clients, &[&alice]) + &list(&proxies, &[&front])));
    for pair in [&alice, &front] {
        assert!(ask(pair).unwrap_err().contains("a certificate of the chain has been revoked"));
    }

    let stranger = Ca::new("stranger").unwrap();
    write("lists.crl", &list(&stranger, &[]));
    let warning = "lists.crl: list 1 (CN=stranger): not of one of the CAs, so only of use if clients present a CA of that name";
    assert_eq!(said(&["front"]), warning);
    write("lists.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    assert!(
        said(&["front"]).starts_with("clientCRLFile: lists.crl: list 1: not a revocation list: "),
        "{}",
        said(&["front"])
    );
    write("lists.crl", "");
    assert_eq!(
        said(&["front"]),
        "clientCRLFile: lists.crl: no revocation list found, expected PEM blocks \"BEGIN X509 CRL\""
    );

    // A CA that signs clients, too, must not make each of them a proxy.
    write("lists.crl", &list(&clients, &[]));
    write("proxies.crt", &(proxies.pem() + &clients.pem()));
    assert_eq!(said(&["front"]), "");
    assert!(
        said(&[]).starts_with("requestheader.allowedNames: expected the name of the proxy's certificate"),
        "{}",
        said(&[])
    );
    write("proxies.crt", "");
    assert!(said(&["front"]).starts_with("requestheader.clientCAFile: proxies.crt: no certificate found"));
    fs::remove_dir_all(&dir).unwrap();
}

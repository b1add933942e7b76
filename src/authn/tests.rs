use super::{jwt::mint, *};
use crate::demo::pki::{Ca, Client, Usage, Validity};
use http::header::AUTHORIZATION;
use serde_json::json;
use std::time::Duration;

mod together;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Fixture {
    ca: Ca,
    authn: Authn,
}

fn load(config: &Config) -> Result<(Authn, Vec<String>), Vec<Error>> {
    Authn::new(&config.read()?, &Shared::new(Metrics::unregistered(), None), None)
}

/// Of a proof that has nobody to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Fixture {
    fn new(anonymous: bool) -> Self {
        let ca = Ca::new("clients").unwrap();
        let x509 = X509::new(&[CertificateDer::from(ca.der().to_vec())], None).unwrap();
        let (tokens, _) = TokenFile::parse("tokbob,bob,2,dev").unwrap();
        let config = Config {
            anonymous: Some(Anonymous { enabled: anonymous, paths: Vec::new() }),
            ..Config::default()
        };
        let (mut authn, _) = load(&config).unwrap();
        (authn.x509, authn.tokens) = (Some(x509), Some(tokens));
        Self { ca, authn }
    }

    fn conn(&self, client: Option<&Client>) -> Conn {
        presenting(client.map(|client| self.ca.client(client).unwrap().chain).unwrap_or_default())
    }

    /// `method user group,group` or `401: why`.
    fn outcome(&self, client: Option<&Client>, authorization: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.judged(&self.conn(client), &headers)
    }

    fn judged(&self, conn: &Conn, headers: &HeaderMap) -> String {
        match now(self.authn.prove(conn, SOURCE, headers, "/", SystemTime::now())) {
            Ok(p) => {
                let warned = if p.warning().is_some() { " (warned)" } else { "" };
                format!("{} {} {}{warned}", p.method(), p.user().name(), p.user().groups().join(","))
            }
            Err(refusal) => {
                let warned = if refusal.warning.is_some() { " (warned)" } else { "" };
                assert_eq!(refusal.rejected, refusal.why != "no credentials");
                // What the certificate's authenticator says begins with the certificate's digest.
                let why: Vec<_> =
                    refusal.why.split("; ").map(|w| w.split_once(": ").map_or(w, |w| w.1)).collect();
                format!("401: {}{warned}", why.join("; "))
            }
        }
    }
}

/// A connection with this chain, leaf first.
fn presenting(chain: Vec<Vec<u8>>) -> Conn {
    Conn::new(([127, 0, 0, 1], 1).into(), chain.into_iter().map(CertificateDer::from).collect())
}

#[test]
fn a_token_that_nobody_knows_is_told_by_its_issuer_if_that_is_a_url() {
    let signer = mint::signer(Algorithm::Es256);
    let token = |issuer: &str| signer.token(&json!({"iss": issuer, "sub": "carol"}));
    let invalid = "invalid bearer token";
    let long = format!("https://{}", "a".repeat(249));
    for (token, looked_at, want) in [
        (
            token("https://a.example/"),
            true,
            "invalid bearer token, nobody here knows the issuer https://a.example/",
        ),
        (token("https://a.example/"), false, invalid),
        (token("carol's own"), true, invalid),
        (token("https://carol:secret@a.example"), true, invalid),
        (token("https://a.example?carol"), true, invalid),
        (token("https://a.example\n"), true, invalid),
        (token(&long), true, invalid),
        ("a.b.c".to_owned(), true, invalid),
        ("nobody".to_owned(), true, invalid),
    ] {
        assert_eq!(unknown(&token, looked_at), want);
    }
}

#[test]
fn the_union_decides_as_kube_apiserver_decides() {
    let open = Fixture::new(true);
    let closed = Fixture::new(false);
    let alice = Client::new("alice").group("ops");
    let expired = alice.clone().validity(Validity::Expired);
    let not_yet = alice.clone().validity(Validity::NotYet);
    let server = alice.clone().usages(&[Usage::Server]);
    let nameless = Client::new("").group("ops");
    let (good, bad) = (Some("Bearer tokbob"), Some("Bearer nobody"));
    let (x509, token) = ("x509 alice ops,system:authenticated", "token-file bob dev,system:authenticated");
    let anonymous = "anonymous system:anonymous system:unauthenticated";
    let (none, invalid) = ("401: no credentials", "401: invalid bearer token");
    let usage = "the extended key usage of the chain does not allow client authentication";
    type Row<'a> = (Option<&'a Client>, Option<&'a str>, &'a str, &'a str);
    // client certificate, Authorization => with anonymous, without
    let rows: &[Row<'_>] = &[
        (None, None, anonymous, none),
        (None, bad, invalid, invalid),
        (None, good, token, token),
        (Some(&alice), None, x509, x509),
        (Some(&alice), bad, x509, x509),
        (Some(&alice), good, x509, x509),
        (Some(&expired), None, "401: a certificate of the chain has expired", ""),
        (Some(&not_yet), None, "401: a certificate of the chain is not yet valid", ""),
        (Some(&server), None, &format!("401: {usage}"), ""),
        (Some(&expired), good, token, token),
        (Some(&not_yet), good, token, token),
        (Some(&server), good, token, token),
        (Some(&server), bad, &format!("401: {usage}; invalid bearer token"), ""),
        (Some(&nameless), None, anonymous, none),
        (Some(&nameless), good, token, token),
        (None, Some("Basic dTpw"), anonymous, none),
        (None, Some(""), anonymous, none),
        (None, Some("Bearer "), anonymous, none),
        (None, Some("Bearer  tokbob"), &format!("{anonymous} (warned)"), &format!("{none} (warned)")),
        (None, Some("Bearer tokbob zz"), token, token),
        (None, Some("Bearer \"tokbob\""), invalid, invalid),
        (None, Some("Bearer tokbob,x"), invalid, invalid),
        (Some(&alice), Some("Bearer  tokbob"), x509, x509),
    ];
    for (client, authorization, with, without) in rows {
        let name = format!("{:?} {authorization:?}", client.map(|c| (&c.subject, c.validity)));
        assert_eq!(open.outcome(*client, *authorization), *with, "anonymous on: {name}");
        let without = if without.is_empty() { with } else { without };
        assert_eq!(closed.outcome(*client, *authorization), *without, "anonymous off: {name}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert!(now(open.authn.prove(&open.conn(None), SOURCE, &headers, "/", SystemTime::now())).is_err());
}

#[tokio::test]
async fn a_request_is_let_on_without_its_credentials_or_refused_with_them() {
    let fixture = Fixture::new(false);
    let request = |token: &str| {
        let request = http::Request::get("/api/v1/pods?access_token=x")
            .header(AUTHORIZATION, token)
            .header("x-remote-user", "root")
            .header("impersonate-user", "eve");
        request.body(()).unwrap().into_parts().0
    };
    let mut good = request("Bearer tokbob");
    let asked = Asked::parse(&good).unwrap();
    let proven =
        fixture.authn.authenticate(&fixture.conn(None), SOURCE, &mut good.headers, &asked).await.unwrap();
    assert_eq!((proven.user().name(), proven.method(), proven.expires()), ("bob", "token-file", None));
    assert_eq!(good.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["impersonate-user"]);

    let mut bad = request("Bearer sesame");
    let refused =
        fixture.authn.authenticate(&fixture.conn(None), SOURCE, &mut bad.headers, &asked).await.unwrap_err();
    assert_eq!(refused.attempted, "Authentication failed, attempted: bearer, access_token");
    assert_eq!(refused.why, "bearer: invalid bearer token");
    assert!(refused.rejected && !format!("{refused:?}").contains("sesame"));
}

#[test]
fn without_a_client_ca_certificates_are_not_looked_at() {
    let mut fixture = Fixture::new(true);
    fixture.authn.x509 = None;
    let expired = Client::new("alice").validity(Validity::Expired);
    assert!(fixture.outcome(Some(&expired), None).starts_with("anonymous"));
    fixture.authn.tokens = None;
    assert_eq!(fixture.outcome(None, Some("Bearer tokbob")), "401: invalid bearer token");
}

#[test]
fn a_stranger_s_certificate_is_an_error() {
    let fixture = Fixture::new(true);
    let stranger = Ca::self_signed(&Client::new("me").group("system:masters")).unwrap();
    let conn =
        Conn::new(([127, 0, 0, 1], 1).into(), stranger.chain.into_iter().map(CertificateDer::from).collect());
    let refusal = now(fixture.authn.prove(&conn, SOURCE, &HeaderMap::new(), "/", SystemTime::now()))
        .map(|_| ())
        .unwrap_err();
    assert!(refusal.why.ends_with("signed by an unknown authority"), "{}", refusal.why);
    // The judgement is kept with the connection, the outcome is the same.
    let later = SystemTime::now() + Duration::from_secs(1);
    assert!(now(fixture.authn.prove(&conn, SOURCE, &HeaderMap::new(), "/", later)).is_err());
}

#[test]
fn credentials_and_claims_are_taken_away() {
    let rows = [
        ("authorization", false),
        ("x-remote-user", false),
        ("X-Remote-Group", false),
        ("x-remote-uid", false),
        ("X-Remote-Extra-Scopes", false),
        ("x_remote_user", false),
        ("x-remote_extra-a", false),
        ("impersonate-user", true),
        ("x-remotely", true),
        ("x-remote", true),
        ("x", true),
        ("accept", true),
    ];
    let mut headers = HeaderMap::new();
    for (name, _) in rows {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name.clone(), HeaderValue::from_static("1"));
        headers.append(name, HeaderValue::from_static("2"));
    }
    Fixture::new(false).authn.strip(&mut headers);
    for (name, stays) in rows {
        assert_eq!(headers.contains_key(name), stays, "{name}");
    }
}

#[test]
fn the_audit_event_of_a_401_names_what_was_attempted() {
    let fixture = Fixture::new(false);
    let alice = Client::new("alice");
    let none = "Authentication failed, no credentials provided";
    type Row<'a> = (Option<&'a Client>, Option<&'a str>, Option<&'a str>, &'a str);
    let rows: &[Row<'_>] = &[
        (None, None, None, none),
        (None, Some("Bearer x"), None, "bearer"),
        (None, Some("bEARER x"), Some("a=b"), "bearer"),
        (None, Some("Bearer  x"), None, "bearer"),
        (None, Some("Bearer"), None, none),
        (None, Some("Basic dTpw"), None, "basic"),
        (None, Some("basic dTpw"), None, "basic"),
        (None, Some("Basic dQ=="), None, none),
        (None, Some("Basic !"), None, none),
        (None, None, Some("access_token=x&a=b"), "access_token"),
        (None, None, Some("a=b&access_token=x"), "access_token"),
        (None, None, Some("access_token="), none),
        (None, None, Some("access_token"), none),
        (Some(&alice), None, None, "x509"),
        (Some(&alice), Some("Bearer x"), Some("access_token=x"), "bearer, access_token, x509"),
    ];
    for (client, authorization, query, want) in rows {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let got = attempted(&fixture.conn(*client), &headers, *query);
        let got = got.strip_prefix("Authentication failed, attempted: ").unwrap_or(&got);
        assert_eq!(got, *want, "{authorization:?} {query:?}");
    }
}

#[test]
fn all_bad_files_are_reported_at_once() {
    let dir = std::env::temp_dir().join(format!("gatelog-authn-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (ca, tokens) = (dir.join("ca.crt"), dir.join("tokens.csv"));
    let config = Config {
        client_ca_file: Some(ca.clone()),
        token_auth_file: Some(tokens.clone()),
        ..Config::default()
    };
    let load = || load(&config).map(|(authn, warnings)| (authn.tokens(), warnings));
    let named = |text: &str| text.replace(&format!("{}/", dir.display()), "");
    let errors = || {
        load().unwrap_err().iter().map(|e| format!("{}: {}", e.key, named(&e.problem))).collect::<Vec<_>>()
    };

    assert_eq!(errors().len(), 2);
    assert!(errors()[0].starts_with("clientCAFile: ca.crt: No such file"), "{:?}", errors());
    std::fs::write(&ca, "nothing").unwrap();
    std::fs::write(&tokens, "a,b\n\"").unwrap();
    assert_eq!(
        errors(),
        [
            "clientCAFile: ca.crt: no certificate found, expected PEM blocks \"BEGIN CERTIFICATE\"",
            "tokenAuthFile: tokens.csv: line 1: expected at least 3 columns (token, user name, user uid), found 2",
            "tokenAuthFile: tokens.csv: line 2: a quoted field is not closed",
        ]
    );
    std::fs::write(&ca, Ca::new("clients").unwrap().pem()).unwrap();
    std::fs::write(&tokens, b"\xff,b,c").unwrap();
    assert_eq!(errors(), ["tokenAuthFile: tokens.csv: expected text in UTF-8"]);
    std::fs::write(&tokens, "a,b,c\n,x,y\n").unwrap();
    let (count, warnings) = load().unwrap();
    assert_eq!(count, Some(1));
    assert_eq!(
        warnings.iter().map(|w| named(w)).collect::<Vec<_>>(),
        ["tokens.csv: line 2: the token is empty, the row is skipped"]
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

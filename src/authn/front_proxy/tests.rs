use super::*;
use crate::demo::pki::{Ca, Client, Pair, Usage, Validity};
use std::time::Duration;

struct Fixture {
    ca: Ca,
    proxy: FrontProxy,
}

fn bundle(ca: &Ca) -> [CertificateDer<'static>; 1] {
    [CertificateDer::from(ca.der().to_vec())]
}

fn conn(pair: &Pair) -> Conn {
    Conn::new(([127, 0, 0, 1], 1).into(), pair.chain.iter().cloned().map(CertificateDer::from).collect())
}

fn config() -> Config {
    let names = |names: &'static [&'static str]| names.iter().map(|n| HeaderName::from_static(n)).collect();
    Config {
        client_ca_file: PathBuf::new(),
        allowed_names: vec!["front".to_owned(), "zoë".to_owned()],
        username_headers: names(&["x-remote-user", "x-auth-user"]),
        uid_headers: names(&["x-remote-uid", "x-auth-uid"]),
        group_headers: names(&["x-remote-group", "x-auth-group"]),
        extra_header_prefixes: vec!["x-remote-extra-".to_owned(), "x-auth-extra-".to_owned()],
    }
}

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    headers
}

impl Fixture {
    fn new() -> Self {
        Self::with(&config())
    }

    fn with(config: &Config) -> Self {
        let ca = Ca::new("front-proxy").unwrap();
        let proxy = FrontProxy::new(config, &bundle(&ca), None).unwrap();
        Self { ca, proxy }
    }

    fn says(&self, client: &Client, lines: &[(&str, &str)]) -> String {
        self.answer(&conn(&self.ca.client(client).unwrap()), &map(lines))
    }

    /// `name/uid/group,group/key=value,value;…`, `no opinion`, or the error without the certificate's digest.
    fn answer(&self, conn: &Conn, headers: &HeaderMap) -> String {
        match self.proxy.authenticate(conn, headers, SystemTime::now()) {
            Ok(None) => "no opinion".to_owned(),
            Ok(Some(proven)) => {
                assert_eq!(proven.method(), "front-proxy");
                assert!(proven.expires().is_some());
                let user = proven.user();
                let extra: Vec<_> =
                    user.extra().iter().map(|(key, values)| format!("{key}={}", values.join(","))).collect();
                format!("{}/{}/{}/{}", user.name(), user.uid(), user.groups().join(","), extra.join(";"))
            }
            Err(why) => {
                let why = why.strip_prefix("front proxy: ").unwrap();
                let digested = why.strip_prefix("client certificate X509SHA256=");
                digested.map_or(why, |why| why.split_once(": ").unwrap().1).to_owned()
            }
        }
    }
}

#[test]
fn the_headers_are_read_as_kube_apiserver_reads_them() {
    let fixture = Fixture::new();
    let front = Client::new("front");
    let many: Vec<_> = (0..1_001).map(|n| ("x-remote-group", format!("g{n}"))).collect();
    let mut many: Vec<_> = many.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let too_many = many.clone();
    many.pop();
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str);
    let user = ("X-Remote-User", "zed");
    let rows: &[Row<'_>] = &[
        (&[], "no opinion"),
        (&[user], "zed//system:authenticated/"),
        (&[user, ("x-remote-user", "eve")], "zed//system:authenticated/"),
        (&[("x-remote-user", ""), ("x-remote-user", "zed2")], "no opinion"),
        (&[("x-remote-user", "")], "no opinion"),
        (&[("x-remote-user", ""), ("x-auth-user", "zoë")], "zoë//system:authenticated/"),
        (&[("x-auth-user", "amy"), user], "zed//system:authenticated/"),
        (&[("x-remote-group", "dev"), ("x-remote-uid", "1"), ("x-remote-extra-a", "b")], "no opinion"),
        (&[user, ("x-remote-uid", "u1"), ("x-remote-uid", "u2")], "zed/u1/system:authenticated/"),
        (
            &[user, ("x-remote-uid", ""), ("x-remote-uid", "u2"), ("x-auth-uid", "u3")],
            "zed/u3/system:authenticated/",
        ),
        (
            &[user, ("x-remote-group", "g1,g2"), ("x-remote-group", ""), ("x-remote-group", "g3")],
            "zed//g1,g2,g3,system:authenticated/",
        ),
        (&[user, ("x-auth-group", "b"), ("x-remote-group", "a")], "zed//a,b,system:authenticated/"),
        (&[user, ("x-remote-group", "system:masters")], "zed//system:masters,system:authenticated/"),
        (&[user, ("x-remote-group", "system:unauthenticated")], "zed//system:unauthenticated/"),
        (
            &[user, ("x-remote-group", "system:authenticated"), ("x-remote-group", "a")],
            "zed//system:authenticated,a/",
        ),
        (&[("x-remote-user", "system:anonymous")], "system:anonymous///"),
        (&[("x-remote-user", "system:admin")], "system:admin//system:authenticated/"),
        (&[user, ("X-Remote-Extra-Foo%2FBar", "1")], "zed//system:authenticated/foo/bar=1"),
        (&[user, ("x-remote-extra-%41bc", "1")], "zed//system:authenticated/Abc=1"),
        (&[user, ("X-Remote-Extra-", "1")], "zed//system:authenticated/=1"),
        (&[user, ("X-Remote-Extra-bad%zz", "1")], "zed//system:authenticated/bad%zz=1"),
        (&[user, ("x-remote-extra-a%2", "1")], "zed//system:authenticated/a%2=1"),
        (&[user, ("x-remote-extra-%41%", "1")], "zed//system:authenticated/%41%=1"),
        (&[user, ("x-remote-extra-%+1", "1")], "zed//system:authenticated/%+1=1"),
        (&[user, ("x-remote-extra-a+b%20c", "1")], "zed//system:authenticated/a+b c=1"),
        (&[user, ("x-remote-extra-z%c3%ab", "1")], "zed//system:authenticated/zë=1"),
        (
            &[user, ("x-remote-extra-a", "1"), ("x-remote-extra-a", ""), ("x-remote-extra-a", "2,3")],
            "zed//system:authenticated/a=1,,2,3",
        ),
        (
            &[user, ("x-auth-extra-a", "2"), ("x-remote-extra-a", "1"), ("x-remote-extra-%61", "3")],
            "zed//system:authenticated/a=1,3,2",
        ),
        (&[user, ("x-remote-extras-a", "1"), ("x-remote-foo", "1")], "zed//system:authenticated/"),
        // kube-apiserver takes what follows.
        (&[("x-remote-user", "zed ")], "user name \"zed \" cannot be carried in a header without change"),
        (
            &[user, ("x-remote-group", " system:masters")],
            "group \" system:masters\" cannot be carried in a header without change",
        ),
        (&[user, ("x-remote-extra-%ff", "1")], "an extra key is not UTF-8"),
        (
            &[user, ("x-remote-extra-gatelog.dev%2Freal-user", "1")],
            "extra key \"gatelog.dev/real-user\" is reserved",
        ),
        (&too_many, "no opinion"),
    ];
    for (lines, want) in rows {
        assert_eq!(fixture.says(&front, lines), *want, "{lines:?}");
    }
    many.push(user);
    assert!(fixture.says(&front, &many).starts_with("zed//g0,g1,"));
    let too_many = [&too_many[..], &[user]].concat();
    assert_eq!(fixture.says(&front, &too_many), "1001 groups, at most 1000 are accepted");
    for name in ["x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-a"] {
        let mut headers = map(&[user]);
        headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(b"\xff").unwrap());
        let answer = fixture.answer(&conn(&fixture.ca.client(&front).unwrap()), &headers);
        assert!(answer.ends_with(" is not UTF-8"), "{name}: {answer}");
    }
}

#[test]
fn only_the_proxy_is_believed() {
    let fixture = Fixture::new();
    let front = Client::new("front");
    let stranger = Ca::new("front-proxy").unwrap();
    let below = fixture.ca.intermediate("below", &[]).unwrap();
    let servers = fixture.ca.intermediate("servers", &[Usage::Server]).unwrap();
    let by = |ca: &Ca, client: &Client| ca.client(client).unwrap();
    let ok = "zed//system:authenticated/";
    let not_allowed = |name: &str| format!("the common name {name:?} is not one of allowedNames");
    let usage = "the extended key usage of the chain does not allow client authentication";
    let unknown = "signed by an unknown authority";
    let rows = [
        (by(&fixture.ca, &front), ok),
        (by(&fixture.ca, &Client::new("zoë")), ok),
        (by(&fixture.ca, &front.clone().usages(&[])), ok),
        (by(&below, &front), ok),
        (by(&fixture.ca, &Client::new("other").with(crate::demo::pki::Attribute::CommonName, "front")), ok),
        (by(&fixture.ca, &Client::new("alice")), &not_allowed("alice")),
        (by(&fixture.ca, &Client::new("")), &not_allowed("")),
        (
            by(&fixture.ca, &front.clone().with(crate::demo::pki::Attribute::CommonName, "x")),
            &not_allowed("x"),
        ),
        (by(&fixture.ca, &Client::new("Front")), &not_allowed("Front")),
        (by(&fixture.ca, &front.clone().usages(&[Usage::Server])), usage),
        (by(&servers, &front), usage),
        (
            by(&fixture.ca, &front.clone().validity(Validity::Expired)),
            "a certificate of the chain has expired",
        ),
        (by(&stranger, &front), unknown),
        (Ca::self_signed(&front).unwrap(), unknown),
    ];
    for (pair, want) in rows {
        assert_eq!(fixture.answer(&conn(&pair), &map(&[("x-remote-user", "zed")])), want);
        // An error, whether or not anybody is claimed.
        let want = if want == ok { "no opinion" } else { want };
        assert_eq!(fixture.answer(&conn(&pair), &HeaderMap::new()), want);
    }
    let nobody = Conn::new(([127, 0, 0, 1], 1).into(), Vec::new());
    assert_eq!(fixture.answer(&nobody, &map(&[("x-remote-user", "zed")])), "no opinion");
    // Without names every certificate of the CA may speak, one without a name, too.
    let any = Fixture::with(&Config { allowed_names: Vec::new(), ..config() });
    for name in ["alice", ""] {
        assert_eq!(any.says(&Client::new(name), &[("x-remote-user", "zed")]), ok);
    }
}

#[test]
fn nothing_of_the_proxys_certificate_is_in_the_user_but_its_expiry() {
    let fixture = Fixture::new();
    let client =
        Client::new("front").group("system:masters").validity(Validity::For(Duration::from_secs(90)));
    let conn = conn(&fixture.ca.client(&client).unwrap());
    let now = SystemTime::now();
    let ask = |name: &str, after: u64| {
        let at = now + Duration::from_secs(after);
        fixture.proxy.authenticate(&conn, &map(&[("x-remote-user", name)]), at)
    };
    // One connection, many users.
    for name in ["zed", "amy"] {
        let proven = ask(name, 0).unwrap().unwrap();
        assert_eq!((proven.user().name(), proven.user().extra().len()), (name, 0));
        assert_eq!(proven.user().groups(), ["system:authenticated"]);
        let left = proven.expires().unwrap().duration_since(now).unwrap().as_secs();
        assert!((88..=90).contains(&left), "{left}");
    }
    assert!(ask("zed", 80).is_ok());
    assert!(ask("zed", 92).unwrap_err().ends_with("a certificate of the chain has expired"));
}

#[test]
fn configured_headers_are_claims() {
    let proxy = Fixture::new().proxy;
    for (name, claim) in [
        ("x-auth-user", true),
        ("X-Auth-User", true),
        ("x_auth_user", true),
        ("x-auth-uid", true),
        ("x-auth-group", true),
        ("x-auth-extra-a", true),
        ("X-Auth_Extra-", true),
        ("x-auth-extra", false),
        ("x-auth-users", false),
        ("x-auth", false),
        ("accept", false),
    ] {
        assert_eq!(proxy.is_claim(&name.parse().unwrap()), claim, "{name}");
    }
}

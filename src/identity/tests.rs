//! Users written, impersonation read: every row of the tables.

use super::*;
use crate::{
    headers,
    request::{Attributes, Object},
};
use http::HeaderMap;
use proptest::prelude::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn extra(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    list.iter().map(|(k, v)| ((*k).to_owned(), strings(v))).collect()
}

/// Header lines `Name: value`, values as bytes.
fn lines(lines: &[(&str, &[u8])]) -> HeaderMap {
    lines
        .iter()
        .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(v).unwrap()))
        .collect()
}

fn parse(list: &[(&str, &str)]) -> Result<Option<Impersonation>, String> {
    Impersonation::parse(&lines(&list.iter().map(|(n, v)| (*n, v.as_bytes())).collect::<Vec<_>>()))
}

#[test]
fn what_is_sent_upstream() {
    let user = User::new(
        "zoë",
        "u-1",
        strings(&["dev", "", "system:authenticated"]),
        extra(&[("acme.io/Scope", &["a b", ""]), ("é%", &["x"]), ("none", &[]), ("", &["y"])]),
    )
    .unwrap();
    let sent: Vec<_> = user
        .upstream_headers()
        .iter()
        .map(|(n, v)| format!("{n}: {}", std::str::from_utf8(v.as_bytes()).unwrap()))
        .collect();
    assert_eq!(
        sent,
        [
            "impersonate-user: zoë",
            "impersonate-uid: u-1",
            "impersonate-group: dev",
            "impersonate-group: ",
            "impersonate-group: system:authenticated",
            "impersonate-extra-: y",
            "impersonate-extra-acme.io%2f%53cope: a b",
            "impersonate-extra-acme.io%2f%53cope: ",
            "impersonate-extra-%c3%a9%25: x",
        ]
    );
    assert_eq!(
        user.json(),
        r#"{"username":"zoë","uid":"u-1","groups":["dev","","system:authenticated"],"extra":{"":["y"],"acme.io/Scope":["a b",""],"é%":["x"]}}"#
    );
    assert!(!user.is_master());
    assert!(!user.extra().contains_key("none"));
}

#[test]
fn empty_members_are_not_written() {
    let user = User::new("<a&b>", "", vec![], BTreeMap::new()).unwrap();
    assert_eq!(user.json(), r#"{"username":"\u003ca\u0026b\u003e"}"#);
    assert_eq!(user.upstream_headers().len(), 1);
    let master = User::new("root", "", strings(&["system:masters"]), BTreeMap::new()).unwrap();
    assert!(master.is_master());
    assert_eq!(master.json(), r#"{"username":"root","groups":["system:masters"]}"#);
}

#[test]
fn what_a_header_cannot_carry() {
    let none = BTreeMap::new;
    assert_eq!(User::new("", "", vec![], none()), Err(BadIdentity::EmptyName));
    for bad in [
        " system:masters",
        "system:masters\t",
        "\tx",
        "x ",
        "a\r\nb",
        "a\nb",
        "a\0b",
        "a\tb",
        "a\x7f",
        "\x1b[2J",
        " ",
    ] {
        let refused = |what| Err(BadIdentity::NotAHeaderValue { what, value: bad.to_owned() });
        assert_eq!(User::new(bad, "", vec![], none()), refused("user name"), "{bad:?}");
        assert_eq!(User::new("u", bad, vec![], none()), refused("uid"), "{bad:?}");
        assert_eq!(User::new("u", "", strings(&["ok", bad]), none()), refused("group"), "{bad:?}");
        assert_eq!(User::new("u", "", vec![], extra(&[("k", &[bad])])), refused("extra value"), "{bad:?}");
        // A key is escaped whatever it holds.
        assert!(User::new("u", "", vec![], extra(&[(bad, &["v"])])).is_ok(), "{bad:?}");
    }
    for good in [
        "a b",
        "system:serviceaccount:a:b",
        "é",
        "\u{a0}x\u{a0}",
        "\u{85}",
        "a,b",
        "\"",
        "https://issuer#sub",
    ] {
        assert!(User::new(good, good, strings(&[good]), extra(&[(good, &[good])])).is_ok(), "{good:?}");
    }
    for key in ["gatelog.dev/audit", "gatelog.dev/", "Gatelog.DEV/x"] {
        let refused = Err(BadIdentity::ReservedExtra { key: key.to_owned() });
        assert_eq!(User::new("u", "", vec![], extra(&[(key, &["v"])])), refused);
    }
    assert!(
        User::new("u", "", vec![], extra(&[("gatelog.devx/a", &["v"]), ("gatelog.dev", &["v"])])).is_ok()
    );
    let long = "k".repeat(70_000);
    assert!(matches!(
        User::new("u", "", vec![], extra(&[(&long, &["v"])])),
        Err(BadIdentity::NotAHeaderName { .. })
    ));
}

#[test]
fn everybody_is_authenticated_or_not() {
    for (name, groups, want) in [
        ("bob", &[][..], &["system:authenticated"][..]),
        ("bob", &["dev"], &["dev", "system:authenticated"]),
        ("bob", &["system:authenticated", "dev"], &["system:authenticated", "dev"]),
        ("bob", &["system:unauthenticated"], &["system:unauthenticated"]),
        ("system:anonymous", &["system:unauthenticated"], &["system:unauthenticated"]),
        ("system:anonymous", &[], &[]),
    ] {
        let mut groups = strings(groups);
        add_authenticated(name, &mut groups);
        assert_eq!(groups, want, "{name}");
    }
}

#[test]
fn service_accounts() {
    for (name, want) in [
        ("system:serviceaccount:default:sa1", Some(("default", "sa1"))),
        ("system:serviceaccount:a:b.c", Some(("a", "b.c"))),
        ("system:serviceaccount:Bad:sa1", None),
        ("system:serviceaccount:a.b:sa1", None),
        ("system:serviceaccount:default:a:b", None),
        ("system:serviceaccount:default", None),
        ("system:serviceaccount:default:", None),
        ("system:serviceaccount::sa1", None),
        ("system:serviceaccount:default:sa_1", None),
        ("xsystem:serviceaccount:default:sa1", None),
        ("system:serviceaccounts:default:sa1", None),
    ] {
        assert_eq!(service_account(name), want, "{name}");
    }
}

#[test]
fn nobody_is_asked_for() {
    assert_eq!(parse(&[]), Ok(None));
    assert_eq!(parse(&[("accept", "x"), ("x-remote-user", "bob")]), Ok(None));
    assert_eq!(parse(&[("impersonate-user", "")]), Ok(None));
    assert_eq!(parse(&[("impersonate-user", ""), ("impersonate-uid", "")]), Ok(None));
}

#[test]
fn what_is_asked_for() {
    let read = |list: &[(&str, &str)]| parse(list).unwrap().unwrap();
    let bob = read(&[("Impersonate-User", "bob")]);
    assert_eq!(bob, Impersonation { user: "bob".into(), uid: None, groups: vec![], extra: BTreeMap::new() });
    let all = read(&[
        ("IMPERSONATE-USER", "bob"),
        ("impersonate-uid", "u1"),
        ("Impersonate-Group", "dev,ops"),
        ("Impersonate-Group", ""),
        ("impersonate-group", "dev,ops"),
        ("Impersonate-Extra-Foo", "x"),
        ("impersonate-extra-foo", "y"),
        ("Impersonate-Extra-a%2Fb", "1"),
        ("Impersonate-Extra-A%2fB", "2"),
        ("Impersonate-Extra-%46oo", "3"),
        ("Impersonate-Extra-", "4"),
        ("Impersonate-Extra-Empty", ""),
        ("Impersonate-Extra-a_b+c", "5"),
        ("Impersonate-Extra-bad%zz", "6"),
        ("Impersonate-Extra-Bad%4", "7"),
        ("Impersonate-Extra-%c3%a9", "8"),
    ]);
    assert_eq!(all.uid.as_deref(), Some("u1"));
    assert_eq!(all.groups, ["dev,ops", "", "dev,ops"]);
    assert_eq!(
        all.extra,
        extra(&[
            ("foo", &["x", "y"]),
            ("a/b", &["1", "2"]),
            ("Foo", &["3"]),
            ("", &["4"]),
            ("empty", &[""]),
            ("a_b+c", &["5"]),
            ("bad%zz", &["6"]),
            ("bad%4", &["7"]),
            ("é", &["8"]),
        ])
    );
    assert_eq!(read(&[("impersonate-user", "zoë")]).user, "zoë");
    assert_eq!(read(&[("impersonate-user", "bob"), ("impersonate-uid", "")]).uid, None);
}

#[test]
fn without_a_user() {
    let go = |inside: &str| {
        Err(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{inside}}} without impersonating a user name"
        ))
    };
    let nil = "[]string(nil)";
    let none = "map[string][]string(nil)";
    assert_eq!(
        parse(&[("impersonate-group", "dev")]),
        go(&format!("\"\", Groups:[]string{{\"dev\"}}, Extra:{none}"))
    );
    assert_eq!(
        parse(&[("impersonate-user", ""), ("impersonate-group", "")]),
        go(&format!("\"\", Groups:[]string{{\"\"}}, Extra:{none}"))
    );
    assert_eq!(parse(&[("impersonate-uid", "u\"1")]), go(&format!("\"u\\\"1\", Groups:{nil}, Extra:{none}")));
    assert_eq!(
        parse(&[
            ("impersonate-extra-foo", "x"),
            ("impersonate-extra-foo", "y"),
            ("impersonate-extra-bar", "")
        ]),
        go(&format!(
            "\"\", Groups:{nil}, Extra:map[string][]string{{\"bar\":[]string{{\"\"}}, \"foo\":[]string{{\"x\", \"y\"}}}}"
        ))
    );
}

#[test]
fn stricter_than_the_original() {
    let user = ("impersonate-user", b"bob".as_slice());
    for (more, why) in [
        (&[("impersonate-user", b"admin".as_slice())][..], "2 Impersonate-User headers"),
        (&[("impersonate-uid", b"1"), ("impersonate-uid", b"2")], "2 Impersonate-Uid headers"),
        (&[("impersonate-foo", b"x")], "impersonate-foo is unknown"),
        (&[("impersonate-groups", b"x")], "impersonate-groups is unknown"),
        (&[("impersonate_user", b"x")], "impersonate_user is unknown"),
        (&[("impersonate-extra", b"x")], "impersonate-extra is unknown"),
        (&[("impersonate_extra-x", b"x")], "impersonate_extra-x is unknown"),
        (&[("impersonate-group", b"\xff")], "impersonate-group is not UTF-8"),
        (&[("impersonate-extra-%ff", b"x")], "impersonate-extra-%ff is not UTF-8"),
        (&[("impersonate-group", b" system:masters")], "impersonate-group has control characters or blanks"),
        (&[("impersonate-group", b"system:masters\t")], "impersonate-group has control characters or blanks"),
        (&[("impersonate-uid", b"a\tb")], "impersonate-uid has control characters or blanks"),
        (&[("impersonate-extra-foo", b"x ")], "impersonate-extra-foo has control characters or blanks"),
        (&[("impersonate-extra-gatelog.dev%2fx", b"x")], "reserved"),
        (&[("impersonate-extra-%47atelog.dev%2fx", b"x")], "reserved"),
    ] {
        let headers = lines(&[&[user], more].concat());
        let error = Impersonation::parse(&headers).unwrap_err();
        assert!(error.contains(why), "{error}, not {why}");
    }
    // Even where no user is asked for.
    assert!(parse(&[("impersonate-future", "x")]).is_err());
    assert!(parse(&[("impersonate-user", ""), ("impersonate-user", "bob")]).is_err());
    assert!(parse(&[("impersonate-user", " bob ")]).is_err());
    let mut many = lines(&[user]);
    for i in 0..999 {
        many.append("impersonate-group", HeaderValue::from_str(&format!("g{i}")).unwrap());
    }
    assert_eq!(Impersonation::parse(&many).unwrap().unwrap().groups.len(), 999);
    many.append("impersonate-extra-x", HeaderValue::from_static("y"));
    assert!(Impersonation::parse(&many).unwrap_err().contains("more than 1000"));
}

#[test]
fn checks_in_order() {
    let show = |a: Attributes<'_>| match a.object {
        Object::Resource { group, version, resource, subresource, namespace, name } => {
            format!("{} {group}/{version} {resource}/{subresource} {namespace} {name}", a.verb)
        }
        Object::Path(path) => path.to_owned(),
    };
    let asked = parse(&[
        ("impersonate-uid", "u1"),
        ("impersonate-extra-%46oo", "y"),
        ("impersonate-extra-a%2fb", "1"),
        ("impersonate-extra-a%2fb", ""),
        ("impersonate-group", "ops"),
        ("impersonate-group", ""),
        ("impersonate-user", "bob"),
    ]);
    assert_eq!(
        asked.unwrap().unwrap().checks().map(show).collect::<Vec<_>>(),
        [
            "impersonate /v1 users/  bob",
            "impersonate /v1 groups/  ops",
            "impersonate /v1 groups/  ",
            "impersonate authentication.k8s.io/v1 userextras/Foo  y",
            "impersonate authentication.k8s.io/v1 userextras/a/b  1",
            "impersonate authentication.k8s.io/v1 userextras/a/b  ",
            "impersonate authentication.k8s.io/v1 uids/  u1",
        ]
    );
    for (user, want) in [
        ("system:serviceaccount:default:sa2", "impersonate /v1 serviceaccounts/ default sa2"),
        ("system:serviceaccount:Bad:sa1", "impersonate /v1 users/  system:serviceaccount:Bad:sa1"),
        ("system:node:n1", "impersonate /v1 users/  system:node:n1"),
    ] {
        let asked = parse(&[("impersonate-user", user)]).unwrap().unwrap();
        assert_eq!(asked.checks().map(show).collect::<Vec<_>>(), [want]);
    }
}

#[test]
fn groups_of_who_results() {
    for (user, groups, want) in [
        ("bob", &[][..], &["system:authenticated"][..]),
        ("bob", &["system:authenticated"], &["system:authenticated"]),
        ("nobody", &["system:unauthenticated"], &["system:unauthenticated"]),
        ("system:anonymous", &[], &["system:unauthenticated"]),
        ("system:anonymous", &["system:authenticated"], &["system:authenticated", "system:unauthenticated"]),
        (
            "system:serviceaccount:default:sa1",
            &[],
            &["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
        ),
        ("system:serviceaccount:default:sa1", &["dev"], &["dev", "system:authenticated"]),
        ("system:node:n1", &[], &["system:authenticated"]),
        ("bob", &["dev", "dev"], &["dev", "dev", "system:authenticated"]),
    ] {
        let asked =
            Impersonation { user: user.into(), uid: None, groups: strings(groups), extra: BTreeMap::new() };
        let effective = asked.effective().unwrap();
        assert_eq!(effective.groups(), want, "{user} {groups:?}");
        assert_eq!((effective.name(), effective.uid()), (user, ""));
    }
    let asked = Impersonation {
        user: "bob".into(),
        uid: Some("u1".into()),
        groups: vec![],
        extra: extra(&[("foo", &["x", "y"])]),
    };
    let effective = asked.effective().unwrap();
    assert_eq!((effective.uid(), effective.extra()), ("u1", &asked.extra));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_sent_arrives(
        name in "\\PC{1,12}",
        uid in "[ -~]{0,6}",
        groups in prop::collection::vec("\\PC{0,8}|system:masters ?", 0..4),
        extra in prop::collection::btree_map(any::<String>(), prop::collection::vec("[ -~é]{0,4}", 0..3), 0..3),
    ) {
        if let Ok(user) = User::new(&name, &uid, groups.clone(), extra) {
            let headers: HeaderMap = user.upstream_headers().iter().cloned().collect();
            // As HTTP/1.1 hands it on: blanks trimmed from values.
            for value in headers.values() {
                prop_assert_eq!(value.as_bytes().trim_ascii(), value.as_bytes());
            }
            let read = Impersonation::parse(&headers).unwrap().unwrap();
            prop_assert_eq!(&read.user, &name);
            prop_assert_eq!(read.uid.unwrap_or_default(), uid);
            prop_assert_eq!(read.groups, groups);
            prop_assert_eq!(&read.extra, user.extra());
            prop_assert_eq!(headers::survivors(&headers, user.upstream_headers()), Ok(()));
            let json: serde_json::Value = serde_json::from_str(user.json()).unwrap();
            prop_assert_eq!(json["username"].as_str(), Some(name.as_str()));
        }
    }

    #[test]
    fn reading_never_panics(
        list in prop::collection::vec(("impersonate[-_](user|uid|group|extra-[!-~]{0,6}|[a-z]{0,3})", prop::collection::vec(any::<u8>(), 0..6)), 0..6),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &list {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        if let Ok(Some(asked)) = Impersonation::parse(&headers) {
            // What was let in can be carried on.
            prop_assert!(asked.effective().is_ok());
            prop_assert!(asked.checks().count() >= 1);
        }
    }
}

use super::*;
use crate::request::Target;
use http::Method;
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn times_have_six_digits() {
    let rows = [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
        (1_709_164_799_999_999, "2024-02-28T23:59:59.999999Z"),
        (1_709_164_800_000_000, "2024-02-29T00:00:00.000000Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        (1_767_323_045_678_901, "2026-01-02T03:04:05.678901Z"),
        (i64::MAX, "9999-12-31T23:59:59.999999Z"),
        (i64::MIN, "0000-01-01T00:00:00.000000Z"),
    ];
    for (micros, text) in rows {
        assert_eq!(MicroTime(micros).to_string(), text);
        let back = MicroTime::parse(text).unwrap();
        assert!(back.0 == micros || micros == i64::MAX || micros == i64::MIN, "{text}: {}", back.0);
    }
    assert_eq!(MicroTime(7).since(MicroTime(3)), Duration::from_micros(4));
    assert_eq!(MicroTime(3).since(MicroTime(7)), Duration::ZERO);
}

#[test]
fn any_rfc_3339_time_is_read() {
    let want = MicroTime::parse("2026-01-02T03:04:05.600000Z").unwrap();
    let same = [
        "2026-01-02T03:04:05.6Z",
        "2026-01-02t03:04:05.6z",
        "2026-01-02 03:04:05.600000999Z",
        "2026-01-02T04:34:05.6+01:30",
        "2026-01-01T19:04:05.6-08:00",
    ];
    for text in same {
        assert_eq!(MicroTime::parse(text), Some(want), "{text}");
    }
    let none = [
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-13-02T03:04:05Z",
        "2026-01-02T24:04:05Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05+0100",
        "2026-01-02T03:04:05Zx",
        "+026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+01:00 ",
        "2026-01-02T03:04:05é",
    ];
    for text in none {
        assert_eq!(MicroTime::parse(text), None, "{text}");
    }
}

/// peer, X-Forwarded-For lines, X-Real-Ip => sourceIPs
#[test]
fn source_addresses_of_a_trusted_proxy() {
    let peer = "172.16.0.1";
    type Row = (&'static str, Option<&'static str>, Option<&'static str>, &'static [&'static str]);
    let rows: [Row; 14] = [
        (peer, None, None, &["172.16.0.1"]),
        (peer, Some("10.1.1.1, 10.2.2.2"), None, &["10.1.1.1", "10.2.2.2", "172.16.0.1"]),
        (peer, Some("10.1.1.1"), Some("10.1.1.1"), &["10.1.1.1", "172.16.0.1"]),
        (peer, Some("10.1.1.1,not-an-ip,10.2.2.2"), None, &["10.1.1.1", "10.2.2.2", "172.16.0.1"]),
        (peer, Some("10.1.1.1, 172.16.0.1"), None, &["10.1.1.1", "172.16.0.1"]),
        (peer, Some("172.16.0.1, 10.1.1.1"), None, &["172.16.0.1", "10.1.1.1", "172.16.0.1"]),
        (
            peer,
            Some("10.1.1.1, bad, 10.2.2.2"),
            Some("10.3.3.3"),
            &["10.1.1.1", "10.2.2.2", "10.3.3.3", "172.16.0.1"],
        ),
        (peer, None, Some("10.3.3.3"), &["10.3.3.3", "172.16.0.1"]),
        (peer, Some(""), Some("x"), &["172.16.0.1"]),
        (peer, Some("10.1.1.1\t, fe80::1%eth0, 010.1.1.1"), None, &["10.1.1.1", "172.16.0.1"]),
        (peer, Some("10.1.1.1:80, [::1]"), None, &["172.16.0.1"]),
        ("::ffff:172.16.0.1", Some("::ffff:172.16.0.1"), None, &["172.16.0.1"]),
        ("2001:db8::1", Some("2001:DB8:0::2"), None, &["2001:db8::2", "2001:db8::1"]),
        (peer, Some("10.1.1.1"), Some("::ffff:10.1.1.1"), &["10.1.1.1", "172.16.0.1"]),
    ];
    for (peer, forwarded, real, want) in rows {
        let value = |text: Option<&'static str>| text.map(HeaderValue::from_static);
        let ips =
            Addresses::forwarded(peer.parse().unwrap(), value(forwarded).as_ref(), value(real).as_ref());
        assert_eq!(ips.iter().map(|ip| ip.to_string()).collect::<Vec<_>>(), want, "{forwarded:?} {real:?}");
    }
    let many = HeaderValue::try_from("10.0.0.1,".repeat(1000)).unwrap();
    assert_eq!(
        Addresses::forwarded(peer.parse().unwrap(), Some(&many), None).iter().count(),
        MOST_ADDRESSES + 1
    );
}

#[test]
fn the_nearest_address_is_the_one_the_proxy_saw() {
    let forwarded = HeaderValue::from_static("6.6.6.6, 203.0.113.9");
    let ips = Addresses::forwarded("10.0.0.1".parse().unwrap(), Some(&forwarded), None);
    assert_eq!(ips.nearest().to_string(), "203.0.113.9");
    assert_eq!(Addresses::peer("10.0.0.1".parse().unwrap()).nearest().to_string(), "10.0.0.1");
}

fn line(uri: &str, agent: &[u8], told: &ObjectMeta, annotations: &Annotations) -> Vec<u8> {
    let agent = String::from_utf8_lossy(agent);
    let ips = Addresses::peer("192.0.2.1".parse().unwrap());
    let mut head = Head::new(uri, "get", r#"{"username":"a"}"#, Some(&ips), Some(&agent));
    let target = Target::parse("/apis/apps/v1/namespaces/x/deployments").unwrap();
    head.set_object(&RequestInfo::parse(&Method::POST, &target).unwrap(), told);
    let event = Event {
        level: Level::Metadata,
        id: "id",
        stage: Stage::ResponseComplete,
        head: &head,
        impersonated: None,
        status: None,
        request: None,
        response: None,
        received: MicroTime(0),
        at: MicroTime(0),
        annotations,
        salt: "00",
        journal_only: false,
    };
    let mut out = Vec::new();
    event.write(&mut out);
    out
}

fn read(line: &[u8]) -> Value {
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    assert_eq!(line.last(), Some(&b'\n'));
    assert!(!line.iter().any(|b| *b < 32 && *b != b'\n'));
    serde_json::from_slice(line).unwrap()
}

#[test]
fn long_texts_are_cut_and_marked() {
    let agent = |agent: &[u8]| {
        let event = read(&line("/", agent, &ObjectMeta::default(), &Annotations::default()));
        event["userAgent"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(agent(&[b'a'; 1024]), "a".repeat(1024));
    assert_eq!(agent(&[b'a'; 1025]), "a".repeat(1024) + "...TRUNCATED");
    assert_eq!(agent(&[b'a'; 1 << 20]).len(), 1024 + 12);
    assert_eq!(agent(b""), "none");
    assert_eq!(agent(b"x\xff\x80y\tz"), "x\u{fffd}\u{fffd}y\tz");
    assert_eq!(agent("é".repeat(600).as_bytes()), "é".repeat(512) + "...TRUNCATED");
    let uri = format!("/{}", "é".repeat(40_000));
    let event = read(&line(&uri, b"", &ObjectMeta::default(), &Annotations::default()));
    assert_eq!(event["requestURI"].as_str().unwrap().len(), LONGEST_URI - 1 + CUT.len());
    let mut annotations = Annotations::default();
    annotations.add("k", "x".repeat(100_000));
    let event = read(&line("/", b"", &ObjectMeta::default(), &annotations));
    assert_eq!(event["annotations"]["k"].as_str().unwrap().len(), LONGEST_TEXT + CUT.len());
}

#[test]
fn annotations_keep_the_first_value_and_are_sorted() {
    let mut annotations = Annotations::default();
    for (key, value) in [("b", "1"), ("a", "2"), ("b", "3"), ("c", "4")] {
        annotations.add(key, value);
    }
    let text = String::from_utf8(line("/", b"", &ObjectMeta::default(), &annotations)).unwrap();
    assert!(
        text.ends_with(
            "\"annotations\":{\"a\":\"2\",\"b\":\"1\",\"c\":\"4\",\"gatelog.dev/salt\":\"00\"}}\n"
        ),
        "{text}"
    );
    assert_eq!((annotations.get("b"), annotations.get("x")), (Some("1"), None));
    annotations.set("b", "5".into());
    annotations.set("x", "6".into());
    assert_eq!((annotations.get("b"), annotations.get("x")), (Some("5"), Some("6")));
}

#[test]
fn what_a_body_tells_fills_only_what_is_open() {
    let told = ObjectMeta {
        namespace: "other".into(),
        name: "web".into(),
        uid: "u".into(),
        resource_version: "7".into(),
    };
    let text = String::from_utf8(line("/", b"", &told, &Annotations::default())).unwrap();
    let want = r#""objectRef":{"resource":"deployments","namespace":"x","name":"web","uid":"u","apiGroup":"apps","apiVersion":"v1","resourceVersion":"7"}"#;
    assert!(text.contains(want), "{text}");
}

#[test]
fn words_are_spelled_as_in_kubernetes() {
    assert_eq!(Level::ALL.map(|l| Level::parse(l.as_str())), Level::ALL.map(Some));
    assert_eq!(Stage::ALL.map(|s| Stage::parse(s.as_str())), Stage::ALL.map(Some));
    assert!(Level::None < Level::Metadata && Level::Request < Level::RequestResponse);
    assert_eq!((Level::parse("metadata"), Stage::parse("")), (None, None));
}

proptest! {
    #[test]
    fn every_line_is_one_object(uri in any::<String>(), agent in any::<Vec<u8>>(), name in any::<String>(), note in any::<String>()) {
        let told = ObjectMeta { name: name.clone(), ..ObjectMeta::default() };
        let mut annotations = Annotations::default();
        annotations.add("note", note.clone());
        let event = read(&line(&uri, &agent, &told, &annotations));
        prop_assert_eq!(event["requestURI"].as_str().unwrap(), uri);
        prop_assert_eq!(event["annotations"]["note"].as_str().unwrap(), note);
        prop_assert_eq!(event["objectRef"]["name"].as_str().unwrap_or_default(), name);
    }

    #[test]
    fn times_are_read_as_they_are_written(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
        prop_assert_eq!(MicroTime::parse(&MicroTime(micros).to_string()), Some(MicroTime(micros)));
    }
}

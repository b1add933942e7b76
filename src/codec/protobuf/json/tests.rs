use super::*;
use crate::codec::protobuf::Writer;
use proptest::prelude::*;

const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 32, json: 1 << 20 };

fn body(api_version: &str, kind: &str, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    Envelope { api_version, kind, raw: &Writer::of(write), ..Envelope::default() }.write()
}

/// The members of an object after kind and apiVersion.
fn read(api_version: &str, kind: &str, write: impl FnOnce(&mut Writer)) -> Result<String, Undecodable> {
    let body = body(api_version, kind, write);
    let decoded = to_json(&body, LIMITS)?;
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}""#);
    Ok(decoded
        .json
        .strip_prefix(&head)
        .unwrap()
        .trim_start_matches(',')
        .strip_suffix('}')
        .unwrap()
        .to_owned())
}

/// A message read as a form.
fn form(
    package_kind: (&str, &str),
    path: &[u32],
    write: impl FnOnce(&mut Writer),
) -> Result<String, Undecodable> {
    let mut of = TABLES.kind(package_kind.0, package_kind.1).unwrap();
    for number in path {
        let Some(Type::Message(at)) = of.field(*number).map(|field| field.of) else {
            panic!("{number} is no message")
        };
        of = TABLES.message(at).unwrap();
    }
    let mut json = Json::new(0, LIMITS);
    json.message(of, &Writer::of(write), 8)?;
    Ok(json.text)
}

fn out_of_range<T>(message: &'static str, number: u32) -> Result<T, Undecodable> {
    Err(Undecodable::OutOfRange { message, number })
}

#[test]
fn a_deployment() {
    let got = read("apps/v1", "Deployment", |of| {
        of.message(1, |meta| {
            meta.text(1, "web");
            meta.text(2, "");
            meta.message(8, |at| at.number(1, 1_763_827_200));
            for (key, value) in [("b", "2"), ("a", "1"), ("b", "3")] {
                meta.message(11, |entry| {
                    entry.text(1, key);
                    entry.text(2, value);
                });
            }
        });
        of.message(2, |spec| spec.number(1, 0));
    });
    let want = concat!(
        r#""metadata":{"name":"web","creationTimestamp":"2025-11-22T16:00:00Z","labels":{"a":"1","b":"3"}},"#,
        r#""spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}"#,
    );
    assert_eq!(got.as_deref(), Ok(want));
}

#[test]
fn inlined_fields_stand_beside_their_owners() {
    let got = read("v1", "PersistentVolume", |of| {
        of.message(2, |spec| spec.message(2, |source| source.message(3, |path| path.text(1, "/data"))));
    });
    assert_eq!(got.as_deref(), Ok(r#""metadata":{},"spec":{"hostPath":{"path":"/data"}},"status":{}"#));
}

#[test]
fn times() {
    for (seconds, nanos, time, micros) in [
        (0, 0, r#""1970-01-01T00:00:00Z""#, r#""1970-01-01T00:00:00.000000Z""#),
        (-1, 0, r#""1969-12-31T23:59:59Z""#, r#""1969-12-31T23:59:59.000000Z""#),
        (951_782_400, 1_999, r#""2000-02-29T00:00:00Z""#, r#""2000-02-29T00:00:00.000001Z""#),
        (0, -1_000, r#""1970-01-01T00:00:00Z""#, r#""1969-12-31T23:59:59.999999Z""#),
        (0, 2_000_000_000, r#""1970-01-01T00:00:00Z""#, r#""1970-01-01T00:00:02.000000Z""#),
        (-62_135_596_800, 0, "null", "null"),
        (-62_135_596_800, 1_000, "null", r#""0001-01-01T00:00:00.000001Z""#),
        (253_402_300_799, 0, r#""9999-12-31T23:59:59Z""#, r#""9999-12-31T23:59:59.000000Z""#),
    ] {
        let write = |of: &mut Writer| {
            of.number(1, seconds);
            of.number(2, nanos);
        };
        assert_eq!(form(("v1", "Pod"), &[1, 8], write).as_deref(), Ok(time), "{seconds}");
        let lease = ("coordination.k8s.io/v1", "Lease");
        assert_eq!(form(lease, &[2, 3], write).as_deref(), Ok(micros), "{seconds} {nanos}");
    }
    assert_eq!(form(("v1", "Pod"), &[1, 8], |_| {}).as_deref(), Ok("null"));
    for seconds in [i64::MIN, -62_167_219_201, 253_402_300_800, i64::MAX] {
        assert_eq!(form(("v1", "Pod"), &[1, 8], |of| of.number(1, seconds)), out_of_range("Time", 1));
    }
    assert_eq!(form(("v1", "Pod"), &[1, 8], |of| of.number(2, 1 << 31)), out_of_range("Time", 2));
}

#[test]
fn durations() {
    for (nanos, want) in [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (100_000_000, "100ms"),
        (1_000_000_000, "1s"),
        (59_000_000_001, "59.000000001s"),
        (60_000_000_000, "1m0s"),
        (-5_400_500_000_000, "-1h30m0.5s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        let mut json = Json::new(0, LIMITS);
        json.duration(nanos);
        assert_eq!(json.text, format!("\"{want}\""));
    }
}

#[test]
fn numbers_or_strings_and_quantities() {
    let service = ("apps/v1", "DaemonSet");
    let port = |kind, number, text: &'static str| {
        move |of: &mut Writer| {
            of.number(1, kind);
            of.number(2, number);
            of.text(3, text);
        }
    };
    let read = |write: fn(&mut Writer)| form(service, &[2, 3, 2, 1], write);
    assert_eq!(form(service, &[2, 3, 2, 1], port(0, -1, "x")).as_deref(), Ok("-1"));
    assert_eq!(form(service, &[2, 3, 2, 1], port(1, 7, "25%")).as_deref(), Ok(r#""25%""#));
    assert_eq!(form(service, &[2, 3, 2, 1], port(2, 7, "")), out_of_range("IntOrString", 1));
    assert_eq!(form(service, &[2, 3, 2, 1], port(0, 1 << 40, "")), out_of_range("IntOrString", 2));
    assert_eq!(read(|_| {}).as_deref(), Ok("0"));
    let limits = ("v1", "PersistentVolume");
    let capacity = |of: fn(&mut Writer)| {
        super::tests::read(limits.0, limits.1, |pv| {
            pv.message(2, |spec| {
                spec.message(1, |entry| {
                    entry.text(1, "storage");
                    entry.message(2, of);
                });
            });
        })
    };
    let shown =
        |value: &str| format!(r#""metadata":{{}},"spec":{{"capacity":{{"storage":{value}}}}},"status":{{}}"#);
    assert_eq!(capacity(|of| of.text(1, "10Gi")), Ok(shown(r#""10Gi""#)));
    assert_eq!(capacity(|_| {}), Ok(shown(r#""0""#)));
    assert_eq!(capacity(|of| of.text(1, "")), out_of_range("Quantity", 1));
}

#[test]
fn strings_are_kept_exactly() {
    let text = "\u{0}\u{1f}\u{7f}\"\\/\n\r\t\u{2028}é😀<&>";
    let got = read("v1", "Pod", |of| of.message(1, |meta| meta.text(1, text))).unwrap();
    let value: serde_json::Value = serde_json::from_str(&format!("{{{got}}}")).unwrap();
    assert_eq!(value["metadata"]["name"], text);
    let broken = read("v1", "Pod", |of| of.message(1, |meta| meta.bytes(1, b"\xff")));
    assert_eq!(broken, Err(Error::NotText(1).into()));
}

#[test]
fn json_inside_is_kept_and_bodies_inside_are_read() {
    let list = |raw: &[u8]| {
        let raw = raw.to_vec();
        read("v1", "List", |of| of.message(2, |item| item.bytes(1, &raw)))
    };
    let shown = |item: &str| Ok(format!(r#""metadata":{{}},"items":[{item}]"#));
    for (raw, want) in [
        (r#"{"a":1}"#, r#"{"a":1}"#),
        (" { \"a b\" :\n[1 , \" \\\" \\\\\", 2.50]\t}\r\n", r#"{"a b":[1," \" \\",2.50]}"#),
        ("null", "null"),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
    ] {
        assert_eq!(list(raw.as_bytes()), shown(want));
    }
    for raw in
        ["", " ", "{", "{}{}", r#""\ud800""#, "1e999", "nul", "\"a\nb\"", "\u{feff}{}", &"[".repeat(9_000)]
    {
        assert_eq!(list(raw.as_bytes()), Err(Undecodable::NotJson("RawExtension")), "{raw}");
    }
    assert_eq!(list(b"\"\xff\""), Err(Undecodable::NotJson("RawExtension")));
    let pod = body("v1", "Namespace", |of| of.message(1, |meta| meta.text(1, "shop")));
    let want = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"shop"},"spec":{},"status":{}}"#;
    assert_eq!(list(&pod), shown(want));
    assert_eq!(list(b"k8s\0"), Err(Undecodable::UnknownKind));
}

#[test]
fn schemas_take_the_form_they_have() {
    let schema = |number, write: fn(&mut Writer)| {
        form(("apiextensions.k8s.io/v1", "CustomResourceDefinition"), &[2, 7, 4, 1], |of| {
            of.message(number, write)
        })
    };
    for (number, write, want) in [
        (30, (|of| of.flag(1, true)) as fn(&mut Writer), r#"{"additionalProperties":true}"#),
        (30, |_| {}, r#"{"additionalProperties":false}"#),
        (30, |of| of.message(2, |s| s.text(5, "string")), r#"{"additionalProperties":{"type":"string"}}"#),
        (24, |of| of.message(1, |s| s.text(5, "string")), r#"{"items":{"type":"string"}}"#),
        (24, |of| of.message(2, |_| {}), r#"{"items":[{}]}"#),
        (24, |_| {}, r#"{"items":null}"#),
        (8, |of| of.bytes(1, b"[1]"), r#"{"default":[1]}"#),
        (8, |_| {}, r#"{"default":null}"#),
        (
            32,
            |of| {
                of.text(1, "k");
                of.message(2, |v| v.texts(2, &["a".into(), "b".into()]));
            },
            r#"{"dependencies":{"k":["a","b"]}}"#,
        ),
    ] {
        assert_eq!(schema(number, write).as_deref(), Ok(want));
    }
}

/// A server reads fields in any order; whoever writes them so must not stay out of the record.
#[test]
fn any_order_of_fields_reads_the_same() {
    let write = |order: [u32; 5]| {
        read("v1", "Pod", move |of| {
            of.message(1, |meta| {
                for number in order {
                    match number {
                        11 | 12 => meta.message(number, |entry| {
                            entry.text(2, "v");
                            entry.text(1, "k");
                        }),
                        14 => meta.text(14, "finalizer"),
                        _ => meta.text(number, "text"),
                    }
                }
            });
        })
    };
    let sorted = write([1, 11, 12, 14, 14]).unwrap();
    assert!(sorted.contains(
        r#""name":"text","labels":{"k":"v"},"annotations":{"k":"v"},"finalizers":["finalizer","finalizer"]"#
    ));
    assert_eq!(write([14, 12, 11, 14, 1]), Ok(sorted.clone()));
    assert_eq!(write([14, 1, 12, 14, 11]), Ok(sorted));
}

#[test]
fn what_is_not_whole_is_not_read() {
    let pod = |write: fn(&mut Writer)| read("v1", "Pod", write);
    let unknown = |message, number| Err(Undecodable::UnknownField { message, number });
    let twice = |message, number| Err(Undecodable::Twice { message, number });
    assert_eq!(pod(|of| of.text(4, "")), unknown("Pod", 4));
    assert_eq!(pod(|of| of.message(1, |meta| meta.number(99, 0))), unknown("ObjectMeta", 99));
    assert_eq!(
        pod(|of| of.message(1, |meta| meta.message(11, |entry| entry.text(3, "")))),
        unknown("ObjectMeta", 11)
    );
    assert_eq!(pod(|of| of.message(1, |meta| meta.message(8, |at| at.number(3, 0)))), unknown("Time", 3));
    assert_eq!(pod(|of| [(), ()].iter().for_each(|()| of.message(1, |_| {}))), twice("Pod", 1));
    assert_eq!(
        pod(|of| of.message(1, |meta| ["a", "b"].iter().for_each(|t| meta.text(1, t)))),
        twice("ObjectMeta", 1)
    );
    assert_eq!(pod(|of| of.number(1, 0)), Err(Error::WrongType(1).into()));
    assert_eq!(pod(|of| of.message(1, |meta| meta.number(1, 0))), Err(Error::WrongType(1).into()));
    assert_eq!(pod(|of| of.message(1, |meta| meta.text(7, "1"))), Err(Error::WrongType(7).into()));
    assert_eq!(pod(|of| of.bytes(1, &[10])), Err(Error::Early.into()));
    let port = |number: i64| {
        read("v1", "Endpoints", |of| of.message(2, |subset| subset.message(3, |port| port.number(2, number))))
    };
    assert!(port(-1).is_ok());
    assert_eq!(port(1 << 32 | 80), out_of_range("EndpointPort", 2));
    assert_eq!(read("v1", "Deployment", |_| {}), Err(Undecodable::UnknownKind));
    assert_eq!(read("", "", |_| {}), Err(Undecodable::UnknownKind));
    let whole = body("v1", "Pod", |_| {});
    let refused = |body: &[u8]| to_json(body, LIMITS).unwrap_err();
    assert_eq!(refused(b"{}"), Error::NoMagic.into());
    assert_eq!(
        refused(&[&whole[..], b"\x2a\0"].concat()),
        Undecodable::UnknownField { message: "Unknown", number: 5 }
    );
    assert_eq!(refused(&[&whole[..], b"\x2a"].concat()), Error::Early.into());
    let envelope = Envelope { api_version: "v1", kind: "Pod", ..Envelope::default() };
    for encoded in [
        Envelope { content_encoding: "gzip", ..envelope },
        Envelope { content_type: "application/json", ..envelope },
    ] {
        assert_eq!(refused(&encoded.write()), Undecodable::Encoded);
    }
    let schema = Writer::of(|of| of.text(1, "x"));
    let deep = (0..40).fold(schema, |inner, _| Writer::of(|of| of.bytes(28, &inner)));
    let crd = read("apiextensions.k8s.io/v1", "CustomResourceDefinition", |of| {
        of.message(2, |spec| spec.message(7, |v| v.message(4, |schema| schema.bytes(1, &deep))));
    });
    assert_eq!(crd, Err(Error::TooDeep.into()));
}

#[test]
fn reasons_do_not_repeat_the_body() {
    for body in [
        body("hunter2", "hunter2", |_| {}),
        body("v1", "List", |of| of.message(2, |item| item.bytes(1, b"\"hunter2"))),
        body("v1", "Pod", |of| of.text(9, "hunter2")),
        Envelope { api_version: "v1", kind: "Pod", content_type: "hunter2", ..Envelope::default() }.write(),
    ] {
        let why = to_json(&body, LIMITS).unwrap_err();
        assert!(!why.to_string().contains("hunter2") && !format!("{why:?}").contains("hunter2"), "{why}");
    }
}

#[test]
fn frames_of_a_watch() {
    let event = Writer::of(|of| {
        of.text(1, "ADDED");
        of.message(2, |object| object.bytes(1, &body("v1", "Namespace", |_| {})));
    });
    let want = r#"{"type":"ADDED","object":{"kind":"Namespace","apiVersion":"v1","metadata":{},"spec":{},"status":{}}}"#;
    assert_eq!(event_to_json(&event, LIMITS).as_deref(), Ok(want));
    let mut stream = u32::try_from(event.len()).unwrap().to_be_bytes().to_vec();
    stream.extend(&event);
    stream.extend([0, 0, 0, 0, 0]);
    let (first, rest) = frame(&stream, event.len()).unwrap().unwrap();
    assert_eq!(first, event);
    assert_eq!(frame(rest, 0), Ok(Some((&[][..], &[0][..]))));
    for end in 0..event.len() + 4 {
        assert_eq!(frame(&stream[..end], event.len()), Ok(None));
    }
    assert_eq!(frame(&stream, event.len() - 1), Err(Error::TooLarge(event.len() - 1)));
    assert_eq!(frame(&[0xff; 4], 1 << 20), Err(Error::TooLarge(1 << 20)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_json_or_refused(
        raw in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(vec![("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "List"), ("v1", "Secret")]),
    ) {
        let _ = event_to_json(&raw, LIMITS);
        let _ = frame(&raw, 100);
        let _ = to_json(&raw, LIMITS);
        let body = Envelope { api_version: kind.0, kind: kind.1, raw: &raw, ..Envelope::default() }.write();
        if let Ok(decoded) = to_json(&body, LIMITS) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&decoded.json).is_ok(), "{}", decoded.json);
        }
    }

    #[test]
    fn strings_are_read_back(text in any::<String>()) {
        let mut json = Json::new(0, LIMITS);
        json.string(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&json.text).unwrap(), text);
    }

    #[test]
    fn json_inside_keeps_its_value(
        keys in prop::collection::btree_map(any::<String>(), any::<Vec<f64>>(), 0..4),
    ) {
        let keys: std::collections::BTreeMap<_, Vec<f64>> =
            keys.into_iter().map(|(k, v)| (k, v.into_iter().filter(|n| n.is_finite()).collect())).collect();
        let text = serde_json::to_string_pretty(&keys).unwrap();
        let mut json = Json::new(0, LIMITS);
        json.embed(TABLES.watch_event().unwrap(), text.as_bytes()).unwrap();
        prop_assert_eq!(&json.text, &serde_json::to_string(&keys).unwrap());
    }
}

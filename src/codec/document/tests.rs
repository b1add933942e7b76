use super::*;
use http::HeaderValue;

fn read(content_type: &'static str, body: &[u8]) -> Result<(String, Option<String>), Undecodable> {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    let document = Document::new(&headers, body);
    let text = document.tape().map_err(Undecodable::clone)?.raw(0).to_owned();
    Ok((text, document.duplicates()))
}

#[test]
fn a_type_says_how_a_body_is_read() {
    for (content_type, body, want) in [
        ("", &b" {\"a\":1}\n"[..], r#"{"a":1}"#),
        ("application/json; charset=utf-8", b"[1, 2]", "[1, 2]"),
        ("application/json", b"\"\xff\"", "\"\u{fffd}\""),
        ("application/merge-patch+json", b"{}", "{}"),
        ("application/yaml", b"a: [yes, 0777]", r#"{"a":[true,511]}"#),
        ("Application/Apply-Patch+YAML", b"{\"a\": 1}", r#"{"a": 1}"#),
        ("application/apply-patch+yaml", b"{\"a\": 1.50}", r#"{"a":1.5}"#),
        ("application/apply-patch+yaml", b"{\"a\": 1e2}", r#"{"a":100}"#),
        ("application/yaml", b"a: 1\n---\nb: 2", r#"{"a":1}"#),
        ("application/apply-patch+cbor", b"\xd9\xd9\xf7\xa1\x41a\x01", r#"{"a":1}"#),
    ] {
        assert_eq!(read(content_type, body).unwrap().0, want, "{content_type}");
    }
}

#[test]
fn keys_that_come_twice_in_yaml_are_known() {
    for (body, value, lines) in [
        (&b"a: 1\nb: 2"[..], r#"{"a":1,"b":2}"#, None),
        (
            b"a: 1\na: 2",
            r#"{"a":2}"#,
            Some("yaml: unmarshal errors:\n  line 2: key \"a\" already set in map"),
        ),
        (
            b"{\"a\":1,\"a\":2}",
            r#"{"a":2}"#,
            Some("yaml: unmarshal errors:\n  line 1: key \"a\" already set in map"),
        ),
    ] {
        let want = Ok((value.to_owned(), lines.map(str::to_owned)));
        assert_eq!(read("application/yaml", body), want);
    }
    assert_eq!(read("application/json", b"{\"a\":1,\"a\":2}").unwrap().1, None);
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let why = |content_type, body| read(content_type, body).unwrap_err();
    assert!(matches!(why("", b"{"), Undecodable::Json(Unreadable::Syntax(_))));
    assert!(matches!(why("application/yaml", b"a: .inf"), Undecodable::Yaml(_)));
    assert!(matches!(why("application/yaml", b"a: ["), Undecodable::Unsure(_)));
    assert!(matches!(why("application/yaml", b"\xff"), Undecodable::Unsure(_)));
    assert!(matches!(why("application/vnd.kubernetes.protobuf", b"{}"), Undecodable::Protobuf(_)));
    assert!(matches!(why("application/cbor", b"\x01\x01"), Undecodable::Cbor(_)));
}

#[test]
fn protobuf_of_any_type_has_a_head() {
    let raw = protobuf::Writer::of(|of| {
        of.message(1, |meta| {
            meta.text(1, "n");
            meta.text(2, "");
            meta.text(3, "a");
        });
    });
    let body =
        protobuf::Envelope { api_version: "x.y/v1", kind: "Thing", raw: &raw, ..Default::default() }.write();
    let content_type = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
    let head = Document::new(&headers, &body).head();
    let want = ["x.y/v1", "Thing", "n", "a"];
    assert_eq!([&*head.api_version, &*head.kind, &*head.name, &*head.namespace], want);
}

#[test]
fn bombs_cost_a_bounded_multiple() {
    const MIB: usize = 1 << 20;
    for body in [
        "[".repeat(3 * MIB),
        "{\"a\":".repeat(MIB / 2),
        format!("[{}0]", "0,".repeat(3 * MIB / 2)),
        "\"\",".repeat(MIB),
    ] {
        let headers = HeaderMap::new();
        let document = Document::new(&headers, body.as_bytes());
        let is_read = document.tape().is_ok();
        assert_eq!(is_read, body.ends_with(']'));
        assert!(document.weight() <= 12 * body.len(), "{} of {}", document.weight(), body.len());
    }
}

//! Rows of the tables of media types.

use super::{
    accept::{Accept, Format, Serves},
    parameters,
};
use crate::validate::tests::refusal;

const ALL: Serves = Serves { protobuf: true, tables: true };
const CUSTOM: Serves = Serves { protobuf: false, tables: true };

#[test]
fn the_heaviest_clause_that_can_be_served_wins() {
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    for (header, all, custom) in [
        ("application/json", "json", "json"),
        ("application/*", "json", "json"),
        ("*/*;q=0.1,application/yaml;q=0.05", "yaml", "yaml"),
        ("*/*,application/yaml", "yaml", "yaml"),
        ("application/json;q=0", "json", "json"),
        ("application/json;q=0.5,application/yaml", "yaml", "yaml"),
        (PROTOBUF, "protobuf", "-"),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            "protobuf",
            "protobuf",
        ),
        ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", "-", "-"),
        ("application/yaml;as=Table;g=meta.k8s.io;v=v1", "yaml table", "yaml table"),
        ("application/json;as=Table;g=meta.k8s.io;v=v2,application/json", "json", "json"),
        ("application/json;as=Table;g=meta.k8s.io;v=v1beta1", "json table", "json table"),
        ("application/json;stream=watch", "json", "json"),
        ("application/yaml;stream=watch", "-", "-"),
        ("application/json;sv=v2", "-", "-"),
        ("text/html, image/png", "-", "-"),
        ("", "-", "-"),
        (",,", "-", "-"),
        ("application/cbor,application/json", "cbor", "cbor"),
    ] {
        for (serves, want) in [(ALL, all), (CUSTOM, custom)] {
            let said = match Accept::parse(header).choose(serves) {
                None => "-".to_owned(),
                Some(offer) => {
                    let format = match offer.format {
                        Format::Json => "json",
                        Format::Yaml => "yaml",
                        Format::Protobuf => "protobuf",
                        Format::Cbor => "cbor",
                    };
                    format!("{format}{}", if offer.table { " table" } else { "" })
                }
            };
            assert_eq!(said, want, "{header}");
        }
    }
}

#[test]
fn parameters_are_taken_as_go_takes_them() {
    for (text, taken) in [
        ("charset=utf-8", true),
        (" charset = \"utf-8\" ", true),
        ("", true),
        ("a=b;", true),
        ("a=b; c=d", true),
        ("a=\"b;c\\\"d\"; e=f", true),
        ("a=\"C:\\dev\\x\"", true),
        ("a=b;a=b", true),
        ("a=b;A=c", false),
        ("charset", false),
        ("=x", false),
        (";", false),
        ("a=", false),
        ("a=\"b", false),
        ("a b=c", false),
        ("a=b c", false),
    ] {
        assert_eq!(parameters::are_read(text), taken, "{text:?}");
    }
}

#[test]
fn media_types_are_judged_where_somebody_reads_them() {
    let post = "POST /api/v1/namespaces/a/configmaps";
    for (line, accept, content_type, want) in [
        (post, None, Some("text/plain"), "415 the body of the request was in an unknown format"),
        (post, None, Some("application/cbor"), "-"),
        (post, None, Some("APPLICATION/JSON; charset=utf-8"), "-"),
        ("GET /api/v1/pods", None, Some("text/plain"), "-"),
        ("GET /version", Some("text/html"), None, "-"),
        ("GET /apis/metrics.k8s.io/v1beta1/pods", Some("text/html"), None, "-"),
        ("POST /apis/unheard.of/v1/things", None, Some("text/plain"), "-"),
        ("GET /api/v1/namespaces/a/pods/p/exec", Some("text/html"), None, "-"),
        ("GET /api/v1/namespaces/a/services/s/proxy/", Some("text/html"), None, "-"),
        (
            "GET /api/v1/namespaces/a/pods/p/log",
            Some("text/plain"),
            None,
            "406 only the following media types",
        ),
        ("GET /api/v1/namespaces/a/pods/p/log", Some("text/html"), None, "406 406: Not Acceptable"),
        ("GET /api/v1/pods?watch=1", Some("application/yaml"), None, "406 application/json;stream=watch"),
        ("GET /api/v1/watch/pods", Some("application/yaml"), None, "406 application/json;stream=watch"),
        ("GET /api/v1/pods", Some("application/yaml"), None, "-"),
        (
            "PATCH /api/v1/namespaces/a/pods/p",
            None,
            Some("application/json"),
            "415 415: Unsupported Media Type",
        ),
        ("PATCH /api/v1/namespaces/a/pods/p", None, None, "415 415: Unsupported Media Type"),
        ("PATCH /api/v1/namespaces/a/pods/p", None, Some("application/merge-patch+json"), "-"),
    ] {
        let said = refusal(line, accept, content_type, "{}").unwrap_or_else(|| "-".to_owned());
        let (code, text) = want.split_once(' ').unwrap_or((want, ""));
        assert!(said.starts_with(code) && said.contains(text), "{line} {accept:?} {content_type:?}: {said}");
    }
}

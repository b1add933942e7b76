//! Rows of the tables of options, and properties of the readers.

use super::{read, time};
use crate::validate::{
    Config, Mode, Part,
    tests::{refusal, request, verdict_with},
};
use proptest::prelude::*;

/// Rows of a request line and the code and the end of the text of the refusal; `-`: let through.
fn rows(rows: &[(&str, &str)]) {
    for (line, want) in rows {
        let said = refusal(line, None, None, "");
        match *want {
            "-" => assert_eq!(said, None, "{line}"),
            want => {
                let said = said.unwrap_or_else(|| panic!("{line}: let through"));
                let (code, text) = want.split_once(' ').unwrap();
                assert!(said.starts_with(code) && said.contains(text), "{line}: {said}");
            }
        }
    }
}

#[test]
fn booleans_are_true_unless_they_say_false() {
    for (value, truth) in [
        ("", true),
        ("0", false),
        ("1", true),
        ("false", false),
        ("False", false),
        ("FALSE", false),
        ("fal\u{17f}e", false),
        ("no", true),
        ("00", true),
        ("true", true),
    ] {
        assert_eq!(read::truth(value), truth, "{value:?}");
    }
}

#[test]
fn the_first_value_of_a_scalar_counts() {
    rows(&[
        ("GET /api/v1/pods?limit=1&limit=abc", "-"),
        ("GET /api/v1/pods?limit=abc&limit=1", "400 parsing \"abc\""),
        ("GET /api/v1/pods?watch=0&watch=1&sendInitialEvents=1", "422 forbidden for list"),
        ("POST /api/v1/namespaces/a/pods?dryRun=All&dryRun=All", "-"),
        ("POST /api/v1/namespaces/a/pods?dryRun=All&dryRun=x", "422 Unsupported value: [\"All\",\"x\"]"),
        ("POST /api/v1/namespaces/a/pods?dryRun=", "422 Unsupported value: [\"\"]"),
        ("POST /api/v1/namespaces/a/pods?fieldValidation=Strict&fieldValidation=x", "-"),
    ]);
}

#[test]
fn verbs_look_at_their_own_options() {
    rows(&[
        ("GET /api/v1/pods?dryRun=x&fieldManager=%07&gracePeriodSeconds=x", "-"),
        ("GET /api/v1/namespaces/a/pods/p?limit=x&labelSelector=%3D&watch=1", "-"),
        ("POST /api/v1/namespaces/a/pods?limit=x&force=1&export=1", "-"),
        ("PUT /api/v1/namespaces/a/pods/p?force=1&limit=x", "-"),
        ("DELETE /api/v1/namespaces/a/pods/p?limit=x&fieldValidation=x", "-"),
        ("DELETE /api/v1/namespaces/a/pods?limit=x", "400 parsing \"x\""),
        ("DELETE /api/v1/namespaces/a/pods?gracePeriodSeconds=x", "400 parsing \"x\""),
        ("GET /api/v1/namespaces/a/pods/p/exec?limit=x&ports=x", "-"),
        ("GET /api/v1/namespaces/a/pods/p/proxy/x?limit=x&ports=x&dryRun=", "400 dryRun is not supported"),
        ("GET /version?limit=x&dryRun=x", "-"),
        ("GET /apis/metrics.k8s.io/v1beta1/pods?limit=x", "-"),
        ("HEAD /api/v1/pods?limit=x", "-"),
    ]);
}

#[test]
fn what_the_server_judges_by_its_state_or_its_gates_is_left_to_it() {
    rows(&[
        ("GET /api/v1/pods?continue=abc", "-"),
        ("GET /api/v1/pods?continue=abc&resourceVersion=x", "-"),
        ("GET /api/v1/pods?watch=1&resourceVersion=abc", "-"),
        ("GET /api/v1/namespaces/a/pods/p?resourceVersion=abc", "-"),
        ("GET /api/v1/pods?shardSelector=x", "-"),
        ("GET /api/v1/pods?watch=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan", "-"),
        ("GET /api/v1/namespaces/a/pods/p/log?stream=x", "-"),
        ("GET /api/v1/componentstatuses?resourceVersion=abc", "-"),
        ("GET /apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.driver%3Dx", "-"),
        ("GET /apis/resource.k8s.io/v1/resourceclaims?fieldSelector=spec.new%3Dx", "-"),
    ]);
}

#[test]
fn a_watch_of_one_object_names_no_other() {
    rows(&[
        ("GET /api/v1/watch/namespaces/a/pods/p?fieldSelector=metadata.name%3Dp", "-"),
        (
            "GET /api/v1/watch/namespaces/a/pods/p?fieldSelector=metadata.name%3Dq",
            "400 doesn't match requested name",
        ),
        (
            "GET /api/v1/watch/namespaces/a/pods/p?fieldSelector=spec.nodeName%3Dq",
            "400 doesn't match requested name",
        ),
        ("GET /api/v1/watch/namespaces/a/pods?fieldSelector=metadata.name%3Dq", "-"),
        ("GET /api/v1/namespaces/a/pods?watch=1&fieldSelector=metadata.name%3Dq", "-"),
    ]);
}

#[test]
fn times_are_read_as_go_reads_them() {
    for (value, fault) in [
        ("2026-01-01T00:00:00Z", None),
        ("2026-01-01T0:00:00Z", None),
        ("2026-01-01T00:00:00,5Z", None),
        ("2024-02-29T23:59:59.999999999+24:60", None),
        ("2026-02-29T00:00:00Z", Some("day out of range")),
        ("2026-00-01T00:00:00Z", Some("month out of range")),
        ("2026-01-00T00:00:00Z", Some("day out of range")),
        ("2026-01-01T24:00:00Z", Some("hour out of range")),
        ("2026-01-01T00:60:00Z", Some("minute out of range")),
        ("2026-01-01T00:00:60Z", Some("second out of range")),
        ("2026-01-01T00:00:00+00:61", Some("time zone offset minute out of range")),
        ("2026-01-01T00:00:00.Z", Some("cannot parse \".Z\" as \"Z07:00\"")),
        ("26-01-01T00:00:00Z", Some("cannot parse \"26-01-01T00:00:00Z\" as \"2006\"")),
        ("2026-1-01T00:00:00Z", Some("cannot parse \"1-01T00:00:00Z\" as \"01\"")),
        ("2026-01-01t00:00:00Z", Some("cannot parse \"t00:00:00Z\" as \"T\"")),
        ("2026-01-01T00:00:00Z ", Some("extra text: \" \"")),
    ] {
        let said = time::fault(value);
        assert_eq!(said.is_some(), fault.is_some(), "{value}: {said:?}");
        assert!(said.unwrap_or_default().contains(fault.unwrap_or_default()), "{value}");
    }
}

#[test]
fn parameters_without_a_meaning_are_told_where_that_is_asked_for() {
    let told = |line: &str, mode| {
        let mut config = Config::default();
        config.parts[Part::UnknownParameters as usize] = mode;
        let (asked, headers) = request(line, None, None);
        verdict_with(config, &asked, &headers, crate::validate::catalog::Lookup::Unsure, "")
    };
    for (line, unknown) in [
        ("GET /api/v1/pods?limit=1&pretty=1&timeout=5s&shardSelector=x", ""),
        ("GET /api/v1/pods?labelselector=a", "unknown parameter \"labelselector\""),
        ("GET /api/v1/pods?dryRun=All", "unknown parameter \"dryRun\""),
        ("GET /api/v1/namespaces/a/pods/p?resourceVersion=0&export=0", ""),
        ("GET /api/v1/namespaces/a/pods/p?watch=1", "unknown parameter \"watch\""),
        ("POST /api/v1/namespaces/a/pods?fieldManager=x&fieldValidation=Strict&dryRun=All", ""),
        ("PUT /api/v1/namespaces/a/pods/p?dry-run=All", "unknown parameter \"dry-run\""),
        ("DELETE /api/v1/namespaces/a/pods/p?cascade=true", "unknown parameter \"cascade\""),
        ("DELETE /api/v1/namespaces/a/pods?labelSelector=a&dryRun=All&watch=0", ""),
        ("GET /api/v1/namespaces/a/pods/p/log?tail=1", "unknown parameter \"tail\""),
        ("GET /api/v1/namespaces/a/pods/p/exec?command=a&command=b&stdin=1&tty=1", ""),
        ("GET /api/v1/namespaces/a/services/s/proxy/?anything=x", ""),
        ("GET /version?anything=x", ""),
    ] {
        let found = told(line, Mode::Warn).unwrap();
        assert_eq!(found.first().map_or("", |found| found.text.as_str()), unknown, "{line}");
        assert_eq!(told(line, Mode::Enforce).is_err(), !unknown.is_empty(), "{line}");
        assert!(told(line, Mode::Off).unwrap().is_empty(), "{line}");
    }
    let long = format!("GET /api/v1/pods?{}=1", "x".repeat(100));
    let found = told(&long, Mode::Warn).unwrap();
    assert!(found[0].text.len() < 80, "{found:?}");
}

proptest! {
    /// As the standard library's, on what both take.
    #[test]
    fn numbers_are_those_that_rust_takes(text in "[-+]?[0-9a-z_ ]{0,21}") {
        let ours = read::int64(Some(&text)).map(|number| number.unwrap()).ok();
        prop_assert_eq!(ours, text.parse::<i64>().ok());
        let digits = text.trim_start_matches(['-', '+']);
        prop_assert_eq!(read::unsigned(digits, u64::MAX).ok(), digits.parse::<u64>().ok());
    }

    #[test]
    fn times_never_panic(text in "\\PC{0,40}", like in "[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}.[0-9]{1,2}:[0-9]{2}:[0-9]{2}\\PC{0,7}") {
        let _ = (time::fault(&text), time::fault(&like));
    }

    /// Whatever stands in a query, nothing panics, and what is refused has a code that kube-apiserver gives.
    #[test]
    fn queries_never_panic(
        query in "((limit|watch|fieldSelector|labelSelector|dryRun|resourceVersionMatch|export|includeObject|sinceTime|ports)=[a-z0-9=,!()%.&]{0,12}&?){0,4}",
        line in prop::sample::select(vec![
            "GET /api/v1/pods",
            "GET /api/v1/namespaces/a/pods/p",
            "DELETE /api/v1/namespaces/a/pods",
            "PUT /api/v1/namespaces/a/pods/p",
            "GET /api/v1/namespaces/a/pods/p/log",
            "POST /api/v1/namespaces/a/pods/p/portforward",
        ]),
        accept in "\\PC{0,30}",
    ) {
        let escaped = query.replace('%', "%25");
        let said = refusal(&format!("{line}?{escaped}"), Some(&accept).filter(|a| a.is_ascii()).map(|a| &**a), None, "");
        if let Some(said) = said {
            prop_assert!(["400", "406", "422"].iter().any(|code| said.starts_with(code)), "{}", said);
        }
    }
}

use super::{
    super::mapping::{self, Identity},
    *,
};
use serde_json::json;
use std::path::Path;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
const ISSUER: &str = "issuer: {url: 'https://a.example', audiences: [x]}";
const MAPPINGS: &str = "claimMappings: {username: {claim: sub, prefix: ''}}";

fn parse(text: &str) -> Result<AuthenticationConfiguration, Vec<String>> {
    AuthenticationConfiguration::parse(text, &["https://cluster.example".to_owned()])
}

/// A file with these entries.
fn file(entries: &[&str]) -> String {
    let entries: String = entries.iter().map(|entry| format!("- {{{entry}}}\n")).collect();
    format!("{HEAD}jwt:\n{entries}")
}

/// `text` has these errors, which begin so, in this order.
fn refused(text: &str, want: &[&str]) {
    let got = parse(text).map(|_| ()).expect_err(text);
    let same = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| got.starts_with(want));
    assert!(same, "{text}\n{got:#?}\n{want:#?}");
}

/// So does an entry, without `jwt[0].` before each.
fn entry_refused(entry: &str, want: &[&str]) {
    let want: Vec<String> = want.iter().map(|want| format!("jwt[0].{want}")).collect();
    refused(&file(&[entry]), &want.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_file_is_one_document_of_its_kind() {
    let rows: &[(&str, &[&str])] = &[
        ("", &["the file is empty"]),
        ("# nothing\n---\n", &["the file is empty"]),
        ("- a", &["expected a mapping", "apiVersion: expected one of", "kind: expected Auth"]),
        ("a: [", &["line 1, "]),
        ("kind: a\nkind: b", &["line 2, column 1: duplicate mapping key"]),
        (&format!("{HEAD}---\n{HEAD}"), &["line 4: expected one document, found a second"]),
        (
            "apiVersion: apiserver.config.k8s.io/v2\nkind: AuthorizationConfiguration",
            &[
                "apiVersion: expected one of apiserver.config.k8s.io/v1, apiserver.config.k8s.io/v1beta1, ",
                "kind: expected AuthenticationConfiguration",
            ],
        ),
        (
            "apiVersion: v1\nkind: 1",
            &["apiVersion: expected one of", "kind: expected a string", "kind: expected Auth"],
        ),
        (
            &format!("{HEAD}JWT: []"),
            &["JWT: unknown field, expected one of apiVersion, kind, jwt, anonymous"],
        ),
        (&format!("{HEAD}jwt: {{}}"), &["jwt: expected a list"]),
        (
            &format!("{HEAD}jwt: [null, a]"),
            &[
                "jwt[0]: expected a mapping",
                "jwt[1]: expected a mapping",
                "jwt[0].issuer.url: is missing",
                "jwt[0].issuer.audiences: expected at least one",
                "jwt[0].claimMappings.username: expected claim or expression",
                "jwt[1].issuer.url: is missing",
                "jwt[1].issuer.audiences: expected at least one",
                "jwt[1].claimMappings.username: expected claim or expression",
            ],
        ),
        (&format!("{HEAD}jwt: [{}]", "{}, ".repeat(65)), &["jwt: 65 issuers are more than the allowed 64"]),
    ];
    for (text, want) in rows {
        refused(text, want);
    }
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let text = format!("\u{feff}{}", HEAD.replace("/v1", &format!("/{version}")));
        let read = parse(&text).unwrap();
        assert_eq!((read.issuers.len(), read.anonymous, read.warnings.len()), (0, None, 0), "{version}");
    }
}

#[test]
fn anonymous_has_conditions_only_when_it_is_on() {
    let read = |text: &str| parse(&format!("{HEAD}anonymous: {text}"));
    let anonymous = |text: &str| read(text).unwrap().anonymous.unwrap();
    assert_eq!(anonymous("{}"), Anonymous { enabled: false, paths: vec![] });
    assert_eq!(anonymous("{enabled: true, conditions: []}"), Anonymous { enabled: true, paths: vec![] });
    let open = read("{enabled: true, conditions: [{path: /livez}, {path: livez}]}").unwrap();
    assert_eq!(open.anonymous.unwrap().paths, ["/livez", "livez"]);
    assert_eq!(
        open.warnings,
        ["anonymous.conditions[1].path: no request has such a path, they begin with /"]
    );
    assert_eq!(read("null").unwrap().anonymous, None);
    let rows: &[(&str, &[&str])] = &[
        ("true", &["anonymous: expected a mapping"]),
        ("{enabled: 1}", &["anonymous.enabled: expected true or false"]),
        ("{conditions: [{path: /}]}", &["anonymous.conditions: only goes with enabled: true"]),
        ("{enabled: true, conditions: [{paths: /}]}", &["anonymous.conditions[0].paths: unknown field"]),
    ];
    for (text, want) in rows {
        refused(&format!("{HEAD}anonymous: {text}"), want);
    }
}

#[test]
fn an_issuer_is_where_tokens_come_from_and_whom_they_are_for() {
    let rows: &[(&str, &[&str])] = &[
        ("{}", &["url: is missing", "audiences: expected at least one"]),
        ("{url: '', audiences: []}", &["url: is missing", "audiences: expected at least one"]),
        (
            "{url: 1, audiences: x}",
            &[
                "url: expected a string",
                "url: is missing",
                "audiences: expected a list",
                "audiences: expected at least one",
            ],
        ),
        ("{url: 'http://a', audiences: [x]}", &["url: expected a URL that begins with https://"]),
        ("{url: 'a.example', audiences: [x]}", &["url: expected a URL that begins with https://"]),
        ("{url: 'https://', audiences: [x]}", &["url: expected a URL such as https://"]),
        ("{url: 'https://a b', audiences: [x]}", &["url: expected a URL such as https://"]),
        (
            "{url: 'https://u:hunter2@a', audiences: [x]}",
            &["url: expected a URL without a user name or password"],
        ),
        ("{url: 'https://a?b', audiences: [x]}", &["url: expected a URL without a query"]),
        ("{url: 'https://a#b', audiences: [x]}", &["url: expected a URL without a fragment"]),
        (
            "{url: 'https://cluster.example', audiences: [x]}",
            &["url: is an issuer of service account tokens"],
        ),
        (
            "{url: 'https://a', discoveryURL: 'https://a/', audiences: [x]}",
            &["discoveryURL: expected another URL than url"],
        ),
        (
            "{url: 'https://a', discoveryURL: 'http://b?c', audiences: [x]}",
            &[
                "discoveryURL: expected a URL that begins with https://",
                "discoveryURL: expected a URL without a query",
            ],
        ),
        (
            "{url: 'https://a', audiences: [x, '', 1, x], audienceMatchPolicy: MatchAll}",
            &[
                "audiences[1]: expected text",
                "audiences[2]: expected text",
                "audiences[3]: stands here twice",
                "audienceMatchPolicy: expected MatchAny",
            ],
        ),
        (
            "{url: 'https://a', audiences: [x, z]}",
            &["audienceMatchPolicy: expected MatchAny, since there are several audiences"],
        ),
        (
            "{url: 'https://a', audiences: [x], audienceMatchPolicy: matchany}",
            &["audienceMatchPolicy: expected MatchAny"],
        ),
        (
            "{url: 'https://a', audiences: [x], certificateAuthority: hello}",
            &["certificateAuthority: no certificate found, expected PEM blocks \"BEGIN CERTIFICATE\""],
        ),
        (
            "{url: 'https://a', audiences: [x], certificateAuthority: \"-----BEGIN CERTIFICATE-----\\nAAEC\\n-----END CERTIFICATE-----\\n\"}",
            &["certificateAuthority: certificate 1: "],
        ),
        (
            "{url: 'https://a', audiences: [x], egressSelectorType: cluster}",
            &["egressSelectorType: not supported"],
        ),
        (
            "{url: 'https://a', audiences: [x], Url: b}",
            &["Url: unknown field, expected one of url, discoveryURL, "],
        ),
    ];
    for (issuer, want) in rows {
        // Unknown fields are noticed first.
        let want: Vec<String> = want.iter().map(|want| format!("issuer.{want}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        entry_refused(&format!("issuer: {issuer}, {MAPPINGS}"), &want);
    }
    let read = parse(&file(&[&format!(
        "issuer: {{url: 'https://a/b/', discoveryURL: 'https://[::1]:8443/c', audiences: [x, z], audienceMatchPolicy: MatchAny}}, {MAPPINGS}"
    )]))
    .unwrap();
    let issuer = &read.issuers[0];
    assert_eq!(issuer.url, "https://a/b/");
    assert_eq!(issuer.discovery_url.as_deref(), Some("https://[::1]:8443/c"));
    assert_eq!(issuer.audiences, ["x", "z"]);
    assert!(issuer.certificate_authority.is_none());
}

#[test]
fn no_two_issuers_are_the_same() {
    let entry = |url: &str, discovery: &str| {
        format!("issuer: {{url: '{url}', discoveryURL: '{discovery}', audiences: [x]}}, {MAPPINGS}")
    };
    let (a, b, c) =
        (entry("https://a", "https://d"), entry("https://b", "https://d"), entry("https://a", ""));
    refused(
        &file(&[&a, &b, &c]),
        &["jwt[1].issuer.discoveryURL: stands here twice", "jwt[2].issuer.url: stands here twice"],
    );
    // A slash at the end makes another issuer, as in the tokens.
    assert_eq!(parse(&file(&[&a, &entry("https://a/", "")])).unwrap().issuers.len(), 2);
}

#[cfg(feature = "demo")]
#[test]
fn a_certificate_authority_stands_inside() {
    let (one, two) = (crate::demo::pki::Ca::new("one").unwrap(), crate::demo::pki::Ca::new("two").unwrap());
    let pem = serde_json::Value::from(format!("{}{}", one.pem(), two.pem()));
    let entry =
        format!("issuer: {{url: 'https://a', audiences: [x], certificateAuthority: {pem}}}, {MAPPINGS}");
    let read = parse(&file(&[&entry])).unwrap();
    assert_eq!(read.issuers[0].certificate_authority.as_ref().unwrap().len(), 2);
}

#[test]
fn a_value_comes_from_a_claim_or_an_expression() {
    let rows: &[(&str, &[&str])] = &[
        ("{}", &["username: expected claim or expression"]),
        ("{username: {}}", &["username: expected claim or expression"]),
        ("{username: {claim: sub}}", &["username.prefix: is missing, expected text or \"\" for none"]),
        ("{username: {claim: sub, prefix: null}}", &["username.prefix: is missing"]),
        (
            "{username: {claim: sub, expression: claims.sub}}",
            &["username: expected either claim or expression, found both"],
        ),
        ("{username: {expression: claims.sub, prefix: ''}}", &["username.prefix: only goes with claim"]),
        ("{username: {claim: sub, prefix: '', groups: a}}", &["username.groups: unknown field"]),
        ("{username: {claim: sub, prefix: ''}, groups: {claim: a}}", &["groups.prefix: is missing"]),
        (
            "{username: {claim: sub, prefix: ''}, uid: {claim: a, prefix: b}}",
            &["uid.prefix: unknown field, expected one of claim, expression"],
        ),
        (
            "{username: {claim: sub, prefix: ''}, uid: {claim: a, expression: claims.b}}",
            &["uid: expected either claim or expression, found both"],
        ),
        ("{username: {expression: 'claims.sub +'}}", &["username.expression: "]),
        ("{username: {expression: '1'}}", &["username.expression: "]),
        ("{username: {expression: user.username}}", &["username.expression: "]),
        (
            "{username: {expression: claims.email}}",
            &["username.expression: uses claims.email, so expected claims.email_verified"],
        ),
        (
            "{username: {expression: claims.email}, groups: {expression: 'claims.email_verified ? claims.groups : []'}}",
            &["username.expression: uses claims.email, so expected claims.email_verified"],
        ),
    ];
    for (mappings, want) in rows {
        let want: Vec<String> = want.iter().map(|want| format!("claimMappings.{want}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        entry_refused(&format!("{ISSUER}, claimMappings: {mappings}"), &want);
    }
    let mapped = |mappings: &str| {
        let text = file(&[&format!("{ISSUER}, claimMappings: {mappings}")]);
        let mut read = parse(&text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
        (read.issuers.remove(0), read.warnings)
    };
    let (issuer, _) = mapped(
        "{username: {claim: sub, prefix: 'p:'}, groups: {claim: g, prefix: ''}, uid: {claim: u}, extra: []}",
    );
    let is = |mapping: &TextMapping, want: (&str, &str)| match mapping {
        TextMapping::Claim { claim, prefix } => (claim.as_str(), prefix.as_str()) == want,
        TextMapping::Expression(_) => false,
    };
    assert!(is(&issuer.username, ("sub", "p:")));
    assert!(is(&issuer.groups.unwrap(), ("g", "")) && is(&issuer.uid.unwrap(), ("u", "")));
    let (issuer, warnings) = mapped("{username: {claim: sub, prefix: ''}, groups: {prefix: a}}");
    assert!(issuer.groups.is_none() && issuer.uid.is_none() && issuer.extra.is_empty());
    assert_eq!(warnings, ["jwt[0].claimMappings.groups.prefix: has no effect without claim"]);
    let (issuer, _) = mapped(
        "{username: {expression: claims.sub}, groups: {expression: claims.roles}, uid: {expression: claims.sub}, \
         extra: [{key: example.com/a, valueExpression: claims.a}]}",
    );
    assert!(matches!(issuer.username, TextMapping::Expression(_)));
    assert!(matches!(issuer.groups, Some(TextMapping::Expression(_))));
    assert!(matches!(issuer.uid, Some(TextMapping::Expression(_))));
    assert_eq!(issuer.extra[0].0, "example.com/a");
    // Where else the address may be seen to be verified.
    mapped("{username: {expression: 'claims.email_verified ? claims.email : \"\"'}}");
    mapped(
        "{username: {expression: 'claims.?email.orValue(claims.?email_verified.orValue(false) ? \"a\" : \"b\")'}}",
    );
    mapped(
        "{username: {expression: claims.email}, extra: [{key: a.b/c, valueExpression: string(claims.email_verified)}]}",
    );
    parse(&file(&[&format!(
        "{ISSUER}, claimMappings: {{username: {{expression: claims.email}}}}, \
         claimValidationRules: [{{expression: 'claims.email_verified == true'}}]"
    )]))
    .unwrap();
}

#[test]
fn an_extra_key_is_below_a_domain_of_ones_own() {
    let shape = "expected a path below a domain such as example.com/team";
    let theirs = "k8s.io, kubernetes.io and what is below them are Kubernetes' own";
    let domain = "expected a domain such as example.com before the first /";
    for (key, want) in [
        ("''", shape),
        ("team", shape),
        ("/team", shape),
        ("example.com/", shape),
        ("Example.com/team", "expected lower case"),
        ("example.com/Team", "expected lower case"),
        ("example_com/team", domain),
        ("-a/team", domain),
        ("example.com/a b", "expected the characters of a URL's path behind the first /"),
        ("k8s.io/a", theirs),
        ("authentication.kubernetes.io/credential-id", theirs),
        ("gatelog.dev/a", "gatelog.dev/ is the gate's own"),
    ] {
        entry_refused(
            &format!(
                "{ISSUER}, claimMappings: {{username: {{claim: sub, prefix: ''}}, extra: [{{key: {key}, valueExpression: claims.a}}]}}"
            ),
            &[&format!("claimMappings.extra[0].key: {want}")],
        );
    }
    let extra = |extra: &str| {
        format!("{ISSUER}, claimMappings: {{username: {{claim: sub, prefix: ''}}, extra: [{extra}]}}")
    };
    entry_refused(
        &extra(
            "{key: a.b/c, valueExpression: claims.a}, {key: a.b/c}, {key: a.b/d}, {key: a.b/e, valueExpression: '('}",
        ),
        &[
            "claimMappings.extra[1].key: stands here twice",
            "claimMappings.extra[2].valueExpression: is missing",
            "claimMappings.extra[3].valueExpression: ",
        ],
    );
    for key in ["notk8s.io/a", "a/b/c", "kubernetes.io.example/a", "a.b/%!$&'()*+,;=:~._-"] {
        let key = serde_json::Value::from(key);
        let read = parse(&file(&[&extra(&format!("{{key: {key}, valueExpression: claims.a}}"))])).unwrap();
        assert_eq!(serde_json::Value::from(read.issuers[0].extra[0].0.clone()), key);
    }
}

#[test]
fn rules_are_claims_or_expressions() {
    let rows: &[(&str, &[&str])] = &[
        (
            "claimValidationRules: [{}, {claim: a, expression: b}, {claim: a, message: b}, {claim: a}]",
            &[
                "claimValidationRules[0]: expected claim or expression",
                "claimValidationRules[1]: expected either claim or expression, found both",
                "claimValidationRules[2].message: only goes with expression",
                "claimValidationRules[3].claim: stands here twice",
            ],
        ),
        (
            "claimValidationRules: [{expression: 'claims.a == 1', requiredValue: b}, {expression: 'claims.a == 1'}, {expression: claims.}, {expression: '1'}]",
            &[
                "claimValidationRules[0].requiredValue: only goes with claim",
                "claimValidationRules[1].expression: stands here twice",
                "claimValidationRules[2].expression: ",
                "claimValidationRules[3].expression: ",
            ],
        ),
        (
            "userValidationRules: [{}, {expression: 'user.username != \"\"'}, {expression: 'user.username != \"\"'}, {expression: claims.a}, {claim: a}]",
            &[
                "userValidationRules[4].claim: unknown field, expected one of expression, message",
                "userValidationRules[0].expression: is missing",
                "userValidationRules[2].expression: stands here twice",
                "userValidationRules[3].expression: ",
                "userValidationRules[4].expression: is missing",
            ],
        ),
    ];
    for (rules, want) in rows {
        entry_refused(&format!("{ISSUER}, {MAPPINGS}, {rules}"), want);
    }
    let read = parse(&file(&[&format!(
        "{ISSUER}, {MAPPINGS}, claimValidationRules: [{{claim: hd, requiredValue: example.com}}, {{claim: empty}}, \
         {{expression: 'claims.a == \"b\"', message: no a}}], userValidationRules: [{{expression: '!user.username.startsWith(\"system:\")'}}]"
    )]))
    .unwrap();
    let issuer = &read.issuers[0];
    let required = |rule: &ClaimRule, want: (&str, &str)| match rule {
        ClaimRule::Required { claim, value } => (claim.as_str(), value.as_str()) == want,
        ClaimRule::Rule(_) => false,
    };
    assert!(required(&issuer.claim_rules[0], ("hd", "example.com")));
    assert!(required(&issuer.claim_rules[1], ("empty", "")));
    assert!(matches!(&issuer.claim_rules[2], ClaimRule::Rule(rule) if rule.message == "no a"));
    assert_eq!(issuer.user_rules[0].message, "");
}

#[test]
fn everything_is_reported_at_once() {
    refused(
        &format!(
            "{HEAD}extra: 1\njwt:\n- issuer: {{}}\n  claimMappings: {{username: {{claim: a}}, extra: [{{}}]}}\n  \
             claimValidationRules: [{{}}]\n- {ISSUER_BLOCK}\n  claimMappings: 7\nanonymous: {{conditions: [{{path: /}}]}}\n",
            ISSUER_BLOCK = "issuer: {url: 'https://cluster.example', audiences: ['']}",
        ),
        &[
            "extra: unknown field",
            "jwt[0].issuer.url: is missing",
            "jwt[0].issuer.audiences: expected at least one",
            "jwt[0].claimValidationRules[0]: expected claim or expression",
            "jwt[0].claimMappings.username.prefix: is missing",
            "jwt[0].claimMappings.extra[0].key: expected a path",
            "jwt[0].claimMappings.extra[0].valueExpression: is missing",
            "jwt[1].issuer.url: is an issuer of service account tokens",
            "jwt[1].issuer.audiences[0]: expected text",
            "jwt[1].claimMappings: expected a mapping",
            "jwt[1].claimMappings.username: expected claim or expression",
            "anonymous.conditions: only goes with enabled: true",
        ],
    );
}

#[test]
fn no_error_repeats_a_password() {
    let text = file(&[&format!(
        "issuer: {{url: 'https://u:hunter2@a', discoveryURL: 'http://u:hunter2@b?hunter2', audiences: [x]}}, {MAPPINGS}"
    )]);
    let errors = parse(&text).unwrap_err().join("\n");
    assert!(!errors.contains("hunter2"), "{errors}");
}

/// Whom a shipped file makes of a token's claims.
fn identified(file: &str, issuer: usize, claims: &serde_json::Value) -> Result<Identity, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/authentication").join(file);
    let read = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(read.warnings, [""; 0], "{file}");
    mapping::identity(&read.issuers[issuer], claims.as_object().unwrap())
}

/// `claims` with one of them replaced, or taken out.
fn but(claims: &serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
    let mut claims = claims.clone();
    let fields = claims.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(name)
    } else {
        fields.insert(name.to_owned(), value)
    };
    claims
}

#[test]
fn the_shipped_files_say_what_their_comments_say() {
    let person = json!({
        "sub": "0b7e", "email": "jane@example.com", "email_verified": true, "groups": ["shop-team", "system:masters"],
    });
    let jane = identified("oidc.yaml", 0, &person).unwrap();
    assert_eq!((&*jane.name, &*jane.uid), ("jane@example.com", "0b7e"));
    assert_eq!(jane.groups, ["oidc:shop-team", "oidc:system:masters"]);
    for (name, value) in [
        ("email_verified", json!(false)),
        ("email_verified", json!("true")),
        ("email_verified", json!(null)),
        ("email", json!("jane@example.org")),
        ("email", json!(null)),
    ] {
        let refused = identified("oidc.yaml", 0, &but(&person, name, value.clone()));
        assert!(refused.is_err(), "{name} {value}");
    }

    let run = json!({
        "sub": "repo:example-org/shop:ref:refs/heads/main", "repository": "example-org/shop", "repository_owner_id": "1234567",
        "ref": "refs/heads/main", "event_name": "push", "run_id": "42", "actor": "jane", "jti": "j",
    });
    let job = identified("ci-workload-identity.yaml", 0, &run).unwrap();
    assert_eq!(job.name, "github:example-org/shop:refs/heads/main");
    assert_eq!(job.groups, ["ci:github", "ci:github:example-org/shop"]);
    assert_eq!(
        (&*job.extra["ci.example.com/run"][0], &*job.extra["ci.example.com/actor"][0]),
        ("42", "jane")
    );
    assert!(identified("ci-workload-identity.yaml", 0, &but(&run, "ref", json!("refs/tags/v1.2"))).is_ok());
    for (name, value) in [
        ("repository_owner_id", json!("7")),
        ("repository_owner_id", json!(1_234_567)),
        ("repository", json!("example-org/other")),
        ("repository", json!(null)),
        ("ref", json!("refs/heads/main2")),
        ("ref", json!("refs/pull/1/merge")),
        ("event_name", json!("pull_request_target")),
        ("event_name", json!(null)),
    ] {
        let refused = identified("ci-workload-identity.yaml", 0, &but(&run, name, value.clone()));
        assert!(refused.is_err(), "{name} {value}");
    }

    let pipeline = json!({
        "sub": "project_path:example-group/shop:ref_type:branch:ref:main", "project_path": "example-group/shop",
        "namespace_id": "7654321", "ref": "main", "ref_protected": "true", "pipeline_source": "push", "pipeline_id": "7",
        "user_login": "jane",
    });
    let job = identified("ci-workload-identity.yaml", 1, &pipeline).unwrap();
    assert_eq!(job.name, "gitlab:example-group/shop:main");
    assert_eq!(job.groups, ["ci:gitlab", "ci:gitlab:example-group/shop"]);
    for (name, value) in [
        ("namespace_id", json!("1")),
        ("project_path", json!("example-group/other")),
        ("ref_protected", json!("false")),
        ("ref_protected", json!(null)),
        ("pipeline_source", json!("merge_request_event")),
    ] {
        let refused = identified("ci-workload-identity.yaml", 1, &but(&pipeline, name, value.clone()));
        assert!(refused.is_err(), "{name} {value}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("{HEAD}jwt: {text}"));
    }
}

use super::*;

const NOTHING: Needs = Needs { rules: false, token_reviews: false };
const ALL: Needs = Needs { rules: true, token_reviews: true };

/// `VERBS RESOURCE[.GROUP],… [names]`, or `VERBS /path,…`; a group for each resource, `_` for the core group.
fn rule(line: &str) -> Rule {
    let words: Vec<&str> = line.split(' ').collect();
    let list = |words: &str| words.split(',').map(str::to_owned).collect::<Vec<_>>();
    let verbs = list(words[0]);
    if words[1].starts_with(['/', '*']) && !words[1].contains('@') {
        return Rule { verbs, non_resource_urls: list(words[1]), ..Rule::default() };
    }
    let (resources, groups) = words[1].split_once('@').unwrap_or((words[1], ""));
    let resource_names = words.get(2).map(|names| list(names)).unwrap_or_default();
    Rule { verbs, api_groups: list(groups), resources: list(resources), resource_names, ..Rule::default() }
}

fn account(everywhere: &[&str], kube_system: &[&str]) -> Rights {
    let rules = |more: &[&str]| everywhere.iter().chain(more).map(|line| rule(line)).collect::<Vec<_>>();
    let namespaces =
        [("default".to_owned(), rules(&[])), ("kube-system".to_owned(), rules(kube_system))].into();
    Rights { namespaces, ..Rights::default() }
}

/// What a gate needs in every configuration.
const ACTING: [&str; 2] = [
    "impersonate users,groups,serviceaccounts@",
    "impersonate uids,userextras/authentication.kubernetes.io/credential-id,userextras/acme.io/team@authentication.k8s.io",
];

#[test]
fn what_is_needed_and_what_everybody_has_is_no_excess() {
    for (more, needs) in [
        (&[][..], NOTHING),
        (&["create selfsubjectaccessreviews,selfsubjectrulesreviews@authorization.k8s.io"], NOTHING),
        (&["create selfsubjectreviews@authentication.k8s.io"], NOTHING),
        (&["get /api,/api/*,/apis/apps,/openapi/v3,/readyz,/version/"], NOTHING),
        (&["get /.well-known/openid-configuration,/openid/v1/jwks"], NOTHING),
        (&["get,list,watch clustertrustbundles@certificates.k8s.io"], NOTHING),
        (&["impersonate users@ alice,bob"], NOTHING),
        (
            &[
                "get,list,watch roles,rolebindings,clusterroles,clusterrolebindings@rbac.authorization.k8s.io",
                "create tokenreviews@authentication.k8s.io",
            ],
            ALL,
        ),
    ] {
        let everything: Vec<&str> = ACTING.iter().chain(more).copied().collect();
        assert_eq!(account(&everything, &[]).against(needs), Findings::default(), "{more:?}");
    }
}

#[test]
fn every_right_beyond_is_told() {
    for (line, needs, told) in [
        ("get,list pods@", NOTHING, &["get, list on pods"][..]),
        ("get secrets@ a,b,c", NOTHING, &["get on secrets named a and 2 more"]),
        ("* *@*", ALL, &["* on *.*"]),
        ("* /*", ALL, &["* on /*"]),
        ("* *", ALL, &["* on *"]),
        ("get /metrics", ALL, &["get on /metrics"]),
        ("get /apis*", ALL, &["get on /apis*"]),
        ("post /api", ALL, &["post on /api"]),
        ("impersonate,get users@", ALL, &["get on users"]),
        ("* users@", ALL, &["* on users"]),
        ("impersonate *@", ALL, &["impersonate on *"]),
        ("impersonate users@*", ALL, &["impersonate on users.*"]),
        ("impersonate users@authentication.k8s.io", ALL, &["impersonate on users.authentication.k8s.io"]),
        ("impersonate nodes@", ALL, &["impersonate on nodes"]),
        (
            "create tokenreviews@authentication.k8s.io",
            NOTHING,
            &["create on tokenreviews.authentication.k8s.io"],
        ),
        ("list roles@rbac.authorization.k8s.io", NOTHING, &["list on roles.rbac.authorization.k8s.io"]),
        ("list,update roles@rbac.authorization.k8s.io", ALL, &["update on roles.rbac.authorization.k8s.io"]),
        ("bind roles@rbac.authorization.k8s.io", ALL, &["bind on roles.rbac.authorization.k8s.io"]),
        ("create pods/exec,pods@", ALL, &["create on pods", "create on pods/exec"]),
        ("create serviceaccounts/token@", ALL, &["create on serviceaccounts/token"]),
        ("get a\u{1b}[2J@", ALL, &["get on \"a\\u{1b}[2J\""]),
    ] {
        let mut held = ACTING.to_vec();
        if needs.rules {
            held.push(
                "list,watch roles,rolebindings,clusterroles,clusterrolebindings@rbac.authorization.k8s.io",
            );
            held.push("create tokenreviews@authentication.k8s.io");
        }
        held.push(line);
        let findings = account(&held, &[]).against(needs);
        assert_eq!(findings.excess, told, "{line}");
        assert!(findings.missing.is_empty(), "{line}: {:?}", findings.missing);
    }
    // Two rules about one thing are one right.
    let findings = account(&[ACTING[0], "get pods@", "list,get pods@"], &[]).against(NOTHING);
    assert_eq!(findings.excess, ["get, list on pods"]);
}

#[test]
fn what_a_role_binding_gives_is_told_with_its_namespace() {
    let findings = account(&ACTING, &["get,list secrets@"]).against(NOTHING);
    assert_eq!(findings.excess, ["get, list on secrets in namespace kube-system"]);
}

#[test]
fn every_right_that_is_missing_is_told() {
    for (held, needs, missing) in [
        (&[][..], NOTHING, &["impersonate on users", "impersonate on groups"][..]),
        (&["impersonate users@"], NOTHING, &["impersonate on groups"]),
        (&["impersonate serviceaccounts@ app", "impersonate groups@ system:authenticated"], NOTHING, &[]),
        (&["impersonate groups@"], NOTHING, &["impersonate on users"]),
        (&["impersonate users,groups@apps"], NOTHING, &["impersonate on users", "impersonate on groups"]),
        (&["* *@*"], ALL, &[]),
        (
            &[ACTING[0], "get,list,watch roles,clusterroles@rbac.authorization.k8s.io", "list *@*"],
            ALL,
            &[
                "list and watch on rolebindings.rbac.authorization.k8s.io",
                "list and watch on clusterrolebindings.rbac.authorization.k8s.io",
                "create on tokenreviews.authentication.k8s.io",
            ],
        ),
    ] {
        assert_eq!(account(held, &[]).against(needs).missing, missing, "{held:?}");
    }
}

#[test]
fn an_answer_that_is_none_grants_nothing() {
    for answer in [
        json!({}),
        json!([]),
        json!({"status": {"resourceRules": "all", "nonResourceRules": [7, null]}}),
        json!({"status": {"resourceRules": [{"verbs": "*", "resources": [1], "apiGroups": null}]}}),
    ] {
        let namespaces = [("default".to_owned(), rules(&answer))].into();
        let rights = Rights { namespaces, ..Rights::default() };
        assert_eq!(rights.against(NOTHING).excess, Vec::<String>::new(), "{answer}");
        assert_eq!(rights.against(NOTHING).missing.len(), 2);
    }
    let answer = json!({"status": {
        "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}], "incomplete": false,
    }});
    assert_eq!(rules(&answer), [rule("get pods@ a"), rule("get /x")]);
}

#[test]
fn a_rule_of_thousands_of_words_is_looked_at_and_no_more() {
    let words = |of: &str| (0..2_000).map(|i| format!("{of}{i}")).collect::<Vec<_>>();
    let rule = Rule {
        verbs: words("v"),
        api_groups: words("g"),
        resources: words("r"),
        resource_names: words("n"),
        ..Rule::default()
    };
    // Eight thousand million rights.
    let rights =
        Rights { namespaces: BTreeMap::from([("default".to_owned(), vec![rule])]), ..Rights::default() };
    let excess = rights.against(Needs::default()).excess;
    assert_eq!(excess.len(), COUNTED / 2_000);
    assert!(excess[0].ends_with(" on r0.g0 named n0 and 1999 more"), "{}", excess[0]);
}

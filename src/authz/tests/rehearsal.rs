//! Rules that are rehearsed, refusals that are only observed.

use super::*;
use crate::rbac::Rules;

/// The candidate of these rules.
fn rules(text: &str) -> Option<Arc<Rules>> {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    rbac::read("test", text, &mut objects, &mut problems);
    assert_eq!(problems, []);
    Some(Rules::new(objects).into())
}

/// Readers of pods in `d`, with names that stay the same.
fn reader(user: &str, verbs: &str) -> String {
    format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: reader, namespace: d}}\nrules: [{{verbs: [{verbs}], apiGroups: [''], resources: [pods, pods/exec]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: readers, namespace: d}}\nsubjects: [{{kind: User, name: '{user}'}}]\nroleRef: {{kind: Role, name: reader}}\n"
    )
}

const POD: &str = "/api/v1/namespaces/d/pods/p";
const EXEC: &str = "/api/v1/namespaces/d/pods/p/exec";

/// Whether it gets a permit, what the candidate says, and the refusal that was observed.
fn rehearsed(authz: &Authz, who: Who, method: &Method, target: &str) -> (bool, Rehearsed, Option<String>) {
    match authz.authorize(who, asked(method.clone(), target), target.ends_with("exec")) {
        Ok(permit) => {
            let observed = match permit.why() {
                Why::Observed(refused) => {
                    assert_eq!(permit.why().to_string(), format!("observed: {}", refused.reason));
                    Some(refused.whole.clone())
                }
                _ => None,
            };
            (true, permit.rehearsed().clone(), observed)
        }
        Err(refused) => (false, refused.rehearsed, None),
    }
}

fn told(said: &Rehearsed) -> String {
    match (said.outcome(), said.difference()) {
        (None, None) => "unasked".to_owned(),
        (Some((true, true)), None) => "both allow".to_owned(),
        (Some((false, false)), None) => "both refuse".to_owned(),
        (Some((true, false)), Some(text)) if text.starts_with("would be refused: ") => text,
        (Some((false, true)), Some(text)) if text.starts_with("would be allowed: ") => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_candidate_is_asked_what_the_rules_are_asked() {
    const NEAR: &str =
        "would be refused: Role d/reader, bound by RoleBinding d/readers, allows get on pods; not delete";
    const NONE: &str = "would be refused: no binding names this user or its groups";
    const BY: &str =
        r#"would be allowed: RBAC: allowed by RoleBinding "readers/d" of Role "reader" to User "bob""#;
    let (wide, narrow, nobody) = (reader("bob", "get, create, delete"), reader("bob", "get"), String::new());
    let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
    // The rules that count, the candidate, who, what; whether it is allowed, what is said of it.
    let rows = [
        (&wide, &wide, "bob", get, POD, true, "both allow"),
        (&wide, &narrow, "bob", get, POD, true, "both allow"),
        (&wide, &narrow, "bob", delete, POD, true, NEAR),
        (&wide, &nobody, "bob", delete, POD, true, NONE),
        (&narrow, &wide, "bob", delete, POD, false, BY),
        (&narrow, &narrow, "bob", delete, POD, false, "both refuse"),
        (&nobody, &wide, "bob", get, POD, false, BY),
        (&wide, &wide, "joe", get, POD, false, "both refuse"),
        // What a stream takes besides is asked as well.
        (&wide, &wide, "bob", get, EXEC, true, "both allow"),
        (
            &wide,
            &narrow,
            "bob",
            post,
            EXEC,
            true,
            "would be refused: Role d/reader, bound by RoleBinding d/readers, allows get on pods/exec; not create; ask for create on pods/exec in namespace d",
        ),
        (
            &wide,
            &narrow,
            "bob",
            get,
            EXEC,
            true,
            "would be refused: opening a stream takes create besides get; Role d/reader, bound by RoleBinding d/readers, allows get on pods/exec; not create; ask for create on pods/exec in namespace d",
        ),
        (&narrow, &wide, "bob", get, EXEC, false, BY),
        (&narrow, &narrow, "bob", get, EXEC, false, "both refuse"),
    ];
    for (counts, candidate, user, method, target, allowed, said) in rows {
        let plain = authz(counts);
        let (had, unasked, _) = rehearsed(&plain, who(&plain, user, &[]), method, target);
        assert_eq!((had, told(&unasked)), (allowed, "unasked".to_owned()));
        let both = authz(counts).with_shadow(rules(candidate));
        let (has, got, _) = rehearsed(&both, who(&both, user, &[]), method, target);
        assert_eq!((has, &*told(&got)), (allowed, said), "{user} {method} {target}");
        // Nothing of it reaches the caller.
        if let (Err(one), Err(other)) = (
            plain.authorize(who(&plain, user, &[]), asked(method.clone(), target), false),
            both.authorize(who(&both, user, &[]), asked(method.clone(), target), false),
        ) {
            assert_eq!(one, Refused { rehearsed: Rehearsed::Unasked, ..other });
        }
    }
    // Masters are masters in both.
    let masters = authz(&wide).with_shadow(rules(&nobody));
    let (_, got, _) = rehearsed(&masters, who(&masters, "root", &[MASTERS]), delete, POD);
    assert_eq!(told(&got), "both allow");
}

#[test]
fn the_candidate_stands_for_the_clusters_rules_as_well() {
    let (wide, narrow) = (reader("bob", "get, delete"), reader("bob", "get"));
    let live = |text: &str| Live::Known(rules(text).unwrap());
    let unknown = Live::Unknown("not listed yet".into());
    // Files, cluster, candidate; whether bob may delete, what is said of it.
    let rows = [
        ("", live(&wide), &*wide, true, "both allow"),
        (
            "",
            live(&wide),
            &narrow,
            true,
            "would be refused: Role d/reader, bound by RoleBinding d/readers, allows get on pods; not delete",
        ),
        (
            &narrow,
            live(&narrow),
            &wide,
            false,
            r#"would be allowed: RBAC: allowed by RoleBinding "readers/d" of Role "reader" to User "bob""#,
        ),
        // What is not known is not compared; what is allowed anyway is.
        ("", unknown.clone(), &wide, false, "unasked"),
        ("", unknown.clone(), &narrow, false, "unasked"),
        (&wide, unknown.clone(), &wide, true, "both allow"),
    ];
    for (files, cluster, candidate, allowed, said) in rows {
        let both = authz(files).with_cluster(cluster).with_shadow(rules(candidate));
        let (has, got, _) = rehearsed(&both, who(&both, "bob", &[]), &Method::DELETE, POD);
        assert_eq!((has, &*told(&got)), (allowed, said));
    }
    let both = authz("").with_cluster(unknown).with_shadow(rules(&anybody_text()));
    let refused = both.impersonate(proven("imp", &[]), &mut headers("impersonate-user: joe")).unwrap_err();
    assert_eq!((refused.status.code, told(&refused.rehearsed)), (503, "unasked".to_owned()));
}

fn anybody_text() -> String {
    grant("imp", "", "verbs: [impersonate], apiGroups: ['*'], resources: ['*']")
}

#[test]
fn impersonation_is_one_decision() {
    let only =
        |what: &str| grant("imp", "", &format!("verbs: [impersonate], apiGroups: [''], resources: [{what}]"));
    let (all, users, groups, none) = (anybody_text(), only("users"), only("groups"), String::new());
    const TWO: &str = "impersonate-user: joe; impersonate-group: dev";
    // The rules that count, the candidate, the headers; whether it is allowed, how what is said of it begins.
    let rows = [
        (&all, &all, TWO, true, "both allow"),
        (&all, &users, "impersonate-user: joe", true, "both allow"),
        (&all, &users, TWO, true, "would be refused: Impersonate-Group: dev: no role bound to this user"),
        (
            &all,
            &none,
            TWO,
            true,
            "would be refused: Impersonate-User: joe: no binding names this user or its groups",
        ),
        (
            &users,
            &all,
            TWO,
            false,
            "would be allowed: Impersonate-Group: dev: RBAC: allowed by ClusterRoleBinding ",
        ),
        // Another header is refused, it is refused all the same.
        (&users, &groups, TWO, false, "both refuse"),
        (&none, &users, TWO, false, "both refuse"),
        (&none, &none, TWO, false, "both refuse"),
        (&none, &all, "accept: x", true, "unasked"),
    ];
    for (counts, candidate, text, allowed, said) in rows {
        for mode in [Mode::Enforce, Mode::Observe] {
            let both = authz(counts).with_shadow(rules(candidate)).with_mode(mode);
            let (has, got) = match both.impersonate(proven("imp", &[]), &mut headers(text)) {
                Ok(who) => (true, who.rehearsed().clone()),
                Err(refused) => (false, refused.rehearsed),
            };
            assert_eq!(has, allowed, "{text} {mode:?}");
            assert!(told(&got).starts_with(said), "{text}: {}", told(&got));
        }
    }
    let malformed = authz(&all).with_shadow(rules(&all));
    let refused =
        malformed.impersonate(proven("imp", &[]), &mut headers("impersonate-group: dev")).unwrap_err();
    assert_eq!((refused.status.code, told(&refused.rehearsed)), (400, "unasked".to_owned()));
}

#[test]
fn observing_relaxes_the_last_decision_alone() {
    let (wide, narrow) = (reader("bob", "get, create, delete"), reader("bob", "get"));
    const WHOLE: &str = r#"pods "p" is forbidden: User "bob" cannot delete resource "pods" in API group "" in the namespace "d": Role d/reader, bound by RoleBinding d/readers, allows get on pods; not delete"#;
    let unknown = Live::Unknown("not listed yet".into());
    let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
    // Rules, cluster, candidate, what; what becomes of it when enforcing and when observing, what is observed, what is rehearsed.
    let rows = [
        (&wide, Live::Off, &wide, delete, POD, true, true, "", "both allow"),
        (
            &narrow,
            Live::Off,
            &wide,
            delete,
            POD,
            false,
            true,
            WHOLE,
            "would be allowed: RBAC: allowed by RoleBinding",
        ),
        (&narrow, Live::Off, &narrow, delete, POD, false, true, WHOLE, "both refuse"),
        (&wide, Live::Off, &narrow, delete, POD, true, true, "", "would be refused: Role d/reader"),
        (&narrow, Live::Off, &wide, post, EXEC, false, false, "", "would be allowed"),
        (&narrow, Live::Off, &wide, get, EXEC, false, false, "", "would be allowed"),
        (&wide, Live::Off, &narrow, get, EXEC, true, true, "", "would be refused: opening a stream"),
        (
            &narrow,
            unknown.clone(),
            &wide,
            delete,
            POD,
            false,
            true,
            "pods \"p\" is forbidden: User \"bob\" cannot delete resource \"pods\" in API group \"\" in the namespace \"d\": not listed yet; Role d/reader",
            "unasked",
        ),
        (&narrow, unknown, &wide, get, EXEC, false, false, "", "unasked"),
    ];
    for (counts, cluster, candidate, method, target, enforcing, observing, observed, said) in rows {
        for (mode, allowed) in [(Mode::Enforce, enforcing), (Mode::Observe, observing)] {
            let both =
                authz(counts).with_cluster(cluster.clone()).with_shadow(rules(candidate)).with_mode(mode);
            let (has, got, seen) = rehearsed(&both, who(&both, "bob", &[]), method, target);
            assert_eq!(has, allowed, "{mode:?} {method} {target}");
            assert!(told(&got).starts_with(said), "{mode:?} {method} {target}: {}", told(&got));
            let seen = seen.unwrap_or_default();
            let want = if mode == Mode::Observe { observed } else { "" };
            assert!(seen.starts_with(want) && seen.is_empty() == want.is_empty(), "{seen:?}");
        }
    }
    // Who may not be somebody else is not, and the request is decided as whoever it is.
    let both = authz(&narrow).with_mode(Mode::Observe);
    let refused = both.impersonate(proven("bob", &[]), &mut headers("impersonate-user: root")).unwrap_err();
    assert_eq!(refused.status.code, 403);
    let anybody = anybody().with_mode(Mode::Observe);
    let joe = anybody.impersonate(proven("imp", &[]), &mut headers("impersonate-user: joe")).unwrap();
    let permit = anybody.authorize(joe, asked(Method::DELETE, POD), false).unwrap();
    let Why::Observed(refused) = permit.why() else { panic!("{permit:?}") };
    assert!(refused.whole.contains(r#"User "joe" cannot delete"#), "{}", refused.whole);
    // The bare question is answered as it is.
    let version = Attributes { verb: "get", object: Object::Path("/version") };
    assert!(both.allows(proven("bob", &[]).user(), version).is_err());
}

#[test]
fn what_is_open_stays_open_for_a_right_that_is_only_observed() {
    let (wide, none) = (reader("bob", "get, watch, create"), String::new());
    // What, with or without an upgrade; whether it stays open under rules without it, enforcing and observing.
    let rows = [
        ("/api/v1/namespaces/d/pods?watch=1", false, false, true),
        ("/api/v1/namespaces/d/pods?watch=1", true, false, true),
        (EXEC, true, false, false),
        (EXEC, false, false, false),
    ];
    for (target, upgrade, enforcing, observing) in rows {
        let before = authz(&wide);
        let permit = before.authorize(who(&before, "bob", &[]), asked(Method::GET, target), upgrade).unwrap();
        let right = Right {
            proven: permit.who().proven().user().clone(),
            impersonation: None,
            effective: permit.who().effective().clone(),
            info: permit.asked().info.clone(),
            upgrade,
        };
        for (mode, stays) in [(Mode::Enforce, enforcing), (Mode::Observe, observing)] {
            assert!(authz(&wide).with_mode(mode).still_allows(&right).is_ok());
            assert_eq!(authz(&none).with_mode(mode).still_allows(&right).is_ok(), stays, "{target} {mode:?}");
        }
        // Being somebody else is a right that counts in either mode.
        let impersonation = Impersonation::parse(&headers("impersonate-user: bob")).unwrap();
        let right = Right { proven: proven("imp", &[]).user().clone(), impersonation, ..right };
        let ended = authz(&wide).with_mode(Mode::Observe).still_allows(&right).unwrap_err();
        assert!(ended.starts_with("may no longer send Impersonate-User: bob: "), "{ended}");
    }
}

#[test]
fn a_warning_tells_as_much_as_the_refusal_would() {
    const KUBE: &str = r#"pods "p" is forbidden: User "bob" cannot delete resource "pods" in API group "" in the namespace "d""#;
    const NEAR: &str =
        ": Role d/reader, bound by RoleBinding d/readers, allows get, list on pods; not delete";
    let unknown = Live::Unknown("secret/rules cannot be read".into());
    let rows = [
        (Explain::Own, None, Live::Off, format!("{KUBE}{NEAR}")),
        (Explain::Own, Some("ask ops"), Live::Off, format!("{KUBE}{NEAR} (ask ops)")),
        (Explain::Off, Some("ask ops"), Live::Off, format!("{KUBE} (ask ops)")),
        (
            Explain::Own,
            Some("ask ops"),
            unknown,
            "the cluster's rules are not known at the moment".to_owned(),
        ),
    ];
    for (explain, contact, cluster, want) in rows {
        let rights = telling(explain, contact).with_cluster(cluster).with_mode(Mode::Observe);
        let permit = rights.authorize(who(&rights, "bob", &[]), asked(Method::DELETE, POD), false).unwrap();
        let Why::Observed(refused) = permit.why() else { panic!("{permit:?}") };
        assert_eq!(refused.warning(), format!("would be refused if the rules were enforced: {want}"));
        // The record has it all.
        assert!(refused.whole.contains("Role d/reader"), "{}", refused.whole);
    }
    let rights = telling(Explain::Own, Some("ask ops")).with_mode(Mode::Observe);
    let long = format!("/api/v1/namespaces/d/pods/{}", "é".repeat(3000).replace('é', "%C3%A9"));
    let permit = rights.authorize(who(&rights, "bob", &[]), asked(Method::DELETE, &long), false).unwrap();
    let Why::Observed(refused) = permit.why() else { panic!("{permit:?}") };
    let warning = refused.warning();
    assert!(warning.chars().count() < 1100 && warning.ends_with("é... (ask ops)"), "{warning}");
}

#[test]
fn what_is_enforced_in_either_mode() {
    let enforcing = authz("");
    let observing = authz("").with_mode(Mode::Observe);
    let get = Method::GET;
    let post = Method::POST;
    // What, with or without an upgrade, enforced when observing.
    let rows = [
        (&get, "/api/v1/namespaces/d/pods/p", false, false),
        (&get, "/api/v1/namespaces/d/secrets", false, false),
        (&post, "/api/v1/namespaces/d/pods", false, false),
        (&get, "/metrics", false, false),
        (&get, "/api/v1/pods?watch=1", false, false),
        (&get, "/api/v1/pods?watch=1", true, false),
        (&get, "/api/v1/namespaces/d/pods/p/log?follow=1", true, false),
        (&get, "/api/v1/namespaces/d/pods/p/exec", false, true),
        (&get, "/api/v1/namespaces/d/pods/p/exec", true, true),
        (&post, "/api/v1/namespaces/d/pods/p/exec", false, true),
        (&get, "/api/v1/namespaces/d/pods/p/attach", true, true),
        (&post, "/api/v1/namespaces/d/pods/p/attach", false, true),
        (&get, "/api/v1/namespaces/d/pods/p/portforward", true, true),
        (&post, "/api/v1/namespaces/d/pods/p/portforward", true, true),
        (&get, "/apis/x.example/v1/namespaces/d/vms/v/portforward", true, true),
        (&get, "/api/v1/nodes/n/proxy/pods", false, false),
        (&get, "/api/v1/nodes/n/proxy/exec/d/p/c", true, true),
        (&post, "/api/v1/nodes/n/proxy/run/d/p/c", false, true),
        (&get, "/api/v1/namespaces/d/services/s/proxy/x", false, false),
        (&post, "/api/v1/namespaces/d/services/s/proxy/x", false, false),
        (&get, "/api/v1/namespaces/d/services/s/proxy/x", true, true),
        (&get, "/api/v1/namespaces/d/pods/p/proxy/x", true, true),
        // Called a watch or a log, but whatever answers there decides what it is.
        (&get, "/api/v1/watch/namespaces/d/pods/p/proxy/x", true, true),
        (&get, "/apis/x.example/v1/watch/namespaces/d/vms/v/proxy", true, true),
        (&get, "/apis/x.example/v1/namespaces/d/vms/v/log", true, true),
        (&get, "/apis/x.example/v1/watch/namespaces/d/vms", true, false),
    ];
    for (method, target, upgrade, enforced) in rows {
        let asked = asked(method.clone(), target);
        let question = asked.info.attributes();
        assert!(enforcing.enforces(question, upgrade), "{method} {target}");
        assert_eq!(observing.enforces(question, upgrade), enforced, "{method} {target} {upgrade}");
    }
}

use super::*;
use crate::audit::{Mode, Modes, OnFailure};
use crate::authn::{Algorithm, Anonymous, IssuerSettings, KeysConfig, ReviewBy, ReviewConfig, ReviewTokens};
use std::fs;

/// Enough for the gate to start, in a folder where nothing is.
const LEAST: &str = "\
apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {address: '127.0.0.1:0', tlsCertFile: tls.crt, tlsPrivateKeyFile: tls.key}
upstream: {kubeconfig: upstream.kubeconfig}
authentication: {clientCAFile: ca.crt}
audit: {dir: audit}
";

fn path() -> &'static Path {
    Path::new("/nowhere/gatelog.yaml")
}

/// The configuration's own errors, without those of files that are not there.
fn errors(text: &str) -> Vec<String> {
    let own = |e: &Error| !e.problem.contains("No such file") && !e.problem.contains("this is no pod");
    let errors = parse(path(), text).map(|_| ()).unwrap_err();
    errors.0.iter().filter(|e| own(e)).map(|e| e.to_string().replace("/nowhere/", "")).collect()
}

/// `LEAST` with `section` replaced by, or extended with, a line.
fn with(line: &str) -> String {
    let (section, _) = line.split_once(':').unwrap();
    let rest: Vec<_> = LEAST.lines().filter(|l| !l.starts_with(&format!("{section}:"))).collect();
    format!("{}\n{line}\n", rest.join("\n"))
}

#[test]
fn the_least_is_enough_and_the_rest_is_the_default() {
    let config = parse(path(), LEAST).unwrap();
    assert_eq!(config.tls.cert_file, Path::new("/nowhere/tls.crt"));
    assert_eq!(config.server.listener, server::ListenerConfig::default());
    assert_eq!(config.forward, forward::Config::default());
    assert_eq!(config.limits, limits::Config::default());
    assert_eq!(config.authz, authz::source::Config::default());
    assert_eq!(config.policy, PolicySource::Shipped("recommended".to_owned()));
    assert_eq!((config.server.admin, config.authn.anonymous), (None, None));
    assert_eq!(config.gateway.request_body, 3 << 20);
    let kubeconfig = PathBuf::from("/nowhere/upstream.kubeconfig");
    assert_eq!(config.endpoint, endpoint::Config::Kubeconfig { path: kubeconfig, context: None });
}

#[test]
fn the_reference_names_every_key_with_its_default() {
    let shown = |config: Config| format!("{config:#?}");
    let least = LEAST.replace("'127.0.0.1:0'", "'0.0.0.0:6443'");
    assert_eq!(shown(parse(path(), REFERENCE).unwrap()), shown(parse(path(), &least).unwrap()));
    // What is commented out is known as well, each alternative for itself; with a section comes what is in it.
    let uncommented = |keys: &[&str], less: &[&str]| {
        let mut within = false;
        let mut line = |line: &str| {
            let comment = line.trim_start().strip_prefix("# ").unwrap_or_default();
            within = within && comment.starts_with([' ', '-']);
            within |= keys.iter().any(|key| comment.starts_with(&format!("{key}:")));
            match line.trim_start() {
                _ if within => format!("  {comment}\n"),
                key if less.iter().any(|less| key.starts_with(&format!("{less}:"))) => String::new(),
                _ => format!("{line}\n"),
            }
        };
        REFERENCE.lines().map(&mut line).collect::<String>()
    };
    let spelled_out = [
        "server",
        "certificateAuthority",
        "tlsServerName",
        "insecureSkipTLSVerify",
        "clientCertificate",
        "clientKey",
        "tokenFile",
    ];
    let text = uncommented(&spelled_out, &["kubeconfig"]);
    assert!(matches!(parse(path(), &text).unwrap().endpoint, endpoint::Config::Explicit(_)));
    let text = uncommented(&["inCluster"], &["kubeconfig"]);
    assert_eq!(parse(path(), &text).unwrap().endpoint, endpoint::Config::InCluster);
    let config = parse(path(), &uncommented(&["context", "tokenAuthFile"], &[])).unwrap();
    assert!(matches!(config.endpoint, endpoint::Config::Kubeconfig { context: Some(_), .. }));
    assert!(config.authn.token_auth_file.is_some());
    let text = REFERENCE.replace("# address: 127.0.0.1:9090", "address: 127.0.0.1:9090");
    assert_eq!(parse(path(), &text).unwrap().server.admin, Some(([127, 0, 0, 1], 9090).into()));
    let authn = |text: &str| parse(path(), text).unwrap_or_else(|errors| panic!("{errors}")).authn;
    let all = uncommented(
        &[
            "clientCRLFile",
            "requestheader",
            "serviceAccount",
            "authenticationConfigFile",
            "issuers",
            "tokenReview",
            "anonymous",
        ],
        &[],
    );
    let webhook = all.replace("    upstream: {}\n", "");
    let upstream = all
        .replace("    kubeconfig: webhook.kubeconfig\n    context: name\n", "")
        .replace("2m\n    allowSystemIdentities: false\n", "2m\n");
    assert_eq!(
        authn(&webhook).review.unwrap(),
        ReviewConfig {
            to: ReviewBy::Webhook {
                kubeconfig: "/nowhere/webhook.kubeconfig".into(),
                context: Some("name".to_owned()),
            },
            audiences: Vec::new(),
            cache_ttl: Duration::from_secs(120),
            allow_system_identities: false,
        }
    );
    assert_eq!(authn(&upstream).review.unwrap().to, ReviewBy::Upstream);
    // What the keys show is what they are without being shown.
    let sections = "authentication:\n  requestheader: {clientCAFile: front-proxy-ca.crt}\n  \
                    serviceAccount: {issuers: ['https://kubernetes.default.svc.cluster.local']}\n  \
                    issuers: [{url: 'https://issuer.example.com', signingAlgs: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512]}]\n  \
                    clientCAFile: ca.crt\n  clientCRLFile: revoked.crl\n  authenticationConfigFile: authentication.yaml\n  \
                    tokenReview: {upstream: {}}\n  anonymous: {enabled: true, conditions: [{path: /livez}]}\n";
    let least = LEAST.replace("authentication: {clientCAFile: ca.crt}\n", sections);
    assert_eq!(authn(&upstream), authn(&least));
    let text = uncommented(&["policyFile"], &["policy"]);
    assert!(parse(path(), &text).unwrap_err().0.iter().any(|e| e.key == "audit.policyFile"));
}

#[test]
fn every_error_names_file_key_and_reason() {
    let rows: &[(&str, &[&str])] = &[
        ("", &["gatelog.yaml: the file is empty"]),
        ("# nothing", &["gatelog.yaml: the file is empty"]),
        ("- a", &["gatelog.yaml: expected a mapping with apiVersion, kind, listen, upstream, …"]),
        ("a: 1\n---\nb: 1", &["gatelog.yaml: expected one document, found several"]),
        ("kind: Gateway\nkind: Gateway", &["gatelog.yaml: line 2, column 1: "]),
        ("a: [", &["gatelog.yaml: line 1, "]),
        ("apiVersion: v1\nkind: Config", &["gatelog.yaml: apiVersion: expected gatelog.dev/v1alpha1"]),
    ];
    for (text, want) in rows {
        let got = errors(text);
        assert!(got[0].starts_with(want[0]) && got.len() == 1, "{text:?}: {got:?}");
    }
    let rows: &[(&str, &[&str])] = &[
        ("apiVersion: gatelog.dev/v1", &["apiVersion: expected gatelog.dev/v1alpha1"]),
        ("kind: Config", &["kind: expected Gateway"]),
        ("kind: 1", &["kind: expected text"]),
        ("kind:", &["kind: is missing"]),
        ("logging: {}", &["logging: unknown key"]),
        ("autentication: {}", &["autentication: unknown key, did you mean authentication?"]),
        (
            "listen: a",
            &[
                "listen: expected a mapping",
                "listen.tlsCertFile: is missing",
                "listen.tlsPrivateKeyFile: is missing",
                "listen.address: is missing",
            ],
        ),
        ("upstream: {}", &["upstream: expected exactly one of kubeconfig, inCluster and server"]),
        (
            "upstream: {kubeconfig: a, inCluster: {}}",
            &["upstream: expected exactly one of kubeconfig, inCluster and server"],
        ),
        (
            "upstream: {kubeconfig: a, server: 'https://a'}",
            &["upstream: expected exactly one of kubeconfig, inCluster and server"],
        ),
        ("upstream: {kubeconfig: a, tokenFile: b}", &["upstream.tokenFile: only goes with server"]),
        ("upstream: {inCluster: {a: 1}}", &["upstream.inCluster.a: unknown key"]),
        (
            "upstream: {kubeconfig: a, certificateauthority: b}",
            &["upstream.certificateauthority: unknown key, did you mean certificateAuthority?"],
        ),
        (
            "authentication: {}",
            &["authentication: nobody could authenticate, expected one of clientCAFile, requestheader, "],
        ),
        ("authentication: {anonymous: {enabled: true}}", &["authentication: nobody could authenticate"]),
        (
            "authentication: {keys: {maxAge: 2d}, clientCAFile:}",
            &["authentication: nobody could authenticate"],
        ),
        (
            "authentication: {clientCAFile: a, anonymous: true}",
            &["authentication.anonymous: expected a mapping"],
        ),
        (
            "authentication: {clientCAFile: a, anonymous: {enabled: 'yes!'}}",
            &["authentication.anonymous.enabled: expected true or false"],
        ),
        (
            "authentication: {clientCAFile: a, anonymous: {conditions: [{path: livez, paths: a}, /livez, {}]}}",
            &[
                "authentication.anonymous.conditions[1]: expected a mapping",
                "authentication.anonymous.conditions[0].path: expected a path that begins with /",
                "authentication.anonymous.conditions[0].paths: unknown key, did you mean path?",
                "authentication.anonymous.conditions[2].path: is missing",
                "authentication.anonymous.conditions: only goes with enabled: true",
            ],
        ),
        (
            "authentication: {clientCaFile: a}",
            &[
                "authentication: nobody could",
                "authentication.clientCaFile: unknown key, did you mean clientCAFile?",
            ],
        ),
        (
            "authentication: {clientCRLFile: a, issuers: [], tokenAuthFile: b}",
            &[
                "authentication.clientCRLFile: only goes with clientCAFile or requestheader",
                "authentication.issuers: only goes with authenticationConfigFile",
            ],
        ),
        ("authentication: {requestheader:}", &["authentication.requestheader.clientCAFile: is missing"]),
        (
            "authentication: {requestheader: {clientCAFile: a, allowedNames: b, usernameHeaders: [], uidHeaders: ['a b', X-É, ''], \
             groupHeaders: [Impersonate-Group, X-Remote_Group], extraHeadersPrefix: [Upgrade, X-A-, Auth], allowedName: c}}",
            &[
                "authentication.requestheader.allowedNames: expected a list",
                "authentication.requestheader.uidHeaders[0]: \"a b\" is not a header name",
                "authentication.requestheader.uidHeaders[1]: \"X-É\" is not a header name",
                "authentication.requestheader.uidHeaders[2]: expected text",
                "authentication.requestheader.groupHeaders[0]: \"Impersonate-Group\" means something else",
                "authentication.requestheader.extraHeadersPrefix[0]: \"Upgrade\" means something else",
                "authentication.requestheader.extraHeadersPrefix[2]: \"Auth\" is how \"authorization\" begins, too",
                "authentication.requestheader.usernameHeaders: expected at least one",
                "authentication.requestheader.allowedName: unknown key, did you mean allowedNames?",
            ],
        ),
        (
            "authentication: {serviceAccount: {review: sometimes, keyFiles: [1]}}",
            &[
                "authentication.serviceAccount.issuers: is missing",
                "authentication.serviceAccount.keyFiles[0]: expected text",
                "authentication.serviceAccount.review: \"sometimes\" is none of never, bound, always",
            ],
        ),
        (
            "authentication: {serviceAccount: {issuers: []}}",
            &["authentication.serviceAccount.issuers: expected at least one"],
        ),
        (
            "authentication: {authenticationConfigFile: a, issuers: [{url: b, signingAlgs: [RS256, HS256, none]}, {url: b}, {URL: c}]}",
            &[
                "authentication.issuers[0].signingAlgs[1]: \"HS256\" is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512",
                "authentication.issuers[0].signingAlgs[2]: \"none\" is none of RS256",
                "authentication.issuers[1].url: stands here twice",
                "authentication.issuers[2].url: is missing",
                "authentication.issuers[2].URL: unknown key, did you mean url?",
            ],
        ),
        (
            "authentication: {authenticationConfigFile: a, issuers: {url: b}}",
            &["authentication.issuers: expected a list"],
        ),
        (
            "authorization: {rbac: {cluster: {maxAge: 4s}}}",
            &["authorization.rbac.cluster.maxAge: expected at least 5s"],
        ),
        (
            "authentication: {clientCAFile: a, keys: {refreshInterval: 1h, maxAge: 1m}}",
            &["authentication.keys.maxAge: expected at least refreshInterval"],
        ),
        (
            "authentication: {tokenReview: {}}",
            &["authentication.tokenReview: expected exactly one of upstream and kubeconfig"],
        ),
        (
            "authentication: {tokenReview: {upstream: {}, kubeconfig: a}}",
            &["authentication.tokenReview: expected exactly one of upstream and kubeconfig"],
        ),
        (
            "authentication: {tokenReview: {upstream:, context: a, allowSystemIdentities: true, cacheTTL: 0s}}",
            &[
                "authentication.tokenReview.cacheTTL: expected more than no time at all",
                "authentication.tokenReview.context: only goes with kubeconfig",
                "authentication.tokenReview.allowSystemIdentities: only goes with kubeconfig",
            ],
        ),
        (
            "authentication: {tokenReview: {upstream: {a: 1}, audiences: ['']}}",
            &[
                "authentication.tokenReview.upstream.a: unknown key",
                "authentication.tokenReview.audiences[0]: expected text",
            ],
        ),
        (
            "authentication: {tokenReview: {kubeconfig: [a]}}",
            &["authentication.tokenReview.kubeconfig: expected text"],
        ),
        (
            "authentication: {clientCAFile: a, endTunnelsAtExpiry: 1}",
            &["authentication.endTunnelsAtExpiry: expected true"],
        ),
        ("authorization: {rbac: {files: a}}", &["authorization.rbac.files: expected a list"]),
        ("authorization: {rbac: {files: [1]}}", &["authorization.rbac.files[0]: expected text"]),
        ("authorization: {explain: all}", &["authorization.explain: \"all\" is none of off, own, full"]),
        (
            "authorization: {shadow: {}}",
            &["authorization.shadow.files: expected at least one file or folder"],
        ),
        ("authorization: {mode: audit}", &["authorization.mode: \"audit\" is none of enforce, observe"]),
        (
            "authorization: {rbac: {cluster: {onLoss: open}}}",
            &["authorization.rbac.cluster.onLoss: \"open\" is none of refuse, keep"],
        ),
        ("authorization: {contact: [a]}", &["authorization.contact: expected text"]),
        (
            "authorization: {contact: \"a\\nb\"}",
            &["authorization.contact: expected one line of at most 200 characters"],
        ),
        ("authorization: {modes: RBAC}", &["authorization.modes: unknown key"]),
        ("audit: {}", &["audit.dir: is missing"]),
        (
            "audit: {dir: a, policy: none}",
            &["audit.policy: \"none\" is none of metadata, recommended, everything"],
        ),
        (
            "audit: {dir: a, signing: {origin: a b, previousKeys: [c]}}",
            &[
                "audit.signing.previousKeys[0]: public key: expected NAME+ID+KEY",
                "audit.signing.origin: expected a word without spaces, control characters and plus",
            ],
        ),
        (
            "audit: {dir: a, policy: metadata, policyFile: b}",
            &["audit.policyFile: expected either policy or policyFile"],
        ),
        ("audit: {dir: a, onFailure: ignore}", &["audit.onFailure: \"ignore\" is none of refuse, open"]),
        (
            "audit: {dir: a, mode: {changes: sync}}",
            &["audit.mode.changes: \"sync\" is none of strict, blocking, batch"],
        ),
        (
            "audit: {dir: a, maxSize: 1}",
            &["audit.maxSize: 1 is not a size: expected a number with a unit such as 512Ki or 3Mi"],
        ),
        ("audit: {dir: a, maxSize: 1Ki}", &["audit.maxSize: expected at least 1 MiB"]),
        ("audit: {dir: a, sinks: [{stdout: {}}]}", &["audit.sinks[0].name: is missing"]),
        (
            "audit: {dir: a, sinks: [{name: a, stdout: {}}, {name: a, webhook: {kubeconfig: k, batchMaxSize: 0}}]}",
            &[
                "audit.sinks[1].name: \"a\" is the name of another sink",
                "audit.sinks[1].webhook.batchMaxSize: 0 is not a whole number above 0",
            ],
        ),
        (
            "audit: {dir: a, sinks: [{name: ../a, stdout: {}}, {name: b}]}",
            &[
                "audit.sinks[0].name: \"../a\" is no DNS label: expected a-z, 0-9 and - within, 63 at most",
                "audit.sinks[1]: expected exactly one of webhook and stdout",
            ],
        ),
        (
            "audit: {dir: a, sinks: [{name: a, stdout: {}}, {name: b, stdout: {}, webhooks: {}}]}",
            &[
                "audit.sinks[1].stdout: there is one standard output, expected one sink for it",
                "audit.sinks[1].webhooks: unknown key, did you mean webhook?",
            ],
        ),
        (
            "audit: {dir: a, sinks: [{name: a, webhook: {timeout: 5}}]}",
            &[
                "audit.sinks[0].webhook.kubeconfig: is missing",
                "audit.sinks[0].webhook.timeout: 5 is not a duration: expected a number with a unit such as 10s or 1m30s",
            ],
        ),
        ("audit: {dir: /dev/null}", &["audit.dir: expected a folder"]),
        ("audit: {dir: a, maxBackups: -1}", &["audit.maxBackups: -1 is not a whole number above 0"]),
        (
            "audit: {dir: a, maxAge: [1]}",
            &["audit.maxAge: a list is not a duration: expected a number with a unit such as 10s or 1m30s"],
        ),
        ("limits: {streams: 0}", &["limits.streams: 0 is not a whole number above 0"]),
        ("limits: {streams: 1.5}", &["limits.streams: 1.5 is not a whole number above 0"]),
        ("limits: {requestBody: none}", &["limits.requestBody: \"none\" is not a size"]),
        (
            "limits: {failedAuthentications: 0}",
            &["limits.failedAuthentications: 0 is not a whole number above 0"],
        ),
        ("limits: {request: 1}", &["limits.request: unknown key"]),
        ("admin: {address: localhost}", &["admin.address: invalid socket address syntax"]),
        ("reload: {interval: 0s}", &["reload.interval: expected more than no time at all"]),
        (
            "reload: {interval: 10}",
            &["reload.interval: 10 is not a duration: expected a number with a unit such as 10s or 1m30s"],
        ),
    ];
    for (line, want) in rows {
        let got = errors(&with(line));
        assert_eq!(got.len(), want.len(), "{line:?}: {got:?}");
        for (got, want) in got.iter().zip(*want) {
            assert!(got.starts_with(&format!("gatelog.yaml: {want}")), "{line:?}: {got:?}");
        }
    }
}

#[test]
fn listen_has_its_own_errors() {
    let pair = "tlsCertFile: a, tlsPrivateKeyFile: b";
    let rows = [
        ("address: 6443", "listen.address: expected text"),
        ("address: ':6443'", "listen.address: invalid socket address syntax"),
        (
            "address: 'a:1', handshakeTimeout: '10'",
            "listen.handshakeTimeout: \"10\" is not a duration: expected a number with a unit such as 10s or 1m30s",
        ),
        (
            "address: 'a:1', handshakeTimeout: 0s",
            "listen.handshakeTimeout: expected more than no time at all",
        ),
        (
            "address: 'a:1', trustedProxies: ['10.0.0.0/33']",
            "listen.trustedProxies[0]: expected an address or a range such as 10.0.0.0/8, found \"10.0.0.0/33\"",
        ),
        (
            "address: 'a:1', maxHeaderBytes: big",
            "listen.maxHeaderBytes: \"big\" is not a size: expected a number with a unit such as 512Ki or 3Mi",
        ),
        ("address: 'a:1', tlsCertfile: c", "listen.tlsCertfile: unknown key, did you mean tlsCertFile?"),
    ];
    for (line, want) in rows {
        let got = errors(&with(&format!("listen: {{{pair}, {line}}}")));
        assert!(got.iter().any(|e| *e == format!("gatelog.yaml: {want}")), "{line}: {got:?}");
    }
}

#[test]
fn values_are_taken() {
    let config = parse(
        path(),
        &format!(
            "{LEAST}limits: {{requestsInFlight: 7, requestBody: 1Mi}}\nreload: {{interval: 250ms}}\n\
             authorization: {{rbac: {{files: [rules, /etc/rules.yaml], bootstrap: off}}}}\n\
             admin: {{address: '[::1]:9090'}}\n"
        )
        .replace("{dir: audit}", "{dir: /var/audit, policy: metadata, maxAge: none, maxBackups: 3, rotateEvery: 1h, maxTotalSize: none, onFailure: open, mode: {changes: batch}}")
        .replace("{address: '127", "{trustedProxies: [10.0.0.0/8, '::1'], shutdownGracePeriod: 0s, address: '127"),
    )
    .unwrap();
    assert_eq!((config.limits.requests, config.gateway.request_body), (7, 1 << 20));
    assert_eq!(config.reload_interval, Duration::from_millis(250));
    assert_eq!(config.authz.paths, [Path::new("/nowhere/rules"), Path::new("/etc/rules.yaml")]);
    assert!(!config.authz.bootstrap);
    assert_eq!(config.server.shutdown_grace, Duration::ZERO);
    let audit = config.audit;
    assert_eq!((audit.max_age, audit.max_backups, audit.max_total_size), (None, Some(3), None));
    assert_eq!(
        (audit.on_failure, audit.modes),
        (OnFailure::Open, Modes { changes: Mode::Batch, reads: Mode::Blocking })
    );
    assert_eq!((audit.rotate_every, audit.trusted_proxies.len()), (Some(Duration::from_secs(3600)), 2));
}

#[test]
fn what_refusals_tell_is_taken() {
    let tell = |section: &str| {
        parse(path(), &format!("{LEAST}authorization: {{{section}}}\n")).map(|c| c.authz.tell)
    };
    for (section, want) in [
        ("", Explain::Own),
        ("explain: own", Explain::Own),
        ("explain: full", Explain::Full),
        ("explain: off", Explain::Off),
        ("explain: 'off'", Explain::Off),
        ("explain: \"off\", contact: null", Explain::Off),
    ] {
        assert_eq!(tell(section).unwrap(), Tell { explain: want, contact: None }, "{section}");
    }
    let longest = "ä".repeat(200);
    let contact = tell(&format!("contact: {longest}")).unwrap().contact;
    assert_eq!(contact.as_deref(), Some(&*longest));
    assert!(tell(&format!("contact: {longest}a")).is_err());
    for odd in ["\\x07", "\\r", "\\x9b", "\\u2028"] {
        assert!(tell(&format!("contact: \"a{odd}b\"")).is_err(), "{odd}");
    }
}

#[test]
fn every_way_to_prove_an_identity_is_taken() {
    let section = "authentication:
  requestheader:
    clientCAFile: proxy.crt
    allowedNames: [front]
    usernameHeaders: [X-User, X-Remote-User]
    uidHeaders: []
    groupHeaders: [X-Group]
    extraHeadersPrefix: [X-Extra-]
  serviceAccount: {issuers: [a, b], keyFiles: [sa.pub], audiences: [c], review: bound}
  authenticationConfigFile: authentication.yaml
  issuers:
  - {url: 'https://a', signingAlgs: [ES256], allowSystemIdentities: true}
  - {url: 'https://b'}
  tokenReview: {kubeconfig: hook, audiences: [d], cacheTTL: 30s, allowSystemIdentities: true}
  keys: {refreshInterval: 1m, maxAge: 1h}
  endTunnelsAtExpiry: true
  anonymous: {enabled: true, conditions: [{path: /livez}, {path: /healthz}]}
limits: {failedAuthentications: none}
";
    let text = LEAST.replace("authentication: {clientCAFile: ca.crt}\n", section);
    let config = parse(path(), &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.failed_authentications, config.gateway.end_tunnels_at_expiry), (None, true));
    let authn = config.authn;
    assert_eq!((authn.client_ca_file, authn.upstream), (None, Some(config.endpoint)));
    let proxy = authn.front_proxy.unwrap();
    assert_eq!(proxy.client_ca_file, Path::new("/nowhere/proxy.crt"));
    assert_eq!(proxy.allowed_names, ["front"]);
    assert_eq!(proxy.username_headers, ["x-user", "x-remote-user"]);
    assert_eq!((proxy.uid_headers.len(), proxy.group_headers), (0, vec!["x-group".parse().unwrap()]));
    assert_eq!(proxy.extra_header_prefixes, ["x-extra-"]);
    let accounts = authn.service_account.unwrap();
    assert_eq!(
        (&accounts.issuers[..], &accounts.audiences[..]),
        (&["a".to_owned(), "b".to_owned()][..], &["c".to_owned()][..])
    );
    assert_eq!((accounts.key_files, accounts.review), (vec!["/nowhere/sa.pub".into()], ReviewTokens::Bound));
    let issuer = |url: &str, signing_algs, allow_system_identities| IssuerSettings {
        url: url.to_owned(),
        signing_algs,
        allow_system_identities,
    };
    assert_eq!(
        authn.issuers,
        [issuer("https://a", vec![Algorithm::Es256], true), issuer("https://b", vec![], false)]
    );
    let review = authn.review.unwrap();
    assert_eq!(review.to, ReviewBy::Webhook { kubeconfig: "/nowhere/hook".into(), context: None });
    assert_eq!((review.cache_ttl, review.allow_system_identities), (Duration::from_secs(30), true));
    assert_eq!(
        authn.keys,
        KeysConfig { refresh_interval: Duration::from_secs(60), max_age: Duration::from_secs(3600) }
    );
    let paths = vec!["/livez".to_owned(), "/healthz".to_owned()];
    assert_eq!(authn.anonymous, Some(Anonymous { enabled: true, paths }));
}

#[test]
fn a_part_is_read_by_the_same_rules() {
    let folder = Folder::new("part");
    let examined = |text: &str| {
        let file =
            folder.write("part.yaml", format!("apiVersion: gatelog.dev/v1alpha1\nkind: GatewayPart\n{text}"));
        match examine(&file) {
            Ok(document) => folder.said(document),
            Err(errors) => folder.said(errors),
        }
    };
    let sections = "expected at least one of listen, upstream, authentication, authorization, validation, audit, limits, admin, reload";
    assert_eq!(examined(""), [format!("part.yaml: {sections}")]);
    assert_eq!(
        examined("authentication: {clientCAFile: nowhere}\nlimits: {streams: 7}"),
        [
            "part.yaml: some sections of a Gateway",
            "holds authentication, limits; to start a gate takes a whole Gateway",
        ]
    );
    // What is there is held to what a Gateway is held to; what is not there is not missed.
    for (text, want) in [
        ("authentication: {}", "authentication: nobody could authenticate"),
        ("authentication:", "authentication: nobody could authenticate"),
        ("limits: {stream: 7}", "limits.stream: unknown key, did you mean streams?"),
        ("audit: {policy: metadata}", "audit.dir: is missing"),
        ("upstream: {tokenFile: a}", "upstream: expected exactly one of kubeconfig, inCluster and server"),
        ("admin: {}\nlogging: {}", "logging: unknown key"),
    ] {
        let got = examined(text);
        assert_eq!(got.len(), 1, "{text}: {got:?}");
        assert!(got[0].starts_with(&format!("part.yaml: {want}")), "{text}: {got:?}");
    }
    let whole = examined("listen: {}").join("\n");
    assert!(whole.contains("listen.address: is missing") && !whole.contains("upstream"), "{whole}");
    // And no gate starts with it.
    let file = folder.write("part.yaml", "apiVersion: gatelog.dev/v1alpha1\nkind: GatewayPart\nlimits: {}\n");
    assert_eq!(
        folder.said(load(&file).unwrap_err()),
        [
            "part.yaml: kind: a GatewayPart is for gatelog check and for pasting, the gate needs a whole Gateway"
        ]
    );
}

#[test]
fn a_file_is_known_by_its_kind() {
    let folder = Folder::new("kinds");
    let examined = |text: &str| match examine(&folder.write("file", text)) {
        Ok(document) => Ok(folder.said(document)),
        Err(errors) => Err(folder.said(errors)),
    };
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a, namespace: b}\nrules: []\n";
    let issuers = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
    for (text, want) in [
        (format!("{policy}rules: [{{level: None}}]"), vec!["file: an audit policy", "1 rule"]),
        (role.to_owned(), vec!["file: RBAC manifests", "1 role, 0 rules and 0 bindings"]),
        (
            "apiVersion: v1\nkind: List\nitems: []".to_owned(),
            vec!["file: RBAC manifests", "0 roles, 0 rules and 0 bindings"],
        ),
        (issuers.to_owned(), vec!["file: an AuthenticationConfiguration", "no issuers"]),
        (
            format!(
                "{issuers}anonymous: {{enabled: true, conditions: [{{path: /livez}}, {{path: a}}]}}\njwt:\n\
                 - issuer: {{url: 'https://a', audiences: [b, c], audienceMatchPolicy: MatchAny}}\n  \
                   claimMappings: {{username: {{claim: sub, prefix: 'p:'}}, groups: {{claim: g, prefix: ''}}}}\n  \
                   claimValidationRules: [{{claim: d}}]\n"
            ),
            vec![
                "file: an AuthenticationConfiguration",
                r#"issuer https://a: for b or c; user name from claim sub behind "p:"; groups from claim g; 1 claim rule; 0 user rules"#,
                "anonymous: on (/livez, a)",
                "warning: anonymous.conditions[1].path: no request has such a path, they begin with /",
            ],
        ),
    ] {
        assert_eq!(examined(&text).unwrap(), want, "{text}");
    }
    for (text, want) in [
        (policy.to_owned(), "file: rules: expected at least one rule"),
        (format!("{role}extra: 1"), "file: document 1, line 1: Role b/a: extra: "),
        (format!("{issuers}extra: 1"), "file: extra: unknown field"),
        ("apiVersion: gatelog.dev/v1alpha1\nkind: Gate".to_owned(), "file: kind: expected Gateway"),
        (
            "kind: Gateway".to_owned(),
            "file: kind \"Gateway\" of apiVersion \"\" is not one that the gate reads, expected Gateway or",
        ),
        (
            "apiVersion: v1\nkind: Pod".to_owned(),
            "file: kind \"Pod\" of apiVersion \"v1\" is not one that the gate reads",
        ),
        (String::new(), "file: holds neither apiVersion nor kind, expected Gateway or"),
        ("- a".to_owned(), "file: holds neither apiVersion nor kind, expected Gateway or"),
        ("a: [".to_owned(), "file: line 1, "),
    ] {
        let got = examined(&text).unwrap_err();
        assert!(got[0].starts_with(want), "{text}: {got:?}");
    }
    assert_eq!(
        folder.said(examine(&folder.0.join("none")).unwrap_err()),
        ["none: No such file or directory (os error 2)"]
    );
}

/// A folder, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn said(&self, problem: impl ToString) -> Vec<String> {
        let here = format!("{}/", self.0.display());
        problem.to_string().replace(&here, "").lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn errors_of_the_file_and_of_what_it_points_to_come_together() {
    let folder = Folder::new("together");
    let missing = folder.said(load(&folder.0.join("gatelog.yaml")).unwrap_err());
    assert_eq!(missing, ["gatelog.yaml: No such file or directory (os error 2)"]);
    let file = folder.write("gatelog.yaml", b"\xff");
    assert_eq!(folder.said(load(&file).unwrap_err()), ["gatelog.yaml: expected text in UTF-8"]);

    folder.write("ca.crt", "nothing");
    folder.write("rules.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a}\nrules: [{verbs: [get]}]\n");
    folder.write("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]\n");
    folder.write("audit.key", "nothing");
    let text = with("audit: {dir: audit, policyFile: policy.yaml, signing: {keyFile: audit.key}}")
        + "limits: {streams: many}\nauthorization: {rbac: {files: [rules.yaml, none]}}\n";
    let file = folder.write("gatelog.yaml", text);
    let got = folder.said(load(&file).unwrap_err());
    let want = [
        "gatelog.yaml: limits.streams: \"many\" is not a whole number above 0",
        "gatelog.yaml: audit.policyFile: policy.yaml: rules[0].level",
        "gatelog.yaml: audit.signing.keyFile: audit.key: private key: expected one PEM block",
        "gatelog.yaml: listen.tlsCertFile: tls.crt: No such file",
        "gatelog.yaml: listen.tlsPrivateKeyFile: tls.key: No such file",
        "gatelog.yaml: authentication.clientCAFile: ca.crt: no certificate found",
        "gatelog.yaml: authorization.rbac.files: none: No such file",
        "gatelog.yaml: upstream.kubeconfig: upstream.kubeconfig: No such file",
    ];
    assert_eq!(got.len(), want.len(), "{got:#?}");
    for (got, want) in got.iter().zip(want) {
        assert!(got.starts_with(want), "{got:?} does not begin with {want:?}");
    }
    // Without an error of its own, the configuration is read, and the files are the check's business.
    let file = folder.write("gatelog.yaml", with("authorization: {rbac: {files: [rules.yaml]}}"));
    let got = folder.said(check(&load(&file).unwrap()).unwrap_err());
    assert!(
        got.iter().any(|e| e.starts_with("gatelog.yaml: authorization.rbac.files: rules.yaml")),
        "{got:#?}"
    );
}

#[cfg(feature = "demo")]
#[test]
fn a_check_says_what_is_on_and_what_is_off() {
    use crate::demo::pki::{Ca, Client};
    let folder = Folder::new("report");
    let (gates, clients, cluster) =
        (Ca::new("gates").unwrap(), Ca::new("clients").unwrap(), Ca::new("cluster").unwrap());
    let pair = gates.server(&["gate.test", "127.0.0.1"]).unwrap();
    let us = cluster.client(&Client::new("gatelog")).unwrap();
    folder.write("tls.crt", pair.certificates());
    folder.write("tls.key", &pair.key);
    folder.write("ca.crt", clients.pem());
    folder.write("cluster.crt", cluster.pem());
    folder.write("gate.crt", us.certificates());
    folder.write("gate.key", &us.key);
    folder.write("tokens.csv", "a,alice,1\n,bob,2\n");
    folder.write(
        "rules.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: nobody}\n\
         subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}]\n",
    );
    let text = LEAST
        .replace("{kubeconfig: upstream.kubeconfig}", "{server: 'https://10.0.0.1:6443', certificateAuthority: cluster.crt, clientCertificate: gate.crt, clientKey: gate.key}")
        .replace("{clientCAFile: ca.crt}", "{clientCAFile: ca.crt, tokenAuthFile: tokens.csv}")
        + "authorization: {rbac: {files: [rules.yaml]}}\n";
    let report = check(&load(&folder.write("gatelog.yaml", text)).unwrap()).unwrap();
    let lines = folder.said(&report);
    let want = [
        "listen: on (127.0.0.1:0, certificate for gate.test, 127.0.0.1, for another ",
        "upstream: on (https://10.0.0.1:6443, spelled out; identity by impersonation)",
        "client certificates: on (1 CA)",
        "static tokens: on (1 token)",
        "front proxy: off",
        "service accounts: off",
        "issuers: off",
        "token review: off",
        "anonymous: off",
        "limit of failed authentications: on (100 of one source in a minute)",
        "rbac: on (0 roles, 0 rules and 1 binding from files; the bootstrap rules are on)",
        "enforcement: on",
        "shadow rules: off",
        "validation: on (enforced: routes, names, query, mediaTypes, objects, patches, holes; only warned of: values; off: unknownParameters)",
        "audit: on (",
        "audit signing: on (",
        "audit redaction: on (",
        "audit sinks: off",
        "admin: off",
        "warning: tokens.csv: line 2: the token is empty, the row is skipped",
        "warning: rules.yaml",
    ];
    assert_eq!(lines.len(), want.len(), "{lines:#?}");
    for (got, want) in lines.iter().zip(want) {
        assert!(got.starts_with(want), "{got:?} does not begin with {want:?}");
    }
}

#[test]
fn rules_of_the_redaction_are_checked_when_they_are_read() {
    let redaction = |rest: &str| {
        let text = with(&format!("audit: {{dir: r, redaction: {{{rest}}}}}"));
        let errors = parse(path(), &text).err().map_or_else(Vec::new, |errors| errors.0);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let query = "query: [a]";
    for (text, want) in [
        (format!("rules: [{{name: a, groups: [\"\"], {query}}}]"), vec![]),
        (
            format!("rules: [{{name: a, groups: [1], {query}}}]"),
            vec!["audit.redaction.rules[0].groups[0]: expected text"],
        ),
        (
            format!("rules: [{{name: a, {query}}}, {{name: b, groups: [\"\", A!], {query}}}]"),
            vec!["audit.redaction.rules[1].groups[1]: expected"],
        ),
        (format!("rules: [{{{query}}}]"), vec!["audit.redaction.rules[0].name: "]),
        ("rules: [{name: a}]".into(), vec!["audit.redaction.rules[0]: expected at least one of"]),
        ("rules: [{name: a, fields: [b, \"a[x]\"]}]".into(), vec!["audit.redaction.rules[0].fields[1]: "]),
        (
            format!("rules: [{{name: secret-data, {query}}}]"),
            vec!["audit.redaction.rules[0].name: a default rule"],
        ),
        ("off: [secrets]".into(), vec!["audit.redaction.off[0]: "]),
    ] {
        let got: Vec<_> = redaction(&text).into_iter().filter(|e| e.contains("redaction")).collect();
        assert_eq!(got.len(), want.len(), "{text}: {got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.contains(want), "{text}: {got}");
        }
    }
}

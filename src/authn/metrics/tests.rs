use super::*;

/// `name{labels} value` of everything that is not zero.
fn lines(registry: &Registry) -> Vec<String> {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let there = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket{");
    text.lines().filter(there).filter(|line| !line.contains("_sum")).map(str::to_owned).collect()
}

#[test]
fn everything_is_counted_under_its_label() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    assert_eq!(lines(&registry), [] as [&str; 0]);
    for (i, method) in METHODS.into_iter().enumerate() {
        assert_eq!(method as usize, i);
        metrics.succeeded(method, Duration::from_micros(3));
    }
    for (i, by) in By::ALL.into_iter().enumerate() {
        assert_eq!(by as usize, i);
        if by != By::Nothing {
            metrics.failed(by);
        }
    }
    metrics.limited();
    metrics.hit();
    let (miss, fetch) = (metrics.miss(), metrics.fetch());
    assert!(
        lines(&registry)
            .contains(&"authentication_token_cache_active_fetch_count{status=\"blocked\"} 1".to_owned())
    );
    assert!(
        lines(&registry)
            .contains(&"authentication_token_cache_active_fetch_count{status=\"in_flight\"} 1".to_owned())
    );
    fetch.done(false);
    drop((miss, metrics.fetch()));
    metrics.reviewed(Duration::from_millis(3), true);
    metrics.reviewed(Duration::from_millis(3), false);
    metrics.refused(true, Duration::from_micros(3));
    metrics.refused(false, Duration::from_micros(3));
    let mut want: Vec<String> = [("bearer", "error"), ("none", "failure")]
        .into_iter()
        .chain(
            ["anonymous", "front-proxy", "jwt", "service-account", "token-file", "token-review", "x509"]
                .map(|m| (m, "success")),
        )
        .chain(["front-proxy", "jwt", "service-account", "token-review", "x509"].map(|m| (m, "error")))
        .map(|(method, result)| {
            format!("gatelog_authentication_attempts_total{{method=\"{method}\",result=\"{result}\"}} 1")
        })
        .collect();
    want.extend(
        [
            "authentication_duration_seconds_count{result=\"error\"} 1",
            "authentication_duration_seconds_count{result=\"failure\"} 1",
            "authentication_duration_seconds_count{result=\"success\"} 7",
            "authentication_token_cache_fetch_total{status=\"error\"} 1",
            "authentication_token_cache_request_duration_seconds_count{status=\"miss\"} 1",
            "authentication_token_cache_request_total{status=\"hit\"} 1",
            "authentication_token_cache_request_total{status=\"miss\"} 1",
            "gatelog_authentication_limited_total 1",
            "gatelog_token_review_duration_seconds_count 2",
            "gatelog_token_review_errors_total 1",
        ]
        .map(str::to_owned),
    );
    let mut got = lines(&registry);
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn issuers_come_and_go_with_the_configuration() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let (one, again) = (metrics.key_fetches("https://a"), metrics.key_fetches("https://a"));
    one.fetched(true);
    again.fetched(true);
    again.fetched(false);
    let label = "jwt_issuer_hash=\"sha256:";
    let got = lines(&registry);
    assert_eq!(got.iter().filter(|line| line.contains(label)).count(), 4, "{got:?}");
    assert!(got.iter().any(|line| line.starts_with("gatelog_issuer_key_fetches_total")
        && line.ends_with("result=\"success\"} 2")));
    assert!(got.iter().all(|line| !line.contains("https://a")));
    drop(one);
    assert_eq!(lines(&registry), got);
    drop(again);
    assert_eq!(lines(&registry), [] as [&str; 0]);
}

#[test]
fn an_issuer_is_named_as_kube_apiserver_names_it() {
    assert_eq!(hash("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn unregistered_it_counts_nowhere() {
    let metrics = Metrics::unregistered();
    metrics.succeeded(Method::X509, Duration::ZERO);
    metrics.miss();
    metrics.fetch().done(true);
    metrics.key_fetches("a").fetched(true);
}

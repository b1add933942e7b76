use super::{series::MAX_CODES, *};
use prometheus::TextEncoder;
use std::time::{Duration, Instant};

fn metrics() -> (Registry, Arc<Metrics>) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    (registry, metrics)
}

fn text(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

fn has(registry: &Registry, line: &str) {
    let text = text(registry);
    assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
}

const PODS: Call<'static> = Call {
    verb: "LIST",
    dry_run: "",
    group: "",
    version: "v1",
    resource: "pods",
    subresource: "",
    scope: "namespace",
    long_running: false,
    mutating: false,
};

#[test]
fn a_request_is_counted_with_its_code_and_timed_without() {
    let (registry, metrics) = metrics();
    let series = metrics.series(&PODS);
    series.finish(200, Duration::from_millis(30));
    series.finish(200, Duration::from_millis(30));
    series.finish(404, Duration::from_millis(70));
    let labels = r#"component="gatelog",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1""#;
    has(
        &registry,
        r#"apiserver_request_total{code="200",component="gatelog",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 2"#,
    );
    has(
        &registry,
        r#"apiserver_request_total{code="404",component="gatelog",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 1"#,
    );
    has(&registry, &format!(r#"apiserver_request_duration_seconds_bucket{{{labels},le="0.025"}} 0"#));
    has(&registry, &format!(r#"apiserver_request_duration_seconds_bucket{{{labels},le="0.05"}} 2"#));
    has(&registry, &format!("apiserver_request_duration_seconds_count{{{labels}}} 3"));
}

#[test]
fn a_refused_request_tells_only_its_method() {
    let (registry, metrics) = metrics();
    metrics.refused(&Method::GET).finish(401, Duration::ZERO);
    metrics.refused(&Method::from_bytes(b"BREW").unwrap()).finish(405, Duration::ZERO);
    for (verb, code) in [("GET", 401), ("other", 405)] {
        has(
            &registry,
            &format!(
                r#"apiserver_request_total{{code="{code}",component="gatelog",dry_run="",group="",resource="",scope="",subresource="",verb="{verb}",version=""}} 1"#
            ),
        );
    }
}

#[test]
fn what_runs_is_counted_while_it_runs() {
    let (registry, metrics) = metrics();
    let reading = metrics.series(&PODS).running();
    let writing = metrics.series(&Call { verb: "POST", mutating: true, ..PODS }).running();
    let watching = metrics.series(&Call { verb: "WATCH", long_running: true, ..PODS }).running();
    let watches = r#"apiserver_longrunning_requests{component="gatelog",group="",resource="pods",scope="namespace",subresource="",verb="WATCH",version="v1"}"#;
    has(&registry, r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#);
    has(&registry, r#"apiserver_current_inflight_requests{request_kind="mutating"} 1"#);
    has(&registry, &format!("{watches} 1"));
    drop((reading, writing, watching));
    has(&registry, r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#);
    has(&registry, r#"apiserver_current_inflight_requests{request_kind="mutating"} 0"#);
    has(&registry, &format!("{watches} 0"));
}

#[test]
fn too_many_combinations_become_other() {
    let (registry, metrics) = metrics();
    let names: Vec<String> = (0..MAX_SERIES + 50).map(|i| format!("r{i}")).collect();
    for resource in &names {
        metrics.series(&Call { resource, ..PODS }).finish(200, Duration::ZERO);
    }
    has(
        &registry,
        r#"apiserver_request_total{code="200",component="gatelog",dry_run="",group="other",resource="other",scope="",subresource="",verb="LIST",version="other"} 50"#,
    );
    let lines = text(&registry).lines().filter(|l| l.starts_with("apiserver_request_total{")).count();
    assert_eq!(lines, MAX_SERIES + 1);
    // What was known before stays known.
    metrics.series(&Call { resource: "r0", ..PODS }).finish(200, Duration::ZERO);
    has(
        &registry,
        r#"apiserver_request_total{code="200",component="gatelog",dry_run="",group="",resource="r0",scope="namespace",subresource="",verb="LIST",version="v1"} 2"#,
    );
}

#[test]
fn too_many_codes_become_other() {
    let (registry, metrics) = metrics();
    let series = metrics.series(&PODS);
    for code in 200..200 + MAX_CODES as u16 + 3 {
        series.finish(code, Duration::ZERO);
    }
    has(
        &registry,
        r#"apiserver_request_total{code="other",component="gatelog",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 3"#,
    );
}

#[test]
fn the_small_counters() {
    let (registry, metrics) = metrics();
    metrics.authentication(Authentication::Error);
    metrics.authorization(Authorization::NoOpinion);
    metrics.upstream_error("connect");
    metrics.limited("user_inflight");
    metrics.stream_bytes(Direction::ToCaller, 12);
    metrics.reload(false);
    metrics.enabled("anonymous", false);
    metrics.serving_certificate(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)));
    metrics.malformed.inc();
    metrics.tls_handshake_errors.inc();
    metrics.connections.inc();
    for line in [
        r#"authentication_attempts{result="error"} 1"#,
        r#"authorization_attempts_total{result="no-opinion"} 1"#,
        r#"authorization_attempts_total{result="allowed"} 0"#,
        r#"gatelog_upstream_errors_total{kind="connect"} 1"#,
        r#"gatelog_limited_total{kind="user_inflight"} 1"#,
        r#"gatelog_stream_bytes_total{direction="to_caller"} 12"#,
        r#"gatelog_stream_bytes_total{direction="to_upstream"} 0"#,
        r#"gatelog_reloads_total{result="failure"} 1"#,
        r#"gatelog_enabled{part="anonymous"} 0"#,
        "gatelog_serving_certificate_expiration_timestamp_seconds 4000000000",
        "gatelog_http_malformed_total 1",
        "apiserver_tls_handshake_errors_total 1",
        "gatelog_connections 1",
        concat!(r#"gatelog_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        has(&registry, line);
    }
}

#[test]
fn threads_agree_on_one_series() {
    let (registry, metrics) = metrics();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..200 {
                    metrics
                        .series(&Call { resource: &format!("r{}", i % 20), ..PODS })
                        .finish(200, Duration::ZERO);
                }
            });
        }
    });
    for i in 0..20 {
        has(
            &registry,
            &format!(
                r#"apiserver_request_total{{code="200",component="gatelog",dry_run="",group="",resource="r{i}",scope="namespace",subresource="",verb="LIST",version="v1"}} 40"#
            ),
        );
    }
}

/// Not a benchmark, a tripwire: a request's metrics must not cost a look-up in the registry.
#[test]
fn a_known_series_is_cheap() {
    let (_registry, metrics) = metrics();
    let rounds = 20_000;
    let start = Instant::now();
    for _ in 0..rounds {
        let series = metrics.series(std::hint::black_box(&PODS));
        let running = series.running();
        series.finish(200, Duration::from_millis(1));
        drop(running);
    }
    let each = start.elapsed() / rounds;
    // A debug build on a busy machine; release is some fifty times below this.
    assert!(each < Duration::from_micros(50), "{each:?} a request");
    eprintln!("{each:?} a request");
}

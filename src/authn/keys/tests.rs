use super::*;
use crate::authn::jwt::{
    Jws,
    key::{Algorithm, Unverified},
    mint::{P256, RSA, RSA2, Signer, jwks},
};
use bytes::Bytes;
use prometheus::{Registry, proto::Metric};
use serde_json::{Value, json};
use std::{future::pending, sync::Mutex};
use tokio::time::{advance, timeout};

const CONFIG: Config =
    Config { refresh_interval: Duration::from_secs(600), max_age: Duration::from_secs(3600) };

/// An issuer that answers as it is told.
#[derive(Debug)]
pub(super) struct Script {
    answer: Mutex<Option<Result<Vec<Value>, String>>>,
    asked: watch::Sender<Vec<Instant>>,
    /// It takes its time.
    takes: Duration,
}

impl Script {
    fn new(keys: &[&Signer]) -> Arc<Self> {
        Self::slow(keys, Duration::ZERO)
    }

    fn slow(keys: &[&Signer], takes: Duration) -> Arc<Self> {
        let script = Self { answer: Mutex::default(), asked: watch::Sender::default(), takes };
        script.publish(keys);
        Arc::new(script)
    }

    fn publish(&self, keys: &[&Signer]) {
        *self.answer.lock().unwrap() = Some(Ok(keys.iter().map(|signer| signer.jwk()).collect()));
    }

    fn fail(&self, why: &str) {
        *self.answer.lock().unwrap() = Some(Err(why.to_owned()));
    }

    fn hang(&self) {
        *self.answer.lock().unwrap() = None;
    }

    pub(super) async fn play(&self) -> Result<Bytes, String> {
        self.asked.send_modify(|asked| asked.push(Instant::now()));
        tokio::time::sleep(self.takes).await;
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Some(answer) => answer.map(|keys| jwks(&keys).into()),
            None => pending().await,
        }
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }

    fn keys(self: &Arc<Self>) -> Arc<Keys> {
        let keys = Keys::with(Origin::Scripted(self.clone()), CONFIG, None);
        keys.start(&Metrics::unregistered(), "scripted");
        keys
    }
}

/// Fetches by result, those that there have been.
fn counted(registry: &Registry) -> Vec<(String, u64)> {
    let families = registry.gather();
    let fetches = families.iter().filter(|family| family.name() == "gatelog_issuer_key_fetches_total");
    let count = |metric: &Metric| {
        let result = metric.get_label().iter().find(|label| label.name() == "result").unwrap();
        (result.value().to_owned(), metric.get_counter().get_value() as u64)
    };
    let counts = fetches.flat_map(|family| family.get_metric().iter().map(count));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// Waits until that many fetches have ended.
async fn ended(keys: &Keys, fetches: u64) {
    let mut seen = keys.shared.state.subscribe();
    let _ = seen.wait_for(|state| state.ended >= fetches).await.unwrap();
}

fn verify(keys: &KeySet, signer: &Signer) -> Result<(), Unverified> {
    let token = signer.token(&json!({}));
    keys.verify(&Jws::parse(&token).unwrap().unwrap(), &Algorithm::ALL)
}

#[tokio::test(start_paused = true)]
async fn keys_are_there_once_they_are_fetched_and_are_fetched_ahead_of_time() {
    let script = Script::new(&[&RSA]);
    let keys = Keys::with(Origin::Scripted(script.clone()), CONFIG, None);
    assert_eq!(keys.current().unwrap_err(), "the keys have not been fetched yet");
    tokio::task::yield_now().await;
    assert_eq!(script.asked(), 0);
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    keys.start(&metrics, "https://issuer");
    keys.start(&metrics, "https://issuer");
    ended(&keys, 1).await;
    let first = keys.current().unwrap();
    assert_eq!(verify(&first, &RSA), Ok(()));
    assert_eq!(keys.health(), Ok(()));
    for fetches in 2..6 {
        let before = Instant::now();
        ended(&keys, fetches).await;
        let pause = before.elapsed().as_secs();
        assert!((540..=600).contains(&pause), "{pause}");
    }
    assert!(!Arc::ptr_eq(&first, &keys.current().unwrap()));
    assert_eq!(script.asked(), 5);
    script.fail("down");
    ended(&keys, 7).await;
    tokio::task::yield_now().await;
    assert_eq!(counted(&registry), [("failure".to_owned(), 2), ("success".to_owned(), 5)]);
    // Nothing of the issuer is left when its keys are let go.
    drop(keys);
    tokio::task::yield_now().await;
    assert_eq!(counted(&registry), []);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_cannot_be_reached_is_tried_until_it_can() {
    let script = Script::new(&[]);
    script.fail("connection refused");
    let keys = script.keys();
    ended(&keys, 1).await;
    assert_eq!(keys.current().unwrap_err(), "keys: connection refused (attempt 1, 0 s ago)");
    ended(&keys, 12).await;
    let asked = script.asked.borrow().clone();
    for (i, pair) in asked.windows(2).enumerate() {
        let most = (250_u64 << i).min(30_000);
        let pause = (pair[1] - pair[0]).as_millis() as u64;
        assert!((most / 2..=most + 1).contains(&pause), "{i}: {pause}");
    }
    advance(Duration::from_secs(3)).await;
    assert_eq!(keys.health().unwrap_err(), "keys: connection refused (attempt 12, 3 s ago)");
    script.publish(&[&RSA]);
    ended(&keys, 13).await;
    assert_eq!(keys.health(), Ok(()));
    // Then the pauses are long again.
    let before = Instant::now();
    ended(&keys, 14).await;
    assert!(before.elapsed().as_secs() >= 540);
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_while_the_issuer_fails_up_to_an_age() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    let fetched = Instant::now();
    let first = keys.current().unwrap();
    script.fail("down");
    ended(&keys, 3).await;
    assert!(Arc::ptr_eq(&first, &keys.current().unwrap()));
    // No keys at all are no reason to drop those one has.
    script.publish(&[]);
    ended(&keys, 5).await;
    assert!(Arc::ptr_eq(&first, &keys.current().unwrap()));
    script.fail("down");
    tokio::time::sleep_until(fetched + Duration::from_secs(3600)).await;
    assert!(keys.current().is_ok());
    tokio::time::sleep_until(fetched + Duration::from_secs(3601)).await;
    let why = keys.current().unwrap_err();
    assert!(why.starts_with("the keys are older than 3600s: keys: down (attempt "), "{why}");
    assert!(keys.newer_than(&first).await.is_none());
    let known = keys.shared.state.borrow().ended;
    script.publish(&[&RSA2]);
    ended(&keys, known + 2).await;
    assert_eq!(verify(&keys.current().unwrap(), &RSA2), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_old_are_not_used_while_a_fetch_hangs() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    script.hang();
    tokio::time::sleep(Duration::from_secs(3601)).await;
    assert_eq!(keys.current().unwrap_err(), "the keys are older than 3600s: no fetch has ended since");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_without_usable_keys_is_no_success() {
    let script = Script::new(&[]);
    let keys = script.keys();
    ended(&keys, 1).await;
    let why = keys.current().unwrap_err();
    assert!(why.starts_with("keys: the key set holds no key that can be used ("), "{why}");
    *script.answer.lock().unwrap() = Some(Ok(vec![json!({"kty": "oct", "k": "AA"})]));
    ended(&keys, 2).await;
    let why = keys.current().unwrap_err();
    assert!(why.contains("can be used: key 1 is passed over: a symmetric key"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_at_once() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    let known = keys.current().unwrap();
    assert_eq!(verify(&known, &RSA2), Err(Unverified::NoKey));
    advance(ASKED_EVERY).await;
    script.publish(&[&RSA, &RSA2]);
    let before = Instant::now();
    let newer = keys.newer_than(&known).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!((verify(&newer, &RSA2), script.asked()), (Ok(()), 2));
    // Who still knows the old ones is given the new ones, without a fetch.
    assert!(Arc::ptr_eq(&keys.newer_than(&known).await.unwrap(), &newer));
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_causes_one_fetch_in_ten_seconds() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let known = keys.current().unwrap();
        let _ = keys.newer_than(&known).await;
        advance(Duration::from_millis(10)).await;
    }
    let asked = script.asked.borrow().clone();
    assert_eq!(asked.len(), 6);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= ASKED_EVERY), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_hasten_the_retries_of_an_issuer_that_fails() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    script.fail("down");
    let known = keys.current().unwrap();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    let before = script.asked();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(300) {
        assert!(keys.newer_than(&known).await.is_none());
        advance(Duration::from_millis(100)).await;
    }
    let asked = script.asked() - before;
    assert!(asked <= 31, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_share_a_fetch_and_are_answered() {
    let script = Script::slow(&[&RSA], Duration::from_secs(2));
    let keys = script.keys();
    ended(&keys, 1).await;
    let known = keys.current().unwrap();
    advance(ASKED_EVERY).await;
    script.publish(&[&RSA2]);
    // The one who asked first leaves; the fetch goes on.
    let first = timeout(Duration::from_secs(1), keys.newer_than(&known)).await;
    assert!(first.is_err());
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (keys, known) = (keys.clone(), known.clone());
            tokio::spawn(
                async move { keys.newer_than(&known).await.is_some_and(|k| verify(&k, &RSA2).is_ok()) },
            )
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_nobody() {
    let script = Script::new(&[&RSA]);
    let keys = script.keys();
    ended(&keys, 1).await;
    let (other, shared) = (keys.clone(), Arc::downgrade(&keys.shared));
    drop(keys);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(script.asked(), 2);
    drop(other);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!((script.asked(), shared.strong_count()), (2, 0));
}

#[tokio::test]
async fn keys_in_files_are_always_there() {
    let pem = crate::pem::File { origin: "f".to_owned(), bytes: RSA.public_pem().into_bytes() };
    let fixed = Arc::new(KeySet::from_pem(&[pem]).unwrap());
    let keys = Keys::new(Source::Fixed(fixed.clone()), CONFIG).unwrap();
    keys.start(&Metrics::unregistered(), "scripted");
    assert!(Arc::ptr_eq(&keys.current().unwrap(), &fixed));
    assert!(keys.newer_than(&fixed).await.is_none());
    assert!(keys.task.get().is_none());
    assert_eq!(keys.health(), Ok(()));
}

#[tokio::test]
async fn whoever_has_not_started_does_not_wait() {
    let keys = Keys::with(Origin::Scripted(Script::new(&[&RSA])), CONFIG, None);
    let none = Arc::new(KeySet::from_jwks(&jwks(&[P256.jwk()])).unwrap().0);
    assert!(keys.newer_than(&none).await.is_none());
}

#[cfg(feature = "demo")]
mod live {
    use super::*;
    use crate::{
        authn::signed,
        demo::{
            apiserver::{self, ApiServer, Caller},
            jws::Alg,
            oidc::{Kid, Mode, Options, Provider, Signing},
            pki::Ca,
        },
        endpoint::{self, Endpoint},
        pem::File,
    };
    use rustls::pki_types::CertificateDer;
    use std::path::PathBuf;

    fn roots(provider: &Provider) -> Vec<CertificateDer<'static>> {
        let file = File { origin: "ca".to_owned(), bytes: provider.ca_pem().into_bytes() };
        file.certificates().unwrap()
    }

    fn source(provider: &Provider) -> Source {
        let roots = Roots::Only(roots(provider));
        Source::Discovery { issuer: provider.issuer().to_owned(), url: None, roots }
    }

    async fn fetch(source: Source) -> Result<usize, String> {
        Origin::new(source).unwrap().fetch().await.map(|fetched| fetched.keys.len())
    }

    async fn provider(options: Options) -> Provider {
        Provider::start(options).await.unwrap()
    }

    #[tokio::test]
    async fn a_provider_s_keys_are_discovered_and_verify_its_tokens() {
        let provider = provider(Options::default()).await;
        let keys = Keys::new(source(&provider), CONFIG).unwrap();
        keys.start(&Metrics::unregistered(), "scripted");
        ended(&keys, 1).await;
        let known = keys.current().unwrap();
        for alg in Alg::ALL {
            let token = provider.mint(&provider.claims("alice"), &Signing::new(alg));
            let jws = Jws::parse(&token).unwrap().unwrap();
            assert_eq!(known.verify(&jws, &Algorithm::ALL), Ok(()), "{alg:?}");
        }
        assert_eq!((provider.discovery_requests(), provider.keys_requests()), (1, 1));
        provider.rotate().unwrap();
        let token = provider.mint(&provider.claims("alice"), &Signing::new(Alg::Es256));
        let jws = Jws::parse(&token).unwrap().unwrap();
        assert_eq!(known.verify(&jws, &Algorithm::ALL), Err(Unverified::NoKey));
        // They have only just been fetched.
        assert!(keys.newer_than(&known).await.is_none());
        keys.shared.state.send_modify(|state| state.begun = None);
        let newer = keys.newer_than(&known).await.unwrap();
        assert_eq!(newer.verify(&jws, &Algorithm::ALL), Ok(()));
    }

    #[tokio::test]
    async fn tokens_that_name_no_key_are_tried_with_newer_ones_too() {
        let provider = provider(Options::default()).await;
        let keys = Keys::new(source(&provider), CONFIG).unwrap();
        keys.start(&Metrics::unregistered(), "live");
        ended(&keys, 1).await;
        provider.rotate().unwrap();
        let token = provider.mint(&provider.claims("alice"), &Signing::new(Alg::Es256).kid(Kid::None));
        let jws = Jws::parse(&token).unwrap().unwrap();
        let refused = signed::verify(&jws, &keys, &Algorithm::ALL).await;
        assert_eq!(refused.unwrap_err(), "the signature does not verify".into());
        keys.shared.state.send_modify(|state| state.begun = None);
        assert_eq!(signed::verify(&jws, &keys, &Algorithm::ALL).await, Ok(()));
        // A bad signature under a key that is known is no reason to ask.
        keys.shared.state.send_modify(|state| state.begun = None);
        let token = provider.mint(&provider.claims("alice"), &Signing::new(Alg::Es256));
        let altered = token.rsplit_once('.').map(|(signed, _)| format!("{signed}.AAAA")).unwrap();
        let jws = Jws::parse(&altered).unwrap().unwrap();
        assert!(signed::verify(&jws, &keys, &Algorithm::ALL).await.is_err());
        assert_eq!(provider.keys_requests(), 2);
    }

    #[tokio::test]
    async fn a_slash_at_the_end_belongs_to_the_issuer() {
        for path in ["", "/", "/realms/demo", "/realms/demo/"] {
            let provider = provider(Options { path: path.to_owned(), ..Options::default() }).await;
            assert!(provider.issuer().ends_with(path));
            assert_eq!(fetch(source(&provider)).await, Ok(4), "{path:?}");
            let other = match provider.issuer().strip_suffix('/') {
                Some(without) => without.to_owned(),
                None => format!("{}/", provider.issuer()),
            };
            let roots = Roots::Only(roots(&provider));
            let why = fetch(Source::Discovery { issuer: other.clone(), url: None, roots }).await.unwrap_err();
            assert!(why.starts_with("discovery: https://"), "{why}");
            let unequal = format!("the document is of issuer {:?}, expected {other:?}", provider.issuer());
            assert!(why.ends_with(&unequal), "{why}");
        }
    }

    #[tokio::test]
    async fn the_document_may_be_elsewhere() {
        let options = Options { discovery: Some("/elsewhere.json".to_owned()), ..Options::default() };
        let provider = provider(options).await;
        let why = fetch(source(&provider)).await.unwrap_err();
        assert!(why.ends_with("/.well-known/openid-configuration: status 404, expected 200"), "{why}");
        let roots = Roots::Only(roots(&provider));
        let issuer = provider.issuer().to_owned();
        let there = Source::Discovery { issuer, url: Some(provider.discovery_url()), roots };
        assert_eq!(fetch(there).await, Ok(4));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_provider_is_said() {
        let one = provider(Options::default()).await;
        let keys = Keys::new(source(&one), CONFIG).unwrap();
        keys.start(&Metrics::unregistered(), "scripted");
        ended(&keys, 1).await;
        for (mode, why) in [
            (Mode::Status(503), "/.well-known/openid-configuration: status 503, expected 200"),
            (
                Mode::Issuer("https://evil".to_owned()),
                "the document is of issuer \"https://evil\", expected ",
            ),
            (Mode::Refuse, "discovery: 127.0.0.1:"),
        ] {
            one.fail(mode);
            let failed = fetch(source(&one)).await.unwrap_err();
            assert!(failed.starts_with("discovery: ") && failed.contains(why), "{failed}");
        }
        one.recover();
        assert_eq!(fetch(source(&one)).await, Ok(4));
        let stranger = provider(Options::default()).await;
        let roots = Roots::Only(roots(&stranger));
        let untrusted = Source::Discovery { issuer: one.issuer().to_owned(), url: None, roots };
        let why = fetch(untrusted).await.unwrap_err();
        assert!(why.contains(": invalid peer certificate: "), "{why}");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let issuer = format!("https://{free}");
        let gone = Source::Discovery { issuer, url: None, roots: Roots::Only(self::roots(&one)) };
        let why = fetch(gone).await.unwrap_err();
        assert!(why.contains("Connection refused"), "{why}");
        assert!(keys.current().is_ok());
    }

    #[tokio::test]
    async fn a_provider_may_come_after_the_gate() {
        let provider = provider(Options::default()).await;
        provider.fail(Mode::Status(502));
        let keys = Keys::new(source(&provider), CONFIG).unwrap();
        keys.start(&Metrics::unregistered(), "scripted");
        ended(&keys, 1).await;
        let why = keys.health().unwrap_err();
        assert!(why.contains("status 502, expected 200 (attempt 1, 0 s ago)"), "{why}");
        provider.recover();
        let mut seen = keys.shared.state.subscribe();
        let _ = seen.wait_for(|state| state.held.is_some()).await.unwrap();
        assert_eq!(keys.health(), Ok(()));
    }

    #[tokio::test]
    async fn what_has_been_fetched_is_taken_over_by_the_same() {
        let (one, two) = (provider(Options::default()).await, provider(Options::default()).await);
        let before = Keys::new(source(&one), CONFIG).unwrap();
        let new = |source, config| Keys::new(source, config).unwrap();
        let other_roots =
            Source::Discovery { issuer: one.issuer().to_owned(), url: None, roots: Roots::Only(roots(&two)) };
        let other_place = Source::Discovery {
            issuer: one.issuer().to_owned(),
            url: Some(two.discovery_url()),
            roots: Roots::Only(roots(&one)),
        };
        let slower = Config { max_age: Duration::from_secs(1), ..CONFIG };
        for (keys, same) in [
            (new(source(&one), CONFIG), true),
            (new(source(&one), slower), false),
            (new(source(&two), CONFIG), false),
            (new(other_roots, CONFIG), false),
            (new(other_place, CONFIG), false),
        ] {
            let taken = keys.clone().or_same_of([&new(source(&two), slower), &before]);
            assert_eq!(Arc::ptr_eq(&taken, &before), same);
            assert_eq!(Arc::ptr_eq(&taken, &keys), !same);
        }
    }

    /// An API server, and the file with the token for it.
    struct Upstream {
        server: ApiServer,
        folder: PathBuf,
    }

    impl Upstream {
        async fn start(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("gatelog-keys-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let ca = Ca::new("upstream").unwrap();
            std::fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
            std::fs::write(folder.join("token"), "good").unwrap();
            let tls = apiserver::tls(&ca.server(&["127.0.0.1"]).unwrap(), &ca).unwrap();
            let mut options = apiserver::Options::new(tls).unwrap();
            options.tokens.insert("good".to_owned(), Caller::new("gatelog", &[]));
            options.tokens.insert("powerless".to_owned(), Caller::new("powerless", &[]));
            Self { server: ApiServer::start(options).await.unwrap(), folder }
        }

        fn token(&self, token: &str) {
            std::fs::write(self.folder.join("token"), token).unwrap();
        }

        fn source(&self) -> Source {
            let explicit = endpoint::Explicit {
                server: format!("https://{}", self.server.addr()),
                certificate_authority: Some(self.folder.join("ca.crt")),
                token_file: Some(self.folder.join("token")),
                ..endpoint::Explicit::default()
            };
            let endpoint = Endpoint::new(&endpoint::Config::Explicit(explicit).read().unwrap()).unwrap();
            Source::Upstream(Arc::new(Cluster::new(Arc::new(endpoint))))
        }
    }

    impl Drop for Upstream {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[tokio::test]
    async fn the_upstream_publishes_the_keys_of_service_accounts() {
        let upstream = Upstream::start("accounts").await;
        let keys = Keys::new(upstream.source(), CONFIG).unwrap();
        keys.start(&Metrics::unregistered(), "scripted");
        ended(&keys, 1).await;
        let known = keys.current().unwrap();
        let verify = |keys: &KeySet| {
            let token = upstream.server.mint(&json!({}));
            keys.verify(&Jws::parse(&token).unwrap().unwrap(), &Algorithm::ALL)
        };
        assert_eq!(verify(&known), Ok(()));
        upstream.server.rotate().unwrap();
        assert_eq!(verify(&known), Err(Unverified::NoKey));
        keys.shared.state.send_modify(|state| state.begun = None);
        assert_eq!(verify(&keys.newer_than(&known).await.unwrap()), Ok(()));
        // The token is read again, whoever else may do that.
        for (token, why) in [
            ("powerless", "/openid/v1/jwks: status 403, the gate's account needs the ClusterRole"),
            ("nobody-s", "/openid/v1/jwks: status 401, the gate's account is not known there"),
        ] {
            upstream.token(token);
            let failed = keys.shared.origin.fetch().await.unwrap_err();
            assert!(failed.starts_with("keys: 127.0.0.1:") && failed.contains(why), "{failed}");
            assert!(!failed.contains(token), "{failed}");
        }
        upstream.token("good");
        assert!(keys.shared.origin.fetch().await.is_ok());
    }

    #[tokio::test]
    async fn the_keys_of_the_same_upstream_are_taken_over() {
        let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
        let new = |upstream: &Upstream| Keys::new(upstream.source(), CONFIG).unwrap();
        let before = new(&one);
        one.token("another");
        assert!(Arc::ptr_eq(&new(&one).or_same_of([&before]), &before));
        assert!(!Arc::ptr_eq(&new(&two).or_same_of([&before]), &before));
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_are_counted_while_somebody_holds_the_keys() {
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let counted = |result: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "gatelog_issuer_key_fetches_total")?;
        let found = family.get_metric().iter().find(|m| m.get_label().iter().any(|l| l.value() == result));
        found.map(|metric| metric.get_counter().get_value())
    };
    let script = Script::new(&[&RSA]);
    let keys = Keys::with(Origin::Scripted(script.clone()), CONFIG, None);
    assert_eq!(counted("success"), None);
    keys.start(&metrics, "https://issuer.test");
    ended(&keys, 1).await;
    script.fail("connection refused");
    ended(&keys, 3).await;
    assert_eq!((counted("success"), counted("failure")), (Some(1.0), Some(2.0)));
    drop(keys);
    tokio::task::yield_now().await;
    assert_eq!((counted("success"), counted("failure")), (None, None));
}

use super::{authorities::REFUSAL_KEPT, bounds::Bounds, *};
use crate::demo::pki::{Attribute, Ca, Client, Pair, Usage, Validity};
use std::time::Duration;

mod made;
mod revoked;
mod strange;

fn ders(pair: &Pair) -> Vec<CertificateDer<'static>> {
    pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn trusting(cas: &[&Ca]) -> X509 {
    let bundle: Vec<_> = cas.iter().map(|ca| CertificateDer::from(ca.der().to_vec())).collect();
    X509::new(&bundle, None).unwrap()
}

/// The certificate without its version field, which makes it one of version 1. (Its signature then no longer fits.)
fn version_1(der: &[u8]) -> CertificateDer<'static> {
    let length = |at: usize| (u16::from_be_bytes([der[at], der[at + 1]]) - 5).to_be_bytes();
    assert!(der[..2] == [0x30, 0x82] && der[4..6] == [0x30, 0x82] && der[8..13] == [0xa0, 3, 2, 1, 2]);
    [&der[..2], &length(2), &der[4..6], &length(6), &der[13..]].concat().into()
}

/// `name/uid/group,group`, `no opinion`, or the error after the certificate's id.
fn judged(x509: &X509, chain: &[CertificateDer<'static>]) -> String {
    judged_at(x509, chain, &Cache::default(), SystemTime::now())
}

fn judged_at(
    x509: &X509,
    chain: &[CertificateDer<'static>],
    cache: &Cache<Option<Authenticated>>,
    now: SystemTime,
) -> String {
    match x509.authenticate(chain, cache, now) {
        Ok(None) => "no opinion".to_owned(),
        Ok(Some(proven)) => {
            let user = proven.user();
            assert_eq!(proven.method(), "x509");
            format!("{}/{}/{}", user.name(), user.uid(), user.groups().join(","))
        }
        Err(e) => {
            let (id, why) = e.split_once(": ").unwrap();
            assert!(id.starts_with("client certificate X509SHA256="), "{e}");
            why.to_owned()
        }
    }
}

#[test]
fn a_chain_is_judged_as_kube_apiserver_judges_it() {
    let root = Ca::new("clients").unwrap();
    let middle = root.intermediate("middle", &[]).unwrap();
    let lower = middle.intermediate("lower", &[Usage::Client]).unwrap();
    let servers = root.intermediate("servers", &[Usage::Server]).unwrap();
    let other = Ca::new("clients").unwrap();
    let x509 = trusting(&[&root]);
    let alice = || Client::new("alice").group("dev").group("ops");
    let plain = |ca: &Ca, client: Client| ders(&ca.client(&client).unwrap());
    let without = |mut chain: Vec<_>, i: usize| {
        chain.remove(i);
        chain
    };
    let usage = "the extended key usage of the chain does not allow client authentication";
    let unknown = "signed by an unknown authority";
    let ok = "alice//dev,ops,system:authenticated";
    let table = [
        ("no certificate", vec![], "no opinion"),
        ("plain", plain(&root, alice()), ok),
        ("no usages", plain(&root, alice().usages(&[])), ok),
        ("any usage", plain(&root, alice().usages(&[Usage::Any])), ok),
        ("server and client", plain(&root, alice().usages(&[Usage::Server, Usage::Client])), ok),
        ("server only", plain(&root, alice().usages(&[Usage::Server])), usage),
        ("intermediate for servers", plain(&servers, alice()), usage),
        ("intermediate", plain(&middle, alice()), ok),
        ("two intermediates", plain(&lower, alice()), ok),
        ("intermediate missing", without(plain(&middle, alice()), 1), unknown),
        ("one of two missing", without(plain(&lower, alice()), 2), unknown),
        ("another CA of that name", plain(&other, alice()), unknown),
        (
            "expired",
            plain(&root, alice().validity(Validity::Expired)),
            "a certificate of the chain has expired",
        ),
        (
            "not yet",
            plain(&root, alice().validity(Validity::NotYet)),
            "a certificate of the chain is not yet valid",
        ),
        (
            "two names",
            plain(&root, Client::new("first").with(Attribute::CommonName, "second")),
            "second//system:authenticated",
        ),
        ("empty name", plain(&root, Client::new("").group("dev")), "no opinion"),
        ("unit", plain(&root, Client::new("u").with(Attribute::Unit, "x")), "u//system:authenticated"),
        (
            "uid",
            plain(&root, Client::new("u").with(Attribute::Uid, "abc-123")),
            "u/abc-123/system:authenticated",
        ),
        (
            "two uids",
            plain(&root, Client::new("u").with(Attribute::Uid, "1").with(Attribute::Uid, "2")),
            "the subject holds more than one UID",
        ),
        ("empty uid", plain(&root, Client::new("u").with(Attribute::Uid, "")), "the subject's UID is empty"),
        ("not ASCII", plain(&root, Client::new("zoë").group("dév")), "zoë//dév,system:authenticated"),
        (
            "anonymous by name",
            plain(&root, Client::new("system:anonymous").group("dev")),
            "system:anonymous//dev",
        ),
        (
            "the CA itself",
            ders(&root.own()),
            "a CA's own certificate is not accepted as a client certificate",
        ),
        ("self-signed", ders(&Ca::self_signed(&Client::new("me").group("system:masters")).unwrap()), unknown),
        ("not a certificate", vec![CertificateDer::from(vec![0x30, 0])], "cannot be verified: BadDer"),
        ("version 1", vec![version_1(&plain(&root, alice())[0])], "not a certificate of version 3"),
        ("a long chain", vec![ders(&root.own()).remove(0); 17], "more than 16 certificates were presented"),
    ];
    for (name, chain, want) in table {
        assert_eq!(judged(&x509, &chain), want, "{name}");
    }
}

#[test]
fn an_identity_that_a_header_would_change_is_refused() {
    let root = Ca::new("clients").unwrap();
    let x509 = trusting(&[&root]);
    // kube-apiserver keeps these byte for byte; sent upstream in a header they would become somebody else.
    for client in [
        Client::new("zoë "),
        Client::new("a").group(" system:masters"),
        Client::new("a").group("system:masters\t"),
        Client::new("a\nb"),
        Client::new("a").with(Attribute::Uid, " 1"),
    ] {
        let got = judged(&x509, &ders(&root.client(&client).unwrap()));
        assert!(got.contains("cannot be carried in a header without change"), "{client:?}: {got}");
    }
}

#[test]
fn the_user_names_its_certificate() {
    let root = Ca::new("clients").unwrap();
    let chain = ders(&root.client(&Client::new("alice")).unwrap());
    let proven =
        trusting(&[&root]).authenticate(&chain, &Cache::default(), SystemTime::now()).unwrap().unwrap();
    let digest = digest::digest(&digest::SHA256, &chain[0]);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let want = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hex}")])]);
    assert_eq!(*proven.user().extra(), want);
}

#[test]
fn expiry_is_noticed_on_a_live_connection() {
    let root = Ca::new("clients").unwrap();
    let client = Client::new("alice").validity(Validity::For(Duration::from_secs(60)));
    let chain = ders(&root.client(&client).unwrap());
    let (x509, cache, now) = (trusting(&[&root]), Cache::default(), SystemTime::now());
    let at = |after: u64| judged_at(&x509, &chain, &cache, now + Duration::from_secs(after));
    assert_eq!(at(0), "alice//system:authenticated");
    let first = cache.0.load_full().unwrap();
    let expires = first.outcome.as_ref().unwrap().as_ref().unwrap().expires().unwrap();
    let left = expires.duration_since(now).unwrap().as_secs();
    assert!((58..=60).contains(&left), "{left}");
    assert_eq!(at(50), "alice//system:authenticated");
    assert!(Arc::ptr_eq(&first, &cache.0.load_full().unwrap()), "judged again before its time");
    assert_eq!(at(62), "a certificate of the chain has expired");
}

#[test]
fn a_refusal_is_kept_for_a_while_only() {
    let root = Ca::new("clients").unwrap();
    let chain = ders(&root.client(&Client::new("alice").validity(Validity::NotYet)).unwrap());
    let (x509, cache, now) = (trusting(&[&root]), Cache::default(), SystemTime::now());
    let at = |after: u64| judged_at(&x509, &chain, &cache, now + Duration::from_secs(after));
    assert_eq!(at(0), "a certificate of the chain is not yet valid");
    let first = cache.0.load_full().unwrap();
    at(REFUSAL_KEPT - 1);
    assert!(Arc::ptr_eq(&first, &cache.0.load_full().unwrap()), "judged again before its time");
    assert_eq!(at(2 * 86_400), "alice//system:authenticated");
}

#[test]
fn other_cas_judge_a_live_connection_anew() {
    let (old, new) = (Ca::new("old").unwrap(), Ca::new("new").unwrap());
    let chain = ders(&old.client(&Client::new("alice")).unwrap());
    let (cache, now) = (Cache::default(), SystemTime::now());
    for (trusted, want) in [
        (&[&old][..], "alice//system:authenticated"),
        (&[&new], "signed by an unknown authority"),
        (&[&new, &old], "alice//system:authenticated"),
    ] {
        assert_eq!(judged_at(&trusting(trusted), &chain, &cache, now), want);
    }
}

#[test]
fn what_an_anchor_leaves_out_is_judged_too() {
    let root = Ca::new("clients").unwrap();
    let middle = root.intermediate("middle", &[]).unwrap();
    let (direct, below) =
        (ders(&root.client(&Client::new("a")).unwrap()), ders(&middle.client(&Client::new("a")).unwrap()));
    let ok = "a//system:authenticated";
    let bounded = |change: fn(&mut Bounds)| {
        let mut x509 = trusting(&[&root]);
        change(&mut x509.authorities.groups[0].bounds[0]);
        [judged(&x509, &direct), judged(&x509, &below)]
    };
    let both = |why: &str| [why.to_owned(), why.to_owned()];
    assert_eq!(bounded(|_| {}), both(ok));
    assert_eq!(bounded(|b| b.path_len = Some(1)), both(ok));
    assert_eq!(
        bounded(|b| b.path_len = Some(0)),
        [ok, "a CA of the chain does not allow so many CAs below it"]
    );
    assert_eq!(bounded(|b| b.valid = 0..=1), both("a certificate of the chain has expired"));
    assert_eq!(
        bounded(|b| b.valid = u64::MAX - 1..=u64::MAX),
        both("a certificate of the chain is not yet valid")
    );
    let usage = "the extended key usage of the chain does not allow client authentication";
    assert_eq!(bounded(|b| b.client_auth = false), both(usage));
}

#[test]
fn a_bundle_holds_authorities_only() {
    let root = Ca::new("clients").unwrap();
    let leaf = ders(&root.client(&Client::new("a")).unwrap()).remove(0);
    let bundle = [CertificateDer::from(root.der().to_vec()), leaf, CertificateDer::from(vec![1, 2])];
    let errors = X509::new(&bundle, None).unwrap_err();
    assert_eq!(errors[0], "certificate 2: not a CA certificate, expected basic constraints CA:TRUE");
    assert!(errors[1].starts_with("certificate 3: not a certificate: "), "{errors:?}");
    let servers = root.intermediate("servers", &[Usage::Server]).unwrap();
    let x509 = trusting(&[&root, &servers]);
    let now = SystemTime::now();
    let usage = "certificate 2: its extended key usage rules out client certificates";
    assert_eq!(x509.authorities().warnings(now), [usage]);
    assert_eq!(
        x509.authorities().warnings(now + Duration::from_secs(500 * 86_400)),
        ["certificate 1: has expired", usage]
    );
}

//! Certificate revocation lists.

use super::{
    made::{Authority, members, resigned, tlv, within},
    *,
};
use crate::pem::File;

const REVOKED: &str = "a certificate of the chain has been revoked";
const STALE: &str = "the revocation list of a CA of the chain has expired";
const NOT_SIGNED: &str = "the revocation list in the name of a CA of the chain is not signed by that CA";
const ALICE: &str = "alice//system:authenticated";

fn file(text: &str) -> File {
    File { origin: "crl".to_owned(), bytes: text.as_bytes().to_vec() }
}

fn lists(text: &str) -> Revocations {
    Revocations::new(&file(text)).unwrap()
}

fn with_lists(cas: &[&Ca], text: &str) -> X509 {
    let bundle: Vec<_> = cas.iter().map(|ca| CertificateDer::from(ca.der().to_vec())).collect();
    X509::new(&bundle, Some(&lists(text))).unwrap()
}

fn list(ca: &Ca, revoked: &[&Pair]) -> String {
    ca.revocation_list(revoked, Validity::Year).unwrap()
}

fn warned(text: &str, cas: &[&Ca]) -> Vec<String> {
    let x509 = with_lists(cas, text);
    lists(text).warnings(SystemTime::now(), &[x509.authorities()])
}

#[test]
fn a_list_speaks_for_the_ca_that_signed_it() {
    let (root, namesake, other) = (Ca::new("ca").unwrap(), Ca::new("ca").unwrap(), Ca::new("other").unwrap());
    let middle = root.intermediate("middle", &[]).unwrap();
    let alice = |ca: &Ca| ca.client(&Client::new("alice")).unwrap();
    let (direct, second, below) = (alice(&root), alice(&root), alice(&middle));
    let (of_namesake, of_other) = (alice(&namesake), alice(&other));
    // The intermediate's own certificate, as its CA sees it.
    let the_middle = Pair { chain: below.chain[1..].to_vec(), key: String::new() };
    let expired = |ca: &Ca| ca.revocation_list(&[], Validity::Expired).unwrap();
    let all = [&root, &namesake, &other];
    type Row<'a> = (&'a [&'a Ca], String, &'a Pair, &'a str);
    let rows: &[Row<'_>] = &[
        (&[&root], list(&root, &[]), &direct, ALICE),
        (&[&root], list(&root, &[&direct]), &direct, REVOKED),
        (&[&root], list(&root, &[&second]), &direct, ALICE),
        (&[&root], list(&root, &[&second, &direct]), &direct, REVOKED),
        (&[&root], list(&root, &[&direct]), &below, ALICE),
        (&[&root], list(&root, &[&the_middle]), &below, REVOKED),
        (&[&root], list(&root, &[&the_middle]), &direct, ALICE),
        // The list of a CA that only the clients have.
        (&[&root], list(&middle, &[&below]), &below, REVOKED),
        (&[&root], list(&middle, &[&below]), &direct, ALICE),
        (&[&root], expired(&middle), &below, STALE),
        (&[&root], expired(&middle), &direct, ALICE),
        // A CA without a list revokes nothing; the list of another is nothing to it.
        (&all, list(&root, &[&of_other]), &of_other, ALICE),
        (&all, expired(&root), &of_other, ALICE),
        (&all, expired(&root), &direct, STALE),
        (&[&root], list(&other, &[]), &direct, ALICE),
        // Whose name it has, but not whose key.
        (&[&root], list(&namesake, &[]), &direct, NOT_SIGNED),
        (&[&root, &other], list(&namesake, &[]), &of_other, ALICE),
        // Two CAs of one name, each with its own.
        (&all, list(&root, &[&direct]), &of_namesake, ALICE),
        (&all, list(&namesake, &[&of_namesake]), &direct, ALICE),
        (&all, list(&root, &[&direct]) + &list(&namesake, &[&of_namesake]), &direct, REVOKED),
        (&all, list(&root, &[&direct]) + &list(&namesake, &[&of_namesake]), &of_namesake, REVOKED),
        (&all, list(&root, &[&direct]) + &list(&namesake, &[]), &second, ALICE),
        (&all, list(&namesake, &[&of_namesake]) + &list(&root, &[]), &second, ALICE),
        (&all, expired(&namesake) + &list(&root, &[]), &second, ALICE),
        (&all, expired(&namesake) + &list(&root, &[]), &of_namesake, STALE),
        // The newest of one CA counts, wherever it stands.
        (&[&root], expired(&root) + &list(&root, &[&direct]), &direct, REVOKED),
        (&[&root], list(&root, &[&direct]) + &expired(&root), &direct, REVOKED),
        (&[&root], list(&root, &[&direct]) + &expired(&root), &second, ALICE),
    ];
    for (n, (cas, text, pair, want)) in rows.iter().enumerate() {
        let x509 = with_lists(cas, text);
        assert_eq!(x509.authorities().len(), cas.len());
        assert_eq!(judged(&x509, &ders(pair)), *want, "{n}");
    }
}

#[test]
fn a_cross_signed_ca_is_no_way_around_its_list() {
    use rcgen::SigningKey as _;
    let (old, new) = (Ca::new("ca").unwrap(), Ca::new("ca").unwrap());
    let alice = new.client(&Client::new("alice")).unwrap();
    // The new key's certificate, signed with the old key.
    let key = rcgen::KeyPair::from_pem(&old.own().key).unwrap();
    let cross = resigned(new.der(), None, |_| {}, |tbs| key.sign(tbs).unwrap());
    let chain = [ders(&alice), vec![cross]].concat();
    let both = [&old, &new];
    assert_eq!(judged(&trusting(&[&old]), &chain), ALICE);
    for (text, want) in [
        (list(&new, &[]), ALICE),
        (list(&new, &[&alice]), REVOKED),
        (list(&old, &[]) + &list(&new, &[&alice]), REVOKED),
        (list(&old, &[]), ALICE),
    ] {
        assert_eq!(judged(&with_lists(&both, &text), &chain), want);
    }
    // A list that nobody trusted has signed lets nobody in, whatever is in it.
    assert_ne!(judged(&with_lists(&[&old], &list(&new, &[])), &chain), ALICE);
}

#[test]
fn a_list_that_expires_ends_what_is_kept_of_a_connection() {
    let root = Ca::new("ca").unwrap();
    let chain = ders(&root.client(&Client::new("alice")).unwrap());
    let text = root.revocation_list(&[], Validity::For(Duration::from_secs(60))).unwrap();
    let (x509, cache, now) = (with_lists(&[&root], &text), Cache::default(), SystemTime::now());
    let at = |after: u64| judged_at(&x509, &chain, &cache, now + Duration::from_secs(after));
    assert_eq!(at(0), ALICE);
    let first = cache.0.load_full().unwrap();
    assert_eq!(at(50), ALICE);
    assert!(Arc::ptr_eq(&first, &cache.0.load_full().unwrap()), "judged again before its time");
    assert_eq!(at(62), STALE);
    // The stream that it opened ends with the certificate, which is still good.
    let expires = first.outcome.as_ref().unwrap().as_ref().unwrap().expires().unwrap();
    assert!(expires > now + Duration::from_secs(86_400));
}

#[test]
fn another_list_judges_a_live_connection_anew() {
    let root = Ca::new("ca").unwrap();
    let pair = root.client(&Client::new("alice")).unwrap();
    let (chain, cache, now) = (ders(&pair), Cache::default(), SystemTime::now());
    for (revoked, want) in [(&[][..], ALICE), (&[&pair], REVOKED), (&[], ALICE)] {
        let x509 = with_lists(&[&root], &list(&root, revoked));
        assert_eq!(judged_at(&x509, &chain, &cache, now), want);
    }
}

#[test]
fn what_is_odd_about_a_list_is_said() {
    let (root, namesake, other) = (Ca::new("ca").unwrap(), Ca::new("ca").unwrap(), Ca::new("other").unwrap());
    let middle = root.intermediate("middle", &[]).unwrap();
    let lasting = |ca: &Ca, validity| ca.revocation_list(&[], validity).unwrap();
    let hour = Validity::For(Duration::from_secs(3_600));
    let stranger = "not of one of the CAs, so only of use if clients present a CA of that name";
    let stale = "has expired; unless there is a newer one the certificates of that CA are refused";
    assert_eq!(warned(&list(&root, &[]), &[&root, &other]), [""; 0]);
    assert_eq!(warned(&(list(&root, &[]) + &list(&namesake, &[])), &[&root, &namesake]), [""; 0]);
    assert_eq!(warned(&list(&other, &[]), &[&root]), [format!("list 1 (CN=other): {stranger}")]);
    assert_eq!(warned(&list(&middle, &[]), &[&root]), [format!("list 1 (CN=middle): {stranger}")]);
    assert_eq!(warned(&lasting(&root, Validity::Expired), &[&root]), [format!("list 1 (CN=ca): {stale}")]);
    assert_eq!(
        warned(&(list(&root, &[]) + &lasting(&other, hour)), &[&root, &other]),
        ["list 2 (CN=other): expires within a day"]
    );
    assert_eq!(
        warned(&list(&namesake, &[]), &[&root]),
        ["list 1 (CN=ca): not signed by the CA of that name, whose certificates are refused"]
    );
}

#[test]
fn what_is_no_list_is_refused_at_once() {
    let root = Ca::new("ca").unwrap();
    let good = list(&root, &[]);
    let der = file(&good).revocation_lists().unwrap().remove(0);
    let read = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        Revocations::new(&file(&format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")))
            .map(|_| ())
            .map_err(|e| e.join("; "))
    };
    // Pieces of what is signed: version, algorithm, issuer, thisUpdate, nextUpdate, (revoked,) extensions.
    let without = |at: usize| {
        let outer = within(&der);
        let mut pieces = within(&outer[0]);
        pieces.remove(at);
        tlv(0x30, &[tlv(0x30, &pieces.concat()), outer[1].clone(), outer[2].clone()].concat())
    };
    // cRLNumber becomes deltaCRLIndicator.
    let delta: Vec<u8> = {
        let at = der.windows(3).position(|w| w == [0x55, 0x1d, 20]).unwrap();
        [&der[..at + 2], &[27], &der[at + 3..]].concat()
    };
    assert_eq!(members(&der).len(), 1);
    assert_eq!(read(&der), Ok(()));
    for (der, want) in [
        (without(0), "not a revocation list of version 2"),
        (without(4), "does not say when the next one comes (nextUpdate)"),
        (without(5), "not a usable revocation list: cannot be verified: MalformedExtensions"),
        (delta, "a delta list, expected a complete one"),
        ([&der[..], &[0]].concat(), "bytes follow the revocation list"),
    ] {
        assert_eq!(read(&der), Err(format!("crl: list 1: {want}")));
    }
    for der in [Authority::root("ca", |_| {}).der.to_vec(), vec![1, 2, 3]] {
        let why = read(&der).unwrap_err();
        assert!(why.starts_with("crl: list 1: not a revocation list: "), "{why}");
    }
    let none = Revocations::new(&file("nothing")).unwrap_err();
    assert_eq!(none, ["crl: no revocation list found, expected PEM blocks \"BEGIN X509 CRL\""]);
}

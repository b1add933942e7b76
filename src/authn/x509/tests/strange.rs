//! What Go's verifier and webpki could judge differently.

use super::{
    made::{Authority, EXTENSIONS, SUBJECT, VALIDITY, VERSION, named, resigned, rsa, subject, tlv, within},
    *,
};
use rcgen::{
    BasicConstraints, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, PKCS_RSA_SHA384, PKCS_RSA_SHA512, SanType,
    string::{BmpString, PrintableString, TeletexString},
};
use rustls::pki_types::SignatureVerificationAlgorithm;

const OK: &str = "alice//system:authenticated";
const MAY_NOT_SIGN: &str = "a certificate of the chain may not sign others";
const USAGE: &str = "the extended key usage of the chain does not allow client authentication";
const UNKNOWN: &str = "signed by an unknown authority";
const CRITICAL: &str = "a critical extension of the chain is not understood";
const CONSTRAINED: &str = "a name in it is outside the name constraints of a CA of the chain";
const ALGORITHM: &str = "signed with an algorithm or a kind of key that is not accepted";
const TOO_LONG: &str = "a CA of the chain does not allow so many CAs below it";

fn under(roots: &[&CertificateDer<'static>], chain: &[&CertificateDer<'static>]) -> String {
    let bundle: Vec<_> = roots.iter().map(|der| (*der).clone()).collect();
    let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
    judged(&X509::new(&bundle, None).unwrap(), &chain)
}

/// An extension that nobody knows.
fn unknown(critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(critical);
    extension
}

#[test]
fn the_order_of_what_is_presented_does_not_matter_nor_what_is_not_needed() {
    let root = Authority::root("root", |_| {});
    let upper = root.below("upper", |_| {});
    let lower = upper.below("lower", |_| {});
    let leaf = lower.leaf(|_| {});
    let other = Authority::root("other", |_| {});
    let namesake = Authority::root("lower", |_| {});
    let (stray, garbage) = (other.leaf(|_| {}), CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]));
    let long: Vec<_> = std::iter::once(&leaf).chain([&stray; 13]).chain([&lower.der, &upper.der]).collect();
    let rows: &[(&[&CertificateDer<'static>], &str)] = &[
        (&[&leaf, &lower.der, &upper.der], OK),
        (&[&leaf, &upper.der, &lower.der], OK),
        (&[&leaf, &lower.der, &upper.der, &root.der], OK),
        (&[&leaf, &root.der, &stray, &other.der, &upper.der, &lower.der, &leaf], OK),
        (&[&leaf, &namesake.der, &lower.der, &upper.der, &lower.der, &upper.der], OK),
        (&[&leaf, &garbage, &lower.der, &upper.der], OK),
        (&long, OK),
        (&[&leaf, &lower.der], UNKNOWN),
        (&[&leaf, &upper.der], UNKNOWN),
        (&[&leaf, &namesake.der, &upper.der], UNKNOWN),
        (&[&stray, &lower.der, &upper.der], UNKNOWN),
        (&[&lower.der, &upper.der], "a CA's own certificate is not accepted as a client certificate"),
        (&[&garbage, &leaf, &lower.der, &upper.der], "cannot be verified: BadDer"),
    ];
    for (n, (chain, want)) in rows.iter().enumerate() {
        assert_eq!(under(&[&root.der], chain), *want, "{n}");
    }
    // An intermediate may itself be trusted; the root need not be.
    assert_eq!(under(&[&lower.der], &[&leaf]), OK);
    assert_eq!(under(&[&upper.der], &[&leaf, &lower.der, &root.der]), OK);
}

#[test]
fn a_stranger_cannot_make_the_gate_search_for_long() {
    let root = Authority::root("root", |_| {});
    // Every one of them could have signed every other.
    let strangers: Vec<_> = (0..15).map(|_| Authority::root("anybody", |_| {})).collect();
    let leaf = strangers[0].leaf(|_| {});
    let chain =
        |n: usize| std::iter::once(&leaf).chain(strangers[..n].iter().map(|s| &s.der)).collect::<Vec<_>>();
    let search = "the certificates that were presented could be a chain in too many ways";
    for (n, want) in [(1, UNKNOWN), (3, UNKNOWN), (4, search), (15, search)] {
        assert_eq!(under(&[&root.der], &chain(n)), want, "{n}");
    }
    // A chain that is real is found among a few namesakes.
    let upper = root.below("anybody", |_| {});
    let real = upper.leaf(|_| {});
    let chain = [&real, &strangers[0].der, &strangers[1].der, &upper.der];
    assert_eq!(under(&[&root.der], &chain), OK);
}

#[test]
fn a_bundle_may_hold_a_ca_twice_or_renewed() {
    let ca = Authority::root("ca", |_| {});
    let expired = ca.again("ca", |p| p.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let (leaf, other) = (ca.leaf(|_| {}), Authority::root("ca", |_| {}));
    for roots in [
        &[&ca.der, &ca.der][..],
        &[&ca.der, &expired],
        &[&expired, &ca.der],
        &[&other.der, &ca.der],
        &[&ca.der, &other.der],
        &[&expired, &other.der, &ca.der, &ca.der],
    ] {
        assert_eq!(under(roots, &[&leaf]), OK);
        assert_eq!(under(roots, &[&leaf, &expired, &other.der, &ca.der]), OK);
    }
    assert_eq!(under(&[&expired], &[&leaf]), "a certificate of the chain has expired");
    assert_eq!(under(&[&expired, &other.der], &[&leaf]), "a certificate of the chain has expired");
}

#[test]
fn who_may_sign_and_how_deep() {
    let root = Authority::root("root", |_| {});
    let no_ca = |p: &mut rcgen::CertificateParams| p.is_ca = IsCa::NoCa;
    let says_no_ca = |p: &mut rcgen::CertificateParams| p.is_ca = IsCa::ExplicitNoCa;
    let usages = |usages: &'static [KeyUsagePurpose]| {
        move |p: &mut rcgen::CertificateParams| p.key_usages = usages.to_vec()
    };
    let depth = |most| {
        move |p: &mut rcgen::CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(most))
    };
    let through = |middle: &Authority| under(&[&root.der], &[&middle.leaf(|_| {}), &middle.der]);
    assert_eq!(through(&root.below("m", usages(&[]))), OK);
    assert_eq!(through(&root.below("m", usages(&[KeyUsagePurpose::KeyCertSign]))), OK);
    assert_eq!(through(&root.below("m", usages(&[KeyUsagePurpose::DigitalSignature]))), MAY_NOT_SIGN);
    assert_eq!(through(&root.below("m", no_ca)), MAY_NOT_SIGN);
    assert_eq!(through(&root.below("m", says_no_ca)), MAY_NOT_SIGN);
    assert_eq!(through(&root.below("m", depth(0))), OK);
    for (upper, want) in [(depth(0), TOO_LONG), (depth(1), OK)] {
        let upper = root.below("upper", upper);
        let lower = upper.below("lower", |_| {});
        assert_eq!(under(&[&root.der], &[&lower.leaf(|_| {}), &lower.der, &upper.der]), want);
    }

    // The same of the CA itself, which webpki takes as it is.
    let by = |ca: &Authority| under(&[&ca.der], &[&ca.leaf(|_| {})]);
    assert_eq!(by(&Authority::root("ca", usages(&[]))), OK);
    assert_eq!(by(&Authority::root("ca", usages(&[KeyUsagePurpose::CrlSign]))), MAY_NOT_SIGN);
    assert_eq!(
        by(&Authority::root("ca", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        USAGE
    );
    assert_eq!(
        by(&Authority::root("ca", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])),
        OK
    );
    assert_eq!(by(&Authority::root("ca", |p| p.custom_extensions = vec![unknown(false)])), OK);
    let critical = Authority::root("ca", |p| p.custom_extensions = vec![unknown(true)]);
    assert_eq!(by(&critical), MAY_NOT_SIGN);
    assert_eq!(by(&Authority::root("ca", depth(0))), OK);
    let flat = Authority::root("ca", depth(0));
    let below = flat.below("below", |_| {});
    assert_eq!(under(&[&flat.der], &[&below.leaf(|_| {}), &below.der]), TOO_LONG);
    let odd = "certificate 1: its key usage rules out signing certificates, or it has a critical extension that is not understood";
    assert_eq!(X509::new(&[critical.der], None).unwrap().authorities().warnings(SystemTime::now()), [odd]);
    for change in [no_ca, says_no_ca] {
        let errors = X509::new(&[Authority::root("ca", change).der], None).unwrap_err();
        assert_eq!(errors, ["certificate 1: not a CA certificate, expected basic constraints CA:TRUE"]);
    }

    // A CA of version 1 cannot say that it is one; a leaf of version 1 is refused, though Go takes it.
    let old = Authority::root("old", |_| {});
    let version_1 = |pieces: &mut Vec<Vec<u8>>| {
        pieces.remove(EXTENSIONS);
        pieces.remove(VERSION);
    };
    let leaf = old.leaf(|_| {});
    let old_leaf = old.changed(&old.leaf(|p| p.use_authority_key_identifier_extension = true), version_1);
    assert_eq!(under(&[&old.changed(&old.der, version_1)], &[&leaf]), OK);
    assert_eq!(under(&[&old.der], &[&old_leaf]), "not a certificate of version 3");
}

#[test]
fn extensions_of_a_leaf_and_of_a_ca_on_the_way() {
    let root = Authority::root("root", |_| {});
    let direct = |change: &dyn Fn(&mut rcgen::CertificateParams)| under(&[&root.der], &[&root.leaf(change)]);
    let through = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let middle = root.below("middle", change);
        under(&[&root.der], &[&middle.leaf(|_| {}), &middle.der])
    };
    let policies = |critical| {
        let any_policy = [0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x55, 0x1d];
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 32], any_policy.to_vec());
        extension.set_criticality(critical);
        extension
    };
    type Change<'a> = &'a dyn Fn(&mut rcgen::CertificateParams);
    let both: &[(Change<'_>, &str)] = &[
        (&|p| p.custom_extensions = vec![unknown(false)], OK),
        (&|p| p.custom_extensions = vec![unknown(true)], CRITICAL),
        (&|p| p.custom_extensions = vec![policies(false)], OK),
        // Go knows these; here they are refused rather than half understood.
        (&|p| p.custom_extensions = vec![policies(true)], CRITICAL),
        (&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any], OK),
        (&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection], USAGE),
        (
            &|p| {
                p.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            },
            OK,
        ),
        // Go reads this as no extended key usage.
        (
            &|p| {
                p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], vec![0x30, 0])]
            },
            "an extended key usage of the chain is empty",
        ),
    ];
    for (n, (change, want)) in both.iter().enumerate() {
        assert_eq!(direct(*change), *want, "leaf {n}");
        assert_eq!(through(*change), *want, "intermediate {n}");
    }
    // The key usage of a leaf is nobody's business.
    for usage in [KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyAgreement] {
        assert_eq!(direct(&|p| p.key_usages = vec![usage]), OK);
    }
    assert_eq!(direct(&|p| p.is_ca = IsCa::ExplicitNoCa), OK);
    // A client certificate signs nothing, whoever signed it.
    let client = root.below("client", |p| p.is_ca = IsCa::NoCa);
    assert_eq!(under(&[&root.der], &[&client.leaf(|_| {}), &client.der]), MAY_NOT_SIGN);
    // Named as its CA is, it is still a leaf.
    let namesake = root.leaf(|p| p.distinguished_name = named("root"));
    assert_eq!(under(&[&root.der], &[&namesake]), "root//system:authenticated");
}

#[test]
fn name_constraints_hold_for_alternative_names() {
    let constraints = |permitted: &[GeneralSubtree], excluded: &[GeneralSubtree]| NameConstraints {
        permitted_subtrees: permitted.to_vec(),
        excluded_subtrees: excluded.to_vec(),
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let names = |names: &[SanType]| {
        let names = names.to_vec();
        move |p: &mut rcgen::CertificateParams| p.subject_alt_names = names
    };
    let host = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = SanType::URI("spiffe://other/a".try_into().unwrap());
    let mail = SanType::Rfc822Name("a@other.org".try_into().unwrap());
    let inside = constraints(&[dns("example.com")], &[]);
    let rows: &[(NameConstraints, &[SanType], &str)] = &[
        (inside.clone(), &[], OK),
        (inside.clone(), &[host("a.example.com")], OK),
        (inside.clone(), &[host("a.example.com"), uri, mail.clone()], OK),
        (inside.clone(), &[host("a.example.org")], CONSTRAINED),
        (inside, &[host("a.example.com"), host("b")], CONSTRAINED),
        (constraints(&[], &[dns("example.org")]), &[host("a.example.org")], CONSTRAINED),
        (constraints(&[], &[dns("example.org")]), &[host("a.example.com")], OK),
        // Go can check mail; here a certificate with such a name is refused whatever it says.
        (constraints(&[GeneralSubtree::Rfc822Name("other.org".to_owned())], &[]), &[], OK),
        (constraints(&[GeneralSubtree::Rfc822Name("other.org".to_owned())], &[]), &[mail], CONSTRAINED),
        // Neither of the two can check these; Go looks at whether they are critical, here every subject is outside.
        (constraints(&[GeneralSubtree::DirectoryName(named("alice"))], &[]), &[], CONSTRAINED),
        (constraints(&[], &[GeneralSubtree::DirectoryName(named("bob"))]), &[], CONSTRAINED),
    ];
    for (n, (constraints, presented, want)) in rows.iter().enumerate() {
        let constrained = |p: &mut rcgen::CertificateParams| p.name_constraints = Some(constraints.clone());
        let root = Authority::root("root", constrained);
        assert_eq!(under(&[&root.der], &[&root.leaf(names(presented))]), *want, "root {n}");
        let root = Authority::root("root", |_| {});
        let middle = root.below("middle", constrained);
        assert_eq!(
            under(&[&root.der], &[&middle.leaf(names(presented)), &middle.der]),
            *want,
            "intermediate {n}"
        );
    }
}

#[test]
fn signatures_are_those_that_go_accepts_but_no_weak_ones() {
    let by = |key: KeyPair| {
        let ca = Authority::with_key("ca", key, |_| {});
        under(&[&ca.der], &[&ca.leaf(|_| {})])
    };
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519] {
        assert_eq!(by(KeyPair::generate_for(algorithm).unwrap()), OK, "{algorithm:?}");
    }
    for algorithm in [&PKCS_RSA_SHA384, &PKCS_RSA_SHA512] {
        assert_eq!(by(rsa(algorithm)), OK, "{algorithm:?}");
    }
    let key = rsa(&PKCS_RSA_SHA256);
    let signer = aws_lc_rs::rsa::KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let ca = Authority::with_key("ca", key, |_| {});
    let leaf = ca.leaf(|_| {});
    assert_eq!(under(&[&ca.der], &[&leaf]), OK);

    let again = |algorithm: &[u8], padding: &'static dyn aws_lc_rs::signature::RsaEncoding| {
        let sign = |text: &[u8]| {
            let mut signature = vec![0; signer.public_modulus_len()];
            signer.sign(padding, &aws_lc_rs::rand::SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        under(&[&ca.der], &[&resigned(&leaf, Some(algorithm), |_| {}, sign)])
    };
    let of = |algorithm: &dyn SignatureVerificationAlgorithm| algorithm.signature_alg_id().as_ref().to_vec();
    let pss = of(webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY);
    assert_eq!(again(&pss, &aws_lc_rs::signature::RSA_PSS_SHA256), OK);
    let pkcs1 = of(webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(again(&pkcs1, &aws_lc_rs::signature::RSA_PKCS1_SHA256), OK);
    assert_eq!(again(&pkcs1, &aws_lc_rs::signature::RSA_PKCS1_SHA512), UNKNOWN, "not what it says");
    // sha1WithRSAEncryption, md5WithRSAEncryption
    for old in [5, 4] {
        let algorithm = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, old, 0x05, 0];
        assert_eq!(again(&algorithm, &aws_lc_rs::signature::RSA_PKCS1_SHA256), ALGORITHM);
    }

    // Go's limit is at 1024 bits.
    let weak = crate::pem::File { origin: "weak".to_owned(), bytes: include_bytes!("rsa-1024.pem").to_vec() };
    let mut weak = weak.certificates().unwrap();
    let leaf = weak.pop().unwrap();
    let in_2030 = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * 365 * 86_400);
    let x509 = X509::new(&weak, None).unwrap();
    assert_eq!(judged_at(&x509, &[leaf], &Cache::default(), in_2030), UNKNOWN);
}

#[test]
fn long_ago_and_for_ever() {
    let ca = Authority::root("ca", |_| {});
    let leaf = ca.leaf(|_| {});
    let lasting = |from: (u8, &str), until: (u8, &str)| {
        let validity = [from, until].map(|(tag, time)| tlv(tag, time.as_bytes())).concat();
        ca.changed(&leaf, |pieces| pieces[VALIDITY] = tlv(0x30, &validity))
    };
    const UTC: u8 = 0x17;
    const GENERAL: u8 = 0x18;
    let now = (UTC, "200101000000Z");
    let rows = [
        (now, (GENERAL, "99991231235959Z"), OK),
        ((UTC, "700101000000Z"), (GENERAL, "99991231235959Z"), OK),
        (now, (UTC, "200101000000Z"), "a certificate of the chain has expired"),
        (
            (GENERAL, "90000101000000Z"),
            (GENERAL, "99991231235959Z"),
            "a certificate of the chain is not yet valid",
        ),
        ((GENERAL, "99991231235959Z"), now, "cannot be verified: InvalidCertValidity"),
        ((UTC, "690101000000Z"), (GENERAL, "99991231235959Z"), "cannot be verified: BadDerTime"),
        (now, (GENERAL, "99991331235959Z"), "cannot be verified: BadDerTime"),
        (now, (UTC, ""), "cannot be verified: BadDerTime"),
    ];
    for (from, until, want) in rows {
        assert_eq!(under(&[&ca.der], &[&lasting(from, until)]), want, "{from:?} {until:?}");
    }
    let x509 = X509::new(std::slice::from_ref(&ca.der), None).unwrap();
    let for_ever = lasting(now, (GENERAL, "99991231235959Z"));
    let proven = x509.authenticate(&[for_ever], &Cache::default(), SystemTime::now()).unwrap().unwrap();
    // The CA's own end comes first, at the end of its last second.
    let root_ends = parsed(&ca.der).unwrap().validity().not_after.timestamp() as u64;
    assert_eq!(proven.expires(), SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(root_ends + 1)));
}

#[test]
fn names_are_taken_byte_for_byte_in_the_encodings_that_have_one_reading() {
    let ca = Authority::root("ca", |_| {});
    let leaf = ca.leaf(|_| {});
    let who = |change: &dyn Fn(&mut rcgen::CertificateParams)| under(&[&ca.der], &[&ca.leaf(change)]);
    let common = |value: DnValue| {
        who(&|p| {
            p.distinguished_name = rcgen::DistinguishedName::new();
            p.distinguished_name.push(DnType::CommonName, value.clone());
        })
    };
    assert_eq!(common(DnValue::PrintableString(PrintableString::try_from("alice").unwrap())), OK);
    assert_eq!(common(DnValue::TeletexString(TeletexString::try_from("alice").unwrap())), OK);
    let unreadable = "the subject's common name cannot be read: ";
    assert!(common(DnValue::BmpString(BmpString::try_from("alice").unwrap())).starts_with(unreadable));

    const NAME: &[u8] = &[0x55, 4, 3];
    const GROUP: &[u8] = &[0x55, 4, 10];
    const UTF8: u8 = 0x0c;
    let of = |subject: Vec<u8>| under(&[&ca.der], &[&ca.changed(&leaf, |pieces| pieces[SUBJECT] = subject)]);
    assert_eq!(of(subject(&[])), "no opinion");
    assert_eq!(of(subject(&[(NAME, UTF8, b"")])), "no opinion");
    assert_eq!(of(subject(&[(GROUP, UTF8, b"system:masters")])), "no opinion");
    assert_eq!(of(subject(&[(NAME, UTF8, b"alice"), (GROUP, UTF8, b"")])), "alice//,system:authenticated");
    assert_eq!(of(subject(&[(NAME, UTF8, "e\u{301}".as_bytes())])), "e\u{301}//system:authenticated");
    assert_eq!(of(subject(&[(NAME, UTF8, b"al,ice/O=x")])), "al,ice/O=x//system:authenticated");
    assert!(of(subject(&[(NAME, UTF8, b"alice\0")])).contains("cannot be carried in a header"));
    assert!(of(subject(&[(NAME, UTF8, b"\xff")])).starts_with(unreadable));
    // Both attributes in one set.
    let [name, group] = [(NAME, "alice"), (GROUP, "dev")]
        .map(|(kind, value)| tlv(0x30, &[tlv(6, kind), tlv(UTF8, value.as_bytes())].concat()));
    assert_eq!(of(tlv(0x30, &tlv(0x31, &[name, group].concat()))), "alice//dev,system:authenticated");

    // As many groups as a real certificate has, and more than fit into one.
    let groups = |n: usize| {
        let one: (&[u8], u8, &[u8]) = (GROUP, UTF8, b"g");
        of(subject(&[vec![(NAME, UTF8, &b"alice"[..])], vec![one; n]].concat()))
    };
    assert!(groups(1_000).starts_with("alice//g,g,"));
    assert_eq!(groups(1_001), "the subject holds 1001 organizations, at most 1000 are accepted");
    assert!(groups(6_000).starts_with("cannot be verified: "));
}

#[test]
fn what_follows_or_is_missing_is_not_made_up_for() {
    let ca = Authority::root("ca", |_| {});
    let leaf = ca.leaf(|_| {});
    let longer = CertificateDer::from([&leaf[..], &[0]].concat());
    assert!(under(&[&ca.der], &[&longer]).starts_with("cannot be verified: "));
    let shorter = CertificateDer::from(leaf[..leaf.len() - 1].to_vec());
    assert!(under(&[&ca.der], &[&shorter]).starts_with("cannot be verified: "));
    assert!(under(&[&ca.der], &[&CertificateDer::from(Vec::new())]).starts_with("cannot be verified: "));
    // The algorithm stands twice in a certificate, and must be the same.
    let mut pieces = within(&leaf);
    pieces[1] = tlv(0x30, &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]);
    let two_minds = CertificateDer::from(tlv(0x30, &pieces.concat()));
    assert_eq!(under(&[&ca.der], &[&two_minds]), "cannot be verified: SignatureAlgorithmMismatch");
    for at in [leaf.len() - 1, leaf.len() / 3] {
        let mut other = leaf.to_vec();
        other[at] ^= 1;
        let judged = under(&[&ca.der], &[&CertificateDer::from(other)]);
        assert!(judged != OK && judged != "no opinion", "{at}: {judged}");
    }
}

use super::*;
use crate::authn::jwt::mint::{self, P256, P384, P521, RSA, RSA2, Signer, base64url, jwks, pem};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

fn set(keys: &[Value]) -> KeySet {
    let (set, passed_over) = KeySet::from_jwks(&jwks(keys)).unwrap();
    assert_eq!(passed_over, Vec::<String>::new());
    set
}

fn everybody() -> KeySet {
    set(&[RSA.jwk(), RSA2.jwk(), P256.jwk(), P384.jwk(), P521.jwk()])
}

fn verify(keys: &KeySet, token: &str) -> Result<(), Unverified> {
    keys.verify(&Jws::parse(token).unwrap().unwrap(), &Algorithm::ALL)
}

fn header(algorithm: Algorithm, kid: &str) -> String {
    json!({"alg": algorithm.as_str(), "kid": kid}).to_string()
}

fn without(mut key: Value, member: &str) -> Value {
    key.as_object_mut().unwrap().remove(member);
    key
}

fn with(mut key: Value, member: &str, value: impl Into<Value>) -> Value {
    key[member] = value.into();
    key
}

fn file(text: &str) -> File {
    File { origin: "sa.pub".to_owned(), bytes: text.as_bytes().to_vec() }
}

#[test]
fn algorithms_have_their_names() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(&algorithm.to_string()), Some(algorithm));
    }
    for name in ["", "none", "HS256", "rs256", "RS256 ", "RS1", "ES256K", "EdDSA"] {
        assert_eq!(Algorithm::parse(name), None, "{name}");
    }
}

#[test]
fn every_algorithm_verifies_and_only_for_what_was_signed() {
    let keys = everybody();
    for algorithm in Algorithm::ALL {
        let signer = mint::signer(algorithm);
        let token = signer.sign(&header(algorithm, signer.kid), r#"{"sub":"a"}"#, algorithm);
        assert_eq!(verify(&keys, &token), Ok(()), "{algorithm}");
        assert_eq!(
            verify(&set(&[without(signer.jwk(), "kid")]), &token),
            Err(Unverified::NoKey),
            "{algorithm}"
        );
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = signed.split_once('.').unwrap();
        for altered in [
            format!("{head}.{}.{signature}", base64url(r#"{"sub":"b"}"#)),
            format!(
                "{}.{}.{signature}",
                base64url(header(algorithm, signer.kid) + " "),
                base64url(r#"{"sub":"a"}"#)
            ),
            format!("{signed}."),
            format!("{signed}.{}", base64url([0; 64])),
            format!("{signed}.{}", base64url([0; 256])),
            format!("{signed}.{signature}AAAA"),
            format!("{signed}.{}", &signature[4..]),
        ] {
            assert_eq!(verify(&keys, &altered), Err(Unverified::Signature), "{algorithm}: {altered}");
        }
    }
}

#[test]
fn an_algorithm_is_bound_to_its_type_of_key() {
    let keys = everybody();
    for (signer, with, claimed) in [
        (&*RSA, Algorithm::Rs256, Algorithm::Rs512),
        (&*RSA, Algorithm::Rs256, Algorithm::Ps256),
        (&*RSA, Algorithm::Ps256, Algorithm::Rs256),
        (&*RSA, Algorithm::Rs256, Algorithm::Es256),
        (&*P256, Algorithm::Es256, Algorithm::Rs256),
        (&*P256, Algorithm::Es256, Algorithm::Es384),
        (&*P384, Algorithm::Es384, Algorithm::Es256),
        (&*P521, Algorithm::Es512, Algorithm::Es384),
    ] {
        for named in [header(claimed, signer.kid), json!({"alg": claimed.as_str()}).to_string()] {
            let token = signer.sign(&named, "{}", with);
            assert_eq!(verify(&keys, &token), Err(Unverified::Signature), "{with} as {claimed}: {named}");
        }
    }
}

#[test]
fn the_kid_chooses_the_keys() {
    let keys = everybody();
    let sign = |signer: &Signer, kid: Option<&str>| {
        let header = match kid {
            Some(kid) => header(signer.algorithm(), kid),
            None => json!({"alg": signer.algorithm().as_str()}).to_string(),
        };
        signer.sign(&header, "{}", signer.algorithm())
    };
    let stranger = set(&[with(RSA2.jwk(), "kid", "rsa")]);
    let twins =
        set(&[with(P256.jwk(), "kid", "x"), with(RSA2.jwk(), "kid", "x"), with(RSA.jwk(), "kid", "x")]);
    let nameless = set(&[without(RSA.jwk(), "kid")]);
    for (keys, token, want) in [
        (&keys, sign(&RSA, Some("rsa")), Ok(())),
        (&keys, sign(&RSA2, Some("rsa2")), Ok(())),
        (&keys, sign(&RSA, None), Ok(())),
        (&keys, sign(&RSA2, None), Ok(())),
        (&keys, sign(&P521, None), Ok(())),
        (&keys, sign(&RSA, Some("")), Ok(())),
        (&keys, sign(&RSA, Some("rsa2")), Err(Unverified::Signature)),
        (&keys, sign(&RSA, Some("p256")), Err(Unverified::Signature)),
        (&keys, sign(&RSA, Some("nobody")), Err(Unverified::NoKey)),
        (&keys, sign(&RSA, Some("RSA")), Err(Unverified::NoKey)),
        (&stranger, sign(&RSA, Some("rsa")), Err(Unverified::Signature)),
        (&stranger, sign(&RSA, None), Err(Unverified::Signature)),
        // Several keys of one name are all tried.
        (&twins, sign(&RSA, Some("x")), Ok(())),
        (&twins, sign(&P256, Some("x")), Ok(())),
        (&twins, sign(&P384, Some("x")), Err(Unverified::Signature)),
        // A key without a name is for tokens without one.
        (&nameless, sign(&RSA, None), Ok(())),
        (&nameless, sign(&RSA, Some("rsa")), Err(Unverified::NoKey)),
        (&set(&[]), sign(&RSA, None), Err(Unverified::NoKey)),
    ] {
        assert_eq!(verify(keys, &token), want, "{token}");
    }
}

#[test]
fn the_allowed_algorithms_are_looked_at_first() {
    let token = RSA.sign(&header(Algorithm::Ps256, "nobody"), "{}", Algorithm::Ps256);
    let jws = Jws::parse(&token).unwrap().unwrap();
    let refused = everybody().verify(&jws, &[Algorithm::Rs256]).unwrap_err();
    assert_eq!(refused, Unverified::Algorithm(Algorithm::Ps256));
    assert_eq!(refused.to_string(), "algorithm PS256 is not allowed");
    assert_eq!(everybody().verify(&jws, &[]), Err(Unverified::Algorithm(Algorithm::Ps256)));
    assert_eq!(everybody().verify(&jws, &[Algorithm::Ps256]), Err(Unverified::NoKey));
    // What the key itself is said to be for is not enforced, as in kube-apiserver.
    let token = RSA.sign(&header(Algorithm::Ps256, "rsa"), "{}", Algorithm::Ps256);
    assert_eq!(verify(&set(&[with(RSA.jwk(), "alg", "RS256")]), &token), Ok(()));
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let keys = everybody();
    let n = RSA.jwk()["n"].as_str().unwrap().to_owned();
    let secrets = [RSA.public_pem(), RSA.pkcs1_pem(), RSA.public_pem().trim().to_owned(), n, String::new()];
    let macs = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512];
    for secret in &secrets {
        for (name, mac) in ["HS256", "HS384", "HS512"].into_iter().zip(macs) {
            let signed =
                format!("{}.{}", base64url(json!({"alg": name, "kid": "rsa"}).to_string()), base64url("{}"));
            let tag = hmac::sign(&hmac::Key::new(mac, secret.as_bytes()), signed.as_bytes());
            let token = format!("{signed}.{}", base64url(tag));
            assert!(Jws::parse(&token).unwrap_err().contains("proves nothing"), "{name}");
            // Nor when the header names an algorithm that is accepted.
            let signed = format!("{}.{}", base64url(header(Algorithm::Rs256, "rsa")), base64url("{}"));
            let tag = hmac::sign(&hmac::Key::new(mac, secret.as_bytes()), signed.as_bytes());
            let token = format!("{signed}.{}", base64url(tag));
            assert_eq!(verify(&keys, &token), Err(Unverified::Signature), "{name}");
        }
    }
    let unsigned = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url("{}"));
    assert!(Jws::parse(&unsigned).is_err());
}

#[test]
fn a_key_in_the_token_s_own_header_is_not_used() {
    let header = json!({"alg": "RS256", "jwk": RSA2.jwk(), "x5c": ["AA"], "jku": "https://evil"}).to_string();
    let token = RSA2.sign(&header, "{}", Algorithm::Rs256);
    assert_eq!(verify(&set(&[RSA.jwk()]), &token), Err(Unverified::Signature));
}

#[test]
fn keys_that_cannot_be_used_are_passed_over_with_a_reason() {
    let rsa = RSA.jwk();
    let ec = P256.jwk();
    let n = |bytes: &[u8]| with(RSA.jwk(), "n", base64url(bytes));
    let e = |bytes: &[u8]| with(RSA.jwk(), "e", base64url(bytes));
    let odd = |bytes: usize| {
        let mut n = vec![0xff; bytes];
        n[bytes / 2] = 1;
        n
    };
    let oct = json!({"kty": "oct", "kid": "s", "k": "AAAA", "alg": "HS256"});
    let bits = |bits: u32| format!("an RSA key of {bits} bits, expected 2048 to 8192");
    let exponent = "an RSA key whose exponent is not an odd number of at least 3 and below 2^31";
    for (key, why) in [
        (oct, "a symmetric key proves nothing here"),
        (with(rsa.clone(), "use", "enc"), "\"use\" is not \"sig\""),
        (with(rsa.clone(), "use", Value::Null), "\"use\" is not \"sig\""),
        (with(rsa.clone(), "key_ops", json!(["encrypt"])), "\"key_ops\" does not hold \"verify\""),
        (with(rsa.clone(), "key_ops", json!("verify")), "\"key_ops\" does not hold \"verify\""),
        (with(rsa.clone(), "kid", json!(1)), "\"kid\" is not text"),
        (with(rsa.clone(), "d", "AQAB"), "a private key; whoever can read it here can sign tokens"),
        (with(ec.clone(), "d", "AQAB"), "a private key; whoever can read it here can sign tokens"),
        (with(rsa.clone(), "kty", "OKP"), "\"kty\" is not RSA or EC"),
        (with(rsa.clone(), "kty", "rsa"), "\"kty\" is not RSA or EC"),
        (without(rsa.clone(), "kty"), "\"kty\" is not RSA or EC"),
        (without(rsa.clone(), "n"), "\"n\" is not a number in base64url"),
        (without(rsa.clone(), "e"), "\"e\" is not a number in base64url"),
        (with(rsa.clone(), "e", 65537), "\"e\" is not a number in base64url"),
        (with(rsa.clone(), "n", "!!"), "\"n\" is not a number in base64url"),
        (n(&odd(255)), &bits(2040)),
        (n(&[&[0x7f], &odd(255)[..]].concat()), &bits(2047)),
        (n(&odd(128)), &bits(1024)),
        (n(&odd(1025)), &bits(8200)),
        (n(&[]), &bits(0)),
        (n(&[0; 256]), &bits(0)),
        (n(&[&odd(255)[..], &[0xfe]].concat()), "an RSA key with an even modulus"),
        (e(&[1]), exponent),
        (e(&[]), exponent),
        (e(&[0]), exponent),
        (e(&[2]), exponent),
        (e(&[1, 0, 0]), exponent),
        (e(&[0x80, 0, 0, 1]), exponent),
        (e(&[1, 0, 0, 0, 1]), exponent),
        (with(ec.clone(), "crv", "P-384"), "coordinates of 32 and 32 bytes, expected 48 each"),
        (with(ec.clone(), "crv", "secp256k1"), "\"crv\" is not P-256, P-384 or P-521"),
        (without(ec.clone(), "crv"), "\"crv\" is not P-256, P-384 or P-521"),
        (without(ec.clone(), "x"), "\"x\" is not a number in base64url"),
        (with(ec.clone(), "y", ec["x"].clone()), "the point is not on its curve"),
        (
            with(with(ec.clone(), "x", base64url([0; 32])), "y", base64url([0; 32])),
            "the point is not on its curve",
        ),
        (with(ec.clone(), "x", base64url([0xff; 32])), "the point is not on its curve"),
        (with(ec, "x", base64url([1; 33])), "coordinates of 33 and 32 bytes, expected 32 each"),
        (json!("text"), "not an object"),
        (json!(null), "not an object"),
    ] {
        let (set, passed_over) = KeySet::from_jwks(&jwks(&[key.clone(), P384.jwk()])).unwrap();
        assert_eq!(set.len(), 1, "{key}");
        assert_eq!(passed_over.len(), 1, "{key}");
        assert!(passed_over[0].starts_with("key 1"), "{key}: {}", passed_over[0]);
        assert!(passed_over[0].ends_with(&format!("is passed over: {why}")), "{key}: {}", passed_over[0]);
    }
    let (_, named) = KeySet::from_jwks(&jwks(&[with(rsa, "use", "enc")])).unwrap();
    assert_eq!(named, ["key 1 (\"rsa\") is passed over: \"use\" is not \"sig\""]);
}

#[test]
fn what_issuers_write_is_read() {
    let token = RSA.token(&json!({}));
    let n = RSA.jwk()["n"].as_str().unwrap().to_owned();
    let zero = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &n).unwrap();
    for key in [
        without(RSA.jwk(), "use"),
        without(RSA.jwk(), "alg"),
        with(RSA.jwk(), "key_ops", json!(["sign", "verify"])),
        with(RSA.jwk(), "x5c", json!(["MIIB"])),
        with(RSA.jwk(), "n", base64url([&[0], &zero[..]].concat())),
        with(RSA.jwk(), "n", format!("{n}==")),
        with(RSA.jwk(), "e", base64url([0, 1, 0, 1])),
    ] {
        assert_eq!(verify(&set(std::slice::from_ref(&key)), &token), Ok(()), "{key}");
    }
    let exponent = set(&[with(RSA2.jwk(), "e", base64url([3]))]);
    assert_eq!((exponent.len(), verify(&exponent, &RSA2.token(&json!({})))), (1, Err(Unverified::Signature)));
}

#[test]
fn what_is_no_key_set_is_refused() {
    let many = |n: usize| jwks(&vec![json!({"kty": "oct"}); n]);
    assert_eq!(KeySet::from_jwks(&many(256)).unwrap().1.len(), 256);
    let large = [jwks(&[]), vec![b' '; 1 << 20]].concat();
    for (text, why) in [
        (&b""[..], "the key set: not JSON: it ends early"),
        (b"<html>", "the key set: not JSON: expected value at line 1 column 1"),
        (b"[]", "the key set has no list of \"keys\""),
        (b"{}", "the key set has no list of \"keys\""),
        (br#"{"keys":{}}"#, "the key set has no list of \"keys\""),
        (br#"{"keys":[],"keys":[]}"#, "the key set: an object holds a key twice at line 1 column 21"),
        (&many(257), "the key set lists more than 256 keys"),
        (&large, "the key set is larger than 1048576 bytes"),
    ] {
        assert_eq!(KeySet::from_jwks(text).unwrap_err(), why);
    }
    assert_eq!(KeySet::from_jwks(&jwks(&[])).unwrap().0.len(), 0);
}

#[test]
fn pem_is_read_and_its_keys_are_called_as_kube_apiserver_calls_them() {
    let id = |signer: &Signer| {
        base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &signer.public_der()))
    };
    let texts = [
        (&*RSA, RSA.public_pem()),
        (&*RSA, RSA.pkcs1_pem()),
        (&*RSA, RSA.private_pem()),
        (&*P256, P256.public_pem()),
        (&*P256, P256.private_pem()),
        (&*P256, P256.sec1_pem()),
        (&*P384, P384.public_pem()),
        (&*P384, P384.sec1_pem()),
        (&*P521, P521.private_pem()),
        // openssl writes the curve before the key.
        (&*P521, pem("EC PARAMETERS", &[6, 5, 43, 129, 4, 0, 35]) + &P521.sec1_pem()),
    ];
    for (signer, text) in &texts {
        let set = KeySet::from_pem(&[file(text)]).unwrap();
        assert_eq!(set.len(), 1, "{text}");
        let token = |kid: &str| signer.sign(&header(signer.algorithm(), kid), "{}", signer.algorithm());
        assert_eq!(verify(&set, &token(&id(signer))), Ok(()), "{text}");
        assert_eq!(verify(&set, &token("other")), Err(Unverified::NoKey), "{text}");
    }
    let all: String = texts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(KeySet::from_pem(&[file(&all), file(&RSA2.public_pem())]).unwrap().len(), texts.len() + 1);
    assert_eq!(KeySet::from_pem(&[]).unwrap().len(), 0);
}

#[cfg(feature = "demo")]
#[test]
fn a_certificate_gives_its_key() {
    let ca = crate::demo::pki::Ca::new("signer").unwrap();
    let set = KeySet::from_pem(&[file(&ca.pem())]).unwrap();
    let private = KeySet::from_pem(&[file(&ca.own().key)]).unwrap();
    assert_eq!(format!("{set:?}"), format!("{private:?}"));
}

#[test]
fn files_without_usable_keys_are_named() {
    let small = pem("PUBLIC KEY", &{
        // A key of 1,024 bits: SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { n, e } } }
        let mut n = vec![0xff; 128];
        n[64] = 1;
        let key = [&[0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0][..], &n, &[2, 3, 1, 0, 1]].concat();
        let oid = [0x30, 13, 6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 1, 5, 0];
        let bits = [&[3, 0x81, 0x8d, 0][..], &key].concat();
        [&[0x30, 0x81, 0x9f][..], &oid, &bits].concat()
    });
    let ed25519 =
        pem("PUBLIC KEY", &[&[0x30, 42, 0x30, 5, 6, 3, 43, 101, 112, 3, 33, 0][..], &[7; 32]].concat());
    let trailing = pem("PUBLIC KEY", &[&RSA.public_der()[..], &[0]].concat());
    let expected = "expected a public key or certificate, or a private key";
    for (text, why) in [
        (String::new(), "sa.pub: no public key found"),
        (small, "sa.pub: key 1: an RSA key of 1024 bits, expected 2048 to 8192"),
        (RSA.public_pem() + &ed25519, &format!("sa.pub: key 2: {expected}")),
        (trailing, &format!("sa.pub: key 1: {expected}")),
        (pem("PUBLIC KEY", &[1, 2, 3]), &format!("sa.pub: key 1: {expected}")),
        (pem("PRIVATE KEY", &[1, 2, 3]), &format!("sa.pub: key 1: {expected}")),
        (pem("CERTIFICATE", &[1, 2, 3]), "sa.pub: key 1: not a certificate"),
    ] {
        let errors = KeySet::from_pem(&[file(&text)]).unwrap_err();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(errors[0].starts_with(why), "{text}: {}", errors[0]);
    }
    let both = KeySet::from_pem(&[file(""), file("")]).unwrap_err();
    assert_eq!(both.len(), 2);
}

proptest::proptest! {
    #[test]
    fn key_sets_of_any_numbers_never_panic(
        n in proptest::collection::vec(proptest::num::u8::ANY, 250..300),
        e in proptest::collection::vec(proptest::num::u8::ANY, 0..6),
        x in proptest::collection::vec(proptest::num::u8::ANY, 32),
    ) {
        let rsa = json!({"kty": "RSA", "n": base64url(&n), "e": base64url(&e)});
        let ec = json!({"kty": "EC", "crv": "P-256", "x": base64url(&x), "y": base64url(&x)});
        let (set, _) = KeySet::from_jwks(&jwks(&[rsa, ec])).unwrap();
        let token = RSA.sign(r#"{"alg":"RS256"}"#, "{}", Algorithm::Rs256);
        assert!(verify(&set, &token).is_err());
    }

    #[test]
    fn keys_in_pem_of_any_bytes_never_panic(der in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for label in ["PUBLIC KEY", "CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let _ = KeySet::from_pem(&[file(&pem(label, &der))]);
        }
    }
}

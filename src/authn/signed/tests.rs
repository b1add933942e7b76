use super::*;
use crate::authn::jwt::mint::{P256, RSA2};
use serde_json::json;

#[test]
fn a_time_is_a_number_of_seconds() {
    let at = |seconds| Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds)));
    let refused = || Err("claim exp: expected a number of seconds".to_owned());
    let no_time = || Err("claim exp: the number is no time".to_owned());
    let rows = [
        ("{}", Ok(None)),
        (r#"{"exp": null}"#, Ok(None)),
        (r#"{"exp": 0}"#, at(0)),
        (r#"{"exp": 1700000600}"#, at(1_700_000_600)),
        (r#"{"exp": 1700000600.7}"#, at(1_700_000_600)),
        (r#"{"exp": 1e10}"#, at(10_000_000_000)),
        (r#"{"exp": 253402300799}"#, at(LAST)),
        (r#"{"exp": 253402300800}"#, no_time()),
        (r#"{"exp": 18446744073709551615}"#, no_time()),
        (r#"{"exp": 1e300}"#, no_time()),
        (r#"{"exp": -1}"#, no_time()),
        (r#"{"exp": -0.5}"#, no_time()),
        (r#"{"exp": "1700000600"}"#, refused()),
        (r#"{"exp": [1700000600]}"#, refused()),
        (r#"{"exp": true}"#, refused()),
        (r#"{"EXP": 1700000600}"#, Ok(None)),
    ];
    for (claims, want) in rows {
        assert_eq!(time(&serde_json::from_str(claims).unwrap(), "exp"), want, "{claims}");
    }
}

#[test]
fn audiences_are_a_string_or_a_list_of_strings() {
    let refused = || Err("claim aud: expected a string or a list of strings".to_owned());
    let rows: [(&str, Result<Vec<&str>, String>); 9] = [
        ("{}", Ok(vec![])),
        (r#"{"aud": []}"#, Ok(vec![])),
        (r#"{"aud": "a"}"#, Ok(vec!["a"])),
        (r#"{"aud": ""}"#, Ok(vec![""])),
        (r#"{"aud": ["a", "b"]}"#, Ok(vec!["a", "b"])),
        (r#"{"aud": null}"#, refused()),
        (r#"{"aud": 1}"#, refused()),
        (r#"{"aud": ["a", null]}"#, refused()),
        (r#"{"aud": {"a": "a"}}"#, refused()),
    ];
    for (text, want) in rows {
        let claims: Claims = serde_json::from_str(text).unwrap();
        assert_eq!(audiences(&claims), want, "{text}");
    }
}

#[test]
fn an_id_that_is_no_text_is_none() {
    let rows = [
        ("{}", None),
        (r#"{"jti": "J"}"#, Some("JTI=J")),
        (r#"{"jti": ""}"#, None),
        (r#"{"jti": 7}"#, None),
        (r#"{"jti": null}"#, None),
    ];
    for (claims, want) in rows {
        assert_eq!(credential_id(&serde_json::from_str(claims).unwrap()).as_deref(), want, "{claims}");
    }
}

#[test]
fn a_refusal_never_shows_the_value() {
    let with = |name, uid, group: &str, value: &str| {
        let extra = BTreeMap::from([("k".to_owned(), vec![value.to_owned()])]);
        user(name, uid, vec![group.to_owned()], extra).map(drop)
    };
    assert_eq!(with("ann", "1", "ops", "v"), Ok(()));
    let rows = [
        (with("", "", "", ""), "the user name is empty"),
        (with("secret ", "", "", ""), "the user name cannot be carried in a header without change"),
        (with("ann", "sec\nret", "", ""), "the uid cannot be carried in a header without change"),
        (with("ann", "", " secret", ""), "the group cannot be carried in a header without change"),
        (with("ann", "", "", "secret\0"), "the extra value cannot be carried in a header without change"),
    ];
    for (refusal, want) in rows {
        assert_eq!(refusal, Err(want.to_owned()));
    }
}

#[tokio::test]
async fn a_signature_counts_if_a_key_of_the_issuer_made_it() {
    let keys = cases::keys();
    let claims = json!({"iss": "https://a"}).to_string();
    let sign = |header: &str| P256.sign(header, &claims, Algorithm::Es256);
    let good = sign(r#"{"alg":"ES256","kid":"p256"}"#);
    let outcome = async |token: &str, allowed: &[Algorithm]| {
        let token = Jws::parse(token).unwrap().unwrap();
        verify(&token, &keys, allowed).await.err().map(|why| why.to_string()).unwrap_or_default()
    };
    assert_eq!(outcome(&good, &Algorithm::ALL).await, "");
    assert_eq!(outcome(&good, &[Algorithm::Es256]).await, "");
    assert_ne!(outcome(&good, &[Algorithm::Rs256]).await, "");
    let other = RSA2.sign(r#"{"alg":"RS256","kid":"rsa"}"#, &claims, Algorithm::Rs256);
    assert_ne!(outcome(&other, &Algorithm::ALL).await, "");
    let unknown = sign(r#"{"alg":"ES256","kid":"two\n"}"#);
    assert_eq!(outcome(&unknown, &Algorithm::ALL).await, r#"no key for the token's kid (kid "two\n")"#);
    assert_eq!(outcome(&sign(r#"{"alg":"ES256"}"#), &Algorithm::ALL).await, "");
}

use super::{mint, *};
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use mint::base64url;
use proptest::prelude::*;
use serde_json::json;

const HEADER: &str = r#"{"alg":"RS256"}"#;

fn token(header: &str, claims: &str) -> String {
    format!("{}.{}.{}", base64url(header), base64url(claims), base64url("signature"))
}

/// `ok`, `none`, or the error.
fn outcome(token: &str) -> String {
    match Jws::parse(token) {
        Ok(Some(_)) => "ok".to_owned(),
        Ok(None) => "none".to_owned(),
        Err(why) => why,
    }
}

#[test]
fn a_token_is_taken_apart() {
    let token = token(r#"{"alg":"ES384","kid":"k1","typ":"JWT"}"#, r#"{"iss":"https://i","n":1.5}"#);
    let jws = Jws::parse(&token).unwrap().unwrap();
    assert_eq!(jws.signed, token.rsplit_once('.').unwrap().0);
    assert_eq!(jws.signature, b"signature");
    assert_eq!(jws.algorithm, Algorithm::Es384);
    assert_eq!(jws.kid.as_deref(), Some("k1"));
    assert_eq!(jws.issuer(), Some("https://i"));
    assert_eq!(Value::Object(jws.claims), json!({"iss": "https://i", "n": 1.5}));
}

#[test]
fn what_has_not_three_parts_is_no_token() {
    let good = token(HEADER, "{}");
    let (signed, _) = good.rsplit_once('.').unwrap();
    for other in [
        "",
        ".",
        "abcdef.0123456789abcdef",
        "tok",
        signed,
        &format!("{good}."),
        &format!("{good}.x"),
        &format!(".{good}"),
        "....",
        // The form with JSON around the parts, and with spaces before it.
        r#"{"payload":"","protected":"","signature":""}"#,
        r#" {"a.b.c"}"#,
        "{a.b.c",
        "\u{a0}{a.b.c",
    ] {
        assert_eq!(outcome(other), "none", "{other:?}");
    }
}

#[test]
fn exactly_one_text_stands_for_a_token() {
    let (header, claims, signature) = (base64url(HEADER), base64url("{}"), base64url("signature"));
    assert_eq!(outcome(&format!("{header}.{claims}.{signature}")), "ok");
    // An empty signature has the form; no key makes it.
    assert_eq!(outcome(&format!("{header}.{claims}.")), "ok");
    let part = |what: &str| format!("the token's {what} is not base64url without padding");
    for (token, what) in [
        (format!("{header}.{claims}.{signature}="), "signature"),
        (format!("{header}.{claims}.{signature}=="), "signature"),
        (format!("{header}.{claims}=.{signature}"), "payload"),
        (format!("{}.{claims}.{signature}", URL_SAFE.encode(r#"{"alg":"RS256" }"#)), "header"),
        (format!("{header}.{claims}.{signature} "), "signature"),
        (format!("{header}.{claims}.{signature}\n"), "signature"),
        (format!(" {header}.{claims}.{signature}"), "header"),
        (format!("{header}.{claims} .{signature}"), "payload"),
        (format!("{header}.{claims}.si gn"), "signature"),
        (format!("{header}.{claims}.s"), "signature"),
        // Bits that no byte needs: `AA` is the only text of a zero byte.
        (format!("{header}.{claims}.AB"), "signature"),
        (format!("{header}.{claims}.AA+/"), "signature"),
        (format!("{header}.{}.x", STANDARD.encode(r#"{"a":"???>>>"}"#)), "payload"),
        (format!("{header}.é.x"), "payload"),
        (format!("{header}.{claims}.\0"), "signature"),
    ] {
        assert_eq!(outcome(&token), part(what), "{token:?}");
    }
    assert_eq!(outcome(&format!("..{signature}")), "the token's header: not JSON: it ends early");
}

#[test]
fn headers_are_judged() {
    for (header, want) in [
        (r#"{"alg":"RS256"}"#, "ok"),
        (
            r#"{"alg":"RS256","kid":"k","typ":"JWT","cty":"x","zip":"DEF","jku":"https://evil","x5u":"https://evil"}"#,
            "ok",
        ),
        (r#"{"alg":"RS256","jwk":{"kty":"RSA"},"x5c":["AA"],"x5t":"x"}"#, "ok"),
        (r#"{"alg":"RS256","kid":""}"#, "ok"),
        (r#"{"alg":"none"}"#, "the token is not signed (alg none)"),
        (r#"{"alg":"None"}"#, "the token's algorithm is not supported"),
        (r#"{"alg":"HS256"}"#, "a symmetric algorithm (HS256) proves nothing here"),
        (r#"{"alg":"HS384"}"#, "a symmetric algorithm (HS384) proves nothing here"),
        (r#"{"alg":"HS512"}"#, "a symmetric algorithm (HS512) proves nothing here"),
        (r#"{"alg":"EdDSA"}"#, "the token's algorithm is not supported"),
        (r#"{"alg":"ES256K"}"#, "the token's algorithm is not supported"),
        (r#"{"alg":"rs256"}"#, "the token's algorithm is not supported"),
        (r#"{"alg":"RS256 "}"#, "the token's algorithm is not supported"),
        (r#"{"alg":""}"#, "the token's algorithm is not supported"),
        (r#"{"alg":null}"#, "the token's header names no algorithm"),
        (r#"{"alg":["RS256"]}"#, "the token's header names no algorithm"),
        (r#"{"ALG":"RS256"}"#, "the token's header names no algorithm"),
        ("{}", "the token's header names no algorithm"),
        (r#"{"alg":"RS256","kid":1}"#, "the token's kid is not text"),
        (r#"{"alg":"RS256","kid":null}"#, "the token's kid is not text"),
        (
            r#"{"alg":"RS256","crit":["exp"],"exp":1}"#,
            "the token's header holds \"crit\", which is not supported",
        ),
        (r#"{"alg":"RS256","crit":[]}"#, "the token's header holds \"crit\", which is not supported"),
        (
            r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
            "the token's header holds \"crit\", which is not supported",
        ),
        (r#"{"alg":"RS256","b64":false}"#, "the token's header holds \"b64\", which is not supported"),
        (
            r#"{"alg":"none","alg":"RS256"}"#,
            "the token's header: an object holds a key twice at line 1 column 28",
        ),
        (r#"["alg"]"#, "the token's header is not a JSON object"),
        ("null", "the token's header is not a JSON object"),
        ("{", "the token's header: not JSON: it ends early"),
    ] {
        assert_eq!(outcome(&token(header, "{}")), want, "{header}");
    }
    let kid = |header: &str| Jws::parse(&token(header, "{}")).unwrap().unwrap().kid;
    assert_eq!(kid(r#"{"alg":"RS256","kid":""}"#), None);
    assert_eq!(kid(r#"{"alg":"RS256"}"#), None);
    for algorithm in Algorithm::ALL {
        let token = token(&format!(r#"{{"alg":"{algorithm}"}}"#), "{}");
        assert_eq!(Jws::parse(&token).unwrap().unwrap().algorithm, algorithm);
    }
}

#[test]
fn claims_are_read_in_one_way_only() {
    for (claims, want) in [
        ("{}", "ok"),
        (r#"{"iss":"i","sub":"s","aud":["a"],"exp":1,"nbf":1,"iat":1,"jti":"j"}"#, "ok"),
        // Case of other claims is the issuer's own affair.
        (r#"{"email":"a","Email":"b","EMAIL":"c","issuer":"x","Expires":1}"#, "ok"),
        (r#"{"a":{"ISS":"x","exp":1,"EXP":2}}"#, "ok"),
        (
            r#"{"iss":"evil","iss":"i"}"#,
            "the token's payload: an object holds a key twice at line 1 column 24",
        ),
        (
            r#"{"email":"a","email":"b"}"#,
            "the token's payload: an object holds a key twice at line 1 column 25",
        ),
        (r#"{"a":[{"b":1,"b":1}]}"#, "the token's payload: an object holds a key twice at line 1 column 19"),
        (r#"{"iss":"i","ISS":"evil"}"#, r#"claim "ISS" differs from "iss" only in case"#),
        (r#"{"ISS":"i"}"#, r#"claim "ISS" differs from "iss" only in case"#),
        (r#"{"exp":1,"EXP":99999999999}"#, r#"claim "EXP" differs from "exp" only in case"#),
        (r#"{"Exp":1}"#, r#"claim "Exp" differs from "exp" only in case"#),
        (r#"{"AUD":[]}"#, r#"claim "AUD" differs from "aud" only in case"#),
        (r#"{"Nbf":1}"#, r#"claim "Nbf" differs from "nbf" only in case"#),
        (r#"{"iAt":1}"#, r#"claim "iAt" differs from "iat" only in case"#),
        (r#"{"JTI":1}"#, r#"claim "JTI" differs from "jti" only in case"#),
        (r#"{"Sub":1}"#, r#"claim "Sub" differs from "sub" only in case"#),
        // Go folds U+017F, the long s, to s.
        (r#"{"i\u017fs":"evil"}"#, r#"claim "iſs" differs from "iss" only in case"#),
        (r#"{"ſub":"evil"}"#, r#"claim "ſub" differs from "sub" only in case"#),
        ("[]", "the token's payload is not a JSON object"),
        (r#""text""#, "the token's payload is not a JSON object"),
        (r#"{"a":1"#, "the token's payload: not JSON: it ends early"),
        (r#"{} {}"#, "the token's payload: not JSON: trailing characters at line 1 column 4"),
    ] {
        assert_eq!(outcome(&token(HEADER, claims)), want, "{claims}");
    }
    let not_text = format!("{}.{}.x", base64url(HEADER), base64url(b"{\"a\":\"\xff\"}"));
    assert!(outcome(&not_text).starts_with("the token's payload: not JSON"));
}

#[test]
fn large_tokens_are_refused_before_they_are_read() {
    let filled = |n: usize| token(HEADER, &format!("{{\"a\":\"{}\"}}", "x".repeat(n)));
    assert_eq!(outcome(&filled(40_000)), "ok");
    assert_eq!(outcome(&filled(60_000)), "the token is longer than 65536 bytes");
    assert_eq!(outcome(&"x".repeat(1 << 20)), "the token is longer than 65536 bytes");
    let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert_eq!(outcome(&token(HEADER, &deep(31))), "ok");
    assert!(outcome(&token(HEADER, &deep(32))).starts_with("the token's payload: nested too deeply"));
    let wide = |n: usize| format!("{{\"a\":[{}]}}", vec!["1"; n].join(","));
    assert_eq!(outcome(&token(HEADER, &wide(19_998))), "ok");
    assert!(outcome(&token(HEADER, &wide(20_000))).starts_with("the token's payload: too many values"));
}

#[test]
fn errors_hold_nothing_of_a_claim_s_value() {
    for claims in [
        r#"{"sub":"hunter2","sub":"hunter2"}"#,
        r#"{"SUB":"hunter2"}"#,
        r#"["hunter2"]"#,
        r#"{"sub":"hunter2""#,
        r#"{"sub":"hunter2"} hunter2"#,
    ] {
        let why = outcome(&token(HEADER, claims));
        assert!(!why.contains("hunter2"), "{claims}: {why}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in r"[-A-Za-z0-9_=. {}]{0,80}", raw in any::<String>()) {
        let _ = Jws::parse(&text);
        let _ = Jws::parse(&raw);
    }

    #[test]
    fn parts_of_any_bytes_never_panic(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>()) {
        let _ = Jws::parse(&format!("{}.{}.x", base64url(&header), base64url(HEADER)));
        let _ = Jws::parse(&format!("{}.{}.x", base64url(HEADER), base64url(&claims)));
    }
}

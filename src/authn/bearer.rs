//! The bearer token of an `Authorization` header, found by kube-apiserver's rules.

use http::{HeaderMap, header::AUTHORIZATION};

/// What the header offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer<'a> {
    /// Nothing that concerns this authenticator.
    Nothing,
    /// Two spaces before the token: nothing, and the caller is told ([`EXTRA_SPACE`]).
    ExtraSpace,
    /// A token; its characters and its length are unchecked.
    Token(&'a str),
    /// Bytes that are not UTF-8. kube-apiserver looks them up; no credential here is made of such bytes.
    NotText,
}

/// The value of the `Warning` header for [`Bearer::ExtraSpace`].
pub(super) const EXTRA_SPACE: &str = "299 - \"the provided Authorization header contains extra space before the bearer token, and is ignored\"";

/// Reads the first `Authorization` value; a second one is never looked at.
pub(super) fn find(headers: &HeaderMap) -> Bearer<'_> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Bearer::Nothing };
    let Ok(value) = std::str::from_utf8(value.as_bytes()) else { return Bearer::NotText };
    let mut pieces = value.trim().splitn(3, ' ');
    let scheme = pieces.next().unwrap_or_default();
    let Some(token) = pieces.next() else { return Bearer::Nothing };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Bearer::Nothing;
    }
    match (token, pieces.next()) {
        ("", Some(_)) => Bearer::ExtraSpace,
        ("", None) => Bearer::Nothing,
        (token, _) => Bearer::Token(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_first_header_is_read_as_kube_apiserver_reads_it() {
        use Bearer::*;
        let rows: &[(&[&str], Bearer<'_>)] = &[
            (&[], Nothing),
            (&["Bearer tok"], Token("tok")),
            (&["bearer tok"], Token("tok")),
            (&["BEARER tok"], Token("tok")),
            (&["bEaReR tok"], Token("tok")),
            (&["  Bearer tok  "], Token("tok")),
            (&["\u{a0}Bearer tok\u{a0}\t"], Token("tok")),
            (&["Bearer tok extra garbage"], Token("tok")),
            (&["Bearer  tok"], ExtraSpace),
            (&["Bearer   tok"], ExtraSpace),
            (&["Bearer\ttok"], Nothing),
            (&["Bearer:tok"], Nothing),
            (&["Bearer"], Nothing),
            (&["Bearer "], Nothing),
            (&["tok"], Nothing),
            (&["Token tok"], Nothing),
            (&["Basic dTpw"], Nothing),
            (&[""], Nothing),
            (&["Bearer \"tok\""], Token("\"tok\"")),
            (&["Bearer tok,tok2"], Token("tok,tok2")),
            (&["Bearer a", "Bearer b"], Token("a")),
            (&["Basic x", "Bearer b"], Nothing),
            (&["", "Bearer b"], Nothing),
        ];
        for (values, want) in rows {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(find(&headers), *want, "{values:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_no_token() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
        assert_eq!(find(&headers), Bearer::NotText);
    }
}

//! A bearer token in the WebSocket subprotocol, for browsers, which can set no header (`k8s.io/apiserver
//! pkg/authentication/request/websocket`).
//!
//! Stricter than kube-apiserver in what says WebSocket (ASCII letters only, where Go folds a few others onto them) and in
//! the encoding: a last character with stray bits is refused, so that a token has one spelling. The piece with the token
//! never goes upstream, whoever the request turned out to be from: [`headers::for_upstream`](crate::headers::for_upstream).

use crate::headers::BEARER_SUBPROTOCOL;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};

/// What the header offers: None for no opinion. The error is for the log and shows nothing of the token.
pub(super) fn find(headers: &HeaderMap) -> Result<Option<String>, String> {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) || !is_websocket(headers) {
        return Ok(None);
    }
    let (mut encoded, mut others) = (None, false);
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    for piece in values.flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
        // Go trims every kind of Unicode's space; bytes that are no character are none.
        let piece = String::from_utf8_lossy(piece);
        match piece.trim().strip_prefix(BEARER_SUBPROTOCOL) {
            // An empty piece is a protocol, too.
            None => others = true,
            Some(_) if encoded.is_some() => return refuse("more than one token"),
            Some(token) => encoded = Some(token.to_owned()),
        }
    }
    let Some(encoded) = encoded.filter(|encoded| !encoded.is_empty()) else { return Ok(None) };
    let Ok(token) = URL_SAFE_NO_PAD.decode(encoded) else {
        return refuse("the token is not base64url without padding");
    };
    let Ok(token) = String::from_utf8(token) else { return refuse("the token is not UTF-8") };
    if !others {
        return refuse("missing additional subprotocol");
    }
    Ok(Some(token))
}

fn refuse(why: &str) -> Result<Option<String>, String> {
    Err(format!("bearer subprotocol: {why}"))
}

/// kube-apiserver's rule, which is laxer than RFC 9110: any `Connection` that contains `upgrade` will do.
fn is_websocket(headers: &HeaderMap) -> bool {
    let asks =
        |value: &http::HeaderValue| value.as_bytes().to_ascii_lowercase().windows(7).any(|w| w == b"upgrade");
    headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(header::CONNECTION).iter().any(asks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn map(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    /// What is found among these values of the header when everything else says WebSocket.
    fn found(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = map(&[("connection", b"keep-alive, Upgrade"), ("upgrade", b"WebSocket")]);
        for value in values {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(value).unwrap());
        }
        find(&headers)
    }

    fn refused(why: &str) -> Result<Option<String>, String> {
        Err(format!("bearer subprotocol: {why}"))
    }

    #[test]
    fn pieces_are_read_as_kube_apiserver_reads_them() {
        let token = || Ok(Some("tok".to_owned()));
        let (none, alone) = (Ok(None), refused("missing additional subprotocol"));
        let (twice, encoding) =
            (refused("more than one token"), refused("the token is not base64url without padding"));
        type Row<'a> = (&'a [&'a str], Result<Option<String>, String>);
        // `B` stands for the prefix.
        let rows: &[Row<'_>] = &[
            (&[], none.clone()),
            (&["v4.channel.k8s.io"], none.clone()),
            (&["B.dG9r, v4.channel.k8s.io"], token()),
            (&["v4.channel.k8s.io,B.dG9r"], token()),
            (&["v4.channel.k8s.io", "B.dG9r"], token()),
            (&["B.dG9r", "v4.channel.k8s.io"], token()),
            (&["B.dG9r"], alone),
            (&["B.dG9r,"], token()),
            (&["B.dG9r", ""], token()),
            (&["\t B.dG9r \u{a0},\u{2003}x\u{85}"], token()),
            (&["\u{a0}B.dG9r,x"], token()),
            (&["\u{85}B.dG9r,x"], token()),
            (&["B.dG9r, B.dG9r, x"], twice.clone()),
            (&["B.dG9r, x", "B.dG9r"], twice.clone()),
            (&["B., B.dG9r, x"], twice),
            (&["B.dG9rcw==, x"], encoding.clone()),
            (&["B.dG9rcw=, x"], encoding.clone()),
            (&["B.dG9rcw, x"], Ok(Some("toks".to_owned()))),
            // Go's decoder takes any bits after the last byte.
            (&["B.dG9rcx, x"], encoding.clone()),
            (&["B.d, x"], encoding.clone()),
            (&["B.!, x"], encoding.clone()),
            (&["B.dG 9r, x"], encoding.clone()),
            (&["B.+/8, x"], encoding.clone()),
            (&["B.dG9r\u{e9}, x"], encoding),
            (&["B._w, x"], refused("the token is not UTF-8")),
            (&["B._w"], refused("the token is not UTF-8")),
            (&["B., x"], none.clone()),
            (&["B."], none.clone()),
            (&["B.IA, x"], Ok(Some(" ".to_owned()))),
            (&["Base64URL.bearer.authorization.k8s.io.dG9r, x"], none.clone()),
            (&["base64url.bearer.authorization.k8s.io, x"], none.clone()),
            (&["xB.dG9r, x"], none),
        ];
        for (values, want) in rows {
            let spelled: Vec<String> =
                values.iter().map(|v| v.replace("B.", "base64url.bearer.authorization.k8s.io.")).collect();
            let values: Vec<&[u8]> = spelled.iter().map(String::as_bytes).collect();
            assert_eq!(found(&values), *want, "{spelled:?}");
        }
        let broken = [b"\xff", BEARER_SUBPROTOCOL.as_bytes(), b"dG9r, x"].concat();
        assert_eq!(found(&[&broken]), Ok(None));
        let broken = [BEARER_SUBPROTOCOL.as_bytes(), b"dG9r\xff, x"].concat();
        assert!(found(&[&broken]).is_err());
    }

    #[test]
    fn only_a_websocket_is_looked_at() {
        let offer = [BEARER_SUBPROTOCOL.as_bytes(), b"dG9r, x"].concat();
        let offer = ("sec-websocket-protocol", &offer[..]);
        type Row<'a> = (&'a [(&'a str, &'a [u8])], bool);
        let rows: &[Row<'_>] = &[
            (&[("connection", b"Upgrade"), ("upgrade", b"websocket")], true),
            (&[("connection", b"uPGRADE"), ("upgrade", b"WEBSOCKET")], true),
            (&[("connection", b"close"), ("connection", b"x, upgrade"), ("upgrade", b"websocket")], true),
            (&[("connection", b"noupgrade"), ("upgrade", b"websocket")], true),
            (&[("connection", b"upgrade"), ("upgrade", b"websocket"), ("upgrade", b"SPDY/3.1")], true),
            (&[("connection", b"upgrade"), ("upgrade", b"SPDY/3.1"), ("upgrade", b"websocket")], false),
            (&[("connection", b"upgrade"), ("upgrade", b"websocket, SPDY/3.1")], false),
            (&[("connection", b"upgrade"), ("upgrade", b"web\xc5\xbfocket")], false),
            (&[("connection", b"upgrade")], false),
            (&[("connection", b"keep-alive"), ("upgrade", b"websocket")], false),
            (&[("connection", b"up, grade"), ("upgrade", b"websocket")], false),
            (&[("upgrade", b"websocket")], false),
            (&[], false),
        ];
        for (lines, looked_at) in rows {
            let mut headers = map(lines);
            headers.extend(map(&[offer]));
            let want = looked_at.then(|| "tok".to_owned());
            assert_eq!(find(&headers), Ok(want), "{lines:?}");
        }
    }

    #[test]
    fn errors_show_nothing_of_the_token() {
        for offer in ["B.c2VzYW1l", "B.c2VzYW1l, B.c2VzYW1l", "B.c2VzYW1l=, x", "B.c2VzYW1l_w, x"] {
            let offer = offer.replace("B.", BEARER_SUBPROTOCOL);
            let why = found(&[offer.as_bytes()]).unwrap_err();
            assert!(!why.contains("sesame") && !why.contains("c2V"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_gone_upstream(
            pieces in prop::collection::vec("[ \t\u{a0}]?(base64url\\.bearer\\.authorization\\.k8s\\.io\\.)?[a-zA-Z0-9._=-]{0,6}[ \t]?", 0..5),
        ) {
            let offer = pieces.join(",");
            let headers = map(&[("connection", b"upgrade"), ("upgrade", b"websocket"), ("sec-websocket-protocol", offer.as_bytes())]);
            if let Ok(Some(token)) = find(&headers) {
                prop_assert!(!token.is_empty());
            }
            let sent = crate::headers::for_upstream(&headers);
            let sent = sent.get_all("sec-websocket-protocol").iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect::<String>();
            prop_assert!(!sent.contains(BEARER_SUBPROTOCOL), "{}", sent);
        }
    }
}

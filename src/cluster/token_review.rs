//! `authentication.k8s.io/v1` TokenReview, asked as kube-apiserver's webhook authenticator asks.

use super::{Cluster, chance};
use crate::{
    client::{self, Answer, Bounds},
    codec::json,
};
use bytes::Bytes;
use http::{StatusCode, header::RETRY_AFTER};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// What an answer says of a token. Nothing of it has been judged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// Only then does the rest mean anything.
    pub authenticated: bool,
    /// Who it is.
    pub user: Claimed,
    /// For whom the token was made, as far as they were asked about; empty: the answerer knows of no audiences.
    pub audiences: Vec<String>,
    /// Why it could not be told, or why not; empty: nothing was said. A stranger's text, it may even repeat the token.
    pub error: String,
}

/// An identity as an answer spells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Claimed {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Of an API server.
pub(super) const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";

/// All attempts together.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts.
const STEPS: i32 = 5;

/// Between the first two attempts; the next pauses are each half as long again, and up to a fifth longer by chance.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes of an answer.
const LARGEST: usize = 1 << 20;

/// What an answer holds, its token's echo and managed fields included.
const LIMITS: json::Limits = json::Limits { depth: 32, nodes: 16_384 };

/// Nobody is in more; each goes along with every request of the user.
const MOST_GROUPS: usize = 1_000;

impl Cluster {
    /// Asks whose token this is, and whether it was made for one of these audiences (none: not asked).
    ///
    /// # Errors
    /// No answer within 30 seconds and five attempts, or one that is none. The text holds nothing of the token or the answer.
    pub async fn token_review(&self, token: &str, audiences: &[String]) -> Result<Reviewed, String> {
        let body = question(token, audiences);
        let deadline = Instant::now() + TIMEOUT;
        let mut attempt = 0;
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now());
            let answer =
                self.client.post(&self.reviews, body.clone(), Bounds { timeout, body: LARGEST }).await;
            attempt += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            match pause(attempt, &answer, chance()).filter(|pause| *pause < left) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answer.map_err(|e| e.to_string()).and_then(|answer| understand(&answer)),
            }
        }
    }
}

fn question(token: &str, audiences: &[String]) -> Bytes {
    let mut spec = json!({ "token": token });
    if !audiences.is_empty() {
        spec["audiences"] = audiences.into();
    }
    json!({ "apiVersion": API_VERSION, "kind": KIND, "spec": spec }).to_string().into()
}

/// How long to wait before asking again; None: what came is final. `chance` is from 0 to 1.
fn pause(attempt: i32, answer: &Result<Answer, client::Error>, chance: f64) -> Option<Duration> {
    if attempt >= STEPS {
        return None;
    }
    let mut asked = Duration::ZERO;
    if let Ok(answer) = answer {
        let after = (!answer.status.is_success())
            .then(|| answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok())
            .flatten();
        let passing = matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::INTERNAL_SERVER_ERROR | StatusCode::GATEWAY_TIMEOUT
        );
        if !passing && after.is_none() {
            return None;
        }
        asked = Duration::from_secs(after.unwrap_or(0));
    }
    let regular = PAUSE.mul_f64(1.5_f64.powi(attempt - 1) * (1.0 + 0.2 * chance.clamp(0.0, 1.0)));
    Some(regular.max(asked))
}

fn understand(answer: &Answer) -> Result<Reviewed, String> {
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => {}
        StatusCode::UNAUTHORIZED => return Err("the gate's own credential was refused (401)".to_owned()),
        StatusCode::FORBIDDEN => {
            return Err("the gate's own account may not create tokenreviews (403)".to_owned());
        }
        status => return Err(format!("the TokenReview was answered with {}", status.as_u16())),
    }
    let value = json::value(&answer.body, LIMITS).map_err(|e| format!("the answer: {e}"))?;
    let answer = object(&value, "the answer")?;
    let member = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    if (member("apiVersion"), member("kind")) != (API_VERSION, KIND) {
        return Err(format!("the answer is no {KIND} of {API_VERSION}"));
    }
    let none = Value::Null;
    let status = object(answer.get("status").unwrap_or(&none), "status")?;
    let user = object(status.get("user").unwrap_or(&none), "status.user")?;
    let extra = object(user.get("extra").unwrap_or(&none), "status.user.extra")?;
    let groups = texts(user, "groups", "status.user.groups")?;
    if groups.len() > MOST_GROUPS {
        return Err(format!("status.user.groups: {} of them, more than {MOST_GROUPS}", groups.len()));
    }
    Ok(Reviewed {
        authenticated: match status.get("authenticated") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(authenticated)) => *authenticated,
            Some(_) => return Err("status.authenticated: expected true or false".to_owned()),
        },
        user: Claimed {
            name: text(user, "username", "status.user.username")?,
            uid: text(user, "uid", "status.user.uid")?,
            groups,
            extra: extra
                .keys()
                .map(|key| Ok((key.clone(), texts(extra, key, "status.user.extra")?)))
                .collect::<Result<_, String>>()?,
        },
        audiences: texts(status, "audiences", "status.audiences")?,
        error: text(status, "error", "status.error")?,
    })
}

/// An object; null is an empty one, as in Go.
fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, String> {
    static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(&EMPTY),
        _ => Err(format!("{place}: expected an object")),
    }
}

/// Text; none and null are empty.
fn text(object: &Map<String, Value>, key: &str, place: &str) -> Result<String, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{place}: expected text")),
    }
}

/// A list of texts; none and null are empty.
fn texts(object: &Map<String, Value>, key: &str, place: &str) -> Result<Vec<String>, String> {
    let expected = || format!("{place}: expected a list of texts");
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(expected)).collect()
        }
        Some(_) => Err(expected()),
    }
}

impl fmt::Debug for Reviewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The error may repeat the token.
        f.debug_struct("Reviewed")
            .field("authenticated", &self.authenticated)
            .field("user", &self.user)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: map, body: body.to_owned().into() }
    }

    fn read(status: &str) -> Result<Reviewed, String> {
        let body =
            format!(r#"{{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{status}}}"#);
        understand(&answer(201, &[], &body))
    }

    #[test]
    fn a_question_holds_the_token_and_the_audiences() {
        assert_eq!(
            question("a\"b", &[]),
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"a\"b"}}"#
        );
        let audiences = ["https://a", "b"].map(str::to_owned);
        let question: Value = serde_json::from_slice(&question("t", &audiences)).unwrap();
        assert_eq!(question["spec"], json!({"token": "t", "audiences": ["https://a", "b"]}));
    }

    #[test]
    fn an_answer_is_read_as_it_is() {
        let full = read(
            r#"{"authenticated":true,"user":{"username":"alice","uid":"7","groups":["a","b",""],
                "extra":{"scopes":["x","y"],"none":null}},"audiences":["api"],"error":"odd","more":[{}]}"#,
        );
        let texts = |list: &[&str]| list.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let user = Claimed {
            name: "alice".to_owned(),
            uid: "7".to_owned(),
            groups: texts(&["a", "b", ""]),
            extra: [("scopes".to_owned(), texts(&["x", "y"])), ("none".to_owned(), Vec::new())].into(),
        };
        let want =
            Reviewed { authenticated: true, user, audiences: texts(&["api"]), error: "odd".to_owned() };
        assert_eq!(full, Ok(want.clone()));
        assert!(!format!("{want:?}").contains("odd"));
        for nothing in
            ["{}", "null", r#"{"user":{}}"#, r#"{"authenticated":null,"user":null,"audiences":null}"#]
        {
            assert_eq!(read(nothing), Ok(Reviewed::default()), "{nothing}");
        }
        // An upstream repeats the question and adds metadata.
        let body = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":null,
            "managedFields":[{"fieldsV1":{"f:spec":{"f:token":{}}}}]},"spec":{"token":"t"},"status":{"authenticated":true}}"#;
        for status in [200, 201] {
            assert!(understand(&answer(status, &[], body)).unwrap().authenticated);
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for (status, why) in [
            (r#"[]"#, "status: expected an object"),
            (r#"{"authenticated":"true"}"#, "status.authenticated: expected true or false"),
            (r#"{"authenticated":1}"#, "status.authenticated: expected true or false"),
            (r#"{"authenticated":true,"authenticated":false}"#, "the answer: an object holds a key twice"),
            (r#"{"user":"alice"}"#, "status.user: expected an object"),
            (r#"{"user":{"username":7}}"#, "status.user.username: expected text"),
            (r#"{"user":{"uid":7}}"#, "status.user.uid: expected text"),
            (r#"{"user":{"groups":"a"}}"#, "status.user.groups: expected a list of texts"),
            (r#"{"user":{"groups":["a",1]}}"#, "status.user.groups: expected a list of texts"),
            (r#"{"user":{"extra":{"a":"b"}}}"#, "status.user.extra: expected a list of texts"),
            (r#"{"user":{"extra":[]}}"#, "status.user.extra: expected an object"),
            (r#"{"audiences":"a"}"#, "status.audiences: expected a list of texts"),
            (r#"{"error":{}}"#, "status.error: expected text"),
        ] {
            let said = read(status).unwrap_err();
            assert!(said.starts_with(why), "{status}: {said}");
        }
        let groups = |n: usize| format!(r#"{{"user":{{"groups":["g"{}]}}}}"#, r#","g""#.repeat(n - 1));
        assert!(read(&groups(1_000)).is_ok());
        assert_eq!(read(&groups(1_001)).unwrap_err(), "status.user.groups: 1001 of them, more than 1000");
        assert!(read(&groups(20_000)).unwrap_err().starts_with("the answer: too many values"));
        let good = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true}}"#;
        for (status, body, why) in [
            (200, "", "the answer: not JSON"),
            (200, "s3same", "the answer: not JSON"),
            (200, "[]", "the answer: expected an object"),
            (200, "null", "the answer is no TokenReview"),
            (200, "{}", "the answer is no TokenReview"),
            (200, &good.replace("/v1", "/v1beta1"), "the answer is no TokenReview"),
            (200, &good.replace("TokenReview", "Status"), "the answer is no TokenReview"),
            (200, &good.replace("kind", "Kind"), "the answer is no TokenReview"),
            (202, good, "the TokenReview was answered with 202"),
            (301, good, "the TokenReview was answered with 301"),
            (401, good, "the gate's own credential was refused"),
            (403, good, "the gate's own account may not create tokenreviews"),
            (404, good, "the TokenReview was answered with 404"),
            (500, good, "the TokenReview was answered with 500"),
        ] {
            let said = understand(&answer(status, &[], body)).unwrap_err();
            assert!(said.starts_with(why) && !said.contains("s3same"), "{status} {body}: {said}");
        }
    }

    #[test]
    fn it_is_asked_again_when_that_may_help() {
        let failed = || Err(client::Error::Failed("connection reset".to_owned()));
        let came = |status, headers: &[(&'static str, &str)]| Ok(answer(status, headers, ""));
        type Row = (i32, Result<Answer, client::Error>, f64, Option<u64>);
        let rows: [Row; 24] = [
            (1, failed(), 0.0, Some(500)),
            (1, failed(), 1.0, Some(600)),
            (1, failed(), 7.0, Some(600)),
            (2, failed(), 0.0, Some(750)),
            (3, failed(), 0.5, Some(1237)),
            (4, failed(), 0.0, Some(1687)),
            (5, failed(), 0.0, None),
            (1, came(500, &[]), 0.0, Some(500)),
            (1, came(504, &[]), 0.0, Some(500)),
            (1, came(429, &[]), 0.0, Some(500)),
            (1, came(429, &[("retry-after", "2")]), 0.0, Some(2000)),
            (1, came(429, &[("retry-after", "0")]), 0.0, Some(500)),
            (1, came(429, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]), 0.0, Some(500)),
            (1, came(503, &[("retry-after", "1")]), 0.0, Some(1000)),
            (5, came(503, &[("retry-after", "1")]), 0.0, None),
            (1, came(503, &[]), 0.0, None),
            (1, came(503, &[("retry-after", "-1")]), 0.0, None),
            (1, came(502, &[]), 0.0, None),
            (1, came(400, &[]), 0.0, None),
            (1, came(401, &[]), 0.0, None),
            (1, came(403, &[]), 0.0, None),
            (1, came(404, &[]), 0.0, None),
            (1, came(200, &[]), 0.0, None),
            (1, came(201, &[("retry-after", "1")]), 0.0, None),
        ];
        for (attempt, answer, chance, want) in rows {
            let got = pause(attempt, &answer, chance).map(|pause| pause.as_millis() as u64);
            assert_eq!(got, want, "{attempt} {answer:?}");
        }
        assert!((0.0..=1.0).contains(&chance()));
    }
}

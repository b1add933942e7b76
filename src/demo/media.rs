//! What a client accepts, and how answers are written for it.

use super::{
    answer::{Answer, Failure, json_answer, typed},
    route::Query,
    yaml,
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Compact JSON and a newline.
    Json,
    /// Indented JSON.
    Pretty,
    /// YAML with sorted keys.
    Yaml,
}

/// One clause of `Accept`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clause<'a> {
    /// Without parameters.
    pub media: &'a str,
    /// What the object is to be turned into: `as`, `g` and `v`.
    pub to: (&'a str, &'a str, &'a str),
    /// `stream=watch`
    pub stream: bool,
    pretty: bool,
}

/// The media types of objects, as refusals list them.
const OBJECTS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// Those of watches.
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// The clauses of the first `Accept`, the preferred ones first.
pub(super) fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let accept = headers.get(header::ACCEPT).map_or("", |v| v.to_str().unwrap_or("?"));
    let mut all: Vec<(f32, Clause<'_>)> = accept.split(',').map(clause).collect();
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.into_iter().map(|(_, clause)| clause).collect()
}

fn clause(text: &str) -> (f32, Clause<'_>) {
    let mut parts = text.split(';').map(str::trim);
    let media = match parts.next().unwrap_or_default() {
        "" => "*/*",
        media => media,
    };
    let (mut quality, mut clause) = (1.0, Clause { media, ..Clause::default() });
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key {
            "q" => quality = value.parse().unwrap_or(1.0),
            "as" => clause.to.0 = value,
            "g" => clause.to.1 = value,
            "v" => clause.to.2 = value,
            "stream" => clause.stream = value == "watch",
            "pretty" => clause.pretty = value == "1",
            _ => {}
        }
    }
    (quality, clause)
}

impl Clause<'_> {
    /// How this clause has an answer written; None: it names a type that is not had here.
    pub(super) fn encoding(&self, headers: &HeaderMap, query: &Query) -> Option<Encoding> {
        match self.media {
            "application/yaml" => Some(Encoding::Yaml),
            "application/json" | "application/*" | "*/*" => {
                Some(if self.pretty || is_pretty(headers, query) { Encoding::Pretty } else { Encoding::Json })
            }
            _ => None,
        }
    }
}

fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.get("pretty") {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

impl Encoding {
    /// How failures are written, and what is no object: nothing is turned into anything, and indented JSON is for those who
    /// accept nothing that there is.
    pub(super) fn plain(headers: &HeaderMap, query: &Query) -> Self {
        let clauses = clauses(headers);
        let mut plain = clauses.iter().filter(|c| c.to.0.is_empty());
        plain.find_map(|c| c.encoding(headers, query)).unwrap_or(Self::Pretty)
    }

    /// Writes an answer.
    pub(super) fn answer(self, code: u16, value: &Value) -> Answer {
        match self {
            Self::Json => json_answer(code, value),
            Self::Pretty => typed(code, "application/json", format!("{value:#}")),
            Self::Yaml => typed(code, "application/yaml", yaml::write(value)),
        }
    }

    /// Writes a failure.
    pub(super) fn failure(self, failure: &Failure) -> Answer {
        let mut answer = failure.answer();
        if !failure.plain && self != Self::Json {
            let (parts, body) = self.answer(failure.code, &failure.status()).into_parts();
            *answer.body_mut() = body;
            let media = parts.headers.get(header::CONTENT_TYPE).cloned();
            let media = media.unwrap_or(HeaderValue::from_static("application/json"));
            answer.headers_mut().insert(header::CONTENT_TYPE, media);
        }
        answer
    }
}

/// What the router in front of the built-in kinds says of `Accept`: it knows names, and no pattern but one.
pub(super) fn routed(headers: &HeaderMap, lists: bool, also: &str) -> Result<(), Failure> {
    let fits =
        |c: &Clause<'_>| c.media == "*/*" || OBJECTS.split(", ").any(|m| m == c.media) || c.media == also;
    if clauses(headers).iter().any(fits) {
        return Ok(());
    }
    let streams = if lists { format!(", {STREAMS}") } else { String::new() };
    let text = format!("406: Not Acceptable\n\nAvailable representations: {OBJECTS}{streams}");
    Err(Failure::new(406, "NotAcceptable", text).with_details(serde_json::json!({})))
}

/// No clause can be served.
pub(super) fn unacceptable(stream: bool) -> Failure {
    let accepted = if stream { STREAMS } else { OBJECTS };
    Failure::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
}

/// Whether a media type with parameters can be read at all, by the rules of MIME.
pub(super) fn is_media_type(text: &str) -> bool {
    let token = |t: &str| {
        let fits = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
        !t.is_empty() && t.chars().all(fits)
    };
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let named = match media.split_once('/') {
        Some((one, two)) => token(one) && token(two),
        None => token(media),
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let last = part.is_empty() && parts.peek().is_none();
        let fits = part.split_once('=').is_some_and(|(key, value)| token(key) && !value.is_empty());
        if !fits && !last {
            return false;
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let rows = [
            ("application/json", true),
            ("application/json;charset=utf-8", true),
            ("application/yaml; x=y", true),
            ("bogus", true),
            (";", false),
            ("application/json; charset", false),
            ("application/json,application/yaml", false),
        ];
        for (text, expected) in rows {
            assert_eq!(is_media_type(text), expected, "{text}");
        }
    }

    #[test]
    fn how_failures_are_written() {
        let rows = [
            ("", "", "", Encoding::Json),
            ("*/*", "", "", Encoding::Json),
            ("text/html", "", "", Encoding::Pretty),
            ("application/yaml", "", "", Encoding::Yaml),
            ("application/json;as=Table;g=meta.k8s.io;v=v1", "", "", Encoding::Pretty),
            ("application/json;as=Table;g=meta.k8s.io;v=v1, application/json", "", "", Encoding::Json),
            ("application/json;q=0.1, application/yaml", "", "", Encoding::Yaml),
            ("application/json;q=0", "", "", Encoding::Json),
            ("", "curl/8", "", Encoding::Pretty),
            ("", "curl/8", "pretty=0", Encoding::Json),
            ("", "", "pretty=true", Encoding::Pretty),
        ];
        for (accept, agent, query, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            assert_eq!(Encoding::plain(&headers, &Query::parse(query)), expected, "{accept} {agent} {query}");
        }
    }
}

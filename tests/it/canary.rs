//! A secret goes through every verb, body form and place that may hold one, and must be found nowhere afterwards: in no file of
//! the journal, no sink, no log, no metric. Each place has a secret of its own, so that the one that leaks is named.

use crate::{
    conformance::world::World,
    raw::Wire,
    record::State,
    record_gate::{Running, Site},
    scene::upgrade,
    upstream::{Act, Heard, Upstream},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

/// Where a secret goes: what is asked, and what is answered.
struct Place {
    name: &'static str,
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    answer: (&'static str, &'static str, Vec<u8>),
}

/// One with a body and an answer, both JSON.
fn place(name: &'static str, method: &'static str, target: impl Into<String>) -> Place {
    let headers = vec![("Authorization", "Bearer alice-token".to_owned())];
    let answer =
        ("200 OK", "application/json", br#"{"kind":"Status","apiVersion":"v1","metadata":{}}"#.to_vec());
    Place { name, method, target: target.into(), headers, body: Vec::new(), answer }
}

impl Place {
    fn body(self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }.header("Content-Type", kind)
    }

    fn json(self, body: impl ToString) -> Self {
        self.body("application/json", body.to_string())
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(n, _)| *n != name);
        self.headers.push((name, value.into()));
        self
    }

    fn answers(mut self, status: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        self.answer = (status, kind, body.into());
        self
    }

    /// The answer is the body.
    fn echoes(mut self) -> Self {
        self.answer.2 = self.body.clone();
        self
    }
}

const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const ONE: &str = "/api/v1/namespaces/a/secrets/marked";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const DOCKER: &str = "kubernetes.io/dockerconfigjson";

/// All of them, in their order with secrets of their own.
#[expect(clippy::too_many_lines, reason = "a table")]
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    let mut next = |make: &dyn Fn(&str) -> Place| places.push(make(&secret(places.len())));
    // Secrets, however they are written.
    next(&|s| place("create", "POST", SECRETS).json(object(s)).echoes());
    next(&|s| {
        place("stringData", "POST", SECRETS)
            .json(json!({"kind": "Secret", "metadata": {"name": "x"}, "stringData": {"a": s}}))
    });
    next(&|s| {
        place("base64 twice", "POST", SECRETS)
            .json(json!({"kind": "Secret", "data": {"a": BASE64.encode(BASE64.encode(s))}}))
            .echoes()
    });
    next(&|s| {
        place("escaped", "POST", SECRETS)
            .json(format!(r#"{{"kind":"Secret","stringData":{{"a":"{}"}}}}"#, escaped(s)))
            .echoes()
    });
    next(&|s| place("create in YAML", "POST", SECRETS).body("application/yaml", yaml(s)).echoes());
    next(&|s| {
        place("create in protobuf", "POST", SECRETS).body(PROTOBUF, protobuf(s)).answers(
            "201 Created",
            PROTOBUF,
            protobuf(s),
        )
    });
    next(&|s| {
        place("create in CBOR", "POST", SECRETS).body("application/cbor", cbor(s)).answers(
            "201 Created",
            "application/cbor",
            cbor(s),
        )
    });
    next(&|s| {
        place("create in gzip", "POST", SECRETS)
            .body("application/json", gzip(object(s).to_string().as_bytes()))
            .header("Content-Encoding", "gzip")
    });
    next(&|s| place("create by another kind", "POST", MAPS).json(object(s)).echoes());
    next(&|s| {
        place("create in a list", "POST", MAPS)
            .json(json!({"kind": "List", "apiVersion": "v1", "items": [object(s)]}))
            .echoes()
    });
    next(&|s| {
        place("create with a field that is none", "POST", SECRETS)
            .json(json!({"kind": "Secret", "dta": {"a": s}, "x": [s]}))
            .echoes()
    });
    next(&|s| {
        place("create with a key twice", "POST", SECRETS)
            .json(format!(r#"{{"kind":"Secret","data":{{"a":"{s}"}},"data":{{}}}}"#))
            .echoes()
    });
    next(&|s| place("create as text", "POST", SECRETS).body("text/plain", s));
    next(&|s| place("create without a type", "POST", SECRETS).body("", object(s).to_string()).echoes());
    next(&|s| {
        place("create too large", "POST", SECRETS)
            .json(json!({"kind": "Secret", "data": {"a": BASE64.encode(s), "b": "eHh4".repeat(90_000)}}))
            .echoes()
    });
    next(&|s| {
        place("create too deep", "POST", SECRETS)
            .json(format!(r#"{{"kind":"Secret","data":{}"{s}"{}}}"#, "[".repeat(200), "]".repeat(200)))
            .echoes()
    });
    next(&|s| place("update", "PUT", ONE).json(object(s)).echoes());
    next(&|s| {
        place("JSON patch", "PATCH", ONE).body(JSON_PATCH, json!([{"op": "replace", "path": "/data/a", "value": BASE64.encode(s)}, {"op": "test", "path": "/stringData", "value": {"a": s}}]).to_string())
    });
    next(&|s| {
        place("merge patch", "PATCH", ONE)
            .body(MERGE_PATCH, json!({"data": {"a": BASE64.encode(s)}, "stringData": {"b": s}}).to_string())
    });
    next(&|s| {
        place("strategic merge patch", "PATCH", ONE)
            .body(STRATEGIC, json!({"data": {"a": BASE64.encode(s), "$patch": "merge"}}).to_string())
    });
    next(&|s| {
        place("apply", "PATCH", format!("{ONE}?fieldManager=x")).body(APPLY, yaml(s)).answers(
            "200 OK",
            "application/json",
            object(s).to_string(),
        )
    });
    next(&|s| {
        place("apply in CBOR", "PATCH", format!("{ONE}?fieldManager=x"))
            .body("application/apply-patch+cbor", cbor(s))
    });
    next(&|s| {
        place("apply with a template's text", "PATCH", format!("{ONE}?fieldManager=x")).body(
            APPLY,
            format!(
                "kind: Secret\nstringData:\n  a: |\n    one\n    {s}\n  b: !!binary {}\n",
                BASE64.encode(s)
            ),
        )
    });
    next(&|s| place("get", "GET", ONE).answers("200 OK", "application/json", object(s).to_string()));
    next(&|s| place("get in protobuf", "GET", ONE).answers("200 OK", PROTOBUF, protobuf(s)));
    next(&|s| place("get in CBOR", "GET", ONE).answers("200 OK", "application/cbor", cbor(s)));
    next(&|s| {
        place("get of something unknown", "GET", ONE).answers(
            "200 OK",
            "application/octet-stream",
            object(s).to_string(),
        )
    });
    next(&|s| {
        place("list", "GET", SECRETS).answers("200 OK", "application/json", json!({"kind": "SecretList", "items": [{"metadata": {"name": "x"}, "data": {"a": BASE64.encode(s)}}]}).to_string())
    });
    next(&|s| {
        place("list too large", "GET", SECRETS).answers("200 OK", "application/json", json!({"kind": "SecretList", "items": [{"data": {"a": BASE64.encode(s), "b": "eHh4".repeat(90_000)}}]}).to_string())
    });
    next(&|s| {
        place("Table", "GET", SECRETS).header("Accept", TABLE).answers("200 OK", "application/json", json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{"name": "Name"}, {"name": "Token"}], "rows": [{"cells": ["x", s], "object": object(s)}]}).to_string())
    });
    next(&|s| {
        place("watch", "GET", format!("{SECRETS}?watch=1&timeoutSeconds=1")).answers(
            "200 OK",
            "application/json",
            format!("{}\n", json!({"type": "ADDED", "object": object(s)})),
        )
    });
    next(&|s| place("delete", "DELETE", ONE).answers("200 OK", "application/json", object(s).to_string()));
    next(&|s| place("delete with an object", "DELETE", ONE).json(object(s)).echoes());
    next(&|s| {
        place("deletecollection", "DELETE", SECRETS).answers(
            "200 OK",
            "application/json",
            json!({"kind": "SecretList", "items": [object(s)]}).to_string(),
        )
    });
    next(&|s| {
        place("invalid", "PUT", ONE).json(object(s)).answers("422 Unprocessable Entity", "application/json", json!({"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422, "message": format!("Secret \"marked\" is invalid: data[a]: Invalid value: \"{s}\": no"), "details": {"name": "marked", "kind": "Secret", "causes": [{"reason": "FieldValueInvalid", "field": "data[a]", "message": format!("Invalid value: \"{s}\": no")}]}}).to_string())
    });
    next(&|s| {
        place("a body that is none", "POST", SECRETS).json(format!(r#"{{"kind":"Secret","stringData":{{"a":"{s}""#)).answers("400 Bad Request", "application/json", json!({"kind": "Status", "status": "Failure", "reason": "BadRequest", "code": 400, "message": format!("Secret in version \"v1\" cannot be handled as a Secret: unexpected end of JSON input: {{\"a\":\"{s}\"")}).to_string())
    });
    next(&|s| {
        place("an error in text", "PUT", ONE).json(object(s)).answers(
            "500 Internal Server Error",
            "text/plain",
            format!("cannot store {s}"),
        )
    });
    next(&|s| {
        place("an error in protobuf", "PUT", ONE).json(object(s)).answers(
            "422 Unprocessable Entity",
            PROTOBUF,
            status_protobuf(&format!("Secret \"marked\" is invalid: data: Invalid value: \"{s}\"")),
        )
    });
    next(&|s| place("last-applied-configuration", "PUT", ONE).json(applied("Secret", s)).echoes());
    next(&|s| {
        place("last-applied-configuration, elsewhere", "PUT", format!("{MAPS}/x"))
            .json(applied("ConfigMap", s))
            .echoes()
    });
    next(&|s| {
        place("managedFields", "GET", ONE).answers("200 OK", "application/json", json!({"kind": "Secret", "metadata": {"managedFields": [{"fieldsV1": {"f:data": {format!("v:\"{s}\""): {}}}}]}}).to_string())
    });
    // Tokens.
    let token = |s: &str| {
        format!(
            "{}.{}.c2lnbmF0dXJl",
            jwt(r#"{"alg":"RS256","typ":"JWT"}"#),
            jwt(&format!(r#"{{"sub":"x","jti":"{s}"}}"#))
        )
    };
    next(&|s| {
        place("TokenRequest", "POST", "/api/v1/namespaces/a/serviceaccounts/x/token")
            .json(json!({"kind": "TokenRequest", "spec": {}}))
            .answers(
                "201 Created",
                "application/json",
                json!({"kind": "TokenRequest", "status": {"token": token(s)}}).to_string(),
            )
    });
    next(&|s| {
        place("TokenRequest, opaque", "POST", "/api/v1/namespaces/a/serviceaccounts/x/token")
            .json(json!({"kind": "TokenRequest", "spec": {}}))
            .answers(
                "201 Created",
                "application/json",
                json!({"kind": "TokenRequest", "status": {"token": s}}).to_string(),
            )
    });
    next(&|s| {
        place("TokenReview", "POST", "/apis/authentication.k8s.io/v1/tokenreviews")
            .json(json!({"kind": "TokenReview", "spec": {"token": s}}))
            .echoes()
    });
    next(&|s| place("Authorization", "GET", ONE).header("Authorization", format!("Bearer {s}")));
    next(&|s| {
        place("Authorization, Basic", "GET", ONE)
            .header("Authorization", format!("Basic {}", BASE64.encode(format!("alice:{s}"))))
    });
    next(&|s| {
        place("Authorization, a JWT", "GET", ONE).header("Authorization", format!("Bearer {}", token(s)))
    });
    next(&|s| {
        place("other credentials", "GET", MAPS)
            .header("Cookie", format!("session={s}"))
            .header("X-Api-Key", s)
            .header("Proxy-Authorization", format!("Bearer {s}"))
    });
    next(&|s| place("access_token", "GET", format!("{MAPS}?access_token={s}")));
    next(&|s| {
        place("access_token, of nobody", "GET", format!("{MAPS}?access_token={s}"))
            .header("Authorization", "Bearer nobody")
    });
    next(&|s| {
        place("User-Agent", "GET", MAPS).header("User-Agent", format!("curl Authorization: Bearer {s}"))
    });
    next(&|s| {
        place("User-Agent, of nobody", "GET", MAPS)
            .header("User-Agent", format!("curl {}", token(s)))
            .header("Authorization", "Bearer nobody")
    });
    next(&|s| place("Audit-ID", "GET", MAPS).header("Audit-ID", format!("Bearer {s}")));
    next(&|s| {
        place("Impersonate-Extra", "GET", MAPS)
            .header("Impersonate-User", "bob")
            .header("Impersonate-Extra-Token", token(s))
    });
    next(&|s| place("X-Forwarded-For", "GET", MAPS).header("X-Forwarded-For", s));
    // By rule.
    next(&|s| {
        place("exec", "POST", format!("/api/v1/namespaces/a/pods/p/exec?command=sh&command={s}&stdout=1"))
            .header("Upgrade", "SPDY/3.1")
    });
    next(&|s| {
        place("exec, refused", "POST", format!("/api/v1/namespaces/a/pods/p/exec?command={s}")).answers(
            "400 Bad Request",
            "text/plain",
            format!("cannot run {s}"),
        )
    });
    next(&|s| {
        place(
            "proxy",
            "GET",
            format!(
                "/api/v1/namespaces/a/services/s/proxy/login?pass={s}&x=%{:02X}{}",
                s.as_bytes()[0],
                &s[1..]
            ),
        )
        .answers("200 OK", "text/html", s)
    });
    next(&|s| {
        place("proxy, posted", "POST", "/api/v1/namespaces/a/services/s/proxy/login")
            .body("application/x-www-form-urlencoded", format!("password={s}"))
            .answers("200 OK", "application/json", json!({"secret": s}).to_string())
    });
    next(&|s| place("env", "POST", "/api/v1/namespaces/a/pods").json(pod(s)).echoes());
    next(&|s| {
        place("env, patched", "PATCH", "/api/v1/namespaces/a/pods/p").body(
            JSON_PATCH,
            json!([{"op": "add", "path": "/spec/containers/0/env/0/value", "value": s}]).to_string(),
        )
    });
    next(&|s| {
        place("env, invalid", "PUT", "/api/v1/namespaces/a/pods/p").json(pod(s)).answers("422 Unprocessable Entity", "application/json", json!({"kind": "Status", "status": "Failure", "message": format!("Pod \"p\" is invalid: spec.containers[0].env[0].value: Invalid value: \"{s}\""), "reason": "Invalid", "code": 422}).to_string())
    });
    // In other objects' texts.
    let map = |text: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"config": text}});
    next(&|s| {
        place("kubeconfig", "POST", MAPS)
            .json(map(&format!("apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    token: {s}\n")))
            .echoes()
    });
    next(&|s| {
        place("docker config", "POST", SECRETS).json(json!({"kind": "Secret", "type": DOCKER, "data": {".dockerconfigjson": BASE64.encode(docker(s))}})).echoes()
    });
    next(&|s| place("docker config, elsewhere", "POST", MAPS).json(map(&docker(s))).echoes());
    next(&|s| place("Secret in a text", "POST", MAPS).json(map(&object(s).to_string())).echoes());
    next(&|s| place("Secret in a YAML text", "POST", MAPS).json(map(&yaml(s))).echoes());
    next(&|s| {
        place("Secret in a packed text", "POST", MAPS)
            .json(map(&BASE64.encode(gzip(object(s).to_string().as_bytes()))))
            .echoes()
    });
    next(&|s| {
        place("private key", "POST", MAPS)
            .json(map(&format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                BASE64.encode(s)
            )))
            .echoes()
    });
    next(&|s| place("JWT", "POST", MAPS).json(map(&format!("my token is {}", token(s)))).echoes());
    next(&|s| place("URL", "POST", MAPS).json(map(&format!("https://user:{s}@example.com/x"))).echoes());
    next(&|s| {
        place("bootstrap token", "POST", MAPS).json(map(&format!("kubeadm join --token abcdef.{s}"))).echoes()
    });
    next(&|s| {
        place("password", "POST", "/apis/example.com/v1/namespaces/a/things").json(json!({"kind": "Thing", "apiVersion": "example.com/v1", "spec": {"password": s, "clientSecret": s}})).echoes()
    });
    next(&|s| {
        place("probe's header", "POST", "/api/v1/namespaces/a/pods").json(json!({"kind": "Pod", "spec": {"containers": [{"livenessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": s}]}}}]}})).echoes()
    });
    // What the upstream says besides.
    next(&|s| {
        place("an answer's headers", "GET", ONE)
            .answers("200 OK", "application/json", object(s).to_string())
            .header("X-Say", s)
    });
    places
}

fn object(secret: &str) -> serde_json::Value {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "marked"}, "data": {"a": BASE64.encode(secret)}, "stringData": {"b": secret}})
}

fn applied(kind: &str, secret: &str) -> serde_json::Value {
    let text = object(secret).to_string();
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": "x", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}}})
}

fn pod(secret: &str) -> serde_json::Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "env": [{"name": "HARMLESS", "value": secret}]}]}})
}

fn yaml(secret: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: marked\ndata:\n  a: {}\nstringData:\n  b: {secret}\n",
        BASE64.encode(secret)
    )
}

fn docker(secret: &str) -> String {
    json!({"auths": {"registry.example": {"username": "x", "password": secret, "auth": BASE64.encode(format!("x:{secret}"))}}}).to_string()
}

fn jwt(part: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part)
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("\\u{byte:04x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A field of bytes, a message or a text.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

/// An object in Kubernetes' envelope.
fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
}

fn protobuf(secret: &str) -> Vec<u8> {
    let entry = |value: &str| [field(1, b"a"), field(2, value.as_bytes())].concat();
    let raw = [field(1, &field(1, b"marked")), field(2, &entry(secret)), field(4, &entry(secret))].concat();
    envelope("Secret", &raw)
}

fn status_protobuf(message: &str) -> Vec<u8> {
    envelope("Status", &[field(2, b"Failure"), field(3, message.as_bytes()), field(4, b"Invalid")].concat())
}

fn cbor(secret: &str) -> Vec<u8> {
    let text = |text: &str| [vec![0x60 | text.len() as u8], text.as_bytes().to_vec()].concat();
    let bytes = [vec![0x40 | secret.len() as u8], secret.as_bytes().to_vec()].concat();
    [
        vec![0xd9, 0xd9, 0xf7, 0xa3],
        text("kind"),
        text("Secret"),
        text("data"),
        vec![0xa1],
        text("a"),
        bytes,
        text("stringData"),
        vec![0xa1],
        text("b"),
        text(secret),
    ]
    .concat()
}

/// The forms in which a secret would still be one.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("as it is".to_owned(), secret.as_bytes().to_vec()),
        ("in hex".to_owned(), hex.clone().into()),
        ("in HEX".to_owned(), hex.to_uppercase().into()),
        ("backwards".to_owned(), secret.bytes().rev().collect()),
        ("escaped".to_owned(), escaped(secret).into()),
    ];
    for once in in_base64(secret.as_bytes()) {
        forms.extend(in_base64(&once).into_iter().map(|twice| ("in base64, twice".to_owned(), twice)));
        forms.push(("in base64".to_owned(), once));
    }
    forms
}

/// What stays the same of it in base64, wherever it begins among the bytes that are encoded.
fn in_base64(bytes: &[u8]) -> Vec<Vec<u8>> {
    let at = |before: usize| {
        let text = BASE64.encode([&vec![0; before][..], bytes].concat());
        text.as_bytes()[(before * 8).div_ceil(6)..(before + bytes.len()) * 8 / 6].to_vec()
    };
    (0..3).map(at).collect()
}

/// Where which secrets are.
fn search(where_: &str, bytes: &[u8], needles: &[(&'static str, String, Vec<u8>)], found: &mut Vec<String>) {
    let text = |at: usize| {
        let around = &bytes[at.saturating_sub(150)..(at + 80).min(bytes.len())];
        String::from_utf8_lossy(around).into_owned()
    };
    // By their first four bytes, since there are many.
    let mut heads: std::collections::HashMap<[u8; 4], Vec<usize>> = std::collections::HashMap::new();
    for (n, (_, _, needle)) in needles.iter().enumerate() {
        heads.entry(needle[..4].try_into().unwrap()).or_default().push(n);
    }
    for (at, window) in bytes.windows(4).enumerate() {
        for n in heads.get(window).into_iter().flatten() {
            let (name, form, needle) = &needles[*n];
            if bytes[at..].starts_with(needle) {
                found.push(format!("{name}, {form}, in {where_}: {}", text(at)));
            }
        }
    }
}

/// All files below, unpacked.
fn files(dir: &Path, out: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|e| e == "gz") {
            let mut plain = Vec::new();
            MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
            out.push((format!("{}, unpacked", path.display()), plain));
        }
        bytes.push(b'\n');
        out.push((path.display().to_string(), bytes));
    }
}

const AUDIT: &str = "  policyFile: policy.yaml
  rotateEvery: 1s
  watchEvents: true
  redaction:
    rules:
    - {name: commands, resources: [pods/exec], query: [command]}
    - {name: proxied, resources: ['*/proxy'], query: ['*']}
    - {name: env, resources: [pods], fields: ['**.containers[*].env[*].value']}
  sinks:
  - {name: out, stdout: {}}
  - {name: hook, webhook: {kubeconfig: hook.kubeconfig, batchMaxWait: 100ms, initialBackoff: 100ms}}";

async fn ask(gate: &Running, site: &Site, place: &Place) -> u16 {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: gate\r\n", place.method, place.target);
    let upgrades = place.headers.iter().any(|(name, _)| *name == "Upgrade");
    if upgrades {
        upgrade::SPDY.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    } else if !place.body.is_empty() {
        head += &format!("Content-Length: {}\r\n", place.body.len());
    }
    for (name, value) in place.headers.iter().filter(|(name, _)| *name != "Upgrade") {
        head += &format!("{name}: {value}\r\n");
    }
    let mut wire = Wire::open(gate.address(), &site.tls("http/1.1")).await.unwrap();
    wire.send([head.as_bytes(), b"\r\n", &place.body].concat()).await.unwrap();
    let reply = match upgrades {
        true => wire.head().await,
        false => wire.reply(place.method).await,
    };
    assert!(reply.code > 0, "{}: no answer\n{}", place.name, gate.log());
    reply.code
}

/// Answers as the place that is named in the request's last header says, and takes events besides.
async fn upstream(world: &World, places: &[Place]) -> Upstream {
    let answers: BTreeMap<String, (&'static str, &'static str, Vec<u8>)> =
        places.iter().enumerate().map(|(n, place)| (format!("place-{n}"), place.answer.clone())).collect();
    let said: BTreeMap<String, String> = places
        .iter()
        .enumerate()
        .filter_map(|(n, place)| {
            let say = place.headers.iter().find(|(name, _)| *name == "X-Say")?;
            Some((format!("place-{n}"), say.1.clone()))
        })
        .collect();
    Upstream::start(&world.ca, move |heard: &Heard| {
        if !heard.values("upgrade").is_empty() {
            return vec![Act::say(upgrade::SPDY_101), Act::Close];
        }
        let names = heard.values("x-place");
        let Some((status, kind, body)) = names.first().and_then(|name| answers.get(*name)) else {
            return vec![Act::answer("200 OK", "{}")];
        };
        let say = names.first().and_then(|name| said.get(*name)).map_or(String::new(), |say| {
            format!("Warning: 299 - \"{say}\"\r\nX-Said: {say}\r\nAudit-Id: {say}\r\nLocation: /{say}\r\n")
        });
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{say}\r\n");
        vec![Act::Say([head.as_bytes(), body].concat())]
    })
    .await
}

/// Random enough for nobody to write it by accident.
fn secret(n: usize) -> String {
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut letters = String::new();
    while letters.len() < 16 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        letters.push(char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[(state % 36) as usize]));
    }
    letters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_found_anywhere() {
    let mut places = places();
    for (n, place) in places.iter_mut().enumerate() {
        place.headers.push(("X-Place", format!("place-{n}")));
    }
    let world = World::new(&["can alice * * *\npaths alice * /*"]);
    let upstream = upstream(&world, &places).await;
    let site = Site::new(world, upstream.addr, AUDIT);
    site.folder
        .put("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n");
    let hook = json!({"apiVersion": "v1", "kind": "Config", "current-context": "hook",
        "clusters": [{"name": "hook", "cluster": {"server": format!("https://{}/events", upstream.addr), "certificate-authority": "ca.crt"}}],
        "users": [{"name": "hook", "user": {}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "hook"}}]});
    site.folder.put("hook.kubeconfig", &hook.to_string());

    let mut gate = site.spawn_by(&[], &["--log-level", "trace"]);
    gate.serving().await;
    let mut codes = BTreeMap::new();
    for place in &places {
        *codes.entry(ask(&gate, &site, place).await).or_insert(0) += 1;
    }
    // Until the receiver has had the last of them.
    let last = place("last", "GET", format!("{MAPS}/the-last-one"));
    ask(&gate, &site, &last).await;
    let events = |heard: &Heard| heard.line().contains("/events") && has(&heard.body, last.target.as_bytes());
    upstream.until(|heard| heard.iter().any(events)).await;
    // And until a segment is finished, and compressed.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let metrics = crate::plane::ask_admin(gate.admin(), "/metrics").await;
    gate.stop().await;
    let found = site.journal().check(State::Stopped);
    println!("{} places, {codes:?}, {} lines, {:?} segments", places.len(), found.lines, found.segments);
    assert!(found.segments.1 > 0, "nothing was compressed");

    let mut texts = vec![("/metrics".to_owned(), metrics.into_bytes())];
    files(&site.dir(), &mut texts);
    for entry in fs::read_dir(&site.folder.0).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("log-") || name.starts_with("out-") {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.is_empty(), "{name}");
            texts.push((name.to_owned(), bytes));
        }
    }
    let hooked: Vec<u8> =
        upstream.heard().into_iter().filter(|h| h.line().contains("/events")).flat_map(|h| h.body).collect();
    for body in ["\"marked\"", "gatelog:redacted:hmac-sha256:", "HARMLESS"] {
        assert!(has(&hooked, body.as_bytes()), "the receiver got no {body}");
    }
    texts.push(("webhook".to_owned(), hooked));
    let needles: Vec<_> = places
        .iter()
        .enumerate()
        .flat_map(|(n, place)| forms(&secret(n)).into_iter().map(|(form, needle)| (place.name, form, needle)))
        .chain([("the caller's own token", "as it is".to_owned(), b"alice-token".to_vec())])
        .chain([("the gate's own token", "as it is".to_owned(), b"gatelog-token".to_vec())])
        .collect();
    let mut leaks = Vec::new();
    for (name, bytes) in &texts {
        search(name, bytes, &needles, &mut leaks);
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n\n"));
}

/// What finds nothing must be able to find something.
#[test]
fn what_is_hidden_is_found() {
    let needles: Vec<_> =
        forms(&secret(7)).into_iter().map(|(form, needle)| ("here", form, needle)).collect();
    let finds = |bytes: &[u8]| {
        let mut found = Vec::new();
        search("a test", bytes, &needles, &mut found);
        !found.is_empty()
    };
    let secret = secret(7);
    let once = BASE64.encode(format!("x{secret}"));
    for text in [
        secret.clone(),
        format!("x{}", escaped(&secret)),
        once.clone(),
        BASE64.encode(format!("xy{once}")),
        object(&secret).to_string(),
    ] {
        assert!(finds(text.as_bytes()), "{text}");
        assert!(!finds(&text.as_bytes()[..text.len() / 2]) || text.contains("data"), "{text}");
    }
    assert!(finds(&protobuf(&secret)) && finds(&cbor(&secret)));
    assert!(!finds(&gzip(once.as_bytes())));
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

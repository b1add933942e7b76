//! Whatever strangers write into the record, each event is one line of valid JSON in UTF-8, for serde and for jq.

use crate::{
    conformance::world::World,
    raw::{Reply, Wire},
    record::State,
    record_gate::{Running, Site},
    upstream::{Act, Heard, Upstream},
};
use gatelog::audit::folder;
use serde_json::Value;
use std::{
    io::BufRead as _,
    path::Path,
    process::{Command, Stdio},
};

/// Strings that break somebody.
fn odd() -> Vec<Vec<u8>> {
    let mut odd: Vec<Vec<u8>> = [
        "",
        "\"",
        "\\",
        "\\\"",
        "\\u0000",
        "\\ud800",
        "</script>",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "\u{202e}evil",
        "é",
        "e\u{301}",
        "\u{1f600}",
        "\u{10ffff}",
        "\u{fffd}",
        "\u{85}",
        "a\tb",
        "{\"kind\":\"Event\"}",
        "null",
        "-",
        "' OR 1=1",
        "%0a%0d",
        "\u{1b}[31m",
        "\u{7f}",
        "\r",
        "\n",
        "\r\n",
        "\n{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\"}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    // Not UTF-8: alone, overlong, a surrogate, cut off, too great, all bytes.
    for bytes in [
        &b"\x80"[..],
        b"\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xe2\x80",
        b"\xf4\x90\x80\x80",
        b"a\xf0\x9f\x98",
    ] {
        odd.push(bytes.to_vec());
    }
    odd.push((0..32).collect());
    odd.push((32..=255).collect());
    odd
}

/// What may stand in a header: the rest is hyper's to refuse.
fn in_header(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == b'\t' || *byte >= 32 && *byte != 127)
}

async fn say(gate: &Running, site: &Site, bytes: &[u8]) -> Reply {
    let mut wire = Wire::open(gate.address(), &site.tls("http/1.1")).await.unwrap();
    // It may have had enough before all of it came.
    let _ = wire.send(bytes).await;
    wire.reply("GET").await
}

fn request(method: &str, target: &[u8], headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut out = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: gate\r\n"].concat();
    let length = body.len().to_string();
    let own: [(&str, &[u8]); 2] =
        [("Authorization", b"Bearer alice-token"), ("Content-Length", length.as_bytes())];
    let others = own.iter().filter(|(name, _)| !headers.iter().any(|(n, _)| n == name));
    for (name, value) in headers.iter().chain(others) {
        out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

const MAPS: &[u8] = b"/api/v1/namespaces/a/configmaps";

/// Everything that a line may hold.
fn requests() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let json = ("Content-Type", &b"application/json"[..]);
    for text in odd() {
        let escaped: Vec<u8> = text.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect();
        for target in [
            [MAPS, b"/", &escaped].concat(),
            [MAPS, b"?fieldSelector=", &escaped].concat(),
            [MAPS, b"?labelSelector=a%3D", &escaped, b"&watch=1"].concat(),
            [b"/api/v1/namespaces/", &escaped[..], b"/pods/", &escaped].concat(),
            [b"/api/v1/namespaces/a/services/s/proxy/", &escaped[..], b"?", &escaped].concat(),
            [b"/", &escaped[..]].concat(),
            // Raw.
            [MAPS, b"/", &text].concat(),
            [MAPS, b"?x=", &text].concat(),
        ] {
            out.push(request("GET", &target, &[], b""));
        }
        for name in [
            "User-Agent",
            "Audit-ID",
            "X-Forwarded-For",
            "X-Real-Ip",
            "Impersonate-User",
            "Content-Type",
            "Accept",
            "Authorization",
        ] {
            if in_header(&text) {
                out.push(request("POST", MAPS, &[(name, &text)], b"{}"));
            }
        }
        if in_header(&text) {
            let extra = [
                ("Impersonate-User", &b"bob"[..]),
                ("Impersonate-Group", &text),
                ("Impersonate-Extra-a%2fb", &text),
                ("Impersonate-Uid", &text),
            ];
            out.push(request("GET", MAPS, &extra, b""));
        }
        // As it is, and as text in JSON that is valid but for it.
        for body in [
            text.clone(),
            [b"{\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"", &text[..], b"\"},\"data\":{\"", &text, b"\":\"", &text, b"\"}}"].concat(),
            [b"{\"kind\":\"ConfigMap\",\n\r\n\"data\":\t{}}", &text[..]].concat(),
            serde_json::to_vec(&serde_json::json!({"metadata": {"name": String::from_utf8_lossy(&text), "uid": String::from_utf8_lossy(&text), "resourceVersion": String::from_utf8_lossy(&text)}})).unwrap(),
        ] {
            out.push(request("POST", MAPS, &[json], &body));
            out.push(request("PUT", &[MAPS, b"/x"].concat(), &[json], &body));
            out.push(request("PATCH", &[MAPS, b"/x"].concat(), &[("Content-Type", b"application/merge-patch+json")], &body));
            out.push(request("PATCH", &[MAPS, b"/x?fieldManager=x"].concat(), &[("Content-Type", b"application/apply-patch+yaml")], &body));
        }
    }
    // JSON that some take and others do not.
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let escapes =
        r#"{"a":"\ud800","b":"\udc00\ud800","c":"\ud83d\ude00","\ud800":1,"d":"\u0000\u001f\u2028"}"#;
    for body in [
        escapes,
        "{\"a\":1e999,\"b\":-0,\"c\":1.0000000000000000000001}",
        "{\"a\":1,\"a\":2}",
        &deep,
        "\u{feff}{}",
        " \n{}\n ",
        "{}{}",
        "1",
        "\"\\ud800\"",
    ] {
        out.push(request("POST", MAPS, &[json], body.as_bytes()));
    }
    // As large as anything may be.
    let large = vec![b'x'; 1 << 20];
    let most = &large[..(1 << 20) - 2000];
    let quotes = vec![b'"'; 900_000];
    let latin = vec![0xe9; 900_000];
    for agent in [most, &large, &quotes, &latin] {
        out.push(request("GET", MAPS, &[("User-Agent", agent)], b""));
        out.push(request("GET", MAPS, &[("User-Agent", agent), ("Authorization", b"Bearer nobody")], b""));
    }
    for name in [
        "Audit-ID",
        "X-Forwarded-For",
        "Impersonate-User",
        "Impersonate-Group",
        "Content-Type",
        "Authorization",
    ] {
        out.push(request("POST", MAPS, &[(name, most)], b"{}"));
    }
    for size in [8_000, 60_000, 65_000, 70_000, 1 << 20] {
        out.push(request("GET", &[MAPS, b"?x=", &large[..size]].concat(), &[], b""));
        out.push(request("GET", &[b"/", &large[..size]].concat(), &[], b""));
    }
    out.push(request(
        "POST",
        MAPS,
        &[json],
        format!("{{\"data\":{{\"a\":\"{}\"}}}}", "\\n".repeat(200_000)).as_bytes(),
    ));
    out.push(request("POST", MAPS, &[json], &large));
    out.push(request("PROPFIND", MAPS, &[], b""));
    out
}

/// What the upstream may say.
fn answers() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for text in odd() {
        let body = [
            b"{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"",
            &text[..],
            b"\",\"message\":\"",
            &text,
            b"\",\"details\":{\"name\":\"",
            &text,
            b"\"},\"code\":400}",
        ]
        .concat();
        let lossy = String::from_utf8_lossy(&text);
        let valid = serde_json::json!({"kind": "Status", "status": "Failure", "message": lossy, "reason": lossy, "code": 422});
        for body in [body, valid.to_string().into_bytes(), text.clone()] {
            for (status, kind) in
                [("200 OK", "application/json"), ("422 No", "application/json"), ("500 No", "text/plain")]
            {
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                out.push([head.as_bytes(), &body].concat());
            }
        }
        if in_header(&text) {
            let head = b"HTTP/1.1 400 ".to_vec();
            out.push(
                [
                    &head,
                    &text[..],
                    b"\r\nContent-Type: ",
                    &text,
                    b"\r\nContent-Length: 2\r\nWarning: 299 - \"",
                    &text,
                    b"\"\r\n\r\n{}",
                ]
                .concat(),
            );
        }
    }
    out
}

/// Every line of a journal, as it is.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    let segments = folder::segments(dir).unwrap();
    let read = |segment: folder::Segment| {
        segment.open().unwrap().split(b'\n').map(Result::unwrap).collect::<Vec<_>>()
    };
    segments.into_iter().flat_map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_one_event() {
    let world = World::new(&["can alice * * *\npaths alice * /*"]);
    let answers = answers();
    let asked = answers.len();
    let upstream = Upstream::start(&world.ca, move |heard: &Heard| {
        let number = heard
            .line()
            .split_once("/odd-")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        match number.and_then(|n| answers.get(n)) {
            Some(answer) => vec![Act::Say(answer.clone()), Act::Close],
            None => vec![Act::answer("200 OK", "{}")],
        }
    })
    .await;
    let site = Site::new(world, upstream.addr, "  policy: everything");
    let gate = site.start().await;
    let mut codes = std::collections::BTreeMap::new();
    let mut ids = Vec::new();
    let requests = requests();
    for bytes in &requests {
        let reply = say(&gate, &site, bytes).await;
        *codes.entry(reply.code).or_insert(0) += 1;
        // What hyper itself refuses has no id, and is counted.
        ids.extend(reply.header("audit-id").map(|id| (id.to_owned(), reply.code)));
    }
    for n in 0..asked {
        let reply =
            say(&gate, &site, &request("GET", &[MAPS, format!("/odd-{n}").as_bytes()].concat(), &[], b""))
                .await;
        ids.extend(reply.header("audit-id").map(|id| (id.to_owned(), reply.code)));
    }
    gate.stop().await;
    let found = site.journal().check(State::Stopped);
    println!("{} requests, {asked} answers, {codes:?}, {} lines", requests.len(), found.lines);
    // Strangers have an allowance.
    for (id, code) in ids.iter().filter(|(_, code)| !matches!(code, 400 | 401)) {
        assert!(found.requests.get(id).is_some_and(|r| r.ended()), "{code}: {id} is not recorded");
    }

    let lines = lines(&site.dir());
    for line in &lines {
        let text =
            std::str::from_utf8(line).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(line)));
        let event: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(event["kind"], "Event");
        assert!(!text.bytes().any(|byte| byte < b' '), "a control character: {text:.2000}");
        // What is more than that, bodies may hold, which are recorded as they came.
        let odd = ['\u{2028}', '\u{2029}'];
        let in_body = event.get("requestObject").or(event.get("responseObject")).is_some();
        assert!(in_body || !text.contains(odd), "a control character: {text:.2000}");
        // A name of a megabyte stands there, in the reason and in the message.
        assert!(text.len() < 4 << 20, "{} bytes", text.len());
    }
    // jq reads as many, and the same.
    let jq = Command::new("jq")
        .args(["--raw-output", ".auditID + \" \" + .stage"])
        .args(folder::segments(&site.dir()).unwrap().into_iter().map(|segment| segment.path))
        .stderr(Stdio::inherit())
        .output();
    let Ok(jq) = jq else {
        println!("jq not found: left out");
        return;
    };
    assert!(jq.status.success());
    let said = String::from_utf8(jq.stdout).unwrap();
    let want = lines.iter().map(|line| {
        let event: Value = serde_json::from_slice(line).unwrap();
        format!("{} {}", event["auditID"].as_str().unwrap(), event["stage"].as_str().unwrap())
    });
    assert!(said.lines().eq(want), "jq reads something else");
}

//! A plain HTTP server with one pod and raw clients: what kubectl and others put on the wire, byte by byte.

use super::*;
use crate::demo::spdy::{Decoder, Encoder, Frame};
use bytes::Buf as _;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

fn pod(containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|n| {
            json!({"name": n, "image": "nginx:1.29", "env": [{"name": "COLOR", "value": "blue"}],
                        "ports": [{"containerPort": 8080}]})
        })
        .collect();
    json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1", "creationTimestamp": jiff::Timestamp::now().to_string()},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "podIP": "10.244.0.5"},
    })
}

struct Server {
    kubelet: Kubelet,
    address: std::net::SocketAddr,
}

impl Server {
    async fn start(pod: Value) -> Self {
        let kubelet = Kubelet::new(Duration::from_millis(20));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = kubelet.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (kubelet, pod) = (served.clone(), pod.clone());
                let service = service_fn(move |mut request: Request<Incoming>| {
                    let upgrade = hyper::upgrade::on(&mut request);
                    let sub = match request.uri().path() {
                        "/exec" => Sub::Exec,
                        "/attach" => Sub::Attach,
                        "/portforward" => Sub::PortForward,
                        _ => Sub::Log,
                    };
                    let parts = request.into_parts().0;
                    let answer =
                        kubelet.serve(&parts, Some(upgrade), &pod, sub).unwrap_or_else(|f| f.answer());
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades(),
                );
            }
        });
        Self { kubelet, address }
    }

    /// Sends a request; the answer's head, and the connection after it.
    async fn ask(&self, line: &str, headers: &[&str]) -> (String, TcpStream) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        socket.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap().to_lowercase(), socket)
    }

    async fn spdy(&self, target: &str, protocols: &[&str]) -> Spdy {
        let mut headers = vec!["Connection: Upgrade".to_owned(), "Upgrade: SPDY/3.1".to_owned()];
        headers.extend(protocols.iter().map(|p| format!("X-Stream-Protocol-Version: {p}")));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let (head, socket) = self.ask(&format!("POST {target}"), &headers).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        Spdy { head, socket, encoder: Encoder::default(), decoder: Decoder::default() }
    }

    async fn websocket(&self, target: &str, protocol: &str) -> WebSocket {
        let protocol = format!("Sec-WebSocket-Protocol: {protocol}");
        let (head, socket) =
            self.ask(&format!("GET {target}"), &[&WEBSOCKET[..], &[&protocol]].concat()).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        WebSocket { head, socket }
    }
}

const WEBSOCKET: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

struct Spdy {
    head: String,
    socket: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Spdy {
    async fn send(&mut self, frame: Frame) {
        let mut out = Vec::new();
        self.encoder.encode(&frame, &mut out);
        self.socket.write_all(&out).await.unwrap();
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.send(Frame::SynStream { stream, fin: false, headers }).await;
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: &'static [u8]) {
        self.send(Frame::Data { stream, fin, bytes: bytes.into() }).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.socket.read(&mut buffer).await.unwrap() {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    /// Everything that comes on each stream until `ends` of them have ended.
    async fn collect(&mut self, mut ends: usize) -> HashMap<u32, Vec<u8>> {
        let mut all: HashMap<u32, Vec<u8>> = HashMap::new();
        while ends > 0 {
            match self.next().await.expect("the server closed") {
                Frame::Data { stream, fin, bytes } => {
                    all.entry(stream).or_default().extend_from_slice(&bytes);
                    ends -= usize::from(fin);
                }
                Frame::SynReply { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

struct WebSocket {
    head: String,
    socket: TcpStream,
}

impl WebSocket {
    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        assert!(payload.len() < 126);
        let mask = [1, 2, 3, 4];
        let mut out = vec![0x80 | opcode, 0x80 | payload.len() as u8];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        self.socket.write_all(&out).await.unwrap();
    }

    /// Opcode and payload of the next message.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let first = self.socket.read_u8().await.unwrap();
        let length = match self.socket.read_u8().await.unwrap() {
            126 => self.socket.read_u16().await.unwrap().into(),
            127 => self.socket.read_u64().await.unwrap() as usize,
            short => short.into(),
        };
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).await.unwrap();
        (first & 0x0f, payload)
    }

    async fn rest(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if all.last().is_some_and(|(opcode, _)| *opcode == 8) {
                return all;
            }
        }
    }
}

fn v(status: &str) -> Value {
    serde_json::from_str(status).unwrap()
}

#[tokio::test]
async fn exec_over_spdy() {
    let server = Server::start(pod(&["web"])).await;
    let target = "/exec?command=sh&command=-c&command=cat%3B+echo+%24COLOR%3B+nosuch%3B+exit+3&stdin=true&stdout=true&stderr=true";
    let protocols = [
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
    ];
    let mut client = server.spdy(target, &protocols).await;
    assert!(client.head.contains("\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n"), "{}", client.head);
    for (i, kind) in ["error", "stdin", "stdout", "stderr"].into_iter().enumerate() {
        client.open(2 * i as u32 + 1, &[("streamtype", kind)]).await;
    }
    client.data(3, false, b"from stdin\n").await;
    client.data(3, true, b"").await;
    let all = client.collect(3).await;
    assert_eq!(all[&5], b"from stdin\nblue\n");
    assert_eq!(all[&7], b"sh: 1: nosuch: not found\n");
    let status = v(std::str::from_utf8(&all[&1]).unwrap());
    assert_eq!(
        status,
        json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
               "message": "command terminated with non-zero exit code: exit status 3",
               "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}})
    );
    assert!(matches!(client.next().await, Some(Frame::GoAway { status: 0, .. })));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn spdy_versions_are_negotiated() {
    let server = Server::start(pod(&["web"])).await;
    let rows: [(&[&str], &str); 4] = [
        (&["X-Stream-Protocol-Version: v3.channel.k8s.io, v4.channel.k8s.io"], "101 v3.channel.k8s.io"),
        (&["X-Stream-Protocol-Version: channel.k8s.io"], "101 channel.k8s.io"),
        (&["X-Stream-Protocol-Version: v5.channel.k8s.io"], "403 "),
        (&[], "400 "),
    ];
    for (headers, expected) in rows {
        let headers = [&["Connection: Upgrade", "Upgrade: SPDY/3.1"], headers].concat();
        let (head, _socket) = server.ask("POST /exec?command=true&stdout=1", &headers).await;
        let chosen =
            head.lines().find_map(|l| l.strip_prefix("x-stream-protocol-version: ")).unwrap_or_default();
        assert_eq!(format!("{} {chosen}", &head[9..12]), expected, "{head}");
        assert_eq!(
            head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"),
            expected == "403 "
        );
    }
    // Before v4 the error stream has plain text, or nothing.
    for (code, said) in [("0", ""), ("7", "command terminated with non-zero exit code: exit status 7")] {
        let target = format!("/exec?command=sh&command=-c&command=exit+{code}&stdout=true");
        let mut client = server.spdy(&target, &["v2.channel.k8s.io"]).await;
        client.open(1, &[("streamtype", "error")]).await;
        client.open(3, &[("streamtype", "stdout")]).await;
        assert_eq!(client.collect(2).await[&1], said.as_bytes());
    }
}

#[tokio::test]
async fn a_terminal_over_spdy() {
    let server = Server::start(pod(&["web"])).await;
    let mut client =
        server.spdy("/exec?command=sh&stdin=true&stdout=true&tty=true", &["v4.channel.k8s.io"]).await;
    for (i, kind) in ["error", "stdin", "stdout", "resize"].into_iter().enumerate() {
        client.open(2 * i as u32 + 1, &[("streamtype", kind)]).await;
    }
    client.data(7, false, b"{\"Width\":100,\"Hei").await;
    client.data(7, false, b"ght\":30}\n").await;
    // The size travels on its own stream: ask until it has arrived.
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("30 100\r\n") {
        client.data(3, false, b"stty size\r").await;
        if let Some(Frame::Data { bytes, .. }) = client.next().await {
            seen.extend_from_slice(&bytes);
        }
    }
    client.data(3, false, b"exit\r").await;
    let all = client.collect(2).await;
    assert!(String::from_utf8_lossy(&all[&5]).contains("exit\r\n"), "{all:?}");
    assert_eq!(all[&1], br#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn exec_over_websocket_v5() {
    let server = Server::start(pod(&["web"])).await;
    let mut client =
        server.websocket("/exec?command=cat&stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io").await;
    assert!(client.head.contains("sec-websocket-protocol: v5.channel.k8s.io\r\n"), "{}", client.head);
    client.send(2, b"\x00hello\n").await;
    client.send(9, b"ping").await;
    // Unknown channels and empty messages mean nothing.
    client.send(2, b"\x09?").await;
    client.send(2, b"").await;
    client.send(2, b"\xff\x00").await;
    let mut all = client.rest().await;
    all.retain(|m| *m != (10, b"ping".to_vec()));
    assert_eq!(
        all,
        [
            (2, b"\x01".to_vec()),
            (2, b"\x01hello\n".to_vec()),
            (2, b"\x03{\"metadata\":{},\"status\":\"Success\"}".to_vec()),
            (8, 1000u16.to_be_bytes().to_vec()),
        ]
    );
}

#[tokio::test]
async fn older_websocket_channels() {
    let server = Server::start(pod(&["web"])).await;
    let target = "/exec?command=sh&command=-c&command=echo+hi%3B+exit+2&stdout=true&stderr=true";
    let mut client = server.websocket(target, "bogus, v4.base64.channel.k8s.io, v4.channel.k8s.io").await;
    let all = client.rest().await;
    assert_eq!(all[..2], [(1, b"1".to_vec()), (1, b"1aGkK".to_vec())]);
    assert_eq!((all[2].0, all[2].1[0]), (1, b'3'));
    let mut client = server.websocket(target, "channel.k8s.io").await;
    let all = client.rest().await;
    assert_eq!(all[2], (2, b"\x03command terminated with non-zero exit code: exit status 2".to_vec()));
    let (head, _) = server.ask(&format!("GET {target}"), &WEBSOCKET).await;
    assert!(head.starts_with("http/1.1 101") && !head.contains("sec-websocket-protocol"), "{head}");
    let (head, _) = server
        .ask("GET /exec?command=true&stdout=1", &[&WEBSOCKET[..], &["Sec-WebSocket-Protocol: x"]].concat())
        .await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
}

#[tokio::test]
async fn refusals() {
    let one = Server::start(pod(&["web"])).await;
    let two = Server::start(pod(&["web", "sidecar"])).await;
    let mut waiting = pod(&["web"]);
    waiting["status"]["phase"] = "Pending".into();
    let waiting = Server::start(waiting).await;
    let rows = [
        (&one, "/exec?command=ls&stdout=true", 400, "Upgrade request required"),
        (&one, "/exec?command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (&one, "/exec?stdout=true", 400, "you must specify at least one command for the container"),
        (&one, "/exec?command=ls&stdout=true&container=x", 400, "container x is not valid for pod web-0"),
        (&one, "/portforward", 400, "Upgrade request required"),
        (&one, "/log?previous=true", 400, "previous terminated container \"web\" in pod \"web-0\" not found"),
        (&one, "/log?tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            &one,
            "/log?tailLines=-1",
            422,
            "PodLogOptions \"web-0\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (&one, "/log?sinceTime=yesterday", 400, "parsing time \"yesterday\": cannot parse it as RFC 3339"),
        (&two, "/log", 400, "a container name must be specified for pod web-0, choose one of: [web sidecar]"),
        (&waiting, "/log", 400, "container \"web\" in pod \"web-0\" is waiting to start: ContainerCreating"),
        (
            &waiting,
            "/portforward",
            400,
            "unable to forward port because pod is not running. Current status=Pending",
        ),
    ];
    for (server, target, code, message) in rows {
        let (head, mut socket) = server.ask(&format!("GET {target}"), &["Connection: close"]).await;
        let mut body = String::new();
        socket.read_to_string(&mut body).await.unwrap();
        assert!(head.starts_with(&format!("http/1.1 {code}")), "{target}: {head}");
        assert_eq!(v(&body)["message"], message, "{target}");
    }
}

async fn log(server: &Server, query: &str) -> String {
    let (head, mut socket) = server.ask(&format!("GET /log?{query}"), &["Connection: close"]).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain\r\n"), "{head}");
    let mut wire = Vec::new();
    socket.read_to_end(&mut wire).await.unwrap();
    let mut body = Vec::new();
    let mut rest = &wire[..];
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest.advance(end + 2);
        body.extend_from_slice(&rest[..size]);
        rest.advance(size + 2);
    }
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn logs() {
    let server = Server::start(pod(&["web", "sidecar"])).await;
    let all = log(&server, "container=web").await;
    assert!(all.starts_with("starting up\nconfiguration read from"), "{all}");
    assert_eq!(log(&server, "container=web&limitBytes=10").await, "starting u");
    assert_eq!(log(&server, "container=web&tailLines=0").await, "");
    assert_eq!(log(&server, "container=web&tailLines=2").await.lines().count(), 2);
    let stamped = log(&server, "container=web&timestamps=true&limitBytes=4000").await;
    let (time, text) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == 30 && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    assert_eq!(text, "starting up");
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100)).to_string();
    assert_eq!(log(&server, &format!("container=web&sinceTime={later}")).await, "");
    assert!(log(&server, "container=web&sinceSeconds=1000").await.starts_with("starting up\n"));
    // Following ends at the limit, or when the pod goes.
    assert_eq!(log(&server, "container=web&follow=&limitBytes=150").await.len(), 150);
    let (_, mut socket) = server.ask("GET /log?container=sidecar&follow=true", &[]).await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("request 3: GET") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    server.kubelet.removed("u-1");
    while !seen.ends_with(b"0\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "the stream did not end properly");
    }
}

#[tokio::test]
async fn attach_shows_the_log_and_feeds_it() {
    let server = Server::start(pod(&["web"])).await;
    let mut client =
        server.websocket("/attach?stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io").await;
    assert_eq!(client.next().await, (2, b"\x01".to_vec()));
    client.send(2, b"\x00said by a guest\n").await;
    let mut seen = String::new();
    while !(seen.contains("said by a guest\n") && seen.contains("request ")) {
        seen.push_str(std::str::from_utf8(&client.next().await.1[1..]).unwrap());
    }
    assert!(log(&server, "").await.contains("said by a guest\n"));
    // The pod goes: the process is killed.
    server.kubelet.removed("u-1");
    let all = client.rest().await;
    let status = &all[all.len() - 2].1;
    assert_eq!(v(std::str::from_utf8(&status[1..]).unwrap())["details"]["causes"][0]["message"], "137");
}

async fn forwarded(
    client: &mut Spdy,
    first: u32,
    port: &'static str,
    sent: &'static [u8],
) -> (Vec<u8>, Vec<u8>) {
    let id = first.to_string();
    client.open(first, &[("streamtype", "error"), ("port", port), ("requestid", &id)]).await;
    client.data(first, true, b"").await;
    client.open(first + 2, &[("streamtype", "data"), ("port", port), ("requestid", &id)]).await;
    client.data(first + 2, true, sent).await;
    let mut all = client.collect(2).await;
    (all.remove(&first).unwrap_or_default(), all.remove(&(first + 2)).unwrap_or_default())
}

#[tokio::test]
async fn port_forward_over_spdy() {
    let server = Server::start(pod(&["web"])).await;
    let mut client = server.spdy("/portforward", &["portforward.k8s.io"]).await;
    assert!(client.head.contains("x-stream-protocol-version: portforward.k8s.io"), "{}", client.head);
    assert_eq!(forwarded(&mut client, 1, "7", b"echo me").await, (vec![], b"echo me".to_vec()));
    for (first, port) in [(5, "80"), (9, "8080")] {
        let (error, page) = forwarded(&mut client, first, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let page = String::from_utf8(page).unwrap();
        assert!(
            error.is_empty() && page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("pod web-0"),
            "{page}"
        );
    }
    let rows = [
        (13, "81", "connect: connection refused"),
        (17, "0", "port \"0\" must be > 0"),
        (21, "65536", "unable to parse \"65536\" as a port"),
        (25, "http", "unable to parse \"http\" as a port"),
    ];
    for (first, port, expected) in rows {
        let (error, data) = forwarded(&mut client, first, port, b"").await;
        let error = String::from_utf8(error).unwrap();
        assert!(error.ends_with(expected) && data.is_empty(), "{error}");
    }
    // Old clients send no requestid.
    client.open(101, &[("streamtype", "error"), ("port", "7")]).await;
    client.open(103, &[("streamtype", "data"), ("port", "7")]).await;
    client.data(103, true, b"old").await;
    assert_eq!(client.collect(2).await[&103], b"old");
    client.open(201, &[("streamtype", "nonsense")]).await;
    while let Some(frame) = client.next().await {
        if matches!(frame, Frame::Reset { stream: 201, .. }) {
            return;
        }
    }
    panic!("the stream was not reset");
}

#[tokio::test]
async fn port_forward_through_a_websocket_tunnel() {
    let server = Server::start(pod(&["web"])).await;
    let mut client = server.websocket("/portforward", "SPDY/3.1+portforward.k8s.io").await;
    assert!(client.head.contains("sec-websocket-protocol: spdy/3.1+portforward.k8s.io"), "{}", client.head);
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for (stream, kind) in [(1, "error"), (3, "data")] {
        let headers = [("streamtype", kind), ("port", "7"), ("requestid", "0")];
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        encoder.encode(&Frame::SynStream { stream, fin: false, headers }, &mut out);
    }
    encoder.encode(&Frame::Data { stream: 3, fin: true, bytes: "tunnelled".into() }, &mut out);
    for piece in out.chunks(11) {
        client.send(2, piece).await;
    }
    let mut decoder = Decoder::default();
    let mut echoed = Vec::new();
    while echoed != b"tunnelled" {
        let (opcode, payload) = client.next().await;
        assert_eq!(opcode, 2);
        decoder.push(&payload);
        while let Some(frame) = decoder.next_frame().unwrap() {
            if let Frame::Data { stream: 3, bytes, .. } = frame {
                echoed.extend_from_slice(&bytes);
            }
        }
    }
}

#[test]
fn queries_are_read_as_kubernetes_reads_them() {
    let options = Options::read("a=1&command=x+y&command=%2Fbin%2Fsh&b=&c&d=False&e=0&f=%zz");
    assert_eq!(options.all("command").collect::<Vec<_>>(), ["x y", "/bin/sh"]);
    let flags = ["a", "b", "c", "d", "e", "f", "g"].map(|n| options.flag(n));
    assert_eq!(flags, [true, true, true, false, false, true, false]);
    assert_eq!((options.text("b"), options.text("f")), (None, Some("%zz")));
}

//! `gatelog explain` and `who-can` asking a gate that runs, at its `admin.socket`.

use crate::cli::{Scratch, Served, gate, text};
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Output,
    time::Instant,
};

/// A configuration whose gate listens at `gatelog.sock` and decides by `rbac.yaml`.
fn configured(name: &str, more: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let path = gate(&scratch, "");
    let demo =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/world/rbac.yaml")).unwrap();
    scratch.write("rbac.yaml", &demo);
    let config = fs::read_to_string(path).unwrap();
    let config = config.replace("'127.0.0.1:0'}\n", "'127.0.0.1:0', socket: gatelog.sock}\n");
    let rules =
        format!("authorization: {{rbac: {{files: [rbac.yaml]}}{more}}}\nreload: {{interval: 20ms}}\n");
    scratch.write("gatelog.yaml", &(config + &rules));
    scratch
}

const BY_SOCKET: [&str; 2] = ["--socket", "gatelog.sock"];
const BY_FILES: [&str; 2] = ["--config", "gatelog.yaml"];

/// `COMMAND REST` by these rules.
fn asked(scratch: &Scratch, by: [&str; 2], command: &str) -> Output {
    let mut words = command.split(' ');
    let name = words.next().unwrap();
    let args: Vec<&str> = [name].into_iter().chain(by).chain(words).collect();
    scratch.gatelog(&args)
}

/// One request to the socket: status and body.
fn posted(scratch: &Scratch, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(scratch.0.join("gatelog.sock")).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_gate_answers_what_its_files_say() {
    let scratch = configured("ask", "");
    let mut served = Served::start(&scratch);
    served.logged("serving");
    let socket = fs::symlink_metadata(scratch.0.join("gatelog.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o7777, 0o600);
    let left = fs::read_dir(&scratch.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0, "what it was made in is gone");

    for command in [
        "explain --as alice --as-group demo:developers delete pods web-0 -n shop",
        "explain --as alice --as-group demo:developers get pods/exec -n shop",
        "explain --as alice --as-group demo:developers delete po/web-0 -n team-a",
        "explain --as alice --as-group demo:developers get pods/exec web-0 -n team-a",
        "explain --as alice get pods -n shop",
        "explain --as alice get /version",
        "explain --as alice get /metrics",
        "explain --as system:serviceaccount:shop:app get pods -n shop",
        "explain --as root --as-group system:masters * *",
        "who-can get pods -n shop",
        "who-can create pods/exec -n shop",
        "who-can get pods/exec -n shop",
        "who-can get /version",
    ] {
        for command in [command.to_owned(), format!("{command} -o json")] {
            let (live, files) = (asked(&scratch, BY_SOCKET, &command), asked(&scratch, BY_FILES, &command));
            assert_eq!(text(&live.stdout), text(&files.stdout), "{command}: {}", text(&live.stderr));
            assert_eq!((live.status, live.stderr), (files.status, files.stderr), "{command}");
            assert!(!live.stdout.is_empty(), "{command}");
        }
    }
    // As it is printed, so it is answered.
    let (code, body) = posted(
        &scratch,
        "/v1/explain",
        r#"{"user":"alice","groups":["demo:developers"],"verb":"delete","resource":"pods","namespace":"team-a"}"#,
    );
    let printed = asked(
        &scratch,
        BY_SOCKET,
        "explain --as alice --as-group demo:developers delete pods -n team-a -o json",
    );
    assert_eq!((code, &*body, printed.status.code()), (200, text(&printed.stdout), Some(1)));
    let (code, body) = posted(&scratch, "/v1/who-can", r#"{"verb":"get","path":"/version"}"#);
    assert_eq!(
        (code, &*body),
        (200, text(&asked(&scratch, BY_SOCKET, "who-can get /version -o json").stdout))
    );

    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    assert!(!scratch.0.join("gatelog.sock").exists(), "a gate that is gone leaves no socket");
}

#[test]
fn what_is_no_question_is_refused() {
    let scratch = configured("ask-bad", "");
    let mut served = Served::start(&scratch);
    served.logged("serving");
    let huge = format!(r#"{{"user":"{}"}}"#, "x".repeat(300 << 10));
    for (path, body, code, why) in [
        ("/v1/explain", "{", 400, "the question: not JSON"),
        ("/v1/explain", "[]", 400, "the question: expected an object"),
        ("/v1/explain", r#"{"verb":"get","verb":"list"}"#, 400, "the question: an object holds a key twice"),
        ("/v1/explain", r#"{"nmespace":"a"}"#, 400, "the question: unknown field `nmespace`"),
        ("/v1/explain", r#"{"user":"a","resource":"pods"}"#, 400, "verb: is missing"),
        ("/v1/explain", r#"{"verb":"get","resource":"pods"}"#, 400, "the user name is empty"),
        ("/v1/who-can", r#"{"user":"a","verb":"get","resource":"pods"}"#, 400, "who may is asked for nobody"),
        ("/v1/explain", &huge, 400, "the question is larger than 262144 bytes"),
        ("/v1/rules", "{}", 404, "expected /v1/explain or /v1/who-can"),
        ("/metrics", "{}", 404, "expected /v1/explain or /v1/who-can"),
    ] {
        let (status, answer) = posted(&scratch, path, body);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["kind"]), (code, &"Status".into()), "{path} {answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(why), "{path}: {answer}");
    }
    let mut stream = UnixStream::connect(scratch.0.join("gatelog.sock")).unwrap();
    stream.write_all(b"GET /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn rules_that_change_change_the_answer() {
    let scratch = configured("ask-reload", "");
    let mut served = Served::start(&scratch);
    served.logged("serving");
    let may = || {
        let line = "explain --as alice --as-group demo:developers delete pods -n shop";
        asked(&scratch, BY_SOCKET, line).status.code()
    };
    assert_eq!(may(), Some(0));
    scratch.write("rbac.yaml", r#"{"apiVersion":"v1","kind":"List","items":[]}"#);
    served.logged("took up changed files");
    assert_eq!(may(), Some(1));
}

#[test]
fn the_mode_and_rehearsed_rules_are_told() {
    let scratch =
        configured("ask-shadow", ", mode: observe, shadow: {files: [shadow.yaml], bootstrap: false}");
    scratch.write("shadow.yaml", r#"{"apiVersion":"v1","kind":"List","items":[]}"#);
    let mut served = Served::start(&scratch);
    served.logged("serving");
    for by in [BY_SOCKET, BY_FILES] {
        let told = asked(&scratch, by, "explain --as alice --as-group demo:developers delete pods -n shop");
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        let said = text(&told.stdout);
        assert!(said.starts_with("allowed: alice may delete pods in namespace shop\n"), "{said}");
        assert!(
            said.ends_with(
                "shadow rules: denied\n  no binding names this user or its groups\n\
             mode observe: a denial of this is recorded, and NOT refused\n"
            ),
            "{said}"
        );
        let exec = asked(&scratch, by, "explain --as bob create pods/exec -n shop");
        assert_eq!(exec.status.code(), Some(1));
        assert!(text(&exec.stdout).ends_with("mode observe, but a denial of this is refused all the same\n"));
        let who = asked(&scratch, by, "who-can delete pods -n shop");
        assert!(text(&who.stdout).contains("the shadow rules take (-) and give (+)\n- Group demo:admins "));
    }
}

#[test]
fn a_place_that_is_taken_is_a_failed_start() {
    let scratch = configured("ask-taken", "");
    let path = scratch.0.join("gatelog.sock");
    let start = |expected: &str| {
        let output = scratch.gatelog(&["serve", "--config", "gatelog.yaml", "--log-level", "off"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let begins = format!("gatelog: admin.socket: {}: ", path.display());
        let said = text(&output.stderr);
        assert!(
            said.contains("gatelog: admin.socket: ") && said.contains("gatelog.sock: "),
            "{said} {begins}"
        );
        assert!(said.contains(expected), "{said}");
    };
    let config = fs::read_to_string(scratch.0.join("gatelog.yaml")).unwrap();
    let long = config.replace("gatelog.sock", &format!("{}/gatelog.sock", "x".repeat(120)));
    fs::write(scratch.0.join("gatelog.yaml"), long).unwrap();
    start("is too long for a socket");
    fs::write(scratch.0.join("gatelog.yaml"), config).unwrap();
    fs::write(&path, "a file").unwrap();
    start("is there, and is no socket");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    start("is there, and is no socket");
    fs::remove_file(&path).unwrap();

    let mut served = Served::start(&scratch);
    served.logged("serving");
    // The record's folder is the first gate's, too: each has its own here.
    let config = fs::read_to_string(scratch.0.join("gatelog.yaml")).unwrap();
    scratch.write("gatelog.yaml", &config.replace("dir: audit", "dir: audit2"));
    start("somebody listens there already");
    let may = asked(&scratch, BY_SOCKET, "who-can get /version");
    assert_eq!(may.status.code(), Some(0), "the first gate still answers: {}", text(&may.stderr));
}

#[test]
fn a_socket_whose_gate_is_gone_is_replaced() {
    let scratch = configured("ask-stale", "");
    let path = scratch.0.join("gatelog.sock");
    let mut served = Served::start(&scratch);
    served.logged("serving");
    served.signal("KILL");
    served.ended();
    let stale = fs::symlink_metadata(&path).unwrap();
    let none = asked(&scratch, BY_SOCKET, "who-can get /version");
    assert_eq!(none.status.code(), Some(69));
    let said = text(&none.stderr);
    assert!(said.starts_with("gatelog: --socket gatelog.sock: no gate answers there: "), "{said}");

    let mut served = Served::start(&scratch);
    served.logged("serving");
    assert_eq!(asked(&scratch, BY_SOCKET, "who-can get /version").status.code(), Some(0));

    // Somebody else's by now: it stays.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let other = fs::symlink_metadata(&path).unwrap().ino();
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), other, "{}", stale.ino());
}

#[test]
fn a_missing_folder_is_made_and_an_open_one_warned_of() {
    let scratch = configured("ask-folder", "");
    let config = fs::read_to_string(scratch.0.join("gatelog.yaml")).unwrap();
    scratch.write("gatelog.yaml", &config.replace("socket: gatelog.sock", "socket: run/gatelog.sock"));
    let mut served = Served::start(&scratch);
    served.logged("serving");
    let run = scratch.0.join("run");
    assert_eq!(fs::metadata(&run).unwrap().permissions().mode() & 0o7777, 0o700);
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    let mut served = Served::start(&scratch);
    assert_eq!(served.logged("others may write to the folder of admin.socket")["mode"], "777");
    served.logged("serving");
}

#[test]
fn what_is_no_gate_is_said_so() {
    let scratch = Scratch::new("ask-none");
    for (answer, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "its answer to who-can cannot be understood"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer: "),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "what answers there is no gate: status 404"),
        ("SSH-2.0-x\r\n", "what answers there is no gate"),
        ("", "what answers there is no gate"),
    ] {
        let path = scratch.0.join("gatelog.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 4096];
            let _ = stream.read(&mut some).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let begun = Instant::now();
        let output = asked(&scratch, BY_SOCKET, "who-can get /version");
        answering.join().unwrap();
        assert_eq!(output.status.code(), Some(69), "{answer:?}");
        assert!(text(&output.stderr).contains(why), "{answer:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && begun.elapsed().as_secs() < 20);
    }
}

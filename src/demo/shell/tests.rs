//! Rows: a command line, what it prints, how it ends.

use super::*;
use tty::Size;

fn container() -> Arc<Container> {
    let files = [("/etc/hostname", "web-0\n"), ("/usr/share/index.html", "<h1>hi</h1>\n")];
    Arc::new(Container {
        hostname: "web-0".to_owned(),
        name: "web".to_owned(),
        image: "nginx".to_owned(),
        env: [("GREETING".to_owned(), " two  words ".to_owned())].into(),
        files: Files::new(files.map(|(p, b)| (p.to_owned(), Bytes::from(b)))),
    })
}

struct Done {
    out: Vec<u8>,
    err: String,
    code: u8,
}

async fn ran_in(container: Arc<Container>, command: &[&str], input: &[u8]) -> Done {
    let (to, mut from) = mpsc::channel(8);
    let (typed, stdin) = mpsc::channel(8);
    let command: Vec<String> = command.iter().map(|a| (*a).to_owned()).collect();
    let task = tokio::spawn(async move {
        let (stdout, stderr) = (Output::new(to.clone(), Fd::Out, false), Output::new(to, Fd::Err, false));
        run(container, &command, Stdio { stdin: Stdin::new(stdin), stdout, stderr, tty: None }).await
    });
    let pieces: Vec<_> = input.chunks(1000).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for piece in pieces {
            if typed.send(piece).await.is_err() {
                break;
            }
        }
    });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((fd, bytes)) = from.recv().await {
        if fd == Fd::Out { &mut out } else { &mut err }.extend_from_slice(&bytes);
    }
    Done { out, err: String::from_utf8(err).unwrap(), code: task.await.unwrap() }
}

async fn ran(command: &[&str], input: &str) -> (String, String, u8) {
    let done = ran_in(container(), command, input.as_bytes()).await;
    (String::from_utf8(done.out).unwrap(), done.err, done.code)
}

#[tokio::test]
async fn command_lines() {
    let rows = [
        ("echo hi", "hi\n", "", 0),
        ("echo -n 'a b'  \"c d\"", "a b c d", "", 0),
        ("echo -e 'a\\nb'", "a\nb\n", "", 0),
        ("printf '%s-%d\\n' a 2", "a-2\n", "", 0),
        ("true && echo yes || echo no", "yes\n", "", 0),
        ("false && echo yes || echo no", "no\n", "", 0),
        ("false; echo $?", "1\n", "", 0),
        ("exit 3; echo never", "", "", 3),
        ("echo a; exit 300", "a\n", "", 44),
        ("nosuch", "", "sh: 1: nosuch: not found\n", 127),
        ("nosuch || echo $?", "127\n", "sh: 1: nosuch: not found\n", 0),
        ("echo $GREETING", "two words\n", "", 0),
        ("echo \"$GREETING\"x${GREETING}y", " two  words x two words y\n", "", 0),
        ("A=1 B='2 3'; echo $A$B", "12 3\n", "", 0),
        ("export A=5; sh -c 'echo $A'", "5\n", "", 0),
        ("echo \\$A '$A' \"\\$A\"", "$A $A $A\n", "", 0),
        ("echo a # b", "a\n", "", 0),
        ("seq 3 | wc -l", "3\n", "", 0),
        ("seq 10 -5 0", "10\n5\n0\n", "", 0),
        ("yes | head -n 2", "y\ny\n", "", 0),
        ("head -c 100000 /dev/zero | wc -c", "100000\n", "", 0),
        ("seq 5 | grep -v 3 | head -n 3", "1\n2\n4\n", "", 0),
        ("echo x | grep y", "", "", 1),
        ("cat /etc/hostname", "web-0\n", "", 0),
        ("cat /etc /nope", "", "cat: /etc: Is a directory\ncat: /nope: No such file or directory\n", 1),
        ("cat", "the input\n", "", 0),
        ("ls /", "etc\nusr\n", "", 0),
        ("cd /usr/share; pwd; ls; cat ../share/./index.html", "/usr/share\nindex.html\n<h1>hi</h1>\n", "", 0),
        ("cd /nope", "", "sh: 1: cd: can't cd to /nope\n", 2),
        ("echo one > /tmp/x; echo two >> /tmp/x; cat < /tmp/x; wc -l /tmp/x", "one\ntwo\n2\n", "", 0),
        ("cat /nope 2>/dev/null", "", "", 1),
        ("cat /nope 2>&1 | wc -l", "1\n", "", 0),
        ("echo to-err >&2", "", "to-err\n", 0),
        ("mkdir /tmp/d && test -d /tmp/d && rm -r /tmp/d; test -e /tmp/d", "", "", 1),
        ("[ a = a ] && [ 1 -eq 01 ] && echo same", "same\n", "", 0),
        ("hostname; whoami; /bin/pwd", "web-0\nroot\n/\n", "", 0),
        (
            "echo -n abc | sha256sum",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n",
            "",
            0,
        ),
        ("sleep 0.01 && echo slept", "slept\n", "", 0),
        ("stty size", "", "stty: standard input: Not a tty\n", 1),
        ("sh -c 'exit 7'; echo $?", "7\n", "", 0),
        ("exit 4 | true; echo still $?", "still 0\n", "", 0),
        ("echo 'unclosed", "", "sh: 1: Syntax error: Unterminated quoted string\n", 2),
        ("echo a &&", "", "sh: 1: Syntax error: end of file unexpected\n", 2),
        ("; echo", "", "sh: 1: Syntax error: \";\" unexpected\n", 2),
        ("for i in 1", "", "sh: 1: Syntax error: \"for\" is more than this small shell knows\n", 2),
        ("echo $(date)", "", "sh: 1: Syntax error: \"$(\" is more than this small shell knows\n", 2),
        ("", "", "", 0),
        ("\n\necho a\n\necho b\n", "a\nb\n", "", 0),
        ("echo a |\n cat", "a\n", "", 0),
    ];
    for (line, out, err, code) in rows {
        let done = ran(&["sh", "-c", line], "the input\n").await;
        assert_eq!(done, (out.to_owned(), err.to_owned(), code), "{line}");
    }
}

#[tokio::test]
async fn direct_commands() {
    assert_eq!(ran(&["echo", "a;", "$b"], "").await, ("a; $b\n".to_owned(), String::new(), 0));
    assert_eq!(ran(&["cat"], "in\n").await, ("in\n".to_owned(), String::new(), 0));
    assert_eq!(ran(&["sh"], "echo a\nexit 5\necho b\n").await, ("a\n".to_owned(), String::new(), 5));
    let (_, err, code) = ran(&["nosuch"], "").await;
    assert!(err.contains("exec: \"nosuch\": executable file not found in $PATH"), "{err}");
    assert_eq!(code, 127);
}

#[tokio::test]
async fn much_input_comes_back_whole() {
    let input: Vec<u8> = (0..1_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    assert_eq!(ran_in(container(), &["cat"], &input).await.out, input);
}

#[tokio::test]
async fn archives_go_out_and_come_in() {
    let one = container();
    let archive = ran_in(one.clone(), &["tar", "cf", "-", "/etc/hostname", "usr"], b"").await;
    assert_eq!((archive.code, archive.out.len() % 512), (0, 0));
    let listed = ran_in(one.clone(), &["tar", "tf", "-"], &archive.out).await;
    assert_eq!(listed.out, b"etc/hostname\nusr/share/index.html\n");
    let args = ["tar", "--no-same-owner", "-xmf", "-", "-C", "/copy"];
    assert_eq!(ran_in(one.clone(), &args, &archive.out).await.code, 0);
    assert_eq!(ran_in(one.clone(), &["cat", "/copy/usr/share/index.html"], b"").await.out, b"<h1>hi</h1>\n");
    let nonsense = ran_in(one, &args, &[b'x'; 600]).await;
    assert_eq!(nonsense.code, 2);
}

struct Terminal {
    typed: mpsc::Sender<Bytes>,
    shown: mpsc::Receiver<(Fd, Bytes)>,
    task: tokio::task::JoinHandle<u8>,
    seen: String,
}

impl Terminal {
    fn start(command: &[&str]) -> Self {
        let (to, shown) = mpsc::channel(64);
        let (typed, raw) = mpsc::channel(64);
        let size = tokio::sync::watch::channel(Size { width: 120, height: 40 }).1;
        let (tty, lines) = Tty::start(raw, to.downgrade(), size);
        let (stdout, stderr) = (Output::new(to.clone(), Fd::Out, true), Output::new(to, Fd::Out, true));
        let command: Vec<String> = command.iter().map(|a| (*a).to_owned()).collect();
        let task = tokio::spawn(async move {
            run(container(), &command, Stdio { stdin: Stdin::new(lines), stdout, stderr, tty: Some(tty) })
                .await
        });
        Self { typed, shown, task, seen: String::new() }
    }

    async fn keys(&self, keys: &'static str) {
        self.typed.send(keys.into()).await.unwrap();
    }

    /// Waits until the screen ends with `text`.
    async fn shows(&mut self, text: &str) {
        while !self.seen.ends_with(text) {
            let Some((_, bytes)) = self.shown.recv().await else {
                panic!("{:?} never ended in {text:?}", self.seen)
            };
            self.seen.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test]
async fn a_terminal_session() {
    let mut terminal = Terminal::start(&["sh"]);
    terminal.shows("/ # ").await;
    terminal.keys("echo hi\r").await;
    terminal.shows("echo hi\r\nhi\r\n/ # ").await;
    terminal.keys("sleep 1000\r").await;
    terminal.shows("sleep 1000\r\n").await;
    // The sleep may not have begun; a ^C before it is a ^C at the prompt, so it is typed until the prompt is back.
    while tokio::time::timeout(std::time::Duration::from_millis(50), terminal.shows("/ # ")).await.is_err() {
        terminal.keys("\x03").await;
    }
    terminal.keys("echo $?; stty size\r").await;
    terminal.shows("130\r\n40 120\r\n/ # ").await;
    terminal.keys("cat\r").await;
    terminal.keys("x\r").await;
    terminal.shows("x\r\nx\r\n").await;
    terminal.keys("\x04").await;
    terminal.shows("/ # ").await;
    terminal.keys("exit 9\r").await;
    assert_eq!(terminal.task.await.unwrap(), 9);
}

#[tokio::test]
async fn end_of_input_ends_a_terminal_session() {
    let mut terminal = Terminal::start(&["bash"]);
    terminal.shows("/ # ").await;
    terminal.keys("\x04").await;
    terminal.shows("exit\r\n").await;
    assert_eq!(terminal.task.await.unwrap(), 0);
}

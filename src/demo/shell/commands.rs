//! The commands.

use super::{Gone, Output, Shell, Stdin, tar};
use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// Bytes of a piece that a command makes up.
const PIECE: usize = 32 << 10;
/// The longest `sleep`.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Every command, sorted, as `help` and `ls /bin` list them.
pub(in crate::demo) const NAMES: [&str; 28] = [
    "[",
    "cat",
    "clear",
    "date",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "help",
    "hostname",
    "id",
    "ls",
    "mkdir",
    "printf",
    "ps",
    "pwd",
    "rm",
    "seq",
    "sha256sum",
    "sleep",
    "stty",
    "tar",
    "test",
    "true",
    "wc",
    "whoami",
    "yes",
];

/// A command about to run.
pub(super) struct Call<'a> {
    pub(super) shell: &'a Shell,
    /// The command's name first.
    pub(super) args: &'a [String],
    pub(super) stdin: &'a mut Stdin,
    pub(super) out: &'a Output,
    pub(super) err: &'a Output,
}

/// Whether [`run`] knows the command, by its name or its path in `/bin`.
pub(super) fn known(name: &str) -> bool {
    NAMES.binary_search(&base(name)).is_ok()
}

fn base(name: &str) -> &str {
    ["/usr/bin/", "/bin/"].iter().find_map(|dir| name.strip_prefix(dir)).unwrap_or(name)
}

/// Runs a known command.
pub(super) async fn run(mut call: Call<'_>) -> Result<u8, Gone> {
    let container = &call.shell.container;
    match call.args.first().map_or("", |n| base(n)) {
        "[" | "test" => test(&call).await,
        "cat" => cat(&mut call).await,
        "clear" => call.print("\x1b[H\x1b[2J").await,
        "date" => call.print(format!("{}\n", now().strftime("%a %b %e %H:%M:%S UTC %Y"))).await,
        "echo" => echo(&call).await,
        "env" => {
            let all = call.shell.env.iter().map(|(k, v)| format!("{k}={v}\n")).collect::<String>();
            call.print(all).await
        }
        "false" => Ok(1),
        "grep" => grep(&mut call).await,
        "head" => head(&mut call).await,
        "help" => {
            let text = format!("This small shell knows: cd exit export sh {}\n", NAMES.join(" "));
            call.print(text).await
        }
        "hostname" => call.print(format!("{}\n", container.hostname)).await,
        "id" => call.print("uid=0(root) gid=0(root) groups=0(root)\n").await,
        "ls" => ls(&call).await,
        "mkdir" => {
            for path in call.operands() {
                container.files.make_dir(&call.shell.path(path));
            }
            Ok(0)
        }
        "printf" => printf(&call).await,
        "ps" => {
            let text = format!(
                "PID   USER     TIME  COMMAND\n    1 root      0:00 {}\n    7 root      0:00 ps\n",
                container.image
            );
            call.print(text).await
        }
        "pwd" => call.print(format!("{}\n", call.shell.cwd)).await,
        "rm" => rm(&call).await,
        "seq" => seq(&call).await,
        "sha256sum" => sha256sum(&mut call).await,
        "sleep" => sleep(&call).await,
        "stty" => stty(&call).await,
        "tar" => tar::run(&mut call).await,
        "true" => Ok(0),
        "wc" => wc(&mut call).await,
        "whoami" => call.print("root\n").await,
        "yes" => {
            let word = if call.args.len() > 1 { call.args[1..].join(" ") } else { "y".to_owned() };
            let line = format!("{word}\n");
            let piece = Bytes::from(line.repeat((PIECE / line.len()).max(1)));
            loop {
                call.out.write(piece.clone()).await?;
            }
        }
        other => call.fail(other, "not found").await,
    }
}

impl Call<'_> {
    async fn print(&self, text: impl Into<Bytes>) -> Result<u8, Gone> {
        self.out.write(text).await.map(|()| 0)
    }

    /// `name: why` to stderr; 1.
    pub(super) async fn fail(&self, about: &str, why: &str) -> Result<u8, Gone> {
        let name = self.args.first().map_or("", |n| base(n));
        let about = if about.is_empty() { String::new() } else { format!("{about}: ") };
        self.err.write(format!("{name}: {about}{why}\n")).await.map(|()| 1)
    }

    /// Arguments that are not options.
    fn operands(&self) -> impl Iterator<Item = &str> {
        self.args.iter().skip(1).map(String::as_str).filter(|a| !a.starts_with('-') || *a == "-")
    }

    /// Whether a one-letter option is given, alone or among others.
    fn has(&self, letter: char) -> bool {
        self.args.iter().skip(1).any(|a| a.starts_with('-') && a[1..].contains(letter))
    }

    /// The value after an option: `-n 5`, `-n5`.
    fn option(&self, option: &str) -> Option<&str> {
        let mut args = self.args.iter().skip(1);
        while let Some(arg) = args.next() {
            match arg.strip_prefix(option) {
                Some("") => return args.next().map(String::as_str),
                Some(value) => return Some(value),
                None => {}
            }
        }
        None
    }

    /// A file to read from, or what stands for one.
    fn open(&mut self, path: &str) -> Option<Source<'_>> {
        if path == "-" || path == "/dev/stdin" {
            return Some(Source::Stdin(self.stdin));
        }
        match &self.shell.path(path)[..] {
            "/dev/null" => Some(Source::Bytes(Bytes::new())),
            "/dev/zero" => Some(Source::Zero),
            path => self.shell.container.files.read(path).map(Source::Bytes),
        }
    }

    async fn missing(&self, path: &str) -> Result<u8, Gone> {
        let dir = self.shell.container.files.is_dir(&self.shell.path(path));
        self.fail(path, if dir { "Is a directory" } else { "No such file or directory" }).await
    }
}

enum Source<'a> {
    Bytes(Bytes),
    Zero,
    Stdin(&'a mut Stdin),
}

impl Source<'_> {
    async fn piece(&mut self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes.split_to(bytes.len().min(PIECE))).filter(|b| !b.is_empty()),
            Self::Zero => Some(Bytes::from_static(&[0; PIECE])),
            Self::Stdin(stdin) => stdin.piece().await,
        }
    }
}

fn now() -> jiff::Zoned {
    Timestamp::now().to_zoned(TimeZone::UTC)
}

async fn test(call: &Call<'_>) -> Result<u8, Gone> {
    let args: Vec<&str> = call.args.iter().skip(1).map(String::as_str).filter(|a| *a != "]").collect();
    let files = &call.shell.container.files;
    let path = |p| call.shell.path(p);
    let holds = match args[..] {
        ["-d", p] => files.is_dir(&path(p)),
        ["-f", p] => files.read(&path(p)).is_some(),
        ["-e", p] => files.is_dir(&path(p)) || files.read(&path(p)).is_some(),
        ["-n", text] | [text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        [a, "-eq", b] => a.parse::<i64>().ok() == b.parse().ok(),
        _ => return call.fail("", "unknown operand").await.map(|_| 2),
    };
    Ok(u8::from(!holds))
}

async fn cat(call: &mut Call<'_>) -> Result<u8, Gone> {
    let mut paths: Vec<String> = call.operands().map(str::to_owned).collect();
    if paths.is_empty() {
        paths.push("-".to_owned());
    }
    let mut code = 0;
    for path in paths {
        let out = call.out;
        let Some(mut source) = call.open(&path) else {
            code = call.missing(&path).await?;
            continue;
        };
        while let Some(piece) = source.piece().await {
            out.write(piece).await?;
        }
    }
    Ok(code)
}

async fn echo(call: &Call<'_>) -> Result<u8, Gone> {
    let mut args = &call.args[1..];
    let (mut newline, mut escapes) = (true, false);
    while let Some((first, rest)) = args.split_first() {
        match first.as_str() {
            "-n" => newline = false,
            "-e" => escapes = true,
            "-ne" | "-en" => (newline, escapes) = (false, true),
            _ => break,
        }
        args = rest;
    }
    let mut text = args.join(" ");
    if escapes {
        text = unescape(&text);
    }
    if newline {
        text.push('\n');
    }
    call.print(text).await
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            Some('0') => {
                let digits: String = chars.clone().take(3).take_while(|c| c.is_digit(8)).collect();
                chars.by_ref().take(digits.len()).for_each(drop);
                out.push(char::from(u8::from_str_radix(&digits, 8).unwrap_or_default()));
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

async fn printf(call: &Call<'_>) -> Result<u8, Gone> {
    let Some(format) = call.args.get(1) else { return call.fail("", "missing operand").await };
    let mut values = call.args.iter().skip(2);
    let mut out = String::new();
    let format = unescape(format);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('s' | 'd') => out.push_str(values.next().map_or("", String::as_str)),
                Some('%') => out.push('%'),
                _ => return call.fail("", "unknown format").await,
            },
            c => out.push(c),
        }
    }
    call.print(out).await
}

async fn grep(call: &mut Call<'_>) -> Result<u8, Gone> {
    let (inverted, folded) = (call.has('v'), call.has('i'));
    let mut operands = call.operands();
    let Some(pattern) = operands.next() else { return call.fail("", "missing pattern").await.map(|_| 2) };
    let fold = |text: &str| if folded { text.to_lowercase() } else { text.to_owned() };
    let pattern = fold(pattern);
    let path = operands.next().unwrap_or("-").to_owned();
    drop(operands);
    let mut lines = match call.open(&path) {
        Some(Source::Stdin(stdin)) => std::mem::replace(stdin, Stdin::empty()),
        Some(Source::Bytes(bytes)) => Stdin { rest: bytes.into(), ..Stdin::empty() },
        Some(Source::Zero) => Stdin::empty(),
        None => return call.missing(&path).await.map(|_| 2),
    };
    let mut found = false;
    while let Some(line) = lines.line().await {
        if fold(&line).contains(&pattern) != inverted {
            found = true;
            call.out.write(format!("{line}\n")).await?;
        }
    }
    Ok(u8::from(!found))
}

async fn head(call: &mut Call<'_>) -> Result<u8, Gone> {
    let count = |text: &str| {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" => 1,
            "k" | "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(unit)
    };
    let bytes = call.option("-c").map(str::to_owned);
    let lines = call.option("-n").unwrap_or("10").to_owned();
    let (Some(lines), Some(bytes)) = (count(&lines), bytes.as_deref().map_or(Some(u64::MAX), count)) else {
        return call.fail("", "invalid number").await;
    };
    let by_bytes = bytes < u64::MAX;
    let numbers = [call.option("-n"), call.option("-c")];
    let path = call.operands().find(|o| !numbers.contains(&Some(*o))).unwrap_or("-").to_owned();
    let out = call.out;
    let Some(mut source) = call.open(&path) else { return call.missing(&path).await };
    let (mut bytes, mut lines) = (bytes, lines);
    while bytes > 0 && (by_bytes || lines > 0) {
        let Some(mut piece) = source.piece().await else { break };
        if by_bytes {
            piece.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
            bytes -= piece.len() as u64;
        } else {
            let ends = piece.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
            let ends: Vec<usize> = ends.take(usize::try_from(lines).unwrap_or(usize::MAX)).collect();
            lines -= ends.len() as u64;
            if let (0, Some(last)) = (lines, ends.last()) {
                piece.truncate(last + 1);
            }
        }
        out.write(piece).await?;
    }
    Ok(0)
}

async fn ls(call: &Call<'_>) -> Result<u8, Gone> {
    let files = &call.shell.container.files;
    let mut paths: Vec<&str> = call.operands().collect();
    if paths.is_empty() {
        paths.push(".");
    }
    let mut code = 0;
    for path in paths {
        let full = call.shell.path(path);
        let names = match files.read(&full) {
            Some(_) => vec![path.to_owned()],
            None if files.is_dir(&full) => files.list(&full),
            None => {
                code = call.fail(path, "No such file or directory").await?;
                continue;
            }
        };
        let mut text = String::new();
        for name in names {
            let plain = name.trim_end_matches('/');
            if call.has('l') {
                let dir = name.ends_with('/');
                let size = files.read(&call.shell.path(&format!("{full}/{plain}"))).map_or(0, |b| b.len());
                let mode = if dir { "drwxr-xr-x" } else { "-rw-r--r--" };
                text.push_str(&format!("{mode}    1 root     root     {size:>9} Jan  1 00:00 {plain}\n"));
            } else {
                text.push_str(plain);
                text.push('\n');
            }
        }
        call.out.write(text).await?;
    }
    Ok(code)
}

async fn rm(call: &Call<'_>) -> Result<u8, Gone> {
    let files = &call.shell.container.files;
    let (recursive, forced) = (call.has('r') || call.has('R'), call.has('f'));
    let mut code = 0;
    for path in call.operands() {
        let full = call.shell.path(path);
        if files.is_dir(&full) && !recursive {
            code = call.fail(path, "Is a directory").await?;
        } else if !files.remove(&full) && !forced {
            code = call.fail(path, "No such file or directory").await?;
        }
    }
    Ok(code)
}

async fn seq(call: &Call<'_>) -> Result<u8, Gone> {
    let numbers: Option<Vec<i64>> = call.args.iter().skip(1).map(|a| a.parse().ok()).collect();
    let (first, step, last) = match numbers.as_deref() {
        Some([last]) => (1, 1, *last),
        Some([first, last]) => (*first, 1, *last),
        Some([first, step, last]) if *step != 0 => (*first, *step, *last),
        _ => return call.fail("", "expected one to three numbers").await,
    };
    let mut piece = BytesMut::with_capacity(PIECE);
    let mut next = Some(first);
    while let Some(n) = next.filter(|n| if step > 0 { *n <= last } else { *n >= last }) {
        piece.extend_from_slice(format!("{n}\n").as_bytes());
        if piece.len() + 32 > PIECE {
            call.out.write(piece.split()).await?;
        }
        next = n.checked_add(step);
    }
    call.print(piece).await
}

async fn sha256sum(call: &mut Call<'_>) -> Result<u8, Gone> {
    let path = call.operands().next().unwrap_or("-").to_owned();
    let Some(mut source) = call.open(&path) else { return call.missing(&path).await };
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    while let Some(piece) = source.piece().await {
        hash.update(&piece);
    }
    let hex: String = hash.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
    call.print(format!("{hex}  {path}\n")).await
}

async fn sleep(call: &Call<'_>) -> Result<u8, Gone> {
    let text = call.args.get(1).map_or("", String::as_str);
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = match number {
        "infinity" | "inf" => Some(LONGEST),
        number => number.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()),
    };
    let Some(time) = seconds else { return call.fail(text, "invalid time interval").await };
    tokio::time::sleep(time.min(LONGEST)).await;
    Ok(0)
}

async fn stty(call: &Call<'_>) -> Result<u8, Gone> {
    let Some(tty) = &call.shell.tty else { return call.fail("", "standard input: Not a tty").await };
    let size = tty.size();
    call.print(format!("{} {}\n", size.height, size.width)).await
}

async fn wc(call: &mut Call<'_>) -> Result<u8, Gone> {
    let (lines_only, bytes_only) = (call.has('l'), call.has('c'));
    let path = call.operands().next().unwrap_or("-").to_owned();
    let Some(mut source) = call.open(&path) else { return call.missing(&path).await };
    let (mut lines, mut words, mut bytes, mut inside) = (0u64, 0u64, 0u64, false);
    while let Some(piece) = source.piece().await {
        bytes += piece.len() as u64;
        for byte in piece {
            lines += u64::from(byte == b'\n');
            let space = byte.is_ascii_whitespace();
            words += u64::from(inside && space);
            inside = !space;
        }
    }
    words += u64::from(inside);
    let text = match (lines_only, bytes_only) {
        (true, _) => lines.to_string(),
        (_, true) => bytes.to_string(),
        _ => format!("{lines:>8} {words:>7} {bytes:>7}"),
    };
    call.print(format!("{text}\n")).await
}

//! `tar`, as far as `kubectl cp` needs it: regular files and directories, to stdout and from stdin.

use super::{Gone, commands::Call};
use bytes::{Bytes, BytesMut};

const BLOCK: usize = 512;
/// A file in an archive may be this long.
const MAX_FILE: usize = 16 << 20;

/// `tar cf - PATH…`, `tar xf - [-C DIR]`, `tar tf -`.
pub(super) async fn run(call: &mut Call<'_>) -> Result<u8, Gone> {
    let (mut mode, mut dir, mut paths) = (None, ".", Vec::new());
    let mut args = call.args.iter().skip(1).map(String::as_str).enumerate();
    while let Some((i, arg)) = args.next() {
        match arg {
            "-C" => dir = args.next().map_or(".", |(_, d)| d),
            "-" => {}
            long if long.starts_with("--") => {}
            letters if letters.starts_with('-') || i == 0 => {
                mode = letters.chars().find(|c| "cxt".contains(*c)).or(mode)
            }
            path => paths.push(path),
        }
    }
    let dir = call.shell.path(dir);
    match mode {
        Some('c') => create(call, &dir, &paths).await,
        Some(mode) => extract(call, &dir, mode == 't').await,
        None => call.fail("", "expected one of c, x, t").await,
    }
}

async fn create(call: &Call<'_>, dir: &str, paths: &[&str]) -> Result<u8, Gone> {
    let mut code = 0;
    for path in paths {
        let full = call.shell.path(&if path.starts_with('/') {
            (*path).to_owned()
        } else {
            format!("{dir}/{path}")
        });
        let found = call.shell.container.files.below(&full);
        if found.is_empty() {
            code = call.fail(path, "Cannot stat: No such file or directory").await?;
        }
        for (file, bytes) in found {
            let below = file.strip_prefix(&full).unwrap_or_default();
            let name = format!("{}{below}", path.trim_start_matches('/'));
            let Some(header) = header(&name, bytes.len()) else {
                code = call.fail(&name, "name too long").await?;
                continue;
            };
            let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
            call.out.write(header).await?;
            call.out.write(bytes).await?;
            call.out.write(vec![0; padding]).await?;
        }
    }
    call.out.write(vec![0; 2 * BLOCK]).await?;
    Ok(if code == 0 { 0 } else { 2 })
}

async fn extract(call: &mut Call<'_>, dir: &str, list: bool) -> Result<u8, Gone> {
    let mut input = BytesMut::new();
    // A longer name, from the entry in front.
    let mut named: Option<String> = None;
    loop {
        let Some(header) = take(call, &mut input, BLOCK).await else { return Ok(0) };
        let Some(entry) = Entry::read(&header) else {
            if header.iter().all(|b| *b == 0) {
                // The rest is padding, which the sender must be able to send.
                while call.stdin.piece().await.is_some() {}
                return Ok(0);
            }
            return call.fail("", "This does not look like a tar archive").await.map(|_| 2);
        };
        if entry.size > MAX_FILE {
            return call.fail(&entry.name, "file too large").await.map(|_| 2);
        }
        let Some(mut content) = take(call, &mut input, entry.size.next_multiple_of(BLOCK)).await else {
            return call.fail("", "Unexpected EOF in archive").await.map(|_| 2);
        };
        content.truncate(entry.size);
        match entry.kind {
            b'x' => named = pax_path(&content),
            b'L' => named = Some(String::from_utf8_lossy(&content).trim_end_matches('\0').to_owned()),
            b'0' | 0 | b'5' => {
                let name = named.take().unwrap_or(entry.name);
                if list {
                    call.out.write(format!("{name}\n")).await?;
                    continue;
                }
                let path = call.shell.path(&format!("{dir}/{name}"));
                let files = &call.shell.container.files;
                if entry.kind == b'5' {
                    files.make_dir(&path);
                } else if !files.write(&path, &content, false) {
                    return call.fail(&name, "No space left on device").await.map(|_| 2);
                }
            }
            _ => named = None,
        }
    }
}

/// Exactly this many bytes of stdin; None: it ends before.
async fn take(call: &mut Call<'_>, input: &mut BytesMut, length: usize) -> Option<Bytes> {
    while input.len() < length {
        input.extend_from_slice(&call.stdin.piece().await?);
    }
    Some(input.split_to(length).freeze())
}

struct Entry {
    name: String,
    size: usize,
    kind: u8,
}

impl Entry {
    /// None: an empty block, or not a header.
    fn read(header: &[u8]) -> Option<Self> {
        let text = |range: std::ops::Range<usize>| {
            let bytes = header.get(range)?;
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            std::str::from_utf8(bytes.get(..end)?).ok()
        };
        let octal = |range| usize::from_str_radix(text(range)?.trim(), 8).ok();
        let sum: usize = header
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { (*b).into() })
            .sum();
        if octal(148..156)? != sum {
            return None;
        }
        let prefix = if header.get(257..262)? == b"ustar" { text(345..500)? } else { "" };
        let name = text(0..100)?;
        let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        Some(Self { name, size: octal(124..136)?, kind: *header.get(156)? })
    }
}

/// The `path` record of an extended header.
fn pax_path(content: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(content);
    text.lines().find_map(|l| l.split_once(" path=")).map(|(_, path)| path.to_owned())
}

/// None: the name is too long for this old format.
fn header(name: &str, size: usize) -> Option<Vec<u8>> {
    let mut header = vec![0; BLOCK];
    let mut put =
        |at: usize, text: &[u8]| header.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    if name.len() > 100 {
        return None;
    }
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        0");
    put(257, b"ustar\x0000root");
    put(297, b"root");
    let sum: usize = header.iter().map(|b| usize::from(*b)).sum();
    let sum = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
    Some(header)
}

//! What a terminal's driver does: echo, lines, ^C and ^D. kubectl puts the local terminal into raw mode and leaves all that
//! to the far end.

use super::Fd;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};

/// Typed lines that may wait for a command to read them; more is dropped, as a real terminal's queue does.
const TYPE_AHEAD: usize = 256;
/// Bytes in a line.
const LINE: usize = 4096;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A command's terminal.
#[derive(Debug, Clone)]
pub struct Tty {
    interrupt: Arc<Notify>,
    size: watch::Receiver<Size>,
}

impl Tty {
    /// Stands between raw bytes from the caller and the lines a command reads, until the caller is gone.
    pub fn start(
        mut typed: mpsc::Receiver<Bytes>,
        echo: mpsc::WeakSender<(Fd, Bytes)>,
        size: watch::Receiver<Size>,
    ) -> (Self, mpsc::Receiver<Bytes>) {
        let interrupt = Arc::new(Notify::new());
        let tty = Self { interrupt: interrupt.clone(), size };
        let (lines, cooked) = mpsc::channel(TYPE_AHEAD);
        tokio::spawn(async move {
            let mut discipline = Discipline::default();
            while let Some(bytes) = typed.recv().await {
                let (shown, events) = discipline.feed(&bytes);
                let Some(echo) = echo.upgrade() else { return };
                if !shown.is_empty() && echo.send((Fd::Out, shown.into())).await.is_err() {
                    return;
                }
                for event in events {
                    match event {
                        // Full: dropped, or a ^C behind it would never be seen.
                        Event::Input(line) => drop(lines.try_send(line)),
                        Event::Interrupt => interrupt.notify_waiters(),
                    }
                }
            }
        });
        (tty, cooked)
    }

    /// Waits for ^C.
    pub async fn interrupted(&self) {
        self.interrupt.notified().await;
    }

    pub(super) fn size(&self) -> Size {
        *self.size.borrow()
    }
}

/// LF becomes CR LF.
pub(super) fn to_terminal(bytes: &Bytes) -> Bytes {
    if !bytes.contains(&b'\n') {
        return bytes.clone();
    }
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out.into()
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// A line, or nothing: end of input.
    Input(Bytes),
    Interrupt,
}

#[derive(Debug, Default)]
struct Discipline {
    line: Vec<u8>,
    escape: Escape,
}

/// Cursor keys and the like are swallowed.
#[derive(Debug, Default, Clone, Copy)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Discipline {
    /// What is echoed for `bytes`, and what happens.
    fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<Event>) {
        let (mut shown, mut events) = (Vec::new(), Vec::new());
        for &byte in bytes {
            match self.escape {
                Escape::Started => {
                    self.escape = if matches!(byte, b'[' | b'O') { Escape::Sequence } else { Escape::None };
                    continue;
                }
                Escape::Sequence => {
                    if (0x40..0x7f).contains(&byte) {
                        self.escape = Escape::None;
                    }
                    continue;
                }
                Escape::None => {}
            }
            match byte {
                0x1b => self.escape = Escape::Started,
                b'\r' | b'\n' => {
                    shown.extend(b"\r\n");
                    self.line.push(b'\n');
                    events.push(Event::Input(std::mem::take(&mut self.line).into()));
                }
                0x03 => {
                    shown.extend(b"^C\r\n");
                    self.line.clear();
                    events.push(Event::Interrupt);
                }
                // ^D hands over what there is; nothing at all is an end of input.
                0x04 => events.push(Event::Input(std::mem::take(&mut self.line).into())),
                0x08 | 0x7f => self.rub_out(&mut shown),
                0x15 => {
                    while !self.line.is_empty() {
                        self.rub_out(&mut shown);
                    }
                }
                byte if (byte >= 0x20 || byte == b'\t') && self.line.len() < LINE => {
                    self.line.push(byte);
                    shown.push(byte);
                }
                _ => {}
            }
        }
        (shown, events)
    }

    /// Takes one character, of however many bytes, off the line and the screen.
    fn rub_out(&mut self, shown: &mut Vec<u8>) {
        let mut any = false;
        while let Some(byte) = self.line.pop() {
            any = true;
            if byte & 0xc0 != 0x80 {
                break;
            }
        }
        if any {
            shown.extend(b"\x08 \x08");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let line = |text: &'static str| Event::Input(Bytes::from_static(text.as_bytes()));
        let rows: [(&[u8], &[u8], Vec<Event>); 9] = [
            (b"ls\r", b"ls\r\n", vec![line("ls\n")]),
            (b"ab\x7fc\r", b"ab\x08 \x08c\r\n", vec![line("ac\n")]),
            ("é\x7f\r".as_bytes(), "é\x08 \x08\r\n".as_bytes(), vec![line("\n")]),
            (b"\x7f\r", b"\r\n", vec![line("\n")]),
            (b"ab\x15c\r", b"ab\x08 \x08\x08 \x08c\r\n", vec![line("c\n")]),
            (b"ab\x03", b"ab^C\r\n", vec![Event::Interrupt]),
            (b"\x04", b"", vec![line("")]),
            (b"ab\x04", b"ab", vec![line("ab")]),
            (b"a\x1b[A\x1bOPb\r", b"ab\r\n", vec![line("ab\n")]),
        ];
        for (typed, shown, events) in rows {
            for split in 0..=typed.len() {
                let mut discipline = Discipline::default();
                let (mut s, mut e) = discipline.feed(&typed[..split]);
                let (s2, e2) = discipline.feed(&typed[split..]);
                s.extend(s2);
                e.extend(e2);
                assert_eq!((&s[..], &e), (shown, &events), "{typed:?} split at {split}");
            }
        }
    }
}

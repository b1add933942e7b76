//! RFC 3339 as Go's `time` package reads it: nearly, with the texts of what it refuses.

use crate::status::push_go_quoted;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// None: it is a time, or nobody here knows that it is none.
pub(super) fn fault(value: &str) -> Option<String> {
    let mut at = Reader { rest: value };
    match at.read() {
        Ok(()) => None,
        Err(Fault::Expected(layout)) => {
            let mut text = quoted(value);
            text.push_str(" as ");
            push_go_quoted(&mut text, LAYOUT);
            text.push_str(": cannot parse ");
            push_go_quoted(&mut text, at.rest);
            text.push_str(" as ");
            push_go_quoted(&mut text, layout);
            Some(text)
        }
        Err(Fault::Range(what)) => Some(format!("{}: {what} out of range", quoted(value))),
        Err(Fault::Extra) => {
            let mut text = quoted(value);
            text.push_str(": extra text: ");
            push_go_quoted(&mut text, at.rest);
            Some(text)
        }
    }
}

enum Fault {
    Expected(&'static str),
    Range(&'static str),
    Extra,
}

struct Reader<'t> {
    rest: &'t str,
}

fn quoted(value: &str) -> String {
    let mut text = "parsing time ".to_owned();
    push_go_quoted(&mut text, value);
    text
}

impl<'t> Reader<'t> {
    /// The day's range is told at the end, the other ones' at once.
    fn read(&mut self) -> Result<(), Fault> {
        let year = self.digits(4, 4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, 2, "01")?;
        if !(1..=12).contains(&month) {
            return Err(Fault::Range("month"));
        }
        self.literal("-")?;
        let day = self.digits(2, 2, "02")?;
        self.literal("T")?;
        if self.digits(1, 2, "15")? > 23 {
            return Err(Fault::Range("hour"));
        }
        self.literal(":")?;
        if self.digits(2, 2, "04")? > 59 {
            return Err(Fault::Range("minute"));
        }
        self.literal(":")?;
        if self.digits(2, 2, "05")? > 59 {
            return Err(Fault::Range("second"));
        }
        self.fraction();
        self.zone()?;
        if !self.rest.is_empty() {
            return Err(Fault::Extra);
        }
        if !(1..=days(year, month)).contains(&day) {
            return Err(Fault::Range("day"));
        }
        Ok(())
    }

    fn literal(&mut self, text: &'static str) -> Result<(), Fault> {
        self.rest = self.rest.strip_prefix(text).ok_or(Fault::Expected(text))?;
        Ok(())
    }

    fn digits(&mut self, least: usize, most: usize, layout: &'static str) -> Result<u32, Fault> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at_checked(count).ok_or(Fault::Expected(layout))?;
        if count < least {
            return Err(Fault::Expected(layout));
        }
        self.rest = rest;
        number.parse().map_err(|_| Fault::Expected(layout))
    }

    fn fraction(&mut self) {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else { return };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end > 0 {
            self.rest = rest.get(end..).unwrap_or_default();
        }
    }

    fn zone(&mut self) -> Result<(), Fault> {
        const ZONE: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(());
        }
        let Some((offset, rest)) = self.rest.split_at_checked(6) else { return Err(Fault::Expected(ZONE)) };
        let [b'+' | b'-', h1, h2, b':', m1, m2] = offset.as_bytes() else {
            return Err(Fault::Expected(ZONE));
        };
        if ![h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Expected(ZONE));
        }
        let pair = |high: &u8, low: &u8| (high - b'0') * 10 + (low - b'0');
        // 24 hours and 60 minutes are taken.
        if pair(h1, h2) > 24 {
            return Err(Fault::Range("time zone offset hour"));
        }
        if pair(m1, m2) > 60 {
            return Err(Fault::Range("time zone offset minute"));
        }
        self.rest = rest;
        Ok(())
    }
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

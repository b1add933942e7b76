//! Which requests are shown. Values of one flag are alternatives; of different flags, each must match.

use super::{
    Error,
    event::{Event, Part},
    show::ShowArgs,
};
use crate::audit::event::MicroTime;
use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

/// The filters of a command line, understood.
#[derive(Debug, Default)]
pub(super) struct Filter {
    users: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resource>,
    namespaces: Vec<String>,
    names: Vec<String>,
    codes: Vec<Codes>,
    since: Option<MicroTime>,
}

/// `pods`, `pods/exec`, `deployments.apps`, `deployments.apps/scale`.
#[derive(Debug)]
struct Resource {
    resource: String,
    group: Option<String>,
    subresource: Option<String>,
}

/// `403` or `4xx`.
#[derive(Debug, PartialEq, Eq)]
struct Codes {
    from: u16,
    to: u16,
}

impl Filter {
    pub(super) fn new(args: &ShowArgs, now: SystemTime) -> Result<Self, Error> {
        let codes = args.code.iter().map(|c| c.parse()).collect::<Result<_, _>>()?;
        Ok(Self {
            users: args.user.clone(),
            verbs: args.verb.iter().map(|v| v.to_ascii_lowercase()).collect(),
            resources: args.resource.iter().map(|r| Resource::new(r)).collect(),
            namespaces: args.namespace.clone(),
            names: args.name.clone(),
            codes,
            since: args.since.as_deref().map(|s| since(s, now)).transpose()?,
        })
    }

    /// What is older is not shown.
    pub(super) fn since(&self) -> Option<MicroTime> {
        self.since
    }

    pub(super) fn matches(&self, event: &Event<'_>) -> bool {
        if self.since.is_some_and(|since| event.at().is_none_or(|at| at < since)) {
            return false;
        }
        if event.part() == Part::Note {
            // A gap concerns every question but those about somebody or something.
            return self.users.is_empty() && self.resources.is_empty() && self.names.is_empty();
        }
        let object = event.object_ref.as_ref();
        let holds = |list: &[String], item: &str| list.is_empty() || list.iter().any(|i| i == item);
        let impersonated = event.impersonated_user.as_ref().map(|u| &*u.username);
        (holds(&self.users, &event.user.username) || impersonated.is_some_and(|u| holds(&self.users, u)))
            && holds(&self.verbs, &event.verb)
            && holds(&self.namespaces, object.map_or("", |o| &o.namespace))
            && holds(&self.names, object.map_or("", |o| &o.name))
            && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(event)))
            && (self.codes.is_empty()
                || event.code().is_some_and(|c| self.codes.iter().any(|codes| codes.hold(c))))
    }
}

impl Resource {
    fn new(text: &str) -> Self {
        let (resource, subresource) = match text.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub.to_owned())),
            None => (text, None),
        };
        let (resource, group) = match resource.split_once('.') {
            Some((resource, group)) => (resource, Some(group.to_owned())),
            None => (resource, None),
        };
        Self { resource: resource.to_owned(), group, subresource }
    }

    /// Without a subresource all of them match, and the resource itself.
    fn matches(&self, event: &Event<'_>) -> bool {
        event.object_ref.as_ref().is_some_and(|o| {
            self.resource == o.resource
                && self.group.as_ref().is_none_or(|g| *g == o.api_group)
                && self.subresource.as_ref().is_none_or(|s| *s == o.subresource)
        })
    }
}

impl Codes {
    fn hold(&self, code: u16) -> bool {
        (self.from..=self.to).contains(&code)
    }
}

impl FromStr for Codes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Filter {
            flag: "--code",
            expected: "a code such as 403 or a class such as 4xx",
            found: text.into(),
        };
        let (digits, span) = match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => (class.to_owned(), 100),
            None => (text.to_owned(), 1),
        };
        let number: u16 = digits.parse().map_err(|_| bad())?;
        let from = number.checked_mul(span).filter(|c| (100..600).contains(c)).ok_or_else(bad)?;
        Ok(Self { from, to: from + span - 1 })
    }
}

/// `2h`, `1d12h`, `2026-01-02` (UTC) or an RFC 3339 time.
fn since(text: &str, now: SystemTime) -> Result<MicroTime, Error> {
    MicroTime::parse(text)
        .or_else(|| MicroTime::parse(&format!("{text}T00:00:00Z")))
        .or_else(|| Some(MicroTime::at(now.checked_sub(duration(text)?)?)))
        .ok_or_else(|| Error::Filter {
            flag: "--since",
            expected: "a duration such as 2h or an RFC 3339 time",
            found: text.to_owned(),
        })
}

fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(unit)?))?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_exact_or_a_class() {
        let rows = [
            ("403", Some((403, 403))),
            ("4xx", Some((400, 499))),
            ("5XX", Some((500, 599))),
            ("101", Some((101, 101))),
        ];
        for (text, want) in rows {
            assert_eq!(text.parse::<Codes>().ok().map(|c| (c.from, c.to)), want, "{text}");
        }
        for text in ["", "xx", "4x", "42", "600", "6xx", "-1", "4xx4", "99999999"] {
            assert!(text.parse::<Codes>().is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let rows = [
            ("2h", "2026-01-02T01:04:05.000000Z"),
            ("1d12h", "2025-12-31T15:04:05.000000Z"),
            ("90s", "2026-01-02T03:02:35.000000Z"),
            ("0m", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-01", "2026-01-01T00:00:00.000000Z"),
            ("2026-01-01T10:00:00+02:00", "2026-01-01T08:00:00.000000Z"),
        ];
        for (text, want) in rows {
            assert_eq!(since(text, now).unwrap().to_string(), want, "{text}");
        }
        for text in
            ["", "2", "h", "2w", "yesterday", "-2h", "99999999999999999999h", "9999999999999999h", "2é"]
        {
            assert!(since(text, now).is_err(), "{text}");
        }
    }
}

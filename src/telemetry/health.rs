//! Whether the gate is alive and ready, in kube-apiserver's format (`/livez`, `/readyz`, `/healthz`, `?verbose`,
//! `?exclude=`, `/readyz/<check>`).
//!
//! A listing never says why a check failed, since anybody may read it; the reason is in the log, and at the path of the
//! single check.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    sync::{Arc, PoisonError, RwLock},
};

/// Which questions a check takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every question: when it fails, only a restart helps.
    Live,
    /// `/readyz` and `/healthz`: when it fails, callers should go elsewhere for a while.
    Ready,
    /// `/readyz` only, and it never fails it: some callers are refused, others are served.
    Partial,
    /// `/readyz` only: it fails on purpose, when the process is about to stop.
    Stopping,
}

/// A question about the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `/livez`: should it be restarted?
    Live,
    /// `/readyz`: should it be sent requests?
    Ready,
    /// `/healthz`: the older form of both.
    Health,
}

impl Question {
    const fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Health => "healthz",
        }
    }

    const fn asks(self, scope: Scope) -> bool {
        match self {
            Self::Live => matches!(scope, Scope::Live),
            Self::Ready => true,
            Self::Health => matches!(scope, Scope::Live | Scope::Ready),
        }
    }
}

/// What a check says: that all is well, or what is not.
type Outcome = Result<(), Fault>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: String,
    /// The question is passed all the same, and why.
    passed: Option<&'static str>,
}

type Ask = Arc<dyn Fn() -> Outcome + Send + Sync>;

#[derive(Clone)]
struct Check {
    name: &'static str,
    scope: Scope,
    ask: Ask,
}

/// The checks of the process, and what its operator switched off.
#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<Check>>,
    notes: RwLock<Vec<String>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks().iter().map(|check| check.name)).finish()
    }
}

impl Health {
    /// With one check, `ping`, which never fails.
    pub fn new() -> Arc<Self> {
        let health = Self::default();
        health.check("ping", Scope::Live, || Ok(()));
        Arc::new(health)
    }

    /// Adds a check, or replaces the one of that name. `ask` is called on every question, so it must be quick: it looks at
    /// what is known, it does not find out. Its error is for the operator.
    pub fn check(
        &self,
        name: &'static str,
        scope: Scope,
        ask: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let passed = (scope == Scope::Partial).then_some("the others are served");
        self.add(name, scope, move || ask().map_err(|reason| Fault { reason, passed }));
    }

    fn add(&self, name: &'static str, scope: Scope, ask: impl Fn() -> Outcome + Send + Sync + 'static) {
        let check = Check { name, scope, ask: Arc::new(ask) };
        let mut checks = self.checks.write().unwrap_or_else(PoisonError::into_inner);
        match checks.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = check,
            None => checks.push(check),
        }
        // As in kube-apiserver the checks of an approaching stop come last.
        checks.sort_by_key(|check| check.scope == Scope::Stopping);
    }

    /// Adds a check whose outcome is told by whoever holds the [`State`]; it fails until told otherwise.
    pub fn state(&self, name: &'static str, scope: Scope) -> State {
        let unknown = Fault { reason: "not known yet".to_owned(), passed: None };
        let state = State(Arc::new(RwLock::new(Err(unknown))));
        let told = Arc::clone(&state.0);
        self.add(name, scope, move || told.read().unwrap_or_else(PoisonError::into_inner).clone());
        state
    }

    /// A sentence shown by every verbose answer: what is switched off, or less strict than it could be.
    pub fn note(&self, sentence: impl Into<String>) {
        self.notes.write().unwrap_or_else(PoisonError::into_inner).push(sentence.into());
    }

    /// Answers `/livez` and its kin. `query` is the raw query.
    pub fn answer(&self, question: Question, query: &str) -> Answer {
        let mut excluded: BTreeSet<String> =
            pairs(query).filter(|(k, _)| k == "exclude").map(|(_, v)| v).collect();
        let verbose = pairs(query).any(|(k, _)| k == "verbose");
        let mut listing = String::new();
        let mut failed = false;
        for check in self.checks().iter().filter(|check| question.asks(check.scope)) {
            let name = check.name;
            // Writing to a String cannot fail.
            let _ = if excluded.remove(name) {
                writeln!(listing, "[+]{name} excluded: ok")
            } else if let Err(Fault { reason, passed }) = (check.ask)() {
                failed |= passed.is_none();
                tracing::info!(check = name, reason, "{} check failed", question.name());
                let counts = passed.map_or_else(String::new, |why| format!(", {why}"));
                writeln!(listing, "[-]{name} failed: reason withheld{counts}")
            } else {
                writeln!(listing, "[+]{name} ok")
            };
        }
        if !excluded.is_empty() {
            let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
            let _ = writeln!(
                listing,
                "warn: some health checks cannot be excluded: no matches for {}",
                names.join(", ")
            );
        }
        for note in self.notes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(listing, "note: {note}");
        }
        let _ = writeln!(listing, "{} check {}", question.name(), if failed { "failed" } else { "passed" });
        match (failed, verbose) {
            (true, _) => Answer { code: 500, text: listing },
            (false, true) => Answer { code: 200, text: listing },
            (false, false) => Answer { code: 200, text: "ok".to_owned() },
        }
    }

    /// Answers `/readyz/<check>` and its kin; None when the question has no such check.
    pub fn answer_one(&self, question: Question, name: &str) -> Option<Answer> {
        let check =
            self.checks().into_iter().find(|check| check.name == name && question.asks(check.scope))?;
        Some(match (check.ask)() {
            Ok(()) => Answer { code: 200, text: "ok".to_owned() },
            Err(Fault { reason, .. }) => {
                Answer { code: 500, text: format!("internal server error: {reason}\n") }
            }
        })
    }

    /// A copy, so that a check that is slow against all advice keeps nobody from adding one.
    fn checks(&self) -> Vec<Check> {
        self.checks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The outcome of a check, told when it changes.
#[derive(Debug, Clone)]
pub struct State(Arc<RwLock<Outcome>>);

impl State {
    /// All is well.
    pub fn ok(&self) {
        self.set(Ok(()));
    }

    /// Something is not; `reason` is for the operator.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(Err(Fault { reason: reason.into(), passed: None }));
    }

    /// Something is not, and requests are served all the same; `reason` is for the operator.
    pub fn impaired(&self, reason: impl Into<String>) {
        self.set(Err(Fault { reason: reason.into(), passed: Some("requests are served") }));
    }

    fn set(&self, outcome: Outcome) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}

/// An answer as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code: 200 or 500.
    pub code: u16,
    /// The body.
    pub text: String,
}

/// Keys and values of a query, percent-decoded; a key without a value has an empty one.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

fn decoded(s: &str) -> String {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let rest = bytes.clone();
                match (hex(bytes.next()), hex(bytes.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => {
                        bytes = rest;
                        b'%'
                    }
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Arc<Health> {
        let health = Health::new();
        health.check("shutdown", Scope::Stopping, || Ok(()));
        health.state("upstream", Scope::Ready).ok();
        health
    }

    #[test]
    fn answers() {
        let fine = health();
        let broken = health();
        broken.check("upstream", Scope::Ready, || Err("connection refused".to_owned()));
        let stopping = health();
        stopping.check("shutdown", Scope::Stopping, || Err("stopping".to_owned()));
        use Question::{Health, Live, Ready};
        for (health, question, query, code, text) in [
            (&fine, Live, "", 200, "ok"),
            (&fine, Ready, "", 200, "ok"),
            (&fine, Live, "verbose", 200, "[+]ping ok\nlivez check passed\n"),
            (
                &fine,
                Ready,
                "verbose",
                200,
                "[+]ping ok\n[+]upstream ok\n[+]shutdown ok\nreadyz check passed\n",
            ),
            (
                &fine,
                Ready,
                "verbose=false",
                200,
                "[+]ping ok\n[+]upstream ok\n[+]shutdown ok\nreadyz check passed\n",
            ),
            (&fine, Health, "verbose", 200, "[+]ping ok\n[+]upstream ok\nhealthz check passed\n"),
            (&broken, Live, "", 200, "ok"),
            (
                &broken,
                Ready,
                "",
                500,
                "[+]ping ok\n[-]upstream failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n",
            ),
            (&broken, Ready, "exclude=upstream", 200, "ok"),
            (&broken, Ready, "exclude=up%73tream", 200, "ok"),
            (
                &broken,
                Ready,
                "exclude=upstream&exclude=nope&verbose",
                200,
                "[+]ping ok\n[+]upstream excluded: ok\n[+]shutdown ok\n\
                 warn: some health checks cannot be excluded: no matches for \"nope\"\nreadyz check passed\n",
            ),
            (&stopping, Live, "", 200, "ok"),
            (&stopping, Health, "", 200, "ok"),
            (
                &stopping,
                Ready,
                "",
                500,
                "[+]ping ok\n[+]upstream ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n",
            ),
        ] {
            assert_eq!(
                health.answer(question, query),
                Answer { code, text: text.to_owned() },
                "{question:?} {query:?}"
            );
        }
    }

    #[test]
    fn a_part_that_fails_is_told_and_takes_nobody_out_of_service() {
        let health = health();
        health.check("issuers", Scope::Partial, || Err("https://idp.test: connection refused".to_owned()));
        let asked = |question, query| health.answer(question, query);
        assert_eq!(asked(Question::Ready, "").code, 200);
        let listing = asked(Question::Ready, "verbose").text;
        assert!(
            listing.contains("[-]issuers failed: reason withheld, the others are served\n")
                && listing.ends_with("readyz check passed\n"),
            "{listing}"
        );
        assert!(!asked(Question::Health, "verbose").text.contains("issuers"));
        let one = health.answer_one(Question::Ready, "issuers").unwrap();
        assert_eq!(
            (one.code, &*one.text),
            (500, "internal server error: https://idp.test: connection refused\n")
        );
    }

    #[test]
    fn a_check_may_weigh_less_for_a_while() {
        let health = health();
        let rules = health.state("rules", Scope::Ready);
        assert_eq!(health.answer(Question::Ready, "").code, 500);
        rules.impaired("lost");
        for question in [Question::Ready, Question::Health] {
            let answer = health.answer(question, "verbose");
            let line = "[-]rules failed: reason withheld, requests are served\n";
            assert!(answer.code == 200 && answer.text.contains(line), "{answer:?}");
        }
        assert_eq!(
            health.answer_one(Question::Ready, "rules").unwrap().text,
            "internal server error: lost\n"
        );
        rules.failed("lost for too long");
        assert_eq!(health.answer(Question::Health, "").code, 500);
    }

    #[test]
    fn one_check_at_a_time() {
        let health = health();
        let upstream = health.state("upstream", Scope::Ready);
        let one = |question, name| health.answer_one(question, name).map(|a| (a.code, a.text));
        assert_eq!(
            one(Question::Ready, "upstream"),
            Some((500, "internal server error: not known yet\n".to_owned()))
        );
        upstream.ok();
        assert_eq!(one(Question::Ready, "upstream"), Some((200, "ok".to_owned())));
        upstream.failed("gone");
        assert_eq!(
            one(Question::Health, "upstream"),
            Some((500, "internal server error: gone\n".to_owned()))
        );
        assert_eq!(one(Question::Live, "upstream"), None);
        assert_eq!(one(Question::Ready, "nope"), None);
    }

    #[test]
    fn notes_are_told() {
        let health = Health::new();
        health.note("anonymous requests are refused");
        assert_eq!(
            health.answer(Question::Live, "verbose").text,
            "[+]ping ok\nnote: anonymous requests are refused\nlivez check passed\n"
        );
        assert_eq!(health.answer(Question::Live, "").text, "ok");
    }

    #[test]
    fn queries_are_decoded() {
        let decoded: Vec<_> = pairs("a=b+c&&d&e=%41%4&f=%zz").collect();
        let expected = [("a", "b c"), ("d", ""), ("e", "A%4"), ("f", "%zz")];
        assert_eq!(decoded, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}

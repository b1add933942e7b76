//! The reference implementation's answers to whole files: what it starts with we load, what it refuses we refuse, at the same
//! place. Where we differ, the difference has a name and a number here.

use super::*;

const FILES: &str = include_str!("../../../../tests/golden/authn-config.jsonl");

/// A file, and what kube-apiserver makes of it.
#[derive(Debug, serde::Deserialize)]
struct Golden {
    yaml: String,
    service_account_issuers: Vec<String>,
    accepted: bool,
    #[serde(default)]
    errors: Vec<Wrong>,
}

#[derive(Debug, serde::Deserialize)]
struct Wrong {
    /// Empty: the text could not be decoded.
    field: String,
    message: String,
}

/// What only we refuse: words of our error, and how many files it concerns.
const STRICTER: &[(&str, usize)] = &[
    ("expected one document, found a second", 1),
    ("expected a mapping", 1),
    ("expected a URL such as", 9),
    ("expected a URL that begins with https://", 1),
    ("expected a URL without a", 3),
    ("the gate has no egress selector", 4),
    ("must evaluate to ", 13),
    ("claims is no value of its own", 3),
];

/// What only we take: words of its error, and how many files it concerns.
const LAXER: &[(&str, usize)] = &[("Object 'Kind' is missing in '---\n---", 1)];

/// Refused by both, but we do not get as far: the expression that its complaint depends on is none to us.
const ELSEWHERE: usize = 2;

#[test]
fn files_are_accepted_as_in_the_original() {
    let mut wrong = Vec::new();
    let (mut stricter, mut laxer, mut elsewhere) = (vec![0; STRICTER.len()], vec![0; LAXER.len()], 0);
    let (mut accepted, mut refused) = (0, 0);
    for (number, line) in FILES.lines().enumerate() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let at = format!("line {}", number + 1);
        match (
            AuthenticationConfiguration::parse(&golden.yaml, &golden.service_account_issuers),
            golden.accepted,
        ) {
            (Ok(_), true) => accepted += 1,
            (Err(ours), false) => {
                refused += 1;
                let theirs = golden.errors.iter().filter(|theirs| !theirs.field.is_empty());
                elsewhere += theirs.filter(|theirs| !ours.iter().any(|e| is_about(e, &theirs.field))).count();
            }
            (Err(ours), true) => {
                match STRICTER.iter().position(|(words, _)| ours.iter().all(|e| e.contains(words))) {
                    Some(class) => stricter[class] += 1,
                    None => wrong.push(format!("{at}: only we refuse it: {ours:#?}\n{}", golden.yaml)),
                }
            }
            (Ok(_), false) => {
                let theirs = &golden.errors[..];
                match LAXER.iter().position(|(words, _)| theirs.iter().all(|e| e.message.contains(words))) {
                    Some(class) => laxer[class] += 1,
                    None => wrong.push(format!("{at}: only we take it: {theirs:#?}\n{}", golden.yaml)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} files\n{}", wrong.len(), wrong.join("\n"));
    let expected = |table: &[(&str, usize)]| table.iter().map(|(_, count)| *count).collect::<Vec<_>>();
    assert_eq!((stricter, laxer, elsewhere), (expected(STRICTER), expected(LAXER), ELSEWHERE));
    assert_eq!((accepted, refused), (184, 285));
}

/// Whether an error of ours is about this place, one within it or one that holds it.
fn is_about(error: &str, place: &str) -> bool {
    let Some((ours, _)) = error.split_once(": ") else { return false };
    ours.starts_with(place) || place.starts_with(ours)
}

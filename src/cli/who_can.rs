//! `gatelog who-can`: everybody who may.

use super::{
    Outcome,
    asked::{Asked, Format, Question, Source, binding_json, subject, subject_json},
    print, usage,
};
use crate::{
    identity::{Impersonation, MASTERS, add_authenticated},
    rbac::{Grounds, Rules, SubjectKind},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    process::ExitCode,
};

/// List everybody who may, with the binding and the role that say so
///
/// Users, groups and service accounts as bindings name them; who is in a group, the rules do not know. exec, attach and
/// port-forward take create besides their verb: whoever has the two only by being in two groups is not listed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    question: Question,
    /// How to tell
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

pub(super) fn run(args: Args) -> Outcome {
    let asked = args.question.asked().map_err(usage)?;
    let rules = match args.source.rules()? {
        Ok(rules) => rules,
        Err(code) => return Ok(code),
    };
    for note in &asked.notes {
        eprintln!("gatelog: {note}");
    }
    let found = who(&rules, &asked);
    match args.output {
        Format::Text => print(&text(&found))?,
        Format::Json => print(&format_args!("{:#}\n", json_of(&found, &asked)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Who may all that it takes.
fn who(rules: &Rules, asked: &Asked) -> Vec<Grounds> {
    let first = rules.who_can(asked.attributes());
    let Some(also) = asked.also() else { return first };
    let second = rules.who_can(also);
    let of = |found: &[Grounds]| -> BTreeSet<(bool, String)> {
        found.iter().map(|g| (g.kind == SubjectKind::Group, g.subject.to_string())).collect()
    };
    let (one, two) = (of(&first), of(&second));
    let itself = |set: &BTreeSet<(bool, String)>, g: &Grounds| {
        set.contains(&(g.kind == SubjectKind::Group, g.subject.to_string()))
    };
    let has = |set: &BTreeSet<(bool, String)>, g: &Grounds| {
        itself(set, g) || implied(g).into_iter().any(|group| set.contains(&(true, group)))
    };
    let by_create = second.iter().filter(|g| !itself(&one, g) && has(&one, g)).cloned();
    let mut all: Vec<Grounds> = first.iter().filter(|g| has(&two, g)).cloned().chain(by_create).collect();
    all.sort_by_cached_key(|g| (g.kind, g.subject.to_string()));
    all
}

/// The groups that everybody is in who is called this, or is in this group.
fn implied(grounds: &Grounds) -> Vec<String> {
    if grounds.kind == SubjectKind::Group {
        let mut groups = vec![grounds.subject.to_string()];
        if grounds.subject.starts_with("system:serviceaccounts:") {
            groups.push("system:serviceaccounts".to_owned());
        }
        add_authenticated("", &mut groups);
        return groups;
    }
    let user = grounds.subject.to_string();
    let user = Impersonation { user, uid: None, groups: Vec::new(), extra: BTreeMap::new() };
    user.effective().map(|user| user.groups().to_vec()).unwrap_or_default()
}

fn text(found: &[Grounds]) -> String {
    let rows: Vec<[String; 3]> =
        found.iter().map(|g| [subject(g), g.binding.to_string(), g.binding.role.to_string()]).collect();
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
    let (first, second) = (width(0).unwrap_or_default(), width(1).unwrap_or_default());
    let mut text = String::new();
    for [subject, binding, role] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{subject:first$}  {binding:second$}  {role}");
    }
    let _ = writeln!(text, "members of {MASTERS} always may");
    text
}

fn json_of(found: &[Grounds], asked: &Asked) -> Value {
    let one = |grounds: &Grounds| {
        let mut one = binding_json(&grounds.binding);
        one.insert("subject".to_owned(), subject_json(grounds));
        Value::Object(one)
    };
    json!({"asked": asked.json(), "always": [{"kind": "Group", "name": MASTERS}], "may": found.iter().map(one).collect::<Vec<_>>()})
}

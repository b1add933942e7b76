//! `gatelog explain`: may they, and why or why not.

use super::{
    Outcome,
    asked::{Asked, Format, Question, Source, binding_json, plain, subject, subject_json},
    print, usage,
};
use crate::{
    identity::{Impersonation, User},
    rbac::{Decision, Grounds, NearMiss, Rule, Rules},
    request::Attributes,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, process::ExitCode};

/// Say whether somebody may, and by which rule, or what came near
///
/// Decides as the gate would, by its files; the cluster behind it is not asked. Exits with 0 when it is allowed, with 1 when it is
/// denied. exec, attach and port-forward take create besides their verb; so do upgrades through nodes/proxy, which are not asked
/// about here.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// The user; system:serviceaccount:NAMESPACE:NAME for a service account
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// A group of the user; may be given more than once. Those that kube-apiserver adds are added: system:authenticated, and
    /// those of a service account unless others are given
    #[arg(long = "as-group", value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    question: Question,
    /// How to tell
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

pub(super) fn run(args: Args) -> Outcome {
    let asked = args.question.asked().map_err(usage)?;
    let user = Impersonation { user: args.user, uid: None, groups: args.groups, extra: BTreeMap::new() };
    let user = user.effective().map_err(usage)?;
    let rules = match args.source.rules()? {
        Ok(rules) => rules,
        Err(code) => return Ok(code),
    };
    for note in &asked.notes {
        eprintln!("gatelog: {note}");
    }
    let found = Found::new(&rules, &user, &asked);
    match args.output {
        Format::Text => print(&found.text(&rules, &user, &asked))?,
        Format::Json => print(&format_args!("{:#}\n", found.json(&rules, &user, &asked)))?,
    }
    Ok(if matches!(found, Found::Denied(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What came of it.
enum Found {
    Master,
    /// One for each thing that had to be allowed.
    Allowed(Vec<Grounds>),
    Denied(Denied),
}

struct Denied {
    /// Which verb was not allowed.
    verb: String,
    /// Whether another verb was asked for.
    besides: bool,
    near: Vec<NearMiss>,
    /// Said when nothing came near.
    nearest: String,
    /// Roles that do not exist.
    missing: String,
}

impl Found {
    fn new(rules: &Rules, user: &User, asked: &Asked) -> Self {
        if user.is_master() {
            return Self::Master;
        }
        let mut by = Vec::new();
        for (besides, question) in [(false, Some(asked.attributes())), (true, asked.also())].into_iter() {
            let Some(question) = question else { continue };
            match rules.decide(user.name(), user.groups(), question) {
                Decision::Allow(grounds) => by.push(grounds),
                Decision::Deny => return Self::Denied(Denied::new(rules, user, question, besides)),
            }
        }
        Self::Allowed(by)
    }

    fn text(&self, rules: &Rules, user: &User, asked: &Asked) -> String {
        let name = plain(user.name());
        match self {
            Self::Master => {
                format!("allowed: {name} may {asked}\n  members of system:masters may do everything\n")
            }
            Self::Allowed(by) => {
                let mut text = format!("allowed: {name} may {asked}\n");
                for (i, grounds) in by.iter().enumerate() {
                    let besides = if i == 0 { "" } else { "create, which it takes besides: " };
                    // Writing to a String cannot fail.
                    let _ = writeln!(
                        text,
                        "  {besides}{} gives {} to {}",
                        grounds.binding,
                        grounds.binding.role,
                        subject(grounds)
                    );
                    if let Some(rule) = rules.rule(grounds) {
                        let _ = writeln!(text, "  rules[{}]: {}", grounds.rule, rule_text(rule));
                    }
                }
                text
            }
            Self::Denied(denied) => {
                let mut text = format!("denied: {name} may not {asked}\n");
                if denied.besides {
                    text.push_str("  opening a stream takes create besides\n");
                }
                let near = denied.near.iter().map(|near| &near.text);
                let nearest = denied.near.is_empty().then_some(&denied.nearest);
                for line in near.chain(nearest).chain([&denied.missing]).filter(|line| !line.is_empty()) {
                    let _ = writeln!(text, "  {line}");
                }
                text
            }
        }
    }

    fn json(&self, rules: &Rules, user: &User, asked: &Asked) -> Value {
        let mut object = json!({
            "allowed": !matches!(self, Self::Denied(_)),
            "user": user.name(), "groups": user.groups(), "asked": asked.json(),
        });
        match self {
            Self::Master => object["masters"] = true.into(),
            Self::Allowed(by) => {
                let one = |grounds: &Grounds| {
                    let mut one = binding_json(&grounds.binding);
                    one.insert("subject".to_owned(), subject_json(grounds));
                    one.insert("index".to_owned(), grounds.rule.into());
                    one.insert("rule".to_owned(), rules.rule(grounds).map_or(Value::Null, rule_json));
                    Value::Object(one)
                };
                object["by"] = by.iter().map(one).collect();
            }
            Self::Denied(denied) => {
                let one = |near: &NearMiss| {
                    let mut one = binding_json(&near.binding);
                    one.insert("text".to_owned(), near.text.as_str().into());
                    Value::Object(one)
                };
                object["refusedVerb"] = denied.verb.as_str().into();
                object["nearMisses"] = denied.near.iter().map(one).collect();
                object["missing"] = denied.missing.as_str().into();
            }
        }
        object
    }
}

impl Denied {
    fn new(rules: &Rules, user: &User, question: Attributes<'_>, besides: bool) -> Self {
        let (name, groups) = (user.name(), user.groups());
        Self {
            verb: question.verb.to_owned(),
            besides,
            near: rules.near_misses(name, groups, question),
            nearest: rules.explain(name, groups, question),
            missing: rules.missing(name, groups, question).to_string(),
        }
    }
}

/// The fields of a rule that say anything.
fn fields(rule: &Rule) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
    let fields = [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.resource_names),
        ("nonResourceURLs", &rule.non_resource_urls),
    ];
    fields.into_iter().filter(|(_, list)| !list.is_empty())
}

/// `verbs [get, list], apiGroups [""], resources [pods]`.
fn rule_text(rule: &Rule) -> String {
    let list = |list: &[String]| list.iter().map(|word| plain(word)).collect::<Vec<_>>().join(", ");
    let fields = fields(rule).map(|(key, words)| format!("{key} [{}]", list(words)));
    fields.collect::<Vec<_>>().join(", ")
}

fn rule_json(rule: &Rule) -> Value {
    Value::Object(fields(rule).map(|(key, list)| (key.to_owned(), json!(list))).collect())
}

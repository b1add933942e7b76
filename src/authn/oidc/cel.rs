//! The CEL expressions of an AuthenticationConfiguration: compiled at load, tried on a sample, bounded; their text never
//! comes from a request.
//!
//! They mean what they mean to kube-apiserver (`k8s.io/apiserver pkg/authentication/cel`, `pkg/cel/environment`), or they do not
//! compile, or they fail: an error is never a user and never a rule that is met. The `cel` crate parses and evaluates; types and
//! declarations are checked here ([`check`]), since the crate knows them only when it evaluates.
//!
//! An evaluation is synchronous and ends: it has no recursion and no loops but over what is there, its rounds are counted and
//! timed ([`runtime`]: at most a million rounds and a second), the texts and lists it makes have a greatest length, and nothing
//! it is given is larger than a token.

mod build;
mod check;
mod declared;
mod library;
mod regex;
mod runtime;
#[cfg(test)]
mod tests;
mod types;

use cel::{
    Context, ExecutionError, Value as CelValue,
    common::{
        ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators},
        types::{CelBool, CelDouble, CelList, CelMap, CelMapKey, CelNull, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};
use types::Type;

/// Which variable an expression may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Scope {
    /// `claims`: the token's claims.
    Claims,
    /// `user`: username, uid, groups, extra.
    User,
}

/// What an expression must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Returns {
    /// `string`: username, uid.
    Text,
    /// `string`, `list(string)` or null: groups, extra values.
    Texts,
    /// `bool`: rules.
    Truth,
}

/// An expression that compiled.
pub(in crate::authn) struct Expression {
    text: String,
    scope: Scope,
    program: IdedExpr,
    /// Levels of `program`.
    depth: usize,
    /// The paths selected out of the variable, as `["a", "b"]` for `claims.a.b`; with each, those it goes through.
    selected: Vec<Vec<String>>,
    /// A list that it comes to is no list of strings to kube-apiserver.
    is_list_of_go: bool,
}

/// The variable's value, converted once for all expressions over it.
pub(in crate::authn) struct Input {
    scope: Scope,
    value: CelMap<'static>,
}

/// Bytes of an expression's text. Kubernetes has 100,000 characters; nobody writes them.
const LONGEST: usize = 10 << 10;

/// Brackets within brackets.
const NESTING: usize = 40;

/// Levels that are evaluated where the caller stands. Below, the interpreter needs 2 KB a level as it is shipped, but 40 KB
/// unoptimized; what is deeper gets a stack of its own.
const SHALLOW: usize = 16;

/// Stack of the threads that compile and that evaluate what is deep, bytes: the parser goes as deep as the text does. Only
/// what is used is ever taken.
const STACK: usize = 64 << 20;

impl Scope {
    const fn variable(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
        }
    }
}

// === impl Input ===

impl Input {
    /// Every number a double, as `encoding/json` gives them to kube-apiserver.
    pub(in crate::authn) fn claims(claims: &Map<String, Value>) -> Self {
        Self { scope: Scope::Claims, value: object(claims) }
    }

    /// The user as the rules see it.
    pub(in crate::authn) fn user(
        name: &str,
        uid: &str,
        groups: &[String],
        extra: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let text = |text: &str| Box::new(CelString::from(text.to_owned())) as Box<dyn Val>;
        let texts = |texts: &[String]| {
            Box::new(CelList::from(texts.iter().map(|one| text(one)).collect::<Vec<_>>())) as Box<dyn Val>
        };
        let extra: HashMap<CelMapKey<'static>, Box<dyn Val>> =
            extra.iter().map(|(key, values)| (CelMapKey::from(key.clone()), texts(values))).collect();
        let fields: [(&'static str, Box<dyn Val>); 4] = [
            ("username", text(name)),
            ("uid", text(uid)),
            ("groups", texts(groups)),
            ("extra", Box::new(CelMap::from(extra))),
        ];
        let fields: HashMap<_, _> =
            fields.into_iter().map(|(key, value)| (CelMapKey::from(key), value)).collect();
        Self { scope: Scope::User, value: CelMap::from(fields) }
    }
}

fn object(map: &Map<String, Value>) -> CelMap<'static> {
    let entries: HashMap<CelMapKey<'static>, Box<dyn Val>> =
        map.iter().map(|(key, value)| (CelMapKey::from(key.clone()), converted(value))).collect();
    CelMap::from(entries)
}

fn converted(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(converted).collect::<Vec<_>>())),
        Value::Object(map) => Box::new(object(map)),
    }
}

impl VariableResolver for Input {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        (variable == self.scope.variable()).then_some(CowVal::Borrowed(&self.value))
    }
}

impl fmt::Debug for Input {
    /// Claims are personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("scope", &self.scope).finish_non_exhaustive()
    }
}

// === impl Expression ===

impl Expression {
    /// Compiles and tries on a sample. The error says what is wrong, without the place in the file.
    pub(in crate::authn) fn compile(text: &str, scope: Scope, returns: Returns) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("longer than {LONGEST} bytes"));
        }
        nesting(text)?;
        let compiled = with_stack(|| Self::read(text, scope, returns))?;
        // What is missing in the sample is no fault; that the evaluation comes back at all is what is tried.
        match compiled.evaluate(&sample(scope), |_| Ok(())) {
            Err(why) if why == PANICKED => Err(why),
            _ => Ok(compiled),
        }
    }

    fn read(text: &str, scope: Scope, returns: Returns) -> Result<Self, String> {
        let program = cel::Env::default().compile(text).map_err(|errors| {
            let first = errors.errors.first();
            let what = first.map(|error| plainly(&error.msg)).unwrap_or_default();
            let place = first.map(|error| error.pos).filter(|(line, _)| *line > 0);
            at(place, &what)
        })?;
        let parsed = program.expression();
        let (made, of) = check::check(parsed, scope).map_err(|refusal| {
            let start = program.source_info().offset_for(refusal.at).map(|(start, _)| start);
            at(start.map(|start| place(text, start)), &refusal.what)
        })?;
        expected(&of, returns)?;
        let mut selected = Vec::new();
        paths(parsed, scope.variable(), &mut selected);
        Ok(Self {
            text: text.to_owned(),
            scope,
            depth: build::depth(&made),
            program: made,
            selected,
            is_list_of_go: is_list_of_go(parsed),
        })
    }

    /// Whether the expression selects `claims.email` (path `["email"]`) and the like: with a dot, by itself, in `has()` or on the
    /// way to something in it. Kubernetes does not look at `claims['email']`.
    pub(in crate::authn) fn selects(&self, path: &[&str]) -> bool {
        self.selected.iter().any(|selected| selected == path)
    }

    /// Of an expression that returns text.
    pub(in crate::authn) fn text(&self, input: &Input) -> Result<String, String> {
        self.evaluate(input, |came| match runtime::as_text(came) {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("expected a string, found {}", came.get_type().name())),
        })
    }

    /// Of one that returns texts: null, "" and [] are none, empty texts are dropped.
    pub(in crate::authn) fn texts(&self, input: &Input) -> Result<Vec<String>, String> {
        self.evaluate(input, |came| {
            let wrong = |found: &dyn Val| {
                Err(format!("expected a string or a list of strings, found {}", found.get_type().name()))
            };
            if came.downcast_ref::<CelNull>().is_some() {
                return Ok(Vec::new());
            }
            let mut texts = Vec::new();
            if let Some(text) = runtime::as_text(came) {
                texts.push(text.to_owned());
            } else if self.is_list_of_go && runtime::as_list(came).is_some() {
                return Err(
                    "kube-apiserver takes no list that such a function made; write .map(x, x) after it"
                        .to_owned(),
                );
            } else if let Some(list) = runtime::as_list(came) {
                for item in list {
                    match runtime::as_text(item.as_ref()) {
                        Some(text) => texts.push(text.to_owned()),
                        None => return wrong(item.as_ref()),
                    }
                }
            } else {
                return wrong(came);
            }
            texts.retain(|text| !text.is_empty());
            Ok(texts)
        })
    }

    /// Of a rule.
    pub(in crate::authn) fn truth(&self, input: &Input) -> Result<bool, String> {
        self.evaluate(input, |came| match came.downcast_ref::<CelBool>() {
            Some(truth) => Ok(*truth.inner()),
            None => Err(format!("expected a bool, found {}", came.get_type().name())),
        })
    }

    fn evaluate<T: Send>(
        &self,
        input: &Input,
        finish: impl FnOnce(&dyn Val) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        if input.scope != self.scope {
            return Err(format!("the expression is not over {}", input.scope.variable()));
        }
        let env = runtime::ENV.as_ref()?;
        let evaluation = || {
            let mut context = Context::with_env(env.clone());
            context.set_variable_resolver(input);
            let came =
                CelValue::resolve_val(&self.program, &context).map_err(|error| self.explain(&error))?;
            finish(came.as_ref())
        };
        let bounded = || runtime::bounded(evaluation);
        if self.depth > SHALLOW {
            return with_stack(bounded);
        }
        catch_unwind(AssertUnwindSafe(bounded)).unwrap_or_else(|_| Err(PANICKED.to_owned()))
    }

    /// Why there is no value. The interpreter's own words may hold values of claims, which are for no log.
    fn explain(&self, error: &ExecutionError) -> String {
        match error {
            // The key may itself come from a claim.
            ExecutionError::NoSuchKey(key) if self.text.contains(key.as_str()) => {
                format!("no such key: {key}")
            }
            ExecutionError::NoSuchKey(_) => "no such key".to_owned(),
            ExecutionError::NoSuchOverload(overload) => overload.to_string(),
            ExecutionError::UnexpectedType { got, want } => format!("expected {want}, found {got}"),
            ExecutionError::FunctionError { function, .. } => format!("{function} failed"),
            ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
                format!("'{operator}' does not apply to such operands")
            }
            ExecutionError::ValuesNotComparable(..) => "such operands have no order".to_owned(),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "division by zero".to_owned()
            }
            ExecutionError::Overflow(..) => "overflow".to_owned(),
            ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
            _ => "evaluation failed".to_owned(),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression")
            .field("text", &self.text)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Runs `work` on a thread with a large stack. What it may panic of ends there.
fn with_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("cel".to_owned()).stack_size(STACK);
        match builder.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(PANICKED.to_owned())),
            Err(error) => Err(format!("no thread for it: {error}")),
        }
    })
}

/// A fault of the parser's or the interpreter's: the expression has no value.
const PANICKED: &str = "the evaluation failed";

/// What tokens typically hold.
fn sample(scope: Scope) -> Input {
    match scope {
        Scope::Claims => {
            let claims = serde_json::json!({
                "iss": "https://issuer.example", "sub": "sample", "aud": ["kubernetes"], "exp": 1_900_000_000, "iat": 1_800_000_000,
                "nbf": 1_800_000_000, "jti": "sample", "email": "sample@example.com", "email_verified": true,
                "name": "Sample", "preferred_username": "sample", "groups": ["one", "two"], "roles": ["one"],
            });
            Input::claims(claims.as_object().unwrap_or(&Map::new()))
        }
        Scope::User => {
            let extra = BTreeMap::from([("example.com/key".to_owned(), vec!["value".to_owned()])]);
            Input::user("sample", "sample", &["one".to_owned(), "two".to_owned()], &extra)
        }
    }
}

// === compiling ===

/// Refuses brackets too deep in one another, before the parser goes as deep.
fn nesting(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING {
            return Err(format!("column {}: brackets nested deeper than {NESTING}", place + 1));
        }
    }
    Ok(())
}

/// Whether a value of type `of` can be what is wanted. A rule must be known to be true or false, as in Kubernetes; of the others
/// Kubernetes compiles anything and fails later.
fn expected(of: &Type, returns: Returns) -> Result<(), String> {
    let text = |of: &Type| matches!(of, Type::String | Type::Dyn | Type::Any);
    match returns {
        Returns::Truth => match of {
            Type::Bool => Ok(()),
            Type::Dyn => {
                Err("must evaluate to bool, which is not known of it; compare it: … == true".to_owned())
            }
            other => Err(format!("must evaluate to bool, not {other}")),
        },
        Returns::Text if text(of) => Ok(()),
        Returns::Text => Err(format!("must evaluate to string, not {of}")),
        Returns::Texts => match of {
            Type::Null => Ok(()),
            Type::List(of) if text(of) => Ok(()),
            of if text(of) => Ok(()),
            other => Err(format!("must evaluate to string or list(string), not {other}")),
        },
    }
}

/// Whether this comes to a list that is Go's own (of a function, or of the user), of which kube-apiserver says that it is no list
/// of strings.
fn is_list_of_go(expr: &IdedExpr) -> bool {
    let of_user =
        |expr, first: &str| path(expr, "user").is_some_and(|path| path.first().is_some_and(|at| at == first));
    match &expr.expr {
        Expr::Select(_) => of_user(expr, "groups") || of_user(expr, "extra"),
        Expr::Call(call) => match call.func_name.as_str() {
            "split" | "findAll" | "validate" | "getQuery" => call.target.is_some(),
            operators::CONDITIONAL => call.args.iter().skip(1).any(is_list_of_go),
            operators::INDEX | operators::OPT_INDEX => call
                .args
                .first()
                .is_some_and(|of| of_user(of, "extra") || (!of_user(of, "groups") && is_list_of_go(of))),
            "dyn" => call.args.iter().any(is_list_of_go),
            "or" | "orValue" | "value" => {
                call.target.iter().map(AsRef::as_ref).chain(&call.args).any(is_list_of_go)
            }
            _ => false,
        },
        _ => false,
    }
}

/// One line, with the place if there is one.
fn at(place: Option<(isize, isize)>, what: &str) -> String {
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    match place {
        Some((1, column)) => format!("column {column}: {what}"),
        Some((line, column)) => format!("line {line}, column {column}: {what}"),
        None => what,
    }
}

/// The parser's words without what is of use to nobody.
fn plainly(message: &str) -> String {
    if message.contains("Recursion limit") {
        return "nested too deeply".to_owned();
    }
    let short = message.split(" expecting {").next().unwrap_or(message);
    short.trim_start_matches("Syntax error: ").trim_end_matches(',').to_owned()
}

/// Line and column, from 1, of an offset in characters.
fn place(text: &str, offset: u32) -> (isize, isize) {
    let (mut line, mut column) = (1, 1);
    for c in text.chars().take(usize::try_from(offset).unwrap_or(usize::MAX)) {
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    (line, column)
}

/// What is selected out of `root`, wherever it stands. As in Kubernetes, the name alone is looked at.
fn paths(expr: &IdedExpr, root: &str, found: &mut Vec<Vec<String>>) {
    let mut all = |exprs: &[IdedExpr]| exprs.iter().for_each(|expr| paths(expr, root, found));
    match &expr.expr {
        Expr::Select(select) => {
            all(std::slice::from_ref(&select.operand));
            found.extend(path(expr, root));
        }
        Expr::Call(call) => {
            all(&call.args);
            if let Some(target) = &call.target {
                all(std::slice::from_ref(target));
            }
            found.extend(path(expr, root));
        }
        Expr::List(list) => all(&list.elements),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    paths(&entry.key, root, found);
                    paths(&entry.value, root, found);
                }
            }
        }
        _ => {}
    }
}

/// `["a", "b"]` of `claims.a.b` and `claims.?a.b`.
fn path(expr: &IdedExpr, root: &str) -> Option<Vec<String>> {
    let (operand, field) = match &expr.expr {
        Expr::Select(select) => (select.operand.as_ref(), select.field.as_str()),
        Expr::Call(call) if call.target.is_none() && call.func_name == operators::OPT_SELECT => {
            match call.args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                    (operand, field.inner())
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    let mut path = match &operand.expr {
        Expr::Ident(name) if name == root => Vec::new(),
        _ => path(operand, root)?,
    };
    path.push(field.to_owned());
    Some(path)
}

/// `a__dot__b` for `a.b`: how names that are no identifiers are written in a selection (`k8s.io/apiserver pkg/cel`). None: what
/// looks like an escape is none.
fn unescape(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let escape = rest.strip_prefix("__").and_then(|after| {
            let word = after.split('_').next().filter(|word| !word.is_empty())?;
            after.get(word.len()..)?.strip_prefix("__").map(|after| (word, after))
        });
        let Some((word, after)) = escape else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        match word {
            "underscores" => out.push_str("__"),
            "dot" => out.push('.'),
            "dash" => out.push('-'),
            "slash" => out.push('/'),
            reserved if RESERVED.contains(&reserved) && name.len() == reserved.len() + 4 => {
                out.push_str(reserved)
            }
            _ => return None,
        }
        rest = after;
    }
    Some(out)
}

/// Words that are no identifiers in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

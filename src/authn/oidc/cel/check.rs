//! Types before anything runs, as Kubernetes' compiler checks them, and the expression as the interpreter gets it.
//!
//! The `cel` crate parses and evaluates, but knows no types before it evaluates. So this walks what it parsed without its
//! macros, finds every identifier, field, function and overload among those that Kubernetes declares, and writes the
//! expression anew: macros expanded with their rounds counted, field names unescaped, and calls that need the care of
//! [`super::runtime`] sent there.

mod rounds;

use super::{
    Scope, build,
    declared::{self, USER, user_field},
    library::format,
    runtime,
    types::{Type, Unifier},
    unescape,
};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators};
use std::collections::HashMap;

/// What is wrong, and the number of the node where.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) at: u64,
    pub(super) what: String,
}

/// An expression for the interpreter, and its type.
type Made = (IdedExpr, Type);

/// What begins the names of functions, of which some are not declared here.
const NAMESPACES: [&str; 11] =
    ["authorizer", "base64", "cel", "format", "ip", "lists", "math", "optional", "regex", "sets", "strings"];

/// How deep expressions may hold one another; see [`super::SHALLOW`].
const DEPTH: usize = 64;

/// Checks `expr` and writes it anew.
pub(super) fn check(expr: &IdedExpr, scope: Scope) -> Result<Made, Refusal> {
    let mut checker = Checker {
        scope,
        types: Unifier::default(),
        vars: Vec::new(),
        named: 0,
        depth: 0,
        in_format: false,
        alike: Vec::new(),
        members: HashMap::new(),
        formatted: Vec::new(),
    };
    let (made, of) = checker.any(expr)?;
    checker.members_are_alike()?;
    checker.formats_fit()?;
    if build::depth(&made) > DEPTH {
        return refuse(expr.id, format!("nested deeper than {DEPTH} levels"));
    }
    Ok((made, checker.types.settled(&of)))
}

struct Checker {
    scope: Scope,
    types: Unifier,
    /// Of the comprehensions around, the innermost last: the name, its type, and what stands for it.
    vars: Vec<(String, Type, IdedExpr)>,
    /// How many names have been given to what has none in the text.
    named: usize,
    depth: usize,
    /// Within a call of `format`, whose arguments need not be alike.
    in_format: bool,
    /// Members that must be of one type when all is known.
    alike: Vec<(u64, Vec<Type>)>,
    /// Of the lists within a call of `format`.
    members: HashMap<u64, Vec<Type>>,
    /// What is put into a text that is known, with its clause.
    formatted: Vec<(u64, char, Type)>,
}

impl Checker {
    fn any(&mut self, expr: &IdedExpr) -> Result<Made, Refusal> {
        self.depth += 1;
        if self.depth > DEPTH {
            return refuse(expr.id, format!("nested deeper than {DEPTH} levels"));
        }
        let made = match &expr.expr {
            Expr::Literal(value) => Ok((build::literal(value), literal_type(value))),
            Expr::Ident(name) => self.ident(expr.id, name),
            Expr::Select(select) => self.select(expr.id, &select.operand, &select.field, false),
            Expr::Call(call) => self.call(expr.id, call),
            Expr::List(list) => self.list(expr.id, list),
            Expr::Map(map) => self.map(expr.id, map),
            Expr::Struct(_) => refuse(expr.id, "messages cannot be made here"),
            Expr::Comprehension(_) | Expr::Unspecified => refuse(expr.id, "not an expression"),
        };
        self.depth -= 1;
        made
    }

    // --- names ---

    /// The variable of a comprehension with that name.
    fn var(&self, name: &str) -> Option<Made> {
        let found = self.vars.iter().rev().find(|(var, ..)| var == name)?;
        Some((found.2.clone(), found.1.clone()))
    }

    fn is_root(&self, expr: &IdedExpr) -> bool {
        match &expr.expr {
            Expr::Ident(name) => match name.strip_prefix('.') {
                Some(absolute) => absolute == self.scope.variable(),
                None => name == self.scope.variable() && self.var(name).is_none(),
            },
            _ => false,
        }
    }

    fn ident(&self, at: u64, name: &str) -> Result<Made, Refusal> {
        let root = self.scope.variable();
        let absolute = name.strip_prefix('.');
        if let (None, Some(var)) = (absolute, self.var(name)) {
            return Ok(var);
        }
        match absolute.unwrap_or(name) {
            plain if plain == root => refuse(
                at,
                format!(
                    "{root} is no value of its own, only its fields are, and has({root}.name) says what it has"
                ),
            ),
            "bool" | "bytes" | "double" | "int" | "list" | "map" | "null_type" | "string" | "type"
            | "uint" => Ok((build::ident(name), Type::Kind)),
            plain => refuse(at, format!("undeclared reference to '{plain}'; only {root} is known here")),
        }
    }

    /// The name of a type that has dots in it.
    fn type_name(&self, operand: &IdedExpr, field: &str) -> Option<IdedExpr> {
        let name = format!("{}.{field}", dotted(operand)?);
        let root = name.split('.').next().unwrap_or_default();
        (runtime::TYPES.contains(&name.as_str()) && self.var(root).is_none())
            .then(|| build::select(operand.clone(), field))
    }

    /// What something is taken out of: only there may `claims` or `user` stand for itself, and then the last is true.
    fn operand(&mut self, expr: &IdedExpr) -> Result<(IdedExpr, Type, bool), Refusal> {
        if self.is_root(expr) {
            let of = match self.scope {
                Scope::Claims => Type::map(Type::String, Type::Any),
                Scope::User => USER,
            };
            return Ok((build::ident(self.scope.variable()), of, true));
        }
        let (made, of) = self.any(expr)?;
        Ok((made, of, false))
    }

    // --- members ---

    fn select(&mut self, at: u64, operand: &IdedExpr, field: &str, optional: bool) -> Result<Made, Refusal> {
        if let (false, Some(of)) = (optional, self.type_name(operand, field)) {
            return Ok((of, Type::Kind));
        }
        let (made, key, of, optional) = self.selected(at, operand, field, optional)?;
        Ok(if optional {
            (build::call("@optional", vec![made, key]), Type::optional(of))
        } else {
            (build::call(operators::INDEX, vec![made, key]), of)
        })
    }

    /// The operand, the key, the type of what is there, and whether the result is optional.
    fn selected(
        &mut self,
        at: u64,
        operand: &IdedExpr,
        field: &str,
        optional: bool,
    ) -> Result<(IdedExpr, IdedExpr, Type, bool), Refusal> {
        let (made, of, root) = self.operand(operand)?;
        let (of, was_optional) = self.types.resolved(&of).unwrapped();
        let field_type = match of {
            Type::Map(_, value) => *value,
            USER => match user_field(field) {
                Some(of) => of,
                None => {
                    return refuse(
                        at,
                        format!("undefined field '{field}': user has username, uid, groups, extra"),
                    );
                }
            },
            Type::Dyn | Type::Any => Type::Dyn,
            Type::Param(_) => {
                self.types.assign(&Type::Dyn, &of);
                Type::Dyn
            }
            other => return refuse(at, format!("type '{other}' does not support field selection")),
        };
        let key = match unescape(field) {
            Some(key) if !is_map_literal(operand) => key,
            None if root => {
                return refuse(at, format!("no claim can be selected as '{field}': '__' begins an escape"));
            }
            _ => field.to_owned(),
        };
        Ok((made, build::text(&key), field_type, optional || was_optional))
    }

    fn index(&mut self, at: u64, name: &str, call: &CallExpr) -> Result<Made, Refusal> {
        let [operand, key] = two(at, &call.args)?;
        let (made, of, root) = self.operand(operand)?;
        let (index, key_type) = self.any(key)?;
        let result = self.resolve(at, name, false, &[of, key_type])?;
        let index = match (&key.expr, root) {
            _ if is_map_literal(operand) => index,
            (Expr::Literal(LiteralValue::String(field)), _) => match unescape(field.inner()) {
                Some(key) => build::text(&key),
                None if root => {
                    let field = field.inner();
                    return refuse(
                        at,
                        format!("no claim can be selected as '{field}': '__' begins an escape"),
                    );
                }
                None => index,
            },
            (Expr::Literal(_), _) => index,
            (_, true) => build::call("@claim", vec![index]),
            (_, false) => build::call("@key", vec![index]),
        };
        // Of an optional value a part is optional too.
        let name = if matches!(result, Type::Optional(_)) { "@optional" } else { name };
        Ok((build::call(name, vec![made, index]), result))
    }

    fn has(&mut self, at: u64, arg: &IdedExpr) -> Result<Made, Refusal> {
        match &arg.expr {
            Expr::Select(select) => {
                let (made, key, ..) = self.selected(arg.id, &select.operand, &select.field, false)?;
                Ok((build::call("@has", vec![made, key]), Type::Bool))
            }
            _ => refuse(at, "has() takes a field selection, such as has(claims.name)"),
        }
    }

    // --- literals of lists and maps ---

    fn list(&mut self, at: u64, list: &ListExpr) -> Result<Made, Refusal> {
        let mut made = Vec::with_capacity(list.elements.len());
        let mut members = Vec::with_capacity(list.elements.len());
        let mut joined: Option<Type> = None;
        for (place, element) in list.elements.iter().enumerate() {
            let (element_made, mut of) = self.any(element)?;
            if list.optional_indices.contains(&place) {
                of = self.optional_member(element.id, &of)?;
            }
            joined = Some(self.types.join(joined.as_ref(), &of));
            made.push(element_made);
            members.push(of);
        }
        if self.in_format {
            self.members.insert(at, members);
        } else {
            self.note_alike(at, members);
        }
        let of = joined.unwrap_or_else(|| self.types.fresh());
        Ok((build::list(made, list.optional_indices.clone()), Type::list(of)))
    }

    fn map(&mut self, at: u64, map: &MapExpr) -> Result<Made, Refusal> {
        let mut made = Vec::with_capacity(map.entries.len());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let (mut key_type, mut value_type): (Option<Type>, Option<Type>) = (None, None);
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return refuse(at, "messages cannot be made here");
            };
            let (key, of) = self.any(&entry.key)?;
            if matches!(self.types.resolved(&of), Type::Double | Type::Null | Type::List(_) | Type::Map(..)) {
                return refuse(entry.key.id, format!("'{of}' cannot be a key here"));
            }
            key_type = Some(self.types.join(key_type.as_ref(), &of));
            keys.push(of);
            let (value, mut of) = self.any(&entry.value)?;
            if entry.optional {
                of = self.optional_member(entry.value.id, &of)?;
            }
            value_type = Some(self.types.join(value_type.as_ref(), &of));
            values.push(of);
            made.push((key, value, entry.optional));
        }
        self.note_alike(at, keys);
        self.note_alike(at, values);
        let key = key_type.unwrap_or_else(|| self.types.fresh());
        let value = value_type.unwrap_or_else(|| self.types.fresh());
        Ok((build::map(made), Type::map(key, value)))
    }

    /// What an optional member adds if it is there.
    fn optional_member(&self, at: u64, of: &Type) -> Result<Type, Refusal> {
        match self.types.resolved(of).unwrapped() {
            (held, true) => Ok(held),
            (of @ (Type::Dyn | Type::Any), _) => Ok(of),
            (other, _) => refuse(at, format!("expected an optional value, found '{other}'")),
        }
    }

    fn mismatch(&self, before: Option<&Type>, of: &Type) -> String {
        let shown = |of: &Type| self.types.settled(of).to_string();
        format!("expected type '{}' but found '{}'", before.map(shown).unwrap_or_default(), shown(of))
    }

    fn note_alike(&mut self, at: u64, members: Vec<Type>) {
        if !self.in_format && members.len() > 1 {
            self.alike.push((at, members));
        }
    }

    /// Kubernetes has the members of a literal be of one type, and does not take `dyn` for another.
    fn members_are_alike(&self) -> Result<(), Refusal> {
        for (at, members) in &self.alike {
            let mut settled = members.iter().map(|of| self.types.settled(of));
            let Some(first) = settled.next() else { continue };
            if let Some(other) = settled.find(|of| *of != first) {
                let what = format!("expected type '{first}' but found '{other}'; use dyn() to mix types");
                return refuse(*at, what);
            }
        }
        Ok(())
    }

    /// The clauses of a literal text, for the members of a literal list.
    fn note_format(&mut self, at: u64, text: &IdedExpr, args: &[IdedExpr]) -> Result<(), Refusal> {
        let Expr::Literal(LiteralValue::String(text)) = &text.expr else { return Ok(()) };
        let clauses = format::clauses(text.inner()).map_err(|what| Refusal { at, what })?;
        let [values @ IdedExpr { expr: Expr::List(list), .. }] = args else { return Ok(()) };
        let (wanted, given) = (clauses.len(), list.elements.len());
        if wanted != given {
            return refuse(at, format!("format has {wanted} clauses for {given} values"));
        }
        let members = self.members.remove(&values.id).unwrap_or_default();
        for ((clause, element), of) in clauses.into_iter().zip(&list.elements).zip(members) {
            self.formatted.push((element.id, clause, of));
        }
        Ok(())
    }

    fn formats_fit(&self) -> Result<(), Refusal> {
        for (at, clause, of) in &self.formatted {
            let of = self.types.settled(of);
            if !format::takes(*clause, &of) {
                return refuse(
                    *at,
                    format!("%{clause} does not take '{of}' here; write dyn(…), string(…) or int(…)"),
                );
            }
        }
        Ok(())
    }

    // --- calls ---

    fn call(&mut self, at: u64, call: &CallExpr) -> Result<Made, Refusal> {
        let name = call.func_name.as_str();
        match (&call.target, name) {
            (None, operators::OPT_SELECT) => {
                let [operand, field] = two(at, &call.args)?;
                match &field.expr {
                    Expr::Literal(LiteralValue::String(field)) => {
                        self.select(at, operand, field.inner(), true)
                    }
                    _ => refuse(at, "a field's name is expected after '.?'"),
                }
            }
            (None, operators::INDEX | operators::OPT_INDEX) => self.index(at, name, call),
            (None, operators::IN) => self.within(at, call),
            (None, operators::HAS) => match call.args.as_slice() {
                [arg] => self.has(at, arg),
                _ => refuse(at, "has() takes one field selection"),
            },
            (Some(target), _) => match self.namespaced(target, name) {
                Some(full) => self.function(at, &full, &call.args),
                None => self.method(at, target, name, &call.args),
            },
            (None, _) => self.function(at, name, &call.args),
        }
    }

    /// `sets.contains` and the like: a function with a dot in its name.
    fn namespaced(&self, target: &IdedExpr, name: &str) -> Option<String> {
        let Expr::Ident(space) = &target.expr else { return None };
        let full = format!("{}.{name}", space.strip_prefix('.').unwrap_or(space));
        declared::find(&full).map(|_| full)
    }

    fn within(&mut self, at: u64, call: &CallExpr) -> Result<Made, Refusal> {
        let (made, types) = self.args(&call.args)?;
        let result = self.resolve(at, operators::IN, false, &types)?;
        Ok((build::call("@within", made), result))
    }

    fn function(&mut self, at: u64, name: &str, args: &[IdedExpr]) -> Result<Made, Refusal> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let (made, types) = self.args(args)?;
        let result = self.resolve(at, name, false, &types)?;
        let made = match name {
            operators::ADD => build::call("@add", made),
            "string" => build::call("string", vec![build::call("@text", made)]),
            "optional.ofNonZeroValue" if matches!(types[..], [Type::Dyn | Type::Any | Type::Param(_)]) => {
                build::call(name, vec![build::call("@zero", made)])
            }
            _ if runtime::is_ours(name, args.len()) => build::call(&format!("@{name}"), made),
            _ => build::call(name, made),
        };
        self.constants(at, name, args, &made)?;
        Ok((made, result))
    }

    fn method(&mut self, at: u64, target: &IdedExpr, name: &str, args: &[IdedExpr]) -> Result<Made, Refusal> {
        if let Some(made) = self.macros(at, target, name, args)? {
            return Ok(made);
        }
        if let Expr::Ident(space) = &target.expr
            && self.var(space).is_none()
            && NAMESPACES.contains(&space.as_str())
        {
            return refuse(at, format!("undeclared reference to '{space}.{name}'"));
        }
        let (target_made, target_type) = self.any(target)?;
        let was_in_format = self.in_format;
        self.in_format |= name == "format";
        let (mut made, types) = self.args(args)?;
        self.in_format = was_in_format;
        if name == "format" {
            self.note_format(at, target, args)?;
        }
        let types: Vec<Type> = [target_type].into_iter().chain(types).collect();
        let result = self.resolve(at, name, true, &types)?;
        let made = if runtime::is_ours(name, args.len() + 1) {
            made.insert(0, target_made);
            build::call(&format!("@{name}"), made)
        } else {
            build::method(target_made, name, made)
        };
        let given: Vec<IdedExpr> = [target].into_iter().chain(args).cloned().collect();
        self.constants(at, name, &given, &made)?;
        Ok((made, result))
    }

    fn args(&mut self, args: &[IdedExpr]) -> Result<(Vec<IdedExpr>, Vec<Type>), Refusal> {
        let mut made = Vec::with_capacity(args.len() + 1);
        let mut types = Vec::with_capacity(args.len());
        for arg in args {
            let (one, of) = self.any(arg)?;
            made.push(one);
            types.push(of);
        }
        Ok((made, types))
    }

    /// What a call of `name` comes to. Where several overloads could be meant and differ in that, it is `dyn`.
    fn resolve(&mut self, at: u64, name: &str, method: bool, args: &[Type]) -> Result<Type, Refusal> {
        let Some(ways) = declared::find(name).filter(|_| !name.starts_with("@sort")) else {
            return refuse(
                at,
                format!("undeclared reference to '{name}'; Kubernetes' functions are known here"),
            );
        };
        let mut result: Option<Type> = None;
        for way in ways {
            if way.method != method || way.args.len() != args.len() {
                continue;
            }
            let from = self.types.reserve(way.params);
            let wanted: Vec<Type> = way.args.iter().map(|of| of.renumbered(from)).collect();
            if self.types.assign_all(args.iter().zip(&wanted)) {
                let of = self.types.resolved(&way.result.renumbered(from));
                result = Some(match result {
                    Some(before) if before != of => Type::Dyn,
                    _ => of,
                });
            }
        }
        result.ok_or_else(|| {
            let shown: Vec<String> = args.iter().map(|of| self.types.settled(of).to_string()).collect();
            let applied = match shown.split_first() {
                Some((target, rest)) if method => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            Refusal { at, what: format!("found no matching overload for '{name}' applied to '{applied}'") }
        })
    }

    /// Literals that can only fail are refused before.
    fn constants(&self, at: u64, name: &str, args: &[IdedExpr], made: &IdedExpr) -> Result<(), Refusal> {
        match (name, args) {
            (
                "bool" | "bytes" | "double" | "duration" | "int" | "string" | "timestamp" | "uint",
                [IdedExpr { expr: Expr::Literal(_), .. }],
            ) => runtime::constant(made).map_err(|()| Refusal { at, what: format!("not a {name}") }),
            ("matches" | "find" | "findAll", [_, pattern, ..]) => match &pattern.expr {
                Expr::Literal(LiteralValue::String(pattern)) => {
                    let read = super::regex::compile(pattern.inner());
                    read.map(|_| ())
                        .map_err(|why| Refusal { at, what: format!("not a regular expression: {why}") })
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A name that no expression can have.
    fn name(&mut self) -> String {
        self.named += 1;
        format!("@v{}", self.named)
    }
}

fn literal_type(value: &LiteralValue) -> Type {
    match value {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// The keys of a literal are what they are; only those of claims and extra are looked up unescaped.
fn is_map_literal(operand: &IdedExpr) -> bool {
    matches!(operand.expr, Expr::Map(_))
}

/// `a.b` as it is written.
fn dotted(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

fn two(at: u64, args: &[IdedExpr]) -> Result<[&IdedExpr; 2], Refusal> {
    match args {
        [one, other] => Ok([one, other]),
        _ => refuse(at, "two operands are expected"),
    }
}

fn refuse<T>(at: u64, what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { at, what: what.into() })
}

//! The expressions that the interpreter is given, put together.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue,
    MapEntryExpr, MapExpr, SelectExpr, operators,
};

/// The accumulator of a comprehension; no expression can name it.
const RESULT: &str = "@result";

fn node(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

pub(super) fn ident(name: &str) -> IdedExpr {
    node(Expr::Ident(name.to_owned()))
}

pub(super) fn literal(value: &LiteralValue) -> IdedExpr {
    node(Expr::Literal(value.clone()))
}

pub(super) fn text(value: &str) -> IdedExpr {
    node(Expr::Literal(LiteralValue::String(value.to_owned().into())))
}

pub(super) fn int(value: i64) -> IdedExpr {
    node(Expr::Literal(LiteralValue::Int(value.into())))
}

fn truth(value: bool) -> IdedExpr {
    node(Expr::Literal(LiteralValue::Boolean(value.into())))
}

pub(super) fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    node(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

pub(super) fn method(target: IdedExpr, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    node(Expr::Call(CallExpr { func_name: name.to_owned(), target: Some(Box::new(target)), args }))
}

pub(super) fn select(operand: IdedExpr, field: &str) -> IdedExpr {
    node(Expr::Select(SelectExpr { operand: Box::new(operand), field: field.to_owned(), test: false }))
}

pub(super) fn list(elements: Vec<IdedExpr>, optional_indices: Vec<usize>) -> IdedExpr {
    node(Expr::List(ListExpr { elements, optional_indices }))
}

/// Of keys, values, and whether the value is optional.
pub(super) fn map(entries: Vec<(IdedExpr, IdedExpr, bool)>) -> IdedExpr {
    let entry = |(key, value, optional)| IdedEntryExpr {
        id: 0,
        expr: EntryExpr::MapEntry(MapEntryExpr { key, value, optional }),
    };
    node(Expr::Map(MapExpr { entries: entries.into_iter().map(entry).collect() }))
}

pub(super) fn either(condition: IdedExpr, one: IdedExpr, other: IdedExpr) -> IdedExpr {
    call(operators::CONDITIONAL, vec![condition, one, other])
}

/// `body` with the value of `init` as the variable `name`.
pub(super) fn bind(name: &str, init: IdedExpr, body: IdedExpr) -> IdedExpr {
    comprehension(list(Vec::new(), Vec::new()), "@unused", name, init, truth(false), ident(name), body)
}

/// True if `test` is of every `var` of `range`.
pub(super) fn all(range: IdedExpr, var: &str, test: IdedExpr) -> IdedExpr {
    let go_on = call(operators::NOT_STRICTLY_FALSE, vec![ident(RESULT)]);
    let step = call(operators::LOGICAL_AND, vec![ident(RESULT), counted(test)]);
    comprehension(range, var, RESULT, truth(true), go_on, step, ident(RESULT))
}

/// True if `test` is of any `var` of `range`.
pub(super) fn exists(range: IdedExpr, var: &str, test: IdedExpr) -> IdedExpr {
    let none_yet = call(operators::LOGICAL_NOT, vec![ident(RESULT)]);
    let go_on = call(operators::NOT_STRICTLY_FALSE, vec![none_yet]);
    let step = call(operators::LOGICAL_OR, vec![ident(RESULT), counted(test)]);
    comprehension(range, var, RESULT, truth(false), go_on, step, ident(RESULT))
}

/// A list of what `each` comes to, where `test` (if there is one) is true. The shape is the one that the interpreter knows to
/// append in place.
pub(super) fn collect(range: IdedExpr, var: &str, test: Option<IdedExpr>, each: IdedExpr) -> IdedExpr {
    let append = |each| call(operators::ADD, vec![ident(RESULT), list(vec![each], Vec::new())]);
    let kept = |each| call("@kept", vec![each]);
    let step = match test {
        Some(test) => either(counted(test), append(kept(each)), ident(RESULT)),
        None => append(kept(counted(each))),
    };
    let empty = list(Vec::new(), Vec::new());
    comprehension(range, var, RESULT, empty, truth(true), step, ident(RESULT))
}

/// A round of a comprehension, counted before it begins.
fn counted(body: IdedExpr) -> IdedExpr {
    either(call("@step", Vec::new()), body, truth(false))
}

fn comprehension(
    iter_range: IdedExpr,
    iter_var: &str,
    accu_var: &str,
    accu_init: IdedExpr,
    loop_cond: IdedExpr,
    loop_step: IdedExpr,
    result: IdedExpr,
) -> IdedExpr {
    node(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range,
        iter_var: iter_var.to_owned(),
        iter_var2: None,
        accu_var: accu_var.to_owned(),
        accu_init,
        loop_cond,
        loop_step,
        result,
    })))
}

/// How many levels the interpreter goes down.
pub(super) fn depth(expr: &IdedExpr) -> usize {
    let below: Vec<&IdedExpr> = match &expr.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(members).collect(),
        Expr::Comprehension(all) => {
            vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
        }
        _ => Vec::new(),
    };
    1 + below.into_iter().map(depth).max().unwrap_or(0)
}

fn members(entry: &IdedEntryExpr) -> Vec<&IdedExpr> {
    match &entry.expr {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

//! What the parser calls macros: comprehensions, and what maps over optional values.

use super::{Checker, Made, Refusal, refuse};
use crate::authn::oidc::cel::{build, declared, types::Type};
use cel::common::ast::{Expr, IdedExpr, operators};

impl Checker {
    /// The call of a macro; None: it is none.
    pub(super) fn macros(
        &mut self,
        at: u64,
        target: &IdedExpr,
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Option<Made>, Refusal> {
        let made = match (name, args) {
            ("all" | "exists" | "exists_one" | "existsOne" | "filter", [var, test]) => {
                self.rounds(target, &[var], |checker, range, round| {
                    let test = checker.test(test)?;
                    let each = round.each.clone();
                    let of = if name == "filter" { Type::list(round.types[0].clone()) } else { Type::Bool };
                    Ok((quantified(name, range, &round.name, test, each), of))
                })
            }
            ("all" | "exists" | "exists_one" | "existsOne", [key, value, test]) => {
                self.rounds(target, &[key, value], |checker, range, round| {
                    let test = checker.test(test)?;
                    Ok((quantified(name, range, &round.name, test, round.each.clone()), Type::Bool))
                })
            }
            ("map", [var, rest @ ..]) | ("transformList", [var, _, rest @ ..]) => {
                let (test, each) = match rest {
                    [each] => (None, each),
                    [test, each] => (Some(test), each),
                    _ => return Ok(None),
                };
                let vars: Vec<&IdedExpr> =
                    if name == "map" { vec![var] } else { args.iter().take(2).collect() };
                self.rounds(target, &vars, |checker, range, round| {
                    let test = test.map(|test| checker.test(test)).transpose()?;
                    let (each, of) = checker.any(each)?;
                    Ok((build::collect(range, &round.name, test, each), Type::list(of)))
                })
            }
            ("transformMap" | "transformMapEntry", [key, value, rest @ ..]) => {
                let (test, each) = match rest {
                    [each] => (None, each),
                    [test, each] => (Some(test), each),
                    _ => return Ok(None),
                };
                self.rounds(target, &[key, value], |checker, range, round| {
                    let test = test.map(|test| checker.test(test)).transpose()?;
                    checker.made_map(name == "transformMapEntry", range, round, test, each)
                })
            }
            ("optMap" | "optFlatMap", [var, body]) => self.opt_map(at, target, var, body, name == "optMap"),
            ("sortBy", [var, key]) => self.sort_by(at, target, var, key),
            _ => return Ok(None),
        };
        made.map(Some)
    }

    /// Goes through `range` with `vars`: one is the element or key, two are index and element, or key and value.
    fn rounds(
        &mut self,
        target: &IdedExpr,
        vars: &[&IdedExpr],
        body: impl FnOnce(&mut Self, IdedExpr, &Round) -> Result<Made, Refusal>,
    ) -> Result<Made, Refusal> {
        if self.is_root(target) {
            let root = self.scope.variable();
            return refuse(target.id, format!("{root} itself cannot be gone through, only its fields can"));
        }
        let (range, of) = self.any(target)?;
        self.rounds_of(target.id, range, &of, vars, body)
    }

    fn rounds_of(
        &mut self,
        at: u64,
        range: IdedExpr,
        of: &Type,
        vars: &[&IdedExpr],
        body: impl FnOnce(&mut Self, IdedExpr, &Round) -> Result<Made, Refusal>,
    ) -> Result<Made, Refusal> {
        let of = self.types.resolved(of);
        let two = vars.len() == 2;
        let types = match &of {
            Type::List(of) if two => vec![Type::Int, (**of).clone()],
            Type::List(of) => vec![(**of).clone()],
            Type::Map(key, value) => vec![(**key).clone(), (**value).clone()],
            Type::Dyn | Type::Param(_) => {
                self.types.assign(&Type::Dyn, &of);
                vec![Type::Dyn, Type::Dyn]
            }
            Type::Any => {
                return refuse(
                    at,
                    "what a claim holds is not known here; write dyn(…) around it to go through it",
                );
            }
            other => return refuse(at, format!("'{other}' is no list or map to go through")),
        };
        let name = self.name();
        let each = build::ident(&name);
        let part = |place| build::call(operators::INDEX, vec![each.clone(), build::int(place)]);
        let stands = if two { vec![part(0), part(1)] } else { vec![each.clone()] };
        let range = build::call(if two { "@entries" } else { "@elements" }, vec![range]);
        let before = self.vars.len();
        for ((var, of), stand) in vars.iter().zip(&types).zip(stands) {
            let var = simple_name(var)?;
            if self.vars.iter().skip(before).any(|(other, ..)| *other == var) {
                return refuse(at, format!("'{var}' is the name of two variables"));
            }
            self.vars.push((var, of.clone(), stand));
        }
        let made = body(self, range, &Round { name, each, types });
        self.vars.truncate(before);
        made
    }

    fn test(&mut self, test: &IdedExpr) -> Result<IdedExpr, Refusal> {
        let (made, of) = self.any(test)?;
        if self.types.assign(&Type::Bool, &of) {
            return Ok(made);
        }
        refuse(test.id, self.mismatch(Some(&Type::Bool), &of))
    }

    fn made_map(
        &mut self,
        entries: bool,
        range: IdedExpr,
        round: &Round,
        test: Option<IdedExpr>,
        each: &IdedExpr,
    ) -> Result<Made, Refusal> {
        let (made, of) = self.any(each)?;
        if entries {
            let of = self.types.resolved(&of);
            if !matches!(of, Type::Map(..) | Type::Dyn | Type::Any) {
                return refuse(each.id, format!("expected a map, found '{of}'"));
            }
            return Ok((build::call("@merged", vec![build::collect(range, &round.name, test, made)]), of));
        }
        let key = build::call(operators::INDEX, vec![round.each.clone(), build::int(0)]);
        let pair = build::list(vec![key, made], Vec::new());
        let of = Type::map(round.types[0].clone(), of);
        Ok((build::call("@paired", vec![build::collect(range, &round.name, test, pair)]), of))
    }

    fn opt_map(
        &mut self,
        at: u64,
        target: &IdedExpr,
        var: &IdedExpr,
        body: &IdedExpr,
        wrap: bool,
    ) -> Result<Made, Refusal> {
        let (target, of) = self.any(target)?;
        let held = self.resolve(at, "value", true, &[of])?;
        let name = self.name();
        let asked = |what| build::method(build::ident(&name), what, Vec::new());
        self.vars.push((simple_name(var)?, held, asked("value")));
        let body = self.any(body);
        self.vars.pop();
        let (made, of) = body?;
        let (some, of) = if wrap {
            (build::call("optional.of", vec![made]), Type::optional(of))
        } else {
            let any = Type::optional(self.types.fresh());
            if !self.types.assign(&of, &any) {
                return refuse(at, self.mismatch(Some(&any), &of));
            }
            (made, of)
        };
        let none = build::call("optional.none", Vec::new());
        Ok((build::bind(&name, target, build::either(asked("hasValue"), some, none)), of))
    }

    fn sort_by(
        &mut self,
        at: u64,
        target: &IdedExpr,
        var: &IdedExpr,
        key: &IdedExpr,
    ) -> Result<Made, Refusal> {
        let (target_made, of) = self.any(target)?;
        let name = self.name();
        let (keys, keys_type) =
            self.rounds_of(target.id, build::ident(&name), &of, &[var], |checker, range, round| {
                let (each, of) = checker.any(key)?;
                Ok((build::collect(range, &round.name, None, each), Type::list(of)))
            })?;
        let fits = declared::find("@sortBy").unwrap_or_default().iter().any(|way| {
            let from = self.types.reserve(way.params);
            let wanted: Vec<Type> = way.args.iter().map(|of| of.renumbered(from)).collect();
            self.types.assign_all([&of, &keys_type].into_iter().zip(&wanted))
        });
        if !fits {
            return refuse(at, "sortBy takes a list, and a key that has an order");
        }
        let sorted = build::method(build::ident(&name), "@sortByAssociatedKeys", vec![keys]);
        Ok((build::bind(&name, target_made, sorted), of))
    }
}

/// What a comprehension goes through with.
struct Round {
    name: String,
    each: IdedExpr,
    types: Vec<Type>,
}

fn quantified(name: &str, range: IdedExpr, var: &str, test: IdedExpr, each: IdedExpr) -> IdedExpr {
    match name {
        "all" => build::all(range, var, test),
        "exists" => build::exists(range, var, test),
        "filter" => build::collect(range, var, Some(test), each),
        _ => {
            let found = build::call("size", vec![build::collect(range, var, Some(test), each)]);
            build::call(operators::EQUALS, vec![found, build::int(1)])
        }
    }
}

fn simple_name(var: &IdedExpr) -> Result<String, Refusal> {
    match &var.expr {
        Expr::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
        _ => refuse(var.id, "a variable's name is expected"),
    }
}

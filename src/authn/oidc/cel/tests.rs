use super::*;
use serde_json::json;

fn claims() -> Input {
    let claims = json!({
        "sub": "alice", "n": 3, "big": 1_753_000_000, "half": 0.5, "yes": true, "nothing": null, "empty": "",
        "email": "alice@example.com", "email_verified": true, "accent": "\u{e9}",
        "roles": ["admin", "", "dev"], "mixed": ["a", 1], "none": [], "numbers": [3, 1, 2],
        "nested": {"deep": {"x": "y"}, "a.b": 1, "list": [{"k": "v"}]}, "a.b": "dotted", "a/b": "slashed",
        "namespace": "ns", "addr": "10.1.2.3", "url": "https://issuer.example:8443/a/b?x=1&x=2",
    });
    Input::claims(claims.as_object().unwrap())
}

fn user() -> Input {
    let extra = BTreeMap::from([("example.com/team".to_owned(), vec!["red".to_owned(), "blue".to_owned()])]);
    Input::user("alice", "u1", &["dev".to_owned(), "ops".to_owned()], &extra)
}

/// What a rule comes to, or the error of compiling or evaluating it.
fn truth(text: &str) -> Result<bool, String> {
    let scope = if text.contains("user.") { Scope::User } else { Scope::Claims };
    let input = if scope == Scope::User { user() } else { claims() };
    Expression::compile(text, scope, Returns::Truth)?.truth(&input)
}

#[test]
fn rules_are_true() {
    for text in [
        // Numbers are doubles, and compare with whole ones.
        "claims.n == 3",
        "claims.n == 3.0",
        "claims.n + 1.0 == 4.0",
        "claims.n in [3.0]",
        "claims.n > 2 && claims.n <= 3 && claims.half < 1",
        "int(claims.n) == 3",
        "string(claims.n) == '3'",
        "string(claims.big) == '1.753e+09'",
        "type(claims.n) == double && type(claims.sub) == string && type(claims.roles) == list",
        "dyn(1) == 1.0",
        // Members.
        "claims.sub == 'alice'",
        "claims['sub'] == 'alice'",
        "claims.?sub.orValue('x') == 'alice'",
        "claims[?'sub'].value() == 'alice'",
        "claims.?missing.orValue(true) == true",
        "!claims.?missing.hasValue()",
        "claims.?nested.deep.x.orValue('') == 'y'",
        "claims.?nested.?gone.x.orValue('none') == 'none'",
        "claims.?sub.x.orValue('none') == 'none'",
        "has(claims.sub) && !has(claims.missing) && has(claims.nested.deep.x)",
        "!has(claims.sub.x)",
        "has(claims.nothing) && claims.nothing == null",
        "size(claims.roles) == 3 && claims.roles.size() == 3",
        "claims.nested.list[0].k == 'v'",
        "claims.a__dot__b == 'dotted' && claims.a__slash__b == 'slashed' && claims.__namespace__ == 'ns'",
        "claims.namespace == 'ns'",
        "claims.nested.a__dot__b == 1 && claims['a.b'] == 'dotted' && claims.nested['a__dot__b'] == 1",
        "['a__dot__b', 'a.b'].all(k, claims[k] == 'dotted')",
        "{'a__dot__b': 1}.a__dot__b == 1",
        "!('a__dot__b' in claims.nested) && 'a.b' in claims.nested",
        // Strings.
        "'\u{e9}'.size() == 1 && claims.accent.size() == 1",
        "claims.email.startsWith('alice@') && claims.email.endsWith('.com') && claims.email.contains('@')",
        "claims.email.split('@')[1] == 'example.com' && claims.email.split('@', 1).size() == 1",
        "claims.sub.indexOf('i', 99) == -1 && claims.sub.indexOf('i', 1) == 2 && claims.sub.lastIndexOf('e', 9) == -1",
        "claims.email.matches('^[a-z]+@example[.]com$') && matches(claims.sub, 'ali')",
        "'A-B'.lowerAscii() == 'a-b' && claims.sub.upperAscii() == 'ALICE' && ' x '.trim() == 'x'",
        "claims.sub.replace('a', 'o') == 'olice' && 'aaa'.replace('a', 'b', 2) == 'bba'",
        "claims.sub.substring(1) == 'lice' && claims.sub.substring(1, 3) == 'li' && claims.sub.charAt(0) == 'a'",
        "claims.sub.indexOf('i') == 2 && claims.sub.lastIndexOf('x') == -1",
        "['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'",
        "'%s:%d'.format([dyn(claims.sub), 3]) == 'alice:3'",
        "strings.quote('x') == '\"x\"'",
        "claims.email.find('[^@]+$') == 'example.com' && claims.email.findAll('e').size() == 3",
        "claims.email.findAll('e', 2) == ['e', 'e'] && 'x'.find('y') == ''",
        // Lists, maps, comprehensions.
        "dyn(claims.roles).exists(r, r == 'admin') && dyn(claims.roles).all(r, r != 'root')",
        "dyn(claims.roles).exists_one(r, r == 'dev') && dyn(claims.roles).existsOne(r, r == 'dev')",
        "dyn(claims.roles).filter(r, r != '').map(r, 'x:' + r) == ['x:admin', 'x:dev']",
        "dyn(claims.roles).map(r, r != '', 'x:' + r) == ['x:admin', 'x:dev']",
        "claims.nested.deep.map(k, k) == ['x']",
        "claims.nested.deep.all(k, v, k == 'x' && v == 'y') && dyn(claims.roles).exists(i, r, i == 2 && r == 'dev')",
        "dyn(claims.roles).transformList(i, r, string(i) + r) == ['0admin', '1', '2dev']",
        "dyn(claims.roles).transformList(i, r, r != '', r) == ['admin', 'dev']",
        "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}",
        "{'a': 1, 'b': 2}.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'}",
        "dyn(claims.numbers).sortBy(n, n) == [1.0, 2.0, 3.0] && claims.numbers.sort()[0] == 1",
        "claims.numbers.sum() == 6 && claims.numbers.min() == 1 && claims.numbers.max() == 3",
        "[1, 2].isSorted() && !claims.numbers.isSorted() && claims.numbers.indexOf(2) == 2",
        "['a', 'b', 'a'].distinct() == ['a', 'b'] && [1, 2].reverse() == [2, 1] && [1, 2, 3].slice(0, 1) == [1]",
        "[[1], [2]].flatten() == [1, 2] && lists.range(3) == [0, 1, 2]",
        "claims.roles.first().value() == 'admin' && claims.none.last() == optional.none()",
        "sets.contains(claims.roles, ['dev']) && sets.intersects(['x', 'dev'], claims.roles)",
        "sets.equivalent([1, 2], [2, 1, 1])",
        "{'a': 1, 'a': 2}['a'] == 2",
        "[?claims.?missing, ?claims.?sub] == ['alice'] && {?'a': claims.?missing}.size() == 0",
        "claims.?sub.optMap(s, s + '!').value() == 'alice!' && !claims.?missing.optMap(s, s).hasValue()",
        "claims.?nested.optFlatMap(n, n.?deep).x.value() == 'y'",
        "optional.of(1).or(optional.of(2)).value() == 1 && !optional.ofNonZeroValue('').hasValue()",
        "(claims.sub == 'x' ? 'a' : 'b') == 'b'",
        // Errors are hidden by what decides without them, as in Kubernetes.
        "claims.missing == 1 || claims.sub == 'alice'",
        "!(claims.missing == 1 && claims.sub == 'x')",
        "dyn(claims.mixed).exists(m, m.startsWith('a'))",
        // Addresses and names.
        "isIP(claims.addr) && cidr('10.0.0.0/8').containsIP(claims.addr) && ip(claims.addr).family() == 4",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8'",
        "ip('::1').isLoopback() && ip.isCanonical('::1') && !ip.isCanonical('0:0:0:0:0:0:0:1')",
        "cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && cidr('10.0.0.0/8').prefixLength() == 8 && !isIP('::ffff:1.2.3.4')",
        "url(claims.url).getHostname() == 'issuer.example' && url(claims.url).getPort() == '8443'",
        "url(claims.url).getQuery()['x'] == ['1', '2'] && url(claims.url).getEscapedPath() == '/a/b' && !isURL('x y')",
        "!format.dns1123Label().validate(claims.sub).hasValue() && format.uuid().validate('x').hasValue()",
        "format.named('labelValue').value().validate('a_b') == optional.none()",
        // Time.
        "duration('1h') < duration('90m') && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "timestamp(int(claims.big)) > timestamp('2025-01-01T00:00:00Z')",
        "claims.big - 1.0 < claims.big",
        // The user.
        "user.username == 'alice' && user.uid == 'u1' && 'ops' in user.groups",
        "!user.username.startsWith('system:') && user.groups.all(g, !g.startsWith('system:'))",
        "user.extra['example.com/team'] == ['red', 'blue'] && 'example.com/team' in user.extra",
        "user.extra.example__dot__com__slash__team[0] == 'red' && user.?extra[?'x'].orValue([]) == []",
        "has(user.extra) && has(user.uid)",
    ] {
        assert_eq!(truth(text), Ok(true), "{text}");
    }
}

#[test]
fn what_does_not_compile() {
    for (text, returns, why) in [
        // Not declared.
        ("math.greatest(1, 2) == 2", Returns::Truth, "math"),
        ("base64.encode(b'x') == 'x'", Returns::Truth, "base64"),
        ("cel.bind(x, 1, x == 1)", Returns::Truth, "cel"),
        ("authorizer.path('/x').check('get').allowed()", Returns::Truth, "authorizer"),
        ("quantity('1Gi').isInteger()", Returns::Truth, "undeclared reference to 'quantity'"),
        ("semver('1.0.0').major() == 1", Returns::Truth, "undeclared reference to 'semver'"),
        ("claims.sub.reverse() == 'x'", Returns::Truth, ""),
        ("foo", Returns::Text, "undeclared reference to 'foo'"),
        ("user.username", Returns::Text, "undeclared reference to 'user'"),
        ("claims.sub.starstWith('x')", Returns::Truth, "undeclared reference to 'starstWith'"),
        ("claims.sub.startsWith()", Returns::Truth, "no matching overload"),
        ("claims.sub.startsWith('x', 'y')", Returns::Truth, "no matching overload"),
        ("x.y", Returns::Text, "undeclared"),
        ("google.protobuf.Timestamp{}", Returns::Text, "messages"),
        ("claims.a__b__c", Returns::Text, "escape"),
        // Types.
        ("'a' + 'b'", Returns::Truth, "must evaluate to bool"),
        ("claims.sub", Returns::Truth, "must evaluate to bool"),
        ("claims.?yes.orValue(true)", Returns::Truth, "must evaluate to bool"),
        ("claims.sub == 'x'", Returns::Text, "must evaluate to string"),
        ("1", Returns::Texts, "must evaluate to string or list(string)"),
        ("[1]", Returns::Texts, "must evaluate to string or list(string)"),
        ("{'a': 'b'}", Returns::Texts, "must evaluate to string or list(string)"),
        ("claims.?roles", Returns::Texts, "must evaluate to string or list(string)"),
        ("claims", Returns::Texts, "no value of its own"),
        ("['a']", Returns::Text, "must evaluate to string"),
        ("null", Returns::Text, "must evaluate to string"),
        ("1 == 1.0", Returns::Truth, "no matching overload for '_==_'"),
        ("1 == 'a'", Returns::Truth, "no matching overload"),
        ("1 == null", Returns::Truth, "no matching overload"),
        ("[1, 'a'].size() == 2", Returns::Truth, "expected type 'int' but found 'string'"),
        ("{1: 'a', 'b': 'c'}.size() == 2", Returns::Truth, "expected type 'int' but found 'string'"),
        ("[claims.sub, 'a'].size() == 2", Returns::Truth, "expected type"),
        ("[1].exists(x, x + 1)", Returns::Truth, "expected type 'bool'"),
        ("1 + 1.0 == 2.0", Returns::Truth, "no matching overload"),
        ("!'a'", Returns::Truth, "no matching overload"),
        ("'a'.foo == 'b'", Returns::Truth, "does not support field selection"),
        ("'a'.all(x, true)", Returns::Truth, "no list or map"),
        ("claims.exists(k, k == 'x')", Returns::Truth, "cannot be gone through"),
        ("claims.roles.exists(r, r == 'x')", Returns::Truth, "dyn("),
        ("'sub' in claims", Returns::Truth, "has(claims.name)"),
        ("size(claims) == 1", Returns::Truth, "has(claims.name)"),
        ("'%s'.format([claims.sub])", Returns::Text, "dyn("),
        ("'%s'.format([])", Returns::Text, "1 clauses for 0 values"),
        ("'%q'.format([1])", Returns::Text, "no clause"),
        ("'%f'.format([1.0])", Returns::Text, "not supported"),
        ("format.uri().validate('x').hasValue()", Returns::Truth, "undeclared reference to 'format.uri'"),
        ("int('x') == 1", Returns::Truth, "not a int"),
        ("{1.5: 1}.size() == 1", Returns::Truth, "cannot be a key"),
        ("string(timestamp(0)) == 'x'", Returns::Truth, "no matching overload"),
        ("claims == claims", Returns::Truth, "no value of its own"),
        ("duration('x') == duration('1s')", Returns::Truth, "not a duration"),
        ("timestamp('x') == timestamp('x')", Returns::Truth, "not a timestamp"),
        ("claims.sub.matches('(')", Returns::Truth, "not a regular expression"),
        ("claims.sub.find('[a')", Returns::Text, "not a regular expression"),
        ("has(claims)", Returns::Truth, "has() takes"),
        ("has(claims['sub'])", Returns::Truth, "has() takes"),
        ("['a'].all('x', true)", Returns::Truth, "a variable's name"),
        // Syntax.
        ("", Returns::Text, ""),
        ("claims.", Returns::Text, ""),
        ("claims.sub ==", Returns::Truth, ""),
        ("claims.sub = 'x'", Returns::Truth, ""),
        ("claims.`a`", Returns::Text, ""),
        ("'x", Returns::Text, ""),
        ("claims.sub\n==\n1 1", Returns::Truth, "line 3"),
    ] {
        let error = Expression::compile(text, Scope::Claims, returns).map(|_| ()).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn the_user_has_its_fields_and_their_types() {
    for (text, why) in [
        ("user.name == 'x'", "undefined field 'name'"),
        ("user.username == 1", "no matching overload"),
        ("user.groups == 'x'", "no matching overload"),
        ("user.groups.startsWith('x')", "no matching overload"),
        ("user.extra['k'] == 'v'", "no matching overload"),
        ("user['username'] == 'x'", "no matching overload"),
        ("user == user", "no value of its own"),
        ("claims.sub == 'x'", "undeclared"),
    ] {
        let error = Expression::compile(text, Scope::User, Returns::Truth).map(|_| ()).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    for text in ["user.groups", "user.extra['example.com/team']", "user.extra.example__dot__com__slash__team"]
    {
        let compiled = Expression::compile(text, Scope::User, Returns::Texts).unwrap();
        assert_eq!(compiled.texts(&user()), Err(OF_GO.to_owned()), "{text}");
    }
    let first = Expression::compile("[user.groups[0]]", Scope::User, Returns::Texts).unwrap();
    assert_eq!(first.texts(&user()).unwrap(), ["dev"]);
}

// === Kubernetes' own answers ===

#[derive(serde::Deserialize)]
struct Golden {
    cat: String,
    expression: String,
    scope: String,
    returns: String,
    input: Value,
    compiles: bool,
    value: Option<Value>,
}

fn golden() -> Vec<Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/authn-cel.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where the answer is another: always a refusal, and why.
const STRICTER: [(&str, &str); 10] = [
    (
        "claims and user are no values of their own",
        r"^(dyn\(|type\()?(claims|user)(\)| ==|\.(all|exists|map)\()",
    ),
    ("no quantity and no semver", "[qQ]uantity|[sS]emver"),
    ("no formats but those of names and uuid", r"^format\.(uri|byte|date|datetime)\(\)"),
    ("no messages", r"^google\.protobuf\.\w+\{"),
    ("no keys but bool, int, uint, string", r"\{(3\.0|1\.5|null): ?|claims\.ln in claims\.m$"),
    ("no text of a time, list or map", r"^string\(timestamp|^'%s'\.format\(\[(\[|\{|timestamp)"),
    ("no groups from a list of numbers, be it empty", r"^lists\.range"),
    ("whether an empty list or map of a claim is a zero value is not said", "ofNonZeroValue"),
    ("no list of Go's own as it is", r"\.validate\(.*\)\.(orValue|value)\("),
    ("what can only fail is refused at load", ""),
];

#[test]
fn kubernetes_answers() {
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for row in golden() {
        let scope = if row.scope == "user" { Scope::User } else { Scope::Claims };
        let input = match scope {
            Scope::Claims => Input::claims(row.input.as_object().unwrap()),
            Scope::User => {
                let texts =
                    |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
                let extra: BTreeMap<String, Vec<String>> = row.input["extra"]
                    .as_object()
                    .map(|extra| extra.iter().map(|(k, v)| (k.clone(), texts(v))).collect())
                    .unwrap_or_default();
                let text = |key: &str| row.input[key].as_str().unwrap_or_default();
                Input::user(text("username"), text("uid"), &texts(&row.input["groups"]), &extra)
            }
        };
        let returns = match row.returns.as_str() {
            "text" => Returns::Text,
            "texts" => Returns::Texts,
            _ => Returns::Truth,
        };
        let compiled = Expression::compile(&row.expression, scope, returns);
        let compiles = compiled.is_ok();
        let came = compiled.and_then(|compiled| match returns {
            Returns::Text => compiled.text(&input).map(Value::from),
            Returns::Texts => compiled.texts(&input).map(Value::from),
            Returns::Truth => compiled.truth(&input).map(Value::from),
        });
        if came.as_ref().ok() == row.value.as_ref() && compiles == row.compiles {
            continue;
        }
        let of = |(_, of): &&(&str, &str)| ::regex::Regex::new(of).unwrap().is_match(&row.expression);
        match (came, STRICTER.iter().find(of), row.value.is_none()) {
            (Err(_), Some((name, "")), fails) if fails && row.compiles => _ = seen.insert(*name),
            (Err(_), Some((name, of)), _) if !of.is_empty() => _ = seen.insert(*name),
            (came, ..) => {
                wrong.push(format!("{} {}: {came:?}, not {:?}", row.cat, row.expression, row.value))
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), STRICTER.len(), "each difference is met: {seen:?}");
}

#[test]
fn deep_texts_end_in_an_error() {
    let long = |piece: &str| piece.repeat(LONGEST / piece.len());
    for text in [
        long("("),
        long("["),
        long("{"),
        long("!"),
        long("-"),
        long("a."),
        long("a["),
        long("a?"),
        long("a?b:"),
        long("f("),
        long("a&&"),
        long("1+"),
        long("a.f(x,"),
        long("a.all(x,"),
        long("'"),
        long("b'\\x"),
        long("//\n"),
        long("a.?"),
        format!("claims{}", long(".b").get(..LONGEST - 6).unwrap()),
        format!("1{}", long("+1").get(..LONGEST - 4).unwrap()),
        format!("true{}", long("&&true").get(..LONGEST - 10).unwrap()),
        format!("{}1", long("true?1:").get(..LONGEST - 8).unwrap()),
        format!("claims.a{}", long(".f()").get(..LONGEST - 8).unwrap()),
    ] {
        let begun = std::time::Instant::now();
        let error = Expression::compile(&text, Scope::Claims, Returns::Texts).map(|_| ()).unwrap_err();
        assert!(
            begun.elapsed().as_secs() < 20 && error.len() < 200,
            "{:?} {}: {error}",
            begun.elapsed(),
            &text[..10]
        );
    }
}

#[test]
fn deep_expressions_need_no_more_stack_than_a_worker_has() {
    let nested = |before: &str, inner: &str, after: &str, depth: usize| {
        format!("{}{inner}{}", before.repeat(depth), after.repeat(depth))
    };
    let mut tried = 0;
    for (before, inner, after) in [
        ("[1].map(x, ", "1", ")"),
        ("[1].filter(x, ", "true", ")"),
        ("[1].all(x, y, ", "true", ")"),
        ("[1].exists(x, ", "true", ")"),
        ("[3].sortBy(x, ", "1", ").size()"),
        ("{'a': 1}.transformMap(k, v, ", "1", ")"),
        ("optional.of(1).optMap(x, ", "1", ")"),
        ("optional.of(1).optFlatMap(x, ", "optional.of(1)", ")"),
        ("string(", "'a'", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("true ? ", "1", " : 1"),
        ("!(-(", "1", "))"),
        ("claims[", "'a'", "]"),
        ("has(claims.a) && (", "true", ")"),
        ("'%s'.format([", "'a'", "])"),
        ("1 + (", "1", ")"),
    ] {
        for depth in (1..=NESTING).rev() {
            let text = format!("type({}) == string || true", nested(before, inner, after, depth));
            if let Ok(compiled) = Expression::compile(&text, Scope::Claims, Returns::Truth) {
                // A worker of tokio's has 2 MiB; half of that must do.
                let ran = thread::Builder::new().stack_size(1 << 20).spawn(move || compiled.truth(&claims()));
                let came = ran.unwrap().join().unwrap();
                assert!(came.is_ok(), "{before}: {came:?}");
                tried += 1;
                break;
            }
        }
    }
    assert!(tried > 14, "{tried}");
}

const OF_GO: &str = "kube-apiserver takes no list that such a function made; write .map(x, x) after it";

#[test]
fn texts_are_taken_as_groups_are() {
    for (text, texts) in [
        ("claims.sub", Ok(vec!["alice"])),
        ("claims.roles", Ok(vec!["admin", "dev"])),
        ("claims.nothing", Ok(vec![])),
        ("claims.empty", Ok(vec![])),
        ("claims.none", Ok(vec![])),
        ("claims.?missing.orValue([])", Ok(vec![])),
        ("claims.?roles.orValue([])", Ok(vec!["admin", "dev"])),
        ("null", Ok(vec![])),
        ("''", Ok(vec![])),
        ("[]", Ok(vec![])),
        ("['a', '']", Ok(vec!["a"])),
        ("claims.sub.split('i').map(x, x)", Ok(vec!["al", "ce"])),
        ("claims.sub.split('i')", Err(OF_GO)),
        ("has(claims.missing) ? [] : claims.sub.findAll('x')", Err(OF_GO)),
        ("has(claims.missing) ? claims.sub.findAll('x') : claims.sub", Ok(vec!["alice"])),
        ("[claims.sub.split('i')[1]]", Ok(vec!["ce"])),
        ("claims.mixed", Err("expected a string or a list of strings, found double")),
        ("claims.n", Err("expected a string or a list of strings, found double")),
        ("claims.yes", Err("expected a string or a list of strings, found bool")),
        ("claims.nested", Err("expected a string or a list of strings, found map")),
        ("claims.missing", Err("no such key: missing")),
    ] {
        let came = Expression::compile(text, Scope::Claims, Returns::Texts).unwrap().texts(&claims());
        let texts = texts.map(|texts| texts.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
        assert_eq!(came, texts, "{text}");
    }
}

#[test]
fn text_is_text() {
    for (text, came) in [
        ("claims.sub", Ok("alice")),
        ("claims.empty", Ok("")),
        ("'x:' + claims.sub", Ok("x:alice")),
        ("claims.n", Err("expected a string, found double")),
        ("claims.nothing", Err("expected a string, found null_type")),
        ("claims.roles", Err("expected a string, found list")),
        ("claims.sub + claims.n", Err("'add' does not apply to such operands")),
        ("claims.sub.substring(99)", Err("substring failed")),
        ("claims.roles[99]", Err("index out of bounds")),
        ("claims[claims.sub]", Err("no such key")),
        ("string(1 / int(claims.half))", Err("division by zero")),
    ] {
        let compiled = Expression::compile(text, Scope::Claims, Returns::Text).unwrap();
        assert_eq!(compiled.text(&claims()), came.map(str::to_owned).map_err(str::to_owned), "{text}");
    }
    // Claims are personal.
    assert!(!format!("{:?}", claims()).contains("alice"));
    let rule = Expression::compile("user.username == 'x'", Scope::User, Returns::Truth).unwrap();
    rule.truth(&claims()).unwrap_err();
}

#[test]
fn what_is_selected_is_found_as_kubernetes_finds_it() {
    for (text, path, selects) in [
        ("claims.email", &["email"][..], true),
        ("claims.?email.orValue('')", &["email"], true),
        ("has(claims.email) ? claims.sub : ''", &["email"], true),
        ("['a'].map(x, claims.email)[0]", &["email"], true),
        ("{'k': claims.email}.k", &["email"], true),
        (
            "claims.sub + (claims.?email_verified.orValue(false) == true ? 'a' : 'b')",
            &["email_verified"],
            true,
        ),
        ("claims.email.lowerAscii()", &["email"], true),
        ("claims.email.work", &["email"], true),
        ("claims.email.work", &["email", "work"], true),
        ("claims['email']", &["email"], false),
        ("claims.nested.email", &["email"], false),
        ("claims.sub", &["email"], false),
        ("'claims.email'", &["email"], false),
    ] {
        let compiled = Expression::compile(text, Scope::Claims, Returns::Text).unwrap();
        assert_eq!(compiled.selects(path), selects, "{text}");
    }
}

/// Nothing that is declared is missing when it is evaluated.
#[test]
fn every_declared_function_is_there() {
    let context = Context::with_env(runtime::ENV.clone().unwrap());
    for (name, way) in declared::all().filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        let args: Vec<String> = way.args.iter().map(example).collect();
        let text = match (way.method, args.split_first()) {
            (true, Some((target, rest))) => format!("dyn({target}).{name}({})", rest.join(", ")),
            _ => format!("{name}({})", args.join(", ")),
        };
        let compiled = Expression::compile(&format!("type({text}) == string"), Scope::Claims, Returns::Truth);
        let program = compiled.unwrap_or_else(|why| panic!("{text}: {why}")).program;
        let came = runtime::bounded(|| match CelValue::resolve_val(&program, &context) {
            Err(ExecutionError::NoSuchOverload(why)) => Err(why.to_string()),
            Err(ExecutionError::UndeclaredReference(name)) => Err(format!("undeclared: {name}")),
            _ => Ok(()),
        });
        assert_eq!(came, Ok(()), "{text}");
    }
}

/// A value of that type.
fn example(of: &Type) -> String {
    match of {
        Type::Bool => "true".to_owned(),
        Type::Int => "1".to_owned(),
        Type::Uint => "1u".to_owned(),
        Type::Double => "1.0".to_owned(),
        Type::String => "dyn('1')".to_owned(),
        Type::Bytes => "b'1'".to_owned(),
        Type::Timestamp => "timestamp(0)".to_owned(),
        Type::Duration => "duration('1s')".to_owned(),
        Type::Named("net.IP") => "ip('1.1.1.1')".to_owned(),
        Type::Named("net.CIDR") => "cidr('1.1.1.1/8')".to_owned(),
        Type::Named("kubernetes.URL") => "url('/')".to_owned(),
        Type::Named(_) => "format.uuid()".to_owned(),
        Type::List(of) => format!("[{}]", example(of)),
        Type::Map(key, value) => format!("{{{}: {}}}", example(key), example(value)),
        Type::Optional(of) => format!("optional.of({})", example(of)),
        _ => "'a'".to_owned(),
    }
}

#[test]
fn work_is_bounded() {
    let many: Vec<Value> = (0..20_000).map(|n| json!(format!("{n}"))).collect();
    let claims = json!({"l": many, "s": "a".repeat(60_000), "sub": "x"});
    let input = Input::claims(claims.as_object().unwrap());
    for text in [
        "dyn(claims.l).all(x, dyn(claims.l).all(y, dyn(claims.l).all(z, x != 'a' || y != 'b' || z != 'c')))",
        "dyn(claims.l).exists(x, dyn(claims.l).exists(y, x.missing == y)) || true",
        "dyn(claims.l).map(x, dyn(claims.l).map(y, y)).size() == 1",
        "dyn(claims.l).filter(x, x in claims.l).size() == 20000",
        "claims.l.distinct().size() == 1",
        "sets.contains(claims.l, claims.l)",
        "lists.range(99999999999).size() == 0",
        "claims.s.replace('', claims.s) == ''",
        "claims.s.split('').join(claims.s) == ''",
        "[claims.s].map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x)[0] == ''",
        "[claims.l].map(x, dyn(x) + dyn(x)).map(x, x + x).map(x, x + x).map(x, x + x).size() == 1",
        "claims.s.matches('^(([a-z])+.)+[A-Z]([a-z])+$') || 1 / 0 == 1",
        "claims.s.matches('((a{1,100}){1,100}){1,100}')",
    ] {
        let begun = std::time::Instant::now();
        let came =
            Expression::compile(text, Scope::Claims, Returns::Truth).and_then(|rule| rule.truth(&input));
        came.unwrap_err();
        assert!(begun.elapsed().as_secs() < 30, "{text}: {:?}", begun.elapsed());
    }
    // What anybody would write of as many groups is no trouble.
    let rule =
        "dyn(claims.l).filter(x, x.startsWith('1')).map(x, 'p:' + x).size() > 10 && !('nobody' in claims.l)";
    assert_eq!(Expression::compile(rule, Scope::Claims, Returns::Truth).unwrap().truth(&input), Ok(true));
}

mod whatever {
    use super::*;
    use proptest::{
        collection::{hash_map, vec},
        prelude::*,
    };
    use std::{cell::RefCell, rc::Rc};

    /// Pieces of expressions in any order.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "claims",
            ".",
            "?",
            "a",
            "sub",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ":",
            ",",
            "'x'",
            "\"",
            "1",
            "1.0",
            "1u",
            "null",
            "true",
            "==",
            "!=",
            "<",
            "&&",
            "||",
            "!",
            "-",
            "+",
            "*",
            "/",
            "%",
            " in ",
            "has",
            "size",
            "all",
            "map",
            "x",
            "exists",
            "filter",
            "optional",
            "of",
            "none",
            "orValue",
            "optMap",
            "format",
            "matches",
            "split",
            "join",
            "string",
            "int",
            "type",
            "dyn",
            "timestamp",
            "duration",
            "r'\\d'",
            "b'x'",
            "'''",
            "//",
            "\n",
            "\\",
            "@",
            "$",
            "\u{e9}",
            "__dot__",
            "transformMap",
            "sortBy",
            "sets",
            "contains",
            "ip",
            "cidr",
            "url",
            "google",
            "protobuf",
            "in",
            "for",
            "_",
        ]);
        vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
            Just(json!("2026-01-01T00:00:00Z")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key =
                prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("a.b".to_owned()), ".{0,3}"];
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                hash_map(key, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Of each kind of operation one, on claims that may be anything.
    const EXPRESSIONS: [&str; 40] = [
        "claims.a",
        "claims.a.b",
        "claims['a']['b']",
        "claims.a[0]",
        "claims.?a.?b.orValue(claims.b)",
        "claims.a[?claims.b]",
        "has(claims.a.b)",
        "claims.a == claims.b",
        "claims.a != claims.b",
        "claims.a < claims.b",
        "claims.a >= claims.b",
        "claims.a + claims.b",
        "claims.a - claims.b",
        "claims.a * claims.b",
        "claims.a / claims.b",
        "claims.a % claims.b",
        "-dyn(claims.a)",
        "!dyn(claims.a)",
        "claims.a in claims.b",
        "claims.a[claims.b]",
        "claims[claims.a]",
        "size(claims.a)",
        "string(claims.a)",
        "int(claims.a)",
        "double(claims.a)",
        "timestamp(claims.a)",
        "duration(claims.a)",
        "dyn(claims.a).map(x, x)",
        "dyn(claims.a).all(k, v, k == v)",
        "dyn(claims.a).sortBy(x, x)",
        "claims.a.split(claims.b)",
        "claims.a.matches(claims.b)",
        "claims.a.substring(int(claims.b))",
        "claims.a.indexOf(claims.b)",
        "claims.a.format([dyn(claims.b)])",
        "sets.contains(claims.a, claims.b)",
        "claims.a.sum()",
        "cidr(claims.a).masked()",
        "url(claims.a).getQuery()",
        "claims.a.flatten(int(claims.b))",
    ];

    thread_local! {
        static COMPILED: RefCell<Vec<Rc<Expression>>> = const { RefCell::new(Vec::new()) };
    }

    fn compiled() -> Vec<Rc<Expression>> {
        COMPILED.with_borrow_mut(|known| {
            if known.is_empty() {
                let compile = |text: &&str| {
                    Rc::new(
                        Expression::compile(&format!("[dyn({text})]"), Scope::Claims, Returns::Texts)
                            .unwrap(),
                    )
                };
                known.extend(EXPRESSIONS.iter().map(compile));
            }
            known.clone()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn compiling_any_text_ends(text in prop_oneof![pieces(), ".{0,24}"]) {
            for returns in [Returns::Text, Returns::Truth] {
                if let Err(why) = Expression::compile(&text, Scope::Claims, returns) {
                    prop_assert!(!why.contains('\n') && why != PANICKED, "{}", why);
                }
            }
        }

        #[test]
        fn evaluating_over_anything_ends(a in values(), b in values()) {
            let claims = Map::from_iter([("a".to_owned(), a), ("b".to_owned(), b)]);
            let input = Input::claims(&claims);
            for expression in compiled() {
                if let Err(why) = expression.texts(&input) {
                    prop_assert!(why != PANICKED, "{:?}", expression);
                }
            }
        }
    }
}

#[test]
fn what_rounds_leave_behind_is_bounded_by_its_size() {
    let input = |tenant: usize, groups: usize| {
        let groups: Vec<String> = (0..groups).map(|i| format!("g{i}")).collect();
        let claims = json!({"tenant": "t".repeat(tenant), "groups": groups});
        Input::claims(claims.as_object().unwrap())
    };
    for text in [
        "dyn(claims.groups).map(g, claims.tenant + g)",
        "dyn(claims.groups).map(g, claims.tenant != '', claims.tenant + g)",
        "[dyn(claims.groups).transformMap(i, g, claims.tenant + g).size() > 0 ? 'x' : 'y']",
        "dyn(claims.groups).map(g, claims.groups).map(g, 'x')",
    ] {
        let expression = Expression::compile(text, Scope::Claims, Returns::Texts).unwrap();
        assert!(expression.texts(&input(100, 300)).is_ok(), "{text}");
        let too_much = expression.texts(&input(20_000, 3_000));
        assert_eq!(too_much, Err("the expression took too much work".to_owned()), "{text}");
    }
}

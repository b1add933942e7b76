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
        "'sub' in claims && !('missing' in claims)",
        "size(claims.roles) == 3 && claims.roles.size() == 3 && size(claims) > 10",
        "claims.nested.list[0].k == 'v'",
        "claims.a__dot__b == 'dotted' && claims.a__slash__b == 'slashed' && claims.__namespace__ == 'ns'",
        "claims.namespace == 'ns'",
        "claims.nested.a__dot__b == 1 && claims['a.b'] == 'dotted' && claims.nested['a__dot__b'] == 1",
        "['a__dot__b', 'a.b'].all(k, claims[k] == 'dotted')",
        "{'a__dot__b': 1}.a__dot__b == 1",
        "'a__dot__b' in claims && !('a__dot__b' in claims.nested) && 'a.b' in claims.nested",
        // Strings.
        "'\u{e9}'.size() == 1 && claims.accent.size() == 1",
        "claims.email.startsWith('alice@') && claims.email.endsWith('.com') && claims.email.contains('@')",
        "claims.email.split('@')[1] == 'example.com' && claims.email.split('@', 1).size() == 1",
        "claims.email.matches('^[a-z]+@example[.]com$') && matches(claims.sub, 'ali')",
        "'A-B'.lowerAscii() == 'a-b' && claims.sub.upperAscii() == 'ALICE' && ' x '.trim() == 'x'",
        "claims.sub.replace('a', 'o') == 'olice' && 'aaa'.replace('a', 'b', 2) == 'bba'",
        "claims.sub.substring(1) == 'lice' && claims.sub.substring(1, 3) == 'li' && claims.sub.charAt(0) == 'a'",
        "claims.sub.indexOf('i') == 2 && claims.sub.lastIndexOf('x') == -1",
        "['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'",
        "'%s:%d'.format([claims.sub, 3]) == 'alice:3'",
        "strings.quote('x') == '\"x\"'",
        "claims.email.find('[^@]+$') == 'example.com' && claims.email.findAll('e').size() == 3",
        "claims.email.findAll('e', 2) == ['e', 'e'] && 'x'.find('y') == ''",
        // Lists, maps, comprehensions.
        "claims.roles.exists(r, r == 'admin') && claims.roles.all(r, r != 'root')",
        "claims.roles.exists_one(r, r == 'dev') && claims.roles.existsOne(r, r == 'dev')",
        "claims.roles.filter(r, r != '').map(r, 'x:' + r) == ['x:admin', 'x:dev']",
        "claims.roles.map(r, r != '', 'x:' + r) == ['x:admin', 'x:dev']",
        "claims.nested.deep.map(k, k) == ['x']",
        "claims.nested.deep.all(k, v, k == 'x' && v == 'y') && claims.roles.exists(i, r, i == 2 && r == 'dev')",
        "claims.roles.transformList(i, r, string(i) + r) == ['0admin', '1', '2dev']",
        "claims.roles.transformList(i, r, r != '', r) == ['admin', 'dev']",
        "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}",
        "{'a': 1, 'b': 2}.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'}",
        "claims.numbers.sortBy(n, n) == [1.0, 2.0, 3.0] && claims.numbers.sort()[0] == 1",
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
        "claims.mixed.exists(m, m.startsWith('a'))",
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
        ("[claims.sub, 'a'].size() == 2", Returns::Truth, "expected type"),
        ("[1].exists(x, x + 1)", Returns::Truth, "expected type 'bool'"),
        ("1 + 1.0 == 2.0", Returns::Truth, "no matching overload"),
        ("!'a'", Returns::Truth, "no matching overload"),
        ("'a'.foo == 'b'", Returns::Truth, "does not support field selection"),
        ("'a'.all(x, true)", Returns::Truth, "no list or map"),
        ("claims.exists(k, k == 'x')", Returns::Truth, "cannot be gone through"),
        ("claims == claims", Returns::Truth, "no value of its own"),
        ("duration('x') == duration('1s')", Returns::Truth, "not a duration"),
        ("timestamp('x') == timestamp('x')", Returns::Truth, "not a timestamp"),
        ("claims.sub.matches('(')", Returns::Truth, "not a regular expression"),
        ("claims.sub.find('[a')", Returns::Text, "not a regular expression"),
        ("has(claims)", Returns::Truth, "has() takes"),
        ("has(claims['sub'])", Returns::Truth, "has() takes"),
        ("claims.roles.all('x', true)", Returns::Truth, "a variable's name"),
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
    for text in ["user.groups", "user.extra"] {
        Expression::compile(text, Scope::User, Returns::Text).map(|_| ()).unwrap_err();
    }
}

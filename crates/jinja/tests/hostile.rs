//! Templates that mean no good: each ends, soon and in little memory, with an error or an answer. The budget is counted
//! and not measured, so these tests hold on any machine.

#![allow(missing_docs)]

use remat_jinja::{Budget, Host, Kind, Template, Value};

/// What a rendering may use up here: a tenth of what small data has, so that all of this takes a second.
const BUDGET: Budget = Budget { steps: 500_000, bytes: 32 << 20 };

fn render(source: &str) -> Result<String, remat_jinja::Error> {
    let list = |values: &[&str]| Value::list(values.iter().map(|value| Value::from(*value)).collect()).unwrap();
    let variables = [("text", Value::from("hello hello hello")), ("xs", list(&["c", "a", "b"]))];
    let host = Host { strftime_now: &|format| Ok(format.to_string()), budget: BUDGET };
    Template::new(source)?.render(&variables, &host).map(|rendering| rendering.text)
}

/// A loop that doubles something until the budget is used up.
fn doubling(start: &str, step: &str) -> String {
    format!("{{% set n = namespace(v={start}) %}}{{% for i in range(200) %}}{{% set n.v = {step} %}}{{% endfor %}}")
}

/// A list that holds itself twice at every level: small, but endless to walk over.
fn wide(use_it: &str) -> String {
    doubling("[1]", "[n.v, n.v]").replace("range(200)", "range(60)") + use_it
}

/// A list nested as deep as anybody likes.
fn deep(use_it: &str) -> String {
    doubling("[1]", "[n.v]").replace("range(200)", "range(10000)") + use_it
}

fn hostile() -> Vec<String> {
    let mut sources: Vec<String> = [
        // Loops without end.
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% set x = xs|sort|list %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) if range(99999)|list %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% for i in [1, 2] %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
        "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% for x in [[1, 2]] recursive %}{{ loop([x, x]) }}{% endfor %}",
        "{% set n = namespace() %}{% macro f() %}{{ n.f() }}{% endmacro %}{% set n.f = f %}{{ f() }}",
        "{% macro f(a=f()) %}{% endmacro %}{% set f2 = f %}{{ f() }}",
        // Much out of little.
        "{{ 'a' * 10**18 }}",
        "{{ [1] * 10**12 }}",
        "{{ (10**9) * 'ab' }}",
        "{{ xs * 99999999999999999999999999 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 2 ** 99999999 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ text|center(10**15) }}",
        "{{ text.center(10**15) }}",
        "{{ text.ljust(10**15) }}",
        "{{ text.zfill(10**15) }}",
        "{{ ('\\t' * 100000).expandtabs(10**9) }}",
        "{{ text|indent(10**15) }}",
        "{{ ('a\\n' * 100000)|indent(100000) }}",
        "{{ text|indent('x' * 10000000) * 100 }}",
        "{{ '%999999999999d' % 1 }}",
        "{{ '%.999999999f' % 1.5 }}",
        "{{ '%99999s' % text * 99999 }}",
        "{{ '{:>99999999999}'.format(1) }}",
        "{{ ('{:>99999}' * 99999).format(1) }}",
        "{{ ('{0:>99999}' * 99999).format(1) }}",
        "{{ '{:.99999999}'.format(1.5) }}",
        "{{ [1]|tojson(indent=10**12) }}",
        "{{ xs|slice(10**18)|list }}",
        "{{ xs|batch(10**18, 1)|list }}",
        "{{ xs|batch(2, text * 1000000)|list|string * 9 }}",
        "{{ range(10**18)|list }}",
        "{{ range(100000)|list|string * 1000 }}",
        "{{ text|replace('', text * 100000)|replace('', text * 100000) }}",
        "{{ (text * 100000).replace('l', text * 1000) }}",
        "{{ (text * 100000)|list|length }}{{ ((text * 100000)|list)|string * 100 }}",
        "{{ xs|join(text * 10000000) }}",
        "{{ range(99999)|join(text * 1000) }}",
        "{{ (text * 1000000)|urlencode|urlencode|urlencode }}",
        "{{ (('<' * 1000000)|e)|e|e|e|e|e }}",
        "{{ (text * 1000000).split('l')|string * 99 }}",
        "{{ text|truncate(10**18) * 99999999 }}",
        "{{ 1e308 * 10|float ** 9999999 }}",
        // Work that no statement shows.
        "{% for i in range(999) %}{{ range(99999)|sort|first }}{% endfor %}",
        "{% for i in range(999) %}{{ range(99999)|list|unique|first }}{% endfor %}",
        "{% for i in range(9999) %}{{ (99999 in range(99999)|list) }}{% endfor %}",
        "{% for i in range(9999) %}{{ range(99999)|sum }}{% endfor %}",
        "{% for i in range(9999) %}{{ range(99999)|max }}{% endfor %}",
        "{% for i in range(999) %}{{ range(99999)|groupby(0)|length }}{% endfor %}",
        "{% for i in range(999) %}{{ range(99999)|map('string')|map('upper')|list|length }}{% endfor %}",
        "{% for i in range(999) %}{{ range(99999)|select('odd')|list|length }}{% endfor %}",
        "{% for i in range(999) %}{{ range(99999)|reverse|first }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t.count('b') }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t.find('b') }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t == t ~ '' }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t[-1] }}{{ t|length }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t|upper|length }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t is lower }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ 'b' in t }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{% for i in range(99999) %}{{ t.strip('b')|length }}{% endfor %}",
        "{% set t = ' ' * 1000000 %}{% for i in range(99999) %}{{ t.isspace() }}{% endfor %}",
        "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l.index(99998) }}{% endfor %}",
        "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l == l + [] }}{% endfor %}",
        "{% set l = range(99999)|list %}{% for i in range(99999) %}{% set m = l[::-1] %}{% endfor %}",
        "{% set d = dict(range(9999)|map('string')|map('list')|list|batch(2)) %}{{ d }}",
        "{% for i in range(9999) %}{% set x %}{{ text * 1000 }}{% endset %}{% endfor %}",
        "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = n.l + [i] %}{% endfor %}",
        "{% set n = namespace(t='') %}{% for i in range(99999) %}{% set n.t = n.t ~ text %}{% endfor %}",
        // Nothing that ends the process.
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
        "{% set n = namespace() %}{% set n.n = [n, n] %}{{ n.n == n.n }}{{ n.n|tojson }}",
        "{% set n = namespace() %}{% set n.n = {'n': n} %}{{ n.n }}",
        "{{ (-9223372036854775807 - 1) // -1 }}{{ (2**126 + 2**126) }}{{ -(2**126) * 4 }}",
        "{{ xs[:: -10**30] }}{{ xs[10**30:] }}{{ xs[-10**30:10**30:10**30] }}",
        "{{ 1 % 0 }}",
        "{{ 0 ** -1 }}",
        "{{ (1e308 * 10)|int }}{{ (1e308 * 10 - 1e308 * 10)|round(2) }}{{ [1e308 * 10 - 1e308 * 10, 1, 2]|sort }}",
        "{{ 5|round(10**18) }}",
        "{{ xs|batch(0)|list }}",
        "{{ cycler().next() }}",
        "{{ [1, 'a', none, xs]|sort }}",
    ]
    .map(str::to_string)
    .to_vec();
    for step in ["n.v ~ n.v", "n.v + n.v", "n.v * 2", "n.v|join(n.v)", "''.join([n.v, n.v])", "n.v|replace('h', n.v)"] {
        sources.push(doubling("text", step));
    }
    for step in ["n.v.replace('h', n.v)", "[n.v, n.v]|join", "'%s%s' % (n.v, n.v)", "'{}{}'.format(n.v, n.v)"] {
        sources.push(doubling("text", step));
    }
    for step in ["n.v + n.v", "n.v * 2", "n.v|list + n.v", "(n.v|string)|list"] {
        sources.push(doubling("[1, 2]", step));
    }
    sources.push(doubling("text", "n.v|tojson ~ n.v|tojson"));
    sources.push("{% set n = namespace(s='abcdefgh') %}{% for i in range(99) %}{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}{% endfor %}".into());
    for use_it in [
        "{{ n.v }}",
        "{{ n.v|tojson }}",
        "{{ n.v == [n.v[0], n.v[1]] }}",
        "{{ [n.v]|sort }}",
        "{{ [n.v, [n.v[0], n.v[1]]]|sort }}",
        "{{ [n.v[0], n.v[1]] in [n.v] }}",
        "{{ [n.v, [n.v[0], n.v[1]]]|max }}",
        "{{ n.v|string|length }}",
        "{{ n.v < [n.v[0], n.v[1]] }}",
        "{{ {'a': n.v} == {'a': [n.v[0], n.v[1]]} }}",
        "{{ '%s' % [n.v] }}",
        "{{ [n.v]|join }}",
        "{{ [n.v]|map('string')|list }}",
        "{{ n.v|sum(start=[]) }}",
        "{{ [[n.v], [[n.v[0], n.v[1]]]]|groupby(0) }}",
        "{{ [n.v, n.v]|unique|list }}",
        "{{ [1].index(n.v) }}",
        "{{ {(n.v, 1): 2} }}",
        "{% set m = namespace(a=n.v) %}{{ m.a }}",
        "{{ [n.v, [n.v[0], n.v[1]]]|select('eq', n.v)|list|length }}",
    ] {
        sources.push(wide(use_it));
    }
    for use_it in ["{{ n.v }}", "{{ n.v|tojson(indent=1) }}", "{{ n.v == n.v }}", "", "{{ [n.v]|sort }}"] {
        sources.push(deep(use_it));
    }
    // Texts that are hard to read.
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-", ""), ("not ", ""), ("1 if ", ""), ("f(", ")")] {
        sources.push(format!("{{{{ {}1{} }}}}", open.repeat(50_000), close.repeat(50_000)));
    }
    for (begin, end) in
        [("{% if 1 %}", "{% endif %}"), ("{% for x in xs %}", "{% endfor %}"), ("{% set x %}", "{% endset %}")]
    {
        sources.push(begin.repeat(20_000) + &end.repeat(20_000));
    }
    for item in
        ["+1", ".a", "[0]", "|upper", "~1", " if 1", " and 1", " is defined", "()", " == 1", " if 1 else 1", "**2"]
    {
        sources.push(format!("{{{{ xs{} }}}}", item.repeat(50_000)));
    }
    for text in ["{{ ", "{% ", "{# ", "{{ '", "{% raw %}", "{{ {", "{%- if 1 -%}"] {
        sources.push(text.repeat(30_000));
    }
    sources
}

#[test]
fn hostile_templates_end_with_an_error_or_an_answer() {
    let sources = hostile();
    let (mut budget, mut other, mut answers) = (0, 0, 0);
    for source in &sources {
        match render(source) {
            Err(error) if error.kind() == Kind::Budget => budget += 1,
            Err(error) => {
                assert!(error.to_string().len() < 400, "{error}");
                other += 1;
            }
            Ok(text) => {
                assert!(text.len() < 32 << 20);
                answers += 1;
            }
        }
    }
    assert!(sources.len() >= 150, "{}", sources.len());
    assert!(budget >= 90, "{budget} used up the budget, {other} failed, {answers} gave an answer");
}

#[test]
fn nothing_is_left_to_drop_that_nests_without_end() {
    // Values that are nested as deep as they may be, printed and dropped.
    let source = "{% set n = namespace(v=[1]) %}{% for i in range(190) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v == n.v }}{{ n.v|tojson|length }}";
    assert_eq!(render(source).unwrap(), "True383");
    let error = render(&source.replace("190", "250")).unwrap_err();
    assert_eq!(error.kind(), Kind::Budget);
    assert!(error.to_string().starts_with("a list or dictionary is nested more than 200 deep"), "{error}");
}

#[test]
fn templates_reach_nothing_outside() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% extends 'a' %}",
        "{{ debug() }}",
        "{{ env('HOME') }}",
        "{{ ''.__class__() }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn cut_and_changed_templates_are_errors_or_templates() {
    let source = "{%- macro m(a, b=1) -%}{{ a|upper ~ b }}{%- endmacro %}\n{% for x in xs if x != 'b' %}{{ m(x, loop.index) }}\
                  {% else %}-{% endfor %}{% set n = namespace(t=0) %}{{ {'a': [1, 2.5, 'x\\n']}|tojson(indent=1) }}\
                  {{ text[1:4:2].split('l')[-1] if text is string and not xs is mapping else '%s' % text }}{% generation %}g{% endgeneration %}";
    assert!(render(source).is_ok());
    for cut in 0..source.len() {
        drop(render(&source[..cut]));
        drop(render(&source[cut..]));
    }
    // Every byte replaced by some that mean something to a template.
    for at in 0..source.len() {
        for byte in "{}%-'|([#.1 x".chars() {
            let mut changed = source.to_string();
            changed.replace_range(at..=at, &byte.to_string());
            drop(render(&changed));
        }
    }
}

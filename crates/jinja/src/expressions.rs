//! The grammar of expressions, lowest precedence first: `if`, `or`, `and`, `not`, comparisons, `+ -`, `~`, `* / // %`, `**`,
//! signs, and what stands behind a value. Jinja2's own order, its oddities included: `-1|abs` is 1, for a filter binds
//! less than a sign, and `~` more than `+`.

use crate::ast::{Arguments, Binary, Comparison, Expr, Name, Postfix, PostfixKind};
use crate::builtins::{Filter, Test};
use crate::error::{Error, Result};
use crate::lexer::Token;
use crate::parser::Parser;
use crate::value::Value;

/// Each of these nests the one before it.
const MOST_IFS: usize = 8;

impl Postfix {
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.kind, PostfixKind::Call(_) | PostfixKind::Method(..))
    }
}

impl Parser {
    /// A whole expression.
    pub(crate) fn expression(&mut self) -> Result<Expr> {
        self.deeper(|parser| {
            let mut value = parser.or()?;
            let mut nested = 0;
            while parser.skip_name("if") {
                nested += 1;
                if nested > MOST_IFS {
                    return Err(Error::syntax(parser.line(), format!("more than {MOST_IFS} 'if' in a row")));
                }
                let condition = parser.or()?;
                let otherwise = if parser.skip_name("else") { Some(parser.expression()?) } else { None };
                value = Expr::If(Box::new((value, condition, otherwise)));
            }
            Ok(value)
        })
    }

    /// One expression, or several with commas, which are a tuple. Ends at the end of a tag or at one of `ends`.
    pub(crate) fn tuple(&mut self, with_if: bool, ends: &[&str]) -> Result<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let ended = matches!(self.peek(), Token::OutputEnd | Token::BlockEnd)
                || self.is_sign(")")
                || ends.iter().any(|end| self.is_name(end));
            if ended && is_tuple {
                return Ok(Expr::Tuple(items));
            }
            items.push(if with_if { self.expression()? } else { self.deeper(Parser::or)? });
            if !self.skip_sign(",") {
                break;
            }
            is_tuple = true;
        }
        match is_tuple {
            true => Ok(Expr::Tuple(items)),
            false => items.pop().ok_or_else(|| self.unexpected("an expression")),
        }
    }

    fn or(&mut self) -> Result<Expr> {
        let mut operands = vec![self.and()?];
        while self.skip_name("or") {
            operands.push(self.and()?);
        }
        Ok(alone(operands, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr> {
        let mut operands = vec![self.not()?];
        while self.skip_name("and") {
            operands.push(self.not()?);
        }
        Ok(alone(operands, Expr::And))
    }

    fn not(&mut self) -> Result<Expr> {
        if self.skip_name("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Token::Sign("==") => Comparison::Eq,
                Token::Sign("!=") => Comparison::Ne,
                Token::Sign("<") => Comparison::Lt,
                Token::Sign("<=") => Comparison::Le,
                Token::Sign(">") => Comparison::Gt,
                Token::Sign(">=") => Comparison::Ge,
                Token::Name(name) if **name == *"in" => Comparison::In,
                Token::Name(name) if **name == *"not" => match self.peek_second() {
                    Token::Name(name) if **name == *"in" => {
                        self.next();
                        Comparison::NotIn
                    }
                    _ => break,
                },
                _ => break,
            };
            self.next();
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.chain(Parser::concat, &[("+", Binary::Add), ("-", Binary::Sub)])
    }

    fn concat(&mut self) -> Result<Expr> {
        let mut operands = vec![self.product()?];
        while self.skip_sign("~") {
            operands.push(self.product()?);
        }
        Ok(alone(operands, Expr::Concat))
    }

    fn product(&mut self) -> Result<Expr> {
        let signs = [("*", Binary::Mul), ("/", Binary::Div), ("//", Binary::FloorDiv), ("%", Binary::Mod)];
        self.chain(Parser::power, &signs)
    }

    fn power(&mut self) -> Result<Expr> {
        self.chain(|parser| parser.unary(true), &[("**", Binary::Pow)])
    }

    fn chain(&mut self, operand: impl Fn(&mut Self) -> Result<Expr>, signs: &[(&'static str, Binary)]) -> Result<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, binary)) = signs.iter().find(|(sign, _)| self.is_sign(sign)) {
            self.next();
            rest.push((*binary, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Chain(Box::new(first), rest) })
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        self.deeper(|parser| {
            let value = if parser.skip_sign("-") {
                Expr::Negative(Box::new(parser.unary(false)?))
            } else if parser.skip_sign("+") {
                Expr::Positive(Box::new(parser.unary(false)?))
            } else {
                parser.primary()?
            };
            let mut postfixes = Vec::new();
            parser.postfixes(&mut postfixes)?;
            if with_filters {
                parser.filters_and_tests(&mut postfixes)?;
            }
            Ok(if postfixes.is_empty() { value } else { Expr::Postfix(Box::new(value), postfixes) })
        })
    }

    fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        Ok(match self.next() {
            Token::Name(name) => match &*name {
                "true" | "True" => Expr::Literal(Value::Bool(true)),
                "false" | "False" => Expr::Literal(Value::Bool(false)),
                "none" | "None" => Expr::Literal(Value::None),
                _ => {
                    self.note_read(&name);
                    Expr::Name(name)
                }
            },
            Token::Str(text) => {
                let mut whole = text.to_string();
                while let Token::Str(more) = self.peek() {
                    whole.push_str(more);
                    self.next();
                }
                Expr::Literal(Value::text(whole))
            }
            Token::Int(number) => Expr::Literal(Value::Int(number)),
            Token::Float(number) => Expr::Literal(Value::Float(number)),
            Token::Sign("(") if self.skip_sign(")") => Expr::Tuple(Vec::new()),
            Token::Sign("(") => {
                let value = self.tuple(true, &[])?;
                self.expect_sign(")")?;
                value
            }
            Token::Sign("[") => Expr::List(self.items("]", Parser::expression)?),
            Token::Sign("{") => {
                let entry = |parser: &mut Parser| {
                    let key = parser.expression()?;
                    parser.expect_sign(":")?;
                    Ok((key, parser.expression()?))
                };
                Expr::Dict(self.items("}", entry)?)
            }
            _ => {
                self.step_back();
                return Err(self.unexpected("a value").at(line));
            }
        })
    }

    /// Items with commas between and perhaps behind them, up to a closing bracket.
    fn items<T>(&mut self, closing: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.is_sign(closing) {
            if !items.is_empty() {
                self.expect_sign(",")?;
                if self.is_sign(closing) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        self.expect_sign(closing)?;
        Ok(items)
    }

    fn postfixes(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            let line = self.line();
            let kind = if self.skip_sign(".") {
                match self.next() {
                    Token::Name(name) if self.is_sign("(") => PostfixKind::Method(name, self.arguments()?),
                    Token::Name(name) => PostfixKind::Attribute(name),
                    Token::Int(number) => PostfixKind::Item(Expr::Literal(Value::Int(number))),
                    _ => {
                        self.step_back();
                        return Err(self.unexpected("a name"));
                    }
                }
            } else if self.skip_sign("[") {
                self.subscript()?
            } else if self.is_sign("(") {
                PostfixKind::Call(self.arguments()?)
            } else {
                return Ok(());
            };
            chain.push(Postfix { line, kind });
        }
    }

    fn filters_and_tests(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            if self.is_sign("|") {
                chain.extend(self.filters(false)?);
            } else if self.is_name("is") {
                let test = self.test()?;
                chain.push(test);
            } else if self.is_sign("(") {
                let line = self.line();
                chain.push(Postfix { line, kind: PostfixKind::Call(self.arguments()?) });
            } else {
                return Ok(());
            }
        }
    }

    /// Filters, each behind a `|`; the first of a filter block has none.
    pub(crate) fn filters(&mut self, mut bare: bool) -> Result<Vec<Postfix>> {
        let mut filters = Vec::new();
        while std::mem::take(&mut bare) || self.skip_sign("|") {
            let line = self.line();
            let name = self.dotted_name()?;
            let arguments = if self.is_sign("(") { self.arguments()? } else { Arguments::default() };
            filters.push(Postfix { line, kind: PostfixKind::Filter { filter: Filter::named(&name), name, arguments } });
        }
        Ok(filters)
    }

    fn dotted_name(&mut self) -> Result<Name> {
        let mut name = self.name()?;
        while self.skip_sign(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    fn test(&mut self) -> Result<Postfix> {
        let line = self.line();
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let bare = match self.peek() {
            Token::Name(name) => !matches!(&**name, "else" | "or" | "and"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Sign(sign) => matches!(*sign, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_sign("(") {
            self.arguments()?
        } else if bare && self.is_name("is") {
            return Err(Error::syntax(line, "tests cannot be chained with 'is'"));
        } else if bare {
            let value = self.deeper(Parser::primary)?;
            let mut postfixes = Vec::new();
            self.postfixes(&mut postfixes)?;
            let value = if postfixes.is_empty() { value } else { Expr::Postfix(Box::new(value), postfixes) };
            Arguments { positional: vec![value], ..Arguments::default() }
        } else {
            Arguments::default()
        };
        Ok(Postfix { line, kind: PostfixKind::Test { test: Test::named(&name), name, arguments, negated } })
    }

    /// What stands in `[ ]`: an index, or a slice.
    fn subscript(&mut self) -> Result<PostfixKind> {
        let mut parts = [None, None, None];
        let mut place = 0;
        loop {
            if self.skip_sign("]") {
                break;
            }
            if self.skip_sign(":") {
                place += 1;
                if place > 2 {
                    return Err(self.unexpected("']'"));
                }
                continue;
            }
            if parts[place].is_some() {
                return Err(self.unexpected("']'"));
            }
            let value = self.expression()?;
            // A comma makes a tuple, which no value of data is indexed by.
            parts[place] = Some(value);
        }
        match (place, parts) {
            (0, [Some(index), ..]) => Ok(PostfixKind::Item(index)),
            (0, _) => Err(self.unexpected("an index")),
            (_, parts) => Ok(PostfixKind::Slice(Box::new(parts))),
        }
    }

    pub(crate) fn arguments(&mut self) -> Result<Arguments> {
        self.expect_sign("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is_sign(")") {
            if !std::mem::take(&mut first) {
                self.expect_sign(",")?;
                if self.is_sign(")") {
                    break;
                }
            }
            if self.skip_sign("**") {
                arguments.named_rest = Some(Box::new(self.expression()?));
            } else if self.skip_sign("*") {
                arguments.rest = Some(Box::new(self.expression()?));
            } else if matches!(self.peek(), Token::Name(_)) && *self.peek_second() == Token::Sign("=") {
                let name = self.name()?;
                self.next();
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() && arguments.named_rest.is_none() {
                arguments.positional.push(self.expression()?);
            } else {
                return Err(Error::syntax(self.line(), "an argument without a name follows one with a name"));
            }
        }
        self.expect_sign(")")?;
        Ok(arguments)
    }
}

fn alone(mut operands: Vec<Expr>, several: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match operands.len() {
        1 => operands.remove(0),
        _ => several(operands),
    }
}

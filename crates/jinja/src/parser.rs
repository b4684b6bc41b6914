//! Tokens become a tree of statements; `expressions` has the grammar between the brackets. Jinja2's own grammar
//! (`jinja2/parser.py`) with the tags that transformers adds: `generation`, `break` and `continue`.
//!
//! Invariant: nesting is bounded, so neither the parser nor whoever walks over the tree can overflow the stack.

use crate::ast::{Expr, For, Macro, Name, Postfix, Statement, StatementKind, Target};
use crate::error::{Error, Result};
use crate::lexer::{Token, tokens};
use crate::value::Value;
use std::sync::Arc;

/// Deepest nesting of blocks and brackets.
const MAX_NESTING: usize = 60;

pub(crate) struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
    loops: usize,
    /// Names that the innermost macros' bodies use, of those that mean surplus arguments.
    surplus: Vec<[bool; 3]>,
}

/// What a template consists of.
pub(crate) fn parse(source: &str) -> Result<Vec<Statement>> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0, loops: 0, surplus: Vec::new() };
    let statements = parser.statements(&[])?;
    match parser.peek() {
        Token::End => Ok(statements),
        _ => Err(parser.unexpected("the end of the template")),
    }
}

impl Parser {
    pub(crate) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub(crate) fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    pub(crate) fn line(&self) -> usize {
        self.tokens[self.at].1
    }

    pub(crate) fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Gives the last token back.
    pub(crate) fn step_back(&mut self) {
        self.at -= 1;
    }

    pub(crate) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    pub(crate) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if **found == *name)
    }

    /// Passes over a sign if it is next.
    pub(crate) fn skip_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn expect_sign(&mut self, sign: &str) -> Result<()> {
        if self.skip_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("'{sign}'"))) }
    }

    fn expect_name(&mut self, name: &str) -> Result<()> {
        if self.skip_name(name) { Ok(()) } else { Err(self.unexpected(&format!("'{name}'"))) }
    }

    pub(crate) fn name(&mut self) -> Result<Name> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.clone();
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub(crate) fn unexpected(&self, wanted: &str) -> Error {
        let found = match self.peek() {
            Token::Data(_) | Token::OutputBegin | Token::BlockBegin => "the beginning of a tag".to_string(),
            Token::OutputEnd => "the end of {{ }}".to_string(),
            Token::BlockEnd => "the end of {% %}".to_string(),
            Token::Name(name) => format!("'{}'", crate::error::excerpt(name)),
            Token::Str(_) => "a text".to_string(),
            Token::Int(_) | Token::Float(_) => "a number".to_string(),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::End => "the end of the template".to_string(),
        };
        Error::syntax(self.line(), format!("expected {wanted}, found {found}"))
    }

    /// Runs a part of the grammar one level deeper.
    pub(crate) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_NESTING {
            return Err(Error::syntax(self.line(), format!("nested more than {MAX_NESTING} deep")));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    /// Notes a name that is read, which decides whether a macro takes surplus arguments.
    pub(crate) fn note_read(&mut self, name: &str) {
        let which = ["varargs", "kwargs", "caller"].iter().position(|surplus| *surplus == name);
        if let (Some(which), Some(innermost)) = (which, self.surplus.last_mut()) {
            innermost[which] = true;
        }
    }

    /// Statements up to a block that begins with one of these names, which is left in place behind its `{%`; or up to the
    /// end of the template if there are none.
    fn statements(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        self.deeper(|parser| {
            let mut statements = Vec::new();
            loop {
                let line = parser.line();
                let kind = match parser.next() {
                    Token::Data(text) => StatementKind::Data(Value::text(text)),
                    Token::OutputBegin => {
                        let value = parser.tuple(true, &[])?;
                        if parser.next() != Token::OutputEnd {
                            parser.step_back();
                            return Err(parser.unexpected("the end of {{ }}"));
                        }
                        StatementKind::Output(value)
                    }
                    Token::BlockBegin => {
                        if ends.iter().any(|end| parser.is_name(end)) {
                            return Ok(statements);
                        }
                        parser.block()?
                    }
                    _ if ends.is_empty() => return Ok(statements),
                    _ => return Err(Error::syntax(line, format!("a block is not closed by '{}'", ends[0]))),
                };
                statements.push(Statement { line, kind });
            }
        })
    }

    fn block_end(&mut self) -> Result<()> {
        match self.peek() {
            Token::BlockEnd => {
                self.next();
                Ok(())
            }
            _ => Err(self.unexpected("the end of {% %}")),
        }
    }

    /// The body of a block and its closing tag.
    fn body(&mut self, end: &str) -> Result<Vec<Statement>> {
        self.block_end()?;
        let body = self.statements(&[end])?;
        self.expect_name(end)?;
        Ok(body)
    }

    /// One `{% %}` and what belongs to it.
    fn block(&mut self) -> Result<StatementKind> {
        let line = self.line();
        let name = self.name()?;
        let kind = match &*name {
            "if" => self.if_block()?,
            "for" => self.for_block()?,
            "set" => self.set_block()?,
            "macro" => self.macro_block()?,
            "call" => self.call_block()?,
            "with" => self.with_block()?,
            "filter" => {
                let filters = self.filters(true)?;
                StatementKind::FilterBlock { filters, body: self.body("endfilter")? }
            }
            "generation" => StatementKind::Generation(self.body("endgeneration")?),
            "break" | "continue" if self.loops == 0 => {
                return Err(Error::syntax(line, format!("'{name}' outside of a loop")));
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "print" => StatementKind::Output(self.tuple(true, &[])?),
            "include" | "import" | "from" | "extends" => {
                return Err(Error::syntax(
                    line,
                    format!("'{name}' needs a second template, and there is only this one"),
                ));
            }
            _ => return Err(Error::syntax(line, format!("unknown tag '{}'", crate::error::excerpt(&name)))),
        };
        self.block_end()?;
        Ok(kind)
    }

    fn if_block(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.tuple(false, &[])?;
            self.block_end()?;
            branches.push((condition, self.statements(&["endif", "elif", "else"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                self.block_end()?;
                otherwise = self.statements(&["endif"])?;
            }
            self.expect_name("endif")?;
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    fn for_block(&mut self) -> Result<StatementKind> {
        let target = self.target(&["in"])?;
        self.expect_name("in")?;
        let items = self.tuple(false, &["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let body = self.statements(&["endfor", "else"])?;
        self.loops -= 1;
        let mut otherwise = Vec::new();
        if self.skip_name("else") {
            self.block_end()?;
            otherwise = self.statements(&["endfor"])?;
        }
        self.expect_name("endfor")?;
        Ok(StatementKind::For(Box::new(For { target, items, condition, recursive, body, otherwise })))
    }

    fn set_block(&mut self) -> Result<StatementKind> {
        let target = self.target(&[])?;
        if self.skip_sign("=") {
            return Ok(StatementKind::Set { target, value: self.tuple(true, &[])? });
        }
        let filters = if self.is_sign("|") { self.filters(false)? } else { Vec::new() };
        Ok(StatementKind::SetBlock { target, filters, body: self.body("endset")? })
    }

    fn with_block(&mut self) -> Result<StatementKind> {
        let mut targets = Vec::new();
        while *self.peek() != Token::BlockEnd {
            if !targets.is_empty() {
                self.expect_sign(",")?;
            }
            let target = self.target_item()?;
            self.expect_sign("=")?;
            targets.push((target, self.expression()?));
        }
        Ok(StatementKind::With { targets, body: self.body("endwith")? })
    }

    fn macro_block(&mut self) -> Result<StatementKind> {
        let name = self.name()?;
        let parameters = self.parameters()?;
        let body = self.macro_body(name.clone(), parameters, "endmacro")?;
        Ok(StatementKind::Macro(name, body))
    }

    fn call_block(&mut self) -> Result<StatementKind> {
        let parameters = if self.is_sign("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        let is_call = matches!(&call, Expr::Postfix(_, chain) if chain.last().is_some_and(Postfix::is_call));
        if !is_call {
            return Err(self.unexpected("a call"));
        }
        let body = self.macro_body("caller".into(), parameters, "endcall")?;
        Ok(StatementKind::Call { body, call })
    }

    fn macro_body(&mut self, name: Name, parameters: Vec<(Name, Option<Expr>)>, end: &str) -> Result<Arc<Macro>> {
        let loops = std::mem::take(&mut self.loops);
        self.surplus.push([false; 3]);
        let body = self.body(end)?;
        let [varargs, kwargs, caller] = self.surplus.pop().unwrap_or_default();
        self.loops = loops;
        Ok(Arc::new(Macro { name, parameters, body, varargs, kwargs, caller }))
    }

    fn parameters(&mut self) -> Result<Vec<(Name, Option<Expr>)>> {
        self.expect_sign("(")?;
        let mut parameters: Vec<(Name, Option<Expr>)> = Vec::new();
        while !self.is_sign(")") {
            if !parameters.is_empty() {
                self.expect_sign(",")?;
                if self.is_sign(")") {
                    break;
                }
            }
            let name = self.name()?;
            let default = if self.skip_sign("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return Err(Error::syntax(self.line(), "a parameter without a default follows one with a default"));
            }
            parameters.push((name, default));
        }
        self.expect_sign(")")?;
        Ok(parameters)
    }

    /// What is assigned to: a name, several, or an attribute of a namespace.
    fn target(&mut self, ends: &[&str]) -> Result<Target> {
        let first = self.target_item()?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_sign(",") {
            if self.is_sign("=") || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            targets.push(self.target_item()?);
        }
        Ok(Target::Tuple(targets))
    }

    fn target_item(&mut self) -> Result<Target> {
        if self.skip_sign("(") {
            let target = self.deeper(|parser| parser.target(&[]))?;
            self.expect_sign(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return Err(Error::syntax(self.line(), format!("'{name}' cannot be assigned to")));
        }
        match self.skip_sign(".") {
            true => Ok(Target::Attribute(name, self.name()?)),
            false => Ok(Target::Name(name)),
        }
    }
}

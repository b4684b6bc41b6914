//! Tokens into a module. What is read and would change meaning is kept or refused by name; nothing is skipped that is code.

use crate::error::PtxError;
use crate::lex::{Placed, Token, lex};
use crate::syntax::{Entry, Operand, Source, Statement, Variable};
use crate::types::Type;
use std::collections::HashMap;

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Source, PtxError> {
    let tokens = lex(text)?;
    let mut parser = Parser { tokens, at: 0, scopes: Vec::new(), scope_count: 0 };
    let mut source = Source::default();
    while parser.at < parser.tokens.len() {
        parser.top_level(&mut source)?;
    }
    Ok(source)
}

struct Parser<'a> {
    tokens: Vec<Placed<'a>>,
    at: usize,
    /// Registers' names of each open scope, with the names they have in the entry.
    scopes: Vec<HashMap<String, String>>,
    scope_count: u32,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|&(token, _)| token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |&(_, line)| line)
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, PtxError> {
        Err(PtxError::Read { line: self.line(), problem: problem.into() })
    }

    fn is(&self, mark: char) -> bool {
        self.peek() == Some(Token::Mark(mark))
    }

    fn take(&mut self, mark: char) -> bool {
        let there = self.is(mark);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, mark: char) -> Result<(), PtxError> {
        if self.take(mark) { Ok(()) } else { self.fail(format!("`{mark}` is missing")) }
    }

    fn word(&mut self) -> Result<&'a str, PtxError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.fail("a word is missing"),
        }
    }

    fn number(&mut self) -> Result<u64, PtxError> {
        let negative = self.take('-');
        let word = self.word()?;
        match number(word) {
            Some(value) => Ok(if negative { value.wrapping_neg() } else { value }),
            None => self.fail(format!("`{word}` is not a number")),
        }
    }

    fn top_level(&mut self, source: &mut Source) -> Result<(), PtxError> {
        let word = self.word()?;
        match word {
            ".version" => drop(self.word()?),
            ".target" => {
                self.word()?;
                while self.take(',') {
                    self.word()?;
                }
            }
            ".address_size" => {
                if self.number()? != 64 {
                    return self.fail("only modules of 64-bit addresses are run");
                }
            }
            ".visible" | ".weak" | ".extern" => {}
            ".file" => {
                while matches!(self.peek(), Some(Token::Text(_))) || self.peek_number() || self.is(',') {
                    self.at += 1;
                }
            }
            ".section" => {
                self.word()?;
                while !self.take('}') {
                    if self.peek().is_none() {
                        return self.fail("a section has no end");
                    }
                    self.at += 1;
                }
            }
            ".entry" => {
                let entry = self.entry()?;
                source.entries.push(entry);
            }
            ".shared" => source.shared.push(self.variable(true)?),
            ".const" => source.constants.push(self.variable(true)?),
            ".global" => return self.fail("variables in global memory are not supported; pass a buffer"),
            ".func" => return self.fail("device functions are not supported; have the compiler inline them"),
            other => return self.fail(format!("directive `{other}` is not known")),
        }
        Ok(())
    }

    fn peek_number(&self) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn entry(&mut self) -> Result<Entry, PtxError> {
        let line = self.line();
        let mut entry = Entry { name: self.word()?.to_string(), line, ..Entry::default() };
        if self.take('(') {
            while !self.take(')') {
                if self.word()? != ".param" {
                    return self.fail("a parameter is missing");
                }
                entry.params.push(self.variable(false)?);
                self.take(',');
            }
        }
        while !self.is('{') {
            match self.word()? {
                exact @ (".maxntid" | ".reqntid") => {
                    let mut threads = self.number()?;
                    while self.take(',') {
                        threads *= self.number()?;
                    }
                    entry.most_threads = Some((threads, exact == ".reqntid"));
                }
                ".minnctapersm" | ".maxnreg" => drop(self.number()?),
                other => return self.fail(format!("directive `{other}` of an entry is not known")),
            }
        }
        self.body(&mut entry)?;
        Ok(entry)
    }

    /// A block in braces. Scopes of inline assembly nest, and their registers have names of their own.
    fn body(&mut self, entry: &mut Entry) -> Result<(), PtxError> {
        self.expect('{')?;
        self.scopes.push(HashMap::new());
        while !self.take('}') {
            match self.peek() {
                Some(Token::Mark('{')) => {
                    self.scope_count += 1;
                    self.body(entry)?;
                }
                Some(Token::Mark(';')) => self.at += 1,
                Some(Token::Word(word)) if word.starts_with('.') => self.directive(entry)?,
                Some(Token::Word(word)) if self.tokens.get(self.at + 1).is_some_and(|t| t.0 == Token::Mark(':')) => {
                    entry.labels.push((word.to_string(), entry.statements.len()));
                    self.at += 2;
                }
                Some(_) => {
                    let statement = self.statement()?;
                    entry.statements.push(statement);
                }
                None => return self.fail("a body has no end"),
            }
        }
        self.scopes.pop();
        Ok(())
    }

    fn directive(&mut self, entry: &mut Entry) -> Result<(), PtxError> {
        match self.word()? {
            ".reg" => self.registers(entry)?,
            ".shared" => entry.shared.push(self.variable(true)?),
            ".local" => entry.local.push(self.variable(true)?),
            ".pragma" => {
                let Some(Token::Text(text)) = self.peek() else { return self.fail("a pragma's text is missing") };
                if text != "nounroll" {
                    return self.fail(format!("pragma `{text}` is not known"));
                }
                self.at += 1;
                self.expect(';')?;
            }
            other => return self.fail(format!("directive `{other}` in a body is not known")),
        }
        Ok(())
    }

    fn registers(&mut self, entry: &mut Entry) -> Result<(), PtxError> {
        let ty = self.ty()?;
        loop {
            let name = self.word()?;
            if self.take('<') {
                let count = self.number()?;
                self.expect('>')?;
                if count > 1 << 20 {
                    return self.fail("more than a million registers");
                }
                for index in 0..count {
                    self.declare(entry, &format!("{name}{index}"), ty);
                }
            } else {
                self.declare(entry, name, ty);
            }
            if !self.take(',') {
                return self.expect(';');
            }
        }
    }

    fn declare(&mut self, entry: &mut Entry, name: &str, ty: Type) {
        let own = if self.scopes.len() > 1 { format!("{name}@{}", self.scope_count) } else { name.to_string() };
        entry.registers.push((own.clone(), ty));
        self.scopes.last_mut().expect("a body is open").insert(name.to_string(), own);
    }

    fn ty(&mut self) -> Result<Type, PtxError> {
        let word = self.word()?;
        match word.strip_prefix('.').and_then(Type::named) {
            Some(ty) => Ok(ty),
            None => self.fail(format!("type `{word}` is not known")),
        }
    }

    /// `.align 16 .b8 name[64]`, with its initial value where there is one; `ends` for a semicolon at its end.
    fn variable(&mut self, ends: bool) -> Result<Variable, PtxError> {
        let mut align = None;
        let mut word = self.word()?;
        while let ".align" | ".ptr" | ".global" | ".shared" = word {
            if word == ".align" {
                align = Some(self.number()?);
            }
            word = self.word()?;
        }
        let Some(ty) = word.strip_prefix('.').and_then(Type::named) else {
            return self.fail(format!("type `{word}` is not known"));
        };
        // A parameter's pointer attributes follow its type.
        while matches!(self.peek(), Some(Token::Word(".ptr" | ".global" | ".align"))) {
            if self.word()? == ".align" {
                self.number()?;
            }
        }
        let name = self.word()?.to_string();
        let mut count = 1u64;
        while self.take('[') {
            count = if self.is(']') { 0 } else { count.saturating_mul(self.number()?) };
            self.expect(']')?;
        }
        let mut initial = Vec::new();
        if self.take('=') {
            let listed = self.take('{');
            while !self.is('}') && !self.is(';') {
                let value = self.number()?;
                initial.extend_from_slice(&value.to_le_bytes()[..ty.bytes() as usize]);
                self.take(',');
            }
            if listed {
                self.expect('}')?;
            }
        }
        if ends {
            self.expect(';')?;
        }
        let Some(bytes) = count.checked_mul(ty.bytes()).filter(|&bytes| bytes <= 1 << 30) else {
            return self.fail(format!("variable `{name}` is too large"));
        };
        if initial.len() as u64 > bytes {
            return self.fail(format!("variable `{name}` has more initial values than room"));
        }
        let align = align.unwrap_or(ty.bytes()).max(1);
        Ok(Variable { name, align, bytes, initial })
    }

    fn statement(&mut self) -> Result<Statement, PtxError> {
        let line = self.line();
        let guard = if self.take('@') {
            let negated = self.take('!');
            let name = self.word()?;
            Some((self.resolve(name), negated))
        } else {
            None
        };
        let opcode = self.word()?.to_string();
        let mut operands = Vec::new();
        while !self.take(';') {
            operands.push(self.operand()?);
            if !self.is(';') {
                self.expect(',')?;
            }
        }
        Ok(Statement { line, guard, opcode, operands })
    }

    fn resolve(&self, name: &str) -> String {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).cloned().unwrap_or_else(|| name.to_string())
    }

    fn operand(&mut self) -> Result<Operand, PtxError> {
        if self.take('{') {
            let mut parts = Vec::new();
            while !self.take('}') {
                parts.push(self.operand()?);
                self.take(',');
            }
            return Ok(Operand::Vector(parts));
        }
        if self.take('[') {
            return self.address();
        }
        if self.take('!') {
            let name = self.word()?;
            return Ok(Operand::Not(self.resolve(name)));
        }
        if self.is('-') || self.peek_number() {
            return Ok(Operand::Number(self.number()?));
        }
        let name = self.word()?;
        if self.take('|') {
            let other = self.word()?;
            return Ok(Operand::Pair(self.resolve(name), self.resolve(other)));
        }
        Ok(Operand::Name(self.resolve(name)))
    }

    fn address(&mut self) -> Result<Operand, PtxError> {
        let base = if self.peek_number() {
            None
        } else {
            let name = self.word()?;
            Some(self.resolve(name))
        };
        let offset = match base {
            None => self.number()? as i64,
            Some(_) if self.take('+') => self.number()? as i64,
            Some(_) if self.is('-') => self.number()? as i64,
            Some(_) => 0,
        };
        self.expect(']')?;
        Ok(Operand::Address(base, offset))
    }
}

/// An integer in PTX's bases, or the bits of a float in `0f` or `0d` form.
fn number(word: &str) -> Option<u64> {
    let word = word.strip_suffix('U').unwrap_or(word);
    if let Some(bits) = word.strip_prefix("0f").or(word.strip_prefix("0F")) {
        return (bits.len() == 8).then(|| u64::from_str_radix(bits, 16).ok())?;
    }
    if let Some(bits) = word.strip_prefix("0d").or(word.strip_prefix("0D")) {
        return (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok())?;
    }
    if let Some(digits) = word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = word.strip_prefix("0b") {
        return u64::from_str_radix(digits, 2).ok();
    }
    word.parse().ok()
}

//! Structured fields (RFC 9651), as much of them as the protocol headers of §3.3 need: Strings, in a List or alone.
//!
//! Parameters are checked and skipped. A value of any other type, and a field that is malformed anywhere, is no value at
//! all: RFC 9651 section 4.2 has the whole field ignored.

/// Reads a List whose members are all Strings. `lines` are the field lines of one name, in order.
pub fn parse_strings<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let field = join(lines);
    let mut parser = Parser::new(&field);
    let mut strings = Vec::new();
    while !parser.is_at_end() {
        strings.push(parser.item()?);
        parser.skip(b" \t");
        if parser.is_at_end() {
            return Some(strings);
        }
        parser.expect(b',')?;
        parser.skip(b" \t");
        if parser.is_at_end() {
            return None; // a comma at the end
        }
    }
    Some(strings)
}

/// Reads an Item that is a String.
pub fn parse_string<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let field = join(lines);
    let mut parser = Parser::new(&field);
    let string = parser.item()?;
    parser.skip(b" ");
    parser.is_at_end().then_some(string)
}

/// Writes a List of Strings; `None` when one has a character that no String can hold.
pub fn format_strings(strings: &[String]) -> Option<String> {
    let members: Option<Vec<String>> = strings.iter().map(|string| format_string(string)).collect();
    Some(members?.join(", "))
}

/// Writes a String; `None` when it has a character outside printable ASCII (RFC 9651 section 3.3.3).
pub fn format_string(string: &str) -> Option<String> {
    if !string.bytes().all(is_printable) {
        return None;
    }
    let mut out = String::with_capacity(string.len() + 2);
    out.push('"');
    for character in string.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    Some(out)
}

/// RFC 9651 section 4.2: several lines are one field, with a comma between them.
fn join<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.collect::<Vec<_>>().join(", ")
}

fn is_printable(byte: u8) -> bool {
    (0x20..=0x7e).contains(&byte)
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn new(field: &'a str) -> Self {
        let mut parser = Parser { rest: field.as_bytes() };
        parser.skip(b" ");
        parser
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take(|byte| bytes.contains(&byte));
    }

    /// The bytes up to the first that does not fit.
    fn take(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !fits(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A String with its parameters (4.2.3).
    fn item(&mut self) -> Option<String> {
        let string = self.string()?;
        self.parameters()?;
        Some(string)
    }

    /// 4.2.5.
    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => string.push(char::from(escaped)),
                    _ => return None,
                },
                byte if is_printable(byte) => string.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// 4.2.3.2.
    fn parameters(&mut self) -> Option<()> {
        while self.peek() == Some(b';') {
            self.next();
            self.skip(b" ");
            self.key()?;
            if self.peek() == Some(b'=') {
                self.next();
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// 4.2.3.3.
    fn key(&mut self) -> Option<()> {
        matches!(self.peek()?, b'a'..=b'z' | b'*').then_some(())?;
        self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        Some(())
    }

    /// 4.2.3.1; the value is not kept.
    fn bare_item(&mut self) -> Option<()> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b'"' => self.string().map(|_| ()),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(())
            }
            b':' => {
                self.next();
                self.take(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.expect(b':')
            }
            b'?' => {
                self.next();
                matches!(self.next()?, b'0' | b'1').then_some(())
            }
            b'@' => {
                self.next();
                // 4.2.9: a Date is an Integer.
                (!self.number()?).then_some(())
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    /// 4.2.4; whether it is a Decimal.
    fn number(&mut self) -> Option<bool> {
        if self.peek() == Some(b'-') {
            self.next();
        }
        let whole = self.take(|byte| byte.is_ascii_digit()).len();
        if self.peek() != Some(b'.') {
            return (1..=15).contains(&whole).then_some(false);
        }
        self.next();
        let fraction = self.take(|byte| byte.is_ascii_digit()).len();
        ((1..=12).contains(&whole) && (1..=3).contains(&fraction)).then_some(true)
    }

    /// 4.2.10.
    fn display_string(&mut self) -> Option<()> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&text).is_ok().then_some(()),
                b'%' => text.push(self.hex()? << 4 | self.hex()?),
                byte if is_printable(byte) => text.push(byte),
                _ => return None,
            }
        }
    }

    /// A digit in lower case.
    fn hex(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
}

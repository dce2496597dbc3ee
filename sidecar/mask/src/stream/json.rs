//! JSON token by token (RFC 8259), with the place of each value known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chaperone_policy::{ColumnMask, Place, Strategy, Typed};

use super::{MAX_HELD, Rules, Unmaskable};

/// Deepest nesting.
const MAX_DEPTH: usize = 512;

/// Where in a document the next byte stands.
#[derive(Debug, Default)]
pub(super) struct Json {
    stack: Vec<Container>,
    place: Vec<Place>,
    expects: Expects,
    token: Token,
    /// Bytes of the token that is held.
    held: Vec<u8>,
    /// Nothing is given out until the stack is this short again: a whole object or array is masked.
    muted: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expects {
    #[default]
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `,` in an object.
    Name,
    /// After `{`.
    NameOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Token {
    #[default]
    None,
    /// A string, held to be looked at; `escaped`: the last byte was a backslash.
    Held { name: bool, escaped: bool },
    /// A string that nothing looks at.
    Passed { escaped: bool },
    /// A number or a word.
    Word,
}

impl Json {
    pub(super) fn push(
        &mut self,
        rules: &mut Rules,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        piece
            .iter()
            .try_for_each(|byte| self.byte(rules, *byte, out))
    }

    pub(super) fn finish(
        &mut self,
        rules: &mut Rules,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        if self.token == Token::Word && self.stack.is_empty() {
            self.end_word(rules, out)?;
        }
        let between =
            self.stack.is_empty() && self.token == Token::None && self.expects == Expects::Value;
        if between {
            Ok(())
        } else {
            Err(Unmaskable::Unfinished)
        }
    }

    fn byte(&mut self, rules: &mut Rules, byte: u8, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match self.token {
            Token::Held { name, escaped } => {
                self.hold(byte)?;
                match byte {
                    b'"' if !escaped => {
                        self.token = Token::None;
                        return self.end_string(rules, name, out);
                    }
                    0..=0x1f => return Err(Unmaskable::NotJson),
                    _ => {}
                }
                let escaped = byte == b'\\' && !escaped;
                self.token = Token::Held { name, escaped };
                return Ok(());
            }
            Token::Passed { escaped } => {
                self.give(&[byte], out);
                match byte {
                    b'"' if !escaped => {
                        self.token = Token::None;
                        self.value_ended();
                        return Ok(());
                    }
                    0..=0x1f => return Err(Unmaskable::NotJson),
                    _ => {}
                }
                let escaped = byte == b'\\' && !escaped;
                self.token = Token::Passed { escaped };
                return Ok(());
            }
            Token::Word if is_word(byte) => return self.hold(byte),
            Token::Word => self.end_word(rules, out)?,
            Token::None => {}
        }
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            self.give(&[byte], out);
            return Ok(());
        }
        match (self.expects, byte) {
            (Expects::Value | Expects::ValueOrEnd, b'{' | b'[') => self.open(rules, byte, out),
            (Expects::Value | Expects::ValueOrEnd, b'"') => self.string(rules, out),
            (Expects::Value | Expects::ValueOrEnd, byte) if is_word(byte) => {
                self.begin_value();
                self.token = Token::Word;
                self.hold(byte)
            }
            (Expects::Name | Expects::NameOrEnd, b'"') => {
                self.token = Token::Held {
                    name: true,
                    escaped: false,
                };
                self.hold(byte)
            }
            (Expects::Colon, b':') => {
                self.expects = Expects::Value;
                self.give(b":", out);
                Ok(())
            }
            (Expects::CommaOrEnd, b',') => {
                self.expects = match self.stack.last() {
                    Some(Container::Object) => Expects::Name,
                    Some(Container::Array) => Expects::Value,
                    None => return Err(Unmaskable::NotJson),
                };
                self.give(b",", out);
                Ok(())
            }
            (Expects::CommaOrEnd | Expects::NameOrEnd, b'}') => {
                self.close(Container::Object, b"}", out)
            }
            (Expects::CommaOrEnd | Expects::ValueOrEnd, b']') => {
                self.close(Container::Array, b"]", out)
            }
            _ => Err(Unmaskable::NotJson),
        }
    }

    fn hold(&mut self, byte: u8) -> Result<(), Unmaskable> {
        if self.held.len() >= MAX_HELD {
            return Err(Unmaskable::TooLong);
        }
        self.held.push(byte);
        Ok(())
    }

    fn give(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.muted.is_none() {
            out.extend_from_slice(bytes);
        }
    }

    /// A value begins: in an array it is the next one.
    fn begin_value(&mut self) {
        if self.stack.last() != Some(&Container::Array) {
            return;
        }
        if self.expects == Expects::ValueOrEnd {
            self.place.push(Place::Index(0));
        } else if let Some(Place::Index(index)) = self.place.last_mut() {
            *index = index.saturating_add(1);
        }
    }

    /// A value has ended: in an object its name is done with.
    fn value_ended(&mut self) {
        self.expects = match self.stack.last() {
            None => Expects::Value,
            Some(Container::Array) => Expects::CommaOrEnd,
            Some(Container::Object) => {
                self.place.pop();
                Expects::CommaOrEnd
            }
        };
    }

    fn mask(&self, rules: &Rules) -> Option<ColumnMask> {
        if self.muted.is_some() {
            return None;
        }
        rules.masking.json(&self.place).cloned()
    }

    fn open(&mut self, rules: &mut Rules, byte: u8, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.begin_value();
        if self.stack.len() >= MAX_DEPTH {
            return Err(Unmaskable::TooDeep);
        }
        if let Some(mask) = self.mask(rules) {
            rules.count_place(named(&mask));
            self.give(replaced_whole(&mask).as_bytes(), out);
            self.muted = Some(self.stack.len());
        }
        self.give(&[byte], out);
        let (container, expects) = match byte {
            b'{' => (Container::Object, Expects::NameOrEnd),
            _ => (Container::Array, Expects::ValueOrEnd),
        };
        self.stack.push(container);
        self.expects = expects;
        Ok(())
    }

    fn close(
        &mut self,
        container: Container,
        byte: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        if self.stack.pop() != Some(container) {
            return Err(Unmaskable::NotJson);
        }
        if container == Container::Array && self.expects == Expects::CommaOrEnd {
            // Its last index.
            self.place.pop();
        }
        self.give(byte, out);
        if self.muted == Some(self.stack.len()) {
            self.muted = None;
        }
        self.value_ended();
        Ok(())
    }

    fn string(&mut self, rules: &mut Rules, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.begin_value();
        let looked_at = !rules.detectors.is_empty() || self.mask(rules).is_some();
        if looked_at && self.muted.is_none() {
            self.token = Token::Held {
                name: false,
                escaped: false,
            };
            return self.hold(b'"');
        }
        self.give(b"\"", out);
        self.token = Token::Passed { escaped: false };
        Ok(())
    }

    fn end_string(
        &mut self,
        rules: &mut Rules,
        name: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        let held = std::mem::take(&mut self.held);
        let text: String = serde_json::from_slice(&held).map_err(|_| Unmaskable::NotJson)?;
        if name {
            let masked = match self.muted {
                None => rules.detect(&text),
                Some(_) => None,
            };
            match masked {
                Some(masked) => self.give(quoted(&masked).as_bytes(), out),
                None => self.give(&held, out),
            }
            self.place.push(Place::Name(text));
            self.expects = Expects::Colon;
            return Ok(());
        }
        match self.mask(rules) {
            Some(mask) => {
                rules.count_place(named(&mask));
                let masked = match mask.strategy {
                    Strategy::Null if mask.base64 => quoted(""),
                    Strategy::Null => "null".to_owned(),
                    strategy if mask.base64 => {
                        let meant = BASE64.decode(&text).unwrap_or_default();
                        quoted(&BASE64.encode(rules.masker.text(&meant, strategy).as_bytes()))
                    }
                    strategy => quoted(&rules.masker.text(text.as_bytes(), strategy)),
                };
                self.give(masked.as_bytes(), out);
            }
            None => match rules.detect(&text) {
                Some(masked) => self.give(quoted(&masked).as_bytes(), out),
                None => self.give(&held, out),
            },
        }
        self.value_ended();
        Ok(())
    }

    fn end_word(&mut self, rules: &mut Rules, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.token = Token::None;
        let held = std::mem::take(&mut self.held);
        let value: serde_json::Value =
            serde_json::from_slice(&held).map_err(|_| Unmaskable::NotJson)?;
        let text = std::str::from_utf8(&held).map_err(|_| Unmaskable::NotJson)?;
        let mask = self.mask(rules).filter(|_| !value.is_null());
        match mask {
            Some(mask) => {
                rules.count_place(named(&mask));
                let masked = match (mask.typed, &value) {
                    (Typed::Zero, serde_json::Value::Bool(_)) => "false",
                    (Typed::Zero, _) => "0",
                    (Typed::Null, _) => "null",
                };
                self.give(masked.as_bytes(), out);
            }
            None if value.is_number() && self.muted.is_none() && rules.detect(text).is_some() => {
                self.give(b"null", out);
            }
            None => self.give(&held, out),
        }
        self.value_ended();
        Ok(())
    }
}

/// What numbers, `true`, `false` and `null` are made of.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What takes the place of a whole object or array.
fn replaced_whole(mask: &ColumnMask) -> String {
    match mask.strategy {
        Strategy::Null => "null".to_owned(),
        _ => quoted(crate::MARK),
    }
}

fn named(mask: &ColumnMask) -> String {
    format!("{} {}", mask.rule.policy, mask.rule.rule)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

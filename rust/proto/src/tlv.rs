//! Type, length, payload: the shape that HTTP/3 frames and capsules share, read incrementally.
//!
//! The reader keeps the chunks it was given, the two integers of one header, and one payload that its user asked to
//! have whole. Each input byte is looked at once and copied at most once, so cost is linear however the bytes are cut.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::varint::Partial;

/// What to do with the payload of an element whose header is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Hand out the payload as it arrives, without copying.
    Pieces,
    /// Collect the payload. The user has checked its length against a limit.
    Whole,
    /// Drop the payload as it arrives.
    Skip,
}

/// Payload, with the type of its element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) kind: u64,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Reader {
    input: VecDeque<Bytes>,
    state: State,
    integer: Partial,
}

#[derive(Debug, Default)]
enum State {
    /// Between elements, or inside the type.
    #[default]
    Kind,
    Length {
        kind: u64,
    },
    Payload {
        kind: u64,
        plan: Plan,
        left: u64,
        /// Collected so far, for [`Plan::Whole`].
        whole: BytesMut,
    },
}

impl Reader {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.input.push_back(chunk);
        }
    }

    /// The next payload or piece of one. `plan` is asked once per element with its type and length.
    ///
    /// An element of length zero yields one empty payload, unless it is skipped.
    pub(crate) fn next<E>(&mut self, plan: impl FnMut(u64, u64) -> Result<Plan, E>) -> Result<Option<Payload>, E> {
        let found = self.read(plan);
        if self.input.is_empty() {
            // Most streams are idle most of the time, and hold no buffer then.
            self.input = VecDeque::new();
        }
        found
    }

    fn read<E>(&mut self, mut plan: impl FnMut(u64, u64) -> Result<Plan, E>) -> Result<Option<Payload>, E> {
        loop {
            match &mut self.state {
                State::Kind => {
                    let Some(kind) = read_integer(&mut self.integer, &mut self.input) else {
                        return Ok(None);
                    };
                    self.state = State::Length { kind };
                }
                State::Length { kind } => {
                    let kind = *kind;
                    let Some(left) = read_integer(&mut self.integer, &mut self.input) else {
                        return Ok(None);
                    };
                    let plan = plan(kind, left)?;
                    if left == 0 {
                        self.state = State::Kind;
                        if plan != Plan::Skip {
                            return Ok(Some(Payload {
                                kind,
                                bytes: Bytes::new(),
                            }));
                        }
                    } else {
                        self.state = State::Payload {
                            kind,
                            plan,
                            left,
                            whole: BytesMut::new(),
                        };
                    }
                }
                State::Payload {
                    kind,
                    plan,
                    left,
                    whole,
                } => {
                    let kind = *kind;
                    let Some(piece) = take_up_to(&mut self.input, *left) else {
                        return Ok(None);
                    };
                    *left -= piece.len() as u64;
                    let done = *left == 0;
                    let bytes = match plan {
                        Plan::Skip => None,
                        Plan::Pieces => Some(piece),
                        // The payload lies in one chunk: no copy.
                        Plan::Whole if done && whole.is_empty() => Some(piece),
                        Plan::Whole => {
                            whole.extend_from_slice(&piece);
                            done.then(|| std::mem::take(whole).freeze())
                        }
                    };
                    if done {
                        self.state = State::Kind;
                    }
                    if let Some(bytes) = bytes {
                        return Ok(Some(Payload { kind, bytes }));
                    }
                }
            }
        }
    }

    /// Whether the end of input may come here: between two elements, nothing left to read.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Kind) && self.integer.pending().is_empty() && !self.has_input()
    }

    /// Whether chunks are waiting to be read.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Reader::default();
    }
}

/// Reads an integer over chunk borders. Chunks in the queue are never empty.
fn read_integer(integer: &mut Partial, input: &mut VecDeque<Bytes>) -> Option<u64> {
    loop {
        let chunk = input.front_mut()?;
        let value = integer.read(chunk);
        if chunk.is_empty() {
            input.pop_front();
        }
        if value.is_some() {
            return value;
        }
    }
}

/// Takes bytes from the first chunk, `limit` at most.
fn take_up_to(input: &mut VecDeque<Bytes>, limit: u64) -> Option<Bytes> {
    let chunk = input.front_mut()?;
    if chunk.len() as u64 <= limit {
        return input.pop_front();
    }
    // The chunk is longer than `limit`, so `limit` fits into usize.
    let take = limit as usize;
    let piece = chunk.slice(..take);
    chunk.advance(take);
    Some(piece)
}

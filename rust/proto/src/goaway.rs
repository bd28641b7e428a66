//! GOAWAY of this side (RFC 9114 section 5.2): what it names, and which requests it still lets through.
//!
//! The peer's GOAWAY is read with its control stream, in [`control`](crate::control).

use bytes::{Bytes, BytesMut};

use crate::dialect::Role;
use crate::frame;

/// Whether this side is going away, and from which request on it processes none.
#[derive(Debug)]
pub struct LocalGoaway {
    role: Role,
    /// The lowest request id of which nothing was processed.
    next_request: u64,
    sent: Option<u64>,
}

impl LocalGoaway {
    /// Not going away. `role` is this side's.
    pub fn new(role: Role) -> Self {
        LocalGoaway {
            role,
            next_request: 0,
            sent: None,
        }
    }

    /// Server: whether the request on this stream is processed. If not, cancel it with H3_REQUEST_REJECTED.
    ///
    /// RFC 9114 5.2: requests at or above the id in GOAWAY SHOULD be cancelled, those that arrive later too. One below it
    /// that arrives later, out of order, is cancelled as well: H3_REQUEST_REJECTED tells its client what the id does not.
    pub fn admit_request(&mut self, id: u64) -> bool {
        if self.sent.is_some() {
            return false;
        }
        self.next_request = self.next_request.max(id + REQUEST_STEP);
        true
    }

    /// Begins to go away. The frame for the control stream; `None` when it was given out before.
    ///
    /// RFC 9114 5.2: the ids of several GOAWAY frames MUST NOT grow. There is one.
    pub fn send(&mut self) -> Option<Bytes> {
        if self.sent.is_some() {
            return None;
        }
        let id = match self.role {
            // A server names the first request that it does not process.
            Role::Server => self.next_request,
            // A client names a push id (7.2.6). It never allowed any push, so the first one is as good as another.
            Role::Client => 0,
        };
        self.sent = Some(id);
        let mut out = BytesMut::new();
        frame::goaway_frame(id, &mut out);
        Some(out.freeze())
    }

    /// The id in the frame that was sent.
    pub fn sent(&self) -> Option<u64> {
        self.sent
    }
}

/// RFC 9000 section 2.1: two bits of a stream id tell its type.
const REQUEST_STEP: u64 = 4;

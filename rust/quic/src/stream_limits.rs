//! How many streams the peer may have open: a limit that costs memory only once it is used.
//!
//! quinn keeps an entry for each stream that the peer may open, opened or not: a limit of 10 000 would cost each idle
//! connection more than a megabyte. So QUIC's limit begins at [`AT_FIRST`] and doubles, up to the wanted one, when half of it
//! is in use: a peer that opens streams as fast as it may hears of new ones before it has used up the old ones. When few are
//! left of many it halves again. quinn tells the peer of more only when it is more than an eighth, so no step is smaller.

use std::sync::Arc;

use parking_lot::Mutex;
use quinn::{Connection, VarInt};

/// The limit of a connection that has opened nothing yet, if a much larger one is wanted: 100 streams or requests, the least
/// that HTTP/3 should allow (RFC 9114 section 6.1), a session, and three streams of HTTP/3's own. All of them may be silent,
/// as those of a page that opens a hundred before it writes: a silent stream is not seen, so it raises nothing. Both kinds
/// together, and what this side opens, just fit quinn's tables of 112 and 224 entries (8 KB); one size more of each would
/// be 17 KB.
pub const AT_FIRST: u64 = 104;

/// Which streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Bi,
    Uni,
}

/// The limits of one connection.
#[derive(Debug)]
pub struct StreamLimits {
    connection: Connection,
    bi: Mutex<Limit>,
    uni: Mutex<Limit>,
}

impl StreamLimits {
    /// For a connection whose transport configuration has [`at_first`] of these limits.
    pub fn new(connection: Connection, bi: u64, uni: u64) -> Arc<Self> {
        Arc::new(Self {
            connection,
            bi: Mutex::new(Limit::new(bi)),
            uni: Mutex::new(Limit::new(uni)),
        })
    }

    /// From now on the peer may have so many open.
    pub fn want(&self, bi: u64, uni: u64) {
        self.change(Direction::Bi, |limit| limit.wanted = bi);
        self.change(Direction::Uni, |limit| limit.wanted = uni);
    }

    /// Count a stream of the peer for as long as the value lives.
    pub(crate) fn opened(self: &Arc<Self>, direction: Direction) -> OpenStream {
        self.change(direction, |limit| limit.open += 1);
        OpenStream {
            limits: self.clone(),
            direction,
        }
    }

    fn change(&self, direction: Direction, change: impl FnOnce(&mut Limit)) {
        let limit = match direction {
            Direction::Bi => &self.bi,
            Direction::Uni => &self.uni,
        };
        // Held meanwhile, so that the last of two changes is the last that quinn hears of.
        let mut limit = limit.lock();
        change(&mut limit);
        if let Some(granted) = limit.grant() {
            let granted = varint(granted);
            match direction {
                Direction::Bi => self.connection.set_max_concurrent_bi_streams(granted),
                Direction::Uni => self.connection.set_max_concurrent_uni_streams(granted),
            }
        }
    }
}

/// What a connection's transport configuration has to say when `wanted` is the limit.
pub fn at_first(wanted: u64) -> VarInt {
    varint(step(AT_FIRST, wanted))
}

/// `granted`, or all that is `wanted` when the rest would be too small a step.
fn step(granted: u64, wanted: u64) -> u64 {
    if wanted.saturating_sub(granted) <= wanted / 8 {
        wanted
    } else {
        granted
    }
}

/// A stream of the peer, for the limits.
#[derive(Debug)]
pub(crate) struct OpenStream {
    limits: Arc<StreamLimits>,
    direction: Direction,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.limits.change(self.direction, |limit| limit.open -= 1);
    }
}

#[derive(Debug)]
struct Limit {
    wanted: u64,
    granted: u64,
    open: u64,
}

impl Limit {
    fn new(wanted: u64) -> Self {
        Self {
            wanted,
            granted: step(AT_FIRST, wanted),
            open: 0,
        }
    }

    /// The new limit for quinn, if it is another.
    fn grant(&mut self) -> Option<u64> {
        let mut granted = self.granted;
        while self.open > granted / 2 && granted < self.wanted {
            granted = granted.saturating_mul(2).max(AT_FIRST);
        }
        // Not at a half, where the next stream would double it again.
        while granted > AT_FIRST && self.open < granted / 8 {
            granted = (granted / 2).max(AT_FIRST);
        }
        // What is wanted may have risen above the first limit, too.
        let granted = step(granted.max(AT_FIRST), self.wanted);
        (std::mem::replace(&mut self.granted, granted) != granted).then_some(granted)
    }
}

fn varint(limit: u64) -> VarInt {
    // RFC 9000 section 4.6: a limit on streams cannot exceed 2^60.
    VarInt::from_u64(limit.min(1 << 60)).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(limit: &mut Limit, open: u64) -> u64 {
        limit.open = open;
        limit.grant();
        limit.granted
    }

    #[test]
    fn a_small_limit_is_the_limit() {
        for wanted in [100, 109] {
            let mut limit = Limit::new(wanted);
            assert_eq!([0, 51, 100, 3].map(|open| opened(&mut limit, open)), [wanted; 4]);
        }
    }

    #[test]
    fn a_large_limit_doubles_when_half_of_it_is_used_and_ends_where_it_should() {
        let mut limit = Limit::new(1_000);
        let granted = [0, 52, 53, 104, 105, 208, 209, 417, 1_000].map(|open| opened(&mut limit, open));
        assert_eq!(granted, [104, 104, 208, 208, 416, 416, 832, 1_000, 1_000]);
    }

    #[test]
    fn no_step_is_too_small_for_quinn() {
        for wanted in 1..3_000 {
            let mut limit = Limit::new(wanted);
            while limit.granted < wanted {
                let before = limit.granted;
                assert!(before >= AT_FIRST);
                let granted = opened(&mut limit, before / 2 + 1);
                assert!(granted - before > granted / 8, "{before} to {granted} of {wanted}");
            }
            assert_eq!(limit.granted, wanted);
        }
    }

    #[test]
    fn it_shrinks_when_few_are_left() {
        let mut limit = Limit::new(1_000);
        let granted = [1_000, 125, 124, 62, 61, 30, 0].map(|open| opened(&mut limit, open));
        assert_eq!(granted, [1_000, 1_000, 500, 500, 250, 125, 104]);
    }

    #[test]
    fn it_follows_what_is_wanted() {
        let mut limit = Limit::new(10);
        limit.wanted = 50;
        assert_eq!(limit.grant(), Some(50));
        limit.wanted = 5_000;
        assert_eq!(limit.grant(), Some(104));
        limit.open = 90;
        assert_eq!(limit.grant(), Some(208));
        limit.wanted = 20;
        assert_eq!(limit.grant(), Some(20));
    }

    #[test]
    fn a_limit_of_zero_stays_zero() {
        let mut limit = Limit::new(0);
        assert_eq!(opened(&mut limit, 0), 0);
    }
}

//! Stateless resets that outlive the process (RFC 9000 section 10.3).
//!
//! A server that is started again knows nothing of its clients' connections. It can still end them at once, instead of
//! leaving them to their idle timeout, if it derives the same reset tokens from the connection ids as the process before
//! it: from a key that the application keeps.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};

use crate::config::RESET_INTERVAL;

/// The secret from which reset tokens are derived. It does not show in debug output.
#[derive(Clone)]
pub struct ResetKey(hmac::Key);

impl ResetKey {
    /// From any number of secret bytes. HMAC-SHA256 wants 32 at least (RFC 2104 section 3) and takes 64 as they are.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

/// The configuration of a server's endpoint. Without a key its resets are good for this process alone.
pub(crate) fn endpoint_config(key: Option<&ResetKey>) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.min_reset_interval(RESET_INTERVAL);
    if let Some(ResetKey(key)) = key {
        config.reset_key(Arc::new(key.clone()));
        config.cid_generator(|| Box::new(RandomIds));
    }
    config
}

/// Connection ids that do not come again, and that are anybody's.
///
/// quinn's own generator does not fit a key that stays. It draws 3 random bytes, which is enough for the connections of one
/// process; but the token of a connection that was reset is known to whoever saw the reset, and would end the connection
/// that got the same id later (RFC 9000 section 10.3.2: such an id MUST NOT be used again). And it ignores packets whose id
/// another process made, which are the very ones to answer. [`RESET_INTERVAL`] limits the answers to garbage.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        // Fails only where the system has no entropy, and there TLS has failed before.
        let _ = rand::fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// As long as quinn's: they repeat after 2^32 ids.
const ID_LEN: usize = 8;

//! quinn's streams with explicit endings, limits on them that cost nothing unused, and a congestion window that
//! acknowledgements and closes can leave.
//!
//! The one crate that names quinn's stream types, so that RESET_STREAM_AT can be added underneath later without touching
//! the layers above. It knows nothing of HTTP/3 or WebTransport: error codes are plain 62-bit numbers.

pub mod congestion;
pub mod stream_limits;
mod streams;

pub use congestion::close;
pub use quinn::Connection;
pub use streams::{
    ReadError, RecvStream, SendStream, Stopped, WriteError, accept_bi, accept_uni, open_bi, open_uni, try_open_bi,
    try_open_uni,
};

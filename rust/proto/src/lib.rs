//! WebTransport over HTTP/3 without I/O: bytes in, events and bytes out.
//!
//! The crate knows the drafts and the RFCs. It parses what a peer sent, decides what that means, and produces the
//! bytes and the verdicts (finish, reset, stop, close) that the layer above carries out on its QUIC connection.
//!
//! What it never does: it opens no socket, reads no clock (an [`Instant`](std::time::Instant) is always a
//! parameter), spawns no task, takes no lock, and keeps no byte it does not need: every buffer has a bound, whatever
//! the peer sends. It has no panic that a peer can reach.
//!
//! Names tell the direction: `handle_*` and `push` take input, `poll_*` and `next` give output.
//!
//! | noun | module |
//! |---|---|
//! | integers, field sections (the only users of outside codecs) | [`varint`], [`headers`], private `codec` and `field_section` |
//! | codes and errors, by width | [`error_code`], [`error`] |
//! | what the two sides announced, and what follows | [`settings`], [`dialect`] |
//! | framing | [`frame`], [`capsule`], [`stream_header`], [`datagram`] |
//! | the peer's control and QPACK streams | [`control`] |
//! | this side's GOAWAY | [`goaway`] |
//! | keying material of a session | [`exporter`] |
//! | credit for streams and bytes of a session | [`flow_control`] |
//! | one CONNECT stream as a state machine | [`session`] |
//! | one request of plain HTTP and its response | [`http`] |
//! | who may ask, and what for | [`origin`], [`subprotocol`] over [`structured_field`] |
//! | the sessions of a connection, early streams and datagrams | [`registry`] |
//!
//! The text that is tracked is named once: [`TRACKED_DRAFT`]. A bare section sign (§) in comments is a section of it.

#![forbid(unsafe_code)]

pub mod capsule;
pub mod control;
pub mod datagram;
pub mod dialect;
pub mod error;
pub mod error_code;
pub mod exporter;
pub mod flow_control;
pub mod frame;
pub mod goaway;
pub mod headers;
pub mod http;
pub mod origin;
pub mod registry;
pub mod session;
pub mod settings;
pub mod stream_header;
pub mod structured_field;
pub mod subprotocol;
pub mod varint;

mod codec;
mod field_section;
mod tlv;

/// The draft whose sections the comments cite.
pub const TRACKED_DRAFT: &str = "draft-ietf-webtrans-http3-16";

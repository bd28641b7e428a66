//! WebTransport endpoints: sockets, QUIC, queues, budgets and counters around wt-proto. No Python.
//!
//! Who owns whom: a `Client` or `Server` owns a quinn endpoint; a `Connection` owns its sessions (in a registry); a
//! `Session` owns its queues and knows its streams; a stream half belongs to the application and its pump. Handles are
//! `Arc`s; what is over leaves every map.
//!
//! Which task runs what: see `connection` (per connection), `connect_stream` (per session), `http` (per plain request),
//! `send_stream`, `recv_stream` and `datagram` (pumps). All are spawned through a [`driver::Driver`], on the I/O thread
//! or on the event loop's own thread, and none of them ever waits for the application.
//!
//! Order of shutdown: streams flush, CLOSE and FIN go out, the peer's FIN comes, streams are reset and stopped, the session
//! leaves its connection; the connection closes; the endpoint releases its port; the driver stops.

pub mod bridge;
pub mod certificate;
mod cipher_suites;
pub mod client;
pub mod config;
mod connect_stream;
pub mod connection;
pub mod datagram;
pub mod driver;
pub mod endpoint;
pub mod error;
pub mod flow_control;
mod gate;
pub mod http;
mod incoming;
pub mod operation;
pub mod recv_stream;
mod resumption;
pub mod send_stream;
pub mod server;
pub mod session;
mod socket;
pub mod stateless_reset;
pub mod stats;
mod tls;

pub use wt_proto as proto;

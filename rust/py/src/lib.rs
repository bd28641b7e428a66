//! `pywebtransport._core`: the Python binding of wt-io. A table of contents.
//!
//! Each class unpacks arguments, calls wt-io, and packs the answer; decisions about the protocol are made below. Classes
//! are frozen and safe to call from any thread of a free-threaded Python, though the objects of a loop belong to its
//! thread. `python/pywebtransport/_core.pyi` documents every member.

mod bridge;
mod connection;
mod convert;
mod endpoint;
mod errors;
mod exit;
mod http;
mod operation;
mod readiness;
mod recv_stream;
mod send_stream;
mod session;

/// The private core of pywebtransport.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::{
        bridge::{Bridge, Subscription, forget_after_fork},
        connection::{CloseInfo, Connection},
        convert::check_origin_pattern,
        endpoint::{Client, Server, generate_dev_certificate, generate_self_signed_cert},
        exit::shutdown,
        http::Exchange,
        operation::Operation,
        readiness::Readiness,
        recv_stream::RecvStream,
        send_stream::SendStream,
        session::Session,
    };

    #[pymodule_export]
    const SENT: u8 = crate::convert::SENT;
    #[pymodule_export]
    const SENT_YIELD: u8 = crate::convert::SENT_YIELD;
    #[pymodule_export]
    const NO_ROOM: u8 = crate::convert::NO_ROOM;

    #[pymodule_export]
    const SOCKET_BUFFER_SIZE: usize = wt_io::config::SOCKET_BUFFER;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::bridge::register_at_fork(module)
    }
}

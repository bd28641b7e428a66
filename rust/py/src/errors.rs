//! The one mapping from errors of the core to exceptions.
//!
//! The classes are Python classes in `pywebtransport.exceptions`. What the peer said is in attributes: `close_code`,
//! `close_reason`, `ended_by`, `application_code`, `wire_code`.

use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::PyDict,
};
use wt_io::{
    error::{
        AnswerError, CloseCause, CloseInfo, ConnectError, ConnectionEnd, DatagramError, ExportError, Initiator,
        ListenError, OpenError, StreamEnd, TlsConfigError,
    },
    proto::error_code::Code,
};

/// Which class the object at hand raises.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Class {
    Datagram,
    Server,
    Session,
    Stream,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Datagram => "DatagramError",
            Self::Server => "ServerError",
            Self::Session => "SessionError",
            Self::Stream => "StreamError",
        }
    }
}

/// "local", "peer" or "transport".
pub(crate) fn initiator(by: Initiator) -> &'static str {
    match by {
        Initiator::Local => "local",
        Initiator::Peer => "peer",
        Initiator::Transport => "transport",
    }
}

/// One word for the cause of a session's end.
pub(crate) fn cause(cause: &CloseCause) -> &'static str {
    match cause {
        CloseCause::Closed => "closed",
        CloseCause::Rejected { .. } => "rejected",
        CloseCause::Reset(_) => "reset",
        CloseCause::Protocol(_) => "protocol",
        CloseCause::ConnectionLost => "connection_lost",
    }
}

pub(crate) fn after_fork() -> PyErr {
    PyRuntimeError::new_err(
        "created before fork: this process has a copy of the object, but not its connection; make a new one here",
    )
}

/// An exception of `class` with `message`, keyword arguments for its constructor and attributes.
fn make(py: Python<'_>, class: &str, message: &str, arguments: &[(&str, Bound<'_, PyAny>)]) -> PyErr {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let build = || -> PyResult<Bound<'_, PyAny>> {
        let module = MODULE
            .get_or_try_init(py, || py.import("pywebtransport.exceptions").map(Bound::unbind))?
            .bind(py);
        let keywords = PyDict::new(py);
        arguments
            .iter()
            .try_for_each(|(name, value)| keywords.set_item(name, value))?;
        module.getattr(class)?.call((message,), Some(&keywords))
    };
    // A class that cannot be built is a fault of this package; its own error says more than the lost one.
    build().map_or_else(|error| error, PyErr::from_value)
}

fn set(py: Python<'_>, error: PyErr, name: &str, value: impl for<'py> IntoPyObject<'py>) -> PyErr {
    match error.value(py).setattr(name, value) {
        Ok(()) => error,
        Err(failure) => failure,
    }
}

/// "closed by the peer with code 7: bye", for a session.
fn describe(info: &CloseInfo) -> String {
    let by = match info.by {
        Initiator::Local => "by this side",
        Initiator::Peer => "by the peer",
        Initiator::Transport => "by the transport",
    };
    let reason = if info.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", info.reason)
    };
    match &info.cause {
        CloseCause::Closed => format!("closed {by} with code {}{reason}", info.code),
        CloseCause::Rejected { status } => format!("rejected with HTTP status {status}"),
        CloseCause::Reset(code) => format!("CONNECT stream reset {by} with {}", code_name(*code)),
        CloseCause::Protocol(error) => format!(
            "ended for a protocol error of the peer, {}{reason}",
            code_name(error.code)
        ),
        CloseCause::ConnectionLost => format!("connection lost{reason}"),
    }
}

fn code_name(code: Code) -> String {
    code.name().map_or_else(|| format!("0x{:x}", code.0), str::to_owned)
}

/// The session is over, or was never there.
pub(crate) fn session_closed(py: Python<'_>, class: Class, info: Option<&CloseInfo>) -> PyErr {
    let Some(info) = info else {
        return make(py, class.name(), "the session is not connected, or is closing", &[]);
    };
    let error = make(
        py,
        class.name(),
        &format!("the session is closed: {}", describe(info)),
        &[],
    );
    let error = set(py, error, "close_code", info.code);
    let error = set(py, error, "close_reason", info.reason.as_str());
    let error = match &info.cause {
        CloseCause::Reset(code) => set(py, error, "wire_code", code.0),
        CloseCause::Protocol(fault) => set(py, error, "wire_code", fault.code.0),
        _ => error,
    };
    set(py, error, "ended_by", initiator(info.by))
}

/// Half of a stream has ended early.
pub(crate) fn stream(py: Python<'_>, id: u64, end: &StreamEnd) -> PyErr {
    let codes = || match (end.application_code(), end.wire_code()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(code)) => format!("{}, which is no application code", code_name(Code(code))),
        (None, None) => String::new(),
    };
    let (message, by) = match end {
        StreamEnd::SessionClosed(info) => {
            let error = session_closed(py, Class::Stream, Some(info));
            return set(py, error, "stream_id", id);
        }
        StreamEnd::Reset(_) => (format!("the peer reset the stream with {}", codes()), "peer"),
        StreamEnd::Stopped(_) => (format!("the peer stopped the stream with {}", codes()), "peer"),
        StreamEnd::Local(what) => (format!("Stream {id} is not usable: {what}"), "local"),
    };
    let id = id
        .into_pyobject(py)
        .map(Bound::into_any)
        .unwrap_or_else(|never| match never {});
    let error = make(py, "StreamError", &message, &[("stream_id", id)]);
    let error = set(py, error, "application_code", end.application_code());
    let error = set(py, error, "wire_code", end.wire_code());
    set(py, error, "ended_by", by)
}

/// A stream could not be opened or accepted.
pub(crate) fn open(py: Python<'_>, class: Class, error: &OpenError) -> PyErr {
    match error {
        OpenError::SessionClosed(info) => session_closed(py, class, info.as_ref()),
        OpenError::TooManySessions => plain(
            py,
            class,
            "the connection carries as many sessions as it may: one, unless both sides announce flow control",
        ),
        OpenError::GoingAway => plain(
            py,
            class,
            "the connection takes no new sessions, because one side is going away (GOAWAY): connect again",
        ),
        OpenError::HeadersTooLarge { .. } => make(py, "ClientError", &error.to_string(), &[]),
    }
}

/// A session request was not accepted.
pub(crate) fn answer(py: Python<'_>, error: &AnswerError, info: Option<&CloseInfo>) -> PyErr {
    match error {
        AnswerError::Gone => session_closed(py, Class::Session, info),
        AnswerError::HeadersTooLarge { .. } => PyValueError::new_err(error.to_string()),
    }
}

/// There is no keying material.
pub(crate) fn export(py: Python<'_>, error: &ExportError) -> PyErr {
    match error {
        ExportError::Invalid(invalid) => PyValueError::new_err(invalid.to_string()),
        ExportError::SessionClosed(info) => session_closed(py, Class::Session, info.as_ref()),
    }
}

/// A datagram was not accepted.
pub(crate) fn datagram(py: Python<'_>, error: &DatagramError) -> PyErr {
    match error {
        DatagramError::TooLarge { size, max } => {
            let arguments = PyDict::new(py);
            let build = || {
                arguments.set_item("size", size)?;
                arguments.set_item("max_size", max)?;
                py.import("pywebtransport.exceptions")?
                    .call_method("datagram_too_large", (), Some(&arguments))
            };
            build().map_or_else(|error| error, PyErr::from_value)
        }
        DatagramError::Full => make(
            py,
            "DatagramError",
            "the outgoing datagram queue is full: send slower, or set datagram_overflow=\"wait\"",
            &[],
        ),
        DatagramError::SessionClosed(info) => session_closed(py, Class::Datagram, info.as_ref()),
    }
}

/// A certificate, key or verification setting cannot be used.
pub(crate) fn tls(py: Python<'_>, error: &TlsConfigError) -> PyErr {
    let Some(path) = error.path() else {
        return make(py, "ConfigurationError", &error.to_string(), &[]);
    };
    let kind = match error {
        TlsConfigError::Unreadable { error, .. } if error.kind() == std::io::ErrorKind::NotFound => "file_not_found",
        TlsConfigError::Unreadable { .. } => "unreadable",
        _ => "unusable",
    };
    let error = make(py, "CertificateError", &error.to_string(), &[]);
    let error = set(py, error, "certificate_path", path.display().to_string());
    set(py, error, "certificate_error", kind)
}

/// A connection attempt failed.
pub(crate) fn connect(py: Python<'_>, error: &ConnectError) -> PyErr {
    match error {
        ConnectError::Certificate(message) => make(py, "CertificateError", message, &[]),
        ConnectError::Connection { message, code } => {
            let error = make(py, "ConnectionError", message, &[]);
            set(py, error, "wire_code", *code)
        }
        other => make(py, "ConnectionError", &other.to_string(), &[]),
    }
}

/// A server could not be started.
pub(crate) fn listen(py: Python<'_>, error: &ListenError) -> PyErr {
    match error {
        ListenError::Tls(error) => tls(py, error),
        ListenError::Bind { .. } => make(py, "ServerError", &error.to_string(), &[]),
    }
}

/// The connection has ended.
pub(crate) fn connection(py: Python<'_>, end: &ConnectionEnd) -> PyErr {
    let error = make(
        py,
        "ConnectionError",
        &format!("the connection is closed: {}", end.reason),
        &[],
    );
    let error = set(py, error, "wire_code", end.code);
    set(py, error, "ended_by", initiator(end.by))
}

/// An error with a fixed text.
pub(crate) fn plain(py: Python<'_>, class: Class, message: &str) -> PyErr {
    make(py, class.name(), message, &[])
}

//! Connections.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use pyo3::{exceptions::PyValueError, prelude::*};
use wt_io::{
    client::Lease,
    error::{CloseCause, ConnectionEnd},
    proto::{headers::HeaderList, subprotocol},
};

use crate::{
    bridge::{Bridge, Subscription},
    errors::{self, Class},
    readiness::Readiness,
    session::Session,
};

/// How a session or connection ended.
#[pyclass(frozen, get_all, module = "pywebtransport._core")]
pub(crate) struct CloseInfo {
    code: u64,
    reason: String,
    ended_by: &'static str,
    cause: &'static str,
    status: Option<u16>,
    wire_code: Option<u64>,
}

impl From<wt_io::error::CloseInfo> for CloseInfo {
    fn from(info: wt_io::error::CloseInfo) -> Self {
        let status = match info.cause {
            CloseCause::Rejected { status } => Some(status),
            _ => None,
        };
        let wire_code = match info.cause {
            CloseCause::Reset(code) => Some(code.0),
            CloseCause::Protocol(fault) => Some(fault.code.0),
            _ => None,
        };
        Self {
            wire_code,
            code: info.code.into(),
            cause: errors::cause(&info.cause),
            reason: info.reason,
            ended_by: errors::initiator(info.by),
            status,
        }
    }
}

impl From<&ConnectionEnd> for CloseInfo {
    fn from(end: &ConnectionEnd) -> Self {
        Self {
            code: end.code,
            reason: end.reason.clone(),
            ended_by: errors::initiator(end.by),
            cause: end.cause,
            status: None,
            wire_code: (end.code != 0).then_some(end.code),
        }
    }
}

/// One HTTP/3 connection. Two objects are equal when they stand for the same connection.
#[pyclass(frozen, weakref, module = "pywebtransport._core")]
pub(crate) struct Connection {
    bridge: Py<Bridge>,
    io: Arc<wt_io::connection::Connection>,
    /// Of a client: shared by its sessions, so that the connection lives as long as any of them is held.
    lease: Option<Arc<Lease>>,
}

impl Connection {
    pub(crate) fn of_client(bridge: Py<Bridge>, lease: Lease) -> Self {
        Self {
            bridge,
            io: lease.connection().clone(),
            lease: Some(Arc::new(lease)),
        }
    }

    /// A server keeps its connections until it is closed, whoever holds them.
    pub(crate) fn of_server(bridge: Py<Bridge>, io: Arc<wt_io::connection::Connection>) -> Self {
        Self {
            bridge,
            io,
            lease: None,
        }
    }

    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        Self {
            bridge: self.bridge.clone_ref(py),
            io: self.io.clone(),
            lease: self.lease.clone(),
        }
    }

    pub(crate) fn bridge(&self) -> &Py<Bridge> {
        &self.bridge
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.bridge.get().may_drop() {
            // In a forked child: the parent's connection is not ours to close.
            std::mem::forget(self.lease.take());
        }
    }
}

#[pymethods]
impl Connection {
    #[getter]
    fn driver(&self) -> &'static str {
        self.io.driver().kind().name()
    }

    #[getter]
    fn dialect(&self) -> Option<&'static str> {
        self.io.dialect().map(|dialect| dialect.name())
    }

    #[getter]
    fn local_address(&self) -> PyResult<Option<(String, u16)>> {
        self.bridge.get().check()?;
        Ok(self
            .io
            .local_address()
            .map(|address| (address.ip().to_string(), address.port())))
    }

    #[getter]
    fn remote_address(&self) -> PyResult<(String, u16)> {
        self.bridge.get().check()?;
        let address = self.io.remote_address();
        Ok((address.ip().to_string(), address.port()))
    }

    #[getter]
    fn close_info(&self) -> PyResult<Option<CloseInfo>> {
        self.bridge.get().check()?;
        Ok(self.io.end().map(CloseInfo::from))
    }

    fn request_session(
        &self,
        py: Python<'_>,
        authority: String,
        path: String,
        mut headers: HeaderList,
        subprotocols: Vec<String>,
    ) -> PyResult<Session> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        subprotocol::offer(&mut headers, &subprotocols).map_err(PyValueError::new_err)?;
        if let Some(end) = self.io.end() {
            return Err(errors::connection(py, end));
        }
        let request = || self.io.request_session(authority, path, headers);
        let io = Bridge::operate(bridge, self.io.driver().kind(), request)?
            .map_err(|error| errors::open(py, Class::Session, &error))?;
        Ok(Session::new(py, self.again(py), io))
    }

    fn can_request_session(&self) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(self.io.can_request_session())
    }

    #[getter]
    fn is_going_away(&self) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(self.io.is_going_away())
    }

    fn go_away(&self, py: Python<'_>) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.io.driver().kind(), || self.io.go_away())
    }

    fn session_count(&self) -> PyResult<usize> {
        self.bridge.get().check()?;
        Ok(self.io.session_count())
    }

    fn settings(&self) -> HashMap<u64, u64> {
        self.io
            .peer_settings()
            .map(|settings| settings.iter().collect())
            .unwrap_or_default()
    }

    fn stats(&self) -> PyResult<HashMap<&'static str, f64>> {
        self.bridge.get().check()?;
        let quic = self.io.quic().stats();
        let (stats, socket) = (self.io.stats(), self.io.socket());
        // Streams that the early buffers turned away are among those of `stats` already.
        let (_, datagrams_dropped) = self.io.early_drops();
        Ok(HashMap::from([
            ("bytes_sent", quic.udp_tx.bytes as f64),
            ("bytes_received", quic.udp_rx.bytes as f64),
            ("packets_sent", quic.udp_tx.datagrams as f64),
            ("packets_received", quic.udp_rx.datagrams as f64),
            ("packets_lost", quic.path.lost_packets as f64),
            ("rtt", quic.path.rtt.as_secs_f64()),
            ("cwnd", quic.path.cwnd as f64),
            // quinn keeps this number to itself.
            ("packets_in_flight", 0.0),
            ("mtu", f64::from(quic.path.current_mtu)),
            ("last_activity", self.io.last_activity()),
            ("established_at", stats.established_at.get()),
            ("closed_at", stats.closed_at.get()),
            ("streams_rejected", stats.streams_rejected.get() as f64),
            ("datagrams_dropped_early", datagrams_dropped as f64),
            ("protocol_errors", stats.protocol_errors.get() as f64),
            ("gso_segments", socket.gso_segments() as f64),
            ("gro_segments", socket.gro_segments() as f64),
            ("send_buffer_size", socket.buffers.send as f64),
            ("receive_buffer_size", socket.buffers.receive as f64),
        ]))
    }

    #[getter]
    fn has_ended(&self) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(self.io.has_ended())
    }

    fn closed(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, self.io.closed()))
    }

    fn subscribe(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<Subscription> {
        self.bridge.get().check()?;
        let subscription = Subscription::new(self.bridge.clone_ref(py), callback);
        self.io.subscribe(subscription.token());
        Ok(subscription)
    }

    fn close(&self, py: Python<'_>, code: u64, reason: &str) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.io.driver().kind(), || self.io.close(code, reason))
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.io.driver().kind(), || self.io.release())
    }

    fn __eq__(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.io, &other.io)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Arc::as_ptr(&self.io).hash(&mut hasher);
        hasher.finish()
    }
}

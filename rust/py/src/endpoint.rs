//! Clients and servers.

use std::{collections::HashMap, future::Future, sync::Arc};

use pyo3::{IntoPyObjectExt, exceptions::PyValueError, prelude::*, types::PyBytes};
use wt_io::{certificate, server::Accepted};

use crate::{
    bridge::Bridge, connection::Connection, convert, errors, errors::Class, http::Exchange, operation::Operation,
    readiness::Readiness, session::Session,
};

/// A client configuration, parsed once.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Client {
    bridge: Py<Bridge>,
    io: Arc<wt_io::client::Client>,
}

#[pymethods]
impl Client {
    #[new]
    fn new(bridge: Bound<'_, Bridge>, config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = bridge.py();
        let wish = convert::driver_kind(config)?;
        let config = convert::client_config(config)?;
        let driver = Bridge::driver(&bridge, wish, config.common.idle_timeout)?;
        let endpoint = bridge.get().client_endpoint(&driver, config.common.preset)?;
        let io = wt_io::client::Client::new(driver, bridge.get().port().clone(), endpoint, config)
            .map_err(|error| errors::tls(py, &error))?;
        Ok(Self {
            bridge: bridge.unbind(),
            io,
        })
    }

    #[getter]
    fn driver(&self) -> &'static str {
        self.io.driver().kind().name()
    }

    fn connect(&self, py: Python<'_>, host: String, port: u16) -> PyResult<Operation> {
        let owner = self.bridge.clone_ref(py);
        let start = || self.io.connecting(host, port);
        Operation::start(
            self.bridge.bind(py),
            self.io.driver().kind(),
            start,
            move |py, connected| {
                let lease = connected.map_err(|error| errors::connect(py, &error))?;
                Ok(Py::new(py, Connection::of_client(owner.clone_ref(py), lease))?.into_any())
            },
        )
    }
}

/// A bound server.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Server {
    bridge: Py<Bridge>,
    io: Arc<wt_io::server::Server>,
}

#[pymethods]
impl Server {
    #[staticmethod]
    fn listen(bridge: Bound<'_, Bridge>, config: &Bound<'_, PyAny>, host: String, port: u16) -> PyResult<Operation> {
        let wish = convert::driver_kind(config)?;
        let config = convert::server_config(config)?;
        let driver = Bridge::driver(&bridge, wish, config.common.idle_timeout)?;
        let (wake, owner) = (bridge.get().port().clone(), bridge.clone().unbind());
        let start = || wt_io::server::Server::listening(&driver, wake, config, host, port);
        Operation::start(&bridge, driver.kind(), start, move |py, listening| {
            let io = listening.map_err(|error| errors::listen(py, &error))?;
            let bridge = owner.clone_ref(py);
            Ok(Py::new(py, Server { bridge, io })?.into_any())
        })
    }

    #[getter]
    fn driver(&self) -> &'static str {
        self.io.driver().kind().name()
    }

    #[getter]
    fn local_address(&self) -> (String, u16) {
        let address = self.io.local_address();
        (address.ip().to_string(), address.port())
    }

    #[pyo3(signature = (ticket = 0))]
    fn try_accept<'py>(&self, py: Python<'py>, ticket: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.bridge.get().check()?;
        if ticket == 0 && self.io.has_accept_waiters() {
            return Ok(None);
        }
        match self.io.try_accept() {
            Ok(None) => Ok(None),
            Ok(Some(Accepted::Connection(io))) => Ok(Some(
                Bound::new(py, Connection::of_server(self.bridge.clone_ref(py), io))?.into_any(),
            )),
            Ok(Some(Accepted::Request(io))) => Ok(Some(
                Bound::new(
                    py,
                    Session::new(
                        py,
                        Connection::of_server(self.bridge.clone_ref(py), io.connection().clone()),
                        io,
                    ),
                )?
                .into_any(),
            )),
            Ok(Some(Accepted::Exchange(io))) => {
                let connection = Connection::of_server(self.bridge.clone_ref(py), io.connection().clone());
                Ok(Some(Bound::new(py, Exchange::new(py, connection, io))?.into_any()))
            }
            Err(_) => Err(errors::plain(py, Class::Server, "the server is closed")),
        }
    }

    fn acceptable(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, self.io.acceptable()))
    }

    fn stats(&self) -> PyResult<HashMap<&'static str, u64>> {
        self.bridge.get().check()?;
        let (stats, socket) = (self.io.stats(), self.io.socket());
        Ok(HashMap::from([
            ("connections_accepted", stats.connections_accepted.get()),
            ("connections_rejected", stats.connections_rejected.get()),
            ("handshakes_resumed", stats.handshakes_resumed.get()),
            ("handshakes_failed", stats.handshakes_failed.get()),
            ("handshakes_timed_out", stats.handshakes_timed_out.get()),
            ("handshakes_ignored", stats.handshakes_ignored.get()),
            ("handshakes_refused", stats.handshakes_refused.get()),
            ("handshakes_pending", self.io.pending_handshakes() as u64),
            ("retries_sent", stats.retries_sent.get()),
            ("connections", self.io.connection_count() as u64),
            ("protocol_errors", stats.protocol_errors.get()),
            ("requests_rejected", stats.requests_rejected.get()),
            ("origins_refused", stats.origins_refused.get()),
            ("http_requests", stats.http_requests.get()),
            ("requests_timed_out", stats.requests_timed_out.get()),
            ("gso_segments", socket.gso_segments() as u64),
            ("gro_segments", socket.gro_segments() as u64),
            ("send_buffer_size", socket.buffers.send as u64),
            ("receive_buffer_size", socket.buffers.receive as u64),
        ]))
    }

    fn drain(&self, py: Python<'_>, limit: f64) -> PyResult<Operation> {
        self.run(py, self.io.clone().drain(convert::seconds(limit)))
    }

    fn close(&self, py: Python<'_>) -> PyResult<Operation> {
        self.run(py, self.io.clone().close())
    }
}

impl Server {
    /// An operation whose result says no more than that it is over.
    fn run(&self, py: Python<'_>, future: impl Future<Output = ()> + Send + 'static) -> PyResult<Operation> {
        let (driver, bridge) = (self.io.driver(), self.bridge.bind(py));
        let port = bridge.get().port().clone();
        let start = || wt_io::operation::Operation::start(driver, port, future, drop);
        Operation::start(bridge, driver.kind(), start, |py, ()| true.into_py_any(py))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that nobody holds any more cannot be accepted from: stop it, without waiting.
        if self.bridge.get().may_drop() {
            self.io.driver().spawn(self.io.clone().close());
        }
    }
}

type Pem<'py> = Bound<'py, PyBytes>;

/// An ECDSA P-256 certificate for development.
#[pyfunction]
pub(crate) fn generate_dev_certificate(
    py: Python<'_>,
    hostnames: Vec<String>,
    days_valid: f64,
) -> PyResult<(Pem<'_>, Pem<'_>, Bound<'_, PyBytes>)> {
    let made = certificate::generate_ecdsa(&hostnames, days_valid)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((
        PyBytes::new(py, made.certificate.as_bytes()),
        PyBytes::new(py, made.key.as_bytes()),
        PyBytes::new(py, &made.sha256),
    ))
}

/// An RSA certificate, as 0.8.1 made them.
#[pyfunction]
pub(crate) fn generate_self_signed_cert(
    py: Python<'_>,
    hostname: String,
    key_size: usize,
    days_valid: u32,
) -> PyResult<(Pem<'_>, Pem<'_>)> {
    let names = [hostname, "127.0.0.1".into(), "::1".into()];
    // RSA keys take up to seconds.
    let made = py
        .detach(|| certificate::generate_rsa(&names, key_size, days_valid))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((
        PyBytes::new(py, made.certificate.as_bytes()),
        PyBytes::new(py, made.key.as_bytes()),
    ))
}

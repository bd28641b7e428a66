//! Clients and servers.

use std::{collections::HashMap, sync::Arc};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use wt_io::{
    certificate,
    client::Lease,
    driver::DriverKind,
    error::{ConnectError, ListenError},
    server::Accepted,
};

use crate::{
    connection::Connection, convert, errors, errors::Class, http::Exchange, port::Bridge, readiness::Readiness,
    runtime::awaitable, session::Session,
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
        // A client waits for answers: the loop driver halves its round trips (performance.md 3).
        let wish = convert::driver_kind(config, DriverKind::Loop)?;
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

    fn connect<'py>(&self, py: Python<'py>, host: String, port: u16) -> PyResult<Bound<'py, PyAny>> {
        self.bridge.get().check()?;
        let (io, bridge) = (self.io.clone(), self.bridge.clone_ref(py));
        let driver = io.driver().clone();
        awaitable(self.bridge.bind(py), &driver, async move {
            Connected {
                bridge,
                result: io.connect(host, port).await,
            }
        })
    }
}

/// The outcome of a connect, turned into Python objects on the loop's thread.
struct Connected {
    bridge: Py<Bridge>,
    result: Result<Lease, ConnectError>,
}

impl<'py> IntoPyObject<'py> for Connected {
    type Target = Connection;
    type Output = Bound<'py, Connection>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let lease = self.result.map_err(|error| errors::connect(py, &error))?;
        Bound::new(py, Connection::of_client(self.bridge, lease))
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
    fn listen<'py>(
        bridge: Bound<'py, Bridge>,
        config: &Bound<'_, PyAny>,
        host: String,
        port: u16,
    ) -> PyResult<Bound<'py, PyAny>> {
        // A server runs handlers, which may compute: the thread driver keeps acknowledging meanwhile (performance.md 3).
        let wish = convert::driver_kind(config, DriverKind::Thread)?;
        let config = convert::server_config(config)?;
        let driver = Bridge::driver(&bridge, wish, config.common.idle_timeout)?;
        let (wake, owner) = (bridge.get().port().clone(), bridge.clone().unbind());
        let runner = driver.clone();
        awaitable(&bridge, &driver, async move {
            Listening {
                bridge: owner,
                result: wt_io::server::Server::listen(runner, wake, config, host, port).await,
            }
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

    fn drain<'py>(&self, py: Python<'py>, limit: f64) -> PyResult<Bound<'py, PyAny>> {
        self.bridge.get().check()?;
        let io = self.io.clone();
        let driver = io.driver().clone();
        awaitable(self.bridge.bind(py), &driver, io.drain(convert::seconds(limit)))
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.bridge.get().check()?;
        let io = self.io.clone();
        let driver = io.driver().clone();
        awaitable(self.bridge.bind(py), &driver, io.close())
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

/// The outcome of a listen.
struct Listening {
    bridge: Py<Bridge>,
    result: Result<Arc<wt_io::server::Server>, ListenError>,
}

impl<'py> IntoPyObject<'py> for Listening {
    type Target = Server;
    type Output = Bound<'py, Server>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let io = self.result.map_err(|error| errors::listen(py, &error))?;
        Bound::new(
            py,
            Server {
                bridge: self.bridge,
                io,
            },
        )
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

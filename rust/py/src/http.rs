//! Requests of plain HTTP.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use wt_io::{driver::DriverKind, proto::headers::HeaderList};

use crate::{
    bridge::Bridge,
    connection::Connection,
    convert,
    errors::{self, Class},
    readiness::Readiness,
};

/// A request of plain HTTP and its response.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Exchange {
    bridge: Py<Bridge>,
    connection: Connection,
    io: Arc<wt_io::http::Exchange>,
    driver: DriverKind,
}

impl Exchange {
    pub(crate) fn new(py: Python<'_>, connection: Connection, io: Arc<wt_io::http::Exchange>) -> Self {
        Self {
            bridge: connection.bridge().clone_ref(py),
            connection,
            driver: io.connection().driver().kind(),
            io,
        }
    }

    fn operate<T>(&self, py: Python<'_>, operation: impl FnOnce() -> T) -> PyResult<T> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.driver, operation)
    }
}

#[pymethods]
impl Exchange {
    #[getter]
    fn connection(&self, py: Python<'_>) -> Connection {
        self.connection.again(py)
    }

    #[getter]
    fn method(&self) -> &str {
        &self.io.request().method
    }

    #[getter]
    fn path(&self) -> &str {
        &self.io.request().path
    }

    #[getter]
    fn authority(&self) -> &str {
        &self.io.request().authority
    }

    #[getter]
    fn headers(&self) -> HeaderList {
        self.io.request().headers.clone()
    }

    fn collect(&self, py: Python<'_>, limit: u64) -> PyResult<()> {
        self.operate(py, || self.io.collect(limit))
    }

    fn try_content<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.bridge.get().check()?;
        match self.io.content() {
            None => Ok(None),
            Some(Ok(content)) => Ok(Some(PyBytes::new(py, &content).into_any())),
            Some(Err(reason)) => match reason.status() {
                Some(status) => Ok(Some(status.into_pyobject(py)?.into_any())),
                None => Err(errors::plain(py, Class::Server, "the request is gone")),
            },
        }
    }

    fn collected(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, self.io.collected()))
    }

    fn respond(&self, py: Python<'_>, status: u16, headers: HeaderList, content: &Bound<'_, PyAny>) -> PyResult<()> {
        let content = convert::with_bytes(content, Bytes::copy_from_slice)?;
        self.operate(py, || self.io.respond(status, headers, content))?
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.operate(py, || self.io.abandon())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() {
            self.io.abandon();
        }
    }
}

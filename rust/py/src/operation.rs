//! What takes its time: it runs on a driver, and Python parks until its result can be taken.

use std::sync::Arc;

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use wt_io::{
    bridge::ring::WaitPoint,
    driver::DriverKind,
    operation::{self, Gone},
};

use crate::{bridge::Bridge, readiness::Readiness};

/// A core operation, whatever its result.
trait Pending: Send + Sync {
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>>;
    fn ready(&self) -> Box<dyn WaitPoint>;
    fn cancel(&self);
    fn leak(&self);
}

/// It, and what makes a Python object of its result.
struct Converted<T, F> {
    io: Arc<operation::Operation<T>>,
    convert: F,
}

impl<T, F> Pending for Converted<T, F>
where
    T: Send + 'static,
    F: Fn(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + Sync,
{
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.io.take() {
            None => Ok(None),
            Some(Ok(result)) => (self.convert)(py, result).map(|object| Some(object.into_bound(py))),
            Some(Err(Gone)) => Err(PyRuntimeError::new_err("the operation has no result any more")),
        }
    }

    fn ready(&self) -> Box<dyn WaitPoint> {
        self.io.ready()
    }

    fn cancel(&self) {
        self.io.cancel();
    }

    fn leak(&self) {
        std::mem::forget(self.io.clone());
    }
}

/// Something under way, and then its result.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Operation {
    bridge: Py<Bridge>,
    io: Box<dyn Pending>,
}

impl Operation {
    /// Start it, and drive it right away if it is the first of a loop turn.
    pub(crate) fn start<T: Send + 'static>(
        bridge: &Bound<'_, Bridge>,
        driver: DriverKind,
        start: impl FnOnce() -> Arc<operation::Operation<T>>,
        convert: impl Fn(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + Sync + 'static,
    ) -> PyResult<Self> {
        bridge.get().check()?;
        let io = Bridge::operate(bridge, driver, start)?;
        Ok(Self {
            bridge: bridge.clone().unbind(),
            io: Box::new(Converted { io, convert }),
        })
    }
}

#[pymethods]
impl Operation {
    fn ready(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, self.io.ready()))
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.bridge.get().check()?;
        self.io.take(py)
    }

    fn cancel(&self) {
        if self.bridge.get().may_drop() {
            self.io.cancel();
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() {
            self.io.cancel();
        } else {
            // In a forked child: what the parent connects to is not ours to close.
            self.io.leak();
        }
    }
}

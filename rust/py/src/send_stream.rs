//! The sending half of a stream.

use std::sync::Arc;

use pyo3::{exceptions::PyException, prelude::*};
use wt_io::send_stream::SendState;

use crate::{
    bridge::{Bridge, Departure},
    convert, errors,
    readiness::Readiness,
};

/// The sending half of a stream. Dropped before it is finished it is reset with code 0.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct SendStream {
    bridge: Py<Bridge>,
    io: Arc<wt_io::send_stream::SendStream>,
    driver: wt_io::driver::DriverKind,
}

impl SendStream {
    pub(crate) fn new(
        bridge: Py<Bridge>,
        io: Arc<wt_io::send_stream::SendStream>,
        driver: wt_io::driver::DriverKind,
    ) -> Self {
        Self { bridge, io, driver }
    }

    fn readiness(
        &self,
        py: Python<'_>,
        point: impl FnOnce(&Arc<wt_io::send_stream::SendStream>) -> Box<dyn wt_io::bridge::ring::WaitPoint>,
    ) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, point(&self.io)))
    }
}

#[pymethods]
impl SendStream {
    #[getter]
    fn id(&self) -> u64 {
        self.io.id()
    }

    #[getter]
    fn state(&self) -> PyResult<&'static str> {
        self.bridge.get().check()?;
        Ok(self.io.state().name())
    }

    #[getter]
    fn bytes_sent(&self) -> PyResult<u64> {
        self.bridge.get().check()?;
        Ok(self.io.bytes_sent())
    }

    #[getter]
    fn is_open(&self) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(self.io.state() == SendState::Open)
    }

    #[getter]
    fn wait_times(&self) -> (f64, f64) {
        let (total, longest) = self.io.waits().get();
        (total.as_secs_f64(), longest.as_secs_f64())
    }

    #[getter]
    fn buffered(&self) -> PyResult<usize> {
        self.bridge.get().check()?;
        Ok(self.io.buffered())
    }

    #[getter]
    fn priority(&self) -> PyResult<i32> {
        self.bridge.get().check()?;
        Ok(self.io.priority())
    }

    #[setter]
    fn set_priority(&self, py: Python<'_>, priority: i32) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.driver, || self.io.set_priority(priority))
    }

    #[pyo3(signature = (data, finish = false))]
    fn write(&self, data: &Bound<'_, PyAny>, finish: bool) -> PyResult<u8> {
        let py = data.py();
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        // The answer to a message that is complete usually ends right after this write.
        let departure = if !finish && self.io.peer_has_finished() {
            Departure::TurnEnd
        } else {
            Departure::Now
        };
        let written = convert::with_bytes(data, |bytes| {
            Bridge::operate_at(bridge, self.driver, departure, || self.io.write(bytes, finish))
        })??
        .map_err(|end| errors::stream(py, self.io.id(), &end))?;
        Ok(convert::status(written))
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.driver, || self.io.finish())
    }

    fn reset(&self, py: Python<'_>, code: u32) -> PyResult<()> {
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        Bridge::operate(bridge, self.driver, || self.io.reset(code))
    }

    fn writable(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.writable())
    }

    fn flushed(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.flushed())
    }

    fn ended(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.ended())
    }

    fn error(&self, py: Python<'_>) -> PyResult<Option<Py<PyException>>> {
        self.bridge.get().check()?;
        let end = self.io.end().map(|end| errors::stream(py, self.io.id(), &end));
        end.map(|error| Ok(error.into_value(py).into_bound(py).cast_into::<PyException>()?.unbind()))
            .transpose()
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() && self.io.state() < SendState::Finished {
            self.io.reset(0);
        }
    }
}

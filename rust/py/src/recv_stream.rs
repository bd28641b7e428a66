//! The receiving half of a stream.

use std::sync::Arc;

use pyo3::{
    buffer::PyBuffer,
    exceptions::{PyException, PyTypeError},
    prelude::*,
    types::{PyBytes, PyMemoryView, PySlice},
};
use wt_io::recv_stream::{Chunks, RecvState};

use crate::{bridge::Bridge, errors, readiness::Readiness};

/// The receiving half of a stream. Dropped before its end it is stopped with code 0.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct RecvStream {
    bridge: Py<Bridge>,
    io: Arc<wt_io::recv_stream::RecvStream>,
}

impl RecvStream {
    pub(crate) fn new(bridge: Py<Bridge>, io: Arc<wt_io::recv_stream::RecvStream>) -> Self {
        Self { bridge, io }
    }

    fn take(&self, py: Python<'_>, max: usize) -> PyResult<Option<Chunks>> {
        self.bridge.get().check()?;
        self.io
            .try_read(max)
            .map_err(|end| errors::stream(py, self.io.id(), &end))
    }
}

#[pymethods]
impl RecvStream {
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
    fn bytes_received(&self) -> PyResult<u64> {
        self.bridge.get().check()?;
        Ok(self.io.bytes_received())
    }

    #[getter]
    fn is_open(&self) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(self.io.state() == RecvState::Open)
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

    fn try_read<'py>(&self, py: Python<'py>, max_bytes: isize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(chunks) = self.take(py, usize::try_from(max_bytes).unwrap_or(usize::MAX))? else {
            return Ok(None);
        };
        let mut pieces = chunks.iter();
        // The usual case is one packet's worth; several are joined with one copy.
        let bytes = match (pieces.next(), pieces.next()) {
            (None, _) => PyBytes::new(py, b""),
            (Some(only), None) => PyBytes::new(py, only),
            _ => PyBytes::new_with(py, chunks.len(), |mut room| {
                for piece in chunks.iter() {
                    let (place, rest) = room.split_at_mut(piece.len());
                    place.copy_from_slice(piece);
                    room = rest;
                }
                Ok(())
            })?,
        };
        Ok(Some(bytes))
    }

    fn try_read_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let view = PyMemoryView::from(buffer)?;
        let target = PyBuffer::<u8>::get(&view)?;
        if target.readonly() {
            return Err(PyTypeError::new_err("the buffer must be writable"));
        }
        let Some(chunks) = self.take(py, target.item_count())? else {
            return Ok(None);
        };
        let mut start = 0;
        for piece in chunks.iter() {
            let end = start + piece.len();
            let place = view.get_item(PySlice::new(py, start as isize, end as isize, 1))?;
            PyBuffer::<u8>::get(&place)?.copy_from_slice(py, piece)?;
            start = end;
        }
        Ok(Some(start))
    }

    fn stop(&self, py: Python<'_>, code: u32) -> PyResult<()> {
        self.bridge.bind(py).get().check()?;
        self.io.stop(code);
        Ok(())
    }

    #[pyo3(signature = (limit = None))]
    fn readable(&self, py: Python<'_>, limit: Option<f64>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::within(py, &self.bridge, self.io.readable(), limit))
    }

    fn ended(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, self.io.ended()))
    }

    fn error(&self, py: Python<'_>) -> PyResult<Option<Py<PyException>>> {
        self.bridge.get().check()?;
        let end = self.io.end().map(|end| errors::stream(py, self.io.id(), &end));
        end.map(|error| Ok(error.into_value(py).into_bound(py).cast_into::<PyException>()?.unbind()))
            .transpose()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() && self.io.state() == RecvState::Open {
            self.io.stop(0);
        }
    }
}

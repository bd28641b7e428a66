//! Sessions: their life, their streams, their datagrams.

use std::{collections::HashMap, sync::Arc};

use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyBytes, PyList},
};
use wt_io::{
    datagram::Received, driver::DriverKind, proto::headers::HeaderList, send_stream::Written, session::Stream,
};

use crate::{
    bridge::{Bridge, Departure, Subscription},
    connection::{CloseInfo, Connection},
    convert,
    errors::{self, Class},
    operation::Operation,
    readiness::Readiness,
    recv_stream::RecvStream,
    send_stream::SendStream,
};

/// One WebTransport session.
#[pyclass(frozen, weakref, module = "pywebtransport._core")]
pub(crate) struct Session {
    bridge: Py<Bridge>,
    connection: Connection,
    io: Arc<wt_io::session::Session>,
    driver: DriverKind,
}

impl Session {
    pub(crate) fn new(py: Python<'_>, connection: Connection, io: Arc<wt_io::session::Session>) -> Self {
        let driver = io.connection().driver().kind();
        let bridge = connection.bridge().clone_ref(py);
        Self {
            bridge,
            connection,
            io,
            driver,
        }
    }

    fn readiness(
        &self,
        py: Python<'_>,
        point: impl FnOnce(&Arc<wt_io::session::Session>) -> Box<dyn wt_io::bridge::ring::WaitPoint>,
    ) -> PyResult<Readiness> {
        self.bridge.get().check()?;
        Ok(Readiness::new(py, &self.bridge, point(&self.io)))
    }

    fn operate<T>(&self, py: Python<'_>, operation: impl FnOnce() -> T) -> PyResult<T> {
        Bridge::operate(self.bridge.bind(py), self.driver, operation)
    }

    /// None while another waiter comes first.
    fn may_receive(&self, ticket: u64) -> PyResult<bool> {
        self.bridge.get().check()?;
        Ok(ticket != 0 || !self.io.has_datagram_waiters())
    }

    fn try_receive(&self, py: Python<'_>, ticket: u64) -> PyResult<Option<Received>> {
        if !self.may_receive(ticket)? {
            return Ok(None);
        }
        self.io
            .try_receive_datagram()
            .map_err(|error| errors::datagram(py, &error))
    }
}

/// The Python objects of a stream's halves: the sending one, the receiving one.
type Halves<'py> = (Option<Bound<'py, SendStream>>, Option<Bound<'py, RecvStream>>);

fn halves<'py>(py: Python<'py>, bridge: &Py<Bridge>, driver: DriverKind, stream: Stream) -> PyResult<Halves<'py>> {
    let send = |io| Bound::new(py, SendStream::new(bridge.clone_ref(py), io, driver));
    let recv = |io| Bound::new(py, RecvStream::new(bridge.clone_ref(py), io));
    Ok(match stream {
        Stream::Bidirectional(sender, receiver) => (Some(send(sender)?), Some(recv(receiver)?)),
        Stream::Send(sender) => (Some(send(sender)?), None),
        Stream::Recv(receiver) => (None, Some(recv(receiver)?)),
    })
}

#[pymethods]
impl Session {
    #[getter]
    fn connection(&self, py: Python<'_>) -> Connection {
        self.connection.again(py)
    }

    #[getter]
    fn stream_id(&self) -> u64 {
        self.io.id()
    }

    #[getter]
    fn path(&self) -> &str {
        self.io.request().map_or("", |request| &request.path)
    }

    #[getter]
    fn authority(&self) -> &str {
        self.io.request().map_or("", |request| &request.authority)
    }

    #[getter]
    fn headers(&self) -> HeaderList {
        self.io
            .request()
            .map(|request| request.headers.clone())
            .unwrap_or_default()
    }

    #[getter]
    fn response_headers(&self) -> HeaderList {
        self.io.response_headers().cloned().unwrap_or_default()
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.io.state().name()
    }

    #[getter]
    fn is_connected(&self) -> bool {
        self.io.is_connected()
    }

    #[getter]
    fn was_established(&self) -> bool {
        self.io.stats().ready_at.get() > 0.0
    }

    #[getter]
    fn close_info(&self) -> Option<CloseInfo> {
        self.io.close_info().map(CloseInfo::from)
    }

    #[getter]
    fn offered_subprotocols(&self) -> Vec<String> {
        self.io.offered_subprotocols()
    }

    #[getter]
    fn subprotocol(&self) -> Option<String> {
        self.io.subprotocol()
    }

    fn accept(&self, py: Python<'_>, headers: HeaderList, subprotocols: Vec<String>) -> PyResult<()> {
        self.bridge.get().check()?;
        convert::check_headers(&headers)?;
        self.operate(py, || self.io.accept_with(headers, &subprotocols))?
            .map_err(|error| errors::answer(py, &error, self.io.close_info().as_ref()))
    }

    fn reject(&self, py: Python<'_>, status: u16, headers: HeaderList) -> PyResult<()> {
        self.bridge.get().check()?;
        convert::check_headers(&headers)?;
        self.operate(py, || self.io.reject(status, headers))
    }

    fn close(&self, py: Python<'_>, code: u32, reason: &str) -> PyResult<()> {
        self.bridge.get().check()?;
        self.operate(py, || self.io.close(code, reason))
    }

    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.bridge.get().check()?;
        self.operate(py, || self.io.drain())
    }

    #[pyo3(signature = (label, context, length))]
    fn export_keying_material<'py>(
        &self,
        py: Python<'py>,
        label: &[u8],
        context: &[u8],
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.bridge.get().check()?;
        let exported = self.io.export_keying_material(label, context, length);
        exported
            .map(|bytes| PyBytes::new(py, &bytes))
            .map_err(|error| errors::export(py, &error))
    }

    fn established(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.established())
    }

    fn closed(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.closed())
    }

    fn subscribe(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<Subscription> {
        self.bridge.get().check()?;
        let subscription = Subscription::new(self.bridge.clone_ref(py), callback);
        self.io.subscribe(subscription.token());
        Ok(subscription)
    }

    fn counters(&self) -> PyResult<HashMap<&'static str, f64>> {
        self.bridge.get().check()?;
        let (stats, datagrams) = (self.io.stats(), self.io.datagrams().stats());
        let count = |value: u64| value as f64;
        Ok(HashMap::from([
            ("created_at", stats.created_at.get()),
            ("ready_at", stats.ready_at.get()),
            ("closed_at", stats.closed_at.get()),
            ("streams_created", count(stats.streams_created.get())),
            ("streams_closed", count(stats.streams_closed.get())),
            ("stream_errors", count(stats.stream_errors.get())),
            ("bidirectional_streams", count(stats.bidirectional_streams.get())),
            ("unidirectional_streams", count(stats.unidirectional_streams.get())),
            ("protocol_errors", count(stats.protocol_errors.get())),
            ("send_credit_available", self.io.send_credit() as f64),
            ("receive_credit_available", self.io.receive_credit() as f64),
            ("datagrams_sent", count(datagrams.sent)),
            ("datagrams_received", count(datagrams.received)),
            ("datagram_bytes_sent", count(datagrams.bytes_sent)),
            ("datagram_bytes_received", count(datagrams.bytes_received)),
            ("datagram_send_drops", count(datagrams.send_drops)),
            ("datagram_send_failures", count(datagrams.send_failures)),
            ("datagram_expired", count(datagrams.expired)),
            ("datagram_receive_drops", count(datagrams.receive_drops)),
            ("datagrams_delivered", count(datagrams.delivered)),
            (
                "min_datagram_size",
                if datagrams.min_size == u64::MAX {
                    f64::INFINITY
                } else {
                    count(datagrams.min_size)
                },
            ),
            ("max_datagram_size_seen", count(datagrams.max_size)),
        ]))
    }

    fn flow_control(&self) -> PyResult<Option<HashMap<&'static str, u64>>> {
        self.bridge.get().check()?;
        Ok(self.io.credits().map(|credits| {
            let ([ours, ours_bidi, ours_uni], [theirs, theirs_bidi, theirs_uni]) = (credits.receiving, credits.sending);
            HashMap::from([
                ("local_max_data", ours.limit),
                ("peer_data_sent", ours.used),
                ("local_max_streams_bidi", ours_bidi.limit),
                ("peer_streams_bidi_opened", ours_bidi.used),
                ("local_max_streams_uni", ours_uni.limit),
                ("peer_streams_uni_opened", ours_uni.used),
                ("peer_max_data", theirs.limit),
                ("local_data_sent", theirs.used),
                ("peer_max_streams_bidi", theirs_bidi.limit),
                ("local_streams_bidi_opened", theirs_bidi.used),
                ("peer_max_streams_uni", theirs_uni.limit),
                ("local_streams_uni_opened", theirs_uni.used),
            ])
        }))
    }

    fn try_open<'py>(&self, py: Python<'py>, bidirectional: bool) -> PyResult<Option<Halves<'py>>> {
        self.bridge.get().check()?;
        // The stream's header goes with the first write, which usually follows.
        let opened = Bridge::operate_at(self.bridge.bind(py), self.driver, Departure::TurnEnd, || {
            self.io.try_open(bidirectional)
        })?
        .map_err(|error| {
            self.io.count_failed_opening();
            errors::open(py, Class::Stream, &error)
        })?;
        opened
            .map(|stream| halves(py, &self.bridge, self.driver, stream))
            .transpose()
    }

    fn openable(&self, py: Python<'_>, bidirectional: bool) -> PyResult<Operation> {
        let (bridge, session, driver) = (self.bridge.clone_ref(py), self.io.clone(), self.driver);
        let start = || self.io.openable(bidirectional);
        Operation::start(self.bridge.bind(py), driver, start, move |py, opened| {
            let stream = opened.map_err(|error| {
                session.count_failed_opening();
                errors::open(py, Class::Stream, &error)
            })?;
            halves(py, &bridge, driver, stream)?.into_py_any(py)
        })
    }

    #[pyo3(signature = (ticket = 0))]
    fn try_accept<'py>(&self, py: Python<'py>, ticket: u64) -> PyResult<Option<Halves<'py>>> {
        self.bridge.get().check()?;
        if ticket == 0 && self.io.has_accept_waiters() {
            return Ok(None);
        }
        let accepted = self
            .io
            .try_accept()
            .map_err(|error| errors::open(py, Class::Session, &error))?;
        accepted
            .map(|stream| halves(py, &self.bridge, self.driver, stream))
            .transpose()
    }

    fn acceptable(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.acceptable())
    }

    #[getter]
    fn max_datagram_size(&self) -> PyResult<usize> {
        self.bridge.get().check()?;
        Ok(self.io.max_datagram_size())
    }

    #[getter]
    fn datagram_queue_bound(&self) -> usize {
        self.io.datagrams().bound()
    }

    #[pyo3(signature = (data, priority = 0, ttl = None))]
    fn send_datagram(&self, data: &Bound<'_, PyAny>, priority: i64, ttl: Option<f64>) -> PyResult<u8> {
        let py = data.py();
        self.bridge.get().check()?;
        let written = convert::with_bytes(data, |bytes| {
            self.operate(py, || {
                self.io.send_datagram(bytes, level(priority), ttl.map(convert::seconds))
            })
        })??
        .map_err(|error| errors::datagram(py, &error))?;
        Ok(convert::status(written))
    }

    #[pyo3(signature = (data, priority = 0, ttl = None))]
    fn send_datagrams(&self, data: &Bound<'_, PyList>, priority: i64, ttl: Option<f64>) -> PyResult<(usize, u8)> {
        let py = data.py();
        self.bridge.get().check()?;
        let (priority, ttl) = (level(priority), ttl.map(convert::seconds));
        self.operate(py, || {
            let mut status = convert::SENT;
            for (accepted, item) in data.iter().enumerate() {
                match convert::with_bytes(&item, |bytes| self.io.send_datagram(bytes, priority, ttl))? {
                    Ok(Written::Sent) => {}
                    Ok(Written::SentYield) => status = convert::SENT_YIELD,
                    Ok(Written::NoRoom) => return Ok((accepted, convert::NO_ROOM)),
                    Err(error) if accepted == 0 => return Err(errors::datagram(py, &error)),
                    Err(_) => return Ok((accepted, convert::SENT)),
                }
            }
            Ok((data.len(), status))
        })?
    }

    fn datagram_room(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.datagram_room())
    }

    #[pyo3(signature = (ticket = 0))]
    fn try_receive_datagram<'py>(&self, py: Python<'py>, ticket: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self
            .try_receive(py, ticket)?
            .map(|received| PyBytes::new(py, &received.data)))
    }

    #[pyo3(signature = (max_count, ticket = 0))]
    fn try_receive_datagrams<'py>(
        &self,
        py: Python<'py>,
        max_count: usize,
        ticket: u64,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        if !self.may_receive(ticket)? {
            return Ok(None);
        }
        let batch = self
            .io
            .try_receive_datagrams(max_count)
            .map_err(|error| errors::datagram(py, &error))?;
        batch
            .map(|batch| PyList::new(py, batch.iter().map(|data| PyBytes::new(py, data))))
            .transpose()
    }

    #[pyo3(signature = (ticket = 0))]
    fn try_receive_datagram_entry<'py>(
        &self,
        py: Python<'py>,
        ticket: u64,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u64, f64)>> {
        let received = self.try_receive(py, ticket)?;
        Ok(received.map(|received| (PyBytes::new(py, &received.data), received.sequence, received.arrived)))
    }

    fn datagram_available(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.readiness(py, |io| io.datagram_available())
    }

    fn datagram_queues(&self) -> PyResult<HashMap<&'static str, usize>> {
        self.bridge.get().check()?;
        let queues = self.io.datagrams().queues();
        Ok(HashMap::from([
            ("incoming", queues.incoming),
            ("incoming_bytes", queues.incoming_bytes),
            ("outgoing", queues.outgoing.iter().sum()),
            ("outgoing_0", queues.outgoing[0]),
            ("outgoing_1", queues.outgoing[1]),
            ("outgoing_2", queues.outgoing[2]),
            ("outgoing_bytes", queues.outgoing_bytes),
        ]))
    }

    fn clear_datagrams(&self, incoming: bool) -> PyResult<usize> {
        self.bridge.get().check()?;
        Ok(self.io.clear_datagrams(incoming))
    }

    fn record_events(&self, enabled: bool) -> PyResult<()> {
        self.bridge.get().check()?;
        self.io.datagrams().record_events(enabled);
        Ok(())
    }

    fn take_events(&self) -> PyResult<Vec<(&'static str, usize, u64, f64)>> {
        self.bridge.get().check()?;
        let events = self.io.datagrams().take_events();
        Ok(events
            .into_iter()
            .map(|event| (event.kind, event.size, event.sequence, event.time))
            .collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() {
            self.io.abandon();
        }
    }
}

/// Priorities outside 0..=2 are moved to the nearest.
fn level(priority: i64) -> u8 {
    priority.clamp(0, 2) as u8
}
